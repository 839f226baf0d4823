"""Line 8.1.2: requests are limited where they enter, and the limit is in force (checks.md 8.1.2)."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import yaml

from pytest_meshready.cluster import decode
from pytest_meshready.cluster import objects as o
from pytest_meshready.cluster.objects_traffic import EnvoyFilter
from pytest_meshready.cluster.resources import RESOURCES
from pytest_meshready.istio.ratelimits import rate_limited
from pytest_meshready.results import Judgement, Level, Status
from tests.unit import builders as make
from tests.unit.doorways import NAME, entered, service
from tests.unit.written import shop

CANARY = "s3cret-canary"
BUCKET = "token_bucket: {max_tokens: 2000, tokens_per_fill: 2000, fill_interval: 1s}"
ALL = "{default_value: {numerator: 100, denominator: HUNDRED}}"
ON = f"filter_enabled: {ALL}, filter_enforced: {ALL}"
LOCAL_TYPE = "type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit"
GLOBAL_TYPE = "type.googleapis.com/envoy.extensions.filters.http.ratelimit.v3.RateLimit"


def local(settings: str = f"{BUCKET}, {ON}") -> str:
    return f"{{name: envoy.filters.http.local_ratelimit, typed_config: {{'@type': {LOCAL_TYPE}, stat_prefix: x, {settings}}}}}"


def asking(cluster: str, settings: str = "") -> str:
    """A global limit that asks a service."""
    where = f"rate_limit_service: {{grpc_service: {{envoy_grpc: {{cluster_name: '{cluster}'}}}}, transport_api_version: V3}}"
    return f"{{name: envoy.filters.http.ratelimit, typed_config: {{'@type': {GLOBAL_TYPE}, domain: shop, {where}{settings}}}}}"


def patched(
    *values: str, name: str = "limit", namespace: str = make.ISTIO, context: str = "GATEWAY", selector: str = "ingressgateway"
) -> EnvoyFilter:
    """An EnvoyFilter as the API server's answer is read: reduced to what may be kept."""
    patches = [
        {"applyTo": "HTTP_FILTER", "match": {"context": context}, "patch": {"operation": "INSERT_BEFORE", "value": yaml.safe_load(value)}}
        for value in values
    ]
    spec: dict[str, Any] = {"configPatches": patches}
    if selector:
        spec["workloadSelector"] = {"labels": {"istio": selector}}
    document = {"metadata": {"name": name, "namespace": namespace}, "spec": spec}
    (found,) = decode.page(msgspec.json.encode({"items": [document]}), RESOURCES["envoyfilters"]).items
    assert isinstance(found, EnvoyFilter)
    return found


def judged(*filters: EnvoyFilter, elsewhere: str = "", **fields: Any) -> Judgement:
    return rate_limited(entered(envoyfilters=filters, **fields), elsewhere)


def found(judgement: Judgement) -> dict[tuple[str, str], Level]:
    return {(item.code, item.object.name): item.level for item in judgement.findings}


def test_the_shops_limit() -> None:
    """A local limit at the gateway holds for each of its pods, and the sum is said."""
    judgement = judged(patched(local()))
    assert (judgement.status, judgement.findings) == (Status.PASSED, ())
    assert judgement.summary == f"limit lets 2000 requests per 1s through each of 2 pods of {NAME}, 4000 in all"


def test_without_any_limit() -> None:
    """Nothing limits: it fails, or warns where the team says that something in front does."""
    assert found(judged()) == {("MR812-NO-LIMIT", NAME): Level.ERROR}
    stated = judged(elsewhere="Cloud Armor, policy shop")
    assert found(stated) == {("MR812-STATED", "payments"): Level.WARNING}
    assert "Cloud Armor" in stated.findings[0].found


@pytest.mark.parametrize(
    ("settings", "code", "level"),
    [
        (BUCKET, "MR812-NOT-ENFORCED", Level.ERROR),
        (f"{BUCKET}, filter_enabled: {ALL}", "MR812-NOT-ENFORCED", Level.ERROR),
        (f"{BUCKET}, filter_enabled: {ALL}, filter_enforced: {{default_value: {{numerator: 0}}}}", "MR812-NOT-ENFORCED", Level.ERROR),
        (f"{BUCKET}, filter_enabled: {ALL}, filter_enforced: {{default_value: {{numerator: 10}}}}", "MR812-IN-PART", Level.WARNING),
        (ON, "MR812-NO-BUCKET", Level.WARNING),
    ],
)
def test_limits_that_do_not_limit(settings: str, code: str, level: Level) -> None:
    """Envoy's local limit is off unless it is both enabled and enforced, and 0 % is the default of both."""
    assert found(judged(patched(local(settings)))) == {(code, "limit"): level}


def test_settings_of_routes_complete_the_filter() -> None:
    """The filter may be empty where a route gives it a bucket, in another EnvoyFilter too."""
    route = f"{{typed_per_filter_config: {{envoy.filters.http.local_ratelimit: {{'@type': {LOCAL_TYPE}, {BUCKET}, {ON}}}}}}}"
    assert found(judged(patched(local("x: 1")), patched(route, name="route"))) == {}


def test_a_typed_struct() -> None:
    """The same settings, wrapped."""
    wrapped = f"{{name: l, typed_config: {{'@type': t/udpa.type.v1.TypedStruct, type_url: {LOCAL_TYPE}, value: {{{BUCKET}, {ON}}}}}}}"
    assert judged(patched(wrapped)).status is Status.PASSED


@pytest.mark.parametrize(
    ("where", "reaches"),
    [
        ({"namespace": make.ISTIO, "selector": ""}, True),
        ({"selector": "other"}, False),
        ({"context": "SIDECAR_OUTBOUND"}, False),
        ({"context": ""}, True),
        ({"namespace": "billing"}, False),
        ({"namespace": make.NAMESPACE, "selector": "", "context": "SIDECAR_INBOUND"}, True),
    ],
)
def test_which_filters_reach(where: dict[str, str], *, reaches: bool) -> None:
    """Those of the gateway's and the root namespace by labels, and those of the workloads behind it."""
    assert ("MR812-NO-LIMIT" not in {code for code, _ in found(judged(patched(local(), **where)))}) is reaches


def test_a_filter_for_every_proxy() -> None:
    """In the root namespace without a selector, and not for gateways alone."""
    assert found(judged(patched(local(), selector="", context="ANY"))) == {("MR812-MESH-WIDE", "limit"): Level.WARNING}


DESCRIBED = "{rate_limits: [{actions: [{remote_address: {}}]}]}"
CLUSTER = "outbound|8081||ratelimit.istio-system.svc.cluster.local"


def answering(ready: bool | None = True) -> dict[str, Any]:
    """The service that is asked, and its endpoints."""
    limiter = make.service("ratelimit", namespace=make.ISTIO, ports=(("grpc", 8081),))
    behind = make.endpointslice("ratelimit", (make.pod("ratelimit-0", namespace=make.ISTIO),), namespace=make.ISTIO, ready=ready)
    return {"services": (service(), limiter), "endpointslices": (behind,)}


def test_a_global_limit() -> None:
    """It asks a service that answers, and routes say by what to count."""
    judgement = judged(patched(asking(CLUSTER), DESCRIBED), **answering())
    assert (judgement.status, judgement.findings) == (Status.PASSED, ())
    assert CLUSTER in judgement.summary


@pytest.mark.parametrize(
    ("values", "fields", "code", "level"),
    [
        ((asking(CLUSTER), DESCRIBED), {}, "MR812-NO-SERVICE", Level.ERROR),
        ((asking(CLUSTER), DESCRIBED), answering(ready=False), "MR812-SERVICE-DOWN", Level.ERROR),
        ((asking(CLUSTER),), answering(), "MR812-NO-DESCRIPTORS", Level.WARNING),
        (
            (asking(CLUSTER, ", filter_enforced: {default_value: {numerator: 0}}"), DESCRIBED),
            answering(),
            "MR812-NOT-ENFORCED",
            Level.ERROR,
        ),
    ],
)
def test_global_limits_that_do_not_limit(values: tuple[str, ...], fields: dict[str, Any], code: str, level: Level) -> None:
    """A service that is not there or down, nothing to count by, or 0 %."""
    assert found(judged(patched(*values), **fields)) == {(code, "limit"): level}


def test_a_wasm_plugin_may_be_a_limit() -> None:
    """Nobody knows what it does, so it only warns."""
    plugin = """
apiVersion: extensions.istio.io/v1alpha1
kind: WasmPlugin
metadata: {name: guard, namespace: istio-system}
spec: {selector: {matchLabels: {istio: ingressgateway}}}
"""
    judgement = rate_limited(entered(plugin + "---" + entered_text()))
    assert found(judgement) == {("MR812-NO-LIMIT", NAME): Level.WARNING}
    assert "WasmPlugin guard" in judgement.findings[0].found


def entered_text() -> str:
    """The shop's own Gateway and VirtualService."""
    from tests.unit.doorways import ROUTE, gateway

    return f"{gateway()}{ROUTE}"


def test_nothing_enters() -> None:
    """Without a Gateway the line does not apply."""
    assert rate_limited(shop()).status is Status.NOT_APPLICABLE


def test_filters_that_may_not_be_read() -> None:
    """Without the right to list EnvoyFilters no limit is said to be missing."""
    judgement = judged(refusals=(make.refusal("envoyfilters", namespace=make.ISTIO),))
    assert (judgement.status, judgement.findings) == (Status.NOT_VERIFIED, ())


@pytest.mark.parametrize(
    "value",
    [
        f"{{typed_config: {{'@type': {LOCAL_TYPE}, token_bucket: text, filter_enabled: [1], filter_enforced: 5}}}}",
        f"{{typed_config: {{'@type': {LOCAL_TYPE}, token_bucket: {{max_tokens: x, fill_interval: 7}}, filter_enabled: 1}}}}",
        f"{{typed_config: {{'@type': {GLOBAL_TYPE}, rate_limit_service: 3, failure_mode_deny: maybe}}}}",
        "{typed_config: {'@type': lua, value: [1], token_bucket: {a: b}}, route: text, rate_limits: {}}",
    ],
)
def test_odd_settings(value: str) -> None:
    """Settings of odd types count as not set, and raise nothing."""
    assert isinstance(judged(patched(value)).status, Status)


def test_nothing_else_of_a_filter_is_kept() -> None:
    """Tokens in filters' settings never arrive in a snapshot."""
    value = f"""
name: envoy.filters.http.lua
typed_config: {{'@type': lua, inline_code: {CANARY}, value: {{token: {CANARY}}}, token_bucket: {{x: {CANARY}}}}}
route: {{request_headers_to_add: [{CANARY}]}}
rate_limits: [{CANARY}]
"""
    kept = msgspec.json.encode(patched(value))
    assert CANARY.encode() not in kept
    again = msgspec.json.decode(msgspec.json.encode(patched(local())), type=EnvoyFilter)
    assert again == patched(local())
    assert isinstance(again.metadata, o.Metadata)


# --- as protobuf's JSON may write it, and where a limit stands ---


def on_routes(value: str, *, name: str = "routes", apply_to: str = "VIRTUAL_HOST", operation: str = "MERGE") -> EnvoyFilter:
    """An EnvoyFilter at the gateway that patches routes, or whatever else is said."""
    made = patched(value, name=name)
    (patch,) = made.spec.config_patches
    assert patch.patch is not None
    changed = msgspec.structs.replace(patch, apply_to=apply_to, patch=msgspec.structs.replace(patch.patch, operation=operation))
    return msgspec.structs.replace(made, spec=msgspec.structs.replace(made.spec, config_patches=(changed,)))


CAMEL_ALL = "{defaultValue: {numerator: 100, denominator: HUNDRED}}"
CAMEL_BUCKET = "tokenBucket: {maxTokens: 2000, tokensPerFill: 2000, fillInterval: 1s}"
CAMEL_ON = f"filterEnabled: {CAMEL_ALL}, filterEnforced: {CAMEL_ALL}"


@pytest.mark.parametrize(
    "value",
    [
        f"{{name: x, typedConfig: {{'@type': {LOCAL_TYPE}, {CAMEL_BUCKET}, {CAMEL_ON}}}}}",
        f"{{name: x, typedConfig: {{'@type': t/udpa.type.v1.TypedStruct, typeUrl: {LOCAL_TYPE}, value: {{{CAMEL_BUCKET}, {CAMEL_ON}}}}}}}",
        f"{{name: x, typed_config: {{'@type': {LOCAL_TYPE}, {CAMEL_BUCKET}, {ON}}}}}",
    ],
)
def test_camel_case_is_the_same_limit(value: str) -> None:
    """Envoy's settings in camel case, all or some of them, are 2000 requests per second, and nothing of them is kept twice."""
    judgement = judged(patched(value))
    assert (judgement.status, judgement.findings) == (Status.PASSED, ())
    assert "lets 2000 requests per 1s through" in judgement.summary
    assert b"okenBucket" not in msgspec.json.encode(patched(value))


def test_a_global_limit_in_camel_case() -> None:
    """It asks the same service and counts by the same descriptors."""
    where = "rateLimitService: {grpcService: {envoyGrpc: {clusterName: 'outbound|8081||limits.payments.svc.cluster.local'}}}"
    value = f"{{name: x, typedConfig: {{'@type': {GLOBAL_TYPE}, {where}, failureModeDeny: true}}}}"
    said = found(judged(patched(value), on_routes("{rateLimits: [{actions: [{remoteAddress: {}}]}]}")))
    assert said == {("MR812-NO-SERVICE", "limit"): Level.ERROR}


def test_a_filter_per_route_in_camel_case() -> None:
    """What stands in typedPerFilterConfig counts beside a filter without a bucket."""
    bare = patched(f"{{name: x, typedConfig: {{'@type': {LOCAL_TYPE}, statPrefix: x}}}}")
    value = f"{{typedPerFilterConfig: {{x: {{'@type': {LOCAL_TYPE}, {CAMEL_BUCKET}, {CAMEL_ON}}}}}}}"
    assert judged(bare, on_routes(value)).status is Status.PASSED


@pytest.mark.parametrize(
    "value",
    [
        f"{{typed_per_filter_config: {{x: {{'@type': {LOCAL_TYPE}, {BUCKET}, {ON}}}}}}}",
        "{rate_limits: [{actions: [{remote_address: {}}]}]}",
        "{route: {rateLimits: [{actions: [{remoteAddress: {}}]}]}}",
    ],
)
def test_settings_of_routes_without_a_filter_limit_nothing(value: str) -> None:
    """Per-route settings need both the filter and the route (checks.md 8.1.2): alone they enforce nothing."""
    assert found(judged(on_routes(value))) == {("MR812-NO-FILTER", "routes"): Level.ERROR}


def test_a_patch_that_takes_the_filter_away_is_no_limit() -> None:
    """REMOVE adds nothing."""
    removing = on_routes(local(), apply_to="HTTP_FILTER", operation="REMOVE")
    assert found(judged(removing)) == {("MR812-NO-LIMIT", NAME): Level.ERROR}


def test_plugins_count_where_they_are_attached() -> None:
    """A plugin of Istio 1.30 may limit (warning); one that is attached to another Gateway does not (error)."""
    plugin = """
apiVersion: extensions.istio.io/v1alpha1
kind: {kind}
metadata: {{name: limiter, namespace: istio-system}}
spec: {{{spec}}}
"""
    for kind in ("WasmPlugin", "TrafficExtension"):
        here = shop(plugin.format(kind=kind, spec="selector: {matchLabels: {istio: ingressgateway}}"))
        there = shop(plugin.format(kind=kind, spec="targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: other}]"))
        key = f"{kind.lower()}s"
        assert found(judged(**{key: getattr(here, key)})) == {("MR812-NO-LIMIT", NAME): Level.WARNING}
        assert found(judged(**{key: getattr(there, key)})) == {("MR812-NO-LIMIT", NAME): Level.ERROR}
