"""Whether Prometheus can scrape the mesh, as far as objects say: the static part of line 5.3.2 (checks.md 5.3.2).

That metrics are really there only Prometheus can say. Objects show why they cannot be: a port that demands mTLS and is to
be asked without, a monitor that leaves native sidecars out, a pod that nobody is told to scrape. The injector points the
annotations ``prometheus.io/*`` at Istio's agent (15020), which merges the application's metrics with Envoy's
(``applyPrometheusMerge`` in Istio's pkg/kube/inject/webhook.go); 15020 and 15090 are never captured and never STRICT.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping

from pytest_meshready.cluster.objects import DaemonSet, Pod, Service, ServicePort
from pytest_meshready.cluster.objects_capacity import NAME_LABELS, SCRAPERS
from pytest_meshready.cluster.objects_monitoring import MonitorEndpoint, NamespaceSelector, PodMonitor, ServiceMonitor
from pytest_meshready.cluster.snapshot import Snapshot, in_namespace, selects
from pytest_meshready.istio import ports
from pytest_meshready.istio.components import held_namespaces
from pytest_meshready.istio.dataplane import DataPlane, dataplane_class, proxies
from pytest_meshready.istio.injector import MODE
from pytest_meshready.istio.namespaces import mesh_label
from pytest_meshready.istio.ports import PortState, port_states, target
from pytest_meshready.istio.servermodes import Mode
from pytest_meshready.istio.workloads import BATCH, Workload, pod_names, workloads
from pytest_meshready.results import Evidence, Finding, Judgement, Level, ObjectRef, Unknown

#: What `scrapable` reads.
READS = (*ports.READS, "podmonitors", "servicemonitors")

#: Ports on which a proxy gives its metrics: Istio's agent, with the application's, and Envoy itself.
PROXY_PORTS = frozenset({15020, 15090})

_SCRAPE, _PORT = "prometheus.io/scrape", "prometheus.io/port"
_ENVOY_PORT = "http-envoy-prom"
_ENVOY_PATH = "/stats/prometheus"
_INIT = "__meta_kubernetes_pod_container_init"
_CONTAINER = "__meta_kubernetes_pod_container_name"
_TRUE = frozenset({"true", "True", "TRUE", "t", "T", "1"})
_FALSE = frozenset({"false", "False", "FALSE", "f", "F", "0"})
_WANTED = "metrics on a port that Prometheus can reach without mTLS, or with certificates of the mesh"


class Way(enum.StrEnum):
    """How Prometheus finds the proxy of a pod, as far as objects say."""

    ANNOTATION = "annotations"
    MONITOR = "PodMonitor"
    REFUSED = f"none: {_SCRAPE} is false"
    UNSEEN = "none that objects show"


def scrapable(snapshot: Snapshot) -> Judgement:
    """Line 5.3.2, what the objects say: nothing keeps Prometheus from the metrics of the namespace's proxies and applications.

    Warnings: an application's port that is to be scraped demands mTLS, and it is asked in plaintext; a PodMonitor that leaves
    out native sidecars. Shown: pods that neither annotations nor a PodMonitor point at, as Prometheus may have a job of its
    own for them.
    """
    unknown = list(snapshot.unread(*READS))
    namespace = snapshot.this_namespace()
    found = [item for item in workloads(snapshot, snapshot.namespace) if item.kind not in BATCH]
    states = port_states(snapshot)
    strict = [state for state in states.states if state.served and state.mode is Mode.STRICT]
    if namespace is not None and mesh_label(namespace.metadata.labels) == f"{MODE}=ambient":
        return _ambient(snapshot, unknown, found, strict)
    monitors = [item for item in snapshot.podmonitors if any(map(_asks_proxy, item.spec.pod_metrics_endpoints))]
    ways = {workload.ref: {pod.metadata.name: _way(monitors, pod) for pod in workload.pods if proxies(pod)} for workload in found}
    pods = sum(len(by_pod) for by_pod in ways.values())
    if not pods:
        unknown.append(Unknown(reason=f"no pod of namespace {snapshot.namespace} has a proxy, so there is nothing to scrape"))
    findings = list(_annotated(found, strict))
    findings += _service_monitors(snapshot, strict)
    findings += _pod_monitors(snapshot, found, strict)
    findings += _unseen(snapshot, ways)
    return Judgement(
        summary=f"nothing keeps Prometheus from the proxies of {pods} {'pod' if pods == 1 else 'pods'}",
        examined=pods,
        findings=tuple(findings),
        unknown=tuple(dict.fromkeys((*unknown, *states.unknown))),
        evidence=(
            Evidence(
                kind="table",
                source="annotations of the pods, PodMonitors and ServiceMonitors",
                data=[
                    {"workload": str(ref), "found by": ", ".join(sorted({way.value for way in by_pod.values()}))}
                    for ref, by_pod in ways.items()
                    if by_pod
                ],
            ),
        ),
    )


def _ambient(snapshot: Snapshot, unknown: list[Unknown], own: list[Workload], strict: list[PortState]) -> Judgement:
    """In an ambient namespace ztunnel counts, once on every node; ports of applications it keeps from callers without mTLS.

    A Prometheus in the ambient mesh has mTLS without knowing it.
    """
    outside = strict if _prometheus_outside(snapshot) else []
    closed = list(_annotated(own, outside))
    closed += [*_service_monitors(snapshot, outside), *_pod_monitors(snapshot, own, outside)]
    found = [
        item
        for namespace in held_namespaces(snapshot)
        for item in in_namespace(snapshot.daemonsets, namespace)
        if item.metadata.name.startswith("ztunnel")
    ]
    if not found:
        unknown.append(Unknown(reason=f"no ztunnel was found in {', '.join(held_namespaces(snapshot))}"))
    silent = [item for item in found if item.spec.template.metadata.annotations.get(_SCRAPE) not in _TRUE]
    return Judgement(
        summary="ztunnel is annotated for scraping",
        examined=len(found),
        findings=(*closed, *map(_silent, silent)),
        unknown=tuple(unknown),
    )


def _silent(item: DaemonSet) -> Finding:
    return Finding(
        code="MR532-UNSEEN",
        level=Level.INFO,
        object=ObjectRef(kind="DaemonSet", namespace=item.metadata.namespace, name=item.metadata.name),
        found=f"its pods carry no {_SCRAPE}: true, so Prometheus needs a job or a PodMonitor of its own for them",
        wanted="a target in Prometheus for every pod of ztunnel",
        fix="see the targets of Prometheus; metrics are on port 15020, path /stats/prometheus",
    )


def _prometheus_outside(snapshot: Snapshot) -> bool:
    """Whether a Prometheus is seen that no ztunnel gives mTLS to; the cluster's pods are used where they were read."""
    ambient = {item.metadata.name for item in snapshot.namespaces if mesh_label(item.metadata.labels) == f"{MODE}=ambient"}
    found = [pod for pod in snapshot.node_pods if any(pod.metadata.labels.get(name) in SCRAPERS for name in NAME_LABELS)]
    return bool(found) and not any(pod.metadata.namespace in ambient for pod in found)


# --- how a proxy is found ---------------------------------------------------------------------------------------------


def _way(monitors: list[PodMonitor], pod: Pod) -> Way:
    """How a pod's proxy is found; ``monitors`` are those that ask proxies."""
    annotations = pod.metadata.annotations
    scrape = annotations.get(_SCRAPE, "")
    if scrape in _TRUE and _number(annotations.get(_PORT, "")) in PROXY_PORTS:
        return Way.ANNOTATION
    if any(_selects_pod(item, pod) for item in monitors):
        return Way.MONITOR
    return Way.REFUSED if scrape in _FALSE else Way.UNSEEN


def _selects_pod(monitor: PodMonitor, pod: Pod) -> bool:
    where = _covers(monitor.spec.namespace_selector, monitor.metadata.namespace, pod.metadata.namespace)
    return where and selects(monitor.spec.selector, pod.metadata.labels)


def _covers(selector: NamespaceSelector, own: str, namespace: str) -> bool:
    return selector.any or namespace in (selector.match_names or (own,))


def _asks_proxy(endpoint: MonitorEndpoint) -> bool:
    """Whether an endpoint of a PodMonitor is the proxy's: by port, by path, or by keeping its container alone."""
    if endpoint.port == _ENVOY_PORT or endpoint.path == _ENVOY_PATH:
        return True
    if endpoint.port_number in PROXY_PORTS or _number(str(endpoint.target_port or "")) in PROXY_PORTS:
        return True
    return any(
        step.action == "keep" and step.source_labels == (_CONTAINER,) and "istio-proxy" in step.regex for step in endpoint.relabelings
    )


def _leaves_init_out(endpoint: MonitorEndpoint) -> bool:
    """Whether a relabelling drops what runs in an init container, as native sidecars do."""
    return any(
        step.source_labels == (_INIT,) and (step.action, step.regex) in (("keep", "false"), ("drop", "true"))
        for step in endpoint.relabelings
    )


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 5 else 0


# --- findings ---------------------------------------------------------------------------------------------------------


def _annotated(found: list[Workload], strict: list[PortState]) -> Iterator[Finding]:
    """Pods whose annotations point at a port of the application that demands mTLS."""
    closed: dict[ObjectRef, dict[int, PortState]] = {}
    for state in strict:
        closed.setdefault(state.workload.ref, {})[state.port] = state
    for workload in found:
        if workload.ref in closed:
            yield from _annotated_ports(workload, closed[workload.ref])


def _annotated_ports(workload: Workload, closed: Mapping[int, PortState]) -> Iterator[Finding]:
    """The pods of one workload, with its ports that demand mTLS."""
    by_port: dict[int, list[Pod]] = {}
    for pod in workload.pods:
        port = _number(pod.metadata.annotations.get(_PORT, ""))
        if port in closed and pod.metadata.annotations.get(_SCRAPE) in _TRUE and pod.metadata.name in closed[port].pods:
            by_port.setdefault(port, []).append(pod)
    for port, pods in by_port.items():
        yield Finding(
            code="MR532-STRICT-PORT",
            level=Level.WARNING,
            object=workload.ref,
            found=f"{_PORT} sends Prometheus to port {port}, which demands mTLS {closed[port].server.why} ({pod_names(pods)})",
            wanted=_WANTED,
            fix=_join(workload.ref.namespace)
            if closed[port].ambient
            else "let Istio's agent merge the metrics (enablePrometheusMerge, annotation prometheus.istio.io/merge-metrics), then: "
            f"kubectl -n {workload.ref.namespace} rollout restart {workload.ref.kind.lower()} {workload.ref.name}",
            detail=str(port),
        )


def _join(namespace: str) -> str:
    """What helps in an ambient namespace, where no agent merges metrics."""
    see = f"kubectl -n {namespace} get peerauthentication"
    return f"let Prometheus join the mesh (label {MODE}=ambient of its namespace), or make this port PERMISSIVE: {see}"


def _plaintext(endpoint: MonitorEndpoint) -> bool:
    return endpoint.tls_config is None and endpoint.scheme.lower() != "https"


def _service_monitors(snapshot: Snapshot, strict: list[PortState]) -> Iterator[Finding]:
    """ServiceMonitors that ask a port in plaintext that demands mTLS."""
    behind = {(service, port): state for state in strict for service, port in state.services}
    if not behind:
        return
    services = in_namespace(snapshot.services, snapshot.namespace)
    for monitor in snapshot.servicemonitors:
        if not _covers(monitor.spec.namespace_selector, monitor.metadata.namespace, snapshot.namespace):
            continue
        closed = {
            (service.metadata.name, port.port): behind[service.metadata.name, port.port]
            for service in services
            if selects(monitor.spec.selector, service.metadata.labels)
            for endpoint in filter(_plaintext, monitor.spec.endpoints)
            for port in _asked(service, endpoint)
            if (service.metadata.name, port.port) in behind
        }
        if closed:
            yield _monitor(monitor, [f"Service {service} port {port}" for service, port in closed], next(iter(closed.values())))


def _asked(service: Service, endpoint: MonitorEndpoint) -> Iterator[ServicePort]:
    """The ports of a Service that an endpoint of a ServiceMonitor means: by its name, else by the port of the pods."""
    for port in service.spec.ports:
        aim = port.port if port.target_port in (None, "", 0) else port.target_port
        if (endpoint.port and port.name == endpoint.port) or (not endpoint.port and str(endpoint.target_port) == str(aim)):
            yield port


def _pod_monitors(snapshot: Snapshot, found: list[Workload], strict: list[PortState]) -> Iterator[Finding]:
    """PodMonitors that ask a port in plaintext that demands mTLS, and those that leave native sidecars out."""
    closed = {(state.workload.ref, state.port): state for state in strict}
    for monitor in snapshot.podmonitors:
        selected = [(item, item.pods[0]) for item in found if item.pods and _selects_pod(monitor, item.pods[0])]
        hit = {
            key: closed[key]
            for workload, pod in selected
            for endpoint in filter(_plaintext, monitor.spec.pod_metrics_endpoints)
            if (key := (workload.ref, _aim(endpoint, pod))) in closed
        }
        if hit:
            yield _monitor(monitor, [f"{ref.kind} {ref.name} port {port}" for ref, port in hit], next(iter(hit.values())))
        native = [pod for _, pod in selected if dataplane_class(pod) is DataPlane.NATIVE]
        if native and any(_asks_proxy(endpoint) and _leaves_init_out(endpoint) for endpoint in monitor.spec.pod_metrics_endpoints):
            yield Finding(
                code="MR532-NATIVE-LEFT-OUT",
                level=Level.WARNING,
                object=_ref(monitor),
                found=f"its relabelling drops what runs in init containers, where the native sidecars of {pod_names(native)} run",
                wanted="a monitor that finds the port http-envoy-prom of native sidecars, too",
                fix=f"take the step on {_INIT} out: kubectl -n {monitor.metadata.namespace} edit podmonitor {monitor.metadata.name}",
            )


def _aim(endpoint: MonitorEndpoint, pod: Pod) -> int:
    """The pod's port that an endpoint of a PodMonitor means; 0 where the pod has none of that name."""
    return target(pod, endpoint.port or endpoint.port_number or endpoint.target_port)


def _monitor(monitor: ServiceMonitor | PodMonitor, closed: list[str], state: PortState) -> Finding:
    more = f" and {len(closed) - 3} more" if len(closed) > 3 else ""
    return Finding(
        code="MR532-STRICT-PORT",
        level=Level.WARNING,
        object=_ref(monitor),
        found=f"it asks {', '.join(closed[:3])}{more} in plaintext, where mTLS is demanded {state.server.why}",
        wanted=_WANTED,
        fix=_join(state.workload.ref.namespace)
        if state.ambient
        else "scrape Istio's agent instead (port 15020, path /stats/prometheus), or give Prometheus a certificate of the mesh; "
        f"see: kubectl -n {monitor.metadata.namespace} get {monitor.kind.lower()} {monitor.metadata.name} -o yaml",
    )


def _ref(monitor: ServiceMonitor | PodMonitor) -> ObjectRef:
    return ObjectRef(kind=monitor.kind, namespace=monitor.metadata.namespace, name=monitor.metadata.name)


def _unseen(snapshot: Snapshot, ways: dict[ObjectRef, dict[str, Way]]) -> Iterator[Finding]:
    """Workloads whose proxies nothing points at; a job of Prometheus' own may find them by the name of their port."""
    for way in (Way.UNSEEN, Way.REFUSED):
        names = [ref.name for ref, by_pod in ways.items() if way in by_pod.values()]
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            yield Finding(
                code="MR532-UNSEEN" if way is Way.UNSEEN else "MR532-REFUSED",
                level=Level.INFO,
                object=ObjectRef(kind="Namespace", name=snapshot.namespace),
                found=f"neither annotations nor a PodMonitor point Prometheus at the proxies of {', '.join(names[:3])}{more}"
                if way is Way.UNSEEN
                else f"{_SCRAPE}: false keeps Prometheus from the proxies of {', '.join(names[:3])}{more}",
                wanted="a target in Prometheus for every proxy",
                fix=f"see what Prometheus has found (up by pod in {snapshot.namespace}); else annotate the pods with {_SCRAPE}: 'true'",
            )
