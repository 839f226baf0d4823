"""Spans of time as Istio's and the Gateway API's objects write them: ``5s``, ``1.5s``, ``1500ms``, ``1m30s``."""

from __future__ import annotations

import re

_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(h|ms|m|us|µs|ns|s)")


def seconds(text: object) -> float | None:
    """The seconds of a duration; None of nothing, and of what is no duration."""
    if not isinstance(text, str) or not text:
        return None
    if text == "0":
        return 0.0
    parts = list(_PART.finditer(text))
    if not parts or "".join(part.group(0) for part in parts) != text:
        return None
    return sum(float(part.group(1)) * _UNITS[part.group(2)] for part in parts)


def shown(value: float) -> str:
    """Seconds for a sentence: ``1.5 s``, ``0.25 s``, ``30 s``."""
    return f"{round(value, 3):g} s"
