"""Line 11.2.3: the namespace can follow an upgrade of Istio by itself (checks.md 11.2.3)."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from pytest_meshready.cluster import objects as o
from pytest_meshready.cluster.objects_traffic import EnvoyFilter
from pytest_meshready.cluster.snapshot import ControlPlane, InstallValues, Snapshot
from pytest_meshready.istio.upgrades import upgrade_strategy
from pytest_meshready.results import Judgement, Level, Status
from tests.unit import builders as make
from tests.unit import whole


def plane(revision: str, *tags: str) -> ControlPlane:
    return ControlPlane(namespace=make.ISTIO, revision=revision, service=f"istiod-{revision}", tags=tags)


def by_revision(labels: dict[str, str], *planes: ControlPlane, **fields: Any) -> Snapshot:
    """A mesh whose only istiods have revisions."""
    webhooks = tuple(make.revision_webhook(item.revision) for item in planes)
    parts = (*(whole.istiod(f"istiod-{item.revision}", revision=item.revision) for item in planes), make.deployment())
    defaults: dict[str, Any] = {
        "namespaces": (make.namespace(make.ISTIO, labels={}), make.namespace(labels=labels)),
        "control_planes": planes,
        "control_plane": planes[0],
        "mutatingwebhookconfigurations": webhooks,
        "deployments": parts,
        "pods": (),
    }
    return whole.mesh(**{**defaults, **fields})


def codes(judgement: Judgement) -> dict[str, Level]:
    return {finding.code.removeprefix("MR1123-"): finding.level for finding in judgement.findings}


def test_an_upgrade_in_place_warns() -> None:
    """A namespace that follows the only istiod moves with the whole mesh."""
    judgement = upgrade_strategy(whole.mesh())
    assert judgement.status is Status.WARNED
    (finding,) = judgement.findings
    assert (finding.code, str(finding.object)) == ("MR1123-IN-PLACE", "Namespace/payments")
    assert finding.fix.endswith("kubectl label namespace payments istio-injection- istio.io/rev=TAG --overwrite")


@pytest.mark.parametrize(
    ("labels", "planes"),
    [
        ({"istio.io/rev": "1-30"}, (plane("1-30"),)),
        ({"istio.io/rev": "prod"}, (plane("1-30", "prod"),)),
        ({"istio-injection": "enabled"}, (plane("1-30", "default"),)),
        ({"istio.io/rev": "prod"}, (plane("1-30", "prod"), plane("1-31"))),
    ],
)
def test_revisions_and_tags_pass(labels: dict[str, str], planes: tuple[ControlPlane, ...]) -> None:
    """By revision, by tag, by the tag ``default``, and while the next revision is there."""
    judgement = upgrade_strategy(by_revision(labels, *planes))
    assert judgement.status is Status.PASSED
    assert "can be upgraded by itself" in judgement.summary


def test_three_revisions_fail() -> None:
    """One upgrade needs two revisions; a third was forgotten."""
    judgement = upgrade_strategy(by_revision({"istio.io/rev": "c"}, plane("c"), plane("a"), plane("b")))
    (finding,) = judgement.findings
    assert (finding.code, finding.level) == ("MR1123-REVISIONS", Level.ERROR)
    assert "3 revisions of Istio are installed: a, b, c" in finding.found
    assert "uses a, b" in finding.found


def test_a_proxy_of_a_removed_revision_fails() -> None:
    """Nobody gives such a proxy configuration any more."""
    orders = make.deployment()
    pods = whole.team_pods(orders, revision="1-27")
    judgement = upgrade_strategy(whole.mesh(deployments=(whole.istiod(), orders), pods=pods))
    gone = next(finding for finding in judgement.findings if finding.code == "MR1123-REVISION-GONE")
    assert (gone.level, str(gone.object)) == (Level.ERROR, "payments/Deployment/orders")
    assert "revision 1-27, which is not installed any more" in gone.found


def test_what_an_upgrade_may_break_is_listed() -> None:
    """EnvoyFilters stand in the evidence, a compatibility version is shown, and neither changes the status."""
    patch = EnvoyFilter(metadata=make.metadata("rate-limit", make.ISTIO))
    snapshot = by_revision(
        {"istio.io/rev": "1-30"}, plane("1-30"), envoyfilters=(patch,), install=InstallValues(compatibility_version="1.28")
    )
    judgement = upgrade_strategy(snapshot)
    assert judgement.status is Status.PASSED
    assert codes(judgement) == {"COMPATIBILITY": Level.INFO}
    assert {"what": "EnvoyFilters, which a new version may break", "found": "istio-system/rate-limit"} in judgement.evidence[0].data


def test_the_end_of_support_is_told() -> None:
    """Who states a date needs the end of support of what runs; once the table cannot know it, it says so."""
    row = "istio-system/Deployment/istiod (revision default)"
    for day, until in ((date(2026, 9, 1), "at least 2026-12-02"), (date(2027, 1, 1), "not known")):
        told = {item["what"]: item["found"] for item in upgrade_strategy(whole.mesh(), today=day).evidence[0].data}
        assert told[row] == f"1.30.3, supported until: {until}"


def test_an_istiod_outside_of_the_cluster_is_upgraded_by_others() -> None:
    """Who runs it decides how it is upgraded."""
    managed = ControlPlane(namespace="", revision="default", url="https://istiod.example.com/inject", tags=("default",))
    fields: dict[str, Any] = {"control_planes": (managed,), "control_plane": managed, "deployments": (make.deployment(),)}
    assert "IN-PLACE" not in codes(upgrade_strategy(whole.mesh(**fields)))


def test_an_ambient_namespace_passes() -> None:
    """Only waypoints follow a revision; that ztunnel is upgraded in place is told."""
    spaces = (make.namespace(make.ISTIO, labels={}), make.namespace(labels={"istio.io/dataplane-mode": "ambient"}))
    judgement = upgrade_strategy(whole.mesh(namespaces=spaces))
    assert judgement.status is Status.PASSED
    assert any("ztunnel" in row["what"] for row in judgement.evidence[0].data)


def test_a_namespace_outside_of_the_mesh_is_not_verified() -> None:
    """No istiod's upgrade moves it."""
    spaces = (make.namespace(make.ISTIO, labels={}), make.namespace(labels={}))
    assert upgrade_strategy(whole.mesh(namespaces=spaces)).status is Status.NOT_VERIFIED


@pytest.mark.parametrize("key", ["envoyfilters", "namespaces", "pods", "mutatingwebhookconfigurations"])
def test_refused_lists_leave_it_open(key: str) -> None:
    """Without the right to look nothing passes."""
    judgement = upgrade_strategy(by_revision({"istio.io/rev": "1-30"}, plane("1-30"), refusals=(make.refusal(key),)))
    assert judgement.status is Status.NOT_VERIFIED


def test_odd_labels_are_no_exception() -> None:
    """A revision that nobody has, and pods that say nothing of theirs."""
    pod = make.meshed_pod(annotations={"sidecar.istio.io/status": "[]", "istio.io/rev": ""})
    judgement = upgrade_strategy(by_revision({"istio.io/rev": "gone"}, plane("1-30"), pods=(pod, o.Pod())))
    assert judgement.status in (Status.PASSED, Status.NOT_VERIFIED)
