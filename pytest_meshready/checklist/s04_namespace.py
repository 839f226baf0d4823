"""Section 4: Namespace & Sidecar Strategy."""

from __future__ import annotations

import pytest

from pytest_meshready.checks import Check
from pytest_meshready.cluster.snapshot import Snapshot
from pytest_meshready.istio import expansion, injection, measured, newborn, sidecars, startorder
from pytest_meshready.measuring import Measured
from pytest_meshready.results import Judgement, ObjectRef, joined
from pytest_meshready.run import Wire
from pytest_meshready.settings import Settings


class TestNamespaceEnablement:
    """4.1 Namespace Enablement."""

    @pytest.mark.mesh_item("4.1.1")
    def test_low_risk_first(self, mesh_check: Check, mesh_snapshot: Snapshot, mesh_settings: Settings) -> None:
        """Start with a low-risk namespace."""
        mesh_check(static=expansion.low_risk_first(mesh_snapshot, mesh_settings.risks))

    @pytest.mark.mesh_item("4.1.2")
    def test_injection_by_namespace_label(self, mesh_check: Check, mesh_snapshot: Snapshot, mesh_wire: Wire) -> None:
        """Sidecar injection enabled via namespace label."""
        mesh_check(
            static=injection.injection_by_label(mesh_snapshot),
            live=mesh_wire.judge_pods(newborn.injected, line="MR412"),
        )

    @pytest.mark.mesh_item("4.1.3")
    def test_no_cluster_wide_injection(self, mesh_check: Check, mesh_snapshot: Snapshot) -> None:
        """Cluster-wide injection avoided."""
        mesh_check(static=injection.cluster_wide_injection(mesh_snapshot))


class TestInjectionValidation:
    """4.2 Injection Validation."""

    @pytest.mark.mesh_item("4.2.1")
    def test_exactly_one_sidecar(self, mesh_check: Check, mesh_snapshot: Snapshot, mesh_settings: Settings, mesh_wire: Wire) -> None:
        """Pods contain exactly one Envoy sidecar."""
        made_now, running = mesh_wire.judge_pods(newborn.injected, line="MR421"), mesh_wire.judge(newborn.proxies_ready)
        mesh_check(
            static=sidecars.exactly_one_sidecar(mesh_snapshot, allowed=frozenset(mesh_settings.sidecar_exceptions)),
            live=joined(made_now, running),
        )

    @pytest.mark.mesh_item("4.2.2")
    def test_no_startup_delays(self, mesh_check: Check, mesh_snapshot: Snapshot, mesh_wire: Wire) -> None:
        """No pod startup delays."""
        mesh_check(
            static=startorder.started_after_proxy(mesh_snapshot),
            live=mesh_wire.judge_starts(newborn.startup),
            metrics=mesh_wire.judge_metrics(_convergence),
        )


def _convergence(snapshot: Snapshot, seen: Measured) -> Judgement:
    plane = snapshot.control_plane
    istiod = ObjectRef(kind="Deployment", namespace=snapshot.istio_namespace, name=plane.service if plane and plane.service else "istiod")
    return measured.convergence(seen.convergence, istiod)
