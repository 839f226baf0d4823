"""readiness.html: one file that opens offline, with every line, its findings and its evidence. For the go-live meeting.

It loads nothing, and its Content-Security-Policy forbids everything but its own style and script, so that nothing a
cluster or a team could write into a name can run.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from importlib import resources
from itertools import groupby

import msgspec

from pytest_meshready.report.attention import COLUMNS, loud, next_commands, problems, quiet, state, tally, words
from pytest_meshready.report.model import EvidenceDoc, FindingDoc, ItemDoc, Readiness, SectionDoc
from pytest_meshready.report.text import clean, split_command
from pytest_meshready.report.verdict import count
from pytest_meshready.results import Severity, Status

#: Findings of one line in the upper part; all of them stand with the line below.
_FINDINGS = 20
#: Rows of one table of evidence; readiness.json has all.
_ROWS = 200
_VERDICT_TONE = {"READY": "passed", "NOT READY": "failed", "NOT VERIFIED": "not_verified"}
_LOUD = (Status.FAILED, Status.WARNED, Status.NOT_VERIFIED, Status.TO_ATTEST, Status.WAIVED)


class Html(str):
    """Markup that is safe already; every other string is escaped by `el`."""

    __slots__ = ()


Child = str | None


def el(tag: str, *children: Child, cls: str = "", **attributes: str) -> Html:
    """An element; text is escaped, ``data_status`` becomes ``data-status``, and None is left out."""
    given = {"class": cls, **attributes} if cls else attributes
    words = "".join(f' {name.replace("_", "-")}="{html.escape(value)}"' for name, value in given.items())
    return Html(f"<{tag}{words}>{join(children)}</{tag}>")


def join(children: Iterable[Child]) -> Html:
    """Several pieces one after the other."""
    return Html("".join(child if isinstance(child, Html) else html.escape(clean(child)) for child in children if child))


def render(readiness: Readiness) -> str:
    """The page."""
    style, script = _asset("page.css"), _asset("page.js")
    policy = f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; base-uri 'none'; form-action 'none'"
    heading = f"{readiness.verdict_text or readiness.verdict}: mesh readiness of {readiness.run.namespace}"
    head = join(
        (
            Html('<meta charset="utf-8">'),
            Html(f'<meta http-equiv="Content-Security-Policy" content="{html.escape(policy)}">'),
            Html('<meta name="viewport" content="width=device-width, initial-scale=1">'),
            el("title", heading),
            Html(f"<style>{style}</style>"),
        )
    )
    main = el(
        "main",
        _verdict(readiness),
        _tiles(readiness),
        _scoreboard(readiness),
        _faults(readiness),
        _unverified(readiness),
        _rights(readiness),
        _waivers(readiness),
        _about(readiness),
        _left_behind(readiness),
        _lines(readiness),
        _footer(readiness),
    )
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n{main}\n<script>{script}</script>\n</body></html>\n'


def _asset(name: str) -> str:
    return resources.files(__package__ or "pytest_meshready.report").joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


# --- the upper part: verdict, counts, what to do ---


def _verdict(readiness: Readiness) -> Html:
    steps = (el("div", el("span", todo, cls="soft"), el("pre", command), cls="next") for todo, command in next_commands(readiness))
    return el(
        "header",
        el("div", f"mesh readiness of {readiness.run.namespace}", cls="soft"),
        el("h1", readiness.verdict_text or readiness.verdict),
        el("p", f"{readiness.verdict_reason}.", cls="reason"),
        join(steps),
        _facts(readiness),
        cls=f"verdict card {_VERDICT_TONE[readiness.verdict]}",
    )


def _facts(readiness: Readiness) -> Html:
    run = readiness.run
    guess = f"guessed: {run.phase_guessed_because}" if run.phase_guessed_because else "guessed"
    who = {"option": "given by --mesh-phase", "config": "from the configuration", "guess": guess}[run.phase_source]
    mode = [
        word for word, said in (("read-only", run.read_only), ("final approval", run.go_live), ("ended early", not run.complete)) if said
    ]
    facts = (
        ("namespace", run.namespace),
        ("phase", f"{run.phase}, {who}"),
        ("cluster", run.context or run.source),
        ("Kubernetes", run.kubernetes_version or "unknown"),
        ("Istio", f"{run.istio_version} {run.istio_revision}".strip() or "not found"),
        ("started", f"{run.started:%Y-%m-%d %H:%M:%S} UTC, {(run.finished - run.started).total_seconds():.0f} s"),
        ("lines selected", f"{run.lines_selected} of {run.lines_total}{': ' + ', '.join(run.selection) if run.selection else ''}"),
        ("run", ", ".join([run.id, f"exit code {run.exit_code}", *mode])),
    )
    return el("dl", *(el("div", el("dt", name), el("dd", value)) for name, value in facts), cls="facts")


def _tiles(readiness: Readiness) -> Html:
    counts = tally(readiness)
    tiles = (
        el(
            "button",
            el("b", str(counts[column])),
            el("span", words(column)),
            cls=f"tile card {_css(column)}",
            data_status=_css(column),
            aria_pressed="false",
            type="button",
        )
        for column in COLUMNS
        if counts[column]
    )
    return el("div", *tiles, cls="tiles")


def _css(column: str) -> str:
    """The class of a status, or of a line that was left out."""
    return column.replace(" ", "_")


def _scoreboard(readiness: Readiness) -> Html:
    total = tally(readiness)
    columns = [column for column in COLUMNS if total[column]]
    head = el("tr", el("th", "section"), el("th", ""), *(el("th", words(column), cls="n") for column in columns))
    rows = []
    for section in readiness.sections:
        counts = tally(readiness, section.id)
        cells = (el("td", str(counts[column] or ""), cls=f"n {_css(column)}") for column in columns)
        link = el("a", f"{_number(section)}{section.title}", href=f"#section-{section.id}")
        rows.append(el("tr", el("td", link), el("td", _bar(counts), cls="bar"), *cells))
    table = el("table", el("thead", head), el("tbody", *rows))
    return join((el("h2", "Scoreboard"), el("div", table, cls="board card scroll")))


def _number(section: SectionDoc) -> str:
    return "" if section.id == "team" else f"{section.id} "


def _bar(counts: Counter[Status | str]) -> Html:
    """The section's lines as a bar; attributes instead of inline styles, which the page's policy forbids."""
    place, pieces = 0, []
    for column in reversed(COLUMNS):
        if number := counts[column]:
            shape = f'class="{_css(column)}" x="{place}" y="0" width="{number}" height="1"'
            pieces.append(Html(f"<rect {shape}><title>{number} {words(column)}</title></rect>"))
            place += number
    return Html(
        f'<svg viewBox="0 0 {max(place, 1)} 1" preserveAspectRatio="none" role="img" aria-label="lines by status">{join(pieces)}</svg>'
    )


def _faults(readiness: Readiness) -> Html:
    """Lines about which something wrong was found, with all that one needs to act."""
    cards = []
    for status in _LOUD:
        for item in loud(readiness, status):
            found = problems(item)
            why = not found or status not in (Status.FAILED, Status.WARNED)
            more = f"and {count(len(found) - _FINDINGS, 'more finding')}, all with the line below" if len(found) > _FINDINGS else None
            cards.append(
                el(
                    "div",
                    el("h3", _pill(item), el("a", item.id, cls="id", href=f"#line-{item.id}"), el("span", item.text), _severity(item)),
                    el("p", item.reason) if why else None,
                    *(_finding(finding) for finding in found[:_FINDINGS]),
                    el("p", more, cls="soft") if more else None,
                    cls=f"fault card {status}",
                )
            )
    return join((el("h2", "What was found"), *cards)) if cards else Html("")


def _unverified(readiness: Readiness) -> Html:
    groups = [*quiet(readiness, Status.NOT_VERIFIED), *quiet(readiness, Status.TO_ATTEST)]
    if not groups:
        return Html("")
    rows = (
        el(
            "tr",
            el("td", group.reason),
            el("td", str(len(group.items)), cls=f"n {group.status}"),
            el("td", str(group.blockers or ""), cls="n"),
            el("td", *_links(item.id for item in group.items)),
        )
        for group in groups
    )
    head = el("tr", el("th", "why"), el("th", "lines", cls="n"), el("th", "blockers", cls="n"), el("th", "which"))
    return join((el("h2", "What is open, and why"), el("div", el("table", el("thead", head), el("tbody", *rows)), cls="open card scroll")))


def _links(ids: Iterable[str]) -> list[Child]:
    pieces: list[Child] = []
    for line in ids:
        pieces += [Html(", ") if pieces else None, el("a", line, href=f"#line-{line}")]
    return pieces


def _rights(readiness: Readiness) -> Html:
    if not readiness.not_permitted:
        return Html("")
    rows = (el("tr", el("td", el("code", str(one))), el("td", *_links(one.items))) for one in readiness.not_permitted)
    head = el("tr", el("th", "right"), el("th", "lines that miss it"))
    return join((el("h2", "Missing rights"), el("div", el("table", el("thead", head), el("tbody", *rows)), cls="card scroll")))


def _waivers(readiness: Readiness) -> Html:
    if not readiness.waivers:
        return Html("")
    rows = (
        el("tr", el("td", *_links([one.item])), el("td", one.reason), el("td", one.who), el("td", str(one.expires)), el("td", one.note))
        for one in readiness.waivers
    )
    head = el("tr", *(el("th", word) for word in ("line", "why", "who", "until", "in this run")))
    return join((el("h2", "Waivers"), el("div", el("table", el("thead", head), el("tbody", *rows)), cls="card scroll")))


def _about(readiness: Readiness) -> Html:
    if not readiness.findings:
        return Html("")
    return join((el("h2", "About this run"), el("div", *(_finding(finding) for finding in readiness.findings), cls="card")))


def _left_behind(readiness: Readiness) -> Html:
    if not readiness.left_behind:
        return Html("")
    rows = (el("tr", el("td", el("code", name))) for name in readiness.left_behind)
    return join((el("h2", "Left behind in the cluster"), el("div", el("table", el("tbody", *rows)), cls="card")))


# --- every line ---


def _lines(readiness: Readiness) -> Html:
    tools = el(
        "span", el("button", "open all", id="open", type="button"), el("button", "close all", id="close", type="button"), cls="tools"
    )
    pieces = [el("h2", "Every line", tools)]
    for section in readiness.sections:
        items = [item for item in readiness.items if item.section == section.id]
        rows = []
        for subsection, own in groupby(items, key=lambda item: item.subsection):
            together = list(own)
            if title := together[0].subsection_title:
                rows.append(el("div", f"{subsection} {title}", cls="subsection", data_group=f"sub-{subsection}"))
            rows += [_line(item) for item in together]
        pieces.append(el("h3", f"{_number(section)}{section.title}", cls="section", id=f"section-{section.id}", data_group=section.id))
        pieces.append(el("div", *rows, cls="card", data_group=section.id))
    return join(pieces)


def _line(item: ItemDoc) -> Html:
    summary = el(
        "summary",
        _pill(item),
        el("span", item.id, cls="id"),
        el("span", item.text, cls="text"),
        _severity(item),
        el("span", item.reason, cls="why"),
    )
    return el(
        "details",
        summary,
        el("div", *_more(item), cls="more"),
        cls=f"line {_css(state(item))}",
        id=f"line-{item.id}",
        data_status=_css(state(item)),
        data_section=item.section,
        data_subsection=f"sub-{item.subsection}",
    )


def _more(item: ItemDoc) -> list[Child]:
    """What unfolds under a line."""
    pieces: list[Child] = []
    if item.note:
        pieces.append(el("p", f"Note: {item.note}"))
    if item.parts:
        rows = (el("tr", el("td", part.part or "own test"), el("td", part.status.words), el("td", part.reason)) for part in item.parts)
        head = el("tr", el("th", "evidence"), el("th", "status"), el("th", "why"))
        pieces.append(el("table", el("thead", head), el("tbody", *rows)))
    pieces += [_finding(finding) for finding in item.findings]
    pieces += [_evidence(evidence) for evidence in item.evidence]
    pieces += _people(item)
    if item.checks:
        checks = (el("li", el("code", one.nodeid), Html(" "), f"{one.status.words}, {one.seconds:.2f} s") for one in item.checks)
        pieces.append(el("div", el("h4", "checks"), el("ul", *checks)))
    kinds = "+".join(item.kind) + "".join(f"(+{kind})" for kind in item.kind_optional)
    how = [f"decided by {kinds or 'own tests'}", "the team's own line" if item.custom else ""]
    link = _link("documentation", item.hint) if item.hint else None
    return [*pieces, el("p", ", ".join(filter(None, how)), Html(" &middot; ") if link else None, link, cls="soft")]


def _people(item: ItemDoc) -> list[Child]:
    pieces: list[Child] = []
    if said := item.attestation:
        state = "" if said.counted else " (not counted)"
        link = [Html(" "), _link(said.link, said.link)] if said.link else []
        pieces.append(el("p", f"Statement by {said.who} of {said.date}, until {said.expires}{state}", *link))
    if waiver := item.waiver:
        pieces.append(el("p", f"Waiver by {waiver.who} until {waiver.expires}: {waiver.reason} ({waiver.note})"))
    return pieces


def _pill(item: ItemDoc) -> Html:
    return el("span", words(state(item)), cls="pill")


def _severity(item: ItemDoc) -> Html:
    weight = f"{item.severity}, was {item.severity_changed_from}" if item.severity_changed_from else str(item.severity)
    return el("span", weight, cls="severity blocker" if item.severity is Severity.BLOCKER else "severity")


def _finding(finding: FindingDoc) -> Html:
    todo, command = split_command(clean(finding.fix))
    where = f"{finding.file}:{finding.line}" if finding.line else finding.file
    return el(
        "div",
        el(
            "div",
            el("code", str(finding.object)),
            el("span", finding.severity, cls=f"level-{finding.severity}"),
            el("span", finding.code, cls="soft"),
            el("span", where, cls="soft") if where else None,
            cls="head",
        ),
        el(
            "dl",
            el("dt", "found"),
            el("dd", finding.found),
            el("dt", "wanted"),
            el("dd", finding.wanted),
            el("dt", "fix"),
            el("dd", todo, el("pre", command) if command else None),
        ),
        cls="finding",
    )


def _evidence(evidence: EvidenceDoc) -> Html:
    pieces: list[Child] = [el("h4", f"{evidence.kind}: {evidence.source}")]
    if evidence.text is not msgspec.UNSET and evidence.text:
        pieces.append(Html(f"<pre>{html.escape(evidence.text)}</pre>"))
    if evidence.data is not msgspec.UNSET:
        rows = evidence.data
        if _is_table(rows):
            pieces.append(_table(rows))
        else:
            pieces.append(Html(f"<pre>{html.escape(json.dumps(rows, indent=2, ensure_ascii=False))}</pre>"))
    return el("div", *pieces)


def _is_table(data: object) -> bool:
    return isinstance(data, list) and bool(data) and all(isinstance(row, dict) and _is_flat(row) for row in data)


def _is_flat(row: dict[str, object]) -> bool:
    return not any(isinstance(value, dict | list) for value in row.values())


def _table(rows: Sequence[dict[str, object]]) -> Html:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    body = (el("tr", *(el("td", "" if row.get(column) is None else str(row[column])) for column in columns)) for row in rows[:_ROWS])
    table = el("table", el("thead", el("tr", *(el("th", column) for column in columns))), el("tbody", *body))
    more = el("p", f"and {count(len(rows) - _ROWS, 'more row')} in readiness.json", cls="soft") if len(rows) > _ROWS else None
    return el("div", table, more, cls="scroll")


def _link(label: str, address: str) -> Html:
    """A link to follow; only the web's schemes, because an address may come from a file of the team's."""
    if not address.startswith(("https://", "http://")):
        return el("code", address)
    return el("a", label, href=address, rel="noopener noreferrer")


def _footer(readiness: Readiness) -> Html:
    team = readiness.team_tests
    changed = [f"{item.id} {item.severity_changed_from} to {item.severity}" for item in readiness.items if item.severity_changed_from]
    return el(
        "footer",
        el("p", f"Own tests beside the checklist: {team.passed} passed, {team.failed} failed.") if team.passed or team.failed else None,
        el("p", f"Severities changed by the team: {', '.join(changed)}.") if changed else None,
        el("p", f"pytest-meshready {readiness.run.plugin_version}, run {readiness.run.id}. The same as data: readiness.json."),
    )
