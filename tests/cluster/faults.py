"""The table of faults, and what must be said of each: read by the live tests, the replay and the recorder."""

from __future__ import annotations

import json
import subprocess
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.cluster.altered import ALTERED

HERE = Path(__file__).resolve().parent
SHARED = HERE.parents[2] / "shared" / "cluster"
SNAPSHOTS = HERE.parent / "data" / "faults"
HEALTHY_SNAPSHOT = HERE.parent / "data" / "shop.json"


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One fault as ``faults.toml`` tells it; ``phase`` and ``scope`` as in its file's header."""

    name: str
    phase: str = "hardened"
    scope: str = "namespace"
    lines: dict[str, str] = field(default_factory=dict)
    live: dict[str, str] = field(default_factory=dict)
    own: bool = False
    run: str = ""
    also: dict[str, str] = field(default_factory=dict)
    config: str = ""
    altered: bool = False

    @property
    def namespace(self) -> str:
        return self.name if self.scope == "namespace" and not self.altered else "payments"

    @property
    def team_config(self) -> str:
        return self.config.replace("$NS", self.namespace)

    @property
    def snapshot(self) -> Path:
        return SNAPSHOTS / f"{self.name}.json"

    def replay(self, folder: Path) -> Path:
        """The snapshot with the fault: what was recorded, or the healthy one as `tests.cluster.altered` changes it."""
        if not self.altered:
            return self.snapshot
        path = folder / f"{self.name}.json"
        path.write_text(json.dumps(ALTERED[self.name](json.loads(HEALTHY_SNAPSHOT.read_bytes()))), encoding="utf-8")
        return path

    @property
    def file(self) -> Path:
        """Its objects and its proof; those beside the shared cluster are not in every clone."""
        return (HERE if self.own else SHARED) / "faults" / f"{self.name}.yaml"

    @property
    def tool(self) -> list[str]:
        """The command that plants it, less its verb."""
        return [str(SHARED / "fault"), *(["--dir", str(HERE / "faults")] if self.own else [])]

    def plant(self, verb: str) -> None:
        """``on`` or ``off``; an assertion with the tool's output where it fails."""
        done = subprocess.run([*self.tool, verb, self.name], capture_output=True, text=True, timeout=600, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def read() -> tuple[Fault, ...]:
    """Every fault of the table."""
    table: dict[str, dict[str, Any]] = tomllib.loads((HERE / "faults.toml").read_text(encoding="utf-8"))
    return tuple(Fault(name=name, **row) for name, row in table.items())


def misses(fault: Fault, items: dict[str, dict[str, Any]], healthy: dict[str, dict[str, Any]], *, live: bool = False) -> list[str]:
    """What is wrong with what the checklist said: a line that did not fall or names another object, and lines that fell without cause.

    What it says of the healthy shop as well does not count.
    """
    wrong = []
    for line, wanted in (fault.live if live else fault.lines).items():
        item = items[line]
        before = {_about(finding, "payments") for finding in healthy[line]["findings"]}
        heavy = [finding for finding in item["findings"] if finding["severity"] in ("error", "warning")]
        seen = [finding for finding in heavy if _about(finding, fault.namespace) not in before]
        names = {f"{finding['object']['kind']}/{finding['object']['name']}" for finding in seen}
        fell = item["status"] in ("failed", "warned") or any(part["status"] in ("failed", "warned") for part in item["parts"])
        expected = wanted.replace("$NS", fault.namespace)
        named = bool(names) if expected == "*" else not names.isdisjoint(expected.split("|"))
        if not fell or not named:
            said = f"it is {item['status']} ({item['reason']}), new findings about {sorted(names)}"
            wrong.append(f"{line}: expected a finding about {expected}; {said}")
    for line, item in items.items():
        worse = _rank(item["status"]) < _rank(healthy[line]["status"]) and not _measured_only(item)
        if worse and not live and line not in fault.lines and line not in fault.also:
            wrong.append(f"{line}: fell from {healthy[line]['status']} to {item['status']} without being expected: {item['reason']}")
    return wrong


def _about(finding: dict[str, Any], namespace: str) -> tuple[str, str, str]:
    """What a finding says of which object, whatever the shop's namespace is called."""
    kind, name = finding["object"]["kind"], finding["object"]["name"]
    return finding["code"], kind, "$NS" if name == namespace else name


def _measured_only(item: dict[str, Any]) -> bool:
    """Whether a line fell only by what Prometheus counted: faults that were planted before are still among it."""
    fallen = {part["part"] for part in item["parts"] if part["status"] in ("failed", "warned")}
    return fallen == {"metrics"}


def _rank(status: str) -> int:
    return ["failed", "not_verified", "to_attest", "warned", "waived", "attested", "passed", "not_applicable", "not_due"].index(status)
