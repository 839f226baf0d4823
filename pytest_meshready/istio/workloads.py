"""Workloads: what a team deploys, with the pods that it owns, as the unit in which findings speak.

Pods are attributed in one pass over their owner references, so that ten thousand of them cost milliseconds. ReplicaSets
need not be read for that: the name of a Deployment's ReplicaSet is the Deployment's and the pod's label
``pod-template-hash``, which is verified against the Deployments that were read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

import msgspec

from pytest_meshready.cluster import objects
from pytest_meshready.cluster.objects import Metadata, Pod, PodTemplate
from pytest_meshready.cluster.snapshot import Snapshot, in_namespace
from pytest_meshready.istio.dataplane import PROXY, RUN_LABEL, SETUP, TEMPLATES, DataPlane, dataplane_class
from pytest_meshready.istio.once import once
from pytest_meshready.results import ObjectRef

#: The kinds that `workloads` reads. ReplicaSets are used where they are there (they find the owners of other controllers).
READS = ("pods", "deployments", "statefulsets", "daemonsets", "jobs", "cronjobs")

#: Kinds whose pods end by themselves: nobody sends them requests, and a drain may interrupt them.
BATCH = frozenset({"Job", "CronJob"})

_HASH = "pod-template-hash"
_ROLLOUT_HASH = "rollouts-pod-template-hash"  # Argo Rollouts puts its own label in the place of Kubernetes'
_GATEWAYS = frozenset({DataPlane.GATEWAY, DataPlane.WAYPOINT})

_V = TypeVar("_V")


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """One workload of a namespace.

    Attributes:
        ref: the object to name: the owner that a person edits.
        template: its pod template, before injection. Where the owner was not read, or there is none (a bare pod), it is
            made from a pod by taking Istio's containers away; ``from_pod`` tells that, and probes may then be rewritten.
        replicas: how many pods are wanted now: ``spec.replicas`` (1 where it is not set), the nodes of a DaemonSet, 0 for
            a suspended Job and for a CronJob.
        pods: the pods that work, or should.
        terminating: the pods that are on their way out (a deletion time is set).
        completed: the pods that have ended, well or badly; also evicted ones, which are never started again.
    """

    ref: ObjectRef
    template: PodTemplate
    replicas: int
    pods: tuple[Pod, ...] = ()
    terminating: tuple[Pod, ...] = ()
    completed: tuple[Pod, ...] = ()
    from_pod: bool = False

    @property
    def kind(self) -> str:
        """The kind of the owner: ``Deployment``, ``StatefulSet``, ``DaemonSet``, ``Job``, ``Pod``, ``Rollout`` ..."""
        return self.ref.kind

    @property
    def labels(self) -> Mapping[str, str]:
        """The labels of its pods, as its template says."""
        return self.template.metadata.labels


@once
def workloads(snapshot: Snapshot, namespace: str) -> tuple[Workload, ...]:
    """The workloads of a namespace, sorted by kind and name; the run's own probe pods are none.

    An owner whose kind was not read is named by what its pods say of it. See `Snapshot.unread` of `READS`.
    """
    known = _Known(snapshot, namespace)
    for pod in snapshot.pods:
        if pod.metadata.namespace == namespace and RUN_LABEL not in pod.metadata.labels:
            known.add(pod)
    return known.result()


def is_completed(pod: Pod) -> bool:
    """Whether the pod has ended and will not be started again (also: evicted)."""
    return pod.status.phase in ("Succeeded", "Failed")


def is_terminating(pod: Pod) -> bool:
    """Whether the pod is on its way out."""
    return pod.metadata.deletion_timestamp is not None


def is_ready(pod: Pod) -> bool:
    """Whether the pod's condition ``Ready`` is true, which is what makes it an endpoint."""
    return any(condition.type == "Ready" and condition.status == "True" for condition in pod.status.conditions)


def is_gateway(workload: Workload) -> bool:
    """Whether the workload is an Istio gateway or a waypoint: by its template, or by what injection made of its pods."""
    names = workload.template.metadata.annotations.get(TEMPLATES, "")
    if "gateway" in (name.strip() for name in names.split(",")):
        return True
    as_pod = Pod(metadata=workload.template.metadata, spec=workload.template.spec)
    return any(dataplane_class(pod) in _GATEWAYS for pod in (as_pod, *workload.pods[:1]))


def pod_names(pods: Iterable[Pod], at_most: int = 3) -> str:
    """Their names for a sentence: ``a, b, c and 4 more``."""
    names = [pod.metadata.name for pod in pods]
    more = len(names) - at_most
    return ", ".join(names[:at_most]) + (f" and {more} more" if more > 0 else "")


def app_containers(template: PodTemplate | Pod) -> tuple[objects.Container, ...]:
    """The containers that the team wrote: all but Istio's proxy and its set-up."""
    return tuple(container for container in template.spec.containers if not _is_istios(container))


class LabelIndex(Generic[_V]):
    """Things that select by ``matchLabels``, found by the labels that they may select, without trying every one.

    Ten thousand pods times a thousand Services would be ten million comparisons; here each pod looks up its own labels.
    """

    def __init__(self) -> None:
        self._by_label: dict[tuple[str, str], list[_V]] = {}
        self._rest: list[_V] = []

    def add(self, match_labels: Mapping[str, str], value: _V) -> None:
        """Add something that selects at most what carries ``match_labels`` (empty: it may select anything)."""
        first = next(iter(match_labels.items()), None)
        if first is None:
            self._rest.append(value)
        else:
            self._by_label.setdefault(first, []).append(value)

    def candidates(self, labels: Mapping[str, str]) -> list[_V]:
        """What may select these labels; the caller applies the whole selector."""
        found = list(self._rest)
        for pair in labels.items():
            found += self._by_label.get(pair, ())
        return found


def _is_istios(container: objects.Container) -> bool:
    return container.name == PROXY or container.name in SETUP


def _count(replicas: int | None) -> int:
    return 1 if replicas is None else replicas


class _Known:
    """Collects the pods of each workload of one namespace."""

    def __init__(self, snapshot: Snapshot, namespace: str) -> None:
        self._namespace = namespace
        self._templates: dict[tuple[str, str], tuple[PodTemplate, int]] = {}
        self._owner_of_replicaset: dict[str, tuple[str, str]] = {}
        self._owner_of_job: dict[str, tuple[str, str]] = {}
        self._pods: dict[tuple[str, str], list[Pod]] = {}
        self._deployments_known = not snapshot.unread("deployments")
        self._read_replicated(snapshot)
        self._read_batch(snapshot)
        self._read_replicasets(snapshot)

    def _read_replicated(self, snapshot: Snapshot) -> None:
        for deployment in in_namespace(snapshot.deployments, self._namespace):
            self._templates[deployment.kind, deployment.metadata.name] = (deployment.spec.template, _count(deployment.spec.replicas))
        for stateful in in_namespace(snapshot.statefulsets, self._namespace):
            self._templates[stateful.kind, stateful.metadata.name] = (stateful.spec.template, _count(stateful.spec.replicas))
        for daemons in in_namespace(snapshot.daemonsets, self._namespace):
            wanted = daemons.status.desired_number_scheduled
            self._templates[daemons.kind, daemons.metadata.name] = (daemons.spec.template, wanted)

    def _read_batch(self, snapshot: Snapshot) -> None:
        for cron in in_namespace(snapshot.cronjobs, self._namespace):
            self._templates[cron.kind, cron.metadata.name] = (cron.spec.job_template.spec.template, 0)
        for job in in_namespace(snapshot.jobs, self._namespace):
            if RUN_LABEL in job.metadata.labels:
                continue
            owner = _controller(job.metadata)
            if owner is not None and owner in self._templates:
                self._owner_of_job[job.metadata.name] = owner
            else:
                self._templates[job.kind, job.metadata.name] = (job.spec.template, 0 if job.spec.suspend else 1)

    def _read_replicasets(self, snapshot: Snapshot) -> None:
        """ReplicaSets, where they were read: bare ones are workloads, those of another controller lend it their template."""
        for item in sorted(in_namespace(snapshot.replicasets, self._namespace), key=lambda rs: rs.metadata.creation_timestamp or ""):
            name, wanted = item.metadata.name, _count(item.spec.replicas)
            owner = _controller(item.metadata)
            if owner is None:
                self._templates[item.kind, name] = (item.spec.template, wanted)
                continue
            self._owner_of_replicaset[name] = owner
            if owner[0] != "Deployment" and wanted:
                before = self._templates.get(owner, (item.spec.template, 0))
                self._templates[owner] = (item.spec.template, before[1] + wanted)

    def add(self, pod: Pod) -> None:
        """Attribute one pod."""
        owner = _controller(pod.metadata)
        if owner is None or owner[0] == "Node":  # the kubelet's own pods are owned by their node
            owner = ("Pod", pod.metadata.name)
        elif owner[0] == "ReplicaSet":
            owner = self._owner_of_replicaset.get(owner[1]) or self._by_hash(owner[1], pod.metadata.labels)
        elif owner[0] == "Job":
            owner = self._owner_of_job.get(owner[1], owner)
        self._pods.setdefault(owner, []).append(pod)

    def _by_hash(self, replicaset: str, labels: Mapping[str, str]) -> tuple[str, str]:
        """The owner of a ReplicaSet that was not read, from the hash in its name."""
        for label, kind in ((_HASH, "Deployment"), (_ROLLOUT_HASH, "Rollout")):
            name = replicaset.removesuffix(f"-{labels.get(label)}")
            if name == replicaset:
                continue
            if kind == "Rollout" or ("Deployment", name) in self._templates or not self._deployments_known:
                return (kind, name)
        return ("ReplicaSet", replicaset)

    def result(self) -> tuple[Workload, ...]:
        """The workloads with their pods."""
        return tuple(self._workload(key) for key in sorted({*self._templates, *self._pods}))

    def _workload(self, key: tuple[str, str]) -> Workload:
        pods: list[Pod] = []
        terminating: list[Pod] = []
        completed: list[Pod] = []
        for pod in self._pods.get(key, ()):
            group = completed if is_completed(pod) else terminating if is_terminating(pod) else pods
            group.append(pod)
        template, replicas = self._templates.get(key, (None, len(pods)))
        return Workload(
            ref=ObjectRef(kind=key[0], namespace=self._namespace, name=key[1]),
            template=template if template is not None else _template_of((*pods, *terminating, *completed)[0]),
            replicas=replicas,
            pods=tuple(pods),
            terminating=tuple(terminating),
            completed=tuple(completed),
            from_pod=template is None,
        )


def _controller(metadata: Metadata) -> tuple[str, str] | None:
    return next(((owner.kind, owner.name) for owner in metadata.owner_references if owner.controller), None)


def _template_of(pod: Pod) -> PodTemplate:
    """A template from a pod: without Istio's containers, unless they are all that it has, as in a gateway."""
    containers = app_containers(pod)
    if not containers:
        return PodTemplate(metadata=pod.metadata, spec=pod.spec)
    inits = tuple(container for container in pod.spec.init_containers if not _is_istios(container))
    return PodTemplate(metadata=pod.metadata, spec=msgspec.structs.replace(pod.spec, containers=containers, init_containers=inits))
