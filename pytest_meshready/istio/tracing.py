"""Whether the proxies trace, and how many requests: the static parts of lines 5.2.1 and 5.2.2 (checks.md 5.2).

How a proxy traces is `pytest_meshready.istio.telemetry`; its names that the live part needs are named here, too. The rate
is decided where a trace begins: for what comes from outside that is the gateway, whose decision the sidecars follow.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pytest_meshready.cluster.objects import Service
from pytest_meshready.cluster.objects_telemetry import Telemetry
from pytest_meshready.cluster.snapshot import Snapshot, in_namespace
from pytest_meshready.istio.components import READS as COMPONENTS
from pytest_meshready.istio.components import gateways, held_namespaces
from pytest_meshready.istio.dataplane import DataPlane, dataplane_class, proxies
from pytest_meshready.istio.injector import MODE, injection
from pytest_meshready.istio.namespaces import mesh_label, unread_in
from pytest_meshready.istio.telemetry import Family, Provider, Setting, Side, TracingSettings, mesh_config
from pytest_meshready.istio.workloads import BATCH, Workload, is_gateway, workloads
from pytest_meshready.results import Evidence, Finding, Judgement, Level, ObjectRef, Unknown

__all__ = [
    "HIGHEST",
    "READS",
    "Family",
    "Provider",
    "Setting",
    "Side",
    "TracingSettings",
    "mesh_config",
    "sampling_reviewed",
    "tracing_enabled",
]

#: What `tracing_enabled` and `sampling_reviewed` read.
READS = tuple(dict.fromkeys((*COMPONENTS, "telemetries", "configmaps", "services", "endpointslices")))

#: Per cent of requests above which sampling costs more than it tells (checks.md 5.2.2).
HIGHEST = 10.0

_SERVICE_LABEL = "kubernetes.io/service-name"
_USE_WAYPOINT = "istio.io/use-waypoint"
_FULL = 4  # name.namespace.svc.domain
_TRACED = "proxies that report spans"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Survey:
    """The workloads by how their proxies trace, and what hides the answer. ``entries`` are the gateways."""

    settings: TracingSettings
    own: dict[Setting, list[Workload]]
    entries: dict[Setting, list[Workload]]
    unknown: list[Unknown]

    @property
    def count(self) -> int:
        """How many workloads of the namespace were looked at."""
        return sum(len(members) for members in self.own.values())


def tracing_enabled(snapshot: Snapshot) -> Judgement:
    """Line 5.2.1, what the objects say: the proxies of the namespace report spans to a collector that is there.

    Errors: no provider; one that is not defined (IST0157) or that cannot trace; a collector that does not exist, has not the
    port, or has no ready endpoint; span reporting switched off for the whole namespace. Warnings: switched off for some
    workloads, or for one side of requests; a Telemetry about tracing that has no effect. A collector in a namespace that is
    never read is left to the live part.
    """
    survey = _survey(snapshot)
    findings = [*_ambient_gap(snapshot), *_off(survey)]
    findings += [
        _no_provider(snapshot, side, members)
        for setting, members in survey.own.items()
        for side in setting.sides
        if side.provider is None and side.disabled_by is None
    ]
    providers = dict.fromkeys(side.provider for setting in survey.own for side in setting.sides if side.provider)
    unknown = survey.unknown
    for provider in providers:
        findings += _collector(snapshot, provider)
        unknown += _collector_unknown(snapshot, provider)
    findings += _without_effect(snapshot, survey.settings)
    names = sorted({provider.name for provider in providers})
    return Judgement(
        summary=f"the proxies of {_counted(survey)} report spans to {', '.join(names)}",
        examined=survey.count,
        findings=tuple(dict.fromkeys(findings)),
        unknown=tuple(dict.fromkeys(unknown)),
        evidence=(_table(survey),),
    )


def sampling_reviewed(snapshot: Snapshot, *, final: bool = False) -> Judgement:
    """Line 5.2.2, what the objects say: the share of requests that begin a trace is above 0 and at most 10 %.

    The namespace's workloads and the gateways are looked at. Errors: 0 %; 100 % in the last phase, which is what
    demonstrations leave behind. Warnings: above 10 %; a 0 in the mesh's configuration, which means "not set" and not zero.

    Args:
        snapshot: of the cluster.
        final: whether this is the last phase of the rollout.
    """
    survey = _survey(snapshot)
    reporting: dict[Side, dict[ObjectRef, Workload]] = {}
    for setting, members in (*survey.own.items(), *survey.entries.items()):
        for side in setting.sides:
            if side.reports:
                reporting.setdefault(side, {}).update({item.ref: item for item in members})
    groups = {side: list(members.values()) for side, members in reporting.items()}
    findings = [finding for side, members in groups.items() for finding in _sampled(snapshot, side, members, final=final)]
    findings += _zero_ignored(snapshot, groups)
    unknown = survey.unknown
    if not unknown and not any(side.reports for setting in survey.own for side in setting.sides):
        unknown.append(Unknown(reason="no proxy of the namespace reports spans (line 5.2.1), so no sampling rate is in force there"))
    rates = ", ".join(sorted({_rate(side) for side in groups}))
    return Judgement(
        summary=f"the proxies of {_counted(survey)}{' and the gateways' if survey.entries else ''} sample {rates} of the requests",
        examined=sum(len(members) for members in groups.values()),
        findings=tuple(dict.fromkeys(findings)),
        unknown=tuple(dict.fromkeys(unknown)),
        evidence=(_table(survey),),
    )


# --- what is looked at ------------------------------------------------------------------------------------------------


def _survey(snapshot: Snapshot) -> _Survey:
    unknown = [*unread_in(snapshot, snapshot.namespace, *READS), *unread_in(snapshot, snapshot.root_namespace, *READS)]
    survey = _Survey(settings=TracingSettings(snapshot), own={}, entries={}, unknown=unknown)
    if snapshot.mesh is None:
        unknown += snapshot.unread("configmaps") or (
            Unknown(reason=f"the mesh configuration was not found: there is no {mesh_config(snapshot)}"),
        )
        return survey
    for workload in workloads(snapshot, snapshot.namespace):
        if workload.kind not in BATCH and not is_gateway(workload):
            _group(snapshot, survey.settings, workload, survey.own)
    for workload in gateways(snapshot):
        ours = _is_waypoint(workload) and workload.ref.namespace == snapshot.namespace
        _group(snapshot, survey.settings, workload, survey.own if ours else survey.entries)
    if not survey.own and not unknown and not _ambient_gap(snapshot):
        unknown.append(Unknown(reason=f"no workload of namespace {snapshot.namespace} has a proxy that could trace"))
    return survey


def _group(snapshot: Snapshot, settings: TracingSettings, workload: Workload, into: dict[Setting, list[Workload]]) -> None:
    """Add a workload to the groups of its proxies; pods of one workload may differ, as configuration is taken at injection."""
    found: dict[Setting, None] = {}
    seen: set[tuple[object, ...]] = set()
    for pod in workload.pods:
        if dataplane_class(pod) in (DataPlane.PROXYLESS, DataPlane.EXCLUDED) or not proxies(pod):
            continue
        key = (frozenset(pod.metadata.labels.items()), frozenset(pod.metadata.annotations.items()), proxies(pod)[0].env)
        if key not in seen:
            seen.add(key)
            found[settings.of_pod(pod, workload.ref)] = None
    if not workload.pods and not workload.from_pod and _would_have_proxy(snapshot, workload):
        metadata = workload.template.metadata
        found[settings.of(metadata.labels, workload.ref.namespace, metadata.annotations)] = None
    for setting in found:
        into.setdefault(setting, []).append(workload)


def _would_have_proxy(snapshot: Snapshot, workload: Workload) -> bool:
    """Whether a workload without pods, as in manifests, would be injected; where that is not known, it is assumed."""
    if is_gateway(workload):
        return True
    namespace = snapshot.this_namespace()
    labels = namespace.metadata.labels if namespace else {}
    if mesh_label(labels) == f"{MODE}=ambient":
        return False
    template = workload.template
    decision = injection(snapshot, labels, template.metadata.labels, template.metadata.annotations, host_network=template.spec.host_network)
    return decision.injected is not False


def _is_waypoint(workload: Workload) -> bool:
    return any(dataplane_class(pod) is DataPlane.WAYPOINT for pod in workload.pods[:1])


def _ambient_gap(snapshot: Snapshot) -> list[Finding]:
    """Ztunnel reads no requests: without a waypoint an ambient namespace is not traced."""
    namespace = snapshot.this_namespace()
    labels = namespace.metadata.labels if namespace else {}
    if mesh_label(labels) != f"{MODE}=ambient" or labels.get(_USE_WAYPOINT, "none") != "none":
        return []
    if any(_is_waypoint(item) and item.ref.namespace == snapshot.namespace for item in gateways(snapshot)):
        return []
    return [
        Finding(
            code="MR521-NO-WAYPOINT",
            level=Level.ERROR,
            object=ObjectRef(kind="Namespace", name=snapshot.namespace),
            found="it is ambient and has no waypoint: ztunnel carries its connections and reads no requests, so nothing is traced",
            wanted="a waypoint, where requests are to be traced",
            fix=f"istioctl waypoint apply --enroll-namespace -n {snapshot.namespace}",
        )
    ]


def _counted(survey: _Survey) -> str:
    return f"{survey.count} {'workload' if survey.count == 1 else 'workloads'}"


def _rate(side: Side) -> str:
    if side.provider and side.provider.sampler:
        return f"what provider {side.provider.name} decides"
    return f"{side.sampling:g} %"


def _table(survey: _Survey) -> Evidence:
    rows = [
        {
            "workloads": _named(members),
            "provider": side.provider.name if side.provider else "none",
            "spans": "reported" if side.reports else "not reported",
            "sampling": f"{_rate(side)} by {side.sampling_by or 'default'}",
        }
        for group in (survey.own, survey.entries)
        for setting, members in group.items()
        for side in setting.sides
    ]
    return Evidence(kind="table", source="Telemetry objects, the mesh configuration and the proxies' own", data=rows)


def _named(members: Iterable[Workload]) -> str:
    names = list(dict.fromkeys(item.ref.name for item in members))
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


# --- the collector ----------------------------------------------------------------------------------------------------


def _collector(snapshot: Snapshot, provider: Provider) -> Iterator[Finding]:
    """What is wrong with the Service that spans go to, where its namespace was read."""
    name, namespace = _place(provider.service)
    if namespace not in held_namespaces(snapshot) or _collector_unknown(snapshot, provider):
        return
    service = next((item for item in in_namespace(snapshot.services, namespace) if item.metadata.name == name), None)
    sends, kubectl = f"provider {provider.name} sends spans to it, but", f"kubectl -n {namespace}"
    found = word = fix = ""
    if service is None:
        word, found = "NO-COLLECTOR", f"{sends} there is no such Service"
        fix = f"install it, or correct the provider's service in the mesh configuration: {kubectl} get services"
    elif provider.port and provider.port not in {port.port for port in service.spec.ports}:
        word, found = "COLLECTOR-PORT", f"{sends} it has no port {provider.port}"
        fix = f"correct the provider's port in the mesh configuration: {kubectl} describe service {name}"
    elif service.spec.type != "ExternalName" and service.spec.selector and not _ready(snapshot, service):
        word, found = "COLLECTOR-DOWN", f"{sends} it has no ready endpoint"
        fix = f"look at its pods: {kubectl} get endpointslices -l {_SERVICE_LABEL}={name}"
    elif not provider.legacy and len(provider.service.rpartition("/")[2].split(".")) < _FULL:
        word, config = "COLLECTOR-NAME", mesh_config(snapshot)
        found = f"provider {provider.name} calls it {provider.service}: istiod knows Services by their full names alone, and traces nothing"
        fix = f"write its full name (as {name}.{namespace}.svc.cluster.local): kubectl -n {config.namespace} edit configmap {config.name}"
    if word:
        there = ObjectRef(kind="Service", namespace=namespace, name=name)
        yield Finding(
            code=f"MR521-{word}", level=Level.ERROR, object=there, found=found, wanted="a collector that takes the spans", fix=fix
        )


def _collector_unknown(snapshot: Snapshot, provider: Provider) -> tuple[Unknown, ...]:
    """What hides the collector. In a namespace that is never read, only the live part of the line can tell."""
    _, namespace = _place(provider.service)
    return unread_in(snapshot, namespace, "services", "endpointslices") if namespace in held_namespaces(snapshot) else ()


def _place(host: str) -> tuple[str, str]:
    """A Service's name and namespace from ``NAMESPACE/HOST`` or a host of the cluster; no namespace for other hosts."""
    prefix, slash, rest = host.partition("/")
    words = (rest if slash else host).split(".")
    if slash:
        return words[0], prefix
    return (words[0], words[1]) if len(words) == 2 or (len(words) > 2 and words[2] == "svc") else (host, "")


def _ready(snapshot: Snapshot, service: Service) -> bool:
    slices = in_namespace(snapshot.endpointslices, service.metadata.namespace)
    behind = (item for item in slices if item.metadata.labels.get(_SERVICE_LABEL) == service.metadata.name)
    endpoints = (endpoint for item in behind for endpoint in item.endpoints or ())
    return any(endpoint.conditions.ready in (None, True) and endpoint.addresses for endpoint in endpoints)


# --- findings of line 5.2.1 -------------------------------------------------------------------------------------------


def _off(survey: _Survey) -> Iterator[Finding]:
    """Where the reporting of spans is switched off: for all, for some workloads, or for one side of their requests."""
    by: dict[ObjectRef, list[Workload]] = {}
    traced = any(side.reports for setting in survey.own for side in setting.sides)
    for setting, members in survey.own.items():
        for side in setting.sides:
            if side.disabled_by is not None:
                by.setdefault(side.disabled_by, []).extend(members)
    for telemetry, members in by.items():
        yield Finding(
            code="MR521-SPANS-OFF",
            level=Level.WARNING if traced else Level.ERROR,
            object=telemetry,
            found=f"disableSpanReporting: true keeps the proxies of {_named(members)} from reporting spans",
            wanted=_TRACED,
            fix=f"take disableSpanReporting out: kubectl -n {telemetry.namespace} edit telemetry {telemetry.name}",
        )


def _no_provider(snapshot: Snapshot, side: Side, members: list[Workload]) -> Finding:
    config = mesh_config(snapshot)
    command = f"kubectl -n {config.namespace} edit configmap {config.name}"
    if side.wanted:
        return Finding(
            code="MR521-UNDEFINED-PROVIDER" if "does not define" in side.problem else "MR521-NOT-A-TRACER",
            level=Level.ERROR,
            object=side.wanted_by or config,
            found=f"it names the tracing provider {side.wanted}, {side.problem}, so {_named(members)} do not trace",
            wanted="a provider that the mesh configuration defines and that traces: zipkin, opentelemetry, datadog or skywalking",
            fix=f"define {side.wanted} in extensionProviders, or name another: {command}",
        )
    return Finding(
        code="MR521-NO-PROVIDER",
        level=Level.ERROR,
        object=config,
        found=f"no tracing provider is set for {_named(members)}, neither by a Telemetry nor in defaultProviders.tracing",
        wanted="a tracing provider",
        fix=f"add one to extensionProviders and name it in defaultProviders.tracing: {command}",
    )


def _without_effect(snapshot: Snapshot, settings: TracingSettings) -> Iterator[Finding]:
    """Telemetry objects of the namespace that speak of tracing and that no proxy obeys."""
    if snapshot.unread("pods"):
        return
    namespace = snapshot.namespace
    every = workloads(snapshot, namespace)
    labels = [*(workload.labels for workload in every), *(pod.metadata.labels for workload in every for pod in workload.pods)]
    distinct = {frozenset(item.items()): item for item in labels}.values()
    obeyed = {item.metadata.name for own in distinct for item in settings.applied(own, namespace) if item.metadata.namespace == namespace}
    for telemetry in in_namespace(snapshot.telemetries, namespace):
        if not telemetry.spec.tracing:
            continue
        if settings.is_ignored(telemetry):
            yield _ineffective(telemetry, "an older Telemetry without a selector is there, and istiod takes the oldest alone")
        elif telemetry.metadata.name not in obeyed:
            yield _ineffective(telemetry, "what it selects matches no workload")


def _ineffective(telemetry: Telemetry, why: str) -> Finding:
    there = ObjectRef(kind="Telemetry", namespace=telemetry.metadata.namespace, name=telemetry.metadata.name)
    return Finding(
        code="MR521-NO-EFFECT",
        level=Level.WARNING,
        object=there,
        found=f"its settings for tracing have no effect: {why}",
        wanted="every Telemetry is obeyed by somebody",
        fix=f"merge or remove it: kubectl -n {there.namespace} get telemetry {there.name} -o yaml",
    )


# --- findings of line 5.2.2 -------------------------------------------------------------------------------------------


def _sampled(snapshot: Snapshot, side: Side, members: list[Workload], *, final: bool) -> Iterator[Finding]:
    if 0 < side.sampling <= HIGHEST or (side.provider and side.provider.sampler):
        return
    by = side.sampling_by or mesh_config(snapshot)
    edit = f"kubectl -n {by.namespace} edit {by.kind.lower()} {by.name}"
    if side.sampling <= 0:
        yield Finding(
            code="MR522-ZERO",
            level=Level.ERROR,
            object=by,
            found=f"0 % of the requests at {_named(members)} begin a trace, so there are no traces but those that callers demand",
            wanted=f"above 0 and at most {HIGHEST:g} %",
            fix=f"set a rate: {edit}",
        )
        return
    yield Finding(
        code="MR522-HIGH",
        level=Level.ERROR if final and side.sampling >= 100 else Level.WARNING,
        object=by,
        found=f"{side.sampling:g} % of the requests at {_named(members)} begin a trace, which costs latency and storage",
        wanted=f"above 0 and at most {HIGHEST:g} %",
        fix=f"lower the rate: {edit}",
    )


def _zero_ignored(snapshot: Snapshot, groups: dict[Side, list[Workload]]) -> Iterator[Finding]:
    """A rate of 0 in the mesh's configuration, which istiod reads as "not set"."""
    tracing = snapshot.mesh.default_config.get("tracing") if snapshot.mesh else None
    if not isinstance(tracing, dict) or tracing.get("sampling") not in (0, "0", "0.0") or isinstance(tracing.get("sampling"), bool):
        return
    rates = sorted({_rate(side) for side in groups})
    if rates and rates != ["0 %"]:
        config = mesh_config(snapshot)
        yield Finding(
            code="MR522-ZERO-IGNORED",
            level=Level.WARNING,
            object=config,
            found=f"defaultConfig.tracing.sampling is 0, which istiod reads as not set: {', '.join(rates)} of the requests begin a trace",
            wanted="the rate that is meant",
            fix=f"set randomSamplingPercentage in a Telemetry, which can be 0: kubectl -n {config.namespace} edit configmap {config.name}",
        )
