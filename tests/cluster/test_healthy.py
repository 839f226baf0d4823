"""The healthy shop: no false alarm, and no line that is green without having been looked at."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.conftest import HEALTHY, checklist, kubectl

PHASES = ("pre", "permissive", "strict", "expand", "hardened", "golive")
WORDS = {"not_applicable": "n", "passed": "P", "warned": "W", "failed": "F", "not_due": "-", "not_verified": "?"}
EXPECTED = tomllib.loads((Path(__file__).parent / "expected.toml").read_text(encoding="utf-8"))

pytestmark = pytest.mark.cluster


def letter(item: dict[str, str]) -> str:
    """The letter of `expected.toml` for a line of a report."""
    if item["status"] == "not_verified" and item["reason"].startswith("configuration passes"):
        return "c"
    if item["status"] == "not_verified" and item["reason"].startswith("configuration warns"):
        return "v"
    return WORDS[item["status"]]


@pytest.mark.parametrize("phase", PHASES)
def test_read_only(healthy_snapshot: Path, tmp_path: Path, phase: str) -> None:
    """Every line has the status that was written down for this phase."""
    result = checklist(tmp_path, f"--mesh-snapshot={healthy_snapshot}", f"--mesh-phase={phase}", "--mesh-read-only")
    place = PHASES.index(phase)
    found = {line: letter(item) for line, item in result.items.items()}
    assert found == {line: word[place] for line, word in EXPECTED["read-only"].items()}, result.output


@pytest.mark.parametrize("phase", ["permissive", "strict", "hardened"])
def test_live(tmp_path: Path, phase: str) -> None:
    """With probes, the lines that the wire decides have their own status; nothing is left in the cluster."""
    result = checklist(tmp_path, f"--mesh-namespace={HEALTHY}", f"--mesh-phase={phase}")
    place = PHASES.index(phase)
    expected = {line: word[place] for line, word in {**EXPECTED["read-only"], **EXPECTED["live"]}.items()}
    assert {line: letter(item) for line, item in result.items.items()} == expected, result.output
    assert result.readiness["left_behind"] == []
    assert kubectl("-n", HEALTHY, "get", "pods,configmaps,serviceaccounts", "-l", "meshready.io/run", "-o", "name") == ""


def test_every_green_live_line_carries_its_control(tmp_path: Path) -> None:
    """A refusal alone proves nothing: the report shows who answered on the same port, in the same run."""
    result = checklist(tmp_path, f"--mesh-namespace={HEALTHY}", "--mesh-phase=hardened", "--mesh-items=11.1.1")
    rows = [row for evidence in result.items["11.1.1"]["evidence"] for row in evidence.get("data") or [] if isinstance(row, dict)]
    controls = [row for row in rows if "control" in row]
    assert controls
    assert all("spiffe://cluster.local/ns/payments/sa/" in str(row["control"]) for row in controls)


def test_reading_and_replaying_agree(healthy_snapshot: Path, tmp_path: Path) -> None:
    """A read-only run against the cluster says what the replay of its snapshot says, finding by finding; only one can measure."""
    live = checklist(tmp_path, f"--mesh-namespace={HEALTHY}", "--mesh-phase=hardened", "--mesh-read-only")
    replay = checklist(tmp_path, f"--mesh-snapshot={healthy_snapshot}", "--mesh-phase=hardened", "--mesh-read-only")
    measured = {line for line, item in live.items.items() if any(part["part"] == "metrics" and part["asked"] for part in item["parts"])}
    assert measured == {"4.2.2", "7.1.2", "7.2.1", "7.2.2"}
    seen = [
        {line: (item["status"], item["findings"]) for line, item in run.items.items() if line not in measured} for run in (live, replay)
    ]
    assert seen[0] == seen[1]
    static = [{line: _static(run.items[line]) for line in measured} for run in (live, replay)]
    assert static[0] == static[1]
    assert (live.code, replay.code) == (10, 10)


def _static(item: dict[str, Any]) -> list[dict[str, Any]]:
    return [part for part in item["parts"] if part["part"] == "static"]


@pytest.mark.parametrize("mode", [["--mesh-read-only"], []], ids=["read-only", "live"])
def test_workers_say_the_same(tmp_path: Path, mode: list[str]) -> None:
    """``-n 4`` takes one snapshot and one set of probes for all, and gives the statuses that were written down."""
    result = checklist(tmp_path, "-n", "4", f"--mesh-namespace={HEALTHY}", "--mesh-phase=hardened", *mode)
    expected = EXPECTED["read-only"] if mode else {**EXPECTED["read-only"], **EXPECTED["live"]}
    assert {line: letter(item) for line, item in result.items.items()} == {k: v[PHASES.index("hardened")] for k, v in expected.items()}


def test_phase_is_guessed_and_says_so(tmp_path: Path) -> None:
    """Without a phase the shop is taken for hardened, and the verdict cannot be READY."""
    result = checklist(tmp_path, f"--mesh-namespace={HEALTHY}", "--mesh-read-only")
    run = result.readiness["run"]
    assert (run["phase"], run["phase_source"]) == ("hardened", "guess")
    assert result.code == 10
    assert "the phase was guessed" in result.readiness["verdict_reason"]
