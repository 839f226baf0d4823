"""The page in the docs that tells who finds which fault is what the tests and the recordings say."""

from __future__ import annotations

from tests.cluster import table


def test_the_page_is_what_the_tests_say() -> None:
    """Else write it anew: python -m tests.cluster.table (and ask istioctl about a new fault: python -m tests.cluster.peer NAME)."""
    assert table.PAGE.read_text(encoding="utf-8") == table.text()
