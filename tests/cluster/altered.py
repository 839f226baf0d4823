"""Faults that the cluster of these tests cannot have, made by changing the snapshot of its healthy shop.

Other versions of Istio are not on its nodes, a root that ends soon is no certificate that istiod would write, without the
operator of Prometheus nobody serves PrometheusRules, and the shop has no server that a BackendTLSPolicy would be meant for.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

#: A snapshot as ``--mesh-save-snapshot`` writes it.
Snapshot = dict[str, Any]

_ISTIO = "1.31.0-dev"


def proxies_two_minors_old(snapshot: Snapshot) -> Snapshot:
    """The pods of ledger were not restarted at the last two upgrades of istiod."""
    for pod in _pods(snapshot, "ledger"):
        for container in (*pod["spec"]["initContainers"], *pod["spec"]["containers"]):
            container["image"] = container["image"].replace(f"proxyv2:{_ISTIO}", "proxyv2:1.29.6")
    return snapshot


def revision_gone(snapshot: Snapshot) -> Snapshot:
    """The pods of ledger were injected by a revision that was uninstalled since."""
    for pod in _pods(snapshot, "ledger"):
        annotations = pod["metadata"]["annotations"]
        status = json.loads(annotations["sidecar.istio.io/status"])
        annotations["sidecar.istio.io/status"] = json.dumps({**status, "revision": "1-30-3"})
        annotations["istio.io/rev"] = "1-30-3"
    return snapshot


def support_ended(snapshot: Snapshot) -> Snapshot:
    """Istio 1.27, whose support ended in March 2026, everywhere."""
    older: Snapshot = json.loads(json.dumps(snapshot).replace(_ISTIO, "1.27.9"))
    return older


def setting_removed(snapshot: Snapshot) -> Snapshot:
    """A provider of spans that nobody uses any more is of a kind that Istio dropped with 1.27."""
    snapshot["mesh"]["extensionProviders"].append({"name": "old", "lightstep": {"service": "collector", "port": 443}})
    return snapshot


def definitions_old(snapshot: Snapshot) -> Snapshot:
    """Istiod was upgraded, and Istio's CustomResourceDefinitions were not: the API server knows no TrafficExtension."""
    snapshot["read"].remove("trafficextensions")
    missing = {"key": "trafficextensions", "verb": "list", "resource": "trafficextensions.extensions.istio.io", "status": 404}
    snapshot["refusals"].append({**missing, "reason": "the API server does not know the kind", "absent": True})
    return snapshot


def root_ends_soon(snapshot: Snapshot) -> Snapshot:
    """The root that everybody trusts ends in 20 days."""
    taken = dt.datetime.fromisoformat(snapshot["taken"])
    for bundle in snapshot["rootcertificates"]:
        for root in bundle["roots"]:
            root["notAfter"] = f"{taken + dt.timedelta(days=20):%Y-%m-%dT%H:%M:%SZ}"
    return snapshot


def alert_on_dead_metric(snapshot: Snapshot) -> Snapshot:
    """Alerts are PrometheusRule objects, and one asks for a metric that istiod does not export."""
    snapshot["refusals"] = [refusal for refusal in snapshot["refusals"] if refusal["key"] != "prometheusrules"]
    snapshot["read"].append("prometheusrules")
    rules = [
        {"alert": "IstiodDown", "expr": 'absent(up{app="istiod"} == 1)'},
        {"alert": "MeshConfigRejected", "expr": "sum(rate(pilot_xds_push_errors[5m])) > 0"},
    ]
    snapshot["prometheusrules"] = [
        {"metadata": {"name": "mesh", "namespace": "istio-system"}, "spec": {"groups": [{"name": "mesh", "rules": rules}]}}
    ]
    return snapshot


def backend_tls_to_strict_port(snapshot: Snapshot) -> Snapshot:
    """A BackendTLSPolicy makes the callers of ledger begin TLS of their own, and its pods demand mTLS."""
    snapshot["backendtlspolicies"] = [
        {
            "metadata": {"name": "ledger", "namespace": "payments", "creationTimestamp": "2026-11-20T09:00:00Z"},
            "spec": {
                "targetRefs": [{"group": "", "kind": "Service", "name": "ledger"}],
                "validation": {"hostname": "ledger.example.com", "wellKnownCACertificates": "System"},
            },
        }
    ]
    return snapshot


def _pods(snapshot: Snapshot, app: str) -> Iterator[dict[str, Any]]:
    """The pods of an application of the shop."""
    return (pod for pod in snapshot["pods"] if pod["metadata"]["namespace"] == "payments" and pod["metadata"]["labels"].get("app") == app)


#: What changes the healthy snapshot, by the name of the fault in ``faults.toml``.
ALTERED: Mapping[str, Callable[[Snapshot], Snapshot]] = {
    "proxies-two-minors-old": proxies_two_minors_old,
    "revision-gone": revision_gone,
    "support-ended": support_ended,
    "setting-removed": setting_removed,
    "definitions-old": definitions_old,
    "root-ends-soon": root_ends_soon,
    "alert-on-dead-metric": alert_on_dead_metric,
    "backend-tls-to-strict-port": backend_tls_to_strict_port,
}
