"""What Prometheus counted, asked by the owner and read by every process of the run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_meshready import measuring
from pytest_meshready.cluster import client
from pytest_meshready.configuration import Backend
from pytest_meshready.measuring import Measured, Measuring
from pytest_meshready.waiting import Deadlines
from tests.unit import apiserver
from tests.unit import builders as make
from tests.unit.apiserver import Api

EMPTY = json.dumps({"status": "success", "data": {"resultType": "vector", "result": []}}).encode()
PROMETHEUS = make.service("prometheus", namespace=make.ISTIO, ports=(("http", 9090),))


@pytest.fixture
def api() -> Iterator[Api]:
    with apiserver.serving() as running:
        running.trouble = lambda request: (200, {"Content-Type": "application/json"}, EMPTY) if "/proxy/" in request.path else None
        yield running


def owner(api: Api, folder: Path, *, found: bool = True, backend: Backend | None = None) -> Measuring:
    """The owner's part, with or without a Prometheus in the mesh."""
    snapshot = make.snapshot(services=(PROMETHEUS,) if found else ())
    cluster = client.connect(api.kubeconfig(folder), None, Deadlines(request=2.0))
    return Measuring(cluster, snapshot, backend or Backend(), folder)


def seen(folder: Path) -> Measured:
    return measuring.seen(folder, 5.0, lambda _: None)


def asked(api: Api) -> list[str]:
    return [request.path for request in api.requests if "/proxy/" in request.path]


def test_asked_once_for_all(api: Api, tmp_path: Path) -> None:
    """Whoever reads gets the same answer, and Prometheus is asked for each query once."""
    measuring_ = owner(api, tmp_path)
    measuring_.start(wanted=True)
    measuring_.settle()
    count = len(asked(api))
    assert seen(tmp_path) == seen(tmp_path) == Measured()
    assert (len(asked(api)), count > 0) == (count, True)


def test_not_asked_before_somebody_wants_it(api: Api, tmp_path: Path) -> None:
    """A run whose lines measure nothing asks nothing; a team's test that wants to know is answered all the same."""
    measuring_ = owner(api, tmp_path)
    measuring_.start(wanted=False)
    measuring_.settle()
    assert asked(api) == []
    assert seen(tmp_path) == Measured()
    assert asked(api) != []


def test_no_prometheus(api: Api, tmp_path: Path) -> None:
    """Where none is found everything is unknown, with the sentence that says so."""
    measuring_ = owner(api, tmp_path, found=False)
    measuring_.start(wanted=True)
    assert [item.reason[:27] for item in seen(tmp_path).unknown] == ["no Prometheus was found: no"]
    assert measuring_.calls() is None


def test_address_of_the_team(api: Api, tmp_path: Path) -> None:
    """An address in meshready.toml is asked instead of what is in the mesh."""
    measuring_ = owner(api, tmp_path, backend=Backend(url="http://127.0.0.1:9"))
    measuring_.start(wanted=True)
    assert "http://127.0.0.1:9 gave no answer" in seen(tmp_path).unknown[0].reason
    assert asked(api) == []
    measuring_.stop()
