"""Tests of line 1.1.4: the namespaces of the mesh are declared."""

from __future__ import annotations

import pytest

from pytest_meshready.cluster.snapshot import Snapshot
from pytest_meshready.istio.namespaces import mesh_label, namespaces_defined
from pytest_meshready.results import Status
from tests.unit import builders as b

SYSTEM = (b.namespace("kube-system", labels={}), b.namespace(b.ISTIO, labels={}), b.namespace("default", labels={}))


def snapshot(*more: object, **fields: object) -> Snapshot:
    """Payments labelled, the system's namespaces not, and what is given."""
    return b.snapshot(namespaces=(*SYSTEM, b.namespace(), *more), **fields)


def codes(snapshot: Snapshot, declared: tuple[str, ...] | None) -> set[tuple[str, str]]:
    return {(finding.code, finding.object.name) for finding in namespaces_defined(snapshot, declared).findings}


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ({"istio-injection": "enabled"}, "istio-injection=enabled"),
        ({"istio.io/rev": "canary"}, "istio.io/rev=canary"),
        ({"istio-injection": "enabled", "istio.io/rev": "canary"}, "istio-injection=enabled"),
        ({"istio-injection": "disabled", "istio.io/rev": "canary"}, ""),
        ({"istio.io/dataplane-mode": "ambient"}, "istio.io/dataplane-mode=ambient"),
        ({"istio.io/dataplane-mode": "none"}, ""),
        ({"istio.io/rev": ""}, ""),
        ({"team": "payments"}, ""),
    ],
)
def test_the_label_that_counts(labels: dict[str, str], expected: str) -> None:
    """istio-injection decides alone wherever it is set."""
    assert mesh_label(labels) == expected


def test_the_namespace_of_the_run_is_the_declaration() -> None:
    """Without a list the run's namespace counts; the others are listed and fail nothing."""
    judgement = namespaces_defined(snapshot(b.namespace("orders")), None)
    assert judgement.status is Status.PASSED
    assert judgement.summary == "in the mesh as declared: payments; also in the mesh: orders"


def test_equal_sets_pass() -> None:
    """What is declared is labelled, and the other way round."""
    judgement = namespaces_defined(snapshot(b.namespace("orders", labels={"istio.io/rev": "default"})), ("payments", "orders"))
    assert judgement.status is Status.PASSED
    assert judgement.examined == 5


def test_labelled_but_undeclared_fails() -> None:
    """A namespace in the mesh that nobody declared is named."""
    judgement = namespaces_defined(snapshot(b.namespace("default", labels={"istio-injection": "enabled"})), ("payments",))
    assert judgement.status is Status.FAILED
    assert [(f.code, f.object.name) for f in judgement.findings] == [("MR114-UNDECLARED", "default")]


def test_declared_but_not_labelled_warns() -> None:
    """Before the rollout a declared namespace carries no label yet."""
    judgement = namespaces_defined(b.snapshot(namespaces=(*SYSTEM, b.namespace(labels={}))), None)
    assert judgement.status is Status.WARNED
    assert judgement.findings[0].code == "MR114-NOT-LABELLED"
    assert "kubectl label namespace payments istio-injection=enabled" in judgement.findings[0].fix


def test_declared_but_missing_warns() -> None:
    """A declared name without a namespace is a slip in the list."""
    assert codes(snapshot(), ("payments", "paiments")) == {("MR114-MISSING", "paiments")}


def test_the_runs_namespace_must_be_declared() -> None:
    """To accept a namespace that the team's own list leaves out is a contradiction."""
    assert codes(snapshot(), ("orders",)) == {("MR114-MISSING", "orders"), ("MR114-UNDECLARED", "payments")}
    unlabelled = b.snapshot(namespaces=(*SYSTEM, b.namespace(labels={}), b.namespace("orders")))
    assert codes(unlabelled, ("orders",)) == {("MR114-UNDECLARED", "payments")}


def test_an_empty_list_declares_nothing() -> None:
    """A list that is there and empty is a declaration too."""
    assert codes(snapshot(), ()) == {("MR114-UNDECLARED", "payments")}


def test_pod_level_injection_counts_as_meshed() -> None:
    """Pods with sidecars in a namespace without a label are in the mesh; our own probes and ended pods prove nothing."""
    bare = (*SYSTEM, b.namespace(labels={}))
    meshed = b.snapshot(namespaces=bare, pods=(b.meshed_pod(),))
    assert namespaces_defined(meshed, None).status is Status.PASSED
    ours = b.snapshot(namespaces=bare, pods=(b.meshed_pod(labels={"meshready.io/run": "r1"}), b.meshed_pod("old", phase="Failed")))
    assert namespaces_defined(ours, None).status is Status.WARNED


def test_pods_with_a_sidecar_in_a_namespace_that_nobody_declared() -> None:
    """Injected by labels of their own, they are in the mesh; gateways, declared namespaces and a run without a list are not asked."""
    orders = b.namespace("orders", labels={})
    meshed = b.node_pod(b.meshed_pod("orders-a", namespace="orders"))
    gateway = b.node_pod(b.gateway_pod(namespace="edge"))
    seen = snapshot(orders, b.namespace("edge", labels={}), node_pods=(meshed, gateway))
    assert codes(seen, ("payments",)) == {("MR114-PODS-UNDECLARED", "orders")}
    assert codes(seen, ("payments", "orders")) == {("MR114-NOT-LABELLED", "orders")}
    assert codes(seen, None) == set()
    refused = snapshot(read=tuple(key for key in seen.read if key != "node_pods"), refusals=(b.refusal("node_pods", namespace=""),))
    assert namespaces_defined(refused, ("payments",)).status is Status.NOT_VERIFIED


def test_refused_namespaces_are_not_verified() -> None:
    """Without the list of namespaces nothing can be said, and the missing right is named."""
    judgement = namespaces_defined(b.snapshot(namespaces=(), refusals=(b.refusal("namespaces", namespace=""),)), None)
    assert judgement.status is Status.NOT_VERIFIED
    assert [(u.verb, u.resource) for u in judgement.unknown] == [("list", "namespaces")]


def test_refused_pods_matter_only_without_a_label() -> None:
    """The label answers alone; without it pods could be in the mesh by themselves, which is then unknown."""
    refused = (b.refusal("pods"),)
    assert namespaces_defined(snapshot(refusals=refused), None).status is Status.PASSED
    assert namespaces_defined(b.snapshot(namespaces=(b.namespace(labels={}),), refusals=refused), None).status is Status.NOT_VERIFIED
    elsewhere = (b.refusal("pods", namespace=b.ISTIO),)
    assert namespaces_defined(b.snapshot(namespaces=(b.namespace(labels={}),), refusals=elsewhere), None).status is Status.WARNED


def test_an_empty_list_of_namespaces_does_not_pass() -> None:
    """A cluster without namespaces is no answer."""
    assert namespaces_defined(b.snapshot(namespaces=()), None).status is not Status.PASSED
