"""Room on nodes: which nodes take which pods, and a packing of pods into them (checks.md 2.6)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_meshready.cluster import objects as o
from pytest_meshready.istio.placement import Demand, Room, accepts, could_ever_fit, is_schedulable, pack, rooms
from pytest_meshready.results import ObjectRef
from tests.unit import builders as make

TAINT = o.Toleration(key="team", value="data", effect="NoSchedule")


def room(name: str, free: int, *, slots: int = 100, **node: Any) -> Room:
    return Room(node=make.node(name, **node), allocatable=4000, free=free, slots=slots)


def demand(size: int, count: int = 1, on: frozenset[str] = frozenset(), **spec: Any) -> Demand:
    orders = ObjectRef(kind="Deployment", namespace="payments", name="orders")
    return Demand(ref=orders, size=size, count=count, spec=o.PodSpec(**spec), on=on)


def test_free_is_what_no_pod_requests() -> None:
    """Every pod of every namespace counts, with its proxy; pods that have ended and pods without a node do not."""
    pods = (
        make.meshed_pod("a", node="node-1"),
        make.pod("ended", node="node-1", phase="Succeeded"),
        make.pod("waiting", node=""),
        make.pod("other", namespace="other", node="node-2"),
    )
    first, second = rooms(make.snapshot(node_pods=tuple(map(make.node_pod, pods))), "cpu")
    assert (first.name, first.allocatable, first.free, first.slots) == ("node-1", 4000, 4000 - 20, 109)
    assert (second.name, second.free) == ("node-2", 4000 - 10)


def test_nodes_that_take_no_pods_have_no_room() -> None:
    """Cordoned, not ready, or silent about what they offer."""
    silent = o.Node(metadata=make.metadata("silent", ""), status=o.NodeStatus(conditions=(o.Condition(type="Ready", status="True"),)))
    nodes = (make.node("cordoned", unschedulable=True), make.node("lost", ready=False), silent)
    assert [is_schedulable(node) for node in nodes] == [False, False, True]
    assert rooms(make.snapshot(nodes=nodes), "cpu") == ()


@pytest.mark.parametrize(
    ("toleration", "accepted"),
    [
        (None, False),
        (o.Toleration(key="team", value="data", effect="NoSchedule"), True),
        (o.Toleration(key="team", operator="Exists"), True),
        (o.Toleration(operator="Exists"), True),
        (o.Toleration(key="team", value="other"), False),
        (o.Toleration(key="team", value="data", effect="NoExecute"), False),
    ],
)
def test_taints(toleration: o.Toleration | None, *, accepted: bool) -> None:
    """A taint keeps away what does not tolerate it, by key, value and effect."""
    spec = o.PodSpec(tolerations=(toleration,) if toleration else ())
    assert accepts(make.node(taints=(TAINT,)), spec) is accepted


def test_taints_that_only_prefer_or_that_go_away_by_themselves() -> None:
    """PreferNoSchedule rules nothing out, and Kubernetes' own taints of a node's health are judged by its condition."""
    soft = o.Toleration(key="team", effect="PreferNoSchedule")
    health = o.Toleration(key="node.kubernetes.io/not-ready", effect="NoExecute")
    assert accepts(make.node(taints=(soft, health)), o.PodSpec())


def affinity(*terms: Any) -> dict[str, Any]:
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": list(terms)}}}


@pytest.mark.parametrize(
    ("expression", "accepted"),
    [
        ({"key": "topology.kubernetes.io/zone", "operator": "In", "values": ["zone-a"]}, True),
        ({"key": "topology.kubernetes.io/zone", "operator": "NotIn", "values": ["zone-a"]}, False),
        ({"key": "gpu", "operator": "Exists"}, False),
        ({"key": "gpu", "operator": "DoesNotExist"}, True),
        ({"key": "topology.kubernetes.io/zone", "operator": "Gt", "values": ["1"]}, False),
        ({"key": "gpu", "operator": "No such"}, False),
        ("odd", False),
    ],
)
def test_required_node_affinity(expression: Any, *, accepted: bool) -> None:
    """All expressions of one term must hold; an operator that does not exist holds never."""
    assert accepts(make.node(), o.PodSpec(affinity=affinity({"matchExpressions": [expression]}))) is accepted


def test_one_of_several_terms_is_enough_and_an_empty_one_matches_nothing() -> None:
    """As Kubernetes has it; what is not of the shape demands nothing."""
    here = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["node-1"]}]}
    assert accepts(make.node(), o.PodSpec(affinity=affinity({}, here)))
    assert not accepts(make.node(), o.PodSpec(affinity=affinity({})))
    assert accepts(make.node(), o.PodSpec(affinity={"nodeAffinity": "odd"}))
    assert not accepts(make.node(), o.PodSpec(node_selector={"disk": "fast"}))


def test_pods_need_their_room_on_one_node() -> None:
    """Two nodes with 600m free each have 1200m together, and no room for one pod of 700m."""
    found = [room("node-1", 600), room("node-2", 600)]
    assert [count for _, count in pack(found, [demand(700)])] == [1]
    assert [item.free for item in found] == [600, 600]


def test_the_largest_first_and_where_the_least_is_left() -> None:
    """A small pod does not take the only place of a large one."""
    found = [room("node-1", 1000), room("node-2", 300)]
    assert pack(found, [demand(300), demand(1000)]) == []
    assert [item.free for item in found] == [0, 0]


def test_a_node_takes_a_limited_number_of_pods() -> None:
    """Room without a free place for a pod is no room."""
    found = [room("node-1", 4000, slots=1)]
    ((_, left),) = pack(found, [demand(10, count=3)])
    assert (left, found[0].slots) == (2, 0)


def test_pods_of_a_daemonset_stay_on_their_nodes() -> None:
    """One each, and nowhere else."""
    found = [room("node-1", 100), room("node-2", 4000), room("node-3", 4000)]
    ((_, left),) = pack(found, [demand(200, count=2, on=frozenset({"node-1", "node-2"}))])
    assert left == 1
    assert [item.free for item in found] == [100, 3800, 4000]


def test_what_no_empty_node_could_take() -> None:
    """Larger than any node that accepts it."""
    found = [room("node-1", 0), room("tainted", 0, taints=(TAINT,))]
    assert could_ever_fit(found, demand(4000))
    assert not could_ever_fit(found, demand(4001))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-50, 400), max_size=6), st.lists(st.tuples(st.integers(0, 300), st.integers(1, 5)), max_size=6))
def test_packing_neither_loses_nor_invents_room(free: list[int], wanted: list[tuple[int, int]]) -> None:
    """What was placed is what is gone; no room is filled below nothing; what is left fits nowhere."""
    found = [room(f"node-{place}", size) for place, size in enumerate(free)]
    demands = [demand(size, count) for size, count in wanted]
    unplaced = pack(found, demands)
    placed = sum(item.size * item.count for item in demands) - sum(item.size * count for item, count in unplaced)
    assert sum(free) - sum(item.free for item in found) == placed
    assert all(item.free >= min(before, 0) for item, before in zip(found, free, strict=True))
    assert all(item.free < one.size for one, _ in unplaced for item in found)
