"""Section 3: Istio Installation (Production-Safe)."""

from __future__ import annotations

import pytest

from pytest_meshready.checks import Check
from pytest_meshready.cluster.snapshot import Snapshot
from pytest_meshready.istio import controlplane


class TestInstallationProfile:
    """3.1 Installation Profile."""

    @pytest.mark.mesh_item("3.1.4")
    def test_high_availability(self, mesh_check: Check, mesh_snapshot: Snapshot) -> None:
        """Control plane configured for HA."""
        mesh_check(static=controlplane.high_availability(mesh_snapshot))


class TestControlPlaneHealth:
    """3.2 Control Plane Health."""

    @pytest.mark.mesh_item("3.2.1")
    def test_istiod_replicas(self, mesh_check: Check, mesh_snapshot: Snapshot) -> None:
        """Istiod running with multiple replicas."""
        mesh_check(static=controlplane.istiod_replicas(mesh_snapshot))

    @pytest.mark.mesh_item("3.2.2")
    def test_no_crash_loops(self, mesh_check: Check, mesh_snapshot: Snapshot) -> None:
        """No crash loops."""
        mesh_check(static=controlplane.no_crash_loops(mesh_snapshot))

    @pytest.mark.mesh_item("3.2.3")
    def test_leader_election(self, mesh_check: Check, mesh_snapshot: Snapshot) -> None:
        """Leader election functioning."""
        mesh_check(static=controlplane.leader_election(mesh_snapshot))
