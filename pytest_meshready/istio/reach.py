"""Line 7.1.2, live: every port of every Service is reached from inside the mesh, through the proxies as callers do.

A refusal by Envoy's authorization (403, or grpc-status 7) is as good as an answer here: the call went through both proxies
and their handshake. It says nothing of the application behind. Where a client waits for the server, or nobody may send a
byte, a silent connection that stays open shows that somebody listens: one to a port that nobody serves ends within 0.1 s.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pytest_meshready.istio.clientmodes import ClientMode, ClientRules
from pytest_meshready.istio.mtls_findings import other_tls_fix
from pytest_meshready.istio.protocols import HTTP_FAMILY, TCP_FAMILY
from pytest_meshready.istio.sidecar_faults import edit
from pytest_meshready.istio.targets import Call
from pytest_meshready.istio.wire import READY_PORT, Observed, Plan, Seen, Wire, asks, call_id, said
from pytest_meshready.istio.wording import shortened
from pytest_meshready.probes.messages import Answer, Outcome
from pytest_meshready.results import Evidence, Finding, Judgement, Level, ObjectRef, Unknown

#: A silent connection that ends sooner than this was never served.
_AT_ONCE = 1.0

_DENIED, _RBAC = 403, "RBAC: access denied"
_PERMISSION_DENIED, _UNAVAILABLE = 7, 14
_GATEWAY_ERRORS = frozenset({502, 503, 504})
_SERVER_ERRORS = 500
_OK = 200
_OTHER_TLS = frozenset({"DISABLE", "SIMPLE", "MUTUAL"})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Result:
    """How one call went: ``told`` as the end of a sentence; ``level`` None where it is as it should be.

    ``denied``: by policy, before the application. ``unserved``: nobody listens.
    """

    told: str
    level: Level | None = None
    unknown: str = ""
    denied: bool = False
    unserved: bool = False


def reachable(observed: Observed, caller: str = "") -> Judgement:
    """Line 7.1.2, live: what a caller inside the mesh got from each port of each Service.

    Errors: a Service whose workload should have pods and has none ready; 502, 503 and 504; a connection that is ended before
    a byte was sent. Warnings: other server errors; a port that is declared HTTP and whose container says otherwise, for the
    proxy answered before the application could. ``MR712-...``.

    Args:
        observed: what was seen.
        caller: the namespace of the pod that called; by default that of the run.
    """
    snapshot = observed.snapshot
    rules = ClientRules(snapshot)
    findings: list[Finding] = []
    unknown = list(observed.targets.unknown)
    rows: list[dict[str, str]] = []
    for call in observed.targets.calls:
        result = _result(call, observed)
        rows.append(_row(call, result, observed))
        if result.unknown:
            unknown.append(Unknown(reason=f"{call.key}: {result.unknown}"))
        if result.level is not None:
            findings.append(_failed(call, result, _mode(rules, call, caller or snapshot.namespace)))
        elif result.denied and (odd := _odd_protocol(call)):
            findings.append(odd)
    unknown += [Unknown(reason=f"{item.place}: not called, {item.reason}") for item in observed.targets.not_covered if item.matters]
    if not rows and not unknown:
        unknown.append(Unknown(reason=f"namespace {snapshot.namespace} has no Service port that could be called"))
    denied = sum(1 for row in rows if row["denied"])
    refused = f"; {denied} of them refused the call by policy, so the application behind was not asked" if denied else ""
    return Judgement(
        summary=f"{len(rows)} Service ports were reached from inside the mesh{refused}",
        examined=len(rows),
        findings=tuple(findings),
        unknown=tuple(dict.fromkeys(unknown)),
        evidence=tuple(_evidence(rows, observed)),
    )


def doubtful(observed: Observed) -> Plan:
    """What is worth asking once more after some seconds: calls that failed, ports that decided nothing or disagree.

    Endpoints and configuration take their time to reach a proxy that has just started, ours among them (checks.md 1.8): what
    is judged is the last answer. Nothing is asked again where all is as it should be.
    """
    plan = asks(observed.targets)
    odd = {item.target.key for item in observed.seen if item.wire is Wire.UNDECIDED or not item.agrees or item.problem}
    failed = {call_id(call) for call in observed.targets.calls if call.targets and not _settled(_result(call, observed))}
    unready = {ask.id for ask in plan.unmeshed if ask.port == READY_PORT and _status(observed, ask.id) != _OK}
    return Plan(
        unmeshed=tuple(ask for ask in plan.unmeshed if ask.id.partition("|")[2] in odd or ask.id in unready),
        meshed=tuple(ask for ask in plan.meshed if ask.id in failed),
    )


def _settled(result: _Result) -> bool:
    return result.level is None and not result.unknown


def _status(observed: Observed, id_: str) -> int:
    answer = observed.answers.get(id_)
    return answer.status if answer is not None else 0


# --- one call ---------------------------------------------------------------------------------------------------------


def _result(call: Call, observed: Observed) -> _Result:
    if not call.targets:
        return _no_pod(call)
    answer = observed.answers.get(call_id(call))
    if answer is None or answer.outcome is Outcome.ERROR:
        return _Result(told=said(answer), unknown=f"the call {said(answer)}")
    if answer.status:
        return _of_status(answer)
    if call.protocol in HTTP_FAMILY or answer.outcome in (Outcome.TIMEOUT, Outcome.UNRESOLVED, Outcome.UNREACHABLE, Outcome.REFUSED):
        return _no_answer(call, answer, observed)
    return _of_connection(call, answer)


def _no_pod(call: Call) -> _Result:
    """A Service that leads nowhere: its callers get errors, whether that is meant or not."""
    if call.wanted:
        return _Result(told="has no ready pod, so its callers get errors", level=Level.ERROR)
    why = "selects no pod at all" if not call.workloads else "has workloads with no replicas"
    return _Result(told=f"{why}, so its callers get errors", level=Level.WARNING)


def _of_status(answer: Answer) -> _Result:
    """HTTP and gRPC: whatever answers, the application or a proxy that refuses, shows that the way is open."""
    if answer.grpc_status is not None:
        if answer.grpc_status == _UNAVAILABLE:
            return _Result(told=f"answers grpc-status 14, unavailable{_words(answer)}", level=Level.ERROR)
        denied = answer.grpc_status == _PERMISSION_DENIED
        return _Result(told=f"answers grpc-status {answer.grpc_status}", denied=denied)
    if answer.status in _GATEWAY_ERRORS:
        return _Result(told=f"answers {answer.status}{_words(answer)}", level=Level.ERROR)
    if answer.status >= _SERVER_ERRORS:
        return _Result(told=f"answers its readiness path with {answer.status}", level=Level.WARNING)
    return _Result(told=f"answers {answer.status}", denied=answer.status == _DENIED and answer.body.startswith(_RBAC))


def _no_answer(call: Call, answer: Answer, observed: Observed) -> _Result:
    """No HTTP status, or no connection: an error only where the same pods answered their handshakes in this run."""
    if answer.outcome is Outcome.TIMEOUT and any(_alive(item, call) for item in observed.seen):
        return _Result(told=f"gave no answer in {answer.seconds:.0f} s, although its proxies answer handshakes", level=Level.ERROR)
    return _Result(told=said(answer), unknown=f"the call {said(answer)}, which decides nothing")


def _alive(item: Seen, call: Call) -> bool:
    return bool(item.shown) and any(item.target.key == target.key for target in call.targets)


def _of_connection(call: Call, answer: Answer) -> _Result:
    """TCP: a connection without a byte, or a TLS handshake."""
    if answer.certificate_chain or answer.outcome is Outcome.ANSWERED:
        return _Result(told="answers" if answer.certificate_chain else "greets the client")
    if answer.outcome is Outcome.OPEN:
        return _Result(told="keeps a silent connection open, so somebody listens")
    if answer.outcome in (Outcome.EOF, Outcome.RESET) and answer.seconds < _AT_ONCE:
        how = "ends" if answer.outcome is Outcome.EOF else "resets"
        found = f"{how} a connection after {answer.seconds * 1000:.0f} ms, before the client sent a byte: nobody seems to listen"
        return _Result(told=f"{found} on the pods' address at port {_numbers(call)}", level=Level.ERROR, unserved=True)
    return _Result(told=said(answer), unknown=f"the connection {said(answer)} after {answer.seconds:.1f} s, which decides nothing")


def _words(answer: Answer) -> str:
    """What Envoy says of a failure, on one short line; the answer of an application may hold anything and is not shown."""
    line = " ".join(answer.body.split())
    return f" ({line[:120]})" if line.startswith(("upstream connect error", "no healthy upstream")) else ""


# --- findings ---------------------------------------------------------------------------------------------------------


def _mode(rules: ClientRules, call: Call, client: str) -> ClientMode | None:
    """A DestinationRule or BackendTLSPolicy that makes callers begin something else than mTLS."""
    modes = rules.modes(call.service.name, call.service.namespace, call.port, client)
    return next((mode for mode in modes if mode.mode in _OTHER_TLS and mode.by is not None), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cause:
    """What made a call fail, as far as the configuration gives it away: the object at fault, a clause, and the way out."""

    object: ObjectRef
    fix: str
    because: str = ""


def _cause(call: Call, result: _Result, mode: ClientMode | None) -> _Cause:
    namespace, name = call.service.namespace, call.service.name
    if mode is not None and mode.by is not None and any(not target.state.gap for target in call.targets):
        rule = mode.by
        because = f"; {rule.kind} {rule.namespace}/{rule.name} makes callers use TLS mode {mode.mode} ({mode.place})"
        return _Cause(object=rule, because=because, fix=other_tls_fix(rule, mode.place))
    passed = next((target for target in call.targets if target.proxied and target.state.gap), None)
    if passed is not None:
        because = f"; callers send mutual TLS to {passed.pod}, but {passed.state.gap}, so no proxy understands it"
        fix = f"let the proxy have port {passed.port}: {edit(passed.state.workload)}"
        return _Cause(object=passed.workload, because=because, fix=fix)
    if result.unserved:
        fix = f"let the application listen on all addresses, not on 127.0.0.1 alone: kubectl -n {namespace} logs {call.targets[0].pod}"
    elif not call.targets and call.workloads:
        fix = f"see why no pod is ready: kubectl -n {namespace} describe {call.workloads[0].kind.lower()} {call.workloads[0].name}"
    else:
        fix = f"look at its endpoints: kubectl -n {namespace} get endpointslices -l kubernetes.io/service-name={name}"
    return _Cause(object=call.service, fix=fix)


def _failed(call: Call, result: _Result, mode: ClientMode | None) -> Finding:
    """A call that failed."""
    cause = _cause(call, result, mode)
    return Finding(
        code="MR712-UNREACHABLE" if call.targets else "MR712-NO-PODS",
        level=result.level or Level.ERROR,
        object=cause.object,
        found=f"{call.key} {result.told}{cause.because}",
        wanted="every Service port answers callers in the mesh",
        fix=cause.fix,
        detail=call.key,
    )


def _odd_protocol(call: Call) -> Finding | None:
    """A port that is declared HTTP while its container says TCP: the policy answered, the application might not understand."""
    odd = next((target for target in call.targets if call.protocol in HTTP_FAMILY and target.container_says in TCP_FAMILY), None)
    if odd is None:
        return None
    says = f"but the container of {odd.workload.name} calls its port {odd.port} {odd.container_says}"
    return Finding(
        code="MR712-PROTOCOL",
        level=Level.WARNING,
        object=call.service,
        found=f"{call.key} is declared {call.protocol}, {says}: proxies then answer the application's own protocol with errors",
        wanted="one protocol, the one that the application speaks",
        fix=f"declare what it speaks: kubectl -n {call.service.namespace} edit service {call.service.name}",
        detail=call.key,
    )


# --- evidence ---------------------------------------------------------------------------------------------------------


def _row(call: Call, result: _Result, observed: Observed) -> dict[str, str]:
    shown = [item for item in observed.seen if _alive(item, call)]
    return {
        "port": call.key,
        "protocol": call.protocol.value,
        "result": result.told,
        "denied": "by policy" if result.denied else "",
        "handshake": shown[0].control if shown else "none seen",
        "workloads": shortened(ref.name for ref in call.workloads),
    }


def _evidence(rows: list[dict[str, str]], observed: Observed) -> Iterator[Evidence]:
    yield Evidence(kind="table", source="calls from a pod inside the mesh", data=rows)
    missing = observed.targets.not_covered
    if missing:
        listed: list[Mapping[str, str]] = [{"port": item.place, "not covered because": item.reason} for item in missing]
        yield Evidence(kind="table", source="Service ports that were not called", data=listed)


def _numbers(call: Call) -> str:
    return ", ".join(sorted({str(target.port) for target in call.targets}))
