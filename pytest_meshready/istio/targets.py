"""What live checks look at: the ports of the namespace's pods, and the ports of its Services as callers see them.

Every Service port leads to a target, or is listed as not covered with the reason; of each workload's pods a few are asked.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pytest_meshready.cluster.objects import Pod, Service, ServicePort
from pytest_meshready.cluster.snapshot import Snapshot, in_namespace
from pytest_meshready.istio import ports
from pytest_meshready.istio.dataplane import DataPlane, dataplane_class
from pytest_meshready.istio.namespaces import unread_in
from pytest_meshready.istio.ports import ANY_PORT, PortState, port_states, serving, target
from pytest_meshready.istio.protocols import HTTP_FAMILY, Protocol, declared, named
from pytest_meshready.istio.workloads import BATCH, Workload, is_gateway, is_ready, workloads
from pytest_meshready.results import ObjectRef, Unknown

#: What `targets` reads; endpoints say which of a Service's pods get requests.
READS = (*ports.READS, "configmaps")

#: Pods asked of each workload, for each state that its ports are in.
PODS = 2

_REWRITTEN = "/app-health/"
_PROXIED = frozenset({DataPlane.NATIVE, DataPlane.CLASSIC})


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One port of one pod, to be asked from outside the mesh.

    Attributes:
        state: the port by configuration; ``state.mode`` is what it should demand.
        pod: the pod's name.
        address: the pod's address.
        account: the pod's service account.
        protocol: what the port speaks, as istiod believes.
        path: the readiness path, for ports that speak HTTP; empty where none is known.
        container_says: the protocol that the container's own port name declares.
        proxied: whether the pod has a sidecar.
    """

    state: PortState
    pod: str
    address: str
    account: str
    protocol: Protocol
    path: str = ""
    container_says: Protocol = Protocol.GUESSED
    proxied: bool = True

    @property
    def workload(self) -> ObjectRef:
        """The workload of the pod."""
        return self.state.workload.ref

    @property
    def port(self) -> int:
        """The port of the pod."""
        return self.state.port

    @property
    def key(self) -> str:
        """Tells targets apart."""
        return f"{self.pod}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One port of a Service, to be called from inside the mesh as its callers do.

    ``workloads`` are behind it; ``wanted`` tells whether any of them wants to have pods.
    """

    service: ObjectRef
    port: int
    protocol: Protocol
    path: str = ""
    workloads: tuple[ObjectRef, ...] = ()
    targets: tuple[Target, ...] = ()
    wanted: bool = True

    @property
    def host(self) -> str:
        """The name by which callers know it."""
        return f"{self.service.name}.{self.service.namespace}"

    @property
    def key(self) -> str:
        """``orders:8080``."""
        return f"{self.service.name}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class NotCovered:
    """A port of a Service that nothing is asked of. ``matters`` tells whether that leaves a gap in what the lines say."""

    place: str
    reason: str
    matters: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Targets:
    """Everything to ask.

    ``sampled`` says which pods were chosen; ``bare`` are ports of workloads that should have
    pods and have no ready one; ``unknown`` is what hides more.
    """

    targets: tuple[Target, ...] = ()
    calls: tuple[Call, ...] = ()
    not_covered: tuple[NotCovered, ...] = ()
    sampled: str = ""
    unknown: tuple[Unknown, ...] = ()
    bare: tuple[PortState, ...] = ()


def targets(snapshot: Snapshot, paths: Mapping[str, str] | None = None, pods: int = PODS) -> Targets:
    """What live checks ask.

    Args:
        snapshot: of the cluster.
        paths: the path to ask for, by the name of a Service or a workload, where the team gave one; else it is that of the
            readiness probe.
        pods: how many pods of each workload are asked at most.
    """
    return _Survey(snapshot, paths or {}, pods).result()


class _Survey:
    """Goes through the ports of pods, then through those of Services."""

    def __init__(self, snapshot: Snapshot, paths: Mapping[str, str], pods: int) -> None:
        self._snapshot = snapshot
        self._paths = paths
        self._at_most = pods
        self._services = {item.metadata.name: item for item in in_namespace(snapshot.services, snapshot.namespace)}
        self._every = workloads(snapshot, snapshot.namespace)
        self._pods = {pod.metadata.name: pod for workload in self._every for pod in workload.pods}
        keys = tuple(key for key in ports.READS if key != "peerauthentications")
        self._unread = unread_in(snapshot, snapshot.namespace, *keys)

    def result(self) -> Targets:
        """Both."""
        table = port_states(self._snapshot)
        states = [state for state in table.states if state.served and state.port != ANY_PORT]
        found, bare, ready = self._of_states(states)
        calls, missing = self._calls(found)
        asked = len({target.pod for target in found})
        return Targets(
            targets=tuple(found),
            calls=tuple(calls),
            not_covered=tuple(missing),
            sampled=f"{asked} of {ready} ready pods, at most {self._at_most} of each workload and state",
            unknown=tuple(dict.fromkeys((*self._unread, *table.unknown))),
            bare=tuple(bare),
        )

    def _of_states(self, states: Iterable[PortState]) -> tuple[list[Target], list[PortState], int]:
        """The targets, the states without a ready pod, and how many ready pods there are in all."""
        found: list[Target] = []
        bare: list[PortState] = []
        ready: set[str] = set()
        for state in states:
            chosen = [pod for name in state.pods if (pod := self._pods.get(name)) and is_ready(pod) and pod.status.pod_ip]
            ready |= {pod.metadata.name for pod in chosen}
            if not chosen and state.workload.replicas > 0 and state.workload.kind not in BATCH:
                bare.append(state)
            found += [self._target(state, pod) for pod in chosen[: self._at_most]]
        return found, bare, len(ready)

    def _target(self, state: PortState, pod: Pod) -> Target:
        named_port = next((item for box in serving(pod) for item in box.ports if item.container_port == state.port), None)
        says = named(named_port.name) if named_port else Protocol.GUESSED
        return Target(
            state=state,
            pod=pod.metadata.name,
            address=pod.status.pod_ip,
            account=pod.spec.service_account_name or "default",
            protocol=self._protocol(state, says),
            path=self._path(state.workload, state.port, [name for name, _ in state.services]),
            container_says=says,
            proxied=dataplane_class(pod) in _PROXIED,
        )

    def _protocol(self, state: PortState, says: Protocol) -> Protocol:
        """What istiod believes: the word of the oldest Service; without a Service the container's name is all there is."""
        ages = []
        for name, number in state.services:
            service = self._services.get(name)
            if service is not None and (port := _tcp_port(service, number)):
                ages.append((service.metadata.creation_timestamp or "", name, declared(port).protocol))
        return min(ages)[2] if ages else says

    def _path(self, workload: Workload, port: int, services: Iterable[str]) -> str:
        """The path that the team gave, else that of the readiness probe, the one of this port first."""
        for name in (*services, workload.ref.name):
            if name in self._paths:
                return self._paths[name]
        found: list[tuple[bool, str]] = []
        for container in serving(workload.template):
            probe = container.readiness_probe.http_get if container.readiness_probe else None
            if probe is not None and not probe.path.startswith(_REWRITTEN):
                found.append((target(workload.template, probe.port) != port, probe.path or "/"))
        return min(found)[1] if found else ""

    # --- Services ---

    def _calls(self, found: list[Target]) -> tuple[list[Call], list[NotCovered]]:
        calls: list[Call] = []
        missing: list[NotCovered] = []
        behind: dict[tuple[str, int], list[Target]] = {}
        for item in found:
            for place in item.state.services:
                behind.setdefault(place, []).append(item)
        for name, service in sorted(self._services.items()):
            for port in service.spec.ports:
                call = self._call(service, port, behind.get((name, port.port), []))
                if isinstance(call, NotCovered):
                    missing.append(call)
                else:
                    calls.append(call)
        return calls, missing

    def _call(self, service: Service, port: ServicePort, behind: list[Target]) -> Call | NotCovered:
        place = f"{service.metadata.name}:{port.port}"
        reason = self._not_ours(service, port)
        if reason:
            return NotCovered(place=place, reason=reason, matters=False)
        selected = [item for item in self._every if self._selected(service, item)]
        if not behind and any(is_ready(pod) for item in selected for pod in item.pods):
            return NotCovered(place=place, reason=f"its target port {port.target_port} is no port that a ready pod of it serves")
        protocol = declared(port).protocol
        path = self._paths.get(service.metadata.name) or next((item.path for item in behind if item.path), "")
        call = Call(
            service=ObjectRef(kind="Service", namespace=service.metadata.namespace, name=service.metadata.name),
            port=port.port,
            protocol=protocol,
            path=path,
            workloads=tuple(dict.fromkeys(item.ref for item in selected)),
            targets=tuple(behind),
            wanted=any(item.replicas > 0 for item in selected),
        )
        return _uncallable(call, place) or call

    def _not_ours(self, service: Service, port: ServicePort) -> str:
        """Why a port is none of a workload in the mesh; empty where it is one."""
        if service.spec.type == "ExternalName":
            return f"it is only another name for {service.spec.external_name}"
        if port.protocol not in ("", "TCP"):
            return f"{port.protocol} does not go through a proxy"
        if not service.spec.selector:
            return "it has no selector, so nothing says which workload is behind it"
        if any(self._selected(service, item) and is_gateway(item) for item in self._every):
            return "it leads to a gateway, whose listeners obey other rules"
        return ""

    @staticmethod
    def _selected(service: Service, workload: Workload) -> bool:
        labels = [pod.metadata.labels for pod in workload.pods] or [workload.template.metadata.labels]
        wanted = (service.spec.selector or {}).items()
        return any(wanted <= own.items() for own in labels)


def _uncallable(call: Call, place: str) -> NotCovered | None:
    """Why nothing that callers do could be tried; the handshakes with its pods are asked all the same."""
    if call.protocol in HTTP_FAMILY and not call.path and call.targets:
        return NotCovered(place=place, reason="no readiness probe gives a path that may be asked for; give one in meshready.toml")
    if call.protocol is Protocol.GUESSED and not call.path and call.targets:
        return NotCovered(place=place, reason="it declares no protocol, and a proxy that guesses waits for bytes that we do not send")
    return None


def _tcp_port(service: Service, number: int) -> ServicePort | None:
    return next((port for port in service.spec.ports if port.port == number and port.protocol in ("", "TCP")), None)
