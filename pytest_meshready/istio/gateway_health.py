"""Health checks of gateways: line 8.1.3, what load balancers are told to ask (checks.md 8.1.3).

What a cloud's load balancer thinks of its targets cannot be seen from the cluster.
"""

from __future__ import annotations

from collections.abc import Iterator

from pytest_meshready.cluster.objects import Container, Pod, Service
from pytest_meshready.cluster.snapshot import Snapshot
from pytest_meshready.istio import gateways
from pytest_meshready.istio.dataplane import proxies
from pytest_meshready.istio.gateways import Ways
from pytest_meshready.istio.namespaces import unread_in
from pytest_meshready.istio.wording import shortened
from pytest_meshready.istio.workloads import Workload, is_ready, pod_names
from pytest_meshready.results import Evidence, Finding, Judgement, Level, ObjectRef

#: What `gateway_health` reads.
READS = (*gateways.READS, "services")

#: The port and the path by which a gateway's agent says that it is ready.
STATUS_PORT, STATUS_PATH = 15021, "/healthz/ready"

_PORT, _PROTOCOL = "port", "protocol"


def gateway_health(snapshot: Snapshot) -> Judgement:
    """Line 8.1.3, what the objects say: the gateway tells when it is ready, and load balancers ask a port that exists.

    Errors: no pod of the gateway is ready; a load balancer is told to ask a port that the Service does not have;
    ``externalTrafficPolicy: Local`` without a port for health checks. Warnings: some pods are not ready; a gateway without
    Istio's readiness probe; an HTTP check of a traffic port, which answers 404 to a name that no route knows.
    """
    ways = Ways(snapshot)
    if ways.nothing is not None:
        return ways.nothing
    findings: list[Finding] = []
    rows: list[dict[str, str]] = []
    for workload in ways.workloads:
        findings += [] if unread_in(snapshot, workload.ref.namespace, "pods") else _pods(workload)
        for service in ways.services(workload):
            findings += _service(service, deployed=snapshot.is_deployed)
            rows.append(_row(service))
    unknown = [*ways.unread, *snapshot.unread(*(key for key in READS if key not in gateways.ROUTES))]
    if not ways.workloads:
        unknown.append(ways.elsewhere())
    return Judgement(
        summary=f"{shortened(str(item.ref) for item in ways.workloads)}: every pod is ready, and load balancers ask a port that exists",
        examined=len(ways.workloads),
        findings=tuple(findings),
        unknown=tuple(dict.fromkeys(unknown)),
        evidence=(Evidence(kind="table", source="Services of gateways", data=rows),),
    )


def _row(service: Service) -> dict[str, str]:
    spec = service.spec
    ports = ", ".join(f"{port.name or port.port}:{port.port}" for port in spec.ports)
    policy = spec.external_traffic_policy or "Cluster"
    return {"service": f"{service.metadata.namespace}/{service.metadata.name}", "type": spec.type, "ports": ports, "policy": policy}


def _pods(workload: Workload) -> Iterator[Finding]:
    """The pods of a gateway: whether they are ready, and whether anything would notice if they were not."""
    late = [pod for pod in workload.pods if not is_ready(pod)]
    if late or not workload.pods:
        every = len(late) == len(workload.pods)
        yield Finding(
            code="MR813-NOT-READY",
            level=Level.ERROR if every else Level.WARNING,
            object=workload.ref,
            found=f"{len(late)} of its {len(workload.pods)} pods are not ready{f': {pod_names(late)}' if late else ''}",
            wanted="every pod ready",
            fix=f"see why: kubectl -n {workload.ref.namespace} describe pods -l "
            + ",".join(f"{key}={value}" for key, value in list(workload.labels.items())[:2]),
        )
    blind = [pod for pod in workload.pods if not any(_asks_agent(container) for container in _gateway_containers(pod))]
    if blind:
        yield Finding(
            code="MR813-NO-READINESS",
            level=Level.WARNING,
            object=workload.ref,
            found=f"nothing asks its agent whether it is ready: {pod_names(blind)} have no readiness probe on {STATUS_PORT}{STATUS_PATH}",
            wanted=f"a readiness probe GET {STATUS_PATH} on port {STATUS_PORT}, as Istio's template has it",
            fix=f"kubectl -n {workload.ref.namespace} edit {workload.kind.lower()} {workload.ref.name}",
        )


def _gateway_containers(pod: Pod) -> tuple[Container, ...]:
    return proxies(pod)


def _asks_agent(container: Container) -> bool:
    probe = container.readiness_probe
    return probe is not None and probe.http_get is not None and probe.http_get.path == STATUS_PATH


def _service(service: Service, *, deployed: bool) -> Iterator[Finding]:
    """What a load balancer is told. The port for health checks is the API server's to give: manifests have none yet."""
    spec = service.spec
    if spec.type != "LoadBalancer":
        return
    if deployed and spec.external_traffic_policy == "Local" and not spec.health_check_node_port:
        yield _about(
            service,
            "NO-NODE-PORT",
            Level.ERROR,
            found="externalTrafficPolicy is Local without a healthCheckNodePort, so nothing tells which nodes have a pod of it",
            wanted="a healthCheckNodePort, which Kubernetes gives when the policy is set",
        )
    told = {kind: value for key, value in service.metadata.annotations.items() if (kind := _kind(key))}
    known = _ports(service)
    port = told.get(_PORT, "")
    if port.isdigit() and int(port) not in known:
        yield _about(
            service,
            "NO-SUCH-PORT",
            Level.ERROR,
            found=f"its annotations tell the load balancer to ask port {port}, which it does not have",
            wanted=f"one of its ports: {shortened(map(str, sorted(known)))}",
            detail=port,
        )
    elif told.get(_PROTOCOL, "").upper() in ("HTTP", "HTTPS") and not _leads_to_agent(service, port):
        yield _about(
            service,
            "ASKS-TRAFFIC-PORT",
            Level.WARNING,
            found="its annotations tell the load balancer to check a traffic port by HTTP, which answers 404 to a host that no route knows",
            wanted=f"port {STATUS_PORT}, path {STATUS_PATH}",
        )


def _kind(key: str) -> str:
    """What an annotation of a cloud says of health checks."""
    name = key.rpartition("/")[2]
    return next((kind for kind in (_PORT, _PROTOCOL) if "health" in name and name.endswith(kind)), "")


def _ports(service: Service) -> set[int]:
    """Every number by which a port of a Service can be asked from outside or from a node."""
    numbers = {number for port in service.spec.ports for number in (port.port, port.node_port, port.target_port) if isinstance(number, int)}
    return (numbers | {service.spec.health_check_node_port}) - {0}


def _leads_to_agent(service: Service, port: str) -> bool:
    """Whether a port of a Service is the agent's."""
    status = [item for item in service.spec.ports if STATUS_PORT in (item.port, item.target_port)]
    return any(port in (str(item.port), str(item.node_port), str(item.target_port)) for item in status) or (
        port == str(service.spec.health_check_node_port) != "0"
    )


def _about(service: Service, kind: str, level: Level, *, found: str, wanted: str, detail: str = "") -> Finding:
    namespace, name = service.metadata.namespace, service.metadata.name
    return Finding(
        code=f"MR813-{kind}",
        level=level,
        object=ObjectRef(kind="Service", namespace=namespace, name=name),
        found=found,
        wanted=wanted,
        fix=f"kubectl -n {namespace} edit service {name}",
        detail=detail,
    )
