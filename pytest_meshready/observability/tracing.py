"""Tracing backends that answer as Jaeger or as Zipkin: one trace, and the traces of a service in a window of time.

Both query interfaces are in wide use: Jaeger's ``/api/traces`` (also below ``/jaeger``, as Istio's sample installs it) and
Zipkin's ``/api/v2`` (also below ``/zipkin``). Spans arrive one by one, so a trace is judged only when it has stopped growing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import msgspec

from pytest_meshready.cluster.snapshot import Snapshot
from pytest_meshready.observability.http import (
    Address,
    Getter,
    Source,
    UnavailableError,
    Wanted,
    candidates,
    first_that_answers,
)
from pytest_meshready.observability.spans import Span, span_key, trace_key
from pytest_meshready.waiting import Deadline, until

#: Names of Services under which query interfaces are installed; collectors are others.
WANTED = Wanted(
    what="tracing backend",
    names=("tracing", "jaeger-query", "jaeger", "zipkin", "jaeger-inmemory-instance-query", "simplest-query"),
    ports=(80, 16686, 9411, 443),
)

#: Seconds that the number of spans must not have changed for (proxies report every five seconds).
STABLE = 5.0

#: Seconds between two looks.
EVERY = 1.0

_NOT_FOUND = 404
_SPANS_OF_OTHERS = 50


class Tracing(Protocol):
    """A tracing backend."""

    @property
    def name(self) -> str:
        """Where it is and how it speaks, as evidence names it."""

    def trace(self, trace_id: str, *, deadline: Deadline | None = None) -> tuple[Span, ...]:
        """The spans of one trace; none where it is not there (yet).

        Raises:
            UnavailableError: with one sentence, where there is no answer.
        """

    def window(self, service: str, start: int, end: int, *, deadline: Deadline | None = None) -> tuple[Span, ...]:
        """The spans of the traces in which a service took part, between two moments (microseconds since 1970).

        Raises:
            UnavailableError: with one sentence, where there is no answer.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """A trace after waiting: ``stable`` tells that its spans had stopped arriving when the waiting ended."""

    spans: tuple[Span, ...]
    stable: bool


def connect(cluster: Getter, snapshot: Snapshot, *, url: str = "", headers: Mapping[str, str] | None = None, ca: str = "") -> Tracing:
    """The mesh's tracing backend: at the address that the team gave, else found among the Services that were read.

    Args:
        cluster: the way to it.
        snapshot: for its Services.
        url: its address, from ``meshready.toml``.
        headers: sent to that address with every request.
        ca: a file of authorities for that address; empty for those of this machine.

    Raises:
        UnavailableError: with one sentence, where none was found or none answers as Jaeger or Zipkin.
    """
    if url:
        return dialect(Address(url=url, headers=headers or {}, ca=ca))
    places = (snapshot.istio_namespace, snapshot.root_namespace, snapshot.namespace)
    return first_that_answers(candidates(cluster, snapshot.services, WANTED, places), WANTED, dialect)


def dialect(source: Source) -> Tracing:
    """The reader that the backend understands, found by asking for the list of its services.

    Raises:
        UnavailableError: where it understands none, or does not answer.
    """
    readers: tuple[_Jaeger | _Zipkin, ...] = (
        _Jaeger(source, ""),
        _Jaeger(source, "/jaeger"),
        _Zipkin(source, ""),
        _Zipkin(source, "/zipkin"),
    )
    for reader in readers:
        if reader.understood():
            return reader
    raise UnavailableError(f"{source.name} answers neither as Jaeger nor as Zipkin")


def settled(backend: Tracing, trace_ids: Iterable[str], *, deadline: Deadline, stable_for: float = STABLE) -> dict[str, Settled]:
    """Traces, by their ids, once the number of spans of none has changed for a while, or as they are at the deadline.

    A trace without a span has not arrived, however long that lasts.

    Args:
        backend: where to read them.
        trace_ids: of the traces; they are waited for together.
        deadline: how long to wait at most.
        stable_for: seconds without a new span.

    Raises:
        UnavailableError: with one sentence, where the backend gave no answer at all about one of them.
    """
    watches = {trace_id: _Watch(backend, trace_id, stable_for) for trace_id in trace_ids}
    until(lambda: _look(watches.values(), deadline), every=EVERY, deadline=deadline)
    for watch in watches.values():
        if watch.problem is not None:
            raise watch.problem
    return {trace_id: Settled(spans=watch.spans, stable=watch.stable) for trace_id, watch in watches.items()}


def _look(watches: Iterable[_Watch], deadline: Deadline) -> bool | None:
    """Look at every trace once; True when all are stable."""
    arrived = [watch.look(deadline) for watch in watches]
    return True if all(arrived) else None


class _Watch:
    """Looks at one trace again and again; remembers when it last grew, as far as looks have shown."""

    def __init__(self, backend: Tracing, trace_id: str, stable_for: float) -> None:
        self._backend = backend
        self._trace_id = trace_id
        self._stable_for = stable_for
        self._quiet = Deadline(stable_for)
        self._answered = False
        self.spans: tuple[Span, ...] = ()
        self.stable = False
        self.problem: UnavailableError | None = None

    def look(self, deadline: Deadline) -> bool:
        """Look once, unless it is stable already or there is no time left; a failure counts until a look succeeds."""
        if self.stable or deadline.passed:
            return self.stable
        try:
            spans = self._backend.trace(self._trace_id, deadline=deadline)
        except UnavailableError as problem:
            self.problem = None if self._answered else problem
            return False
        self._answered, self.problem = True, None
        if len(spans) != len(self.spans):
            self._quiet = Deadline(self._stable_for)
        self.spans = spans
        self.stable = bool(spans) and self._quiet.passed
        return self.stable


# --- Jaeger -----------------------------------------------------------------------------------------------------------


class _Tag(msgspec.Struct):
    key: str = ""
    value: str | int | float | bool | None = None


class _Reference(msgspec.Struct):
    ref_type: str = msgspec.field(name="refType", default="")
    span_id: str = msgspec.field(name="spanID", default="")


class _JaegerSpan(msgspec.Struct):
    trace_id: str = msgspec.field(name="traceID", default="")
    span_id: str = msgspec.field(name="spanID", default="")
    operation: str = msgspec.field(name="operationName", default="")
    references: list[_Reference] | None = None
    start: int = msgspec.field(name="startTime", default=0)
    duration: int = 0
    tags: list[_Tag] | None = None
    process: str = msgspec.field(name="processID", default="")


class _Process(msgspec.Struct):
    service: str = msgspec.field(name="serviceName", default="")


class _JaegerTrace(msgspec.Struct):
    spans: list[_JaegerSpan] | None = None
    processes: dict[str, _Process] | None = None


class _JaegerTraces(msgspec.Struct):
    data: list[_JaegerTrace] | None


class _JaegerServices(msgspec.Struct):
    data: list[str] | None


class _Jaeger:
    """Jaeger's query interface, of its versions 1 and 2."""

    def __init__(self, source: Source, prefix: str) -> None:
        self._source = source
        self._prefix = prefix

    @property
    def name(self) -> str:
        """See `Tracing`."""
        return f"Jaeger at {self._source.name}{self._prefix}"

    def understood(self) -> bool:
        """Whether the backend answers so."""
        return _understood(self._source, f"{self._prefix}/api/services", _JaegerServices)

    def trace(self, trace_id: str, *, deadline: Deadline | None = None) -> tuple[Span, ...]:
        """See `Tracing`."""
        reply = self._source.get(f"{self._prefix}/api/traces/{trace_id}", deadline=deadline)
        return () if reply.status == _NOT_FOUND else tuple(_of_jaeger(reply.decode(_JaegerTraces)))

    def window(self, service: str, start: int, end: int, *, deadline: Deadline | None = None) -> tuple[Span, ...]:
        """See `Tracing`."""
        query: dict[str, str | int] = {"service": service, "start": start, "end": end, "limit": _SPANS_OF_OTHERS}
        reply = self._source.get(f"{self._prefix}/api/traces", query, deadline=deadline)
        return () if reply.status == _NOT_FOUND else tuple(_of_jaeger(reply.decode(_JaegerTraces)))


def _of_jaeger(answer: _JaegerTraces) -> Iterator[Span]:
    for trace in answer.data or ():
        for span in trace.spans or ():
            tags = {tag.key: str(tag.value) for tag in span.tags or ()}
            process = (trace.processes or {}).get(span.process, _Process())
            references = sorted(span.references or (), key=lambda reference: reference.ref_type != "CHILD_OF")
            yield _span(
                tags,
                trace_id=span.trace_id,
                span_id=span.span_id,
                parent_id=references[0].span_id if references else "",
                service=process.service,
                name=span.operation,
                kind=tags.get("span.kind", ""),
                start=span.start,
                duration=span.duration,
            )


# --- Zipkin -----------------------------------------------------------------------------------------------------------


class _Endpoint(msgspec.Struct):
    service: str = msgspec.field(name="serviceName", default="")


class _ZipkinSpan(msgspec.Struct):
    trace_id: str = msgspec.field(name="traceId", default="")
    span_id: str = msgspec.field(name="id", default="")
    parent_id: str | None = msgspec.field(name="parentId", default=None)
    name: str | None = None
    kind: str | None = None
    timestamp: int = 0
    duration: int = 0
    local: _Endpoint | None = msgspec.field(name="localEndpoint", default=None)
    tags: dict[str, str] | None = None


class _Zipkin:
    """Zipkin's query interface, version 2."""

    def __init__(self, source: Source, prefix: str) -> None:
        self._source = source
        self._prefix = f"{prefix}/api/v2"

    @property
    def name(self) -> str:
        """See `Tracing`."""
        return f"Zipkin at {self._source.name}"

    def understood(self) -> bool:
        """Whether the backend answers so."""
        return _understood(self._source, f"{self._prefix}/services", list[str])

    def trace(self, trace_id: str, *, deadline: Deadline | None = None) -> tuple[Span, ...]:
        """See `Tracing`."""
        reply = self._source.get(f"{self._prefix}/trace/{trace_id}", deadline=deadline)
        return () if reply.status == _NOT_FOUND else tuple(map(_of_zipkin, reply.decode(list[_ZipkinSpan])))

    def window(self, service: str, start: int, end: int, *, deadline: Deadline | None = None) -> tuple[Span, ...]:
        """See `Tracing`; Zipkin counts in milliseconds, backwards from the end."""
        query: dict[str, str | int] = {
            "serviceName": service.lower(),
            "endTs": -(-end // 1000),
            "lookback": max(1, -(-(end - start) // 1000)),
            "limit": _SPANS_OF_OTHERS,
        }
        reply = self._source.get(f"{self._prefix}/traces", query, deadline=deadline)
        if reply.status == _NOT_FOUND:
            return ()
        return tuple(_of_zipkin(span) for trace in reply.decode(list[list[_ZipkinSpan]]) for span in trace)


def _of_zipkin(span: _ZipkinSpan) -> Span:
    return _span(
        span.tags or {},
        trace_id=span.trace_id,
        span_id=span.span_id,
        parent_id=span.parent_id or "",
        service=span.local.service if span.local else "",
        name=span.name or "",
        kind=(span.kind or "").lower(),
        start=span.timestamp,
        duration=span.duration,
    )


# --- both -------------------------------------------------------------------------------------------------------------


def _span(
    tags: Mapping[str, str],
    *,
    trace_id: str,
    span_id: str,
    parent_id: str,
    service: str,
    name: str,
    kind: str,
    start: int,
    duration: int,
) -> Span:
    """A span, with what Envoy's tags say of its proxy: ``node_id`` is ``sidecar~10.0.0.1~POD.NAMESPACE~DOMAIN``."""
    words = tags.get("node_id", "").split("~")
    known = len(words) > 2
    return Span(
        trace_id=trace_key(trace_id),
        span_id=span_key(span_id),
        parent_id=span_key(parent_id),
        service=service,
        name=name,
        kind=kind.lower(),
        start=start,
        duration=duration,
        proxy=known or tags.get("component") == "proxy",
        node=words[2] if known else "",
        role=words[0] if known else "",
        request_id=tags.get("guid:x-request-id", ""),
    )


def _understood(source: Source, path: str, type_: type[object]) -> bool:
    """Whether a path gives JSON of this shape; other backends answer with 404 or with a page."""
    reply = source.get(path)
    if reply.status == _NOT_FOUND:
        return False

    try:
        reply.decode(type_)
    except UnavailableError:
        return False
    return True
