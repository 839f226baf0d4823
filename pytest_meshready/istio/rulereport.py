"""Findings of line 3.2.4 while they are being collected from several looks at the same objects."""

from __future__ import annotations

from dataclasses import dataclass, field

from pytest_meshready.results import Finding, Level, ObjectRef, Unknown


@dataclass(slots=True)
class Report:
    """What was found, what could not be told, and how many references were looked at."""

    looked_at: int = 0
    _findings: dict[tuple[str, ObjectRef, str], Finding] = field(default_factory=dict)
    _unknown: dict[Unknown, None] = field(default_factory=dict)

    def add(self, ref: ObjectRef, code: str, level: Level, *, found: str, wanted: str, fix: str, detail: str = "") -> None:
        """Note a finding; one that is there already is not repeated."""
        made = Finding(code=f"MR324-{code}", level=level, object=ref, found=found, wanted=wanted, fix=fix, detail=detail)
        self._findings.setdefault((code, ref, detail), made)

    def ask(self, unknown: Unknown) -> None:
        """Note something that is not known."""
        self._unknown[unknown] = None

    @property
    def findings(self) -> tuple[Finding, ...]:
        """All of them, in the order in which they were found."""
        return tuple(self._findings.values())

    @property
    def unknown(self) -> tuple[Unknown, ...]:
        """Each once."""
        return tuple(self._unknown)
