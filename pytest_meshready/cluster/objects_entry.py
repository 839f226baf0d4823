"""How requests enter a namespace and are led through it: Istio's Gateway and VirtualService, cut down to what rules read.

Tokens have no place in these kinds, but headers that a route sets or matches may hold some: they are not decoded.
"""

from __future__ import annotations

from typing import ClassVar

from pytest_meshready.cluster.objects import Labels, Metadata, PortSelector, Slim


class GatewayPort(Slim, frozen=True):
    number: int = 0
    name: str = ""
    protocol: str = ""


class ServerTls(Slim, frozen=True):
    """``mode``: PASSTHROUGH (also where empty), SIMPLE, MUTUAL, OPTIONAL_MUTUAL, AUTO_PASSTHROUGH, ISTIO_MUTUAL.

    Certificates come from Secrets (``credential_name``, ``credential_names``) or from files in the gateway's pods
    (``server_certificate``, ``tls_certificates``); so do the authorities of clients (``ca_cert_credential_name``,
    ``ca_certificates``). ``min_protocol_version`` empty or ``TLS_AUTO`` is TLS 1.2.
    """

    mode: str = ""
    https_redirect: bool = False
    credential_name: str = ""
    credential_names: tuple[str, ...] = ()
    server_certificate: str = ""
    tls_certificates: tuple[Present, ...] = ()
    min_protocol_version: str = ""
    ca_certificates: str = ""
    ca_cert_credential_name: str = ""


class GatewayServer(Slim, frozen=True):
    """``hosts`` may carry a namespace before a slash: ``./shop.example.com``, ``*/*``."""

    bind: str = ""
    port: GatewayPort = GatewayPort()
    hosts: tuple[str, ...] = ()
    tls: ServerTls | None = None


class GatewaySpec(Slim, frozen=True):
    """``selector`` selects pods, in istiod's default configuration of any namespace."""

    selector: Labels = {}
    servers: tuple[GatewayServer, ...] = ()


class Gateway(Slim, frozen=True):
    kind: ClassVar[str] = "Gateway"
    metadata: Metadata = Metadata()
    spec: GatewaySpec = GatewaySpec()


class StringMatch(Slim, frozen=True):
    exact: str = ""
    prefix: str = ""
    regex: str = ""


class Present(Slim, frozen=True):
    """A condition of which only is kept that there is one: its value may be a token."""


class HttpMatch(Slim, frozen=True):
    """All of it must hold; an empty one matches every request."""

    uri: StringMatch | None = None
    method: StringMatch | None = None
    port: int = 0
    gateways: tuple[str, ...] = ()
    headers: dict[str, Present | None] = {}
    without_headers: dict[str, Present | None] = {}
    query_params: dict[str, Present | None] = {}
    source_labels: Labels = {}
    source_namespace: str = ""
    authority: StringMatch | None = None
    scheme: Present | None = None
    ignore_uri_case: bool = False


class Destination(Slim, frozen=True):
    host: str = ""
    port: PortSelector | None = None
    subset: str = ""


class RouteDestination(Slim, frozen=True):
    destination: Destination = Destination()
    weight: int = 0


class HttpRetry(Slim, frozen=True):
    """``attempts`` 0 or unset switches retries off (pilot/pkg/networking/core/route/retry)."""

    attempts: int | None = None
    per_try_timeout: str | None = None
    retry_on: str = ""
    backoff: str | None = None


class Percent(Slim, frozen=True):
    value: float = 0.0


class FaultDelay(Slim, frozen=True):
    fixed_delay: str | None = None
    percentage: Percent | None = None
    percent: int | None = None


class FaultAbort(Slim, frozen=True):
    http_status: int | None = None
    grpc_status: str | None = None
    percentage: Percent | None = None


class HttpFault(Slim, frozen=True):
    delay: FaultDelay | None = None
    abort: FaultAbort | None = None


class MirrorPolicy(Slim, frozen=True):
    """``percentage`` None mirrors everything."""

    destination: Destination | None = None
    percentage: Percent | None = None


class Delegate(Slim, frozen=True):
    """``namespace`` empty is that of the VirtualService that delegates."""

    name: str = ""
    namespace: str = ""


class HttpRoute(Slim, frozen=True):
    """One of ``route``, ``redirect``, ``direct_response`` and ``delegate``; durations as written (``1.5s``)."""

    name: str = ""
    match: tuple[HttpMatch, ...] = ()
    route: tuple[RouteDestination, ...] = ()
    redirect: Present | None = None
    direct_response: Present | None = None
    delegate: Delegate | None = None
    rewrite: Present | None = None
    timeout: str | None = None
    retries: HttpRetry | None = None
    fault: HttpFault | None = None
    mirror: Destination | None = None
    mirrors: tuple[MirrorPolicy, ...] = ()
    mirror_percent: int | None = None
    mirror_percentage: Percent | None = None


class StreamMatch(Slim, frozen=True):
    """A match of ``tls`` (which has ``sni_hosts``) or of ``tcp``."""

    sni_hosts: tuple[str, ...] = ()
    port: int = 0
    gateways: tuple[str, ...] = ()
    source_labels: Labels = {}
    source_namespace: str = ""
    destination_subnets: tuple[str, ...] = ()


class StreamRoute(Slim, frozen=True):
    """A route of ``tls`` or ``tcp``."""

    match: tuple[StreamMatch, ...] = ()
    route: tuple[RouteDestination, ...] = ()


class VirtualServiceSpec(Slim, frozen=True):
    """``gateways`` empty means ``mesh``: the sidecars; ``export_to`` empty means every namespace."""

    hosts: tuple[str, ...] = ()
    gateways: tuple[str, ...] = ()
    http: tuple[HttpRoute, ...] = ()
    tls: tuple[StreamRoute, ...] = ()
    tcp: tuple[StreamRoute, ...] = ()
    export_to: tuple[str, ...] = ()


class VirtualService(Slim, frozen=True):
    kind: ClassVar[str] = "VirtualService"
    metadata: Metadata = Metadata()
    spec: VirtualServiceSpec = VirtualServiceSpec()
