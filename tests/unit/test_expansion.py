"""Lines 4.1.1 and 10.1.1: the order in which namespaces joined the mesh (checks.md 4.1.1, 10.1.1)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import msgspec
import pytest

from pytest_meshready.cluster import objects as o
from pytest_meshready.cluster.objects_capacity import NodePod
from pytest_meshready.cluster.snapshot import Snapshot
from pytest_meshready.istio.expansion import joined, low_risk_first, namespace_by_namespace
from pytest_meshready.results import Judgement, Level, Status
from tests.unit import builders as make

OLD = "2025-01-01T00:00:00Z"


def space(name: str, *, created: str = OLD, labelled: str | None = None, risk: str = "", label: str = "istio-injection") -> o.Namespace:
    """A namespace in the mesh: when it was made, and when its label was written last."""
    base = make.namespace(name, labels={label: "enabled" if label == "istio-injection" else "canary"}, created=created)
    written = (o.ManagedFields(time=labelled, labels=(label,)),) if labelled else ()
    annotations = {"meshready.io/risk": risk} if risk else {}
    return msgspec.structs.replace(base, metadata=msgspec.structs.replace(base.metadata, managed_fields=written, annotations=annotations))


def proxied(namespace: str, created: str) -> NodePod:
    """A pod with a proxy."""
    return make.node_pod(make.meshed_pod("a", namespace=namespace, created=created))


def mesh(*namespaces: o.Namespace, pods: tuple[NodePod, ...] = ()) -> Snapshot:
    outside = make.namespace("legacy", labels={})
    return make.snapshot(namespaces=(outside, *namespaces), node_pods=pods)


def codes(judgement: Judgement) -> dict[str, Level]:
    return {finding.code: finding.level for finding in judgement.findings}


def test_when_a_namespace_joined_is_an_interval() -> None:
    """Not before it was made; not after its oldest pod with a proxy, nor after the last write of its label."""
    by_pod = space("orders", labelled="2026-08-20T00:00:00Z")
    by_label = space("payments", labelled="2026-08-01T00:00:00Z", label="istio.io/rev")
    pods = (
        proxied("orders", "2026-07-01T00:00:00Z"),
        proxied("orders", "2026-08-10T00:00:00Z"),
        proxied("payments", "2026-08-15T00:00:00Z"),
    )
    first, second = joined(mesh(by_label, by_pod, pods=pods))
    assert (first.name, first.label, f"{first.latest:%Y-%m-%d}") == ("orders", "istio-injection=enabled", "2026-07-01")
    assert (second.name, second.label, f"{second.latest:%Y-%m-%d}") == ("payments", "istio.io/rev=canary", "2026-08-01")
    assert f"{first.earliest:%Y-%m-%d}" == "2025-01-01"


@pytest.mark.parametrize(
    ("risk", "expected"),
    [
        ("low", {}),
        ("medium", {"MR411-FIRST-NOT-LOW": Level.WARNING}),
        ("high", {"MR411-FIRST-HIGH": Level.ERROR}),
        ("", {"MR411-FIRST-UNRATED": Level.WARNING}),
    ],
)
def test_the_first_namespace_must_be_low_risk(risk: str, expected: dict[str, Level]) -> None:
    """Fault first-namespace-high-risk; the rating is an annotation, or in the settings."""
    spaces = (space("payments", risk=risk, labelled="2025-02-01T00:00:00Z"), space("late", created="2026-01-01T00:00:00Z"))
    assert codes(low_risk_first(mesh(*spaces))) == expected
    by_settings = {"payments": risk} if risk else {}
    assert codes(low_risk_first(mesh(space("payments")), by_settings)) == expected


def test_the_settings_win_over_the_annotation() -> None:
    """What the team's repository says is reviewed."""
    assert low_risk_first(mesh(space("payments", risk="high")), {"payments": "low"}).status is Status.PASSED


def test_where_several_may_have_been_first_all_must_be_low() -> None:
    """Two old namespaces, labelled nobody knows when: nothing is said against either."""
    spaces = (space("payments", labelled="2026-08-01T00:00:00Z"), space("orders", labelled="2026-08-02T00:00:00Z"))
    judgement = low_risk_first(mesh(*spaces), {"payments": "high", "orders": "low"})
    assert (judgement.status, judgement.findings) == (Status.NOT_VERIFIED, ())
    assert judgement.reason == "which namespace joined the mesh first is not known: it may have been any of payments, orders"
    assert low_risk_first(mesh(*spaces), {"payments": "low", "orders": "low"}).status is Status.PASSED


def test_a_namespace_that_was_made_later_was_not_the_first() -> None:
    """Its making is the earliest day on which it can have joined."""
    spaces = (space("payments", labelled="2026-08-01T00:00:00Z"), space("orders", created="2026-08-02T00:00:00Z"))
    assert codes(low_risk_first(mesh(*spaces), {"payments": "low"})) == {}


@dataclass(frozen=True)
class Logged:
    """A line of a rollout log."""

    namespace: str
    day: date


def test_a_namespace_that_the_log_does_not_know_fails() -> None:
    """Fault not-in-rollout-log."""
    log = (Logged("payments", date(2026, 8, 1)),)
    judgement = namespace_by_namespace(mesh(space("payments"), space("orders")), log)
    (finding,) = judgement.findings
    assert (finding.code, finding.level, str(finding.object)) == ("MR1011-NOT-LOGGED", Level.ERROR, "Namespace/orders")
    assert namespace_by_namespace(mesh(space("payments")), log).status is Status.PASSED


def test_two_entries_of_one_day_warn() -> None:
    """Nobody can tell whose effect it was."""
    log = (Logged("payments", date(2026, 8, 1)), Logged("orders", date(2026, 8, 1)), Logged("ledger", date(2026, 8, 2)))
    judgement = namespace_by_namespace(mesh(space("payments"), space("orders"), space("ledger")), log)
    assert codes(judgement) == {"MR1011-SAME-DAY": Level.WARNING}


def test_without_a_log_dates_are_only_shown() -> None:
    """What objects tell of days is too little to blame anybody; what was made in the mesh never joined it."""
    spaces = (space("payments", labelled="2026-08-01T10:00:00Z"), space("orders", labelled="2026-08-01T12:00:00Z"))
    judgement = namespace_by_namespace(mesh(*spaces))
    assert judgement.status is Status.PASSED
    assert codes(judgement) == {"MR1011-TOO-FAST": Level.INFO}
    born = tuple(space(name, created="2026-08-01T10:00:00Z", labelled="2026-08-01T10:00:00Z") for name in ("a", "b"))
    assert codes(namespace_by_namespace(mesh(*born))) == {}


@pytest.mark.parametrize("rule", [low_risk_first, namespace_by_namespace])
def test_nothing_in_the_mesh_and_nothing_read(rule: object) -> None:
    """Neither passes."""
    assert callable(rule)
    assert rule(mesh()).status is Status.NOT_VERIFIED
    for key in ("namespaces", "node_pods"):
        refused = make.refusal(key, namespace="")
        read = tuple(item for item in make.snapshot().read if item != key)
        judgement = rule(msgspec.structs.replace(mesh(space("payments", risk="low")), refusals=(refused,), read=read))
        assert judgement.status is Status.NOT_VERIFIED
        assert refused.reason in judgement.reason
