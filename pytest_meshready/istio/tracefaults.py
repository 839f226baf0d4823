"""What is wrong with a trace, in words; `pytest_meshready.istio.traces` looks for it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from pytest_meshready.cluster.snapshot import Snapshot
from pytest_meshready.istio.workloads import workloads
from pytest_meshready.observability.spans import Span
from pytest_meshready.results import Finding, Level, ObjectRef, Unknown


class Names:
    """The workload behind a span."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.namespace = snapshot.namespace
        self._by_pod: dict[str, ObjectRef] = {}
        self._by_name: dict[str, ObjectRef] = {}
        for namespace in dict.fromkeys((snapshot.namespace, snapshot.istio_namespace, snapshot.root_namespace)):
            for item in workloads(snapshot, namespace):
                self._by_name[f"{item.ref.name}.{namespace}"] = item.ref
                for pod in (*item.pods, *item.terminating, *item.completed):
                    self._by_pod[f"{pod.metadata.name}.{namespace}"] = item.ref

    def of(self, span: Span) -> ObjectRef:
        """The workload of the pod that reported a span, or what the span calls its service."""
        known = self._by_pod.get(span.node) or self._by_name.get(span.service)
        if known is not None:
            return known
        name, _, namespace = span.service.partition(".")
        return ObjectRef(kind="Service", namespace=namespace, name=name or "unknown")

    def named(self, name: str) -> ObjectRef:
        """A workload of the namespace by its name."""
        return self._by_name.get(f"{name}.{self.namespace}") or ObjectRef(kind="Workload", namespace=self.namespace, name=name)


@dataclass(slots=True)
class _Fault:
    families: dict[str, None] = field(default_factory=dict)


class Faults:
    """What is wrong, by code, object and words; the families of headers with which it was seen are collected."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, ObjectRef, str], _Fault] = {}
        self._doubts: dict[str, ObjectRef] = {}

    def dropped(self, workload: ObjectRef, family: str, how: str) -> None:
        """It calls on without our headers."""
        self._add("DROPPED", workload, how, family)

    def orphan(self, workload: ObjectRef, family: str, *, replaced: bool) -> None:
        """It sends with our trace id, but below a span that is not there."""
        how = "it sends the trace id on without the id of a span" if replaced else "the parent of what it sends was reported by nobody"
        self._add("REPLACED" if replaced else "NO-PARENT", workload, how, family)

    def wrong(self, workload: ObjectRef, family: str, other: str) -> None:
        """It sends with the ids of something that another pod did."""
        self._add("WRONG-PARENT", workload, f"what it sends is part of what {other} did, not of what it took itself", family)

    def lost(self, workload: ObjectRef, family: str) -> None:
        """It took a request whose sender reported no span."""
        self._add("NO-SENDER", workload, "whoever sent it the request reported no span", family)

    def doubt(self, workload: ObjectRef, reason: str) -> None:
        """Something that cannot be told."""
        self._doubts.setdefault(reason, workload)

    def _add(self, code: str, workload: ObjectRef, how: str, family: str) -> None:
        self._found.setdefault((code, workload, how), _Fault()).families[family] = None

    def findings(self) -> Iterator[Finding]:
        """One finding for each."""
        for (code, workload, how), fault in self._found.items():
            soft = code in ("NO-PARENT", "NO-SENDER")
            yield Finding(
                code=f"MR523-{code}",
                level=Level.WARNING if soft else Level.ERROR,
                object=workload,
                found=f"{'' if soft else 'it does not pass the trace headers on: '}{how} (sent with {', '.join(fault.families)} headers)",
                wanted="every service copies the trace headers of a request to the calls that it makes for it",
                fix=_fix_of(code, workload),
            )

    def unknown(self) -> list[Unknown]:
        """What cannot be told, of workloads that are not at fault already."""
        guilty = {workload for _, workload, _ in self._found}
        return [Unknown(reason=reason) for reason, workload in self._doubts.items() if workload not in guilty]


def _fix_of(code: str, workload: ObjectRef) -> str:
    if code in ("NO-PARENT", "NO-SENDER"):
        return "let applications report their own spans to the same backend, or see that its caller's proxy reports: istioctl proxy-status"
    headers = "x-request-id, x-b3-traceid, x-b3-spanid, x-b3-parentspanid, x-b3-sampled, b3, traceparent and tracestate"
    where = f"kubectl -n {workload.namespace} describe {workload.kind.lower()} {workload.name}"
    return f"let the application copy {headers}, or use a tracing library: {where}"
