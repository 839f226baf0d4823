"""The status of one line from what its checks found (DESIGN, Rules that follow). Pure.

A check decides one or several parts of a line; a line needs all of its required parts, the worst counts, and a part of
which there is no record is never taken for granted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from pytest_meshready.checklist.lines import Line, Phase
from pytest_meshready.report.facts import Attestation
from pytest_meshready.report.waivers import Waiver, WaiverUse, covers, lift, uses
from pytest_meshready.results import CheckRecord, Part, PartRecord, Severity, Status, Unknown, one_sentence, worst

__all__ = ["NO_CHECK", "Decision", "PartOutcome", "Waiver", "WaiverUse", "line_decision", "line_status", "right", "window"]

#: The reason of a line for which this version has no check.
NO_CHECK = "no check for this line yet"

#: A part as a subject, and what is said of it when nobody asked.
_SUBJECT: Mapping[Part | None, str] = {
    Part.STATIC: "configuration",
    Part.LIVE: "wire",
    Part.METRICS: "metrics",
    Part.ATTEST: "statement",
    Part.DRILL: "drill",
    Part.AGGREGATE: "other lines",
    None: "own test",
}
_NOT_ASKED: Mapping[Part, str] = {
    Part.STATIC: "configuration not read",
    Part.LIVE: "wire not asked",
    Part.METRICS: "metrics not asked",
    Part.ATTEST: "no statement by a person",
    Part.DRILL: "drill not run",
    Part.AGGREGATE: "other lines not counted",
}
_UNBUILT = "this version has no check of it yet"
_PLURAL = frozenset({Part.METRICS, Part.AGGREGATE})


@dataclass(frozen=True, slots=True, kw_only=True)
class PartOutcome:
    """What was found of one part of a line.

    ``part`` is None for a team's own test, and for a check that could not do its work. ``asked`` is False where there is
    no record; ``why`` then says why not. An outcome that is not ``required`` can only worsen the line.
    """

    part: Part | None
    status: Status
    reason: str
    required: bool = True
    asked: bool = True
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The status of a line and why.

    ``reason`` is one sentence. ``group`` is the part of it that other lines can share, so that a report can put fifty
    lines with one cause into one sentence. ``attestation`` is the statement that was counted.
    """

    status: Status
    reason: str
    group: str
    parts: tuple[PartOutcome, ...] = ()
    waivers: tuple[WaiverUse, ...] = ()
    attestation: Attestation | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    """One line with everything that bears on it."""

    line: Line
    records: tuple[CheckRecord, ...]
    read_only: bool
    offline: bool
    waivers: tuple[Waiver, ...]
    today: date
    attestations: Mapping[str, Attestation] | None
    built: frozenset[Part]
    refused: tuple[Unknown, ...]
    problem: str
    unrun: str

    @property
    def parts(self) -> list[PartRecord]:
        """Everything that checks found, with a part that is not verified for each check that could not do its work."""
        found = [part for record in self.records for part in record.parts]
        broken = [record.cause or "its check decided nothing" for record in self.records if record.cause or not record.parts]
        return [*found, *(PartRecord(part=None, status=Status.NOT_VERIFIED, reason=cause) for cause in broken)]


def line_decision(
    line: Line,
    records: Sequence[CheckRecord],
    *,
    phase: Phase,
    today: date,
    read_only: bool = False,
    offline: bool = False,
    go_live: bool = False,
    waivers: Sequence[Waiver] = (),
    attestations: Mapping[str, Attestation] | None = None,
    built: frozenset[Part] | None = None,
    refused: Sequence[Unknown] = (),
    unselected: str = "",
    problem: str = "",
    unrun: str = "its check did not run",
) -> Decision:
    """Decide a line.

    Args:
        line: the line.
        records: what checks sent home; those of other lines are left aside.
        phase: the phase of this run.
        today: the day by which waivers and statements are judged.
        read_only: whether the run was forbidden to send traffic.
        offline: whether there is no cluster in this run: manifests or a saved snapshot are looked at.
        go_live: whether this is the final approval, where an open blocker fails.
        waivers: all waivers of the team.
        attestations: statements by line; None if this run reads no statements, which leaves them not verified.
        built: the parts for which this version has a check; by default the static one of a line that reads anything.
        refused: rights that the line needs and that were refused; named where the line has no record.
        unselected: why the line was left out; empty if it was selected.
        problem: why nothing could be looked at; the reason of a line without a record.
        unrun: what to say where a check exists and left no record.
    """
    mine = tuple(record for record in records if line.id in record.items)
    own_waivers = tuple(waiver for waiver in waivers if waiver.item == line.id)
    if not line.due(phase):
        return _aside(Status.NOT_DUE, f"{window(line)}, this run is in {phase}", own_waivers, today)
    if unselected and not mine:
        return _aside(Status.NOT_VERIFIED, unselected, own_waivers, today)
    if built is None:
        built = frozenset({Part.STATIC} if line.reads else ())
    case = _Case(
        line=line,
        records=mine,
        read_only=read_only,
        offline=offline,
        waivers=own_waivers,
        today=today,
        attestations=attestations,
        built=built,
        refused=tuple(refused),
        problem=problem,
        unrun=unrun,
    )
    decision = _decide(case)
    if go_live and line.severity is Severity.BLOCKER and decision.status in (Status.NOT_VERIFIED, Status.TO_ATTEST):
        return _demanded(decision)
    return decision


def line_status(line: Line, records: Sequence[CheckRecord], *, phase: Phase, today: date, read_only: bool = False) -> tuple[Status, str]:
    """The status and the reason of a line, where no waiver, statement or selection matters."""
    decision = line_decision(line, records, phase=phase, today=today, read_only=read_only)
    return decision.status, decision.reason


def window(line: Line) -> str:
    """To which phases a line belongs, as the beginning of a sentence."""
    if line.first is line.last:
        return f"belongs to phase {line.first}"
    return f"belongs to phases {line.first}..{line.last}"


def right(unknown: Unknown) -> str:
    """A missing right as a person says it: ``list pods in payments``."""
    where = f" in {unknown.namespace}" if unknown.namespace else " (cluster-wide)"
    return f"{unknown.verb} {unknown.resource}{where}"


def _aside(status: Status, reason: str, waivers: Sequence[Waiver], today: date) -> Decision:
    """A line that this run is not about."""
    return Decision(status=status, reason=reason, group=reason, waivers=uses(waivers, (), status=status, among=frozenset(), today=today))


def _demanded(decision: Decision) -> Decision:
    """Under ``--mesh-go-live`` an open blocker fails, so that dashboards show it."""
    return Decision(
        status=Status.FAILED,
        reason=f"{decision.reason}; --mesh-go-live demands every blocker",
        group=decision.group,
        parts=decision.parts,
        waivers=decision.waivers,
        attestation=decision.attestation,
    )


def _decide(case: _Case) -> Decision:
    active = [waiver for waiver in case.waivers if not waiver.expired(case.today)]
    plain = _counting(_outcomes(case, ()))
    outcomes = _outcomes(case, active)
    status = worst(_counting(outcomes))
    if status is Status.WARNED and Status.WAIVED in _counting(outcomes):
        status = Status.WAIVED  # the line's failure is what was accepted; its warnings stay in the findings
    status = _minor(case.line, status)
    used = uses(case.waivers, case.parts, status=_minor(case.line, worst(plain)), among=frozenset(plain), today=case.today)
    reason, rights = _reason(case, status, outcomes, used)
    return Decision(status=status, reason=f"{reason}{rights}", group=reason, parts=outcomes, waivers=used, attestation=_attestation(case))


def _minor(line: Line, status: Status) -> Status:
    """A minor line never fails."""
    return Status.WARNED if status is Status.FAILED and line.severity is Severity.MINOR else status


def _counting(outcomes: Sequence[PartOutcome]) -> list[Status]:
    """The statuses that count: of required parts all, of optional parts those that worsen."""
    return [o.status for o in outcomes if o.required or o.status in (Status.FAILED, Status.WARNED, Status.WAIVED)]


def _outcomes(case: _Case, waivers: Sequence[Waiver]) -> tuple[PartOutcome, ...]:
    """Every part of the line: recorded ones after the waivers given, and required ones of which there is no record."""
    by_part: dict[Part | None, list[PartRecord]] = {}
    for record in case.parts:
        by_part.setdefault(record.part, []).append(record)
    recorded = [_recorded(part, by_part[part], waivers, case.line) for part in _in_order(case.line, by_part)]
    required = [outcome.status for outcome in recorded if outcome.required]
    missing = [part for part in case.line.parts if part not in by_part]
    if required and all(status is Status.NOT_APPLICABLE for status in required):
        missing = []  # what is not used needs neither traffic nor a statement
    elif case.line.custom and None in by_part:
        missing = [part for part in missing if part is Part.ATTEST]  # the team's own test is the machine part of its line
    absent = [_waived(_absent(part, case), waivers) for part in missing]
    return tuple(sorted((*recorded, *absent), key=lambda outcome: _position(case.line, outcome.part)))


def _in_order(line: Line, parts: Mapping[Part | None, object]) -> list[Part | None]:
    return sorted(parts, key=lambda part: _position(line, part))


def _position(line: Line, part: Part | None) -> int:
    """Required parts as the line names them, then optional ones, then a team's own test."""
    if part is None:
        return len(Part) * 2
    return line.parts.index(part) if part in line.parts else len(Part) + list(Part).index(part)


def _recorded(part: Part | None, records: Sequence[PartRecord], waivers: Sequence[Waiver], line: Line) -> PartOutcome:
    """Several checks of one part: the worse counts."""
    lifted = [(lift(record, waivers), record) for record in records]
    status = worst(status for status, _ in lifted)
    reasons = dict.fromkeys(_sentence(record, found) for found, record in lifted if found is status)
    return PartOutcome(part=part, status=status, reason="; ".join(filter(None, reasons)), required=part is None or part in line.parts)


def _sentence(record: PartRecord, status: Status) -> str:
    """The reason of a part; where its failure was waived and something stayed unknown, that is the reason."""
    if status is Status.NOT_VERIFIED and record.status is not status:
        return one_sentence(unknown.reason for unknown in record.unknown)
    return record.reason


def _waived(outcome: PartOutcome, waivers: Sequence[Waiver]) -> PartOutcome:
    if not covers(outcome.status, waivers):
        return outcome
    return PartOutcome(part=outcome.part, status=Status.WAIVED, reason=outcome.reason, asked=outcome.asked, why=outcome.why)


def _absent(part: Part, case: _Case) -> PartOutcome:
    """A required part of which there is no record."""
    if part is Part.ATTEST:
        return _statement(case)
    return PartOutcome(part=part, status=Status.NOT_VERIFIED, reason=_NOT_ASKED[part], asked=False, why=_why(part, case))


def _why(part: Part, case: _Case) -> str:
    """Why a part was not asked."""
    if part not in case.built:
        return _UNBUILT
    if case.offline and part in (Part.LIVE, Part.METRICS, Part.DRILL):
        return "there is no cluster in this run"
    if case.read_only and part in (Part.LIVE, Part.DRILL):
        return "this run is read-only"
    if part is Part.DRILL:
        return "it takes --mesh-drills"
    return case.unrun


def _attestation(case: _Case) -> Attestation | None:
    if case.attestations is None or Part.ATTEST not in case.line.parts:
        return None
    return case.attestations.get(case.line.id)


def _statement(case: _Case) -> PartOutcome:
    """The part that only people can answer, from their statements."""
    if case.attestations is None:
        why = "this version reads no statements yet"
        return PartOutcome(part=Part.ATTEST, status=Status.NOT_VERIFIED, reason=_NOT_ASKED[Part.ATTEST], asked=False, why=why)
    given = case.attestations.get(case.line.id)
    if given is None:
        return PartOutcome(part=Part.ATTEST, status=Status.TO_ATTEST, reason=_NOT_ASKED[Part.ATTEST], asked=False)
    problem = given.problem(case.today)
    if problem:
        return PartOutcome(part=Part.ATTEST, status=Status.TO_ATTEST, reason=problem)
    reason = f"attested by {given.who} on {given.date}, until {given.expires}"
    return PartOutcome(part=Part.ATTEST, status=Status.ATTESTED, reason=reason)


def _reason(case: _Case, status: Status, outcomes: Sequence[PartOutcome], used: Sequence[WaiverUse]) -> tuple[str, str]:
    """The sentence of a line, and the missing rights that belong behind it."""
    if status is Status.WAIVED:
        waiver = next(use.waiver for use in used if use.applied)
        return f"waived by {waiver.who} until {waiver.expires}: {waiver.reason}", ""
    if not case.records and status is Status.NOT_VERIFIED:
        return _without_records(case)
    if status in (Status.NOT_VERIFIED, Status.TO_ATTEST):
        words = _open(outcomes)
        named = any(unknown.verb and unknown.reason in words for part in case.parts for unknown in part.unknown)
        return words, "" if named else _rights(case)
    decisive = {Status.FAILED, Status.WARNED} if status is Status.WARNED else {status}
    said = [outcome.reason for outcome in outcomes if outcome.status in decisive and outcome.reason]
    if status is Status.ATTESTED:
        said += [outcome.reason for outcome in outcomes if outcome.status is Status.PASSED and outcome.reason]
    return "; ".join(dict.fromkeys(said)) or status.words, ""


def _without_records(case: _Case) -> tuple[str, str]:
    """Why no check said anything about a line that was selected and is due."""
    if case.problem:
        return case.problem, ""
    if case.line.custom and not case.line.parts:
        return f'no test carries mesh_item("{case.line.id}")', ""
    machine = [part for part in case.line.parts if part is not Part.ATTEST]
    base = case.unrun if case.built.intersection(machine) else NO_CHECK
    return base, _rights(case)


def _rights(case: _Case) -> str:
    """The rights that the line needs and that were refused, as the end of a sentence; empty if none was."""
    rights = list(dict.fromkeys(right(unknown) for unknown in case.refused if unknown.verb))
    more = f" and {len(rights) - 3} more" if len(rights) > 3 else ""
    return f"; missing rights: {', '.join(rights[:3])}{more}" if rights else ""


def _open(outcomes: Sequence[PartOutcome]) -> str:
    """What the parts found, then what was not asked and why."""
    required = [outcome for outcome in outcomes if outcome.required or outcome.status in (Status.FAILED, Status.WARNED)]
    asked = [_said(outcome) for outcome in required if outcome.asked]
    absent = [outcome for outcome in required if not outcome.asked]
    blocked = any(outcome.asked and outcome.status is Status.NOT_VERIFIED for outcome in required)
    several = any(mark in said for said in asked for mark in ("; ", ", ", *((": ",) if blocked else ())))
    sentence = ("; " if several else ", ").join(dict.fromkeys([*asked, *(outcome.reason for outcome in absent)]))
    whys = [] if blocked else _whys(absent)
    return f"{sentence} ({'; '.join(whys)})" if whys else sentence


def _whys(absent: Sequence[PartOutcome]) -> list[str]:
    """Why parts were not asked, each cause once."""
    unbuilt = [f"no {outcome.part} check" for outcome in absent if outcome.why == _UNBUILT]
    others = dict.fromkeys(outcome.why for outcome in absent if outcome.why not in ("", _UNBUILT))
    return [*([f"this version has {' and '.join(unbuilt)} of it yet"] if unbuilt else []), *others]


def _said(outcome: PartOutcome) -> str:
    """What one part found, short: ``configuration passes``."""
    if outcome.status in (Status.NOT_VERIFIED, Status.TO_ATTEST):
        return outcome.reason or outcome.status.words
    subject, plural = _SUBJECT[outcome.part], outcome.part in _PLURAL
    if outcome.status is Status.PASSED:
        return f"{subject} {'pass' if plural else 'passes'}"
    if outcome.status is Status.ATTESTED:
        return outcome.reason or "statement given"
    if outcome.status is Status.NOT_APPLICABLE:
        return f"{subject} {'do' if plural else 'does'} not apply"
    if outcome.status is Status.WAIVED:
        return f"{subject} {'are' if plural else 'is'} waived"
    verb = "warn" if plural else "warns"
    return f"{subject} {verb}: {outcome.reason}" if outcome.reason else f"{subject} {verb}"
