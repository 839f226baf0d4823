"""What istiod was told: ConfigMap ``istio`` -> `MeshConfig`, ConfigMap ``istio-sidecar-injector`` -> `InjectorConfig`.

And what the installation recorded of itself: ConfigMap ``values`` -> `InstallValues`.

Only the fields that rules read are taken over, by name: tokens of tracing services, headers, certificates and the
environment that ``proxyMetadata`` gives to proxies stay behind. What is malformed becomes a sentence, never an exception;
the sentences never quote the text.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from pytest_meshready.cluster import objects
from pytest_meshready.cluster.objects import LabelSelector
from pytest_meshready.cluster.snapshot import InjectorConfig, InstallValues, MeshConfig

#: Fields of ProxyConfig (Istio's mesh/v1alpha1/proxy.proto) without anything secret; the others are not kept.
_PROXY_CONFIG = (
    "concurrency",
    "discoveryAddress",
    "drainDuration",
    "gatewayTopology",
    "holdApplicationUntilProxyStarts",
    "image",
    "interceptionMode",
    "meshId",
    "parentShutdownDuration",
    "proxyAdminPort",
    "proxyStatsMatcher",
    "statNameLength",
    "statusPort",
    "terminationDrainDuration",
)

#: Fields of ProxyConfig.tracing without anything secret (``lightstep.accessToken``, ``tlsSettings``, custom tags stay behind).
_TRACING = ("sampling", "maxPathTagLength", "enableIstioTags")

#: Tracing services of ProxyConfig.tracing: only their addresses are kept.
_TRACERS = ("zipkin", "lightstep", "datadog", "openCensusAgent")

#: Prefix of the variables in ProxyConfig.proxyMetadata that are kept: settings of Istio's own.
_METADATA = "ISTIO_META_"

#: What is kept of an extension provider; ``headers``, ``initialMetadata``, log formats and access tokens are not.
_PROVIDER = (
    "service",
    "port",
    "timeout",
    "failOpen",
    "statusOnError",
    "path",
    "pathPrefix",
    "maxTagLength",
    "enable64bitTraceId",
    "traceContextOption",
    "logName",
)

#: Names of profiles and versions: anything else in their place is not kept, as it might be anything.
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")

#: Custom samplers of a tracing provider: that there is one decides, what it is told stays behind.
_SAMPLERS = ("dynatraceSampler",)

_T = TypeVar("_T")


class Malformed(Exception):  # noqa: N818 - it reads as what it is
    """A text that is not what it should be; the message is the end of a sentence and quotes nothing."""


def parse_mesh(data: Mapping[str, str]) -> tuple[MeshConfig | None, str]:
    """``meshConfig`` from the data of ConfigMap ``istio[-REV]``, or a sentence that says why there is none."""
    if "mesh" not in data:
        return None, "it has no key mesh"
    try:
        config = _mapping(_yaml(data["mesh"]), "mesh")
        return _mesh(config), ""
    except Malformed as problem:
        return None, f"its key mesh {problem}"


def parse_injector(data: Mapping[str, str]) -> tuple[InjectorConfig | None, str]:
    """The injector's settings from the data of ConfigMap ``istio-sidecar-injector[-REV]``, or why there are none."""
    absent = [key for key in ("config", "values") if key not in data]
    if absent:
        return None, f"it has no key {' and no key '.join(absent)}"
    key = "config"
    try:
        config = _mapping(_yaml(data["config"]), key)
        key = "values"
        values = _mapping(_json(data["values"]), key)
        key = "config"
        return _injector(config, values), ""
    except Malformed as problem:
        return None, f"its key {key} {problem}"


def parse_values(data: Mapping[str, str]) -> InstallValues | None:
    """What the installation recorded of itself, from the data of ConfigMap ``values[-REV]``; None where it is no such record.

    Nothing in the mesh depends on this record, so a broken one is as good as none.
    """
    try:
        values = _mapping(_json(data.get("original-values", "")), "original-values")
    except Malformed:
        return None
    profile = values.get("profile") or _inner(values, "global").get("profile")  # in this order, as the charts read it
    return InstallValues(profile=_word(profile), compatibility_version=_word(values.get("compatibilityVersion")))


@functools.lru_cache(maxsize=1024)
def clean_proxy_config(text: str) -> str:
    """ProxyConfig as JSON less what may be secret, from YAML or JSON; empty where it cannot be read.

    Pods carry it in their annotation ``proxy.istio.io/config`` and in the variable ``PROXY_CONFIG``, the same text in all
    replicas: hence the cache.
    """
    try:
        config = _mapping(_yaml(text), "")
    except Malformed:
        return ""
    return msgspec.json.encode(proxy_config(config)).decode()


@functools.lru_cache(maxsize=1024)
def clean_probers(text: str) -> str:
    """The variable ``ISTIO_KUBE_APP_PROBERS`` less the headers and commands of the probes; empty where it cannot be read."""
    try:
        return msgspec.json.encode(_PROBERS.decode(text)).decode()
    except msgspec.MsgspecError:
        return ""


class _Prober(objects.Slim, frozen=True):
    http_get: objects.HttpGet | None = None
    tcp_socket: objects.PortAction | None = None
    grpc: objects.PortAction | None = None
    timeout_seconds: int = 0


#: Built at import, because several threads decode at once (see `pytest_meshready.cluster.decode`).
_PROBERS = msgspec.json.Decoder(dict[str, _Prober])


def proxy_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a ProxyConfig that are kept, in Istio's shape."""
    kept = {key: config[key] for key in _PROXY_CONFIG if config.get(key) is not None}
    tracing = config.get("tracing")
    if isinstance(tracing, Mapping):
        kept["tracing"] = {key: tracing[key] for key in _TRACING if tracing.get(key) is not None}
        for tracer in _TRACERS:
            settings = tracing.get(tracer)
            if isinstance(settings, Mapping):
                kept["tracing"][tracer] = {"address": _text(settings.get("address"))}
    metadata = config.get("proxyMetadata")
    if isinstance(metadata, Mapping):
        own = {str(name): _text(value) for name, value in metadata.items() if str(name).startswith(_METADATA)}
        kept.update({"proxyMetadata": own} if own else {})
    return kept


def _mesh(config: Mapping[str, Any]) -> MeshConfig:
    retry_policy = config.get("defaultHttpRetryPolicy")
    providers = config.get("extensionProviders")
    aliases = config.get("trustDomainAliases")
    return MeshConfig(
        root_namespace=_text(config.get("rootNamespace")),
        trust_domain=_text(config.get("trustDomain")),
        trust_domain_aliases=tuple(map(_text, aliases)) if isinstance(aliases, list) else (),
        enable_auto_mtls=_switch(config.get("enableAutoMtls")),
        discovery_selectors=_selectors(config.get("discoverySelectors"), "discoverySelectors"),
        outbound_traffic_policy=_inner(config, "outboundTrafficPolicy"),
        enable_tracing=_switch(config.get("enableTracing")),
        default_providers=_inner(config, "defaultProviders"),
        extension_providers=tuple(_provider(item) for item in providers if isinstance(item, Mapping))
        if isinstance(providers, list)
        else (),
        default_config=proxy_config(_inner(config, "defaultConfig")),
        default_http_retry_policy=dict(retry_policy) if isinstance(retry_policy, Mapping) else None,
        connect_timeout=_text(config.get("connectTimeout")),
        default_traffic_policy=_inner(config, "defaultTrafficPolicy"),
        access_log_file=_text(config.get("accessLogFile")),
        enable_prometheus_merge=_switch(config.get("enablePrometheusMerge")),
        ingress_controller_mode=_ingress_mode(config.get("ingressControllerMode")),
    )


def _ingress_mode(value: object) -> str:
    """``OFF`` without quotes is a false truth value to YAML."""
    return "OFF" if value is False else _text(value)


def _provider(provider: Mapping[str, Any]) -> dict[str, Any]:
    """An extension provider: its name, its kind, and of the kind's settings what is not secret."""
    kept: dict[str, Any] = {"name": _text(provider.get("name"))}
    for kind, settings in provider.items():
        if kind != "name" and isinstance(settings, Mapping):
            kept[str(kind)] = {key: settings[key] for key in _PROVIDER if isinstance(settings.get(key), str | int | float | bool)}
            kept[str(kind)].update({sampler: {} for sampler in _SAMPLERS if sampler in settings})
    return kept


def _injector(config: Mapping[str, Any], values: Mapping[str, Any]) -> InjectorConfig:
    webhook = _inner(values, "sidecarInjectorWebhook")
    everywhere = _inner(values, "global")
    proxy = _inner(everywhere, "proxy")
    cni = _inner(_inner(values, "pilot"), "cni") or _inner(values, "istio_cni")  # istio_cni: before Istio 1.23
    templates = config.get("defaultTemplates")
    return InjectorConfig(
        policy=_text(config.get("policy")),
        always_inject_selector=_selectors(config.get("alwaysInjectSelector"), "alwaysInjectSelector"),
        never_inject_selector=_selectors(config.get("neverInjectSelector"), "neverInjectSelector"),
        default_templates=tuple(map(_text, templates)) if isinstance(templates, list) else (),
        enable_namespaces_by_default=_switch(webhook.get("enableNamespacesByDefault")) or False,
        rewrite_app_http_probe=_switch(webhook.get("rewriteAppHTTPProbe")),
        cni_enabled=_switch(cni.get("enabled")) or False,
        proxy_image=_text(proxy.get("image")),
        hub=_text(everywhere.get("hub")),
        tag=_text(everywhere.get("tag")),
        proxy_resources=_resources(proxy.get("resources")),
        include_inbound_ports=_text(proxy.get("includeInboundPorts", "*")),
        exclude_inbound_ports=_text(proxy.get("excludeInboundPorts")),
    )


def _resources(value: object) -> objects.Resources:
    if not isinstance(value, Mapping):
        return objects.Resources()
    return _converted({key: _inner(value, key) for key in ("requests", "limits")}, objects.Resources, "global.proxy.resources")


def _selectors(value: object, where: str) -> tuple[LabelSelector, ...]:
    if not isinstance(value, list):
        return ()
    trimmed = [{key: inner for key, inner in item.items() if inner is not None} if isinstance(item, Mapping) else item for item in value]
    return _converted(trimmed, tuple[LabelSelector, ...], where)


def _converted(value: object, to: type[_T], where: str) -> _T:
    try:
        return msgspec.convert(value, to, strict=False)
    except msgspec.ValidationError as error:
        raise Malformed(f"has a {where} that cannot be understood ({error})") from error


def _yaml(text: str) -> object:
    import yaml

    try:
        return plain(yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)))  # noqa: S506 - both are safe loaders
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)  # the error's own text quotes the file
        raise Malformed(f"is not YAML{f' (line {mark.line + 1})' if mark else ''}") from None


def plain(value: Any) -> Any:  # noqa: ANN401 - YAML of any kind
    """YAML's data as JSON can say it: text for keys, dates and whatever else JSON lacks."""
    if isinstance(value, dict):
        return {_text(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [plain(inner) for inner in value]
    return value if value is None or isinstance(value, str | int | float) else str(value)


def _json(text: str) -> object:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise Malformed(f"is not JSON ({error})") from error


def _mapping(value: object, key: str) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise Malformed(f"is a {type(value).__name__} instead of a mapping" if key else "")
    return value


def _inner(config: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = config.get(key)
    return dict(value) if isinstance(value, Mapping) else {}


def _text(value: object) -> str:
    """A scalar as the text that it was in YAML; empty for anything else."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, str | int | float) else ""


def _word(value: object) -> str:
    """A name of profiles or versions; empty for whatever else stands there."""
    text = _text(value)
    return text if _WORD.fullmatch(text) else ""


def _switch(value: object) -> bool | None:
    """A boolean, also in the quotes that Helm users put around it; None where it is not set or is none."""
    if isinstance(value, bool):
        return value
    return {"true": True, "false": False}.get(value.lower()) if isinstance(value, str) else None
