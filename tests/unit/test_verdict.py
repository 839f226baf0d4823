"""The verdict and the exit code, rule by rule (DESIGN, Rules that follow)."""

from __future__ import annotations

import msgspec
import pytest

from pytest_meshready.checklist.lines import Phase
from pytest_meshready.report.model import Readiness
from pytest_meshready.report.verdict import exit_code
from pytest_meshready.results import Part, Severity, Status
from tests.unit.report_samples import finding, line, part, record, small, waiver

MAJOR, MINOR = Severity.MAJOR, Severity.MINOR


def run(*statuses: tuple[str, Severity, Status], **given: object) -> Readiness:
    """Lines with these ids, severities and statuses, each from one static check."""
    lines = tuple(line(id_, severity=severity) for id_, severity, _ in statuses)
    records = [record(part(status), item=id_) for id_, _, status in statuses]
    return small(*records, lines=lines, **given)


GOOD = ("4.2.1", Severity.BLOCKER, Status.PASSED)


# --- NOT READY ---


@pytest.mark.parametrize("severity", [Severity.BLOCKER, MAJOR])
def test_not_ready_if_a_line_failed(severity: Severity) -> None:
    """Any line but a minor one."""
    readiness = run(GOOD, ("12.5", severity, Status.FAILED))
    assert (readiness.verdict, readiness.verdict_text) == ("NOT READY", "NOT READY")


def test_a_failed_minor_line_warns_and_stays_ready() -> None:
    """A minor line never fails."""
    readiness = run(GOOD, ("12.5", MINOR, Status.FAILED))
    assert (readiness.verdict, readiness.verdict_text, readiness.run.exit_code) == ("READY", "READY (1 warned)", 0)


def test_not_ready_counts_blockers_and_others() -> None:
    """The reason names the lines."""
    readiness = run(("4.2.1", Severity.BLOCKER, Status.FAILED), ("4.2.2", MAJOR, Status.FAILED), ("12.5", MAJOR, Status.FAILED))
    assert readiness.verdict_reason == "1 blocker failed (4.2.1) and 2 other lines (4.2.2, 12.5)"


def test_not_ready_without_blockers() -> None:
    """Major lines fail the verdict too."""
    assert run(GOOD, ("12.5", MAJOR, Status.FAILED)).verdict_reason == "1 line failed (12.5)"


def test_not_ready_names_five_lines_and_counts_the_rest() -> None:
    """A sentence, not a list."""
    many = [(f"12.{number}", MAJOR, Status.FAILED) for number in range(1, 8)]
    assert run(*many).verdict_reason == "7 lines failed (12.1, 12.2, 12.3, 12.4, 12.5 and 2 more)"


def test_not_ready_wins_over_every_doubt() -> None:
    """A failure in a partial run with a guessed phase is a failure."""
    readiness = run(GOOD, ("12.5", MAJOR, Status.FAILED), phase_source="guess", selected=frozenset({"12.5"}))
    assert readiness.verdict == "NOT READY"


# --- NOT VERIFIED ---


def test_not_verified_if_a_blocker_is_not_verified() -> None:
    """And the exit code tells it from success."""
    readiness = run(("4.2.1", Severity.BLOCKER, Status.NOT_VERIFIED))
    assert (readiness.verdict, readiness.run.exit_code) == ("NOT VERIFIED", 10)
    assert readiness.verdict_reason == "1 blocker is not verified (4.2.1)"


def test_not_verified_if_a_blocker_is_to_attest() -> None:
    """Statements of people may be open with exit code 0; the verdict says so."""
    readiness = small(lines=(line("1.2.4", (Part.ATTEST,), reads=()),), attestations={})
    assert (readiness.verdict, readiness.run.exit_code) == ("NOT VERIFIED", 0)
    assert readiness.verdict_reason == "1 blocker waits for a statement by a person (1.2.4)"


def test_not_verified_if_the_phase_was_guessed() -> None:
    """A guess is never an approval."""
    readiness = run(GOOD, phase_source="guess", phase_because="every workload is STRICT")
    assert (readiness.verdict, readiness.verdict_reason, readiness.run.exit_code) == ("NOT VERIFIED", "the phase was guessed", 10)
    assert readiness.run.phase_guessed_because == "every workload is STRICT"


def test_not_verified_if_the_selection_is_partial() -> None:
    """The verdict says how many of how many lines."""
    readiness = run(GOOD, ("7.2.3", MAJOR, Status.PASSED), ("12.5", MAJOR, Status.PASSED))
    assert readiness.verdict == "READY"
    lines = tuple(line(id_) for id_ in ("4.2.1", "7.2.3", "12.5"))
    partial = small(record(part()), lines=lines, selected=frozenset({"4.2.1"}))
    assert (partial.verdict, partial.verdict_text) == ("NOT VERIFIED", "NOT VERIFIED (partial: 1 of 3 lines)")
    assert (partial.verdict_reason, partial.run.exit_code) == ("only 1 of 3 lines were selected", 0)


def test_the_verdict_is_over_the_selected_lines() -> None:
    """A blocker that was left out is no doubt of its own."""
    partial = small(record(part()), lines=(line(), line("7.2.3")), selected=frozenset({"4.2.1"}))
    assert "7.2.3" not in partial.verdict_reason


def test_a_line_that_a_check_ran_for_counts_as_selected() -> None:
    """A team's test for a shipped line, run alone, is a partial run of one line."""
    partial = small(record(part(Status.FAILED)), lines=(line(), line("7.2.3")), selected=frozenset())
    assert (partial.verdict, partial.run.lines_selected) == ("NOT READY", 1)


def test_not_verified_if_the_run_ended_early() -> None:
    """What did not run proved nothing."""
    readiness = run(GOOD, complete=False)
    assert (readiness.verdict, readiness.verdict_reason) == ("NOT VERIFIED", "the run ended early")


def test_every_doubt_is_said() -> None:
    """In one sentence."""
    readiness = small(lines=(line(), line("7.2.3")), selected=frozenset({"4.2.1"}), phase_source="guess")
    said = "1 blocker is not verified (4.2.1); the phase was guessed; only 1 of 2 lines were selected"
    assert readiness.verdict_reason == said


# --- READY ---


def test_ready_counts_warnings_and_waivers() -> None:
    """They are part of the verdict."""
    records = [record(part(Status.WARNED), item=f"12.{number}") for number in (1, 2, 3)]
    records += [record(part(Status.FAILED, findings=(finding(),)), item=f"4.2.{number}") for number in (1, 2)]
    lines = tuple(line(id_, severity=MAJOR) for id_ in ("4.2.1", "4.2.2", "12.1", "12.2", "12.3"))
    readiness = small(*records, lines=lines, waivers=(waiver(), waiver(item="4.2.2")))
    assert (readiness.verdict, readiness.verdict_text) == ("READY", "READY (3 warned, 2 waived)")


def test_ready_without_qualification() -> None:
    """Nothing warned, nothing waived."""
    readiness = run(GOOD)
    assert (readiness.verdict_text, readiness.run.exit_code) == ("READY", 0)
    assert readiness.verdict_reason == "nothing failed and every blocker is verified"


def test_ready_says_what_stayed_open_below_a_blocker() -> None:
    """READY does not mean that every line was looked at."""
    readiness = run(GOOD, ("12.5", MAJOR, Status.NOT_VERIFIED))
    assert readiness.verdict == "READY"
    assert readiness.verdict_reason.endswith("; 1 line that is no blocker is not verified")


def test_lines_of_other_phases_are_no_doubt() -> None:
    """A blocker of a later phase is not due."""
    later = line("12.5", first=Phase.GOLIVE)
    assert small(record(part()), lines=(line(), later)).verdict == "READY"


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (Status.PASSED, "READY (LAB)"),
        (Status.WARNED, "READY (1 warned) (LAB)"),
        (Status.FAILED, "NOT READY (LAB)"),
        (Status.NOT_VERIFIED, "NOT VERIFIED (LAB)"),
    ],
)
def test_in_the_lab_always_with_lab(status: Status, text: str) -> None:
    """Nobody takes the embedded mesh for a cluster."""
    assert run(("4.2.1", Severity.BLOCKER, status), source="lab").verdict_text == text


# --- the exit code ---


@pytest.mark.parametrize("code", [2, 3, 4, 6, 70])
@pytest.mark.parametrize("status", [Status.PASSED, Status.FAILED, Status.NOT_VERIFIED])
def test_pytests_own_codes_win(code: int, status: Status) -> None:
    """Interrupted, internal error, usage error, and whatever pytest adds."""
    assert run(("4.2.1", Severity.BLOCKER, status), pytest_exit=code).run.exit_code == code


def test_1_if_a_test_failed() -> None:
    """A team's own test, beside a checklist that is ready."""
    readiness = run(GOOD, pytest_exit=1, team_failed=1)
    assert (readiness.verdict, readiness.run.exit_code) == ("READY", 1)


def test_1_if_a_line_failed() -> None:
    """Also where pytest saw no failure: lines decided after the run."""
    assert run(("12.5", MAJOR, Status.FAILED), pytest_exit=0).run.exit_code == 1


def test_1_wins_over_10() -> None:
    """A failure is worse than a doubt."""
    assert run(("4.2.1", Severity.BLOCKER, Status.NOT_VERIFIED), ("12.5", MAJOR, Status.FAILED)).run.exit_code == 1


def test_0_with_a_major_line_not_verified() -> None:
    """Only blockers have to be decided by machines."""
    assert run(GOOD, ("12.5", MAJOR, Status.NOT_VERIFIED)).run.exit_code == 0


def test_10_only_for_selected_blockers() -> None:
    """What was left out on purpose gives no exit code."""
    assert small(record(part()), lines=(line(), line("7.2.3")), selected=frozenset({"4.2.1"})).run.exit_code == 0


def test_nothing_collected_goes_through_the_rules() -> None:
    """Pytest's 5 is no failure; the lines decide."""
    assert run(("4.2.1", Severity.BLOCKER, Status.NOT_VERIFIED), pytest_exit=5).run.exit_code == 10
    assert run(GOOD, pytest_exit=5).run.exit_code == 0


def test_nothing_collected_and_nothing_selected_stays_5() -> None:
    """A run that looked at nothing at all does not succeed."""
    assert small(lines=(line(),), selected=frozenset(), pytest_exit=5).run.exit_code == 5


def test_go_live_gives_0_for_ready() -> None:
    """With its warnings and waivers."""
    assert run(GOOD, ("12.5", MAJOR, Status.WARNED), go_live=True).run.exit_code == 0


def test_go_live_fails_what_nobody_verified() -> None:
    """The blocker is failed, the verdict NOT READY, the code 1."""
    readiness = small(lines=(line(reads=()),), go_live=True)
    assert (readiness.verdict, readiness.run.exit_code) == ("NOT READY", 1)


def test_go_live_gives_10_for_whatever_else_is_not_ready() -> None:
    """Under --mesh-go-live 0 means READY and nothing else does."""
    early = run(GOOD, go_live=True, complete=False)
    assert (early.verdict, early.run.exit_code) == ("NOT VERIFIED", 10)
    partial = small(record(part()), lines=(line(), line("7.2.3")), selected=frozenset({"4.2.1"}), go_live=True)
    assert (partial.verdict, partial.run.exit_code) == ("NOT VERIFIED", 10)


def test_the_code_can_be_asked_for_any_readiness() -> None:
    """As a function of pytest's code, the document and the option."""
    readiness = msgspec.structs.replace(run(GOOD), verdict="NOT VERIFIED")
    assert exit_code(0, readiness, go_live=False) == 0
    assert exit_code(0, readiness, go_live=True) == 10
    assert exit_code(3, readiness, go_live=True) == 3
