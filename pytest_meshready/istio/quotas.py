"""Whether ResourceQuotas and LimitRanges of the namespace let its next pods in: they refuse pods for which nodes have room.

Both are checked at admission, after injection: the proxy counts (checks.md 2.1.1). A refused pod is an event of its
ReplicaSet and nothing else, and so a rollout that stands still.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from pytest_meshready.cluster.objects import Pod
from pytest_meshready.cluster.objects_capacity import LimitRange, LimitRangeItem, Quantity, QuotaSpec, ResourceQuota
from pytest_meshready.cluster.snapshot import Snapshot, in_namespace
from pytest_meshready.istio.dataplane import proxies
from pytest_meshready.istio.namespaces import unread_in
from pytest_meshready.istio.projection import NextPod
from pytest_meshready.istio.quantities import CPU, amount, pod_request, quantity, text
from pytest_meshready.istio.wording import shortened
from pytest_meshready.results import Finding, Level, ObjectRef

#: What `quota_findings` and `range_findings` read, besides the workloads.
READS = ("resourcequotas", "limitranges")

_PODS = ("pods", "count/pods")


def quota_findings(snapshot: Snapshot, coming: Sequence[NextPod], resource: str, line: str) -> Iterator[Finding]:
    """Quotas that leave no room for the next pods.

    Args:
        snapshot: for the quotas of the namespace.
        coming: its next pods.
        resource: ``cpu``, with which the number of pods is looked at, or ``memory``.
        line: the beginning of the codes, such as ``MR211``.
    """
    certain = not unread_in(snapshot, snapshot.namespace, "limitranges")  # one of these may set what a container leaves out
    for quota in in_namespace(snapshot.resourcequotas, snapshot.namespace):
        counted = [item for item in coming if _counts(quota.spec, item)]
        if counted:
            yield from _too_small(quota, counted, resource, line)
            yield from _without_limit(quota, counted, resource, line) if certain else ()


def _too_small(quota: ResourceQuota, coming: Sequence[NextPod], resource: str, line: str) -> Iterator[Finding]:
    names = [f"requests.{resource}", resource, f"limits.{resource}", *(_PODS if resource == CPU else ())]
    for name in names:
        hard, used = amount(quota.status.hard.get(name), name), amount(quota.status.used.get(name), name)
        if hard is None:
            continue
        free = hard - (used or 0)
        need = _need(coming, name, resource)
        if need.total > free:
            yield Finding(
                code=f"{line}-QUOTA",
                level=Level.ERROR,
                object=_ref(quota),
                found=f"it leaves {_text(max(free, 0), name)} of {_text(hard, name)} {name}, and {need.said}",
                wanted=f"room for {_text(need.total, name)} more",
                fix=f"raise the quota or lower requests: {_describe(quota)}",
                detail=name,
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Need:
    """What pods need of a quota beyond what they use now."""

    total: int
    said: str


def _need(coming: Sequence[NextPod], name: str, resource: str) -> _Need:
    """The proxies of pods that join, and the largest surge: one Deployment is restarted at a time."""
    joining, surging = 0, (0, "")
    joined = 0
    for item in coming:
        each = 1 if name in _PODS else item.limit(resource) if name.startswith("limits.") else item.request(resource)
        if item.joins and name not in _PODS:
            growth = [each - _now(pod, name, resource) for pod in item.workload.pods if not proxies(pod)]
            joining += sum(growth)
            joined += len(growth)
        if item.surge * each > surging[0]:
            surging = (item.surge * each, f"a restart of {item.workload.ref.name} ({item.surge} more {_plural(item.surge)})")
    parts = [f"the proxies of {joined} {_plural(joined)} take {_text(joining, name)}"] if joining > 0 else []
    parts += [f"{surging[1]} takes {_text(surging[0], name)}"] if surging[0] else []
    return _Need(total=max(joining, 0) + surging[0], said=" and ".join(parts))


def _plural(count: int) -> str:
    return "pod" if count == 1 else "pods"


def _now(pod: Pod, name: str, resource: str) -> int:
    """What a pod uses of a quota now."""
    if name.startswith("limits."):
        return sum(amount(container.resources.limits.get(resource), resource) or 0 for container in pod.spec.containers)
    return pod_request(pod.spec, resource)


def _without_limit(quota: ResourceQuota, coming: Sequence[NextPod], resource: str, line: str) -> Iterator[Finding]:
    """A quota of limits or requests refuses every pod with a container that does not say its own."""
    for name, kind in ((f"limits.{resource}", "limits"), (f"requests.{resource}", "requests"), (resource, "requests")):
        if name not in quota.status.hard:
            continue
        missing: dict[str, list[str]] = {}
        for item in coming:
            for container, complete in item.containers():
                if resource not in getattr(complete.resources, kind):
                    missing.setdefault(container, []).append(item.workload.ref.name)
        for container, names in missing.items():
            yield Finding(
                code=f"{line}-QUOTA-DEMANDS",
                level=Level.ERROR,
                object=_ref(quota),
                found=f"it counts {name}, and container {container} of {shortened(dict.fromkeys(names))} sets none, "
                "so new pods are refused",
                wanted=f"a value for {kind} of {resource} in every container",
                fix=f"set it, or give a default by a LimitRange: kubectl -n {quota.metadata.namespace} get limitrange",
                detail=f"{name} {container}",
            )


def _ref(item: ResourceQuota | LimitRange) -> ObjectRef:
    return ObjectRef(kind=item.kind, namespace=item.metadata.namespace, name=item.metadata.name)


def _describe(item: ResourceQuota | LimitRange) -> str:
    return f"kubectl -n {item.metadata.namespace} describe {item.kind.lower()} {item.metadata.name}"


def _text(value: int, name: str) -> str:
    return str(value) if name in _PODS else text(value, name)


def _counts(spec: QuotaSpec, coming: NextPod) -> bool:
    """Whether a quota counts these pods: all of its scopes must hold for them."""
    expressions = spec.scope_selector.match_expressions if spec.scope_selector else ()
    wanted = [*((scope, "Exists", ()) for scope in spec.scopes), *((item.scope_name, item.operator, item.values) for item in expressions)]
    return all(_in_scope(scope, operator, values, coming) for scope, operator, values in wanted)


def _in_scope(scope: str, operator: str, values: Sequence[str], coming: NextPod) -> bool:
    """Scopes of Kubernetes; a pod with requests is not BestEffort, and a workload's pods do not end by a deadline."""
    match scope:
        case "NotTerminating":
            return True
        case "NotBestEffort":
            return any(complete.resources.requests or complete.resources.limits for _, complete in coming.containers())
        case "BestEffort":
            return not any(complete.resources.requests or complete.resources.limits for _, complete in coming.containers())
        case "PriorityClass":
            return _has_priority(operator, values, coming.workload.template.spec.priority_class_name)
    return False


def _has_priority(operator: str, values: Sequence[str], name: str) -> bool:
    match operator:
        case "In":
            return name in values
        case "NotIn":
            return name not in values
        case "DoesNotExist":
            return not name
    return bool(name)


# --- LimitRanges ------------------------------------------------------------------------------------------------------


@dataclass(slots=True, kw_only=True)
class _Violation:
    """One way in which containers of one name break one item of a LimitRange; ``said`` is what the first one asks for."""

    said: str
    workloads: list[str]


def range_findings(snapshot: Snapshot, coming: Iterable[NextPod], resource: str, line: str) -> Iterator[Finding]:
    """LimitRanges that refuse the next pods; the arguments are those of `quota_findings`."""
    every = list(coming)
    for limit_range in in_namespace(snapshot.limitranges, snapshot.namespace):
        seen: dict[tuple[str, str], _Violation] = {}
        for item in limit_range.spec.limits:
            for pod in every:
                for container, key, said in _violations(item, pod, resource):
                    seen.setdefault((container, key), _Violation(said=said, workloads=[])).workloads.append(pod.workload.ref.name)
        for (container, key), violation in seen.items():
            what = f"container {container} of " if container else ""
            yield Finding(
                code=f"{line}-LIMIT-RANGE",
                level=Level.ERROR,
                object=_ref(limit_range),
                found=f"{what}{shortened(dict.fromkeys(violation.workloads))} {violation.said}, so new pods are refused",
                wanted=f"{resource} within the LimitRange",
                fix=f"change the container's resources or the LimitRange: {_describe(limit_range)}",
                detail=f"{container} {key}",
            )


def _violations(item: LimitRangeItem, coming: NextPod, resource: str) -> Iterator[tuple[str, str, str]]:
    """Container (empty for the pod as a whole), a stable word for the bound, and what is asked for beyond it."""
    if item.type == "Pod":
        yield from (("", key, said) for key, said in _beyond(item, coming.request(resource), coming.limit(resource), resource))
    elif item.type == "Container":
        for name, container in coming.containers():
            requested = amount(container.resources.requests.get(resource), resource)
            limit = amount(container.resources.limits.get(resource), resource)
            yield from ((name, key, said) for key, said in _beyond(item, requested, limit, resource))


def _beyond(item: LimitRangeItem, requested: int | None, limit: int | None, resource: str) -> Iterator[tuple[str, str]]:
    most, least = _bound(item.max, resource), _bound(item.min, resource)
    ratio = item.max_limit_request_ratio.get(resource)
    high = limit or requested
    if most is not None and high is not None and high > most:
        yield "max", f"has a {'limit' if limit else 'request'} of {text(high, resource)}, above the maximum of {text(most, resource)}"
    if least is not None and requested is not None and requested < least:
        yield "min", f"requests {text(requested, resource)}, below the minimum of {text(least, resource)}"
    allowed = None if ratio is None else quantity(ratio)
    if allowed and limit and requested and limit > allowed * requested:
        said = f"has a limit of {text(limit, resource)}, more than {ratio} times its request of {text(requested, resource)}"
        yield "ratio", said


def _bound(bounds: Mapping[str, Quantity], resource: str) -> int | None:
    return amount(bounds.get(resource), resource)
