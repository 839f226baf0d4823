"""The words in which every part of the project speaks about what was found.

A rule (``pytest_meshready.istio``) looks at a snapshot and returns a `Judgement`: what is wrong (`Finding`), what could
not be known (`Unknown`), and how much was looked at. A check turns judgements into the `Status` of a line. Nothing here
knows of pytest, of Kubernetes or of how a report looks.
"""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any


class Status(enum.StrEnum):
    """What is said of a line, of a check or of one part of a check."""

    FAILED = "failed"
    NOT_VERIFIED = "not_verified"
    TO_ATTEST = "to_attest"
    WARNED = "warned"
    WAIVED = "waived"
    ATTESTED = "attested"
    PASSED = "passed"
    NOT_APPLICABLE = "not_applicable"
    NOT_DUE = "not_due"

    @property
    def words(self) -> str:
        """The status as a person reads it: ``not verified``."""
        return self.value.replace("_", " ")


#: From worst to best. A line's status is the worst of its required parts (DESIGN, Rules that follow). A part that does
#: not apply never decides as long as another part does.
ORDER = (
    Status.FAILED,
    Status.NOT_VERIFIED,
    Status.TO_ATTEST,
    Status.WARNED,
    Status.WAIVED,
    Status.ATTESTED,
    Status.PASSED,
    Status.NOT_APPLICABLE,
    Status.NOT_DUE,
)


def worst(statuses: Iterable[Status]) -> Status:
    """The worst of some statuses; `Status.NOT_VERIFIED` of none, because nothing was looked at."""
    return min(statuses, key=ORDER.index, default=Status.NOT_VERIFIED)


class Severity(enum.StrEnum):
    """How much a line weighs: a failed minor line only warns, an unverified blocker prevents READY."""

    BLOCKER = "blocker"
    MAJOR = "major"
    MINOR = "minor"


class Level(enum.StrEnum):
    """What one finding does to its line: an error fails it, a warning warns it, an info is only shown."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


class Part(enum.StrEnum):
    """The kinds of evidence that a line can need (DESIGN, Words: kind of a line)."""

    STATIC = "static"
    LIVE = "live"
    METRICS = "metrics"
    ATTEST = "attest"
    DRILL = "drill"
    AGGREGATE = "aggregate"


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectRef:
    """The object that a finding is about, as kubectl names it; ``namespace`` is empty for cluster-wide objects."""

    kind: str
    name: str
    namespace: str = ""

    def __str__(self) -> str:
        """``payments/Deployment/orders``: namespace first, as the eye looks for it."""
        return "/".join(word for word in (self.namespace, self.kind, self.name) if word)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One observation about one object.

    ``code`` is stable (``MR`` and the line it was made for, such as ``MR421-NO-SIDECAR``); ``found``, ``wanted`` and
    ``fix`` are each one line that a person understands without opening a browser, ``fix`` ends in the next command to
    type where there is one. ``detail`` tells two findings about the same object apart (a port, a container); it goes
    into the fingerprint and must therefore be stable between runs.
    """

    code: str
    level: Level
    object: ObjectRef
    found: str
    wanted: str
    fix: str
    detail: str = ""
    file: str = ""
    line: int = 0

    @property
    def fingerprint(self) -> str:
        """Equal for the same fault of the same object in two runs, so that reports can be compared."""
        text = f"{self.code}|{self.object.kind}|{self.object.namespace}|{self.object.name}|{self.detail}"
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True, kw_only=True)
class Unknown:
    """Something that could not be known, and why: a refused list, a missing object, an answer that made no sense.

    ``verb`` and ``resource`` are given where a right was missing, so that the report can name the right; ``namespace`` is where
    it matters, empty for everywhere.
    ``resource`` is plural with its group, as RBAC writes it: ``peerauthentications.security.istio.io``.
    """

    reason: str
    verb: str = ""
    resource: str = ""
    namespace: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What a status rests on: a sentence or a table, and where it was read."""

    kind: str
    source: str
    text: str = ""
    data: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What one rule says.

    ``examined`` counts the objects that were looked at: a rule that saw nothing does not pass. ``summary`` is one
    sentence for the case that nothing is wrong. ``not_applicable`` says why the line does not concern this mesh, which
    only a permitted and empty list can show.
    """

    summary: str = ""
    examined: int = 0
    findings: tuple[Finding, ...] = ()
    unknown: tuple[Unknown, ...] = ()
    not_applicable: str = ""
    evidence: tuple[Evidence, ...] = field(default=())

    @property
    def status(self) -> Status:
        """Error findings fail; then what is unknown; then warnings; then what does not apply; then having looked."""
        levels = {finding.level for finding in self.findings}
        if Level.ERROR in levels:
            return Status.FAILED
        if self.unknown:
            return Status.NOT_VERIFIED
        if Level.WARNING in levels:
            return Status.WARNED
        if self.not_applicable:
            return Status.NOT_APPLICABLE
        return Status.PASSED if self.examined else Status.NOT_VERIFIED

    @property
    def reason(self) -> str:
        """One sentence that explains the status."""
        status = self.status
        if status in (Status.FAILED, Status.WARNED):
            level = Level.ERROR if status is Status.FAILED else Level.WARNING
            chosen = [finding for finding in self.findings if finding.level is level]
            more = f" (and {len(chosen) - 1} more)" if len(chosen) > 1 else ""
            return f"{chosen[0].object}: {chosen[0].found}{more}"
        if status is Status.NOT_VERIFIED:
            return one_sentence(u.reason for u in self.unknown) or "there was nothing to look at"
        return self.not_applicable or self.summary


def one_sentence(reasons: Iterable[str]) -> str:
    """Several reasons as one sentence, each once; those that begin alike (``manifests only: ...``) share their beginning.

    What follows a shared beginning is sorted, so that two lines with the same causes have the same sentence.
    """
    found: dict[str, list[str]] = {}
    for reason in dict.fromkeys(filter(None, reasons)):
        beginning, colon, rest = reason.partition(": ")
        found.setdefault(beginning + colon, []).append(rest)
    return "; ".join(beginning + ", ".join(sorted(rests)) for beginning, rests in found.items())


def together(*judgements: Judgement, summary: str = "") -> Judgement:
    """Several judgements as one: everything found, everything unknown; it applies if any of them applies."""
    applying = [judgement for judgement in judgements if not judgement.not_applicable]
    return Judgement(
        summary=summary or "; ".join(judgement.summary for judgement in applying if judgement.summary),
        examined=sum(judgement.examined for judgement in judgements),
        findings=tuple(finding for judgement in judgements for finding in judgement.findings),
        unknown=tuple(dict.fromkeys(unknown for judgement in judgements for unknown in judgement.unknown)),
        not_applicable="" if applying else "; ".join(judgement.not_applicable for judgement in judgements),
        evidence=tuple(evidence for judgement in judgements for evidence in judgement.evidence),
    )


def joined(*judgements: Judgement | None) -> Judgement | None:
    """`together` for evidence that a run may not be able to ask for; None where it asked for none of it."""
    asked = [judgement for judgement in judgements if judgement is not None]
    return together(*asked) if asked else None


@dataclass(frozen=True, slots=True, kw_only=True)
class PartRecord:
    """What one check found of one part of its line. ``part`` is None for a team's own test, which is an extra part."""

    part: Part | None
    status: Status
    reason: str = ""
    findings: tuple[Finding, ...] = ()
    unknown: tuple[Unknown, ...] = ()
    evidence: tuple[Evidence, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckRecord:
    """What a check sends home: plain data, so that it travels from xdist's workers as JSON on the TestReport.

    ``items`` are the ids of the lines that the check decides, or helps to decide. ``seconds`` is the time that the test
    took. ``cause`` explains a check that could not do its work (a broken fixture, a lost worker).
    """

    nodeid: str
    items: tuple[str, ...]
    parts: tuple[PartRecord, ...] = ()
    seconds: float = 0.0
    shipped: bool = False
    cause: str = ""
