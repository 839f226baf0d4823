"""The shape of the checklist: sections, subsections, lines and the phases of a rollout."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from pytest_meshready.results import Part, Severity


class Phase(enum.StrEnum):
    """The phases of a rollout in their order; the checklist contradicts itself without them (DESIGN, Words)."""

    PRE = "pre"
    PERMISSIVE = "permissive"
    STRICT = "strict"
    EXPAND = "expand"
    HARDENED = "hardened"
    GOLIVE = "golive"

    @property
    def position(self) -> int:
        """0 for the first phase; ``StrEnum`` itself would compare alphabetically."""
        return list(Phase).index(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of the checklist, or one of a team's own.

    ``parts`` are required, ``optional`` ones can only worsen the line. ``reads`` names rows of
    `pytest_meshready.cluster.resources` that its checks read today; ``rights`` names bundles of rights that the whole
    line needs, with its live and metrics parts. ``how`` tells a person how the line is decided, ``sends`` what is sent
    or created for it.
    """

    id: str
    section: str
    subsection: str
    text: str
    severity: Severity
    parts: tuple[Part, ...]
    optional: tuple[Part, ...] = ()
    first: Phase = Phase.PRE
    last: Phase = Phase.GOLIVE
    rights: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()
    how: str = ""
    sends: str = ""
    hint: str = ""
    note: str = ""
    custom: bool = False

    def due(self, phase: Phase) -> bool:
        """Whether the line belongs to this phase."""
        return self.first.position <= phase.position <= self.last.position


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A section of the checklist: ``4``, ``Namespace & Sidecar Strategy``, and its subsections' titles by id."""

    id: str
    title: str
    subsections: dict[str, str]
