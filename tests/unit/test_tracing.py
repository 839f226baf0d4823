"""Lines 5.2.1 and 5.2.2: how proxies trace, as istiod computes it (checks.md 5.2)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pytest_meshready.cluster import objects as o
from pytest_meshready.cluster.objects_telemetry import ProviderName, TargetReference, Telemetry, TelemetrySpec, Tracing, TracingSelector
from pytest_meshready.cluster.snapshot import Snapshot
from pytest_meshready.istio.telemetry import Family, Setting, TracingSettings
from pytest_meshready.istio.tracing import sampling_reviewed, tracing_enabled
from pytest_meshready.results import Judgement, Level, ObjectRef, Status
from tests.unit import builders as make
from tests.unit import whole

RULES = pytest.mark.parametrize("rule", [tracing_enabled, sampling_reviewed])
ORDERS = {"app": "orders", "version": "v1"}
OWNER = ObjectRef(kind="Deployment", namespace=make.NAMESPACE, name="orders")
AMBIENT = {"istio.io/dataplane-mode": "ambient"}


def telemetry(
    name: str = "tracing",
    *tracing: Tracing,
    namespace: str = make.NAMESPACE,
    app: str = "",
    gateway: str = "",
    created: str = make.CREATED,
) -> Telemetry:
    """A Telemetry of a namespace, of the pods of an ``app``, or of a ``gateway`` of Kubernetes' own API."""
    return Telemetry(
        metadata=make.metadata(name, namespace, created=created),
        spec=TelemetrySpec(
            selector=o.WorkloadSelector(match_labels={"app": app}) if app else None,
            target_refs=(TargetReference(kind="Gateway", name=gateway),) if gateway else (),
            tracing=tracing,
        ),
    )


def rate(value: float, mode: str = "") -> Tracing:
    return Tracing(random_sampling_percentage=value, match=TracingSelector(mode=mode) if mode else None)


def provider(name: str) -> Tracing:
    return Tracing(providers=(ProviderName(name=name),))


def setting(*telemetries: Telemetry, **mesh: Any) -> Setting:
    """How a pod of ``orders`` would trace."""
    snapshot = whole.mesh(telemetries=telemetries, mesh=whole.mesh_config(**mesh))
    return TracingSettings(snapshot).of(ORDERS, make.NAMESPACE)


def only(judgement: Judgement) -> tuple[str, Level, str]:
    (finding,) = judgement.findings
    return finding.code, finding.level, str(finding.object)


# --- what istiod computes -----------------------------------------------------------------------------------------------


def test_the_mesh_decides_where_nothing_else_does() -> None:
    """Provider and rate of the mesh configuration hold for both sides of a proxy."""
    found = setting()
    assert found.sides == (found.client,)
    assert (found.client.provider and found.client.provider.name, found.client.sampling) == ("jaeger", 5)
    assert str(found.client.sampling_by) == "istio-system/ConfigMap/istio"


def test_narrow_telemetry_overrides_wide() -> None:
    """The mesh's, then the namespace's, then the workload's: each field by itself."""
    found = setting(
        telemetry("mesh", rate(20), namespace=make.ISTIO),
        telemetry("own", rate(3)),
        telemetry("narrow", provider("tempo"), app="orders"),
        extension_providers=(whole.ZIPKIN, {"name": "tempo", "opentelemetry": {"service": "tempo.example.com", "port": 4317}}),
    )
    assert found.client.sampling == 3
    assert found.client.sampling_by == ObjectRef(kind="Telemetry", namespace=make.NAMESPACE, name="own")
    assert found.provider is not None
    assert (found.provider.name, found.provider.families) == ("tempo", frozenset({Family.W3C}))


def test_a_zero_in_a_telemetry_is_a_zero() -> None:
    """It is the only way to sample nothing."""
    assert setting(telemetry("none", rate(0))).client.sampling == 0


def test_the_oldest_of_a_namespace_counts_alone() -> None:
    """Younger ones without a selector are ignored."""
    old = telemetry("z-old", rate(2), created="2026-01-01T00:00:00Z")
    young = telemetry("a-young", rate(90), created="2026-02-01T00:00:00Z")
    assert setting(young, old).client.sampling == 2


def test_every_telemetry_that_selects_a_pod_counts() -> None:
    """Of several for one workload the later ones override, in the order of their age."""
    first = telemetry("first", rate(2), app="orders", created="2026-01-01T00:00:00Z")
    second = telemetry("second", rate(4), app="orders", created="2026-02-01T00:00:00Z")
    assert setting(second, first).client.sampling == 4


@pytest.mark.parametrize(("mode", "rates"), [("CLIENT", (7, 5)), ("SERVER", (5, 7)), ("CLIENT_AND_SERVER", (7, 7))])
def test_a_telemetry_may_speak_of_one_side(mode: str, rates: tuple[float, float]) -> None:
    """Requests that the pods send, or those that they get."""
    found = setting(telemetry("one", rate(7, mode)))
    assert (found.client.sampling, found.server.sampling) == rates


def test_a_telemetry_of_a_gateway_is_not_of_sidecars() -> None:
    """What names a Gateway of Kubernetes' own API selects nothing else, whatever the pods are called."""
    assert setting(telemetry("entry", rate(50), gateway="orders")).client.sampling == 5


def test_the_name_of_a_provider_may_be_written_in_any_case() -> None:
    """Istiod compares without regard to case."""
    assert setting(telemetry("own", provider("JAEGER"))).provider is not None


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ({"sampling": 0}, 1.0),
        ({"sampling": 0.5}, 0.5),
        ({"sampling": 250}, 1.0),
        ({"sampling": "12"}, 12.0),
        ({"sampling": "many"}, 1.0),
        ({"sampling": True}, 1.0),
        ({}, 1.0),
        (None, 1.0),
    ],
)
def test_the_rate_of_the_mesh_configuration(said: object, found: float) -> None:
    """0 means not set, above 100 istiod takes 1, and what is no number is not set."""
    assert setting(default_config={"tracing": said}).client.sampling == found


@pytest.mark.parametrize(("value", "found"), [("100", 100), ("0", 0), ("-1", 1), ("101", 1), ("x", 1), ("", 1)])
def test_the_environment_of_istiod_is_the_default(value: str, found: float) -> None:
    """Only between 0 and 100, and only where nothing else is set."""
    istiod = whole.istiod(env={"PILOT_TRACE_SAMPLING": value})
    snapshot = whole.mesh(deployments=(istiod, make.deployment()), mesh=whole.mesh_config(default_config={}))
    assert TracingSettings(snapshot).of(ORDERS, make.NAMESPACE).client.sampling == found


def test_a_pod_keeps_the_rate_of_its_injection() -> None:
    """The mesh configuration was changed since; until its restart the pod samples as before, and so the workload is named."""
    orders = make.deployment()
    (pod, *_) = whole.team_pods(orders, env={"PROXY_CONFIG": json.dumps({"tracing": {"sampling": 50}})})
    found = TracingSettings(whole.mesh()).of_pod(pod, OWNER)
    assert (found.client.sampling, found.client.sampling_by) == (50, OWNER)


def test_an_annotation_overrides_the_mesh() -> None:
    """A workload's own proxy configuration, of a pod that is not there yet and of one that is."""
    text = json.dumps({"tracing": {"sampling": 100}})
    settings = TracingSettings(whole.mesh())
    assert settings.of(ORDERS, make.NAMESPACE, {"proxy.istio.io/config": text}).client.sampling == 100
    pod = make.meshed_pod(annotations={"proxy.istio.io/config": text})
    assert settings.of_pod(pod, OWNER).client.sampling_by == OWNER


def test_legacy_tracing_needs_a_tracer() -> None:
    """Without Telemetry and default provider the tracer of the proxies' configuration counts; tracing is on unless switched off."""
    legacy = {"tracing": {"zipkin": {"address": "zipkin.istio-system:9411"}}}
    found = setting(default_providers={}, default_config=legacy, enable_tracing=None)
    assert found.provider is not None
    assert (found.provider.service, found.provider.port, found.provider.legacy) == ("zipkin.istio-system", 9411, True)
    assert setting(default_providers={}, default_config=legacy, enable_tracing=False).provider is None
    assert setting(telemetry("rate", rate(2)), default_providers={}, default_config=legacy).provider is None


# --- line 5.2.1 ---------------------------------------------------------------------------------------------------------


def test_a_healthy_mesh_traces() -> None:
    """A provider, a Service with its port, a ready endpoint."""
    judgement = tracing_enabled(whole.mesh())
    assert judgement.status is Status.PASSED
    assert judgement.summary == "the proxies of 2 workloads report spans to jaeger"


def test_no_provider_fails() -> None:
    """Since 1.22 there is no default any more."""
    judgement = tracing_enabled(whole.mesh(mesh=whole.mesh_config(default_providers={}, default_config={})))
    assert only(judgement) == ("MR521-NO-PROVIDER", Level.ERROR, "istio-system/ConfigMap/istio")


@pytest.mark.parametrize(
    ("providers", "version", "code"),
    [
        ((), "1.30.3", "MR521-UNDEFINED-PROVIDER"),
        (({"name": "jaeger", "envoyOtelAls": {"service": "x"}},), "1.30.3", "MR521-NOT-A-TRACER"),
        (({"name": "jaeger", "lightstep": {"service": "x.example.com"}},), "1.30.3", "MR521-NOT-A-TRACER"),
        (({"name": "jaeger"},), "1.30.3", "MR521-NOT-A-TRACER"),
    ],
)
def test_a_provider_that_does_not_trace_fails(providers: tuple[dict[str, Any], ...], version: str, code: str) -> None:
    """Not defined, of a kind that does not trace, of a kind that was dropped in 1.27, of no kind."""
    judgement = tracing_enabled(whole.mesh(mesh=whole.mesh_config(extension_providers=providers), istio_version=version))
    assert only(judgement) == (code, Level.ERROR, "istio-system/ConfigMap/istio")


def test_a_provider_that_was_dropped_later_still_traces() -> None:
    """Lightstep was dropped in 1.27."""
    providers = ({"name": "jaeger", "lightstep": {"service": "spans.example.com", "port": 443}},)
    judgement = tracing_enabled(whole.mesh(mesh=whole.mesh_config(extension_providers=providers), istio_version="1.26.8"))
    assert judgement.status is Status.PASSED


def test_the_telemetry_that_names_it_is_to_blame() -> None:
    """The finding is about the object that somebody has to edit."""
    judgement = tracing_enabled(whole.mesh(telemetries=(telemetry("own", provider("tempo")),)))
    assert only(judgement) == ("MR521-UNDEFINED-PROVIDER", Level.ERROR, "payments/Telemetry/own")
    assert "orders" in judgement.findings[0].found


def test_spans_that_are_not_reported_fail() -> None:
    """The whole namespace does not trace, so tracing is not enabled."""
    judgement = tracing_enabled(whole.mesh(telemetries=(telemetry("quiet", Tracing(disable_span_reporting=True)),)))
    assert only(judgement) == ("MR521-SPANS-OFF", Level.ERROR, "payments/Telemetry/quiet")


def test_a_quiet_workload_warns() -> None:
    """The others report, and somebody may have meant it."""
    quiet = telemetry("quiet", Tracing(disable_span_reporting=True), app="ledger")
    judgement = tracing_enabled(whole.mesh(telemetries=(quiet,)))
    assert only(judgement) == ("MR521-SPANS-OFF", Level.WARNING, "payments/Telemetry/quiet")
    assert "ledger" in judgement.findings[0].found


def test_reporting_that_is_switched_on_again_passes() -> None:
    """What is narrower overrides: off for the mesh, on for the namespace."""
    off = telemetry("mesh", Tracing(disable_span_reporting=True), namespace=make.ISTIO)
    on = telemetry("own", Tracing(disable_span_reporting=False))
    assert tracing_enabled(whole.mesh(telemetries=(off, on))).status is Status.PASSED


def _without(kind: str) -> dict[str, Any]:
    healthy = whole.mesh()
    match kind:
        case "service":
            return {"services": tuple(item for item in healthy.services if item.metadata.name != "jaeger-collector")}
        case "port":
            other = make.service("jaeger-collector", namespace=make.ISTIO, selector={"app": "jaeger"}, ports=(("grpc", 4317),))
            return {"services": (other,)}
    return {"endpointslices": (make.endpointslice("jaeger-collector", healthy.pods[:1], namespace=make.ISTIO, ready=False),)}


@pytest.mark.parametrize(
    ("kind", "code"), [("service", "MR521-NO-COLLECTOR"), ("port", "MR521-COLLECTOR-PORT"), ("endpoint", "MR521-COLLECTOR-DOWN")]
)
def test_a_collector_that_is_not_there_fails(kind: str, code: str) -> None:
    """No Service, no such port, no ready endpoint."""
    assert only(tracing_enabled(whole.mesh(**_without(kind)))) == (code, Level.ERROR, "istio-system/Service/jaeger-collector")


def test_a_short_name_is_not_found_by_istiod() -> None:
    """Istiod looks Services up by their full names, and quietly traces nothing."""
    short = ({"name": "jaeger", "zipkin": {"service": "jaeger-collector.istio-system", "port": 9411}},)
    judgement = tracing_enabled(whole.mesh(mesh=whole.mesh_config(extension_providers=short)))
    assert only(judgement)[0] == "MR521-COLLECTOR-NAME"


def test_a_collector_elsewhere_is_left_to_the_live_part() -> None:
    """Its namespace is never read; a trace that comes back proves more."""
    far = ({"name": "jaeger", "opentelemetry": {"service": "otel.observability.svc.cluster.local", "port": 4317}},)
    assert tracing_enabled(whole.mesh(mesh=whole.mesh_config(extension_providers=far))).status is Status.PASSED


@pytest.mark.parametrize(
    ("item", "why"),
    [
        (telemetry("unused", rate(5), app="nobody"), "matches no workload"),
        (telemetry("young", rate(5), created="2026-09-30T00:00:00Z"), "takes the oldest alone"),
    ],
)
def test_telemetry_without_effect_warns(item: Telemetry, why: str) -> None:
    """A selector that matches nothing, and a second one for the whole namespace."""
    judgement = tracing_enabled(whole.mesh(telemetries=(telemetry("own", rate(5)), item)))
    assert only(judgement) == ("MR521-NO-EFFECT", Level.WARNING, f"payments/Telemetry/{item.metadata.name}")
    assert why in judgement.findings[0].found


def test_an_ambient_namespace_needs_a_waypoint() -> None:
    """Ztunnel reads no requests; with the label of a waypoint elsewhere it cannot be told from here."""
    spaces = (make.namespace(make.ISTIO, labels={}), make.namespace(labels=AMBIENT))
    pods = (make.pod(annotations={"ambient.istio.io/redirection": "enabled"}),)
    judgement = tracing_enabled(whole.mesh(namespaces=spaces, pods=pods))
    assert only(judgement) == ("MR521-NO-WAYPOINT", Level.ERROR, "Namespace/payments")
    elsewhere = (spaces[0], make.namespace(labels={**AMBIENT, "istio.io/use-waypoint": "shared"}))
    assert tracing_enabled(whole.mesh(namespaces=elsewhere, pods=pods)).status is Status.NOT_VERIFIED


# --- line 5.2.2 ---------------------------------------------------------------------------------------------------------


def test_a_reviewed_rate_passes() -> None:
    """5 per cent everywhere, gateways included."""
    judgement = sampling_reviewed(whole.mesh())
    assert judgement.status is Status.PASSED
    assert judgement.summary == "the proxies of 2 workloads and the gateways sample 5 % of the requests"


@pytest.mark.parametrize(
    ("value", "final", "level"),
    [
        (0, False, Level.ERROR),
        (10.5, False, Level.WARNING),
        (100, False, Level.WARNING),
        (100, True, Level.ERROR),
        (50, True, Level.WARNING),
    ],
)
def test_rates_out_of_bounds(value: float, final: bool, level: Level) -> None:
    """0 fails, above 10 warns, 100 fails in the last phase."""
    judgement = sampling_reviewed(whole.mesh(telemetries=(telemetry("own", rate(value)),)), final=final)
    assert only(judgement) == ("MR522-ZERO" if value == 0 else "MR522-HIGH", level, "payments/Telemetry/own")


def test_a_gateways_rate_counts() -> None:
    """What comes from outside is sampled where it enters: a Telemetry of the gateway's namespace decides about it."""
    entry = telemetry("entry", rate(100), namespace=make.ISTIO, app="istio-ingressgateway")
    judgement = sampling_reviewed(whole.mesh(telemetries=(entry,)))
    assert only(judgement) == ("MR522-HIGH", Level.WARNING, "istio-system/Telemetry/entry")
    assert "istio-ingressgateway" in judgement.findings[0].found


def test_a_zero_that_means_not_set_warns() -> None:
    """Who wrote 0 into the mesh configuration gets 1 per cent."""
    judgement = sampling_reviewed(whole.mesh(mesh=whole.mesh_config(default_config={"tracing": {"sampling": 0}})))
    assert only(judgement) == ("MR522-ZERO-IGNORED", Level.WARNING, "istio-system/ConfigMap/istio")
    assert "1 %" in judgement.findings[0].found


def test_a_sampler_of_the_provider_decides_by_itself() -> None:
    """Then the rate of a Telemetry has no say."""
    own = ({"name": "jaeger", "opentelemetry": {"service": whole.JAEGER, "port": 9411, "dynatraceSampler": {}}},)
    snapshot = whole.mesh(mesh=whole.mesh_config(extension_providers=own), telemetries=(telemetry("own", rate(100)),))
    judgement = sampling_reviewed(snapshot)
    assert judgement.findings == ()
    assert "what provider jaeger decides" in judgement.summary


def test_without_spans_no_rate_is_in_force() -> None:
    """A rate on paper is not one that was reviewed."""
    judgement = sampling_reviewed(whole.mesh(telemetries=(telemetry("quiet", Tracing(disable_span_reporting=True)),)))
    assert judgement.status is Status.NOT_VERIFIED
    assert "line 5.2.1" in judgement.reason


# --- both ---------------------------------------------------------------------------------------------------------------


@RULES
@pytest.mark.parametrize("key", ["telemetries", "pods", "deployments"])
def test_refused_lists_leave_it_open(rule: Any, key: str) -> None:
    """Without the right to look nothing passes, and the right is named."""
    judgement = rule(whole.mesh(refusals=(make.refusal(key),)))
    assert judgement.status is Status.NOT_VERIFIED
    assert any(unknown.verb == "list" for unknown in judgement.unknown)


@RULES
def test_without_the_mesh_configuration_nothing_is_known(rule: Any) -> None:
    """A managed mesh may have none in the cluster."""
    judgement = rule(whole.mesh(mesh=None))
    assert judgement.status is Status.NOT_VERIFIED
    assert "mesh configuration was not found" in judgement.reason


@RULES
def test_a_namespace_without_proxies_is_not_verified(rule: Any) -> None:
    """Nothing that could trace was seen."""
    spaces = (make.namespace(make.ISTIO, labels={}), make.namespace(labels={}))
    assert rule(whole.mesh(deployments=(whole.istiod(),), namespaces=spaces)).status is Status.NOT_VERIFIED


@RULES
def test_manifests_are_judged_by_their_templates(rule: Any) -> None:
    """Workloads without pods count by what the injector would make of them."""
    judgement = rule(whole.mesh(pods=(), endpointslices=_endpoints()))
    assert judgement.status is Status.PASSED


def _endpoints() -> tuple[o.EndpointSlice, ...]:
    healthy: Snapshot = whole.mesh()
    return healthy.endpointslices


@RULES
def test_odd_configuration_is_no_exception(rule: Any) -> None:
    """Providers without names and of odd shapes, and annotations that are no JSON."""
    odd: dict[str, Any] = {
        "extension_providers": ({}, {"name": 7, "zipkin": "x"}, {"name": "jaeger", "zipkin": {"port": "high", "service": 5}}),
        "default_providers": {"tracing": "jaeger"},
        "default_config": {"tracing": {"zipkin": "zipkin", "sampling": "inf"}},
    }
    pods = whole.team_pods(make.deployment(), env={"PROXY_CONFIG": "{"})
    assert isinstance(rule(whole.mesh(mesh=whole.mesh_config(**odd), pods=pods)), Judgement)
