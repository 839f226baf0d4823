"""What is read out of the certificates that peers show."""

from __future__ import annotations

import datetime as dt

import pytest

from pytest_meshready.probes import certificates
from pytest_meshready.probes.certificates import ForwardedClient, SpiffeId
from tests.unit import loopback
from tests.unit.loopback import Authority, der, pem

LEDGER = "spiffe://cluster.local/ns/payments/sa/ledger"


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


def test_identity_and_validity(authority: Authority) -> None:
    """Trust domain, namespace, service account, and the time for which it is valid, in UTC."""
    made, _ = authority.workload(LEDGER)
    (read,) = certificates.parse([der(made)])
    assert read.spiffe == SpiffeId("cluster.local", "payments", "ledger")
    assert str(read.spiffe) == LEDGER
    assert read.spiffe.principal == "cluster.local/ns/payments/sa/ledger"
    assert read.not_after == loopback.NOW + dt.timedelta(hours=24)
    assert (read.subject, read.issuer, read.is_authority, read.self_issued) == ("", "O=cluster.local", False, False)
    assert read.serial == f"{made.serial_number:x}"
    assert read.valid_at(loopback.NOW)
    assert not read.valid_at(loopback.NOW + dt.timedelta(hours=25))
    assert not read.valid_at(loopback.NOW - dt.timedelta(hours=1))


@pytest.mark.parametrize(
    "uris",
    [(), ("https://example.com",), ("spiffe://cluster.local/ns/payments",), (LEDGER, "spiffe://cluster.local/ns/payments/sa/orders")],
)
def test_no_identity(authority: Authority, uris: tuple[str, ...]) -> None:
    """A certificate without a URI, with another kind of URI, or with two, is nobody of the mesh."""
    made, _ = authority.workload(*uris)
    (read,) = certificates.parse([der(made)])
    assert read.uris == uris
    assert read.spiffe is None


@pytest.mark.parametrize(
    ("uri", "identity"),
    [
        ("spiffe://old-td/ns/a/sa/b", SpiffeId("old-td", "a", "b")),
        ("spiffe://td/ns/a/sa/b/c", None),
        ("spiffe:///ns/a/sa/b", None),
        ("cluster.local/ns/a/sa/b", None),
        ("", None),
    ],
)
def test_form_of_an_identity(uri: str, identity: SpiffeId | None) -> None:
    """Only Istio's own form counts."""
    assert SpiffeId.parse(uri) == identity


def test_chain_that_holds(authority: Authority) -> None:
    """Signed by the one behind it, up to the mesh's root, whether the root was shown or not."""
    leaf, root = der(authority.workload(LEDGER)[0]), certificates.parse_pem(pem(authority.certificate))
    assert root[0].is_authority
    assert root[0].self_issued
    assert certificates.chain_problem(certificates.parse([leaf, root[0].der])) == ""
    assert certificates.chain_problem(certificates.parse([leaf])) == ""


def test_chain_of_somebody_else(authority: Authority) -> None:
    """An authority of the same name with another key did not sign it."""
    other = Authority()
    leaf = der(other.workload(LEDGER)[0])
    shown = certificates.parse([leaf, der(authority.certificate)])
    assert certificates.chain_problem(shown) == f"{LEDGER} is not signed by O=cluster.local, which was shown with it"


def test_nothing_was_shown() -> None:
    """No chain is no proof."""
    assert certificates.chain_problem(()) == "no certificate was shown"


def test_what_is_no_certificate() -> None:
    """It is said, not guessed."""
    with pytest.raises(ValueError, match=r"."):
        certificates.parse([b"not a certificate"])
    assert certificates.parse_pem("no certificate in here") == ()


def test_forwarded_client() -> None:
    """As a sidecar writes it: empty subject, one URI."""
    header = f'By=spiffe://cluster.local/ns/payments/sa/orders;Hash=14a979;Subject="";URI={LEDGER}'
    assert certificates.forwarded_clients(header) == (
        ForwardedClient(by="spiffe://cluster.local/ns/payments/sa/orders", uri=LEDGER, digest="14a979"),
    )


def test_forwarded_clients_with_quotes() -> None:
    """Separators within quotes separate nothing, and the nearest client is the last."""
    header = r'By=a;Subject="CN=x,O=\"y;z\"";URI=first,By=b;URI=second'
    first, second = certificates.forwarded_clients(header)
    assert (first.by, first.uri, first.subject) == ("a", "first", 'CN=x,O="y;z"')
    assert (second.by, second.uri) == ("b", "second")


@pytest.mark.parametrize("header", ["", ";", ",", "nonsense", '"'])
def test_forwarded_client_that_is_none(header: str) -> None:
    """An odd header names nobody."""
    assert all(client.uri == "" for client in certificates.forwarded_clients(header))


def test_certificate_that_nobody_trusts() -> None:
    """It is made once, and belongs to nobody of the mesh."""
    text = certificates.self_signed_pem()
    assert text == certificates.self_signed_pem()
    assert "PRIVATE KEY" in text
    (read,) = certificates.parse_pem(text)
    assert read.self_issued
    assert read.spiffe is None
