"""Line 8.1.1: whoever enters does so by TLS, with a certificate that is good (checks.md 8.1.1)."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from pytest_meshready.cluster.objects_certificates import Certificate, GatewaySecret
from pytest_meshready.cluster.snapshot import Snapshot
from pytest_meshready.istio.termination import covers, tls_terminated
from pytest_meshready.results import Judgement, Level, Status
from tests.unit import builders as make
from tests.unit.doorways import HTTPS, REDIRECT, ROUTE, entered, gateway
from tests.unit.written import shop

SECRET = "istio-system/shop-tls"
PLAIN = "{port: {number: 80, name: http, protocol: HTTP}, hosts: [shop.example.com]}"


def leaf(**fields: Any) -> Certificate:
    """A good certificate for the shop; snapshots are of 2026-08-25."""
    defaults: dict[str, Any] = {
        "subject": "CN=shop.example.com",
        "issuer": "CN=ca",
        "names": ("shop.example.com",),
        "not_before": "2026-01-01T00:00:00Z",
        "not_after": "2027-01-01T00:00:00Z",
    }
    return Certificate(**{**defaults, **fields})


def secret(*chain: Certificate, namespace: str = make.ISTIO, **fields: Any) -> GatewaySecret:
    fields.setdefault("key_matches", True)
    return GatewaySecret(metadata=make.metadata("shop-tls", namespace), type="kubernetes.io/tls", chain=chain or (leaf(),), **fields)


def found(judgement: Judgement) -> dict[tuple[str, str], Level]:
    return {(item.code, f"{item.object.kind}/{item.object.name}"): item.level for item in judgement.findings}


def servers(*text: str, route: str = ROUTE, **fields: Any) -> dict[tuple[str, str], Level]:
    """What is said of a Gateway with these servers."""
    return found(tls_terminated(entered(f"{gateway(*text)}{route}", **fields)))


def shown(*secrets: GatewaySecret, asked: tuple[str, ...] = (SECRET,), text: str | None = None) -> dict[tuple[str, str], Level]:
    """What is said where Secrets may be looked at."""
    return found(tls_terminated(entered(text, secrets=secrets, gateway_secrets=asked)))


def test_the_shop_ends_tls() -> None:
    """HTTPS with a Secret and plain HTTP that redirects pass; without gateway_secrets it is said what was not looked at."""
    judgement = tls_terminated(entered())
    assert (judgement.status, judgement.examined, judgement.findings) == (Status.PASSED, 2, ())
    assert f"Secrets not looked at (name them in meshready.toml: gateway_secrets): {SECRET}" in judgement.summary


def test_the_shop_with_its_certificate() -> None:
    """A good certificate."""
    judgement = tls_terminated(entered(secrets=(secret(),), gateway_secrets=(SECRET,)))
    assert (judgement.status, judgement.findings) == (Status.PASSED, ())
    assert "1 certificates are good" in judgement.summary


def test_plain_http() -> None:
    """The fault gateway-plaintext: port 80 without TLS and without a redirect."""
    assert servers(PLAIN) == {("MR811-PLAIN-HTTP", "Gateway/shop"): Level.ERROR}


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ("[{redirect: {scheme: https}}]", {}),
        ("[{match: [{port: 80}], redirect: {scheme: https}}, {match: [{port: 443}], route: [{destination: {host: frontend}}]}]", {}),
        (
            "[{match: [{uri: {prefix: /a}}], redirect: {scheme: https}}, {route: [{destination: {host: frontend}}]}]",
            {("MR811-PLAIN-HTTP", "Gateway/shop"): Level.ERROR},
        ),
    ],
)
def test_redirects_by_a_virtual_service(rules: str, said: dict[tuple[str, str], Level]) -> None:
    """A VirtualService that does nothing but redirect at the plain port is as good as httpsRedirect."""
    route = ROUTE.replace("[{route: [{destination: {host: frontend}}]}]", rules)
    assert servers(PLAIN, HTTPS, route=route) == said


def tls(settings: str, protocol: str = "HTTPS") -> str:
    return f"{{port: {{number: 443, name: https, protocol: {protocol}}}, hosts: [shop.example.com], tls: {settings}}}"


@pytest.mark.parametrize(
    ("server", "said"),
    [
        ("{port: {number: 443, name: https, protocol: HTTPS}, hosts: [a.example]}", {"MR811-NO-CERTIFICATE": Level.ERROR}),
        (tls("{mode: SIMPLE}"), {"MR811-NO-CERTIFICATE": Level.ERROR}),
        (tls("{mode: SIMPLE, serverCertificate: /etc/certs/tls.crt, privateKey: /etc/certs/tls.key}"), {}),
        (tls("{mode: MUTUAL, credentialNames: [rsa, ecdsa]}"), {}),
        (tls("{mode: SIMPLE, credentialName: a, minProtocolVersion: TLSV1_1}"), {"MR811-OLD-TLS": Level.ERROR}),
        (tls("{mode: SIMPLE, credentialName: a, minProtocolVersion: TLS_AUTO}"), {}),
        (tls("{mode: PASSTHROUGH}", "TLS"), {"MR811-PASSED-ON": Level.WARNING}),
        (tls("{}", "TLS"), {"MR811-PASSED-ON": Level.WARNING}),
        (tls("{mode: AUTO_PASSTHROUGH}", "TLS"), {}),
        (tls("{mode: ISTIO_MUTUAL}", "TLS"), {}),
        ("{port: {number: 6000, name: tcp, protocol: TCP}, hosts: ['*']}", {}),
    ],
)
def test_servers(server: str, said: dict[str, Level]) -> None:
    """Each way to open a port; a tls without mode passes on, the first value of the field."""
    assert {code: level for (code, _), level in servers(REDIRECT, server).items()} == said


@pytest.mark.parametrize(
    ("certificate", "code", "level"),
    [
        (leaf(not_after="2026-08-20T00:00:00Z"), "MR811-EXPIRED", Level.ERROR),
        (leaf(not_after="2026-09-05T00:00:00Z"), "MR811-ENDS-SOON", Level.ERROR),
        (leaf(not_after="2026-09-20T00:00:00Z"), "MR811-ENDS-SOON", Level.WARNING),
        (leaf(not_before="2026-09-01T00:00:00Z"), "MR811-NOT-YET-VALID", Level.ERROR),
        (leaf(names=("www.example.com",)), "MR811-WRONG-NAME", Level.ERROR),
        (leaf(self_signed=True, issuer="CN=shop.example.com"), "MR811-SELF-SIGNED", Level.WARNING),
    ],
)
def test_certificates(certificate: Certificate, code: str, level: Level) -> None:
    """The faults gateway-cert-expired and its kin; 14 and 30 days are the bounds."""
    assert shown(secret(certificate)) == {(code, "Secret/shop-tls"): level}


def test_an_intermediate_that_ends_first() -> None:
    """The chain is as good as its weakest certificate."""
    chain = (leaf(), leaf(subject="CN=intermediate", not_after="2026-08-30T00:00:00Z"))
    judgement = tls_terminated(entered(secrets=(secret(*chain),), gateway_secrets=(SECRET,)))
    assert found(judgement) == {("MR811-ENDS-SOON", "Secret/shop-tls"): Level.ERROR}
    assert "in its chain, the certificate of CN=intermediate" in judgement.findings[0].found


@pytest.mark.parametrize("fields", [{"key_matches": False}, {"problem": "has a private key that cannot be read", "key_matches": None}])
def test_a_secret_that_cannot_be_used(fields: dict[str, Any]) -> None:
    """Envoy then shows nothing at the port."""
    assert shown(secret(**fields)) == {("MR811-UNUSABLE", "Secret/shop-tls"): Level.ERROR}


def test_a_secret_that_does_not_exist() -> None:
    """The fault gateway-secret-missing names the Gateway; a Secret of that name in the wrong namespace is no help."""
    assert shown() == {("MR811-NO-SECRET", "Gateway/shop"): Level.ERROR}
    judgement = tls_terminated(entered(secrets=(secret(namespace="payments"),), gateway_secrets=(SECRET, "payments/shop-tls")))
    finding = next(item for item in judgement.findings if item.code == "MR811-NO-SECRET")
    assert "one of that name lies in payments" in finding.found
    assert ("MR811-UNUSED-SECRET", "Secret/shop-tls") in found(judgement)


def test_a_secret_that_may_not_be_read() -> None:
    """It was named, and the right is missing: not verified, with the right."""
    refusal = make.refusal("secrets", namespace=make.ISTIO)
    judgement = tls_terminated(entered(gateway_secrets=(SECRET,), refusals=(refusal,)))
    assert judgement.status is Status.NOT_VERIFIED
    assert judgement.unknown[0].resource == "secrets"


def test_one_certificate_on_two_gateways() -> None:
    """Browsers reuse a connection for another host of the certificate, which the other Gateway does not know."""
    text = f"{gateway()}{gateway(HTTPS.replace('shop.example.com', 'pay.example.com'), name='pay')}{ROUTE}"
    assert found(tls_terminated(entered(text))) == {("MR811-SHARED-CERTIFICATE", "Gateway/shop"): Level.WARNING}


def test_nothing_enters() -> None:
    """Without a Gateway the line does not apply, unless Gateways or their routes may not be listed."""
    assert tls_terminated(shop()).status is Status.NOT_APPLICABLE
    assert tls_terminated(shop(refusals=(make.refusal("gateways", namespace=""),))).status is Status.NOT_VERIFIED


def test_a_route_by_a_gateway_that_does_not_exist() -> None:
    """Whether TLS ends there cannot be told."""
    judgement = tls_terminated(entered(ROUTE))
    assert judgement.status is Status.NOT_VERIFIED
    assert "Gateway payments/shop" in judgement.reason


K8S = """
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: door}}
spec: {{gatewayClassName: istio, listeners: [{listeners}]}}
status: {{listeners: [{{name: https, conditions: [{{type: ResolvedRefs, status: "{resolved}", reason: InvalidCertificateRef}}]}}]}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: r}}
spec: {{parentRefs: [{{name: door}}], rules: [{rule}]}}
"""
LISTENER = "{name: https, port: 443, protocol: HTTPS, hostname: shop.example.com, tls: {certificateRefs: [{name: shop-tls}]}}"
LISTENER_80 = "{name: http, port: 80, protocol: HTTP}"
TO_HTTPS = "{filters: [{type: RequestRedirect, requestRedirect: {scheme: https}}]}"
TO_FRONTEND = "{backendRefs: [{name: frontend, port: 8080}]}"


@pytest.mark.parametrize(
    ("listeners", "rule", "resolved", "code"),
    [
        (LISTENER, TO_FRONTEND, "True", ""),
        (f"{LISTENER_80}, {LISTENER}", TO_HTTPS, "True", ""),
        (f"{LISTENER_80}, {LISTENER}", TO_FRONTEND, "True", "MR811-PLAIN-HTTP"),
        (LISTENER, TO_FRONTEND, "False", "MR811-UNRESOLVED"),
        ("{name: https, port: 443, protocol: HTTPS}", TO_FRONTEND, "True", "MR811-NO-CERTIFICATE"),
        ("{name: tls, port: 443, protocol: TLS, tls: {mode: Passthrough}}", TO_FRONTEND, "True", "MR811-PASSED-ON"),
    ],
)
def test_the_gateway_api(listeners: str, rule: str, resolved: str, code: str) -> None:
    """Listeners are judged as servers are, and their controller says whether references resolve."""
    judgement = tls_terminated(shop(K8S.format(listeners=listeners, rule=rule, resolved=resolved)))
    assert [item.code for item in judgement.findings] == ([code] if code else [])


def test_the_gateway_apis_secret_lies_in_its_own_namespace() -> None:
    """CertificateRefs without a namespace are of the Gateway's."""
    snapshot: Snapshot = shop(K8S.format(listeners=LISTENER, rule=TO_FRONTEND, resolved="True"))
    asked = msgspec.structs.replace(
        snapshot, gateway_secrets=("payments/shop-tls",), secrets=(secret(leaf(not_after="2026-08-01T00:00:00Z"), namespace="payments"),)
    )
    assert found(tls_terminated(asked)) == {("MR811-EXPIRED", "Secret/shop-tls"): Level.ERROR}


@pytest.mark.parametrize(
    ("names", "host", "good"),
    [
        (("shop.example.com",), "SHOP.example.com", True),
        (("*.example.com",), "shop.example.com", True),
        (("*.example.com",), "a.shop.example.com", False),
        (("*.example.com",), "*.example.com", True),
        (("example.com",), "*.example.com", False),
        ((), "shop.example.com", True),
    ],
)
def test_for_which_hosts_a_certificate_is(names: tuple[str, ...], host: str, *, good: bool) -> None:
    """A wildcard stands for one label; without alternative names the subject counts."""
    assert covers(leaf(names=names), host) is good


# --- clients' certificates, and who else answers at a plain port ------------------------------------------------------

MUTUAL = HTTPS.replace("mode: SIMPLE", "mode: MUTUAL")
AUTHORITY = Certificate(subject="CN=clients", authority=True)


@pytest.mark.parametrize(
    ("tls", "secrets", "asked", "expected"),
    [
        ("", (), (SECRET,), {}),  # the other Secret was not to be looked at
        ("", (), (SECRET, "istio-system/shop-tls-cacert"), {("MR811-NO-CLIENT-CA", "Gateway/shop"): Level.ERROR}),
        ("", ("shop-tls-cacert",), (SECRET, "istio-system/shop-tls-cacert"), {}),
        (", caCertCredentialName: clients", (), (SECRET, "istio-system/clients"), {("MR811-NO-CLIENT-CA", "Gateway/shop"): Level.ERROR}),
        (", caCertCredentialName: clients", ("clients",), (SECRET, "istio-system/clients"), {}),
        (", caCertificates: /etc/clients.pem", (), (SECRET, "istio-system/shop-tls-cacert"), None),
    ],
)
def test_who_asks_clients_for_certificates_knows_their_authority(
    tls: str, secrets: tuple[str, ...], asked: tuple[str, ...], expected: dict[tuple[str, str], Level] | None
) -> None:
    """MUTUAL needs ca.crt in the Secret, or NAME-cacert, or what the server names, or a file (checks.md 8.1.1)."""
    server = MUTUAL.replace("credentialName: shop-tls", f"credentialName: shop-tls{tls}")
    others = tuple(GatewaySecret(metadata=make.metadata(name, make.ISTIO), problem="has no key") for name in secrets)
    said = shown(secret(), *others, asked=asked, text=gateway(REDIRECT, server) + ROUTE)
    assert {key: level for key, level in said.items() if level is Level.ERROR} == (expected or {})
    with_own = shown(secret(authorities=(AUTHORITY,)), asked=asked[:1], text=gateway(REDIRECT, server) + ROUTE)
    assert with_own == {}


def test_a_grpc_route_at_a_plain_listener_is_no_redirect() -> None:
    """All HTTPRoutes redirect, and a GRPCRoute answers in plaintext beside them."""
    listeners = "[{name: http, port: 80, protocol: HTTP}]"
    text = f"""
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: shop}}
spec: {{gatewayClassName: istio, listeners: {listeners}}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: redirect}}
spec: {{parentRefs: [{{name: shop}}], rules: [{{filters: [{{type: RequestRedirect}}]}}]}}
---
"""
    grpc = """
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {name: api}
spec: {parentRefs: [{name: %s}], rules: [{backendRefs: [{name: frontend, port: 8080}]}]}
"""
    assert found(tls_terminated(entered(text))) == {}
    assert found(tls_terminated(entered(text + grpc % "shop"))) == {("MR811-PLAIN-HTTP", "Gateway/shop"): Level.ERROR}
    assert found(tls_terminated(entered(text + grpc % "other"))) == {}


def test_rules_for_the_mesh_say_nothing_of_a_plain_port() -> None:
    """A VirtualService of both redirects at its gateway, however that is named, and routes for sidecars."""
    for name in ("shop", "./shop", "payments/shop", "shop.payments.svc.cluster.local"):
        both = f"""
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: frontend}}
spec:
  hosts: [shop.example.com]
  gateways: [mesh, "{name}"]
  http:
  - match: [{{gateways: ["{name}"], port: 80}}]
    redirect: {{scheme: https}}
  - match: [{{gateways: [mesh]}}]
    route: [{{destination: {{host: frontend}}}}]
---
"""
        assert servers(PLAIN, HTTPS, route=both) == {}, name


def test_one_certificate_among_several_names() -> None:
    """The names in credentialNames count as credentialName does (Istio 1.27)."""
    several = HTTPS.replace("credentialName: shop-tls", "credentialNames: [shop-tls, shop-ecdsa]")
    text = gateway(REDIRECT, HTTPS) + gateway(several, name="second") + ROUTE
    assert ("MR811-SHARED-CERTIFICATE", "Gateway/shop") in found(tls_terminated(entered(text)))
