"""Benchmarks run only when they are asked for: time and memory belong into no test (performance.md 7).

Properties are tried with the same examples every time, so that a run fails for what was changed and for nothing else;
``MESHREADY_EXAMPLES=1000`` looks for new ones.
"""

from __future__ import annotations

import os

import hypothesis
import pytest

hypothesis.settings.register_profile("same", derandomize=True, database=None)
if not os.environ.get("MESHREADY_EXAMPLES"):
    hypothesis.settings.load_profile("same")


def pytest_ignore_collect(collection_path: object, config: pytest.Config) -> bool | None:
    """Leave tests/benchmarks out unless an argument names it."""
    asked = any("benchmarks" in str(arg) for arg in config.invocation_params.args)
    return True if str(collection_path).endswith("benchmarks") and not asked else None
