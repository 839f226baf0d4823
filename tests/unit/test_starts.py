"""Pairs of pods that are started to be timed: one pair after the other, on one node, and gone afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from pytest_meshready.cluster import writes
from pytest_meshready.probes import pod
from pytest_meshready.probes.starts import Starter
from pytest_meshready.waiting import Deadline
from tests.unit import kubeapi

RUN = pod.Run(id="3f2a9c01", namespace="payments")


@pytest.fixture
def api() -> Iterator[kubeapi.Api]:
    with kubeapi.serving() as serving:
        yield serving


def starter(api: kubeapi.Api, *, refused: str = "", stopped: bool = False) -> Starter:
    """A starter whose pods are made directly; ``refused`` is what is said of a pod whose name contains it."""
    cluster = api.cluster()

    def create(manifest: writes.Manifest) -> str:
        if refused and refused in manifest["metadata"]["name"]:
            return "the quota is exhausted"
        writes.create(cluster, manifest)
        return ""

    return Starter(cluster=cluster, run=RUN, node="node-1", create=create, stopped=lambda: stopped)


def test_pairs(api: kubeapi.Api) -> None:
    """Each pair has one pod as the namespace's own and one without a proxy, is gone before the next, and none is left."""
    most: list[int] = []

    def ready(manifest: Any) -> Any:
        most.append(len(api.names()))
        return kubeapi.ready(manifest)

    api.pod = ready
    starts = starter(api).pairs(3, Deadline(10.0))
    assert [len(starts.meshed), len(starts.plain), starts.trouble] == [3, 3, ""]
    assert [manifest["metadata"]["labels"].get("sidecar.istio.io/inject", "") for manifest in starts.meshed] == [""] * 3
    assert {manifest["metadata"]["labels"]["sidecar.istio.io/inject"] for manifest in starts.plain} == {"false"}
    assert max(most) == 2
    assert api.names() == []


def test_refused_pod_ends_the_comparison(api: kubeapi.Api) -> None:
    """The sentence says why, what was started before is kept, and nothing stays."""
    starts = starter(api, refused="start-2").pairs(3, Deadline(10.0))
    assert (len(starts.meshed), starts.trouble) == (1, "the quota is exhausted")
    assert api.names() == []


def test_pod_that_never_becomes_ready(api: kubeapi.Api) -> None:
    """The deadline ends the waiting, and the sentence names the pod."""
    api.pod = lambda _: {"phase": "Pending"}
    starts = starter(api).pairs(3, Deadline(1.0))
    assert starts.meshed == ()
    assert "meshready-3f2a9c01-start-1" in starts.trouble
    assert api.names() == []


def test_run_that_ends(api: kubeapi.Api) -> None:
    """What was begun goes with the run."""
    assert starter(api, stopped=True).pairs(3, Deadline(10.0)).trouble == "the run ended before"
