"""The shop with its ingress gateway, for the lines about what enters: Deployment, pods, Service, Gateway and VirtualService."""

from __future__ import annotations

from typing import Any

from pytest_meshready.cluster import objects as o
from pytest_meshready.cluster.snapshot import Snapshot
from tests.unit import builders as make
from tests.unit.written import shop as written_shop

NAME = "istio-ingressgateway"
PORTS = (("status-port", 15021), ("http2", 80), ("https", 443))
REDIRECT = "{port: {number: 80, name: http, protocol: HTTP}, hosts: [shop.example.com], tls: {httpsRedirect: true}}"
HTTPS = (
    "{port: {number: 443, name: https, protocol: HTTPS}, hosts: [shop.example.com], "
    "tls: {mode: SIMPLE, credentialName: shop-tls, minProtocolVersion: TLSV1_2}}"
)
ROUTE = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: frontend}
spec: {hosts: [shop.example.com], gateways: [shop], http: [{route: [{destination: {host: frontend}}]}]}
---
"""


def gateway(*servers: str, name: str = "shop", namespace: str = make.NAMESPACE, selector: str = "{istio: ingressgateway}") -> str:
    """Istio's Gateway with these servers; without any, as the shop has it."""
    listed = ", ".join(servers or (REDIRECT, HTTPS))
    return f"""
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: {name}, namespace: {namespace}}}
spec: {{selector: {selector}, servers: [{listed}]}}
---
"""


def workload(replicas: int = 2, *, namespace: str = make.ISTIO) -> o.Deployment:
    """The gateway's Deployment."""
    return make.deployment(NAME, namespace=namespace, replicas=replicas, labels=make.GATEWAY_LABELS, containers=(make.gateway_container(),))


def pods(count: int = 2, *, namespace: str = make.ISTIO, **fields: Any) -> tuple[o.Pod, ...]:
    """The gateway's pods."""
    return tuple(make.gateway_pod(f"{NAME}-{make.HASH}-p{index}", namespace=namespace, **fields) for index in range(count))


def service(*, namespace: str = make.ISTIO, address: str = "10.88.0.100", name: str = NAME, **fields: Any) -> o.Service:
    """The Service in front, a load balancer with an address."""
    fields.setdefault("type", "LoadBalancer")
    made = make.service(name, namespace=namespace, selector={"istio": "ingressgateway"}, ports=PORTS, **fields)
    ingress = (o.LoadBalancerIngress(ip=address),) if address else ()
    return o.Service(metadata=made.metadata, spec=made.spec, status=o.ServiceStatus(load_balancer=o.LoadBalancer(ingress=ingress)))


def entered(text: str | None = None, **fields: Any) -> Snapshot:
    """The shop with its gateway; ``text`` stands in place of its Gateway and VirtualService."""
    written = f"{gateway()}{ROUTE}" if text is None else text
    base = written_shop("")
    own = tuple(item for item in base.pods if item.metadata.namespace == make.NAMESPACE)
    defaults: dict[str, Any] = {
        "deployments": (*base.deployments, workload()),
        "pods": (*own, *pods()),
        "services": (*base.services, service()),
    }
    return written_shop(written, **{**defaults, **fields})
