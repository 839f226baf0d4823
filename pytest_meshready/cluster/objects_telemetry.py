"""Istio's Telemetry, cut down to what rules read: tracing alone. Custom tags may hold anything and are not decoded."""

from __future__ import annotations

from typing import ClassVar

from pytest_meshready.cluster.objects import Metadata, Slim, WorkloadSelector


class ProviderName(Slim, frozen=True):
    name: str = ""


class TracingSelector(Slim, frozen=True):
    """``mode``: CLIENT, SERVER, or CLIENT_AND_SERVER (also where empty)."""

    mode: str = ""


class Tracing(Slim, frozen=True):
    """What is None inherits from the wider Telemetry."""

    match: TracingSelector | None = None
    providers: tuple[ProviderName, ...] = ()
    random_sampling_percentage: float | None = None
    disable_span_reporting: bool | None = None
    disable_context_propagation: bool | None = None


class TargetReference(Slim, frozen=True):
    group: str = ""
    kind: str = ""
    name: str = ""


class TelemetrySpec(Slim, frozen=True):
    """Selects pods by ``selector``, or gateways by ``target_refs``; neither: all of its namespace."""

    selector: WorkloadSelector | None = None
    target_refs: tuple[TargetReference, ...] = ()
    tracing: tuple[Tracing, ...] = ()


class Telemetry(Slim, frozen=True):
    kind: ClassVar[str] = "Telemetry"
    metadata: Metadata = Metadata()
    spec: TelemetrySpec = TelemetrySpec()
