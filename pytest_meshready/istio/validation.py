"""Objects that Istio's validating webhook refuses, and that are there all the same (IST0106, line 3.2.4).

They came while the webhook was not asked: before Istio was installed, while it was down and ``failurePolicy`` was Ignore, or past
an upgrade that demands more. What istiod then does with them is not defined. Reproduced from pkg/config/validation of Istio 1.31:
not all of it, but what people get wrong in the objects that other lines rely on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from pytest_meshready.cluster.objects import AuthorizationPolicy, DestinationRule, PeerAuthentication
from pytest_meshready.cluster.objects_entry import Gateway, GatewayServer, HttpRoute, RouteDestination, VirtualService
from pytest_meshready.cluster.objects_traffic import ServiceEntry, Sidecar
from pytest_meshready.cluster.snapshot import Snapshot, in_namespace
from pytest_meshready.istio.timeouts import edit
from pytest_meshready.results import Finding, Level, ObjectRef

#: What `refused` reads.
READS = ("virtualservices", "destinationrules", "gateways", "serviceentries", "sidecars", "peerauthentications", "authorizationpolicies")

_ENCRYPTED = frozenset({"HTTPS", "TLS"})
_NEEDS_CERTIFICATE = frozenset({"SIMPLE", "MUTUAL", "OPTIONAL_MUTUAL"})
_HIGHEST_PORT = 65535


def refused(snapshot: Snapshot) -> tuple[Finding, ...]:
    """One finding for each object of the namespace and each thing that is wrong with it."""
    own = snapshot.namespace
    wrong: list[tuple[Any, Iterable[str]]] = [
        *((item, _virtual_service(item)) for item in in_namespace(snapshot.virtualservices, own)),
        *((item, _destination_rule(item)) for item in in_namespace(snapshot.destinationrules, own)),
        *((item, _gateway(item)) for item in in_namespace(snapshot.gateways, own)),
        *((item, _service_entry(item)) for item in in_namespace(snapshot.serviceentries, own)),
        *((item, _sidecar(item)) for item in in_namespace(snapshot.sidecars, own)),
        *((item, _peer_authentication(item)) for item in in_namespace(snapshot.peerauthentications, own)),
        *((item, _authorization_policy(item)) for item in in_namespace(snapshot.authorizationpolicies, own)),
    ]
    return tuple(_finding(item, problem) for item, problems in wrong for problem in dict.fromkeys(problems))


def _finding(item: Any, problem: str) -> Finding:  # noqa: ANN401 - of any of the kinds above
    ref = ObjectRef(kind=item.kind, namespace=item.metadata.namespace, name=item.metadata.name)
    return Finding(
        code="MR324-INVALID",
        level=Level.ERROR,
        object=ref,
        found=f"{problem}: Istio's validation refuses that, and what istiod makes of it is not defined",
        wanted="objects that Istio's validating webhook would let in",
        fix=f"correct it: {edit(ref)}",
        detail=problem,
    )


def _virtual_service(item: VirtualService) -> Iterator[str]:
    spec = item.spec
    if not (spec.http or spec.tls or spec.tcp):
        yield "it has no http, tls or tcp rule"
    for host in sorted({host for host in spec.hosts if spec.hosts.count(host) > 1}):
        yield f"it names host {host} twice"
    for index, rule in enumerate(spec.http):
        yield from _http(f"http[{index}]", rule)
    for name, rules in (("tls", spec.tls), ("tcp", spec.tcp)):
        for index, stream in enumerate(rules):
            yield from _destinations(f"{name}[{index}]", stream.route)


def _http(place: str, rule: HttpRoute) -> Iterator[str]:
    """Exactly one of its actions, and destinations that can be reached."""
    actions = {"route": bool(rule.route), "redirect": rule.redirect is not None, "directResponse": rule.direct_response is not None}
    taken = [name for name, there in actions.items() if there]
    if rule.delegate is not None and taken:
        yield f"{place} delegates and has {taken[0]} as well"
    elif rule.delegate is None and not taken:
        yield f"{place} has neither route nor redirect nor directResponse nor delegate"
    elif len(taken) > 1:
        yield f"{place} has both {taken[0]} and {taken[1]}"
    yield from _destinations(place, rule.route)


def _destinations(place: str, routes: tuple[RouteDestination, ...]) -> Iterator[str]:
    if any(not route.destination.host for route in routes):
        yield f"{place} has a destination without a host"
    weights = [route.weight for route in routes]
    if any(weight < 0 for weight in weights):
        yield f"{place} has a weight below 0"
    elif len(weights) > 1 and not any(weights):
        yield f"the weights of {place} add up to 0"


def _destination_rule(item: DestinationRule) -> Iterator[str]:
    names = [subset.name for subset in item.spec.subsets]
    if not item.spec.host:
        yield "it names no host"
    if "" in names:
        yield "it has a subset without a name"
    for name in sorted({name for name in names if name and names.count(name) > 1}):
        yield f"it has two subsets named {name}"


def _gateway(item: Gateway) -> Iterator[str]:
    if not item.spec.servers:
        yield "it has no server"
    for index, server in enumerate(item.spec.servers):
        yield from _server(f"servers[{index}]", server)


def _server(place: str, server: GatewayServer) -> Iterator[str]:
    tls = server.tls
    if not server.hosts:
        yield f"{place} names no host"
    if not 0 < server.port.number <= _HIGHEST_PORT:
        yield f"{place} has no port number"
    if not server.port.protocol:
        yield f"{place} names no protocol"
    if server.port.protocol.upper() in _ENCRYPTED and tls is None:
        yield f"{place} is for {server.port.protocol} and has no tls settings"
    elif tls is not None and tls.mode in _NEEDS_CERTIFICATE:
        named = tls.credential_name or tls.credential_names or tls.server_certificate or tls.tls_certificates
        if not named:
            yield f"{place} has the TLS mode {tls.mode} and names no certificate"


def _service_entry(item: ServiceEntry) -> Iterator[str]:
    spec = item.spec
    if not spec.hosts:
        yield "it names no host"
    if spec.resolution in ("", "NONE") and spec.endpoints:
        yield "it has endpoints, and its resolution is NONE"
    if spec.resolution.startswith("DNS") and not spec.endpoints and any(host.startswith("*") for host in spec.hosts):
        yield "a host with a wildcard cannot be resolved by DNS, and there are no endpoints"


def _sidecar(item: Sidecar) -> Iterator[str]:
    for host in (host for listener in item.spec.egress for host in listener.hosts if "/" not in host):
        yield f"its egress names {host}, which is not of the form NAMESPACE/HOST"


def _peer_authentication(item: PeerAuthentication) -> Iterator[str]:
    selector = item.spec.selector
    if item.spec.port_level_mtls and not (selector and (selector.match_labels or selector.labels)):
        yield "it has portLevelMtls without a selector"


def _authorization_policy(item: AuthorizationPolicy) -> Iterator[str]:
    if item.spec.action == "DENY" and not item.spec.rules:
        yield "it denies by no rule, so it denies nothing"
