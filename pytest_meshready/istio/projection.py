"""What the next pods of a namespace will be: with the proxy that the injector adds and the defaults of its LimitRanges.

A pod that was made before injection was switched on says nothing about what its successor needs; capacity is judged by the
successors (checks.md 2.6).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from pytest_meshready.cluster.objects import Container, Pod, Resources, Strategy
from pytest_meshready.cluster.objects_capacity import LimitRange, LimitRangeItem, Quantity
from pytest_meshready.cluster.snapshot import Snapshot, in_namespace
from pytest_meshready.istio.dataplane import PROXY, dataplane_class, proxies
from pytest_meshready.istio.dataplane import DataPlane as Plane
from pytest_meshready.istio.injector import MODE
from pytest_meshready.istio.namespaces import mesh_label
from pytest_meshready.istio.quantities import amount, pod_request
from pytest_meshready.istio.workloads import READS as WORKLOADS
from pytest_meshready.istio.workloads import Workload, workloads

#: The kinds that the projection reads.
READS = (*WORKLOADS, "limitranges", "namespaces", "configmaps")

#: What Istio's charts give to a proxy where no injector can be asked (values global.proxy.resources).
CHART = Resources(requests={"cpu": "100m", "memory": "128Mi"}, limits={"cpu": "2000m", "memory": "1024Mi"})

#: What Istio's chart requests for ztunnel on every node of an ambient mesh.
ZTUNNEL: Mapping[str, Quantity] = {"cpu": "200m", "memory": "512Mi"}

#: Annotations of a pod for its proxy. One of them discards all of the injector's defaults (the sidecar template of Istio).
ANNOTATIONS = {
    "sidecar.istio.io/proxyCPU": ("requests", "cpu"),
    "sidecar.istio.io/proxyMemory": ("requests", "memory"),
    "sidecar.istio.io/proxyCPULimit": ("limits", "cpu"),
    "sidecar.istio.io/proxyMemoryLimit": ("limits", "memory"),
}

_INJECT = "sidecar.istio.io/inject"
_OUTSIDE = frozenset({Plane.GATEWAY, Plane.WAYPOINT})
_DEFAULT_SURGE = "25%"


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """The proxy that the next pods of a workload get. ``origin`` says where its resources come from, as the end of a sentence."""

    resources: Resources
    origin: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NextPod:
    """The next pods of a workload.

    Attributes:
        workload: whose.
        proxy: what the injector adds to its template; None where nothing is added.
        joins: whether there are pods now that have no proxy yet and will be replaced by pods that have one.
        count: how many pods are wanted.
        surge: how many more there are during a rolling restart.
        effective: LimitRanges of the namespace, which complete its containers.
    """

    workload: Workload
    proxy: Proxy | None
    joins: bool
    count: int
    surge: int
    effective: tuple[LimitRangeItem, ...]

    def request(self, resource: str) -> int:
        """What one of them requests of its node."""
        spec = self.workload.template.spec
        completed = [_completed(container, self.effective) for container in spec.containers if not self._is_override(container)]
        inits = [_completed(container, self.effective) for container in spec.init_containers]
        whole = Whole(containers=completed, init_containers=inits, overhead=spec.overhead, resources=spec.resources)
        return pod_request(whole, resource, beside=self.proxy_request(resource))

    def limit(self, resource: str) -> int:
        """The sum of its limits; a container without one adds nothing."""
        return sum(amount(item.resources.limits.get(resource), resource) or 0 for _, item in self.containers())

    def proxy_request(self, resource: str) -> int:
        """What the proxy adds; 0 where none is added."""
        return 0 if self.proxy is None else amount(self.proxy.resources.requests.get(resource), resource) or 0

    def containers(self) -> Iterator[tuple[str, Container]]:
        """Every container that runs for as long as the pod does, complete, by name; the proxy last."""
        spec = self.workload.template.spec
        always = (container for container in spec.init_containers if container.restart_policy == "Always")
        for container in (*spec.containers, *always):
            if not self._is_override(container):
                yield container.name, _completed(container, self.effective)
        if self.proxy is not None:
            yield PROXY, Container(name=PROXY, resources=self.proxy.resources)

    def _is_override(self, container: Container) -> bool:
        """A container ``istio-proxy`` in the template changes the proxy that is injected, it is none beside it."""
        return self.proxy is not None and container.name == PROXY


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole:
    """A pod's spec with completed containers."""

    containers: Sequence[Container]
    init_containers: Sequence[Container]
    overhead: dict[str, Quantity]
    resources: Resources


def next_pods(snapshot: Snapshot, namespace: str) -> tuple[NextPod, ...]:
    """The next pods of every workload of a namespace that has or wants any."""
    ranges = tuple(container_ranges(in_namespace(snapshot.limitranges, namespace)))
    surges = {item.metadata.name: item.spec.strategy for item in in_namespace(snapshot.deployments, namespace)}
    found = []
    for workload in workloads(snapshot, namespace):
        count = max(workload.replicas, len(workload.pods))
        if not count:
            continue
        proxy = proxy_of(snapshot, workload, ranges)
        strategy = surges.get(workload.ref.name) if workload.kind == "Deployment" else None
        found.append(
            NextPod(
                workload=workload,
                proxy=proxy,
                joins=proxy is not None and any(not proxies(pod) for pod in workload.pods),
                count=count,
                surge=surge_of(strategy, workload.replicas) if strategy is not None else 0,
                effective=ranges,
            )
        )
    return tuple(found)


def proxy_of(snapshot: Snapshot, workload: Workload, ranges: Sequence[LimitRangeItem] = ()) -> Proxy | None:
    """The proxy that the next pods of a workload get once its namespace is in the mesh; None where they get none.

    None is for gateways, which are a proxy, for pods that decline (``sidecar.istio.io/inject: "false"``), for those on the
    node's network and for namespaces whose traffic ztunnel carries.
    """
    template = workload.template
    as_pod = Pod(metadata=template.metadata, spec=template.spec)
    declined = template.metadata.labels.get(_INJECT, template.metadata.annotations.get(_INJECT, "")) == "false"
    if declined or template.spec.host_network or dataplane_class(as_pod) in _OUTSIDE or any(map(_is_gateway, workload.pods[:1])):
        return None
    if is_ambient(snapshot, workload.ref.namespace) and not any(proxies(pod) for pod in workload.pods):
        return None
    resources, origin = _proxy_resources(snapshot, workload)
    return Proxy(resources=effective(resources, ranges), origin=origin)


def is_ambient(snapshot: Snapshot, namespace: str) -> bool:
    """Whether ztunnel carries the traffic of a namespace: no pod of it gets a proxy of its own."""
    labels = next((item.metadata.labels for item in snapshot.namespaces if item.metadata.name == namespace), {})
    return mesh_label(labels) == f"{MODE}=ambient"


def _is_gateway(pod: Pod) -> bool:
    return dataplane_class(pod) in _OUTSIDE


def _proxy_resources(snapshot: Snapshot, workload: Workload) -> tuple[Resources, str]:
    template = workload.template
    said = {key: template.metadata.annotations[key] for key in ANNOTATIONS if key in template.metadata.annotations}
    if said:
        by_kind: dict[str, dict[str, Quantity]] = {"requests": {}, "limits": {}}
        for key, value in said.items():
            kind, resource = ANNOTATIONS[key]
            by_kind[kind][resource] = value
        base, origin = Resources(**by_kind), f"its annotation {', '.join(said)} alone: one of them discards the injector's defaults"
    elif snapshot.injector is not None:
        base, origin = snapshot.injector.proxy_resources, "the injector's value global.proxy.resources"
    else:
        base, origin = CHART, "Istio's chart, as no injector could be asked"
    own = next((container.resources for container in template.spec.containers if container.name == PROXY), None)
    if own is None or not (own.requests or own.limits):
        return base, origin
    merged = Resources(requests={**base.requests, **own.requests}, limits={**base.limits, **own.limits})
    return merged, "the container istio-proxy of its template"


# --- LimitRanges and surge --------------------------------------------------------------------------------------------


def container_ranges(ranges: Iterable[LimitRange]) -> Iterator[LimitRangeItem]:
    """The items of LimitRanges that are about containers."""
    for limit_range in ranges:
        yield from (item for item in limit_range.spec.limits if item.type == "Container")


def effective(resources: Resources, ranges: Sequence[LimitRangeItem]) -> Resources:
    """Requests and limits as the API server completes them: requests from limits first, then from LimitRanges."""
    requests, limits = dict(resources.requests), dict(resources.limits)
    for name, limit in limits.items():
        requests.setdefault(name, limit)
    for item in ranges:
        defaults = {**item.max, **item.default}
        for name, value in {**item.min, **defaults, **item.default_request}.items():
            requests.setdefault(name, value)
        for name, value in defaults.items():
            limits.setdefault(name, value)
    return Resources(requests=requests, limits=limits)


def _completed(container: Container, ranges: Sequence[LimitRangeItem]) -> Container:
    resources = effective(container.resources, ranges)
    return Container(name=container.name, image=container.image, resources=resources, restart_policy=container.restart_policy)


def surge_of(strategy: Strategy, replicas: int) -> int:
    """How many pods a Deployment has above its replicas during a rolling restart: maxSurge, 25 % rounded up by default."""
    if strategy.type == "Recreate" or not replicas:
        return 0
    value = strategy.rolling_update.max_surge if strategy.rolling_update else None
    said = _DEFAULT_SURGE if value is None else value
    if isinstance(said, int):
        return max(said, 0)
    percent = said.removesuffix("%")
    return math.ceil(replicas * int(percent) / 100) if percent.isdecimal() and len(percent) < 6 else 0
