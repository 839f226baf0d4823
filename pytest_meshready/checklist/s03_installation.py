"""Section 3: Istio Installation (Production-Safe)."""

from __future__ import annotations

import pytest

from pytest_meshready.checks import Check
from pytest_meshready.cluster.snapshot import Snapshot
from pytest_meshready.istio import analysis, controlplane, gateways, profile


class TestInstallationProfile:
    """3.1 Installation Profile."""

    @pytest.mark.mesh_item("3.1.1")
    def test_production_profile(self, mesh_check: Check, mesh_snapshot: Snapshot) -> None:
        """Using default or custom production profile."""
        mesh_check(static=profile.production_profile(mesh_snapshot))

    @pytest.mark.mesh_item("3.1.2")
    def test_demo_profile_not_used(self, mesh_check: Check, mesh_snapshot: Snapshot) -> None:
        """Demo profile NOT used."""
        mesh_check(static=profile.demo_profile_not_used(mesh_snapshot))

    @pytest.mark.mesh_item("3.1.3")
    def test_ingress_gateway(self, mesh_check: Check, mesh_snapshot: Snapshot) -> None:
        """Ingress gateway installed."""
        mesh_check(static=gateways.gateway_installed(mesh_snapshot))

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

    @pytest.mark.mesh_item("3.2.4")
    def test_no_analysis_errors(self, mesh_check: Check, mesh_snapshot: Snapshot) -> None:
        """Istioctl analyze shows no critical errors."""
        mesh_check(static=analysis.configuration_sound(mesh_snapshot))
