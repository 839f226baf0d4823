"""What an EnvoyFilter tells Envoy's rate limits, as a few numbers; everything else that it tells filters is dropped.

The settings are those of Envoy's ``local_ratelimit`` and ``ratelimit`` HTTP filters, also wrapped as a ``TypedStruct``. What is of
an odd type counts as not set.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec.structs import force_setattr

from pytest_meshready.cluster.objects_traffic import PatchValue, RateLimit, TypedConfig

#: Ends of the types of Envoy's filters.
_LOCAL, _GLOBAL = ".LocalRateLimit", (".RateLimit", ".RateLimitPerRoute")

_DENOMINATORS = {"HUNDRED": 100, "TEN_THOUSAND": 10_000, "MILLION": 1_000_000}
_FREE = ("token_bucket", "filter_enabled", "filter_enforced", "rate_limit_service", "failure_mode_deny", "value")


def reduce(value: PatchValue) -> None:
    """Keep of a patch's value what is known to be harmless; it is changed in place, so only for objects that nobody has yet."""
    route = value.route if isinstance(value.route, Mapping) else {}
    force_setattr(value, "describes", value.describes or bool(value.rate_limits or route.get("rate_limits")))
    force_setattr(value, "rate_limits", None)
    force_setattr(value, "route", None)
    for config in (value.typed_config, *value.typed_per_filter_config.values()):
        if config is not None:
            _reduce(config)


def _reduce(config: TypedConfig) -> None:
    kind = config.type_url or config.at_type
    local = kind.endswith(_LOCAL)
    if config.limit is None and (local or ("ratelimit" in kind and kind.endswith(_GLOBAL))):
        inner = config.value if isinstance(config.value, Mapping) else {name: getattr(config, name) for name in _FREE}
        force_setattr(config, "limit", _limit(inner, local=local))
    for name in _FREE:
        force_setattr(config, name, None)


def _limit(settings: Mapping[str, Any], *, local: bool) -> RateLimit:
    bucket = _mapping(settings, "token_bucket")
    tokens, most = _number(bucket.get("tokens_per_fill", 1)), _number(bucket.get("max_tokens"))
    service = _mapping(settings, "rate_limit_service")
    asked = _mapping(_mapping(service, "grpc_service"), "envoy_grpc").get("cluster_name")
    return RateLimit(
        local=local,
        tokens=(tokens or most or 0) if bucket else 0,
        interval=str(bucket.get("fill_interval", "")) if isinstance(bucket.get("fill_interval"), str) else "",
        enabled=_percentage(settings.get("filter_enabled")),
        enforced=_percentage(settings.get("filter_enforced")),
        cluster=asked if isinstance(asked, str) else "",
        fail_closed=settings.get("failure_mode_deny") is True,
    )


def _mapping(settings: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = settings.get(key)
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
