"""AuthorizationPolicies as istiod applies them: which ones reach a workload, and what each rule asks for.

Reproduced from istiod: the choice of policies in pilot/pkg/model/authorization.go and policyattachment.go, their meaning in
pilot/pkg/security/authz (builder and model). In short: DENY before ALLOW; with one ALLOW policy in force, what no ALLOW rule
matches is denied; an ALLOW policy without rules matches nothing; policies of the root namespace reach every namespace, also
with a selector; ``targetRefs`` are for gateways and waypoints; a dry run enforces nothing.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pytest_meshready.cluster.objects import AuthorizationPolicy
from pytest_meshready.cluster.snapshot import Snapshot
from pytest_meshready.istio.namespaces import unread_in
from pytest_meshready.istio.once import once
from pytest_meshready.istio.workloads import BATCH, LabelIndex, Workload, is_gateway, workloads
from pytest_meshready.results import ObjectRef, Unknown

#: What `Policies` reads, besides the name of the root namespace.
READS = ("authorizationpolicies",)

DRY_RUN = "istio.io/dry-run"

#: What Go's ``strconv.ParseBool`` takes for true.
_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})

#: Any value.
ANY = "*"

_EVERY_ADDRESS = frozenset({"0.0.0.0/0", "::/0"})

#: Fields of a source that name who somebody is, and those that only HTTP has.
IDENTITIES = ("principals", "namespaces", "serviceAccounts", "trustDomains")
_ADDRESSES = ("ipBlocks", "remoteIpBlocks")
_BY_ADDRESS = frozenset({"ipBlocks", "remoteIpBlocks", "notIpBlocks", "notRemoteIpBlocks"})
_TOKENS = ("requestPrincipals",)
_SOURCE = (*IDENTITIES, *_ADDRESSES, *_TOKENS)
_HTTP_OPERATION = ("hosts", "methods", "paths")
_OPERATION = ("ports", *_HTTP_OPERATION)

#: Keys of conditions that are about the connection's other end; every other one is about who calls.
_DESTINATION_KEYS = ("destination.", "connection.sni", "experimental.")
_HTTP_KEYS = "request."


class Action(enum.StrEnum):
    """What a policy does with the requests that its rules match."""

    ALLOW = "ALLOW"
    DENY = "DENY"
    AUDIT = "AUDIT"
    CUSTOM = "CUSTOM"
    UNKNOWN = "UNKNOWN"
    """a word that Istio does not have"""


class Reach(enum.IntEnum):
    """Whom a rule is about, from the narrowest to everybody."""

    NAMED = 0
    """callers with certain properties"""
    ALL_BUT = 1
    """everybody but some"""
    ANY_IDENTITY = 2
    """everybody whom the mesh knows"""
    ANYBODY = 3
    """everybody, also without an identity"""


Fields = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One entry of ``when``."""

    key: str
    values: tuple[str, ...] = ()
    not_values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule; ``sources`` and ``operations`` are alternatives, and none of them stands for any.

    Fields that are not set, or are of a type that they cannot have, are left out.
    """

    sources: tuple[Fields, ...] = ()
    operations: tuple[Fields, ...] = ()
    conditions: tuple[Condition, ...] = ()

    @property
    def reach(self) -> Reach:
        """Whom the rule is about, by the widest of its alternatives."""
        if any(not item.key.startswith(_DESTINATION_KEYS) for item in self.conditions):
            return Reach.NAMED
        return max((_reach(source) for source in self.sources), default=Reach.ANYBODY)

    @property
    def everything(self) -> bool:
        """Whether it matches every request of everybody."""
        if self.reach is not Reach.ANYBODY or self.conditions:
            return False
        return not self.operations or any(_any_operation(operation) for operation in self.operations)

    @property
    def http(self) -> tuple[str, ...]:
        """The fields and keys that only HTTP has. On a TCP port they make an ALLOW rule void and a DENY rule wider."""
        found = [name for source in self.sources for name in _TOKENS if _set(source, name)]
        found += [name for operation in self.operations for name in _HTTP_OPERATION if _set(operation, name)]
        found += [item.key for item in self.conditions if item.key.startswith(_HTTP_KEYS)]
        return tuple(dict.fromkeys(found))

    @property
    def ports(self) -> tuple[str, ...]:
        """The ports of the pods that it names; none where one of its alternatives is about every port."""
        listed = [operation.get("ports", ()) for operation in self.operations]
        return tuple(dict.fromkeys(port for ports in listed for port in ports)) if all(listed) else ()

    @property
    def addresses(self) -> tuple[str, ...]:
        """The addresses by which alone it knows callers; none where it asks for an identity or for anything else."""
        if self.conditions:
            return ()
        alone = [source for source in self.sources if source and set(source) <= _BY_ADDRESS]
        return tuple(dict.fromkeys(value for source in alone for name in _ADDRESSES for value in source.get(name, ())))

    @property
    def asks_for_token(self) -> bool:
        """Whether it looks at the identity in a token (JWT)."""
        in_source = any(_set(source, name) for source in self.sources for name in _TOKENS)
        return in_source or any(item.key.startswith("request.auth.") for item in self.conditions)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Policy:
    """One AuthorizationPolicy.

    Those with ``attached_to`` (``targetRefs``, each a kind and a name) are for gateways and waypoints and reach no workload by
    its labels.
    """

    ref: ObjectRef
    action: Action = Action.ALLOW
    selector: Mapping[str, str]
    rules: tuple[Rule, ...] = ()
    provider: str = ""
    dry_run: bool = False
    attached_to: tuple[tuple[str, str], ...] = ()

    @property
    def targeted(self) -> bool:
        """Whether it is for gateways and waypoints alone."""
        return bool(self.attached_to)

    @property
    def allows_nothing(self) -> bool:
        """The shape ``spec: {}``: it selects, and lets nothing through that another policy does not allow."""
        return self.action is Action.ALLOW and not self.rules

    @property
    def name(self) -> str:
        """``AuthorizationPolicy payments/orders``."""
        return f"{self.ref.kind} {self.ref.namespace}/{self.ref.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Effective:
    """The policies that reach one workload, by what they do; ``shadow`` are those that only run dry."""

    allow: tuple[Policy, ...] = ()
    deny: tuple[Policy, ...] = ()
    custom: tuple[Policy, ...] = ()
    audit: tuple[Policy, ...] = ()
    shadow: tuple[Policy, ...] = ()
    unknown: tuple[Policy, ...] = ()

    @property
    def restricted(self) -> bool:
        """Whether anything decides who may call: an ALLOW policy, or a service that is asked (CUSTOM)."""
        return bool(self.allow or self.custom)

    @property
    def in_force(self) -> tuple[Policy, ...]:
        """Those that decide about requests."""
        return (*self.allow, *self.deny, *self.custom)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A workload that can be called, the different labels of its pods, and what reaches pods of such labels."""

    workload: Workload
    labels: tuple[Mapping[str, str], ...]
    effective: tuple[Effective, ...]

    @property
    def name(self) -> str:
        """The name of the workload."""
        return self.workload.ref.name

    def selected_by(self, selector: Mapping[str, str]) -> bool:
        """Whether a selector matches some of its pods."""
        return any(selector.items() <= labels.items() for labels in self.labels)


class _Namespace:
    """The policies of one namespace."""

    def __init__(self, policies: Iterable[Policy]) -> None:
        self._index: LabelIndex[tuple[int, Policy]] = LabelIndex()
        for place, policy in enumerate(policies):
            if not policy.targeted:
                self._index.add(policy.selector, (place, policy))

    def reaching(self, labels: Mapping[str, str]) -> list[Policy]:
        found = [(place, policy) for place, policy in self._index.candidates(labels) if policy.selector.items() <= labels.items()]
        return [policy for _, policy in sorted(found, key=lambda item: item[0])]


class Policies:
    """Every AuthorizationPolicy of a snapshot, arranged once so that ten thousand pods can be asked about."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._root = snapshot.root_namespace
        grouped: dict[str, list[Policy]] = {}
        for item in snapshot.authorizationpolicies:
            grouped.setdefault(item.metadata.namespace, []).append(parsed(item))
        self._by_namespace = {namespace: tuple(policies) for namespace, policies in grouped.items()}
        self._arranged = {namespace: _Namespace(policies) for namespace, policies in self._by_namespace.items()}

    def in_force(self, namespace: str) -> tuple[Policy, ...]:
        """The policies that can reach a namespace: those of the root namespace, then its own."""
        return tuple(policy for place in dict.fromkeys((self._root, namespace)) for policy in self._by_namespace.get(place, ()))

    def of(self, labels: Mapping[str, str], namespace: str) -> Effective:
        """The policies that reach the pods with these labels in a namespace, gateways of the Gateway API excepted."""
        found: dict[str, list[Policy]] = {}
        for place in dict.fromkeys((self._root, namespace)):
            arranged = self._arranged.get(place)
            for policy in arranged.reaching(labels) if arranged else ():
                found.setdefault("shadow" if policy.dry_run else policy.action.value.lower(), []).append(policy)
        return Effective(**{kind: tuple(policies) for kind, policies in found.items()})


def unread_policies(snapshot: Snapshot) -> tuple[Unknown, ...]:
    """What is unknown of the policies that can reach the namespace of the run."""
    places = dict.fromkeys((snapshot.namespace, snapshot.root_namespace))
    return tuple(dict.fromkeys(unknown for place in places for unknown in unread_in(snapshot, place, *READS)))


@once
def known_policies(snapshot: Snapshot) -> Policies:
    """The policies of a snapshot, arranged once for all lines that ask."""
    return Policies(snapshot)


@once
def targets(snapshot: Snapshot) -> tuple[Target, ...]:
    """The workloads of the run's namespace that policies are for: Jobs serve nobody, gateways have rules of their own."""
    policies = known_policies(snapshot)
    found = []
    for item in workloads(snapshot, snapshot.namespace):
        gone = not item.pods and (item.from_pod or item.replicas == 0)
        if gone or item.kind in BATCH or is_gateway(item):
            continue
        labels = label_sets(item)
        reaching = dict.fromkeys(policies.of(own, snapshot.namespace) for own in labels)
        found.append(Target(workload=item, labels=labels, effective=tuple(reaching)))
    return tuple(found)


def reached(targets: Iterable[Target]) -> dict[Policy, list[Target]]:
    """The policies in force with the workloads that they reach."""
    found: dict[Policy, list[Target]] = {}
    for target in targets:
        for policy in dict.fromkeys(policy for effective in target.effective for policy in effective.in_force):
            found.setdefault(policy, []).append(target)
    return found


def label_sets(workload: Workload) -> tuple[Mapping[str, str], ...]:
    """The different labels of a workload's pods; those of its template where it has no pods."""
    found = {frozenset(pod.metadata.labels.items()): pod.metadata.labels for pod in workload.pods}
    return tuple(found.values()) or (workload.labels,)


def parsed(policy: AuthorizationPolicy) -> Policy:
    """A policy with its rules in types; what cannot be a rule is left out, as istiod leaves it out."""
    spec = policy.spec
    word = spec.action or Action.ALLOW.value
    return Policy(
        ref=ObjectRef(kind="AuthorizationPolicy", namespace=policy.metadata.namespace, name=policy.metadata.name),
        action=Action(word) if word in Action.__members__ else Action.UNKNOWN,
        selector=spec.selector.match_labels if spec.selector else {},
        rules=tuple(_rule(rule) for rule in spec.rules or () if isinstance(rule, dict)),
        provider=spec.provider.name if spec.provider else "",
        dry_run=policy.metadata.annotations.get(DRY_RUN, "") in _TRUE,
        attached_to=tuple((ref.kind, ref.name) for ref in (*spec.target_refs, spec.target_ref) if ref is not None),
    )


def _rule(rule: Mapping[str, Any]) -> Rule:
    conditions = (item for item in _list(rule.get("when")) if isinstance(item, dict))
    return Rule(
        sources=tuple(_fields(item, "source", _SOURCE) for item in _list(rule.get("from"))),
        operations=tuple(_fields(item, "operation", _OPERATION) for item in _list(rule.get("to"))),
        conditions=tuple(
            Condition(key=str(item.get("key", "")), values=_texts(item.get("values")), not_values=_texts(item.get("notValues")))
            for item in conditions
        ),
    )


def _fields(alternative: object, key: str, names: tuple[str, ...]) -> Fields:
    inner = alternative.get(key) if isinstance(alternative, dict) else None
    if not isinstance(inner, dict):
        return {}
    every = (name for plain in names for name in (plain, negative(plain)))
    return {name: texts for name in every if (texts := _texts(inner.get(name)))}


def negative(name: str) -> str:
    """The field that excludes what a field names: ``notPrincipals``."""
    return f"not{name[0].upper()}{name[1:]}"


def _list(value: object) -> list[object]:
    return list(value) if isinstance(value, list | tuple) else []


def _texts(value: object) -> tuple[str, ...]:
    return tuple(str(item) for item in _list(value) if isinstance(item, str | int))


def _set(fields: Fields, name: str) -> bool:
    return bool(fields.get(name) or fields.get(negative(name)))


def _reach(source: Fields) -> Reach:
    """Whom one source is about; its fields must all hold, so the narrowest of them counts."""
    positive = [(name, source[name]) for name in _SOURCE if source.get(name)]
    if not positive:
        return Reach.ALL_BUT if source else Reach.ANYBODY
    return min(_width(name, values) for name, values in positive)


def _width(name: str, values: tuple[str, ...]) -> Reach:
    if name in IDENTITIES and ANY in values:
        return Reach.ANY_IDENTITY
    return Reach.ANYBODY if name in _ADDRESSES and _EVERY_ADDRESS & set(values) else Reach.NAMED


def _any_operation(operation: Fields) -> bool:
    """Whether an operation is every one: nothing set, or a wildcard in each field that is."""
    if any(operation.get(negative(name)) for name in _OPERATION):
        return False
    return all(ANY in operation[name] for name in _OPERATION if operation.get(name))
