"""Line 1.1.1: stable workloads (checks.md 1.1.1)."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from pytest_meshready.cluster import objects as o
from pytest_meshready.cluster.snapshot import Snapshot
from pytest_meshready.istio.stability import workloads_stable
from pytest_meshready.results import Judgement, Level, Status
from tests.unit import builders as make

#: An hour before the snapshot, and nine days before.
LATELY, LONG_AGO = "2026-08-25T07:36:10Z", "2026-08-16T08:36:10Z"


def with_status(deployment: o.Deployment, **status: Any) -> o.Deployment:
    return msgspec.structs.replace(deployment, status=msgspec.structs.replace(deployment.status, **status))


def mesh(deployment: o.Deployment | None = None, pods: tuple[o.Pod, ...] | None = None, **fields: Any) -> Snapshot:
    made = deployment or make.deployment("orders")
    return make.snapshot(deployments=(made,), pods=make.pods_of(made) if pods is None else pods, **fields)


def codes(judgement: Judgement) -> dict[str, Level]:
    return {finding.code: finding.level for finding in judgement.findings}


def condition(kind: str, status: str, reason: str = "") -> o.Condition:
    return o.Condition(type=kind, status=status, reason=reason)


def test_available_and_quiet_passes() -> None:
    """All pods ready and new, no restart."""
    judgement = workloads_stable(mesh())
    assert (judgement.status, judgement.examined, judgement.findings) == (Status.PASSED, 1, ())


def test_an_image_that_does_not_exist_is_found_before_any_deadline() -> None:
    """Fault rollout-stuck: Deployments wait ten minutes before they say that a rollout does not progress."""
    deployment = with_status(make.deployment("ledger"), updated_replicas=1, replicas=3)
    waiting = make.container_status(ready=False, now=make.state(waiting="ImagePullBackOff"))
    new = make.pod("ledger-new", owner="ReplicaSet/ledger-59cfdcbd85", labels={"app": "ledger"}, ready=False, statuses=(waiting,))
    (finding,) = workloads_stable(mesh(deployment, (*make.pods_of(deployment), new))).findings
    assert (finding.code, finding.level, str(finding.object)) == ("MR111-POD-STUCK", Level.ERROR, "payments/Deployment/ledger")
    assert finding.found == "ledger-new cannot start (ImagePullBackOff), while 2 older pods still serve"
    assert finding.fix == (
        "see why: kubectl -n payments describe pod ledger-new; or go back: kubectl -n payments rollout undo deployment ledger"
    )


@pytest.mark.parametrize(
    ("status", "code", "level"),
    [
        ({"conditions": (condition("Available", "False"),), "ready_replicas": 1}, "MR111-NOT-AVAILABLE", Level.ERROR),
        ({"ready_replicas": 0}, "MR111-NOT-AVAILABLE", Level.ERROR),
        ({"conditions": (condition("Progressing", "False", "ProgressDeadlineExceeded"),)}, "MR111-ROLLOUT-STUCK", Level.ERROR),
        ({"updated_replicas": 1}, "MR111-ROLLOUT", Level.WARNING),
        ({"replicas": 3}, "MR111-ROLLOUT", Level.WARNING),
        ({"observed_generation": 0}, "MR111-ROLLOUT", Level.WARNING),
        ({"ready_replicas": 1}, "MR111-NOT-ALL-READY", Level.WARNING),
    ],
    ids=["unavailable", "none ready", "deadline", "old pods", "old pods end", "not seen yet", "one not ready"],
)
def test_states_of_a_deployment(status: dict[str, Any], code: str, level: Level) -> None:
    """The worst that is so is said, once."""
    assert codes(workloads_stable(mesh(with_status(make.deployment("orders"), **status)))) == {code: level}


def test_a_paused_rollout_says_so() -> None:
    """Somebody stopped half-way."""
    base = with_status(make.deployment("orders"), updated_replicas=1)
    paused = msgspec.structs.replace(base, spec=msgspec.structs.replace(base.spec, paused=True))
    assert workloads_stable(mesh(paused)).findings[0].found == "its rollout is paused: 1 of 2 pods are new"


def test_pods_that_no_node_takes_are_named() -> None:
    """The scheduler's word explains why not all are ready."""
    waiting = make.pod("orders-new", owner=f"ReplicaSet/orders-{make.HASH}", node="", phase="Pending", ready=False)
    unplaced = (condition("PodScheduled", "False", "Unschedulable"),)
    waiting = msgspec.structs.replace(waiting, status=msgspec.structs.replace(waiting.status, conditions=unplaced))
    deployment = with_status(make.deployment("orders"), ready_replicas=1)
    (finding,) = workloads_stable(mesh(deployment, (*make.pods_of(deployment, count=1), waiting))).findings
    assert finding.found == "1 of 2 pods are ready; no node takes orders-new"


def test_scaled_to_nothing_is_stable() -> None:
    """No pod is wanted, so none is missing."""
    assert workloads_stable(mesh(make.deployment("orders", replicas=0))).status is Status.PASSED


def test_a_stateful_set_that_is_updated_by_hand() -> None:
    """With OnDelete old pods are no rollout under way."""
    base = make.statefulset("store")
    behind = msgspec.structs.replace(base, status=msgspec.structs.replace(base.status, updated_replicas=0))
    by_hand = msgspec.structs.replace(behind, spec=msgspec.structs.replace(behind.spec, update_strategy=o.Strategy(type="OnDelete")))
    pods = make.pods_of(base)
    assert codes(workloads_stable(make.snapshot(statefulsets=(behind,), pods=pods))) == {"MR111-ROLLOUT": Level.WARNING}
    assert codes(workloads_stable(make.snapshot(statefulsets=(by_hand,), pods=pods))) == {}


def test_a_daemon_set_counts_its_nodes() -> None:
    """Its own words for replicas."""
    base = make.daemonset("agent")
    lacking = msgspec.structs.replace(base, status=msgspec.structs.replace(base.status, number_ready=1, updated_number_scheduled=2))
    judgement = workloads_stable(make.snapshot(daemonsets=(lacking,), pods=make.pods_of(base)))
    assert codes(judgement) == {"MR111-NOT-ALL-READY": Level.WARNING}


def restarted(count: int, finished: str | None, *, container: str = "app", reason: str = "Error") -> tuple[o.Pod, ...]:
    last = make.state(terminated=reason, finished=finished) if finished != "" else o.ContainerState()
    status = make.container_status(container, restarts=count, last=last)
    return (make.pod("orders-a", owner=f"ReplicaSet/orders-{make.HASH}", statuses=(status,)),)


@pytest.mark.parametrize(
    ("count", "finished", "found"),
    [
        (3, LATELY, False),
        (4, LATELY, True),
        (40, LONG_AGO, False),
        (4, None, True),
    ],
    ids=["few", "many", "long ago", "no date"],
)
def test_restarts_count_while_the_last_is_recent(count: int, finished: str | None, *, found: bool) -> None:
    """The number of restarts counts a pod's whole life, so an old one counts only if the last restart was in the last 7 days."""
    judgement = workloads_stable(mesh(make.deployment("orders", replicas=1), restarted(count, finished)))
    assert codes(judgement) == ({"MR111-RESTARTS": Level.WARNING} if found else {})


def test_restarts_are_told_with_reason_and_time() -> None:
    """What on-call wants to know first."""
    (finding,) = workloads_stable(mesh(make.deployment("orders", replicas=1), restarted(9, LATELY, reason="OOMKilled"))).findings
    assert finding.found == "container app of orders-a was restarted 9 times, the last time OOMKilled, 60 min ago"
    assert finding.fix == "kubectl -n payments logs --previous orders-a -c app"


def test_restarts_of_the_proxy_are_another_lines_business() -> None:
    """This line is about what the mesh is to carry."""
    pods = restarted(9, LATELY, container="istio-proxy")
    assert codes(workloads_stable(mesh(make.deployment("orders", replicas=1), pods))) == {}


def test_a_crash_loop_fails() -> None:
    """Also while other pods keep the workload available."""
    status = make.container_status(ready=False, restarts=7, now=make.state(waiting="CrashLoopBackOff"))
    pods = (make.pod("orders-a", owner=f"ReplicaSet/orders-{make.HASH}", statuses=(status,)),)
    judgement = workloads_stable(mesh(make.deployment("orders", replicas=1), pods))
    assert codes(judgement) == {"MR111-CRASH-LOOP": Level.ERROR}


@pytest.mark.parametrize(("count", "created", "found"), [(5, LATELY, False), (6, LATELY, True), (6, LONG_AGO, False)])
def test_many_templates_in_a_week(count: int, created: str, *, found: bool) -> None:
    """More than five ReplicaSets in seven days: somebody is still building."""
    deployment = make.deployment("orders")
    sets = [make.replicaset(deployment, hash_=f"hash{number}") for number in range(count)]
    dated = tuple(
        msgspec.structs.replace(item, metadata=msgspec.structs.replace(item.metadata, creation_timestamp=created)) for item in sets
    )
    assert codes(workloads_stable(mesh(deployment, replicasets=dated))) == ({"MR111-MANY-REVISIONS": Level.WARNING} if found else {})


def test_jobs_are_left_alone() -> None:
    """They end, and their failures are their own business."""
    status = make.container_status(ready=False, restarts=7, now=make.state(waiting="CrashLoopBackOff"))
    pods = (make.pod("report-a", owner="Job/report", labels={}, statuses=(status,)),)
    judgement = workloads_stable(make.snapshot(jobs=(make.job("report"),), pods=pods))
    assert (judgement.status, judgement.findings) == (Status.NOT_VERIFIED, ())


@pytest.mark.parametrize("key", ["deployments", "statefulsets", "pods", "replicasets"])
def test_what_was_refused_is_not_verified(key: str) -> None:
    """Each missing list is named."""
    read = tuple(item for item in make.snapshot().read if item != key)
    judgement = workloads_stable(mesh(refusals=(make.refusal(key),), read=read))
    assert judgement.status is Status.NOT_VERIFIED
    assert f"not permitted: list {key}" in judgement.reason
