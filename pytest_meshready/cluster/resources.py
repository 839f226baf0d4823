"""What can be read from the API server: one row per kind, and nothing is read that has no row here.

The lines of the checklist name these rows in ``catalogue.toml`` (``reads``); from the rows of the selected lines follow
the requests of the snapshot, the rights of ``--mesh-rbac`` and the list of ``--mesh-plan``. So the three cannot differ.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from pytest_meshready.cluster import (
    objects,
    objects_certificates,
    objects_entry,
    objects_monitoring,
    objects_network,
    objects_policy,
    objects_telemetry,
)
from pytest_meshready.cluster import objects_capacity as capacity
from pytest_meshready.cluster import objects_controllers as controllers
from pytest_meshready.cluster import objects_traffic as traffic


class Scope(enum.StrEnum):
    """Where a kind is read."""

    CLUSTER = "cluster"
    """once, for the whole cluster"""
    NAMESPACE = "namespace"
    """in the namespace of the run, the control plane's and the root namespace"""
    CONTROL_PLANE = "control plane"
    """in the control plane's namespace alone"""
    NAMED = "named"
    """in the control plane's namespace, one ``get`` for each known name: ConfigMaps are never listed"""
    SYSTEM = "system"
    """in ``kube-system``, one ``get`` for each of the row's names"""
    TRUST = "trust"
    """in the namespace of the run and the control plane's, one ``get`` for each of the row's names"""
    GIVEN = "given"
    """one ``get`` for each object that ``meshready.toml`` names, and nothing where it names none: Secrets are never listed"""
    PATH = "path"
    """a path of the API server that is no kind of object, such as ``/readyz``; it is the row's ``plural``"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """A kind of object; ``key`` is its name in a snapshot and in the catalogue.

    ``names`` are the objects of `Scope.SYSTEM` and `Scope.TRUST`. ``field_selector`` leaves objects out of a list on the server's side.
    """

    key: str
    group: str
    version: str
    plural: str
    type: type[objects.Slim]
    scope: Scope = Scope.NAMESPACE
    names: tuple[str, ...] = ()
    field_selector: str = ""

    @property
    def rbac_name(self) -> str:
        """The plural with its group, as ``kubectl auth can-i`` takes it: ``deployments.apps``, ``pods``, ``/readyz``."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def prefix(self) -> str:
        """The beginning of the request's path: ``/api/v1``, ``/apis/apps/v1``."""
        return f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"


def _core(key: str, type_: type[objects.Slim], scope: Scope = Scope.NAMESPACE) -> Resource:
    return Resource(key=key, group="", version="v1", plural=key, type=type_, scope=scope)


def _grouped(
    key: str, group: str, type_: type[objects.Slim], scope: Scope = Scope.NAMESPACE, *, version: str = "v1", plural: str = ""
) -> Resource:
    return Resource(key=key, group=group, version=version, plural=plural or key, type=type_, scope=scope)


#: The namespace of Kubernetes' own components.
SYSTEM_NAMESPACE = "kube-system"

#: Pods that have ended occupy nothing; a cluster may keep thousands of them.
_ACTIVE = "status.phase!=Succeeded,status.phase!=Failed"

_ROWS = (
    _core("namespaces", objects.Namespace, Scope.CLUSTER),
    _core("nodes", objects.Node, Scope.CLUSTER),
    _core("pods", objects.Pod),
    Resource(key="node_pods", group="", version="v1", plural="pods", type=capacity.NodePod, scope=Scope.CLUSTER, field_selector=_ACTIVE),
    _core("services", objects.Service),
    _core("serviceaccounts", objects.ServiceAccount),
    _core("configmaps", objects.ConfigMap, Scope.NAMED),
    Resource(
        key="rootcertificates",
        group="",
        version="v1",
        plural="configmaps",
        type=objects_certificates.RootCertificates,
        scope=Scope.TRUST,
        names=("istio-ca-root-cert",),
    ),
    _core("secrets", objects_certificates.GatewaySecret, Scope.GIVEN),
    _core("resourcequotas", capacity.ResourceQuota),
    _core("limitranges", capacity.LimitRange),
    Resource(
        key="autoscaler_status",
        group="",
        version="v1",
        plural="configmaps",
        type=capacity.ClusterAutoscalerStatus,
        scope=Scope.SYSTEM,
        names=("cluster-autoscaler-status",),
    ),
    Resource(key="readyz", group="", version="", plural="/readyz", type=capacity.ServerHealth, scope=Scope.PATH),
    _grouped("apiservices", "apiregistration.k8s.io", capacity.ApiService, Scope.CLUSTER),
    _grouped("nodepools", "karpenter.sh", capacity.NodePool, Scope.CLUSTER),
    _grouped("nodeclaims", "karpenter.sh", capacity.NodeClaim, Scope.CLUSTER),
    _grouped("networkpolicies", "networking.k8s.io", objects_network.NetworkPolicy),
    _grouped("ingresses", "networking.k8s.io", objects_network.Ingress),
    _grouped("endpointslices", "discovery.k8s.io", objects.EndpointSlice),
    _grouped("deployments", "apps", objects.Deployment),
    _grouped("statefulsets", "apps", objects.StatefulSet),
    _grouped("daemonsets", "apps", objects.DaemonSet),
    _grouped("replicasets", "apps", objects.ReplicaSet),
    _grouped("jobs", "batch", objects.Job),
    _grouped("cronjobs", "batch", objects.CronJob),
    _grouped("poddisruptionbudgets", "policy", objects.PodDisruptionBudget),
    _grouped("horizontalpodautoscalers", "autoscaling", objects.HorizontalPodAutoscaler, version="v2"),
    _grouped("leases", "coordination.k8s.io", objects.Lease, Scope.CONTROL_PLANE),
    _grouped("mutatingwebhookconfigurations", "admissionregistration.k8s.io", objects.MutatingWebhookConfiguration, Scope.CLUSTER),
    _grouped("peerauthentications", "security.istio.io", objects.PeerAuthentication),
    _grouped("authorizationpolicies", "security.istio.io", objects.AuthorizationPolicy),
    _grouped("requestauthentications", "security.istio.io", objects_policy.RequestAuthentication),
    _grouped("destinationrules", "networking.istio.io", objects.DestinationRule),
    _grouped("workloadentries", "networking.istio.io", objects_policy.WorkloadEntry),
    _grouped("gateways", "networking.istio.io", objects_entry.Gateway, Scope.CLUSTER),
    _grouped("virtualservices", "networking.istio.io", objects_entry.VirtualService, Scope.CLUSTER),
    _grouped("serviceentries", "networking.istio.io", traffic.ServiceEntry, Scope.CLUSTER),
    _grouped("sidecars", "networking.istio.io", traffic.Sidecar),
    _grouped("envoyfilters", "networking.istio.io", traffic.EnvoyFilter, version="v1alpha3"),
    _grouped("wasmplugins", "extensions.istio.io", traffic.WasmPlugin, version="v1alpha1"),
    _grouped("trafficextensions", "extensions.istio.io", traffic.TrafficExtension, version="v1alpha1"),
    _grouped("httproutes", "gateway.networking.k8s.io", traffic.HTTPRoute, Scope.CLUSTER),
    _grouped("grpcroutes", "gateway.networking.k8s.io", traffic.GRPCRoute, Scope.CLUSTER),
    _grouped("tlsroutes", "gateway.networking.k8s.io", traffic.TLSRoute, Scope.CLUSTER),
    _grouped("tcproutes", "gateway.networking.k8s.io", traffic.TCPRoute, Scope.CLUSTER),
    _grouped("backendtlspolicies", "gateway.networking.k8s.io", traffic.BackendTLSPolicy),
    _grouped("referencegrants", "gateway.networking.k8s.io", traffic.ReferenceGrant),
    _grouped("k8sgateways", "gateway.networking.k8s.io", traffic.K8sGateway, Scope.CLUSTER, plural="gateways"),
    _grouped("canaries", "flagger.app", controllers.Canary, version="v1beta1"),
    _grouped("rollouts", "argoproj.io", controllers.Rollout, version="v1alpha1"),
    _grouped("networkchaos", "chaos-mesh.org", controllers.NetworkChaos, Scope.CLUSTER, version="v1alpha1"),
    _grouped("httpchaos", "chaos-mesh.org", controllers.HTTPChaos, Scope.CLUSTER, version="v1alpha1"),
    _grouped("podchaos", "chaos-mesh.org", controllers.PodChaos, Scope.CLUSTER, version="v1alpha1"),
    _grouped("stresschaos", "chaos-mesh.org", controllers.StressChaos, Scope.CLUSTER, version="v1alpha1"),
    _grouped("chaosengines", "litmuschaos.io", controllers.ChaosEngine, Scope.CLUSTER, version="v1alpha1"),
    _grouped("telemetries", "telemetry.istio.io", objects_telemetry.Telemetry),
    _grouped("podmonitors", "monitoring.coreos.com", objects_monitoring.PodMonitor, Scope.CLUSTER),
    _grouped("servicemonitors", "monitoring.coreos.com", objects_monitoring.ServiceMonitor, Scope.CLUSTER),
    _grouped("prometheusrules", "monitoring.coreos.com", objects_monitoring.PrometheusRule, Scope.CLUSTER),
)

#: Every row by its key, in the order of reading.
RESOURCES = {row.key: row for row in _ROWS}

#: Read in every run, whatever lines are selected: without them neither the namespace nor its control plane is found.
ALWAYS = ("namespaces", "mutatingwebhookconfigurations", "configmaps")

#: Read of each namespace that the settings declare for the mesh, too: in which steps the mesh became STRICT (line 7.2.3).
OF_DECLARED = frozenset({"peerauthentications"})

#: ConfigMaps that carry the name of the revision as a suffix (``istio-canary``), unless it is the default revision.
REVISIONED_CONFIGMAPS = ("istio", "istio-sidecar-injector", "values")

#: ConfigMaps that istiod's leader elections lock; checks.md 3.2.3 tells which version uses which.
ELECTION_CONFIGMAPS = (
    "istio-namespace-controller-election",
    "istio-leader",
    "istio-gateway-status-leader",
    "istio-ip-autoallocate",
    "istio-analyze-leader",
    "istio-node-untaint",
    "istio-status-leader",
)


def configmap_names(revision: str) -> tuple[str, ...]:
    """The ConfigMaps to get from the control plane's namespace for a revision (``default`` or empty: no suffix)."""
    suffix = "" if revision in ("", "default") else f"-{revision}"
    return (*(f"{name}{suffix}" for name in REVISIONED_CONFIGMAPS), *ELECTION_CONFIGMAPS)
