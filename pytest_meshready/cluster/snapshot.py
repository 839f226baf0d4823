"""What was seen of a cluster, at one moment, as data: the only thing that rules look at.

A snapshot comes from a live cluster, from manifests or from a saved file (DESIGN, Decision 3), is taken once per run and
is never changed. It remembers what could not be read (`Refusal`), because an empty list proves something only where the
list was permitted.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from pytest_meshready.cluster import (
    objects,
    objects_capacity,
    objects_certificates,
    objects_controllers,
    objects_entry,
    objects_monitoring,
    objects_network,
    objects_policy,
    objects_telemetry,
    objects_traffic,
)
from pytest_meshready.cluster.objects import LabelSelector, Slim
from pytest_meshready.results import Finding, Unknown

#: Raised when a field changes its meaning; an older file is then refused with a clear sentence.
SCHEMA = 1


_T = TypeVar("_T", bound=Any)


class SnapshotError(Exception):
    """A saved snapshot that cannot be used; the message is one sentence for the user."""


class Refusal(Slim, frozen=True):
    """A read that gave nothing: no right (403), not served (404 of a kind that is not installed), server error, time-out.

    ``key`` is the row of `pytest_meshready.cluster.resources`; ``status`` the HTTP status, 0 without an answer.
    ``reason`` is a sentence with the server's own message. ``absent`` tells that the API server does not know the kind,
    which is an answer: there are no objects of it.
    """

    key: str
    verb: str
    resource: str
    namespace: str = ""
    status: int = 0
    reason: str = ""
    absent: bool = False


class Unreadable(Slim, frozen=True):
    """An object that did not have the shape of its kind; what depends on its kind cannot be verified."""

    key: str
    namespace: str
    name: str
    problem: str


class Place(Slim, frozen=True):
    """Where an object stands in the manifests: ``file`` as the user would type it, ``line`` counted from 1."""

    kind: str
    namespace: str
    name: str
    file: str
    line: int


class ControlPlane(Slim, frozen=True):
    """One istiod installation, as its webhooks show it: a revision in a namespace, or an address outside the cluster."""

    namespace: str
    revision: str
    service: str = ""
    url: str = ""
    tags: tuple[str, ...] = ()
    webhooks: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.namespace or self.url}/{self.revision}"


class MeshConfig(Slim, frozen=True):
    """The parts of ``meshConfig`` that rules read, from ConfigMap ``istio[-REV]``; None where it is not set there."""

    root_namespace: str = ""
    trust_domain: str = ""
    trust_domain_aliases: tuple[str, ...] = ()
    enable_auto_mtls: bool | None = None
    discovery_selectors: tuple[LabelSelector, ...] = ()
    outbound_traffic_policy: dict[str, Any] = {}
    enable_tracing: bool | None = None
    default_providers: dict[str, Any] = {}
    extension_providers: tuple[dict[str, Any], ...] = ()
    default_config: dict[str, Any] = {}
    default_http_retry_policy: dict[str, Any] | None = None
    connect_timeout: str = ""
    default_traffic_policy: dict[str, Any] = {}
    access_log_file: str = ""
    enable_prometheus_merge: bool | None = None
    ingress_controller_mode: str = ""


class InjectorConfig(Slim, frozen=True):
    """What the injector was told, from ConfigMap ``istio-sidecar-injector[-REV]``.

    ``policy``, the selectors and ``default_templates`` come from its key ``config``; the rest from its key ``values``.
    ``proxy_resources`` is Kubernetes' shape; ``include_inbound_ports``/``exclude_inbound_ports`` are comma lists.
    """

    policy: str = ""
    always_inject_selector: tuple[LabelSelector, ...] = ()
    never_inject_selector: tuple[LabelSelector, ...] = ()
    default_templates: tuple[str, ...] = ()
    enable_namespaces_by_default: bool = False
    rewrite_app_http_probe: bool | None = None
    cni_enabled: bool = False
    proxy_image: str = ""
    hub: str = ""
    tag: str = ""
    proxy_resources: objects.Resources = objects.Resources()
    include_inbound_ports: str = "*"
    exclude_inbound_ports: str = ""


class InstallValues(Slim, frozen=True):
    """What the person who installed Istio wrote down, from key ``original-values`` of ConfigMap ``values[-REV]`` (since 1.26).

    The ConfigMap is a record: who changes it changes nothing in the mesh, and it may be older than what runs. ``profile``
    is empty where none was named, which installs Istio's defaults. Both are a word (`meshconfig.parse_values`).
    """

    profile: str = ""
    compatibility_version: str = ""


class AnalysisMessage(Slim, frozen=True):
    """One message of ``istioctl analyze``, in its own words: ``level`` is Error, Warning or Info, ``origin`` ``Kind ns/name``."""

    code: str = ""
    level: str = ""
    origin: str = ""
    message: str = ""
    documentation_url: str = ""


class IstioctlAnalysis(Slim, frozen=True):
    """What ``istioctl analyze`` said of the namespace. ``problem`` is one sentence where it said nothing to go by."""

    messages: tuple[AnalysisMessage, ...] = ()
    problem: str = ""


class Snapshot(Slim, frozen=True, omit_defaults=False):
    """One look at a cluster. Tuples are sorted by namespace and name. See `unread` before trusting an empty one.

    ``gateway_namespaces`` are those that the settings named beside the run's own; ``declared_namespaces`` those that they declare
    for the mesh, of which only `pytest_meshready.cluster.resources.OF_DECLARED` was read; ``gateway_secrets`` the Secrets that were
    asked for, as ``NAMESPACE/NAME``: one of these that is not among ``secrets`` and was not refused does not exist.
    ``places`` is filled from manifests alone.
    """

    namespace: str
    source: str = "cluster"
    schema: int = SCHEMA
    taken: str = ""
    context: str = ""
    cluster_uid: str = ""
    kubernetes_version: str = ""
    istio_version: str = ""
    read: tuple[str, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    unreadable: tuple[Unreadable, ...] = ()

    control_planes: tuple[ControlPlane, ...] = ()
    control_plane: ControlPlane | None = None
    control_plane_problem: str = ""
    mesh: MeshConfig | None = None
    injector: InjectorConfig | None = None
    install: InstallValues | None = None
    istioctl: IstioctlAnalysis | None = None
    gateway_namespaces: tuple[str, ...] = ()
    declared_namespaces: tuple[str, ...] = ()
    gateway_secrets: tuple[str, ...] = ()
    places: tuple[Place, ...] = ()

    namespaces: tuple[objects.Namespace, ...] = ()
    nodes: tuple[objects.Node, ...] = ()
    pods: tuple[objects.Pod, ...] = ()
    services: tuple[objects.Service, ...] = ()
    serviceaccounts: tuple[objects.ServiceAccount, ...] = ()
    configmaps: tuple[objects.ConfigMap, ...] = ()
    endpointslices: tuple[objects.EndpointSlice, ...] = ()
    deployments: tuple[objects.Deployment, ...] = ()
    statefulsets: tuple[objects.StatefulSet, ...] = ()
    daemonsets: tuple[objects.DaemonSet, ...] = ()
    replicasets: tuple[objects.ReplicaSet, ...] = ()
    jobs: tuple[objects.Job, ...] = ()
    cronjobs: tuple[objects.CronJob, ...] = ()
    poddisruptionbudgets: tuple[objects.PodDisruptionBudget, ...] = ()
    horizontalpodautoscalers: tuple[objects.HorizontalPodAutoscaler, ...] = ()
    leases: tuple[objects.Lease, ...] = ()
    mutatingwebhookconfigurations: tuple[objects.MutatingWebhookConfiguration, ...] = ()
    peerauthentications: tuple[objects.PeerAuthentication, ...] = ()
    authorizationpolicies: tuple[objects.AuthorizationPolicy, ...] = ()
    destinationrules: tuple[objects.DestinationRule, ...] = ()
    requestauthentications: tuple[objects_policy.RequestAuthentication, ...] = ()
    workloadentries: tuple[objects_policy.WorkloadEntry, ...] = ()
    rootcertificates: tuple[objects_certificates.RootCertificates, ...] = ()
    secrets: tuple[objects_certificates.GatewaySecret, ...] = ()
    node_pods: tuple[objects_capacity.NodePod, ...] = ()
    resourcequotas: tuple[objects_capacity.ResourceQuota, ...] = ()
    limitranges: tuple[objects_capacity.LimitRange, ...] = ()
    autoscaler_status: tuple[objects_capacity.ClusterAutoscalerStatus, ...] = ()
    readyz: tuple[objects_capacity.ServerHealth, ...] = ()
    apiservices: tuple[objects_capacity.ApiService, ...] = ()
    nodepools: tuple[objects_capacity.NodePool, ...] = ()
    nodeclaims: tuple[objects_capacity.NodeClaim, ...] = ()
    networkpolicies: tuple[objects_network.NetworkPolicy, ...] = ()
    ingresses: tuple[objects_network.Ingress, ...] = ()
    gateways: tuple[objects_entry.Gateway, ...] = ()
    virtualservices: tuple[objects_entry.VirtualService, ...] = ()
    serviceentries: tuple[objects_traffic.ServiceEntry, ...] = ()
    sidecars: tuple[objects_traffic.Sidecar, ...] = ()
    envoyfilters: tuple[objects_traffic.EnvoyFilter, ...] = ()
    wasmplugins: tuple[objects_traffic.WasmPlugin, ...] = ()
    trafficextensions: tuple[objects_traffic.TrafficExtension, ...] = ()
    httproutes: tuple[objects_traffic.HTTPRoute, ...] = ()
    grpcroutes: tuple[objects_traffic.GRPCRoute, ...] = ()
    tlsroutes: tuple[objects_traffic.TLSRoute, ...] = ()
    tcproutes: tuple[objects_traffic.TCPRoute, ...] = ()
    backendtlspolicies: tuple[objects_traffic.BackendTLSPolicy, ...] = ()
    referencegrants: tuple[objects_traffic.ReferenceGrant, ...] = ()
    k8sgateways: tuple[objects_traffic.K8sGateway, ...] = ()
    canaries: tuple[objects_controllers.Canary, ...] = ()
    rollouts: tuple[objects_controllers.Rollout, ...] = ()
    networkchaos: tuple[objects_controllers.NetworkChaos, ...] = ()
    httpchaos: tuple[objects_controllers.HTTPChaos, ...] = ()
    podchaos: tuple[objects_controllers.PodChaos, ...] = ()
    stresschaos: tuple[objects_controllers.StressChaos, ...] = ()
    chaosengines: tuple[objects_controllers.ChaosEngine, ...] = ()
    telemetries: tuple[objects_telemetry.Telemetry, ...] = ()
    podmonitors: tuple[objects_monitoring.PodMonitor, ...] = ()
    servicemonitors: tuple[objects_monitoring.ServiceMonitor, ...] = ()
    prometheusrules: tuple[objects_monitoring.PrometheusRule, ...] = ()

    @property
    def root_namespace(self) -> str:
        """Where mesh-wide policy lives: ``meshConfig.rootNamespace``, else the control plane's, else istio-system."""
        if self.mesh and self.mesh.root_namespace:
            return self.mesh.root_namespace
        return self.istio_namespace

    @property
    def istio_namespace(self) -> str:
        """The control plane's namespace; ``istio-system`` where none was found."""
        return (self.control_plane and self.control_plane.namespace) or "istio-system"

    @property
    def trust_domain(self) -> str:
        """``meshConfig.trustDomain``; Istio's default is ``cluster.local``."""
        return (self.mesh and self.mesh.trust_domain) or "cluster.local"

    @property
    def is_deployed(self) -> bool:
        """Whether the objects are in a cluster, so that their status means something: in manifests they have none yet."""
        return self.source != "manifests"

    def this_namespace(self) -> objects.Namespace | None:
        """The namespace of the run, None where namespaces could not be read."""
        return next((item for item in self.namespaces if item.metadata.name == self.namespace), None)

    def unread(self, *keys: str) -> tuple[Unknown, ...]:
        """What is unknown of these kinds: refused, failed, never asked for, or not of the shape of its kind."""
        unknown = [
            Unknown(reason=refusal.reason, verb=refusal.verb, resource=refusal.resource, namespace=refusal.namespace)
            for refusal in self.refusals
            if refusal.key in keys and not refusal.absent
        ]
        refused = {refusal.key for refusal in self.refusals}
        unknown += [
            Unknown(reason=f"{key} were not read: the {self.source} does not hold them")
            for key in keys
            if key not in self.read and key not in refused
        ]
        unknown += [
            Unknown(reason=f"{item.namespace}/{item.name} in {item.key} could not be understood: {item.problem}", namespace=item.namespace)
            for item in self.unreadable
            if item.key in keys
        ]
        return tuple(unknown)


def selects(selector: LabelSelector | None, labels: Mapping[str, str]) -> bool:
    """Whether a Kubernetes selector matches: None matches nothing, an empty one everything.

    An operator that Kubernetes does not have matches nothing, as the API server would have refused it.
    """
    if selector is None:
        return False
    if any(labels.get(key) != value for key, value in selector.match_labels.items()):
        return False
    return all(_expression_holds(expression, labels) for expression in selector.match_expressions)


def _expression_holds(expression: objects.LabelExpression, labels: Mapping[str, str]) -> bool:
    value = labels.get(expression.key)
    match expression.operator:
        case "In":
            return value is not None and value in expression.values
        case "NotIn":
            return value is None or value not in expression.values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
    return False


def in_namespace(items: Iterable[_T], namespace: str) -> tuple[_T, ...]:
    """The objects of one namespace."""
    return tuple(item for item in items if item.metadata.namespace == namespace)


def located(findings: Iterable[Finding], snapshot: Snapshot) -> tuple[Finding, ...]:
    """The findings with the file and the line of their objects, where these are known.

    Two kinds share the name Gateway: a place that fits several objects is no place.
    """
    known: dict[tuple[str, str, str], list[Place]] = {}
    for place in snapshot.places:
        known.setdefault((place.kind, place.namespace, place.name), []).append(place)
    return tuple(_placed(finding, known) for finding in findings)


def _placed(finding: Finding, known: Mapping[tuple[str, str, str], list[Place]]) -> Finding:
    ref = finding.object
    found = known.get((ref.kind, ref.namespace, ref.name), [])
    if finding.file or len(found) != 1:
        return finding
    return dataclasses.replace(finding, file=found[0].file, line=found[0].line)


@functools.cache
def decoder() -> msgspec.json.Decoder[Snapshot]:
    """Decodes snapshots; building it takes a moment, so it is built once."""
    return msgspec.json.Decoder(Snapshot)


def encode(snapshot: Snapshot) -> bytes:
    """The snapshot as JSON, for a file or for xdist's workers."""
    return msgspec.json.encode(snapshot)


def decode(data: bytes) -> Snapshot:
    """The inverse of `encode`.

    Raises:
        SnapshotError: with one sentence, where the data is no snapshot or one of another schema.
    """
    try:
        schema = msgspec.json.decode(data, type=_Header).schema
        if schema != SCHEMA:
            raise SnapshotError(f"it has schema {schema}, this version of pytest-meshready reads schema {SCHEMA}: record it again")
        return decoder().decode(data)
    except msgspec.DecodeError as error:
        raise SnapshotError(f"it is not a snapshot that --mesh-save-snapshot wrote ({error})") from error


class _Header(Slim, frozen=True):
    schema: int = 0


def load(path: Path) -> Snapshot:
    """A saved snapshot.

    Raises:
        SnapshotError: with one sentence, where the file cannot be read or is no snapshot.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SnapshotError(f"it cannot be read: {error.strerror or error}") from error
    return decode(data)
