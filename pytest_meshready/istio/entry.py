"""Where requests from outside enter the namespace: its gateways and routes, Istio's own and the Gateway API's.

Live checks of routes, latency and traces go this way, because it needs no right of a team's identity: whoever may call the
gateway may call it so.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from pytest_meshready.cluster.objects import Pod, Service
from pytest_meshready.cluster.objects_entry import Gateway, GatewayServer, HttpMatch, HttpRoute, StringMatch, VirtualService
from pytest_meshready.cluster.objects_traffic import HTTPRoute, K8sGateway, RouteMatch, RouteRule
from pytest_meshready.cluster.snapshot import Snapshot
from pytest_meshready.istio.clientmodes import cluster_domain
from pytest_meshready.istio.virtualservices import gateway_name
from pytest_meshready.results import ObjectRef, Unknown

#: What `entries` reads.
READS = ("virtualservices", "gateways", "httproutes", "k8sgateways", "services", "pods")

_GATEWAY_NAME = "gateway.networking.k8s.io/gateway-name"
_TERMINATED = frozenset({"SIMPLE", "OPTIONAL_MUTUAL"})  # without a mode it is PASSTHROUGH
_PLAIN, _TLS = frozenset({"HTTP", "HTTP2"}), frozenset({"HTTPS"})
_SERVICE_TYPES = ("LoadBalancer", "NodePort", "ClusterIP")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One way into the namespace.

    Attributes:
        host: what the request names, in SNI and in Host.
        address: the gateway's Service, as a name inside the cluster.
        port: of that Service.
        tls: whether the gateway ends TLS there.
        path: a path that is led into the namespace.
        gateway: the object that opens the port.
        route: the object that leads the request on.
        service: the Service of the namespace that it is led to.
        selector: the labels of the gateway's pods that its Service asks for.
    """

    host: str
    address: str
    port: int
    tls: bool
    path: str
    gateway: ObjectRef
    route: ObjectRef
    service: str
    selector: tuple[tuple[str, str], ...] = ()

    @property
    def url(self) -> str:
        """As a person writes it."""
        usual = self.port == (443 if self.tls else 80)
        return f"{'https' if self.tls else 'http'}://{self.host}{'' if usual else f':{self.port}'}{self.path}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entries:
    """All ways that were found, those with TLS first, and why there may be more or none."""

    found: tuple[Entry, ...] = ()
    unknown: tuple[Unknown, ...] = ()


def entries(snapshot: Snapshot, path: str = "") -> Entries:
    """The ways into the namespace of the run.

    Args:
        snapshot: of the cluster.
        path: the path that the team wants to be asked for; else ``/`` where a route leads it into the namespace, else what the
            route asks for. Routes that demand more than a path are left out.
    """
    finder = _Finder(snapshot, path)
    found = sorted((*finder.istio(), *finder.kubernetes()), key=lambda item: (not item.tls, item.host, str(item.route), item.port))
    unknown = snapshot.unread(*READS)
    if not found and not unknown:
        reason = f"no gateway leads a request of HTTP to a Service of {snapshot.namespace} that can be told from its routes"
        unknown = (Unknown(reason=reason),)
    return Entries(found=tuple(_frozen(found)), unknown=unknown if not found else ())


def _frozen(found: Iterable[Entry]) -> Iterator[Entry]:
    """Each host, port and Service once."""
    seen: set[tuple[str, int, str]] = set()
    for entry in found:
        key = (entry.host, entry.port, entry.service)
        if key not in seen:
            seen.add(key)
            yield entry


class _Finder:
    """Follows routes from gateways to Services of the namespace."""

    def __init__(self, snapshot: Snapshot, path: str) -> None:
        self._snapshot = snapshot
        self._path = path
        self._domain = cluster_domain(snapshot)

    # --- Istio's own ---

    def istio(self) -> Iterator[Entry]:
        """By VirtualServices and Gateways of Istio."""
        gateways = {(item.metadata.namespace, item.metadata.name): item for item in self._snapshot.gateways}
        for route in self._snapshot.virtualservices:
            for name in route.spec.gateways:
                namespace, _, short = gateway_name(name, route.metadata.namespace).partition("/")
                gateway = gateways.get((namespace, short))
                if gateway is not None:
                    yield from self._through(gateway, route, name)

    def _through(self, gateway: Gateway, route: VirtualService, name: str) -> Iterator[Entry]:
        path, service = self._led(route, name)
        if not service:
            return
        for server in gateway.spec.servers:
            tls = _terminates(server)
            host = next((host for host in route.spec.hosts if _serves(server, host, route.metadata.namespace)), None)
            if tls is None or host is None:
                continue
            for fronting, port in self._fronting(gateway.spec.selector, server.port.number):
                yield self._entry(host, fronting, port, path, service, tls=tls, gateway=_ref(gateway), route=_ref(route))

    def _led(self, route: VirtualService, gateway: str) -> tuple[str, str]:
        """A path that the routes lead to a Service of the namespace, and that Service; the first route that matches wins."""
        for path in dict.fromkeys((self._path or "/", *([] if self._path else _paths(route.spec.http)))):
            first = next((item for item in route.spec.http if _takes(item, path, gateway)), None)
            hosts = [item.destination.host for item in first.route] if first is not None else []
            service = next((name for host in hosts if (name := self._own(host, route.metadata.namespace))), "")
            if service:
                return path, service
        return "", ""

    def _own(self, host: str, namespace: str) -> str:
        """The name of the namespace's Service that a host means; empty for others."""
        words = host.split(".")
        own = self._snapshot.namespace
        known = {item.metadata.name for item in self._snapshot.services if item.metadata.namespace == own}
        place = words[1] if len(words) > 1 else namespace
        tail = ".".join(words[2:])
        return words[0] if place == own and words[0] in known and tail in ("", "svc", f"svc.{self._domain}") else ""

    def _fronting(self, selector: Mapping[str, str], number: int) -> Iterator[tuple[Service, int]]:
        """The Services in front of a gateway's pods that lead to a port of it: by the Service's number, or by its target."""
        pods = [pod for pod in self._snapshot.pods if selector and selector.items() <= pod.metadata.labels.items()]
        for service in sorted(self._snapshot.services, key=_kind_of_service):
            if not any(_selects(service, pod) for pod in pods):
                continue
            for port in service.spec.ports:
                if number in (port.port, port.target_port) and port.protocol in ("", "TCP"):
                    yield service, port.port
                    return

    # --- the Gateway API's ---

    def kubernetes(self) -> Iterator[Entry]:
        """By HTTPRoutes and Gateways of the Gateway API, which Istio serves with a Service of their own."""
        gateways = {(item.metadata.namespace, item.metadata.name): item for item in self._snapshot.k8sgateways}
        for route in self._snapshot.httproutes:
            path, service = self._routed(route)
            for parent in route.spec.parent_refs:
                gateway = gateways.get((parent.namespace or route.metadata.namespace, parent.name))
                if service and gateway is not None and parent.kind in (None, "Gateway"):
                    yield from self._listening(gateway, route, path, service, parent.section_name)

    def _listening(self, gateway: K8sGateway, route: HTTPRoute, path: str, service: str, section: str | None) -> Iterator[Entry]:
        name, namespace = gateway.metadata.name, gateway.metadata.namespace
        fronting = [
            item
            for item in self._snapshot.services
            if item.metadata.namespace == namespace and item.metadata.labels.get(_GATEWAY_NAME) == name
        ]
        for listener in gateway.spec.listeners:
            tls = listener.protocol in _TLS and (listener.tls is None or listener.tls.mode in (None, "Terminate"))
            if section not in (None, listener.name) or not (tls or listener.protocol in _PLAIN):
                continue
            for item in fronting:
                if any(port.port == listener.port for port in item.spec.ports):
                    host = next(iter(route.spec.hostnames), "") or listener.hostname or f"{item.metadata.name}.{namespace}"
                    yield self._entry(host, item, listener.port, path, service, tls=tls, gateway=_ref(gateway), route=_ref(route))

    def _routed(self, route: HTTPRoute) -> tuple[str, str]:
        own = self._snapshot.namespace
        for path in dict.fromkeys((self._path or "/", *([] if self._path else _rule_paths(route.spec.rules)))):
            rule = next((item for item in route.spec.rules if _rule_takes(item, path)), None)
            for backend in rule.backend_refs if rule is not None else ():
                if backend.kind in (None, "Service") and (backend.namespace or route.metadata.namespace) == own:
                    return path, backend.name
        return "", ""

    def _entry(
        self, host: str, fronting: Service, port: int, path: str, service: str, *, tls: bool, gateway: ObjectRef, route: ObjectRef
    ) -> Entry:
        address = f"{fronting.metadata.name}.{fronting.metadata.namespace}"
        named = f"meshready{host[1:]}" if host.startswith("*.") else address if host == "*" else host
        return Entry(
            host=named,
            address=address,
            port=port,
            tls=tls,
            path=path,
            gateway=gateway,
            route=route,
            service=service,
            selector=tuple(sorted((fronting.spec.selector or {}).items())),
        )


def _ref(item: Gateway | VirtualService | K8sGateway | HTTPRoute) -> ObjectRef:
    return ObjectRef(kind=item.kind, namespace=item.metadata.namespace, name=item.metadata.name)


def _terminates(server: GatewayServer) -> bool | None:
    """Whether a server ends TLS of its own (True) or takes plain HTTP (False); None where it does neither."""
    protocol = server.port.protocol.upper()
    if protocol in _TLS:
        return True if server.tls is not None and server.tls.mode in _TERMINATED else None
    if protocol in _PLAIN:
        return None if server.tls is not None and server.tls.https_redirect else False
    return None


def _serves(server: GatewayServer, host: str, namespace: str) -> bool:
    """Whether a server's hosts take a VirtualService's host from a namespace."""
    for text in server.hosts:
        place, slash, wanted = text.rpartition("/")
        if slash and place not in ("*", ".", namespace):
            continue
        if wanted in ("*", host) or (wanted.startswith("*.") and host.endswith(wanted[1:])):
            return True
        if host.startswith("*") and wanted.endswith(host[1:]):
            return True
    return False


def _takes(route: HttpRoute, path: str, gateway: str) -> bool:
    return not route.match or any(_matches(match, path, gateway) for match in route.match)


def _matches(match: HttpMatch, path: str, gateway: str) -> bool:
    """Whether a GET of a path without further headers matches; conditions that cannot be told are taken as not met."""
    more = match.headers or match.query_params or match.source_labels or match.port
    method = match.method is None or _text(match.method, "GET")
    authority = match.authority is None
    return not more and method and authority and (not match.gateways or gateway in match.gateways) and _text(match.uri, path)


def _text(match: StringMatch | None, text: str) -> bool:
    if match is None or match == StringMatch():
        return True
    if match.exact:
        return text == match.exact
    return bool(match.prefix) and text.startswith(match.prefix)


def _paths(routes: Iterable[HttpRoute]) -> Iterator[str]:
    """The paths that routes ask for."""
    for route in routes:
        for match in route.match:
            if match.uri is not None and (match.uri.exact or match.uri.prefix):
                yield match.uri.exact or match.uri.prefix


def _rule_takes(rule: RouteRule, path: str) -> bool:
    return not rule.matches or any(_rule_matches(match, path) for match in rule.matches)


def _rule_matches(match: RouteMatch, path: str) -> bool:
    if match.headers or match.query_params or match.method not in (None, "GET"):
        return False
    value, kind = (match.path.value or "/", match.path.type or "PathPrefix") if match.path else ("/", "PathPrefix")
    if kind == "Exact":
        return path == value
    return kind == "PathPrefix" and (value == "/" or path == value.rstrip("/") or path.startswith(value.rstrip("/") + "/"))


def _rule_paths(rules: Iterable[RouteRule]) -> Iterator[str]:
    for rule in rules:
        for match in rule.matches:
            if match.path is not None and match.path.type in (None, "Exact", "PathPrefix") and match.path.value:
                yield match.path.value


def _selects(service: Service, pod: Pod) -> bool:
    same = service.metadata.namespace == pod.metadata.namespace
    return same and bool(service.spec.selector) and (service.spec.selector or {}).items() <= pod.metadata.labels.items()


def _kind_of_service(service: Service) -> tuple[int, str]:
    kinds = _SERVICE_TYPES
    return (kinds.index(service.spec.type) if service.spec.type in kinds else len(kinds), service.metadata.name)
