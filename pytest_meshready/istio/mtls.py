"""Lines 7.1.1, 7.2.3 and 11.1.1: the mutual TLS mode of every port of the namespace, as the objects say (checks.md 2.4, 7, 11).

Each rule looks at the same table, port by port: the mode by the PeerAuthentications, whether a proxy stands before the
port, and what DestinationRules make callers send. What the wire does with it is the live part of the lines.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import replace
from datetime import date
from typing import Protocol

from pytest_meshready.cluster.snapshot import Snapshot
from pytest_meshready.istio import callers, ports
from pytest_meshready.istio.callers import caller_findings, unseen_findings
from pytest_meshready.istio.increments import increments
from pytest_meshready.istio.moments import now_of
from pytest_meshready.istio.mtls_findings import Group, finding, groups, ignored_findings
from pytest_meshready.istio.namespaces import unread_in
from pytest_meshready.istio.ports import ANY_PORT, PortState, port_states
from pytest_meshready.istio.servermodes import Mode, Scope, ServerMode, is_strict, server_modes, strict_in
from pytest_meshready.istio.wording import shortened
from pytest_meshready.results import Evidence, Finding, Judgement, Level, ObjectRef, Unknown

__all__ = [
    "READS",
    "Mode",
    "PortException",
    "Scope",
    "ServerMode",
    "is_strict",
    "permissive",
    "server_modes",
    "strict_everywhere",
    "strict_in",
    "strict_incrementally",
]

#: What each of the three rules reads.
READS = tuple(dict.fromkeys((*ports.READS, *callers.READS)))

#: Whose refusal in the namespace of the run leaves a gap in the table.
_IN_NAMESPACE = tuple(key for key in ports.READS if key != "peerauthentications")

_INHERITED = frozenset({Scope.DEFAULT, Scope.MESH})


class PortException(Protocol):
    """A port that need not be STRICT, until the end of the day ``expires``; ``port`` None stands for all of the workload."""

    @property
    def workload(self) -> str:
        """The name of the workload in the namespace of the run."""

    @property
    def port(self) -> int | None:
        """The port of its pods."""

    @property
    def reason(self) -> str:
        """Why."""

    @property
    def expires(self) -> date:
        """The last day."""


def permissive(snapshot: Snapshot) -> Judgement:
    """Line 7.1.1, what the objects say: every port is PERMISSIVE, and callers with a proxy use mutual TLS.

    Errors: a port that is DISABLE, or STRICT before its phase; callers that are made to send something else. Warnings: a
    port without a proxy before it; PERMISSIVE only because nobody said anything.
    """
    survey = _Survey(snapshot)
    found = unseen_findings(snapshot, survey.states, "MR711")
    if survey.nothing:
        return Judgement(findings=tuple(found), unknown=survey.unknown)
    wanted = "PERMISSIVE in this phase, so that callers with and without a proxy are both served"
    for group in groups(state for state in survey.states if state.mode in (Mode.STRICT, Mode.DISABLE)):
        level = Level.ERROR if group.served and not group.first.gap else Level.WARNING
        found.append(finding(group, "MR711", level, wanted=wanted))
    by_default = [state for state in survey.states if state.mode is Mode.PERMISSIVE and state.server.scope is Scope.DEFAULT]
    if by_default:
        found.append(_only_default(snapshot, by_default))
    return survey.judgement(found, "MR711", f"{survey.count(len(survey.states))} PERMISSIVE")


def strict_incrementally(snapshot: Snapshot, namespaces: tuple[str, ...] | None = None) -> Judgement:
    """Line 7.2.3, what the objects say: STRICT is in force here, and came step by step.

    Errors: no port is STRICT; a policy asks for STRICT and has no effect; the whole mesh became STRICT before this
    namespace did. Warnings: a port that passes its STRICT proxy by, or has none; two of ``namespaces`` less than 24 hours
    apart, or the whole mesh before others of them. Ports that are PERMISSIVE still are the steps to come, and only shown.

    Args:
        snapshot: of the cluster. PeerAuthentications are known of the run's, the control plane's, the root and the declared
            namespaces.
        namespaces: the namespaces that the team declared for the mesh; None if it declared none.
    """
    survey = _Survey(snapshot)
    if survey.nothing:
        return Judgement(unknown=survey.unknown)
    wanted = "STRICT in the end, on every port"
    steps = increments(snapshot, survey.states, namespaces)
    survey.unknown += steps.unknown
    found = list(steps.findings)
    for group in groups(state for state in survey.states if state.mode in (Mode.PERMISSIVE, Mode.DISABLE)):
        asked = group.first.gap and group.first.server.mode is Mode.STRICT
        found.append(finding(group, "MR723", Level.WARNING if asked and group.served else Level.INFO, wanted=wanted))
    strict = sum(1 for state in survey.states if state.mode is Mode.STRICT)
    return survey.judgement(found, "MR723", f"{survey.count(strict)} STRICT", callers_too=False)


def strict_everywhere(snapshot: Snapshot, exceptions: Iterable[PortException] = (), today: date | None = None) -> Judgement:
    """Line 11.1.1, what the objects say: every port is STRICT, except those that the team listed with a reason.

    Errors: a port that is PERMISSIVE or DISABLE, that passes its proxy by or has none; callers that are made to send
    something else. Warnings: the same of a listed port until its exception expires; a port that only a policy or an
    annotation names, and nothing is known to serve.

    Args:
        snapshot: of the cluster.
        exceptions: the ports that need not be STRICT.
        today: the day by which exceptions expire; by default the day of the snapshot.
    """
    survey = _Survey(snapshot)
    if survey.nothing:
        return Judgement(unknown=survey.unknown)
    allowed = _Allowed(snapshot, tuple(exceptions), today)
    by_exception: dict[int | None, list[PortState]] = {}
    for state in survey.states:
        if state.mode not in (Mode.STRICT, Mode.UNKNOWN):
            by_exception.setdefault(allowed.place_of(state), []).append(state)
    found = [_not_strict(group, allowed, place) for place, states in by_exception.items() for group in groups(states, widely=place is None)]
    found += allowed.unused(by_exception)
    survey.unknown += allowed.unknown
    survey.reached = [state for state in survey.states if not allowed.lifts(allowed.place_of(state))]
    return survey.judgement(found, "MR1111", f"{survey.count(len(survey.states))} STRICT")


class _Survey:
    """The table of one snapshot, and what the three rules say of it alike."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self.unknown: tuple[Unknown, ...] = unread_in(snapshot, snapshot.namespace, *_IN_NAMESPACE)
        pods_unknown = bool(unread_in(snapshot, snapshot.namespace, "pods"))
        table = ports.Ports(states=()) if pods_unknown else port_states(snapshot)
        mesh_unknown = (*unread_in(snapshot, snapshot.root_namespace, "peerauthentications"), *_mesh_unknown(snapshot))
        own_unknown = unread_in(snapshot, snapshot.namespace, "peerauthentications")
        self.states = tuple(_as_known(state, own=not own_unknown, mesh=not mesh_unknown) for state in table.states)
        self.reached = list(self.states)
        self.unknown += (*table.unknown, *own_unknown)
        if any(state.server.scope in _INHERITED and not state.gap for state in table.states):
            self.unknown += mesh_unknown
        self.unknown += _odd_modes(table.states)
        if not self.states and not self.unknown:
            self.unknown += (
                Unknown(reason=f"no workload of namespace {snapshot.namespace} serves a port, so there is nothing to look at"),
            )

    @property
    def nothing(self) -> bool:
        """Whether there is no table to look at."""
        return not self.states

    def count(self, number: int) -> str:
        """The subject of a summary: ``all 6 ports are``, ``5 of 6 ports are``."""
        total = len(self.states)
        if total == 1:
            return "the only port is" if number else "the only port is not"
        return f"all {total} ports are" if number == total else f"{number} of {total} ports are"

    def judgement(self, found: list[Finding], line: str, summary: str, *, callers_too: bool = True) -> Judgement:
        """What was found, with what every one of the lines says.

        Args:
            found: what the line itself found.
            line: the beginning of its codes.
            summary: the sentence for the case that all is well.
            callers_too: whether the line asks what callers send.
        """
        unknown = list(self.unknown)
        if callers_too:
            more, missing = caller_findings(self._snapshot, self.reached, line)
            found = [*found, *more]
            unknown += [*missing, *self._callers_unknown()]
        told = {item.object for item in found}
        found += [item for item in ignored_findings(self.states, line) if item.object not in told]
        deciding = dict.fromkeys(state.server.why for state in self.states if not state.gap and state.mode is not Mode.UNKNOWN)
        return Judgement(
            summary=f"{summary} {shortened(deciding)}".rstrip(),
            examined=len(self.states),
            findings=tuple(found),
            unknown=tuple(dict.fromkeys(unknown)),
            evidence=(Evidence(kind="table", source="PeerAuthentications, pods and Services", data=_rows(self.states)),),
        )

    def _callers_unknown(self) -> list[Unknown]:
        snapshot = self._snapshot
        places = dict.fromkeys((snapshot.namespace, snapshot.root_namespace))
        missing = [unknown for place in places for unknown in unread_in(snapshot, place, "destinationrules", "backendtlspolicies")]
        return [*missing, *_mesh_unknown(snapshot)]


def _as_known(state: PortState, *, own: bool, mesh: bool) -> PortState:
    """The state, of unknown mode where the policies that decide it were not read.

    The mesh's policies do not matter where those of the namespace decide.
    """
    known = own and (mesh or state.server.scope not in _INHERITED)
    return state if known or state.gap else replace(state, server=ServerMode(mode=Mode.UNKNOWN))


def _odd_modes(states: Iterable[PortState]) -> tuple[Unknown, ...]:
    odd = dict.fromkeys(state.server.by for state in states if state.mode is Mode.UNKNOWN)
    return tuple(Unknown(reason=f"{policy} sets a mode that Istio does not have, so what it means is not known") for policy in odd)


def _mesh_unknown(snapshot: Snapshot) -> tuple[Unknown, ...]:
    """The mesh configuration names the root namespace and switches automatic mTLS."""
    if snapshot.mesh is not None:
        return ()
    missing = snapshot.unread("configmaps")
    place = callers.mesh_config(snapshot)
    return missing or (Unknown(reason=f"the mesh configuration was not found: there is no {place}"),)


def _only_default(snapshot: Snapshot, states: list[PortState]) -> Finding:
    names = shortened(dict.fromkeys(state.workload.ref.name for state in states))
    return Finding(
        code="MR711-ONLY-DEFAULT",
        level=Level.WARNING,
        object=ObjectRef(kind="Namespace", name=snapshot.namespace),
        found=f"{names}: PERMISSIVE only by Istio's default, which a PeerAuthentication of the mesh would change for all at once",
        wanted="a PeerAuthentication of the namespace that says PERMISSIVE",
        fix=f"add one named default with spec.mtls.mode PERMISSIVE: kubectl -n {snapshot.namespace} get peerauthentication",
    )


def _not_strict(group: Group, allowed: _Allowed, place: int | None) -> Finding:
    wanted = "STRICT on every port, or an exception with a reason that has not expired"
    if place is None:
        return finding(group, "MR1111", Level.ERROR if group.served else Level.WARNING, wanted=wanted)
    exception, lifted = allowed.exceptions[place], allowed.lifts(place)
    after = f"; allowed until {exception.expires}: {exception.reason}" if lifted else f"; its exception expired on {exception.expires}"
    level = Level.ERROR if group.served and not lifted else Level.WARNING
    return finding(group, "MR1111", level, wanted=wanted, after=after, detail=f"exception {exception.port or ''}".rstrip())


class _Allowed:
    """The ports that need not be STRICT, on one day; exceptions are told apart by their place in the list."""

    def __init__(self, snapshot: Snapshot, exceptions: tuple[PortException, ...], today: date | None) -> None:
        self._namespace = snapshot.namespace
        self.exceptions = exceptions
        now = now_of(snapshot)
        self._today = today or (now.date() if now else None)
        self.unknown: tuple[Unknown, ...] = ()
        if exceptions and self._today is None:
            self.unknown = (Unknown(reason="the snapshot does not say when it was taken, so exceptions cannot be dated"),)

    def place_of(self, state: PortState) -> int | None:
        """The exception of a port, the one that lasts longest; None where there is none."""
        name = state.workload.ref.name
        matching = [
            (item.expires, place) for place, item in enumerate(self.exceptions) if item.workload == name and item.port in (None, state.port)
        ]
        return max(matching)[1] if matching else None

    def lifts(self, place: int | None) -> bool:
        """Whether an exception is in force today."""
        return place is not None and (self._today is None or self.exceptions[place].expires >= self._today)

    def unused(self, used: Container[int | None]) -> list[Finding]:
        """One information for each exception that nothing needs."""
        return [
            Finding(
                code="MR1111-UNUSED-EXCEPTION",
                level=Level.INFO,
                object=ObjectRef(kind="Namespace", name=self._namespace),
                found=f"{item.workload}, {f'port {item.port}' if item.port else 'all ports'}: the exception is for nothing that is open",
                wanted="only exceptions that are needed",
                fix="take it out of [[mtls_exception]] in the settings",
                detail=f"{item.workload} {item.port or ''}".rstrip(),
            )
            for place, item in enumerate(self.exceptions)
            if place not in used
        ]


def _rows(states: Iterable[PortState]) -> list[dict[str, str]]:
    """The table as evidence: one row for each workload and cause."""
    return [
        {
            "workload": str(group.workload.ref),
            "ports": ", ".join(str(state.port) if state.port != ANY_PORT else "none declared" for state in group.states),
            "mode": "plaintext" if group.first.gap else group.first.mode.value,
            "because": group.first.gap or ("" if group.first.mode is Mode.UNKNOWN else group.first.server.why),
        }
        for group in groups(states, widely=False)
    ]
