"""The life of our objects in the cluster: one Lease, one anchor for each namespace, and the pods that hang on it.

The owner of a run (the only process, or xdist's controller) makes one `Guests`, starts it and goes on; everything is created
at once in the background. Workers create nothing: they get what `Guests.wait` returned as plain data (`describe`,
`described`). `Guests.remove` ends the visit, whatever state it is in, and says what is left.

Every object carries the label ``meshready.io/run`` and, but for the anchor and the Lease, an owner reference to the anchor, a
ConfigMap in the same namespace: deleting it deletes all, also what a dying process creates afterwards.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Sequence
from time import monotonic
from typing import TypeVar

import msgspec

from pytest_meshready.cluster import writes
from pytest_meshready.cluster.answers import ReadError
from pytest_meshready.cluster.client import Cluster
from pytest_meshready.cluster.writes import CONFIG_MAP, LEASE, POD, Cause, Kind, Manifest, WriteError, kind_of
from pytest_meshready.probes import cleanup, pod, trouble
from pytest_meshready.probes.arrivals import Guest, GuestPod, Outcome, Ready, Watch, describe, described, inspect
from pytest_meshready.probes.cleanup import HOME_ANNOTATION, Left
from pytest_meshready.probes.lease import NAME as LEASE_NAME
from pytest_meshready.probes.lease import Lease, ServerClock
from pytest_meshready.probes.pod import RUN_LABEL
from pytest_meshready.probes.rights import exec_rights, places, rights_in
from pytest_meshready.probes.trouble import Reason, Trouble
from pytest_meshready.waiting import Deadline, GaveUp, retry, until

__all__ = ["Guest", "GuestPod", "Guests", "Left", "Outcome", "Ready", "Reason", "Trouble", "describe", "described", "inspect"]

#: Seconds until all guests must be ready: a meshed pod takes 4-7 s, 10-20 s on busy machines (ports.md), more with a new image.
PATIENCE = 60.0

#: Seconds that a second run waits for the Lease of the first.
LEASE_PATIENCE = 30.0

#: Seconds in which everything must be gone at the end.
CLEARING = 20.0

#: Seconds between two looks at the pods.
LOOK = 0.5

_UNAUTHORIZED = 401

_T = TypeVar("_T")


class _Troubled(Exception):  # noqa: N818 - it reads as what happened
    """Nothing can be had, for this reason."""

    def __init__(self, found: Trouble) -> None:
        super().__init__(found.sentence)
        self.trouble = found


# --- the visit ---


class Guests:
    """The guests of one run; made and removed by its owner.

    Args:
        cluster: where.
        run: the id of the run.
        namespace: of the run; its Lease is there.
        pods: the pods that shall visit, in any namespaces.
        objects: what has to be there before the pods: the agent's ConfigMap, policies.
        kinds: further kinds that `create`, or a worker, may make in ``namespace`` later, such as Jobs.
        patience: seconds until all pods must be ready.
        lease_patience: seconds to wait for another run that holds the Lease.
        keep: whether to leave everything at the end (``--mesh-keep``).
    """

    def __init__(
        self,
        cluster: Cluster,
        run: str,
        namespace: str,
        *,
        pods: Sequence[Guest],
        objects: Sequence[Manifest] = (),
        kinds: Sequence[Kind] = (),
        patience: float = PATIENCE,
        lease_patience: float = LEASE_PATIENCE,
        keep: bool = False,
    ) -> None:
        self.run = run
        self.namespace = namespace
        self.doing = "nothing yet"
        self._cluster = cluster
        self._pods = tuple(pods)
        self._objects = tuple(objects)
        self.places = places([*(guest.manifest for guest in self._pods), *self._objects], home=namespace, kinds=kinds)
        self._patience = patience
        self._lease_patience = lease_patience
        self._keep = keep
        self._clock = ServerClock()
        self._lease = Lease(cluster, namespace, run, self._clock)
        self._stopped = threading.Event()
        self._settled = threading.Event()
        self._lock = threading.Lock()
        self._made: list[Manifest] = []
        self._anchors: dict[str, str] = {}
        self._outcome: Outcome | None = None
        self._failure: Exception | None = None
        self._thread: threading.Thread | None = None
        self._left: Left | None = None
        self._removed = threading.Event()

    # --- for the owner ---

    def start(self) -> None:
        """Begin in the background; at once."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._visit, name="meshready-guests", daemon=True)
            self._thread.start()

    def wait(self) -> Outcome:
        """What came of it, once that is known: the guests that are ready, or why there is none.

        Raises:
            Exception: what the background met that it should never meet.
        """
        self.start()
        self._settled.wait()
        if self._failure is not None:
            raise self._failure
        assert self._outcome is not None
        return self._outcome

    @property
    def lost(self) -> Trouble | None:
        """That the Lease was lost while the run went on: nothing may be sent or changed any more."""
        why = self._lease.lost
        return Trouble(reason=Reason.LEASE_LOST, sentence=f"{why}; what was measured since then does not count") if why else None

    def create(self, manifest: Manifest) -> Trouble | None:
        """Create one more object in the course of the run, such as a Job; it goes with the others.

        Its kind must be one of those of the guests in its namespace, or given as ``kinds``.
        """
        if (kind_of(manifest), manifest["metadata"]["namespace"]) not in self.places:
            raise ValueError(f"{manifest['kind']} is not among the kinds of these guests, so it would not be looked for at the end")
        if self._stopped.is_set():
            return Trouble(reason=Reason.STOPPED, sentence="the run has ended")
        return self._create(manifest, Deadline(self._cluster.deadlines.request))

    def remove(self) -> Left:
        """End the visit: delete everything, give the Lease back, and look what is left.

        It never raises, may be called at any time and any number of times, and is not stopped by a first Ctrl-C or SIGTERM;
        a second one gives up waiting.
        """
        if self._left is None:
            self._stopped.set()
            threading.Thread(target=self._remove, name="meshready-clean-up", daemon=True).start()
            if not _patiently(self._removed):
                return Left(command=cleanup.command(self.run, self.places), because="the clean-up was interrupted")
        assert self._left is not None
        return self._left

    # --- in the background ---

    def _visit(self) -> None:
        try:
            self._outcome = self._come()
        except _Troubled as troubled:
            self._outcome = troubled.trouble
        except WriteError as error:
            self._outcome = Trouble(reason=Reason.UNREACHABLE, sentence=f"no probe could be made: {error}")
        except Exception as error:  # noqa: BLE001 - a fault of ours, raised again where it is waited for
            self._failure = error
        self.doing = "done"
        self._settled.set()

    def _come(self) -> Ready:
        without_exec = self._ask_for_rights()
        self._take_lease()
        deadline = Deadline(self._patience)
        self.doing = "creating probe pods"
        for namespace in dict.fromkeys(namespace for _, namespace in self.places):
            self._anchors[namespace] = self._anchor(namespace, deadline)
        leftovers = self._leftovers()
        for found in self._all(self._objects, deadline):
            if found is not None:
                raise _Troubled(found)
        self._go_on()
        started = monotonic()
        refused = self._all([guest.manifest for guest in self._pods], deadline)
        troubles = {guest.role: found for guest, found in zip(self._pods, refused, strict=True) if found is not None}
        self.doing = "waiting for probe pods to become ready"
        watch = Watch(self._cluster, self.run, [guest for guest in self._pods if guest.role not in troubles], deadline, started)
        until(functools.partial(self._look, watch), every=LOOK, deadline=deadline)
        watch.finish()
        troubles |= watch.troubles
        if troubles and not watch.ready:
            raise _Troubled(next(iter(troubles.values())))
        return Ready(
            run=self.run,
            namespace=self.namespace,
            pods=watch.ready,
            troubles=troubles,
            anchors=dict(self._anchors),
            without_exec=without_exec,
            leftovers=leftovers,
        )

    def _look(self, watch: Watch) -> bool | None:
        self._go_on()
        return watch.look()

    def _go_on(self) -> None:
        if self._stopped.is_set():
            raise _Troubled(Trouble(reason=Reason.STOPPED, sentence="the run ended before its probes were there"))

    def _ask_for_rights(self) -> Trouble | None:
        """Ask before anything is tried; why nothing can be executed in pods, if so."""
        self.doing = "asking for the rights that probes need"
        needed = rights_in(self.places, home=self.namespace)
        # a version that nobody could tell is taken for one that asks for less: what happens decides
        namespaces = [namespace for kind, namespace in self.places if kind is POD]
        to_exec = exec_rights(namespaces, self._kubernetes_version() or "1.34")
        allowed = writes.reviews(self._cluster, (*needed, *to_exec))
        missing = [right for right in needed if allowed[right] is False]
        if missing:
            raise _Troubled(trouble.forbidden(missing))
        self._go_on()
        return next((trouble.exec_forbidden(right) for right in to_exec if allowed[right] is False), None)

    def _kubernetes_version(self) -> str:
        try:
            answer = self._cluster.get("/version")
            self._clock.learn(answer)
            return str(answer.json().get("gitVersion", ""))
        except (ReadError, msgspec.DecodeError):
            return ""

    def _take_lease(self) -> None:
        self.doing = f"waiting for the Lease {LEASE_NAME} in {self.namespace}"
        try:
            held = self._lease.take(Deadline(self._lease_patience), self._stopped.is_set)
        except WriteError as error:
            what = f"the Lease {LEASE_NAME}"
            raise _Troubled(trouble.refused(error, what=what, namespace=self.namespace, verb="create", resource=LEASE.resource)) from error
        self._go_on()
        if held is not None:
            raise _Troubled(trouble.lease_held(self.namespace, str(held), self._lease_patience))

    def _anchor(self, namespace: str, deadline: Deadline) -> str:
        """Create the ConfigMap on which everything of the run in a namespace hangs; its uid."""
        anchor = pod.anchor(pod.Run(id=self.run, namespace=namespace))
        found = self._create(anchor, deadline)
        if found is not None:
            raise _Troubled(found)
        made = next(manifest for manifest in self._made if cleanup.name_of(manifest) == cleanup.name_of(anchor))
        if "uid" not in made["metadata"]:  # it was there: the answer to our own request got lost
            listed = writes.listed(self._cluster, CONFIG_MAP, namespace, f"{RUN_LABEL}={self.run}")
            made = next(manifest for manifest in listed if cleanup.name_of(manifest) == cleanup.name_of(anchor))
        return str(made["metadata"]["uid"])

    def _leftovers(self) -> tuple[str, ...]:
        """Earlier runs that left their anchor here: with our Lease in hand they are over, unless their Lease is elsewhere."""
        try:
            others = writes.listed(self._cluster, CONFIG_MAP, self.namespace, f"{RUN_LABEL},{RUN_LABEL}!={self.run}")
        except WriteError:
            return ()
        homes = {
            manifest["metadata"]["labels"][RUN_LABEL]: (manifest["metadata"].get("annotations") or {}).get(HOME_ANNOTATION, self.namespace)
            for manifest in others
        }
        return tuple(sorted(run for run, home in homes.items() if home == self.namespace))

    def _all(self, manifests: Sequence[Manifest], deadline: Deadline) -> list[Trouble | None]:
        """Create all of these at once; for each the trouble with it."""
        results = writes.at_once([functools.partial(self._create, manifest, deadline) for manifest in manifests])
        for result in results:
            if isinstance(result, Exception):
                raise result
        return [result for result in results if not isinstance(result, Exception)]

    def _create(self, manifest: Manifest, deadline: Deadline) -> Trouble | None:
        """Create one object, through a restart of the API server; the trouble with it."""
        stamped = cleanup.marked(manifest, run=self.run, home=self.namespace, anchors=self._anchors)
        with self._lock:
            self._made.append(stamped)
        kind = kind_of(manifest)
        try:
            made = self._through_restarts(functools.partial(writes.create, self._cluster, stamped), deadline)
        except WriteError as error:
            if error.cause is not Cause.UNREACHABLE:  # then it may be there all the same
                with self._lock:
                    self._made.remove(stamped)
            word = "probe pod" if kind is POD else kind.name
            what = f"{word} {stamped['metadata']['namespace']}/{stamped['metadata']['name']}"
            where = stamped["metadata"]["namespace"]
            return trouble.refused(error, what=what, namespace=where, verb="create", resource=kind.resource)
        if made is not None:
            with self._lock:
                self._made[self._made.index(stamped)] = {"apiVersion": kind.api_version, "kind": kind.name, **made}
        return None

    def _through_restarts(self, call: Callable[[], _T], deadline: Deadline) -> _T:
        """Repeat a request beyond its own deadline as long as the API server does not answer.

        Raises:
            WriteError: its last failure.
        """

        def passing(error: Exception) -> float | None:
            transient = isinstance(error, WriteError) and error.cause is Cause.UNREACHABLE and error.status != _UNAUTHORIZED
            return 0.0 if transient and not self._stopped.is_set() else None

        try:
            return retry(call, retry_on=passing, deadline=deadline)
        except GaveUp as gave_up:
            raise gave_up.last from gave_up

    # --- the end ---

    def _remove(self) -> None:
        try:
            self._left = self._cleared()
        except Exception as error:  # noqa: BLE001 - a clean-up that raises would hide the report
            self._left = Left(command=cleanup.command(self.run, self.places), because=f"the clean-up failed: {error!r}")
        self._removed.set()

    def _cleared(self) -> Left:
        if self._thread is not None:
            self._thread.join(self._cluster.deadlines.request + 1)  # it begins nothing any more, but one request may be under way
        with self._lock:
            made = list(self._made)
        if self._keep:
            left = self._kept(made)
        elif made:
            _, left = cleanup.clear(self._cluster, self.run, self.places, known=made, deadline=Deadline(CLEARING))
        else:
            left = Left()
        still_held = self._lease.release()
        if still_held:
            lease = f"{LEASE.name}/{self.namespace}/{LEASE_NAME}"
            delete = f"kubectl delete lease {LEASE_NAME} -n {self.namespace}"
            left = Left(
                objects=(*left.objects, lease),
                command="; ".join(filter(None, (left.command, delete))),
                because="; ".join(filter(None, (left.because, still_held))),
            )
        return left

    def _kept(self, made: Sequence[Manifest]) -> Left:
        if not made:
            return Left()
        names = tuple(sorted(cleanup.name_of(manifest) for manifest in made))
        return Left(objects=names, command=cleanup.command(self.run, self.places), because="kept, as --mesh-keep asks")


def _patiently(done: threading.Event) -> bool:
    """Wait through one interruption for what bounds itself; False after the second.

    An event, because a thread whose `join` is interrupted counts as ended in Python 3.11 (python/cpython#90882).
    """
    interruptions = 0
    while interruptions < 2:
        try:
            return done.wait()
        except KeyboardInterrupt:
            interruptions += 1
    return False
