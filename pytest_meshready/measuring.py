"""What Prometheus counted, asked once per run and before the run sends anything, so that it does not find itself.

The owner asks in the background while the static checks run, also where the run is read-only; checks read the answer from the
run's folder, in whichever worker they run.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from pytest_meshready import handover
from pytest_meshready.cluster.snapshot import Snapshot
from pytest_meshready.istio import measured
from pytest_meshready.observability import prometheus
from pytest_meshready.observability.http import Getter, UnavailableError
from pytest_meshready.observability.prometheus import Prometheus, Sample
from pytest_meshready.results import Unknown

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_meshready.configuration import Backend

_WANTED, _MEASURED = "measures-wanted", "measured.json"

#: Seconds between two looks whether a test wants to know.
_LOOK = 0.1


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """The samples of Prometheus for the lines about calls in the namespace, and ``unknown`` where there are none to be had."""

    plain: tuple[Sample, ...] = ()
    mutual: tuple[Sample, ...] = ()
    calls: tuple[Sample, ...] = ()
    failed: tuple[Sample, ...] = ()
    rejects: tuple[Sample, ...] = ()
    convergence: tuple[Sample, ...] = ()
    unknown: tuple[Unknown, ...] = ()


class Measuring:
    """The owner's part: asks Prometheus in the background once a line wants to know, and writes down what it says."""

    def __init__(self, cluster: Getter, snapshot: Snapshot, backend: Backend, folder: Path) -> None:
        self._cluster = cluster
        self._snapshot = snapshot
        self._backend = backend
        self._folder = folder
        self._prometheus: Prometheus | None = None
        self._stopped = threading.Event()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._work, name="meshready-measuring", daemon=True)

    def start(self, *, wanted: bool) -> None:
        """Begin: at once where a selected line is measured, else when a test asks (`seen`)."""
        if wanted:
            (self._folder / _WANTED).touch()
        self._thread.start()

    def stop(self) -> None:
        """Ask nothing any more."""
        self._stopped.set()

    def settle(self) -> None:
        """Wait until everything that is wanted was asked; each request has its own deadline."""
        if (self._folder / _WANTED).exists():
            self._done.wait()

    def calls(self) -> measured.Calls | None:
        """Who calls whom by the counters since the pods began, asked now; None where Prometheus does not say."""
        try:
            backend = self._connected()
            answered, called = measured.call_queries(self._snapshot.namespace)
            return measured.calls_of(backend.query(answered), backend.query(called))
        except UnavailableError:
            return None

    def _work(self) -> None:
        while not (self._folder / _WANTED).exists():
            if self._stopped.wait(_LOOK):
                self._done.set()
                return
        try:
            found = self._measure()
        except UnavailableError as error:
            found = Measured(unknown=(error.unknown,))
        except Exception as error:  # noqa: BLE001 - whatever it is, the checks must hear of it and not wait for ever
            found = Measured(unknown=(Unknown(reason=f"asking Prometheus broke: {error!r}"),))
        handover.write(self._folder / _MEASURED, found)
        self._done.set()

    def _measure(self) -> Measured:
        backend, namespace = self._connected(), self._snapshot.namespace
        mtls, failures = measured.mtls_queries(namespace), measured.failure_queries(namespace)
        return Measured(
            plain=_all(backend, mtls.plain),
            mutual=_all(backend, mtls.mutual),
            calls=_all(backend, (failures.calls,)),
            failed=_all(backend, (failures.failed,)),
            rejects=_all(backend, (failures.rejects,)),
            convergence=_all(backend, (measured.convergence_query(),)),
        )

    def _connected(self) -> Prometheus:
        if self._prometheus is None:
            given = self._backend
            self._prometheus = prometheus.connect(self._cluster, self._snapshot, url=given.url, headers=given.headers, ca=given.ca)
        return self._prometheus


def seen(folder: Path, seconds: float, waiting: Callable[[float], None]) -> Measured:
    """What Prometheus had counted; waits for the owner at most so long, and tells ``waiting`` how many seconds already."""
    (folder / _WANTED).touch()
    found = handover.read(folder / _MEASURED, Measured, seconds, waiting)
    if found is None:
        return Measured(unknown=(Unknown(reason=f"Prometheus was not asked within {seconds:g} s"),))
    return found


def _all(backend: Prometheus, queries: Sequence[str]) -> tuple[Sample, ...]:
    return tuple(sample for query in queries for sample in backend.query(query))
