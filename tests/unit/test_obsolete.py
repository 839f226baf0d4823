"""Line 11.2.3: settings that Istio removed, EnvoyFilters for proxies that are not there; line 11.2.4: definitions older than istiod."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_meshready.cluster import objects as o
from pytest_meshready.cluster.objects_traffic import ConfigPatch, EnvoyFilter, EnvoyFilterSpec, PatchMatch, ProxyMatch
from pytest_meshready.cluster.snapshot import InstallValues, Snapshot
from pytest_meshready.istio.changes import CHANGES, DEFAULTS, DEFINED_SINCE, NOTES_UP_TO, Kind
from pytest_meshready.istio.obsolete import matches, obsolete, pinned, upgrade_notes
from pytest_meshready.istio.releases import NEWEST, PACKAGED, version
from pytest_meshready.istio.skew import versions_tracked
from pytest_meshready.istio.upgrades import upgrade_strategy
from pytest_meshready.results import Finding, Level, Status
from tests.unit import builders as make
from tests.unit import whole


def running(
    text: str,
    *,
    env: dict[str, str] | None = None,
    annotations: dict[str, str] | None = None,
    **fields: Any,
) -> Snapshot:
    """A mesh of one version: istiod with further variables, and orders with annotations in its template."""
    orders = make.deployment("orders", annotations=annotations or {})
    pods = whole.team_pods(orders, version=text)
    fields.setdefault("pods", pods)
    return whole.mesh(deployments=(whole.istiod(version=text, env=env), orders), istio_version=text, **fields)


def told(snapshot: Snapshot) -> dict[str, Finding]:
    return {finding.code.removeprefix("MR1123-"): finding for finding in obsolete(snapshot, PACKAGED)}


# --- the table ---------------------------------------------------------------------------------------------------------


def test_every_change_has_a_source() -> None:
    """Each row says what was read, is about a version whose notes were read, and stands once."""
    assert all(change.source and change.name and change.minor <= NOTES_UP_TO for change in CHANGES)
    assert len({(change.kind, change.name) for change in CHANGES}) == len(CHANGES)
    assert all(default.source and default.what and default.minor <= NOTES_UP_TO for default in DEFAULTS)
    assert NOTES_UP_TO >= NEWEST


def test_variables_that_the_table_names_are_kept() -> None:
    """The reading of a cluster drops variables of istiod that nobody asks for; of these it may drop none."""
    names = [change.name for change in CHANGES if change.kind is Kind.VARIABLE]
    assert names
    assert all(name.startswith(o.ENVIRONMENT) for name in names)


# --- settings ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "code", "level"),
    [
        ("1.27.9", "REMOVED", Level.WARNING),
        ("1.26.8", "REMOVED-NEXT", Level.WARNING),
        ("1.25.5", "", None),
        ("1.27.0-dev", "REMOVED", None),
    ],
)
def test_a_variable_that_was_removed(text: str, code: str, level: Level | None) -> None:
    """EXCLUDE_UNSAFE_503_FROM_DEFAULT_RETRY went with 1.27: from then on it does nothing, and before 1.26 nobody need think of it."""
    found = told(running(text, env={"EXCLUDE_UNSAFE_503_FROM_DEFAULT_RETRY": "false"}))
    assert list(found) == ([code] if code else [])
    if level is not None:
        finding = found[code]
        assert (finding.level, str(finding.object)) == (level, "istio-system/Deployment/istiod")
        assert "EXCLUDE_UNSAFE_503_FROM_DEFAULT_RETRY" in finding.found
        assert "1.27" in finding.found


def test_a_switch_that_is_always_on_says_so() -> None:
    """What has nothing instead is taken out, and the reason told."""
    (finding,) = told(running("1.30.3", env={"PILOT_SPAWN_UPSTREAM_SPAN_FOR_GATEWAY": "false"})).values()
    assert finding.wanted == "the setting left out"
    assert "before the upgrade to 1.31, because what it switched on is always on" in finding.fix
    assert "releasenotes" in finding.fix


def test_what_a_compatibility_profile_sets_is_only_shown() -> None:
    """Istio's own profiles still set a switch that 1.31 does not read: that is nobody's mistake."""
    snapshot = running(
        "1.31.0-dev",
        env={"PILOT_SPAWN_UPSTREAM_SPAN_FOR_GATEWAY": "false"},
        install=InstallValues(profile="default", compatibility_version="1.26"),
    )
    assert told(snapshot)["REMOVED"].level is Level.INFO


@pytest.mark.parametrize(
    ("annotations", "text", "codes"),
    [
        ({"sidecar.istio.io/enableCoreDump": "true"}, "1.30.3", ["REMOVED"]),
        ({"sidecar.istio.io/statsCompression": "true"}, "1.28.10", ["REMOVED-NEXT"]),
        ({"traffic.sidecar.istio.io/kubevirtInterfaces": "net1"}, "1.30.3", ["DEPRECATED"]),
        ({"ambient.istio.io/redirection": "disabled"}, "1.30.3", ["REMOVED"]),
        ({"ambient.istio.io/redirection": "enabled"}, "1.30.3", []),
        ({"proxy.istio.io/config": '{"parentShutdownDuration": "1m"}'}, "1.30.3", ["REMOVED"]),
        ({"proxy.istio.io/config": "{"}, "1.30.3", []),
        ({"proxy.istio.io/config": "[]"}, "1.30.3", []),
        ({"sidecar.istio.io/proxyCPU": "1"}, "1.30.3", []),
    ],
)
def test_annotations(annotations: dict[str, str], text: str, codes: list[str]) -> None:
    """An annotation that injector and proxies do not know any more is told of the workload whose template has it."""
    found = told(running(text, annotations=annotations))
    assert list(found) == codes
    assert all(str(finding.object) == "payments/Deployment/orders" for finding in found.values())


def test_providers_and_tracers() -> None:
    """Lightstep went with 1.27: spans that are meant for it are not sent."""
    mesh = whole.mesh_config(
        extension_providers=({"name": "ls", "lightstep": {"service": "x"}},),
        default_config={"tracing": {"openCensusAgent": {"address": "x"}}, "proxyMetadata": {"ISTIO_META_DNS_AUTO_ALLOCATE": "true"}},
    )
    found = list(obsolete(running("1.30.3", mesh=mesh), PACKAGED))
    assert sorted((finding.code, finding.detail) for finding in found) == [
        ("MR1123-DEPRECATED", "proxy metadata ISTIO_META_DNS_AUTO_ALLOCATE"),
        ("MR1123-REMOVED", "provider lightstep"),
        ("MR1123-REMOVED", "tracer openCensusAgent"),
    ]
    assert {str(finding.object) for finding in found} == {"istio-system/ConfigMap/istio"}


@pytest.mark.parametrize(("keeps", "codes"), [("1.24", ["REMOVED-NEXT"]), ("1.23", ["REMOVED"]), ("1.25", []), ("", [])])
def test_a_compatibility_version_that_ends(keeps: str, codes: list[str]) -> None:
    """1.28 has no profile for 1.24 any more: an installation that asks for it fails."""
    snapshot = running("1.27.9", install=InstallValues(compatibility_version=keeps))
    assert list(told(snapshot)) == codes


def test_a_vendors_build_is_not_judged() -> None:
    """It may have kept what Istio removed."""
    assert told(running("1.28.1-solo", env={"METRIC_ROTATION_INTERVAL": "1h"})) == {}


def test_each_istiod_is_judged_by_its_own_version() -> None:
    """A variable of the next revision is removed there, and not yet in the one in use."""
    env = {"PILOT_SPAWN_UPSTREAM_SPAN_FOR_GATEWAY": "false"}
    parts = (whole.istiod(version="1.30.3", env=env), whole.istiod("istiod-1-31", revision="1-31", version="1.31.0", env=env))
    spaces = (make.namespace(make.ISTIO, labels={}), make.namespace(), make.namespace("team-b", labels={"istio.io/rev": "1-31"}))
    found = list(obsolete(whole.mesh(deployments=(*parts, make.deployment()), namespaces=spaces), PACKAGED))
    assert {(finding.object.name, finding.code) for finding in found} == {
        ("istiod", "MR1123-REMOVED-NEXT"),
        ("istiod-1-31", "MR1123-REMOVED"),
    }


def test_the_line_warns() -> None:
    """What was removed keeps line 11.2.3 from passing."""
    judgement = upgrade_strategy(running("1.30.3", env={"PILOT_XDS_SEND_TIMEOUT": "5s"}))
    assert "MR1123-REMOVED" in {finding.code for finding in judgement.findings}
    assert judgement.status is Status.WARNED


def test_what_an_upgrade_changes() -> None:
    """The evidence tells what the next version does otherwise, and says plainly where that is not known."""
    rows = upgrade_notes(running("1.26.8"), PACKAGED)
    assert [row["what"] for row in rows] == ["1.27 changes by itself"]
    assert "native" in rows[0]["found"]
    (unknown,) = upgrade_notes(running("1.31.0-dev"), PACKAGED)
    assert unknown["found"] == "not known to the table of 2026-08-22: read its upgrade notes"


# --- EnvoyFilters --------------------------------------------------------------------------------------------------------


def envoy_filter(*patterns: str, namespace: str = make.NAMESPACE) -> EnvoyFilter:
    patches = tuple(
        ConfigPatch(apply_to="CLUSTER", match=PatchMatch(proxy=ProxyMatch(proxy_version=pattern)) if pattern else None)
        for pattern in patterns
    )
    return EnvoyFilter(metadata=make.metadata("old", namespace), spec=EnvoyFilterSpec(config_patches=patches))


@pytest.mark.parametrize(
    ("patterns", "code"),
    [
        ((r"^1\.29.*",), "FILTER-OF-NOTHING"),
        ((r"^1\.29.*", r"^1\.28.*"), "FILTER-OF-NOTHING"),
        ((r"^1\.30.*",), "FILTER-PINNED"),
        ((r"^1\.29.*", r"^1\.30.*"), "FILTER-PINNED"),
        ((r"1\.3[01]",), ""),
        ((r"^1\.29.*", ""), ""),
        (("",), ""),
        ((r"^1\.(2[0-9]|3\d+)",), ""),
        ((r"^(1+)+$",), ""),
        (("[",), ""),
        ((r"\pN",), ""),
        (("1" * 2000,), "FILTER-OF-NOTHING"),
    ],
)
def test_filters_for_versions(patterns: tuple[str, ...], code: str) -> None:
    """A filter whose every patch is for other versions does nothing; what cannot be decided here is no finding."""
    found = [finding.code.removeprefix("MR1123-") for finding in pinned(running("1.30.3", envoyfilters=(envoy_filter(*patterns),)))]
    assert found == ([code] if code else [])


def test_a_dead_filter_warns_only_where_all_proxies_are_seen() -> None:
    """One of the root namespace may be for proxies of other namespaces."""
    here, everywhere = envoy_filter(r"^1\.29"), envoy_filter(r"^1\.29", namespace=make.ISTIO)
    found = {finding.object.namespace: finding.level for finding in pinned(running("1.30.3", envoyfilters=(here, everywhere)))}
    assert found == {make.NAMESPACE: Level.WARNING, make.ISTIO: Level.INFO}
    assert list(pinned(running("latest", envoyfilters=(here,)))) == []


@pytest.mark.parametrize("pattern", [r"^1\.31.*", r"^1\.31\.0-dev$", r"1\.31-dev", r"^1\.31\.\d+$"])
def test_a_development_build_may_call_itself_otherwise(pattern: str) -> None:
    """The tag of its image is not what the proxy says."""
    found = version("1.31.0-dev")
    assert found is not None
    assert matches(pattern, found) is True


# --- definitions ---------------------------------------------------------------------------------------------------------


def without(key: str, text: str) -> list[str]:
    """What line 11.2.4 says where the API server does not know a kind."""
    judgement = versions_tracked(running(text, refusals=(make.refusal(key, namespace="", absent=True),)))
    return [finding.code for finding in judgement.findings]


@pytest.mark.parametrize(
    ("key", "text", "old"),
    [
        ("trafficextensions", "1.30.3", True),
        ("trafficextensions", "1.29.6", False),
        ("virtualservices", "1.22.8", True),
        ("wasmplugins", "1.30.3", False),
    ],
)
def test_definitions_older_than_istiod(key: str, text: str, old: bool) -> None:
    """TrafficExtension came with 1.30: an istiod of 1.30 without it has the definitions of an earlier version."""
    assert without(key, text) == (["MR1124-CRDS-OLD"] if old else [])


def test_the_kinds_that_tell_are_read() -> None:
    """A refused list leaves the line open."""
    assert set(DEFINED_SINCE) == {"virtualservices", "telemetries", "trafficextensions"}
    judgement = versions_tracked(running("1.30.3", refusals=(make.refusal("trafficextensions"),)))
    assert judgement.status is Status.NOT_VERIFIED
