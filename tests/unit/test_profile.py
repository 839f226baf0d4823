"""Lines 3.1.1 and 3.1.2: the profile with which Istio was installed (checks.md 3.1)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pytest_meshready.cluster import objects as o
from pytest_meshready.cluster.meshconfig import parse_values
from pytest_meshready.cluster.snapshot import InjectorConfig, InstallValues, Snapshot
from pytest_meshready.istio.profile import demo_profile_not_used, production_profile
from pytest_meshready.results import Judgement, Level, Status
from tests.unit import builders as make
from tests.unit import whole

BOTH = pytest.mark.parametrize("rule", [production_profile, demo_profile_not_used])
Rule = Callable[[Snapshot], Judgement]

#: What the demo profile leaves, each as a change of a healthy mesh.
SMALL: dict[str, Any] = {"resources": o.Resources(requests={"cpu": "10m", "memory": "100Mi"})}
DEMO_PROXIES = InjectorConfig(proxy_resources=o.Resources(requests={"cpu": 0.01, "memory": "40Mi"}))
DEMO_LOGS = whole.mesh_config(
    access_log_file="/dev/stdout",
    extension_providers=({"name": "otel"}, {"name": "skywalking"}, {"name": "otel-tracing"}, {"name": "jaeger"}, whole.ZIPKIN),
)


def demo_ports() -> o.Service:
    ports = (("status-port", 15021), ("http2", 80), ("https", 443), ("tcp", 31400), ("tls", 15443))
    return make.service("istio-ingressgateway", namespace=make.ISTIO, ports=ports)


def demo(**fields: Any) -> Snapshot:
    """A mesh as ``istioctl install --set profile=demo`` leaves it, without its record."""
    istiod = whole.istiod(env={"PILOT_TRACE_SAMPLING": "100"}, **SMALL)
    defaults: dict[str, Any] = {
        "deployments": (istiod, whole.gateway(), whole.gateway("istio-egressgateway"), make.deployment()),
        "services": (demo_ports(),),
        "horizontalpodautoscalers": (),
        "injector": DEMO_PROXIES,
        "mesh": DEMO_LOGS,
    }
    return whole.mesh(**{**defaults, **fields})


@BOTH
@pytest.mark.parametrize("profile", ["", "default", "ambient", "remote", "openshift", "openshift-ambient", "empty", "acme"])
def test_production_profiles_pass(rule: Rule, profile: str) -> None:
    """The default, the others made for production and one's own pass where nothing else looks like the demo."""
    judgement = rule(whole.mesh(install=InstallValues(profile=profile)))
    assert judgement.status is Status.PASSED
    assert (profile or "names no profile") in judgement.summary


@BOTH
def test_no_record_and_no_mark_pass(rule: Rule) -> None:
    """Before 1.26 nothing is recorded; then what runs decides, and it is said."""
    judgement = rule(whole.mesh())
    assert judgement.status is Status.PASSED
    assert "no record of the installation was found" in judgement.summary


@BOTH
def test_a_record_of_demo_fails(rule: Rule) -> None:
    """The record alone is enough, whatever was changed since, and the ConfigMap of the revision is named."""
    judgement = rule(whole.mesh(install=InstallValues(profile="demo")))
    (finding,) = judgement.findings
    assert (finding.level, str(finding.object)) == (Level.ERROR, "istio-system/ConfigMap/values")
    assert finding.code in ("MR311-DEMO", "MR312-DEMO")


@BOTH
def test_demo_without_a_record_is_known_by_its_marks(rule: Rule) -> None:
    """All seven marks are found in what runs; istiod is named with each of them."""
    (finding,) = rule(demo()).findings
    assert (finding.level, str(finding.object)) == (Level.ERROR, "istio-system/Deployment/istiod")
    for word in ("7 marks", "PILOT_TRACE_SAMPLING", "100Mi", "no autoscaler", "40Mi", "skywalking", "istio-egressgateway", "15443"):
        assert word in finding.found


@BOTH
@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"mesh": whole.mesh_config(access_log_file="/dev/stdout")}, Status.PASSED),
        ({"injector": DEMO_PROXIES}, Status.PASSED),
        ({"horizontalpodautoscalers": ()}, Status.PASSED),
        ({"injector": DEMO_PROXIES, "horizontalpodautoscalers": ()}, Status.WARNED),
        ({"injector": DEMO_PROXIES, "horizontalpodautoscalers": (), "mesh": DEMO_LOGS}, Status.WARNED),
        ({"injector": DEMO_PROXIES, "horizontalpodautoscalers": (), "mesh": DEMO_LOGS, "services": (demo_ports(),)}, Status.FAILED),
    ],
)
def test_marks_are_counted(rule: Rule, fields: dict[str, Any], status: Status) -> None:
    """One mark is legitimate, two or three warn, four fail."""
    assert rule(whole.mesh(**fields)).status is status


def test_only_the_production_line_minds_experimental_profiles() -> None:
    """Preview and stable are experimental by their own word, and no demo."""
    for profile in ("preview", "stable"):
        snapshot = whole.mesh(install=InstallValues(profile=profile))
        assert [f.code for f in production_profile(snapshot).findings] == ["MR311-EXPERIMENTAL"]
        assert production_profile(snapshot).status is Status.WARNED
        assert demo_profile_not_used(snapshot).status is Status.PASSED


@BOTH
@pytest.mark.parametrize("key", ["deployments", "configmaps", "services", "horizontalpodautoscalers", "pods"])
def test_refused_lists_leave_it_open(rule: Rule, key: str) -> None:
    """Without the right to look, nothing is passed; the missing right is named."""
    judgement = rule(whole.mesh(refusals=(make.refusal(key, namespace=make.ISTIO),)))
    assert judgement.status is Status.NOT_VERIFIED
    assert any(unknown.verb == "list" for unknown in judgement.unknown)


@BOTH
def test_a_refused_list_does_not_hide_a_record_of_demo(rule: Rule) -> None:
    """What is known to be wrong fails although something else is unknown."""
    snapshot = whole.mesh(install=InstallValues(profile="demo"), refusals=(make.refusal("services", namespace=make.ISTIO),))
    assert rule(snapshot).status is Status.FAILED


@BOTH
def test_without_istiod_nothing_is_decided(rule: Rule) -> None:
    """A managed control plane shows no marks, and what was not seen does not pass."""
    assert rule(whole.mesh(deployments=(make.deployment(),))).status is Status.NOT_VERIFIED


@BOTH
def test_configuration_that_is_not_there_leaves_it_open(rule: Rule) -> None:
    """An istiod without its ConfigMaps was not fully seen."""
    judgement = rule(whole.mesh(mesh=None, injector=None))
    assert judgement.status is Status.NOT_VERIFIED
    assert "ConfigMap istio and istio-sidecar-injector was not found" in judgement.reason


@BOTH
def test_odd_quantities_and_rates_are_no_marks(rule: Rule) -> None:
    """Requests and rates that are no numbers are not taken for the demo's."""
    odd = whole.istiod(env={"PILOT_TRACE_SAMPLING": "all"}, resources=o.Resources(requests={"cpu": "a lot", "memory": ""}))
    assert rule(whole.mesh(deployments=(odd, make.deployment()))).status is Status.PASSED


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('{"profile": "demo"}', InstallValues(profile="demo")),
        ('{"global": {"profile": "ambient"}}', InstallValues(profile="ambient")),
        ('{"profile": "default", "global": {"profile": "demo"}, "compatibilityVersion": "1.28"}', InstallValues("default", "1.28")),
        ('{"profile": "a text with a secret", "compatibilityVersion": ["1"]}', InstallValues()),
        ("null", InstallValues()),
        ('["profile"]', None),
        ("profile: demo", None),
    ],
)
def test_the_record_is_read(text: str, found: InstallValues | None) -> None:
    """The charts read profile first, then global.profile; only words are kept, and what is no record is none."""
    assert parse_values({"original-values": text}) == found


def test_a_configmap_without_the_record_is_none() -> None:
    """A ConfigMap named values may be anybody's."""
    assert parse_values({"merged-values": "{}"}) is None
