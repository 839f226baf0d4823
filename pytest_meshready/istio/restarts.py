"""Crash loops of Istio's own pods (checks.md 3.2.2, the part that objects can show)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from pytest_meshready.cluster.objects import ContainerStatus, Pod, StateDetail
from pytest_meshready.cluster.snapshot import Snapshot
from pytest_meshready.istio import nodeagents
from pytest_meshready.istio.components import READS as COMPONENTS
from pytest_meshready.istio.components import gateways, istiods, why_no_istiod
from pytest_meshready.istio.moments import ago, moment, now_of
from pytest_meshready.istio.workloads import Workload, pod_names
from pytest_meshready.results import Finding, Judgement, Level, Unknown

#: The kinds that the rule reads.
READS = (*COMPONENTS, "services", "node_pods")

#: Seconds for which a crash counts: 24 hours.
RECENT = 86400

_NOT_STARTING = frozenset({"ImagePullBackOff", "ErrImagePull", "InvalidImageName", "CreateContainerConfigError", "CreateContainerError"})


def no_crash_loops(snapshot: Snapshot, *, now: datetime | None = None) -> Judgement:
    """Line 3.2.2, static part: no pod of istiod, of a gateway, of istio-cni or of ztunnel crashes.

    Evidence: the states of the containers. ``restartCount`` counts a pod's whole life, so when it happened is read from
    ``lastState.terminated.finishedAt`` and compared with ``now``, by default the time of the snapshot.

    Errors: CrashLoopBackOff; OOMKilled within 24 hours. Warnings: restarted within 24 hours; a container that cannot be
    started at all (image, configuration).
    """
    judged = _judged(snapshot)
    time = now_of(snapshot, now)
    findings: list[Finding] = []
    undated: list[Pod] = []
    for workload in judged:
        found, without_time = _of_workload(workload, time)
        findings += found
        undated += without_time
    unknown = [*snapshot.unread(*COMPONENTS, "services"), *_missing(snapshot)]
    if undated:
        unknown.append(Unknown(reason=f"it is not known when these pods crashed last: {pod_names(undated)}"))
    pods = sum(len(workload.pods) for workload in judged)
    return Judgement(
        summary=f"none of {pods} pods of istiod, gateways and node agents crashed in the last 24 hours",
        examined=pods,
        findings=tuple(findings),
        unknown=tuple(unknown),
    )


def _judged(snapshot: Snapshot) -> tuple[Workload, ...]:
    chosen = (*(item.workload for item in istiods(snapshot)), *gateways(snapshot), *nodeagents.agents(snapshot))
    return tuple({workload.ref: workload for workload in chosen}.values())


def _missing(snapshot: Snapshot) -> Iterator[Unknown]:
    """What should have been seen and was not: istiod itself, and the agents on the nodes where the namespace relies on them."""
    if not istiods(snapshot):
        yield why_no_istiod(snapshot)
    yield from nodeagents.unseen(snapshot)


@dataclass(frozen=True, slots=True)
class _Crash:
    """What one container's status says. ``when`` is text: ``40 min ago``."""

    problem: str
    container: str
    when: str = ""


def _of_workload(workload: Workload, now: datetime | None) -> tuple[list[Finding], list[Pod]]:
    """One finding for each problem and container, and the pods whose last crash has no time."""
    seen: dict[tuple[str, str], list[tuple[Pod, _Crash]]] = {}
    undated = []
    for pod in workload.pods:
        for status in (*pod.status.init_container_statuses, *pod.status.container_statuses):
            crash = _crash(status, now)
            if crash is None:
                continue
            if crash.problem == "UNDATED":
                undated.append(pod)
            else:
                seen.setdefault((crash.problem, crash.container), []).append((pod, crash))
    return [_finding(workload, problem, hits) for (problem, _), hits in seen.items()], undated


def _crash(status: ContainerStatus, now: datetime | None) -> _Crash | None:
    """The worst that a container's status shows; None where all is well."""
    waiting = status.state.waiting.reason if status.state.waiting else ""
    if waiting == "CrashLoopBackOff":
        return _Crash("CRASH-LOOP", status.name)
    ended = status.state.terminated or status.last_state.terminated
    if ended is not None and not _ended_well(status, ended):
        finished = moment(ended.finished_at)
        if finished is None or now is None:
            return _Crash("UNDATED", status.name)
        age = (now - finished).total_seconds()
        if age <= RECENT:
            return _Crash("OOM-KILLED" if ended.reason == "OOMKilled" else "RESTARTED", status.name, f"{ago(max(0, age))} ago")
    if waiting in _NOT_STARTING:
        return _Crash("NOT-STARTING", status.name, waiting)
    return None


def _ended_well(status: ContainerStatus, ended: StateDetail) -> bool:
    """Whether a container did its work and ended, as an init container does: it was never restarted and left with 0."""
    return status.restart_count == 0 and (ended.exit_code or 0) == 0 and ended.reason != "OOMKilled"


def _finding(workload: Workload, problem: str, hits: list[tuple[Pod, _Crash]]) -> Finding:
    pod, crash = hits[0]
    who, name, namespace = pod_names(pod for pod, _ in hits), crash.container, workload.ref.namespace
    previous = f"kubectl -n {namespace} logs {pod.metadata.name} -c {name} --previous"
    level, found, fix = {
        "CRASH-LOOP": (Level.ERROR, f"container {name} is in CrashLoopBackOff: {who}", previous),
        "OOM-KILLED": (
            Level.ERROR,
            f"container {name} was killed for lack of memory {crash.when}: {who}",
            f"raise its memory limit; see: kubectl -n {namespace} describe pod {pod.metadata.name}",
        ),
        "RESTARTED": (Level.WARNING, f"container {name} was restarted, last {crash.when}: {who}", previous),
        "NOT-STARTING": (
            Level.WARNING,
            f"container {name} cannot be started ({crash.when}): {who}",
            f"kubectl -n {namespace} describe pod {pod.metadata.name}",
        ),
    }[problem]
    return Finding(
        code=f"MR322-{problem}",
        level=level,
        object=workload.ref,
        found=found,
        wanted="containers that run without a restart for 24 hours",
        fix=fix,
        detail=name,
    )
