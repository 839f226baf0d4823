"""What carries a pod's traffic, read from the pod itself and never from the cluster (checks.md 2.2).

One namespace can hold native sidecars, classic sidecars and ambient pods at once: a node with an old kubelet is enough.
"""

from __future__ import annotations

import enum
import json

from pytest_meshready.cluster.objects import Container, Pod, PodSpec, PodTemplate

#: The container that runs pilot-agent and Envoy, in sidecars, gateways and waypoints alike.
PROXY = "istio-proxy"

#: Set-up containers that run from the proxy's image, but end: they are no proxies.
SETUP = frozenset({"istio-init", "istio-validation", "enable-core-dump"})

#: Namespaces in which istiod injects nothing, whatever their labels say (``IgnoredNamespaces`` in pkg/kube/inject).
SYSTEM_NAMESPACES = frozenset({"kube-system", "kube-public", "kube-node-lease", "local-path-storage"})

#: The label of everything that a run of pytest-meshready creates.
RUN_LABEL = "meshready.io/run"

STATUS = "sidecar.istio.io/status"
REVISION = "istio.io/rev"
TEMPLATES = "inject.istio.io/templates"
REDIRECTION = "ambient.istio.io/redirection"

_PROXY_IMAGE = "proxyv2"
#: A container with this image waits for the injector to fill it in; if it still has it, it was not injected.
_PLACEHOLDER = "auto"
_GATEWAY_NAME = "gateway.networking.k8s.io/gateway-name"
_GATEWAY_CLASS = "gateway.networking.k8s.io/gateway-class-name"
_WAYPOINT_CLASSES = frozenset({"istio-waypoint", "istio-agentgateway-waypoint"})
_PROXYLESS = frozenset({"grpc-agent", "grpc-simple"})
_IMAGE_TYPES = ("-distroless", "-debug")


class DataPlane(enum.StrEnum):
    """What carries the traffic of a pod."""

    GATEWAY = "gateway"
    """Envoy alone, for traffic that enters or leaves"""
    WAYPOINT = "waypoint"
    """the shared proxy of an ambient namespace"""
    NATIVE = "native sidecar"
    """a sidecar among the init containers that always restarts: it starts before the application and ends after it"""
    CLASSIC = "classic sidecar"
    """a sidecar among the ordinary containers"""
    PROXYLESS = "proxyless gRPC"
    """the application speaks to istiod itself; there is no Envoy"""
    AMBIENT = "ambient"
    """the node's ztunnel"""
    EXCLUDED = "excluded"
    """nothing, because Istio leaves such pods alone: the node's network, a system namespace"""
    NAKED = "no data plane"
    """nothing"""


def proxies(pod: Pod | PodTemplate) -> tuple[Container, ...]:
    """The containers in which an Envoy of Istio's runs for as long as the pod does.

    These are the ordinary containers and the init containers that always restart, by the name ``istio-proxy`` or the
    image ``proxyv2`` of any registry. A container that still waits for the injector (image ``auto``) runs nothing.
    """
    return tuple(container for container in _running(pod.spec) if _is_proxy(container))


def _running(spec: PodSpec) -> tuple[Container, ...]:
    return (*spec.containers, *(container for container in spec.init_containers if container.restart_policy == "Always"))


def _is_proxy(container: Container) -> bool:
    if container.image == _PLACEHOLDER or container.name in SETUP:
        return False
    return container.name == PROXY or image_name(container.image) == _PROXY_IMAGE


def counted(pod: Pod) -> bool:
    """Whether a pod takes part in the mesh today: not ended, not being deleted, and not one of our own probes."""
    ended = pod.status.phase in ("Succeeded", "Failed")
    return not ended and pod.metadata.deletion_timestamp is None and RUN_LABEL not in pod.metadata.labels


def placeholder(pod: Pod) -> bool:
    """Whether the pod has a container ``istio-proxy`` with the image ``auto``, which the injector should have filled in."""
    return any(container.name == PROXY and container.image == _PLACEHOLDER for container in _running(pod.spec))


def dataplane_class(pod: Pod) -> DataPlane:
    """The class of a pod, by what it is; what its labels intend is another question (`pytest_meshready.istio.injector`).

    Proxyless pods come before sidecars: the template ``grpc-agent`` adds a container ``istio-proxy`` that runs no Envoy.
    """
    labels, annotations = pod.metadata.labels, pod.metadata.annotations
    found = proxies(pod)
    if labels.get(_GATEWAY_CLASS) in _WAYPOINT_CLASSES or any("waypoint" in container.args for container in found):
        return DataPlane.WAYPOINT
    if _GATEWAY_NAME in labels or any("router" in container.args for container in found):
        return DataPlane.GATEWAY
    if STATUS in annotations and _PROXYLESS & set(_words(annotations.get(TEMPLATES, ""))):
        return DataPlane.PROXYLESS
    if found:
        ordinary = any(container in pod.spec.containers for container in found)
        return DataPlane.CLASSIC if ordinary else DataPlane.NATIVE
    if annotations.get(REDIRECTION) == "enabled":
        return DataPlane.AMBIENT
    if pod.spec.host_network or pod.metadata.namespace in SYSTEM_NAMESPACES:
        return DataPlane.EXCLUDED
    return DataPlane.NAKED


def proxy_revision(pod: Pod) -> str:
    """The revision whose injector made the pod's proxy; empty where the pod does not say.

    Istio 1.24 and later writes it into ``sidecar.istio.io/status`` and the annotation ``istio.io/rev``, before that it was
    the label of that name.
    """
    status = injection_status(pod)
    said = status.get("revision")
    if isinstance(said, str) and said:
        return said
    return pod.metadata.annotations.get(REVISION) or pod.metadata.labels.get(REVISION) or ""


def injection_status(pod: Pod) -> dict[str, object]:
    """What the injector wrote into ``sidecar.istio.io/status``; empty where there is none or it is no JSON object."""
    try:
        status = json.loads(pod.metadata.annotations.get(STATUS, ""))
    except ValueError:
        return {}
    return status if isinstance(status, dict) else {}


def image_name(image: str) -> str:
    """The last word of an image's repository: ``proxyv2`` of ``registry:5000/istio/proxyv2:1.31.0-distroless``."""
    return _last(image).partition(":")[0]


def image_version(image: str) -> str:
    """The version in an image's tag, without Istio's image types; empty where the image is named by its digest alone."""
    version = _last(image).partition(":")[2]
    for suffix in _IMAGE_TYPES:
        version = version.removesuffix(suffix)
    return version


def _last(image: str) -> str:
    return image.partition("@")[0].rpartition("/")[2]


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",")]
