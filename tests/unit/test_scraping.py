"""Line 5.3.2, what objects say: nothing keeps Prometheus from the metrics (checks.md 5.3.2)."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_meshready.cluster import objects as o
from pytest_meshready.cluster.objects_monitoring import (
    MonitorEndpoint,
    NamespaceSelector,
    PodMonitor,
    PodMonitorSpec,
    Relabeling,
    ServiceMonitor,
    ServiceMonitorSpec,
    Tls,
)
from pytest_meshready.cluster.snapshot import Snapshot
from pytest_meshready.istio.scraping import scrapable
from pytest_meshready.results import Judgement, Level, Status
from tests.unit import builders as make
from tests.unit import whole

STRICT = (make.peerauthentication(),)
EVERYWHERE = NamespaceSelector(any=True)
ENVOY = MonitorEndpoint(port="http-envoy-prom", path="/stats/prometheus")


def podmonitor(*endpoints: MonitorEndpoint, app: str = "", where: NamespaceSelector = EVERYWHERE) -> PodMonitor:
    selector = o.LabelSelector(match_labels={"app": app} if app else {})
    spec = PodMonitorSpec(selector=selector, namespace_selector=where, pod_metrics_endpoints=endpoints)
    return PodMonitor(metadata=make.metadata("pods", "monitoring"), spec=spec)


def servicemonitor(*endpoints: MonitorEndpoint, where: NamespaceSelector = EVERYWHERE) -> ServiceMonitor:
    spec = ServiceMonitorSpec(selector=o.LabelSelector(match_labels={"app": "orders"}), namespace_selector=where, endpoints=endpoints)
    return ServiceMonitor(metadata=make.metadata("services", "monitoring"), spec=spec)


def mesh(annotations: dict[str, str] | None = None, *, native: bool = True, **fields: Any) -> Snapshot:
    """A mesh with the workload ``orders``, whose pods carry these annotations."""
    orders = make.deployment()
    plain = make.pods_of(orders, meshed=False, annotations=annotations or {})
    pods = tuple(make.injected(pod, native=native) for pod in plain)
    service = make.service(labels={"app": "orders"}, ports=(("http", 80),), target_port=8080)
    defaults: dict[str, Any] = {"deployments": (orders,), "pods": pods, "services": (service,)}
    return make.snapshot(**{**defaults, **fields})


def found(judgement: Judgement) -> list[tuple[str, Level, str]]:
    return [(item.code.removeprefix("MR532-"), item.level, str(item.object)) for item in judgement.findings]


def test_merged_metrics_pass() -> None:
    """What the injector annotates leads to the agent, also under STRICT."""
    judgement = scrapable(whole.mesh(peerauthentications=STRICT))
    assert judgement.status is Status.PASSED
    assert judgement.findings == ()
    assert judgement.summary == "nothing keeps Prometheus from the proxies of 4 pods"


def test_an_applications_port_under_strict_warns() -> None:
    """Without merging, Prometheus is sent to a port that demands mTLS."""
    annotations = {"prometheus.io/scrape": "true", "prometheus.io/port": "8080"}
    warned = scrapable(mesh(annotations, peerauthentications=STRICT))
    assert ("STRICT-PORT", Level.WARNING, "payments/Deployment/orders") in found(warned)
    assert "port 8080" in warned.findings[0].found
    permissive = scrapable(mesh(annotations))
    assert permissive.status is Status.PASSED


@pytest.mark.parametrize("key", ["excludeInboundPorts", "includeInboundPorts"])
def test_a_port_beside_the_proxy_passes(key: str) -> None:
    """A port that is not redirected to the sidecar takes plaintext."""
    value = "8080" if key == "excludeInboundPorts" else "9090"
    annotations = {"prometheus.io/scrape": "true", "prometheus.io/port": "8080", f"traffic.sidecar.istio.io/{key}": value}
    assert scrapable(mesh(annotations, peerauthentications=STRICT)).status is Status.PASSED


@pytest.mark.parametrize(
    "endpoint", [MonitorEndpoint(port="http"), MonitorEndpoint(target_port=8080), MonitorEndpoint(target_port="8080", scheme="http")]
)
def test_a_servicemonitor_that_asks_in_plaintext_warns(endpoint: MonitorEndpoint) -> None:
    """By the Service's port or by the pods', the port behind it demands mTLS."""
    snapshot = mesh(peerauthentications=STRICT, servicemonitors=(servicemonitor(endpoint),))
    assert ("STRICT-PORT", Level.WARNING, "monitoring/ServiceMonitor/services") in found(scrapable(snapshot))


@pytest.mark.parametrize(
    ("endpoint", "where"),
    [
        (MonitorEndpoint(port="http", scheme="HTTPS"), EVERYWHERE),
        (MonitorEndpoint(port="http", tls_config=Tls()), EVERYWHERE),
        (MonitorEndpoint(port="other"), EVERYWHERE),
        (MonitorEndpoint(port="http"), NamespaceSelector(match_names=("team-b",))),
        (MonitorEndpoint(port="http"), NamespaceSelector()),
    ],
)
def test_a_servicemonitor_of_others_or_with_certificates_passes(endpoint: MonitorEndpoint, where: NamespaceSelector) -> None:
    """With TLS of its own, at another port, or in other namespaces (by default its own)."""
    snapshot = mesh(peerauthentications=STRICT, servicemonitors=(servicemonitor(endpoint, where=where),))
    assert scrapable(snapshot).status is Status.PASSED


def test_a_podmonitor_that_asks_the_application_warns() -> None:
    """By the name of a container's port."""
    snapshot = mesh(peerauthentications=STRICT, podmonitors=(podmonitor(MonitorEndpoint(port="http"), app="orders"),))
    assert ("STRICT-PORT", Level.WARNING, "monitoring/PodMonitor/pods") in found(scrapable(snapshot))


@pytest.mark.parametrize(
    "endpoint",
    [
        ENVOY,
        MonitorEndpoint(target_port=15020),
        MonitorEndpoint(port_number=15090),
        MonitorEndpoint(
            relabelings=(Relabeling(action="keep", source_labels=("__meta_kubernetes_pod_container_name",), regex="istio-proxy"),)
        ),
    ],
)
def test_a_podmonitor_of_the_proxies_is_a_way(endpoint: MonitorEndpoint) -> None:
    """Istio's own sample and its kin: nothing is unseen then."""
    judgement = scrapable(mesh(podmonitors=(podmonitor(endpoint),)))
    assert judgement.findings == ()
    assert judgement.evidence[0].data == [{"workload": "payments/Deployment/orders", "found by": "PodMonitor"}]


@pytest.mark.parametrize(("action", "regex"), [("keep", "false"), ("drop", "true")])
def test_a_podmonitor_that_leaves_native_sidecars_out_warns(action: str, regex: str) -> None:
    """Native sidecars run in init containers; classic ones do not mind."""
    step = Relabeling(action=action, source_labels=("__meta_kubernetes_pod_container_init",), regex=regex)
    monitor = podmonitor(MonitorEndpoint(port="http-envoy-prom", relabelings=(step,)))
    assert found(scrapable(mesh(podmonitors=(monitor,)))) == [("NATIVE-LEFT-OUT", Level.WARNING, "monitoring/PodMonitor/pods")]
    assert scrapable(mesh(podmonitors=(monitor,), native=False)).findings == ()


@pytest.mark.parametrize(
    ("annotations", "code"),
    [
        ({}, "UNSEEN"),
        ({"prometheus.io/scrape": "false"}, "REFUSED"),
        ({"prometheus.io/scrape": "yes", "prometheus.io/port": "x"}, "UNSEEN"),
    ],
)
def test_pods_that_nothing_points_at_are_shown(annotations: dict[str, str], code: str) -> None:
    """Prometheus may have a job of its own for them, so it is no warning."""
    judgement = scrapable(mesh(annotations))
    assert found(judgement) == [(code, Level.INFO, "Namespace/payments")]
    assert judgement.status is Status.PASSED


def test_in_an_ambient_namespace_ztunnel_counts() -> None:
    """Its pods are annotated by Istio's chart; without it nothing was seen."""
    spaces = (make.namespace(make.ISTIO, labels={}), make.namespace(labels={"istio.io/dataplane-mode": "ambient"}))
    annotated = make.daemonset("ztunnel", namespace=make.ISTIO, annotations={"prometheus.io/scrape": "true"})
    assert scrapable(make.snapshot(namespaces=spaces, daemonsets=(annotated,))).status is Status.PASSED
    silent = make.daemonset("ztunnel", namespace=make.ISTIO)
    assert found(scrapable(make.snapshot(namespaces=spaces, daemonsets=(silent,)))) == [
        ("UNSEEN", Level.INFO, "istio-system/DaemonSet/ztunnel")
    ]
    assert scrapable(make.snapshot(namespaces=spaces)).status is Status.NOT_VERIFIED


@pytest.mark.parametrize("key", ["pods", "podmonitors", "peerauthentications"])
def test_refused_lists_leave_it_open(key: str) -> None:
    """Without the right to look nothing passes."""
    assert scrapable(whole.mesh(refusals=(make.refusal(key),))).status is Status.NOT_VERIFIED


def test_kinds_that_the_cluster_does_not_know_are_an_answer() -> None:
    """Without the Prometheus operator there are no monitors."""
    refusals = tuple(make.refusal(key, absent=True) for key in ("podmonitors", "servicemonitors"))
    assert scrapable(whole.mesh(refusals=refusals)).status is Status.PASSED


def test_a_namespace_without_proxies_is_not_verified() -> None:
    """Nothing was seen that could be scraped."""
    assert scrapable(make.snapshot()).status is Status.NOT_VERIFIED


@pytest.mark.parametrize(("inside", "codes"), [(False, ["STRICT-PORT"]), (True, [])])
def test_in_an_ambient_namespace_strict_ports_need_a_prometheus_in_the_mesh(inside: bool, codes: list[str]) -> None:
    """Ztunnel refuses plaintext at the application's port, and no agent merges metrics there; in the mesh it is all the same."""
    ambient = {"istio.io/dataplane-mode": "ambient"}
    spaces = (make.namespace(make.ISTIO, labels=ambient if inside else {}), make.namespace(labels=ambient))
    orders = make.deployment()
    annotations = {"prometheus.io/scrape": "true", "prometheus.io/port": "8080", "ambient.istio.io/redirection": "enabled"}
    pods = make.pods_of(orders, meshed=False, annotations=annotations)
    agents = make.daemonset("ztunnel", namespace=make.ISTIO, annotations={"prometheus.io/scrape": "true"})
    fields: dict[str, Any] = {"deployments": (orders,), "pods": pods, "services": (make.service(),), "daemonsets": (agents,)}
    fields.update(peerauthentications=STRICT, node_pods=(make.prometheus_pod(),), namespaces=spaces)
    judgement = scrapable(make.snapshot(**fields))
    assert [code for code, *_ in found(judgement)] == codes
    assert all("let Prometheus join the mesh" in item.fix for item in judgement.findings)
    unseen = scrapable(make.snapshot(**{**fields, "node_pods": ()}))
    assert found(unseen) == []
