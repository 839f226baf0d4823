"""What Cluster Autoscaler writes about itself into ConfigMap ``cluster-autoscaler-status`` -> `AutoscalerState`.

Since 1.30 the text is YAML (clusterstate/api/types.go of kubernetes/autoscaler), before that it was prose made for people
(clusterstate/api/utils.go). Only statuses, sizes and times are taken over: messages may quote a cloud's answers. What cannot
be understood becomes `AutoscalerState.problem`, never an exception.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from pytest_meshready.cluster.objects_capacity import AutoscalerState, NodeGroupState

#: ``2023-11-24 04:28:19.546750398 +0000 UTC m=+571.77``, Go's way to print a time; RFC 3339 is taken as well.
_TIME = re.compile(r"(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d)(?:\.\d+)? ?(Z|[+-]\d\d:?\d\d)")
_LINE = re.compile(r"^\s*(Name|Health|ScaleUp):\s*(.*)$")
_NUMBER = re.compile(r"\b(cloudProviderTarget|maxSize)=(\d{1,9})\b")
_WRITTEN = re.compile(r"Cluster-autoscaler status at ([^\n]+):")
_GROUPS = "NodeGroups:"
#: More nodes than any cluster has.
_MANY = 10**9


def parse_status(text: str) -> AutoscalerState:
    """The state from the ConfigMap's key ``status``, of any version."""
    if not text.strip():
        return AutoscalerState(problem="its key status is empty")
    if _WRITTEN.search(text):
        return _prose(text)
    import yaml

    try:
        data = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 - both are safe loaders
    except (yaml.YAMLError, ValueError, RecursionError):
        return AutoscalerState(problem="its key status is neither YAML nor the text of older versions")
    if not isinstance(data, Mapping) or not ({"autoscalerStatus", "clusterWide"} & set(data)):
        return AutoscalerState(problem="its key status has neither autoscalerStatus nor clusterWide")
    return _structured(data)


def _structured(data: Mapping[str, Any]) -> AutoscalerState:
    whole = _inner(data, "clusterWide")
    groups = data.get("nodeGroups")
    scale_up = _inner(whole, "scaleUp")
    return AutoscalerState(
        running=_word(data.get("autoscalerStatus")),
        written=_time(data.get("time")),
        health=_word(_inner(whole, "health").get("status")),
        scale_up=_word(scale_up.get("status")),
        groups=tuple(_group(item) for item in groups if isinstance(item, Mapping)) if isinstance(groups, list) else (),
    )


def _group(item: Mapping[str, Any]) -> NodeGroupState:
    health, scale_up = _inner(item, "health"), _inner(item, "scaleUp")
    return NodeGroupState(
        name=_word(item.get("name")),
        health=_word(health.get("status")),
        scale_up=_word(scale_up.get("status")),
        backoff=_word(_inner(scale_up, "backoffInfo").get("errorCode")),
        target=_size(health.get("cloudProviderTarget")),
        max_size=_size(health.get("maxSize")),
    )


def _prose(text: str) -> AutoscalerState:
    """The older text: a paragraph for the cluster, then one for each group, which begins with its name."""
    found = _WRITTEN.search(text)
    written = _time(found.group(1)) if found else ""
    body = text[found.end() :] if found else text
    whole, _, rest = body.partition(_GROUPS)
    if "Health:" not in whole:
        return AutoscalerState(running=_first(body), written=written)
    told = next(iter(_paragraphs(whole)), {})
    return AutoscalerState(
        running="Running",
        written=written,
        health=_first(told.get("Health", "")),
        scale_up=_first(told.get("ScaleUp", "")),
        groups=tuple(_prose_group(group) for group in _paragraphs(rest)),
    )


def _paragraphs(text: str) -> Iterator[dict[str, str]]:
    """The lines of each group by their word."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        match = _LINE.match(line)
        if match is None:
            continue
        word, value = match.groups()
        if word == "Name" and found:
            yield found
            found = {}
        found[word] = value
    if found:
        yield found


def _prose_group(told: Mapping[str, str]) -> NodeGroupState:
    numbers = {name: int(value) for name, value in _NUMBER.findall(told.get("Health", ""))}
    return NodeGroupState(
        name=told.get("Name", "").strip(),
        health=_first(told.get("Health", "")),
        scale_up=_first(told.get("ScaleUp", "")),
        target=numbers.get("cloudProviderTarget"),
        max_size=numbers.get("maxSize"),
    )


def _inner(data: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = data.get(key)
    return value if isinstance(value, Mapping) else {}


def _word(value: object) -> str:
    return value if isinstance(value, str) else ""


def _first(text: str) -> str:
    """The first word: ``Healthy`` of ``Healthy (ready=3 ...)``."""
    return next(iter(text.split()), "")


def _size(value: object) -> int | None:
    """A number of nodes; None of what is none."""
    return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) < _MANY else None


def _time(value: object) -> str:
    """A time as RFC 3339 without fractions; empty of nothing and of what is no time."""
    found = _TIME.search(str(value)) if value is not None else None
    if found is None:
        return ""
    day, clock, zone = found.groups()
    return f"{day}T{clock}{zone if zone == 'Z' or ':' in zone else f'{zone[:3]}:{zone[3:]}'}"
