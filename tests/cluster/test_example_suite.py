"""The example of a team's repository, run as that team would, against the real cluster."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.conftest import HEALTHY

EXAMPLE = Path(__file__).resolve().parents[2] / "example_suite"

pytestmark = pytest.mark.cluster


def test_example_suite(tmp_path: Path) -> None:
    """Its own lines pass, its override takes the place of the shipped check, and its live check talks to a probe."""
    project = tmp_path / "team"
    shutil.copytree(EXAMPLE, project)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", f"--mesh-namespace={HEALTHY}", "--mesh-report=out"]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 10, done.stdout + done.stderr
    items = {item["id"]: item for item in json.loads((project / "out/readiness.json").read_text(encoding="utf-8"))["items"]}
    assert {line: items[line]["status"] for line in ("pay-1", "pay-2", "2.2.1")} == dict.fromkeys(("pay-1", "pay-2", "2.2.1"), "passed")
    overridden = "tests/test_payments.py::TestKubernetesBaseline::test_pod_disruption_budgets"
    assert [check["nodeid"] for check in items["2.2.1"]["checks"]] == [overridden]
