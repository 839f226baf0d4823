"""Section 5: Observability (Required)."""

from __future__ import annotations

import pytest

from pytest_meshready.checklist.lines import Phase
from pytest_meshready.checks import Check
from pytest_meshready.cluster.snapshot import Snapshot
from pytest_meshready.istio import scraping, traces, tracing
from pytest_meshready.run import Wire
from pytest_meshready.settings import Settings


class TestTracing:
    """5.2 Tracing."""

    @pytest.mark.mesh_item("5.2.1")
    def test_distributed_tracing(self, mesh_check: Check, mesh_snapshot: Snapshot, mesh_wire: Wire) -> None:
        """Distributed tracing enabled."""
        mesh_check(static=tracing.tracing_enabled(mesh_snapshot), live=mesh_wire.judge_traces(traces.traced))

    @pytest.mark.mesh_item("5.2.2")
    def test_sampling_rate(self, mesh_check: Check, mesh_snapshot: Snapshot, mesh_settings: Settings) -> None:
        """Sampling rate reviewed."""
        mesh_check(static=tracing.sampling_reviewed(mesh_snapshot, final=mesh_settings.phase is Phase.GOLIVE))

    @pytest.mark.mesh_item("5.2.3")
    def test_trace_propagation(self, mesh_check: Check, mesh_wire: Wire) -> None:
        """Trace propagation verified."""
        mesh_check(live=mesh_wire.judge_propagation(traces.propagated))


class TestDashboards:
    """5.3 Dashboards."""

    @pytest.mark.mesh_item("5.3.2")
    def test_prometheus_scraping(self, mesh_check: Check, mesh_snapshot: Snapshot) -> None:
        """Prometheus scraping verified."""
        mesh_check(static=scraping.scrapable(mesh_snapshot))
