"""Line 11.2.4: proxies, gateways and the agents of the nodes are in step with istiod (checks.md 11.2.4)."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_meshready.cluster import objects as o
from pytest_meshready.cluster.snapshot import ControlPlane, Snapshot
from pytest_meshready.istio.skew import versions_tracked
from pytest_meshready.results import Judgement, Level, Status
from tests.unit import builders as make
from tests.unit import whole

CANARY = ControlPlane(namespace=make.ISTIO, revision="canary", service="istiod-canary", webhooks=("istio-sidecar-injector-canary",))


def orders_of(version: str, *, plane: str = whole.VERSION, **fields: Any) -> Snapshot:
    """A mesh whose workload ``orders`` has proxies of a version."""
    orders = make.deployment("orders")
    ledger = make.deployment("ledger")
    parts = (whole.istiod(version=plane), whole.gateway(version=plane))
    pods = (*whole.team_pods(orders, version=version), *whole.team_pods(ledger, version=plane))
    controls = tuple(pod for item in parts for pod in make.pods_of(item, meshed=False))
    return whole.mesh(deployments=(*parts, orders, ledger), pods=(*controls, *pods), **fields)


def found(judgement: Judgement) -> list[tuple[str, Level, str]]:
    return [(item.code.removeprefix("MR1124-"), item.level, str(item.object)) for item in judgement.findings]


def test_one_version_everywhere_passes() -> None:
    """Everything is of istiod's version; the evidence is the inventory, gateway included."""
    judgement = versions_tracked(whole.mesh())
    assert judgement.status is Status.PASSED
    assert judgement.summary == "istiod, gateways and proxies are of 1.30.3"
    objects = {row["object"] for row in judgement.evidence[0].data}
    assert objects >= {"istio-system/Deployment/istiod", "istio-system/Deployment/istio-ingressgateway", "payments/Deployment/orders"}


@pytest.mark.parametrize(
    ("version", "code", "level"),
    [
        ("1.31.0", "PROXY-NEWER", Level.ERROR),
        ("1.29.6", "PROXY-BEHIND", Level.WARNING),
        ("1.28.10", "PROXY-OLD", Level.ERROR),
        ("1.30.1", "PATCHES", Level.WARNING),
    ],
)
def test_proxies_out_of_step(version: str, code: str, level: Level) -> None:
    """Newer never, one minor version older for the time of an upgrade, more than one patch apart with a warning."""
    assert found(versions_tracked(orders_of(version))) == [(code, level, "payments/Deployment/orders")]


@pytest.mark.parametrize("version", ["1.30.2", "1.30.3"])
def test_one_patch_apart_passes(version: str) -> None:
    """One patch between istiod and a proxy is what every upgrade looks like."""
    assert versions_tracked(orders_of(version)).status is Status.PASSED


def test_the_finding_names_the_pods_and_the_restart() -> None:
    """One finding for the workload, with its pods and the next command."""
    (finding,) = versions_tracked(orders_of("1.28.10")).findings
    assert finding.found.startswith("2 pods (orders-7f76cb76bc-p0000, orders-7f76cb76bc-p0001) of version 1.28.10")
    assert finding.fix.endswith("kubectl -n payments rollout restart deployment orders")


def test_a_gateway_counts() -> None:
    """A gateway that was not restarted after an upgrade is found in the control plane's namespace."""
    parts = (whole.istiod(), whole.gateway(version="1.28.10"), make.deployment())
    assert found(versions_tracked(whole.mesh(deployments=parts))) == [
        ("PROXY-OLD", Level.ERROR, "istio-system/Deployment/istio-ingressgateway")
    ]


def test_a_proxy_is_compared_with_its_own_revision() -> None:
    """During an upgrade by revisions, proxies of the next version belong to the next istiod."""
    canary = whole.istiod("istiod-canary", revision="canary", version="1.31.0")
    orders = make.deployment("orders")
    parts = (whole.istiod(), canary)
    controls = tuple(pod for item in parts for pod in make.pods_of(item, meshed=False))
    pods = whole.team_pods(orders, version="1.31.0", revision="canary")
    fields: dict[str, Any] = {
        "deployments": (*parts, orders),
        "pods": (*controls, *pods),
        "control_planes": (make.DEFAULT_PLANE, CANARY),
    }
    assert versions_tracked(whole.mesh(**fields)).status is Status.PASSED


@pytest.mark.parametrize(("version", "level"), [("1.31.0", Level.WARNING), ("1.29.6", Level.WARNING), ("1.28.10", Level.ERROR)])
def test_agents_of_the_nodes(version: str, level: Level) -> None:
    """istio-cni and ztunnel may be one minor version to either side of istiod, and warn then."""
    agent = o.Container(name="istio-proxy", image=whole.image(version, "ztunnel"))
    ztunnel = make.daemonset("ztunnel", namespace=make.ISTIO, containers=(agent,))
    (finding,) = versions_tracked(whole.mesh(daemonsets=(ztunnel,))).findings
    assert (finding.level, str(finding.object)) == (level, "istio-system/DaemonSet/ztunnel")


def test_an_image_by_digest_is_not_verified() -> None:
    """A digest tells no version; the workload is named, and the others were still compared."""
    orders = make.deployment("orders")
    pods = tuple(make.injected(pod, image="docker.io/istio/proxyv2@sha256:0123") for pod in make.pods_of(orders, meshed=False))
    istiod = whole.istiod()
    judgement = versions_tracked(whole.mesh(deployments=(istiod, orders), pods=(*make.pods_of(istiod, meshed=False), *pods)))
    assert judgement.status is Status.NOT_VERIFIED
    assert "payments/Deployment/orders is not known: its image is named by digest" in judgement.reason


def test_without_istiod_or_proxies_nothing_is_passed() -> None:
    """Nothing to compare, or nothing to compare with, is not verified."""
    assert versions_tracked(whole.mesh(deployments=(make.deployment(),))).status is Status.NOT_VERIFIED
    assert versions_tracked(whole.mesh(deployments=(whole.istiod(),))).status is Status.NOT_VERIFIED


def test_refused_pods_leave_it_open() -> None:
    """Without the right to list pods no proxy was seen."""
    snapshot = whole.mesh(pods=(), refusals=(make.refusal("pods"),))
    judgement = versions_tracked(snapshot)
    assert judgement.status is Status.NOT_VERIFIED
    assert any(unknown.resource == "pods" for unknown in judgement.unknown)
