"""One rule of a route, in the same words whether an Istio VirtualService or a route of the Gateway API says it.

Only what rules judge is here; how the objects are read into these words stands in `pytest_meshready.istio.virtualservices`
and `pytest_meshready.istio.gatewayapi`.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from pytest_meshready.results import ObjectRef

#: The name of all sidecars together, where a rule names gateways.
MESH = "mesh"


class Layer(enum.StrEnum):
    """What a rule routes."""

    HTTP = "http"
    TLS = "tls"
    TCP = "tcp"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where requests go; ``host`` is a full name, ``port`` None is the port that was called, ``weight`` as effective."""

    host: str
    port: int | None = None
    subset: str = ""
    weight: int = 100

    def __str__(self) -> str:
        port = f":{self.port}" if self.port else ""
        subset = f" subset {self.subset}" if self.subset else ""
        return f"{self.host}{port}{subset}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mirror:
    """Where copies of requests go; ``percent`` 0 sends none."""

    target: Target
    percent: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """What a rule says of retries. ``per_try`` is in seconds, None where each try may last as long as the whole request.

    ``conditions`` are Envoy's words, ``codes`` the status codes; ``conditions`` empty stands for Istio's default list.
    """

    attempts: int
    per_try: float | None = None
    conditions: tuple[str, ...] = ()
    codes: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What a rule breaks on purpose: seconds of delay, a status, and the percentage of requests for each."""

    delay: float | None = None
    delay_percent: float = 0.0
    abort: str = ""
    abort_percent: float = 0.0

    @property
    def active(self) -> bool:
        """Whether any request meets it."""
        return (self.delay is not None and self.delay_percent > 0) or (bool(self.abort) and self.abort_percent > 0)


class PathKind(enum.StrEnum):
    """How a path is compared."""

    ANY = "any"
    PREFIX = "prefix"
    SEPARATED = "path prefix"
    """a prefix that ends at a slash, as the Gateway API has it"""
    EXACT = "exact"
    REGEX = "regex"


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """One alternative of a rule: all of it must hold.

    ``methods`` empty is any method; one that is not exact makes ``method_pattern`` true. ``other`` names conditions whose
    values are not known here, such as headers; ``unless`` those that must not hold.
    """

    path: PathKind = PathKind.ANY
    value: str = ""
    ignore_case: bool = False
    method: str = ""
    method_pattern: bool = False
    authority: str = ""
    port: int = 0
    gateways: tuple[str, ...] = ()
    other: frozenset[str] = frozenset()
    claims: bool = False
    caller: frozenset[tuple[str, str]] = frozenset()
    sni: frozenset[str] = frozenset()
    addresses: frozenset[str] = frozenset()

    @property
    def regexes(self) -> int:
        """How many regular expressions it holds, as far as is known."""
        return int(self.path is PathKind.REGEX) + int(self.method_pattern)

    @property
    def everything(self) -> bool:
        """Whether it matches every request to its port."""
        plain = self.path is PathKind.ANY or (self.path in (PathKind.PREFIX, PathKind.SEPARATED) and self.value in ("", "/"))
        plain = plain or (self.path is PathKind.REGEX and self.value == ".*")
        rest = (self.method, self.method_pattern, self.authority, self.other, self.caller, self.sni, self.addresses)
        return plain and not any(rest)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule of a route.

    Attributes:
        by: the object that says it.
        place: where in the object, for a sentence: ``http[0]``, or its name.
        layer: what it routes.
        matches: the alternatives; none matches everything.
        targets: where requests go; none where they are answered by the proxy itself.
        answered: ``redirect`` or ``direct response``, where the proxy answers.
        timeout: seconds, None where nothing is said, 0 where it is said that there is none.
        retry: None where nothing is said.
        rewrites: whether it changes paths or hosts.
        delegate: the VirtualService that the rule was taken from, where it was delegated.
    """

    by: ObjectRef
    place: str
    layer: Layer
    matches: tuple[Match, ...] = ()
    targets: tuple[Target, ...] = ()
    mirrors: tuple[Mirror, ...] = ()
    answered: str = ""
    timeout: float | None = None
    retry: Retry | None = None
    fault: Fault | None = None
    rewrites: bool = False
    delegate: ObjectRef | None = None

    @property
    def origin(self) -> ObjectRef:
        """The object in which the rule is written."""
        return self.delegate or self.by

    @property
    def weighted(self) -> tuple[Target, ...]:
        """The targets that get requests."""
        return tuple(target for target in self.targets if target.weight > 0)

    def holds_at(self, port: int, gateway: str = MESH) -> bool:
        """Whether any of its alternatives can hold at a port for callers at a gateway (or at the sidecars)."""
        return not self.matches or any(
            match.port in (0, port) and (not match.gateways or gateway in match.gateways) for match in self.matches
        )

    @property
    def methods(self) -> frozenset[str]:
        """The methods that it is limited to; empty where other methods may come, too."""
        if not self.matches or any(not match.method or match.method_pattern for match in self.matches):
            return frozenset()
        return frozenset(match.method for match in self.matches)


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteObject:
    """An object that routes: its hosts in full, the gateways that it is for (`MESH` for sidecars), and its rules in order.

    ``export_to`` names namespaces, ``*`` is all. ``created`` orders objects of one host. ``gateway_api`` tells that its
    routes are first sorted by how specific they are. ``consumer`` limits a mesh route to callers of its own namespace.
    """

    ref: ObjectRef
    hosts: tuple[str, ...]
    gateways: tuple[str, ...]
    rules: tuple[Rule, ...]
    export_to: frozenset[str] = frozenset({"*"})
    created: str = ""
    gateway_api: bool = False
    consumer: bool = False
    ours: bool = False
    lost_delegates: tuple[tuple[str, str], ...] = field(default=())

    @property
    def in_mesh(self) -> bool:
        """Whether it is for sidecars, too."""
        return MESH in self.gateways

    @property
    def outside(self) -> tuple[str, ...]:
        """The gateways it is for, as ``namespace/name``."""
        return tuple(gateway for gateway in self.gateways if gateway != MESH)

    def visible_in(self, namespace: str) -> bool:
        """Whether callers of a namespace get it."""
        if self.consumer and namespace != self.ref.namespace:
            return False
        return "*" in self.export_to or namespace in self.export_to
