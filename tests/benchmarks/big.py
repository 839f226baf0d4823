"""The recorded shop, many times over in one namespace: what the rules are timed on.

Each copy is the shop's five Services (frontend, orders, ledger, quotes, store) under numbered names, with ten pods each and ten
Istio objects that refer to them, so that policies, routes and callers have something to find. 200 copies are 10,000 pods, 1,000
Services and 2,000 Istio objects. Every seventeenth copy has faults.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from pytest_meshready.cluster import decode
from pytest_meshready.cluster.resources import RESOURCES
from pytest_meshready.cluster.snapshot import Snapshot, load

SHOP = Path(__file__).parents[1] / "data" / "shop.json"
NAMESPACE = "payments"
PARTS = ("frontend", "orders", "ledger", "quotes", "store")
PODS_EACH = 10
FAULTY = 17
NODES = 200

#: Istio's kinds and the Gateway API's routes: the 2,000 objects that the bound counts.
ROUTING = (
    "virtualservices",
    "destinationrules",
    "authorizationpolicies",
    "peerauthentications",
    "requestauthentications",
    "serviceentries",
    "sidecars",
    "telemetries",
    "envoyfilters",
    "httproutes",
)

_NAMES = re.compile(rf"\b({'|'.join(PARTS)})\b")
_WORKLOADS = ("deployments", "replicasets", "services", "serviceaccounts", "endpointslices", "poddisruptionbudgets")

Plain = dict[str, Any]


def shops(copies: int) -> Snapshot:
    """A snapshot with this many copies of the shop in its namespace."""
    base = load(SHOP)
    plain: Plain = msgspec.json.decode(SHOP.read_bytes())
    made: dict[str, list[Plain]] = {}
    for number in range(copies):
        for key, item in _shop(plain, number):
            made.setdefault(key, []).append(item)
    for key in ("pods", "nodePods", *_WORKLOADS):
        made.setdefault(key, []).extend(item for item in plain[key] if item["metadata"].get("namespace") != NAMESPACE)
    made["nodes"] = [_node(plain["nodes"][number % 2], number) for number in range(max(NODES, copies))]
    made["gateways"] = [_wide(plain["gateways"][0])]
    kept = [item for item in plain["envoyfilters"] if item["metadata"]["namespace"] != NAMESPACE]
    made["envoyfilters"] = [*kept, *made.get("envoyfilters", [])]
    for key in ("peerauthentications", "authorizationpolicies", "sidecars"):
        made[key] = [*(item for item in plain[key] if item["metadata"]["name"] in ("default", "allow-nothing")), *made.get(key, [])]
    return msgspec.structs.replace(base, **{_field(key): _decoded(key, items) for key, items in made.items()})


def _field(key: str) -> str:
    return "node_pods" if key == "nodePods" else key


def _decoded(key: str, items: list[Plain]) -> tuple[Any, ...]:
    """As the API server's answers are read: equal parts of pods are kept once, and what is not understood would be an error."""
    items.sort(key=lambda item: (item["metadata"].get("namespace", ""), item["metadata"]["name"]))
    page = decode.page(msgspec.json.encode({"items": items}), RESOURCES[_field(key)], decode.Shared())
    assert not page.unreadable, page.unreadable[:3]
    return tuple(page.items)


def _shop(plain: Plain, number: int) -> Iterator[tuple[str, Plain]]:
    """The objects of one copy."""
    suffix = f"{number:05}"
    for key in _WORKLOADS:
        for item in plain[key]:
            if item["metadata"].get("namespace") == NAMESPACE and _NAMES.match(item["metadata"]["name"]) and key != "endpointslices":
                yield key, _renamed(item, suffix)
    for place, part in enumerate(PARTS):
        pods = list(_pods(plain, part, suffix, number * len(PARTS) + place))
        for pod in pods:
            yield "pods", pod
            yield "nodePods", _node_pod(plain, pod)
        yield "endpointslices", _endpoints(plain, part, suffix, pods)
    yield from _istio(plain, number, suffix)


def _renamed(item: Plain, suffix: str) -> Plain:
    text = msgspec.json.encode(item).decode()
    found: Plain = msgspec.json.decode(_NAMES.sub(rf"\g<1>-{suffix}", text).replace("shop.example.com", f"shop-{suffix}.example.com"))
    found["metadata"]["uid"] = f"{found['metadata'].get('uid', '')}-{suffix}"
    for part in (found.get("spec", {}), found.get("status", {})):
        part.update({key: PODS_EACH for key in part if key in ("replicas", "readyReplicas", "updatedReplicas", "availableReplicas")})
    return found


def _pods(plain: Plain, part: str, suffix: str, workload: int) -> Iterator[Plain]:
    first = next(pod for pod in plain["pods"] if pod["metadata"]["namespace"] == NAMESPACE and pod["metadata"]["name"].startswith(part))
    one = _renamed(first, suffix)
    if workload % (len(PARTS) * FAULTY) == 3:
        one["spec"]["initContainers"], one["metadata"]["annotations"] = [], {}  # these were never injected
    for number in range(PODS_EACH):
        pod, place = copy.deepcopy(one), workload * PODS_EACH + number
        pod["metadata"]["name"] = f"{one['metadata']['name'][:-5]}{number:05}"
        pod["metadata"]["uid"] = f"{one['metadata']['uid']}-{number}"
        pod["spec"]["nodeName"] = f"node-{place % NODES}"
        pod["status"]["podIP"] = _address(place)
        yield pod


def _address(number: int) -> str:
    return f"10.{64 + (number >> 16)}.{number >> 8 & 255}.{number & 255}"


def _node_pod(plain: Plain, pod: Plain) -> Plain:
    like = next(item for item in plain["nodePods"] if item["metadata"]["namespace"] == NAMESPACE)
    found: Plain = copy.deepcopy(like)
    found["metadata"]["name"] = pod["metadata"]["name"]
    found["spec"]["nodeName"] = pod["spec"]["nodeName"]
    return found


def _endpoints(plain: Plain, part: str, suffix: str, pods: list[Plain]) -> Plain:
    own = (item for item in plain["endpointslices"] if item["metadata"]["namespace"] == NAMESPACE)
    found = _renamed(next(item for item in own if item["metadata"]["name"].startswith(part)), suffix)
    found["endpoints"] = [
        {
            "addresses": [pod["status"]["podIP"]],
            "conditions": {"ready": True},
            "targetRef": {"kind": "Pod", "name": pod["metadata"]["name"], "namespace": NAMESPACE},
            "nodeName": pod["spec"]["nodeName"],
        }
        for pod in pods
    ]
    return found


def _node(like: Plain, number: int) -> Plain:
    found = copy.deepcopy(like)
    found["metadata"]["name"] = f"node-{number}"
    return found


def _wide(gateway: Plain) -> Plain:
    """The shop's Gateway, for the hosts of all copies."""
    text = msgspec.json.encode(gateway).decode().replace("shop.example.com", "*.example.com")
    found: Plain = msgspec.json.decode(text)
    return found


def _istio(plain: Plain, number: int, suffix: str) -> Iterator[tuple[str, Plain]]:
    """Ten objects: three VirtualServices (or HTTPRoutes), three DestinationRules, three policies and one of the rarer kinds."""
    wanted = {"virtualservices": ("frontend", "orders", "ledger"), "destinationrules": ("orders", "ledger", "store")}
    wanted["authorizationpolicies"] = ("frontend", "orders", "ledger")
    for key, names in wanted.items():
        for item in plain[key]:
            if item["metadata"]["namespace"] == NAMESPACE and item["metadata"]["name"] in names:
                made = _renamed(item, suffix)
                if key == "virtualservices" and item["metadata"]["name"] == "ledger" and number % 2:
                    yield "httproutes", _http_route(suffix)
                else:
                    yield key, _worse(made, key) if number % FAULTY == 0 else made
    yield _rare(number, suffix)


def _worse(item: Plain, key: str) -> Plain:
    """The same with a fault: a route to nothing, a subset of nothing, a policy for nobody."""
    if key == "virtualservices":
        item["spec"]["http"][0]["route"][0]["destination"]["host"] += ".gone"
    elif key == "destinationrules":
        item["spec"]["subsets"] = [{"name": "v9", "labels": {"version": "v9"}}]
    else:
        item["spec"]["selector"] = {"matchLabels": {"app": "nobody"}}
    return item


def _http_route(suffix: str) -> Plain:
    ledger = f"ledger-{suffix}"
    return _object(
        ledger,
        {
            "parentRefs": [{"group": "", "kind": "Service", "name": ledger, "port": 8080}],
            "rules": [
                {"matches": [{"path": {"type": "PathPrefix", "value": path}}], "backendRefs": [{"name": ledger, "port": 8080}]}
                for path in ("/accounts", "/")
            ],
        },
    )


def _rare(number: int, suffix: str) -> tuple[str, Plain]:
    selector = {"matchLabels": {"app": f"orders-{suffix}"}}
    ports = [{"number": 443, "name": "tls", "protocol": "TLS"}]
    made: tuple[tuple[str, Plain], ...] = (
        ("peerauthentications", {"selector": selector, "mtls": {"mode": "STRICT"}, "portLevelMtls": {"8080": {"mode": "PERMISSIVE"}}}),
        ("serviceentries", {"hosts": [f"api-{suffix}.example.net"], "ports": ports, "resolution": "DNS", "location": "MESH_EXTERNAL"}),
        ("sidecars", {"workloadSelector": {"labels": {"app": f"orders-{suffix}"}}, "egress": [{"hosts": ["./*", "istio-system/*"]}]}),
        ("telemetries", {"selector": selector, "tracing": [{"randomSamplingPercentage": 5}]}),
        (
            "envoyfilters",
            {"workloadSelector": {"labels": {"app": f"orders-{suffix}"}}, "configPatches": [{"applyTo": "CLUSTER", "patch": {}}]},
        ),
        ("requestauthentications", {"selector": selector, "jwtRules": [{"issuer": "https://issuer.example.net"}]}),
    )
    key, spec = made[number % len(made)]
    return key, _object(f"orders-{suffix}", spec)


def _object(name: str, spec: Plain) -> Plain:
    return {"metadata": {"name": name, "namespace": NAMESPACE, "creationTimestamp": "2026-11-25T08:12:30Z"}, "spec": spec}
