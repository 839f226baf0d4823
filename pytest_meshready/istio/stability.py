"""Line 1.1.1: is what the mesh is to carry stable by itself (checks.md 1.1.1).

A rollout that stands still, a workload that is not available, containers that keep restarting: whatever a mesh adds, these
are there before. ``restartCount`` counts a pod's whole life, so it counts only while the last restart is recent.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from pytest_meshready.cluster.objects import Condition, ContainerStatus, DaemonSet, Deployment, Pod, StatefulSet
from pytest_meshready.cluster.snapshot import Snapshot, in_namespace
from pytest_meshready.istio.dataplane import PROXY, SETUP
from pytest_meshready.istio.moments import ago, moment, now_of
from pytest_meshready.istio.namespaces import unread_in
from pytest_meshready.istio.workloads import BATCH, Workload, pod_names, workloads
from pytest_meshready.istio.workloads import READS as WORKLOADS
from pytest_meshready.results import Finding, Judgement, Level, ObjectRef

#: What `workloads_stable` reads.
READS = (*WORKLOADS, "replicasets")

#: The time that counts.
WINDOW = timedelta(days=7)

#: Restarts of a pod, and ReplicaSets of a Deployment, that are still normal within it.
RESTARTS, REVISIONS = 3, 5

#: Why a container does not start, however long one waits.
STUCK = frozenset(
    {"ImagePullBackOff", "ErrImagePull", "InvalidImageName", "ErrImageNeverPull", "CreateContainerConfigError", "CreateContainerError"}
)
_CRASHES = "CrashLoopBackOff"

_Owner = Deployment | StatefulSet | DaemonSet


def workloads_stable(snapshot: Snapshot, *, now: datetime | None = None) -> Judgement:
    """Line 1.1.1, static part.

    Errors: a workload that is not available; a rollout that cannot go on (its deadline has passed, its new pods cannot
    start); a container in a crash loop. Warnings: a rollout under way or paused; replicas that are not ready; more than 3
    restarts of a pod's container, the last within 7 days; more than 5 ReplicaSets of a Deployment in 7 days. What is
    scaled to nothing is stable.
    """
    namespace, time = snapshot.namespace, now_of(snapshot, now)
    owners: tuple[_Owner, ...] = (
        *in_namespace(snapshot.deployments, namespace),
        *in_namespace(snapshot.statefulsets, namespace),
        *in_namespace(snapshot.daemonsets, namespace),
    )
    by_ref = {item.ref: item for item in workloads(snapshot, namespace) if item.kind not in BATCH}
    findings: list[Finding] = []
    for owner in owners if snapshot.is_deployed else ():
        ref = ObjectRef(kind=owner.kind, namespace=namespace, name=owner.metadata.name)
        findings += _of_owner(_Case(ref=ref, owner=owner, workload=by_ref.get(ref)))
    for workload in by_ref.values():
        findings += _restarts(workload, time)
    findings += _revisions(snapshot, time)
    return Judgement(
        summary=f"all {len(by_ref)} workloads of namespace {namespace} are available, none rolls out and none keeps restarting",
        examined=len(by_ref),
        findings=tuple(findings),
        unknown=unread_in(snapshot, namespace, *READS),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    """An owner of pods with its pods (None where they were not found)."""

    ref: ObjectRef
    owner: _Owner
    workload: Workload | None

    @property
    def wanted(self) -> int:
        """How many pods there should be."""
        if isinstance(self.owner, DaemonSet):
            return self.owner.status.desired_number_scheduled
        return 1 if self.owner.spec.replicas is None else self.owner.spec.replicas

    @property
    def ready(self) -> int:
        """How many are ready."""
        return self.owner.status.number_ready if isinstance(self.owner, DaemonSet) else self.owner.status.ready_replicas

    @property
    def updated(self) -> int:
        """How many are of the newest template."""
        status = self.owner.status
        return status.updated_number_scheduled if isinstance(self.owner, DaemonSet) else status.updated_replicas

    @property
    def pods(self) -> Sequence[Pod]:
        """Its pods."""
        return self.workload.pods if self.workload else ()

    @property
    def rolls(self) -> bool:
        """Whether a rollout is not finished; with OnDelete it is finished when a person says so."""
        status = self.owner.status
        if status.observed_generation < self.owner.metadata.generation:
            return True
        old = isinstance(self.owner, Deployment) and status.replicas > status.updated_replicas
        return old or (self.owner.spec.update_strategy.type != "OnDelete" and self.updated < self.wanted)

    @property
    def waiting(self) -> str:
        """Which of its pods no node takes, as the end of a sentence."""
        pods = [pod for pod in self.pods if any(c.type == "PodScheduled" and c.status == "False" for c in pod.status.conditions)]
        return f"; no node takes {pod_names(pods)}" if pods else ""

    def condition(self, kind: str) -> Condition:
        """Its condition of this kind; an empty one where it has none."""
        return next((item for item in self.owner.status.conditions if item.type == kind), Condition())

    def finding(self, code: str, level: Level, *, found: str, wanted: str, fix: str = "") -> Finding:
        """A finding about it, with the command that shows more."""
        see = f"kubectl -n {self.ref.namespace} rollout status {self.ref.kind.lower()} {self.ref.name} --timeout=10s"
        return Finding(code=f"MR111-{code}", level=level, object=self.ref, found=found, wanted=wanted, fix=fix or see)


def _of_owner(case: _Case) -> Iterator[Finding]:
    if not case.wanted:
        return
    stuck = [(pod, reason) for pod in case.pods if (reason := _why_stuck(pod))]
    available, progressing = case.condition("Available"), case.condition("Progressing")
    if available.status == "False" or not case.ready:
        why = f" ({stuck[0][1]} in {pod_names([pod for pod, _ in stuck])})" if stuck else ""
        found = f"it is not available: {case.ready} of {case.wanted} pods are ready{why or case.waiting}"
        yield case.finding("NOT-AVAILABLE", Level.ERROR, found=found, wanted="available", fix=_see_pods(case.ref))
    elif stuck:
        pods = pod_names([pod for pod, _ in stuck])
        found = (
            f"{pods} cannot start ({stuck[0][1]}), while {case.ready} older {'pod still serves' if case.ready == 1 else 'pods still serve'}"
        )
        yield case.finding("POD-STUCK", Level.ERROR, found=found, wanted="pods that start", fix=_undo(case.ref, pods))
    elif progressing.status == "False":
        found = f"its rollout stands still ({progressing.reason or 'Progressing is False'}): {case.updated} of {case.wanted} pods are new"
        yield case.finding("ROLLOUT-STUCK", Level.ERROR, found=found, wanted="a finished rollout", fix=_undo(case.ref, ""))
    elif case.rolls:
        paused = case.owner.spec.paused
        found = f"its rollout is {'paused' if paused else 'under way'}: {case.updated} of {case.wanted} pods are new{case.waiting}"
        yield case.finding("ROLLOUT", Level.WARNING, found=found, wanted="a finished rollout")
    elif case.ready < case.wanted:
        found = f"{case.ready} of {case.wanted} pods are ready{case.waiting}"
        yield case.finding("NOT-ALL-READY", Level.WARNING, found=found, wanted="all pods ready", fix=_see_pods(case.ref))


def _undo(ref: ObjectRef, pods: str) -> str:
    first = pods.partition(",")[0].partition(" ")[0]
    see = f"see why: kubectl -n {ref.namespace} describe pod {first}; " if first else ""
    return f"{see}or go back: kubectl -n {ref.namespace} rollout undo {ref.kind.lower()} {ref.name}"


def _see_pods(ref: ObjectRef) -> str:
    return f"kubectl -n {ref.namespace} describe {ref.kind.lower()} {ref.name}"


def _why_stuck(pod: Pod) -> str:
    """Why a pod will not start by itself, as a container says; empty where none says so."""
    for status in (*pod.status.init_container_statuses, *pod.status.container_statuses):
        waiting = status.state.waiting
        if waiting is not None and waiting.reason in STUCK:
            return waiting.reason
    return ""


# --- restarts and revisions -------------------------------------------------------------------------------------------


def _restarts(workload: Workload, now: datetime | None) -> Iterator[Finding]:
    """Crash loops, and containers of the application that were restarted often and lately; Istio's own are line 3.2.2's."""
    looping: list[Pod] = []
    often: list[tuple[int, Pod, ContainerStatus]] = []
    for pod in workload.pods:
        for status in (*pod.status.container_statuses, *pod.status.init_container_statuses):
            if status.name == PROXY or status.name in SETUP:
                continue
            if status.state.waiting is not None and status.state.waiting.reason == _CRASHES:
                looping.append(pod)
            elif status.restart_count > RESTARTS and _is_recent(status, now):
                often.append((status.restart_count, pod, status))
    logs = f"kubectl -n {workload.ref.namespace} logs --previous "
    if looping:
        yield Finding(
            code="MR111-CRASH-LOOP",
            level=Level.ERROR,
            object=workload.ref,
            found=f"it crashes again and again ({_CRASHES}): {pod_names(looping)}",
            wanted="containers that keep running",
            fix=f"{logs}{looping[0].metadata.name}",
        )
    if often:
        count, pod, status = max(often, key=lambda item: item[0])
        ended = status.last_state.terminated
        why = f", the last time {ended.reason}" if ended is not None and ended.reason else ""
        yield Finding(
            code="MR111-RESTARTS",
            level=Level.WARNING,
            object=workload.ref,
            found=f"container {status.name} of {pod.metadata.name} was restarted {count} times{why}{_when(status, now)}",
            wanted=f"at most {RESTARTS} restarts in 7 days",
            fix=f"{logs}{pod.metadata.name} -c {status.name}",
        )


def _is_recent(status: ContainerStatus, now: datetime | None) -> bool:
    """Whether the last restart counts; one without a date does."""
    last = _last_end(status)
    return last is None or now is None or now - last <= WINDOW


def _last_end(status: ContainerStatus) -> datetime | None:
    ended = status.last_state.terminated
    return moment(ended.finished_at) if ended is not None else None


def _when(status: ContainerStatus, now: datetime | None) -> str:
    last = _last_end(status)
    return f", {ago(max((now - last).total_seconds(), 0))} ago" if last is not None and now is not None else ""


def _revisions(snapshot: Snapshot, now: datetime | None) -> Iterator[Finding]:
    """Deployments whose template changed again and again."""
    young: dict[str, int] = {}
    for item in in_namespace(snapshot.replicasets, snapshot.namespace):
        born = moment(item.metadata.creation_timestamp)
        owner = next((owner for owner in item.metadata.owner_references if owner.controller and owner.kind == "Deployment"), None)
        if owner is not None and born is not None and now is not None and now - born <= WINDOW:
            young[owner.name] = young.get(owner.name, 0) + 1
    for name, count in sorted(young.items()):
        if count > REVISIONS:
            yield Finding(
                code="MR111-MANY-REVISIONS",
                level=Level.WARNING,
                object=ObjectRef(kind="Deployment", namespace=snapshot.namespace, name=name),
                found=f"it had {count} different templates in the last 7 days",
                wanted=f"at most {REVISIONS} in 7 days before something new is put under it",
                fix=f"kubectl -n {snapshot.namespace} rollout history deployment {name}",
            )
