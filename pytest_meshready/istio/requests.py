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
from pytest_meshready.results import Evidence, Finding, Judgement, Level

#: What `resources_reviewed` reads.
READS = PROJECTION

#: Below these limits a proxy is throttled, or killed when its configuration grows.
LEAST_CPU, LEAST_MEMORY = 100, 128 * MIB

#: A memory limit more than this many times the request promises what the node may not have.
RATIO = 10

_WORDS = {CPU: "CPU", MEMORY: "memory"}
_SIDECARS = frozenset({DataPlane.NATIVE, DataPlane.CLASSIC, DataPlane.PROXYLESS})


def resources_reviewed(snapshot: Snapshot) -> Judgement:
    """Line 2.1.3, static part.

    Errors: a container of the application that requests no CPU or no memory. Warnings: no memory limit; a memory limit more
    than 10 times the request; an init container without requests; a proxy without requests, without a memory limit, or with
    a limit below 128 Mi or 100m. Shown only: requests that a LimitRange sets, because nobody thought of this container.
    """
    ranges = tuple(container_ranges(in_namespace(snapshot.limitranges, snapshot.namespace)))
    judged = [item for item in workloads(snapshot, snapshot.namespace) if item.template.spec.containers]
    findings: list[Finding] = []
    rows: list[dict[str, str]] = []
    for workload in judged:
        case = _Case(snapshot=snapshot, workload=workload, ranges=ranges)
        findings += [*_applications(case), *_inits(case), *_by_default(case), *_proxies(case)]
        rows += case.rows()
    return Judgement(
        summary=f"every container of {len(judged)} workloads requests CPU and memory and limits its memory",
        examined=len(judged),
        findings=tuple(findings),
        unknown=unread_in(snapshot, snapshot.namespace, *WORKLOADS, "limitranges"),
        evidence=(Evidence(kind="table", source="templates, LimitRanges and proxies", data=rows[:200]),),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    """One workload."""

    snapshot: Snapshot
    workload: Workload
    ranges: Sequence[LimitRangeItem]

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
            yield case.finding(
                "NO-REQUESTS",
                Level.ERROR,
                found=f"container {container.name} requests no {words}, so nodes are filled without counting it, and it is evicted first",
                wanted="requests for CPU and memory",
                fix=f"{_set_resources(case.workload, container.name)}; now: ",
                detail=container.name,
            )
        if MEMORY not in resources.limits and MEMORY not in case.workload.template.spec.resources.limits:
            yield case.finding(
                "NO-MEMORY-LIMIT",
                Level.WARNING,
                found=f"container {container.name} has no memory limit, so a leak in it takes the memory of its neighbours",
                wanted="a memory limit",
                detail=container.name,
            )
        yield from _far_apart(case, container.name, resources)


def _set_resources(workload: Workload, container: str) -> str:
    ref = workload.ref
    if ref.kind not in ("Deployment", "StatefulSet", "DaemonSet"):
        return f"set resources.requests of container {container}"
    options = f"-c {container} --requests=cpu=100m,memory=128Mi"
    return f"measure it, then: kubectl -n {ref.namespace} set resources {ref.kind.lower()} {ref.name} {options}"


def _far_apart(case: _Case, name: str, resources: Resources) -> Iterator[Finding]:
    request, limit = resources.requests.get(MEMORY), resources.limits.get(MEMORY)
    low, high = (None if value is None else quantity(value) for value in (request, limit))
    if low is not None and high is not None and low > 0 and high > RATIO * low:
        yield case.finding(
            "MEMORY-OVERCOMMITTED",
            Level.WARNING,
            found=f"container {name} may use {limit} of memory, more than {RATIO} times the {request} that it requests",
            wanted=f"a memory limit of at most {RATIO} times the request",
            detail=name,
        )


def _inits(case: _Case) -> Iterator[Finding]:
    """Init containers that end; without requests the pod may be placed where they do not run."""
    ending = [container for container in case.workload.template.spec.init_containers if container.restart_policy != "Always"]
    bare = [container.name for container in ending if not {CPU, MEMORY} <= set(case.complete(container).requests)]
    if bare and not (case.set_for_the_pod(CPU) and case.set_for_the_pod(MEMORY)):
        names = ", ".join(bare[:3])
        found = f"init containers without requests for CPU and memory: {names}"
        yield case.finding("INIT-NO-REQUESTS", Level.WARNING, found=found, wanted="requests for CPU and memory")


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


def _proxies(case: _Case) -> Iterator[Finding]:
    """The proxies that are there, each way of having resources once; before injection the one that will come."""
    if is_gateway(case.workload):
        return
    seen: dict[str, tuple[Resources, list[Pod]]] = {}
    for pod in case.workload.pods:
        if dataplane_class(pod) in _SIDECARS:
            for container in (*pod.spec.containers, *pod.spec.init_containers):
                if container.name == PROXY:
                    seen.setdefault(repr(container.resources), (container.resources, []))[1].append(pod)
    if not seen and case.workload.replicas and (coming := proxy_of(case.snapshot, case.workload, case.ranges)):
        seen = {"": (coming.resources, [])}
    for resources, pods in seen.values():
        yield from _proxy(case, resources, pods)


def _proxy(case: _Case, resources: Resources, pods: Sequence[Pod]) -> Iterator[Finding]:
    where = f"in {pod_names(pods)}" if pods else "that it will get"
    cause, fix = _cause(case.workload)
    missing = [resource for resource in (CPU, MEMORY) if resource not in resources.requests]
    if missing:
        words = " and no ".join(_WORDS[resource] for resource in missing)
        found = f"the proxy {where} requests no {words}{cause}"
        yield case.finding("PROXY-NO-REQUESTS", Level.WARNING, found=found, wanted="requests for CPU and memory", fix=fix)
    if MEMORY not in resources.limits:
        found = f"the proxy {where} has no memory limit{cause}"
        yield case.finding("PROXY-NO-LIMIT", Level.WARNING, found=found, wanted="a memory limit of 128Mi or more", fix=fix)
    for resource, least in ((CPU, LEAST_CPU), (MEMORY, LEAST_MEMORY)):
        limit = amount(resources.limits.get(resource), resource)
        if limit is not None and limit < least:
            effect = "it is throttled" if resource == CPU else "it is killed when its configuration grows"
            yield case.finding(
                "PROXY-LOW-LIMIT",
                Level.WARNING,
                found=f"the proxy {where} has a {_WORDS[resource]} limit of {text(limit, resource)}, so {effect}",
                wanted=f"{text(least, resource)} or more",
                fix=fix,
                detail=resource,
            )
    yield from _far_apart(case, PROXY, resources)


def _cause(workload: Workload) -> tuple[str, str]:
    """Why a proxy lacks something: annotations on the template discard the injector's defaults altogether."""
    said = [key for key in ANNOTATIONS if key in workload.template.metadata.annotations]
    if not said or len(said) == len(ANNOTATIONS):
        return "", "set global.proxy.resources of the installation, or the sidecar.istio.io/proxy... annotations; now: "
    others = ", ".join(key for key in ANNOTATIONS if key not in said)
    return (f", because {', '.join(said)} discards all defaults of the injector", f"add {others} to its template, or take it away; now: ")
