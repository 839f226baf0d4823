"""Runs of pytest inside pytest, on a recorded snapshot of the healthy shop: no cluster is needed to see how pytest behaves."""

from __future__ import annotations

import importlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pytest_meshready.checklist import catalogue
from pytest_meshready.checklist.shipped import shipped_tests
from pytest_meshready.cluster.snapshot import Snapshot, encode

#: The healthy shop, recorded from the real cluster.
SHOP = Path(__file__).parents[1] / "data/shop.json"


@dataclass(frozen=True)
class Mesh:
    """A project of a team, and pytest in it."""

    pytester: pytest.Pytester
    snapshot_file: Path

    def options(self, phase: str = "hardened") -> list[str]:
        return [f"--mesh-snapshot={self.snapshot_file}", f"--mesh-phase={phase}", "--mesh-read-only"]

    def run(self, *args: str, phase: str = "hardened", process: bool = False) -> pytest.RunResult:
        """Run pytest with the checklist; in a process of its own where processes matter."""
        command = [*self.options(phase), "-p", "no:randomly", *args]
        return self.pytester.runpytest_subprocess(*command) if process else self.pytester.runpytest_inprocess(*command)

    def readiness(self, *args: str, process: bool = False, phase: str = "hardened") -> dict[str, Any]:
        """Run, and give what readiness.json says."""
        self.run("--mesh-report=out", *args, process=process, phase=phase)
        return self.read()

    def read(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.pytester.path / "out/readiness.json").read_text(encoding="utf-8"))
        return found

    def collected(self, *args: str) -> list[str]:
        """The node ids that ``--collect-only`` prints."""
        result = self.pytester.runpytest_inprocess(*self.options(), "--collect-only", "-q", *args)
        return [line for line in result.outlines if "::" in line and not line.startswith("meshready: ")]


def items(readiness: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The lines of a report by their ids."""
    return {item["id"]: item for item in readiness["items"]}


@pytest.fixture
def mesh(pytester: pytest.Pytester) -> Mesh:
    """A team's empty project beside a healthy mesh."""
    path = pytester.path / "mesh-snapshot.json"
    path.write_bytes(SHOP.read_bytes())
    return Mesh(pytester, path)


def save(mesh: Mesh, snapshot: Snapshot) -> None:
    """Put another mesh in place of the healthy one."""
    mesh.snapshot_file.write_bytes(encode(snapshot))


# Runs in this process share the package: a shipped module that only an inner run imported would be imported a second time by
# the next one, and a class would no longer derive from its own twin.
for _path in sorted(Path(catalogue.__file__).parent.glob("s[0-9][0-9]_*.py")):
    importlib.import_module(f"pytest_meshready.checklist.{_path.stem}")

#: The ids of all shipped tests in their order, from their source; three of them are spelled out in test_collection.
SHIPPED: Sequence[str] = tuple(dict.fromkeys(test.nodeid for tests in shipped_tests().values() for test in tests))
