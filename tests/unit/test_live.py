"""Snapshots of a small API server on loopback: what is read, in which order, and what is said where something is refused."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_meshready.cluster import live, objects, reader
from pytest_meshready.cluster.client import connect
from pytest_meshready.cluster.permissions import rights
from pytest_meshready.cluster.resources import ALWAYS, RESOURCES
from pytest_meshready.cluster.snapshot import ControlPlane, InjectorConfig, MeshConfig, Snapshot, Unreadable, decode, encode
from pytest_meshready.waiting import Deadline, Deadlines, skipping
from tests.unit.apiserver import TAKEN, Api, Reply, Request, serving, status, write_kubeconfig

CANARY = "s3cret-canary"
HOOKS = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"
SPACES = "/api/v1/namespaces"
ALL = frozenset(RESOURCES)


def named(name: str, namespace: str = "", **more: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": namespace, **more.pop("metadata", {})}, **more}


def hook(revision: str = "default", tag: str = "", namespace: str = "istio-system") -> dict[str, Any]:
    labels = {"istio.io/rev": revision, **({"istio.io/tag": tag} if tag else {})}
    client_config = {"service": {"namespace": namespace, "name": "istiod"}, "caBundle": CANARY}
    webhooks = [{"name": "namespace.sidecar-injector.istio.io", "clientConfig": client_config}]
    return {"metadata": {"name": f"istio-sidecar-injector-{revision}", "labels": labels}, "webhooks": webhooks}


def config_map(name: str, **data: str) -> dict[str, Any]:
    return named(name, "istio-system", data=data)


def stock(api: Api, *namespaces: str) -> None:
    """A healthy cluster with nothing but Istio in it: every list is served, most are empty."""
    api.objects["/version"] = {"gitVersion": "v1.34.4"}
    api.objects["/readyz"] = b"ok"
    api.lists[SPACES] = [
        {"metadata": {"name": "payments", "labels": {"istio-injection": "enabled"}}},
        {"metadata": {"name": "kube-system", "uid": "uid-of-the-cluster"}},
        {"metadata": {"name": "istio-system"}},
    ]
    for row in RESOURCES.values():
        api.lists.setdefault(f"{row.prefix}/{row.plural}", [])
        for namespace in ("payments", "istio-system", *namespaces):
            api.lists[f"{row.prefix}/namespaces/{namespace}/{row.plural}"] = []
    api.lists["/api/v1/nodes"] = []
    api.lists[HOOKS] = [hook()]
    home = "/api/v1/namespaces/istio-system"
    api.objects[f"{home}/configmaps/istio"] = config_map("istio", mesh="rootNamespace: istio-system\ntrustDomain: example.org")
    api.objects[f"{home}/configmaps/istio-sidecar-injector"] = config_map(
        "istio-sidecar-injector", config="policy: enabled", values='{"global":{"tag":"1.30.1"}}'
    )
    leader = {"control-plane.alpha.kubernetes.io/leader": '{"holderIdentity":"istiod-1"}', "example.com/x": CANARY}
    api.objects[f"{home}/configmaps/istio-leader"] = named("istio-leader", "istio-system", metadata={"annotations": leader})


@pytest.fixture
def api() -> Iterator[Api]:
    with serving() as server:
        stock(server)
        yield server


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def take(api: Api, folder: Path, reads: frozenset[str] = ALL, deadlines: Deadlines | None = None, **options: Any) -> Snapshot:
    deadlines = deadlines or Deadlines(request=5)
    cluster = connect(api.kubeconfig(folder), None, deadlines)
    return live.take(cluster, namespace=options.pop("namespace", "payments"), reads=reads, deadlines=deadlines, **options)


def forbid(api: Api, *ends: str) -> None:
    """Answer 403 for paths that end so."""

    def trouble(request: Request) -> Reply | None:
        return status(403, f'User "jane" cannot read {request.path}') if request.path.endswith(ends) else None

    api.trouble = trouble


def refused(snapshot: Snapshot) -> list[tuple[str, str, str, int]]:
    return [(item.verb, item.resource, item.namespace, item.status) for item in snapshot.refusals]


# --- what is read ---


def test_a_healthy_cluster(api: Api, folder: Path) -> None:
    """Everything is read, nothing is refused, and the snapshot says when and where it was taken."""
    api.lists["/api/v1/namespaces/payments/pods"] = [named("b", "payments"), named("a", "payments")]
    api.lists["/api/v1/namespaces/istio-system/pods"] = [named("z", "istio-system")]
    found = take(api, folder)
    assert (found.refusals, found.unreadable, found.control_plane_problem) == ((), (), "")
    assert (found.taken, found.context, found.cluster_uid, found.kubernetes_version) == (TAKEN, "test", "uid-of-the-cluster", "v1.34.4")
    every = tuple(key for key in RESOURCES if key != "secrets")  # none is named, so none is read
    assert (found.source, found.namespace, found.read) == ("cluster", "payments", every)
    assert found.control_plane == ControlPlane(
        namespace="istio-system", revision="default", service="istiod", webhooks=("istio-sidecar-injector-default",)
    )
    assert found.control_planes == (found.control_plane,)
    assert found.mesh == MeshConfig(root_namespace="istio-system", trust_domain="example.org")
    assert found.injector is not None
    assert found.injector.tag == "1.30.1"
    assert [(item.metadata.namespace, item.metadata.name) for item in found.pods] == [
        ("istio-system", "z"),
        ("payments", "a"),
        ("payments", "b"),
    ]
    assert decode(encode(found)) == found


def test_every_kind_has_its_place_in_the_snapshot() -> None:
    """What can be read can be kept."""
    assert set(RESOURCES) <= set(Snapshot.__struct_fields__)


def test_nothing_is_read_that_was_not_asked_for(api: Api, folder: Path) -> None:
    """Only the selected kinds are requested, each list once, and what was not read is told."""
    found = take(api, folder, frozenset({"pods", "leases"}))
    asked = sorted(path for path in api.paths if "configmaps" not in path)
    assert asked == [
        SPACES,
        "/api/v1/namespaces/istio-system/pods",
        "/api/v1/namespaces/payments/pods",
        HOOKS,
        "/apis/coordination.k8s.io/v1/namespaces/istio-system/leases",
        "/version",
    ]
    assert found.read == tuple(key for key in RESOURCES if key in {*ALWAYS, "pods", "leases"})
    assert "services were not read" in found.unread("services")[0].reason


@pytest.mark.parametrize("reads", [ALL, frozenset({"nodes"}), frozenset({"pods", "leases", "destinationrules"})])
def test_a_run_reads_exactly_what_its_rights_allow(api: Api, folder: Path, reads: frozenset[str]) -> None:
    """Every request is one of --mesh-rbac's rights, and every right is used."""
    take(api, folder, reads)
    allowed = set()
    for right in rights(reads, namespace="payments", istio_namespace="istio-system", root_namespace="istio-system", revision=""):
        rows = (row for row in RESOURCES.values() if (row.group, row.plural) == (right.group, right.resource))
        row = None if right.resource.startswith("/") else next(rows, None)
        where = f"/namespaces/{right.namespace}" if right.namespace else ""
        path = f"{row.prefix}{where}/{row.plural}" if row else right.resource
        allowed |= {f"{path}/{name}" for name in right.names} if right.names else {path}
    assert set(api.paths) == allowed
    assert len(api.paths) == len(allowed)


def test_ten_thousand_objects_in_pages(api: Api, folder: Path) -> None:
    """One list is as many requests as it has pages of 2000."""
    path = "/api/v1/namespaces/payments/pods"
    api.lists[path] = [named(f"pod-{number:04}", "payments") for number in range(4001)]
    assert len(take(api, folder, frozenset({"pods"})).pods) == 4001
    assert api.paths.count(path) == 3


def test_policies_of_another_root_namespace(api: Api, folder: Path) -> None:
    """Where the mesh keeps its policies elsewhere, that namespace is read, too."""
    stock(api, "mesh-root")
    api.objects["/api/v1/namespaces/istio-system/configmaps/istio"] = config_map("istio", mesh="rootNamespace: mesh-root")
    path = "/apis/security.istio.io/v1/namespaces/mesh-root/peerauthentications"
    api.lists[path] = [named("default", "mesh-root", spec={"mtls": {"mode": "STRICT"}})]
    found = take(api, folder, frozenset({"peerauthentications", "leases", "nodes"}))
    assert [item.metadata.namespace for item in found.peerauthentications] == ["mesh-root"]
    assert found.root_namespace == "mesh-root"
    assert api.paths.count("/api/v1/nodes") == 1


def test_a_revision_has_its_own_configuration(api: Api, folder: Path) -> None:
    """The ConfigMaps of the control plane that serves the namespace are read, not the default ones."""
    api.lists[HOOKS] = [hook(), hook("1-31", "canary")]
    path = "/api/v1/namespaces/istio-system/configmaps/istio-1-31"
    api.objects[path] = config_map("istio-1-31", mesh="trustDomain: canary.example")
    found = take(api, folder, frozenset(), revision="canary")
    assert found.control_plane is not None
    assert found.control_plane.revision == "1-31"
    assert found.trust_domain == "canary.example"
    assert not any(path.endswith("/istio") for path in api.paths)


def test_an_older_istio(api: Api, folder: Path) -> None:
    """Where v1 is not served, the older version of the same kind is read."""
    for group, version, plural in (
        ("security.istio.io", "v1beta1", "peerauthentications"),
        ("networking.istio.io", "v1alpha3", "destinationrules"),
    ):
        for namespace in ("payments", "istio-system"):
            del api.lists[f"/apis/{group}/v1/namespaces/{namespace}/{plural}"]
            api.lists[f"/apis/{group}/{version}/namespaces/{namespace}/{plural}"] = []
        api.lists[f"/apis/{group}/{version}/namespaces/payments/{plural}"] = [named("default", "payments")]
    found = take(api, folder, frozenset({"peerauthentications", "destinationrules"}))
    assert (len(found.peerauthentications), len(found.destinationrules), found.refusals) == (1, 1, ())


def test_a_kind_that_is_not_installed(api: Api, folder: Path) -> None:
    """The API server that does not know a kind has answered: there are no such objects, and nothing is unknown."""
    for namespace in ("payments", "istio-system"):
        del api.lists[f"/apis/security.istio.io/v1/namespaces/{namespace}/peerauthentications"]
    found = take(api, folder, frozenset({"peerauthentications"}))
    (refusal,) = found.refusals
    assert (refusal.key, refusal.absent, refusal.status, refusal.namespace) == ("peerauthentications", True, 404, "")
    assert refusal.reason == (
        "the API server does not know peerauthentications.security.istio.io (404): nothing that defines this kind is installed"
    )
    assert found.unread("peerauthentications") == ()
    assert "peerauthentications" in found.read


# --- the namespace ---


def test_a_namespace_that_does_not_exist(api: Api, folder: Path) -> None:
    """Similar names are suggested, and nothing else is read."""
    with pytest.raises(live.NamespaceMissing) as caught:
        take(api, folder, namespace="payment")
    assert str(caught.value) == "there is no such namespace; did you mean payments? (see: kubectl get namespaces)"
    assert len(api.paths) == 3


def test_a_namespace_when_namespaces_may_not_be_listed(api: Api, folder: Path) -> None:
    """It is asked for by name; the list stays refused, because rules about other namespaces need it."""
    forbid(api, "/namespaces")
    api.objects[f"{SPACES}/payments"] = api.lists[SPACES][0]
    found = take(api, folder, frozenset())
    assert [item.metadata.name for item in found.namespaces] == ["payments"]
    assert found.control_plane is not None
    assert refused(found) == [("list", "namespaces", "", 403)]
    assert "namespaces" not in found.read
    with pytest.raises(live.NamespaceMissing, match=r"^there is no such namespace \(see: kubectl get namespaces\)$"):
        take(api, folder, frozenset(), namespace="payment")


# --- the control plane ---


def test_two_control_planes_and_no_choice(api: Api, folder: Path) -> None:
    """Nobody's configuration is taken for the mesh's, and the reason is the sentence with both names."""
    api.lists[HOOKS] = [hook("1-30"), hook("1-31")]
    found = take(api, folder, frozenset())
    assert (found.control_plane, found.mesh, found.injector) == (None, None, None)
    assert len(found.control_planes) == 2
    assert found.control_plane_problem.endswith(
        "Istio's control planes are istio-system/1-30 and istio-system/1-31; choose with --mesh-revision=1-30 or --mesh-revision=1-31"
    )
    assert [unknown.reason for unknown in found.unread("configmaps")] == [found.control_plane_problem]


def test_no_istio(api: Api, folder: Path) -> None:
    """Without injector webhooks there is no control plane, and it is said what was looked at."""
    api.lists[HOOKS] = []
    found = take(api, folder, frozenset())
    assert found.control_plane is None
    assert found.control_plane_problem.startswith("no Istio control plane found: none of the 0 mutating webhook configurations")


def test_the_control_plane_by_option_without_the_right_to_see_webhooks(api: Api, folder: Path) -> None:
    """The option is believed, and the refused list stays a refusal."""
    forbid(api, "/mutatingwebhookconfigurations")
    found = take(api, folder, frozenset(), istio_namespace="istio-system")
    assert found.control_plane == ControlPlane(namespace="istio-system", revision="default")
    assert found.trust_domain == "example.org"
    assert refused(found) == [("list", "mutatingwebhookconfigurations.admissionregistration.k8s.io", "", 403)]


def test_malformed_configuration_is_a_problem_and_not_an_exception(api: Api, folder: Path) -> None:
    """What cannot be parsed is named in the snapshot."""
    api.objects["/api/v1/namespaces/istio-system/configmaps/istio"] = config_map("istio", mesh=f"a: [{CANARY}")
    api.objects["/api/v1/namespaces/istio-system/configmaps/istio-sidecar-injector"] = config_map("istio-sidecar-injector")
    found = take(api, folder, frozenset())
    assert (found.mesh, found.injector) == (None, None)
    assert [(item.name, item.problem.split(" (")[0]) for item in found.unreadable] == [
        ("istio", "its key mesh is not YAML"),
        ("istio-sidecar-injector", "it has no key config and no key values"),
    ]


def test_objects_of_another_shape(api: Api, folder: Path) -> None:
    """An object that cannot be understood is named, and the rest of its list is there."""
    api.lists["/api/v1/namespaces/payments/services"] = [named("good", "payments"), named("odd", "payments", spec=[])]
    found = take(api, folder, frozenset({"services"}))
    assert [item.metadata.name for item in found.services] == ["good"]
    assert found.unreadable == (
        Unreadable(key="services", namespace="payments", name="odd", problem="Expected `object`, got `array` - at `$.spec`"),
    )


@pytest.mark.parametrize(
    ("image", "tag", "version"),
    [
        ("docker.io/istio/pilot:1.31.0-distroless", "1.30.1", "1.31.0"),
        ("registry:5000/istio/pilot:1.31.0-dev@sha256:abc", "1.30.1", "1.31.0-dev"),
        ("registry:5000/istio/pilot@sha256:abc", "1.30.1", "1.30.1"),
        ("istio/pilot:latest", "latest", ""),
    ],
)
def test_the_version_of_istio(image: str, tag: str, version: str) -> None:
    """The tag of istiod's image, else the tag that proxies get; a digest or ``latest`` is no version."""
    istiod = objects.Deployment(
        metadata=objects.Metadata(name="istiod", namespace="istio-system"),
        spec=objects.WorkloadSpec(
            template=objects.PodTemplate(spec=objects.PodSpec(containers=(objects.Container(name="discovery", image=image),)))
        ),
    )
    plane = ControlPlane(namespace="istio-system", revision="default")
    assert live.istio_version([istiod], plane, InjectorConfig(tag=tag)) == version
    assert live.istio_version([istiod], None, InjectorConfig(tag=tag)) == ""


# --- trouble ---


def test_a_refused_list_names_verb_resource_and_namespace(api: Api, folder: Path) -> None:
    """One refusal with the server's own words; the other namespace's objects are there."""
    forbid(api, "/payments/pods")
    api.lists["/api/v1/namespaces/istio-system/pods"] = [named("istiod-1", "istio-system")]
    found = take(api, folder, frozenset({"pods", "services"}))
    (unknown,) = found.unread("pods")
    assert (unknown.verb, unknown.resource, unknown.namespace) == ("list", "pods", "payments")
    assert unknown.reason == 'not permitted: list pods in payments (403: User "jane" cannot read /api/v1/namespaces/payments/pods)'
    assert [item.metadata.name for item in found.pods] == ["istiod-1"]
    assert "pods" not in found.read
    assert "services" in found.read


def test_no_rights_at_all(api: Api, folder: Path) -> None:
    """Every kind has its refusal, ConfigMaps a single one, and nothing raises."""
    api.trouble = lambda _: status(403, "forbidden")
    found = take(api, folder, secrets=("payments/shop-tls",))
    assert found.read == ()
    assert {item.key for item in found.refusals} == {*RESOURCES, "version"}
    (config_maps,) = [item for item in found.refusals if item.key == "configmaps"]
    assert config_maps.reason.startswith(
        "not permitted: get configmaps/istio in istio-system (403: forbidden); likewise istio-sidecar-injector, "
    )
    assert all(found.unread(key) for key in RESOURCES)
    assert found.control_plane_problem.startswith("the control plane could not be looked for: not permitted: list mutatingwebhook")


def test_what_a_lab_cannot_show(api: Api, folder: Path) -> None:
    """A 501 is a refusal with the server's message."""
    api.trouble = lambda request: status(501, "the lab has no nodes") if request.path.endswith("/nodes") else None
    (unknown,) = take(api, folder, frozenset({"nodes"})).unread("nodes")
    assert unknown.reason == "the API server refused: list nodes (501: the lab has no nodes)"


def test_an_answer_that_is_not_the_api_servers(api: Api, folder: Path) -> None:
    """A page of a proxy with status 200 is a refusal, not an exception."""
    api.trouble = lambda request: (200, {"Content-Type": "text/html"}, b"<html>") if request.path.endswith("/nodes") else None
    (unknown,) = take(api, folder, frozenset({"nodes"})).unread("nodes")
    assert unknown.reason.startswith("not understood: list nodes: the answer is no JSON")


def test_trouble_for_a_while(api: Api, folder: Path) -> None:
    """An API server that is broken for a moment and busy in the next is waited for."""
    seen: dict[str, int] = {}

    def trouble(request: Request) -> Reply | None:
        seen[request.path] = seen.get(request.path, 0) + 1
        return {1: status(500, "etcd"), 2: status(429, "busy", retry_after="1")}.get(seen[request.path])

    api.trouble = trouble
    with skipping():
        assert take(api, folder, frozenset({"pods"}), Deadlines(request=1000, snapshot=6000)).refusals == ()


def test_expired_credentials_are_met_once(api: Api, folder: Path) -> None:
    """After a 401 nothing more is asked; every kind has the same sentence."""
    api.trouble = lambda _: status(401, "Unauthorized")
    found = take(api, folder)
    assert len(api.requests) <= 3
    (reason,) = {item.reason for item in found.refusals}
    assert "does not accept the credentials of context test (401: Unauthorized)" in reason
    assert all(found.unread(key) for key in RESOURCES)


def test_an_unreachable_api_server_costs_one_deadline(folder: Path) -> None:
    """The first requests try until their deadline, all others are refused at once, with the same sentence."""
    deadlines = Deadlines(request=0.3)
    cluster = connect(write_kubeconfig(folder / "config", {"gone": "http://127.0.0.1:9"}), None, deadlines)
    began = time.monotonic()
    found = live.take(cluster, namespace="payments", reads=ALL, deadlines=deadlines)
    assert time.monotonic() - began < 2
    assert len({item.reason for item in found.refusals}) == 1
    assert "cannot be reached (Connection refused)" in found.refusals[0].reason
    assert found.taken


def test_an_api_server_that_hangs_costs_one_deadline(api: Api, folder: Path) -> None:
    """Nobody answers anything: after one deadline that is believed."""
    api.hangs.add("*")
    began = time.monotonic()
    found = take(api, folder, deadlines=Deadlines(request=0.3))
    assert time.monotonic() - began < 2
    assert len(api.requests) == 3
    assert "did not answer within 0.3 s" in found.refusals[0].reason


def test_one_list_that_hangs_does_not_stop_the_others(api: Api, folder: Path) -> None:
    """While others are answered, a slow list is its own problem."""
    api.hangs.add("/api/v1/namespaces/payments/pods")
    found = take(api, folder, deadlines=Deadlines(request=0.4))
    assert [(item.key, item.namespace) for item in found.refusals] == [("pods", "payments")]
    assert found.refusals[0].reason == f"the API server {api.server} did not answer within 0.4 s: list pods in payments"


def test_the_deadline_of_the_whole(api: Api, folder: Path) -> None:
    """What has not been read when the time is up is refused, with the option that gives more time."""
    api.hangs.update(path for path in api.lists if "/payments/" in path)
    found = take(api, folder, deadlines=Deadlines(request=5, snapshot=0.4))
    (pods,) = [item for item in found.unread("pods") if item.namespace == "payments"]
    assert pods.reason == "not read in time: list pods in payments: reading the cluster took longer than 0.4 s (--mesh-deadline)"


def test_progress_names_what_is_waited_for_longest(api: Api, folder: Path) -> None:
    """The caller learns what the run is waiting for, in words, and at the end that it waits for nothing."""
    told: list[str] = []
    api.trouble = lambda request: time.sleep(0.1) if request.path in ("/version", "/api/v1/nodes") else None
    take(api, folder, frozenset({"nodes"}), progress=told.append)
    assert {"get /version", "list nodes"} <= set(told)
    assert told[-1] == ""


def test_an_interrupted_run_leaves_at_once(api: Api, folder: Path) -> None:
    """Ctrl-C is not held up by a server that hangs, and no thread begins another request."""
    api.hangs.add("*")
    reading = reader.Reader(connect(api.kubeconfig(folder), None, Deadlines()), Deadline(60))
    main = threading.main_thread().ident
    assert main is not None
    threading.Timer(0.2, signal.pthread_kill, (main, signal.SIGINT)).start()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        reading.read([reader.Ask(row=row) for row in RESOURCES.values()])
    assert time.monotonic() - began < 3
    api.released.set()
    for thread in threading.enumerate():
        if thread.name == "meshready-reader":
            thread.join(5)
    assert len(api.requests) == reader.THREADS


def test_a_mistake_in_a_thread_is_not_swallowed(api: Api, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of ours reaches the caller instead of a wait until the deadline."""
    monkeypatch.setattr(reader.Reader, "_fetch", lambda *_: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        take(api, folder)


# --- secrets ---


def test_no_secret_is_in_the_snapshot(api: Api, folder: Path) -> None:
    """A canary in every place that may hold a secret is nowhere in what is saved and shown."""
    env = [{"name": "PASSWORD", "value": CANARY}, {"name": "PROXY_CONFIG", "value": json.dumps({"proxyMetadata": {"A": CANARY}})}]
    probe = {"exec": {"command": [CANARY]}, "httpGet": {"path": "/", "port": 1, "httpHeaders": [{"name": "A", "value": CANARY}]}}
    containers = [
        {"name": name, "env": env, "args": [CANARY] if name == "app" else [], "command": [CANARY], "livenessProbe": probe}
        for name in ("app", "istio-proxy")
    ]
    annotations = {
        "kubectl.kubernetes.io/last-applied-configuration": CANARY,
        "proxy.istio.io/config": f"proxyMetadata: {{A: {CANARY}}}",
        "istio.io/rev": "default",
    }
    metadata = {"annotations": annotations, "managedFields": [{"manager": CANARY}]}
    ended = {"terminated": {"reason": "Error", "message": CANARY}}
    template = {"metadata": metadata, "spec": {"containers": containers, "initContainers": containers, "volumes": [{"name": CANARY}]}}
    pod = named(
        "p",
        "payments",
        metadata=metadata,
        spec=template["spec"],
        status={
            "containerStatuses": [{"name": "app", "state": ended, "lastState": ended}],
            "conditions": [{"type": "Ready", "status": "False", "message": CANARY}],
        },
    )
    for row in RESOURCES.values():
        spec: dict[str, Any] = {"template": template, "jobTemplate": {"spec": {"template": template}}}
        api.lists[f"{row.prefix}/namespaces/payments/{row.plural}"] = [
            named("x", "payments", metadata=metadata, spec=spec, data={"a": CANARY})
        ]
    api.lists["/api/v1/namespaces/payments/pods"] = [pod]
    api.lists[SPACES][0]["metadata"]["annotations"] = annotations
    home = "/api/v1/namespaces/istio-system/configmaps"
    providers = f"[{{name: a, b: {{token: {CANARY}}}}}]"
    mesh = f"trustDomain: example.org\ndefaultConfig: {{proxyMetadata: {{A: {CANARY}}}}}\nextensionProviders: {providers}"
    api.objects[f"{home}/istio"] = config_map("istio", mesh=mesh, meshNetworks=CANARY)
    api.objects[f"{home}/istio-sidecar-injector"] = config_map(
        "istio-sidecar-injector", config=f"policy: enabled\ntemplates: {{sidecar: {CANARY}}}", values=json.dumps({"global": {"x": CANARY}})
    )
    api.objects[f"{home}/values"] = config_map("values", **{"merged-values": CANARY})
    found = take(api, folder)
    saved = encode(found)
    assert CANARY.encode() not in saved
    assert CANARY not in repr(found)
    assert found.unreadable == ()
    assert found.refusals == ()
    assert found.mesh is not None
    assert len(found.pods) == 1
    assert b"holderIdentity" in saved
    assert all(item.data == {} for item in found.configmaps)


def test_the_record_of_the_installation(api: Api, folder: Path) -> None:
    """Of ConfigMap values only the profile and the compatibility version stay, as words."""
    values = json.dumps({"profile": "demo", "compatibilityVersion": "1.28", "global": {"token": CANARY}})
    api.objects["/api/v1/namespaces/istio-system/configmaps/values"] = config_map("values", **{"original-values": values})
    found = take(api, folder)
    assert found.install is not None
    assert (found.install.profile, found.install.compatibility_version) == ("demo", "1.28")
    assert CANARY.encode() not in encode(found)
