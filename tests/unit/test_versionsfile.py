"""``--mesh-versions-file``: a team's own rows for the table of releases."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from pytest_meshready import versionsfile
from pytest_meshready.istio.changes import Kind
from pytest_meshready.istio.obsolete import obsolete
from pytest_meshready.istio.releases import NEWEST, PACKAGED, TABLE_DATE, Table
from pytest_meshready.istio.versions import supported_versions
from pytest_meshready.results import Status
from pytest_meshready.settings import load
from pytest_meshready.tables import SettingsError
from tests.unit import builders as make
from tests.unit import whole

TODAY = date(2027, 2, 1)

GOOD = """
date = 2027-01-15

[[release]]
minor = "1.31"
out = 2026-09-02
kubernetes = "1.32-1.36"
patch = 4

[[release]]
minor = "1.32"
out = 2026-12-01
kubernetes = "1.33-"
patch = 1

[[change]]
minor = "1.32"
kind = "variable"
name = "PILOT_SOMETHING"
"""


def parsed(text: str) -> Table:
    return versionsfile.parse(text, "ours.toml", today=TODAY)


def test_rows_stand_beside_the_packages() -> None:
    """Known versions stay known, new ones decide when the older ones end."""
    table = parsed(GOOD)
    assert (table.day, table.newest, table.changes_up_to) == (date(2027, 1, 15), 32, 32)
    assert table.releases[27] == PACKAGED.releases[27]
    support = table.end_of_support(29)
    assert support is not None
    assert support.end == date(2026, 10, 14)
    assert table.kubernetes_range(31) == (32, 36)
    assert table.kubernetes_range(33) == (33, None)
    assert PACKAGED.newest == NEWEST == 30


def test_a_newer_table_decides_the_line() -> None:
    """1.31.4 is unknown to the package, and supported by the file; the line says which table it used."""
    snapshot = whole.mesh(deployments=(whole.istiod(version="1.31.4"), make.deployment()), istio_version="1.31.4")
    alone = supported_versions(snapshot, today=TODAY)
    assert {finding.code for finding in alone.findings} == {"MR125-UNKNOWN-MINOR", "MR125-OLD-TABLE"}
    extended = supported_versions(snapshot, today=TODAY, table=parsed(GOOD))
    assert extended.status is Status.PASSED
    assert extended.summary == "Istio 1.31.4 is supported (table of 2027-01-15 (ours.toml))"


def test_an_old_file_is_called_old() -> None:
    """The advice is about the file, not about the package."""
    snapshot = whole.mesh(deployments=(whole.istiod(version="1.31.4"), make.deployment()), istio_version="1.31.4")
    (finding,) = supported_versions(snapshot, today=date(2027, 6, 1), table=parsed(GOOD)).findings
    assert finding.code == "MR125-OLD-TABLE"
    assert "the table of releases in ours.toml is of 2027-01-15" in finding.found
    assert finding.fix.startswith("bring ours.toml up to date")


def test_its_changes_count() -> None:
    """A setting that only the file knows to be removed is found, with the file as its source."""
    snapshot = whole.mesh(deployments=(whole.istiod(version="1.32.1", env={"PILOT_SOMETHING": "1"}), make.deployment()))
    (finding,) = obsolete(snapshot, parsed(GOOD))
    assert finding.code == "MR1123-REMOVED"
    assert finding.fix.endswith("source: ours.toml")
    assert finding.detail == f"{Kind.VARIABLE} PILOT_SOMETHING"


def test_a_file_older_than_the_package_is_not_used() -> None:
    """A file that was forgotten in a repository does not take newer knowledge away, and the evidence says so."""
    table = parsed(
        GOOD.replace("date = 2027-01-15", "date = 2026-08-01")
        .replace("out = 2026-09-02", "out = 2026-07-01")
        .replace("2026-12-01", "2026-07-30")
    )
    assert table.releases == PACKAGED.releases
    assert table.day == TABLE_DATE
    evidence = supported_versions(whole.mesh(), table=table).evidence[0]
    assert "ours.toml of 2026-08-01 is older and was not used" in evidence.source


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("date = ", "is not valid TOML: "),
        ("", "is no table of releases: Object missing required field date"),
        ("date = 2027-01-15", "has neither a [[release]] nor a [[change]]"),
        (GOOD.replace("2027-01-15", '"soon"'), "is no table of releases: Invalid RFC3339 encoded date (date)"),
        (GOOD.replace("2027-01-15", "2027-03-01"), "has the date 2027-03-01, which is still to come"),
        (GOOD.replace("patch = 4", 'patch = "4"'), "is no table of releases: Expected int, got str (patch in [[release]] number 1)"),
        (GOOD.replace("patch = 4", "patch = -4"), "has patch = -4 for 1.31"),
        (GOOD.replace("patch = 4", "pach = 4"), "is no table of releases: Object contains unknown field pach ([[release]] number 1)"),
        (
            GOOD.replace("patch = 4", "patch = 4\nnewest = true"),
            "is no table of releases: Object contains unknown field newest ([[release]] number 1)",
        ),
        (GOOD.replace('"1.32-1.36"', '"1.36-1.32"'), 'has kubernetes = "1.36-1.32" for 1.31; write "1.32-1.36"'),
        (GOOD.replace('"1.32-1.36"', '"any"'), 'has kubernetes = "any" for 1.31; write "1.32-1.36"'),
        (GOOD.replace('minor = "1.31"', 'minor = "31"'), 'has minor = "31"; it must be a minor version of Istio, such as "1.31"'),
        (GOOD.replace('minor = "1.31"', 'minor = "1.32"'), "has two [[release]] tables for 1.32; keep one"),
        (GOOD.replace("2026-12-01", "2027-01-16"), "says that 1.32 came out on 2027-01-16, after the file's own date 2027-01-15"),
        (GOOD.replace("patch = 1", "patch = 1\nend = 2026-01-01"), "says that 1.32 came out on 2026-12-01 and ended on 2026-01-01"),
        (
            GOOD.replace('"variable"', '"flag"'),
            "is no table of releases: Invalid enum value 'flag' (kind in [[change]] number 1); choose one of variable, annotation",
        ),
    ],
)
def test_what_makes_no_sense_is_one_sentence(text: str, sentence: str) -> None:
    """The sentence names the option, the file, what was found and what is wanted."""
    with pytest.raises(SettingsError) as caught:
        parsed(text)
    assert str(caught.value).startswith(f"--mesh-versions-file=ours.toml {sentence}")
    assert "\n" not in str(caught.value)


def test_the_option(tmp_path: Path) -> None:
    """The file is relative to where pytest was started; without it the package's table counts."""
    (tmp_path / "ours.toml").write_text(GOOD.replace("2027-01-15", "2026-09-15").split('[[release]]\nminor = "1.32"')[0], encoding="utf-8")
    (tmp_path / "root").mkdir()
    options: dict[str, object] = {"mesh_namespace": "payments", "mesh_versions_file": "ours.toml"}
    assert load(options, rootdir=tmp_path / "root", invocation_dir=tmp_path).releases.newest == 31
    assert load({"mesh_namespace": "payments"}, rootdir=tmp_path / "root", invocation_dir=tmp_path).releases is PACKAGED


@pytest.mark.parametrize(("content", "sentence"), [(None, "cannot be read: No such file or directory"), (b"\xff", "is not UTF-8 text")])
def test_files_that_cannot_be_read(tmp_path: Path, content: bytes | None, sentence: str) -> None:
    """The file is named as it was typed."""
    if content is not None:
        (tmp_path / "ours.toml").write_bytes(content)
    with pytest.raises(SettingsError, match=f"^--mesh-versions-file=ours.toml {sentence}"):
        load({"mesh_versions_file": "ours.toml"}, rootdir=tmp_path, invocation_dir=tmp_path)
