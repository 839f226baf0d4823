"""What decides whether the cluster has room: every pod's requests, quotas and limits of a namespace, and what adds nodes.

Pods of the whole cluster are kept as the few fields that arithmetic needs: ten thousand of them must not cost more than the
namespace that is looked at.
"""

from __future__ import annotations

from typing import ClassVar

from pytest_meshready.cluster.objects import Condition, ContainerStatus, Metadata, Resources, ServiceReference, Slim

Quantity = str | int | float

#: Labels that are kept of pods of other namespaces: they tell the cluster's DNS and pods with a proxy.
NODE_POD_LABELS = ("k8s-app", "security.istio.io/tlsMode", "dns.operator.openshift.io/daemonset-dns")

#: Annotations that are kept of pods of other namespaces: the revision whose injector made the proxy.
NODE_POD_ANNOTATIONS = ("istio.io/rev",)

#: The values of ``app`` and ``app.kubernetes.io/name`` whose pods keep all labels, because NetworkPolicies select them.
SCRAPERS = ("prometheus",)

#: Labels of a pod that may say what it is.
NAME_LABELS = ("app.kubernetes.io/name", "app")

#: The values of the labels ``k8s-app`` and ``app`` of Istio's agents on the nodes, which may run in any namespace: their pods
#: keep their labels and the states of their containers.
NODE_AGENTS = {"k8s-app": "istio-cni-node", "app": "ztunnel"}


class NodeContainer(Slim, frozen=True):
    """``restart_policy`` is ``Always`` for a native sidecar among the init containers."""

    resources: Resources = Resources()
    restart_policy: str = ""


class NodePodSpec(Slim, frozen=True):
    """``resources`` are those of the pod as a whole, which replace the sum of its containers' (Kubernetes 1.34)."""

    containers: tuple[NodeContainer, ...] = ()
    init_containers: tuple[NodeContainer, ...] = ()
    node_name: str = ""
    overhead: dict[str, Quantity] = {}
    resources: Resources = Resources()


class NodePodStatus(Slim, frozen=True):
    """``container_statuses`` are kept of Istio's node agents alone."""

    phase: str = ""
    conditions: tuple[Condition, ...] = ()
    container_statuses: tuple[ContainerStatus, ...] = ()


class NodePod(Slim, frozen=True):
    """A pod of any namespace as what occupies a node."""

    kind: ClassVar[str] = "Pod"
    metadata: Metadata = Metadata()
    spec: NodePodSpec = NodePodSpec()
    status: NodePodStatus = NodePodStatus()


class ScopeExpression(Slim, frozen=True):
    scope_name: str = ""
    operator: str = ""
    values: tuple[str, ...] = ()


class ScopeSelector(Slim, frozen=True):
    match_expressions: tuple[ScopeExpression, ...] = ()


class QuotaSpec(Slim, frozen=True):
    scopes: tuple[str, ...] = ()
    scope_selector: ScopeSelector | None = None


class QuotaStatus(Slim, frozen=True):
    """What is permitted and what is used, by the quota's own names: ``requests.cpu``, ``limits.memory``, ``pods``."""

    hard: dict[str, Quantity] = {}
    used: dict[str, Quantity] = {}


class ResourceQuota(Slim, frozen=True):
    kind: ClassVar[str] = "ResourceQuota"
    metadata: Metadata = Metadata()
    spec: QuotaSpec = QuotaSpec()
    status: QuotaStatus = QuotaStatus()


class LimitRangeItem(Slim, frozen=True):
    """``type`` is Container, Pod or PersistentVolumeClaim."""

    type: str = ""
    max: dict[str, Quantity] = {}
    min: dict[str, Quantity] = {}
    default: dict[str, Quantity] = {}
    default_request: dict[str, Quantity] = {}
    max_limit_request_ratio: dict[str, Quantity] = {}


class LimitRangeSpec(Slim, frozen=True):
    limits: tuple[LimitRangeItem, ...] = ()


class LimitRange(Slim, frozen=True):
    kind: ClassVar[str] = "LimitRange"
    metadata: Metadata = Metadata()
    spec: LimitRangeSpec = LimitRangeSpec()


class ApiServiceSpec(Slim, frozen=True):
    """``service`` is None for what the API server serves itself."""

    service: ServiceReference | None = None


class ApiServiceStatus(Slim, frozen=True):
    conditions: tuple[Condition, ...] = ()


class ApiService(Slim, frozen=True):
    kind: ClassVar[str] = "APIService"
    metadata: Metadata = Metadata()
    spec: ApiServiceSpec = ApiServiceSpec()
    status: ApiServiceStatus = ApiServiceStatus()


class ServerHealth(Slim, frozen=True):
    """What the API server says of itself at ``/readyz``: the HTTP status and the names of the checks that fail."""

    kind: ClassVar[str] = "APIServer"
    metadata: Metadata = Metadata()
    status: int = 0
    failing: tuple[str, ...] = ()


# --- what adds nodes --------------------------------------------------------------------------------------------------


class NodePoolSpec(Slim, frozen=True):
    limits: dict[str, Quantity] = {}


class NodePoolStatus(Slim, frozen=True):
    """``resources`` is what its nodes have now; it is compared with the limits."""

    resources: dict[str, Quantity] = {}
    conditions: tuple[Condition, ...] = ()


class NodePool(Slim, frozen=True):
    """A group of nodes that Karpenter grows."""

    kind: ClassVar[str] = "NodePool"
    metadata: Metadata = Metadata()
    spec: NodePoolSpec = NodePoolSpec()
    status: NodePoolStatus = NodePoolStatus()


class NodeClaimStatus(Slim, frozen=True):
    node_name: str = ""
    conditions: tuple[Condition, ...] = ()


class NodeClaim(Slim, frozen=True):
    """One node that Karpenter has asked for."""

    kind: ClassVar[str] = "NodeClaim"
    metadata: Metadata = Metadata()
    status: NodeClaimStatus = NodeClaimStatus()


class NodeGroupState(Slim, frozen=True):
    """One group of Cluster Autoscaler's: sizes are None where the status does not say them."""

    name: str = ""
    health: str = ""
    scale_up: str = ""
    backoff: str = ""
    target: int | None = None
    max_size: int | None = None


class AutoscalerState(Slim, frozen=True):
    """What Cluster Autoscaler says of itself. ``problem`` is not empty where its text could not be understood.

    ``running`` is its own word (``Running``, ``Initializing``), ``written`` when it wrote it (RFC 3339).
    """

    running: str = ""
    written: str = ""
    health: str = ""
    scale_up: str = ""
    groups: tuple[NodeGroupState, ...] = ()
    problem: str = ""


class AutoscalerData(Slim, frozen=True):
    """The ConfigMap's text; it is parsed and dropped when it is read, because it may quote a cloud's messages."""

    status: str = ""


class ClusterAutoscalerStatus(Slim, frozen=True):
    """ConfigMap ``kube-system/cluster-autoscaler-status``, as what it says."""

    kind: ClassVar[str] = "ConfigMap"
    metadata: Metadata = Metadata()
    data: AutoscalerData = AutoscalerData()
    state: AutoscalerState = AutoscalerState()
