"""Durations as objects write them."""

from __future__ import annotations

import pytest

from pytest_meshready.istio.durations import seconds, shown


@pytest.mark.parametrize(
    ("text", "value"),
    [("5s", 5.0), ("1.5s", 1.5), ("1500ms", 1.5), ("1m30s", 90.0), ("1h", 3600.0), ("0s", 0.0), ("0", 0.0), ("100us", 1e-4), (".5s", 0.5)],
)
def test_durations_are_seconds(text: str, value: float) -> None:
    """Go's durations and the protobuf's, both in use."""
    assert seconds(text) == pytest.approx(value)


@pytest.mark.parametrize("text", ["", "5", "s", "5 s", "-5s", "five", None, 7, "5s5", "5sms"])
def test_anything_else_is_none(text: object) -> None:
    """What is no duration is not taken for one."""
    assert seconds(text) is None


def test_seconds_are_shown_short() -> None:
    """No zeros that say nothing."""
    assert [shown(5.0), shown(1.5), shown(0.25)] == ["5 s", "1.5 s", "0.25 s"]
