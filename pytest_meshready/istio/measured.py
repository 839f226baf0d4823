"""What proxies counted: the metrics of lines 4.2.2, 7.1.2, 7.2.1 and 7.2.2, and the calls that tell where traces must go on.

Each function that makes queries has one beside it that judges their samples. Nothing counted is never good: a ratio without
requests, NaN and an empty vector are unknown. What pods of this project sent is left out by their identity, and by number
where they had none. The destination's word decides who spoke mutual TLS: the source's proxy always says ``unknown``, and a
handshake that was refused is counted as ``mutual_tls`` too, but without a principal.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from pytest_meshready.cluster.snapshot import Snapshot
from pytest_meshready.istio.workloads import workloads
from pytest_meshready.results import Evidence, Finding, Judgement, Level, ObjectRef, Unknown

#: Plaintext requests to one workload in the whole window that may be leftovers of earlier runs of these checks.
FEW = 10

#: Shares of failed calls: good, and still bearable (checks.md 7.1.2).
GOOD, BEARABLE = 0.001, 0.01

#: Calls below which a share says nothing.
AT_LEAST = 20

#: A share means little where fewer calls than this failed: one in ninety is what a single restart costs.
SEVERAL = 5

#: Seconds that new configuration may take to reach the proxies: good, and still bearable (checks.md 4.2.2).
CONVERGENCE_GOOD, CONVERGENCE_BEARABLE = 5.0, 15.0

#: Flags of Envoy for calls that failed between proxies, not in the application.
FLAGS = ("UF", "UH", "NR", "NC", "UC", "URX", "UT", "UO", "UPE")

#: The pods of runs of this project, which have an account of their own each (``meshready-`` and the run), are left out.
_OURS = "meshready-.*"
_NOT_OURS = f',source_principal!~".*/sa/{_OURS}"'

_NOBODY = frozenset({"", "-", "unknown"})


class Sample(Protocol):
    """One element of an instant vector."""

    @property
    def labels(self) -> Mapping[str, str]:
        """Its labels."""

    @property
    def value(self) -> float:
        """Its value; may be NaN."""


# --- mutual TLS at the destination: 7.2.1, 7.2.2 ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class MtlsQueries:
    """``plain`` and ``mutual`` count requests and TCP connections; run each and give all samples together."""

    plain: tuple[str, ...]
    mutual: tuple[str, ...]


_BY = "destination_workload, source_workload, source_workload_namespace, source_principal"
_COUNTERS = ("istio_requests_total", "istio_tcp_connections_opened_total")


def mtls_queries(namespace: str, window: str = "7d") -> MtlsQueries:
    """Who called the namespace's workloads with and without mutual TLS.

    Args:
        namespace: of the workloads.
        window: how far back, as PromQL writes it.
    """
    base = f'reporter="destination",destination_workload_namespace="{namespace}",destination_workload!~"{_OURS}"{_NOT_OURS}'
    return MtlsQueries(
        plain=tuple(
            f'sum by ({_BY}) (increase({name}{{{base},connection_security_policy!="mutual_tls"}}[{window}]))' for name in _COUNTERS
        ),
        mutual=tuple(
            f'sum by ({_BY}) (increase({name}{{{base},connection_security_policy="mutual_tls"}}[{window}]))' for name in _COUNTERS
        ),
    )


def callers(
    snapshot: Snapshot,
    plain: Iterable[Sample],
    mutual: Iterable[Sample],
    *,
    line: str = "MR721",
    sent: Mapping[str, int] | None = None,
    allowed: frozenset[str] = frozenset(),
    window: str = "7d",
) -> Judgement:
    """Lines 7.2.1 and 7.2.2, measured: nobody calls the namespace's workloads in plaintext any more.

    Errors: plaintext calls. Warnings: so few that earlier runs of these checks may have made them; plaintext from callers that
    the team listed. ``MR721-PLAINTEXT-CALLERS``.

    Args:
        snapshot: for the namespace and its workloads.
        plain: the samples of `MtlsQueries.plain`.
        mutual: those of `MtlsQueries.mutual`; only what names a principal counts.
        line: the beginning of the codes.
        sent: how many plaintext requests and connections this run has sent to each workload within the window.
        allowed: callers that may use plaintext, as ``namespace/workload``.
        window: as it was asked for.
    """
    counts: dict[str, dict[str, float]] = {}
    for sample in _counted(plain):
        by_caller = counts.setdefault(sample.labels.get("destination_workload", "unknown"), {})
        by_caller[_caller(sample.labels)] = by_caller.get(_caller(sample.labels), 0.0) + sample.value
    proved = [sample for sample in _counted(mutual) if sample.labels.get("source_principal", "") not in _NOBODY]
    refs = {item.ref.name: item.ref for item in workloads(snapshot, snapshot.namespace)}
    findings: list[Finding] = []
    for name, by_caller in sorted(counts.items()):
        unnamed = max(by_caller.pop("", 0.0) - (sent or {}).get(name, 0), 0.0)
        workload = refs.get(name, ObjectRef(kind="Workload", namespace=snapshot.namespace, name=name))
        said = _plaintext(unnamed, by_caller, allowed)
        if said is not None:
            findings.append(_plaintext_finding(workload, said, line, window))
    total = sum(sample.value for sample in proved)
    unknown: tuple[Unknown, ...] = ()
    if not proved and not findings:
        reason = f"no call of the workloads of {snapshot.namespace} was counted in {window}, so nothing shows how callers call"
        unknown = (Unknown(reason=reason),)
    return Judgement(
        summary=f"all of about {total:.0f} calls in {window} came with a client's certificate",
        examined=len(proved),
        findings=tuple(findings),
        unknown=unknown,
        evidence=(Evidence(kind="table", source="connection_security_policy at the destination", data=_principals(proved)),),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plaintext:
    """How much plaintext one workload took, from whom, and what to make of it."""

    count: int
    who: str
    level: Level


def _plaintext(unnamed: float, named: Mapping[str, float], allowed: frozenset[str]) -> _Plaintext | None:
    """The calls of callers that are not listed, or else of those that are; ``unnamed`` came from nobody who is known."""
    others = {caller: count for caller, count in named.items() if caller not in allowed}
    count = round(unnamed + sum(others.values()))
    if count:
        nobody = "from callers that no proxy names (probes of earlier runs may be among them)"
        who = f"from {', '.join(sorted(others)[:3])}" if others else nobody
        if count <= FEW and not others:
            who = "from callers that no proxy names, so few that probes of earlier runs may have made them"
        return _Plaintext(count=count, who=who, level=Level.WARNING if count <= FEW else Level.ERROR)
    listed = {caller: value for caller, value in named.items() if caller in allowed and round(value)}
    if not listed:
        return None
    return _Plaintext(count=round(sum(listed.values())), who=f"from {', '.join(sorted(listed)[:3])}, as listed", level=Level.WARNING)


def _plaintext_finding(workload: ObjectRef, said: _Plaintext, line: str, window: str) -> Finding:
    logs = f"kubectl -n {workload.namespace} logs {workload.kind.lower()}/{workload.name} -c istio-proxy"
    return Finding(
        code=f"{line}-PLAINTEXT-CALLERS",
        level=said.level,
        object=workload,
        found=f"its proxies took about {said.count} plaintext calls in {window} {said.who}: STRICT would cut them off",
        wanted="every caller uses mutual TLS, or is listed",
        fix=f"find the callers in the access log, and inject them: {logs}",
    )


def _caller(labels: Mapping[str, str]) -> str:
    """A caller as ``namespace/workload``; empty where the destination does not know it."""
    name, namespace = labels.get("source_workload", ""), labels.get("source_workload_namespace", "")
    return "" if name in _NOBODY else f"{'' if namespace in _NOBODY else namespace}/{name}"


def _principals(samples: list[Sample]) -> list[dict[str, str]]:
    found: dict[tuple[str, str], float] = {}
    for sample in samples:
        key = (sample.labels.get("destination_workload", ""), sample.labels["source_principal"])
        found[key] = found.get(key, 0.0) + sample.value
    return [{"workload": key[0], "caller": key[1], "calls": f"{count:.0f}"} for key, count in sorted(found.items())]


# --- failed calls: 7.1.2 ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureQueries:
    """``calls`` counts all, ``failed`` those that failed between proxies; ``rejects`` counts refused configuration."""

    calls: str
    failed: str
    rejects: str


def failure_queries(namespace: str, window: str = "15m") -> FailureQueries:
    """How many calls of the namespace's Services failed, by the word of the callers' proxies.

    Args:
        namespace: of the Services.
        window: how far back.
    """
    base = f'reporter="source",destination_service_namespace="{namespace}",destination_service_name!~"{_OURS}"{_NOT_OURS}'
    flags = f'response_flags=~"(.*,)?({"|".join(FLAGS)})(,.*)?"'
    by = "destination_service_name"
    return FailureQueries(
        calls=f"sum by ({by}) (increase(istio_requests_total{{{base}}}[{window}]))",
        failed=f"sum by ({by}, response_flags) (increase(istio_requests_total{{{base},{flags}}}[{window}]))",
        rejects=f"sum(increase(pilot_total_xds_rejects[{window}]))",
    )


def failures(
    namespace: str, calls: Iterable[Sample], failed: Iterable[Sample], rejects: Iterable[Sample] = (), *, window: str = "15m"
) -> Judgement:
    """Line 7.1.2, measured: hardly any call of the namespace's Services fails between the proxies.

    Errors: more than 1 % of the calls of a Service, and at least five. Warnings: more than 0.1 %, or fewer than five calls that
    are more than 2 %. ``MR712-FAILED-CALLS``.

    Args:
        namespace: of the Services.
        calls: the samples of `FailureQueries.calls`.
        failed: those of `FailureQueries.failed`.
        rejects: those of `FailureQueries.rejects`; they are of the whole mesh and only shown.
        window: as it was asked for.
    """
    all_calls = {sample.labels.get("destination_service_name", ""): sample.value for sample in _counted(calls)}
    bad: dict[str, dict[str, float]] = {}
    for sample in _counted(failed):
        flags = bad.setdefault(sample.labels.get("destination_service_name", ""), {})
        flags[sample.labels.get("response_flags", "")] = flags.get(sample.labels.get("response_flags", ""), 0.0) + sample.value
    total = sum(all_calls.values())
    findings = [
        finding
        for service, flags in sorted(bad.items())
        if (finding := _failing(namespace, service, flags, all_calls.get(service, 0.0), window)) is not None
    ]
    findings += _rejected(rejects, window)
    unknown: tuple[Unknown, ...] = ()
    if round(total) < AT_LEAST:
        seen = f"only {total:.0f} calls of Services of {namespace} were" if round(total) else f"no call of a Service of {namespace} was"
        unknown = (Unknown(reason=f"{seen} counted in {window}, too few to tell how many fail"),)
    rows = [
        {"service": name, "calls": f"{count:.0f}", "failed": f"{sum(bad.get(name, {}).values()):.0f}"}
        for name, count in sorted(all_calls.items())
        if round(count)
    ]
    share = sum(sum(flags.values()) for flags in bad.values()) / total if total else 0.0
    return Judgement(
        summary=f"{share:.2%} of about {total:.0f} calls in {window} failed between proxies",
        examined=len(rows),
        findings=tuple(findings),
        unknown=unknown,
        evidence=(Evidence(kind="table", source="istio_requests_total of the callers' proxies", data=rows),),
    )


def _failing(namespace: str, service: str, flags: Mapping[str, float], calls: float, window: str) -> Finding | None:
    count = sum(flags.values())
    share = count / max(calls, count) if count else 0.0
    if share <= GOOD or round(count) < 1:
        return None
    worst = max(flags, key=lambda flag: flags[flag])
    return Finding(
        code="MR712-FAILED-CALLS",
        level=_level(share, round(count)),
        object=ObjectRef(kind="Service", namespace=namespace, name=service),
        found=f"about {count:.0f} of {calls:.0f} calls in {window} failed between proxies ({share:.1%}, most with response flag {worst})",
        wanted="at most 0.1 %",
        fix=f"see which endpoints its callers have: kubectl -n {namespace} get endpointslices -l kubernetes.io/service-name={service}",
    )


def _level(share: float, count: int) -> Level:
    """How bad a share of failed calls is; a call or two, as a restart costs, is shown and no more, unless calls are few as well."""
    if count < SEVERAL:
        return Level.WARNING if share > 2 * BEARABLE else Level.INFO
    return Level.ERROR if share > BEARABLE else Level.WARNING


def _rejected(samples: Iterable[Sample], window: str) -> list[Finding]:
    count = round(sum(sample.value for sample in _counted(samples)))
    if count < 1:
        return []
    return [
        Finding(
            code="MR712-REJECTED-CONFIGURATION",
            level=Level.INFO,
            object=ObjectRef(kind="Mesh", name="istiod"),
            found=f"proxies somewhere in the mesh refused configuration about {count} times in {window}",
            wanted="proxies accept what istiod sends",
            fix="find them: istioctl proxy-status",
        )
    ]


# --- how fast configuration arrives: 4.2.2 ----------------------------------------------------------------------------


def convergence_query(window: str = "1h") -> str:
    """Seconds within which 99 of 100 changes reached the proxies."""
    return f"histogram_quantile(0.99, sum by (le) (rate(pilot_proxy_convergence_time_bucket[{window}])))"


def convergence(samples: Iterable[Sample], istiod: ObjectRef, *, window: str = "1h") -> Judgement:
    """Line 4.2.2, measured: new configuration reaches the proxies in time, so that a new pod does not wait for it.

    Errors: more than 15 s. Warnings: more than 5 s. ``MR422-SLOW-CONFIGURATION``.

    Args:
        samples: of `convergence_query`.
        istiod: the Deployment to name.
        window: as it was asked for.
    """
    found = [sample.value for sample in samples if math.isfinite(sample.value)]
    if not found:
        return Judgement(unknown=(Unknown(reason=f"istiod counted no change that reached a proxy in {window}, or is not scraped"),))
    seconds = max(found)
    findings: tuple[Finding, ...] = ()
    if seconds > CONVERGENCE_GOOD:
        findings = (
            Finding(
                code="MR422-SLOW-CONFIGURATION",
                level=Level.ERROR if seconds > CONVERGENCE_BEARABLE else Level.WARNING,
                object=istiod,
                found=f"99 of 100 changes take up to {seconds:.0f} s to reach the proxies",
                wanted=f"at most {CONVERGENCE_GOOD:.0f} s",
                fix=f"see whether it lacks CPU: kubectl -n {istiod.namespace} top pods",
            ),
        )
    return Judgement(
        summary=f"99 of 100 changes reach the proxies within {seconds:.1f} s",
        examined=1,
        findings=findings,
        evidence=(Evidence(kind="number", source="pilot_proxy_convergence_time of istiod", text=f"{seconds:.2f} s"),),
    )


# --- who calls whom: 5.2.3 --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Calls:
    """What each workload answered and what it called, by its own proxies' counters since its pods started."""

    answered: Mapping[str, float]
    called: Mapping[str, Mapping[str, float]]

    def ratio(self, workload: str) -> float | None:
        """Calls for each request answered; None where no request was counted."""
        answered = self.answered.get(workload, 0.0)
        return sum(self.called.get(workload, {}).values()) / answered if answered else None


def call_queries(namespace: str) -> tuple[str, str]:
    """Two queries: what the workloads of the namespace answered, and what they called.

    The counters themselves, not their increase: both are kept by the same proxies and begin with the same pods.
    """
    answered = f'reporter="destination",destination_workload_namespace="{namespace}",response_code=~"2.."{_NOT_OURS}'
    called = f'reporter="source",source_workload_namespace="{namespace}"'
    return (
        f"sum by (destination_workload) (istio_requests_total{{{answered}}})",
        f"sum by (source_workload, destination_service_name) (istio_requests_total{{{called}}})",
    )


def calls_of(answered: Iterable[Sample], called: Iterable[Sample]) -> Calls:
    """The answers to `call_queries`, put together."""
    outgoing: dict[str, dict[str, float]] = {}
    for sample in _counted(called):
        targets = outgoing.setdefault(sample.labels.get("source_workload", ""), {})
        name = sample.labels.get("destination_service_name") or "an unknown service"
        targets[name] = targets.get(name, 0.0) + sample.value
    return Calls(
        answered={sample.labels.get("destination_workload", ""): sample.value for sample in _counted(answered)},
        called=outgoing,
    )


def _counted(samples: Iterable[Sample]) -> Iterable[Sample]:
    return (sample for sample in samples if math.isfinite(sample.value) and sample.value > 0)
