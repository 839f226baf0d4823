"""Pods that are started only to see how long that takes: pairs with and without a proxy, one pair after the other.

They run on the node of a guest that is there already, so that no image has to be pulled, and each pair is gone before the next
one comes: a namespace never holds more than two of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Any

import msgspec

from pytest_meshready.cluster import writes
from pytest_meshready.cluster.client import Cluster
from pytest_meshready.cluster.writes import Manifest, WriteError
from pytest_meshready.probes import pod
from pytest_meshready.probes.arrivals import Guest, Watch
from pytest_meshready.probes.cleanup import GRACE
from pytest_meshready.waiting import Deadline, until

#: Seconds between two looks at a pair.
_LOOK = 0.5

_MESHED, _PLAIN = "start", "start-plain"


class Starts(msgspec.Struct, frozen=True, kw_only=True):
    """The pods that were started, as the API server had them once they were ready; ``trouble`` is why there are not more."""

    meshed: tuple[dict[str, Any], ...] = ()
    plain: tuple[dict[str, Any], ...] = ()
    trouble: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Starter:
    """Starts pairs of pods.

    Attributes:
        cluster: where.
        run: whose pods they are.
        node: the node of all of them.
        create: makes one object of the run; what it returns is the sentence of why it could not, or nothing.
        stopped: tells that the run ends.
    """

    cluster: Cluster
    run: pod.Run
    node: str
    create: Callable[[Manifest], str]
    stopped: Callable[[], bool]

    def pairs(self, count: int, deadline: Deadline) -> Starts:
        """Start so many pairs and look until each is ready; the deadline is for all of them together."""
        found: dict[str, list[dict[str, Any]]] = {_MESHED: [], _PLAIN: []}
        trouble = ""
        for number in range(1, count + 1):
            ready, trouble = self._pair(number, deadline)
            for role, manifest in ready.items():
                found[role].append(manifest)
            if trouble:
                break
        return Starts(meshed=tuple(found[_MESHED]), plain=tuple(found[_PLAIN]), trouble=trouble)

    def _pair(self, number: int, deadline: Deadline) -> tuple[dict[str, dict[str, Any]], str]:
        """The pods of one pair that became ready, by their role, and the sentence of what did not."""
        kinds = {_MESHED: pod.Injection.AS_NAMESPACE, _PLAIN: pod.Injection.NO}
        guests = [
            Guest(role=role, manifest=pod.probe(self.run, f"{role}-{number}", injection=kind, node=self.node))
            for role, kind in kinds.items()
        ]
        began = monotonic()
        troubles = [said for guest in guests if (said := self.create(guest.manifest))]
        ready: dict[str, dict[str, Any]] = {}
        if not troubles:
            watch = Watch(self.cluster, self.run.id, guests, deadline, began)
            until(lambda: True if self.stopped() else watch.look(), every=_LOOK, deadline=deadline)
            if self.stopped():
                return {}, "the run ended before"
            watch.finish()
            ready = {role: guest.manifest for role, guest in watch.ready.items()}
            troubles = [trouble.sentence for trouble in watch.troubles.values()]
        for guest in guests:
            self._dismiss(guest.manifest)
        return ready, "; ".join(dict.fromkeys(troubles))

    def _dismiss(self, manifest: Manifest) -> None:
        """Delete a pod whose work is done; what does not go now goes with the run."""
        try:
            writes.delete(self.cluster, manifest, grace=GRACE)
        except WriteError:
            return
