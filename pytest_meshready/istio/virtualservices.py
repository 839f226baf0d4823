"""Istio's VirtualServices in the words of `pytest_meshready.istio.rules`.

Reproduced from istiod: defaults and weights from pilot/pkg/networking/core/route/route.go, faults and mirrors from there
too, names of gateways and delegates from pilot/pkg/model/virtualservice.go.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from pytest_meshready.cluster.objects_entry import (
    Destination,
    HttpFault,
    HttpMatch,
    HttpRetry,
    HttpRoute,
    RouteDestination,
    StreamMatch,
    StreamRoute,
    StringMatch,
    VirtualService,
)
from pytest_meshready.istio.dataplane import RUN_LABEL
from pytest_meshready.istio.durations import seconds
from pytest_meshready.istio.hosts import EVERYWHERE, Hosts, exported
from pytest_meshready.istio.rules import MESH, Fault, Layer, Match, Mirror, PathKind, Retry, RouteObject, Rule, Target
from pytest_meshready.results import ObjectRef

#: A header of this beginning is a claim of a token, not a header (pkg/jwt).
_CLAIM = "@request.auth.claims"

_Delegates = Mapping[tuple[str, str], VirtualService]


def route_objects(virtual_services: Iterable[VirtualService], hosts: Hosts) -> tuple[RouteObject, ...]:
    """Every VirtualService that has hosts of its own; those without are only parts of others."""
    every = tuple(virtual_services)
    delegates = {(item.metadata.namespace, item.metadata.name): item for item in every if not item.spec.hosts}
    return tuple(_object(item, hosts, delegates) for item in every if item.spec.hosts)


def reference(item: VirtualService) -> ObjectRef:
    """The VirtualService, for a finding."""
    return ObjectRef(kind="VirtualService", namespace=item.metadata.namespace, name=item.metadata.name)


def gateway_name(name: str, namespace: str) -> str:
    """A gateway as ``namespace/name``: written so, or short, or in the old way as ``name.namespace.svc...``."""
    if name == MESH:
        return MESH
    if "/" in name:
        before, _, after = name.partition("/")
        return f"{namespace if before == '.' else before}/{after}"
    if "." in name:
        own, _, rest = name.partition(".")
        return f"{rest.partition('.')[0]}/{own}"
    return f"{namespace}/{name}"


def retry_on(text: str) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """The conditions and the status codes of a ``retryOn``."""
    words = [word.strip() for word in text.split(",") if word.strip()]
    codes = tuple(int(word) for word in words if word.isascii() and word.isdigit() and len(word) == 3)
    return tuple(word for word in words if not word.isdigit()), codes


def retry(item: HttpRetry | None) -> Retry | None:
    """What is said of retries; without attempts they are switched off."""
    if item is None:
        return None
    conditions, codes = retry_on(item.retry_on)
    return Retry(attempts=max(item.attempts or 0, 0), per_try=seconds(item.per_try_timeout), conditions=conditions, codes=codes)


def _object(item: VirtualService, hosts: Hosts, delegates: _Delegates) -> RouteObject:
    namespace, spec = item.metadata.namespace, item.spec
    ref = reference(item)
    lost: list[tuple[str, str]] = []
    rules = [
        *_http_rules(item, ref, hosts, delegates, lost),
        *(_stream(route, Layer.TLS, index, ref, hosts) for index, route in enumerate(spec.tls)),
        *(_stream(route, Layer.TCP, index, ref, hosts) for index, route in enumerate(spec.tcp)),
    ]
    return RouteObject(
        ref=ref,
        hosts=tuple(hosts.fqdn(host, namespace) for host in spec.hosts),
        gateways=tuple(gateway_name(name, namespace) for name in spec.gateways) or (MESH,),
        rules=tuple(rules),
        export_to=exported(spec.export_to, namespace) or frozenset({EVERYWHERE}),
        created=item.metadata.creation_timestamp or "",
        ours=RUN_LABEL in item.metadata.labels,
        lost_delegates=tuple(lost),
    )


def _http_rules(item: VirtualService, ref: ObjectRef, hosts: Hosts, delegates: _Delegates, lost: list[tuple[str, str]]) -> Iterator[Rule]:
    namespace = item.metadata.namespace
    for index, route in enumerate(item.spec.http):
        rule = _http(route, index, ref, hosts)
        if route.delegate is None:
            yield rule
            continue
        key = (route.delegate.namespace or namespace, route.delegate.name)
        child = delegates.get(key)
        if child is None or not _may_use(child, namespace):
            lost.append((rule.place, "/".join(key)))
            continue
        for inner, part in enumerate(child.spec.http):
            yield _joined(rule, _http(part, inner, reference(child), hosts), part)


def _may_use(child: VirtualService, namespace: str) -> bool:
    words = exported(child.spec.export_to, child.metadata.namespace)
    return not words or EVERYWHERE in words or namespace in words


def _joined(root: Rule, part: Rule, written: HttpRoute) -> Rule:
    """A delegated rule: what it does not say, the rule that delegates says (MergeHTTPRoutes)."""
    matches = tuple(_both(one, two) for one in root.matches or (Match(),) for two in part.matches or (Match(),))
    bare = not root.matches and not part.matches
    return replace(
        part,
        by=root.by,
        place=f"{root.place}, {part.place} of {part.by.namespace}/{part.by.name}",
        matches=() if bare else matches,
        timeout=root.timeout if written.timeout is None else part.timeout,
        retry=part.retry or root.retry,
        fault=part.fault or root.fault,
        mirrors=part.mirrors or root.mirrors,
        rewrites=part.rewrites or root.rewrites,
        delegate=part.by,
    )


def _both(root: Match, part: Match) -> Match:
    narrower = part if part.path is not PathKind.ANY else root
    return replace(
        part,
        path=narrower.path,
        value=narrower.value,
        ignore_case=narrower.ignore_case,
        method=part.method or root.method,
        method_pattern=part.method_pattern or root.method_pattern,
        authority=part.authority or root.authority,
        port=part.port or root.port,
        gateways=part.gateways or root.gateways,
        other=part.other | root.other,
        claims=part.claims or root.claims,
        caller=part.caller | root.caller,
    )


def _http(route: HttpRoute, index: int, ref: ObjectRef, hosts: Hosts) -> Rule:
    answered = "redirect" if route.redirect is not None else "direct response" if route.direct_response is not None else ""
    return Rule(
        by=ref,
        place=f"http[{index}]" + (f" ({route.name})" if route.name else ""),
        layer=Layer.HTTP,
        matches=tuple(_match(item, ref.namespace) for item in route.match),
        targets=() if answered else _targets(route.route, ref.namespace, hosts),
        mirrors=tuple(_mirrors(route, ref.namespace, hosts)),
        answered=answered,
        timeout=seconds(route.timeout),
        retry=retry(route.retries),
        fault=_fault(route.fault),
        rewrites=route.rewrite is not None,
    )


def _stream(route: StreamRoute, layer: Layer, index: int, ref: ObjectRef, hosts: Hosts) -> Rule:
    return Rule(
        by=ref,
        place=f"{layer}[{index}]",
        layer=layer,
        matches=tuple(_stream_match(item, ref.namespace) for item in route.match),
        targets=_targets(route.route, ref.namespace, hosts),
    )


def _targets(routes: tuple[RouteDestination, ...], namespace: str, hosts: Hosts) -> tuple[Target, ...]:
    """A single destination gets everything, whatever its weight; among several, weight 0 gets nothing."""
    alone = len(routes) == 1
    return tuple(_target(item.destination, namespace, hosts, 100 if alone else item.weight) for item in routes)


def _target(item: Destination, namespace: str, hosts: Hosts, weight: int = 100) -> Target:
    port = item.port.number if item.port and item.port.number else None
    return Target(host=hosts.fqdn(item.host, namespace), port=port, subset=item.subset, weight=weight)


def _mirrors(route: HttpRoute, namespace: str, hosts: Hosts) -> Iterator[Mirror]:
    """Without a percentage everything is mirrored."""
    if route.mirror is not None:
        percent = 100.0
        if route.mirror_percentage is not None:
            percent = route.mirror_percentage.value
        elif route.mirror_percent is not None:
            percent = float(route.mirror_percent)
        yield Mirror(target=_target(route.mirror, namespace, hosts), percent=percent)
    for item in route.mirrors:
        if item.destination is not None:
            percent = item.percentage.value if item.percentage is not None else 100.0
            yield Mirror(target=_target(item.destination, namespace, hosts), percent=percent)


def _fault(item: HttpFault | None) -> Fault | None:
    """A percentage that is not set means that no request meets the fault."""
    if item is None or (item.delay is None and item.abort is None):
        return None
    delay, abort = item.delay, item.abort
    delay_percent = 0.0
    if delay is not None:
        delay_percent = delay.percentage.value if delay.percentage is not None else float(delay.percent or 0)
    status = ""
    if abort is not None:
        status = str(abort.http_status) if abort.http_status else f"gRPC {abort.grpc_status}" if abort.grpc_status else ""
    return Fault(
        delay=seconds(delay.fixed_delay) if delay is not None else None,
        delay_percent=delay_percent,
        abort=status,
        abort_percent=abort.percentage.value if abort is not None and abort.percentage is not None else 0.0,
    )


def _match(item: HttpMatch, namespace: str) -> Match:
    path, value = _path(item.uri)
    method = item.method or StringMatch()
    names = [*(f"header {name}" for name in item.headers), *(f"query {name}" for name in item.query_params)]
    names += [f"no header {name}" for name in item.without_headers]
    names += ["scheme"] if item.scheme is not None else []
    return Match(
        path=path,
        value=value,
        ignore_case=item.ignore_uri_case,
        method=method.exact or method.prefix or method.regex,
        method_pattern=bool(method.prefix or method.regex),
        authority=_text(item.authority),
        port=item.port,
        gateways=tuple(gateway_name(name, namespace) for name in item.gateways),
        other=frozenset(names),
        claims=any(name.startswith(_CLAIM) for name in (*item.headers, *item.without_headers)),
        caller=_caller(item.source_labels, item.source_namespace),
    )


def _stream_match(item: StreamMatch, namespace: str) -> Match:
    return Match(
        port=item.port,
        gateways=tuple(gateway_name(name, namespace) for name in item.gateways),
        caller=_caller(item.source_labels, item.source_namespace),
        sni=frozenset(item.sni_hosts),
        addresses=frozenset(item.destination_subnets),
    )


def _caller(labels: Mapping[str, str], namespace: str) -> frozenset[tuple[str, str]]:
    return frozenset({*labels.items(), *((("namespace", namespace),) if namespace else ())})


def _path(uri: StringMatch | None) -> tuple[PathKind, str]:
    if uri is None:
        return PathKind.ANY, ""
    if uri.exact:
        return PathKind.EXACT, uri.exact
    if uri.regex:
        return PathKind.REGEX, uri.regex
    return PathKind.PREFIX, uri.prefix


def _text(item: StringMatch | None) -> str:
    return "" if item is None else item.exact or item.prefix or item.regex
