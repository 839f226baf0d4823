"""Kubernetes' NetworkPolicy: which connections of a namespace's pods are permitted; and its Ingress: who enters past Gateways."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from pytest_meshready.cluster.objects import LabelSelector, Metadata, Slim


class PolicyPort(Slim, frozen=True):
    """``port`` None stands for all ports; ``end_port`` makes a range of it."""

    protocol: str = "TCP"
    port: int | str | None = None
    end_port: int | None = None


class IpBlock(Slim, frozen=True):
    cidr: str = ""
    except_: tuple[str, ...] = msgspec.field(default=(), name="except")


class PolicyPeer(Slim, frozen=True):
    """Pods of the policy's namespace, of selected namespaces, or addresses."""

    pod_selector: LabelSelector | None = None
    namespace_selector: LabelSelector | None = None
    ip_block: IpBlock | None = None


class PolicyIngress(Slim, frozen=True):
    """``from_`` empty stands for everybody, ``ports`` empty for every port."""

    from_: tuple[PolicyPeer, ...] | None = msgspec.field(default=None, name="from")
    ports: tuple[PolicyPort, ...] | None = None


class PolicyEgress(Slim, frozen=True):
    """``to`` empty stands for every destination, ``ports`` empty for every port."""

    to: tuple[PolicyPeer, ...] | None = None
    ports: tuple[PolicyPort, ...] | None = None


class NetworkPolicySpec(Slim, frozen=True):
    """Without ``policy_types`` it is about ingress, and about egress if it has rules for that."""

    pod_selector: LabelSelector = LabelSelector()
    policy_types: tuple[str, ...] = ()
    ingress: tuple[PolicyIngress, ...] | None = None
    egress: tuple[PolicyEgress, ...] | None = None


class NetworkPolicy(Slim, frozen=True):
    kind: ClassVar[str] = "NetworkPolicy"
    metadata: Metadata = Metadata()
    spec: NetworkPolicySpec = NetworkPolicySpec()


class IngressSpec(Slim, frozen=True):
    """``ingress_class_name`` tells whose controller leads in; empty is the cluster's default."""

    ingress_class_name: str = ""


class Ingress(Slim, frozen=True):
    kind: ClassVar[str] = "Ingress"
    metadata: Metadata = Metadata()
    spec: IngressSpec = IngressSpec()
