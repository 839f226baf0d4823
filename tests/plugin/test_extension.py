"""How teams extend the checklist: by subclassing, by marking tests of their own, by lines of their own."""

from __future__ import annotations

import pytest

from tests.plugin.conftest import SHIPPED, Mesh, items

ONE_SIDECAR = "meshready/s04_namespace.py::TestInjectionValidation::test_exactly_one_sidecar"


def test_subclass_replaces_the_shipped_class(mesh: Mesh) -> None:
    """The team's class runs, the shipped one does not, and the run says so."""
    mesh.pytester.makepyfile(
        test_ours="""
        from pytest_meshready.checklist import s04_namespace as shipped
        class TestOurInjection(shipped.TestInjectionValidation):
            def test_more(self, mesh_snapshot):
                assert mesh_snapshot.pods
        """
    )
    result = mesh.pytester.runpytest_inprocess(*mesh.options(), "--collect-only")
    assert "meshready: TestInjectionValidation replaced by test_ours.py::TestOurInjection" in result.outlines
    assert ONE_SIDECAR not in mesh.collected()
    checks = items(mesh.readiness())["4.2.1"]["checks"]
    assert [check["nodeid"] for check in checks] == ["test_ours.py::TestOurInjection::test_exactly_one_sidecar"]


def test_replacement_is_announced_under_xdist(mesh: Mesh) -> None:
    """The controller collects nothing, so the workers send the note home."""
    mesh.pytester.makepyfile(
        test_ours="""
        from pytest_meshready.checklist import s04_namespace as shipped
        class TestOurInjection(shipped.TestInjectionValidation): pass
        """
    )
    result = mesh.run("-n", "2", process=True)
    result.stdout.fnmatch_lines(["*TestInjectionValidation replaced by test_ours.py::TestOurInjection*"])


def test_shipped_class_imported_by_name_runs_once(mesh: Mesh) -> None:
    """``from ... import TestInjectionValidation`` is an extension too: the class derives from itself."""
    mesh.pytester.makepyfile(test_ours="from pytest_meshready.checklist.s04_namespace import TestInjectionValidation\n")
    assert "test_ours.py::TestInjectionValidation::test_exactly_one_sidecar" in mesh.collected()
    assert ONE_SIDECAR not in mesh.collected()


def test_override_replaces_even_if_deselected(mesh: Mesh) -> None:
    """An override takes the place of its original before ``-k`` looks at anything, so the outcome is predictable."""
    mesh.pytester.makepyfile(
        test_ours="""
        from pytest_meshready.checklist import s04_namespace as shipped
        class TestOurInjection(shipped.TestInjectionValidation): pass
        """
    )
    assert mesh.collected("-k", "not TestOurInjection") == [line for line in SHIPPED if "TestInjectionValidation" not in line]


def test_override_keeps_the_mark_of_its_line(mesh: Mesh) -> None:
    """A method that overrides a shipped test without repeating its mark still decides the line."""
    mesh.pytester.makepyfile(
        test_ours="""
        from pytest_meshready.checklist import s02_resources as shipped
        class TestOurs(shipped.TestKubernetesBaseline):
            def test_pod_disruption_budgets(self):
                assert 0, "orders may never be evicted"
        """
    )
    line = items(mesh.readiness())["2.2.1"]
    assert line["status"] == "failed"
    assert "orders may never be evicted" in line["reason"]


def test_a_teams_test_counts_for_its_line(mesh: Mesh) -> None:
    """A marked test of the team's is one more part of the line: the worse counts."""
    mesh.pytester.makepyfile(
        test_ours="""
        import pytest
        @pytest.mark.mesh_item("2.2.1")
        def test_budgets_are_reviewed():
            assert 0, "review is older than a year"
        """
    )
    line = items(mesh.readiness())["2.2.1"]
    assert (line["status"], len(line["checks"])) == ("failed", 2)


def test_a_teams_test_can_stand_for_a_part(mesh: Mesh) -> None:
    """With ``part="live"`` it gives the evidence that the line still lacked."""
    mesh.pytester.makepyfile(
        test_ours="""
        import pytest
        @pytest.mark.mesh_item("2.2.3", part="live")
        def test_readiness_over_the_wire(): pass
        """
    )
    assert items(mesh.readiness())["2.2.3"]["status"] == "passed"


def test_a_passing_test_of_the_teams_does_not_hide_what_is_missing(mesh: Mesh) -> None:
    """Without ``part`` a green test of the team's adds nothing to a line whose wire was not asked."""
    mesh.pytester.makepyfile(
        test_ours="""
        import pytest
        @pytest.mark.mesh_item("2.2.3")
        def test_fine(): pass
        """
    )
    assert items(mesh.readiness())["2.2.3"]["status"] == "not_verified"


def test_a_teams_own_line(mesh: Mesh) -> None:
    """A line of meshready.toml joins the report, and fails the verdict when its test fails."""
    mesh.pytester.path.joinpath("meshready.toml").write_text(
        '[[item]]\nid = "pay-1"\ntext = "Ledger answers in the currency of the account"\nseverity = "blocker"\n', encoding="utf-8"
    )
    mesh.pytester.makepyfile(
        test_ours="""
        import pytest
        @pytest.mark.mesh_item("pay-1")
        def test_currency(): assert 0, "EUR for a CHF account"
        """
    )
    readiness = mesh.readiness()
    line = items(readiness)["pay-1"]
    assert (line["status"], line["custom"], len(readiness["items"])) == ("failed", True, 94)
    assert readiness["verdict"] == "NOT READY"


@pytest.mark.parametrize(
    ("mark", "sentence"),
    [
        ("mesh_item()", "mesh_item takes the ids of lines as text"),
        ("mesh_item(4.2)", "mesh_item takes the ids of lines as text"),
        ("mesh_item('4.2.9')", "mesh_item('4.2.9') names no line of the checklist"),
        ("mesh_item('4.2.1', part='wire')", "mesh_item(part='wire') is not one of static, live, metrics, attest"),
        ("mesh_item('4.2.1', section=4)", "mesh_item takes the ids of lines as text"),
    ],
)
def test_malformed_marks_are_answered_with_a_sentence(mesh: Mesh, mark: str, sentence: str) -> None:
    """A wrong mark names its file and line; it does not become an INTERNALERROR."""
    mesh.pytester.makepyfile(test_ours=f"import pytest\n@pytest.mark.{mark}\ndef test_ours(): pass\n")
    result = mesh.run()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert f"test_ours.py:2 (test_ours): {sentence}" in result.stderr.str() + result.stdout.str()


def test_fixture_of_the_rootdir_conftest_overrides_ours(mesh: Mesh) -> None:
    """A team's word in its conftest.py changes what shipped checks see."""
    mesh.pytester.makeconftest(
        """
        import pytest, msgspec
        @pytest.fixture(scope="session")
        def mesh_snapshot(mesh_snapshot):
            return msgspec.structs.replace(mesh_snapshot, poddisruptionbudgets=())
        """
    )
    assert items(mesh.readiness())["2.2.1"]["status"] == "failed"


def test_ten_lines_are_enough(mesh: Mesh) -> None:
    """The fixtures are usable without knowing anything else of the project."""
    mesh.pytester.makepyfile(
        test_ours="""
        def test_namespace(mesh_settings, mesh_snapshot):
            assert mesh_settings.namespace == mesh_snapshot.namespace == "payments"
            assert {pod.metadata.namespace for pod in mesh_snapshot.pods} >= {"payments"}
        """
    )
    assert mesh.run("test_ours.py").parseoutcomes() == {"passed": 1}


def test_fixtures_are_shown(pytester: pytest.Pytester) -> None:
    """``pytest --fixtures`` names each with its meaning."""
    result = pytester.runpytest_inprocess("--fixtures")
    for name in ("mesh_settings", "mesh_cluster", "mesh_snapshot", "mesh_check"):
        result.stdout.fnmatch_lines([f"{name}*"])
    assert (
        "no docstring available"
        not in result.stdout.str().split("fixtures defined from pytest_meshready", 1)[1].split("fixtures defined", 1)[0]
    )


def test_fixture_without_a_run_names_the_option(pytester: pytest.Pytester) -> None:
    """A test that asks for the mesh in a run without one is told what to type."""
    pytester.makepyfile("def test_ours(mesh_snapshot): pass")
    result = pytester.runpytest_inprocess()
    result.stdout.fnmatch_lines(["*'mesh_snapshot' needs to know which namespace to look at: run pytest with --mesh-namespace=NAMESPACE*"])
