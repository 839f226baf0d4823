"""Lines 6.2.1 to 6.2.3: what a rollout should do without at first. Canary releases, mirrored traffic, injected faults.

Routes to the hosts of the namespace are searched in the whole mesh, because a rule of any namespace that is exported leads
callers of all others (checks.md 6.2). A route of the namespace to somewhere else counts too: it is this team's traffic.
What a run of pytest-meshready planted for itself carries its label and is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pytest_meshready.cluster.objects import Metadata
from pytest_meshready.cluster.objects_traffic import ConfigPatch, EnvoyFilter, Experiment
from pytest_meshready.cluster.snapshot import Snapshot, in_namespace
from pytest_meshready.istio import gatewayapi, hosts
from pytest_meshready.istio.dataplane import RUN_LABEL
from pytest_meshready.istio.durations import shown
from pytest_meshready.istio.hosts import Hosts
from pytest_meshready.istio.routes import known_routes
from pytest_meshready.istio.rules import Fault, RouteObject, Rule, Target
from pytest_meshready.istio.timeouts import edit
from pytest_meshready.results import Finding, Judgement, Level, ObjectRef, Unknown

_ROUTES = (*hosts.READS, "virtualservices", *gatewayapi.READS)

#: What `no_canaries`, `no_mirrors` and `no_faults` read.
READS_621 = (*_ROUTES, "canaries", "rollouts")
READS_622 = _ROUTES
READS_623 = (*_ROUTES, "envoyfilters", "networkchaos", "httpchaos", "podchaos", "stresschaos", "chaosengines")

_FAULT_FILTER = "envoy.filters.http.fault"
_FAULT_TYPE = "http.fault.v3.HTTPFault"

#: What tells that an experiment is over: Litmus stops an engine, and Chaos Mesh pauses by an annotation.
_STOPPED = frozenset({"stop"})
_PAUSED = "experiment.chaos-mesh.org/pause"

#: Phases of Flagger and Argo in which traffic is split, or may be at any moment.
_MOVING = frozenset({"Progressing", "Promoting", "Finalising", "Waiting", "WaitingPromotion", "Paused"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Concerned:
    """A rule that leads to the namespace, or from it."""

    object: RouteObject
    rule: Rule


def concerned(snapshot: Snapshot) -> tuple[Concerned, ...]:
    """The rules of the whole mesh that concern the namespace."""
    found = known_routes(snapshot)
    return tuple(
        Concerned(object=item, rule=rule)
        for item in found.objects
        if not item.ours
        for rule in item.rules
        if concerns(item, rule, found.hosts, snapshot.namespace)
    )


def concerns(item: RouteObject, rule: Rule, known: Hosts, namespace: str) -> bool:
    """Whether a rule is the namespace's own, or is for one of its hosts, or leads there."""
    if namespace in (item.ref.namespace, rule.origin.namespace):
        return True
    names = (*item.hosts, *(target.host for target in rule.targets), *(mirror.target.host for mirror in rule.mirrors))
    return any(_belongs(name, known, namespace) for name in names)


def _belongs(name: str, known: Hosts, namespace: str) -> bool:
    if known.service_of(name)[1] == namespace:
        return True
    host = None if name.startswith("*") else known.find(name)
    return host is not None and host.namespace == namespace


def _judgement(snapshot: Snapshot, keys: tuple[str, ...], count: int, findings: list[Finding], *, clean: str) -> Judgement:
    """A list that is permitted and empty shows that nothing of the kind is there: with no route at all the line passes."""
    relevant = ("", snapshot.namespace, snapshot.root_namespace)
    unknown: tuple[Unknown, ...] = tuple(item for item in snapshot.unread(*keys) if item.namespace in relevant)
    routes = f"{count} rule{'' if count == 1 else 's'} of routes to or from namespace {snapshot.namespace}"
    return Judgement(summary=f"{routes}: {clean}", examined=0 if unknown else max(count, 1), findings=tuple(findings), unknown=unknown)


def _told_once(found: Iterable[Finding]) -> list[Finding]:
    """A rule of a Gateway API route with several parents is one rule."""
    return list({(item.object, item.detail): item for item in found}.values())


# --- 6.2.1 ------------------------------------------------------------------------------------------------------------


def no_canaries(snapshot: Snapshot) -> Judgement:
    """Line 6.2.1: no route splits requests, and no controller releases step by step.

    Errors: two or more targets with a weight; a canary of Flagger or Argo that is under way. Warnings: several targets of
    which one gets everything; a canary that is set up and rests.
    """
    rules = concerned(snapshot)
    findings = [item for one in rules if (item := _split(one))]
    findings += [*_flagger(snapshot), *_argo(snapshot)]
    return _judgement(snapshot, READS_621, len(rules), _told_once(findings), clean="none splits requests")


def _split(one: Concerned) -> Finding | None:
    targets = one.rule.targets
    if len(targets) < 2:
        return None
    shares = _shares(targets)
    active = len(one.rule.weighted) > 1
    wholly = "splits requests" if active else "names several targets, of which one gets every request"
    return Finding(
        code="MR621-SPLIT" if active else "MR621-SPLIT-RESTS",
        level=Level.ERROR if active else Level.WARNING,
        object=one.rule.origin,
        found=f"{one.rule.place} for {_for(one)} {wholly}: {shares}",
        wanted="one target for each rule as long as the mesh is being introduced",
        fix=f"finish the release and leave one target: {edit(one.rule.origin)}",
        detail=one.rule.place,
    )


def _shares(targets: tuple[Target, ...]) -> str:
    whole = sum(target.weight for target in targets) or 1
    told = [f"{round(100 * target.weight / whole, 1):g} % to {target}" for target in targets[:3]]
    return ", ".join(told) + (f" and {len(targets) - 3} more" if len(targets) > 3 else "")


def _for(one: Concerned) -> str:
    names = one.object.hosts
    return ", ".join(names[:2]) + (f" and {len(names) - 2} more" if len(names) > 2 else "")


def _flagger(snapshot: Snapshot) -> Iterator[Finding]:
    for item in in_namespace(snapshot.canaries, snapshot.namespace):
        moving = item.status.phase in _MOVING
        name = item.spec.target_ref.name or item.metadata.name
        state = f"is {item.status.phase} ({item.status.canary_weight} % of requests)" if moving else "rests, and starts at the next change"
        yield _controlled(item.kind, item.metadata, moving=moving, found=f"Flagger releases {name} step by step: it {state}")


def _argo(snapshot: Snapshot) -> Iterator[Finding]:
    for item in in_namespace(snapshot.rollouts, snapshot.namespace):
        if item.spec.strategy.canary is not None:
            moving = item.status.phase in _MOVING
            state = f"is {item.status.phase}" if moving else "rests, and starts at the next change"
            yield _controlled(item.kind, item.metadata, moving=moving, found=f"Argo Rollouts releases it as a canary: it {state}")


def _controlled(kind: str, metadata: Metadata, *, moving: bool, found: str) -> Finding:
    return Finding(
        code="MR621-CANARY" if moving else "MR621-CANARY-RESTS",
        level=Level.ERROR if moving else Level.WARNING,
        object=ObjectRef(kind=kind, namespace=metadata.namespace, name=metadata.name),
        found=found,
        wanted="plain rolling updates as long as the mesh is being introduced",
        fix=f"finish the release: kubectl -n {metadata.namespace} get {kind.lower()} {metadata.name}",
    )


# --- 6.2.2 ------------------------------------------------------------------------------------------------------------


def no_mirrors(snapshot: Snapshot) -> Judgement:
    """Line 6.2.2: no route sends copies of requests anywhere. A mirror without a percentage copies everything.

    Errors: a mirror above 0 per cent. Warnings: one of 0 per cent, which waits for somebody to raise it.
    """
    rules = concerned(snapshot)
    findings = [item for one in rules for item in _mirrors(one)]
    return _judgement(snapshot, READS_622, len(rules), _told_once(findings), clean="none mirrors requests")


def _mirrors(one: Concerned) -> Iterator[Finding]:
    for mirror in one.rule.mirrors:
        active = mirror.percent > 0
        yield Finding(
            code="MR622-MIRROR" if active else "MR622-MIRROR-RESTS",
            level=Level.ERROR if active else Level.WARNING,
            object=one.rule.origin,
            found=f"{one.rule.place} for {_for(one)} mirrors {mirror.percent:g} % of requests to {mirror.target}",
            wanted="no mirrored requests as long as the mesh is being introduced",
            fix=f"take the mirror out: {edit(one.rule.origin)}",
            detail=f"{one.rule.place} {mirror.target}",
        )


# --- 6.2.3 ------------------------------------------------------------------------------------------------------------


def no_faults(snapshot: Snapshot) -> Judgement:
    """Line 6.2.3: nothing breaks requests on purpose.

    Errors: a route that delays or aborts; an EnvoyFilter with Envoy's fault filter that patches proxies of the namespace; a
    chaos experiment in it. Warnings: a fault that no request meets, because its percentage is 0 or not set.
    """
    rules = concerned(snapshot)
    findings = [_injected(one, one.rule.fault) for one in rules if one.rule.fault is not None]
    findings += [found for item in snapshot.envoyfilters if (found := _filter(item, snapshot))]
    findings += _experiments(snapshot)
    return _judgement(snapshot, READS_623, len(rules), _told_once(findings), clean="none injects faults")


def _injected(one: Concerned, fault: Fault) -> Finding:
    parts = [f"delays {fault.delay_percent:g} % of requests by {shown(fault.delay)}"] if fault.delay is not None else []
    parts += [f"aborts {fault.abort_percent:g} % of requests with {fault.abort}"] if fault.abort else []
    return Finding(
        code="MR623-FAULT" if fault.active else "MR623-FAULT-RESTS",
        level=Level.ERROR if fault.active else Level.WARNING,
        object=one.rule.origin,
        found=f"{one.rule.place} for {_for(one)} {' and '.join(parts) or 'names a fault'} on purpose",
        wanted="no injected faults outside of a drill",
        fix=f"take http[].fault out: {edit(one.rule.origin)}",
        detail=one.rule.place,
    )


def _filter(item: EnvoyFilter, snapshot: Snapshot) -> Finding | None:
    """Of the namespace or the root namespace; one of the latter that selects pods counts if it selects ours."""
    namespace = item.metadata.namespace
    if namespace not in (snapshot.namespace, snapshot.root_namespace) or RUN_LABEL in item.metadata.labels:
        return None
    selector = item.spec.workload_selector
    if namespace != snapshot.namespace and selector is not None and selector.labels:
        pods = in_namespace(snapshot.pods, snapshot.namespace)
        if not any(selector.labels.items() <= pod.metadata.labels.items() for pod in pods):
            return None
    if not any(_is_fault(patch) for patch in item.spec.config_patches):
        return None
    ref = ObjectRef(kind="EnvoyFilter", namespace=namespace, name=item.metadata.name)
    return Finding(
        code="MR623-FAULT-FILTER",
        level=Level.ERROR,
        object=ref,
        found=f"it patches Envoy's fault filter into proxies of namespace {snapshot.namespace}",
        wanted="no injected faults outside of a drill",
        fix=f"take the filter out: {edit(ref)}",
    )


def _is_fault(patch: ConfigPatch) -> bool:
    value = patch.patch.value if patch.patch else None
    if value is None or (patch.patch is not None and patch.patch.operation == "REMOVE"):
        return False
    typed = value.typed_config
    by_type = typed is not None and (_FAULT_TYPE in typed.at_type or _FAULT_TYPE in typed.type_url)
    return by_type or value.name == _FAULT_FILTER or _FAULT_FILTER in value.typed_per_filter_config


def _experiments(snapshot: Snapshot) -> Iterator[Finding]:
    kinds: tuple[tuple[Experiment, ...], ...] = (
        snapshot.networkchaos,
        snapshot.httpchaos,
        snapshot.podchaos,
        snapshot.stresschaos,
        snapshot.chaosengines,
    )
    for item in (one for kind in kinds for one in in_namespace(kind, snapshot.namespace)):
        metadata = item.metadata
        paused = item.spec.engine_state in _STOPPED or metadata.annotations.get(_PAUSED) == "true"
        action = f" ({item.spec.action})" if item.spec.action else ""
        yield Finding(
            code="MR623-EXPERIMENT",
            level=Level.WARNING if paused else Level.ERROR,
            object=ObjectRef(kind=item.kind, namespace=metadata.namespace, name=metadata.name),
            found=f"a chaos experiment{action} {'is stopped but still there' if paused else 'is set up in the namespace'}",
            wanted="no injected faults outside of a drill",
            fix=f"end it: kubectl -n {metadata.namespace} delete {item.kind.lower()} {metadata.name}",
        )
