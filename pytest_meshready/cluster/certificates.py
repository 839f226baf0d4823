"""Secrets and ConfigMaps with certificates -> their public facts (`pytest_meshready.cluster.objects_certificates`).

A private key is loaded only to compare it with its certificate and is gone when the function returns. No message quotes what
was read. Which keys of a Secret count, and in which order, is istiod's own rule: ``ExtractCertInfo`` and ``ExtractRoot`` in
pilot/pkg/credentials/kube/secrets.go.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec

from pytest_meshready.cluster import objects
from pytest_meshready.cluster.objects_certificates import Certificate, GatewaySecret, RootCertificates

if TYPE_CHECKING:
    from cryptography import x509

#: The key of the ConfigMap ``istio-ca-root-cert``.
ROOT_KEY = "root-cert.pem"

#: The pairs of keys that hold a certificate and its private key, as istiod tries them.
_PAIRS = (("cert", "key"), ("tls.crt", "tls.key"))
_AUTHORITIES = ("cacert", "ca.crt")
_KNOWN = frozenset({*(key for pair in _PAIRS for key in pair), *_AUTHORITIES, "tls.ocsp-staple", "ca.crl", "crl"})

_BEGIN = b"-----BEGIN CERTIFICATE-----"


class _Unusable(Exception):  # noqa: N818 - it reads as what it is
    """Why something cannot be used; the message is the end of a sentence and quotes nothing."""


class _Read(objects.Slim, frozen=True):
    """A Secret or a ConfigMap as the API server writes it; values are base64 in a Secret, text in a ConfigMap."""

    metadata: objects.Metadata = objects.Metadata()
    type: str | None = None
    data: dict[str, str | None] | None = None
    string_data: dict[str, str | None] | None = None


#: Built at import, because several threads decode at once (see `pytest_meshready.cluster.decode`).
_READER = msgspec.json.Decoder(_Read)


def root_certificates(raw: bytes | msgspec.Raw) -> RootCertificates:
    """The roots in a ConfigMap.

    Raises:
        msgspec.DecodeError: where it is no ConfigMap.
    """
    read = _READER.decode(raw)
    text = (read.data or {}).get(ROOT_KEY)
    if not text:
        return RootCertificates(metadata=read.metadata, problem=f"has no key {ROOT_KEY}")
    try:
        return RootCertificates(metadata=read.metadata, roots=_chain(text.encode(), ROOT_KEY))
    except _Unusable as problem:
        return RootCertificates(metadata=read.metadata, problem=str(problem))


def gateway_secret(raw: bytes | msgspec.Raw) -> GatewaySecret:
    """The public facts of a Secret with a certificate for a gateway.

    Raises:
        msgspec.DecodeError: where it is no Secret.
    """
    read = _READER.decode(raw)
    keys = tuple(sorted({*(read.data or {}), *(read.string_data or {})} & _KNOWN))
    found: dict[str, Any] = {"metadata": read.metadata, "type": read.type or "", "keys": keys}
    try:
        values = _values(read)
        found["authorities"] = _authorities(values)
        chain, private = _pair(values)
        found["chain"] = chain
        found["key_matches"] = _matches(private, values[_certificate_key(values)])
    except _Unusable as problem:
        found["problem"] = str(problem)
    return GatewaySecret(**found)


def _values(read: _Read) -> dict[str, bytes]:
    """What stands under the keys that Istio knows; a manifest may write it as text in ``stringData``, which then wins."""
    found: dict[str, bytes] = {}
    for key, encoded in (read.data or {}).items():
        if key in _KNOWN and encoded:
            try:
                found[key] = base64.b64decode(encoded, validate=True)
            except (binascii.Error, ValueError):
                raise _Unusable(f"has a key {key} that is not base64") from None
    found.update({key: text.encode() for key, text in (read.string_data or {}).items() if key in _KNOWN and text})
    return found


def _certificate_key(values: Mapping[str, bytes]) -> str:
    """The key of the certificate, where it has a private key beside it; empty where there is no pair."""
    return next((certificate for certificate, private in _PAIRS if certificate in values and private in values), "")


def _pair(values: Mapping[str, bytes]) -> tuple[tuple[Certificate, ...], bytes]:
    key = _certificate_key(values)
    if not key:
        held = ", ".join(sorted(values)) or "nothing that Istio knows"
        raise _Unusable(f"has neither tls.crt with tls.key nor cert with key (it has {held})")
    return _chain(values[key], key), values[dict(_PAIRS)[key]]


def _authorities(values: Mapping[str, bytes]) -> tuple[Certificate, ...]:
    key = next((key for key in _AUTHORITIES if key in values), "")
    return _chain(values[key], key) if key else ()


def _chain(pem: bytes, key: str) -> tuple[Certificate, ...]:
    return tuple(_facts(certificate) for certificate in _loaded(pem, key))


def _loaded(pem: bytes, key: str) -> Sequence[x509.Certificate]:
    from cryptography import x509

    if _BEGIN not in pem:
        raise _Unusable(f"has no PEM certificate in its key {key}")
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError:
        raise _Unusable(f"has a certificate in its key {key} that cannot be read") from None


def _facts(certificate: x509.Certificate) -> Certificate:
    """What is public of a certificate; extensions that cannot be read count as absent."""
    from cryptography.hazmat.primitives import hashes

    names, uris = _names(certificate)
    subject, issuer = certificate.subject.rfc4514_string(), certificate.issuer.rfc4514_string()
    return Certificate(
        subject=subject,
        issuer=issuer,
        names=names,
        uris=uris,
        not_before=_time(certificate.not_valid_before_utc),
        not_after=_time(certificate.not_valid_after_utc),
        serial=f"{certificate.serial_number:x}",
        fingerprint=certificate.fingerprint(hashes.SHA256()).hex(),
        self_signed=certificate.issuer == certificate.subject,
        authority=_is_authority(certificate),
    )


def _names(certificate: x509.Certificate) -> tuple[tuple[str, ...], tuple[str, ...]]:
    from cryptography import x509

    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType, ValueError):
        return (), ()
    hosts = [*names.get_values_for_type(x509.DNSName), *map(str, names.get_values_for_type(x509.IPAddress))]
    return tuple(hosts), tuple(names.get_values_for_type(x509.UniformResourceIdentifier))


def _is_authority(certificate: x509.Certificate) -> bool:
    from cryptography import x509

    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
        return False


def _matches(private: bytes, pem: bytes) -> bool:
    """Whether a private key is the one of a certificate.

    Raises:
        _Unusable: where the key cannot be read (also: it is encrypted, which Envoy cannot open).
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    shown = _loaded(pem, "certificate")[0]
    try:
        own = load_pem_private_key(private, password=None).public_key().public_bytes(*form)
        return own == shown.public_key().public_bytes(*form)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise _Unusable("has a private key that cannot be read (not PEM, encrypted, or of an unknown kind)") from None


def _time(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
