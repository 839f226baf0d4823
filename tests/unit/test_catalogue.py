"""The checklist as data: its words are the checklist's own, and it cannot contradict itself."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pytest_meshready.checklist import catalogue
from pytest_meshready.checklist.catalogue import CatalogueError
from pytest_meshready.checklist.lines import Line, Phase
from pytest_meshready.checklist.shipped import shipped_tests
from pytest_meshready.cluster.resources import RESOURCES
from pytest_meshready.results import Part, Severity

ROOT = Path(__file__).parents[2]
COPY = ROOT / "tests" / "data" / "checklist.txt"
ORIGINAL = ROOT.parent / "shared" / "reference" / "checklist.txt"

#: DESIGN, Severity; all others are major.
# fmt: off
BLOCKERS = [
    "1.1.2", "1.1.3", "1.1.4", "1.2.3", "1.2.4", "2.1.1", "2.1.2", "2.1.3", "2.2.1", "2.2.3", "3.1.2", "3.1.4", "3.2.1",
    "3.2.2", "3.2.4", "4.1.2", "4.2.1", "5.1.1", "5.1.2", "5.3.2", "6.1.1", "6.1.2", "7.1.1", "7.1.2", "7.2.1", "7.2.2",
    "8.1.1", "8.2.2", "8.2.3", "9.1.3", "10.2.1", "10.2.2", "11.1.1", "11.1.2", "11.1.3", "11.2.1", "12.5", "13.1",
    "13.2", "13.3", "13.4", "13.5",
]
# fmt: on
MINORS = ["4.2.3", "5.3.1", "5.3.3", "6.2.4", "8.2.1", "12.2", "12.3"]

#: The lines that this version decides (issue 4).
# fmt: off
DECIDED = [
    "1.1.3", "1.1.4", "2.2.1", "2.2.2", "2.2.3", "3.1.4", "3.2.1", "3.2.2", "3.2.3", "4.1.2", "4.1.3", "4.2.1", "7.1.1",
    "7.2.3", "11.1.1",
]
# fmt: on


def the_checklist() -> list[tuple[str, str, str, str]]:
    """(id, section's title, subsection's title, text) of every line, numbered as the checklist is read from top to bottom."""
    lines: list[tuple[str, str, str, str]] = []
    section, title, subsection, subtitle, number = 0, "", 0, "", 0
    for row in COPY.read_text(encoding="utf-8").splitlines():
        if (heading := re.fullmatch(r"(\d+)\. (.+)", row)) or row == "Final Go-Live Approval":
            section, title = section + 1, heading[2] if heading else row
            subsection, subtitle, number = 0, "", 0
        elif row.startswith(("✅ ", "🚫 ")):
            subsection, subtitle, number = subsection + 1, row[2:], 0
        elif row.startswith("  • "):
            number += 1
            ids = [section, subsection, number] if subsection else [section, number]
            lines.append((".".join(map(str, ids)), title, subtitle, row[4:]))
    return lines


def test_the_copy_of_the_checklist_is_the_checklist() -> None:
    """Where the reference lies beside the repository, the committed copy equals it byte for byte."""
    if not ORIGINAL.is_file():
        pytest.skip("the reference does not lie beside this repository")
    assert COPY.read_bytes() == ORIGINAL.read_bytes()


def test_every_line_stands_in_the_catalogue_in_the_checklists_words() -> None:
    """Ids, order, texts and titles are those of the checklist, byte for byte."""
    loaded = catalogue.load()
    titles = {section.id: section for section in loaded.sections}
    ours = [
        (
            line.id,
            titles[line.section].title,
            titles[line.section].subsections[line.subsection] if line.subsection else "",
            line.text,
        )
        for line in loaded.lines
    ]
    assert ours == the_checklist()


def test_there_are_93_lines_in_13_sections() -> None:
    """The checklist has twelve sections and the final approval, and 93 lines."""
    loaded = catalogue.load()
    assert (len(loaded.sections), len(loaded.lines)) == (13, 93)


def test_the_note_belongs_to_the_memory_line() -> None:
    """The note under 2.1 is shown with 2.1.2, in its own words, and is no line."""
    notes = {line.id: line.note for line in catalogue.load().lines if line.note}
    assert notes == {"2.1.2": "Envoy sidecars typically add ~50\u2013100MB memory per pod"}
    assert notes["2.1.2"] in COPY.read_text(encoding="utf-8").splitlines()


def test_severities_are_those_of_the_design() -> None:
    """42 blockers, 7 minor lines, the others major."""
    by_severity: dict[Severity, list[str]] = {severity: [] for severity in Severity}
    for line in catalogue.load().lines:
        by_severity[line.severity].append(line.id)
    assert by_severity[Severity.BLOCKER] == BLOCKERS
    assert by_severity[Severity.MINOR] == MINORS


def test_every_line_can_be_explained() -> None:
    """Evidence and what is sent are told for each line, in 2 to 6 sentences; hints are addresses of the two documentations."""
    for line in catalogue.load().lines:
        assert line.how.endswith("."), line.id
        assert 1 <= len(re.findall(r"\.(?: [A-Z0-9]|$)", line.how)) <= 6, line.id
        assert line.sends, line.id
        assert not line.hint or re.fullmatch(r"https://(istio|kubernetes)\.io/\S+/", line.hint), line.id


def test_lines_that_send_nothing_are_decided_without_traffic() -> None:
    """A line with live evidence or a required drill says what it sends."""
    for line in catalogue.load().lines:
        if {Part.LIVE, Part.DRILL}.intersection(line.parts) and line.id != "4.2.3":  # which reads logs
            assert not line.sends.startswith("nothing"), line.id


def test_what_lines_read_can_be_read() -> None:
    """Every key in `reads` is a row of the table of resources, and every right is a bundle."""
    loaded = catalogue.load()
    for line in loaded.lines:
        assert set(line.reads) <= set(RESOURCES), line.id
        assert set(line.rights) <= set(loaded.bundles), line.id
        assert len(set(line.reads)) == len(line.reads), line.id


def test_the_lines_that_read_are_those_with_a_shipped_test() -> None:
    """A line has something to read exactly if a shipped test decides it; what each rule reads, test_properties watches."""
    reading = [line.id for line in catalogue.load().lines if line.reads]
    assert sorted(reading) == sorted(shipped_tests())
    assert set(DECIDED) <= set(reading)


@pytest.mark.parametrize(
    ("id_", "parts", "optional"),
    [
        ("1.1.2", (Part.STATIC, Part.METRICS), ()),
        ("2.1.4", (Part.STATIC, Part.ATTEST), (Part.DRILL,)),
        ("2.2.1", (Part.STATIC,), ()),
        ("3.2.3", (Part.STATIC,), (Part.DRILL,)),
        ("4.2.1", (Part.STATIC, Part.LIVE), ()),
        ("7.2.3", (Part.STATIC, Part.ATTEST, Part.LIVE), ()),
        ("13.3", (Part.METRICS, Part.AGGREGATE), ()),
        ("13.4", (Part.AGGREGATE,), ()),
    ],
)
def test_kinds(id_: str, parts: tuple[Part, ...], optional: tuple[Part, ...]) -> None:
    """Kinds are those of checks.md 3.0 in the design's words."""
    line = catalogue.load().line(id_)
    assert (line.parts, line.optional) == (parts, optional)


@pytest.mark.parametrize(
    ("id_", "due"),
    [
        ("1.2.4", "pre permissive strict expand"),
        ("4.2.1", "permissive strict expand hardened golive"),
        ("6.2.1", "permissive strict"),
        ("6.2.3", "permissive strict expand hardened golive"),
        ("7.1.1", "permissive"),
        ("7.2.3", "strict expand"),
        ("11.1.1", "hardened golive"),
        ("13.1", "golive"),
    ],
)
def test_phases(id_: str, due: str) -> None:
    """Lines are due in the phases of checks.md 3.0."""
    line = catalogue.load().line(id_)
    assert [phase.value for phase in Phase if line.due(phase)] == due.split()


def test_every_phase_has_lines() -> None:
    """PERMISSIVE and STRICT are never asked for at the same time."""
    lines = catalogue.load().lines
    for phase in Phase:
        due = {line.id for line in lines if line.due(phase)}
        assert due, phase
        assert not {"7.1.1", "7.2.3"} <= due
        assert not {"7.3.1", "11.1.2"} <= due


def test_select_takes_lines_subsections_and_sections() -> None:
    """`--mesh-items=4.2,12` means three and five lines; nothing given means all."""
    lines = catalogue.load().lines
    assert catalogue.select(lines, ("4.2", "12", "4.2.1")) == {"4.2.1", "4.2.2", "4.2.3", "12.1", "12.2", "12.3", "12.4", "12.5"}
    assert len(catalogue.select(lines, ())) == 93
    assert catalogue.select(lines, ("1",)) == {line.id for line in lines if line.id.startswith("1.")}


def test_select_takes_a_teams_own_lines() -> None:
    """A team's line is selected by its id and with the section that it joined."""
    own = Line(id="payments-1", section="4", subsection="", text="ours", severity=Severity.MAJOR, parts=(), custom=True)
    lines = (*catalogue.load().lines, own)
    assert catalogue.select(lines, ("payments-1",)) == {"payments-1"}
    assert "payments-1" in catalogue.select(lines, ("4",))
    assert "payments-1" not in catalogue.select(lines, ("4.2",))


@pytest.mark.parametrize(
    ("expressions", "sentence"),
    [
        (("4.2", "4.3"), "--mesh-items=4.2,4.3: the checklist has no '4.3'; nearest are 4.2, 4.1 and 4 (see all: meshready explain)"),
        (("7.2.9",), "--mesh-items=7.2.9: the checklist has no '7.2.9'; nearest are 7.2.3, 7.2.2 and 7.2.1 (see all: meshready explain)"),
        (("14",), "--mesh-items=14: the checklist has no '14'; nearest are 13, 12 and 11 (see all: meshready explain)"),
        (("paymets-1",), "--mesh-items=paymets-1: the checklist has no 'paymets-1'; nearest is payments-1 (see all: meshready explain)"),
        (("sidecars",), "--mesh-items=sidecars: the checklist has no 'sidecars' (see all: meshready explain)"),
    ],
)
def test_select_names_the_nearest_ids(expressions: tuple[str, ...], sentence: str) -> None:
    """An expression that means no line is an error with the ids that were probably meant."""
    own = Line(id="payments-1", section="", subsection="", text="ours", severity=Severity.MAJOR, parts=(), custom=True)
    with pytest.raises(CatalogueError) as error:
        catalogue.select((*catalogue.load().lines, own), expressions)
    assert str(error.value) == sentence


def test_a_line_or_section_that_does_not_exist() -> None:
    """Asking for an id that does not exist names the nearest ones."""
    with pytest.raises(CatalogueError, match=r"the checklist has no '4\.2\.4'; nearest are 4\.2\.3, 4\.2\.2 and 4\.2\.1 "):
        catalogue.load().line("4.2.4")
    assert catalogue.load().section("13").title == "Final Go-Live Approval"


SECTION = '[[section]]\nid = "1"\ntitle = "One"\nsubsections = { "1.1" = "First" }\n'
LINE = """
[[line]]
id = "1.1.1"
text = "A thing"
severity = "major"
kind = "static"
phases = "pre..golive"
rights = ["B1"]
reads = ["pods"]
how = "It is looked at."
sends = "nothing"
hint = ""
"""
BUNDLE = '[[bundle]]\nid = "B1"\nrules = [{ verbs = ["get"], group = "", resources = ["pods"] }]\n'


def test_a_small_catalogue() -> None:
    """The smallest catalogue that is whole can be read."""
    small = catalogue.parse(SECTION + LINE + BUNDLE)
    assert (small.lines[0].section, small.lines[0].subsection, small.lines[0].how) == ("1", "1.1", "It is looked at.")
    assert small.bundles["B1"][0].verbs == ("get",)


@pytest.mark.parametrize(
    ("before", "after", "sentence"),
    [
        ('"major"', '"severe"', "line 1.1.1: unknown severity 'severe'; known are blocker, major, minor"),
        ('"static"', '"static+wire"', "line 1.1.1: unknown kind 'wire'; known are static, live, metrics, attest, drill, aggregate"),
        ('"static"', '"static+"', "line 1.1.1: kind 'static+' is not of the form static+live(+drill)"),
        ('"static"', '"static(+static)"', "line 1.1.1: kind 'static(+static)' names a part twice"),
        ('"pre..', '"per..', "line 1.1.1: unknown phase 'per'; known are pre, permissive, strict, expand, hardened, golive"),
        ('"pre..golive"', '"strict..pre"', "line 1.1.1: phases 'strict..pre' end before they begin"),
        ('["B1"]\nreads', '["B9"]\nreads', "line 1.1.1: unknown right 'B9'; known are B1"),
        ('"1.1.1"', '"1.2.1"', "line 1.2.1: its section or subsection does not exist"),
        ('"It is looked at."', '" "', "line 1.1.1: text, how and sends must say something"),
        ('hint = ""', 'hint = "http://example.com/"', "line 1.1.1: hint 'http://example.com/' does not begin with https://istio.io/ or "),
        ("sends =", "send =", "line 1.1.1: unknown key 'send'"),
        ('sends = "nothing"', "", "line 1.1.1: 'sends' is missing"),
        ('{ "1.1" =', '{ "2.1" =', "section 1: subsection 2.1 does not belong to it"),
        ('group = "", resources = ["pods"]', 'group = ""', "bundle B1: a rule names either resources or urls"),
        (BUNDLE, BUNDLE * 2, "bundle B1 stands in the catalogue twice"),
        (LINE, LINE * 2, "line 1.1.1 stands in the catalogue twice"),
        (SECTION, "[[section\n" + SECTION, "the catalogue is no TOML: "),
    ],
)
def test_a_catalogue_that_contradicts_itself(before: str, after: str, sentence: str) -> None:
    """Each mistake in the file is named with the table at fault."""
    text = SECTION + LINE + BUNDLE
    assert before in text
    with pytest.raises(CatalogueError) as error:
        catalogue.parse(text.replace(before, after))
    assert str(error.value).startswith(sentence)


def test_an_unknown_read_key_is_an_error() -> None:
    """A line cannot read what the snapshot does not know."""
    with pytest.raises(CatalogueError, match=r"^line 1\.1\.1: unknown read key 'podz'; known are namespaces, nodes, pods, "):
        catalogue.parse(SECTION + LINE.replace('"pods"', '"podz"') + BUNDLE)
