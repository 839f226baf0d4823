"""Lines 7.3.1 and 11.1.2: not denied by default too early, and policies for every workload in the end."""

from __future__ import annotations

import pytest

from pytest_meshready.cluster import objects as o
from pytest_meshready.cluster.snapshot import MeshConfig, Snapshot
from pytest_meshready.istio.authorization import default_deny_absent, policies_applied
from pytest_meshready.results import Judgement, Level, Status
from tests.unit import builders as make
from tests.unit.test_policy import policy
from tests.unit.written import CHAIN, shop

STORE = policy("{selector: {matchLabels: {app: store}}, rules: [{from: [{source: {serviceAccounts: [orders]}}]}]}", name="store")
NOTHING = policy("{}", name="allow-nothing")
WHOLE = f"{CHAIN}---\n{STORE}---\n{NOTHING}"


def codes(judgement: Judgement) -> dict[tuple[str, str], Level]:
    """The findings as code and object."""
    return {(item.code, f"{item.object.kind}/{item.object.name}"): item.level for item in judgement.findings}


def applied(*texts: str, **fields: object) -> dict[tuple[str, str], Level]:
    """What 11.1.2 finds in the whole shop with further policies."""
    return codes(policies_applied(shop("---\n".join((WHOLE, *texts)), **fields)))


# --- 11.1.2 ---


def test_the_shop_is_protected() -> None:
    """A policy for each workload and deny by default: it passes, and shows which policy reaches which workload."""
    judgement = policies_applied(shop(WHOLE))
    assert (judgement.status, judgement.examined, judgement.findings) == (Status.PASSED, 4, ())
    assert {"workload": "payments/Deployment/store", "allow": "payments/store, payments/allow-nothing"} in judgement.evidence[0].data


def test_a_workload_without_a_policy() -> None:
    """The fault no-authorization: neither deny by default nor a policy for the ledger."""
    without = "---\n".join(part for part in CHAIN.split("---\n") if "name: ledger" not in part)
    found = codes(policies_applied(shop(f"{without}---\n{STORE}")))
    assert found == {
        ("MR1112-NO-POLICY", "Deployment/ledger"): Level.ERROR,
        ("MR1112-OPEN-BY-DEFAULT", "Namespace/payments"): Level.WARNING,
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (policy("{action: DENY, rules: [{from: [{source: {namespaces: [legacy]}}]}]}"), "only DENY policies reach it (p)"),
        (policy("{}", annotations={"istio.io/dry-run": "true"}), "AuthorizationPolicy payments/p would, but only runs dry"),
    ],
)
def test_denying_or_running_dry_is_not_enough(text: str, said: str) -> None:
    """DENY lets everybody else in, a dry run lets everybody in."""
    judgement = policies_applied(shop(text))
    assert judgement.status is Status.FAILED
    assert said in next(item.found for item in judgement.findings if item.code == "MR1112-NO-POLICY")


def test_custom_policies_count() -> None:
    """A service that is asked decides who may call; an unknown one denies everybody, one that fails open lets all in."""
    text = policy("{action: CUSTOM, provider: {name: opa}, rules: [{}]}")
    known = MeshConfig(root_namespace=make.ISTIO, extension_providers=({"name": "opa", "envoyExtAuthzGrpc": {"failOpen": True}},))
    assert codes(policies_applied(shop(text, mesh=known))) == {
        ("MR1112-FAIL-OPEN", "AuthorizationPolicy/p"): Level.WARNING,
        ("MR1112-OPEN-BY-DEFAULT", "Namespace/payments"): Level.WARNING,
    }
    assert codes(policies_applied(shop(text)))["MR1112-UNKNOWN-PROVIDER", "AuthorizationPolicy/p"] is Level.ERROR


@pytest.mark.parametrize(
    ("rule", "code", "level"),
    [
        ("{}", "MR1112-ALLOWS-ALL", Level.ERROR),
        ("{to: [{operation: {methods: [GET]}}]}", "MR1112-ANYBODY", Level.WARNING),
        ('{from: [{source: {principals: ["*"]}}]}', "MR1112-ANY-IDENTITY", Level.WARNING),
        ("{from: [{source: {notNamespaces: [legacy]}}]}", "MR1112-ALL-BUT", Level.WARNING),
    ],
)
def test_rules_that_admit_too_many(rule: str, code: str, level: Level) -> None:
    """A rule of an ALLOW policy that names nobody."""
    assert applied(policy(f"{{selector: {{matchLabels: {{app: orders}}}}, rules: [{rule}]}}")) == {(code, "AuthorizationPolicy/p"): level}


def test_a_deny_rule_may_be_wide() -> None:
    """DENY rules are not judged by whom they are about."""
    assert applied(policy("{action: DENY, rules: [{to: [{operation: {paths: [/admin]}}]}], selector: {matchLabels: {app: orders}}}")) == {}


def test_the_ports_of_the_pods_are_meant() -> None:
    """A rule about the Service's port, where the pods listen on another one, matches nothing and says which is meant."""
    services = (make.service("orders", ports=(("http", 80),), target_port=8080),)
    text = policy(
        "{selector: {matchLabels: {app: orders}}, rules: [{from: [{source: {serviceAccounts: [a]}}], to: [{operation: {ports: ['80']}}]}]}"
    )
    (finding,) = [
        item for item in policies_applied(shop(f"{WHOLE}---\n{text}", services=services)).findings if item.code == "MR1112-NO-SUCH-PORT"
    ]
    assert (finding.level, finding.object.name) == (Level.WARNING, "p")
    assert "80 is the Service's, the pods' is 8080" in finding.found


def test_http_rules_on_tcp_ports() -> None:
    """An ALLOW rule about HTTP never matches on a port that is declared as TCP; a DENY rule matches more than it says."""
    allow = (
        "{selector: {matchLabels: {app: store}}, rules: [{from: [{source: {serviceAccounts: [a]}}], to: [{operation: {methods: [GET]}}]}]}"
    )
    deny = "{selector: {matchLabels: {app: store}}, action: DENY, rules: [{to: [{operation: {ports: ['6000'], paths: [/x]}}]}]}"
    ports = {"store": (make.container(ports=(("tcp-store", 6000),), readiness=None, liveness=None),)}
    fields = {
        "deployments": tuple(make.deployment(name, containers=ports.get(name)) for name in ("frontend", "orders", "ledger", "store")),
        "pods": (),
    }
    assert applied(policy(allow), **fields) == {("MR1112-NEVER-MATCHES", "AuthorizationPolicy/p"): Level.WARNING}
    assert applied(policy(deny), **fields) == {("MR1112-DENIES-MORE", "AuthorizationPolicy/p"): Level.WARNING}


def test_a_selector_that_matches_nothing() -> None:
    """A policy for labels that no workload has protects nothing."""
    assert applied(policy("{selector: {matchLabels: {app: oders}}, rules: [{from: [{source: {namespaces: [x]}}]}]}")) == {
        ("MR1112-SELECTS-NOTHING", "AuthorizationPolicy/p"): Level.WARNING
    }


JWT = """
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {name: customers}
spec: {selector: {matchLabels: {app: frontend}}, jwtRules: [{issuer: https://id.example.com}]}
"""


def test_tokens_that_nobody_demands() -> None:
    """A RequestAuthentication alone lets requests without a token pass."""
    assert applied(JWT) == {("MR1112-TOKEN-OPTIONAL", "RequestAuthentication/customers"): Level.WARNING}
    demand = "{action: DENY, rules: [{from: [{source: {notRequestPrincipals: ['*']}}]}], selector: {matchLabels: {app: frontend}}}"
    assert applied(JWT, policy(demand)) == {}


def test_pods_without_a_proxy_obey_no_policy() -> None:
    """A policy is enforced by the proxy of the pod, so without one nobody enforces it."""
    ledger = make.deployment("ledger")
    snapshot = shop(WHOLE, deployments=(ledger,), pods=make.pods_of(ledger, meshed=False))
    found = {item.code: item for item in policies_applied(snapshot).findings}
    assert found["MR1112-NO-PROXY"].level is Level.ERROR
    assert found["MR1112-NO-PROXY"].object.name == "ledger"
    assert "2 of 2 pods" in found["MR1112-NO-PROXY"].found


@pytest.mark.parametrize("namespace", [make.NAMESPACE, make.ISTIO])
def test_refused_policies_are_not_missing_ones(namespace: str) -> None:
    """Where policies may not be listed, here or in the root namespace, nothing is said to be without one."""
    judgement = policies_applied(shop(refusals=(make.refusal("authorizationpolicies", namespace=namespace),)))
    assert (judgement.status, judgement.findings) == (Status.NOT_VERIFIED, ())
    assert judgement.unknown[0].resource == "authorizationpolicies.security.istio.io"


def test_an_unknown_action_is_not_verified() -> None:
    """What a policy of a newer Istio does is not known."""
    judgement = policies_applied(shop(f"{WHOLE}---\n{policy('{action: MAYBE}')}"))
    assert judgement.status is Status.NOT_VERIFIED
    assert "AuthorizationPolicy payments/p has an action that Istio does not have" in judgement.reason


def test_an_empty_namespace_is_not_protected() -> None:
    """Nothing to look at is not passed."""
    empty: dict[str, tuple[o.Pod, ...]] = {"deployments": (), "pods": (), "services": ()}
    assert policies_applied(make.snapshot(**empty)).status is Status.NOT_VERIFIED
    assert default_deny_absent(make.snapshot(**empty)).status is Status.NOT_VERIFIED


# --- 7.3.1 ---


def early(text: str, **fields: object) -> dict[tuple[str, str], Level]:
    return codes(default_deny_absent(shop(text, **fields)))


def test_without_policies_nothing_is_denied() -> None:
    """Istio as it comes: everybody may call."""
    judgement = default_deny_absent(shop())
    assert (judgement.status, judgement.examined) == (Status.PASSED, 4)


@pytest.mark.parametrize(
    ("spec", "code"),
    [
        ("{}", "MR731-ALLOW-NOTHING"),
        ("{rules: []}", "MR731-ALLOW-NOTHING"),
        ("{action: DENY, rules: [{}]}", "MR731-DENY-ALL"),
        ('{action: DENY, rules: [{from: [{source: {notPrincipals: ["*"]}}]}]}', "MR731-DENY-PLAINTEXT"),
    ],
)
@pytest.mark.parametrize("namespace", [make.NAMESPACE, make.ISTIO])
def test_shapes_that_deny_by_default(spec: str, code: str, namespace: str) -> None:
    """Each shape fails, in the namespace and in the root namespace."""
    assert early(policy(spec, namespace=namespace)) == {(code, "AuthorizationPolicy/p"): Level.ERROR}


def test_denying_plaintext_is_nothing_new_under_strict() -> None:
    """Where every port is STRICT, plaintext is refused anyway."""
    spec = '{action: DENY, rules: [{from: [{source: {notPrincipals: ["*"]}}]}]}'
    assert early(policy(spec), peerauthentications=(make.peerauthentication(mode="STRICT"),)) == {}


@pytest.mark.parametrize(
    ("spec", "metadata"),
    [
        ("{action: DENY}", {}),
        ("{}", {"namespace": "billing"}),
        ("{selector: {matchLabels: {app: nobody}}}", {}),
        ("{action: AUDIT, rules: [{}]}", {}),
    ],
)
def test_what_denies_nothing(spec: str, metadata: dict[str, str]) -> None:
    """DENY without rules, another namespace, labels of nobody, and AUDIT."""
    assert early(policy(spec, **metadata)) == {}


AMBIENT = {"istio.io/dataplane-mode": "ambient"}


def test_a_gateway_or_a_waypoint_that_lets_nothing_through() -> None:
    """TargetRefs select no pod, and deny by default all the same; those of a Service only where it has a waypoint."""
    gateway = policy("{targetRefs: [{kind: Gateway, group: gateway.networking.k8s.io, name: shop}]}")
    service = policy("{targetRefs: [{kind: Service, name: orders}]}")
    nothing = {("MR731-ALLOW-NOTHING", "AuthorizationPolicy/p"): Level.ERROR}
    ambient = (make.namespace(make.ISTIO, labels={}), make.namespace(labels=AMBIENT))
    assert early(gateway) == nothing
    assert early(service) == {}
    assert early(service, namespaces=ambient) == nothing


def test_rules_for_http_close_tcp_ports() -> None:
    """The store speaks TCP: an ALLOW rule with methods is left out there; one with principals alone, beside it, opens the port."""
    rule = "from: [{source: {serviceAccounts: [orders]}}]"
    http = policy(
        f"{{selector: {{matchLabels: {{app: store}}}}, rules: [{{{rule}, to: [{{operation: {{methods: [GET]}}}}]}}]}}", name="http"
    )
    tcp = policy(
        f"{{selector: {{matchLabels: {{app: store}}}}, rules: [{{{rule}, to: [{{operation: {{ports: ['6000']}}}}]}}]}}", name="tcp"
    )
    found = default_deny_absent(shop(http))
    assert ("MR731-CLOSED-TO-TCP", Level.ERROR) in {(item.code, item.level) for item in found.findings}
    assert "no ALLOW rule can match on port 6000 of store" in found.findings[0].found
    assert early(f"{http}---\n{tcp}") == {("MR731-CLOSED", "Namespace/payments"): Level.INFO}
    assert early(http.replace("app: store", "app: orders")) == {("MR731-CLOSED", "Namespace/payments"): Level.INFO}


def test_a_waypoint_alone_is_passed_by() -> None:
    """In ambient mode a policy for the Service is in force at its waypoint: it counts, and is not enough."""
    deployment = make.deployment("orders")
    pods = make.pods_of(deployment, meshed=False, annotations={"ambient.istio.io/redirection": "enabled"})
    spaces = (make.namespace(make.ISTIO, labels={}), make.namespace(labels=AMBIENT))
    mesh = {"deployments": (deployment,), "pods": pods, "services": (make.service("orders"),), "namespaces": spaces}
    rules = "rules: [{from: [{source: {serviceAccounts: [frontend]}}]}]"
    at_waypoint = policy(f"{{targetRefs: [{{kind: Service, name: orders}}], {rules}}}")
    assert codes(policies_applied(shop(at_waypoint, **mesh)))[("MR1112-ONLY-WAYPOINT", "Deployment/orders")] is Level.WARNING
    other = at_waypoint.replace("name: orders", "name: ledger")
    assert codes(policies_applied(shop(other, **mesh)))[("MR1112-NO-POLICY", "Deployment/orders")] is Level.ERROR
    at_ztunnel = policy(f"{{selector: {{matchLabels: {{app: orders}}}}, {rules}}}", name="own")
    assert ("Deployment/orders") not in {about for _, about in codes(policies_applied(shop(f"{at_waypoint}---\n{at_ztunnel}", **mesh)))}


def test_a_dry_run_is_the_way_to_try() -> None:
    """A policy that only runs dry is told, and passes."""
    judgement = default_deny_absent(shop(policy("{}", annotations={"istio.io/dry-run": "true"})))
    assert judgement.status is Status.PASSED
    assert [item.code for item in judgement.findings] == ["MR731-DRY-RUN"]


def test_allow_policies_close_what_they_select() -> None:
    """One that selects every workload warns, as do several that together do; one that selects some is told."""
    rule = "rules: [{from: [{source: {namespaces: [payments]}}]}]"
    assert early(policy(f"{{{rule}}}")) == {("MR731-ALLOW", "AuthorizationPolicy/p"): Level.WARNING}
    own = policy(f"{{selector: {{matchLabels: {{app: orders}}}}, {rule}}}")
    assert early(own) == {("MR731-CLOSED", "Namespace/payments"): Level.INFO}
    assert early(f"{CHAIN}---\n{STORE}") == {("MR731-ALL-CLOSED", "Namespace/payments"): Level.WARNING}


def test_refused_policies_leave_it_open() -> None:
    """Without the right to list policies nothing is known."""
    snapshot: Snapshot = shop(refusals=(make.refusal("authorizationpolicies"),))
    assert default_deny_absent(snapshot).status is Status.NOT_VERIFIED
