"""Istio's own workloads as a snapshot shows them: istiod of every revision, and the gateways.

A snapshot holds the namespace of the run, the control plane's and the root namespace, so what lies elsewhere (gateways of
other teams, a second mesh) is not judged.
"""

from __future__ import annotations

from dataclasses import dataclass

from pytest_meshready.cluster.objects import Pod
from pytest_meshready.cluster.snapshot import ControlPlane, Snapshot
from pytest_meshready.istio.dataplane import REVISION, proxies, proxy_revision
from pytest_meshready.istio.workloads import READS as WORKLOADS
from pytest_meshready.istio.workloads import Workload, is_gateway, workloads
from pytest_meshready.results import Unknown

#: The kinds that tell which revisions there are and which are in use.
READS = (*WORKLOADS, "namespaces", "mutatingwebhookconfigurations")

DEFAULT = "default"
_ISTIOD = "istiod"
_DISCOVERY = "discovery"
_INJECTION = "istio-injection"


@dataclass(frozen=True, slots=True, kw_only=True)
class Istiod:
    """The istiod of one revision. ``in_use`` tells whether a tag, a namespace or a proxy that was seen refers to it."""

    workload: Workload
    revision: str
    plane: ControlPlane | None
    in_use: bool

    @property
    def service(self) -> str:
        """The Service in front of it: what its webhook calls, else Istio's name for the revision."""
        if self.plane and self.plane.service:
            return self.plane.service
        return _ISTIOD if self.revision == DEFAULT else f"{_ISTIOD}-{self.revision}"

    @property
    def namespace(self) -> str:
        """Where it runs."""
        return self.workload.ref.namespace

    def variable(self, name: str) -> str:
        """An environment variable of its container, as its template sets it; empty where it is not set."""
        containers = (c for c in self.workload.template.spec.containers if c.name == _DISCOVERY)
        return next((variable.value for c in containers for variable in c.env if variable.name == name), "")


def held_namespaces(snapshot: Snapshot) -> tuple[str, ...]:
    """The namespaces whose objects a snapshot holds, the run's first."""
    own = (snapshot.namespace, snapshot.istio_namespace, snapshot.root_namespace, *snapshot.gateway_namespaces)
    return tuple(dict.fromkeys(own))


def istiods(snapshot: Snapshot) -> tuple[Istiod, ...]:
    """The istiod of every revision in the namespaces that the snapshot holds, the one of the run's mesh first."""
    found = [
        _istiod(snapshot, workload)
        for namespace in held_namespaces(snapshot)
        for workload in workloads(snapshot, namespace)
        if _is_istiod(workload)
    ]
    return tuple(sorted(found, key=lambda item: (item.plane is None or item.plane != snapshot.control_plane, item.revision)))


def gateways(snapshot: Snapshot) -> tuple[Workload, ...]:
    """The gateways and waypoints in the namespaces that the snapshot holds, less those that are scaled to nothing."""
    return tuple(
        workload
        for namespace in held_namespaces(snapshot)
        for workload in workloads(snapshot, namespace)
        if is_gateway(workload) and (workload.replicas or workload.pods)
    )


def why_no_istiod(snapshot: Snapshot) -> Unknown:
    """Why no istiod can be seen: it runs outside of the cluster, it was not found, or it could not be told which one counts."""
    plane = snapshot.control_plane
    if is_managed(snapshot):
        revision = plane.revision if plane else DEFAULT
        return Unknown(
            reason=f"the control plane is managed: istiod of revision {revision} runs outside of this cluster and cannot be seen from here"
        )
    if snapshot.control_plane_problem:
        return Unknown(reason=snapshot.control_plane_problem)
    return Unknown(reason=f"no istiod was found in {', '.join(held_namespaces(snapshot))}")


def is_managed(snapshot: Snapshot) -> bool:
    """Whether the run's control plane lies outside of this cluster: an address, or a Service that selects no pods."""
    plane = snapshot.control_plane
    if plane is None:
        return False
    if plane.url:
        return True
    return any(
        service.metadata.name == plane.service and service.metadata.namespace == plane.namespace and not service.spec.selector
        for service in snapshot.services
    )


def _is_istiod(workload: Workload) -> bool:
    if workload.from_pod and workload.kind == "Pod":
        return False
    return workload.labels.get("app") == _ISTIOD or any(c.name == _DISCOVERY for c in workload.template.spec.containers)


def _istiod(snapshot: Snapshot, workload: Workload) -> Istiod:
    bare = Istiod(workload=workload, revision=DEFAULT, plane=None, in_use=False)
    revision = workload.labels.get(REVISION) or bare.variable("REVISION") or DEFAULT
    own = (plane for plane in snapshot.control_planes if plane.revision == revision and plane.namespace == workload.ref.namespace)
    plane = next(own, None)
    return Istiod(workload=workload, revision=revision, plane=plane, in_use=_in_use(snapshot, revision, plane))


def _in_use(snapshot: Snapshot, revision: str, plane: ControlPlane | None) -> bool:
    if plane is not None and (plane == snapshot.control_plane or plane.tags):
        return True
    labels = [namespace.metadata.labels for namespace in snapshot.namespaces]
    if any(own.get(REVISION) == revision for own in labels):
        return True
    if revision == DEFAULT and any(own.get(_INJECTION) == "enabled" for own in labels):
        return True
    return any(_follows(pod, revision) for pod in snapshot.pods)


def _follows(pod: Pod, revision: str) -> bool:
    return bool(proxies(pod)) and proxy_revision(pod) == revision
