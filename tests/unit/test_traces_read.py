"""The readers of tracing backends, against servers on loopback that answer as Jaeger and as Zipkin do."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from pytest_meshready.cluster import client
from pytest_meshready.observability import tracing
from pytest_meshready.observability.http import ServiceProxy, UnavailableError
from pytest_meshready.observability.spans import Span
from pytest_meshready.waiting import Deadline, Deadlines, skipping
from tests.unit import apiserver
from tests.unit import builders as make
from tests.unit.apiserver import Api

PROXY = "/api/v1/namespaces/istio-system/services/tracing:80/proxy"
TRACE = "0a65b787f219e894dcb230a7a8c26e80"
NODE = "sidecar~10.244.2.9~orders-7f76cb76bc-gjtgk.payments~payments.svc.cluster.local"
PAGE = b"<!DOCTYPE html><html><body>This is not the Jaeger UI you are looking for!</body></html>"

#: As Jaeger's ``/api/traces/{id}`` gives a span that a proxy reported, and as Zipkin's ``/api/v2/trace/{id}`` does.
JAEGER = {
    "data": [
        {
            "traceID": TRACE,
            "spans": [
                {
                    "traceID": TRACE,
                    "spanID": "23d4842f47677a4",
                    "operationName": "ledger.payments.svc.cluster.local:8080/*",
                    "references": [
                        {"refType": "FOLLOWS_FROM", "traceID": TRACE, "spanID": "ffff"},
                        {"refType": "CHILD_OF", "traceID": TRACE, "spanID": "2f048959593174d3"},
                    ],
                    "startTime": 1795597474424797,
                    "duration": 1265,
                    "tags": [
                        {"key": "component", "type": "string", "value": "proxy"},
                        {"key": "span.kind", "type": "string", "value": "client"},
                        {"key": "node_id", "type": "string", "value": NODE},
                        {"key": "guid:x-request-id", "type": "string", "value": "4278b499"},
                        {"key": "http.status_code", "type": "int64", "value": 200},
                    ],
                    "logs": [],
                    "processID": "p1",
                    "warnings": None,
                }
            ],
            "processes": {"p1": {"serviceName": "orders.payments", "tags": []}},
            "warnings": None,
        }
    ],
    "total": 0,
    "limit": 0,
    "offset": 0,
    "errors": None,
}
ZIPKIN = [
    {
        "traceId": TRACE,
        "id": "023d4842f47677a4",
        "parentId": "2f048959593174d3",
        "kind": "CLIENT",
        "name": "ledger.payments.svc.cluster.local:8080/*",
        "timestamp": 1795597474424797,
        "duration": 1265,
        "localEndpoint": {"serviceName": "orders.payments", "ipv4": "10.244.2.9"},
        "tags": {"component": "proxy", "node_id": NODE, "guid:x-request-id": "4278b499"},
    }
]
EXPECTED = Span(
    trace_id="a65b787f219e894dcb230a7a8c26e80",
    span_id="023d4842f47677a4",
    parent_id="2f048959593174d3",
    service="orders.payments",
    name="ledger.payments.svc.cluster.local:8080/*",
    kind="client",
    start=1795597474424797,
    duration=1265,
    proxy=True,
    node="orders-7f76cb76bc-gjtgk.payments",
    role="sidecar",
    request_id="4278b499",
)


@pytest.fixture
def api() -> Iterator[Api]:
    with apiserver.serving() as running:
        yield running


@pytest.fixture
def source(api: Api, tmp_path: Path) -> ServiceProxy:
    cluster = client.connect(api.kubeconfig(tmp_path), None, Deadlines(request=2.0))
    return ServiceProxy(cluster=cluster, namespace=make.ISTIO, service="tracing", port=80)


def backend(api: Api, paths: Mapping[str, Any], *, other: bytes | None = None) -> None:
    """Answer these paths with JSON, all others with a page (``other``) or 404 as Jaeger does."""

    def reply(request: apiserver.Request) -> apiserver.Reply | None:
        if request.path in paths:
            return 200, {"Content-Type": "application/json"}, json.dumps(paths[request.path]).encode()
        if other is not None:
            return 200, {"Content-Type": "text/html"}, other
        return 404, {"Content-Type": "application/json"}, b'{"data": null, "errors": [{"code": 404, "msg": "trace not found"}]}'

    api.trouble = reply


@pytest.mark.parametrize("prefix", ["", "/jaeger"])
def test_jaeger(api: Api, source: ServiceProxy, prefix: str) -> None:
    """Jaeger, also below the path under which Istio's sample installs it, gives a span in the one form."""
    services = {"data": ["orders.payments"], "total": 1, "limit": 0, "offset": 0, "errors": None}
    backend(api, {f"{PROXY}{prefix}/api/services": services, f"{PROXY}{prefix}/api/traces/{TRACE}": JAEGER}, other=PAGE)
    reader = tracing.dialect(source)
    assert reader.name == f"Jaeger at Service istio-system/tracing:80{prefix}"
    assert reader.trace(TRACE) == (EXPECTED,)


@pytest.mark.parametrize("prefix", ["", "/zipkin"])
def test_zipkin(api: Api, source: ServiceProxy, prefix: str) -> None:
    """Zipkin gives the same span in the same form."""
    backend(api, {f"{PROXY}{prefix}/api/v2/services": ["orders.payments"], f"{PROXY}{prefix}/api/v2/trace/{TRACE}": ZIPKIN})
    reader = tracing.dialect(source)
    assert reader.name == "Zipkin at Service istio-system/tracing:80"
    assert reader.trace(TRACE) == (EXPECTED,)


def test_neither(api: Api, source: ServiceProxy) -> None:
    """A backend that answers every path with a page is neither."""
    backend(api, {}, other=PAGE)
    with pytest.raises(UnavailableError, match="answers neither as Jaeger nor as Zipkin"):
        tracing.dialect(source)


def test_trace_that_is_not_there_yet(api: Api, source: ServiceProxy) -> None:
    """404 is an answer: no span so far."""
    backend(api, {f"{PROXY}/api/services": {"data": None}})
    assert tracing.dialect(source).trace(TRACE) == ()


def test_bare_spans(api: Api, source: ServiceProxy) -> None:
    """Spans without tags, references, process and kind are read all the same."""
    bare = {"data": [{"spans": [{"traceID": "1", "spanID": "2", "references": None, "tags": None}], "processes": None}]}
    backend(api, {f"{PROXY}/api/services": {"data": []}, f"{PROXY}/api/traces/1": bare})
    (span,) = tracing.dialect(source).trace("1")
    assert (span.span_id, span.parent_id, span.service, span.kind, span.proxy) == ("0000000000000002", "", "", "", False)


def test_window_of_jaeger(api: Api, source: ServiceProxy) -> None:
    """Jaeger is asked by service and microseconds, with a limit."""
    backend(api, {f"{PROXY}/api/services": {"data": []}, f"{PROXY}/api/traces": JAEGER})
    assert tracing.dialect(source).window("orders.payments", 1795597474000000, 1795597475000000) == (EXPECTED,)
    assert api.requests[-1].query == {"service": "orders.payments", "start": "1795597474000000", "end": "1795597475000000", "limit": "50"}


def test_window_of_zipkin(api: Api, source: ServiceProxy) -> None:
    """Zipkin counts in milliseconds, backwards from the end, rounded so that nothing is lost."""
    backend(api, {f"{PROXY}/api/v2/services": [], f"{PROXY}/api/v2/traces": [ZIPKIN]})
    assert tracing.dialect(source).window("orders.payments", 1795597474000100, 1795597474900200) == (EXPECTED,)
    assert api.requests[-1].query == {"serviceName": "orders.payments", "endTs": "1795597474901", "lookback": "901", "limit": "50"}


def test_found_among_services(api: Api, source: ServiceProxy) -> None:
    """The query interface is found by the Service's name, a collector is not taken for one."""
    backend(api, {f"{PROXY}/api/services": {"data": []}})
    services = (
        make.service("jaeger-collector", namespace=make.ISTIO, ports=(("http-zipkin", 9411),)),
        make.service("tracing", namespace=make.ISTIO, ports=(("http-query", 80),)),
    )
    assert tracing.connect(source.cluster, make.snapshot(services=services)).name == "Jaeger at Service istio-system/tracing:80"


def test_address_of_the_team(api: Api, source: ServiceProxy) -> None:
    """An address from the settings goes first."""
    backend(api, {"/trace/api/v2/services": []})
    assert tracing.connect(source.cluster, make.snapshot(), url=f"{api.server}/trace").name == f"Zipkin at {api.server}/trace"


# --- waiting ----------------------------------------------------------------------------------------------------------


class Arriving:
    """A backend to which spans come one by one: at each look so many, the last number from then on."""

    name = "a backend"

    def __init__(self, *counts: int) -> None:
        self.counts = list(counts)
        self.looks = 0

    def trace(self, trace_id: str, *, deadline: Deadline | None = None) -> tuple[Span, ...]:
        assert deadline is not None, "every request of a wait is bounded"
        count = self.counts[min(self.looks, len(self.counts) - 1)]
        self.looks += 1
        return tuple(Span(trace_id=trace_id, span_id=f"{number:016x}") for number in range(1, count + 1))

    def window(self, service: str, start: int, end: int, *, deadline: Deadline | None = None) -> tuple[Span, ...]:
        raise NotImplementedError


def test_waits_until_the_count_is_stable() -> None:
    """Five of seven spans after two seconds is not a trace: it is judged when nothing has come for five seconds."""
    with skipping() as clock:
        found = tracing.settled(Arriving(0, 2, 5, 5, 5, 7), ["1"], deadline=Deadline(60.0))
    assert (len(found["1"].spans), found["1"].stable) == (7, True)
    assert sum(clock.slept) >= 5 + 5


def test_still_growing_at_the_deadline() -> None:
    """What is there at the deadline is given, and said not to be stable."""
    with skipping():
        found = tracing.settled(Arriving(*range(100)), ["1"], deadline=Deadline(8.0))
    assert found["1"].spans
    assert not found["1"].stable


def test_trace_that_never_comes() -> None:
    """No span by the deadline: nothing, and not stable."""
    with skipping():
        found = tracing.settled(Arriving(0), ["1"], deadline=Deadline(8.0))
    assert (found["1"].spans, found["1"].stable) == ((), False)


def test_several_traces_are_waited_for_together() -> None:
    """Three traces cost as much waiting as one."""
    with skipping() as clock:
        found = tracing.settled(Arriving(7), ["1", "2", "3"], deadline=Deadline(60.0))
    assert all(item.stable for item in found.values())
    assert sum(clock.slept) < 10


def test_backend_that_dies_while_waiting() -> None:
    """A backend that stops answering is unavailable."""

    class Dead(Arriving):
        def trace(self, trace_id: str, *, deadline: Deadline | None = None) -> tuple[Span, ...]:
            raise UnavailableError(f"nobody answers for {trace_id} within {deadline.seconds if deadline else 0:g} s")

    with skipping(), pytest.raises(UnavailableError, match="nobody answers"):
        tracing.settled(Dead(), ["1"], deadline=Deadline(3.0))


def test_backend_that_dies_in_the_middle() -> None:
    """What had come until then is given, and is not stable."""

    class Dying(Arriving):
        def trace(self, trace_id: str, *, deadline: Deadline | None = None) -> tuple[Span, ...]:
            if self.looks >= 2:
                raise UnavailableError("nobody answers any more")
            return super().trace(trace_id, deadline=deadline)

    with skipping():
        found = tracing.settled(Dying(3), ["1"], deadline=Deadline(20.0))
    assert (len(found["1"].spans), found["1"].stable) == (3, False)
