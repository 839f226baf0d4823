"""Line 6.2.4: how much there is to understand before one knows where a request goes.

The routes of each service are given points (checks.md 6.2.4). Rules that nothing reaches, and two objects for one host, are
wrong however few there are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from pytest_meshready.cluster.objects import Pod
from pytest_meshready.cluster.snapshot import Snapshot, in_namespace
from pytest_meshready.istio import routes
from pytest_meshready.istio.avoid import concerns
from pytest_meshready.istio.dataplane import RUN_LABEL
from pytest_meshready.istio.deadrules import Clash, Dead, clashes, dead_rules
from pytest_meshready.istio.hosts import Host
from pytest_meshready.istio.routes import Routes, known_routes
from pytest_meshready.istio.rules import RouteObject, Rule
from pytest_meshready.istio.timeouts import edit
from pytest_meshready.istio.workloads import LabelIndex
from pytest_meshready.results import Evidence, Finding, Judgement, Level, ObjectRef

#: What `simple_routing` reads.
READS_624 = tuple(dict.fromkeys((*routes.READS, "envoyfilters", "wasmplugins", "trafficextensions")))

SIMPLE = 5
COMPLEX = 15

_WANTED = f"at most {SIMPLE} points for each service, no rule without effect, one object for each host"


@dataclass(slots=True)
class Points:
    """The points of one service, by what they are for."""

    by_cause: dict[str, int] = field(default_factory=dict)

    def add(self, cause: str, points: int) -> None:
        """Count something; nothing for 0 points."""
        if points:
            self.by_cause[cause] = self.by_cause.get(cause, 0) + points

    @property
    def total(self) -> int:
        """All of them."""
        return sum(self.by_cause.values())

    def __str__(self) -> str:
        return ", ".join(f"{points} for {cause}" for cause, points in sorted(self.by_cause.items(), key=lambda item: -item[1]))


def simple_routing(snapshot: Snapshot) -> Judgement:
    """Line 6.2.4.

    Errors: a service with more than `COMPLEX` points; a rule that nothing reaches; a host of the mesh in two objects, of
    which one is ignored. Warnings: more than `SIMPLE` points; an EnvoyFilter in the namespace. One alternative of a rule
    that nothing reaches is only told.
    """
    unknown = routes.unread(snapshot, "envoyfilters", "wasmplugins", "trafficextensions")
    found = known_routes(snapshot)
    own = [item for item in found.objects if not item.ours and _concerns(item, found, snapshot.namespace)]
    clashing = [one for one in clashes(found.seen, found.hosts, snapshot.namespace) if _is_ours(one, found, snapshot.namespace)]
    hosts = {host.name: host for host, _ in found.callable()}
    points = _scores(found, own, clashing)
    findings = [_dead(item, dead) for item in own for dead in dead_rules(item, found.hosts)]
    findings += [_clash(clash) for clash in clashing]
    findings += [_complex(hosts[name], score) for name, score in points.items() if score.total > SIMPLE]
    findings += list(_filters(snapshot))
    rows = [{"host": name, "points": score.total, "for": str(score)} for name, score in points.items()]
    highest = max((score.total for score in points.values()), default=0)
    nothing = f"namespace {snapshot.namespace} has no Service or ServiceEntry with a port"
    return Judgement(
        summary=f"the routes of {len(hosts)} hosts have at most {highest} points each",
        examined=len(hosts),
        findings=tuple(findings),
        unknown=unknown,
        not_applicable="" if hosts or findings or unknown else nothing,
        evidence=(Evidence(kind="table", source="points of routes", data=rows),) if rows else (),
    )


def _concerns(item: RouteObject, found: Routes, namespace: str) -> bool:
    return item.ref.namespace == namespace or any(concerns(item, rule, found.hosts, namespace) for rule in item.rules)


def _is_ours(clash: Clash, found: Routes, namespace: str) -> bool:
    host = found.hosts.find(clash.host) if not clash.host.startswith("*") else None
    return namespace in (clash.wins.namespace, clash.loses.namespace) or (host is not None and host.namespace == namespace)


# --- points -----------------------------------------------------------------------------------------------------------


def _scores(found: Routes, objects: Iterable[RouteObject], clashing: Iterable[Clash]) -> dict[str, Points]:
    """The points of each host of the namespace."""
    hosts = {host.name: host for host, _ in found.callable()}
    scores = {name: Points() for name in hosts}
    for item in objects:
        for name, rules in _by_host(item).items():
            if name in scores:
                _add_object(scores[name], item, rules)
    for clash in clashing:
        if clash.host in scores:
            scores[clash.host].add("hosts in two objects", 4)
    snapshot = found.snapshot
    filters = [("EnvoyFilters", item.spec.workload_selector) for item in in_namespace(snapshot.envoyfilters, snapshot.namespace)]
    filters += [("plugins", item.spec.selector) for item in in_namespace(snapshot.wasmplugins, snapshot.namespace)]
    filters += [("plugins", item.spec.selector) for item in in_namespace(snapshot.trafficextensions, snapshot.namespace)]
    index = LabelIndex[tuple[str, Mapping[str, str]]]()
    for name, host in hosts.items():
        if host.labels:
            index.add(host.labels, (name, host.labels))
    for cause, selector in filters:
        wanted = {**selector.labels, **selector.match_labels} if selector else {}
        for name in _before_pods(found.pods.select(wanted), index) if wanted else hosts:
            scores[name].add(cause, 5)
    return scores


def _before_pods(pods: Iterable[Pod], index: LabelIndex[tuple[str, Mapping[str, str]]]) -> Iterable[str]:
    """The hosts that lead to one of these pods, each once."""
    found: dict[str, None] = {}
    for labels in {frozenset(pod.metadata.labels.items()): pod.metadata.labels for pod in pods}.values():
        found.update((name, None) for name, selector in index.candidates(labels) if selector.items() <= labels.items())
    return found


def _by_host(item: RouteObject) -> dict[str, list[Rule]]:
    """The rules of an object for each host that it is for, and for each that it leads to."""
    found: dict[str, list[Rule]] = {name: list(item.rules) for name in item.hosts}
    for rule in item.rules:
        for name in dict.fromkeys(target.host for target in rule.targets):
            if name not in item.hosts:
                found.setdefault(name, []).append(rule)
    return found


def _add_object(points: Points, item: RouteObject, rules: list[Rule]) -> None:
    points.add("further rules", max(len(rules) - 1, 0))
    points.add("wildcard hosts", 2 * any(name.startswith("*") and name != "*" for name in item.hosts))
    for rule in rules:
        _add_rule(points, rule)


def _add_rule(points: Points, rule: Rule) -> None:
    points.add("matches", len(rule.matches))
    points.add("regular expressions", 3 * sum(match.regexes for match in rule.matches))
    points.add("headers, parameters and callers", 2 * sum(len(match.other) + bool(match.caller) for match in rule.matches))
    points.add("delegates", 3 * (rule.delegate is not None))
    points.add("rewrites and redirects", 2 * (rule.rewrites + (rule.answered == "redirect")))


# --- findings ---------------------------------------------------------------------------------------------------------


def _complex(host: Host, points: Points) -> Finding:
    return Finding(
        code="MR624-COMPLEX",
        level=Level.ERROR if points.total > COMPLEX else Level.WARNING,
        object=host.ref,
        found=f"the routes of {host.name} have {points.total} points: {points}",
        wanted=_WANTED,
        fix=f"leave out what the rollout does not need yet: kubectl -n {host.namespace} get virtualservices,envoyfilters",
        detail=host.name,
    )


def _dead(item: RouteObject, dead: Dead) -> Finding:
    part = f"alternative {dead.alternative} of " if dead.alternative is not None else ""
    return Finding(
        code="MR624-UNREACHABLE" if dead.alternative is None else "MR624-UNREACHABLE-MATCH",
        level=Level.ERROR if dead.alternative is None else Level.INFO,
        object=dead.rule.origin,
        found=f"nothing reaches {part}{dead.rule.place} for {', '.join(item.hosts[:2])}: {dead.why}",
        wanted=_WANTED,
        fix=f"move it before that rule, or take it out: {edit(dead.rule.origin)}",
        detail=f"{dead.rule.place} {'' if dead.alternative is None else dead.alternative}".strip(),
    )


def _clash(clash: Clash) -> Finding:
    effect = "of this one nothing is used" if clash.whole else "of this one only rules for other ports are used"
    return Finding(
        code="MR624-HOST-TWICE",
        level=Level.ERROR,
        object=clash.loses,
        found=f"host {clash.host} is in {clash.wins}, too, which istiod takes first: {effect}",
        wanted=_WANTED,
        fix=f"join the two into one: {edit(clash.loses)}",
        detail=clash.host,
    )


def _filters(snapshot: Snapshot) -> Iterator[Finding]:
    for item in in_namespace(snapshot.envoyfilters, snapshot.namespace):
        if RUN_LABEL not in item.metadata.labels and snapshot.namespace != snapshot.root_namespace:
            ref = ObjectRef(kind="EnvoyFilter", namespace=item.metadata.namespace, name=item.metadata.name)
            yield Finding(
                code="MR624-ENVOYFILTER",
                level=Level.WARNING,
                object=ref,
                found=f"it patches the configuration of proxies in {len(item.spec.config_patches)} places, past what Istio checks",
                wanted="no EnvoyFilter in the namespace as long as the mesh is being introduced",
                fix=f"do without it, or state in a waiver why not: {edit(ref)}",
            )
