"""Clean-up that is provable: what carries the label of a run is deleted until the API server lists none of it any more.

`clear` is the end of a run of our own. `sweep` (``--mesh-sweep``) does the same for runs that are over because they were
killed: whether they are is for their Lease to say, and a live run is never touched.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pytest_meshready.cluster import writes
from pytest_meshready.cluster.client import Cluster
from pytest_meshready.cluster.writes import (
    AUTHORIZATION_POLICY,
    CONFIG_MAP,
    JOB,
    LEASE,
    POD,
    SERVICE,
    SERVICE_ACCOUNT,
    Cause,
    Kind,
    Manifest,
    Place,
    WriteError,
)
from pytest_meshready.probes import lease
from pytest_meshready.probes.lease import ServerClock
from pytest_meshready.probes.pod import RUN_LABEL
from pytest_meshready.waiting import Deadline, until

#: The annotation of every object of a run that tells in which namespace its Lease is.
HOME_ANNOTATION = "meshready.io/home"

#: What a run may create besides its Lease.
SWEPT = (POD, JOB, CONFIG_MAP, SERVICE_ACCOUNT, SERVICE, AUTHORIZATION_POLICY)

#: Seconds that a pod gets to end: nothing in it is worth waiting for.
GRACE = 1

#: Seconds between two looks whether everything is gone.
_LOOK = 0.5

#: Seconds in which a sweep removes what one run left.
_CLEARING = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """What is left of a run: ``Pod/payments/meshready-3f2a-inside``, what to type to remove it, and why it is still there.

    Nothing is left where ``because`` is empty. ``objects`` may be empty beside a ``because``: then nobody could look.
    """

    objects: tuple[str, ...] = ()
    command: str = ""
    because: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """What a sweep did: what it removed, and what it left, run by run. ``unseen`` are the kinds that it may not list."""

    removed: tuple[str, ...] = ()
    left: tuple[Left, ...] = ()
    unseen: tuple[str, ...] = ()


def marked(manifest: Manifest, *, run: str, home: str, anchors: Mapping[str, str]) -> Manifest:
    """The same object with what makes it one of a run's: label, annotation, and owner; a Job's pods as well.

    Args:
        manifest: the object.
        run: the id of the run.
        home: the namespace of its Lease.
        anchors: the ``uid`` of the run's anchor in each namespace; where there is none, no owner is named.
    """
    metadata = _marked(manifest["metadata"], run, home)
    uid = anchors.get(metadata["namespace"])
    if uid:
        metadata["ownerReferences"] = [{"apiVersion": "v1", "kind": CONFIG_MAP.name, "name": f"meshready-{run}", "uid": uid}]
    result = {**manifest, "metadata": metadata}
    template = (manifest.get("spec") or {}).get("template")
    if template is not None:
        inner = _marked(template.get("metadata") or {}, run, home)
        result["spec"] = {**manifest["spec"], "template": {**template, "metadata": inner}}
    return result


def _marked(metadata: Mapping[str, Any], run: str, home: str) -> dict[str, Any]:
    labels = {**(metadata.get("labels") or {}), "app.kubernetes.io/managed-by": "pytest-meshready", RUN_LABEL: run}
    return {**metadata, "labels": labels, "annotations": {**(metadata.get("annotations") or {}), HOME_ANNOTATION: home}}


def name_of(manifest: Manifest) -> str:
    """``Pod/payments/meshready-3f2a-inside``."""
    metadata = manifest["metadata"]
    return f"{manifest['kind']}/{metadata['namespace']}/{metadata['name']}"


def command(run: str, places: Iterable[Place]) -> str:
    """What to type to remove everything of a run."""
    by_namespace: dict[str, list[str]] = {}
    for kind, namespace in places:
        by_namespace.setdefault(namespace, []).append(kind.resource)
    return "; ".join(
        f"kubectl delete {','.join(dict.fromkeys(resources))} -n {namespace} -l {RUN_LABEL}={run}"
        for namespace, resources in by_namespace.items()
    )


# --- the end of a run ---


class _Clearing:
    """Deletes, looks, and deletes again, until nothing is listed any more."""

    def __init__(self, cluster: Cluster, run: str, places: Sequence[Place], known: Sequence[Manifest]) -> None:
        self._cluster = cluster
        self._run = run
        self._places = places
        self._known = {name_of(manifest): manifest for manifest in known}
        self._asked: set[str] = set()
        self.seen: dict[str, Manifest] = {}
        self.remaining: dict[str, Manifest] = {}
        self.errors: list[str] = []

    def step(self) -> bool | None:
        """Look and delete once; True when nothing is left."""
        self.errors = []
        self.remaining = self._listed()
        self.seen |= self.remaining
        todo = [manifest for name, manifest in self.remaining.items() if name not in self._asked]
        outcomes = writes.at_once([functools.partial(self._delete, manifest) for manifest in todo])
        self.errors += [str(outcome) for outcome in outcomes if isinstance(outcome, Exception)]
        return True if not self.remaining and not self.errors else None

    def _listed(self) -> dict[str, Manifest]:
        """What is there; what we know of where nobody may list it, as long as it has not been deleted."""
        found: dict[str, Manifest] = {}
        lists = writes.at_once([functools.partial(self._list, kind, namespace) for kind, namespace in self._places])
        for (kind, namespace), answer in zip(self._places, lists, strict=True):
            if isinstance(answer, Exception):
                self.errors.append(f"{kind.resource} in {namespace} could not be listed: {answer}")
                known = self._known.items()
                found |= {
                    name: manifest
                    for name, manifest in known
                    if manifest["kind"] == kind.name and manifest["metadata"]["namespace"] == namespace and name not in self._asked
                }
            else:
                found |= {name_of(manifest): manifest for manifest in answer}
        return found

    def _list(self, kind: Kind, namespace: str) -> list[Manifest]:
        return writes.listed(self._cluster, kind, namespace, f"{RUN_LABEL}={self._run}")

    def _delete(self, manifest: Manifest) -> None:
        grace = GRACE if manifest["kind"] == POD.name else None
        writes.delete(self._cluster, manifest, grace=grace)
        self._asked.add(name_of(manifest))


def clear(
    cluster: Cluster, run: str, places: Sequence[Place], *, known: Sequence[Manifest] = (), deadline: Deadline
) -> tuple[tuple[str, ...], Left]:
    """Remove everything that carries the label of a run, and look until it is gone; it never raises.

    Args:
        cluster: where.
        run: the id of the run.
        places: the kinds, and the namespace of each, to look at.
        known: what the run knows to have created, for places that may not be listed.
        deadline: what is there by then is left; a request that is under way then may still take its own time.

    Returns:
        What was removed, and what is left.
    """
    clearing = _Clearing(cluster, run, places, known)
    if until(clearing.step, every=_LOOK, deadline=deadline):
        return tuple(sorted(clearing.seen)), Left()
    why = "; ".join(dict.fromkeys(clearing.errors)) or f"still there {deadline.seconds:g} s after it was deleted"
    left = Left(objects=tuple(sorted(clearing.remaining)), command=command(run, places), because=why)
    return tuple(sorted(set(clearing.seen) - set(clearing.remaining))), left


# --- runs that are over ---


def sweep(cluster: Cluster, namespaces: Sequence[str], *, run: str | None = None, deadline: Deadline) -> Swept:
    """Remove what runs that are over have left; it never raises and never touches a run that is alive.

    A run is over when its Lease is gone, is somebody else's, or has expired. Where it is about to expire, that is waited for;
    a Lease that is renewed meanwhile belongs to a live run.

    Args:
        cluster: where.
        namespaces: where to look.
        run: the id of one run; None for all.
        deadline: for all of it.
    """
    sweeping = _Sweeping(cluster, list(dict.fromkeys(namespaces)), run, deadline)
    runs = sweeping.find()
    for found, home in runs:
        sweeping.remove(found, home)
    return Swept(removed=tuple(sweeping.removed), left=tuple(sweeping.left), unseen=tuple(sweeping.unseen))


class _Sweeping:
    def __init__(self, cluster: Cluster, namespaces: Sequence[str], run: str | None, deadline: Deadline) -> None:
        self._cluster = cluster
        self._namespaces = namespaces
        self._selector = f"{RUN_LABEL}={run}" if run else RUN_LABEL
        self._run = run
        self._deadline = deadline
        self._clock = ServerClock()
        self._places: list[Place] = []
        self._objects: dict[tuple[str, str], list[str]] = {}
        self.removed: list[str] = []
        self.left: list[Left] = []
        self.unseen: list[str] = []

    def find(self) -> list[tuple[str, str]]:
        """The runs that have something here, each with the namespace of its Lease."""
        asked = [(kind, namespace) for namespace in self._namespaces for kind in SWEPT]
        lists = writes.at_once(
            [functools.partial(writes.listed, self._cluster, kind, namespace, self._selector) for kind, namespace in asked]
        )
        found: list[Manifest] = []
        for (kind, namespace), answer in zip(asked, lists, strict=True):
            if isinstance(answer, Exception):
                self.unseen.append(f"{kind.resource} in {namespace}: {answer}")
            else:
                self._places.append((kind, namespace))
                found += answer
        self._group(found)
        for namespace in self._namespaces:
            self._find_lease(namespace)
        return list(self._objects)

    def _group(self, found: Sequence[Manifest]) -> None:
        """Run by run, with the namespace of its Lease: what an object does not say itself, another of the same run does."""
        homes: dict[str, str] = {}
        for manifest in found:
            said = (manifest["metadata"].get("annotations") or {}).get(HOME_ANNOTATION)
            if said:
                homes.setdefault(manifest["metadata"]["labels"][RUN_LABEL], said)
        for manifest in found:
            run = manifest["metadata"]["labels"][RUN_LABEL]
            home = homes.get(run, manifest["metadata"]["namespace"])
            self._objects.setdefault((run, home), []).append(name_of(manifest))

    def _find_lease(self, namespace: str) -> None:
        """A run that was killed right after it took its Lease has left nothing else."""
        try:
            seen = lease.look(self._cluster, namespace, self._clock)
        except WriteError as error:
            self.unseen.append(f"the Lease {lease.NAME} in {namespace}: {error}")
            return
        if seen is not None and seen.holder.run and self._run in (None, seen.holder.run):
            self._objects.setdefault((seen.holder.run, namespace), [])

    def remove(self, run: str, home: str) -> None:
        """Remove what one run has left, if it is over."""
        alive = self._alive(run, home)
        if alive:
            names = self._objects[run, home] or [f"{LEASE.name}/{home}/{lease.NAME}"]
            self.left.append(Left(objects=tuple(sorted(names)), because=alive))
            return
        if not self._objects[run, home]:
            return
        removed, left = clear(self._cluster, run, self._places, deadline=self._deadline.within(_CLEARING))
        self.removed += removed
        if left.because:
            self.left.append(left)

    def _alive(self, run: str, home: str) -> str:
        """Why the run may not be touched; empty once it is over. Its expired Lease is deleted first: from then on it cannot go on."""
        first: list[float] = []

        def ask() -> str | None:
            try:
                seen = lease.look(self._cluster, home, self._clock)
                if seen is None or seen.holder.run != run:
                    return ""
                if seen.expired(self._clock.now()):
                    return self._end(seen, run, home)
            except WriteError as error:
                return f"whether run {run} is over could not be seen: {error}"
            if first and seen.expires > first[0]:
                return f"run {run} is alive: {seen.holder.who or 'somebody'} has renewed its Lease in {home} meanwhile"
            first.append(seen.expires)
            return None

        answer = until(ask, every=_LOOK * 2, deadline=self._deadline)
        if answer is None:
            return f"the Lease of run {run} in {home} had not expired after {self._deadline.seconds:g} s; try again"
        return answer

    def _end(self, seen: lease.Seen, run: str, home: str) -> str:
        try:
            writes.delete(self._cluster, seen.manifest, unchanged=True)
        except WriteError as error:
            if error.cause is Cause.CONFLICT:
                return f"run {run} is alive: it renewed its Lease in {home} at the last moment"
            raise
        self.removed.append(f"{LEASE.name}/{home}/{lease.NAME}")
        return ""
