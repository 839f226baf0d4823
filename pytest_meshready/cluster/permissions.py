"""The rights that a run needs, exactly: derived from the same rows that `pytest_meshready.cluster.live` reads.

Nothing here asks the cluster. Every request of a run is one of these rights, and every right is used by one: a test
compares them with the requests that arrive at a server.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pytest_meshready.cluster.resources import ALWAYS, OF_DECLARED, RESOURCES, SYSTEM_NAMESPACE, Resource, Scope, configmap_names

#: The service account that the YAML makes, in the namespace of the run.
ACCOUNT = "meshready"

_RBAC = "rbac.authorization.k8s.io"
_LABELS = {"app.kubernetes.io/name": "pytest-meshready"}


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Right:
    """One right. ``namespace`` is empty for the whole cluster; ``resource`` is a path, such as ``/version``, where no kind is meant.

    ``names`` limits it to objects of these names; empty: all.
    """

    namespace: str = ""
    group: str = ""
    resource: str
    verb: str
    names: tuple[str, ...] = ()

    def __str__(self) -> str:
        """``list pods in payments``."""
        resource = f"{self.resource}.{self.group}" if self.group else self.resource
        where = f" in {self.namespace}" if self.namespace else ""
        names = f": {', '.join(self.names)}" if self.names else ""
        return f"{self.verb} {resource}{where}{names}"


def rights(
    reads: Iterable[str],
    *,
    namespace: str,
    istio_namespace: str,
    root_namespace: str,
    revision: str,
    gateway_namespaces: Sequence[str] = (),
    declared_namespaces: Sequence[str] = (),
    secrets: Sequence[str] = (),
) -> tuple[Right, ...]:
    """What a run with these reads may have to do, sorted: first the whole cluster, then by namespace.

    Namespaces are listed; the single ``get`` that a run falls back to where it may not list them is not among these
    rights, because with these rights it does not happen.

    Args:
        reads: keys of `pytest_meshready.cluster.resources`; those of every run are added.
        namespace: the namespace of the run.
        istio_namespace: the control plane's.
        root_namespace: where policy for the whole mesh lives; usually the control plane's.
        revision: of the control plane; empty or ``default`` for the default one.
        gateway_namespaces: further namespaces that are read as the run's own is, because gateways run there.
        declared_namespaces: the namespaces that the team declares for the mesh; of these `OF_DECLARED` is read.
        secrets: the Secrets whose public facts are read, as ``NAMESPACE/NAME``.
    """
    wanted = {Right(resource="/version", verb="get")}
    for key in {*reads, *ALWAYS}:
        row = RESOURCES[key]
        if row.scope is Scope.CLUSTER:
            wanted.add(_list(row, ""))
        elif row.scope is Scope.CONTROL_PLANE:
            wanted.add(_list(row, istio_namespace))
        elif row.scope is Scope.NAMED:
            wanted.add(Right(namespace=istio_namespace, resource=row.plural, verb="get", names=configmap_names(revision)))
        elif row.scope is Scope.SYSTEM:
            wanted.add(Right(namespace=SYSTEM_NAMESPACE, resource=row.plural, verb="get", names=row.names))
        elif row.scope is Scope.PATH:
            wanted.add(Right(resource=row.plural, verb="get"))
        elif row.scope is Scope.TRUST:
            wanted.update(_get(row, where, row.names) for where in (namespace, istio_namespace))
        elif row.scope is Scope.GIVEN:
            wanted.update(_get(row, where, names) for where, names in _by_namespace(secrets).items())
        else:
            more = declared_namespaces if key in OF_DECLARED else ()
            wanted.update(_list(row, where) for where in (namespace, istio_namespace, root_namespace, *gateway_namespaces, *more))
    return tuple(sorted(wanted))


def _list(row: Resource, namespace: str) -> Right:
    return Right(namespace=namespace, group=row.group, resource=row.plural, verb="list")


def _get(row: Resource, namespace: str, names: tuple[str, ...]) -> Right:
    return Right(namespace=namespace, group=row.group, resource=row.plural, verb="get", names=names)


def _by_namespace(secrets: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Names of the form ``NAMESPACE/NAME`` by their namespace."""
    found: dict[str, set[str]] = {}
    for word in secrets:
        namespace, _, name = word.partition("/")
        found.setdefault(namespace, set()).add(name)
    return {namespace: tuple(sorted(names)) for namespace, names in found.items()}


def rbac_yaml(rights: Sequence[Right], *, namespace: str) -> str:
    """These rights for `kubectl apply`: a service account in the namespace of the run, and what binds the rights to it.

    The names contain the namespace of the run, so that two runs do not overwrite each other's rights in the control
    plane's namespace.
    """
    import yaml

    name = f"{ACCOUNT}-{namespace}"
    documents: list[dict[str, Any]] = [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": ACCOUNT, "namespace": namespace, "labels": _LABELS}}
    ]
    for where in sorted({right.namespace for right in rights}):
        documents += _bound(name, where, [right for right in rights if right.namespace == where], namespace)
    head = (
        f"# What pytest --mesh-namespace={namespace} reads, and nothing else. Apply it:  kubectl apply -f FILE\n"
        f"# A token for the service account:  kubectl create token {ACCOUNT} -n {namespace}\n"
        "# To give the rights to somebody else, change the subjects.\n"
    )
    return head + yaml.safe_dump_all(_copied(documents), sort_keys=False, explicit_start=True, width=120)


def _copied(value: Any) -> Any:  # noqa: ANN401 - YAML of any kind
    """The same data without shared parts, which YAML would write as anchors."""
    if isinstance(value, dict):
        return {key: _copied(inner) for key, inner in value.items()}
    return [_copied(inner) for inner in value] if isinstance(value, list) else value


def _bound(name: str, namespace: str, rights: Sequence[Right], account_namespace: str) -> list[dict[str, Any]]:
    """A Role (a ClusterRole for the whole cluster) and its binding."""
    kind = "Role" if namespace else "ClusterRole"
    metadata = {"name": name, **({"namespace": namespace} if namespace else {}), "labels": _LABELS}
    role = {"apiVersion": f"{_RBAC}/v1", "kind": kind, "metadata": metadata, "rules": _rules(rights)}
    binding = {
        "apiVersion": f"{_RBAC}/v1",
        "kind": f"{kind}Binding",
        "metadata": metadata,
        "roleRef": {"apiGroup": _RBAC, "kind": kind, "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": account_namespace}],
    }
    return [role, binding]


def _rules(rights: Sequence[Right]) -> list[dict[str, Any]]:
    """One rule for each group, verb and set of names."""
    grouped: dict[tuple[str, str, tuple[str, ...]], list[str]] = {}
    paths = [right.resource for right in rights if right.resource.startswith("/")]
    for right in rights:
        if not right.resource.startswith("/"):
            grouped.setdefault((right.group, right.verb, right.names), []).append(right.resource)
    rules: list[dict[str, Any]] = [
        {"apiGroups": [group], "resources": sorted(resources), **({"resourceNames": list(names)} if names else {}), "verbs": [verb]}
        for (group, verb, names), resources in sorted(grouped.items())
    ]
    return rules + ([{"nonResourceURLs": sorted(paths), "verbs": ["get"]}] if paths else [])
