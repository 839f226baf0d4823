"""Waivers: a named person accepts a known fault until a day, for a reason. A waiver never hides a finding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from fnmatch import fnmatchcase

from pytest_meshready.results import Finding, Level, PartRecord, Status


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiver:
    """An exception for one line.

    ``expires`` is the last day on which it applies. ``codes`` and ``objects`` narrow it to findings with one of these
    codes about one of these objects (``payments/Deployment/orders`` or ``Deployment/orders``; ``*`` stands for anything);
    without them it covers the whole line. ``statuses`` are what it lifts.
    """

    item: str
    reason: str
    who: str
    expires: date
    codes: tuple[str, ...] = ()
    objects: tuple[str, ...] = ()
    statuses: tuple[Status, ...] = (Status.FAILED,)

    @property
    def narrow(self) -> bool:
        """Whether it names findings; such a waiver says nothing about a status that rests on no finding."""
        return bool(self.codes or self.objects)

    def expired(self, today: date) -> bool:
        """Whether its last day is over."""
        return today > self.expires

    def matches(self, finding: Finding) -> bool:
        """Whether the finding is one of those that it names."""
        names = (str(finding.object), f"{finding.object.kind}/{finding.object.name}")
        by_code = not self.codes or any(fnmatchcase(finding.code, code) for code in self.codes)
        return by_code and (not self.objects or any(fnmatchcase(name, pattern) for name in names for pattern in self.objects))


@dataclass(frozen=True, slots=True, kw_only=True)
class WaiverUse:
    """What became of a waiver in this run; ``note`` is one sentence for the report."""

    waiver: Waiver
    applied: bool
    note: str


#: The level of the findings on which a status rests; the other statuses rest on none.
_RESTS_ON = {Status.FAILED: Level.ERROR, Status.WARNED: Level.WARNING}


def lift(record: PartRecord, waivers: Sequence[Waiver]) -> Status:
    """The status of a part after the waivers that are in force.

    A failed part is waived only if each of its error findings is covered; what could not be known beside them stays
    unknown, because nobody waived that.
    """
    if not _covered(record, waivers):
        return record.status
    if record.unknown and record.status is Status.FAILED and not covers(Status.NOT_VERIFIED, waivers):
        return Status.NOT_VERIFIED
    return Status.WAIVED


def covers(status: Status, waivers: Sequence[Waiver]) -> bool:
    """Whether a waiver for the whole line lifts this status."""
    return any(status in waiver.statuses and not waiver.narrow for waiver in waivers)


def _covered(record: PartRecord, waivers: Sequence[Waiver]) -> bool:
    if covers(record.status, waivers):
        return True
    decisive = _decisive(record)
    return bool(decisive) and all(_lifted(record.status, finding, waivers) for finding in decisive)


def _decisive(record: PartRecord) -> list[Finding]:
    level = _RESTS_ON.get(record.status)
    return [finding for finding in record.findings if finding.level is level]


def _lifted(status: Status, finding: Finding, waivers: Sequence[Waiver]) -> bool:
    return any(status in waiver.statuses and waiver.matches(finding) for waiver in waivers)


def uses(
    waivers: Sequence[Waiver], records: Sequence[PartRecord], *, status: Status, among: frozenset[Status], today: date
) -> tuple[WaiverUse, ...]:
    """What became of each waiver of a line.

    Args:
        waivers: those of the line.
        records: what its checks found.
        status: what the line would be without waivers.
        among: what its parts would be without waivers, also those of which there is no record.
        today: the day by which they are judged.
    """
    active = [waiver for waiver in waivers if not waiver.expired(today)]
    used = []
    for waiver in waivers:
        if waiver.expired(today):
            applied, note = False, f"expired on {waiver.expires}, so it no longer applies"
        elif not waiver.narrow and among.intersection(waiver.statuses):
            applied, note = True, f"applies until {waiver.expires}"
        else:
            applied, note = _narrow_use(waiver, active, records, status)
        used.append(WaiverUse(waiver=waiver, applied=applied, note=note))
    return tuple(used)


def _narrow_use(waiver: Waiver, active: Sequence[Waiver], records: Sequence[PartRecord], status: Status) -> tuple[bool, str]:
    """Whether a waiver that names findings was of use, and the sentence about it."""
    touched = [record for record in records if record.status in waiver.statuses and _touches(waiver, record)]
    if any(_covered(record, active) for record in touched):
        return True, f"applies until {waiver.expires}"
    left = next((f for record in touched for f in _decisive(record) if not _lifted(record.status, f, active)), None)
    if left is not None:
        return False, f"does not apply: it leaves {left.code} on {left.object} uncovered"
    if status in waiver.statuses:
        return False, "does not apply: it names none of the findings of this line"
    wanted = " or ".join(covered.words for covered in waiver.statuses)
    return False, f"not needed: it covers {wanted}, the line is {status.words}"


def _touches(waiver: Waiver, record: PartRecord) -> bool:
    return waiver.narrow and any(waiver.matches(finding) for finding in _decisive(record))
