"""Line 2.2.4: HorizontalPodAutoscalers (checks.md 2.2.4)."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from pytest_meshready.cluster import objects as o
from pytest_meshready.cluster.snapshot import Snapshot
from pytest_meshready.istio.autoscaling import pod_autoscaling
from pytest_meshready.results import Judgement, Level, Status
from tests.unit import builders as make

OF_POD = {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}}
OF_CONTAINER = {"type": "ContainerResource", "containerResource": {"name": "cpu", "container": "app"}}
#: Five days before the snapshot.
LATELY = "2026-08-20T08:36:10Z"


def autoscaler(
    *, minimum: int | None = 2, maximum: int = 4, metric: dict[str, Any] | None = None, created: str = "2026-08-01T00:00:00Z", **status: Any
) -> o.HorizontalPodAutoscaler:
    """One that measures the application's container and scaled lately."""
    base = make.autoscaler("orders", minimum=minimum, maximum=maximum)
    return msgspec.structs.replace(
        base,
        metadata=msgspec.structs.replace(base.metadata, creation_timestamp=created),
        spec=msgspec.structs.replace(base.spec, metrics=(metric or OF_CONTAINER,)),
        status=msgspec.structs.replace(base.status, **{"last_scale_time": LATELY, **status}),
    )


def mesh(*autoscalers: o.HorizontalPodAutoscaler, meshed: bool = True, **fields: Any) -> Snapshot:
    orders = make.deployment("orders")
    return make.snapshot(deployments=(orders,), pods=make.pods_of(orders, meshed=meshed), horizontalpodautoscalers=autoscalers, **fields)


def codes(judgement: Judgement) -> dict[str, Level]:
    return {finding.code: finding.level for finding in judgement.findings}


def conditions(**status: tuple[str, str]) -> tuple[o.Condition, ...]:
    healthy = {"AbleToScale": ("True", ""), "ScalingActive": ("True", ""), **status}
    return tuple(o.Condition(type=kind, status=value, reason=reason) for kind, (value, reason) in healthy.items())


def test_one_that_scales_passes() -> None:
    """It sees its metric, may move, and has done so."""
    judgement = pod_autoscaling(mesh(autoscaler()))
    assert (judgement.status, judgement.examined, judgement.findings) == (Status.PASSED, 1, ())


def test_without_any_the_line_does_not_apply() -> None:
    """Shown by a permitted and empty list; a refused one shows nothing."""
    assert pod_autoscaling(mesh()).status is Status.NOT_APPLICABLE
    read = tuple(key for key in make.snapshot().read if key != "horizontalpodautoscalers")
    refused = pod_autoscaling(mesh(refusals=(make.refusal("horizontalpodautoscalers"),), read=read))
    assert refused.status is Status.NOT_VERIFIED


def test_a_minimum_that_is_the_maximum_fails() -> None:
    """Fault hpa-cannot-scale."""
    (finding,) = pod_autoscaling(mesh(autoscaler(minimum=2, maximum=2))).findings
    assert (finding.code, finding.level) == ("MR224-CANNOT-SCALE", Level.ERROR)
    assert str(finding.object) == "payments/HorizontalPodAutoscaler/orders"
    assert finding.found == "its minimum is its maximum (2), so it never scales Deployment orders"


@pytest.mark.parametrize("minimum", [1, None])
def test_a_minimum_below_two_warns(minimum: int | None) -> None:
    """Nobody said which workload is critical; not set means one."""
    assert codes(pod_autoscaling(mesh(autoscaler(minimum=minimum)))) == {"MR224-SINGLE": Level.WARNING}


@pytest.mark.parametrize(
    ("kind", "reason", "code"),
    [
        ("ScalingActive", "FailedGetContainerResourceMetric", "MR224-BLIND"),
        ("ScalingActive", "AmbiguousSelector", "MR224-BLIND"),
        ("AbleToScale", "FailedGetScale", "MR224-UNABLE"),
    ],
)
def test_one_that_does_not_see_fails(kind: str, reason: str, code: str) -> None:
    """Neither metric nor target."""
    judgement = pod_autoscaling(mesh(autoscaler(conditions=conditions(**{kind: ("False", reason)}))))
    assert codes(judgement) == {code: Level.ERROR}
    assert reason in judgement.findings[0].found


def test_the_first_minutes_only_warn() -> None:
    """The first measurement takes a while."""
    young = autoscaler(created="2026-08-25T08:35:30Z", conditions=conditions(ScalingActive=("False", "FailedGetResourceMetric")))
    (finding,) = pod_autoscaling(mesh(young)).findings
    assert (finding.code, finding.level) == ("MR224-BLIND", Level.WARNING)
    assert finding.found.endswith("FailedGetResourceMetric (it is 40 s old)")


def test_one_that_nobody_looks_at_fails() -> None:
    """No conditions at all after five minutes."""
    assert codes(pod_autoscaling(mesh(autoscaler(conditions=())))) == {"MR224-NOT-JUDGED": Level.ERROR}


def test_what_is_scaled_to_nothing_is_left_alone() -> None:
    """Kubernetes disables it; it has nothing to prove."""
    idle = autoscaler(conditions=conditions(ScalingActive=("False", "ScalingDisabled")), last_scale_time=None)
    assert pod_autoscaling(mesh(idle)).status is Status.PASSED


def test_one_at_its_maximum_warns() -> None:
    """More is wanted than permitted; the lower bound is no fault."""
    assert codes(pod_autoscaling(mesh(autoscaler(conditions=conditions(ScalingLimited=("True", "TooManyReplicas")))))) == {
        "MR224-AT-MAXIMUM": Level.WARNING
    }
    assert codes(pod_autoscaling(mesh(autoscaler(conditions=conditions(ScalingLimited=("True", "TooFewReplicas")))))) == {}


def test_whole_pods_with_a_proxy_dilute_the_target() -> None:
    """The proxy's use and request count; without proxies there is nothing to dilute."""
    (finding,) = pod_autoscaling(mesh(autoscaler(metric=OF_POD))).findings
    assert (finding.code, finding.level) == ("MR224-DILUTED", Level.WARNING)
    assert codes(pod_autoscaling(mesh(autoscaler(metric=OF_POD), meshed=False))) == {}


@pytest.mark.parametrize(("last", "warned"), [("2026-05-28T08:36:10Z", False), ("2026-05-26T08:36:10Z", True), (None, True), ("odd", True)])
def test_the_last_scaling(last: str | None, *, warned: bool) -> None:
    """More than 90 days ago, or never, is untested."""
    assert codes(pod_autoscaling(mesh(autoscaler(last_scale_time=last)))) == ({"MR224-UNTESTED": Level.WARNING} if warned else {})
