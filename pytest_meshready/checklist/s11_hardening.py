"""Section 11: Post-Rollout Hardening."""

from __future__ import annotations

import pytest

from pytest_meshready.checks import Check
from pytest_meshready.cluster.snapshot import Snapshot
from pytest_meshready.istio import alerts, authorization, certificates, mtls, skew, upgrades, wire_lines
from pytest_meshready.results import joined
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
            live=joined(
                mesh_wire.judge(wire_lines.strict_everywhere, exceptions),
                mesh_wire.judge_identity(line="MR1111", required=False),
            ),
        )

    @pytest.mark.mesh_item("11.1.2")
    def test_authorization_policies(self, mesh_check: Check, mesh_snapshot: Snapshot) -> None:
        """Authorization policies applied."""
        mesh_check(static=authorization.policies_applied(mesh_snapshot))

    @pytest.mark.mesh_item("11.1.3")
    def test_certificate_rotation(self, mesh_check: Check, mesh_snapshot: Snapshot) -> None:
        """Certificate rotation verified."""
        mesh_check(static=certificates.rotation(mesh_snapshot))


class TestOperations:
    """11.2 Operations."""

    @pytest.mark.mesh_item("11.2.1")
    def test_alerts(self, mesh_check: Check, mesh_snapshot: Snapshot) -> None:
        """Alerts configured."""
        mesh_check(static=alerts.alerts_configured(mesh_snapshot))

    @pytest.mark.mesh_item("11.2.3")
    def test_upgrade_strategy(self, mesh_check: Check, mesh_snapshot: Snapshot, mesh_settings: Settings) -> None:
        """Upgrade strategy defined."""
        mesh_check(static=upgrades.upgrade_strategy(mesh_snapshot, table=mesh_settings.releases))

    @pytest.mark.mesh_item("11.2.4")
    def test_versions_tracked(self, mesh_check: Check, mesh_snapshot: Snapshot) -> None:
        """Istio versions tracked."""
        mesh_check(static=skew.versions_tracked(mesh_snapshot))
