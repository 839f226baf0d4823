"""What is read for the lines on capacity: cut down, without secrets, with the rights that belong to it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pytest_meshready.cluster import decode, live, objects
from pytest_meshready.cluster.client import connect
from pytest_meshready.cluster.objects_capacity import ClusterAutoscalerStatus, NodePod
from pytest_meshready.cluster.resources import RESOURCES
from pytest_meshready.cluster.snapshot import Snapshot, encode
from pytest_meshready.cluster.snapshot import decode as read_back
from pytest_meshready.waiting import Deadlines
from tests.unit.apiserver import Api, Reply, Request, serving, status

READYZ = b"[+]ping ok\n[-]etcd failed: reason withheld\n[+]log ok\n[-]informer-sync failed: reason withheld\nreadyz check failed\n"


def pod(name: str, labels: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    container = {
        "name": "app",
        "image": "app:1",
        "env": [{"name": "PASSWORD", "value": "s3cret"}],
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi", "nvidia.com/gpu": "1"}, "limits": {"cpu": "1"}},
    }
    return {
        "metadata": {
            "name": name,
            "namespace": "other",
            "uid": "u",
            "labels": labels or {"app": "orders", "security.istio.io/tlsMode": "istio"},
            "annotations": {"istio.io/rev": "default", "sidecar.istio.io/status": "{}", "example.com/token": "s3cret"},
            "ownerReferences": [{"kind": "ReplicaSet", "name": "r"}],
        },
        "spec": {"nodeName": "node-1", "containers": [container], "initContainers": [{**container, "restartPolicy": "Always"}], **spec},
        "status": {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": "True", "message": "s3cret"}, {"type": "ContainersReady", "status": "True"}],
        },
    }


def node_pods(*items: dict[str, Any], shared: decode.Shared | None = None) -> list[NodePod]:
    page = decode.page(json.dumps({"items": items}).encode(), RESOURCES["node_pods"], shared)
    assert not page.unreadable
    return [item for item in page.items if isinstance(item, NodePod)]


def test_a_pod_of_another_namespace_is_what_it_takes_from_its_node() -> None:
    """Requests of CPU and memory, and whether it is ready and has a proxy; nothing else of other teams is kept."""
    (found,) = node_pods(pod("orders-a"))
    assert found.metadata == objects.Metadata(
        name="orders-a", namespace="other", labels={"security.istio.io/tlsMode": "istio"}, annotations={"istio.io/rev": "default"}
    )
    assert [item.resources for item in found.spec.containers] == [objects.Resources(requests={"cpu": "10m", "memory": "32Mi"})]
    assert found.spec.init_containers[0].restart_policy == "Always"
    assert found.status.conditions == (objects.Condition(type="Ready", status="True"),)
    assert "s3cret" not in repr(found)


def test_pods_that_network_policies_must_let_through_keep_their_labels() -> None:
    """Prometheus and the cluster's DNS are selected by whatever labels they have."""
    labels = ({"app": "prometheus", "team": "sre"}, {"app.kubernetes.io/name": "prometheus", "x": "y"}, {"k8s-app": "kube-dns", "a": "b"})
    assert [item.metadata.labels for item in node_pods(*(pod(f"p{place}", own) for place, own in enumerate(labels)))] == list(labels)


def test_node_agents_keep_the_states_of_their_containers() -> None:
    """Of istio-cni and ztunnel, which may run anywhere; not the last words of their logs, and of no other pod."""
    body = {"containerStatuses": [{"name": "x", "restartCount": 3, "lastState": {"terminated": {"reason": "Error", "message": "s3cret"}}}]}
    labels = ({"app": "ztunnel", "a": "b"}, {"k8s-app": "istio-cni-node"}, {"app": "orders"}, {"k8s-app": "kube-dns"})
    made = [pod(f"p{place}", own) for place, own in enumerate(labels)]
    found = node_pods(*({**item, "status": {**item["status"], **body}} for item in made))
    assert [bool(item.status.container_statuses) for item in found] == [True, True, False, False]
    assert (found[0].metadata.labels, found[0].status.container_statuses[0].restart_count) == (labels[0], 3)
    assert "s3cret" not in repr(found)


def test_replicas_share_what_they_have_in_common() -> None:
    """Ten thousand pods of a few hundred workloads must not cost ten thousand copies."""
    one, two = node_pods(pod("a"), pod("b"), shared=decode.Shared())
    assert one.spec.containers is two.spec.containers
    assert one.metadata.labels is two.metadata.labels
    assert one.spec.node_name is two.spec.node_name


def test_the_autoscalers_text_is_parsed_and_dropped() -> None:
    """A cloud's messages stay behind."""
    text = "autoscalerStatus: Running\nclusterWide: {health: {status: Healthy}}\nmessage: s3cret"
    body = {"metadata": {"name": "cluster-autoscaler-status", "namespace": "kube-system"}, "data": {"status": text, "other": "s3cret"}}
    found = decode.single(json.dumps(body).encode(), RESOURCES["autoscaler_status"])
    assert isinstance(found, ClusterAutoscalerStatus)
    assert (found.state.running, found.state.health) == ("Running", "Healthy")
    assert "s3cret" not in repr(found)


def test_of_the_writers_of_a_namespace_only_the_times_of_istios_labels_are_kept() -> None:
    """Who wrote, and what else, is nobody's business here."""
    fields = [
        {
            "manager": "s3cret",
            "time": "2026-08-01T00:00:00Z",
            "fieldsV1": {"f:metadata": {"f:labels": {"f:istio-injection": {}, "f:a": {}}}},
        },
        {"manager": "other", "time": "2026-08-02T00:00:00Z", "fieldsV1": {"f:metadata": {"f:labels": {"f:team": {}}}}},
        {"manager": "odd", "fieldsV1": {"f:metadata": "odd"}},
    ]
    body = {"metadata": {"name": "payments", "managedFields": fields}}
    found = decode.single(json.dumps(body).encode(), RESOURCES["namespaces"])
    assert isinstance(found, objects.Namespace)
    assert found.metadata.managed_fields == (objects.ManagedFields(time="2026-08-01T00:00:00Z", labels=("istio-injection",)),)


# --- reading ----------------------------------------------------------------------------------------------------------


def take(api: Api, folder: Path, *reads: str) -> Snapshot:
    api.lists["/api/v1/namespaces"] = [{"metadata": {"name": "payments"}}]
    deadlines = Deadlines(request=5)
    return live.take(connect(api.kubeconfig(folder), None, deadlines), namespace="payments", reads=frozenset(reads), deadlines=deadlines)


def refusing(path: str, code: int) -> Callable[[Request], Reply | None]:
    """A server that answers one path with a refusal."""
    return lambda request: status(code, "no") if request.path == path else None


def test_pods_that_have_ended_stay_on_the_server(tmp_path: Path) -> None:
    """A cluster keeps thousands of them; they occupy no node."""
    with serving() as api:
        api.lists["/api/v1/pods"] = [pod("a")]
        found = take(api, tmp_path, "node_pods")
        (request,) = [item for item in api.requests if item.path == "/api/v1/pods"]
    assert request.query["fieldSelector"] == "status.phase!=Succeeded,status.phase!=Failed"
    assert [item.metadata.name for item in found.node_pods] == ["a"]
    assert read_back(encode(found)) == found


@pytest.mark.parametrize(
    ("answer", "expected"),
    [(b"ok", (200, ())), ((500, {"Content-Type": "text/plain"}, READYZ), (500, ("etcd", "informer-sync")))],
    ids=["ready", "not ready"],
)
def test_the_servers_own_health(tmp_path: Path, answer: Any, expected: tuple[int, tuple[str, ...]]) -> None:
    """500 is its answer that it is not ready: asked once, and not a failure to read."""
    with serving() as api:
        if isinstance(answer, bytes):
            api.objects["/readyz"] = answer
        else:
            api.trouble = lambda request: answer if request.path == "/readyz" else None
        found = take(api, tmp_path, "readyz")
        assert api.paths.count("/readyz") == 1
    (health,) = found.readyz
    assert (health.status, health.failing) == expected
    assert "readyz" in found.read


def test_a_path_that_is_not_permitted_or_not_there(tmp_path: Path) -> None:
    """Both are unknown; a path is no kind that could be absent."""
    for code, said in ((403, "not permitted: get /readyz"), (404, "the API server does not know /readyz")):
        with serving() as api:
            api.trouble = refusing("/readyz", code)
            (unknown,) = take(api, tmp_path, "readyz").unread("readyz")
        assert unknown.reason.startswith(said)
        assert (unknown.verb, unknown.resource) == ("get", "/readyz")


def test_the_autoscalers_configmap_is_got_by_its_name(tmp_path: Path) -> None:
    """That it is not there is an answer; that it is forbidden is none."""
    path = "/api/v1/namespaces/kube-system/configmaps/cluster-autoscaler-status"
    with serving() as api:
        found = take(api, tmp_path, "autoscaler_status")
        assert path in api.paths
        assert found.autoscaler_status == ()
        assert "autoscaler_status" in found.read
        api.trouble = refusing(path, 403)
        (unknown,) = take(api, tmp_path, "autoscaler_status").unread("autoscaler_status")
    assert (unknown.verb, unknown.resource, unknown.namespace) == ("get", "configmaps", "kube-system")
