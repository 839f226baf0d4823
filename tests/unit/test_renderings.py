"""readiness.html and readiness.md, and how the files are written."""

from __future__ import annotations

import base64
import hashlib
import html as stdlib_html
import re
from datetime import date
from html.parser import HTMLParser
from pathlib import Path

import pytest

from pytest_meshready.report import files, html, markdown
from pytest_meshready.report.facts import Attestation
from pytest_meshready.report.model import Readiness, loads
from pytest_meshready.results import Evidence, Part, Severity, Status, Unknown
from tests.unit.report_samples import finding, line, no_sidecar, part, record, shop, small, waiver

#: Elements that HTML never closes.
VOID = frozenset({"meta", "br", "hr", "img", "input", "link"})
EVIL = '<script>alert("1")</script> & `x` | "quoted" \' [click](javascript:alert(1)) *bold*'


class Page(HTMLParser):
    """What a browser would see: elements with their attributes, and the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Remember it."""
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Every element is closed in its place."""
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Text outside of style and script."""
        if self.open[-1:] not in (["style"], ["script"]):
            self.words.append(data)

    def find(self, tag: str) -> list[dict[str, str]]:
        """The attributes of all elements with this tag."""
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def text(self) -> str:
        """The text with single blanks."""
        return " ".join(" ".join(self.words).split())


def evil() -> Readiness:
    """Everything that comes from a cluster or a team is hostile."""
    found = finding(name=EVIL, code=EVIL, found=EVIL, wanted=EVIL, fix=EVIL, file=EVIL, line=3)
    evidence = (
        Evidence(kind=EVIL, source=EVIL, text=EVIL),
        Evidence(kind="table", source="t", data=[{EVIL: EVIL}]),
        Evidence(kind="tree", source="t", data={EVIL: [EVIL]}),
    )
    unknown = Unknown(reason=EVIL, verb="list", resource=EVIL, namespace=EVIL)
    said = Attestation(item="1.2.4", who=EVIL, date=date(2026, 11, 1), expires=date(2026, 12, 1), link="javascript:alert(1)")
    return small(
        record(part(Status.FAILED, reason=EVIL, findings=(found,), evidence=evidence), nodeid=EVIL),
        record(part(Status.NOT_VERIFIED, reason=EVIL, unknown=(unknown,)), item="12.5"),
        lines=(line(text=EVIL, hint="javascript:alert(1)"), line("12.5", text=EVIL), line("1.2.4", (Part.ATTEST,), reads=(), note=EVIL)),
        attestations={"1.2.4": said},
        waivers=(waiver(reason=EVIL, who=EVIL, objects=(EVIL,)), waiver(item=EVIL)),
        left_behind=(EVIL,),
        context=EVIL,
        namespace=EVIL,
        command=EVIL,
        selection=(EVIL,),
        phase_source="guess",
        phase_because=EVIL,
        catalogue_severities={"4.2.1": Severity.MINOR},
        team_failed=1,
    )


# --- HTML ---


@pytest.mark.parametrize("readiness", [shop(), small(), evil()], ids=["shop", "nothing ran", "hostile names"])
def test_the_page_loads_nothing(readiness: Readiness) -> None:
    """One file that opens offline: no resource from elsewhere, links lead away only when somebody follows them."""
    page = Page(html.render(readiness))
    assert {name for name, _ in page.elements} & {"link", "img", "iframe", "object", "embed", "base", "form", "audio", "video"} == set()
    for tag, attributes in page.elements:
        assert "src" not in attributes
        assert "style" not in attributes
        assert not any(name.startswith("on") for name in attributes)
        if tag == "a":
            assert attributes["href"].startswith(("#", "https://", "http://"))
        else:
            assert "href" not in attributes
    style = html.render(readiness).partition("<style>")[2].partition("</style>")[0]
    assert "url(" not in style
    assert "@import" not in style


def test_only_the_pages_own_script_may_run() -> None:
    """The policy names style and script by their hashes and forbids the rest."""
    text = html.render(evil())
    policy = next(meta["content"] for meta in Page(text).find("meta") if meta.get("http-equiv") == "Content-Security-Policy")
    for tag in ("style", "script"):
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'")


def test_hostile_names_are_shown_as_text() -> None:
    """A script in a name is words, wherever the name stands."""
    text = html.render(evil())
    page = Page(text)
    assert len(page.find("script")) == 1
    assert "<script>alert(" not in text
    assert '<script>alert("1")</script>' in page.text
    assert stdlib_html.escape(EVIL) in text


def test_every_line_has_its_place_and_its_words() -> None:
    """All 93, and the team's own, with an anchor each."""
    page = Page(html.render(shop()))
    anchors = {details["id"] for details in page.find("details")}
    assert len(anchors) == 94
    assert {"line-1.1.1", "line-13.5", "line-team.1"} <= anchors
    links = {link["href"] for link in page.find("a") if link["href"].startswith("#")}
    ids = {f"#{attributes['id']}" for _, attributes in page.elements if "id" in attributes}
    assert links <= ids


def test_the_page_says_what_the_report_says() -> None:
    """Verdict, reason, findings, commands, rights, waivers, note."""
    text = Page(html.render(shop())).text
    for words in (
        "NOT READY",
        "2 blockers failed (3.1.4, 4.2.1) and 1 other line (7.2.3).",
        "kubectl rollout restart deployment/orders -n payments",
        "configuration passes, wire not asked (this version has no live check of it yet)",
        "list networkpolicies.networking.k8s.io in payments",
        "expired on 2026-10-31, so it no longer applies",
        "Note: Envoy sidecars typically add ~50\u2013100MB memory per pod",
        "minor, was major",
        "shop-admin@shop",
        "Own tests beside the checklist: 2 passed, 0 failed.",
    ):
        assert words in text


def test_the_page_knows_light_and_dark() -> None:
    """And print."""
    text = html.render(small())
    assert "prefers-color-scheme: dark" in text
    assert "@media print" in text


def test_evidence_of_rows_is_a_table() -> None:
    """Rows with columns in the order in which they came."""
    rows = Evidence(kind="table", source="pods", data=[{"pod": "orders-1", "proxies": 1}, {"pod": "web-1", "proxies": None}])
    text = html.render(small(record(part(evidence=(rows,)))))
    assert "<tr><th>pod</th><th>proxies</th></tr>" in text
    assert "<tr><td>orders-1</td><td>1</td></tr><tr><td>web-1</td><td></td></tr>" in text


# --- Markdown ---


def test_markdown_begins_with_the_verdict() -> None:
    """And with why."""
    lines = markdown.render(small(no_sidecar())).splitlines()
    assert lines[0] == "# ❌ NOT READY"
    assert lines[2] == "**payments**: 1 blocker failed (4.2.1)."


def test_markdown_shows_a_finding() -> None:
    """Object, found, wanted, fix."""
    text = markdown.render(small(no_sidecar()))
    assert (
        "### 4.2.1 Pods contain exactly one Envoy sidecar (blocker)\n\n"
        "- <code>payments/Deployment/orders</code> (error MR421-NO-SIDECAR)\n"
        "  - found: orders-7d9c4b8f6-abcde, orders-7d9c4b8f6-fghij: containers \\[app\\]\n"
        "  - wanted: exactly one istio-proxy in every pod\n"
        "  - fix: <code>kubectl rollout restart deployment/orders -n payments</code>\n"
    ) in text


def test_markdown_puts_lines_together() -> None:
    """As the terminal does."""
    assert "- its check did not run (1 line, 1 blocker): 12.5" in markdown.render(small(no_sidecar()))


def test_markdown_escapes_hostile_names() -> None:
    """No element, no link, no table cell too many."""
    text = markdown.render(evil())
    outside = re.sub(r"^(`{3,})sh\n.*?\n\1$", "", text, flags=re.DOTALL | re.MULTILINE)
    assert "<script" not in outside
    assert "[click](" not in outside.replace("\\[", "")
    tags = set(re.findall(r"<(/?[a-z]+)", outside))
    assert tags == {"code", "/code", "details", "/details", "summary", "/summary"}
    for row in (row for row in outside.splitlines() if row.startswith("| ")):
        assert len(re.findall(r"(?<!\\)\|", row)) in (3, 5, 6, 8)


def test_markdown_has_every_line() -> None:
    """Folded at the end."""
    text = markdown.render(shop())
    folded = text.partition("<details>")[2]
    assert folded.count("\n| ") == 94 + 1
    assert "| **4.2.1** Pods contain exactly one Envoy sidecar | failed |" in folded


def test_markdown_fits_a_step_summary() -> None:
    """GitHub takes 1 MiB; ten thousand findings are cut until they fit."""
    many = tuple(finding(f"web-{number}", found="containers [app] " * 20) for number in range(3000))
    lines = tuple(line(f"12.{number}") for number in range(1, 94))
    readiness = small(*(record(part(Status.FAILED, findings=many), item=one.id) for one in lines), lines=lines)
    text = markdown.render(readiness)
    assert len(text.encode()) <= markdown.MOST_BYTES
    assert "more findings, all in readiness.html" in text


# --- files ---


def test_all_files_are_written(tmp_path: Path) -> None:
    """Into a directory that need not exist."""
    paths = files.write(shop(), tmp_path / "a" / "b")
    assert [path.name for path in paths] == ["readiness.json", "readiness.md", "readiness.html"]
    assert loads(paths[0].read_bytes()) == shop()
    assert paths[2].read_text(encoding="utf-8").startswith("<!doctype html>")
    assert sorted(path.name for path in (tmp_path / "a" / "b").iterdir()) == ["readiness.html", "readiness.json", "readiness.md"]


def test_an_older_report_is_replaced(tmp_path: Path) -> None:
    """By renaming, so that a reader never sees half a file."""
    files.write(shop(), tmp_path)
    files.write(small(), tmp_path)
    assert loads((tmp_path / "readiness.json").read_bytes()) == small()


def test_a_file_can_be_read_by_others(tmp_path: Path) -> None:
    """As far as the umask of the user says; temporary files are private."""
    (path, *_) = files.write(small(), tmp_path)
    probe = tmp_path / "probe"
    probe.touch()
    assert path.stat().st_mode == probe.stat().st_mode


def test_a_directory_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    """With the option that names another one."""
    (tmp_path / "report").write_text("a file")
    with pytest.raises(files.ReportError) as caught:
        files.write(small(), tmp_path / "report")
    assert (
        str(caught.value)
        == f"the report cannot be written to {tmp_path / 'report'}: File exists; give another directory with --mesh-report=DIR"
    )


def test_a_failed_write_leaves_no_rest(tmp_path: Path) -> None:
    """A directory where a file should be."""
    (tmp_path / "readiness.md").mkdir()
    with pytest.raises(files.ReportError, match="cannot be written"):
        files.write(small(), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["readiness.json", "readiness.md"]
