"""Settings that Istio removed or deprecated, and defaults that it changed, by minor version, as data (checks.md 5, part h).

From the release notes in istio/istio (``releasenotes/notes``), each told apart by the first release that has the file; where no note
says it, from the source of two releases that follow each other. ``source`` names what was read. The names are Istio's, the words ours.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from itertools import starmap

#: The newest minor version whose notes were read for `CHANGES` and `DEFAULTS`; those of 1.31 as of its release candidate.
NOTES_UP_TO = 31


class Kind(enum.StrEnum):
    """Where a setting stands."""

    VARIABLE = "variable"
    """an environment variable of istiod"""
    ANNOTATION = "annotation"
    """an annotation of pods, perhaps with one value alone: ``name=value``"""
    PROVIDER = "provider"
    """a kind of ``meshConfig.extensionProviders``"""
    TRACER = "tracer"
    """a key of ``tracing`` in a ProxyConfig"""
    PROXY_CONFIG = "proxy config"
    """another key of a ProxyConfig: of ``meshConfig.defaultConfig`` or of the annotation ``proxy.istio.io/config``"""
    METADATA = "proxy metadata"
    """a key of ``proxyMetadata`` in a ProxyConfig"""
    COMPATIBILITY = "compatibility version"
    """a value of ``compatibilityVersion``"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A setting that ``1.minor`` removed or, where ``deprecated``, only announced to remove. ``instead`` may be empty."""

    minor: int
    kind: Kind
    name: str
    instead: str = ""
    source: str = ""
    deprecated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Default:
    """What ``1.minor`` does otherwise than the version before, without anybody having set anything: one clause."""

    minor: int
    what: str
    source: str = ""


def _note(name: str) -> str:
    return f"istio/istio releasenotes/notes/{name}.yaml"


def _code(minor: int) -> str:
    return f"istio/istio source, pilot/pkg/features of 1.{minor - 1} and 1.{minor}"


def _variable(minor: int, name: str, note: str = "", instead: str = "") -> Change:
    return Change(minor=minor, kind=Kind.VARIABLE, name=name, instead=instead, source=_note(note) if note else _code(minor))


_ALWAYS_ON = "nothing: what it switched on is always on"

_VARIABLES = starmap(
    _variable,
    (
        (21, "PILOT_ENABLE_INBOUND_PASSTHROUGH", "drop-legacy-inbound-passthrough", _ALWAYS_ON),
        (22, "PILOT_ENABLE_HEADLESS_SERVICE_POD_LISTENERS", "drop-headless", _ALWAYS_ON),
        (22, "PILOT_ENABLE_HBONE", "", "PILOT_ENABLE_AMBIENT"),
        (22, "PILOT_ENABLE_AMBIENT_CONTROLLERS", "", "PILOT_ENABLE_AMBIENT"),
        (22, "PILOT_XDS_SEND_TIMEOUT", ""),
        (23, "ISTIO_ENABLE_OPTIMIZED_SERVICE_PUSH", "51897", _ALWAYS_ON),
        (23, "ENABLE_OPTIMIZED_CONFIG_REBUILD", "51898", _ALWAYS_ON),
        (23, "ENABLE_OTEL_BUILTIN_RESOURCE_LABELS", "otel-builtin-labels"),
        (23, "PILOT_ENABLE_CONFIG_DISTRIBUTION_TRACKING", "drop-distribution"),
        (23, "PILOT_DISTRIBUTION_HISTORY_RETENTION", ""),
        (24, "ENABLE_EXTERNAL_NAME_ALIAS", "compatibility-version-1-20", _ALWAYS_ON),
        (24, "PERSIST_OLDEST_FIRST_HEURISTIC_FOR_VIRTUAL_SERVICE_HOST_MATCHING", "compatibility-version-1-20"),
        (24, "VERIFY_CERTIFICATE_AT_CLIENT", "compatibility-version-1-20", "insecureSkipVerify in a DestinationRule, where it must be"),
        (24, "PILOT_ENABLE_STATUS", ""),
        (25, "ENABLE_ENHANCED_RESOURCE_SCOPING", "", _ALWAYS_ON),
        (25, "ENABLE_RESOLUTION_NONE_TARGET_PORT", "", _ALWAYS_ON),
        (26, "ENABLE_AUTO_SNI", "55568", _ALWAYS_ON),
        (26, "ENABLE_DEFERRED_CLUSTER_CREATION", ""),
        (26, "ENABLE_DELIMITED_STATS_TAG_REGEX", ""),
        (27, "BYPASS_OVERLOAD_MANAGER_FOR_STATIC_LISTENERS", ""),
        (27, "ENABLE_DEFERRED_STATS_CREATION", ""),
        (27, "ENABLE_INBOUND_RETRY_POLICY", ""),
        (27, "EXCLUDE_UNSAFE_503_FROM_DEFAULT_RETRY", "", "retryOn in VirtualServices or meshConfig.defaultHttpRetryPolicy"),
        (27, "PILOT_STATUS_BURST", ""),
        (27, "PILOT_STATUS_QPS", ""),
        (27, "PILOT_STATUS_UPDATE_INTERVAL", ""),
        (28, "METRIC_ROTATION_INTERVAL", "remove-metric-rotation", "the annotation sidecar.istio.io/statsEvictionInterval"),
        (28, "METRIC_GRACEFUL_DELETION_INTERVAL", "remove-metric-rotation", "the annotation sidecar.istio.io/statsEvictionInterval"),
        (31, "PILOT_SPAWN_UPSTREAM_SPAN_FOR_GATEWAY", "remove-spawn-upstream-span-for-gateway", _ALWAYS_ON),
    ),
)

_OTEL = "an opentelemetry provider"

_OTHERS = (
    Change(
        minor=17,
        kind=Kind.PROXY_CONFIG,
        name="parentShutdownDuration",
        source="istio/api mesh/v1alpha1/proxy.proto of 1.16 and 1.17",
    ),
    Change(
        minor=22,
        kind=Kind.ANNOTATION,
        name="ambient.istio.io/redirection=disabled",
        instead="the label istio.io/dataplane-mode=none",
        source=_note("50804"),
    ),
    Change(minor=24, kind=Kind.ANNOTATION, name="sidecar.istio.io/enableCoreDump", source=_note("drop-coredump")),
    Change(
        minor=25,
        kind=Kind.ANNOTATION,
        name="traffic.sidecar.istio.io/kubevirtInterfaces",
        instead="the annotation istio.io/reroute-virtual-interfaces",
        source=_note("53933"),
        deprecated=True,
    ),
    Change(
        minor=25,
        kind=Kind.METADATA,
        name="ISTIO_META_DNS_AUTO_ALLOCATE",
        instead="PILOT_ENABLE_IP_AUTOALLOCATE of istiod, which is on by default",
        source=_note("54690"),
        deprecated=True,
    ),
    Change(minor=25, kind=Kind.PROVIDER, name="opencensus", instead=_OTEL, source=_note("opencensus-removal")),
    Change(minor=25, kind=Kind.TRACER, name="openCensusAgent", instead=_OTEL, source=_note("opencensus-removal")),
    Change(minor=27, kind=Kind.PROVIDER, name="lightstep", instead=_OTEL, source=_note("54002")),
    Change(minor=27, kind=Kind.TRACER, name="lightstep", instead=_OTEL, source=_note("54002")),
    Change(
        minor=29,
        kind=Kind.ANNOTATION,
        name="sidecar.istio.io/statsCompression",
        instead="statsCompression in the annotation proxy.istio.io/config",
        source=_note("48051"),
    ),
    *(
        Change(
            minor=minor,
            kind=Kind.COMPATIBILITY,
            name=f"1.{minor - behind}",
            instead="the behaviour of the version that is installed",
            source=f"istio/istio manifests/helm-profiles of 1.{minor}",
        )
        for minor, behind in ((24, 4), (25, 4), (26, 4), (27, 4), (28, 4))
    ),
)

#: Every known removal and deprecation, the oldest first.
CHANGES = tuple(sorted((*_VARIABLES, *_OTHERS), key=lambda change: change.minor))


def _default(minor: int, note: str, what: str) -> Default:
    return Default(minor=minor, what=what, source=_note(note))


#: What an upgrade to a minor version changes by itself; of each version what a team is most likely to notice.
DEFAULTS = tuple(
    starmap(
        _default,
        (
            (21, "enable-auto-sni", "TLS to servers outside sends the host of the request as SNI"),
            (21, "enable-verify-certificate-at-client", "certificates of servers outside are verified with the system's authorities"),
            (21, "external-name-on", "a Service of type ExternalName is an alias of the host that it names"),
            (22, "drop-default-tracing", "no spans are sent to zipkin.istio-system unless that is configured"),
            (22, "delta-xds-default", "proxies get their configuration in increments (delta xDS)"),
            (22, "enable-enhanced-scope", "meshConfig.discoverySelectors decide on Istio's own objects, too"),
            (22, "targetPort-service-entry", "targetPort counts in a ServiceEntry of resolution NONE"),
            (24, "50506", "a request that got a 503 is not retried by default"),
            (24, "sidecar-scope-unit", "which of several Services of one host a proxy takes no longer depends on a Sidecar being there"),
            (24, "telemetry-cel", "expressions in Telemetry must use Envoy's attributes"),
            (25, "53402", "no address counts as internal by default, so x-envoy headers of callers are removed at gateways"),
            (25, "ambient-dns-on", "the DNS requests of ambient pods are captured"),
            (27, "native-sidecar-default", "sidecars are native (init containers that restart) where every node's kubelet allows it"),
            (28, "gtw-140", "BackendTLSPolicy is read as v1 alone"),
            (29, "debug-endpoint-authorization", "istiod's debug pages show other namespaces only to callers of system namespaces"),
            (29, "48051", "Envoy compresses its metrics"),
            (29, "disable-track-remaining-cb-metrics", "circuit breakers no longer count what remains"),
            (29, "reconcile-iptables-default-true", "istio-cni mends the redirection of ambient pods when it is upgraded"),
            (30, "59075", "the files of the CNI plugin are readable by root alone"),
            (30, "statusgen-xds-auth", "istiod's plaintext port 15010 asks for credentials before it shows its state"),
            (30, "sidecar-pick-best-service-namespace", "a sidecar takes a Kubernetes Service before a ServiceEntry of the same host"),
            (31, "60690", "endpoints that are not ready are sent to proxies unless outlierDetection.minHealthPercent is set"),
            (31, "xds-api-generator-auth", "istiod serves its configuration (MCP) to control planes alone"),
        ),
    )
)


#: Kinds of objects that came with a minor version's CustomResourceDefinitions, by their key in a snapshot: without them, the
#: definitions are older than istiod. From manifests/charts/base of the releases.
DEFINED_SINCE = {"virtualservices": 22, "telemetries": 22, "trafficextensions": 30}
