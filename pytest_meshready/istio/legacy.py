"""Line 7.2.2: what has no proxy, and what becomes of it under STRICT, as the objects say (checks.md 7.2.2)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from pytest_meshready.cluster.objects import Service
from pytest_meshready.cluster.snapshot import Snapshot, in_namespace
from pytest_meshready.istio import membership, ports
from pytest_meshready.istio import policy as policies
from pytest_meshready.istio.callers import TLS_MODE
from pytest_meshready.istio.compatibility import by_address, unread_ends
from pytest_meshready.istio.membership import Member, members
from pytest_meshready.istio.ports import PortState, port_states
from pytest_meshready.istio.servermodes import Mode
from pytest_meshready.istio.sidecar_faults import edit
from pytest_meshready.istio.workloads import BATCH, pod_names
from pytest_meshready.results import Finding, Judgement, Level, ObjectRef, Unknown

#: What `legacy_handled` reads.
READS = tuple(dict.fromkeys((*ports.READS, *membership.READS, *policies.READS, "workloadentries", "configmaps")))

_OUTSIDE = frozenset({"NodePort", "LoadBalancer"})


def legacy_handled(snapshot: Snapshot, exceptions: Mapping[str, str] | None = None) -> Judgement:
    """Line 7.2.2, what the objects say: whatever has no proxy is known and provided for.

    Errors: a workload without a proxy that nobody declared, while ports that it may call are STRICT. Warnings: the same while
    they are not STRICT yet; machines without a proxy; Services that lead callers from outside of the cluster past a gateway;
    policies that admit callers by their address alone. Declared workloads are listed.

    Args:
        snapshot: of the cluster. Callers from other namespaces are seen in the metrics alone.
        exceptions: the workloads that need no proxy, with the team's reason.
    """
    table = port_states(snapshot)
    found = members(snapshot)
    strict = {state.workload.ref for state in table.states if state.mode is Mode.STRICT}
    findings = [
        _legacy(member, (exceptions or {}).get(member.name), strict=bool(strict - {member.workload.ref}))
        for member in found
        if member.bare or member.meshed is False
    ]
    findings += _machines(snapshot)
    findings += _from_outside(snapshot, table.states)
    findings += by_address(snapshot, table.states, "MR722")
    missing = unread_ends(snapshot, READS)
    unsure = [Unknown(reason=f"{item.workload.ref}: {item.reason}") for item in found if item.meshed is None and not item.bare]
    entries = in_namespace(snapshot.workloadentries, snapshot.namespace)
    return Judgement(
        summary=f"all {len(found)} workloads of the namespace have a proxy; callers from elsewhere are seen in the metrics",
        examined=len(found) + len(entries),
        findings=tuple(findings),
        unknown=tuple(dict.fromkeys((*missing, *unsure))),
    )


def _legacy(member: Member, reason: str | None, *, strict: bool) -> Finding:
    """A workload of the namespace, or some of its pods, outside of the mesh."""
    total = len(member.workload.pods)
    some = f"{len(member.bare)} of its {total} pods have no proxy ({pod_names(member.bare)})"
    who = some if 0 < len(member.bare) < total else "it has no proxy"
    effect = "STRICT ports of the namespace refuse what it sends" if strict else "once ports are STRICT, they refuse what it sends"
    if reason is not None:
        return Finding(
            code="MR722-DECLARED",
            level=Level.INFO,
            object=member.workload.ref,
            found=f"{who}, as declared: {reason}",
            wanted="that it is gone, or injected, one day",
            fix="take it out of [[sidecar_exception]] when it is",
        )
    serves = "" if member.workload.kind in BATCH else "; to it, callers send plaintext"
    return Finding(
        code="MR722-UNDECLARED",
        level=Level.ERROR if strict else Level.WARNING,
        object=member.workload.ref,
        found=f"{who}: {member.reason}; {effect}{serves}",
        wanted="a proxy, or a declaration why it has none and what it may call",
        fix=f"let it be injected, or declare it with [[sidecar_exception]]: {edit(member.workload)}",
    )


def _machines(snapshot: Snapshot) -> Iterator[Finding]:
    """Machines outside of Kubernetes that do not say that they have a proxy."""
    for entry in in_namespace(snapshot.workloadentries, snapshot.namespace):
        if entry.spec.labels.get(TLS_MODE) == "istio":
            continue
        yield Finding(
            code="MR722-MACHINE",
            level=Level.WARNING,
            object=ObjectRef(kind="WorkloadEntry", namespace=snapshot.namespace, name=entry.metadata.name),
            found=f"it has no label {TLS_MODE}=istio, so callers send it plaintext, and STRICT ports refuse what it sends",
            wanted="a proxy on the machine, or a plan until when it goes without",
            fix=f"kubectl -n {snapshot.namespace} get workloadentry {entry.metadata.name} -o yaml",
        )


def _from_outside(snapshot: Snapshot, states: Iterable[PortState]) -> Iterator[Finding]:
    """Services that open ports with a proxy to callers outside of the cluster, who have no identity of the mesh."""
    services: dict[str, Service] = {
        item.metadata.name: item for item in in_namespace(snapshot.services, snapshot.namespace) if item.spec.type in _OUTSIDE
    }
    found: dict[str, list[PortState]] = {}
    for state in states:
        for service, _ in state.services:
            if service in services and not state.gap:
                found.setdefault(service, []).append(state)
    for name, behind in found.items():
        strict = any(state.mode is Mode.STRICT for state in behind)
        yield Finding(
            code="MR722-FROM-OUTSIDE",
            level=Level.WARNING,
            object=ObjectRef(kind="Service", namespace=snapshot.namespace, name=name),
            found=f"it is of type {services[name].spec.type}: callers from outside reach its pods past any gateway, without mTLS"
            + (", which STRICT ports refuse" if strict else ", which STRICT would refuse"),
            wanted="type ClusterIP, and a gateway in front",
            fix=f"see who uses it, then: kubectl -n {snapshot.namespace} edit service {name}",
        )
