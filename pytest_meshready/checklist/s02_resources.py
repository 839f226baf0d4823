"""Section 2: Cluster & Resource Preparation."""

from __future__ import annotations

import pytest

from pytest_meshready.checks import Check
from pytest_meshready.cluster.snapshot import Snapshot
from pytest_meshready.istio import autoscaling, capacity, disruption, networkpolicies, nodescaling, probes, requests, servermodes


class TestCapacityPlanning:
    """2.1 Capacity Planning."""

    @pytest.mark.mesh_item("2.1.1")
    def test_cpu_headroom(self, mesh_check: Check, mesh_snapshot: Snapshot) -> None:
        """CPU headroom available."""
        mesh_check(static=capacity.cpu_headroom(mesh_snapshot))

    @pytest.mark.mesh_item("2.1.2")
    def test_memory_headroom(self, mesh_check: Check, mesh_snapshot: Snapshot) -> None:
        """Memory headroom available."""
        mesh_check(static=capacity.memory_headroom(mesh_snapshot))

    @pytest.mark.mesh_item("2.1.3")
    def test_requests_and_limits(self, mesh_check: Check, mesh_snapshot: Snapshot) -> None:
        """Pod resource requests and limits reviewed."""
        mesh_check(static=requests.resources_reviewed(mesh_snapshot))

    @pytest.mark.mesh_item("2.1.4")
    def test_node_autoscaling(self, mesh_check: Check, mesh_snapshot: Snapshot) -> None:
        """Node autoscaling tested."""
        mesh_check(static=nodescaling.node_autoscaling(mesh_snapshot))


class TestKubernetesBaseline:
    """2.2 Kubernetes Baseline."""

    @pytest.mark.mesh_item("2.2.1")
    def test_pod_disruption_budgets(self, mesh_check: Check, mesh_snapshot: Snapshot) -> None:
        """PodDisruptionBudgets configured."""
        mesh_check(static=disruption.pod_disruption_budgets(mesh_snapshot))

    @pytest.mark.mesh_item("2.2.2")
    def test_liveness_probes(self, mesh_check: Check, mesh_snapshot: Snapshot) -> None:
        """Liveness probes configured."""
        mesh_check(static=probes.liveness_probes(mesh_snapshot, strict=servermodes.strict_in(mesh_snapshot)))

    @pytest.mark.mesh_item("2.2.3")
    def test_readiness_probes(self, mesh_check: Check, mesh_snapshot: Snapshot) -> None:
        """Readiness probes configured."""
        mesh_check(static=probes.readiness_probes(mesh_snapshot, strict=servermodes.strict_in(mesh_snapshot)))

    @pytest.mark.mesh_item("2.2.4")
    def test_pod_autoscaling(self, mesh_check: Check, mesh_snapshot: Snapshot) -> None:
        """HPA tested."""
        mesh_check(static=autoscaling.pod_autoscaling(mesh_snapshot))

    @pytest.mark.mesh_item("2.2.5")
    def test_network_policies(self, mesh_check: Check, mesh_snapshot: Snapshot) -> None:
        """NetworkPolicies reviewed."""
        mesh_check(static=networkpolicies.network_policies(mesh_snapshot))
