"""AuthorizationPolicies as istiod applies them: which reach a workload, and what their rules ask for (checks.md 7.3.1, 11.1.2)."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from pytest_meshready.cluster import objects as o
from pytest_meshready.istio.policy import Action, Policies, Policy, Reach, Rule, targets
from tests.unit import builders as make
from tests.unit.written import CHAIN, shop

ORDERS = {"app": "orders", "version": "v1"}


def policy(spec: str, **metadata: Any) -> str:
    """An AuthorizationPolicy with this spec, as YAML."""
    return yaml.safe_dump(
        {
            "apiVersion": "security.istio.io/v1",
            "kind": "AuthorizationPolicy",
            "metadata": {"name": "p", **metadata},
            "spec": yaml.safe_load(spec),
        }
    )


def only(spec: str, **metadata: Any) -> Policy:
    """The one policy that can reach the namespace."""
    (found,) = Policies(shop(policy(spec, **metadata))).in_force(make.NAMESPACE)
    return found


def rule(text: str) -> Rule:
    """The one rule of an ALLOW policy."""
    return only(f"{{rules: [{text}]}}").rules[0]


def names(policies: tuple[Policy, ...]) -> list[str]:
    return [item.ref.name for item in policies]


def test_policies_reach_by_labels_and_from_the_root_namespace() -> None:
    """A policy of the root namespace reaches every namespace, also with a selector; one of another namespace does not."""
    found = Policies(
        shop(
            "---\n".join(
                (
                    policy("{selector: {matchLabels: {app: orders}}, rules: [{}]}", name="own"),
                    policy("{selector: {matchLabels: {app: ledger}}, rules: [{}]}", name="other"),
                    policy("{selector: {matchLabels: {app: orders}}, action: DENY}", name="root", namespace=make.ISTIO),
                    policy("{}", name="far", namespace="billing"),
                )
            )
        )
    ).of(ORDERS, make.NAMESPACE)
    assert (names(found.allow), names(found.deny), found.restricted) == (["own"], ["root"], True)


def test_targeted_and_dry_policies_enforce_nothing_here() -> None:
    """TargetRefs are for gateways and waypoints, and the annotation istio.io/dry-run makes a policy a shadow."""
    text = "---\n".join(
        (
            policy("{targetRefs: [{kind: Gateway, group: gateway.networking.k8s.io, name: shop}]}", name="gate"),
            policy("{}", name="dry", annotations={"istio.io/dry-run": "True"}),
            policy("{}", name="wet", annotations={"istio.io/dry-run": "false"}),
        )
    )
    found = Policies(shop(text)).of(ORDERS, make.NAMESPACE)
    assert (names(found.allow), names(found.shadow)) == (["wet"], ["dry"])


def test_actions() -> None:
    """No action is ALLOW; a word that Istio does not have is told, not guessed."""
    assert [only(f"{{action: {word}}}").action for word in ("CUSTOM", "AUDIT", "NONSENSE")] == [Action.CUSTOM, Action.AUDIT, Action.UNKNOWN]
    assert only("{}").allows_nothing
    assert not only("{action: DENY}").allows_nothing
    assert not only("{rules: [{}]}").allows_nothing


@pytest.mark.parametrize(
    ("text", "reach"),
    [
        ("{}", Reach.ANYBODY),
        ("{from: [{source: {}}]}", Reach.ANYBODY),
        ("{to: [{operation: {methods: [GET]}}]}", Reach.ANYBODY),
        ("{from: [{source: {ipBlocks: [0.0.0.0/0]}}]}", Reach.ANYBODY),
        ('{from: [{source: {principals: ["*"]}}]}', Reach.ANY_IDENTITY),
        ('{from: [{source: {namespaces: ["*"]}}]}', Reach.ANY_IDENTITY),
        ("{from: [{source: {notPrincipals: [cluster.local/ns/x/sa/y]}}]}", Reach.ALL_BUT),
        ("{from: [{source: {principals: [cluster.local/ns/payments/sa/orders]}}]}", Reach.NAMED),
        ("{from: [{source: {serviceAccounts: [orders]}}]}", Reach.NAMED),
        ('{from: [{source: {requestPrincipals: ["*"]}}]}', Reach.NAMED),
        ("{from: [{source: {ipBlocks: [10.0.0.0/8]}}]}", Reach.NAMED),
        ('{from: [{source: {principals: ["*"], namespaces: [payments]}}]}', Reach.NAMED),
        ("{from: [{source: {namespaces: [payments]}}, {source: {}}]}", Reach.ANYBODY),
        ('{when: [{key: "request.auth.claims[iss]", values: [x]}]}', Reach.NAMED),
        ("{when: [{key: destination.port, values: ['80']}]}", Reach.ANYBODY),
    ],
)
def test_whom_a_rule_is_about(text: str, reach: Reach) -> None:
    """The fields of one source must all hold, of several sources any: the widest alternative counts."""
    assert rule(text).reach is reach


@pytest.mark.parametrize(
    ("text", "everything"),
    [
        ("{}", True),
        ('{to: [{operation: {paths: ["*"]}}]}', True),
        ("{to: [{operation: {ports: ['8080']}}, {operation: {}}]}", True),
        ("{to: [{operation: {ports: ['8080']}}]}", False),
        ("{to: [{operation: {notPaths: [/admin]}}]}", False),
        ('{from: [{source: {principals: ["*"]}}]}', False),
        ("{when: [{key: destination.port, values: ['80']}]}", False),
    ],
)
def test_rules_that_match_everything(text: str, *, everything: bool) -> None:
    """Only a rule that asks neither who nor what."""
    assert rule(text).everything is everything


def test_what_only_http_has() -> None:
    """Methods, paths, hosts, tokens and headers cannot be seen on a TCP port (istiod leaves an ALLOW rule with them out)."""
    token, header = "from: [{source: {notRequestPrincipals: ['*']}}]", "when: [{key: 'request.headers[x]'}]"
    asking = rule(f"{{{token}, to: [{{operation: {{methods: [GET], ports: ['1']}}}}], {header}}}")
    assert asking.http == ("requestPrincipals", "methods", "request.headers[x]")
    assert rule("{from: [{source: {principals: [a]}}], to: [{operation: {ports: ['1']}}]}").http == ()


def test_ports_of_a_rule() -> None:
    """The ports that all alternatives together name; none as soon as one alternative is about every port."""
    assert rule("{to: [{operation: {ports: ['1', '2']}}, {operation: {ports: ['2']}}]}").ports == ("1", "2")
    assert rule("{to: [{operation: {ports: ['1']}}, {operation: {methods: [GET]}}]}").ports == ()


def test_callers_known_by_address_alone() -> None:
    """A legacy caller is admitted by its address, without an identity."""
    assert rule("{from: [{source: {ipBlocks: [10.244.0.0/16], notIpBlocks: [10.244.1.1]}}]}").addresses == ("10.244.0.0/16",)
    assert rule("{from: [{source: {ipBlocks: [10.244.0.0/16], principals: [a]}}]}").addresses == ()


@pytest.mark.parametrize(
    "rules", ["[null, 1, text]", "[{from: text, to: {}, when: [1]}]", "[{from: [{source: [1]}], to: [{operation: 5}]}]"]
)
def test_odd_rules_are_no_rules(rules: str) -> None:
    """What cannot be a rule raises nothing and admits nobody that it does not name."""
    found = o.AuthorizationPolicy(
        metadata=make.metadata("odd"),
        spec=o.AuthorizationPolicySpec(rules=tuple(x for x in yaml.safe_load(rules) if isinstance(x, dict))),
    )
    assert all(isinstance(item, Rule) for item in Policies(shop(authorizationpolicies=(found,))).in_force(make.NAMESPACE)[0].rules)


def test_targets_are_what_can_be_called() -> None:
    """Deployments of the team, without Jobs and without what is scaled to nothing."""
    snapshot = shop(CHAIN, jobs=(make.job(),), statefulsets=(make.statefulset("old", replicas=0),))
    found = {item.name: names(item.effective[0].allow) for item in targets(snapshot)}
    assert found == {"frontend": ["frontend"], "orders": ["orders"], "ledger": ["ledger"], "store": []}
