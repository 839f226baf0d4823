"""Kubernetes' and Istio's objects, cut down to the fields that rules read.

One struct per kind, fields in Kubernetes' own words (``camelCase`` on the wire, ``snake_case`` here). What is not named
here is never decoded, so it can neither slow a snapshot down nor leak into a report: an application's environment, a
Secret, an annotation that is not Istio's (`keep_annotations`). Frozen, so that a snapshot can be shared; ``gc=False``
because ten thousand pods of small structs are otherwise what Python's garbage collector spends its time on.

Pods and workloads, Istio's policies and what all objects share have modules of their own; rules and tests know all of them by
this one.
"""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

from pytest_meshready.cluster.objects_istio import (
    AuthorizationPolicy,
    AuthorizationPolicySpec,
    ClientTls,
    DestinationRule,
    DestinationRuleSpec,
    MutualTls,
    NamedProvider,
    PeerAuthentication,
    PeerAuthenticationSpec,
    PortSelector,
    PortTrafficPolicy,
    Subset,
    TrafficPolicy,
    WorkloadSelector,
)
from pytest_meshready.cluster.objects_meta import (
    ANNOTATIONS,
    ENVIRONMENT,
    ENVIRONMENT_OF,
    OLD_SWITCHES,
    Condition,
    LabelExpression,
    Labels,
    LabelSelector,
    Metadata,
    OwnerReference,
    Slim,
    TargetRef,
    keep_annotations,
)
from pytest_meshready.cluster.objects_workloads import (
    Container,
    ContainerPort,
    ContainerState,
    ContainerStatus,
    CronJob,
    CronJobSpec,
    DaemonSet,
    Deployment,
    EnvVar,
    HttpGet,
    Job,
    JobSpec,
    JobTemplate,
    Pod,
    PodSpec,
    PodStatus,
    PodTemplate,
    PortAction,
    Probe,
    ReplicaSet,
    Resources,
    RollingUpdate,
    SecurityContext,
    StateDetail,
    StatefulSet,
    Strategy,
    Toleration,
    TopologySpread,
    WorkloadSpec,
    WorkloadStatus,
)

__all__ = [
    "ANNOTATIONS",
    "ENVIRONMENT",
    "ENVIRONMENT_OF",
    "OLD_SWITCHES",
    "AuthorizationPolicy",
    "AuthorizationPolicySpec",
    "AutoscalerSpec",
    "AutoscalerStatus",
    "ClientConfig",
    "ClientTls",
    "Condition",
    "ConfigMap",
    "Container",
    "ContainerPort",
    "ContainerState",
    "ContainerStatus",
    "CronJob",
    "CronJobSpec",
    "DaemonSet",
    "Deployment",
    "DestinationRule",
    "DestinationRuleSpec",
    "DisruptionSpec",
    "DisruptionStatus",
    "Endpoint",
    "EndpointConditions",
    "EndpointPort",
    "EndpointSlice",
    "EnvVar",
    "HorizontalPodAutoscaler",
    "HttpGet",
    "Job",
    "JobSpec",
    "JobTemplate",
    "LabelExpression",
    "LabelSelector",
    "Labels",
    "Lease",
    "LeaseSpec",
    "LoadBalancer",
    "LoadBalancerIngress",
    "ManagedFields",
    "Metadata",
    "MutatingWebhookConfiguration",
    "MutualTls",
    "NamedProvider",
    "Namespace",
    "NamespaceMetadata",
    "Node",
    "NodeInfo",
    "NodeSpec",
    "NodeStatus",
    "OwnerReference",
    "PeerAuthentication",
    "PeerAuthenticationSpec",
    "Pod",
    "PodDisruptionBudget",
    "PodSpec",
    "PodStatus",
    "PodTemplate",
    "PortAction",
    "PortSelector",
    "PortTrafficPolicy",
    "Probe",
    "ReplicaSet",
    "Resources",
    "RollingUpdate",
    "ScaleTarget",
    "SecurityContext",
    "Service",
    "ServiceAccount",
    "ServicePort",
    "ServiceReference",
    "ServiceSpec",
    "ServiceStatus",
    "Slim",
    "StateDetail",
    "StatefulSet",
    "Strategy",
    "Subset",
    "TargetRef",
    "Toleration",
    "TopologySpread",
    "TrafficPolicy",
    "Webhook",
    "WorkloadSelector",
    "WorkloadSpec",
    "WorkloadStatus",
    "keep_annotations",
]


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
