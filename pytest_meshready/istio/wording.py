"""How findings put many names into one sentence."""

from __future__ import annotations

from collections.abc import Iterable

_AT_MOST = 3


def shortened(words: Iterable[str]) -> str:
    """At most three words, and how many more there are."""
    every = list(words)
    more = f" and {len(every) - _AT_MOST} more" if len(every) > _AT_MOST else ""
    return ", ".join(every[:_AT_MOST]) + more
