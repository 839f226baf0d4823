"""Rights, on the real cluster: what `--mesh-rbac` prints is enough and all of it is used; without any, every line says so."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.conftest import HEALTHY, checklist, kubectl

NAMESPACE = "meshready-rights"
ACCOUNT = f"system:serviceaccount:{HEALTHY}:meshready"
NOBODY = f"system:serviceaccount:{NAMESPACE}:nobody"

pytestmark = pytest.mark.cluster


MODES = {"read-only": ("--mesh-read-only",), "live": ()}


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest) -> str:
    """With and without probes."""
    return str(request.param)


@pytest.fixture
def rights(mode: str) -> Iterator[str]:
    """Apply what ``--mesh-rbac=-`` prints; take it away afterwards."""
    options = (f"--mesh-namespace={HEALTHY}", "--mesh-phase=hardened", *MODES[mode])
    command = [sys.executable, "-m", "pytest", *options, "--mesh-rbac=-"]
    text = subprocess.run(command, capture_output=True, text=True, check=True, cwd="/", timeout=60).stdout
    kubectl("apply", "-f", "-", stdin=text)
    yield text
    kubectl("delete", "--ignore-not-found", "-f", "-", stdin=text)


@pytest.fixture
def nobody() -> Iterator[None]:
    """A service account without a single right."""
    kubectl("create", "namespace", NAMESPACE)
    kubectl("-n", NAMESPACE, "create", "serviceaccount", "nobody")
    yield
    kubectl("delete", "namespace", NAMESPACE)


def as_account(folder: Path, namespace: str, name: str) -> str:
    """A kubeconfig for a service account, as option."""
    token = kubectl("-n", namespace, "create", "token", name).strip()
    admin = yaml.safe_load(Path(os.environ["KUBECONFIG"]).read_text(encoding="utf-8"))
    admin["users"] = [{"name": admin["users"][0]["name"], "user": {"token": token}}]
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump(admin), encoding="utf-8")
    return f"--mesh-kubeconfig={path}"


def audited(user: str, since: float) -> list[dict[str, Any]]:
    """What the API server wrote down of this user's requests."""
    log = Path(os.environ["KUBECONFIG"]).parents[1] / "log/audit.log"
    time.sleep(2)  # the log is written behind the answers
    events = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines() if f'"{user}"' in line]
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(since - 1))
    return [event for event in events if event["user"]["username"] == user and event["requestReceivedTimestamp"] >= stamp]


def test_printed_rights_are_enough_and_none_is_unused(rights: str, mode: str, tmp_path: Path) -> None:
    """Not one 403, each granted verb on each resource was used, and every line has the status that an admin sees.

    No Secret is listed, and nothing is executed in pods that are not this run's.
    """
    began = time.time()
    options = (f"--mesh-namespace={HEALTHY}", "--mesh-phase=hardened", *MODES[mode])
    least = checklist(tmp_path, as_account(tmp_path, HEALTHY, "meshready"), *options)
    events = audited(ACCOUNT, began)
    assert events, least.output
    assert [event["requestURI"] for event in events if event["responseStatus"]["code"] == 403] == []
    assert least.readiness["not_permitted"] == []
    known = [event for event in events if "objectRef" in event]
    used = {(event["verb"], _resource(event["objectRef"])) for event in known}
    roles = [document for document in yaml.safe_load_all(rights) if document["kind"] in ("Role", "ClusterRole")]
    granted = {
        (verb, resource) for role in roles for rule in role["rules"] for verb in rule["verbs"] for resource in rule.get("resources", ())
    }
    assert granted - used == set()
    assert [event["requestURI"] for event in known if event["objectRef"]["resource"] == "secrets"] == []
    entered = [event["objectRef"]["name"] for event in known if event["objectRef"].get("subresource") == "exec"]
    assert [name for name in entered if not name.startswith("meshready-")] == []
    admin = checklist(tmp_path, *options)
    assert {k: v["status"] for k, v in least.items.items()} == {k: v["status"] for k, v in admin.items.items()}


def _resource(reference: dict[str, Any]) -> str:
    """As RBAC writes it: ``pods``, ``pods/exec``."""
    return "/".join(word for word in (reference["resource"], reference.get("subresource", "")) if word)


@pytest.mark.usefixtures("nobody")
def test_without_any_right(tmp_path: Path) -> None:
    """93 lines, each that is due names a verb and a resource; exit 10."""
    option = as_account(tmp_path, NAMESPACE, "nobody")
    result = checklist(tmp_path, option, f"--mesh-namespace={HEALTHY}", "--mesh-phase=hardened", "--mesh-read-only")
    due = [item for item in result.items.values() if item["status"] != "not_due"]
    assert (len(result.items), result.code) == (93, 10)
    assert {item["status"] for item in due} == {"not_verified"}
    assert [item["id"] for item in due if "list " not in item["reason"] and "get " not in item["reason"]] == []
    assert {"verb": "list", "resource": "pods", "namespace": HEALTHY} in [
        {key: right[key] for key in ("verb", "resource", "namespace")} for right in result.readiness["not_permitted"]
    ]


def test_expired_token(tmp_path: Path) -> None:
    """Credentials that the server does not take are named as such."""
    admin = yaml.safe_load(Path(os.environ["KUBECONFIG"]).read_text(encoding="utf-8"))
    header, body = ({"alg": "RS256"}, {"exp": 1, "sub": "system:serviceaccount:default:default"})
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in (header, body)]
    admin["users"] = [{"name": admin["users"][0]["name"], "user": {"token": ".".join([*parts, "c2ln"])}}]
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(admin), encoding="utf-8")
    result = checklist(tmp_path, f"--mesh-kubeconfig={tmp_path / 'kubeconfig'}", f"--mesh-namespace={HEALTHY}", "--mesh-phase=hardened")
    assert result.code == 10
    assert "credentials" in result.items["4.2.1"]["reason"]


def test_missing_namespace(tmp_path: Path) -> None:
    """A namespace that does not exist is a usage error that names close ones."""
    result = checklist(tmp_path, "--mesh-namespace=payment", "--mesh-phase=hardened")
    assert result.code == pytest.ExitCode.USAGE_ERROR
    assert "--mesh-namespace=payment" in result.output
    assert HEALTHY in result.output
