"""Every fault is found, and named: replayed from what was recorded of the real cluster, and planted live."""

from __future__ import annotations

import datetime as dt
import os
from pathlib import Path

import pytest

from tests.cluster import faults
from tests.cluster.conftest import checklist

FAULTS = faults.read()
#: What objects alone can show.
STATIC = [fault for fault in FAULTS if fault.lines and fault.recorded]
HEALTHY_SNAPSHOT = faults.SNAPSHOTS.parent / "shop.json"


def test_every_fault_was_recorded() -> None:
    """A fault without a snapshot would silently not be replayed; record it with python -m tests.cluster.record NAME."""
    assert [fault.name for fault in STATIC if not fault.snapshot.exists()] == []


@pytest.mark.parametrize("fault", STATIC, ids=lambda fault: fault.name)
def test_replayed(fault: faults.Fault, tmp_path: Path) -> None:
    """The recorded mesh with its fault makes the lines fall that the fault breaks, and no other without a cause."""
    phase = f"--mesh-phase={fault.phase}"
    healthy = checklist(tmp_path, f"--mesh-snapshot={HEALTHY_SNAPSHOT}", phase, "--mesh-read-only")
    broken = checklist(tmp_path, f"--mesh-snapshot={fault.snapshot}", phase, "--mesh-read-only", config=fault.team_config)
    assert faults.misses(fault, broken.items, healthy.items) == [], broken.output


def _live() -> list[faults.Fault]:
    """All of them for the full sweep; else one for each proof and a rotating tenth of the others."""
    if os.environ.get("MESHREADY_ALL_FAULTS"):
        return list(FAULTS)
    today = dt.datetime.now(dt.UTC).timetuple().tm_yday
    others = [fault for fault in FAULTS if fault.run != "ci"]
    return [fault for fault in FAULTS if fault.run == "ci" or others.index(fault) % 10 == today % 10]


@pytest.mark.cluster
@pytest.mark.parametrize("fault", _live(), ids=lambda fault: fault.name)
def test_planted(fault: faults.Fault, tmp_path: Path) -> None:
    """Planted in the real cluster, the fault is found there; afterwards it is taken away, whatever happened."""
    phase, config = f"--mesh-phase={fault.phase}", fault.team_config
    namespace = f"--mesh-namespace={fault.namespace}"
    healthy = checklist(tmp_path, f"--mesh-snapshot={HEALTHY_SNAPSHOT}", phase, "--mesh-read-only")
    wrong: list[str] = []
    try:
        fault.plant("on")
        if fault.lines:
            read = checklist(tmp_path, namespace, phase, "--mesh-read-only", config=config)
            wrong += faults.misses(fault, read.items, healthy.items)
        if fault.live:
            seen = checklist(tmp_path, namespace, phase, config=config)
            wrong += faults.misses(fault, seen.items, healthy.items, live=True)
    finally:
        fault.plant("off")
    assert wrong == []
