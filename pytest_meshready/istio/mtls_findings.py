"""The findings of the lines on mutual TLS, in words; `pytest_meshready.istio.mtls` decides which of them a line makes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pytest_meshready.istio import backendtls
from pytest_meshready.istio.clientmodes import ELSEWHERE
from pytest_meshready.istio.ports import ANY_PORT, PortState
from pytest_meshready.istio.servermodes import Ignored, Mode, Scope
from pytest_meshready.istio.sidecar_faults import edit, restart
from pytest_meshready.istio.wording import shortened
from pytest_meshready.istio.workloads import Workload
from pytest_meshready.results import Finding, Level, ObjectRef


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Ports that are in one state for one cause: they become one finding, about a workload or about what is wider than one."""

    states: tuple[PortState, ...]
    wide: bool = False

    @property
    def first(self) -> PortState:
        """One of them; they differ in nothing that a finding says but the port."""
        return self.states[0]

    @property
    def workload(self) -> Workload:
        """The workload, or the first of several."""
        return self.first.workload

    @property
    def object(self) -> ObjectRef:
        """What the finding is about: the workload, or else the policy that decides for all of them, or their namespace."""
        if not self.wide:
            return self.workload.ref
        return self.first.server.by or ObjectRef(kind="Namespace", name=self.workload.ref.namespace)

    @property
    def served(self) -> bool:
        """Whether something is known to answer on any of the ports."""
        return any(state.served for state in self.states)

    @property
    def ports(self) -> str:
        """The ports as the subject of a sentence."""
        if self.wide:
            words = shortened(dict.fromkeys(shown(state) for state in self.states))
        else:
            numbers = sorted({state.port for state in self.states})
            if numbers == [ANY_PORT]:
                return "every port (none is declared)"
            words = ("port" if len(numbers) == 1 else "ports") + f" {', '.join(map(str, numbers))}"
        return words if self.served else f"{words} (nothing is known to serve {'it' if self.one else 'them'})"

    @property
    def one(self) -> bool:
        """Whether it is a single port."""
        return len({(state.workload.ref, state.port) for state in self.states}) == 1

    @property
    def pods(self) -> str:
        """Which of the workload's pods, as the end of a clause; empty for a workload without pods."""
        names = list(dict.fromkeys(name for state in self.states for name in state.pods))
        if not names:
            return ""
        total = len(self.workload.pods)
        return f" on {len(names)} of {total} {'pod' if total == 1 else 'pods'} ({shortened(names)})"


_WIDER = frozenset({Scope.DEFAULT, Scope.MESH, Scope.NAMESPACE})


def groups(states: Iterable[PortState], *, widely: bool = True) -> tuple[Group, ...]:
    """The states, those of one cause together.

    Args:
        states: the ports.
        widely: whether workloads share a group where a policy wider than each of them decides.
    """
    found: dict[tuple[object, ...], list[PortState]] = {}
    for state in states:
        workload = None if widely and _is_wide(state) else state.workload.ref
        cause = (workload, state.gap, state.server.mode, state.server.by, state.server.scope, state.served)
        found.setdefault(cause, []).append(state)
    return tuple(Group(states=tuple(items), wide=widely and _is_wide(items[0])) for items in found.values())


def _is_wide(state: PortState) -> bool:
    return not state.gap and state.server.scope in _WIDER


def shown(state: PortState) -> str:
    """A port with its workload: ``orders:8080``."""
    name = state.workload.ref.name
    return name if state.port == ANY_PORT else f"{name}:{state.port}"


def finding(group: Group, line: str, level: Level, *, wanted: str, after: str = "", detail: str = "") -> Finding:
    """What is to be said of ports that are not as a line wants them.

    Args:
        group: the ports.
        line: the beginning of the code, such as ``MR1111``.
        level: how much it weighs.
        wanted: what the line wants.
        after: a clause that ends the sentence.
        detail: what tells the finding from another one of the same workload and cause.
    """
    state = group.first
    kind, found, fix = _no_proxy(group) if state.no_proxy else _passed_by(group) if state.gap else _by_policy(group)
    return Finding(
        code=f"{line}-{kind}",
        level=level,
        object=group.object,
        found=found + after,
        wanted=wanted,
        fix=fix,
        detail="|".join((_cause(state), "" if group.served else "named", detail)).rstrip("|"),
    )


def _cause(state: PortState) -> str:
    """The cause of a state in words that stay the same from run to run."""
    if state.no_proxy:
        return "no proxy"
    if state.gap:
        return state.gap
    return f"{state.server.scope} {state.server.by or ''}".rstrip()


def _no_proxy(group: Group) -> tuple[str, str, str]:
    found = f"{group.ports} {'has' if group.one else 'have'} no proxy in front, so no mTLS{group.pods}: {group.first.gap}"
    if "older than the injection" in group.first.gap:
        return "NO-PROXY", found, f"restart it: {restart(group.workload)}"
    return "NO-PROXY", found, f"remove that cause, so that it is injected: {edit(group.workload)}"


def _passed_by(group: Group) -> tuple[str, str, str]:
    verb = "passes" if group.one else "pass"
    found = f"{group.ports} {verb} the proxy by and {'takes' if group.one else 'take'} plaintext{group.pods}: {group.first.gap}"
    return "NOT-CAPTURED", found, f"let the proxy have {'it' if group.one else 'them'}: {edit(group.workload)}"


def _by_policy(group: Group) -> tuple[str, str, str]:
    server = group.first.server
    verb = "is" if group.one else "are"
    meaning = {Mode.PERMISSIVE: ", so plaintext is taken too", Mode.DISABLE: ", so only plaintext is taken"}.get(server.mode, "")
    strict = [item for item in server.ignored if item.wanted is Mode.STRICT and server.mode is not Mode.STRICT]
    ignored = f"; {ignored_clause(strict[0])}" if strict else ""
    found = f"{group.ports} {verb} {server.mode} {server.why}{meaning}{ignored}"
    return server.mode.value, found, policy_fix(group)


def policy_fix(group: Group) -> str:
    """Where to change the mode of the ports."""
    server, namespace = group.first.server, group.workload.ref.namespace
    if server.by is None or server.scope is Scope.MESH:
        return f"set the mode in a PeerAuthentication of the namespace: kubectl -n {namespace} get peerauthentication"
    command = f"kubectl -n {server.by.namespace} edit peerauthentication {server.by.name}"
    if server.scope is Scope.PORT:
        return f"change {'it' if group.one else 'them'} in spec.portLevelMtls: {command}"
    return f"change spec.mtls.mode: {command}"


def ignored_clause(item: Ignored) -> str:
    """``PeerAuthentication payments/x asks for STRICT without effect, because ...``."""
    asks = f" asks for {item.wanted}" if item.wanted else " is"
    return f"PeerAuthentication {item.policy.namespace}/{item.policy.name}{asks} without effect, because {item.reason}"


def ignored_findings(states: Iterable[PortState], line: str) -> Iterator[Finding]:
    """One information for each policy that has no effect on pods that it is about."""
    seen: dict[ObjectRef, Ignored] = {}
    for state in states:
        for item in state.server.ignored:
            seen.setdefault(item.policy, item)
    for ref, item in sorted(seen.items(), key=lambda pair: str(pair[0])):
        yield Finding(
            code=f"{line}-IGNORED",
            level=Level.INFO,
            object=ref,
            found=f"it{f' asks for {item.wanted}' if item.wanted else ' is'} without effect, because {item.reason}",
            wanted="one PeerAuthentication for each scope, so that what is written is what holds",
            fix=f"delete it or merge it into the one in force: kubectl -n {ref.namespace} get peerauthentication {ref.name} -o yaml",
        )


# --- callers ----------------------------------------------------------------------------------------------------------

_SENDS = {
    "DISABLE": "plaintext",
    "SIMPLE": "TLS without a client certificate",
    "MUTUAL": "TLS with certificates of their own instead of the mesh's",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CallerFault:
    """A DestinationRule or a BackendTLSPolicy that makes callers send something else than mTLS to ports that want it.

    ``clients`` are the namespaces of the callers, `ELSEWHERE` among them for all; ``targets`` are ``service:port``.
    """

    rule: ObjectRef
    mode: str
    place: str
    clients: tuple[str, ...]
    targets: tuple[str, ...]


def caller_finding(fault: CallerFault, line: str) -> Finding:
    """What is to be said of such a rule. MUTUAL with the mesh's own certificates would work, so it only warns."""
    everywhere = ELSEWHERE in fault.clients
    callers = "callers" if everywhere else f"callers in {shortened(fault.clients)}"
    wanted = "no tls towards ports with a proxy, so that automatic mTLS decides, or ISTIO_MUTUAL"
    if fault.rule.kind == backendtls.KIND:
        wanted = "no BackendTLSPolicy for ports with a proxy, so that automatic mTLS decides"
    return Finding(
        code=f"{line}-CLIENT-{fault.mode}",
        level=Level.WARNING if fault.mode == "MUTUAL" else Level.ERROR,
        object=fault.rule,
        found=f"it makes {callers} send {_SENDS[fault.mode]} to {shortened(fault.targets)} ({fault.place}: tls.mode {fault.mode})",
        wanted=wanted,
        fix=other_tls_fix(fault.rule, fault.place),
        detail=fault.place,
    )


def other_tls_fix(rule: ObjectRef, place: str) -> str:
    """How to take back what makes callers begin something else than mTLS."""
    what = "the Service out of targetRefs" if rule.kind == backendtls.KIND else f"tls out of {place}"
    return f"take {what}: kubectl -n {rule.namespace} edit {rule.kind.lower()} {rule.name}"


def not_automatic(config: ObjectRef, targets: tuple[str, ...], line: str) -> Finding:
    """Automatic mTLS is off, and no DestinationRule stands in for it."""
    return Finding(
        code=f"{line}-NO-AUTO-MTLS",
        level=Level.ERROR,
        object=config,
        found=f"enableAutoMtls is false, so callers send plaintext to {shortened(targets)}",
        wanted="enableAutoMtls: true, which is Istio's default, or a DestinationRule with ISTIO_MUTUAL for each Service",
        fix=f"take enableAutoMtls out of the mesh configuration: kubectl -n {config.namespace} get configmap {config.name} -o yaml",
    )


def unlabelled(workload: Workload, label: str, value: str | None, line: str) -> Finding:
    """The label by which callers tell that a pod understands mTLS does not say so."""
    says = f"{label}={value}" if value is not None else f"no label {label}"
    return Finding(
        code=f"{line}-TLS-LABEL",
        level=Level.ERROR,
        object=workload.ref,
        found=f"its pods carry {says}, so callers send them plaintext although they have a proxy",
        wanted=f"{label}=istio, which the injector sets",
        fix=f"take the label out of the pod template: {edit(workload)}",
    )
