"""The ways into the run's namespace: which Gateways lead there, and which pods serve them. Line 3.1.3 (checks.md 3.1.3).

Istio's Gateway selects pods of any namespace by labels; the Gateway API's gets pods of its own. A run reads pods in its own, the
control plane's and the root namespace, and where ``gateway_namespaces`` of the settings says: a gateway elsewhere is unknown,
not absent.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pytest_meshready.cluster.objects import HorizontalPodAutoscaler, Service
from pytest_meshready.cluster.objects_entry import Gateway, VirtualService
from pytest_meshready.cluster.objects_traffic import GRPCRoute, HTTPRoute, K8sGateway, TCPRoute, TLSRoute
from pytest_meshready.cluster.snapshot import Snapshot, in_namespace
from pytest_meshready.istio import components
from pytest_meshready.istio.components import held_namespaces
from pytest_meshready.istio.dataplane import DataPlane, dataplane_class, placeholder
from pytest_meshready.istio.moments import ago, moment, now_of
from pytest_meshready.istio.namespaces import unread_in
from pytest_meshready.istio.policy import label_sets
from pytest_meshready.istio.rules import MESH
from pytest_meshready.istio.virtualservices import gateway_name
from pytest_meshready.istio.wording import shortened
from pytest_meshready.istio.workloads import READS as WORKLOADS
from pytest_meshready.istio.workloads import Workload, is_ready, pod_names
from pytest_meshready.results import Evidence, Finding, Judgement, Level, ObjectRef, Unknown

#: What tells which Gateways lead into a namespace.
ROUTES = ("gateways", "virtualservices", "k8sgateways", "httproutes", "grpcroutes", "tlsroutes", "tcproutes")

#: What `Ways` reads; `Ways.nothing` looks at Ingresses, too, where no Gateway leads in.
READS = (*components.READS, *ROUTES)

#: What `gateway_installed` reads.
READS_313 = (*READS, "services", "horizontalpodautoscalers")

#: Seconds after which a load balancer should have an address.
PENDING = 600

GATEWAY_NAME = "gateway.networking.k8s.io/gateway-name"
_WAYPOINTS = frozenset({"istio-waypoint", "istio-agentgateway-waypoint"})
_EGRESS = frozenset({"egressgateway", "istio-egressgateway"})

K8sRoute = HTTPRoute | GRPCRoute | TLSRoute | TCPRoute


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """A Gateway that leads into the namespace, Istio's (``istio``) or the Gateway API's, and the workloads that serve it."""

    ref: ObjectRef
    istio: Gateway | None = None
    kubernetes: K8sGateway | None = None
    workloads: tuple[Workload, ...] = ()

    @property
    def command(self) -> str:
        """How to change it; the two kinds have one name."""
        resource = "gateways.networking.istio.io" if self.istio is not None else "gateways.gateway.networking.k8s.io"
        return f"kubectl -n {self.ref.namespace} edit {resource} {self.ref.name}"


class Ways:
    """Every way into the run's namespace that a snapshot shows."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self.all_gateways = tuple(item for item in components.gateways(snapshot) if not _is_waypoint(item))
        named = {*_named_by_istio(snapshot), *_named_by_routes(snapshot)}
        own = snapshot.namespace
        self.found = tuple(
            way for way in (*self._istio(), *self._kubernetes()) if way.ref.namespace == own or (way.ref.namespace, way.ref.name) in named
        )
        known = {(way.ref.namespace, way.ref.name) for way in self.found}
        self.missing = tuple(sorted(_named_by_istio(snapshot) - known))

    @property
    def workloads(self) -> tuple[Workload, ...]:
        """The gateways that serve the namespace; without any Gateway object, whatever gateways there are for ingress."""
        serving = {workload.ref: workload for way in self.found for workload in way.workloads}
        if self.found:
            return tuple(serving.values())
        return tuple(workload for workload in self.all_gateways if not _is_egress(workload))

    @property
    def unread(self) -> tuple[Unknown, ...]:
        """Why there may be more ways than these."""
        return self._snapshot.unread(*ROUTES)

    @property
    def nothing(self) -> Judgement | None:
        """What lines about ingress say where no Gateway leads in: that they do not apply, or that an Ingress does; else None."""
        if self.found or self.missing or self.unread:
            return None
        namespace, looked = self._snapshot.namespace, len(self.all_gateways)
        if unread := unread_in(self._snapshot, namespace, "ingresses"):
            return Judgement(unknown=unread)
        names = shortened(item.metadata.name for item in in_namespace(self._snapshot.ingresses, namespace))
        if names:
            why = f"what enters namespace {namespace} by Ingress {names} passes no Gateway: what its controller does is not looked at"
            return Judgement(unknown=(Unknown(reason=why),))
        return Judgement(not_applicable=f"no Gateway leads into namespace {namespace}", examined=looked)

    def services(self, workload: Workload) -> list[Service]:
        """The Services in front of a workload."""
        sets = label_sets(workload)
        return [
            service
            for service in self._snapshot.services
            if service.metadata.namespace == workload.ref.namespace
            and service.spec.selector
            and any(service.spec.selector.items() <= labels.items() for labels in sets)
        ]

    def unserved(self) -> Iterator[Way]:
        """The Gateways of Istio whose pods are not among those that were read."""
        return (way for way in self.found if way.istio is not None and not way.workloads)

    def elsewhere(self) -> Unknown:
        """That gateways may run where nothing was read."""
        held = ", ".join(held_namespaces(self._snapshot))
        return Unknown(
            reason=f"no gateway was found in {held}; if it runs in another namespace, name that in meshready.toml: gateway_namespaces"
        )

    def _istio(self) -> Iterator[Way]:
        sets = [(workload, label_sets(workload)) for workload in self.all_gateways]
        for item in self._snapshot.gateways:
            selector = item.spec.selector
            if _EGRESS & set(selector.values()):
                continue  # a way out
            serving = tuple(workload for workload, labels in sets if any(selector.items() <= own.items() for own in labels))
            yield Way(ref=_ref(item), istio=item, workloads=serving)

    def _kubernetes(self) -> Iterator[Way]:
        for item in self._snapshot.k8sgateways:
            if item.spec.gateway_class_name in _WAYPOINTS:
                continue
            serving = tuple(
                workload
                for workload in self.all_gateways
                if workload.ref.namespace == item.metadata.namespace and workload.labels.get(GATEWAY_NAME) == item.metadata.name
            )
            yield Way(ref=_ref(item), kubernetes=item, workloads=serving)


def gateway_installed(snapshot: Snapshot) -> Judgement:
    """Line 3.1.3, what the objects say: a gateway that serves the namespace is there, ready, and can be reached.

    Errors: no pod of it is ready; a Gateway that selects no pods, where the namespaces of gateways were named; a Gateway of the
    Gateway API that its controller does not accept or program; a load balancer without an address for ten minutes. Warnings: one
    replica; a pod that waits for the injector; a port that no Service in front opens; no Service. Informations: several Services
    in front; a gateway in the root namespace.
    """
    ways = Ways(snapshot)
    findings: list[Finding] = []
    for workload in ways.workloads:
        findings += _of_workload(snapshot, ways, workload)
    for way in ways.found:
        findings += _of_way(ways, way, deployed=snapshot.is_deployed)
    unknown = [*ways.unread, *snapshot.unread(*(key for key in READS_313 if key not in ROUTES))]
    lost = [] if snapshot.unread(*WORKLOADS) else list(ways.unserved())
    if snapshot.gateway_namespaces:
        findings += [_selects_nothing(snapshot, way, Level.ERROR) for way in lost]
    elif lost:
        findings += [_selects_nothing(snapshot, way, Level.WARNING) for way in lost]
        unknown.append(ways.elsewhere())
    elif not ways.workloads and not any(way.kubernetes for way in ways.found):
        unknown.append(ways.elsewhere())
    served = ways.workloads
    return Judgement(
        summary=f"{shortened(str(item.ref) for item in served) or 'the gateway'}: ready, and reached through a Service",
        examined=len(served) + len(ways.found),
        findings=tuple(findings),
        unknown=tuple(dict.fromkeys(unknown)),
        evidence=(Evidence(kind="table", source="Gateways", data=[_row(ways, way) for way in ways.found]),),
    )


def _row(ways: Ways, way: Way) -> dict[str, str]:
    services = dict.fromkeys(service.metadata.name for workload in way.workloads for service in ways.services(workload))
    return {"gateway": str(way.ref), "served by": ", ".join(str(item.ref) for item in way.workloads), "services": ", ".join(services)}


# --- who leads where --------------------------------------------------------------------------------------------------


def _ref(item: Gateway | K8sGateway) -> ObjectRef:
    return ObjectRef(kind="Gateway", namespace=item.metadata.namespace, name=item.metadata.name)


def _named_by_istio(snapshot: Snapshot) -> set[tuple[str, str]]:
    """The Gateways by which VirtualServices lead to Services of the namespace, also where they delegate to others that do."""
    parts = {(item.metadata.namespace, item.metadata.name): item for item in snapshot.virtualservices if not item.spec.hosts}
    found: set[tuple[str, str]] = set()
    for route in snapshot.virtualservices:
        own = route.metadata.namespace
        to = [item.delegate for item in route.spec.http if item.delegate is not None]
        delegated = [part for item in to if (part := parts.get((item.namespace or own, item.name))) is not None]
        if any(_leads_to(item, snapshot.namespace) for item in (route, *delegated)):
            names = (gateway_name(name, own).partition("/") for name in route.spec.gateways if name != MESH)
            found |= {(place, short) for place, _, short in names}
    return found


def _leads_to(route: VirtualService, namespace: str) -> bool:
    own = route.metadata.namespace
    return own == namespace or any(_is_in(host, own, namespace) for host in _hosts(route))


def _hosts(route: VirtualService) -> Iterator[str]:
    led = [*(item.route for item in route.spec.http), *(item.route for item in (*route.spec.tls, *route.spec.tcp))]
    yield from (item.destination.host for each in led for item in each)


def _is_in(host: str, place: str, namespace: str) -> bool:
    """Whether a destination is a Service of a namespace; a short name is one of the route's own namespace."""
    words = host.split(".")
    if len(words) == 1:
        return place == namespace
    return words[1] == namespace and (len(words) == 2 or words[2] == "svc")


def _named_by_routes(snapshot: Snapshot) -> set[tuple[str, str]]:
    """The Gateways by which routes of the Gateway API lead to Services of the namespace."""
    found: set[tuple[str, str]] = set()
    routes: Iterable[K8sRoute] = (*snapshot.httproutes, *snapshot.grpcroutes, *snapshot.tlsroutes, *snapshot.tcproutes)
    for route in routes:
        place = route.metadata.namespace
        backends = (backend for rule in route.spec.rules for backend in rule.backend_refs)
        if place != snapshot.namespace and not any((item.namespace or place) == snapshot.namespace for item in backends):
            continue
        found |= {(parent.namespace or place, parent.name) for parent in route.spec.parent_refs if parent.kind in (None, "Gateway")}
    return found


def _is_waypoint(workload: Workload) -> bool:
    return any(dataplane_class(pod) is DataPlane.WAYPOINT for pod in workload.pods[:1]) or (
        workload.labels.get("gateway.networking.k8s.io/gateway-class-name") in _WAYPOINTS
    )


def _is_egress(workload: Workload) -> bool:
    return bool({workload.labels.get("istio", ""), workload.labels.get("app", "")} & _EGRESS)


# --- what is wrong ----------------------------------------------------------------------------------------------------


def _of_workload(snapshot: Snapshot, ways: Ways, workload: Workload) -> Iterator[Finding]:
    ready = [pod for pod in workload.pods if is_ready(pod)]
    see = f"kubectl -n {workload.ref.namespace} get pods -o wide"
    if not ready and not unread_in(snapshot, workload.ref.namespace, "pods"):
        yield _about(
            workload,
            "NOT-READY",
            Level.ERROR,
            found=f"none of its {len(workload.pods)} pods is ready, so nothing enters through it",
            wanted="two ready pods or more",
            fix=f"see why: {see}",
        )
    if waiting := [pod for pod in workload.pods if placeholder(pod)]:
        yield _about(
            workload,
            "NOT-INJECTED",
            Level.WARNING,
            found=f"its image is still auto, because no injector filled it in: {pod_names(waiting)}",
            wanted="a namespace that is injected, and the annotation inject.istio.io/templates: gateway",
            fix=f"kubectl get namespace {workload.ref.namespace} --show-labels; then kubectl -n {workload.ref.namespace} "
            f"rollout restart {workload.kind.lower()} {workload.ref.name}",
        )
    if workload.kind != "DaemonSet":
        yield from _single(snapshot, workload)
    if workload.ref.namespace == snapshot.root_namespace:
        yield _about(
            workload,
            "ROOT-NAMESPACE",
            Level.INFO,
            found=f"it runs in the root namespace {snapshot.root_namespace}, beside istiod: who may change it may change the mesh",
            wanted="a namespace of its own for gateways",
            fix="move it when it is installed anew (Istio's guide: Installing Gateways)",
        )
    yield from _fronting(snapshot, workload, ways.services(workload))


def _single(snapshot: Snapshot, workload: Workload) -> Iterator[Finding]:
    scaler = next((item for item in snapshot.horizontalpodautoscalers if _scales(item, workload)), None)
    minimum = None if scaler is None else (1 if scaler.spec.min_replicas is None else scaler.spec.min_replicas)
    if workload.replicas >= 2 and (minimum is None or minimum >= 2):
        return
    now = f"it has {workload.replicas} replica{'' if workload.replicas == 1 else 's'}"
    scaled = "" if scaler is None else f", and its autoscaler {scaler.metadata.name} may go down to {minimum}"
    yield _about(
        workload,
        "SINGLE",
        Level.WARNING,
        found=f"{now}{scaled}: its restart interrupts everything that enters",
        wanted="two replicas or more",
        fix=f"kubectl -n {workload.ref.namespace} scale {workload.kind.lower()} {workload.ref.name} --replicas=2"
        if scaler is None
        else f'kubectl -n {workload.ref.namespace} patch hpa {scaler.metadata.name} -p \'{{"spec": {{"minReplicas": 2}}}}\'',
    )


def _scales(scaler: HorizontalPodAutoscaler, workload: Workload) -> bool:
    target = scaler.spec.scale_target_ref
    return scaler.metadata.namespace == workload.ref.namespace and (target.kind, target.name) == (workload.kind, workload.ref.name)


def _fronting(snapshot: Snapshot, workload: Workload, services: list[Service]) -> Iterator[Finding]:
    """The Services in front of a gateway."""
    if not services and not unread_in(snapshot, workload.ref.namespace, "services"):
        direct = any(port.host_port for container in workload.template.spec.containers for port in container.ports)
        if not direct and not workload.template.spec.host_network:
            yield _about(
                workload,
                "NO-SERVICE",
                Level.WARNING,
                found="no Service selects its pods, so nothing leads there",
                wanted="a Service in front of it",
                fix=f"kubectl -n {workload.ref.namespace} get services -o wide",
            )
    for service in services if snapshot.is_deployed else ():
        waits = service.spec.type == "LoadBalancer" and not any(item.ip or item.hostname for item in service.status.load_balancer.ingress)
        if waits:
            yield _pending(snapshot, service)
    if len(services) > 1:
        names = shortened(service.metadata.name for service in services)
        yield _about(
            workload,
            "SEVERAL-SERVICES",
            Level.INFO,
            found=f"{len(services)} Services lead to it: {names}",
            wanted="that each of them is meant, such as one for inside and one for outside",
            fix=f"kubectl -n {workload.ref.namespace} get services -o wide",
        )


def _pending(snapshot: Snapshot, service: Service) -> Finding:
    now, made = now_of(snapshot), moment(service.metadata.creation_timestamp)
    age = (now - made).total_seconds() if now and made else None
    long = age is not None and age > PENDING
    since = "" if age is None else f" {ago(age)} after it was made"
    namespace, name = service.metadata.namespace, service.metadata.name
    return Finding(
        code="MR313-NO-ADDRESS",
        level=Level.ERROR if long else Level.WARNING,
        object=ObjectRef(kind="Service", namespace=namespace, name=name),
        found=f"it is of type LoadBalancer and has no address{since}",
        wanted="an address, given by the cloud or by a controller such as MetalLB",
        fix=f"see its events: kubectl -n {namespace} describe service {name}",
    )


def _of_way(ways: Ways, way: Way, *, deployed: bool) -> Iterator[Finding]:
    if way.istio is not None and way.workloads:
        yield from _closed_ports(ways, way, way.istio)
    if way.kubernetes is not None and deployed:
        for kind in ("Accepted", "Programmed"):
            bad = [item for item in way.kubernetes.status.conditions if item.type == kind and item.status != "True"]
            known = any(item.type == kind for item in way.kubernetes.status.conditions)
            if bad or not known:
                yield _not_programmed(way, kind, bad[0].reason if bad else "")


def _not_programmed(way: Way, kind: str, reason: str) -> Finding:
    said = f"is not {kind} ({reason})" if reason else f"has no condition {kind} that is true: no controller has taken it"
    return Finding(
        code="MR313-NOT-PROGRAMMED",
        level=Level.ERROR,
        object=way.ref,
        found=f"it {said}",
        wanted="the conditions Accepted and Programmed",
        fix=f"kubectl -n {way.ref.namespace} describe gateways.gateway.networking.k8s.io {way.ref.name}",
        detail=kind,
    )


def _closed_ports(ways: Ways, way: Way, gateway: Gateway) -> Iterator[Finding]:
    """Ports of a Gateway that no Service in front of its pods opens, neither by its own number nor by the pods'."""
    services = [service for workload in way.workloads for service in ways.services(workload)]
    opened = {number for service in services for port in service.spec.ports for number in (port.port, port.target_port)}
    closed = sorted({server.port.number for server in gateway.spec.servers if server.port.number and server.port.number not in opened})
    if services and closed:
        yield Finding(
            code="MR313-PORT-CLOSED",
            level=Level.WARNING,
            object=way.ref,
            found=f"it opens port {shortened(map(str, closed))}, which no Service in front of its pods has",
            wanted=f"a port of {shortened(dict.fromkeys(service.metadata.name for service in services))}",
            fix=f"add the port to the Service, or change the Gateway: {way.command}",
        )


def _selects_nothing(snapshot: Snapshot, way: Way, level: Level) -> Finding:
    selector = ", ".join(f"{key}={value}" for key, value in (way.istio.spec.selector if way.istio else {}).items()) or "nothing"
    return Finding(
        code="MR313-SELECTS-NOTHING",
        level=level,
        object=way.ref,
        found=f"its selector ({selector}) matches no gateway in {', '.join(held_namespaces(snapshot))}",
        wanted="the labels of a gateway's pods",
        fix=f"compare with kubectl get pods -A -l {selector.replace(' ', '')}; then: {way.command}",
    )


def _about(workload: Workload, kind: str, level: Level, *, found: str, wanted: str, fix: str) -> Finding:
    return Finding(code=f"MR313-{kind}", level=level, object=workload.ref, found=found, wanted=wanted, fix=fix)
