"""BackendTLSPolicies: whose callers leave mutual TLS by them, and what they name that is not there (checks.md 2.4, 3.2.4)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pytest_meshready.cluster import decode
from pytest_meshready.cluster.objects_traffic import BackendTLSPolicy
from pytest_meshready.cluster.resources import RESOURCES
from pytest_meshready.cluster.snapshot import Snapshot
from pytest_meshready.istio.analysis import configuration_sound
from pytest_meshready.istio.clientmodes import ELSEWHERE, ClientRules
from pytest_meshready.istio.clientpolicies import ClientPolicies
from pytest_meshready.istio.compatibility import services_compatible
from pytest_meshready.istio.hosts import Hosts
from pytest_meshready.istio.mtls import permissive, strict_everywhere
from pytest_meshready.istio.rollback import removable
from pytest_meshready.results import Level, Status
from tests.unit import builders as make
from tests.unit.written import shop as written_shop

ALL = "{group: '', kind: Service, name: orders}"
ADMIN = "{group: '', kind: Service, name: orders, sectionName: http-admin}"
HTTP = "{group: '', kind: Service, name: orders, sectionName: http}"
BANK = "{group: networking.istio.io, kind: ServiceEntry, name: bank}"
SYSTEM = "{hostname: orders.example.com, wellKnownCACertificates: System}"
AUTOMATIC = ("", "")

ENTRY = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: bank}
spec: {hosts: [bank.example.com], ports: [{number: 443, name: https, protocol: HTTPS}, {number: 80, name: http, protocol: HTTP}]}
---
"""


def policy(*targets: str, name: str = "tls", trusts: str = SYSTEM, more: str = "", status: str = "{}") -> str:
    """A BackendTLSPolicy; of several, the first in the text is the oldest."""
    return f"""
apiVersion: gateway.networking.k8s.io/v1
kind: BackendTLSPolicy
metadata: {{name: {name}{more}}}
spec: {{targetRefs: [{", ".join(targets or (ALL,))}], validation: {trusts}}}
status: {status}
---
"""


def rule(spec: str) -> str:
    """A DestinationRule for orders."""
    text = "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: rule}\nspec: {host: orders, "
    return f"{text}{spec}}}\n---\n"


def shop(text: str, **fields: Any) -> Snapshot:
    """The shop, whose Service orders has two ports, http and http-admin."""
    orders = make.service("orders", ports=(("http", 8080), ("http-admin", 9090)), target_port=8080)
    services = (make.service("frontend"), orders, make.service("ledger"), make.service("store", ports=(("tcp-store", 6000),)))
    return written_shop(text, **{"services": services, **fields})


def modes(text: str, port: int = 8080, client: str = make.NAMESPACE) -> list[tuple[str, str]]:
    """What callers begin towards a port of orders, and by which object."""
    found = ClientRules(shop(text)).modes("orders", make.NAMESPACE, port, client)
    return [(mode.mode, mode.by.name if mode.by else "") for mode in found]


# --- what callers begin ---


@pytest.mark.parametrize("client", [make.NAMESPACE, make.ISTIO, ELSEWHERE])
def test_all_callers_of_the_service_begin_simple_tls(client: str) -> None:
    """A policy for a Service holds for each of its ports, and for sidecars as well as for gateways."""
    assert modes(policy(), 8080, client) == modes(policy(), 9090, client) == [("SIMPLE", "tls")]


def test_a_policy_for_a_port_is_for_that_port_only() -> None:
    """The section of a target is the name of a port; the others keep automatic mTLS."""
    assert modes(policy(ADMIN), 9090) == [("SIMPLE", "tls")]
    assert modes(policy(ADMIN), 8080) == [AUTOMATIC]
    (mode,) = ClientRules(shop(policy(ADMIN))).modes("orders", make.NAMESPACE, 9090, make.NAMESPACE)
    assert (str(mode.by), mode.place) == ("payments/BackendTLSPolicy/tls", "targetRefs[].sectionName")


NOTHING = {
    "a port that the Service does not have": policy("{group: '', kind: Service, name: orders, sectionName: grpc}"),
    "another kind": policy("{group: apps, kind: Deployment, name: orders}"),
    "a Service of another group": policy("{group: example.com, kind: Service, name: orders}"),
    "another Service": policy("{group: '', kind: Service, name: ledger}"),
    "the Service of that name in another namespace": policy(more=", namespace: legacy"),
    "a policy that Istio is told to ignore": policy(more=', annotations: {istio.io/ignore-policy-attachment: "True"}'),
}


@pytest.mark.parametrize("text", NOTHING.values(), ids=NOTHING)
def test_policies_that_change_nothing_for_callers_of_the_service(text: str) -> None:
    """Istiod makes no rule of what it cannot resolve, and of what is for something else."""
    assert modes(text) == [AUTOMATIC]


def test_of_two_policies_the_older_is_taken() -> None:
    """By its time of creation, and by its name where the times are equal; one for a port comes before one for all ports."""
    assert modes(policy(name="z-old") + policy(name="a-young")) == [("SIMPLE", "z-old")]
    same = ', creationTimestamp: "2026-08-25T08:00:00Z"'
    assert modes(policy(name="b", more=same) + policy(name="a", more=same)) == [("SIMPLE", "a")]
    assert modes(policy(name="all") + policy(ADMIN, name="admin"), 9090) == [("SIMPLE", "admin")]


def test_what_a_destinationrule_says_comes_before_a_policy() -> None:
    """Whichever is older: its TLS is taken (releasenotes 60358 of Istio), for all ports or for one."""
    mutual, port = "trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}", "portLevelSettings: [{port: {number: 9090}, tls: {mode: DISABLE}}]"
    assert modes(policy() + rule(mutual)) == modes(rule(mutual) + policy()) == [("ISTIO_MUTUAL", "rule")]
    assert modes(policy() + rule(f"trafficPolicy: {{{port}}}"), 9090) == [("DISABLE", "rule")]
    assert modes(policy() + rule(f"trafficPolicy: {{{port}}}"), 8080) == [("SIMPLE", "tls")]
    assert modes(policy(ADMIN) + rule(mutual), 9090) == [("SIMPLE", "tls")]
    assert modes(policy(ADMIN) + rule(mutual), 8080) == [("ISTIO_MUTUAL", "rule")]


def test_what_a_destinationrule_leaves_open_the_policy_fills() -> None:
    """A rule about something else, or with nothing but subsets, does not take the policy's TLS away."""
    ejects = rule("trafficPolicy: {outlierDetection: {consecutive5xxErrors: 5}}")
    assert modes(policy() + ejects) == modes(ejects + policy()) == [("SIMPLE", "tls")]
    balances = rule("trafficPolicy: {portLevelSettings: [{port: {number: 8080}, loadBalancer: {simple: RANDOM}}]}")
    assert modes(policy(HTTP) + balances) == [("SIMPLE", "tls")]
    subsets = rule("subsets: [{name: v1, labels: {app: orders}}]")
    found = ClientRules(shop(policy() + subsets)).modes("orders", make.NAMESPACE, 8080, make.NAMESPACE)
    assert [(mode.mode, mode.subset, mode.by and mode.by.name) for mode in found] == [("SIMPLE", "", "tls"), ("SIMPLE", "v1", "tls")]


def test_settings_of_a_port_replace_the_policy_for_all_ports() -> None:
    """Settings of a port without TLS leave the port without the policy's TLS, and its endpoints marked for plaintext."""
    balances = rule("trafficPolicy: {portLevelSettings: [{port: {number: 8080}, loadBalancer: {simple: RANDOM}}]}")
    assert modes(policy() + balances, 8080) == [("DISABLE", "tls")]
    assert modes(policy() + balances, 9090) == [("SIMPLE", "tls")]


def test_the_hosts_of_a_serviceentry() -> None:
    """A policy for a ServiceEntry is for its hosts; one for a port of it is for that port."""
    (found,) = ClientRules(shop(ENTRY + policy(BANK))).in_force("bank.example.com", make.NAMESPACE, make.NAMESPACE)
    assert found.policy is not None
    assert found.policy.tls is not None
    assert (found.policy.tls.mode, found.by) == ("SIMPLE", None)
    port = policy(f"{BANK[:-1]}, sectionName: https}}")
    (found,) = ClientRules(shop(ENTRY + port)).in_force("bank.example.com", make.NAMESPACE, make.NAMESPACE)
    assert found.policy is not None
    assert [item.port.number for item in found.policy.port_level_settings] == [443]


def test_a_policy_for_a_port_takes_the_limits_of_the_rule_from_it() -> None:
    """Settings of a port replace all others of the rule: what ejects endpoints elsewhere ejects none behind that port."""
    snapshot = shop(policy(ADMIN) + rule("trafficPolicy: {outlierDetection: {consecutive5xxErrors: 5}}"))
    host = next(host for host in Hosts(snapshot).all if host.ref.name == "orders")
    policies = ClientPolicies(snapshot)
    assert policies.of(host, 8080).outlier_detection == {"consecutive5xxErrors": 5}
    assert policies.of(host, 9090).outlier_detection is None
    assert policies.of(host, 9090).by is not None


# --- the lines on mutual TLS ---


def strict(text: str, mode: str = "STRICT", **fields: Any) -> Snapshot:
    return shop(text, peerauthentications=(make.peerauthentication(mode=mode),), **fields)


def test_callers_that_leave_mtls_towards_a_strict_port() -> None:
    """Line 7.2.1 names the policy, the port and the way out."""
    (finding,) = services_compatible(strict(policy(ADMIN))).findings
    assert (finding.code, finding.level, str(finding.object)) == ("MR721-CLIENT-SIMPLE", Level.ERROR, "payments/BackendTLSPolicy/tls")
    assert "orders:9090" in finding.found
    assert "orders:8080" not in finding.found
    assert finding.wanted == "no BackendTLSPolicy for ports with a proxy, so that automatic mTLS decides"
    assert finding.fix == "take the Service out of targetRefs: kubectl -n payments edit backendtlspolicy tls"


def test_the_other_lines_on_callers_see_it_too() -> None:
    """Lines 7.1.1 and 11.1.1 fail for it in their phases."""
    for judgement, code in (
        (permissive(strict(policy(), "PERMISSIVE")), "MR711-CLIENT-SIMPLE"),
        (strict_everywhere(strict(policy())), "MR1111-CLIENT-SIMPLE"),
    ):
        assert [(item.code, item.object.name) for item in judgement.findings if item.level is Level.ERROR] == [(code, "tls")]
        assert judgement.status is Status.FAILED


@pytest.mark.parametrize("judge", [services_compatible, strict_everywhere, removable, configuration_sound])
def test_policies_that_may_not_be_read(judge: Any) -> None:
    """What may not be read is not assumed to be empty; a cluster whose Gateway API has no such kind has no such policies."""
    read = tuple(key for key in make.snapshot().read if key != "backendtlspolicies")
    refused = judge(strict("", read=read, refusals=(make.refusal("backendtlspolicies"),)))
    assert refused.status is Status.NOT_VERIFIED
    assert [item.resource for item in refused.unknown] == ["backendtlspolicies.gateway.networking.k8s.io"]
    absent = judge(strict("", read=read, refusals=(make.refusal("backendtlspolicies", namespace="", absent=True),)))
    assert absent.unknown == ()


# --- 3.2.4 ---


def said(text: str, **fields: Any) -> list[tuple[str, Level, str]]:
    """What line 3.2.4 says of the policies."""
    found = configuration_sound(shop(text, **fields)).findings
    return [(item.code, item.level, item.object.name) for item in found if item.object.kind == "BackendTLSPolicy"]


def wrong(code: str, name: str = "tls", level: Level = Level.ERROR) -> list[tuple[str, Level, str]]:
    return [(f"MR324-{code}", level, name)]


def test_policies_that_are_right() -> None:
    """Nothing is said of a policy whose target, port and authority are there."""
    assert said(policy() + policy(ADMIN, name="admin") + ENTRY + policy(BANK, name="bank")) == []


WRONG = {
    "no such Service": (policy("{group: '', kind: Service, name: billing}"), "TLS-TARGET-MISSING"),
    "no such ServiceEntry": (policy(BANK), "TLS-TARGET-MISSING"),
    "no such port": (policy("{group: '', kind: Service, name: orders, sectionName: grpc}"), "TLS-PORT-MISSING"),
    "no such port of a ServiceEntry": (ENTRY + policy(f"{BANK[:-1]}, sectionName: tls}}"), "TLS-PORT-MISSING"),
    "another kind of target": (policy("{group: apps, kind: Deployment, name: orders}"), "TLS-TARGET-KIND"),
    "no authority": (policy(trusts="{hostname: a.example.com}"), "TLS-NO-AUTHORITY"),
    "an unknown authority": (policy(trusts="{wellKnownCACertificates: Mozilla}"), "TLS-AUTHORITY-UNKNOWN"),
    "a Secret": (policy(trusts="{caCertificateRefs: [{group: '', kind: Secret, name: ca}]}"), "TLS-AUTHORITY-KIND"),
}


@pytest.mark.parametrize(("text", "code"), WRONG.values(), ids=WRONG)
def test_policies_with_something_missing(text: str, code: str) -> None:
    """What istiod cannot resolve, and authorities that it does not take."""
    assert said(text) == wrong(code)


def test_the_younger_of_two_policies_for_one_target() -> None:
    """Nothing of it is used; a policy for a port and one for all ports are not the same target."""
    assert said(policy(name="old") + policy(name="young")) == wrong("TLS-POLICY-TWICE", "young")
    (finding,) = configuration_sound(shop(policy(ADMIN, name="old") + policy(ADMIN, name="young"))).findings
    assert "BackendTLSPolicy old" in finding.found


def test_more_than_one_authority() -> None:
    """Istiod takes only the first."""
    refs = "{caCertificateRefs: [{group: '', kind: ConfigMap, name: a}, {group: '', kind: ConfigMap, name: b}]}"
    assert said(policy(trusts=refs, status=conditions("True", "Accepted"))) == wrong("TLS-AUTHORITIES-IGNORED", level=Level.WARNING)


MAP = "{caCertificateRefs: [{group: '', kind: ConfigMap, name: ca}]}"


def conditions(status: str, reason: str, controller: str = "istio.io/mesh-controller") -> str:
    return f"{{ancestors: [{{controllerName: {controller}, conditions: [{{type: Accepted, status: '{status}', reason: {reason}}}]}}]}}"


def test_the_configmap_of_an_authority() -> None:
    """ConfigMaps are not listed, so istiod's own condition tells; without one nobody knows."""
    assert said(policy(trusts=MAP, status=conditions("True", "Accepted"))) == []
    assert said(policy(trusts=MAP, status=conditions("False", "NoValidCACertificate"))) == wrong("TLS-AUTHORITY-INVALID")
    for status in ("{}", conditions("True", "Accepted", "example.com/controller")):
        judgement = configuration_sound(shop(policy(trusts=MAP, status=status)))
        assert judgement.status is Status.NOT_VERIFIED
        assert any("ConfigMap ca" in item.reason for item in judgement.unknown)


def test_targets_that_could_not_be_looked_up() -> None:
    """Where Services may not be listed a target is unknown and not missing."""
    read = tuple(key for key in make.snapshot().read if key != "services")
    fields = {"services": (), "read": read, "refusals": (make.refusal("services"),)}
    assert said(policy(), **fields) == []


def test_policies_of_other_namespaces_are_theirs() -> None:
    """Only the namespace of the run is looked at."""
    assert said(policy("{group: '', kind: Service, name: billing}", more=", namespace: legacy")) == []


ODD: list[dict[str, Any]] = [
    {},
    {"spec": None, "status": None},
    {"spec": {"targetRefs": None, "validation": None}},
    {"spec": {"targetRefs": [{}], "validation": {"caCertificateRefs": [{}], "wellKnownCACertificates": None}}},
    {"spec": {"targetRefs": [{"kind": "Service", "name": "orders", "sectionName": ""}], "validation": {"wellKnownCACertificates": ""}}},
]


@pytest.mark.parametrize("fields", ODD)
def test_odd_policies(fields: dict[str, Any]) -> None:
    """Whatever the API server sends, every rule gives an answer."""
    listed = {"items": [{"metadata": {"name": "odd", "namespace": make.NAMESPACE}, **fields}]}
    page = decode.page(json.dumps(listed).encode(), RESOURCES["backendtlspolicies"])
    assert page.unreadable == ()
    (item,) = page.items
    assert isinstance(item, BackendTLSPolicy)
    snapshot = strict("", backendtlspolicies=(item,))
    for judge in (services_compatible, strict_everywhere, removable, configuration_sound):
        assert judge(snapshot).status in Status
