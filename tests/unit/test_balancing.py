"""Line 6.1.3, the static part: balancing and subsets."""

from __future__ import annotations

import pytest

from pytest_meshready.istio.balancing import balancing_configured
from pytest_meshready.results import Judgement, Level, Status
from tests.unit import builders as make
from tests.unit.written import shop


def rule(spec: str) -> str:
    return f"""
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: ledger}}
spec: {{host: ledger, {spec}}}
---
"""


def said(judgement: Judgement) -> list[tuple[str, Level]]:
    return [(finding.code, finding.level) for finding in judgement.findings]


SPLIT = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: ledger}
spec:
  hosts: [ledger]
  http: [{route: [{destination: {host: ledger, subset: v2}}]}]
"""


def test_a_shop_without_rules_passes() -> None:
    """Istio's own balancing needs nothing."""
    assert balancing_configured(shop()).status is Status.PASSED


def test_subsets_with_pods_pass() -> None:
    """The labels of the subset and those of the Service select pods."""
    assert balancing_configured(shop(rule("subsets: [{name: v1, labels: {version: v1}}]"))).status is Status.PASSED


def test_an_empty_subset_that_is_used_fails() -> None:
    """Requests to it get 503."""
    judgement = balancing_configured(shop(rule("subsets: [{name: v2, labels: {version: v2}}]") + SPLIT))
    assert said(judgement) == [("MR613-EMPTY-SUBSET", Level.ERROR)]
    assert "version=v2" in judgement.findings[0].found


def test_an_empty_subset_that_rests_warns() -> None:
    """Nobody sends requests to it yet."""
    assert said(balancing_configured(shop(rule("subsets: [{name: v2, labels: {version: v2}}]")))) == [("MR613-EMPTY-SUBSET", Level.WARNING)]


def test_labels_of_places_are_not_the_pods() -> None:
    """Istiod adds zone and region to endpoints; pods do not carry them."""
    text = rule("subsets: [{name: a, labels: {version: v1, topology.kubernetes.io/zone: zone-a}}]")
    assert balancing_configured(shop(text)).status is Status.PASSED


@pytest.mark.parametrize(
    ("balancer", "expected"),
    [
        ("{simple: LEAST_REQUEST}", []),
        ("{simple: ROUND_ROBIN}", []),
        ("{simple: PASSTHROUGH}", [("MR613-PASSTHROUGH", Level.WARNING)]),
        ("{simple: FASTEST}", [("MR613-ALGORITHM", Level.ERROR)]),
        ("{consistentHash: {httpHeaderName: x-user}}", []),
        ("{consistentHash: {}}", [("MR613-HASH-KEY", Level.ERROR)]),
        ("{consistentHash: {httpHeaderName: x-user, useSourceIp: true}}", [("MR613-HASH-KEY", Level.ERROR)]),
        (
            "{localityLbSetting: {failover: [{from: a, to: b}]}}",
            [("MR613-FAILOVER-WITHOUT-DETECTION", Level.WARNING)],
        ),
        ("{localityLbSetting: {enabled: false, failover: [{from: a, to: b}]}}", []),
        (
            '{localityLbSetting: {distribute: [{from: "a/*", to: {"a/*": 80, "b/*": 10}}]}}',
            [("MR613-DISTRIBUTION", Level.ERROR)],
        ),
        ('{localityLbSetting: {distribute: [{from: "a/*", to: {"a/*": 80, "b/*": 20}}]}}', []),
    ],
)
def test_settings_of_balancing(balancer: str, expected: list[tuple[str, Level]]) -> None:
    """What Istio refuses or ignores is an error, what spreads nothing a warning."""
    assert said(balancing_configured(shop(rule(f"trafficPolicy: {{loadBalancer: {balancer}}}")))) == expected


def test_failover_with_detection_passes() -> None:
    """Outlier detection in the same place switches failover on."""
    policy = "trafficPolicy: {outlierDetection: {}, loadBalancer: {localityLbSetting: {failover: [{from: a, to: b}]}}}"
    assert balancing_configured(shop(rule(policy))).status is Status.PASSED


def test_failover_needs_zones() -> None:
    """Nodes without a zone have no locality to fail over from."""
    policy = "trafficPolicy: {outlierDetection: {}, loadBalancer: {localityLbSetting: {failover: [{from: a, to: b}]}}}"
    judgement = balancing_configured(shop(rule(policy), nodes=(make.node(zone=""),)))
    assert said(judgement) == [("MR613-NO-LOCALITY", Level.WARNING)]


def test_rules_of_other_namespaces_for_our_hosts_count() -> None:
    """A DestinationRule of the root namespace for a host of ours is looked at, too."""
    text = rule("trafficPolicy: {loadBalancer: {simple: PASSTHROUGH}}").replace("host: ledger", "host: ledger.payments.svc.cluster.local")
    judgement = balancing_configured(shop(text.replace("{name: ledger}", "{name: ledger, namespace: istio-system}")))
    assert said(judgement) == [("MR613-PASSTHROUGH", Level.WARNING)]


def test_that_zones_are_preferred_is_told() -> None:
    """Outlier detection makes callers prefer their own zone: an even spread is not to be expected."""
    judgement = balancing_configured(shop(rule("trafficPolicy: {outlierDetection: {}}")))
    assert "own zone" in judgement.evidence[0].text


def test_headless_services_are_told() -> None:
    """Callers choose the pods of a headless Service themselves."""
    services = (make.service("ledger", cluster_ip="None"),)
    assert "headless" in balancing_configured(make.snapshot(services=services)).evidence[0].text


def test_refused_pods_are_not_verified() -> None:
    """Without pods no subset is called empty."""
    judgement = balancing_configured(shop(rule("subsets: [{name: v2, labels: {version: v2}}]"), refusals=(make.refusal("pods"),)))
    assert judgement.status is Status.NOT_VERIFIED
