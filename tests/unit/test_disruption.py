"""Line 2.2.1: PodDisruptionBudgets (checks.md 2.2.1)."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_meshready.cluster import objects as o
from pytest_meshready.cluster.objects import LabelSelector, PodDisruptionBudget
from pytest_meshready.istio.disruption import allowed_at, pod_disruption_budgets, room
from pytest_meshready.results import Judgement, Level, Status
from tests.unit import builders as b


def _judge(*budgets: PodDisruptionBudget, replicas: int = 2, **fields: Any) -> Judgement:
    orders = b.deployment("orders", replicas=replicas)
    fields.setdefault("deployments", (orders,))
    fields.setdefault("pods", b.pods_of(orders))
    return pod_disruption_budgets(b.snapshot(poddisruptionbudgets=budgets, **fields))


def _codes(judgement: Judgement) -> dict[str, Level]:
    return {finding.code: finding.level for finding in judgement.findings}


def test_one_budget_with_room_passes() -> None:
    """Two replicas, one budget, one allowed disruption."""
    judgement = _judge(b.budget())
    assert (judgement.status, judgement.examined, judgement.findings) == (Status.PASSED, 1, ())


def test_two_replicas_without_a_budget_fail() -> None:
    """Fault no-pdb: a drain may take both pods at once; the fix creates a budget for exactly these pods."""
    (finding,) = _judge().findings
    assert (finding.code, finding.level) == ("MR221-NO-BUDGET", Level.ERROR)
    assert str(finding.object) == "payments/Deployment/orders"
    assert finding.fix == "kubectl -n payments create poddisruptionbudget orders --selector=app=orders --max-unavailable=1"


def test_a_single_replica_without_a_budget_warns() -> None:
    """There is nothing that a budget could protect, but the interruption must be known."""
    assert _codes(_judge(replicas=1)) == {"MR221-SINGLE": Level.WARNING}


def test_a_single_replica_with_a_budget_blocks_drains() -> None:
    """One replica and minAvailable 1 (istio#12602): a drain of its node never ends."""
    judgement = _judge(b.budget(allowed=0, healthy=1, desired=1, expected=1), replicas=1)
    assert judgement.status is Status.FAILED
    (finding,) = judgement.findings
    assert finding.code == "MR221-BLOCKS-DRAIN"
    assert "minAvailable: 1" in finding.found
    assert finding.fix.endswith("kubectl -n payments scale deployment orders --replicas=2")


def test_no_room_while_pods_are_unhealthy_only_warns() -> None:
    """That is what the budget is for; it says that a drain would wait now."""
    assert _codes(_judge(b.budget(allowed=0, healthy=1, desired=1, expected=2))) == {"MR221-NO-ROOM": Level.WARNING}


def test_two_budgets_on_one_pod_fail() -> None:
    """The eviction API answers 500 for such a pod."""
    judgement = _judge(b.budget(), b.budget("orders-old", selector={"version": "v1"}))
    assert _codes(judgement) == {"MR221-TWO-BUDGETS": Level.ERROR}
    assert "orders, orders-old" in judgement.findings[0].found


def test_two_budgets_for_pods_that_do_not_exist_yet_fail() -> None:
    """In manifests there are no pods: the labels of the template tell it."""
    second = b.budget("orders-old", selector={"app": "orders"}, expected=0)
    judgement = _judge(b.budget(expected=0), second, pods=())
    assert _codes(judgement) == {"MR221-TWO-BUDGETS": Level.ERROR}
    assert "(each one that its template makes)" in judgement.findings[0].found


def test_an_autoscaler_may_shrink_the_room_away() -> None:
    """An autoscaler with minReplicas 1 and a budget with minAvailable 1 cannot be drained once it has scaled in."""
    hpa = b.autoscaler("orders", minimum=1)
    assert _codes(_judge(b.budget(), horizontalpodautoscalers=(hpa,))) == {"MR221-BLOCKS-WHEN-SCALED-IN": Level.WARNING}
    assert _judge(b.budget(), horizontalpodautoscalers=(b.autoscaler("orders", minimum=2),)).status is Status.PASSED


def test_a_budget_for_several_workloads_warns() -> None:
    """An eviction of one uses up the room of the other; the finding is about the budget."""
    orders, ledger = b.deployment("orders"), b.deployment("ledger")
    everything = b.budget("all", selector={}, allowed=3, healthy=4, expected=4)
    judgement = _judge(everything, deployments=(orders, ledger), pods=(*b.pods_of(orders), *b.pods_of(ledger)))
    assert _codes(judgement) == {"MR221-SHARED": Level.WARNING}
    assert str(judgement.findings[0].object) == "payments/PodDisruptionBudget/all"


def test_a_null_selector_selects_nothing() -> None:
    """Unlike an empty one, which selects everything."""
    nothing = PodDisruptionBudget(metadata=b.metadata("none"))
    assert _codes(_judge(nothing)) == {"MR221-NO-BUDGET": Level.ERROR, "MR221-SELECTS-NOTHING": Level.WARNING}


def test_selectors_with_expressions_count() -> None:
    """A budget may select by an expression alone."""
    selector = b.expressions(("app", "In", ("orders", "ledger")))
    budget = PodDisruptionBudget(metadata=b.metadata("some"), spec=o.DisruptionSpec(selector=selector, max_unavailable=1))
    assert _judge(budget).status is Status.PASSED


def test_pods_that_a_budget_misses() -> None:
    """Half of the replicas carry another label: the others are named."""
    orders = b.deployment("orders")
    old = b.pods_of(orders, count=1, hash_="11111", labels={"app": "orders", "version": "v0"})
    budget = b.budget(selector={"version": "v1"})
    judgement = _judge(budget, deployments=(orders,), pods=(*b.pods_of(orders, count=1), *old))
    assert _codes(judgement) == {"MR221-PART-UNCOVERED": Level.WARNING}
    assert old[0].metadata.name in judgement.findings[0].found


def test_what_a_drain_leaves_alone_needs_no_budget() -> None:
    """DaemonSets are ignored by drains, Jobs end by themselves, and what is scaled to nothing has no pods."""
    judgement = _judge(
        deployments=(b.deployment("off", replicas=0),),
        daemonsets=(b.daemonset("agent"),),
        jobs=(b.job(),),
        cronjobs=(b.cronjob(),),
        pods=(),
    )
    assert judgement.findings == ()
    assert judgement.status is Status.NOT_VERIFIED


def test_the_control_plane_and_the_gateways_count() -> None:
    """The control plane and gateways need a budget too; other workloads of their namespace are none of this run's business."""
    istiod = b.deployment("istiod", namespace=b.ISTIO, labels=b.ISTIOD_LABELS, containers=(b.discovery_container(),))
    gateway = b.deployment("istio-ingressgateway", namespace=b.ISTIO, labels=b.GATEWAY_LABELS, containers=(b.gateway_container(),))
    prometheus = b.deployment("prometheus", namespace=b.ISTIO, replicas=2)
    orders = b.deployment("orders")
    judgement = _judge(b.budget(), deployments=(orders, istiod, gateway, prometheus))
    assert [(finding.code, finding.object.name) for finding in judgement.findings] == [
        ("MR221-NO-BUDGET", "istiod"),
        ("MR221-NO-BUDGET", "istio-ingressgateway"),
    ]


def test_a_namespace_without_workloads_is_not_verified() -> None:
    """A healthy control plane does not make an empty namespace pass."""
    istiod = b.deployment("istiod", namespace=b.ISTIO, labels=b.ISTIOD_LABELS, containers=(b.discovery_container(),))
    budget = b.budget("istiod", namespace=b.ISTIO)
    judgement = _judge(budget, deployments=(istiod,), pods=b.pods_of(istiod, meshed=False))
    assert judgement.status is Status.NOT_VERIFIED
    assert judgement.reason == "namespace payments has no workload to look at"


def test_a_refused_list_of_budgets_is_no_missing_budget() -> None:
    """Without the right to list them nothing is said of workloads, and the right is named."""
    judgement = _judge(refusals=(b.refusal("poddisruptionbudgets"),))
    assert (judgement.status, judgement.findings) == (Status.NOT_VERIFIED, ())
    assert (judgement.unknown[0].verb, judgement.unknown[0].resource) == ("list", "poddisruptionbudgets.policy")


def test_a_refusal_elsewhere_leaves_what_is_known() -> None:
    """A list refused in istio-system does not hide the fault in payments."""
    judgement = _judge(refusals=(b.refusal("poddisruptionbudgets", namespace=b.ISTIO),))
    assert (judgement.status, set(_codes(judgement))) == (Status.FAILED, {"MR221-NO-BUDGET"})


def test_without_a_status_the_room_is_reckoned() -> None:
    """From manifests, or before the controller has looked, the rule itself says how much it allows."""
    fresh = b.budget(expected=0, allowed=0, healthy=0, desired=0)
    assert _judge(fresh).status is Status.PASSED
    assert _codes(_judge(b.budget(expected=0, allowed=0, healthy=0, max_unavailable=0))) == {"MR221-BLOCKS-DRAIN": Level.ERROR}


@pytest.mark.parametrize(
    ("field", "value", "replicas", "allowed"),
    [
        ("min_available", "50%", 3, 1),  # desired is rounded up to 2
        ("min_available", "100%", 3, 0),
        ("min_available", 5, 3, 0),
        ("max_unavailable", "30%", 3, 1),  # rounded up as well
        ("max_unavailable", 0, 3, 0),
        ("max_unavailable", "0%", 3, 0),
        ("max_unavailable", 9, 3, 3),
        ("max_unavailable", "many", 3, 0),
        ("min_available", "", 3, 0),
    ],
)
def test_percentages_are_rounded_as_kubernetes_does(field: str, value: int | str, replicas: int, allowed: int) -> None:
    """The disruption controller rounds both percentages up."""
    spec = o.DisruptionSpec(**{field: value})  # type: ignore[arg-type]
    assert allowed_at(PodDisruptionBudget(spec=spec), replicas) == allowed


def test_a_stale_status_is_not_believed() -> None:
    """The status belongs to an older generation of the budget."""
    stale = b.budget(allowed=1, max_unavailable=0)
    metadata = o.Metadata(name="orders", namespace="payments", generation=2)
    assert room(PodDisruptionBudget(metadata=metadata, spec=stale.spec, status=stale.status), 2).allowed == 0


def test_an_empty_snapshot_is_no_exception() -> None:
    """Objects without any field are looked at without an error."""
    empty = b.snapshot(
        deployments=(o.Deployment(metadata=o.Metadata(namespace="payments")),),
        poddisruptionbudgets=(
            PodDisruptionBudget(metadata=o.Metadata(namespace="payments"), spec=o.DisruptionSpec(selector=LabelSelector())),
        ),
        horizontalpodautoscalers=(o.HorizontalPodAutoscaler(),),
        pods=(o.Pod(metadata=o.Metadata(namespace="payments")),),
        control_plane=None,
        control_planes=(),
        mesh=None,
        injector=None,
    )
    assert pod_disruption_budgets(empty).status in Status
