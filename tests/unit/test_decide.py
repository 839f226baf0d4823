"""How the status of a line follows from what its checks found (DESIGN, Rules that follow)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any

import pytest

from pytest_meshready.checklist.lines import Line, Phase
from pytest_meshready.report.decide import Decision, line_decision, line_status
from pytest_meshready.report.facts import Attestation
from pytest_meshready.results import CheckRecord, Judgement, Level, Part, Severity, Status, Unknown
from tests.unit.report_samples import TODAY, finding, line, part, record, waiver

STATIC_LIVE = (Part.STATIC, Part.LIVE)


def decide(given_line: Line, *records: CheckRecord, **given: Any) -> Decision:
    """A line in phase strict, on the day of the samples."""
    values: dict[str, Any] = {"phase": Phase.STRICT, "today": TODAY, **given}
    return line_decision(given_line, records, **values)


def statements(**given: Any) -> Mapping[str, Attestation]:
    """One statement about 4.2.1."""
    values: dict[str, Any] = {"item": "4.2.1", "who": "Jane Roe", "date": date(2026, 11, 1), "expires": date(2027, 1, 31)}
    return {"4.2.1": Attestation(**{**values, **given})}


# --- parts ---


def test_a_check_that_saw_nothing_does_not_pass() -> None:
    """No object examined, no finding: not verified."""
    nothing = Judgement(summary="all is well", examined=0)
    decision = decide(line(), record(part(nothing.status, reason=nothing.reason)))
    assert (decision.status, decision.reason) == (Status.NOT_VERIFIED, "there was nothing to look at")


def test_a_passed_line_keeps_the_sentence_of_its_check() -> None:
    """One static part that passes is all that a static line needs."""
    decision = decide(line(), record(part(reason="3 pods have one proxy each")))
    assert (decision.status, decision.reason) == (Status.PASSED, "3 pods have one proxy each")


@pytest.mark.parametrize(
    ("static", "live", "expected"),
    [
        (Status.FAILED, Status.NOT_VERIFIED, Status.FAILED),
        (Status.NOT_VERIFIED, Status.WARNED, Status.NOT_VERIFIED),
        (Status.TO_ATTEST, Status.WARNED, Status.TO_ATTEST),
        (Status.WARNED, Status.ATTESTED, Status.WARNED),
        (Status.ATTESTED, Status.PASSED, Status.ATTESTED),
        (Status.PASSED, Status.FAILED, Status.FAILED),
        (Status.PASSED, Status.PASSED, Status.PASSED),
        (Status.NOT_APPLICABLE, Status.PASSED, Status.PASSED),
        (Status.NOT_APPLICABLE, Status.NOT_APPLICABLE, Status.NOT_APPLICABLE),
    ],
)
def test_the_worst_required_part_counts(static: Status, live: Status, expected: Status) -> None:
    """In the order failed, not verified, to attest, warned, attested, passed."""
    decision = decide(line(parts=STATIC_LIVE), record(part(static), part(live, Part.LIVE)))
    assert decision.status is expected


def test_parts_may_come_from_two_checks() -> None:
    """One test reads the configuration, another one sends traffic."""
    first = record(part())
    second = record(part(Status.FAILED, Part.LIVE, reason="plaintext was answered"), nodeid="tests/test_own.py::test_wire")
    decision = decide(line(parts=STATIC_LIVE), first, second)
    assert (decision.status, decision.reason) == (Status.FAILED, "plaintext was answered")


def test_of_two_checks_of_one_part_the_worse_counts() -> None:
    """A second check cannot make a failure disappear."""
    decision = decide(line(), record(part()), record(part(Status.FAILED, reason="no")), record(part(Status.WARNED)))
    assert (decision.status, decision.reason) == (Status.FAILED, "no")


def test_reasons_with_one_beginning_are_one_clause() -> None:
    """Each once, what they share said once, in an order that two lines have in common; others stand beside them."""
    reasons = ("manifests only: nothing of other namespaces", "no gateway was found", "manifests only: no pods yet", "no gateway was found")
    judgement = Judgement(examined=1, unknown=tuple(Unknown(reason=reason) for reason in reasons))
    assert judgement.reason == "manifests only: no pods yet, nothing of other namespaces; no gateway was found"
    decision = decide(line(parts=STATIC_LIVE), record(part(judgement.status, reason=judgement.reason)))
    assert decision.reason == f"{judgement.reason}; wire not asked"


def test_records_of_other_lines_are_left_aside() -> None:
    """Only a record that names the line counts for it."""
    assert decide(line(), record(part(), item="4.1.2")).status is Status.NOT_VERIFIED


@pytest.mark.parametrize(
    ("missing", "words"),
    [
        (Part.LIVE, "configuration passes, wire not asked (this version has no live check of it yet)"),
        (Part.METRICS, "configuration passes, metrics not asked (this version has no metrics check of it yet)"),
        (Part.DRILL, "configuration passes, drill not run (this version has no drill check of it yet)"),
        (Part.ATTEST, "configuration passes, no statement by a person (this version reads no statements yet)"),
    ],
)
def test_a_required_part_without_record_is_not_verified(missing: Part, words: str) -> None:
    """The reason says what the other parts found, what was not asked, and why."""
    decision = decide(line(parts=(Part.STATIC, missing)), record(part()))
    assert (decision.status, decision.reason) == (Status.NOT_VERIFIED, words)


def test_two_missing_parts_are_said_in_one_sentence() -> None:
    """Causes that two parts share are put together."""
    decision = decide(line(parts=(Part.STATIC, Part.LIVE, Part.METRICS)), record(part()))
    said = "configuration passes, wire not asked, metrics not asked (this version has no live check and no metrics check of it yet)"
    assert decision.reason == said


@pytest.mark.parametrize(
    ("missing", "given", "why"),
    [
        (Part.LIVE, {"read_only": True}, "wire not asked (this run is read-only)"),
        (Part.DRILL, {}, "drill not run (it takes --mesh-drills)"),
        (Part.METRICS, {"offline": True}, "metrics not asked (there is no cluster in this run)"),
        (Part.LIVE, {"offline": True, "read_only": True}, "wire not asked (there is no cluster in this run)"),
        (Part.LIVE, {"unrun": "the run ended before its check ran"}, "wire not asked (the run ended before its check ran)"),
    ],
)
def test_a_part_that_the_run_did_not_perform_says_why(missing: Part, given: dict[str, object], why: str) -> None:
    """Where a check exists the cause is the run's, not the version's."""
    decision = decide(line(parts=(Part.STATIC, missing)), record(part()), built=frozenset({Part.STATIC, missing}), **given)
    assert (decision.status, decision.reason) == (Status.NOT_VERIFIED, f"configuration passes, {why}")


def test_read_only_is_no_excuse_for_a_check_that_does_not_exist() -> None:
    """Without --mesh-read-only the wire would not be asked either, so that is the cause."""
    decision = decide(line(parts=STATIC_LIVE), record(part()), read_only=True)
    assert decision.reason == "configuration passes, wire not asked (this version has no live check of it yet)"


def test_configuration_that_fails_fails_the_line_without_the_wire() -> None:
    """The finding's sentence is the reason."""
    reason = "payments/Deployment/orders: containers [app]"
    decision = decide(line(parts=STATIC_LIVE), record(part(Status.FAILED, reason=reason)))
    assert (decision.status, decision.reason) == (Status.FAILED, reason)


def test_configuration_that_warns_does_not_pass_the_wire() -> None:
    """A warning is said, and the line stays not verified."""
    decision = decide(line(parts=STATIC_LIVE), record(part(Status.WARNED, reason="2 workloads: old proxy")))
    assert decision.status is Status.NOT_VERIFIED
    assert decision.reason.startswith("configuration warns: 2 workloads: old proxy, wire not asked")


def test_the_data_plane_decides() -> None:
    """The wire fails a line whose configuration looks well."""
    decision = decide(line(parts=STATIC_LIVE), record(part(), part(Status.FAILED, Part.LIVE, reason="port 8081 answered plaintext")))
    assert (decision.status, decision.reason) == (Status.FAILED, "port 8081 answered plaintext")


def test_configuration_that_cannot_be_read_is_the_reason() -> None:
    """Where the configuration could not be read, it does not matter why the wire was not asked."""
    refused = part(Status.NOT_VERIFIED, reason="no right to list pods in payments")
    assert decide(line(parts=STATIC_LIVE), record(refused)).reason == "no right to list pods in payments, wire not asked"


@pytest.mark.parametrize(
    ("optional", "expected"),
    [
        (Status.FAILED, Status.FAILED),
        (Status.WARNED, Status.WARNED),
        (Status.NOT_VERIFIED, Status.PASSED),
        (Status.TO_ATTEST, Status.PASSED),
        (Status.PASSED, Status.PASSED),
    ],
)
def test_an_optional_part_only_worsens(optional: Status, expected: Status) -> None:
    """What it saw counts; what it could not see does not."""
    given = line(optional=(Part.DRILL,))
    assert decide(given, record(part(), part(optional, Part.DRILL))).status is expected


def test_an_optional_part_does_not_stand_for_a_required_one() -> None:
    """A line that needs its configuration read is not verified by a drill."""
    given = line(optional=(Part.DRILL,))
    decision = decide(given, record(part(kind=Part.DRILL)))
    assert decision.status is Status.NOT_VERIFIED
    assert decision.reason == "configuration not read (its check did not run)"


def test_an_absent_optional_part_is_not_missed() -> None:
    """A line passes without it."""
    assert decide(line(optional=(Part.METRICS,)), record(part())).status is Status.PASSED


@pytest.mark.parametrize(
    ("own", "expected"),
    [(Status.FAILED, Status.FAILED), (Status.NOT_VERIFIED, Status.NOT_VERIFIED), (Status.PASSED, Status.PASSED)],
)
def test_a_teams_own_test_is_one_more_required_part(own: Status, expected: Status) -> None:
    """It can fail a shipped line or leave it open, and does not replace its parts."""
    decision = decide(line(), record(part()), record(part(own, None), nodeid="tests/test_own.py::test_it"))
    assert decision.status is expected


def test_a_teams_own_test_does_not_stand_for_the_shipped_part() -> None:
    """The configuration was still not read."""
    decision = decide(line(), record(part(kind=None)))
    assert decision.status is Status.NOT_VERIFIED
    assert decision.reason == "own test passes, configuration not read (its check did not run)"


def test_a_teams_own_line_is_decided_by_the_teams_test() -> None:
    """Nothing else could decide it."""
    decision = decide(line("team.1", custom=True), record(part(kind=None, reason="test_owner passed"), item="team.1"))
    assert (decision.status, decision.reason) == (Status.PASSED, "test_owner passed")


def test_a_teams_own_line_without_a_test_says_what_to_write() -> None:
    """The mark is the way out."""
    decision = decide(line("team.1", (), custom=True, reads=()))
    assert (decision.status, decision.reason) == (Status.NOT_VERIFIED, 'no test carries mesh_item("team.1")')


def test_what_does_not_apply_needs_no_traffic() -> None:
    """A feature that is not used, shown by a permitted and empty list, is not asked for on the wire."""
    unused = part(Status.NOT_APPLICABLE, reason="no Gateway in payments")
    decision = decide(line(parts=(Part.STATIC, Part.LIVE, Part.ATTEST)), record(unused))
    assert (decision.status, decision.reason) == (Status.NOT_APPLICABLE, "no Gateway in payments")


def test_a_part_that_does_not_apply_is_said_beside_one_that_could_not_be_seen() -> None:
    """The other part decides, and the reason still says both."""
    decision = decide(
        line(parts=STATIC_LIVE), record(part(Status.NOT_APPLICABLE), part(Status.NOT_VERIFIED, Part.LIVE, reason="no node fits"))
    )
    assert (decision.status, decision.reason) == (Status.NOT_VERIFIED, "configuration does not apply, no node fits")


@pytest.mark.parametrize("given", [(), (part(),)])
def test_a_check_that_broke_leaves_its_line_not_verified(given: tuple[object, ...]) -> None:
    """The cause is the reason, also beside a part that was already found."""
    broken = record(*given, cause="its set-up broke: ConnectionRefusedError")  # type: ignore[arg-type]
    decision = decide(line(), broken)
    assert decision.status is Status.NOT_VERIFIED
    assert "its set-up broke: ConnectionRefusedError" in decision.reason


# --- lines without a record ---


def test_a_line_without_a_check_says_so() -> None:
    """Nothing is taken for granted."""
    assert line_status(line(reads=()), (), phase=Phase.STRICT, today=TODAY) == (Status.NOT_VERIFIED, "no check for this line yet")


def test_a_line_without_a_check_names_the_rights_it_lacks() -> None:
    """With no rights at all every line names verb and resource; the shared part of the sentence groups such lines."""
    refused = [
        Unknown(reason="403", verb="list", resource=resource, namespace=namespace)
        for resource, namespace in (("pods", "payments"), ("nodes", ""), ("services", "payments"), ("secrets", "payments"))
    ]
    decision = decide(line(reads=()), refused=refused)
    assert decision.reason == (
        "no check for this line yet; missing rights: list pods in payments, list nodes (cluster-wide), list services in payments and 1 more"
    )
    assert decision.group == "no check for this line yet"


def test_a_problem_of_the_run_is_the_reason_of_lines_without_records() -> None:
    """An unreachable API server is said once for all."""
    assert decide(line(), problem="the API server did not answer in 10 s").reason == "the API server did not answer in 10 s"


def test_a_line_whose_check_did_not_run_says_so() -> None:
    """After Ctrl-C the check exists and left no record."""
    assert decide(line(), unrun="the run ended before its check ran").reason == "the run ended before its check ran"


def test_a_line_that_was_not_selected_says_so() -> None:
    """It is not verified, whatever its severity."""
    decision = decide(line(), unselected="not selected by --mesh-items")
    assert (decision.status, decision.reason) == (Status.NOT_VERIFIED, "not selected by --mesh-items")


@pytest.mark.parametrize(
    ("first", "last", "words"),
    [
        (Phase.PERMISSIVE, Phase.STRICT, "belongs to phases permissive..strict, this run is in hardened"),
        (Phase.PERMISSIVE, Phase.PERMISSIVE, "belongs to phase permissive, this run is in hardened"),
        (Phase.GOLIVE, Phase.GOLIVE, "belongs to phase golive, this run is in hardened"),
    ],
)
def test_a_line_of_another_phase_is_not_due(first: Phase, last: Phase, words: str) -> None:
    """Whatever a check found: the checklist contradicts itself without the phase."""
    decision = decide(line(first=first, last=last), record(part(Status.FAILED)), phase=Phase.HARDENED)
    assert (decision.status, decision.reason) == (Status.NOT_DUE, words)


# --- severities and the final approval ---


def test_a_minor_line_never_fails() -> None:
    """It is warned, with the same reason."""
    decision = decide(line(severity=Severity.MINOR), record(part(Status.FAILED, reason="no dashboard")))
    assert (decision.status, decision.reason) == (Status.WARNED, "no dashboard")


@pytest.mark.parametrize("severity", [Severity.MAJOR, Severity.BLOCKER])
def test_other_lines_fail(severity: Severity) -> None:
    """Severity decides what a line weighs, not whether it failed."""
    assert decide(line(severity=severity), record(part(Status.FAILED))).status is Status.FAILED


def test_go_live_fails_a_blocker_that_is_not_verified() -> None:
    """So that JUnit dashboards show it."""
    decision = decide(line(reads=()), go_live=True)
    assert decision.status is Status.FAILED
    assert decision.reason == "no check for this line yet; --mesh-go-live demands every blocker"


def test_go_live_fails_a_blocker_that_nobody_attested() -> None:
    """A statement is demanded like a check."""
    assert decide(line(parts=(Part.ATTEST,)), attestations={}, go_live=True).status is Status.FAILED


def test_go_live_leaves_other_lines_open() -> None:
    """Only blockers are demanded."""
    assert decide(line(reads=(), severity=Severity.MAJOR), go_live=True).status is Status.NOT_VERIFIED


def test_go_live_leaves_lines_of_another_phase_alone() -> None:
    """What is not due is not demanded."""
    assert decide(line(last=Phase.PERMISSIVE), go_live=True, phase=Phase.GOLIVE).status is Status.NOT_DUE


# --- statements ---


def test_a_statement_fills_the_part_of_people() -> None:
    """The configuration passes and a person said the rest."""
    decision = decide(line(parts=(Part.STATIC, Part.ATTEST)), record(part(reason="7 containers")), attestations=statements())
    assert decision.status is Status.ATTESTED
    assert decision.reason == "attested by Jane Roe on 2026-11-01, until 2027-01-31; 7 containers"
    assert decision.attestation is not None


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"expires": date(2026, 11, 24)}, "the statement by Jane Roe of 2026-11-01 expired on 2026-11-24"),
        ({"date": date(2026, 11, 26)}, "the statement by Jane Roe is dated in the future (2026-11-26)"),
    ],
)
def test_a_statement_that_does_not_count_today_leaves_the_line_to_attest(given: dict[str, object], words: str) -> None:
    """Expired and future statements are shown with a sentence."""
    decision = decide(line(parts=(Part.STATIC, Part.ATTEST)), record(part()), attestations=statements(**given))
    assert (decision.status, decision.reason) == (Status.TO_ATTEST, f"configuration passes, {words}")


def test_a_statement_counts_on_its_last_day() -> None:
    """The day of expiry is the last good one."""
    assert decide(line(parts=(Part.ATTEST,)), attestations=statements(expires=TODAY)).status is Status.ATTESTED


def test_a_missing_statement_is_to_attest() -> None:
    """People may still speak; machines have done what they had to."""
    decision = decide(line(parts=(Part.STATIC, Part.ATTEST)), record(part()), attestations={})
    assert (decision.status, decision.reason) == (Status.TO_ATTEST, "configuration passes, no statement by a person")


@pytest.mark.parametrize("status", [Status.FAILED, Status.NOT_VERIFIED])
def test_a_statement_never_lifts_a_machine_part(status: Status) -> None:
    """People cannot talk a failure away."""
    decision = decide(line(parts=(Part.STATIC, Part.ATTEST)), record(part(status)), attestations=statements())
    assert decision.status is status


def test_a_statement_about_a_machines_line_counts_for_nothing() -> None:
    """The kind of the line has no part for people."""
    decision = decide(line(reads=()), attestations=statements())
    assert (decision.status, decision.attestation) == (Status.NOT_VERIFIED, None)


# --- waivers ---


def failing(*names: str, **given: Any) -> CheckRecord:
    """Findings about these Deployments."""
    return record(part(Status.FAILED, findings=tuple(finding(name) for name in names), **given))


def test_a_waiver_lifts_a_failed_line() -> None:
    """The line is waived, with who, until when and why."""
    decision = decide(line(), failing("orders"), waivers=[waiver()])
    assert (decision.status, decision.reason) == (Status.WAIVED, "waived by Jane Roe until 2026-12-31: legacy batch")
    assert [(use.applied, use.note) for use in decision.waivers] == [(True, "applies until 2026-12-31")]


def test_a_waiver_that_names_all_objects_lifts_the_line() -> None:
    """Patterns with a star are allowed, with or without the namespace."""
    narrow = waiver(objects=("payments/Deployment/ord*", "Deployment/web"), codes=("MR421-*",))
    assert decide(line(), failing("orders", "web"), waivers=[narrow]).status is Status.WAIVED


def test_a_waiver_that_leaves_an_error_uncovered_does_not_apply() -> None:
    """The line fails, and the sentence names what is left."""
    decision = decide(line(), failing("orders", "web"), waivers=[waiver(objects=("Deployment/orders",))])
    assert decision.status is Status.FAILED
    assert decision.waivers[0].note == "does not apply: it leaves MR421-NO-SIDECAR on payments/Deployment/web uncovered"


def test_two_waivers_can_cover_a_line_together() -> None:
    """Each names one object."""
    both = [waiver(objects=("Deployment/orders",)), waiver(objects=("Deployment/web",))]
    decision = decide(line(), failing("orders", "web"), waivers=both)
    assert decision.status is Status.WAIVED
    assert [use.applied for use in decision.waivers] == [True, True]


def test_a_waiver_for_another_code_does_not_apply() -> None:
    """It names none of the findings."""
    decision = decide(line(), failing("orders"), waivers=[waiver(codes=("MR421-TWO-SIDECARS",))])
    assert decision.status is Status.FAILED
    assert decision.waivers[0].note == "does not apply: it names none of the findings of this line"


def test_an_expired_waiver_does_not_apply() -> None:
    """It is shown with a sentence."""
    decision = decide(line(), failing("orders"), waivers=[waiver(expires=date(2026, 11, 24))])
    assert decision.status is Status.FAILED
    assert decision.waivers[0].note == "expired on 2026-11-24, so it no longer applies"


def test_a_waiver_applies_on_its_last_day() -> None:
    """The day of expiry is the last good one."""
    assert decide(line(), failing("orders"), waivers=[waiver(expires=TODAY)]).status is Status.WAIVED


def test_a_waiver_of_another_line_does_not_apply() -> None:
    """Nor is it shown with this one."""
    decision = decide(line(), failing("orders"), waivers=[waiver(item="4.1.2")])
    assert (decision.status, decision.waivers) == (Status.FAILED, ())


def test_a_waiver_that_is_not_needed_says_so() -> None:
    """Old waivers get noticed."""
    decision = decide(line(), record(part()), waivers=[waiver()])
    assert decision.status is Status.PASSED
    assert decision.waivers[0].note == "not needed: it covers failed, the line is passed"


def test_a_waiver_covers_only_failed_unless_it_says_more() -> None:
    """What could not be verified is not waived by accident."""
    assert decide(line(reads=()), waivers=[waiver()]).status is Status.NOT_VERIFIED
    assert decide(line(reads=()), waivers=[waiver(statuses=(Status.FAILED, Status.NOT_VERIFIED))]).status is Status.WAIVED


def test_a_waived_failure_does_not_hide_that_the_wire_was_not_asked() -> None:
    """The failure was accepted, not the doubt."""
    decision = decide(line(parts=STATIC_LIVE), failing("orders"), waivers=[waiver()])
    assert decision.status is Status.NOT_VERIFIED
    assert decision.reason == "configuration is waived, wire not asked (this version has no live check of it yet)"


def test_a_waived_failure_does_not_hide_what_stayed_unknown_beside_it() -> None:
    """A list was refused while something else failed."""
    unknown = Unknown(reason="no right to list replicasets.apps in payments", verb="list", resource="replicasets.apps")
    decision = decide(line(), failing("orders", unknown=(unknown,)), waivers=[waiver()])
    assert (decision.status, decision.reason) == (Status.NOT_VERIFIED, "no right to list replicasets.apps in payments")


def test_a_waived_line_with_warnings_beside_it_is_waived() -> None:
    """The warnings stay in the findings."""
    decision = decide(line(), failing("orders"), record(part(Status.WARNED, Part.LIVE)), waivers=[waiver()])
    assert decision.status is Status.WAIVED


def test_a_narrow_waiver_does_not_cover_a_teams_failing_test() -> None:
    """Its failure rests on no finding that the waiver could name."""
    own = record(part(Status.FAILED, None, reason="test_it: assert False"), nodeid="tests/test_own.py::test_it")
    decision = decide(line(), failing("orders"), own, waivers=[waiver(objects=("*",))])
    assert (decision.status, decision.reason) == (Status.FAILED, "test_it: assert False")


def test_a_waiver_can_cover_a_warning() -> None:
    """Where it says so."""
    warned = record(part(Status.WARNED, findings=(finding(level=Level.WARNING),)))
    assert decide(line(), warned, waivers=[waiver()]).status is Status.WARNED
    assert decide(line(), warned, waivers=[waiver(statuses=(Status.WARNED,), objects=("*/orders",))]).status is Status.WAIVED


def test_a_waived_minor_line_is_waived() -> None:
    """Its failure would only have warned."""
    decision = decide(line(severity=Severity.MINOR), failing("orders"), waivers=[waiver()])
    assert decision.status is Status.WAIVED


def test_go_live_accepts_a_waiver_of_a_failure_and_not_of_a_doubt() -> None:
    """A waiver for failures does not cover a blocker that nobody verified."""
    assert decide(line(), failing("orders"), waivers=[waiver()], go_live=True).status is Status.WAIVED
    assert decide(line(reads=()), waivers=[waiver()], go_live=True).status is Status.FAILED
