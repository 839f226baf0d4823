"""Bytes of the API server -> the structs of `pytest_meshready.cluster.objects`, with everything left out that may be secret.

The fast way decodes a page in one go. Only where an object of the page does not have the shape of its kind, the page is
decoded object by object: without its nulls if that helps, else the object becomes an `Unreadable`, never an exception.
What those structs do not name is never decoded. Of what they name, `redact` drops what may hold secrets: environment,
arguments, annotations that are not Istio's, commands of probes, free text of containers' states (the last lines of a log).
"""

from __future__ import annotations

import functools
import gc
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import msgspec
from msgspec.structs import force_setattr, replace

from pytest_meshready.cluster import certificates, objects, objects_monitoring, objects_traffic, ratelimit
from pytest_meshready.cluster import objects_capacity as capacity
from pytest_meshready.cluster.autoscaler import parse_status
from pytest_meshready.cluster.meshconfig import clean_probers, clean_proxy_config
from pytest_meshready.cluster.objects_certificates import GatewaySecret, RootCertificates
from pytest_meshready.cluster.resources import Resource
from pytest_meshready.cluster.snapshot import Unreadable, decoder

_T = TypeVar("_T")

#: Containers of Istio's own, whose arguments rules read; an application's arguments may hold anything.
ARGUMENTS_OF = (*objects.ENVIRONMENT_OF, "istio-init", "istio-validation", "install-cni", "istio-cni")

#: Conditions of pods whose text Kubernetes' own scheduler writes; the text of others, which anybody may add, is dropped.
_OWN_POD_CONDITIONS = frozenset({"PodScheduled"})

_PROXY_CONFIG_ANNOTATION = "proxy.istio.io/config"
_HEADER_CONDITION = "request.headers"


class DecodeError(Exception):
    """An answer that is no JSON of the API server at all; the message is one sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One page of a list; ``resume`` is the token of the next page, empty on the last."""

    items: Sequence[objects.Slim]
    unreadable: tuple[Unreadable, ...] = ()
    resume: str = ""


class _ListMeta(msgspec.Struct, frozen=True, gc=False):
    resume: str | None = msgspec.field(default=None, name="continue")


class _List(msgspec.Struct, Generic[_T]):
    metadata: _ListMeta = _ListMeta()
    items: list[_T] | None = None


class Shared:
    """Parts that many pods have in common, kept once: a Deployment's replicas have the same containers, labels and owner.

    It is what keeps ten thousand pods below a hundred megabytes. Only for objects that nobody changes any more.
    """

    def __init__(self) -> None:
        self._known: dict[bytes, Any] = {}

    def pod(self, pod: objects.Pod | capacity.NodePod) -> None:
        """Make a pod, already redacted, use the parts that an earlier one has, too."""
        of_spec = _SHARED_SPEC if isinstance(pod, objects.Pod) else _SHARED_NODE_SPEC
        for owner, fields in ((pod.metadata, _SHARED_METADATA), (pod.spec, of_spec)):
            for field in fields:
                part = getattr(owner, field)
                if part:
                    known = self._known.setdefault(_encode(part), part)
                    if known is not part:
                        force_setattr(owner, field, known)


_SHARED_METADATA = ("labels", "annotations", "owner_references")
_SHARED_SPEC = ("containers", "init_containers", "tolerations", "topology_spread_constraints")
_SHARED_NODE_SPEC = ("containers", "init_containers", "node_name", "overhead", "resources")
_encode = msgspec.json.Encoder().encode


def page(data: bytes, row: Resource, shared: Shared | None = None) -> Page:
    """One page of a list, redacted; give all pages of a list of pods the same ``shared`` to save memory.

    Raises:
        DecodeError: where the answer is no list at all.
    """
    try:
        found = _decoder(row.type).decode(data)
    except msgspec.ValidationError:
        return _one_by_one(data, row)
    except msgspec.DecodeError as error:
        raise DecodeError(f"the answer is no JSON ({error}): something between here and the API server answered instead of it") from error
    items = found.items or []
    clean = _redactor(row.type)
    if clean is not None:
        for item in items:
            clean(item)
    if shared is not None and row.type in (objects.Pod, capacity.NodePod):
        for item in items:
            shared.pod(item)
    return Page(items=items, resume=found.metadata.resume or "")


def single(data: bytes, row: Resource) -> objects.Slim | Unreadable:
    """One object, redacted.

    Raises:
        DecodeError: where the answer is no JSON.
    """
    try:
        return _item(msgspec.Raw(data), row)
    except msgspec.DecodeError as error:
        raise DecodeError(f"the answer is no JSON ({error}): something between here and the API server answered instead of it") from error


_FAILING = re.compile(r"^\[-\]([^ ]+)", re.MULTILINE)


def health(body: bytes, status: int, path: str) -> capacity.ServerHealth:
    """What the API server says of itself at one of its health paths, where it lists its checks line by line."""
    failing = _FAILING.findall(body.decode(errors="replace"))
    return capacity.ServerHealth(metadata=objects.Metadata(name=path), status=status, failing=tuple(failing))


def redact(item: _T) -> _T:
    """The same object without what may hold secrets; it is changed in place, so only for objects that nobody else has yet."""
    kind: type = type(item)
    clean = _redactor(kind)
    if clean is not None:
        clean(item)
    return item


@contextmanager
def gc_paused() -> Iterator[None]:
    """No cyclic garbage collection within this block: it takes more time than decoding, and finds nothing in plain data.

    May be nested and used by several threads; the collector returns when the last block ends, if it was on before.
    """
    global _pauses, _was_on  # noqa: PLW0603 - the collector is one for the process
    with _pause_lock:
        if _pauses == 0:
            _was_on = gc.isenabled()
            gc.disable()
        _pauses += 1
    try:
        yield
    finally:
        with _pause_lock:
            _pauses -= 1
            if _pauses == 0 and _was_on:
                gc.enable()


_pauses = 0
_was_on = True
_pause_lock = threading.Lock()


#: Held while a decoder is built. msgspec publishes what it knows of a struct before it knows all of it: a decoder that is built
#: meanwhile in another thread keeps the half and crashes the process (seen here with 0.22: a segmentation fault in one of
#: twenty-five runs).
_building = threading.Lock()


@functools.cache
def _decoder(kind: type[objects.Slim]) -> msgspec.json.Decoder[_List[Any]]:
    listed: Any = _List  # one type per kind, made at run time
    with _building:
        return msgspec.json.Decoder(listed[kind])


def prepare() -> None:
    """Build what decodes every kind, before several threads decode: the snapshot's type holds them all."""
    with _building:
        decoder()


def _one_by_one(data: bytes, row: Resource) -> Page:
    try:
        raw = msgspec.json.decode(data, type=_List[msgspec.Raw])
    except msgspec.DecodeError as error:
        raise DecodeError(f"the answer is no list of {row.plural} ({error})") from error
    found = [_item(item, row) for item in raw.items or []]
    return Page(
        items=[item for item in found if not isinstance(item, Unreadable)],
        unreadable=tuple(item for item in found if isinstance(item, Unreadable)),
        resume=raw.metadata.resume or "",
    )


def _item(raw: msgspec.Raw, row: Resource) -> objects.Slim | Unreadable:
    reduce = _REDUCED.get(row.type)
    if reduce is not None:
        return _reduced(raw, row, reduce)
    try:
        return redact(msgspec.json.decode(raw, type=row.type))
    except msgspec.ValidationError:
        plain = without_nulls(msgspec.json.decode(raw))
    try:
        return redact(msgspec.convert(plain, row.type))
    except msgspec.ValidationError as error:
        metadata = plain.get("metadata") if isinstance(plain, dict) else None
        named = metadata if isinstance(metadata, dict) else {}
        return Unreadable(key=row.key, namespace=str(named.get("namespace", "")), name=str(named.get("name", "?")), problem=str(error))


def _reduced(raw: msgspec.Raw, row: Resource, reduce: Callable[[msgspec.Raw], objects.Slim]) -> objects.Slim | Unreadable:
    """An object of which only facts are kept, never what it holds."""
    try:
        return redact(reduce(raw))
    except msgspec.ValidationError as error:
        return Unreadable(key=row.key, namespace="", name="?", problem=str(error))


#: The kinds that hold certificates and keys.
_REDUCED: dict[type[objects.Slim], Callable[[msgspec.Raw], objects.Slim]] = {
    GatewaySecret: certificates.gateway_secret,
    RootCertificates: certificates.root_certificates,
}


def without_nulls(value: Any) -> Any:  # noqa: ANN401 - JSON of any kind
    """Plain data less every key and element that is null: Kubernetes means "not set" by it."""
    if isinstance(value, dict):
        return {key: without_nulls(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list):
        return [without_nulls(inner) for inner in value if inner is not None]
    return value


# --- what may not be kept ---


def _metadata(metadata: objects.Metadata) -> None:
    if metadata.annotations:
        kept = objects.keep_annotations(metadata.annotations)
        if _PROXY_CONFIG_ANNOTATION in kept:
            kept[_PROXY_CONFIG_ANNOTATION] = clean_proxy_config(kept[_PROXY_CONFIG_ANNOTATION])
        force_setattr(metadata, "annotations", kept)


def _variable(variable: objects.EnvVar) -> objects.EnvVar:
    if variable.name == "PROXY_CONFIG":
        return replace(variable, value=clean_proxy_config(variable.value))
    if variable.name == "ISTIO_KUBE_APP_PROBERS":
        return replace(variable, value=clean_probers(variable.value))
    return variable


def _container(container: objects.Container) -> None:
    if container.env:
        own = container.name in objects.ENVIRONMENT_OF
        kept = tuple(_variable(item) for item in container.env if item.name.startswith(objects.ENVIRONMENT)) if own else ()
        force_setattr(container, "env", kept)
    if container.args and container.name not in ARGUMENTS_OF:
        force_setattr(container, "args", ())
    for probe in (container.liveness_probe, container.readiness_probe, container.startup_probe):
        if probe is not None and probe.exec:
            force_setattr(probe, "exec", {})


def _pod_spec(spec: objects.PodSpec) -> None:
    for container in spec.containers:
        _container(container)
    for container in spec.init_containers:
        _container(container)


def _container_state(status: objects.ContainerStatus) -> None:
    for state in (status.state, status.last_state):
        for detail in (state.waiting, state.terminated):
            if detail is not None and detail.message:
                force_setattr(detail, "message", "")


def _pod(pod: objects.Pod) -> None:
    _metadata(pod.metadata)
    _pod_spec(pod.spec)
    for status in (*pod.status.container_statuses, *pod.status.init_container_statuses):
        _container_state(status)
    for condition in pod.status.conditions:
        if condition.message and condition.type not in _OWN_POD_CONDITIONS:
            force_setattr(condition, "message", "")


def _template(template: objects.PodTemplate) -> None:
    _metadata(template.metadata)
    _pod_spec(template.spec)


def _workload(workload: objects.Deployment | objects.StatefulSet | objects.DaemonSet | objects.ReplicaSet) -> None:
    _metadata(workload.metadata)
    _template(workload.spec.template)


def _job(job: objects.Job) -> None:
    _metadata(job.metadata)
    _template(job.spec.template)


def _cron_job(job: objects.CronJob) -> None:
    _metadata(job.metadata)
    _template(job.spec.job_template.spec.template)


def _config_map(config_map: objects.ConfigMap) -> None:
    _metadata(config_map.metadata)
    if config_map.data:
        force_setattr(config_map, "data", {})


def _authorization_policy(policy: objects.AuthorizationPolicy) -> None:
    _metadata(policy.metadata)
    for rule in policy.spec.rules or ():
        for condition in rule.get("when") or ():
            if isinstance(condition, dict) and str(condition.get("key", "")).startswith(_HEADER_CONDITION):
                condition.update({name: [] for name in ("values", "notValues") if name in condition})


#: What is kept of the cookie by which a DestinationRule chooses endpoints; its attributes are free text.
_COOKIE = ("name", "path", "ttl")


def _destination_rule(rule: objects.DestinationRule) -> None:
    _metadata(rule.metadata)
    for policy in (rule.spec.traffic_policy, *(subset.traffic_policy for subset in rule.spec.subsets)):
        if policy is not None:
            for balancer in (policy.load_balancer, *(port.load_balancer for port in policy.port_level_settings)):
                _balancer(balancer or {})


def _balancer(balancer: dict[str, Any]) -> None:
    consistent = balancer.get("consistentHash")
    cookie = consistent.get("httpCookie") if isinstance(consistent, dict) else None
    if isinstance(consistent, dict) and isinstance(cookie, dict):
        consistent["httpCookie"] = {key: cookie[key] for key in _COOKIE if key in cookie}


def _prometheus_rule(rule: objects_monitoring.PrometheusRule) -> None:
    """Only alerts about the mesh are kept; what else a cluster alerts on is nobody's business here."""
    _metadata(rule.metadata)
    for group in rule.spec.groups:
        force_setattr(group, "rules", tuple(item for item in group.rules if objects_monitoring.is_about_mesh(item)))


#: What a pod requests of a node; the rest (storage, devices) is not counted.
_COUNTED = ("cpu", "memory")


def _counted(resources: objects.Resources) -> objects.Resources:
    return objects.Resources(requests={name: resources.requests[name] for name in _COUNTED if name in resources.requests})


def _node_pod(pod: capacity.NodePod) -> None:
    """Only what arithmetic needs; all labels of those pods alone that NetworkPolicies must let through, and of node agents."""
    own, labels = pod.metadata, pod.metadata.labels
    agent = any(labels.get(name) == value for name, value in capacity.NODE_AGENTS.items())
    for status in pod.status.container_statuses if agent else ():
        _container_state(status)
    if pod.status.container_statuses and not agent:
        force_setattr(pod.status, "container_statuses", ())
    if "k8s-app" not in labels and not agent and not any(labels.get(name) in capacity.SCRAPERS for name in capacity.NAME_LABELS):
        labels = {name: labels[name] for name in capacity.NODE_POD_LABELS if name in labels}
    annotations = {name: own.annotations[name] for name in capacity.NODE_POD_ANNOTATIONS if name in own.annotations}
    for field, value in (("labels", labels), ("annotations", annotations), ("owner_references", ()), ("uid", "")):
        force_setattr(own, field, value)
    for container in (*pod.spec.containers, *pod.spec.init_containers):
        force_setattr(container, "resources", _counted(container.resources))
    if pod.spec.resources.requests or pod.spec.resources.limits:
        force_setattr(pod.spec, "resources", _counted(pod.spec.resources))
    ready = tuple(objects.Condition(type=item.type, status=item.status) for item in pod.status.conditions if item.type == "Ready")
    force_setattr(pod.status, "conditions", ready)


#: Labels whose writer is kept: they put a namespace into the mesh.
_MESH_LABELS = ("istio-injection", "istio.io/rev", "istio.io/dataplane-mode")


def _namespace(namespace: objects.Namespace) -> None:
    """Of the writers only when they wrote Istio's labels is kept, not who they are."""
    _metadata(namespace.metadata)
    kept = []
    for entry in namespace.metadata.managed_fields:
        metadata = entry.fields_v1.get("f:metadata")
        labels = metadata.get("f:labels") if isinstance(metadata, dict) else None
        own = tuple(label for label in _MESH_LABELS if f"f:{label}" in labels) if isinstance(labels, dict) else ()
        if own:
            kept.append(objects.ManagedFields(time=entry.time, labels=own))
    force_setattr(namespace.metadata, "managed_fields", tuple(kept))


def _autoscaler_status(item: capacity.ClusterAutoscalerStatus) -> None:
    _metadata(item.metadata)
    if item.data.status:
        force_setattr(item, "state", parse_status(item.data.status))
    force_setattr(item, "data", capacity.AutoscalerData())


def _envoy_filter(item: objects_traffic.EnvoyFilter) -> None:
    """What filters are told may hold tokens; of rate limits, which are numbers, a few are kept."""
    _metadata(item.metadata)
    for patch in item.spec.config_patches:
        if patch.patch is not None and patch.patch.value is not None:
            ratelimit.reduce(patch.patch.value)


def _only_metadata(item: Any) -> None:  # noqa: ANN401 - every kind has metadata
    _metadata(item.metadata)


_REDACTORS: dict[type, Callable[[Any], None]] = {
    objects.Namespace: _namespace,
    objects.Pod: _pod,
    capacity.NodePod: _node_pod,
    capacity.ClusterAutoscalerStatus: _autoscaler_status,
    objects.Deployment: _workload,
    objects.StatefulSet: _workload,
    objects.DaemonSet: _workload,
    objects.ReplicaSet: _workload,
    objects.Job: _job,
    objects.CronJob: _cron_job,
    objects.ConfigMap: _config_map,
    objects.AuthorizationPolicy: _authorization_policy,
    objects.DestinationRule: _destination_rule,
    objects_traffic.EnvoyFilter: _envoy_filter,
    objects_monitoring.PrometheusRule: _prometheus_rule,
}


@functools.cache
def _redactor(kind: type) -> Callable[[Any], None] | None:
    """What cleans objects of this kind; every kind with metadata has annotations that must be looked at."""
    return _REDACTORS.get(kind) or (_only_metadata if "metadata" in getattr(kind, "__struct_fields__", ()) else None)
