"""What can be wrong with the data plane of a pod, in words: the faults of line 4.2.1 (checks.md 4.2.1, 4).

`pytest_meshready.istio.sidecars` decides which of them a pod has.
"""

from __future__ import annotations

from dataclasses import dataclass

from pytest_meshready.istio.dataplane import REDIRECTION
from pytest_meshready.istio.injector import MODE, Decision
from pytest_meshready.istio.workloads import Workload
from pytest_meshready.results import Level

PROXY_IMAGE = "sidecar.istio.io/proxyImage"

_ROLLED = frozenset({"Deployment", "StatefulSet", "DaemonSet"})
_EDITED = _ROLLED | {"CronJob"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that is wrong with one pod; pods of a workload with an equal fault become one finding.

    ``what`` follows ``2 of 2 pods``, ``why`` a colon. ``absent`` marks the faults that a team may allow a workload.
    """

    code: str
    level: Level
    what: str
    why: str
    wanted: str
    fix: str
    detail: str = ""
    absent: bool = False


def proxyless() -> Fault:
    """A pod that speaks to istiod itself."""
    return Fault(
        code="MR421-PROXYLESS",
        level=Level.WARNING,
        what="with proxyless gRPC instead of a sidecar",
        why="there is no Envoy: only gRPC calls that use xds addresses are in the mesh",
        wanted="one sidecar, or a conscious decision for proxyless gRPC",
        fix="check that the pods open and take no other connections: istioctl proxy-status",
        absent=True,
    )


def mixed(workload: Workload) -> Fault:
    """A pod in ambient mode beside sidecars."""
    return Fault(
        code="MR421-MIXED-MODES",
        level=Level.WARNING,
        what="in ambient mode",
        why="they are redirected to ztunnel, in a namespace whose other pods have sidecars",
        wanted="one data plane for the namespace (KIA1316)",
        fix=f"take the label {MODE}=ambient from the pod template: {edit(workload)}",
        absent=True,
    )


def by_hand(workload: Workload) -> Fault:
    """A sidecar that no injector will renew."""
    return Fault(
        code="MR421-MANUAL",
        level=Level.WARNING,
        what="with a sidecar that was written by hand",
        why="it is part of the manifest (istioctl kube-inject?), so upgrades of the control plane may pass it by",
        wanted="the injector adds the sidecar when the pod is created",
        fix=f"deploy the manifest without the sidecar: {edit(workload)}",
    )


def lost(again: Decision, workload: Workload) -> Fault:
    """A sidecar that a new pod would not get."""
    return Fault(
        code="MR421-LOST-AT-RESTART",
        level=Level.WARNING,
        what="with a sidecar that the next restart takes away",
        why=f"a new pod would not get one: {again.reason}",
        wanted="the pods that replace these are injected too",
        fix=f"restore what injected them before the next restart: kubectl -n {workload.ref.namespace} get pods --show-labels",
    )


def both(workload: Workload) -> Fault:
    """Two data planes for one pod."""
    return Fault(
        code="MR421-SIDECAR-AND-AMBIENT",
        level=Level.ERROR,
        what="with a sidecar and redirected to ztunnel",
        why=f"the annotation {REDIRECTION} is enabled on pods that have a sidecar, so two data planes take the same traffic",
        wanted="one data plane for each pod",
        fix=f"decide for one, then {restart(workload)}",
    )


def never_ends(workload: Workload) -> Fault:
    """A classic sidecar that keeps a Job from completing (istio#11045)."""
    return Fault(
        code="MR421-JOB-NEVER-ENDS",
        level=Level.WARNING,
        what="of a Job with a classic sidecar",
        why="the sidecar does not end with the application, so the Job never completes unless it posts to localhost:15020/quitquitquit",
        wanted="a native sidecar, which ends with the application",
        fix=f'set the annotation sidecar.istio.io/nativeSidecar: "true" in the pod template: {edit(workload)}',
    )


def not_redirected(workload: Workload) -> Fault:
    """A sidecar without the init container that redirects traffic to it, or checks that."""
    return Fault(
        code="MR421-NOT-REDIRECTED",
        level=Level.WARNING,
        what="whose traffic may pass the sidecar by",
        why="neither istio-init nor istio-validation is among the init containers, so nothing shows that traffic is redirected",
        wanted="one of istio-init and istio-validation, as the injector adds them",
        fix=f"look for controllers that drop init containers, then {restart(workload)}",
    )


def crashing(container: str, workload: Workload) -> Fault:
    """One of Istio's containers crashes; ``istio-validation`` does where istio-cni redirected nothing (istio#14327)."""
    checks = container == "istio-validation"
    return Fault(
        code="MR421-CRASHING",
        level=Level.ERROR,
        what=f"whose {container} crashes again and again",
        why="istio-cni did not redirect their traffic, as on a node where it was not ready yet"
        if checks
        else "they cannot take part in the mesh",
        wanted="Istio's containers start and keep running",
        fix="look at istio-cni on their nodes: kubectl get pods -A -o wide -l k8s-app=istio-cni-node"
        if checks
        else f"see why: kubectl -n {workload.ref.namespace} logs {workload.pods[0].metadata.name} -c {container} --previous",
        detail=container,
    )


def unready(workload: Workload) -> Fault:
    """A sidecar that the kubelet does not find ready."""
    return Fault(
        code="MR421-NOT-READY",
        level=Level.WARNING,
        what="whose sidecar is not ready",
        why="Envoy has not got its configuration from istiod, or the agent cannot start it",
        wanted="istio-proxy is ready",
        fix=f"istioctl proxy-status; kubectl -n {workload.ref.namespace} get pods",
    )


def revision_gone(own: str, workload: Workload) -> Fault:
    """A sidecar of a revision that has no injector any more."""
    return Fault(
        code="MR421-REVISION-GONE",
        level=Level.ERROR,
        what=f"with a sidecar of revision {own}",
        why="the cluster has no injector of that revision any more; where its istiod is gone too, the certificates run out",
        wanted="every sidecar belongs to a control plane that exists",
        fix=restart(workload),
        detail=own,
    )


def old_revision(own: str, wanted: str, workload: Workload) -> Fault:
    """A sidecar of another revision than a new pod would get."""
    return Fault(
        code="MR421-OLD-REVISION",
        level=Level.WARNING,
        what=f"with a sidecar of revision {own}",
        why=f"a new pod would get revision {wanted}",
        wanted=f"every sidecar is of revision {wanted}",
        fix=restart(workload),
        detail=own,
    )


def old_version(version: str, wanted: str, workload: Workload, *, pinned: bool) -> Fault:
    """A sidecar of another version than its injector gives."""
    return Fault(
        code="MR421-OLD-VERSION",
        level=Level.WARNING,
        what=f"with a sidecar of version {version}",
        why=f"the annotation {PROXY_IMAGE} pins its image" if pinned else f"the injector gives version {wanted} to new pods",
        wanted=f"every sidecar is of version {wanted}",
        fix=f"take the annotation out: {edit(workload)}" if pinned else restart(workload),
        detail=version,
    )


def sidecar_in_ambient(workload: Workload) -> Fault:
    """A sidecar where ztunnel should carry the traffic."""
    return Fault(
        code="MR421-SIDECAR-IN-AMBIENT",
        level=Level.ERROR,
        what="with a sidecar in an ambient namespace",
        why="a pod with a sidecar is not redirected to ztunnel, and waypoints are passed by",
        wanted="no sidecar in an ambient namespace (KIA1315)",
        fix=f"stop injecting it, then {restart(workload)}",
    )


def edit(workload: Workload) -> str:
    """The command that opens what a person would change; the pods of a Job and bare pods cannot be changed in place."""
    where, kind, name = workload.ref.namespace, workload.kind.lower(), workload.ref.name
    if workload.kind in _EDITED:
        return f"kubectl -n {where} edit {kind}/{name}"
    return f"change its manifest and create it anew: kubectl -n {where} get {kind} {name} -o yaml"


def restart(workload: Workload) -> str:
    """The command that makes the pods anew."""
    where, kind, name = workload.ref.namespace, workload.kind.lower(), workload.ref.name
    if workload.kind in _ROLLED:
        return f"kubectl -n {where} rollout restart {kind}/{name}"
    return f"create it anew: kubectl -n {where} get {kind} {name} -o yaml"
