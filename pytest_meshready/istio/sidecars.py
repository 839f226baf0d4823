"""What carries the traffic of each pod of the namespace, and what should: line 4.2.1 (checks.md 4.2.1, 2.2, 2.3, 4).

The namespace of the run is one that its team wants in the mesh, so a pod without a data plane is an error whatever the
reason; the reason makes the finding's text. Pods that have ended, that are being deleted, or that are our own do not count.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from pytest_meshready.cluster.objects import Container, Metadata, Pod, PodSpec
from pytest_meshready.cluster.snapshot import Snapshot
from pytest_meshready.istio import nodeagents
from pytest_meshready.istio import sidecar_faults as faults
from pytest_meshready.istio import workloads as loads
from pytest_meshready.istio.dataplane import (
    REDIRECTION,
    STATUS,
    DataPlane,
    dataplane_class,
    image_version,
    injection_status,
    placeholder,
    proxies,
    proxy_revision,
)
from pytest_meshready.istio.injection import label_command
from pytest_meshready.istio.injector import MODE, Cause, Decision, injection, injector_of, installed_revisions
from pytest_meshready.istio.namespaces import mesh_label, unread_in, unread_namespace
from pytest_meshready.istio.sidecar_faults import Fault
from pytest_meshready.istio.workloads import BATCH, Workload, pod_names, workloads
from pytest_meshready.results import Evidence, Finding, Judgement, Level, ObjectRef, Unknown

#: What `exactly_one_sidecar` reads.
READS = ("namespaces", "mutatingwebhookconfigurations", "configmaps", "node_pods", *loads.READS)

_INTERCEPTION = "sidecar.istio.io/interceptionMode"
_REDIRECTING = frozenset({"istio-init", "istio-validation"})
_CRASHES = "CrashLoopBackOff"
_BY_POD = frozenset({Cause.HOST_NETWORK, Cause.POD_LABEL, Cause.POD_ANNOTATION, Cause.SYSTEM_NAMESPACE})


def exactly_one_sidecar(snapshot: Snapshot, allowed: frozenset[str] = frozenset()) -> Judgement:
    """Line 4.2.1, what the objects say: every pod has exactly one proxy, of the revision and version of its control plane.

    In an ambient namespace every pod is redirected to its node's ztunnel, by istio-cni's annotation, none has a sidecar, and
    both agents are ready on the nodes of its pods.

    Args:
        snapshot: of the cluster.
        allowed: names of workloads that may be without a sidecar; they are shown and fail nothing.
    """
    unknown = (*unread_namespace(snapshot), *unread_in(snapshot, snapshot.namespace, *loads.READS))
    if unread_in(snapshot, snapshot.namespace, "pods"):
        return Judgement(unknown=unknown)
    namespace = snapshot.this_namespace()
    labels = namespace.metadata.labels if namespace else None
    ambient = mesh_label(labels or {}) == f"{MODE}=ambient"
    unknown = (*unknown, *(nodeagents.unseen(snapshot) if ambient else _unread_injector(snapshot)))
    every = workloads(snapshot, snapshot.namespace)
    judge = _Ambient(snapshot) if ambient else _Sidecars(snapshot, labels)
    findings = [finding for workload in every for finding in _findings(workload, judge, allowed)]
    pods = [pod for workload in every for pod in workload.pods]
    findings += nodeagents.uncovered(snapshot, [pod for pod in pods if dataplane_class(pod) is DataPlane.AMBIENT]) if ambient else ()
    missing = [_without_pods(workload) for workload in every if _lacks_pods(workload)]
    if not pods and not missing:
        missing = [Unknown(reason=f"no pod works in namespace {snapshot.namespace}, so there is nothing to look at")]
    return Judgement(
        summary=_summary(pods, ambient=ambient),
        examined=len(pods),
        findings=tuple(_as_one(snapshot, findings, pods)),
        unknown=(*unknown, *missing),
        evidence=_evidence(snapshot, every, ambient=ambient),
    )


def _unread_injector(snapshot: Snapshot) -> tuple[Unknown, ...]:
    """What is unknown of the injector; its ConfigMap may be absent, as with an istiod outside the cluster."""
    return (*snapshot.unread("mutatingwebhookconfigurations"), *(() if snapshot.injector else snapshot.unread("configmaps")))


def _findings(workload: Workload, judge: _Sidecars | _Ambient, allowed: frozenset[str]) -> Iterable[Finding]:
    """One finding for each kind of fault of a workload, naming the pods that have it."""
    pods_with: dict[Fault, list[Pod]] = {}
    for pod in workload.pods:
        for fault in judge(pod, workload):
            pods_with.setdefault(fault, []).append(pod)
    for fault, pods in pods_with.items():
        excused = fault.absent and workload.ref.name in allowed
        count = f"{len(pods)} of {len(workload.pods)} {'pod' if len(workload.pods) == 1 else 'pods'}"
        yield Finding(
            code=fault.code,
            level=Level.INFO if excused else fault.level,
            object=workload.ref,
            found=f"{count} {fault.what} ({pod_names(pods)}): {fault.why}",
            wanted="nothing: a [[sidecar_exception]] in the settings allows it" if excused else fault.wanted,
            fix="nothing to do" if excused else fault.fix,
            detail=fault.detail,
        )


def _as_one(snapshot: Snapshot, findings: list[Finding], pods: list[Pod]) -> list[Finding]:
    """Without any injector in the cluster one finding about the namespace says it all."""
    bare = [finding for finding in findings if finding.code == "MR421-NO-INJECTOR"]
    if len(bare) < 2:
        return findings
    whole = replace(
        bare[0],
        object=ObjectRef(kind="Namespace", name=snapshot.namespace),
        found=f"{len(bare)} workloads of {len(pods)} pods in all are without a sidecar: the cluster has no Istio injector that is active",
    )
    return [whole, *(finding for finding in findings if finding not in bare)]


def _lacks_pods(workload: Workload) -> bool:
    return bool(workload.replicas) and not workload.pods and workload.kind not in BATCH


def _without_pods(workload: Workload) -> Unknown:
    return Unknown(reason=f"{workload.ref} wants {workload.replicas} pods and has none that works, so its sidecar could not be looked at")


# --- a namespace with sidecars ----------------------------------------------------------------------------------------


class _Sidecars:
    """Judges the pods of a namespace whose pods should have one sidecar each."""

    def __init__(self, snapshot: Snapshot, labels: Mapping[str, str] | None) -> None:
        self._snapshot = snapshot
        self._labels = labels
        self._revisions = () if snapshot.unread("mutatingwebhookconfigurations") else installed_revisions(snapshot)
        self._by_template: dict[ObjectRef, Decision] = {}

    def __call__(self, pod: Pod, workload: Workload) -> list[Fault]:
        """What is wrong with one pod."""
        kind, found = dataplane_class(pod), proxies(pod)
        if len(found) > 1:
            return [self._several(pod, workload, found)]
        if kind in (DataPlane.GATEWAY, DataPlane.WAYPOINT):
            return self._stale(pod, workload, found[0]) if found else self._unfilled(pod, workload)
        if kind is DataPlane.PROXYLESS:
            return [faults.proxyless()]
        return self._one(pod, workload, found[0], kind) if found else [self._none(pod, workload, kind)]

    def _decide(self, metadata: Metadata, spec: PodSpec) -> Decision:
        """The injector's decision; only the pod's own reasons are known where the namespace could not be read."""
        labels = self._labels or {}
        decision = injection(self._snapshot, labels, metadata.labels, metadata.annotations, host_network=spec.host_network)
        if self._labels is not None or decision.cause in _BY_POD:
            return decision
        return Decision(injected=None, cause=Cause.UNKNOWN, reason="the labels of the namespace could not be read")

    def _again(self, pod: Pod, workload: Workload) -> Decision:
        """What would happen to the pod that replaces this one: judged by the template, as the injector adds labels to pods."""
        if workload.from_pod:
            return self._decide(pod.metadata, pod.spec)
        if workload.ref not in self._by_template:
            self._by_template[workload.ref] = self._decide(workload.template.metadata, workload.template.spec)
        return self._by_template[workload.ref]

    def _several(self, pod: Pod, workload: Workload, found: tuple[Container, ...]) -> Fault:
        names = " and ".join(container.name for container in found)
        decision = self._again(pod, workload)
        why = f"the containers {names} are proxies"
        if not workload.from_pod and proxies(workload.template):
            why += "; the pod template brings one along, and the injector adds another"
        elif decision.cause is Cause.SEVERAL:
            why += f"; {decision.reason}"
        return Fault(
            code="MR421-TWO-SIDECARS",
            level=Level.ERROR,
            what=f"with {len(found)} sidecars",
            why=why,
            wanted="exactly one istio-proxy in each pod",
            fix=f"take the one out that the injector did not make: {faults.edit(workload)}",
        )

    def _unfilled(self, pod: Pod, workload: Workload) -> list[Fault]:
        """A gateway whose container still waits for the injector; one of another make has no Envoy, and that is right."""
        return [self._none(pod, workload, DataPlane.NAKED)] if placeholder(pod) else []

    def _none(self, pod: Pod, workload: Workload, kind: DataPlane) -> Fault:
        """A pod without any proxy."""
        if kind is DataPlane.AMBIENT:
            return faults.mixed(workload)
        if _says_injected(pod):
            return Fault(
                code="MR421-SIDECAR-REMOVED",
                level=Level.ERROR,
                what="without a sidecar",
                why=f"the annotation {STATUS} says that istio-proxy was injected, so another webhook or controller took it out again",
                wanted="the container that the injector added is there",
                fix="look for webhooks and controllers that rewrite pods: kubectl get mutatingwebhookconfigurations",
            )
        fault = self._absent(self._decide(pod.metadata, pod.spec), workload)
        if placeholder(pod):
            return replace(fault, why=f"its container istio-proxy still has the image auto, which the injector should fill in; {fault.why}")
        return fault

    def _absent(self, decision: Decision, workload: Workload) -> Fault:
        """The fault of a pod without a sidecar, by what the injector decides about it today."""
        code, why, fix = "NO-SIDECAR", decision.reason, f"find the cause, then {faults.restart(workload)}"
        label = f"{label_command(self._snapshot)} && {faults.restart(workload)}"
        match decision.cause:
            case Cause.HOST_NETWORK:
                code, fix = "HOST-NETWORK", f"take hostNetwork out, or add a [[sidecar_exception]] with the reason: {faults.edit(workload)}"
            case Cause.POD_LABEL | Cause.POD_ANNOTATION:
                code, fix = "INJECT-FALSE", f"take it out, or add a [[sidecar_exception]] with the reason: {faults.edit(workload)}"
            case Cause.NAMESPACE_UNLABELLED | Cause.NAMESPACE_DISABLED:
                code, fix = "NAMESPACE-UNLABELLED", label
            case Cause.NO_REVISION:
                code, fix = "NO-REVISION", f"use a revision that exists (istioctl tag list): {label}"
            case Cause.NO_INJECTOR:
                code, fix = "NO-INJECTOR", "install Istio, or point a tag at a revision: istioctl tag list"
            case Cause.INJECTED | Cause.SEVERAL if not decision.policy_known:
                why = "the webhooks select them, but the injector's own configuration was not seen, so the cause is not known"
            case Cause.INJECTED | Cause.SEVERAL:
                code, fix = "NOT-RESTARTED", faults.restart(workload)
                why = "a new pod would get one, so these are older than the namespace's label, or started while no injector answered"
            case Cause.OBJECT_SELECTOR | Cause.NEVER_SELECTOR | Cause.POLICY:
                code, fix = "NOT-SELECTED", f"change the labels of its pods, or the injector's configuration: {faults.edit(workload)}"
            case Cause.SYSTEM_NAMESPACE:
                code, fix = "SYSTEM-NAMESPACE", "run the workload in a namespace of its own"
        return Fault(
            code=f"MR421-{code}",
            level=Level.ERROR,
            what="without a sidecar",
            why=why,
            wanted="exactly one istio-proxy in each pod",
            fix=fix,
            absent=True,
        )

    def _one(self, pod: Pod, workload: Workload, proxy: Container, kind: DataPlane) -> list[Fault]:
        """A pod with one sidecar, and what may be wrong with that."""
        again = self._again(pod, workload)
        by_hand = STATUS not in pod.metadata.annotations or (not workload.from_pod and proxies(workload.template))
        wrong = [faults.by_hand(workload)] if by_hand else [faults.lost(again, workload)] if again.injected is False else []
        wrong += self._stale(pod, workload, proxy)
        if pod.metadata.annotations.get(REDIRECTION) == "enabled":
            wrong.append(faults.both(workload))
        if workload.kind in BATCH and kind is DataPlane.CLASSIC:
            wrong.append(faults.never_ends(workload))
        if (stuck := _stuck(pod, proxy)) is not None:
            return [*wrong, faults.crashing(stuck, workload)]
        if _interception(pod, proxy) != "NONE" and not any(c.name in _REDIRECTING for c in pod.spec.init_containers):
            wrong.append(faults.not_redirected(workload))
        if _not_ready(pod, proxy):
            wrong.append(faults.unready(workload))
        return wrong

    def _stale(self, pod: Pod, workload: Workload, proxy: Container) -> list[Fault]:
        """A proxy of another revision than a new pod would get, or else of another version than its injector's."""
        own, again = proxy_revision(pod), self._again(pod, workload)
        if own and self._revisions and own not in self._revisions:
            return [faults.revision_gone(own, workload)]
        if own and again.revision and own != again.revision:
            return [faults.old_revision(own, again.revision, workload)]
        revision = own or again.revision
        wanted, version = _injected_version(self._snapshot, revision), image_version(proxy.image)
        if not wanted or not version or version == wanted:
            return []
        pinned = pod.metadata.annotations.get(faults.PROXY_IMAGE)
        return [faults.old_version(version, wanted, workload, pinned=bool(pinned))]


# --- an ambient namespace ---------------------------------------------------------------------------------------------


class _Ambient:
    """Judges the pods of an ambient namespace, by istio-cni's annotation."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._cni = f"kubectl -n {snapshot.istio_namespace} get daemonset istio-cni-node ztunnel"

    def __call__(self, pod: Pod, workload: Workload) -> list[Fault]:
        """What is wrong with one pod."""
        kind = dataplane_class(pod)
        if kind in (DataPlane.GATEWAY, DataPlane.WAYPOINT, DataPlane.AMBIENT):
            return []
        if proxies(pod):
            return [faults.sidecar_in_ambient(workload)]
        if pod.metadata.labels.get(MODE) == "none":
            code, why, fix = "AMBIENT-OPT-OUT", f"their label {MODE}=none takes them out of the mesh", faults.edit(workload)
        elif pod.spec.host_network:
            code, why, fix = "HOST-NETWORK", "their template uses the node's network, which ztunnel does not capture", faults.edit(workload)
        else:
            code, why = "NOT-CAPTURED", f"istio-cni has not written the annotation {REDIRECTION}=enabled"
            fix = f"{self._cni} && {faults.restart(workload)}"
        return [
            Fault(
                code=f"MR421-{code}",
                level=Level.ERROR,
                what="not in the mesh",
                why=why,
                wanted="every pod of an ambient namespace is redirected to its node's ztunnel",
                fix=fix,
                absent=True,
            )
        ]


# --- small questions --------------------------------------------------------------------------------------------------


def _says_injected(pod: Pod) -> bool:
    """Whether the injector's own note lists an istio-proxy."""
    status = injection_status(pod)
    listed = (status.get("containers"), status.get("initContainers"))
    return any(isinstance(names, list) and "istio-proxy" in names for names in listed)


def _interception(pod: Pod, proxy: Container) -> str:
    said = next((variable.value for variable in proxy.env if variable.name == "ISTIO_META_INTERCEPTION_MODE"), "")
    return pod.metadata.annotations.get(_INTERCEPTION, said)


def _stuck(pod: Pod, proxy: Container) -> str | None:
    """Istio's container that crashes again and again, which keeps the pod from starting or from being reached; None where none does."""
    statuses = (*pod.status.init_container_statuses, *pod.status.container_statuses)
    own = {proxy.name, *_REDIRECTING}
    return next((item.name for item in statuses if item.name in own and item.state.waiting and item.state.waiting.reason == _CRASHES), None)


def _not_ready(pod: Pod, proxy: Container) -> bool:
    """Whether the kubelet says that the proxy is not ready; a pod that is still starting has not said yet."""
    statuses = (*pod.status.container_statuses, *pod.status.init_container_statuses)
    return pod.status.phase == "Running" and any(status.name == proxy.name and not status.ready for status in statuses)


def _injected_version(snapshot: Snapshot, revision: str) -> str:
    """The proxy's version that the injector of a revision gives today; empty where that is not known."""
    config = injector_of(snapshot, revision)
    if config is None:
        return ""
    if "/" in config.proxy_image:
        return image_version(config.proxy_image)
    return image_version(f"{config.proxy_image}:{config.tag}") if config.tag else ""


def _row(workload: Workload) -> dict[str, Any]:
    """One workload, as the report's table shows it."""
    containers = [container for pod in workload.pods for container in proxies(pod)]
    revisions = {proxy_revision(pod) for pod in workload.pods if proxies(pod)}
    return {
        "workload": f"{workload.kind}/{workload.ref.name}",
        "pods": len(workload.pods),
        "data plane": sorted({dataplane_class(pod).value for pod in workload.pods}),
        "proxies": len(containers),
        "revision": sorted(revisions - {""}),
        "version": sorted({image_version(container.image) for container in containers} - {""}),
    }


def _evidence(snapshot: Snapshot, every: Iterable[Workload], *, ambient: bool) -> tuple[Evidence, ...]:
    """The table of the workloads, and what was not compared for want of the injector's configuration."""
    table = Evidence(kind="table", source=f"pods in {snapshot.namespace}", data=[_row(workload) for workload in every if workload.pods])
    if ambient or snapshot.injector is not None:
        return (table,)
    return (
        table,
        Evidence(kind="note", source="ConfigMap istio-sidecar-injector", text="not there: versions of proxies were not compared"),
    )


def _summary(pods: list[Pod], *, ambient: bool) -> str:
    if ambient:
        taken = sum(1 for pod in pods if dataplane_class(pod) is DataPlane.AMBIENT)
        return f"ambient: {taken} of {len(pods)} pods are redirected to ztunnel, which is ready on their nodes; none has a sidecar"
    with_one = [pod for pod in pods if len(proxies(pod)) == 1]
    kinds = Counter(dataplane_class(pod).value for pod in with_one).most_common()
    rest = len(pods) - len(with_one)
    excused = f"; {rest} without one are allowed by the settings" if rest else ""
    return f"{len(with_one)} of {len(pods)} pods have exactly one proxy ({', '.join(f'{count} {kind}' for kind, count in kinds)}){excused}"
