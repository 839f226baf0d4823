"""The ports of the workloads of a namespace, and in what state each is: its mTLS mode, and whether a proxy stands before it.

Joins the pods (`pytest_meshready.istio.workloads`), what carries their traffic, the PeerAuthentications and the redirection.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from pytest_meshready.cluster.objects import Container, Pod, PodSpec, PodTemplate, Probe, Service
from pytest_meshready.cluster.snapshot import Snapshot, in_namespace
from pytest_meshready.istio import workloads as loads
from pytest_meshready.istio.capture import ISTIO_PORTS, capture
from pytest_meshready.istio.dataplane import DataPlane, dataplane_class
from pytest_meshready.istio.injector import MODE, Decision, injection
from pytest_meshready.istio.namespaces import mesh_label
from pytest_meshready.istio.once import once
from pytest_meshready.istio.servermodes import OBEYING, Mode, PeerPolicies, PodModes, ServerMode
from pytest_meshready.istio.workloads import BATCH, LabelIndex, Workload, app_containers, is_gateway, workloads
from pytest_meshready.results import Unknown

#: What `port_states` reads; the webhooks tell of workloads that have no pods, and why a pod has no proxy.
READS = (*loads.READS, "services", "peerauthentications", "namespaces", "mutatingwebhookconfigurations")

#: Stands for the ports of a workload that names none: Envoy takes what comes, in the mode of the pod.
ANY_PORT = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PortState:
    """One port of a workload in one state; pods of one workload that differ make several states of one port.

    Attributes:
        workload: the workload.
        port: the port of the pods, `ANY_PORT` where the workload names none.
        server: the mode that the policies give the port.
        gap: why no proxy stands before the port, as a clause; empty where one does.
        no_proxy: whether the pods have no proxy at all; else only this port passes it by.
        served: whether something is known to answer there; otherwise only a policy or an annotation names the port.
        pods: the names of the pods in this state; none for a workload without pods, which is judged by its template.
        services: the ports of Services that lead there, as (Service, its port).
        labels: the different label sets of these pods.
        ambient: whether the node's ztunnel stands before the port, towards which callers always use mTLS.
    """

    workload: Workload
    port: int
    server: ServerMode
    gap: str = ""
    no_proxy: bool = False
    served: bool = True
    pods: tuple[str, ...] = ()
    services: tuple[tuple[str, int], ...] = ()
    labels: tuple[Mapping[str, str], ...] = ()
    ambient: bool = False

    @property
    def mode(self) -> Mode:
        """What the port really demands: without a proxy before it, nothing."""
        return Mode.DISABLE if self.gap else self.server.mode


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """The states of all ports of a namespace, by workload and port, and what could not be told."""

    states: tuple[PortState, ...]
    unknown: tuple[Unknown, ...] = ()


@dataclass(slots=True)
class _State:
    """A `PortState` while pods are being added to it."""

    served: bool = False
    pods: list[str] = field(default_factory=list)
    services: dict[tuple[str, int], None] = field(default_factory=dict)
    labels: dict[frozenset[tuple[str, str]], Mapping[str, str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Cover:
    """What stands before the ports of a pod: ``gap`` is why nothing does; ``unknown`` is why that cannot be told."""

    gap: str = ""
    unknown: str = ""
    ambient: bool = False


_Key = tuple[int, ServerMode, str, _Cover]


@once
def port_states(snapshot: Snapshot) -> Ports:
    """The states of the ports of the run's namespace; gateways are left out, their listeners obey other rules.

    The ports of a workload are those that its containers declare, that Services lead to, that probes ask, and that a
    policy or an annotation names; UDP and SCTP never go through a proxy and are left out.
    """
    survey = _Survey(snapshot)
    states: list[PortState] = []
    for workload in workloads(snapshot, snapshot.namespace):
        if not is_gateway(workload):
            states += survey.of(workload)
    return Ports(states=tuple(states), unknown=tuple(survey.unknown))


class _Survey:
    """Looks at one workload after another."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._policies = PeerPolicies(snapshot)
        self._services = ServiceIndex(snapshot)
        namespace = snapshot.this_namespace()
        self._labels: Mapping[str, str] = namespace.metadata.labels if namespace else {}
        self.unknown: list[Unknown] = []

    def of(self, workload: Workload) -> Iterator[PortState]:
        """The states of the ports of one workload; pods that have ended answer nobody and leave no template to go by."""
        if not workload.pods and (workload.from_pod or workload.kind in BATCH):
            return
        found: dict[_Key, _State] = {}
        for pod in workload.pods:
            self._add(found, workload, pod, self._cover(pod))
        if not workload.pods:
            template = Pod(metadata=workload.template.metadata, spec=workload.template.spec)
            self._add(found, workload, template, self._intended(workload.template))
        for (port, server, gap, cover), state in sorted(found.items(), key=lambda item: item[0][0]):
            yield PortState(
                workload=workload,
                port=port,
                server=server,
                gap=gap,
                no_proxy=bool(cover.gap),
                served=state.served,
                pods=tuple(state.pods),
                services=tuple(state.services),
                labels=tuple(state.labels.values()),
                ambient=cover.ambient,
            )

    def _add(self, found: dict[_Key, _State], workload: Workload, pod: Pod, cover: _Cover) -> None:
        """Add one pod, or a template in a pod's clothes, to the states of its workload."""
        modes = self._policies.of(pod.metadata.labels, self._snapshot.namespace)
        into = capture(pod, self._snapshot.injector)
        ports = self._ports(workload, pod, modes, into.left_out)
        if cover.unknown and any(port.served for port in ports.values()):
            self._say(f"{workload.ref}: {cover.unknown}")
        if cover.unknown:
            return
        for number, port in ports.items():
            gap = cover.gap or ("" if cover.ambient or number == ANY_PORT else into.gap(number))
            if cover.gap and not port.served:
                continue  # nothing is known to answer there, and no proxy will
            state = found.setdefault((number, modes.port(number), gap, cover), _State())
            state.served = state.served or port.served
            state.services.update(dict.fromkeys(port.services))
            state.labels.setdefault(frozenset(pod.metadata.labels.items()), pod.metadata.labels)
            if workload.pods:
                state.pods.append(pod.metadata.name)

    def _say(self, reason: str) -> None:
        if all(unknown.reason != reason for unknown in self.unknown):
            self.unknown.append(Unknown(reason=reason))

    def _cover(self, pod: Pod) -> _Cover:
        """What stands before a pod that exists."""
        kind = dataplane_class(pod)
        if kind in OBEYING:
            return _Cover(ambient=kind is DataPlane.AMBIENT)
        if kind is DataPlane.PROXYLESS:
            return _Cover(unknown="its pods speak gRPC without a proxy, so whether they demand mTLS is decided in the application")
        if mesh_label(self._labels) == f"{MODE}=ambient" and not pod.spec.host_network:
            return _Cover(gap="its pods are not redirected to ztunnel, although the namespace is ambient")
        return _Cover(gap=_why_no_proxy(self._decision(pod.metadata.labels, pod)))

    def _intended(self, template: PodTemplate) -> _Cover:
        """What would stand before a pod that does not exist yet."""
        again = self._decision(template.metadata.labels, template)
        if again.injected is None:
            return _Cover(unknown=f"it has no pods, and whether one would get a proxy is not known: {again.reason}")
        if again.injected:
            return _Cover()
        ambient = template.metadata.labels.get(MODE, self._labels.get(MODE)) == "ambient" and not template.spec.host_network
        return _Cover(ambient=True) if ambient else _Cover(gap=again.reason)

    def _decision(self, labels: Mapping[str, str], of: Pod | PodTemplate) -> Decision:
        return injection(self._snapshot, self._labels, labels, of.metadata.annotations, host_network=of.spec.host_network)

    def _ports(self, workload: Workload, pod: Pod, modes: PodModes, left_out: Iterable[int]) -> dict[int, _Port]:
        """The ports of a pod: those that answer, with the Services before them, and those that are only named."""
        found: dict[int, _Port] = {port: _Port() for port in _declared(pod)}
        for service, port, number in self._services.behind(pod):
            found.setdefault(number, _Port()).services.append((service.metadata.name, port))
        for number in _probed(workload.template):
            found.setdefault(number, _Port())
        for number in (*modes.ports, *left_out):
            found.setdefault(number, _Port(served=False))
        if not found and workload.kind not in BATCH:
            found[ANY_PORT] = _Port(served=False)
        return {number: port for number, port in found.items() if number not in ISTIO_PORTS}


@dataclass(slots=True)
class _Port:
    served: bool = True
    services: list[tuple[str, int]] = field(default_factory=list)


class ServiceIndex:
    """The Services of the run's namespace, found by the pods that they select."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._index: LabelIndex[Service] = LabelIndex()
        for service in in_namespace(snapshot.services, snapshot.namespace):
            if service.spec.selector and service.spec.type != "ExternalName":
                self._index.add(service.spec.selector, service)

    def of(self, labels: Mapping[str, str]) -> list[Service]:
        """The Services that select pods with these labels."""
        return [
            service
            for service in self._index.candidates(labels)
            if all(labels.get(key) == value for key, value in (service.spec.selector or {}).items())
        ]

    def behind(self, pod: Pod) -> Iterator[tuple[Service, int, int]]:
        """Each TCP port of a Service that leads to the pod: the Service, its port, the pod's port."""
        for service in self.of(pod.metadata.labels):
            for port in service.spec.ports:
                number = target(pod, port.target_port if port.target_port not in (None, "", 0) else port.port)
                if port.protocol in ("", "TCP") and number > 0:
                    yield service, port.port, number


def target(pod: Pod | PodTemplate, port: int | str | None) -> int:
    """The number of a pod's port from its number or name; 0 where no container names it so."""
    if isinstance(port, int):
        return port
    if port is None or (port.isascii() and port.isdigit()):
        return int((port or "0")[:5])
    named = (item for container in serving(pod) for item in container.ports if item.name == port)
    return next((item.container_port for item in named), 0)


def serving(pod: Pod | PodTemplate) -> tuple[Container, ...]:
    """The team's containers that run as long as the pod: the ordinary ones, and its own sidecars among the init containers."""
    beside = (item for item in pod.spec.init_containers if item.restart_policy == "Always")
    return (*app_containers(pod), *app_containers(PodTemplate(spec=PodSpec(containers=tuple(beside)))))


def _declared(pod: Pod) -> Iterator[int]:
    for container in serving(pod):
        for port in container.ports:
            if port.protocol in ("", "TCP") and port.container_port > 0:
                yield port.container_port


def _probed(template: PodTemplate) -> Iterator[int]:
    """The ports that the kubelet asks, as the team wrote the probes; injection points them at Istio's agent."""
    for container in serving(template):
        for probe in (container.readiness_probe, container.liveness_probe, container.startup_probe):
            if probe is not None and (number := target(template, _asked(probe))) > 0:
                yield number


def _asked(probe: Probe) -> int | str:
    action = probe.http_get or probe.tcp_socket or probe.grpc
    return action.port if action else 0


def _why_no_proxy(again: Decision) -> str:
    """Why a pod has no proxy, by what would happen to it now."""
    if again.injected:
        return "its pods are older than the injection, which would give new ones a proxy"
    if again.injected is None:
        return f"its pods have no proxy ({again.reason})"
    return again.reason
