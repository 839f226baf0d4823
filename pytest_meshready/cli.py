"""The command ``meshready``: what can be asked about the checklist without a cluster and without pytest."""

from __future__ import annotations

import argparse
import os
import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence

from pytest_meshready.checklist import catalogue
from pytest_meshready.checklist.catalogue import Catalogue, CatalogueError, Rule
from pytest_meshready.checklist.lines import Line, Phase
from pytest_meshready.results import Part, Severity

#: Columns; the widest terminal that everybody has.
WIDTH = 80
_MARGIN = 13

#: The exit code of a question that makes no sense, the same as argparse's own.
_USAGE = 2

_SEVERITY = {
    Severity.BLOCKER: "blocker: without it the verdict cannot be READY",
    Severity.MAJOR: "major: if it fails, the verdict is NOT READY",
    Severity.MINOR: "minor: it never fails, it only warns",
}

_PARTS = {
    Part.STATIC: "configuration (static)",
    Part.LIVE: "traffic that this run sends (live)",
    Part.METRICS: "what Prometheus and its kind have measured (metrics)",
    Part.ATTEST: "a dated statement by a named person (attest)",
    Part.DRILL: "an experiment that you ask for by name (drill)",
    Part.AGGREGATE: "other lines of the checklist (aggregate)",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit code is 0, or 2 for a question that makes no sense."""
    parser = _parser()
    given = parser.parse_args(arguments)
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")  # a dash that the terminal does not know must not end in a traceback
    try:
        text = explain(given.id)
    except CatalogueError as error:
        sys.stderr.write(f"meshready: {error}\n")
        return _USAGE
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader has seen enough: | head
    return 0


def explain(ids: Sequence[str]) -> str:
    """What is known about lines, sections and subsections, at most `WIDTH` columns wide; a list of all lines for none.

    Raises:
        CatalogueError: for an id that the checklist does not have, with the nearest ones.
    """
    checklist = catalogue.load()
    if not ids:
        return _text([*_listing(checklist, checklist.lines), "", *_closing()])
    pages = [_page(checklist, id_.strip()) for id_ in ids]
    return _text([line for number, page in enumerate(pages) for line in ([""] if number else []) + page])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="meshready",
        description="The Istio production rollout checklist. To run it: pytest --mesh-namespace=NAMESPACE",
    )
    parser.add_argument("--version", action="version", version=f"pytest-meshready {_version()}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    command = commands.add_parser(
        "explain",
        help="tell how a line is decided: evidence, what is sent, rights, phases, severity",
        description="Tell how a line is decided: evidence, what is sent, rights, phases, severity. Without an id: list all lines.",
    )
    command.add_argument("id", nargs="*", metavar="ID", help="a line (7.2.1), a subsection (7.2) or a section (7)")
    return parser


def _version() -> str:
    from importlib import metadata

    try:
        return metadata.version("pytest-meshready")
    except metadata.PackageNotFoundError:
        return "(not installed)"


def _text(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


# --- lists ---


def _page(checklist: Catalogue, id_: str) -> list[str]:
    """One line in full, or the list of a section or subsection."""
    line = next((line for line in checklist.lines if line.id == id_), None)
    if line is not None:
        return list(_line(checklist, line))
    chosen = [line for line in checklist.lines if id_ in (line.section, line.subsection)]
    if not chosen:
        ids = dict.fromkeys(word for line in checklist.lines for word in (line.section, line.subsection, line.id) if word)
        raise CatalogueError(catalogue.unknown(id_, ids))
    return [*_listing(checklist, chosen), "", *_closing(chosen[0].id)]


def _listing(checklist: Catalogue, lines: Sequence[Line]) -> Iterator[str]:
    """Lines under the titles of their sections; an asterisk marks those that this version decides, wholly or in part."""
    decided = _decided()
    section = subsection = ""
    for line in lines:
        if line.section != section:
            section, subsection = line.section, ""
            if line is not lines[0]:
                yield ""
            yield f"{section}. {checklist.section(section).title}"
        if line.subsection != subsection:
            subsection = line.subsection
            yield f"  {subsection} {checklist.section(section).subsections[subsection]}"
        head = f"  {'*' if line.id in decided else ' '} {line.id:<7}{line.severity:<9}"
        yield from textwrap.wrap(line.text, WIDTH, initial_indent=head, subsequent_indent=" " * len(head))


def _closing(example: str = "7.2.1") -> list[str]:
    return textwrap.wrap(
        "* this version decides it, wholly or in part; the others are reported as not verified. "
        f"More about a line: meshready explain {example}",
        WIDTH,
    )


def _decided() -> frozenset[str]:
    from pytest_meshready.checklist.shipped import shipped_tests

    return frozenset(shipped_tests())


# --- one line ---


def _line(checklist: Catalogue, line: Line) -> Iterator[str]:
    section = checklist.section(line.section)
    yield from textwrap.wrap(line.text, WIDTH, initial_indent=f"{line.id}  ", subsequent_indent=" " * (len(line.id) + 2))
    place = f"{section.id}. {section.title}"
    if line.subsection:
        place += f" > {line.subsection} {section.subsections[line.subsection]}"
    yield from textwrap.wrap(place, WIDTH, initial_indent="  in ", subsequent_indent="     ")
    yield ""
    if line.note:
        yield from _entry("note", line.note)
    yield from _entry("severity", _SEVERITY[line.severity])
    yield from _entry("phases", _phases(line))
    yield from _entry("needs", _needs(line))
    yield from _entry("how", line.how)
    yield from _entry("sends", line.sends)
    yield from _now(line)
    yield from _entry("reads", _reads(line))
    yield from _rights(checklist, line)
    if line.hint:
        yield from _entry("more", line.hint)


def _entry(name: str, text: str) -> list[str]:
    """A name in the margin and its text beside it; addresses and node ids are never broken."""
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=f"  {name:<{_MARGIN - 2}}",
        subsequent_indent=" " * _MARGIN,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _phases(line: Line) -> str:
    due = [phase.value for phase in Phase if line.due(phase)]
    others = [phase.value for phase in Phase if not line.due(phase)]
    return f"due in {', '.join(due)}; not in {', '.join(others)}" if others else "due in every phase"


def _needs(line: Line) -> str:
    """The kind of the line in words."""
    needed = _and([_PARTS[part] for part in line.parts])
    if len(line.parts) > 1:
        needed += "; all are required, the worst counts"
    if line.optional:
        needed += f"; {_and([_PARTS[part] for part in line.optional])} is not required and can only worsen it"
    return needed


def _and(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _now(line: Line) -> Iterator[str]:
    """What this version decides of the line, and the tests that do."""
    from pytest_meshready.checklist.shipped import shipped_tests

    tests = shipped_tests().get(line.id, ())
    if not tests:
        yield from _entry("now", "this version has no check for it: it is reported as not verified")
        return
    done = {part for test in tests for part in test.parts}
    missing = [part.value for part in line.parts if part not in done]
    rest = f"; without its {_and(missing)} part it is not verified, or failed" if missing else ""
    yield from _entry("now", f"this version decides its {_and([part.value for part in Part if part in done])} part{rest}:")
    for test in tests:
        yield from _entry("", test.nodeid)


def _reads(line: Line) -> str:
    if not line.reads:
        return "nothing in this version"
    from pytest_meshready.cluster.resources import RESOURCES

    return ", ".join(RESOURCES[key].rbac_name for key in line.reads)


def _rights(checklist: Catalogue, line: Line) -> Iterator[str]:
    """The rights of the whole line as RBAC writes them, one row for the same verbs."""
    rules = dict.fromkeys(rule for id_ in line.rights for rule in checklist.bundles[id_])
    if not rules:
        yield from _entry("rights", "none")
        return
    yield from _entry("rights", "for the whole line, with the parts that this version does not have yet:")
    rows: dict[tuple[str, str], list[str]] = {}
    for rule in rules:
        rows.setdefault((", ".join(rule.verbs), rule.note), []).extend(_targets(rule))
    for (verbs, note), targets in rows.items():
        yield from _entry("", f"{verbs}: {', '.join(targets)}{f' ({note})' if note else ''}")
    if line.reads:
        yield from _entry("", "for what this version reads, as YAML:")
        yield from _entry("", f"pytest --mesh-namespace=NAMESPACE --mesh-items={line.id} --mesh-rbac=-")


def _targets(rule: Rule) -> list[str]:
    """What a rule is about: ``deployments.apps``, ``/readyz``."""
    suffix = f".{rule.group}" if rule.group else ""
    return [*rule.urls, *(f"{resource}{suffix}" for resource in rule.resources)]
