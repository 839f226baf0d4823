"""The shop of ports.md in small, and what probes get from its ports, written down from that table and never from output."""

from __future__ import annotations

import datetime as dt
import functools
from collections.abc import Callable, Mapping
from typing import Any

from pytest_meshready.cluster import objects as o
from pytest_meshready.cluster.snapshot import Snapshot
from pytest_meshready.istio.targets import Target, Targets, targets
from pytest_meshready.istio.wire import Observed, asks, observe
from pytest_meshready.probes.messages import Answer, Ask, Outcome
from tests.unit import builders as make
from tests.unit import loopback
from tests.unit.loopback import Authority, der

#: Workloads, the ports of their containers and Services, and the readiness path.
SHOP: Mapping[str, tuple[tuple[str, int], ...]] = {
    "orders": (("http", 8080),),
    "store": (("tcp-store", 6000),),
    "quotes": (("grpc", 7070), ("tcp-greeting", 9091)),
}

STRICT = make.peerauthentication("default", "STRICT")
PERMISSIVE = make.peerauthentication("default", "PERMISSIVE")

#: What happens to one ask, as a probe says it.
Reaction = Callable[[Ask, Target], Answer]


@functools.cache
def authority() -> Authority:
    """The mesh's authority."""
    return Authority()


@functools.cache
def chain(uri: str, *, ends: dt.datetime = loopback.NOW + dt.timedelta(hours=24), by: Authority | None = None) -> tuple[bytes, ...]:
    """What a sidecar with this identity shows: its certificate and the authority's."""
    signer = by or authority()
    certificate, _ = signer.workload(uri, ends=ends)
    return (der(certificate), der(signer.certificate))


def identity(target: Target) -> str:
    """The SPIFFE URI that a target's sidecar has."""
    return f"spiffe://cluster.local/ns/{target.workload.namespace}/sa/{target.account}"


def shop(*, policies: tuple[o.PeerAuthentication, ...] = (STRICT,), replicas: int = 1, **fields: Any) -> Snapshot:
    """The namespace ``payments`` with the workloads of `SHOP`, meshed, each behind a Service; ``fields`` of the snapshot."""
    deployments: list[o.Deployment] = []
    pods: list[o.Pod] = []
    services: list[o.Service] = []
    for name, ports in SHOP.items():
        deployment = make.deployment(name, replicas=replicas, containers=(make.container(ports=ports),), service_account_name=name)
        deployments.append(deployment)
        pods += make.pods_of(deployment)
        services.append(make.service(name, ports=ports))
    return make.snapshot(
        **{
            "deployments": tuple(deployments),
            "pods": tuple(pods),
            "services": tuple(services),
            "peerauthentications": policies,
            **fields,
        }
    )


def shown(target: Target, alpn: str = "") -> dict[str, Any]:
    """A handshake that a sidecar answers: its chain, then ``certificate required``."""
    return {
        "outcome": Outcome.TLS_ALERT,
        "alert": "certificate_required",
        "certificate_chain": chain(identity(target)),
        "alpn_selected": alpn,
        "connect_seconds": 0.001,
        "first_byte_seconds": 0.005,
    }


#: By kind of ask (``h2``, ``istio``, ``plain``, ``get``), what a port in a mode does: fields of the answer.
Behaviour = Mapping[str, Callable[[Target], Mapping[str, Any]]]

STRICT_PORT: Behaviour = {
    "h2": lambda target: shown(target, "h2"),
    "istio": shown,
    "plain": lambda _: {"outcome": Outcome.RESET, "connect_seconds": 0.001},
    "get": lambda _: {"outcome": Outcome.RESET, "connect_seconds": 0.001},
}

PERMISSIVE_HTTP: Behaviour = {
    "h2": lambda _: {"outcome": Outcome.NOT_TLS, "connect_seconds": 0.001},
    "istio": shown,
    "plain": lambda _: {"outcome": Outcome.OPEN, "connect_seconds": 0.001},
    "get": lambda _: {"outcome": Outcome.ANSWERED, "status": 403, "body": "RBAC: access denied", "connect_seconds": 0.001},
}

#: Under default deny a connection of TCP is ended at its first byte, plaintext or not.
PERMISSIVE_TCP_DENIED: Behaviour = {
    "h2": lambda _: {"outcome": Outcome.EOF, "connect_seconds": 0.001},
    "istio": shown,
    "plain": lambda _: {"outcome": Outcome.EOF, "connect_seconds": 0.001},
}

NAKED_HTTP: Behaviour = {
    "h2": lambda _: {"outcome": Outcome.NOT_TLS, "connect_seconds": 0.001},
    "istio": lambda _: {"outcome": Outcome.NOT_TLS, "connect_seconds": 0.001},
    "plain": lambda _: {"outcome": Outcome.OPEN, "connect_seconds": 0.001},
    "get": lambda _: {"outcome": Outcome.ANSWERED, "status": 200, "body": "{}", "connect_seconds": 0.001},
}


def answered(
    found: Targets, behaviours: Mapping[str, Behaviour] | None = None, calls: Mapping[str, Mapping[str, Any]] | None = None
) -> dict[str, Answer]:
    """Answers to everything that is asked of these targets.

    Args:
        found: what is asked.
        behaviours: by ``workload:port`` of the pods; a port that is not named is STRICT.
        calls: fields of the answers to calls from inside, by ``service:port``; without them ports.md's, of an account that no
            policy allows.
    """
    by_key = {target.key: target for target in found.targets}
    plan = asks(found)
    answers: dict[str, Answer] = {}
    for ask in plan.unmeshed:
        kind, _, key = ask.id.partition("|")
        if kind == "ready":
            answers[ask.id] = Answer(id=ask.id, outcome=Outcome.ANSWERED, status=200)
            continue
        target = by_key[key]
        behaviour = {**STRICT_PORT, **(behaviours or {}).get(f"{target.workload.name}:{target.port}", {})}
        answers[ask.id] = Answer(id=ask.id, **behaviour[kind](target))
    for ask in plan.meshed:
        place = ask.id.partition("|")[2]
        answers[ask.id] = Answer(id=ask.id, **{**CALLS[place], **(calls or {}).get(place, {})})
    return answers


CALLS: Mapping[str, Mapping[str, Any]] = {
    "orders:8080": {"outcome": Outcome.ANSWERED, "status": 403, "body": "RBAC: access denied"},
    "store:6000": {"outcome": Outcome.OPEN, "ending": "open", "seconds": 1.5, "connect_seconds": 0.001},
    "quotes:7070": {"outcome": Outcome.ANSWERED, "status": 200, "grpc_status": 7},
    "quotes:9091": {"outcome": Outcome.ANSWERED, "received": 12, "ending": "open", "seconds": 1.5, "connect_seconds": 0.001},
}


def seen(snapshot: Snapshot, behaviours: Mapping[str, Behaviour] | None = None, **fields: Any) -> Observed:
    """What a run saw of a snapshot; ``fields`` of `answered`, or ``answers`` to lay over them, and of `observe`."""
    found = targets(snapshot)
    answers = answered(found, behaviours, fields.pop("calls", None))
    for id_, answer in fields.pop("answers", {}).items():
        if answer is None:
            answers.pop(id_, None)
        else:
            answers[id_] = answer
    return observe(snapshot, found, answers, **{"now": loopback.NOW, **fields})
