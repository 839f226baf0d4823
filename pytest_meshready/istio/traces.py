"""Line 5.2.3, and the live part of 5.2.1: a request with a known trace id is followed through the namespace, span by span.

A proxy reports a span for each request that it takes and for each that it sends; what the application has to do is to copy
the headers from the one to the other. So in a healthy trace the parent of what a pod sends is what the same pod took. Who
does not copy is seen at its end: the trace stops there, although it calls on (its proxy counts these calls), or these calls
begin traces of their own. The parent that we sent has no span: nobody reports one for us.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from pytest_meshready.cluster.snapshot import Snapshot
from pytest_meshready.istio.entry import Entry
from pytest_meshready.istio.measured import Calls
from pytest_meshready.istio.telemetry import Family, TracingSettings, mesh_config
from pytest_meshready.istio.tracefaults import Faults, Names
from pytest_meshready.istio.tracetree import SLACK, Tree, begun_by, same_pod
from pytest_meshready.istio.wording import shortened
from pytest_meshready.istio.workloads import workloads
from pytest_meshready.observability.spans import Span
from pytest_meshready.probes.messages import Answer, Ask, Op
from pytest_meshready.results import Evidence, Finding, Judgement, Level, ObjectRef, Unknown

#: A service that calls on this often for each request has called on for ours, too.
ALWAYS = 0.9

_SERVER = "server"
_REDIRECTS = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceRequest:
    """One request to send, with the ids by which it is found again.

    ``families`` are the headers that it carries; ``single`` writes those of B3 in the one header ``b3``.
    """

    entry: Entry
    families: frozenset[Family]
    trace_id: str
    span_id: str
    single: bool = False

    @property
    def name(self) -> str:
        """The headers in words: ``B3``, ``W3C``, ``B3 (one header) and W3C``."""
        words = {Family.B3: "B3 (one header)" if self.single else "B3", Family.W3C: "W3C"}
        return " and ".join(word for family, word in words.items() if family in self.families)

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        """The headers that carry the ids, sampled."""
        found: list[tuple[str, str]] = []
        if Family.B3 in self.families and self.single:
            found.append(("b3", f"{self.trace_id}-{self.span_id}-1"))
        elif Family.B3 in self.families:
            found += [("x-b3-traceid", self.trace_id), ("x-b3-spanid", self.span_id), ("x-b3-sampled", "1")]
        if Family.W3C in self.families:
            found.append(("traceparent", f"00-{self.trace_id}-{self.span_id}-01"))
        return tuple(found)

    def ask(self) -> Ask:
        """The request for a probe outside the mesh; a gateway's certificate is another line's matter and is not verified."""
        entry = self.entry
        return Ask(
            id=f"trace|{self.name}",
            op=Op.HTTP,
            host=entry.address,
            port=entry.port,
            path=entry.path,
            headers=(("Host", entry.host), *self.headers),
            tls=entry.tls,
            server_name=entry.host if entry.tls else "",
            timeout=10.0,
            keep=256,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A request that was sent, and its trace: ``stable`` tells whether spans had stopped to arrive when it was read last."""

    request: TraceRequest
    answer: Answer | None = None
    spans: tuple[Span, ...] = ()
    stable: bool = False

    @property
    def status(self) -> int:
        """The HTTP status; 0 without an answer."""
        return self.answer.status if self.answer is not None else 0

    @property
    def tree(self) -> Tree:
        """Its spans as a tree."""
        return Tree(self.spans, self.request.trace_id, self.request.span_id)


def trace_requests(snapshot: Snapshot, entry: Entry, *, hexadecimal: Callable[[int], str] = secrets.token_hex) -> tuple[TraceRequest, ...]:
    """The requests to send through an entry: one for each family of headers that the gateway's provider reads, and with all.

    B3 comes in three headers by itself, and in the one header ``b3`` together with W3C.

    Args:
        snapshot: for the provider; where it is not known, one request carries all.
        entry: the way into the namespace.
        hexadecimal: gives so many random bytes in hexadecimal digits.
    """
    setting = TracingSettings(snapshot).of(dict(entry.selector), entry.address.rpartition(".")[2])
    known = setting.provider.families if setting.provider is not None else frozenset()
    each = [frozenset({family}) for family in sorted(known)]
    wanted = [*each, frozenset(Family)] if len(each) != 1 else each
    return tuple(
        TraceRequest(
            entry=entry,
            families=families,
            trace_id=f"1{hexadecimal(16)[1:]}",
            span_id=f"1{hexadecimal(8)[1:]}",
            single=len(families) > 1,
        )
        for families in wanted
    )


def searched(sent: Iterable[Sent]) -> tuple[tuple[str, int, int], ...]:
    """Where to look for traces that begin in the middle of ours: service, from and to (microseconds since 1970).

    They are the pods at which a trace ends: what they call on while they work for us should be in our trace.
    """
    found: dict[str, tuple[int, int]] = {}
    for item in sent:
        for leaf in item.tree.leaves():
            first, last = found.get(leaf.service, (leaf.start, leaf.start + leaf.duration))
            found[leaf.service] = (min(first, leaf.start - SLACK), max(last, leaf.start + leaf.duration + SLACK))
    return tuple((service, first, last) for service, (first, last) in sorted(found.items()))


def traced(snapshot: Snapshot, sent: Sequence[Sent], backend: str = "the tracing backend") -> Judgement:
    """Line 5.2.1, live: a request with a sampled trace id comes back from the tracing backend.

    Errors: requests were answered and no trace came, or only spans of the gateway. ``MR521-NO-TRACE``, ``MR521-NO-SPANS``.

    Args:
        snapshot: of the cluster.
        sent: what was sent and found.
        backend: its name, for messages.
    """
    unknown = [*_unanswered(sent)]
    answered = [item for item in sent if item.status]
    spans = [span for item in answered for span in item.spans]
    findings: list[Finding] = []
    if answered and not spans:
        findings.append(_no_trace(answered[0].request, backend))
    elif spans and not any(_inside(span, snapshot.namespace) for span in spans):
        findings.append(_only_gateway(snapshot, answered, "MR521"))
    count = max((len(item.spans) for item in answered), default=0)
    return Judgement(
        summary=f"a request through the gateway came back from {backend} with {count} spans",
        examined=len(answered),
        findings=tuple(findings),
        unknown=tuple(unknown),
        evidence=(_table(sent),),
    )


def propagated(
    snapshot: Snapshot,
    sent: Sequence[Sent],
    *,
    strays: Iterable[Span] = (),
    calls: Calls | None = None,
    expected: Iterable[str] = (),
) -> Judgement:
    """Line 5.2.3: one request makes one trace, with the right parents, through every service that it reaches.

    Errors: a service that calls on outside of the trace, or with the ids of another request; a family of headers that the
    gateway does not continue; a service that must be there and is not. Warnings: a parent that nobody reported.
    ``MR523-...``.

    Args:
        snapshot: of the cluster.
        sent: what was sent and found.
        strays: the spans found where `searched` said to look.
        calls: what the proxies counted; None where it is not known.
        expected: workloads that the request is known to reach.
    """
    names = Names(snapshot)
    good = [item for item in sent if item.spans]
    unknown = [*_unanswered(sent), *_unsettled(sent)]
    if not good:
        reason = "no trace came back, so nothing shows whether services pass the headers on"
        return Judgement(unknown=(*unknown, Unknown(reason=reason)), evidence=(_table(sent),))
    findings = [_not_continued(snapshot, item, good[0]) for item in sent if item.stable is False and not item.spans and item.status]
    faults = Faults()
    proved = False
    foreign = tuple(strays)
    for item in good:
        tree = item.tree
        proved = proved or any(True for _ in tree.hops())
        _check(tree, item.request.name, names=names, faults=faults, strays=foreign, calls=calls)
    inside = any(_inside(span, snapshot.namespace) for item in good for span in item.spans)
    if inside:
        findings += faults.findings()
        findings += _missing(names, good, expected)
        unknown += faults.unknown()
        unknown += [] if proved or findings else [_nothing_to_prove(good, names, calls)]
    else:
        findings.append(_only_gateway(snapshot, good, "MR523"))
    longest = max(good, key=lambda item: len(item.spans))
    return Judgement(
        summary=f"one trace through {_path(longest)}, with {shortened(dict.fromkeys(item.request.name for item in good))} headers",
        examined=sum(len(item.spans) for item in good),
        findings=tuple(findings),
        unknown=tuple(dict.fromkeys(unknown)),
        evidence=(_table(sent),),
    )


# --- one trace --------------------------------------------------------------------------------------------------------


def _check(tree: Tree, family: str, *, names: Names, faults: Faults, strays: Sequence[Span], calls: Calls | None) -> None:
    """Look at one trace for everything that can be wrong with it."""
    for span in tree.senders():
        above = tree.taken(span)
        if above is None and not tree.first(span):
            faults.orphan(names.of(span), family, replaced=not span.parent_id)
        elif above is not None and not (above.kind == _SERVER and same_pod(above, span)):
            faults.wrong(names.of(span), family, names.of(above).name)
    lost = [span for span in tree.servers() if tree.above(span) is None and not tree.first(span)]
    for span in lost:
        faults.lost(names.of(span), family)
    for leaf in tree.leaves():
        workload = names.of(leaf)
        begun = [span for span in strays if begun_by(span, leaf)]
        if begun:
            faults.dropped(
                workload, family, f"it sent {begun[0].name or 'a request'} meanwhile, which is in trace {begun[0].trace_id} instead"
            )
        elif calls is not None and not lost:  # else a leaf may be who sent what was lost
            _judge_leaf(workload, family, calls, faults)


def _judge_leaf(workload: ObjectRef, family: str, calls: Calls, faults: Faults) -> None:
    """A service at which the trace ends, by what its proxy counted."""
    targets = calls.called.get(workload.name, {})
    ratio = calls.ratio(workload.name)
    if not targets:
        return
    names = shortened(sorted(targets, key=lambda name: -targets[name]))
    if ratio is None:
        faults.doubt(workload, f"{workload.name} calls {names}, but Prometheus has not counted the requests that it took yet")
    elif ratio >= ALWAYS:
        faults.dropped(workload, family, f"it makes {ratio:.1f} calls for each request, to {names}, and none of them is in the trace")
    else:
        faults.doubt(workload, f"{workload.name} calls {names} for {ratio:.0%} of its requests: whether it did for ours is not known")


# --- what is said of whole traces -------------------------------------------------------------------------------------


def _unanswered(sent: Sequence[Sent]) -> Iterator[Unknown]:
    if not sent:
        yield Unknown(reason="no request was sent, so there is no trace to look for")
    for item in sent:
        where = f"the request to {item.request.entry.url} with {item.request.name} headers"
        if not item.status:
            error = item.answer.error if item.answer is not None else ""
            yield Unknown(reason=f"{where} was not answered{f' ({error})' if error else ''}, so its trace says nothing")
        elif item.status >= _REDIRECTS:
            yield Unknown(
                reason=f"{where} got {item.status}, so it may have gone no further; give a path in meshready.toml that answers 200"
            )


def _unsettled(sent: Sequence[Sent]) -> Iterator[Unknown]:
    for item in sent:
        if item.spans and not item.stable:
            yield Unknown(reason=f"spans of the request with {item.request.name} headers were still arriving at the deadline")


def _no_trace(request: TraceRequest, backend: str) -> Finding:
    return Finding(
        code="MR521-NO-TRACE",
        level=Level.ERROR,
        object=request.entry.gateway,
        found=f"a request with a sampled trace id went through {request.entry.url}, and {backend} has no span of it",
        wanted="one trace for it, with the spans of every proxy on its way",
        fix="see whether the collector takes spans, and that its backend is this one: kubectl get telemetry -A",
    )


def _only_gateway(snapshot: Snapshot, sent: Sequence[Sent], line: str) -> Finding:
    """Nothing of the namespace is in the trace; a Telemetry may be why."""
    settings = TracingSettings(snapshot)
    service = sent[0].request.entry.service
    for item in workloads(snapshot, snapshot.namespace):
        template = item.pods[0] if item.pods else item.template
        setting = settings.of(template.metadata.labels, snapshot.namespace, template.metadata.annotations)
        by = next((side.disabled_by for side in setting.sides if side.disabled_by is not None), None)
        if by is not None:
            return Finding(
                code=f"{line}-SPANS-OFF",
                level=Level.ERROR,
                object=by,
                found=f"the trace ends at the gateway: the proxies of {snapshot.namespace} report no spans, as disableSpanReporting says",
                wanted="spans of every proxy on the way",
                fix=f"take disableSpanReporting out: kubectl -n {by.namespace} edit telemetry {by.name}",
            )
    return Finding(
        code=f"{line}-NO-SPANS",
        level=Level.ERROR,
        object=ObjectRef(kind="Namespace", name=snapshot.namespace),
        found=f"the trace of a request to Service {service} holds spans of the gateway alone, none of this namespace",
        wanted="spans of every proxy on the way",
        fix=f"see whether its pods have a proxy that traces: istioctl proxy-status -n {snapshot.namespace}",
    )


def _not_continued(snapshot: Snapshot, item: Sent, other: Sent) -> Finding:
    """One family of headers led to nothing, although another did."""
    config = mesh_config(snapshot)
    return Finding(
        code="MR523-NOT-CONTINUED",
        level=Level.ERROR,
        object=item.request.entry.gateway,
        found=f"a trace that comes with {item.request.name} headers is not continued, one with {other.request.name} is",
        wanted="the headers that the tracing provider is configured to read are read",
        fix=f"look at the provider's traceContextOption: kubectl -n {config.namespace} get configmap {config.name} -o yaml",
        detail=item.request.name,
    )


def _missing(names: Names, good: Sequence[Sent], expected: Iterable[str]) -> Iterator[Finding]:
    seen = {names.of(span).name for item in good for span in item.spans}
    for name in dict.fromkeys(expected):
        if name not in seen:
            yield Finding(
                code="MR523-INCOMPLETE",
                level=Level.ERROR,
                object=names.named(name),
                found=f"no trace of a request to {good[0].request.entry.url} has a span of it",
                wanted="spans of every service that the request reaches",
                fix="see who on the way to it does not copy the trace headers: istioctl dashboard jaeger",
            )


def _nothing_to_prove(good: Sequence[Sent], names: Names, calls: Calls | None) -> Unknown:
    """The trace is whole, and nobody in it had to pass anything on."""
    last = {names.of(span).name for item in good for span in item.tree.servers()}
    url = good[0].request.entry.url
    if calls is None:
        return Unknown(
            reason=f"the trace of {url} ends at {shortened(sorted(last))}, and without metrics nothing shows whether it calls on"
        )
    return Unknown(reason=f"{url} reaches {shortened(sorted(last))}, which calls nobody, so no service had to pass headers on")


def _inside(span: Span, namespace: str) -> bool:
    """Whether a proxy of the namespace reported a span."""
    return (span.node or span.service).rpartition(".")[2] == namespace


def _path(sent: Sent) -> str:
    """The services in the order in which they took the request."""
    return " -> ".join(dict.fromkeys(span.service for span in sent.tree.spans))


def _table(sent: Sequence[Sent]) -> Evidence:
    rows: list[Mapping[str, str]] = [
        {
            "headers": item.request.name,
            "trace": item.request.trace_id,
            "request": f"{item.request.entry.url}: {item.status or 'no answer'}",
            "spans": f"{len(item.spans)}{'' if item.stable else ', still arriving'}" if item.spans else "none",
            "way": _path(item),
        }
        for item in sent
    ]
    return Evidence(kind="table", source="requests through the gateway, and their traces", data=rows)
