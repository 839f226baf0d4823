"""The versions of istiod that run, and whether Istio supports them today: line 12.5 (checks.md 12.5 and 5).

What is known of releases is data (`pytest_meshready.istio.releases`). Today's date is an argument, by default the day of
the snapshot by the cluster's clock, so that a saved snapshot is judged as of its own day unless somebody asks otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta

from pytest_meshready.cluster.snapshot import Snapshot
from pytest_meshready.istio.components import DEFAULT, Istiod, is_managed, istiods, why_no_istiod
from pytest_meshready.istio.components import READS as COMPONENTS
from pytest_meshready.istio.dataplane import image_version
from pytest_meshready.istio.moments import moment
from pytest_meshready.istio.releases import (
    PACKAGED,
    SHELF_LIFE,
    Build,
    Table,
    Version,
    version,
)
from pytest_meshready.results import Evidence, Finding, Judgement, Level, ObjectRef, Unknown

#: What `control_planes` reads; whether istiod is managed shows in its Service.
READS = (*COMPONENTS, "services")

#: How long before the end of support there is a warning.
NOTICE = timedelta(days=60)

#: How many patches a version may lag behind the newest that the table knows.
PATCHES = 2

_CALENDAR = "https://istio.io/latest/docs/releases/supported-releases/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """The version of one istiod in use: the object that it was read from, its revision, and the tag of its image."""

    ref: ObjectRef
    text: str
    revision: str

    @property
    def version(self) -> Version | None:
        """The version; None where the tag is none."""
        return version(self.text)


def today_of(snapshot: Snapshot, today: date | None) -> date | None:
    """The day to judge by: ``today`` where it is given, else the day of the snapshot; None where neither is known."""
    taken = moment(snapshot.taken)
    return today or (taken.date() if taken else None)


def supported_versions(snapshot: Snapshot, *, today: date | None = None, table: Table = PACKAGED) -> Judgement:
    """Line 12.5: every istiod in use is of a version that Istio supports today, and at most two patches behind.

    Errors: the support of the minor version has ended. Warnings: it ends within 60 days; more than two patches behind the
    newest that the table knows; a development build or pre-release; a minor version that the table does not know; a table
    older than 120 days; a Kubernetes outside of the range of the version. A vendor's build follows its own calendar and
    stays unknown, and so does a version whose end the table cannot know.

    Args:
        snapshot: of the cluster.
        today: the day to judge by.
        table: what is known of releases.
    """
    day = today_of(snapshot, today)
    unknown = list(snapshot.unread(*READS))
    if day is None:
        return Judgement(unknown=(*unknown, Unknown(reason="the day of the snapshot is not known, so no support can be judged")))
    found = control_planes(snapshot)
    if not found:
        unknown.append(why_no_istiod(snapshot))
    findings: list[Finding] = []
    for item in found:
        parsed = item.version
        if parsed is None:
            unknown.append(_unnamed(item))
            continue
        findings += _supported(item, parsed, day, table)
        findings += _kubernetes(item, parsed, snapshot.kubernetes_version, table)
        unknown += _undecided(item, parsed, day, table)
    if found and day - table.day > SHELF_LIFE:
        findings.append(_old_table(found[0], day, table))
    return Judgement(
        summary=f"Istio {', '.join(dict.fromkeys(item.text for item in found))} is supported ({table})",
        examined=len([item for item in found if item.version]),
        findings=tuple(findings),
        unknown=tuple(dict.fromkeys(unknown)),
        evidence=(Evidence(kind="table", source=_source(table), data=_calendar(found, day, table)),),
    )


def control_planes(snapshot: Snapshot) -> list[Installed]:
    """The istiods in use, the one of the run's mesh first; of a managed one what its injector gives to proxies."""
    found = [
        Installed(ref=item.workload.ref, text=_istiod_version(item), revision=item.revision) for item in istiods(snapshot) if item.in_use
    ]
    plane = snapshot.control_plane
    if not found and snapshot.istio_version and is_managed(snapshot):
        ref = ObjectRef(kind="Namespace", name=snapshot.istio_namespace)
        found = [Installed(ref=ref, text=snapshot.istio_version, revision=(plane and plane.revision) or DEFAULT)]
    return found


def supported_until(item: Installed, day: date | None, table: Table = PACKAGED) -> str:
    """Until when a version is supported, as seen on a day: a date, ``at least`` a date, or ``not known``."""
    found = item.version
    support = table.end_of_support(found.minor) if found and found.major == 1 and found.build is not Build.VENDOR else None
    if support is None:
        return "not known"
    if support.end:
        return f"{support.end}"
    return "not known" if day is None or day > support.earliest else f"at least {support.earliest}"


def _istiod_version(istiod: Istiod) -> str:
    images = [c.image for c in istiod.workload.template.spec.containers if c.name == "discovery"]
    return next((tag for tag in map(image_version, images) if tag), "")


def _unnamed(item: Installed) -> Unknown:
    named = f"its tag {item.text!r} is no version" if item.text else "its image is named by digest"
    return Unknown(reason=f"the version of {item.ref} is not known: {named} (see: istioctl version)")


def _supported(item: Installed, found: Version, day: date, table: Table) -> Iterator[Finding]:
    """What is wrong with one version on one day."""
    if found.build is Build.VENDOR:
        return
    if found.build is not Build.RELEASE:
        yield _finding(
            item,
            "DEVELOPMENT",
            f"{found.text} is a {found.build}, not a release: Istio supports none and brings no security fix to it",
            "a release of Istio",
            "install a release of a supported minor version",
        )
    support = table.end_of_support(found.minor) if found.major == 1 else None
    ended = found.major == 1 and found.minor < table.oldest
    if ended or (support and support.end and day > support.end):
        last = support or table.end_of_support(table.oldest)
        when = f"ended {'on' if support else 'before'} {last.end}" if last and last.end else "has ended"
        yield _finding(
            item,
            "END-OF-SUPPORT",
            f"support of Istio {found.line} {when}: it gets no security fixes any more",
            "a minor version that is supported",
            f"upgrade, at most one minor version at a time ({_CALENDAR})",
            level=Level.ERROR,
        )
    elif support is None:
        if found.build is Build.RELEASE:
            yield _finding(
                item,
                "UNKNOWN-MINOR",
                f"Istio {found.line} is not in the {table}, whose newest minor version is 1.{table.newest}",
                "a minor version whose support is known",
                f"look it up ({_CALENDAR}), and use a newer version of pytest-meshready, or --mesh-versions-file",
            )
    elif support.end and support.end - day <= NOTICE:
        yield _finding(
            item,
            "ENDS-SOON",
            f"support of Istio {found.line} ends on {support.end}, in {(support.end - day).days} days",
            f"more than {NOTICE.days} days of support ahead",
            f"plan the upgrade to the next minor version ({_CALENDAR})",
        )
    yield from _patch(item, found, table)


def _patch(item: Installed, found: Version, table: Table) -> Iterator[Finding]:
    release = table.releases.get(found.minor) if found.major == 1 and found.build is Build.RELEASE else None
    if release and found.patch is not None and release.patch - found.patch > PATCHES:
        yield _finding(
            item,
            "OLD-PATCH",
            f"{found.text} is {release.patch - found.patch} patches behind {found.line}.{release.patch}, the newest that was known "
            f"on {table.day}",
            f"at most {PATCHES} patches behind",
            f"upgrade to {found.line}.{release.patch} or newer",
        )


def _finding(item: Installed, word: str, found: str, wanted: str, fix: str, *, level: Level = Level.WARNING) -> Finding:
    return Finding(
        code=f"MR125-{word}", level=level, object=item.ref, found=found, wanted=wanted, fix=f"{fix}; then check: istioctl x precheck"
    )


def _undecided(item: Installed, found: Version, day: date, table: Table) -> Iterator[Unknown]:
    """Why it cannot be told whether a version is supported."""
    if found.build is Build.VENDOR:
        yield Unknown(
            reason=f"{item.ref} is {found.text}, a vendor's build: its support follows the vendor's calendar, not Istio's; look it up there"
        )
        return
    support = table.end_of_support(found.minor) if found.major == 1 else None
    if support and support.end is None and day > support.earliest:
        after = f"1.{found.minor + 2}"
        yield Unknown(
            reason=f"whether Istio {found.line} is still supported cannot be told: its support ends 6 weeks after {after} comes out, and "
            f"{after} was not out on {table.day}, the date of the table; look it up ({_CALENDAR}), and give it with --mesh-versions-file"
        )


def _kubernetes(item: Installed, found: Version, kubernetes: str, table: Table) -> Iterator[Finding]:
    """A Kubernetes that this Istio was not made for."""
    running = version(kubernetes.partition("+")[0].partition("-")[0])
    if running is None or found.major != 1 or found.build is Build.VENDOR or running.major != 1:
        return
    oldest, newest = table.kubernetes_range(found.minor)
    if running.minor < oldest or (newest is not None and running.minor > newest):
        span = f"1.{oldest} to 1.{newest}" if newest is not None else f"1.{oldest} or newer"
        yield _finding(
            item,
            "KUBERNETES",
            f"Istio {found.line} supports Kubernetes {span}, and this cluster is {running.line}",
            "a pair of versions that Istio supports",
            f"upgrade the one that lags behind ({_CALENDAR})",
        )


def _old_table(item: Installed, day: date, table: Table) -> Finding:
    whose = f"the table of releases in {table.file}" if table.file else "the table of releases in this version of pytest-meshready"
    newer = f"bring {table.file} up to date" if table.file else "use a newer version: pip install --upgrade pytest-meshready"
    return Finding(
        code="MR125-OLD-TABLE",
        level=Level.WARNING,
        object=item.ref,
        found=f"{whose} is of {table.day}, {(day - table.day).days} days old: "
        "newer releases and earlier ends of support are not known to it",
        wanted=f"a table of at most {SHELF_LIFE.days} days",
        fix=f"{newer}; or give newer rows with --mesh-versions-file=FILE",
    )


def _source(table: Table) -> str:
    unused = f"; {table.unused} is older and was not used" if table.unused else ""
    return f"{table}, {_CALENDAR}{unused}"


def _calendar(found: Iterable[Installed], day: date, table: Table) -> list[dict[str, str]]:
    rows = []
    for item in found:
        parsed = item.version
        built = parsed.build.value if parsed else "not known"
        rows.append(
            {
                "object": str(item.ref),
                "version": item.text or "not known",
                "build": built,
                "supported until": supported_until(item, day, table),
                "as of": f"{day}",
            }
        )
    return rows
