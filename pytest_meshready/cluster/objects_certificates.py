"""Certificates by their public facts: the root that pods trust, and the ones that gateways show.

Neither a key nor the text of a certificate is kept: `pytest_meshready.cluster.certificates` reduces what was read at once.
"""

from __future__ import annotations

from typing import ClassVar

from pytest_meshready.cluster.objects import Metadata, Slim


class Certificate(Slim, frozen=True):
    """One certificate.

    ``subject`` and ``issuer`` are written as RFC 4514 does (``CN=shop.example.com,O=Shop``); ``names`` are the DNS names and
    addresses of its alternative names, ``uris`` those that are URIs (SPIFFE identities); times are RFC 3339 text in UTC;
    ``fingerprint`` is SHA-256 in hexadecimal. ``self_signed``: issuer and subject are the same.
    """

    subject: str = ""
    issuer: str = ""
    names: tuple[str, ...] = ()
    uris: tuple[str, ...] = ()
    not_before: str = ""
    not_after: str = ""
    serial: str = ""
    fingerprint: str = ""
    self_signed: bool = False
    authority: bool = False


class RootCertificates(Slim, frozen=True):
    """A ConfigMap with the roots that the pods of its namespace trust when they meet istiod.

    ``problem`` is the end of a sentence that begins with the ConfigMap's name; empty where ``roots`` could be read.
    """

    kind: ClassVar[str] = "ConfigMap"
    metadata: Metadata = Metadata()
    roots: tuple[Certificate, ...] = ()
    problem: str = ""


class GatewaySecret(Slim, frozen=True):
    """A Secret that a gateway shows its certificate from.

    ``keys`` are those of its keys that Istio knows. ``chain`` begins with the certificate of the host; ``key_matches`` is None
    where there is no pair to compare. ``authorities`` are what clients' certificates are checked by. ``problem`` says why a
    gateway cannot use it.
    """

    kind: ClassVar[str] = "Secret"
    metadata: Metadata = Metadata()
    type: str = ""
    keys: tuple[str, ...] = ()
    chain: tuple[Certificate, ...] = ()
    key_matches: bool | None = None
    authorities: tuple[Certificate, ...] = ()
    problem: str = ""
