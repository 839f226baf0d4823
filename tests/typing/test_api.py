"""The public API as a team would write it: checked by mypy in strict mode, and imported once."""

from __future__ import annotations

import pytest

import pytest_meshready
from pytest_meshready import Check, Cluster, Evidence, Finding, Judgement, Level, ObjectRef, Settings, Snapshot, Status, Unknown
from pytest_meshready.checklist import s02_resources as shipped


class TestTheirs(shipped.TestKubernetesBaseline):
    """A team's subclass, with an overridden check and one of its own."""

    __test__ = False

    @pytest.mark.mesh_item("2.2.1")
    def test_pod_disruption_budgets(self, mesh_check: Check, mesh_snapshot: Snapshot) -> None:
        super().test_pod_disruption_budgets(mesh_check, mesh_snapshot)

    @pytest.mark.mesh_item("2.2.2", part="live")
    def test_own(self, mesh_check: Check, mesh_snapshot: Snapshot, mesh_settings: Settings, mesh_cluster: Cluster) -> None:
        found = Finding(
            code="PAY-1",
            level=Level.ERROR,
            object=ObjectRef(kind="Pod", namespace=mesh_settings.namespace, name="x"),
            found="a",
            wanted="b",
            fix="c",
        )
        answer: bytes = mesh_cluster.get("/livez").body
        evidence = (Evidence(kind="answer", source="/livez", text=answer.decode()),)
        unknown: tuple[Unknown, ...] = mesh_snapshot.unread("pods")
        mesh_check(static=Judgement(summary="fine", examined=1, findings=(found,), unknown=unknown, evidence=evidence))


def test_every_public_name_is_there() -> None:
    """``__all__`` is sorted, complete and importable."""
    assert list(pytest_meshready.__all__) == sorted(pytest_meshready.__all__)
    assert [name for name in pytest_meshready.__all__ if not hasattr(pytest_meshready, name)] == []
    assert Status("passed") is Status.PASSED
