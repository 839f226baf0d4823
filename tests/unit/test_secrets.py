"""Secrets and ConfigMaps with certificates become public facts, and only those that were named are ever read."""

from __future__ import annotations

import base64
import datetime as dt
import ipaddress
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from pytest_meshready.cluster import decode, live
from pytest_meshready.cluster import snapshot as snapshots
from pytest_meshready.cluster.certificates import gateway_secret, root_certificates
from pytest_meshready.cluster.client import connect
from pytest_meshready.cluster.permissions import Right, rights
from pytest_meshready.cluster.resources import RESOURCES
from pytest_meshready.cluster.snapshot import Snapshot, Unreadable, encode
from pytest_meshready.configuration import Dependency, parse
from pytest_meshready.tables import SettingsError
from pytest_meshready.waiting import Deadlines
from tests.unit.apiserver import Api, serving
from tests.unit.test_live import stock

CANARY = "s3cret-canary"
BEGINS, ENDS = dt.datetime(2026, 1, 1, tzinfo=dt.UTC), dt.datetime(2027, 1, 1, tzinfo=dt.UTC)


class Pair:
    """A certificate and its key, signed by another pair or by itself."""

    def __init__(self, name: str, *hosts: str, by: Pair | None = None, authority: bool = False) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        signer = by or self
        builder = x509.CertificateBuilder(
            subject_name=self.subject,
            issuer_name=signer.subject,
            public_key=self.key.public_key(),
            serial_number=4711,
            not_valid_before=BEGINS,
            not_valid_after=ENDS,
        ).add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        if hosts:
            names: list[x509.GeneralName] = [
                x509.UniformResourceIdentifier(host) if ":" in host else x509.DNSName(host) for host in hosts if not host[0].isdigit()
            ]
            names += [x509.IPAddress(ipaddress.ip_address(host)) for host in hosts if host[0].isdigit()]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        self.certificate = builder.sign(signer.key, hashes.SHA256())

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def private(self, password: bytes | None = None) -> bytes:
        cipher: serialization.KeySerializationEncryption = (
            serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
        )
        return self.key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, cipher)


@pytest.fixture(scope="module")
def authority() -> Pair:
    return Pair("ca", authority=True)


@pytest.fixture(scope="module")
def shop(authority: Pair) -> Pair:
    return Pair("shop.example.com", "shop.example.com", "10.0.0.1", "spiffe://cluster.local/ns/a/sa/b", by=authority)


def written(data: dict[str, bytes], **more: Any) -> bytes:
    """A Secret as the API server sends it."""
    encoded = {key: base64.b64encode(value).decode() for key, value in data.items()}
    return json.dumps(
        {"metadata": {"name": "shop-tls", "namespace": "istio-system"}, "type": "kubernetes.io/tls", "data": encoded, **more}
    ).encode()


def test_public_facts(shop: Pair, authority: Pair) -> None:
    """Names, times, the chain, and that the key belongs to the certificate; never the key nor the certificate's text."""
    read = gateway_secret(written({"tls.crt": shop.pem + authority.pem, "tls.key": shop.private(), "note": CANARY.encode()}))
    leaf, issuer = read.chain
    assert (read.metadata.name, read.keys, read.key_matches, read.problem) == ("shop-tls", ("tls.crt", "tls.key"), True, "")
    assert (leaf.subject, leaf.issuer, leaf.names, leaf.uris) == (
        "CN=shop.example.com",
        "CN=ca",
        ("shop.example.com", "10.0.0.1"),
        ("spiffe://cluster.local/ns/a/sa/b",),
    )
    assert (leaf.not_before, leaf.not_after, leaf.serial) == ("2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z", "1267")
    assert (leaf.self_signed, leaf.authority, issuer.self_signed, issuer.authority) == (False, False, True, True)
    kept = repr(read)
    assert CANARY not in kept
    assert "PRIVATE" not in kept
    assert "BEGIN" not in kept


def test_the_other_pair_of_keys_comes_first(shop: Pair, authority: Pair) -> None:
    """Istiod looks at cert and key before tls.crt and tls.key, and takes clients' authorities from cacert or ca.crt."""
    other = Pair("other.example.com", "other.example.com", by=authority)
    data = {"cert": shop.pem, "key": shop.private(), "tls.crt": other.pem, "tls.key": other.private(), "ca.crt": authority.pem}
    read = gateway_secret(written(data))
    assert (read.chain[0].subject, read.authorities[0].subject) == ("CN=shop.example.com", "CN=ca")


def test_a_manifest_in_plain_text(shop: Pair) -> None:
    """stringData, as a manifest may write it."""
    text = {"tls.crt": shop.pem.decode(), "tls.key": shop.private().decode()}
    assert gateway_secret(json.dumps({"metadata": {"name": "shop-tls"}, "stringData": text}).encode()).key_matches is True


def test_what_a_gateway_cannot_use(shop: Pair, authority: Pair) -> None:
    """Each way to be wrong is the end of a sentence, and none quotes what was there."""
    wrong = Pair("shop.example.com", by=authority)
    cases: list[tuple[dict[str, bytes], str]] = [
        ({}, "has neither tls.crt with tls.key nor cert with key (it has nothing that Istio knows)"),
        ({"tls.crt": shop.pem}, "has neither tls.crt with tls.key nor cert with key (it has tls.crt)"),
        ({"tls.crt": CANARY.encode(), "tls.key": shop.private()}, "has no PEM certificate in its key tls.crt"),
        (
            {"tls.crt": b"-----BEGIN CERTIFICATE-----\nQUJD\n-----END CERTIFICATE-----", "tls.key": shop.private()},
            "has a certificate in its key tls.crt that cannot be read",
        ),
        ({"tls.crt": shop.pem, "tls.key": CANARY.encode()}, "has a private key that cannot be read"),
        ({"tls.crt": shop.pem, "tls.key": shop.private(b"secret")}, "has a private key that cannot be read"),
    ]
    for data, problem in cases:
        read = gateway_secret(written(data))
        assert read.problem.startswith(problem)
        assert CANARY not in repr(read)
    assert gateway_secret(written({"tls.crt": shop.pem, "tls.key": wrong.private()})).key_matches is False
    assert (
        gateway_secret(json.dumps({"data": {"tls.crt": "###", "tls.key": "eA=="}}).encode()).problem
        == "has a key tls.crt that is not base64"
    )


def test_roots(authority: Pair) -> None:
    """The ConfigMap that istiod writes into every namespace."""
    document = {"metadata": {"name": "istio-ca-root-cert", "namespace": "payments"}, "data": {"root-cert.pem": authority.pem.decode()}}
    read = root_certificates(json.dumps(document).encode())
    assert ([root.subject for root in read.roots], read.problem) == (["CN=ca"], "")
    assert root_certificates(b'{"data": null}').problem == "has no key root-cert.pem"
    assert root_certificates(b'{"data": {"root-cert.pem": "x"}}').problem == "has no PEM certificate in its key root-cert.pem"


@pytest.mark.parametrize("raw", [b'{"data": 5}', b'{"metadata": []}', b'{"data": {"tls.crt": 7}}', b"[]", b"null"])
def test_odd_answers_are_unreadable(raw: bytes) -> None:
    """What has not the shape of a Secret says so, without a word of it."""
    read = decode.single(raw, RESOURCES["secrets"])
    assert isinstance(read, Unreadable)


# --- what is asked for ---


@pytest.fixture
def api(shop: Pair, authority: Pair) -> Iterator[Api]:
    with serving() as server:
        stock(server, "istio-ingress")
        server.objects["/api/v1/namespaces/istio-ingress/secrets/shop-tls"] = json.loads(
            written({"tls.crt": shop.pem, "tls.key": shop.private(), "password": CANARY.encode()})
        )
        server.objects["/api/v1/namespaces/payments/configmaps/istio-ca-root-cert"] = {
            "metadata": {"name": "istio-ca-root-cert", "namespace": "payments", "annotations": {"x": CANARY}},
            "data": {"root-cert.pem": authority.pem.decode(), "other": CANARY},
        }
        yield server


READS = frozenset({"pods", "secrets", "rootcertificates"})


def take(api: Api, folder: Path, **given: Any) -> Snapshot:
    deadlines = Deadlines(request=5)
    return live.take(connect(api.kubeconfig(folder), None, deadlines), namespace="payments", reads=READS, deadlines=deadlines, **given)


def test_only_what_was_named_is_read(api: Api, tmp_path: Path) -> None:
    """Without names no Secret is touched; with them each is one get, and its facts are in the snapshot."""
    without = take(api, tmp_path)
    assert not any("secrets" in path for path in api.paths)
    assert (without.secrets, "secrets" in without.read) == ((), False)
    api.requests.clear()
    found = take(api, tmp_path, secrets=("istio-ingress/shop-tls", "istio-ingress/gone"), gateway_namespaces=("istio-ingress",))
    assert sorted(path for path in api.paths if "secrets" in path) == [
        "/api/v1/namespaces/istio-ingress/secrets/gone",
        "/api/v1/namespaces/istio-ingress/secrets/shop-tls",
    ]
    assert [item.chain[0].subject for item in found.secrets] == ["CN=shop.example.com"]
    assert found.gateway_secrets == ("istio-ingress/shop-tls", "istio-ingress/gone")
    assert found.refusals == ()
    assert [(item.metadata.namespace, len(item.roots)) for item in found.rootcertificates] == [("payments", 1)]
    text = encode(found)
    assert snapshots.decode(text) == found
    assert CANARY.encode() not in text
    assert b"PRIVATE" not in text
    assert b"BEGIN" not in text


def test_gateway_namespaces_are_read_as_the_runs_own(api: Api, tmp_path: Path) -> None:
    """Where gateways run, the same kinds are listed."""
    found = take(api, tmp_path, gateway_namespaces=("istio-ingress",))
    assert "/api/v1/namespaces/istio-ingress/pods" in api.paths
    assert found.gateway_namespaces == ("istio-ingress",)


def test_of_declared_namespaces_the_steps_to_strict_are_read(api: Api, tmp_path: Path) -> None:
    """Their PeerAuthentications and nothing else, and --mesh-rbac grants just that."""
    deadlines, reads = Deadlines(request=5), READS | {"peerauthentications"}
    cluster = connect(api.kubeconfig(tmp_path), None, deadlines)
    declared = ("payments", "orders")
    found = live.take(cluster, namespace="payments", reads=reads, declared_namespaces=declared, deadlines=deadlines)
    assert {path.rpartition("/")[2] for path in api.paths if "/namespaces/orders/" in path} == {"peerauthentications"}
    assert found.declared_namespaces == ("payments", "orders")
    places = {"namespace": "payments", "istio_namespace": "istio-system", "root_namespace": "istio-system", "revision": ""}
    more = set(rights(RESOURCES, **places, declared_namespaces=("payments", "orders"))) - set(rights(RESOURCES, **places))
    assert [str(right) for right in more] == ["list peerauthentications.security.istio.io in orders"]


def test_rights_follow_from_the_names(api: Api, tmp_path: Path) -> None:
    """--mesh-rbac grants exactly what is asked for, and nothing of Secrets unless they are named."""
    given: dict[str, Any] = {"gateway_namespaces": ("istio-ingress",), "secrets": ("istio-ingress/shop-tls", "istio-ingress/gone")}
    take(api, tmp_path, **given)
    places = {"namespace": "payments", "istio_namespace": "istio-system", "root_namespace": "istio-system", "revision": ""}
    allowed = rights(READS, **places, **given)
    assert Right(namespace="istio-ingress", resource="secrets", verb="get", names=("gone", "shop-tls")) in allowed
    assert Right(namespace="payments", resource="configmaps", verb="get", names=("istio-ca-root-cert",)) in allowed
    named = {
        f"/api/v1/namespaces/{right.namespace}/{right.resource}/{name}"
        for right in allowed
        if right.resource == "secrets"
        for name in right.names
    }
    assert {path for path in api.paths if "secrets" in path} == named
    assert not any(right.resource == "secrets" for right in rights(READS, **places))


def test_a_run_reads_what_its_settings_name(api: Api, tmp_path: Path) -> None:
    """The names in meshready.toml reach the reading of the cluster."""
    named = 'gateway_namespaces = ["istio-ingress"]\ngateway_secrets = ["istio-ingress/shop-tls"]\n'
    tmp_path.joinpath("meshready.toml").write_text(named, encoding="utf-8")
    saved = tmp_path / "mesh.json"
    options = ("--mesh-namespace=payments", f"--mesh-kubeconfig={api.kubeconfig(tmp_path)}", f"--mesh-save-snapshot={saved}")
    subprocess.run(
        [sys.executable, "-m", "pytest", "--mesh-read-only", "--mesh-items=8.1.1", *options], cwd=tmp_path, check=False, timeout=60
    )
    found = snapshots.load(saved)
    assert found.gateway_secrets == ("istio-ingress/shop-tls",)
    assert [item.chain[0].subject for item in found.secrets] == ["CN=shop.example.com"]
    assert found.gateway_namespaces == ("istio-ingress",)


# --- settings ---


def test_settings_of_the_edges() -> None:
    """What a team says of its gateways and of what it calls outside."""
    config = parse(
        {
            "gateway_namespaces": ["istio-ingress"],
            "gateway_secrets": ["istio-ingress/shop-tls"],
            "external_rate_limit": "Cloud Armor, policy shop",
            "dependency": [{"host": "API.Bank.example.", "port": 443, "protocol": "tls", "owner": "payments"}, {"host": "10.1.2.3"}],
        },
        "meshready.toml",
    )
    assert (config.gateway_namespaces, config.gateway_secrets) == (("istio-ingress",), ("istio-ingress/shop-tls",))
    assert config.external_rate_limit == "Cloud Armor, policy shop"
    assert config.dependencies == (
        Dependency(host="api.bank.example", port=443, protocol="TLS", owner="payments"),
        Dependency(host="10.1.2.3"),
    )
    assert parse({}, "meshready.toml").dependencies is None
    assert parse({"dependency": []}, "meshready.toml").dependencies == ()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"gateway_secrets": ["shop-tls"]}, "gateway_secrets names 'shop-tls'"),
        ({"gateway_namespaces": ["Istio_Ingress"]}, "gateway_namespaces names 'Istio_Ingress'"),
        ({"dependency": [{"port": 443}]}, "has no host"),
        ({"dependency": [{"host": "https://bank"}]}, "a DNS name such as"),
        ({"dependency": [{"host": "bank", "port": 0}]}, "the number of a port"),
        ({"dependency": [{"host": "bank", "ports": 443}]}, "unknown key 'ports'"),
    ],
)
def test_settings_that_make_no_sense(data: dict[str, Any], said: str) -> None:
    """One sentence that says what is wanted."""
    with pytest.raises(SettingsError, match=said):
        parse(data, "meshready.toml")
