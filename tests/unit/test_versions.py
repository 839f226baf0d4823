"""Line 12.5: the versions that run are supported (checks.md 12.5 and 5), and the table that tells it."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import pytest

from pytest_meshready.cluster.snapshot import ControlPlane, Snapshot
from pytest_meshready.istio.releases import NEWEST, OLDEST, RELEASES, TABLE_DATE, Build, end_of_support, kubernetes_range, version
from pytest_meshready.istio.versions import supported_versions
from pytest_meshready.results import Judgement, Level, Status
from tests.unit import builders as make
from tests.unit import whole

TODAY = date(2026, 9, 1)


def running(text: str, *, kubernetes: str = "v1.34.4") -> Snapshot:
    return whole.mesh(deployments=(whole.istiod(version=text), make.deployment()), istio_version=text, kubernetes_version=kubernetes)


def judged(text: str, today: date = TODAY, *, kubernetes: str = "v1.34.4") -> Judgement:
    return supported_versions(running(text, kubernetes=kubernetes), today=today)


def codes(judgement: Judgement) -> list[str]:
    return [finding.code.removeprefix("MR125-") for finding in judgement.findings]


# --- the table ---------------------------------------------------------------------------------------------------------


def test_the_table_is_whole() -> None:
    """Every minor version from the oldest to the newest, each younger than the one before, none out after the table's date."""
    assert list(RELEASES) == list(range(OLDEST, NEWEST + 1))
    days = [release.out for release in RELEASES.values()]
    assert days == sorted(days)
    assert days[-1] <= TABLE_DATE


@pytest.mark.parametrize("minor", [26, 27])
def test_the_rule_reproduces_the_ends_that_are_known(minor: int) -> None:
    """Six weeks after the release that is two later: within a week of what really happened."""
    known = RELEASES[minor].end
    assert known is not None
    assert abs(known - (RELEASES[minor + 2].out + timedelta(weeks=6))) <= timedelta(days=7)


def test_ends_of_support() -> None:
    """A known end, a computed one, one that depends on a release that was not out, and versions beyond the table."""
    assert end_of_support(27) is not None
    computed = end_of_support(28)
    assert computed is not None
    assert computed.end == date(2026, 6, 29)
    open_ = end_of_support(29)
    assert open_ is not None
    assert (open_.end, open_.earliest) == (None, date(2026, 10, 3))
    later = end_of_support(30)
    assert later is not None
    assert (later.end, later.earliest) == (None, date(2026, 12, 2))
    assert end_of_support(31) is None
    assert end_of_support(19) is None


def test_ranges_of_kubernetes() -> None:
    """What is not known has no upper bound, and a newer Istio needs at least what the newest known needs."""
    assert kubernetes_range(28) == (30, 34)
    assert kubernetes_range(30) == (32, None)
    assert kubernetes_range(33) == (32, None)


@pytest.mark.parametrize(
    ("text", "minor", "patch", "build"),
    [
        ("1.30.3", 30, 3, Build.RELEASE),
        ("v1.30.3", 30, 3, Build.RELEASE),
        ("1.31.0-dev", 31, 0, Build.DEVELOPMENT),
        ("1.32-alpha.3f2a9c77d1", 32, None, Build.DEVELOPMENT),
        ("1.31.0-rc.0", 31, 0, Build.PRERELEASE),
        ("1.31.0-beta.2", 31, 0, Build.PRERELEASE),
        ("1.20.8-asm.33", 20, 8, Build.VENDOR),
        ("1.24.3-tetrate0", 24, 3, Build.VENDOR),
        ("1.27.1-solo-fips", 27, 1, Build.VENDOR),
    ],
)
def test_versions_are_read(text: str, minor: int, patch: int | None, build: Build) -> None:
    """Releases, pre-releases, development builds and vendors' builds are told apart by their suffix."""
    found = version(text)
    assert found is not None
    assert (found.minor, found.patch, found.build) == (minor, patch, build)


@pytest.mark.parametrize("text", ["", "latest", "1", "1.x", "sha256", "1.30.3.4", "1.30.99999999999", "main-2026"])
def test_what_is_no_version(text: str) -> None:
    """A tag that is no version is none."""
    assert version(text) is None


# --- the line ----------------------------------------------------------------------------------------------------------


def test_a_supported_version_passes() -> None:
    """The newest known patch of a supported minor version; the evidence names the table's date and never says newest."""
    judgement = judged("1.30.3")
    assert judgement.status is Status.PASSED
    assert judgement.summary == "Istio 1.30.3 is supported (table of 2026-08-22)"
    (evidence,) = judgement.evidence
    assert "2026-08-22" in evidence.source
    assert evidence.data[0]["supported until"] == "at least 2026-12-02"


def test_an_ended_version_fails() -> None:
    """Support of 1.28 ended on 29 June 2026, known by the rule, and that of 1.20 long before."""
    for text, day in (("1.28.10", "2026-06-29"), ("1.20.8", "2024-06-25")):
        (finding,) = [item for item in judged(text).findings if item.level is Level.ERROR]
        assert (finding.code, str(finding.object)) == ("MR125-END-OF-SUPPORT", "istio-system/Deployment/istiod")
        assert day in finding.found


def test_the_last_day_is_supported() -> None:
    """Support ends with its last day, and the day after it has ended."""
    last = date(2026, 6, 29)
    assert codes(judged("1.28.10", last)) == ["ENDS-SOON"]
    assert codes(judged("1.28.10", last + timedelta(days=1))) == ["END-OF-SUPPORT"]


def test_a_version_older_than_the_table_fails() -> None:
    """What is older than the oldest row has ended with it."""
    judgement = judged("1.17.2", kubernetes="v1.26.3")
    assert judgement.status is Status.FAILED
    assert "ended before 2024-06-25" in judgement.reason


@pytest.mark.parametrize(("days", "status"), [(61, Status.PASSED), (60, Status.WARNED), (0, Status.WARNED)])
def test_a_near_end_warns(days: int, status: Status) -> None:
    """60 days before the end there is a warning."""
    assert judged("1.28.10", date(2026, 6, 29) - timedelta(days=days)).status is status


def test_an_end_that_the_table_cannot_know_is_not_verified() -> None:
    """1.29 ends after 1.31, which was not out: until 3 October 2026 it is supported for certain, and then nobody here knows."""
    assert judged("1.29.6", date(2026, 10, 3)).status is Status.PASSED
    later = judged("1.29.6", date(2026, 10, 4))
    assert later.status is Status.NOT_VERIFIED
    assert "cannot be told" in later.reason
    assert "1.31" in later.reason
    assert "2026-08-22" in later.reason


def test_patches_behind_warn() -> None:
    """Two patches behind the newest known one pass, three warn."""
    assert judged("1.29.4").status is Status.PASSED
    (finding,) = judged("1.29.3").findings
    assert finding.code == "MR125-OLD-PATCH"
    assert "1.29.6, the newest that was known on 2026-08-22" in finding.found


@pytest.mark.parametrize("text", ["1.31.0-dev", "1.31.0-rc.0", "1.32-alpha.3f2a9c77d1"])
def test_builds_that_are_no_releases_warn(text: str) -> None:
    """A development build is said plainly, once, and not also called unknown."""
    (finding,) = judged(text).findings
    assert (finding.code, finding.level) == ("MR125-DEVELOPMENT", Level.WARNING)


def test_a_development_build_of_an_ended_version_fails() -> None:
    """The suffix does not hide the end of support."""
    assert codes(judged("1.27.0-dev", kubernetes="v1.33.1")) == ["DEVELOPMENT", "END-OF-SUPPORT"]


def test_a_newer_minor_version_warns() -> None:
    """What came out after the table was made is not known to it."""
    judgement = judged("1.31.1")
    assert codes(judgement) == ["UNKNOWN-MINOR"]
    assert judgement.status is Status.WARNED


def test_a_vendors_build_is_not_verified() -> None:
    """Its support follows another calendar, even where Istio's has ended."""
    judgement = judged("1.20.8-asm.33")
    assert judgement.status is Status.NOT_VERIFIED
    assert judgement.findings == ()
    assert "vendor's calendar" in judgement.reason


@pytest.mark.parametrize(
    ("day", "status"), [(TABLE_DATE + timedelta(days=100), Status.PASSED), (TABLE_DATE + timedelta(days=121), Status.WARNED)]
)
def test_an_old_table_warns(day: date, status: Status) -> None:
    """Until 120 days the table stands; then a warning tells its age."""
    judgement = judged("1.30.3", min(day, date(2026, 12, 2)) if status is Status.PASSED else day)
    assert judgement.status is (Status.PASSED if status is Status.PASSED else Status.NOT_VERIFIED)
    assert ("OLD-TABLE" in codes(judgement)) is (status is Status.WARNED)


@pytest.mark.parametrize(
    ("kubernetes", "found"), [("v1.34.4", []), ("v1.36.1+k3s1", ["KUBERNETES"]), ("v1.30.2-eks-1", ["KUBERNETES"]), ("", [])]
)
def test_a_kubernetes_outside_of_the_range_warns(kubernetes: str, found: list[str]) -> None:
    """1.29 supports Kubernetes 1.31 to 1.35; a version that is not known says nothing."""
    assert codes(judged("1.29.6", kubernetes=kubernetes)) == found


def test_every_revision_in_use_is_judged() -> None:
    """A namespace that still follows an old revision keeps the line from passing; an unused one is not this line's matter."""
    old = whole.istiod("istiod-1-27", revision="1-27", version="1.27.9")
    spaces = (make.namespace(make.ISTIO, labels={}), make.namespace(), make.namespace("team-b", labels={"istio.io/rev": "1-27"}))
    parts = (whole.istiod(), old, make.deployment())
    used = supported_versions(whole.mesh(deployments=parts, namespaces=spaces), today=TODAY)
    assert {str(finding.object) for finding in used.findings} == {"istio-system/Deployment/istiod-1-27"}
    assert used.status is Status.FAILED
    unused = supported_versions(whole.mesh(deployments=parts), today=TODAY)
    assert unused.status is Status.PASSED


def test_a_managed_control_plane_is_judged_by_its_injector() -> None:
    """Where istiod lies outside of the cluster, the version that it gives to proxies counts."""
    plane = ControlPlane(namespace=make.ISTIO, revision="default", url="https://istiod.example.com/inject")
    fields: dict[str, Any] = {"deployments": (make.deployment(),), "control_planes": (plane,), "control_plane": plane}
    judgement = supported_versions(whole.mesh(istio_version="1.27.9", **fields), today=TODAY)
    assert judgement.status is Status.FAILED
    assert supported_versions(whole.mesh(istio_version="", **fields), today=TODAY).status is Status.NOT_VERIFIED


@pytest.mark.parametrize("text", ["latest", ""])
def test_a_tag_that_is_no_version_is_not_verified(text: str) -> None:
    """Neither ``latest`` nor a digest tells a version."""
    image = f"docker.io/istio/pilot:{text}" if text else "docker.io/istio/pilot@sha256:0123"
    snapshot = whole.mesh(deployments=(whole.istiod(image=image), make.deployment()))
    judgement = supported_versions(snapshot, today=TODAY)
    assert judgement.status is Status.NOT_VERIFIED
    assert "istio-system/Deployment/istiod is not known" in judgement.reason


def test_today_is_the_day_of_the_snapshot() -> None:
    """Without an argument the cluster's clock decides, and without a clock nothing does."""
    assert supported_versions(running("1.30.3")).evidence[0].data[0]["as of"] == "2026-09-01"
    assert supported_versions(whole.mesh(taken="yesterday")).status is Status.NOT_VERIFIED


def test_refused_lists_leave_it_open() -> None:
    """Without the right to list Deployments no istiod can be seen."""
    snapshot = whole.mesh(deployments=(), more_pods=(), refusals=(make.refusal("deployments", namespace=make.ISTIO),))
    assert supported_versions(snapshot, today=TODAY).status is Status.NOT_VERIFIED
