"""Tests of line 4.2.1: every pod has exactly one proxy, or the finding says why not."""

from __future__ import annotations

from typing import Any

import hypothesis
import msgspec
import pytest
from hypothesis import strategies as st

from pytest_meshready.cluster import objects as o
from pytest_meshready.cluster.snapshot import ControlPlane, InjectorConfig, Snapshot
from pytest_meshready.istio.sidecars import READS, exactly_one_sidecar
from pytest_meshready.results import Finding, Judgement, Level, Status
from tests.unit import builders as b

NAMES = ("frontend", "ledger", "orders")
CONFIG = InjectorConfig(policy="enabled", default_templates=("sidecar",), proxy_image="proxyv2", tag="1.31.0")
NO_INJECT = {"sidecar.istio.io/inject": "false"}
AMBIENT = {"istio.io/dataplane-mode": "ambient"}
REDIRECTED = {"ambient.istio.io/redirection": "enabled"}
JOB: dict[str, Any] = {"owner": "Job/migrate", "labels": {"app": "migrate"}}


def shop(*pods: o.Pod, labels: dict[str, str] | None = None, workloads: tuple[o.Deployment, ...] = (), **fields: Any) -> Snapshot:
    """A namespace with these pods and Deployments."""
    chosen = {"istio-injection": "enabled"} if labels is None else labels
    fields.setdefault("namespaces", (b.namespace(b.ISTIO, labels={}), b.namespace(labels=chosen)))
    fields.setdefault("injector", CONFIG)
    return b.snapshot(pods=pods, deployments=workloads, **fields)


def healthy(**fields: Any) -> Snapshot:
    """Three Deployments, each with two injected pods."""
    workloads = tuple(b.deployment(name) for name in NAMES)
    return shop(*(pod for workload in workloads for pod in b.pods_of(workload)), workloads=workloads, **fields)


def with_ledger(ledger: o.Deployment, pods: tuple[o.Pod, ...], **fields: Any) -> Snapshot:
    """The healthy shop, with another ledger."""
    others = tuple(b.deployment(name) for name in NAMES if name != "ledger")
    made = tuple(pod for workload in others for pod in b.pods_of(workload))
    return shop(*made, *pods, workloads=(*others, ledger), **fields)


def codes(judgement: Judgement) -> list[tuple[str, str]]:
    return [(finding.code, finding.level.value) for finding in judgement.findings]


def only(judgement: Judgement) -> Finding:
    (finding,) = judgement.findings
    return finding


def without_init(pod: o.Pod) -> o.Pod:
    """The pod after a controller dropped istio-init."""
    left = tuple(container for container in pod.spec.init_containers if container.name != "istio-init")
    return msgspec.structs.replace(pod, spec=msgspec.structs.replace(pod.spec, init_containers=left))


# --- healthy ----------------------------------------------------------------------------------------------------------


def test_the_healthy_shop_passes() -> None:
    """Each pod has one native sidecar of the right revision and version."""
    judgement = exactly_one_sidecar(healthy())
    assert (judgement.status, judgement.examined, judgement.findings) == (Status.PASSED, 6, ())
    assert judgement.summary == "6 of 6 pods have exactly one proxy (6 native sidecar)"


def test_native_and_classic_sidecars_may_stand_side_by_side() -> None:
    """One old node gives classic sidecars; each pod is judged for itself."""
    judgement = exactly_one_sidecar(shop(b.meshed_pod("a"), b.classic_pod("b")))
    assert judgement.status is Status.PASSED
    assert "1 classic sidecar" in judgement.summary


def test_gateways_in_the_namespace_pass() -> None:
    """A gateway has one Envoy and needs no sidecar, whether the injector or a chart made it."""
    by_chart = b.gateway_pod(namespace=b.NAMESPACE)
    injected = b.gateway_pod(
        "gw-7f76cb76bc-a",
        namespace=b.NAMESPACE,
        labels={"app": "gw", "sidecar.istio.io/inject": "true"},
        annotations={"inject.istio.io/templates": "gateway", "sidecar.istio.io/status": '{"revision":"default"}'},
    )
    assert exactly_one_sidecar(shop(by_chart, injected)).status is Status.PASSED


def test_pending_pods_count_by_their_spec() -> None:
    """A pod that waits for a node is injected already."""
    assert exactly_one_sidecar(shop(b.meshed_pod(phase="Pending", ready=False))).status is Status.PASSED
    assert exactly_one_sidecar(shop(b.pod(phase="Pending"))).status is Status.FAILED


def test_pods_that_do_not_count() -> None:
    """Ended pods, pods being deleted and our own probes are not judged."""
    rest = (b.pod("ended", phase="Succeeded"), b.pod("going", deleted=b.CREATED), b.pod("probe", labels={"meshready.io/run": "r1"}))
    judgement = exactly_one_sidecar(shop(b.meshed_pod(), *rest))
    assert (judgement.status, judgement.examined) == (Status.PASSED, 1)


# --- pods without a sidecar -------------------------------------------------------------------------------------------


def test_inject_false_fails_and_is_named() -> None:
    """Fault no-sidecar: the pod template says inject=false; one finding about the Deployment names both pods."""
    ledger = b.deployment("ledger", labels={"app": "ledger", **NO_INJECT})
    pods = b.pods_of(ledger, meshed=False)
    finding = only(exactly_one_sidecar(with_ledger(ledger, pods)))
    assert (finding.code, str(finding.object), finding.level) == ("MR421-INJECT-FALSE", "payments/Deployment/ledger", Level.ERROR)
    assert finding.found.startswith(f"2 of 2 pods without a sidecar ({pods[0].metadata.name}, {pods[1].metadata.name}): ")
    assert 'the label sidecar.istio.io/inject: "false"' in finding.found
    assert finding.fix.endswith("kubectl -n payments edit deployment/ledger")


def test_inject_false_by_annotation_is_named() -> None:
    """The old way to say it."""
    ledger = b.deployment("ledger", annotations=NO_INJECT)
    finding = only(exactly_one_sidecar(with_ledger(ledger, b.pods_of(ledger, meshed=False))))
    assert finding.code == "MR421-INJECT-FALSE"
    assert "the annotation" in finding.found


def test_host_network_fails_and_is_named() -> None:
    """Fault host-network: the pods use the node's network, so nothing is injected."""
    ledger = b.deployment("ledger", host_network=True)
    finding = only(exactly_one_sidecar(with_ledger(ledger, b.pods_of(ledger, meshed=False))))
    assert (finding.code, finding.level) == ("MR421-HOST-NETWORK", Level.ERROR)
    assert "hostNetwork: true" in finding.found


def test_an_unlabelled_namespace_fails_for_each_workload() -> None:
    """Fault namespace-unlabelled: every workload is named, with the namespace as the cause."""
    workloads = tuple(b.deployment(name) for name in NAMES)
    pods = tuple(pod for workload in workloads for pod in b.pods_of(workload, meshed=False))
    judgement = exactly_one_sidecar(shop(*pods, workloads=workloads, labels={}))
    assert judgement.status is Status.FAILED
    assert [(f.code, f.object.name) for f in judgement.findings] == [("MR421-NAMESPACE-UNLABELLED", name) for name in NAMES]
    assert all("namespace payments carries no injection label" in finding.found for finding in judgement.findings)
    assert "kubectl label --overwrite namespace payments istio-injection=enabled" in judgement.findings[0].fix
    assert judgement.findings[0].fix.endswith("kubectl -n payments rollout restart deployment/frontend")


def test_a_label_for_a_revision_that_is_gone() -> None:
    """No injector answers to the namespace's revision."""
    assert codes(exactly_one_sidecar(shop(b.pod(), labels={"istio.io/rev": "1-20"}))) == [("MR421-NO-REVISION", "error")]


def test_half_of_the_replicas() -> None:
    """One pod is older than the label, the other was restarted since; the finding names the one."""
    ledger = b.deployment("ledger")
    old, new = b.pods_of(ledger, meshed=False)[0], b.pods_of(ledger)[1]
    finding = only(exactly_one_sidecar(with_ledger(ledger, (old, new))))
    assert finding.code == "MR421-NOT-RESTARTED"
    assert finding.found.startswith(f"1 of 2 pods without a sidecar ({old.metadata.name}): a new pod would get one")
    assert finding.fix == "kubectl -n payments rollout restart deployment/ledger"


def test_many_pods_are_counted_not_listed() -> None:
    """At most three names stand in a finding."""
    many = b.deployment("ledger", replicas=5)
    assert "and 2 more" in only(exactly_one_sidecar(with_ledger(many, b.pods_of(many, meshed=False)))).found


def test_policy_and_selectors_are_causes() -> None:
    """The injector's own configuration can leave pods out."""
    never = InjectorConfig(policy="enabled", never_inject_selector=(o.LabelSelector(match_labels={"app": "orders"}),))
    for config, word in ((never, "neverInjectSelector"), (InjectorConfig(policy="disabled"), "policy")):
        finding = only(exactly_one_sidecar(shop(b.pod(), injector=config)))
        assert finding.code == "MR421-NOT-SELECTED"
        assert word in finding.found


def test_a_gateway_that_was_never_filled_in() -> None:
    """The gateway template's image auto is left where no injector was asked."""
    waiting = b.pod(containers=(o.Container(name="istio-proxy", image="auto"),), annotations={"inject.istio.io/templates": "gateway"})
    finding = only(exactly_one_sidecar(shop(waiting, labels={})))
    assert finding.code == "MR421-NAMESPACE-UNLABELLED"
    assert "image auto" in finding.found


def test_a_sidecar_that_somebody_removed() -> None:
    """The injector's note lists istio-proxy, but there is none."""
    status = '{"initContainers":["istio-init","istio-proxy"],"containers":null,"revision":"default"}'
    assert codes(exactly_one_sidecar(shop(b.pod(annotations={"sidecar.istio.io/status": status})))) == [("MR421-SIDECAR-REMOVED", "error")]


def test_no_istio_is_one_finding() -> None:
    """Before the installation the namespace is said to have no injector, once and not for each workload."""
    workloads = tuple(b.deployment(name) for name in NAMES)
    pods = tuple(pod for workload in workloads for pod in b.pods_of(workload, meshed=False))
    bare: dict[str, Any] = {
        "mutatingwebhookconfigurations": (),
        "control_planes": (),
        "control_plane": None,
        "injector": None,
        "mesh": None,
    }
    finding = only(exactly_one_sidecar(shop(*pods, workloads=workloads, labels={}, **bare)))
    assert (finding.code, str(finding.object)) == ("MR421-NO-INJECTOR", "Namespace/payments")


# --- what the team allows ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fields", [{"labels": {"app": "ledger", **NO_INJECT}}, {"host_network": True}])
def test_allowed_workloads_are_shown_and_fail_nothing(fields: dict[str, Any]) -> None:
    """A listed exception is an info; the others still have to pass."""
    ledger = b.deployment("ledger", **fields)
    snapshot = with_ledger(ledger, b.pods_of(ledger, meshed=False))
    judgement = exactly_one_sidecar(snapshot, frozenset({"ledger"}))
    assert judgement.status is Status.PASSED
    assert [finding.level for finding in judgement.findings] == [Level.INFO]
    assert judgement.summary.endswith("; 2 without one are allowed by the settings")
    assert exactly_one_sidecar(snapshot, frozenset({"orders"})).status is Status.FAILED


def test_two_sidecars_are_never_allowed() -> None:
    """The list is for workloads without a sidecar."""
    double = b.injected(b.classic_pod(owner=f"ReplicaSet/orders-{b.HASH}"))
    assert exactly_one_sidecar(shop(double), frozenset({"orders"})).status is Status.FAILED


# --- one sidecar too many, or not the right one -----------------------------------------------------------------------


def test_injected_twice_fails() -> None:
    """A classic and a native istio-proxy in one pod."""
    finding = only(exactly_one_sidecar(shop(b.injected(b.classic_pod()))))
    assert (finding.code, finding.level) == ("MR421-TWO-SIDECARS", Level.ERROR)
    assert "with 2 sidecars" in finding.found


def test_a_second_envoy_under_another_name_fails() -> None:
    """A proxy that the template brings along counts by its image, and the template is named."""
    own = o.Container(name="envoy", image="registry.example.com/istio/proxyv2:1.29.0")
    ledger = b.deployment("ledger", containers=(b.container(), own))
    finding = only(exactly_one_sidecar(with_ledger(ledger, b.pods_of(ledger))))
    assert "envoy and istio-proxy" in finding.found
    assert "the pod template brings one along" in finding.found


def test_manual_injection_warns() -> None:
    """A sidecar that stands in the Deployment is renewed by nobody (istioctl kube-inject)."""
    plain = b.deployment("ledger")
    pod = b.pods_of(plain)[0]
    template = msgspec.structs.replace(plain.spec.template, spec=pod.spec)
    manual = msgspec.structs.replace(plain, spec=msgspec.structs.replace(plain.spec, template=template))
    assert codes(exactly_one_sidecar(with_ledger(manual, b.pods_of(plain)))) == [("MR421-MANUAL", "warning")]


def test_a_sidecar_without_the_injectors_note_warns() -> None:
    """A hand-written container istio-proxy leaves no status annotation."""
    by_hand = b.pod(init_containers=(b.istio_init(), b.proxy()))
    assert codes(exactly_one_sidecar(shop(by_hand))) == [("MR421-MANUAL", "warning")]


def test_a_sidecar_that_the_next_restart_takes_away() -> None:
    """The label is gone, the pods still run as they were injected."""
    judgement = exactly_one_sidecar(healthy(namespaces=(b.namespace(labels={}),)))
    assert codes(judgement) == [("MR421-LOST-AT-RESTART", "warning")] * 3
    assert "carries no injection label" in judgement.findings[0].found


def test_labels_that_the_injector_wrote_do_not_hide_the_loss() -> None:
    """Older injectors write the label istio.io/rev into the pod; the template, which lacks it, decides about the next one."""
    ledger = b.deployment("ledger")
    pods = b.pods_of(ledger, labels={"app": "ledger", "istio.io/rev": "default"})
    judgement = exactly_one_sidecar(with_ledger(ledger, pods, labels={}))
    assert ("MR421-LOST-AT-RESTART", "payments/Deployment/ledger") in {(f.code, str(f.object)) for f in judgement.findings}


def test_an_old_revision_warns() -> None:
    """The namespace moved to canary, the pods were not restarted."""
    canary = ControlPlane(namespace=b.ISTIO, revision="canary", webhooks=("istio-sidecar-injector-canary",))
    snapshot = healthy(
        namespaces=(b.namespace(labels={"istio.io/rev": "canary"}),),
        mutatingwebhookconfigurations=(*b.default_webhooks(), b.revision_webhook("canary")),
        control_planes=(b.DEFAULT_PLANE, canary),
        control_plane=canary,
    )
    judgement = exactly_one_sidecar(snapshot)
    assert codes(judgement) == [("MR421-OLD-REVISION", "warning")] * 3
    assert "of revision default" in judgement.findings[0].found
    assert "revision canary" in judgement.findings[0].found


def test_a_revision_that_is_gone_fails() -> None:
    """No injector and no control plane of the sidecar's revision is left."""
    assert codes(exactly_one_sidecar(shop(b.meshed_pod(revision="1-20")))) == [("MR421-REVISION-GONE", "error")]


def test_a_tag_is_its_revision() -> None:
    """A namespace labelled with a tag gets sidecars that name the revision, which is right."""
    webhooks = (b.revision_webhook("canary"), b.revision_webhook("canary", tag="prod"))
    snapshot = shop(b.meshed_pod(revision="canary"), labels={"istio.io/rev": "prod"}, mutatingwebhookconfigurations=webhooks)
    assert exactly_one_sidecar(snapshot).status is Status.PASSED


def test_an_old_proxy_version_warns() -> None:
    """The control plane was upgraded in place, the pods were not restarted."""
    judgement = exactly_one_sidecar(shop(b.meshed_pod(image="docker.io/istio/proxyv2:1.30.2-distroless")))
    assert codes(judgement) == [("MR421-OLD-VERSION", "warning")]
    assert "of version 1.30.2" in judgement.findings[0].found
    assert "1.31.0" in judgement.findings[0].found


def test_a_pinned_proxy_image_is_named() -> None:
    """The annotation sidecar.istio.io/proxyImage is the cause, so a restart would not help."""
    image = "docker.io/istio/proxyv2:1.30.2"
    finding = only(exactly_one_sidecar(shop(b.meshed_pod(image=image, annotations={"sidecar.istio.io/proxyImage": image}))))
    assert "sidecar.istio.io/proxyImage" in finding.found
    assert "restart" not in finding.fix


@pytest.mark.parametrize("image", ["docker.io/istio/proxyv2:1.31.0-debug", "mirror/proxyv2:1.31.0", "istio/proxyv2@sha256:0123"])
def test_the_same_version_from_elsewhere_passes(image: str) -> None:
    """Image types, registries and digests are no other version."""
    assert exactly_one_sidecar(shop(b.meshed_pod(image=image))).status is Status.PASSED


def test_a_gateways_version_is_compared_too() -> None:
    """A gateway of the namespace that was left behind by an upgrade."""
    old = b.gateway_pod(namespace=b.NAMESPACE, containers=(b.gateway_container("docker.io/istio/proxyv2:1.30.0"),))
    assert codes(exactly_one_sidecar(shop(old))) == [("MR421-OLD-VERSION", "warning")]


def test_a_job_with_a_classic_sidecar_warns() -> None:
    """The Job never completes, because the sidecar does not end (istio#11045)."""
    judgement = exactly_one_sidecar(shop(b.classic_pod("migrate-x", **JOB), jobs=(b.job(),)))
    assert codes(judgement) == [("MR421-JOB-NEVER-ENDS", "warning")]
    assert str(judgement.findings[0].object) == "payments/Job/migrate"


def test_a_job_with_a_native_sidecar_passes() -> None:
    """A native sidecar ends with the application, and a Job that has ended needs no pod."""
    snapshot = shop(b.meshed_pod("migrate-x", **JOB), b.pod("done", phase="Succeeded", owner="Job/old"), jobs=(b.job(), b.job("old")))
    assert exactly_one_sidecar(snapshot).status is Status.PASSED


def test_a_sidecar_without_redirection_warns() -> None:
    """Without istio-init or istio-validation nothing shows that traffic goes through the sidecar; interception NONE needs none."""
    assert codes(exactly_one_sidecar(shop(without_init(b.meshed_pod())))) == [("MR421-NOT-REDIRECTED", "warning")]
    none = b.meshed_pod(annotations={"sidecar.istio.io/interceptionMode": "NONE"})
    assert exactly_one_sidecar(shop(without_init(none))).status is Status.PASSED


def test_a_sidecar_that_is_not_ready_warns() -> None:
    """The kubelet's word about istio-proxy in a running pod."""
    pod = b.meshed_pod()
    statuses = (b.container_status("istio-proxy", ready=False),)
    waiting = msgspec.structs.replace(pod, status=msgspec.structs.replace(pod.status, init_container_statuses=statuses))
    assert codes(exactly_one_sidecar(shop(waiting))) == [("MR421-NOT-READY", "warning")]


@pytest.mark.parametrize("name", ["istio-validation", "istio-proxy"])
def test_a_container_of_istios_that_crashes_fails(name: str) -> None:
    """Field report istio#14327: on a new node istio-cni comes too late, and the pod never starts; the agent is what to look at."""
    pod = b.meshed_pod()
    waiting = o.ContainerState(waiting=o.StateDetail(reason="CrashLoopBackOff"))
    statuses = (b.container_status(name, ready=False, restarts=4, now=waiting),)
    status = msgspec.structs.replace(pod.status, phase="Pending", init_container_statuses=statuses)
    finding = only(exactly_one_sidecar(shop(msgspec.structs.replace(pod, status=status))))
    assert (finding.code, finding.level, finding.detail) == ("MR421-CRASHING", Level.ERROR, name)
    assert finding.fix.startswith("look at istio-cni" if name == "istio-validation" else "see why: kubectl -n payments logs ")


def test_proxyless_grpc_warns() -> None:
    """There is no Envoy to be had, and the line asks for one."""
    pod = b.classic_pod(annotations={"inject.istio.io/templates": "grpc-agent"})
    assert codes(exactly_one_sidecar(shop(pod))) == [("MR421-PROXYLESS", "warning")]


# --- ambient ----------------------------------------------------------------------------------------------------------


AGENTS = (b.agent_pod("ztunnel"), b.agent_pod("istio-cni-node"))


def ambient(*pods: o.Pod, agents: tuple[o.Pod, ...] = AGENTS, elsewhere: tuple[o.Pod, ...] = ()) -> Snapshot:
    """An ambient namespace; ``agents`` run in istio-system, ``elsewhere`` are seen in the list of the whole cluster alone."""
    return shop(*pods, *agents, labels=AMBIENT, node_pods=tuple(b.node_pod(pod) for pod in (*pods, *agents, *elsewhere)))


def test_an_ambient_namespace_says_what_was_judged() -> None:
    """Redirected pods on nodes with ready agents pass; the agents may run in any namespace."""
    judgement = exactly_one_sidecar(ambient(b.pod(annotations=REDIRECTED)))
    assert (judgement.status, judgement.examined) == (Status.PASSED, 1)
    assert judgement.summary == "ambient: 1 of 1 pods are redirected to ztunnel, which is ready on their nodes; none has a sidecar"
    system = tuple(b.agent_pod(kind, namespace="kube-system") for kind in ("ztunnel", "istio-cni-node"))
    assert exactly_one_sidecar(ambient(b.pod(annotations=REDIRECTED), agents=(), elsewhere=system)).status is Status.PASSED


@pytest.mark.parametrize(
    ("kind", "code", "level"), [("ztunnel", "MR421-NO-ZTUNNEL", Level.ERROR), ("istio-cni-node", "MR421-NO-CNI", Level.WARNING)]
)
@pytest.mark.parametrize("where", ["istio-system", "kube-system"])
def test_a_node_whose_agent_is_not_ready(kind: str, code: str, level: Level, where: str) -> None:
    """The annotation of the pods stays when ztunnel dies; the DaemonSet, the node and the pods are named."""
    pods = (b.pod("a", annotations=REDIRECTED), b.pod("b", annotations=REDIRECTED, node="node-2"))
    both = tuple(b.agent_pod(item, node=node, namespace=where) for item in ("ztunnel", "istio-cni-node") for node in ("node-1", "node-2"))
    made = tuple(
        b.agent_pod(kind, node="node-2", namespace=where, ready=False) if pod.metadata.name.startswith(f"{kind}-2") else pod for pod in both
    )
    near = {"agents": made} if where == "istio-system" else {"agents": (), "elsewhere": made}
    finding = only(exactly_one_sidecar(ambient(*pods, **near)))
    assert (finding.code, finding.level, str(finding.object)) == (code, level, f"{where}/DaemonSet/{kind}")
    assert finding.found.startswith("no pod of it is ready on node-2, so ")
    assert finding.found.endswith(" b")


def test_ambient_without_any_agent_is_not_verified() -> None:
    """That none was found may have reasons; that the list was refused names the right."""
    pod = b.pod(annotations=REDIRECTED)
    reason = exactly_one_sidecar(ambient(pod, agents=())).reason
    assert reason == (
        "the mesh needs istio-cni-node, and no pod of it was found in the cluster; "
        "the mesh needs ztunnel, and no pod of it was found in the cluster"
    )
    refused = msgspec.structs.replace(ambient(pod, agents=()), refusals=(b.refusal("node_pods"),), node_pods=())
    judgement = exactly_one_sidecar(refused)
    assert (judgement.status, {item.resource for item in judgement.unknown}) == (Status.NOT_VERIFIED, {"pods"})


@pytest.mark.parametrize(
    ("pod", "code"),
    [
        (b.meshed_pod(), "MR421-SIDECAR-IN-AMBIENT"),
        (b.pod(), "MR421-NOT-CAPTURED"),
        (b.pod(labels={"istio.io/dataplane-mode": "none"}), "MR421-AMBIENT-OPT-OUT"),
        (b.pod(host_network=True), "MR421-HOST-NETWORK"),
    ],
)
def test_pods_that_ambient_does_not_carry_fail(pod: o.Pod, code: str) -> None:
    """A sidecar, a missing redirection, an opt-out and the node's network are errors."""
    assert codes(exactly_one_sidecar(ambient(pod))) == [(code, "error")]


def test_waypoints_and_gateways_belong_to_an_ambient_namespace() -> None:
    """They are no sidecars."""
    waypoint = b.pod(containers=(o.Container(name="istio-proxy", image=b.PROXY_IMAGE, args=("proxy", "waypoint")),))
    judgement = exactly_one_sidecar(ambient(waypoint, b.gateway_pod(namespace=b.NAMESPACE)))
    assert judgement.status is Status.PASSED


def test_ambient_pods_beside_sidecars_warn() -> None:
    """A namespace of sidecars with a pod in ambient mode is mixed."""
    assert codes(exactly_one_sidecar(shop(b.meshed_pod("a"), b.pod("b", annotations=REDIRECTED)))) == [("MR421-MIXED-MODES", "warning")]


def test_a_pod_in_both_data_planes_fails() -> None:
    """Redirected and with a sidecar."""
    assert codes(exactly_one_sidecar(shop(b.meshed_pod(annotations=REDIRECTED)))) == [("MR421-SIDECAR-AND-AMBIENT", "error")]


# --- what could not be read -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", sorted(set(READS) - {"node_pods"}))  # an ambient namespace asks for those
def test_each_refused_list_is_not_verified(key: str) -> None:
    """A shop that would pass does not, as long as a list is missing; the right is named."""
    where = {"namespaces": "", "mutatingwebhookconfigurations": "", "configmaps": b.ISTIO}.get(key, b.NAMESPACE)
    fields: dict[str, Any] = {"refusals": (b.refusal(key, namespace=where),), key: ()}
    if key == "configmaps":
        fields["injector"] = None
    judgement = exactly_one_sidecar(msgspec.structs.replace(healthy(), **fields))
    assert judgement.status is Status.NOT_VERIFIED
    assert key in {unknown.resource.partition(".")[0] for unknown in judgement.unknown}


def test_the_namespace_alone_is_enough() -> None:
    """Where namespaces may not be listed but this one may be read, nothing is missing."""
    snapshot = healthy(namespaces=(b.namespace(),), refusals=(b.refusal("namespaces", namespace=""),))
    assert exactly_one_sidecar(snapshot).status is Status.PASSED


def test_other_config_maps_do_not_matter() -> None:
    """A right that names the injector's ConfigMap alone is enough."""
    assert exactly_one_sidecar(healthy(refusals=(b.refusal("configmaps", namespace=b.ISTIO),))).status is Status.PASSED


def test_an_injector_without_a_config_map_is_told() -> None:
    """With an istiod outside the cluster there is none: the pods can be counted, their versions not compared."""
    judgement = exactly_one_sidecar(healthy(injector=None))
    assert judgement.status is Status.PASSED
    assert judgement.evidence[-1].text == "not there: versions of proxies were not compared"


def test_ambient_needs_no_injector() -> None:
    """Nothing of the injector is asked about an ambient namespace."""
    refused = (b.refusal("mutatingwebhookconfigurations", namespace=""), b.refusal("configmaps", namespace=b.ISTIO))
    blind: dict[str, Any] = {"mutatingwebhookconfigurations": (), "injector": None, "refusals": refused}
    assert exactly_one_sidecar(msgspec.structs.replace(ambient(b.pod(annotations=REDIRECTED)), **blind)).status is Status.PASSED


def test_a_list_refused_elsewhere_does_not_matter() -> None:
    """Deployments of the control plane's namespace decide nothing here."""
    assert exactly_one_sidecar(healthy(refusals=(b.refusal("deployments", namespace=b.ISTIO),))).status is Status.PASSED


def test_a_pod_without_a_sidecar_fails_whatever_was_refused() -> None:
    """The fact stands without the cause; the pod's own cause is named all the same."""
    refused = (b.refusal("mutatingwebhookconfigurations", namespace=""), b.refusal("namespaces", namespace=""))
    blind: dict[str, Any] = {"mutatingwebhookconfigurations": (), "namespaces": (), "refusals": refused}
    assert codes(exactly_one_sidecar(shop(b.pod(), **blind))) == [("MR421-NO-SIDECAR", "error")]
    assert codes(exactly_one_sidecar(shop(b.pod(host_network=True), **blind))) == [("MR421-HOST-NETWORK", "error")]


def test_a_cause_is_not_guessed_without_the_injectors_configuration() -> None:
    """The webhook matches, but the policy is unknown: no restart is promised to help."""
    finding = only(exactly_one_sidecar(shop(b.pod(), injector=None)))
    assert finding.code == "MR421-NO-SIDECAR"


def test_an_empty_namespace_is_not_verified() -> None:
    """Nothing to look at is no pass."""
    judgement = exactly_one_sidecar(shop())
    assert (judgement.status, judgement.examined) == (Status.NOT_VERIFIED, 0)
    assert judgement.reason == "no pod works in namespace payments, so there is nothing to look at"


def test_a_workload_without_pods_is_not_verified() -> None:
    """A Deployment whose pods cannot be created has no pod to look at; one that is scaled to zero wants none."""
    stuck = exactly_one_sidecar(shop(b.meshed_pod(), workloads=(b.deployment("ledger"),)))
    assert stuck.status is Status.NOT_VERIFIED
    assert "payments/Deployment/ledger wants 2 pods and has none" in stuck.reason
    assert exactly_one_sidecar(shop(b.meshed_pod(), workloads=(b.deployment("ledger", replicas=0),))).status is Status.PASSED


def test_only_what_is_declared_is_read() -> None:
    """With nothing but the declared kinds the rule reaches its verdict."""
    assert exactly_one_sidecar(healthy(read=READS)).status is Status.PASSED


# --- odd data ---------------------------------------------------------------------------------------------------------

_TEXT = st.sampled_from(
    ["", "false", "true", "istio-proxy", "auto", "Always", "none", "proxyv2", "a/proxyv2:1", ":@/", "{", '{"containers":3}']
)
_LABELS = st.dictionaries(
    st.sampled_from(
        ["sidecar.istio.io/inject", "istio.io/rev", "sidecar.istio.io/status", "inject.istio.io/templates", "istio.io/dataplane-mode"]
    ),
    _TEXT,
)
_CONTAINER = st.builds(o.Container, name=_TEXT, image=_TEXT, restart_policy=_TEXT, args=st.lists(_TEXT, max_size=2).map(tuple))
_CONTAINERS = st.lists(_CONTAINER, max_size=3).map(tuple)


@hypothesis.given(labels=_LABELS, annotations=_LABELS, namespace=_LABELS, containers=_CONTAINERS, inits=_CONTAINERS, phase=_TEXT)
@hypothesis.settings(max_examples=150, deadline=None, database=None)
def test_no_pod_breaks_the_rule(
    *,
    labels: dict[str, str],
    annotations: dict[str, str],
    namespace: dict[str, str],
    containers: tuple[o.Container, ...],
    inits: tuple[o.Container, ...],
    phase: str,
) -> None:
    """Whatever a pod looks like, the rule answers, and every finding is a line of text about an object."""
    spec = o.PodSpec(containers=containers, init_containers=inits)
    metadata = o.Metadata(name="x", namespace=b.NAMESPACE, labels=labels, annotations=annotations)
    judgement = exactly_one_sidecar(shop(o.Pod(metadata=metadata, spec=spec, status=o.PodStatus(phase=phase)), labels=namespace))
    assert judgement.examined == 1
    for finding in judgement.findings:
        assert finding.found
        assert "\n" not in finding.found + finding.wanted + finding.fix
