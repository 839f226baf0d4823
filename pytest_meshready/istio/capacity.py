"""Lines 2.1.1 and 2.1.2: is there room for the proxies and for a rollout (checks.md 2.1.1, 2.6).

What is asked for is compared with what is offered: requests, not use, decide whether a pod is placed. What is really used
is the part of the lines that metrics decide.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pytest_meshready.cluster.snapshot import Snapshot
from pytest_meshready.istio import nodeagents, nodescaling, placement, projection, quotas
from pytest_meshready.istio.dataplane import PROXY, proxies
from pytest_meshready.istio.namespaces import unread_in
from pytest_meshready.istio.nodeagents import kind_of
from pytest_meshready.istio.placement import Demand, Room, accepts, could_ever_fit, pack, rooms
from pytest_meshready.istio.projection import ZTUNNEL, NextPod, is_ambient, next_pods
from pytest_meshready.istio.quantities import CPU, MEMORY, amount, pod_request, text
from pytest_meshready.istio.workloads import READS as WORKLOADS
from pytest_meshready.istio.workloads import pod_names, workloads
from pytest_meshready.results import Evidence, Finding, Judgement, Level, ObjectRef, Status, Unknown

#: What both rules read.
READS = tuple(dict.fromkeys((*projection.READS, *placement.READS, *quotas.READS, *nodescaling.READS)))

#: Shares of what the nodes offer that must stay free: below the first it fails, below the second it warns.
TOO_LITTLE, ENOUGH = 0.10, 0.20

_IN_NAMESPACE = (*WORKLOADS, *quotas.READS)
_KILLED = "OOMKilled"
_WORDS = {CPU: "CPU", MEMORY: "memory"}


def cpu_headroom(snapshot: Snapshot) -> Judgement:
    """Line 2.1.1, static part; errors and warnings are those of `memory_headroom`, less its last sentence."""
    return _headroom(snapshot, CPU, "MR211")


def memory_headroom(snapshot: Snapshot) -> Judgement:
    """Line 2.1.2, static part: memory for the proxies of pods that have none yet, and for the largest surge.

    Errors: less than 10 % is free afterwards; pods do not fit; a quota or a LimitRange refuses them. Warnings: less than
    20 %; they fit only if the nodes are added up. An autoscaler that has proved itself (line 2.1.4 passes) makes of want of
    room a warning. The note of the line is judged here, too: a proxy that was killed for want of memory is an error.
    """
    return _headroom(snapshot, MEMORY, "MR212")


def _headroom(snapshot: Snapshot, resource: str, line: str) -> Judgement:
    unknown = [*snapshot.unread(*placement.READS), *unread_in(snapshot, snapshot.namespace, *_IN_NAMESPACE)]
    coming = next_pods(snapshot, snapshot.namespace)
    findings = [*quotas.quota_findings(snapshot, coming, resource, line), *quotas.range_findings(snapshot, coming, resource, line)]
    if resource == MEMORY:
        findings += _killed(snapshot)
    if any(item.joins for item in coming) and snapshot.injector is None:
        unknown += snapshot.unread("configmaps")
    if snapshot.unread(*placement.READS):
        return Judgement(findings=tuple(findings), unknown=tuple(unknown))
    plan = _Plan.of(snapshot, coming, resource)
    if not plan.rooms:
        unknown.append(Unknown(reason=f"no node is ready, takes pods and says how much {resource} it offers"))
        return Judgement(findings=tuple(findings), unknown=tuple(unknown))
    findings += [*_unplaced(plan, line), *_share(plan, line)]
    return Judgement(
        summary=f"{plan.percent} of the {_WORDS[resource]} of {plan.eligible} nodes is free {plan.after}",
        examined=len(plan.rooms),
        findings=tuple(findings),
        unknown=tuple(unknown),
        evidence=(Evidence(kind="table", source="requests of pods, allocatable of nodes", data=plan.table()),),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """The nodes after everything that is to come was put on them."""

    snapshot: Snapshot
    resource: str
    rooms: tuple[Room, ...]
    eligible: int
    before: int
    offered: int
    demanded: int
    unplaced: list[tuple[Demand, int]]
    joining: int
    surging: NextPod | None

    @classmethod
    def of(cls, snapshot: Snapshot, coming: Sequence[NextPod], resource: str) -> _Plan:
        found = rooms(snapshot, resource)
        movable = [item for item in coming if item.workload.kind != "DaemonSet"] or coming
        specs = list(
            {repr((s.node_selector, s.tolerations, s.affinity)): s for s in (item.workload.template.spec for item in movable)}.values()
        )
        eligible = [room for room in found if any(accepts(room.node, spec) for spec in specs)] if specs else list(found)
        before = sum(room.free for room in eligible)
        _free_what_is_replaced(found, coming, resource)
        _take_ztunnels(snapshot, found, resource)
        surging = max((item for item in coming if item.surge), key=lambda item: item.surge * item.request(resource), default=None)
        demands = [*_joining(coming, resource), *([_surge(surging, resource)] if surging else []), *_waiting(coming, resource)]
        unplaced = pack(found, demands)
        return cls(
            snapshot=snapshot,
            resource=resource,
            rooms=found,
            eligible=len(eligible),
            before=before,
            offered=sum(room.allocatable for room in eligible),
            demanded=before - sum(room.free for room in eligible) + sum(demand.size * count for demand, count in unplaced),
            unplaced=unplaced,
            joining=sum(len(_naked(item)) for item in coming if item.joins),
            surging=surging,
        )

    @property
    def free(self) -> int:
        """What is left when all has come, less than nothing where it does not fit."""
        return self.before - self.demanded

    @property
    def share(self) -> float:
        """The part of what the nodes offer that is left."""
        return max(self.free, 0) / self.offered if self.offered else 0.0

    @property
    def percent(self) -> str:
        """The share for a sentence, rounded down."""
        return f"{int(self.share * 100)} %"

    @property
    def after(self) -> str:
        """When that is so, as the end of a sentence."""
        proxies_ = f"the proxies of {self.joining} pods" if self.joining else ""
        surge = f"the surge of {self.surging.workload.ref.name} ({self.surging.surge})" if self.surging else ""
        return f"after {' and '.join(filter(None, (proxies_, surge)))}" if proxies_ or surge else "now"

    @property
    def trusted(self) -> bool:
        """Whether an autoscaler has proved that it adds nodes."""
        return nodescaling.node_autoscaling(self.snapshot).status is Status.PASSED

    def table(self) -> dict[str, object]:
        """The sums, and the nodes with the least room."""
        tightest = sorted(self.rooms, key=lambda room: room.free / room.allocatable if room.allocatable else 0)[:5]
        return {
            "allocatable": text(self.offered, self.resource),
            "free now": text(self.before, self.resource),
            "to come": text(self.demanded, self.resource),
            "free afterwards": text(self.free, self.resource),
            "nodes with the least room": {room.name: text(room.free, self.resource) for room in tightest},
        }


def _naked(item: NextPod) -> list[int]:
    """The places of the pods without a proxy, which a restart replaces."""
    return [place for place, pod in enumerate(item.workload.pods) if not proxies(pod)]


def _free_what_is_replaced(found: Sequence[Room], coming: Sequence[NextPod], resource: str) -> None:
    """Pods that join the mesh are made anew: what they occupy now becomes free."""
    by_name = {room.name: room for room in found}
    for item in coming:
        for place in _naked(item) if item.joins else ():
            pod = item.workload.pods[place]
            room = by_name.get(pod.spec.node_name)
            if room is not None:
                room.free += pod_request(pod.spec, resource)
                room.slots += 1


def _joining(coming: Sequence[NextPod], resource: str) -> Iterator[Demand]:
    """The pods that take the place of those without a proxy; a DaemonSet's stay on their nodes."""
    for item in coming:
        places = _naked(item) if item.joins else []
        if not places:
            continue
        on = frozenset(item.workload.pods[place].spec.node_name for place in places) if item.workload.kind == "DaemonSet" else frozenset()
        yield _demand(item, len(places), resource, on - {""})


def _waiting(coming: Sequence[NextPod], resource: str) -> Iterator[Demand]:
    """Pods that have no node yet; those that join are counted there."""
    for item in coming:
        count = sum(1 for pod in item.workload.pods if not pod.spec.node_name and (proxies(pod) or not item.joins))
        if count:
            yield _demand(item, count, resource)


def _surge(item: NextPod, resource: str) -> Demand:
    return _demand(item, item.surge, resource)


def _demand(item: NextPod, count: int, resource: str, on: frozenset[str] = frozenset()) -> Demand:
    template = item.workload.template
    return Demand(ref=item.workload.ref, size=item.request(resource), count=count, spec=template.spec, on=on)


def _take_ztunnels(snapshot: Snapshot, found: Sequence[Room], resource: str) -> None:
    """In an ambient namespace every node carries a ztunnel; where it is not installed yet, its request is taken off."""
    if is_ambient(snapshot, snapshot.namespace) and not any(kind_of(item) == nodeagents.ZTUNNEL for item in nodeagents.agents(snapshot)):
        size = amount(ZTUNNEL[resource], resource) or 0
        for room in found:
            room.free -= size


# --- findings ---------------------------------------------------------------------------------------------------------


def _unplaced(plan: _Plan, line: str) -> Iterator[Finding]:
    for demand, count in plan.unplaced:
        never = not could_ever_fit(plan.rooms, demand)
        together = plan.free >= 0 and not never
        level = Level.WARNING if together or plan.trusted else Level.ERROR
        size, word = text(demand.size, plan.resource), _WORDS[plan.resource]
        crowded = any(room.slots <= 0 and room.free >= demand.size and accepts(room.node, demand.spec) for room in plan.rooms)
        if never:
            found = f"no ready node could take one of its pods, even if it were empty: each requests {size} of {word}"
        elif crowded:
            found = f"{count} of its pods would find no node: those with enough {word} take no more pods"
        elif together:
            found = f"{count} of its pods fit only if the free {word} of several nodes is added up: each requests {size}"
        else:
            found = f"{count} of its pods would find no node: each requests {size} of {word} ({plan.after})"
        yield Finding(
            code=f"{line}-NO-ROOM",
            level=level,
            object=demand.ref,
            found=found,
            wanted=f"{size} of {word} free on single nodes that take the pods",
            fix="add nodes, or lower requests that nothing uses: kubectl describe nodes",
        )


def _share(plan: _Plan, line: str) -> Iterator[Finding]:
    about = ObjectRef(kind="Namespace", name=plan.snapshot.namespace)
    if not plan.eligible:
        yield Finding(
            code=f"{line}-NO-NODE",
            level=Level.ERROR,
            object=about,
            found=f"none of the {len(plan.rooms)} ready nodes takes its pods: taints, node selectors or node affinity rule all of them out",
            wanted="ready nodes that take its pods",
            fix="kubectl get nodes -o custom-columns=NAME:.metadata.name,TAINTS:.spec.taints",
        )
        return
    if plan.share >= ENOUGH:
        return
    failed = plan.share < TOO_LITTLE and not plan.trusted
    free, offered = text(max(plan.free, 0), plan.resource), text(plan.offered, plan.resource)
    yield Finding(
        code=f"{line}-LITTLE-ROOM",
        level=Level.ERROR if failed else Level.WARNING,
        object=about,
        found=f"{plan.percent} of the {_WORDS[plan.resource]} of its {plan.eligible} nodes is free {plan.after}: {free} of {offered}",
        wanted="at least 20 % free, and never less than 10 %",
        fix="add nodes, or lower requests that nothing uses: kubectl describe nodes",
    )


def _killed(snapshot: Snapshot) -> Iterator[Finding]:
    """Proxies that were killed for want of memory, each workload once."""
    for item in workloads(snapshot, snapshot.namespace):
        killed = []
        for pod in item.pods:
            for status in (*pod.status.container_statuses, *pod.status.init_container_statuses):
                ended = [state.terminated for state in (status.state, status.last_state) if state.terminated is not None]
                if status.name == PROXY and any(detail.reason == _KILLED for detail in ended):
                    killed.append(pod)
        if killed:
            yield Finding(
                code="MR212-PROXY-KILLED",
                level=Level.ERROR,
                object=item.ref,
                found=f"the proxy was killed for want of memory (OOMKilled) in {pod_names(killed)}",
                wanted="a memory limit above what the proxy needs for the configuration that it gets",
                fix="limit what it is sent by a Sidecar, or raise sidecar.istio.io/proxyMemoryLimit: "
                f"kubectl -n {item.ref.namespace} top pods --containers",
            )
