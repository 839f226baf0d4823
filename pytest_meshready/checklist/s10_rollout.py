"""Section 10: Rollout & Expansion Strategy."""

from __future__ import annotations

import pytest

from pytest_meshready.checks import Check
from pytest_meshready.cluster.snapshot import Snapshot
from pytest_meshready.istio import expansion, rollback
from pytest_meshready.settings import Settings


class TestProductionRollout:
    """10.1 Production Rollout."""

    @pytest.mark.mesh_item("10.1.1")
    def test_namespace_by_namespace(self, mesh_check: Check, mesh_snapshot: Snapshot, mesh_settings: Settings) -> None:
        """Expand namespace by namespace."""
        mesh_check(static=expansion.namespace_by_namespace(mesh_snapshot, mesh_settings.rollout))


class TestRollbackReadiness:
    """10.2 Rollback Readiness."""

    @pytest.mark.mesh_item("10.2.2")
    def test_sidecar_removal(self, mesh_check: Check, mesh_snapshot: Snapshot) -> None:
        """Sidecar removal verified."""
        mesh_check(static=rollback.removable(mesh_snapshot))
