"""Which ports live checks look at, and which they leave out with a reason."""

from __future__ import annotations

import pytest

from pytest_meshready.cluster import objects as o
from pytest_meshready.istio.protocols import Protocol
from pytest_meshready.istio.servermodes import Mode
from pytest_meshready.istio.targets import targets
from tests.unit import builders as make
from tests.unit import wires


def test_every_port_of_every_service() -> None:
    """Each Service port leads to a target with its protocol, mode, account and readiness path."""
    found = targets(wires.shop())
    assert {(item.workload.name, item.port): item.protocol for item in found.targets} == {
        ("orders", 8080): Protocol.HTTP,
        ("store", 6000): Protocol.TCP,
        ("store", 8080): Protocol.GUESSED,  # only its readiness probe asks there
        ("quotes", 7070): Protocol.GRPC,
        ("quotes", 9091): Protocol.TCP,
        ("quotes", 8080): Protocol.GUESSED,
    }
    orders = next(item for item in found.targets if item.workload.name == "orders")
    assert (orders.state.mode, orders.account, orders.path, orders.address) == (Mode.STRICT, "orders", "/healthz", "10.244.2.9")
    assert [call.key for call in found.calls] == ["orders:8080", "quotes:7070", "quotes:9091", "store:6000"]
    assert found.not_covered == ()


def test_sample_is_bounded_and_said() -> None:
    """Of many pods of a workload two are asked, and the report says so."""
    found = targets(wires.shop(replicas=5))
    assert len({item.pod for item in found.targets if item.workload.name == "orders"}) == 2
    assert found.sampled == "6 of 15 ready pods, at most 2 of each workload and state"


def test_states_are_sampled_apart() -> None:
    """A pod without a proxy is not hidden by others of its workload that have one."""
    deployment = make.deployment("orders", replicas=4)
    pods = (*make.pods_of(deployment, count=3), make.pod("orders-7f76cb76bc-naked", owner="ReplicaSet/orders-7f76cb76bc"))
    found = targets(wires.shop(deployments=(deployment,), pods=pods, services=(make.service("orders"),)))
    assert sorted(item.proxied for item in found.targets) == [False, True, True]


def test_pods_that_are_not_ready_are_not_asked() -> None:
    """A port without a ready pod is listed as such, and its Service is still a call."""
    deployment = make.deployment("orders", replicas=1)
    pods = make.pods_of(deployment, ready=False)
    found = targets(wires.shop(deployments=(deployment,), pods=pods, services=(make.service("orders"),)))
    assert found.targets == ()
    assert [state.port for state in found.bare] == [8080]
    assert [(call.key, call.targets, call.wanted) for call in found.calls] == [("orders:8080", (), True)]


@pytest.mark.parametrize(
    ("service", "reason", "matters"),
    [
        (
            make.service("saas", selector={}, type="ExternalName", external_name="api.example.com"),
            "another name for api.example.com",
            False,
        ),
        (make.service("manual", selector={}), "it has no selector", False),
        (make.service("dns", selector={"app": "orders"}, ports=(("dns", 53),)), "no port that a ready pod of it serves", True),
    ],
)
def test_what_is_not_covered_has_a_reason(service: o.Service, reason: str, matters: bool) -> None:
    """A Service port that leads to no port of a meshed workload is listed, never silently left out."""
    if service.metadata.name == "dns":
        named = o.ServicePort(name="dns", port=53, target_port="nowhere")
        service = o.Service(metadata=service.metadata, spec=o.ServiceSpec(selector={"app": "orders"}, ports=(named,)))
    found = targets(wires.shop(services=(service,)))
    assert len(found.not_covered) == 1
    assert reason in found.not_covered[0].reason
    assert found.not_covered[0].matters is matters


def test_udp_is_listed() -> None:
    """A UDP port goes past every proxy and is named as not covered."""
    port = o.ServicePort(name="dns", port=53, protocol="UDP")
    service = o.Service(metadata=make.metadata("dns"), spec=o.ServiceSpec(selector={"app": "orders"}, ports=(port,)))
    found = targets(wires.shop(services=(service,)))
    assert [(item.place, item.matters) for item in found.not_covered] == [("dns:53", False)]


def test_http_without_a_path() -> None:
    """An HTTP port without a readiness path is not called, unless the team gives a path; its handshakes are asked anyway."""
    container = make.container(readiness=None)
    deployment = make.deployment("orders", replicas=1, containers=(container,))
    snapshot = wires.shop(deployments=(deployment,), pods=make.pods_of(deployment), services=(make.service("orders"),))
    found = targets(snapshot)
    assert [item.reason for item in found.not_covered] == [
        "no readiness probe gives a path that may be asked for; give one in meshready.toml"
    ]
    assert len(found.targets) == 1
    given = targets(snapshot, {"orders": "/ping"})
    assert [(call.key, call.path) for call in given.calls] == [("orders:8080", "/ping")]


def test_path_of_the_port_itself_first() -> None:
    """Of several readiness probes the one that asks this very port gives the path."""
    other = o.Probe(http_get=o.HttpGet(path="/other", port=9000))
    containers = (make.container("side", ports=(("http-side", 9000),), readiness=other), make.container())
    deployment = make.deployment("orders", replicas=1, containers=containers)
    found = targets(wires.shop(deployments=(deployment,), pods=make.pods_of(deployment), services=(make.service("orders"),)))
    assert {item.port: item.path for item in found.targets} == {8080: "/healthz", 9000: "/other"}


def test_unread_pods_are_unknown() -> None:
    """Without the right to list pods nothing is covered, and that is said."""
    found = targets(wires.shop(pods=(), refusals=(make.refusal("pods"),)))
    assert found.targets == ()
    assert [item.verb for item in found.unknown] == ["list"]
