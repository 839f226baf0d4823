"""Every question of the live lines, asked once per run: the wire, the traces, a call from pod to pod, and how pods start.

What comes back is plain data (`Seen`), so that one process can ask and every worker can judge.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from pytest_meshready.cluster.client import Cluster
from pytest_meshready.cluster.snapshot import Snapshot
from pytest_meshready.istio import forwarded, measured, newborn, reach, traces, wire
from pytest_meshready.istio.entry import entries
from pytest_meshready.istio.targets import targets
from pytest_meshready.measuring import Measuring
from pytest_meshready.observability import tracing
from pytest_meshready.observability.http import UnavailableError
from pytest_meshready.observability.spans import Span
from pytest_meshready.probes import pod
from pytest_meshready.probes.guests import GuestPod
from pytest_meshready.probes.messages import Answer, Ask, Op
from pytest_meshready.probes.starts import Starter, Starts
from pytest_meshready.results import Unknown
from pytest_meshready.waiting import Deadline, until

if TYPE_CHECKING:
    from pytest_meshready.cluster.writes import Manifest
    from pytest_meshready.settings import Settings

#: Asks for answers from a probe, by its role; what could not be asked is told as a sentence.
Sender = Callable[[str, Sequence[Ask], Deadline], tuple[Mapping[str, Answer], str]]

INSIDE, OUTSIDE = "inside", "outside"

#: Seconds for all questions to the wire in one round, and for a trace to be complete (spans arrive one by one).
_ROUND, _TRACE = 30.0, 30.0

#: A proxy that has just started gets its endpoints within seconds: what looks odd is asked again, so often and so far apart.
_AGAIN, _PAUSE = 3, 3.0

#: Seconds until proxies know a Service that was just made, and until all pods of the comparison of starts must be ready.
_KNOWN, _STARTED = 15.0, 90.0

_OK = 200


class Traced(msgspec.Struct, frozen=True, kw_only=True):
    """The requests that were to be traced, and what the tracing backend had of them."""

    sent: tuple[traces.Sent, ...] = ()
    strays: tuple[Span, ...] = ()
    calls: measured.Calls | None = None
    backend: str = ""
    unknown: tuple[Unknown, ...] = ()


class Introduced(msgspec.Struct, frozen=True, kw_only=True):
    """A call from a pod of this run to its own Service, as it arrived; ``trouble`` is why none could be made."""

    answer: Answer | None = None
    trouble: str = ""


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What one run saw. ``trouble`` is the sentence of what could not be had; then some answers, or all, are missing."""

    answers: tuple[Answer, ...] = ()
    pods: dict[str, GuestPod] = {}
    traced: Traced = Traced()
    introduced: Introduced = Introduced()
    starts: Starts = Starts()
    trouble: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Questions:
    """Who asks what: the way to the probes, the API server, the snapshot, and what ends it early.

    ``create`` makes one more object of the run and tells why it could not. ``refused`` tells why the run may not make a Service
    of its own; ``starting`` whether it shall compare how pods start.
    """

    send: Sender
    create: Callable[[Manifest], str]
    cluster: Cluster
    snapshot: Snapshot
    settings: Settings
    run: pod.Run
    measuring: Measuring
    stopped: threading.Event
    refused: str = ""
    starting: bool = False

    def ask(self, pods: dict[str, GuestPod]) -> Seen:
        """Everything; Prometheus was asked before, so that what this run sends is not counted among what it finds."""
        self.measuring.settle()
        with ThreadPoolExecutor(3, thread_name_prefix="meshready-observe") as pool:
            asked, traced = pool.submit(self._wire), pool.submit(self._trace)
            introduced = pool.submit(self._introduce, pods.get(INSIDE))
            answers, trouble = asked.result()
            met = introduced.result()
            starts = self._start(pods.get(INSIDE))  # after the wire: two busy processors would make pods look slow
            return Seen(answers=answers, pods=pods, traced=traced.result(), introduced=met, starts=starts, trouble=trouble)

    # --- the wire ---

    def _wire(self) -> tuple[tuple[Answer, ...], str]:
        found = targets(self.snapshot, self.settings.paths)
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

    # --- from pod to pod ---

    def _introduce(self, inside: GuestPod | None) -> Introduced:
        """Call the run's own Service from the pod behind it: what its proxy says of the caller is what it accepted."""
        if inside is None or self.refused:
            return Introduced(trouble=self.refused or "this run has no probe pod in the mesh")
        made = [pod.service(self.run, INSIDE)]
        if forwarded.needs_policy(self.snapshot, inside.manifest["metadata"].get("labels") or {}):
            made.append(pod.authorization_policy(self.run))
        for manifest in made:
            if trouble := self.create(manifest):
                return Introduced(trouble=trouble)
        host = f"{made[0]['metadata']['name']}.{self.run.namespace}.svc"
        ask = Ask(id="introduce", op=Op.HTTP, host=host, port=pod.ECHO_PORT, path="/")
        last = Introduced(trouble="the call between two pods of this run was not made")

        def call() -> bool | None:
            nonlocal last
            got, trouble = self.send(INSIDE, [ask], Deadline(_KNOWN))
            last = Introduced(answer=got.get(ask.id), trouble=trouble)
            answered = last.answer is not None and last.answer.status == _OK
            return True if answered or trouble or self.stopped.is_set() else None

        until(call, every=1.0, deadline=Deadline(_KNOWN))
        return last

    # --- how pods start ---

    def _start(self, inside: GuestPod | None) -> Starts:
        if not self.starting or inside is None or self.stopped.is_set():
            return Starts(trouble="" if inside else "this run has no probe pod in the mesh")
        starter = Starter(cluster=self.cluster, run=self.run, node=inside.node, create=self.create, stopped=self.stopped.is_set)
        return starter.pairs(newborn.AT_LEAST, Deadline(_STARTED))

    # --- traces ---

    def _trace(self) -> Traced:
        ways = entries(self.snapshot, self.settings.entry_path)
        if not ways.found:
            return Traced(unknown=ways.unknown)
        requests = traces.trace_requests(self.snapshot, ways.found[0])
        given = self.settings.tracing
        try:
            backend = tracing.connect(self.cluster, self.snapshot, url=given.url, headers=given.headers, ca=given.ca)
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
        return Traced(sent=sent, strays=strays, calls=self.measuring.calls(), backend=backend.name)
