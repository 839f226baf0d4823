"""Calls that policy and routes foresee, as connections that NetworkPolicies must permit (checks.md 2.2.5).

Two layers that disagree are found by nobody who looks at one of them: a route that leads where the network leads nobody, an
AuthorizationPolicy that allows a caller whose packets never arrive.
"""

from __future__ import annotations

from collections.abc import Iterator

from pytest_meshready.cluster.snapshot import in_namespace
from pytest_meshready.istio import callgraph, routes
from pytest_meshready.istio.callgraph import Calls
from pytest_meshready.istio.dataplane import DataPlane, dataplane_class
from pytest_meshready.istio.flows import HBONE, Deed, Flow, Survey, incoming, is_behind, outgoing, port_behind, sides_of
from pytest_meshready.istio.hosts import Host
from pytest_meshready.istio.netpolicy import Port, Side
from pytest_meshready.istio.routes import Routes
from pytest_meshready.istio.workloads import Workload
from pytest_meshready.results import Level

#: What `call_flows` reads, besides what a `Survey` does.
READS = (*routes.READS, *callgraph.READS, "gateways", "k8sgateways")

_GATEWAY_NAME = "gateway.networking.k8s.io/gateway-name"
_COST = "its calls end in a time-out"


def call_flows(survey: Survey, found: Routes) -> Iterator[Flow]:
    """From gateways to the workloads behind their routes, and between workloads where AuthorizationPolicies name callers."""
    known = _Behind(survey)
    yield from _entering(survey, known, found)
    yield from _allowed(survey, known, found)


class _Behind:
    """The workloads behind Services of the namespace."""

    def __init__(self, survey: Survey) -> None:
        self._services = {item.metadata.name: item for item in in_namespace(survey.snapshot.services, survey.snapshot.namespace)}
        self._by_label: dict[tuple[str, str], list[tuple[Workload, Side]]] = {}
        for workload, sides in survey.workloads:
            for side in sides:
                for pair in (side.labels or {}).items():
                    self._by_label.setdefault(pair, []).append((workload, side))
        self._known: dict[str, list[tuple[Workload, Side]]] = {}

    def of(self, host: Host) -> list[tuple[Workload, Side]]:
        """The workloads that a host leads to, with the ends of each; none for what is no Service."""
        service = self._services.get(host.ref.name) if host.ref.kind == "Service" else None
        if service is None:
            return []
        if host.ref.name not in self._known:
            near = min((self._by_label.get(pair, []) for pair in (service.spec.selector or {}).items()), key=len, default=[])
            self._known[host.ref.name] = [(item, side) for item, side in near if side.pod and is_behind(service, side.pod)]
        return self._known[host.ref.name]

    def number(self, host: Host, port: int, side: Side) -> int:
        """The port of an end behind a port of a host."""
        service = self._services.get(host.ref.name)
        return port_behind(service, port, side.pod) if service and side.pod else port


def _entering(survey: Survey, known: _Behind, found: Routes) -> Iterator[Flow]:
    for route in found.entering():
        ends = known.of(route.host)
        for gateway in survey.gateways if ends else ():
            if _serves(survey, gateway, route.gateway):
                text = f"gateway {gateway.ref.name} reach {{who}}"
                deed = Deed(code="GATEWAY-TO-APP", level=Level.ERROR, text=text, cost="requests through it end in a time-out")
                for workload, side in ends:
                    number = known.number(route.host, route.port.number, side)
                    yield from _call(survey, deed, workload.ref.name, (sides_of(gateway)[0], side), number)


def _serves(survey: Survey, gateway: Workload, name: str) -> bool:
    """Whether a gateway's pods are those of a Gateway, as ``namespace/name``."""
    namespace, _, own = name.partition("/")
    if gateway.labels.get(_GATEWAY_NAME) == own and gateway.ref.namespace == namespace:
        return True
    for item in survey.snapshot.gateways:
        if (item.metadata.namespace, item.metadata.name) == (namespace, own):
            return bool(item.spec.selector) and item.spec.selector.items() <= gateway.labels.items()
    return False


def _allowed(survey: Survey, known: _Behind, found: Routes) -> Iterator[Flow]:
    calls = Calls(survey.snapshot, found)
    for host, port in found.callable():
        ends = known.of(host)
        for caller in (calls.callers(host, port.number) or ()) if ends else ():
            for other, by in known.of(caller):
                text = f"{other.ref.name} call {{who}}, as AuthorizationPolicies allow"
                deed = Deed(code="CALL", level=Level.WARNING, text=text, cost=_COST)
                for workload, side in ends:
                    yield from _call(survey, deed, workload.ref.name, (by, side), known.number(host, port.number, side))


def _call(survey: Survey, deed: Deed, who: str, ends: tuple[Side, Side], number: int) -> Iterator[Flow]:
    """A call, as both of its ends see it; in ambient mode it arrives on ztunnel's port."""
    caller, called = ends
    tunnelled = survey.ambient and caller.pod is not None and dataplane_class(caller.pod) is not DataPlane.NAKED
    port = Port(number=HBONE if tunnelled else number)
    yield incoming(deed, who, called, [caller], port)
    yield outgoing(deed, who, caller, [called], port)
