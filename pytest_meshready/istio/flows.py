"""The connections that a mesh needs, each from the side of the pods that a NetworkPolicy may isolate (checks.md 2.2.5).

Here are those that every mesh has: with istiod, the cluster's DNS, Prometheus, the tracing collector, external hosts and the
callers of gateways. Calls between workloads are in `pytest_meshready.istio.callflows`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pytest_meshready.cluster.objects import Pod, Service
from pytest_meshready.cluster.objects_capacity import NAME_LABELS, SCRAPERS
from pytest_meshready.cluster.snapshot import Snapshot, in_namespace
from pytest_meshready.istio.components import READS as COMPONENTS
from pytest_meshready.istio.components import gateways, is_managed, istiods
from pytest_meshready.istio.netpolicy import OUTSIDE, Direction, Policies, Port, Side
from pytest_meshready.istio.ports import target
from pytest_meshready.istio.projection import is_ambient, proxy_of
from pytest_meshready.istio.workloads import BATCH, Workload, workloads
from pytest_meshready.results import Level

#: What `Survey` reads.
READS = (*COMPONENTS, "node_pods", "services", "configmaps", "serviceentries")

XDS, WEBHOOK, MONITORING, HBONE = 15012, 15017, 15014, 15008
MERGED_STATS, ENVOY_STATS, HEALTH = 15020, 15090, 15021

#: Stands for the workloads in the text of a deed.
WHO = "{who}"

#: The address from which the kubelet's probes reach ambient pods (istio-cni translates it).
PROBES_OF_AMBIENT = "169.254.7.127"

_DNS = (Port(number=53, protocol="UDP"), Port(number=5353, protocol="UDP"))  # 5353: the pods behind OpenShift's DNS
_DNS_LABELS = (("k8s-app", "kube-dns"), ("dns.operator.openshift.io/daemonset-dns", "default"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Deed:
    """A kind of connection.

    Attributes:
        code: the end of a finding's code where it is denied.
        level: how much that weighs.
        text: what is done, with ``{who}`` for the workload: ``{who} reach istiod``.
        cost: what happens without it, as the end of a sentence.
    """

    code: str
    level: Level
    text: str
    cost: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """One connection, as one end sees it that policies may isolate.

    ``own`` is that end, ``who`` the workload to name. Of ``peers`` and of ``ports`` (of the destination) one is enough.
    """

    deed: Deed
    who: str
    own: Side
    direction: Direction
    peers: tuple[Side, ...]
    ports: tuple[Port, ...]


def outgoing(deed: Deed, who: str, own: Side, peers: Sequence[Side], *ports: Port) -> Flow:
    """A connection that a pod makes."""
    return Flow(deed=deed, who=who, own=own, direction=Direction.EGRESS, peers=tuple(peers), ports=ports)


def incoming(deed: Deed, who: str, own: Side, peers: Sequence[Side], *ports: Port) -> Flow:
    """A connection that a pod takes."""
    return Flow(deed=deed, who=who, own=own, direction=Direction.INGRESS, peers=tuple(peers), ports=ports)


_NO_ISTIOD = "proxies get no configuration, new ones do not start, and certificates run out within a day"
_TO_ISTIOD = Deed(code="ISTIOD", level=Level.ERROR, text="{who} reach istiod", cost=_NO_ISTIOD)
_TO_DNS = Deed(code="DNS", level=Level.ERROR, text="{who} reach the cluster's DNS", cost="no name is resolved")
_SCRAPED = Deed(code="PROMETHEUS", level=Level.ERROR, text="Prometheus scrape {who}", cost="its metrics are missing everywhere")
_THROUGH_ZTUNNEL = Deed(
    code="HBONE",
    level=Level.ERROR,
    text="the mesh reach {who} through ztunnel",
    cost="whatever port of the application is open, no call from the mesh arrives",
)
_PROBED = Deed(
    code="PROBES",
    level=Level.WARNING,
    text=f"probes of the kubelet reach {{who}} from {PROBES_OF_AMBIENT}",
    cost="its pods do not become ready where istio-cni translates the kubelet's address",
)
_CALLED_BY_API = Deed(
    code="WEBHOOK", level=Level.ERROR, text="the API server reach {who}", cost="no pod is injected and no configuration is validated"
)
_ISTIOD_SCRAPED = Deed(
    code="ISTIOD-METRICS", level=Level.WARNING, text="Prometheus scrape {who}", cost="nobody is alerted when istiod is in trouble"
)


def side_of(pod: Pod, namespace: str = "") -> Side:
    """A pod, as an end of connections; a template in a pod's clothes has no namespace of its own."""
    return Side(namespace=pod.metadata.namespace or namespace, labels=pod.metadata.labels, pod=pod, address=pod.status.pod_ip)


def sides_of(workload: Workload) -> tuple[Side, ...]:
    """One end for each different set of labels of its pods; without pods, its template."""
    different = {frozenset(pod.metadata.labels.items()): pod for pod in workload.pods}
    if different:
        return tuple(side_of(pod) for pod in different.values())
    return (side_of(Pod(metadata=workload.template.metadata, spec=workload.template.spec), workload.ref.namespace),)


class Survey:
    """The workloads of the namespace, of the control plane and of the gateways, and the connections of each."""

    def __init__(self, snapshot: Snapshot, policies: Policies) -> None:
        self.snapshot = snapshot
        self.ambient = is_ambient(snapshot, snapshot.namespace)
        self.gateways = gateways(snapshot)
        own = {item.ref for item in self.gateways}
        found = [item for item in workloads(snapshot, snapshot.namespace) if item.ref not in own and (item.replicas or item.pods)]
        #: The workloads of the namespace that are no gateways, each with its ends.
        self.workloads = tuple((item, sides_of(item)) for item in found)
        #: Those that have a proxy, or will get one when the namespace joins the mesh.
        self._proxied = frozenset(item.ref for item in found if proxy_of(snapshot, item) is not None)
        #: The directions in which any pod of the namespace is isolated.
        self.isolated = frozenset(
            direction for direction in Direction for _, sides in self.workloads for side in sides if policies.isolating(side, direction)
        )
        self._policies = policies
        self._istiods = tuple(item.workload for item in istiods(snapshot) if item.in_use)
        self._istiod_ends = tuple(end for item in self._istiods for end in sides_of(item))
        self._dns = self._pods_labelled(_DNS_LABELS)
        self._scrapers = self._pods_labelled([(name, value) for name in NAME_LABELS for value in SCRAPERS])
        self._collectors = tuple(_collectors(snapshot))

    def flows(self) -> Iterator[Flow]:
        """Every connection that does not depend on who calls whom."""
        for workload, sides in self.workloads:
            for side in sides:
                yield from self._of_workload(workload, side)
        if not is_managed(self.snapshot):
            yield from self._of_istiod()
        for gateway in self.gateways:
            for side in sides_of(gateway):
                yield from self._of_gateway(str(gateway.ref), side)

    def _pods_labelled(self, pairs: Sequence[tuple[str, str]]) -> tuple[Side, ...]:
        """Pods of the whole cluster with one of some labels, each different set of labels once."""
        found: dict[tuple[str, frozenset[tuple[str, str]]], Side] = {}
        for pod in self.snapshot.node_pods:
            labels = pod.metadata.labels
            if labels and any(labels.get(key) == value for key, value in pairs):
                key = (pod.metadata.namespace, frozenset(labels.items()))
                found.setdefault(key, Side(namespace=pod.metadata.namespace, labels=labels))
        return tuple(found.values())

    # --- workloads ---

    def _of_workload(self, workload: Workload, side: Side) -> Iterator[Flow]:
        name = workload.ref.name
        if self._dns and not self._names_by_address(side):
            yield outgoing(_TO_DNS, name, side, self._dns, *_DNS)
        if workload.ref in self._proxied:
            if self._istiods:
                yield outgoing(_TO_ISTIOD, name, side, self._istiod_ends, Port(number=XDS))
            if self._scrapers:
                yield incoming(_SCRAPED, name, side, self._scrapers, Port(number=MERGED_STATS), Port(number=ENVOY_STATS))
            yield from self._spans(name, side)
        elif self.ambient and workload.kind not in BATCH:
            yield from self._of_ambient(name, side)
        if self._policies.isolating(side, Direction.EGRESS):
            yield from self._external(name, side)

    def _names_by_address(self, side: Side) -> bool:
        """Whether an egress rule permits port 53 to addresses: those of a DNS cache on the node, as far as can be known."""
        for policy in self._policies.isolating(side, Direction.EGRESS):
            for rule in policy.spec.egress or ():
                ports = [item.port for item in rule.ports or ()]
                if any(peer.ip_block is not None for peer in rule.to or ()) and (not ports or _DNS[0].number in ports):
                    return True
        return False

    def _of_ambient(self, name: str, side: Side) -> Iterator[Flow]:
        """Everything from the mesh arrives on ztunnel's port, and probes from an address of its own."""
        peers = [end for _, ends in self.workloads for end in ends] + [end for item in self.gateways for end in sides_of(item)]
        yield incoming(_THROUGH_ZTUNNEL, name, side, peers, Port(number=HBONE))
        probed = _probed(side)
        if probed:
            yield incoming(_PROBED, name, side, [Side(address=PROBES_OF_AMBIENT)], *probed)

    def _spans(self, name: str, side: Side) -> Iterator[Flow]:
        for service, port, pod in self._collectors:
            text = f"{{who}} reach the tracing collector {service.metadata.namespace}/{service.metadata.name}"
            deed = Deed(code="SPANS", level=Level.WARNING, text=text, cost="its spans are lost")
            yield outgoing(deed, name, side, [side_of(pod)], Port(number=port_behind(service, port, pod)))

    def _external(self, name: str, side: Side) -> Iterator[Flow]:
        """Hosts that the namespace declared itself."""
        for entry in in_namespace(self.snapshot.serviceentries, self.snapshot.namespace):
            ports = [Port(number=port.target_port or port.number) for port in entry.spec.ports if port.number > 0]
            if entry.spec.location != "MESH_INTERNAL" and ports and entry.spec.hosts:
                text = f"{{who}} reach {entry.spec.hosts[0]}, which ServiceEntry {entry.metadata.name} declares"
                deed = Deed(code="EXTERNAL", level=Level.WARNING, text=text, cost="calls to it end in a time-out")
                yield outgoing(deed, name, side, [OUTSIDE], *ports)

    # --- the control plane and the gateways ---

    def _of_istiod(self) -> Iterator[Flow]:
        """What istiod's own policies must let in."""
        text = f"{{who}} of {self.snapshot.namespace} reach istiod"
        called = Deed(code="ISTIOD", level=Level.ERROR, text=text, cost=_NO_ISTIOD)
        for istiod in self._istiods:
            for side in sides_of(istiod):
                yield incoming(_CALLED_BY_API, str(istiod.ref), side, [OUTSIDE], Port(number=WEBHOOK))
                if self._scrapers:
                    yield incoming(_ISTIOD_SCRAPED, str(istiod.ref), side, self._scrapers, Port(number=MONITORING))
                for workload, ends in self.workloads:
                    if workload.ref in self._proxied:
                        yield incoming(called, workload.ref.name, side, ends, Port(number=XDS))

    def _of_gateway(self, name: str, side: Side) -> Iterator[Flow]:
        """Gateways need istiod as every proxy does, and the ports of their Services must take whoever comes."""
        if self._istiods:
            yield outgoing(_TO_ISTIOD, name, side, self._istiod_ends, Port(number=XDS))
        for service in in_namespace(self.snapshot.services, side.namespace):
            if side.pod is None or service.spec.type not in ("LoadBalancer", "NodePort") or not is_behind(service, side.pod):
                continue
            for port in service.spec.ports:
                number = port_behind(service, port.port, side.pod)
                health = number == HEALTH
                deed = Deed(
                    code="GATEWAY-HEALTH" if health else "GATEWAY",
                    level=Level.WARNING if health else Level.ERROR,
                    text=f"anybody reach {{who}} on {port.name or port.port}",
                    cost="the load balancer takes it out" if health else "no request from outside arrives",
                )
                yield incoming(deed, name, side, [OUTSIDE], Port(number=number, protocol=port.protocol or "TCP"))


def is_behind(service: Service, pod: Pod) -> bool:
    """Whether a Service of the pod's namespace leads to it."""
    selector = service.spec.selector or {}
    return bool(selector) and selector.items() <= pod.metadata.labels.items()


def port_behind(service: Service, number: int, pod: Pod) -> int:
    """The port of a pod behind a port of its Service."""
    port = next((item for item in service.spec.ports if item.port == number), None)
    if port is None or port.target_port in (None, "", 0):
        return number
    return target(pod, port.target_port) or number


def _probed(side: Side) -> tuple[Port, ...]:
    """The ports that the kubelet asks."""
    if side.pod is None:
        return ()
    found: dict[int, None] = {}
    for container in side.pod.spec.containers:
        for probe in (container.readiness_probe, container.liveness_probe, container.startup_probe):
            action = (probe.http_get or probe.tcp_socket or probe.grpc) if probe else None
            if action is not None and (number := target(side.pod, action.port)):
                found[number] = None
    return tuple(Port(number=number) for number in found)


def _collectors(snapshot: Snapshot) -> Iterator[tuple[Service, int, Pod]]:
    """The Services of the mesh's tracing providers, their port and a pod, where they lie in a namespace that was read."""
    mesh = snapshot.mesh
    named = mesh.default_providers.get("tracing") if mesh else None
    wanted = {str(name) for name in named} if isinstance(named, list | tuple) else set()
    by_name = {f"{item.metadata.name}.{item.metadata.namespace}": item for item in snapshot.services} if wanted else {}
    for provider in mesh.extension_providers if mesh else ():
        for settings in provider.values() if str(provider.get("name")) in wanted else ():
            if isinstance(settings, Mapping) and isinstance(settings.get("port"), int):
                host = str(settings.get("service", "")).rpartition("/")[2]
                service = by_name.get(".".join(host.split(".")[:2]))
                pods = in_namespace(snapshot.pods, service.metadata.namespace) if service else ()
                pod = next((item for item in pods if service and is_behind(service, item)), None)
                if service is not None and pod is not None:
                    yield service, settings["port"], pod
