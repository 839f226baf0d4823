"""The rights that guests need: exactly the verbs that `pytest_meshready.probes.guests` uses, and no others."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

from pytest_meshready.cluster.permissions import Right
from pytest_meshready.cluster.writes import CONFIG_MAP, LEASE, POD, SERVICE_ACCOUNT, Kind, Manifest, Place, kind_of
from pytest_meshready.probes.lease import NAME as LEASE_NAME

#: What a run creates in every namespace that it visits.
USUAL = (CONFIG_MAP, SERVICE_ACCOUNT, POD)

#: From this version of Kubernetes on, a websocket exec needs ``create`` beside ``get`` (checks.md B7).
_EXEC_NEEDS_CREATE = (1, 35)


def places(manifests: Iterable[Manifest], *, home: str, kinds: Iterable[Kind] = ()) -> tuple[Place, ...]:
    """Where a run creates what: its anchor in each namespace, these objects, and at home whatever ``kinds`` adds."""
    here = [(kind_of(manifest), manifest["metadata"]["namespace"]) for manifest in manifests]
    anchors = [(CONFIG_MAP, namespace) for namespace in (home, *(namespace for _, namespace in here))]
    return tuple(dict.fromkeys([*anchors, *here, *((kind, home) for kind in kinds)]))


def rights(namespaces: Sequence[str], *, home: str, kinds: Sequence[Kind] = USUAL) -> tuple[Right, ...]:
    """What the usual guests need in these namespaces, and the Lease in ``home``."""
    return rights_in([(kind, namespace) for namespace in dict.fromkeys(namespaces) for kind in kinds], home=home)


def rights_in(where: Sequence[Place], *, home: str) -> tuple[Right, ...]:
    """What guests need: to create, to see and to delete in these places, and the Lease in ``home``.

    What may be executed in pods is `exec_rights`. A Lease's name cannot limit who creates one, as Kubernetes has it.
    """
    wanted = [
        Right(namespace=namespace, group=kind.group, resource=kind.plural, verb=verb)
        for kind, namespace in where
        for verb in ("create", "delete", "list")
    ]
    lease = Right(namespace=home, group=LEASE.group, resource=LEASE.plural, verb="create")
    held = [replace(lease, verb=verb, names=(LEASE_NAME,)) for verb in ("delete", "get", "update")]
    return tuple(sorted([*wanted, lease, *held]))


def exec_rights(namespaces: Sequence[str], kubernetes_version: str) -> tuple[Right, ...]:
    """What an exec by websocket needs: ``get`` up to Kubernetes 1.34, ``create`` besides from 1.35 on (both if unknown)."""
    version = re.match(r"v?(\d+)\.(\d+)", kubernetes_version)
    old = version is not None and (int(version[1]), int(version[2])) < _EXEC_NEEDS_CREATE
    verbs = ("get",) if old else ("create", "get")
    return tuple(Right(namespace=namespace, resource="pods/exec", verb=verb) for namespace in dict.fromkeys(namespaces) for verb in verbs)
