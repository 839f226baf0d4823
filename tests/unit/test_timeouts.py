"""Line 6.1.1: timeouts."""

from __future__ import annotations

from pytest_meshready.istio.timeouts import timeouts_defined
from pytest_meshready.results import Judgement, Level, Status
from tests.unit import builders as make
from tests.unit.written import CHAIN, route, shop

GATEWAY = route("frontend", timeout="10s", host="shop.example.com", extra="gateways: [shop]")
SOUND = CHAIN + GATEWAY + route("orders") + route("ledger")


def said(judgement: Judgement) -> list[tuple[str, str]]:
    return [(finding.code, str(finding.object)) for finding in judgement.findings]


def test_the_shop_passes() -> None:
    """Every route that somebody may use has a timeout; the frontend is called by the gateway alone."""
    judgement = timeouts_defined(shop(SOUND))
    assert (judgement.status, judgement.findings, judgement.examined) == (Status.PASSED, (), 3)


def test_a_service_without_a_route_waits_without_end() -> None:
    """Istio's default is no timeout at all."""
    judgement = timeouts_defined(shop(CHAIN + GATEWAY + route("ledger")))
    assert judgement.status is Status.WARNED
    assert said(judgement) == [("MR611-NO-TIMEOUT", "payments/Service/orders")]
    assert "orders.payments.svc.cluster.local" in judgement.findings[0].fix


def test_a_rule_without_a_timeout_is_named() -> None:
    """The object at fault is the VirtualService."""
    judgement = timeouts_defined(shop(CHAIN + GATEWAY + route("orders", timeout="") + route("ledger", timeout="0s")))
    assert said(judgement) == [
        ("MR611-NO-TIMEOUT", "payments/VirtualService/orders"),
        ("MR611-NO-TIMEOUT", "payments/VirtualService/ledger"),
    ]


def test_a_timeout_at_the_gateway_does_not_hold_in_the_mesh() -> None:
    """Where anybody may call the frontend, its callers in the mesh have none."""
    judgement = timeouts_defined(shop(GATEWAY + route("orders") + route("ledger")))
    assert said(judgement) == [("MR611-NO-TIMEOUT", "payments/Service/frontend")]
    assert "only the route of gateway payments/shop has one" in judgement.findings[0].found


def test_a_gateway_route_without_a_timeout() -> None:
    """The gateway is a caller as well."""
    text = CHAIN + GATEWAY.replace("timeout: 10s\n    ", "") + route("orders") + route("ledger")
    judgement = timeouts_defined(shop(text))
    assert said(judgement) == [("MR611-NO-TIMEOUT", "payments/VirtualService/frontend")]
    assert "gateway payments/shop" in judgement.findings[0].found


def test_a_redirect_needs_no_timeout() -> None:
    """Nothing is waited for."""
    redirect = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: orders}
spec:
  hosts: [orders]
  http: [{redirect: {uri: /new}}]
---
"""
    assert said(timeouts_defined(shop(CHAIN + GATEWAY + redirect + route("ledger")))) == []


def test_a_long_timeout_warns() -> None:
    """Above 30 seconds nobody is protected."""
    judgement = timeouts_defined(shop(CHAIN + GATEWAY + route("orders", timeout="31s") + route("ledger")))
    assert said(judgement) == [("MR611-LONG-TIMEOUT", "payments/VirtualService/orders")]


def test_a_service_that_outlives_its_callers() -> None:
    """Orders may wait 8 seconds for the ledger, but its own callers give up after 5."""
    judgement = timeouts_defined(shop(CHAIN + GATEWAY + route("orders") + route("ledger", timeout="8s")))
    assert said(judgement) == [("MR611-OUTLIVES-CALLER", "payments/VirtualService/ledger")]
    assert "orders may call ledger:8080 and wait 8 s, but callers of orders give up after 5 s" in judgement.findings[0].found


def test_without_names_nobody_is_a_caller() -> None:
    """Where policies do not name callers, nothing is said about chains of calls."""
    judgement = timeouts_defined(shop(route("frontend") + route("orders") + route("ledger", timeout="8s")))
    assert judgement.status is Status.PASSED


def test_dry_run_policies_name_nobody() -> None:
    """A policy that is only tried out denies nothing."""
    dry = CHAIN.replace("metadata: {name: frontend}", 'metadata: {name: frontend, annotations: {istio.io/dry-run: "true"}}')
    assert said(timeouts_defined(shop(dry + GATEWAY + route("orders") + route("ledger")))) == [
        ("MR611-NO-TIMEOUT", "payments/Service/frontend")
    ]


def test_hosts_outside_count() -> None:
    """A ServiceEntry of the namespace with an HTTP port is a dependency like another."""
    entry = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: bank}
spec: {hosts: [api.bank.example], resolution: DNS, ports: [{number: 80, name: http, protocol: HTTP}]}
"""
    assert said(timeouts_defined(shop(SOUND + entry))) == [("MR611-NO-TIMEOUT", "payments/ServiceEntry/bank")]


def test_without_http_the_line_does_not_apply() -> None:
    """Timeouts of requests are for HTTP."""
    snapshot = make.snapshot(services=(make.service("store", ports=(("tcp", 6000),)),))
    assert timeouts_defined(snapshot).status is Status.NOT_APPLICABLE


def test_refused_routes_are_not_verified() -> None:
    """Without the right to list VirtualServices nothing passes, and what was found stays."""
    judgement = timeouts_defined(shop(CHAIN, refusals=(make.refusal("virtualservices", namespace=""),)))
    assert judgement.status is Status.NOT_VERIFIED
    assert {finding.level for finding in judgement.findings} == {Level.WARNING}


def test_no_services_and_no_right_is_not_verified() -> None:
    """An empty list proves nothing where it was refused."""
    assert timeouts_defined(make.snapshot(refusals=(make.refusal("services"),))).status is Status.NOT_VERIFIED
