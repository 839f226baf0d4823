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
from pytest_meshready.istio.moments import ago, moment
from pytest_meshready.istio.mtls_findings import shortened, shown
from pytest_meshready.istio.namespaces import mesh_label
from pytest_meshready.istio.ports import PortState
from pytest_meshready.istio.servermodes import Ignored, Mode, PeerPolicies, reference, set_mode
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
    own = _first_strict(snapshot)
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


def _other_meshed(snapshot: Snapshot) -> list[str]:
    """The other namespaces that a label puts into the mesh."""
    apart = (snapshot.namespace, snapshot.root_namespace, snapshot.istio_namespace)
    return [item.metadata.name for item in snapshot.namespaces if item.metadata.name not in apart and mesh_label(item.metadata.labels)]


def _first_strict(snapshot: Snapshot) -> PeerAuthentication | None:
    """The oldest policy of the namespace that makes anything in it STRICT."""
    strict = [
        policy
        for policy in in_namespace(snapshot.peerauthentications, snapshot.namespace)
        if Mode.STRICT in (set_mode(mtls) for mtls in (policy.spec.mtls, *policy.spec.port_level_mtls.values()))
    ]
    return min(strict, key=lambda policy: policy.metadata.creation_timestamp or "", default=None)


def _too_close(snapshot: Snapshot, policies: PeerPolicies, namespaces: tuple[str, ...]) -> tuple[list[Finding], list[Unknown]]:
    """Of the declared namespaces: two that became STRICT within a day, and those whose policies are not known."""
    read = (snapshot.namespace, snapshot.istio_namespace, snapshot.root_namespace)
    dated: list[tuple[datetime, PeerAuthentication]] = []
    unknown: list[Unknown] = []
    for name in dict.fromkeys(namespaces):
        policy = policies.namespace_wide(name)
        if policy is None and name not in read:
            unknown.append(
                Unknown(
                    reason=f"PeerAuthentications of namespace {name} were not read, so its step to STRICT cannot be compared",
                    verb="list",
                    resource="peerauthentications.security.istio.io",
                    namespace=name,
                )
            )
        elif policy is not None and set_mode(policy.spec.mtls) is Mode.STRICT and (when := moment(policy.metadata.creation_timestamp)):
            dated.append((when, policy))
    dated.sort(key=lambda item: item[0])
    return [_close(*pair) for pair in pairwise(dated) if pair[1][0] - pair[0][0] < APART], unknown


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
