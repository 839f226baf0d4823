"""Settings that the installed version of Istio, or the next one, does not know any more: part of line 11.2.3 (checks.md 11.2.3, 5 h).

What Istio removed is data (`pytest_meshready.istio.changes`). A setting that was removed does nothing, and nobody is told: no error,
no log. One that the next version removes changes what the mesh does on the day of the upgrade.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pytest_meshready.cluster.objects_traffic import EnvoyFilter
from pytest_meshready.cluster.snapshot import Snapshot
from pytest_meshready.istio.callers import mesh_config
from pytest_meshready.istio.changes import DEFAULTS, Change, Kind
from pytest_meshready.istio.components import held_namespaces, istiods
from pytest_meshready.istio.releases import Build, Table, Version
from pytest_meshready.istio.skew import Runner, runners_of
from pytest_meshready.istio.versions import Installed, control_planes
from pytest_meshready.istio.workloads import workloads
from pytest_meshready.results import Finding, Level, ObjectRef

_PROXY_CONFIG = "proxy.istio.io/config"
_DISCOVERY = "discovery"

#: istiod compiles no longer pattern than this and lets it match nothing (maxProxyVersionLen in pilot/pkg/model/envoyfilter.go).
_LONGEST = 1024

#: A repetition of what repeats itself may take for ever here, while istiod's own engine takes no time: such a pattern is not tried.
_HEAVY = re.compile(r"[*+}]\)[*+{?]|\|.*\)[*+{]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """Something that somebody set and where it stands; ``minor`` is the version that reads it, None for the oldest in use."""

    kind: Kind
    name: str
    ref: ObjectRef
    value: str = ""
    minor: int | None = None

    @property
    def said(self) -> str:
        """As a sentence calls it."""
        names = {
            Kind.VARIABLE: "the environment variable {} of istiod",
            Kind.ANNOTATION: "the annotation {}",
            Kind.PROVIDER: "an extension provider of kind {}",
            Kind.TRACER: "tracing.{} in the proxies' configuration",
            Kind.PROXY_CONFIG: "{} in the proxies' configuration",
            Kind.METADATA: "proxyMetadata.{} in the proxies' configuration",
            Kind.COMPATIBILITY: "compatibilityVersion {}",
        }
        return names[self.kind].format(self.name)

    @property
    def keys(self) -> tuple[str, str]:
        """How the table of changes may name it: with its value, or without."""
        return self.name, f"{self.name}={self.value}"


def obsolete(snapshot: Snapshot, table: Table) -> Iterator[Finding]:
    """What is set and was removed, or will be with the next version of Istio.

    Warnings: a setting that the installed version does not read any more; one that the next version removes. Shown: one that is only
    deprecated. What several istiods read is judged by the oldest in use: with the others, too, it does nothing. A vendor's build has
    changes of its own and is not judged.
    """
    minors = {item.ref: found.minor for item in control_planes(snapshot) if (found := _judged(item))}
    if not minors:
        return
    oldest = min(minors.values())
    known: dict[tuple[Kind, str], Change] = {(change.kind, change.name): change for change in table.changes}
    compatible = bool(snapshot.install and snapshot.install.compatibility_version)
    for setting in _settings(snapshot, minors):
        minor = oldest if setting.minor is None else setting.minor
        change = next((known[setting.kind, key] for key in setting.keys if (setting.kind, key) in known), None)
        if change is not None and change.minor <= minor + 1:
            yield _finding(setting, change, minor, by_profile=compatible and setting.kind is Kind.VARIABLE)


def pinned(snapshot: Snapshot) -> Iterator[Finding]:
    """EnvoyFilters that are for versions of proxies that are not there: all of their patches match a ``proxyVersion`` that none has.

    A warning in the namespace of the run, of which all proxies are seen; what stands elsewhere may be meant for proxies elsewhere and
    is only shown, as that is which the next minor version will not match any more.
    """
    found = [runner for runner in runners_of(snapshot) if not runner.daemon]
    planes = [item.version for item in control_planes(snapshot)]
    if not found or any(runner.version is None for runner in found):
        return  # the version of some proxy is not known, so it cannot be told that a pattern matches none
    held = set(held_namespaces(snapshot))
    later = [Version(text="", major=1, minor=plane.minor + 1, patch=0, build=Build.RELEASE) for plane in planes if plane]
    for item in snapshot.envoyfilters:
        patterns = proxy_versions(item)
        if item.metadata.namespace not in held or not patterns or len(patterns) < len(item.spec.config_patches):
            continue
        own = item.metadata.namespace == snapshot.namespace != snapshot.root_namespace
        theirs = [runner for runner in found if not own or runner.ref.namespace == snapshot.namespace]
        matched = [matches(pattern, runner.version) for pattern in patterns for runner in theirs if runner.version]
        if theirs and not any(answer is not False for answer in matched):
            yield _dead_filter(item, patterns, theirs, own=own)
        elif later and not any(matches(pattern, version) is not False for pattern in patterns for version in later):
            yield _will_die(item, patterns, later[0])


def proxy_versions(item: EnvoyFilter) -> tuple[str, ...]:
    """The patterns of its patches, one for each patch that has one."""
    matches_ = (patch.match.proxy for patch in item.spec.config_patches if patch.match is not None)
    return tuple(proxy.proxy_version for proxy in matches_ if proxy is not None and proxy.proxy_version)


def matches(pattern: str, version: Version) -> bool | None:
    """Whether a ``proxyVersion`` finds this version; None where that cannot be told here.

    A development build tells istiod a version that differs from its image's tag in what follows the minor version.
    """
    if len(pattern) > _LONGEST:
        return False
    if _HEAVY.search(pattern):
        return None
    try:
        expression = re.compile(pattern)
    except re.error:
        return None  # istiod's own dialect (RE2) knows some words that Python's does not
    said = {version.text, f"{version.line}.{version.patch or 0}"}
    if version.build is not Build.RELEASE:
        said |= {version.line, f"{version.line}-dev"}
    return any(expression.search(text) for text in said if text)


def upgrade_notes(snapshot: Snapshot, table: Table) -> list[dict[str, str]]:
    """What the next minor version of each istiod in use changes by itself, for the person who plans the upgrade."""
    rows = []
    for minor in sorted({found.minor + 1 for item in control_planes(snapshot) if (found := _judged(item))}):
        what = f"1.{minor} changes by itself"
        if minor > table.changes_up_to:
            rows.append({"what": what, "found": f"not known to the {table}: read its upgrade notes"})
        rows += [{"what": what, "found": default.what} for default in DEFAULTS if default.minor == minor]
    return rows


def _judged(item: Installed) -> Version | None:
    """The version of an istiod whose changes are Istio's own."""
    found = item.version
    return found if found and found.major == 1 and found.build is not Build.VENDOR else None


def _settings(snapshot: Snapshot, minors: Mapping[ObjectRef, int]) -> Iterator[Setting]:
    """Everything in the snapshot that the table of changes may name."""
    for item in istiods(snapshot):
        ref = item.workload.ref
        containers = (c for c in item.workload.template.spec.containers if c.name == _DISCOVERY and ref in minors)
        for variable in (variable for container in containers for variable in container.env):
            yield Setting(kind=Kind.VARIABLE, name=variable.name, ref=ref, minor=minors[ref])
    for namespace in held_namespaces(snapshot):
        for workload in workloads(snapshot, namespace):
            annotations = workload.template.metadata.annotations
            for name, value in annotations.items():
                yield Setting(kind=Kind.ANNOTATION, name=name, value=value, ref=workload.ref)
            if _PROXY_CONFIG in annotations:
                yield from _proxy_config(_parsed(annotations[_PROXY_CONFIG]), workload.ref)
    if snapshot.mesh is not None:
        ref = mesh_config(snapshot)
        for provider in snapshot.mesh.extension_providers:
            yield from (Setting(kind=Kind.PROVIDER, name=kind, ref=ref) for kind in provider if kind != "name")
        yield from _proxy_config(snapshot.mesh.default_config, ref)
    if snapshot.install is not None and snapshot.install.compatibility_version:
        ref = ObjectRef(kind="Namespace", name=snapshot.istio_namespace)
        yield Setting(kind=Kind.COMPATIBILITY, name=snapshot.install.compatibility_version, ref=ref)


def _parsed(text: str) -> Mapping[str, object]:
    """The annotation, which the snapshot keeps as JSON; nothing where it could not be read."""
    try:
        config = json.loads(text)
    except ValueError:
        return {}
    return config if isinstance(config, Mapping) else {}


def _proxy_config(config: Mapping[str, object], ref: ObjectRef) -> Iterator[Setting]:
    for kind, inner in ((Kind.PROXY_CONFIG, config), (Kind.TRACER, config.get("tracing")), (Kind.METADATA, config.get("proxyMetadata"))):
        if isinstance(inner, Mapping):
            yield from (Setting(kind=kind, name=str(name), ref=ref) for name in inner)


def _finding(setting: Setting, change: Change, minor: int, *, by_profile: bool) -> Finding:
    """One setting that the table names."""
    gone = change.minor <= minor
    if change.deprecated:
        code, found = "DEPRECATED", f"{setting.said} is deprecated since 1.{change.minor}, and a later version removes it"
    elif gone:
        code, found = "REMOVED", f"{setting.said} does nothing: 1.{change.minor} removed it, and istiod is 1.{minor}"
    else:
        code, found = "REMOVED-NEXT", f"{setting.said} does nothing from 1.{change.minor} on, the next minor version"
    profile = "; the profile of the compatibility version sets it" if by_profile else ""
    return Finding(
        code=f"MR1123-{code}",
        level=Level.INFO if change.deprecated or by_profile else Level.WARNING,
        object=setting.ref,
        found=f"{found}{profile}",
        wanted=change.instead if change.instead and not change.instead.startswith("nothing") else "the setting left out",
        fix=f"take it out{_before(change, gone=gone)}, where it comes from (values, template, manifest); source: {change.source}",
        detail=f"{setting.kind} {setting.name}",
    )


def _before(change: Change, *, gone: bool) -> str:
    reason = f", because {change.instead.removeprefix('nothing: ')}" if change.instead.startswith("nothing: ") else ""
    return f"{reason}" if gone or change.deprecated else f" before the upgrade to 1.{change.minor}{reason}"


def _dead_filter(item: EnvoyFilter, patterns: tuple[str, ...], proxies: list[Runner], *, own: bool) -> Finding:
    versions = ", ".join(dict.fromkeys(runner.text for runner in proxies))
    seen = "no proxy of its namespace" if own else "no proxy that can be seen here"
    return Finding(
        code="MR1123-FILTER-OF-NOTHING",
        level=Level.WARNING if own else Level.INFO,
        object=_ref(item),
        found=f"it patches proxies of version {_listed(patterns)} alone, and {seen} has that (they are {versions}): it does nothing",
        wanted="an EnvoyFilter for the versions that run, or none",
        fix="take it out, or let it match the version that runs, after a test: "
        f"kubectl -n {item.metadata.namespace} edit envoyfilter {item.metadata.name}",
    )


def _will_die(item: EnvoyFilter, patterns: tuple[str, ...], later: Version) -> Finding:
    return Finding(
        code="MR1123-FILTER-PINNED",
        level=Level.INFO,
        object=_ref(item),
        found=f"it patches proxies of version {_listed(patterns)} alone: with {later.line}, the next minor version, it does nothing",
        wanted="an EnvoyFilter for the next version, tested, before the upgrade",
        fix=f"write one that matches {later.line}: kubectl -n {item.metadata.namespace} get envoyfilter {item.metadata.name} -o yaml",
    )


def _listed(patterns: tuple[str, ...]) -> str:
    return " and ".join(dict.fromkeys(pattern[:80] for pattern in patterns[:3]))


def _ref(item: EnvoyFilter) -> ObjectRef:
    return ObjectRef(kind="EnvoyFilter", namespace=item.metadata.namespace, name=item.metadata.name)
