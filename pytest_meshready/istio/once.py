"""Answers that many lines ask for are worked out once for each snapshot: fifty rules share the workloads of a namespace.

Snapshots never change, so an answer holds as long as the snapshot does.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable
from typing import Any, Concatenate, ParamSpec, TypeVar

from pytest_meshready.cluster.snapshot import Snapshot

_P = ParamSpec("_P")
_T = TypeVar("_T")

#: How many answers of one function are kept: a snapshot has few namespaces, and a process seldom more than one snapshot.
_KEPT = 8


class Same:
    """A snapshot as the key of a cache: the very object, whatever it holds."""

    __slots__ = ("snapshot",)

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot

    def __hash__(self) -> int:
        return id(self.snapshot)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and other.snapshot is self.snapshot


def once(function: Callable[Concatenate[Snapshot, _P], _T]) -> Callable[Concatenate[Snapshot, _P], _T]:
    """A function over a snapshot whose last answers are kept; further arguments must be hashable, and the answer be left alone."""

    @functools.lru_cache(maxsize=_KEPT)
    def known(key: Same, *args: Hashable, **kwargs: Hashable) -> Any:  # noqa: ANN401 - whatever the function returns
        return function(key.snapshot, *args, **kwargs)  # type: ignore[arg-type]

    @functools.wraps(function)
    def answered(snapshot: Snapshot, /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        found: _T = known(Same(snapshot), *args, **kwargs)  # type: ignore[arg-type]
        return found

    return answered
