"""How a pod of ours is doing: ready, still on its way, or in trouble, and then which, from what Kubernetes says of it.

`diagnose` looks at the pod alone. `explain` asks for more once a pod is in trouble (the proxy's log, NetworkPolicies, events)
and does without where that is not permitted.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from pytest_meshready.cluster import decode, objects
from pytest_meshready.cluster.answers import ReadError
from pytest_meshready.cluster.client import Cluster
from pytest_meshready.cluster.snapshot import selects
from pytest_meshready.cluster.writes import POD, Manifest
from pytest_meshready.probes.trouble import Reason, Trouble, clipped
from pytest_meshready.waiting import Deadline

#: The name of Istio's proxy, and of the containers that set up the redirection.
PROXY = "istio-proxy"
REDIRECTION = ("istio-init", "istio-validation")

#: Seconds for which no node may fit: longer than a pod that is just leaving takes to make room.
NO_NODE = 10.0

#: Seconds for which the node may fail to make a container: it tries again, and a ConfigMap may come a moment later.
NO_CONTAINER = 8.0

#: Seconds that each of the questions of `explain` may take.
_ASK = 3.0

_NO_IMAGE = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError")
_NO_IMAGE_YET = ("ErrImagePull", "ImageInspectError")
_NO_CONTAINER = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError", "CreateContainerPreparationError")
_CRASHING = ("CrashLoopBackOff", "PostStartHookError", "StartError")

#: Lines of a proxy's log that tell of something wrong (pilot-agent's form, and Envoy's), less what every Envoy says at its start.
_TELLING = re.compile(r"(?:\t|\[)(?:warn|warning|error|critical|fatal)(?:\t|\])(?!.*There is no configured limit)")

#: What the scheduler says after the reasons, and what a container runtime says before them.
_AFTER_REASONS = re.compile(r" (?:no new claims|preemption:)")
_BEFORE_REASONS = re.compile(r"(?:Back-off pulling image \S+ |ErrImagePull: |failed to (?:[a-z]+ )+(?:image|reference) \S+ )")


class _Status(objects.PodStatus, frozen=True):
    message: str = ""


class _Pod(objects.Pod, frozen=True):
    status: _Status = _Status()


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """``patience`` is for how many seconds the same trouble may last before it counts; infinite: until the deadline."""

    ready: bool = False
    trouble: Trouble | None = None
    patience: float = 0.0


def read(pod: Manifest) -> objects.Pod:
    """The pod as rules read it, with the messages of its containers."""
    return _read(pod)


def _read(pod: Manifest) -> _Pod:
    return msgspec.convert(decode.without_nulls(dict(pod)), _Pod)


def diagnose(manifest: Manifest) -> Diagnosis:
    """How a pod is doing, from the pod alone."""
    pod = _read(manifest)
    name = f"probe pod {pod.metadata.namespace}/{pod.metadata.name}"
    for look in (_taken_away, _ended, _without_node):
        found = look(pod, name)
        if found is not None:
            return found
    for status in _statuses(pod):
        found = _container(pod, status, name)
        if found is not None:
            return found
    conditions = {condition.type: condition for condition in pod.status.conditions}
    if pod.status.phase == "Running" and "Ready" in conditions and conditions["Ready"].status == "True":
        return Diagnosis(ready=True)
    return Diagnosis(trouble=_waiting(pod, name), patience=math.inf)


def _statuses(pod: _Pod) -> Iterator[objects.ContainerStatus]:
    yield from pod.status.init_container_statuses
    yield from pod.status.container_statuses


def _taken_away(pod: _Pod, name: str) -> Diagnosis | None:
    for condition in pod.status.conditions:
        if condition.type == "DisruptionTarget" and condition.status == "True":
            return _now(Reason.EVICTED, _evicted(name, condition.message or condition.reason, pod.metadata.namespace))
    if pod.metadata.deletion_timestamp is not None:
        return _now(Reason.GONE, f"{name} was deleted by somebody else while the run used it")
    return None


def _ended(pod: _Pod, name: str) -> Diagnosis | None:
    if pod.status.phase not in ("Failed", "Succeeded"):
        return None
    if pod.status.reason == "Evicted":
        return _now(Reason.EVICTED, _evicted(name, pod.status.message, pod.metadata.namespace))
    if pod.status.reason == "DeadlineExceeded":
        return _now(Reason.GONE, f"{name} reached its own deadline (activeDeadlineSeconds) and was ended by its node")
    for status in _statuses(pod):
        ended = status.state.terminated
        if ended is not None and ended.exit_code:
            return _now(Reason.CRASHED, f"{name} ended: {_exit(status.name, ended)}")
    return _now(Reason.CRASHED, f"{name} ended before it was used: {clipped(pod.status.message or pod.status.reason or pod.status.phase)}")


def _evicted(name: str, why: str, namespace: str) -> str:
    said = f": {clipped(why)}" if why else ""
    return f"{name} was evicted in the middle of the run{said}; run again, or see: kubectl get events -n {namespace}"


def _without_node(pod: _Pod, name: str) -> Diagnosis | None:
    for condition in pod.status.conditions:
        if condition.type == "PodScheduled" and condition.status == "False" and condition.reason == "Unschedulable":
            why = clipped(_AFTER_REASONS.split(condition.message)[0]).rstrip(".")
            sentence = f"no node fits {name}: {why or 'the scheduler does not say why'}; see: kubectl describe nodes"
            return Diagnosis(trouble=Trouble(reason=Reason.UNSCHEDULABLE, sentence=sentence), patience=NO_NODE)
    return None


def _container(pod: _Pod, status: objects.ContainerStatus, name: str) -> Diagnosis | None:
    """The trouble of one container; None as long as it has none."""
    waiting = status.state.waiting
    failed = status.state.terminated or status.last_state.terminated
    if waiting is not None and waiting.reason in _NO_IMAGE:
        sentence = _no_image(pod, status.name, name, waiting)
        patience = math.inf if waiting.reason in _NO_IMAGE_YET else 0.0
        return Diagnosis(trouble=Trouble(reason=Reason.IMAGE, sentence=sentence), patience=patience)
    if waiting is not None and waiting.reason in _NO_CONTAINER:
        sentence = f"the node cannot make the container {status.name} of {name} ({waiting.reason}: {clipped(waiting.message)})"
        return Diagnosis(trouble=Trouble(reason=Reason.CONTAINER, sentence=sentence), patience=NO_CONTAINER)
    if status.name in REDIRECTION and failed is not None and failed.exit_code:
        return Diagnosis(trouble=_redirection(status.name, failed, name), patience=NO_CONTAINER)
    if waiting is not None and waiting.reason in _CRASHING and status.name != PROXY:
        how = _exit(status.name, failed) if failed is not None else f"{status.name}: {clipped(waiting.message)}"
        return _now(Reason.CRASHED, f"{name} does not stay up: {how}; see: {_logs(pod, status.name)}")
    return None


def _no_image(pod: _Pod, container: str, name: str, waiting: objects.StateDetail) -> str:
    images = {item.name: item.image for item in (*pod.spec.containers, *pod.spec.init_containers)}
    said = clipped(_BEFORE_REASONS.sub("", waiting.message))
    why = f"{waiting.reason}: {said}" if said else waiting.reason
    start = f"{name} cannot start: the image {images.get(container, '?')} of {container} cannot be pulled ({why})"
    if container == PROXY or container in REDIRECTION:
        return f"{start}; it is the image of the mesh's own proxy, see: kubectl get events -n {pod.metadata.namespace}"
    return f"{start}; give one that the nodes can pull: --mesh-probe-image=IMAGE"


def _redirection(container: str, failed: objects.StateDetail, name: str) -> Trouble:
    if container == "istio-validation":
        why = "the traffic redirection of Istio's CNI plugin is missing on its node"
        then = "see: kubectl get pods -A -l k8s-app=istio-cni-node -o wide"
    else:
        why = "the traffic redirection could not be set up (it needs NET_ADMIN, NET_RAW and iptables on the node)"
        then = "install istio-cni where nodes forbid that"
    return Trouble(reason=Reason.INIT, sentence=f"{name} cannot start: {why}: {_exit(container, failed)}; {then}")


def _waiting(pod: _Pod, name: str) -> Trouble:
    """A pod that only takes too long, and what it is waiting for."""
    for status in _statuses(pod):
        if status.name == PROXY and not status.ready and (status.state.running or status.restart_count):
            return Trouble(reason=Reason.SIDECAR, sentence=f"the sidecar of {name} did not become ready: {_proxy(status)}")
    for status in _statuses(pod):
        if status.state.waiting is not None:
            why = ": ".join(filter(None, (status.state.waiting.reason, clipped(status.state.waiting.message))))
            return Trouble(reason=Reason.NOT_READY, sentence=f"{name} did not become ready: {status.name} is waiting ({why})")
    unready = ", ".join(status.name for status in _statuses(pod) if not status.ready and not status.state.terminated)
    where = f"not ready: {unready}" if unready else f"phase {pod.status.phase or 'unknown'}, no container has started"
    return Trouble(reason=Reason.NOT_READY, sentence=f"{name} did not become ready ({where})")


def _proxy(status: objects.ContainerStatus) -> str:
    """The state of a proxy that is not ready."""
    restarts = f", restarted {status.restart_count} times" if status.restart_count else ""
    if status.state.waiting is not None:
        return f"{PROXY} is waiting ({status.state.waiting.reason}){restarts}"
    if status.state.terminated is not None:
        return f"{_exit(PROXY, status.state.terminated)}{restarts}"
    return f"{PROXY} is running but not ready{restarts}"


def _exit(container: str, ended: objects.StateDetail) -> str:
    words = ", ".join(filter(None, (ended.reason, f"exit code {ended.exit_code}" if ended.exit_code is not None else "")))
    said = f": {clipped(ended.message)}" if ended.message else ""
    return f"{container} ended ({words}){said}"


def _now(reason: Reason, sentence: str) -> Diagnosis:
    return Diagnosis(trouble=Trouble(reason=reason, sentence=sentence))


def _logs(pod: _Pod, container: str) -> str:
    return f"kubectl logs -n {pod.metadata.namespace} {pod.metadata.name} -c {container} (keep the pod with --mesh-keep)"


# --- more, where it is permitted ---


def explain(cluster: Cluster, trouble: Trouble, manifest: Manifest, *, seconds: float) -> Trouble:
    """The trouble of a pod that was waited for so many seconds, with what the cluster says besides."""
    pod = _read(manifest)
    within = f"did not become ready within {seconds:g} s"
    trouble = Trouble(reason=trouble.reason, sentence=trouble.sentence.replace("did not become ready", within, 1))
    if trouble.reason is Reason.SIDECAR:
        return _explain_sidecar(cluster, trouble, pod)
    if trouble.reason is Reason.NOT_READY:
        event = _last_warning(cluster, pod)
        return _with(trouble, f"; its last event: {event}") if event else trouble
    return trouble


def _explain_sidecar(cluster: Cluster, trouble: Trouble, pod: _Pod) -> Trouble:
    said = _log_hint(cluster, pod)
    log = f"; its log says: {said}" if said else ""
    policies = _egress_policies(cluster, pod)
    if policies:
        names = ", ".join(policies[:3])
        sentence = (
            f"{trouble.sentence}{log}; NetworkPolicy {names} restricts what the pod may connect to: "
            f"it must reach istiod (port 15012) and DNS; see: kubectl describe networkpolicy -n {pod.metadata.namespace}"
        )
        return Trouble(reason=Reason.NETWORK_POLICY, sentence=sentence)
    return _with(trouble, f"{log}; see: {_logs(pod, PROXY)}")


def _with(trouble: Trouble, more: str) -> Trouble:
    return Trouble(reason=trouble.reason, sentence=f"{trouble.sentence}{more}")


def _log_hint(cluster: Cluster, pod: _Pod) -> str:
    """The last line of the proxy's log that tells of something wrong; empty where there is none or it may not be read."""
    path = f"{POD.path(pod.metadata.namespace)}/{pod.metadata.name}/log"
    try:
        answer = cluster.get(path, {"container": PROXY, "tailLines": 60}, deadline=Deadline(_ASK))
    except ReadError:
        return ""
    lines = [line for line in answer.body.decode(errors="replace").splitlines() if _TELLING.search(line)]
    return clipped(re.sub(r"^\S*\d{4}-\d\d-\d\dT\S+\s+", "", lines[-1])) if lines else ""


def _egress_policies(cluster: Cluster, pod: _Pod) -> list[str]:
    """The NetworkPolicies that restrict what this pod may connect to."""
    found = []
    for policy in _items(cluster, f"/apis/networking.k8s.io/v1/namespaces/{pod.metadata.namespace}/networkpolicies", {}):
        spec = policy.get("spec") or {}
        if "Egress" not in (spec.get("policyTypes") or ()) and "egress" not in spec:
            continue
        selector = msgspec.convert(decode.without_nulls(spec.get("podSelector") or {}), objects.LabelSelector)
        if selects(selector, pod.metadata.labels):
            found.append(str(policy["metadata"]["name"]))
    return found


def _last_warning(cluster: Cluster, pod: _Pod) -> str:
    """The newest event of type Warning about the pod."""
    query: dict[str, str | int] = {"fieldSelector": f"involvedObject.name={pod.metadata.name},type=Warning"}
    events = _items(cluster, f"/api/v1/namespaces/{pod.metadata.namespace}/events", query)
    newest = max(events, key=lambda event: str(event.get("lastTimestamp") or event.get("eventTime") or ""), default=None)
    return clipped(f"{newest.get('reason', '')}: {newest.get('message', '')}") if newest else ""


def _items(cluster: Cluster, path: str, query: dict[str, str | int]) -> list[dict[str, Any]]:
    try:
        items = cluster.get(path, query, deadline=Deadline(_ASK)).json().get("items")
    except (ReadError, msgspec.DecodeError):
        return []
    return list(items or ())
