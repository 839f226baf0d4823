"""Running istioctl analyze: what it prints is untangled, and whatever it does, nothing breaks."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from pytest_meshready.cluster import analyze
from tests.unit import builders as make

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
    assert arguments[7:] == ["--revision", "canary", "--context", "staging"]


@pytest.mark.parametrize(
    ("script", "problem"),
    [("echo nothing; echo 'Error: forbidden' >&2; exit 1", "exit code 1): Error: forbidden"), ("exec sleep 9", "did not end within 0.3 s")],
)
def test_trouble_is_one_sentence(tmp_path: Path, script: str, problem: str) -> None:
    """It may fail, or hang."""
    found = analyze.analyze("payments", istio_namespace="istio-system", program=program(tmp_path, script), seconds=0.3)
    assert problem in found.problem


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    """It may be gone, or not be executable."""
    found = analyze.analyze("payments", istio_namespace="istio-system", program=str(tmp_path / "istioctl"))
    assert "could not be run" in found.problem


def test_it_stands_in_the_snapshot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A saved snapshot holds what was said, so that its replay says the same."""
    program(tmp_path, f"echo '{MESSAGE}'")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    found = analyze.beside(make.snapshot())
    assert found.istioctl is not None
    assert len(found.istioctl.messages) == 1


def test_it_is_not_run_where_rights_are_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would wait for what it may not list; a kind that is not installed is no missing right."""
    program(tmp_path, f"echo '{MESSAGE}'")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    found = analyze.beside(make.snapshot(refusals=(make.refusal("pods"),)))
    assert found.istioctl is not None
    assert found.istioctl.problem == "istioctl analyze was not run, because it needs rights that are missing (pods)"
    assert analyze.beside(make.snapshot(refusals=(make.refusal("canaries", status=404, absent=True),))).istioctl != found.istioctl


def test_without_istioctl_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is never demanded."""
    monkeypatch.setenv("PATH", "")
    snapshot = make.snapshot()
    assert analyze.beside(snapshot) is snapshot
