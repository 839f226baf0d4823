"""Section 12: Ongoing Maintenance."""

from __future__ import annotations

import pytest

from pytest_meshready.checks import Check
from pytest_meshready.cluster.snapshot import Snapshot
from pytest_meshready.istio import versions
from pytest_meshready.settings import Settings


class TestOngoingMaintenance:
    """12 Ongoing Maintenance."""

    @pytest.mark.mesh_item("12.5")
    def test_supported_versions(self, mesh_check: Check, mesh_snapshot: Snapshot, mesh_settings: Settings) -> None:
        """Stay within supported Istio versions."""
        mesh_check(static=versions.supported_versions(mesh_snapshot, table=mesh_settings.releases))
