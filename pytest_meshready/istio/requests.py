"""Line 2.1.3: do all containers say what they need, the proxies too (checks.md 2.1.3).

Judged are the next pods: the template, completed by the defaults of the API server and of LimitRanges. Of proxies that are
there already, what they have. A CPU limit far above its request is how most teams run, and what Istio's own chart does
(100m and 2000m), so the distance is judged for memory alone, where it ends in a kill.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pytest_meshready.cluster.objects import Container, Pod, Resources
from pytest_meshready.cluster.objects_capacity import LimitRangeItem
from pytest_meshready.cluster.snapshot import Snapshot, in_namespace
from pytest_meshready.istio.dataplane import PROXY, DataPlane, dataplane_class
from pytest_meshready.istio.namespaces import unread_in
from pytest_meshready.istio.projection import ANNOTATIONS, container_ranges, effective, proxy_of
from pytest_meshready.istio.projection import READS as PROJECTION
from pytest_meshready.istio.quantities import CPU, MEMORY, MIB, amount, quantity, text
from pytest_meshready.istio.workloads import READS as WORKLOADS
from pytest_meshready.istio.workloads import Workload, app_containers, is_gateway, pod_names, workloads
from pytest_meshready.results import Evidence, Finding, Judgement, Level, ObjectRef

#: What `resources_reviewed` reads.
READS = PROJECTION

#: Below these limits a proxy is throttled, or killed when its configuration grows.
LEAST_CPU, LEAST_MEMORY = 100, 128 * MIB

#: A memory limit more than this many times the request promises what the node may not have.
RATIO = 10

_INJECTOR = "istio-sidecar-injector"
_WORDS = {CPU: "CPU", MEMORY: "memory"}
_SIDECARS = frozenset({DataPlane.NATIVE, DataPlane.CLASSIC, DataPlane.PROXYLESS})


def resources_reviewed(snapshot: Snapshot) -> Judgement:
    """Line 2.1.3, static part.

    Errors: a container of the application that requests no CPU or no memory. Warnings: no memory limit; a memory limit more
    than 10 times the request; an init container without requests; a proxy without requests, without a memory limit, or with
    a limit below 128 Mi or 100m. Shown only: requests that a LimitRange sets, because nobody thought of this container. Where
    LimitRanges were not read, what a container leaves out may still be set by one: that is unknown, and shown.
    """
    ranges = tuple(container_ranges(in_namespace(snapshot.limitranges, snapshot.namespace)))
    judged = [item for item in workloads(snapshot, snapshot.namespace) if item.template.spec.containers]
    certain = not unread_in(snapshot, snapshot.namespace, "limitranges")
    cases = [_Case(snapshot=snapshot, workload=item, ranges=ranges, certain=certain) for item in judged]
    findings: list[Finding] = []
    rows: list[dict[str, str]] = []
    for case in cases:
        findings += [*_applications(case), *_inits(case), *_by_default(case)]
        rows += case.rows()
    findings += _proxies(snapshot, cases)
    return Judgement(
        summary=f"every container of {len(judged)} workloads requests CPU and memory and limits its memory",
        examined=len(judged),
        findings=tuple(findings),
        unknown=unread_in(snapshot, snapshot.namespace, *WORKLOADS, "limitranges"),
        evidence=(Evidence(kind="table", source="templates, LimitRanges and proxies", data=rows[:200]),),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    """One workload. ``certain`` tells whether the LimitRanges are known, which may set what a container leaves out."""

    snapshot: Snapshot
    workload: Workload
    ranges: Sequence[LimitRangeItem]
    certain: bool

    def containers(self) -> tuple[Container, ...]:
        """The application's containers that run for as long as the pod does, native sidecars among them."""
        spec = self.workload.template.spec
        lasting = tuple(item for item in spec.init_containers if item.restart_policy == "Always" and item.name != PROXY)
        return (*app_containers(self.workload.template), *lasting)

    def complete(self, container: Container) -> Resources:
        """A container's resources with every default."""
        return effective(container.resources, self.ranges)

    def set_for_the_pod(self, resource: str) -> bool:
        """Whether the pod as a whole requests the resource, which then suffices."""
        return resource in self.workload.template.spec.resources.requests

    def rows(self) -> list[dict[str, str]]:
        """What every container has, for the evidence."""
        return [_row(self.workload, item.name, self.complete(item)) for item in self.containers()]

    def finding(self, code: str, level: Level, *, found: str, wanted: str, fix: str = "", detail: str = "") -> Finding:
        """A finding about the workload, with the command that shows its containers."""
        ref = self.workload.ref
        see = f"kubectl -n {ref.namespace} get {ref.kind.lower()} {ref.name} -o yaml"
        return Finding(code=f"MR213-{code}", level=level, object=ref, found=found, wanted=wanted, fix=f"{fix}{see}", detail=detail)

    def is_bare(self, name: str, *wanted: tuple[str, str]) -> bool:
        """Whether a container that leaves these out will run without them, each ``("requests", "cpu")`` or the like.

        Where LimitRanges were not read, a pod tells it that was let in without.
        """
        pods = (container for pod in self.workload.pods for container in (*pod.spec.containers, *pod.spec.init_containers))
        said = [container.resources for container in pods if container.name == name]
        return self.certain or any(all(key not in getattr(resources, kind) for kind, key in wanted) for resources in said)

    def left_out(self, code: str, level: Level, *, bare: bool, found: str, wanted: str, fix: str = "", detail: str = "") -> Finding:
        """A finding about what a container does not say itself: only shown where a LimitRange may say it."""
        if bare:
            return self.finding(code, level, found=found, wanted=wanted, fix=fix, detail=detail)
        found = f"{found}; unless a LimitRange sets it, which was not read"
        return self.finding(code, Level.INFO, found=found, wanted=wanted, fix=fix, detail=detail)


def _row(workload: Workload, name: str, resources: Resources) -> dict[str, str]:
    def said(values: dict[str, str | int | float]) -> str:
        return ", ".join(f"{key} {values[key]}" for key in (CPU, MEMORY) if key in values) or "none"

    return {"workload": str(workload.ref), "container": name, "requests": said(resources.requests), "limits": said(resources.limits)}


# --- the application --------------------------------------------------------------------------------------------------


def _applications(case: _Case) -> Iterator[Finding]:
    for container in case.containers():
        resources = case.complete(container)
        missing = [resource for resource in (CPU, MEMORY) if resource not in resources.requests and not case.set_for_the_pod(resource)]
        if missing:
            words = " and no ".join(_WORDS[resource] for resource in missing)
            yield case.left_out(
                "NO-REQUESTS",
                Level.ERROR,
                bare=case.is_bare(container.name, *(("requests", resource) for resource in missing)),
                found=f"container {container.name} requests no {words}, so nodes are filled without counting it, and it is evicted first",
                wanted="requests for CPU and memory",
                fix=f"{_set_resources(case.workload, container.name)}; now: ",
                detail=container.name,
            )
        if MEMORY not in resources.limits and MEMORY not in case.workload.template.spec.resources.limits:
            yield case.left_out(
                "NO-MEMORY-LIMIT",
                Level.WARNING,
                bare=case.is_bare(container.name, ("limits", MEMORY)),
                found=f"container {container.name} has no memory limit, so a leak in it takes the memory of its neighbours",
                wanted="a memory limit",
                detail=container.name,
            )
        apart = _apart(resources)
        if apart:
            yield case.finding(
                "MEMORY-OVERCOMMITTED",
                Level.WARNING,
                found=f"container {container.name} {apart}",
                wanted=f"a memory limit of at most {RATIO} times the request",
                detail=container.name,
            )


def _set_resources(workload: Workload, container: str) -> str:
    ref = workload.ref
    if ref.kind not in ("Deployment", "StatefulSet", "DaemonSet"):
        return f"set resources.requests of container {container}"
    options = f"-c {container} --requests=cpu=100m,memory=128Mi"
    return f"measure it, then: kubectl -n {ref.namespace} set resources {ref.kind.lower()} {ref.name} {options}"


def _apart(resources: Resources) -> str:
    """What is said of a memory limit far above its request; empty where it is not."""
    request, limit = resources.requests.get(MEMORY), resources.limits.get(MEMORY)
    low, high = (None if value is None else quantity(value) for value in (request, limit))
    if low is None or high is None or low <= 0 or high <= RATIO * low:
        return ""
    return f"may use {limit} of memory, more than {RATIO} times the {request} that it requests"


def _inits(case: _Case) -> Iterator[Finding]:
    """Init containers that end; without requests the pod may be placed where they do not run."""
    ending = [container for container in case.workload.template.spec.init_containers if container.restart_policy != "Always"]
    bare = [container.name for container in ending if not {CPU, MEMORY} <= set(case.complete(container).requests)]
    if bare and not (case.set_for_the_pod(CPU) and case.set_for_the_pod(MEMORY)):
        names = ", ".join(bare[:3])
        found = f"init containers without requests for CPU and memory: {names}"
        wanted = "requests for CPU and memory"
        yield case.left_out("INIT-NO-REQUESTS", Level.WARNING, bare=case.certain, found=found, wanted=wanted)


def _by_default(case: _Case) -> Iterator[Finding]:
    """Requests that only a LimitRange sets."""
    defaulted = []
    for container in case.containers():
        own, complete = effective(container.resources, ()), case.complete(container)
        if any(resource in complete.requests and resource not in own.requests for resource in (CPU, MEMORY)):
            defaulted.append(container.name)
    if defaulted:
        found = f"a LimitRange sets the requests of {', '.join(defaulted[:3])}: every container of the namespace gets the same"
        yield case.finding("DEFAULT-REQUESTS", Level.INFO, found=found, wanted="requests that were measured for it")


# --- the proxy --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Lack:
    """What proxies lack; ``said`` is the end of a sentence about them, ``annotations`` are those that cause it.

    ``left_out`` tells that it is not set at all.
    """

    code: str
    said: str
    wanted: str
    detail: str = ""
    annotations: tuple[str, ...] = ()
    left_out: bool = False


def _proxies(snapshot: Snapshot, cases: Sequence[_Case]) -> Iterator[Finding]:
    """The proxies that are there, and before injection those that will come.

    What the injector gives to all of them is one finding about its configuration; what a template's annotations do is one
    about the workload.
    """
    of_injector: dict[_Lack, list[str]] = {}
    for case in cases:
        causes = tuple(key for key in ANNOTATIONS if key in case.workload.template.metadata.annotations)
        for resources, pods in _proxies_of(case):
            for lack in _lacks(resources, causes):
                if lack.left_out and not pods and not case.certain:
                    continue  # a LimitRange may set it for proxies that are still to come; it is unknown
                if causes or _overrides(case.workload):
                    yield _by_template(case, lack, pods)
                else:
                    of_injector.setdefault(lack, []).append(case.workload.ref.name)
    for lack, names in of_injector.items():
        yield _by_injector(snapshot, lack, list(dict.fromkeys(names)))


def _proxies_of(case: _Case) -> list[tuple[Resources, list[Pod]]]:
    """The resources of a workload's proxies, each different kind once, with its pods; none for gateways."""
    if is_gateway(case.workload):
        return []
    seen: dict[str, tuple[Resources, list[Pod]]] = {}
    for pod in case.workload.pods:
        if dataplane_class(pod) in _SIDECARS:
            for container in (*pod.spec.containers, *pod.spec.init_containers):
                if container.name == PROXY:
                    seen.setdefault(repr(container.resources), (container.resources, []))[1].append(pod)
    coming = None if seen or not case.workload.replicas else proxy_of(case.snapshot, case.workload, case.ranges)
    return [(coming.resources, [])] if coming else list(seen.values())


def _overrides(workload: Workload) -> bool:
    """Whether the template itself changes the proxy."""
    return any(container.name == PROXY for container in workload.template.spec.containers)


def _lacks(resources: Resources, causes: tuple[str, ...]) -> Iterator[_Lack]:
    """What is wrong with the resources of a proxy."""
    missing = [resource for resource in (CPU, MEMORY) if resource not in resources.requests]
    if missing:
        words = " and no ".join(_WORDS[resource] for resource in missing)
        wanted = "requests for CPU and memory"
        yield _Lack(code="PROXY-NO-REQUESTS", said=f"requests no {words}", wanted=wanted, annotations=causes, left_out=True)
    if MEMORY not in resources.limits:
        wanted = "a memory limit of 128Mi or more"
        yield _Lack(code="PROXY-NO-LIMIT", said="has no memory limit", wanted=wanted, annotations=causes, left_out=True)
    for resource, least in ((CPU, LEAST_CPU), (MEMORY, LEAST_MEMORY)):
        limit = amount(resources.limits.get(resource), resource)
        if limit is not None and limit < least:
            effect = "it is throttled" if resource == CPU else "it is killed when its configuration grows"
            said = f"has a {_WORDS[resource]} limit of {text(limit, resource)}, so {effect}"
            yield _Lack(code="PROXY-LOW-LIMIT", said=said, wanted=f"{text(least, resource)} or more", detail=resource)
    apart = _apart(resources)
    if apart:
        yield _Lack(code="PROXY-OVERCOMMITTED", said=apart, wanted=f"a memory limit of at most {RATIO} times the request")


def _by_template(case: _Case, lack: _Lack, pods: Sequence[Pod]) -> Finding:
    """A proxy whose resources its template decides: one annotation discards all defaults of the injector."""
    where = f"in {pod_names(pods)}" if pods else "that it will get"
    others = [key for key in ANNOTATIONS if key not in lack.annotations]
    alone = bool(lack.annotations) and bool(others)
    cause = f", because {', '.join(lack.annotations)} discards all defaults of the injector" if alone else ""
    fix = f"add {', '.join(others)} to its template, or take it away" if alone else "change the proxy's resources in its template"
    return case.finding(
        lack.code, Level.WARNING, found=f"the proxy {where} {lack.said}{cause}", wanted=lack.wanted, fix=f"{fix}; now: ", detail=lack.detail
    )


def _by_injector(snapshot: Snapshot, lack: _Lack, names: Sequence[str]) -> Finding:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    revision = snapshot.control_plane.revision if snapshot.control_plane else ""
    name = _INJECTOR if revision in ("", "default") else f"{_INJECTOR}-{revision}"
    return Finding(
        code=f"MR213-{lack.code}",
        level=Level.WARNING,
        object=ObjectRef(kind="ConfigMap", namespace=snapshot.istio_namespace, name=name),
        found=f"the proxy that it gives to {', '.join(names[:3])}{more} {lack.said}",
        wanted=lack.wanted,
        fix="set global.proxy.resources of the installation and restart the workloads; now: "
        f"kubectl -n {snapshot.istio_namespace} get configmap {name} -o yaml",
        detail=lack.detail,
    )
