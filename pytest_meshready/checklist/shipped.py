"""Which shipped test decides which line, read from the source of the shipped modules without importing them.

``meshready explain`` must answer at once; importing the modules would import pytest and every rule.
"""

from __future__ import annotations

import ast
import functools
import importlib.resources
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pytest_meshready.results import Part

_MARK = "mesh_item"
_CHECK = "mesh_check"


@dataclass(frozen=True, slots=True, kw_only=True)
class ShippedTest:
    """A shipped test: its node id, as pytest prints and takes it, and the parts of its lines that it decides."""

    nodeid: str
    parts: tuple[Part, ...]


@functools.cache
def shipped_tests() -> Mapping[str, tuple[ShippedTest, ...]]:
    """The shipped tests by the id of the line that they decide."""
    found: dict[str, list[ShippedTest]] = {}
    folder = importlib.resources.files(__package__)
    for name in sorted(entry.name for entry in folder.iterdir()):
        if name.startswith("s") and name[1:3].isdecimal() and name.endswith(".py"):
            for line, test in _tests(f"meshready/{name}", folder.joinpath(name).read_text(encoding="utf-8")):
                found.setdefault(line, []).append(test)
    return {line: tuple(tests) for line, tests in found.items()}


def _tests(nodeid: str, source: str) -> Iterator[tuple[str, ShippedTest]]:
    for cls in ast.parse(source).body:
        if not isinstance(cls, ast.ClassDef):
            continue
        for function in cls.body:
            if isinstance(function, ast.FunctionDef):
                test = ShippedTest(nodeid=f"{nodeid}::{cls.name}::{function.name}", parts=_parts(function))
                yield from ((line, test) for line in _marked(function))


def _marked(function: ast.FunctionDef) -> list[str]:
    """The ids in the function's ``mesh_item`` marks."""
    marks = [mark for mark in function.decorator_list if isinstance(mark, ast.Call) and _name(mark) == _MARK]
    return [str(argument.value) for mark in marks for argument in mark.args if isinstance(argument, ast.Constant)]


def _parts(function: ast.FunctionDef) -> tuple[Part, ...]:
    """The keywords of its ``mesh_check(static=..., live=...)``."""
    calls = [node for node in ast.walk(function) if isinstance(node, ast.Call) and _name(node) == _CHECK]
    given = {keyword.arg for call in calls for keyword in call.keywords}
    return tuple(part for part in Part if part.value in given)


def _name(call: ast.Call) -> str:
    """The last word of what is called: ``mesh_item`` of ``pytest.mark.mesh_item(...)``."""
    function = call.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
