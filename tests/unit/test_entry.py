"""The ways into the namespace that gateways and routes open."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
import pytest

from pytest_meshready.cluster import objects as o
from pytest_meshready.cluster.objects_entry import Gateway, VirtualService
from pytest_meshready.cluster.objects_traffic import HTTPRoute, K8sGateway
from pytest_meshready.cluster.snapshot import Snapshot
from pytest_meshready.istio.entry import Entry, entries
from tests.unit import builders as make

FRONTEND = "frontend.payments.svc.cluster.local"
GATEWAY_SERVICE = make.service(
    "istio-ingressgateway",
    namespace=make.ISTIO,
    selector={"istio": "ingressgateway"},
    ports=(("http2", 80), ("https", 443)),
    type="LoadBalancer",
)


def gateway(*servers: dict[str, Any], name: str = "shop", namespace: str = make.NAMESPACE) -> Gateway:
    spec = {"selector": {"istio": "ingressgateway"}, "servers": list(servers)}
    return msgspec.convert({"metadata": {"name": name, "namespace": namespace}, "spec": spec}, Gateway)


def server(number: int, protocol: str, *hosts: str, **tls: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"port": {"number": number, "protocol": protocol, "name": protocol.lower()}, "hosts": list(hosts)}
    return {**found, "tls": tls} if tls else found


def route(
    *routes: dict[str, Any],
    hosts: Iterable[str] = ("shop.example.com",),
    gateways: Iterable[str] = ("shop",),
    namespace: str = make.NAMESPACE,
) -> VirtualService:
    spec = {"hosts": list(hosts), "gateways": list(gateways), "http": list(routes)}
    return msgspec.convert({"metadata": {"name": "frontend", "namespace": namespace}, "spec": spec}, VirtualService)


def to(host: str = FRONTEND, *matches: dict[str, Any]) -> dict[str, Any]:
    return {"route": [{"destination": {"host": host, "port": {"number": 8080}}}], **({"match": list(matches)} if matches else {})}


REDIRECT = server(80, "HTTP", "shop.example.com", httpsRedirect=True)
SECURE = server(443, "HTTPS", "shop.example.com", mode="SIMPLE", credentialName="shop-tls")


def snapshot(gateways: Iterable[Gateway] = (), routes: Iterable[VirtualService] = (), **fields: Any) -> Snapshot:
    defaults: dict[str, Any] = {
        "gateways": tuple(gateways),
        "virtualservices": tuple(routes),
        "pods": (make.gateway_pod(),),
        "services": (GATEWAY_SERVICE, make.service("frontend")),
    }
    return make.snapshot(**{**defaults, **fields})


def one(found: Snapshot, path: str = "") -> Entry:
    (entry,) = entries(found, path).found
    return entry


def test_gateway_of_the_shop() -> None:
    """The server that redirects is left out, the one with TLS is the way; the gateway's Service is the address."""
    entry = one(snapshot([gateway(REDIRECT, SECURE)], [route(to())]))
    assert (entry.host, entry.address, entry.port, entry.tls, entry.path, entry.service) == (
        "shop.example.com",
        "istio-ingressgateway.istio-system",
        443,
        True,
        "/",
        "frontend",
    )
    assert (str(entry.gateway), str(entry.route)) == ("payments/Gateway/shop", "payments/VirtualService/frontend")
    assert entry.url == "https://shop.example.com/"
    assert entry.selector == (("istio", "ingressgateway"),)


def test_tls_before_plaintext() -> None:
    """Where both are open the way with TLS comes first."""
    found = entries(snapshot([gateway(server(80, "HTTP", "*"), SECURE)], [route(to())])).found
    assert [(entry.port, entry.tls) for entry in found] == [(443, True), (80, False)]


@pytest.mark.parametrize(
    "tls", [{"mode": "PASSTHROUGH"}, {"credentialName": "x"}, {"mode": "MUTUAL", "credentialName": "x"}, {"mode": "ISTIO_MUTUAL"}]
)
def test_servers_that_we_cannot_speak_to(tls: dict[str, str]) -> None:
    """A server that wants a client's certificate, or ends no TLS (as without a mode), is no way for us."""
    found = entries(snapshot([gateway(server(443, "HTTPS", "*", **tls))], [route(to())]))
    assert found.found == ()
    assert "no gateway leads a request of HTTP to a Service of payments" in found.unknown[0].reason


@pytest.mark.parametrize(
    ("routes", "path"),
    [
        ((to(FRONTEND, {"uri": {"prefix": "/shop"}}),), "/shop"),
        ((to(FRONTEND, {"uri": {"exact": "/basket"}}),), "/basket"),
        # the first route that matches wins: / leads elsewhere, so another path is taken
        ((to("other.legacy.svc.cluster.local", {"uri": {"exact": "/"}}), to(FRONTEND, {"uri": {"prefix": "/shop"}})), "/shop"),
        ((to(FRONTEND, {"uri": {"prefix": "/"}, "headers": {"x-canary": {"exact": "1"}}}), to()), "/"),
    ],
)
def test_path_by_the_routes(routes: tuple[dict[str, Any], ...], path: str) -> None:
    """A path that is led into the namespace without more than the path."""
    assert one(snapshot([gateway(SECURE)], [route(*routes)])).path == path


@pytest.mark.parametrize(
    "match",
    [
        {"uri": {"prefix": "/"}, "headers": {"x-canary": {"exact": "1"}}},
        {"uri": {"regex": ".*"}},
        {"uri": {"prefix": "/"}, "method": {"exact": "POST"}},
        {"queryParams": {"v": {"exact": "2"}}},
        {"gateways": ["mesh"]},
    ],
)
def test_routes_that_want_more_than_a_path(match: dict[str, Any]) -> None:
    """A header, another method, a pattern that cannot be told: no way for a plain GET."""
    assert entries(snapshot([gateway(SECURE)], [route(to(FRONTEND, match))])).found == ()


def test_path_of_the_team() -> None:
    """A path that the team gives is taken where a route leads it here, and nothing else is tried."""
    found = snapshot([gateway(SECURE)], [route(to(FRONTEND, {"uri": {"prefix": "/shop"}}))])
    assert one(found, "/shop/basket").path == "/shop/basket"
    assert entries(found, "/elsewhere").found == ()


@pytest.mark.parametrize(
    ("hosts", "host"),
    [
        (("*.example.com",), "meshready.example.com"),
        (("*",), "istio-ingressgateway.istio-system"),
    ],
)
def test_wildcards(hosts: tuple[str, ...], host: str) -> None:
    """A wildcard host becomes a name that it matches."""
    assert one(snapshot([gateway(server(80, "HTTP", "*"))], [route(to(), hosts=hosts)])).host == host


@pytest.mark.parametrize(
    ("server_host", "namespace", "found"),
    [("./shop.example.com", make.NAMESPACE, True), ("payments/*", make.NAMESPACE, True), ("other/*", make.NAMESPACE, False)],
)
def test_hosts_with_a_namespace(server_host: str, namespace: str, *, found: bool) -> None:
    """A server may take routes of some namespaces alone."""
    secure = server(443, "HTTPS", server_host, mode="SIMPLE", credentialName="x")
    assert bool(entries(snapshot([gateway(secure)], [route(to(), namespace=namespace)])).found) is found


def test_gateway_of_another_namespace() -> None:
    """A route may name a gateway as NAMESPACE/NAME, and a destination by its short name."""
    shared = gateway(SECURE, name="public", namespace=make.ISTIO)
    assert one(snapshot([shared], [route(to("frontend"), gateways=("istio-system/public",))])).service == "frontend"


def test_routes_of_the_mesh_are_no_entry() -> None:
    """A route for sidecars alone opens nothing to the outside."""
    assert entries(snapshot([gateway(SECURE)], [route(to(), gateways=("mesh",))])).found == ()


def test_gateway_by_target_port() -> None:
    """A server may name the port of the gateway's pods instead of the Service's."""
    service = o.Service(
        metadata=make.metadata("gw", make.ISTIO),
        spec=o.ServiceSpec(selector={"istio": "ingressgateway"}, ports=(o.ServicePort(name="https", port=443, target_port=8443),)),
    )
    found = snapshot([gateway(server(8443, "HTTPS", "*", mode="SIMPLE", credentialName="x"))], [route(to())])
    assert one(msgspec.structs.replace(found, services=(service, make.service("frontend")))).port == 443


def test_unread_routes_are_unknown() -> None:
    """Without the right to list routes there may be ways that were not seen."""
    found = entries(snapshot(refusals=(make.refusal("virtualservices"),)))
    assert (found.found, [item.verb for item in found.unknown]) == ((), ["list"])


def test_gateway_api() -> None:
    """An HTTPRoute to the namespace, through the Service that Istio makes for the Gateway."""
    listeners = [{"name": "https", "port": 443, "protocol": "HTTPS", "tls": {"mode": "Terminate"}, "hostname": "shop.example.com"}]
    gw = msgspec.convert({"metadata": {"name": "edge", "namespace": "payments"}, "spec": {"listeners": listeners}}, K8sGateway)
    rules = [{"matches": [{"path": {"type": "PathPrefix", "value": "/shop"}}], "backendRefs": [{"name": "frontend", "port": 8080}]}]
    spec = {"parentRefs": [{"name": "edge"}], "rules": rules}
    http = msgspec.convert({"metadata": {"name": "shop", "namespace": "payments"}, "spec": spec}, HTTPRoute)
    service = make.service(
        "edge-istio", labels={"gateway.networking.k8s.io/gateway-name": "edge"}, selector={"app": "edge"}, ports=(("https", 443),)
    )
    entry = one(make.snapshot(k8sgateways=(gw,), httproutes=(http,), services=(service, make.service("frontend"))))
    assert (entry.host, entry.address, entry.port, entry.tls, entry.path) == ("shop.example.com", "edge-istio.payments", 443, True, "/shop")
