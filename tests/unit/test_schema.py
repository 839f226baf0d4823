"""readiness.json, its model and its published JSON Schema say the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import jsonschema
import pytest

from pytest_meshready.report import schema
from pytest_meshready.report.model import Readiness, dumps
from tests.unit.report_samples import no_sidecar, record, shop, small, waiver

REPORTS: dict[str, Callable[[], Readiness]] = {
    "shop": shop,
    "nothing ran": small,
    "one failure": lambda: small(no_sidecar()),
    "partial, guessed, lab": lambda: small(selected=frozenset({"4.2.1"}), phase_source="guess", source="lab", selection=("4.2",)),
    "broken check": lambda: small(record(cause="its set-up broke")),
    "waived": lambda: small(no_sidecar(), waivers=(waiver(),), left_behind=("pod/meshready-3f2a9c01",)),
}


def document(readiness: Readiness) -> Any:
    """As a reader gets it."""
    return json.loads(dumps(readiness))


def validate(given: Any) -> None:
    """Against the published schema, with formats."""
    jsonschema.validate(given, schema.published(), format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER)


def test_the_published_schema_is_valid() -> None:
    """Draft 2020-12."""
    assert schema.published()["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    jsonschema.Draft202012Validator.check_schema(schema.published())


def test_the_published_schema_agrees_with_the_model() -> None:
    """After a change: ``python -m pytest_meshready.report.schema > pytest_meshready/report/readiness.schema.json``."""
    assert schema.published() == schema.from_model()


@pytest.mark.parametrize("name", REPORTS)
def test_reports_validate(name: str) -> None:
    """Whatever happened in the run."""
    validate(document(REPORTS[name]()))


def test_the_document_has_the_fields_of_the_contract() -> None:
    """Exactly as DESIGN writes them; more may be there."""
    given = document(shop())
    assert set(given) >= {
        "schema_version", "verdict", "verdict_reason", "run", "sections", "items", "team_tests", "left_behind", "not_permitted"
    }  # fmt: skip
    assert set(given["run"]) >= {
        "id", "started", "finished", "namespace", "phase", "phase_source", "source", "context", "cluster_uid", "kubernetes_version",
        "istio_version", "plugin_version", "complete", "selection", "read_only", "exit_code",
    }  # fmt: skip
    assert set(given["sections"][0]) == {"id", "title", "counts"}
    failed = next(item for item in given["items"] if item["id"] == "4.2.1")
    assert set(failed) >= {
        "id", "section", "subsection", "text", "severity", "kind", "custom", "status", "reason", "seconds", "checks", "findings",
        "evidence", "attestation", "waiver", "hint",
    }  # fmt: skip
    assert set(failed["checks"][0]) == {"nodeid", "status", "reason", "seconds"}
    assert set(failed["findings"][0]) >= {"code", "fingerprint", "severity", "object", "file", "line", "found", "wanted", "fix"}
    assert set(failed["findings"][0]["object"]) == {"kind", "namespace", "name"}
    assert set(failed["evidence"][0]) == {"kind", "source", "data"}
    assert set(given["not_permitted"][0]) == {"verb", "resource", "namespace", "items"}
    assert given["schema_version"] == 1
    assert given["run"]["started"] == "2026-11-25T08:00:00Z"
    assert given["team_tests"] == {"passed": 2, "failed": 0}


def test_later_fields_are_allowed() -> None:
    """Within schema 1 fields may be added."""
    given = document(small())
    given["items"][0]["seen_before"] = True
    given["news"] = 1
    validate(given)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("schema_version",), 2),
        (("verdict",), "MAYBE"),
        (("run", "phase"), "later"),
        (("run", "exit_code"), "0"),
        (("items", 0, "status"), "skipped"),
        (("items", 0, "kind"), ["obs"]),
        (("sections", 0, "counts", "passed"), -1),
        (("run", "started"), "yesterday"),
    ],
)
def test_the_schema_is_strict_about_what_is_there(path: tuple[str | int, ...], value: object) -> None:
    """A changed field is caught."""
    given = target = document(small())
    for step in path[:-1]:
        target = target[step]
    target[path[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
        validate(given)


@pytest.mark.parametrize(("part", "field"), [("", "verdict_reason"), ("run", "complete"), ("items", "reason"), ("items", "waiver")])
def test_the_fields_of_the_contract_are_required(part: str, field: str) -> None:
    """A dropped field is caught."""
    given = document(small())
    target = given[part] if part else given
    del (target[0] if isinstance(target, list) else target)[field]
    with pytest.raises(jsonschema.ValidationError):
        validate(given)
