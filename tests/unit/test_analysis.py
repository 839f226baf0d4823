"""Line 3.2.4: what istioctl analyze would call an error, found by rules of our own."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_meshready.checklist import catalogue
from pytest_meshready.cluster.objects_capacity import NodePod
from pytest_meshready.cluster.objects_certificates import GatewaySecret
from pytest_meshready.cluster.snapshot import AnalysisMessage, IstioctlAnalysis, Unreadable
from pytest_meshready.istio.analysis import EQUIVALENTS, LEFT_OUT, configuration_sound
from pytest_meshready.results import Judgement, Level, Status
from tests.unit import builders as make
from tests.unit.written import route, shop

LEDGER = "ledger.payments.svc.cluster.local"

GATEWAY = """
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: shop}
spec:
  selector: {istio: ingressgateway}
  servers:
  - {port: {number: 443, name: https, protocol: HTTPS}, hosts: [shop.example.com], tls: {mode: SIMPLE, credentialName: shop-tls}}
---
"""
SECRET = GatewaySecret(metadata=make.metadata("shop-tls", make.ISTIO))
ASKED = {"gateway_secrets": ("istio-system/shop-tls",), "secrets": (SECRET,)}
EDGE = NodePod(metadata=make.metadata("istio-ingressgateway-1-a", make.ISTIO, labels=make.GATEWAY_LABELS))


def look(text: str, **fields: Any) -> Judgement:
    """The judgement over the shop, whose gateway pods and whose Secret were seen."""
    return configuration_sound(shop(text, **{**ASKED, "node_pods": (EDGE,), **fields}))


def said(judgement: Judgement) -> list[tuple[str, Level, str]]:
    return [(finding.code, finding.level, str(finding.object)) for finding in judgement.findings if finding.level is not Level.INFO]


def vs(http: str, *, hosts: str = LEDGER, more: str = "", namespace: str = "payments") -> str:
    return f"""
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: ledger, namespace: {namespace}}}
spec: {{hosts: [{hosts}], {more} http: [{http}]}}
---
"""


def document(name: str, spec: str, kind: str = "Sidecar", api: str = "networking.istio.io/v1") -> str:
    return f"apiVersion: {api}\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {spec}\n---\n"


def subset(host: str, version: str) -> str:
    """A DestinationRule with one subset."""
    return document("ledger", f"{{host: {host}, subsets: [{{name: {version}, labels: {{version: {version}}}}}]}}", "DestinationRule")


def to(destination: str) -> str:
    return f"{{route: [{{destination: {{{destination}}}}}]}}"


VS = "payments/VirtualService/ledger"


def test_a_sound_shop_passes() -> None:
    """Routes, a gateway with its certificate, a subset with pods."""
    text = (
        GATEWAY
        + subset("ledger", "v1")
        + vs(to("host: ledger, subset: v1"))
        + route("frontend", host="shop.example.com", extra="gateways: [shop]")
    )
    judgement = look(text)
    assert (judgement.status, judgement.findings, judgement.unknown) == (Status.PASSED, (), ())


@pytest.mark.parametrize(
    ("http", "code"),
    [
        (to("host: ledger-v2"), "MR324-HOST-MISSING"),
        (to("host: ledger.payments"), "MR324-HOST-MISSING"),
        (to("host: ledger.nowhere.svc.cluster.local"), "MR324-HOST-MISSING"),
        (to("host: api.bank.example"), "MR324-HOST-MISSING"),
        (to("host: ledger, port: {number: 9000}"), "MR324-PORT-MISSING"),
        (to("host: ledger, subset: v9"), "MR324-SUBSET-MISSING"),
        ("{mirror: {host: ledger-v2}, route: [{destination: {host: ledger}}]}", "MR324-HOST-MISSING"),
        ("{mirrors: [{destination: {host: ledger-v2}}], route: [{destination: {host: ledger}}]}", "MR324-HOST-MISSING"),
        ("{delegate: {name: part}}", "MR324-DELEGATE-MISSING"),
    ],
)
def test_what_a_route_names_and_is_not_there(http: str, code: str) -> None:
    """IST0101: hosts, ports, subsets, mirrors, delegates."""
    assert said(look(vs(http))) == [(code, Level.ERROR, VS)]


def test_a_host_that_was_cut_short_is_recognised() -> None:
    """``ledger.payments`` is not completed by istiod."""
    assert "did you mean ledger.payments.svc.cluster.local?" in look(vs(to("host: ledger.payments"))).findings[0].fix


def test_a_port_must_be_said_where_there_are_several() -> None:
    """IST0112."""
    judgement = look(vs(to("host: two")), services=(make.service("ledger"), make.service("two", ports=(("http", 80), ("http-b", 81)))))
    assert said(judgement) == [("MR324-PORT-NOT-SAID", Level.ERROR, VS)]


def test_hosts_of_other_namespaces_that_were_not_read_are_unknown() -> None:
    """What was not read is not missing."""
    spaces = (make.namespace(make.ISTIO), make.namespace(), make.namespace("other"))
    judgement = look(vs(to("host: bank.other.svc.cluster.local")), namespaces=spaces)
    assert (judgement.status, judgement.findings) == (Status.NOT_VERIFIED, ())
    assert judgement.unknown[0].namespace == "other"


def test_a_host_that_is_not_exported_is_named_so() -> None:
    """A ServiceEntry for another namespace alone is of no use here."""
    entry = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: bank, namespace: legacy}
spec: {hosts: [api.bank.example], exportTo: ["."], ports: [{number: 443, name: tls, protocol: TLS}]}
---
"""
    assert said(look(entry + vs(to("host: api.bank.example")))) == [("MR324-HOST-NOT-EXPORTED", Level.ERROR, VS)]


def test_routes_of_other_namespaces_to_ours_count() -> None:
    """They lead other callers to a host of ours that is not there."""
    judgement = look(vs(to("host: gone.payments.svc.cluster.local"), hosts="shop.example.com", namespace="legacy"))
    assert ("MR324-HOST-MISSING", Level.ERROR, "legacy/VirtualService/ledger") in said(judgement)
    assert said(look(vs(to("host: gone.other.svc.cluster.local"), hosts="other.example.com", namespace="legacy"))) == []


def test_gateways_of_routes() -> None:
    """IST0101 for one that is not there, IST0132 for one that serves other hosts."""
    away = vs(to("host: ledger"), hosts="shop.example.com", more="gateways: [nobody],")
    assert said(look(GATEWAY + away)) == [("MR324-GATEWAY-MISSING", Level.ERROR, VS)]
    other = vs(to("host: ledger"), hosts="other.example.com", more="gateways: [shop],")
    assert said(look(GATEWAY + other)) == [("MR324-HOST-NOT-IN-GATEWAY", Level.WARNING, VS)]


def test_servers_may_be_for_one_namespace() -> None:
    """A host with a namespace before it is for routes of that namespace."""
    elsewhere = GATEWAY.replace("[shop.example.com]", "[legacy/shop.example.com]")
    route_ = vs(to("host: ledger"), hosts="shop.example.com", more="gateways: [payments/shop],")
    assert said(look(elsewhere + route_)) == [("MR324-HOST-NOT-IN-GATEWAY", Level.WARNING, VS)]
    assert said(look(GATEWAY.replace("[shop.example.com]", '["./*.example.com"]') + route_)) == []


def test_gateways_of_the_gateway_api_will_do() -> None:
    """A VirtualService may be bound to one."""
    gateway = """
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge}
spec: {gatewayClassName: istio, listeners: [{name: http, port: 80, protocol: HTTP}]}
---
"""
    assert said(look(gateway + vs(to("host: ledger"), hosts="shop.example.com", more="gateways: [edge],"))) == []


def test_hosts_in_the_mesh_that_nobody_is() -> None:
    """Such rules hold for nobody."""
    assert said(look(vs(to("host: ledger"), hosts="ledger.payments"))) == [("MR324-MESH-HOST-UNKNOWN", Level.WARNING, VS)]


def test_shadowed_and_unused() -> None:
    """IST0109 and IST0130, and delegates that nobody uses."""
    dead = vs("{route: [{destination: {host: ledger}}]}, {match: [{uri: {prefix: /a}}], route: [{destination: {host: ledger}}]}")
    assert said(look(dead)) == [("MR324-RULE-UNREACHABLE", Level.WARNING, VS)]
    twice = vs(to("host: ledger")).replace("name: ledger", "name: first") + vs(to("host: ledger"))
    assert said(look(twice)) == [("MR324-HOST-TWICE", Level.ERROR, VS)]
    part = document("part", "{http: [{route: [{destination: {host: ledger}}]}]}", "VirtualService")
    assert said(look(part)) == [("MR324-DELEGATE-UNUSED", Level.WARNING, "payments/VirtualService/part")]


def test_destination_rules() -> None:
    """IST0173 and IST0174."""
    assert said(look(subset("ledger", "v2"))) == [("MR324-SUBSET-EMPTY", Level.ERROR, "payments/DestinationRule/ledger")]
    assert said(look(subset("gone", "v2"))) == [("MR324-RULE-HOST-MISSING", Level.WARNING, "payments/DestinationRule/ledger")]


def test_gateways_that_select_nothing() -> None:
    """An error where all pods of the cluster were read, else unknown: gateways may run anywhere."""
    text = GATEWAY.replace("istio: ingressgateway", "istio: gone")
    assert said(look(text)) == [("MR324-GATEWAY-SELECTOR", Level.ERROR, "payments/Gateway/shop")]
    judgement = look(text, refusals=(make.refusal("node_pods", namespace=""),))
    assert (judgement.status, judgement.findings) == (Status.NOT_VERIFIED, ())
    assert "gateway_namespaces" in judgement.reason


def test_certificates_of_gateways() -> None:
    """Missing, unusable, or not looked at."""
    assert said(look(GATEWAY, secrets=())) == [("MR324-SECRET-MISSING", Level.ERROR, "payments/Gateway/shop")]
    broken = GatewaySecret(metadata=SECRET.metadata, problem="it holds no certificate")
    assert said(look(GATEWAY, secrets=(broken,))) == [("MR324-SECRET-INVALID", Level.ERROR, "payments/Gateway/shop")]
    judgement = look(GATEWAY, secrets=(), gateway_secrets=())
    assert judgement.status is Status.NOT_VERIFIED
    assert "istio-system/shop-tls" in judgement.reason
    assert look(GATEWAY, secrets=(), refusals=(make.refusal("secrets", namespace=make.ISTIO),)).status is Status.NOT_VERIFIED


def test_gateways_in_each_others_way() -> None:
    """IST0145: with TLS one is dropped, without it the routes are joined."""
    other = GATEWAY.replace("name: shop}", "name: other, namespace: legacy}")
    assert said(look(GATEWAY + other)) == [("MR324-GATEWAY-CONFLICT", Level.ERROR, "payments/Gateway/shop")]
    plain = (GATEWAY + other).replace("HTTPS", "HTTP").replace(", tls: {mode: SIMPLE, credentialName: shop-tls}", "")
    assert said(look(plain)) == [("MR324-GATEWAY-CONFLICT", Level.WARNING, "payments/Gateway/shop")]
    assert said(look(GATEWAY + other.replace("istio: ingressgateway", "istio: other"))) == []


def test_sidecars() -> None:
    """IST0111, IST0110 and IST0101, and hosts that are not there."""
    wide = '{egress: [{hosts: ["./*"]}]}'
    assert said(look(document("a", wide) + document("b", wide))) == [("MR324-SIDECARS-WIDE", Level.ERROR, "payments/Sidecar/b")]
    narrow = "{workloadSelector: {labels: {app: ledger}}, egress: [{hosts: ['./*']}]}"
    assert said(look(document("a", narrow) + document("b", narrow))) == [("MR324-SIDECARS-OVERLAP", Level.ERROR, "payments/Sidecar/b")]
    nothing = document("a", narrow.replace("ledger", "gone"))
    assert said(look(nothing)) == [("MR324-SELECTOR", Level.ERROR, "payments/Sidecar/a")]
    host = document(
        "a", '{egress: [{hosts: ["./gone.payments.svc.cluster.local", "istio-system/*", "./ledger.payments.svc.cluster.local"]}]}'
    )
    assert said(look(host)) == [("MR324-SIDECAR-HOST-MISSING", Level.WARNING, "payments/Sidecar/a")]


def test_telemetries() -> None:
    """IST0160, IST0159 and IST0101."""
    api = "telemetry.istio.io/v1"
    two = document("a", "{}", "Telemetry", api) + document("b", "{}", "Telemetry", api)
    assert said(look(two)) == [("MR324-TELEMETRIES-WIDE", Level.ERROR, "payments/Telemetry/b")]
    one = "{selector: {matchLabels: {app: ledger}}}"
    both = document("a", one, "Telemetry", api) + document("b", one, "Telemetry", api)
    assert said(look(both)) == [("MR324-TELEMETRIES-OVERLAP", Level.ERROR, "payments/Telemetry/b")]
    gone = document("a", one.replace("ledger", "gone"), "Telemetry", api)
    assert said(look(gone)) == [("MR324-SELECTOR", Level.ERROR, "payments/Telemetry/a")]


@pytest.mark.parametrize(
    ("apply_to", "operation", "ignored"),
    [
        ("HTTP_FILTER", "REPLACE", False),
        ("VIRTUAL_HOST", "REPLACE", False),
        ("CLUSTER", "REPLACE", True),
        ("HTTP_ROUTE", "ADD", True),
        ("ROUTE_CONFIGURATION", "REMOVE", True),
        ("CLUSTER", "ADD", False),
        ("HTTP_ROUTE", "MERGE", False),
    ],
)
def test_patches_that_istiod_ignores(apply_to: str, operation: str, *, ignored: bool) -> None:
    """IST0152 to IST0154."""
    spec = f"{{configPatches: [{{applyTo: {apply_to}, patch: {{operation: {operation}, value: {{name: x}}}}}}]}}"
    judgement = look(document("patch", spec, "EnvoyFilter", "networking.istio.io/v1alpha3"))
    assert (said(judgement) == [("MR324-PATCH-IGNORED", Level.ERROR, "payments/EnvoyFilter/patch")]) is ignored


def test_policies_that_select_nothing_warn() -> None:
    """IST0127."""
    spec = "{selector: {matchLabels: {app: gone}}}"
    judgement = look(document("p", spec, "AuthorizationPolicy", "security.istio.io/v1"))
    assert said(judgement) == [("MR324-SELECTOR", Level.WARNING, "payments/AuthorizationPolicy/p")]


def test_claims_need_an_authentication() -> None:
    """IST0149: without a RequestAuthentication at the gateway the claims are never set."""
    claim = "{match: [{headers: {'@request.auth.claims.group': {exact: a}}}], route: [{destination: {host: ledger}}]}"
    text = GATEWAY + vs(claim, hosts="shop.example.com", more="gateways: [shop],")
    assert said(look(text)) == [("MR324-CLAIM-WITHOUT-AUTHENTICATION", Level.ERROR, VS)]
    checked = """
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {name: jwt, namespace: istio-system}
spec: {selector: {matchLabels: {istio: ingressgateway}}, jwtRules: [{issuer: a}]}
"""
    assert said(look(text + checked)) == []


HTTP_ROUTE = """
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: ledger, namespace: NAMESPACE}
spec:
  parentRefs: [{name: edge}]
  rules: [{backendRefs: [{name: ledger, namespace: payments, port: 8080}]}]
"""


def test_conditions_of_istio_are_believed() -> None:
    """A route that is not accepted, or names what cannot be resolved; other controllers do not matter."""
    status = """
status:
  parents:
  - parentRef: {name: edge}
    controllerName: CONTROLLER
    conditions: [{type: Accepted, status: "True"}, {type: ResolvedRefs, status: "False", reason: BackendNotFound}]
"""
    text = HTTP_ROUTE.replace("NAMESPACE", "payments") + status
    found = look(text.replace("CONTROLLER", "istio.io/gateway-controller"))
    assert said(found) == [("MR324-CONDITION", Level.ERROR, "payments/HTTPRoute/ledger")]
    assert "BackendNotFound" in found.findings[0].found
    other = look(text.replace("CONTROLLER", "example.com/other"))
    assert said(other) == [("MR324-PARENT-MISSING", Level.ERROR, "payments/HTTPRoute/ledger")]


def test_backends_of_other_namespaces_need_a_grant() -> None:
    """Without a ReferenceGrant in the backend's namespace Istio answers 500."""
    gateway = (
        "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: edge, namespace: legacy}\nspec: {listeners: []}\n---"
    )
    text = gateway + HTTP_ROUTE.replace("NAMESPACE", "legacy")
    assert said(look(text)) == [("MR324-NOT-GRANTED", Level.ERROR, "legacy/HTTPRoute/ledger")]
    grant = """
---
apiVersion: gateway.networking.k8s.io/v1
kind: ReferenceGrant
metadata: {name: edge}
spec: {from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: legacy}], to: [{group: "", kind: Service}]}
"""
    assert said(look(text + grant)) == []


def test_gateways_that_could_not_be_set_up() -> None:
    """What istiod says of a Gateway and of its listeners."""
    text = """
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge}
spec: {gatewayClassName: istio, listeners: [{name: https, port: 443, protocol: HTTPS}]}
status:
  conditions: [{type: Programmed, status: "False", reason: Invalid}]
  listeners: [{name: https, conditions: [{type: ResolvedRefs, status: "False", reason: InvalidCertificateRef}]}]
"""
    assert [finding.detail for finding in look(text).findings] == ["Programmed", "listener https: ResolvedRefs"]


def test_objects_without_the_shape_of_their_kind_fail() -> None:
    """IST0106: what we cannot read of the namespace, istiod cannot read either."""
    odd = Unreadable(key="virtualservices", namespace="payments", name="odd", problem="Expected `array`, got `str`")
    assert said(look("", unreadable=(odd,))) == [("MR324-SHAPE", Level.ERROR, "payments/VirtualService/odd")]


def test_nothing_at_all_passes_where_it_may_be_seen() -> None:
    """An empty namespace has no wrong reference."""
    assert configuration_sound(make.snapshot()).status is Status.PASSED
    refused = make.snapshot(refusals=(make.refusal("virtualservices", namespace=""),))
    assert configuration_sound(refused).status is Status.NOT_VERIFIED


# --- istioctl's own words ---


def message(**fields: str) -> AnalysisMessage:
    known = {"code": "IST0101", "level": "Error", "origin": "VirtualService payments/ledger", "message": "Referenced host not found"}
    return AnalysisMessage(**{**known, **fields})


def test_messages_of_istioctl_stand_beside_ours() -> None:
    """Its errors fail the line, its warnings warn, and notes are shown."""
    three = (message(), message(code="IST0162", level="Warning", origin="Gateway payments/shop"), message(code="IST0118", level="Info"))
    judgement = look("", istioctl=IstioctlAnalysis(messages=three))
    assert said(judgement) == [("MR324-IST0101", Level.ERROR, VS), ("MR324-IST0162", Level.WARNING, "payments/Gateway/shop")]
    assert [row["code"] for row in judgement.evidence[-1].data] == ["IST0101", "IST0162", "IST0118"]


def test_what_both_say_is_said_once() -> None:
    """An object at which a rule of ours fails is not counted twice."""
    judgement = look(vs(to("host: gone")), istioctl=IstioctlAnalysis(messages=(message(),)))
    assert said(judgement) == [("MR324-HOST-MISSING", Level.ERROR, VS)]


def test_where_istioctl_looked_secrets_are_known() -> None:
    """It lists the Secrets that our settings did not name."""
    judgement = look(GATEWAY, secrets=(), gateway_secrets=(), istioctl=IstioctlAnalysis())
    assert judgement.status is Status.PASSED
    failed = look(GATEWAY, secrets=(), gateway_secrets=(), istioctl=IstioctlAnalysis(problem="it did not end within 40 s"))
    assert failed.status is Status.NOT_VERIFIED


def test_an_istioctl_that_said_nothing_changes_nothing() -> None:
    """The rules of ours do not depend on it; why it said nothing is shown."""
    judgement = look("", istioctl=IstioctlAnalysis(problem="istioctl could not be run"))
    assert judgement.status is Status.PASSED
    assert judgement.evidence[-1].text == "istioctl could not be run"


@pytest.mark.parametrize("origin", ["", "Pod", "Namespace payments", "Pod ledger-1.payments"])
def test_odd_origins_do_not_break_it(origin: str) -> None:
    """Messages about the cluster name no object."""
    assert look("", istioctl=IstioctlAnalysis(messages=(message(origin=origin),))).status is Status.FAILED


def test_suppressed_objects_are_listed() -> None:
    """An annotation silences istioctl, not us, and is shown."""
    text = vs(to("host: gone")).replace("name: ledger,", 'name: ledger, annotations: {galley.istio.io/analyze-suppress: "*"},')
    judgement = look(text)
    assert said(judgement) == [("MR324-HOST-MISSING", Level.ERROR, VS)]
    assert judgement.evidence[0].data == ["VirtualService/ledger: *"]


#: The codes of level Error in pkg/config/analysis/msg/messages.yaml of Istio 1.31.
ERRORS = (
    *("IST0001", "IST0101", "IST0106", "IST0109", "IST0110", "IST0111", "IST0112", "IST0126", "IST0139", "IST0141", "IST0142"),
    *("IST0143", "IST0145", "IST0147", "IST0149", "IST0152", "IST0153", "IST0154", "IST0156", "IST0159", "IST0160", "IST0161", "IST0173"),
)


def test_every_error_of_istioctl_has_a_rule_of_ours_or_a_reason() -> None:
    """The floor that checks.md 3.2.4 demands."""
    assert sorted((*EQUIVALENTS, *LEFT_OUT)) == sorted(ERRORS)
    known = {line.id for line in catalogue.load().lines}
    assert all(set(lines) <= known for lines in EQUIVALENTS.values())


def test_one_of_two_parents_is_missing() -> None:
    """Istio speaks of the parent that is there alone; of the other one nobody does."""
    text = """
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge}
spec: {gatewayClassName: istio, listeners: [{name: http, port: 80, protocol: HTTP}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: ledger}
spec:
  parentRefs: [{name: edge}, {name: lost}]
  rules: [{backendRefs: [{name: ledger, port: 8080}]}]
status:
  parents:
  - parentRef: {name: edge}
    controllerName: istio.io/gateway-controller
    conditions: [{type: Accepted, status: "True"}, {type: ResolvedRefs, status: "True"}]
"""
    found = look(text)
    assert said(found) == [("MR324-PARENT-MISSING", Level.ERROR, "payments/HTTPRoute/ledger")]
    assert "Gateway payments/lost" in found.findings[0].found
