"""Tests of the team's own, beside the shipped checklist."""

from __future__ import annotations

import pytest

from pytest_meshready import Check, Settings, Snapshot, Traffic
from pytest_meshready.checklist import s02_resources as shipped


def test_the_namespace_is_ours(mesh_settings: Settings, mesh_snapshot: Snapshot) -> None:
    """An ordinary test of the team's, with the snapshot of the run."""
    assert mesh_snapshot.namespace == mesh_settings.namespace
    assert mesh_settings.phase is not None


@pytest.mark.mesh_item("pay-1")
def test_pods_say_their_version(mesh_snapshot: Snapshot) -> None:
    """Decides a line of the team's own, which meshready.toml adds to the checklist."""
    pods = [pod for pod in mesh_snapshot.pods if pod.metadata.namespace == mesh_snapshot.namespace]
    assert pods, "no pods were seen"
    assert [pod.metadata.name for pod in pods if "version" not in pod.metadata.labels] == []


@pytest.mark.mesh_item("pay-2")
def test_only_orders_may_read_the_ledger(mesh_traffic: Traffic) -> None:
    """A live check of the team's own: a probe in the mesh, with an account of its own, is refused by policy, not by chance."""
    ledger = mesh_traffic.handshake("ledger.payments:8080")
    assert ledger.identity is not None, "no proxy answered, so a refusal would prove nothing"
    assert ledger.identity.service_account == "ledger"
    assert mesh_traffic.get("http://ledger.payments:8080/healthz").status == 403


class TestKubernetesBaseline(shipped.TestKubernetesBaseline):
    """Takes the place of the shipped class: its other lines stay as they are, one is made stricter."""

    @pytest.mark.mesh_item("2.2.1")
    def test_pod_disruption_budgets(self, mesh_check: Check, mesh_snapshot: Snapshot) -> None:
        """PodDisruptionBudgets configured, and none of them by percentage: with two replicas 50% is easily misread."""
        budgets = [item for item in mesh_snapshot.poddisruptionbudgets if item.metadata.namespace == mesh_snapshot.namespace]
        assert [b.metadata.name for b in budgets if str(b.spec.min_available).endswith("%")] == []
        super().test_pod_disruption_budgets(mesh_check, mesh_snapshot)
