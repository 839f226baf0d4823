"""Which alerts about the mesh PrometheusRule objects hold: the static part of line 11.2.1 (checks.md 11.2.1).

Whether a rule is loaded, can be evaluated and reaches somebody only Prometheus and Alertmanager can say, and many clusters
keep their rules in files that are no objects. So objects never pass the line: they can only show an alert that is dead.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator, Mapping

from pytest_meshready.cluster.objects_monitoring import AlertRule, PrometheusRule
from pytest_meshready.cluster.snapshot import Snapshot
from pytest_meshready.results import Evidence, Finding, Judgement, Level, ObjectRef, Unknown

#: What `alerts_configured` reads.
READS = ("prometheusrules",)


class AlertClass(enum.StrEnum):
    """What must be alerted on, by the question that the alert answers."""

    ERRORS = "ratio of 5xx answers"
    LATENCY = "latency"
    MISSING = "missing telemetry"
    ISTIOD_DOWN = "istiod down"
    REJECTED = "rejected configuration"
    PROXY_RESOURCES = "memory or CPU of proxies"
    CERTIFICATES = "certificates that run out"
    INJECTION = "failed injections"


_PATTERNS: Mapping[AlertClass, re.Pattern[str]] = {
    AlertClass.ERRORS: re.compile(r"istio_requests_total\b(?=.*response_code)", re.DOTALL),
    AlertClass.LATENCY: re.compile(r"\bistio_request_duration_milliseconds"),
    AlertClass.MISSING: re.compile(r"\babsent(?:_over_time)?\s*\(.*?(?:istio_|pilot_|envoy_)", re.DOTALL),
    AlertClass.ISTIOD_DOWN: re.compile(
        r"(?:kube_deployment_status_replicas\w*|\bup\b|kube_pod_status_\w+|pilot_info|istiod_uptime_seconds)[^)]*?\b(?:istiod|pilot)",
        re.DOTALL,
    ),
    AlertClass.REJECTED: re.compile(r"\b(?:pilot_total_xds_rejects|pilot_total_xds_internal_errors|pilot_xds_pushes\b.*err)", re.DOTALL),
    AlertClass.PROXY_RESOURCES: re.compile(
        r"\bcontainer_(?:memory|cpu)_\w+.*istio-proxy|istio-proxy.*\bcontainer_(?:memory|cpu)_", re.DOTALL
    ),
    AlertClass.CERTIFICATES: re.compile(
        r"\b(?:citadel_server_root_cert_expiry|citadel_server_cert_chain_expiry|istio_agent_cert_expiry)\w*"
    ),
    AlertClass.INJECTION: re.compile(r"\bsidecar_injection_failure_total\b"),
}

#: Metrics that no istiod since 1.20 exports, and what to ask for instead: alerts on them never fire.
DEAD: Mapping[str, str] = {"pilot_xds_push_errors": 'pilot_xds_pushes{type=~".*(senderr|builderr)"}'}

#: No expression of an alert is longer; what is, is not searched.
_LONGEST = 20_000


def classes_of(expression: str) -> frozenset[AlertClass]:
    """What an alert with this expression answers, by the metrics in it: names of alerts say nothing reliable."""
    if len(expression) > _LONGEST:
        return frozenset()
    return frozenset(kind for kind, pattern in _PATTERNS.items() if pattern.search(expression))


def alerts_configured(snapshot: Snapshot) -> Judgement:
    """Line 11.2.1, what PrometheusRule objects say: which of the eight classes of alerts they hold, and which alerts are dead.

    It never passes: that a class is missing among the objects does not mean that it is missing in Prometheus, and a class
    that is there need not be loaded. Warnings, which no answer of Prometheus takes back: an alert on a metric that Istio does
    not export.
    """
    found = [
        (item, rule) for item in snapshot.prometheusrules for group in item.spec.groups for rule in group.rules if rule.alert and rule.expr
    ]
    covered: dict[AlertClass, list[str]] = {}
    for _, rule in found:
        for kind in classes_of(str(rule.expr)):
            covered.setdefault(kind, []).append(rule.alert)
    findings = tuple(finding for item, rule in found for finding in _dead(item, rule))
    return Judgement(
        examined=len(found),
        findings=findings,
        unknown=(*snapshot.unread(*READS), *(() if findings else (Unknown(reason=_open(covered)),))),
        evidence=(
            Evidence(
                kind="table",
                source="PrometheusRule objects",
                data=[
                    {"alert on": kind.value, "found": ", ".join(sorted(set(covered.get(kind, ())))[:5]) or "none"} for kind in AlertClass
                ],
            ),
        ),
    )


def _open(covered: Mapping[AlertClass, list[str]]) -> str:
    """What remains to be asked of Prometheus."""
    if not covered:
        return "no PrometheusRule object alerts on the mesh; whether Prometheus has rules of its own, only Prometheus can say"
    missing = [kind.value for kind in AlertClass if kind not in covered]
    lacking = f" (none on: {', '.join(missing)})" if missing else ""
    held = f"PrometheusRule objects hold {len(covered)} of {len(AlertClass)} classes of alerts{lacking}"
    return f"{held}; whether they are loaded, only Prometheus can say"


def _dead(item: PrometheusRule, rule: AlertRule) -> Iterator[Finding]:
    for metric, instead in DEAD.items():
        if re.search(rf"\b{metric}\b", str(rule.expr)[:_LONGEST]):
            yield Finding(
                code="MR1121-DEAD-METRIC",
                level=Level.WARNING,
                object=ObjectRef(kind="PrometheusRule", namespace=item.metadata.namespace, name=item.metadata.name),
                found=f"alert {rule.alert} asks for {metric}, which no istiod exports, so that part of it never fires",
                wanted="alerts on metrics that exist",
                fix=f"ask for {instead} instead: kubectl -n {item.metadata.namespace} edit prometheusrule {item.metadata.name}",
                detail=rule.alert,
            )
