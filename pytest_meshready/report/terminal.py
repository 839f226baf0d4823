"""The report in a terminal or a CI log: rows of text with styles, readable without colour. Knows nothing of pytest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from pytest_meshready.report.attention import (
    COLUMNS,
    UNSELECTED,
    Group,
    loud,
    next_commands,
    problems,
    quiet,
    state,
    tally,
    unselected,
    words,
)
from pytest_meshready.report.facts import RunFacts
from pytest_meshready.report.model import FindingDoc, ItemDoc, Readiness
from pytest_meshready.report.text import clean, split_command, symbol, wrap, wrap_command
from pytest_meshready.report.verdict import count, names
from pytest_meshready.results import ORDER, Severity, Status

#: A piece of text and its style: words of pytest's terminal writer (``red bold``), empty for plain text.
Piece = tuple[str, str]
Row = list[Piece]

_STYLE = {
    Status.FAILED: "red",
    Status.NOT_VERIFIED: "yellow",
    Status.TO_ATTEST: "yellow",
    Status.WARNED: "yellow",
    Status.WAIVED: "yellow",
    Status.ATTESTED: "green",
    Status.PASSED: "green",
    Status.NOT_APPLICABLE: "light",
    Status.NOT_DUE: "light",
}
_VERDICT_STYLE = {"READY": "green bold", "NOT READY": "red bold", "NOT VERIFIED": "yellow bold"}
#: Where a team's own lines stand; the title says it, the id would say it twice.
TEAM_SECTION = "team"
#: How many findings of one line are shown with all their words, by verbosity.
_FINDINGS = {0: 5, 1: 20}


def markup(style: str) -> dict[str, bool]:
    """A style as keyword arguments of pytest's terminal writer."""
    return dict.fromkeys(style.split(), True)


def title(readiness: Readiness) -> str:
    """The headline over the report."""
    return f"mesh readiness of {readiness.run.namespace}, phase {readiness.run.phase}"


def header(facts: RunFacts, *, width: int = 80) -> list[str]:
    """What this run is about, before anything runs: cluster, namespace, mesh, phase and who decided it."""
    origins = {"cluster": "the cluster of this pod", "manifests": "manifests", "snapshot": "a saved snapshot", "lab": "the lab"}
    where = facts.context or origins[facts.source]
    revision = f" (revision {facts.istio_revision})" if facts.istio_revision else ""
    guess = f"guessed: {facts.phase_because}" if facts.phase_because else "guessed"
    decided = {"option": "--mesh-phase", "config": facts.phase_because or "meshready.toml"}.get(facts.phase_source, guess)
    said = [
        f"meshready: namespace {facts.namespace} on {where}",
        f"phase {facts.phase} ({decided})",
        f"Kubernetes {facts.kubernetes_version.removeprefix('v')}" if facts.kubernetes_version else "Kubernetes version not read",
        f"Istio {facts.istio_version}{revision}" if facts.istio_version else "no Istio version found",
        *([f"from {origins[facts.source]}"] if facts.context and facts.source != "cluster" else []),
        *(["read-only"] if facts.read_only else []),
        *(["final approval"] if facts.go_live else []),
    ]
    lines = [""]
    for piece in map(clean, said):
        if lines[-1] and len(lines[-1]) + len(piece) + 3 <= width:
            lines[-1] += f", {piece}"
        else:
            lines[-1] += "," if lines[-1] else ""
            lines += wrap(piece, width - 3)
    first, *rest = lines[1:]
    return [first, *(f"  {line}" for line in rest), *([f"meshready: {clean(facts.problem)}"] if facts.problem else [])]


def render(readiness: Readiness, *, width: int = 80, verbosity: int = 0, unicode: bool = True) -> list[Row]:
    """The whole report.

    Args:
        readiness: what to show.
        width: no row is longer, down to 60 columns.
        verbosity: pytest's: -1 leaves out the findings, 1 lists every line and more findings, 2 all findings.
        unicode: whether the terminal's encoding can show more than ASCII.
    """
    page = _Page(readiness, width=max(width, 60), verbosity=verbosity, unicode=unicode)
    page.scoreboard()
    for status in (Status.FAILED, Status.WARNED, Status.NOT_VERIFIED, Status.TO_ATTEST, Status.WAIVED):
        page.block(status)
    if verbosity > 0:
        page.every_line()
    page.aside()
    page.rights()
    page.waivers()
    page.run()
    page.verdict()
    return page.rows


def plain(rows: Iterable[Row]) -> str:
    """The rows as text without styles."""
    return "".join("".join(text for text, _ in row).rstrip() + "\n" for row in rows)


class _Page:
    """The rows so far, and how wide they may be."""

    def __init__(self, readiness: Readiness, *, width: int, verbosity: int, unicode: bool) -> None:
        self.readiness = readiness
        self.width = width
        self.verbosity = verbosity
        self.unicode = unicode
        self.rows: list[Row] = []

    # --- pieces ---

    def add(self, *pieces: Piece) -> None:
        self.rows.append(list(pieces))

    def text(self, text: str, *, first: Piece = ("", ""), indent: int = 0, style: str = "") -> None:
        """Wrapped text behind a first piece; further lines are indented."""
        lead = first[0].ljust(indent) if first[0] else " " * indent
        hang = max(indent, 0) or len(lead)
        lines = wrap(self.clean(text), self.width - len(lead))
        self.add((lead, first[1]), (lines[0], style))
        if len(lines) > 1:
            for line in wrap(" ".join(lines[1:]), self.width - hang):
                self.add((" " * hang, ""), (line, style))

    def clean(self, text: str) -> str:
        return clean(text, unicode=self.unicode)

    def heading(self, text: str, style: str) -> None:
        self.add()
        self.add((text, f"{style} bold".strip()))

    # --- scoreboard ---

    def scoreboard(self) -> None:
        """Every section with its lines by status; columns that nothing stands in are left out."""
        boards = [(section.id, section.title, tally(self.readiness, section.id)) for section in self.readiness.sections]
        total = tally(self.readiness)
        columns = [column for column in COLUMNS if total[column]]
        headings = [_heading(column) for column in columns]
        widths = [max(len(word) for word in heading) + 1 for heading in headings]
        ids = max(len(section) for section, _, _ in boards if section != TEAM_SECTION)
        room = max(self.width - sum(widths) - ids - 3, 12)
        for row in range(2):
            self.add(
                (" " * (ids + room + 3), ""), *((heading[row].rjust(size), "bold") for heading, size in zip(headings, widths, strict=True))
            )
        for section, title, counts in boards:
            shown = [status for status in ORDER if counts[status]]
            mark = (symbol(shown[0], unicode=self.unicode), _STYLE[shown[0]]) if shown else ("-", "light")
            number = "" if section == TEAM_SECTION else section
            self.add(mark, (f" {number.rjust(ids)} {_cut(self.clean(title), room)}", ""), *self._cells(columns, widths, counts))
        self.add((" " * (ids + 3), ""), ("all".ljust(room), "bold"), *self._cells(columns, widths, total))

    def _cells(self, columns: Sequence[Status | str], widths: Sequence[int], counts: Counter[Status | str]) -> Row:
        cells = []
        for column, size in zip(columns, widths, strict=True):
            number = counts[column]
            style = _STYLE[column] if isinstance(column, Status) else "light"
            cells.append((str(number).rjust(size), style) if number else (("\N{MIDDLE DOT}" if self.unicode else ".").rjust(size), "light"))
        return cells

    # --- lines ---

    def block(self, status: Status) -> None:
        """All selected lines with one status: what was found wrong one by one, the rest by reason."""
        single, groups = loud(self.readiness, status), quiet(self.readiness, status)
        number = len(single) + sum(len(group.items) for group in groups)
        if not number:
            return
        self.heading(f"{status.words.upper()}: {count(number, 'line')}", _STYLE[status])
        for item in single:
            self.item(item)
        for group in groups:
            self.group(group)

    def item(self, item: ItemDoc) -> None:
        """One line with its findings."""
        mark = (f"{symbol(item.status, unicode=self.unicode)} {item.id} ", f"{_STYLE[item.status]} bold")
        severity = f"{item.severity}, was {item.severity_changed_from}" if item.severity_changed_from else item.severity
        self.text(f"{item.text} ({item.status.words}, {severity})", first=mark, indent=len(mark[0]), style="bold")
        found = problems(item)
        if not found or self.verbosity < 0 or item.status not in (Status.FAILED, Status.WARNED):
            self.text(item.reason, indent=4)
        if self.verbosity >= 0:
            self.findings(found)

    def findings(self, found: Sequence[FindingDoc]) -> None:
        """The findings of a line in full, the names of what is too many."""
        limit = _FINDINGS.get(self.verbosity, len(found))
        for finding in found[:limit]:
            where = f" in {finding.file}" + (f":{finding.line}" if finding.line else "") if finding.file else ""
            self.text(f"{finding.object}{where} ({finding.severity} {finding.code})", indent=4, style=_finding_style(finding))
            self.text(finding.found, first=("      found   ", "light"), indent=14)
            self.text(finding.wanted, first=("      wanted  ", "light"), indent=14)
            self.fix(finding.fix)
        if rest := found[limit:]:
            objects = list(dict.fromkeys(str(finding.object) for finding in rest))
            shown = ", ".join(objects[:limit]) + (", ..." if len(objects) > limit else "")
            self.text(f"and {count(len(rest), 'more finding')}: {shown} (-vv or --mesh-report=DIR shows all)", indent=4)

    def fix(self, fix: str, label: str = "      fix     ") -> None:
        """What to do; a command that does not fit beside its sentence gets lines of its own, so that it can be pasted."""
        fix, indent = self.clean(fix), len(label)
        words, command = split_command(fix)
        if not command or (words and indent + len(fix) <= self.width):
            self.text(fix, first=(label, "light"), indent=indent)
            return
        if words:
            self.text(words, first=(label, "light"), indent=indent)
        lines = wrap_command(command, self.width, " " * indent)
        if not words:
            self.add((label, "light"), (lines.pop(0)[indent:], ""))
        for line in lines:
            self.add((line, ""))

    def group(self, group: Group) -> None:
        """Lines that share a reason."""
        first = symbol(group.status, unicode=self.unicode)
        number, blockers = count(len(group.items), "line"), ""
        if group.blockers:
            blockers = ", all blockers" if group.blockers == len(group.items) else f", {count(group.blockers, 'blocker')} among them"
        head = f"{group.reason} ({number}{blockers})"
        if len(group.items) == 1:
            item = group.items[0]
            mark = (f"{first} {item.id} ", _STYLE[group.status])
            text = f"{item.text}: {item.reason}" + (" (blocker)" if item.severity is Severity.BLOCKER else "")
            self.text(text, first=mark, indent=len(mark[0]))
            return
        ids = "" if self.verbosity < 0 else f": {', '.join(item.id for item in group.items)}"
        self.text(f"{head}{ids}", first=(f"{first} ", _STYLE[group.status]), indent=2)

    def every_line(self) -> None:
        """Every line in the checklist's order with its status, for ``-v``."""
        self.heading("EVERY LINE", "")
        ids = max(len(item.id) for item in self.readiness.items) + 3
        for item in self.readiness.items:
            mark = f"{symbol(item.status, unicode=self.unicode)} {item.id}"
            note = f" [note: {item.note}]" if item.note else ""
            self.text(f"{words(state(item))}: {item.text}{note}: {item.reason}", first=(mark, _STYLE[item.status]), indent=ids)

    # --- the rest ---

    def aside(self) -> None:
        """Lines that this run is not about, in one sentence each."""
        left, late = unselected(self.readiness), [i for i in self.readiness.items if i.selected and i.status is Status.NOT_DUE]
        if not (left or late):
            return
        self.add()
        if late:
            ids = "" if self.verbosity < 0 else f": {', '.join(item.id for item in late)}"
            self.text(f"not due in phase {self.readiness.run.phase}: {count(len(late), 'line')}{ids}", indent=2, style="light")
        if left:
            reasons = {item.reason for item in left if item.status is not Status.NOT_DUE}
            why = reasons.pop() if len(reasons) == 1 else UNSELECTED
            self.text(f"{why}: {count(len(left), 'line')}", indent=2, style="light")

    def rights(self) -> None:
        """The rights that were missing, the lines that miss them, and how to get them."""
        missing = self.readiness.not_permitted
        if not missing:
            return
        self.heading(f"MISSING RIGHTS: {len(missing)}", "yellow")
        items = {item.id: item for item in self.readiness.items}
        for one in missing:
            lines = [items[line] for line in one.items]
            self.text(f"{one}: {count(len(lines), 'line')} ({names(lines, 8 if self.verbosity < 1 else len(lines))})", indent=2)

    def waivers(self) -> None:
        """Waivers that did not apply; those that did are shown with their lines."""
        idle = [waiver for waiver in self.readiness.waivers if not waiver.applied]
        if not idle:
            return
        self.heading(f"WAIVERS THAT DO NOT APPLY: {len(idle)}", "yellow")
        for waiver in idle:
            self.text(f"{waiver.item} by {waiver.who} ({waiver.reason}): {waiver.note}", indent=2)

    def run(self) -> None:
        """Changed severities, the team's own tests, what was noticed about the run, and what is still in the cluster."""
        changed = [item for item in self.readiness.items if item.severity_changed_from]
        team, left = self.readiness.team_tests, self.readiness.left_behind
        if changed or team.passed or team.failed:
            self.add()
        if changed:
            words = ", ".join(f"{item.id} {item.severity_changed_from} -> {item.severity}" for item in changed)
            self.text(f"severities changed by the team: {words}", indent=2)
        if team.passed or team.failed:
            self.text(
                f"own tests beside the checklist: {team.passed} passed, {team.failed} failed", indent=2, style="red" if team.failed else ""
            )
        if self.readiness.findings:
            self.heading("ABOUT THIS RUN", "yellow")
            self.findings(self.readiness.findings)
        if left:
            self.heading(f"LEFT BEHIND IN THE CLUSTER: {len(left)}", "red")
            for name in left:
                self.text(name, indent=2)

    def verdict(self) -> None:
        """The last words: the verdict, why, and what to do next."""
        readiness = self.readiness
        style = _VERDICT_STYLE[readiness.verdict]
        self.add()
        for number, line in enumerate(
            wrap(self.clean(f"{readiness.verdict_text or readiness.verdict}: {readiness.verdict_reason}"), self.width - 2)
        ):
            self.add(("  " if number else "", ""), (line, style))
        for todo, command in next_commands(readiness):
            self.fix(f"{todo}: {command}", label="  next  ")
        self.add((f"  exit code {readiness.run.exit_code}", "light"))


def _heading(column: Status | str) -> tuple[str, str]:
    """A column's heading on two lines."""
    first, _, second = ("n/a" if column is Status.NOT_APPLICABLE else words(column)).partition(" ")
    return (first, second) if second else ("", first)


def _cut(title: str, room: int) -> str:
    """A title that fits: without what stands in brackets, then cut."""
    if len(title) > room:
        title = title.partition(" (")[0]
    return title.ljust(room) if len(title) <= room else f"{title[: room - 2]}.."


def _finding_style(finding: FindingDoc) -> str:
    return "red" if finding.severity == "error" else "yellow"
