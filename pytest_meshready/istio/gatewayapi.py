"""The Gateway API's routes in the words of `pytest_meshready.istio.rules`, as Istio makes them its own.

Reproduced from istiod's ``convertHTTPRoute`` in pilot/pkg/config/kube/gateway/conversion.go: a request's timeout, a
backend's timeout that is one of each try where retries are named and of the whole where not, retries without codes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from pytest_meshready.cluster.objects_traffic import (
    BackendRef,
    GRPCRoute,
    HTTPRoute,
    ParentRef,
    RequestMirror,
    RouteMatch,
    RouteRule,
    TCPRoute,
    TLSRoute,
)
from pytest_meshready.cluster.snapshot import Snapshot
from pytest_meshready.istio.dataplane import RUN_LABEL
from pytest_meshready.istio.durations import seconds
from pytest_meshready.istio.hosts import Hosts
from pytest_meshready.istio.rules import MESH, Layer, Match, Mirror, PathKind, Retry, RouteObject, Rule, Target
from pytest_meshready.results import ObjectRef

#: The kinds of routes, by their keys in a snapshot.
READS = ("httproutes", "grpcroutes", "tlsroutes", "tcproutes")

Route = HTTPRoute | GRPCRoute | TLSRoute | TCPRoute

#: Istio retries these for a route with a ``retry``; the codes are added.
_CONDITIONS = ("connect-failure", "refused-stream", "unavailable", "cancelled")

_DEFAULT_ATTEMPTS = 2
_PATHS = {"Exact": PathKind.EXACT, "RegularExpression": PathKind.REGEX, "PathPrefix": PathKind.SEPARATED}
_LAYERS = {"HTTPRoute": Layer.HTTP, "GRPCRoute": Layer.HTTP, "TLSRoute": Layer.TLS, "TCPRoute": Layer.TCP}


def routes(snapshot: Snapshot) -> tuple[Route, ...]:
    """Every route of the Gateway API in a snapshot."""
    return (*snapshot.httproutes, *snapshot.grpcroutes, *snapshot.tlsroutes, *snapshot.tcproutes)


def reference(item: Route) -> ObjectRef:
    """The route, for a finding."""
    return ObjectRef(kind=item.kind, namespace=item.metadata.namespace, name=item.metadata.name)


def is_service(parent: ParentRef | BackendRef) -> bool:
    """Whether a parent or a backend is a Service: a backend is where nothing is said, a parent is a Gateway then."""
    if isinstance(parent, BackendRef):
        return parent.kind in (None, "Service") and parent.group in (None, "")
    return parent.kind == "Service" and parent.group in (None, "")


def is_gateway(parent: ParentRef) -> bool:
    """Whether a parent is a Gateway."""
    return parent.kind in (None, "Gateway") and parent.group in (None, "gateway.networking.k8s.io")


def route_objects(snapshot: Snapshot, hosts: Hosts) -> tuple[RouteObject, ...]:
    """Routes with their parents: one object for all gateways, and one for each Service whose callers it is for."""
    return tuple(made for item in routes(snapshot) for made in _objects(item, hosts))


def _objects(item: Route, hosts: Hosts) -> Iterator[RouteObject]:
    namespace, parents = item.metadata.namespace, item.spec.parent_refs
    whole = RouteObject(
        ref=reference(item),
        hosts=tuple(name.lower() for name in item.spec.hostnames) or ("*",),
        gateways=tuple(f"{parent.namespace or namespace}/{parent.name}" for parent in parents if is_gateway(parent)),
        rules=tuple(_rules(item, hosts)),
        created=item.metadata.creation_timestamp or "",
        gateway_api=True,
        ours=RUN_LABEL in item.metadata.labels,
    )
    if whole.gateways:
        yield whole
    for parent in parents:
        if is_service(parent):
            owner = parent.namespace or namespace
            name = f"{parent.name}.{owner}.svc.{hosts.domain}"
            own = tuple(_at(rule, parent.port) for rule in whole.rules)
            yield replace(whole, hosts=(name,), gateways=(MESH,), rules=own, consumer=owner != namespace)


def _at(rule: Rule, port: int | None) -> Rule:
    """The rule for one port of its parent alone."""
    if port is None:
        return rule
    return replace(rule, matches=tuple(replace(match, port=port) for match in rule.matches or (Match(),)))


def _rules(item: Route, hosts: Hosts) -> Iterator[Rule]:
    layer = _LAYERS[item.kind]
    for index, rule in enumerate(item.spec.rules):
        yield _rule(item, rule, index, layer, hosts)


def _rule(item: Route, rule: RouteRule, index: int, layer: Layer, hosts: Hosts) -> Rule:
    namespace = item.metadata.namespace
    kinds = [one.type for one in rule.filters]
    targets = tuple(_target(ref, namespace, hosts) for ref in rule.backend_refs)
    answered = "redirect" if "RequestRedirect" in kinds else "" if any(target.weight for target in targets) else "direct response"
    timeout, retry = _times(rule)
    return Rule(
        by=reference(item),
        place=f"rules[{index}]" + (f" ({rule.name})" if rule.name else ""),
        layer=layer,
        matches=tuple(_match(match, item.kind) for match in rule.matches),
        targets=() if answered else targets,
        mirrors=tuple(_mirrors((one.request_mirror for one in rule.filters), namespace, hosts)),
        answered=answered,
        timeout=timeout,
        retry=retry,
        rewrites="URLRewrite" in kinds,
    )


def _target(ref: BackendRef, namespace: str, hosts: Hosts) -> Target:
    """A backend that is no Service keeps its own name: nothing here knows what it is."""
    owner = ref.namespace or namespace
    name = f"{ref.name}.{owner}.svc.{hosts.domain}" if is_service(ref) else f"{ref.kind or 'Service'}/{owner}/{ref.name}"
    if ref.kind == "Hostname":
        name = ref.name.lower()
    return Target(host=name, port=ref.port, weight=1 if ref.weight is None else ref.weight)


def _times(rule: RouteRule) -> tuple[float | None, Retry | None]:
    """Timeout and retries; a timeout of 0 is as good as none."""
    retry = None
    if rule.retry is not None:
        attempts = _DEFAULT_ATTEMPTS if rule.retry.attempts is None else max(rule.retry.attempts, 0)
        retry = Retry(attempts=attempts, conditions=_CONDITIONS, codes=rule.retry.codes)
    if rule.timeouts is None:
        return None, retry
    timeout, backend = seconds(rule.timeouts.request) or None, seconds(rule.timeouts.backend_request) or None
    if backend is not None and retry is not None:
        return timeout, Retry(attempts=retry.attempts, per_try=backend, conditions=retry.conditions, codes=retry.codes)
    return backend or timeout, retry


def _mirrors(found: Iterable[RequestMirror | None], namespace: str, hosts: Hosts) -> Iterator[Mirror]:
    for item in found:
        if item is None:
            continue
        percent = 100.0
        if item.percent is not None:
            percent = float(item.percent)
        elif item.fraction is not None:
            percent = 100.0 * item.fraction.numerator / (item.fraction.denominator or 100)
        yield Mirror(target=_target(item.backend_ref, namespace, hosts), percent=percent)


def _match(item: RouteMatch, kind: str) -> Match:
    names = [*(f"header {one.name}" for one in item.headers), *(f"query {one.name}" for one in item.query_params)]
    path, value = PathKind.ANY, ""
    if kind == "GRPCRoute":
        names += ["gRPC method"] if item.method is not None else []
    elif item.path is not None:
        path, value = _PATHS.get(item.path.type or "PathPrefix", PathKind.REGEX), item.path.value or "/"
    return Match(path=path, value=value, method=item.method if isinstance(item.method, str) else "", other=frozenset(names))
