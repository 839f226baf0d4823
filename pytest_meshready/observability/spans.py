"""Spans in one form, whatever backend kept them: plain data that rules look at."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """One span.

    Attributes:
        trace_id: in lower case without leading zeros, so that 64-bit ids written with 128 bits are equal.
        span_id: 16 hexadecimal digits in lower case.
        parent_id: the span above; empty for one that says to have none.
        service: the service that reported it; Istio's proxies say ``orders.payments``.
        name: the operation.
        kind: ``client``, ``server``, another of the backend's words, or empty.
        start: microseconds since 1970, by the reporter's clock.
        duration: microseconds.
        proxy: whether a proxy of the mesh reported it; otherwise the application did.
        node: the pod of that proxy as ``name.namespace``; empty where it is not said.
        role: what that proxy is: ``sidecar``, ``router`` (a gateway), ``waypoint``; empty where it is not said.
        request_id: ``x-request-id`` of the request; empty where it is not said.
    """

    trace_id: str
    span_id: str
    parent_id: str = ""
    service: str = ""
    name: str = ""
    kind: str = ""
    start: int = 0
    duration: int = 0
    proxy: bool = False
    node: str = ""
    role: str = ""
    request_id: str = ""


def trace_key(text: str) -> str:
    """A trace id as `Span.trace_id` has it."""
    return text.lower().lstrip("0")


def span_key(text: str) -> str:
    """A span id as `Span.span_id` has it; empty for none, which some write as zeros."""
    plain = text.lower().lstrip("0")
    return plain.zfill(16) if plain else ""
