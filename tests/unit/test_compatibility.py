"""Lines 7.2.1 and 7.2.2: servers and callers agree on mTLS, and whatever has no proxy is provided for (checks.md 2.4, 7.2)."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from pytest_meshready.cluster import objects as o
from pytest_meshready.cluster.objects_capacity import ApiService, ApiServiceSpec
from pytest_meshready.cluster.snapshot import MeshConfig, Snapshot
from pytest_meshready.istio.compatibility import services_compatible
from pytest_meshready.istio.legacy import legacy_handled
from pytest_meshready.results import Judgement, Level, Status
from tests.unit import builders as make
from tests.unit.test_policy import policy
from tests.unit.written import shop as written_shop

STRICT = make.peerauthentication(mode="STRICT")
PERMISSIVE = make.peerauthentication(mode="PERMISSIVE")
EXCLUDE = "traffic.sidecar.istio.io/excludeInboundPorts"
NAMES = ("frontend", "orders", "ledger", "store")


def shop(
    *, text: str = "", bare: str = "", mode: o.PeerAuthentication = STRICT, template: dict[str, Any] | None = None, **fields: Any
) -> Snapshot:
    """The shop, STRICT; ``bare`` has no proxies, ``template`` goes into orders' pod template."""
    workloads = tuple(make.deployment(name, **((template or {}) if name == "orders" else {})) for name in NAMES)
    pods = tuple(pod for item in workloads for pod in make.pods_of(item, meshed=item.metadata.name != bare))
    defaults: dict[str, Any] = {"deployments": workloads, "pods": pods, "peerauthentications": (mode,)}
    return written_shop(text, **{**defaults, **fields})


def found(judgement: Judgement) -> dict[tuple[str, str], Level]:
    return {(item.code, f"{item.object.kind}/{item.object.name}"): item.level for item in judgement.findings}


# --- 7.2.1 ---


def test_the_shop_agrees() -> None:
    """STRICT servers and callers that automatic mTLS serves: four ports of Services, nothing to say."""
    judgement = services_compatible(shop())
    assert (judgement.status, judgement.examined, judgement.findings) == (Status.PASSED, 4, ())
    assert {"service": "store:6000", "server": "STRICT", "callers": "automatic"} in judgement.evidence[0].data


@pytest.mark.parametrize("mode", [STRICT, PERMISSIVE])
@pytest.mark.parametrize("tls", ["DISABLE", "SIMPLE"])
def test_callers_that_send_something_else(mode: o.PeerAuthentication, tls: str) -> None:
    """The fault client-disables-mtls: a rule that takes mTLS away contradicts a server that has or will have it."""
    judgement = services_compatible(shop(mode=mode, destinationrules=(make.destinationrule(tls=tls),)))
    assert found(judgement) == {(f"MR721-CLIENT-{tls}", "DestinationRule/orders"): Level.ERROR}


def podless(rule: o.DestinationRule, mode: o.PeerAuthentication | None, **fields: Any) -> Snapshot:
    """A Service of whose pods nothing is known, as in manifests without its Deployment, and a rule towards it."""
    read = tuple(key for key in make.snapshot().read if key not in ("pods", "mutatingwebhookconfigurations"))
    policies = (mode,) if mode else ()
    defaults = {"services": (make.service("orders"),), "destinationrules": (rule,), "peerauthentications": policies, "read": read}
    return make.snapshot(**{**defaults, "refusals": (make.refusal("pods"), make.refusal("mutatingwebhookconfigurations")), **fields})


@pytest.mark.parametrize(("mode", "level"), [(STRICT, Level.ERROR), (PERMISSIVE, Level.WARNING), (None, Level.WARNING)])
def test_a_rule_towards_pods_that_are_not_known(mode: o.PeerAuthentication | None, level: Level) -> None:
    """Plaintext to pods that the policies make STRICT contradicts them; else it may be meant for pods without a proxy."""
    judgement = services_compatible(podless(make.destinationrule(tls="DISABLE"), mode))
    assert found(judgement) == {("MR721-CLIENT-DISABLE", "DestinationRule/orders"): level}
    assert judgement.findings[0].found.startswith("it makes callers send plaintext to orders:8080 (trafficPolicy: tls.mode DISABLE); ")
    template = podless(make.destinationrule(tls="SIMPLE"), mode, deployments=(make.deployment("orders"),))
    assert found(services_compatible(template)) == {("MR721-CLIENT-SIMPLE", "DestinationRule/orders"): level}


def test_a_rule_towards_pods_that_are_not_known_and_may_be_as_it_is() -> None:
    """ISTIO_MUTUAL is what STRICT wants, DISABLE what a policy asks for; ztunnel does not read the rule; a gateway is no server here."""
    disabled = make.peerauthentication(mode="DISABLE")
    ambient = (make.namespace(labels={"istio.io/dataplane-mode": "ambient"}),)
    assert found(services_compatible(podless(make.destinationrule(tls="ISTIO_MUTUAL"), STRICT))) == {}
    assert found(services_compatible(podless(make.destinationrule(tls="DISABLE"), disabled))) == {}
    assert found(services_compatible(podless(make.destinationrule(tls="DISABLE"), STRICT, namespaces=ambient))) == {}
    gateway = make.deployment("orders", annotations={"inject.istio.io/templates": "gateway"})
    assert found(services_compatible(podless(make.destinationrule(tls="DISABLE"), STRICT, deployments=(gateway,)))) == {}


def test_mtls_to_a_port_that_takes_plaintext() -> None:
    """ISTIO_MUTUAL to pods without a proxy, or to a port that a policy disables, cannot work."""
    rule = make.destinationrule(tls="ISTIO_MUTUAL")
    assert found(services_compatible(shop(bare="orders", destinationrules=(rule,)))) == {
        ("MR721-MTLS-TO-PLAINTEXT", "DestinationRule/orders"): Level.ERROR,
        ("MR721-NO-PROXY", "Deployment/orders"): Level.ERROR,
    }
    disabled = make.peerauthentication("orders", "STRICT", selector={"app": "orders"}, ports={8080: "DISABLE"})
    assert found(services_compatible(shop(mode=disabled, destinationrules=(rule,)))) == {
        ("MR721-MTLS-TO-PLAINTEXT", "DestinationRule/orders"): Level.ERROR,
        ("MR721-DISABLED", "Deployment/orders"): Level.INFO,
    }


def test_mtls_past_the_proxy() -> None:
    """Automatic mTLS looks at the pod, not at the redirection: an excluded port gets TLS that nobody opens."""
    excluded = {"annotations": {EXCLUDE: "8080"}}
    assert found(services_compatible(shop(template=excluded))) == {("MR721-MTLS-PAST-PROXY", "Deployment/orders"): Level.ERROR}
    plain = make.destinationrule(tls="DISABLE")
    assert found(services_compatible(shop(template=excluded, destinationrules=(plain,)))) == {}


def test_headless_services_have_one_setting_for_all_pods() -> None:
    """One pod without a proxy behind a headless Service makes callers send plaintext to all of them."""
    (first, second) = make.pods_of(make.deployment("orders"), meshed=False)
    pods = (make.injected(first), second)
    services = (make.service("orders", cluster_ip="None"),)
    strict, permissive = (found(services_compatible(shop(pods=pods, services=services, mode=mode))) for mode in (STRICT, PERMISSIVE))
    assert strict["MR721-HEADLESS-MIXED", "Service/orders"] is Level.ERROR
    assert permissive["MR721-HEADLESS-MIXED", "Service/orders"] is Level.WARNING
    mixed = found(services_compatible(shop(pods=pods)))
    assert "MR721-HEADLESS-MIXED" not in {code for code, _ in mixed}


def test_a_declared_workload_without_a_proxy_only_warns() -> None:
    """[[sidecar_exception]] says that somebody knows."""
    judgement = services_compatible(shop(bare="store"), {"store": "a database appliance"})
    assert found(judgement) == {("MR721-NO-PROXY", "Deployment/store"): Level.WARNING}
    assert "declared: a database appliance" in judgement.findings[0].found


def test_services_that_the_api_server_calls() -> None:
    """Webhooks and extension API servers are called without mTLS."""
    webhook = o.MutatingWebhookConfiguration(
        metadata=make.metadata("orders-defaults", ""),
        webhooks=(o.Webhook(name="w", client_config=o.ClientConfig(service=o.ServiceReference(namespace="payments", name="orders"))),),
    )
    api = ApiService(
        metadata=make.metadata("v1.ledger", ""), spec=ApiServiceSpec(service=o.ServiceReference(namespace="payments", name="ledger"))
    )
    fields: dict[str, Any] = {"mutatingwebhookconfigurations": (*make.default_webhooks(), webhook), "apiservices": (api,)}
    wanted = {("MR721-API-SERVER", "Service/orders"), ("MR721-API-SERVER", "Service/ledger")}
    assert found(services_compatible(shop(**fields))) == dict.fromkeys(wanted, Level.ERROR)
    assert found(services_compatible(shop(mode=PERMISSIVE, **fields))) == dict.fromkeys(wanted, Level.WARNING)


ENTRY = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: bank}
spec: {hosts: [api.bank.example], location: MESH_EXTERNAL, resolution: DNS, ports: [{number: 443, name: tls, protocol: TLS}]}
"""


def test_the_meshs_mtls_to_a_host_outside() -> None:
    """A host outside of the mesh knows nothing of its certificates."""
    rule = make.destinationrule("bank", "api.bank.example", tls="ISTIO_MUTUAL")
    assert found(services_compatible(shop(text=ENTRY, destinationrules=(rule,)))) == {
        ("MR721-MTLS-TO-EXTERNAL", "DestinationRule/bank"): Level.ERROR
    }
    simple = make.destinationrule("bank", "api.bank.example", tls="SIMPLE")
    assert found(services_compatible(shop(text=ENTRY, destinationrules=(simple,)))) == {}


LEGACY = policy(
    "{selector: {matchLabels: {app: orders}}, rules: [{from: [{source: {ipBlocks: [10.244.0.0/16]}}]}]}",
    name="orders-legacy",
)


@pytest.mark.parametrize(("rule", "line"), [(services_compatible, "MR721"), (legacy_handled, "MR722")])
def test_callers_known_by_address_are_expected_without_mtls(rule: Any, line: str) -> None:
    """The fault plaintext-client: a policy admits an address to a port that takes plaintext; under STRICT it would say nothing."""
    assert found(rule(shop(text=LEGACY, mode=PERMISSIVE))) == {(f"{line}-BY-ADDRESS", "AuthorizationPolicy/orders-legacy"): Level.WARNING}
    assert found(rule(shop(text=LEGACY))) == {}


def test_without_automatic_mtls() -> None:
    """enableAutoMtls: false without rules sends plaintext."""
    judgement = services_compatible(shop(mesh=MeshConfig(root_namespace=make.ISTIO, enable_auto_mtls=False)))
    assert found(judgement) == {("MR721-NO-AUTO-MTLS", "ConfigMap/istio"): Level.ERROR}


def test_a_namespace_without_services() -> None:
    """Nobody is called by a name: the line does not apply, if the list was permitted."""
    assert services_compatible(shop(services=())).status is Status.NOT_APPLICABLE
    refused = shop(services=(), refusals=(make.refusal("services"),))
    assert services_compatible(refused).status is Status.NOT_VERIFIED


@pytest.mark.parametrize(
    ("key", "namespace"),
    [("destinationrules", make.NAMESPACE), ("peerauthentications", make.ISTIO), ("authorizationpolicies", make.ISTIO), ("apiservices", "")],
)
def test_what_may_not_be_read(key: str, namespace: str) -> None:
    """A refused list of either end leaves the line not verified."""
    judgement = services_compatible(shop(refusals=(make.refusal(key, namespace=namespace),)))
    assert judgement.status is Status.NOT_VERIFIED
    assert judgement.unknown[0].resource.startswith(key)


# --- 7.2.2 ---


def test_every_workload_has_a_proxy() -> None:
    """The shop has nothing that is left behind."""
    judgement = legacy_handled(shop())
    assert (judgement.status, judgement.examined, judgement.findings) == (Status.PASSED, 4, ())


def test_a_workload_without_a_proxy_must_be_declared() -> None:
    """It fails beside STRICT ports, warns beside others, and is told once it is declared."""
    assert found(legacy_handled(shop(bare="ledger"))) == {("MR722-UNDECLARED", "Deployment/ledger"): Level.ERROR}
    assert found(legacy_handled(shop(bare="ledger", mode=PERMISSIVE))) == {("MR722-UNDECLARED", "Deployment/ledger"): Level.WARNING}
    declared = legacy_handled(shop(bare="ledger"), {"ledger": "retired in March"})
    assert (declared.status, found(declared)) == (Status.PASSED, {("MR722-DECLARED", "Deployment/ledger"): Level.INFO})


def test_jobs_without_a_proxy_are_callers_too() -> None:
    """A CronJob that is never injected calls in plaintext."""
    cron = make.cronjob(labels={"app": "report", "sidecar.istio.io/inject": "false"})
    assert found(legacy_handled(shop(cronjobs=(cron,)))) == {("MR722-UNDECLARED", "CronJob/report"): Level.ERROR}
    assert found(legacy_handled(shop(cronjobs=(make.cronjob(),)))) == {}


def test_machines() -> None:
    """A WorkloadEntry is a machine without a proxy unless its label says otherwise."""
    text = """
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: mainframe}
spec: {address: 10.1.2.3, labels: {app: mainframe}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: vm}
spec: {address: 10.1.2.4, labels: {app: vm, security.istio.io/tlsMode: istio}}
"""
    assert found(legacy_handled(shop(text=text))) == {("MR722-MACHINE", "WorkloadEntry/mainframe"): Level.WARNING}


def test_services_past_the_gateway() -> None:
    """NodePort and LoadBalancer lead callers without an identity straight to the pods."""
    services = tuple(make.service(name, type="NodePort" if name == "orders" else "ClusterIP") for name in NAMES)
    assert found(legacy_handled(shop(services=services))) == {("MR722-FROM-OUTSIDE", "Service/orders"): Level.WARNING}


@pytest.mark.parametrize("key", ["pods", "peerauthentications", "workloadentries"])
def test_legacy_what_may_not_be_read(key: str) -> None:
    """A refused list leaves the line not verified."""
    whole = shop()
    blind = msgspec.structs.replace(whole, **{key: (), "refusals": (make.refusal(key),)})
    assert legacy_handled(blind).status is Status.NOT_VERIFIED
