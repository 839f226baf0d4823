"""Trouble with the cluster, from the option to the report: one clear sentence, the right status, no wait without a bound."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

KUBECONFIG = """
apiVersion: v1
kind: Config
clusters: [{name: there, cluster: {server: "SERVER"}}]
users: [{name: me, user: {token: expired}}]
contexts:
- {name: staging-1, context: {cluster: there, user: me}}
- {name: production, context: {cluster: there, user: me}}
current-context: staging-1
"""


@pytest.fixture
def silent_server() -> Iterator[str]:
    """A server that takes connections and never says a word."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    listener.close()


def kubeconfig(folder: Path, server: str = "http://127.0.0.1:9") -> str:
    path = folder / "kubeconfig"
    path.write_text(KUBECONFIG.replace("SERVER", server), encoding="utf-8")
    return f"--mesh-kubeconfig={path}"


def run(pytester: pytest.Pytester, *options: str) -> pytest.RunResult:
    return pytester.runpytest_subprocess("--mesh-namespace=payments", "--mesh-phase=hardened", "--mesh-report=out", *options, timeout=60)


def report(pytester: pytest.Pytester) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((pytester.path / "out/readiness.json").read_text(encoding="utf-8"))
    return found


def said(result: pytest.RunResult) -> str:
    return result.stdout.str() + result.stderr.str()


def test_unreachable_api_server(pytester: pytest.Pytester) -> None:
    """Nobody listens: every line is not verified for that reason, and the team's own tests still run."""
    pytester.makepyfile("def test_ours(): pass")
    result = run(pytester, kubeconfig(pytester.path), "--mesh-deadline=3")
    assert (result.ret, result.parseoutcomes()["passed"]) == (10, 1)
    due = [item for item in report(pytester)["items"] if item["status"] != "not_due"]
    assert {item["status"] for item in due} == {"not_verified"}
    one = next(item for item in due if item["id"] == "4.2.1")
    assert "127.0.0.1:9" in one["reason"]


def test_hanging_api_server_ends_at_the_deadline(pytester: pytest.Pytester, silent_server: str) -> None:
    """The user's bound holds, and the terminal says what is being waited for."""
    began = time.monotonic()
    result = run(pytester, kubeconfig(pytester.path, silent_server), "--mesh-deadline=5")
    assert time.monotonic() - began < 40
    assert result.ret == 10
    assert "meshready: reading namespace payments of staging-1" in said(result)


def test_interrupted_while_waiting(pytester: pytest.Pytester, silent_server: str) -> None:
    """Ctrl-C ends the wait at once, with pytest's own code and no traceback of ours."""
    option = kubeconfig(pytester.path, silent_server)
    command = [sys.executable, "-m", "pytest", "--mesh-namespace=payments", option, "--mesh-deadline=60"]
    process = subprocess.Popen(command, cwd=pytester.path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    time.sleep(4)  # it waits for the server now; nothing else could be waited for from outside
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=15)
    assert process.returncode == pytest.ExitCode.INTERRUPTED, output
    assert "pytest_meshready" not in output.split("KeyboardInterrupt")[0]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--mesh-context=stagin-1"], "stagin-1"),
        (["--mesh-kubeconfig=/no/such/file"], "/no/such/file"),
        (["--mesh-snapshot=/no/such/file"], "/no/such/file"),
        (["--mesh-items=4.9"], "the checklist has no '4.9'"),
        (["--mesh-phase=strickt"], "--mesh-phase=strickt is no phase"),
        (["--mesh-go-live", "--mesh-phase=golive", "--mesh-items=4"], "--mesh-go-live demands the whole checklist"),
        (["--mesh-go-live"], "--mesh-go-live demands an explicit phase"),
        (["--mesh-config=/no/such/file"], "/no/such/file"),
        (["--mesh-deadline=soon"], "--mesh-deadline=soon"),
    ],
)
def test_bad_options_are_usage_errors(pytester: pytest.Pytester, options: list[str], sentence: str) -> None:
    """Exit 4 and one sentence that names what was given."""
    given = [] if any("snapshot" in option or "kubeconfig" in option for option in options) else [kubeconfig(pytester.path)]
    result = pytester.runpytest_subprocess("--mesh-namespace=payments", *given, *options, timeout=60)
    assert result.ret == pytest.ExitCode.USAGE_ERROR, said(result)
    errors = [line for line in said(result).splitlines() if line.startswith("ERROR: ")]
    assert len(errors) == 1
    assert sentence in errors[0]
    assert "Traceback" not in said(result)


def test_forbidden_context(pytester: pytest.Pytester) -> None:
    """meshready.toml allows staging; production is refused before anything is asked of it."""
    pytester.path.joinpath("meshready.toml").write_text('contexts = ["staging-*"]\n', encoding="utf-8")
    result = run(pytester, kubeconfig(pytester.path), "--mesh-context=production")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "context 'production' is not allowed here: meshready.toml allows only staging-*" in said(result)


@pytest.mark.parametrize("option", ["--mesh-plan", "--mesh-rbac=-", "--mesh-go-live", "--mesh-checklist", "--mesh-items=4"])
def test_options_that_mean_a_run_need_a_namespace(pytester: pytest.Pytester, option: str) -> None:
    """Without a namespace they would silently do nothing, so they say what is missing."""
    result = pytester.runpytest_inprocess(option)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "add --mesh-namespace=NAMESPACE" in said(result)
