"""Section 11: Post-Rollout Hardening."""

from __future__ import annotations

import pytest

from pytest_meshready.checks import Check
from pytest_meshready.cluster.snapshot import Snapshot
from pytest_meshready.istio import mtls, wire_lines
from pytest_meshready.run import Wire
from pytest_meshready.settings import Settings


class TestSecurity:
    """11.1 Security."""

    @pytest.mark.mesh_item("11.1.1")
    def test_strict_everywhere(self, mesh_check: Check, mesh_snapshot: Snapshot, mesh_settings: Settings, mesh_wire: Wire) -> None:
        """STRICT mTLS enforced where possible."""
        exceptions = mesh_settings.mtls_exceptions
        mesh_check(
            static=mtls.strict_everywhere(mesh_snapshot, exceptions),
            live=mesh_wire.judge(wire_lines.strict_everywhere, exceptions),
        )
