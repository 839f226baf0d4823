"""What all of Kubernetes' objects have in common, and which annotations and variables of them are kept."""

from __future__ import annotations

from collections.abc import Mapping

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
#: Switches of istiod that releases removed (`pytest_meshready.istio.changes`) and whose names begin otherwise.
OLD_SWITCHES = (
    "BYPASS_OVERLOAD_MANAGER_FOR_STATIC_LISTENERS",
    "EXCLUDE_UNSAFE_503_FROM_DEFAULT_RETRY",
    "ISTIO_ENABLE_OPTIMIZED_SERVICE_PUSH",
    "METRIC_GRACEFUL_DELETION_INTERVAL",
    "METRIC_ROTATION_INTERVAL",
    "PERSIST_OLDEST_FIRST_HEURISTIC_FOR_VIRTUAL_SERVICE_HOST_MATCHING",
    "VERIFY_CERTIFICATE_AT_CLIENT",
)
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
    *OLD_SWITCHES,
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


class TargetRef(Slim, frozen=True):
    kind: str = ""
    name: str = ""
    namespace: str = ""


def keep_annotations(annotations: Mapping[str, str]) -> dict[str, str]:
    """The annotations that rules may read: Istio's and its neighbours'; the rest may hold anything, so it is dropped.

    Of a cloud's annotations for load balancers only those are kept that name the port or the protocol of a health check.
    """
    return {key: value for key, value in annotations.items() if key.partition("/")[0].endswith(ANNOTATIONS) or _of_health_check(key)}


def _of_health_check(key: str) -> bool:
    return "health" in key and key.partition("/")[0].endswith(_BALANCERS) and key.endswith(_HEALTH_CHECK)
