"""Pods that were made just now: lines 4.1.2, 4.2.1 and 4.2.2, live (checks.md 4.1.2, 4.2.1, 4.2.2).

The run's own pod says nothing about its injection, so it gets what the namespace gives to the team's pods. It is compared
with one that asks for no proxy, and the proxies of the team's pods are asked whether they are ready.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from pytest_meshready.cluster.objects import ContainerStatus, Pod
from pytest_meshready.cluster.snapshot import Snapshot
from pytest_meshready.istio.dataplane import REDIRECTION, DataPlane, dataplane_class, proxies, proxy_revision
from pytest_meshready.istio.injection import label_command
from pytest_meshready.istio.injector import MODE, injection
from pytest_meshready.istio.moments import moment
from pytest_meshready.istio.namespaces import mesh_label, unread_namespace
from pytest_meshready.istio.startorder import restarted_early
from pytest_meshready.istio.wire import Observed, ready_id, said
from pytest_meshready.istio.wording import shortened
from pytest_meshready.istio.workloads import is_ready
from pytest_meshready.results import Evidence, Finding, Judgement, Level, ObjectRef, Unknown

#: Seconds that a proxy may add to the start of a pod: good, and still bearable (checks.md 4.2.2).
GOOD, BEARABLE = 5.0, 15.0

#: Pairs of pods from which a median is taken.
AT_LEAST = 3

_OK = 200


class NotAPodError(ValueError):
    """The object is no pod of Kubernetes' shape."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """How long one pod took. Times have a resolution of one second, as Kubernetes writes them."""

    pod: str
    seconds: float
    proxy_first: float | None = None


def as_pod(manifest: Mapping[str, Any]) -> Pod:
    """A pod as the API server gives it, cut down to what rules read.

    Raises:
        NotAPodError: where it has another shape.
    """
    try:
        return msgspec.convert(dict(manifest), Pod)
    except msgspec.ValidationError as error:
        raise NotAPodError(str(error)) from error


def injected(snapshot: Snapshot, manifest: Mapping[str, Any], plain: Mapping[str, Any] | None = None, *, line: str = "MR421") -> Judgement:
    """Lines 4.1.2 and 4.2.1, live: a pod made now has exactly one proxy, of the expected revision, and it is ready.

    Errors: no proxy, several, one of another revision than the namespace's labels lead to, one that is not ready; in an
    ambient namespace: no redirection, or a sidecar beside it.

    Args:
        snapshot: of the cluster.
        manifest: the pod of this run that says nothing about its injection, as the API server has it.
        plain: the pod of this run that asks for no proxy, for comparison.
        line: the beginning of the codes, ``MR412`` or ``MR421``.
    """
    try:
        pod = as_pod(manifest)
        other = as_pod(plain) if plain is not None else None
    except NotAPodError as error:
        return Judgement(unknown=(Unknown(reason=f"the pod of this run could not be understood: {error}"),))
    unknown = list(unread_namespace(snapshot))
    namespace = snapshot.this_namespace()
    labels = namespace.metadata.labels if namespace else {}
    ambient = mesh_label(labels) == f"{MODE}=ambient"
    findings = _ambient(snapshot, pod, line) if ambient else _sidecar(snapshot, pod, labels, line)
    if not findings and not is_ready(pod):
        unknown.append(Unknown(reason=f"pod {pod.metadata.name} is not ready, so its proxy could not be judged"))
    if other is not None and proxies(other):
        unknown.append(Unknown(reason=f"pod {other.metadata.name} asked for no proxy and has one, so nothing can be compared with it"))
    revision = proxy_revision(pod)
    how = "redirected to its node's ztunnel" if ambient else f"exactly one proxy{f' of revision {revision}' if revision else ''}"
    return Judgement(
        summary=f"a pod made now in {pod.metadata.namespace} got {how}, and it is ready",
        examined=1,
        findings=tuple(findings),
        unknown=tuple(unknown),
        evidence=tuple(_containers(item) for item in (pod, other) if item is not None),
    )


def proxies_ready(observed: Observed) -> Judgement:
    """Line 4.2.1, live: the proxies of the team's pods say that they are ready (port 15021, asked from outside the mesh).

    Errors: another status than 200. Without an answer the proxy is not verified: a NetworkPolicy may be in the way.
    ``MR421-PROXY-NOT-READY``.
    """
    asked = {target.pod: target for target in observed.targets.targets if target.proxied}
    if not asked and observed.targets.targets and all(target.state.ambient for target in observed.targets.targets):
        return Judgement(not_applicable="the pods are ambient and have no proxy of their own that could be asked")
    wrong: dict[ObjectRef, list[str]] = {}
    silent: dict[str, list[str]] = {}
    for pod, target in asked.items():
        answer = observed.answers.get(ready_id(pod))
        if answer is None or not answer.status:
            silent.setdefault(said(answer), []).append(pod)
        elif answer.status != _OK:
            wrong.setdefault(target.workload, []).append(f"{pod} ({answer.status})")
    unknown = [Unknown(reason=f"the readiness of the proxies of {shortened(pods)} {how}") for how, pods in silent.items()]
    unknown += observed.targets.unknown
    if not asked and not unknown:
        unknown.append(Unknown(reason="no ready pod of the namespace has a sidecar, so none was asked"))
    return Judgement(
        summary=f"the proxies of {len(asked)} pods answer as ready",
        examined=len(asked),
        findings=tuple(_not_ready(ref, pods) for ref, pods in wrong.items()),
        unknown=tuple(unknown),
        evidence=(Evidence(kind="sample", source="ready pods", text=observed.targets.sampled),),
    )


def startup(
    meshed: Sequence[Mapping[str, Any]], plain: Sequence[Mapping[str, Any]], *, namespace: str, at_least: int = AT_LEAST
) -> Judgement:
    """Line 4.2.2, live: what a proxy adds to the time from scheduled to ready, by the median of several pods.

    Errors: more than 15 s; an application container that ended and was started again within a minute, before its proxy was
    ready. Warnings: more than 5 s. ``MR422-...``.

    Args:
        meshed: pods of this run with a proxy, as the API server has them, all ready.
        plain: as many of the same image without.
        namespace: where they were made.
        at_least: the number of pairs below which nothing is said.
    """
    try:
        with_proxy, without = ([as_pod(item) for item in items] for items in (meshed, plain))
    except NotAPodError as error:
        return Judgement(unknown=(Unknown(reason=f"a pod of this run could not be understood: {error}"),))
    bare = [pod.metadata.name for pod in with_proxy if not proxies(pod) and dataplane_class(pod) is not DataPlane.AMBIENT]
    if bare:
        reason = f"{shortened(bare)} got no proxy, so there is nothing to compare (lines 4.1.2 and 4.2.1 say why)"
        return Judgement(unknown=(Unknown(reason=reason),))
    slow = [start for pod in with_proxy if (start := start_of(pod))]
    fast = [start for pod in without if (start := start_of(pod))]
    evidence = (_times("with a proxy", slow), _times("without a proxy", fast))
    if min(len(slow), len(fast)) < at_least:
        reason = f"only {len(slow)} pods with and {len(fast)} without a proxy became ready, and {at_least} of each are needed"
        return Judgement(unknown=(Unknown(reason=reason),), evidence=evidence)
    added = statistics.median(item.seconds for item in slow) - statistics.median(item.seconds for item in fast)
    findings = [_failed_first(pod) for pod in with_proxy if restarted_early(pod)]
    if added > GOOD:
        findings.append(_delayed(namespace, added))
    return Judgement(
        summary=f"a proxy adds {max(added, 0.0):.0f} s to the start of a pod (median of {len(slow)} and {len(fast)} pods)",
        examined=len(slow) + len(fast),
        findings=tuple(findings),
        evidence=evidence,
    )


def start_of(pod: Pod) -> Start | None:
    """How long a pod took from scheduled to ready; None where its conditions do not say."""
    times = {item.type: moment(item.last_transition_time) for item in pod.status.conditions if item.status == "True"}
    scheduled, ready = times.get("PodScheduled"), times.get("Ready")
    if scheduled is None or ready is None:
        return None
    names = {container.name for container in proxies(pod)}
    started = {status.name: _started(status) for status in (*pod.status.init_container_statuses, *pod.status.container_statuses)}
    own = [time for name in names if (time := started.get(name))]
    apps = [time for container in pod.spec.containers if container.name not in names and (time := started.get(container.name))]
    first = (min(apps) - max(own)).total_seconds() if own and apps else None
    return Start(pod=pod.metadata.name, seconds=(ready - scheduled).total_seconds(), proxy_first=first)


# --- details ----------------------------------------------------------------------------------------------------------


def _started(status: ContainerStatus) -> Any:  # noqa: ANN401 - a moment or nothing
    return moment(status.state.running.started_at) if status.state.running else None


def _sidecar(snapshot: Snapshot, pod: Pod, labels: Mapping[str, str], line: str) -> list[Finding]:
    """What is wrong with a new pod of a namespace that has sidecars."""
    found = proxies(pod)
    own = {key: value for key, value in pod.metadata.labels.items() if "istio.io" not in key.partition("/")[0]}
    decision = injection(snapshot, labels, own, {})
    place = ObjectRef(kind="Namespace", name=pod.metadata.namespace)
    if not found:
        why = decision.reason if not decision.injected else "the webhooks select it, so the injector did not answer or did not inject"
        return [
            Finding(
                code=f"{line}-NOT-INJECTED",
                level=Level.ERROR,
                object=place,
                found=f"a pod made now got no proxy: {why}",
                wanted="every new pod gets its proxy by the namespace's label",
                fix=f"label the namespace, and see that the injector answers: {label_command(snapshot)}",
            )
        ]
    if len(found) > 1:
        names = " and ".join(container.name for container in found)
        return [
            Finding(
                code=f"{line}-TWO-PROXIES",
                level=Level.ERROR,
                object=place,
                found=f"a pod made now got {len(found)} proxies, the containers {names}: {decision.reason}",
                wanted="exactly one proxy",
                fix="let one webhook match: kubectl get mutatingwebhookconfigurations",
            )
        ]
    return [*_revision(pod, decision.revision, place, line), *_unready(pod, found[0].name, place, line)]


def _revision(pod: Pod, wanted: str, place: ObjectRef, line: str) -> list[Finding]:
    own = proxy_revision(pod)
    if not own or not wanted or own == wanted:
        return []
    return [
        Finding(
            code=f"{line}-OTHER-REVISION",
            level=Level.ERROR,
            object=place,
            found=f"a pod made now got a proxy of revision {own}, but the namespace's labels lead to {wanted}",
            wanted=f"a proxy of revision {wanted}",
            fix="see which webhook answers first: kubectl get mutatingwebhookconfigurations -l app=sidecar-injector",
        )
    ]


def _unready(pod: Pod, container: str, place: ObjectRef, line: str) -> list[Finding]:
    statuses = (*pod.status.init_container_statuses, *pod.status.container_statuses)
    status = next((item for item in statuses if item.name == container), None)
    if status is None or status.ready:
        return []
    return [
        Finding(
            code=f"{line}-PROXY-NOT-READY",
            level=Level.ERROR,
            object=place,
            found=f"the proxy of a pod made now did not become ready ({status.restart_count} restarts)",
            wanted="a proxy that is ready",
            fix="see whether it reaches istiod: istioctl proxy-status",
        )
    ]


def _ambient(snapshot: Snapshot, pod: Pod, line: str) -> list[Finding]:
    """What is wrong with a new pod of an ambient namespace."""
    place = ObjectRef(kind="Namespace", name=pod.metadata.namespace)
    if dataplane_class(pod) is DataPlane.AMBIENT and not proxies(pod):
        return []
    redirected = pod.metadata.annotations.get(REDIRECTION) == "enabled"
    found = "is not redirected to its node's ztunnel" if not redirected else "has a sidecar beside the redirection to ztunnel"
    return [
        Finding(
            code=f"{line}-NOT-REDIRECTED" if not redirected else f"{line}-BOTH",
            level=Level.ERROR,
            object=place,
            found=f"a pod made now {found}",
            wanted="every new pod is redirected to ztunnel and has no sidecar",
            fix=f"look at istio-cni on its node: kubectl -n {snapshot.istio_namespace} get daemonset istio-cni-node ztunnel",
        )
    ]


def _not_ready(workload: ObjectRef, pods: list[str]) -> Finding:
    return Finding(
        code="MR421-PROXY-NOT-READY",
        level=Level.ERROR,
        object=workload,
        found=f"the proxies of {shortened(pods)} do not answer as ready",
        wanted="200 from /healthz/ready on port 15021",
        fix=f"see why: kubectl -n {workload.namespace} logs {pods[0].partition(' ')[0]} -c istio-proxy",
    )


def _delayed(namespace: str, added: float) -> Finding:
    return Finding(
        code="MR422-SLOW-START",
        level=Level.ERROR if added > BEARABLE else Level.WARNING,
        object=ObjectRef(kind="Namespace", name=namespace),
        found=f"a proxy adds {added:.0f} s to the start of a pod",
        wanted=f"at most {GOOD:.0f} s",
        fix="see what proxies wait for: istioctl proxy-status",
    )


def _failed_first(pod: Pod) -> Finding:
    return Finding(
        code="MR422-FAILED-FIRST-START",
        level=Level.ERROR,
        object=ObjectRef(kind="Namespace", name=pod.metadata.namespace),
        found=f"in pod {pod.metadata.name} the application ended before its proxy was ready, and was started again",
        wanted="an application that starts after its proxy",
        fix="use native sidecars, or set holdApplicationUntilProxyStarts: true in the mesh's defaultConfig",
        detail="restart",
    )


def _containers(pod: Pod) -> Evidence:
    names = [container.name for container in proxies(pod)]
    text = f"{len(names)} proxies ({', '.join(names)})" if names else "no proxy"
    return Evidence(kind="pod", source=f"pod {pod.metadata.namespace}/{pod.metadata.name} of this run", text=text)


def _times(what: str, starts: list[Start]) -> Evidence:
    rows = [{"pod": item.pod, "seconds": item.seconds, "application after proxy": item.proxy_first} for item in starts]
    return Evidence(kind="table", source=f"pods of this run {what}, from scheduled to ready", data=rows)
