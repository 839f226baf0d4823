"""What Kubernetes' NetworkPolicies permit: one connection after another, as the API defines it.

A pod that no policy selects for a direction takes or makes every connection; one that is selected only those that a rule of
one of these policies permits. Policies see the port of the pod, after the redirection of a sidecar has been undone, so
it is the application's own. Where addresses decide that are not known, the answer is None.
"""

from __future__ import annotations

import enum
import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pytest_meshready.cluster.objects import Pod
from pytest_meshready.cluster.objects_network import IpBlock, NetworkPolicy, PolicyPeer, PolicyPort
from pytest_meshready.cluster.snapshot import selects
from pytest_meshready.istio.ports import target
from pytest_meshready.istio.workloads import LabelIndex

#: The name of a namespace as a label, which the API server sets.
NAME_LABEL = "kubernetes.io/metadata.name"


class Direction(enum.StrEnum):
    """Of a connection, as seen from the pods that a policy selects."""

    INGRESS = "ingress"
    EGRESS = "egress"


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One end of a connection.

    ``namespace`` empty is outside of the cluster. ``labels`` None are not known. ``pod`` is an example, for the names of its
    ports; ``address`` is empty where it is not known.
    """

    namespace: str = ""
    labels: Mapping[str, str] | None = None
    pod: Pod | None = None
    address: str = ""


#: Somebody outside of the cluster, of unknown address.
OUTSIDE = Side()


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """A port of a pod."""

    number: int
    protocol: str = "TCP"


class Policies:
    """The NetworkPolicies of some namespaces, and the labels of all namespaces that are known."""

    def __init__(self, policies: Iterable[NetworkPolicy], namespace_labels: Mapping[str, Mapping[str, str]]) -> None:
        self._labels = namespace_labels
        self._by_namespace: dict[str, LabelIndex[NetworkPolicy]] = {}
        for policy in policies:
            index = self._by_namespace.setdefault(policy.metadata.namespace, LabelIndex())
            index.add(policy.spec.pod_selector.match_labels, policy)
        self._known: dict[tuple[str, frozenset[tuple[str, str]]], tuple[NetworkPolicy, ...]] = {}

    def isolating(self, side: Side, direction: Direction) -> tuple[NetworkPolicy, ...]:
        """The policies that limit a pod's connections of a direction; none where it is not limited, or on the node's network."""
        index = self._by_namespace.get(side.namespace)
        if index is None or side.labels is None or (side.pod is not None and side.pod.spec.host_network):
            return ()
        key = (side.namespace, frozenset(side.labels.items()))
        if key not in self._known:
            candidates = index.candidates(side.labels)
            self._known[key] = tuple(policy for policy in candidates if selects(policy.spec.pod_selector, side.labels))
        return tuple(policy for policy in self._known[key] if direction in _directions(policy))

    def permit(self, policies: Iterable[NetworkPolicy], direction: Direction, *, own: Side, peer: Side, port: Port) -> bool | None:
        """Whether one of these policies lets a connection be.

        Args:
            policies: those that isolate ``own`` in this direction.
            direction: of the connection.
            own: the pod that they select.
            peer: the other end.
            port: of the pod that is connected to.

        Returns:
            None where it depends on something that is not known.
        """
        destination = own if direction is Direction.INGRESS else peer
        unsure = False
        for policy in policies:
            for peers, ports in _rules(policy, direction):
                if not any(_covers(item, port, destination) for item in ports) if ports else False:
                    continue
                found = self._from_any(peers, policy.metadata.namespace, peer)
                if found:
                    return True
                unsure = unsure or found is None
        return None if unsure else False

    def _from_any(self, peers: Sequence[PolicyPeer], namespace: str, peer: Side) -> bool | None:
        if not peers:
            return True
        answers = [self._is(item, namespace, peer) for item in peers]
        return True if any(answers) else None if None in answers else False

    def _is(self, item: PolicyPeer, namespace: str, peer: Side) -> bool | None:
        """Whether a peer of a rule is this end."""
        if item.ip_block is not None:
            return _contains(item.ip_block, peer.address)
        if not peer.namespace:
            return False
        if item.namespace_selector is None:
            here: bool | None = peer.namespace == namespace
        else:
            labels = self._labels.get(peer.namespace)
            here = None if labels is None else selects(item.namespace_selector, {NAME_LABEL: peer.namespace, **labels})
        if here is False or item.pod_selector is None:
            return here
        if peer.labels is None:
            return None
        return here if selects(item.pod_selector, peer.labels) else False


def _directions(policy: NetworkPolicy) -> frozenset[str]:
    """What a policy is about; where it does not say: ingress, and egress if it has rules for that."""
    if policy.spec.policy_types:
        return frozenset(kind.lower() for kind in policy.spec.policy_types)
    return frozenset({Direction.INGRESS, *((Direction.EGRESS,) if policy.spec.egress else ())})


def _rules(policy: NetworkPolicy, direction: Direction) -> list[tuple[tuple[PolicyPeer, ...], tuple[PolicyPort, ...]]]:
    if direction is Direction.INGRESS:
        return [(rule.from_ or (), rule.ports or ()) for rule in policy.spec.ingress or ()]
    return [(rule.to or (), rule.ports or ()) for rule in policy.spec.egress or ()]


def _covers(item: PolicyPort, port: Port, destination: Side) -> bool:
    """Whether a port of a rule is this one; a name is that of a port of the pod that is connected to."""
    if (item.protocol or "TCP").upper() != port.protocol:
        return False
    if item.port is None:
        return True
    if isinstance(item.port, str):
        return destination.pod is not None and target(destination.pod, item.port) == port.number
    return item.port <= port.number <= (item.end_port or item.port)


def _contains(block: IpBlock, address: str) -> bool | None:
    """Whether addresses contain one; of one that is not known, only "all of them" can be said."""
    try:
        network = ipaddress.ip_network(block.cidr, strict=False)
        excepted = [ipaddress.ip_network(item, strict=False) for item in block.except_]
    except ValueError:
        return False
    if not address:
        return True if network.prefixlen == 0 and not excepted else None
    try:
        own = ipaddress.ip_address(address)
    except ValueError:
        return None
    return own in network and not any(own in item for item in excepted)


def allows_everything(policy: NetworkPolicy) -> bool:
    """Whether a policy opens every pod of its namespace to everybody, on every port."""
    everywhere = policy.spec.pod_selector.match_labels == {} and not policy.spec.pod_selector.match_expressions
    return everywhere and Direction.INGRESS in _directions(policy) and ((), ()) in _rules(policy, Direction.INGRESS)
