"""Leader election of istiod: does each lock have a holder that lives and renews it (checks.md 3.2.3).

Locks are ConfigMaps with an annotation (pkg/kube/leaderelection in Istio's source) and, for what is elected per revision,
Leases. istiod holds a lock for 30 s, renews it for 15 s before that and tries every 7.5 s.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

import msgspec

from pytest_meshready.cluster.objects import Pod
from pytest_meshready.cluster.snapshot import Snapshot, in_namespace
from pytest_meshready.istio.components import DEFAULT, Istiod, istiods, why_no_istiod
from pytest_meshready.istio.components import READS as COMPONENTS
from pytest_meshready.istio.moments import ago, moment, now_of
from pytest_meshready.istio.workloads import is_ready, is_terminating
from pytest_meshready.results import Evidence, Finding, Judgement, Level, ObjectRef, Unknown

#: The kinds that the rule reads.
READS = (*COMPONENTS, "services", "configmaps", "leases")

#: Seconds without a renewal after which nobody leads.
STALE = 60
#: Seconds that a lock is held without a renewal: a holder that has just gone still holds it.
TERM = 30

REQUIRED = "istio-namespace-controller-election"
_INGRESS = "istio-leader"
_ANNOTATION = "control-plane.alpha.kubernetes.io/leader"
_PER_REVISION = ("istio-gateway-deployment-", "istio-gateway-status-leader-")
_LEASES = (*_PER_REVISION, "istio-status-leader", "istio-node-untaint", "istio-ip-autoallocate", "istio-leader", REQUIRED)

#: Locks that are only taken while istiod's variable has a value; the lock itself stays behind when it is switched off.
#: The second value is the variable's default. The status lock is distribution status until 1.23, ambient's from 1.24 on.
_SWITCHED = {
    ("ConfigMap", "istio-analyze-leader"): ("PILOT_ENABLE_ANALYSIS", False),
    ("ConfigMap", "istio-ip-autoallocate"): ("PILOT_ENABLE_IP_AUTOALLOCATE", True),
    ("ConfigMap", "istio-node-untaint"): ("PILOT_ENABLE_NODE_UNTAINT_CONTROLLERS", False),
    ("ConfigMap", "istio-status-leader"): ("PILOT_ENABLE_STATUS", False),
    ("Lease", "istio-status-leader"): ("PILOT_ENABLE_AMBIENT", False),
}
_TRUE = frozenset({"1", "t", "T", "true", "TRUE", "True"})
_FALSE = frozenset({"0", "f", "F", "false", "FALSE", "False"})


class _Record(msgspec.Struct, frozen=True, rename="camel"):
    """The annotation's JSON. ``holder_key`` is the revision of the holder."""

    holder_identity: str = ""
    holder_key: str = ""
    renew_time: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Lock:
    """One lock; ``renewed`` is None where its time is missing or makes no sense."""

    ref: ObjectRef
    holder: str
    revision: str
    renewed: datetime | None


def leader_election(snapshot: Snapshot, *, now: datetime | None = None) -> Judgement:
    """Line 3.2.3: every lock that istiod uses is held by a ready istiod and was renewed within the last minute.

    Evidence: the annotation ``control-plane.alpha.kubernetes.io/leader`` of the ConfigMaps and the Leases in istiod's
    namespace, the istiod pods, and ``now``: by default the time of the snapshot, which is the cluster's clock.

    Errors: a lock not renewed for more than 60 s; a holder that is no ready istiod; no lock of the namespace controller.
    Warnings: a lock of the mesh held by another revision than the default one; election switched off although there are
    several replicas. A lock that was released this moment, or whose holder is just leaving, is unknown.
    """
    own = tuple(item for item in istiods(snapshot) if item.namespace == snapshot.istio_namespace)
    unknown = list(snapshot.unread(*READS))
    if not own:
        return Judgement(unknown=(*unknown, why_no_istiod(snapshot)))
    if all(_is(item.variable("ENABLE_LEADER_ELECTION"), _FALSE) for item in own):
        return _switched_off(own, unknown)
    locks, unreadable = _locks(snapshot, own)
    unknown += unreadable
    time = now_of(snapshot, now)
    if time is None:
        return Judgement(unknown=(*unknown, Unknown(reason="it is not known when the snapshot was taken, so no renewal can be dated")))
    findings = list(_missing(snapshot, own, locks, unreadable))
    for lock in locks:
        for said in _of_lock(snapshot, own, lock, time):
            if isinstance(said, Finding):
                findings.append(said)
            else:
                unknown.append(said)
    return Judgement(
        summary=f"{len(locks)} locks are held by a ready istiod and were renewed within {STALE} s",
        examined=len(locks),
        findings=tuple(findings),
        unknown=tuple(unknown),
        evidence=(Evidence(kind="table", source=f"ConfigMaps and Leases of {snapshot.istio_namespace}", data=_table(locks, time)),),
    )


def _is(value: str, words: frozenset[str]) -> bool:
    return value.strip() in words


def _switched_off(own: tuple[Istiod, ...], unknown: list[Unknown]) -> Judgement:
    """With ENABLE_LEADER_ELECTION=false each istiod leads, which is right only where there is one."""
    reason = "leader election is switched off (ENABLE_LEADER_ELECTION=false)"
    several = [item for item in own if max(item.workload.replicas, len(item.workload.pods)) > 1]
    findings = tuple(
        Finding(
            code="MR323-SWITCHED-OFF",
            level=Level.WARNING,
            object=item.workload.ref,
            found=f"{reason}, so each of its {max(item.workload.replicas, len(item.workload.pods))} replicas writes the same objects",
            wanted="leader election wherever istiod has several replicas",
            fix=f"kubectl -n {item.namespace} set env {item.workload.kind.lower()}/{item.workload.ref.name} ENABLE_LEADER_ELECTION-",
        )
        for item in several
    )
    return Judgement(examined=len(own), findings=findings, unknown=tuple(unknown), not_applicable="" if findings else reason)


# --- the locks --------------------------------------------------------------------------------------------------------


def _locks(snapshot: Snapshot, own: tuple[Istiod, ...]) -> tuple[list[Lock], list[Unknown]]:
    """The locks in use, and what of them made no sense."""
    locks: list[Lock] = []
    unknown: list[Unknown] = []
    for config in in_namespace(snapshot.configmaps, snapshot.istio_namespace):
        text = config.metadata.annotations.get(_ANNOTATION)
        if text is None:
            continue
        ref = ObjectRef(kind=config.kind, namespace=config.metadata.namespace, name=config.metadata.name)
        try:
            record = msgspec.json.decode(text, type=_Record)
        except msgspec.DecodeError:
            unknown.append(Unknown(reason=f"{ref}: its annotation {_ANNOTATION} is no leader record"))
            continue
        locks.append(Lock(ref=ref, holder=record.holder_identity, revision=record.holder_key, renewed=moment(record.renew_time)))
    for lease in in_namespace(snapshot.leases, snapshot.istio_namespace):
        if lease.metadata.name.startswith(_LEASES):
            ref = ObjectRef(kind=lease.kind, namespace=lease.metadata.namespace, name=lease.metadata.name)
            spec = lease.spec
            locks.append(Lock(ref=ref, holder=spec.holder_identity or "", revision="", renewed=moment(spec.renew_time)))
    names = {lock.ref.name for lock in locks if lock.ref.kind == "Lease"}
    ingress = snapshot.mesh is None or snapshot.mesh.ingress_controller_mode != "OFF"
    return [lock for lock in locks if not _is_left_over(lock, names, own, ingress=ingress)], unknown


def _is_left_over(lock: Lock, leases: set[str], own: tuple[Istiod, ...], *, ingress: bool) -> bool:
    """Whether nobody takes this lock any more: its revision is gone, its feature is off, or a Lease has replaced it.

    ``ingress`` tells whether istiod looks after Ingresses (``meshConfig.ingressControllerMode``), for which it takes a lock.
    """
    name = lock.ref.name
    if name == _INGRESS and not ingress:
        return True
    if lock.ref.kind == "ConfigMap" and any(lease == name or lease.startswith(f"{name}-") for lease in leases):
        return True
    for prefix in _PER_REVISION:
        if name.startswith(prefix):
            return name.removeprefix(prefix) not in {item.revision for item in own}
    switch = _SWITCHED.get((lock.ref.kind, name))
    if switch is not None:
        variable, default = switch
        return not any(_is(item.variable(variable), _TRUE) or (default and not item.variable(variable)) for item in own)
    return False


def _missing(snapshot: Snapshot, own: tuple[Istiod, ...], locks: list[Lock], unreadable: list[Unknown]) -> Iterator[Finding]:
    """The lock that every istiod takes."""
    wanted = any(item.workload.replicas or item.workload.pods for item in own)
    if snapshot.unread("configmaps") or unreadable or not wanted or any(lock.ref.name == REQUIRED for lock in locks):
        return
    namespace = snapshot.istio_namespace
    yield Finding(
        code="MR323-NO-LOCK",
        level=Level.ERROR,
        object=ObjectRef(kind="ConfigMap", namespace=namespace, name=REQUIRED),
        found="no istiod has taken the lock of the namespace controller: new namespaces do not get istio-ca-root-cert",
        wanted=f"the annotation {_ANNOTATION}, renewed by a ready istiod",
        fix=f"kubectl -n {namespace} logs -l app=istiod --tail=-1 | grep -i leader",
    )


def _of_lock(snapshot: Snapshot, own: tuple[Istiod, ...], lock: Lock, now: datetime) -> Iterator[Finding | Unknown]:
    """Everything that is to be said of one lock."""
    if lock.renewed is None:
        yield Unknown(reason=f"{lock.ref} does not say when it was renewed")
        return
    age = (now - lock.renewed).total_seconds()
    if age < -STALE:
        yield Unknown(reason=f"{lock.ref} was renewed {ago(-age)} after the snapshot was taken: the clocks disagree")
        return
    if age > STALE:
        who = f"held by {lock.holder}" if lock.holder else "free"
        yield _bad(lock, "MR323-STALE", f"it is {who} and was last renewed {ago(age)} before the snapshot: nobody leads")
        return
    if not lock.holder:
        yield Unknown(reason=f"{lock.ref} is free at this moment, as for some seconds during a rollout of istiod: look again")
        return
    pods = {pod.metadata.name: pod for item in own for pod in (*item.workload.pods, *item.workload.terminating)}
    said = _of_holder(snapshot, lock, pods.get(lock.holder), age)
    if said is not None:
        yield said
        return
    expected = _default_revision(snapshot)
    if lock.revision and expected and lock.revision != expected:
        yield _other_revision(lock, expected)


def _of_holder(snapshot: Snapshot, lock: Lock, holder: Pod | None, age: float) -> Finding | Unknown | None:
    """What is wrong with the holder of a fresh lock; None where it is a ready istiod."""
    if holder is None:
        if snapshot.unread("pods"):
            return Unknown(reason=f"{lock.ref} is held by {lock.holder}, and whether that pod lives is not known")
        if age <= TERM:
            return Unknown(reason=f"{lock.ref} is held by {lock.holder}, which has just gone: look again")
        return _bad(lock, "MR323-HOLDER-GONE", f"it is held by {lock.holder}, which is no istiod pod of this namespace")
    if is_terminating(holder):
        return Unknown(reason=f"{lock.ref} is held by {lock.holder}, which is just leaving: look again")
    if not is_ready(holder):
        return _bad(lock, "MR323-HOLDER-NOT-READY", f"it is held by {lock.holder}, which is not ready")
    return None


def _bad(lock: Lock, code: str, found: str) -> Finding:
    return Finding(
        code=code,
        level=Level.ERROR,
        object=lock.ref,
        found=found,
        wanted=f"a ready istiod as holder, which renews the lock within {STALE} s",
        fix=f"see what istiod says: kubectl -n {lock.ref.namespace} logs -l app=istiod --tail=-1 | grep -i leader",
    )


def _other_revision(lock: Lock, expected: str) -> Finding:
    return Finding(
        code="MR323-OTHER-REVISION",
        level=Level.WARNING,
        object=lock.ref,
        found=f"it is held by {lock.holder} of revision {lock.revision}, but the default revision {expected} takes such locks over",
        wanted=f"a holder of revision {expected}",
        fix=f"see whether istiod of revision {expected} runs: kubectl -n {lock.ref.namespace} get pods -l istio.io/rev={expected}",
    )


def _default_revision(snapshot: Snapshot) -> str:
    """The revision behind the tag ``default``, else the one of that name; empty where there is neither."""
    planes = [plane for plane in snapshot.control_planes if plane.namespace == snapshot.istio_namespace]
    tagged = next((plane.revision for plane in planes if DEFAULT in plane.tags), "")
    return tagged or next((plane.revision for plane in planes if plane.revision == DEFAULT), "")


def _table(locks: list[Lock], now: datetime) -> list[dict[str, str]]:
    return [
        {
            "lock": f"{lock.ref.kind} {lock.ref.name}",
            "holder": lock.holder,
            "renewed": f"{ago(max(0, (now - lock.renewed).total_seconds()))} before" if lock.renewed else "unknown",
        }
        for lock in locks
    ]
