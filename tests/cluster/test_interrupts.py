"""Runs that are interrupted at random moments leave nothing; the API server is asked, not our own list.

Four interruptions in CI, twenty in the full sweep (MESHREADY_ALL_FAULTS=1). The moments are drawn anew every day, by a seed
that is printed, so that over time every moment is met.
"""

from __future__ import annotations

import datetime as dt
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.conftest import HEALTHY, kubectl

KINDS = "pods,configmaps,serviceaccounts,jobs,services,leases,authorizationpolicies.security.istio.io"
WAYS = ("SIGINT", "SIGTERM", "SIGKILL", "worker")
SEED = dt.datetime.now(dt.UTC).strftime("%Y-%m-%d")
RUNS = 20 if os.environ.get("MESHREADY_ALL_FAULTS") else 4

pytestmark = pytest.mark.cluster


def drawn() -> list[tuple[str, float]]:
    """Ways to die and the second at which: each way as often, a live run takes about twenty seconds."""
    chance = random.Random(SEED)
    return [(WAYS[number % len(WAYS)], round(chance.uniform(1.0, 20.0), 1)) for number in range(RUNS)]


def ours() -> list[str]:
    """Everything in the namespace that carries a run's label, and our Lease."""
    labelled = kubectl("-n", HEALTHY, "get", KINDS, "-l", "meshready.io/run", "-o", "name", "--ignore-not-found").split()
    lease = kubectl("-n", HEALTHY, "get", "lease", "meshready", "-o", "name", "--ignore-not-found").split()
    return sorted({*labelled, *lease})


@pytest.fixture(autouse=True)
def nothing_before_and_after() -> Iterator[None]:
    assert ours() == []
    yield
    sweep()


def sweep() -> None:
    subprocess.run([sys.executable, "-m", "pytest", f"--mesh-namespace={HEALTHY}", "--mesh-sweep"], cwd="/", check=False, timeout=120)


def gone(seconds: float) -> list[str]:
    """What is left after at most this time; deletions in the background take a moment."""
    end = time.monotonic() + seconds
    while (left := ours()) and time.monotonic() < end:
        time.sleep(0.5)  # another process deletes; there is nothing to be told by
    return left


@pytest.mark.parametrize(("way", "moment"), drawn(), ids=str)
def test_interrupted(way: str, moment: float, tmp_path: Path) -> None:
    """After Ctrl-C, SIGTERM and a lost worker nothing is left; after SIGKILL the sweep removes it."""
    (tmp_path / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", f"--mesh-namespace={HEALTHY}", "--mesh-phase=hardened"]
    command += ["-n", "2"] if way == "worker" else []
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True)
    time.sleep(moment)
    if way == "worker":
        children = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=False).stdout.split()
        for child in children[:1]:
            os.kill(int(child), signal.SIGKILL)
    elif process.poll() is None:
        os.kill(process.pid, getattr(signal, way))
    output, _ = process.communicate(timeout=120)
    assert "INTERNALERROR" not in output, output
    if way == "SIGKILL":
        time.sleep(16)  # the Lease of the dead run must expire: a live run is never touched
        sweep()
    assert gone(20) == [], f"seed {SEED}: {output[-2000:]}"
