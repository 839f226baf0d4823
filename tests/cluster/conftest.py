"""Against a real cluster: the healthy shop gives what `expected.toml` says, and each planted fault is found.

The cluster is that of the current kubeconfig; without one these tests say so and are skipped. Faults are planted with the
tool beside the shared cluster; MESHREADY_ALL_FAULTS=1 plants all of them live, otherwise one for each proof and a rotating
tenth of the others (by the day of the year), the rest is replayed from recorded snapshots.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

HEALTHY = "payments"


def _answers() -> str:
    """Why there is no cluster to test on; empty if there is one."""
    if not os.environ.get("KUBECONFIG"):
        return "no cluster: KUBECONFIG is not set (start one with ../shared/cluster/cluster up)"
    from pytest_meshready.cluster import client
    from pytest_meshready.waiting import Deadlines

    try:
        cluster = client.connect(None, None, Deadlines(request=5.0))
        cluster.get(f"/api/v1/namespaces/{HEALTHY}")
    except Exception as error:  # noqa: BLE001 - whatever it is, it means that there is no cluster to test on
        return f"no cluster: {error}"
    return ""


@pytest.fixture(scope="session")
def cluster_problem() -> str:
    return _answers()


@pytest.fixture(autouse=True)
def needs_cluster(request: pytest.FixtureRequest, cluster_problem: str) -> None:
    if request.node.get_closest_marker("cluster") and cluster_problem:
        pytest.skip(cluster_problem)


@dataclass(frozen=True)
class Result:
    """What a run of the checklist left: exit code, output, and the report."""

    code: int
    output: str
    readiness: dict[str, Any]

    @property
    def items(self) -> dict[str, dict[str, Any]]:
        return {item["id"]: item for item in self.readiness["items"]}


def without_istioctl() -> str:
    """The PATH less every folder in which istioctl lies."""
    folders = os.environ.get("PATH", "").split(os.pathsep)
    return os.pathsep.join(folder for folder in folders if not (Path(folder) / "istioctl").exists())


def checklist(folder: Path, *options: str, env: dict[str, str] | None = None, config: str = "") -> Result:
    """Run the checklist in an empty project, in a process of its own, as a user would.

    As one without istioctl: what it would say beside line 3.2.4 must not depend on the machine (``env`` may give another PATH).
    """
    project = folder / "project"
    project.mkdir(exist_ok=True)
    (project / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    if config:
        (project / "meshready.toml").write_text(config, encoding="utf-8")
    report = project / "out/readiness.json"
    report.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--mesh-report=out", *options]
    environment = {**os.environ, "PATH": without_istioctl(), **(env or {})}
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, timeout=300, check=False)
    readiness = json.loads(report.read_text(encoding="utf-8")) if report.exists() else {}
    return Result(done.returncode, done.stdout + done.stderr, readiness)


def kubectl(*args: str, stdin: str = "") -> str:
    done = subprocess.run(["kubectl", *args], input=stdin, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="session")
def healthy_snapshot(tmp_path_factory: pytest.TempPathFactory, cluster_problem: str) -> Path:
    """One look at the healthy shop; it serves all phases."""
    if cluster_problem:
        pytest.skip(cluster_problem)
    path = tmp_path_factory.mktemp("healthy") / "shop.json"
    options = (f"--mesh-namespace={HEALTHY}", "--mesh-phase=hardened", "--mesh-read-only", f"--mesh-save-snapshot={path}")
    result = checklist(path.parent, *options)
    assert path.exists(), result.output
    return path
