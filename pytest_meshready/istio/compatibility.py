"""Line 7.2.1: is every Service ready for STRICT, as the objects say (checks.md 2.4, 7.2.1).

Both ends of every call are compared port by port: what the server demands (PeerAuthentication, proxy, redirection) with what
callers begin (DestinationRule, automatic mTLS). Who really called whom, and how, is in the metrics.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from pytest_meshready.cluster.snapshot import Snapshot, in_namespace
from pytest_meshready.istio import callers, ports
from pytest_meshready.istio import policy as policies
from pytest_meshready.istio.callers import caller_findings, mesh_config, unseen_findings
from pytest_meshready.istio.clientmodes import ClientRules
from pytest_meshready.istio.namespaces import unread_in
from pytest_meshready.istio.policy import Policy, targets
from pytest_meshready.istio.ports import PortState, port_states
from pytest_meshready.istio.servermodes import Mode
from pytest_meshready.istio.sidecar_faults import edit
from pytest_meshready.istio.wording import shortened
from pytest_meshready.results import Evidence, Finding, Judgement, Level, ObjectRef, Unknown

#: What `services_compatible` reads.
READS = tuple(
    dict.fromkeys((*ports.READS, *callers.READS, *policies.READS, "serviceentries", "mutatingwebhookconfigurations", "apiservices"))
)

_EXTERNAL = frozenset({"", "MESH_EXTERNAL"})


def services_compatible(snapshot: Snapshot, exceptions: Mapping[str, str] | None = None) -> Judgement:
    """Line 7.2.1, what the objects say: no caller and no server contradict each other, now and once all is STRICT.

    Errors: a DestinationRule that sends something else than mTLS to a port with a proxy, or mTLS to one without; a port that
    passes its proxy by while callers send it mTLS; a headless Service of which some pods have no proxy; a Service without
    proxies; one that the API server itself calls while its port is STRICT. Warnings: the same of what is only to come.

    Args:
        snapshot: of the cluster.
        exceptions: the workloads that need no proxy, with the team's reason; they only warn.
    """
    table = port_states(snapshot)
    served = [state for state in table.states if state.services]
    findings, unknown = caller_findings(snapshot, table.states, "MR721")
    findings += unseen_findings(snapshot, served, "MR721")
    findings += _towards_plaintext(snapshot, served)
    findings += _mixed_headless(snapshot, served)
    findings += _without_proxy(served, exceptions or {})
    findings += _called_by_server(snapshot, served)
    findings += _external_mutual(snapshot)
    findings += by_address(snapshot, table.states, "MR721")
    findings += _disabled(served)
    missing = [*unread_ends(snapshot, READS), *table.unknown, *unknown]
    services = {service for state in served for service in state.services}
    if not services and not missing and not findings:
        return Judgement(not_applicable=f"no Service of namespace {snapshot.namespace} leads to a pod", examined=len(table.states))
    return Judgement(
        summary=f"servers and callers agree on mTLS at {len(services)} ports of Services",
        examined=len(services),
        findings=tuple(findings),
        unknown=tuple(dict.fromkeys(missing)),
        evidence=(Evidence(kind="table", source="Services and DestinationRules", data=_matrix(snapshot, served)),),
    )


# --- towards ports without mTLS ---------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Calls:
    """Ports that one cause makes callers reach wrongly."""

    targets: dict[str, None] = field(default_factory=dict)


def _towards_plaintext(snapshot: Snapshot, served: Iterable[PortState]) -> Iterator[Finding]:
    """Callers that begin mTLS where plaintext is wanted: by a DestinationRule, or by themselves."""
    rules = ClientRules(snapshot)
    automatic = snapshot.mesh is None or snapshot.mesh.enable_auto_mtls is not False
    by_rule: dict[tuple[ObjectRef, str], _Calls] = {}
    bypassed: dict[tuple[ObjectRef, str], tuple[PortState, _Calls]] = {}
    for state in served:
        if state.mode is not Mode.DISABLE:
            continue
        for service, port in state.services:
            modes = [mode for client in rules.clients for mode in rules.modes(service, snapshot.namespace, port, client)]
            for mode in modes:
                if mode.mode == "ISTIO_MUTUAL" and mode.by is not None and _has(state, mode.labels):
                    by_rule.setdefault((mode.by, mode.place), _Calls()).targets[f"{service}:{port}"] = None
            believed = state.gap and not state.no_proxy and state.server.mode is not Mode.DISABLE
            if believed and automatic and any(mode.mode == "" for mode in modes):
                bypassed.setdefault((state.workload.ref, state.gap), (state, _Calls()))[1].targets[str(state.port)] = None
    for (rule, place), calls in by_rule.items():
        yield _mutual_to_plaintext(rule, place, shortened(calls.targets))
    for state, calls in bypassed.values():
        yield _mutual_past_proxy(state, shortened(calls.targets))


def _has(state: PortState, labels: Mapping[str, str]) -> bool:
    """Whether a subset with these labels has any of the pods in a state."""
    return not labels or any(labels.items() <= own.items() for own in state.labels)


def _mutual_to_plaintext(rule: ObjectRef, place: str, names: str) -> Finding:
    return Finding(
        code="MR721-MTLS-TO-PLAINTEXT",
        level=Level.ERROR,
        object=rule,
        found=f"it makes callers send mTLS to {names}, which takes plaintext alone ({place}: tls.mode ISTIO_MUTUAL)",
        wanted="no tls, so that automatic mTLS looks at each pod, or a proxy in front of the port",
        fix=f"take tls out of {place}: kubectl -n {rule.namespace} edit destinationrule {rule.name}",
        detail=place,
    )


def _mutual_past_proxy(state: PortState, names: str) -> Finding:
    many = "," in names
    return Finding(
        code="MR721-MTLS-PAST-PROXY",
        level=Level.ERROR,
        object=state.workload.ref,
        found=f"callers send mTLS to port{'s' if many else ''} {names}, which {'pass' if many else 'passes'} the proxy by: {state.gap}",
        wanted="the port captured, or a DestinationRule with tls.mode DISABLE towards it",
        fix=f"let the proxy have it: {edit(state.workload)}",
        detail=state.gap,
    )


def _mixed_headless(snapshot: Snapshot, served: Iterable[PortState]) -> Iterator[Finding]:
    """A headless Service has one TLS setting for all of its pods: one pod without a proxy makes it plaintext for all."""
    headless = {item.metadata.name for item in in_namespace(snapshot.services, snapshot.namespace) if item.spec.cluster_ip == "None"}
    found: dict[str, tuple[list[PortState], list[PortState]]] = {}
    for state in served:
        for service, _ in state.services:
            if service in headless:
                found.setdefault(service, ([], []))[1 if state.no_proxy else 0].append(state)
    for service, (meshed, bare) in found.items():
        if not meshed or not bare:
            continue
        strict = any(state.mode is Mode.STRICT for state in meshed)
        names = shortened(dict.fromkeys(name for state in bare for name in state.pods)) or bare[0].workload.ref.name
        yield Finding(
            code="MR721-HEADLESS-MIXED",
            level=Level.ERROR if strict else Level.WARNING,
            object=ObjectRef(kind="Service", namespace=snapshot.namespace, name=service),
            found=f"it is headless and {names} behind it have no proxy, so callers send plaintext to all of its pods"
            + (", which STRICT ones refuse" if strict else ""),
            wanted="a proxy in all pods of a headless Service, or in none",
            fix=f"see line 4.2.1, which says why: kubectl -n {snapshot.namespace} get pods -o wide",
        )


def _without_proxy(served: Iterable[PortState], exceptions: Mapping[str, str]) -> Iterator[Finding]:
    """Services whose pods cannot take part in mTLS at all."""
    found: dict[ObjectRef, list[PortState]] = {}
    for state in served:
        if state.no_proxy:
            found.setdefault(state.workload.ref, []).append(state)
    for ref, states in found.items():
        reason = exceptions.get(ref.name)
        names = shortened(dict.fromkeys(f"{service}:{port}" for state in states for service, port in state.services))
        declared = f"; declared: {reason}" if reason else ""
        yield Finding(
            code="MR721-NO-PROXY",
            level=Level.WARNING if reason else Level.ERROR,
            object=ref,
            found=f"{names} can only take plaintext, because pods behind it have no proxy: {states[0].gap}{declared}",
            wanted="a proxy in front of every port that callers in the mesh use",
            fix=f"let it be injected, or declare it with [[sidecar_exception]]: {edit(states[0].workload)}",
        )


def _called_by_server(snapshot: Snapshot, served: Iterable[PortState]) -> Iterator[Finding]:
    """Services that the API server calls, which has no proxy: webhooks and extension API servers."""
    asked: dict[str, str] = {}
    for configuration in snapshot.mutatingwebhookconfigurations:
        for webhook in configuration.webhooks:
            service = webhook.client_config.service
            if service is not None and service.namespace == snapshot.namespace:
                asked.setdefault(service.name, f"webhook {configuration.metadata.name}")
    for api in snapshot.apiservices:
        if api.spec.service is not None and api.spec.service.namespace == snapshot.namespace:
            asked.setdefault(api.spec.service.name, f"APIService {api.metadata.name}")
    for name, why in asked.items():
        states = [state for state in served if any(service == name for service, _ in state.services) and not state.gap]
        if states:
            strict = any(state.mode is Mode.STRICT for state in states)
            yield Finding(
                code="MR721-API-SERVER",
                level=Level.ERROR if strict else Level.WARNING,
                object=ObjectRef(kind="Service", namespace=snapshot.namespace, name=name),
                found=f"the API server calls it ({why}) without mTLS, "
                + ("which its STRICT port refuses" if strict else "which STRICT would refuse"),
                wanted="its port excluded from the proxy (traffic.sidecar.istio.io/excludeInboundPorts) or left PERMISSIVE",
                fix=f"set portLevelMtls for its pods: kubectl -n {snapshot.namespace} get peerauthentication",
            )


def _external_mutual(snapshot: Snapshot) -> Iterator[Finding]:
    """The mesh's own mTLS towards hosts outside of it, which know nothing of its certificates."""
    hosts = {host for entry in snapshot.serviceentries if entry.spec.location in _EXTERNAL for host in entry.spec.hosts}
    for rule in in_namespace(snapshot.destinationrules, snapshot.namespace):
        policy = rule.spec.traffic_policy
        if policy is None or rule.spec.host not in hosts:
            continue
        modes = [policy.tls, *(item.tls for item in policy.port_level_settings)]
        if any(tls is not None and tls.mode == "ISTIO_MUTUAL" for tls in modes):
            yield Finding(
                code="MR721-MTLS-TO-EXTERNAL",
                level=Level.ERROR,
                object=ObjectRef(kind="DestinationRule", namespace=snapshot.namespace, name=rule.metadata.name),
                found=f"it sends the mesh's mTLS to {rule.spec.host}, which a ServiceEntry says is outside of the mesh",
                wanted="tls.mode SIMPLE, or MUTUAL with certificates that the host accepts",
                fix=f"kubectl -n {snapshot.namespace} edit destinationrule {rule.metadata.name}",
            )


def _disabled(served: Iterable[PortState]) -> Iterator[Finding]:
    """Ports that a policy keeps out of mTLS: an exception that somebody made, so it is only listed."""
    found: dict[tuple[ObjectRef, ObjectRef], dict[str, None]] = {}
    for state in served:
        if not state.gap and state.server.mode is Mode.DISABLE and state.server.by is not None:
            found.setdefault((state.workload.ref, state.server.by), {})[str(state.port)] = None
    for (workload, by), numbers in found.items():
        yield Finding(
            code="MR721-DISABLED",
            level=Level.INFO,
            object=workload,
            found=f"port {shortened(numbers)} takes plaintext alone by PeerAuthentication {by.namespace}/{by.name}",
            wanted="an exception with a reason and a day on which it ends",
            fix=f"kubectl -n {by.namespace} get peerauthentication {by.name} -o yaml",
        )


def unread_ends(snapshot: Snapshot, reads: tuple[str, ...]) -> tuple[Unknown, ...]:
    """What is unknown of either end of calls: in the namespace of the run, of the policies of the mesh, of its configuration."""
    mesh = snapshot.mesh is None and (
        snapshot.unread("configmaps") or (Unknown(reason=f"the mesh configuration was not found: there is no {mesh_config(snapshot)}"),)
    )
    wide = unread_in(snapshot, snapshot.root_namespace, "peerauthentications")
    return (*unread_in(snapshot, snapshot.namespace, *reads), *wide, *policies.unread_policies(snapshot), *(mesh or ()))


def by_address(snapshot: Snapshot, states: Iterable[PortState], line: str) -> Iterator[Finding]:
    """Policies that admit callers by their address alone to ports that take plaintext: somebody expects callers without mTLS."""
    open_ports: dict[ObjectRef, dict[str, None]] = {}
    for state in states:
        if state.served and state.mode in (Mode.PERMISSIVE, Mode.DISABLE):
            open_ports.setdefault(state.workload.ref, {})[str(state.port)] = None
    found: dict[Policy, list[str]] = {}
    for target in targets(snapshot) if open_ports else ():
        if target.workload.ref not in open_ports:
            continue
        for policy in dict.fromkeys(policy for effective in target.effective for policy in effective.allow):
            if any(rule.addresses for rule in policy.rules):
                found.setdefault(policy, []).append(target.name)
    for policy, names in found.items():
        addresses = dict.fromkeys(address for rule in policy.rules for address in rule.addresses)
        yield Finding(
            code=f"{line}-BY-ADDRESS",
            level=Level.WARNING,
            object=policy.ref,
            found=f"it admits callers by address alone ({shortened(addresses)}) to {shortened(names)}, whose ports take plaintext: "
            "such callers will be refused once they are STRICT",
            wanted="callers named by their identity, or a port left PERMISSIVE for them with a day on which that ends",
            fix=f"find out who they are: kubectl -n {policy.ref.namespace} get authorizationpolicy {policy.ref.name} -o yaml",
        )


def _matrix(snapshot: Snapshot, served: Iterable[PortState]) -> list[dict[str, str]]:
    """The table of both ends, one row for each port of a Service."""
    rules = ClientRules(snapshot)
    rows: dict[tuple[str, int], dict[str, None]] = {}
    for state in served:
        for service in state.services:
            word = "plaintext" if state.gap else state.server.mode.value
            rows.setdefault(service, {})[word] = None
    found = []
    for (name, port), modes in rows.items():
        begun = [mode for client in rules.clients for mode in rules.modes(name, snapshot.namespace, port, client)]
        begins = dict.fromkeys(mode.mode or "automatic" for mode in begun)
        found.append({"service": f"{name}:{port}", "server": ", ".join(modes), "callers": ", ".join(begins)})
    return found
