"""Section 6: Traffic Management (Start Simple)."""

from __future__ import annotations

import pytest

from pytest_meshready.checks import Check
from pytest_meshready.cluster.snapshot import Snapshot
from pytest_meshready.istio import avoid, balancing, complexity, retries, timeouts


class TestBaselinePolicies:
    """6.1 Baseline Policies."""

    @pytest.mark.mesh_item("6.1.1")
    def test_timeouts(self, mesh_check: Check, mesh_snapshot: Snapshot) -> None:
        """Timeouts defined."""
        mesh_check(static=timeouts.timeouts_defined(mesh_snapshot))

    @pytest.mark.mesh_item("6.1.2")
    def test_conservative_retries(self, mesh_check: Check, mesh_snapshot: Snapshot) -> None:
        """Conservative retries configured."""
        mesh_check(static=retries.conservative_retries(mesh_snapshot))

    @pytest.mark.mesh_item("6.1.3")
    def test_load_balancing(self, mesh_check: Check, mesh_snapshot: Snapshot) -> None:
        """Load balancing verified."""
        mesh_check(static=balancing.balancing_configured(mesh_snapshot))


class TestAvoidInitially:
    """6.2 Avoid Initially."""

    @pytest.mark.mesh_item("6.2.1")
    def test_no_canary_releases(self, mesh_check: Check, mesh_snapshot: Snapshot) -> None:
        """Canary releases."""
        mesh_check(static=avoid.no_canaries(mesh_snapshot))

    @pytest.mark.mesh_item("6.2.2")
    def test_no_traffic_mirroring(self, mesh_check: Check, mesh_snapshot: Snapshot) -> None:
        """Traffic mirroring."""
        mesh_check(static=avoid.no_mirrors(mesh_snapshot))

    @pytest.mark.mesh_item("6.2.3")
    def test_no_fault_injection(self, mesh_check: Check, mesh_snapshot: Snapshot) -> None:
        """Fault injection."""
        mesh_check(static=avoid.no_faults(mesh_snapshot))

    @pytest.mark.mesh_item("6.2.4")
    def test_no_complex_routing(self, mesh_check: Check, mesh_snapshot: Snapshot) -> None:
        """Complex routing rules."""
        mesh_check(static=complexity.simple_routing(mesh_snapshot))
