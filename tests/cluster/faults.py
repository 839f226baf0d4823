"""The table of faults, and what must be said of each: read by the live tests, the replay and the recorder."""

from __future__ import annotations

import re
import subprocess
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
SHARED = HERE.parents[2] / "shared" / "cluster"
SNAPSHOTS = HERE.parent / "data" / "faults"


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One fault: its file's header, and the expectation from ``faults.toml``."""

    name: str
    phase: str
    mesh_wide: bool
    lines: dict[str, str] = field(default_factory=dict)
    live: dict[str, str] = field(default_factory=dict)
    own: bool = False
    run: str = ""
    also: dict[str, str] = field(default_factory=dict)
    config: str = ""
    recorded: bool = True

    @property
    def namespace(self) -> str:
        return "payments" if self.mesh_wide else self.name

    @property
    def team_config(self) -> str:
        return self.config.replace("$NS", self.namespace)

    @property
    def snapshot(self) -> Path:
        return SNAPSHOTS / f"{self.name}.json"

    @property
    def tool(self) -> list[str]:
        """The command that plants it, less its verb."""
        return [str(SHARED / "fault"), *(["--dir", str(HERE / "faults")] if self.own else [])]

    def plant(self, verb: str) -> None:
        """``on`` or ``off``; an assertion with the tool's output where it fails."""
        done = subprocess.run([*self.tool, verb, self.name], capture_output=True, text=True, timeout=600, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def read() -> tuple[Fault, ...]:
    """Every fault of the table whose file is there."""
    table: dict[str, dict[str, Any]] = tomllib.loads((HERE / "faults.toml").read_text(encoding="utf-8"))
    return tuple(_fault(name, row) for name, row in table.items())


def _fault(name: str, row: dict[str, Any]) -> Fault:
    folder = HERE if row.get("own") else SHARED
    path = folder / "faults" / f"{name}.yaml"
    header = dict(re.findall(r"^# (phase|scope):\s*(\S+)", path.read_text(encoding="utf-8"), re.MULTILINE)) if path.exists() else {}
    return Fault(name=name, phase=header.get("phase", "hardened"), mesh_wide=header.get("scope") == "mesh", **row)


def misses(fault: Fault, items: dict[str, dict[str, Any]], healthy: dict[str, dict[str, Any]], *, live: bool = False) -> list[str]:
    """What is wrong with what the checklist said: a line that did not fall or names another object, and lines that fell without cause."""
    wrong = []
    for line, wanted in (fault.live if live else fault.lines).items():
        item = items[line]
        seen = [finding for finding in item["findings"] if finding["severity"] in ("error", "warning")]
        names = {f"{finding['object']['kind']}/{finding['object']['name']}" for finding in seen}
        fell = item["status"] in ("failed", "warned") or any(part["status"] in ("failed", "warned") for part in item["parts"])
        expected = wanted.replace("$NS", fault.namespace)
        named = bool(names) if expected == "*" else not names.isdisjoint(expected.split("|"))
        if not fell or not named:
            said = f"it is {item['status']} ({item['reason']}), findings about {sorted(names)}"
            wrong.append(f"{line}: expected a finding about {expected}; {said}")
    for line, item in items.items():
        worse = _rank(item["status"]) < _rank(healthy[line]["status"])
        if worse and not live and line not in fault.lines and line not in fault.also:
            wrong.append(f"{line}: fell from {healthy[line]['status']} to {item['status']} without being expected: {item['reason']}")
    return wrong


def _rank(status: str) -> int:
    return ["failed", "not_verified", "to_attest", "warned", "waived", "attested", "passed", "not_applicable", "not_due"].index(status)
