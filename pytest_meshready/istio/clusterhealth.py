"""Line 1.1.2: is the cluster healthy on which the mesh is to stand (checks.md 1.1.2).

Whether it is monitored is the part of the line that metrics decide; here only the metrics API is looked at.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime, timedelta

from pytest_meshready.cluster.objects import Condition, Node
from pytest_meshready.cluster.objects_capacity import NodePod
from pytest_meshready.cluster.snapshot import Snapshot
from pytest_meshready.istio.moments import moment, now_of
from pytest_meshready.istio.placement import is_schedulable
from pytest_meshready.istio.releases import Build, kubernetes_range, version
from pytest_meshready.results import Evidence, Finding, Judgement, Level, ObjectRef, Unknown

#: What `cluster_healthy` reads.
READS = ("nodes", "node_pods", "readyz", "apiservices", "configmaps", "deployments")

_ASKED = ("nodes", "node_pods", "readyz", "apiservices")

#: Nodes below which the loss of one is the loss of half of the cluster.
FEWEST_NODES = 3

#: Minor versions by which a kubelet may lag behind the API server (Kubernetes' version skew policy).
SKEW = 3

#: For so long a pod may take until it is ready.
STARTING = timedelta(minutes=5)

_METRICS = "v1beta1.metrics.k8s.io"
_SYSTEM = "kube-system"
_DNS = (("k8s-app", "kube-dns"), ("dns.operator.openshift.io/daemonset-dns", "default"))
_PRESSURES = ("MemoryPressure", "DiskPressure", "PIDPressure", "NetworkUnavailable")
_MINOR = re.compile(r"v?1\.(\d{1,4})")


def cluster_healthy(snapshot: Snapshot, *, now: datetime | None = None) -> Judgement:
    """Line 1.1.2, static part.

    Errors: the API server is not ready; a node that is not cordoned is not ready; no pod of the cluster's DNS is ready; the
    Kubernetes version is older than this Istio supports. Warnings: fewer than three nodes; a node under pressure; a kubelet
    that lags or leads; a pod of kube-system that is not ready; an aggregated API that does not answer, or no metrics API; a
    Kubernetes newer than this Istio was tested with.
    """
    time = now_of(snapshot, now)
    findings = [
        *_server(snapshot),
        *_nodes(snapshot),
        *_kubelets(snapshot),
        *_system_pods(snapshot, time),
        *_apis(snapshot),
        *_supported(snapshot),
    ]
    dns, unknown = _dns(snapshot)
    findings += dns
    return Judgement(
        summary=f"the API server is ready, {len(snapshot.nodes)} nodes, the cluster's DNS and the metrics API are healthy",
        examined=len(snapshot.nodes) + len(snapshot.readyz),
        findings=tuple(findings),
        unknown=(*snapshot.unread(*_ASKED), *unknown),
        evidence=(Evidence(kind="table", source="nodes", data=[_row(node) for node in snapshot.nodes[:50]]),),
    )


def _finding(code: str, level: Level, about: ObjectRef, *, found: str, wanted: str, fix: str) -> Finding:
    return Finding(code=f"MR112-{code}", level=level, object=about, found=found, wanted=wanted, fix=fix)


def _row(node: Node) -> dict[str, object]:
    return {"node": node.metadata.name, "kubelet": node.status.node_info.kubelet_version, "takes pods": is_schedulable(node)}


def _server(snapshot: Snapshot) -> Iterator[Finding]:
    for health in snapshot.readyz:
        if health.status >= 300:
            checks = f": {', '.join(health.failing[:5])}" if health.failing else ""
            about = ObjectRef(kind=health.kind, name=health.metadata.name)
            found = f"the API server says that it is not ready ({health.status}){checks}"
            fix = "kubectl get --raw '/readyz?verbose'"
            yield _finding("SERVER-NOT-READY", Level.ERROR, about, found=found, wanted="/readyz answers 200", fix=fix)


def _nodes(snapshot: Snapshot) -> Iterator[Finding]:
    for node in snapshot.nodes:
        about = ObjectRef(kind=node.kind, name=node.metadata.name)
        see = f"kubectl describe node {node.metadata.name}"
        ready = next((item for item in node.status.conditions if item.type == "Ready"), Condition())
        if ready.status != "True" and not node.spec.unschedulable:
            why = f" ({ready.reason})" if ready.reason else ""
            found = f"it is not ready{why}, and not cordoned"
            yield _finding("NODE-NOT-READY", Level.ERROR, about, found=found, wanted="Ready, or taken out on purpose", fix=see)
        pressed = [item.type for item in node.status.conditions if item.type in _PRESSURES and item.status == "True"]
        if pressed:
            yield _finding("NODE-PRESSURE", Level.WARNING, about, found=f"it reports {', '.join(pressed)}", wanted="no pressure", fix=see)
    taking = [node for node in snapshot.nodes if is_schedulable(node) and not _is_reserved(node)]
    if snapshot.nodes and len(taking) < FEWEST_NODES:
        names = ", ".join(node.metadata.name for node in taking) or "none"
        about = ObjectRef(kind=Node.kind, name=(taking or snapshot.nodes)[0].metadata.name)
        count = f"{len(taking)} node{'' if len(taking) == 1 else 's'}"
        found = f"the cluster has {count} for ordinary pods ({names}): the loss of one is a large part of it"
        yield _finding("FEW-NODES", Level.WARNING, about, found=found, wanted="three nodes or more", fix="add nodes: kubectl get nodes")


def _is_reserved(node: Node) -> bool:
    """Whether a taint keeps ordinary pods away, as on control-plane nodes."""
    return any(taint.effect in ("NoSchedule", "NoExecute") for taint in node.spec.taints)


def _kubelets(snapshot: Snapshot) -> Iterator[Finding]:
    server = _minor(snapshot.kubernetes_version)
    for node in snapshot.nodes:
        own = _minor(node.status.node_info.kubelet_version)
        if server is None or own is None or 0 <= server - own <= SKEW:
            continue
        relation = f"{own - server} minor versions ahead of" if own > server else f"{server - own} minor versions behind"
        yield _finding(
            "KUBELET-SKEW",
            Level.WARNING,
            ObjectRef(kind=node.kind, name=node.metadata.name),
            found=f"its kubelet {node.status.node_info.kubelet_version} is {relation} the API server {snapshot.kubernetes_version}",
            wanted=f"at most {SKEW} minor versions behind, never ahead",
            fix=f"upgrade what is older: kubectl get node {node.metadata.name} -o wide",
        )


def _minor(text: str) -> int | None:
    found = _MINOR.match(text)
    return int(found.group(1)) if found else None


def _is_ready(pod: NodePod) -> bool:
    return any(condition.type == "Ready" and condition.status == "True" for condition in pod.status.conditions)


def _dns(snapshot: Snapshot) -> tuple[list[Finding], tuple[Unknown, ...]]:
    """The pods behind the cluster's DNS, which are its endpoints while they are ready."""
    if snapshot.unread("node_pods"):
        return [], ()
    serving = [pod for pod in snapshot.node_pods if any(pod.metadata.labels.get(key) == value for key, value in _DNS)]
    if not serving:
        reason = "no pod of the cluster's DNS was found (k8s-app=kube-dns), so whether names are resolved is not known"
        return [], (Unknown(reason=reason),)
    if any(map(_is_ready, serving)):
        return [], ()
    about = ObjectRef(kind="Service", namespace=serving[0].metadata.namespace, name="kube-dns")
    found = f"none of the {len(serving)} pods of the cluster's DNS is ready, so no name is resolved"
    fix = f"kubectl -n {about.namespace} get pods -o wide"
    return [_finding("NO-DNS", Level.ERROR, about, found=found, wanted="two ready pods or more", fix=fix)], ()


def _system_pods(snapshot: Snapshot, now: datetime | None) -> Iterator[Finding]:
    late = [
        pod.metadata.name
        for pod in snapshot.node_pods
        if pod.metadata.namespace == _SYSTEM and not _is_ready(pod) and not _is_starting(pod, now) and not pod.metadata.deletion_timestamp
    ]
    if late:
        more = f" and {len(late) - 3} more" if len(late) > 3 else ""
        yield _finding(
            "SYSTEM-POD-NOT-READY",
            Level.WARNING,
            ObjectRef(kind="Namespace", name=_SYSTEM),
            found=f"pods of Kubernetes itself are not ready: {', '.join(late[:3])}{more}",
            wanted="every pod of kube-system is ready",
            fix=f"kubectl -n {_SYSTEM} get pods",
        )


def _is_starting(pod: NodePod, now: datetime | None) -> bool:
    born = moment(pod.metadata.creation_timestamp)
    return now is not None and born is not None and now - born < STARTING


def _apis(snapshot: Snapshot) -> Iterator[Finding]:
    if snapshot.unread("apiservices"):
        return
    for api in snapshot.apiservices:
        available = next((item for item in api.status.conditions if item.type == "Available"), Condition())
        if api.spec.service is not None and available.status != "True":
            service = f"{api.spec.service.namespace}/{api.spec.service.name}"
            found = f"it is not available ({available.reason or 'no condition'}): Service {service} does not answer for it"
            fix = f"kubectl describe apiservice {api.metadata.name}"
            about = ObjectRef(kind=api.kind, name=api.metadata.name)
            yield _finding("API-UNAVAILABLE", Level.WARNING, about, found=found, wanted="Available", fix=fix)
    if not any(api.metadata.name == _METRICS for api in snapshot.apiservices):
        yield _finding(
            "NO-METRICS-API",
            Level.WARNING,
            ObjectRef(kind="APIService", name=_METRICS),
            found="there is no metrics API: kubectl top and HorizontalPodAutoscalers see no CPU and no memory",
            wanted="metrics-server, or another that serves metrics.k8s.io",
            fix="install metrics-server, then: kubectl top nodes",
        )


def _supported(snapshot: Snapshot) -> Iterator[Finding]:
    """Kubernetes' version against what the installed Istio supports; a vendor's build has its own table."""
    istio, own = version(snapshot.istio_version), _minor(snapshot.kubernetes_version)
    if istio is None or own is None or istio.major != 1 or istio.build is Build.VENDOR:
        return
    oldest, newest = kubernetes_range(istio.minor)
    about = ObjectRef(kind="APIServer", name="/version")
    fix = "see https://istio.io/latest/docs/releases/supported-releases/; now: istioctl version; kubectl version"
    if own < oldest:
        found = f"Kubernetes {snapshot.kubernetes_version} is older than Istio {istio.line} supports"
        yield _finding("KUBERNETES-TOO-OLD", Level.ERROR, about, found=found, wanted=f"Kubernetes 1.{oldest} or newer", fix=fix)
    elif newest is not None and own > newest:
        found = f"Kubernetes {snapshot.kubernetes_version} is newer than Istio {istio.line} was tested with"
        yield _finding("KUBERNETES-UNTESTED", Level.WARNING, about, found=found, wanted=f"Kubernetes 1.{newest} or older", fix=fix)
