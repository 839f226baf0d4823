"""The control plane: is it there, does it have replicas, and do they answer (checks.md 3.2.1).

The rules of its other lines are in modules of their own and named here, so that a check finds them in one place.
"""

from __future__ import annotations

from collections.abc import Iterator

from pytest_meshready.cluster.snapshot import Snapshot
from pytest_meshready.istio.availability import high_availability
from pytest_meshready.istio.components import READS as COMPONENTS
from pytest_meshready.istio.components import Istiod, gateways, held_namespaces, is_managed, istiods, why_no_istiod
from pytest_meshready.istio.election import leader_election
from pytest_meshready.istio.namespaces import unread_in
from pytest_meshready.istio.restarts import no_crash_loops
from pytest_meshready.istio.workloads import Workload, is_ready, pod_names
from pytest_meshready.results import Finding, Judgement, Level, ObjectRef, Unknown

__all__ = ["READS", "gateways", "high_availability", "istiod_replicas", "leader_election", "no_crash_loops"]

#: The kinds that `istiod_replicas` reads.
READS = (*COMPONENTS, "services", "endpointslices")

_SERVICE = "kubernetes.io/service-name"


def istiod_replicas(snapshot: Snapshot) -> Judgement:
    """Line 3.2.1: istiod of every revision in use has two ready replicas or more, and all of them answer.

    Evidence: the Deployment's ``spec.replicas``, the Ready conditions of its pods, and the ready endpoints of the Service
    that proxies and webhooks call.

    Errors: one replica; fewer ready than wanted; fewer than two endpoints; no Istio at all, if the lists were permitted.
    Warnings: one replica of an old revision that nothing refers to any more.
    """
    found = istiods(snapshot)
    findings: list[Finding] = []
    for istiod in found:
        findings += _of_istiod(snapshot, istiod)
    unknown = list(snapshot.unread(*READS))
    if not any(istiod.in_use for istiod in found):
        missing = _no_istio(snapshot, found, unknown)
        if isinstance(missing, Finding):
            findings.append(missing)
        else:
            unknown.append(missing)
    used = [istiod for istiod in found if istiod.in_use]
    return Judgement(
        summary="; ".join(f"istiod of revision {item.revision} has {_ready(item.workload)} ready replicas" for item in used),
        examined=len(used),
        findings=tuple(findings),
        unknown=tuple(unknown),
    )


def _no_istio(snapshot: Snapshot, found: tuple[Istiod, ...], unread: list[Unknown]) -> Finding | Unknown:
    """No istiod is in use: an error only where everything was readable and nothing says that it lies elsewhere."""
    if found:
        names = ", ".join(istiod.revision for istiod in found)
        return Unknown(reason=f"no tag, namespace or proxy that can be seen refers to an istiod that is here (revisions: {names})")
    if unread or is_managed(snapshot) or (snapshot.control_plane_problem and snapshot.control_planes):
        return why_no_istiod(snapshot)
    plane = snapshot.control_plane
    where = ", ".join(held_namespaces(snapshot))
    calls = f"webhook {', '.join(plane.webhooks)} calls Service {plane.namespace}/{plane.service}, but " if plane and plane.webhooks else ""
    return Finding(
        code="MR321-NO-ISTIOD",
        level=Level.ERROR,
        object=ObjectRef(kind="Namespace", name=snapshot.istio_namespace),
        found=f"{calls}no istiod runs in {where}{'' if calls else ', and no injection webhook calls one elsewhere'}",
        wanted="an istiod with two ready replicas",
        fix="install Istio, or name its namespace with --mesh-istio-namespace=NS; see: kubectl get pods -A -l app=istiod",
    )


def _ready(workload: Workload) -> int:
    return sum(1 for pod in workload.pods if is_ready(pod))


def _of_istiod(snapshot: Snapshot, istiod: Istiod) -> Iterator[Finding]:
    workload, namespace = istiod.workload, istiod.namespace
    see = f"kubectl -n {namespace} get pods -l app=istiod,istio.io/rev={istiod.revision}"
    if workload.replicas < 2:
        yield _single(istiod)
        if not istiod.in_use:
            return
    level = Level.ERROR if istiod.in_use else Level.WARNING
    unready = [pod for pod in workload.pods if not is_ready(pod)]
    ready = _ready(workload)
    if ready < workload.replicas and not unread_in(snapshot, namespace, "pods"):
        yield Finding(
            code="MR321-NOT-READY",
            level=level,
            object=workload.ref,
            found=f"{ready} of {workload.replicas} wanted replicas are ready" + (f"; not ready: {pod_names(unready)}" if unready else ""),
            wanted="every wanted replica ready, two or more",
            fix=f"see why: {see}, then kubectl -n {namespace} describe {workload.kind.lower()} {workload.ref.name}",
        )
    if unread_in(snapshot, namespace, "endpointslices") or workload.replicas < 2:
        return
    endpoints = _endpoints(snapshot, namespace, istiod.service)
    if endpoints < 2 <= ready:
        yield Finding(
            code="MR321-ENDPOINTS",
            level=level,
            object=ObjectRef(kind="Service", namespace=namespace, name=istiod.service),
            found=f"{ready} replicas of {workload.ref.name} are ready, but only {endpoints} of its endpoints",
            wanted="every ready replica as an endpoint, two or more",
            fix=f"compare its selector with the labels of the pods: kubectl -n {namespace} describe service {istiod.service}",
        )


def _single(istiod: Istiod) -> Finding:
    workload, namespace = istiod.workload, istiod.namespace
    count = f"{workload.replicas} replica{'' if workload.replicas == 1 else 's'}"
    if not istiod.in_use:
        return Finding(
            code="MR321-OLD-REVISION",
            level=Level.WARNING,
            object=workload.ref,
            found=f"revision {istiod.revision} has {count}, and no tag, namespace or proxy that can be seen refers to it",
            wanted="no revision that is not in use",
            fix=f"make sure that no proxy uses it (istioctl proxy-status), then: istioctl uninstall --revision {istiod.revision}",
        )
    return Finding(
        code="MR321-SINGLE",
        level=Level.ERROR,
        object=workload.ref,
        found=f"revision {istiod.revision} has {count}: while it restarts, no pod is injected and no certificate is signed",
        wanted="two replicas or more (the stock profile has autoscaleMin 1 and replicaCount 1)",
        fix=f"set the Helm values autoscaleMin: 2 and replicaCount: 2 of the chart istiod; "
        f"now: kubectl -n {namespace} scale {workload.kind.lower()} {workload.ref.name} --replicas=2",
    )


def _endpoints(snapshot: Snapshot, namespace: str, service: str) -> int:
    """The ready endpoints of a Service, each pod counted once although it may be in slices of two address families."""
    seen = set()
    for item in snapshot.endpointslices:
        if item.metadata.namespace != namespace or item.metadata.labels.get(_SERVICE) != service:
            continue
        for endpoint in item.endpoints or ():
            if endpoint.conditions.ready is not False:
                seen.add(endpoint.target_ref.name if endpoint.target_ref else endpoint.addresses)
    return len(seen)
