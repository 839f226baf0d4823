"""Istio's own configuration: what is taken over, what is left behind, and what is malformed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pytest_meshready.cluster import objects
from pytest_meshready.cluster.meshconfig import clean_probers, clean_proxy_config, parse_injector, parse_mesh
from pytest_meshready.cluster.objects import LabelExpression, LabelSelector
from pytest_meshready.cluster.snapshot import InjectorConfig, MeshConfig

SHOP = """
accessLogEncoding: JSON
accessLogFile: /dev/stdout
defaultConfig:
  discoveryAddress: istiod.istio-system.svc:15012
  holdApplicationUntilProxyStarts: true
  tracing:
    sampling: 5
defaultProviders:
  metrics: []
  tracing:
  - jaeger
enablePrometheusMerge: true
enableTracing: true
extensionProviders:
- name: jaeger
  zipkin:
    port: 9411
    service: jaeger-collector.istio-system.svc.cluster.local
outboundTrafficPolicy:
  mode: ALLOW_ANY
rootNamespace: istio-system
trustDomain: cluster.local
"""


def mesh(text: str) -> MeshConfig:
    found, problem = parse_mesh({"mesh": text})
    assert problem == ""
    assert found is not None
    return found


def injector(config: str = "policy: enabled", **values: Any) -> InjectorConfig:
    found, problem = parse_injector({"config": config, "values": json.dumps(values)})
    assert problem == ""
    assert found is not None
    return found


def test_the_mesh_of_the_shop() -> None:
    """What istioctl install writes is read."""
    assert mesh(SHOP) == MeshConfig(
        root_namespace="istio-system",
        trust_domain="cluster.local",
        outbound_traffic_policy={"mode": "ALLOW_ANY"},
        enable_tracing=True,
        default_providers={"metrics": [], "tracing": ["jaeger"]},
        extension_providers=({"name": "jaeger", "zipkin": {"port": 9411, "service": "jaeger-collector.istio-system.svc.cluster.local"}},),
        default_config={
            "discoveryAddress": "istiod.istio-system.svc:15012",
            "holdApplicationUntilProxyStarts": True,
            "tracing": {"sampling": 5},
        },
        access_log_file="/dev/stdout",
        enable_prometheus_merge=True,
    )


@pytest.mark.parametrize("written", ["OFF", '"OFF"', "off"])
def test_a_switched_off_ingress_controller(written: str) -> None:
    """YAML takes OFF without quotes for a truth value; a mode in small letters is one, too."""
    assert mesh(f"ingressControllerMode: {written}").ingress_controller_mode == "OFF"
    assert mesh("ingressControllerMode: STRICT").ingress_controller_mode == "STRICT"


def test_the_rest_of_the_mesh() -> None:
    """Settings that the shop does not have."""
    found = mesh(
        "enableAutoMtls: false\ntrustDomainAliases: [old.example, 7]\nconnectTimeout: 10s\ndefaultHttpRetryPolicy: {attempts: 0}\n"
        "discoverySelectors: [{matchLabels: {mesh: 'on'}}, "
        "{matchExpressions: [{key: env, operator: In, values: [prod]}], matchLabels: null}]"
    )
    assert found.enable_auto_mtls is False
    assert found.trust_domain_aliases == ("old.example", "7")
    assert found.connect_timeout == "10s"
    assert found.default_http_retry_policy == {"attempts": 0}
    assert found.discovery_selectors == (
        LabelSelector(match_labels={"mesh": "on"}),
        LabelSelector(match_expressions=(LabelExpression(key="env", operator="In", values=("prod",)),)),
    )


@pytest.mark.parametrize("text", ["", "{}", "null", "# nothing"])
def test_an_empty_mesh_has_istios_defaults(text: str) -> None:
    """Nothing set is a valid configuration."""
    assert mesh(text) == MeshConfig()


def test_odd_values_count_as_not_set() -> None:
    """A value of the wrong type does not break the reading of the others."""
    found = mesh(
        "trustDomain: [a]\nenableTracing: 'yes'\nenableAutoMtls: 'True'\nextensionProviders: {}\ndefaultConfig: 7\nrootNamespace: mesh"
    )
    assert found == MeshConfig(root_namespace="mesh", enable_auto_mtls=True)


def test_secrets_of_the_mesh_stay_behind() -> None:
    """Tokens, headers, certificates and the environment of proxies are not taken over."""
    found = mesh(
        """
        defaultConfig:
          proxyMetadata: {TOKEN: s3cret, ISTIO_META_DNS_CAPTURE: "true"}
          caCertificatesPem: [s3cret]
          tracing:
            lightstep: {address: "collector:443", accessToken: s3cret}
            tlsSettings: {privateKey: s3cret}
            customTags: {a: {literal: {value: s3cret}}}
          envoyMetricsService: {address: a, tlsSettings: {sni: s3cret}}
        extensionProviders:
        - name: otel
          opentelemetry:
            service: otel.example
            port: 4317
            http: {path: /v1, headers: [{name: authorization, value: s3cret}]}
            initialMetadata: s3cret
        - name: ext
          envoyExtAuthzHttp: {service: auth.example, port: 80, failOpen: true, headersToUpstreamOnAllow: [s3cret]}
        - name: log
          envoyFileAccessLog: {path: /dev/stdout, logFormat: {text: s3cret}}
        - s3cret
        certificates: [{secretName: s3cret}]
        """
    )
    assert "s3cret" not in repr(found)
    assert found.default_config == {
        "tracing": {"lightstep": {"address": "collector:443"}},
        "proxyMetadata": {"ISTIO_META_DNS_CAPTURE": "true"},
    }
    assert found.extension_providers == (
        {"name": "otel", "opentelemetry": {"service": "otel.example", "port": 4317}},
        {"name": "ext", "envoyExtAuthzHttp": {"service": "auth.example", "port": 80, "failOpen": True}},
        {"name": "log", "envoyFileAccessLog": {"path": "/dev/stdout"}},
    )


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: [s3cret", "its key mesh is not YAML (line "),
        ("- s3cret", "its key mesh is a list instead of a mapping"),
        ("s3cret", "its key mesh is a str instead of a mapping"),
        (
            "discoverySelectors: [{matchLabels: s3cret}]",
            "its key mesh has a discoverySelectors that cannot be understood (Expected `object`, got `str`",
        ),
        ("&a [*a]", "its key mesh is not YAML"),
    ],
)
def test_a_malformed_mesh_is_a_sentence(text: str, problem: str) -> None:
    """The problem is named without quoting the text."""
    found, said = parse_mesh({"mesh": text})
    assert found is None
    assert said.startswith(problem)
    assert "s3cret" not in said


def test_absent_keys_are_sentences() -> None:
    """A ConfigMap of the right name without the right keys."""
    assert parse_mesh({}) == (None, "it has no key mesh")
    assert parse_injector({"config": ""}) == (None, "it has no key values")
    assert parse_injector({}) == (None, "it has no key config and no key values")


def test_the_injector_of_the_shop() -> None:
    """What istioctl install writes is read: the policy from ``config``, the rest from ``values``."""
    found = injector(
        "defaultTemplates: [sidecar]\npolicy: enabled\nalwaysInjectSelector:\n  []\nneverInjectSelector:\n  []\n"
        "injectedAnnotations:\ntemplates:\n  sidecar: |\n    {{- define }}\n",
        **{
            "global": {
                "hub": "docker.io/istio",
                "tag": "1.31.0",
                "proxy": {
                    "image": "proxyv2",
                    "includeInboundPorts": "*",
                    "excludeInboundPorts": "",
                    "resources": {"requests": {"cpu": "10m", "memory": "40Mi"}, "limits": {"cpu": 1}},
                },
            },
            "pilot": {"cni": {"enabled": True}},
            "sidecarInjectorWebhook": {"rewriteAppHTTPProbe": True, "enableNamespacesByDefault": False},
        },
    )
    assert found == InjectorConfig(
        policy="enabled",
        default_templates=("sidecar",),
        rewrite_app_http_probe=True,
        cni_enabled=True,
        proxy_image="proxyv2",
        hub="docker.io/istio",
        tag="1.31.0",
        proxy_resources=objects.Resources(requests={"cpu": "10m", "memory": "40Mi"}, limits={"cpu": 1}),
    )


def test_selectors_and_older_values() -> None:
    """Selectors are read from ``config``; before Istio 1.23 the CNI switch was ``istio_cni``."""
    found = injector(
        "neverInjectSelector: [{matchLabels: {job: batch}}]\nalwaysInjectSelector: [{matchLabels: {a: b}}]", istio_cni={"enabled": True}
    )
    assert found.never_inject_selector == (LabelSelector(match_labels={"job": "batch"}),)
    assert found.always_inject_selector == (LabelSelector(match_labels={"a": "b"}),)
    assert found.cni_enabled
    assert found.rewrite_app_http_probe is None
    assert found.include_inbound_ports == "*"


@pytest.mark.parametrize(
    ("config", "values", "problem"),
    [
        ("a: [", "{}", "its key config is not YAML"),
        ("{}", "{s3cret", "its key values is not JSON"),
        ("{}", "[]", "its key values is a list instead of a mapping"),
        ("neverInjectSelector: [7]", "{}", "its key config has a neverInjectSelector that cannot be understood"),
    ],
)
def test_a_malformed_injector_is_a_sentence(config: str, values: str, problem: str) -> None:
    """The key that is wrong is named."""
    found, said = parse_injector({"config": config, "values": values})
    assert found is None
    assert said.startswith(problem)
    assert "s3cret" not in said


@pytest.mark.parametrize("text", ["a: [", "7", "- a", "&a [*a]"])
def test_a_proxy_config_that_cannot_be_read_is_empty(text: str) -> None:
    """Malformed text may hold anything and is not kept."""
    assert clean_proxy_config(text) == ""
    assert clean_probers(text) == ""


def test_yaml_beyond_json_is_still_kept_as_json() -> None:
    """Dates and numbers as keys do not break the saving of a snapshot."""
    assert clean_proxy_config("image: {imageType: 2020-01-01, 7: x}") == '{"image":{"imageType":"2020-01-01","7":"x"}}'
    assert mesh("outboundTrafficPolicy: {mode: 2020-01-01}").outbound_traffic_policy == {"mode": "2020-01-01"}
