"""A snapshot of a live cluster: everything that the selected lines read, once, in parallel, and what could not be read.

First the version, the namespaces and the webhooks: they tell whether the namespace exists and which control plane serves
it. Then everything else at once. Nothing is written, nothing is watched, and only kinds of
`pytest_meshready.cluster.resources` are read.
"""

from __future__ import annotations

import datetime as dt
import difflib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from pytest_meshready.cluster import decode, locate, meshconfig, objects
from pytest_meshready.cluster.client import Cluster
from pytest_meshready.cluster.reader import Ask, Reader, Result
from pytest_meshready.cluster.resources import ALWAYS, OF_DECLARED, RESOURCES, SYSTEM_NAMESPACE, Scope, configmap_names
from pytest_meshready.cluster.snapshot import ControlPlane, InjectorConfig, InstallValues, MeshConfig, Refusal, Snapshot, Unreadable
from pytest_meshready.waiting import Deadline, Deadlines

#: Where Istio is looked for when webhooks could not be read and no option says where.
USUAL_NAMESPACE = "istio-system"

_VERSION = re.compile(r"\d+\.\d+[\w.+-]*")
_IMAGE_VARIANT = re.compile(r"-(distroless|debug)$")


class NamespaceMissing(Exception):  # noqa: N818 - it reads as what it is
    """The namespace of the run does not exist; the message is one sentence that names similar ones."""


def take(
    cluster: Cluster,
    *,
    namespace: str,
    reads: frozenset[str],
    istio_namespace: str | None = None,
    revision: str | None = None,
    gateway_namespaces: Sequence[str] = (),
    declared_namespaces: Sequence[str] = (),
    secrets: Sequence[str] = (),
    deadlines: Deadlines,
    progress: Callable[[str], None] | None = None,
) -> Snapshot:
    """What the cluster holds now of the kinds in ``reads`` and of those that every run needs (`ALWAYS`).

    It never fails for lack of rights, time or an answer: what could not be read is in `Snapshot.refusals`.

    Args:
        cluster: where to read.
        namespace: the namespace of the run.
        reads: keys of `pytest_meshready.cluster.resources`.
        istio_namespace: ``--mesh-istio-namespace``, None to find it.
        revision: ``--mesh-revision``, a revision or a tag, None to find it.
        gateway_namespaces: further namespaces to read as the run's own is read, because gateways run there.
        declared_namespaces: the namespaces that the team declares for the mesh; of these `OF_DECLARED` is read.
        secrets: the Secrets to read the public facts of, as ``NAMESPACE/NAME``; no other is touched.
        deadlines: ``snapshot`` bounds the whole, ``request`` each request.
        progress: told what is being waited for, from several threads.

    Raises:
        NamespaceMissing: where the namespace does not exist.
    """
    with decode.gc_paused():
        given = _Given(gateway_namespaces=tuple(gateway_namespaces), declared_namespaces=tuple(declared_namespaces), secrets=tuple(secrets))
        taking = _Taking(Reader(cluster, Deadline(deadlines.snapshot), progress), namespace, given)
        planes, choice = taking.find(istio_namespace or "", revision or "")
        home = (choice.plane and choice.plane.namespace) or istio_namespace or USUAL_NAMESPACE
        taking.rest(reads | set(ALWAYS), home, choice, revision or "")
        return taking.snapshot(cluster.context, planes, choice)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Given:
    """What the settings name beside the namespace of the run."""

    gateway_namespaces: tuple[str, ...] = ()
    declared_namespaces: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()


class _Taking:
    """What has been read so far."""

    def __init__(self, reader: Reader, namespace: str, given: _Given) -> None:
        self._reader = reader
        self._namespace = namespace
        self._given = given
        self._items: dict[str, list[Any]] = {key: [] for key in RESOURCES}
        self._asked: set[str] = set()
        self._refusals: list[Refusal] = []
        self._unreadable: list[Unreadable] = []
        self._taken = self._kubernetes = ""
        self._mesh: MeshConfig | None = None
        self._injector: InjectorConfig | None = None
        self._install: InstallValues | None = None

    def find(self, istio_namespace: str, revision: str) -> tuple[tuple[ControlPlane, ...], locate.Choice]:
        """Look for the namespace and for its control plane."""
        webhooks = RESOURCES["mutatingwebhookconfigurations"]
        version, spaces, hooks = self._reader.read([Ask(path="/version"), Ask(row=RESOURCES["namespaces"]), Ask(row=webhooks)])
        self._keep([version, spaces, hooks])
        self._kubernetes = _git_version(version.body)
        own = self._own_namespace(spaces)
        planes = locate.control_planes(self._items[webhooks.key])
        choice = locate.choose(
            planes,
            namespace=self._namespace,
            labels=locate.labels_of(own),
            istio_namespace=istio_namespace,
            revision=revision,
            looked_at=len(self._items[webhooks.key]),
            unread=hooks.refusal,
        )
        return planes, choice

    def _own_namespace(self, spaces: Result) -> objects.Namespace | None:
        """The namespace of the run, asked for by itself where namespaces may not be listed.

        Raises:
            NamespaceMissing: where it does not exist.
        """
        if spaces.refusal is None:
            names = [item.metadata.name for item in self._items["namespaces"]]
            if self._namespace not in names and not any(item.name == self._namespace for item in spaces.unreadable):
                raise NamespaceMissing(_no_such_namespace(self._namespace, names))
        else:
            (alone,) = self._reader.read([Ask(row=RESOURCES["namespaces"], name=self._namespace)])
            if alone.missing:
                raise NamespaceMissing(_no_such_namespace(self._namespace, ()))
            if alone.refusal is None:  # else the refused list is what has to be permitted
                self._keep([alone])
        return next((item for item in self._items["namespaces"] if item.metadata.name == self._namespace), None)

    def rest(self, reads: Iterable[str], home: str, choice: locate.Choice, revision: str) -> None:
        """Read everything else.

        ConfigMaps come first: they say which namespace holds the policies of the whole mesh, the only one that may have to
        be read afterwards.
        """
        rows = [row for row in RESOURCES.values() if row.key in reads and row.key not in self._asked]
        where = tuple(dict.fromkeys((self._namespace, home, *self._given.gateway_namespaces)))
        asks = [ask for row in rows if row.scope not in (Scope.NAMED, Scope.GIVEN) for ask in _asks(row.key, where, home)]
        others = [name for name in dict.fromkeys(self._given.declared_namespaces) if name not in where]
        asks += [ask for row in rows if row.key in OF_DECLARED for ask in _asks(row.key, others, home)]
        asks += [ask for row in rows if row.scope is Scope.GIVEN for ask in _given_asks(row.key, self._given.secrets)]
        named: list[Ask] = []
        if choice.plane is None and choice.problem and not self._refused("mutatingwebhookconfigurations"):
            # which ConfigMap is the mesh's is not known: none is better than another mesh's
            self._asked.add("configmaps")
            self._refusals.append(Ask(row=RESOURCES["configmaps"], namespace=home, name="istio").refused(choice.problem))
        else:
            chosen = choice.plane.revision if choice.plane else revision
            named = [Ask(row=RESOURCES["configmaps"], namespace=home, name=name) for name in configmap_names(chosen)]
        results = self._reader.read([*named, *asks])
        self._keep_config_maps(results[: len(named)])
        self._keep(results[len(named) :])
        root = self._mesh.root_namespace if self._mesh else ""
        if root and root not in where:
            left = [row for row in rows if row.scope is Scope.NAMESPACE and not (row.key in OF_DECLARED and root in others)]
            self._keep(self._reader.read([ask for row in left for ask in _asks(row.key, (root,), home)]))

    def _keep(self, results: Sequence[Result]) -> None:
        for result in results:
            self._taken = self._taken or result.date
            self._asked.add(result.ask.key)
            self._items.get(result.ask.key, []).extend(result.items)
            self._unreadable.extend(result.unreadable)
            refusal = result.refusal
            if refusal is not None and refusal.absent:
                refusal = msgspec.structs.replace(refusal, namespace="")
            if refusal is not None and refusal not in self._refusals:
                self._refusals.append(refusal)

    def _keep_config_maps(self, results: Sequence[Result]) -> None:
        """Parse Istio's configuration; of the ConfigMaps themselves only the metadata stays."""
        self._keep([result for result in results if result.refusal is None])
        self._asked.update(result.ask.key for result in results)
        self._refusals.extend(_merged([result for result in results if result.refusal is not None]))
        for position, result in enumerate(results):
            if not result.body:
                continue
            data = msgspec.json.decode(result.body, type=_Data).data or {}
            problem = ""
            if position == 0:  # the order of resources.REVISIONED_CONFIGMAPS
                self._mesh, problem = meshconfig.parse_mesh(data)
            elif position == 1:
                self._injector, problem = meshconfig.parse_injector(data)
            elif position == 2:
                self._install = meshconfig.parse_values(data)
            if problem:
                self._unreadable.append(Unreadable(key="configmaps", namespace=result.ask.namespace, name=result.ask.name, problem=problem))

    def _refused(self, key: str) -> bool:
        return any(refusal.key == key for refusal in self._refusals)

    def snapshot(self, context: str, planes: tuple[ControlPlane, ...], choice: locate.Choice) -> Snapshot:
        """Everything, sorted."""
        incomplete = {refusal.key for refusal in self._refusals if not refusal.absent}
        items: dict[str, Any] = {
            key: tuple(sorted(found, key=lambda item: (item.metadata.namespace, item.metadata.name))) for key, found in self._items.items()
        }
        system = next((item for item in self._items["namespaces"] if item.metadata.name == "kube-system"), None)
        return Snapshot(
            namespace=self._namespace,
            taken=self._taken or dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            context=context,
            cluster_uid=system.metadata.uid if system else "",
            kubernetes_version=self._kubernetes,
            istio_version=istio_version(items["deployments"], choice.plane, self._injector),
            read=tuple(key for key in RESOURCES if key in self._asked and key not in incomplete),
            refusals=tuple(self._refusals),
            unreadable=tuple(self._unreadable),
            control_planes=planes,
            control_plane=choice.plane,
            control_plane_problem=choice.problem,
            mesh=self._mesh,
            injector=self._injector,
            gateway_namespaces=self._given.gateway_namespaces,
            declared_namespaces=self._given.declared_namespaces,
            gateway_secrets=self._given.secrets if "secrets" in self._asked else (),
            install=self._install,
            **items,
        )


class _Data(msgspec.Struct):
    data: dict[str, str] | None = None


def _asks(key: str, namespaces: Iterable[str], home: str) -> list[Ask]:
    """The requests for one kind: once for the cluster, by name, in the control plane's namespace, or in each of these namespaces."""
    row = RESOURCES[key]
    if row.scope in (Scope.CLUSTER, Scope.PATH):
        return [Ask(row=row)]
    if row.scope is Scope.TRUST:
        own = next(iter(namespaces))
        return [Ask(row=row, namespace=namespace, name=name) for namespace in dict.fromkeys((own, home)) for name in row.names]
    if row.scope is Scope.SYSTEM:
        return [Ask(row=row, namespace=SYSTEM_NAMESPACE, name=name) for name in row.names]
    if row.scope is Scope.CONTROL_PLANE:
        return [Ask(row=row, namespace=home)]
    return [Ask(row=row, namespace=namespace) for namespace in namespaces]


def _given_asks(key: str, names: Iterable[str]) -> list[Ask]:
    """One request for each ``NAMESPACE/NAME``."""
    pairs = [name.partition("/") for name in dict.fromkeys(names)]
    return [Ask(row=RESOURCES[key], namespace=namespace, name=name) for namespace, _, name in pairs]


def _merged(refused: Sequence[Result]) -> Iterable[Refusal]:
    """Several ConfigMaps that were refused alike as one refusal, with the first one's reason and the names of the others."""
    alike: dict[int, list[Result]] = {}
    for result in refused:
        alike.setdefault(result.refusal.status if result.refusal else 0, []).append(result)
    for results in alike.values():
        first = results[0].refusal
        assert first is not None
        others = ", ".join(result.ask.name for result in results if result.refusal and result.refusal.reason != first.reason)
        yield msgspec.structs.replace(first, reason=f"{first.reason}; likewise {others}") if others else first


def _no_such_namespace(namespace: str, names: Sequence[str]) -> str:
    close = difflib.get_close_matches(namespace, names, n=3)
    meant = f"; did you mean {' or '.join(close)}?" if close else ""
    return f"there is no such namespace{meant} (see: kubectl get namespaces)"


def _git_version(body: bytes) -> str:
    """``gitVersion`` of ``/version``, empty where there is none."""
    try:
        return msgspec.json.decode(body, type=_Version).git_version if body else ""
    except msgspec.MsgspecError:
        return ""


class _Version(msgspec.Struct, rename="camel"):
    git_version: str = ""


def istio_version(deployments: Iterable[objects.Deployment], plane: ControlPlane | None, injector: InjectorConfig | None) -> str:
    """Istio's version: the tag of istiod's image, else the one that the injector gives to proxies; empty if neither is one.

    An image may be named by digest, or have a tag such as ``latest``.
    """
    if plane is None:
        return ""
    images = [
        container.image
        for item in deployments
        if item.metadata.namespace == plane.namespace and item.metadata.labels.get("istio.io/rev", locate.DEFAULT) == plane.revision
        for container in item.spec.template.spec.containers
        if container.name == "discovery"
    ]
    tags = [image.rpartition("/")[2].partition("@")[0].partition(":")[2] for image in images] + ([injector.tag] if injector else [])
    return next((_IMAGE_VARIANT.sub("", tag) for tag in tags if _VERSION.fullmatch(tag)), "")
