"""What is wrong with single AuthorizationPolicies and RequestAuthentications: too wide, void, or about nothing (checks.md 11.1.2)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from pytest_meshready.cluster.objects_policy import RequestAuthentication
from pytest_meshready.cluster.snapshot import Snapshot, in_namespace
from pytest_meshready.istio.namespaces import unread_in
from pytest_meshready.istio.once import once
from pytest_meshready.istio.policy import Action, Effective, Policies, Policy, Reach, Rule, Target, label_sets, reached
from pytest_meshready.istio.ports import ANY_PORT, port_states
from pytest_meshready.istio.protocols import TCP_FAMILY, declared
from pytest_meshready.istio.wording import shortened
from pytest_meshready.istio.workloads import READS as WORKLOADS
from pytest_meshready.istio.workloads import workloads
from pytest_meshready.results import Finding, Level, ObjectRef, Unknown


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """What was found, and what could not be told."""

    findings: tuple[Finding, ...]
    unknown: tuple[Unknown, ...] = ()


@dataclass(slots=True)
class ServedPort:
    """A port of a workload: ``tcp`` where every Service in front of it declares a protocol that is not HTTP."""

    tcp: bool = False
    ambient: bool = False
    service_ports: set[int] = field(default_factory=set)


def rule_faults(snapshot: Snapshot, policies: Policies, called: tuple[Target, ...]) -> Faults:
    """The faults of the policies that reach the workloads of the run's namespace.

    Args:
        snapshot: for the ports, the RequestAuthentications and the mesh configuration.
        policies: the AuthorizationPolicies.
        called: the workloads that policies are for, with those that reach them.
    """
    looked = _Look(snapshot, policies, called)
    findings: list[Finding] = []
    for policy, selected in looked.reached.items():
        findings += looked.of_policy(policy, selected)
    findings += looked.idle()
    findings += looked.tokens()
    return Faults(findings=tuple(findings), unknown=looked.unknown)


class _Look:
    """Looks at one policy after another."""

    def __init__(self, snapshot: Snapshot, policies: Policies, called: tuple[Target, ...]) -> None:
        self._snapshot = snapshot
        self._policies = policies
        self._called = called
        self._ports = served_ports(snapshot)
        self.unknown = unread_in(snapshot, snapshot.namespace, "requestauthentications")
        self.reached = reached(called)
        if snapshot.mesh is None and any(policy.action is Action.CUSTOM for policy in self.reached):
            self.unknown += snapshot.unread("configmaps") or (
                Unknown(reason="the mesh configuration, which names the providers, is not known"),
            )

    def of_policy(self, policy: Policy, selected: list[Target]) -> Iterator[Finding]:
        """What is wrong with one policy."""
        for number, rule in enumerate(policy.rules, start=1):
            if policy.action is Action.ALLOW:
                yield from _too_wide(policy, number, rule)
            yield from self._void(policy, number, rule, selected)
        if policy.action is Action.CUSTOM and self._snapshot.mesh is not None:
            yield from self._provider(policy)

    def _void(self, policy: Policy, number: int, rule: Rule, selected: list[Target]) -> Iterator[Finding]:
        """A rule about ports that nobody serves, or about HTTP where there is none."""
        if not rule.ports and not rule.http:
            return
        known = {item.workload.ref: ports for item in selected if (ports := self._ports.get(item.workload.ref))}
        asked = {int(port) for port in rule.ports if port.isascii() and port.isdigit()}
        if not known:
            return
        if asked and not any(asked & set(ports) for ports in known.values()):
            yield _no_such_port(policy, number, asked, known)
            return
        if not rule.http:
            return
        meant = [port for ports in known.values() for name, port in ports.items() if not asked or name in asked]
        blind = [port for port in meant if port.tcp or port.ambient]
        if policy.action is Action.ALLOW and meant and len(blind) == len(meant):
            yield _never(policy, number, rule, ambient=all(port.ambient for port in blind))
        if policy.action is Action.DENY and blind:
            yield _wider(policy, number, rule)

    def _provider(self, policy: Policy) -> Iterator[Finding]:
        """The service that a CUSTOM policy asks."""
        assert self._snapshot.mesh is not None
        providers = {str(item.get("name", "")): item for item in self._snapshot.mesh.extension_providers}
        found = providers.get(policy.provider)
        if found is None:
            yield _finding(
                policy,
                "UNKNOWN-PROVIDER",
                Level.ERROR,
                found=f"it asks provider {policy.provider or '(none)'}, which the mesh configuration lacks: every request is denied",
                wanted=f"one of the extensionProviders ({shortened(sorted(providers)) or 'there is none'})",
                fix=f"kubectl -n {policy.ref.namespace} edit authorizationpolicy {policy.ref.name}",
            )
            return
        kinds = [settings for settings in found.values() if isinstance(settings, dict)]
        if any(settings.get("failOpen") is True for settings in kinds):
            yield _finding(
                policy,
                "FAIL-OPEN",
                Level.WARNING,
                found=f"its provider {policy.provider} has failOpen: while that service is down, every request passes",
                wanted="a provider that denies while it is down",
                fix=f"take failOpen out of extensionProviders: kubectl -n {self._snapshot.istio_namespace} get configmap",
            )

    def idle(self) -> Iterator[Finding]:
        """Policies of the namespace whose selector matches nothing that exists."""
        namespace = self._snapshot.namespace
        if unread_in(self._snapshot, namespace, *WORKLOADS):
            return
        carried: dict[tuple[str, str], list[Mapping[str, str]]] = {}
        for item in workloads(self._snapshot, namespace):
            for labels in (*label_sets(item), item.labels):
                for pair in labels.items():
                    carried.setdefault(pair, []).append(labels)
        for policy in self._policies.in_force(namespace):
            if policy.ref.namespace != namespace or policy.targeted or not policy.selector:
                continue
            first = next(iter(policy.selector.items()))
            if not any(policy.selector.items() <= labels.items() for labels in carried.get(first, ())):
                selector = ", ".join(f"{key}={value}" for key, value in policy.selector.items())
                yield _finding(
                    policy,
                    "SELECTS-NOTHING",
                    Level.WARNING,
                    found=f"its selector {selector} matches no workload of the namespace, so it protects nothing",
                    wanted="a selector that matches the labels of pods (not of Services)",
                    fix=f"compare: kubectl -n {namespace} get pods --show-labels",
                )

    def tokens(self) -> Iterator[Finding]:
        """RequestAuthentications whose tokens nobody demands: a request without one passes."""
        namespaces = dict.fromkeys((self._snapshot.namespace, self._snapshot.root_namespace))
        carrying: dict[tuple[str, str], dict[ObjectRef, Target]] = {}
        for target in self._called:
            for pair in (pair for labels in target.labels for pair in labels.items()):
                carrying.setdefault(pair, {})[target.workload.ref] = target
        for item in (found for place in namespaces for found in in_namespace(self._snapshot.requestauthentications, place)):
            if item.spec.target_refs or item.spec.target_ref or not item.spec.jwt_rules:
                continue
            selector = item.spec.selector.match_labels if item.spec.selector else {}
            first = next(iter(selector.items()), None)
            among = self._called if first is None else carrying.get(first, {}).values()
            selected = [target for target in among if target.selected_by(selector)]
            lax = [target.name for target in selected if not all(_demands_token(own) for own in target.effective)]
            if lax:
                yield _optional_token(item, lax)


@once
def served_ports(snapshot: Snapshot) -> Mapping[ObjectRef, Mapping[int, ServedPort]]:
    """The ports that something answers on, of each workload of the run's namespace."""
    protocols = {
        (service.metadata.name, port.port): declared(port).protocol
        for service in in_namespace(snapshot.services, snapshot.namespace)
        for port in service.spec.ports
    }
    found: dict[ObjectRef, dict[int, ServedPort]] = {}
    for state in port_states(snapshot).states:
        if state.port == ANY_PORT or not state.served:
            continue
        port = found.setdefault(state.workload.ref, {}).setdefault(state.port, ServedPort())
        kinds = [protocols[service] for service in state.services if service in protocols]
        port.tcp = bool(kinds) and all(kind in TCP_FAMILY for kind in kinds)
        port.ambient = port.ambient or state.ambient
        port.service_ports |= {number for _, number in state.services}
    return found


def _demands_token(effective: Effective) -> bool:
    """Whether a policy in force looks at the token's identity: an ALLOW rule that names one, or a DENY for those without."""
    if any(rule.asks_for_token for policy in (*effective.allow, *effective.deny) for rule in policy.rules):
        return True
    return bool(effective.custom) or (bool(effective.allow) and all(policy.allows_nothing for policy in effective.allow))


def _too_wide(policy: Policy, number: int, rule: Rule) -> Iterator[Finding]:
    """An ALLOW rule that admits more or less everybody."""
    command = f"kubectl -n {policy.ref.namespace} edit authorizationpolicy {policy.ref.name}"
    wanted = "rules that name their callers (source.principals)"
    if rule.everything:
        yield _finding(
            policy,
            "ALLOWS-ALL",
            Level.ERROR,
            found=f"its rule {number} matches every request of everybody, so it protects nothing",
            wanted=wanted,
            fix=f"name the callers in it: {command}",
            number=number,
        )
    elif rule.reach is Reach.ANYBODY:
        what = "its rule {} names no caller, so anybody may do what it allows, with or without an identity"
        yield _finding(
            policy, "ANYBODY", Level.WARNING, found=what.format(number), wanted=wanted, fix=f"name them: {command}", number=number
        )
    elif rule.reach is Reach.ANY_IDENTITY:
        what = f"its rule {number} admits every identity of the mesh (a * alone)"
        yield _finding(policy, "ANY-IDENTITY", Level.WARNING, found=what, wanted=wanted, fix=f"name them: {command}", number=number)
    elif rule.reach is Reach.ALL_BUT:
        what = f"its rule {number} admits everybody but those that it excludes"
        yield _finding(policy, "ALL-BUT", Level.WARNING, found=what, wanted=wanted, fix=f"name those it is for: {command}", number=number)


def _no_such_port(policy: Policy, number: int, asked: set[int], known: Mapping[ObjectRef, Mapping[int, ServedPort]]) -> Finding:
    """The frequent mistake: the Service's port where the pod's is meant."""
    mixed = sorted(
        {(wrong, real) for ports in known.values() for real, port in ports.items() for wrong in asked & port.service_ports if wrong != real}
    )
    named = "port" if len(asked) == 1 else "ports"
    hint = f" ({mixed[0][0]} is the Service's, the pods' is {mixed[0][1]})" if mixed else ""
    serves = sorted({real for ports in known.values() for real in ports})
    return _finding(
        policy,
        "NO-SUCH-PORT",
        Level.WARNING,
        found=f"its rule {number} is about {named} {shortened(map(str, sorted(asked)))}, which no workload that it selects serves{hint}",
        wanted=f"ports of the pods: {shortened(map(str, serves))}",
        fix=f"kubectl -n {policy.ref.namespace} edit authorizationpolicy {policy.ref.name}",
        number=number,
    )


def _never(policy: Policy, number: int, rule: Rule, *, ambient: bool) -> Finding:
    why = "ztunnel, which enforces it, does not look into HTTP" if ambient else "the ports that it is about are declared as TCP"
    return _finding(
        policy,
        "NEVER-MATCHES",
        Level.WARNING,
        found=f"its rule {number} asks for HTTP ({shortened(rule.http)}), but {why}: the rule is left out, and what it allows is denied",
        wanted="on such ports only ports, principals, namespaces and addresses"
        + (", or targetRefs to a waypoint" if ambient else ", or a Service that declares HTTP"),
        fix=f"kubectl -n {policy.ref.namespace} edit authorizationpolicy {policy.ref.name}",
        number=number,
    )


def _wider(policy: Policy, number: int, rule: Rule) -> Finding:
    return _finding(
        policy,
        "DENIES-MORE",
        Level.WARNING,
        found=f"its rule {number} asks for HTTP ({shortened(rule.http)}), which a TCP port does not have: there the rest alone counts",
        wanted="a DENY rule that names ports which speak HTTP",
        fix=f"add operation.ports: kubectl -n {policy.ref.namespace} edit authorizationpolicy {policy.ref.name}",
        number=number,
    )


def _optional_token(item: RequestAuthentication, lax: list[str]) -> Finding:
    ref = ObjectRef(kind="RequestAuthentication", namespace=item.metadata.namespace, name=item.metadata.name)
    return Finding(
        code="MR1112-TOKEN-OPTIONAL",
        level=Level.WARNING,
        object=ref,
        found=f"it checks tokens, but no policy demands one: {shortened(lax)} answer requests without any",
        wanted="an ALLOW rule with requestPrincipals, or a DENY rule with notRequestPrincipals: ['*']",
        fix=f"add it to the policies of these workloads: kubectl -n {item.metadata.namespace} get authorizationpolicy",
    )


def _finding(policy: Policy, kind: str, level: Level, *, found: str, wanted: str, fix: str, number: int = 0) -> Finding:
    return Finding(
        code=f"MR1112-{kind}",
        level=level,
        object=policy.ref,
        found=found,
        wanted=wanted,
        fix=fix,
        detail=f"rule {number}" if number else "",
    )
