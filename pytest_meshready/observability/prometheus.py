"""Prometheus: instant queries, with the care that no data is never taken for a good number (checks.md 1.4, 1.8, 5.1)."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import msgspec

from pytest_meshready.cluster.snapshot import Snapshot
from pytest_meshready.observability.http import (
    Address,
    Getter,
    Source,
    UnavailableError,
    Wanted,
    candidates,
    first_that_answers,
)
from pytest_meshready.waiting import Deadline

#: Names of Services under which Prometheus and what speaks like it are installed.
WANTED = Wanted(
    what="Prometheus",
    names=(
        "prometheus",
        "prometheus-server",
        "prometheus-operated",
        "prometheus-k8s",
        "kube-prometheus-stack-prometheus",
        "prometheus-kube-prometheus-prometheus",
        "thanos-query",
        "thanos-querier",
        "vmsingle",
        "mimir-query-frontend",
    ),
    ports=(9090, 9091, 80, 10902, 8428, 8080),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One element of an instant vector. ``value`` may be NaN or infinite, as Prometheus says."""

    labels: Mapping[str, str] = field(default_factory=dict)
    value: float = math.nan


class _Element(msgspec.Struct):
    metric: dict[str, str]
    value: tuple[float, str]


class _Data(msgspec.Struct):
    result_type: str = msgspec.field(name="resultType", default="")
    result: msgspec.Raw = msgspec.Raw(b"[]")


class _Answer(msgspec.Struct):
    status: str = ""
    data: _Data | None = None
    error: str = ""


class _ConfigData(msgspec.Struct):
    yaml: str = ""


class _Config(msgspec.Struct):
    data: _ConfigData = msgspec.field(default_factory=_ConfigData)


class Prometheus:
    """One Prometheus.

    Example:
        >>> prometheus.query('sum(istio_requests_total{reporter="destination"})')
        (Sample(labels={}, value=17.0),)
    """

    def __init__(self, source: Source) -> None:
        self._source = source

    @property
    def name(self) -> str:
        """Where it is, as evidence names it."""
        return self._source.name

    def query(self, text: str, *, deadline: Deadline | None = None) -> tuple[Sample, ...]:
        """The instant vector of a query; empty where no series matches, which is not the same as zero.

        Args:
            text: PromQL; a scalar becomes one sample without labels.
            deadline: a bound that may be shorter than usual.

        Raises:
            UnavailableError: with one sentence, where there is no answer, or Prometheus refuses the query.
        """
        reply = self._source.get("/api/v1/query", {"query": text}, deadline=deadline)
        if not reply.body:
            raise UnavailableError(f"{self.name} refuses the query (HTTP status {reply.status}): {text}")
        answer = reply.decode(_Answer)
        if answer.status != "success" or answer.data is None:
            raise UnavailableError(f"{self.name} refuses the query ({answer.error or f'HTTP status {reply.status}'}): {text}")
        try:
            return _samples(answer.data)
        except (msgspec.MsgspecError, ValueError) as error:
            raise UnavailableError(f"{self.name} answered with a {answer.data.result_type}, which is no vector: {text}") from error

    def scrape_interval(self, *, deadline: Deadline | None = None) -> float | None:
        """Seconds between two scrapes by its global configuration; None where it does not say."""
        try:
            reply = self._source.get("/api/v1/status/config", deadline=deadline)
            text = reply.decode(_Config).data.yaml
        except UnavailableError:
            return None
        found = re.search(r"^global:\s*\n(?:[ \t]+.*\n)*?[ \t]+scrape_interval:\s*(\S+)", text, re.MULTILINE)
        return _seconds(found.group(1)) if found else None


def connect(cluster: Getter, snapshot: Snapshot, *, url: str = "", headers: Mapping[str, str] | None = None, ca: str = "") -> Prometheus:
    """The mesh's Prometheus: at the address that the team gave, else found among the Services that were read.

    Args:
        cluster: the way to it.
        snapshot: for its Services.
        url: its address, from ``meshready.toml``.
        headers: sent to that address with every request.
        ca: a file of authorities for that address; empty for those of this machine.

    Raises:
        UnavailableError: with one sentence, where none was found or none answers.
    """
    if url:
        return _opened(Address(url=url, headers=headers or {}, ca=ca))
    places = (snapshot.istio_namespace, snapshot.root_namespace, snapshot.namespace)
    found = candidates(cluster, snapshot.services, WANTED, places)
    return first_that_answers(found, WANTED, _opened)


def number(samples: Iterable[Sample]) -> float | None:
    """The one finite number of an answer; None for no sample, several, or NaN (``0/0``), so that none of these can pass."""
    found = list(samples)
    return found[0].value if len(found) == 1 and math.isfinite(found[0].value) else None


def total(samples: Iterable[Sample]) -> float | None:
    """The sum of the finite samples; None where there is none."""
    found = [sample.value for sample in samples if math.isfinite(sample.value)]
    return math.fsum(found) if found else None


def _opened(source: Source) -> Prometheus:
    prometheus = Prometheus(source)
    prometheus.query("vector(1)")
    return prometheus


def _samples(data: _Data) -> tuple[Sample, ...]:
    if data.result_type == "scalar":
        _, value = msgspec.json.decode(data.result, type=tuple[float, str])
        return (Sample(value=float(value)),)
    if data.result_type != "vector":
        raise ValueError(data.result_type)
    elements = msgspec.json.decode(data.result, type=tuple[_Element, ...])
    return tuple(Sample(labels=element.metric, value=float(element.value[1])) for element in elements)


_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def _seconds(text: str) -> float | None:
    """A duration in Prometheus' words: ``1m30s``."""
    words = re.findall(r"(\d+)(ms|s|m|h|d)", text)
    if not words or "".join(number + unit for number, unit in words) != text:
        return None
    return sum(int(number) * _UNITS[unit] for number, unit in words)
