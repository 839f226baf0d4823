"""Kubernetes' and Istio's objects, cut down to the fields that rules read.

One struct per kind, fields in Kubernetes' own words (``camelCase`` on the wire, ``snake_case`` here). What is not named
here is never decoded, so it can neither slow a snapshot down nor leak into a report: an application's environment, a
Secret, an annotation that is not Istio's (`keep_annotations`). Frozen, so that a snapshot can be shared; ``gc=False``
because ten thousand pods of small structs are otherwise what Python's garbage collector spends its time on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import msgspec

#: Annotations whose prefix (before the slash) ends in one of these are kept, all others are dropped when read.
ANNOTATIONS = (
    "istio.io",
    "prometheus.io",
    "control-plane.alpha.kubernetes.io",
    "meshready.io",
    "deployment.kubernetes.io",
    "chaos-mesh.org",
)

#: Prefixes and ends of annotations by which clouds are told how to check a Service: a port, a protocol.
_BALANCERS = ("service.beta.kubernetes.io", "service.kubernetes.io", "kubernetes.digitalocean.com", "load-balancer.hetzner.cloud")
_HEALTH_CHECK = ("port", "protocol")

#: Environment variables are kept only in these containers, which are Istio's own, and only by these prefixes.
ENVIRONMENT_OF = ("istio-proxy", "discovery")
ENVIRONMENT = (
    "PILOT_",
    "ENABLE_",
    "ISTIO_META_",
    "ISTIO_KUBE_APP_PROBERS",
    "PROXY_CONFIG",
    "TRUST_DOMAIN",
    "CA_ADDR",
    "REVISION",
    "EXTERNAL_ISTIOD",
)

Labels = dict[str, str]


class Slim(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, gc=False):
    """Base of all structs here: only settings, no behaviour."""


class OwnerReference(Slim, frozen=True):
    kind: str = ""
    name: str = ""
    controller: bool = False


class Metadata(Slim, frozen=True):
    """``metadata``, less what changes at every write (managedFields, resourceVersion). Times are RFC 3339 text."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    generation: int = 0
    labels: Labels = {}
    annotations: dict[str, str] = {}
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None
    owner_references: tuple[OwnerReference, ...] = ()


class LabelExpression(Slim, frozen=True):
    key: str = ""
    operator: str = ""
    values: tuple[str, ...] = ()


class LabelSelector(Slim, frozen=True):
    """Kubernetes' selector; see `selects` in `pytest_meshready.cluster.snapshot` for what it matches."""

    match_labels: Labels = {}
    match_expressions: tuple[LabelExpression, ...] = ()


class Condition(Slim, frozen=True):
    type: str = ""
    status: str = ""
    reason: str = ""
    message: str = ""
    last_transition_time: str | None = None


# --- pods and what makes them ---------------------------------------------------------------------------------------


class EnvVar(Slim, frozen=True):
    name: str = ""
    value: str = ""


class ContainerPort(Slim, frozen=True):
    container_port: int = 0
    name: str = ""
    protocol: str = "TCP"
    host_port: int = 0


class HttpGet(Slim, frozen=True):
    path: str = ""
    port: int | str = 0
    scheme: str = ""


class PortAction(Slim, frozen=True):
    port: int | str = 0


class Probe(Slim, frozen=True):
    """A probe; ``exec`` is only known to be there, its command is not kept."""

    http_get: HttpGet | None = None
    tcp_socket: PortAction | None = None
    grpc: PortAction | None = None
    exec: dict[str, Any] | None = None
    initial_delay_seconds: int = 0
    period_seconds: int = 10
    timeout_seconds: int = 1
    failure_threshold: int = 3


class Resources(Slim, frozen=True):
    """Quantities as written: ``100m``, ``128Mi``, or a number."""

    requests: dict[str, str | int | float] = {}
    limits: dict[str, str | int | float] = {}


class SecurityContext(Slim, frozen=True):
    run_as_user: int | None = None


class Container(Slim, frozen=True):
    """``restart_policy`` is ``Always`` for a native sidecar among the init containers."""

    name: str = ""
    image: str = ""
    args: tuple[str, ...] = ()
    env: tuple[EnvVar, ...] = ()
    ports: tuple[ContainerPort, ...] = ()
    resources: Resources = Resources()
    restart_policy: str = ""
    liveness_probe: Probe | None = None
    readiness_probe: Probe | None = None
    startup_probe: Probe | None = None
    security_context: SecurityContext | None = None


class TopologySpread(Slim, frozen=True):
    topology_key: str = ""
    max_skew: int = 1
    when_unsatisfiable: str = ""
    label_selector: LabelSelector | None = None


class Toleration(Slim, frozen=True):
    key: str = ""
    operator: str = ""
    value: str = ""
    effect: str = ""


class PodSpec(Slim, frozen=True):
    """``resources`` are those of the pod as a whole, which stand for its containers' where they are set (Kubernetes 1.34)."""

    containers: tuple[Container, ...] = ()
    init_containers: tuple[Container, ...] = ()
    service_account_name: str = ""
    node_name: str = ""
    host_network: bool = False
    restart_policy: str = "Always"
    scheduler_name: str = ""
    priority_class_name: str = ""
    termination_grace_period_seconds: int | None = None
    topology_spread_constraints: tuple[TopologySpread, ...] = ()
    affinity: dict[str, Any] | None = None
    node_selector: Labels = {}
    tolerations: tuple[Toleration, ...] = ()
    overhead: dict[str, str | int | float] = {}
    resources: Resources = Resources()


class StateDetail(Slim, frozen=True):
    reason: str = ""
    message: str = ""
    exit_code: int | None = None
    started_at: str | None = None
    finished_at: str | None = None


class ContainerState(Slim, frozen=True):
    waiting: StateDetail | None = None
    running: StateDetail | None = None
    terminated: StateDetail | None = None


class ContainerStatus(Slim, frozen=True):
    name: str = ""
    ready: bool = False
    started: bool | None = None
    restart_count: int = 0
    state: ContainerState = ContainerState()
    last_state: ContainerState = ContainerState()


class PodStatus(Slim, frozen=True):
    phase: str = ""
    reason: str = ""
    pod_ip: str = msgspec.field(default="", name="podIP")
    start_time: str | None = None
    conditions: tuple[Condition, ...] = ()
    container_statuses: tuple[ContainerStatus, ...] = ()
    init_container_statuses: tuple[ContainerStatus, ...] = ()


class Pod(Slim, frozen=True):
    kind: ClassVar[str] = "Pod"
    metadata: Metadata = Metadata()
    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()


class PodTemplate(Slim, frozen=True):
    metadata: Metadata = Metadata()
    spec: PodSpec = PodSpec()


class RollingUpdate(Slim, frozen=True):
    max_surge: int | str | None = None
    max_unavailable: int | str | None = None


class Strategy(Slim, frozen=True):
    type: str = ""
    rolling_update: RollingUpdate | None = None


class WorkloadSpec(Slim, frozen=True):
    """``replicas`` is None where it is not set, which Kubernetes reads as one.

    ``strategy`` is a Deployment's, ``update_strategy`` a StatefulSet's or a DaemonSet's.
    """

    replicas: int | None = None
    selector: LabelSelector | None = None
    template: PodTemplate = PodTemplate()
    strategy: Strategy = Strategy()
    update_strategy: Strategy = Strategy()
    paused: bool = False


class WorkloadStatus(Slim, frozen=True):
    observed_generation: int = 0
    replicas: int = 0
    ready_replicas: int = 0
    updated_replicas: int = 0
    available_replicas: int = 0
    desired_number_scheduled: int = 0
    number_ready: int = 0
    number_available: int = 0
    updated_number_scheduled: int = 0
    conditions: tuple[Condition, ...] = ()


class Deployment(Slim, frozen=True):
    kind: ClassVar[str] = "Deployment"
    metadata: Metadata = Metadata()
    spec: WorkloadSpec = WorkloadSpec()
    status: WorkloadStatus = WorkloadStatus()


class StatefulSet(Slim, frozen=True):
    kind: ClassVar[str] = "StatefulSet"
    metadata: Metadata = Metadata()
    spec: WorkloadSpec = WorkloadSpec()
    status: WorkloadStatus = WorkloadStatus()


class DaemonSet(Slim, frozen=True):
    kind: ClassVar[str] = "DaemonSet"
    metadata: Metadata = Metadata()
    spec: WorkloadSpec = WorkloadSpec()
    status: WorkloadStatus = WorkloadStatus()


class ReplicaSet(Slim, frozen=True):
    kind: ClassVar[str] = "ReplicaSet"
    metadata: Metadata = Metadata()
    spec: WorkloadSpec = WorkloadSpec()
    status: WorkloadStatus = WorkloadStatus()


class JobSpec(Slim, frozen=True):
    template: PodTemplate = PodTemplate()
    completions: int | None = None
    suspend: bool = False


class Job(Slim, frozen=True):
    kind: ClassVar[str] = "Job"
    metadata: Metadata = Metadata()
    spec: JobSpec = JobSpec()


class JobTemplate(Slim, frozen=True):
    spec: JobSpec = JobSpec()


class CronJobSpec(Slim, frozen=True):
    schedule: str = ""
    suspend: bool = False
    job_template: JobTemplate = JobTemplate()


class CronJob(Slim, frozen=True):
    kind: ClassVar[str] = "CronJob"
    metadata: Metadata = Metadata()
    spec: CronJobSpec = CronJobSpec()


# --- the rest of Kubernetes -----------------------------------------------------------------------------------------


class ManagedFields(Slim, frozen=True):
    """One writer's part of an object: when it wrote last, and which of Istio's labels it owns.

    ``fields_v1`` is only what the wire has: ``labels`` is made of it when it is read, and it is dropped.
    """

    time: str | None = None
    fields_v1: dict[str, Any] = msgspec.field(default={}, name="fieldsV1")
    labels: tuple[str, ...] = ()


class NamespaceMetadata(Metadata, frozen=True):
    """``managed_fields`` tells since when a namespace has its injection label, as far as anything does."""

    managed_fields: tuple[ManagedFields, ...] = ()


class Namespace(Slim, frozen=True):
    kind: ClassVar[str] = "Namespace"
    metadata: NamespaceMetadata = NamespaceMetadata()


class NodeSpec(Slim, frozen=True):
    unschedulable: bool = False
    taints: tuple[Toleration, ...] = ()


class NodeInfo(Slim, frozen=True):
    kubelet_version: str = ""


class NodeStatus(Slim, frozen=True):
    conditions: tuple[Condition, ...] = ()
    allocatable: dict[str, str | int | float] = {}
    capacity: dict[str, str | int | float] = {}
    node_info: NodeInfo = NodeInfo()


class Node(Slim, frozen=True):
    kind: ClassVar[str] = "Node"
    metadata: Metadata = Metadata()
    spec: NodeSpec = NodeSpec()
    status: NodeStatus = NodeStatus()


class ServicePort(Slim, frozen=True):
    """``target_port`` is a number, a container port's name, or None: the same as ``port``."""

    name: str = ""
    port: int = 0
    protocol: str = "TCP"
    app_protocol: str | None = None
    target_port: int | str | None = None
    node_port: int = 0


class ServiceSpec(Slim, frozen=True):
    type: str = "ClusterIP"
    cluster_ip: str = msgspec.field(default="", name="clusterIP")
    external_name: str = ""
    selector: Labels | None = None
    ports: tuple[ServicePort, ...] = ()
    external_traffic_policy: str = ""
    health_check_node_port: int = 0


class LoadBalancerIngress(Slim, frozen=True):
    ip: str = ""
    hostname: str = ""


class LoadBalancer(Slim, frozen=True):
    ingress: tuple[LoadBalancerIngress, ...] = ()


class ServiceStatus(Slim, frozen=True):
    load_balancer: LoadBalancer = LoadBalancer()


class Service(Slim, frozen=True):
    kind: ClassVar[str] = "Service"
    metadata: Metadata = Metadata()
    spec: ServiceSpec = ServiceSpec()
    status: ServiceStatus = ServiceStatus()


class EndpointConditions(Slim, frozen=True):
    """``ready`` is None where it is not said, which Kubernetes reads as ready."""

    ready: bool | None = None


class TargetRef(Slim, frozen=True):
    kind: str = ""
    name: str = ""
    namespace: str = ""


class Endpoint(Slim, frozen=True):
    addresses: tuple[str, ...] = ()
    conditions: EndpointConditions = EndpointConditions()
    target_ref: TargetRef | None = None
    node_name: str | None = None


class EndpointPort(Slim, frozen=True):
    name: str | None = None
    port: int | None = None
    protocol: str | None = None
    app_protocol: str | None = None


class EndpointSlice(Slim, frozen=True):
    """The Service that it belongs to is its label ``kubernetes.io/service-name``."""

    kind: ClassVar[str] = "EndpointSlice"
    metadata: Metadata = Metadata()
    endpoints: tuple[Endpoint, ...] | None = None
    ports: tuple[EndpointPort, ...] | None = None


class ServiceAccount(Slim, frozen=True):
    kind: ClassVar[str] = "ServiceAccount"
    metadata: Metadata = Metadata()


class DisruptionSpec(Slim, frozen=True):
    """A null ``selector`` selects nothing, an empty one everything."""

    selector: LabelSelector | None = None
    min_available: int | str | None = None
    max_unavailable: int | str | None = None


class DisruptionStatus(Slim, frozen=True):
    disruptions_allowed: int = 0
    current_healthy: int = 0
    desired_healthy: int = 0
    expected_pods: int = 0
    observed_generation: int = 0


class PodDisruptionBudget(Slim, frozen=True):
    kind: ClassVar[str] = "PodDisruptionBudget"
    metadata: Metadata = Metadata()
    spec: DisruptionSpec = DisruptionSpec()
    status: DisruptionStatus = DisruptionStatus()


class ScaleTarget(Slim, frozen=True):
    kind: str = ""
    name: str = ""


class AutoscalerSpec(Slim, frozen=True):
    """``min_replicas`` is None where it is not set, which Kubernetes reads as one."""

    scale_target_ref: ScaleTarget = ScaleTarget()
    min_replicas: int | None = None
    max_replicas: int = 0
    metrics: tuple[dict[str, Any], ...] = ()


class AutoscalerStatus(Slim, frozen=True):
    conditions: tuple[Condition, ...] = ()
    current_replicas: int = 0
    desired_replicas: int = 0
    last_scale_time: str | None = None


class HorizontalPodAutoscaler(Slim, frozen=True):
    kind: ClassVar[str] = "HorizontalPodAutoscaler"
    metadata: Metadata = Metadata()
    spec: AutoscalerSpec = AutoscalerSpec()
    status: AutoscalerStatus = AutoscalerStatus()


class LeaseSpec(Slim, frozen=True):
    holder_identity: str | None = None
    lease_duration_seconds: int | None = None
    acquire_time: str | None = None
    renew_time: str | None = None
    lease_transitions: int | None = None


class Lease(Slim, frozen=True):
    kind: ClassVar[str] = "Lease"
    metadata: Metadata = Metadata()
    spec: LeaseSpec = LeaseSpec()


class ServiceReference(Slim, frozen=True):
    namespace: str = ""
    name: str = ""


class ClientConfig(Slim, frozen=True):
    url: str | None = None
    service: ServiceReference | None = None


class Webhook(Slim, frozen=True):
    name: str = ""
    client_config: ClientConfig = ClientConfig()
    namespace_selector: LabelSelector | None = None
    object_selector: LabelSelector | None = None
    failure_policy: str = ""
    reinvocation_policy: str = ""
    timeout_seconds: int = 10


class MutatingWebhookConfiguration(Slim, frozen=True):
    kind: ClassVar[str] = "MutatingWebhookConfiguration"
    metadata: Metadata = Metadata()
    webhooks: tuple[Webhook, ...] = ()


class ConfigMap(Slim, frozen=True):
    """Only ConfigMaps that are named in `pytest_meshready.cluster.resources` are read; ``data`` is theirs."""

    kind: ClassVar[str] = "ConfigMap"
    metadata: Metadata = Metadata()
    data: dict[str, str] = {}


# --- Istio ----------------------------------------------------------------------------------------------------------


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


def keep_annotations(annotations: Mapping[str, str]) -> dict[str, str]:
    """The annotations that rules may read: Istio's and its neighbours'; the rest may hold anything, so it is dropped.

    Of a cloud's annotations for load balancers only those are kept that name the port or the protocol of a health check.
    """
    return {key: value for key, value in annotations.items() if key.partition("/")[0].endswith(ANNOTATIONS) or _of_health_check(key)}


def _of_health_check(key: str) -> bool:
    return "health" in key and key.partition("/")[0].endswith(_BALANCERS) and key.endswith(_HEALTH_CHECK)
