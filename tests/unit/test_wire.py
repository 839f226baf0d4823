"""What is asked of each port, and what the answers of ports.md say of it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import pytest

from pytest_meshready.cluster import objects as o
from pytest_meshready.cluster import objects_certificates as facts
from pytest_meshready.cluster.snapshot import Snapshot
from pytest_meshready.istio import wire
from pytest_meshready.istio.targets import Target, targets
from pytest_meshready.istio.wire import Wire
from pytest_meshready.probes import certificates
from pytest_meshready.probes.messages import Answer, Ask, Op, Outcome
from tests.unit import builders as make
from tests.unit import loopback, wires
from tests.unit.loopback import Authority, der

NAKED = make.deployment("orders", replicas=1)


def one(policy: o.PeerAuthentication = wires.STRICT, **fields: Any) -> Any:
    """A snapshot of ``orders`` alone."""
    deployment = make.deployment("orders", replicas=1)
    return wires.shop(
        **{
            "policies": (policy,),
            "deployments": (deployment,),
            "pods": make.pods_of(deployment),
            "services": (make.service("orders"),),
            **fields,
        }
    )


def kinds(asks: tuple[Ask, ...], port: int) -> list[str]:
    return [ask.id.partition("|")[0] for ask in asks if ask.port == port]


# --- what is asked ----------------------------------------------------------------------------------------------------


def test_strict_ports_get_five_bytes_and_no_request() -> None:
    """Under STRICT: two ClientHellos and five bytes of plaintext, which are blank lines, on every port."""
    plan = wire.asks(targets(wires.shop()))
    assert {port: kinds(plan.unmeshed, port) for port in (6000, 7070, 9091)} == {
        port: ["h2", "istio", "plain"] for port in (6000, 7070, 9091)
    }
    sent = [ask.send for ask in plan.unmeshed if ask.op is Op.TCP]
    assert set(sent) == {b"\r\n\r\n\r"}
    assert all(ask.op is not Op.HTTP or ask.port == 15021 for ask in plan.unmeshed)


@pytest.mark.parametrize("mode", ["PERMISSIVE", "DISABLE"])
def test_open_ports_get_no_plaintext_bytes(mode: str) -> None:
    """Where plaintext is taken not a byte of it is sent but a GET of the readiness path, and that to HTTP/1 alone."""
    plan = wire.asks(targets(wires.shop(policies=(make.peerauthentication("default", mode),))))
    assert [ask.id for ask in plan.unmeshed if ask.op is Op.TCP] == []
    assert [(ask.port, ask.path) for ask in plan.unmeshed if ask.op is Op.HTTP and ask.port != 15021] == [(8080, "/healthz")]


def test_nothing_is_sent_where_the_mode_is_not_known() -> None:
    """A mode that Istio does not have is no leave to send plaintext."""
    plan = wire.asks(targets(one(make.peerauthentication("default", "SOMETIMES"))))
    assert kinds(plan.unmeshed, 8080) == ["h2", "istio"]


def test_calls_from_inside() -> None:
    """HTTP gets a GET, gRPC one that runs no method, TCP a connection without a byte, and TLS a ClientHello."""
    secure = make.service("secure", selector={"app": "orders"}, ports=(("https", 8080),))
    plan = wire.asks(targets(wires.shop(services=(*wires.shop().services, secure))))
    assert {ask.id: (ask.op, ask.host, ask.path) for ask in plan.meshed} == {
        "call|orders:8080": (Op.HTTP, "orders.payments", "/healthz"),
        "call|quotes:7070": (Op.GRPC, "quotes.payments", "/healthz"),
        "call|quotes:9091": (Op.HOLD, "quotes.payments", "/"),
        "call|store:6000": (Op.HOLD, "store.payments", "/"),
        "call|secure:8080": (Op.TLS, "secure.payments", "/"),
    }
    assert all(not ask.send for ask in plan.meshed)


def test_bounds_for_the_plan() -> None:
    """How much is sent at most is said by who sends it."""
    outside, inside = wire.asks(targets(one())).bounds
    assert outside == (
        "from a pod of this run outside the mesh: 2 x TLS handshake without data, 1 x five plaintext bytes to a STRICT port, "
        "1 x GET of a readiness path"
    )
    assert inside == "from a pod of this run inside the mesh: 1 x GET of a readiness path"


def test_ids_are_unique() -> None:
    """Answers of both probes can be put into one mapping."""
    plan = wire.asks(targets(wires.shop(replicas=3)))
    ids = [ask.id for ask in (*plan.unmeshed, *plan.meshed)]
    assert len(ids) == len(set(ids))


def test_ambient_pods_are_not_asked() -> None:
    """A ztunnel answers elsewhere than on the pod's ports."""
    pods = (
        make.pod("orders-7f76cb76bc-amb", owner="ReplicaSet/orders-7f76cb76bc", annotations={"ambient.istio.io/redirection": "enabled"}),
    )
    plan = wire.asks(targets(one(pods=pods)))
    assert plan.unmeshed == ()


def test_own_plaintext_is_counted() -> None:
    """For the metrics: how many plaintext contacts a run makes at most."""
    assert wire.sent_in_plaintext(targets(one())) == {"orders": 3}


# --- the verdict on a port --------------------------------------------------------------------------------------------

PERMISSIVE_TCP: wires.Behaviour = {**wires.PERMISSIVE_TCP_DENIED, "h2": lambda _: {"outcome": Outcome.OPEN, "connect_seconds": 0.001}}
SILENCE = {"outcome": Outcome.OPEN, "connect_seconds": 0.001}
TIMEOUT = {"outcome": Outcome.TIMEOUT}


def answering(**kinds: Mapping[str, Any]) -> wires.Behaviour:
    """A behaviour of fixed answers."""

    def fixed(fields: Mapping[str, Any]) -> Callable[[Target], Mapping[str, Any]]:
        return lambda _: fields

    return {kind: fixed(fields) for kind, fields in kinds.items()}


@pytest.mark.parametrize(
    ("mode", "behaviour", "expected", "refused"),
    [
        ("STRICT", wires.STRICT_PORT, Wire.STRICT, True),
        ("PERMISSIVE", wires.PERMISSIVE_HTTP, Wire.PERMISSIVE, False),
        ("PERMISSIVE", wires.PERMISSIVE_TCP_DENIED, Wire.PERMISSIVE, False),
        ("PERMISSIVE", PERMISSIVE_TCP, Wire.PERMISSIVE, False),
        ("DISABLE", wires.NAKED_HTTP, Wire.PLAINTEXT, False),
        # the wire decides, whatever the configuration says
        ("STRICT", wires.PERMISSIVE_HTTP, Wire.PERMISSIVE, False),
        ("STRICT", wires.PERMISSIVE_TCP_DENIED, Wire.PERMISSIVE, False),
        ("STRICT", wires.NAKED_HTTP, Wire.PLAINTEXT, False),
        ("PERMISSIVE", wires.STRICT_PORT, Wire.STRICT, False),
        # EOF and silence decide nothing about plaintext, even where the handshake looks STRICT
        ("STRICT", answering(plain={"outcome": Outcome.EOF}), Wire.UNDECIDED, False),
        ("STRICT", answering(plain=TIMEOUT), Wire.UNDECIDED, False),
        ("STRICT", answering(plain=SILENCE), Wire.UNDECIDED, False),
        # a reset without the positive control: a policy of the network or a dead application look the same
        ("STRICT", answering(h2={"outcome": Outcome.RESET}, istio={"outcome": Outcome.RESET}), Wire.UNDECIDED, False),
        ("STRICT", answering(h2=TIMEOUT, istio=TIMEOUT), Wire.UNDECIDED, False),
        ("STRICT", answering(h2={"outcome": Outcome.REFUSED}, istio={"outcome": Outcome.REFUSED}), Wire.UNDECIDED, False),
        # the connection that should tell was cut, while plaintext was reset: it may have been cut for any reason
        ("STRICT", {**wires.STRICT_PORT, "h2": lambda _: {"outcome": Outcome.EOF}}, Wire.UNDECIDED, False),
        # plaintext is answered, but whether mutual TLS is offered too could not be seen
        ("PERMISSIVE", {**wires.NAKED_HTTP, "istio": lambda _: TIMEOUT}, Wire.UNDECIDED, False),
        # the echo of a TCP server without a proxy
        ("DISABLE", answering(h2={"outcome": Outcome.NOT_TLS}, istio={"outcome": Outcome.NOT_TLS}, get=TIMEOUT), Wire.PLAINTEXT, False),
        # a silent application: nothing tells
        ("DISABLE", answering(h2=SILENCE, istio=SILENCE, get=TIMEOUT), Wire.UNDECIDED, False),
        ("STRICT", answering(h2={"outcome": Outcome.ERROR}, istio={"outcome": Outcome.ERROR}), Wire.UNDECIDED, False),
    ],
)
def test_verdict(mode: str, behaviour: wires.Behaviour, expected: Wire, refused: bool) -> None:
    """ALPN h2 and istio together tell the modes apart; a refusal needs its control; the rest is undecided."""
    (item,) = wires.seen(one(make.peerauthentication("default", mode)), {"orders:8080": behaviour}).seen
    assert (item.wire, item.refused) == (expected, refused), item.why


def test_application_with_tls_of_its_own() -> None:
    """A certificate that is none of the mesh's is no positive control: no proxy stands there."""
    own, _ = Authority("example.com").workload()
    foreign = {"outcome": Outcome.OPEN, "certificate_chain": (der(own),), "connect_seconds": 0.001}
    (item,) = wires.seen(one(), {"orders:8080": answering(h2=foreign, istio=foreign)}).seen
    assert item.wire is Wire.PLAINTEXT
    assert item.shown == ()


def test_lost_answers_decide_nothing() -> None:
    """A probe that was evicted in the middle leaves the port undecided."""
    answers = dict.fromkeys(("h2|orders-7f76cb76bc-p0000:8080", "istio|orders-7f76cb76bc-p0000:8080", "plain|orders-7f76cb76bc-p0000:8080"))
    (item,) = wires.seen(one(), answers=answers).seen
    assert item.wire is Wire.UNDECIDED
    assert item.why == "a TLS handshake was not answered by the probe"


def test_agreement_with_the_configuration() -> None:
    """A port agrees if the wire does what was configured; one without a proxy should take plaintext."""
    pods = (make.pod("orders-7f76cb76bc-p0000", owner="ReplicaSet/orders-7f76cb76bc"),)
    (naked,) = wires.seen(one(pods=pods), {"orders:8080": wires.NAKED_HTTP}).seen
    assert naked.agrees
    (stale,) = wires.seen(one(), {"orders:8080": wires.PERMISSIVE_HTTP}).seen
    assert not stale.agrees


# --- identity ---------------------------------------------------------------------------------------------------------

RIGHT = "spiffe://cluster.local/ns/payments/sa/orders"


def with_chain(chain: tuple[bytes, ...]) -> wires.Behaviour:
    fields = {"outcome": Outcome.TLS_ALERT, "certificate_chain": chain, "connect_seconds": 0.001}
    return answering(h2=fields, istio=fields)


@pytest.mark.parametrize(
    ("uri", "problem"),
    [
        (RIGHT, ""),
        ("spiffe://cluster.local/ns/payments/sa/default", f"but its pod runs as {RIGHT}"),
        ("spiffe://cluster.local/ns/legacy/sa/orders", f"but its pod runs as {RIGHT}"),
        ("spiffe://old-td/ns/payments/sa/orders", "proves to be spiffe://old-td/ns/payments/sa/orders"),
    ],
)
def test_identity_is_that_of_the_service_account(uri: str, problem: str) -> None:
    """The SPIFFE URI must be spiffe://<trust domain>/ns/<namespace>/sa/<service account of the pod>."""
    (item,) = wires.seen(one(), {"orders:8080": with_chain(wires.chain(uri))}).seen
    assert problem in item.problem
    assert bool(item.problem) is bool(problem)


def test_pod_without_a_service_account_is_default() -> None:
    """A pod that names no account runs as ``default``."""
    pods = make.pods_of(make.deployment("orders", replicas=1), service_account_name="")
    (item,) = wires.seen(one(pods=pods), {"orders:8080": with_chain(wires.chain("spiffe://cluster.local/ns/payments/sa/default"))}).seen
    assert item.problem == ""


def test_trust_domain_is_not_judged_where_it_is_not_known() -> None:
    """Without the mesh's configuration any trust domain may be right."""
    chain = wires.chain("spiffe://td.example.com/ns/payments/sa/orders")
    (item,) = wires.seen(one(mesh=None), {"orders:8080": with_chain(chain)}).seen
    assert item.problem == ""


def test_expired_chain() -> None:
    """A certificate that is not valid at the cluster's time is named with its days."""
    later = loopback.NOW + dt.timedelta(hours=25)
    (item,) = wires.seen(one(), {"orders:8080": with_chain(wires.chain(RIGHT))}, now=later).seen
    assert "is not valid now" in item.problem


def test_certificate_renewed_after_the_snapshot() -> None:
    """The snapshot's clock may be some minutes behind a certificate that was renewed meanwhile."""
    earlier = loopback.NOW - dt.timedelta(minutes=10)
    (item,) = wires.seen(one(), {"orders:8080": with_chain(wires.chain(RIGHT))}, now=earlier).seen
    assert item.problem == ""


def trusting(*subjects_and_fingerprints: tuple[str, str]) -> Snapshot:
    """One port, in a mesh that trusts these roots."""
    roots = tuple(facts.Certificate(subject=subject, fingerprint=print_) for subject, print_ in subjects_and_fingerprints)
    held = facts.RootCertificates(metadata=make.metadata("istio-ca-root-cert", make.NAMESPACE), roots=roots)
    snapshot: Snapshot = one()
    return msgspec.structs.replace(snapshot, rootcertificates=(held,))


def test_chain_of_another_authority() -> None:
    """With the mesh's roots at hand, a chain that ends elsewhere is not believed."""
    own = certificates.parse([der(wires.authority().certificate)])[0]
    mesh = trusting((own.subject, own.fingerprint))
    stranger = Authority("elsewhere")
    (item,) = wires.seen(mesh, {"orders:8080": with_chain(wires.chain(RIGHT, by=stranger))}).seen
    assert "its chain does not hold: it ends with" in item.problem
    (good,) = wires.seen(mesh, {"orders:8080": with_chain(wires.chain(RIGHT))}).seen
    assert good.problem == ""


def test_root_of_the_same_name() -> None:
    """A root that is shown is compared as a whole: anybody may give it the mesh's name."""
    own = certificates.parse([der(wires.authority().certificate)])[0]
    shown = (*wires.chain(RIGHT)[:1], own.der)
    (item,) = wires.seen(trusting((own.subject, "00" * 32)), {"orders:8080": with_chain(shown)}).seen
    assert "its chain does not hold" in item.problem
    (good,) = wires.seen(trusting(("O=old", "11" * 32), (own.subject, own.fingerprint)), {"orders:8080": with_chain(shown)}).seen
    assert good.problem == ""


def test_answers_that_are_no_certificates() -> None:
    """Bytes that cannot be read as a certificate are no control, and no exception."""
    (item,) = wires.seen(one(), {"orders:8080": with_chain((b"not a certificate",))}).seen
    assert item.wire is not Wire.STRICT
    assert item.control == ""


def test_odd_answers_are_no_exception() -> None:
    """Whatever comes back, there is a verdict."""
    for outcome in Outcome:
        fields = {"outcome": outcome, "connect_seconds": 0.001}
        (item,) = wires.seen(one(), {"orders:8080": answering(h2=fields, istio=fields, plain=fields)}).seen
        assert item.why
    assert wire.said(Answer(id="x", outcome=Outcome.TLS_ALERT)) == "was ended with the TLS alert unknown"
