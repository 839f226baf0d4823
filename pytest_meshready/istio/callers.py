"""What callers in the mesh send to the ports of the namespace, where it is not the mTLS that those ports want."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from pytest_meshready.cluster.snapshot import Snapshot, in_namespace
from pytest_meshready.istio import clientmodes
from pytest_meshready.istio.clientmodes import ClientMode, ClientRules
from pytest_meshready.istio.injector import MODE
from pytest_meshready.istio.mtls_findings import CallerFault, caller_finding, not_automatic, unlabelled
from pytest_meshready.istio.namespaces import mesh_label
from pytest_meshready.istio.ports import PortState
from pytest_meshready.istio.servermodes import Mode, PeerPolicies
from pytest_meshready.istio.workloads import is_gateway, workloads
from pytest_meshready.results import Finding, Level, ObjectRef, Unknown

#: What `caller_findings` reads, besides the mesh configuration.
READS = (*clientmodes.READS, "services", "configmaps")

TLS_MODE = "security.istio.io/tlsMode"

_OTHER = frozenset({"DISABLE", "SIMPLE", "MUTUAL"})
_WANT_MTLS = frozenset({Mode.STRICT, Mode.PERMISSIVE})
_Fault = tuple[ObjectRef, str, str]


@dataclass(slots=True)
class _Target:
    """A port of a Service with a proxy behind it that understands mTLS."""

    states: list[PortState] = field(default_factory=list)

    def has(self, labels: Mapping[str, str]) -> bool:
        """Whether a subset with these labels has any of the pods."""
        return any(labels.items() <= own.items() for state in self.states for own in state.labels)


@dataclass(slots=True)
class _Seen:
    """What was found of one rule: the namespaces of the callers, and the ports they call."""

    clients: dict[str, None] = field(default_factory=dict)
    targets: dict[str, None] = field(default_factory=dict)


def caller_findings(snapshot: Snapshot, states: Iterable[PortState], line: str) -> tuple[list[Finding], list[Unknown]]:
    """What is wrong on the callers' side, and what could not be told.

    Args:
        snapshot: for the DestinationRules and the mesh configuration.
        states: the ports that callers reach; those without a proxy and those that disable mTLS are passed over, because
            plaintext is what they take. So are ambient ones, which get mTLS from ztunnel whatever a rule says.
        line: the beginning of the codes, such as ``MR1111``.
    """
    targets: dict[tuple[str, int], _Target] = {}
    for state in states:
        if not state.gap and not state.ambient and state.mode in _WANT_MTLS:
            for service in state.services:
                targets.setdefault(service, _Target()).states.append(state)
    seen: dict[_Fault, _Seen] = {}
    automatic: dict[str, _Target] = {}
    unknown: dict[str, None] = {}
    for name, target, client, mode in _asked(snapshot, targets):
        if mode.mode in _OTHER and mode.by is not None:
            one = seen.setdefault((mode.by, mode.mode, mode.place), _Seen())
            one.clients[client] = None
            one.targets[name] = None
        elif mode.mode == "":
            automatic[name] = target
        elif mode.mode != "ISTIO_MUTUAL":
            unknown[f"{mode.by} sets the TLS mode {mode.mode!r}, which Istio does not have"] = None
    found = [
        caller_finding(CallerFault(rule=rule, mode=mode, place=place, clients=tuple(one.clients), targets=tuple(one.targets)), line)
        for (rule, mode, place), one in seen.items()
    ]
    return [*found, *_automatic(snapshot, automatic, line)], [Unknown(reason=reason) for reason in unknown]


def unseen_findings(snapshot: Snapshot, states: Iterable[PortState], line: str) -> list[Finding]:
    """Rules that make callers send something else than mTLS to Services of which no pod, or no proxy, could be judged.

    Such as in manifests, where nothing tells what becomes of a template. Where the policies make the Service's pods STRICT
    the two contradict each other, which is an error; else it is a warning, for pods without a proxy want just that.

    Args:
        snapshot: for the Services, the DestinationRules and the policies.
        states: the ports that could be judged; the others are asked here.
        line: the beginning of the codes.
    """
    namespace = snapshot.this_namespace()
    if mesh_label(namespace.metadata.labels if namespace else {}) == f"{MODE}=ambient":
        return []  # ztunnel carries mTLS whatever a rule says
    rules, policies = ClientRules(snapshot), PeerPolicies(snapshot)
    judged = {service for state in states for service in state.services}
    fronting = [item for item in workloads(snapshot, snapshot.namespace) if is_gateway(item)]
    seen: dict[tuple[Mode, *_Fault], _Seen] = {}
    for service in in_namespace(snapshot.services, snapshot.namespace):
        selector, name = service.spec.selector or {}, service.metadata.name
        if not selector or service.spec.type == "ExternalName" or any(selector.items() <= item.labels.items() for item in fronting):
            continue
        modes = policies.of(selector, snapshot.namespace)
        for port in service.spec.ports:
            if port.protocol not in ("", "TCP") or (name, port.port) in judged:
                continue
            number = port.target_port if isinstance(port.target_port, int) and port.target_port else port.port
            wanted = modes.port(number).mode
            for client in rules.clients if wanted in _WANT_MTLS else ():
                for mode in rules.modes(name, snapshot.namespace, port.port, client):
                    if mode.mode in _OTHER and mode.by is not None:
                        one = seen.setdefault((wanted, mode.by, mode.mode, mode.place), _Seen())
                        one.clients[client] = None
                        one.targets[f"{name}:{port.port}"] = None
    return [
        _unseen(wanted, CallerFault(rule=rule, mode=mode, place=place, clients=tuple(one.clients), targets=tuple(one.targets)), line)
        for (wanted, rule, mode, place), one in seen.items()
    ]


def _unseen(wanted: Mode, fault: CallerFault, line: str) -> Finding:
    made = caller_finding(fault, line)
    strict = wanted is Mode.STRICT and made.level is Level.ERROR
    who = "its pods" if len(fault.targets) == 1 else "their pods"
    after = f"; the policies make {who} STRICT" if strict else f"; whether {who} have a proxy, which wants mTLS, is not known"
    return replace(made, level=Level.ERROR if strict else Level.WARNING, found=made.found + after)


def _asked(snapshot: Snapshot, targets: Mapping[tuple[str, int], _Target]) -> Iterator[tuple[str, _Target, str, ClientMode]]:
    """Each way in which callers of a namespace reach a port: the port, its pods, their namespace, what they begin."""
    rules = ClientRules(snapshot)
    for (service, port), target in targets.items():
        for client in rules.clients:
            for mode in rules.modes(service, snapshot.namespace, port, client):
                if not mode.subset or target.has(mode.labels):
                    yield f"{service}:{port}", target, client, mode


def _automatic(snapshot: Snapshot, targets: Mapping[str, _Target], line: str) -> Iterator[Finding]:
    """What keeps automatic mTLS from mTLS, for the ports of which no rule speaks."""
    if snapshot.mesh is not None and snapshot.mesh.enable_auto_mtls is False:
        if targets and not snapshot.unread("destinationrules"):
            yield not_automatic(mesh_config(snapshot), tuple(targets), line)
        return
    told: set[ObjectRef] = set()
    for target in targets.values():
        for state in target.states:
            values = {labels.get(TLS_MODE) for labels in state.labels} if state.pods else set()
            wrong = sorted((value for value in values if value != "istio"), key=str)
            if wrong and state.workload.ref not in told:
                told.add(state.workload.ref)
                yield unlabelled(state.workload, TLS_MODE, wrong[0], line)


def mesh_config(snapshot: Snapshot) -> ObjectRef:
    """The ConfigMap of the mesh configuration, which carries the name of its revision unless that is the default."""
    revision = snapshot.control_plane.revision if snapshot.control_plane else ""
    name = "istio" if revision in ("", "default") else f"istio-{revision}"
    return ObjectRef(kind="ConfigMap", namespace=snapshot.istio_namespace, name=name)
