"""Line 1.1.3: which protocol istiod takes each port for (checks.md 1.1.3)."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from pytest_meshready.cluster import objects as o
from pytest_meshready.cluster.resources import RESOURCES
from pytest_meshready.istio import protocols
from pytest_meshready.istio.protocols import Protocol, Source, declared, supported_protocols
from pytest_meshready.results import Finding, Judgement, Level, Status
from tests.unit import builders as make


def port(
    name: str = "", number: int = 8080, *, app: str | None = None, transport: str = "TCP", target: int | str | None = None
) -> o.ServicePort:
    return o.ServicePort(name=name, port=number, app_protocol=app, protocol=transport, target_port=target)


def service(
    *ports: o.ServicePort, name: str = "orders", app: str | None = "orders", labels: dict[str, str] | None = None, **spec: Any
) -> o.Service:
    """A Service of these ports that selects ``app``, or nothing."""
    selector = None if app is None else {"app": app}
    return o.Service(metadata=make.metadata(name, labels=labels), spec=o.ServiceSpec(selector=selector, ports=ports, **spec))


def judged(*services: o.Service, container: o.Container | None = None, **fields: Any) -> Judgement:
    """The rule on these Services with two pods of Deployment orders."""
    orders = make.deployment("orders", containers=(container or make.container(),))
    defaults: dict[str, Any] = {"deployments": (orders,), "pods": make.pods_of(orders), "services": services}
    return supported_protocols(make.snapshot(**{**defaults, **fields}))


def of_port(*args: Any, **fields: Any) -> Judgement:
    """The rule on one Service of one port."""
    return judged(service(port(*args, **fields)))


def codes(judgement: Judgement) -> dict[str, Level]:
    return {finding.code: finding.level for finding in judgement.findings}


def only(judgement: Judgement) -> Finding:
    (found,) = judgement.findings
    return found


# --- istiod's algorithm -----------------------------------------------------------------------------------------------

ALGORITHM = {
    "http": (port("http"), Protocol.HTTP, Source.NAME),
    "a name with a suffix": (port("http-web"), Protocol.HTTP, Source.NAME),
    "upper case": (port("HTTP-web"), Protocol.HTTP, Source.NAME),
    "http2": (port("http2"), Protocol.HTTP2, Source.NAME),
    "grpc": (port("grpc-quotes"), Protocol.GRPC, Source.NAME),
    "grpc-web before grpc": (port("grpc-web"), Protocol.GRPC_WEB, Source.NAME),
    "grpc-web with a suffix": (port("grpc-web-quotes"), Protocol.GRPC_WEB, Source.NAME),
    "https": (port("https"), Protocol.HTTPS, Source.NAME),
    "tls": (port("tls-db"), Protocol.TLS, Source.NAME),
    "tcp": (port("tcp-greeting"), Protocol.TCP, Source.NAME),
    "mongo": (port("mongo"), Protocol.MONGO, Source.NAME),
    "redis": (port("redis-cache"), Protocol.REDIS, Source.NAME),
    "mysql": (port("mysql"), Protocol.MYSQL, Source.NAME),
    "udp by its name": (port("udp-stats"), Protocol.UDP, Source.NAME),
    "no name": (port(""), Protocol.GUESSED, Source.NONE),
    "a name that says nothing": (port("web"), Protocol.GUESSED, Source.NONE),
    "the protocol must come first": (port("web-http"), Protocol.GUESSED, Source.NONE),
    "a prefix without a dash": (port("httpweb"), Protocol.GUESSED, Source.NONE),
    "kafka is not known": (port("kafka"), Protocol.GUESSED, Source.NONE),
    "SMTP's port": (port("mail", 25), Protocol.TCP, Source.NUMBER),
    "DNS over TCP": (port("dns", 53), Protocol.TCP, Source.NUMBER),
    "MySQL's port": (port("db", 3306), Protocol.TCP, Source.NUMBER),
    "MongoDB's port": (port("", 27017), Protocol.TCP, Source.NUMBER),
    "the name before the number": (port("http-db", 3306), Protocol.HTTP, Source.NAME),
    "another port of MySQL": (port("db", 3307), Protocol.GUESSED, Source.NONE),
    "the number is the Service's, not the pod's": (port("db", 13306, target=3306), Protocol.GUESSED, Source.NONE),
    "appProtocol before the name": (port("tcp-web", app="http"), Protocol.HTTP, Source.APP_PROTOCOL),
    "appProtocol with a suffix": (port("web", app="grpc-quotes"), Protocol.GRPC, Source.APP_PROTOCOL),
    "h2c": (port("web", app="kubernetes.io/h2c"), Protocol.HTTP2, Source.APP_PROTOCOL),
    "ws": (port("web", app="kubernetes.io/ws"), Protocol.HTTP, Source.APP_PROTOCOL),
    "wss": (port("web", app="kubernetes.io/wss"), Protocol.HTTPS, Source.APP_PROTOCOL),
    "a Kubernetes name is none in a port's name": (port("kubernetes.io/h2c"), Protocol.GUESSED, Source.NONE),
    "an unknown appProtocol hides the name": (port("http", app="example.com/x"), Protocol.GUESSED, Source.NONE),
    "an empty appProtocol hides the name": (port("http", app=""), Protocol.GUESSED, Source.NONE),
    "an unknown appProtocol on a well-known port": (port("db", 3306, app="example.com/x"), Protocol.TCP, Source.NUMBER),
    "UDP before all": (port("http", app="http", transport="UDP"), Protocol.UDP, Source.TRANSPORT),
    "SCTP": (port("tcp", transport="SCTP"), Protocol.SCTP, Source.TRANSPORT),
}


@pytest.mark.parametrize(("given", "protocol", "source"), ALGORITHM.values(), ids=ALGORITHM)
def test_the_algorithm(given: o.ServicePort, protocol: Protocol, source: Source) -> None:
    """UDP, then appProtocol or else the name, then the well-known ports of Services, else Istio guesses."""
    found = declared(given)
    assert (found.protocol, found.source) == (protocol, source)


# --- the line ---------------------------------------------------------------------------------------------------------


def test_the_shop_passes() -> None:
    """HTTP, gRPC and TCP by name are supported, a server that speaks first as well if it is declared."""
    ports = (port("http"), port("grpc", 7070), port("tcp-greeting", 9091), port("https", 443), port("mail", 25))
    judgement = judged(service(*ports))
    assert (judgement.status, judgement.examined, judgement.findings) == (Status.PASSED, 5, ())


@pytest.mark.parametrize("name", ["web", ""])
def test_a_guessed_protocol_warns(name: str) -> None:
    """A port whose name says nothing is named with its Service and the command that renames it."""
    judgement = of_port(name)
    found = only(judgement)
    assert judgement.status is Status.WARNED
    assert (found.code, found.level, str(found.object)) == ("MR113-GUESSED", Level.WARNING, "payments/Service/orders")
    assert found.found.startswith(f"port 8080 ({name or 'no name'}) says no protocol that Istio knows")
    assert found.fix.endswith("kubectl -n payments edit service orders")


def test_an_unknown_appprotocol_is_blamed() -> None:
    """It hides a name that Istio would know, and the finding says so."""
    found = only(of_port("http", app="example.com/x"))
    assert "appProtocol 'example.com/x', which Istio does not know and which hides its name" in found.found


SERVER_FIRST = {
    "MySQL on another port": (port("db-mysql", 3307), "MySQL"),
    "MySQL's port behind another": (port("db", 13306, target=3306), "MySQL"),
    "SSH": (port("", 22), "SSH"),
    "FTP": (port("files", 21), "FTP"),
    "SMTP by its name": (port("smtp", 1025), "SMTP"),
    "submission": (port("mail", 587), "SMTP"),
}


@pytest.mark.parametrize(("given", "protocol"), SERVER_FIRST.values(), ids=SERVER_FIRST)
def test_a_server_that_speaks_first_must_be_declared(given: o.ServicePort, protocol: str) -> None:
    """Guessing waits for bytes of the client that never come."""
    judgement = judged(service(given))
    assert (judgement.status, codes(judgement)) == (Status.FAILED, {"MR113-SERVER-FIRST": Level.ERROR})
    assert f"looks like {protocol}" in judgement.reason


@pytest.mark.parametrize("given", [port("tcp-mysql", 3307), port("tcp", 22), port("db", 3306), port("", 25), port("x", 2222, app="tcp")])
def test_a_declared_server_that_speaks_first_passes(given: o.ServicePort) -> None:
    """Declared as TCP, or on a port that istiod never guesses about, it works."""
    assert judged(service(given)).status is Status.PASSED


@pytest.mark.parametrize("transport", ["UDP", "SCTP"])
def test_udp_and_sctp_warn(transport: str) -> None:
    """They pass the mesh by."""
    judgement = of_port("dns", 53, transport=transport)
    assert codes(judgement) == {"MR113-NOT-PROXIED": Level.WARNING}
    assert f"is {transport}, which no proxy carries" in judgement.reason


def test_tcp_that_is_called_udp_warns() -> None:
    """Istiod then configures no listener for it."""
    assert "is TCP but declared udp" in of_port("udp-stats").reason


def test_dns_on_both_transports() -> None:
    """The UDP port of the same number and its TCP twin are told apart."""
    judgement = judged(service(port("dns", 53, transport="UDP"), port("dns-tcp", 53)))
    assert codes(judgement) == {"MR113-NOT-PROXIED": Level.WARNING}


@pytest.mark.parametrize("name", ["redis", "mongo-store", "mysql"])
def test_protocols_with_filters_warn(name: str) -> None:
    """Their filters are little used, or off by default."""
    assert codes(of_port(name)) == {"MR113-FILTER": Level.WARNING}


CONFLICTS = {
    "HTTP and TCP": ("http", "tcp", Level.ERROR),
    "HTTP and TLS": ("http", "https", Level.ERROR),
    "two kinds of HTTP": ("http", "grpc", Level.WARNING),
}


@pytest.mark.parametrize(("one", "other", "level"), CONFLICTS.values(), ids=CONFLICTS)
def test_one_port_declared_twice(one: str, other: str, level: Level) -> None:
    """Two Services that call the same port of the same pods differently: the workload is named with both."""
    judgement = judged(service(port(one)), service(port(other, 80, target=8080), name="legacy"))
    found = next(item for item in judgement.findings if item.code == "MR113-CONFLICT")
    assert (str(found.object), found.level) == ("payments/Deployment/orders", level)
    assert f"its port 8080 is declared {other} by legacy:80, {one} by orders:8080" in found.found


def test_the_same_protocol_twice_passes() -> None:
    """Several Services, a headless one among them, may lead to one port if they agree."""
    services = (
        service(port("http-a")),
        service(port("http-b", 80, target="http"), name="b"),
        service(port("http"), name="c", cluster_ip="None"),
    )
    assert judged(*services).status is Status.PASSED


def test_services_of_other_pods_do_not_conflict() -> None:
    """The same number in other pods is another port."""
    assert judged(service(port("http")), service(port("tcp"), name="store", app="store")).status is Status.PASSED


CONTRADICTIONS = {
    "HTTP to TCP": ("http-store", "tcp-store", True),
    "HTTP to TLS": ("http", "https", True),
    "gRPC to TCP": ("grpc", "tcp", True),
    "HTTP to gRPC": ("http", "grpc", True),
    "TCP to HTTP costs features only": ("tcp", "http", False),
    "gRPC to what is called http": ("grpc", "http", False),
    "the same": ("http-web", "http", False),
    "a name that says nothing": ("http", "web", False),
    "an unnamed port": ("http", "", False),
}


@pytest.mark.parametrize(("said", "called", "wrong"), CONTRADICTIONS.values(), ids=CONTRADICTIONS)
@pytest.mark.parametrize("by_name", [False, True])
def test_the_containers_name_contradicts_the_service(said: str, called: str, wrong: bool, by_name: bool) -> None:
    """A Service that declares HTTP for what its container calls TCP breaks one of the two; the other way round nothing breaks."""
    target: int | str = called if by_name and called else 6000
    judgement = judged(service(port(said, 6000, target=target)), container=make.container(ports=((called, 6000),)))
    assert codes(judgement) == ({"MR113-CONTRADICTION": Level.WARNING} if wrong else {})


def test_the_contradiction_names_both_sides() -> None:
    """The finding is about the Service and names the workload and the container's word."""
    found = only(judged(service(port("http-store", 6000)), container=make.container(ports=(("tcp-store", 6000),))))
    wanted = (
        "port 6000 (http-store) is declared http, but leads to port 6000 of payments/Deployment/orders, which its container calls tcp-store"
    )
    assert (str(found.object), found.found) == ("payments/Service/orders", wanted)


def test_services_without_selector_and_external_names() -> None:
    """Their ports are judged by what they declare, pods or not."""
    assert codes(judged(service(port("web"), app=None))) == {"MR113-GUESSED": Level.WARNING}
    external = service(port("tcp", 5432), type="ExternalName", external_name="db.example.com", app=None)
    assert judged(external).status is Status.PASSED
    assert judged(service(type="ExternalName", external_name="db.example.com", app=None)).status is Status.NOT_APPLICABLE


def test_what_istio_made_is_left_out() -> None:
    """Services of Kubernetes' gateways are Istio's, and so are its own ports in other Services."""
    managed = service(port("status-port", 15021), port("web", 80), labels={"gateway.istio.io/managed": "istio.io-gateway-controller"})
    assert judged(managed).status is Status.NOT_APPLICABLE
    assert judged(service(port("status-port", 15021), port("http2", 80, target=8080))).status is Status.PASSED


def test_a_workload_without_pods_is_judged_by_its_template() -> None:
    """Contradictions show before anything runs."""
    assert codes(judged(service(port("grpc", target="tcp")), container=make.container(ports=(("tcp", 8080),)), pods=())) == {
        "MR113-CONTRADICTION": Level.WARNING
    }


@pytest.mark.parametrize("key", ["services", "pods"])
def test_a_refused_list_is_not_verified(key: str) -> None:
    """Without the list there is neither a pass nor `not applicable`."""
    snapshot = make.snapshot(services=(service(port("http")),), pods=(make.meshed_pod(),), refusals=(make.refusal(key),))
    judgement = supported_protocols(msgspec.structs.replace(snapshot, **{key: ()}))
    assert judgement.status is Status.NOT_VERIFIED
    assert judgement.reason == f"not permitted: list {key} in payments"


def test_a_namespace_without_services() -> None:
    """A permitted and empty list shows that the line does not apply."""
    judgement = judged()
    assert (judgement.status, judgement.reason) == (Status.NOT_APPLICABLE, "no Service of namespace payments has a port")


def test_services_of_other_namespaces_do_not_count() -> None:
    """Only the run's namespace is judged."""
    elsewhere = msgspec.structs.replace(service(port("web")), metadata=make.metadata("web", make.ISTIO))
    assert judged(elsewhere).status is Status.NOT_APPLICABLE


def test_each_port_has_its_own_fingerprint() -> None:
    """Two ports of one Service are two faults."""
    judgement = judged(service(port("a"), port("b", 9090), port("c", 53, transport="UDP"), port("d", 53, transport="SCTP")))
    assert len({finding.fingerprint for finding in judgement.findings}) == 4


def test_the_kinds_that_the_rule_reads_exist() -> None:
    """The catalogue can name them."""
    assert set(protocols.READS) <= set(RESOURCES)
