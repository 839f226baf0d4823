"""Rules that nothing reaches."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pytest_meshready.istio.deadrules import clashes, covers, dead_rules
from pytest_meshready.istio.routes import Routes
from pytest_meshready.istio.rules import Match, PathKind
from tests.unit.written import route, shop

PREFIX, EXACT, REGEX, SEPARATED = PathKind.PREFIX, PathKind.EXACT, PathKind.REGEX, PathKind.SEPARATED


def path(kind: PathKind, value: str) -> Match:
    return Match(path=kind, value=value)


@pytest.mark.parametrize(
    ("first", "later", "covered"),
    [
        (Match(), path(EXACT, "/a"), True),
        (path(PREFIX, "/"), path(REGEX, "/a.*"), True),
        (path(REGEX, ".*"), Match(), True),
        (path(PREFIX, "/a"), path(PREFIX, "/a/b"), True),
        (path(PREFIX, "/a"), path(PREFIX, "/ab"), True),
        (path(SEPARATED, "/a"), path(SEPARATED, "/ab"), False),
        (path(SEPARATED, "/a"), path(EXACT, "/a/b"), True),
        (path(EXACT, "/a"), path(EXACT, "/a"), True),
        (path(EXACT, "/a"), path(PREFIX, "/a"), False),
        (path(PREFIX, "/a"), Match(), False),
        (path(REGEX, "/a+"), path(REGEX, "/a+"), True),
        (path(REGEX, "/a+"), path(EXACT, "/aa"), False),
        (path(PREFIX, "/A"), path(PREFIX, "/a"), False),
        (replace(path(PREFIX, "/A"), ignore_case=True), path(PREFIX, "/a/b"), True),
        (path(PREFIX, "/a"), replace(path(PREFIX, "/a"), ignore_case=True), False),
        (Match(method="GET"), Match(method="GET"), True),
        (Match(method="GET"), Match(), False),
        (Match(), Match(method="GET"), True),
        (Match(port=80), Match(port=80), True),
        (Match(port=80), Match(), False),
        (Match(other=frozenset({"header x"})), Match(other=frozenset({"header x"})), False),
        (Match(), Match(other=frozenset({"header x"})), True),
        (Match(caller=frozenset({("app", "a")})), Match(caller=frozenset({("app", "a"), ("v", "1")})), True),
        (Match(caller=frozenset({("app", "a")})), Match(), False),
        (Match(gateways=("a/b",)), Match(gateways=("a/b",)), True),
        (Match(gateways=("a/b",)), Match(), False),
        (Match(sni=frozenset({"*.a"})), Match(sni=frozenset({"b.a"})), True),
        (Match(sni=frozenset({"b.a"})), Match(sni=frozenset({"*.a"})), False),
        (Match(authority="a"), Match(authority="b"), False),
    ],
)
def test_covers(first: Match, later: Match, *, covered: bool) -> None:
    """A match covers another if every request of the other is one of its own."""
    assert covers(first, later) is covered


def rules(text: str, *, gateways: str = "") -> list[tuple[str, int | None]]:
    """The dead rules of a VirtualService with these rules: their places and alternatives."""
    whole = f"""
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: ledger}}
spec:
  hosts: [ledger]
  {gateways}
  http:
{text}
"""
    found = Routes(shop(whole))
    return [(dead.rule.place, dead.alternative) for dead in dead_rules(found.objects[0], found.hosts)]


TO = "route: [{destination: {host: ledger}}]"


def test_behind_one_that_takes_everything() -> None:
    """Whatever stands behind a rule without a match is never reached."""
    assert rules(f"  - {{{TO}}}\n  - {{match: [{{uri: {{prefix: /a}}}}], {TO}}}") == [("http[1]", None)]


def test_before_it_everything_lives() -> None:
    """The usual order: the special first, the rest last."""
    assert rules(f"  - {{match: [{{uri: {{prefix: /a}}}}], {TO}}}\n  - {{{TO}}}") == []


def test_one_alternative_is_dead() -> None:
    """The others keep the rule alive."""
    text = f"  - {{match: [{{uri: {{prefix: /a}}}}], {TO}}}\n  - {{match: [{{uri: {{prefix: /a/b}}}}, {{uri: {{prefix: /c}}}}], {TO}}}"
    assert rules(text) == [("http[1]", 0)]


def test_a_port_that_is_not_there() -> None:
    """In the mesh no request comes to a port that the host does not have; a gateway has ports of its own."""
    text = f"  - {{match: [{{port: 9999}}], {TO}}}"
    assert rules(text) == [("http[0]", None)]
    assert rules(text, gateways="gateways: [mesh, shop]") == []


def test_the_gateway_api_has_no_order() -> None:
    """The most specific match wins there, wherever it stands; the same match twice is dead."""
    text = """
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: ledger}
spec:
  parentRefs: [{group: "", kind: Service, name: ledger}]
  rules:
  - {matches: [{path: {value: /}}], backendRefs: [{name: ledger, port: 8080}]}
  - {matches: [{path: {value: /a}}], backendRefs: [{name: ledger, port: 8080}]}
  - {matches: [{path: {value: /a}}], backendRefs: [{name: orders, port: 8080}]}
"""
    found = Routes(shop(text))
    assert [dead.rule.place for dead in dead_rules(found.objects[0], found.hosts)] == ["rules[2]"]


def test_two_objects_for_one_host_clash() -> None:
    """The younger one is not used at all; where it is for another port, it is."""
    other = route("ledger").replace("name: ledger}", "name: other}")
    found = Routes(shop(route("ledger") + other))
    (clash,) = clashes(found.seen, found.hosts, "payments")
    assert (str(clash.wins), str(clash.loses), clash.whole) == ("payments/VirtualService/ledger", "payments/VirtualService/other", True)
    split = Routes(shop(route("ledger", more="match: [{port: 9000}]") + other))
    assert [one.whole for one in clashes(split.seen, split.hosts, "payments")] == [False]


def test_gateways_join_what_is_for_one_host() -> None:
    """Only in the mesh there can be one object for each host."""
    outside = route("ledger", extra="gateways: [shop]")
    found = Routes(shop(outside + outside.replace("name: ledger}", "name: other}")))
    assert list(clashes(found.seen, found.hosts, "payments")) == []
