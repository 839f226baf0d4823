"""Istio's policies and DestinationRules, cut down to what rules read; what routes stands in the modules beside."""

from __future__ import annotations

from typing import Any, ClassVar

from pytest_meshready.cluster.objects_meta import Labels, Metadata, Slim, TargetRef


class WorkloadSelector(Slim, frozen=True):
    """Istio's selector: ``matchLabels`` in security policies, ``labels`` in Sidecar, EnvoyFilter and their kin."""

    match_labels: Labels = {}
    labels: Labels = {}


class MutualTls(Slim, frozen=True):
    """``mode``: STRICT, PERMISSIVE, DISABLE, or UNSET (empty), which inherits."""

    mode: str = ""


class PeerAuthenticationSpec(Slim, frozen=True):
    """Keys of ``port_level_mtls`` are ports of the workload, not of the Service."""

    selector: WorkloadSelector | None = None
    mtls: MutualTls | None = None
    port_level_mtls: dict[str, MutualTls] = {}


class PeerAuthentication(Slim, frozen=True):
    kind: ClassVar[str] = "PeerAuthentication"
    metadata: Metadata = Metadata()
    spec: PeerAuthenticationSpec = PeerAuthenticationSpec()


class NamedProvider(Slim, frozen=True):
    name: str = ""


class AuthorizationPolicySpec(Slim, frozen=True):
    """``action`` empty means ALLOW; a policy without rules that allows denies everything it selects.

    One with ``target_refs`` (before Istio 1.22: ``target_ref``) is for gateways and waypoints alone.
    """

    selector: WorkloadSelector | None = None
    target_ref: TargetRef | None = None
    target_refs: tuple[TargetRef, ...] = ()
    provider: NamedProvider | None = None
    action: str = ""
    rules: tuple[dict[str, Any], ...] | None = None


class AuthorizationPolicy(Slim, frozen=True):
    kind: ClassVar[str] = "AuthorizationPolicy"
    metadata: Metadata = Metadata()
    spec: AuthorizationPolicySpec = AuthorizationPolicySpec()


class ClientTls(Slim, frozen=True):
    mode: str = ""
    credential_name: str = ""
    ca_certificates: str = ""
    sni: str = ""


class PortSelector(Slim, frozen=True):
    number: int = 0


class PortTrafficPolicy(Slim, frozen=True):
    port: PortSelector = PortSelector()
    tls: ClientTls | None = None
    connection_pool: dict[str, Any] | None = None
    outlier_detection: dict[str, Any] | None = None
    load_balancer: dict[str, Any] | None = None


class TrafficPolicy(Slim, frozen=True):
    tls: ClientTls | None = None
    port_level_settings: tuple[PortTrafficPolicy, ...] = ()
    connection_pool: dict[str, Any] | None = None
    outlier_detection: dict[str, Any] | None = None
    load_balancer: dict[str, Any] | None = None
    retry_budget: dict[str, Any] | None = None


class Subset(Slim, frozen=True):
    name: str = ""
    labels: Labels = {}
    traffic_policy: TrafficPolicy | None = None


class DestinationRuleSpec(Slim, frozen=True):
    host: str = ""
    traffic_policy: TrafficPolicy | None = None
    subsets: tuple[Subset, ...] = ()
    export_to: tuple[str, ...] = ()
    workload_selector: WorkloadSelector | None = None


class DestinationRule(Slim, frozen=True):
    kind: ClassVar[str] = "DestinationRule"
    metadata: Metadata = Metadata()
    spec: DestinationRuleSpec = DestinationRuleSpec()
