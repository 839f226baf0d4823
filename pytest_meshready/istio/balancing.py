"""Line 6.1.3, what configuration says: requests are spread as the DestinationRules want it, and every subset has pods.

Reproduced from istiod: locality-aware balancing from pilot/pkg/networking/core/loadbalancer, where failover needs outlier
detection and a distribution does not; labels of subsets are compared with the pods of the host (checks.md 6.1.3, IST0173).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pytest_meshready.cluster.objects import DestinationRule, PortTrafficPolicy, Subset, TrafficPolicy
from pytest_meshready.cluster.snapshot import Snapshot
from pytest_meshready.istio import clientpolicies, routes
from pytest_meshready.istio.hosts import Host, Hosts, matches
from pytest_meshready.istio.routes import Routes, known_routes
from pytest_meshready.istio.timeouts import edit
from pytest_meshready.results import Evidence, Finding, Judgement, Level, ObjectRef

#: What `balancing_configured` reads; nodes tell the zones.
READS_613 = tuple(dict.fromkeys((*routes.READS, *clientpolicies.READS, "nodes")))

#: The algorithms that Istio has; ``UNSPECIFIED`` and nothing mean LEAST_REQUEST.
ALGORITHMS = frozenset({"", "UNSPECIFIED", "LEAST_REQUEST", "LEAST_CONN", "ROUND_ROBIN", "RANDOM", "PASSTHROUGH"})

_HASH_KEYS = ("httpHeaderName", "httpCookie", "useSourceIp", "httpQueryParameterName")
_ZONE = "topology.kubernetes.io/zone"
_REGION = "topology.kubernetes.io/region"
_WHOLE = 100


def balancing_configured(snapshot: Snapshot) -> Judgement:
    """Line 6.1.3, the static part.

    Errors: a subset that a route sends requests to and that selects no pod; settings that Istio refuses or ignores as a
    whole. Warnings: another subset without pods; PASSTHROUGH, which balances nothing; failover without outlier detection,
    or by zones that no node names.
    """
    unknown = routes.unread(snapshot, *clientpolicies.READS, "nodes")
    found = known_routes(snapshot)
    ports = found.callable()
    used = _used_subsets(found)
    findings: list[Finding] = []
    for rule in snapshot.destinationrules:
        for host in _meant(rule, found):
            findings += _subsets(rule, host, found, used)
            findings += _without_waypoint(rule, host, found)
        if _meant(rule, found):
            findings += _settings(rule, snapshot)
    nothing = f"namespace {snapshot.namespace} has no Service or ServiceEntry with a port"
    hosts = {host.name for host, _ in ports}
    return Judgement(
        summary=f"nothing in DestinationRules keeps requests to {len(hosts)} hosts from being spread",
        examined=len(hosts),
        findings=tuple(findings),
        unknown=unknown,
        not_applicable="" if hosts or unknown else nothing,
        evidence=tuple(_locality(snapshot, found.hosts)),
    )


def _meant(rule: DestinationRule, found: Routes) -> list[Host]:
    """The hosts of the namespace that a DestinationRule is for; one with a wildcard may be for many."""
    name = found.hosts.fqdn(rule.spec.host, rule.metadata.namespace)
    if name.startswith("*"):
        return list({host.name: host for host, _ in found.callable() if matches(name, host.name)}.values())
    host = found.hosts.find(name)
    return [host] if host is not None and host.namespace == found.snapshot.namespace else []


def _without_waypoint(rule: DestinationRule, host: Host, found: Routes) -> Iterator[Finding]:
    """Settings of balancing in an ambient namespace that nothing applies."""
    why = found.waypoints.absent(host.ref)
    if why and (rule.spec.subsets or any(policy.load_balancer for _, policy in _policies(rule))):
        yield Finding(
            code="MR613-NO-WAYPOINT",
            level=Level.WARNING,
            object=reference(rule),
            found=f"its subsets and balancing do not hold for {host.ref.name}, as ztunnel obeys none and it has no waypoint: {why}",
            wanted="a waypoint before every host whose balancing is set",
            fix=f"istioctl waypoint apply --enroll-namespace -n {found.snapshot.namespace}",
            detail=host.name,
        )


def _used_subsets(found: Routes) -> frozenset[tuple[str, str]]:
    """Host and subset of every target that gets requests."""
    return frozenset(
        (target.host, target.subset) for item in found.objects for rule in item.rules for target in rule.weighted if target.subset
    )


def reference(rule: DestinationRule) -> ObjectRef:
    """The DestinationRule, for a finding."""
    return ObjectRef(kind="DestinationRule", namespace=rule.metadata.namespace, name=rule.metadata.name)


def has_pods(subset: Subset, host: Host, found: Routes) -> bool | None:
    """Whether a subset selects any pod of its host; None where its pods are not ours to see."""
    if host.namespace != found.snapshot.namespace or host.ref.kind != "Service" or not host.labels:
        return None
    wanted = {key: value for key, value in {**host.labels, **subset.labels}.items() if not _of_place(key)}
    return bool(found.pods.select(wanted))


def _of_place(key: str) -> bool:
    """Labels that istiod adds to endpoints from their node and network; pods do not carry them."""
    return key.startswith("topology.") or key == "kubernetes.io/hostname"


def _subsets(rule: DestinationRule, host: Host, found: Routes, used: frozenset[tuple[str, str]]) -> Iterator[Finding]:
    if found.snapshot.unread("pods"):
        return
    wide = rule.spec.host.startswith("*")  # not every host that it covers needs every subset
    for subset in rule.spec.subsets:
        called = (host.name, subset.name) in used
        if (called or not wide) and has_pods(subset, host, found) is False:
            labels = ", ".join(f"{key}={value}" for key, value in subset.labels.items()) or "none"
            sent = "a route sends requests to it, which fail with 503" if called else "no route sends requests to it"
            yield Finding(
                code="MR613-EMPTY-SUBSET",
                level=Level.ERROR if called else Level.WARNING,
                object=reference(rule),
                found=f"subset {subset.name} (labels {labels}) selects no pod of {host.ref.name}; {sent}",
                wanted="every subset selects pods of its host",
                fix=f"correct its labels, or take it out: {edit(reference(rule))}",
                detail=f"{host.ref.name} {subset.name}" if wide else subset.name,
            )


# --- settings of balancing --------------------------------------------------------------------------------------------


def _settings(rule: DestinationRule, snapshot: Snapshot) -> Iterator[Finding]:
    for place, policy in _policies(rule):
        balancer = policy.load_balancer
        if balancer is None:
            continue
        problems = [*_algorithm(balancer), *_failover(balancer, policy, snapshot)]
        for level, code, found, fix in problems:
            yield Finding(
                code=f"MR613-{code}",
                level=level,
                object=reference(rule),
                found=f"{place} {found}",
                wanted="settings that spread requests over all endpoints, or say how else",
                fix=f"{fix}: {edit(reference(rule))}",
                detail=place,
            )


def _policies(rule: DestinationRule) -> Iterator[tuple[str, TrafficPolicy | PortTrafficPolicy]]:
    tops = [("trafficPolicy", rule.spec.traffic_policy), *((f"subset {item.name}", item.traffic_policy) for item in rule.spec.subsets)]
    for place, policy in tops:
        if policy is not None:
            yield place, policy
            yield from ((f"{place} port {item.port.number}", item) for item in policy.port_level_settings)


_Problem = tuple[Level, str, str, str]


def _algorithm(balancer: Mapping[str, Any]) -> Iterator[_Problem]:
    simple, consistent = balancer.get("simple", ""), balancer.get("consistentHash")
    if simple == "PASSTHROUGH":
        found = "sets PASSTHROUGH, so each request goes to the address that the caller chose and nothing is balanced"
        yield Level.WARNING, "PASSTHROUGH", found, "take it out, unless callers choose endpoints themselves"
    elif simple not in ALGORITHMS:
        yield Level.ERROR, "ALGORITHM", f"sets the algorithm {simple!r}, which Istio does not have", "set LEAST_REQUEST"
    if isinstance(consistent, Mapping):
        keys = [key for key in _HASH_KEYS if consistent.get(key)]
        if len(keys) != 1:
            said = f"names {' and '.join(keys)}" if keys else "names nothing to hash by"
            yield (
                Level.ERROR,
                "HASH-KEY",
                f"sets consistentHash, but {said}: Istio needs exactly one",
                f"name one of {', '.join(_HASH_KEYS)}",
            )


def _failover(balancer: Mapping[str, Any], policy: TrafficPolicy | PortTrafficPolicy, snapshot: Snapshot) -> Iterator[_Problem]:
    locality = balancer.get("localityLbSetting")
    if not isinstance(locality, Mapping) or locality.get("enabled") is False:
        return
    for item in _dicts(locality.get("distribute")):
        to = item.get("to")
        weights = [value for value in to.values() if isinstance(value, int)] if isinstance(to, Mapping) else []
        if weights and sum(weights) != _WHOLE:
            found = f"distributes {sum(weights)} per cent from {item.get('from')}, not {_WHOLE}"
            yield Level.ERROR, "DISTRIBUTION", found, f"make the weights add up to {_WHOLE}"
    wants = [key for key in ("failover", "failoverPriority") if locality.get(key)]
    default = snapshot.mesh.default_traffic_policy.get("outlierDetection") if snapshot.mesh else None
    if wants and policy.outlier_detection is None and default is None:
        found = f"sets {wants[0]} without outlierDetection in the same place, so requests never fail over"
        yield Level.WARNING, "FAILOVER-WITHOUT-DETECTION", found, "add outlierDetection"
    if (wants or locality.get("distribute")) and not snapshot.unread("nodes") and not _places(snapshot):
        found = "balances by locality, but no node is labelled with its zone or region"
        yield Level.WARNING, "NO-LOCALITY", found, f"label the nodes with {_ZONE}, or take the setting out"


def _dicts(value: object) -> list[Mapping[str, Any]]:
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list | tuple) else []


def _places(snapshot: Snapshot) -> frozenset[str]:
    """The zones (or regions) of the nodes."""
    found = (node.metadata.labels.get(_ZONE) or node.metadata.labels.get(_REGION) for node in snapshot.nodes)
    return frozenset(place for place in found if place)


def _locality(snapshot: Snapshot, hosts: Hosts) -> Iterator[Evidence]:
    """Outlier detection switches on that callers prefer their own zone: an even spread is not to be expected then."""
    zones = _places(snapshot)
    near = [
        rule.metadata.name
        for rule in snapshot.destinationrules
        if rule.metadata.namespace == snapshot.namespace
        and rule.spec.traffic_policy is not None
        and rule.spec.traffic_policy.outlier_detection is not None
    ]
    if near and len(zones) > 1:
        text = (
            f"outlierDetection in {', '.join(near[:3])}{' ...' if len(near) > 3 else ''} makes callers prefer endpoints of their own zone"
        )
        yield Evidence(kind="text", source=f"DestinationRules and {len(zones)} zones", text=text)
    headless = [host.ref.name for host in hosts.all if host.namespace == snapshot.namespace and host.headless]
    if headless:
        text = f"{', '.join(headless[:3])} {'is' if len(headless) == 1 else 'are'} headless: callers choose the pod by its address"
        yield Evidence(kind="text", source="Services", text=text)
