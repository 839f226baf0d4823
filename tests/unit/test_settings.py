"""Options and ``meshready.toml``: what they become, and the sentence for everything that makes no sense."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import FrozenInstanceError
from datetime import date
from pathlib import Path

import pytest

from pytest_meshready.checklist.lines import Phase
from pytest_meshready.configuration import Risk, RolloutEntry
from pytest_meshready.results import Severity, Status
from pytest_meshready.settings import Deadlines, MtlsException, Settings, SettingsError, load, today

Load = Callable[..., Settings]


@pytest.fixture
def loaded(tmp_path: Path) -> Load:
    """Load settings from options and from the text of ``meshready.toml``, in an empty rootdir."""

    def load_(toml: str | None = None, /, **options: object) -> Settings:
        if toml is not None:
            (tmp_path / "meshready.toml").write_text(toml, encoding="utf-8")
        given = {"mesh_namespace": "payments"} | {f"mesh_{name}": value for name, value in options.items()}
        return load(given, rootdir=tmp_path, invocation_dir=tmp_path / "here")

    return load_


def refused(loaded: Load, toml: str | None = None, /, **options: object) -> str:
    """The sentence with which settings are refused."""
    with pytest.raises(SettingsError) as error:
        loaded(toml, **options)
    sentence = str(error.value)
    assert "\n" not in sentence
    return sentence


# --- what is given becomes what is meant ---


def test_nothing_but_a_namespace(loaded: Load) -> None:
    """Everything else has a default, and the phase stays open."""
    settings = loaded()
    assert settings == Settings(namespace="payments")
    assert (settings.phase, settings.phase_source, settings.config_name) == (None, None, "")
    assert (settings.namespaces, settings.contexts, settings.items) == (None, (), ())
    assert settings.deadlines == Deadlines(request=10.0, snapshot=60.0)


def test_every_option(loaded: Load, tmp_path: Path) -> None:
    """Options become typed values; paths are relative to where pytest was started."""
    settings = loaded(
        kubeconfig="kube/config",
        context="staging-1",
        istio_namespace="mesh-system",
        revision="1-24",
        phase="strict",
        items="4.2, 7",
        checklist=True,
        save_snapshot="seen.json",
        read_only=True,
        rbac="-",
        deadline="5",
    )
    here = tmp_path / "here"
    assert settings.kubeconfig == here / "kube/config"
    assert (settings.context, settings.istio_namespace, settings.revision) == ("staging-1", "mesh-system", "1-24")
    assert (settings.phase, settings.phase_source) == (Phase.STRICT, "option")
    assert settings.items == ("4.2", "7")
    assert (settings.checklist, settings.read_only, settings.rbac, settings.plan) == (True, True, "-", False)
    assert settings.save_snapshot == here / "seen.json"
    assert settings.deadlines == Deadlines(request=5.0, snapshot=5.0)


def test_paths_of_options(loaded: Load, tmp_path: Path) -> None:
    """A home directory and an absolute path are understood."""
    assert loaded(kubeconfig="~/.kube/config").kubeconfig == Path.home() / ".kube/config"
    assert loaded(report=str(tmp_path / "out")).report == tmp_path / "out"
    assert loaded(rbac="rights.yaml").rbac == str(tmp_path / "here" / "rights.yaml")


def test_a_snapshot_needs_no_namespace(tmp_path: Path) -> None:
    """The saved snapshot names the namespace."""
    settings = load({"mesh_namespace": None, "mesh_snapshot": "shop.json"}, rootdir=tmp_path, invocation_dir=tmp_path)
    assert (settings.namespace, settings.snapshot) == ("", tmp_path / "shop.json")


def test_settings_are_frozen(loaded: Load) -> None:
    """Nobody changes what the user said."""
    settings = loaded('severities = { "12.2" = "major" }')
    with pytest.raises(FrozenInstanceError):
        settings.namespace = "other"  # type: ignore[misc]
    with pytest.raises(TypeError):
        settings.severities["12.2"] = Severity.MINOR  # type: ignore[index]


FULL = """
phase = "permissive"
istio_namespace = "mesh-system"
revision = "stable"
contexts = ["staging-*"]
drill_contexts = ["staging-2"]
namespaces = ["payments", "orders"]
probe_service_accounts = ["frontend"]
severities = { "12.2" = "major", "pay-1" = "blocker" }

[deadlines]
request = 3
snapshot = 30.5

[[waiver]]
item = "2.2.1"
reason = "one replica until the database moves"
who = "Ada"
expires = 2027-03-31
codes = ["MR221-*"]
objects = ["payments/Deployment/ledger"]

[[waiver]]
item = "pay-1"
reason = "not yet"
who = "Grace"
expires = "2027-01-01"
covers = ["failed", "not_verified"]

[[item]]
id = "pay-1"
text = "Every pod names its version"

[[item]]
id = "pay-2"
text = "Only we are called"
section = "7"
severity = "blocker"
phases = "strict..golive"

[[mtls_exception]]
workload = "metrics"
port = 9090
reason = "scraped from outside the mesh"
expires = 2027-06-30

[[mtls_exception]]
workload = "batch"
reason = "every port"
expires = 2027-06-30

[[sidecar_exception]]
workload = "node-agent"
reason = "host network"

[risks]
payments = "low"
orders = "high"

[[rollout]]
namespace = "payments"
date = 2026-11-20
approver = "Ada"
"""


def test_every_key_of_the_file(loaded: Load) -> None:
    """What the file says arrives in the settings."""
    settings = loaded(FULL)
    assert settings.config_name == "meshready.toml"
    assert (settings.phase, settings.phase_source) == (Phase.PERMISSIVE, "config")
    assert (settings.istio_namespace, settings.revision) == ("mesh-system", "stable")
    assert (settings.contexts, settings.drill_contexts) == (("staging-*",), ("staging-2",))
    assert settings.namespaces == ("payments", "orders")
    assert settings.probe_service_accounts == ("frontend",)
    assert settings.severities == {"12.2": Severity.MAJOR, "pay-1": Severity.BLOCKER}
    assert settings.deadlines == Deadlines(request=3.0, snapshot=30.5)
    assert settings.sidecar_exceptions == {"node-agent": "host network"}
    assert settings.risks == {"payments": Risk.LOW, "orders": Risk.HIGH}
    assert settings.rollout == (RolloutEntry(namespace="payments", day=date(2026, 11, 20), approver="Ada"),)
    assert settings.mtls_exceptions == (
        MtlsException(workload="metrics", port=9090, reason="scraped from outside the mesh", expires=date(2027, 6, 30)),
        MtlsException(workload="batch", port=None, reason="every port", expires=date(2027, 6, 30)),
    )


def test_waivers(loaded: Load) -> None:
    """A waiver lifts a failure unless it says what else it covers; its day may be a TOML date or text."""
    first, second = loaded(FULL).waivers
    assert (first.item, first.who, first.expires) == ("2.2.1", "Ada", date(2027, 3, 31))
    assert (first.codes, first.objects, first.statuses) == (("MR221-*",), ("payments/Deployment/ledger",), (Status.FAILED,))
    assert (second.item, second.expires, second.statuses) == ("pay-1", date(2027, 1, 1), (Status.FAILED, Status.NOT_VERIFIED))


def test_own_lines(loaded: Load) -> None:
    """A team's line is major and due in every phase unless it says otherwise."""
    first, second = loaded(FULL).custom_lines
    assert (first.id, first.section, first.severity, first.custom, first.parts) == ("pay-1", "", Severity.MAJOR, True, ())
    assert all(first.due(phase) for phase in Phase)
    assert (second.section, second.severity, second.first, second.last) == ("7", Severity.BLOCKER, Phase.STRICT, Phase.GOLIVE)


def test_options_win_over_the_file(loaded: Load) -> None:
    """The command line decides where both speak."""
    settings = loaded(FULL, phase="strict", istio_namespace="istio-system", revision="canary", deadline=2)
    assert (settings.phase, settings.phase_source) == (Phase.STRICT, "option")
    assert (settings.istio_namespace, settings.revision) == ("istio-system", "canary")
    assert settings.deadlines == Deadlines(request=2.0, snapshot=2.0)


def test_pyproject(tmp_path: Path) -> None:
    """`[tool.meshready]` of pyproject.toml is read where there is no meshready.toml; other tools' tables are left alone."""
    (tmp_path / "pyproject.toml").write_text('[tool.ruff]\nx = 1\n[tool.meshready]\nphase = "strict"\n', encoding="utf-8")
    settings = load({"mesh_namespace": "payments"}, rootdir=tmp_path, invocation_dir=tmp_path)
    assert (settings.phase, settings.config_name) == (Phase.STRICT, "pyproject.toml")


def test_pyproject_without_our_table(tmp_path: Path) -> None:
    """A pyproject.toml that does not mention us is no configuration."""
    (tmp_path / "pyproject.toml").write_text("[tool.ruff]\n", encoding="utf-8")
    assert load({"mesh_namespace": "payments"}, rootdir=tmp_path, invocation_dir=tmp_path) == Settings(namespace="payments")


@pytest.mark.parametrize("text", ['phase = "strict"\n', '[tool.meshready]\nphase = "strict"\n'])
def test_a_named_file_may_have_either_shape(loaded: Load, tmp_path: Path, text: str) -> None:
    """--mesh-config=FILE replaces the file at the rootdir and takes plain keys or [tool.meshready]."""
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "other.toml").write_text(text, encoding="utf-8")
    settings = loaded('phase = "pre"', config="other.toml")
    assert (settings.phase, settings.config_name) == (Phase.STRICT, "other.toml")


def test_today_is_a_day() -> None:
    """Waivers are judged by a day, not by a moment."""
    assert type(today()) is date


# --- options that make no sense ---


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            {"namespace": "Payments"},
            (
                "--mesh-namespace=Payments cannot be the name of a namespace: at most 63 lower-case letters, digits and dashes; "
                "see: kubectl get namespaces"
            ),
        ),
        (
            {"istio_namespace": "istio_system"},
            (
                "--mesh-istio-namespace=istio_system cannot be the name of a namespace: at most 63 lower-case letters, digits and dashes; "
                "see: kubectl get namespaces"
            ),
        ),
        (
            {"revision": "a b"},
            (
                "--mesh-revision=a b cannot be a revision: at most 63 letters, digits, dashes, dots and underscores; "
                "see: kubectl get deployments -A -l app=istiod -L istio.io/rev"
            ),
        ),
        (
            {"phase": "strikt"},
            "--mesh-phase=strikt is no phase; did you mean strict? choose one of pre, permissive, strict, expand, hardened, golive",
        ),
        ({"phase": "9"}, "--mesh-phase=9 is no phase; choose one of pre, permissive, strict, expand, hardened, golive"),
        ({"phase": ""}, "--mesh-phase is given without a value; give it one (an unset variable?) or leave it out"),
        ({"context": " "}, "--mesh-context is given without a value; give it one (an unset variable?) or leave it out"),
        ({"items": "4.2,,7"}, "--mesh-items=4.2,,7 has an empty place; separate ids with single commas, such as --mesh-items=4.2,7"),
        ({"deadline": "soon"}, "--mesh-deadline=soon is no bound; give a positive number of seconds, such as --mesh-deadline=60"),
        ({"deadline": "0"}, "--mesh-deadline=0 is no bound; give a positive number of seconds, such as --mesh-deadline=60"),
        ({"deadline": "inf"}, "--mesh-deadline=inf is no bound; give a positive number of seconds, such as --mesh-deadline=60"),
        ({"deadline": "nan"}, "--mesh-deadline=nan is no bound; give a positive number of seconds, such as --mesh-deadline=60"),
        ({"go_live": True}, "--mesh-go-live demands an explicit phase, but none was given; add --mesh-phase=golive"),
        (
            {"go_live": True, "phase": "golive", "items": "4"},
            "--mesh-go-live demands the whole checklist, but --mesh-items=4 leaves lines out; leave --mesh-items out",
        ),
        (
            {"snapshot": "a.json", "context": "x"},
            "--mesh-context and --mesh-snapshot exclude each other: a saved snapshot is replayed without a cluster; leave one of them out",
        ),
        (
            {"snapshot": "a.json", "save_snapshot": "b.json"},
            (
                "--mesh-save-snapshot and --mesh-snapshot exclude each other: a saved snapshot is replayed without a cluster; "
                "leave one of them out"
            ),
        ),
        (
            {"plan": True, "report": "out"},
            "--mesh-plan and --mesh-report exclude each other: nothing runs, so there is nothing to report",
        ),
        (
            {"rbac": "-", "report": "out"},
            "--mesh-rbac and --mesh-report exclude each other: nothing runs, so there is nothing to report",
        ),
        ({"config": "none.toml"}, "--mesh-config=none.toml cannot be read: No such file or directory"),
    ],
)
def test_options_that_make_no_sense(loaded: Load, options: dict[str, object], sentence: str) -> None:
    """One sentence names the option, what was found, what is wanted and what to do."""
    assert refused(loaded, **options) == sentence


@pytest.mark.parametrize("length", [63, 64])
def test_a_name_has_at_most_63_characters(loaded: Load, length: int) -> None:
    """A namespace of 63 characters is a namespace, one of 64 is not."""
    if length == 63:
        assert loaded(namespace="n" * length).namespace == "n" * length
    else:
        assert "cannot be the name of a namespace" in refused(loaded, namespace="n" * length)


def test_go_live_with_a_phase_from_the_file(loaded: Load) -> None:
    """A phase in the file is explicit too."""
    assert loaded('phase = "golive"', go_live=True).go_live


def test_a_report_that_is_a_file(loaded: Load, tmp_path: Path) -> None:
    """The folder for the report must not be a file."""
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "out").write_text("", encoding="utf-8")
    assert refused(loaded, report="out") == "--mesh-report=out is a file; name a folder for readiness.json and its renderings"


# --- files that make no sense ---


def test_two_files(tmp_path: Path) -> None:
    """Two configurations at the rootdir are one too many."""
    (tmp_path / "meshready.toml").write_text("", encoding="utf-8")
    (tmp_path / "pyproject.toml").write_text("[tool.meshready]\n", encoding="utf-8")
    with pytest.raises(SettingsError) as error:
        load({"mesh_namespace": "payments"}, rootdir=tmp_path, invocation_dir=tmp_path)
    assert str(error.value) == (
        f"both meshready.toml and [tool.meshready] of pyproject.toml are at {tmp_path}; "
        "keep one, or name the one to use with --mesh-config=FILE"
    )


def test_a_named_pyproject_without_our_table(loaded: Load, tmp_path: Path) -> None:
    """A pyproject.toml that is named must mention us."""
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "pyproject.toml").write_text("[project]\n", encoding="utf-8")
    sentence = "--mesh-config=pyproject.toml has no table [tool.meshready]; add it, or name a meshready.toml"
    assert refused(loaded, config="pyproject.toml") == sentence


def test_a_table_that_is_none(tmp_path: Path) -> None:
    """tool.meshready must be a table."""
    (tmp_path / "pyproject.toml").write_text("[tool]\nmeshready = true\n", encoding="utf-8")
    with pytest.raises(SettingsError, match=r"^pyproject\.toml: tool\.meshready is True; it must be a table, \[tool\.meshready\]$"):
        load({"mesh_namespace": "payments"}, rootdir=tmp_path, invocation_dir=tmp_path)


def test_a_file_that_is_no_text(loaded: Load, tmp_path: Path) -> None:
    """A file in another encoding is named."""
    (tmp_path / "meshready.toml").write_bytes(b'phase = "\xff"')
    assert refused(loaded) == "meshready.toml is not UTF-8 text; save it as UTF-8"


CUSTOM = '[[item]]\nid = "{id}"\ntext = "ours"\n'
WAIVER = '[[waiver]]\nitem = "2.2.1"\nreason = "r"\nwho = "w"\nexpires = 2027-01-01\n'


@pytest.mark.parametrize(
    ("toml", "sentence"),
    [
        ("phase = ", "meshready.toml is not valid TOML: Invalid value (at end of document)"),
        ('context = ["a"]', "meshready.toml: unknown key 'context'; did you mean contexts? choose one of contexts, "),
        ('namespace = "payments"', "meshready.toml: unknown key 'namespace'; did you mean namespaces? choose one of "),
        ('contexts = "staging"', "meshready.toml: contexts is 'staging'; it must be a list of texts, such as contexts = [\"...\"]"),
        ('contexts = ["a", 1]', "meshready.toml: contexts is ['a', 1]; it must be a list of texts, such as contexts = [\"...\"]"),
        ('phase = "go-live"', "meshready.toml: phase is 'go-live'; did you mean golive? choose one of pre, permissive, strict, "),
        ("phase = 3", "meshready.toml: phase is 3; it must be a text"),
        ('revision = " "', "meshready.toml: revision is ' '; it must be a text"),
        ('severities = "major"', "meshready.toml: severities is 'major'; it must be a table, [severities]"),
        (
            'severities = { "12.9" = "major" }',
            (
                "meshready.toml: [severities] names line '12.9', but the checklist has no '12.9'; nearest are 12.5, 12.4 and 12.3 "
                "(see all: meshready explain)"
            ),
        ),
        (
            'severities = { "12.2" = "huge" }',
            "meshready.toml: 12.2 in [severities] is 'huge'; choose one of blocker, major, minor",
        ),
        ("waiver = 1", "meshready.toml: waiver is 1; it must be a list of tables, [[waiver]]"),
        ('[waiver]\nitem = "2.2.1"', "meshready.toml: waiver is {'item': '2.2.1'}; it must be a list of tables, [[waiver]]"),
        (
            '[[waiver]]\nitem = "2.2.1"\nreason = "r"\nwho = "w"',
            "meshready.toml: [[waiver]] number 1 has no expires; it needs item, reason, who, expires",
        ),
        (
            WAIVER.replace("2.2.1", "2.2"),
            "meshready.toml: [[waiver]] number 1 names line '2.2', but the checklist has no '2.2'; nearest are 2.2.1, 2.2.2 and 2.2.3 ",
        ),
        (
            WAIVER.replace("2027-01-01", '"31.12.2027"'),
            "meshready.toml: expires in [[waiver]] number 1 is '31.12.2027'; it must be a day, such as 2027-03-31",
        ),
        (
            WAIVER.replace("2027-01-01", "2027-01-01T10:00:00"),
            "meshready.toml: expires in [[waiver]] number 1 is 2027-01-01 10:00:00; it must be a day, such as 2027-03-31",
        ),
        (
            WAIVER.replace('"w"', '""'),
            "meshready.toml: who in [[waiver]] number 1 is ''; it must be a text",
        ),
        (
            WAIVER + WAIVER + 'until = "x"\n',
            "meshready.toml: unknown key 'until' in [[waiver]] number 2; choose one of codes, covers, expires, item, objects, reason, who",
        ),
        (
            WAIVER + 'covers = ["passed"]\n',
            "meshready.toml: covers in [[waiver]] number 1 names 'passed'; choose one of failed, not_verified, to_attest, warned",
        ),
        (
            CUSTOM.format(id="4.2.9"),
            (
                "meshready.toml: id in [[item]] number 1 is '4.2.9', which looks like one of the checklist's; "
                "begin with a letter, such as payments-1"
            ),
        ),
        (
            CUSTOM.format(id="a,b"),
            (
                "meshready.toml: id in [[item]] number 1 is 'a,b', which is not made of letters, digits, dots, _ and - alone; "
                "begin with a letter, such as payments-1"
            ),
        ),
        (CUSTOM.format(id="a") * 2, "meshready.toml: [[item]] id 'a' stands there twice; give each line an id of its own"),
        ('[[item]]\nid = "a"', "meshready.toml: [[item]] number 1 has no text; it needs id, text"),
        (
            CUSTOM.format(id="a") + 'section = "14"\n',
            (
                "meshready.toml: section in [[item]] number 1 is '14'; it must be the number of a section, 1 to 13, or be left out "
                "(see all: meshready explain)"
            ),
        ),
        (
            CUSTOM.format(id="a") + 'phases = "strict-golive"\n',
            "meshready.toml: phases in [[item]] number 1 is 'strict-golive': unknown phase 'strict-golive'; known are pre, ",
        ),
        (
            '[[mtls_exception]]\nworkload = "w"\nreason = "r"',
            "meshready.toml: [[mtls_exception]] number 1 has no expires; it needs workload, reason, expires",
        ),
        (
            '[[mtls_exception]]\nworkload = "w"\nreason = "r"\nexpires = 2027-01-01\nport = "http"',
            "meshready.toml: port in [[mtls_exception]] number 1 is 'http'; it must be the number of a container's port, 1 to 65535",
        ),
        ('[risks]\npayments = "big"', "meshready.toml: payments in [risks] is 'big'; choose one of low, medium, high"),
        (
            '[[rollout]]\nnamespace = "payments"\ndate = 2026-11-20',
            "meshready.toml: [[rollout]] number 1 has no approver; it needs namespace, date, approver",
        ),
        (
            '[[sidecar_exception]]\nworkload = "w"',
            "meshready.toml: [[sidecar_exception]] number 1 has no reason; it needs workload, reason",
        ),
        ("[deadlines]\nrequest = -1", "meshready.toml: request in [deadlines] is -1; it must be a positive number of seconds, such as 10"),
        (
            "[deadlines]\nsnapshot = true",
            "meshready.toml: snapshot in [deadlines] is True; it must be a positive number of seconds, such as 60",
        ),
        (
            "[deadlines]\nsnapshot = inf",
            "meshready.toml: snapshot in [deadlines] is inf; it must be a positive number of seconds, such as 60",
        ),
        ("[deadlines]\nlist = 5", "meshready.toml: unknown key 'list' in [deadlines]; choose one of request, snapshot"),
    ],
)
def test_files_that_make_no_sense(loaded: Load, toml: str, sentence: str) -> None:
    """One sentence names the file, the key and its table, what was found, and what is wanted."""
    assert refused(loaded, toml).startswith(sentence)


def test_nothing_heavy_is_imported(tmp_path: Path) -> None:
    """Settings are loaded without pytest and without client libraries."""
    code = (
        "import sys\nfrom pathlib import Path\nfrom pytest_meshready.settings import load\n"
        f"load({{'mesh_namespace': 'payments'}}, rootdir=Path({str(tmp_path)!r}), invocation_dir=Path({str(tmp_path)!r}))\n"
        "print(sorted({'pytest', 'kubernetes', 'httpx', 'tenacity', 'yaml', 'ssl', 'asyncio'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False, timeout=60, text=True)
    assert done.stdout.strip() == "[]", done.stderr


# --- backends and paths ---


def test_backends(loaded: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    """Addresses with headers, whose tokens stand in the environment, and are not shown with the settings."""
    monkeypatch.setenv("PROM_TOKEN", "s3cret")
    settings = loaded(
        '[prometheus]\nurl = "https://prometheus.example.com/tenant"\n'
        'headers = { Authorization = "Bearer ${PROM_TOKEN}", X-Scope-OrgID = "shop" }\n'
        '[tracing]\nurl = "http://jaeger:16686"'
    )
    assert settings.prometheus.url == "https://prometheus.example.com/tenant"
    assert dict(settings.prometheus.headers) == {"Authorization": "Bearer s3cret", "X-Scope-OrgID": "shop"}
    assert (settings.tracing.url, dict(settings.tracing.headers)) == ("http://jaeger:16686", {})
    assert "s3cret" not in repr(settings)


def test_paths(loaded: Load) -> None:
    """The paths to ask for, by Service or workload, and the one of traced requests."""
    settings = loaded('entry_path = "/shop?trial=1"\n[paths]\nfrontend = "/healthz"')
    assert (settings.entry_path, dict(settings.paths)) == ("/shop?trial=1", {"frontend": "/healthz"})


@pytest.mark.parametrize(
    ("toml", "sentence"),
    [
        ("[prometheus]\nheaders = {}", "meshready.toml: [prometheus] has no url; it needs url"),
        ('[tracing]\nurl = "jaeger:16686"', "meshready.toml: url in [tracing] is 'jaeger:16686'; it must be an address such as https://"),
        ('[tracing]\nurl = "http://j"\nheaders = "x"', "meshready.toml: headers in [tracing] is not a table of texts; write headers = {"),
        (
            '[prometheus]\nurl = "http://p"\nheaders = { A = "${MESHREADY_NOT_SET}" }',
            "meshready.toml: headers in [prometheus] name the environment variable MESHREADY_NOT_SET, which is not set; export ",
        ),
        ('[prometheus]\nurl = "http://p"\nheaders = { "a b" = "1" }', "meshready.toml: the header 'a b' in [prometheus] cannot be sent"),
        (
            '[prometheus]\nurl = "http://p"\nca = "no.pem"',
            "meshready.toml: ca in [prometheus] is 'no.pem'; it must be a file of certificates",
        ),
        ('[prometheus]\nurl = "http://p"\nuser = "x"', "meshready.toml: unknown key 'user' in [prometheus]"),
        ('[paths]\nfrontend = "healthz"', "meshready.toml: frontend in [paths] is 'healthz'; it must be a path such as /healthz"),
        ('entry_path = "shop"', "meshready.toml: entry_path is 'shop'; it must be a path such as /healthz"),
    ],
)
def test_backends_that_make_no_sense(loaded: Load, toml: str, sentence: str) -> None:
    """One sentence, which quotes no header."""
    assert refused(loaded, toml).startswith(sentence)


# --- manifests ---


def test_manifests(loaded: Load, tmp_path: Path) -> None:
    """A folder is relative to where pytest was started, a dash is standard input; the snapshot of them may be saved."""
    assert loaded().manifests is None
    assert loaded(manifests="-").manifests == "-"
    assert loaded(manifests="deploy", save_snapshot="seen.json").manifests == str(tmp_path / "here" / "deploy")


@pytest.mark.parametrize("other", ["snapshot", "kubeconfig", "context", "plan", "rbac", "sweep"])
def test_manifests_need_no_cluster(loaded: Load, other: str) -> None:
    """Whatever is about a cluster, or another source, excludes manifests."""
    assert refused(loaded, manifests="deploy", **{other: "x"}).startswith(f"--mesh-{other} and --mesh-manifests exclude each other: ")
