"""In which steps STRICT came, as far as the dates of PeerAuthentications tell (checks.md 7.2.3).

A policy that was deleted and made anew has lost its date, and one that was edited keeps it: that is why a person states the
order too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

from pytest_meshready.cluster.objects import PeerAuthentication
from pytest_meshready.cluster.snapshot import Snapshot, in_namespace
from pytest_meshready.istio.components import held_namespaces
from pytest_meshready.istio.moments import ago, moment
from pytest_meshready.istio.mtls_findings import shown
from pytest_meshready.istio.namespaces import mesh_label, unread_in
from pytest_meshready.istio.ports import PortState
from pytest_meshready.istio.servermodes import Ignored, Mode, PeerPolicies, reference, set_mode
from pytest_meshready.istio.wording import shortened
from pytest_meshready.results import Finding, Level, ObjectRef, Unknown

#: How far apart the steps of two namespaces should be.
APART = timedelta(hours=24)

_WANTED = "STRICT one namespace after the other, the whole mesh last"


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """What the policies and their dates say."""

    findings: tuple[Finding, ...]
    unknown: tuple[Unknown, ...] = ()


def increments(snapshot: Snapshot, states: Iterable[PortState], namespaces: tuple[str, ...] | None) -> Steps:
    """Whether STRICT is in force, and whether its steps are in order.

    Args:
        snapshot: for the policies and the namespaces.
        states: the ports of the run's namespace.
        namespaces: the namespaces that the team declared; None if it declared none.
    """
    every = tuple(states)
    policies = PeerPolicies(snapshot)
    findings = [*_without_effect(every), *_none_strict(snapshot, every), *_mesh_first(snapshot, policies)]
    findings += _mesh_before(snapshot, policies, namespaces or ())
    apart, unknown = _too_close(snapshot, policies, namespaces or ())
    return Steps(findings=(*findings, *apart), unknown=tuple(unknown))


def _none_strict(snapshot: Snapshot, states: tuple[PortState, ...]) -> Iterator[Finding]:
    """Without any STRICT port the step has not been taken; one of unknown mode may be STRICT."""
    if any(state.mode in (Mode.STRICT, Mode.UNKNOWN) for state in states):
        return
    yield Finding(
        code="MR723-NOT-STRICT",
        level=Level.ERROR,
        object=ObjectRef(kind="Namespace", name=snapshot.namespace),
        found=f"none of its {len(states)} ports is STRICT",
        wanted="STRICT, first for some workloads or for the namespace",
        fix=f"add a PeerAuthentication with spec.mtls.mode STRICT: kubectl -n {snapshot.namespace} get peerauthentication",
    )


def _without_effect(states: tuple[PortState, ...]) -> Iterator[Finding]:
    """A policy that asks for STRICT and that istiod does not use, where the ports are not STRICT otherwise."""
    seen: dict[ObjectRef, tuple[Ignored, list[PortState]]] = {}
    for state in states:
        for item in state.server.ignored:
            if item.wanted is Mode.STRICT and state.server.mode is not Mode.STRICT:
                seen.setdefault(item.policy, (item, []))[1].append(state)
    for ref, (item, open_) in seen.items():
        names = shortened(dict.fromkeys(shown(state) for state in open_))
        state = open_[0]
        yield Finding(
            code="MR723-IGNORED",
            level=Level.ERROR,
            object=ref,
            found=f"it asks for STRICT without effect, because {item.reason}: {names} stay {state.server.mode} {state.server.why}",
            wanted="a STRICT policy that istiod uses",
            fix=f"change the policy in force and delete this one: kubectl -n {ref.namespace} get peerauthentication {ref.name} -o yaml",
        )


def _mesh_first(snapshot: Snapshot, policies: PeerPolicies) -> Iterator[Finding]:
    """The whole mesh became STRICT, and this namespace, which was there before, had not become so by itself."""
    mesh = policies.mesh_wide()
    others = _other_meshed(snapshot)
    if mesh is None or set_mode(mesh.spec.mtls) is not Mode.STRICT or not others or snapshot.namespace == snapshot.root_namespace:
        return
    namespace = snapshot.this_namespace()
    own = _first_strict(snapshot, snapshot.namespace)
    whole, step = moment(mesh.metadata.creation_timestamp), moment(own.metadata.creation_timestamp) if own else None
    born = moment(namespace.metadata.creation_timestamp) if namespace else None
    if whole is None or (step is not None and step <= whole) or (born is not None and born >= whole):
        return
    here = f"namespace {snapshot.namespace} had no STRICT policy of its own"
    if own is not None:
        here = f"the STRICT policy {own.metadata.name} of namespace {snapshot.namespace} is younger ({own.metadata.creation_timestamp})"
    yield Finding(
        code="MR723-MESH-FIRST",
        level=Level.WARNING if own is not None else Level.ERROR,
        object=reference(mesh),
        found=f"it makes the whole mesh STRICT since {mesh.metadata.creation_timestamp}, while {here}",
        wanted=_WANTED,
        fix=f"see which namespaces have a policy of their own: kubectl get peerauthentication -A (also in the mesh: {shortened(others)})",
    )


def _mesh_before(snapshot: Snapshot, policies: PeerPolicies, namespaces: tuple[str, ...]) -> Iterator[Finding]:
    """The whole mesh became STRICT before other declared namespaces had, as far as their policies are still there."""
    mesh = policies.mesh_wide()
    whole = moment(mesh.metadata.creation_timestamp) if mesh and set_mode(mesh.spec.mtls) is Mode.STRICT else None
    if mesh is None or whole is None:
        return
    born = {item.metadata.name: moment(item.metadata.creation_timestamp) for item in snapshot.namespaces}
    late = []
    for name in dict.fromkeys(namespaces):
        since = born.get(name)
        if name in (snapshot.namespace, snapshot.root_namespace) or since is None or since >= whole or _unread(snapshot, name):
            continue
        first = _first_strict(snapshot, name)
        step = moment(first.metadata.creation_timestamp) if first else None
        if step is None or step > whole:
            late.append(name)
    if late:
        date = mesh.metadata.creation_timestamp
        yield Finding(
            code="MR723-MESH-BEFORE",
            level=Level.WARNING,
            object=reference(mesh),
            found=f"it makes the whole mesh STRICT since {date}; no STRICT policy of {shortened(late)} is older",
            wanted=_WANTED,
            fix="say in the attestation of 7.2.3 in which order they became STRICT: kubectl get peerauthentication -A",
        )


def _other_meshed(snapshot: Snapshot) -> list[str]:
    """The other namespaces that a label puts into the mesh."""
    apart = (snapshot.namespace, snapshot.root_namespace, snapshot.istio_namespace)
    return [item.metadata.name for item in snapshot.namespaces if item.metadata.name not in apart and mesh_label(item.metadata.labels)]


def _first_strict(snapshot: Snapshot, namespace: str) -> PeerAuthentication | None:
    """The oldest policy of a namespace that makes anything in it STRICT."""
    strict = [
        policy
        for policy in in_namespace(snapshot.peerauthentications, namespace)
        if Mode.STRICT in (set_mode(mtls) for mtls in (policy.spec.mtls, *policy.spec.port_level_mtls.values()))
    ]
    return min(strict, key=lambda policy: policy.metadata.creation_timestamp or "", default=None)


def _too_close(snapshot: Snapshot, policies: PeerPolicies, namespaces: tuple[str, ...]) -> tuple[list[Finding], list[Unknown]]:
    """Of the declared namespaces: two that became STRICT within a day, and those whose policies are not known."""
    dated: list[tuple[datetime, PeerAuthentication]] = []
    unknown: list[Unknown] = []
    for name in dict.fromkeys(namespaces):
        policy, missing = policies.namespace_wide(name), _unread(snapshot, name)
        if policy is None and missing:
            unknown += missing
        elif policy is not None and set_mode(policy.spec.mtls) is Mode.STRICT and (when := moment(policy.metadata.creation_timestamp)):
            dated.append((when, policy))
    dated.sort(key=lambda item: item[0])
    return [_close(*pair) for pair in pairwise(dated) if pair[1][0] - pair[0][0] < APART], unknown


def _unread(snapshot: Snapshot, namespace: str) -> tuple[Unknown, ...]:
    """Why the policies of a declared namespace are not known; empty where they are."""
    if namespace in (*held_namespaces(snapshot), *snapshot.declared_namespaces):
        return unread_in(snapshot, namespace, "peerauthentications")
    reason = f"PeerAuthentications of namespace {namespace} were not read, so its step to STRICT cannot be compared"
    return (Unknown(reason=reason),)


def _close(before: tuple[datetime, PeerAuthentication], after: tuple[datetime, PeerAuthentication]) -> Finding:
    gap = ago((after[0] - before[0]).total_seconds())
    first, second = reference(before[1]), reference(after[1])
    return Finding(
        code="MR723-TOO-FAST",
        level=Level.WARNING,
        object=second,
        found=f"it made namespace {second.namespace} STRICT {gap} after {first.namespace}/{first.name} made {first.namespace} so",
        wanted="at least 24 hours between two namespaces, so that the callers of the first are seen",
        fix="let a day pass between two steps, and state the order in the attestation of 7.2.3",
    )
