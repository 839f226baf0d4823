"""Rules that no request ever reaches: behind one that takes everything, behind the same one again, for ports that are not there.

Routes of an object are tried in order and the first that matches wins, so a rule is dead where an earlier one covers each of
its alternatives (istioctl's IST0130 and IST0131). The Gateway API sorts by how specific a match is: there only equal ones
collide. Of two objects for one host of the mesh, istiod uses the older alone (IST0109); at gateways it joins them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from pytest_meshready.istio.hosts import Hosts, matches
from pytest_meshready.istio.rules import MESH, Layer, Match, PathKind, RouteObject, Rule
from pytest_meshready.results import ObjectRef


@dataclass(frozen=True, slots=True, kw_only=True)
class Dead:
    """A rule, or one alternative of it (``alternative`` counts from 0), that nothing reaches, and why as a clause."""

    rule: Rule
    why: str
    alternative: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Clash:
    """Two objects for one host of the mesh. ``wins`` is used; ``whole`` tells that nothing of the other is."""

    host: str
    wins: ObjectRef
    loses: ObjectRef
    whole: bool


def dead_rules(item: RouteObject, hosts: Hosts) -> Iterator[Dead]:
    """The dead rules of one object, in order."""
    before: dict[Layer, list[Rule]] = {}
    ports = _ports(item, hosts)
    for rule in item.rules:
        earlier = before.setdefault(rule.layer, [])
        yield from _behind(rule, earlier, in_order=not item.gateway_api)
        if ports is not None and rule.matches and all(match.port and match.port not in ports for match in rule.matches):
            numbers = ", ".join(sorted({str(match.port) for match in rule.matches}))
            yield Dead(rule=rule, why=f"it is for port {numbers}, and its hosts have only {', '.join(map(str, sorted(ports)))}")
        earlier.append(rule)


def _ports(item: RouteObject, hosts: Hosts) -> frozenset[int] | None:
    """All ports that the hosts have; None where not every host is known, or gateways may bring other ports."""
    if item.outside or any(name.startswith("*") for name in item.hosts):
        return None
    found = [hosts.find(name) for name in item.hosts]
    return None if not found or None in found else frozenset(port.number for host in found if host for port in host.ports)


def _behind(rule: Rule, earlier: Sequence[Rule], *, in_order: bool) -> Iterator[Dead]:
    alternatives = rule.matches or (Match(),)
    hidden: list[tuple[int, Rule]] = []
    for index, match in enumerate(alternatives):
        by = next((other for other in earlier for one in other.matches or (Match(),) if _hides(one, match, in_order=in_order)), None)
        if by is not None:
            hidden.append((index, by))
    if len(hidden) == len(alternatives):
        yield Dead(rule=rule, why=f"{hidden[0][1].place} before it takes all of its requests")
        return
    for index, by in hidden:
        yield Dead(rule=rule, why=f"{by.place} before it takes all of its requests", alternative=index)


def _hides(one: Match, later: Match, *, in_order: bool) -> bool:
    return covers(one, later) if in_order else (one == later and not one.other)


def covers(one: Match, later: Match) -> bool:
    """Whether every request that ``later`` matches is matched by ``one``; conditions of unknown value cover nothing."""
    if one.other or (one.port and one.port != later.port):
        return False
    if one.gateways and not (later.gateways and set(later.gateways) <= set(one.gateways)):
        return False
    if one.method and (one.method, one.method_pattern) != (later.method, later.method_pattern):
        return False
    if (one.authority and one.authority != later.authority) or not one.caller <= later.caller:
        return False
    if (one.addresses and one.addresses != later.addresses) or not _covers_names(one.sni, later.sni):
        return False
    return _covers_path(one, later)


def _covers_names(one: frozenset[str], later: frozenset[str]) -> bool:
    return not one or (bool(later) and all(any(matches(pattern, name) for pattern in one) for name in later))


def _covers_path(one: Match, later: Match) -> bool:
    if one.path is PathKind.ANY or (one.path in (PathKind.PREFIX, PathKind.SEPARATED) and one.value in ("", "/")):
        return True
    if one.path is PathKind.REGEX:
        return one.value == ".*" or (later.path is PathKind.REGEX and one.value == later.value)
    if later.path in (PathKind.ANY, PathKind.REGEX) or (later.ignore_case and not one.ignore_case):
        return False
    mine, other = (one.value.lower(), later.value.lower()) if one.ignore_case else (one.value, later.value)
    if one.path is PathKind.EXACT:
        return later.path is PathKind.EXACT and mine == other
    if one.path is PathKind.PREFIX:
        return other.startswith(mine)
    return other == mine or other.startswith(f"{mine.rstrip('/')}/")


def clashes(objects: Iterable[RouteObject], hosts: Hosts, namespace: str) -> Iterator[Clash]:
    """Objects for the same host of the mesh, as callers in a namespace see them; in the order in which istiod takes them."""
    by_host: dict[str, list[RouteObject]] = {}
    for item in objects:
        for name in dict.fromkeys(item.hosts) if item.in_mesh and item.visible_in(namespace) else ():
            by_host.setdefault(name, []).append(item)
    for name, found in by_host.items():
        for index, later in enumerate(found):
            first = next((item for item in found[:index] if item.ref != later.ref), None)
            if first is not None and not (first.gateway_api and later.gateway_api):
                yield Clash(host=name, wins=first.ref, loses=later.ref, whole=not _left(first, later, name, hosts))


def _left(first: RouteObject, later: RouteObject, name: str, hosts: Hosts) -> bool:
    """Whether the later object still answers at a port for which the first has no rule."""
    host = hosts.find(name)
    if host is None:
        return False
    return any(
        rule.holds_at(port.number) and not any(other.layer is rule.layer and other.holds_at(port.number) for other in first.rules)
        for rule in later.rules
        if not rule.matches or any(not match.gateways or MESH in match.gateways for match in rule.matches)
        for port in host.ports
    )
