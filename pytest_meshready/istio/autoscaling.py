"""Line 2.2.4: do HorizontalPodAutoscalers see their metric, can they scale, and have they ever done so (checks.md 2.2.4)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from pytest_meshready.cluster.objects import Condition, HorizontalPodAutoscaler
from pytest_meshready.cluster.snapshot import Snapshot, in_namespace
from pytest_meshready.istio.dataplane import proxies
from pytest_meshready.istio.moments import ago, moment, now_of
from pytest_meshready.istio.namespaces import unread_in
from pytest_meshready.istio.workloads import READS as WORKLOADS
from pytest_meshready.istio.workloads import Workload, workloads
from pytest_meshready.results import Finding, Judgement, Level, ObjectRef

#: What `pod_autoscaling` reads.
READS = (*WORKLOADS, "horizontalpodautoscalers")

#: How long a scaling counts as evidence.
TESTED = timedelta(days=90)

#: For so long after it was made, an autoscaler may lack its first measurement.
WARM_UP = timedelta(minutes=5)


def pod_autoscaling(snapshot: Snapshot, *, now: datetime | None = None) -> Judgement:
    """Line 2.2.4, static part, for every HorizontalPodAutoscaler of the namespace.

    Errors: it cannot read its metric or its target; its minimum is its maximum. Warnings: a minimum below two; it is at its
    maximum; it measures whole pods with a proxy in them; it scaled last more than 90 days ago, or never.
    """
    unknown = unread_in(snapshot, snapshot.namespace, *READS)
    autoscalers = in_namespace(snapshot.horizontalpodautoscalers, snapshot.namespace)
    if not autoscalers and not unknown:
        return Judgement(not_applicable=f"namespace {snapshot.namespace} has no HorizontalPodAutoscaler")
    known = {(item.kind, item.ref.name): item for item in workloads(snapshot, snapshot.namespace)}
    time = now_of(snapshot, now)
    findings: list[Finding] = []
    for autoscaler in autoscalers:
        target = autoscaler.spec.scale_target_ref
        case = _Case(autoscaler=autoscaler, workload=known.get((target.kind, target.name)), now=time)
        findings += _bounds(case)
        findings += _seen(case) if snapshot.is_deployed else ()
    return Judgement(
        summary=f"all {len(autoscalers)} HorizontalPodAutoscalers see their metrics and have scaled in the last 90 days",
        examined=len(autoscalers),
        findings=tuple(findings),
        unknown=unknown,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    """One autoscaler, what it scales (None where that was not found) and the time."""

    autoscaler: HorizontalPodAutoscaler
    workload: Workload | None
    now: datetime | None

    @property
    def target(self) -> str:
        """What it scales, as a person says it."""
        reference = self.autoscaler.spec.scale_target_ref
        return f"{reference.kind} {reference.name}"

    @property
    def age(self) -> timedelta | None:
        """How old it is."""
        born = moment(self.autoscaler.metadata.creation_timestamp)
        return None if born is None or self.now is None else self.now - born

    def condition(self, kind: str, status: str) -> Condition | None:
        """The condition of this kind, if it has this status."""
        return next((item for item in self.autoscaler.status.conditions if (item.type, item.status) == (kind, status)), None)

    def finding(self, code: str, level: Level, found: str, wanted: str, fix: str = "") -> Finding:
        """A finding about the autoscaler; its command describes it unless ``fix`` says otherwise."""
        metadata = self.autoscaler.metadata
        about = ObjectRef(kind=self.autoscaler.kind, namespace=metadata.namespace, name=metadata.name)
        see = f"kubectl -n {metadata.namespace} describe hpa {metadata.name}"
        return Finding(code=f"MR224-{code}", level=level, object=about, found=found, wanted=wanted, fix=f"{fix}{see}")


def _seen(case: _Case) -> Iterator[Finding]:
    """What its status and its pods tell."""
    yield from _blind(case)
    yield from _diluted(case)
    yield from _untested(case)


def _blind(case: _Case) -> Iterator[Finding]:
    """It reads neither target nor metric. While it warms up, that is not yet a fault."""
    young = case.age is not None and case.age < WARM_UP
    level = Level.WARNING if young else Level.ERROR
    since = f" (it is {ago(max(case.age.total_seconds(), 0))} old)" if young and case.age is not None else ""
    unable = case.condition("AbleToScale", "False")
    if unable is not None and unable.reason != "BackoffBoth":
        found = f"it cannot scale {case.target}: {unable.reason or 'AbleToScale is False'}{since}"
        yield case.finding("UNABLE", level, found, "AbleToScale", "correct scaleTargetRef: ")
    inactive = case.condition("ScalingActive", "False")
    if inactive is not None and inactive.reason != "ScalingDisabled":
        found = f"it does not see its metric, so it does not scale {case.target}: {inactive.reason or 'ScalingActive is False'}{since}"
        fix = "every container of the pods needs requests, and the metrics API must serve the metric: "
        yield case.finding("BLIND", level, found, "ScalingActive", fix)
    unread = unable is None and inactive is None and not case.autoscaler.status.conditions
    if unread and not young:
        yield case.finding("NOT-JUDGED", Level.ERROR, "it has no conditions: no controller looks at it", "conditions in its status")


def _bounds(case: _Case) -> Iterator[Finding]:
    spec = case.autoscaler.spec
    low = 1 if spec.min_replicas is None else spec.min_replicas
    if low >= spec.max_replicas:
        found = f"its minimum is its maximum ({low}), so it never scales {case.target}"
        yield case.finding("CANNOT-SCALE", Level.ERROR, found, "maxReplicas above minReplicas", "raise maxReplicas, or delete it: ")
        return
    if low < 2:
        found = f"it may scale {case.target} down to {low}"
        yield case.finding("SINGLE", Level.WARNING, found, "minReplicas of two or more", "raise minReplicas: ")
    limited = case.condition("ScalingLimited", "True")
    if limited is not None and limited.reason == "TooManyReplicas":
        found = f"it wants more than its maximum of {spec.max_replicas} pods for {case.target}"
        yield case.finding("AT-MAXIMUM", Level.WARNING, found, "room above what is needed now", "raise maxReplicas: ")


def _diluted(case: _Case) -> Iterator[Finding]:
    """A metric of whole pods counts the proxy: its request and its use move the utilisation that the team meant."""
    if case.workload is None or not any(proxies(pod) for pod in case.workload.pods):
        return
    names = [name for metric in case.autoscaler.spec.metrics if (name := _pod_metric(metric))]
    if names:
        found = f"it measures {' and '.join(names)} of whole pods of {case.target}, so the proxy's use and request dilute its target"
        fix = "use type ContainerResource with the application's container, and look at the target again: "
        yield case.finding("DILUTED", Level.WARNING, found, "the application's container is measured", fix)


def _pod_metric(metric: Mapping[str, Any]) -> str:
    """``cpu`` or ``memory`` of a metric of type Resource; empty for every other."""
    resource = metric.get("resource")
    return str(resource.get("name", "")) if metric.get("type") == "Resource" and isinstance(resource, Mapping) else ""


def _untested(case: _Case) -> Iterator[Finding]:
    """An autoscaler that never scaled has proved nothing. One that has no use (scaled to nothing) is left alone."""
    disabled = case.condition("ScalingActive", "False")
    if disabled is not None and disabled.reason == "ScalingDisabled":
        return
    text = case.autoscaler.status.last_scale_time
    last = moment(text)
    if last is not None and (case.now is None or case.now - last <= TESTED):
        return
    when = f"it scaled {case.target} last at {text}" if last is not None else f"it has never scaled {case.target}"
    yield case.finding(
        "UNTESTED", Level.WARNING, f"{when}, so nothing shows that it works", "a scaling in the last 90 days", "put load on it and watch: "
    )
