"""Lines 7.1.1, 7.2.1, 7.2.2, 7.2.3 and 11.1.1: what the wire says of every port, beside what its configuration says.

The configuration explains, the wire decides. Each judgement carries for every port the positive control (who proved to be
there, in which handshake), so that a refusal is never believed alone; what was not decided is unknown, never passed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import date

from pytest_meshready.istio.moments import now_of
from pytest_meshready.istio.mtls import PortException
from pytest_meshready.istio.mtls_findings import ignored_clause
from pytest_meshready.istio.ports import PortState
from pytest_meshready.istio.servermodes import Mode
from pytest_meshready.istio.sidecar_faults import edit, restart
from pytest_meshready.istio.targets import Target
from pytest_meshready.istio.wire import Observed, Seen, Wire, by_workload
from pytest_meshready.istio.wording import shortened
from pytest_meshready.results import Evidence, Finding, Judgement, Level, ObjectRef, Unknown

_OPEN = frozenset({Wire.PERMISSIVE, Wire.PLAINTEXT})


def permissive(observed: Observed) -> Judgement:
    """Line 7.1.1, live: every port offers mutual TLS to callers in the mesh, and takes plaintext from those outside it.

    Errors: a port that demands mutual TLS already; one that offers none, although a proxy stands before it; a wrong identity.
    Warnings: one without a proxy, or that passes it by. ``MR711-WIRE-...``.
    """
    report = _Report(observed, "MR711")
    wanted = "PERMISSIVE in this phase: mutual TLS for callers in the mesh, plaintext for all others"
    for group in report.groups(lambda item: item.wire in (Wire.STRICT, Wire.PLAINTEXT)):
        level = Level.WARNING if group[0].target.state.gap else Level.ERROR
        report.add(group, level, wanted)
    report.identities()
    report.disagreements(told=lambda item: item.wire in (Wire.STRICT, Wire.PLAINTEXT))
    waiting = [item for item in report.items if item.wire is Wire.PERMISSIVE and item.silent]
    unknown = [
        Unknown(reason=f"{item.target.key}: a plaintext request {item.silent}, so that it is taken is not shown") for item in waiting
    ]
    return report.judgement(f"{report.count} offer mutual TLS and take plaintext", *unknown)


def compatible(observed: Observed, exceptions: Iterable[PortException] = (), today: date | None = None) -> Judgement:
    """Line 7.2.1, live: every port completes Istio's TLS handshake, as the pod that it belongs to.

    Errors: a port that offers no mutual TLS; a wrong identity, a chain that does not hold, or one that is not valid now.
    Warnings: the same of a port that is excepted with a reason. ``MR721-WIRE-...``, ``MR721-IDENTITY``.

    Args:
        observed: what was seen.
        exceptions: ports that need not be STRICT.
        today: the day by which they expire; by default that of the snapshot.
    """
    report = _Report(observed, "MR721", exceptions, today)
    for group in report.groups(lambda item: item.wire is Wire.PLAINTEXT):
        report.add(group, Level.ERROR, "Istio's TLS handshake on every port, so that STRICT breaks no caller in the mesh")
    report.identities()
    report.disagreements(told=lambda item: item.wire is Wire.PLAINTEXT)
    return report.judgement(f"{report.count} complete Istio's TLS handshake as the service account of their pod")


def legacy(observed: Observed) -> Judgement:
    """Line 7.2.2, live: a caller outside the mesh gets from every port what its configuration promises.

    Errors: a port that refuses what it should take, or takes what it should refuse. ``MR722-DISAGREES``.
    """
    report = _Report(observed, "MR722")
    report.disagreements(level=Level.ERROR)
    left = sum(1 for item in observed.seen if item.wire in _OPEN)
    return report.judgement(f"a caller outside the mesh got what is declared from {report.count}; {left} of them take plaintext")


def identified(observed: Observed) -> Judgement:
    """Line 7.3.2, live: every port shows in its handshake the service account of the pod that it belongs to.

    Errors: another identity, a chain that does not hold, or one that is not valid now. ``MR732-IDENTITY``. A port that shows
    none is not verified: why it shows none is for lines 7.2.1 and 11.1.1 to say.
    """
    report = _Report(observed, "MR732")
    report.identities()
    silent = [
        Unknown(reason=f"{group[0].target.workload}: {_ports(group)} shows no identity: {group[0].why}")
        for group in report.groups(lambda item: item.wire is Wire.PLAINTEXT and not item.shown)
    ]
    return report.judgement(f"{report.count} show the service account of their pod", *silent)


def strict(observed: Observed) -> Judgement:
    """Line 7.2.3, live: every port for which a policy asks STRICT refuses plaintext, beside an answered handshake.

    Errors: plaintext is taken, as where a policy is ignored that asks for STRICT; a wrong identity. Warnings: plaintext is
    taken where no proxy stands before the port, which is another line's fault. ``MR723-WIRE-...``.
    """
    report = _Report(observed, "MR723", only=_asks_strict)
    if not report.items:
        reason = "no PeerAuthentication asks for STRICT on a port that could be asked, so there is no refusal to prove"
        return report.judgement("", Unknown(reason=reason))
    for group in report.groups(_is_open):
        level = Level.WARNING if group[0].target.state.gap else Level.ERROR
        report.add(group, level, "plaintext is refused where a policy asks for STRICT")
    report.identities()
    report.disagreements(told=_is_open)
    report.unproved()
    return report.judgement(f"{report.count} refuse plaintext while the same port answers a handshake")


def strict_everywhere(observed: Observed, exceptions: Iterable[PortException] = (), today: date | None = None) -> Judgement:
    """Line 11.1.1, live: every port refuses plaintext, beside an answered handshake; exceptions warn until they expire.

    Errors: plaintext is taken; a wrong identity. ``MR1111-WIRE-...``.

    Args:
        observed: what was seen.
        exceptions: ports that need not be STRICT.
        today: the day by which they expire; by default that of the snapshot.
    """
    report = _Report(observed, "MR1111", exceptions, today)
    for group in report.groups(_is_open):
        report.add(group, Level.ERROR, "plaintext from outside the mesh is refused on every port, or the port is excepted with a reason")
    report.identities()
    report.disagreements(told=_is_open)
    report.unproved()
    return report.judgement(f"{report.count} refuse plaintext while the same port answers a handshake")


def _is_open(item: Seen) -> bool:
    return item.wire in _OPEN or (bool(item.taken) and item.wire is Wire.UNDECIDED and not item.shown)


def _asks_strict(item: Seen) -> bool:
    """Whether a policy asks for STRICT here, also one that istiod ignores."""
    server = item.target.state.server
    return server.mode is Mode.STRICT or any(ignored.wanted is Mode.STRICT for ignored in server.ignored)


class _Report:
    """Collects what one line says of what was seen."""

    def __init__(
        self,
        observed: Observed,
        line: str,
        exceptions: Iterable[PortException] = (),
        today: date | None = None,
        only: Callable[[Seen], bool] = lambda _: True,
    ) -> None:
        self._observed = observed
        self._line = line
        self._exceptions = tuple(exceptions)
        now = now_of(observed.snapshot)
        self._today = today or (now.date() if now else None)
        self.items = [item for item in observed.seen if only(item)]
        self._findings: list[Finding] = []
        self._unknown = list(observed.targets.unknown)
        self._complete(only)

    def _complete(self, only: Callable[[Seen], bool]) -> None:
        """What could not be asked, or was not decided."""
        undecided: dict[str, list[str]] = {}
        for item in self.items:
            if item.wire is Wire.UNDECIDED and not _is_open(item):
                undecided.setdefault(item.why, []).append(item.target.key)
        self._unknown += [Unknown(reason=f"{shortened(places)}: {why}") for why, places in undecided.items()]
        for state in self._observed.targets.bare:
            if only(Seen(target=_absent(state), wire=Wire.UNDECIDED, why="")):
                self._unknown.append(Unknown(reason=f"port {state.port} of {state.workload.ref}: no pod is ready, so nothing was asked"))
        if names := dict.fromkeys(item.workload.name for item in self._observed.targets.targets if item.state.ambient):
            self._unknown.append(Unknown(reason=_through_ztunnel(shortened(names))))

    @property
    def count(self) -> str:
        """The subject of a summary."""
        ports = {(item.target.workload, item.target.port) for item in self.items}
        pods = {item.target.pod for item in self.items}
        return f"{len(ports)} ports on {len(pods)} pods"

    def groups(self, which: Callable[[Seen], bool]) -> list[list[Seen]]:
        """Those of one workload and one cause together."""
        return list(by_workload(item for item in self.items if which(item)).values())

    def add(self, group: list[Seen], level: Level, wanted: str) -> None:
        """One finding about ports that are not as the line wants them; those that are excepted warn in one of their own."""
        for items, excepted in ((group, False), (group, True)):
            chosen = [item for item in items if bool(self._exception(item.target)) is excepted]
            if chosen:
                self._findings.append(self._opened(chosen, Level.WARNING if excepted else level, wanted))

    def _opened(self, group: list[Seen], level: Level, wanted: str) -> Finding:
        first = group[0]
        exception = self._exception(first.target)
        word = {Wire.STRICT: "STRICT", Wire.PERMISSIVE: "OPEN", Wire.PLAINTEXT: "OPEN", Wire.UNDECIDED: "OPEN"}[first.wire]
        allowed = f"; allowed until {exception.expires}: {exception.reason}" if exception else ""
        return Finding(
            code=f"{self._line}-WIRE-{word}",
            level=level,
            object=first.target.workload,
            found=f"{_ports(group)}: {first.taken or first.why}{_cause(first)}{allowed}",
            wanted=wanted,
            fix=_fix(first),
            detail="|".join((_numbers(group), first.wire.value, "excepted" if exception else "")).rstrip("|"),
        )

    def identities(self) -> None:
        """One finding for each workload whose pods prove to be somebody else, or prove nothing."""
        for group in self.groups(lambda item: bool(item.problem)):
            first = group[0]
            self._findings.append(
                Finding(
                    code=f"{self._line}-IDENTITY",
                    level=Level.ERROR,
                    object=first.target.workload,
                    found=f"{_ports(group)}: in the handshake {first.problem}",
                    wanted=f"a valid chain for the service account {first.target.account}, signed by the mesh's authority",
                    fix=f"compare with: istioctl proxy-config secret {first.target.pod} -n {first.target.workload.namespace}",
                    detail=_numbers(group),
                )
            )

    def disagreements(self, *, level: Level = Level.WARNING, told: Callable[[Seen], bool] = lambda _: False) -> None:
        """One finding for each workload whose ports do something else than their configuration says.

        Args:
            level: how much it weighs.
            told: which of them another finding of the line tells already, with the same cause.
        """
        known = (Mode.STRICT, Mode.PERMISSIVE, Mode.DISABLE)
        for group in self.groups(
            lambda item: not item.agrees and item.wire is not Wire.UNDECIDED and item.configured in known and not told(item)
        ):
            first = group[0]
            self._findings.append(
                Finding(
                    code=f"{self._line}-DISAGREES",
                    level=level,
                    object=first.target.workload,
                    found=f"{_ports(group)}: the wire says {first.wire} ({first.why}), the configuration {_configured(first)}",
                    wanted="pods that do what is configured",
                    fix=_stale(first.target),
                    detail=f"{_numbers(group)}|{first.wire}",
                )
            )

    def unproved(self) -> None:
        """Ports that demand mutual TLS by their handshake, but whose refusal of plaintext was not tried."""
        for group in self.groups(lambda item: item.wire is Wire.STRICT and not item.refused):
            reason = f"{group[0].target.workload}: {_ports(group)}: plaintext was not sent, for the configuration is not STRICT"
            self._unknown.append(Unknown(reason=reason))

    def judgement(self, summary: str, *unknown: Unknown) -> Judgement:
        """Everything together."""
        if not self.items and not self._unknown and not unknown:
            unknown = (Unknown(reason="no ready pod of the namespace serves a port, so nothing was asked"),)
        missing = self._observed.targets.not_covered
        evidence = [Evidence(kind="table", source="TLS handshakes and plaintext from a pod outside the mesh", data=_rows(self.items))]
        if missing:
            rows = [{"port": item.place, "not covered because": item.reason} for item in missing]
            evidence.append(Evidence(kind="table", source="Service ports that were not asked", data=rows))
        evidence.append(Evidence(kind="sample", source="ready pods", text=self._observed.targets.sampled))
        return Judgement(
            summary=summary,
            examined=len(self.items),
            findings=tuple(self._findings),
            unknown=tuple(dict.fromkeys((*self._unknown, *unknown))),
            evidence=tuple(evidence),
        )

    def _exception(self, target: Target) -> PortException | None:
        """The exception of a port that is in force today, the one that lasts longest."""
        name = target.workload.name
        matching = [item for item in self._exceptions if item.workload == name and item.port in (None, target.port)]
        lasting = [item for item in matching if self._today is None or item.expires >= self._today]
        return max(lasting, key=lambda item: item.expires, default=None)


def _through_ztunnel(names: str) -> str:
    """Why ambient workloads are not asked, and what would tell instead."""
    return (
        f"{names} {'are' if ',' in names or ' and ' in names else 'is'} ambient: mutual TLS is spoken between the nodes' ztunnels on port "
        "15008, not on the pods' own ports, so a handshake with those tells nothing; istioctl ztunnel-config workloads shows HBONE "
        'where it is spoken, and so does istio_tcp_connections_opened_total with connection_security_policy="mutual_tls"'
    )


def _absent(state: PortState) -> Target:
    """A target in the place of one that has no ready pod."""
    from pytest_meshready.istio.protocols import Protocol

    return Target(state=state, pod="", address="", account="", protocol=Protocol.GUESSED)


# --- words ------------------------------------------------------------------------------------------------------------


def _numbers(group: list[Seen]) -> str:
    return ", ".join(str(number) for number in sorted({item.target.port for item in group}))


def _ports(group: list[Seen]) -> str:
    numbers = sorted({item.target.port for item in group})
    pods = list(dict.fromkeys(item.target.pod for item in group))
    return f"{'port' if len(numbers) == 1 else 'ports'} {_numbers(group)} of {shortened(pods)}"


def _configured(item: Seen) -> str:
    state = item.target.state
    return f"plaintext, because {state.gap}" if state.gap else f"{state.server.mode} {state.server.why}"


def _cause(item: Seen) -> str:
    """Why plaintext is taken or refused, by the configuration, as the end of a sentence."""
    state = item.target.state
    if state.gap:
        return f"; {state.gap}"
    ignored = next((policy for policy in state.server.ignored if policy.wanted is Mode.STRICT), None)
    if not item.agrees and item.configured is not Mode.UNKNOWN:
        return f"; the configuration says {_configured(item)}, so its proxy does not do what it is told"
    if ignored is not None and state.server.mode is not Mode.STRICT:
        return f"; {state.server.mode} {state.server.why}; {ignored_clause(ignored)}"
    return f"; {state.server.mode} {state.server.why}"


def _fix(item: Seen) -> str:
    """What to do about a port that is not as it should be."""
    state = item.target.state
    if state.no_proxy and "older than the injection" in state.gap:
        return f"restart it: {restart(state.workload)}"
    if state.no_proxy:
        return f"remove that cause, so that it is injected: {edit(state.workload)}"
    if state.gap:
        return f"let the proxy have the port: {edit(state.workload)}"
    if not item.agrees and item.configured is not Mode.UNKNOWN:
        return _stale(item.target)
    by: ObjectRef | None = state.server.by
    if by is None:
        return f"set the mode in a PeerAuthentication: kubectl -n {state.workload.ref.namespace} get peerauthentication"
    return f"change the mode there: kubectl -n {by.namespace} edit peerauthentication {by.name}"


def _stale(target: Target) -> str:
    namespace = target.workload.namespace
    return f"see whether the proxy has istiod's configuration: istioctl proxy-status {target.pod}.{namespace}"


def _rows(items: Iterable[Seen]) -> list[dict[str, str]]:
    """The table as evidence, a row for each port of each pod, with its positive control."""
    return [
        {
            "workload": str(item.target.workload),
            "pod": item.target.pod,
            "port": str(item.target.port),
            "wire": item.wire.value,
            "because": item.why,
            "control": item.control or "none",
            "valid until": f"{item.shown[0].not_after:%Y-%m-%d %H:%M} UTC" if item.shown else "",
            "configuration": _configured(item),
        }
        for item in items
    ]
