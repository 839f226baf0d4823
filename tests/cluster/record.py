"""Records snapshots of the real cluster for the replays and the demo: ``python -m tests.cluster.record [NAME ...]``.

Without names everything is recorded: the healthy shop, and each fault of ``faults.toml`` planted for a moment. Expectations
are not recorded; they are written by hand in ``faults.toml`` and ``expected.toml``.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.cluster import faults
from tests.cluster.conftest import HEALTHY, checklist


def record(namespace: str, phase: str, target: Path, config: str = "") -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        options = (f"--mesh-namespace={namespace}", f"--mesh-phase={phase}", "--mesh-read-only", f"--mesh-save-snapshot={target}")
        result = checklist(Path(folder), *options, config=config)
    print(f"{target.name}: {result.readiness.get('verdict')} (exit {result.code})", flush=True)  # noqa: T201 - a command


def main(names: list[str]) -> None:
    if not names or "shop" in names:
        record(HEALTHY, "hardened", faults.HEALTHY_SNAPSHOT)
    for fault in faults.read():
        if fault.lines and not fault.altered and (not names or fault.name in names):
            fault.plant("on")
            try:
                record(fault.namespace, fault.phase, fault.snapshot, fault.team_config)
            finally:
                fault.plant("off")


if __name__ == "__main__":
    main(sys.argv[1:])
