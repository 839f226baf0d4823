"""Which lines need somebody's attention, in which order, and which can be said together. Shared by the renderings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from pytest_meshready.report.model import FindingDoc, ItemDoc, Readiness
from pytest_meshready.results import ORDER, Level, Severity, Status

#: What is said of a line that was left out, where lines that could not be verified are counted too.
UNSELECTED = "not selected"

#: The columns of a scoreboard, worst first.
COLUMNS: tuple[Status | str, ...] = (*ORDER, UNSELECTED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Lines that share a status and a reason."""

    status: Status
    reason: str
    items: tuple[ItemDoc, ...]

    @property
    def blockers(self) -> int:
        """How many of them are blockers."""
        return sum(item.severity is Severity.BLOCKER for item in self.items)


def problems(item: ItemDoc) -> tuple[FindingDoc, ...]:
    """The findings of a line that ask for something to be done."""
    return tuple(finding for finding in item.findings if finding.severity is not Level.INFO)


def loud(readiness: Readiness, status: Status) -> list[ItemDoc]:
    """Selected lines with this status that have to be shown one by one, with what was found.

    Failed, warned and waived lines always; lines that are not verified if something was found wrong with them.
    """
    chosen = [item for item in readiness.items if item.selected and item.status is status]
    if status in (Status.FAILED, Status.WARNED, Status.WAIVED):
        return chosen
    return [item for item in chosen if problems(item)]


def quiet(readiness: Readiness, status: Status) -> list[Group]:
    """The other selected lines with this status, put together by reason; reasons of few lines first, as they say most."""
    named = {item.id for item in loud(readiness, status)}
    together: dict[str, list[ItemDoc]] = {}
    for item in readiness.items:
        if item.selected and item.status is status and item.id not in named:
            together.setdefault(item.group or item.reason, []).append(item)
    groups = [Group(status=status, reason=reason, items=tuple(items)) for reason, items in together.items()]
    return sorted(groups, key=lambda group: len(group.items))


def words(state: Status | str) -> str:
    """A column's heading."""
    return state.words if isinstance(state, Status) else state


def state(item: ItemDoc) -> Status | str:
    """The status of a line for the eye: one that was left out is told apart from one that could not be verified."""
    return item.status if item.selected else UNSELECTED


def tally(readiness: Readiness, section: str = "") -> Counter[Status | str]:
    """How many lines stand in each column, of one section or of all."""
    return Counter(state(item) for item in readiness.items if section in ("", item.section))


def unselected(readiness: Readiness) -> list[ItemDoc]:
    """The lines that were left out of this run."""
    return [item for item in readiness.items if not item.selected]


def next_commands(readiness: Readiness) -> list[tuple[str, str]]:
    """What to do next and the command for it, the most useful first."""
    run, items = readiness.run, [item for item in readiness.items if item.selected]
    failed = [item.id for item in items if item.status is Status.FAILED]
    steps = []
    if failed:
        steps.append(("fix what failed, then look at it again", f"{run.command} --mesh-items={','.join(failed)}"))
    if run.phase_source == "guess":
        steps.append(("say the phase", run.command if "--mesh-phase" in run.command else f"{run.command} --mesh-phase={run.phase}"))
    if readiness.not_permitted and run.source == "cluster":
        steps.append(("get the missing rights", f"{run.command} --mesh-rbac=- | kubectl apply -f -"))
    if failed or steps:
        return steps
    for status, todo in ((Status.NOT_VERIFIED, "see what decides a line"), (Status.TO_ATTEST, "see what has to be stated")):
        open_lines = _open(items, status)
        if readiness.verdict != "READY" and open_lines:
            steps.append((todo, f"meshready explain {open_lines[0].id}"))
    return steps


def _open(items: Sequence[ItemDoc], status: Status) -> list[ItemDoc]:
    return [item for item in items if item.status is status and item.severity is Severity.BLOCKER]
