"""Line 7.3.2: every workload has an identity of its own, and policies name identities that exist (checks.md 7.3.2)."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from pytest_meshready.cluster import objects as o
from pytest_meshready.cluster.snapshot import MeshConfig, Snapshot
from pytest_meshready.istio.identities import identities_validated
from pytest_meshready.results import Judgement, Level, Status
from tests.unit import builders as make
from tests.unit.test_policy import policy
from tests.unit.written import CHAIN
from tests.unit.written import shop as written_shop

NAMES = ("frontend", "orders", "ledger", "store")


def accounts(*names: str, namespace: str = make.NAMESPACE) -> tuple[o.ServiceAccount, ...]:
    return tuple(o.ServiceAccount(metadata=make.metadata(name, namespace)) for name in names)


def shop(text: str = CHAIN, **fields: Any) -> Snapshot:
    """The shop with a service account for each workload, and the gateway's."""
    gateway = make.gateway_pod(service_account_name="istio-ingressgateway")
    known = (*accounts(*NAMES, "default"), *accounts("istio-ingressgateway", namespace=make.ISTIO))
    pods = tuple(pod for name in NAMES for pod in make.pods_of(make.deployment(name)))
    return written_shop(text, **{"serviceaccounts": known, "pods": (*pods, gateway), **fields})


def found(judgement: Judgement) -> dict[tuple[str, str], Level]:
    return {(item.code, item.object.name): item.level for item in judgement.findings}


def naming(source: str, action: str = "ALLOW", **fields: Any) -> dict[tuple[str, str], Level]:
    """What is said of a policy whose only rule has this source."""
    return found(identities_validated(shop(policy(f"{{action: {action}, rules: [{{from: [{{source: {source}}}]}}]}}"), **fields)))


def test_the_shop_is_known_by_name() -> None:
    """Each workload has its account, and each principal in a policy is one of them."""
    judgement = identities_validated(shop())
    assert (judgement.status, judgement.examined, judgement.findings) == (Status.PASSED, 4, ())


def test_the_default_account_tells_nothing() -> None:
    """The fault default-service-account: the store runs as default."""
    store = make.deployment("store", service_account_name="default")
    pods = (*(pod for name in NAMES[:3] for pod in make.pods_of(make.deployment(name))), *make.pods_of(store))
    judgement = identities_validated(shop("", deployments=(store,), pods=pods))
    assert found(judgement) == {("MR732-DEFAULT-ACCOUNT", "store"): Level.WARNING}


def test_an_account_of_two_applications() -> None:
    """Two versions of one application may share an account, two applications may not."""
    versions = tuple(
        make.deployment(f"orders-{version}", labels={"app": "orders", "version": version}, service_account_name="orders")
        for version in ("v1", "v2")
    )
    assert found(identities_validated(shop("", deployments=versions, pods=()))) == {}
    shared = (make.deployment("orders"), make.deployment("ledger", service_account_name="orders"))
    assert found(identities_validated(shop("", deployments=shared, pods=()))) == {("MR732-SHARED-ACCOUNT", "orders"): Level.WARNING}


def test_an_account_that_does_not_exist() -> None:
    """No pod can start as an account that is not there."""
    ghost = (make.deployment("ledger", service_account_name="ghost"),)
    assert found(identities_validated(shop("", deployments=ghost, pods=()))) == {("MR732-NO-ACCOUNT", "ledger"): Level.ERROR}


@pytest.mark.parametrize(
    ("source", "code"),
    [
        ("{principals: [cluster.local/ns/payments/sa/oders]}", "MR732-NO-ACCOUNT"),
        ("{principals: [cluster.local/ns/payments/sa/default]}", "MR732-UNUSED-ACCOUNT"),
        ("{principals: [cluster.local/ns/paymnets/sa/orders]}", "MR732-NO-NAMESPACE"),
        ("{principals: [example.org/ns/payments/sa/orders]}", "MR732-TRUST-DOMAIN"),
        ("{principals: ['spiffe://cluster.local/ns/payments/sa/orders']}", "MR732-NO-IDENTITY"),
        ("{principals: [orders]}", "MR732-NO-IDENTITY"),
        ('{principals: ["*/ns/payments/sa/oders"]}', "MR732-NO-ACCOUNT"),
        ('{principals: ["cluster.local/ns/payments/sa/o*x"]}', "MR732-UNUSED-ACCOUNT"),
        ("{serviceAccounts: [oders]}", "MR732-NO-ACCOUNT"),
        ("{serviceAccounts: [payments/oders]}", "MR732-NO-ACCOUNT"),
        ("{namespaces: [paymnets]}", "MR732-NO-NAMESPACE"),
        ("{trustDomains: [example.org]}", "MR732-TRUST-DOMAIN"),
    ],
)
def test_names_of_nobody(source: str, code: str) -> None:
    """A caller that an ALLOW rule names wrongly is denied; where it denies or excludes, the rule only does nothing."""
    assert naming(source) == {(code, "p"): Level.ERROR}
    assert naming(source, action="DENY") == {(code, "p"): Level.WARNING}


@pytest.mark.parametrize(
    "source",
    [
        "{principals: [cluster.local/ns/payments/sa/orders]}",
        "{principals: ['*/ns/payments/sa/orders']}",
        "{principals: ['*/sa/orders']}",
        "{principals: ['cluster.local/ns/payments/*']}",
        '{principals: ["*"]}',
        "{serviceAccounts: [orders, payments/ledger]}",
        "{namespaces: [payments, 'pay*']}",
        "{trustDomains: [cluster.local]}",
        "{requestPrincipals: [anything]}",
    ],
)
def test_names_of_somebody(source: str) -> None:
    """Istio's own ways to write a name, whole and with a wildcard at one end."""
    assert naming(source) == {}


def test_trust_domain_aliases() -> None:
    """The mesh's own trust domain, its aliases, and cluster.local for whichever it is."""
    mesh = MeshConfig(root_namespace=make.ISTIO, trust_domain="new.example", trust_domain_aliases=("old.example",))
    for domain in ("new.example", "old.example", "cluster.local"):
        assert naming(f"{{principals: [{domain}/ns/payments/sa/orders]}}", mesh=mesh) == {}
    assert naming("{principals: [other.example/ns/payments/sa/orders]}", mesh=mesh) == {("MR732-TRUST-DOMAIN", "p"): Level.ERROR}


def test_conditions_name_callers_too() -> None:
    """``when`` with source.principal is another way to write a source."""
    text = policy("{rules: [{when: [{key: source.principal, values: [cluster.local/ns/payments/sa/oders]}]}]}")
    assert found(identities_validated(shop(text))) == {("MR732-NO-ACCOUNT", "p"): Level.ERROR}


def test_accounts_of_namespaces_that_are_not_read() -> None:
    """Whether another team's account exists is not known, only that its namespace does; that is told and passes."""
    others = (make.namespace(), make.namespace(make.ISTIO, labels={}), make.namespace("billing", labels={}))
    text = policy("{rules: [{from: [{source: {principals: [cluster.local/ns/billing/sa/clerk]}}]}]}")
    judgement = identities_validated(shop(text, namespaces=others))
    assert (judgement.status, [item.code for item in judgement.findings]) == (Status.PASSED, ["MR732-ELSEWHERE"])
    assert "billing/clerk" in judgement.findings[0].found


@pytest.mark.parametrize(("version", "told"), [("1.29.6", True), ("1.30.3", False), ("", False)])
def test_metacharacters_before_1_30(version: str, *, told: bool) -> None:
    """Before Istio 1.30 a dot in a suffix was a regular expression (istio issue 59992)."""
    known = (*accounts(*NAMES, "my.orders"),)
    text = policy("{rules: [{from: [{source: {principals: ['*/ns/payments/sa/my.orders']}}]}]}")
    workloads = (make.deployment("orders", service_account_name="my.orders"),)
    judgement = identities_validated(shop(text, istio_version=version, serviceaccounts=known, deployments=workloads, pods=()))
    assert found(judgement) == ({("MR732-UNESCAPED", "p"): Level.WARNING} if told else {})


def test_workloads_outside_of_the_mesh_have_no_identity() -> None:
    """A pod without a proxy shows no identity, whatever account it has."""
    store = make.deployment("store", service_account_name="default")
    judgement = identities_validated(shop("", deployments=(store,), pods=make.pods_of(store, meshed=False)))
    assert found(judgement) == {}


@pytest.mark.parametrize("key", ["serviceaccounts", "pods", "authorizationpolicies", "namespaces"])
def test_what_may_not_be_read(key: str) -> None:
    """Without one of these lists nothing is said to be missing."""
    refused = make.refusal(key, namespace="" if key == "namespaces" else make.NAMESPACE)
    whole = shop()
    left = tuple(item for item in getattr(whole, key) if item.metadata.namespace == make.ISTIO)
    judgement = identities_validated(msgspec.structs.replace(whole, **{key: left, "refusals": (refused,)}))
    assert judgement.status is Status.NOT_VERIFIED
    assert judgement.findings == () or all(item.level is Level.INFO for item in judgement.findings)
