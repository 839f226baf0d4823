"""Which pods belong to which workload, and what of them is at work."""

from __future__ import annotations

import time

import msgspec

from pytest_meshready.cluster import objects as o
from pytest_meshready.istio.namespaces import unread_in
from pytest_meshready.istio.workloads import LabelIndex, Workload, is_gateway, is_ready, pod_names, workloads
from pytest_meshready.results import ObjectRef
from tests.unit import builders as b


def _by_name(**fields: object) -> dict[str, Workload]:
    snapshot = b.snapshot(**fields)
    return {f"{item.kind}/{item.ref.name}": item for item in workloads(snapshot, b.NAMESPACE)}


def test_pods_of_a_deployment_are_found_without_its_replicaset() -> None:
    """The hash in the ReplicaSet's name and the pod's label is enough, if that Deployment exists."""
    orders = b.deployment("orders")
    (found,) = workloads(b.snapshot(deployments=(orders,), pods=b.pods_of(orders)), b.NAMESPACE)
    assert found.ref == ObjectRef(kind="Deployment", namespace="payments", name="orders")
    assert [pod.metadata.name for pod in found.pods] == [f"orders-{b.HASH}-p0000", f"orders-{b.HASH}-p0001"]
    assert found.replicas == 2
    assert not found.from_pod
    assert [container.name for container in found.template.spec.containers] == ["app"]


def test_a_hash_without_its_deployment_is_named_by_the_replicaset() -> None:
    """A Deployment that was not read is not invented."""
    pods = b.pods_of(b.deployment("orders"))
    assert list(_by_name(pods=pods)) == [f"ReplicaSet/orders-{b.HASH}"]


def test_a_hash_is_believed_where_deployments_are_refused() -> None:
    """Only Deployments set that label, so without the right to list them the name still tells what is meant."""
    pods = b.pods_of(b.deployment("orders"))
    read = tuple(key for key in b.snapshot().read if key != "deployments")
    (found,) = workloads(b.snapshot(pods=pods, read=read, refusals=(b.refusal("deployments"),)), b.NAMESPACE)
    assert (found.kind, found.ref.name, found.from_pod) == ("Deployment", "orders", True)
    assert [container.name for container in found.template.spec.containers] == ["app"]
    assert not found.template.spec.init_containers


def test_argo_rollouts_are_known_by_their_own_label() -> None:
    """Argo Rollouts puts its own hash label in the place of Kubernetes'."""
    labels = {"app": "orders", "rollouts-pod-template-hash": "abc12"}
    pods = [b.meshed_pod(f"orders-abc12-{index}", owner="ReplicaSet/orders-abc12", labels=labels) for index in range(2)]
    found = workloads(b.snapshot(pods=tuple(pods)), b.NAMESPACE)
    assert [(item.kind, item.ref.name, item.replicas) for item in found] == [("Rollout", "orders", 2)]


def test_a_replicaset_lends_its_template_to_a_controller_that_cannot_be_read() -> None:
    """Where ReplicaSets are read, the owner of an unknown kind is named and its template is the one before injection."""
    owned = b.replicaset("orders", hash_="abc12", owner="Rollout/orders")
    pods = (b.meshed_pod("orders-abc12-1", owner="ReplicaSet/orders-abc12"),)
    (found,) = workloads(b.snapshot(pods=pods, replicasets=(owned,)), b.NAMESPACE)
    assert (found.kind, found.ref.name, found.from_pod) == ("Rollout", "orders", False)


def test_old_replicasets_of_a_deployment_are_no_workloads() -> None:
    """A Deployment keeps ten of them; they say nothing of their own."""
    orders = b.deployment("orders")
    old = b.replicaset(orders, hash_="11111")
    assert list(_by_name(deployments=(orders,), replicasets=(old, b.replicaset(orders)), pods=b.pods_of(orders))) == ["Deployment/orders"]


def test_every_kind_of_owner() -> None:
    """StatefulSets and DaemonSets own pods themselves, a CronJob through its Jobs, a bare ReplicaSet and a bare pod alone."""
    store, agent, cron = b.statefulset("store"), b.daemonset("agent"), b.cronjob("report")
    run = b.job("report-2901", owner="CronJob/report")
    pods = (
        *b.pods_of(store),
        *b.pods_of(agent),
        b.pod("report-2901-x", owner="Job/report-2901", phase="Succeeded"),
        b.pod("migrate-x", owner="Job/migrate"),
        b.pod("lonely-1", owner="ReplicaSet/lonely", labels={"app": "lonely"}),
        b.pod("debug"),
    )
    bare = b.replicaset("other", hash_="1")
    found = _by_name(
        statefulsets=(store,), daemonsets=(agent,), cronjobs=(cron,), jobs=(run, b.job("migrate")), replicasets=(bare,), pods=pods
    )
    assert list(found) == [
        "CronJob/report",
        "DaemonSet/agent",
        "Job/migrate",
        "Pod/debug",
        "ReplicaSet/lonely",
        "ReplicaSet/other-1",
        "StatefulSet/store",
    ]


def test_completed_and_terminating_pods_are_kept_apart() -> None:
    """What has ended or is on its way out does not count as at work."""
    orders = b.deployment("orders")
    owner = f"ReplicaSet/orders-{b.HASH}"
    working, leaving = b.pod("a", owner=owner), b.pod("b", owner=owner, deleted=b.TAKEN)
    evicted = b.pod("c", owner=owner, phase="Failed", ready=False)
    (found,) = workloads(b.snapshot(deployments=(orders,), pods=(working, leaving, evicted)), b.NAMESPACE)
    assert (found.pods, found.terminating, found.completed) == ((working,), (leaving,), (evicted,))


def test_probe_pods_of_a_run_are_guests() -> None:
    """What a run of ours created is none of the team's workloads."""
    guest = b.pod("probe", labels={"meshready.io/run": "r1"})
    job = b.job("load", labels={"meshready.io/run": "r1"})
    assert workloads(b.snapshot(pods=(guest,), jobs=(job,)), b.NAMESPACE) == ()


def test_only_the_namespace_asked_for() -> None:
    """The same names in another namespace are other workloads."""
    here, there = b.deployment("orders"), b.deployment("orders", namespace="other")
    snapshot = b.snapshot(deployments=(here, there), pods=(*b.pods_of(here), *b.pods_of(there)))
    assert [pod.metadata.namespace for item in workloads(snapshot, "other") for pod in item.pods] == ["other", "other"]


def test_replicas_that_are_not_set_are_one() -> None:
    """Kubernetes' default; none is a decision, and stays none."""
    found = workloads(b.snapshot(deployments=(b.deployment("one", replicas=None), b.deployment("zero", replicas=0))), b.NAMESPACE)
    assert [(item.ref.name, item.replicas) for item in found] == [("one", 1), ("zero", 0)]


def test_pod_names_are_cut() -> None:
    """At most three names, then how many more."""
    pods = [b.pod(name) for name in "abcdefg"]
    assert pod_names(pods) == "a, b, c and 4 more"
    assert pod_names(pods[:3]) == "a, b, c"
    assert pod_names(()) == ""


def test_ready_is_the_condition_of_the_pod() -> None:
    """A pod without conditions is not ready."""
    assert is_ready(b.pod())
    assert not is_ready(b.pod(ready=False))
    assert not is_ready(msgspec.structs.replace(b.pod(), status=o.PodStatus(phase="Running")))


def test_gateways_are_known_by_template_or_by_pod() -> None:
    """A classic gateway by its arguments, an injected one by its annotation, Gateway API's by its label."""
    classic = b.deployment("ingress", containers=(b.gateway_container(),), labels=b.GATEWAY_LABELS)
    waiting = b.deployment(
        "edge", containers=(o.Container(name="istio-proxy", image="auto"),), annotations={"inject.istio.io/templates": "gateway"}
    )
    automatic = b.deployment("shop-istio", labels={"gateway.networking.k8s.io/gateway-name": "shop"})
    found = workloads(b.snapshot(deployments=(classic, waiting, automatic, b.deployment("orders"))), b.NAMESPACE)
    assert {item.ref.name: is_gateway(item) for item in found} == {"ingress": True, "edge": True, "shop-istio": True, "orders": False}


def test_the_index_finds_what_may_select() -> None:
    """One label of each selector leads to it, an empty selector may select anything."""
    index: LabelIndex[str] = LabelIndex()
    index.add({"app": "orders"}, "orders")
    index.add({"app": "ledger"}, "ledger")
    index.add({}, "all")
    assert index.candidates({"app": "orders", "version": "v1"}) == ["all", "orders"]


def test_unread_in_one_namespace_leaves_the_other_known() -> None:
    """A list that is refused in istio-system says nothing of payments; a kind that was never read is unknown everywhere."""
    snapshot = b.snapshot(refusals=(b.refusal("pods", namespace=b.ISTIO),))
    assert unread_in(snapshot, b.ISTIO, "pods")
    assert not unread_in(snapshot, b.NAMESPACE, "pods")
    assert unread_in(b.snapshot(read=("pods",)), b.NAMESPACE, "services")
    assert not unread_in(b.snapshot(refusals=(b.refusal("leases", absent=True),)), b.NAMESPACE, "leases")


def test_ten_thousand_pods_take_a_moment() -> None:
    """One pass over the pods: 10,000 in 1,000 Deployments within two seconds on a slow machine (0.1 s on a quick one)."""
    deployments = tuple(b.deployment(f"app-{index}", replicas=10) for index in range(1000))
    made = b.pods_of(deployments[0], meshed=False, count=1)[0]
    pods = tuple(
        msgspec.structs.replace(
            made,
            metadata=b.metadata(
                f"app-{index}-{b.HASH}-{number}",
                labels={"app": f"app-{index}", "pod-template-hash": b.HASH},
                owner=f"ReplicaSet/app-{index}-{b.HASH}",
            ),
        )
        for index in range(1000)
        for number in range(10)
    )
    snapshot = b.snapshot(deployments=deployments, pods=pods)
    started = time.perf_counter()
    found = workloads(snapshot, b.NAMESPACE)
    assert time.perf_counter() - started < 2
    assert {len(item.pods) for item in found} == {10}
