"""``istioctl analyze`` is a floor: each of its errors is found by a rule of ours, about the same object.

What istioctl 1.31 said lies in ``tests/data/analyze``, recorded by ``python -m tests.cluster.peer``: of a file for each of its
error codes, put beside the healthy shop, and of each planted fault. Our rules look at the same: the recorded healthy shop with
the objects of the file, and the recorded snapshot of the fault.
"""

from __future__ import annotations

import functools
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pytest_meshready.cluster import analyze
from pytest_meshready.cluster import snapshot as snapshots
from pytest_meshready.cluster.snapshot import Snapshot
from pytest_meshready.istio import analysis, injection, sidecars, termination
from pytest_meshready.results import Finding, Level
from tests.unit import written

DATA = Path(__file__).parents[1] / "data"
FILES = sorted((DATA / "analyze").glob("ist*.yaml"))
FAULTS: dict[str, Any] = json.loads((DATA / "analyze/faults.json").read_text(encoding="utf-8"))
WRONG = sorted(name for name, said in FAULTS.items() if any(message["level"] == "Error" for message in said["messages"]))

#: The rules of the lines that `EQUIVALENTS` names.
RULES = (
    analysis.configuration_sound,
    injection.injection_by_label,
    functools.partial(sidecars.exactly_one_sidecar, allowed=frozenset()),
    termination.tls_terminated,
)


@functools.cache
def healthy() -> Snapshot:
    return snapshots.load(DATA / "shop.json")


def with_objects(text: str) -> Snapshot:
    """The healthy shop with these objects; one of the same name is replaced."""
    fields = {}
    for key, items in written.objects(text).items():
        names = {(item.metadata.namespace, item.metadata.name) for item in items}
        fields[key] = (*(item for item in getattr(healthy(), key) if (item.metadata.namespace, item.metadata.name) not in names), *items)
    return msgspec.structs.replace(healthy(), **fields)


def errors(snapshot: Snapshot) -> list[Finding]:
    """What our own rules call an error; what istioctl said of the snapshot is no rule of ours."""
    alone = msgspec.structs.replace(snapshot, istioctl=None)
    return [finding for rule in RULES for finding in rule(alone).findings if finding.level is Level.ERROR]


def missed(messages: list[dict[str, str]], found: list[Finding]) -> list[str]:
    """The errors of istioctl about an object that no finding of ours is about.

    Of two objects that are in each other's way istioctl names both; ours is about one of them and names the other. Of a Gateway
    and its Secret istioctl names the Gateway; ours is about the Secret, and names the Gateway.
    """
    texts = [f"{item.object.kind} {item.object.name}: {item.found}" for item in found]
    left = []
    for message in messages:
        kind, _, place = message["origin"].partition(" ")
        name = place.rpartition("/")[2]
        if message["level"] == "Error" and not any(kind in text and name in text for text in texts):
            left.append(f"{message['code']} {message['origin']}: {message['message']}")
    return left


def said_of(path: Path) -> list[dict[str, str]]:
    said: list[dict[str, str]] = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    return said


def test_the_healthy_shop_has_no_error() -> None:
    """Else the tests below would prove nothing."""
    assert errors(healthy()) == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_errors_of_files(path: Path) -> None:
    """Each file brings about the error that it is named after, and ours is about the same object."""
    said = said_of(path)
    assert path.stem.upper() in {message["code"] for message in said if message["level"] == "Error"}
    assert missed(said, errors(with_objects(path.read_text(encoding="utf-8")))) == []


@pytest.mark.parametrize("name", WRONG)
def test_errors_of_faults(name: str) -> None:
    """The same of the faults that are planted in a real cluster."""
    recorded = snapshots.load(DATA / "faults" / f"{name}.json")
    assert missed(FAULTS[name]["messages"], errors(recorded)) == []


def test_every_error_code_was_brought_about() -> None:
    """By a file or by a fault; else the claim that we have a rule for it would be unproved."""
    said = [message for path in FILES for message in said_of(path)] + [message for name in WRONG for message in FAULTS[name]["messages"]]
    assert set(analysis.EQUIVALENTS) - {message["code"] for message in said if message["level"] == "Error"} == set()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_istioctl_says_so_of_the_file_alone(path: Path) -> None:
    """Where istioctl is installed: what it can tell without a cluster is what was recorded with one."""
    if shutil.which("istioctl") is None:
        pytest.skip("istioctl is not on the PATH")
    command = ["istioctl", "analyze", "--use-kube=false", "--namespace=payments", "--output=json", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    found = analyze.messages(done.stdout)
    assert found is not None, done.stderr
    recorded = {(message["code"], message["origin"].replace("$NS", "payments")) for message in said_of(path)}
    assert {(item.code, item.origin) for item in found if item.level == "Error"} <= recorded
