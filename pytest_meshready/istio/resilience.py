"""Line 9.2.3, what configuration says: a dependency that fails is left alone, and cannot draw its callers with it.

Outlier detection ejects an endpoint that keeps failing; limits of the connection pool make callers fail fast instead of
queueing. Istio sets neither (checks.md 9.2.3; pilot/pkg/networking/core/cluster_traffic_policy.go).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pytest_meshready.cluster.snapshot import Snapshot
from pytest_meshready.istio import clientpolicies, routes
from pytest_meshready.istio.clientpolicies import ClientPolicies, Policy
from pytest_meshready.istio.hosts import Host, HostPort
from pytest_meshready.istio.routes import known_routes
from pytest_meshready.results import Evidence, Finding, Judgement, Level

#: What `dependencies_contained` reads.
READS_923 = tuple(dict.fromkeys((*routes.READS, *clientpolicies.READS)))

#: Errors in a row after which an endpoint is ejected, where only ``outlierDetection: {}`` is said (Envoy's default).
_CONSECUTIVE = 5

_EJECTION = "outlierDetection for every service that is called"
_LIMITS = "connectionPool limits for every service that is called"


def dependencies_contained(snapshot: Snapshot) -> Judgement:
    """Line 9.2.3, the static part: each Service and ServiceEntry of the namespace has outlier detection and limits.

    Warnings: a host whose callers in the namespace eject nothing, or have no limit; in an ambient namespace, one without a
    waypoint, because ztunnel obeys no DestinationRule. TCP ports need ``tcp.maxConnections``,
    HTTP ports that or a limit of requests. What ``meshConfig.defaultTrafficPolicy`` sets for the whole mesh counts.
    """
    unknown = routes.unread(snapshot, *clientpolicies.READS)
    policies = ClientPolicies(snapshot)
    known = known_routes(snapshot)
    by_host: dict[str, tuple[Host, list[HostPort]]] = {}
    for host, port in known.callable():
        by_host.setdefault(host.name, (host, []))[1].append(port)
    findings: list[Finding] = []
    rows: list[dict[str, object]] = []
    for host, ports in by_host.values():
        if why := known.waypoints.absent(host.ref):
            findings.append(_past_rules(host, why, snapshot.namespace))
            continue
        said = [(port, policies.of(host, port.number)) for port in ports]
        findings += _of_host(host, said)
        rows += [_row(host, port, policy) for port, policy in said]
    nothing = f"namespace {snapshot.namespace} has no Service or ServiceEntry with a port"
    return Judgement(
        summary=f"callers of {len(by_host)} hosts eject failing endpoints and are limited",
        examined=len(by_host),
        findings=tuple(findings),
        unknown=unknown,
        not_applicable="" if by_host or unknown else nothing,
        evidence=(Evidence(kind="table", source="DestinationRules in force", data=rows),) if rows else (),
    )


def ejects(policy: Policy) -> bool:
    """Whether an endpoint that keeps failing is ejected; counts that are set to 0 switch a kind of error off."""
    found = policy.outlier_detection
    if found is None:
        return False
    return any(_count(found, key, default) for key, default in (("consecutive5xxErrors", _CONSECUTIVE), ("consecutiveGatewayErrors", 0)))


def limits(policy: Policy, port: HostPort) -> tuple[str, ...]:
    """The limits that hold for a port."""
    tcp, http = policy.connection_pool.get("tcp"), policy.connection_pool.get("http")
    found = ["tcp.maxConnections"] if isinstance(tcp, Mapping) and _count(tcp, "maxConnections", 0) else []
    if (port.http or port.guessed) and isinstance(http, Mapping):
        found += [f"http.{key}" for key in ("http2MaxRequests", "http1MaxPendingRequests") if _count(http, key, 0)]
    return tuple(found)


def _count(settings: Mapping[str, Any], key: str, default: int) -> int:
    """A number of a block; the default where it is not set or no number."""
    value = settings.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else default


def _of_host(host: Host, said: Iterable[tuple[HostPort, Policy]]) -> list[Finding]:
    every = tuple(said)
    unejected = [(port, policy) for port, policy in every if not ejects(policy)]
    unlimited = [(port, policy) for port, policy in every if not limits(policy, port)]
    found = []
    if unejected:
        text = "its callers keep sending to an endpoint that fails: no outlierDetection holds for"
        found.append(_finding(host, unejected, code="NO-OUTLIER-DETECTION", text=text, wanted=_EJECTION, key="outlierDetection"))
    if unlimited:
        text = "nothing limits connections and pending requests of its callers: no connectionPool limit holds for"
        found.append(_finding(host, unlimited, code="NO-CONNECTION-LIMITS", text=text, wanted=_LIMITS, key="connectionPool"))
    return found


def _past_rules(host: Host, why: str, namespace: str) -> Finding:
    return Finding(
        code="MR923-NO-WAYPOINT",
        level=Level.WARNING,
        object=host.ref,
        found=f"no DestinationRule holds for its callers, as ztunnel obeys none and it has no waypoint: {why}",
        wanted=f"a waypoint before it, {_EJECTION} and {_LIMITS}",
        fix=f"istioctl waypoint apply --enroll-namespace -n {namespace}",
        detail=host.name,
    )


def _finding(host: Host, places: list[tuple[HostPort, Policy]], *, code: str, text: str, wanted: str, key: str) -> Finding:
    ports = ", ".join(str(port.number) for port, _ in places)
    rule = places[0][1].by
    namespace = (rule or host.ref).namespace
    fix = (
        f"set trafficPolicy.{key}: kubectl -n {namespace} edit destinationrule {rule.name}"
        if rule
        else (f"add a DestinationRule for host {host.name} with trafficPolicy.{key}: kubectl -n {namespace} get destinationrules")
    )
    return Finding(
        code=f"MR923-{code}",
        level=Level.WARNING,
        object=rule or host.ref,
        found=f"{text} {host.ref.name if host.ref.kind == 'Service' else host.name} port {ports}",
        wanted=wanted,
        fix=fix,
        detail=host.name,
    )


def _row(host: Host, port: HostPort, policy: Policy) -> dict[str, object]:
    return {
        "host": host.name,
        "port": port.number,
        "rule": str(policy.by) if policy.by else "none",
        "ejects": "yes" if ejects(policy) else "no",
        "limits": ", ".join(limits(policy, port)) or "none",
        "from": "meshConfig.defaultTrafficPolicy" if policy.mesh_wide else "",
    }
