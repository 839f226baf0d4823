"""Line 4.2.2, from objects: an application that starts beside its sidecar loses its first calls (istio#11130, #4341).

Native sidecars are there before the application; classic ones only where ``holdApplicationUntilProxyStarts`` makes the proxy the
first container, whose start Kubernetes then waits for. An application that cannot bear it ends, and is started again.
"""

from __future__ import annotations

from datetime import datetime

from pytest_meshready.cluster.objects import Pod
from pytest_meshready.cluster.snapshot import Snapshot
from pytest_meshready.istio.dataplane import DataPlane, counted, dataplane_class, proxies
from pytest_meshready.istio.moments import moment
from pytest_meshready.istio.sidecar_faults import restart
from pytest_meshready.istio.wording import shortened
from pytest_meshready.istio.workloads import READS, Workload, workloads
from pytest_meshready.results import Finding, Judgement, Level

#: What `started_after_proxy` reads.
READS_422 = READS

#: Seconds after the start of its pod within which an end is put down to the proxy that was not there yet.
EARLY = 60.0

_WANTED = "an application that starts after its proxy"
_FIX = (
    "use native sidecars (ENABLE_NATIVE_SIDECARS of istiod), or holdApplicationUntilProxyStarts: true in the mesh's defaultConfig, and see "
    "that no annotation of the pods says otherwise (sidecar.istio.io/nativeSidecar, proxy.istio.io/config)"
)


def started_after_proxy(snapshot: Snapshot) -> Judgement:
    """Line 4.2.2, static: applications wait for their proxy.

    Errors: an application that does not wait, ended within a minute and was started again. Warnings: one that does not wait.
    ``MR422-FAILED-FIRST-START``, ``MR422-NO-HOLD``.
    """
    findings: list[Finding] = []
    examined, ambient = 0, 0
    for workload in workloads(snapshot, snapshot.namespace):
        pods = [pod for pod in workload.pods if counted(pod) and dataplane_class(pod) in (DataPlane.NATIVE, DataPlane.CLASSIC)]
        examined += len(pods)
        ambient += sum(1 for pod in workload.pods if counted(pod) and dataplane_class(pod) is DataPlane.AMBIENT)
        early = [pod.metadata.name for pod in pods if not waits_for_proxy(pod) and restarted_early(pod)]
        beside = [pod.metadata.name for pod in pods if not waits_for_proxy(pod)]
        if early:
            findings.append(_finding(workload, early, Level.ERROR))
        elif beside:
            findings.append(_finding(workload, beside, Level.WARNING))
    return Judgement(
        summary=f"the applications of {examined} pods start after their proxies",
        examined=examined,
        findings=tuple(findings),
        unknown=snapshot.unread(*READS_422),
        not_applicable="its pods are ambient: none has a proxy of its own to wait for" if ambient and not examined else "",
    )


def waits_for_proxy(pod: Pod) -> bool:
    """Whether Kubernetes starts the applications of a pod with a sidecar only when the sidecar has started."""
    if dataplane_class(pod) is not DataPlane.CLASSIC:
        return True
    return bool(pod.spec.containers) and pod.spec.containers[0] in proxies(pod)


def restarted_early(pod: Pod) -> bool:
    """Whether an application container failed at first and was started again within a minute of its pod's start."""
    begun, names = moment(pod.status.start_time), {container.name for container in proxies(pod)}
    return any(
        _ended_early(begun, moment(status.last_state.terminated.finished_at))
        for status in pod.status.container_statuses
        if status.name not in names and status.restart_count and status.last_state.terminated
    )


def _ended_early(begun: datetime | None, ended: datetime | None) -> bool:
    return begun is not None and ended is not None and (ended - begun).total_seconds() <= EARLY


def _finding(workload: Workload, pods: list[str], level: Level) -> Finding:
    ended = level is Level.ERROR
    what = "ended before the proxy was ready, and was started again" if ended else "starts beside the proxy, and does not wait for it"
    return Finding(
        code="MR422-FAILED-FIRST-START" if ended else "MR422-NO-HOLD",
        level=level,
        object=workload.ref,
        found=f"in {shortened(pods)} the application {what}",
        wanted=_WANTED,
        fix=f"{_FIX}; then: {restart(workload)}",
        detail="restart" if ended else "beside",
    )
