"""The verdict over the selected lines, and the exit code (DESIGN, Rules that follow). Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pytest_meshready.report.facts import PhaseSource
from pytest_meshready.report.model import ItemDoc, Readiness, Word
from pytest_meshready.results import Severity, Status

#: pytest's codes: some tests failed, no tests collected. All others that are not 0 are about the run itself and win.
TESTS_FAILED = 1
NOTHING_COLLECTED = 5
#: Ours: nothing failed, and machines could not decide what they had to.
NOT_VERIFIED = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """``word`` goes into readiness.json, ``text`` is the word with what qualifies it, ``reason`` one sentence."""

    word: Word
    text: str
    reason: str


def verdict(items: Sequence[ItemDoc], *, phase_source: PhaseSource, complete: bool = True, lab: bool = False) -> Verdict:
    """The verdict over the selected ones of all lines.

    A run that ended early is not verified, as a partial one: what did not run proved nothing.
    """
    chosen = [item for item in items if item.selected]
    partial = len(chosen) < len(items)
    scope = f"partial: {len(chosen)} of {len(items)} lines"
    limits = [f"only {len(chosen)} of {len(items)} lines were selected"] if partial else []
    if failed := _with(chosen, Status.FAILED):
        return _verdict("NOT READY", "", "; ".join([_failures(failed), *limits]), lab)
    if doubts := [*_doubts(chosen, phase_source, complete), *limits]:
        return _verdict("NOT VERIFIED", scope if partial else "", "; ".join(doubts), lab)
    counts = [(len(_with(chosen, status)), status.words) for status in (Status.WARNED, Status.WAIVED)]
    return _verdict("READY", ", ".join(f"{number} {words}" for number, words in counts if number), _ready(chosen), lab)


def exit_code(pytest_exit: int, readiness: Readiness, *, go_live: bool) -> int:
    """The exit code of the run.

    pytest's own codes about the run itself (2, 3, 4, 6) win; then 1 if a test or a line failed; then 10 if a selected
    blocker is not verified or the phase was guessed; then 0. Under ``--mesh-go-live`` only READY gives 0. A run that
    collected no test at all and selected no line keeps pytest's 5.
    """
    if pytest_exit not in (0, TESTS_FAILED, NOTHING_COLLECTED):
        return pytest_exit
    chosen = [item for item in readiness.items if item.selected]
    if pytest_exit == TESTS_FAILED or _with(chosen, Status.FAILED):
        return TESTS_FAILED
    unproved = any(item.severity is Severity.BLOCKER for item in _with(chosen, Status.NOT_VERIFIED))
    if unproved or readiness.run.phase_source == "guess" or (go_live and readiness.verdict != "READY"):
        return NOT_VERIFIED
    return NOTHING_COLLECTED if pytest_exit == NOTHING_COLLECTED and not chosen else 0


def names(items: Sequence[ItemDoc], limit: int = 5) -> str:
    """Ids of lines: ``1.1.2, 1.1.3 and 26 more``."""
    shown = ", ".join(item.id for item in items[:limit])
    return f"{shown} and {len(items) - limit} more" if len(items) > limit else shown


def count(number: int, one: str, many: str = "") -> str:
    """``1 line``, ``3 lines``."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def _verdict(word: Word, qualified: str, reason: str, lab: bool) -> Verdict:
    return Verdict(word=word, text=word + (f" ({qualified})" if qualified else "") + (" (LAB)" if lab else ""), reason=reason)


def _with(items: Sequence[ItemDoc], status: Status) -> list[ItemDoc]:
    return [item for item in items if item.status is status]


def _doubts(chosen: Sequence[ItemDoc], phase_source: PhaseSource, complete: bool) -> list[str]:
    """Why a run in which nothing failed is not ready all the same."""
    blockers = [item for item in chosen if item.severity is Severity.BLOCKER]
    doubts = []
    if unproved := _with(blockers, Status.NOT_VERIFIED):
        doubts.append(f"{count(len(unproved), 'blocker is', 'blockers are')} not verified ({names(unproved)})")
    if unsaid := _with(blockers, Status.TO_ATTEST):
        doubts.append(f"{count(len(unsaid), 'blocker waits', 'blockers wait')} for a statement by a person ({names(unsaid)})")
    if phase_source == "guess":
        doubts.append("the phase was guessed")
    if not complete:
        doubts.append("the run ended early")
    return doubts


def _failures(failed: Sequence[ItemDoc]) -> str:
    blockers = [item for item in failed if item.severity is Severity.BLOCKER]
    others = [item for item in failed if item.severity is not Severity.BLOCKER]
    if not blockers:
        return f"{count(len(others), 'line')} failed ({names(others)})"
    said = f"{count(len(blockers), 'blocker')} failed ({names(blockers)})"
    return f"{said} and {count(len(others), 'other line')} ({names(others)})" if others else said


def _ready(chosen: Sequence[ItemDoc]) -> str:
    """READY says what it does not stand for: lines below a blocker may be open."""
    words = ["nothing failed and every blocker is verified"]
    for status, said in ((Status.NOT_VERIFIED, "not verified"), (Status.TO_ATTEST, "waiting for a statement")):
        if open_lines := _with(chosen, status):
            words.append(f"{count(len(open_lines), 'line that is no blocker is', 'lines that are no blockers are')} {said}")
    return "; ".join(words)
