"""Everything that is known after a run, as one `Readiness`: every line, in the catalogue's order, whatever was run. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any

import msgspec

from pytest_meshready.checklist.lines import Line, Section
from pytest_meshready.report import model
from pytest_meshready.report.decide import Decision, line_decision
from pytest_meshready.report.facts import Attestation, RunFacts
from pytest_meshready.report.verdict import exit_code, verdict
from pytest_meshready.report.waivers import WaiverUse
from pytest_meshready.results import CheckRecord, Evidence, Finding, Level, PartRecord, Status, Unknown, worst

#: Where a team's own lines stand that name no section of the checklist.
TEAM_SECTION = Section(id="team", title="Team's own lines", subsections={})


def build(facts: RunFacts, lines: Sequence[Line], sections: Sequence[Section], records: Sequence[CheckRecord]) -> model.Readiness:
    """Decide every line, the verdict and the exit code.

    A team's own line stands behind the lines of its section, or in a section of its own at the end. A line that a check
    said something about counts as selected. The result does not depend on the order in which records came home, so that
    runs with and without workers give the same document.
    """
    rooms = {section.id: section for section in sections}
    by_line = _by_line(records)
    decided = [(line, _decision(facts, line, by_line.get(line.id, ()))) for line in _in_order(lines, sections)]
    items = [_item(facts, line, rooms.get(line.section, TEAM_SECTION), by_line.get(line.id, ()), decision) for line, decision in decided]
    known = [*sections, *([TEAM_SECTION] if any(item.section == TEAM_SECTION.id for item in items) else [])]
    spoken = verdict(items, phase_source=facts.phase_source, complete=facts.complete, lab=facts.source == "lab")
    readiness = model.Readiness(
        schema_version=1,
        verdict=spoken.word,
        verdict_reason=spoken.reason,
        verdict_text=spoken.text,
        run=_run(facts, items),
        sections=tuple(_section(section, items) for section in known),
        items=tuple(items),
        team_tests=model.TeamTestsDoc(passed=facts.team_passed, failed=facts.team_failed),
        left_behind=tuple(sorted(facts.left_behind)),
        not_permitted=_not_permitted(facts, items, by_line),
        waivers=_waivers(facts, decided),
        findings=tuple(_finding(finding) for finding in facts.findings),
    )
    code = exit_code(facts.pytest_exit, readiness, go_live=facts.go_live)
    return msgspec.structs.replace(readiness, run=msgspec.structs.replace(readiness.run, exit_code=code))


def _by_line(records: Sequence[CheckRecord]) -> dict[str, tuple[CheckRecord, ...]]:
    ordered = sorted(records, key=lambda record: (not record.shipped, record.nodeid))
    ids = dict.fromkeys(line for record in ordered for line in record.items)
    return {line: tuple(record for record in ordered if line in record.items) for line in ids}


def _in_order(lines: Sequence[Line], sections: Sequence[Section]) -> list[Line]:
    places = {section.id: place for place, section in enumerate(sections)}
    return sorted(lines, key=lambda line: (places.get(line.section, len(places)), line.custom))


def _decision(facts: RunFacts, line: Line, records: Sequence[CheckRecord]) -> Decision:
    selected = facts.selected is None or line.id in facts.selected
    return line_decision(
        line,
        records,
        phase=facts.phase,
        today=_today(facts),
        read_only=facts.read_only,
        offline=facts.source in ("manifests", "snapshot"),
        go_live=facts.go_live,
        waivers=facts.waivers,
        attestations=facts.attestations,
        built=facts.built.get(line.id),
        refused=facts.refused.get(line.id, ()),
        unselected="" if selected else facts.unselected_because,
        problem=facts.problem,
        unrun="its check did not run" if facts.complete else "the run ended before its check ran",
    )


def _today(facts: RunFacts) -> date:
    return facts.started.astimezone(UTC).date()


def _item(facts: RunFacts, line: Line, room: Section, records: Sequence[CheckRecord], decision: Decision) -> model.ItemDoc:
    parts = [part for record in records for part in record.parts]
    use = next((use for use in decision.waivers if use.applied), next(iter(decision.waivers), None))
    catalogue = facts.catalogue_severities.get(line.id, line.severity)
    return model.ItemDoc(
        id=line.id,
        section=room.id,
        subsection=line.subsection,
        subsection_title=room.subsections.get(line.subsection, ""),
        text=line.text,
        severity=line.severity,
        severity_changed_from=catalogue if catalogue is not line.severity else None,
        kind=line.parts,
        kind_optional=line.optional,
        custom=line.custom,
        selected=facts.selected is None or line.id in facts.selected or bool(records),
        status=decision.status,
        reason=decision.reason,
        group=decision.group,
        seconds=round(sum(record.seconds for record in records), 3),
        checks=tuple(_check(record) for record in records),
        parts=tuple(
            model.PartDoc(part=part.part, status=part.status, reason=part.reason, required=part.required, asked=part.asked)
            for part in decision.parts
        ),
        findings=_findings(parts),
        evidence=tuple(_evidence(evidence) for part in parts for evidence in part.evidence),
        attestation=_attestation(decision.attestation, _today(facts)),
        waiver=_waiver(use) if use else None,
        hint=line.hint,
        note=line.note,
    )


def _check(record: CheckRecord) -> model.CheckDoc:
    if record.cause or not record.parts:
        status, reason = Status.NOT_VERIFIED, record.cause or "its check decided nothing"
    else:
        status = worst(part.status for part in record.parts)
        reason = "; ".join(dict.fromkeys(part.reason for part in record.parts if part.status is status and part.reason))
    return model.CheckDoc(nodeid=record.nodeid, status=status, reason=reason, seconds=round(record.seconds, 3))


def _findings(parts: Sequence[PartRecord]) -> tuple[model.FindingDoc, ...]:
    """Errors first; what two checks both found stands once."""
    levels = list(Level)
    found = dict.fromkeys(finding for part in parts for finding in part.findings)
    ordered = sorted(found, key=lambda finding: (levels.index(finding.level), finding.code, str(finding.object), finding.detail))
    return tuple(_finding(finding) for finding in ordered)


def _finding(finding: Finding) -> model.FindingDoc:
    thing = finding.object
    return model.FindingDoc(
        code=finding.code,
        fingerprint=finding.fingerprint,
        severity=finding.level,
        object=model.ObjectDoc(kind=thing.kind, namespace=thing.namespace, name=thing.name),
        file=finding.file or None,
        line=finding.line or None,
        found=finding.found,
        wanted=finding.wanted,
        fix=finding.fix,
        detail=finding.detail,
    )


def _evidence(evidence: Evidence) -> model.EvidenceDoc:
    data: Any = msgspec.UNSET
    if evidence.data is not None:
        data = msgspec.to_builtins(evidence.data, str_keys=True, enc_hook=str, order="deterministic")
    text = evidence.text if evidence.text or data is msgspec.UNSET else msgspec.UNSET
    return model.EvidenceDoc(kind=evidence.kind, source=evidence.source, text=text, data=data)


def _attestation(given: Attestation | None, today: date) -> model.AttestationDoc | None:
    if given is None:
        return None
    return model.AttestationDoc(who=given.who, date=given.date, expires=given.expires, link=given.link, counted=not given.problem(today))


def _waiver(use: WaiverUse) -> model.WaiverDoc:
    waiver = use.waiver
    return model.WaiverDoc(
        item=waiver.item,
        reason=waiver.reason,
        who=waiver.who,
        expires=waiver.expires,
        codes=waiver.codes,
        objects=waiver.objects,
        statuses=waiver.statuses,
        applied=use.applied,
        note=use.note,
    )


def _waivers(facts: RunFacts, decided: Sequence[tuple[Line, Decision]]) -> tuple[model.WaiverDoc, ...]:
    """Every waiver with what became of it, in the order of the lines; those that name no line come last."""
    used = [use for _, decision in decided for use in decision.waivers]
    known = {line.id for line, _ in decided}
    lost = [WaiverUse(waiver=w, applied=False, note=f"names no line: {w.item}") for w in facts.waivers if w.item not in known]
    return tuple(_waiver(use) for use in (*used, *lost))


def _run(facts: RunFacts, items: Sequence[model.ItemDoc]) -> model.RunDoc:
    return model.RunDoc(
        id=facts.run_id,
        started=_utc(facts.started),
        finished=_utc(facts.finished or facts.started),
        namespace=facts.namespace,
        phase=facts.phase,
        phase_source=facts.phase_source,
        phase_guessed_because=facts.phase_because if facts.phase_source == "guess" else "",
        source=facts.source,
        context=facts.context,
        cluster_uid=facts.cluster_uid,
        kubernetes_version=facts.kubernetes_version,
        istio_version=facts.istio_version,
        istio_revision=facts.istio_revision,
        plugin_version=facts.plugin_version,
        complete=facts.complete,
        selection=facts.selection,
        read_only=facts.read_only,
        go_live=facts.go_live,
        exit_code=facts.pytest_exit,
        lines_selected=sum(item.selected for item in items),
        lines_total=len(items),
        command=facts.repeat,
        problem=facts.problem,
    )


def _utc(moment: datetime) -> datetime:
    """UTC in whole seconds: finer than that nobody compares, and it reads worse."""
    return moment.astimezone(UTC).replace(microsecond=0)


def _section(section: Section, items: Sequence[model.ItemDoc]) -> model.SectionDoc:
    counts = Counter(item.status for item in items if item.section == section.id)
    return model.SectionDoc(id=section.id, title=section.title, counts={status: counts[status] for status in Status})


def _not_permitted(
    facts: RunFacts, items: Sequence[model.ItemDoc], by_line: Mapping[str, Sequence[CheckRecord]]
) -> tuple[model.RightDoc, ...]:
    """The missing rights, each with the lines that miss it, in the lines' order."""
    missing: dict[tuple[str, str, str], list[str]] = {}
    for item in items:
        if item.status is Status.NOT_DUE or not item.selected:
            continue
        told = [unknown for record in by_line.get(item.id, ()) for part in record.parts for unknown in part.unknown]
        for verb, resource, namespace in _rights([*told, *facts.refused.get(item.id, ())]):
            missing.setdefault((namespace, resource, verb), []).append(item.id)
    return tuple(
        model.RightDoc(verb=verb, resource=resource, namespace=namespace, items=tuple(ids))
        for (namespace, resource, verb), ids in sorted(missing.items())
    )


def _rights(unknown: Sequence[Unknown]) -> list[tuple[str, str, str]]:
    return list(dict.fromkeys((one.verb, one.resource, one.namespace) for one in unknown if one.verb))
