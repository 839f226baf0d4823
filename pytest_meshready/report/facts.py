"""What the report has to be told about a run, beside the records of its checks."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from pytest_meshready.checklist.lines import Phase
from pytest_meshready.report.waivers import Waiver
from pytest_meshready.results import Finding, Part, Severity, Unknown

PhaseSource = Literal["option", "config", "guess"]
Source = Literal["cluster", "manifests", "snapshot", "lab"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attestation:
    """A dated statement by a named person; ``expires`` is the last day on which it counts."""

    item: str
    who: str
    date: dt.date
    expires: dt.date
    link: str = ""

    def problem(self, today: dt.date) -> str:
        """Why it does not count today; empty if it does."""
        if today > self.expires:
            return f"the statement by {self.who} of {self.date} expired on {self.expires}"
        if self.date > today:
            return f"the statement by {self.who} is dated in the future ({self.date})"
        return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """The facts of one run.

    Attributes:
        run_id: names the run in labels, files and reports.
        started: UTC.
        finished: UTC; None while it runs.
        namespace: the namespace that is to be accepted.
        phase: the phase by which lines are judged.
        phase_source: who decided the phase.
        phase_because: for a guessed phase, what it was guessed from; else where it stands (``meshready.toml``).
        source: where the objects came from.
        context: the kubeconfig context; empty inside a cluster and without one.
        cluster_uid: UID of the namespace kube-system.
        kubernetes_version: of the API server; empty if it was not read.
        istio_version: of the control plane; empty if none was found.
        istio_revision: of the control plane; empty if none was found.
        plugin_version: ours.
        command: the command that repeats this run; made from namespace and phase where it is empty.
        complete: False if the run ended before all checks ran.
        read_only: whether the run was forbidden to create anything.
        go_live: whether this is the final approval.
        selection: what the user selected, as given; empty for everything.
        selected: ids of the selected lines; None for all.
        unselected_because: why the other lines were left out.
        problem: why nothing could be looked at (the API server was unreachable); the reason of all lines without records.
        catalogue_severities: severities before the team changed any.
        waivers: the team's waivers.
        attestations: statements by the id of their line; None if this run reads no statements.
        built: parts of lines for which this version has a check; a line that is not named has a static one if it reads anything.
        refused: rights that a line needs and this run does not have, by the id of the line.
        team_passed: tests of the team that decide no line and passed.
        team_failed: tests of the team that decide no line and failed.
        left_behind: objects of this run that are still in the cluster.
        findings: what is to be said of the run itself, and of no line.
        pytest_exit: pytest's own exit code.
    """

    run_id: str
    started: dt.datetime
    namespace: str
    phase: Phase
    phase_source: PhaseSource
    plugin_version: str
    finished: dt.datetime | None = None
    phase_because: str = ""
    source: Source = "cluster"
    context: str = ""
    cluster_uid: str = ""
    kubernetes_version: str = ""
    istio_version: str = ""
    istio_revision: str = ""
    command: str = ""
    complete: bool = True
    read_only: bool = False
    go_live: bool = False
    selection: tuple[str, ...] = ()
    selected: frozenset[str] | None = None
    unselected_because: str = "not selected"
    problem: str = ""
    catalogue_severities: Mapping[str, Severity] = field(default_factory=dict)
    waivers: tuple[Waiver, ...] = ()
    attestations: Mapping[str, Attestation] | None = None
    built: Mapping[str, frozenset[Part]] = field(default_factory=dict)
    refused: Mapping[str, tuple[Unknown, ...]] = field(default_factory=dict)
    team_passed: int = 0
    team_failed: int = 0
    left_behind: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    pytest_exit: int = 0

    @property
    def repeat(self) -> str:
        """The command that repeats this run."""
        phase = f" --mesh-phase={self.phase}" if self.phase_source == "option" else ""
        return self.command or f"pytest --mesh-namespace={self.namespace}{phase}"
