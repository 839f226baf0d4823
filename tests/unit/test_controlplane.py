"""Lines 3.1.4, 3.2.1, 3.2.2 and 3.2.3: the control plane (checks.md 3.1.4, 3.2.1-3.2.3)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from pytest_meshready.cluster import objects as o
from pytest_meshready.cluster.snapshot import ControlPlane, InjectorConfig, MeshConfig, Snapshot
from pytest_meshready.istio.components import gateways, istiods
from pytest_meshready.istio.controlplane import high_availability, istiod_replicas, leader_election, no_crash_loops
from pytest_meshready.results import Judgement, Level, Status
from tests.unit import builders as b

ISTIOD_HASH = "66985594b5"
LEADER = f"istiod-{ISTIOD_HASH}-p0000"
LOCKS = ("istio-leader", "istio-namespace-controller-election", "istio-ip-autoallocate")

RULES = pytest.mark.parametrize("rule", [high_availability, istiod_replicas, no_crash_loops, leader_election])
Rule = Callable[[Snapshot], Judgement]


def _istiod(name: str = "istiod", *, revision: str = "default", env: dict[str, str] | None = None, **fields: Any) -> o.Deployment:
    """Istiod as the healthy cluster has it: two replicas, spread over zones, with a priority class."""
    labels = {**b.ISTIOD_LABELS, "istio.io/rev": revision}
    fields = {
        "topology_spread_constraints": (b.zone_spread("istiod"),),
        "priority_class_name": "system-cluster-critical",
        "containers": (b.discovery_container({"REVISION": revision, **(env or {})}),),
        **fields,
    }
    return b.deployment(name, namespace=b.ISTIO, labels=labels, **fields)


def _gateway(**fields: Any) -> o.Deployment:
    fields = {
        "topology_spread_constraints": (b.zone_spread("istio-ingressgateway"),),
        "priority_class_name": "system-cluster-critical",
        "containers": (b.gateway_container(),),
        **fields,
    }
    return b.deployment("istio-ingressgateway", namespace=b.ISTIO, labels=b.GATEWAY_LABELS, **fields)


def _pods(workload: o.Deployment, **fields: Any) -> tuple[o.Pod, ...]:
    fields = {"hash_": ISTIOD_HASH, "priority_class_name": workload.spec.template.spec.priority_class_name, **fields}
    return b.pods_of(workload, meshed=False, **fields)


def _cluster(istiod: o.Deployment | None = None, gateway: o.Deployment | None = None, **fields: Any) -> Snapshot:
    """A healthy control plane and ingress gateway, with what the test changes."""
    istiod, gateway = istiod or _istiod(), gateway or _gateway()
    pods = (*_pods(istiod), *_pods(gateway))
    service = b.service("istiod", namespace=b.ISTIO, selector={"app": "istiod"})
    defaults: dict[str, Any] = {
        "deployments": (istiod, gateway),
        "pods": pods,
        "services": (service,),
        "endpointslices": (b.endpointslice("istiod", [p for p in pods if "discovery" in p.spec.containers[0].name], namespace=b.ISTIO),),
        "horizontalpodautoscalers": tuple(b.autoscaler(item.metadata.name, namespace=b.ISTIO) for item in (istiod, gateway)),
        "poddisruptionbudgets": tuple(b.budget(name, namespace=b.ISTIO) for name in ("istiod", "istio-ingressgateway")),
        "configmaps": tuple(b.leader_configmap(name, LEADER) for name in LOCKS),
        "leases": (b.lease("istio-gateway-deployment-default", LEADER), b.lease("istio-gateway-status-leader-default", LEADER)),
    }
    return b.snapshot(**{**defaults, **fields})


def _codes(judgement: Judgement) -> dict[str, Level]:
    return {finding.code: finding.level for finding in judgement.findings}


def _objects(judgement: Judgement) -> set[str]:
    return {str(finding.object) for finding in judgement.findings}


# --- all four ---------------------------------------------------------------------------------------------------------


@RULES
def test_a_healthy_control_plane_passes(rule: Rule) -> None:
    """Two replicas in two zones, held and renewed locks, no restarts."""
    judgement = rule(_cluster())
    assert (judgement.status, judgement.findings, judgement.unknown) == (Status.PASSED, (), ())
    assert judgement.examined


@RULES
def test_a_managed_control_plane_is_not_verified(rule: Rule) -> None:
    """Its webhook has an address outside the cluster, so there are no pods to look at."""
    plane = ControlPlane(namespace="istio-system", revision="asm-managed", url="https://istiod.example.com/inject")
    snapshot = _cluster(deployments=(), pods=(), control_plane=plane, control_planes=(plane,))
    judgement = rule(snapshot)
    assert (judgement.status, judgement.findings) == (Status.NOT_VERIFIED, ())
    assert "managed" in judgement.reason
    assert "example.com" not in judgement.reason


@RULES
def test_a_service_without_selector_is_managed_too(rule: Rule) -> None:
    """A remote cluster calls an istiod elsewhere through a Service that selects nothing."""
    remote = o.Service(metadata=b.metadata("istiod", b.ISTIO))
    judgement = rule(_cluster(deployments=(), pods=(), services=(remote,)))
    assert (judgement.status, judgement.findings) == (Status.NOT_VERIFIED, ())


@RULES
@pytest.mark.parametrize("key", ["pods", "deployments"])
def test_refused_lists_are_not_verified(rule: Rule, key: str) -> None:
    """Without the lists nothing passes and nothing fails, and the missing right is named."""
    held: dict[str, Any] = {"deployments": (), "pods": ()} if key == "deployments" else {"pods": ()}
    judgement = rule(_cluster(refusals=(b.refusal(key, namespace=b.ISTIO),), **held))
    assert judgement.status is Status.NOT_VERIFIED
    assert key in {unknown.resource.split(".")[0] for unknown in judgement.unknown}


@RULES
def test_odd_objects_are_no_exception(rule: Rule) -> None:
    """Empty and senseless objects are looked at without an error."""
    istio = o.Metadata(namespace="istio-system", labels={"app": "istiod"})
    snapshot = b.snapshot(
        deployments=(
            o.Deployment(metadata=istio),
            _istiod(affinity={"podAntiAffinity": "near"}, topology_spread_constraints=(o.TopologySpread(),)),
        ),
        pods=(
            o.Pod(metadata=istio),
            o.Pod(),
            b.pod(namespace=b.ISTIO, statuses=(o.ContainerStatus(restart_count=3),), labels={"app": "istiod"}),
        ),
        nodes=(o.Node(),),
        endpointslices=(o.EndpointSlice(metadata=istio),),
        horizontalpodautoscalers=(o.HorizontalPodAutoscaler(),),
        poddisruptionbudgets=(o.PodDisruptionBudget(metadata=istio),),
        configmaps=(
            o.ConfigMap(metadata=o.Metadata(namespace="istio-system", annotations={"control-plane.alpha.kubernetes.io/leader": "[1]"})),
        ),
        leases=(o.Lease(metadata=o.Metadata(name="istio-leader", namespace="istio-system")),),
        mutatingwebhookconfigurations=(o.MutatingWebhookConfiguration(),),
        taken="yesterday",
        control_plane=None,
        control_planes=(),
        mesh=None,
        injector=None,
    )
    assert rule(snapshot).status in Status


# --- 3.2.1 ------------------------------------------------------------------------------------------------------------


def test_a_single_istiod_fails() -> None:
    """Fault istiod-single: the finding names the revision and the Helm values, because the stock profile is like that."""
    (finding,) = istiod_replicas(_cluster(_istiod(replicas=1))).findings
    assert (finding.code, finding.level, str(finding.object)) == ("MR321-SINGLE", Level.ERROR, "istio-system/Deployment/istiod")
    assert "autoscaleMin: 2" in finding.fix


def test_replicas_that_are_not_ready_fail() -> None:
    """Two wanted, one ready: the other one is named."""
    istiod, gateway = _istiod(), _gateway()
    ready, unready = _pods(istiod)[0], _pods(istiod, ready=False)[1]
    judgement = istiod_replicas(_cluster(istiod, gateway, pods=(ready, unready)))
    assert _codes(judgement) == {"MR321-NOT-READY": Level.ERROR}
    assert judgement.findings[0].found == f"1 of 2 wanted replicas are ready; not ready: {unready.metadata.name}"


def test_replicas_that_are_no_endpoints_fail() -> None:
    """Ready pods that the Service does not select answer nobody."""
    judgement = istiod_replicas(_cluster(endpointslices=()))
    assert (_codes(judgement), _objects(judgement)) == ({"MR321-ENDPOINTS": Level.ERROR}, {"istio-system/Service/istiod"})


def test_an_endpoint_in_two_address_families_counts_once() -> None:
    """Dual stack has a slice for each family."""
    pods = _pods(_istiod(), count=1)
    slices = tuple(b.endpointslice("istiod", pods, namespace=b.ISTIO) for _ in range(2))
    assert _codes(istiod_replicas(_cluster(endpointslices=slices))) == {"MR321-ENDPOINTS": Level.ERROR}


def test_an_old_revision_that_nobody_uses_only_warns() -> None:
    """A single istiod without tag, namespace or proxy should be removed; the one in use still passes."""
    old = _istiod("istiod-1-29", revision="1-29", replicas=1)
    judgement = istiod_replicas(_cluster(deployments=(_istiod(), _gateway(), old)))
    assert _codes(judgement) == {"MR321-OLD-REVISION": Level.WARNING}
    assert judgement.findings[0].fix.endswith("istioctl uninstall --revision 1-29")
    assert judgement.examined == 1


@pytest.mark.parametrize("by", ["tag", "namespace", "proxy"])
def test_a_revision_is_in_use_by_tag_namespace_or_proxy(by: str) -> None:
    """Each of them makes a single istiod of that revision an error."""
    canary = _istiod("istiod-canary", revision="canary", replicas=1)
    plane = ControlPlane(namespace=b.ISTIO, revision="canary", service="istiod-canary", tags=("prod",) if by == "tag" else ())
    fields: dict[str, Any] = {"deployments": (_istiod(), _gateway(), canary), "control_planes": (b.DEFAULT_PLANE, plane)}
    if by == "namespace":
        fields["namespaces"] = (b.namespace(), b.namespace("other", labels={"istio.io/rev": "canary"}))
    if by == "proxy":
        fields["pods"] = (*_cluster().pods, b.meshed_pod("stale", revision="canary"))
    judgement = istiod_replicas(_cluster(**fields))
    assert _codes(judgement)["MR321-SINGLE"] is Level.ERROR
    assert "istio-system/Deployment/istiod-canary" in _objects(judgement)
    assert {item.revision: item.in_use for item in istiods(_cluster(**fields))} == {"default": True, "canary": True}


def test_no_istio_at_all_fails_where_everything_could_be_read() -> None:
    """Permitted and empty lists prove that there is none."""
    empty = b.snapshot(control_plane=None, control_planes=(), mutatingwebhookconfigurations=(), mesh=None, injector=None)
    judgement = istiod_replicas(empty)
    assert (judgement.status, _codes(judgement)) == (Status.FAILED, {"MR321-NO-ISTIOD": Level.ERROR})


@pytest.mark.parametrize("key", ["deployments", "mutatingwebhookconfigurations"])
def test_no_istio_seen_is_no_proof_without_the_lists(key: str) -> None:
    """Where the Deployments or the webhooks were refused, Istio may well be there."""
    empty = b.snapshot(
        control_plane=None, control_planes=(), mutatingwebhookconfigurations=(), refusals=(b.refusal(key, namespace=b.ISTIO),)
    )
    assert (istiod_replicas(empty).status, istiod_replicas(empty).findings) == (Status.NOT_VERIFIED, ())


def test_webhooks_left_behind_without_an_istiod_fail() -> None:
    """The webhook calls a Service that nothing serves: injected namespaces cannot start pods (istio#36905)."""
    (finding,) = istiod_replicas(b.snapshot()).findings
    assert finding.code == "MR321-NO-ISTIOD"
    assert "calls Service istio-system/istiod, but no istiod runs" in finding.found


def test_two_control_planes_and_none_chosen_is_not_verified() -> None:
    """What could not be told apart is said in the snapshot's own words."""
    planes = tuple(ControlPlane(namespace=f"mesh-{name}", revision="default", service="istiod") for name in "ab")
    snapshot = b.snapshot(control_plane=None, control_planes=planes, control_plane_problem="there are two control planes: name one")
    assert istiod_replicas(snapshot).reason == "there are two control planes: name one"


# --- 3.1.4 ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("minimum", [1, None])
def test_an_autoscaler_that_may_go_to_one_fails(minimum: int | None) -> None:
    """Two replicas now are luck; minReplicas that is not set is one."""
    scaler = b.autoscaler("istiod", namespace=b.ISTIO, minimum=minimum)
    gateway = b.autoscaler("istio-ingressgateway", namespace=b.ISTIO)
    judgement = high_availability(_cluster(horizontalpodautoscalers=(scaler, gateway)))
    assert (_codes(judgement), _objects(judgement)) == ({"MR314-SINGLE": Level.ERROR}, {"istio-system/Deployment/istiod"})


def test_one_replica_without_an_autoscaler_fails_for_gateways_too() -> None:
    """The same rule holds for gateways."""
    judgement = high_availability(_cluster(gateway=_gateway(replicas=1), horizontalpodautoscalers=()))
    assert _codes(judgement)["MR314-SINGLE"] is Level.ERROR
    assert {finding.object.name for finding in judgement.findings if finding.code == "MR314-SINGLE"} == {"istio-ingressgateway"}


def test_all_pods_on_one_node_fail() -> None:
    """The loss of that node is the loss of the control plane."""
    istiod, gateway = _istiod(), _gateway()
    judgement = high_availability(_cluster(pods=(*_pods(istiod, nodes=("node-1",)), *_pods(gateway))))
    assert _codes(judgement) == {"MR314-ONE-NODE": Level.ERROR}
    assert "node-1" in judgement.findings[0].found


def test_all_pods_in_one_of_two_zones_warn() -> None:
    """Two nodes, but of the same zone."""
    nodes = (b.node("node-1"), b.node("node-2"), b.node("node-3", zone="zone-b"))
    judgement = high_availability(_cluster(nodes=nodes))
    assert _codes(judgement) == {"MR314-ONE-ZONE": Level.WARNING}


def test_a_cluster_without_zones_is_not_blamed() -> None:
    """Nodes that carry no zone say nothing of zones."""
    nodes = (b.node("node-1", zone=""), b.node("node-2", zone=""))
    assert high_availability(_cluster(nodes=nodes)).status is Status.PASSED


def test_failing_closed_in_the_only_zone_warns() -> None:
    """Injection fails closed, and one zone holds all of istiod."""
    nodes = (b.node("node-1"), b.node("node-2"))
    assert _codes(high_availability(_cluster(nodes=nodes))) == {"MR314-FAIL-CLOSED": Level.WARNING}


@pytest.mark.parametrize(
    "constraints",
    [(), (b.zone_spread("something-else"),), (o.TopologySpread(topology_key="kubernetes.io/hostname"),)],
    ids=["none", "selects others", "selects nothing"],
)
def test_spread_by_luck_warns(constraints: tuple[o.TopologySpread, ...]) -> None:
    """Two nodes today; nothing in the template asks for it, or what asks for it does not select these pods."""
    gateway = _gateway(topology_spread_constraints=constraints, affinity={"nodeAffinity": {}})
    judgement = high_availability(_cluster(gateway=gateway))
    assert _codes(judgement) == {"MR314-SPREAD-BY-LUCK": Level.WARNING}
    assert judgement.status is Status.WARNED


def test_anti_affinity_is_a_spread() -> None:
    """Pods that must not share a node are kept apart as well."""
    apart = {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100}]}}
    assert high_availability(_cluster(_istiod(topology_spread_constraints=(), affinity=apart))).status is Status.PASSED


def test_no_priority_class_warns() -> None:
    """Under pressure istiod would be preempted like any other pod."""
    assert _codes(high_availability(_cluster(_istiod(priority_class_name="")))) == {"MR314-NO-PRIORITY": Level.WARNING}


def test_no_budget_or_one_without_room_warns() -> None:
    """A control plane without a budget is drained at once, one without room not at all."""
    full = b.budget("istio-ingressgateway", namespace=b.ISTIO, allowed=0)
    judgement = high_availability(_cluster(poddisruptionbudgets=(full,)))
    assert _codes(judgement) == {"MR314-NO-BUDGET": Level.WARNING, "MR314-NO-ROOM": Level.WARNING}


def test_an_autoscaler_without_metrics_warns() -> None:
    """Without metrics-server it keeps its minimum and never scales out."""
    blind = o.AutoscalerStatus(conditions=(o.Condition(type="ScalingActive", status="False", reason="FailedGetResourceMetric"),))
    scalers = tuple(
        msgspec.structs.replace(b.autoscaler(name, namespace=b.ISTIO), status=blind) for name in ("istiod", "istio-ingressgateway")
    )
    judgement = high_availability(_cluster(horizontalpodautoscalers=scalers))
    assert _codes(judgement) == {"MR314-AUTOSCALER-BLIND": Level.WARNING}
    assert len(judgement.findings) == 2


def test_a_gateway_on_every_node_needs_no_spread_and_no_budget() -> None:
    """A DaemonSet has its pods on different nodes by its nature, and drains leave it alone."""
    daemon = b.daemonset(
        "edge",
        labels=b.GATEWAY_LABELS,
        containers=(b.gateway_container(),),
        topology_spread_constraints=(),
        priority_class_name="system-node-critical",
    )
    pods = b.pods_of(daemon, meshed=False)
    snapshot = _cluster(daemonsets=(daemon,), pods=(*_cluster().pods, *pods))
    assert [item.ref.name for item in gateways(snapshot)] == ["edge", "istio-ingressgateway"]
    assert high_availability(snapshot).status is Status.PASSED


def test_an_unused_revision_need_not_be_available() -> None:
    """High availability is asked of the revisions that somebody uses."""
    old = _istiod("istiod-1-29", revision="1-29", replicas=1, topology_spread_constraints=())
    assert high_availability(_cluster(deployments=(_istiod(), _gateway(), old))).status is Status.PASSED


@pytest.mark.parametrize("key", ["nodes", "poddisruptionbudgets", "horizontalpodautoscalers"])
def test_what_availability_rests_on_must_be_known(key: str) -> None:
    """Each of these lists decides a part of the line."""
    held: dict[str, Any] = {key: ()}
    judgement = high_availability(_cluster(refusals=(b.refusal(key, namespace=b.ISTIO),), **held))
    assert (judgement.status, judgement.findings) == (Status.NOT_VERIFIED, ())


# --- 3.2.2 ------------------------------------------------------------------------------------------------------------


def _with(status: o.ContainerStatus, **fields: Any) -> Snapshot:
    """The first istiod pod has this status."""
    istiod, gateway = _istiod(), _gateway()
    first, *rest = _pods(istiod)
    bad = msgspec.structs.replace(first, status=msgspec.structs.replace(first.status, container_statuses=(status,)))
    return _cluster(istiod, gateway, pods=(bad, *rest, *_pods(gateway)), **fields)


def _ended(reason: str, finished: str | None, code: int = 1) -> o.ContainerState:
    return o.ContainerState(terminated=o.StateDetail(reason=reason, exit_code=code, finished_at=finished))


def test_a_crash_loop_fails() -> None:
    """The container waits in CrashLoopBackOff; the fix shows the log of the crash."""
    (finding,) = no_crash_loops(_with(b.container_status("discovery", restarts=5, now=b.state(waiting="CrashLoopBackOff")))).findings
    assert (finding.code, finding.level, str(finding.object)) == ("MR322-CRASH-LOOP", Level.ERROR, "istio-system/Deployment/istiod")
    assert finding.fix == f"kubectl -n istio-system logs {LEADER} -c discovery --previous"


@pytest.mark.parametrize(
    ("reason", "finished", "code", "level"),
    [
        ("OOMKilled", "2026-08-25T07:36:10Z", "MR322-OOM-KILLED", Level.ERROR),
        ("Error", "2026-08-25T07:36:10Z", "MR322-RESTARTED", Level.WARNING),
        ("Error", "2026-08-24T08:36:10Z", "MR322-RESTARTED", Level.WARNING),  # 24 hours to the second
    ],
)
def test_what_happened_within_a_day_counts(reason: str, finished: str, code: str, level: Level) -> None:
    """Killed for lack of memory fails, any other restart warns."""
    status = b.container_status("discovery", restarts=1, last=_ended(reason, finished))
    assert _codes(no_crash_loops(_with(status))) == {code: level}


@pytest.mark.parametrize("reason", ["OOMKilled", "Error"])
def test_restarts_of_long_ago_do_not_count(reason: str) -> None:
    """The field restartCount counts a pod's whole life; the time of the last end decides."""
    status = b.container_status("discovery", restarts=7, last=_ended(reason, "2026-08-24T08:36:09Z"))
    assert no_crash_loops(_with(status)).status is Status.PASSED


def test_the_time_can_be_given() -> None:
    """A later look at the same snapshot forgets what is older than a day by then."""
    snapshot = _with(b.container_status("discovery", restarts=1, last=_ended("Error", "2026-08-25T07:36:10Z")))
    assert no_crash_loops(snapshot, now=datetime(2026, 8, 27, tzinfo=UTC)).status is Status.PASSED


@pytest.mark.parametrize(("finished", "taken"), [(None, b.TAKEN), ("soon", b.TAKEN), ("2026-08-25T07:36:10Z", "")])
def test_a_crash_without_a_time_is_not_verified(finished: str | None, taken: str) -> None:
    """Whether it was within a day cannot be told."""
    judgement = no_crash_loops(_with(b.container_status("discovery", restarts=1, last=_ended("Error", finished)), taken=taken))
    assert judgement.status is Status.NOT_VERIFIED
    assert LEADER in judgement.reason


def test_an_init_container_that_has_done_its_work_is_no_crash() -> None:
    """It ended once, with 0, as it should."""
    istiod = _istiod()
    done = b.container_status("istio-validation", now=_ended("Completed", "2026-08-25T08:30:00Z", code=0))
    pods = tuple(
        msgspec.structs.replace(p, status=msgspec.structs.replace(p.status, init_container_statuses=(done,))) for p in _pods(istiod)
    )
    assert no_crash_loops(_cluster(istiod, pods=pods)).status is Status.PASSED


def test_an_image_that_cannot_be_pulled_warns() -> None:
    """No crash, but no istiod either."""
    status = b.container_status("discovery", ready=False, now=b.state(waiting="ImagePullBackOff"))
    assert _codes(no_crash_loops(_with(status))) == {"MR322-NOT-STARTING": Level.WARNING}


def test_two_pods_with_the_same_crash_are_one_finding() -> None:
    """The finding is about the workload and names both."""
    istiod = _istiod()
    looping = b.container_status("discovery", now=b.state(waiting="CrashLoopBackOff"))
    (finding,) = no_crash_loops(_cluster(istiod, pods=_pods(istiod, statuses=(looping,)))).findings
    assert finding.found.endswith(f"istiod-{ISTIOD_HASH}-p0000, istiod-{ISTIOD_HASH}-p0001")


@pytest.mark.parametrize(("name", "labels"), [("istio-cni-node", {"k8s-app": "istio-cni-node"}), ("ztunnel", {"app": "ztunnel"})])
def test_node_agents_are_looked_at(name: str, labels: dict[str, str]) -> None:
    """istio-cni and ztunnel stop every new pod of their node when they crash."""
    daemon = b.daemonset(name, namespace=b.ISTIO, labels=labels)
    pods = b.pods_of(daemon, meshed=False, statuses=(b.container_status("agent", now=b.state(waiting="CrashLoopBackOff")),))
    judgement = no_crash_loops(_cluster(daemonsets=(daemon,), pods=(*_cluster().pods, *pods)))
    assert (_codes(judgement), _objects(judgement)) == ({"MR322-CRASH-LOOP": Level.ERROR}, {f"istio-system/DaemonSet/{name}"})


def test_a_cni_agent_that_cannot_be_seen_is_not_verified() -> None:
    """The injector relies on istio-cni, whose pods are in a namespace that was not read."""
    judgement = no_crash_loops(_cluster(injector=InjectorConfig(cni_enabled=True)))
    assert judgement.reason == "the mesh needs istio-cni-node, and no pod of it was found in the cluster"


@pytest.mark.parametrize("kind", ["istio-cni-node", "ztunnel"])
def test_node_agents_of_other_namespaces_are_seen(kind: str) -> None:
    """They often run in kube-system, which is not read: the list of the whole cluster keeps the states of their containers."""
    cluster = _cluster(injector=InjectorConfig(cni_enabled=kind != "ztunnel"))
    well = b.node_pod(b.agent_pod(kind, namespace="kube-system"))
    assert no_crash_loops(msgspec.structs.replace(cluster, node_pods=(well,))).status is Status.PASSED
    looping = b.container_status(kind, ready=False, restarts=9, now=o.ContainerState(waiting=o.StateDetail(reason="CrashLoopBackOff")))
    ill = b.node_pod(b.agent_pod(kind, namespace="kube-system", ready=False, statuses=(looping,)))
    (finding,) = no_crash_loops(msgspec.structs.replace(cluster, node_pods=(ill,))).findings
    assert (finding.code, str(finding.object)) == ("MR322-CRASH-LOOP", f"kube-system/DaemonSet/{kind}")
    bare = msgspec.structs.replace(well, status=msgspec.structs.replace(well.status, container_statuses=()))
    judgement = no_crash_loops(msgspec.structs.replace(cluster, node_pods=(bare,)))
    assert (judgement.status, judgement.reason.partition(" (")[0]) == (
        Status.NOT_VERIFIED,
        f"kube-system/DaemonSet/{kind}: the states of its containers were not recorded",
    )


def test_other_pods_of_the_namespace_do_not_matter() -> None:
    """A crashing Prometheus is not the mesh."""
    status = b.container_status("app", now=b.state(waiting="CrashLoopBackOff"))
    other = b.pod("prometheus-1", namespace=b.ISTIO, labels={"app": "prometheus"}, statuses=(status,))
    assert no_crash_loops(_cluster(pods=(*_cluster().pods, other))).status is Status.PASSED


# --- 3.2.3 ------------------------------------------------------------------------------------------------------------


def _locks(*changed: o.ConfigMap, leases: tuple[o.Lease, ...] = (), **fields: Any) -> Judgement:
    """The required lock is as it should be, unless it is among the changed ones."""
    names = {item.metadata.name for item in changed}
    required = (
        () if "istio-namespace-controller-election" in names else (b.leader_configmap("istio-namespace-controller-election", LEADER),)
    )
    return leader_election(_cluster(configmaps=(*changed, *required), leases=leases, **fields))


def test_a_lock_that_is_not_renewed_fails() -> None:
    """61 s after the last renewal nobody leads; 60 s are tolerated."""
    stale = b.leader_configmap("istio-leader", LEADER, renewed="2026-08-25T08:35:09Z")
    judgement = _locks(stale)
    assert (_codes(judgement), _objects(judgement)) == ({"MR323-STALE": Level.ERROR}, {"istio-system/ConfigMap/istio-leader"})
    assert _locks(b.leader_configmap("istio-leader", LEADER, renewed="2026-08-25T08:35:10Z")).status is Status.PASSED


def test_the_lock_of_ingresses_stays_behind_when_they_are_switched_off() -> None:
    """With ingressControllerMode OFF nobody renews istio-leader; in any other mode that is a fault."""
    stale = b.leader_configmap("istio-leader", LEADER, renewed="2026-08-25T08:00:00Z")
    assert _codes(_locks(stale, mesh=MeshConfig(ingress_controller_mode="STRICT"))) == {"MR323-STALE": Level.ERROR}
    off = _locks(stale, mesh=MeshConfig(ingress_controller_mode="OFF"))
    assert (off.status, off.examined) == (Status.PASSED, 1)


def test_leases_are_judged_by_their_micro_time() -> None:
    """Their times carry microseconds."""
    fresh = b.lease("istio-gateway-deployment-default", LEADER, renewed="2026-08-25T08:36:02.270202Z")
    assert _locks(leases=(fresh,)).status is Status.PASSED
    stale = b.lease("istio-gateway-deployment-default", LEADER, renewed="2026-08-25T08:00:02.270202Z")
    assert _codes(_locks(leases=(stale,))) == {"MR323-STALE": Level.ERROR}


def test_a_holder_that_is_no_pod_fails() -> None:
    """Its last renewal is older than the lock's term, so it cannot just have gone."""
    judgement = _locks(b.leader_configmap("istio-leader", "istiod-gone", renewed="2026-08-25T08:35:30Z"))
    assert _codes(judgement) == {"MR323-HOLDER-GONE": Level.ERROR}


def test_a_holder_that_has_just_gone_is_not_verified() -> None:
    """Within its term a lock may still carry the name of a pod that a rollout has replaced."""
    judgement = _locks(b.leader_configmap("istio-leader", "istiod-gone", renewed="2026-08-25T08:36:00Z"))
    assert (judgement.status, judgement.findings) == (Status.NOT_VERIFIED, ())


def test_a_holder_that_is_not_ready_fails() -> None:
    """It leads, but it does not work."""
    istiod = _istiod()
    judgement = leader_election(_cluster(istiod, pods=_pods(istiod, ready=False)))
    assert set(_codes(judgement)) == {"MR323-HOLDER-NOT-READY"}


def test_a_holder_that_is_leaving_is_not_verified() -> None:
    """A rollout is under way."""
    istiod = _istiod()
    first, second = _pods(istiod)
    leaving = msgspec.structs.replace(first, metadata=msgspec.structs.replace(first.metadata, deletion_timestamp=b.TAKEN))
    assert leader_election(_cluster(istiod, pods=(leaving, second))).status is Status.NOT_VERIFIED


def test_a_released_lock_is_not_verified() -> None:
    """Its holder is empty for some seconds at a rollout; for more than a minute it is nobody's."""
    assert _locks(b.leader_configmap("istio-leader", "")).status is Status.NOT_VERIFIED
    assert _locks(leases=(b.lease("istio-gateway-deployment-default", None),)).status is Status.NOT_VERIFIED
    assert _codes(_locks(b.leader_configmap("istio-leader", "", renewed="2026-08-25T08:00:00Z"))) == {"MR323-STALE": Level.ERROR}


def test_the_required_lock_must_be_there() -> None:
    """Every istiod takes the namespace controller's lock."""
    judgement = leader_election(_cluster(configmaps=(b.leader_configmap("istio-leader", LEADER),)))
    assert _codes(judgement) == {"MR323-NO-LOCK": Level.ERROR}


@pytest.mark.parametrize("key", ["configmaps", "leases"])
def test_refused_locks_are_not_verified(key: str) -> None:
    """A lock that may not be read is not missing."""
    held: dict[str, Any] = {key: ()}
    judgement = leader_election(_cluster(refusals=(b.refusal(key, namespace=b.ISTIO),), **held))
    assert (judgement.status, judgement.findings) == (Status.NOT_VERIFIED, ())


def test_leader_election_may_be_switched_off() -> None:
    """With one replica there is nobody to elect, with two each of them leads."""
    one = leader_election(_cluster(_istiod(replicas=1, env={"ENABLE_LEADER_ELECTION": "false"}), configmaps=(), leases=()))
    assert one.status is Status.NOT_APPLICABLE
    assert "ENABLE_LEADER_ELECTION=false" in one.reason
    two = leader_election(_cluster(_istiod(env={"ENABLE_LEADER_ELECTION": "false"}), configmaps=(), leases=()))
    assert _codes(two) == {"MR323-SWITCHED-OFF": Level.WARNING}


def test_a_lock_of_another_revision_warns() -> None:
    """The default revision takes the locks of the mesh over by design; if it does not, it takes no part."""
    assert _codes(_locks(b.leader_configmap("istio-leader", LEADER, key="canary"))) == {"MR323-OTHER-REVISION": Level.WARNING}


def test_locks_of_a_second_revision_are_judged() -> None:
    """Its Lease is held by a pod of its own istiod."""
    canary = _istiod("istiod-canary", revision="canary")
    fields: dict[str, Any] = {
        "deployments": (_istiod(), _gateway(), canary),
        "pods": (*_cluster().pods, *_pods(canary)),
        "leases": (b.lease("istio-gateway-deployment-canary", f"istiod-canary-{ISTIOD_HASH}-p0000"),),
    }
    assert leader_election(_cluster(**fields)).status is Status.PASSED


@pytest.mark.parametrize(
    "left",
    [
        b.lease("istio-gateway-deployment-1-29", "istiod-1-29-x", renewed="2026-07-01T00:00:00Z"),
        b.lease("istio-status-leader", "istiod-x", renewed="2026-07-01T00:00:00Z"),
        b.lease("some-operator", "operator-x", renewed="2026-07-01T00:00:00Z"),
    ],
    ids=["of a revision that is gone", "of a feature that is off", "of somebody else"],
)
def test_leases_that_nobody_takes_any_more_do_not_matter(left: o.Lease) -> None:
    """They stay behind for ever and prove nothing."""
    assert _locks(leases=(left,)).status is Status.PASSED


@pytest.mark.parametrize(
    ("name", "env"),
    [("istio-analyze-leader", {}), ("istio-status-leader", {}), ("istio-ip-autoallocate", {"PILOT_ENABLE_IP_AUTOALLOCATE": "false"})],
)
def test_configmaps_of_features_that_are_off_do_not_matter(name: str, env: dict[str, str]) -> None:
    """The lock stays behind when istiod's variable is switched off."""
    old = b.leader_configmap(name, "istiod-gone", renewed="2026-07-01T00:00:00Z")
    assert _locks(old, istiod=_istiod(env=env)).status is Status.PASSED


def test_a_configmap_that_a_lease_has_replaced_does_not_matter() -> None:
    """istio-gateway-status-leader became a Lease for each revision in Istio 1.27."""
    old = b.leader_configmap("istio-gateway-status-leader", "istiod-gone", renewed="2026-07-01T00:00:00Z")
    assert _locks(old, leases=(b.lease("istio-gateway-status-leader-default", LEADER),)).status is Status.PASSED


@pytest.mark.parametrize("renewed", ["", "soon", "2026-08-25T09:36:10Z"])
def test_times_that_make_no_sense_are_not_verified(renewed: str) -> None:
    """No time, or one that is an hour after the snapshot."""
    assert _locks(b.leader_configmap("istio-leader", LEADER, renewed=renewed)).status is Status.NOT_VERIFIED


@pytest.mark.parametrize("text", ["", "{", "[]", '{"holderIdentity": 7}', "null"])
def test_a_record_that_makes_no_sense_is_not_verified(text: str) -> None:
    """The annotation is no leader record."""
    odd = o.ConfigMap(metadata=b.metadata("istio-leader", b.ISTIO, annotations={"control-plane.alpha.kubernetes.io/leader": text}))
    judgement = _locks(odd)
    assert (judgement.status, judgement.findings) == (Status.NOT_VERIFIED, ())


def test_the_evidence_is_a_table_of_the_locks() -> None:
    """Who holds what, and when it was renewed."""
    (evidence,) = leader_election(_cluster()).evidence
    assert {row["lock"] for row in evidence.data} >= {
        "ConfigMap istio-namespace-controller-election",
        "Lease istio-gateway-deployment-default",
    }
    assert {row["holder"] for row in evidence.data} == {LEADER}
