"""Lines 7.1.1, 7.2.1, 7.2.2, 7.2.3 and 11.1.1: what the wire makes of them, and the causes that findings name."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from pytest_meshready.cluster import objects as o
from pytest_meshready.cluster.snapshot import Snapshot
from pytest_meshready.istio import wire_lines
from pytest_meshready.istio.wire import Observed
from pytest_meshready.probes.messages import Outcome
from pytest_meshready.results import Judgement, Level, Status
from tests.unit import builders as make
from tests.unit import loopback, wires

Rule = Callable[[Observed], Judgement]

PERMISSIVE_EVERYWHERE: dict[str, wires.Behaviour] = {
    "orders:8080": wires.PERMISSIVE_HTTP,
    "store:6000": wires.PERMISSIVE_TCP_DENIED,
    "store:8080": wires.PERMISSIVE_TCP_DENIED,
    "quotes:7070": wires.PERMISSIVE_HTTP,
    "quotes:8080": wires.PERMISSIVE_TCP_DENIED,
    "quotes:9091": wires.PERMISSIVE_TCP_DENIED,
}


@dataclass(frozen=True)
class Allowed:
    """A port that need not be STRICT."""

    workload: str
    port: int | None
    reason: str
    expires: dt.date


def codes(judgement: Judgement) -> list[tuple[str, str, str]]:
    return [(item.code, item.level.value, str(item.object)) for item in judgement.findings]


def naked() -> Snapshot:
    """``orders`` without a sidecar, because its template says so."""
    labels = {"app": "orders", "version": "v1", "sidecar.istio.io/inject": "false"}
    deployment = make.deployment("orders", replicas=1, labels=labels, service_account_name="orders")
    return wires.shop(deployments=(deployment,), pods=make.pods_of(deployment, meshed=False), services=(make.service("orders"),))


def excluded() -> Snapshot:
    """``orders`` whose annotation takes the port out of the proxy."""
    annotations = {"traffic.sidecar.istio.io/excludeInboundPorts": "8080"}
    deployment = make.deployment("orders", replicas=1, annotations=annotations, service_account_name="orders")
    return wires.shop(deployments=(deployment,), pods=make.pods_of(deployment), services=(make.service("orders"),))


# --- all is well ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rule", [wire_lines.compatible, wire_lines.identified, wire_lines.legacy, wire_lines.strict, wire_lines.strict_everywhere]
)
def test_strict_shop_passes(rule: Rule) -> None:
    """Every port resets plaintext and answers handshakes as the right account; each row names its control."""
    judgement = rule(wires.seen(wires.shop()))
    assert (judgement.status, judgement.findings, judgement.unknown) == (Status.PASSED, (), ())
    assert judgement.examined == 6
    rows = judgement.evidence[0].data
    assert {row["control"] for row in rows} == {
        f"the same port answered a TLS handshake with spiffe://cluster.local/ns/payments/sa/{name}" for name in wires.SHOP
    }


def test_permissive_shop_passes_in_its_phase() -> None:
    """Line 7.1.1: mutual TLS is offered and plaintext answered, on HTTP, gRPC and TCP."""
    judgement = wire_lines.permissive(wires.seen(wires.shop(policies=(wires.PERMISSIVE,)), PERMISSIVE_EVERYWHERE))
    assert (judgement.status, judgement.findings) == (Status.PASSED, ())


# --- faults -----------------------------------------------------------------------------------------------------------


def test_no_sidecar() -> None:
    """A pod without a proxy answers plaintext; the finding names the workload and the cause."""
    seen = wires.seen(naked(), {"orders:8080": wires.NAKED_HTTP})
    judgement = wire_lines.strict_everywhere(seen)
    assert codes(judgement) == [("MR1111-WIRE-OPEN", "error", "payments/Deployment/orders")]
    assert judgement.findings[0].found == (
        "port 8080 of orders-7f76cb76bc-p0000: a plaintext request is answered with 200; "
        'the pod template has the label sidecar.istio.io/inject: "false"'
    )
    assert codes(wire_lines.permissive(seen)) == [("MR711-WIRE-OPEN", "warning", "payments/Deployment/orders")]
    assert codes(wire_lines.compatible(seen)) == [("MR721-WIRE-OPEN", "error", "payments/Deployment/orders")]
    assert wire_lines.legacy(seen).status is Status.PASSED


def test_port_that_shows_no_identity_is_not_verified() -> None:
    """Line 7.3.2: why a port speaks plaintext is for other lines to say; here nobody proved who answers."""
    judgement = wire_lines.identified(wires.seen(naked(), {"orders:8080": wires.NAKED_HTTP}))
    assert (judgement.status, judgement.findings) == (Status.NOT_VERIFIED, ())
    assert "payments/Deployment/orders: port 8080" in judgement.unknown[0].reason


def test_host_network() -> None:
    """A pod on the node's network is not injected, and that is the cause named."""
    deployment = make.deployment("orders", replicas=1, host_network=True)
    pods = make.pods_of(deployment, meshed=False)
    snapshot = wires.shop(deployments=(deployment,), pods=pods, services=(make.service("orders"),))
    (finding,) = wire_lines.strict_everywhere(wires.seen(snapshot, {"orders:8080": wires.NAKED_HTTP})).findings
    assert "hostNetwork: true" in finding.found


def test_port_excluded() -> None:
    """Everything says STRICT, and the annotation that takes the port out of the proxy is named."""
    judgement = wire_lines.strict_everywhere(wires.seen(excluded(), {"orders:8080": wires.NAKED_HTTP}))
    assert codes(judgement) == [("MR1111-WIRE-OPEN", "error", "payments/Deployment/orders")]
    assert "the annotation traffic.sidecar.istio.io/excludeInboundPorts lists it" in judgement.findings[0].found


def test_port_permissive() -> None:
    """A port level exception in a policy is named as what opens the port."""
    hole = make.peerauthentication("hole", None, selector={"app": "orders"}, ports={8080: "PERMISSIVE"})
    seen = wires.seen(wires.shop(policies=(wires.STRICT, hole)), {"orders:8080": wires.PERMISSIVE_HTTP})
    (finding,) = wire_lines.strict_everywhere(seen).findings
    assert "PERMISSIVE by PeerAuthentication payments/hole" in finding.found
    assert finding.fix == "change the mode there: kubectl -n payments edit peerauthentication hole"
    assert wire_lines.strict(seen).status is Status.PASSED, "the port is not meant to be STRICT"


def test_strict_ignored() -> None:
    """Line 7.2.3: a younger policy that asks for STRICT is ignored; the wire shows it, the finding names both."""
    older = make.peerauthentication("migration", "PERMISSIVE", created="2026-01-01T00:00:00Z")
    younger = make.peerauthentication("default", "STRICT", created="2026-06-01T00:00:00Z")
    seen = wires.seen(wires.shop(policies=(older, younger)), PERMISSIVE_EVERYWHERE)
    judgement = wire_lines.strict(seen)
    assert judgement.status is Status.FAILED
    assert {str(item.object) for item in judgement.findings} == {f"payments/Deployment/{name}" for name in wires.SHOP}
    assert "PeerAuthentication payments/default asks for STRICT without effect" in judgement.findings[0].found


def test_mtls_disabled() -> None:
    """Line 7.1.1: a workload whose mutual TLS is off fails, the others pass."""
    off = make.peerauthentication("orders", "DISABLE", selector={"app": "orders"})
    seen = wires.seen(wires.shop(policies=(wires.PERMISSIVE, off)), {**PERMISSIVE_EVERYWHERE, "orders:8080": wires.NAKED_HTTP})
    assert codes(wire_lines.permissive(seen)) == [("MR711-WIRE-OPEN", "error", "payments/Deployment/orders")]


def test_strict_too_early() -> None:
    """Line 7.1.1 fails where callers without a proxy are cut off already."""
    judgement = wire_lines.permissive(wires.seen(wires.shop()))
    assert [code for code, _, _ in codes(judgement)] == ["MR711-WIRE-STRICT"] * 3


def test_stale_proxy() -> None:
    """Configuration and wire disagree: the finding says so, and asks whether the proxy has its configuration."""
    seen = wires.seen(wires.shop(), {"orders:8080": wires.PERMISSIVE_HTTP})
    (finding,) = wire_lines.strict_everywhere(seen).findings
    assert finding.code == "MR1111-WIRE-OPEN"
    assert "the configuration says STRICT by PeerAuthentication payments/default, so its proxy does not do what it is told" in finding.found
    assert "istioctl proxy-status orders-7f76cb76bc-p0000.payments" in finding.fix
    assert codes(wire_lines.legacy(seen)) == [("MR722-DISAGREES", "error", "payments/Deployment/orders")]


def test_stricter_than_configured() -> None:
    """A proxy that still demands what the configuration no longer does is a disagreement, and its refusal is not proved."""
    seen = wires.seen(wires.shop(policies=(wires.PERMISSIVE,)), {**PERMISSIVE_EVERYWHERE, "orders:8080": wires.STRICT_PORT})
    judgement = wire_lines.compatible(seen)
    assert codes(judgement) == [("MR721-DISAGREES", "warning", "payments/Deployment/orders")]
    assert "the wire says STRICT" in judgement.findings[0].found


@pytest.mark.parametrize(
    "rule", [wire_lines.compatible, wire_lines.identified, wire_lines.strict, wire_lines.strict_everywhere, wire_lines.permissive]
)
def test_wrong_identity_fails(rule: Rule) -> None:
    """Whoever answers with another identity than its pod's is found, also where it refuses plaintext."""
    chain = wires.chain("spiffe://cluster.local/ns/payments/sa/default")
    fields = {"outcome": Outcome.TLS_ALERT, "certificate_chain": chain, "connect_seconds": 0.001}
    judgement = rule(wires.seen(wires.shop(), {"orders:8080": {"h2": lambda _: fields, "istio": lambda _: fields}}))
    identities = [item for item in judgement.findings if item.code.endswith("-IDENTITY")]
    assert [str(item.object) for item in identities] == ["payments/Deployment/orders"]
    assert identities[0].level is Level.ERROR


# --- exceptions -------------------------------------------------------------------------------------------------------

TODAY = loopback.NOW.date()


@pytest.mark.parametrize(
    ("exception", "level"),
    [
        (Allowed("orders", 8080, "legacy billing", TODAY), "warning"),
        (Allowed("orders", None, "legacy billing", TODAY), "warning"),
        (Allowed("orders", 8080, "legacy billing", TODAY - dt.timedelta(days=1)), "error"),
        (Allowed("orders", 9999, "legacy billing", TODAY), "error"),
        (Allowed("store", None, "legacy billing", TODAY), "error"),
    ],
)
def test_exceptions_warn_until_they_expire(exception: Allowed, level: str) -> None:
    """A port that is excepted with a reason warns, and fails again the day after."""
    hole = make.peerauthentication("hole", "PERMISSIVE", selector={"app": "orders"})
    seen = wires.seen(wires.shop(policies=(wires.STRICT, hole)), {"orders:8080": wires.PERMISSIVE_HTTP})
    judgement = wire_lines.strict_everywhere(seen, (exception,), TODAY)
    assert [found[1] for found in codes(judgement)] == [level]
    assert ("legacy billing" in judgement.findings[0].found) is (level == "warning")


# --- what is not known ------------------------------------------------------------------------------------------------


def test_undecided_ports_are_not_verified() -> None:
    """EOF and silence make a port not verified, one sentence for all ports that ended alike."""
    silence = {"outcome": Outcome.TIMEOUT}
    dead: wires.Behaviour = {"h2": lambda _: silence, "istio": lambda _: silence, "plain": lambda _: silence}
    judgement = wire_lines.strict_everywhere(wires.seen(wires.shop(), {"store:6000": dead, "orders:8080": dead}))
    assert judgement.status is Status.NOT_VERIFIED
    assert [item.reason for item in judgement.unknown] == [
        "orders-7f76cb76bc-p0000:8080, store-7f76cb76bc-p0000:6000: a TLS handshake timed out: no connection was made"
    ]


def test_nothing_asked_is_not_verified() -> None:
    """A namespace without ready pods proves nothing."""
    judgement = wire_lines.strict_everywhere(wires.seen(wires.shop(deployments=(), pods=(), services=())))
    assert judgement.status is Status.NOT_VERIFIED


def test_workload_without_ready_pods_is_not_verified() -> None:
    """Where a workload should have pods and none is ready, its ports stay open questions."""
    deployment = make.deployment("orders", replicas=1)
    snapshot = wires.shop(deployments=(deployment,), pods=make.pods_of(deployment, ready=False), services=(make.service("orders"),))
    judgement = wire_lines.strict_everywhere(wires.seen(snapshot))
    assert [item.reason for item in judgement.unknown] == ["port 8080 of payments/Deployment/orders: no pod is ready, so nothing was asked"]


def test_scaled_to_zero_is_nothing_to_ask() -> None:
    """A workload that should have no pods leaves no question open."""
    deployment = make.deployment("store", replicas=0, containers=(make.container(ports=wires.SHOP["store"]),))
    healthy = wires.shop()
    deployments = tuple(item for item in healthy.deployments if item.metadata.name != "store")
    pods = tuple(pod for pod in healthy.pods if pod.metadata.labels["app"] != "store")
    judgement = wire_lines.strict_everywhere(wires.seen(wires.shop(deployments=(*deployments, deployment), pods=pods)))
    assert judgement.status is Status.PASSED


def test_no_strict_port_is_not_verified() -> None:
    """Line 7.2.3 has no refusal to prove where nothing asks for STRICT."""
    judgement = wire_lines.strict(wires.seen(wires.shop(policies=(wires.PERMISSIVE,)), PERMISSIVE_EVERYWHERE))
    assert judgement.status is Status.NOT_VERIFIED


def test_permissive_without_an_answer() -> None:
    """Line 7.1.1: mutual TLS is offered, but that plaintext is answered was not seen."""
    behaviour = {**wires.PERMISSIVE_HTTP, "get": lambda _: {"outcome": Outcome.TIMEOUT}}
    judgement = wire_lines.permissive(
        wires.seen(wires.shop(policies=(wires.PERMISSIVE,)), {**PERMISSIVE_EVERYWHERE, "orders:8080": behaviour})
    )
    assert judgement.status is Status.NOT_VERIFIED


def test_what_is_not_covered_is_in_the_evidence() -> None:
    """A Service port that was not asked stands there with its reason."""
    outside = make.service("saas", selector={}, type="ExternalName", external_name="api.example.com")
    judgement = wire_lines.strict_everywhere(wires.seen(wires.shop(services=(*wires.shop().services, outside))))
    rows = next(item.data for item in judgement.evidence if item.source == "Service ports that were not asked")
    assert rows == [{"port": "saas:8080", "not covered because": "it is only another name for api.example.com"}]


def test_one_finding_for_a_workload() -> None:
    """Two pods of one workload with the same fault are one finding that names both; two causes are two findings."""
    deployment = make.deployment("orders", replicas=2)
    snapshot = wires.shop(deployments=(deployment,), pods=make.pods_of(deployment), services=(make.service("orders"),), policies=())
    judgement = wire_lines.strict_everywhere(wires.seen(snapshot, {"orders:8080": wires.PERMISSIVE_HTTP}))
    assert len(judgement.findings) == 1
    assert "orders-7f76cb76bc-p0000, orders-7f76cb76bc-p0001" in judgement.findings[0].found
    assert len({item.fingerprint for item in judgement.findings}) == 1


def test_ambient_is_not_verified() -> None:
    """Ports behind a ztunnel are said not to be asked: why, and what would tell."""
    annotations = {"ambient.istio.io/redirection": "enabled"}
    deployment = make.deployment("orders", replicas=1)
    pods = make.pods_of(deployment, meshed=False, annotations=annotations)
    snapshot = wires.shop(deployments=(deployment,), pods=pods, services=(make.service("orders"),))
    judgement = wire_lines.strict_everywhere(wires.seen(snapshot))
    assert judgement.status is Status.NOT_VERIFIED
    (unknown,) = judgement.unknown
    assert unknown.reason.startswith("orders is ambient: mutual TLS is spoken between the nodes' ztunnels on port 15008, not on")
    assert "istioctl ztunnel-config workloads" in unknown.reason


def test_fingerprint_survives_new_pods() -> None:
    """A rollout changes the pods' names, not the fault."""

    def fingerprint(hash_: str) -> str:
        deployment = make.deployment("orders", replicas=1)
        pods: tuple[o.Pod, ...] = make.pods_of(deployment, hash_=hash_)
        snapshot = wires.shop(deployments=(deployment,), pods=pods, services=(make.service("orders"),), policies=())
        return wire_lines.strict_everywhere(wires.seen(snapshot, {"orders:8080": wires.PERMISSIVE_HTTP})).findings[0].fingerprint

    assert fingerprint("7f76cb76bc") == fingerprint("5d4f8c7b9")
