"""Which inbound ports the redirection takes into the sidecar."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from pytest_meshready.cluster import objects as o
from pytest_meshready.cluster.snapshot import InjectorConfig
from pytest_meshready.istio.capture import EXCLUDE, INCLUDE, INTERCEPTION, STATUS_PORT, capture
from tests.unit import builders as make

DEFAULTS = InjectorConfig()


def arguments(*args: str, **fields: Any) -> o.Pod:
    """A running pod whose istio-init was started with these arguments after the usual ones."""
    pod = make.meshed_pod(**fields)
    init = msgspec.structs.replace(pod.spec.init_containers[0], args=("istio-iptables", *args))
    inits = (init, *pod.spec.init_containers[1:])
    return msgspec.structs.replace(pod, spec=msgspec.structs.replace(pod.spec, init_containers=inits))


CASES = {
    "nothing said": ({}, DEFAULTS, {8080, 9090}),
    "one excluded": ({EXCLUDE: "9090"}, DEFAULTS, {8080}),
    "several excluded, untidy": ({EXCLUDE: " 9090 , ,x,8080"}, DEFAULTS, set()),
    "one included": ({INCLUDE: "8080"}, DEFAULTS, {8080}),
    "none included": ({INCLUDE: ""}, DEFAULTS, set()),
    "exclusion counts only where all are included": ({INCLUDE: "8080,9090", EXCLUDE: "9090"}, DEFAULTS, {8080, 9090}),
    "the injector excludes": ({}, InjectorConfig(exclude_inbound_ports="9090"), {8080}),
    "the injector includes": ({}, InjectorConfig(include_inbound_ports="9090"), {9090}),
    "the annotation replaces the injector's word": ({EXCLUDE: "8080"}, InjectorConfig(exclude_inbound_ports="9090"), {9090}),
    "the agent's port": ({STATUS_PORT: "9090"}, DEFAULTS, {8080}),
    "no interception": ({INTERCEPTION: "NONE"}, DEFAULTS, set()),
    "TPROXY": ({INTERCEPTION: "TPROXY"}, DEFAULTS, {8080, 9090}),
    "no injector known": ({}, None, {8080, 9090}),
}


@pytest.mark.parametrize(("annotations", "injector", "captured"), CASES.values(), ids=CASES)
def test_annotations_and_defaults(annotations: dict[str, str], injector: InjectorConfig | None, captured: set[int]) -> None:
    """Of a template the annotations say what will be redirected, then the injector."""
    found = capture(make.template({"app": "orders"}, annotations=annotations), injector)
    assert {port for port in (8080, 9090) if not found.gap(port)} == captured


@pytest.mark.parametrize("port", [15020, 15021, 15090])
def test_istios_own_ports_are_never_captured(port: int) -> None:
    """Envoy's and the agent's own ports are always excluded."""
    assert capture(make.meshed_pod(), DEFAULTS).gap(port)


def test_the_arguments_of_a_running_pod_are_the_truth() -> None:
    """What istio-init was told decides, even if the annotation was changed afterwards."""
    pod = arguments("-b", "*", "-d", "15090,15021,9090", annotations={EXCLUDE: "8080"})
    assert [bool(capture(pod, DEFAULTS).gap(port)) for port in (8080, 9090)] == [False, True]


def test_arguments_in_their_long_form() -> None:
    """The flags of istio-iptables are known in both forms, and a flag without a value means none."""
    assert capture(arguments("--istio-inbound-ports=8080"), DEFAULTS).included == frozenset({8080})
    assert capture(arguments("-b"), DEFAULTS).included == frozenset()


def test_the_environment_tells_the_interception_mode() -> None:
    """A proxy without interception is known by its environment, too."""
    pod = make.injected(make.pod(), proxy_env={"ISTIO_META_INTERCEPTION_MODE": "NONE"})
    plain = msgspec.structs.replace(pod, spec=msgspec.structs.replace(pod.spec, init_containers=pod.spec.init_containers[1:]))
    assert "NONE" in capture(plain, DEFAULTS).gap(8080)


def test_the_gap_names_its_cause() -> None:
    """An annotation of the pod is named as such, anything else as the injector's."""
    assert capture(make.template(annotations={EXCLUDE: "9090"}), DEFAULTS).gap(9090) == f"the annotation {EXCLUDE} lists it"
    assert (
        capture(make.template(), InjectorConfig(exclude_inbound_ports="9090")).gap(9090) == "excludeInboundPorts of the injector lists it"
    )


def test_the_ports_that_are_left_out() -> None:
    """Only the team's own ports are told as left out, and only where the list counts."""
    assert capture(make.template(annotations={EXCLUDE: "9090,15090"}), DEFAULTS).left_out == {9090}
    assert capture(make.template(annotations={EXCLUDE: "9090", INCLUDE: "8080"}), DEFAULTS).left_out == frozenset()
