"""What the user said, from the command line and from ``meshready.toml``, checked once and then frozen.

Everything wrong is answered with one sentence that names the option or the key, what was found, what is wanted, and what
to type next. Nothing heavy is imported here: no client library, no pytest.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Literal

from pytest_meshready import configuration, versionsfile
from pytest_meshready.checklist.lines import Line, Phase
from pytest_meshready.configuration import Backend, Configuration, Dependency, MtlsException, Risk, RolloutEntry
from pytest_meshready.istio.releases import PACKAGED, Table
from pytest_meshready.report.waivers import Waiver
from pytest_meshready.results import Severity
from pytest_meshready.tables import SettingsError, choices
from pytest_meshready.waiting import Deadlines

__all__ = ["Deadlines", "Dependency", "MtlsException", "Settings", "SettingsError", "load", "today"]

#: A namespace is a DNS label (RFC 1123), as the API server demands.
_DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")

#: The id of a run, as `pytest_meshready.run` makes it.
_RUN_ID = re.compile(r"[0-9a-z]{1,40}")

#: The image of the probe pods: any with a python3 of version 3.8 or later.
PROBE_IMAGE = "python:3-alpine"

#: A revision is the value of the label ``istio.io/rev``.
_LABEL_VALUE = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")

#: What a saved snapshot already decides: asking for it beside ``--mesh-snapshot`` would silently do nothing.
_NEED_A_CLUSTER = ("mesh_kubeconfig", "mesh_context", "mesh_istio_namespace", "mesh_revision", "mesh_save_snapshot")

#: What makes no sense beside ``--mesh-manifests``, which looks at no cluster.
_NOT_WITH_MANIFESTS = ("mesh_snapshot", "mesh_kubeconfig", "mesh_context", "mesh_plan", "mesh_rbac", "mesh_sweep")

PhaseSource = Literal["option", "config"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of one run. Options win over the file.

    Attributes:
        namespace: the namespace to accept; empty where a saved snapshot names it.
        kubeconfig: the kubeconfig to use; None for kubectl's own choice.
        context: the context of it; None for its current one.
        istio_namespace: the namespace of the control plane; None to look for it.
        revision: the revision of the control plane; None to look for it.
        phase: the phase of the rollout; None to guess it.
        phase_source: who decided the phase; None if nobody did.
        items: which lines are selected, as given (``4.2``, ``7``); empty for all.
        checklist: whether the checklist runs beside explicit paths.
        snapshot: a saved snapshot to replay instead of reading a cluster.
        manifests: a folder or a file of manifests to judge instead of a cluster; ``-`` for standard input.
        save_snapshot: where to save what was seen.
        read_only: whether nothing may be created or executed in the cluster.
        plan: whether only to show what would be done.
        rbac: where to write the rights of this selection; ``-`` for standard output.
        probe_image: the image of the probe pods.
        probe_namespace: a second namespace for a probe outside the mesh; None for none.
        keep: whether what the run created stays in the cluster.
        sweep: remove what runs that are over left behind: of all (empty) or of the run of this id; None to run the checklist.
        go_live: whether this is the final approval.
        report: the folder for the report's files.
        releases: what is known of Istio's releases: the package's table, with the rows of ``--mesh-versions-file``.
        config_name: the file that was read, as a person calls it; empty if there is none.
        contexts: patterns of contexts that are allowed; empty for any.
        drill_contexts: patterns of contexts in which drills are allowed; empty for none.
        namespaces: the namespaces that are meant to be in the mesh; None if the team declared none.
        severities: the team's severities by the id of their line.
        waivers: faults that the team accepts.
        custom_lines: the team's own lines.
        deadlines: the bounds of waiting.
        mtls_exceptions: ports that need not be STRICT.
        sidecar_exceptions: workloads that need no proxy, with the reason.
        probe_service_accounts: service accounts that probe pods may borrow.
        gateway_namespaces: further namespaces in which gateways run; they are read as the run's own is.
        gateway_secrets: the Secrets of gateways whose public facts may be read, as ``NAMESPACE/NAME``.
        dependencies: what the namespace calls outside of the cluster; None if the team declared nothing.
        external_rate_limit: where requests are limited before they reach the cluster, in the team's words; empty if nowhere.
        risks: how the team rates the risk of its namespaces.
        rollout: the log of namespaces that joined the mesh; None if the team keeps none here.
        prometheus: where the team's own Prometheus answers; by default it is found in the mesh.
        tracing: the same of its tracing backend.
        paths: the path that is asked for, by the name of a Service or a workload; by default that of its readiness probe.
        entry_path: the path of requests that are traced from the gateway on; by default one that its routes lead here.
    """

    namespace: str = ""
    kubeconfig: Path | None = None
    context: str | None = None
    istio_namespace: str | None = None
    revision: str | None = None
    phase: Phase | None = None
    phase_source: PhaseSource | None = None
    items: tuple[str, ...] = ()
    checklist: bool = False
    snapshot: Path | None = None
    manifests: str | None = None
    save_snapshot: Path | None = None
    read_only: bool = False
    plan: bool = False
    rbac: str | None = None
    probe_image: str = PROBE_IMAGE
    probe_namespace: str | None = None
    keep: bool = False
    sweep: str | None = None
    go_live: bool = False
    report: Path | None = None
    releases: Table = PACKAGED
    config_name: str = ""
    contexts: tuple[str, ...] = ()
    drill_contexts: tuple[str, ...] = ()
    namespaces: tuple[str, ...] | None = None
    severities: Mapping[str, Severity] = field(default_factory=configuration.nothing)
    waivers: tuple[Waiver, ...] = ()
    custom_lines: tuple[Line, ...] = ()
    deadlines: Deadlines = field(default_factory=Deadlines)
    mtls_exceptions: tuple[MtlsException, ...] = ()
    sidecar_exceptions: Mapping[str, str] = field(default_factory=configuration.nothing)
    probe_service_accounts: tuple[str, ...] = ()
    gateway_namespaces: tuple[str, ...] = ()
    gateway_secrets: tuple[str, ...] = ()
    dependencies: tuple[Dependency, ...] | None = None
    external_rate_limit: str = ""
    risks: Mapping[str, Risk] = field(default_factory=configuration.nothing)
    rollout: tuple[RolloutEntry, ...] | None = None
    prometheus: Backend = field(default_factory=Backend)
    tracing: Backend = field(default_factory=Backend)
    paths: Mapping[str, str] = field(default_factory=configuration.nothing)
    entry_path: str = ""


def today() -> date:
    """The day by which waivers and exceptions are judged, in UTC, so that it is the same for everybody."""
    return datetime.now(UTC).date()


def load(options: Mapping[str, object], *, rootdir: Path, invocation_dir: Path) -> Settings:
    """The settings of a run.

    Args:
        options: pytest's options by their destination (``mesh_namespace``); None and False are options not given.
        rootdir: pytest's rootdir, where ``meshready.toml`` or ``pyproject.toml`` lies.
        invocation_dir: where pytest was started; paths on the command line are relative to it.

    Raises:
        SettingsError: with one sentence, for anything that makes no sense.
    """
    given = _Options(options, invocation_dir)
    _check_combination(given)
    config = configuration.load(given.path("mesh_config"), rootdir=rootdir, shown=given.text("mesh_config"))
    phase, phase_source = _phase(given, config)
    if given.flag("mesh_go_live"):
        _check_go_live(given, phase)
    return Settings(
        namespace=_namespace(given, "mesh_namespace") or "",
        kubeconfig=given.path("mesh_kubeconfig"),
        context=given.text("mesh_context"),
        istio_namespace=_namespace(given, "mesh_istio_namespace") or config.istio_namespace,
        revision=_revision(given) or config.revision,
        phase=phase,
        phase_source=phase_source,
        items=_items(given),
        checklist=given.flag("mesh_checklist"),
        snapshot=given.path("mesh_snapshot"),
        manifests=_path_or_dash(given, "mesh_manifests"),
        save_snapshot=given.path("mesh_save_snapshot"),
        read_only=given.flag("mesh_read_only"),
        plan=given.flag("mesh_plan"),
        rbac=_path_or_dash(given, "mesh_rbac"),
        probe_image=given.text("mesh_probe_image") or PROBE_IMAGE,
        probe_namespace=_namespace(given, "mesh_probe_namespace"),
        keep=given.flag("mesh_keep"),
        sweep=_sweep(given),
        go_live=given.flag("mesh_go_live"),
        report=_report(given),
        releases=versionsfile.load(given.path("mesh_versions_file"), shown=given.text("mesh_versions_file") or "", today=today()),
        config_name=config.name,
        contexts=config.contexts,
        drill_contexts=config.drill_contexts,
        namespaces=config.namespaces,
        severities=config.severities,
        waivers=config.waivers,
        custom_lines=config.custom_lines,
        deadlines=_deadlines(given, config.deadlines),
        mtls_exceptions=config.mtls_exceptions,
        sidecar_exceptions=config.sidecar_exceptions,
        probe_service_accounts=config.probe_service_accounts,
        gateway_namespaces=config.gateway_namespaces,
        gateway_secrets=config.gateway_secrets,
        dependencies=config.dependencies,
        external_rate_limit=config.external_rate_limit,
        risks=config.risks,
        rollout=config.rollout,
        prometheus=config.prometheus,
        tracing=config.tracing,
        paths=config.paths,
        entry_path=config.entry_path,
    )


class _Options:
    """pytest's options as text, flags and paths; an empty one is refused, because it is an unset variable in a script."""

    def __init__(self, options: Mapping[str, object], invocation_dir: Path) -> None:
        self._options = options
        self._dir = invocation_dir

    @staticmethod
    def name(key: str) -> str:
        """The option as typed: ``--mesh-save-snapshot``."""
        return f"--{key.replace('_', '-')}"

    def text(self, key: str) -> str | None:
        """The text of an option; None if it was not given.

        Raises:
            SettingsError: where it was given and is empty.
        """
        value = self._options.get(key)
        if value is None:
            return None
        text = str(value).strip()
        if not text:
            raise SettingsError(f"{self.name(key)} is given without a value; give it one (an unset variable?) or leave it out")
        return text

    def flag(self, key: str) -> bool:
        """Whether a switch is on."""
        return bool(self._options.get(key))

    def path(self, key: str) -> Path | None:
        """The file of an option, with ``~`` and relative to where pytest was started; None if it was not given."""
        text = self.text(key)
        return None if text is None else Path(os.path.normpath(self._dir / Path(text).expanduser()))

    def raw(self, key: str) -> str | None:
        """The text of an option that may be given without a value; None if it was not given."""
        value = self._options.get(key)
        return None if value is None else str(value).strip()

    def given(self, key: str) -> bool:
        """Whether the option was given at all."""
        return self._options.get(key) not in (None, False)


def _check_combination(given: _Options) -> None:
    """Options that exclude each other.

    Raises:
        SettingsError: naming both.
    """
    if given.given("mesh_snapshot"):
        for key in _NEED_A_CLUSTER:
            if given.given(key):
                raise SettingsError(
                    f"{given.name(key)} and --mesh-snapshot exclude each other: a saved snapshot is replayed without a cluster; "
                    "leave one of them out"
                )
    if given.given("mesh_manifests"):
        for key in _NOT_WITH_MANIFESTS:
            if given.given(key):
                raise SettingsError(
                    f"{given.name(key)} and --mesh-manifests exclude each other: manifests are judged without a cluster; leave one out"
                )
    for key in ("mesh_plan", "mesh_rbac"):
        if given.given(key) and given.given("mesh_report"):
            raise SettingsError(f"{given.name(key)} and --mesh-report exclude each other: nothing runs, so there is nothing to report")


def _check_go_live(given: _Options, phase: Phase | None) -> None:
    """What the final approval demands.

    Raises:
        SettingsError: where the phase would be guessed or the checklist is not whole.
    """
    if phase is None:
        raise SettingsError("--mesh-go-live demands an explicit phase, but none was given; add --mesh-phase=golive")
    items = given.text("mesh_items")
    if items is not None:
        raise SettingsError(
            f"--mesh-go-live demands the whole checklist, but --mesh-items={items} leaves lines out; leave --mesh-items out"
        )


def _namespace(given: _Options, key: str) -> str | None:
    name = given.text(key)
    if name is not None and not _DNS_LABEL.fullmatch(name):
        raise SettingsError(
            f"{given.name(key)}={name} cannot be the name of a namespace: at most 63 lower-case letters, digits and dashes; "
            "see: kubectl get namespaces"
        )
    return name


def _revision(given: _Options) -> str | None:
    revision = given.text("mesh_revision")
    if revision is not None and not _LABEL_VALUE.fullmatch(revision):
        raise SettingsError(
            f"--mesh-revision={revision} cannot be a revision: at most 63 letters, digits, dashes, dots and underscores; "
            "see: kubectl get deployments -A -l app=istiod -L istio.io/rev"
        )
    return revision


def _phase(given: _Options, config: Configuration) -> tuple[Phase | None, PhaseSource | None]:
    name = given.text("mesh_phase")
    if name is None:
        return config.phase, "config" if config.phase else None
    try:
        return Phase(name), "option"
    except ValueError:
        raise SettingsError(f"--mesh-phase={name} is no phase; {choices(name, Phase)}") from None


def _items(given: _Options) -> tuple[str, ...]:
    text = given.text("mesh_items")
    if text is None:
        return ()
    items = tuple(word.strip() for word in text.split(","))
    if not all(items):
        raise SettingsError(f"--mesh-items={text} has an empty place; separate ids with single commas, such as --mesh-items=4.2,7")
    return items


def _path_or_dash(given: _Options, key: str) -> str | None:
    """The path of an option that also takes ``-`` for standard input or output."""
    text = given.text(key)
    return text if text in (None, "-") else str(given.path(key))


def _sweep(given: _Options) -> str | None:
    """What to sweep; without a value everything that is over.

    Raises:
        SettingsError: where the value cannot be the id of a run.
    """
    run = given.raw("mesh_sweep")
    if run and not _RUN_ID.fullmatch(run):
        raise SettingsError(f"--mesh-sweep={run} cannot be the id of a run: eight letters and digits, as readiness.json and labels show it")
    return run


def _report(given: _Options) -> Path | None:
    folder = given.path("mesh_report")
    if folder is not None and folder.exists() and not folder.is_dir():
        raise SettingsError(f"--mesh-report={given.text('mesh_report')} is a file; name a folder for readiness.json and its renderings")
    return folder


def _deadlines(given: _Options, deadlines: Deadlines) -> Deadlines:
    """The file's deadlines with the option's bound; no request may take longer than all of them together."""
    text = given.text("mesh_deadline")
    if text is None:
        return deadlines
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise SettingsError(f"--mesh-deadline={text} is no bound; give a positive number of seconds, such as --mesh-deadline=60")
    return Deadlines(request=min(deadlines.request, seconds), snapshot=seconds)
