"""Lines, records and runs for the tests of the report: a small checklist of four sections, and a shop with two faults."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from datetime import UTC, date, datetime
from typing import Any

from pytest_meshready.checklist.lines import Line, Phase, Section
from pytest_meshready.report.build import build
from pytest_meshready.report.decide import Waiver
from pytest_meshready.report.facts import RunFacts
from pytest_meshready.report.model import Readiness
from pytest_meshready.results import CheckRecord, Evidence, Finding, Level, ObjectRef, Part, PartRecord, Severity, Status, Unknown

STARTED = datetime(2026, 11, 25, 8, 0, 0, tzinfo=UTC)
FINISHED = datetime(2026, 11, 25, 8, 0, 4, tzinfo=UTC)
TODAY = date(2026, 11, 25)

SECTIONS = (
    Section(id="1", title="Pre-Rollout Readiness", subsections={"1.1": "Architecture & Scope", "1.2": "Team & Process Readiness"}),
    Section(id="4", title="Namespace & Sidecar Strategy", subsections={"4.2": "Injection Validation"}),
    Section(id="7", title="Security Rollout (Gradual Zero Trust)", subsections={"7.1": "Phase 1", "7.2": "Phase 2"}),
    Section(id="12", title="Ongoing Maintenance", subsections={}),
)


def line(id_: str = "4.2.1", parts: Iterable[Part] = (Part.STATIC,), **given: Any) -> Line:
    """A line; by default a static blocker of every phase for which a check exists."""
    section, _, _ = id_.partition(".")
    subsection = id_.rpartition(".")[0] if id_.count(".") > 1 else ""
    values: dict[str, Any] = {
        "id": id_,
        "section": section,
        "subsection": subsection,
        "text": f"The words of {id_}",
        "severity": Severity.BLOCKER,
        "parts": tuple(parts),
        "reads": ("pods",),
    }
    return Line(**{**values, **given})


def finding(name: str = "orders", level: Level = Level.ERROR, **given: Any) -> Finding:
    """A finding about a Deployment of the shop."""
    values: dict[str, Any] = {
        "code": "MR421-NO-SIDECAR",
        "level": level,
        "object": ObjectRef(kind="Deployment", name=name, namespace="payments"),
        "found": f"{name}-7d9c4b8f6-abcde: containers [app]",
        "wanted": "exactly one istio-proxy in every pod",
        "fix": f"kubectl rollout restart deployment/{name} -n payments",
    }
    return Finding(**{**values, **given})


def part(status: Status = Status.PASSED, kind: Part | None = Part.STATIC, **given: Any) -> PartRecord:
    """What a check found of one part."""
    return PartRecord(**{"part": kind, "status": status, "reason": f"{status.words} it is", **given})


def record(*parts: PartRecord, item: str = "4.2.1", **given: Any) -> CheckRecord:
    """What a check sends home."""
    test = f"meshready/s{item.partition('.')[0]:0>2}.py::test_{item.replace('.', '_')}"
    return CheckRecord(**{"nodeid": test, "items": (item,), "parts": parts, "seconds": 0.25, "shipped": True, **given})


def waiver(**given: Any) -> Waiver:
    """A waiver of 4.2.1 that is in force."""
    values: dict[str, Any] = {"item": "4.2.1", "reason": "legacy batch", "who": "Jane Roe", "expires": date(2026, 12, 31)}
    return Waiver(**{**values, **given})


def facts(**given: Any) -> RunFacts:
    """A run in phase strict that somebody asked for."""
    values: dict[str, Any] = {
        "run_id": "3f2a9c01",
        "started": STARTED,
        "finished": FINISHED,
        "namespace": "payments",
        "phase": Phase.STRICT,
        "phase_source": "option",
        "plugin_version": "0.1.0",
        "context": "shop-admin@shop",
        "cluster_uid": "6f0e4d1c-0000-4000-8000-000000000000",
        "kubernetes_version": "1.34.1",
        "istio_version": "1.30.3",
        "istio_revision": "default",
    }
    return RunFacts(**{**values, **given})


def small_lines() -> tuple[Line, ...]:
    """Six lines of four sections: every kind of reason can be made from them."""
    return (
        line("1.1.1", (Part.STATIC, Part.ATTEST), text="Microservices architecture is stable", severity=Severity.MAJOR, reads=()),
        line("1.2.4", (Part.ATTEST,), text="Change window approved", reads=(), last=Phase.EXPAND),
        line("4.2.1", (Part.STATIC, Part.LIVE), text="Pods contain exactly one Envoy sidecar"),
        line("4.2.3", text="Application logs unchanged", severity=Severity.MINOR, reads=()),
        line("7.1.1", text="mTLS enabled in PERMISSIVE mode", first=Phase.PERMISSIVE, last=Phase.PERMISSIVE),
        line("12.5", text="Stay within supported Istio versions"),
    )


def small(*records: CheckRecord, lines: tuple[Line, ...] | None = None, **given: Any) -> Readiness:
    """The small checklist after these records."""
    return build(facts(**given), small_lines() if lines is None else lines, SECTIONS, records)


def no_sidecar() -> CheckRecord:
    """Two of three pods of one Deployment have no sidecar."""
    found = finding(found="orders-7d9c4b8f6-abcde, orders-7d9c4b8f6-fghij: containers [app]")
    reason = f"{found.object}: {found.found}"
    return record(part(Status.FAILED, reason=reason, findings=(found,)))


def shop() -> Readiness:
    """The shop in phase strict, read-only, with every kind of status, on the real catalogue."""
    from pytest_meshready.checklist import catalogue

    shipped = catalogue.load()
    custom = line(
        "team.1",
        (Part.STATIC,),
        section="team",
        subsection="",
        text="Every Deployment names its owner",
        custom=True,
        severity=Severity.MAJOR,
    )
    changed = tuple(dataclasses.replace(ln, severity=Severity.MINOR) if ln.id == "4.1.3" else ln for ln in shipped.lines)
    return build(
        facts(
            read_only=True,
            waivers=(
                waiver(item="2.2.1", reason="single replica until the migration is over", who="Max Power"),
                waiver(item="3.1.4", expires=date(2026, 10, 31)),
            ),
            catalogue_severities={ln.id: ln.severity for ln in shipped.lines},
            team_passed=2,
        ),
        (*changed, custom),
        shipped.sections,
        _shop_records(),
    )


def _shop_records() -> tuple[CheckRecord, ...]:
    ha = ObjectRef(kind="Deployment", name="istiod", namespace="istio-system")
    pdb = finding(
        name="ledger",
        code="MR221-NO-PDB",
        found="3 replicas, no PodDisruptionBudget selects its pods",
        wanted="a PodDisruptionBudget that allows one pod at a time to go",
        fix="create one: kubectl create poddisruptionbudget ledger -n payments --selector=app=ledger --max-unavailable=1",
    )
    version = finding(
        name="gateway",
        level=Level.WARNING,
        code="MR1124-OLD-PROXY",
        found="gateway-6c5d-xxxxx runs proxy 1.29.6, the control plane is 1.30.3",
        wanted="proxies of the control plane's version",
        fix="restart it: kubectl rollout restart deployment/gateway -n payments",
    )
    table = Evidence(kind="table", source="pods of payments", data=[{"pod": "ledger-0", "proxies": 1}, {"pod": "orders-1", "proxies": 0}])
    two = (
        finding("orders"),
        finding("web-" + "x" * 60, found="web-1, web-2 and web-3 and 4 more: <script>alert(1)</script> containers [app]"),
    )
    refused = Unknown(reason="no right to list nodes", verb="list", resource="nodes")
    refused_policies = Unknown(
        reason="no right to list networkpolicies.networking.k8s.io in payments",
        verb="list",
        resource="networkpolicies.networking.k8s.io",
        namespace="payments",
    )
    istiod = Finding(
        code="MR314-ONE-REPLICA",
        level=Level.ERROR,
        object=ha,
        found="1 replica, autoscaleMin 1",
        wanted="at least 2 replicas on different nodes",
        fix="set the Helm values: helm upgrade istiod istio/istiod -n istio-system --reuse-values --set autoscaleMin=2",
    )
    return (
        record(part(reason="7 Services name their protocols"), item="1.1.3"),
        record(part(reason="namespace payments exists and is labelled"), item="1.1.4"),
        record(part(Status.FAILED, reason=f"{pdb.object}: {pdb.found}", findings=(pdb,)), item="2.2.1"),
        record(part(Status.NOT_VERIFIED, reason=refused.reason, unknown=(refused,)), item="2.2.2"),
        record(part(Status.NOT_VERIFIED, reason=refused_policies.reason, unknown=(refused_policies,)), item="2.2.3"),
        record(part(Status.FAILED, reason=f"{ha}: {istiod.found}", findings=(istiod,)), item="3.1.4"),
        record(part(reason="2 of 2 replicas of istiod are ready"), item="3.2.1"),
        record(part(reason="no container restarted in the last hour"), item="3.2.2"),
        record(part(reason="lease istio-leader is held by istiod-7f"), item="3.2.3"),
        record(part(reason="namespace is labelled istio-injection=enabled"), item="4.1.2"),
        record(part(Status.WARNED, reason="payments: warns", findings=(version,)), item="4.1.3"),
        record(part(Status.FAILED, reason="payments/Deployment/orders: no sidecar (and 1 more)", findings=two, evidence=(table,))),
        record(part(Status.FAILED, reason="STRICT is not on", findings=(finding("db", code="MR723-PERMISSIVE"),)), item="7.2.3"),
        record(part(Status.PASSED, None, reason="test_owner passed"), item="team.1", shipped=False, nodeid="tests/test_own.py::test_owner"),
    )
