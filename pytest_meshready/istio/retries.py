"""Line 6.1.2, what configuration says: retries are few, short and harmless (checks.md 2.7 and 6.1.2).

The arithmetic is Envoy's: a request is sent once and then up to ``attempts`` times again, each try lasts at most its own
timeout, and all together no longer than the route's. Along a chain of calls attempts multiply only where a failure further
down comes back as an answer that the next one retries: a status or a reset, not a connection that could not be made.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pytest_meshready.cluster.snapshot import Snapshot
from pytest_meshready.istio import callgraph, clientpolicies, routes
from pytest_meshready.istio.callgraph import SAFE_METHODS, Calls
from pytest_meshready.istio.clientpolicies import ClientPolicies, Policy
from pytest_meshready.istio.durations import shown
from pytest_meshready.istio.hosts import Host
from pytest_meshready.istio.routes import Origin, Route, known_routes
from pytest_meshready.istio.timeouts import Used, edit, used_routes
from pytest_meshready.results import Evidence, Finding, Judgement, Level

#: What `conservative_retries` reads.
READS_612 = tuple(dict.fromkeys((*routes.READS, *callgraph.READS, *clientpolicies.READS)))

MOST_ATTEMPTS = 3
TOO_MANY_ATTEMPTS = 5
#: How often one request at the edge may reach the last service of a chain.
MOST_TOGETHER = 10

#: Conditions that say nothing about whether the server has begun; each may repeat what was done.
_UNSAFE = frozenset({"5xx", "gateway-error", "reset", "retriable-4xx"})

#: Conditions under which nothing was done yet (a status counts by itself).
_HARMLESS = frozenset(
    {
        *("connect-failure", "refused-stream", "unavailable", "cancelled", "reset-before-request"),
        *("retriable-status-codes", "envoy-ratelimited", "http3-post-connect-failure"),
    }
)

#: Of the statuses that a server answers, the one that may be retried: it says that nothing was done.
_HARMLESS_CODES = frozenset({503})

#: Conditions that only look at the connection of this very hop.
_THIS_HOP = frozenset({"connect-failure", "refused-stream", "reset-before-request"})

_GRPC = frozenset({"unavailable", "cancelled", "deadline-exceeded", "internal", "resource-exhausted"})

#: What the attempts of a service's own callees come back as, when all of them have failed.
_FAILED = frozenset(range(500, 600))


def conservative_retries(snapshot: Snapshot) -> Judgement:
    """Line 6.1.2, the static part.

    Errors: more than `TOO_MANY_ATTEMPTS`; a try that may last as long as the whole request; retries on what may have been
    done already, where POST or PATCH may come. Warnings: more than `MOST_ATTEMPTS`; tries without a limit or that do not
    fit the timeout; conditions that do not say whether anything was done; Istio's default that nobody chose; nothing that
    limits retries as a whole; attempts that multiply beyond `MOST_TOGETHER` along the calls that policies name. Limits of
    connections and requests count as a limit of retries, because a retry is a request; that there is no budget of retries
    alone is then only told.
    """
    unknown = routes.unread(snapshot, *callgraph.READS, *clientpolicies.READS)
    found = known_routes(snapshot)
    calls = Calls(snapshot, found)
    used = used_routes(found, calls)
    policies = ClientPolicies(snapshot)
    findings = [item for one in used for item in _of_port(one, calls, policies, snapshot.namespace)]
    findings += _together(used, calls)
    examined = [route for one in used for route in one.every if _sends(route)]
    nothing = f"no Service or ServiceEntry of namespace {snapshot.namespace} has an HTTP port"
    most = max((route.retry.attempts for route in examined), default=0)
    return Judgement(
        summary=f"{len(examined)} routes to {len(used)} HTTP ports retry at most {most} times",
        examined=len(examined),
        findings=tuple(findings),
        unknown=unknown,
        not_applicable="" if used or unknown else nothing,
        evidence=(Evidence(kind="table", source="effective routes", data=[_row(route) for route in examined]),) if examined else (),
    )


def _sends(route: Route) -> bool:
    return route.rule is None or not route.rule.answered


def worst_seconds(route: Route, connect: float) -> float:
    """How long a caller may wait at most: the timeout, or all tries; without either, what connecting alone takes."""
    tries = route.tries * (route.retry.per_try or 0.0)
    limits = [value for value in (route.timeout, tries) if value > 0]
    return min(limits) if limits else route.tries * connect


def _of_port(one: Used, calls: Calls, policies: ClientPolicies, namespace: str) -> Iterator[Finding]:
    sending = [route for route in one.every if _sends(route)]
    implied = [route for route in sending if route.origin is Origin.ISTIO and route.retry.attempts]
    if implied:
        yield _implicit(one, implied, policies, namespace)
    for route in sending:
        if route.retry.attempts and route.origin is not Origin.ISTIO:
            yield from _of_route(route, calls)
    retrying = [route for route in sending if route.retry.attempts and route.origin is Origin.RULE]
    if retrying:
        yield from _limits(one, policies)


def _of_route(route: Route, calls: Calls) -> Iterator[Finding]:
    """What is wrong with what a rule, or the mesh configuration, says."""
    attempts, per_try, timeout = route.retry.attempts, route.retry.per_try, route.timeout
    if attempts > MOST_ATTEMPTS:
        yield _many(route)
    if per_try is not None and timeout and per_try >= timeout:
        yield _pointless(route, per_try)
    elif per_try is None:
        yield _unlimited(route)
    elif timeout and route.tries * per_try > timeout + 1e-9:
        yield _cut(route, per_try)
    unsafe = sorted(_UNSAFE.intersection(route.retry.conditions))
    unsafe += [f"status {code}" for code in sorted(_FAILED.intersection(route.retry.codes) - _HARMLESS_CODES)]
    other = sorted(set(route.retry.conditions) - _HARMLESS - _UNSAFE)
    if (unsafe or other) and _may_repeat_writes(route, calls):
        yield _repeats(route, unsafe) if unsafe else _doubtful(route, other)


def _may_repeat_writes(route: Route, calls: Calls) -> bool:
    """Whether POST or PATCH may come this way: the rule's methods tell, or the policies of the service."""
    methods = route.rule.methods if route.rule else frozenset()
    allowed = calls.allowed(route.host, route.port.number)
    methods = methods or (allowed.methods if allowed else frozenset())
    return not methods or bool({method.upper() for method in methods} - SAFE_METHODS - {"PUT", "DELETE"})


def _finding(route: Route, code: str, level: Level, *, found: str, wanted: str, fix: str) -> Finding:
    """About the rule; the mesh configuration speaks for the Service that has none."""
    ref = route.rule.origin if route.rule and route.origin is Origin.RULE else route.host.ref
    place = f"{route.rule.place} for {route.called}" if route.rule and route.origin is Origin.RULE else f"port {route.port.number}"
    return Finding(
        code=f"MR612-{code}",
        level=level,
        object=ref,
        found=f"{place} {found}" + (f" ({route.origin})" if route.origin is Origin.MESH else ""),
        wanted=wanted,
        fix=f"{fix}: {edit(ref)}",
        detail=f"{route.gateway} {route.host.name}:{route.port.number}" + (f" {route.rule.place}" if route.rule else ""),
    )


def _many(route: Route) -> Finding:
    attempts = route.retry.attempts
    level = Level.ERROR if attempts > TOO_MANY_ATTEMPTS else Level.WARNING
    found = f"retries {attempts} times, so one request becomes up to {route.tries}"
    wanted = f"at most {MOST_ATTEMPTS} attempts"
    return _finding(route, "MANY-ATTEMPTS", level, found=found, wanted=wanted, fix="set retries.attempts to 2")


def _pointless(route: Route, per_try: float) -> Finding:
    found = f"gives each try {shown(per_try)}, but the whole request only {shown(route.timeout)}: its first try already ends it"
    wanted = "(1 + attempts) x perTryTimeout within the timeout"
    fix = "shorten retries.perTryTimeout, or lengthen the timeout"
    return _finding(route, "TRY-OUTLIVES-TIMEOUT", Level.ERROR, found=found, wanted=wanted, fix=fix)


def _unlimited(route: Route) -> Finding:
    whole = f"one hanging try takes all of its {shown(route.timeout)}" if route.timeout else "one hanging try lasts without end"
    found = f"sets no perTryTimeout: {whole}, and no retry follows"
    wanted = "a perTryTimeout where requests are retried"
    return _finding(route, "NO-TRY-TIMEOUT", Level.WARNING, found=found, wanted=wanted, fix="set retries.perTryTimeout")


def _cut(route: Route, per_try: float) -> Finding:
    together = shown(route.tries * per_try)
    found = f"allows {route.tries} tries of {shown(per_try)} ({together}), but its timeout ends them after {shown(route.timeout)}"
    wanted = "(1 + attempts) x perTryTimeout within the timeout"
    fix = "shorten retries.perTryTimeout, or lengthen the timeout"
    return _finding(route, "TRIES-CUT", Level.WARNING, found=found, wanted=wanted, fix=fix)


def _repeats(route: Route, unsafe: list[str]) -> Finding:
    found = f"retries on {', '.join(unsafe)}, which may come after the server has begun: a POST or PATCH may be done twice"
    wanted = "connect-failure, refused-stream, unavailable, cancelled, reset-before-request or 503, or a match on safe methods"
    fix = "take these conditions out of retries.retryOn, or match methods that may be repeated"
    return _finding(route, "REPEATS-WRITES", Level.ERROR, found=found, wanted=wanted, fix=fix)


def _doubtful(route: Route, other: list[str]) -> Finding:
    found = f"retries on {', '.join(other)}, which does not say that nothing was done yet"
    wanted = "connect-failure, refused-stream, unavailable, cancelled, reset-before-request or 503, or a match on safe methods"
    return _finding(route, "DOUBTFUL-CONDITIONS", Level.WARNING, found=found, wanted=wanted, fix="take these out of retries.retryOn")


def _implicit(one: Used, implied: list[Route], policies: ClientPolicies, namespace: str) -> Finding:
    """Nobody chose: Istio retries twice, and a caller may wait for three connections."""
    route = implied[0]
    connect = policies.connect_timeout(one.host, one.port.number)
    codes = f" and status {', '.join(map(str, route.retry.codes))}" if route.retry.codes else ""
    worst = worst_seconds(route, connect)
    found = (
        f"port {one.port.number} relies on what Istio implies: {route.retry.attempts} retries without a limit for each "
        f"({', '.join(route.retry.conditions[:2])} ...{codes}); a server that cannot be connected costs {shown(worst)}"
    )
    ref = route.rule.origin if route.rule else one.host.ref
    fix = (
        f"say retries in {route.rule.place}: {edit(ref)}"
        if route.rule
        else (f"add a VirtualService for host {one.host.name} with http[].retries: kubectl -n {namespace} get virtualservices")
    )
    return Finding(
        code="MR612-IMPLICIT",
        level=Level.WARNING,
        object=ref,
        found=found,
        wanted="retries that somebody chose, with attempts, perTryTimeout and retryOn",
        fix=fix,
        detail=f"{one.host.name}:{one.port.number}",
    )


# --- what limits retries as a whole -----------------------------------------------------------------------------------


def _limits(one: Used, policies: ClientPolicies) -> Iterator[Finding]:
    """Nothing at all, or no budget of retries alone."""
    policy = policies.of(one.host, one.port.number)
    if has_budget(policy):
        return
    bounded = bounds(policy)
    ref = policy.by or one.host.ref
    fix = f"set trafficPolicy.retryBudget or connectionPool.http.maxRetries in a DestinationRule for {one.host.name}"
    yield Finding(
        code="MR612-NO-BUDGET",
        level=Level.INFO if bounded else Level.WARNING,
        object=ref,
        found=(
            f"retries to {one.host.ref.name}:{one.port.number} are limited only together with all requests ({', '.join(bounded)})"
            if bounded
            else f"nothing limits how many retries to {one.host.ref.name}:{one.port.number} are under way at once"
        ),
        wanted="a limit on retries as a whole, so that an outage is not multiplied",
        fix=f"{fix}: kubectl -n {ref.namespace} get destinationrules",
        detail=f"{one.host.name}:{one.port.number}",
    )


def has_budget(policy: Policy) -> bool:
    """Whether retries have a limit of their own."""
    most = _http(policy).get("maxRetries")
    return policy.retry_budget or (isinstance(most, int) and most > 0)


def bounds(policy: Policy) -> tuple[str, ...]:
    """The limits that hold for all requests, retries among them; each proxy counts for itself."""
    tcp = policy.connection_pool.get("tcp")
    found = [f"tcp.{key}" for key in ("maxConnections",) if isinstance(tcp, Mapping) and tcp.get(key)]
    return (*found, *(f"http.{key}" for key in ("http2MaxRequests", "http1MaxPendingRequests") if _http(policy).get(key)))


def _http(policy: Policy) -> Mapping[str, Any]:
    found = policy.connection_pool.get("http")
    return found if isinstance(found, Mapping) else {}


# --- along the calls --------------------------------------------------------------------------------------------------


def answers_failures(route: Route) -> bool:
    """Whether what it retries includes the answer of a service whose own callee has failed."""
    conditions = set(route.retry.conditions) - _THIS_HOP
    if conditions & {"5xx", "gateway-error", "reset", "envoy-ratelimited"}:
        return True
    if route.port.grpc and conditions & _GRPC:
        return True
    return bool(_FAILED.intersection(route.retry.codes))


def _together(used: tuple[Used, ...], calls: Calls) -> Iterator[Finding]:
    """Chains of calls that policies name, whose attempts multiply beyond `MOST_TOGETHER`; each told once, at its last call."""
    callers: dict[str, dict[str, Host]] = {}
    by_host: dict[str, list[Used]] = {}
    for one in used:
        found = calls.callers(one.host, one.port.number) or ()
        callers.setdefault(one.host.name, {}).update({caller.name: caller for caller in found})
        by_host.setdefault(one.host.name, []).append(one)
    for one in used:
        route = max((route for route in one.mesh if _sends(route)), key=lambda item: item.tries, default=None)
        if route is None:
            continue
        chain, times = _longest(one.host, route.tries, callers, by_host, (one.host.name,))
        if len(chain) > 1 and times > MOST_TOGETHER:
            yield _multiplied(route, chain, times)


def _longest(
    host: Host, times: int, callers: Mapping[str, Mapping[str, Host]], by_host: Mapping[str, list[Used]], seen: tuple[str, ...]
) -> tuple[tuple[str, ...], int]:
    """The chain that ends at a host and multiplies most: the hosts from its beginning, and how often one request arrives.

    The search ends with the first chain beyond `MOST_TOGETHER`: each call at least doubles, so that takes a few steps, where
    trying every way through services that may all call each other would never end.
    """
    best: tuple[tuple[str, ...], int] = ((host.ref.name,), times)
    for caller in callers.get(host.name, {}).values():
        if len(best[0]) > 1 and best[1] > MOST_TOGETHER:
            break
        if caller.name in seen:
            continue
        retrying = [route for one in by_host.get(caller.name, ()) for route in one.every if _sends(route) and answers_failures(route)]
        factor = max((route.tries for route in retrying), default=1)
        if factor == 1:
            continue  # what happens before is not repeated by this call
        chain: tuple[str, ...] = (caller.ref.name,)
        total = times * factor
        if total <= MOST_TOGETHER:
            chain, total = _longest(caller, total, callers, by_host, (*seen, caller.name))
        if total > best[1]:
            best = ((*chain, host.ref.name), total)
    return best


def _multiplied(route: Route, chain: tuple[str, ...], times: int) -> Finding:
    return _finding(
        route,
        "MULTIPLIED",
        Level.WARNING,
        found=f"may get one request {times} times when it fails, because each call of {' -> '.join(chain)} retries",
        wanted=f"at most {MOST_TOGETHER} tries along a chain of calls",
        fix="retry at one place of the chain only",
    )


def _row(route: Route) -> dict[str, object]:
    codes = [str(code) for code in route.retry.codes]
    return {
        "called": route.called,
        "attempts": route.retry.attempts,
        "each": shown(route.retry.per_try) if route.retry.per_try else "no limit",
        "timeout": shown(route.timeout) if route.timeout else "none",
        "on": ", ".join((*route.retry.conditions, *codes)) if route.retry.attempts else "",
        "decided by": str(route.origin),
    }
