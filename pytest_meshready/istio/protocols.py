"""Which protocol istiod takes each port of a Service for: line 1.1.3 (checks.md 1.1.3).

Reproduced from istiod's ``ConvertProtocol`` in pkg/config/kube/conversion.go and ``Parse`` in pkg/config/protocol.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from pytest_meshready.cluster.objects import Container, Pod, Service, ServicePort
from pytest_meshready.cluster.snapshot import Snapshot, in_namespace
from pytest_meshready.istio.capture import ISTIO_PORTS
from pytest_meshready.istio.namespaces import unread_in
from pytest_meshready.istio.ports import ServiceIndex, serving
from pytest_meshready.istio.workloads import Workload, is_gateway, workloads
from pytest_meshready.results import Evidence, Finding, Judgement, Level, ObjectRef

#: What `supported_protocols` reads; workloads are named by their pods.
READS = ("services", "pods")


class Protocol(enum.StrEnum):
    """A protocol, in the word that declares it."""

    HTTP = "http"
    HTTP2 = "http2"
    HTTP_PROXY = "http_proxy"
    GRPC = "grpc"
    GRPC_WEB = "grpc-web"
    HTTPS = "https"
    TLS = "tls"
    TCP = "tcp"
    MONGO = "mongo"
    REDIS = "redis"
    MYSQL = "mysql"
    UDP = "udp"
    SCTP = "sctp"
    GUESSED = "guessed"
    """nothing declares it: Envoy looks at the first bytes of each connection"""


class Source(enum.StrEnum):
    """What declares the protocol of a port."""

    APP_PROTOCOL = "appProtocol"
    NAME = "name"
    NUMBER = "well-known port"
    TRANSPORT = "protocol"
    NONE = "nothing"


HTTP_FAMILY = frozenset({Protocol.HTTP, Protocol.HTTP2, Protocol.HTTP_PROXY, Protocol.GRPC, Protocol.GRPC_WEB})
TCP_FAMILY = frozenset({Protocol.TCP, Protocol.TLS, Protocol.HTTPS, Protocol.MONGO, Protocol.REDIS, Protocol.MYSQL})

#: Kubernetes' own names, which only ``appProtocol`` can have.
_KUBERNETES = {"kubernetes.io/h2c": Protocol.HTTP2, "kubernetes.io/ws": Protocol.HTTP, "kubernetes.io/wss": Protocol.HTTPS}

_NAMES = {
    protocol.value: protocol
    for protocol in (*sorted(HTTP_FAMILY | TCP_FAMILY), Protocol.UDP)
    if protocol is not Protocol.GRPC_WEB  # it holds the dash that ends every other name
}

#: Ports of Services that istiod never guesses about: SMTP, DNS, MySQL, MongoDB.
_WELL_KNOWN = frozenset({25, 53, 3306, 27017})

#: Ports and words of protocols whose server speaks first, so that guessing waits for bytes that never come.
_SERVER_FIRST = {
    21: "FTP",
    22: "SSH",
    23: "Telnet",
    25: "SMTP",
    110: "POP3",
    143: "IMAP",
    587: "SMTP",
    2525: "SMTP",
    3306: "MySQL",
}
_SERVER_FIRST_WORDS = {
    "ftp": "FTP",
    "sftp": "SSH",
    "ssh": "SSH",
    "telnet": "Telnet",
    "smtp": "SMTP",
    "pop3": "POP3",
    "imap": "IMAP",
    "mysql": "MySQL",
    "mariadb": "MySQL",
    "galera": "Galera",
}

_FILTERS = {
    Protocol.REDIS: "Istio's Redis filter is off unless istiod has PILOT_ENABLE_REDIS_FILTER, so it is plain TCP",
    Protocol.MYSQL: "Istio's MySQL filter is off unless istiod has PILOT_ENABLE_MYSQL_FILTER, so it is plain TCP",
    Protocol.MONGO: "Istio puts Envoy's MongoDB filter, which is little used, in its way unless istiod switches it off",
}

#: The label of Services that Istio makes for Kubernetes' gateways.
_MANAGED = "gateway.istio.io/managed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """The protocol of a port, and what declared it."""

    protocol: Protocol
    source: Source


def declared(port: ServicePort) -> Declared:
    """The protocol of a Service's port as istiod sees it: UDP, then ``appProtocol`` or else the name, then the number.

    An ``appProtocol`` that Istio does not know hides a name that it would know. SCTP, which istiod does not tell from TCP,
    never reaches a proxy.
    """
    if port.protocol in ("UDP", "SCTP"):
        return Declared(protocol=Protocol(port.protocol.lower()), source=Source.TRANSPORT)
    source = Source.NAME if port.app_protocol is None else Source.APP_PROTOCOL
    text = port.name if port.app_protocol is None else port.app_protocol
    if source is Source.APP_PROTOCOL and text in _KUBERNETES:
        return Declared(protocol=_KUBERNETES[text], source=source)
    protocol = named(text)
    if protocol is not Protocol.GUESSED:
        return Declared(protocol=protocol, source=source)
    if port.port in _WELL_KNOWN:
        return Declared(protocol=Protocol.TCP, source=Source.NUMBER)
    return Declared(protocol=Protocol.GUESSED, source=Source.NONE)


def named(text: str) -> Protocol:
    """The protocol that a name declares by its beginning, up to the first dash; in upper or lower case."""
    lower = text.lower()
    if lower.startswith(Protocol.GRPC_WEB.value):
        return Protocol.GRPC_WEB
    return _NAMES.get(lower.partition("-")[0], Protocol.GUESSED)


def supported_protocols(snapshot: Snapshot) -> Judgement:
    """Line 1.1.3, what the objects say: each port of each Service declares a protocol that Istio supports.

    Errors: a protocol whose server speaks first, undeclared; one port of the same pods declared as HTTP by one Service and
    as TCP by another. Warnings: a protocol that Istio has to guess; UDP and SCTP; redis, mongo and mysql; a port whose
    container's name says another protocol than the Service; two kinds of HTTP for one port.
    """
    unknown = unread_in(snapshot, snapshot.namespace, *READS)
    services = _services(snapshot)
    asked = [(service, port) for service in services for port in service.spec.ports if port.port not in ISTIO_PORTS]
    leads = _Leads(snapshot)
    findings = [item for service, port in asked for item in _of_port(service, port, leads)]
    findings += leads.conflicts()
    return Judgement(
        summary=f"{len(asked)} ports of {len(services)} Services declare a protocol that Istio supports",
        examined=len(asked),
        findings=tuple(findings),
        unknown=unknown,
        not_applicable="" if asked or unknown else f"no Service of namespace {snapshot.namespace} has a port",
        evidence=(Evidence(kind="table", source="ports of Services", data=[_row(service, port) for service, port in asked]),),
    )


def _services(snapshot: Snapshot) -> list[Service]:
    """The namespace's Services, less those that Istio makes for gateways."""
    return [item for item in in_namespace(snapshot.services, snapshot.namespace) if _MANAGED not in item.metadata.labels]


# --- the pods behind a port -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Lead:
    """Where a port of a Service leads: a port of the pods of a workload, and the name that its container gives it."""

    workload: ObjectRef
    number: int
    name: str


class _Leads:
    """The ports of pods behind the ports of Services, each kind of pod of a workload once."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._by_port: dict[tuple[str, int], dict[_Lead, None]] = {}
        self._by_lead: dict[tuple[ObjectRef, int], dict[tuple[str, int], ServicePort]] = {}
        index = ServiceIndex(snapshot)
        for workload in workloads(snapshot, snapshot.namespace):
            if not is_gateway(workload):
                for pod in _kinds(workload):
                    self._add(index, workload, pod)

    def _add(self, index: ServiceIndex, workload: Workload, pod: Pod) -> None:
        containers = serving(pod)
        for service, port, number in index.behind(pod):
            key = (service.metadata.name, port)
            lead = _Lead(workload.ref, number, _name_of(containers, number))
            self._by_port.setdefault(key, {})[lead] = None
            found = next(item for item in service.spec.ports if item.port == port and item.protocol in ("", "TCP"))
            self._by_lead.setdefault((workload.ref, number), {})[key] = found

    def of(self, service: Service, port: ServicePort) -> tuple[_Lead, ...]:
        """Where a port leads; nowhere for UDP, without a selector, or without pods."""
        return () if port.protocol in ("UDP", "SCTP") else tuple(self._by_port.get((service.metadata.name, port.port), ()))

    def conflicts(self) -> Iterator[Finding]:
        """Ports of pods that Services declare differently; istiod takes the word of the oldest Service."""
        for (workload, number), ports in self._by_lead.items():
            said = {key: declared(port).protocol for key, port in ports.items()}
            http = {protocol for protocol in said.values() if protocol in HTTP_FAMILY}
            tcp = {protocol for protocol in said.values() if protocol in TCP_FAMILY}
            if (http and tcp) or len(http) > 1:
                yield _conflict(workload, number, said, Level.ERROR if http and tcp else Level.WARNING)


def _kinds(workload: Workload) -> Iterable[Pod]:
    """One pod of each label set, which pods of one template share; the owner's template where there are no pods."""
    if not workload.pods:
        if workload.from_pod:
            return ()
        return (Pod(metadata=workload.template.metadata, spec=workload.template.spec),)
    return {frozenset(pod.metadata.labels.items()): pod for pod in workload.pods}.values()


def _name_of(containers: Iterable[Container], number: int) -> str:
    return next((port.name for item in containers for port in item.ports if port.container_port == number and port.name), "")


# --- findings ---------------------------------------------------------------------------------------------------------


def _of_port(service: Service, port: ServicePort, leads: _Leads) -> Iterator[Finding]:
    """What is to be said of one port."""
    says, behind = declared(port), leads.of(service, port)
    if says.protocol in (Protocol.UDP, Protocol.SCTP):
        yield _not_proxied(service, port)
    elif says.protocol is Protocol.GUESSED:
        first = _server_first(port, behind)
        yield _server_speaks_first(service, port, first) if first else _guessed(service, port)
    elif says.protocol in _FILTERS:
        yield _filtered(service, port, says.protocol)
    told = next((lead for lead in behind if _contradicts(says.protocol, named(lead.name))), None)
    if told is not None:
        yield _contradiction(service, port, says.protocol, told)


def _server_first(port: ServicePort, behind: Iterable[_Lead]) -> str:
    """The protocol by its number or a word of its names, if its server speaks first."""
    leads = tuple(behind)
    by_number = (_SERVER_FIRST.get(number, "") for number in (port.port, *(lead.number for lead in leads)))
    words = (word for text in (port.name, *(lead.name for lead in leads)) for word in text.lower().split("-"))
    return next((name for name in (*by_number, *(_SERVER_FIRST_WORDS.get(word, "") for word in words)) if name), "")


def _contradicts(service: Protocol, container: Protocol) -> bool:
    """Whether the traffic breaks if the container's name is right: HTTP spoken to what is not, HTTP/1.1 to HTTP/2.

    The other way round, a Service that says less than its container, costs features and breaks nothing.
    """
    if service in HTTP_FAMILY and container in TCP_FAMILY:
        return True
    return service is Protocol.HTTP and container in (Protocol.HTTP2, Protocol.GRPC, Protocol.GRPC_WEB)


def _finding(code: str, level: Level, service: Service, port: ServicePort, *, found: str, wanted: str, fix: str) -> Finding:
    namespace, name = service.metadata.namespace, service.metadata.name
    return Finding(
        code=f"MR113-{code}",
        level=level,
        object=ObjectRef(kind="Service", namespace=namespace, name=name),
        found=f"port {_shown(port)} {found}",
        wanted=wanted,
        fix=f"{fix}: kubectl -n {namespace} edit service {name}",
        detail=str(port.port) if port.protocol in ("", "TCP") else f"{port.port}/{port.protocol}",
    )


def _shown(port: ServicePort) -> str:
    return f"{port.port} ({port.name})" if port.name else f"{port.port} (no name)"


_DECLARED = "appProtocol, or a name that begins with http, http2, grpc, https, tls or tcp"


def _guessed(service: Service, port: ServicePort) -> Finding:
    found = "says no protocol that Istio knows, so Istio guesses it from the first bytes of each connection"
    if port.app_protocol is not None and named(port.name) is not Protocol.GUESSED:
        found = f"has appProtocol {port.app_protocol!r}, which Istio does not know and which hides its name, so Istio guesses the protocol"
    elif port.app_protocol:
        found = f"has appProtocol {port.app_protocol!r}, which Istio does not know, so Istio guesses the protocol"
    example = f"http-{port.name}" if port.name else "http"
    fix = f"set appProtocol, or rename it, such as {example}"
    return _finding("GUESSED", Level.WARNING, service, port, found=found, wanted=_DECLARED, fix=fix)


def _server_speaks_first(service: Service, port: ServicePort, protocol: str) -> Finding:
    found = f"looks like {protocol}, whose server speaks first, but says no protocol: Istio waits for the client, and connections hang"
    return _finding("SERVER-FIRST", Level.ERROR, service, port, found=found, wanted=_DECLARED, fix="set appProtocol: tcp")


def _not_proxied(service: Service, port: ServicePort) -> Finding:
    found = f"is {port.protocol}, which no proxy carries: no mTLS, no policy and no metrics hold for it"
    if declared(port).source is not Source.TRANSPORT:
        found = "is TCP but declared udp, so Istio configures nothing for it"
    fix = "make sure that it may stay outside the mesh, and state so in a waiver, or serve it over TCP"
    return _finding("NOT-PROXIED", Level.WARNING, service, port, found=found, wanted="HTTP, gRPC or TCP", fix=fix)


def _filtered(service: Service, port: ServicePort, protocol: Protocol) -> Finding:
    found = f"is declared {protocol.value}: {_FILTERS[protocol]}"
    fix = f"call it tcp-{protocol.value} unless the filter is wanted"
    return _finding("FILTER", Level.WARNING, service, port, found=found, wanted="HTTP, gRPC or TCP", fix=fix)


def _contradiction(service: Service, port: ServicePort, protocol: Protocol, lead: _Lead) -> Finding:
    found = f"is declared {protocol.value}, but leads to port {lead.number} of {lead.workload}, which its container calls {lead.name}"
    wanted = "the protocol that the application speaks, in both places"
    return _finding("CONTRADICTION", Level.WARNING, service, port, found=found, wanted=wanted, fix="declare what it speaks")


def _conflict(workload: ObjectRef, number: int, said: Mapping[tuple[str, int], Protocol], level: Level) -> Finding:
    places = ", ".join(f"{protocol.value} by {name}:{port}" for (name, port), protocol in sorted(said.items()))
    services = " ".join(dict.fromkeys(name for name, _ in sorted(said)))
    return Finding(
        code="MR113-CONFLICT",
        level=level,
        object=workload,
        found=f"its port {number} is declared {places}; its proxies take the word of the oldest Service",
        wanted="one protocol for one port of a pod (IST0116, IST0137)",
        fix=f"declare the same protocol in all of them: kubectl -n {workload.namespace} get service {services} -o yaml",
        detail=str(number),
    )


def _row(service: Service, port: ServicePort) -> dict[str, str]:
    says = declared(port)
    return {
        "service": service.metadata.name,
        "port": f"{port.port}/{port.protocol or 'TCP'}",
        "name": port.name,
        "protocol": says.protocol.value,
        "by": says.source.value,
    }
