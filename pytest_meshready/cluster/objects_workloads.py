"""Pods and what makes them, cut down to the fields that rules read."""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

from pytest_meshready.cluster.objects_meta import Condition, Labels, LabelSelector, Metadata, Slim


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
