"""Section 2: Cluster & Resource Preparation."""

from __future__ import annotations

import pytest

from pytest_meshready.checks import Check
from pytest_meshready.cluster.snapshot import Snapshot
from pytest_meshready.istio import disruption, probes, servermodes


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
