"""What leads requests beside Istio's Gateway and VirtualService, cut down to what rules read.

Istio's ServiceEntry, Sidecar, EnvoyFilter and WasmPlugin, and the routes of the Gateway API. Values of headers, of filters and
of plugins may be tokens: they are not decoded.
"""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

from pytest_meshready.cluster.objects import Condition, Labels, Metadata, Slim, TargetRef, WorkloadSelector
from pytest_meshready.cluster.objects_entry import Present

# --- Istio ------------------------------------------------------------------------------------------------------------


class EntryPort(Slim, frozen=True):
    """``target_port`` 0 means the same as ``number``."""

    number: int = 0
    name: str = ""
    protocol: str = ""
    target_port: int = 0


class WorkloadAddress(Slim, frozen=True):
    """An endpoint that a ServiceEntry names."""

    address: str = ""
    labels: Labels = {}


class ServiceEntrySpec(Slim, frozen=True):
    """``location`` empty is MESH_EXTERNAL, ``resolution`` empty is NONE."""

    hosts: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    ports: tuple[EntryPort, ...] = ()
    location: str = ""
    resolution: str = ""
    endpoints: tuple[WorkloadAddress, ...] = ()
    workload_selector: WorkloadSelector | None = None
    export_to: tuple[str, ...] = ()


class EntryAddress(Slim, frozen=True):
    value: str = ""


class ServiceEntryStatus(Slim, frozen=True):
    """``addresses`` are those that istiod chose itself."""

    addresses: tuple[EntryAddress, ...] = ()


class ServiceEntry(Slim, frozen=True):
    kind: ClassVar[str] = "ServiceEntry"
    metadata: Metadata = Metadata()
    spec: ServiceEntrySpec = ServiceEntrySpec()
    status: ServiceEntryStatus = ServiceEntryStatus()


class RateLimit(Slim, frozen=True):
    """What an Envoy rate limit does: ``local`` ones count in each proxy, the others ask a service.

    ``tokens`` requests for each ``interval`` (a duration as written) are let through, by each proxy; 0 where it has no bucket.
    ``enabled`` and ``enforced`` are percentages, None where they are not set: that is 0 for a local limit, 100 for a global one.
    ``cluster`` is the service that is asked.
    """

    local: bool = False
    tokens: float = 0
    interval: str = ""
    enabled: float | None = None
    enforced: float | None = None
    cluster: str = ""
    fail_closed: bool = False


class ListenerPort(Slim, frozen=True):
    number: int = 0
    protocol: str = ""


class EgressListener(Slim, frozen=True):
    """``hosts`` are ``NAMESPACE/NAME`` with ``*``, ``.`` and ``~``; a listener without ``port`` is for all others."""

    port: ListenerPort | None = None
    bind: str = ""
    hosts: tuple[str, ...] = ()


class OutboundPolicy(Slim, frozen=True):
    mode: str = ""


class SidecarSpec(Slim, frozen=True):
    """``egress`` empty inherits everything that is visible."""

    workload_selector: WorkloadSelector | None = None
    egress: tuple[EgressListener, ...] = ()
    outbound_traffic_policy: OutboundPolicy | None = None


class Sidecar(Slim, frozen=True):
    kind: ClassVar[str] = "Sidecar"
    metadata: Metadata = Metadata()
    spec: SidecarSpec = SidecarSpec()


class TypedConfig(Slim, frozen=True):
    """``at_type`` and ``type_url`` say what the configuration is of, ``limit`` what a rate limit does.

    What else it says is not kept: `pytest_meshready.cluster.ratelimit` sees to that, and makes ``limit`` of the last fields,
    which may be anything when they come. Envoy's words may be written in camel case as well (protobuf's JSON takes both).
    """

    at_type: str = msgspec.field(default="", name="@type")
    type_url: str = msgspec.field(default="", name="type_url")
    limit: RateLimit | None = msgspec.field(default=None, name="meshready.io/limit")
    token_bucket: Any = msgspec.field(default=None, name="token_bucket")
    filter_enabled: Any = msgspec.field(default=None, name="filter_enabled")
    filter_enforced: Any = msgspec.field(default=None, name="filter_enforced")
    rate_limit_service: Any = msgspec.field(default=None, name="rate_limit_service")
    failure_mode_deny: Any = msgspec.field(default=None, name="failure_mode_deny")
    value: Any = None
    camel_type_url: str = msgspec.field(default="", name="typeUrl")
    camel_token_bucket: Any = msgspec.field(default=None, name="tokenBucket")
    camel_filter_enabled: Any = msgspec.field(default=None, name="filterEnabled")
    camel_filter_enforced: Any = msgspec.field(default=None, name="filterEnforced")
    camel_rate_limit_service: Any = msgspec.field(default=None, name="rateLimitService")
    camel_failure_mode_deny: Any = msgspec.field(default=None, name="failureModeDeny")


class PatchValue(Slim, frozen=True):
    """Envoy's own words. ``describes``: it says by what a global limit counts; made of the fields after it.

    What was written in camel case moves to the fields in snake case (`pytest_meshready.cluster.ratelimit`).
    """

    name: str = ""
    typed_config: TypedConfig | None = msgspec.field(default=None, name="typed_config")
    typed_per_filter_config: dict[str, TypedConfig | None] = msgspec.field(default_factory=dict, name="typed_per_filter_config")
    describes: bool = msgspec.field(default=False, name="meshready.io/describes")
    rate_limits: Any = msgspec.field(default=None, name="rate_limits")
    route: Any = None
    camel_typed_config: TypedConfig | None = msgspec.field(default=None, name="typedConfig")
    camel_typed_per_filter_config: dict[str, TypedConfig | None] = msgspec.field(default_factory=dict, name="typedPerFilterConfig")
    camel_rate_limits: Any = msgspec.field(default=None, name="rateLimits")


class Patch(Slim, frozen=True):
    operation: str = ""
    value: PatchValue | None = None


class ProxyMatch(Slim, frozen=True):
    """``proxy_version`` is a regular expression that is found anywhere in the proxy's version; empty matches all."""

    proxy_version: str = ""


class PatchMatch(Slim, frozen=True):
    """``context``: GATEWAY, SIDECAR_INBOUND, SIDECAR_OUTBOUND, or ANY (also where empty)."""

    context: str = ""
    proxy: ProxyMatch | None = None


class ConfigPatch(Slim, frozen=True):
    apply_to: str = ""
    match: PatchMatch | None = None
    patch: Patch | None = None


class EnvoyFilterSpec(Slim, frozen=True):
    """Without ``workload_selector`` and ``target_refs`` it patches every proxy of its namespace, or of the mesh."""

    workload_selector: WorkloadSelector | None = None
    target_refs: tuple[TargetRef, ...] = ()
    config_patches: tuple[ConfigPatch, ...] = ()
    priority: int = 0


class EnvoyFilter(Slim, frozen=True):
    kind: ClassVar[str] = "EnvoyFilter"
    metadata: Metadata = Metadata()
    spec: EnvoyFilterSpec = EnvoyFilterSpec()


class WasmPluginSpec(Slim, frozen=True):
    selector: WorkloadSelector | None = None
    target_refs: tuple[TargetRef, ...] = ()
    phase: str = ""


class WasmPlugin(Slim, frozen=True):
    kind: ClassVar[str] = "WasmPlugin"
    metadata: Metadata = Metadata()
    spec: WasmPluginSpec = WasmPluginSpec()


class TrafficExtension(Slim, frozen=True):
    """What Istio 1.30 and later has beside WasmPlugin: Lua or Wasm in proxies."""

    kind: ClassVar[str] = "TrafficExtension"
    metadata: Metadata = Metadata()
    spec: WasmPluginSpec = WasmPluginSpec()


# --- the Gateway API --------------------------------------------------------------------------------------------------


class ParentRef(Slim, frozen=True):
    """``group`` and ``kind`` None mean a Gateway of the Gateway API; ``namespace`` None the route's own."""

    group: str | None = None
    kind: str | None = None
    namespace: str | None = None
    name: str = ""
    section_name: str | None = None
    port: int | None = None


class BackendRef(Slim, frozen=True):
    """``group`` and ``kind`` None mean a Service; ``weight`` None means 1."""

    group: str | None = None
    kind: str | None = None
    namespace: str | None = None
    name: str = ""
    port: int | None = None
    weight: int | None = None


class Fraction(Slim, frozen=True):
    numerator: int = 0
    denominator: int | None = None


class RequestMirror(Slim, frozen=True):
    backend_ref: BackendRef = BackendRef()
    percent: int | None = None
    fraction: Fraction | None = None


class RouteFilter(Slim, frozen=True):
    type: str = ""
    request_mirror: RequestMirror | None = None


class PathMatch(Slim, frozen=True):
    """``type`` None is PathPrefix, ``value`` None is ``/``."""

    type: str | None = None
    value: str | None = None


class NamedMatch(Slim, frozen=True):
    """A header or a query parameter; its value may be a token and is not kept."""

    name: str = ""


class RouteMatch(Slim, frozen=True):
    """Of an HTTPRoute; a GRPCRoute's ``method`` is an object and only known to be there."""

    path: PathMatch | None = None
    method: str | Present | None = None
    headers: tuple[NamedMatch, ...] = ()
    query_params: tuple[NamedMatch, ...] = ()


class RouteTimeouts(Slim, frozen=True):
    request: str | None = None
    backend_request: str | None = None


class RouteRetry(Slim, frozen=True):
    codes: tuple[int, ...] = ()
    attempts: int | None = None
    backoff: str | None = None


class RouteRule(Slim, frozen=True):
    name: str | None = None
    matches: tuple[RouteMatch, ...] = ()
    filters: tuple[RouteFilter, ...] = ()
    backend_refs: tuple[BackendRef, ...] = ()
    timeouts: RouteTimeouts | None = None
    retry: RouteRetry | None = None


class RouteSpec(Slim, frozen=True):
    parent_refs: tuple[ParentRef, ...] = ()
    hostnames: tuple[str, ...] = ()
    rules: tuple[RouteRule, ...] = ()


class ParentStatus(Slim, frozen=True):
    parent_ref: ParentRef = ParentRef()
    controller_name: str = ""
    conditions: tuple[Condition, ...] = ()


class RouteStatus(Slim, frozen=True):
    parents: tuple[ParentStatus, ...] = ()


class HTTPRoute(Slim, frozen=True):
    kind: ClassVar[str] = "HTTPRoute"
    metadata: Metadata = Metadata()
    spec: RouteSpec = RouteSpec()
    status: RouteStatus = RouteStatus()


class GRPCRoute(Slim, frozen=True):
    kind: ClassVar[str] = "GRPCRoute"
    metadata: Metadata = Metadata()
    spec: RouteSpec = RouteSpec()
    status: RouteStatus = RouteStatus()


class TLSRoute(Slim, frozen=True):
    kind: ClassVar[str] = "TLSRoute"
    metadata: Metadata = Metadata()
    spec: RouteSpec = RouteSpec()
    status: RouteStatus = RouteStatus()


class TCPRoute(Slim, frozen=True):
    kind: ClassVar[str] = "TCPRoute"
    metadata: Metadata = Metadata()
    spec: RouteSpec = RouteSpec()
    status: RouteStatus = RouteStatus()


class GrantFrom(Slim, frozen=True):
    group: str = ""
    kind: str = ""
    namespace: str = ""


class GrantTo(Slim, frozen=True):
    """``name`` None means all of the kind."""

    group: str = ""
    kind: str = ""
    name: str | None = None


class ReferenceGrantSpec(Slim, frozen=True):
    from_: tuple[GrantFrom, ...] = msgspec.field(default=(), name="from")
    to: tuple[GrantTo, ...] = ()


class ReferenceGrant(Slim, frozen=True):
    kind: ClassVar[str] = "ReferenceGrant"
    metadata: Metadata = Metadata()
    spec: ReferenceGrantSpec = ReferenceGrantSpec()


class PolicyTarget(Slim, frozen=True):
    """What a policy is attached to, in its own namespace; ``section_name`` is the name of a port, None or empty all of them."""

    group: str = ""
    kind: str = ""
    name: str = ""
    section_name: str | None = None


class AuthorityRef(Slim, frozen=True):
    """Where the certificates of an authority are, in the policy's own namespace."""

    group: str = ""
    kind: str = ""
    name: str = ""


class TlsValidation(Slim, frozen=True):
    """How callers know the server: by whose authority. ``well_known_authorities`` comes before the references."""

    ca_certificate_refs: tuple[AuthorityRef, ...] = ()
    well_known_authorities: str | None = msgspec.field(default=None, name="wellKnownCACertificates")


class BackendTLSPolicySpec(Slim, frozen=True):
    target_refs: tuple[PolicyTarget, ...] = ()
    validation: TlsValidation = TlsValidation()


class AncestorStatus(Slim, frozen=True):
    controller_name: str = ""
    conditions: tuple[Condition, ...] = ()


class PolicyStatus(Slim, frozen=True):
    ancestors: tuple[AncestorStatus, ...] = ()


class BackendTLSPolicy(Slim, frozen=True):
    """Makes the callers of a Service or a ServiceEntry begin TLS of their own, without a client certificate."""

    kind: ClassVar[str] = "BackendTLSPolicy"
    metadata: Metadata = Metadata()
    spec: BackendTLSPolicySpec = BackendTLSPolicySpec()
    status: PolicyStatus = PolicyStatus()


class CertificateRef(Slim, frozen=True):
    group: str | None = None
    kind: str | None = None
    namespace: str | None = None
    name: str = ""


class ListenerTls(Slim, frozen=True):
    """``mode`` None is Terminate."""

    mode: str | None = None
    certificate_refs: tuple[CertificateRef, ...] = ()


class Listener(Slim, frozen=True):
    name: str = ""
    port: int = 0
    protocol: str = ""
    hostname: str | None = None
    tls: ListenerTls | None = None


class K8sGatewaySpec(Slim, frozen=True):
    gateway_class_name: str = ""
    listeners: tuple[Listener, ...] = ()


class ListenerStatus(Slim, frozen=True):
    name: str = ""
    attached_routes: int = 0
    conditions: tuple[Condition, ...] = ()


class GatewayAddress(Slim, frozen=True):
    type: str | None = None
    value: str = ""


class K8sGatewayStatus(Slim, frozen=True):
    addresses: tuple[GatewayAddress, ...] = ()
    conditions: tuple[Condition, ...] = ()
    listeners: tuple[ListenerStatus, ...] = ()


class K8sGateway(Slim, frozen=True):
    """The Gateway API's Gateway: kubectl's ``gateway`` where its CRDs are installed."""

    kind: ClassVar[str] = "Gateway"
    metadata: Metadata = Metadata()
    spec: K8sGatewaySpec = K8sGatewaySpec()
    status: K8sGatewayStatus = K8sGatewayStatus()
