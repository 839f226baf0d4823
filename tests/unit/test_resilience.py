"""Line 9.2.3, the static part: outlier detection and limits."""

from __future__ import annotations

import pytest

from pytest_meshready.cluster.snapshot import MeshConfig
from pytest_meshready.istio.resilience import dependencies_contained
from pytest_meshready.results import Judgement, Status
from tests.unit import builders as make
from tests.unit.written import shop

_POOL = "connectionPool: {tcp: {maxConnections: 100}}"
_OUTLIER = "outlierDetection: {consecutive5xxErrors: 5}"


def rule(name: str, *, policy: str = f"{{{_POOL}, {_OUTLIER}}}") -> str:
    return f"""
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: {name}}}
spec: {{host: {name}.payments.svc.cluster.local, trafficPolicy: {policy}}}
---
"""


def others(name: str) -> str:
    """Sound rules for all services but one."""
    return "".join(rule(other) for other in ("frontend", "orders", "ledger", "store") if other != name)


def said(judgement: Judgement) -> list[tuple[str, str]]:
    return [(finding.code, str(finding.object)) for finding in judgement.findings]


def test_every_service_with_both_passes() -> None:
    """A rule for each host, with ejection and a limit."""
    judgement = dependencies_contained(shop(others("")))
    assert (judgement.status, judgement.examined) == (Status.PASSED, 4)


def test_a_service_without_a_rule_has_neither() -> None:
    """Istio sets no limit and ejects nothing by itself."""
    judgement = dependencies_contained(shop(others("ledger")))
    assert judgement.status is Status.WARNED
    assert said(judgement) == [
        ("MR923-NO-OUTLIER-DETECTION", "payments/Service/ledger"),
        ("MR923-NO-CONNECTION-LIMITS", "payments/Service/ledger"),
    ]


def test_a_rule_without_limits_is_named() -> None:
    """The DestinationRule is the object at fault."""
    judgement = dependencies_contained(shop(others("ledger") + rule("ledger", policy=f"{{{_OUTLIER}}}")))
    assert said(judgement) == [("MR923-NO-CONNECTION-LIMITS", "payments/DestinationRule/ledger")]
    assert "edit destinationrule ledger" in judgement.findings[0].fix


def test_a_rule_without_ejection_is_named() -> None:
    """Limits alone do not keep a failing endpoint from getting requests."""
    judgement = dependencies_contained(shop(others("ledger") + rule("ledger", policy=f"{{{_POOL}}}")))
    assert said(judgement) == [("MR923-NO-OUTLIER-DETECTION", "payments/DestinationRule/ledger")]


@pytest.mark.parametrize(
    ("outlier", "ejects"),
    [
        ("{}", True),
        ("{consecutive5xxErrors: 0}", False),
        ("{consecutive5xxErrors: 0, consecutiveGatewayErrors: 3}", True),
        ("{interval: 10s}", True),
    ],
)
def test_counts_of_zero_switch_ejection_off(outlier: str, *, ejects: bool) -> None:
    """Envoy counts five errors where nothing is said, and none where 0 is said."""
    policy = f"{{{_POOL}, outlierDetection: {outlier}}}"
    judgement = dependencies_contained(shop(others("ledger") + rule("ledger", policy=policy)))
    assert (judgement.findings == ()) is ejects


def test_requests_count_as_a_limit_of_http_only() -> None:
    """A limit of HTTP requests does nothing for a TCP port."""
    policy = f"{{connectionPool: {{http: {{http2MaxRequests: 500}}}}, {_OUTLIER}}}"
    text = others("").replace(rule("ledger"), "").replace(rule("store"), "")
    judgement = dependencies_contained(shop(text + rule("ledger", policy=policy) + rule("store", policy=policy)))
    assert said(judgement) == [("MR923-NO-CONNECTION-LIMITS", "payments/DestinationRule/store")]


def test_settings_of_a_port_replace_all_others() -> None:
    """A port with settings of its own inherits nothing (mergeTrafficPolicy)."""
    policy = f"{{{_POOL}, {_OUTLIER}, portLevelSettings: [{{port: {{number: 8080}}, {_OUTLIER}}}]}}"
    judgement = dependencies_contained(shop(others("ledger") + rule("ledger", policy=policy)))
    assert said(judgement) == [("MR923-NO-CONNECTION-LIMITS", "payments/DestinationRule/ledger")]


def test_the_default_of_the_mesh_counts() -> None:
    """``meshConfig.defaultTrafficPolicy`` of Istio 1.31 fills what no rule says, block by block."""
    default = {"connectionPool": {"tcp": {"maxConnections": 100}}, "outlierDetection": {"consecutive5xxErrors": 5}}
    judgement = dependencies_contained(shop(mesh=MeshConfig(default_traffic_policy=default)))
    assert judgement.status is Status.PASSED


def test_a_rule_of_the_root_namespace_counts() -> None:
    """Where neither the callers' namespace nor the service's has one."""
    text = rule("ledger").replace("metadata: {name: ledger}", "metadata: {name: ledger, namespace: istio-system}")
    assert dependencies_contained(shop(others("ledger") + text)).status is Status.PASSED


def test_odd_numbers_are_no_limits() -> None:
    """A limit that is no number limits nothing, and breaks nothing."""
    policy = f'{{connectionPool: {{tcp: {{maxConnections: "many"}}, http: []}}, {_OUTLIER}}}'
    judgement = dependencies_contained(shop(others("ledger") + rule("ledger", policy=policy)))
    assert said(judgement) == [("MR923-NO-CONNECTION-LIMITS", "payments/DestinationRule/ledger")]


def test_refused_rules_are_not_verified() -> None:
    """Without DestinationRules nothing is known."""
    assert dependencies_contained(shop(refusals=(make.refusal("destinationrules"),))).status is Status.NOT_VERIFIED


def test_an_empty_namespace_is_not_concerned() -> None:
    """Nothing to call, nothing to contain."""
    assert dependencies_contained(make.snapshot()).status is Status.NOT_APPLICABLE
