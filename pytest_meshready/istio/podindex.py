"""The pods of the namespace, found by labels that a selector wants, without trying each."""

from __future__ import annotations

from collections.abc import Mapping

from pytest_meshready.cluster.objects import Pod
from pytest_meshready.cluster.snapshot import Snapshot, in_namespace
from pytest_meshready.istio.dataplane import counted


class PodIndex:
    """Pods that take part in the mesh today, by their labels.

    A thousand Services times ten thousand pods would be ten million comparisons; here a selector looks at the pods that
    carry its rarest label.
    """

    def __init__(self, snapshot: Snapshot, namespace: str) -> None:
        self.all: list[Pod] = [pod for pod in in_namespace(snapshot.pods, namespace) if counted(pod)]
        self._by_label: dict[tuple[str, str], list[Pod]] = {}
        for pod in self.all:
            for pair in pod.metadata.labels.items():
                self._by_label.setdefault(pair, []).append(pod)

    def select(self, labels: Mapping[str, str]) -> list[Pod]:
        """The pods that carry all of these labels; all pods where there are none."""
        if not labels:
            return self.all
        rarest = min((self._by_label.get(pair, []) for pair in labels.items()), key=len)
        if len(labels) == 1:
            return rarest
        return [pod for pod in rarest if labels.items() <= pod.metadata.labels.items()]
