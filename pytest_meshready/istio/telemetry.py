"""How each proxy traces: where its spans go, whether it reports them, and how many requests it samples.

Reproduced from istiod: ``Tracing`` and ``applicableTelemetries`` in pilot/pkg/model/telemetry.go, ``configureTracing`` in
pilot/pkg/networking/core/tracing.go, ``ShouldAttachPolicy`` in pilot/pkg/model/policyattachment.go. A proxy has two sides,
the requests that it sends (client; all of a gateway's) and those that it gets (server), and a Telemetry may speak of one.
"""

from __future__ import annotations

import enum
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from pytest_meshready.cluster.objects import Pod
from pytest_meshready.cluster.objects_telemetry import Telemetry, Tracing
from pytest_meshready.cluster.snapshot import Snapshot
from pytest_meshready.istio.components import DEFAULT, istiods
from pytest_meshready.istio.dataplane import DataPlane, dataplane_class, proxies
from pytest_meshready.istio.moments import moment
from pytest_meshready.istio.releases import version
from pytest_meshready.istio.workloads import LabelIndex
from pytest_meshready.results import ObjectRef

#: What Istio samples where nobody says anything, in per cent (istiod's PILOT_TRACE_SAMPLING).
DEFAULT_SAMPLING = 1.0

#: Kinds of extension providers that trace, with the minor version of Istio 1 that dropped them.
TRACERS: Mapping[str, int | None] = {
    "zipkin": None,
    "opentelemetry": None,
    "datadog": None,
    "skywalking": None,
    "lightstep": 27,
    "opencensus": 25,
}

_ENVIRONMENT = "PILOT_TRACE_SAMPLING"
_PROXY_CONFIG = "proxy.istio.io/config"
_PROXY_VARIABLE = "PROXY_CONFIG"
_GATEWAY_NAME = "gateway.networking.k8s.io/gateway-name"
_GATEWAY_CLASS = "gateway.networking.k8s.io/gateway-class-name"
_LEGACY = ("zipkin", "datadog", "lightstep", "openCensusAgent")
_SAMPLERS = ("dynatraceSampler",)
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
    """Where spans go.

    ``kind`` is ``zipkin``, ``opentelemetry`` ...; ``service`` is the host of the collector and ``port`` its port (0: not
    known). ``sampler`` tells that the provider decides by itself what is sampled. ``legacy`` ones stand in the proxies' own
    configuration, which Envoy resolves by DNS; istiod looks the others up among the Services of the mesh.
    """

    name: str
    kind: str
    service: str = ""
    port: int = 0
    families: frozenset[Family] = frozenset()
    sampler: bool = False
    legacy: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """How a proxy traces the requests that it sends, or those that it gets.

    Attributes:
        provider: where the spans go; None where there is none.
        wanted: the name of the provider that was asked for, also where it does not exist; empty where none was.
        wanted_by: what asks for it.
        problem: why the provider that is asked for does not trace, as a clause; empty where it does or none is asked for.
        disabled_by: the Telemetry that switches the reporting of spans off.
        sampling: per cent of the requests that begin a trace here.
        sampling_by: what says so; None for Istio's own default.
    """

    provider: Provider | None = None
    wanted: str = ""
    wanted_by: ObjectRef | None = None
    problem: str = ""
    disabled_by: ObjectRef | None = None
    sampling: float = DEFAULT_SAMPLING
    sampling_by: ObjectRef | None = None

    @property
    def reports(self) -> bool:
        """Whether spans are reported at all."""
        return self.provider is not None and self.disabled_by is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """How a proxy traces on both sides; a gateway has only the client's."""

    client: Side
    server: Side

    @property
    def sides(self) -> tuple[Side, ...]:
        """The sides that differ: one where both are alike."""
        return tuple(dict.fromkeys((self.client, self.server)))

    @property
    def provider(self) -> Provider | None:
        """Where spans go, of whichever side has a provider."""
        return self.client.provider or self.server.provider

    @property
    def reports(self) -> bool:
        """Whether both sides report spans."""
        return self.client.reports and self.server.reports


class TracingSettings:
    """The tracing of every proxy of a snapshot, arranged once."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._mesh = snapshot.mesh
        self._root = snapshot.root_namespace
        self._config = mesh_config(snapshot)
        self._wide: dict[str, Telemetry] = {}
        self._narrow: dict[str, LabelIndex[tuple[int, Telemetry]]] = {}
        for place, item in enumerate(sorted(snapshot.telemetries, key=age)):
            if is_narrow(item):
                selector = item.spec.selector.match_labels if item.spec.selector and not item.spec.target_refs else {}
                self._narrow.setdefault(item.metadata.namespace, LabelIndex()).add(selector, (place, item))
            else:
                self._wide.setdefault(item.metadata.namespace, item)
        self._default = self._default_sampling()

    def of_pod(self, pod: Pod, owner: ObjectRef) -> Setting:
        """How a pod's proxy traces; ``owner`` is the workload to name where its own annotation decides.

        The proxy's configuration is that of the time of its injection, which the variable ``PROXY_CONFIG`` keeps.
        """
        variables = {variable.name: variable.value for container in proxies(pod)[:1] for variable in container.env}
        kept = _json(variables[_PROXY_VARIABLE]) if _PROXY_VARIABLE in variables else None
        own = self._own_sampling(pod.metadata.annotations, owner, kept)
        gateway = dataplane_class(pod) in (DataPlane.GATEWAY, DataPlane.WAYPOINT)
        return self._setting(pod.metadata.labels, pod.metadata.namespace or self._snapshot.namespace, own, gateway=gateway)

    def of(self, labels: Mapping[str, str], namespace: str, annotations: Mapping[str, str] | None = None) -> Setting:
        """How a pod with these labels and annotations would trace if it were created now."""
        own = self._own_sampling(annotations or {}, self._config, None)
        return self._setting(labels, namespace, own, gateway=_GATEWAY_NAME in labels)

    def applied(self, labels: Mapping[str, str], namespace: str) -> tuple[Telemetry, ...]:
        """The Telemetry objects that apply to a pod, from wide to narrow; what comes later overrides."""
        wide = [self._wide.get(self._root), self._wide.get(namespace) if namespace != self._root else None]
        index = self._narrow.get(namespace)
        candidates = sorted(index.candidates(labels), key=lambda pair: pair[0]) if index else ()
        narrow = (item for _, item in candidates if _attaches(item, labels))
        return tuple(item for item in (*wide, *narrow) if item is not None)

    def is_ignored(self, telemetry: Telemetry) -> bool:
        """Whether an older Telemetry of the whole namespace stands before this one: istiod takes the oldest alone."""
        return not is_narrow(telemetry) and self._wide.get(telemetry.metadata.namespace) != telemetry

    def _setting(self, labels: Mapping[str, str], namespace: str, own: tuple[float, ObjectRef | None], *, gateway: bool) -> Setting:
        said = [
            (ObjectRef(kind="Telemetry", namespace=item.metadata.namespace, name=item.metadata.name), tracing)
            for item in self.applied(labels, namespace)
            for tracing in item.spec.tracing
        ]
        client = self._side([pair for pair in said if _speaks_of(pair[1], "CLIENT")], own, any_said=bool(said))
        if gateway:
            return Setting(client=client, server=client)
        return Setting(client=client, server=self._side([pair for pair in said if _speaks_of(pair[1], "SERVER")], own, any_said=bool(said)))

    def _side(self, said: list[tuple[ObjectRef, Tracing]], own: tuple[float, ObjectRef | None], *, any_said: bool) -> Side:
        wanted, wanted_by = self._wanted(said)
        provider, problem = self._defined(wanted) if wanted else (None, "")
        if not wanted and not any_said and self._mesh is not None and self._mesh.enable_tracing is not False:
            provider = _legacy(self._mesh.default_config)
            wanted_by = self._config if provider else None
        sampling, sampling_by = own
        disabled_by = None
        for ref, tracing in said:
            if tracing.random_sampling_percentage is not None:
                sampling, sampling_by = _finite(tracing.random_sampling_percentage, DEFAULT_SAMPLING), ref
            if tracing.disable_span_reporting is not None:
                disabled_by = ref if tracing.disable_span_reporting else None
        return Side(
            provider=provider,
            wanted=wanted,
            wanted_by=wanted_by,
            problem=problem,
            disabled_by=disabled_by,
            sampling=sampling,
            sampling_by=sampling_by,
        )

    def _wanted(self, said: list[tuple[ObjectRef, Tracing]]) -> tuple[str, ObjectRef | None]:
        """The name of the provider that is asked for; of several names istiod takes the first."""
        defaults = self._mesh.default_providers.get("tracing") if self._mesh else None
        names = [str(name) for name in defaults if name] if isinstance(defaults, list | tuple) else []
        wanted, wanted_by = (names[0], self._config) if names else ("", None)
        for ref, tracing in said:
            if tracing.providers and tracing.providers[0].name:
                wanted, wanted_by = tracing.providers[0].name, ref
        return wanted, wanted_by

    def _defined(self, name: str) -> tuple[Provider | None, str]:
        """The extension provider of a name, in whatever case it is written; or why it does not trace."""
        providers = self._mesh.extension_providers if self._mesh else ()
        found = next((item for item in providers if str(item.get("name", "")).lower() == name.lower()), None)
        if found is None:
            return None, "which extensionProviders does not define"
        kind = next((kind for kind in found if kind != "name"), "")
        if kind not in TRACERS:
            return None, f"which is of kind {kind or 'nothing'} and does not trace"
        dropped, running = TRACERS[kind], version(self._snapshot.istio_version)
        if dropped is not None and running is not None and (running.major, running.minor) >= (1, dropped):
            return None, f"which is of kind {kind}, and Istio dropped that in 1.{dropped}"
        return _extension(str(found["name"]), kind, found[kind]), ""

    def _own_sampling(
        self, annotations: Mapping[str, str], owner: ObjectRef, kept: Mapping[str, object] | None
    ) -> tuple[float, ObjectRef | None]:
        """The rate of the proxy's own configuration, of the mesh's, or istiod's environment; a rate of 0 means not set.

        Args:
            annotations: of the pod; its own configuration overrides the mesh's.
            owner: what to name for the annotation.
            kept: the configuration that was injected into a pod that exists, which has both in it.
        """
        annotated = _rate(_json(annotations.get(_PROXY_CONFIG, "")))
        now = _rate(self._mesh.default_config) if self._mesh else None
        rate = (annotated or now) if kept is None else _rate(kept)
        if rate is None:
            return self._default
        rate = DEFAULT_SAMPLING if rate > 100 else rate
        return rate, owner if annotated or rate != now else self._config

    def _default_sampling(self) -> tuple[float, ObjectRef | None]:
        """What istiod's environment says, else Istio's default."""
        istiod = next((item for item in istiods(self._snapshot) if item.in_use), None)
        text = istiod.variable(_ENVIRONMENT) if istiod else ""
        try:
            rate = float(text)
        except ValueError:
            return DEFAULT_SAMPLING, None
        return (rate, istiod.workload.ref) if istiod and 0 <= rate <= 100 else (DEFAULT_SAMPLING, None)


def mesh_config(snapshot: Snapshot) -> ObjectRef:
    """The ConfigMap that holds the mesh's configuration."""
    revision = snapshot.control_plane.revision if snapshot.control_plane else ""
    suffix = "" if revision in ("", DEFAULT) else f"-{revision}"
    return ObjectRef(kind="ConfigMap", namespace=snapshot.istio_namespace, name=f"istio{suffix}")


def age(telemetry: Telemetry) -> tuple[datetime, str, str]:
    """The order in which istiod prefers: the oldest first, then by name."""
    metadata = telemetry.metadata
    return (moment(metadata.creation_timestamp) or _NO_TIME, metadata.name, metadata.namespace)


def is_narrow(telemetry: Telemetry) -> bool:
    """Whether it is about some pods or gateways, and not about the whole namespace."""
    selector = telemetry.spec.selector
    return bool((selector and selector.match_labels) or telemetry.spec.target_refs)


def _attaches(telemetry: Telemetry, labels: Mapping[str, str]) -> bool:
    """``targetRefs`` mean gateways of Kubernetes' own API, which carry their name in a label; a selector never means waypoints."""
    if telemetry.spec.target_refs:
        name = labels.get(_GATEWAY_NAME)
        return name is not None and any(ref.kind == "Gateway" and ref.name == name for ref in telemetry.spec.target_refs)
    wanted = telemetry.spec.selector.match_labels if telemetry.spec.selector else {}
    return wanted.items() <= labels.items() and not labels.get(_GATEWAY_CLASS, "").endswith("waypoint")


def _speaks_of(tracing: Tracing, side: str) -> bool:
    other = "SERVER" if side == "CLIENT" else "CLIENT"
    return tracing.match is None or tracing.match.mode != other


def _extension(name: str, kind: str, settings: object) -> Provider:
    fields: Mapping[str, object] = settings if isinstance(settings, Mapping) else {}
    if kind == "zipkin":
        both = fields.get("traceContextOption") == _BOTH
        families = frozenset({Family.B3, Family.W3C} if both else {Family.B3})
    else:
        families = frozenset({Family.W3C} if kind == "opentelemetry" else ())
    port = fields.get("port")
    return Provider(
        name=name,
        kind=kind,
        service=str(fields.get("service") or ""),
        port=port if isinstance(port, int) and not isinstance(port, bool) else 0,
        families=families,
        sampler=any(sampler in fields for sampler in _SAMPLERS),
    )


def _legacy(config: Mapping[str, object]) -> Provider | None:
    """The tracer of ``defaultConfig.tracing``, which istiod falls back on; proxies that are told none do not trace."""
    tracing = _inner(config, "tracing")
    kind = next((kind for kind in _LEGACY if kind in tracing), "")
    if not kind:
        return None
    host, _, port = str(_inner(tracing, kind).get("address") or "").rpartition(":")
    families = frozenset({Family.B3} if kind == "zipkin" else ())
    number = int(port) if port.isascii() and port.isdigit() and len(port) <= 5 else 0
    return Provider(
        name=f"defaultConfig.tracing.{kind}", kind=kind, service=host if number else "", port=number, families=families, legacy=True
    )


def _inner(config: Mapping[str, object], key: str) -> Mapping[str, object]:
    value = config.get(key)
    return value if isinstance(value, Mapping) else {}


def _json(text: str) -> Mapping[str, object]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _rate(config: Mapping[str, object]) -> float | None:
    """``tracing.sampling`` of a proxy's configuration; None where it is not set, which a rate of 0 means, too."""
    value = _inner(config, "tracing").get("sampling")
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        rate = float(value)
    except (ValueError, OverflowError):
        return None
    return rate if math.isfinite(rate) and rate > 0 else None


def _finite(rate: float, otherwise: float) -> float:
    return float(rate) if math.isfinite(rate) else otherwise
