"""Section 7: Security Rollout (Gradual Zero Trust)."""

from __future__ import annotations

import pytest

from pytest_meshready.checks import Check
from pytest_meshready.cluster.snapshot import Snapshot
from pytest_meshready.istio import mtls, wire_lines
from pytest_meshready.run import Wire
from pytest_meshready.settings import Settings


class TestPermissiveMtls:
    """7.1 Phase 1: PERMISSIVE mTLS."""

    @pytest.mark.mesh_item("7.1.1")
    def test_permissive_mode(self, mesh_check: Check, mesh_snapshot: Snapshot, mesh_wire: Wire) -> None:
        """Mutual TLS enabled in PERMISSIVE mode."""
        mesh_check(static=mtls.permissive(mesh_snapshot), live=mesh_wire.judge(wire_lines.permissive))


class TestStrictMtls:
    """7.2 Phase 2: STRICT mTLS."""

    @pytest.mark.mesh_item("7.2.3")
    def test_strict_incrementally(self, mesh_check: Check, mesh_snapshot: Snapshot, mesh_settings: Settings, mesh_wire: Wire) -> None:
        """STRICT mTLS enabled incrementally."""
        mesh_check(
            static=mtls.strict_incrementally(mesh_snapshot, mesh_settings.namespaces),
            live=mesh_wire.judge(wire_lines.strict),
        )
