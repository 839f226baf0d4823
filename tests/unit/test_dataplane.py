"""Tests of the classes of pods and of the proxies in them."""

from __future__ import annotations

import pytest

from pytest_meshready.cluster import objects as o
from pytest_meshready.istio.dataplane import (
    DataPlane,
    counted,
    dataplane_class,
    image_name,
    image_version,
    injection_status,
    placeholder,
    proxies,
    proxy_revision,
)
from tests.unit import builders as b

AUTO = o.Container(name="istio-proxy", image="auto")
WAYPOINT = o.Container(name="istio-proxy", image=b.PROXY_IMAGE, args=("proxy", "waypoint"))


@pytest.mark.parametrize(
    ("pod", "expected"),
    [
        (b.meshed_pod(), DataPlane.NATIVE),
        (b.classic_pod(), DataPlane.CLASSIC),
        (b.gateway_pod(), DataPlane.GATEWAY),
        (b.pod(labels={"gateway.networking.k8s.io/gateway-name": "shop"}), DataPlane.GATEWAY),
        (b.pod(containers=(WAYPOINT,)), DataPlane.WAYPOINT),
        (b.pod(labels={"gateway.networking.k8s.io/gateway-class-name": "istio-waypoint"}), DataPlane.WAYPOINT),
        (b.pod(annotations={"ambient.istio.io/redirection": "enabled"}), DataPlane.AMBIENT),
        (b.pod(labels={"istio.io/dataplane-mode": "ambient"}), DataPlane.NAKED),
        (b.pod(host_network=True), DataPlane.EXCLUDED),
        (b.pod(namespace="kube-system"), DataPlane.EXCLUDED),
        (b.pod(), DataPlane.NAKED),
        (b.pod(containers=(AUTO, b.container())), DataPlane.NAKED),
        (o.Pod(), DataPlane.NAKED),
    ],
)
def test_class_follows_what_the_pod_is(pod: o.Pod, expected: DataPlane) -> None:
    """Each row of checks.md 2.2 gives its class; labels that only intend something give none."""
    assert dataplane_class(pod) is expected


def test_proxyless_grpc_is_not_taken_for_a_sidecar() -> None:
    """The template grpc-agent adds a container istio-proxy without Envoy, so the template's name decides."""
    pod = b.classic_pod(annotations={"inject.istio.io/templates": "other, grpc-agent"})
    assert dataplane_class(pod) is DataPlane.PROXYLESS


def test_proxyless_template_without_injection_is_naked() -> None:
    """The annotation alone is a wish: nothing was injected where the injector left no status."""
    assert dataplane_class(b.pod(annotations={"inject.istio.io/templates": "grpc-simple"})) is DataPlane.NAKED


def test_a_sidecar_on_the_nodes_network_is_still_a_sidecar() -> None:
    """Facts come before the reasons for which Istio would leave a pod alone."""
    assert dataplane_class(b.classic_pod(host_network=True)) is DataPlane.CLASSIC


def test_setup_containers_are_no_proxies() -> None:
    """istio-init and istio-validation run from proxyv2 too, but end."""
    validation = o.Container(name="istio-validation", image=b.PROXY_IMAGE)
    pod = b.pod(init_containers=(b.istio_init(), validation))
    assert proxies(pod) == ()


def test_an_init_container_that_ends_is_no_proxy() -> None:
    """Only a restartable init container is a native sidecar."""
    assert proxies(b.pod(init_containers=(b.proxy(native=False),))) == ()


def test_proxy_by_image_under_another_name() -> None:
    """A second Envoy is found by its image, from whatever registry, tag or digest."""
    hand_made = o.Container(name="envoy", image="registry.example.com:5000/mirror/istio/proxyv2:1.29.2-distroless@sha256:ab12")
    pod = b.injected(b.pod(containers=(b.container(), hand_made)))
    assert [container.name for container in proxies(pod)] == ["envoy", "istio-proxy"]


def test_placeholder_runs_nothing() -> None:
    """A container with the image auto waits for the injector and is no proxy."""
    pod = b.pod(containers=(AUTO,))
    assert placeholder(pod)
    assert proxies(pod) == ()
    assert not placeholder(b.meshed_pod())


@pytest.mark.parametrize(
    ("image", "name", "version"),
    [
        ("docker.io/istio/proxyv2:1.31.0", "proxyv2", "1.31.0"),
        ("docker.io/istio/proxyv2:1.31.0-distroless", "proxyv2", "1.31.0"),
        ("gcr.io/release/asm/proxyv2:1.11.2-asm.17-debug", "proxyv2", "1.11.2-asm.17"),
        ("registry:5000/proxyv2", "proxyv2", ""),
        ("istio/proxyv2@sha256:0123", "proxyv2", ""),
        ("istio/proxyv2:1.30.1@sha256:0123", "proxyv2", "1.30.1"),
        ("", "", ""),
    ],
)
def test_image_words(image: str, name: str, version: str) -> None:
    """A registry's port is no version, a digest hides it, and Istio's image types do not count."""
    assert (image_name(image), image_version(image)) == (name, version)


@pytest.mark.parametrize(
    ("labels", "annotations", "revision"),
    [
        ({}, {"sidecar.istio.io/status": '{"revision":"canary"}', "istio.io/rev": "other"}, "canary"),
        ({}, {"istio.io/rev": "1-30"}, "1-30"),
        ({"istio.io/rev": "1-22"}, {"sidecar.istio.io/status": "no json"}, "1-22"),
        ({}, {"sidecar.istio.io/status": '{"revision":null}'}, ""),
        ({}, {}, ""),
    ],
)
def test_revision_of_a_proxy(labels: dict[str, str], annotations: dict[str, str], revision: str) -> None:
    """The injector's note is believed before the annotation, and that before the label of older versions."""
    assert proxy_revision(b.pod(labels=labels, annotations=annotations)) == revision


@pytest.mark.parametrize("text", ["", "[]", "null", "{", '"x"'])
def test_odd_status_is_empty(text: str) -> None:
    """What is no JSON object in the status annotation counts as nothing."""
    assert injection_status(b.pod(annotations={"sidecar.istio.io/status": text})) == {}


def test_who_counts() -> None:
    """Ended pods, pods on their way out and our own probes do not count; a pending pod does."""
    assert counted(b.pod())
    assert counted(b.pod(phase="Pending"))
    assert not counted(b.pod(phase="Succeeded"))
    assert not counted(b.pod(phase="Failed"))
    assert not counted(b.pod(deleted=b.CREATED))
    assert not counted(b.pod(labels={"meshready.io/run": "r1"}))
