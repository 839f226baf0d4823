"""Line 3.2.4: everything that ``istioctl analyze`` would call an error, found by rules of our own.

`istioctl_messages` puts the messages of the program itself beside them, where it was run for the snapshot
(`pytest_meshready.cluster.analyze`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from pytest_meshready.cluster.snapshot import AnalysisMessage, Snapshot
from pytest_meshready.istio import attachments, backendreferences, conditions, references, validation
from pytest_meshready.istio.routes import known_routes
from pytest_meshready.results import Evidence, Finding, Judgement, Level, ObjectRef, Unknown

#: What `configuration_sound` reads.
READS_324 = tuple(dict.fromkeys((*references.READS, *attachments.READS, *conditions.READS, *backendreferences.READS, *validation.READS)))

#: Kinds of which objects that could not be understood are wrong by themselves (IST0106).
_RULED = ("virtualservices", "destinationrules", "gateways", "serviceentries", "sidecars", "envoyfilters", "telemetries")

#: The codes that istioctl 1.31 reports at error level, and the lines whose rules find the same.
EQUIVALENTS = {
    "IST0101": ("3.2.4", "7.3.2"),
    "IST0106": ("3.2.4",),
    "IST0109": ("3.2.4", "6.2.4"),
    "IST0110": ("3.2.4",),
    "IST0111": ("3.2.4",),
    "IST0112": ("3.2.4",),
    "IST0139": ("4.1.2",),
    "IST0145": ("3.2.4",),
    "IST0147": ("4.2.1",),
    "IST0149": ("3.2.4",),
    "IST0152": ("3.2.4",),
    "IST0153": ("3.2.4",),
    "IST0154": ("3.2.4",),
    "IST0159": ("3.2.4",),
    "IST0160": ("3.2.4",),
    "IST0161": ("3.2.4", "8.1.1"),
    "IST0173": ("3.2.4", "6.1.3"),
}

#: Those of which no rule of ours tells, and why.
LEFT_OUT = {
    "IST0001": "istioctl's own failure",
    "IST0126": "networks of a mesh over several clusters are not read",
    "IST0141": "about installing Istio, not about a running mesh (istioctl precheck)",
    "IST0142": "about installing Istio, not about a running mesh (istioctl precheck)",
    "IST0143": "only istioctl precheck looks into pods; a port that answers nobody shows in live checks",
    "IST0156": "about installing Istio, not about a running mesh (istioctl precheck)",
}

_LEVELS = {"Error": Level.ERROR, "Warning": Level.WARNING, "Info": Level.INFO}
_SUPPRESS = "galley.istio.io/analyze-suppress"


def configuration_sound(snapshot: Snapshot) -> Judgement:
    """Line 3.2.4.

    Errors: what a route names and does not exist; two objects of which istiod ignores one; selectors of Gateways, Sidecars
    and Telemetries that match nothing; certificates that are not there; patches that are ignored; objects of a shape that
    Istio does not have, or that its validation refuses; what istioctl calls an error. Warnings: what has no effect and breaks nothing.

    Where istioctl was run it has looked for the Secrets of gateways as well, so that those need not be unknown.
    """
    found = known_routes(snapshot)
    reports = (
        references.route_references(snapshot, found),
        attachments.attachments(snapshot, found),
        conditions.conditions(snapshot),
        backendreferences.backend_references(snapshot),
    )
    findings = [finding for report in reports for finding in report.findings]
    findings += [*_unreadable(snapshot), *validation.refused(snapshot)]
    unknown = [item for report in reports for item in report.unknown]
    istioctl = istioctl_messages(snapshot)
    if istioctl is not None and not istioctl.unknown:
        unknown = [item for item in unknown if attachments.BY_NAME not in item.reason]
    unknown += [item for item in _unread(snapshot) if item not in unknown]
    looked_at = sum(report.looked_at for report in reports)
    judgement = Judgement(
        summary=f"{looked_at} references of the namespace's routes, gateways and selectors lead somewhere",
        examined=looked_at or (0 if unknown else 1),
        findings=tuple(findings),
        unknown=tuple(unknown),
        evidence=tuple(_suppressions(snapshot)),
    )
    return judgement if istioctl is None else _beside(judgement, istioctl)


def _unread(snapshot: Snapshot) -> tuple[Unknown, ...]:
    """What was not read; Secrets and the pods of other namespaces are asked for where a Gateway needs them."""
    keys = [key for key in READS_324 if key not in ("secrets", "node_pods", "referencegrants", "requestauthentications", "nodes")]
    where = ("", snapshot.namespace)
    shaped = tuple(item.problem for item in snapshot.unreadable if item.key in _RULED and item.problem)
    asked = (item for item in snapshot.unread(*keys) if item.namespace in where)
    return tuple(item for item in asked if not any(problem in item.reason for problem in shaped))


def _unreadable(snapshot: Snapshot) -> list[Finding]:
    """Objects that do not have the shape of their kind: istiod leaves them out, or does not see what they mean."""
    kinds = {"virtualservices": "VirtualService", "serviceentries": "ServiceEntry", "telemetries": "Telemetry"}
    return [
        Finding(
            code="MR324-SHAPE",
            level=Level.ERROR,
            object=ObjectRef(kind=kinds.get(item.key, item.key.removesuffix("s").capitalize()), namespace=item.namespace, name=item.name),
            found=f"it does not have the shape of its kind: {item.problem}",
            wanted="objects as Istio's API defines them",
            fix=f"correct it: kubectl -n {item.namespace} get {item.key}.networking.istio.io {item.name} -o yaml",
        )
        for item in snapshot.unreadable
        if item.key in _RULED and item.namespace == snapshot.namespace
    ]


def _suppressions(snapshot: Snapshot) -> list[Evidence]:
    """Objects that ask istioctl to be silent about them; our own rules do not listen, so nothing is hidden by it."""
    kinds: tuple[Sequence[Any], ...] = (
        snapshot.virtualservices,
        snapshot.destinationrules,
        snapshot.gateways,
        snapshot.services,
        snapshot.deployments,
        snapshot.pods,
    )
    silent = [
        f"{item.kind}/{item.metadata.name}: {item.metadata.annotations[_SUPPRESS]}"
        for kind in kinds
        for item in kind
        if item.metadata.namespace == snapshot.namespace and _SUPPRESS in item.metadata.annotations
    ]
    return [Evidence(kind="table", source=f"annotation {_SUPPRESS}", data=silent)] if silent else []


# --- istioctl ---------------------------------------------------------------------------------------------------------


def istioctl_messages(snapshot: Snapshot) -> Judgement | None:
    """What ``istioctl analyze`` said, as findings: its errors fail, its warnings warn. None where it was not run.

    Where it was run and said nothing to go by, that is only shown: the rules of this module do not depend on it.
    """
    said = snapshot.istioctl
    if said is None:
        return None
    source = f"istioctl analyze -n {snapshot.namespace}"
    if said.problem:
        return Judgement(unknown=(Unknown(reason=said.problem),), evidence=(Evidence(kind="text", source=source, text=said.problem),))
    made = [finding for message in said.messages if (finding := _message(message)) is not None]
    return Judgement(
        summary=f"istioctl analyze reports {_number(made)}",
        examined=1,
        findings=tuple(made),
        evidence=(Evidence(kind="table", source=source, data=[_row(finding) for finding in made]),),
    )


def _number(made: Sequence[Finding]) -> str:
    return f"{len(made)} messages" if len(made) > 1 else "one message" if made else "nothing"


def _message(message: AnalysisMessage) -> Finding | None:
    level = _LEVELS.get(message.level)
    if level is None:
        return None
    kind, _, name = message.origin.partition(" ")
    namespace, _, own = name.rpartition("/")
    line = " ".join(message.message.split())
    address = message.documentation_url.partition("?")[0]
    return Finding(
        code=f"MR324-{message.code}",
        level=level,
        object=ObjectRef(kind=kind or "Cluster", namespace=namespace, name=own or name),
        found=f"istioctl analyze: {line}",
        wanted="no error of istioctl analyze" if level is Level.ERROR else "no message of istioctl analyze",
        fix=f"see {address}" if address else f"istioctl analyze -n {namespace or 'default'}",
        detail=line,
    )


def _row(finding: Finding) -> dict[str, str]:
    return {
        "code": finding.code.removeprefix("MR324-"),
        "level": finding.level.value,
        "object": str(finding.object),
        "message": finding.found.removeprefix("istioctl analyze: "),
    }


def _beside(own: Judgement, istioctl: Judgement) -> Judgement:
    """Both together. What istioctl says of an object of which a rule of ours says at least as much is only shown in the table."""
    told = {(finding.object.kind, finding.object.name) for finding in own.findings if finding.level is Level.ERROR}
    more = [
        replace(finding, level=Level.INFO)
        if finding.level is not Level.INFO and (finding.object.kind, finding.object.name) in told
        else finding
        for finding in istioctl.findings
    ]
    return replace(
        own,
        summary=f"{own.summary}; {istioctl.summary}" if not istioctl.unknown else own.summary,
        findings=(*own.findings, *more),
        evidence=(*own.evidence, *istioctl.evidence),
    )
