"""Istio's agents on the nodes, wherever they run: istio-cni, which redirects pods, and ztunnel (checks.md 3.2.2, 4).

A snapshot holds the namespaces of the run, of the control plane and of gateways. Charts put the agents elsewhere just as
often (``kube-system``), so what is missing is looked for among the pods of the whole cluster.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pytest_meshready.cluster.objects import Metadata, Pod, PodSpec, PodStatus, PodTemplate
from pytest_meshready.cluster.objects_capacity import NodePod
from pytest_meshready.cluster.snapshot import Snapshot
from pytest_meshready.istio.components import held_namespaces
from pytest_meshready.istio.once import once
from pytest_meshready.istio.projection import is_ambient
from pytest_meshready.istio.workloads import READS as WORKLOADS
from pytest_meshready.istio.workloads import Workload, is_ready, pod_names, workloads
from pytest_meshready.results import Finding, Level, ObjectRef, Unknown

#: What `agents` reads.
READS = (*WORKLOADS, "node_pods")

CNI, ZTUNNEL = "istio-cni-node", "ztunnel"

#: The label by which each is known; charts of all versions write it.
_LABELS = {CNI: "k8s-app", ZTUNNEL: "app"}


@once
def agents(snapshot: Snapshot) -> tuple[Workload, ...]:
    """The node agents in the namespaces that the snapshot holds, then those elsewhere, with the states of their containers."""
    held = held_namespaces(snapshot)
    near = [item for namespace in held for item in workloads(snapshot, namespace) if kind_of(item)]
    elsewhere: dict[tuple[str, str], list[NodePod]] = {}
    for pod in snapshot.node_pods:
        if pod.metadata.namespace not in held and _kind(pod.metadata):
            elsewhere.setdefault((pod.metadata.namespace, pod.metadata.name.rpartition("-")[0]), []).append(pod)
    return (*near, *(_workload(namespace, name, pods) for (namespace, name), pods in sorted(elsewhere.items())))


def kind_of(workload: Workload) -> str:
    """`CNI` or `ZTUNNEL`; empty for any other workload."""
    return _kind(workload.template.metadata)


def needed(snapshot: Snapshot) -> tuple[str, ...]:
    """The agents without which the pods of the run's namespace are not in the mesh."""
    if is_ambient(snapshot, snapshot.namespace):
        return (CNI, ZTUNNEL)
    return (CNI,) if snapshot.injector is not None and snapshot.injector.cni_enabled else ()


def unseen(snapshot: Snapshot) -> Iterator[Unknown]:
    """What is needed and was not seen, and why; and agents of which nothing but their names was recorded."""
    found = agents(snapshot)
    for kind in needed(snapshot):
        if not any(item.pods for item in found if kind_of(item) == kind):
            reason = f"the mesh needs {kind}, and no pod of it was found in the cluster"
            yield from snapshot.unread("node_pods") or (Unknown(reason=reason),)
    for item in found:
        bare = [pod for pod in item.pods if pod.status.phase == "Running" and not pod.status.container_statuses]
        if bare:
            yield Unknown(reason=f"{item.ref}: the states of its containers were not recorded ({pod_names(bare)})")


def uncovered(snapshot: Snapshot, pods: Iterable[Pod]) -> Iterator[Finding]:
    """Nodes with pods of an ambient namespace on which an agent is not ready: their annotation stays, their traffic does not flow.

    Nothing is said of an agent that was not found at all: see `unseen`.
    """
    on: dict[str, list[Pod]] = {}
    for pod in pods:
        if pod.spec.node_name:
            on.setdefault(pod.spec.node_name, []).append(pod)
    for kind in (ZTUNNEL, CNI):
        every = [item for item in agents(snapshot) if kind_of(item) == kind and item.pods]
        ready = {pod.spec.node_name for item in every for pod in item.pods if is_ready(pod)}
        without = sorted(set(on) - ready)
        if every and without:
            yield _uncovered(every[0].ref, kind, without, [pod for node in without for pod in on[node]])


def _uncovered(ref: ObjectRef, kind: str, nodes: list[str], pods: list[Pod]) -> Finding:
    where = ", ".join(nodes[:3]) + (f" and {len(nodes) - 3} more" if len(nodes) > 3 else "")
    carries = kind == ZTUNNEL
    effect = "nothing carries the traffic of" if carries else "pods that start there are not redirected; there run"
    return Finding(
        code=f"MR421-NO-{'ZTUNNEL' if carries else 'CNI'}",
        level=Level.ERROR if carries else Level.WARNING,
        object=ref,
        found=f"no pod of it is ready on {where}, so {effect} {pod_names(pods)}",
        wanted="a ready pod of it on every node that runs pods of an ambient namespace",
        fix=f"see why: kubectl -n {ref.namespace} get pods -o wide -l {_LABELS[kind]}={kind}",
    )


def _kind(metadata: Metadata) -> str:
    return next((kind for kind, label in _LABELS.items() if metadata.labels.get(label) == kind), "")


def _workload(namespace: str, name: str, pods: Iterable[NodePod]) -> Workload:
    """A DaemonSet of another namespace, by its pods; of these only what the list of the whole cluster keeps is known."""
    made = tuple(
        Pod(
            metadata=pod.metadata,
            spec=PodSpec(node_name=pod.spec.node_name),
            status=PodStatus(phase=pod.status.phase, conditions=pod.status.conditions, container_statuses=pod.status.container_statuses),
        )
        for pod in pods
    )
    ref = ObjectRef(kind="DaemonSet", namespace=namespace, name=name)
    return Workload(ref=ref, template=PodTemplate(metadata=made[0].metadata), replicas=len(made), pods=made, from_pod=True)
