"""The JSON Schema of readiness.json: made from the model, published as a file in the package.

``python -m pytest_meshready.report.schema`` prints it; a test proves that file and model agree.
"""

from __future__ import annotations

import json
import sys
from importlib import resources
from typing import Any

import msgspec

from pytest_meshready.report.model import Readiness

FILE = "readiness.schema.json"
DIALECT = "https://json-schema.org/draft/2020-12/schema"


def from_model() -> dict[str, Any]:
    """The schema as the model gives it: what is there is checked strictly, further fields are allowed."""
    _, components = msgspec.json.schema_components([Readiness], ref_template="#/$defs/{name}")
    components = {name: _open(component) for name, component in sorted(components.items())}
    root = components.pop("Readiness")
    title = {"title": "readiness.json, schema 1", "description": root.pop("description", "")}
    root.pop("title", None)
    schema: dict[str, Any] = json.loads(json.dumps({"$schema": DIALECT, **title, **root, "$defs": components}))
    return schema


def published() -> dict[str, Any]:
    """The schema as the package publishes it."""
    text = resources.files(__package__ or "pytest_meshready.report").joinpath(FILE).read_text(encoding="utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema


def _open(component: dict[str, Any]) -> dict[str, Any]:
    """Say of every object that later versions of schema 1 may add fields."""
    if component.get("type") == "object" and "properties" in component:
        return {**component, "additionalProperties": True}
    return component


if __name__ == "__main__":
    sys.stdout.write(json.dumps(from_model(), indent=2, ensure_ascii=False) + "\n")
