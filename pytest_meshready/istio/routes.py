"""The effective route of each host and port: which rule answers a request of a caller, with which timeout and retries.

Reproduced from istiod for callers in the namespace of the run: which VirtualServices a sidecar sees (exportTo, Sidecar), in
which order (SelectVirtualServices: private ones, exported ones, public ones, each the oldest first), the host that fits best
(computeWildcardHostVirtualServiceIndex), rules in order up to the first that matches everything, and the defaults
(BuildDefaultHTTPOutboundRoute, retry.ConvertPolicy). Callers with a Sidecar of their own are taken together with the rest.
Assumed is Istio's default for ``meshConfig.defaultVirtualServiceExportTo``: everywhere.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pytest_meshready.cluster.objects_traffic import Sidecar
from pytest_meshready.cluster.snapshot import Snapshot, in_namespace
from pytest_meshready.istio import gatewayapi, hosts, virtualservices
from pytest_meshready.istio.dataplane import RUN_LABEL, DataPlane, dataplane_class
from pytest_meshready.istio.durations import seconds
from pytest_meshready.istio.hosts import EVERYWHERE, HERE, Host, HostPort, Hosts
from pytest_meshready.istio.once import once
from pytest_meshready.istio.podindex import PodIndex
from pytest_meshready.istio.rules import MESH, Layer, Retry, RouteObject, Rule
from pytest_meshready.istio.virtualservices import retry_on
from pytest_meshready.istio.waypoints import Waypoints
from pytest_meshready.results import ObjectRef, Unknown

#: What `Routes` reads; the mesh configuration says how requests without a rule are retried.
READS = (*hosts.READS, "virtualservices", "sidecars", "configmaps", *gatewayapi.READS)

#: Istio's own list of what is retried (pilot/pkg/networking/core/route/retry); up to 1.23 with status 503.
DEFAULT_CONDITIONS = ("connect-failure", "refused-stream", "unavailable", "cancelled", "retriable-status-codes")
DEFAULT_ATTEMPTS = 2
_LAST_WITH_503 = 23
_MINOR = re.compile(r"1\.(\d+)")

#: The label of Services that Istio makes for gateways of the Gateway API.
MANAGED = "gateway.istio.io/managed"

_PRIVATE, _EXPORTED, _PUBLIC = range(3)


class Origin(enum.StrEnum):
    """Who decides the retries of a route."""

    RULE = "its rule"
    MESH = "meshConfig.defaultHttpRetryPolicy"
    ISTIO = "Istio's default"
    ZTUNNEL = "nobody: ztunnel reads no requests"


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """What happens to requests of some callers to a port of a host: one rule, or Istio's default where there is none.

    Attributes:
        host: what is called.
        port: its port.
        gateway: through which gateway; `MESH` for callers with a sidecar.
        rule: the rule, None where the default route answers.
        timeout: seconds, 0 for none.
        retry: what is retried, with Istio's defaults filled in; no attempts where retries are off.
        origin: who decides the retries.
    """

    host: Host
    port: HostPort
    gateway: str
    rule: Rule | None
    timeout: float
    retry: Retry
    origin: Origin

    @property
    def tries(self) -> int:
        """How often one request may be sent at most."""
        return 1 + self.retry.attempts

    @property
    def called(self) -> str:
        """The call, for a sentence: ``ledger:8080``, through which gateway."""
        name = self.host.ref.name if self.host.ref.kind == "Service" else self.host.name
        return f"{name}:{self.port.number}" + ("" if self.gateway == MESH else f" through gateway {self.gateway}")


class Scope:
    """What the sidecars of a namespace see, by its Sidecar or the root namespace's; without one, everything."""

    def __init__(self, snapshot: Snapshot, client: str) -> None:
        own = in_namespace(snapshot.sidecars, client)
        wide = [item for item in own if not _selects(item)] or [
            item for item in in_namespace(snapshot.sidecars, snapshot.root_namespace) if not _selects(item)
        ]
        chosen = min(wide, key=lambda item: (item.metadata.creation_timestamp or "", item.metadata.name), default=None)
        listeners = [listener for item in (chosen,) if item for listener in item.spec.egress]
        self.sidecar = chosen
        self._client = client
        self._open = chosen is None or not chosen.spec.egress
        if chosen is not None:  # workloads with a Sidecar of their own may see more
            listeners += [listener for item in own if _selects(item) for listener in item.spec.egress]
            self._open = self._open or any(_selects(item) and not item.spec.egress for item in own)
        self._hosts = tuple(dict.fromkeys(word.partition("/")[::2] for listener in listeners for word in listener.hosts))

    def sees(self, namespace: str, names: Iterable[str]) -> bool:
        """Whether an object of a namespace with these hosts is seen."""
        if self._open:
            return True
        every = tuple(names)
        return any(
            where in (EVERYWHERE, namespace) or (where == HERE and namespace == self._client)
            for where, pattern in self._hosts
            if any(hosts.overlap(pattern or EVERYWHERE, name) for name in every)
        )


def _selects(item: Sidecar) -> bool:
    return item.spec.workload_selector is not None and bool(item.spec.workload_selector.labels)


@once
def known_routes(snapshot: Snapshot) -> Routes:
    """The routes of a snapshot; the lines that ask for the same one share the answer."""
    return Routes(snapshot)


class Routes:
    """Every route of a snapshot, for callers in the namespace of the run."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.hosts = Hosts(snapshot)
        self.scope = Scope(snapshot, snapshot.namespace)
        #: Everything that routes, in the cluster.
        self.objects: tuple[RouteObject, ...] = (
            *virtualservices.route_objects(snapshot.virtualservices, self.hosts),
            *gatewayapi.route_objects(snapshot, self.hosts),
        )
        self.pods = PodIndex(snapshot, snapshot.namespace)
        self.waypoints = Waypoints(snapshot)
        self._left_out = _not_applications(snapshot, self.pods)
        self._default, self._default_origin = default_retry(snapshot)
        seen = [item for item in self.objects if item.in_mesh and item.visible_in(snapshot.namespace) and self._in_scope(item)]
        seen.sort(key=lambda item: (_place(item, snapshot.namespace), item.created, item.ref.name, item.ref.namespace))
        #: What sidecars of the namespace get, in the order in which istiod takes it.
        self.seen = tuple(seen)
        self._exact: dict[str, list[RouteObject]] = {}
        self._wild: dict[str, list[RouteObject]] = {}
        for item in seen:
            for name in dict.fromkeys(item.hosts):
                (self._wild if name.startswith("*") else self._exact).setdefault(name, []).append(item)

    def _in_scope(self, item: RouteObject) -> bool:
        return self.scope.sees(item.ref.namespace, item.hosts)

    def callable(self) -> tuple[tuple[Host, HostPort], ...]:
        """Every port that belongs to the namespace: of its Services, and of ServiceEntries that it made."""
        own = [host for host in self.hosts.all if host.namespace == self.snapshot.namespace and not host.external_name]
        return tuple((host, port) for host in own if host.ref not in self._left_out for port in host.ports)

    def objects_of(self, name: str) -> tuple[RouteObject, ...]:
        """What routes requests of sidecars to a host, the one that istiod prefers first: those of the very name, then wildcards."""
        found = list(self._exact.get(name, ()))
        covering = sorted((pattern for pattern in self._wild if hosts.matches(pattern, name)), key=len, reverse=True)
        return tuple(dict.fromkeys([*found, *(item for pattern in covering for item in self._wild[pattern])]))

    def mesh(self, host: Host, port: HostPort) -> tuple[Route, ...]:
        """The rules for callers with a sidecar in the namespace, in order; one default route where no rule is for the port.

        Empty where these callers do not see the host at all. In an ambient namespace the rules hold at the waypoint of the
        host; without one, no rule does.
        """
        if not host.visible_in(self.snapshot.namespace) or not self.scope.sees(host.namespace, (host.name,)):
            return ()
        if self.waypoints.absent(host.ref):
            nothing = Retry(attempts=0)
            return (Route(host=host, port=port, gateway=MESH, rule=None, timeout=0.0, retry=nothing, origin=Origin.ZTUNNEL),)
        for item in self.objects_of(host.name):
            rules = reachable([rule for rule in item.rules if rule.layer is Layer.HTTP and rule.holds_at(port.number)], port.number)
            if rules:
                return tuple(self.route(host, port, MESH, rule) for rule in rules)
        return (self.route(host, port, MESH, None),)

    def entering(self) -> tuple[Route, ...]:
        """The rules of gateways whose requests come to the namespace, each with the host that they come to."""
        found: list[Route] = []
        for item in self.objects:
            for rule in item.rules:
                for target in rule.weighted if rule.layer is Layer.HTTP else ():
                    host = self.hosts.find(target.host)
                    port = self.port_of(host, target.port) if host else None
                    if host is None or port is None or host.namespace != self.snapshot.namespace:
                        continue
                    gateways = [name for name in item.outside if _bound(rule, name)]
                    found += [self.route(host, port, name, rule) for name in gateways]
        return tuple(found)

    def port_of(self, host: Host, number: int | None) -> HostPort | None:
        """The port that a target means; without a number, the only one."""
        if number is None:
            return host.ports[0] if len(host.ports) == 1 else None
        return host.port(number)

    def route(self, host: Host, port: HostPort, gateway: str, rule: Rule | None) -> Route:
        """A rule with the defaults filled in."""
        said = rule.retry if rule else None
        if said is None:
            retry, origin = self._default, self._default_origin
        else:
            conditions = said.conditions if said.conditions or said.codes else default_conditions(self.snapshot)[0]
            codes = said.codes if said.conditions or said.codes else default_conditions(self.snapshot)[1]
            retry = Retry(attempts=said.attempts, per_try=said.per_try, conditions=conditions, codes=codes)
            origin = Origin.RULE
        return Route(host=host, port=port, gateway=gateway, rule=rule, timeout=(rule and rule.timeout) or 0.0, retry=retry, origin=origin)

    def unknown(self) -> tuple[Unknown, ...]:
        """What keeps routes from being known."""
        return unread(self.snapshot)


def unread(snapshot: Snapshot, *more: str) -> tuple[Unknown, ...]:
    """What was not read of what decides routes in the namespace of the run, and of ``more`` kinds."""
    where = ("", snapshot.namespace, snapshot.root_namespace)
    keys = [key for key in dict.fromkeys((*READS, *more)) if key != "configmaps"]
    found = [item for item in snapshot.unread(*keys) if item.namespace in where]
    if snapshot.mesh is None:  # of ConfigMaps only the mesh configuration matters here
        missing = Unknown(reason="the mesh configuration is not known, and with it how requests are retried")
        found += snapshot.unread("configmaps") or (missing,)
    return tuple(found)


def reachable(rules: Iterable[Rule], port: int, gateway: str = MESH) -> list[Rule]:
    """The rules in order, up to the first that takes everything that is left."""
    found: list[Rule] = []
    for rule in rules:
        found.append(rule)
        if not rule.matches or any(
            match.everything and match.port in (0, port) and (not match.gateways or gateway in match.gateways) for match in rule.matches
        ):
            break
    return found


def default_conditions(snapshot: Snapshot) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """What Istio of this version retries where nothing is said: up to 1.23 status 503, too."""
    minor = _MINOR.match(snapshot.istio_version)
    return DEFAULT_CONDITIONS, (503,) if minor and int(minor.group(1)) <= _LAST_WITH_503 else ()


def default_retry(snapshot: Snapshot) -> tuple[Retry, Origin]:
    """How requests without a rule of their own are retried."""
    conditions, codes = default_conditions(snapshot)
    policy: Mapping[str, Any] | None = snapshot.mesh.default_http_retry_policy if snapshot.mesh else None
    if not isinstance(policy, Mapping):
        return Retry(attempts=DEFAULT_ATTEMPTS, conditions=conditions, codes=codes), Origin.ISTIO
    attempts, text = policy.get("attempts"), policy.get("retryOn")
    if isinstance(text, str) and text:
        conditions, codes = retry_on(text)
    number = attempts if isinstance(attempts, int) and attempts > 0 else 0
    return Retry(attempts=number, per_try=seconds(policy.get("perTryTimeout")), conditions=conditions, codes=codes), Origin.MESH


def _not_applications(snapshot: Snapshot, pods: PodIndex) -> frozenset[ObjectRef]:
    """The Services of the namespace that lead to gateways and waypoints, and those of a run of ours."""
    gateways = [pod.metadata.labels for pod in pods.all if dataplane_class(pod) in (DataPlane.GATEWAY, DataPlane.WAYPOINT)]
    return frozenset(
        ObjectRef(kind="Service", namespace=item.metadata.namespace, name=item.metadata.name)
        for item in in_namespace(snapshot.services, snapshot.namespace)
        if MANAGED in item.metadata.labels
        or RUN_LABEL in item.metadata.labels
        or (item.spec.selector and any(item.spec.selector.items() <= labels.items() for labels in gateways))
    )


def _place(item: RouteObject, client: str) -> int:
    """Where istiod puts it in the order: private to the callers' namespace, exported to it, or public."""
    if "*" in item.export_to:
        return _PUBLIC
    return _PRIVATE if item.ref.namespace == client else _EXPORTED


def _bound(rule: Rule, gateway: str) -> bool:
    return not rule.matches or any(not match.gateways or gateway in match.gateways for match in rule.matches)
