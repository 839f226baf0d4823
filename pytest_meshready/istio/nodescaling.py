"""Line 2.1.4: does anything add nodes, can it, and has it done so lately (checks.md 2.1.4).

Cluster Autoscaler writes its state into a ConfigMap, Karpenter into its NodePools. What neither shows (a provider's own
scaling, an autoscaler of another namespace) is not known, never taken for absent.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from pytest_meshready.cluster.objects import Condition
from pytest_meshready.cluster.objects_capacity import AutoscalerState, ClusterAutoscalerStatus, NodeGroupState, NodePool
from pytest_meshready.cluster.snapshot import Snapshot
from pytest_meshready.istio.moments import ago, moment, now_of
from pytest_meshready.istio.quantities import amount
from pytest_meshready.results import Evidence, Finding, Judgement, Level, ObjectRef, Unknown

#: What `node_autoscaling` reads.
READS = ("nodes", "autoscaler_status", "nodepools", "nodeclaims")

#: How long a node counts as evidence that scaling works.
RECENT = timedelta(days=30)

#: Cluster Autoscaler writes its state every ten seconds; older than this, nobody writes it.
STALE = timedelta(minutes=15)

#: Nodes that came within this time after the first one belong to the making of the cluster.
_MADE = timedelta(hours=1)

_POOL = "karpenter.sh/nodepool"
_POOL_CONDITIONS = ("Ready", "NodeClassReady", "NodeRegistrationHealthy")
_CLAIM_CONDITIONS = ("Launched", "Registered", "Initialized")
_SEE = "kubectl -n kube-system get configmap cluster-autoscaler-status -o yaml"


def node_autoscaling(snapshot: Snapshot, *, now: datetime | None = None) -> Judgement:
    """Line 2.1.4, static part.

    Errors: the autoscaler is unhealthy, backs off, no longer writes its state, or no group may grow. Warnings: no node was
    added in the last 30 days. Unknown: nothing shows that anything adds nodes.
    """
    unknown = snapshot.unread(*READS)
    status = next(iter(snapshot.autoscaler_status), None)
    if status is None and not snapshot.nodepools:
        return Judgement(unknown=unknown or (_nothing(),))
    time = now_of(snapshot, now)
    findings = [*(_of_autoscaler(status, time) if status else ()), *_of_pools(snapshot, time)]
    if status is not None and status.state.problem:
        unknown += (Unknown(reason=f"ConfigMap kube-system/{status.metadata.name} could not be understood: {status.state.problem}"),)
    recent = _recent(snapshot, time)
    if not findings and not recent and not unknown:
        findings = [_untested(status, snapshot.nodepools)]
    groups = len(status.state.groups) if status else 0
    return Judgement(
        summary=f"nodes are added when they are needed ({groups + len(snapshot.nodepools)} groups), the last one {recent}",
        examined=1 + groups + len(snapshot.nodepools),
        findings=tuple(findings),
        unknown=unknown,
        evidence=(Evidence(kind="table", source="kube-system/cluster-autoscaler-status, nodepools", data=_table(snapshot)),),
    )


def _nothing() -> Unknown:
    return Unknown(
        reason="nothing shows whether nodes are added: there is neither ConfigMap kube-system/cluster-autoscaler-status "
        "nor a NodePool of Karpenter (a provider may scale without showing it)"
    )


def _finding(code: str, level: Level, about: ObjectRef, *, found: str, wanted: str, fix: str) -> Finding:
    return Finding(code=f"MR214-{code}", level=level, object=about, found=found, wanted=wanted, fix=fix)


# --- Cluster Autoscaler -----------------------------------------------------------------------------------------------


def _of_autoscaler(status: ClusterAutoscalerStatus, now: datetime | None) -> Iterator[Finding]:
    state = status.state
    if state.problem:
        return
    about = ObjectRef(kind=status.kind, namespace=status.metadata.namespace, name=status.metadata.name)
    written = moment(state.written)
    if now is not None and written is not None and now - written > STALE:
        yield _finding(
            "AUTOSCALER-GONE",
            Level.ERROR,
            about,
            found=f"Cluster Autoscaler wrote its state {ago((now - written).total_seconds())} ago for the last time, so it does not run",
            wanted="a state that is seconds old",
            fix="see its pods and logs: kubectl get pods -A | grep autoscaler",
        )
    elif state.health not in ("", "Healthy"):
        yield _finding("UNHEALTHY", Level.ERROR, about, found=f"Cluster Autoscaler is {state.health}", wanted="Healthy", fix=_SEE)
    elif not state.health:
        said = state.running or "nothing"
        found = f"Cluster Autoscaler says {said} and no health yet"
        yield _finding("NOT-RUNNING", Level.WARNING, about, found=found, wanted="Running, Healthy", fix=_SEE)
    yield from _of_groups(about, state)


def _of_groups(about: ObjectRef, state: AutoscalerState) -> Iterator[Finding]:
    backing = [group for group in state.groups if group.scale_up == "Backoff"]
    sick = [group for group in state.groups if group.health not in ("", "Healthy")]
    if backing or state.scale_up == "Backoff":
        why = next((f" ({group.backoff})" for group in backing if group.backoff), "")
        which = _names(backing) or "the cluster"
        found = f"it does not add nodes to {which} for a while, because the last attempt failed{why}"
        yield _finding("BACKOFF", Level.ERROR, about, found=found, wanted="no group in Backoff", fix=f"ask the cloud why: {_SEE}")
    if sick:
        found = f"groups with too many nodes that are not ready: {_names(sick)}"
        yield _finding("GROUP-UNHEALTHY", Level.ERROR, about, found=found, wanted="healthy groups", fix=f"kubectl get nodes; {_SEE}")
    sized = [group for group in state.groups if group.target is not None and group.max_size is not None]
    if sized and len(sized) == len(state.groups) and all(_is_full(group) for group in sized):
        found = f"all {len(sized)} groups are at their maximum ({_names(sized)}), so no node can be added"
        yield _finding(
            "AT-MAXIMUM", Level.ERROR, about, found=found, wanted="a group that may grow", fix=f"raise the maximum of a group; {_SEE}"
        )


def _is_full(group: NodeGroupState) -> bool:
    return group.target is not None and group.max_size is not None and group.target >= group.max_size


def _names(groups: list[NodeGroupState]) -> str:
    """At most three names; a name may be the whole address of a group at its cloud."""
    names = [group.name.rpartition("/")[2][:60] or "?" for group in groups]
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


# --- Karpenter --------------------------------------------------------------------------------------------------------


def _of_pools(snapshot: Snapshot, now: datetime | None) -> Iterator[Finding]:
    full = [pool for pool in snapshot.nodepools if _at_limit(pool)]
    for pool in snapshot.nodepools:
        about = ObjectRef(kind=pool.kind, name=pool.metadata.name)
        bad = [condition for condition in pool.status.conditions if condition.type in _POOL_CONDITIONS and condition.status == "False"]
        if bad:
            found = f"{_said(bad)}, so Karpenter adds no node of it"
            yield _finding("POOL-NOT-READY", Level.ERROR, about, found=found, wanted="Ready", fix=f"kubectl describe nodepool {about.name}")
    if full and len(full) == len(snapshot.nodepools):
        for pool in full:
            about = ObjectRef(kind=pool.kind, name=pool.metadata.name)
            found = f"it is at its limit ({_at_limit(pool)}), as every NodePool is, so no node can be added"
            fix = f"raise spec.limits: kubectl edit nodepool {about.name}"
            yield _finding("AT-MAXIMUM", Level.ERROR, about, found=found, wanted="a NodePool below its limits", fix=fix)
    for claim in snapshot.nodeclaims:
        born = moment(claim.metadata.creation_timestamp)
        waits = now is not None and born is not None and now - born > STALE
        bad = [condition for condition in claim.status.conditions if condition.type in _CLAIM_CONDITIONS and condition.status != "True"]
        if bad and waits:
            about = ObjectRef(kind=claim.kind, name=claim.metadata.name)
            found = f"a node was asked for at {claim.metadata.creation_timestamp} and is not there yet: {_said(bad)}"
            fix = f"kubectl describe nodeclaim {about.name}"
            yield _finding("CLAIM-STUCK", Level.ERROR, about, found=found, wanted="a node that joins within minutes", fix=fix)


def _said(conditions: list[Condition]) -> str:
    return ", ".join(f"{item.type} is {item.status}{f' ({item.reason})' if item.reason else ''}" for item in conditions[:3])


def _at_limit(pool: NodePool) -> str:
    """The resource of which a NodePool has all that its limits permit, as ``cpu 100 of 100``; empty where it may grow."""
    for name, limit in pool.spec.limits.items():
        most, now = amount(limit, name), amount(pool.status.resources.get(name), name)
        if most is not None and now is not None and now >= most:
            return f"{name} {pool.status.resources[name]} of {limit}"
    return ""


# --- evidence ---------------------------------------------------------------------------------------------------------


def _recent(snapshot: Snapshot, now: datetime | None) -> str:
    """When a node was added last, as ``3 h ago``; empty where none was in the last 30 days, or none since the cluster was made."""
    claims = [moment(claim.metadata.creation_timestamp) for claim in snapshot.nodeclaims]
    born = sorted(time for node in snapshot.nodes if (time := moment(node.metadata.creation_timestamp)))
    added = [time for time in born if time - born[0] > _MADE]
    times = [time for time in (*claims, *added) if time is not None and now is not None and now - time <= RECENT]
    return f"{ago(max((now - max(times)).total_seconds(), 0))} ago" if times and now is not None else ""


def _untested(status: ClusterAutoscalerStatus | None, pools: tuple[NodePool, ...]) -> Finding:
    if status is not None:
        about = ObjectRef(kind=status.kind, namespace=status.metadata.namespace, name=status.metadata.name)
    else:
        about = ObjectRef(kind=NodePool.kind, name=pools[0].metadata.name)
    return _finding(
        "UNTESTED",
        Level.WARNING,
        about,
        found="the autoscaler is healthy, but no node was added in the last 30 days, so nothing shows that it works",
        wanted="a node that was added in the last 30 days",
        fix="scale a Deployment beyond what is free, in a quiet hour, and watch: kubectl get nodes --watch",
    )


def _table(snapshot: Snapshot) -> list[dict[str, object]]:
    groups = [group for status in snapshot.autoscaler_status for group in status.state.groups]
    rows: list[dict[str, object]] = [
        {"group": group.name, "health": group.health, "scaleUp": group.scale_up, "now": group.target, "maximum": group.max_size}
        for group in groups
    ]
    claims = [claim.metadata.labels.get(_POOL, "") for claim in snapshot.nodeclaims]
    rows += [{"pool": pool.metadata.name, "nodes": claims.count(pool.metadata.name)} for pool in snapshot.nodepools]
    return rows
