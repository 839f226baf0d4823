"""The file ``meshready.toml``, or the table ``[tool.meshready]`` of ``pyproject.toml``: read, and every key checked.

`pytest_meshready.settings` joins it with the command line. An unknown key is an error, because a misspelt waiver or
exception that is silently ignored costs a night.
"""

from __future__ import annotations

import enum
import math
import os
import re
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import date
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pytest_meshready.checklist import catalogue
from pytest_meshready.checklist.lines import Line, Phase
from pytest_meshready.report.waivers import Waiver
from pytest_meshready.results import Severity, Status
from pytest_meshready.tables import SettingsError, Table, choices, shown_value
from pytest_meshready.waiting import Deadlines

FILE = "meshready.toml"
PYPROJECT = "pyproject.toml"

#: A team's own line must never be taken for one of the checklist's, and must survive --mesh-items=a,b.
_OWN_ID = re.compile(r"[A-Za-z][A-Za-z0-9._-]*")
_CHECKLIST_ID = re.compile(r"\d+(\.\d+)*")

#: A namespace is a DNS label; a Secret is named with its namespace.
_DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_SECRET = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?/[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")

#: The host of a dependency: a DNS name, perhaps with a wildcard before it, or an address.
_HOST = re.compile(r"(\*\.)?[A-Za-z0-9_]([-A-Za-z0-9_.]{0,251}[A-Za-z0-9_])?\.?|[0-9A-Fa-f:]{2,39}")

#: The address of a backend, the name of a header, a variable of the environment in its value, and the path of a request.
_URL = re.compile(r"https?://[^\s/]+(/\S*)?")
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_PATH = re.compile(r"/[\x21-\x7e]{0,1000}")

#: What a waiver can lift; the other statuses hold nothing against a line.
_WAIVABLE = (Status.FAILED, Status.NOT_VERIFIED, Status.TO_ATTEST, Status.WARNED)


def nothing() -> Mapping[str, Any]:
    """A mapping of nothing that stays so: the default of a frozen field."""
    return MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class MtlsException:
    """A port that need not be STRICT (line 11.1.1), until the end of the day ``expires``.

    ``workload`` is its name in the namespace of the run; ``port`` is the port of its container, None for all.
    """

    workload: str
    port: int | None
    reason: str
    expires: date


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependency:
    """Something outside of the cluster that the namespace calls: a database, a service of another company.

    ``host`` is a DNS name (``*.`` at its beginning for any) or an address; ``port`` 0 stands for all; ``protocol`` is a word
    such as HTTPS or TCP, empty if it does not matter; ``owner`` is who answers for it.
    """

    host: str
    port: int = 0
    protocol: str = ""
    owner: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """Where a team's own Prometheus or tracing backend answers, for one that is not found in the mesh or demands credentials.

    ``headers`` go with every request; they are never shown, because one of them may be a token. ``ca`` is a file of authorities.
    """

    url: str = ""
    headers: Mapping[str, str] = field(default_factory=nothing, repr=False)
    ca: str = ""


class Risk(enum.StrEnum):
    """How much a team stands to lose where a namespace fails (line 4.1.1)."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutEntry:
    """A line of the rollout log (line 10.1.1): which namespace joined the mesh on which day, and who approved it."""

    namespace: str
    day: date
    approver: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """What the file says; the fields are explained in `pytest_meshready.settings.Settings`."""

    name: str = ""
    phase: Phase | None = None
    istio_namespace: str | None = None
    revision: str | None = None
    contexts: tuple[str, ...] = ()
    drill_contexts: tuple[str, ...] = ()
    namespaces: tuple[str, ...] | None = None
    severities: Mapping[str, Severity] = field(default_factory=nothing)
    waivers: tuple[Waiver, ...] = ()
    custom_lines: tuple[Line, ...] = ()
    deadlines: Deadlines = field(default_factory=Deadlines)
    mtls_exceptions: tuple[MtlsException, ...] = ()
    sidecar_exceptions: Mapping[str, str] = field(default_factory=nothing)
    probe_service_accounts: tuple[str, ...] = ()
    gateway_namespaces: tuple[str, ...] = ()
    gateway_secrets: tuple[str, ...] = ()
    dependencies: tuple[Dependency, ...] | None = None
    external_rate_limit: str = ""
    risks: Mapping[str, Risk] = field(default_factory=nothing)
    rollout: tuple[RolloutEntry, ...] | None = None
    prometheus: Backend = field(default_factory=Backend)
    tracing: Backend = field(default_factory=Backend)
    paths: Mapping[str, str] = field(default_factory=nothing)
    entry_path: str = ""


def load(path: Path | None, *, rootdir: Path, shown: str | None = None) -> Configuration:
    """The configuration of a run; an empty one where there is no file.

    Args:
        path: the file that ``--mesh-config`` names, None to look for one at the rootdir.
        rootdir: pytest's rootdir.
        shown: the file as the user typed it, for messages.

    Raises:
        SettingsError: with one sentence, where a file cannot be used.
    """
    if path is not None:
        name = shown or path.name
        return parse(_own_table(_read(path, f"--mesh-config={name}"), name, demanded=path.name == PYPROJECT), name)
    own, pyproject = rootdir / FILE, rootdir / PYPROJECT
    tables = {
        FILE: _read(own, FILE) if own.is_file() else None,
        PYPROJECT: _tool_table(_read(pyproject, PYPROJECT), PYPROJECT) if pyproject.is_file() else None,
    }
    found = [(name, table) for name, table in tables.items() if table is not None]
    if len(found) > 1:
        raise SettingsError(
            f"both {FILE} and [tool.meshready] of {PYPROJECT} are at {rootdir}; keep one, or name the one to use with --mesh-config=FILE"
        )
    return parse(found[0][1], found[0][0]) if found else Configuration()


def parse(data: Mapping[str, Any], name: str) -> Configuration:
    """The configuration from the keys of a file.

    Args:
        data: the keys.
        name: the file, as messages call it.

    Raises:
        SettingsError: with one sentence, for the first thing that makes no sense.
    """
    top = Table(data, name, "")
    custom = top.tables("item", _custom_line)
    _no_twins(name, "[[item]] id", [line.id for line in custom])
    known = [*(line.id for line in catalogue.load().lines), *(line.id for line in custom)]
    exceptions = top.tables("sidecar_exception", _sidecar_exception)
    config = Configuration(
        name=name,
        phase=top.enum("phase", Phase),
        istio_namespace=top.text("istio_namespace"),
        revision=top.text("revision"),
        contexts=top.texts("contexts") or (),
        drill_contexts=top.texts("drill_contexts") or (),
        namespaces=top.texts("namespaces"),
        severities=MappingProxyType(_severities(top.table("severities"), known)),
        waivers=top.tables("waiver", lambda table: _waiver(table, known)),
        custom_lines=custom,
        deadlines=_deadlines(top.table("deadlines")),
        mtls_exceptions=top.tables("mtls_exception", _mtls_exception),
        sidecar_exceptions=MappingProxyType(dict(exceptions)),
        probe_service_accounts=top.texts("probe_service_accounts") or (),
        gateway_namespaces=_names(top, "gateway_namespaces", _DNS_LABEL, "istio-ingress"),
        gateway_secrets=_names(top, "gateway_secrets", _SECRET, "istio-ingress/shop-tls"),
        dependencies=top.tables("dependency", _dependency) if top.has("dependency") else None,
        external_rate_limit=top.text("external_rate_limit") or "",
        risks=MappingProxyType(_risks(top.table("risks"))),
        rollout=top.tables("rollout", _rollout_entry) if top.has("rollout") else None,
        prometheus=_backend(top.table("prometheus")),
        tracing=_backend(top.table("tracing")),
        paths=MappingProxyType(_paths(top.table("paths"))),
        entry_path=_path(top, "entry_path") if top.has("entry_path") else "",
    )
    top.close()
    return config


# --- files ---


def _read(path: Path, name: str) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{name} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"{name} is not UTF-8 text; save it as UTF-8") from error
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{name} is not valid TOML: {error}") from error


def _tool_table(data: Mapping[str, Any], name: str) -> Mapping[str, Any] | None:
    """The table ``[tool.meshready]``, None where there is none."""
    tool = data.get("tool")
    table = tool.get("meshready") if isinstance(tool, dict) else None
    if table is not None and not isinstance(table, dict):
        raise SettingsError(f"{name}: tool.meshready is {shown_value(table)}; it must be a table, [tool.meshready]")
    return table


def _own_table(data: Mapping[str, Any], name: str, *, demanded: bool) -> Mapping[str, Any]:
    """The keys of a file that ``--mesh-config`` names, which may be of either shape."""
    table = _tool_table(data, name)
    if table is None and demanded:
        raise SettingsError(f"--mesh-config={name} has no table [tool.meshready]; add it, or name a meshready.toml")
    return data if table is None else table


# --- tables ---


def _severities(table: Table, known: Collection[str]) -> dict[str, Severity]:
    found = {}
    for id_ in table.data:
        _check_line(table, id_, known)
        severity = table.enum(id_, Severity)
        assert severity is not None
        found[id_] = severity
    return found


def _check_line(table: Table, id_: str, known: Collection[str]) -> None:
    if id_ not in known:
        raise SettingsError(f"{table.file}: {table.place} names line {id_!r}, but {catalogue.unknown(id_, known)}")


def _waiver(table: Table, known: Collection[str]) -> Waiver:
    table.need("item", "reason", "who", "expires")
    item = table.said("item")
    _check_line(table, item, known)
    covers = table.texts("covers") or (Status.FAILED.value,)
    strange = next((word for word in covers if word not in _WAIVABLE), None)
    if strange is not None:
        raise SettingsError(f"{table.file}: covers in {table.place} names {strange!r}; {choices(strange, _WAIVABLE)}")
    return Waiver(
        item=item,
        reason=table.said("reason"),
        who=table.said("who"),
        expires=table.day("expires"),
        codes=table.texts("codes") or (),
        objects=table.texts("objects") or (),
        statuses=tuple(Status(word) for word in covers),
    )


def _custom_line(table: Table) -> Line:
    table.need("id", "text")
    id_ = table.said("id")
    if not _OWN_ID.fullmatch(id_):
        rule = (
            "looks like one of the checklist's" if _CHECKLIST_ID.fullmatch(id_) else "is not made of letters, digits, dots, _ and - alone"
        )
        raise SettingsError(f"{table.file}: id in {table.place} is {id_!r}, which {rule}; begin with a letter, such as payments-1")
    section = table.text("section") or ""
    sections = [known.id for known in catalogue.load().sections]
    if section and section not in sections:
        wanted = f"the number of a section, {sections[0]} to {sections[-1]}, or be left out (see all: meshready explain)"
        raise table.error("section", wanted)
    phases = table.text("phases") or "pre..golive"
    try:
        first, last = catalogue.parse_phases(phases)
    except catalogue.CatalogueError as error:
        wanted = "write first..last, such as strict..golive"
        raise SettingsError(f"{table.file}: phases in {table.place} is {phases!r}: {error}; {wanted}") from error
    return Line(
        id=id_,
        section=section,
        subsection="",
        text=table.said("text"),
        severity=table.enum("severity", Severity) or Severity.MAJOR,
        parts=(),
        first=first,
        last=last,
        custom=True,
    )


def _mtls_exception(table: Table) -> MtlsException:
    table.need("workload", "reason", "expires")
    port = table.data.get("port") if table.has("port") else None
    if port is not None and (isinstance(port, bool) or not isinstance(port, int) or not 0 < port < 65536):
        raise table.error("port", "the number of a container's port, 1 to 65535")
    return MtlsException(workload=table.said("workload"), port=port, reason=table.said("reason"), expires=table.day("expires"))


def _dependency(table: Table) -> Dependency:
    table.need("host")
    host = table.said("host").rstrip(".").lower()
    if not _HOST.fullmatch(host):
        raise table.error("host", "a DNS name such as api.example.com or *.example.com, or an address")
    given = table.has("port")
    port = table.data["port"] if given else 0
    if isinstance(port, bool) or not isinstance(port, int) or (given and not 0 < port < 65536):
        raise table.error("port", "the number of a port, 1 to 65535")
    return Dependency(host=host, port=port, protocol=(table.text("protocol") or "").upper(), owner=table.text("owner") or "")


def _risks(table: Table) -> dict[str, Risk]:
    """Ratings by namespace."""
    found = {}
    for namespace in table.data:
        risk = table.enum(namespace, Risk)
        assert risk is not None
        found[namespace] = risk
    return found


def _rollout_entry(table: Table) -> RolloutEntry:
    table.need("namespace", "date", "approver")
    return RolloutEntry(namespace=table.said("namespace"), day=table.day("date"), approver=table.said("approver"))


def _backend(table: Table) -> Backend:
    """The address of a backend, with the headers that it demands; variables of the environment stand in them as ``${NAME}``."""
    if not table.data:
        return Backend()
    table.need("url")
    url = table.said("url")
    if not _URL.fullmatch(url):
        raise table.error("url", "an address such as https://prometheus.example.com, with http or https")
    headers = table.data["headers"] if table.has("headers") else {}
    if not isinstance(headers, dict) or not all(isinstance(value, str) for value in headers.values()):
        raise SettingsError(
            f"{table.file}: headers in {table.place} is not a table of texts; "  # the values may be tokens, so none is quoted
            'write headers = { Authorization = "Bearer ${TOKEN}" }'
        )
    backend = Backend(url=url, headers=MappingProxyType(_from_environment(table, headers)), ca=table.text("ca") or "")
    if backend.ca and not Path(backend.ca).is_file():
        raise table.error("ca", "a file of certificates in PEM, and there is no such file")
    table.close()
    return backend


def _from_environment(table: Table, headers: Mapping[str, str]) -> dict[str, str]:
    """The headers with the environment's variables put in; a repository is no place for a token."""

    def variable(found: re.Match[str]) -> str:
        value = os.environ.get(found[1], "")
        if not value:
            raise SettingsError(
                f"{table.file}: headers in {table.place} name the environment variable {found[1]}, which is not set; export {found[1]}=..."
            )
        return value

    made = {name: _VARIABLE.sub(variable, text) for name, text in headers.items()}
    strange = next(
        (name for name, text in made.items() if not _HEADER.fullmatch(name) or not text.isprintable() or not text.isascii()), None
    )
    if strange is not None:
        raise SettingsError(f"{table.file}: the header {strange!r} in {table.place} cannot be sent: it is not one line of ASCII text")
    return made


def _paths(table: Table) -> dict[str, str]:
    """The path to ask for, by the name of a Service or a workload."""
    found = {name: _path(table, name) for name in table.data}
    table.close()
    return found


def _path(table: Table, key: str) -> str:
    path = table.text(key) or ""
    if not _PATH.fullmatch(path):
        raise table.error(key, "a path such as /healthz, which is safe to ask for with GET")
    return path


def _names(table: Table, key: str, shape: re.Pattern[str], example: str) -> tuple[str, ...]:
    """A list of names of objects."""
    names = table.texts(key) or ()
    strange = next((name for name in names if not shape.fullmatch(name)), None)
    if strange is not None:
        raise SettingsError(f"{table.file}: {key} names {strange!r}; it must be a list of names such as {key} = [{example!r}]")
    return names


def _sidecar_exception(table: Table) -> tuple[str, str]:
    table.need("workload", "reason")
    return table.said("workload"), table.said("reason")


def _deadlines(table: Table) -> Deadlines:
    """The defaults with the seconds of the file."""
    defaults = Deadlines()
    found: dict[str, float] = {}
    for each in fields(Deadlines):
        if not table.has(each.name):
            continue
        value = table.data[each.name]
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
            raise table.error(each.name, f"a positive number of seconds, such as {getattr(defaults, each.name):g}")
        found[each.name] = float(value)
    table.close()
    return replace(defaults, **found)


def _no_twins(name: str, what: str, ids: list[str]) -> None:
    twin = next((id_ for id_ in ids if ids.count(id_) > 1), None)
    if twin is not None:
        raise SettingsError(f"{name}: {what} {twin!r} stands there twice; give each line an id of its own")
