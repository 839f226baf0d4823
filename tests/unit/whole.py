"""A whole healthy mesh for rules that look at istiod, gateways and workloads together: version 1.30.3, two workloads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytest_meshready.cluster import objects as o
from pytest_meshready.cluster.snapshot import InjectorConfig, MeshConfig, Snapshot
from tests.unit import builders as make

VERSION = "1.30.3"
TAKEN = "2026-09-01T12:00:00Z"
JAEGER = "jaeger-collector.istio-system.svc.cluster.local"
ZIPKIN = {"name": "jaeger", "zipkin": {"service": JAEGER, "port": 9411}}


def image(version: str = VERSION, name: str = "proxyv2") -> str:
    return f"docker.io/istio/{name}:{version}"


def istiod(
    name: str = "istiod", *, revision: str = "default", version: str = VERSION, env: Mapping[str, str] | None = None, **fields: Any
) -> o.Deployment:
    """The istiod of a revision, with two replicas; ``fields`` go into its container."""
    fields.setdefault("resources", o.Resources(requests={"cpu": "500m", "memory": "2048Mi"}))
    container = make.discovery_container({"REVISION": revision, **(env or {})}, image(version, "pilot"))
    container = o.Container(**{**{key: getattr(container, key) for key in container.__struct_fields__}, **fields})
    return make.deployment(
        name, namespace=make.ISTIO, labels={**make.ISTIOD_LABELS, "istio.io/rev": revision}, replicas=2, containers=(container,)
    )


def gateway(name: str = "istio-ingressgateway", *, version: str = VERSION) -> o.Deployment:
    labels = {**make.GATEWAY_LABELS, "app": name}
    return make.deployment(name, namespace=make.ISTIO, labels=labels, replicas=2, containers=(make.gateway_container(image(version)),))


def team_pods(
    workload: o.Deployment, *, version: str = VERSION, revision: str = "default", env: Mapping[str, str] | None = None
) -> tuple[o.Pod, ...]:
    """The pods of a workload of the team, injected by a version and a revision, with what the injector annotates."""
    plain = make.pods_of(workload, meshed=False)
    made = (make.injected(pod, image=image(version), revision=revision, proxy_env=env) for pod in plain)
    return tuple(_annotated(pod) for pod in made)


def _annotated(pod: o.Pod) -> o.Pod:
    scrape = {"prometheus.io/scrape": "true", "prometheus.io/port": "15020", "prometheus.io/path": "/stats/prometheus"}
    own = pod.metadata
    metadata = make.metadata(
        own.name, own.namespace, labels=own.labels, annotations={**scrape, **own.annotations}, owner=_owner(own), created=make.CREATED
    )
    return o.Pod(metadata=metadata, spec=pod.spec, status=pod.status)


def _owner(metadata: o.Metadata) -> str:
    return next((f"{owner.kind}/{owner.name}" for owner in metadata.owner_references), "")


def mesh_config(**fields: Any) -> MeshConfig:
    """The mesh's configuration: spans go to a Zipkin collector, 5 per cent of the requests are sampled."""
    defaults: dict[str, Any] = {
        "root_namespace": make.ISTIO,
        "trust_domain": "cluster.local",
        "enable_tracing": True,
        "default_providers": {"tracing": ["jaeger"]},
        "extension_providers": (ZIPKIN,),
        "default_config": {"tracing": {"sampling": 5}},
        "enable_prometheus_merge": True,
    }
    return MeshConfig(**{**defaults, **fields})


def mesh(*, deployments: tuple[o.Deployment, ...] | None = None, more_pods: tuple[o.Pod, ...] = (), **fields: Any) -> Snapshot:
    """The whole: istiod, an ingress gateway, a collector, and the workloads orders and ledger in the namespace of the run.

    Args:
        deployments: instead of all of these; pods of the team's are injected by the default revision.
        more_pods: beside those of the deployments.
        fields: of the snapshot.
    """
    collector = make.deployment("jaeger", namespace=make.ISTIO, replicas=1)
    every = (
        deployments if deployments is not None else (istiod(), gateway(), collector, make.deployment("orders"), make.deployment("ledger"))
    )
    pods: list[o.Pod] = [*more_pods]
    for item in every:
        own = item.metadata.namespace == make.NAMESPACE
        pods += team_pods(item) if own else make.pods_of(item, meshed=False)
    service = make.service("jaeger-collector", namespace=make.ISTIO, selector={"app": "jaeger"}, ports=(("http-zipkin", 9411),))
    behind = [pod for pod in pods if pod.metadata.labels.get("app") == "jaeger"]
    defaults: dict[str, Any] = {
        "taken": TAKEN,
        "istio_version": VERSION,
        "deployments": every,
        "pods": tuple(pods),
        "services": (make.service(), make.service("istiod", namespace=make.ISTIO, selector={"istio": "pilot"}), service),
        "endpointslices": (make.endpointslice("jaeger-collector", behind, namespace=make.ISTIO),),
        "horizontalpodautoscalers": (make.autoscaler("istiod", namespace=make.ISTIO),),
        "mesh": mesh_config(),
        "injector": InjectorConfig(policy="enabled", default_templates=("sidecar",), tag=VERSION, proxy_image="proxyv2"),
    }
    return make.snapshot(**{**defaults, **fields})
