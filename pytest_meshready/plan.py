"""``--mesh-plan`` and ``--mesh-rbac``: what a run would read and which rights that takes, said without touching anything.

Both follow from the same rows that the snapshot reads (`pytest_meshready.cluster.resources`), so they cannot promise less or
more than the run does.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from pytest_meshready.checklist import catalogue
from pytest_meshready.checklist.lines import Line
from pytest_meshready.cluster import permissions
from pytest_meshready.run import read_settings, reads_for
from pytest_meshready.settings import Settings


def main(config: pytest.Config) -> int:
    """Answer both options; the exit code of the command.

    Raises:
        pytest.UsageError: where options make no sense or the file cannot be written.
    """
    settings = read_settings(config)
    if settings.snapshot:
        raise pytest.UsageError("--mesh-plan and --mesh-rbac are about a cluster; leave --mesh-snapshot out")
    lines = (*catalogue.load().lines, *settings.custom_lines)
    try:
        selected = catalogue.select(lines, settings.items)
    except catalogue.CatalogueError as error:
        raise pytest.UsageError(str(error)) from error
    phase = None if settings.save_snapshot else settings.phase
    chosen = [line for line in lines if line.id in selected and (phase is None or line.due(phase))]
    istio_namespace = settings.istio_namespace or "istio-system"
    rights = permissions.rights(
        reads_for(lines, selected, phase),
        namespace=settings.namespace,
        istio_namespace=istio_namespace,
        root_namespace=istio_namespace,
        revision=settings.revision or "",
        gateway_namespaces=settings.gateway_namespaces,
        secrets=settings.gateway_secrets,
    )
    if settings.plan:
        sys.stdout.write(_plan(settings, chosen, rights))
    if settings.rbac:
        _write(settings.rbac, permissions.rbac_yaml(rights, namespace=settings.namespace))
    return 0


def _plan(settings: Settings, lines: list[Line], rights: tuple[permissions.Right, ...]) -> str:
    """The plan as text, 80 columns wide."""
    phase = settings.phase or "not given: it would be guessed, and the verdict could not be READY"
    decided = [line for line in lines if line.reads]
    rows = [
        f"plan for namespace {settings.namespace}",
        f"  phase      {phase}",
        f"  lines      {len(lines)} selected and due, {len(decided)} with a check: {' '.join(line.id for line in decided)}",
        "  created    nothing",
        "  sent       nothing",
        "  disturbed  nothing",
        "  read       these, each list in pages of 500, and nothing else:",
    ]
    rows += [f"    {right}" for right in rights]
    rows += ["  The rights for exactly this, as YAML: add --mesh-rbac=-", ""]
    return "\n".join(rows)


def _write(target: str, text: str) -> None:
    if target == "-":
        sys.stdout.write(text)
        return
    try:
        Path(target).write_text(text, encoding="utf-8")
    except OSError as error:
        raise pytest.UsageError(f"--mesh-rbac={target}: cannot be written: {error.strerror or error}") from error
    sys.stdout.write(f"meshready: wrote {target}; apply it with: kubectl apply -f {target}\n")
