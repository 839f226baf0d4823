"""Benchmarks run only when they are asked for: time and memory belong into no test (performance.md 7)."""

from __future__ import annotations

import pytest


def pytest_ignore_collect(collection_path: object, config: pytest.Config) -> bool | None:
    """Leave tests/benchmarks out unless an argument names it."""
    asked = any("benchmarks" in str(arg) for arg in config.invocation_params.args)
    return True if str(collection_path).endswith("benchmarks") and not asked else None
