"""Snapshots from YAML as a team would write it: what a test is about stands in it, the rest of the shop is already there."""

from __future__ import annotations

from typing import Any

import msgspec
import yaml

from pytest_meshready.cluster.resources import RESOURCES
from pytest_meshready.cluster.snapshot import Snapshot
from tests.unit import builders as make

#: The rows by the group and the kind that a document names.
ROWS = {(row.group, str(kind)): row for row in RESOURCES.values() if (kind := getattr(row.type, "kind", "")) and row.key != "node_pods"}


def objects(text: str) -> dict[str, tuple[Any, ...]]:
    """The objects of some YAML documents by their keys in a snapshot; without a namespace they are in the run's own.

    Times count up with the documents, so that the first one is the oldest, unless they say otherwise.
    """
    found: dict[str, list[Any]] = {}
    for number, document in enumerate(item for item in yaml.safe_load_all(text) if item):
        row = ROWS[document["apiVersion"].rpartition("/")[0], document["kind"]]
        metadata = document.setdefault("metadata", {})
        metadata.setdefault("namespace", make.NAMESPACE)
        metadata.setdefault("creationTimestamp", f"2026-08-25T08:00:{number:02d}Z")
        found.setdefault(row.key, []).append(msgspec.convert(document, row.type))
    return {key: tuple(items) for key, items in found.items()}


def shop(text: str = "", **fields: Any) -> Snapshot:
    """The shop: frontend, orders and ledger (HTTP 8080), store (TCP 6000), two pods each, and what the YAML adds.

    Nobody is named in a policy, no rule and no route is there: that is Istio as it comes.
    """
    deployments = tuple(make.deployment(name) for name in ("frontend", "orders", "ledger", "store"))
    services = (
        *(make.service(name) for name in ("frontend", "orders", "ledger")),
        make.service("store", ports=(("tcp-store", 6000),)),
    )
    defaults: dict[str, Any] = {
        "deployments": deployments,
        "pods": (*(pod for item in deployments for pod in make.pods_of(item)), make.gateway_pod()),
        "services": services,
    }
    for key, items in objects(text).items():
        defaults[key] = (*defaults.get(key, ()), *items)
    return make.snapshot(**{**defaults, **fields})


#: Who may call whom, by name: the gateway the frontend, the frontend orders, orders the ledger and the store.
CHAIN = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: frontend}
spec:
  selector: {matchLabels: {app: frontend}}
  rules: [{from: [{source: {principals: ["cluster.local/ns/istio-system/sa/istio-ingressgateway"]}}]}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: orders}
spec:
  selector: {matchLabels: {app: orders}}
  rules: [{from: [{source: {principals: ["cluster.local/ns/payments/sa/frontend"]}}]}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: ledger}
spec:
  selector: {matchLabels: {app: ledger}}
  rules: [{from: [{source: {serviceAccounts: ["orders"]}}]}]
---
"""


def route(name: str, *, timeout: str = "5s", retries: str = "", more: str = "", host: str = "", extra: str = "") -> str:
    """A VirtualService for a Service of the namespace: one rule that leads to it, ``more`` is further keys of the rule."""
    full = f"{name}.payments.svc.cluster.local"
    rule = f"timeout: {timeout}\n    " if timeout else ""
    rule += f"retries: {retries}\n    " if retries else ""
    return f"""
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: {name}}}
spec:
  hosts: [{host or full}]
  {extra}
  http:
  - {more}
    {rule}route: [{{destination: {{host: {full}, port: {{number: 8080}}}}}}]
---
"""


#: The retries of the shop: two, each of 1.5 seconds.
CAREFUL = '{attempts: 2, perTryTimeout: 1500ms, retryOn: "connect-failure,refused-stream,unavailable,503"}'
