"""What a certificate says about who shows it: SPIFFE identities, validity, and who signed it.

Pure functions over bytes; nothing here trusts anything. A chain is as the peer showed it, its own certificate first.
"""

from __future__ import annotations

import base64
import datetime as dt
import functools
import hashlib
import itertools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

__all__ = ["Certificate", "ForwardedClient", "SpiffeId", "chain_problem", "forwarded_clients", "parse", "parse_pem", "self_signed_pem"]

_SPIFFE = re.compile(r"spiffe://([^/]+)/ns/([^/]+)/sa/([^/]+)")


@dataclass(frozen=True, slots=True)
class SpiffeId:
    """The identity of a workload in an Istio mesh: ``spiffe://<trust domain>/ns/<namespace>/sa/<service account>``."""

    trust_domain: str
    namespace: str
    service_account: str

    @classmethod
    def parse(cls, uri: str) -> SpiffeId | None:
        """The identity in a URI; None where it is none of Istio's form."""
        found = _SPIFFE.fullmatch(uri)
        return cls(*found.groups()) if found else None

    @property
    def principal(self) -> str:
        """As AuthorizationPolicies and metrics write it, without the scheme."""
        return f"{self.trust_domain}/ns/{self.namespace}/sa/{self.service_account}"

    def __str__(self) -> str:
        return f"spiffe://{self.principal}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """What is of interest in one certificate; ``der`` is all of it.

    ``uris`` are the URIs among its alternative names; ``not_before`` and ``not_after`` are in UTC; ``serial`` is in hexadecimal,
    as ``openssl x509 -serial`` and ``istioctl proxy-config secret`` print it.
    """

    uris: tuple[str, ...]
    not_before: dt.datetime
    not_after: dt.datetime
    subject: str
    issuer: str
    serial: str
    is_authority: bool
    der: bytes

    @property
    def spiffe(self) -> SpiffeId | None:
        """The identity, if there is exactly one URI and it is Istio's: a certificate of SPIFFE has one URI."""
        return SpiffeId.parse(self.uris[0]) if len(self.uris) == 1 else None

    @property
    def self_issued(self) -> bool:
        """Whether issuer and subject are the same: a root, or a certificate that nobody else signed."""
        return self.issuer == self.subject

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all of it, in hexadecimal."""
        return hashlib.sha256(self.der).hexdigest()

    def valid_at(self, moment: dt.datetime) -> bool:
        """Whether it is valid at that moment; take the cluster's clock, not this machine's."""
        return self.not_before <= moment <= self.not_after


def parse(chain: Iterable[bytes]) -> tuple[Certificate, ...]:
    """The certificates of a chain of DER.

    Raises:
        ValueError: where one of them is no certificate.
    """
    return tuple(map(_parse, chain))


def parse_pem(pem: str) -> tuple[Certificate, ...]:
    """The certificates in a PEM text, such as ``root-cert.pem`` of the ConfigMap ``istio-ca-root-cert``.

    Raises:
        ValueError: where one of them is no certificate.
    """
    blocks = re.findall(r"-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", pem, flags=re.DOTALL)
    return parse(base64.b64decode(block) for block in blocks)


def chain_problem(chain: Sequence[Certificate]) -> str:
    """Why a chain does not hold together, as the end of a sentence; empty if it does.

    Every certificate must be signed by the next one. Neither validity nor who signed the last one is looked at.
    """
    if not chain:
        return "no certificate was shown"
    for signed, signer in itertools.pairwise(chain):
        if not _signed_by(signed, signer):
            return f"{_name(signed)} is not signed by {_name(signer)}, which was shown with it"
    return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardedClient:
    """One element of ``x-forwarded-client-cert``: the client that a proxy saw. ``by`` is the proxy's own identity.

    ``digest`` is the SHA-256 of the client's certificate in hexadecimal (``Hash``).
    """

    by: str = ""
    uri: str = ""
    digest: str = ""
    subject: str = ""


def forwarded_clients(header: str) -> tuple[ForwardedClient, ...]:
    """The clients in an ``x-forwarded-client-cert`` header, the nearest one last (Envoy, HTTP header manipulation).

    A sidecar adds an element only for a client that showed a certificate it accepted, and removes the header of one that did not.
    """
    found = []
    for element in _split(header, ","):
        fields: dict[str, str] = {}
        for pair in _split(element, ";"):
            key, _, value = pair.partition("=")
            fields[key.strip().lower()] = re.sub(r"\\(.)", r"\1", value.strip().removeprefix('"').removesuffix('"'))
        found.append(
            ForwardedClient(
                by=fields.get("by", ""), uri=fields.get("uri", ""), digest=fields.get("hash", ""), subject=fields.get("subject", "")
            )
        )
    return tuple(found)


@functools.cache
def self_signed_pem() -> str:
    """A certificate that nobody trusts and its key, for a probe that shall be refused; made once, valid for a day."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "pytest-meshready: trusted by nobody")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return (certificate.public_bytes(pem) + private).decode()


def _parse(der: bytes) -> Certificate:
    from cryptography import x509

    read = x509.load_der_x509_certificate(der)
    try:
        names = read.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = tuple(names.get_values_for_type(x509.UniformResourceIdentifier))
    except x509.ExtensionNotFound:
        uris = ()
    try:
        is_authority = read.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        is_authority = False
    return Certificate(
        uris=uris,
        not_before=read.not_valid_before_utc,
        not_after=read.not_valid_after_utc,
        subject=read.subject.rfc4514_string(),
        issuer=read.issuer.rfc4514_string(),
        serial=f"{read.serial_number:x}",
        is_authority=is_authority,
        der=der,
    )


def _signed_by(signed: Certificate, signer: Certificate) -> bool:
    """Whether the signature is the signer's; names and key are compared, nothing else."""
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature

    try:
        x509.load_der_x509_certificate(signed.der).verify_directly_issued_by(x509.load_der_x509_certificate(signer.der))
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True


def _name(certificate: Certificate) -> str:
    """A certificate in a sentence."""
    return ", ".join(certificate.uris) or certificate.subject or f"the certificate {certificate.serial}"


def _split(text: str, separator: str) -> list[str]:
    """Parts between separators that are not within quotes."""
    parts = re.findall(rf'(?:"(?:\\.|[^"\\])*"|[^"{separator}])+', text)
    return [part for part in parts if part.strip()]
