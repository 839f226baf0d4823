"""Names of hosts in routing rules, and what they name: a Service, a ServiceEntry, nothing, or something that was not read.

Reproduced from istiod: short names from ``ResolveShortnameToFQDN`` in pilot/pkg/model, wildcards from pkg/config/host,
visibility from exportTo and ``networking.istio.io/exportTo``.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pytest_meshready.cluster.objects import Service
from pytest_meshready.cluster.objects_traffic import EntryPort, ServiceEntry
from pytest_meshready.cluster.snapshot import Snapshot
from pytest_meshready.istio.clientmodes import cluster_domain
from pytest_meshready.istio.components import held_namespaces
from pytest_meshready.istio.protocols import HTTP_FAMILY, Protocol, declared, named
from pytest_meshready.results import ObjectRef, Unknown

#: What `Hosts` reads; pods tell the domain of the cluster.
READS = ("services", "serviceentries", "namespaces", "pods")

EVERYWHERE, HERE, NOWHERE = "*", ".", "~"
EXPORT_TO = "networking.istio.io/exportTo"


class Known(enum.StrEnum):
    """What is known of a host that a rule names."""

    THERE = "there"
    MISSING = "missing"
    UNREAD = "not read"


@dataclass(frozen=True, slots=True, kw_only=True)
class HostPort:
    """A port of a host. ``http`` tells whether Envoy routes its requests; a protocol that is guessed may be HTTP."""

    number: int
    protocol: Protocol
    guessed: bool = False

    @property
    def http(self) -> bool:
        """Whether routes with timeouts and retries hold for it for certain."""
        return self.protocol in HTTP_FAMILY

    @property
    def grpc(self) -> bool:
        """Whether answers carry a gRPC status, which is what some conditions of retries look at."""
        return self.protocol in (Protocol.GRPC, Protocol.GRPC_WEB)


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """Something that can be called: ``name`` is the full name, ``ref`` the object that makes it."""

    name: str
    ref: ObjectRef
    ports: tuple[HostPort, ...]
    export_to: frozenset[str] = frozenset()
    labels: Mapping[str, str] | None = None
    external_name: str = ""
    headless: bool = False

    @property
    def namespace(self) -> str:
        """Of the object."""
        return self.ref.namespace

    def port(self, number: int) -> HostPort | None:
        """The port of a number."""
        return next((port for port in self.ports if port.number == number), None)

    def visible_in(self, namespace: str) -> bool:
        """Whether callers of a namespace see it; without a word about it, all do."""
        return not self.export_to or EVERYWHERE in self.export_to or namespace in self.export_to


class Hosts:
    """The hosts of a snapshot, by their full names."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self.domain = cluster_domain(snapshot)
        self._exact: dict[str, list[Host]] = {}
        self._wild: dict[str, list[Host]] = {}
        self._namespaces = {item.metadata.name for item in snapshot.namespaces}
        self._read_in = frozenset(held_namespaces(snapshot))
        #: Every host once, Services first.
        self.all: tuple[Host, ...] = (
            *(self._service(item) for item in snapshot.services),
            *(host for item in snapshot.serviceentries for host in self._entries(item)),
        )
        for host in self.all:
            (self._wild if host.name.startswith("*") else self._exact).setdefault(host.name, []).append(host)

    def fqdn(self, name: str, namespace: str) -> str:
        """A name in full: only one without a dot is completed, with the namespace of the rule that names it."""
        return name.lower() if not name or any(sign in name for sign in ".*:") else f"{name}.{namespace}.svc.{self.domain}".lower()

    def find(self, fqdn: str, client: str | None = None) -> Host | None:
        """What a full name names, for callers of a namespace: the very name, or else the longest wildcard that covers it."""
        for host in self._exact.get(fqdn, ()):
            if client is None or host.visible_in(client):
                return host
        covering = [name for name in self._wild if matches(name, fqdn)]
        for name in sorted(covering, key=len, reverse=True):
            for host in self._wild[name]:
                if client is None or host.visible_in(client):
                    return host
        return None

    def known(self, fqdn: str, client: str | None = None) -> Known:
        """Whether a full name names anything, as far as was read."""
        if self.find(fqdn, client) is not None:
            return Known.THERE
        _, namespace = self.service_of(fqdn)
        if not namespace:
            return Known.UNREAD if self._snapshot.unread("serviceentries") else Known.MISSING
        if self._namespaces and namespace not in self._namespaces and not self._snapshot.unread("namespaces"):
            return Known.MISSING
        if namespace not in self._read_in:
            return Known.UNREAD
        refused = [item for item in self._snapshot.unread("services") if item.namespace in ("", namespace)]
        return Known.UNREAD if refused else Known.MISSING

    def unknown(self, fqdn: str) -> Unknown:
        """Why it is not known what a name names."""
        _, namespace = self.service_of(fqdn)
        if not namespace:
            return next(iter(self._snapshot.unread("serviceentries")), Unknown(reason=f"what {fqdn} names is not known"))
        refused = next((item for item in self._snapshot.unread("services") if item.namespace in ("", namespace)), None)
        reason = f"whether {fqdn} exists is not known: the Services of namespace {namespace} were not read"
        return refused or Unknown(reason=reason, verb="list", resource="services", namespace=namespace)

    def service_of(self, fqdn: str) -> tuple[str, str]:
        """Name and namespace of the Service that a full name must be; both empty where it is another kind of name."""
        own, suffix, rest = fqdn.partition(f".svc.{self.domain}")
        name, _, namespace = own.partition(".")
        return (name, namespace) if suffix and not rest and namespace and "." not in namespace else ("", "")

    def _service(self, item: Service) -> Host:
        said = item.metadata.annotations.get(EXPORT_TO, "")
        return Host(
            name=f"{item.metadata.name}.{item.metadata.namespace}.svc.{self.domain}",
            ref=ObjectRef(kind="Service", namespace=item.metadata.namespace, name=item.metadata.name),
            ports=tuple(_service_ports(item)),
            export_to=exported((word.strip() for word in said.split(",") if word.strip()), item.metadata.namespace),
            labels=item.spec.selector or None,
            external_name=item.spec.external_name if item.spec.type == "ExternalName" else "",
            headless=item.spec.cluster_ip == "None",
        )

    def _entries(self, item: ServiceEntry) -> Iterable[Host]:
        ref = ObjectRef(kind="ServiceEntry", namespace=item.metadata.namespace, name=item.metadata.name)
        selector = item.spec.workload_selector
        for name in item.spec.hosts:
            yield Host(
                name=name.lower(),
                ref=ref,
                ports=tuple(_entry_port(port) for port in item.spec.ports),
                export_to=exported(item.spec.export_to, item.metadata.namespace),
                labels=selector.labels if selector else None,
            )


def exported(words: Iterable[str], namespace: str) -> frozenset[str]:
    """The namespaces of an exportTo, ``.`` replaced by the object's own; empty where nothing is said."""
    return frozenset(namespace if word == HERE else word for word in words)


def matches(pattern: str, host: str) -> bool:
    """Whether a host with or without a wildcard covers another; ``*`` covers everything, ``*.b`` does not cover ``b``."""
    if not pattern.startswith("*"):
        return pattern == host
    return host.removeprefix("*").endswith(pattern[1:]) and len(host) >= len(pattern)


def overlap(one: str, other: str) -> bool:
    """Whether some host is covered by both."""
    return matches(one, other) or matches(other, one)


def _service_ports(item: Service) -> Iterable[HostPort]:
    for port in item.spec.ports:
        said = declared(port)
        if said.protocol not in (Protocol.UDP, Protocol.SCTP):
            yield HostPort(number=port.port, protocol=said.protocol, guessed=said.protocol is Protocol.GUESSED)


def _entry_port(port: EntryPort) -> HostPort:
    """A ServiceEntry declares protocols in capitals: ``HTTPS``, ``GRPC-WEB``."""
    protocol = named(port.protocol)
    return HostPort(number=port.number, protocol=protocol, guessed=protocol is Protocol.GUESSED)
