"""Section 7: Security Rollout (Gradual Zero Trust)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pytest_meshready.checks import Check
from pytest_meshready.cluster.snapshot import Snapshot
from pytest_meshready.istio import authorization, compatibility, identities, legacy, measured, mtls, reach, wire_lines
from pytest_meshready.measuring import Measured
from pytest_meshready.results import Judgement, joined
from pytest_meshready.run import Wire
from pytest_meshready.settings import Settings


class TestPermissiveMtls:
    """7.1 Phase 1: PERMISSIVE mTLS."""

    @pytest.mark.mesh_item("7.1.1")
    def test_permissive_mode(self, mesh_check: Check, mesh_snapshot: Snapshot, mesh_wire: Wire) -> None:
        """Mutual TLS enabled in PERMISSIVE mode."""
        ports, caller = mesh_wire.judge(wire_lines.permissive), mesh_wire.judge_identity(line="MR711")
        mesh_check(static=mtls.permissive(mesh_snapshot), live=joined(ports, caller))

    @pytest.mark.mesh_item("7.1.2")
    def test_no_communication_failures(self, mesh_check: Check, mesh_wire: Wire) -> None:
        """No service communication failures."""
        mesh_check(live=mesh_wire.judge(reach.reachable), metrics=mesh_wire.judge_metrics(_failed_calls))


class TestStrictMtls:
    """7.2 Phase 2: STRICT mTLS."""

    @pytest.mark.mesh_item("7.2.1")
    def test_services_compatible(self, mesh_check: Check, mesh_snapshot: Snapshot, mesh_settings: Settings, mesh_wire: Wire) -> None:
        """All services verified compatible."""
        mesh_check(
            static=compatibility.services_compatible(mesh_snapshot, mesh_settings.sidecar_exceptions),
            live=joined(
                mesh_wire.judge(wire_lines.compatible, mesh_settings.mtls_exceptions),
                mesh_wire.judge_identity(line="MR721", required=False),
            ),
            metrics=mesh_wire.judge_metrics(_plaintext_callers("MR721")),
        )

    @pytest.mark.mesh_item("7.2.2")
    def test_legacy_workloads(self, mesh_check: Check, mesh_snapshot: Snapshot, mesh_settings: Settings, mesh_wire: Wire) -> None:
        """Legacy workloads handled."""
        mesh_check(
            static=legacy.legacy_handled(mesh_snapshot, mesh_settings.sidecar_exceptions),
            live=mesh_wire.judge(wire_lines.legacy),
            metrics=mesh_wire.judge_metrics(_plaintext_callers("MR722")),
        )

    @pytest.mark.mesh_item("7.2.3")
    def test_strict_incrementally(self, mesh_check: Check, mesh_snapshot: Snapshot, mesh_settings: Settings, mesh_wire: Wire) -> None:
        """STRICT mTLS enabled incrementally."""
        mesh_check(
            static=mtls.strict_incrementally(mesh_snapshot, mesh_settings.namespaces),
            live=mesh_wire.judge(wire_lines.strict),
        )


class TestAuthorizationPolicies:
    """7.3 Authorization Policies."""

    @pytest.mark.mesh_item("7.3.1")
    def test_default_deny_not_enabled(self, mesh_check: Check, mesh_snapshot: Snapshot) -> None:
        """Default-deny NOT enabled initially."""
        mesh_check(static=authorization.default_deny_absent(mesh_snapshot))

    @pytest.mark.mesh_item("7.3.2")
    def test_service_identities(self, mesh_check: Check, mesh_snapshot: Snapshot, mesh_wire: Wire) -> None:
        """Service identities validated."""
        mesh_check(
            static=identities.identities_validated(mesh_snapshot),
            live=joined(mesh_wire.judge(wire_lines.identified), mesh_wire.judge_identity(line="MR732")),
        )


def _failed_calls(snapshot: Snapshot, seen: Measured) -> Judgement:
    return measured.failures(snapshot.namespace, seen.calls, seen.failed, seen.rejects)


def _plaintext_callers(line: str) -> Callable[[Snapshot, Measured], Judgement]:
    return lambda snapshot, seen: measured.callers(snapshot, seen.plain, seen.mutual, line=line)
