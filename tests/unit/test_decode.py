"""From the API server's bytes to structs: whole pages, odd objects, and what is left out on the way."""

from __future__ import annotations

import gc
import json
import threading
from typing import Any

import pytest

from pytest_meshready.cluster import decode, objects
from pytest_meshready.cluster.resources import RESOURCES, Resource
from pytest_meshready.cluster.snapshot import Unreadable

PODS = RESOURCES["pods"]


def page(*items: object, row: Resource = PODS, resume: str = "") -> decode.Page:
    return decode.page(json.dumps({"kind": "List", "metadata": {"continue": resume}, "items": list(items)}).encode(), row)


def pod(name: str = "orders-1", **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "payments", "managedFields": [{"manager": "kubectl"}]}, "spec": spec}


def test_a_page_becomes_structs_and_the_token_of_the_next() -> None:
    """Kubernetes' camelCase is read, what objects.py does not name is not, and the token is kept."""
    found = page(pod(nodeName="node-a", dnsPolicy="ClusterFirst"), pod("orders-2"), resume="abc")
    assert found.resume == "abc"
    assert found.unreadable == ()
    assert found.items == [
        objects.Pod(metadata=objects.Metadata(name="orders-1", namespace="payments"), spec=objects.PodSpec(node_name="node-a")),
        objects.Pod(metadata=objects.Metadata(name="orders-2", namespace="payments")),
    ]


@pytest.mark.parametrize("body", [b'{"metadata":{},"items":null}', b'{"metadata":{"continue":null},"items":[]}', b'{"kind":"PodList"}'])
def test_an_empty_list_in_all_its_spellings(body: bytes) -> None:
    """Go writes an empty list as null, too."""
    assert decode.page(body, PODS) == decode.Page(items=[])


def test_nulls_where_a_value_belongs_mean_not_set() -> None:
    """An object with nulls is read as if these fields were left out."""
    found = page(pod(), pod("orders-2", containers=[{"name": "app", "env": None, "ports": None}, None], nodeName=None))
    assert [item.metadata.name for item in found.items] == ["orders-1", "orders-2"]  # type: ignore[attr-defined]
    assert found.items[1].spec.containers == (objects.Container(name="app"),)  # type: ignore[attr-defined]
    assert found.unreadable == ()


def test_an_object_of_another_shape_does_not_spoil_its_page() -> None:
    """What does not fit is named with its path and not with its value; the others and the token are there."""
    found = page(pod(), pod("odd", containers="s3cret"), "s3cret", {"metadata": "s3cret"}, resume="abc")
    assert [item.metadata.name for item in found.items] == ["orders-1"]  # type: ignore[attr-defined]
    assert found.resume == "abc"
    assert found.unreadable[0] == Unreadable(
        key="pods", namespace="payments", name="odd", problem="Expected `array`, got `str` - at `$.spec.containers`"
    )
    assert [item.name for item in found.unreadable] == ["odd", "?", "?"]
    assert "s3cret" not in str(found.unreadable)


@pytest.mark.parametrize("body", [b"<html>", b"", b'{"items": {}}', b'{"items": [', b"[]"])
def test_what_is_no_list_is_one_sentence(body: bytes) -> None:
    """An answer that is not the API server's is an error that says so, for lists."""
    with pytest.raises(decode.DecodeError, match=r"^the answer is no (JSON|list of pods) \("):
        decode.page(body, PODS)


def test_a_single_object() -> None:
    """One object is read as one of a list is, with nulls, with an odd shape, or not at all."""
    row = RESOURCES["namespaces"]
    assert decode.single(b'{"metadata":{"name":"payments","labels":null}}', row) == objects.Namespace(
        metadata=objects.NamespaceMetadata(name="payments")
    )
    assert isinstance(decode.single(b'{"metadata":{"name":"payments","labels":7}}', row), Unreadable)
    with pytest.raises(decode.DecodeError, match="the answer is no JSON"):
        decode.single(b"<html>", row)


def test_of_an_environment_only_istios_own_settings_stay() -> None:
    """Variables are dropped, except those that rules read, in the containers of Istio."""
    variables = [
        {"name": "PASSWORD", "value": "s3cret"},
        {"name": "PILOT_ENABLE_ANALYSIS", "value": "true"},
        {"name": "ISTIO_META_NODE_NAME", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
    ]
    containers = [{"name": name, "env": variables} for name in ("istio-proxy", "app", "discovery")]
    found = page(pod(containers=containers, initContainers=containers)).items[0]
    kept = (objects.EnvVar(name="PILOT_ENABLE_ANALYSIS", value="true"), objects.EnvVar(name="ISTIO_META_NODE_NAME"))
    assert isinstance(found, objects.Pod)
    assert [item.env for item in found.spec.containers] == [kept, (), kept]
    assert found.spec.init_containers == found.spec.containers


def test_of_arguments_only_istios_own_stay() -> None:
    """An application's arguments may hold a password; those of the proxy say what it is."""
    containers = [{"name": name, "args": ["proxy", "router"]} for name in ("istio-proxy", "app", "istio-init")]
    found = page(pod(containers=containers)).items[0]
    assert isinstance(found, objects.Pod)
    assert [item.args for item in found.spec.containers] == [("proxy", "router"), (), ("proxy", "router")]


def test_a_probe_that_executes_is_known_but_not_its_command() -> None:
    """``exec`` stays as an empty mapping, in all three probes."""
    probe = {"exec": {"command": ["check", "--token=s3cret"]}, "periodSeconds": 7}
    found = page(pod(containers=[{"name": "app", "livenessProbe": probe, "readinessProbe": probe, "startupProbe": probe}])).items[0]
    assert isinstance(found, objects.Pod)
    (container,) = found.spec.containers
    expected = objects.Probe(exec={}, period_seconds=7)
    assert (container.liveness_probe, container.readiness_probe, container.startup_probe) == (expected, expected, expected)


def test_free_text_in_the_state_of_containers_is_dropped() -> None:
    """A termination message may be the end of a log: the reason and the exit code stay."""
    state = {"terminated": {"reason": "Error", "message": "s3cret", "exitCode": 1}}
    item = pod()
    item["status"] = {
        "containerStatuses": [
            {"name": "app", "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "s3cret"}}, "lastState": state}
        ],
        "initContainerStatuses": [{"name": "istio-init", "state": state}],
        "conditions": [
            {"type": "PodScheduled", "status": "False", "message": "0/2 nodes are available"},
            {"type": "example.com/gate", "status": "False", "message": "s3cret"},
        ],
    }
    found = page(item).items[0]
    assert isinstance(found, objects.Pod)
    ended = objects.ContainerState(terminated=objects.StateDetail(reason="Error", exit_code=1))
    assert found.status.container_statuses[0].state.waiting == objects.StateDetail(reason="CrashLoopBackOff")
    assert found.status.container_statuses[0].last_state == ended
    assert found.status.init_container_statuses[0].state == ended
    assert [condition.message for condition in found.status.conditions] == ["0/2 nodes are available", ""]


def test_settings_of_the_proxy_lose_what_users_put_into_them() -> None:
    """PROXY_CONFIG, the annotation of the same content and the rewritten probes keep what Istio says, not what users add."""
    config = {"holdApplicationUntilProxyStarts": True, "proxyMetadata": {"TOKEN": "s3cret", "ISTIO_META_DNS_CAPTURE": "true"}}
    probers = {"/app-health/app/readyz": {"httpGet": {"path": "/h", "port": 80, "httpHeaders": [{"name": "Key", "value": "s3cret"}]}}}
    item = pod(
        containers=[
            {
                "name": "istio-proxy",
                "env": [
                    {"name": "PROXY_CONFIG", "value": json.dumps(config)},
                    {"name": "ISTIO_KUBE_APP_PROBERS", "value": json.dumps(probers)},
                ],
            }
        ]
    )
    item["metadata"]["annotations"] = {
        "proxy.istio.io/config": "holdApplicationUntilProxyStarts: true\nproxyMetadata: {ISTIO_META_DNS_CAPTURE: true, TOKEN: s3cret}\n",
        "sidecar.istio.io/proxyCPU": "100m",
        "example.com/password": "s3cret",
    }
    found = page(item).items[0]
    assert isinstance(found, objects.Pod)
    cleaned = '{"holdApplicationUntilProxyStarts":true,"proxyMetadata":{"ISTIO_META_DNS_CAPTURE":"true"}}'
    assert found.metadata.annotations == {"proxy.istio.io/config": cleaned, "sidecar.istio.io/proxyCPU": "100m"}
    assert found.spec.containers[0].env == (
        objects.EnvVar(name="PROXY_CONFIG", value=cleaned),
        objects.EnvVar(name="ISTIO_KUBE_APP_PROBERS", value='{"/app-health/app/readyz":{"httpGet":{"path":"/h","port":80}}}'),
    )


@pytest.mark.parametrize("key", ["deployments", "statefulsets", "daemonsets", "replicasets", "jobs", "cronjobs"])
def test_templates_are_cleaned_like_pods(key: str) -> None:
    """What makes pods holds the same secrets as its pods."""
    secret = {"example.com/password": "s3cret"}
    template = {"metadata": {"annotations": secret}, "spec": {"containers": [{"name": "app", "env": [{"name": "A", "value": "s3cret"}]}]}}
    spec: dict[str, Any] = {"template": template}
    if key == "cronjobs":
        spec = {"jobTemplate": {"spec": spec}}
    (found,) = page({"metadata": {"name": "x", "annotations": secret}, "spec": spec}, row=RESOURCES[key]).items
    assert "s3cret" not in repr(found)
    assert "app" in repr(found)


def test_a_policy_keeps_its_shape_and_loses_the_headers_it_wants() -> None:
    """An AuthorizationPolicy may compare a header with a shared secret: the condition stays, its values do not."""
    when = [
        {"key": "request.headers[x-key]", "values": ["s3cret"], "notValues": ["s3cret"]},
        {"key": "source.namespace", "values": ["payments"]},
    ]
    row = RESOURCES["authorizationpolicies"]
    (found,) = page({"metadata": {"name": "x"}, "spec": {"rules": [{"when": when}, {}]}}, row=row).items
    assert isinstance(found, objects.AuthorizationPolicy)
    assert found.spec.rules == ({"when": [{"key": "request.headers[x-key]", "values": [], "notValues": []}, when[1]]}, {})


@pytest.mark.parametrize("row", RESOURCES.values(), ids=RESOURCES)
def test_no_kind_keeps_an_annotation_that_is_not_istios(row: Resource) -> None:
    """Every kind that is read has its annotations filtered."""
    item = {
        "metadata": {"name": "x", "annotations": {"example.com/password": "s3cret", "istio.io/rev": "default"}},
        "data": {"a": "s3cret"},
    }
    (found,) = page(item, row=row).items
    assert "s3cret" not in repr(found)
    assert "istio.io/rev" in repr(found)


def test_replicas_share_what_they_have_in_common() -> None:
    """Equal containers, labels and annotations of many pods are one object in memory, and pods that differ stay different."""
    items = [pod(f"orders-{number}", containers=[{"name": "app", "image": f"app:{number // 2}"}]) for number in range(4)]
    for item in items:
        item["metadata"]["labels"] = {"app": "orders"}
    body = json.dumps({"items": items}).encode()
    one, two, three, four = decode.page(body, PODS, decode.Shared()).items
    assert one.spec.containers is two.spec.containers  # type: ignore[attr-defined]
    assert three.spec.containers is four.spec.containers  # type: ignore[attr-defined]
    assert one.metadata.labels is four.metadata.labels  # type: ignore[attr-defined]
    assert [item.spec.containers[0].image for item in (one, three)] == ["app:0", "app:1"]  # type: ignore[attr-defined]
    assert [one, two, three, four] == decode.page(body, PODS).items


def test_the_collector_pauses_and_returns() -> None:
    """Nested and in several threads, garbage collection is off until the last block ends; a collector that was off stays off."""
    inside, leave = threading.Event(), threading.Event()

    def other() -> None:
        with decode.gc_paused():
            inside.set()
            leave.wait(5)

    assert gc.isenabled()
    with decode.gc_paused():
        thread = threading.Thread(target=other)
        thread.start()
        assert inside.wait(5)
        with decode.gc_paused():
            pass
    assert not gc.isenabled()
    leave.set()
    thread.join()
    assert gc.isenabled()
    gc.disable()
    try:
        with decode.gc_paused():
            assert not gc.isenabled()
        assert not gc.isenabled()
    finally:
        gc.enable()
