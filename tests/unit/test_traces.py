"""Line 5.2.3, and the live part of 5.2.1: what a trace says of the services that a request went through."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from pytest_meshready.cluster.objects_telemetry import Telemetry, TelemetrySpec, Tracing
from pytest_meshready.cluster.snapshot import MeshConfig, Snapshot
from pytest_meshready.istio import traces
from pytest_meshready.istio.entry import Entry
from pytest_meshready.istio.measured import Calls
from pytest_meshready.istio.telemetry import Family
from pytest_meshready.istio.traces import Sent, TraceRequest
from pytest_meshready.observability.spans import Span
from pytest_meshready.probes.messages import Answer, Op, Outcome
from pytest_meshready.results import Judgement, ObjectRef, Status
from tests.unit import builders as make

CHAIN = ("frontend", "orders", "ledger")
TRACE, SENT = "1a65b787f219e894dcb230a7a8c26e80", "1d8501d295950175"
ZIPKIN = {"name": "jaeger", "zipkin": {"service": "jaeger-collector.istio-system.svc.cluster.local", "port": 9411}}
BOTH = {"name": "jaeger", "zipkin": {**ZIPKIN["zipkin"], "traceContextOption": "USE_B3_WITH_W3C_PROPAGATION"}}  # type: ignore[dict-item]
OTEL = {"name": "otel", "opentelemetry": {"service": "collector.observability.svc.cluster.local", "port": 4317}}

ENTRY = Entry(
    host="shop.example.com",
    address="istio-ingressgateway.istio-system",
    port=443,
    tls=True,
    path="/",
    gateway=ObjectRef(kind="Gateway", namespace="payments", name="shop"),
    route=ObjectRef(kind="VirtualService", namespace="payments", name="frontend"),
    service="frontend",
    selector=(("istio", "ingressgateway"),),
)
#: What the proxies of a healthy shop count: each service calls the next one for every request.
HEALTHY = Calls(
    answered={"frontend": 300.0, "orders": 300.0, "ledger": 300.0},
    called={"frontend": {"orders": 300.0}, "orders": {"ledger": 300.0}},
)


def shop(provider: Mapping[str, Any] | None = None, **fields: Any) -> Snapshot:
    """The chain of `CHAIN`, one pod each, traced by a provider."""
    deployments = tuple(make.deployment(name, replicas=1) for name in CHAIN)
    chosen = BOTH if provider is None else provider
    mesh = MeshConfig(root_namespace=make.ISTIO, extension_providers=(dict(chosen),), default_providers={"tracing": [chosen["name"]]})
    defaults: dict[str, Any] = {
        "deployments": deployments,
        "pods": tuple(pod for item in deployments for pod in make.pods_of(item)),
        "services": tuple(make.service(name) for name in CHAIN),
        "mesh": mesh,
    }
    return make.snapshot(**{**defaults, **fields})


def node(name: str) -> str:
    return f"{name}-7f76cb76bc-p0000.payments"


def span(id_: int, parent: int | str, app: str, kind: str, **fields: Any) -> Span:
    """A span of a sidecar of the namespace; times as of the shop: each call lies within the one above."""
    defaults: dict[str, Any] = {
        "trace_id": TRACE,
        "span_id": f"{id_:016x}",
        "parent_id": parent if isinstance(parent, str) else f"{parent:016x}",
        "service": f"{app}.payments",
        "name": f"{app}.payments.svc.cluster.local:8080/*",
        "kind": kind,
        "start": 1_000_000 + id_ * 100,
        "duration": 10_000 - id_ * 200,
        "proxy": True,
        "node": node(app),
        "role": "sidecar",
        "request_id": "4278b499",
    }
    return Span(**{**defaults, **fields})


GATEWAY = {"service": "istio-ingressgateway.istio-system", "node": "istio-ingressgateway-5bb7c4c86b-jw55m.istio-system", "role": "router"}


def entered() -> list[Span]:
    """The gateway's two spans: what it took from us, and what it sent, which does not name its proxy."""
    upstream = {"service": GATEWAY["service"], "node": "", "role": ""}
    return [span(1, SENT, "istio-ingressgateway", "server", **GATEWAY), span(2, 1, "istio-ingressgateway", "client", **upstream)]


def whole() -> list[Span]:
    """The seven spans of the healthy chain."""
    return [
        *entered(),
        span(3, 2, "frontend", "server"),
        span(4, 3, "frontend", "client"),
        span(5, 4, "orders", "server"),
        span(6, 5, "orders", "client"),
        span(7, 6, "ledger", "server"),
    ]


def request(*families: Family, single: bool = False) -> TraceRequest:
    return TraceRequest(entry=ENTRY, families=frozenset(families or Family), trace_id=TRACE, span_id=SENT, single=single)


def sent(spans: Iterable[Span], *families: Family, status: int = 200, stable: bool = True) -> Sent:
    answer = Answer(id="trace", outcome=Outcome.ANSWERED if status else Outcome.TIMEOUT, status=status)
    return Sent(request=request(*families), answer=answer, spans=tuple(spans), stable=stable)


def codes(judgement: Judgement) -> list[tuple[str, str, str]]:
    return [(item.code, item.level.value, str(item.object)) for item in judgement.findings]


# --- what is sent -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("families", "single", "headers"),
    [
        ((Family.B3,), False, [("x-b3-traceid", TRACE), ("x-b3-spanid", SENT), ("x-b3-sampled", "1")]),
        ((Family.B3,), True, [("b3", f"{TRACE}-{SENT}-1")]),
        ((Family.W3C,), False, [("traceparent", f"00-{TRACE}-{SENT}-01")]),
        ((Family.B3, Family.W3C), True, [("b3", f"{TRACE}-{SENT}-1"), ("traceparent", f"00-{TRACE}-{SENT}-01")]),
    ],
)
def test_headers(families: tuple[Family, ...], single: bool, headers: list[tuple[str, str]]) -> None:
    """Each family carries the same ids and says that the trace is sampled."""
    assert list(request(*families, single=single).headers) == headers


def test_the_request_is_a_get_through_the_gateway() -> None:
    """It goes to the gateway's Service, inside TLS with the host's name, and asks for the path of the route."""
    ask = request(Family.W3C).ask()
    assert (ask.op, ask.host, ask.port, ask.path, ask.tls, ask.server_name) == (
        Op.HTTP,
        "istio-ingressgateway.istio-system",
        443,
        "/",
        True,
        "shop.example.com",
    )
    assert ("Host", "shop.example.com") in ask.headers


@pytest.mark.parametrize(
    ("provider", "families"),
    [
        (ZIPKIN, [{"B3"}]),
        (BOTH, [{"B3"}, {"W3C"}, {"B3", "W3C"}]),
        (OTEL, [{"W3C"}]),
        ({"name": "dd", "datadog": {"service": "datadog"}}, [{"B3", "W3C"}]),
    ],
)
def test_families_that_the_provider_reads(provider: Mapping[str, Any], families: list[set[str]]) -> None:
    """Only headers that the gateway's provider is configured to read are demanded; several are sent apart and together."""
    made = traces.trace_requests(shop(provider), ENTRY)
    assert [set(item.families) for item in made] == families


def test_ids_are_new_and_of_full_length() -> None:
    """128 and 64 bits, never beginning with a zero that a backend may drop."""
    made = traces.trace_requests(shop(), ENTRY, hexadecimal=lambda size: "0" * (2 * size))
    assert [(item.trace_id, item.span_id) for item in made] == [("1" + "0" * 31, "1" + "0" * 15)] * 3
    random = traces.trace_requests(shop(), ENTRY)
    assert len({item.trace_id for item in random}) == len(random)


# --- propagation ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("calls", [HEALTHY, None])
def test_whole_trace(calls: Calls | None) -> None:
    """One trace with the right parents passes; the parent that we sent has no span, and none is expected."""
    judgement = traces.propagated(shop(), [sent(whole(), Family.B3), sent(whole(), Family.W3C)], calls=calls)
    assert (judgement.status, judgement.findings, judgement.unknown) == (Status.PASSED, (), ())
    assert judgement.summary == (
        "one trace through istio-ingressgateway.istio-system -> frontend.payments -> orders.payments -> ledger.payments, "
        "with B3, W3C headers"
    )
    assert [row["spans"] for row in judgement.evidence[0].data] == ["7", "7"]


def test_spans_of_client_and_server_that_share_an_id() -> None:
    """Zipkin's older form: the server's span has the id of the client's."""
    spans = [
        span(1, "", "istio-ingressgateway", "server", span_id=SENT, **GATEWAY),
        span(2, SENT, "istio-ingressgateway", "client", **GATEWAY),
        span(2, SENT, "frontend", "server"),
        span(4, 2, "frontend", "client"),
        span(4, 2, "orders", "server"),
        span(6, 4, "orders", "client"),
        span(6, 4, "ledger", "server"),
    ]
    assert traces.propagated(shop(), [sent(spans)], calls=HEALTHY).status is Status.PASSED


def test_spans_of_the_application_between() -> None:
    """An application that traces by itself puts spans of its own between those of its proxy."""
    spans = whole()
    spans[3] = replace(spans[3], parent_id=f"{31:016x}")
    own = span(31, 3, "frontend", "internal", proxy=False, node="", role="", service="frontend")
    assert traces.propagated(shop(), [sent([*spans, own])], calls=HEALTHY).status is Status.PASSED


def dropped_by_orders() -> list[Span]:
    """The trace where orders takes the request and calls ledger without our headers."""
    return whole()[:5]


def test_headers_dropped_in_the_middle() -> None:
    """The trace ends at a service that, by its proxy's count, calls on for every request: it is named."""
    found = [sent(dropped_by_orders(), Family.B3), sent(dropped_by_orders(), Family.W3C)]
    judgement = traces.propagated(shop(), found, calls=HEALTHY)
    assert codes(judgement) == [("MR523-DROPPED", "error", "payments/Deployment/orders")]
    assert judgement.findings[0].found == (
        "it does not pass the trace headers on: it makes 1.0 calls for each request, to ledger, and none of them is in the trace "
        "(sent with B3, W3C headers)"
    )


def test_headers_dropped_by_the_first() -> None:
    """Also the first service is found, whatever comes behind it."""
    assert codes(traces.propagated(shop(), [sent(whole()[:3])], calls=HEALTHY)) == [
        ("MR523-DROPPED", "error", "payments/Deployment/frontend")
    ]


@pytest.mark.parametrize("request_id", ["4278b499", "a-new-one"])
def test_headers_replaced(request_id: str) -> None:
    """A trace that begins in the very pod while it works for us is ours, whether the request's id was passed on or not."""
    stray = span(6, "", "orders", "client", trace_id="feed", start=1_000_600, duration=5_000, request_id=request_id)
    judgement = traces.propagated(shop(), [sent(dropped_by_orders())], strays=[stray])
    assert codes(judgement) == [("MR523-DROPPED", "error", "payments/Deployment/orders")]
    assert "which is in trace feed instead" in judgement.findings[0].found


@pytest.mark.parametrize(
    "stray",
    [
        span(6, "", "orders", "client", trace_id="feed", request_id="other", start=900_000),  # before ours
        span(6, "", "orders", "client", trace_id="feed", request_id="other", node="orders-7f76cb76bc-p0001.payments"),  # another pod
        span(6, 9, "orders", "client", trace_id="feed", request_id="other", duration=100),  # part of another request
        span(6, "", "orders", "server", trace_id="feed", request_id="other", duration=100),
    ],
)
def test_traces_of_others(stray: Span) -> None:
    """What other requests did is no evidence against anybody."""
    assert traces.propagated(shop(), [sent(dropped_by_orders())], strays=[stray]).findings == ()


def test_where_to_look_for_strays() -> None:
    """Only where our trace ends, and only while that pod worked for us."""
    assert traces.searched([sent(dropped_by_orders())]) == (("orders.payments", 1_000_500 - 1000, 1_000_500 + 9_000 + 1000),)


def test_wrong_parent() -> None:
    """A service that sends with the ids of another one's span did not copy what it took itself."""
    spans = whole()
    spans[5] = replace(spans[5], parent_id=f"{1:016x}")
    judgement = traces.propagated(shop(), [sent(spans)], calls=HEALTHY)
    assert codes(judgement) == [("MR523-WRONG-PARENT", "error", "payments/Deployment/orders")]
    assert "part of what istio-ingressgateway did" in judgement.findings[0].found


def test_trace_id_without_the_span_id() -> None:
    """A service that passes the trace's id on and not the span's makes a second root."""
    spans = whole()
    spans[5] = replace(spans[5], parent_id="")
    assert codes(traces.propagated(shop(), [sent(spans)], calls=HEALTHY)) == [("MR523-REPLACED", "error", "payments/Deployment/orders")]


def test_parent_that_nobody_reported() -> None:
    """An application with a tracer that reports elsewhere leaves a gap, which only warns."""
    spans = whole()
    spans[5] = replace(spans[5], parent_id="00000000000000aa")
    assert codes(traces.propagated(shop(), [sent(spans)], calls=HEALTHY)) == [("MR523-NO-PARENT", "warning", "payments/Deployment/orders")]


def test_sender_that_reports_nothing() -> None:
    """A span is missing before a service: whoever called it did not report."""
    spans = [item for item in whole() if item.span_id != f"{4:016x}"]
    for calls in (HEALTHY, None):
        judgement = traces.propagated(shop(), [sent(spans)], calls=calls)
        assert codes(judgement) == [("MR523-NO-SENDER", "warning", "payments/Deployment/orders")]


def test_caller_that_calls_only_sometimes() -> None:
    """Whether a service called on for our request is not known, if it does so for some requests alone."""
    calls = Calls(answered={"orders": 300.0}, called={"orders": {"ledger": 100.0}})
    judgement = traces.propagated(shop(), [sent(dropped_by_orders())], calls=calls)
    assert (judgement.status, judgement.findings) == (Status.NOT_VERIFIED, ())
    assert judgement.unknown[0].reason == "orders calls ledger for 33% of its requests: whether it did for ours is not known"


def test_counters_that_are_late() -> None:
    """Calls without the requests that caused them: Prometheus has not looked yet."""
    calls = Calls(answered={}, called={"orders": {"ledger": 3.0}})
    assert traces.propagated(shop(), [sent(dropped_by_orders())], calls=calls).status is Status.NOT_VERIFIED


def test_request_that_calls_nobody() -> None:
    """A trace of one service proves nothing about passing headers on; without metrics not even whether it had to."""
    calls = Calls(answered={"frontend": 300.0}, called={})
    for known, words in ((calls, "which calls nobody"), (None, "without metrics")):
        judgement = traces.propagated(shop(), [sent(whole()[:3])], calls=known)
        assert judgement.status is Status.NOT_VERIFIED
        assert words in judgement.unknown[0].reason


def test_family_that_is_not_continued() -> None:
    """The gateway reads B3 and not W3C, although its provider should: it is named with the family."""
    judgement = traces.propagated(shop(), [sent(whole(), Family.B3), sent([], Family.W3C, stable=False)], calls=HEALTHY)
    assert codes(judgement) == [("MR523-NOT-CONTINUED", "error", "payments/Gateway/shop")]
    assert judgement.findings[0].found == "a trace that comes with W3C headers is not continued, one with B3 is"


def test_expected_services() -> None:
    """A workload that the team says is reached must be in the trace."""
    judgement = traces.propagated(shop(), [sent(whole())], calls=HEALTHY, expected=("ledger", "quotes"))
    assert codes(judgement) == [("MR523-INCOMPLETE", "error", "payments/Workload/quotes")]


# --- spans that are missing altogether --------------------------------------------------------------------------------

QUIET = Telemetry(metadata=make.metadata("quiet"), spec=TelemetrySpec(tracing=(Tracing(disable_span_reporting=True),)))


def test_spans_switched_off() -> None:
    """Only the gateway's spans: the Telemetry that keeps the namespace silent is at fault, in both lines."""
    snapshot = shop(telemetries=(QUIET,))
    for judge, code in ((traces.propagated, "MR523-SPANS-OFF"), (traces.traced, "MR521-SPANS-OFF")):
        assert codes(judge(snapshot, [sent(entered())])) == [(code, "error", "payments/Telemetry/quiet")]


def test_only_the_gateway_reports() -> None:
    """Without such a Telemetry the namespace is named."""
    assert codes(traces.propagated(shop(), [sent(entered())], calls=HEALTHY)) == [("MR523-NO-SPANS", "error", "Namespace/payments")]


def test_traced() -> None:
    """Line 5.2.1: one trace that came back is enough."""
    judgement = traces.traced(shop(), [sent(whole(), Family.B3), sent([], Family.W3C, stable=False)], "Jaeger")
    assert (judgement.status, judgement.summary) == (Status.PASSED, "a request through the gateway came back from Jaeger with 7 spans")


def test_no_trace_comes_back() -> None:
    """Line 5.2.1 fails where requests were answered and the backend has none of them; line 5.2.3 is not verified."""
    lost = [sent([], Family.B3, stable=False)]
    assert codes(traces.traced(shop(), lost, "Jaeger")) == [("MR521-NO-TRACE", "error", "payments/Gateway/shop")]
    assert traces.propagated(shop(), lost).status is Status.NOT_VERIFIED


# --- what decides nothing ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("status", "words"), [(0, "was not answered"), (301, "got 301"), (503, "got 503"), (429, "got 429")])
def test_requests_that_failed(status: int, words: str) -> None:
    """A request that was not answered, or went no further than the gateway, says nothing good."""
    judgement = traces.propagated(shop(), [sent(whole(), status=status)], calls=HEALTHY)
    assert judgement.status is Status.NOT_VERIFIED
    assert words in judgement.unknown[0].reason


def test_trace_that_still_grows() -> None:
    """Spans that were still arriving at the deadline: five of seven are not judged as complete."""
    judgement = traces.propagated(shop(), [sent(whole(), stable=False)], calls=HEALTHY)
    assert judgement.status is Status.NOT_VERIFIED
    assert "still arriving" in judgement.unknown[0].reason


def test_nothing_sent() -> None:
    """Without an entry nothing was sent, and nothing is shown."""
    for judge in (traces.propagated, traces.traced):
        assert judge(shop(), []).status is Status.NOT_VERIFIED


def test_spans_of_another_trace_are_not_ours() -> None:
    """A backend that answers with the wrong trace proves nothing."""
    foreign = [replace(item, trace_id="beef") for item in whole()]
    assert traces.propagated(shop(), [sent(foreign)], calls=HEALTHY).status is not Status.PASSED


def test_loops_and_odd_spans_are_no_exception() -> None:
    """Spans that are their own parents, twice there, without a service or a kind."""
    odd = [
        *whole(),
        span(8, 8, "", "client", node=""),
        span(9, 10, "orders", "internal", proxy=False),
        span(10, 9, "orders", "x"),
        *whole(),
    ]
    assert traces.propagated(shop(), [sent(odd)], calls=HEALTHY).examined
    assert traces.propagated(shop(), [sent([Span(trace_id=TRACE[:], span_id="")])], calls=HEALTHY).status is not Status.PASSED
