"""readiness.json, schema 1, as frozen structs: the contract with everything downstream (DESIGN, readiness.json).

Within schema 1 fields may be added, never changed. A field that was added later has a default, so that an older document
can still be read. The terminal, Markdown and HTML are renderings of one `Readiness`.
"""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any, Literal

import msgspec

from pytest_meshready.checklist.lines import Phase
from pytest_meshready.report.facts import PhaseSource, Source
from pytest_meshready.results import Level, Part, Severity, Status

SCHEMA_VERSION = 1

Word = Literal["READY", "NOT READY", "NOT VERIFIED"]
#: A pattern beside the format, which validators may ignore.
_UTC = {"pattern": r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?Z$"}
Moment = Annotated[dt.datetime, msgspec.Meta(tz=True, description="UTC", extra_json_schema=_UTC)]
Count = Annotated[int, msgspec.Meta(ge=0)]


class Doc(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all structs here: frozen, and unknown fields of a later version are ignored."""


class RunDoc(Doc, frozen=True, kw_only=True):
    """What ran, where and under which conditions. Versions and names are empty where they were not found."""

    id: str
    started: Moment
    finished: Moment
    namespace: str
    phase: Phase
    phase_source: PhaseSource
    source: Source
    context: str
    cluster_uid: str
    kubernetes_version: str
    istio_version: str
    plugin_version: str
    complete: bool
    selection: tuple[str, ...]
    read_only: bool
    exit_code: int
    phase_guessed_because: str = ""
    istio_revision: str = ""
    go_live: bool = False
    lines_selected: Count = 0
    lines_total: Count = 0
    command: str = ""
    problem: str = ""


class SectionDoc(Doc, frozen=True, kw_only=True):
    """A section; ``counts`` has every status, also those with no line."""

    id: str
    title: str
    counts: dict[Status, Count]


class CheckDoc(Doc, frozen=True, kw_only=True):
    """A test that decided the line or a part of it."""

    nodeid: str
    status: Status
    reason: str
    seconds: float


class PartDoc(Doc, frozen=True, kw_only=True):
    """What was found of one part of a line; ``part`` is null for a team's own test, ``asked`` false without a record."""

    part: Part | None
    status: Status
    reason: str
    required: bool
    asked: bool


class ObjectDoc(Doc, frozen=True, kw_only=True):
    """An object; ``namespace`` is empty for cluster-wide ones."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        """``payments/Deployment/orders``."""
        return "/".join(word for word in (self.namespace, self.kind, self.name) if word)


class FindingDoc(Doc, frozen=True, kw_only=True):
    """One observation about one object; ``file`` and ``line`` are null unless it was read from manifests."""

    code: str
    fingerprint: str
    severity: Level
    object: ObjectDoc
    file: str | None
    line: int | None
    found: str
    wanted: str
    fix: str
    detail: str = ""


class EvidenceDoc(Doc, frozen=True, kw_only=True):
    """What the status rests on: a sentence, or data."""

    kind: str
    source: str
    text: str | msgspec.UnsetType = msgspec.UNSET
    data: Any = msgspec.UNSET


class AttestationDoc(Doc, frozen=True, kw_only=True):
    """A statement by a person; ``counted`` is false for one that expired or is dated in the future."""

    who: str
    date: dt.date
    expires: dt.date
    link: str
    counted: bool = True


class WaiverDoc(Doc, frozen=True, kw_only=True):
    """An exception; ``note`` says what became of it in this run."""

    item: str
    reason: str
    who: str
    expires: dt.date
    codes: tuple[str, ...]
    objects: tuple[str, ...]
    statuses: tuple[Status, ...]
    applied: bool
    note: str


class ItemDoc(Doc, frozen=True, kw_only=True):
    """One line of the checklist with everything that is known about it.

    ``group`` is the part of the reason that other lines share. ``note`` is shown with the line and not counted.
    """

    id: str
    section: str
    subsection: str
    text: str
    severity: Severity
    kind: tuple[Part, ...]
    custom: bool
    status: Status
    reason: str
    seconds: float
    checks: tuple[CheckDoc, ...]
    findings: tuple[FindingDoc, ...]
    evidence: tuple[EvidenceDoc, ...]
    attestation: AttestationDoc | None
    waiver: WaiverDoc | None
    hint: str
    kind_optional: tuple[Part, ...] = ()
    subsection_title: str = ""
    selected: bool = True
    group: str = ""
    parts: tuple[PartDoc, ...] = ()
    severity_changed_from: Severity | None = None
    note: str = ""


class TeamTestsDoc(Doc, frozen=True, kw_only=True):
    """The team's own tests that decide no line."""

    passed: Count
    failed: Count


class RightDoc(Doc, frozen=True, kw_only=True):
    """A right that was missing and the lines that miss it; ``namespace`` is empty for a cluster-wide one."""

    verb: str
    resource: str
    namespace: str
    items: tuple[str, ...]

    def __str__(self) -> str:
        """``list pods in payments``."""
        return f"{self.verb} {self.resource}" + (f" in {self.namespace}" if self.namespace else " (cluster-wide)")


class Readiness(Doc, frozen=True, kw_only=True):
    """The whole report.

    ``verdict_text`` is the verdict as it is shown, with what qualifies it; ``findings`` are about the run itself.
    """

    schema_version: Literal[1]
    verdict: Word
    verdict_reason: str
    run: RunDoc
    sections: tuple[SectionDoc, ...]
    items: tuple[ItemDoc, ...]
    team_tests: TeamTestsDoc
    left_behind: tuple[str, ...]
    not_permitted: tuple[RightDoc, ...]
    verdict_text: str = ""
    waivers: tuple[WaiverDoc, ...] = ()
    findings: tuple[FindingDoc, ...] = ()


def dumps(readiness: Readiness) -> bytes:
    """The document as JSON, the same bytes for the same document."""
    return msgspec.json.format(msgspec.json.encode(readiness, order="deterministic"), indent=2) + b"\n"


def loads(text: bytes | str) -> Readiness:
    """Read a document.

    Raises:
        ValueError: if it is not a readiness.json of schema 1; the message is one sentence.
    """
    try:
        return msgspec.json.decode(text, type=Readiness)
    except msgspec.MsgspecError as error:
        raise ValueError(f"not a readiness.json of schema {SCHEMA_VERSION}: {error}") from error
