"""Lines 3.1.3 and 8.1.3: the gateway is there, ready and asked at a port that exists (checks.md 3.1.3, 8.1.3)."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from pytest_meshready.cluster import objects as o
from pytest_meshready.cluster.objects import keep_annotations
from pytest_meshready.cluster.snapshot import Snapshot
from pytest_meshready.istio.gateway_health import gateway_health
from pytest_meshready.istio.gateways import Ways, gateway_installed
from pytest_meshready.istio.ratelimits import rate_limited
from pytest_meshready.istio.termination import tls_terminated
from pytest_meshready.results import Judgement, Level, Status
from tests.unit import builders as make
from tests.unit.doorways import NAME, ROUTE, entered, gateway, pods, service, workload
from tests.unit.written import shop

ROOT = ("MR313-ROOT-NAMESPACE", f"Deployment/{NAME}")


def found(judgement: Judgement) -> dict[tuple[str, str], Level]:
    return {(item.code, f"{item.object.kind}/{item.object.name}"): item.level for item in judgement.findings}


def installed(**fields: Any) -> dict[tuple[str, str], Level]:
    """What 3.1.3 finds beside the remark that the gateway lies in the root namespace."""
    said = found(gateway_installed(entered(**fields)))
    said.pop(ROOT, None)
    return said


def with_gateway(snapshot: Snapshot, *, deployment: o.Deployment, own: tuple[o.Pod, ...]) -> Snapshot:
    """The shop with another gateway in place of its own."""
    return msgspec.structs.replace(
        snapshot,
        deployments=(*(item for item in snapshot.deployments if item.metadata.name != NAME), deployment),
        pods=(*(item for item in snapshot.pods if not item.metadata.name.startswith(NAME)), *own),
    )


def test_the_shops_gateway() -> None:
    """Two ready pods behind a load balancer with an address; that it lies beside istiod is told and passes."""
    judgement = gateway_installed(entered())
    assert (judgement.status, found(judgement)) == (Status.PASSED, {ROOT: Level.INFO})
    assert judgement.summary.startswith(f"istio-system/Deployment/{NAME}")


def test_a_single_replica() -> None:
    """The fault gateway-single: one replica, and an autoscaler that may go down to one."""
    single = with_gateway(entered(), deployment=workload(1), own=pods(1))
    said = found(gateway_installed(single))
    assert said == {ROOT: Level.INFO, ("MR313-SINGLE", f"Deployment/{NAME}"): Level.WARNING}
    scaled = installed(horizontalpodautoscalers=(make.autoscaler(NAME, namespace=make.ISTIO, minimum=1),))
    assert scaled == {("MR313-SINGLE", f"Deployment/{NAME}"): Level.WARNING}


def test_no_pod_is_ready() -> None:
    """A gateway without a ready pod lets nobody in, and fails both lines."""
    down = with_gateway(entered(), deployment=workload(), own=pods(ready=False))
    assert found(gateway_installed(down))["MR313-NOT-READY", f"Deployment/{NAME}"] is Level.ERROR
    assert found(gateway_health(down)) == {("MR813-NOT-READY", f"Deployment/{NAME}"): Level.ERROR}


def test_an_image_that_nobody_filled_in() -> None:
    """Gateway injection replaces the image auto; where no injector matched, it stays."""
    waiting = pods(containers=(make.gateway_container("auto"),), labels={**make.GATEWAY_LABELS}, ready=False)
    labelled = make.deployment(
        NAME,
        namespace=make.ISTIO,
        labels=make.GATEWAY_LABELS,
        annotations={"inject.istio.io/templates": "gateway"},
        containers=(make.gateway_container("auto"),),
    )
    said = found(gateway_installed(with_gateway(entered(), deployment=labelled, own=waiting)))
    assert said["MR313-NOT-INJECTED", f"Deployment/{NAME}"] is Level.WARNING


@pytest.mark.parametrize(("created", "level"), [("2026-08-25T08:00:00Z", Level.ERROR), ("2026-08-25T08:34:00Z", Level.WARNING)])
def test_a_load_balancer_without_an_address(created: str, level: Level) -> None:
    """It may take ten minutes."""
    pending = service(address="")
    pending = msgspec.structs.replace(pending, metadata=msgspec.structs.replace(pending.metadata, creation_timestamp=created))
    assert installed(services=(pending,)) == {("MR313-NO-ADDRESS", f"Service/{NAME}"): level}


def test_no_service_leads_to_it() -> None:
    """Without a Service nothing arrives, unless the pods have ports of the node."""
    assert installed(services=()) == {("MR313-NO-SERVICE", f"Deployment/{NAME}"): Level.WARNING}


def test_two_services_in_front_are_told() -> None:
    """One for inside and one for outside is usual."""
    assert installed(services=(service(), service(name="internal", type="ClusterIP"))) == {
        ("MR313-SEVERAL-SERVICES", f"Deployment/{NAME}"): Level.INFO
    }


def test_a_port_that_no_service_opens() -> None:
    """A server at a port that the Service neither has nor leads to is never reached (IST0162)."""
    text = gateway("{port: {number: 8443, name: https, protocol: HTTPS}, hosts: [a.example], tls: {mode: SIMPLE, credentialName: a}}")
    assert installed(text=text) == {("MR313-PORT-CLOSED", "Gateway/shop"): Level.WARNING}


def test_a_gateway_elsewhere_is_unknown_until_its_namespace_is_named() -> None:
    """Gateways in a namespace of their own are not seen without gateway_namespaces; with it, nothing there is nothing."""
    text = gateway(selector="{istio: ingress}")
    lost = gateway_installed(entered(text))
    assert lost.status is Status.NOT_VERIFIED
    assert "gateway_namespaces" in lost.reason
    assert found(lost)["MR313-SELECTS-NOTHING", "Gateway/shop"] is Level.WARNING
    named = gateway_installed(entered(text, gateway_namespaces=("istio-ingress",)))
    assert (named.status, found(named)["MR313-SELECTS-NOTHING", "Gateway/shop"]) == (Status.FAILED, Level.ERROR)


def test_a_gateway_in_a_namespace_that_was_named() -> None:
    """It is found there, and is not in the root namespace."""
    fields: dict[str, Any] = {
        "deployments": (workload(namespace="istio-ingress"),),
        "pods": pods(namespace="istio-ingress"),
        "services": (service(namespace="istio-ingress"),),
        "gateway_namespaces": ("istio-ingress",),
    }
    judgement = gateway_installed(entered(**fields))
    assert (judgement.status, judgement.findings) == (Status.PASSED, ())


def test_without_any_gateway() -> None:
    """Whether there is one in a namespace that was not read is not known."""
    bare = make.snapshot()
    assert gateway_installed(bare).status is Status.NOT_VERIFIED
    assert gateway_health(bare).status is Status.NOT_APPLICABLE


K8S = """
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: door}}
spec: {{gatewayClassName: istio, listeners: [{{name: https, port: 443, protocol: HTTPS, hostname: shop.example.com}}]}}
status:
  conditions: [{{type: Accepted, status: "True"}}, {{type: Programmed, status: "{programmed}", reason: AddressNotAssigned}}]
"""


@pytest.mark.parametrize("programmed", ["True", "False"])
def test_the_gateway_api(programmed: str) -> None:
    """Its controller says whether it has taken a Gateway and made a proxy for it."""
    labels = {"gateway.networking.k8s.io/gateway-name": "door"}
    door = make.deployment("door-istio", labels=labels, containers=(make.gateway_container(),))
    own = make.pods_of(door, meshed=False)
    front = (make.service("door-istio", selector=labels),)
    snapshot = shop(K8S.format(programmed=programmed), deployments=(door,), pods=own, services=front)
    judgement = gateway_installed(snapshot)
    assert judgement.status is (Status.PASSED if programmed == "True" else Status.FAILED)
    assert [item.code for item in judgement.findings] == ([] if programmed == "True" else ["MR313-NOT-PROGRAMMED"])


@pytest.mark.parametrize(
    ("text", "ways"),
    [
        (gateway(), ["payments/shop"]),
        (
            f"{gateway(namespace='istio-ingress', name='shared')}{ROUTE.replace('[shop]', '[istio-ingress/shared]')}",
            ["istio-ingress/shared"],
        ),
        (gateway(namespace="billing"), []),
        (gateway(selector="{istio: egressgateway}"), []),
        (
            gateway(namespace="edge", name="door")
            + ROUTE.replace("name: frontend}", "name: r, namespace: edge}")
            .replace("[shop]", "[door]")
            .replace("host: frontend", "host: frontend.payments.svc.cluster.local"),
            ["edge/door"],
        ),
    ],
)
def test_which_gateways_lead_into_the_namespace(text: str, ways: list[str]) -> None:
    """Its own, those that its VirtualServices name, and those by which others lead to its Services; no way out."""
    assert [f"{way.ref.namespace}/{way.ref.name}" for way in Ways(entered(text)).found] == ways


@pytest.mark.parametrize("key", ["gateways", "virtualservices", "pods", "services"])
def test_what_may_not_be_read(key: str) -> None:
    """A refused list leaves both lines not verified."""
    refused = (make.refusal(key, namespace="" if key in ("gateways", "virtualservices") else make.ISTIO),)
    for rule in (gateway_installed, gateway_health):
        assert rule(msgspec.structs.replace(entered(), **{key: (), "refusals": refused})).status is Status.NOT_VERIFIED


# --- 8.1.3 ---


def checked(**fields: Any) -> dict[tuple[str, str], Level]:
    annotations = fields.pop("annotations", {})
    made = service(**fields)
    made = msgspec.structs.replace(made, metadata=msgspec.structs.replace(made.metadata, annotations=annotations))
    return found(gateway_health(entered(services=(made,))))


def test_the_shops_health() -> None:
    """Every pod is ready and asked by Istio's own probe."""
    judgement = gateway_health(entered())
    assert (judgement.status, judgement.findings, judgement.examined) == (Status.PASSED, (), 1)


def test_nothing_asks_the_agent() -> None:
    """A gateway without Istio's readiness probe gets traffic before it has its configuration."""
    blind = make.gateway_container()
    blind = msgspec.structs.replace(blind, readiness_probe=None)
    snapshot = with_gateway(entered(), deployment=workload(), own=pods(containers=(blind,)))
    assert found(gateway_health(snapshot)) == {("MR813-NO-READINESS", f"Deployment/{NAME}"): Level.WARNING}


def test_a_local_policy_needs_a_port_for_health_checks() -> None:
    """ExternalTrafficPolicy Local sends to nodes with a pod only, which the load balancer must be able to tell."""
    assert checked(external_traffic_policy="Local") == {("MR813-NO-NODE-PORT", f"Service/{NAME}"): Level.ERROR}
    assert checked(external_traffic_policy="Local", health_check_node_port=31000) == {}


AWS = "service.beta.kubernetes.io/aws-load-balancer-healthcheck"


@pytest.mark.parametrize(
    ("annotations", "said"),
    [
        ({f"{AWS}-port": "15021", f"{AWS}-protocol": "HTTP"}, {}),
        ({f"{AWS}-port": "traffic-port", f"{AWS}-protocol": "TCP"}, {}),
        ({f"{AWS}-port": "15020"}, {("MR813-NO-SUCH-PORT", f"Service/{NAME}"): Level.ERROR}),
        ({f"{AWS}-port": "80", f"{AWS}-protocol": "http"}, {("MR813-ASKS-TRAFFIC-PORT", f"Service/{NAME}"): Level.WARNING}),
    ],
)
def test_what_a_cloud_is_told(annotations: dict[str, str], said: dict[tuple[str, str], Level]) -> None:
    """The port must exist; an HTTP check of a traffic port gets a 404 of whoever knows no host."""
    assert checked(annotations=annotations) == said
    assert keep_annotations({**annotations, "service.beta.kubernetes.io/aws-load-balancer-ssl-cert": "arn"}) == annotations


def test_a_gateway_of_another_team_that_delegates() -> None:
    """The root VirtualService names no Service: the one that it delegates to lies in the namespace (or leads there)."""
    root = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: root, namespace: edge}
spec:
  hosts: [shop.example.com]
  gateways: [%s]
  http: [{match: [{uri: {prefix: /pay}}], delegate: {name: pay, namespace: %s}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: pay, namespace: %s}
spec: {http: [{route: [{destination: {host: frontend.payments.svc.cluster.local}}]}]}
---
"""
    for name, place in (("public", "payments"), ("./public", "teams"), ("edge/public", "payments")):
        ways = Ways(entered(gateway(name="public", namespace="edge") + root % (name, place, place)))
        assert [str(way.ref) for way in ways.found] == ["edge/Gateway/public"], name
        assert ways.nothing is None


def test_manifests_have_no_port_for_health_checks_yet() -> None:
    """The API server gives it when the Service is made."""
    local = service(external_traffic_policy="Local")
    ports = {finding.code for finding in gateway_health(entered(services=(*shop().services, local))).findings}
    assert "MR813-NO-NODE-PORT" in ports
    written = gateway_health(entered(services=(*shop().services, local), source="manifests"))
    assert "MR813-NO-NODE-PORT" not in {finding.code for finding in written.findings}


def test_an_ingress_leads_in_past_gateways() -> None:
    """Without a Gateway the lines about ingress do not apply; with an Ingress, or without the right to look, that is not known."""
    ingress = "{apiVersion: networking.k8s.io/v1, kind: Ingress, metadata: {name: shop}, spec: {ingressClassName: istio}}"
    for rule in (gateway_health, rate_limited, tls_terminated):
        assert rule(shop()).status is Status.NOT_APPLICABLE
        behind = rule(shop(ingress))
        assert (behind.status, "Ingress shop" in behind.reason) == (Status.NOT_VERIFIED, True)
        assert rule(shop(refusals=(make.refusal("ingresses"),))).status is Status.NOT_VERIFIED
        assert rule(entered(f"{gateway()}{ROUTE}---\n{ingress}")).status is rule(entered()).status
