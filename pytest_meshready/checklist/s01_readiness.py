"""Section 1: Pre-Rollout Readiness."""

from __future__ import annotations

import pytest

from pytest_meshready.checks import Check
from pytest_meshready.cluster.snapshot import Snapshot
from pytest_meshready.istio import clusterhealth, egress, namespaces, protocols, stability
from pytest_meshready.settings import Settings


class TestArchitectureAndScope:
    """1.1 Architecture & Scope."""

    @pytest.mark.mesh_item("1.1.1")
    def test_architecture_stable(self, mesh_check: Check, mesh_snapshot: Snapshot) -> None:
        """Microservices architecture is stable."""
        mesh_check(static=stability.workloads_stable(mesh_snapshot))

    @pytest.mark.mesh_item("1.1.2")
    def test_cluster_healthy(self, mesh_check: Check, mesh_snapshot: Snapshot) -> None:
        """Kubernetes cluster is healthy and monitored."""
        mesh_check(static=clusterhealth.cluster_healthy(mesh_snapshot))

    @pytest.mark.mesh_item("1.1.3")
    def test_supported_protocols(self, mesh_check: Check, mesh_snapshot: Snapshot) -> None:
        """Services use supported protocols (HTTP / gRPC / TCP)."""
        mesh_check(static=protocols.supported_protocols(mesh_snapshot))

    @pytest.mark.mesh_item("1.1.4")
    def test_target_namespaces_defined(self, mesh_check: Check, mesh_snapshot: Snapshot, mesh_settings: Settings) -> None:
        """Target namespaces for Istio are clearly defined."""
        mesh_check(static=namespaces.namespaces_defined(mesh_snapshot, mesh_settings.namespaces))

    @pytest.mark.mesh_item("1.1.5")
    def test_external_dependencies(self, mesh_check: Check, mesh_snapshot: Snapshot, mesh_settings: Settings) -> None:
        """External dependencies identified (databases, SaaS, third-party APIs)."""
        mesh_check(static=egress.dependencies_identified(mesh_snapshot, mesh_settings.dependencies))
