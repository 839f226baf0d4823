"""Who may call whom, beside AuthorizationPolicy: RequestAuthentication, and the machines that WorkloadEntry names.

Of a RequestAuthentication only the issuers are kept: its keys (``jwks``) are public, but long, and headers may be named that
carry tokens.
"""

from __future__ import annotations

from typing import ClassVar

from pytest_meshready.cluster.objects import Labels, Metadata, Slim, TargetRef, WorkloadSelector


class JwtRule(Slim, frozen=True):
    """Whose tokens are accepted; a request without any token passes all the same."""

    issuer: str = ""


class RequestAuthenticationSpec(Slim, frozen=True):
    """Selects pods by ``selector``, or gateways and waypoints by ``target_refs``; neither: all of its namespace."""

    selector: WorkloadSelector | None = None
    target_ref: TargetRef | None = None
    target_refs: tuple[TargetRef, ...] = ()
    jwt_rules: tuple[JwtRule, ...] = ()


class RequestAuthentication(Slim, frozen=True):
    kind: ClassVar[str] = "RequestAuthentication"
    metadata: Metadata = Metadata()
    spec: RequestAuthenticationSpec = RequestAuthenticationSpec()


class WorkloadEntrySpec(Slim, frozen=True):
    """A machine outside Kubernetes. The label ``security.istio.io/tlsMode: istio`` tells that it has a proxy."""

    address: str = ""
    labels: Labels = {}
    service_account: str = ""


class WorkloadEntry(Slim, frozen=True):
    kind: ClassVar[str] = "WorkloadEntry"
    metadata: Metadata = Metadata()
    spec: WorkloadEntrySpec = WorkloadEntrySpec()
