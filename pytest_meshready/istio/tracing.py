"""How a proxy traces: its provider, whether it reports spans, and how many requests it samples: lines 5.2.1 and 5.2.2.

Reproduced from istiod: ``Tracing`` and ``applicableTelemetries`` in pilot/pkg/model/telemetry.go, ``configureTracing`` in
pilot/pkg/networking/core/tracing.go. ProxyConfig objects are not read; what they set for sampling is not seen here.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from pytest_meshready.cluster.objects import PodTemplate, Service
from pytest_meshready.cluster.objects_telemetry import Telemetry, Tracing
from pytest_meshready.cluster.snapshot import Snapshot, in_namespace
from pytest_meshready.istio.components import DEFAULT, Istiod, held_namespaces, istiods
from pytest_meshready.istio.components import READS as COMPONENTS
from pytest_meshready.istio.moments import moment
from pytest_meshready.istio.namespaces import unread_in
from pytest_meshready.istio.workloads import BATCH, Workload, is_gateway, workloads
from pytest_meshready.istio.workloads import READS as WORKLOADS
from pytest_meshready.results import Evidence, Finding, Judgement, Level, ObjectRef, Unknown

#: What `tracing_enabled` and `sampling_reviewed` read.
READS = tuple(dict.fromkeys((*WORKLOADS, *COMPONENTS, "telemetries", "configmaps", "services", "endpointslices")))

#: Per cent of requests above which sampling costs more than it tells (checks.md 5.2.2).
HIGHEST = 10.0

#: What Istio samples where nobody says anything: 1 % (istiod's PILOT_TRACE_SAMPLING).
_DEFAULT_SAMPLING = 1.0
_ENVIRONMENT = "PILOT_TRACE_SAMPLING"
_PROXY_CONFIG = "proxy.istio.io/config"
_SERVICE_LABEL = "kubernetes.io/service-name"
_KINDS = ("zipkin", "opentelemetry", "datadog", "skywalking", "lightstep", "opencensus", "stackdriver")
_LEGACY = ("zipkin", "datadog", "lightstep", "openCensusAgent", "stackdriver")
_BOTH = "USE_B3_WITH_W3C_PROPAGATION"
_NO_TIME = datetime.min.replace(tzinfo=UTC)


class Family(enum.StrEnum):
    """The headers that carry a trace from service to service."""

    B3 = "B3"
    """x-b3-traceid, x-b3-spanid, x-b3-sampled; or all in one header, b3"""
    W3C = "W3C"
    """traceparent"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """Where spans go. ``kind`` is ``zipkin``, ``opentelemetry`` ...; ``service`` is the host of the collector."""

    name: str
    kind: str
    service: str = ""
    families: frozenset[Family] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """How the proxies of some pods trace.

    Attributes:
        provider: where the spans go; None where there is none.
        wanted: the name of a provider that is not defined, where one is named; the proxies then do not trace.
        wanted_by: what names it.
        disabled_by: the Telemetry that switches the reporting of spans off, on at least one side of a request.
        sampling: per cent of requests that begin a trace.
        sampling_by: what says so.
    """

    provider: Provider | None = None
    wanted: str = ""
    wanted_by: ObjectRef | None = None
    disabled_by: ObjectRef | None = None
    sampling: float = _DEFAULT_SAMPLING
    sampling_by: ObjectRef | None = None

    @property
    def reports(self) -> bool:
        """Whether spans are reported at all."""
        return self.provider is not None and self.disabled_by is None


class TracingSettings:
    """The tracing of every proxy of a snapshot, arranged once."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._mesh = snapshot.mesh
        self._root = snapshot.root_namespace
        self._config = mesh_config(snapshot)
        self._by_namespace: dict[str, list[Telemetry]] = {}
        for item in sorted(snapshot.telemetries, key=_age):
            self._by_namespace.setdefault(item.metadata.namespace, []).append(item)
        self._istiod = next((item for item in istiods(snapshot) if item.in_use), None)

    def of(self, labels: Mapping[str, str], namespace: str, annotations: Mapping[str, str] | None = None) -> Setting:
        """How pods with these labels and annotations trace."""
        said = tuple(self._applicable(labels, namespace))
        defaults = _names(self._mesh.default_providers.get("tracing") if self._mesh else None)
        provider, wanted, wanted_by = self._provider(said, defaults)
        sampling, sampling_by = self._sampling(said, annotations or {})
        return Setting(
            provider=provider,
            wanted="" if provider else wanted,
            wanted_by=wanted_by,
            disabled_by=_disabled(said),
            sampling=sampling,
            sampling_by=sampling_by,
        )

    def _applicable(self, labels: Mapping[str, str], namespace: str) -> Iterator[tuple[ObjectRef, Tracing]]:
        """What Telemetry objects say, from wide to narrow: the oldest of the mesh, of the namespace, of the workload."""
        wide = [self._wide(self._root)]
        if namespace != self._root:
            wide.append(self._wide(namespace))
        own = (item for item in self._by_namespace.get(namespace, ()) if _narrow(item) and _selects(item, labels))
        for telemetry in (*wide, next(own, None)):
            if telemetry is not None:
                for tracing in telemetry.spec.tracing:
                    yield ObjectRef(kind="Telemetry", namespace=telemetry.metadata.namespace, name=telemetry.metadata.name), tracing

    def _wide(self, namespace: str) -> Telemetry | None:
        return next((item for item in self._by_namespace.get(namespace, ()) if not _narrow(item)), None)

    def _provider(
        self, said: tuple[tuple[ObjectRef, Tracing], ...], defaults: tuple[str, ...]
    ) -> tuple[Provider | None, str, ObjectRef | None]:
        """The provider, the name that was asked for, and what asked for it. Of several names istiod takes the first."""
        wanted, wanted_by = (defaults[0], self._config) if defaults else ("", None)
        for ref, tracing in said:
            if tracing.providers and tracing.providers[0].name:
                wanted, wanted_by = tracing.providers[0].name, ref
        if wanted:
            return self._defined(wanted), wanted, wanted_by
        if said or self._mesh is None or not self._mesh.enable_tracing:
            return None, "", None
        return _legacy(self._mesh.default_config), "", self._config

    def _defined(self, name: str) -> Provider | None:
        providers = self._mesh.extension_providers if self._mesh else ()
        found = next((item for item in providers if item.get("name") == name), None)
        kind = next((kind for kind in _KINDS if found is not None and kind in found), "")
        return _extension(name, kind, found[kind]) if found is not None and kind else None

    def _sampling(self, said: tuple[tuple[ObjectRef, Tracing], ...], annotations: Mapping[str, str]) -> tuple[float, ObjectRef | None]:
        """Telemetry, the pod's or the mesh's ProxyConfig (where 0 means unset), istiod's environment, Istio's default."""
        named = [(ref, tracing.random_sampling_percentage) for ref, tracing in said if tracing.random_sampling_percentage is not None]
        if named:
            ref, value = named[-1]
            return float(value or 0.0), ref
        for config in (_json(annotations.get(_PROXY_CONFIG, "")), self._mesh.default_config if self._mesh else {}):
            rate = _number(_inner(config, "tracing").get("sampling"))
            if rate:
                return rate, self._config
        rate = _number(self._istiod.variable(_ENVIRONMENT)) if self._istiod else None
        return (_DEFAULT_SAMPLING, None) if rate is None else (rate, _deployment(self._istiod))


def tracing_enabled(snapshot: Snapshot) -> Judgement:
    """Line 5.2.1, what the objects say: the proxies of the namespace report spans to a collector that is there.

    Errors: no provider; one that is not defined (IST0157); a collector without a ready endpoint; span reporting switched off.
    """
    unknown, groups = _surveyed(snapshot)
    findings: list[Finding] = []
    for setting, members in groups.items():
        if setting.disabled_by is not None:
            findings.append(_switched_off(setting.disabled_by, members))
        elif setting.provider is None:
            findings.append(_no_provider(snapshot, setting, members))
    providers = {setting.provider.service: setting.provider for setting in groups if setting.provider and setting.provider.service}
    for provider in providers.values():
        findings += _collector(snapshot, provider)
        unknown += _collector_unknown(snapshot, provider)
    names = sorted({setting.provider.name for setting in groups if setting.provider})
    return Judgement(
        summary=f"the proxies of {_count(groups)} report spans to {', '.join(names)}",
        examined=sum(len(members) for members in groups.values()),
        findings=tuple(findings),
        unknown=tuple(unknown),
        evidence=(_table(groups),),
    )


def sampling_reviewed(snapshot: Snapshot, *, final: bool = False) -> Judgement:
    """Line 5.2.2, what the objects say: the share of requests that begin a trace is above 0 and at most 10 %.

    Errors: 0 %; 100 % in the last phase, which is what demonstrations leave behind. Warnings: above 10 %.

    Args:
        snapshot: of the cluster.
        final: whether this is the last phase of the rollout.
    """
    unknown, groups = _surveyed(snapshot)
    findings = [finding for setting, members in groups.items() if (finding := _sampled(snapshot, setting, members, final=final))]
    rates = ", ".join(sorted({f"{setting.sampling:g} %" for setting in groups}))
    return Judgement(
        summary=f"the proxies of {_count(groups)} sample {rates} of the requests",
        examined=sum(len(members) for members in groups.values()),
        findings=tuple(findings),
        unknown=tuple(unknown),
        evidence=(_table(groups),),
    )


def mesh_config(snapshot: Snapshot) -> ObjectRef:
    """The ConfigMap that holds the mesh's configuration."""
    revision = snapshot.control_plane.revision if snapshot.control_plane else ""
    suffix = "" if revision in ("", DEFAULT) else f"-{revision}"
    return ObjectRef(kind="ConfigMap", namespace=snapshot.istio_namespace, name=f"istio{suffix}")


# --- what is looked at ------------------------------------------------------------------------------------------------

_Groups = dict[Setting, list[ObjectRef]]


def _surveyed(snapshot: Snapshot) -> tuple[list[Unknown], _Groups]:
    """The workloads of the namespace by how their proxies trace, and what hides the answer."""
    unknown = [*unread_in(snapshot, snapshot.namespace, "telemetries", *WORKLOADS)]
    unknown += unread_in(snapshot, snapshot.root_namespace, "telemetries")
    if snapshot.mesh is None:
        unknown += snapshot.unread("configmaps") or (
            Unknown(reason=f"the mesh configuration was not found: there is no {mesh_config(snapshot)}"),
        )
    settings = TracingSettings(snapshot)
    groups: _Groups = {}
    if snapshot.mesh is not None:
        for workload in _serving(snapshot):
            template = _of(workload)
            setting = settings.of(template.metadata.labels, snapshot.namespace, template.metadata.annotations)
            groups.setdefault(setting, []).append(workload.ref)
    if not groups and not unknown:
        unknown.append(Unknown(reason=f"namespace {snapshot.namespace} has no workload that could trace"))
    return list(dict.fromkeys(unknown)), groups


def _serving(snapshot: Snapshot) -> Iterator[Workload]:
    return (item for item in workloads(snapshot, snapshot.namespace) if item.kind not in BATCH and not is_gateway(item))


def _of(workload: Workload) -> PodTemplate:
    """What describes the pods: one of them, else the template."""
    return PodTemplate(metadata=workload.pods[0].metadata, spec=workload.pods[0].spec) if workload.pods else workload.template


def _count(groups: _Groups) -> str:
    number = sum(len(members) for members in groups.values())
    return f"{number} {'workload' if number == 1 else 'workloads'}"


def _table(groups: _Groups) -> Evidence:
    rows = [
        {
            "workloads": ", ".join(ref.name for ref in members),
            "provider": setting.provider.name if setting.provider else "none",
            "spans": "reported" if setting.reports else "not reported",
            "sampling": f"{setting.sampling:g} % by {setting.sampling_by or 'default'}",
        }
        for setting, members in groups.items()
    ]
    return Evidence(kind="table", source="Telemetry objects and the mesh configuration", data=rows)


# --- what istiod reads ------------------------------------------------------------------------------------------------


def _age(telemetry: Telemetry) -> tuple[datetime, str, str]:
    metadata = telemetry.metadata
    return (moment(metadata.creation_timestamp) or _NO_TIME, metadata.name, metadata.namespace)


def _narrow(telemetry: Telemetry) -> bool:
    selector = telemetry.spec.selector
    return bool((selector and selector.match_labels) or telemetry.spec.target_refs)


def _selects(telemetry: Telemetry, labels: Mapping[str, str]) -> bool:
    """By labels; Gateways of Kubernetes' own API, which ``targetRefs`` name, carry their name in a label."""
    if telemetry.spec.target_refs:
        name = labels.get("gateway.networking.k8s.io/gateway-name")
        return any(ref.kind == "Gateway" and ref.name == name for ref in telemetry.spec.target_refs)
    wanted = telemetry.spec.selector.match_labels if telemetry.spec.selector else {}
    return all(labels.get(key) == value for key, value in wanted.items())


def _disabled(said: tuple[tuple[ObjectRef, Tracing], ...]) -> ObjectRef | None:
    """The Telemetry that switches reporting off for requests that the pods send, or for those that they get."""
    off: dict[str, ObjectRef | None] = {"CLIENT": None, "SERVER": None}
    for ref, tracing in said:
        mode = tracing.match.mode if tracing.match else ""
        for side in (mode,) if mode in off else tuple(off):
            if tracing.disable_span_reporting is not None:
                off[side] = ref if tracing.disable_span_reporting else None
    return off["CLIENT"] or off["SERVER"]


def _extension(name: str, kind: str, settings: object) -> Provider:
    fields = settings if isinstance(settings, Mapping) else {}
    if kind == "zipkin":
        both = fields.get("traceContextOption") == _BOTH
        families = frozenset({Family.B3, Family.W3C} if both else {Family.B3})
    else:
        families = frozenset({Family.W3C} if kind == "opentelemetry" else ())
    return Provider(name=name, kind=kind, service=str(fields.get("service") or ""), families=families)


def _legacy(config: Mapping[str, object]) -> Provider | None:
    """The tracer of ``defaultConfig.tracing``, which istiod falls back on; proxies that are told none do not trace."""
    tracing = _inner(config, "tracing")
    kind = next((kind for kind in _LEGACY if kind in tracing), "")
    if not kind:
        return None
    address = str(_inner(tracing, kind).get("address") or "").partition(":")[0]
    families = frozenset({Family.B3} if kind == "zipkin" else ())
    return Provider(name=f"defaultConfig.tracing.{kind}", kind=kind, service=address, families=families)


def _inner(config: Mapping[str, object], key: str) -> Mapping[str, object]:
    value = config.get(key)
    return value if isinstance(value, Mapping) else {}


def _json(text: str) -> Mapping[str, object]:
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _number(value: object) -> float | None:
    try:
        return float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else None
    except ValueError:
        return None


def _names(value: object) -> tuple[str, ...]:
    return tuple(str(item) for item in value if item) if isinstance(value, list | tuple) else ()


def _deployment(istiod: Istiod | None) -> ObjectRef | None:
    return istiod.workload.ref if istiod else None


# --- the collector ----------------------------------------------------------------------------------------------------


def _collector(snapshot: Snapshot, provider: Provider) -> Iterator[Finding]:
    """What is wrong with the Service that spans go to, where its namespace was read."""
    name, namespace = _place(provider.service)
    if namespace not in held_namespaces(snapshot) or _collector_unknown(snapshot, provider):
        return
    service = next((item for item in in_namespace(snapshot.services, namespace) if item.metadata.name == name), None)
    there = ObjectRef(kind="Service", namespace=namespace, name=name)
    if service is None:
        yield Finding(
            code="MR521-NO-COLLECTOR",
            level=Level.ERROR,
            object=there,
            found=f"provider {provider.name} sends spans to it, but there is no such Service",
            wanted="a collector that takes the spans",
            fix=f"install it, or correct the provider's service in the mesh configuration: kubectl -n {namespace} get services",
        )
    elif service.spec.type != "ExternalName" and service.spec.selector and not _ready(snapshot, service):
        yield Finding(
            code="MR521-COLLECTOR-DOWN",
            level=Level.ERROR,
            object=there,
            found=f"provider {provider.name} sends spans to it, but it has no ready endpoint",
            wanted="a collector that takes the spans",
            fix=f"look at its pods: kubectl -n {namespace} get endpointslices -l {_SERVICE_LABEL}={name}",
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


# --- findings ---------------------------------------------------------------------------------------------------------


def _switched_off(telemetry: ObjectRef, members: list[ObjectRef]) -> Finding:
    return Finding(
        code="MR521-SPANS-OFF",
        level=Level.ERROR,
        object=telemetry,
        found=f"disableSpanReporting: true keeps the proxies of {_shortened(members)} from reporting spans",
        wanted="proxies that report spans",
        fix=f"take disableSpanReporting out: kubectl -n {telemetry.namespace} edit telemetry {telemetry.name}",
    )


def _no_provider(snapshot: Snapshot, setting: Setting, members: list[ObjectRef]) -> Finding:
    config = mesh_config(snapshot)
    command = f"kubectl -n {config.namespace} edit configmap {config.name}"
    if setting.wanted:
        found = f"it names the tracing provider {setting.wanted}, which extensionProviders does not define"
        return Finding(
            code="MR521-UNDEFINED-PROVIDER",
            level=Level.ERROR,
            object=setting.wanted_by or config,
            found=f"{found}, so {_shortened(members)} do not trace",
            wanted="a provider that the mesh configuration defines (IST0157)",
            fix=f"define {setting.wanted} in extensionProviders, or name another: {command}",
        )
    return Finding(
        code="MR521-NO-PROVIDER",
        level=Level.ERROR,
        object=config,
        found=f"no tracing provider is set for {_shortened(members)}, neither by a Telemetry nor in defaultProviders.tracing",
        wanted="a tracing provider",
        fix=f"add one to extensionProviders and name it in defaultProviders.tracing: {command}",
    )


def _sampled(snapshot: Snapshot, setting: Setting, members: list[ObjectRef], *, final: bool) -> Finding | None:
    if 0 < setting.sampling <= HIGHEST:
        return None
    by = setting.sampling_by or mesh_config(snapshot)
    edit = f"kubectl -n {by.namespace} edit {by.kind.lower()} {by.name}"
    if setting.sampling <= 0:
        found = f"0 % of the requests to {_shortened(members)} begin a trace, so there are no traces but those that callers demand"
        return Finding(
            code="MR522-ZERO", level=Level.ERROR, object=by, found=found, wanted="above 0 and at most 10 %", fix=f"set a rate: {edit}"
        )
    return Finding(
        code="MR522-HIGH",
        level=Level.ERROR if final and setting.sampling >= 100 else Level.WARNING,
        object=by,
        found=f"{setting.sampling:g} % of the requests to {_shortened(members)} are traced, which costs latency and storage",
        wanted="above 0 and at most 10 %",
        fix=f"lower the rate: {edit}",
    )


def _shortened(members: list[ObjectRef]) -> str:
    more = f" and {len(members) - 3} more" if len(members) > 3 else ""
    return ", ".join(ref.name for ref in members[:3]) + more
