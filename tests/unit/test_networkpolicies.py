"""Line 2.2.5: the connections that a mesh needs, against NetworkPolicies (checks.md 2.2.5)."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from pytest_meshready.cluster import objects as o
from pytest_meshready.cluster.objects_capacity import ApiService
from pytest_meshready.cluster.objects_entry import (
    Destination,
    Gateway,
    GatewaySpec,
    HttpRoute,
    RouteDestination,
    VirtualService,
    VirtualServiceSpec,
)
from pytest_meshready.cluster.objects_network import NetworkPolicy, PolicyEgress, PolicyIngress
from pytest_meshready.cluster.objects_traffic import EntryPort, ServiceEntry, ServiceEntrySpec
from pytest_meshready.cluster.snapshot import MeshConfig, Snapshot
from pytest_meshready.istio.networkpolicies import network_policies
from pytest_meshready.results import Finding, Judgement, Level, Status
from tests.unit import builders as make

HERE = {"kubernetes.io/metadata.name": "payments"}
SYSTEM = {"kubernetes.io/metadata.name": make.ISTIO}
DNS = PolicyEgress(to=(make.peer(namespaces={}),), ports=make.ports(53, protocol="UDP"))
ISTIOD = PolicyEgress(to=(make.peer({"app": "istiod"}, namespaces=SYSTEM),), ports=make.ports(15012))


def egress(*rules: PolicyEgress, name: str = "egress", **fields: Any) -> NetworkPolicy:
    return make.network_policy(name, policy_types=("Egress",), egress=rules, **fields)


def ingress(*rules: PolicyIngress, name: str = "ingress", **fields: Any) -> NetworkPolicy:
    return make.network_policy(name, policy_types=("Ingress",), ingress=rules, **fields)


def mesh(*policies: NetworkPolicy, meshed: bool = True, **fields: Any) -> Snapshot:
    """Two services, istiod, a gateway with a route to orders, DNS, and Prometheus beside istiod."""
    orders, ledger = make.deployment("orders"), make.deployment("ledger")
    istiod = make.deployment("istiod", namespace=make.ISTIO, labels={"app": "istiod"}, containers=(make.discovery_container(),))
    gateway = make.deployment(
        "istio-ingressgateway", namespace=make.ISTIO, labels={"istio": "ingressgateway"}, containers=(make.gateway_container(),)
    )
    pods = [*make.pods_of(orders, meshed=meshed), *make.pods_of(ledger, meshed=meshed)]
    pods += [*make.pods_of(istiod, meshed=False), *make.pods_of(gateway, meshed=False)]
    route = VirtualService(
        metadata=make.metadata("orders"),
        spec=VirtualServiceSpec(
            hosts=("shop.example.com",),
            gateways=("shop",),
            http=(HttpRoute(route=(RouteDestination(destination=Destination(host="orders", port=o.PortSelector(number=80))),)),),
        ),
    )
    defaults = {
        "deployments": (orders, ledger, istiod, gateway),
        "pods": tuple(pods),
        "services": (
            make.service("orders", ports=(("http", 80),), target_port=8080),
            make.service("ledger"),
            make.service("istiod", namespace=make.ISTIO, ports=(("grpc-xds", 15012), ("https-webhook", 443))),
            make.service(
                "istio-ingressgateway",
                namespace=make.ISTIO,
                selector={"istio": "ingressgateway"},
                ports=(("status-port", 15021), ("https", 8443)),
                type="LoadBalancer",
            ),
        ),
        "gateways": (Gateway(metadata=make.metadata("shop"), spec=GatewaySpec(selector={"istio": "ingressgateway"})),),
        "virtualservices": (route,),
        "node_pods": (make.dns_pod(), make.prometheus_pod()),
        "networkpolicies": policies,
    }
    return make.snapshot(**{**defaults, **fields})


def serious(judgement: Judgement) -> dict[str, Level]:
    """The findings that count, less the one that there is no policy."""
    return {item.code: item.level for item in judgement.findings if item.level is not Level.INFO and item.code != "MR225-NO-POLICY"}


def only(judgement: Judgement, code: str) -> Finding:
    (finding,) = [item for item in judgement.findings if item.code == code]
    return finding


ENOUGH = (
    egress(DNS, ISTIOD, PolicyEgress(to=(make.peer({}),))),
    ingress(
        PolicyIngress(from_=(make.peer({}),)),
        PolicyIngress(from_=(make.peer({"istio": "ingressgateway"}, namespaces=SYSTEM),), ports=make.ports(8080)),
        PolicyIngress(from_=(make.peer(namespaces=SYSTEM),), ports=make.ports(15020)),
    ),
)


def test_policies_that_permit_what_is_needed_pass() -> None:
    """Default deny in both directions, and the mesh's own connections by name."""
    judgement = network_policies(mesh(*ENOUGH))
    assert (judgement.status, judgement.findings) == (Status.PASSED, ())
    assert judgement.examined > 10


def test_without_a_policy_it_warns() -> None:
    """The shop has none; the review may say that this is meant."""
    judgement = network_policies(mesh())
    assert {item.code: item.level for item in judgement.findings} == {"MR225-NO-POLICY": Level.WARNING}


def test_egress_without_istiod_fails() -> None:
    """Fault network-policy-without-istiod: the proxies keep their last configuration, and their certificates for a day."""
    finding = only(network_policies(mesh(egress(DNS, PolicyEgress(to=(make.peer({}),))))), "MR225-ISTIOD")
    assert (finding.level, str(finding.object)) == (Level.ERROR, "payments/NetworkPolicy/egress")
    assert finding.found.startswith("no egress rule of it lets ledger, orders reach istiod (port 15012/TCP); proxies get no configuration")
    assert finding.fix == "add an egress rule for it: kubectl -n payments edit networkpolicy egress"


def test_before_injection_it_fails_already() -> None:
    """In phase pre the proxies are still to come, and the policies are there."""
    assert "MR225-ISTIOD" in serious(network_policies(mesh(egress(DNS), meshed=False)))


def test_pods_that_decline_need_no_istiod() -> None:
    """A policy for them alone is their own business."""
    naked = make.deployment("batch", annotations={"sidecar.istio.io/inject": "false"})
    base = mesh(egress(DNS, selects={"app": "batch"}))
    snapshot = msgspec.structs.replace(base, deployments=(*base.deployments, naked), pods=(*base.pods, *make.pods_of(naked, meshed=False)))
    assert serious(network_policies(snapshot)) == {}


def test_egress_without_dns_fails() -> None:
    """Port 53 over TCP alone is not enough; a cache on the node is reached by its address."""
    assert serious(network_policies(mesh(egress(ISTIOD)))) == {"MR225-DNS": Level.ERROR}
    tcp = PolicyEgress(to=(make.peer(namespaces={}),), ports=make.ports(53))
    assert serious(network_policies(mesh(egress(ISTIOD, tcp)))) == {"MR225-DNS": Level.ERROR}
    cache = PolicyEgress(to=(make.peer(cidr="169.254.20.10/32"),), ports=make.ports(53, protocol="UDP"))
    assert serious(network_policies(mesh(egress(ISTIOD, cache)))) == {}


def test_ingress_without_prometheus_and_gateway_fails() -> None:
    """Metrics are missing, and requests from outside end in a time-out; each workload is named."""
    judgement = network_policies(mesh(ingress(PolicyIngress(from_=(make.peer({}),)))))
    assert serious(judgement) == {"MR225-PROMETHEUS": Level.ERROR, "MR225-GATEWAY-TO-APP": Level.ERROR}
    gateway = only(judgement, "MR225-GATEWAY-TO-APP")
    assert gateway.found == (
        "no ingress rule of it lets gateway istio-ingressgateway reach orders (port 8080/TCP); requests through it end in a time-out"
    )
    assert "lets Prometheus scrape ledger, orders (port 15020/TCP or 15090/TCP)" in only(judgement, "MR225-PROMETHEUS").found


def test_a_port_of_the_service_is_not_the_port_of_the_pod() -> None:
    """Policies see what arrives at the pod: 8080, not the Service's 80."""
    wrong = PolicyIngress(from_=(make.peer(namespaces=SYSTEM),), ports=make.ports(80, 15020))
    assert serious(network_policies(mesh(ingress(wrong)))) == {"MR225-GATEWAY-TO-APP": Level.ERROR}


def test_several_policies_are_named_together() -> None:
    """The first is the object; the others stand in the sentence."""
    finding = only(network_policies(mesh(egress(DNS, name="a"), egress(DNS, name="b"))), "MR225-ISTIOD")
    assert finding.object.name == "a"
    assert "no egress rule of it (nor of b) lets" in finding.found


def test_policies_of_the_control_plane() -> None:
    """The API server and proxies must reach istiod, and everybody the gateways."""
    closed = ingress(PolicyIngress(from_=(make.peer({}),)), namespace=make.ISTIO, name="closed")
    assert serious(network_policies(mesh(closed))) == {
        "MR225-WEBHOOK": Level.ERROR,
        "MR225-ISTIOD": Level.ERROR,
        "MR225-GATEWAY": Level.ERROR,
        "MR225-GATEWAY-HEALTH": Level.WARNING,
    }
    open_ = ingress(PolicyIngress(ports=make.ports(15012, 15014, 15017, 15021, 8443)), namespace=make.ISTIO)
    assert serious(network_policies(mesh(open_))) == {}


def test_calls_that_one_layer_allows_and_the_other_denies() -> None:
    """An AuthorizationPolicy names the caller; its packets never arrive."""
    allowed = o.AuthorizationPolicy(
        metadata=make.metadata("ledger"),
        spec=o.AuthorizationPolicySpec(
            selector=o.WorkloadSelector(match_labels={"app": "ledger"}),
            rules=(
                {"from": [{"source": {"principals": ["cluster.local/ns/payments/sa/orders"]}}], "to": [{"operation": {"ports": ["8080"]}}]},
            ),
        ),
    )
    closed = ingress(PolicyIngress(from_=(make.peer(namespaces=SYSTEM),)), selects={"app": "ledger"})
    finding = only(network_policies(mesh(closed, authorizationpolicies=(allowed,))), "MR225-CALL")
    assert finding.level is Level.WARNING
    assert "lets orders call ledger, as AuthorizationPolicies allow (port 8080/TCP)" in finding.found


def test_external_hosts_and_spans() -> None:
    """What the namespace declared, and where its spans go; both warn."""
    entry = ServiceEntry(
        metadata=make.metadata("bank"),
        spec=ServiceEntrySpec(hosts=("bank.example.com",), ports=(EntryPort(number=443, protocol="TLS"),)),
    )
    collector = make.deployment("jaeger", namespace=make.ISTIO, labels={"app": "jaeger"})
    provider = {"name": "jaeger", "zipkin": {"service": "jaeger.istio-system.svc.cluster.local", "port": 9411}}
    base = mesh(egress(DNS, ISTIOD), serviceentries=(entry,))
    snapshot = msgspec.structs.replace(
        base,
        mesh=MeshConfig(root_namespace=make.ISTIO, default_providers={"tracing": ["jaeger"]}, extension_providers=(provider,)),
        services=(*base.services, make.service("jaeger", namespace=make.ISTIO, ports=(("http-zipkin", 9411),))),
        pods=(*base.pods, *make.pods_of(collector, meshed=False)),
    )
    assert serious(network_policies(snapshot)) == {"MR225-EXTERNAL": Level.WARNING, "MR225-SPANS": Level.WARNING}
    anywhere = PolicyEgress(to=(make.peer(cidr="0.0.0.0/0"),), ports=make.ports(443, 9411))
    opened = msgspec.structs.replace(snapshot, networkpolicies=(egress(DNS, ISTIOD, anywhere),))
    assert serious(network_policies(opened)) == {}
    somewhere = PolicyEgress(to=(make.peer(cidr="192.0.2.0/24"),), ports=make.ports(443))
    unsure = msgspec.structs.replace(snapshot, networkpolicies=(egress(DNS, ISTIOD, somewhere),))
    assert "MR225-EXTERNAL" not in serious(network_policies(unsure))


def test_ambient_traffic_arrives_on_ztunnels_port() -> None:
    """Whatever port of the application is open, 15008 must be; probes come from an address of their own."""
    spaces = (make.namespace(make.ISTIO, labels={}), make.namespace(labels={"istio.io/dataplane-mode": "ambient"}))
    by_port = ingress(PolicyIngress(from_=(make.peer(namespaces={}),), ports=make.ports(8080)))
    assert serious(network_policies(mesh(by_port, meshed=False, namespaces=spaces))) == {
        "MR225-HBONE": Level.ERROR,
        "MR225-GATEWAY-TO-APP": Level.ERROR,
        "MR225-PROBES": Level.WARNING,
    }
    tunnel = PolicyIngress(from_=(make.peer(namespaces={}),), ports=make.ports(8080, 15008))
    probes = PolicyIngress(from_=(make.peer(cidr="169.254.7.127/32"),))
    assert serious(network_policies(mesh(ingress(tunnel, probes), meshed=False, namespaces=spaces))) == {}


def test_a_policy_that_opens_everything_warns() -> None:
    """It makes the others pointless."""
    judgement = network_policies(mesh(*ENOUGH, ingress(PolicyIngress(), name="temporary")))
    assert serious(judgement) == {"MR225-ALLOWS-EVERYTHING": Level.WARNING}
    assert judgement.findings[0].object.name == "temporary"


def test_policies_of_other_kinds_are_named() -> None:
    """They decide besides, and are not evaluated here."""
    apis = (ApiService(metadata=o.Metadata(name="v2.cilium.io")), ApiService(metadata=o.Metadata(name="v1.apps")))
    judgement = network_policies(mesh(*ENOUGH, apiservices=apis))
    assert judgement.status is Status.PASSED
    assert only(judgement, "MR225-OTHER-POLICIES").fix == "kubectl get ciliumnetworkpolicies.cilium.io -A"


@pytest.mark.parametrize("key", ["networkpolicies", "node_pods", "virtualservices", "authorizationpolicies"])
def test_what_was_refused_is_not_verified(key: str) -> None:
    """With policies in force, whoever may be denied must be known."""
    namespace = "" if key in ("node_pods", "virtualservices") else make.NAMESPACE
    refused = make.refusal(key, namespace=namespace)
    read = tuple(item for item in make.snapshot().read if item != key)
    judgement = network_policies(mesh(*ENOUGH, refusals=(refused,), read=read))
    assert judgement.status is Status.NOT_VERIFIED
    assert refused.reason in judgement.reason


def test_without_policies_other_lists_do_not_matter() -> None:
    """Nothing is denied, whoever the peers are."""
    read = tuple(item for item in make.snapshot().read if item != "node_pods")
    judgement = network_policies(mesh(refusals=(make.refusal("node_pods", namespace=""),), read=read))
    assert judgement.status is Status.WARNED
