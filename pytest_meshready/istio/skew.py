"""Whether proxies, gateways and the agents of the nodes are in step with istiod: line 11.2.4 (checks.md 11.2.4).

Each proxy is compared with the istiod of its own revision: while a mesh is upgraded by revisions, proxies of two versions
are right. Istio's policy: istiod may be one minor version ahead of a proxy, and a proxy never ahead of istiod.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pytest_meshready.cluster.objects import Pod
from pytest_meshready.cluster.snapshot import Snapshot
from pytest_meshready.istio.changes import DEFINED_SINCE
from pytest_meshready.istio.components import gateways, held_namespaces
from pytest_meshready.istio.dataplane import image_version, proxies, proxy_revision
from pytest_meshready.istio.releases import Version, version
from pytest_meshready.istio.versions import READS as PLANES
from pytest_meshready.istio.versions import Installed, control_planes
from pytest_meshready.istio.workloads import Workload, pod_names, workloads
from pytest_meshready.results import Evidence, Finding, Judgement, Level, ObjectRef, Unknown

#: What `versions_tracked` reads.
READS = (*PLANES, *DEFINED_SINCE)

#: Containers and names of what Istio runs on every node.
_NODE_AGENTS = ("install-cni", "istio-cni", "istio-proxy")
_DAEMONS = ("istio-cni-node", "ztunnel")


@dataclass(frozen=True, slots=True, kw_only=True)
class Runner:
    """Pods of one workload whose proxies have one version and follow one revision; ``daemon`` for the agents of the nodes."""

    ref: ObjectRef
    text: str
    revision: str = ""
    pods: str = ""
    count: int = 0
    daemon: bool = False

    @property
    def version(self) -> Version | None:
        """The version; None where the tag is none."""
        return version(self.text)


def versions_tracked(snapshot: Snapshot) -> Judgement:
    """Line 11.2.4, what images say: proxies, gateways, istio-cni and ztunnel are in step with their istiod.

    Errors: a proxy newer than its istiod, or two minor versions older. Warnings: one minor version older; more than one
    patch between istiod and a proxy of its minor version; CustomResourceDefinitions older than istiod, by the kinds that the
    API server does not know. Images named by digest are unknown here: the proxies' own metrics
    tell their version.
    """
    unknown = list(snapshot.unread(*READS))
    planes = control_planes(snapshot)
    by_revision = {item.revision: found for item in planes if (found := item.version)}
    ours = planes[0].version if planes else None
    runners = list(runners_of(snapshot))
    if not by_revision:
        unknown.append(Unknown(reason="the version of istiod is not known, so nothing can be compared with it (see: istioctl version)"))
    if not runners:
        unknown.append(Unknown(reason=f"no proxy runs in {', '.join(held_namespaces(snapshot))}"))
    findings: list[Finding] = []
    for runner in runners:
        plane = by_revision.get(runner.revision, ours)
        found = runner.version
        if found is None:
            unknown.append(_unversioned(runner))
        elif plane is not None:
            findings += _skew(runner, found, plane)
    findings += _definitions(snapshot, planes)
    inventory = dict.fromkeys((*(item.text for item in planes if item.version), *(item.text for item in runners if item.version)))
    return Judgement(
        summary=f"istiod, gateways and proxies are of {', '.join(inventory)}",
        examined=sum(1 for runner in runners if runner.version),
        findings=tuple(findings),
        unknown=tuple(dict.fromkeys(unknown)),
        evidence=(Evidence(kind="table", source="tags of the images", data=_inventory(planes, runners)),),
    )


def runners_of(snapshot: Snapshot) -> Iterator[Runner]:
    """What istiod controls: proxies of the namespace, gateways of the namespaces that are held, agents of the nodes."""
    chosen: Mapping[ObjectRef, Workload] = {
        item.ref: item for item in (*workloads(snapshot, snapshot.namespace), *gateways(snapshot)) if item.pods
    }
    for workload in chosen.values():
        yield from _proxies_of(workload)
    for daemons in snapshot.daemonsets:
        if daemons.metadata.name.startswith(_DAEMONS):
            images = [c.image for c in daemons.spec.template.spec.containers if c.name in _NODE_AGENTS]
            ref = ObjectRef(kind="DaemonSet", namespace=daemons.metadata.namespace, name=daemons.metadata.name)
            for image in images[:1]:
                yield Runner(ref=ref, text=image_version(image), count=daemons.status.desired_number_scheduled, daemon=True)


def _definitions(snapshot: Snapshot, planes: list[Installed]) -> Iterator[Finding]:
    """Kinds that came with the version of istiod, or before, and that the API server does not know: what istiod reads is not there."""
    newest = max((found.minor for item in planes if (found := item.version) and found.major == 1), default=0)
    absent = {refusal.key: refusal.resource for refusal in snapshot.refusals if refusal.absent}
    missing = [(since, absent[key]) for key, since in DEFINED_SINCE.items() if key in absent and since <= newest]
    if missing and snapshot.is_deployed:
        since = min(since for since, _ in missing)
        yield Finding(
            code="MR1124-CRDS-OLD",
            level=Level.WARNING,
            object=planes[0].ref,
            found=f"the API server does not know {', '.join(name for _, name in missing)}, which Istio 1.{since} brought: the "
            f"CustomResourceDefinitions are older than istiod, which is {planes[0].text}",
            wanted=f"the CustomResourceDefinitions of 1.{newest}, or newer ones: they are upgraded before istiod",
            fix="upgrade them: helm upgrade istio-base istio/base; then: kubectl get crd -l chart=istio",
        )


def _proxies_of(workload: Workload) -> Iterator[Runner]:
    """The versions and revisions of the proxies of one workload, each with its pods."""
    found: dict[tuple[str, str], list[Pod]] = {}
    for pod in workload.pods:
        for container in proxies(pod)[:1]:
            found.setdefault((image_version(container.image), proxy_revision(pod)), []).append(pod)
    for (text, revision), pods in found.items():
        yield Runner(ref=workload.ref, text=text, revision=revision, pods=pod_names(pods), count=len(pods))


def _unversioned(runner: Runner) -> Unknown:
    why = f"the tag {runner.text!r} of its image is no version" if runner.text else "its image is named by digest"
    return Unknown(reason=f"the version of Istio in {runner.ref} is not known: {why} (see: istioctl proxy-status)")


def _skew(runner: Runner, found: Version, plane: Version) -> Iterator[Finding]:
    """How far one proxy is from its istiod."""
    behind = (plane.major - found.major) * 100 + plane.minor - found.minor
    if behind == 0:
        yield from _patches(runner, found, plane)
        return
    restart = f"kubectl -n {runner.ref.namespace} rollout restart {runner.ref.kind.lower()} {runner.ref.name}"
    level = Level.ERROR
    if behind < 0:
        code, word = "PROXY-NEWER", f"newer than istiod {plane.text}, which may not understand it"
        fix = f"upgrade istiod first, or take istiod's own proxy image again: {restart}"
    elif behind > 1:
        code, word = "PROXY-OLD", f"{behind} minor versions older than istiod {plane.text}; Istio supports one"
        fix = f"restart its pods, so that they get istiod's version: {restart}"
    else:
        code, level, word = "PROXY-BEHIND", Level.WARNING, f"one minor version older than istiod {plane.text}"
        fix = f"finish the upgrade: {restart}"
    if runner.daemon:
        level = Level.ERROR if abs(behind) > 1 else Level.WARNING  # what runs on nodes is upgraded before or after istiod
        fix = f"upgrade it with istiod; see: kubectl -n {runner.ref.namespace} rollout status daemonset {runner.ref.name}"
    yield Finding(
        code=f"MR1124-{code}",
        level=level,
        object=runner.ref,
        found=f"{_who(runner)} of version {found.text}: {word}",
        wanted=f"the version of istiod, {plane.text}",
        fix=fix,
        detail=found.line,
    )


def _patches(runner: Runner, found: Version, plane: Version) -> Iterator[Finding]:
    """More than one patch between a proxy and its istiod."""
    if found.patch is None or plane.patch is None or abs(found.patch - plane.patch) < 2:
        return
    restart = f"kubectl -n {runner.ref.namespace} rollout restart {runner.ref.kind.lower()} {runner.ref.name}"
    yield Finding(
        code="MR1124-PATCHES",
        level=Level.WARNING,
        object=runner.ref,
        found=f"{_who(runner)} of version {found.text}, and istiod is of {plane.text}",
        wanted="at most one patch between istiod and its proxies",
        fix=f"let its pods get istiod's version: {restart}" if found.patch < plane.patch else "upgrade istiod to the proxies' patch",
        detail=found.text,
    )


def _who(runner: Runner) -> str:
    count = f"{runner.count} {'pod' if runner.count == 1 else 'pods'}"
    return f"{count} ({runner.pods})" if runner.pods else count


def _inventory(planes: list[Installed], runners: list[Runner]) -> list[dict[str, str]]:
    rows = [(str(item.ref), item.text, item.revision) for item in planes]
    rows += [(str(item.ref), item.text, item.revision) for item in runners]
    return [{"object": ref, "version": text or "named by digest", "revision": revision} for ref, text, revision in rows]
