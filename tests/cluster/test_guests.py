"""Guests on the real cluster: every trouble in a namespace of its own, the rights they need, and that nothing is left.

All visits begin at the same moment, each in its scratch namespace, and each test waits for its own: the file takes as long as
the slowest of them.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from pytest_meshready.cluster import client, permissions, writes
from pytest_meshready.cluster.client import Cluster
from pytest_meshready.cluster.writes import CONFIG_MAP
from pytest_meshready.probes import cleanup, pod
from pytest_meshready.probes.guests import Guest, GuestPod, Guests, Ready, Reason, Trouble, inspect
from pytest_meshready.probes.rights import exec_rights, rights_in
from pytest_meshready.waiting import Deadline, Deadlines, until
from tests.cluster.conftest import kubectl
from tests.cluster.door import Door
from tests.cluster.test_rights import audited

pytestmark = pytest.mark.cluster

MARK = "meshready.io/test=guests"
KINDS = "pods,jobs,configmaps,serviceaccounts,services,leases.coordination.k8s.io,authorizationpolicies.security.istio.io"


def left_in(namespace: str) -> list[str]:
    """What of any run the API server still has in a namespace; asked by kubectl and not by our own code."""
    return kubectl("get", KINDS, "-n", namespace, "-l", "meshready.io/run", "-o", "name").split()


@dataclass
class Visit:
    """One scenario: its namespace, and the guests in it."""

    namespace: str
    cluster: Cluster
    run: str = field(default_factory=lambda: uuid.uuid4().hex[:8])
    guests: Guests | None = None

    def invite(
        self, *, meshed: bool = True, image: str = pod.DEFAULT_IMAGE, changes: dict[str, Any] | None = None, **options: Any
    ) -> Guests:
        """Guests of this visit: one without a proxy, and one with it unless said otherwise; ``changes`` are made to the pods."""
        about = pod.Run(id=self.run, namespace=self.namespace, image=image)
        roles = {"outside": pod.Injection.NO, **({"inside": pod.Injection.YES} if meshed else {})}
        pods = [Guest(role=role, manifest=merged(pod.probe(about, role, injection=how), changes or {})) for role, how in roles.items()]
        objects = [pod.agent(about), pod.service_account(about)]
        self.guests = Guests(self.cluster, self.run, self.namespace, pods=pods, objects=objects, **options)
        return self.guests

    def outcome(self) -> Ready | Trouble:
        """What came of it; whatever it is, nothing may be left of it afterwards."""
        assert self.guests is not None
        return self.guests.wait()

    def ends_clean(self) -> None:
        """Remove the guests, and ask the API server."""
        assert self.guests is not None
        left = self.guests.remove()
        assert (left.objects, left.because) == ((), "")
        assert left_in(self.namespace) == []


def merged(manifest: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """A manifest with some changes; the first of several containers stands for a list."""
    result = dict(manifest)
    for key, value in changes.items():
        before = result.get(key)
        if isinstance(before, list) and isinstance(value, dict):
            result[key] = [merged(before[0], value), *before[1:]]
        else:
            result[key] = merged(before or {}, value) if isinstance(value, dict) else value
    return result


def as_account(folder: Path, namespace: str, name: str) -> Cluster:
    """The cluster as a service account sees it."""
    token = kubectl("-n", namespace, "create", "token", name).strip()
    admin = yaml.safe_load(Path(os.environ["KUBECONFIG"]).read_text(encoding="utf-8"))
    admin["users"] = [{"name": admin["users"][0]["name"], "user": {"token": token}}]
    path = folder / f"{namespace}.kubeconfig"
    path.write_text(yaml.safe_dump(admin), encoding="utf-8")
    return client.connect(path, None, Deadlines())


SCENARIOS = (
    "fine",
    "security",
    "quota",
    "limits",
    "image",
    "node",
    "sidecar",
    "least",
    "nobody",
    "held",
    "term",
    "int",
    "kill",
    "start",
    "restart",
)

DENY_EGRESS = {"podSelector": {}, "policyTypes": ["Egress"]}


def namespaces(prefix: str) -> str:
    """The manifests of all scenarios."""
    labels = {"security": {"pod-security.kubernetes.io/enforce": "restricted"}}
    key, value = MARK.split("=")
    documents: list[dict[str, Any]] = [
        {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": f"{prefix}-{name}", "labels": {key: value, **labels.get(name, {})}},
        }
        for name in SCENARIOS
    ]
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}}
    limits = {"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "small"}}
    limits["spec"] = {"limits": [{"type": "Container", "max": {"cpu": "50m"}}]}
    deny = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "default-deny"}, "spec": DENY_EGRESS}
    for name, manifest in (("quota", quota), ("limits", limits), ("sidecar", deny)):
        documents.append({**manifest, "metadata": {**manifest["metadata"], "namespace": f"{prefix}-{name}"}})  # type: ignore[dict-item]
    return yaml.safe_dump_all(documents)


@pytest.fixture(scope="module")
def visits(cluster_problem: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Visit]]:
    """All scenarios, begun at once."""
    if cluster_problem:
        pytest.skip(cluster_problem)
    prefix = f"scratch-guests-{uuid.uuid4().hex[:6]}"
    kubectl("apply", "-f", "-", stdin=namespaces(prefix))
    admin = client.connect(None, None, Deadlines())
    made = {name: Visit(f"{prefix}-{name}", admin) for name in SCENARIOS}
    try:
        prepare(made, tmp_path_factory.mktemp("accounts"))
        for visit in made.values():
            if visit.guests is not None:
                visit.guests.start()
        yield made
    finally:
        for visit in made.values():
            if visit.guests is not None:
                visit.guests.remove()
        kubectl("delete", "namespace", "--wait=false", *(visit.namespace for visit in made.values()))


def prepare(visits: dict[str, Visit], folder: Path) -> None:
    """Say who visits where."""
    visits["fine"].invite()
    visits["security"].invite()
    visits["quota"].invite(meshed=False)
    visits["limits"].invite(meshed=False)
    visits["image"].invite(meshed=False, image="docker.io/none/none:1")
    huge = {"requests": {"cpu": "1000"}, "limits": {"cpu": "1000"}}
    visits["node"].invite(meshed=False, changes={"spec": {"containers": {"resources": huge}}})
    nowhere = json.dumps({"discoveryAddress": "istiod.nowhere.invalid:15012"})
    visits["sidecar"].invite(changes={"metadata": {"annotations": {"proxy.istio.io/config": nowhere}}}, patience=20.0)
    least = visits["least"]
    needed = rights_in(least.invite(meshed=False).places, home=least.namespace)
    kubectl("apply", "-f", "-", stdin=permissions.rbac_yaml(needed, namespace=least.namespace))
    least.cluster = as_account(folder, least.namespace, permissions.ACCOUNT)
    least.invite(meshed=False)
    nobody = visits["nobody"]
    kubectl("-n", nobody.namespace, "create", "serviceaccount", "nobody")
    nobody.cluster = as_account(folder, nobody.namespace, "nobody")
    nobody.invite(meshed=False)
    visits["held"].invite(meshed=False)


@pytest.fixture(scope="module")
def held(visits: dict[str, Visit]) -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    """Processes that hold guests, by the name of their scenario; each is ready when it is returned, and none outlives the tests."""
    running = {name: hold(visits[name]) for name in ("term", "int", "kill")}

    def ready(name: str) -> subprocess.Popen[str]:
        process = running[name]
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    yield ready
    for process in running.values():
        process.kill()
        process.communicate()


def hold(visit: Visit) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.cluster.guest", visit.run, visit.namespace]
    return subprocess.Popen(command, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, text=True)


def trouble(outcome: Ready | Trouble | GuestPod) -> Trouble:
    assert isinstance(outcome, Trouble), outcome
    return outcome


def come(outcome: Ready | Trouble) -> Ready:
    assert isinstance(outcome, Ready), outcome
    return outcome


# --- ends ---


@pytest.mark.parametrize("name", ["term", "int"])
def test_ended_by_a_signal(visits: dict[str, Visit], held: Callable[[str], subprocess.Popen[str]], name: str) -> None:
    """SIGTERM and SIGINT end a process that holds guests with a clean-up; the API server has nothing left of it."""
    process = held(name)
    assert left_in(visits[name].namespace) != []
    process.send_signal(signal.SIGTERM if name == "term" else signal.SIGINT)
    output, _ = process.communicate(timeout=40)
    assert output.strip() == "left: ()"
    assert process.returncode == 130
    assert left_in(visits[name].namespace) == []


def test_ended_while_it_begins(visits: dict[str, Visit]) -> None:
    """A signal in the middle of the creation leaves nothing either."""
    visit = visits["start"]
    process = hold(visit)
    anchor = f"meshready-{visit.run}"
    assert until(lambda: writes.get(visit.cluster, CONFIG_MAP, visit.namespace, anchor), every=0.02, deadline=Deadline(20)) is not None
    process.terminate()
    output, _ = process.communicate(timeout=40)
    assert "left: ()" in output
    assert left_in(visit.namespace) == []


def test_killed_and_swept(visits: dict[str, Visit], held: Callable[[str], subprocess.Popen[str]]) -> None:
    """After SIGKILL the sweep waits until the Lease has expired and removes everything; the live run beside it is not touched."""
    killed, live = visits["kill"], visits["fine"]
    come(live.outcome())
    process = held("kill")
    process.kill()
    process.wait()
    assert left_in(killed.namespace) != []
    before = left_in(live.namespace)
    swept = cleanup.sweep(killed.cluster, [killed.namespace, live.namespace], deadline=Deadline(40))
    assert f"Pod/{killed.namespace}/meshready-{killed.run}-outside" in swept.removed
    assert left_in(killed.namespace) == []
    assert [left.because.partition(":")[0] for left in swept.left] == [f"run {live.run} is alive"]
    assert left_in(live.namespace) == before


# --- a visit as it should be ---


def test_guests_come_and_go(visits: dict[str, Visit]) -> None:
    """Both pods are ready, one of them has its proxy; one is evicted in the middle, and nothing is left."""
    visit = visits["fine"]
    ready = come(visit.outcome())
    assert ready.troubles == {}
    assert ready.without_exec is None
    assert visit.guests is not None
    assert visit.guests.lost is None
    inside, outside = ready.pods["inside"], ready.pods["outside"]
    containers = {role: names(found) for role, found in ready.pods.items()}
    assert "istio-proxy" in containers["inside"]
    assert "istio-proxy" not in containers["outside"]
    assert inside.address.count(".") == 3
    assert inspect(visit.cluster, inside) is None
    evict = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": outside.name, "namespace": outside.namespace}}
    path = f"/api/v1/namespaces/{outside.namespace}/pods/{outside.name}/eviction"
    kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(evict))
    assert trouble(inspect(visit.cluster, outside) or outside).reason in (Reason.EVICTED, Reason.GONE)
    visit.ends_clean()


def names(found: GuestPod) -> list[str]:
    spec = found.manifest["spec"]
    return [container["name"] for key in ("initContainers", "containers") for container in spec.get(key, ())]


def test_second_run_names_the_first(visits: dict[str, Visit]) -> None:
    """Two runs against one namespace meet at the Lease; when the first ends, the second begins."""
    first = visits["held"]
    come(first.outcome())
    second = Visit(first.namespace, first.cluster)
    second.invite(meshed=False, lease_patience=1.5)
    found = trouble(second.outcome())
    assert found.reason is Reason.LEASE_HELD
    assert f"run {first.run} of " in found.sentence
    third = Visit(first.namespace, first.cluster)
    third.invite(meshed=False)
    assert third.guests is not None
    third.guests.start()
    assert first.guests is not None
    first.guests.remove()
    come(third.outcome())
    third.ends_clean()


def test_least_rights_are_enough_and_all_are_used(visits: dict[str, Visit]) -> None:
    """With exactly the listed rights there is no 403, no verb is unused, no Secret is read; without exec the visit says so."""
    visit = visits["least"]
    began = time.time() - 600  # the visits of all these tests began together, and some of the others take their time
    ready = come(visit.outcome())
    assert ready.without_exec is not None
    assert ready.without_exec.reason is Reason.EXEC_FORBIDDEN
    assert "get pods/exec" in ready.without_exec.sentence
    renewed = until(lambda: renewal(visit) or None, every=0.5, deadline=Deadline(10))
    assert renewed
    visit.ends_clean()
    events = audited(f"system:serviceaccount:{visit.namespace}:{permissions.ACCOUNT}", began)
    assert [event["requestURI"] for event in events if event["responseStatus"]["code"] == 403] == []
    used = {(event["verb"], event["objectRef"]["resource"]) for event in events if "objectRef" in event}
    assert visit.guests is not None
    listed = {(right.verb, right.resource) for right in rights_in(visit.guests.places, home=visit.namespace)}
    assert listed - used == set()
    assert used - listed == {("create", "selfsubjectaccessreviews")}


def renewal(visit: Visit) -> bool:
    """Whether the Lease of a visit has been renewed."""
    spec = json.loads(kubectl("get", "lease", "meshready", "-n", visit.namespace, "-o", "json"))["spec"]
    renewed, acquired = (dt.datetime.fromisoformat(spec[key]) for key in ("renewTime", "acquireTime"))
    return renewed - acquired > dt.timedelta(seconds=2)


# --- trouble ---


def test_pod_security_refuses_istio_init(visits: dict[str, Visit]) -> None:
    """Under ``restricted`` the guest without a proxy is admitted, the meshed one is refused, and the sentence says why."""
    visit = visits["security"]
    ready = come(visit.outcome())
    assert isinstance(ready.pod("outside"), GuestPod)
    found = trouble(ready.pod("inside"))
    assert found.reason is Reason.POD_SECURITY
    assert "'restricted' is enforced" in found.sentence
    assert "without Istio's CNI plugin" in found.sentence
    visit.ends_clean()


@pytest.mark.parametrize(
    ("name", "reason", "words"),
    [
        ("quota", Reason.QUOTA, ("exceeded quota: none", "pods=0", "kubectl describe resourcequota")),
        ("limits", Reason.LIMIT_RANGE, ("maximum cpu usage per Container is 50m", "kubectl describe limitrange")),
        ("image", Reason.IMAGE, ("docker.io/none/none:1", "--mesh-probe-image")),
        ("node", Reason.UNSCHEDULABLE, ("no node fits", "Insufficient cpu")),
        ("sidecar", Reason.NETWORK_POLICY, ("did not become ready within 20 s", "NetworkPolicy default-deny", "istiod")),
        ("nobody", Reason.FORBIDDEN, ("create, delete and list configmaps, pods and serviceaccounts in", "--mesh-rbac")),
    ],
)
def test_trouble(visits: dict[str, Visit], name: str, reason: Reason, words: tuple[str, ...]) -> None:
    """Each trouble is one clear sentence with the right words, and nothing is left of the attempt."""
    visit = visits[name]
    outcome = visit.outcome()
    found = trouble(outcome.pod("inside") if isinstance(outcome, Ready) else outcome)
    assert found.reason is reason, found.sentence
    for word in words:
        assert word in found.sentence
    assert "\n" not in found.sentence
    visit.ends_clean()


def test_api_server_restarts_in_the_middle(visits: dict[str, Visit], tmp_path: Path) -> None:
    """The server is away for six seconds while the guests arrive, and again while they go: they come, and nothing is left."""
    visit = visits["restart"]
    door = Door()
    visit.cluster = client.connect(door.kubeconfig(tmp_path), None, Deadlines(request=3.0))
    guests = visit.invite(meshed=False)
    guests.start()
    assert until(lambda: left_in(visit.namespace) or None, every=0.1, deadline=Deadline(20))
    away(door)
    ready = come(visit.outcome())
    assert visit.guests is not None
    assert visit.guests.lost is None
    assert isinstance(ready.pod("outside"), GuestPod)
    away(door)
    visit.ends_clean()
    door.shut()


def away(door: Door) -> None:
    """The server goes, and comes back after six seconds."""
    door.shut()
    threading.Timer(6.0, door.open).start()


def test_namespace_that_does_not_exist(visits: dict[str, Visit]) -> None:
    """A namespace that is not there is named."""
    visit = Visit("scratch-guests-none-such", visits["fine"].cluster)
    visit.invite(meshed=False)
    found = trouble(visit.outcome())
    assert found.reason is Reason.NO_NAMESPACE
    assert "there is no namespace scratch-guests-none-such" in found.sentence


def test_exec_rights_of_this_server(visits: dict[str, Visit]) -> None:
    """The verbs that an exec needs follow from the version that the server tells (checks.md B7)."""
    version = visits["fine"].cluster.get("/version").json()["gitVersion"]
    verbs = [right.verb for right in exec_rights(["payments"], version)]
    assert verbs == (["get"] if version < "v1.35" else ["create", "get"])
