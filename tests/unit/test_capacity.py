"""Lines 2.1.1 and 2.1.2: headroom after the proxies and the largest surge, quotas and LimitRanges (checks.md 2.1, 2.6)."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from pytest_meshready.cluster import objects as o
from pytest_meshready.cluster.objects_capacity import AutoscalerState, ClusterAutoscalerStatus, NodeGroupState, QuotaSpec
from pytest_meshready.cluster.snapshot import InjectorConfig, Snapshot
from pytest_meshready.istio.capacity import cpu_headroom, memory_headroom
from pytest_meshready.istio.projection import effective, next_pods, proxy_of, surge_of
from pytest_meshready.istio.workloads import workloads
from pytest_meshready.results import Judgement, Level, Status
from tests.unit import builders as make

#: What the injector of these tests gives to a proxy.
PROXY = make.resources("100m", "128Mi", cpu_limit="2", memory_limit="1Gi")
INJECTOR = InjectorConfig(policy="enabled", proxy_resources=PROXY)
APP = make.resources("100m", "100Mi", cpu_limit="1", memory_limit="200Mi")


def orders(replicas: int = 2, resources: o.Resources = APP, **fields: Any) -> o.Deployment:
    """A Deployment of one container."""
    return make.deployment("orders", replicas=replicas, containers=(make.container(resources=resources),), **fields)


def mesh(*deployments: o.Deployment, meshed: bool = True, cpu: str = "4", memory: str = "8Gi", **fields: Any) -> Snapshot:
    """Two nodes of this size with the pods of these Deployments; the requests of the whole cluster are theirs."""
    pods = tuple(pod for item in deployments for pod in make.pods_of(item, meshed=meshed))
    offered = {"cpu": cpu, "memory": memory, "pods": "110"}
    nodes = tuple(msgspec.structs.replace(node, status=msgspec.structs.replace(node.status, allocatable=offered)) for node in make.nodes())
    defaults = {"nodes": nodes, "node_pods": tuple(map(make.node_pod, pods)), "injector": INJECTOR}
    return make.snapshot(deployments=deployments, pods=pods, **{**defaults, **fields})


def codes(judgement: Judgement) -> dict[str, Level]:
    return {finding.code: finding.level for finding in judgement.findings}


# --- headroom ---------------------------------------------------------------------------------------------------------


def test_ample_room_passes() -> None:
    """Two small pods on two nodes of four cores, and one more during a restart."""
    judgement = cpu_headroom(mesh(orders()))
    assert (judgement.status, judgement.examined, judgement.findings) == (Status.PASSED, 2, ())
    # 8 cores less two pods with proxies of 10m, less one such pod as surge with a proxy of 100m
    assert judgement.reason == "94 % of the CPU of 2 nodes is free after the surge of orders (1)"
    assert memory_headroom(mesh(orders())).status is Status.PASSED


def test_the_proxies_that_will_come_are_counted() -> None:
    """Pods without a proxy are judged as those that will replace them, also while no pod has one yet."""
    before, after = (cpu_headroom(mesh(orders(resources=make.resources("1")), meshed=meshed)) for meshed in (True, False))
    assert before.evidence[0].data["to come"] == "1.1"
    assert after.evidence[0].data["to come"] == "1.3"  # two proxies of 100m, and the surge
    assert after.reason == "58 % of the CPU of 2 nodes is free after the proxies of 2 pods and the surge of orders (1)"


@pytest.mark.parametrize(("request_", "code"), [("2450m", {}), ("2700m", {"MR211-LITTLE-ROOM": Level.WARNING})])
def test_between_enough_and_too_little(request_: str, code: dict[str, Level]) -> None:
    """20 % and more passes, between 10 % and 20 % warns."""
    team = orders(resources=make.resources(request_, "1Mi"), replicas=1)
    elsewhere = make.pod("big", namespace="other", node="node-2", containers=(make.container(resources=make.resources("1")),))
    base = mesh(team)
    judgement = cpu_headroom(msgspec.structs.replace(base, node_pods=(*base.node_pods, make.node_pod(elsewhere))))
    assert codes(judgement) == code


def test_too_little_room_fails() -> None:
    """Less than 10 % free after the surge."""
    judgement = cpu_headroom(mesh(orders(resources=make.resources("2400m", "1Mi"))))
    assert codes(judgement) == {"MR211-NO-ROOM": Level.WARNING, "MR211-LITTLE-ROOM": Level.ERROR}
    (finding,) = [item for item in judgement.findings if item.code == "MR211-LITTLE-ROOM"]
    assert str(finding.object) == "Namespace/payments"
    assert finding.found.startswith("8 % of the CPU of its 2 nodes is free after the surge of orders (1): ")


def test_what_fits_only_if_nodes_are_added_up_warns() -> None:
    """1.5 cores are free on each node; a pod of 2 cores finds no place."""
    judgement = cpu_headroom(mesh(orders(resources=make.resources("2")), cpu="3600m"))
    assert codes(judgement)["MR211-NO-ROOM"] is Level.WARNING
    assert "fit only if the free CPU of several nodes is added up: each requests 2.1" in judgement.findings[0].found


def test_what_does_not_fit_fails() -> None:
    """The surge needs more than all nodes have left."""
    judgement = memory_headroom(mesh(orders(resources=make.resources("1m", "6Gi"))))
    assert codes(judgement)["MR212-NO-ROOM"] is Level.ERROR
    assert str(judgement.findings[0].object) == "payments/Deployment/orders"
    assert "1 of its pods would find no node: each requests 6.1Gi of memory" in judgement.findings[0].found


def test_a_pod_larger_than_every_node_fails() -> None:
    """It could not be placed on an empty node."""
    judgement = cpu_headroom(mesh(orders(resources=make.resources("3900m"), replicas=1), meshed=False))
    assert "MR211-NO-ROOM" not in codes(judgement)  # 3900m and 100m for the proxy are just one node
    judgement = cpu_headroom(mesh(orders(resources=make.resources("3950m"), replicas=1), meshed=False))
    assert codes(judgement)["MR211-NO-ROOM"] is Level.ERROR
    assert judgement.findings[0].found == "no ready node could take one of its pods, even if it were empty: each requests 4050m of CPU"


def test_nodes_that_take_no_more_pods() -> None:
    """Plenty of CPU, and no free place for a pod."""
    base = mesh(orders())
    full = {"cpu": "4", "memory": "8Gi", "pods": "1"}
    nodes = tuple(msgspec.structs.replace(node, status=msgspec.structs.replace(node.status, allocatable=full)) for node in base.nodes)
    (finding,) = cpu_headroom(msgspec.structs.replace(base, nodes=nodes)).findings
    assert finding.found == "1 of its pods would find no node: those with enough CPU take no more pods"


def test_no_node_takes_the_pods() -> None:
    """All nodes are reserved for somebody else."""
    taint = o.Toleration(key="team", value="data", effect="NoSchedule")
    (finding, _) = cpu_headroom(mesh(orders(), nodes=(make.node(taints=(taint,)),))).findings
    assert (finding.code, finding.level) == ("MR211-NO-ROOM", Level.ERROR)
    stateful = make.statefulset("store")
    judgement = cpu_headroom(make.snapshot(statefulsets=(stateful,), pods=make.pods_of(stateful), nodes=(make.node(taints=(taint,)),)))
    assert codes(judgement) == {"MR211-NO-NODE": Level.ERROR}


def test_an_autoscaler_that_has_proved_itself_makes_it_a_warning() -> None:
    """checks.md 2.1.1: where 2.1.4 passes, nodes are added."""
    group = NodeGroupState(name="workers", health="Healthy", scale_up="NoActivity", target=2, max_size=6)
    state = AutoscalerState(running="Running", written=make.TAKEN, health="Healthy", groups=(group,))
    status = ClusterAutoscalerStatus(metadata=make.metadata("cluster-autoscaler-status", "kube-system"), state=state)
    young = msgspec.structs.replace(make.node("node-3", ready=False), metadata=make.metadata("node-3", "", created="2026-08-25T10:30:00Z"))
    base = mesh(orders(resources=make.resources("2400m", "1Mi")), autoscaler_status=(status,))
    grown = msgspec.structs.replace(base, nodes=(*base.nodes, young), taken="2026-08-25T11:00:00Z")
    late = msgspec.structs.replace(
        grown, autoscaler_status=(msgspec.structs.replace(status, state=msgspec.structs.replace(state, written=grown.taken)),)
    )
    assert set(codes(cpu_headroom(late)).values()) == {Level.WARNING}


def test_a_killed_proxy_is_an_error_of_the_memory_line() -> None:
    """The note of 2.1.2: OOMKilled shows that the limit is too low; it says nothing about CPU."""
    ended = make.container_status("istio-proxy", restarts=1, last=make.state(terminated="OOMKilled", finished=make.TAKEN))
    base = mesh(orders(replicas=1))
    pod = base.pods[0]
    killed = msgspec.structs.replace(pod, status=msgspec.structs.replace(pod.status, init_container_statuses=(ended,)))
    snapshot = msgspec.structs.replace(base, pods=(killed,))
    assert codes(memory_headroom(snapshot)) == {"MR212-PROXY-KILLED": Level.ERROR}
    assert codes(cpu_headroom(snapshot)) == {}


def test_ambient_namespaces_need_ztunnel_on_every_node() -> None:
    """Before it is installed, its chart's request is taken off every node; no pod gets a proxy."""
    spaces = (make.namespace(labels={"istio.io/dataplane-mode": "ambient"}),)
    plain = mesh(orders(), meshed=False, namespaces=spaces)
    assert cpu_headroom(plain).evidence[0].data["to come"] == "0.5"  # 2 x 200m and a surge of 100m
    tunnel = make.daemonset("ztunnel", namespace=make.ISTIO)
    assert cpu_headroom(msgspec.structs.replace(plain, daemonsets=(tunnel,))).evidence[0].data["to come"] == "0.1"


@pytest.mark.parametrize("key", ["nodes", "node_pods", "pods", "deployments", "resourcequotas", "limitranges"])
def test_what_was_refused_is_not_verified(key: str) -> None:
    """Each list that the sum needs is named where it is missing, and nothing passes without it."""
    namespace = "" if key in ("nodes", "node_pods") else make.NAMESPACE
    refused = make.refusal(key, namespace=namespace)
    read = tuple(item for item in make.snapshot().read if item != key)
    judgement = cpu_headroom(mesh(orders(), refusals=(refused,), read=read))
    assert judgement.status is Status.NOT_VERIFIED
    assert refused.reason in judgement.reason


def test_without_any_node_nothing_is_known() -> None:
    """A permitted but empty list of nodes is no room at all, and no pass."""
    assert cpu_headroom(mesh(orders(), nodes=())).status is Status.NOT_VERIFIED


# --- quotas and LimitRanges -------------------------------------------------------------------------------------------


def test_a_quota_without_room_for_the_surge_fails() -> None:
    """Fault quota-without-room: the first new pod of a restart is refused."""
    quota = make.quota("tight", requests_cpu=("300m", "220m"), requests_memory=("10Gi", "280Mi"))
    (finding,) = cpu_headroom(mesh(orders(), resourcequotas=(quota,))).findings
    assert (finding.code, finding.level, str(finding.object)) == ("MR211-QUOTA", Level.ERROR, "payments/ResourceQuota/tight")
    assert finding.found == "it leaves 80m of 0.3 requests.cpu, and a restart of orders (1 more pod) takes 0.2"
    assert finding.fix.endswith("kubectl -n payments describe resourcequota tight")
    assert memory_headroom(mesh(orders(), resourcequotas=(quota,))).status is Status.PASSED


def test_a_quota_must_hold_the_proxies_too() -> None:
    """Pods that join are counted with what they grow by."""
    quota = make.quota(requests_cpu=("500m", "200m"))
    (finding,) = cpu_headroom(mesh(orders(), meshed=False, resourcequotas=(quota,))).findings
    assert finding.found == (
        "it leaves 0.3 of 0.5 requests.cpu, and the proxies of 2 pods take 0.2 and a restart of orders (1 more pod) takes 0.2"
    )


def test_a_quota_of_pods_belongs_to_the_first_line() -> None:
    """The number of pods is neither CPU nor memory; it is said once."""
    snapshot = mesh(orders(), resourcequotas=(make.quota(pods=("2", "2")),))
    (finding,) = cpu_headroom(snapshot).findings
    assert finding.found == "it leaves 0 of 2 pods, and a restart of orders (1 more pod) takes 1"
    assert memory_headroom(snapshot).findings == ()


def test_a_deployment_that_is_recreated_needs_no_surge() -> None:
    """Its old pods go first."""
    base = orders()
    recreated = msgspec.structs.replace(base, spec=msgspec.structs.replace(base.spec, strategy=o.Strategy(type="Recreate")))
    assert cpu_headroom(mesh(recreated, resourcequotas=(make.quota(requests_cpu=("220m", "220m")),))).status is Status.PASSED


def test_a_quota_that_demands_limits() -> None:
    """It refuses every pod with a container that sets none, such as a proxy that an annotation stripped of its limits."""
    stripped = orders(annotations={"sidecar.istio.io/proxyCPU": "10m"})
    snapshot = mesh(stripped, resourcequotas=(make.quota(limits_memory=("100Gi", "1Gi")),))
    (finding,) = memory_headroom(snapshot).findings
    assert finding.code == "MR212-QUOTA-DEMANDS"
    read = tuple(key for key in snapshot.read if key != "limitranges")
    unseen = msgspec.structs.replace(snapshot, read=read, refusals=(make.refusal("limitranges"),))  # one of them may set the limit
    assert (memory_headroom(unseen).findings, memory_headroom(unseen).status) == ((), Status.NOT_VERIFIED)
    assert finding.found == "it counts limits.memory, and container istio-proxy of orders sets none, so new pods are refused"
    ranges = (make.limit_range(default={"memory": "256Mi"}),)
    assert memory_headroom(msgspec.structs.replace(snapshot, limitranges=ranges)).findings == ()


@pytest.mark.parametrize(
    ("scopes", "counted"),
    [
        (("NotTerminating", "NotBestEffort"), True),
        (("Terminating",), False),
        (("BestEffort",), False),
        (("PriorityClass",), False),
        (("?",), False),
    ],
)
def test_a_quota_counts_only_what_is_in_its_scopes(scopes: tuple[str, ...], *, counted: bool) -> None:
    """A quota for jobs or for another priority class does not stop a Deployment."""
    quota = msgspec.structs.replace(make.quota(requests_cpu=("1m", "0")), spec=QuotaSpec(scopes=scopes))
    assert bool(cpu_headroom(mesh(orders(), resourcequotas=(quota,))).findings) is counted


def test_a_limit_range_below_the_proxys_limit_fails() -> None:
    """Fault limit-range-below-proxy: new pods are refused although nodes have room."""
    team, more = orders(), make.deployment("ledger", containers=(make.container(resources=APP),))
    (finding,) = memory_headroom(mesh(team, more, limitranges=(make.limit_range(max={"memory": "512Mi"}),))).findings
    assert (finding.code, str(finding.object)) == ("MR212-LIMIT-RANGE", "payments/LimitRange/limits")
    assert finding.found == (
        "container istio-proxy of ledger, orders has a limit of 1Gi, above the maximum of 512Mi, so new pods are refused"
    )


def test_a_limit_range_may_forbid_the_distance_of_limit_and_request() -> None:
    """Istio's own default, 2 cores for 100m, is twenty times the request."""
    ranges = (make.limit_range(max_limit_request_ratio={"cpu": "10"}),)
    (finding,) = cpu_headroom(mesh(orders(), limitranges=ranges)).findings
    assert "container istio-proxy of orders has a limit of 2, more than 10 times its request of 0.1" in finding.found


def test_a_limit_range_of_pods() -> None:
    """The sum counts, proxy included; a minimum is looked at, too."""
    whole = make.limit_range(kind="Pod", max={"memory": "1Gi"})
    (finding,) = memory_headroom(mesh(orders(), limitranges=(whole,))).findings
    assert finding.found == "orders has a limit of 1.2Gi, above the maximum of 1Gi, so new pods are refused"
    least = make.limit_range(min={"cpu": "200m"})
    found = [item.found for item in cpu_headroom(mesh(orders(), limitranges=(least,))).findings]
    assert found[0] == "container app of orders requests 0.1, below the minimum of 0.2, so new pods are refused"


# --- what the next pods are -------------------------------------------------------------------------------------------


def test_one_annotation_discards_all_of_the_injectors_defaults() -> None:
    """istio#35905: the other three are gone, the limits with them."""
    snapshot = mesh(orders(annotations={"sidecar.istio.io/proxyCPU": "10m"}))
    (workload,) = workloads(snapshot, make.NAMESPACE)
    proxy = proxy_of(snapshot, workload)
    assert proxy is not None
    assert proxy.resources == o.Resources(requests={"cpu": "10m"})
    assert proxy.origin == "its annotation sidecar.istio.io/proxyCPU alone: one of them discards the injector's defaults"


def test_where_the_proxys_resources_come_from() -> None:
    """The injector, else Istio's chart; a container istio-proxy in the template overrides key by key."""
    plain = mesh(orders())
    (workload,) = workloads(plain, make.NAMESPACE)
    assert (found := proxy_of(plain, workload)) is not None
    assert found.resources == PROXY
    assert (chart := proxy_of(msgspec.structs.replace(plain, injector=None), workload)) is not None
    assert chart.resources.requests == {"cpu": "100m", "memory": "128Mi"}
    override = make.container("istio-proxy", image="auto", resources=make.resources("300m"))
    changed = mesh(make.deployment("orders", containers=(make.container(), override)))
    (item,) = next_pods(changed, make.NAMESPACE)
    assert item.proxy is not None
    assert item.proxy.resources.requests == {"cpu": "300m", "memory": "128Mi"}
    assert item.request("cpu") == 310


@pytest.mark.parametrize("fields", [{"host_network": True}, {"annotations": {"sidecar.istio.io/inject": "false"}}])
def test_pods_that_get_no_proxy(fields: dict[str, Any]) -> None:
    """Those that decline, and those on the node's network."""
    snapshot = mesh(orders(**fields), meshed=False)
    (workload,) = workloads(snapshot, make.NAMESPACE)
    assert proxy_of(snapshot, workload) is None


@pytest.mark.parametrize(
    ("surge", "replicas", "pods"),
    [(None, 2, 1), (None, 10, 3), ("100%", 4, 4), ("0%", 4, 0), (2, 4, 2), ("odd", 4, 0), (None, 0, 0)],
)
def test_the_surge_of_a_deployment(surge: int | str | None, replicas: int, pods: int) -> None:
    """25 % rounded up unless it says otherwise."""
    assert surge_of(o.Strategy(type="RollingUpdate", rolling_update=o.RollingUpdate(max_surge=surge)), replicas) == pods


def test_defaults_of_the_api_server_and_of_limit_ranges() -> None:
    """Requests come from the container's own limit first, then from the LimitRange, whose maximum is its default limit."""
    (item,) = make.limit_range(max={"memory": "1Gi"}, default={"cpu": "500m"}, default_request={"cpu": "50m"}).spec.limits
    assert effective(o.Resources(limits={"cpu": "200m"}), (item,)) == o.Resources(
        requests={"cpu": "200m", "memory": "1Gi"}, limits={"cpu": "200m", "memory": "1Gi"}
    )
    assert effective(o.Resources(), (item,)).requests == {"cpu": "50m", "memory": "1Gi"}
