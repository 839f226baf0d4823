"""Every question of the live lines, asked once per run: the wire, the traces, and what Prometheus counted.

What comes back is plain data (`Seen`), so that one process can ask and every worker can judge.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import msgspec

from pytest_meshready.cluster.client import Cluster
from pytest_meshready.cluster.snapshot import Snapshot
from pytest_meshready.istio import measured, reach, traces, wire
from pytest_meshready.istio.entry import entries
from pytest_meshready.istio.targets import targets
from pytest_meshready.observability import prometheus, tracing
from pytest_meshready.observability.http import UnavailableError
from pytest_meshready.observability.prometheus import Prometheus, Sample
from pytest_meshready.observability.spans import Span
from pytest_meshready.probes.guests import GuestPod
from pytest_meshready.probes.messages import Answer, Ask
from pytest_meshready.results import Unknown
from pytest_meshready.waiting import Deadline

#: Asks for answers from a probe, by its role; what could not be asked is told as a sentence.
Sender = Callable[[str, Sequence[Ask], Deadline], tuple[Mapping[str, Answer], str]]

INSIDE, OUTSIDE = "inside", "outside"

#: Seconds for all questions to the wire in one round, and for a trace to be complete (spans arrive one by one).
_ROUND, _TRACE = 30.0, 30.0

#: A proxy that has just started gets its endpoints within seconds: what looks odd is asked again, so often and so far apart.
_AGAIN, _PAUSE = 3, 3.0


class Traced(msgspec.Struct, frozen=True, kw_only=True):
    """The requests that were to be traced, and what the tracing backend had of them."""

    sent: tuple[traces.Sent, ...] = ()
    strays: tuple[Span, ...] = ()
    calls: measured.Calls | None = None
    backend: str = ""
    unknown: tuple[Unknown, ...] = ()


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """The samples of Prometheus for the lines about calls in the namespace."""

    plain: tuple[Sample, ...] = ()
    mutual: tuple[Sample, ...] = ()
    calls: tuple[Sample, ...] = ()
    failed: tuple[Sample, ...] = ()
    rejects: tuple[Sample, ...] = ()
    unknown: tuple[Unknown, ...] = ()


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What one run saw. ``trouble`` is the sentence of what could not be had; then some answers, or all, are missing."""

    answers: tuple[Answer, ...] = ()
    pods: dict[str, GuestPod] = {}
    traced: Traced = Traced()
    measured: Measured = Measured()
    trouble: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Questions:
    """Who asks what: the way to the probes, the API server, the snapshot, and what ends it early."""

    send: Sender
    cluster: Cluster
    snapshot: Snapshot
    stopped: threading.Event

    def ask(self, pods: dict[str, GuestPod]) -> Seen:
        """Everything; metrics first, so that what this run sends is not counted among what it finds."""
        counted = self._measure()
        with ThreadPoolExecutor(2, thread_name_prefix="meshready-observe") as pool:
            asked, traced = pool.submit(self._wire), pool.submit(self._trace)
            answers, trouble = asked.result()
            return Seen(answers=answers, pods=pods, traced=traced.result(), measured=counted, trouble=trouble)

    def _wire(self) -> tuple[tuple[Answer, ...], str]:
        found = targets(self.snapshot)
        plan, answers, trouble = wire.asks(found), dict[str, Answer](), ""
        for _ in range(_AGAIN):
            got, trouble = self._both(plan)
            answers |= got
            plan = reach.doubtful(wire.observe(self.snapshot, found, answers))
            if trouble or not (plan.meshed or plan.unmeshed) or self.stopped.wait(_PAUSE):
                break
        return tuple(answers.values()), trouble

    def _both(self, plan: wire.Plan) -> tuple[dict[str, Answer], str]:
        deadline = Deadline(_ROUND)
        with ThreadPoolExecutor(2, thread_name_prefix="meshready-ask") as pool:
            asked = ((INSIDE, plan.meshed), (OUTSIDE, plan.unmeshed))
            futures = [pool.submit(self.send, role, asks, deadline) for role, asks in asked if asks]
            results = [future.result() for future in futures]
        answers = {id_: answer for got, _ in results for id_, answer in got.items()}
        return answers, "; ".join(dict.fromkeys(trouble for _, trouble in results if trouble))

    def _trace(self) -> Traced:
        ways = entries(self.snapshot)
        if not ways.found:
            return Traced(unknown=ways.unknown)
        requests = traces.trace_requests(self.snapshot, ways.found[0])
        try:
            backend = tracing.connect(self.cluster, self.snapshot)
            answers, trouble = self.send(OUTSIDE, [request.ask() for request in requests], Deadline(_ROUND))
            if trouble:
                return Traced(unknown=(Unknown(reason=trouble),))
            settled = tracing.settled(backend, [request.trace_id for request in requests], deadline=Deadline(_TRACE))
            sent = tuple(
                traces.Sent(
                    request=request,
                    answer=answers.get(request.ask().id),
                    spans=settled[request.trace_id].spans,
                    stable=settled[request.trace_id].stable,
                )
                for request in requests
            )
            strays = tuple(span for window in traces.searched(sent) for span in backend.window(*window, deadline=Deadline(_ROUND)))
        except UnavailableError as error:
            return Traced(unknown=(error.unknown,))
        return Traced(sent=sent, strays=strays, calls=self._calls(), backend=backend.name)

    def _calls(self) -> measured.Calls | None:
        try:
            backend = prometheus.connect(self.cluster, self.snapshot)
            answered, called = measured.call_queries(self.snapshot.namespace)
            return measured.calls_of(backend.query(answered), backend.query(called))
        except UnavailableError:
            return None

    def _measure(self) -> Measured:
        namespace = self.snapshot.namespace
        mtls, failures = measured.mtls_queries(namespace), measured.failure_queries(namespace)
        try:
            backend = prometheus.connect(self.cluster, self.snapshot)
            return Measured(
                plain=_all(backend, mtls.plain),
                mutual=_all(backend, mtls.mutual),
                calls=_all(backend, (failures.calls,)),
                failed=_all(backend, (failures.failed,)),
                rejects=_all(backend, (failures.rejects,)),
            )
        except UnavailableError as error:
            return Measured(unknown=(error.unknown,))


def _all(backend: Prometheus, queries: Sequence[str]) -> tuple[Sample, ...]:
    return tuple(sample for query in queries for sample in backend.query(query))
