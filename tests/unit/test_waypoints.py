"""In an ambient namespace rules about requests hold at a waypoint, or nowhere (checks.md 4)."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from pytest_meshready.cluster import objects as o
from pytest_meshready.cluster.snapshot import Refusal, Snapshot
from pytest_meshready.istio.balancing import balancing_configured
from pytest_meshready.istio.resilience import dependencies_contained
from pytest_meshready.istio.retries import conservative_retries
from pytest_meshready.istio.timeouts import timeouts_defined
from pytest_meshready.istio.waypoints import Waypoints
from pytest_meshready.results import Judgement, Level, ObjectRef, Status
from tests.unit import builders as make
from tests.unit.written import CAREFUL, objects, route, shop

AMBIENT = {"istio.io/dataplane-mode": "ambient"}
ENROLLED = {**AMBIENT, "istio.io/use-waypoint": "waypoint"}
CALLED = ("frontend", "orders", "ledger")
GUARDED = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: %s}
spec:
  host: %s
  trafficPolicy:
    connectionPool: {tcp: {maxConnections: 100}}
    outlierDetection: {consecutive5xxErrors: 5}
    loadBalancer: {simple: ROUND_ROBIN}
---
"""
SOUND = "".join(route(name, retries=CAREFUL) + GUARDED % (name, name) for name in CALLED) + GUARDED % ("store", "store")


def waypoint(namespace: str = make.NAMESPACE, name: str = "waypoint") -> o.Pod:
    labels = {"gateway.networking.k8s.io/gateway-name": name, "gateway.networking.k8s.io/gateway-class-name": "istio-waypoint"}
    return make.pod(f"{name}-{make.HASH}-x7pkz", namespace=namespace, labels=labels)


def ambient(labels: dict[str, str], *extra: o.Pod, **fields: Any) -> Snapshot:
    """The shop with timeouts, retries and limits for every service, in an ambient namespace."""
    spaces = (make.namespace(make.ISTIO, labels={}), make.namespace(labels=labels))
    plain = tuple(
        make.pod(
            f"{name}-{make.HASH}-{number}", labels={"app": name, "version": "v1"}, annotations={"ambient.istio.io/redirection": "enabled"}
        )
        for name in (*CALLED, "store")
        for number in "ab"
    )
    return shop(SOUND, namespaces=spaces, pods=(*plain, *extra), **fields)


def found(judgement: Judgement) -> dict[tuple[str, str], Level]:
    return {(item.code, str(item.object)): item.level for item in judgement.findings}


def test_behind_a_waypoint_every_rule_holds() -> None:
    """With a waypoint that runs, the same objects say the same as with sidecars: timeouts, retries, limits."""
    for rule in (timeouts_defined, conservative_retries, balancing_configured, dependencies_contained):
        judgement = rule(ambient(ENROLLED, waypoint()))
        assert (judgement.status, [item for item in found(judgement) if "WAYPOINT" in item[0]]) == (Status.PASSED, []), rule


@pytest.mark.parametrize("labels", [AMBIENT, {**AMBIENT, "istio.io/use-waypoint": "none"}, ENROLLED])
def test_without_a_waypoint_no_timeout_holds(labels: dict[str, str]) -> None:
    """The VirtualServices are there, and ztunnel reads no requests: each HTTP Service warns."""
    judgement = timeouts_defined(ambient(labels))
    assert judgement.status is Status.WARNED
    assert found(judgement) == {("MR611-NO-WAYPOINT", f"payments/Service/{name}"): Level.WARNING for name in CALLED}


def test_without_a_waypoint_nothing_retries() -> None:
    """Ztunnel sends no request twice, so neither a rule nor Istio's default does."""
    judgement = conservative_retries(ambient(AMBIENT))
    assert (judgement.status, judgement.findings) == (Status.PASSED, ())
    assert "retry at most 0 times" in judgement.summary


def test_without_a_waypoint_no_destination_rule_holds() -> None:
    """Neither ejection and limits nor balancing."""
    contained = dependencies_contained(ambient(AMBIENT))
    assert found(contained) == {("MR923-NO-WAYPOINT", f"payments/Service/{name}"): Level.WARNING for name in (*CALLED, "store")}
    balanced = balancing_configured(ambient(AMBIENT))
    assert found(balanced) == {("MR613-NO-WAYPOINT", f"payments/DestinationRule/{name}"): Level.WARNING for name in (*CALLED, "store")}


def test_a_service_may_be_taken_out_or_have_its_own() -> None:
    """The label of the Service decides before its namespace's."""
    out = make.service("orders")
    out = msgspec.structs.replace(out, metadata=msgspec.structs.replace(out.metadata, labels={"istio.io/use-waypoint": "none"}))
    services = tuple(out if item.metadata.name == "orders" else item for item in shop().services)
    judgement = timeouts_defined(ambient(ENROLLED, waypoint(), services=services))
    assert found(judgement) == {("MR611-NO-WAYPOINT", "payments/Service/orders"): Level.WARNING}


def test_a_waypoint_of_another_namespace() -> None:
    """One in a namespace that is read must have pods; of one elsewhere nothing is said."""
    orders = ObjectRef(kind="Service", namespace="payments", name="orders")
    shared = {**ENROLLED, "istio.io/use-waypoint-namespace": make.ISTIO}
    assert Waypoints(ambient(shared)).absent(orders) == "its waypoint istio-system/waypoint has no pods"
    assert Waypoints(ambient(shared, waypoint(make.ISTIO))).absent(orders) == ""
    assert Waypoints(ambient({**ENROLLED, "istio.io/use-waypoint-namespace": "gateways"})).absent(orders) == ""


def test_what_is_not_known_is_not_missing() -> None:
    """Where pods may not be listed, the waypoint may be there; sidecars need none."""
    refused = Refusal(key="pods", verb="list", resource="pods", status=403, reason="not permitted")
    base = ambient(ENROLLED)
    unseen = msgspec.structs.replace(base, pods=(), refusals=(refused,), read=tuple(key for key in base.read if key != "pods"))
    orders = ObjectRef(kind="Service", namespace="payments", name="orders")
    assert Waypoints(unseen).absent(orders) == ""
    assert Waypoints(shop()).absent(orders) == ""


def test_a_wildcard_rule_is_for_every_host_that_it_covers() -> None:
    """What Istio refuses in it is told, once, and a subset that some host lacks is no fault unless it is called."""
    text = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: all}
spec:
  host: "*.payments.svc.cluster.local"
  trafficPolicy: {loadBalancer: {consistentHash: {}}}
  subsets: [{name: v9, labels: {version: v9}}]
"""
    wide = shop(destinationrules=objects(text)["destinationrules"])
    assert found(balancing_configured(wide)) == {("MR613-HASH-KEY", "payments/DestinationRule/all"): Level.ERROR}
