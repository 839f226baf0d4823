"""readiness.md: for the summary of a CI job, a ticket or a chat. Short enough for GitHub's step summary (1 MiB)."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence

from pytest_meshready.report.attention import COLUMNS, loud, next_commands, problems, quiet, state, tally, words
from pytest_meshready.report.model import FindingDoc, ItemDoc, Readiness
from pytest_meshready.report.text import clean, split_command
from pytest_meshready.report.verdict import count, names
from pytest_meshready.results import Severity, Status

#: GitHub refuses more than 1 MiB for a step; other steps may write too.
MOST_BYTES = 900_000
#: Findings of one line, tried in this order until the text is short enough.
_FINDINGS = (20, 5, 1)

_ICONS = {
    Status.FAILED: "❌",
    Status.NOT_VERIFIED: "❔",
    Status.TO_ATTEST: "✍️",
    Status.WARNED: "⚠️",
    Status.WAIVED: "🟡",
    Status.ATTESTED: "✅",
    Status.PASSED: "✅",
    Status.NOT_APPLICABLE: "\N{HEAVY MINUS SIGN}",
    Status.NOT_DUE: "\N{HEAVY MINUS SIGN}",
}
_VERDICT_ICONS = {"READY": "✅", "NOT READY": "❌", "NOT VERIFIED": "❔"}
#: Characters with a meaning in Markdown; ``&`` and ``<`` are HTML's business.
_SPECIAL = re.compile(r"([\\`*_\[\]#|~$@])")


def render(readiness: Readiness) -> str:
    """The report as GitHub Markdown."""
    for limit in _FINDINGS:
        text = _render(readiness, limit)
        if len(text.encode()) <= MOST_BYTES:
            return text
    return _render(readiness, 0)


def _render(readiness: Readiness, limit: int) -> str:
    blocks = [_verdict(readiness), _run(readiness), _scoreboard(readiness)]
    for status in (Status.FAILED, Status.WARNED, Status.NOT_VERIFIED, Status.TO_ATTEST, Status.WAIVED):
        blocks += _block(readiness, status, limit)
    blocks += [_rights(readiness), _waivers(readiness), _rest(readiness), _every_line(readiness)]
    return "\n\n".join(block for block in blocks if block) + "\n"


def escape(text: str) -> str:
    """Text that Markdown shows as it is; names come from a cluster."""
    return _SPECIAL.sub(r"\\\1", html.escape(clean(text), quote=False))


def code(text: str) -> str:
    """Text in code style; HTML's element, because no backtick in the text can end it."""
    return f"<code>{escape(text)}</code>"


def _fence(command: str) -> str:
    ticks = "`" * max(3, 1 + max(map(len, re.findall(r"`+", command)), default=0))
    return f"{ticks}sh\n{clean(command)}\n{ticks}"


def _verdict(readiness: Readiness) -> str:
    lines = [
        f"# {_VERDICT_ICONS[readiness.verdict]} {escape(readiness.verdict_text or readiness.verdict)}",
        f"**{escape(readiness.run.namespace)}**: {escape(readiness.verdict_reason)}.",
    ]
    lines += [f"Next: {escape(words)}\n\n{_fence(command)}" for words, command in next_commands(readiness)]
    return "\n\n".join(lines)


def _run(readiness: Readiness) -> str:
    run = readiness.run
    who = {"option": "--mesh-phase", "config": "configuration", "guess": f"guessed: {run.phase_guessed_because}".rstrip(": ")}
    facts = [
        ("namespace", run.namespace),
        ("phase", f"{run.phase} ({who[run.phase_source]})"),
        ("cluster", run.context or run.source),
        ("Kubernetes", run.kubernetes_version or "unknown"),
        ("Istio", f"{run.istio_version} {run.istio_revision}".strip() or "not found"),
        ("started", f"{run.started:%Y-%m-%d %H:%M:%S} UTC"),
        ("lines", f"{run.lines_selected} of {run.lines_total} selected"),
        ("run", f"{run.id}, exit code {run.exit_code}, pytest-meshready {run.plugin_version}{', read-only' if run.read_only else ''}"),
    ]
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {escape(value)} |" for name, value in facts)])


def _scoreboard(readiness: Readiness) -> str:
    total = tally(readiness)
    columns = [column for column in COLUMNS if total[column]]
    rows = [
        "| section | " + " | ".join(words(column) for column in columns) + " |",
        "|---|" + "--:|" * len(columns),
    ]
    for section in readiness.sections:
        counts = tally(readiness, section.id)
        cells = (str(counts[column] or "") for column in columns)
        rows.append(f"| {escape(section.id)} {escape(section.title)} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def _block(readiness: Readiness, status: Status, limit: int) -> list[str]:
    single, groups = loud(readiness, status), quiet(readiness, status)
    number = len(single) + sum(len(group.items) for group in groups)
    if not number:
        return []
    blocks = [f"## {_ICONS[status]} {status.words.capitalize()}: {count(number, 'line')}"]
    blocks += [_item(item, limit) for item in single]
    bullets = []
    for group in groups:
        lines = ", ".join(escape(item.id) for item in group.items)
        blockers = f", {count(group.blockers, 'blocker')}" if group.blockers else ""
        bullets.append(f"- {escape(group.reason)} ({count(len(group.items), 'line')}{blockers}): {lines}")
    return [*blocks, "\n".join(bullets)]


def _item(item: ItemDoc, limit: int) -> str:
    severity = f"{item.severity}, was {item.severity_changed_from}" if item.severity_changed_from else str(item.severity)
    found = problems(item)
    blocks = [f"### {escape(item.id)} {escape(item.text)} ({severity})"]
    if not found or item.status not in (Status.FAILED, Status.WARNED):
        blocks.append(f"{escape(item.reason)}")
    blocks += [_finding(finding) for finding in found[:limit]]
    if len(found) > limit:
        blocks.append(f"and {count(len(found) - limit, 'more finding')}, all in readiness.html")
    return "\n\n".join(blocks)


def _finding(finding: FindingDoc) -> str:
    where = f" in {code(finding.file + (f':{finding.line}' if finding.line else ''))}" if finding.file else ""
    return "\n".join(
        [
            f"- {code(str(finding.object))}{where} ({finding.severity} {escape(finding.code)})",
            f"  - found: {escape(finding.found)}",
            f"  - wanted: {escape(finding.wanted)}",
            f"  - fix: {_fix(finding.fix)}",
        ]
    )


def _fix(fix: str) -> str:
    words, command = split_command(fix)
    return " ".join(filter(None, (escape(words), code(command) if command else "")))


def _rights(readiness: Readiness) -> str:
    if not readiness.not_permitted:
        return ""
    items = {item.id: item for item in readiness.items}
    rows = ["## Missing rights", "", "| right | lines |", "|---|---|"]
    rows += [f"| {code(str(one))} | {escape(names([items[line] for line in one.items], 12))} |" for one in readiness.not_permitted]
    return "\n".join(rows)


def _waivers(readiness: Readiness) -> str:
    if not readiness.waivers:
        return ""
    rows = ["## Waivers", "", "| line | who | until | why | now |", "|---|---|---|---|---|"]
    rows += [f"| {escape(w.item)} | {escape(w.who)} | {w.expires} | {escape(w.reason)} | {escape(w.note)} |" for w in readiness.waivers]
    return "\n".join(rows)


def _rest(readiness: Readiness) -> str:
    blocks = []
    if changed := [item for item in readiness.items if item.severity_changed_from]:
        words = ", ".join(f"{escape(item.id)} from {item.severity_changed_from} to {item.severity}" for item in changed)
        blocks.append(f"Severities changed by the team: {words}.")
    team = readiness.team_tests
    if team.passed or team.failed:
        blocks.append(f"Own tests beside the checklist: {team.passed} passed, {team.failed} failed.")
    if readiness.findings:
        blocks.append("\n\n".join(["## About this run", *(_finding(finding) for finding in readiness.findings)]))
    if readiness.left_behind:
        blocks.append("\n".join(["## ❌ Left behind in the cluster", "", *(f"- {code(name)}" for name in readiness.left_behind)]))
    return "\n\n".join(blocks)


def _every_line(readiness: Readiness) -> str:
    """Every line in the checklist's order, folded."""
    rows = ["<details><summary>Every line</summary>", "", "| | line | status | why |", "|---|---|---|---|"]
    for item in readiness.items:
        bold = "**" if item.severity is Severity.BLOCKER else ""
        note = f" (note: {item.note})" if item.note else ""
        cells: Sequence[str] = (
            _ICONS[item.status],
            f"{bold}{escape(item.id)}{bold} {escape(item.text + note)}",
            words(state(item)),
            escape(item.reason),
        )
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join([*rows, "", "Ids in bold are blockers.", "", "</details>"])
