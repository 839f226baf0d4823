"""Which mutual TLS mode a port of a pod is in, by the PeerAuthentications alone (checks.md 2.4).

Reproduced from istiod: ``ComposePeerAuthentication`` in pilot/pkg/security/authn/policy_applier.go, and the order and the
choice of policies in pilot/pkg/model/authentication.go and config.go. Whether a proxy stands before the port at all is
another question (`pytest_meshready.istio.capture`, `pytest_meshready.istio.ports`).
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from pytest_meshready.cluster.objects import MutualTls, PeerAuthentication, Pod
from pytest_meshready.cluster.snapshot import Snapshot
from pytest_meshready.istio.dataplane import DataPlane, dataplane_class
from pytest_meshready.istio.moments import moment
from pytest_meshready.istio.workloads import LabelIndex
from pytest_meshready.results import ObjectRef

#: What `PeerPolicies` reads, besides the name of the root namespace.
READS = ("peerauthentications",)

#: The data planes that obey a PeerAuthentication; gateways have listeners of their own.
OBEYING = frozenset({DataPlane.NATIVE, DataPlane.CLASSIC, DataPlane.AMBIENT})

_NO_TIME = datetime.min.replace(tzinfo=UTC)


class Mode(enum.StrEnum):
    """What a proxy demands of those who connect to a port."""

    STRICT = "STRICT"
    """mutual TLS or nothing"""
    PERMISSIVE = "PERMISSIVE"
    """mutual TLS from those who offer it, plaintext from all others"""
    DISABLE = "DISABLE"
    """plaintext"""
    UNKNOWN = "UNKNOWN"
    """a policy names a mode that Istio does not have"""


_MODES = {mode.value: mode for mode in (Mode.STRICT, Mode.PERMISSIVE, Mode.DISABLE)}


class Scope(enum.StrEnum):
    """How narrow the policy is that decides; the narrowest that sets a mode wins."""

    DEFAULT = "default"
    MESH = "mesh"
    NAMESPACE = "namespace"
    WORKLOAD = "workload"
    PORT = "port"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ignored:
    """A policy that one might believe in force and that istiod does not use.

    ``wanted`` is the mode that it sets, None where it would inherit. ``reason`` follows the word ``because``.
    """

    policy: ObjectRef
    wanted: Mode | None
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerMode:
    """The mode of one port, and what decided it.

    ``by`` is the PeerAuthentication that set the mode, None for Istio's own default. A policy that leaves the mode unset
    inherits, and then the one that it inherits from is named. ``ignored`` are policies about the same pods without effect.
    """

    mode: Mode = Mode.PERMISSIVE
    by: ObjectRef | None = None
    scope: Scope = Scope.DEFAULT
    ignored: tuple[Ignored, ...] = ()

    @property
    def why(self) -> str:
        """``by PeerAuthentication payments/default``, or that nothing said otherwise."""
        if self.by is None:
            return "by Istio's default (no PeerAuthentication sets a mode)"
        return f"by {_named(self.by)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PodModes:
    """The modes of one pod: ``overall``, and ``ports`` for those that have one of their own, by the pod's own port."""

    overall: ServerMode
    ports: Mapping[int, ServerMode] = field(default_factory=dict)

    def port(self, number: int) -> ServerMode:
        """The mode of a port of the pod; it need not be declared anywhere."""
        return self.ports.get(number, self.overall)


class _Namespace:
    """The policies of one namespace, given the oldest first."""

    def __init__(self, policies: Iterable[PeerAuthentication] = ()) -> None:
        self.wide: list[PeerAuthentication] = []
        self._index: LabelIndex[tuple[int, PeerAuthentication]] = LabelIndex()
        for place, policy in enumerate(policies):
            if selector := _selector(policy):
                self._index.add(selector, (place, policy))
            else:
                self.wide.append(policy)

    def selecting(self, labels: Mapping[str, str]) -> list[PeerAuthentication]:
        """The policies whose selector matches, the oldest first."""
        found = [(place, policy) for place, policy in self._index.candidates(labels) if _selector(policy).items() <= labels.items()]
        return [policy for _, policy in sorted(found, key=lambda item: item[0])]


class PeerPolicies:
    """Every PeerAuthentication of a snapshot, arranged once so that ten thousand pods can be asked about."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._root = snapshot.root_namespace
        grouped: dict[str, list[PeerAuthentication]] = {}
        for policy in sorted(snapshot.peerauthentications, key=age):
            grouped.setdefault(policy.metadata.namespace, []).append(policy)
        self._by_namespace = {namespace: _Namespace(policies) for namespace, policies in grouped.items()}

    def mesh_wide(self) -> PeerAuthentication | None:
        """The policy of the whole mesh: the oldest without a selector in the root namespace."""
        return next(iter(self._of(self._root).wide), None)

    def namespace_wide(self, namespace: str) -> PeerAuthentication | None:
        """The policy of a whole namespace other than the root namespace: its oldest without a selector."""
        return None if namespace == self._root else next(iter(self._of(namespace).wide), None)

    def of(self, labels: Mapping[str, str], namespace: str) -> PodModes:
        """The modes of the pods with these labels in a namespace."""
        selecting = [] if namespace == self._root else self._of(namespace).selecting(labels)  # none counts in the root namespace
        workload = next(iter(selecting), None)
        overall = ServerMode(ignored=self._ignored(labels, namespace, selecting[1:]))
        levels = (
            (Scope.MESH, self.mesh_wide()),
            (Scope.NAMESPACE, self.namespace_wide(namespace)),
            (Scope.WORKLOAD, workload),
        )
        for scope, policy in levels:
            if policy is not None:
                overall = _narrowed(overall, policy.spec.mtls, scope, policy)
        if workload is None:
            return PodModes(overall=overall)
        return PodModes(
            overall=overall,
            ports={
                number: _narrowed(overall, mtls, Scope.PORT, workload)
                for text, mtls in workload.spec.port_level_mtls.items()
                if (number := _number(text))
            },
        )

    def _of(self, namespace: str) -> _Namespace:
        return self._by_namespace.get(namespace, _Namespace())

    def _ignored(self, labels: Mapping[str, str], namespace: str, younger: list[PeerAuthentication]) -> tuple[Ignored, ...]:
        found = [_ignored(policy, "istiod uses only the oldest policy of the mesh") for policy in self._of(self._root).wide[1:]]
        found += [
            _ignored(policy, f"it has a selector and lies in the root namespace {self._root}")
            for policy in self._of(self._root).selecting(labels)
        ]
        if namespace == self._root:
            return tuple(found)
        found += [_ignored(policy, "istiod uses only the oldest policy of a namespace") for policy in self._of(namespace).wide[1:]]
        found += [_ignored(policy, "istiod uses only the oldest policy that selects a pod") for policy in younger]
        return tuple(found)


def server_modes(snapshot: Snapshot, pod_labels: Mapping[str, str], namespace: str, ports: Iterable[int]) -> dict[int, ServerMode]:
    """The mode of each of these ports of the pods with these labels, by istiod's own rules.

    Args:
        snapshot: for the policies and the name of the root namespace.
        pod_labels: the labels of the pods.
        namespace: the namespace of the pods.
        ports: ports of the pods, not of Services.
    """
    modes = PeerPolicies(snapshot).of(pod_labels, namespace)
    return {port: modes.port(port) for port in ports}


class Strictness:
    """Answers whether pods refuse plaintext; made once for many questions."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._policies = PeerPolicies(snapshot)

    def __call__(self, pod: Pod, port: int = 0) -> bool:
        """Whether a pod's proxy demands mutual TLS on a port; 0 stands for the ports without a mode of their own.

        A pod without a proxy demands nothing.
        """
        if dataplane_class(pod) not in OBEYING:
            return False
        modes = self._policies.of(pod.metadata.labels, pod.metadata.namespace)
        return modes.port(port).mode is Mode.STRICT


def strict_in(snapshot: Snapshot) -> Strictness:
    """The question `is_strict`, prepared for many pods of one snapshot."""
    return Strictness(snapshot)


def is_strict(snapshot: Snapshot, pod: Pod) -> bool:
    """Whether a pod's proxy demands mutual TLS on the ports that have no mode of their own."""
    return Strictness(snapshot)(pod)


def age(policy: PeerAuthentication) -> tuple[datetime, str, str]:
    """The order in which istiod looks: the oldest first, then by name; one without a time counts as the oldest."""
    metadata = policy.metadata
    return (moment(metadata.creation_timestamp) or _NO_TIME, metadata.name, metadata.namespace)


def reference(policy: PeerAuthentication) -> ObjectRef:
    """The policy as findings name it."""
    return ObjectRef(kind="PeerAuthentication", namespace=policy.metadata.namespace, name=policy.metadata.name)


def set_mode(mtls: MutualTls | None) -> Mode | None:
    """The mode that is set; None where it inherits (``mtls`` missing, ``UNSET`` or empty)."""
    if mtls is None or mtls.mode in ("", "UNSET"):
        return None
    return _MODES.get(mtls.mode, Mode.UNKNOWN)


def _narrowed(wider: ServerMode, mtls: MutualTls | None, scope: Scope, policy: PeerAuthentication) -> ServerMode:
    mode = set_mode(mtls)
    return wider if mode is None else ServerMode(mode=mode, by=reference(policy), scope=scope, ignored=wider.ignored)


def _ignored(policy: PeerAuthentication, reason: str) -> Ignored:
    return Ignored(policy=reference(policy), wanted=set_mode(policy.spec.mtls), reason=reason)


def _named(ref: ObjectRef) -> str:
    return f"{ref.kind} {ref.namespace}/{ref.name}"


def _selector(policy: PeerAuthentication) -> Mapping[str, str]:
    """The labels that a policy demands; none at all make it one for its whole namespace."""
    return policy.spec.selector.match_labels if policy.spec.selector else {}


def _number(text: str) -> int:
    """A port from a key of ``portLevelMtls``; 0 for what is none."""
    plain = text.isascii() and text.isdigit() and len(text) <= 5
    return int(text) if plain and int(text) < 65536 else 0
