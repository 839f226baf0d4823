"""The spans of one request as a tree, and who in it passed the request on (see `pytest_meshready.istio.traces`)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pytest_meshready.observability.spans import Span, span_key, trace_key

_CLIENT, _SERVER = "client", "server"
_ROUTER, _SIDECAR = "router", "sidecar"

#: Microseconds that the clocks of one proxy's two spans may differ.
SLACK = 1000


class Tree:
    """The spans of one request, by their ids; a client's and a server's span may share one."""

    def __init__(self, spans: Iterable[Span], trace_id: str, span_id: str) -> None:
        self.entry = span_key(span_id)
        self.trace_id = trace_key(trace_id)
        unique = {(span.span_id, span.kind, span.service): span for span in spans if span.trace_id == self.trace_id}
        self.spans = sorted(unique.values(), key=lambda span: (span.start, span.kind != _CLIENT))
        self._by_id: dict[str, list[Span]] = {}
        for span in self.spans:
            self._by_id.setdefault(span.span_id, []).append(span)

    def first(self, span: Span) -> bool:
        """Whether a span is what our request became, so that no span of its parent is to be expected."""
        return self.entry in (span.parent_id, span.span_id)

    def above(self, span: Span) -> Span | None:
        """The span that a span is part of; None for the first, and where nobody reported it."""
        shared = next((other for other in self._by_id[span.span_id] if other.kind == _CLIENT and span.kind == _SERVER), None)
        if shared is not None:
            return shared
        parents = self._by_id.get(span.parent_id, [])
        return next((other for other in parents if other.kind == _SERVER), parents[0] if parents else None)

    def taken(self, span: Span) -> Span | None:
        """What a proxy or a pod took that made it send ``span``: the nearest span of a proxy above, past the application's own."""
        seen = {id(span)}
        found = self.above(span)
        while found is not None and not found.proxy and id(found) not in seen:
            seen.add(id(found))
            found = self.above(found)
        return found

    def servers(self) -> Iterator[Span]:
        """What sidecars took."""
        return (
            span for span in self.spans if span.proxy and span.kind == _SERVER and span.role in ("", _SIDECAR) and not self._gateway(span)
        )

    def senders(self) -> Iterator[Span]:
        """What sidecars sent."""
        return (span for span in self.spans if span.proxy and span.kind == _CLIENT and not self._gateway(span))

    def leaves(self) -> Iterator[Span]:
        """What sidecars took and whose pods sent nothing on in this trace."""
        sent = list(self.senders())
        return (span for span in self.servers() if not any(same_pod(other, span) for other in sent))

    def hops(self) -> Iterator[Span]:
        """What sidecars sent as a part of what they took: their pods passed the headers on."""
        for span in self.senders():
            above = self.taken(span)
            if above is not None and above.kind == _SERVER and same_pod(above, span):
                yield span

    def _gateway(self, span: Span) -> bool:
        """Whether a gateway reported a span; some of its spans do not say so, but bear the same service as one that does."""
        return span.role == _ROUTER or any(other.service == span.service and other.role == _ROUTER for other in self.spans)


def same_pod(one: Span, other: Span) -> bool:
    """Whether two spans were reported by proxies of one pod, or, where that is not said, of one service."""
    return one.node == other.node if one.node and other.node else one.service == other.service


def begun_by(span: Span, leaf: Span) -> bool:
    """Whether a span of another trace is what the pod of ``leaf`` sent while it worked for us."""
    if span.trace_id == leaf.trace_id or span.kind != _CLIENT or not span.proxy or not same_pod(span, leaf):
        return False
    if span.request_id and span.request_id == leaf.request_id:
        return True
    during = leaf.start - SLACK <= span.start and span.start + span.duration <= leaf.start + leaf.duration + SLACK
    return bool(leaf.node) and not span.parent_id and during
