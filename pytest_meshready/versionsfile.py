"""``--mesh-versions-file``: a team's own rows for the table of Istio's releases, for a mesh that is newer than this package.

A TOML file; its rows stand beside the package's and replace those of the same minor version::

    date = 2027-01-15                  # the day on which its sources were read

    [[release]]
    minor = "1.31"
    out = 2026-09-01                   # the day of 1.31.0
    end = 2027-06-30                   # only where the end of its support is known; else it is computed
    kubernetes = "1.32-1.36"           # or "1.32-" where the newest is not known
    patch = 4                          # the newest

    [[change]]                         # settings that a minor version removed
    minor = "1.32"
    kind = "variable"                  # of istiod; see pytest_meshready.istio.changes.Kind
    name = "PILOT_SOMETHING"
    instead = "PILOT_SOMETHING_ELSE"   # optional, as are source and deprecated = true
"""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Iterable
from datetime import date
from pathlib import Path

import msgspec

from pytest_meshready.istio.changes import Change, Kind
from pytest_meshready.istio.releases import PACKAGED, Release, Table
from pytest_meshready.tables import SettingsError

_MINOR = re.compile(r"1\.(\d{1,3})", re.ASCII)
_PLACE = re.compile(r"(\w+)\[(\d+)\]\.?(\w*)")
_SPAN = re.compile(r"1\.(\d{1,3})\s*-\s*(?:1\.(\d{1,3}))?", re.ASCII)


class _Row(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One minor version, as the file writes it."""

    minor: str
    out: date
    patch: int
    kubernetes: str
    end: date | None = None


class _Setting(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One removed setting, as the file writes it."""

    minor: str
    kind: Kind
    name: str
    instead: str = ""
    source: str = ""
    deprecated: bool = False


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    date: date
    release: tuple[_Row, ...] = ()
    change: tuple[_Setting, ...] = ()


def load(path: Path | None, *, shown: str, today: date) -> Table:
    """The package's table, with the rows of a file where one is given; a file older than the package's table is not used.

    Args:
        path: the file; None for the package's table alone.
        shown: the file as the user typed it.
        today: the day by which a date lies in the future.

    Raises:
        SettingsError: with one sentence, where the file cannot be used.
    """
    if path is None:
        return PACKAGED
    try:
        return parse(path.read_text(encoding="utf-8"), shown, today=today)
    except OSError as error:
        raise _error(shown, f"cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise _error(shown, "is not UTF-8 text; save it as UTF-8") from error


def parse(text: str, shown: str, *, today: date) -> Table:
    """The package's table with the rows of this TOML.

    Raises:
        SettingsError: with one sentence, for the first thing that makes no sense.
    """
    try:
        file = msgspec.convert(tomllib.loads(text), _File)
    except tomllib.TOMLDecodeError as error:
        raise _error(shown, f"is not valid TOML: {error}") from error
    except msgspec.ValidationError as error:
        raise _error(shown, f"is no table of releases: {_plain(str(error))}") from error
    if file.date > today:
        raise _error(shown, f"has the date {file.date}, which is still to come; date is the day on which its sources were read")
    if not file.release and not file.change:
        raise _error(shown, "has neither a [[release]] nor a [[change]]; add the versions that the package's table lacks")
    _no_twins(shown, (row.minor for row in file.release))
    return PACKAGED.extended(
        file.date,
        {_minor(row.minor, shown): _release(row, shown, file.date) for row in file.release},
        tuple(_change(item, shown) for item in file.change),
        shown,
    )


def _release(row: _Row, shown: str, day: date) -> Release:
    span = _SPAN.fullmatch(row.kubernetes.strip())
    oldest, newest = (int(span[1]), int(span[2]) if span[2] else None) if span else (0, None)
    if span is None or (newest is not None and newest < oldest):
        raise _error(shown, f'has kubernetes = "{row.kubernetes[:40]}" for {row.minor}; write "1.32-1.36", or "1.32-" without an end')
    if row.out > day:
        raise _error(shown, f"says that {row.minor} came out on {row.out}, after the file's own date {day}; leave out what is not out yet")
    if row.end is not None and row.end <= row.out:
        raise _error(shown, f"says that {row.minor} came out on {row.out} and ended on {row.end}; the end comes after it")
    if row.patch < 0:
        raise _error(shown, f"has patch = {row.patch} for {row.minor}; it is the number of the newest patch, 0 or more")
    return Release(out=row.out, end=row.end, kubernetes=(oldest, newest), patch=row.patch)


def _change(item: _Setting, shown: str) -> Change:
    return Change(
        minor=_minor(item.minor, shown),
        kind=item.kind,
        name=item.name,
        instead=item.instead,
        source=item.source or shown,
        deprecated=item.deprecated,
    )


def _minor(text: str, shown: str) -> int:
    match = _MINOR.fullmatch(text.strip())
    if match is None:
        raise _error(shown, f'has minor = "{text[:40]}"; it must be a minor version of Istio, such as "1.31"')
    return int(match[1])


def _no_twins(shown: str, minors: Iterable[str]) -> None:
    twice = next((minor for minor, count in Counter(minor.strip() for minor in minors).items() if count > 1), None)
    if twice is not None:
        raise _error(shown, f"has two [[release]] tables for {twice}; keep one")


def _plain(text: str) -> str:
    """The sentence of msgspec, with the place as messages about ``meshready.toml`` call it: ``patch in [[release]] number 1``."""
    what, _, place = text.partition(" - at ")
    named = _PLACE.search(place)
    if named:
        key, number, inner = named.groups()
        where = f" ({f'{inner} in ' if inner else ''}[[{key}]] number {int(number) + 1})"
    else:
        where = f" ({place.strip('`$.')})" if place.strip("`$.") else ""
    choices = f"; choose one of {', '.join(Kind)}" if "enum" in what else ""
    return f"{what.replace('`', '')}{where}{choices}"


def _error(shown: str, problem: str) -> SettingsError:
    return SettingsError(f"--mesh-versions-file={shown} {problem}")
