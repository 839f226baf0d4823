"""Line 1.1.2: the health of the cluster (checks.md 1.1.2)."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from pytest_meshready.cluster import objects as o
from pytest_meshready.cluster.objects_capacity import ApiService, ApiServiceSpec, ApiServiceStatus, ServerHealth
from pytest_meshready.cluster.snapshot import Snapshot
from pytest_meshready.istio.clusterhealth import cluster_healthy
from pytest_meshready.results import Judgement, Level, Status
from tests.unit import builders as make

THREE = (*make.nodes(), make.node("node-3"))
READY = ServerHealth(metadata=o.Metadata(name="/readyz"), status=200)


def api(name: str = "v1beta1.metrics.k8s.io", status: str = "True") -> ApiService:
    """An aggregated API."""
    return ApiService(
        metadata=o.Metadata(name=name),
        spec=ApiServiceSpec(service=o.ServiceReference(namespace="kube-system", name="metrics-server")),
        status=ApiServiceStatus(conditions=(o.Condition(type="Available", status=status, reason="MissingEndpoints"),)),
    )


def mesh(**fields: Any) -> Snapshot:
    """Three nodes, DNS and the metrics API."""
    defaults = {"nodes": THREE, "node_pods": (make.dns_pod(),), "readyz": (READY,), "apiservices": (api(),)}
    return make.snapshot(**{**defaults, **fields})


def codes(judgement: Judgement) -> dict[str, Level]:
    return {finding.code: finding.level for finding in judgement.findings}


def test_a_healthy_cluster_passes() -> None:
    """Server, nodes, DNS, metrics, and a Kubernetes that this Istio supports."""
    judgement = cluster_healthy(mesh())
    assert (judgement.status, judgement.findings) == (Status.PASSED, ())


def test_a_server_that_is_not_ready_fails_and_names_its_checks() -> None:
    """What /readyz answered with status 500."""
    sick = msgspec.structs.replace(READY, status=500, failing=("etcd", "informer-sync"))
    (finding,) = cluster_healthy(mesh(readyz=(sick,))).findings
    assert (finding.code, finding.level, str(finding.object)) == ("MR112-SERVER-NOT-READY", Level.ERROR, "APIServer//readyz")
    assert finding.found == "the API server says that it is not ready (500): etcd, informer-sync"


def test_a_node_that_is_not_ready_fails_unless_it_was_taken_out() -> None:
    """Fault node-not-ready; a cordoned node is not ill (checks.md 1.1.2)."""
    lost = make.node("node-4", ready=False)
    (finding,) = cluster_healthy(mesh(nodes=(*THREE, lost))).findings
    assert (finding.code, finding.level, str(finding.object)) == ("MR112-NODE-NOT-READY", Level.ERROR, "Node/node-4")
    out = make.node("node-4", ready=False, unschedulable=True)
    assert codes(cluster_healthy(mesh(nodes=(*THREE, out)))) == {}
    silent = o.Node(metadata=make.metadata("node-5", ""))
    assert codes(cluster_healthy(mesh(nodes=(*THREE, silent)))) == {"MR112-NODE-NOT-READY": Level.ERROR}


def test_a_node_under_pressure_warns() -> None:
    """It is ready, and about to evict."""
    base = make.node("node-3")
    conditions = (
        *base.status.conditions,
        o.Condition(type="MemoryPressure", status="True"),
        o.Condition(type="DiskPressure", status="False"),
    )
    pressed = msgspec.structs.replace(base, status=msgspec.structs.replace(base.status, conditions=conditions))
    (finding,) = cluster_healthy(mesh(nodes=(*make.nodes(), pressed))).findings
    assert (finding.code, finding.found) == ("MR112-NODE-PRESSURE", "it reports MemoryPressure")


def test_fewer_than_three_nodes_for_ordinary_pods_warn() -> None:
    """A control-plane node takes none."""
    reserved = make.node("control", taints=(o.Toleration(key="node-role.kubernetes.io/control-plane", effect="NoSchedule"),))
    (finding,) = cluster_healthy(mesh(nodes=(*make.nodes(), reserved))).findings
    assert (finding.code, finding.level) == ("MR112-FEW-NODES", Level.WARNING)
    assert "2 nodes for ordinary pods (node-1, node-2)" in finding.found


@pytest.mark.parametrize(
    ("kubelet", "said"),
    [("v1.31.9", ""), ("v1.30.0", "4 minor versions behind"), ("v1.35.0", "1 minor versions ahead of"), ("odd", "")],
)
def test_the_skew_of_kubelets(kubelet: str, said: str) -> None:
    """Three behind are permitted, ahead is not."""
    findings = cluster_healthy(mesh(nodes=(*make.nodes(), make.node("node-3", kubelet=kubelet)))).findings
    assert [said in item.found for item in findings] == ([True] if said else [])


def test_no_dns_pod_ready_fails_and_none_seen_is_unknown() -> None:
    """Without DNS nothing works; where its pods are not seen, nothing is said of it."""
    assert codes(cluster_healthy(mesh(node_pods=(make.dns_pod(ready=False),))))["MR112-NO-DNS"] is Level.ERROR
    assert codes(cluster_healthy(mesh(node_pods=(make.dns_pod(ready=False), make.dns_pod())))).get("MR112-NO-DNS") is None
    judgement = cluster_healthy(mesh(node_pods=()))
    assert judgement.status is Status.NOT_VERIFIED
    assert "no pod of the cluster's DNS was found" in judgement.reason


def test_a_system_pod_that_stays_unready_warns() -> None:
    """One that was just made is given five minutes."""
    late = make.pod("metrics-server-a", namespace="kube-system", labels={}, ready=False)
    young = make.pod("kube-proxy-b", namespace="kube-system", labels={}, ready=False, created="2026-08-25T08:35:10Z")
    (finding,) = cluster_healthy(mesh(node_pods=(make.dns_pod(), make.node_pod(late), make.node_pod(young)))).findings
    assert finding.found == "pods of Kubernetes itself are not ready: metrics-server-a"


def test_aggregated_apis() -> None:
    """One that does not answer warns, and so does a cluster without the metrics API; local ones are always available."""
    assert codes(cluster_healthy(mesh(apiservices=(api(status="False"),)))) == {"MR112-API-UNAVAILABLE": Level.WARNING}
    local = ApiService(metadata=o.Metadata(name="v1.apps"))
    assert codes(cluster_healthy(mesh(apiservices=(local,)))) == {"MR112-NO-METRICS-API": Level.WARNING}


@pytest.mark.parametrize(
    ("istio", "kubernetes", "expected"),
    [
        ("1.28.3", "v1.29.9", {"MR112-KUBERNETES-TOO-OLD": Level.ERROR}),
        ("1.28.3", "v1.35.0", {"MR112-KUBERNETES-UNTESTED": Level.WARNING}),
        ("1.28.3", "v1.30.0", {}),
        ("1.28.3-asm.4", "v1.29.9", {}),
        ("", "v1.20.0", {}),
        ("1.28.3", "", {}),
    ],
)
def test_kubernetes_against_istio(istio: str, kubernetes: str, expected: dict[str, Level]) -> None:
    """checks.md 5: Istio 1.28 supports Kubernetes 1.30 to 1.34; a vendor's build has its own table."""
    nodes = tuple(make.node(f"node-{number}", kubelet=kubernetes) for number in range(3))
    assert codes(cluster_healthy(mesh(nodes=nodes, istio_version=istio, kubernetes_version=kubernetes))) == expected


@pytest.mark.parametrize("key", ["nodes", "node_pods", "readyz", "apiservices"])
def test_what_was_refused_is_not_verified(key: str) -> None:
    """Each missing right is named, also that on a path."""
    refused = make.refusal(key, namespace="")
    read = tuple(item for item in make.snapshot().read if item != key)
    judgement = cluster_healthy(mesh(**{key: ()}, refusals=(refused,), read=read))
    assert judgement.status is Status.NOT_VERIFIED
    assert refused.reason in judgement.reason
