"""Line 7.1.2, live: what calls from inside the mesh say of each Service port."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from pytest_meshready.cluster import objects as o
from pytest_meshready.istio import reach
from pytest_meshready.probes.messages import Outcome
from pytest_meshready.results import Judgement, Status
from tests.unit import builders as make
from tests.unit import wires


def codes(judgement: Judgement) -> list[tuple[str, str, str]]:
    return [(item.code, item.level.value, str(item.object)) for item in judgement.findings]


def test_healthy_shop_is_reached() -> None:
    """403 of the proxies, grpc-status 7, a greeting and a silent open connection all show that the way is open."""
    judgement = reach.reachable(wires.seen(wires.shop()))
    assert (judgement.status, judgement.findings, judgement.unknown) == (Status.PASSED, (), ())
    assert judgement.summary == (
        "4 Service ports were reached from inside the mesh; 2 of them refused the call by policy, so the application behind was not asked"
    )
    rows = {row["port"]: row["result"] for row in judgement.evidence[0].data}
    assert rows == {
        "orders:8080": "answers 403",
        "quotes:7070": "answers grpc-status 7",
        "quotes:9091": "greets the client",
        "store:6000": "keeps a silent connection open, so somebody listens",
    }
    assert all(row["handshake"].startswith("the same port answered") for row in judgement.evidence[0].data)


UPSTREAM = {"outcome": Outcome.ANSWERED, "status": 503, "body": "upstream connect error or disconnect/reset before headers"}


@pytest.mark.parametrize(
    ("place", "answer", "expected"),
    [
        ("orders:8080", {"status": 200, "body": "{}"}, Status.PASSED),
        ("orders:8080", {"status": 404, "body": ""}, Status.PASSED),
        ("orders:8080", {"status": 403, "body": "no entry"}, Status.PASSED),
        ("orders:8080", UPSTREAM, Status.FAILED),
        ("orders:8080", {"status": 504, "body": ""}, Status.FAILED),
        ("orders:8080", {"status": 500, "body": ""}, Status.WARNED),
        ("quotes:7070", {"grpc_status": 12}, Status.PASSED),
        ("quotes:7070", {"grpc_status": 14}, Status.FAILED),
        ("quotes:7070", {"grpc_status": None, "status": 403, "body": "RBAC: access denied"}, Status.PASSED),
        # a service bound to localhost ends a silent connection within 0.1 s
        ("store:6000", {"outcome": Outcome.EOF, "ending": "eof", "seconds": 0.02}, Status.FAILED),
        ("store:6000", {"outcome": Outcome.RESET, "ending": "reset", "seconds": 0.02}, Status.FAILED),
        # later, or in another way, it decides nothing
        ("store:6000", {"outcome": Outcome.EOF, "ending": "eof", "seconds": 1.4}, Status.NOT_VERIFIED),
        ("store:6000", {"outcome": Outcome.UNRESOLVED}, Status.NOT_VERIFIED),
        ("store:6000", {"outcome": Outcome.ERROR, "error": "the probe was evicted"}, Status.NOT_VERIFIED),
        ("orders:8080", {"outcome": Outcome.EOF, "status": 0}, Status.NOT_VERIFIED),
        # the pods answer their handshakes in this run, so it is not the network
        ("orders:8080", {"outcome": Outcome.TIMEOUT, "status": 0, "seconds": 5.0}, Status.FAILED),
    ],
)
def test_one_call(place: str, answer: Mapping[str, Any], expected: Status) -> None:
    """What each answer makes of the line."""
    judgement = reach.reachable(wires.seen(wires.shop(), calls={place: answer}))
    assert judgement.status is expected, judgement.reason


def test_timeout_without_a_control_decides_nothing() -> None:
    """Where the pods did not answer a handshake either, a policy of the network may shut our probes out."""
    silence = {"outcome": Outcome.TIMEOUT}
    dead: wires.Behaviour = {"h2": lambda _: silence, "istio": lambda _: silence, "plain": lambda _: silence}
    seen = wires.seen(wires.shop(), {"orders:8080": dead}, calls={"orders:8080": {"outcome": Outcome.TIMEOUT, "status": 0, "seconds": 5.0}})
    assert reach.reachable(seen).status is Status.NOT_VERIFIED


def test_lost_answer_is_not_verified() -> None:
    """A call whose answer was lost says nothing."""
    judgement = reach.reachable(wires.seen(wires.shop(), answers={"call|orders:8080": None}))
    assert [item.reason for item in judgement.unknown] == ["orders:8080: the call was not answered by the probe"]


# --- causes -----------------------------------------------------------------------------------------------------------


def test_client_disables_mtls() -> None:
    """A DestinationRule that switches TLS off towards a STRICT port is the object at fault."""
    rule = make.destinationrule("orders", tls="DISABLE")
    judgement = reach.reachable(wires.seen(wires.shop(destinationrules=(rule,)), calls={"orders:8080": UPSTREAM}))
    assert codes(judgement) == [("MR712-UNREACHABLE", "error", "payments/DestinationRule/orders")]
    assert "makes callers use TLS mode DISABLE (trafficPolicy)" in judgement.findings[0].found
    assert judgement.findings[0].fix.endswith("kubectl -n payments edit destinationrule orders")


def test_bound_to_localhost() -> None:
    """Nobody listens on the pod's address: the Service, and what to do."""
    judgement = reach.reachable(wires.seen(wires.shop(), calls={"store:6000": {"outcome": Outcome.EOF, "seconds": 0.006}}))
    assert codes(judgement) == [("MR712-UNREACHABLE", "error", "payments/Service/store")]
    assert judgement.findings[0].found == (
        "store:6000 ends a connection after 6 ms, before the client sent a byte: nobody seems to listen on the pods' address at port 6000"
    )
    assert "127.0.0.1" in judgement.findings[0].fix


def test_excluded_port_cannot_be_called() -> None:
    """Callers send mutual TLS to a pod with a proxy; a port that passes it by does not understand them."""
    annotations = {"traffic.sidecar.istio.io/excludeInboundPorts": "8080"}
    deployment = make.deployment("orders", replicas=1, annotations=annotations)
    snapshot = wires.shop(deployments=(deployment,), pods=make.pods_of(deployment), services=(make.service("orders"),))
    judgement = reach.reachable(wires.seen(snapshot, {"orders:8080": wires.NAKED_HTTP}, calls={"orders:8080": UPSTREAM}))
    assert codes(judgement) == [("MR712-UNREACHABLE", "error", "payments/Deployment/orders")]
    assert "excludeInboundPorts lists it, so no proxy understands it" in judgement.findings[0].found


def test_tcp_declared_http() -> None:
    """The policy answers before the application could, so only the names tell that it speaks something else."""
    services = tuple(
        make.service("store", ports=(("http-store", 6000),)) if item.metadata.name == "store" else item for item in wires.shop().services
    )
    denied = {"outcome": Outcome.ANSWERED, "status": 403, "body": "RBAC: access denied"}
    judgement = reach.reachable(wires.seen(wires.shop(services=services), calls={"store:6000": denied}))
    assert codes(judgement) == [("MR712-PROTOCOL", "warning", "payments/Service/store")]
    answered = {"outcome": Outcome.ANSWERED, "status": 200, "body": ""}
    assert reach.reachable(wires.seen(wires.shop(services=services), calls={"store:6000": answered})).status is Status.PASSED


def test_service_without_ready_pods() -> None:
    """Callers of a Service that should have pods and has none ready get errors."""
    deployment = make.deployment("orders", replicas=1)
    snapshot = wires.shop(deployments=(deployment,), pods=make.pods_of(deployment, ready=False), services=(make.service("orders"),))
    judgement = reach.reachable(wires.seen(snapshot))
    assert codes(judgement) == [("MR712-NO-PODS", "error", "payments/Service/orders")]


@pytest.mark.parametrize("deployments", [(), (make.deployment("orders", replicas=0),)])
def test_service_that_leads_nowhere_on_purpose(deployments: tuple[o.Deployment, ...]) -> None:
    """A Service that selects nothing, or what is scaled to zero, warns."""
    snapshot = wires.shop(deployments=deployments, pods=(), services=(make.service("orders"),))
    assert codes(reach.reachable(wires.seen(snapshot))) == [("MR712-NO-PODS", "warning", "payments/Service/orders")]


def test_namespace_without_services_is_not_verified() -> None:
    """Nothing to call is nothing shown."""
    assert reach.reachable(wires.seen(wires.shop(services=()))).status is Status.NOT_VERIFIED


def test_uncallable_port_is_not_verified() -> None:
    """A port whose protocol nobody declares cannot be called without a byte, and the line says so."""
    store = make.service("store", ports=(("store", 6000),))
    container = make.container(ports=wires.SHOP["store"], readiness=None)
    deployment = make.deployment("store", replicas=1, containers=(container,))
    snapshot = wires.shop(deployments=(deployment,), pods=make.pods_of(deployment), services=(store,))
    judgement = reach.reachable(wires.seen(snapshot))
    assert judgement.status is Status.NOT_VERIFIED
    assert "it declares no protocol" in judgement.unknown[0].reason


# --- once more --------------------------------------------------------------------------------------------------------


def test_nothing_to_repeat_where_all_is_well() -> None:
    """A healthy namespace is asked once."""
    plan = reach.doubtful(wires.seen(wires.shop()))
    assert (plan.unmeshed, plan.meshed) == ((), ())


def test_what_is_repeated() -> None:
    """Failed calls, undecided and disagreeing ports, and proxies that were not ready; nothing else."""
    silence = {"outcome": Outcome.TIMEOUT}
    dead: wires.Behaviour = {"h2": lambda _: silence, "istio": lambda _: silence}
    seen = wires.seen(
        wires.shop(),
        {"store:6000": dead, "quotes:7070": wires.PERMISSIVE_HTTP},
        calls={"orders:8080": UPSTREAM},
        answers={"ready|orders-7f76cb76bc-p0000": None},
    )
    plan = reach.doubtful(seen)
    assert [ask.id for ask in plan.meshed] == ["call|orders:8080"]
    assert {ask.id for ask in plan.unmeshed} == {
        *(f"{kind}|store-7f76cb76bc-p0000:6000" for kind in ("h2", "istio", "plain")),
        *(f"{kind}|quotes-7f76cb76bc-p0000:7070" for kind in ("h2", "istio", "plain")),
        "ready|orders-7f76cb76bc-p0000",
    }
