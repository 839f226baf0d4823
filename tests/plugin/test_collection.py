"""The checklist in the layouts that teams have: it is never lost, and never in the way (style.md 2.3)."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.plugin.conftest import SHIPPED, Mesh, items

TEAM_TEST = "def test_ours(): pass\n"
BUDGETS = "meshready/s02_resources.py::TestKubernetesBaseline::test_pod_disruption_budgets"
ONE_SIDECAR = "meshready/s04_namespace.py::TestInjectionValidation::test_exactly_one_sidecar"
INJECTION = [line for line in SHIPPED if "TestInjectionValidation" in line]


def test_ids_are_fixed_and_follow_the_teams_own(mesh: Mesh) -> None:
    """The team's tests come first, then the checklist in its order, with ids that name no path of this machine."""
    mesh.pytester.makepyfile(test_ours=TEAM_TEST)
    assert mesh.collected() == ["test_ours.py::test_ours", *SHIPPED]
    assert SHIPPED[0].startswith("meshready/s01_readiness.py::TestArchitectureAndScope::test_")
    assert "meshready/s11_hardening.py::TestSecurity::test_strict_everywhere" in SHIPPED
    assert ONE_SIDECAR in SHIPPED


def test_without_the_option_nothing_is_added(pytester: pytest.Pytester) -> None:
    """An installed plugin that nobody asked is invisible."""
    pytester.makepyfile(test_ours=TEAM_TEST)
    result = pytester.runpytest_inprocess()
    result.assert_outcomes(passed=1)
    said = [line for line in result.outlines if not line.startswith(("rootdir:", "plugins:"))]
    assert "mesh" not in "\n".join(said)


@pytest.mark.parametrize("folder", [".venv", "env"])
def test_virtual_environment_inside_the_repository(mesh: Mesh, folder: str) -> None:
    """Pytest refuses to walk into virtual environments; the checklist does not lie on its path."""
    site = mesh.pytester.mkdir(folder)
    (site / "pyvenv.cfg").write_text("home = /usr\n", encoding="utf-8")
    assert mesh.collected() == list(SHIPPED)


@pytest.mark.parametrize(
    "setting", ["python_classes = Check*", "python_functions = check_*", "python_files = check_*.py", "norecursedirs = *"]
)
def test_naming_rules_of_the_team_do_not_lose_the_checklist(mesh: Mesh, setting: str) -> None:
    """Odd ini settings concern the team's files alone."""
    mesh.pytester.makeini(f"[pytest]\n{setting}\n")
    assert mesh.collected() == list(SHIPPED)


def test_testpaths_keep_both(mesh: Mesh) -> None:
    """With testpaths the team's tests stay, and so does the checklist."""
    mesh.pytester.makeini("[pytest]\ntestpaths = checks\n")
    (mesh.pytester.mkdir("checks") / "test_ours.py").write_text(TEAM_TEST, encoding="utf-8")
    mesh.pytester.makepyfile(test_elsewhere=TEAM_TEST)
    assert mesh.collected() == ["checks/test_ours.py::test_ours", *SHIPPED]


def test_explicit_paths_leave_it_out_and_say_so(mesh: Mesh) -> None:
    """``pytest tests/`` runs these tests alone; the header says that the checklist was left out and how to add it."""
    mesh.pytester.makepyfile(test_ours=TEAM_TEST)
    result = mesh.run("test_ours.py")
    assert result.parseoutcomes() == {"passed": 1}
    result.stdout.fnmatch_lines(["*checklist not collected, because paths were given; add --mesh-checklist to run it beside them*"])


def test_checklist_beside_explicit_paths(mesh: Mesh) -> None:
    """Both ways to ask for it work: the option, and the word among the arguments."""
    mesh.pytester.makepyfile(test_ours=TEAM_TEST, test_other=TEAM_TEST)
    assert mesh.collected("--mesh-checklist", "test_ours.py") == ["test_ours.py::test_ours", *SHIPPED]
    assert mesh.collected("test_ours.py", "meshready") == ["test_ours.py::test_ours", *SHIPPED]


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        (ONE_SIDECAR, [ONE_SIDECAR]),
        ("meshready/s04_namespace.py::TestInjectionValidation", INJECTION),
        ("meshready/s02_resources.py", [line for line in SHIPPED if "s02" in line]),
        ("meshready", list(SHIPPED)),
    ],
)
def test_printed_ids_can_be_pasted_back(mesh: Mesh, argument: str, expected: list[str]) -> None:
    """A node id copied from a failure selects what it names."""
    assert mesh.collected(argument) == expected


def test_a_folder_of_the_teams_with_our_name_wins(mesh: Mesh) -> None:
    """``meshready/`` as a real folder is the team's path, as anywhere in pytest."""
    (mesh.pytester.mkdir("meshready") / "test_ours.py").write_text(TEAM_TEST, encoding="utf-8")
    assert mesh.collected("meshready") == ["meshready/test_ours.py::test_ours"]


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (("-k", "4.2.1"), [ONE_SIDECAR]),
        (("-k", "exactly_one_sidecar"), [ONE_SIDECAR]),
        (("-k", "s02"), [line for line in SHIPPED if "s02" in line]),
        (("-m", "mesh_item"), list(SHIPPED)),
        (("-m", "not mesh_item"), []),
        (("--deselect", ONE_SIDECAR), [line for line in SHIPPED if line != ONE_SIDECAR]),
        (("--mesh-items=4.2.1",), [ONE_SIDECAR]),
        (("--mesh-items=4.2",), INJECTION),
        (("--mesh-items=2.2.1,4.2.1",), [BUDGETS, ONE_SIDECAR]),
    ],
)
def test_selection(mesh: Mesh, args: tuple[str, ...], expected: list[str]) -> None:
    """Pytest's own ways to select, and ours, all work on shipped tests."""
    assert mesh.collected(*args) == expected


def test_last_failed_keeps_shipped_failures(mesh: Mesh) -> None:
    """``--lf`` runs a failed shipped test again although a test of the team's failed too."""
    mesh.pytester.makepyfile(test_ours="def test_ours(): assert False\n")
    first = mesh.run(phase="permissive")
    failed = first.parseoutcomes()["failed"]
    again = mesh.run("--lf", phase="permissive")
    assert failed == 3, "the team's test, and 7.1.1 and 7.3.1 because the mesh is STRICT and denies by default already"
    assert again.parseoutcomes()["failed"] == failed


def test_stops_at_the_first_failure(mesh: Mesh) -> None:
    """``-x`` ends the run; the report says that it is not complete."""
    mesh.pytester.makepyfile(test_ours="def test_ours(): assert False\n")
    assert mesh.readiness("-x")["run"]["complete"] is False


def test_strict_settings_and_warnings_as_errors(mesh: Mesh) -> None:
    """``strict`` and ``-W error`` find nothing to complain about, in one process and in workers."""
    mesh.pytester.makeini("[pytest]\nstrict = true\n")
    assert mesh.run("-W", "error", process=True).ret == 10
    assert mesh.run("-W", "error", "-n", "2", process=True).ret == 10


def test_without_xdist(mesh: Mesh) -> None:
    """``-p no:xdist`` takes nothing away."""
    assert mesh.run("-p", "no:xdist", process=True).ret == 10


@pytest.mark.parametrize("mode", ["prepend", "append", "importlib"])
def test_import_modes(mesh: Mesh, mode: str) -> None:
    """A team's class still derives from the shipped one, whatever way pytest imports."""
    mesh.pytester.makepyfile(
        test_ours="""
        from pytest_meshready.checklist import s04_namespace as shipped
        class TestInjectionValidation(shipped.TestInjectionValidation):
            pass
        """
    )
    ours = [f"test_ours.py{line.removeprefix('meshready/s04_namespace.py')}" for line in INJECTION]
    assert mesh.collected(f"--import-mode={mode}") == [*ours, *(line for line in SHIPPED if line not in INJECTION)]


def test_from_a_folder_below(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    """Started below the rootdir, the ids are the same."""
    mesh.pytester.makeini("[pytest]\n")
    monkeypatch.chdir(mesh.pytester.mkdir("deep"))
    assert mesh.collected() == list(SHIPPED)


def test_junit_names_lines_and_statuses(mesh: Mesh) -> None:
    """JUnit's properties carry the line, its status and the reason; nothing else of ours."""
    mesh.run("--junitxml=junit.xml", "--mesh-items=2.2.1", process=True)
    text = (mesh.pytester.path / "junit.xml").read_text(encoding="utf-8")
    assert '<property name="mesh_item" value="2.2.1"' in text
    assert '<property name="mesh_status" value="passed"' in text
    assert 'classname="meshready.s02_resources.TestKubernetesBaseline"' in text
    assert "fingerprint" not in text


def test_idle_run_imports_nothing_heavy(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the option no client library is imported, nor what only they need."""
    pytester.makepyfile(
        test_ours="""
        import sys
        def test_ours():
            heavy = ("kubernetes", "httpx", "jinja2", "tenacity", "ssl", "asyncio", "yaml", "msgspec")
            assert [name for name in heavy if name in sys.modules] == []
        """
    )
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # other plugins import what they like
    result = pytester.run(sys.executable, "-m", "pytest", "-p", "pytest_meshready.plugin", "-q")
    assert result.parseoutcomes() == {"passed": 1}, result.stdout.str()


def test_workers_decide_the_same(mesh: Mesh) -> None:
    """Four workers give the statuses of one process."""
    alone = {line: item["status"] for line, item in items(mesh.readiness()).items()}
    together = {line: item["status"] for line, item in items(mesh.readiness("-n", "4", process=True)).items()}
    assert together == alone


def test_a_lost_worker_leaves_its_line_not_verified(mesh: Mesh) -> None:
    """A worker that dies in the middle of a check proves nothing about the line, and the report says so."""
    mesh.pytester.makepyfile(
        test_ours="""
        import os
        from pytest_meshready.checklist import s04_namespace as shipped
        class TestInjectionValidation(shipped.TestInjectionValidation):
            def test_exactly_one_sidecar(self):
                os._exit(3)
        """
    )
    line = items(mesh.readiness("-n", "2", process=True))["4.2.1"]
    assert line["status"] == "not_verified"
    assert "worker that ran it was lost" in line["reason"]


def test_collect_only_looks_at_no_cluster(pytester: pytest.Pytester, tmp_path: Path) -> None:
    """``--collect-only`` and IDEs need neither a kubeconfig nor a cluster."""
    missing = tmp_path / "no-such-kubeconfig"
    result = pytester.runpytest_inprocess("--mesh-namespace=payments", f"--mesh-kubeconfig={missing}", "--collect-only", "-q")
    assert result.ret == 0
    assert ONE_SIDECAR in result.outlines


def test_paths_alone_keep_pytests_own_exit_code(mesh: Mesh) -> None:
    """A run of the team's own tests is the team's: no verdict is made of lines that nobody asked about."""
    mesh.pytester.makepyfile(test_ours=TEAM_TEST)
    result = mesh.run("test_ours.py")
    assert result.ret == 0
    assert "NOT VERIFIED" not in result.stdout.str()
    assert "checklist not collected, because paths were given" in result.outlines[-2]


def test_paths_with_a_line_are_a_partial_run(mesh: Mesh) -> None:
    """Where such a test decides a line, the verdict is about that line alone, and says so."""
    mesh.pytester.makepyfile(test_ours="import pytest\n@pytest.mark.mesh_item('2.2.1')\ndef test_ours(): pass\n")
    readiness = mesh.readiness("test_ours.py")
    assert readiness["run"]["lines_selected"] == 1
    assert "partial: 1 of 93 lines" in readiness["verdict_text"]
