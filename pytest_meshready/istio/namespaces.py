"""Which namespaces belong to the mesh, and whether somebody said so: line 1.1.4 (checks.md 1.1.4)."""

from __future__ import annotations

from collections.abc import Mapping

from pytest_meshready.cluster.objects import Namespace
from pytest_meshready.cluster.snapshot import Snapshot, in_namespace
from pytest_meshready.istio.dataplane import REVISION, DataPlane, counted, dataplane_class
from pytest_meshready.istio.injector import INJECTION, MODE
from pytest_meshready.istio.wording import shortened
from pytest_meshready.results import Evidence, Finding, Judgement, Level, ObjectRef, Unknown

#: What `namespaces_defined` reads.
READS = ("namespaces", "pods", "node_pods")

#: The label of pods with a sidecar; gateways do not carry it.
_PROXIED = "security.istio.io/tlsMode"

_MESHED = frozenset({DataPlane.NATIVE, DataPlane.CLASSIC, DataPlane.PROXYLESS, DataPlane.AMBIENT})


def mesh_label(labels: Mapping[str, str]) -> str:
    """The label that puts a namespace into the mesh, as ``key=value``; empty where none does.

    ``istio-injection`` decides alone wherever it is set: the webhooks of revisions skip such namespaces (checks.md 2.3).
    """
    value = labels.get(INJECTION)
    if value == "enabled":
        return f"{INJECTION}=enabled"
    if value is None and labels.get(REVISION):
        return f"{REVISION}={labels[REVISION]}"
    return f"{MODE}=ambient" if labels.get(MODE) == "ambient" else ""


def unread_in(snapshot: Snapshot, namespace: str, *keys: str) -> tuple[Unknown, ...]:
    """What is unknown of these kinds in one namespace, so that what is missing there may still exist.

    What was refused, or could not be understood, in another namespace does not matter there.
    """
    return tuple(unknown for unknown in snapshot.unread(*keys) if unknown.namespace in ("", namespace))


def unread_namespace(snapshot: Snapshot) -> tuple[Unknown, ...]:
    """Why the namespace of the run is not known; empty where it is, even if the others may not be listed."""
    if snapshot.this_namespace() is not None:
        return ()
    missing = Unknown(reason=f"namespace {snapshot.namespace} is not among the namespaces that were read")
    return snapshot.unread("namespaces") or (missing,)


def namespaces_defined(snapshot: Snapshot, declared: tuple[str, ...] | None) -> Judgement:
    """Line 1.1.4: the namespaces in the mesh are those that the team declared.

    Args:
        snapshot: of the cluster; of pods in other namespaces only whether they have a sidecar, where the team declared any.
        declared: the list ``namespaces`` of the settings. Without it the namespace of the run is the declaration, and the
            others are listed and fail nothing.
    """
    unknown = snapshot.unread("namespaces")
    if unknown:
        return Judgement(unknown=unknown)
    existing = {item.metadata.name: item for item in snapshot.namespaces}
    meshed = {name: label for name, item in existing.items() if (label := mesh_label(item.metadata.labels))}
    wanted = (snapshot.namespace,) if declared is None else declared
    if snapshot.namespace not in meshed:
        unknown = unread_in(snapshot, snapshot.namespace, "pods")
        if count := _meshed_pods(snapshot):
            meshed[snapshot.namespace] = f"no label, but {count} {'pod' if count == 1 else 'pods'} in the mesh"
    findings = [finding for name in wanted if (finding := _declared(name, existing, meshed))]
    if declared is not None:
        findings += [_undeclared(name, meshed[name]) for name in sorted(meshed) if name not in declared]
        findings += [_pods_undeclared(*item) for item in _elsewhere(snapshot, {*declared, *meshed})]
        unknown += snapshot.unread("node_pods")
        if snapshot.namespace not in (*declared, *meshed):
            findings.append(_undeclared(snapshot.namespace, "not in the mesh yet, and accepted by this run"))
    others = [name for name in sorted(meshed) if name not in wanted]
    beside = f"; also in the mesh: {shortened(others)}" if others and declared is None else ""
    return Judgement(
        summary=f"in the mesh as declared: {shortened(wanted) or 'none'}{beside}",
        examined=len(existing),
        findings=tuple(findings),
        unknown=unknown,
        evidence=(Evidence(kind="table", source="labels of the namespaces", data=meshed),),
    )


def _declared(name: str, existing: Mapping[str, Namespace], meshed: Mapping[str, str]) -> Finding | None:
    """What is wrong with a declared namespace, if anything."""
    if name in meshed:
        return None
    there = ObjectRef(kind="Namespace", name=name)
    if name not in existing:
        return Finding(
            code="MR114-MISSING",
            level=Level.WARNING,
            object=there,
            found="it is declared for the mesh, but there is no such namespace",
            wanted="every declared namespace exists",
            fix=f"create it, or take it out of the list namespaces: kubectl get namespace {name}",
        )
    return Finding(
        code="MR114-NOT-LABELLED",
        level=Level.WARNING,
        object=there,
        found=f"it is declared for the mesh, but carries none of {INJECTION}=enabled, {REVISION} and {MODE}=ambient",
        wanted="a declared namespace carries the label that puts it into the mesh",
        fix=f"label it when its rollout begins: kubectl label namespace {name} {INJECTION}=enabled",
    )


def _undeclared(name: str, how: str) -> Finding:
    return Finding(
        code="MR114-UNDECLARED",
        level=Level.ERROR,
        object=ObjectRef(kind="Namespace", name=name),
        found=f"it is not in the list namespaces of the settings ({how})",
        wanted="every namespace of the mesh is declared",
        fix=f"add it to the list namespaces, or take it out of the mesh: kubectl get namespace {name} --show-labels",
    )


def _elsewhere(snapshot: Snapshot, known: set[str]) -> list[tuple[str, list[str]]]:
    """The namespaces that nobody declared or labelled, with the pods in them that have a sidecar."""
    apart = {*known, snapshot.namespace, snapshot.istio_namespace, *snapshot.gateway_namespaces}
    found: dict[str, list[str]] = {}
    for pod in snapshot.node_pods:
        namespace, labels = pod.metadata.namespace, pod.metadata.labels
        if labels.get(_PROXIED) == "istio" and namespace not in apart:
            found.setdefault(namespace, []).append(pod.metadata.name)
    return sorted(found.items())


def _pods_undeclared(name: str, pods: list[str]) -> Finding:
    return Finding(
        code="MR114-PODS-UNDECLARED",
        level=Level.ERROR,
        object=ObjectRef(kind="Namespace", name=name),
        found=f"it is not in the list namespaces of the settings and carries no label, but pods in it have a sidecar: {shortened(pods)}",
        wanted="every namespace of the mesh is declared",
        fix=f"add it to the list namespaces, or find out what injects them: kubectl -n {name} get pods --show-labels",
    )


def _meshed_pods(snapshot: Snapshot) -> int:
    """How many pods of the run's namespace are in the mesh by themselves; gateways and our own probes are not."""
    return sum(1 for pod in in_namespace(snapshot.pods, snapshot.namespace) if counted(pod) and dataplane_class(pod) in _MESHED)
