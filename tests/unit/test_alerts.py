"""Line 11.2.1, what PrometheusRule objects say (checks.md 11.2.1)."""

from __future__ import annotations

import msgspec
import pytest

from pytest_meshready.cluster import decode
from pytest_meshready.cluster.objects_monitoring import AlertRule, PrometheusRule, PrometheusRuleSpec, RuleGroup
from pytest_meshready.cluster.resources import RESOURCES
from pytest_meshready.istio.alerts import AlertClass, alerts_configured, classes_of
from pytest_meshready.results import Level, Status
from tests.unit import builders as make

#: One expression for each class, as teams write them.
EXPRESSIONS = {
    AlertClass.ERRORS: 'sum(rate(istio_requests_total{response_code=~"5.."}[5m])) / sum(rate(istio_requests_total[5m])) > 0.05',
    AlertClass.LATENCY: "histogram_quantile(0.99, sum by (le) (rate(istio_request_duration_milliseconds_bucket[5m]))) > 160",
    AlertClass.MISSING: "absent(istio_requests_total)",
    AlertClass.ISTIOD_DOWN: 'kube_deployment_status_replicas_unavailable{deployment="istiod"} > 0',
    AlertClass.REJECTED: 'sum(increase(pilot_xds_pushes{type=~".*(senderr|builderr)"}[5m])) > 0',
    AlertClass.PROXY_RESOURCES: 'max(container_memory_working_set_bytes{container=~"istio-proxy"}) > 200e6',
    AlertClass.CERTIFICATES: "citadel_server_root_cert_expiry_seconds < 30 * 86400",
    AlertClass.INJECTION: "increase(sidecar_injection_failure_total[5m]) > 0",
}


def rules(*expressions: str) -> PrometheusRule:
    alerts = tuple(AlertRule(alert=f"Alert{number}", expr=expression) for number, expression in enumerate(expressions))
    spec = PrometheusRuleSpec(groups=(RuleGroup(name="mesh", rules=alerts),))
    return PrometheusRule(metadata=make.metadata("mesh", "monitoring"), spec=spec)


@pytest.mark.parametrize(("kind", "expression"), EXPRESSIONS.items())
def test_each_class_is_known_by_its_metrics(kind: AlertClass, expression: str) -> None:
    """Whatever the alert is called, its expression tells what it answers, and nothing else."""
    assert classes_of(expression) == {kind}


@pytest.mark.parametrize(
    "expression",
    ["up == 0", 'up{job="prometheus"} == 0', "rate(http_requests_total[5m]) > 5", "sum(istio_requests_total)", "", "x" * 30_000],
)
def test_other_alerts_are_of_no_class(expression: str) -> None:
    """An application's alerts, a total without its errors, nothing, and what no person wrote."""
    assert classes_of(expression) == frozenset()


def test_objects_alone_never_pass() -> None:
    """Even all eight classes may not be loaded."""
    judgement = alerts_configured(make.snapshot(prometheusrules=(rules(*EXPRESSIONS.values()),)))
    assert judgement.status is Status.NOT_VERIFIED
    assert judgement.reason == "PrometheusRule objects hold 8 of 8 classes of alerts; whether they are loaded, only Prometheus can say"
    assert {row["alert on"] for row in judgement.evidence[0].data} == {kind.value for kind in AlertClass}


def test_what_is_missing_is_named() -> None:
    """The classes without an alert among the objects."""
    judgement = alerts_configured(make.snapshot(prometheusrules=(rules(EXPRESSIONS[AlertClass.LATENCY]),)))
    assert "hold 1 of 8 classes of alerts (none on: ratio of 5xx answers, missing telemetry" in judgement.reason


def test_without_objects_only_prometheus_can_say() -> None:
    """No kind, or no object: rules may stand in files."""
    for snapshot in (make.snapshot(), make.snapshot(refusals=(make.refusal("prometheusrules", absent=True),))):
        judgement = alerts_configured(snapshot)
        assert judgement.status is Status.NOT_VERIFIED
        assert "no PrometheusRule object alerts on the mesh" in judgement.reason


def test_a_dead_alert_is_found() -> None:
    """pilot_xds_push_errors is exported by no istiod since 1.20, yet Istio's own example rules alert on it."""
    judgement = alerts_configured(make.snapshot(prometheusrules=(rules("sum(rate(pilot_xds_push_errors[5m])) > 0"),)))
    (finding,) = judgement.findings
    assert (finding.code, finding.level, str(finding.object)) == ("MR1121-DEAD-METRIC", Level.WARNING, "monitoring/PrometheusRule/mesh")
    assert "alert Alert0 asks for pilot_xds_push_errors" in finding.found
    assert judgement.status is Status.WARNED  # whatever Prometheus says of the others


def test_a_refused_list_names_the_right() -> None:
    """The right to list is cluster-wide."""
    judgement = alerts_configured(make.snapshot(refusals=(make.refusal("prometheusrules", namespace=""),)))
    assert any(unknown.resource == "prometheusrules.monitoring.coreos.com" for unknown in judgement.unknown)


def test_other_teams_rules_are_not_kept() -> None:
    """Of a list only alerts about the mesh stay; recording rules and others' alerts are dropped when read."""
    written = [
        {"alert": "Mesh", "expr": "absent(istio_requests_total)", "labels": {"secret": "canary"}, "annotations": {"summary": "canary"}},
        {"alert": "Revenue", "expr": "sum(canary_total) < 5"},
        {"record": "istio:rate", "expr": "rate(istio_requests_total[5m]) + canary"},
        {"alert": "Odd", "expr": 1},
    ]
    page = decode.page(
        msgspec.json.encode({"items": [{"metadata": {"name": "mesh"}, "spec": {"groups": [{"name": "g", "rules": written}]}}]}),
        RESOURCES["prometheusrules"],
    )
    assert page.unreadable == ()
    assert b"canary" not in msgspec.json.encode(page.items)
    (rule,) = page.items
    assert isinstance(rule, PrometheusRule)
    assert [item.alert for item in rule.spec.groups[0].rules] == ["Mesh"]
