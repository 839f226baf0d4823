"""``--mesh-manifests`` from the command line to the report: no cluster, exit codes for a pull request, standard input."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

MANIFESTS = Path(__file__).parents[1] / "data/manifests"
SHOP = (MANIFESTS / "shop.yaml").read_text(encoding="utf-8")
#: The word that stands wherever people keep secrets in canaries.yaml, and as it is in a Secret.
CANARIES = ("s3cret-canary", "czNjcmV0LWNhbmFyeQ")
SOUND = """
apiVersion: v1
kind: Service
metadata: {name: orders}
spec: {selector: {app: orders}, ports: [{name: http, port: 8080}]}
"""


def run(pytester: pytest.Pytester, *options: str, piped: str = "") -> subprocess.CompletedProcess[str]:
    """Run pytest as a pipeline does, with something piped into it and no kubeconfig to be found."""
    command = [sys.executable, "-m", "pytest", "-p", "no:randomly", *options]
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(pytester.path), "KUBECONFIG": str(pytester.path / "none")}
    return subprocess.run(
        command, input=piped, capture_output=True, text=True, cwd=pytester.path, env=environment, timeout=120, check=False
    )


def report(pytester: pytest.Pytester) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((pytester.path / "out/readiness.json").read_text(encoding="utf-8"))
    return found


OPTIONS = ("--mesh-namespace=payments", "--mesh-phase=hardened", "--mesh-report=out")


def test_a_pull_request_with_faults(pytester: pytest.Pytester) -> None:
    """A fault fails its line and the run; what needs a cluster is not verified and says why."""
    (pytester.path / "deploy").mkdir()
    (pytester.path / "deploy/shop.yaml").write_text(SHOP, encoding="utf-8")
    done = run(pytester, *OPTIONS, "--mesh-manifests=deploy", "--mesh-items=2.2")
    assert done.returncode == 1, done.stdout + done.stderr
    found = report(pytester)
    assert found["run"]["source"] == "manifests"
    assert found["run"]["command"] == "pytest --mesh-namespace=payments --mesh-manifests=deploy --mesh-phase=hardened"
    status = {item["id"]: item["status"] for item in found["items"]}
    assert (status["2.2.1"], status["2.2.5"]) == ("failed", "not_verified")
    assert "manifests only: no pods yet" in done.stdout


def test_standard_input_reaches_the_controller(pytester: pytest.Pytester) -> None:
    """Although pytest keeps standard input from tests; workers of xdist see the same, and nothing wrong is exit code 10."""
    done = run(pytester, *OPTIONS, "--mesh-manifests=-", "--mesh-items=2.2.1", "-n1", piped=SOUND)
    assert done.returncode == 10, done.stdout + done.stderr
    assert report(pytester)["run"]["source"] == "manifests"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--mesh-manifests=gone", "--mesh-namespace=payments"), "there is no such file or folder: gone"),
        (("--mesh-manifests=-", "--mesh-namespace=payments"), "there is no Kubernetes object in it that any line of the checklist reads"),
        (("--mesh-manifests=-",), "--mesh-manifests needs to know which namespace to look at: add --mesh-namespace=NAMESPACE"),
    ],
)
def test_manifests_that_cannot_be_used(pytester: pytest.Pytester, options: tuple[str, ...], sentence: str) -> None:
    """One sentence and pytest's exit code for a wrong command line."""
    done = run(pytester, *options)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert sentence in done.stdout + done.stderr


@pytest.mark.parametrize("source", ["manifests", "snapshot"])
def test_no_canary_is_reported(pytester: pytest.Pytester, source: str) -> None:
    """Nothing from a Secret, a ConfigMap, an environment, an argument or an annotation is in any report, nor on the terminal."""
    (pytester.path / "meshready.toml").write_text('gateway_secrets = ["payments/shop-tls"]\n', encoding="utf-8")
    (pytester.path / "shop.yaml").write_text((MANIFESTS / "canaries.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    told = ["-vv", "-ra", "--junitxml=out/junit.xml", "--tb=long", "--showlocals"]
    done = run(pytester, *OPTIONS, *told, "--mesh-manifests=shop.yaml", "--mesh-save-snapshot=out/saved.json")
    if source == "snapshot":
        (pytester.path / "shop.yaml").unlink()
        done = run(pytester, "--mesh-phase=hardened", "--mesh-report=out", *told, "--mesh-snapshot=out/saved.json")
    written = {path.name: path.read_text(encoding="utf-8") for path in (pytester.path / "out").rglob("*") if path.is_file()}
    assert {"readiness.json", "readiness.html", "readiness.md", "junit.xml", "saved.json"} <= written.keys()
    assert {item["status"] for item in report(pytester)["items"]} >= {"failed", "not_verified"}
    for name, text in {**written, "terminal": done.stdout + done.stderr}.items():
        assert [word for word in CANARIES if word in text] == [], name
