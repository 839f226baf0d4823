"""Lines 4.1.1 and 10.1.1: in which order namespaces joined the mesh (checks.md 4.1.1, 10.1.1).

No object keeps the day on which a namespace joined. What is known is an interval: not before the namespace was made, and not
after the oldest pod with a proxy in it, nor after the last write of its label (which a later write of the same label hides).
What is not certain for every day of these intervals is shown and decides nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import pairwise
from typing import Protocol

from pytest_meshready.cluster.objects import Namespace
from pytest_meshready.cluster.objects_capacity import NodePod
from pytest_meshready.cluster.snapshot import Snapshot
from pytest_meshready.istio.dataplane import REVISION
from pytest_meshready.istio.moments import moment
from pytest_meshready.istio.namespaces import mesh_label
from pytest_meshready.results import Evidence, Finding, Judgement, Level, ObjectRef, Unknown

#: What both rules read.
READS = ("namespaces", "node_pods")

#: How far apart two namespaces should join.
APART = timedelta(hours=24)

LOW, HIGH = "low", "high"

#: The annotation of a namespace that rates its risk.
RISK = "meshready.io/risk"
_PROXIED = "security.istio.io/tlsMode"
_NOBODY = Unknown(reason="no namespace carries a label that puts it into the mesh")


class Entry(Protocol):
    """A line of the team's rollout log: which namespace joined the mesh on which day."""

    @property
    def namespace(self) -> str:
        """Its name."""

    @property
    def day(self) -> date:
        """The day."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined:
    """When a namespace joined the mesh: after ``earliest`` and before ``latest``; None where that is not known."""

    name: str
    label: str
    earliest: datetime | None
    latest: datetime | None


def joined(snapshot: Snapshot) -> tuple[Joined, ...]:
    """The namespaces that a label puts into the mesh, in the order in which they were there at the latest."""
    oldest = _oldest_proxies(snapshot.node_pods)
    found = [
        Joined(
            name=item.metadata.name,
            label=label,
            earliest=moment(item.metadata.creation_timestamp),
            latest=_latest(item, label, oldest.get(item.metadata.name)),
        )
        for item in snapshot.namespaces
        if (label := mesh_label(item.metadata.labels))
    ]
    return tuple(sorted(found, key=lambda item: (item.latest is None, item.latest.timestamp() if item.latest else 0.0, item.name)))


def low_risk_first(snapshot: Snapshot, risks: Mapping[str, str] | None = None) -> Judgement:
    """Line 4.1.1, static part: which namespace was the first, and how the team rates it.

    Errors: the first namespace is rated high. Warnings: nobody rated it, or not as low.

    Args:
        snapshot: of the cluster.
        risks: the team's rating by namespace: ``low``, ``medium``, ``high``; without a word there, the annotation
            ``meshready.io/risk`` of the namespace counts.
    """
    unknown = snapshot.unread(*READS)
    found = joined(snapshot)
    said = {item.metadata.name: item.metadata.annotations[RISK] for item in snapshot.namespaces if RISK in item.metadata.annotations}
    rated = {**said, **(risks or {})}
    if not found:
        return Judgement(unknown=unknown or (_NOBODY,))
    candidates = [item for item in found if _may_be_first(item, found)]
    names = ", ".join(item.name for item in candidates[:3])
    findings: tuple[Finding, ...] = ()
    if snapshot.unread("namespaces"):
        pass  # another one may have been there before
    elif len(candidates) == 1:
        findings = tuple(_rated(candidates[0].name, rated.get(candidates[0].name)))
    elif any(rated.get(item.name) != LOW for item in candidates):
        unknown += (Unknown(reason=f"which namespace joined the mesh first is not known: it may have been any of {names}"),)
    return Judgement(
        summary=f"the first namespace in the mesh ({names}) is rated low-risk",
        examined=len(found),
        findings=findings,
        unknown=unknown,
        evidence=(_table(found),),
    )


def namespace_by_namespace(snapshot: Snapshot, log: Iterable[Entry] | None = None) -> Judgement:
    """Line 10.1.1, static part: one namespace after the other, each in the team's log.

    Errors: a namespace in the mesh without an entry, where there is a log. Warnings: two entries of one day. Shown only:
    namespaces that may have joined within 24 hours. Those that were made in the mesh never joined it.

    Args:
        snapshot: of the cluster.
        log: the team's rollout log; None if it keeps none, which the attested part of the line asks for.
    """
    unknown = snapshot.unread(*READS)
    found = joined(snapshot)
    entries = None if log is None else tuple(log)
    findings = [*_too_close(found), *(_against_log(found, entries) if entries is not None else ())]
    if not found and not unknown:
        unknown = (_NOBODY,)
    logged = "" if entries is None else ", each with an entry in the log"
    return Judgement(
        summary=f"{len(found)} {'namespace is' if len(found) == 1 else 'namespaces are'} in the mesh, none seen to join at once{logged}",
        examined=len(found),
        findings=tuple(findings),
        unknown=unknown,
        evidence=(_table(found),),
    )


def _oldest_proxies(pods: Iterable[NodePod]) -> dict[str, datetime]:
    """For each namespace when its oldest pod with a proxy was made."""
    oldest: dict[str, datetime] = {}
    for pod in pods:
        if _PROXIED not in pod.metadata.labels and REVISION not in pod.metadata.annotations:
            continue
        born = moment(pod.metadata.creation_timestamp)
        namespace = pod.metadata.namespace
        if born is not None and (namespace not in oldest or born < oldest[namespace]):
            oldest[namespace] = born
    return oldest


def _latest(namespace: Namespace, label: str, oldest: datetime | None) -> datetime | None:
    key = label.partition("=")[0]
    written = [moment(entry.time) for entry in namespace.metadata.managed_fields if key in entry.labels]
    return min((time for time in (*written, oldest) if time is not None), default=None)


def _may_be_first(item: Joined, found: tuple[Joined, ...]) -> bool:
    """Whether nobody else was certainly there before it can have been."""
    return not any(
        other.latest is not None and item.earliest is not None and other.latest <= item.earliest for other in found if other is not item
    )


def _rated(first: str, risk: str | None) -> Iterator[Finding]:
    if risk == LOW:
        return
    failed = risk == HIGH
    found = (
        f"it joined the mesh first, and the team rates its risk {risk}" if risk else "it joined the mesh first, and nobody rated its risk"
    )
    yield Finding(
        code="MR411-FIRST-HIGH" if failed else "MR411-FIRST-UNRATED" if risk is None else "MR411-FIRST-NOT-LOW",
        level=Level.ERROR if failed else Level.WARNING,
        object=ObjectRef(kind="Namespace", name=first),
        found=found,
        wanted="the first namespace is one whose failure hurts least",
        fix=f"begin with another namespace, and take this one out: kubectl label namespace {first} istio-injection- istio.io/rev-"
        if risk
        else f"rate it in meshready.toml (risks.{first}), or: kubectl annotate namespace {first} {RISK}=low",
    )


def _too_close(found: tuple[Joined, ...]) -> Iterator[Finding]:
    """Neighbours in the order that may have joined on one day."""
    moved = [item for item in found if item.earliest and item.latest and item.latest - item.earliest >= APART]
    for before, after in pairwise(moved):
        if before.latest and after.latest and after.latest - before.latest < APART:
            yield Finding(
                code="MR1011-TOO-FAST",
                level=Level.INFO,
                object=ObjectRef(kind="Namespace", name=after.name),
                found=f"as far as objects tell, it joined the mesh on {_day(after.latest)}, less than 24 hours after {before.name}",
                wanted="a day between two namespaces, so that the effects of the first are seen",
                fix="say in the rollout log on which day each joined: kubectl get namespaces -L istio-injection,istio.io/rev",
            )


def _against_log(found: tuple[Joined, ...], entries: tuple[Entry, ...]) -> Iterator[Finding]:
    logged = {entry.namespace for entry in entries}
    for item in found:
        if item.name not in logged:
            yield Finding(
                code="MR1011-NOT-LOGGED",
                level=Level.ERROR,
                object=ObjectRef(kind="Namespace", name=item.name),
                found=f"it is in the mesh ({item.label}), and the rollout log has no entry for it",
                wanted="an entry with date and approver for every namespace",
                fix=f"add it to the log, or take it out of the mesh: kubectl get namespace {item.name} --show-labels",
            )
    for before, after in pairwise(sorted(entries, key=lambda entry: (entry.day, entry.namespace))):
        if before.day == after.day and before.namespace != after.namespace:
            yield Finding(
                code="MR1011-SAME-DAY",
                level=Level.WARNING,
                object=ObjectRef(kind="Namespace", name=after.namespace),
                found=f"the log says that it joined on {after.day}, the same day as {before.namespace}",
                wanted="a day between two namespaces, so that the effects of the first are seen",
                fix="let a day pass between two namespaces",
            )


def _table(found: tuple[Joined, ...]) -> Evidence:
    rows = [
        {"namespace": item.name, "label": item.label, "not before": _day(item.earliest), "not after": _day(item.latest)} for item in found
    ]
    return Evidence(kind="table", source="namespaces, pods with a proxy", data=rows[:100])


def _day(time: datetime | None) -> str:
    return f"{time:%Y-%m-%d %H:%M}" if time else "not known"
