"""Limits, ejection and balancing that callers of the namespace apply to a host, by the DestinationRules in force.

Reproduced from istiod's cluster_traffic_policy.go in pilot/pkg/networking/core: settings of a port replace all others of
their rule, a subset's settings replace the rule's block by block, and ``meshConfig.defaultTrafficPolicy`` (Istio 1.31) fills
what no rule says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pytest_meshready.cluster.objects import PortTrafficPolicy, TrafficPolicy
from pytest_meshready.cluster.snapshot import Snapshot
from pytest_meshready.istio import clientmodes
from pytest_meshready.istio.clientmodes import ClientRules, InForce
from pytest_meshready.istio.durations import seconds
from pytest_meshready.istio.hosts import Host
from pytest_meshready.results import ObjectRef

#: What `ClientPolicies` reads; the mesh configuration says what holds without a rule.
READS = (*clientmodes.READS, "configmaps")

#: ``meshConfig.connectTimeout`` where it is not set.
CONNECT_TIMEOUT = 10.0

_Block = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What holds for a port of a host. ``by`` is the rule, None where there is none; ``None`` blocks are Istio's defaults."""

    by: ObjectRef | None = None
    connection_pool: _Block = field(default_factory=dict)
    outlier_detection: _Block | None = None
    load_balancer: _Block = field(default_factory=dict)
    retry_budget: bool = False
    mesh_wide: bool = False


class ClientPolicies:
    """The policies for callers in the namespace of the run."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._rules = ClientRules(snapshot)
        self._client = snapshot.namespace
        mesh = snapshot.mesh
        self._default: _Block = mesh.default_traffic_policy if mesh else {}
        self._connect = (mesh and seconds(mesh.connect_timeout)) or CONNECT_TIMEOUT

    def in_force(self, host: Host) -> tuple[InForce, ...]:
        """The rules for a host; the first that is for callers without special labels comes first."""
        return tuple(sorted(self._rules.in_force(host.name, host.namespace, self._client), key=lambda item: item.selects))

    def of(self, host: Host, port: int) -> Policy:
        """The policy of a port, for callers without special labels whose route names no subset."""
        found = self.in_force(host)
        return self._policy(found[0] if found else InForce(), port)

    def connect_timeout(self, host: Host, port: int) -> float:
        """Seconds that a caller waits for a connection."""
        tcp = self.of(host, port).connection_pool.get("tcp")
        return (seconds(tcp.get("connectTimeout")) if isinstance(tcp, Mapping) else None) or self._connect

    def _policy(self, rule: InForce, port: int) -> Policy:
        own = of_port(rule.policy, port)
        pool = (own.connection_pool if own else None) or _block(self._default, "connectionPool")
        outlier = own.outlier_detection if own else None
        default = _block(self._default, "outlierDetection")
        return Policy(
            by=rule.by,
            connection_pool=pool or {},
            outlier_detection=default if outlier is None else outlier,
            load_balancer=(own.load_balancer if own else None) or {},
            retry_budget=rule.policy is not None and rule.policy.retry_budget is not None,
            mesh_wide=outlier is None and default is not None,
        )


def of_port(policy: TrafficPolicy | None, port: int) -> PortTrafficPolicy | TrafficPolicy | None:
    """The settings of a port: its own where there are any, which then replace all others of the rule."""
    if policy is None:
        return None
    return next((item for item in policy.port_level_settings if item.port.number == port), policy)


def _block(value: _Block, key: str) -> _Block | None:
    found = value.get(key)
    return found if isinstance(found, Mapping) else None
