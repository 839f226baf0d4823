"""The arrival of guests: who is ready, who is in trouble, and what a worker gets to know of it."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any

import msgspec

from pytest_meshready.cluster import writes
from pytest_meshready.cluster.client import Cluster
from pytest_meshready.cluster.writes import POD, Manifest, WriteError
from pytest_meshready.probes import cleanup, diagnosis
from pytest_meshready.probes.pod import RUN_LABEL
from pytest_meshready.probes.trouble import Reason, Trouble
from pytest_meshready.waiting import Deadline


@dataclass(frozen=True, slots=True, kw_only=True)
class Guest:
    """A pod that shall visit: what it is for (``inside``, ``outside``), and its whole manifest with name and namespace."""

    role: str
    manifest: Manifest


class GuestPod(msgspec.Struct, frozen=True, kw_only=True):
    """A pod of ours that is ready; ``seconds`` from its creation until then, ``manifest`` as the API server has it."""

    role: str
    namespace: str
    name: str
    uid: str
    address: str
    node: str
    seconds: float
    manifest: dict[str, Any]


class Ready(msgspec.Struct, frozen=True, kw_only=True, tag="ready"):
    """The guests that are there, by their role, and the trouble with each of the others.

    ``anchors`` has the ``uid`` of the run's anchor in each namespace. ``without_exec`` tells that nothing may be executed in
    pods. ``leftovers`` are earlier runs that left something here.
    """

    run: str
    namespace: str
    pods: dict[str, GuestPod]
    troubles: dict[str, Trouble]
    anchors: dict[str, str]
    without_exec: Trouble | None = None
    leftovers: tuple[str, ...] = ()

    def pod(self, role: str) -> GuestPod | Trouble:
        """The guest of a role, or why it is not there."""
        if role in self.pods:
            return self.pods[role]
        return self.troubles.get(role) or Trouble(reason=Reason.NOT_READY, sentence=f"this run has no probe pod {role!r}")


Outcome = Ready | Trouble


def describe(outcome: Outcome) -> dict[str, Any]:
    """An outcome as plain data, for xdist's workers."""
    plain: dict[str, Any] = msgspec.to_builtins(outcome)
    return plain


def described(plain: Mapping[str, Any]) -> Outcome:
    """The outcome that `describe` made plain."""
    return msgspec.convert(dict(plain), Ready | Trouble)


# --- the watch ---


class Watch:
    """Looks at the pods of a run, one list for each namespace, until each is ready or in trouble."""

    def __init__(self, cluster: Cluster, run: str, guests: Sequence[Guest], deadline: Deadline, started: float) -> None:
        self._cluster = cluster
        self._run = run
        self._guests = guests
        self._deadline = deadline
        self._started = started
        self._last: dict[str, Manifest] = {}
        self._ailing: dict[tuple[str, Reason], Deadline] = {}
        self._doubts: dict[str, Trouble] = {}
        self._unanswered = ""
        self.ready: dict[str, GuestPod] = {}
        self.troubles: dict[str, Trouble] = {}

    def look(self) -> bool | None:
        """Look once; True when everything is decided."""
        waiting = [guest for guest in self._guests if guest.role not in self.ready and guest.role not in self.troubles]
        if not waiting:
            return True
        namespaces = list(dict.fromkeys(guest.manifest["metadata"]["namespace"] for guest in waiting))
        selector = f"{RUN_LABEL}={self._run}"
        lists = writes.at_once([functools.partial(writes.listed, self._cluster, POD, namespace, selector) for namespace in namespaces])
        found: dict[str, Manifest] = {}
        seen: set[str] = set()
        for namespace, answer in zip(namespaces, lists, strict=True):
            if isinstance(answer, WriteError):
                self._unanswered = str(answer)  # the API server may be restarting: look again
            elif isinstance(answer, Exception):
                raise answer
            else:
                seen.add(namespace)
                found |= {cleanup.name_of(pod): pod for pod in answer}
        for guest in waiting:
            if guest.manifest["metadata"]["namespace"] in seen:
                self._decide(guest, found.get(cleanup.name_of(guest.manifest)))
        return True if len(self.ready) + len(self.troubles) == len(self._guests) else None

    def _decide(self, guest: Guest, pod: Manifest | None) -> None:
        if pod is None:
            name = f"probe pod {guest.manifest['metadata']['namespace']}/{guest.manifest['metadata']['name']}"
            self.troubles[guest.role] = Trouble(reason=Reason.GONE, sentence=f"{name} was deleted by somebody else while it started")
            return
        self._last[guest.role] = pod
        state = diagnosis.diagnose(pod)
        if state.ready:
            self.ready[guest.role] = _guest_pod(guest.role, pod, monotonic() - self._started)
        elif state.trouble is not None:
            self._doubts[guest.role] = state.trouble
            since = self._ailing.setdefault((guest.role, state.trouble.reason), Deadline(state.patience))
            if state.patience == 0 or since.passed:
                self.troubles[guest.role] = state.trouble

    def finish(self) -> None:
        """Say of every pod that is still not ready why it is not."""
        late = [guest for guest in self._guests if guest.role not in self.ready and guest.role not in self.troubles]
        for guest in late:
            doubt = self._doubts.get(guest.role)
            if doubt is None or guest.role not in self._last:
                why = self._unanswered or "it was never seen"
                self.troubles[guest.role] = Trouble(reason=Reason.UNREACHABLE, sentence=f"the probe pods could not be looked at: {why}")
            else:
                seconds = self._deadline.seconds
                self.troubles[guest.role] = diagnosis.explain(self._cluster, doubt, self._last[guest.role], seconds=seconds)


def _guest_pod(role: str, pod: Manifest, seconds: float) -> GuestPod:
    metadata = {key: value for key, value in pod["metadata"].items() if key != "managedFields"}
    status, spec = pod.get("status") or {}, pod.get("spec") or {}
    return GuestPod(
        role=role,
        namespace=str(metadata["namespace"]),
        name=str(metadata["name"]),
        uid=str(metadata.get("uid", "")),
        address=str(status.get("podIP") or ""),
        node=str(spec.get("nodeName") or ""),
        seconds=round(seconds, 2),
        manifest={**pod, "metadata": metadata},
    )


def inspect(cluster: Cluster, pod: GuestPod) -> Trouble | None:
    """What became of a guest that stopped answering: evicted, deleted, crashed; None while it is ready."""
    name = f"probe pod {pod.namespace}/{pod.name}"
    try:
        found = writes.listed(cluster, POD, pod.namespace, f"{RUN_LABEL}={pod.manifest['metadata']['labels'][RUN_LABEL]}")
    except WriteError as error:
        return Trouble(reason=Reason.UNREACHABLE, sentence=f"{name} could not be looked at: {error}")
    for manifest in found:
        if manifest["metadata"].get("uid") == pod.uid:
            return diagnosis.diagnose(manifest).trouble
    return Trouble(reason=Reason.GONE, sentence=f"{name} is gone: it was evicted or deleted by somebody else in the middle of the run")
