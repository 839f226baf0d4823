"""Istio's releases as data: when each came out, when its support ends, and which Kubernetes it supports (checks.md 5).

From istio.io's table of supported releases and the tags of the repository, read on `TABLE_DATE`. The table ages: what it
does not know is said with that date, and nothing here claims to be the newest. Istio supports a minor version until six
weeks after the one that is two minors later: EOL(N) = GA(N+2) + 6 weeks.

A team whose version of this package is older than its mesh gives rows of its own (``--mesh-versions-file``): `Table.extended`.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date, timedelta
from types import MappingProxyType

from pytest_meshready.istio.changes import CHANGES, NOTES_UP_TO, Change

#: The day on which the sources of the table were read.
TABLE_DATE = date(2026, 8, 22)

#: After this time the table may lack a minor version, or two patches.
SHELF_LIFE = timedelta(days=120)

#: How long a minor version is still supported once the one two minors later is out.
GRACE = timedelta(weeks=6)

#: No two minor versions of 2023 to 2026 came out closer together (1.21 and 1.22: 61 days).
_SHORTEST_CYCLE = timedelta(days=60)

#: ``1.31.0``, ``1.31.0-dev``, ``1.20.8-asm.33``: the number, and what follows it.
_TEXT = re.compile(r"v?(\d{1,3})\.(\d{1,3})(?:\.(\d{1,4}))?(?:[-+]([\w.+-]+))?", re.ASCII)
_PRERELEASE = re.compile(r"(alpha|beta|rc)[.\d]*")
_DEVELOPMENT = re.compile(r"dev|alpha\.[0-9a-f]{6,}|latest")


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """One minor version ``1.N``.

    Attributes:
        out: the day on which ``1.N.0`` came out.
        end: the day on which its support ended, where it has; None where `end_of_support` has to compute it.
        kubernetes: the oldest and the newest minor version of Kubernetes 1 that it supports; None where that is not known.
        patch: the newest patch that the table knows.
    """

    out: date
    end: date | None
    kubernetes: tuple[int, int | None]
    patch: int


#: Every known minor version of Istio 1.
RELEASES: Mapping[int, Release] = MappingProxyType(
    {
        20: Release(out=date(2023, 11, 14), end=date(2024, 6, 25), kubernetes=(25, 29), patch=8),
        21: Release(out=date(2024, 3, 13), end=date(2024, 9, 27), kubernetes=(26, 29), patch=6),
        22: Release(out=date(2024, 5, 13), end=date(2025, 1, 22), kubernetes=(27, 30), patch=8),
        23: Release(out=date(2024, 8, 14), end=date(2025, 4, 16), kubernetes=(27, 30), patch=6),
        24: Release(out=date(2024, 11, 7), end=date(2025, 6, 24), kubernetes=(28, 31), patch=6),
        25: Release(out=date(2025, 3, 3), end=date(2025, 9, 30), kubernetes=(29, 32), patch=5),
        26: Release(out=date(2025, 5, 8), end=date(2025, 12, 22), kubernetes=(29, 33), patch=8),
        27: Release(out=date(2025, 8, 11), end=date(2026, 3, 30), kubernetes=(29, 33), patch=9),
        28: Release(out=date(2025, 11, 5), end=None, kubernetes=(30, 34), patch=10),
        29: Release(out=date(2026, 2, 16), end=None, kubernetes=(31, 35), patch=6),
        30: Release(out=date(2026, 5, 18), end=None, kubernetes=(32, None), patch=3),
    }
)

OLDEST, NEWEST = min(RELEASES), max(RELEASES)


class Build(enum.StrEnum):
    """Who made a build, by the suffix of its version."""

    RELEASE = "release"
    PRERELEASE = "pre-release"
    """alpha, beta or release candidate"""
    DEVELOPMENT = "development build"
    """of somebody's working copy, or of a night"""
    VENDOR = "vendor's build"
    """with a calendar of its own"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """A version as a tag writes it; ``patch`` is None where it names none."""

    text: str
    major: int
    minor: int
    patch: int | None
    build: Build

    @property
    def line(self) -> str:
        """Its minor version: ``1.31``."""
        return f"{self.major}.{self.minor}"


def version(text: str) -> Version | None:
    """A version from a tag; None where it is none, such as ``latest``."""
    match = _TEXT.fullmatch(text)
    if match is None:
        return None
    major, minor, patch, suffix = match.groups()
    return Version(text=text, major=int(major), minor=int(minor), patch=int(patch) if patch else None, build=_build(suffix or ""))


def _build(suffix: str) -> Build:
    if not suffix:
        return Build.RELEASE
    if _DEVELOPMENT.fullmatch(suffix):
        return Build.DEVELOPMENT
    return Build.PRERELEASE if _PRERELEASE.fullmatch(suffix) else Build.VENDOR


@dataclass(frozen=True, slots=True, kw_only=True)
class Support:
    """Until when a minor version is supported.

    ``end`` is None where the table cannot know it, because the release that ends it was not out; support then lasts at
    least until ``earliest``, which is ``end`` otherwise.
    """

    end: date | None
    earliest: date


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """What is known of Istio's releases.

    Attributes:
        day: the day on which its sources were read.
        releases: every known minor version of Istio 1.
        changes: settings that were removed or deprecated, the oldest first.
        changes_up_to: the newest minor version whose changes are known.
        file: the team's own file that it was extended by; empty where it is the package's alone.
        unused: the team's own file where it is not used, because the package's table is newer.
    """

    day: date
    releases: Mapping[int, Release]
    changes: tuple[Change, ...] = CHANGES
    changes_up_to: int = NOTES_UP_TO
    file: str = ""
    unused: str = ""

    @property
    def oldest(self) -> int:
        """The oldest minor version that it knows."""
        return min(self.releases)

    @property
    def newest(self) -> int:
        """The newest minor version that it knows, which need not be the newest that there is."""
        return max(self.releases)

    def __str__(self) -> str:
        """``table of 2026-08-22``, and which file it is from."""
        return f"table of {self.day}{f' ({self.file})' if self.file else ''}"

    def extended(self, day: date, releases: Mapping[int, Release], changes: tuple[Change, ...], file: str) -> Table:
        """This table with the rows of a file beside its own, and instead of them; unchanged where the file is older than it is."""
        if day < self.day:
            return replace(self, unused=f"{file} of {day}")
        every = sorted((*self.changes, *changes), key=lambda change: change.minor)
        return Table(
            day=day,
            releases=MappingProxyType(dict(sorted({**self.releases, **releases}.items()))),
            changes=tuple(every),
            changes_up_to=max((self.changes_up_to, *(change.minor for change in changes))),
            file=file,
        )

    def end_of_support(self, minor: int) -> Support | None:
        """When the support of ``1.minor`` ends; None for a minor version that the table does not have."""
        release = self.releases.get(minor)
        if release is None:
            return None
        after = self.releases.get(minor + 2)
        end = release.end or (after.out + GRACE if after else None)
        if end is not None:
            return Support(end=end, earliest=end)
        missing = minor + 2 - self.newest  # how many releases after the table's newest have to come out first
        return Support(end=None, earliest=self.day + (missing - 1) * _SHORTEST_CYCLE + GRACE)

    def kubernetes_range(self, minor: int) -> tuple[int, int | None]:
        """The oldest and the newest minor version of Kubernetes 1 that Istio ``1.minor`` supports; None where not known.

        A newer Istio than the table's needs at least what the table's newest needs, and so does one in a gap of it.
        """
        known = [number for number in self.releases if number <= max(minor, self.oldest)]
        found = self.releases[max(known)].kubernetes
        return found if minor <= max(known) else (found[0], None)


#: The table of this package.
PACKAGED = Table(day=TABLE_DATE, releases=RELEASES)


def end_of_support(minor: int) -> Support | None:
    """`Table.end_of_support` of the package's table."""
    return PACKAGED.end_of_support(minor)


def kubernetes_range(minor: int) -> tuple[int, int | None]:
    """`Table.kubernetes_range` of the package's table."""
    return PACKAGED.kubernetes_range(minor)
