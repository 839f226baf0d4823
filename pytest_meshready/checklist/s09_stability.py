"""Section 9: Performance & Stability Validation."""

from __future__ import annotations

import pytest

from pytest_meshready.checks import Check
from pytest_meshready.cluster.snapshot import Snapshot
from pytest_meshready.istio import resilience


class TestFailureTesting:
    """9.2 Failure Testing."""

    @pytest.mark.mesh_item("9.2.3")
    def test_dependency_failure(self, mesh_check: Check, mesh_snapshot: Snapshot) -> None:
        """Dependency failure behavior validated."""
        mesh_check(static=resilience.dependencies_contained(mesh_snapshot))
