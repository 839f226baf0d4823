"""How the namespace follows an upgrade of Istio: line 11.2.3 (checks.md 11.2.3).

What people decide (which version next, and when) is a statement; here is what the cluster says of the way: a namespace that
follows a revision or a tag is moved by itself, one that follows an istiod that is upgraded in place moves with the whole mesh.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

from pytest_meshready.cluster.objects import Pod
from pytest_meshready.cluster.objects_traffic import EnvoyFilter
from pytest_meshready.cluster.snapshot import Snapshot
from pytest_meshready.istio.components import DEFAULT, gateways, held_namespaces, istiods
from pytest_meshready.istio.dataplane import REVISION, proxies, proxy_revision
from pytest_meshready.istio.injector import INJECTION, MODE, control_plane_of, installed_revisions
from pytest_meshready.istio.namespaces import mesh_label, unread_namespace
from pytest_meshready.istio.obsolete import obsolete, pinned, proxy_versions, upgrade_notes
from pytest_meshready.istio.releases import PACKAGED, Table
from pytest_meshready.istio.versions import READS as PLANES
from pytest_meshready.istio.versions import control_planes, supported_until, today_of
from pytest_meshready.istio.workloads import Workload, pod_names, workloads
from pytest_meshready.results import Evidence, Finding, Judgement, Level, ObjectRef, Unknown

#: What `upgrade_strategy` reads.
READS = (*PLANES, "envoyfilters", "configmaps")

#: The one in use, and the one that follows it.
REVISIONS = 2

#: How many EnvoyFilters are named.
_SHOWN = 20


def upgrade_strategy(snapshot: Snapshot, *, today: date | None = None, table: Table = PACKAGED) -> Judgement:
    """Line 11.2.3, what the cluster says: the namespace can be upgraded by itself, and nothing is left of earlier upgrades.

    Errors: a proxy whose revision is gone; more than two revisions. Warnings: the namespace follows an istiod without a
    revision, which can only be upgraded in place, for the whole mesh at once; a setting that the installed version does not know
    any more, or that the next one will not (`pytest_meshready.istio.obsolete`); an EnvoyFilter for versions of proxies that are
    not there. A compatibility version, which ends some day, EnvoyFilters, which an upgrade may break, and what the next version
    changes by itself are shown. In an ambient namespace only waypoints follow a revision: ztunnel
    and istio-cni are upgraded in place, node by node.

    Args:
        snapshot: of the cluster.
        today: the day to judge by, for the end of support in the evidence.
        table: what is known of releases.
    """
    unknown = [*snapshot.unread(*READS), *unread_namespace(snapshot)]
    namespace = snapshot.this_namespace()
    label = mesh_label(namespace.metadata.labels) if namespace else ""
    if namespace and not label:
        unknown.append(Unknown(reason=f"namespace {snapshot.namespace} carries no label of the mesh, so no istiod's upgrade moves it"))
    findings = [*_way(snapshot, label), *_revisions(snapshot), *_left_behind(snapshot), *_compatibility(snapshot)]
    findings += [*obsolete(snapshot, table), *pinned(snapshot)]
    return Judgement(
        summary=f"namespace {snapshot.namespace} follows {label} and can be upgraded by itself",
        examined=1 if label else 0,
        findings=tuple(findings),
        unknown=tuple(dict.fromkeys(unknown)),
        evidence=(Evidence(kind="table", source="labels, webhooks and images", data=_plan(snapshot, label, today, table)),),
    )


def _way(snapshot: Snapshot, label: str) -> Iterator[Finding]:
    """A namespace that follows the one istiod without a revision."""
    key, _, value = label.partition("=")
    if key not in (INJECTION, REVISION):
        return
    followed = DEFAULT if key == INJECTION else value
    plane = control_plane_of(snapshot, followed) or (snapshot.control_plane if key == INJECTION else None)
    if plane is None or plane.url or (plane.revision or DEFAULT) != DEFAULT:
        return  # who upgrades an istiod outside of the cluster decides how
    yield Finding(
        code="MR1123-IN-PLACE",
        level=Level.WARNING,
        object=ObjectRef(kind="Namespace", name=snapshot.namespace),
        found=f"{label} leads to an istiod without a revision, which can only be upgraded in place, for every namespace at once",
        wanted="a tag or a revision, so that namespaces are moved, and moved back, one by one",
        fix="install the next version beside this one, with a revision and a tag that points at it; then: "
        f"kubectl label namespace {snapshot.namespace} istio-injection- istio.io/rev=TAG --overwrite",
    )


def _revisions(snapshot: Snapshot) -> Iterator[Finding]:
    """More revisions than one upgrade needs."""
    found = sorted({*(plane.revision or DEFAULT for plane in snapshot.control_planes), *(item.revision for item in istiods(snapshot))})
    if len(found) > REVISIONS:
        unused = [item.revision for item in istiods(snapshot) if not item.in_use]
        hint = f"; no tag, namespace or proxy that can be seen uses {', '.join(unused[:3])}" if unused else ""
        yield Finding(
            code="MR1123-REVISIONS",
            level=Level.ERROR,
            object=ObjectRef(kind="Namespace", name=snapshot.istio_namespace),
            found=f"{len(found)} revisions of Istio are installed: {', '.join(found[:5])}{hint}",
            wanted=f"at most {REVISIONS}: the one in use and the next",
            fix="move what is left, then remove the old ones: istioctl tag list; istioctl uninstall --revision REV",
        )


def _left_behind(snapshot: Snapshot) -> Iterator[Finding]:
    """Proxies whose revision is gone: nobody gives them configuration any more, and a new pod may not be injected."""
    installed = installed_revisions(snapshot)
    if not installed or snapshot.unread("mutatingwebhookconfigurations"):
        return
    seen: dict[ObjectRef, Workload] = {item.ref: item for item in (*workloads(snapshot, snapshot.namespace), *gateways(snapshot))}
    for workload in seen.values():
        gone: dict[str, list[Pod]] = {}
        for pod in workload.pods:
            revision = proxy_revision(pod)
            if revision and proxies(pod) and revision not in installed:
                gone.setdefault(revision, []).append(pod)
        for revision, pods in gone.items():
            restart = f"kubectl -n {workload.ref.namespace} rollout restart {workload.ref.kind.lower()} {workload.ref.name}"
            yield Finding(
                code="MR1123-REVISION-GONE",
                level=Level.ERROR,
                object=workload.ref,
                found=f"{len(pods)} {'pod' if len(pods) == 1 else 'pods'} ({pod_names(pods)}) have a proxy of revision {revision}, "
                f"which is not installed any more (installed: {', '.join(installed)})",
                wanted="no proxy of a revision that was removed",
                fix=f"restart its pods: {restart}",
                detail=revision,
            )


def _compatibility(snapshot: Snapshot) -> Iterator[Finding]:
    """An installation that keeps the behaviour of an earlier version."""
    if snapshot.install and snapshot.install.compatibility_version:
        keeps = snapshot.install.compatibility_version
        yield Finding(
            code="MR1123-COMPATIBILITY",
            level=Level.INFO,
            object=ObjectRef(kind="Namespace", name=snapshot.istio_namespace),
            found=f"Istio was installed with compatibilityVersion {keeps}: it behaves as {keeps} did, until a later version drops that",
            wanted="no compatibility version, or a date until which it is needed",
            fix=f"read what {keeps} still differs in, then leave the value out; see: "
            f"kubectl -n {snapshot.istio_namespace} get configmap values -o yaml",
        )


def _plan(snapshot: Snapshot, label: str, today: date | None, table: Table) -> list[dict[str, str]]:
    """What a person needs who states the next version and its date."""
    rows = [{"what": f"namespace {snapshot.namespace} follows", "found": label or "nothing"}]
    if label == f"{MODE}=ambient":
        rows.append({"what": "ztunnel and istio-cni", "found": "are upgraded in place, node by node"})
    day = today_of(snapshot, today)
    rows += [
        {
            "what": f"{item.ref} (revision {item.revision})",
            "found": f"{item.text or 'version not known'}, supported until: {supported_until(item, day, table)}",
        }
        for item in control_planes(snapshot)
    ]
    held = held_namespaces(snapshot)
    filters = [item for item in snapshot.envoyfilters if item.metadata.namespace in held]
    if filters:
        names = ", ".join(map(_named, filters[:_SHOWN]))
        more = f" and {len(filters) - _SHOWN} more" if len(filters) > _SHOWN else ""
        rows.append({"what": "EnvoyFilters, which a new version may break", "found": f"{names}{more}"})
    rows += upgrade_notes(snapshot, table)
    return [*rows, {"what": "as of", "found": f"{day or 'not known'}, {table}"}]


def _named(item: EnvoyFilter) -> str:
    """An EnvoyFilter with the versions of proxies that it is for, where it says so."""
    patterns = ", ".join(dict.fromkeys(pattern[:80] for pattern in proxy_versions(item)))
    name = f"{item.metadata.namespace}/{item.metadata.name}"
    return f"{name} (proxyVersion {patterns})" if patterns else name
