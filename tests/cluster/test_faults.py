"""Every fault is found, and named: replayed from what was recorded of the real cluster, and planted live."""

from __future__ import annotations

import datetime as dt
import functools
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pytest_meshready.checklist import catalogue
from pytest_meshready.checklist.lines import Phase
from pytest_meshready.checklist.shipped import shipped_tests
from pytest_meshready.results import Part
from tests.cluster import altered, faults
from tests.cluster.conftest import checklist
from tests.cluster.faults import HEALTHY_SNAPSHOT

FAULTS = faults.read()
#: What objects alone can show.
STATIC = [fault for fault in FAULTS if fault.lines]


def test_every_fault_can_be_replayed() -> None:
    """A fault without a snapshot is recorded with python -m tests.cluster.record NAME, or the healthy snapshot is altered."""
    assert [fault.name for fault in STATIC if not fault.altered and not fault.snapshot.exists()] == []
    assert {fault.name for fault in FAULTS if fault.altered} == set(altered.ALTERED)


def test_the_table_agrees_with_the_files() -> None:
    """Replays take phase and scope from the table, and who plants a fault from its file."""
    wrong = {}
    for fault in FAULTS:
        if fault.file.exists():
            header = dict(re.findall(r"^# (phase|scope):\s*(\S+)", fault.file.read_text(encoding="utf-8"), re.MULTILINE))
            if header != {"phase": fault.phase, "scope": fault.scope}:
                wrong[fault.name] = header
    assert wrong == {}


def test_every_line_that_objects_decide_has_a_fault() -> None:
    """A check that no fault has ever made fall may be one that cannot fall."""
    lines = {line.id: line for line in catalogue.load().lines}
    static = {line for line, tests in shipped_tests().items() if any(Part.STATIC in test.parts for test in tests)}
    shown = {line for fault in STATIC for line in fault.lines if lines[line].due(Phase(fault.phase))}
    assert sorted(static - shown) == []


@pytest.fixture(scope="session")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, dict[str, Any]]]:
    """What the checklist says of the healthy shop in a phase; asked once for each."""

    @functools.cache
    def items(phase: str) -> dict[str, dict[str, Any]]:
        folder = tmp_path_factory.mktemp("healthy")
        return checklist(folder, f"--mesh-snapshot={HEALTHY_SNAPSHOT}", f"--mesh-phase={phase}", "--mesh-read-only").items

    return items


@pytest.mark.parametrize("fault", STATIC, ids=lambda fault: fault.name)
def test_replayed(fault: faults.Fault, healthy: Callable[[str], dict[str, dict[str, Any]]], tmp_path: Path) -> None:
    """The recorded mesh with its fault makes the lines fall that the fault breaks, and no other without a cause."""
    options = (f"--mesh-snapshot={fault.replay(tmp_path)}", f"--mesh-phase={fault.phase}", "--mesh-read-only")
    broken = checklist(tmp_path, *options, config=fault.team_config)
    assert faults.misses(fault, broken.items, healthy(fault.phase)) == [], broken.output


def _live() -> list[faults.Fault]:
    """All of them for the full sweep; else one for each proof and a rotating tenth of the others."""
    real = [fault for fault in FAULTS if not fault.altered]
    if os.environ.get("MESHREADY_ALL_FAULTS"):
        return real
    today = dt.datetime.now(dt.UTC).timetuple().tm_yday
    others = [fault for fault in real if fault.run != "ci"]
    return [fault for fault in real if fault.run == "ci" or others.index(fault) % 10 == today % 10]


@pytest.mark.cluster
@pytest.mark.parametrize("fault", _live(), ids=lambda fault: fault.name)
def test_planted(fault: faults.Fault, healthy: Callable[[str], dict[str, dict[str, Any]]], tmp_path: Path) -> None:
    """Planted in the real cluster, the fault is found there; afterwards it is taken away, whatever happened."""
    phase, config = f"--mesh-phase={fault.phase}", fault.team_config
    namespace, before = f"--mesh-namespace={fault.namespace}", healthy(fault.phase)
    wrong: list[str] = []
    try:
        fault.plant("on")
        if fault.lines:
            read = checklist(tmp_path, namespace, phase, "--mesh-read-only", config=config)
            wrong += faults.misses(fault, read.items, before)
        if fault.live:
            seen = checklist(tmp_path, namespace, phase, config=config)
            wrong += faults.misses(fault, seen.items, before, live=True)
    finally:
        fault.plant("off")
    assert wrong == []
