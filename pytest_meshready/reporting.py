"""From reports of tests to the verdict: what the owner of a run hears, counts, writes and prints.

Everything here happens in one process, the controller or the only one: `pytest_terminal_summary` also runs in xdist's
workers (style.md 4.1), which therefore get a `Messenger` instead of an `Owner`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from pytest_meshready import rollout, sources
from pytest_meshready.collection import ITEM_MARK, Collection, line_ids
from pytest_meshready.interrupts import Interrupts
from pytest_meshready.measuring import Measuring
from pytest_meshready.probes.guests import Left
from pytest_meshready.probing import Probing
from pytest_meshready.report.facts import RunFacts
from pytest_meshready.results import CheckRecord, Finding, Part, Status
from pytest_meshready.run import WORKER_KEY, Run
from pytest_meshready.settings import Settings

if TYPE_CHECKING:
    from pytest_meshready.cluster.snapshot import Snapshot
    from pytest_meshready.report.model import Readiness

#: What is said where paths left the checklist out.
LEFT_OUT = "checklist not collected, because paths were given; add --mesh-checklist to run it beside them"

#: Where workers write which node decides which lines, for the report of a worker that is lost in the middle of one.
_LINES_FILE = "lines.json"

#: Category, letter and word of statuses that pytest has no word for; categories appear in pytest's last line.
_WORDS: Mapping[Status, tuple[str, str, str | tuple[str, Mapping[str, bool]]]] = {
    Status.NOT_VERIFIED: ("not verified", "?", ("NOT VERIFIED", {"yellow": True})),
    Status.TO_ATTEST: ("to attest", "a", ("TO ATTEST", {"yellow": True})),
    Status.NOT_DUE: ("not due", "-", ("NOT DUE", {"light": True})),
    Status.NOT_APPLICABLE: ("not applicable", "n", ("NOT APPLICABLE", {"light": True})),
    Status.WARNED: ("passed", "w", ("WARNED", {"yellow": True})),
    Status.WAIVED: ("passed", "v", ("WAIVED", {"yellow": True})),
}


class Messenger:
    """In a worker: tells the controller what only workers know, because only they collect."""

    def __init__(self, run: Run, collection: Collection) -> None:
        self._run = run
        self._collection = collection

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Write down which test decides which lines; all workers collect the same, so the last one to write may win."""
        lines = {item.nodeid: line_ids(item) for item in session.items if line_ids(item)}
        worker = session.config.workerinput["workerid"]  # type: ignore[attr-defined]
        partial = self._run.folder / f"{_LINES_FILE}.{worker}"
        partial.write_text(json.dumps(lines), encoding="utf-8")
        partial.replace(self._run.folder / _LINES_FILE)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Send the notes home: the controller prints them, as it sees no collection of its own."""
        session.config.workeroutput[WORKER_KEY] = {"replaced": self._collection.replaced}  # type: ignore[attr-defined]


class Owner:
    """In the controller, or the only process: takes the snapshot first, listens, and speaks last."""

    def __init__(self, run: Run, collection: Collection) -> None:
        self._run = run
        self._collection = collection
        self._started = datetime.now(UTC)
        self._records: list[CheckRecord] = []
        self._team = {"passed": 0, "failed": 0}
        self._notes: set[str] = set()
        self._readiness: Readiness | None = None
        self._written: tuple[str, ...] = ()
        self._problem = ""
        self._collect_only = False
        self._looked = False
        self._measuring: Measuring | None = None
        self._probing: Probing | None = None
        self._left: Left | None = None
        self._interrupts = Interrupts()

    # --- before ---

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Look at the cluster before anything is printed or a worker is started; ``--collect-only`` looks at nothing."""
        self._collect_only = bool(session.config.option.collectonly)
        if self._collect_only:
            return
        snapshot = self._run.snapshot()
        self._looked = True
        if self._run.measures:
            self._look_further(snapshot)
        if _has_workers(session.config):
            sources.share(snapshot, self._run.folder)

    def _look_further(self, snapshot: Snapshot) -> None:
        """Ask Prometheus, and send probes where this run may; both in the background, while the static checks run."""
        run = self._run
        measuring = self._measuring = Measuring(run.cluster(), snapshot, run.settings.prometheus, run.folder)
        measuring.start(wanted=run.checklist and bool(run.lines_with(Part.METRICS)))
        if run.looks_live:
            self._interrupts.install()
            lines = frozenset(run.lines_with(Part.LIVE)) if run.checklist else frozenset[str]()
            self._probing = Probing(run.cluster(), run.id, run.settings, snapshot, run.folder, measuring=measuring, lines=lines)
            self._probing.start(wanted=bool(lines))

    def pytest_report_header(self) -> list[str]:
        """Which cluster, which namespace, which phase and who decided it; then what of the checklist runs."""
        if self._collect_only:
            return [f"meshready: namespace {self._run.settings.namespace}; --collect-only looks at no cluster"]
        from pytest_meshready.report.terminal import header

        lines = header(self._facts())
        if not self._run.checklist:
            lines.append(f"meshready: {LEFT_OUT}")
        return lines

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:  # noqa: ANN401 - xdist's WorkerController
        """Tell a worker, also one that replaces a lost one, what the controller decided."""
        node.workerinput[WORKER_KEY] = self._run.for_worker(decided=not self._collect_only)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object) -> None:  # noqa: ANN401, ARG002 - xdist's signature
        """Take what a worker sent home; a lost one sends nothing."""
        self._notes |= set(getattr(node, "workeroutput", {}).get(WORKER_KEY, {}).get("replaced", ()))

    # --- while it runs ---

    @pytest.hookimpl(tryfirst=True)
    def pytest_report_teststatus(self, report: pytest.TestReport | pytest.CollectReport) -> tuple[str, str, Any] | None:
        """Statuses that are neither passed, failed nor skipped get words of their own."""
        mesh = getattr(report, "mesh", None)
        if mesh is None or report.failed:
            return None
        return _WORDS.get(Status(mesh["status"]))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep what a check sent home; count the team's own tests; notice a worker that was lost in the middle of a check."""
        mesh = getattr(report, "mesh", None)
        if mesh is not None:
            self._records.append(msgspec.convert(mesh["record"], CheckRecord))
            return
        lost = report.when not in ("setup", "call", "teardown")
        if lost and (items := self._lines_of(report.nodeid)):
            cause = "the worker that ran it was lost (see the failure of the same name)"
            self._records.append(CheckRecord(nodeid=report.nodeid, items=items, cause=cause))
        elif report.failed and not _decides(report):
            self._team["failed"] += 1
        elif report.when == "call" and report.passed and not _decides(report):
            self._team["passed"] += 1

    def _lines_of(self, nodeid: str) -> tuple[str, ...]:
        path = self._run.folder / _LINES_FILE
        return tuple(json.loads(path.read_text(encoding="utf-8")).get(nodeid, ())) if path.exists() else ()

    # --- after ---

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Decide every line, the verdict and the exit code; write the files."""
        self.clear_up()
        if self._collect_only or not self._looked or int(exitstatus) == pytest.ExitCode.USAGE_ERROR:
            return
        if not self._run.checklist and not self._records:
            return  # paths were given, and none of their tests decides a line: this is the team's run, with pytest's own outcome
        from pytest_meshready.report.build import build

        facts = self._facts(pytest_exit=int(exitstatus), complete=self._complete(session, int(exitstatus)))
        self._readiness = build(facts, tuple(self._run.lines.values()), self._run.sections, self._records)
        session.exitstatus = self._readiness.run.exit_code
        if self._probing is not None and self._probing.held:
            self._problem = self._probing.held
            session.exitstatus = pytest.ExitCode.USAGE_ERROR
        if self._run.settings.report is not None:
            from pytest_meshready.report import files

            try:
                self._written = tuple(str(path) for path in files.write(self._readiness, self._run.settings.report))
            except files.ReportError as error:
                self._problem = f"--mesh-report={self._run.settings.report}: {error}"
                session.exitstatus = pytest.ExitCode.USAGE_ERROR

    def pytest_unconfigure(self) -> None:
        """What ``pytest_sessionfinish`` could not do after an internal error is done here; twice does no harm."""
        self.clear_up()
        self._interrupts.restore()

    def clear_up(self) -> None:
        """Remove everything of this run from the cluster, and look what is left."""
        if self._measuring is not None:
            self._measuring.stop()
        if self._probing is not None:
            self._left = self._probing.finish()

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the scoreboard, what needs attention, and the verdict as the last word."""
        for note in sorted(self._notes):
            terminalreporter.write_line(f"meshready: {note}")
        if self._readiness is None:
            if self._looked and not self._run.checklist:
                terminalreporter.write_line(f"meshready: {LEFT_OUT}")
            return
        from pytest_meshready.report import terminal

        terminalreporter.section("Istio production readiness", sep="=", bold=True)
        width = terminalreporter._tw.fullwidth  # noqa: SLF001 - pytest gives no other way to ask how wide the terminal is
        plain = not _can_encode(terminalreporter)
        rows = terminal.render(self._readiness, width=width, verbosity=terminalreporter.verbosity, unicode=not plain)
        for row in rows:
            for text, style in row:
                terminalreporter.write(text, **terminal.markup(style))
            terminalreporter.line("")
        for run in self._probing.leftovers if self._probing else ():
            namespace = self._run.settings.namespace
            terminalreporter.write_line(
                f"meshready: run {run} left something in {namespace}; remove it with: "
                f"pytest --mesh-namespace={namespace} --mesh-sweep={run}"
            )
        for path in self._written:
            terminalreporter.write_line(f"meshready: wrote {path}")
        if not self._run.checklist:
            terminalreporter.write_line(f"meshready: {LEFT_OUT}")
        if self._problem:
            terminalreporter.write_line(f"meshready: {self._problem}", red=True)

    def _selected(self) -> frozenset[str] | None:
        """The lines that the verdict is about; None for all. With paths and without the checklist: those that their tests decide."""
        if not self._run.checklist:
            return frozenset(line for record in self._records for line in record.items)
        return self._run.selected if self._run.settings.items or self._run.arguments else None

    def _left_behind(self) -> tuple[str, ...]:
        """What is still in the cluster, why, and what to type."""
        if self._left is None or not self._left.because:
            return ()
        return (*self._left.objects, f"{self._left.because}; remove it with: {self._left.command}")

    def _about_the_run(self) -> tuple[Finding, ...]:
        """A guessed phase that lies before the last one said is told; a phase that was said is remembered."""
        snapshot, choice = self._run.snapshot(), self._run.phase
        if choice.source == "guess":
            return rollout.fallen_behind(self._run.config, snapshot.cluster_uid, snapshot.namespace, choice.phase)
        rollout.remember(self._run.config, snapshot.cluster_uid, snapshot.namespace, choice.phase)
        return ()

    def _complete(self, session: pytest.Session, exitstatus: int) -> bool:
        """Whether every test ran that was meant to: not after Ctrl-C, an internal error, ``-x`` or ``--maxfail``."""
        broken = exitstatus in (pytest.ExitCode.INTERRUPTED, pytest.ExitCode.INTERNAL_ERROR)
        return not (broken or session.shouldstop or session.shouldfail)

    def _facts(self, *, pytest_exit: int = 0, complete: bool = True) -> RunFacts:
        run, snapshot, phase = self._run, self._run.snapshot(), self._run.phase
        plane = snapshot.control_plane
        return RunFacts(
            run_id=run.id,
            started=self._started,
            finished=datetime.now(UTC),
            namespace=snapshot.namespace,
            phase=phase.phase,
            phase_source=phase.source,
            phase_because=phase.because,
            plugin_version=version("pytest-meshready"),
            source="snapshot" if run.settings.snapshot else "manifests" if run.settings.manifests else "cluster",
            context=snapshot.context,
            cluster_uid=snapshot.cluster_uid,
            kubernetes_version=snapshot.kubernetes_version,
            istio_version=snapshot.istio_version,
            istio_revision=plane.revision if plane else "",
            complete=complete,
            read_only=run.settings.read_only,
            go_live=run.settings.go_live,
            selection=run.settings.items,
            selected=self._selected(),
            unselected_because="not selected by --mesh-items" if run.checklist else "the checklist was left out, because paths were given",
            catalogue_severities=run.catalogue_severities,
            waivers=run.settings.waivers,
            refused=run.refused(),
            built=run.built,
            left_behind=self._left_behind(),
            findings=self._about_the_run(),
            command=_command(run.settings, snapshot.namespace),
            team_passed=self._team["passed"],
            team_failed=self._team["failed"],
            pytest_exit=pytest_exit,
        )


def _command(settings: Settings, namespace: str) -> str:
    """The command that repeats this run, with what the user typed that another run needs too."""
    words = ["pytest", f"--mesh-snapshot={settings.snapshot}" if settings.snapshot else f"--mesh-namespace={namespace}"]
    words += [f"--mesh-manifests={_shown(settings.manifests)}"] if settings.manifests else []
    words += [f"--mesh-context={settings.context}"] if settings.context else []
    words += [f"--mesh-phase={settings.phase}"] if settings.phase and settings.phase_source == "option" else []
    words += ["--mesh-read-only"] if settings.read_only else []
    return " ".join(words)


def _shown(path: str) -> str:
    """A path as short as it can be typed here."""
    return os.path.relpath(path) if Path(path).is_relative_to(Path.cwd()) else path


def _decides(report: pytest.TestReport) -> bool:
    """Whether the test decides lines; its failures are counted there."""
    return any(name == ITEM_MARK for name, _ in report.user_properties)


def _has_workers(config: pytest.Config) -> bool:
    return bool(getattr(config.option, "tx", None) or getattr(config.option, "numprocesses", None))


def _can_encode(terminalreporter: pytest.TerminalReporter) -> bool:
    """Whether the terminal's encoding has the symbols of the report; CI logs and pipes sometimes have ASCII alone."""
    encoding = getattr(terminalreporter._tw._file, "encoding", None) or "ascii"  # noqa: SLF001 - as above
    try:
        "\u2713\u2717\u2500".encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True
