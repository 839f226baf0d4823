"""PodDisruptionBudgets: does a drained node interrupt a service, and can a node be drained at all (checks.md 2.2.1)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pytest_meshready.cluster.objects import PodDisruptionBudget
from pytest_meshready.cluster.snapshot import Snapshot, in_namespace, selects
from pytest_meshready.istio.components import READS as COMPONENTS
from pytest_meshready.istio.components import gateways, held_namespaces, istiods
from pytest_meshready.istio.namespaces import unread_in
from pytest_meshready.istio.workloads import BATCH, LabelIndex, Workload, pod_names, workloads
from pytest_meshready.istio.workloads import READS as WORKLOADS
from pytest_meshready.results import Finding, Judgement, Level, ObjectRef, Unknown

#: The kinds that the rule reads.
READS = (*COMPONENTS, "poddisruptionbudgets", "horizontalpodautoscalers")

#: Kinds that `kubectl drain` does not evict, or that end by themselves.
_NOT_EVICTED = BATCH | {"DaemonSet"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """How much a budget allows: ``allowed`` evictions now, of ``expected`` pods of which ``healthy`` are healthy."""

    allowed: int
    healthy: int
    expected: int


class Budgets:
    """The PodDisruptionBudgets of one namespace."""

    def __init__(self, snapshot: Snapshot, namespace: str) -> None:
        self.all = in_namespace(snapshot.poddisruptionbudgets, namespace)
        self._index: LabelIndex[PodDisruptionBudget] = LabelIndex()
        for budget in self.all:
            if budget.spec.selector is not None:
                self._index.add(budget.spec.selector.match_labels, budget)

    def of(self, labels: Mapping[str, str]) -> tuple[PodDisruptionBudget, ...]:
        """The budgets that select a pod with these labels."""
        return tuple(budget for budget in self._index.candidates(labels) if selects(budget.spec.selector, labels))

    def of_workload(self, workload: Workload) -> tuple[PodDisruptionBudget, ...]:
        """The budgets that select any pod of a workload, or would select them."""
        found: dict[str, PodDisruptionBudget] = {}
        for labels in _labels_of(workload):
            for budget in self.of(labels):
                found[budget.metadata.name] = budget
        return tuple(found.values())


def _labels_of(workload: Workload) -> tuple[Mapping[str, str], ...]:
    """The labels of its pods, which webhooks may have added to; of its template where there are none."""
    return tuple(pod.metadata.labels for pod in workload.pods) or (workload.labels,)


def room(budget: PodDisruptionBudget, replicas: int) -> Room:
    """What a budget allows: by its status where the controller has written one, else reckoned for ``replicas`` healthy pods.

    Percentages are rounded up, as the disruption controller does with both fields.
    """
    status = budget.status
    if status.expected_pods > 0 and status.observed_generation >= budget.metadata.generation:
        return Room(allowed=status.disruptions_allowed, healthy=status.current_healthy, expected=status.expected_pods)
    return Room(allowed=allowed_at(budget, replicas), healthy=replicas, expected=replicas)


def allowed_at(budget: PodDisruptionBudget, replicas: int) -> int:
    """How many of ``replicas`` healthy pods a budget lets go; a value that is no number or percentage lets none go."""
    spec = budget.spec
    if spec.max_unavailable is not None:
        return max(0, min(replicas, _scaled(spec.max_unavailable, replicas, unclear=0)))
    if spec.min_available is not None:
        return max(0, replicas - _scaled(spec.min_available, replicas, unclear=replicas))
    return max(0, replicas - 1)  # neither is set: the API's default is minAvailable 1


def _scaled(value: int | str, total: int, *, unclear: int) -> int:
    if isinstance(value, int):
        return value
    number = value.removesuffix("%")
    if not number.isdecimal():
        return unclear
    return math.ceil(total * int(number) / 100) if value.endswith("%") else int(number)


def pod_disruption_budgets(snapshot: Snapshot) -> Judgement:
    """Line 2.2.1: every replicated workload has exactly one budget, and the budget lets nodes be drained.

    Evidence: the budgets' selectors against the labels of the pods, their status, the autoscalers' minimum; for the
    workloads of the namespace, for istiod and for the gateways. DaemonSets, Jobs and CronJobs are not asked.

    Errors: no budget for two or more replicas; two budgets on one pod (the eviction API answers 500); no disruption
    allowed while every pod is healthy (a drain never ends). Warnings: one replica alone; a budget for some pods only, for
    several workloads, for nothing; no room while pods are unhealthy; no room once an autoscaler scales in.
    """
    own = workloads(snapshot, snapshot.namespace)
    others = (*(item.workload for item in istiods(snapshot)), *gateways(snapshot))
    judged = {workload.ref: workload for workload in (*own, *others) if _is_evicted(workload)}
    budgets = {namespace: Budgets(snapshot, namespace) for namespace in held_namespaces(snapshot)}
    known = {namespace for namespace in budgets if not unread_in(snapshot, namespace, "poddisruptionbudgets")}
    minimum = _minimums(snapshot)
    findings: list[Finding] = []
    for workload in judged.values():
        if workload.ref.namespace in known:
            findings += _of_workload(workload, budgets[workload.ref.namespace], minimum.get(workload.ref))
    if not unread_in(snapshot, snapshot.namespace, "poddisruptionbudgets", *WORKLOADS):
        findings += _of_budgets(budgets[snapshot.namespace], own)
    unknown = list(snapshot.unread(*READS))
    if not own and not unknown:
        unknown.append(Unknown(reason=f"namespace {snapshot.namespace} has no workload to look at"))
    return Judgement(
        summary=f"{len(judged)} workloads can be drained one pod at a time",
        examined=len(judged),
        findings=tuple(findings),
        unknown=tuple(unknown),
    )


def _is_evicted(workload: Workload) -> bool:
    return workload.kind not in _NOT_EVICTED and bool(workload.replicas or workload.pods)


def _minimums(snapshot: Snapshot) -> dict[ObjectRef, int]:
    """The fewest replicas that autoscalers may leave, by what they scale."""
    return {
        ObjectRef(kind=item.spec.scale_target_ref.kind, namespace=item.metadata.namespace, name=item.spec.scale_target_ref.name): (
            1 if item.spec.min_replicas is None else item.spec.min_replicas
        )
        for item in snapshot.horizontalpodautoscalers
    }


def _of_workload(workload: Workload, budgets: Budgets, minimum: int | None) -> Iterable[Finding]:
    found = budgets.of_workload(workload)
    if not found:
        yield _unprotected(workload)
        return
    several = [pod for pod in workload.pods if len(budgets.of(pod.metadata.labels)) > 1]
    bare = [pod for pod in workload.pods if not budgets.of(pod.metadata.labels)]
    if several or (not workload.pods and len(found) > 1):
        yield _two_budgets(workload, found, pod_names(several) or "each one that its template makes")
    if bare:
        yield Finding(
            code="MR221-PART-UNCOVERED",
            level=Level.WARNING,
            object=workload.ref,
            found=f"{len(bare)} of its {len(workload.pods)} pods are selected by no PodDisruptionBudget: {pod_names(bare)}",
            wanted="one PodDisruptionBudget that selects every pod of the workload",
            fix=f"select by labels that all its pods carry: kubectl -n {workload.ref.namespace} edit pdb {found[0].metadata.name}",
        )
    for budget in found:
        yield from _blocking(workload, budget, minimum)


def _unprotected(workload: Workload) -> Finding:
    namespace, name = workload.ref.namespace, workload.ref.name
    wanted = max(workload.replicas, len(workload.pods))
    if wanted >= 2:
        return Finding(
            code="MR221-NO-BUDGET",
            level=Level.ERROR,
            object=workload.ref,
            found=f"no PodDisruptionBudget selects its {wanted} pods, so a drain may take all of them at once",
            wanted="one PodDisruptionBudget that leaves room for one eviction, such as maxUnavailable: 1",
            fix=f"kubectl -n {namespace} create poddisruptionbudget {name} --selector={_selector(workload)} --max-unavailable=1",
        )
    scale = f"kubectl -n {namespace} scale {workload.kind.lower()} {name} --replicas=2"
    return Finding(
        code="MR221-SINGLE",
        level=Level.WARNING,
        object=workload.ref,
        found="it has one replica and no PodDisruptionBudget, so every drain of its node interrupts it",
        wanted="two replicas or more with a PodDisruptionBudget, or the knowledge that the interruption does no harm",
        fix="run it by a Deployment with two replicas" if workload.kind == "Pod" else f"{scale}, then add a PodDisruptionBudget",
    )


def _selector(workload: Workload) -> str:
    """The labels that identify a workload, as kubectl takes them: the well-known ones, else all."""
    for key in ("app.kubernetes.io/name", "app"):
        if key in workload.labels:
            return f"{key}={workload.labels[key]}"
    return ",".join(f"{key}={value}" for key, value in sorted(workload.labels.items())) or "KEY=VALUE"


def _two_budgets(workload: Workload, found: tuple[PodDisruptionBudget, ...], pods: str) -> Finding:
    names = sorted(budget.metadata.name for budget in found)
    return Finding(
        code="MR221-TWO-BUDGETS",
        level=Level.ERROR,
        object=workload.ref,
        found=f"{len(names)} PodDisruptionBudgets ({', '.join(names)}) select the same pod ({pods}): the eviction API then answers 500",
        wanted="exactly one PodDisruptionBudget for each pod",
        fix=f"keep one of them: kubectl -n {workload.ref.namespace} delete pdb {names[-1]}",
    )


def _blocking(workload: Workload, budget: PodDisruptionBudget, minimum: int | None) -> Iterable[Finding]:
    """Whether a budget stands in the way of a drain: now, or once the workload is scaled in."""
    name, now = budget.metadata.name, room(budget, max(workload.replicas, len(workload.pods)))
    rule = _rule(budget)
    if now.allowed < 1 and now.healthy >= now.expected:
        yield Finding(
            code="MR221-BLOCKS-DRAIN",
            level=Level.ERROR,
            object=workload.ref,
            found=f"PodDisruptionBudget {name} ({rule}) allows no disruption even while all {now.expected} pods are healthy: "
            "a drain of their nodes never ends",
            wanted="at least one allowed disruption while all pods are healthy",
            fix=_more_room(workload, name, single=now.expected < 2),
            detail=name,
        )
    elif now.allowed < 1:
        yield Finding(
            code="MR221-NO-ROOM",
            level=Level.WARNING,
            object=workload.ref,
            found=f"PodDisruptionBudget {name} ({rule}) allows no disruption now: {now.healthy} of {now.expected} pods are healthy",
            wanted="at least one allowed disruption",
            fix=f"make its pods healthy: kubectl -n {workload.ref.namespace} get pods -l {_selector(workload)}",
            detail=name,
        )
    elif minimum and allowed_at(budget, minimum) < 1:
        yield Finding(
            code="MR221-BLOCKS-WHEN-SCALED-IN",
            level=Level.WARNING,
            object=workload.ref,
            found=f"its autoscaler may scale in to {minimum}, where PodDisruptionBudget {name} ({rule}) allows no disruption",
            wanted="at least one allowed disruption at the autoscaler's minReplicas",
            fix=f"raise minReplicas to {minimum + 1} or more, or set maxUnavailable: 1 in the PodDisruptionBudget: "
            f"kubectl -n {workload.ref.namespace} edit pdb {name}",
            detail=name,
        )


def _rule(budget: PodDisruptionBudget) -> str:
    if budget.spec.max_unavailable is not None:
        return f"maxUnavailable: {budget.spec.max_unavailable}"
    return f"minAvailable: {budget.spec.min_available if budget.spec.min_available is not None else 1}"


def _more_room(workload: Workload, name: str, *, single: bool) -> str:
    if single and workload.kind != "Pod":
        return f"run two replicas: kubectl -n {workload.ref.namespace} scale {workload.kind.lower()} {workload.ref.name} --replicas=2"
    return f"set maxUnavailable: 1 instead: kubectl -n {workload.ref.namespace} edit pdb {name}"


def _of_budgets(budgets: Budgets, own: tuple[Workload, ...]) -> Iterable[Finding]:
    """Budgets of the namespace that select several workloads, or nothing at all."""
    selected: dict[str, list[Workload]] = {budget.metadata.name: [] for budget in budgets.all}
    for workload in own:
        for budget in budgets.of_workload(workload):
            selected[budget.metadata.name].append(workload)
    for budget in budgets.all:
        name, namespace = budget.metadata.name, budget.metadata.namespace
        ref = ObjectRef(kind=budget.kind, namespace=namespace, name=name)
        members = [workload for workload in selected[name] if _is_evicted(workload)]
        if len(members) > 1:
            names = [f"{workload.kind} {workload.ref.name}" for workload in members]
            yield Finding(
                code="MR221-SHARED",
                level=Level.WARNING,
                object=ref,
                found=f"it selects the pods of {len(members)} workloads ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''}): "
                "an eviction of one uses up the room of the others",
                wanted="one PodDisruptionBudget for each workload",
                fix=f"select the pods of one workload only: kubectl -n {namespace} edit pdb {name}",
            )
        elif not selected[name]:
            yield Finding(
                code="MR221-SELECTS-NOTHING",
                level=Level.WARNING,
                object=ref,
                found="it selects no pod, so it protects nothing",
                wanted="a selector that matches the labels of a workload's pods",
                fix=f"compare its selector with the labels of the pods: kubectl -n {namespace} get pods --show-labels",
            )
