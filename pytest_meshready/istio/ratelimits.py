"""Rate limits: line 8.1.2, what the EnvoyFilters of gateways and workloads say (checks.md 8.1.2).

Istio has no object for rate limits: teams patch one of Envoy's two filters into the gateway. The local one counts for each
proxy by itself and does nothing unless it is both enabled and enforced; the global one asks a service.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pytest_meshready.cluster.objects import Labels
from pytest_meshready.cluster.objects_traffic import (
    ConfigPatch,
    EnvoyFilter,
    PatchValue,
    RateLimit,
    TrafficExtension,
    TypedConfig,
    WasmPlugin,
)
from pytest_meshready.cluster.snapshot import Snapshot
from pytest_meshready.istio import gateways
from pytest_meshready.istio.components import held_namespaces
from pytest_meshready.istio.gateways import GATEWAY_NAME, Ways
from pytest_meshready.istio.policy import label_sets
from pytest_meshready.istio.wording import shortened
from pytest_meshready.istio.workloads import Workload, is_gateway, workloads
from pytest_meshready.results import Evidence, Finding, Judgement, Level, ObjectRef

#: What `rate_limited` reads.
READS = (*gateways.READS, "envoyfilters", "wasmplugins", "trafficextensions", "services", "endpointslices")

_AT_GATEWAY = frozenset({"", "ANY", "GATEWAY"})
_AT_WORKLOAD = frozenset({"", "ANY", "SIDECAR_INBOUND"})
#: What patches of routes say is only heard by a filter, which is another patch.
_ROUTES = frozenset({"ROUTE_CONFIGURATION", "VIRTUAL_HOST", "HTTP_ROUTE"})
_SERVICE_LABEL = "kubernetes.io/service-name"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """What an EnvoyFilter says of rate limits: the settings of the filter itself and of routes, which stand beside them.

    ``filters`` are those of ``local`` and ``remote`` that stand in the filter itself.
    """

    ref: ObjectRef
    selector: Mapping[str, str]
    gateway: tuple[str, ...]
    contexts: frozenset[str]
    local: tuple[RateLimit, ...] = ()
    remote: tuple[RateLimit, ...] = ()
    filters: tuple[RateLimit, ...] = ()
    describes: bool = False

    def reaches(self, workload: Workload, contexts: frozenset[str], root: str) -> bool:
        """Whether it patches the proxies of a workload."""
        if not self.contexts & contexts or self.ref.namespace not in (workload.ref.namespace, root):
            return False
        if self.gateway:
            return workload.labels.get(GATEWAY_NAME, "") in self.gateway
        return any(self.selector.items() <= labels.items() for labels in label_sets(workload))


def rate_limited(snapshot: Snapshot, elsewhere: str = "") -> Judgement:
    """Line 8.1.2, what the objects say: requests are limited where they enter.

    Errors: no limit at all; settings of routes without the filter that would hear them; a local limit that is not enabled or not
    enforced; a global one whose service does not exist or has no ready endpoint. Warnings: a limit that was only stated; one that
    is enforced for a part of the requests, has no bucket, or has nothing to count by; a filter for every proxy of the mesh; a
    plugin, of which nobody knows what it does.

    Args:
        snapshot: of the cluster.
        elsewhere: where requests are limited before they reach the cluster, in the team's words; empty if nowhere.
    """
    ways = Ways(snapshot)
    if ways.nothing is not None:
        return ways.nothing
    unknown = [*ways.unread, *snapshot.unread(*(key for key in READS if key not in gateways.ROUTES))]
    if not ways.workloads:
        unknown.append(ways.elsewhere())
    found = tuple(_limits(snapshot))
    findings: list[Finding] = []
    told: list[str] = []
    inside = _inside(snapshot, found)
    findings += _judged(snapshot, inside)
    for workload in ways.workloads:
        reaching = [item for item in found if item.reaches(workload, _AT_GATEWAY, snapshot.root_namespace)]
        told += _told(reaching, workload)
        findings += _judged(snapshot, reaching)
        if not reaching and not inside and not elsewhere and not snapshot.unread("envoyfilters"):
            findings.append(_nothing_at(snapshot, workload))
    if elsewhere:
        findings.append(_stated(snapshot, elsewhere))
    findings += _mesh_wide(snapshot, found)
    return Judgement(
        summary="; ".join(dict.fromkeys(told)) or "requests are limited at the workloads",
        examined=len(ways.workloads),
        findings=tuple(dict.fromkeys(findings)),
        unknown=tuple(dict.fromkeys(unknown)),
        evidence=(Evidence(kind="table", source="EnvoyFilters", data=[_row(item) for item in found]),),
    )


def _row(limit: Limit) -> dict[str, str]:
    said = [f"local: {_rate(item)}" for item in limit.local if item.tokens]
    said += [f"global: asks {item.cluster or 'a service'}" for item in limit.remote]
    return {"filter": str(limit.ref), "limits": "; ".join(said) or "only a part of one"}


def _rate(limit: RateLimit) -> str:
    return f"{limit.tokens:g} requests per {limit.interval or '?'}"


def _told(reaching: list[Limit], workload: Workload) -> Iterator[str]:
    """What is let through, in a sentence; a local limit grows with the number of pods."""
    pods = len(workload.pods) or workload.replicas
    for item in reaching:
        for local in item.local:
            if local.tokens:
                total = f", {local.tokens * pods:g} in all" if pods > 1 else ""
                yield f"{item.ref.name} lets {_rate(local)} through each of {pods} pods of {workload.ref.name}{total}"
        for remote in item.remote:
            if remote.cluster:
                yield f"{item.ref.name} asks {remote.cluster} at {workload.ref.name}"


# --- what EnvoyFilters say --------------------------------------------------------------------------------------------


def _limits(snapshot: Snapshot) -> Iterator[Limit]:
    for item in snapshot.envoyfilters:
        parts = [(patch, config) for patch in item.spec.config_patches for config in _configs(patch)]
        local = [(patch, config.limit) for patch, config in parts if config.limit is not None and config.limit.local]
        remote = [(patch, config.limit) for patch, config in parts if config.limit is not None and not config.limit.local]
        describing = [patch for patch in item.spec.config_patches if (value := _value(patch)) is not None and value.describes]
        relevant = [*(patch for patch, _ in (*local, *remote)), *describing]
        if relevant:
            yield Limit(
                ref=ObjectRef(kind="EnvoyFilter", namespace=item.metadata.namespace, name=item.metadata.name),
                selector=_selector(item),
                gateway=tuple(ref.name for ref in item.spec.target_refs if ref.kind == "Gateway"),
                contexts=frozenset(patch.match.context if patch.match else "" for patch in relevant),
                local=tuple(limit for _, limit in local),
                remote=tuple(limit for _, limit in remote),
                filters=tuple(limit for patch, limit in (*local, *remote) if patch.apply_to not in _ROUTES),
                describes=bool(describing),
            )


def _value(patch: ConfigPatch) -> PatchValue | None:
    """What a patch puts there; nothing where it takes something away."""
    return patch.patch.value if patch.patch is not None and patch.patch.operation != "REMOVE" else None


def _configs(patch: ConfigPatch) -> Iterator[TypedConfig]:
    value = _value(patch)
    if value is not None:
        yield from (config for config in (value.typed_config, *value.typed_per_filter_config.values()) if config is not None)


def _selector(item: EnvoyFilter) -> Labels:
    return item.spec.workload_selector.labels if item.spec.workload_selector else {}


def _works_at(item: WasmPlugin | TrafficExtension, workload: Workload, root: str) -> bool:
    """Whether a plugin is for the proxies of a gateway."""
    if item.metadata.namespace not in (workload.ref.namespace, root):
        return False
    if item.spec.target_refs:
        named = workload.labels.get(GATEWAY_NAME)
        return any(ref.kind == "Gateway" and ref.name == named for ref in item.spec.target_refs)
    selector = item.spec.selector.match_labels if item.spec.selector else {}
    return any(selector.items() <= labels.items() for labels in label_sets(workload))


# --- what is wrong with them ------------------------------------------------------------------------------------------


def _judged(snapshot: Snapshot, reaching: list[Limit]) -> Iterator[Finding]:
    """The limits of one gateway; settings of routes may stand in another EnvoyFilter than the filter's own."""
    local = [(item, limit) for item in reaching for limit in item.local]
    described = any(item.describes for item in reaching)
    kinds = {limit.local for item in reaching for limit in item.filters}
    deaf = [item for item in reaching if (item.local and True not in kinds) or (item.remote and False not in kinds)]
    deaf += [item for item in reaching if item.describes and not kinds and item not in deaf]
    for item in deaf:
        yield _about(
            item,
            "NO-FILTER",
            Level.ERROR,
            found="it gives routes their limits, but no patch adds the filter that enforces them, so every request passes",
            wanted="a patch of HTTP_FILTER that inserts envoy.filters.http.local_ratelimit or envoy.filters.http.ratelimit",
        )
    if local and True in kinds:
        yield from _local(local)
    for item in reaching if False in kinds else ():
        for limit in item.remote:
            yield from _remote(snapshot, item, limit, described=described)


def _local(found: list[tuple[Limit, RateLimit]]) -> Iterator[Finding]:
    """A local limit counts if one of its settings has a bucket, is enabled and is enforced."""
    first, _ = found[0]
    whole = [limit for _, limit in found if limit.tokens and limit.enabled and limit.enforced]
    if whole:
        share = max(min(limit.enabled or 0, limit.enforced or 0) for limit in whole)
        if share < 100:
            yield _about(
                first,
                "IN-PART",
                Level.WARNING,
                found=f"it is enforced for {share:g} % of the requests",
                wanted="filter_enabled and filter_enforced of 100 %",
            )
        return
    if not any(limit.tokens for _, limit in found):
        yield _about(first, "NO-BUCKET", Level.WARNING, found="it has no token_bucket, so it limits nothing", wanted="a token_bucket")
        return
    missing = [name for name in ("enabled", "enforced") if not any(getattr(limit, name) for _, limit in found if limit.tokens)]
    words = " and ".join(f"filter_{name}" for name in missing) or "filter_enabled or filter_enforced"
    yield _about(
        first,
        "NOT-ENFORCED",
        Level.ERROR,
        found=f"its {words} is not set, or 0 %, which is Envoy's default: it lets every request pass",
        wanted="filter_enabled and filter_enforced with a default_value of 100 %",
    )


def _remote(snapshot: Snapshot, item: Limit, limit: RateLimit, *, described: bool) -> Iterator[Finding]:
    if limit.enforced == 0 or limit.enabled == 0:
        wanted = "filter_enabled and filter_enforced of 100 %, or left out"
        yield _about(item, "NOT-ENFORCED", Level.ERROR, found="it is enforced for 0 % of the requests", wanted=wanted)
    if not described:
        yield _about(
            item,
            "NO-DESCRIPTORS",
            Level.WARNING,
            found="no patch gives routes their rate_limits, so the service is never asked",
            wanted="rate_limits on a VIRTUAL_HOST or HTTP_ROUTE",
        )
    host = limit.cluster.rpartition("|")[2] if limit.cluster.startswith("outbound|") else ""
    words = host.split(".")
    if len(words) < 2 or words[1] not in held_namespaces(snapshot):
        return
    name, namespace = words[0], words[1]
    if not any((item.metadata.name, item.metadata.namespace) == (name, namespace) for item in snapshot.services):
        yield _about(
            item,
            "NO-SERVICE",
            Level.ERROR,
            found=f"it asks Service {namespace}/{name}, which does not exist",
            wanted="a Service that exists",
        )
    elif not _answers(snapshot, name, namespace):
        closed = "every request is refused" if limit.fail_closed else "every request passes"
        yield _about(
            item,
            "SERVICE-DOWN",
            Level.ERROR,
            found=f"Service {namespace}/{name}, which it asks, has no ready endpoint: {closed}",
            wanted="ready endpoints, and failure_mode_deny as you want it",
        )


def _answers(snapshot: Snapshot, name: str, namespace: str) -> bool:
    slices = (
        item
        for item in snapshot.endpointslices
        if item.metadata.namespace == namespace and item.metadata.labels.get(_SERVICE_LABEL) == name
    )
    return any(endpoint.conditions.ready is not False for item in slices for endpoint in item.endpoints or ())


def _inside(snapshot: Snapshot, found: tuple[Limit, ...]) -> list[Limit]:
    """The limits at the workloads behind the gateways."""
    able = [item for item in found if item.contexts & _AT_WORKLOAD and item.ref.namespace in (snapshot.namespace, snapshot.root_namespace)]
    served = [item for item in workloads(snapshot, snapshot.namespace) if not is_gateway(item)] if able else []
    root = snapshot.root_namespace
    return [item for item in able if any(item.reaches(workload, _AT_WORKLOAD, root) for workload in served)]


def _nothing_at(snapshot: Snapshot, workload: Workload) -> Finding:
    """A gateway that no limit reaches, nor the workloads behind it."""
    every: tuple[WasmPlugin | TrafficExtension, ...] = (*snapshot.wasmplugins, *snapshot.trafficextensions)
    plugins = [f"{item.kind} {item.metadata.name}" for item in every if _works_at(item, workload, snapshot.root_namespace)]
    maybe = f"; what {shortened(plugins)} does there is not known" if plugins else ""
    return Finding(
        code="MR812-NO-LIMIT",
        level=Level.WARNING if plugins else Level.ERROR,
        object=workload.ref,
        found=f"no EnvoyFilter limits the rate of requests at it, nor at the workloads behind it{maybe}",
        wanted="a local_ratelimit or ratelimit filter at the gateway, or a limit in front of the cluster",
        fix="add one (Istio's task: Enabling Rate Limits using Envoy), or say in meshready.toml where the limit is: external_rate_limit",
    )


def _stated(snapshot: Snapshot, elsewhere: str) -> Finding:
    return Finding(
        code="MR812-STATED",
        level=Level.WARNING,
        object=ObjectRef(kind="Namespace", name=snapshot.namespace),
        found=f"that requests are limited before they reach the cluster is only stated: {elsewhere}",
        wanted="a limit that the mesh can show, or a look at that one from time to time",
        fix="nothing, if it is true",
    )


def _mesh_wide(snapshot: Snapshot, found: tuple[Limit, ...]) -> Iterator[Finding]:
    """A filter in the root namespace without a selector patches every proxy of the mesh."""
    for item in found:
        wide = item.contexts & frozenset({"", "ANY"})
        if item.ref.namespace == snapshot.root_namespace and not item.selector and not item.gateway and wide and item.local:
            yield _about(
                item,
                "MESH-WIDE",
                Level.WARNING,
                found="it lies in the root namespace without workloadSelector, so it limits every proxy of the mesh",
                wanted="a workloadSelector with the labels of the gateway's pods, or context GATEWAY",
            )


def _about(item: Limit, kind: str, level: Level, *, found: str, wanted: str) -> Finding:
    return Finding(
        code=f"MR812-{kind}",
        level=level,
        object=item.ref,
        found=found,
        wanted=wanted,
        fix=f"kubectl -n {item.ref.namespace} edit envoyfilter {item.ref.name}",
    )
