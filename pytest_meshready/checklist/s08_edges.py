"""Section 8: Ingress & Egress Safety."""

from __future__ import annotations

import pytest

from pytest_meshready.checklist.lines import Phase
from pytest_meshready.checks import Check
from pytest_meshready.cluster.snapshot import Snapshot
from pytest_meshready.istio import egress, gateway_health, phase, ratelimits, termination
from pytest_meshready.settings import Settings


class TestIngress:
    """8.1 Ingress."""

    @pytest.mark.mesh_item("8.1.1")
    def test_tls_termination(self, mesh_check: Check, mesh_snapshot: Snapshot) -> None:
        """TLS termination strategy defined."""
        mesh_check(static=termination.tls_terminated(mesh_snapshot))

    @pytest.mark.mesh_item("8.1.2")
    def test_rate_limiting(self, mesh_check: Check, mesh_snapshot: Snapshot, mesh_settings: Settings) -> None:
        """Rate limiting configured."""
        mesh_check(static=ratelimits.rate_limited(mesh_snapshot, mesh_settings.external_rate_limit))

    @pytest.mark.mesh_item("8.1.3")
    def test_health_checks(self, mesh_check: Check, mesh_snapshot: Snapshot) -> None:
        """Health checks verified."""
        mesh_check(static=gateway_health.gateway_health(mesh_snapshot))


class TestEgress:
    """8.2 Egress."""

    @pytest.mark.mesh_item("8.2.2")
    def test_egress_rules(self, mesh_check: Check, mesh_snapshot: Snapshot, mesh_settings: Settings) -> None:
        """Egress rules defined (if using REGISTRY_ONLY)."""
        now = mesh_settings.phase or Phase(phase.guess(mesh_snapshot)[0])
        hardened = now in (Phase.HARDENED, Phase.GOLIVE)
        mesh_check(static=egress.egress_ruled(mesh_snapshot, mesh_settings.dependencies, hardened=hardened))

    @pytest.mark.mesh_item("8.2.3")
    def test_dns_resolution(self, mesh_check: Check, mesh_snapshot: Snapshot) -> None:
        """DNS resolution validated."""
        mesh_check(static=egress.names_resolve(mesh_snapshot))
