"""Files by which the owner of a run hands what it saw to the processes that judge it: whole, or not there yet."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec

from pytest_meshready.waiting import Deadline, until

#: Seconds between two looks for a file of another process.
_LOOK = 0.1

_T = TypeVar("_T")


def write(path: Path, value: object) -> None:
    """Write it in one go; where the run has ended its folder is gone, and nobody waits any more."""
    partial = path.with_suffix(".part")
    with contextlib.suppress(FileNotFoundError):
        partial.write_bytes(msgspec.json.encode(value))
        partial.replace(path)


def read(path: Path, type_: type[_T], seconds: float, waiting: Callable[[float], None]) -> _T | None:
    """What was written; None if it was not within so many seconds.

    Args:
        path: of the file.
        type_: what it holds.
        seconds: to wait at most.
        waiting: is told how many seconds have passed already.
    """
    deadline = Deadline(seconds)

    def look() -> bool | None:
        waiting(seconds - deadline.left)
        return True if path.exists() else None

    until(look, every=_LOOK, deadline=deadline)
    return msgspec.json.decode(path.read_bytes(), type=type_) if path.exists() else None
