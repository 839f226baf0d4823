"""What an EnvoyFilter tells Envoy's rate limits, as a few numbers; everything else that it tells filters is dropped.

The settings are those of Envoy's ``local_ratelimit`` and ``ratelimit`` HTTP filters, also wrapped as a ``TypedStruct``, in snake
case or in camel case, as protobuf's JSON has it. What is of an odd type counts as not set.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec.structs import force_setattr

from pytest_meshready.cluster.objects_traffic import PatchValue, RateLimit, TypedConfig

#: Ends of the types of Envoy's filters.
_LOCAL, _GLOBAL = ".LocalRateLimit", (".RateLimit", ".RateLimitPerRoute")

_DENOMINATORS = {"HUNDRED": 100, "TEN_THOUSAND": 10_000, "MILLION": 1_000_000}
_WRITTEN = ("token_bucket", "filter_enabled", "filter_enforced", "rate_limit_service", "failure_mode_deny")


def reduce(value: PatchValue) -> None:
    """Keep of a patch's value what is known to be harmless; it is changed in place, so only for objects that nobody has yet."""
    route = value.route if isinstance(value.route, Mapping) else {}
    described = value.rate_limits or value.camel_rate_limits or _said(route, "rate_limits")
    force_setattr(value, "describes", value.describes or bool(described))
    force_setattr(value, "typed_config", value.typed_config or value.camel_typed_config)
    force_setattr(value, "typed_per_filter_config", {**value.camel_typed_per_filter_config, **value.typed_per_filter_config})
    for name in ("rate_limits", "route", "camel_typed_config", "camel_rate_limits"):
        force_setattr(value, name, None)
    force_setattr(value, "camel_typed_per_filter_config", {})
    for config in (value.typed_config, *value.typed_per_filter_config.values()):
        if config is not None:
            _reduce(config)


def _reduce(config: TypedConfig) -> None:
    force_setattr(config, "type_url", config.type_url or config.camel_type_url)
    force_setattr(config, "camel_type_url", "")
    kind = config.type_url or config.at_type
    local = kind.endswith(_LOCAL)
    if config.limit is None and (local or ("ratelimit" in kind and kind.endswith(_GLOBAL))):
        own = {name: _either(getattr(config, name), getattr(config, f"camel_{name}")) for name in _WRITTEN}
        force_setattr(config, "limit", _limit(config.value if isinstance(config.value, Mapping) else own, local=local))
    for name in (*_WRITTEN, *(f"camel_{name}" for name in _WRITTEN), "value"):
        force_setattr(config, name, None)


def _limit(settings: Mapping[str, Any], *, local: bool) -> RateLimit:
    bucket = _mapping(settings, "token_bucket")
    tokens, most = _number(_either(_said(bucket, "tokens_per_fill"), 1)), _number(_said(bucket, "max_tokens"))
    service = _mapping(settings, "rate_limit_service")
    asked = _said(_mapping(_mapping(service, "grpc_service"), "envoy_grpc"), "cluster_name")
    interval = _said(bucket, "fill_interval")
    return RateLimit(
        local=local,
        tokens=(tokens or most or 0) if bucket else 0,
        interval=interval if isinstance(interval, str) else "",
        enabled=_percentage(_said(settings, "filter_enabled")),
        enforced=_percentage(_said(settings, "filter_enforced")),
        cluster=asked if isinstance(asked, str) else "",
        fail_closed=_said(settings, "failure_mode_deny") is True,
    )


def _either(one: object, other: object) -> object:
    return other if one is None else one


def _said(settings: Mapping[str, Any], key: str) -> object:
    """What settings say under a key in snake case, or under the same key in camel case."""
    first, *rest = key.split("_")
    return _either(settings.get(key), settings.get(first + "".join(word.capitalize() for word in rest)))


def _mapping(settings: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = _said(settings, key)
    return value if isinstance(value, Mapping) else {}


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except ValueError:
        return None


def _percentage(fraction: object) -> float | None:
    """Envoy's ``RuntimeFractionalPercent``; None where it says nothing."""
    default = _mapping(fraction, "default_value") if isinstance(fraction, Mapping) else {}
    if not default:
        return None
    return (_number(default.get("numerator")) or 0) * 100 / _DENOMINATORS.get(str(default.get("denominator", "HUNDRED")), 100)
