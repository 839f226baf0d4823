"""The command ``meshready``."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from pytest_meshready import cli
from pytest_meshready.checklist import catalogue
from pytest_meshready.checklist.catalogue import CatalogueError


def rows(text: str) -> dict[str, str]:
    """What stands beside each name in the margin, as one line."""
    found: dict[str, str] = {}
    name = ""
    for line in text.splitlines()[3:]:
        name = line[2:13].strip() or name
        found[name] = f"{found.get(name, '')} {line[13:].strip()}".strip()
    return found


def test_explain_tells_all_about_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Text, place, severity, phases, kind, evidence, what is sent, what this version does, rights and a hint."""
    assert cli.main(["explain", "11.1.1"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("11.1.1  STRICT mTLS enforced where possible\n  in 11. Post-Rollout Hardening > 11.1 Security\n\n")
    told = rows(text)
    assert told["severity"] == "blocker: without it the verdict cannot be READY"
    assert told["phases"] == "due in hardened, golive; not in pre, permissive, strict, expand"
    assert told["needs"] == "configuration (static) and traffic that this run sends (live); all are required, the worst counts"
    assert "plaintext must be refused" in told["how"]
    assert "five plaintext bytes" in told["sends"]
    assert told["now"] == (
        "this version decides its static and live part: meshready/s11_hardening.py::TestSecurity::test_strict_everywhere"
    )
    assert "peerauthentications.security.istio.io" in told["reads"]
    assert "get: configmaps (by name, never listed)" in told["rights"]
    assert "pytest --mesh-namespace=NAMESPACE --mesh-items=11.1.1 --mesh-rbac=-" in told["rights"]
    assert told["more"] == "https://istio.io/latest/docs/reference/config/security/peer_authentication/"


def test_explain_a_line_of_a_later_version() -> None:
    """A line for which no check exists says so, and that it is not verified."""
    told = rows(cli.explain(["9.2.1"]))
    assert told["now"] == "this version has no check for it: it is reported as not verified"
    assert told["reads"] == "nothing in this version"
    told = rows(cli.explain(["2.1.4"]))
    assert told["needs"].endswith("; an experiment that you ask for by name (drill) is not required and can only worsen it")


def test_explain_a_line_for_people() -> None:
    """A line that only people can answer needs no rights and sends nothing."""
    told = rows(cli.explain(["1.2.1"]))
    assert (told["needs"], told["rights"], told["sends"]) == ("a dated statement by a named person (attest)", "none", "nothing")
    assert told["phases"] == "due in every phase"


def test_explain_shows_the_note() -> None:
    """The checklist's note is shown with the line with which it is judged."""
    assert rows(cli.explain(["2.1.2"]))["note"] == "Envoy sidecars typically add ~50\u2013100MB memory per pod"


def test_explain_section_and_subsection() -> None:
    """A section is a list of its lines, with those marked that this version decides."""
    text = cli.explain(["7"])
    assert text.startswith("7. Security Rollout (Gradual Zero Trust)\n  7.1 Phase 1: PERMISSIVE mTLS\n")
    assert "\n  * 7.2.3  major    STRICT mTLS enabled incrementally\n" in text
    assert "\n    7.1.3  major    External traffic tested\n" in text
    assert cli.explain(["12"]).count("\n    12.") + cli.explain(["12"]).count("\n  * 12.") == 5
    assert "7.1.1" not in cli.explain(["7.3"])


def test_explain_alone_lists_every_line() -> None:
    """Without an id all 93 lines are listed under their sections."""
    listed = re.findall(r"^  [* ] (\d[\d.]+) +(?:blocker|major|minor) ", cli.explain([]), flags=re.MULTILINE)
    assert listed == [line.id for line in catalogue.load().lines]


def test_everything_is_readable_at_80_columns() -> None:
    """No line is wider than 80 columns, but for an address or a node id that must stay in one piece."""
    texts = [cli.explain([])] + [cli.explain([line.id]) for line in catalogue.load().lines]
    wide = [line for text in texts for line in text.splitlines() if len(line) > 80]
    assert [line for line in wide if not re.fullmatch(r"  (more|    )       (https://|meshready/)\S+", line)] == []


def test_several_ids() -> None:
    """Several ids are explained one after the other."""
    assert [line[:6] for line in cli.explain(["4.2.1", "7.1.1"]).splitlines() if re.match(r"\d", line)] == ["4.2.1 ", "7.1.1 "]


def test_an_unknown_id_is_one_sentence_and_exit_2(capsys: pytest.CaptureFixture[str]) -> None:
    """The nearest ids are named; nothing goes to standard output."""
    assert cli.main(["explain", "7.2.9"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "meshready: the checklist has no '7.2.9'; nearest are 7.2.3, 7.2.2 and 7.2.1 (see all: meshready explain)\n"
    with pytest.raises(CatalogueError):
        cli.explain(["nonsense"])


def test_without_a_command_the_usage_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """No command is a usage error, as argparse has it."""
    with pytest.raises(SystemExit) as stopped:
        cli.main([])
    assert stopped.value.code == 2
    assert "usage: meshready" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--version", "--help"])
def test_version_and_help(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Both answer and exit 0."""
    with pytest.raises(SystemExit) as stopped:
        cli.main([option])
    assert stopped.value.code == 0
    assert capsys.readouterr().out.startswith("pytest-meshready " if option == "--version" else "usage: meshready")


def python(code: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """Run code in a fresh interpreter."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, check=False, timeout=60, env={"PYTHONUTF8": "0"} | environment)


def test_a_terminal_without_the_dash() -> None:
    """Where the terminal cannot show a character of the checklist, the line is shown all the same."""
    done = python("from pytest_meshready.cli import main; raise SystemExit(main(['explain', '2.1.2']))", PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"~50?100MB" in done.stdout


def test_a_reader_that_stops_early() -> None:
    """`meshready explain | head` ends without a traceback."""
    done = python(
        "import os, sys\n"
        "from pytest_meshready.cli import main\n"
        "reading, writing = os.pipe(); os.close(reading); os.dup2(writing, 1)\n"
        "raise SystemExit(main(['explain']))"
    )
    assert (done.returncode, done.stderr) == (0, b"")


def test_nothing_heavy_is_imported() -> None:
    """The command answers without pytest and without client libraries."""
    heavy = "{'pytest', 'kubernetes', 'httpx', 'tenacity', 'yaml', 'ssl', 'asyncio'}"
    done = python(f"import sys\nfrom pytest_meshready.cli import explain\nexplain(['4.2.1'])\nprint(sorted({heavy} & set(sys.modules)))")
    assert done.stdout.decode().strip() == "[]", done.stderr.decode()
