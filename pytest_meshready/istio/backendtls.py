"""BackendTLSPolicies of the Gateway API, as istiod turns them into DestinationRules (checks.md 2.4).

Reproduced from pilot/pkg/config/kube/gateway/backend_policies.go of August 2026. A policy for a Service or a ServiceEntry of its
namespace is not for gateways alone: every caller in the mesh begins TLS of mode SIMPLE. Of two policies for one target the
older is taken. What such a rule and a DestinationRule of the same host make together is in `clientmodes`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property

from pytest_meshready.cluster.objects import ClientTls, PortSelector, PortTrafficPolicy, Service, TrafficPolicy
from pytest_meshready.cluster.objects_traffic import BackendTLSPolicy, PolicyTarget, ServiceEntry
from pytest_meshready.cluster.snapshot import Snapshot
from pytest_meshready.istio.moments import moment
from pytest_meshready.results import ObjectRef

#: What `BackendPolicies` reads; the Services and ServiceEntries that policies name lend it numbers of ports, and hosts.
READS = ("backendtlspolicies",)

KIND = "BackendTLSPolicy"
MODE = "SIMPLE"

#: Where the settings of a policy stand in it, by the place that they get in a DestinationRule.
PLACES = {"trafficPolicy": "targetRefs", "portLevelSettings": "targetRefs[].sectionName"}

#: The whole host, among the numbers of ports.
WHOLE = 0

_IGNORED = "istio.io/ignore-policy-attachment"
_NO_TIME = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a reference of a policy leads to.

    ``kind`` is empty where istiod takes no such kind, ``ports`` (numbers by name) is None where it is not there or was not read.
    """

    kind: str = ""
    hosts: tuple[str, ...] = ()
    ports: Mapping[str, int] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendRule:
    """What istiod makes of all policies for one host: ``by`` tells for each port, and for `WHOLE`, whose settings it has."""

    namespace: str
    host: str
    by: dict[int, ObjectRef] = field(default_factory=dict)

    @property
    def policy(self) -> TrafficPolicy:
        """As a DestinationRule would have it."""
        tls = ClientTls(mode=MODE)
        ports = (PortTrafficPolicy(port=PortSelector(number=number), tls=tls) for number in sorted(self.by) if number != WHOLE)
        return TrafficPolicy(tls=tls if WHOLE in self.by else None, port_level_settings=tuple(ports))


class BackendPolicies:
    """Every BackendTLSPolicy of a snapshot that istiod looks at."""

    def __init__(self, snapshot: Snapshot, domain: str) -> None:
        self._snapshot = snapshot
        self._domain = domain
        #: The older first.
        self.all = tuple(sorted((item for item in snapshot.backendtlspolicies if not _ignored(item)), key=_precedence))
        self._first: dict[tuple[str, PolicyTarget], BackendTLSPolicy] = {}
        for policy in self.all:
            for asked in policy.spec.target_refs:
                self._first.setdefault((policy.metadata.namespace, asked), policy)

    def taken(self, policy: BackendTLSPolicy, asked: PolicyTarget) -> BackendTLSPolicy:
        """The policy that istiod takes for a target of a policy: this one, or an older one with the very same target."""
        return self._first[policy.metadata.namespace, asked]

    def target(self, policy: BackendTLSPolicy, asked: PolicyTarget) -> Target:
        """What a target of a policy is. A Service has its host whether it was read or not."""
        namespace, name = policy.metadata.namespace, asked.name
        match (asked.group, asked.kind):
            case ("", "Service"):
                service = self._services.get((namespace, name))
                ports = {port.name or "": port.port for port in service.spec.ports} if service is not None else None
                return Target(kind=asked.kind, hosts=(f"{name}.{namespace}.svc.{self._domain}",), ports=ports)
            case ("networking.istio.io", "ServiceEntry"):
                entry = self._entries.get((namespace, name))
                if entry is None:
                    return Target(kind=asked.kind)
                return Target(kind=asked.kind, hosts=entry.spec.hosts, ports={port.name: port.number for port in entry.spec.ports})
        return Target()

    def rules(self) -> tuple[BackendRule, ...]:
        """The rules that istiod makes of them; a port that its target does not have makes none."""
        found: dict[tuple[str, str, str, str], BackendRule] = {}
        for policy in self.all:
            namespace = policy.metadata.namespace
            for asked in policy.spec.target_refs:
                target = self.target(policy, asked)
                number = (target.ports or {}).get(asked.section_name) if asked.section_name else WHOLE
                if number is None or self.taken(policy, asked) is not policy:
                    continue
                for host in target.hosts:
                    made = BackendRule(namespace=namespace, host=host)
                    found.setdefault((namespace, target.kind, asked.name, host), made).by.setdefault(number, reference(policy))
        return tuple(found.values())

    @cached_property
    def _services(self) -> dict[tuple[str, str], Service]:
        return {(item.metadata.namespace, item.metadata.name): item for item in self._snapshot.services}

    @cached_property
    def _entries(self) -> dict[tuple[str, str], ServiceEntry]:
        return {(item.metadata.namespace, item.metadata.name): item for item in self._snapshot.serviceentries}


def reference(policy: BackendTLSPolicy) -> ObjectRef:
    """The policy, for findings."""
    return ObjectRef(kind=KIND, namespace=policy.metadata.namespace, name=policy.metadata.name)


def filled(user: TrafficPolicy | None, backend: TrafficPolicy | None) -> TrafficPolicy | None:
    """A DestinationRule's policy, with what a backend's policy says where it says nothing (destination_rule.go).

    Settings of a port are filled one by one, too: a port of which only the backend's policy speaks has nothing but those.
    """
    if user is None or backend is None:
        return user if backend is None else backend
    return TrafficPolicy(
        tls=user.tls if user.tls is not None else backend.tls,
        port_level_settings=_filled_ports(user.port_level_settings, backend.port_level_settings),
        connection_pool=user.connection_pool if user.connection_pool is not None else backend.connection_pool,
        outlier_detection=user.outlier_detection if user.outlier_detection is not None else backend.outlier_detection,
        load_balancer=user.load_balancer if user.load_balancer is not None else backend.load_balancer,
        retry_budget=user.retry_budget if user.retry_budget is not None else backend.retry_budget,
    )


def _filled_ports(user: Iterable[PortTrafficPolicy], backend: Iterable[PortTrafficPolicy]) -> tuple[PortTrafficPolicy, ...]:
    merged = list(user)
    place = {item.port.number: index for index, item in enumerate(merged)}
    for item in backend:
        index = place.get(item.port.number)
        if index is None:
            merged.append(item)
            continue
        own = merged[index]
        merged[index] = PortTrafficPolicy(
            port=own.port,
            tls=own.tls if own.tls is not None else item.tls,
            connection_pool=own.connection_pool if own.connection_pool is not None else item.connection_pool,
            outlier_detection=own.outlier_detection if own.outlier_detection is not None else item.outlier_detection,
            load_balancer=own.load_balancer if own.load_balancer is not None else item.load_balancer,
        )
    return tuple(merged)


def _ignored(policy: BackendTLSPolicy) -> bool:
    return policy.metadata.annotations.get(_IGNORED, "").lower() == "true"


def _precedence(policy: BackendTLSPolicy) -> tuple[datetime, str, str]:
    metadata = policy.metadata
    return moment(metadata.creation_timestamp) or _NO_TIME, metadata.namespace, metadata.name
