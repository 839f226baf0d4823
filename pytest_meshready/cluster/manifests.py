"""A snapshot of what is about to be deployed: the manifests of a repository, before any cluster has seen them.

Objects go the way of live ones (`pytest_meshready.cluster.decode`): the same structs, the same things left out, the same
`Unreadable`. What manifests cannot say is refused, never assumed: there are no pods and no statuses yet, and what the cluster
already holds is unknown. An empty list is an answer only for kinds that a team declares for its own namespace (`DECLARED`).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from pytest_meshready.cluster import decode, documents, locate, meshconfig, objects
from pytest_meshready.cluster.documents import Document, ManifestError
from pytest_meshready.cluster.live import USUAL_NAMESPACE, istio_version
from pytest_meshready.cluster.resources import RESOURCES, Resource, Scope, configmap_names
from pytest_meshready.cluster.snapshot import (
    ControlPlane,
    InjectorConfig,
    InstallValues,
    MeshConfig,
    Place,
    Refusal,
    Snapshot,
    Unreadable,
)

__all__ = ["DECLARED", "ManifestError", "take"]

#: How every reason begins.
ONLY = "manifests only"

#: What a team declares for its own namespace: where the manifests have none, the namespace will have none of theirs.
DECLARED = frozenset(
    {
        *("services", "serviceaccounts", "deployments", "statefulsets", "daemonsets", "jobs", "cronjobs"),
        *("poddisruptionbudgets", "horizontalpodautoscalers", "networkpolicies", "ingresses"),
        *("peerauthentications", "authorizationpolicies", "requestauthentications"),
        *("destinationrules", "workloadentries", "gateways", "virtualservices", "serviceentries", "sidecars", "envoyfilters"),
        *("wasmplugins", "trafficextensions", "telemetries"),
        *("httproutes", "grpcroutes", "tlsroutes", "tcproutes", "backendtlspolicies", "referencegrants", "k8sgateways"),
    }
)

_NO_PODS = "no pods yet"
_NO_CLUSTER = "nothing of the cluster itself (nodes, leases, its API server)"
_NO_OTHERS = "nothing of other namespaces"
_NO_MESH = "nothing of Istio's own configuration"

#: What controllers, kubelets or the API server make: never taken from a file, not even where one holds some.
_MADE = {
    **dict.fromkeys(("pods", "node_pods", "replicasets", "endpointslices"), _NO_PODS),
    **dict.fromkeys(("nodes", "nodeclaims", "leases", "readyz", "apiservices", "autoscaler_status", "rootcertificates"), _NO_CLUSTER),
}

#: Kinds without a namespace.
_CLUSTER_SCOPED = frozenset({"namespaces", "nodepools", "mutatingwebhookconfigurations"})

#: What only the API server writes; ``kubectl apply`` ignores it in a file, too.
_SERVERS = ("status",)
_SERVERS_METADATA = ("uid", "generation", "creationTimestamp", "deletionTimestamp", "managedFields", "resourceVersion")

_ROWS = {(row.group, str(getattr(row.type, "kind", ""))): row for row in RESOURCES.values() if row.key not in _MADE}


def take(
    source: str,
    *,
    namespace: str,
    base: Path,
    stdin: Callable[[], str],
    istio_namespace: str | None = None,
    revision: str | None = None,
    gateway_namespaces: Sequence[str] = (),
    secrets: Sequence[str] = (),
) -> Snapshot:
    """What the manifests declare for a namespace, and why everything else is not known.

    Args:
        source: a folder (looked through with all below it), a file, or ``-`` for standard input.
        namespace: the namespace of the run; objects that name none belong to it, as with ``kubectl -n``.
        base: where the user is; file names are shown relative to it.
        stdin: reads standard input, for ``-``.
        istio_namespace: ``--mesh-istio-namespace``, None to find it in the manifests, else ``istio-system``.
        revision: ``--mesh-revision``, None to find it.
        gateway_namespaces: further namespaces to look at.
        secrets: the Secrets whose public facts may be read, as ``NAMESPACE/NAME``; of no other anything is decoded.

    Raises:
        ManifestError: with one sentence, where there is nothing to look at, or what is there cannot be used.
    """
    found = documents.read(source, base=base, stdin=stdin, wanted=lambda group, kind: (group, kind) in _ROWS)
    if not found:
        raise ManifestError("there is no Kubernetes object in it that any line of the checklist reads")
    objects_ = [_Object.of(document, namespace) for document in found]
    _refuse_duplicates(objects_)
    taking = _Taking(namespace=namespace, secrets=tuple(secrets), gateway_namespaces=tuple(gateway_namespaces))
    taking.configure(objects_, istio_namespace or "", revision or "")
    taking.keep(objects_)
    return taking.snapshot()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Object:
    """A document with what it is: its row, and where it will be."""

    document: Document
    row: Resource
    namespace: str
    name: str

    @classmethod
    def of(cls, document: Document, namespace: str) -> _Object:
        row = _ROWS[document.group, document.kind]
        said = document.metadata.get("namespace")
        where = "" if row.key in _CLUSTER_SCOPED else str(said or namespace)
        name = document.metadata.get("name") or document.metadata.get("generateName") or ""
        return cls(document=document, row=row, namespace=where, name=str(name))

    def __str__(self) -> str:
        return "/".join(word for word in (self.namespace, self.document.kind, self.name) if word)

    @property
    def value(self) -> dict[str, Any]:
        """As the API server would keep it at first: with its namespace, without what only the server writes."""
        metadata = {key: inner for key, inner in self.document.metadata.items() if key not in _SERVERS_METADATA}
        metadata.update({"namespace": self.namespace} if self.namespace else {}, name=self.name)
        kept = {key: inner for key, inner in self.document.value.items() if key not in _SERVERS}
        version = str(kept.get("apiVersion", "")).rpartition("/")[2]
        spec = kept.get("spec")
        if (self.row.key, version) == ("horizontalpodautoscalers", "v1") and isinstance(spec, dict):
            kept["spec"] = _as_v2(spec)
        return {**kept, "metadata": metadata}

    def unreadable(self, problem: str) -> Unreadable:
        """That it has not the shape of its kind, and where it stands."""
        told = f"{problem} ({self.document.place})"
        return Unreadable(key=self.row.key, namespace=self.namespace, name=self.name or "?", problem=told)


def _as_v2(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The spec of an autoscaler of autoscaling/v1, as the API server converts it: its one metric is CPU, by default at 80 %."""
    target = {"type": "Utilization", "averageUtilization": spec.get("targetCPUUtilizationPercentage") or 80}
    return {**spec, "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": target}}]}


def _refuse_duplicates(found: Iterable[_Object]) -> None:
    """Two documents about one object: which of them will be applied last is not known.

    Raises:
        ManifestError: naming both places.
    """
    first: dict[tuple[str, str, str], _Object] = {}
    for one in found:
        other = first.setdefault((one.row.key, one.namespace, one.name), one)
        if other is not one and one.document.metadata.get("name"):
            raise ManifestError(
                f"{one} is in {other.document.place} and again in {one.document.place}: which one will be applied is not known; "
                "name the folder or the build of one environment"
            )


@dataclass(slots=True, kw_only=True)
class _Taking:
    """What has been found so far."""

    namespace: str
    secrets: tuple[str, ...]
    gateway_namespaces: tuple[str, ...]
    home: str = USUAL_NAMESPACE
    choice: locate.Choice = field(default_factory=locate.Choice)
    planes: tuple[ControlPlane, ...] = ()
    mesh: MeshConfig | None = None
    injector: InjectorConfig | None = None
    install: InstallValues | None = None
    items: dict[str, list[Any]] = field(default_factory=lambda: {key: [] for key in RESOURCES})
    unreadable: list[Unreadable] = field(default_factory=list)
    places: list[Place] = field(default_factory=list)
    configured: bool = False

    # --- the control plane, where the manifests hold it ---

    def configure(self, found: Sequence[_Object], istio_namespace: str, revision: str) -> None:
        """Find the control plane and Istio's configuration."""
        webhooks = [item for one in found if one.row.key == "mutatingwebhookconfigurations" for item in [self._decoded(one)] if item]
        own = next((item for one in found if _is_namespace(one, self.namespace) for item in [self._decoded(one)] if item), None)
        self.planes = locate.control_planes(webhooks)
        if self.planes:
            self.choice = locate.choose(
                self.planes,
                namespace=self.namespace,
                labels=locate.labels_of(own),
                istio_namespace=istio_namespace,
                revision=revision,
                looked_at=len(webhooks),
            )
        elif istio_namespace:
            plane = ControlPlane(namespace=istio_namespace, revision=revision or locate.DEFAULT)
            self.choice = locate.Choice(plane=plane)
        else:
            self.choice = locate.Choice(problem=f"{ONLY}: {_NO_MESH}")
        plane_ = self.choice.plane
        self.home = (plane_ and plane_.namespace) or istio_namespace or USUAL_NAMESPACE
        self._config_maps(found, configmap_names((plane_ and plane_.revision) or revision))

    def _config_maps(self, found: Sequence[_Object], names: Sequence[str]) -> None:
        """Istio's own configuration, where it is among the manifests."""
        by_name = {one.name: one for one in found if one.row.key == "configmaps" and one.namespace == self.home}
        problems = {}
        if names[0] in by_name:
            self.mesh, problems[names[0]] = meshconfig.parse_mesh(_data(by_name[names[0]]))
        if names[1] in by_name:
            self.injector, problems[names[1]] = meshconfig.parse_injector(_data(by_name[names[1]]))
        if names[2] in by_name:
            self.install = meshconfig.parse_values(_data(by_name[names[2]]))
        self.unreadable += [by_name[name].unreadable(problem) for name, problem in problems.items() if problem]
        self.configured = names[0] in by_name and names[1] in by_name

    # --- everything ---

    def keep(self, found: Sequence[_Object]) -> None:
        """Take over what a live snapshot would hold of these objects.

        Raises:
            ManifestError: where none of them is about the namespace of the run.
        """
        kept = [one for one in found if self._reads(one)]
        if not any(one.namespace == self.namespace or _is_namespace(one, self.namespace) for one in kept):
            others = sorted({one.namespace for one in found if one.namespace})
            where = f"; they are in {', '.join(others[:3])}{' ...' if len(others) > 3 else ''}" if others else ""
            raise ManifestError(f"none of its {len(found)} objects is in namespace {self.namespace}{where}")
        for one in kept:
            self.places.append(
                Place(kind=one.document.kind, namespace=one.namespace, name=one.name, file=one.document.file, line=one.document.line)
            )
            item = self._decoded(one, note=True)
            if item is not None:
                self.items[one.row.key].append(item)

    def _decoded(self, one: _Object, *, note: bool = False) -> Any:  # noqa: ANN401 - of the row's type
        """The object, redacted; None where it has not the shape of its kind, which is noted once."""
        item = decode.single(msgspec.json.encode(one.value), one.row) if one.name else one.unreadable("it has no name")
        if not isinstance(item, Unreadable):
            return item
        if note:
            self.unreadable.append(one.unreadable(item.problem) if one.name else item)
        return None

    def _reads(self, one: _Object) -> bool:
        """Whether a live snapshot would hold the object, too."""
        if one.row.key == "secrets":
            return f"{one.namespace}/{one.name}" in self.secrets
        if one.row.key == "configmaps":
            return one.namespace == self.home and one.name in configmap_names(self.choice.plane.revision if self.choice.plane else "")
        return one.row.scope is Scope.CLUSTER or one.namespace in self._namespaces

    @property
    def _namespaces(self) -> tuple[str, ...]:
        """The namespaces that a live snapshot looks at."""
        root = self.mesh.root_namespace if self.mesh else ""
        return tuple(dict.fromkeys(name for name in (self.namespace, self.home, *self.gateway_namespaces, root) if name))

    # --- what is not known ---

    def _refusals(self) -> Iterable[Refusal]:
        for key, row in RESOURCES.items():
            if key in _MADE:
                yield _refusal(row, _MADE[key])
            elif key == "namespaces":
                yield _refusal(row, _NO_OTHERS)
            elif key == "configmaps":
                if not self.configured:
                    yield _refusal(row, _NO_MESH, self.home)
            elif key == "secrets":
                yield from self._missing_secrets(row)
            elif key not in DECLARED:
                if not self.items[key]:
                    unseen = f"no {row.type.__name__} (the cluster may have some)"
                    yield _refusal(row, _NO_MESH if key == "mutatingwebhookconfigurations" else unseen)
            elif row.scope is Scope.NAMESPACE:
                yield from self._elsewhere(row)

    def _missing_secrets(self, row: Resource) -> Iterable[Refusal]:
        known = {f"{item.metadata.namespace}/{item.metadata.name}" for item in self.items["secrets"]}
        for name in self.secrets:
            if name not in known:
                yield _refusal(row, f"Secret {name} is not in them", name.partition("/")[0])

    def _elsewhere(self, row: Resource) -> Iterable[Refusal]:
        """Of the control plane's, the root and the gateways' namespaces only what is in the manifests is known."""
        held = {item.metadata.namespace for item in self.items[row.key]}
        for namespace in self._namespaces:
            if namespace != self.namespace and namespace not in held:
                yield _refusal(row, _NO_OTHERS, namespace)

    def snapshot(self) -> Snapshot:
        """Everything, sorted."""
        refusals = tuple(self._refusals())
        incomplete = {refusal.key for refusal in refusals}
        items: dict[str, Any] = {
            key: tuple(sorted(found, key=lambda item: (item.metadata.namespace, item.metadata.name))) for key, found in self.items.items()
        }
        deployments: tuple[objects.Deployment, ...] = items["deployments"]
        return Snapshot(
            namespace=self.namespace,
            source="manifests",
            taken=dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            istio_version=istio_version(deployments, self.choice.plane, self.injector),
            read=tuple(key for key in RESOURCES if key not in incomplete),
            refusals=refusals,
            unreadable=tuple(self.unreadable),
            control_planes=self.planes,
            control_plane=self.choice.plane,
            control_plane_problem=self.choice.problem,
            mesh=self.mesh,
            injector=self.injector,
            install=self.install,
            gateway_namespaces=self.gateway_namespaces,
            gateway_secrets=self.secrets,
            places=tuple(sorted(self.places, key=lambda place: (place.namespace, place.kind, place.name, place.file, place.line))),
            **items,
        )


def _is_namespace(one: _Object, name: str) -> bool:
    return one.row.key == "namespaces" and one.name == name


def _data(one: _Object) -> dict[str, str]:
    data = one.document.value.get("data")
    return {key: value for key, value in data.items() if isinstance(value, str)} if isinstance(data, dict) else {}


def _refusal(row: Resource, reason: str, namespace: str = "") -> Refusal:
    """That a kind is not known; no right is missing, so none is named."""
    return Refusal(key=row.key, verb="", resource=row.rbac_name, namespace=namespace, reason=f"{ONLY}: {reason}")
