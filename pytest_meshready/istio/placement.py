"""Which nodes have room for which pods: free capacity per node, and a packing of pods into it (checks.md 2.6).

The sum over a cluster hides that a pod needs its room on one node. Considered is what rules a node out for good (cordoned,
not ready, taints, node selectors, required node affinity); what the scheduler weighs (spreading, affinity between pods) is
not.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pytest_meshready.cluster.objects import Node, PodSpec, Toleration
from pytest_meshready.cluster.snapshot import Snapshot
from pytest_meshready.istio.quantities import amount, pod_request
from pytest_meshready.results import ObjectRef

#: The kinds that tell the room.
READS = ("nodes", "node_pods")

_ENDED = frozenset({"Succeeded", "Failed"})
_REPELS = frozenset({"NoSchedule", "NoExecute"})
#: Kubernetes takes these away when a node recovers; whether it is ready is judged by its condition.
_OF_HEALTH = "node.kubernetes.io/"
_PODS = "pods"
_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"


@dataclass(slots=True, kw_only=True)
class Room:
    """A node that takes pods: what it offers, and what is free of it. Changed by `pack`."""

    node: Node
    allocatable: int
    free: int
    slots: int

    @property
    def name(self) -> str:
        """The node's name."""
        return self.node.metadata.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """Pods of one shape of a workload that need room. ``on`` names the only nodes for them (a DaemonSet's)."""

    ref: ObjectRef
    size: int
    count: int
    spec: PodSpec
    on: frozenset[str] = frozenset()


def is_schedulable(node: Node) -> bool:
    """Whether the scheduler gives pods to it at all: ready and not cordoned."""
    ready = any(condition.type == "Ready" and condition.status == "True" for condition in node.status.conditions)
    return ready and not node.spec.unschedulable


def rooms(snapshot: Snapshot, resource: str) -> tuple[Room, ...]:
    """The nodes that take pods, with what is free after every pod that is on them; nodes that do not say what they offer are none."""
    used: dict[str, int] = {}
    count: dict[str, int] = {}
    for pod in snapshot.node_pods:
        name = pod.spec.node_name
        if name and pod.status.phase not in _ENDED:
            used[name] = used.get(name, 0) + pod_request(pod.spec, resource)
            count[name] = count.get(name, 0) + 1
    found = []
    for node in snapshot.nodes:
        offered = amount(node.status.allocatable.get(resource), resource)
        if not is_schedulable(node) or offered is None:
            continue
        slots = amount(node.status.allocatable.get(_PODS), _PODS)
        name = node.metadata.name
        left = offered - used.get(name, 0)
        found.append(Room(node=node, allocatable=offered, free=left, slots=(slots or 110) - count.get(name, 0)))
    return tuple(found)


def accepts(node: Node, spec: PodSpec) -> bool:
    """Whether a node's taints, and the pod's node selector and required node affinity, let the pod run there."""
    labels = node.metadata.labels
    if any(labels.get(key) != value for key, value in spec.node_selector.items()):
        return False
    if not all(_tolerated(taint, spec.tolerations) for taint in node.spec.taints if taint.effect in _REPELS):
        return False
    return _affine(node, spec.affinity)


def pack(found: Sequence[Room], demands: Iterable[Demand]) -> list[tuple[Demand, int]]:
    """Put pods into the rooms, the largest first, each where the least is left over.

    Returns:
        The demands that did not fit, with how many of their pods.
    """
    order = sorted((room.free, place) for place, room in enumerate(found))
    eligible = _Eligible(found)
    unplaced = []
    for demand in sorted(demands, key=lambda item: (-item.size, str(item.ref))):
        left = _placed(found, order, eligible.of(demand), demand)
        if left:
            unplaced.append((demand, left))
    return unplaced


def _placed(found: Sequence[Room], order: list[tuple[int, int]], places: frozenset[int], demand: Demand) -> int:
    """Place the pods of one demand, beginning with the room that is just large enough; how many did not fit.

    ``order`` holds the rooms by what is free in them, and is kept so.
    """
    left = demand.count
    for free, place in order[bisect.bisect_left(order, (demand.size, -1)) :]:  # a copy, because the order changes
        if not left:
            break
        room = found[place]
        most = min(left, room.slots, 1 if demand.on else left) if place in places else 0
        taken = min(most, free // demand.size) if demand.size > 0 else most
        if taken > 0:
            left -= taken
            room.slots -= taken
            room.free -= taken * demand.size
            del order[bisect.bisect_left(order, (free, place))]
            bisect.insort(order, (room.free, place))
    return left


class _Eligible:
    """Which rooms take which pods; most pods of a namespace ask for nothing, so the answer is kept."""

    def __init__(self, found: Sequence[Room]) -> None:
        self._found = found
        self._known: dict[str, frozenset[int]] = {}

    def of(self, demand: Demand) -> frozenset[int]:
        """The places of the rooms."""
        spec = demand.spec
        key = repr((spec.node_selector, spec.tolerations, spec.affinity))
        if key not in self._known:
            self._known[key] = frozenset(place for place, room in enumerate(self._found) if accepts(room.node, spec))
        if not demand.on:
            return self._known[key]
        return frozenset(place for place in self._known[key] if self._found[place].name in demand.on)


def could_ever_fit(found: Sequence[Room], demand: Demand) -> bool:
    """Whether an empty node of the cluster would have room for one of the pods."""
    return any(accepts(room.node, demand.spec) and room.allocatable >= demand.size for room in found)


def _tolerated(taint: Toleration, tolerations: Sequence[Toleration]) -> bool:
    if taint.key.startswith(_OF_HEALTH):
        return True
    return any(_tolerates(toleration, taint) for toleration in tolerations)


def _tolerates(toleration: Toleration, taint: Toleration) -> bool:
    if toleration.effect and toleration.effect != taint.effect:
        return False
    if toleration.operator == "Exists":
        return toleration.key in ("", taint.key)
    return toleration.key == taint.key and toleration.value == taint.value


def _affine(node: Node, affinity: Mapping[str, Any] | None) -> bool:
    """Required node affinity: one of its terms must hold; of anything that is not of its shape nothing is demanded."""
    own = (affinity or {}).get("nodeAffinity")
    required = own.get(_REQUIRED) if isinstance(own, Mapping) else None
    terms = required.get("nodeSelectorTerms") if isinstance(required, Mapping) else None
    if not isinstance(terms, list):
        return True
    return any(isinstance(term, Mapping) and _term_holds(node, term) for term in terms)


def _term_holds(node: Node, term: Mapping[str, Any]) -> bool:
    fields = {"metadata.name": node.metadata.name}
    pairs = ((term.get("matchExpressions"), node.metadata.labels), (term.get("matchFields"), fields))
    expressions = [(item, values) for listed, values in pairs if isinstance(listed, list) for item in listed]
    return bool(expressions) and all(isinstance(item, Mapping) and _holds(item, values) for item, values in expressions)


def _holds(expression: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    value = labels.get(str(expression.get("key")))
    listed = expression.get("values")
    values = [str(item) for item in listed] if isinstance(listed, list) else []
    match expression.get("operator"):
        case "In":
            return value in values
        case "NotIn":
            return value not in values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "Gt" | "Lt" as operator:
            return _compared(operator, value, values)
    return False


def _compared(operator: str, value: str | None, values: Sequence[str]) -> bool:
    try:
        own, other = int(value or ""), int(values[0])
    except (ValueError, IndexError):
        return False
    return own > other if operator == "Gt" else own < other
