"""What Istio itself says of routes and gateways of the Gateway API, and what can be told where it says nothing.

A route's parent and a gateway's listener carry conditions that istiod writes. From manifests there are none: there a parent,
a backend and the grant that it needs are looked up (checks.md 3.2.4; istioctl's IST0171).
"""

from __future__ import annotations

from collections.abc import Iterable

from pytest_meshready.cluster.objects import Condition
from pytest_meshready.cluster.objects_traffic import BackendRef, ReferenceGrant
from pytest_meshready.cluster.snapshot import Snapshot, in_namespace
from pytest_meshready.istio.gatewayapi import Route, is_gateway, is_service, reference, routes
from pytest_meshready.istio.rulereport import Report
from pytest_meshready.results import Level, ObjectRef

#: What `conditions` reads.
READS = ("httproutes", "grpcroutes", "tlsroutes", "tcproutes", "k8sgateways", "referencegrants")

_CONTROLLER = "istio.io/"
_GROUP = "gateway.networking.k8s.io"
_OF_ROUTE = {
    "Accepted": "Istio does not take it",
    "ResolvedRefs": "Istio cannot resolve what it names, and answers 500 for that part",
}
_OF_GATEWAY = {
    "Accepted": "Istio does not take it",
    "Programmed": "Istio could not set it up",
    "ResolvedRefs": "Istio cannot resolve what it names",
}


def conditions(snapshot: Snapshot) -> Report:
    """Negative conditions of the namespace's routes and gateways, and of routes that lead into it."""
    report = Report()
    gateways = {f"{item.metadata.namespace}/{item.metadata.name}" for item in snapshot.k8sgateways}
    for route in routes(snapshot):
        if route.metadata.namespace == snapshot.namespace or _leads_to(route, snapshot.namespace):
            report.looked_at += 1
            _route(report, route, snapshot, gateways)
    for gateway in in_namespace(snapshot.k8sgateways, snapshot.namespace):
        report.looked_at += 1
        ref = ObjectRef(kind="Gateway", namespace=gateway.metadata.namespace, name=gateway.metadata.name)
        _negative(report, ref, gateway.status.conditions, _OF_GATEWAY, "")
        for listener in gateway.status.listeners:
            _negative(report, ref, listener.conditions, _OF_GATEWAY, f"listener {listener.name}: ")
    return report


def _leads_to(route: Route, namespace: str) -> bool:
    return any(ref.namespace == namespace for rule in route.spec.rules for ref in rule.backend_refs)


def _route(report: Report, route: Route, snapshot: Snapshot, gateways: set[str]) -> None:
    ref = reference(route)
    said = [item for item in route.status.parents if item.controller_name.startswith(_CONTROLLER)]
    for parent in said:
        _negative(report, ref, parent.conditions, _OF_ROUTE, f"for parent {parent.parent_ref.name}: ")
    told = {f"{item.parent_ref.namespace or ref.namespace}/{item.parent_ref.name}" for item in said}
    for asked in route.spec.parent_refs:
        name = f"{asked.namespace or ref.namespace}/{asked.name}"
        if is_gateway(asked) and name not in told and name not in gateways and not snapshot.unread("k8sgateways"):
            report.add(
                ref,
                "PARENT-MISSING",
                Level.ERROR,
                found=f"its parent is Gateway {name}, which does not exist, so its rules hold for nobody",
                wanted="every parent that a route names exists",
                fix=f"correct parentRefs: {_edit(ref)}",
                detail=name,
            )
    for index, rule in enumerate(() if said else route.spec.rules):
        for backend in rule.backend_refs:
            _granted(report, ref, f"rules[{index}]", backend, snapshot)


def _granted(report: Report, ref: ObjectRef, place: str, backend: BackendRef, snapshot: Snapshot) -> None:
    """A backend in the namespace, asked for from another one, needs a grant there."""
    if backend.namespace in (None, ref.namespace) or backend.namespace != snapshot.namespace or not is_service(backend):
        return
    if snapshot.unread("referencegrants"):
        report.ask(snapshot.unread("referencegrants")[0])
    elif not _has_grant(in_namespace(snapshot.referencegrants, snapshot.namespace), ref, backend):
        report.add(
            ref,
            "NOT-GRANTED",
            Level.ERROR,
            found=f"{place} sends requests to {backend.namespace}/Service/{backend.name} without a ReferenceGrant there: they get 500",
            wanted="a ReferenceGrant where a route names a backend of another namespace",
            fix=f"add one in the backend's namespace: kubectl -n {backend.namespace} get referencegrants",
            detail=f"{place} {backend.name}",
        )


def _has_grant(grants: Iterable[ReferenceGrant], ref: ObjectRef, backend: BackendRef) -> bool:
    return any(
        any(one.group == _GROUP and one.kind == ref.kind and one.namespace == ref.namespace for one in grant.spec.from_)
        and any(one.group == "" and one.kind == "Service" and one.name in (None, backend.name) for one in grant.spec.to)
        for grant in grants
    )


def _negative(report: Report, ref: ObjectRef, found: Iterable[Condition], bad: dict[str, str], where: str) -> None:
    for condition in found:
        if condition.status == "False" and condition.type in bad:
            report.add(
                ref,
                "CONDITION",
                Level.ERROR,
                found=f"{where}{bad[condition.type]} (condition {condition.type} is False, reason {condition.reason or 'unknown'})",
                wanted="Accepted, ResolvedRefs and Programmed are true",
                fix=f"see what is missing: kubectl -n {ref.namespace} describe {_kind(ref)} {ref.name}",
                detail=f"{where}{condition.type}",
            )


def _kind(ref: ObjectRef) -> str:
    return f"gateways.{_GROUP}" if ref.kind == "Gateway" else ref.kind.lower()


def _edit(ref: ObjectRef) -> str:
    return f"kubectl -n {ref.namespace} edit {_kind(ref)} {ref.name}"
