"""Lines 6.2.1 to 6.2.3: canaries, mirrors and faults."""

from __future__ import annotations

import pytest

from pytest_meshready.cluster.resources import RESOURCES
from pytest_meshready.cluster.snapshot import Snapshot
from pytest_meshready.istio.avoid import no_canaries, no_faults, no_mirrors
from pytest_meshready.results import Judgement, Level, Status
from tests.unit import builders as make
from tests.unit.written import route, shop

LEDGER = "ledger.payments.svc.cluster.local"


def said(judgement: Judgement) -> list[tuple[str, Level, str]]:
    return [(finding.code, finding.level, str(finding.object)) for finding in judgement.findings]


def vs(rule: str, *, name: str = "ledger", namespace: str = "payments", hosts: str = LEDGER, kind: str = "http", labels: str = "{}") -> str:
    return f"""
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: {name}, namespace: {namespace}, labels: {labels}}}
spec: {{hosts: [{hosts}], {kind}: [{rule}]}}
---
"""


def targets(first: str, second: str) -> str:
    return f"route: [{{destination: {{host: {LEDGER}, subset: a}}{first}}}, {{destination: {{host: {LEDGER}, subset: b}}{second}}}]"


def test_plain_routes_pass() -> None:
    """One target for each rule, no copies, no faults; no route at all is as good."""
    for text in ("", route("ledger")):
        for look in (no_canaries, no_mirrors, no_faults):
            assert look(shop(text)).status is Status.PASSED


@pytest.mark.parametrize("kind", ["http", "tls", "tcp"])
def test_weights_fail(kind: str) -> None:
    """Two targets with a weight are a canary, whatever is routed."""
    match = "match: [{port: 443, sniHosts: [a.b]}], " if kind == "tls" else ""
    judgement = no_canaries(shop(vs(f"{{{match}{targets(', weight: 90', ', weight: 10')}}}", kind=kind)))
    assert said(judgement) == [("MR621-SPLIT", Level.ERROR, "payments/VirtualService/ledger")]
    assert "90 % to" in judgement.findings[0].found


def test_a_canary_at_rest_warns() -> None:
    """Weights of 100 and 0 wait for somebody to change them."""
    judgement = no_canaries(shop(vs(f"{{{targets(', weight: 100', ', weight: 0')}}}")))
    assert said(judgement) == [("MR621-SPLIT-RESTS", Level.WARNING, "payments/VirtualService/ledger")]


def test_other_namespaces_that_lead_here_count() -> None:
    """A rule of any namespace leads callers of all others; one that has nothing to do with us does not."""
    rule = f"{{{targets(', weight: 90', ', weight: 10')}}}"
    found = no_canaries(shop(vs(rule, namespace="legacy", hosts="shop.example.com")))
    assert said(found) == [("MR621-SPLIT", Level.ERROR, "legacy/VirtualService/ledger")]
    elsewhere = vs(rule.replace("payments", "other"), namespace="legacy", hosts="shop.example.com")
    assert no_canaries(shop(elsewhere)).status is Status.PASSED


def test_what_a_run_planted_does_not_count() -> None:
    """Our own objects carry a label."""
    text = vs(f"{{{targets(', weight: 90', ', weight: 10')}}}", labels="{meshready.io/run: x}")
    assert no_canaries(shop(text)).status is Status.PASSED


def test_backends_of_the_gateway_api_count() -> None:
    """Each backend weighs 1 where nothing is said."""
    text = """
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: ledger}
spec:
  parentRefs: [{group: "", kind: Service, name: ledger}, {name: edge, namespace: legacy}]
  rules:
  - backendRefs: [{name: ledger, port: 8080}, {name: orders, port: 8080}]
    filters: [{type: RequestMirror, requestMirror: {backendRef: {name: orders, port: 8080}, percent: 25}}]
"""
    assert said(no_canaries(shop(text))) == [("MR621-SPLIT", Level.ERROR, "payments/HTTPRoute/ledger")]
    mirrored = no_mirrors(shop(text))
    assert said(mirrored) == [("MR622-MIRROR", Level.ERROR, "payments/HTTPRoute/ledger")]
    assert "25 %" in mirrored.findings[0].found


def test_controllers_of_releases_count() -> None:
    """Flagger and Argo Rollouts: an error while traffic moves, a warning while they rest."""
    text = """
apiVersion: flagger.app/v1beta1
kind: Canary
metadata: {name: ledger}
spec: {targetRef: {kind: Deployment, name: ledger}}
status: {phase: Progressing, canaryWeight: 20}
---
apiVersion: argoproj.io/v1alpha1
kind: Rollout
metadata: {name: orders}
spec: {strategy: {canary: {steps: []}}}
status: {phase: Healthy}
---
apiVersion: argoproj.io/v1alpha1
kind: Rollout
metadata: {name: blue}
spec: {strategy: {blueGreen: {}}}
"""
    assert said(no_canaries(shop(text))) == [
        ("MR621-CANARY", Level.ERROR, "payments/Canary/ledger"),
        ("MR621-CANARY-RESTS", Level.WARNING, "payments/Rollout/orders"),
    ]


@pytest.mark.parametrize(
    ("mirror", "level", "percent"),
    [
        ("mirror: {host: orders}", Level.ERROR, "100 %"),
        ("mirror: {host: orders}, mirrorPercentage: {value: 5}", Level.ERROR, "5 %"),
        ("mirror: {host: orders}, mirrorPercent: 7", Level.ERROR, "7 %"),
        ("mirror: {host: orders}, mirrorPercentage: {value: 0}", Level.WARNING, "0 %"),
        ("mirrors: [{destination: {host: orders}}]", Level.ERROR, "100 %"),
        ("mirrors: [{destination: {host: orders}, percentage: {value: 0.5}}]", Level.ERROR, "0.5 %"),
    ],
)
def test_mirrors(mirror: str, level: Level, percent: str) -> None:
    """Without a percentage everything is mirrored."""
    judgement = no_mirrors(shop(vs(f"{{{mirror}, route: [{{destination: {{host: ledger}}}}]}}")))
    assert [finding.level for finding in judgement.findings] == [level]
    assert percent in judgement.findings[0].found


@pytest.mark.parametrize(
    ("fault", "level", "text"),
    [
        ("{delay: {fixedDelay: 2s, percentage: {value: 50}}}", Level.ERROR, "delays 50 % of requests by 2 s"),
        ("{delay: {fixedDelay: 2s, percent: 10}}", Level.ERROR, "delays 10 %"),
        ("{abort: {httpStatus: 503, percentage: {value: 1}}}", Level.ERROR, "aborts 1 % of requests with 503"),
        ("{abort: {grpcStatus: UNAVAILABLE, percentage: {value: 1}}}", Level.ERROR, "gRPC UNAVAILABLE"),
        ("{delay: {fixedDelay: 2s}}", Level.WARNING, "delays 0 %"),
        ("{abort: {httpStatus: 503}}", Level.WARNING, "aborts 0 %"),
    ],
)
def test_faults(fault: str, level: Level, text: str) -> None:
    """A percentage that is not said meets no request (TranslateFault)."""
    judgement = no_faults(shop(vs(f"{{fault: {fault}, route: [{{destination: {{host: ledger}}}}]}}")))
    assert said(judgement)[0][1:] == (level, "payments/VirtualService/ledger")
    assert text in judgement.findings[0].found


FILTER = """
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {name: slow, namespace: NAMESPACE}
spec:
  workloadSelector: {labels: {app: APP}}
  configPatches:
  - applyTo: HTTP_FILTER
    patch:
      operation: INSERT_BEFORE
      value: {name: anything, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault}}
"""


@pytest.mark.parametrize(
    ("namespace", "app", "found"),
    [("payments", "ledger", True), ("istio-system", "ledger", True), ("istio-system", "other", False), ("legacy", "ledger", False)],
)
def test_filters_with_faults(namespace: str, app: str, *, found: bool) -> None:
    """An EnvoyFilter counts where it patches proxies of the namespace."""
    judgement = no_faults(shop(FILTER.replace("NAMESPACE", namespace).replace("APP", app)))
    assert bool(judgement.findings) is found


def test_experiments_count() -> None:
    """Chaos Mesh and Litmus; one that was stopped only warns."""
    text = """
apiVersion: chaos-mesh.org/v1alpha1
kind: NetworkChaos
metadata: {name: lag}
spec: {action: delay, mode: all}
---
apiVersion: litmuschaos.io/v1alpha1
kind: ChaosEngine
metadata: {name: kill}
spec: {engineState: stop}
"""
    assert said(no_faults(shop(text))) == [
        ("MR623-EXPERIMENT", Level.ERROR, "payments/NetworkChaos/lag"),
        ("MR623-EXPERIMENT", Level.WARNING, "payments/ChaosEngine/kill"),
    ]


def test_kinds_that_are_not_installed_are_an_answer() -> None:
    """Without Flagger there is no canary of Flagger."""
    assert no_canaries(absent("canaries", "rollouts", "httproutes")).status is Status.PASSED


def absent(*keys: str) -> Snapshot:
    return shop(refusals=tuple(make.refusal(key, namespace="", status=404, absent=True) for key in keys))


@pytest.mark.parametrize("key", ["virtualservices", "canaries"])
def test_refused_lists_are_not_verified(key: str) -> None:
    """Without the right to look nothing was avoided."""
    refused = (make.refusal(key, namespace=""),)
    assert no_canaries(shop(refusals=refused, read=tuple(row for row in RESOURCES if row != key))).status is Status.NOT_VERIFIED


# --- what reaches the namespace from elsewhere ------------------------------------------------------------------------

FAULT = """
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {{name: lag, namespace: {namespace}}}
spec:
  {aim}
  configPatches:
  - applyTo: HTTP_FILTER
    match: {{context: {context}}}
    patch: {{operation: INSERT_BEFORE, value: {{name: envoy.filters.http.fault}}}}
---
"""


@pytest.mark.parametrize(
    ("namespace", "context", "aim", "expected"),
    [
        ("istio-system", "GATEWAY", "workloadSelector: {labels: {istio: ingressgateway}}", True),
        ("istio-system", "SIDECAR_INBOUND", "workloadSelector: {labels: {istio: ingressgateway}}", False),
        ("istio-system", "ANY", "workloadSelector: {labels: {istio: egressgateway}}", False),
        ("istio-system", "ANY", "workloadSelector: {labels: {app: ledger}}", True),
        ("istio-system", "ANY", "targetRefs: [{kind: Gateway, name: other}]", False),
        ("istio-ingress", "GATEWAY", "workloadSelector: {labels: {istio: ingressgateway}}", False),
    ],
)
def test_faults_at_the_gateway_before_the_namespace(namespace: str, context: str, aim: str, *, expected: bool) -> None:
    """An EnvoyFilter counts where it patches pods of the namespace, or the gateway (which runs in istio-system here)."""
    judgement = no_faults(shop(FAULT.format(namespace=namespace, context=context, aim=aim)))
    wanted = [("MR623-FAULT-FILTER", Level.ERROR, f"{namespace}/EnvoyFilter/lag")]
    assert said(judgement) == (wanted if expected else [])


def test_faults_at_a_gateway_in_its_own_namespace() -> None:
    """There a filter without a selector is for every gateway."""
    pods = (*shop().pods, make.gateway_pod(namespace="istio-ingress"))
    text = FAULT.format(namespace="istio-ingress", context="GATEWAY", aim="priority: 1")
    judgement = no_faults(shop(text, pods=pods, gateway_namespaces=("istio-ingress",)))
    assert said(judgement) == [("MR623-FAULT-FILTER", Level.ERROR, "istio-ingress/EnvoyFilter/lag")]
    assert "into gateway istio-ingressgateway-" in judgement.findings[0].found


@pytest.mark.parametrize(
    ("kind", "group", "spec", "expected"),
    [
        ("NetworkChaos", "chaos-mesh.org", "{action: delay, selector: {namespaces: [payments]}}", True),
        ("NetworkChaos", "chaos-mesh.org", "{action: delay, selector: {namespaces: [other]}}", False),
        ("NetworkChaos", "chaos-mesh.org", "{action: delay, target: {selector: {namespaces: [payments]}}}", True),
        ("PodChaos", "chaos-mesh.org", "{action: pod-kill, selector: {pods: {payments: [ledger-0]}}}", True),
        ("HTTPChaos", "chaos-mesh.org", "{target: Request, selector: {namespaces: [payments]}}", True),
        ("StressChaos", "chaos-mesh.org", "{}", False),
        ("ChaosEngine", "litmuschaos.io", "{engineState: active, appinfo: {appns: payments}}", True),
    ],
)
def test_experiments_that_are_kept_elsewhere(kind: str, group: str, spec: str, *, expected: bool) -> None:
    """Teams keep them in a namespace of their own; what they are aimed at counts."""
    text = f"{{apiVersion: {group}/v1alpha1, kind: {kind}, metadata: {{name: lag, namespace: chaos}}, spec: {spec}}}"
    wanted = [("MR623-EXPERIMENT", Level.ERROR, f"chaos/{kind}/lag")]
    assert said(no_faults(shop(text))) == (wanted if expected else [])


def test_an_experiment_here_for_another_namespace() -> None:
    """It breaks nothing of ours."""
    text = "{apiVersion: chaos-mesh.org/v1alpha1, kind: PodChaos, metadata: {name: a}, spec: {selector: {namespaces: [other]}}}"
    assert no_faults(shop(text)).status is Status.PASSED


def test_a_second_waypoint_is_a_canary() -> None:
    """Istio 1.31 sends a part of the requests through it (checks.md 6.2.1)."""
    label = {"istio.io/use-waypoint-canary": "waypoint-2"}
    judgement = no_canaries(shop(namespaces=(make.namespace(make.ISTIO, labels={}), make.namespace(labels=label))))
    assert said(judgement) == [("MR621-WAYPOINT-CANARY", Level.ERROR, "Namespace/payments")]
    service = make.service("extra", labels=label)
    judgement = no_canaries(shop(services=(*shop().services, service)))
    assert said(judgement) == [("MR621-WAYPOINT-CANARY", Level.ERROR, "payments/Service/extra")]
