"""Line 10.2.2, static part: what stands in the way of taking the proxies away (checks.md 10.2.2)."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_meshready.cluster import objects as o
from pytest_meshready.cluster.snapshot import Snapshot
from pytest_meshready.istio.rollback import removable
from pytest_meshready.results import Judgement, Level, Status
from tests.unit import builders as make

MUTUAL = o.ClientTls(mode="ISTIO_MUTUAL")


def rule(policy: o.TrafficPolicy | None, *, namespace: str = make.NAMESPACE, host: str = "orders", **spec: Any) -> o.DestinationRule:
    return o.DestinationRule(
        metadata=make.metadata("orders", namespace), spec=o.DestinationRuleSpec(host=host, traffic_policy=policy, **spec)
    )


def mesh(*rules: o.DestinationRule, template: dict[str, Any] | None = None, **fields: Any) -> Snapshot:
    orders = make.deployment("orders", **(template or {}))
    defaults = {"deployments": (orders,), "pods": make.pods_of(orders), "services": (make.service("orders"),), "destinationrules": rules}
    return make.snapshot(**{**defaults, **fields})


def codes(judgement: Judgement) -> dict[str, Level]:
    return {finding.code: finding.level for finding in judgement.findings}


def test_nothing_in_the_way_passes() -> None:
    """Automatic mutual TLS follows what the pods can do."""
    judgement = removable(mesh(rule(o.TrafficPolicy(connection_pool={}))))
    assert (judgement.status, judgement.findings) == (Status.PASSED, ())


@pytest.mark.parametrize(
    ("made", "place"),
    [
        (rule(o.TrafficPolicy(tls=MUTUAL)), "trafficPolicy"),
        (
            rule(o.TrafficPolicy(port_level_settings=(o.PortTrafficPolicy(port=o.PortSelector(number=8080), tls=MUTUAL),))),
            "portLevelSettings",
        ),
        (
            rule(None, subsets=(o.Subset(name="v1", labels={"version": "v1"}, traffic_policy=o.TrafficPolicy(tls=MUTUAL)),)),
            "subset v1",
        ),
        (rule(o.TrafficPolicy(tls=MUTUAL), namespace=make.ISTIO, host="*.local"), "trafficPolicy"),
    ],
    ids=["rule", "port", "subset", "whole mesh"],
)
def test_a_rule_that_demands_mutual_tls_fails(made: o.DestinationRule, place: str) -> None:
    """Fault rule-demands-mtls: without a proxy there, every call would end in 503."""
    (finding,) = removable(mesh(made)).findings
    assert (finding.code, finding.level) == ("MR1022-DEMANDS-MTLS", Level.ERROR)
    assert str(finding.object) == f"{made.metadata.namespace}/DestinationRule/orders"
    assert finding.found.startswith(f"it makes callers use ISTIO_MUTUAL towards orders:8080 ({place}):")


@pytest.mark.parametrize(
    "made",
    [
        rule(o.TrafficPolicy(tls=o.ClientTls(mode="DISABLE"))),
        rule(o.TrafficPolicy(tls=MUTUAL), host="ledger.other.svc.cluster.local"),
        rule(None, subsets=(o.Subset(name="gone", labels={"version": "v9"}, traffic_policy=o.TrafficPolicy(tls=MUTUAL)),)),
    ],
    ids=["another mode", "another host", "a subset without pods"],
)
def test_rules_that_do_not_matter_to_a_rollback(made: o.DestinationRule) -> None:
    """Only what callers of these pods use."""
    assert codes(removable(mesh(made))) == {}


def test_a_label_of_the_pods_brings_the_proxy_back() -> None:
    """The namespace's label is gone, and the template still asks."""
    judgement = removable(mesh(template={"labels": {"app": "orders", "sidecar.istio.io/inject": "true"}}))
    assert codes(judgement) == {"MR1022-BY-POD-LABEL": Level.WARNING}
    assert judgement.findings[0].found == "its pods are injected by their own label sidecar.istio.io/inject, also without the namespace's"


def test_a_proxy_in_the_template_stays() -> None:
    """What istioctl kube-inject wrote, no label takes away."""
    judgement = removable(mesh(template={"containers": (make.container(), make.proxy(native=False))}))
    assert codes(judgement) == {"MR1022-BY-HAND": Level.WARNING}


def test_a_webhook_that_needs_no_label() -> None:
    """Injection of the whole cluster: removing the label changes nothing."""
    base = make.default_webhooks()[0]
    hook = o.Webhook(
        name="auto.sidecar-injector.istio.io",
        client_config=base.webhooks[0].client_config,
        namespace_selector=o.LabelSelector(),
        object_selector=o.LabelSelector(),
    )
    configuration = o.MutatingWebhookConfiguration(metadata=make.metadata("istio-sidecar-injector-auto", ""), webhooks=(hook,))
    (finding,) = removable(mesh(mutatingwebhookconfigurations=(configuration,))).findings
    assert (finding.code, finding.level) == ("MR1022-BY-WEBHOOK", Level.WARNING)
    assert finding.object.name == "istio-sidecar-injector-auto"
    assert finding.fix.endswith("kubectl label namespace payments istio-injection=disabled --overwrite")


def test_a_pod_label_that_keeps_ambient() -> None:
    """The namespace's label is gone, the pods' own stays: ztunnel keeps carrying their traffic."""
    judgement = removable(mesh(template={"labels": {"app": "orders", "istio.io/dataplane-mode": "ambient"}}))
    assert codes(judgement) == {"MR1022-BY-POD-LABEL": Level.WARNING}
    assert "istio.io/dataplane-mode" in judgement.findings[0].found


def test_strict_workloads_are_only_shown() -> None:
    """They say in which order to go back; in the hardened phase they are what is wanted."""
    judgement = removable(mesh(peerauthentications=(make.peerauthentication("default", mode="STRICT"),)))
    assert judgement.status is Status.PASSED
    assert codes(judgement) == {"MR1022-STRICT": Level.INFO}


@pytest.mark.parametrize("key", ["destinationrules", "pods", "services", "mutatingwebhookconfigurations"])
def test_what_was_refused_is_not_verified(key: str) -> None:
    """A rule that may not be read may be in the way."""
    refused = make.refusal(key, namespace="" if key == "mutatingwebhookconfigurations" else make.NAMESPACE)
    read = tuple(item for item in make.snapshot().read if item != key)
    judgement = removable(mesh(refusals=(refused,), read=read))
    assert judgement.status is Status.NOT_VERIFIED
    assert refused.reason in judgement.reason


def test_an_empty_namespace_does_not_pass() -> None:
    """There is no proxy that could be taken away."""
    assert removable(make.snapshot()).status is Status.NOT_VERIFIED
