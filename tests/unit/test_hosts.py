"""What names in routing rules name."""

from __future__ import annotations

import pytest

from pytest_meshready.istio.hosts import Hosts, Known, matches, overlap
from tests.unit import builders as make
from tests.unit.written import shop

ENTRY = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: bank}
spec:
  hosts: [api.bank.example, "*.partner.example"]
  ports: [{number: 443, name: https, protocol: HTTPS}, {number: 80, name: http, protocol: HTTP}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: private, namespace: legacy}
spec:
  hosts: [db.legacy.example]
  exportTo: ["."]
  ports: [{number: 5432, name: tcp, protocol: TCP}]
"""


@pytest.mark.parametrize(
    ("name", "full"),
    [
        ("ledger", "ledger.payments.svc.cluster.local"),
        ("ledger.payments", "ledger.payments"),
        ("LEDGER.payments.svc.cluster.local", "ledger.payments.svc.cluster.local"),
        ("*", "*"),
        ("*.example", "*.example"),
        ("::1", "::1"),
        ("", ""),
    ],
)
def test_only_short_names_are_completed(name: str, full: str) -> None:
    """Istiod completes a name without a dot and nothing else."""
    assert Hosts(shop()).fqdn(name, "payments") == full


@pytest.mark.parametrize(
    ("pattern", "host", "covers"),
    [
        ("*", "a.b", True),
        ("*.b", "a.b", True),
        ("*.b", "b", False),
        ("*.b", "*.a.b", True),
        ("*.a.b", "*.b", False),
        ("a.b", "a.b", True),
        ("a.b", "*.b", False),
    ],
)
def test_wildcards_cover_what_ends_like_them(pattern: str, host: str, *, covers: bool) -> None:
    """A wildcard needs something in front of its dot."""
    assert matches(pattern, host) is covers
    assert overlap(host, pattern) is (covers or matches(host, pattern))


def test_services_and_entries_are_found() -> None:
    """By their full name, or by the longest wildcard that covers it."""
    hosts = Hosts(shop(ENTRY))
    assert str(hosts.find("ledger.payments.svc.cluster.local").ref) == "payments/Service/ledger"  # type: ignore[union-attr]
    assert hosts.find("eu.partner.example").name == "*.partner.example"  # type: ignore[union-attr]
    assert [(port.number, port.http) for port in hosts.find("api.bank.example").ports] == [(443, False), (80, True)]  # type: ignore[union-attr]


def test_what_is_not_exported_is_not_found_for_others() -> None:
    """An exportTo of ``.`` keeps a ServiceEntry in its own namespace."""
    hosts = Hosts(shop(ENTRY))
    assert hosts.find("db.legacy.example", "payments") is None
    assert hosts.find("db.legacy.example", "legacy") is not None


def test_a_service_that_is_not_there_is_missing() -> None:
    """Its namespace was read, and it is not in it."""
    assert Hosts(shop()).known("nobody.payments.svc.cluster.local") is Known.MISSING


def test_a_namespace_that_is_not_there_has_no_service() -> None:
    """Namespaces are listed, so a Service of one that does not exist cannot exist."""
    assert Hosts(shop()).known("ledger.elsewhere.svc.cluster.local") is Known.MISSING


def test_a_namespace_that_was_not_read_is_unknown() -> None:
    """What was not read is not missing, and the missing right is named."""
    hosts = Hosts(shop(namespaces=(make.namespace(make.ISTIO), make.namespace(), make.namespace("other"))))
    assert hosts.known("ledger.other.svc.cluster.local") is Known.UNREAD
    unknown = hosts.unknown("ledger.other.svc.cluster.local")
    assert (unknown.verb, unknown.resource, unknown.namespace) == ("list", "services", "other")


def test_without_service_entries_outside_hosts_are_unknown() -> None:
    """A refused list of ServiceEntries leaves every foreign name open."""
    refused = (make.refusal("serviceentries", namespace=""),)
    hosts = Hosts(shop(refusals=refused, read=("services", "namespaces", "pods")))
    assert hosts.known("api.bank.example") is Known.UNREAD
    assert hosts.unknown("api.bank.example").verb == "list"


def test_services_of_gateway_namespaces_are_known() -> None:
    """What a run reads for its gateways answers as its own namespace does: a name that is not there is missing, not unread."""
    spaces = (make.namespace(make.ISTIO, labels={}), make.namespace(), make.namespace("istio-ingress", labels={}))
    name = "nothing.istio-ingress.svc.cluster.local"
    assert Hosts(shop(namespaces=spaces)).known(name) is Known.UNREAD
    assert Hosts(shop(namespaces=spaces, gateway_namespaces=("istio-ingress",))).known(name) is Known.MISSING
