"""``--mesh-plan`` and ``--mesh-rbac``: what a run would read and which rights that takes, said without touching anything.

Both follow from the same rows that the snapshot reads (`pytest_meshready.cluster.resources`), so they cannot promise less or
more than the run does.
"""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

import pytest

from pytest_meshready import probing, sources
from pytest_meshready.checklist import catalogue
from pytest_meshready.checklist.lines import Line
from pytest_meshready.checklist.shipped import shipped_tests
from pytest_meshready.cluster import analyze, permissions
from pytest_meshready.cluster.client import PAGE
from pytest_meshready.cluster.kubeconfig import ClusterError
from pytest_meshready.istio import newborn
from pytest_meshready.probes import rights as guest_rights
from pytest_meshready.results import Part
from pytest_meshready.run import read_settings, reads_for
from pytest_meshready.settings import Settings
from pytest_meshready.waiting import Deadline


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
        reads_for(lines, selected, settings),
        namespace=settings.namespace,
        istio_namespace=istio_namespace,
        root_namespace=istio_namespace,
        revision=settings.revision or "",
        gateway_namespaces=settings.gateway_namespaces,
        declared_namespaces=settings.namespaces or (),
        secrets=settings.gateway_secrets,
    )
    live = [] if settings.read_only else [line.id for line in chosen if Part.LIVE in _parts(line)]
    measured = [line.id for line in chosen if Part.METRICS in _parts(line)]
    asked = _backends(settings, traced=bool(live), measured=bool(measured))
    if settings.plan:
        guests = _guests(settings, live, "") if live else ()
        sys.stdout.write(_plan(settings, chosen, tuple(sorted({*rights, *asked, *guests})), live, measured))
    if settings.rbac:
        guests = _guests(settings, live, _version(settings)) if live else ()
        _write(settings.rbac, permissions.rbac_yaml(tuple(sorted({*rights, *asked, *guests})), namespace=settings.namespace))
    return 0


def _parts(line: Line) -> frozenset[Part]:
    return frozenset(part for test in shipped_tests().get(line.id, ()) for part in test.parts)


def _backends(settings: Settings, *, traced: bool, measured: bool) -> tuple[permissions.Right, ...]:
    """The right to reach Prometheus and the tracing backend through the API server; none where the team gives their addresses."""
    if (measured and not settings.prometheus.url) or (traced and not settings.tracing.url):
        return (permissions.Right(namespace=settings.istio_namespace or "istio-system", resource="services/proxy", verb="get"),)
    return ()


def _guests(settings: Settings, live: list[str], kubernetes_version: str) -> tuple[permissions.Right, ...]:
    """The rights that the probe pods need besides, and what hangs on them."""
    places, home = probing.namespaces(settings), settings.namespace
    introduced = probing.INTRODUCING if probing.INTRODUCED.intersection(live) else ()
    more = guest_rights.rights((home,), home=home, kinds=introduced)
    return (*guest_rights.rights(places, home=home), *more, *guest_rights.exec_rights(places, kubernetes_version))


def _version(settings: Settings) -> str:
    """The API server's version, on which the verb of exec depends (checks.md B7); empty where nobody answers: then both verbs."""
    try:
        found = sources.connect(settings).get("/version", deadline=Deadline(min(settings.deadlines.request, 5.0))).json()
    except (ClusterError, pytest.UsageError):
        return ""
    return str(found.get("gitVersion", "")) if isinstance(found, dict) else ""


def _plan(settings: Settings, lines: list[Line], rights: tuple[permissions.Right, ...], live: list[str], measured: list[str]) -> str:
    """The plan as text, 80 columns wide."""
    phase = settings.phase or "not given: it would be guessed, and the verdict could not be READY"
    decided = " ".join(line.id for line in lines if _parts(line))
    rows = [f"plan for namespace {settings.namespace}", *_row("phase", str(phase))]
    rows += _row("lines", f"{len(lines)} selected and due; with a check in this version: {decided}")
    if live:
        places = " and ".join(probing.namespaces(settings))
        rows += _row("live", f"asked over the wire: {' '.join(live)}")
        rows += _row(
            "created",
            f"in {places}, labelled meshready.io/run, owned by one ConfigMap, with a deadline, and removed at the end: the ConfigMap, "
            "one with the agent, a service account without a token, a Lease, and the probe pods (one as the namespace's own pods are, "
            f"one without a proxy, one for each of probe_service_accounts){_more(live)}",
        )
        rows += _row(
            "sent",
            "once, and nothing to anybody else: to each port of at most two pods of each workload two TLS handshakes without data, and "
            "five plaintext bytes only where the mode is STRICT (or one GET of the readiness path where plaintext is meant to be "
            "taken); to each proxy one GET of its readiness; to each port of a Service one GET of the readiness path, or a connection "
            "without a byte",
        )
    else:
        rows += [*_row("created", "nothing"), *_row("sent", "nothing")]
    if measured:
        rows += _row("measured", f"a few queries to Prometheus, for {' '.join(measured)}")
    if analyze.installed() and any(line.id == sources.ISTIOCTL for line in lines):
        rows += _row(
            "istioctl",
            f"is on the PATH, so istioctl analyze is run once, for {sources.ISTIOCTL}; only if the API server says that you may read what "
            "it reads, all Secrets of the cluster among it: that is not among the rights below",
        )
    rows += [*_row("disturbed", "nothing"), *_row("rights", f"these are used, each list in pages of {PAGE}, and no others:")]
    rows += [f"    {right}" for right in rights]
    rows += ["  The rights for exactly this, as YAML: add --mesh-rbac=-", ""]
    return "\n".join(rows)


def _more(live: list[str]) -> str:
    """What some lines take besides."""
    words = ""
    if probing.INTRODUCED.intersection(live):
        words += "; a Service that selects the first of them alone, and where the namespace denies by default an AuthorizationPolicy for it"
    if probing.STARTED.intersection(live):
        words += f"; for 4.2.2 {newborn.AT_LEAST} more pairs of such pods on one node, each gone before the next"
    return words


def _row(name: str, text: str) -> list[str]:
    return textwrap.wrap(text, 80, initial_indent=f"  {name:<10} ", subsequent_indent=" " * 13)


def _write(target: str, text: str) -> None:
    if target == "-":
        sys.stdout.write(text)
        return
    try:
        Path(target).write_text(text, encoding="utf-8")
    except OSError as error:
        raise pytest.UsageError(f"--mesh-rbac={target}: cannot be written: {error.strerror or error}") from error
    sys.stdout.write(f"meshready: wrote {target}; apply it with: kubectl apply -f {target}\n")
