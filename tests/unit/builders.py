"""Small makers of objects and snapshots: what Istio and Kubernetes would have written, said in as few words as a test needs.

The defaults are those of a healthy cluster: two zones, an injected namespace ``payments``, one default revision in
``istio-system``, everything readable. Shapes (native sidecars, rewritten probes, webhook selectors) are copied from Istio
1.31 on Kubernetes 1.34. Owners are written ``Kind/name``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from pytest_meshready.cluster import objects as o
from pytest_meshready.cluster import objects_capacity as capacity
from pytest_meshready.cluster import objects_network as network
from pytest_meshready.cluster.resources import RESOURCES
from pytest_meshready.cluster.snapshot import ControlPlane, InjectorConfig, MeshConfig, Refusal, Snapshot

NAMESPACE = "payments"
ISTIO = "istio-system"
CREATED = "2026-08-25T08:12:31Z"
#: When the snapshots were taken, by the cluster's clock.
TAKEN = "2026-08-25T08:36:10Z"
HASH = "7f76cb76bc"

PROXY_IMAGE = "docker.io/istio/proxyv2:1.31.0"
HEALTHZ = o.HttpGet(path="/healthz", port=8080, scheme="HTTP")
READINESS = o.Probe(http_get=HEALTHZ, period_seconds=5)
LIVENESS = o.Probe(http_get=HEALTHZ, period_seconds=10)


def metadata(
    name: str,
    namespace: str = NAMESPACE,
    *,
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
    owner: str = "",
    created: str = CREATED,
    deleted: str | None = None,
) -> o.Metadata:
    """Metadata; ``owner`` is the controller, as ``ReplicaSet/orders-7f76cb76bc``."""
    kind, _, owner_name = owner.partition("/")
    return o.Metadata(
        name=name,
        namespace=namespace,
        uid=f"uid-{namespace}-{name}",
        generation=1,
        labels=dict(labels or {}),
        annotations=dict(annotations or {}),
        creation_timestamp=created,
        deletion_timestamp=deleted,
        owner_references=(o.OwnerReference(kind=kind, name=owner_name, controller=True),) if owner else (),
    )


# --- containers and pods ----------------------------------------------------------------------------------------------


def container(
    name: str = "app",
    *,
    image: str = "docker.io/mesh/app:1",
    ports: Iterable[tuple[str, int]] = (("http", 8080),),
    readiness: o.Probe | None = READINESS,
    liveness: o.Probe | None = LIVENESS,
    startup: o.Probe | None = None,
    **fields: Any,
) -> o.Container:
    """An application's container as the healthy shop has it; ``fields`` are further fields of `objects.Container`."""
    fields.setdefault("resources", o.Resources(requests={"cpu": "10m", "memory": "32Mi"}, limits={"cpu": "1", "memory": "128Mi"}))
    return o.Container(
        name=name,
        image=image,
        ports=tuple(o.ContainerPort(name=port_name, container_port=number) for port_name, number in ports),
        readiness_probe=readiness,
        liveness_probe=liveness,
        startup_probe=startup,
        **fields,
    )


def proxy(*, native: bool = True, image: str = PROXY_IMAGE, env: Mapping[str, str] | None = None, **fields: Any) -> o.Container:
    """The container ``istio-proxy`` of a sidecar; ``native`` ones live among the init containers and always restart."""
    ready = o.HttpGet(path="/healthz/ready", port=15021, scheme="HTTP")
    variables = {"CA_ADDR": "istiod.istio-system.svc:15012", "ISTIO_META_INTERCEPTION_MODE": "REDIRECT", "TRUST_DOMAIN": "cluster.local"}
    fields.setdefault("args", ("proxy", "sidecar", "--domain", "$(POD_NAMESPACE).svc.cluster.local"))
    fields.setdefault("resources", o.Resources(requests={"cpu": "10m", "memory": "40Mi"}, limits={"cpu": "1", "memory": "256Mi"}))
    return o.Container(
        name="istio-proxy",
        image=image,
        env=tuple(o.EnvVar(name=name, value=value) for name, value in {**variables, **(env or {})}.items()),
        ports=(o.ContainerPort(name="http-envoy-prom", container_port=15090),),
        restart_policy="Always" if native else "",
        readiness_probe=o.Probe(http_get=ready, period_seconds=15, timeout_seconds=3, failure_threshold=4),
        startup_probe=o.Probe(http_get=ready, period_seconds=1, timeout_seconds=3, failure_threshold=600),
        security_context=o.SecurityContext(run_as_user=1337),
        **fields,
    )


def istio_init(*, image: str = PROXY_IMAGE, annotations: Mapping[str, str] | None = None) -> o.Container:
    """The init container that programs the redirection, as the pod's annotations want it."""
    traffic = "traffic.sidecar.istio.io"
    said = annotations or {}
    include = said.get(f"{traffic}/includeInboundPorts", "*")
    exclude = said.get(f"{traffic}/excludeInboundPorts", "")
    mode = said.get("sidecar.istio.io/interceptionMode", "REDIRECT")
    left_out = ",".join(("15090", "15021", "15020", *((exclude,) if exclude else ())))
    return o.Container(
        name="istio-init",
        image=image,
        args=("istio-iptables", "-p", "15001", "-z", "15006", "-u", "1337", "-m", mode, "-i", "*", "-b", include, "-d", left_out),
        security_context=o.SecurityContext(run_as_user=0),
    )


def state(
    *,
    waiting: str = "",
    terminated: str = "",
    finished: str | None = None,
) -> o.ContainerState:
    """A container's state by its reason; running where none is given."""
    if waiting:
        return o.ContainerState(waiting=o.StateDetail(reason=waiting))
    if terminated:
        return o.ContainerState(terminated=o.StateDetail(reason=terminated, finished_at=finished, exit_code=1))
    return o.ContainerState(running=o.StateDetail(started_at=CREATED))


def container_status(
    name: str = "app",
    *,
    ready: bool = True,
    restarts: int = 0,
    now: o.ContainerState | None = None,
    last: o.ContainerState | None = None,
) -> o.ContainerStatus:
    """What the kubelet says of a container."""
    return o.ContainerStatus(
        name=name,
        ready=ready,
        started=True,
        restart_count=restarts,
        state=now or state(),
        last_state=last or o.ContainerState(),
    )


def pod(
    name: str = f"orders-{HASH}-gjtgk",
    *,
    namespace: str = NAMESPACE,
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
    containers: Iterable[o.Container] | None = None,
    init_containers: Iterable[o.Container] = (),
    owner: str = "",
    node: str = "node-1",
    phase: str = "Running",
    ready: bool = True,
    statuses: Iterable[o.ContainerStatus] | None = None,
    created: str = CREATED,
    deleted: str | None = None,
    **spec: Any,
) -> o.Pod:
    """A pod as it was before injection. ``spec`` are further fields of `objects.PodSpec`.

    A pod of a ReplicaSet gets the label ``pod-template-hash`` from its owner's name, as the controller sets it.
    """
    all_labels = dict(labels if labels is not None else {"app": "orders", "version": "v1"})
    if owner.startswith("ReplicaSet/"):
        all_labels.setdefault("pod-template-hash", owner.rpartition("-")[2])
    chosen = tuple(containers) if containers is not None else (container(),)
    inits = tuple(init_containers)
    spec.setdefault("service_account_name", all_labels.get("app", "default"))
    return o.Pod(
        metadata=metadata(name, namespace, labels=all_labels, annotations=annotations, owner=owner, created=created, deleted=deleted),
        spec=o.PodSpec(containers=chosen, init_containers=inits, node_name=node, **spec),
        status=o.PodStatus(
            phase=phase,
            pod_ip="10.244.2.9",
            start_time=created,
            conditions=tuple(
                o.Condition(type=kind, status="True" if good else "False", last_transition_time=CREATED)
                for kind, good in (("PodScheduled", True), ("Initialized", True), ("ContainersReady", ready), ("Ready", ready))
            ),
            container_statuses=tuple(statuses if statuses is not None else (container_status(c.name, ready=ready) for c in chosen)),
            init_container_statuses=tuple(container_status(c.name) for c in inits),
        ),
    )


def injected(
    plain: o.Pod,
    *,
    native: bool = True,
    revision: str = "default",
    image: str = PROXY_IMAGE,
    rewrite: bool = True,
    proxy_env: Mapping[str, str] | None = None,
) -> o.Pod:
    """The pod as istiod's webhook returns it: istio-init, istio-proxy, labels, annotations and (``rewrite``) its probes."""
    probers: dict[str, Any] = {}
    containers = tuple(_rewritten(c, probers) if rewrite else c for c in plain.spec.containers)
    env = {"ISTIO_KUBE_APP_PROBERS": json.dumps(probers), **(proxy_env or {})} if probers else dict(proxy_env or {})
    mode = plain.metadata.annotations.get("sidecar.istio.io/interceptionMode", "REDIRECT")
    sidecar = proxy(native=native, image=image, env={"ISTIO_META_INTERCEPTION_MODE": mode, **env})
    setup = () if mode == "NONE" else (istio_init(image=image, annotations=plain.metadata.annotations),)
    names = [*(item.name for item in setup), *(("istio-proxy",) if native else ())]
    status = {"initContainers": names, "containers": None if native else ["istio-proxy"], "revision": revision}
    spec = msgspec.structs.replace(
        plain.spec,
        containers=containers if native else (sidecar, *containers),
        init_containers=(*setup, *((sidecar,) if native else ()), *plain.spec.init_containers),
    )
    app = plain.metadata.labels.get("app", plain.metadata.name)
    labels = {"security.istio.io/tlsMode": "istio", "service.istio.io/canonical-name": app, **plain.metadata.labels}
    annotations = {"istio.io/rev": revision, "sidecar.istio.io/status": json.dumps(status), **plain.metadata.annotations}
    own, inits = plain.status.container_statuses, plain.status.init_container_statuses
    proxy_status = container_status("istio-proxy")
    return msgspec.structs.replace(
        plain,
        metadata=msgspec.structs.replace(plain.metadata, labels=labels, annotations=annotations),
        spec=spec,
        status=msgspec.structs.replace(
            plain.status,
            container_statuses=own if native else (proxy_status, *own),
            init_container_statuses=(
                *(container_status(item.name) for item in setup),
                *((proxy_status,) if native else ()),
                *inits,
            ),
        ),
    )


def _rewritten(app: o.Container, probers: dict[str, Any]) -> o.Container:
    """The container with its http, tcp and grpc probes pointed at the agent; the originals go into ``probers``."""
    changes: dict[str, Any] = {}
    for field, short in (("liveness_probe", "livez"), ("readiness_probe", "readyz"), ("startup_probe", "startupz")):
        probe: o.Probe | None = getattr(app, field)
        if probe is None or probe.exec is not None:
            continue
        path = f"/app-health/{app.name}/{short}"
        probers[path] = {
            key: value for key, value in msgspec.to_builtins(probe).items() if key in ("httpGet", "tcpSocket", "grpc", "timeoutSeconds")
        }
        agent = o.HttpGet(path=path, port=15020, scheme="HTTP")
        changes[field] = msgspec.structs.replace(probe, http_get=agent, tcp_socket=None, grpc=None)
    return msgspec.structs.replace(app, **changes)


def meshed_pod(name: str = f"orders-{HASH}-gjtgk", *, revision: str = "default", image: str = PROXY_IMAGE, **fields: Any) -> o.Pod:
    """A pod with a native sidecar, the form that Istio 1.27 and later gives where every kubelet can; fields as of `pod`."""
    return injected(pod(name, **fields), revision=revision, image=image)


def classic_pod(name: str = f"orders-{HASH}-gjtgk", *, revision: str = "default", image: str = PROXY_IMAGE, **fields: Any) -> o.Pod:
    """A pod with a classic sidecar, among the ordinary containers; fields as of `pod`."""
    return injected(pod(name, **fields), native=False, revision=revision, image=image)


def gateway_pod(name: str = "istio-ingressgateway-5bb7c4c86b-jw55m", *, namespace: str = ISTIO, **fields: Any) -> o.Pod:
    """A pod of the classic ingress gateway: Envoy alone, as a router."""
    fields.setdefault("labels", GATEWAY_LABELS)
    fields.setdefault("annotations", {"istio.io/rev": "default", "sidecar.istio.io/inject": "false"})
    fields.setdefault("containers", (gateway_container(),))
    fields.setdefault("owner", f"ReplicaSet/{name.rpartition('-')[0]}")
    return pod(name, namespace=namespace, **fields)


GATEWAY_LABELS = {"app": "istio-ingressgateway", "istio": "ingressgateway", "istio.io/rev": "default", "sidecar.istio.io/inject": "false"}
ISTIOD_LABELS = {"app": "istiod", "istio": "pilot", "istio.io/rev": "default", "sidecar.istio.io/inject": "false"}


def gateway_container(image: str = PROXY_IMAGE) -> o.Container:
    """The only container of a gateway."""
    ready = o.HttpGet(path="/healthz/ready", port=15021, scheme="HTTP")
    return o.Container(
        name="istio-proxy",
        image=image,
        args=("proxy", "router", "--domain", "$(POD_NAMESPACE).svc.cluster.local"),
        ports=tuple(o.ContainerPort(container_port=number) for number in (15021, 8080, 8443)),
        readiness_probe=o.Probe(http_get=ready, initial_delay_seconds=1, period_seconds=2, failure_threshold=30),
    )


def discovery_container(env: Mapping[str, str] | None = None, image: str = "docker.io/istio/pilot:1.31.0") -> o.Container:
    """The container of istiod."""
    variables = {"REVISION": "default", "PILOT_TRACE_SAMPLING": "1", **(env or {})}
    return o.Container(
        name="discovery",
        image=image,
        args=("discovery", "--monitoringAddr=:15014"),
        env=tuple(o.EnvVar(name=name, value=value) for name, value in variables.items()),
        ports=tuple(o.ContainerPort(container_port=number) for number in (8080, 15010, 15012, 15017, 15014)),
        readiness_probe=o.Probe(http_get=o.HttpGet(path="/ready", port=8080), initial_delay_seconds=1, period_seconds=3, timeout_seconds=5),
    )


# --- workloads --------------------------------------------------------------------------------------------------------


def template(
    labels: Mapping[str, str] | None = None,
    *,
    annotations: Mapping[str, str] | None = None,
    containers: Iterable[o.Container] | None = None,
    init_containers: Iterable[o.Container] = (),
    **spec: Any,
) -> o.PodTemplate:
    """A pod template, before injection; ``spec`` are further fields of `objects.PodSpec`."""
    return o.PodTemplate(
        metadata=o.Metadata(labels=dict(labels or {}), annotations=dict(annotations or {})),
        spec=o.PodSpec(
            containers=tuple(containers) if containers is not None else (container(),), init_containers=tuple(init_containers), **spec
        ),
    )


def zone_spread(app: str) -> o.TopologySpread:
    """The shop's spread over zones."""
    return o.TopologySpread(
        topology_key="topology.kubernetes.io/zone",
        max_skew=1,
        when_unsatisfiable="ScheduleAnyway",
        label_selector=o.LabelSelector(match_labels={"app": app}),
    )


def _workload_spec(name: str, replicas: int | None, labels: Mapping[str, str] | None, fields: dict[str, Any]) -> o.WorkloadSpec:
    chosen = dict(labels if labels is not None else {"app": name, "version": "v1"})
    fields.setdefault("service_account_name", name)
    fields.setdefault("topology_spread_constraints", (zone_spread(name),))
    return o.WorkloadSpec(replicas=replicas, selector=o.LabelSelector(match_labels=chosen), template=template(chosen, **fields))


def deployment(
    name: str = "orders",
    *,
    namespace: str = NAMESPACE,
    replicas: int | None = 2,
    ready: int | None = None,
    labels: Mapping[str, str] | None = None,
    owner: str = "",
    **fields: Any,
) -> o.Deployment:
    """A Deployment, all of whose replicas are ready; ``fields`` go into its `template`."""
    count = (1 if replicas is None else replicas) if ready is None else ready
    return o.Deployment(
        metadata=metadata(name, namespace, labels=labels if labels is not None else {"app": name, "version": "v1"}, owner=owner),
        spec=_workload_spec(name, replicas, labels, fields),
        status=o.WorkloadStatus(
            observed_generation=1, replicas=count, ready_replicas=count, updated_replicas=count, available_replicas=count
        ),
    )


def statefulset(
    name: str = "store",
    *,
    namespace: str = NAMESPACE,
    replicas: int | None = 2,
    labels: Mapping[str, str] | None = None,
    **fields: Any,
) -> o.StatefulSet:
    """A StatefulSet; ``fields`` go into its `template`."""
    count = 1 if replicas is None else replicas
    return o.StatefulSet(
        metadata=metadata(name, namespace, labels=labels if labels is not None else {"app": name, "version": "v1"}),
        spec=_workload_spec(name, replicas, labels, fields),
        status=o.WorkloadStatus(observed_generation=1, replicas=count, ready_replicas=count, updated_replicas=count),
    )


def daemonset(
    name: str = "agent",
    *,
    namespace: str = NAMESPACE,
    wanted: int = 2,
    labels: Mapping[str, str] | None = None,
    **fields: Any,
) -> o.DaemonSet:
    """A DaemonSet on ``wanted`` nodes; ``fields`` go into its `template`."""
    return o.DaemonSet(
        metadata=metadata(name, namespace, labels=labels if labels is not None else {"app": name, "version": "v1"}),
        spec=_workload_spec(name, None, labels, fields),
        status=o.WorkloadStatus(observed_generation=1, desired_number_scheduled=wanted, number_ready=wanted, number_available=wanted),
    )


def job(
    name: str = "migrate", *, namespace: str = NAMESPACE, owner: str = "", labels: Mapping[str, str] | None = None, **fields: Any
) -> o.Job:
    """A Job; ``fields`` go into its `template`."""
    chosen = dict(labels if labels is not None else {"app": name})
    fields.setdefault("restart_policy", "Never")
    return o.Job(metadata=metadata(name, namespace, labels=chosen, owner=owner), spec=o.JobSpec(template=template(chosen, **fields)))


def cronjob(name: str = "report", *, namespace: str = NAMESPACE, labels: Mapping[str, str] | None = None, **fields: Any) -> o.CronJob:
    """A CronJob; ``fields`` go into its `template`."""
    chosen = dict(labels if labels is not None else {"app": name})
    fields.setdefault("restart_policy", "Never")
    return o.CronJob(
        metadata=metadata(name, namespace, labels=chosen),
        spec=o.CronJobSpec(schedule="0 3 * * *", job_template=o.JobTemplate(spec=o.JobSpec(template=template(chosen, **fields)))),
    )


def replicaset(of: o.Deployment | str, *, hash_: str = HASH, namespace: str = NAMESPACE, owner: str | None = None) -> o.ReplicaSet:
    """The ReplicaSet of a Deployment (or, by name, of whatever ``owner`` says)."""
    if isinstance(of, str):
        own, spec = (metadata(f"{of}-{hash_}", namespace, owner=owner or ""), o.WorkloadSpec(replicas=1, template=template({"app": of})))
        return o.ReplicaSet(metadata=own, spec=spec)
    name, namespace = of.metadata.name, of.metadata.namespace
    labels = {**of.spec.template.metadata.labels, "pod-template-hash": hash_}
    selector = o.LabelSelector(match_labels=labels)
    return o.ReplicaSet(
        metadata=metadata(f"{name}-{hash_}", namespace, labels=labels, owner=f"Deployment/{name}" if owner is None else owner),
        spec=msgspec.structs.replace(of.spec, selector=selector),
        status=of.status,
    )


def pods_of(
    workload: o.Deployment | o.StatefulSet | o.DaemonSet,
    *,
    count: int | None = None,
    meshed: bool = True,
    hash_: str = HASH,
    nodes: tuple[str, ...] = ("node-1", "node-2"),
    **fields: Any,
) -> tuple[o.Pod, ...]:
    """The pods of a workload, spread over ``nodes`` in turn, injected with a native sidecar unless ``meshed`` is false."""
    name, tmpl = workload.metadata.name, workload.spec.template
    if count is None:
        wanted = workload.status.desired_number_scheduled if isinstance(workload, o.DaemonSet) else workload.spec.replicas
        count = 1 if wanted is None else wanted
    replicated = isinstance(workload, o.Deployment)
    owner = f"ReplicaSet/{name}-{hash_}" if replicated else f"{workload.kind}/{name}"
    fields = {
        "namespace": workload.metadata.namespace,
        "labels": tmpl.metadata.labels,
        "annotations": tmpl.metadata.annotations,
        "containers": tmpl.spec.containers,
        "init_containers": tmpl.spec.init_containers,
        "service_account_name": tmpl.spec.service_account_name,
        "topology_spread_constraints": tmpl.spec.topology_spread_constraints,
        "host_network": tmpl.spec.host_network,
        "owner": owner,
        **fields,
    }
    made = []
    for index in range(count):
        suffix = f"{hash_}-p{index:04d}" if replicated else str(index)
        plain = pod(f"{name}-{suffix}", **{"node": nodes[index % len(nodes)], **fields})
        made.append(injected(plain) if meshed else plain)
    return tuple(made)


# --- the rest of Kubernetes -------------------------------------------------------------------------------------------


def namespace(name: str = NAMESPACE, *, labels: Mapping[str, str] | None = None, **fields: Any) -> o.Namespace:
    """A namespace, by default labelled for injection; ``labels={}`` for one outside the mesh."""
    chosen = {"kubernetes.io/metadata.name": name, **(labels if labels is not None else {"istio-injection": "enabled"})}
    return o.Namespace(metadata=o.NamespaceMetadata(**msgspec.structs.asdict(metadata(name, "", labels=chosen, **fields))))


def node(name: str = "node-1", *, zone: str = "zone-a", ready: bool = True, kubelet: str = "v1.34.4", **spec: Any) -> o.Node:
    """A node in a zone (none where ``zone`` is empty)."""
    labels = {"kubernetes.io/hostname": name, **({"topology.kubernetes.io/zone": zone} if zone else {})}
    return o.Node(
        metadata=metadata(name, "", labels=labels),
        spec=o.NodeSpec(**spec),
        status=o.NodeStatus(
            conditions=(o.Condition(type="Ready", status="True" if ready else "False"),),
            allocatable={"cpu": "4", "memory": "8Gi", "pods": "110"},
            capacity={"cpu": "4", "memory": "8Gi", "pods": "110"},
            node_info=o.NodeInfo(kubelet_version=kubelet),
        ),
    )


def nodes() -> tuple[o.Node, ...]:
    """Two nodes in two zones."""
    return (node("node-1", zone="zone-a"), node("node-2", zone="zone-b"))


def service(
    name: str = "orders",
    *,
    namespace: str = NAMESPACE,
    selector: Mapping[str, str] | None = None,
    ports: Iterable[tuple[str, int]] = (("http", 8080),),
    labels: Mapping[str, str] | None = None,
    app_protocol: str | None = None,
    target_port: int | str | None = None,
    **spec: Any,
) -> o.Service:
    """A Service that selects ``app=NAME``; ``ports`` are (name, number), ``spec`` further fields of `objects.ServiceSpec`."""
    made = tuple(o.ServicePort(name=n, port=number, app_protocol=app_protocol, target_port=target_port or number) for n, number in ports)
    spec.setdefault("cluster_ip", "10.96.0.10")
    chosen = dict(selector if selector is not None else {"app": name})
    return o.Service(metadata=metadata(name, namespace, labels=labels), spec=o.ServiceSpec(selector=chosen, ports=made, **spec))


def endpointslice(service_name: str, pods: Iterable[o.Pod], *, namespace: str = NAMESPACE, ready: bool | None = True) -> o.EndpointSlice:
    """The EndpointSlice of a Service with these pods behind it."""
    return o.EndpointSlice(
        metadata=metadata(f"{service_name}-abcde", namespace, labels={"kubernetes.io/service-name": service_name}),
        endpoints=tuple(
            o.Endpoint(
                addresses=(f"10.244.0.{index + 1}",),
                conditions=o.EndpointConditions(ready=ready),
                target_ref=o.TargetRef(kind="Pod", name=item.metadata.name, namespace=item.metadata.namespace),
                node_name=item.spec.node_name,
            )
            for index, item in enumerate(pods)
        ),
        ports=(o.EndpointPort(name="http", port=8080, protocol="TCP"),),
    )


def budget(
    name: str = "orders",
    *,
    namespace: str = NAMESPACE,
    selector: Mapping[str, str] | None = None,
    allowed: int = 1,
    healthy: int = 2,
    desired: int = 1,
    expected: int = 2,
    **spec: Any,
) -> o.PodDisruptionBudget:
    """A PodDisruptionBudget with minAvailable 1 for ``app=NAME``; ``spec`` are fields of `objects.DisruptionSpec`."""
    if "min_available" not in spec and "max_unavailable" not in spec:
        spec["min_available"] = 1
    chosen = o.LabelSelector(match_labels=dict(selector if selector is not None else {"app": name}))
    return o.PodDisruptionBudget(
        metadata=metadata(name, namespace),
        spec=o.DisruptionSpec(selector=chosen, **spec),
        status=o.DisruptionStatus(
            disruptions_allowed=allowed, current_healthy=healthy, desired_healthy=desired, expected_pods=expected, observed_generation=1
        ),
    )


def autoscaler(
    name: str = "orders", *, namespace: str = NAMESPACE, kind: str = "Deployment", minimum: int | None = 2, maximum: int = 4
) -> o.HorizontalPodAutoscaler:
    """A HorizontalPodAutoscaler of the workload of the same name."""
    return o.HorizontalPodAutoscaler(
        metadata=metadata(name, namespace),
        spec=o.AutoscalerSpec(scale_target_ref=o.ScaleTarget(kind=kind, name=name), min_replicas=minimum, max_replicas=maximum),
        status=o.AutoscalerStatus(
            conditions=(o.Condition(type="AbleToScale", status="True"), o.Condition(type="ScalingActive", status="True")),
            current_replicas=2,
            desired_replicas=2,
        ),
    )


def lease(name: str, holder: str | None, *, renewed: str | None = TAKEN, namespace: str = ISTIO) -> o.Lease:
    """A Lease that ``holder`` renewed."""
    return o.Lease(
        metadata=metadata(name, namespace),
        spec=o.LeaseSpec(holder_identity=holder, lease_duration_seconds=30, renew_time=renewed, lease_transitions=0),
    )


def leader_configmap(name: str, holder: str, *, renewed: str = TAKEN, key: str = "default", namespace: str = ISTIO) -> o.ConfigMap:
    """A ConfigMap that istiod uses as a lock."""
    record = {"holderIdentity": holder, "holderKey": key, "leaseDurationSeconds": 30, "renewTime": renewed, "leaderTransitions": 0}
    annotations = {"control-plane.alpha.kubernetes.io/leader": json.dumps(record)}
    return o.ConfigMap(metadata=metadata(name, namespace, annotations=annotations))


# --- Istio ------------------------------------------------------------------------------------------------------------

_INJECT = "sidecar.istio.io/inject"
_REVISION = "istio.io/rev"
_INJECTION = "istio-injection"


def expressions(*rows: tuple[str, str, tuple[str, ...]]) -> o.LabelSelector:
    """A selector of expressions: (key, operator, values)."""
    return o.LabelSelector(match_expressions=tuple(o.LabelExpression(key=k, operator=op, values=v) for k, op, v in rows))


_DEACTIVATED = o.LabelSelector(match_labels={"istio.io/deactivated": "never-match"})
_WEBHOOKS: dict[str, Callable[[str], tuple[o.LabelSelector, o.LabelSelector]]] = {
    "rev.namespace": lambda rev: (
        expressions((_REVISION, "In", (rev,)), (_INJECTION, "DoesNotExist", ())),
        expressions((_INJECT, "NotIn", ("false",))),
    ),
    "rev.object": lambda rev: (
        expressions((_REVISION, "DoesNotExist", ()), (_INJECTION, "DoesNotExist", ())),
        expressions((_INJECT, "NotIn", ("false",)), (_REVISION, "In", (rev,))),
    ),
    "namespace": lambda _rev: (
        expressions((_INJECTION, "In", ("enabled",))),
        expressions((_INJECT, "NotIn", ("false",))),
    ),
    "object": lambda _rev: (
        expressions((_INJECTION, "DoesNotExist", ()), (_REVISION, "DoesNotExist", ())),
        expressions((_INJECT, "In", ("true",)), (_REVISION, "DoesNotExist", ())),
    ),
}


def injector_webhook(
    name: str,
    *,
    revision: str = "default",
    tag: str = "",
    kinds: Iterable[str] = tuple(_WEBHOOKS),
    deactivated: bool = False,
    service_name: str = "istiod",
    url: str | None = None,
) -> o.MutatingWebhookConfiguration:
    """An injector's configuration as Istio's charts write it.

    The label that selects it is ``tag`` where there is one, else ``revision``. ``kinds`` are the first words of its
    webhooks: a non-default revision or tag has only ``rev.namespace`` and ``rev.object``.
    """
    rows = ((kind, (_DEACTIVATED, _DEACTIVATED) if deactivated else _WEBHOOKS[kind](tag or revision)) for kind in kinds)
    client = o.ClientConfig(url=url) if url else o.ClientConfig(service=o.ServiceReference(namespace=ISTIO, name=service_name))
    labels = {"app": "sidecar-injector", _REVISION: revision, **({"istio.io/tag": tag} if tag else {})}
    return o.MutatingWebhookConfiguration(
        metadata=metadata(name, "", labels=labels),
        webhooks=tuple(
            o.Webhook(
                name=f"{kind}.sidecar-injector.istio.io",
                client_config=client,
                namespace_selector=namespace_selector,
                object_selector=object_selector,
                failure_policy="Fail",
                reinvocation_policy="Never",
                timeout_seconds=10,
            )
            for kind, (namespace_selector, object_selector) in rows
        ),
    )


def default_webhooks() -> tuple[o.MutatingWebhookConfiguration, ...]:
    """What ``istioctl install`` leaves: the tag ``default`` takes over, and the installation's own webhooks never match."""
    return (
        injector_webhook("istio-revision-tag-default", tag="default"),
        injector_webhook("istio-sidecar-injector", deactivated=True),
    )


def revision_webhook(revision: str, *, tag: str = "") -> o.MutatingWebhookConfiguration:
    """The configuration of a named revision (``istio-sidecar-injector-canary``) or of a tag (``istio-revision-tag-prod``)."""
    name = f"istio-revision-tag-{tag}" if tag else f"istio-sidecar-injector-{revision}"
    kinds = ("rev.namespace", "rev.object")
    return injector_webhook(name, revision=revision, tag=tag, kinds=kinds, service_name=f"istiod-{revision}")


def peerauthentication(
    name: str = "default",
    mode: str | None = "STRICT",
    *,
    namespace: str = NAMESPACE,
    selector: Mapping[str, str] | None = None,
    ports: Mapping[int, str] | None = None,
    created: str = CREATED,
) -> o.PeerAuthentication:
    """A PeerAuthentication; ``mode=None`` leaves ``mtls`` out, ``ports`` are container ports and their modes."""
    return o.PeerAuthentication(
        metadata=metadata(name, namespace, created=created),
        spec=o.PeerAuthenticationSpec(
            selector=o.WorkloadSelector(match_labels=dict(selector)) if selector is not None else None,
            mtls=o.MutualTls(mode=mode) if mode is not None else None,
            port_level_mtls={str(port): o.MutualTls(mode=value) for port, value in (ports or {}).items()},
        ),
    )


def destinationrule(
    name: str = "orders",
    host: str = "orders.payments.svc.cluster.local",
    *,
    namespace: str = NAMESPACE,
    tls: str | None = None,
    port_tls: Mapping[int, str] | None = None,
    subsets: Iterable[o.Subset] = (),
    created: str = CREATED,
    **spec: Any,
) -> o.DestinationRule:
    """A DestinationRule; ``tls`` is the mode for all ports, ``port_tls`` for single ports of the Service."""
    policy = None
    if tls is not None or port_tls:
        policy = o.TrafficPolicy(
            tls=o.ClientTls(mode=tls) if tls is not None else None,
            port_level_settings=tuple(
                o.PortTrafficPolicy(port=o.PortSelector(number=number), tls=o.ClientTls(mode=mode))
                for number, mode in (port_tls or {}).items()
            ),
        )
    return o.DestinationRule(
        metadata=metadata(name, namespace, created=created),
        spec=o.DestinationRuleSpec(host=host, traffic_policy=policy, subsets=tuple(subsets), **spec),
    )


# --- snapshots --------------------------------------------------------------------------------------------------------

DEFAULT_PLANE = ControlPlane(
    namespace=ISTIO,
    revision="default",
    service="istiod",
    tags=("default",),
    webhooks=("istio-revision-tag-default", "istio-sidecar-injector"),
)


def refusal(key: str, *, namespace: str = NAMESPACE, status: int = 403, absent: bool = False) -> Refusal:
    """A list that the API server refused (403), or of a kind that it does not know (``absent``)."""
    resource = RESOURCES[key].rbac_name
    return Refusal(
        key=key,
        verb="list",
        resource=resource,
        namespace=namespace,
        status=404 if absent else status,
        reason=f"the server does not know {resource}" if absent else f"not permitted: list {resource} in {namespace or 'the cluster'}",
        absent=absent,
    )


def snapshot(**fields: Any) -> Snapshot:
    """A snapshot of a healthy, empty, injected namespace; every field of `Snapshot` can be given."""
    defaults: dict[str, Any] = {
        "namespace": NAMESPACE,
        "taken": TAKEN,
        "context": "staging",
        "kubernetes_version": "v1.34.4",
        "istio_version": "1.31.0",
        "read": tuple(RESOURCES),
        "control_planes": (DEFAULT_PLANE,),
        "control_plane": DEFAULT_PLANE,
        "mesh": MeshConfig(root_namespace=ISTIO, trust_domain="cluster.local"),
        "injector": InjectorConfig(policy="enabled", default_templates=("sidecar",), rewrite_app_http_probe=True, proxy_image="proxyv2"),
        "namespaces": (namespace(ISTIO, labels={}), namespace()),
        "nodes": nodes(),
        "mutatingwebhookconfigurations": default_webhooks(),
    }
    return Snapshot(**{**defaults, **fields})


# --- room on nodes, and connections -----------------------------------------------------------------------------------


def resources(cpu: str = "", memory: str = "", *, cpu_limit: str = "", memory_limit: str = "") -> o.Resources:
    """Requests and limits; what is empty is not set."""
    return o.Resources(
        requests={name: value for name, value in (("cpu", cpu), ("memory", memory)) if value},
        limits={name: value for name, value in (("cpu", cpu_limit), ("memory", memory_limit)) if value},
    )


def node_pod(pod_: o.Pod) -> capacity.NodePod:
    """A pod as the list of the whole cluster keeps it."""
    return capacity.NodePod(
        metadata=o.Metadata(
            name=pod_.metadata.name,
            namespace=pod_.metadata.namespace,
            labels=pod_.metadata.labels,
            annotations={key: value for key, value in pod_.metadata.annotations.items() if key == "istio.io/rev"},
            creation_timestamp=pod_.metadata.creation_timestamp,
        ),
        spec=capacity.NodePodSpec(
            node_name=pod_.spec.node_name,
            containers=tuple(capacity.NodeContainer(resources=item.resources) for item in pod_.spec.containers),
            init_containers=tuple(
                capacity.NodeContainer(resources=item.resources, restart_policy=item.restart_policy) for item in pod_.spec.init_containers
            ),
        ),
        status=capacity.NodePodStatus(
            phase=pod_.status.phase,
            conditions=tuple(item for item in pod_.status.conditions if item.type == "Ready"),
            container_statuses=pod_.status.container_statuses if _is_agent(pod_) else (),
        ),
    )


def _is_agent(pod_: o.Pod) -> bool:
    return any(pod_.metadata.labels.get(key) == value for key, value in capacity.NODE_AGENTS.items())


def dns_pod(*, ready: bool = True) -> capacity.NodePod:
    """A pod of the cluster's DNS."""
    return node_pod(pod("coredns-575997fdc6-p5fsv", namespace="kube-system", labels={"k8s-app": "kube-dns"}, ready=ready))


def prometheus_pod(namespace: str = ISTIO) -> capacity.NodePod:
    """A pod of Prometheus."""
    return node_pod(pod("prometheus-6fc4bddd45-wntgv", namespace=namespace, labels={"app": "prometheus"}))


def quota(name: str = "team", *, namespace: str = NAMESPACE, **hard_and_used: tuple[str, str]) -> capacity.ResourceQuota:
    """A ResourceQuota; ``requests_cpu=("2", "1500m")`` is what is permitted and what is used of ``requests.cpu``."""
    pairs = {key.replace("_", "."): value for key, value in hard_and_used.items()}
    return capacity.ResourceQuota(
        metadata=metadata(name, namespace),
        status=capacity.QuotaStatus(
            hard={key: value[0] for key, value in pairs.items()}, used={key: value[1] for key, value in pairs.items()}
        ),
    )


def limit_range(name: str = "limits", *, namespace: str = NAMESPACE, kind: str = "Container", **item: Any) -> capacity.LimitRange:
    """A LimitRange with one item; ``item`` are fields of `objects_capacity.LimitRangeItem`."""
    limits = (capacity.LimitRangeItem(type=kind, **item),)
    return capacity.LimitRange(metadata=metadata(name, namespace), spec=capacity.LimitRangeSpec(limits=limits))


def network_policy(
    name: str = "policy", *, namespace: str = NAMESPACE, selects: Mapping[str, str] | None = None, **spec: Any
) -> network.NetworkPolicy:
    """A NetworkPolicy for every pod, or those with some labels; ``spec`` are fields of `objects_network.NetworkPolicySpec`."""
    selector = o.LabelSelector(match_labels=dict(selects or {}))
    return network.NetworkPolicy(metadata=metadata(name, namespace), spec=network.NetworkPolicySpec(pod_selector=selector, **spec))


def peer(labels: Mapping[str, str] | None = None, *, namespaces: Mapping[str, str] | None = None, cidr: str = "") -> network.PolicyPeer:
    """A peer of a rule: pods by labels (of the policy's own namespace, or of selected ones), whole namespaces, or addresses."""
    if cidr:
        return network.PolicyPeer(ip_block=network.IpBlock(cidr=cidr))
    return network.PolicyPeer(
        pod_selector=None if labels is None else o.LabelSelector(match_labels=dict(labels)),
        namespace_selector=None if namespaces is None else o.LabelSelector(match_labels=dict(namespaces)),
    )


def ports(*numbers: int | str, protocol: str = "TCP") -> tuple[network.PolicyPort, ...]:
    """Ports of a rule."""
    return tuple(network.PolicyPort(port=number, protocol=protocol) for number in numbers)


def agent_pod(
    kind: str = "ztunnel",
    *,
    node: str = "node-1",
    namespace: str = ISTIO,
    ready: bool = True,
    statuses: Iterable[o.ContainerStatus] | None = None,
) -> o.Pod:
    """A pod of ``ztunnel`` or of ``istio-cni-node`` on a node, with the state of its one container."""
    labels = {"app" if kind == "ztunnel" else "k8s-app": kind}
    made = pod(f"{kind}-{node[-1]}x7pk", namespace=namespace, labels=labels, owner=f"DaemonSet/{kind}", node=node, ready=ready)
    own = tuple(statuses) if statuses is not None else (container_status(kind, ready=ready),)
    status = msgspec.structs.replace(made.status, container_statuses=own, init_container_statuses=())
    return msgspec.structs.replace(made, status=status)
