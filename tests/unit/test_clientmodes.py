"""What callers begin towards a Service, by the DestinationRules (checks.md 2.4)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from pytest_meshready.cluster import objects as o
from pytest_meshready.istio.clientmodes import ELSEWHERE, ClientMode, ClientRules, cluster_domain
from tests.unit import builders as make

OLD, YOUNG = "2026-08-01T00:00:00Z", "2026-08-02T00:00:00Z"
FQDN = "orders.payments.svc.cluster.local"
AUTOMATIC = ""


def asked(*rules: o.DestinationRule, client: str = make.NAMESPACE, port: int = 8080, pods: Iterable[o.Pod] = ()) -> tuple[ClientMode, ...]:
    """What callers in a namespace begin towards port 8080 of payments/orders."""
    snapshot = make.snapshot(destinationrules=rules, pods=tuple(pods))
    return ClientRules(snapshot).modes("orders", make.NAMESPACE, port, client)


def mode(*rules: o.DestinationRule, **fields: Any) -> str:
    """The only mode."""
    (found,) = asked(*rules, **fields)
    return found.mode


def off(name: str = "off", host: str = FQDN, **fields: Any) -> o.DestinationRule:
    return make.destinationrule(name, host, tls="DISABLE", **fields)


def mutual(name: str = "mutual", host: str = FQDN, **fields: Any) -> o.DestinationRule:
    return make.destinationrule(name, host, tls="ISTIO_MUTUAL", **fields)


def test_without_a_rule_automatic_mtls_decides() -> None:
    """No rule, no TLS in the rule, and a rule for another host leave the choice to automatic mTLS."""
    assert mode() == AUTOMATIC
    assert mode(make.destinationrule(host=FQDN)) == AUTOMATIC
    assert mode(off(host="ledger")) == AUTOMATIC


HOSTS = {
    "in full": (FQDN, make.NAMESPACE, True),
    "short, in the namespace of the Service": ("orders", make.NAMESPACE, True),
    "short, completed with the rule's own namespace": ("orders", make.ISTIO, False),
    "with its namespace is taken literally": ("orders.payments", make.NAMESPACE, False),
    "of all in the namespace": ("*.payments.svc.cluster.local", make.NAMESPACE, True),
    "of all in another namespace": ("*.ledger.svc.cluster.local", make.NAMESPACE, False),
    "of all local": ("*.local", make.ISTIO, True),
    "of all": ("*", make.ISTIO, True),
    "empty": ("", make.NAMESPACE, False),
    "an address": ("2001:db8::1", make.NAMESPACE, False),
}


@pytest.mark.parametrize(("host", "namespace", "found"), HOSTS.values(), ids=HOSTS)
def test_hosts(host: str, namespace: str, found: bool) -> None:
    """A host without a dot is completed with the namespace of its rule; wildcards match by their end."""
    assert mode(off(host=host, namespace=namespace)) == ("DISABLE" if found else AUTOMATIC)


def test_the_most_specific_host_wins() -> None:
    """The name itself comes before any wildcard, the longer wildcard before the shorter."""
    wide, narrow = off("wide", "*.local"), mutual("narrow", "*.payments.svc.cluster.local")
    assert mode(wide, narrow) == "ISTIO_MUTUAL"
    assert mode(wide, narrow, off("exact")) == "DISABLE"


def test_the_namespace_of_the_caller_comes_first() -> None:
    """The order is: the caller's namespace, the Service's, the root namespace."""
    caller, service, root = mutual(namespace="legacy"), off(), mutual("root", "*.local", namespace=make.ISTIO)
    assert mode(caller, service, root, client="legacy") == "ISTIO_MUTUAL"
    assert mode(service, root, client="legacy") == "DISABLE"
    assert mode(root, client="legacy") == "ISTIO_MUTUAL"


def test_a_catch_all_of_the_root_namespace_does_not_hide_the_services_rule_from_gateways() -> None:
    """For callers in the root namespace, which are gateways, the exported rules of the Service's namespace come first."""
    assert mode(off(), mutual("root", "*.local", namespace=make.ISTIO), client=make.ISTIO) == "DISABLE"


def test_a_private_rule_of_the_root_namespace_is_for_its_gateways() -> None:
    """A rule of the root namespace that is exported nowhere is meant for the callers there."""
    private = off("private", namespace=make.ISTIO, export_to=(".",))
    assert mode(private, mutual(), client=make.ISTIO) == "DISABLE"
    assert mode(private, client=make.NAMESPACE) == AUTOMATIC


EXPORTS = {
    "not said": ((), True, True),
    "everywhere": (("*",), True, True),
    "here": ((".",), True, False),
    "the own namespace by name": ((make.NAMESPACE,), True, False),
    "another namespace": (("legacy",), False, True),
    "a third namespace": (("third",), False, False),
}


@pytest.mark.parametrize(("export_to", "inside", "legacy"), EXPORTS.values(), ids=EXPORTS)
def test_export_to(export_to: tuple[str, ...], inside: bool, legacy: bool) -> None:
    """A rule holds only for the callers of the namespaces that it is exported to."""
    rule = off(export_to=export_to)
    assert (mode(rule) == "DISABLE", mode(rule, client="legacy") == "DISABLE") == (inside, legacy)


def test_the_namespaces_worth_asking_about() -> None:
    """They are the run's, the control plane's, those that rules are exported to, and all others as one."""
    rules = ClientRules(make.snapshot(destinationrules=(off(export_to=("legacy", ".", "*")),)))
    assert rules.clients == (make.NAMESPACE, make.ISTIO, "legacy", ELSEWHERE)


LEVELS: dict[str, tuple[dict[str, Any], str, str]] = {
    "of the rule": ({"tls": "SIMPLE"}, "SIMPLE", "trafficPolicy"),
    "of the port": ({"tls": "ISTIO_MUTUAL", "port_tls": {8080: "DISABLE"}}, "DISABLE", "portLevelSettings"),
    "of another port": ({"tls": "ISTIO_MUTUAL", "port_tls": {9090: "DISABLE"}}, "ISTIO_MUTUAL", "trafficPolicy"),
    "an empty mode is DISABLE": ({"tls": ""}, "DISABLE", "trafficPolicy"),
}


@pytest.mark.parametrize(("fields", "wanted", "place"), LEVELS.values(), ids=LEVELS)
def test_levels(fields: dict[str, Any], wanted: str, place: str) -> None:
    """Settings of the port come before those of the rule."""
    (found,) = asked(make.destinationrule(host=FQDN, **fields))
    assert (found.mode, found.place) == (wanted, place)


def policy(tls: str | None, ports: dict[int, str | None] | None = None) -> o.TrafficPolicy:
    return o.TrafficPolicy(
        tls=None if tls is None else o.ClientTls(mode=tls),
        port_level_settings=tuple(
            o.PortTrafficPolicy(port=o.PortSelector(number=number), tls=None if mode is None else o.ClientTls(mode=mode))
            for number, mode in (ports or {}).items()
        ),
    )


def ruled(top: o.TrafficPolicy | None, subset: o.TrafficPolicy | None) -> o.DestinationRule:
    v1 = o.Subset(name="v1", labels={"version": "v1"}, traffic_policy=subset)
    return o.DestinationRule(metadata=make.metadata("orders"), spec=o.DestinationRuleSpec(host="orders", traffic_policy=top, subsets=(v1,)))


SUBSETS = {
    "inherits from the rule": (policy("DISABLE"), None, "DISABLE"),
    "inherits from the rule's port": (policy(None, {8080: "DISABLE"}), policy(None), "DISABLE"),
    "has its own": (policy("DISABLE"), policy("ISTIO_MUTUAL"), "ISTIO_MUTUAL"),
    "has its own beside the rule's port": (policy(None, {8080: "ISTIO_MUTUAL"}), policy("DISABLE"), "DISABLE"),
    "has one for the port": (policy("ISTIO_MUTUAL"), policy("ISTIO_MUTUAL", {8080: "SIMPLE"}), "SIMPLE"),
    "settings of the port without TLS: the endpoints keep the word of the level above": (
        policy("DISABLE"),
        policy(None, {8080: None}),
        "DISABLE",
    ),
    "nobody says anything": (None, None, AUTOMATIC),
}


@pytest.mark.parametrize(("top", "subset", "wanted"), SUBSETS.values(), ids=SUBSETS)
def test_subsets(top: o.TrafficPolicy | None, subset: o.TrafficPolicy | None, wanted: str) -> None:
    """A subset's port, the subset, the rule's port, the rule: the first that speaks of TLS decides for its routes."""
    found = {item.subset: item.mode for item in asked(ruled(top, subset))}
    assert found["v1"] == wanted


def test_settings_of_a_port_without_tls_do_not_bring_mtls_back() -> None:
    """They replace the policy in the cluster, but istiod marks the endpoints by the policy, so plaintext stays."""
    spec = o.DestinationRuleSpec(host="orders", traffic_policy=policy("DISABLE", {8080: None}))
    assert mode(o.DestinationRule(metadata=make.metadata("orders"), spec=spec)) == "DISABLE"


def test_several_rules_of_one_host_are_merged() -> None:
    """The oldest policy holds, whatever the younger ones say, and the subsets of all."""
    young = make.destinationrule("a", FQDN, tls="DISABLE", created=YOUNG, subsets=(o.Subset(name="v2"),))
    assert {item.subset: item.mode for item in asked(young, mutual(created=OLD))} == {"": "ISTIO_MUTUAL", "v2": "ISTIO_MUTUAL"}


def test_a_rule_without_a_policy_takes_that_of_the_next() -> None:
    """An old rule that has only subsets does not hide the policy of a younger one, which is the one to name."""
    old = make.destinationrule("old", FQDN, created=OLD)
    (found,) = asked(old, off("young", created=YOUNG))
    assert (found.mode, found.by and found.by.name) == ("DISABLE", "young")


def test_a_rule_for_some_callers() -> None:
    """A rule with a workloadSelector is for the callers of its own namespace that have its labels, the other one for the rest."""
    selector = o.WorkloadSelector(match_labels={"app": "frontend"})
    some, rest = off("some", workload_selector=selector, created=YOUNG), mutual(created=OLD)
    callers = (make.meshed_pod("f", labels={"app": "frontend"}), make.meshed_pod("l", labels={"app": "ledger"}))
    assert {item.mode for item in asked(some, rest, pods=callers)} == {"DISABLE", "ISTIO_MUTUAL"}
    assert {item.mode for item in asked(some, pods=callers)} == {"DISABLE", AUTOMATIC}
    assert {item.mode for item in asked(some, rest, pods=callers[1:])} == {"ISTIO_MUTUAL"}
    assert mode(some, client="legacy", pods=callers) == AUTOMATIC


def test_the_domain_is_that_of_the_proxies() -> None:
    """A cluster of another domain is known by the arguments of any proxy in it."""
    sidecar = make.proxy(args=("proxy", "sidecar", "--domain", "$(POD_NAMESPACE).svc.corp.internal"))
    snapshot = make.snapshot(pods=(make.pod("a"), make.pod("b", init_containers=(sidecar,))), destinationrules=(off(host="orders"),))
    assert cluster_domain(snapshot) == "corp.internal"
    assert ClientRules(snapshot).modes("orders", make.NAMESPACE, 8080, make.NAMESPACE)[0].mode == "DISABLE"
    assert cluster_domain(make.snapshot()) == "cluster.local"
