"""Generated and mutilated objects: the rules of traffic never break, whatever the objects say."""

from __future__ import annotations

from typing import Any

import msgspec
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_meshready.istio import analysis, avoid, balancing, complexity, resilience, retries, timeouts
from pytest_meshready.results import Judgement
from tests.unit.written import CHAIN, ROWS, shop

RULES = (
    timeouts.timeouts_defined,
    retries.conservative_retries,
    balancing.balancing_configured,
    avoid.no_canaries,
    avoid.no_mirrors,
    avoid.no_faults,
    complexity.simple_routing,
    resilience.dependencies_contained,
    analysis.configuration_sound,
)

WHOLE = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: ledger, namespace: payments, creationTimestamp: "2026-08-25T08:00:00Z"}
spec:
  hosts: [ledger, "*.example.com"]
  gateways: [mesh, shop]
  exportTo: ["."]
  http:
  - name: one
    match: [{uri: {prefix: /a}, method: {exact: GET}, port: 8080, headers: {x: {exact: y}}, sourceLabels: {app: orders}}]
    route: [{destination: {host: ledger, port: {number: 8080}, subset: v1}, weight: 90}, {destination: {host: orders}, weight: 10}]
    timeout: 5s
    retries: {attempts: 2, perTryTimeout: 1s, retryOn: "5xx,503"}
    fault: {delay: {fixedDelay: 2s, percentage: {value: 10}}, abort: {httpStatus: 503, percentage: {value: 1}}}
    mirror: {host: orders}
    mirrors: [{destination: {host: orders}, percentage: {value: 1}}]
  - delegate: {name: part}
  - redirect: {uri: /b}
  tls: [{match: [{sniHosts: [a.example.com], port: 443}], route: [{destination: {host: ledger}}]}]
  tcp: [{match: [{port: 6000}], route: [{destination: {host: store}}]}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: ledger, namespace: payments}
spec:
  host: ledger
  trafficPolicy:
    connectionPool: {tcp: {maxConnections: 1, connectTimeout: 1s}, http: {maxRetries: 3}}
    outlierDetection: {consecutive5xxErrors: 1}
    loadBalancer: {localityLbSetting: {distribute: [{from: a, to: {b: 100}}]}, consistentHash: {useSourceIp: true}}
    portLevelSettings: [{port: {number: 8080}, connectionPool: {}}]
  subsets: [{name: v1, labels: {version: v1}, trafficPolicy: {loadBalancer: {simple: RANDOM}}}]
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: shop, namespace: payments}
spec:
  selector: {istio: ingressgateway}
  servers: [{port: {number: 443, name: https, protocol: HTTPS}, hosts: ["./shop.example.com"], tls: {mode: SIMPLE, credentialName: a}}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: bank, namespace: payments}
spec: {hosts: [api.bank.example], ports: [{number: 80, name: http, protocol: HTTP}], exportTo: ["*"], resolution: DNS}
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: default, namespace: payments}
spec: {workloadSelector: {labels: {app: ledger}}, egress: [{port: {number: 80}, hosts: ["./*", "~/*"]}]}
---
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {name: filter, namespace: payments}
spec: {configPatches: [{applyTo: HTTP_FILTER, patch: {operation: ADD, value: {name: a, typed_config: {"@type": b}}}}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: web, namespace: payments}
spec:
  parentRefs: [{name: edge}, {group: "", kind: Service, name: orders, port: 8080}]
  hostnames: [web.example.com]
  rules:
  - matches: [{path: {type: Exact, value: /a}, method: GET, headers: [{name: x}]}]
    filters: [{type: RequestMirror, requestMirror: {backendRef: {name: orders}, fraction: {numerator: 1}}}]
    backendRefs: [{name: ledger, port: 8080, weight: 1}]
    timeouts: {request: 5s, backendRequest: 1s}
    retry: {attempts: 1, codes: [503]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {name: rpc, namespace: payments}
spec: {parentRefs: [{name: edge}], rules: [{matches: [{method: {service: a}}], backendRefs: [{name: ledger}]}]}
"""

DOCUMENTS = [document for document in yaml.safe_load_all(WHOLE + "---" + CHAIN) if document]
ODD: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**31), 2**31),
    st.floats(allow_nan=False),
    st.text(max_size=20),
    st.sampled_from(["*", "", "/", "~", ".", "UNKNOWN", "0s", "-1s", "x" * 300, "mesh"]),
    st.just([]),
    st.just({}),
    st.lists(st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=2), max_size=2),
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths to every value of a document."""
    found = [path] if path else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [*found, *(inner for key, item in items for inner in places(item, (*path, key)))]


def changed(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """The document with another value at one place; None takes it out."""
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    if new is None and len(path) == 1:
        del copy[path[0]]
    else:
        copy[path[0]] = changed(value[path[0]], path[1:], new)
    return copy


@st.composite
def mutilated(draw: st.DrawFn) -> list[Any]:
    """The documents with up to four places changed."""
    documents = [dict(document) for document in DOCUMENTS]
    for _ in range(draw(st.integers(1, 4))):
        index = draw(st.integers(0, len(documents) - 1))
        inside = [path for path in places(documents[index]) if path[0] in ("spec", "metadata") and path != ("metadata",)]
        if inside:
            documents[index] = changed(documents[index], draw(st.sampled_from(inside)), draw(ODD))
    return documents


def readable(documents: list[Any]) -> dict[str, tuple[Any, ...]]:
    """What a reader would have kept of them: objects without the shape of their kind do not reach the rules."""
    found: dict[str, list[Any]] = {}
    for document in documents:
        row = ROWS[document["apiVersion"].rpartition("/")[0], document["kind"]]
        try:
            found.setdefault(row.key, []).append(msgspec.convert(document, row.type))
        except msgspec.ValidationError:
            continue
    return {key: tuple(items) for key, items in found.items()}


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(mutilated())
def test_no_object_breaks_a_rule(documents: list[Any]) -> None:
    """A finding, or a clear word that something is not known; never an exception."""
    changes: dict[str, Any] = readable(documents)
    snapshot = shop("", **changes)
    for rule in RULES:
        judgement = rule(snapshot)
        assert isinstance(judgement, Judgement)
        assert all(finding.found and finding.wanted and finding.fix for finding in judgement.findings)
        assert judgement.reason


def test_the_whole_documents_are_readable() -> None:
    """The generator starts from objects that are as they should be."""
    assert sum(len(items) for items in readable(DOCUMENTS).values()) == len(DOCUMENTS)
