"""One document from everything that is known after a run."""

from __future__ import annotations

import random
from datetime import date, datetime, timedelta, timezone

import pytest

from pytest_meshready.checklist.lines import Section
from pytest_meshready.report.build import build
from pytest_meshready.report.facts import Attestation
from pytest_meshready.report.model import Readiness, dumps, loads
from pytest_meshready.results import Evidence, Level, Part, Severity, Status, Unknown
from tests.unit.report_samples import (
    SECTIONS,
    facts,
    finding,
    line,
    no_sidecar,
    part,
    record,
    shop,
    small,
    small_lines,
    waiver,
)


def statuses(readiness: Readiness) -> dict[str, Status]:
    """Every line's status."""
    return {item.id: item.status for item in readiness.items}


def test_every_line_is_there_whatever_ran() -> None:
    """Without a record a line says why."""
    readiness = small()
    assert [item.id for item in readiness.items] == ["1.1.1", "1.2.4", "4.2.1", "4.2.3", "7.1.1", "12.5"]
    assert [item.reason for item in readiness.items] == [
        "no check for this line yet",
        "no check for this line yet",
        "its check did not run",
        "no check for this line yet",
        "belongs to phase permissive, this run is in strict",
        "its check did not run",
    ]


def test_the_whole_catalogue_is_there() -> None:
    """93 lines and the team's own one."""
    readiness = shop()
    assert len([item for item in readiness.items if not item.custom]) == 93
    assert [section.id for section in readiness.sections] == [*map(str, range(1, 14)), "team"]


def test_every_status_is_counted_by_section() -> None:
    """Also those that no line has, so that nobody must guess."""
    section = next(section for section in small(no_sidecar()).sections if section.id == "4")
    assert section.counts[Status.FAILED] == 1
    assert section.counts[Status.NOT_VERIFIED] == 1
    assert set(section.counts) == set(Status)
    assert sum(section.counts.values()) == 2


def test_a_teams_line_stands_behind_its_section() -> None:
    """In the order in which the team wrote them."""
    lines = (*small_lines(), line("4.9.2", custom=True), line("4.9.1", custom=True))
    readiness = build(facts(), lines, SECTIONS, ())
    assert [item.id for item in readiness.items] == ["1.1.1", "1.2.4", "4.2.1", "4.2.3", "4.9.2", "4.9.1", "7.1.1", "12.5"]


def test_a_teams_line_of_no_section_stands_at_the_end() -> None:
    """In a section of its own, which is there only then."""
    lines = (line("own", section="shop", custom=True), *small_lines())
    readiness = build(facts(), lines, SECTIONS, ())
    assert (readiness.items[-1].id, readiness.items[-1].section) == ("own", "team")
    assert (readiness.sections[-1].id, readiness.sections[-1].title) == ("team", "Team's own lines")
    assert small().sections[-1].id == "12"


def test_a_line_carries_what_its_checks_found() -> None:
    """Checks, parts, findings, evidence, seconds."""
    evidence = (Evidence(kind="table", source="pods", data=[{"pod": "orders-1"}]), Evidence(kind="text", source="pods", text="3 pods"))
    first = record(part(Status.FAILED, reason="no", findings=(finding(),), evidence=evidence), seconds=0.5)
    second = record(part(Status.PASSED, Part.LIVE, reason="yes"), nodeid="tests/test_own.py::test_wire", shipped=False, seconds=1.25)
    item = small(second, first).items[2]
    assert (item.status, item.reason, item.seconds) == (Status.FAILED, "no", 1.75)
    assert [(check.nodeid, check.status, check.reason, check.seconds) for check in item.checks] == [
        ("meshready/s04.py::test_4_2_1", Status.FAILED, "no", 0.5),
        ("tests/test_own.py::test_wire", Status.PASSED, "yes", 1.25),
    ]
    assert [(found.part, found.status, found.asked) for found in item.parts] == [
        (Part.STATIC, Status.FAILED, True),
        (Part.LIVE, Status.PASSED, True),
    ]
    assert [found.fingerprint for found in item.findings] == [finding().fingerprint]
    assert item.evidence[0].data == [{"pod": "orders-1"}]
    assert item.evidence[1].text == "3 pods"


def test_a_part_that_was_not_asked_is_told_apart() -> None:
    """A machine that reads the report sees it without reading sentences."""
    item = small(record(part())).items[2]
    assert [(found.part, found.status, found.asked) for found in item.parts] == [
        (Part.STATIC, Status.PASSED, True),
        (Part.LIVE, Status.NOT_VERIFIED, False),
    ]


def test_errors_stand_before_warnings_and_double_findings_stand_once() -> None:
    """Two checks may read the same objects."""
    found = (finding("web", Level.INFO), finding("web", Level.WARNING), finding("orders"))
    item = small(record(part(Status.FAILED, findings=found)), record(part(Status.FAILED, findings=found), nodeid="own.py::test")).items[2]
    assert [(one.severity, one.object.name) for one in item.findings] == [("error", "orders"), ("warning", "web"), ("info", "web")]


def test_a_waiver_hides_no_finding() -> None:
    """The line is waived and the findings are all there."""
    lines = (line(),)
    readiness = small(record(part(Status.FAILED, findings=(finding(),))), lines=lines, waivers=(waiver(),))
    assert readiness.items[0].status is Status.WAIVED
    assert len(readiness.items[0].findings) == 1
    assert readiness.items[0].waiver is not None
    assert readiness.items[0].waiver.applied


def test_every_waiver_is_listed_with_what_became_of_it() -> None:
    """Also one that expired and one that names no line."""
    given = (waiver(item="9.9.9"), waiver(item="12.5", expires=date(2026, 1, 1)), waiver())
    readiness = small(record(part(Status.FAILED, findings=(finding(),))), lines=(line(), line("12.5")), waivers=given)
    assert [(one.item, one.applied, one.note) for one in readiness.waivers] == [
        ("4.2.1", True, "applies until 2026-12-31"),
        ("12.5", False, "expired on 2026-01-01, so it no longer applies"),
        ("9.9.9", False, "names no line: 9.9.9"),
    ]


def test_a_changed_severity_is_shown() -> None:
    """With the severity that the checklist gives."""
    readiness = small(
        lines=(line(severity=Severity.MINOR), line("12.5")), catalogue_severities={"4.2.1": Severity.BLOCKER, "12.5": Severity.BLOCKER}
    )
    assert [item.severity_changed_from for item in readiness.items] == [Severity.BLOCKER, None]


def test_a_statement_is_part_of_the_document() -> None:
    """With its days, and whether it counted."""
    said = Attestation(
        item="1.2.4", who="Jane Roe", date=date(2026, 9, 1), expires=date(2026, 10, 1), link="https://wiki.example.com/change"
    )
    item = small(attestations={"1.2.4": said}).items[1]
    assert item.status is Status.TO_ATTEST
    assert item.attestation is not None
    assert (item.attestation.who, item.attestation.link, item.attestation.counted) == ("Jane Roe", "https://wiki.example.com/change", False)


def test_missing_rights_are_merged_over_the_lines() -> None:
    """One row for each right, with the lines that miss it in the checklist's order."""
    pods = Unknown(reason="403", verb="list", resource="pods", namespace="payments")
    nodes = Unknown(reason="403", verb="list", resource="nodes")
    odd = Unknown(reason="the answer made no sense")
    readiness = small(
        record(part(Status.NOT_VERIFIED, unknown=(pods, nodes, odd)), item="12.5"),
        record(part(Status.NOT_VERIFIED, unknown=(pods,)), item="4.2.1"),
        record(part(Status.NOT_VERIFIED, unknown=(pods,)), item="7.1.1"),
        refused={"1.1.1": (pods,), "4.2.1": (pods,)},
    )
    assert [(one.verb, one.resource, one.namespace, one.items) for one in readiness.not_permitted] == [
        ("list", "nodes", "", ("12.5",)),
        ("list", "pods", "payments", ("1.1.1", "4.2.1", "12.5")),
    ]


def test_lines_that_were_not_selected_miss_no_right() -> None:
    """Nobody asked for them."""
    pods = Unknown(reason="403", verb="list", resource="pods", namespace="payments")
    readiness = small(record(part(), part(Status.PASSED, Part.LIVE)), selected=frozenset({"4.2.1"}), refused={"1.1.1": (pods,)})
    assert readiness.not_permitted == ()


def test_the_problem_of_the_run_reaches_the_lines_without_records() -> None:
    """Those of another phase keep their own reason."""
    readiness = small(problem="the API server did not answer within 10 s")
    reasons = {item.reason for item in readiness.items if item.status is Status.NOT_VERIFIED}
    assert reasons == {"the API server did not answer within 10 s"}
    assert statuses(readiness)["7.1.1"] is Status.NOT_DUE


def test_an_early_end_is_the_reason_of_checks_that_did_not_run() -> None:
    """Not of lines for which there is no check."""
    readiness = small(complete=False)
    assert [item.reason for item in readiness.items[:3]] == [
        "no check for this line yet",
        "no check for this line yet",
        "the run ended before its check ran",
    ]
    assert readiness.run.complete is False


def test_the_order_in_which_records_come_home_does_not_matter() -> None:
    """With workers they come as they please; the document is the same to the byte."""
    records = [
        no_sidecar(),
        record(part(Status.WARNED, findings=(finding(level=Level.WARNING),)), nodeid="tests/b.py::test", shipped=False),
        record(part(reason="2 replicas"), nodeid="tests/a.py::test", shipped=False),
        record(part(reason="1.30.3 is supported"), item="12.5"),
    ]
    expected = dumps(small(*records))
    for seed in range(5):
        random.Random(seed).shuffle(records)
        assert dumps(small(*records)) == expected


def test_times_are_utc_in_whole_seconds() -> None:
    """Whatever the clock of the runner."""
    local = datetime(2026, 11, 25, 9, 30, 0, 123456, tzinfo=timezone(timedelta(hours=1)))
    run = small(started=local, finished=local + timedelta(seconds=5)).run
    assert (run.started.isoformat(), run.finished.isoformat()) == ("2026-11-25T08:30:00+00:00", "2026-11-25T08:30:05+00:00")


def test_the_document_can_be_read_again() -> None:
    """What was written equals what is read."""
    readiness = shop()
    assert loads(dumps(readiness)) == readiness


def test_a_foreign_document_is_refused_in_one_sentence() -> None:
    """A later schema, or something else altogether."""
    with pytest.raises(ValueError, match=r"not a readiness\.json of schema 1"):
        loads(b'{"schema_version": 2}')


def test_evidence_of_any_shape_becomes_plain_data() -> None:
    """A set, a date or a path in a check's evidence does not break the report."""
    data = {"seen": {"b", "a"}, "on": date(2026, 11, 25), 3: Section(id="1", title="t", subsections={})}
    item = small(record(part(evidence=(Evidence(kind="facts", source="check", data=data),)))).items[2]
    assert item.evidence[0].data == {"3": {"id": "1", "title": "t", "subsections": {}}, "on": "2026-11-25", "seen": ["a", "b"]}
