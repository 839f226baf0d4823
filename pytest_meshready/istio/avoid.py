"""Lines 6.2.1 to 6.2.3: what a rollout should do without at first. Canary releases, mirrored traffic, injected faults.

Routes to the hosts of the namespace are searched in the whole mesh, because a rule of any namespace that is exported leads
callers of all others (checks.md 6.2). A route of the namespace to somewhere else counts too: it is this team's traffic.
What a run of pytest-meshready planted for itself carries its label and is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pytest_meshready.cluster.objects import Metadata
from pytest_meshready.cluster.objects_controllers import ChaosTarget, Experiment
from pytest_meshready.cluster.objects_traffic import ConfigPatch, EnvoyFilter
from pytest_meshready.cluster.snapshot import Snapshot, in_namespace
from pytest_meshready.istio import gatewayapi, hosts
from pytest_meshready.istio.dataplane import RUN_LABEL, DataPlane, counted, dataplane_class
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
_AT_GATEWAY = frozenset({"", "ANY", "GATEWAY"})
_GATEWAY_NAME = "gateway.networking.k8s.io/gateway-name"

#: The label by which a second waypoint is tried out on a part of the requests, since Istio 1.31.
_WAYPOINT_CANARY = "istio.io/use-waypoint-canary"

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

    Errors: two or more targets with a weight; a canary of Flagger or Argo that is under way; a waypoint that is tried out on a
    part of the requests (Istio 1.31). Warnings: several targets of
    which one gets everything; a canary that is set up and rests.
    """
    rules = concerned(snapshot)
    findings = [item for one in rules if (item := _split(one))]
    findings += [*_flagger(snapshot), *_argo(snapshot), *_waypoints(snapshot)]
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


def _waypoints(snapshot: Snapshot) -> Iterator[Finding]:
    """What sends a part of its requests through another waypoint."""
    namespace = snapshot.this_namespace()
    services = in_namespace(snapshot.services, snapshot.namespace)
    entries = in_namespace(snapshot.serviceentries, snapshot.namespace)
    for item in (*((namespace,) if namespace else ()), *services, *entries):
        if name := item.metadata.labels.get(_WAYPOINT_CANARY):
            ref = ObjectRef(kind=item.kind, namespace=item.metadata.namespace, name=item.metadata.name)
            where = f"-n {ref.namespace} " if ref.namespace else ""
            yield Finding(
                code="MR621-WAYPOINT-CANARY",
                level=Level.ERROR,
                object=ref,
                found=f"its label {_WAYPOINT_CANARY} sends a part of the requests through waypoint {name}",
                wanted="one waypoint as long as the mesh is being introduced",
                fix=f"finish the change: kubectl {where}label {ref.kind.lower()} {ref.name} {_WAYPOINT_CANARY}-",
            )


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

    Errors: a route that delays or aborts; an EnvoyFilter with Envoy's fault filter that patches proxies of the namespace or the
    gateways before them; a chaos experiment in the namespace, or in another one and aimed at it. Warnings: a fault that no
    request meets, because its percentage is 0 or not set.
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
    """Of the namespace, or of another one if it is in force for pods of ours or for the gateways before them."""
    namespace = item.metadata.namespace
    if RUN_LABEL in item.metadata.labels or not any(_is_fault(patch) for patch in item.spec.config_patches):
        return None
    ours, gates = namespace == snapshot.namespace or _reaches_pods(item, snapshot), _gateways_of(item, snapshot)
    if not ours and not gates:
        return None
    patched = f"proxies of namespace {snapshot.namespace}" if ours else f"gateway {', '.join(gates[:3])}"
    ref = ObjectRef(kind="EnvoyFilter", namespace=namespace, name=item.metadata.name)
    return Finding(
        code="MR623-FAULT-FILTER",
        level=Level.ERROR,
        object=ref,
        found=f"it patches Envoy's fault filter into {patched}",
        wanted="no injected faults outside of a drill",
        fix=f"take the filter out: {edit(ref)}",
    )


def _reaches_pods(item: EnvoyFilter, snapshot: Snapshot) -> bool:
    """Whether a filter of the root namespace is for pods of the run's; without a selector it is for all."""
    if item.metadata.namespace != snapshot.root_namespace or item.spec.target_refs:
        return False
    labels = item.spec.workload_selector.labels if item.spec.workload_selector else {}
    pods = in_namespace(snapshot.pods, snapshot.namespace)
    return not labels or any(labels.items() <= pod.metadata.labels.items() for pod in pods)


def _gateways_of(item: EnvoyFilter, snapshot: Snapshot) -> list[str]:
    """The pods of gateways, of the namespaces that a run reads, that a filter is for."""
    root = item.metadata.namespace == snapshot.root_namespace
    if not any(patch.match is None or patch.match.context in _AT_GATEWAY for patch in item.spec.config_patches if _is_fault(patch)):
        return []
    labels = item.spec.workload_selector.labels if item.spec.workload_selector else {}
    named = {ref.name for ref in item.spec.target_refs if ref.kind == "Gateway"}
    return [
        pod.metadata.name
        for pod in snapshot.pods
        if counted(pod) and dataplane_class(pod) is DataPlane.GATEWAY and (root or pod.metadata.namespace == item.metadata.namespace)
        if (pod.metadata.labels.get(_GATEWAY_NAME) in named if item.spec.target_refs else labels.items() <= pod.metadata.labels.items())
    ]


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
    for item in (one for kind in kinds for one in kind if snapshot.namespace in _aims(one)):
        metadata = item.metadata
        paused = item.spec.engine_state in _STOPPED or metadata.annotations.get(_PAUSED) == "true"
        action = f" ({item.spec.action})" if item.spec.action else ""
        yield Finding(
            code="MR623-EXPERIMENT",
            level=Level.WARNING if paused else Level.ERROR,
            object=ObjectRef(kind=item.kind, namespace=metadata.namespace, name=metadata.name),
            found=f"a chaos experiment{action} for namespace {snapshot.namespace} is {'stopped but still there' if paused else 'set up'}",
            wanted="no injected faults outside of a drill",
            fix=f"end it: kubectl -n {metadata.namespace} delete {item.kind.lower()} {metadata.name}",
        )


def _aims(item: Experiment) -> tuple[str, ...]:
    """The namespaces whose pods an experiment is for: those that it names, else its own."""
    spec = item.spec
    named = (*spec.selector.namespaces, *spec.selector.pods, *((spec.appinfo.appns,) if spec.appinfo.appns else ()))
    second = spec.target.selector.namespaces if isinstance(spec.target, ChaosTarget) else ()
    return (*(named or (item.metadata.namespace,)), *second)
