"""Running istioctl analyze: what it prints is untangled, and whatever it does, nothing breaks."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_meshready.cluster import analyze
from pytest_meshready.cluster.kubeconfig import IN_CLUSTER
from pytest_meshready.cluster.snapshot import Snapshot
from tests.unit import builders as make
from tests.unit import kubeapi

WARNING = "2026-11-25T09:15:26Z\twarn\tThe environment variable POD_NAMESPACE was registered multiple times\n"
MESSAGE = (
    '[{"code": "IST0101", "level": "Error", "origin": "VirtualService a/b", "message": "gone", "documentationUrl": "https://istio.io"}]'
)


def program(folder: Path, script: str) -> str:
    """A program that stands for istioctl."""
    path = folder / "istioctl"
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def test_lines_of_its_log_before_the_messages_do_not_matter() -> None:
    """It prints warnings on standard output before its JSON."""
    found = analyze.messages(WARNING + MESSAGE + "\n")
    assert found is not None
    assert [(item.code, item.level, item.origin) for item in found] == [("IST0101", "Error", "VirtualService a/b")]
    assert analyze.messages("[]\n") == ()


@pytest.mark.parametrize("text", ["", "Error: no cluster", "[1m bold", '{"code": "IST0101"}'])
def test_no_messages_is_none(text: str) -> None:
    """What holds no array is no answer."""
    assert analyze.messages(text) is None


def test_entries_that_are_no_messages_are_passed_over() -> None:
    """An array of anything."""
    assert analyze.messages('[1, null, {"level": "Error"}, {"code": 5}]') == ()


def test_it_is_run_for_the_namespace(tmp_path: Path) -> None:
    """Its exit code is not trusted, its arguments name the control plane."""
    script = f"echo \"$@\" > '{tmp_path}/arguments'; echo '{MESSAGE}'; exit 79"
    found = analyze.analyze(
        "payments", istio_namespace="istio-system", revision="canary", context="staging", program=program(tmp_path, script)
    )
    assert (len(found.messages), found.problem) == (1, "")
    arguments = (tmp_path / "arguments").read_text(encoding="utf-8").split()
    assert arguments[:7] == ["analyze", "--namespace", "payments", "--istioNamespace", "istio-system", "--output", "json"]
    assert arguments[7:] == ["--revision", "canary", "--context", "staging", "--remote-contexts", "staging"]


def test_an_older_one_is_run_without_the_option_that_it_does_not_know(tmp_path: Path) -> None:
    """Before 1.25 it entered other clusters only where it was told to, and had no option to keep it from that."""
    script = f"""case "$*" in *--remote-contexts*) echo 'Error: unknown flag: --remote-contexts' >&2; exit 1;; esac; echo '{MESSAGE}'"""
    found = analyze.analyze("payments", istio_namespace="istio-system", context="staging", program=program(tmp_path, script))
    assert (len(found.messages), found.problem) == (1, "")


def test_it_uses_the_same_kubeconfig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The option's file, whose ``~`` no shell has replaced; without the option KUBECONFIG, as kubectl."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("KUBECONFIG", "from-the-environment")
    script = f"echo \"$KUBECONFIG $@\" > '{tmp_path}/arguments'; echo '[]'"
    analyze.analyze("payments", istio_namespace="istio-system", kubeconfig=Path("~/config"), program=program(tmp_path, script))
    arguments = (tmp_path / "arguments").read_text(encoding="utf-8")
    assert f"--kubeconfig {tmp_path}/config" in arguments
    assert arguments.startswith("from-the-environment ")


@pytest.mark.parametrize(
    ("script", "problem"),
    [
        ("echo nothing; echo 'Error: forbidden' >&2; exit 1", "exit code 1): Error: forbidden"),
        ("echo 'namespace gone' >&2", "exit code 0): it named no error"),
        ("printf '\\377\\376\\000'; exit 3", "exit code 3): it named no error"),
        ("kill -9 $$", "exit code -9): it named no error"),
        ("exec sleep 9", "did not end within 0.3 s"),
        ("sleep 9 & wait", "did not end within 0.3 s"),
    ],
)
def test_trouble_is_one_sentence(tmp_path: Path, script: str, problem: str) -> None:
    """It may fail, babble, die or hang."""
    began = time.monotonic()
    found = analyze.analyze("payments", istio_namespace="istio-system", program=program(tmp_path, script), seconds=0.3)
    assert problem in found.problem
    assert time.monotonic() - began < 5


def test_what_a_credential_plugin_prints_is_not_kept(tmp_path: Path) -> None:
    """It writes to the same standard error, and may write anything."""
    script = "echo 'Error: getting credentials: exit code 1' >&2; echo 'token=CANARY' >&2; exit 1"
    found = analyze.analyze("payments", istio_namespace="istio-system", program=program(tmp_path, script))
    assert "getting credentials" in found.problem
    assert "CANARY" not in found.problem


def test_a_message_of_any_length_is_cut() -> None:
    """A schema error quotes what it complains about."""
    found = analyze.messages(MESSAGE.replace("gone", "x" * 100_000))
    assert found is not None
    assert len(found[0].message) == 1000


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    """It may be gone, or not be executable."""
    found = analyze.analyze("payments", istio_namespace="istio-system", program=str(tmp_path / "istioctl"))
    assert "could not be run" in found.problem


def _gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text(encoding="utf-8")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_no_process_is_left_where_the_run_is_interrupted(tmp_path: Path, number: signal.Signals) -> None:
    """Neither the program nor what it started."""
    path = program(tmp_path, f"sleep 60 & echo $! $$ > '{tmp_path}/new'; mv '{tmp_path}/new' '{tmp_path}/pids'; wait")
    code = f"""
from pytest_meshready.cluster import analyze
from pytest_meshready.interrupts import Interrupts
Interrupts().install()
try:
    analyze.analyze("payments", istio_namespace="istio-system", program={path!r})
except KeyboardInterrupt:
    print("interrupted")
"""
    run = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    end = time.monotonic() + 20
    while not (tmp_path / "pids").exists() and time.monotonic() < end:
        time.sleep(0.02)
    run.send_signal(number)
    out, _ = run.communicate(timeout=10)
    assert out == "interrupted\n"
    pids = [int(word) for word in (tmp_path / "pids").read_text(encoding="utf-8").split()]
    while not all(map(_gone, pids)) and time.monotonic() < end:
        time.sleep(0.02)
    assert [pid for pid in pids if not _gone(pid)] == []


# --- whether it is run ---


@pytest.fixture
def api() -> Iterator[kubeapi.Api]:
    with kubeapi.serving() as running:
        yield running


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The program on the PATH, which says one thing; ``ran`` lies in the folder once it did."""
    program(tmp_path, f"echo \"$@\" > '{tmp_path}/ran'; echo '{MESSAGE}'")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    return tmp_path / "ran"


def asked(api: kubeapi.Api) -> set[str]:
    """The rights that were asked for, as ``list secrets``."""
    words = [request.content["spec"]["resourceAttributes"] for request in api.requests if request.path == kubeapi.REVIEWS]
    return {f"{word['verb']} {word['resource']}" for word in words}


def problem(snapshot: Snapshot) -> str:
    assert snapshot.istioctl is not None
    return snapshot.istioctl.problem


def test_it_stands_in_the_snapshot(api: kubeapi.Api, installed: Path) -> None:
    """A saved snapshot holds what was said, so that its replay says the same; who may do everything is asked about once."""
    waited: list[str] = []
    found = analyze.beside(make.snapshot(), api.cluster(), progress=waited.append)
    assert found.istioctl is not None
    assert len(found.istioctl.messages) == 1
    assert "--context test --remote-contexts test" in installed.read_text(encoding="utf-8")
    assert asked(api) == {"* *"}
    assert waited[-1] == "istioctl analyze"


def test_it_is_not_run_for_a_user_who_may_not_read_secrets(api: kubeapi.Api, installed: Path) -> None:
    """It would list them in all namespaces; that is asked for and not tried."""
    api.denied = {"* *", "list secrets", "watch secrets"}
    found = analyze.beside(make.snapshot(), api.cluster())
    missing = "it needs a right that is missing: list secrets in all namespaces"
    assert problem(found) == f"istioctl analyze was not run: {missing}"
    assert not installed.exists()
    assert asked(api) == {"* *", "list secrets", "watch secrets"}


@pytest.mark.parametrize("right", ["watch secrets", "list nodes", "watch customresourcedefinitions", "list deployments", "get configmaps"])
def test_each_right_that_it_needs_is_asked_for(api: kubeapi.Api, installed: Path, right: str) -> None:
    """It would wait for what it may not read until its time is over."""
    api.denied = {"* *", right}
    assert f"a right that is missing: {right}" in problem(analyze.beside(make.snapshot(), api.cluster()))
    assert not installed.exists()


def test_it_is_run_for_a_user_with_all_that_it_needs(api: kubeapi.Api, installed: Path) -> None:
    """Not everything, but enough."""
    api.denied = {"* *"}
    assert problem(analyze.beside(make.snapshot(), api.cluster())) == ""
    assert installed.exists()


def test_it_is_not_run_in_a_pod_without_a_kubeconfig(api: kubeapi.Api, installed: Path) -> None:
    """There is no name of this cluster to limit it to, and it would enter the others of the mesh."""
    cluster = api.cluster()
    cluster.context = IN_CLUSTER
    assert "cannot be kept from entering other clusters" in problem(analyze.beside(make.snapshot(), cluster))
    assert not installed.exists()


def test_it_is_not_run_where_nobody_can_tell(api: kubeapi.Api, installed: Path) -> None:
    """An API server that does not answer such questions."""
    api.trouble = lambda request: kubeapi.refusal(403, "no", "Forbidden") if request.path == kubeapi.REVIEWS else None
    assert "list secrets in all namespaces" in problem(analyze.beside(make.snapshot(), api.cluster()))
    assert not installed.exists()


def test_it_is_not_run_where_a_list_was_refused(api: kubeapi.Api, installed: Path) -> None:
    """Nothing more is asked then; a kind that is not installed is no missing right."""
    found = analyze.beside(make.snapshot(refusals=(make.refusal("pods"),)), api.cluster())
    assert problem(found) == "istioctl analyze was not run: it reads more than this run, which could not read pods"
    assert (api.requests, installed.exists()) == ([], False)
    absent = make.snapshot(refusals=(make.refusal("canaries", status=404, absent=True),))
    assert problem(analyze.beside(absent, api.cluster())) == ""


def test_without_istioctl_nothing_changes(api: kubeapi.Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is never demanded, and nothing is asked."""
    monkeypatch.setenv("PATH", "")
    snapshot = make.snapshot()
    assert analyze.beside(snapshot, api.cluster()) is snapshot
    assert api.requests == []
