"""The checklist as data: reads and checks ``catalogue.toml``, and answers which lines somebody means.

Nothing heavy is imported here, so that ``meshready explain`` answers at once.
"""

from __future__ import annotations

import difflib
import functools
import importlib.resources
import re
import tomllib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from pytest_meshready.checklist.lines import Line, Phase, Section
from pytest_meshready.results import Part, Severity

_T = TypeVar("_T", Line, Section)
_E = TypeVar("_E", Part, Phase, Severity)

_FILE = "catalogue.toml"

#: ``static+live(+drill)``: required parts, then optional ones.
_KIND = re.compile(r"(?P<required>[a-z]+(?:\+[a-z]+)*)(?P<optional>(?:\(\+[a-z]+\))*)")

#: What stands in the file for each table: the key, and whether it may be missing.
_SECTION_KEYS = {"id": True, "title": True, "subsections": True}
_LINE_KEYS = {
    "id": True,
    "text": True,
    "severity": True,
    "kind": True,
    "phases": True,
    "rights": True,
    "reads": True,
    "how": True,
    "sends": True,
    "hint": True,
    "note": False,
}
_BUNDLE_KEYS = {"id": True, "rules": True}
_RULE_KEYS = {"verbs": True, "group": False, "resources": False, "urls": False, "note": False}

#: Documentation to which a line may point; anything else would have to be judged by who reads it.
_HINTS = ("https://istio.io/", "https://kubernetes.io/")


class CatalogueError(Exception):
    """A catalogue that contradicts itself, or a line that nobody knows; the message is one sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule of RBAC: what may be done with which resources of a group, or with which addresses (``urls``).

    ``note`` narrows it in words, where RBAC cannot.
    """

    verbs: tuple[str, ...]
    group: str = ""
    resources: tuple[str, ...] = ()
    urls: tuple[str, ...] = ()
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue:
    """The checklist: sections and lines in its own order, and the bundles of rights that lines name (checks.md 1.9)."""

    sections: tuple[Section, ...]
    lines: tuple[Line, ...]
    bundles: Mapping[str, tuple[Rule, ...]]

    def line(self, id_: str) -> Line:
        """The line of this id.

        Raises:
            CatalogueError: if there is none, naming the nearest ids.
        """
        return _find(self.lines, id_)

    def section(self, id_: str) -> Section:
        """The section of this id.

        Raises:
            CatalogueError: if there is none, naming the nearest ids.
        """
        return _find(self.sections, id_)


def _find(things: Sequence[_T], id_: str) -> _T:
    found = next((thing for thing in things if thing.id == id_), None)
    if found is None:
        raise CatalogueError(unknown(id_, [thing.id for thing in things]))
    return found


@functools.cache
def load() -> Catalogue:
    """The shipped checklist.

    Raises:
        CatalogueError: where the file contradicts itself, naming the table at fault.
    """
    return parse(importlib.resources.files(__package__).joinpath(_FILE).read_text(encoding="utf-8"))


def parse(text: str) -> Catalogue:
    """A checklist from TOML, checked.

    Raises:
        CatalogueError: where the text contradicts itself, naming the table at fault.
    """
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise CatalogueError(f"the catalogue is no TOML: {error}") from error
    _keys("the catalogue", data, {"section": True, "line": True, "bundle": True})
    sections = tuple(_section(table) for table in data["section"])
    bundles = dict(_bundle(table) for table in data["bundle"])
    lines = tuple(_line(table) for table in data["line"])
    for name, ids in (
        ("section", [section.id for section in sections]),
        ("bundle", [table["id"] for table in data["bundle"]]),
        ("line", [line.id for line in lines]),
    ):
        twice = next((id_ for id_ in ids if ids.count(id_) > 1), None)
        if twice is not None:
            raise CatalogueError(f"{name} {twice} stands in the catalogue twice")
    known = {section.id: section for section in sections}
    for line in lines:
        _check_references(line, known, bundles)
    return Catalogue(sections=sections, lines=lines, bundles=bundles)


def parse_kind(text: str) -> tuple[tuple[Part, ...], tuple[Part, ...]]:
    """Required and optional parts of a kind: ``static+attest(+drill)`` needs two, a third can only worsen the line.

    Raises:
        CatalogueError: where the text is no kind, or names a part that does not exist or stands there twice.
    """
    match = _KIND.fullmatch(text)
    if match is None:
        raise CatalogueError(f"kind {text!r} is not of the form static+live(+drill)")
    required = tuple(_enum(Part, word, "kind") for word in match["required"].split("+"))
    optional = tuple(_enum(Part, word, "kind") for word in re.findall(r"[a-z]+", match["optional"]))
    if len({*required, *optional}) < len(required) + len(optional):
        raise CatalogueError(f"kind {text!r} names a part twice")
    return required, optional


def parse_phases(text: str) -> tuple[Phase, Phase]:
    """First and last phase of ``pre..golive``; one phase alone is both.

    Raises:
        CatalogueError: where a phase does not exist, or the last one comes before the first.
    """
    first, _, last = text.partition("..")
    begin, end = _enum(Phase, first, "phase"), _enum(Phase, last or first, "phase")
    if end.position < begin.position:
        raise CatalogueError(f"phases {text!r} end before they begin")
    return begin, end


def select(lines: Iterable[Line], expressions: Sequence[str]) -> frozenset[str]:
    """The ids of the lines that are meant: by ids of lines, subsections and sections (``4.2.1``, ``4.2``, ``4``); all for none.

    Raises:
        CatalogueError: for an expression that means no line; the sentence names the option and the nearest ids.
    """
    lines = tuple(lines)
    if not expressions:
        return frozenset(line.id for line in lines)
    selected: set[str] = set()
    for expression in expressions:
        found = {line.id for line in lines if expression in (line.id, line.subsection, line.section)}
        if not found:
            ids = dict.fromkeys(id_ for line in lines for id_ in (line.section, line.subsection, line.id) if id_)
            raise CatalogueError(f"--mesh-items={','.join(expressions)}: {unknown(expression, ids)}")
        selected |= found
    return frozenset(selected)


def unknown(id_: str, ids: Collection[str]) -> str:
    """The sentence about an id that nobody knows, with the nearest ids and where to see them all."""
    near = nearest(id_, ids)
    listed = f"; nearest {'is' if len(near) == 1 else 'are'} {_and(near)}" if near else ""
    return f"the checklist has no {id_!r}{listed} (see all: meshready explain)"


def nearest(id_: str, ids: Collection[str], count: int = 3) -> tuple[str, ...]:
    """The ids that somebody may have meant: numbers near by in the same section, or words that look alike."""
    if not re.fullmatch(r"\d+(\.\d+)*", id_):
        return tuple(difflib.get_close_matches(id_, sorted(ids), n=count, cutoff=0.5))
    wanted = _numbers(id_)
    numbered = [other for other in ids if re.fullmatch(r"\d+(\.\d+)*", other)]
    return tuple(sorted(numbered, key=lambda other: _distance(wanted, _numbers(other)))[:count])


def _numbers(id_: str) -> tuple[int, ...]:
    return tuple(int(number) for number in id_.split("."))


def _distance(wanted: tuple[int, ...], other: tuple[int, ...]) -> tuple[int, int, int, tuple[int, ...]]:
    """Sorts ids: as many equal numbers at the front as possible, then the same depth, then the nearest number."""
    common = next((place for place, (a, b) in enumerate(zip(wanted, other, strict=False)) if a != b), min(len(wanted), len(other)))
    gap = abs(wanted[common] - other[common]) if common < min(len(wanted), len(other)) else 0
    return -common, abs(len(wanted) - len(other)), gap, other


def _and(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


# --- tables of the file ---


def _section(table: Mapping[str, Any]) -> Section:
    _keys(f"section {table.get('id')}", table, _SECTION_KEYS)
    strange = [id_ for id_ in table["subsections"] if not id_.startswith(f"{table['id']}.")]
    if strange:
        raise CatalogueError(f"section {table['id']}: subsection {strange[0]} does not belong to it")
    return Section(id=table["id"], title=table["title"], subsections=dict(table["subsections"]))


def _bundle(table: Mapping[str, Any]) -> tuple[str, tuple[Rule, ...]]:
    where = f"bundle {table.get('id')}"
    _keys(where, table, _BUNDLE_KEYS)
    return table["id"], tuple(_rule(where, rule) for rule in table["rules"])


def _rule(where: str, table: Mapping[str, Any]) -> Rule:
    _keys(where, table, _RULE_KEYS)
    if bool(table.get("resources")) == bool(table.get("urls")):
        raise CatalogueError(f"{where}: a rule names either resources or urls")
    return Rule(
        verbs=tuple(table["verbs"]),
        group=table.get("group", ""),
        resources=tuple(table.get("resources", ())),
        urls=tuple(table.get("urls", ())),
        note=table.get("note", ""),
    )


def _line(table: Mapping[str, Any]) -> Line:
    where = f"line {table.get('id')}"
    _keys(where, table, _LINE_KEYS)
    id_: str = table["id"]
    numbers = id_.split(".")
    try:
        required, optional = parse_kind(table["kind"])
        first, last = parse_phases(table["phases"])
        severity = _enum(Severity, table["severity"], "severity")
    except CatalogueError as error:
        raise CatalogueError(f"{where}: {error}") from error
    return Line(
        id=id_,
        section=numbers[0],
        subsection=".".join(numbers[:-1]) if len(numbers) > 2 else "",
        text=table["text"],
        severity=severity,
        parts=required,
        optional=optional,
        first=first,
        last=last,
        rights=tuple(table["rights"]),
        reads=tuple(table["reads"]),
        how=_one_line(table["how"]),
        sends=_one_line(table["sends"]),
        hint=table["hint"],
        note=table.get("note", ""),
    )


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _check_references(line: Line, sections: Mapping[str, Section], bundles: Mapping[str, tuple[Rule, ...]]) -> None:
    """What a line names must exist.

    Raises:
        CatalogueError: naming the line and what does not exist.
    """
    from pytest_meshready.cluster.resources import RESOURCES

    section = sections.get(line.section)
    if section is None or (line.subsection and line.subsection not in section.subsections):
        raise CatalogueError(f"line {line.id}: its section or subsection does not exist")
    for name, ids, known in (("right", line.rights, bundles), ("read key", line.reads, RESOURCES)):
        missing = [id_ for id_ in ids if id_ not in known]
        if missing:
            raise CatalogueError(f"line {line.id}: unknown {name} {missing[0]!r}; known are {', '.join(known)}")
    if not (line.text and line.how and line.sends):
        raise CatalogueError(f"line {line.id}: text, how and sends must say something")
    if line.hint and not line.hint.startswith(_HINTS):
        raise CatalogueError(f"line {line.id}: hint {line.hint!r} does not begin with {' or '.join(_HINTS)}")


def _keys(where: str, table: Mapping[str, Any], known: Mapping[str, bool]) -> None:
    """Every key that must be there is, and no other one."""
    strange = [key for key in table if key not in known]
    missing = [key for key, needed in known.items() if needed and key not in table]
    if strange or missing:
        raise CatalogueError(f"{where}: unknown key {strange[0]!r}" if strange else f"{where}: {missing[0]!r} is missing")


def _enum(words: type[_E], word: str, name: str) -> _E:
    try:
        return words(word)
    except ValueError:
        raise CatalogueError(f"unknown {name} {word!r}; known are {', '.join(words)}") from None
