"""One run: what was asked, what was seen, and who does what under xdist.

Without xdist one process does everything. With xdist the controller owns the run (it names it, takes the snapshot, decides
the phase, makes the report) and its workers use it: they get the run's folder in ``workerinput`` and read the snapshot
from there, so that ten thousand pods are listed once (performance.md 2.3).
"""

from __future__ import annotations

import functools
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_meshready import settings as settings_module
from pytest_meshready.checklist import catalogue
from pytest_meshready.checklist.lines import Line, Phase, Section
from pytest_meshready.checklist.shipped import shipped_tests
from pytest_meshready.cluster.resources import ALWAYS
from pytest_meshready.collection import ROOT, Collection, shipped_arguments
from pytest_meshready.plugin import FINISH, OPTIONS
from pytest_meshready.report.decide import Decision, line_decision, window
from pytest_meshready.report.facts import PhaseSource
from pytest_meshready.results import CheckRecord, Judgement, Part, Severity, Status, Unknown
from pytest_meshready.settings import Settings

if TYPE_CHECKING:
    from pytest_meshready.cluster.client import Cluster
    from pytest_meshready.cluster.snapshot import Refusal, Snapshot
    from pytest_meshready.istio.wire import Observed
    from pytest_meshready.measuring import Measured
    from pytest_meshready.observing import Seen
    from pytest_meshready.probing import Probes

#: Seconds of silence before the terminal says what is being waited for, and between two such lines.
PATIENCE = 4.0

#: The HTTP status of a right that is missing.
FORBIDDEN = 403

#: The key under which xdist's workers get what the controller decided.
WORKER_KEY = "meshready"


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseChoice:
    """The phase that lines are judged by: who decided it (``option``, ``config`` or ``guess``) and, for a guess, why."""

    phase: Phase
    source: PhaseSource
    because: str = ""


class Run:
    """The state of one run in one process."""

    def __init__(self, config: pytest.Config, settings: Settings, *, checklist: bool, arguments: tuple[str, ...]) -> None:
        self.config = config
        self.settings = settings
        self.checklist = checklist
        self.arguments = arguments
        shipped = catalogue.load()
        self.sections: tuple[Section, ...] = shipped.sections
        self.catalogue_severities = {line.id: line.severity for line in shipped.lines}
        self._bundles = shipped.bundles
        self.lines: Mapping[str, Line] = {line.id: line for line in _with_settings(shipped.lines, settings)}
        self.selected = catalogue.select(tuple(self.lines.values()), settings.items)
        given: Mapping[str, Any] = getattr(config, "workerinput", {}).get(WORKER_KEY, {})
        self.is_worker = bool(given)
        self.id: str = given.get("id") or uuid.uuid4().hex[:8]
        self.folder = Path(given["folder"]) if given else Path(tempfile.mkdtemp(prefix="meshready-"))
        self._said = 0.0
        self._phase: PhaseChoice | None = None
        if given.get("phase"):
            self._phase = PhaseChoice(phase=Phase(given["phase"]), source=given["source"], because=given["because"])

    # --- what was asked ---

    def reads(self) -> frozenset[str]:
        """The kinds to read (`reads_for`)."""
        return reads_for(self.lines.values(), self.selected, self.settings)

    def not_due(self, line: str) -> str:
        """Why the line does not belong to this run's phase; empty if it does."""
        found, phase = self.lines[line], self.phase.phase
        return "" if found.due(phase) else f"{window(found)}, this run is in {phase}"

    def must_fail(self, line: str, status: Status) -> bool:
        """Under ``--mesh-go-live`` a blocker that nobody verified is a failure, so that dashboards show it."""
        unproved = status in (Status.NOT_VERIFIED, Status.TO_ATTEST)
        return self.settings.go_live and unproved and self.lines[line].severity is Severity.BLOCKER

    def decide(self, line: str, records: Sequence[CheckRecord]) -> Decision:
        """The status of a line after these records; the one place where a test and the report ask."""
        return line_decision(
            self.lines[line],
            records,
            phase=self.phase.phase,
            read_only=self.settings.read_only,
            offline=bool(self.settings.snapshot or self.settings.manifests),
            waivers=self.settings.waivers,
            today=settings_module.today(),
            built=self.built.get(line),
        )

    @functools.cached_property
    def built(self) -> dict[str, frozenset[Part]]:
        """For each line the parts that a shipped check decides; what is not there was not built yet."""
        return {
            line: frozenset(part for test in tests for part in test.parts) for line, tests in shipped_tests().items() if line in self.lines
        }

    @property
    def looks_live(self) -> bool:
        """Whether this run may put probes into a cluster at all."""
        return not self.why_not_live

    @property
    def why_not_live(self) -> str:
        """Why this run asks no wire, as a clause; empty if it may."""
        settings = self.settings
        if settings.snapshot or settings.manifests:
            return "there is no cluster in this run"
        return "this run is read-only" if settings.read_only else ""

    @property
    def measures(self) -> bool:
        """Whether there is a mesh whose Prometheus can be asked; that sends nothing to its workloads."""
        return not (self.settings.snapshot or self.settings.manifests)

    def lines_with(self, part: Part) -> tuple[str, ...]:
        """The selected lines of this phase of which a shipped check decides this part."""
        due = [line for line in self.lines.values() if line.id in self.selected and line.due(self.phase.phase)]
        return tuple(line.id for line in due if part in self.built.get(line.id, frozenset()))

    # --- what was seen ---

    @functools.cached_property
    def _cluster(self) -> Cluster:
        from pytest_meshready.sources import connect

        return connect(self.settings)

    def cluster(self) -> Cluster:
        """The API server, connected on first use."""
        return self._cluster

    @functools.cached_property
    def _snapshot(self) -> Snapshot:
        from pytest_meshready import sources

        if self.is_worker:
            return sources.shared(self.folder)
        return sources.take(self)

    def snapshot(self) -> Snapshot:
        """What was seen: read from the controller's file in a worker, taken on first use elsewhere."""
        return self._snapshot

    def refused(self) -> dict[str, tuple[Unknown, ...]]:
        """For each line the rights that were refused of those that it needs, and of those that every line needs."""
        snapshot = self.snapshot()
        refused = [refusal for refusal in snapshot.refusals if refusal.status == FORBIDDEN]
        return {line.id: tuple(_as_unknown(refusal) for refusal in refused if self._needs(line, refusal)) for line in self.lines.values()}

    def _needs(self, line: Line, refusal: Refusal) -> bool:
        if refusal.key in ALWAYS or refusal.key in line.reads:
            return True
        plural = refusal.resource.partition(".")[0]
        return any(plural in right.resources for bundle in line.rights for right in self._bundles.get(bundle, ()))

    @property
    def phase(self) -> PhaseChoice:
        """The phase; guessed from the snapshot where nobody said it."""
        if self._phase is None:
            self._phase = self._choose_phase()
        return self._phase

    def _choose_phase(self) -> PhaseChoice:
        if self.settings.phase is not None:
            return PhaseChoice(phase=self.settings.phase, source=self.settings.phase_source or "option")
        from pytest_meshready.istio.phase import guess

        phase, because = guess(self.snapshot())
        return PhaseChoice(phase=Phase(phase), source="guess", because=because)

    # --- what probes saw ---

    @functools.cached_property
    def wire(self) -> Wire:
        """What the probes of this run saw; read from the owner's file, waiting for it if need be."""
        return Wire(self)

    @functools.cached_property
    def probes(self) -> Probes:
        """The probe pods of this run, for a team's own questions."""
        from pytest_meshready import probing
        from pytest_meshready.probes.pod import Run as PodRun

        probing.want(self.folder)
        outcome = probing.outcome(self.folder, self.patience, self.waiting)
        return probing.Probes(self.cluster(), outcome, PodRun(id=self.id, namespace=self.settings.namespace))

    @property
    def patience(self) -> float:
        """Seconds to wait for the owner's probes: for the Lease, for the pods, and for the answers."""
        return 2 * self.settings.deadlines.snapshot + 60.0

    def waiting(self, seconds: float) -> None:
        """Say every few seconds that the probes are being waited for, past pytest's capture; a worker has no terminal."""
        due = self._said + PATIENCE
        terminal = self.config.pluginmanager.getplugin("terminalreporter")
        capture = self.config.pluginmanager.getplugin("capturemanager")
        if seconds < due or self.is_worker or terminal is None or capture is None:
            return
        self._said = seconds
        with capture.global_and_fixture_disabled():
            terminal.ensure_newline()
            terminal.write_line(f"meshready: waiting for the probe pods and what they see ({seconds:.0f} s)")

    # --- under xdist ---

    def for_worker(self, *, decided: bool) -> dict[str, str]:
        """What a worker must know, as the plain data that xdist demands; before a phase is ``decided`` only where the run lives."""
        place = {"id": self.id, "folder": str(self.folder)}
        if not decided:
            return place
        return {
            **place,
            "phase": self.phase.phase.value,
            "source": self.phase.source,
            "because": self.phase.because,
        }

    def finish(self) -> None:
        """Remove the run's folder; the owner's business alone."""
        if not self.is_worker:
            shutil.rmtree(self.folder, ignore_errors=True)


class Wire:
    """The live half of the evidence, for checks: ``mesh_check(static=..., live=mesh_wire.judge(rule))``.

    Every way to judge gives None where this run asks no wire (read-only, a saved snapshot).
    """

    def __init__(self, run: Run) -> None:
        self._run = run

    def judge(self, rule: Callable[..., Judgement], *args: object) -> Judgement | None:
        """What a rule says of what the probes saw of every port; what they could not see is added to what it found unknown."""
        if not self._run.looks_live:
            return None
        return self._troubled(rule(self._observed, *args))

    def judge_pods(self, rule: Callable[..., Judgement], **words: object) -> Judgement | None:
        """What a rule says of a pod made now: ``rule(snapshot, meshed, plain, **words)``, both as the API server has them."""
        if not self._run.looks_live:
            return None
        pods = self.seen.pods
        if "inside" not in pods:
            return Judgement(unknown=(Unknown(reason=self.seen.trouble or "no probe pod could be made"),))
        plain = pods["outside"].manifest if "outside" in pods else None
        return rule(self._run.snapshot(), pods["inside"].manifest, plain, **words)

    def judge_traces(self, rule: Callable[..., Judgement], **words: object) -> Judgement | None:
        """What a rule says of the requests that were to be traced: ``rule(snapshot, sent, **words)``."""
        if not self._run.looks_live:
            return None
        traced = self.seen.traced
        if not traced.sent:
            reason = self.seen.trouble or "no request could be sent through an entry of the namespace"
            return Judgement(unknown=traced.unknown or (Unknown(reason=reason),))
        return rule(self._run.snapshot(), traced.sent, **words)

    def judge_propagation(self, rule: Callable[..., Judgement]) -> Judgement | None:
        """As `judge_traces`, with what else was seen meanwhile: traces that began in the middle of ours, and counted calls."""
        if not self._run.looks_live:
            return None
        return self.judge_traces(rule, strays=self.seen.traced.strays, calls=self.seen.traced.calls)

    def judge_metrics(self, rule: Callable[[Snapshot, Measured], Judgement]) -> Judgement | None:
        """What a rule says of what Prometheus had counted before this run sent anything; read-only runs ask it as well."""
        if not self._run.measures:
            return None
        measured = self._measured
        return Judgement(unknown=measured.unknown) if measured.unknown else rule(self._run.snapshot(), measured)

    def judge_identity(self, *, line: str, required: bool = True) -> Judgement | None:
        """What the server's proxy said of the caller, in a call from one pod of this run to another.

        Args:
            line: the beginning of the codes, ``MR711``.
            required: whether the line is not verified without it; else it can only worsen the line.
        """
        if not self._run.looks_live:
            return None
        from pytest_meshready.istio import forwarded

        seen, met = self.seen, self.seen.introduced
        if "inside" not in seen.pods or met.trouble:
            reason = seen.trouble or met.trouble or "no probe pod could be made in the mesh"
            found = Judgement(unknown=(Unknown(reason=reason),))
        else:
            found = forwarded.introduced(self._run.snapshot(), seen.pods["inside"].manifest, met.answer, line=line)
        return found if required else replace(found, unknown=())

    def judge_starts(self, rule: Callable[..., Judgement]) -> Judgement | None:
        """What a rule says of pods that were started with and without a proxy: ``rule(meshed, plain, namespace=...)``."""
        if not self._run.looks_live:
            return None
        starts = self.seen.starts
        found = rule(starts.meshed, starts.plain, namespace=self._run.settings.namespace)
        trouble = starts.trouble or self.seen.trouble
        return Judgement(unknown=(Unknown(reason=trouble),), evidence=found.evidence) if trouble else found

    @functools.cached_property
    def seen(self) -> Seen:
        """The answers as they came, and the probe pods as the API server has them."""
        from pytest_meshready import probing

        probing.want(self._run.folder)
        return probing.seen(self._run.folder, self._run.patience, self._run.waiting)

    @functools.cached_property
    def _measured(self) -> Measured:
        from pytest_meshready import measuring

        return measuring.seen(self._run.folder, self._run.patience, self._run.waiting)

    @functools.cached_property
    def _observed(self) -> Observed:
        from pytest_meshready.istio import wire
        from pytest_meshready.istio.targets import targets

        snapshot = self._run.snapshot()
        return wire.observe(snapshot, targets(snapshot, self._run.settings.paths), {answer.id: answer for answer in self.seen.answers})

    def _troubled(self, judgement: Judgement) -> Judgement:
        if not self.seen.trouble:
            return judgement
        return replace(judgement, unknown=(*judgement.unknown, Unknown(reason=self.seen.trouble)))


#: The run of this pytest process.
RUN = pytest.StashKey[Run]()


def reads_for(lines: Iterable[Line], selected: frozenset[str], settings: Settings) -> frozenset[str]:
    """The rows of `pytest_meshready.cluster.resources` that a run reads: what its selected lines of its phase need.

    A phase that has to be guessed needs what the guess looks at as well. A snapshot that is saved holds everything, so that it
    can be replayed in every phase, and by later versions that decide more lines.
    """
    from pytest_meshready.cluster.resources import RESOURCES
    from pytest_meshready.istio.phase import READS

    if settings.save_snapshot:
        return frozenset(RESOURCES)
    phase = settings.phase
    wanted = {key for line in lines if line.id in selected and (phase is None or line.due(phase)) for key in line.reads}
    return frozenset(wanted | set(ALWAYS) | (set(READS) if phase is None else set()))


def _with_settings(lines: Sequence[Line], settings: Settings) -> tuple[Line, ...]:
    """The checklist's lines with the team's severities, then the team's own lines."""
    changed = tuple(replace(line, severity=settings.severities.get(line.id, line.severity)) for line in lines)
    return (*changed, *settings.custom_lines)


def _as_unknown(refusal: Refusal) -> Unknown:
    return Unknown(reason=refusal.reason, verb=refusal.verb, resource=refusal.resource, namespace=refusal.namespace)


def read_settings(config: pytest.Config) -> Settings:
    """The settings of this pytest run.

    Raises:
        pytest.UsageError: with the sentence of what is wrong.
    """
    options = {name.lstrip("-").replace("-", "_"): config.getoption(name.lstrip("-").replace("-", "_")) for name, _ in OPTIONS}
    try:
        return settings_module.load(options, rootdir=config.rootpath, invocation_dir=config.invocation_params.dir)
    except settings_module.SettingsError as error:
        raise pytest.UsageError(str(error)) from error


def start(config: pytest.Config) -> Run:
    """Make the run and register the hooks that do its work.

    Raises:
        pytest.UsageError: where options or ``meshready.toml`` make no sense.
    """
    from pytest_meshready.checks import Recorder

    settings = read_settings(config)
    explicit = config.args_source is pytest.Config.ArgsSource.ARGS
    users, node_ids = shipped_arguments(config.args, config.invocation_params.dir) if explicit else (list(config.args), ())
    config.args[:] = users
    if settings.go_live and explicit and not settings.checklist and node_ids != (ROOT,):
        raise pytest.UsageError("--mesh-go-live demands the whole checklist, but paths were given; leave them out or add --mesh-checklist")
    try:
        run = Run(config, settings, checklist=not explicit or bool(node_ids) or settings.checklist, arguments=node_ids)
    except catalogue.CatalogueError as error:
        raise pytest.UsageError(str(error)) from error
    config.stash[RUN] = run
    config.stash[FINISH] = run.finish
    partial = run.selected if settings.items else None
    collection = Collection(wanted=run.checklist, node_ids=node_ids, items=partial, known=frozenset(run.lines))
    config.pluginmanager.register(collection, "meshready-collection")
    config.pluginmanager.register(Recorder(run), "meshready-recorder")
    if hasattr(config, "workerinput"):
        from pytest_meshready.reporting import Messenger

        config.pluginmanager.register(Messenger(run, collection), "meshready-messenger")
    else:
        from pytest_meshready.reporting import Owner

        config.pluginmanager.register(Owner(run, collection), "meshready-owner")
    return run
