"""Line 2.1.4: node autoscaling (checks.md 2.1.4), and Cluster Autoscaler's own words."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_meshready.cluster import objects as o
from pytest_meshready.cluster.autoscaler import parse_status
from pytest_meshready.cluster.objects_capacity import (
    AutoscalerState,
    ClusterAutoscalerStatus,
    NodeClaim,
    NodeClaimStatus,
    NodeGroupState,
    NodePool,
    NodePoolSpec,
    NodePoolStatus,
)
from pytest_meshready.cluster.snapshot import Snapshot
from pytest_meshready.istio.nodescaling import node_autoscaling
from pytest_meshready.results import Judgement, Level, Status
from tests.unit import builders as make

#: As Cluster Autoscaler 1.30 and later writes it (clusterstate/utils/status_test.yaml).
STRUCTURED = """
time: 2026-08-25 08:36:01.546750398 +0000 UTC
autoscalerStatus: Running
clusterWide:
  health: {status: Healthy, nodeCounts: {registered: {total: 5, ready: 5}}, lastTransitionTime: "2026-08-20T00:00:00Z"}
  scaleUp: {status: NoActivity}
  scaleDown: {status: CandidatesPresent, candidates: 1}
nodeGroups:
- name: https://cloud.example/groups/workers
  health: {status: Healthy, cloudProviderTarget: 2, minSize: 1, maxSize: 3}
  scaleUp: {status: Backoff, backoffInfo: {errorCode: QUOTA_EXCEEDED, errorMessage: "s3cret project over quota"}}
"""

#: As older versions wrote it, for people.
PROSE = """Cluster-autoscaler status at 2026-08-25 08:36:01.009025266 +0000 UTC m=+571.771061426:
Cluster-wide:
  Health:      Healthy (ready=3 unready=0 notStarted=0 longNotStarted=0 registered=3 longUnregistered=0)
               LastProbeTime:      2026-08-25 08:36:01.009 +0000 UTC m=+571.7
  ScaleUp:     InProgress (ready=3 registered=3)
  ScaleDown:   NoCandidates (candidates=0)

NodeGroups:
  Name:        workers
  Health:      Healthy (ready=1 unready=0 (resourceUnready=0) registered=1 cloudProviderTarget=3 (minSize=1, maxSize=3))
  ScaleUp:     InProgress (ready=1 cloudProviderTarget=3)

  Name:        others
  Health:      Unhealthy (ready=0 cloudProviderTarget=2 (minSize=1, maxSize=5))
  ScaleUp:     NoActivity (ready=0 cloudProviderTarget=2)
"""

HEALTHY = NodeGroupState(name="workers", health="Healthy", scale_up="NoActivity", target=2, max_size=6)


def test_the_state_of_newer_versions() -> None:
    """YAML; the cloud's message stays behind."""
    state = parse_status(STRUCTURED)
    assert (state.running, state.health, state.scale_up, state.problem) == ("Running", "Healthy", "NoActivity", "")
    assert state.written == "2026-08-25T08:36:01+00:00"
    assert state.groups == (
        NodeGroupState(
            name="https://cloud.example/groups/workers",
            health="Healthy",
            scale_up="Backoff",
            backoff="QUOTA_EXCEEDED",
            target=2,
            max_size=3,
        ),
    )
    assert "s3cret" not in repr(state)


def test_the_state_of_older_versions() -> None:
    """Prose; the groups' words are not taken for the cluster's."""
    state = parse_status(PROSE)
    assert (state.running, state.written, state.health, state.scale_up) == ("Running", "2026-08-25T08:36:01+00:00", "Healthy", "InProgress")
    assert [(item.name, item.health, item.target, item.max_size) for item in state.groups] == [
        ("workers", "Healthy", 3, 3),
        ("others", "Unhealthy", 2, 5),
    ]


def test_an_autoscaler_that_has_just_begun() -> None:
    """It writes a word before it knows anything."""
    state = parse_status("Cluster-autoscaler status at 2026-08-25 08:36:01.1 +0000 UTC:\nInitializing")
    assert (state.running, state.health, state.groups) == ("Initializing", "", ())


@pytest.mark.parametrize("text", ["", "just words", "a: b", "[1, 2]", "{", "clusterWide: odd", "nodeGroups: {a: b}\nclusterWide: {}"])
def test_what_cannot_be_understood_is_no_exception(text: str) -> None:
    """A sentence instead, or a state without anything in it."""
    state = parse_status(text)
    assert state.problem or (state.health, state.groups) == ("", ())


@given(st.text(max_size=200))
def test_any_text_is_read(text: str) -> None:
    """Whatever stands in the ConfigMap."""
    for body in (text, f"Cluster-autoscaler status at {text}:\n{text}", f"clusterWide: {text}", f"{PROSE[:300]}{text}"):
        assert isinstance(parse_status(body), AutoscalerState)


# --- the line ---------------------------------------------------------------------------------------------------------


def status(**state: Any) -> tuple[ClusterAutoscalerStatus, ...]:
    """What a healthy autoscaler says, changed in some fields."""
    fields = {"running": "Running", "written": make.TAKEN, "health": "Healthy", "scale_up": "NoActivity", "groups": (HEALTHY,), **state}
    return (ClusterAutoscalerStatus(metadata=make.metadata("cluster-autoscaler-status", "kube-system"), state=AutoscalerState(**fields)),)


def aged(name: str, created: str) -> o.Node:
    return msgspec.structs.replace(make.node(name), metadata=make.metadata(name, "", created=created))


#: One node from the making of the cluster, one that came five days ago.
GROWN = (aged("node-1", "2026-01-01T00:00:00Z"), aged("node-2", "2026-08-20T08:36:10Z"))


def mesh(nodes: tuple[o.Node, ...] = GROWN, **fields: Any) -> Snapshot:
    return make.snapshot(nodes=nodes, **fields)


def codes(judgement: Judgement) -> dict[str, Level]:
    return {finding.code: finding.level for finding in judgement.findings}


def test_nothing_to_be_seen_is_not_verified() -> None:
    """A provider may add nodes without showing it: an absent ConfigMap proves nothing."""
    judgement = node_autoscaling(mesh())
    assert judgement.status is Status.NOT_VERIFIED
    assert judgement.reason.startswith("nothing shows whether nodes are added")


def test_healthy_and_used_passes() -> None:
    """A group may grow, and a node came within 30 days."""
    judgement = node_autoscaling(mesh(autoscaler_status=status()))
    assert judgement.status is Status.PASSED
    assert judgement.reason == "nodes are added when they are needed (1 groups), the last one 5 days ago"


def test_healthy_and_never_seen_to_work_warns() -> None:
    """Nodes of the first hour belong to the making of the cluster."""
    born = (aged("node-1", "2026-08-24T00:00:00Z"), aged("node-2", "2026-08-24T00:30:00Z"))
    assert codes(node_autoscaling(mesh(born, autoscaler_status=status()))) == {"MR214-UNTESTED": Level.WARNING}
    old = (aged("node-1", "2026-01-01T00:00:00Z"), aged("node-2", "2026-07-01T00:00:00Z"))
    assert codes(node_autoscaling(mesh(old, autoscaler_status=status()))) == {"MR214-UNTESTED": Level.WARNING}


@pytest.mark.parametrize(
    ("state", "code", "level"),
    [
        ({"health": "Unhealthy"}, "MR214-UNHEALTHY", Level.ERROR),
        ({"health": "", "running": "Initializing"}, "MR214-NOT-RUNNING", Level.WARNING),
        ({"written": "2026-08-25T08:00:00Z"}, "MR214-AUTOSCALER-GONE", Level.ERROR),
        ({"scale_up": "Backoff"}, "MR214-BACKOFF", Level.ERROR),
        ({"groups": (msgspec.structs.replace(HEALTHY, scale_up="Backoff"),)}, "MR214-BACKOFF", Level.ERROR),
        ({"groups": (HEALTHY, msgspec.structs.replace(HEALTHY, health="Unhealthy"))}, "MR214-GROUP-UNHEALTHY", Level.ERROR),
        ({"groups": (msgspec.structs.replace(HEALTHY, target=6),)}, "MR214-AT-MAXIMUM", Level.ERROR),
    ],
    ids=["unhealthy", "begins", "stale", "backs off", "group backs off", "group unhealthy", "all at maximum"],
)
def test_an_autoscaler_in_trouble(state: dict[str, Any], code: str, level: Level) -> None:
    """Each trouble by itself."""
    judgement = node_autoscaling(mesh(autoscaler_status=status(**state)))
    assert codes(judgement) == {code: level}
    assert str(judgement.findings[0].object) == "kube-system/ConfigMap/cluster-autoscaler-status"


def test_one_group_at_its_maximum_is_no_fault() -> None:
    """Another one may grow."""
    groups = (msgspec.structs.replace(HEALTHY, target=6), HEALTHY)
    assert codes(node_autoscaling(mesh(autoscaler_status=status(groups=groups)))) == {}


def test_a_text_that_was_not_understood_is_not_verified() -> None:
    """Neither passed nor failed."""
    judgement = node_autoscaling(mesh(autoscaler_status=status(problem="its key status is empty")))
    assert judgement.status is Status.NOT_VERIFIED
    assert "could not be understood: its key status is empty" in judgement.reason


def pool(name: str = "default", *, used: str = "10", ready: str = "True") -> NodePool:
    return NodePool(
        metadata=make.metadata(name, ""),
        spec=NodePoolSpec(limits={"cpu": "100"}),
        status=NodePoolStatus(resources={"cpu": used}, conditions=(o.Condition(type="Ready", status=ready, reason="NodeClassNotReady"),)),
    )


def claim(created: str, status: str = "True") -> NodeClaim:
    conditions = (o.Condition(type="Launched", status=status, reason="LaunchFailed"),)
    return NodeClaim(metadata=make.metadata("default-x7k2p", "", created=created), status=NodeClaimStatus(conditions=conditions))


def test_karpenter() -> None:
    """A pool that is ready and below its limits, and a node that it asked for lately."""
    young = claim("2026-08-25T08:00:00Z")
    assert node_autoscaling(mesh(nodes=(GROWN[0],), nodepools=(pool(),), nodeclaims=(young,))).status is Status.PASSED
    assert codes(node_autoscaling(mesh(nodes=(GROWN[0],), nodepools=(pool(),)))) == {"MR214-UNTESTED": Level.WARNING}


def test_karpenter_in_trouble() -> None:
    """A pool that is not ready; all pools at their limits; a node that does not come."""
    assert codes(node_autoscaling(mesh(nodepools=(pool(ready="False"),)))) == {"MR214-POOL-NOT-READY": Level.ERROR}
    full = node_autoscaling(mesh(nodepools=(pool(used="100"),)))
    assert full.findings[0].found == "it is at its limit (cpu 100 of 100), as every NodePool is, so no node can be added"
    assert codes(node_autoscaling(mesh(nodepools=(pool(used="100"), pool("other"))))) == {}
    stuck = node_autoscaling(mesh(nodepools=(pool(),), nodeclaims=(claim("2026-08-25T08:00:00Z", "False"),)))
    assert codes(stuck) == {"MR214-CLAIM-STUCK": Level.ERROR}
    assert codes(node_autoscaling(mesh(nodepools=(pool(),), nodeclaims=(claim("2026-08-25T08:30:00Z", "False"),)))) == {}


@pytest.mark.parametrize("key", ["autoscaler_status", "nodepools"])
def test_what_was_refused_is_not_verified(key: str) -> None:
    """The missing right is the reason, not the absence of an autoscaler."""
    refused = make.refusal(key, namespace="")
    read = tuple(item for item in make.snapshot().read if item != key)
    judgement = node_autoscaling(mesh(refusals=(refused,), read=read))
    assert (judgement.status, judgement.reason) == (Status.NOT_VERIFIED, refused.reason)


def test_without_karpenter_there_is_no_such_kind() -> None:
    """A kind that the API server does not know is an answer."""
    absent = tuple(make.refusal(key, namespace="", absent=True) for key in ("nodepools", "nodeclaims"))
    assert node_autoscaling(mesh(autoscaler_status=status(), refusals=absent)).status is Status.PASSED
