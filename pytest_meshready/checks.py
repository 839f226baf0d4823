"""How a check speaks: it hands over judgements, and its test ends with the status of its line.

The same rules decide here (for pytest's outcome of one test) and at the end of the run (for the line):
`pytest_meshready.report.decide`. What was found travels home as `CheckRecord` on the TestReport.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from pytest_meshready.cluster.snapshot import Snapshot, located
from pytest_meshready.collection import is_shipped, line_ids
from pytest_meshready.report.decide import Decision
from pytest_meshready.results import CheckRecord, Finding, Judgement, Level, Part, PartRecord, Status, worst

if TYPE_CHECKING:
    from pytest_meshready.run import Run

#: What the checks of an item have said so far; read when pytest makes the item's report.
PARTS = pytest.StashKey[list[PartRecord]]()

#: Why a check that needs the wire could not ask it.
NOT_ASKED = pytest.StashKey[str]()

#: These are failures of pytest's test; `SKIPPED` are skips with words of their own; all others pass (DESIGN, Outcome).
SKIPPED = frozenset({Status.NOT_VERIFIED, Status.TO_ATTEST, Status.NOT_DUE, Status.NOT_APPLICABLE})


class Check:
    """Decides the lines of one test. Call it with one judgement for each part of the evidence."""

    def __init__(self, run: Run, item: pytest.Item) -> None:
        self._run = run
        self._item = item

    def __call__(self, *, static: Judgement | None = None, live: Judgement | None = None, metrics: Judgement | None = None) -> None:
        """Record what was found and end the test: it passes, fails, or is skipped with the status as reason.

        Args:
            static: what configuration alone says.
            live: what traffic says.
            metrics: what was measured.
        """
        __tracebackhide__ = True
        given = {Part.STATIC: static, Part.LIVE: live, Part.METRICS: metrics}
        parts = [part_record(part, judgement, self._run.snapshot()) for part, judgement in given.items() if judgement is not None]
        if not parts:
            why = self._item.stash[NOT_ASKED] = self._run.why_not_live or "the check handed over nothing"
            line = line_ids(self._item)[0]
            pytest.skip(f"{line} {self._run.lines[line].text}: {Status.NOT_VERIFIED.words}: {why}")
        self._item.stash.setdefault(PARTS, []).extend(parts)
        record = CheckRecord(nodeid=self._item.nodeid, items=line_ids(self._item), parts=tuple(parts))
        decisions = [(line, self._run.decide(line, (record,))) for line in record.items]
        status = worst(decision.status for _, decision in decisions)
        line, decision = next((line, decision) for line, decision in decisions if decision.status is status)
        text = f"{line} {self._run.lines[line].text}: {status.words}: {decision.reason}"
        if status is Status.FAILED or self._run.must_fail(line, status):
            pytest.fail("\n".join((text, *finding_lines(_findings(parts)))), pytrace=False)
        if status in SKIPPED:
            pytest.skip(text)


def part_record(part: Part | None, judgement: Judgement, snapshot: Snapshot) -> PartRecord:
    """One judgement, as what a check found of one part of its line; findings about objects from files say where these stand."""
    return PartRecord(
        part=part,
        status=judgement.status,
        reason=judgement.reason,
        findings=located(judgement.findings, snapshot),
        unknown=judgement.unknown,
        evidence=judgement.evidence,
    )


def finding_lines(findings: Sequence[Finding]) -> list[str]:
    """Findings as text: the object, then what was found, what was wanted and what to do."""
    lines = []
    for finding in findings:
        where = f" ({finding.file}:{finding.line})" if finding.file else ""
        lines.append(f"{finding.object}{where}: {finding.level}")
        lines += [f"  found   {finding.found}", f"  wanted  {finding.wanted}", f"  fix     {finding.fix}"]
    return lines


def _findings(parts: Sequence[PartRecord]) -> list[Finding]:
    order = list(Level)
    shown = [finding for part in parts for finding in part.findings if finding.level is not Level.INFO]
    return sorted(shown, key=lambda finding: order.index(finding.level))


class Recorder:
    """Makes every report of a test that decides lines carry its `CheckRecord` home; runs where tests run."""

    def __init__(self, run: Run) -> None:
        self._run = run

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """A line that does not belong to this phase of the rollout is not looked at."""
        __tracebackhide__ = True
        reasons = [self._run.not_due(line) for line in line_ids(item)]
        if reasons and all(reasons):
            pytest.skip(f"{line_ids(item)[0]} not due: {reasons[0]}")

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[None]) -> Any:  # noqa: ANN401 - a generator hook
        """Attach the record to the report that decides: the call's, or the set-up's where it did not come to a call."""
        report: pytest.TestReport = yield
        lines = line_ids(item)
        decides = report.when == "call" or (report.when == "setup" and not report.passed)
        if not lines or not decides:
            return report
        record = self._record(item, call, report)
        status, reason = self._said(record, judged=PARTS in item.stash or all(self._run.not_due(line) for line in lines))
        facts = (("mesh_status", status.value), ("mesh_reason", reason))
        item.user_properties.extend(facts)
        report.user_properties.extend(facts)
        report.mesh = {  # type: ignore[attr-defined]  # xdist carries attributes of a report as JSON
            "status": status.value,
            "reason": reason,
            "record": msgspec.to_builtins(record),
        }
        return report

    def _said(self, record: CheckRecord, *, judged: bool) -> tuple[Status, str]:
        """What pytest is to say of this test: of a check the status of its line, of a team's assert its own outcome."""
        if not judged and record.parts:
            status = worst(part.status for part in record.parts)
            return status, next(part.reason for part in record.parts if part.status is status)
        decision = self._worst(record)
        return decision.status, decision.reason

    def _worst(self, record: CheckRecord) -> Decision:
        decisions = [self._run.decide(line, (record,)) for line in record.items]
        status = worst(decision.status for decision in decisions)
        return next(decision for decision in decisions if decision.status is status)

    def _record(self, item: pytest.Item, call: pytest.CallInfo[None], report: pytest.TestReport) -> CheckRecord:
        said: list[PartRecord] = item.stash.get(PARTS, [])
        parts, cause = tuple(said), ""
        if not parts and NOT_ASKED in item.stash:
            cause = item.stash[NOT_ASKED]
        elif not parts:
            parts, cause = _from_outcome(item, call, report)
        return CheckRecord(
            nodeid=item.nodeid, items=line_ids(item), parts=parts, seconds=round(call.duration, 3), shipped=is_shipped(item), cause=cause
        )


def _from_outcome(item: pytest.Item, call: pytest.CallInfo[None], report: pytest.TestReport) -> tuple[tuple[PartRecord, ...], str]:
    """What a test that handed over no judgement says of its lines: a team's assert decides, a broken set-up does not."""
    mark = item.get_closest_marker("mesh_item")
    name = mark.kwargs.get("part") if mark else None
    part = Part(name) if name else None
    said = _first_line(call)
    if report.skipped:
        return ((PartRecord(part=part, status=Status.NOT_VERIFIED, reason=said or "the test was skipped"),), "")
    if report.when == "setup":
        return ((), f"its set-up broke: {said}")
    if report.passed and is_shipped(item):
        return ((), "the check decided nothing")
    if report.passed:
        return ((PartRecord(part=part, status=Status.PASSED, reason=f"{item.name} passed"),), "")
    if is_shipped(item):
        return ((), f"the check itself broke: {said}")
    return ((PartRecord(part=part, status=Status.FAILED, reason=f"{item.name}: {said}"),), "")


def _first_line(call: pytest.CallInfo[None]) -> str:
    """The first line of the exception, cut to what fits a sentence."""
    if call.excinfo is None:
        return ""
    text = str(call.excinfo.value) or call.excinfo.typename
    return re.sub(r"\s+", " ", text.strip().split("\n", 1)[0])[:300]
