"""Which workloads of the run's namespace take part in the mesh: as it is, and for those without pods as it would be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pytest_meshready.cluster.objects import Pod, PodTemplate
from pytest_meshready.cluster.snapshot import Snapshot
from pytest_meshready.istio.dataplane import DataPlane, dataplane_class
from pytest_meshready.istio.injector import MODE, injection
from pytest_meshready.istio.once import once
from pytest_meshready.istio.workloads import READS as WORKLOADS
from pytest_meshready.istio.workloads import Workload, is_gateway, workloads

#: What `members` reads; the webhooks tell of workloads that have no pods, and why a pod has no proxy.
READS = (*WORKLOADS, "namespaces", "mutatingwebhookconfigurations")

#: What gives a pod an identity of the mesh.
_MESHED = frozenset({DataPlane.NATIVE, DataPlane.CLASSIC, DataPlane.PROXYLESS, DataPlane.AMBIENT})


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One workload. ``meshed`` is None where it cannot be told; ``bare`` are its pods without a proxy, ``reason`` is why.

    A workload of which some pods have a proxy and some have none is meshed, and its ``bare`` pods are not.
    """

    workload: Workload
    meshed: bool | None
    bare: tuple[Pod, ...] = ()
    reason: str = ""

    @property
    def name(self) -> str:
        """The name of the workload."""
        return self.workload.ref.name


@once
def members(snapshot: Snapshot) -> tuple[Member, ...]:
    """The workloads of the run's namespace that run, or will: gateways, and what is scaled to nothing, are left out."""
    namespace = snapshot.this_namespace()
    labels: Mapping[str, str] = namespace.metadata.labels if namespace else {}
    return tuple(_member(snapshot, labels, item) for item in workloads(snapshot, snapshot.namespace) if _runs(item))


def _runs(workload: Workload) -> bool:
    if is_gateway(workload):
        return False
    return bool(workload.pods or (not workload.from_pod and (workload.replicas or workload.kind == "CronJob")))


def _member(snapshot: Snapshot, labels: Mapping[str, str], workload: Workload) -> Member:
    if workload.pods:
        bare = tuple(pod for pod in workload.pods if dataplane_class(pod) not in _MESHED)
        reason = _why(snapshot, labels, bare[0]) if bare else ""
        return Member(workload=workload, meshed=len(bare) < len(workload.pods), bare=bare, reason=reason)
    template = workload.template
    decision = injection(snapshot, labels, template.metadata.labels, template.metadata.annotations, host_network=template.spec.host_network)
    if decision.injected is not True and _ambient(labels, template):
        return Member(workload=workload, meshed=True)
    return Member(workload=workload, meshed=decision.injected, reason="" if decision.injected else decision.reason)


def _ambient(labels: Mapping[str, str], of: Pod | PodTemplate) -> bool:
    """Whether the node's ztunnel is meant to carry the pods' traffic."""
    return of.metadata.labels.get(MODE, labels.get(MODE)) == "ambient" and not of.spec.host_network


def _why(snapshot: Snapshot, labels: Mapping[str, str], pod: Pod) -> str:
    """Why a pod is outside of the mesh, by what would happen to it now."""
    decision = injection(snapshot, labels, pod.metadata.labels, pod.metadata.annotations, host_network=pod.spec.host_network)
    if decision.injected:
        return "its pods are older than the injection, which would give new ones a proxy"
    return "its pods are not redirected to ztunnel" if _ambient(labels, pod) else decision.reason
