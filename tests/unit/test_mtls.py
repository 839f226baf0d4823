"""Lines 7.1.1, 7.2.3 and 11.1.1: the mTLS mode of every port, as the objects say (checks.md 2.4, 7.1.1, 7.2.3, 11.1.1)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Any

import msgspec
import pytest

from pytest_meshready.cluster import objects as o
from pytest_meshready.cluster.resources import RESOURCES
from pytest_meshready.cluster.snapshot import InjectorConfig, MeshConfig, Snapshot
from pytest_meshready.istio import mtls
from pytest_meshready.istio.mtls import permissive, strict_everywhere, strict_incrementally
from pytest_meshready.istio.ports import port_states
from pytest_meshready.results import Finding, Judgement, Level, Status
from tests.unit import builders as make

OLD, YOUNG = "2026-08-01T00:00:00Z", "2026-08-02T00:00:00Z"
STRICT = make.peerauthentication(mode="STRICT")
PERMISSIVE = make.peerauthentication(mode="PERMISSIVE")
EXCLUDE = "traffic.sidecar.istio.io/excludeInboundPorts"


@dataclass(frozen=True)
class Exempt:
    """An exception as the settings hold it."""

    workload: str
    port: int | None = None
    reason: str = "the appliance speaks no TLS"
    expires: date = date(2026, 12, 31)


def shop(*policies: o.PeerAuthentication, meshed: bool = True, template: dict[str, Any] | None = None, **fields: Any) -> Snapshot:
    """Deployments orders (http 8080) and store (tcp 6000, probed on 8080), two pods and a Service each.

    ``template`` goes into store's pod template, ``fields`` into the snapshot.
    """
    orders = make.deployment("orders")
    store = make.deployment("store", containers=(make.container(ports=(("tcp-store", 6000),)),), **(template or {}))
    defaults: dict[str, Any] = {
        "deployments": (orders, store),
        "pods": (*make.pods_of(orders), *make.pods_of(store, meshed=meshed)),
        "services": (make.service("orders"), make.service("store", ports=(("tcp-store", 6000),))),
        "peerauthentications": policies,
    }
    return make.snapshot(**{**defaults, **fields})


def codes(judgement: Judgement) -> dict[str, Level]:
    return {finding.code: finding.level for finding in judgement.findings}


def only(judgement: Judgement, code: str) -> Finding:
    """The one finding with a code."""
    (found,) = [finding for finding in judgement.findings if finding.code == code]
    return found


def failing(judgement: Judgement) -> dict[str, str]:
    """The errors: the object and what was found."""
    return {f"{item.object.kind}/{item.object.name}": item.found for item in judgement.findings if item.level is Level.ERROR}


# --- 11.1.1 -----------------------------------------------------------------------------------------------------------


def test_the_shop_is_strict_everywhere() -> None:
    """All ports pass: declared ones, those of Services and those that only a probe asks."""
    judgement = strict_everywhere(shop(STRICT))
    assert (judgement.status, judgement.examined, judgement.findings) == (Status.PASSED, 3, ())
    assert judgement.reason == "all 3 ports are STRICT by PeerAuthentication payments/default"


def test_permissive_by_default_fails() -> None:
    """Without any PeerAuthentication everything takes plaintext: one finding about the namespace, which says that nobody decided it."""
    judgement = strict_everywhere(shop())
    why = "PERMISSIVE by Istio's default (no PeerAuthentication sets a mode), so plaintext is taken too"
    assert judgement.status is Status.FAILED
    assert failing(judgement) == {"Namespace/payments": f"orders:8080, store:6000, store:8080 are {why}"}


@pytest.mark.parametrize("namespace", [make.NAMESPACE, make.ISTIO])
def test_a_policy_for_all_is_one_finding(namespace: str) -> None:
    """What a policy of the namespace or of the mesh decides for many workloads is one fault, of the policy."""
    found = only(strict_everywhere(shop(make.peerauthentication(mode="PERMISSIVE", namespace=namespace))), "MR1111-PERMISSIVE")
    assert str(found.object) == f"{namespace}/PeerAuthentication/default"
    assert found.found.startswith("orders:8080, store:6000, store:8080 are PERMISSIVE")


def test_a_port_left_permissive_fails() -> None:
    """A port of a selecting policy is named with the policy and the command that changes it."""
    store = make.peerauthentication("store", "STRICT", selector={"app": "store"}, ports={6000: "PERMISSIVE"})
    found = only(strict_everywhere(shop(STRICT, store)), "MR1111-PERMISSIVE")
    assert (str(found.object), found.level) == ("payments/Deployment/store", Level.ERROR)
    assert found.found == "port 6000 is PERMISSIVE by PeerAuthentication payments/store, so plaintext is taken too"
    assert found.fix == "change it in spec.portLevelMtls: kubectl -n payments edit peerauthentication store"


def test_disable_fails() -> None:
    """A workload whose policy switches mTLS off fails with all its ports in one finding."""
    store = make.peerauthentication("store", "DISABLE", selector={"app": "store"})
    judgement = strict_everywhere(shop(STRICT, store))
    assert failing(judgement) == {
        "Deployment/store": "ports 6000, 8080 are DISABLE by PeerAuthentication payments/store, so only plaintext is taken"
    }


def test_the_ignored_policy_is_named() -> None:
    """Where a younger STRICT policy was meant to do it, the finding says why it does not, and it is shown by itself."""
    younger = make.peerauthentication("strict", "STRICT", created=YOUNG)
    judgement = strict_everywhere(shop(make.peerauthentication(mode="PERMISSIVE", created=OLD), younger))
    assert "PeerAuthentication payments/strict asks for STRICT without effect" in failing(judgement)["PeerAuthentication/default"]
    assert codes(judgement)["MR1111-IGNORED"] is Level.INFO


NO_PROXY: dict[str, tuple[dict[str, Any], str]] = {
    "host network": ({"host_network": True}, "hostNetwork: true"),
    "label of the template": (
        {"labels": {"app": "store", "version": "v1", "sidecar.istio.io/inject": "false"}},
        'sidecar.istio.io/inject: "false"',
    ),
    "older than the injection": ({}, "older than the injection"),
}


@pytest.mark.parametrize(("template", "why"), NO_PROXY.values(), ids=NO_PROXY)
def test_pods_without_a_proxy_fail_whatever_the_policy(template: dict[str, Any], why: str) -> None:
    """STRICT means nothing where no proxy demands it; one finding names the pods and the reason."""
    judgement = strict_everywhere(shop(STRICT, meshed=False, template=template))
    found = only(judgement, "MR1111-NO-PROXY")
    assert judgement.status is Status.FAILED
    assert str(found.object) == "payments/Deployment/store"
    assert found.found.startswith("ports 6000, 8080 have no proxy in front, so no mTLS on 2 of 2 pods (store-")
    assert why in found.found


def test_half_of_the_pods_without_a_proxy() -> None:
    """One pod of two is enough, and only that one is named."""
    store = make.deployment("store")
    pods = make.pods_of(store)
    bare = make.pods_of(store, meshed=False)[1]
    judgement = strict_everywhere(make.snapshot(deployments=(store,), pods=(pods[0], bare), peerauthentications=(STRICT,)))
    assert f"on 1 of 2 pods ({bare.metadata.name})" in only(judgement, "MR1111-NO-PROXY").found


@pytest.mark.parametrize("port", ["6000", "6000,15090"])
def test_an_excluded_port_fails(port: str) -> None:
    """A port that an annotation takes out of the redirection takes plaintext under a STRICT policy."""
    store = make.deployment("store", containers=(make.container(ports=(("tcp-store", 6000),)),), annotations={EXCLUDE: port})
    pods = tuple(_without_setup(pod) for pod in make.pods_of(store))
    judgement = strict_everywhere(make.snapshot(deployments=(store,), pods=pods, peerauthentications=(STRICT,)))
    found = only(judgement, "MR1111-NOT-CAPTURED")
    assert found.level is Level.ERROR
    assert found.found.startswith("port 6000 passes the proxy by and takes plaintext on 2 of 2 pods")
    assert EXCLUDE in found.found


def test_a_port_that_the_injector_excludes_fails() -> None:
    """A default of the injector is as good as an annotation."""
    snapshot = shop(STRICT, injector=InjectorConfig(policy="enabled", exclude_inbound_ports="8080"))
    pods = tuple(_without_setup(pod) for pod in snapshot.pods)
    judgement = strict_everywhere(msgspec.structs.replace(snapshot, pods=pods))
    assert set(failing(judgement)) == {"Deployment/orders", "Deployment/store"}
    assert "excludeInboundPorts of the injector lists it" in failing(judgement)["Deployment/orders"]


def _without_setup(pod: o.Pod) -> o.Pod:
    """The pod without istio-init, so that its annotations and the injector tell what is redirected."""
    inits = tuple(item for item in pod.spec.init_containers if item.name != "istio-init")
    return msgspec.structs.replace(pod, spec=msgspec.structs.replace(pod.spec, init_containers=inits))


def test_ports_that_nothing_is_known_to_serve_only_warn() -> None:
    """A port that only a policy or an annotation names is an opening without a door behind it."""
    store = make.peerauthentication("store", "STRICT", selector={"app": "store"}, ports={9999: "DISABLE"})
    judgement = strict_everywhere(shop(STRICT, store))
    assert judgement.status is Status.WARNED
    assert only(judgement, "MR1111-DISABLE").found.startswith("port 9999 (nothing is known to serve it) is DISABLE")


def test_a_workload_without_ports() -> None:
    """A worker that names no port is judged as a whole, and passes or warns."""
    worker = make.deployment("worker", containers=(make.container(ports=(), readiness=None, liveness=None),))
    fields: dict[str, Any] = {"deployments": (worker,), "pods": make.pods_of(worker)}
    assert strict_everywhere(make.snapshot(**fields, peerauthentications=(STRICT,))).status is Status.PASSED
    found = only(strict_everywhere(make.snapshot(**fields)), "MR1111-PERMISSIVE")
    assert (found.level, found.found.startswith("worker (nothing is known to serve it) is PERMISSIVE")) == (Level.WARNING, True)
    selected = make.peerauthentication("worker", "DISABLE", selector={"app": "worker"})
    found = only(strict_everywhere(make.snapshot(**fields, peerauthentications=(STRICT, selected))), "MR1111-DISABLE")
    assert found.found.startswith("every port (none is declared) is DISABLE")


def test_targets_by_name_and_of_another_number() -> None:
    """The mode is that of the pod's port, whatever number the Service has."""
    store = make.peerauthentication("store", "STRICT", selector={"app": "store"}, ports={6000: "PERMISSIVE", 80: "STRICT"})
    service = make.service("store", ports=(("tcp-store", 80),), target_port="tcp-store")
    judgement = strict_everywhere(shop(STRICT, store, services=(service,)))
    assert list(failing(judgement)) == ["Deployment/store"]
    states = {state.port: state.services for state in port_states(shop(STRICT, services=(service,))).states if state.services}
    assert states == {6000: (("store", 80),)}


@pytest.mark.parametrize("protocol", ["UDP", "SCTP"])
def test_what_no_proxy_carries_is_left_out(protocol: str) -> None:
    """UDP and SCTP have no mTLS in any mode; line 1.1.3 tells of them."""
    container = make.container(ports=(), readiness=None, liveness=None)
    container = msgspec.structs.replace(container, ports=(o.ContainerPort(container_port=53, protocol=protocol),))
    dns = make.deployment("dns", containers=(container,))
    service = o.Service(
        metadata=make.metadata("dns"),
        spec=o.ServiceSpec(selector={"app": "dns"}, ports=(o.ServicePort(name="dns", port=53, protocol=protocol),)),
    )
    states = port_states(make.snapshot(deployments=(dns,), pods=make.pods_of(dns), services=(service,))).states
    assert [state.port for state in states] == [0]


def test_gateways_and_ended_pods_are_left_out() -> None:
    """A gateway's listeners have TLS of their own, and an ended Job answers nobody."""
    done = make.pod("migrate-1", owner="Job/migrate", phase="Succeeded", labels={"app": "migrate"})
    gateway = make.gateway_pod(namespace=make.NAMESPACE)
    judgement = strict_everywhere(make.snapshot(pods=(gateway, done), deployments=(), peerauthentications=(STRICT,)))
    assert (judgement.status, judgement.examined) == (Status.NOT_VERIFIED, 0)
    assert "serves a port" in judgement.reason


def test_a_workload_without_pods_is_judged_by_its_template() -> None:
    """Scaled to nothing, it comes back as its template says."""
    bare = make.deployment("bare", replicas=0, host_network=True)
    judgement = strict_everywhere(make.snapshot(deployments=(bare, make.deployment("orders", replicas=0)), peerauthentications=(STRICT,)))
    assert list(failing(judgement)) == ["Deployment/bare"]
    assert judgement.examined == 2


def test_ambient_pods_obey_the_policies_and_no_annotation() -> None:
    """In an ambient namespace ztunnel demands mTLS, and an annotation of sidecars changes nothing."""
    orders = make.deployment("orders", annotations={EXCLUDE: "8080", "ambient.istio.io/redirection": "enabled"})
    fields: dict[str, Any] = {
        "namespaces": (make.namespace(labels={"istio.io/dataplane-mode": "ambient"}),),
        "deployments": (orders,),
        "peerauthentications": (STRICT,),
        "destinationrules": (make.destinationrule(tls="DISABLE"),),
        "services": (make.service(),),
    }
    assert strict_everywhere(make.snapshot(pods=make.pods_of(orders, meshed=False), **fields)).status is Status.PASSED
    lost = strict_everywhere(make.snapshot(pods=make.pods_of(orders, meshed=False, annotations={}), **fields))
    assert "not redirected to ztunnel" in only(lost, "MR1111-NO-PROXY").found


def test_proxyless_pods_are_not_verified() -> None:
    """Whether a gRPC server without a proxy demands mTLS cannot be seen from objects."""
    pod = make.injected(make.pod(annotations={"inject.istio.io/templates": "grpc-agent"}))
    judgement = strict_everywhere(make.snapshot(pods=(pod,), peerauthentications=(STRICT,)))
    assert judgement.status is Status.NOT_VERIFIED
    assert "without a proxy" in judgement.reason


# --- exceptions of 11.1.1 ---------------------------------------------------------------------------------------------

STORE_OPEN = make.peerauthentication("store", "STRICT", selector={"app": "store"}, ports={6000: "PERMISSIVE"})


@pytest.mark.parametrize("exception", [Exempt("store", 6000), Exempt("store")])
def test_a_listed_port_only_warns(exception: Exempt) -> None:
    """An exception with a reason turns the error into a warning that says until when and why."""
    judgement = strict_everywhere(shop(STRICT, STORE_OPEN), (exception,))
    assert judgement.status is Status.WARNED
    assert only(judgement, "MR1111-PERMISSIVE").found.endswith("; allowed until 2026-12-31: the appliance speaks no TLS")


@pytest.mark.parametrize(("today", "status"), [(date(2026, 12, 31), Status.WARNED), (date(2027, 1, 1), Status.FAILED)])
def test_an_exception_ends_with_its_last_day(today: date, status: Status) -> None:
    """It holds to the end of the day that it names, and afterwards the finding says that it expired."""
    judgement = strict_everywhere(shop(STRICT, STORE_OPEN), (Exempt("store", 6000),), today)
    assert judgement.status is status
    assert ("expired on 2026-12-31" in judgement.reason) is (status is Status.FAILED)


def test_an_exception_that_expired_before_the_snapshot() -> None:
    """Without another day the snapshot's own counts."""
    assert strict_everywhere(shop(STRICT, STORE_OPEN), (Exempt("store", 6000, expires=date(2026, 8, 24)),)).status is Status.FAILED
    assert strict_everywhere(shop(STRICT, STORE_OPEN), (Exempt("store", 6000, expires=date(2026, 8, 25)),)).status is Status.WARNED


def test_an_exception_is_for_its_port_and_workload() -> None:
    """Another port and another workload of the same number stay errors; the unused exception is shown."""
    judgement = strict_everywhere(shop(STRICT, STORE_OPEN), (Exempt("store", 8080), Exempt("orders", 6000)))
    assert judgement.status is Status.FAILED
    assert codes(judgement)["MR1111-UNUSED-EXCEPTION"] is Level.INFO


def test_the_exception_that_lasts_longest_counts() -> None:
    """An expired row for the port does not beat a row for the workload that still holds."""
    rows = (Exempt("store", 6000, expires=date(2020, 1, 1)), Exempt("store"))
    assert strict_everywhere(shop(STRICT, STORE_OPEN), rows).status is Status.WARNED


def test_exceptions_that_cannot_be_dated() -> None:
    """A snapshot without a time cannot say whether an exception still holds."""
    judgement = strict_everywhere(shop(STRICT, STORE_OPEN, taken=""), (Exempt("store", 6000),))
    assert judgement.status is Status.NOT_VERIFIED


def test_a_host_network_workload_can_be_listed() -> None:
    """What cannot have a proxy is excused like any other port."""
    judgement = strict_everywhere(shop(STRICT, meshed=False, template={"host_network": True}), (Exempt("store"),))
    assert judgement.status is Status.WARNED


def test_findings_of_one_workload_have_different_fingerprints() -> None:
    """Two causes in one workload are two faults to every later report."""
    rows = (Exempt("store", 6000), Exempt("store", 8080))
    judgement = strict_everywhere(shop(STRICT, make.peerauthentication("s", "DISABLE", selector={"app": "store"})), rows)
    assert len({finding.fingerprint for finding in judgement.findings}) == len(judgement.findings) == 2


# --- callers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("tls", "level"), [("DISABLE", Level.ERROR), ("SIMPLE", Level.ERROR), ("MUTUAL", Level.WARNING)])
@pytest.mark.parametrize(("rule", "line", "policy"), [(strict_everywhere, "MR1111", STRICT), (permissive, "MR711", PERMISSIVE)])
def test_a_rule_that_keeps_callers_from_mtls(rule: Any, line: str, policy: o.PeerAuthentication, tls: str, level: Level) -> None:
    """A DestinationRule that makes callers send something else is named with the port that wants mTLS."""
    found = only(rule(shop(policy, destinationrules=(make.destinationrule(tls=tls),))), f"{line}-CLIENT-{tls}")
    assert (str(found.object), found.level) == ("payments/DestinationRule/orders", level)
    assert "to orders:8080" in found.found
    assert "kubectl -n payments edit destinationrule orders" in found.fix


def test_one_rule_for_many_services_is_one_finding() -> None:
    """A wildcard is one fault, which names the ports; callers of one namespace are said to be of it."""
    wide = make.destinationrule("wide", "*.payments.svc.cluster.local", tls="DISABLE", export_to=(".",))
    found = only(strict_everywhere(shop(STRICT, destinationrules=(wide,))), "MR1111-CLIENT-DISABLE")
    assert found.found.startswith("it makes callers in payments send plaintext to orders:8080, store:6000")


def test_istio_mutual_is_fine() -> None:
    """To say what automatic mTLS does anyway is no fault."""
    assert strict_everywhere(shop(STRICT, destinationrules=(make.destinationrule(tls="ISTIO_MUTUAL"),))).status is Status.PASSED


def test_plaintext_to_what_takes_plaintext_is_no_second_fault() -> None:
    """Towards a port without a proxy, an excluded or a disabled one, DISABLE is what callers have to send."""
    rule = make.destinationrule("store", "store", tls="DISABLE")
    bare = strict_everywhere(shop(STRICT, meshed=False, template={"host_network": True}, destinationrules=(rule,)))
    disabled = make.peerauthentication("store", "DISABLE", selector={"app": "store"})
    assert set(codes(bare)) == {"MR1111-NO-PROXY"}
    assert set(codes(strict_everywhere(shop(STRICT, disabled, destinationrules=(rule,))))) == {"MR1111-DISABLE"}


def test_a_subset_of_other_pods_does_not_matter() -> None:
    """A subset that selects none of the pods with a proxy may have any TLS; one that selects them may not."""

    def subset(version: str) -> o.DestinationRule:
        off = o.TrafficPolicy(tls=o.ClientTls(mode="DISABLE"))
        return make.destinationrule(subsets=(o.Subset(name="one", labels={"version": version}, traffic_policy=off),))

    assert strict_everywhere(shop(STRICT, destinationrules=(subset("v0"),))).status is Status.PASSED
    assert "subset one" in only(strict_everywhere(shop(STRICT, destinationrules=(subset("v1"),))), "MR1111-CLIENT-DISABLE").found


@pytest.mark.parametrize(("rule", "line", "policy"), [(strict_everywhere, "MR1111", STRICT), (permissive, "MR711", PERMISSIVE)])
def test_automatic_mtls_switched_off(rule: Any, line: str, policy: o.PeerAuthentication) -> None:
    """Without automatic mTLS callers send plaintext, unless a rule says ISTIO_MUTUAL."""
    off = MeshConfig(root_namespace=make.ISTIO, enable_auto_mtls=False)
    found = only(rule(shop(policy, mesh=off)), f"{line}-NO-AUTO-MTLS")
    assert str(found.object) == "istio-system/ConfigMap/istio"
    wide = make.destinationrule("wide", "*.local", namespace=make.ISTIO, tls="ISTIO_MUTUAL")
    assert rule(shop(policy, mesh=off, destinationrules=(wide,))).status is Status.PASSED


def test_a_label_that_hides_the_proxy() -> None:
    """Callers tell by a label whether a pod understands mTLS; a template that sets it otherwise brings plaintext."""
    labels = {"app": "store", "version": "v1", "security.istio.io/tlsMode": "disabled"}
    found = only(strict_everywhere(shop(STRICT, template={"labels": labels})), "MR1111-TLS-LABEL")
    assert str(found.object) == "payments/Deployment/store"


# --- 7.1.1 ------------------------------------------------------------------------------------------------------------


def test_permissive_by_a_policy_passes() -> None:
    """A PeerAuthentication of the namespace, or of the mesh, says PERMISSIVE."""
    for policy in (PERMISSIVE, make.peerauthentication(mode="PERMISSIVE", namespace=make.ISTIO)):
        judgement = permissive(shop(policy))
        assert (judgement.status, judgement.findings) == (Status.PASSED, ())


def test_permissive_only_by_default_warns_once() -> None:
    """Nobody said it, so one finding about the namespace asks to say it."""
    judgement = permissive(shop())
    assert judgement.status is Status.WARNED
    assert str(only(judgement, "MR711-ONLY-DEFAULT").object) == "Namespace/payments"


@pytest.mark.parametrize("mode", ["STRICT", "DISABLE"])
def test_strict_too_early_and_disable_fail(mode: str) -> None:
    """STRICT before its phase locks callers out, DISABLE encrypts nothing."""
    store = make.peerauthentication("store", mode, selector={"app": "store"})
    judgement = permissive(shop(PERMISSIVE, store))
    assert (judgement.status, list(failing(judgement))) == (Status.FAILED, ["Deployment/store"])


def test_a_pod_without_a_proxy_only_warns_in_the_permissive_phase() -> None:
    """It takes plaintext, as PERMISSIVE would; that it has no proxy is the fault of line 4.2.1."""
    judgement = permissive(shop(PERMISSIVE, meshed=False, template={"host_network": True}))
    assert codes(judgement) == {"MR711-NO-PROXY": Level.WARNING}


# --- 7.2.3 ------------------------------------------------------------------------------------------------------------


def test_the_namespace_by_itself_passes() -> None:
    """A STRICT policy of the namespace alone is a step."""
    assert strict_incrementally(shop(STRICT)).status is Status.PASSED


def test_nothing_strict_fails() -> None:
    """The step was not taken at all."""
    judgement = strict_incrementally(shop(PERMISSIVE))
    assert failing(judgement) == {"Namespace/payments": "none of its 3 ports is STRICT"}


def test_some_strict_is_a_step() -> None:
    """One workload is STRICT: what is PERMISSIVE still is only shown."""
    judgement = strict_incrementally(shop(PERMISSIVE, make.peerauthentication("store", "STRICT", selector={"app": "store"})))
    assert (judgement.status, codes(judgement)) == (Status.PASSED, {"MR723-PERMISSIVE": Level.INFO})


def test_a_strict_policy_without_effect_fails() -> None:
    """The younger duplicate says STRICT and istiod does not use it: the policy itself is named."""
    old = make.peerauthentication("default", "PERMISSIVE", created=OLD)
    judgement = strict_incrementally(shop(old, make.peerauthentication("strict", "STRICT", created=YOUNG), STORE_STRICT))
    found = only(judgement, "MR723-IGNORED")
    assert (str(found.object), found.level) == ("payments/PeerAuthentication/strict", Level.ERROR)
    assert "orders:8080 stay PERMISSIVE by PeerAuthentication payments/default" in found.found


STORE_STRICT = make.peerauthentication("store", "STRICT", selector={"app": "store"})


def test_an_ignored_policy_that_changes_nothing_is_only_shown() -> None:
    """Two policies that both say STRICT are untidy, not wrong."""
    judgement = strict_incrementally(shop(STRICT, make.peerauthentication("strict", "STRICT", created="2026-09-01T00:00:00Z")))
    assert (judgement.status, codes(judgement)) == (Status.PASSED, {"MR723-IGNORED": Level.INFO})


def test_a_hole_in_a_strict_policy_warns() -> None:
    """The policy says STRICT and the pod has no proxy: the wire will disagree."""
    judgement = strict_incrementally(shop(STRICT, meshed=False, template={"host_network": True}))
    assert codes(judgement) == {"MR723-NO-PROXY": Level.WARNING}


MESH_STRICT = make.peerauthentication(mode="STRICT", namespace=make.ISTIO, created="2026-08-10T00:00:00Z")
MESHED = (make.namespace(make.ISTIO, labels={}), make.namespace(created=OLD), make.namespace("other"))


def test_the_whole_mesh_first_fails() -> None:
    """This namespace was there, had no STRICT policy of its own, and others are in the mesh too."""
    judgement = strict_incrementally(shop(MESH_STRICT, namespaces=MESHED))
    found = only(judgement, "MR723-MESH-FIRST")
    assert (str(found.object), found.level) == ("istio-system/PeerAuthentication/default", Level.ERROR)


def test_the_namespace_before_the_mesh_passes() -> None:
    """Its own STRICT policy, or one for some of its pods, is older than that of the mesh."""
    for policy in (
        make.peerauthentication(mode="STRICT", created=OLD),
        make.peerauthentication("s", "STRICT", selector={"app": "store"}, created=OLD),
    ):
        assert strict_incrementally(shop(MESH_STRICT, policy, namespaces=MESHED)).status is Status.PASSED


def test_a_younger_policy_of_the_namespace_warns() -> None:
    """A policy made anew has lost its date, so the order is only doubtful."""
    own = make.peerauthentication(mode="STRICT", created="2026-08-11T00:00:00Z")
    assert codes(strict_incrementally(shop(MESH_STRICT, own, namespaces=MESHED))) == {"MR723-MESH-FIRST": Level.WARNING}


def test_a_namespace_born_into_a_strict_mesh_passes() -> None:
    """A namespace younger than the policy of the mesh never had a step to take."""
    born = (*MESHED[:1], make.namespace(created="2026-08-20T00:00:00Z"), MESHED[2])
    assert strict_incrementally(shop(MESH_STRICT, namespaces=born)).status is Status.PASSED


def test_the_only_namespace_of_the_mesh_passes() -> None:
    """The whole mesh is one namespace."""
    assert strict_incrementally(shop(MESH_STRICT, namespaces=MESHED[:2])).status is Status.PASSED


def test_two_declared_namespaces_within_a_day_warn() -> None:
    """Only namespaces that the team declared are compared, and 24 hours are enough."""
    other = make.peerauthentication(mode="STRICT", namespace="other", created="2026-08-25T06:12:31Z")
    judgement = strict_incrementally(shop(STRICT, other), ("payments", "other"))
    found = only(judgement, "MR723-TOO-FAST")
    assert (str(found.object), found.level) == ("payments/PeerAuthentication/default", Level.WARNING)
    assert "2 h after other/default" in found.found
    assert strict_incrementally(shop(STRICT, other)).status is Status.PASSED
    apart = make.peerauthentication(mode="STRICT", namespace="other", created="2026-08-24T08:12:31Z")
    assert strict_incrementally(shop(STRICT, apart), ("payments", "other", "other")).status is Status.PASSED


def test_a_declared_namespace_that_was_not_read() -> None:
    """Its step cannot be compared; where the list was refused, the missing right is named. A list without one is an answer."""
    judgement = strict_incrementally(shop(STRICT), ("payments", "other"))
    assert judgement.status is Status.NOT_VERIFIED
    assert judgement.reason == "PeerAuthentications of namespace other were not read, so its step to STRICT cannot be compared"
    read = tuple(key for key in shop().read if key != "peerauthentications")
    refused: dict[str, Any] = {
        "declared_namespaces": ("other",),
        "read": read,
        "refusals": (make.refusal("peerauthentications", namespace="other"),),
    }
    judgement = strict_incrementally(shop(STRICT, **refused), ("payments", "other"))
    assert [(item.verb, item.resource, item.namespace) for item in judgement.unknown] == [
        ("list", "peerauthentications.security.istio.io", "other")
    ]
    assert strict_incrementally(shop(STRICT, declared_namespaces=("other",)), ("payments", "other")).status is Status.PASSED


def test_the_whole_mesh_before_another_declared_namespace_warns() -> None:
    """Its policies were read; a policy that was deleted afterwards leaves no trace, so it is no error."""
    own = make.peerauthentication(mode="STRICT", created=OLD)
    spaces = (*MESHED[:2], make.namespace("other", created=OLD))
    known: dict[str, Any] = {"namespaces": spaces, "declared_namespaces": ("payments", "other")}
    judgement = strict_incrementally(shop(MESH_STRICT, own, **known), ("payments", "other"))
    found = only(judgement, "MR723-MESH-BEFORE")
    assert (str(found.object), found.level) == ("istio-system/PeerAuthentication/default", Level.WARNING)
    assert found.found == "it makes the whole mesh STRICT since 2026-08-10T00:00:00Z; no STRICT policy of other is older"
    before = make.peerauthentication(mode="STRICT", namespace="other", created="2026-08-09T00:00:00Z")
    assert strict_incrementally(shop(MESH_STRICT, own, before, **known), ("payments", "other")).status is Status.PASSED
    assert strict_incrementally(shop(MESH_STRICT, own, **known), ("payments",)).status is Status.PASSED


# --- what could not be read -------------------------------------------------------------------------------------------

RULES = [permissive, strict_incrementally, strict_everywhere]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("key", ["pods", "services", "peerauthentications", "deployments"])
def test_a_refused_list_is_not_verified(rule: Any, key: str) -> None:
    """Without the list nothing is said of what it holds: no pass, and no fault of Istio's default."""
    judgement = rule(msgspec.structs.replace(shop(), **{key: (), "refusals": (make.refusal(key),)}))
    assert judgement.status is Status.NOT_VERIFIED or key in ("services", "deployments")
    assert f"not permitted: list {RESOURCES[key].rbac_name} in payments" in [item.reason for item in judgement.unknown]
    if key == "peerauthentications":
        assert not judgement.findings


def test_the_policies_of_the_mesh_matter_only_where_they_decide() -> None:
    """A namespace that decides for itself is verified without rights elsewhere; one that inherits is not."""
    refused = (make.refusal("peerauthentications", namespace=make.ISTIO),)
    assert strict_everywhere(shop(STRICT, refusals=refused)).status is Status.PASSED
    inherits = strict_everywhere(shop(refusals=refused))
    assert (inherits.status, inherits.findings) == (Status.NOT_VERIFIED, ())


def test_a_right_missing_elsewhere_does_not_matter() -> None:
    """Lists of the control plane's namespace hold none of the pods that are judged."""
    refused = tuple(make.refusal(key, namespace=make.ISTIO) for key in ("pods", "services", "deployments"))
    assert strict_everywhere(shop(STRICT, refusals=refused)).status is Status.PASSED


def test_without_the_mesh_configuration() -> None:
    """The root namespace and automatic mTLS are not known then."""
    judgement = strict_everywhere(shop(STRICT, mesh=None))
    assert judgement.status is Status.NOT_VERIFIED
    assert "istio-system/ConfigMap/istio" in judgement.reason


@pytest.mark.parametrize("namespace", [make.NAMESPACE, make.ISTIO])
def test_destination_rules_that_could_not_be_read(namespace: str) -> None:
    """What callers send is not known, and automatic mTLS is not blamed for it."""
    off = MeshConfig(root_namespace=make.ISTIO, enable_auto_mtls=False)
    judgement = strict_everywhere(shop(STRICT, mesh=off, refusals=(make.refusal("destinationrules", namespace=namespace),)))
    assert (judgement.status, judgement.findings) == (Status.NOT_VERIFIED, ())


def test_istios_kinds_not_installed() -> None:
    """A server that does not know PeerAuthentications has none: Istio's default holds."""
    refused = (make.refusal("peerauthentications", absent=True), make.refusal("destinationrules", absent=True))
    assert strict_everywhere(shop(refusals=refused)).status is Status.FAILED


def test_a_mode_that_istio_does_not_have() -> None:
    """Nobody can say what it means, so the ports are not verified."""
    judgement = strict_everywhere(shop(make.peerauthentication(mode="MAYBE")))
    assert judgement.status is Status.NOT_VERIFIED
    assert "payments/PeerAuthentication/default sets a mode that Istio does not have" in judgement.reason


@pytest.mark.parametrize("rule", RULES)
def test_an_empty_namespace_is_not_verified(rule: Any) -> None:
    """A rule that saw nothing does not pass."""
    assert rule(make.snapshot()).status is Status.NOT_VERIFIED


def test_the_kinds_that_the_rules_read_exist() -> None:
    """The catalogue can name them."""
    assert set(mtls.READS) <= set(RESOURCES)
