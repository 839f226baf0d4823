"""Liveness and readiness probes, as the team wrote them and as the proxy lets them through (checks.md 2.2.2, 2.2.3).

The owner's template is judged, because injection changes the pod: istiod points http, tcp and grpc probes at the agent
(port 15020, ``/app-health/<container>/readyz``) and keeps the originals in ``ISTIO_KUBE_APP_PROBERS``
(pkg/kube/inject/app_probe.go). The pods show whether that happened. Jobs and CronJobs serve nobody and are not asked.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import msgspec

from pytest_meshready.cluster.objects import Container, ContainerStatus, Pod, Probe, Service
from pytest_meshready.cluster.snapshot import InjectorConfig, Snapshot, in_namespace
from pytest_meshready.istio.capture import ISTIO_PORTS, Capture, capture
from pytest_meshready.istio.dataplane import PROXY, DataPlane, dataplane_class
from pytest_meshready.istio.moments import moment
from pytest_meshready.istio.namespaces import unread_in
from pytest_meshready.istio.workloads import BATCH, LabelIndex, Workload, app_containers, is_gateway, pod_names, workloads
from pytest_meshready.istio.workloads import READS as WORKLOADS
from pytest_meshready.results import Finding, Judgement, Level, Unknown

#: The kinds that both rules read. The policies matter only where a probe goes through a proxy.
READS = (*WORKLOADS, "services")
POLICIES = "peerauthentications"

_AGENT_PORT = 15020
_AGENT_PATH = "/app-health/"
_PROBERS = "ISTIO_KUBE_APP_PROBERS"
_REWRITE = "sidecar.istio.io/rewriteAppHTTPProbers"
_KILLED = frozenset({137, 143})  # by signal: SIGKILL after the grace period, SIGTERM within it

#: Whether the proxy of a pod refuses plaintext on a port; see `pytest_meshready.istio.servermodes.strict_in`.
Strict = Callable[[Pod, int], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """A container that answers requests; ``service`` is a Service in front of it, None where it only declares a port."""

    workload: Workload
    container: Container
    service: str | None

    @property
    def why(self) -> str:
        """Why it counts as serving."""
        if self.service is not None:
            return f"Service {self.service} sends requests to container {self.container.name}"
        return f"container {self.container.name} declares port {self.container.ports[0].container_port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    """What differs between the two lines: the prefix of their codes and the probes that they look at."""

    code: str
    kinds: tuple[str, ...]
    blind: Level


_LIVENESS = _Line(code="MR222", kinds=("liveness", "startup"), blind=Level.WARNING)
_READINESS = _Line(code="MR223", kinds=("readiness",), blind=Level.ERROR)


def liveness_probes(snapshot: Snapshot, *, strict: Strict) -> Judgement:
    """Line 2.2.2: every serving container has a liveness probe that tells the truth and does not kill a healthy start.

    Evidence: the probes of the owners' templates, the rewritten probes and the states of the pods. ``strict`` tells
    whether a port of a pod refuses plaintext.

    Errors: a probe of a port that the container does not name; an http or grpc probe that reaches a STRICT proxy; a
    rewritten probe whose original was lost. Warnings: no liveness probe; the readiness probe again, with the same
    threshold and period; a tcp probe that Envoy answers; a container that was killed within its probe's budget at start.
    """
    serving = serving_containers(snapshot)
    findings: list[Finding] = []
    for item in serving:
        findings += _liveness_of(item)
    return _judgement(snapshot, serving, _LIVENESS, strict, findings)


def readiness_probes(snapshot: Snapshot, *, strict: Strict) -> Judgement:
    """Line 2.2.3: every serving container has a readiness probe that reaches the application.

    Evidence and ``strict`` as in `liveness_probes`.

    Errors: no readiness probe behind a Service; a probe of a port that the container does not name; an http or grpc probe
    that reaches a STRICT proxy; a tcp probe that Envoy answers in the application's place, which is as good as none; a
    rewritten probe whose original was lost. Warnings: no readiness probe on a container that declares a port that no
    Service uses.
    """
    serving = serving_containers(snapshot)
    findings = [_no_readiness(item) for item in serving if _probe(item, "readiness") is None]
    return _judgement(snapshot, serving, _READINESS, strict, findings)


def _judgement(snapshot: Snapshot, serving: tuple[Serving, ...], line: _Line, strict: Strict, findings: list[Finding]) -> Judgement:
    asked = _asked(snapshot)
    for workload in asked:
        findings += _unknown_ports(workload, line)
        findings += _through_the_proxy(snapshot.injector, workload, line, strict)
    unknown = list(unread_in(snapshot, snapshot.namespace, *READS))
    if any(finding.code.endswith("-NOT-REWRITTEN") and finding.level is Level.INFO for finding in findings):
        for namespace in dict.fromkeys((snapshot.namespace, snapshot.root_namespace)):
            unknown += unread_in(snapshot, namespace, POLICIES)  # unseen, one of them may make the proxy refuse this probe
    if not asked and not unknown:
        unknown.append(Unknown(reason=f"namespace {snapshot.namespace} has no workload that serves requests"))
    return Judgement(
        summary=f"{len(serving)} serving containers have a {line.kinds[0]} probe that reaches them",
        examined=len(serving),
        findings=tuple(findings),
        unknown=tuple(unknown),
        not_applicable="" if serving else f"no container of namespace {snapshot.namespace} serves a port",
    )


# --- which containers serve -------------------------------------------------------------------------------------------


def serving_containers(snapshot: Snapshot) -> tuple[Serving, ...]:
    """The containers of the namespace that a Service sends requests to, or that declare a port; Istio's own are left out."""
    index: LabelIndex[Service] = LabelIndex()
    for service in in_namespace(snapshot.services, snapshot.namespace):
        if service.spec.selector:
            index.add(service.spec.selector, service)
    found: list[Serving] = []
    for workload in _asked(snapshot):
        found += _serving(workload, index)
    return tuple(found)


def _asked(snapshot: Snapshot) -> tuple[Workload, ...]:
    return tuple(item for item in workloads(snapshot, snapshot.namespace) if item.kind not in BATCH and not is_gateway(item))


def _serving(workload: Workload, index: LabelIndex[Service]) -> Iterator[Serving]:
    labels = dict(workload.labels)
    if workload.pods:
        labels = {**workload.pods[0].metadata.labels, **labels}
    containers = app_containers(workload.template)
    behind: dict[str, str] = {}
    for service in index.candidates(labels):
        if all(labels.get(key) == value for key, value in (service.spec.selector or {}).items()):
            for port in service.spec.ports:
                target = port.target_port if port.target_port is not None else port.port
                for container in _behind(containers, target):
                    behind.setdefault(container.name, service.metadata.name)
    for container in containers:
        if container.name in behind or container.ports:
            yield Serving(workload=workload, container=container, service=behind.get(container.name))


def _behind(containers: tuple[Container, ...], target: int | str) -> tuple[Container, ...]:
    """The container of a Service's target port. Numbers need not be declared: then one that has a readiness probe, or the first."""
    declaring = tuple(container for container in containers if _has_port(container, target))
    if declaring or isinstance(target, str):
        return declaring
    probed = tuple(container for container in containers if container.readiness_probe is not None)
    return (probed or containers)[:1]


def _has_port(container: Container, target: int | str) -> bool:
    return any(target in (port.container_port, port.name) for port in container.ports)


# --- what the owner's template says -----------------------------------------------------------------------------------


def _probe(serving: Serving, kind: str) -> Probe | None:
    """A probe as the team wrote it; where only a pod is known, as injection kept it."""
    probe = _of_kind(serving.container, kind)
    if probe is None or not serving.workload.from_pod or not _is_rewritten(probe):
        return probe
    pods = (*serving.workload.pods, *serving.workload.terminating, *serving.workload.completed)
    originals = probers(pods[0]) if pods else None
    original = originals.get(probe.http_get.path) if originals and probe.http_get else None
    if original is None:
        return probe
    return msgspec.structs.replace(probe, http_get=original.http_get, tcp_socket=original.tcp_socket, grpc=original.grpc)


def _of_kind(container: Container, kind: str) -> Probe | None:
    probes = {"liveness": container.liveness_probe, "readiness": container.readiness_probe, "startup": container.startup_probe}
    return probes[kind]


def _edit(workload: Workload) -> str:
    if workload.kind == "Pod":
        return f"kubectl -n {workload.ref.namespace} get pod {workload.ref.name} -o yaml"
    return f"kubectl -n {workload.ref.namespace} edit {workload.kind.lower()} {workload.ref.name}"


def _no_readiness(serving: Serving) -> Finding:
    workload = serving.workload
    return Finding(
        code="MR223-NO-READINESS",
        level=Level.WARNING if serving.service is None else Level.ERROR,
        object=workload.ref,
        found=f"{serving.why}, which has no readiness probe: it gets requests before it can answer them",
        wanted="a readinessProbe on every container that serves requests",
        fix=f"add a readinessProbe to container {serving.container.name}: {_edit(workload)}",
        detail=serving.container.name,
    )


def _liveness_of(serving: Serving) -> Iterator[Finding]:
    workload, name = serving.workload, serving.container.name
    liveness, readiness = _probe(serving, "liveness"), _probe(serving, "readiness")
    if liveness is None:
        yield Finding(
            code="MR222-NO-LIVENESS",
            level=Level.WARNING,
            object=workload.ref,
            found=f"{serving.why}, which has no liveness probe: if it hangs, nothing restarts it",
            wanted="a livenessProbe that fails only where a restart helps",
            fix=f"add a livenessProbe to container {name}: {_edit(workload)}",
            detail=name,
        )
        return
    if readiness is not None and _same(liveness, readiness, serving.container):
        yield Finding(
            code="MR222-SAME-AS-READINESS",
            level=Level.WARNING,
            object=workload.ref,
            found=f"liveness and readiness of container {name} ask the same with the same threshold ({liveness.failure_threshold}) "
            f"and period ({liveness.period_seconds} s): what should only take it out of the traffic restarts it",
            wanted="a livenessProbe that is slower to fail than the readinessProbe, or asks something else",
            fix=f"raise failureThreshold or periodSeconds of the livenessProbe: {_edit(workload)}",
            detail=name,
        )
    yield from _killed_at_start(serving, liveness)


def _same(one: Probe, other: Probe, container: Container) -> bool:
    """Whether two probes ask the same at the same pace. What exec probes ask is not known, so they never are the same."""
    first, second = _action(one, container), _action(other, container)
    pace = one.failure_threshold == other.failure_threshold and one.period_seconds == other.period_seconds
    return first is not None and first == second and pace


def _action(probe: Probe, container: Container) -> tuple[str, int | str, str] | None:
    """What a probe asks, with its port as a number where the container names it; None for exec."""
    if probe.http_get is not None:
        return ("http", _number(probe.http_get.port, container), probe.http_get.path or "/")
    if probe.tcp_socket is not None:
        return ("tcp", _number(probe.tcp_socket.port, container), "")
    if probe.grpc is not None:
        return ("grpc", _number(probe.grpc.port, container), "")
    return None


def _number(port: int | str, container: Container) -> int | str:
    return next((item.container_port for item in container.ports if item.name == port), port)


def _unknown_ports(workload: Workload, line: _Line) -> Iterator[Finding]:
    for container in app_containers(workload.template):
        for kind in line.kinds:
            probe = _of_kind(container, kind)
            action = _action(probe, container) if probe is not None else None
            if action is None:
                continue
            port, numbers = action[1], {item.container_port for item in container.ports}
            ends = "it never becomes ready" if kind == "readiness" else "it is restarted again and again"
            if isinstance(port, str) and not port.isdecimal():
                problem = f"the {kind} probe of container {container.name} asks port {port!r}, which the container does not name: {ends}"
            elif port not in numbers and any(port == item.host_port for item in container.ports):
                problem = f"the {kind} probe of container {container.name} asks host port {port}, but the kubelet asks the pod: {ends}"
            else:
                continue
            yield Finding(
                code=f"{line.code}-UNKNOWN-PORT",
                level=Level.ERROR,
                object=workload.ref,
                found=problem,
                wanted="a probe of a port of the container, by its number or by a name that it declares",
                fix=f"correct the port of the {kind}Probe or name it under ports: {_edit(workload)}",
                detail=f"{container.name}/{kind}",
            )


def _killed_at_start(serving: Serving, liveness: Probe) -> Iterator[Finding]:
    """Whether a container died just when its liveness probe could first have given up, and is still not ready."""
    if serving.container.startup_probe is not None:
        return
    name, workload = serving.container.name, serving.workload
    budget = liveness.initial_delay_seconds + liveness.failure_threshold * liveness.period_seconds
    grace = workload.template.spec.termination_grace_period_seconds
    longest = budget + liveness.period_seconds + (30 if grace is None else grace)
    pods = [
        pod
        for pod in workload.pods
        for status in pod.status.container_statuses
        if status.name == name and not status.ready and budget * 0.8 <= _lifetime(status) <= longest
    ]
    if pods:
        yield Finding(
            code="MR222-KILLED-WHILE-STARTING",
            level=Level.WARNING,
            object=workload.ref,
            found=f"container {name} was killed when its livenessProbe could first give up ({budget} s after the start) and is not ready: "
            f"{pod_names(pods)}",
            wanted="a startupProbe, or a livenessProbe that waits longer than the start takes",
            fix=f"see how long it takes: kubectl -n {workload.ref.namespace} logs {pods[0].metadata.name} -c {name} --previous",
            detail=name,
        )


def _lifetime(status: ContainerStatus) -> float:
    """How many seconds the container ran before a signal ended it last; below zero where that is not what happened."""
    last = status.last_state.terminated
    if last is None or last.exit_code not in _KILLED or last.reason == "OOMKilled":
        return -1
    started, finished = moment(last.started_at), moment(last.finished_at)
    return (finished - started).total_seconds() if started and finished else -1


# --- what the proxy lets through --------------------------------------------------------------------------------------


def probers(pod: Pod) -> dict[str, Probe] | None:
    """The original probes of an injected pod by their new path, from ``ISTIO_KUBE_APP_PROBERS``.

    Empty where the variable is not there; None where its value is not kept or makes no sense, which says nothing.
    """
    proxy = (item for item in (*pod.spec.init_containers, *pod.spec.containers) if item.name == PROXY)
    text = next((variable.value for item in proxy for variable in item.env if variable.name == _PROBERS), None)
    if text is None:
        return {}
    try:
        return msgspec.convert(json.loads(text), dict[str, Probe])
    except (ValueError, msgspec.ValidationError):
        return None


def _is_rewritten(probe: Probe) -> bool:
    get = probe.http_get
    return get is not None and str(get.port) == str(_AGENT_PORT) and get.path.startswith(_AGENT_PATH)


def _through_the_proxy(injector: InjectorConfig | None, workload: Workload, line: _Line, strict: Strict) -> Iterator[Finding]:
    """What becomes of the probes of injected pods: one finding for each container and problem, however many pods have it."""
    seen: dict[tuple[str, str, str], list[Pod]] = {}
    for pod in workload.pods:
        if dataplane_class(pod) not in (DataPlane.NATIVE, DataPlane.CLASSIC):
            continue
        for container in app_containers(pod):
            for kind in line.kinds:
                problem = _problem(capture(pod, injector), strict, pod, container, kind)
                if problem:
                    seen.setdefault((problem, container.name, kind), []).append(pod)
    for (problem, name, kind), pods in seen.items():
        yield _passing(injector, workload, line, (problem, name, kind), pods)


def _problem(captured: Capture, strict: Strict, pod: Pod, container: Container, kind: str) -> str:
    """What becomes of one probe; empty where it reaches the application."""
    probe = _of_kind(container, kind)
    action = _action(probe, container) if probe is not None else None
    if probe is None or action is None:
        return ""
    if _is_rewritten(probe):
        originals = probers(pod)
        return "PROBER-LOST" if originals is not None and probe.http_get and probe.http_get.path not in originals else ""
    port = action[1]
    if not isinstance(port, int) or port in ISTIO_PORTS or captured.gap(port):
        return ""
    if action[0] == "tcp":
        return "TCP-BLIND"
    return "NOT-REWRITTEN-STRICT" if strict(pod, port) else "NOT-REWRITTEN"


def _passing(injector: InjectorConfig | None, workload: Workload, line: _Line, key: tuple[str, str, str], pods: list[Pod]) -> Finding:
    problem, name, kind = key
    where, who = f"the {kind} probe of container {name}", pod_names(pods)
    rewrite = f"{_rewriting(injector, pods[0])}, then restart: kubectl -n {workload.ref.namespace} rollout restart {_target(workload)}"
    level, found, fix = {
        "NOT-REWRITTEN": (
            Level.INFO,
            f"{where} goes through the proxy as plaintext; it will fail once the mode is STRICT: {who}",
            rewrite,
        ),
        "NOT-REWRITTEN-STRICT": (
            Level.ERROR,
            f"{where} reaches the proxy as plaintext, which STRICT refuses: {who}",
            rewrite,
        ),
        "TCP-BLIND": (
            line.blind,
            f"{where} connects to the proxy, which accepts even if the application is dead: {who}",
            rewrite,
        ),
        "PROBER-LOST": (
            Level.ERROR,
            f"{where} was rewritten to the agent, but {_PROBERS} does not hold the original, so the agent answers 404: {who}",
            f"create the pods anew: kubectl -n {workload.ref.namespace} rollout restart {_target(workload)}",
        ),
    }[problem]
    return Finding(
        code=f"{line.code}-{problem.removesuffix('-STRICT')}",
        level=level,
        object=workload.ref,
        found=found,
        wanted="a probe that istiod has rewritten to the agent's port 15020, which asks the application itself",
        fix=fix,
        detail=f"{name}/{kind}",
    )


def _target(workload: Workload) -> str:
    return f"{workload.kind.lower()} {workload.ref.name}"


def _rewriting(injector: InjectorConfig | None, pod: Pod) -> str:
    """What keeps istiod from rewriting, as something to do."""
    if pod.metadata.annotations.get(_REWRITE, "").lower() in ("false", "0", "f"):
        return f"remove the annotation {_REWRITE} from the pod template"
    if injector is not None and injector.rewrite_app_http_probe is False:
        return "set values.sidecarInjectorWebhook.rewriteAppHTTPProbe=true in the Istio installation"
    return "if a later webhook adds the container, set reinvocationPolicy: IfNeeded in Istio's webhook"
