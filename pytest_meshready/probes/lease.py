"""The Lease by which writing runs against one namespace meet: one at a time, and everybody can see who.

It is held for 15 seconds and renewed every 5 (DESIGN, Decision 8). Whether it has expired is judged by the API server's clock
(the ``Date`` of its answers), never by the runner's (checks.md 1.8), and the times in it are written by the same clock. Who
takes an expired Lease over, or deletes it, does so only if nobody touched it meanwhile (``resourceVersion``), so that a run
that was merely slow either keeps it or notices that it lost it.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import getpass
import os
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pytest_meshready.cluster import writes
from pytest_meshready.cluster.answers import Answer
from pytest_meshready.cluster.client import Cluster
from pytest_meshready.cluster.writes import LEASE, Cause, Manifest, WriteError
from pytest_meshready.probes.pod import RUN_LABEL
from pytest_meshready.waiting import Deadline, Repeating, until

#: The name of the Lease, in the namespace of the run.
NAME = "meshready"

#: Seconds after the last renewal until others may take the Lease, and seconds between renewals.
DURATION = 15
RENEWAL = 5.0

#: Seconds between two looks at a Lease that somebody else holds.
_LOOK = 1.0

#: The server's clock is read in whole seconds.
_RESOLUTION = 1.0


def myself() -> str:
    """Who runs this, as ``user@host``, for others to ask."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a container without a name for its user
        user = f"uid-{os.getuid()}"
    return f"{user}@{socket.gethostname()}"


class ServerClock:
    """The API server's clock, learned from its answers: never ahead of it, and less than two seconds behind."""

    def __init__(self) -> None:
        self._offset: float | None = None
        self._lock = threading.Lock()

    def learn(self, answer: Answer) -> None:
        """Look at the date of an answer that has just arrived."""
        if not answer.date:
            return
        offset = _seconds(answer.date) - time.monotonic()
        with self._lock:
            self._offset = offset if self._offset is None else max(self._offset, offset)

    def now(self) -> float:
        """Seconds since 1970; the runner's clock as long as the server has not told its own."""
        return time.time() if self._offset is None else self._offset + time.monotonic()


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Who holds a Lease: the id of the run, ``user@host``, and since when (RFC 3339)."""

    run: str
    who: str
    since: str

    def __str__(self) -> str:
        """``run 3f2a9c01 of alice@laptop, since 2026-11-25T08:12:31Z``."""
        if not self.run:
            return "a run that is just ending"
        return f"run {self.run} of {self.who or 'somebody'}, since {self.since or 'an unknown time'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A Lease as it was found; ``expires`` is in seconds since 1970 by the server's clock."""

    holder: Holder
    expires: float
    manifest: Manifest

    def expired(self, now: float) -> bool:
        """Whether its holder has let it run out; a holder that gave it up has no name."""
        return not self.holder.run or now > self.expires + _RESOLUTION


def look(cluster: Cluster, namespace: str, clock: ServerClock, *, deadline: Deadline | None = None) -> Seen | None:
    """The Lease of a namespace; None where there is none.

    Raises:
        WriteError: where it may not be read.
    """
    try:
        answer = writes.send(cluster, "GET", writes.path_of(LEASE.manifest(namespace, NAME)), deadline=deadline)
    except WriteError as error:
        if error.cause is Cause.MISSING:
            return None
        raise
    clock.learn(answer)
    return _seen(answer.json())


def _seen(manifest: Manifest) -> Seen:
    spec: dict[str, Any] = manifest.get("spec") or {}
    run, _, who = str(spec.get("holderIdentity") or "").partition("/")
    renewed = _seconds(spec.get("renewTime") or "")
    since = str(spec.get("acquireTime") or "").partition(".")[0]
    holder = Holder(run=run, who=who, since=f"{since}Z" if since and not since.endswith("Z") else since)
    return Seen(holder=holder, expires=renewed + float(spec.get("leaseDurationSeconds") or DURATION), manifest=manifest)


class Lease:
    """The Lease of one run. Safe to use from several threads.

    Args:
        cluster: where.
        namespace: of the run.
        run: its id.
        clock: the server's.
    """

    def __init__(self, cluster: Cluster, namespace: str, run: str, clock: ServerClock) -> None:
        self.namespace = namespace
        self._cluster = cluster
        self._run = run
        self._clock = clock
        self._lock = threading.Lock()
        self._manifest: Manifest | None = None
        self._acquired = 0.0
        self._renewing: Repeating | None = None
        self._renewed = 0.0
        self._trouble = ""
        self._taken_by = ""

    def take(self, deadline: Deadline, stopped: Callable[[], bool] = lambda: False) -> Holder | None:
        """Hold the Lease and keep it renewed, once nobody else holds it.

        Args:
            deadline: how long to wait for somebody else.
            stopped: asked again and again; True ends the waiting.

        Returns:
            None once it is ours; else who still holds it.

        Raises:
            WriteError: where it could not be taken.
        """
        held: Holder | None = None

        def attempt() -> bool | None:
            nonlocal held
            held = self._attempt()
            return True if held is None or stopped() else None

        until(attempt, every=_LOOK, deadline=deadline)
        if held is None:
            self._renewing = Repeating(self._renew, every=RENEWAL)
        return held

    def _attempt(self) -> Holder | None:
        """Try once; who holds it, if not we."""
        seen = look(self._cluster, self.namespace, self._clock) if self._acquired else None
        self._acquired = self._clock.now()
        if seen is None:
            made = writes.create(self._cluster, self._content(None))
            if made is not None:
                self._keep(made)
                return None
            seen = look(self._cluster, self.namespace, self._clock)
        if seen is None:
            return Holder(run="", who="", since="")  # it went between the two requests: the next try gets it
        if seen.holder.run == self._run:  # the answer to our own request got lost
            self._keep(seen.manifest)
            return None
        if not seen.expired(self._clock.now()):
            return seen.holder
        try:
            self._keep(writes.update(self._cluster, self._content(seen.manifest)))
        except WriteError as error:
            if error.cause in (Cause.CONFLICT, Cause.MISSING):
                return seen.holder  # somebody was faster
            raise
        return None

    def _content(self, before: Manifest | None) -> Manifest:
        """The Lease as it shall be."""
        metadata: dict[str, Any] = {"name": NAME, "namespace": self.namespace}
        if before is not None:
            metadata |= {"resourceVersion": before["metadata"]["resourceVersion"], "uid": before["metadata"]["uid"]}
        labels = {RUN_LABEL: self._run, "app.kubernetes.io/managed-by": "pytest-meshready"}
        return {
            "apiVersion": LEASE.api_version,
            "kind": LEASE.name,
            "metadata": {**metadata, "labels": labels},
            "spec": {
                "holderIdentity": f"{self._run}/{myself()}",
                "leaseDurationSeconds": DURATION,
                "acquireTime": _micro(self._acquired),
                "renewTime": _micro(self._clock.now()),
            },
        }

    def _keep(self, manifest: Manifest) -> None:
        with self._lock:
            self._manifest, self._renewed, self._trouble = manifest, time.monotonic(), ""

    def _renew(self) -> bool:
        """Renew once; whether to go on."""
        before = self._manifest
        if before is None:
            return False
        try:
            self._keep(writes.update(self._cluster, self._content(before), deadline=Deadline(RENEWAL)))
        except WriteError as error:
            if error.cause not in (Cause.CONFLICT, Cause.MISSING):
                self._trouble = str(error)
                return True
            return self._look_after()
        return True

    def _look_after(self) -> bool:
        """What became of a Lease that is no longer as we left it; whether it is still ours."""
        try:
            seen = look(self._cluster, self.namespace, self._clock, deadline=Deadline(RENEWAL))
        except WriteError as error:
            self._trouble = str(error)
            return True
        if seen is not None and seen.holder.run == self._run:
            with self._lock:  # renewed by a request whose answer got lost, or edited by hand: the next renewal decides
                self._manifest = seen.manifest
            return True
        with self._lock:
            self._manifest = None
            self._taken_by = "it was deleted" if seen is None else f"it is held by {seen.holder}"
        return False

    @property
    def lost(self) -> str:
        """Why the Lease cannot be relied on any more; empty as long as it can."""
        with self._lock:
            where = f"the Lease {NAME} in {self.namespace}"
            if self._taken_by:
                return f"{where} was lost while the run went on: {self._taken_by}"
            if self._manifest is not None and time.monotonic() - self._renewed > DURATION:
                return f"{where} could not be renewed for more than {DURATION} s ({self._trouble or 'no answer yet'})"
            return ""

    def release(self) -> str:
        """Give the Lease back, if it is still ours: it is deleted.

        Returns:
            Why it is still there; empty if it is not.
        """
        if self._renewing is not None:
            self._renewing.stop(patience=RENEWAL)
        with self._lock:
            manifest, self._manifest = self._manifest, None
        if manifest is None:
            return ""
        try:
            return self._release(manifest)
        except WriteError as error:
            return str(error)

    def _release(self, manifest: Manifest) -> str:
        for _ in range(2):  # a renewal whose answer got lost changes it once more
            with contextlib.suppress(WriteError):
                writes.delete(self._cluster, manifest, unchanged=True)
            seen = look(self._cluster, self.namespace, self._clock)
            if seen is None or seen.holder.run != self._run:
                return ""
            manifest = seen.manifest
        return f"the Lease {NAME} in {self.namespace} could not be deleted; others may take it {DURATION} s after its last renewal"


def _seconds(text: str) -> float:
    """RFC 3339 as seconds since 1970; 0 for what is none, so that it counts as long expired."""
    try:
        return dt.datetime.fromisoformat(text).timestamp()
    except ValueError:
        return 0.0


def _micro(seconds: float) -> str:
    """Seconds since 1970 as Kubernetes writes a MicroTime."""
    return dt.datetime.fromtimestamp(seconds, dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
