"""Where a snapshot comes from: a live cluster, a saved file, or the file that xdist's controller wrote for its workers."""

from __future__ import annotations

import fnmatch
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_meshready.cluster import snapshot as snapshots
from pytest_meshready.cluster.snapshot import Snapshot
from pytest_meshready.interrupts import Interrupts

if TYPE_CHECKING:
    from pytest_meshready.cluster.client import Cluster
    from pytest_meshready.run import Run
    from pytest_meshready.settings import Settings

_SHARED = "snapshot.json"

#: The line beside which the messages of ``istioctl analyze`` are shown.
ISTIOCTL = "3.2.4"

#: Seconds of silence before the terminal says what is being waited for.
PATIENCE = 2.0


def connect(settings: Settings) -> Cluster:
    """The API server of the settings, if its context is allowed.

    Raises:
        pytest.UsageError: with one sentence, where there is no such cluster or the context is not allowed.
    """
    from pytest_meshready.cluster import client

    try:
        cluster = client.connect(settings.kubeconfig, settings.context, settings.deadlines)
    except client.ClusterError as error:
        raise pytest.UsageError(str(error)) from error
    allowed = settings.contexts
    if allowed and not any(fnmatch.fnmatchcase(cluster.context, pattern) for pattern in allowed):
        raise pytest.UsageError(
            f"context {cluster.context!r} is not allowed here: {settings.config_name} allows only {', '.join(allowed)}; "
            "choose one of those with --mesh-context=NAME (see: kubectl config get-contexts)"
        )
    return cluster


def take(run: Run) -> Snapshot:
    """The snapshot of the run, from its file, from manifests or from the cluster, saved where the user asked for it.

    Raises:
        pytest.UsageError: with one sentence, where the file is no snapshot, the manifests cannot be used, or the namespace does
            not exist.
    """
    settings = run.settings
    taken = _replay(settings) if settings.snapshot else _manifests(run) if settings.manifests else _live(run)
    if run.settings.save_snapshot:
        _save(taken, run.settings.save_snapshot)
    return taken


def share(snapshot: Snapshot, folder: Path) -> None:
    """Write the snapshot for the workers; whole or not at all."""
    partial = folder / f"{_SHARED}.part"
    partial.write_bytes(snapshots.encode(snapshot))
    partial.replace(folder / _SHARED)


def shared(folder: Path) -> Snapshot:
    """The snapshot that the controller wrote with `share`."""
    return snapshots.load(folder / _SHARED)


def _replay(settings: Settings) -> Snapshot:
    path = settings.snapshot
    assert path is not None
    try:
        found = snapshots.load(path)
    except snapshots.SnapshotError as error:
        raise pytest.UsageError(f"--mesh-snapshot={path}: {error}") from error
    if settings.namespace and settings.namespace != found.namespace:
        raise pytest.UsageError(
            f"--mesh-namespace={settings.namespace}: the snapshot {path} is of namespace {found.namespace!r}; "
            f"leave --mesh-namespace out, or record {settings.namespace!r} with --mesh-save-snapshot=FILE"
        )
    return found


def _manifests(run: Run) -> Snapshot:
    from pytest_meshready.cluster import manifests

    settings = run.settings
    assert settings.manifests is not None
    try:
        return manifests.take(
            settings.manifests,
            namespace=settings.namespace,
            base=run.config.invocation_params.dir,
            stdin=lambda: _stdin(run.config),
            istio_namespace=settings.istio_namespace,
            revision=settings.revision,
            gateway_namespaces=settings.gateway_namespaces,
            secrets=settings.gateway_secrets,
        )
    except manifests.ManifestError as error:
        raise pytest.UsageError(f"--mesh-manifests={settings.manifests}: {error}") from error


def _stdin(config: pytest.Config) -> str:
    """Standard input, which pytest keeps away from tests.

    Raises:
        pytest.UsageError: where nothing is piped into it.
    """
    capture = config.pluginmanager.getplugin("capturemanager")
    if capture is not None:
        capture.suspend_global_capture(in_=True)
    try:
        if sys.stdin is None or sys.stdin.isatty():
            raise pytest.UsageError(
                "--mesh-manifests=- reads standard input, but nothing is piped into it: kustomize build DIR | pytest ..."
            )
        return sys.stdin.buffer.read().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise pytest.UsageError(f"--mesh-manifests=-: standard input is not UTF-8 text (byte {error.start + 1})") from error
    finally:
        if capture is not None:
            capture.resume_global_capture()


def _live(run: Run) -> Snapshot:
    from pytest_meshready.cluster import live

    cluster, settings = run.cluster(), run.settings
    with _patience(f"reading namespace {settings.namespace} of {cluster.context}") as say:
        try:
            taken = live.take(
                cluster,
                namespace=settings.namespace,
                reads=run.reads(),
                istio_namespace=settings.istio_namespace,
                revision=settings.revision,
                gateway_namespaces=settings.gateway_namespaces,
                declared_namespaces=settings.namespaces or (),
                secrets=settings.gateway_secrets,
                deadlines=settings.deadlines,
                progress=say,
            )
        except live.NamespaceMissing as error:
            raise pytest.UsageError(f"--mesh-namespace={settings.namespace}: {error}") from error
        return _analyzed(run, taken, say) if _asks_istioctl(run) else taken


def _asks_istioctl(run: Run) -> bool:
    """Whether line 3.2.4 is to be decided; a snapshot that is saved holds everything."""
    if run.settings.save_snapshot:
        return True
    phase = run.settings.phase
    return run.checklist and ISTIOCTL in run.selected and (phase is None or run.lines[ISTIOCTL].due(phase))


def _analyzed(run: Run, taken: Snapshot, say: Callable[[str], None]) -> Snapshot:
    """With what istioctl says beside it; whatever interrupts the run ends istioctl first."""
    from pytest_meshready.cluster import analyze

    interrupts = Interrupts()
    interrupts.install()
    try:
        return analyze.beside(
            taken, run.cluster(), kubeconfig=run.settings.kubeconfig, seconds=run.settings.deadlines.snapshot, progress=say
        )
    finally:
        interrupts.restore()


def _save(snapshot: Snapshot, path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(snapshots.encode(snapshot))
    except OSError as error:
        raise pytest.UsageError(f"--mesh-save-snapshot={path}: cannot be written: {error.strerror or error}") from error


class _Patience:
    """Says on the terminal what is being waited for, once `PATIENCE` seconds have passed without an end."""

    def __init__(self, task: str) -> None:
        self._task = task
        self._what = ""
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="meshready-patience", daemon=True)
        self._thread.start()

    def __call__(self, what: str) -> None:
        """Note what is being waited for now."""
        self._what = what

    def _watch(self) -> None:
        began = time.monotonic()
        while not self._done.wait(PATIENCE):
            waiting = f", waiting for {self._what}" if self._what else ""
            sys.stderr.write(f"meshready: {self._task}{waiting} ({time.monotonic() - began:.0f} s){os.linesep}")
            sys.stderr.flush()

    def stop(self) -> None:
        self._done.set()
        self._thread.join()


@contextmanager
def _patience(task: str) -> Iterator[_Patience]:
    patience = _Patience(task)
    try:
        yield patience
    finally:
        patience.stop()
