"""Line 6.1.1, what configuration says: every HTTP route that callers use has a timeout that means something (checks.md 6.1.1).

A timeout belongs to the caller's side: it stands in the rule that a caller's sidecar, or the gateway, has for the host that
is called. Istio's default is none at all. Which service calls which is known only where AuthorizationPolicies name callers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from pytest_meshready.cluster.snapshot import Snapshot
from pytest_meshready.istio import callgraph, routes
from pytest_meshready.istio.callgraph import Calls
from pytest_meshready.istio.durations import shown
from pytest_meshready.istio.hosts import Host, HostPort
from pytest_meshready.istio.routes import Origin, Route, Routes, known_routes
from pytest_meshready.istio.rules import MESH
from pytest_meshready.results import Evidence, Finding, Judgement, Level, ObjectRef, Unknown

#: What `timeouts_defined` reads.
READS_611 = tuple(dict.fromkeys((*routes.READS, *callgraph.READS)))

#: Seconds beyond which a timeout protects nobody.
LONGEST = 30.0

_WANTED = f"a timeout above 0 and up to {shown(LONGEST)} on every route that callers use"


@dataclass(frozen=True, slots=True, kw_only=True)
class Used:
    """The routes of one port that somebody may use, and why nobody in the mesh does, where that is known."""

    host: Host
    port: HostPort
    mesh: tuple[Route, ...]
    entering: tuple[Route, ...]

    @property
    def every(self) -> tuple[Route, ...]:
        """All of them."""
        return (*self.mesh, *self.entering)


def used_routes(found: Routes, calls: Calls) -> tuple[Used, ...]:
    """The HTTP ports of the namespace with the routes that callers may use: by sidecars, if any may call, and by gateways."""
    entering: dict[tuple[str, int], list[Route]] = {}
    for route in found.entering():
        entering.setdefault((route.host.name, route.port.number), []).append(route)
    ports = [(host, port) for host, port in found.callable() if port.http or (port.guessed and _has_rule(found, host, port))]
    return tuple(
        Used(
            host=host,
            port=port,
            mesh=found.mesh(host, port) if calls.from_sidecars(host, port.number) else (),
            entering=tuple(entering.get((host.name, port.number), ())),
        )
        for host, port in ports
    )


def _has_rule(found: Routes, host: Host, port: HostPort) -> bool:
    """Whether somebody wrote rules for HTTP to a port whose protocol Istio has to guess."""
    return any(route.rule is not None for route in found.mesh(host, port))


def timeouts_defined(snapshot: Snapshot) -> Judgement:
    """Line 6.1.1, the static part.

    Warnings: a route without a timeout, or one above `LONGEST`; a service that is allowed to wait longer for one that it may
    call than its own callers wait for it. Nothing in the objects tells a stream, which needs no timeout, from a request.
    """
    unknown = routes.unread(snapshot, *callgraph.READS)
    found = known_routes(snapshot)
    calls = Calls(snapshot, found)
    used = used_routes(found, calls)
    findings = [item for one in used for item in _of_port(one, snapshot.namespace)]
    findings += _longer_than_callers(used, calls)
    examined = [route for one in used for route in one.every if _answers(route)]
    nothing = f"no Service or ServiceEntry of namespace {snapshot.namespace} has an HTTP port"
    return Judgement(
        summary=f"{len(examined)} routes to {len(used)} HTTP ports have a timeout up to {shown(LONGEST)}",
        examined=len(examined),
        findings=tuple(findings),
        unknown=(*unknown, *(() if examined or not used or unknown else (_nobody(used),))),
        not_applicable="" if used or unknown else nothing,
        evidence=(Evidence(kind="table", source="effective routes", data=[_row(route) for route in examined]),) if examined else (),
    )


def _answers(route: Route) -> bool:
    """Whether requests go on from here: a redirect needs no timeout."""
    return route.rule is None or not route.rule.answered


def _nobody(used: Iterable[Used]) -> Unknown:
    names = ", ".join(f"{one.host.ref.name}:{one.port.number}" for one in used)
    return Unknown(reason=f"no route that a caller could use leads to {names}: its callers are not in this namespace's view")


def _of_port(one: Used, namespace: str) -> Iterator[Finding]:
    open_mesh = [route for route in one.mesh if _answers(route) and not route.timeout]
    if open_mesh:
        yield _without(one, open_mesh, namespace)
    by_rule: dict[ObjectRef, list[Route]] = {}
    for route in one.entering:
        if _answers(route) and not route.timeout and route.rule is not None:
            by_rule.setdefault(route.rule.origin, []).append(route)
    for ref, routes_ in by_rule.items():
        yield _gateway_without(ref, routes_)
    long: dict[ObjectRef, list[Route]] = {}
    for route in one.every:
        if route.timeout > LONGEST and route.rule is not None:
            long.setdefault(route.rule.origin, []).append(route)
    for ref, routes_ in long.items():
        yield _long(ref, routes_)


def _without(one: Used, bare: list[Route], namespace: str) -> Finding:
    """Callers in the mesh wait without end; the object is the rule that says nothing, or the Service that has none."""
    rule = bare[0].rule
    host, number = one.host, one.port.number
    if bare[0].origin is Origin.ZTUNNEL:
        return _past_rules(one, namespace)
    timed = [route.gateway for route in one.entering if route.timeout]
    beside = f" (only the route of gateway {timed[0]} has one, which does not hold in the mesh)" if timed else ""
    if rule is None:
        return Finding(
            code="MR611-NO-TIMEOUT",
            level=Level.WARNING,
            object=host.ref,
            found=f"port {number} has no route of its own in the mesh, so its callers wait without end{beside}",
            wanted=_WANTED,
            fix=f"add a VirtualService for host {host.name} with http[].timeout, such as 5s: kubectl -n {namespace} get virtualservices",
            detail=str(number),
        )
    return Finding(
        code="MR611-NO-TIMEOUT",
        level=Level.WARNING,
        object=rule.origin,
        found=f"{_places(bare)} for {host.ref.name}:{number} says no timeout, so callers in the mesh wait without end{beside}",
        wanted=_WANTED,
        fix=f"set its timeout, such as 5s: {edit(rule.origin)}",
        detail=f"{host.name}:{number}",
    )


def _past_rules(one: Used, namespace: str) -> Finding:
    """In an ambient namespace no waypoint reads the requests, so that no rule about them holds."""
    return Finding(
        code="MR611-NO-WAYPOINT",
        level=Level.WARNING,
        object=one.host.ref,
        found=f"no waypoint reads the requests to its port {one.port.number}: a timeout of a route does not hold for callers in the mesh",
        wanted=f"a waypoint before it, and {_WANTED}",
        fix=f"istioctl waypoint apply --enroll-namespace -n {namespace}",
        detail=str(one.port.number),
    )


def _gateway_without(ref: ObjectRef, bare: list[Route]) -> Finding:
    route = bare[0]
    return Finding(
        code="MR611-NO-TIMEOUT",
        level=Level.WARNING,
        object=ref,
        found=f"{_places(bare)} leads from gateway {route.gateway} to {route.host.ref.name}:{route.port.number} without a timeout",
        wanted=_WANTED,
        fix=f"set its timeout, such as 10s: {edit(ref)}",
        detail=f"{route.gateway} {route.host.name}:{route.port.number}",
    )


def _long(ref: ObjectRef, routes_: list[Route]) -> Finding:
    longest = max(routes_, key=lambda route: route.timeout)
    return Finding(
        code="MR611-LONG-TIMEOUT",
        level=Level.WARNING,
        object=ref,
        found=f"{_places(routes_)} lets a request to {longest.called} last {shown(longest.timeout)}",
        wanted=_WANTED,
        fix=f"shorten it to what callers can wait, or state in a waiver why it is so long: {edit(ref)}",
        detail=f"{longest.host.name}:{longest.port.number}",
    )


def _longer_than_callers(used: tuple[Used, ...], calls: Calls) -> Iterator[Finding]:
    """Along the calls that policies allow by name: what a service may wait for another, against what its callers wait for it."""
    waits = patience(used)
    for one in used:
        callers = calls.callers(one.host, one.port.number) or ()
        slow = [route for route in one.mesh if _answers(route) and 0 < route.timeout <= LONGEST and route.rule is not None]
        if not slow:
            continue
        longest = max(slow, key=lambda route: route.timeout)
        for caller in callers:
            limit = waits.get(caller.name, 0.0)
            if 0 < limit < longest.timeout and longest.rule is not None:
                yield _outlives(longest.rule.origin, longest, caller, limit)


def patience(used: Iterable[Used]) -> Mapping[str, float]:
    """The longest that callers wait for each host, in seconds; 0 where some of them wait without end."""
    found: dict[str, float] = {}
    for one in used:
        times = [route.timeout for route in one.every if _answers(route)]
        if times:
            longest = 0.0 if 0.0 in times else max(times)
            before = found.get(one.host.name)
            found[one.host.name] = longest if before is None else 0.0 if 0.0 in (before, longest) else max(before, longest)
    return found


def _outlives(ref: ObjectRef, route: Route, caller: Host, limit: float) -> Finding:
    own = caller.ref.name
    return Finding(
        code="MR611-OUTLIVES-CALLER",
        level=Level.WARNING,
        object=ref,
        found=f"{own} may call {route.called} and wait {shown(route.timeout)}, but callers of {own} give up after {shown(limit)}",
        wanted="a service waits no longer for another than its own callers wait for it",
        fix=f"shorten this timeout below {shown(limit)}, or give {own} more: {edit(ref)}",
        detail=f"{own} {route.host.name}:{route.port.number}",
    )


def edit(ref: ObjectRef) -> str:
    """The command that opens an object; Istio's Gateways are told from the Gateway API's by their full name."""
    kind = {"Gateway": "gateways.networking.istio.io"}.get(ref.kind, ref.kind.lower())
    return f"kubectl -n {ref.namespace} edit {kind} {ref.name}"


def _places(found: Iterable[Route]) -> str:
    """Where in its object: ``http[0]``, ``http[0] and http[1]``."""
    places = list(dict.fromkeys(route.rule.place for route in found if route.rule is not None))
    more = f" and {len(places) - 3} more" if len(places) > 3 else ""
    return " and ".join(places[:3]) + more if len(places) < 3 else ", ".join(places[:3]) + more


def _row(route: Route) -> dict[str, object]:
    return {
        "called": f"{route.host.ref.name}:{route.port.number}",
        "through": "sidecars" if route.gateway == MESH else route.gateway,
        "rule": f"{route.rule.by} {route.rule.place}" if route.rule else "none: Istio's default",
        "timeout": shown(route.timeout) if route.timeout else "none",
    }
