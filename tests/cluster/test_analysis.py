"""Line 3.2.4 with istioctl on the PATH: its messages stand beside our findings, and it does nothing that this run may not do."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import faults
from tests.cluster.conftest import HEALTHY, Result, checklist, kubectl
from tests.cluster.test_rights import ACCOUNT, as_account, audited

LINE = "3.2.4"
OPTIONS = (f"--mesh-namespace={HEALTHY}", "--mesh-phase=hardened", "--mesh-read-only")

pytestmark = pytest.mark.cluster


@pytest.fixture(autouse=True)
def istioctl() -> None:
    if shutil.which("istioctl") is None:
        pytest.skip("istioctl is not on the PATH")


def beside(folder: Path, *options: str) -> Result:
    """A run with the PATH of these tests, on which istioctl lies."""
    return checklist(folder, *options, env={"PATH": os.environ["PATH"]})


def by_istioctl(since: float) -> list[str]:
    """What istioctl asked the API server for."""
    return [event["requestURI"] for event in audited("admin", since) if event.get("userAgent", "").startswith("istioctl/")]


def told(item: dict[str, Any]) -> Any:
    """What the report shows of istioctl itself."""
    return next(evidence for evidence in item["evidence"] if evidence["source"].startswith("istioctl analyze"))


def test_the_healthy_shop_passes(tmp_path: Path) -> None:
    """It has looked for the Secrets of gateways, which no run of ours does by itself; all of it within five seconds."""
    began = time.time()
    result = beside(tmp_path, *OPTIONS, f"--mesh-save-snapshot={tmp_path / 'shop.json'}")
    took = time.time() - began
    item = result.items[LINE]
    assert (item["status"], told(item)["data"]) == ("passed", []), item
    assert item["reason"].endswith("istioctl analyze reports nothing")
    assert json.loads((tmp_path / "shop.json").read_text(encoding="utf-8"))["istioctl"] == {}
    assert took < 5
    assert by_istioctl(began) != []


def test_no_other_cluster_is_entered(tmp_path: Path) -> None:
    """The credentials of other clusters of a mesh lie in Secrets with a label; they are not asked for."""
    began = time.time()
    beside(tmp_path, *OPTIONS, f"--mesh-items={LINE}")
    asked = by_istioctl(began)
    assert any("/secrets" in uri for uri in asked)
    assert [uri for uri in asked if "multiCluster" in uri] == []


@pytest.mark.parametrize("option", ["--mesh-items=4.2", "--mesh-phase=pre"])
def test_it_is_run_for_its_line_alone(tmp_path: Path, option: str) -> None:
    """Not where the line is not selected, and not in a phase to which it does not belong."""
    began = time.time()
    beside(tmp_path, f"--mesh-namespace={HEALTHY}", "--mesh-read-only", option)
    assert by_istioctl(began) == []


@pytest.fixture
def broken() -> Iterator[str]:
    """A route to a host that does not exist, in a copy of the shop."""
    fault = next(fault for fault in faults.read() if fault.name == "route-to-missing-host")
    fault.plant("on")
    yield fault.namespace
    fault.plant("off")


def test_both_name_the_fault(broken: str, tmp_path: Path) -> None:
    """Our finding fails the line, istioctl's stands beside it; the saved snapshot says the same in a replay."""
    saved = tmp_path / "broken.json"
    options = ("--mesh-phase=hardened", "--mesh-read-only", f"--mesh-items={LINE}")
    live = beside(tmp_path, f"--mesh-namespace={broken}", *options, f"--mesh-save-snapshot={saved}").items[LINE]
    assert live["status"] == "failed"
    about = {"kind": "VirtualService", "namespace": broken, "name": "ledger"}
    said = {finding["code"]: (finding["severity"], finding["object"]) for finding in live["findings"]}
    assert said["MR324-HOST-MISSING"] == ("error", about)
    assert said["MR324-IST0101"] == ("info", about)
    assert [row["code"] for row in told(live)["data"]] == ["IST0101"]
    replay = checklist(tmp_path, f"--mesh-snapshot={saved}", *options).items[LINE]
    assert (replay["status"], replay["findings"]) == (live["status"], live["findings"])


@pytest.fixture
def least() -> Iterator[None]:
    """The rights that ``--mesh-rbac`` prints."""
    command = [sys.executable, "-m", "pytest", *OPTIONS, "--mesh-rbac=-"]
    text = subprocess.run(command, capture_output=True, text=True, check=True, cwd="/", timeout=60).stdout
    kubectl("apply", "-f", "-", stdin=text)
    yield
    kubectl("delete", "--ignore-not-found", "-f", "-", stdin=text)


@pytest.mark.usefixtures("least")
def test_the_account_of_rbac_does_not_run_it(tmp_path: Path) -> None:
    """It may not list Secrets: that is asked for and not tried, so there is no 403, and the report says why it was not run."""
    began = time.time()
    result = beside(tmp_path, as_account(tmp_path, HEALTHY, "meshready"), *OPTIONS)
    events = audited(ACCOUNT, began)
    assert [event["requestURI"] for event in events if event["responseStatus"]["code"] == 403] == []
    assert [event["requestURI"] for event in events if event.get("objectRef", {}).get("resource") == "secrets"] == []
    assert [event for event in events if event.get("userAgent", "").startswith("istioctl/")] == []
    said = told(result.items[LINE])["text"]
    assert said == "istioctl analyze was not run: it needs a right that is missing: list secrets in all namespaces"
    assert result.readiness["not_permitted"] == []
