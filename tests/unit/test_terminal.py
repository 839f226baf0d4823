"""The report in a terminal: what stands there, line by line, at 80 columns and without colour."""

from __future__ import annotations

import datetime as dt

import pytest

from pytest_meshready.checklist.lines import Phase
from pytest_meshready.report import terminal
from pytest_meshready.report.model import Readiness
from pytest_meshready.results import Finding, Level, ObjectRef, Part, Severity, Status, Unknown
from tests.unit.report_samples import facts, finding, line, no_sidecar, part, record, shop, small, waiver


def shown(readiness: Readiness, *, width: int = 80, verbosity: int = 0, unicode: bool = False) -> list[str]:
    """The report as lines of plain text."""
    return terminal.plain(terminal.render(readiness, width=width, verbosity=verbosity, unicode=unicode)).splitlines()


def block(lines: list[str], heading: str) -> list[str]:
    """The lines from a heading to the next empty line."""
    start = next(number for number, text in enumerate(lines) if text.startswith(heading))
    return lines[start : lines.index("", start) if "" in lines[start:] else len(lines)]


def failing(*found: Finding) -> Readiness:
    """4.2.1 fails with these findings."""
    return small(
        record(part(Status.FAILED, reason="it fails", findings=found)), lines=(line(text="Pods contain exactly one Envoy sidecar"),)
    )


# --- layout ---


@pytest.mark.parametrize("width", [60, 80, 100, 200])
@pytest.mark.parametrize("verbosity", [-1, 0, 1, 2])
@pytest.mark.parametrize("unicode", [True, False])
def test_no_line_is_wider_than_the_terminal(width: int, verbosity: int, unicode: bool) -> None:
    """Whatever the names in the cluster."""
    assert max(map(len, shown(shop(), width=width, verbosity=verbosity, unicode=unicode))) <= width


def test_without_unicode_everything_is_ascii() -> None:
    """CI logs with a narrow encoding show it all."""
    readiness = failing(finding(found="3 \u2192 5 pods \u00b7 \u201capp\u201d \u2013 \u65e5\u672c"))
    text = "\n".join(shown(readiness))
    assert text.isascii()
    assert 'found   3 -> 5 pods . "app" - \\u65e5\\u672c' in text


def test_with_unicode_symbols_are_shown() -> None:
    """The words stand beside them all the same."""
    text = "\n".join(shown(small(no_sidecar(), record(part(), item="12.5")), unicode=True))
    assert "✗ 4.2.1" in text
    assert "✓ 12 Ongoing Maintenance" in text


def test_styles_are_those_of_pytests_writer() -> None:
    """A markup that pytest does not know would be an error."""
    used = {word for row in terminal.render(shop(), verbosity=2) for _, style in row for word in terminal.markup(style)}
    assert used <= {"red", "yellow", "green", "bold", "light"}
    assert terminal.markup("red bold") == {"red": True, "bold": True}
    assert terminal.markup("") == {}


def test_a_name_cannot_command_the_terminal() -> None:
    """Control characters and line breaks of a name are made visible."""
    text = "\n".join(shown(failing(finding(found="orders\x1b[2J\r\nverdict: READY")), unicode=True))
    assert "\x1b" not in text
    assert "found   orders\ufffd[2J verdict: READY" in text


# --- scoreboard ---


def test_the_scoreboard_counts_by_section() -> None:
    """Columns that nothing stands in are left out; worst first; a total."""
    readiness = small(no_sidecar(), record(part(), item="12.5"), record(part(Status.WARNED), item="4.2.3"))
    assert shown(readiness)[:7] == [
        "                                                           not               not",
        "                                               failed verified warned passed due",
        "?  1 Pre-Rollout Readiness                          .        2      .      .   .",
        "x  4 Namespace & Sidecar Strategy                   1        .      1      .   .",
        "-  7 Security Rollout (Gradual Zero Trust)          .        .      .      .   1",
        "+ 12 Ongoing Maintenance                            .        .      .      1   .",
        "     all                                            1        2      1      1   1",
    ]


def test_lines_that_were_left_out_are_counted_apart() -> None:
    """They do not drown those that could not be verified."""
    readiness = small(no_sidecar(), selected=frozenset({"4.2.1"}), unselected_because="not selected by --mesh-items")
    lines = shown(readiness)
    assert lines[1].split() == ["failed", "selected"]
    assert lines[6].split() == ["all", "1", "5"]
    assert "  not selected by --mesh-items: 5 lines" in lines


# --- findings ---


def test_a_finding_says_object_found_wanted_and_fix() -> None:
    """In this order, aligned, under the line that it fails."""
    assert block(shown(small(no_sidecar())), "FAILED") == [
        "FAILED: 1 line",
        "x 4.2.1 Pods contain exactly one Envoy sidecar (failed, blocker)",
        "    payments/Deployment/orders (error MR421-NO-SIDECAR)",
        "      found   orders-7d9c4b8f6-abcde, orders-7d9c4b8f6-fghij: containers [app]",
        "      wanted  exactly one istio-proxy in every pod",
        "      fix     kubectl rollout restart deployment/orders -n payments",
    ]


def test_long_text_hangs_under_its_beginning() -> None:
    """The eye finds found, wanted and fix in one column."""
    long = "orders-7d9c4b8f6-abcde has containers app, helper and log-shipper but no istio-proxy among them"
    lines = block(shown(failing(finding(found=long))), "FAILED")
    assert lines[3:5] == [
        "      found   orders-7d9c4b8f6-abcde has containers app, helper and log-shipper",
        "              but no istio-proxy among them",
    ]


def test_a_long_command_can_still_be_pasted() -> None:
    """Its words come first, then the command with backslashes at the ends of its lines."""
    fix = "raise it: helm upgrade istiod istio/istiod -n istio-system --reuse-values --set autoscaleMin=2 --set 'global.x=a b'"
    lines = block(shown(failing(finding(fix=fix))), "FAILED")
    assert lines[5:] == [
        "      fix     raise it:",
        "              helm upgrade istiod istio/istiod -n istio-system --reuse-values \\",
        "                --set autoscaleMin=2 --set 'global.x=a b'",
    ]


def test_a_long_name_in_a_command_is_broken_as_a_shell_joins_it() -> None:
    """The rest begins in the first column, so that no blank gets into the name."""
    name = "w" * 90
    lines = block(shown(failing(finding(name=name))), "FAILED")
    command = "\n".join(lines[lines.index(next(text for text in lines if "fix" in text)) :])
    joined = command.replace("\\\n", "").replace("      fix     ", "")
    assert " ".join(joined.split()) == f"kubectl rollout restart deployment/{name} -n payments"
    assert max(map(len, lines)) <= 80


def test_a_finding_from_manifests_names_file_and_line() -> None:
    """Where to edit."""
    lines = shown(failing(finding(file="base/orders.yaml", line=12)))
    assert "    payments/Deployment/orders in base/orders.yaml:12 (error MR421-NO-SIDECAR)" in lines


def test_many_findings_are_cut_and_the_rest_is_named() -> None:
    """The report is not a wall; -v and -vv show more."""
    many = failing(*(finding(f"web-{number:02}") for number in range(30)))
    lines = shown(many)
    assert sum("wanted" in text for text in lines) == 5
    rest = " ".join(" ".join(lines).split())
    assert "and 25 more findings: payments/Deployment/web-05, payments/Deployment/web-06" in rest
    assert "(-vv or --mesh-report=DIR shows all)" in rest
    assert sum("wanted" in text for text in shown(many, verbosity=1)) == 20
    assert sum("wanted" in text for text in shown(many, verbosity=2)) == 30


def test_a_failure_without_finding_shows_its_reason() -> None:
    """A team's own test fails with its first line."""
    own = record(part(Status.FAILED, None, reason="test_owner: orders names no owner"), nodeid="tests/test_own.py::test_owner")
    assert block(shown(small(own)), "FAILED")[1:] == [
        "x 4.2.1 Pods contain exactly one Envoy sidecar (failed, blocker)",
        "    test_owner: orders names no owner",
    ]


def test_infos_do_not_ask_for_attention() -> None:
    """They are in the files."""
    lines = (line(),)
    text = "\n".join(shown(small(record(part(findings=(finding(level=Level.INFO),))), lines=lines)))
    assert "MR421" not in text


def test_a_cluster_wide_object_has_no_namespace() -> None:
    """As kubectl names it."""
    node = finding(object=ObjectRef(kind="Node", name="node-1"))
    assert "    Node/node-1 (error MR421-NO-SIDECAR)" in shown(failing(node))


def test_blocks_stand_in_the_order_of_urgency() -> None:
    """Failed, warned, not verified, waived; then the rest; the verdict last."""
    headings = [text.partition(":")[0] for text in shown(shop()) if text[:2].isupper() and ":" in text]
    assert headings == ["FAILED", "WARNED", "NOT VERIFIED", "WAIVED", "MISSING RIGHTS", "WAIVERS THAT DO NOT APPLY", "NOT READY"]


# --- groups ---


def test_lines_with_one_reason_are_one_group() -> None:
    """So that fifty lines without a check are one sentence."""
    lines = (*(line(f"12.{number}", reads=()) for number in range(1, 5)), line("4.2.3", reads=(), severity=Severity.MAJOR))
    assert block(shown(small(lines=lines)), "NOT VERIFIED") == [
        "NOT VERIFIED: 5 lines",
        "? no check for this line yet (5 lines, 4 blockers among them): 4.2.3, 12.1,",
        "  12.2, 12.3, 12.4",
    ]


def test_a_line_with_a_reason_of_its_own_shows_its_words() -> None:
    """And comes before the groups, as it says most."""
    refused = record(part(Status.NOT_VERIFIED, reason="no right to list pods in payments"), item="12.5")
    lines = (line("12.1", reads=()), line("12.2", reads=()), line("12.5", text="Stay within supported Istio versions"))
    assert block(shown(small(refused, lines=lines)), "NOT VERIFIED")[1:] == [
        "? 12.5 Stay within supported Istio versions: no right to list pods in payments",
        "       (blocker)",
        "? no check for this line yet (2 lines, all blockers): 12.1, 12.2",
    ]


def test_rights_do_not_tear_a_group_apart() -> None:
    """Each line's reason names its own rights, the group names what they share."""
    refused = {f"12.{n}": (Unknown(reason="403", verb="list", resource=f"kind{n}", namespace="payments"),) for n in (1, 2, 3)}
    readiness = small(lines=tuple(line(id_, reads=()) for id_ in refused), refused=refused)
    assert "? no check for this line yet (3 lines, all blockers): 12.1, 12.2, 12.3" in shown(readiness)
    assert readiness.items[0].reason == "no check for this line yet; missing rights: list kind1 in payments"


def test_a_doubtful_line_with_findings_is_shown_alone() -> None:
    """A warning is not lost behind a wire that was not asked."""
    warned = record(part(Status.WARNED, reason="old proxy", findings=(finding(level=Level.WARNING, code="MR1124-OLD-PROXY"),)))
    lines = block(shown(small(warned)), "NOT VERIFIED")
    assert lines[1:4] == [
        "? 4.2.1 Pods contain exactly one Envoy sidecar (not verified, blocker)",
        "    configuration warns: old proxy, wire not asked (this version has no live",
        "    check of it yet)",
    ]
    assert "    payments/Deployment/orders (warning MR1124-OLD-PROXY)" in lines


# --- the rest ---


def test_missing_rights_name_the_lines_and_the_way_out() -> None:
    """Verb, resource, namespace; then the command that gives them."""
    pods = Unknown(reason="403", verb="list", resource="pods", namespace="payments")
    nodes = Unknown(reason="403", verb="list", resource="nodes")
    lines = shown(small(record(part(Status.NOT_VERIFIED, unknown=(pods, nodes), reason="403"))))
    assert block(lines, "MISSING RIGHTS") == [
        "MISSING RIGHTS: 2",
        "  list nodes (cluster-wide): 1 line (4.2.1)",
        "  list pods in payments: 1 line (4.2.1)",
    ]
    assert lines[-4:-1] == [
        "  next  get the missing rights:",
        "        pytest --mesh-namespace=payments --mesh-phase=strict --mesh-rbac=- | \\",
        "          kubectl apply -f -",
    ]


def test_waived_lines_show_what_was_waived() -> None:
    """Who, until when, why, and every finding."""
    lines = shown(small(record(part(Status.FAILED, findings=(finding(),))), lines=(line(text="One sidecar"),), waivers=(waiver(),)))
    assert block(lines, "WAIVED")[:4] == [
        "WAIVED: 1 line",
        "w 4.2.1 One sidecar (waived, blocker)",
        "    waived by Jane Roe until 2026-12-31: legacy batch",
        "    payments/Deployment/orders (error MR421-NO-SIDECAR)",
    ]


def test_waivers_that_do_not_apply_are_named() -> None:
    """With the sentence why."""
    lines = shown(small(no_sidecar(), waivers=(waiver(expires=dt.date(2026, 11, 1)),)))
    assert block(lines, "WAIVERS")[:3] == [
        "WAIVERS THAT DO NOT APPLY: 1",
        "  4.2.1 by Jane Roe (legacy batch): expired on 2026-11-01, so it no longer",
        "  applies",
    ]


def test_what_was_left_behind_is_named() -> None:
    """Object by object."""
    lines = shown(small(left_behind=("payments/Pod/meshready-3f2a9c01-probe",)))
    assert block(lines, "LEFT BEHIND") == ["LEFT BEHIND IN THE CLUSTER: 1", "  payments/Pod/meshready-3f2a9c01-probe"]


def test_changed_severities_and_own_tests_are_named() -> None:
    """A team that makes a blocker minor is seen."""
    readiness = small(
        lines=(line(severity=Severity.MINOR),), catalogue_severities={"4.2.1": Severity.BLOCKER}, team_passed=2, team_failed=1
    )
    lines = shown(readiness)
    assert "  severities changed by the team: 4.2.1 blocker -> minor" in lines
    assert "  own tests beside the checklist: 2 passed, 1 failed" in lines


def test_lines_of_another_phase_are_one_sentence() -> None:
    """They ask for nothing."""
    assert "  not due in phase strict: 1 line: 7.1.1" in shown(small())


def test_verbose_lists_every_line() -> None:
    """In the checklist's order, with its status as a word."""
    why = "payments/Deployment/orders: orders-7d9c4b8f6-abcde, orders-7d9c4b8f6-fghij: containers [app]"
    lines = block(shown(small(no_sidecar()), verbosity=1, width=200), "EVERY LINE")
    assert lines[1:] == [
        "? 1.1.1 not verified: Microservices architecture is stable: no check for this line yet",
        "? 1.2.4 not verified: Change window approved: no check for this line yet",
        f"x 4.2.1 failed: Pods contain exactly one Envoy sidecar: {why}",
        "? 4.2.3 not verified: Application logs unchanged: no check for this line yet",
        "- 7.1.1 not due: mTLS enabled in PERMISSIVE mode: belongs to phase permissive, this run is in strict",
        "? 12.5  not verified: Stay within supported Istio versions: its check did not run",
    ]


def test_quiet_leaves_out_findings_and_lists() -> None:
    """-q keeps scoreboard, reasons and verdict."""
    lines = shown(small(no_sidecar()), verbosity=-1)
    assert not any("wanted" in text for text in lines)
    assert any("orders-7d9c4b8f6-abcde" in text for text in lines)
    assert any(text.startswith("NOT READY") for text in lines)


# --- the verdict ---


def test_the_verdict_is_the_last_word() -> None:
    """With its reason, the next command and the exit code."""
    lines = shown(small(no_sidecar()))
    assert lines[-4:] == [
        "NOT READY: 1 blocker failed (4.2.1)",
        "  next  fix what failed, then look at it again:",
        "        pytest --mesh-namespace=payments --mesh-phase=strict --mesh-items=4.2.1",
        "  exit code 1",
    ]


def test_a_guessed_phase_is_answered_with_the_option() -> None:
    """The guess is offered, not taken."""
    lines = shown(small(record(part(), part(kind=Part.LIVE)), record(part(), item="12.5"), phase_source="guess"))
    assert "  next  say the phase: pytest --mesh-namespace=payments --mesh-phase=strict" in lines


def test_an_open_blocker_is_answered_with_explain() -> None:
    """What would decide it."""
    assert "  next  see what decides a line: meshready explain 4.2.1" in shown(small(lines=(line(reads=()),)))


def test_ready_needs_no_next_command() -> None:
    """There is nothing to do."""
    assert shown(small(record(part()), lines=(line(),)))[-2:] == ["READY: nothing failed and every blocker is verified", "  exit code 0"]


# --- the header ---


def test_the_header_names_cluster_namespace_mesh_phase_and_who_decided() -> None:
    """Before anything runs."""
    assert terminal.header(facts(read_only=True)) == [
        "meshready: namespace payments on shop-admin@shop, phase strict (--mesh-phase),",
        "  Kubernetes 1.34.1, Istio 1.30.3 (revision default), read-only",
    ]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"phase_source": "config", "phase_because": "meshready.toml"}, "phase strict (meshready.toml)"),
        ({"phase_source": "guess", "phase_because": "every workload is STRICT"}, "phase strict (guessed: every workload is STRICT)"),
        ({"phase_source": "guess"}, "phase strict (guessed)"),
        ({"istio_version": ""}, "no Istio version found"),
        ({"context": ""}, "on the cluster of this pod, phase strict (--mesh-phase), Kubernetes 1.34.1"),
        ({"source": "snapshot"}, "from a saved snapshot"),
        ({"source": "manifests", "context": "", "kubernetes_version": ""}, "namespace payments on manifests"),
        ({"phase": Phase.GOLIVE, "go_live": True}, "final approval"),
    ],
)
def test_the_header_says_where_things_come_from(given: dict[str, object], words: str) -> None:
    """Who decided the phase, and what was looked at."""
    assert words in " ".join(terminal.header(facts(**given), width=300))


def test_the_header_says_what_is_wrong_with_the_cluster() -> None:
    """Before anybody waits."""
    assert (
        terminal.header(facts(problem="the API server did not answer within 10 s"))[-1]
        == "meshready: the API server did not answer within 10 s"
    )


def test_a_long_guess_does_not_break_the_header() -> None:
    """It is wrapped like everything else."""
    lines = terminal.header(facts(phase_source="guess", phase_because="word " * 60))
    assert max(map(len, lines)) <= 80
