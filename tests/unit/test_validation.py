"""Objects that the validating webhook refuses (IST0106): what istioctl 1.31 says of each of these was asked before."""

from __future__ import annotations

import pytest

from pytest_meshready.istio.validation import refused
from pytest_meshready.results import Level
from tests.unit.written import shop

ROUTE = "route: [{destination: {host: ledger}}]"
PORT = "port: {number: 443, name: https, protocol: HTTPS}"
NETWORKING, SECURITY = "networking.istio.io/v1", "security.istio.io/v1"


def problems(kind: str, spec: str, api: str = NETWORKING) -> list[str]:
    """What is wrong with one object, each as one finding about it."""
    findings = refused(shop(f"apiVersion: {api}\nkind: {kind}\nmetadata: {{name: odd}}\nspec: {spec}\n"))
    assert {(item.code, item.level, str(item.object)) for item in findings} <= {("MR324-INVALID", Level.ERROR, f"payments/{kind}/odd")}
    return [item.detail for item in findings]


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ("{hosts: [a.example.com]}", "it has no http, tls or tcp rule"),
        (f"{{hosts: [a.example.com, a.example.com], http: [{{{ROUTE}}}]}}", "it names host a.example.com twice"),
        (
            "{hosts: [a.example.com], http: [{match: [{uri: {prefix: /}}]}]}",
            "http[0] has neither route nor redirect nor directResponse nor delegate",
        ),
        (f"{{hosts: [a.example.com], http: [{{redirect: {{uri: /b}}, {ROUTE}}}]}}", "http[0] has both route and redirect"),
        (f"{{hosts: [a.example.com], http: [{{directResponse: {{status: 200}}, {ROUTE}}}]}}", "http[0] has both route and directResponse"),
        (f"{{hosts: [a.example.com], http: [{{delegate: {{name: b}}, {ROUTE}}}]}}", "http[0] delegates and has route as well"),
        ("{hosts: [a.example.com], http: [{route: [{weight: 100}]}]}", "http[0] has a destination without a host"),
        (
            "{hosts: [a.example.com], tcp: [{route: [{destination: {host: a}, weight: 0}, {destination: {host: b}}]}]}",
            "the weights of tcp[0] add up to 0",
        ),
        (
            "{hosts: [a.example.com], http: [{route: [{destination: {host: a}, weight: -1}, {destination: {host: b}, weight: 100}]}]}",
            "http[0] has a weight below 0",
        ),
    ],
)
def test_virtual_services(spec: str, problem: str) -> None:
    """Rules without an action or with two, and destinations that nobody can reach."""
    assert problems("VirtualService", spec) == [problem]


@pytest.mark.parametrize(
    ("kind", "spec", "problem"),
    [
        ("Gateway", "{selector: {a: b}}", "it has no server"),
        ("Gateway", f"{{servers: [{{{PORT}, tls: {{mode: PASSTHROUGH}}}}]}}", "servers[0] names no host"),
        ("Gateway", f"{{servers: [{{{PORT}, hosts: [a.b]}}]}}", "servers[0] is for HTTPS and has no tls settings"),
        (
            "Gateway",
            f"{{servers: [{{{PORT}, hosts: [a.b], tls: {{mode: SIMPLE}}}}]}}",
            "servers[0] has the TLS mode SIMPLE and names no certificate",
        ),
        ("Gateway", "{servers: [{port: {name: h, protocol: HTTP}, hosts: [a.b]}]}", "servers[0] has no port number"),
        ("Gateway", "{servers: [{port: {number: 80, name: h}, hosts: [a.b]}]}", "servers[0] names no protocol"),
        ("DestinationRule", "{trafficPolicy: {tls: {mode: DISABLE}}}", "it names no host"),
        ("DestinationRule", "{host: ledger, subsets: [{labels: {version: v1}}]}", "it has a subset without a name"),
        ("DestinationRule", "{host: ledger, subsets: [{name: v1}, {name: v1}]}", "it has two subsets named v1"),
        ("ServiceEntry", "{ports: [{number: 80, name: h, protocol: HTTP}]}", "it names no host"),
        (
            "ServiceEntry",
            "{hosts: [a.b], resolution: NONE, endpoints: [{address: 192.0.2.1}]}",
            "it has endpoints, and its resolution is NONE",
        ),
        (
            "ServiceEntry",
            "{hosts: ['*.a.b'], resolution: DNS}",
            "a host with a wildcard cannot be resolved by DNS, and there are no endpoints",
        ),
        ("Sidecar", "{egress: [{hosts: [a.b]}]}", "its egress names a.b, which is not of the form NAMESPACE/HOST"),
    ],
)
def test_networking(kind: str, spec: str, problem: str) -> None:
    """What istiod could not make anything of."""
    assert problems(kind, spec) == [problem]


def test_security() -> None:
    """A mode for one port is for selected pods; a policy that denies says what."""
    ports = "it has portLevelMtls without a selector"
    assert problems("PeerAuthentication", '{portLevelMtls: {"8080": {mode: DISABLE}}}', SECURITY) == [ports]
    assert problems("AuthorizationPolicy", "{action: DENY}", SECURITY) == ["it denies by no rule, so it denies nothing"]


@pytest.mark.parametrize(
    ("kind", "spec", "api"),
    [
        ("VirtualService", "{http: [{route: [{destination: {host: ledger}}]}]}", NETWORKING),
        ("VirtualService", "{hosts: [a.b], http: [{delegate: {name: b}}, {redirect: {uri: /b}}]}", NETWORKING),
        ("Gateway", f"{{servers: [{{{PORT}, hosts: [a.b], tls: {{}}}}]}}", NETWORKING),
        ("Gateway", f"{{servers: [{{{PORT}, hosts: [a.b], tls: {{mode: SIMPLE, serverCertificate: /etc/c.pem}}}}]}}", NETWORKING),
        ("Gateway", "{servers: [{port: {number: 80, protocol: HTTP}, hosts: [a.b], tls: {httpsRedirect: true}}]}", NETWORKING),
        ("ServiceEntry", "{hosts: ['*.a.b'], resolution: NONE}", NETWORKING),
        ("Sidecar", "{egress: [{hosts: ['./*', '~/*', '*/a.b']}]}", NETWORKING),
        ("PeerAuthentication", '{selector: {matchLabels: {app: a}}, portLevelMtls: {"8080": {mode: DISABLE}}}', SECURITY),
        ("AuthorizationPolicy", "{}", SECURITY),
    ],
)
def test_what_validation_lets_in(kind: str, spec: str, api: str) -> None:
    """A delegate has no hosts, a certificate may be a file, and a policy without rules that allows is how one denies all."""
    assert problems(kind, spec, api) == []
