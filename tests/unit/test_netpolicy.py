"""What NetworkPolicies permit, one connection after another, as Kubernetes defines it."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_meshready.cluster.objects_network import IpBlock, NetworkPolicy, PolicyEgress, PolicyIngress, PolicyPeer, PolicyPort
from pytest_meshready.istio.netpolicy import OUTSIDE, Direction, Policies, Port, Side, allows_everything
from tests.unit import builders as make

NAMESPACES = {"payments": {"team": "payments"}, "istio-system": {}, "monitoring": {"team": "sre"}}
ORDERS = Side(namespace="payments", labels={"app": "orders"}, pod=make.pod("orders-a"), address="10.0.0.1")
LEDGER = Side(namespace="payments", labels={"app": "ledger"}, pod=make.pod("ledger-a"), address="10.0.0.2")
ISTIOD = Side(namespace="istio-system", labels={"app": "istiod"}, pod=make.pod("istiod-a"), address="10.0.1.1")
PROMETHEUS = Side(namespace="monitoring", labels={"app": "prometheus"})


def permitted(policy: NetworkPolicy, own: Side, peer: Side, number: int = 8080, direction: Direction = Direction.INGRESS) -> bool | None:
    """Whether the only policy permits a connection; None where it does not know."""
    policies = Policies([policy], NAMESPACES)
    isolating = policies.isolating(own, direction)
    return policies.permit(isolating, direction, own=own, peer=peer, port=Port(number=number)) if isolating else True


def ingress(*rules: PolicyIngress, **fields: Any) -> NetworkPolicy:
    return make.network_policy(policy_types=("Ingress",), ingress=rules, **fields)


def test_what_no_policy_selects_is_open() -> None:
    """Of another label, another namespace, another direction; and pods on the node's network."""
    closed = ingress(selects={"app": "orders"})
    policies = Policies([closed], NAMESPACES)
    assert policies.isolating(ORDERS, Direction.INGRESS) == (closed,)
    assert policies.isolating(LEDGER, Direction.INGRESS) == ()
    assert policies.isolating(ORDERS, Direction.EGRESS) == ()
    assert policies.isolating(Side(namespace="istio-system", labels={"app": "orders"}), Direction.INGRESS) == ()
    on_node = Side(namespace="payments", labels={"app": "orders"}, pod=make.pod(host_network=True))
    assert policies.isolating(on_node, Direction.INGRESS) == ()


@pytest.mark.parametrize(
    ("fields", "directions"),
    [
        ({}, {"ingress"}),
        ({"egress": (PolicyEgress(),)}, {"ingress", "egress"}),
        ({"policy_types": ("Egress",)}, {"egress"}),
        ({"policy_types": ("Ingress", "Egress")}, {"ingress", "egress"}),
    ],
)
def test_the_directions_of_a_policy(fields: dict[str, Any], directions: set[str]) -> None:
    """Without types it is about ingress, and about egress if it has rules for that."""
    policies = Policies([make.network_policy(**fields)], NAMESPACES)
    assert {direction for direction in Direction if policies.isolating(ORDERS, direction)} == directions


def test_a_policy_without_rules_denies_and_an_empty_rule_permits() -> None:
    """Default deny, and everybody on every port."""
    assert permitted(ingress(), ORDERS, LEDGER) is False
    assert permitted(ingress(PolicyIngress()), ORDERS, LEDGER) is True
    assert permitted(ingress(PolicyIngress()), ORDERS, OUTSIDE) is True


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        (make.peer({}), (True, False, False)),
        (make.peer({"app": "ledger"}), (True, False, False)),
        (make.peer({"app": "other"}), (False, False, False)),
        (make.peer(namespaces={}), (True, True, False)),
        (make.peer(namespaces={"team": "sre"}), (False, True, False)),
        (make.peer({"app": "prometheus"}, namespaces={"kubernetes.io/metadata.name": "monitoring"}), (False, True, False)),
        (make.peer({"app": "ledger"}, namespaces={"team": "sre"}), (False, False, False)),
        (make.peer(cidr="10.0.0.0/24"), (True, None, None)),
        (make.peer(cidr="0.0.0.0/0"), (True, True, True)),
        (make.peer(cidr="odd"), (False, False, False)),
        (PolicyPeer(), (True, False, False)),
    ],
)
def test_peers(item: PolicyPeer, expected: tuple[bool | None, ...]) -> None:
    """Pods of the own namespace, of selected ones, both together, addresses; seen from ledger, Prometheus and outside."""
    policy = ingress(PolicyIngress(from_=(item,)))
    assert tuple(permitted(policy, ORDERS, other) for other in (LEDGER, PROMETHEUS, OUTSIDE)) == expected


def test_addresses_that_are_left_out() -> None:
    """Everything except a range is not everything."""
    block = IpBlock(cidr="0.0.0.0/0", except_=("10.0.0.0/24",))
    policy = ingress(PolicyIngress(from_=(PolicyPeer(ip_block=block),)))
    assert permitted(policy, ORDERS, LEDGER) is False
    assert permitted(policy, ORDERS, ISTIOD) is True
    assert permitted(policy, ORDERS, OUTSIDE) is None


@pytest.mark.parametrize(
    ("port", "permitted_"),
    [
        (PolicyPort(port=8080), True),
        (PolicyPort(port=8081), False),
        (PolicyPort(port=8000, end_port=8100), True),
        (PolicyPort(port=8080, protocol="UDP"), False),
        (PolicyPort(), True),
        (PolicyPort(port="http"), True),
        (PolicyPort(port="grpc"), False),
    ],
)
def test_ports(port: PolicyPort, *, permitted_: bool) -> None:
    """Numbers, ranges, protocols, and names of the container's ports."""
    assert permitted(ingress(PolicyIngress(ports=(port,))), ORDERS, LEDGER) is permitted_


def test_egress_looks_at_the_other_end() -> None:
    """The port and its name are those of the destination."""
    rule = PolicyEgress(to=(make.peer({"app": "istiod"}, namespaces={}),), ports=make.ports(15012, "http"))
    policy = make.network_policy(policy_types=("Egress",), egress=(rule,))
    assert permitted(policy, ORDERS, ISTIOD, 15012, Direction.EGRESS) is True
    assert permitted(policy, ORDERS, ISTIOD, 8080, Direction.EGRESS) is True
    assert permitted(policy, ORDERS, ISTIOD, 15010, Direction.EGRESS) is False
    assert permitted(policy, ORDERS, LEDGER, 15012, Direction.EGRESS) is False


def test_one_of_several_policies_is_enough() -> None:
    """What is permitted is the union."""
    policies = Policies([ingress(), ingress(PolicyIngress(), name="open")], NAMESPACES)
    isolating = policies.isolating(ORDERS, Direction.INGRESS)
    assert len(isolating) == 2
    assert policies.permit(isolating, Direction.INGRESS, own=ORDERS, peer=LEDGER, port=Port(number=1)) is True


def test_what_is_not_known_is_not_denied() -> None:
    """A namespace whose labels were not read may be the selected one."""
    policy = ingress(PolicyIngress(from_=(make.peer(namespaces={"team": "x"}),)))
    assert permitted(policy, ORDERS, Side(namespace="somewhere", labels={})) is None
    by_pod = ingress(PolicyIngress(from_=(make.peer({"app": "x"}, namespaces={}),)))
    assert permitted(by_pod, ORDERS, Side(namespace="monitoring")) is None


def test_policies_that_allow_everything() -> None:
    """Every pod, everybody, every port."""
    assert allows_everything(ingress(PolicyIngress()))
    assert not allows_everything(ingress(PolicyIngress(), selects={"app": "orders"}))
    assert not allows_everything(ingress(PolicyIngress(ports=make.ports(8080))))
    assert not allows_everything(make.network_policy(policy_types=("Egress",), ingress=(PolicyIngress(),)))
