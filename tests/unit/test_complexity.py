"""Line 6.2.4: complex routing rules."""

from __future__ import annotations

from pytest_meshready.istio.complexity import simple_routing
from pytest_meshready.results import Judgement, Level, Status
from tests.unit import builders as make
from tests.unit.written import route, shop


def said(judgement: Judgement) -> list[tuple[str, Level, str]]:
    return [(finding.code, finding.level, str(finding.object)) for finding in judgement.findings]


def vs(http: str, name: str = "ledger") -> str:
    return f"""
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: {name}}}
spec:
  hosts: [ledger]
  http: [{http}]
---
"""


TO = "route: [{destination: {host: ledger}}]"


def points(judgement: Judgement, host: str = "ledger.payments.svc.cluster.local") -> int:
    rows = {row["host"]: row["points"] for row in judgement.evidence[0].data}
    return int(rows[host])


def test_plain_routes_have_no_points() -> None:
    """One rule without a match is as simple as it gets."""
    judgement = simple_routing(shop(route("ledger") + route("orders")))
    assert (judgement.status, points(judgement)) == (Status.PASSED, 0)


def test_points_are_counted() -> None:
    """One further rule, two matches, a regular expression, a header and a rewrite: 1 + 2 + 3 + 2 + 2."""
    text = vs(
        f"{{match: [{{uri: {{regex: '/a.*'}}}}, {{headers: {{x-user: {{exact: a}}}}}}], rewrite: {{uri: /}}, {TO}}}, {{{TO}}}",
    )
    judgement = simple_routing(shop(text))
    assert points(judgement) == 10
    assert said(judgement) == [("MR624-COMPLEX", Level.WARNING, "payments/Service/ledger")]
    assert "3 for regular expressions" in judgement.findings[0].found


def test_more_than_fifteen_points_fail() -> None:
    """Nobody sees through it any more."""
    rules = ", ".join(f"{{match: [{{uri: {{regex: '/a{number}.*'}}}}], {TO}}}" for number in range(4))
    judgement = simple_routing(shop(vs(f"{rules}, {{{TO}}}")))
    assert points(judgement) == 4 + 4 + 12
    assert said(judgement) == [("MR624-COMPLEX", Level.ERROR, "payments/Service/ledger")]


def test_an_envoy_filter_warns() -> None:
    """However few points there are."""
    text = """
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {name: lua}
spec: {workloadSelector: {labels: {app: ledger}}, configPatches: [{applyTo: HTTP_FILTER}]}
"""
    judgement = simple_routing(shop(text))
    assert said(judgement) == [("MR624-ENVOYFILTER", Level.WARNING, "payments/EnvoyFilter/lua")]
    assert (points(judgement), points(judgement, "orders.payments.svc.cluster.local")) == (5, 0)


def test_filters_of_the_whole_mesh_are_not_the_teams() -> None:
    """An EnvoyFilter of the root namespace belongs to the platform."""
    text = """
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {name: metrics, namespace: istio-system}
spec: {configPatches: [{applyTo: HTTP_FILTER}]}
"""
    assert simple_routing(shop(text)).status is Status.PASSED


def test_a_rule_that_nothing_reaches_fails() -> None:
    """However simple it is."""
    judgement = simple_routing(shop(vs(f"{{{TO}}}, {{match: [{{uri: {{prefix: /a}}}}], {TO}}}")))
    assert said(judgement) == [("MR624-UNREACHABLE", Level.ERROR, "payments/VirtualService/ledger")]


def test_an_alternative_that_nothing_reaches_is_told() -> None:
    """It changes nothing, so it fails nothing."""
    judgement = simple_routing(shop(vs(f"{{match: [{{uri: {{prefix: /a}}}}, {{uri: {{prefix: /a/b}}}}], {TO}}}, {{{TO}}}")))
    assert judgement.status is Status.PASSED


def test_a_host_in_two_objects_fails() -> None:
    """And costs four points."""
    judgement = simple_routing(shop(vs(f"{{{TO}}}") + vs(f"{{{TO}}}", "other")))
    assert said(judgement) == [("MR624-HOST-TWICE", Level.ERROR, "payments/VirtualService/other")]
    assert points(judgement) == 4


def test_refused_filters_are_not_verified() -> None:
    """Without EnvoyFilters the routes are not known."""
    assert simple_routing(shop(refusals=(make.refusal("envoyfilters"),))).status is Status.NOT_VERIFIED


def test_an_empty_namespace_is_not_concerned() -> None:
    """No service, no route."""
    assert simple_routing(make.snapshot()).status is Status.NOT_APPLICABLE
