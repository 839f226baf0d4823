"""The rights of a run: exactly those of its reads, and YAML that can be applied."""

from __future__ import annotations

from typing import Any

import yaml

from pytest_meshready.cluster.permissions import Right, rbac_yaml, rights
from pytest_meshready.cluster.resources import RESOURCES, configmap_names


def needed(*reads: str, root: str = "istio-system", revision: str = "", namespace: str = "payments") -> tuple[Right, ...]:
    return rights(reads, namespace=namespace, istio_namespace="istio-system", root_namespace=root, revision=revision)


def applied(found: tuple[Right, ...], namespace: str = "payments") -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(rbac_yaml(found, namespace=namespace)))


def test_what_every_run_needs() -> None:
    """The version, namespaces, webhooks and the named ConfigMaps, whatever was selected."""
    assert list(map(str, needed())) == [
        "get /version",
        "list namespaces",
        "list mutatingwebhookconfigurations.admissionregistration.k8s.io",
        f"get configmaps in istio-system: {', '.join(configmap_names(''))}",
    ]


def test_each_scope_is_read_where_it_belongs() -> None:
    """Cluster-wide, in the control plane's namespace, or in all three namespaces."""
    found = needed("nodes", "leases", "pods", "peerauthentications", root="mesh-root")
    assert [str(right) for right in found if "configmaps" not in str(right) and right not in needed()] == [
        "list nodes",
        "list pods in istio-system",
        "list leases.coordination.k8s.io in istio-system",
        "list peerauthentications.security.istio.io in istio-system",
        "list pods in mesh-root",
        "list peerauthentications.security.istio.io in mesh-root",
        "list pods in payments",
        "list peerauthentications.security.istio.io in payments",
    ]


def test_configmaps_are_got_by_the_names_of_the_revision() -> None:
    """ConfigMaps are never listed, and a revision has its own names."""
    (right,) = [right for right in needed(revision="1-31") if right.resource == "configmaps"]
    assert right.verb == "get"
    assert right.names[:3] == ("istio-1-31", "istio-sidecar-injector-1-31", "values-1-31")


def test_what_is_no_kind_and_what_lies_in_kube_system() -> None:
    """A path is a right on that path, and of Kubernetes' own namespace only one ConfigMap may be got, by its name."""
    found = [str(right) for right in needed("readyz", "autoscaler_status", "node_pods") if right not in needed()]
    assert found == ["get /readyz", "list pods", "get configmaps in kube-system: cluster-autoscaler-status"]


def test_only_reading() -> None:
    """No right changes anything, reads a Secret or opens a pod."""
    found = needed(*RESOURCES)
    assert {right.verb for right in found} == {"get", "list"}
    assert not {"secrets", "pods/exec", "pods/log", "pods/proxy"} & {right.resource for right in found}


def test_yaml_has_everything_to_be_applied() -> None:
    """A service account, a role for each namespace and one for the cluster, and what binds them to it."""
    documents = applied(needed(*RESOURCES))
    names = [(item["kind"], item["metadata"].get("namespace"), item["metadata"]["name"]) for item in documents]
    assert names == [
        ("ServiceAccount", "payments", "meshready"),
        ("ClusterRole", None, "meshready-payments"),
        ("ClusterRoleBinding", None, "meshready-payments"),
        ("Role", "istio-system", "meshready-payments"),
        ("RoleBinding", "istio-system", "meshready-payments"),
        ("Role", "kube-system", "meshready-payments"),
        ("RoleBinding", "kube-system", "meshready-payments"),
        ("Role", "payments", "meshready-payments"),
        ("RoleBinding", "payments", "meshready-payments"),
    ]
    assert all(item["metadata"]["labels"] == {"app.kubernetes.io/name": "pytest-meshready"} for item in documents)
    for binding in documents[2::2]:
        role = documents[documents.index(binding) - 1]
        assert binding["roleRef"] == {"apiGroup": "rbac.authorization.k8s.io", "kind": role["kind"], "name": role["metadata"]["name"]}
        assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "meshready", "namespace": "payments"}]


def test_yaml_grants_exactly_the_rights() -> None:
    """Read back, the rules are the rights, no more and no less."""
    found = needed(*RESOURCES, root="mesh-root")
    granted = {
        Right(
            namespace=role["metadata"].get("namespace", ""),
            group=rule.get("apiGroups", [""])[0],
            resource=resource,
            verb=verb,
            names=tuple(rule.get("resourceNames", ())),
        )
        for role in applied(found)
        if role["kind"] in ("Role", "ClusterRole")
        for rule in role["rules"]
        for resource in (*rule.get("resources", ()), *rule.get("nonResourceURLs", ()))
        for verb in rule["verbs"]
    }
    assert granted == set(found)


def test_yaml_is_plain_and_the_same_every_time() -> None:
    """No anchors, no aliases, a head that says how to use it, and no dependence on the order of the reads."""
    text = rbac_yaml(needed(*RESOURCES), namespace="payments")
    assert text == rbac_yaml(needed(*reversed(RESOURCES)), namespace="payments")
    assert "&" not in text.split("---", 1)[1]
    assert text.startswith("# What pytest --mesh-namespace=payments reads, and nothing else. Apply it:  kubectl apply -f FILE\n")
    assert "kubectl create token meshready -n payments" in text


def test_the_control_planes_own_namespace() -> None:
    """A run on the control plane's namespace needs each right once."""
    found = needed("pods", namespace="istio-system")
    assert [str(right) for right in found].count("list pods in istio-system") == 1
    assert [item["kind"] for item in applied(found, "istio-system")] == [
        "ServiceAccount",
        "ClusterRole",
        "ClusterRoleBinding",
        "Role",
        "RoleBinding",
    ]
