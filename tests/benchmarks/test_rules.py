"""All static lines over 10,000 and 50,000 pods: the seconds of one core, how they grow, and the memory.

The rules are those that the shipped tests call (`tests.unit.test_properties.static_rules`), over one snapshot as in a run, so what
several lines ask for is worked out once.
"""

from __future__ import annotations

import json
import math
import os
import platform
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from pytest_meshready.cluster.snapshot import encode
from tests.benchmarks.big import ROUTING, shops

ROOT = Path(__file__).parents[2]
#: Copies of the shop: 10,000 and 50,000 pods.
COPIES, MORE = 200, 1000
#: Seconds of one core for the smaller; CI fails above twice the bound.
BOUND = 5.0
#: Beyond linear times a logarithm: what a cold cache and a busy machine may add.
TOLERANCE = 1.25
#: Lines that take less than this are not worth a row.
SHOWN = 0.05

#: Runs in a process of its own: loads the snapshot, judges each line, tells seconds of the processor and the peak of memory.
JUDGE = """
import json, re, sys, time
from pathlib import Path
from pytest_meshready.cluster.snapshot import load
from tests.unit.test_properties import rule_of, static_rules
rules = {line: rule_of(line) for line in sorted(static_rules(), key=lambda text: [int(part) for part in text.split(".")])}
def memory():  # ru_maxrss would be that of the process that started this one, where it had more
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024
empty = memory()
snapshot = load(Path(sys.argv[1]))
loaded = memory()
seconds, findings = {}, 0
for line, rule in rules.items():
    began = time.process_time()
    findings += len(rule(snapshot).findings)
    seconds[line] = time.process_time() - began
print(json.dumps({"seconds": seconds, "findings": findings, "empty": empty, "loaded": loaded, "peak": memory()}))
"""


@dataclass(frozen=True, kw_only=True)
class Result:
    """What one process needed; memory in MiB."""

    pods: int
    seconds: dict[str, float]
    findings: int
    empty: float
    loaded: float
    peak: float

    @property
    def whole(self) -> float:
        """The seconds of all lines."""
        return sum(self.seconds.values())


def judged(copies: int, folder: Path) -> Result:
    """All static lines over this many copies of the shop."""
    snapshot = shops(copies)
    file = folder / f"{copies}.json"
    file.write_bytes(encode(snapshot))
    pods = len(snapshot.pods)
    routing = sum(len(getattr(snapshot, key)) for key in ROUTING)
    print(f"\n{pods:,} pods, {len(snapshot.services):,} Services, {routing:,} Istio objects, {file.stat().st_size / 2**20:.0f} MiB")
    del snapshot
    done = subprocess.run([sys.executable, "-c", JUDGE, str(file)], cwd=ROOT, check=True, capture_output=True, text=True, timeout=1200)
    return Result(pods=pods, **json.loads(done.stdout))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Result:
    return judged(COPIES, tmp_path_factory.mktemp("snapshots"))


def told(result: Result) -> None:
    machine = f"{platform.machine()}, {os.cpu_count()} cores, CPython {platform.python_version()}"
    print(
        f"{len(result.seconds)} static lines over {result.pods:,} pods on {machine}: {result.whole:.2f} s of one core, "
        f"{result.findings} findings; MiB: {result.empty:.0f} before, {result.loaded:.0f} with the snapshot, {result.peak:.0f} at most"
    )


def test_ten_thousand_pods(small: Result) -> None:
    """The whole static half of the checklist within the bound; slow lines are named."""
    told(small)
    for line, seconds in sorted(small.seconds.items(), key=lambda pair: -pair[1]):
        if seconds >= SHOWN:
            print(f"  {line:<7} {seconds:6.2f} s")
    print(f"  bound {BOUND} s for all")
    assert small.findings
    assert small.whole < 2 * BOUND


def test_fifty_thousand_pods(small: Result, tmp_path: Path) -> None:
    """Five times as much of everything takes at most five times as long, times the logarithm of it."""
    large = judged(MORE, tmp_path)
    told(large)
    times = large.pods / small.pods
    allowed = times * math.log(large.pods) / math.log(small.pods)
    for line, seconds in sorted(large.seconds.items(), key=lambda pair: -pair[1]):
        before = small.seconds[line]
        if seconds >= 10 * SHOWN or seconds > 2 * allowed * max(before, SHOWN / 10):
            print(f"  {line:<7} {before:6.2f} s  {seconds:6.2f} s  {seconds / max(before, 1e-9):5.1f} times")
    growth = large.whole / small.whole
    print(f"  all lines: {growth:.1f} times (n log n: {allowed:.1f}, allowed {allowed * TOLERANCE:.1f})")
    assert growth < allowed * TOLERANCE
