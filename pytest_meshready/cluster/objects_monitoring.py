"""What tells a Prometheus of the Prometheus operator what to scrape and when to alert, cut down to what rules read.

These kinds are the cluster's, not Istio's: other teams' alerts are nobody's business here, so of a PrometheusRule only the
alerts about the mesh are kept (`is_about_mesh`), and of an endpoint's credentials only that there are some.
"""

from __future__ import annotations

from typing import ClassVar

from pytest_meshready.cluster.objects import LabelSelector, Metadata, Slim

#: Words in the expression of an alert that is about the mesh: Istio's own metrics, istiod, and the proxies' containers.
MESH_WORDS = ("istio", "pilot_", "citadel_", "sidecar_injection", "galley_", "envoy_", "ztunnel")


class NamespaceSelector(Slim, frozen=True):
    """The namespaces whose pods or Services are selected; neither: the monitor's own."""

    any: bool = False
    match_names: tuple[str, ...] = ()


class Relabeling(Slim, frozen=True):
    """One step of relabelling; ``action`` empty means ``replace``."""

    action: str = ""
    source_labels: tuple[str, ...] = ()
    regex: str = ""


class Tls(Slim, frozen=True):
    """That an endpoint is asked with TLS settings of its own; what they are is not kept."""


class MonitorEndpoint(Slim, frozen=True):
    """One port to scrape: ``port`` is its name, ``target_port`` and ``port_number`` that of the pod."""

    port: str = ""
    target_port: int | str | None = None
    port_number: int | None = None
    path: str = ""
    scheme: str = ""
    tls_config: Tls | None = None
    relabelings: tuple[Relabeling, ...] = ()


class PodMonitorSpec(Slim, frozen=True):
    selector: LabelSelector = LabelSelector()
    namespace_selector: NamespaceSelector = NamespaceSelector()
    pod_metrics_endpoints: tuple[MonitorEndpoint, ...] = ()


class PodMonitor(Slim, frozen=True):
    kind: ClassVar[str] = "PodMonitor"
    metadata: Metadata = Metadata()
    spec: PodMonitorSpec = PodMonitorSpec()


class ServiceMonitorSpec(Slim, frozen=True):
    selector: LabelSelector = LabelSelector()
    namespace_selector: NamespaceSelector = NamespaceSelector()
    endpoints: tuple[MonitorEndpoint, ...] = ()


class ServiceMonitor(Slim, frozen=True):
    kind: ClassVar[str] = "ServiceMonitor"
    metadata: Metadata = Metadata()
    spec: ServiceMonitorSpec = ServiceMonitorSpec()


class AlertRule(Slim, frozen=True):
    """``alert`` is empty for a recording rule; ``expr`` is a number where somebody wrote one."""

    alert: str = ""
    expr: str | int | float = ""


class RuleGroup(Slim, frozen=True):
    name: str = ""
    rules: tuple[AlertRule, ...] = ()


class PrometheusRuleSpec(Slim, frozen=True):
    groups: tuple[RuleGroup, ...] = ()


class PrometheusRule(Slim, frozen=True):
    kind: ClassVar[str] = "PrometheusRule"
    metadata: Metadata = Metadata()
    spec: PrometheusRuleSpec = PrometheusRuleSpec()


def is_about_mesh(rule: AlertRule) -> bool:
    """Whether a rule is an alert whose expression speaks of the mesh."""
    return bool(rule.alert) and any(word in str(rule.expr) for word in MESH_WORDS)
