"""Tests of lines 4.1.2 and 4.1.3: how injection is switched on, and for how much of the cluster."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from pytest_meshready.cluster import objects as o
from pytest_meshready.cluster.snapshot import ControlPlane, InjectorConfig, MeshConfig, Snapshot
from pytest_meshready.istio.injection import CLUSTER_READS, LABEL_READS, cluster_wide_injection, injection_by_label
from pytest_meshready.results import Judgement, Status
from tests.unit import builders as b

ISTIOD = b.deployment("istiod", namespace=b.ISTIO, labels=b.ISTIOD_LABELS)
CANARY = ControlPlane(
    namespace=b.ISTIO, revision="canary", service="istiod-canary", tags=("prod",), webhooks=("istio-sidecar-injector-canary",)
)


def with_labels(labels: dict[str, str], **fields: Any) -> Snapshot:
    """The healthy cluster, with these labels on the namespace of the run."""
    fields.setdefault("deployments", (ISTIOD,))
    return b.snapshot(namespaces=(b.namespace(b.ISTIO, labels={}), b.namespace(labels=labels)), **fields)


def found(judgement: Judgement) -> set[tuple[str, str]]:
    return {(finding.code, finding.level.value) for finding in judgement.findings}


def with_webhook(**changes: Any) -> tuple[o.MutatingWebhookConfiguration, ...]:
    """The default configurations, with every webhook of the tag's changed."""
    tag, base = b.default_webhooks()
    webhooks = tuple(msgspec.structs.replace(webhook, **changes) for webhook in tag.webhooks)
    return (msgspec.structs.replace(tag, webhooks=webhooks), base)


# --- 4.1.2 ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("labels", [{"istio-injection": "enabled"}, {"istio.io/rev": "default"}])
def test_one_label_and_one_live_injector_pass(labels: dict[str, str]) -> None:
    """The healthy shop: one label, one configuration, a ready istiod."""
    judgement = injection_by_label(with_labels(labels))
    assert (judgement.status, judgement.examined) == (Status.PASSED, 1)
    assert "istio-revision-tag-default injects it with revision default" in judgement.summary


@pytest.mark.parametrize("label", ["canary", "prod"])
def test_revision_and_tag_resolve_to_a_live_istiod(label: str) -> None:
    """A revision and a tag that points to it are both good, if that revision's istiod is there."""
    webhooks = (*b.default_webhooks(), b.revision_webhook("canary"), b.revision_webhook("canary", tag="prod"))
    planes: dict[str, Any] = {"control_planes": (b.DEFAULT_PLANE, CANARY), "control_plane": CANARY}
    labels = {**b.ISTIOD_LABELS, "istio.io/rev": "canary"}
    istiod = b.deployment("istiod-canary", namespace=b.ISTIO, labels=labels)
    healthy = with_labels({"istio.io/rev": label}, mutatingwebhookconfigurations=webhooks, deployments=(ISTIOD, istiod), **planes)
    assert injection_by_label(healthy).status is Status.PASSED
    gone = with_labels({"istio.io/rev": label}, mutatingwebhookconfigurations=webhooks, **planes)
    assert found(injection_by_label(gone)) == {("MR412-NO-ISTIOD", "error")}


def test_two_labels_warn_and_say_which_wins() -> None:
    """Fault two-labels: istio-injection=enabled beside the revision of a control plane that does not exist."""
    judgement = injection_by_label(with_labels({"istio-injection": "enabled", "istio.io/rev": "canary"}))
    assert judgement.status is Status.WARNED
    assert found(judgement) == {("MR412-TWO-LABELS", "warning")}
    finding = judgement.findings[0]
    assert str(finding.object) == "Namespace/payments"
    assert "the first wins" in finding.found
    assert "no control plane of revision canary" in finding.found
    assert finding.fix.endswith("kubectl label namespace payments istio.io/rev-")


def test_no_label_fails() -> None:
    """Fault namespace-unlabelled: no label, and no pod asks by itself."""
    judgement = injection_by_label(with_labels({}, pods=b.pods_of(b.deployment(), meshed=False)))
    assert found(judgement) == {("MR412-NO-LABEL", "error")}
    assert "kubectl label --overwrite namespace payments istio-injection=enabled" in judgement.findings[0].fix


def test_the_fix_names_a_label_that_an_injector_answers_to() -> None:
    """Where there is no default revision the command uses the revision that exists."""
    snapshot = with_labels({}, mutatingwebhookconfigurations=(b.revision_webhook("1-30"),))
    assert injection_by_label(snapshot).findings[0].fix.endswith("namespace payments istio.io/rev=1-30")


def test_pod_level_injection_alone_warns() -> None:
    """If every pod asks by its own label the mesh is complete today, but not by the namespace's label."""
    asking = b.meshed_pod(labels={"app": "orders", "sidecar.istio.io/inject": "true"})
    assert found(injection_by_label(with_labels({}, pods=(asking,)))) == {("MR412-POD-LEVEL", "warning")}
    some = injection_by_label(with_labels({}, pods=(asking, b.pod("other"))))
    assert found(some) == {("MR412-NO-LABEL", "error")}


@pytest.mark.parametrize(
    ("labels", "code"),
    [
        ({"istio-injection": "disabled"}, "MR412-DISABLED"),
        ({"istio-injection": "True"}, "MR412-DISABLED"),
        ({"istio-injection": "disabled", "istio.io/rev": "default"}, "MR412-DISABLED"),
        ({"istio.io/rev": "1-20"}, "MR412-NO-REVISION"),
    ],
)
def test_labels_that_inject_nothing_fail(labels: dict[str, str], code: str) -> None:
    """A label that switches off, has an odd value, or names nobody injects nothing."""
    assert found(injection_by_label(with_labels(labels))) == {(code, "error")}


def test_no_default_revision_fails_with_the_command_for_the_tag() -> None:
    """With revisions but no default, istio-injection=enabled is answered by nobody."""
    snapshot = with_labels({"istio-injection": "enabled"}, mutatingwebhookconfigurations=(b.revision_webhook("1-30"),))
    judgement = injection_by_label(snapshot)
    assert found(judgement) == {("MR412-NO-REVISION", "error")}
    assert "istioctl tag set default" in judgement.findings[0].fix


def test_two_injectors_fail() -> None:
    """Two live configurations for the same pods are named."""
    webhooks = (b.injector_webhook("istio-revision-tag-default", tag="default"), b.injector_webhook("istio-sidecar-injector"))
    judgement = injection_by_label(with_labels({"istio-injection": "enabled"}, mutatingwebhookconfigurations=webhooks))
    assert found(judgement) == {("MR412-TWO-INJECTORS", "error")}
    assert "istio-revision-tag-default, istio-sidecar-injector" in judgement.findings[0].found


def test_ignoring_failures_warns() -> None:
    """With failurePolicy Ignore pods start without a sidecar while istiod is away."""
    snapshot = with_labels({"istio-injection": "enabled"}, mutatingwebhookconfigurations=with_webhook(failure_policy="Ignore"))
    assert found(injection_by_label(snapshot)) == {("MR412-FAILURE-POLICY", "warning")}


def test_an_istiod_without_ready_replicas_fails() -> None:
    """The label is right and nobody answers."""
    idle = b.deployment("istiod", namespace=b.ISTIO, labels=b.ISTIOD_LABELS, ready=0)
    judgement = injection_by_label(with_labels({"istio-injection": "enabled"}, deployments=(idle,)))
    assert found(judgement) == {("MR412-NO-ISTIOD", "error")}
    assert "no ready replica" in judgement.findings[0].found


def test_an_istiod_outside_the_cluster_is_not_looked_for() -> None:
    """A managed control plane has an address and no Deployment."""
    managed = b.injector_webhook("istio-revision-tag-default", tag="default", url="https://istiod.example.com/inject")
    snapshot = with_labels({"istio-injection": "enabled"}, mutatingwebhookconfigurations=(managed,), deployments=())
    assert injection_by_label(snapshot).status is Status.PASSED


def test_an_istiod_in_a_namespace_that_was_not_read_is_not_verified() -> None:
    """What lies outside the snapshot is unknown, not missing."""
    elsewhere = with_webhook(client_config=o.ClientConfig(service=o.ServiceReference(namespace="mesh-2", name="istiod")))
    judgement = injection_by_label(with_labels({"istio-injection": "enabled"}, mutatingwebhookconfigurations=elsewhere))
    assert judgement.status is Status.NOT_VERIFIED
    assert "mesh-2" in judgement.reason


def test_policy_disabled_fails() -> None:
    """The webhook is asked, and then injects only what asks by itself."""
    snapshot = with_labels({"istio-injection": "enabled"}, injector=InjectorConfig(policy="disabled"))
    assert found(injection_by_label(snapshot)) == {("MR412-POLICY", "error")}


def test_unseen_injector_configuration_is_not_verified() -> None:
    """Without the ConfigMap the policy is unknown; a refusal names the right."""
    absent = injection_by_label(with_labels({"istio-injection": "enabled"}, injector=None))
    assert absent.status is Status.NOT_VERIFIED
    refused = with_labels({"istio-injection": "enabled"}, injector=None, refusals=(b.refusal("configmaps", namespace=b.ISTIO),))
    assert [u.resource for u in injection_by_label(refused).unknown] == ["configmaps"]


def test_a_namespace_that_istiod_does_not_watch_fails() -> None:
    """The discoverySelectors must select the namespace, any one of them."""
    selectors = tuple(o.LabelSelector(match_labels={"mesh": value}) for value in ("a", "b"))
    mesh = MeshConfig(discovery_selectors=selectors)
    outside = with_labels({"istio-injection": "enabled"}, mesh=mesh)
    assert found(injection_by_label(outside)) == {("MR412-NOT-DISCOVERED", "error")}
    inside = with_labels({"istio-injection": "enabled", "mesh": "b"}, mesh=mesh)
    assert injection_by_label(inside).status is Status.PASSED


def test_ambient_is_said_plainly() -> None:
    """An ambient namespace injects nothing and passes as what it is."""
    judgement = injection_by_label(with_labels({"istio.io/dataplane-mode": "ambient"}))
    assert judgement.status is Status.PASSED
    assert "is ambient" in judgement.summary
    selective = MeshConfig(discovery_selectors=(o.LabelSelector(match_labels={"mesh": "a"}),))
    outside = injection_by_label(with_labels({"istio.io/dataplane-mode": "ambient"}, mesh=selective))
    assert found(outside) == {("MR412-NOT-DISCOVERED", "error")}
    assert outside.findings[0].found == "meshConfig.discoverySelectors leave it out: istiod tells ztunnel nothing of its pods"


def test_what_control_planes_there_are_is_not_guessed() -> None:
    """Where webhooks were not read, as in manifests, no revision is said to be missing."""
    both = {"istio-injection": "enabled", "istio.io/rev": "canary"}
    refused = (b.refusal("mutatingwebhookconfigurations", namespace=""),)
    blind = injection_by_label(with_labels(both, mutatingwebhookconfigurations=(), control_planes=(), refusals=refused))
    assert blind.findings[0].found.endswith("the first wins, the second has no effect")
    assert injection_by_label(with_labels(both)).findings[0].found.endswith("there is no control plane of revision canary")


def test_sidecar_and_ambient_labels_warn() -> None:
    """Two data planes for one namespace are a contradiction."""
    judgement = injection_by_label(with_labels({"istio-injection": "enabled", "istio.io/dataplane-mode": "ambient"}))
    assert found(judgement) == {("MR412-SIDECAR-AND-AMBIENT", "warning")}


def test_no_istio_is_said_plainly() -> None:
    """Before the installation there is no injector, and the line says that."""
    bare: dict[str, Any] = {
        "mutatingwebhookconfigurations": (),
        "control_planes": (),
        "control_plane": None,
        "injector": None,
        "mesh": None,
    }
    for labels in ({}, {"istio-injection": "enabled"}):
        judgement = injection_by_label(with_labels(labels, **bare))
        assert found(judgement) == {("MR412-NO-INJECTOR", "error")}


def test_a_system_namespace_fails() -> None:
    """Whatever its labels, istiod injects nothing into kube-system."""
    snapshot = b.snapshot(namespace="kube-system", namespaces=(b.namespace("kube-system"),), deployments=(ISTIOD,))
    assert found(injection_by_label(snapshot)) == {("MR412-SYSTEM-NAMESPACE", "error")}


@pytest.mark.parametrize("key", ["namespaces", "mutatingwebhookconfigurations", "deployments"])
def test_refused_lists_are_not_verified(key: str) -> None:
    """Each list that the line needs is named when it is refused."""
    cluster_wide = key != "deployments"
    empty: dict[str, Any] = {key: ()}
    fields = {"deployments": (ISTIOD,), **empty, "refusals": (b.refusal(key, namespace="" if cluster_wide else b.ISTIO),)}
    judgement = injection_by_label(b.snapshot(**fields))
    assert judgement.status is Status.NOT_VERIFIED
    assert key in {unknown.resource.partition(".")[0] for unknown in judgement.unknown}


def test_the_namespace_alone_is_enough() -> None:
    """Where namespaces may not be listed but this one may be read, nothing is missing."""
    snapshot = b.snapshot(namespaces=(b.namespace(),), deployments=(ISTIOD,), refusals=(b.refusal("namespaces", namespace=""),))
    assert injection_by_label(snapshot).status is Status.PASSED


def test_unread_mesh_configuration_is_not_verified() -> None:
    """Without it discoverySelectors are unknown; where it is only absent there are none."""
    refused = (b.refusal("configmaps", namespace=b.ISTIO),)
    assert injection_by_label(with_labels({"istio-injection": "enabled"}, mesh=None, refusals=refused)).status is Status.NOT_VERIFIED
    assert injection_by_label(with_labels({"istio-injection": "enabled"}, mesh=None)).status is Status.PASSED


def test_a_missing_label_fails_even_where_webhooks_are_refused() -> None:
    """What the namespace itself shows needs no webhook."""
    refused = (b.refusal("mutatingwebhookconfigurations", namespace=""),)
    assert injection_by_label(with_labels({}, mutatingwebhookconfigurations=(), refusals=refused)).status is Status.FAILED


def test_a_namespace_that_is_not_there_is_not_verified() -> None:
    """A snapshot without its own namespace passes nothing."""
    assert injection_by_label(b.snapshot(namespaces=())).status is Status.NOT_VERIFIED


def test_labels_of_the_team_stay_out_of_the_evidence() -> None:
    """Only labels that decide are shown."""
    judgement = injection_by_label(with_labels({"istio-injection": "enabled", "cost-centre": "4711"}))
    assert judgement.evidence[0].data == {"istio-injection": "enabled"}


# --- 4.1.3 ------------------------------------------------------------------------------------------------------------


def test_webhooks_that_ask_for_a_label_pass() -> None:
    """The default installation takes only what is labelled, and the share of namespaces is told."""
    judgement = cluster_wide_injection(b.snapshot(namespaces=(b.namespace(b.ISTIO, labels={}), b.namespace(), b.namespace("x", labels={}))))
    assert (judgement.status, judgement.examined) == (Status.PASSED, 4)
    assert judgement.summary.endswith("1 of 2 namespaces carry one")


def test_an_auto_webhook_fails() -> None:
    """The webhook that enableNamespacesByDefault adds takes unlabelled namespaces."""
    auto = o.Webhook(
        name="auto.sidecar-injector.istio.io",
        namespace_selector=o.LabelSelector(
            match_expressions=(
                o.LabelExpression(key="istio-injection", operator="DoesNotExist"),
                o.LabelExpression(key="istio.io/rev", operator="DoesNotExist"),
                o.LabelExpression(key="kubernetes.io/metadata.name", operator="NotIn", values=("kube-system", "istio-system")),
            )
        ),
    )
    configuration = o.MutatingWebhookConfiguration(metadata=b.metadata("istio-sidecar-injector", ""), webhooks=(auto,))
    judgement = cluster_wide_injection(b.snapshot(mutatingwebhookconfigurations=(configuration,)))
    assert found(judgement) == {("MR413-CLUSTER-WIDE", "error")}
    assert "auto.sidecar-injector.istio.io" in judgement.findings[0].found


def test_a_hand_edited_selector_fails_once_per_configuration() -> None:
    """Selectors that were emptied by hand are found by what they match, not by their name."""
    judgement = cluster_wide_injection(
        b.snapshot(mutatingwebhookconfigurations=with_webhook(namespace_selector=o.LabelSelector(), object_selector=None))
    )
    assert [(f.code, f.object.name) for f in judgement.findings] == [("MR413-CLUSTER-WIDE", "istio-revision-tag-default")]


def test_the_setting_without_the_webhook_warns() -> None:
    """The setting alone takes effect with the next installation."""
    config = InjectorConfig(policy="enabled", enable_namespaces_by_default=True)
    judgement = cluster_wide_injection(b.snapshot(injector=config))
    assert found(judgement) == {("MR413-BY-DEFAULT", "warning")}


def test_a_labelled_system_namespace_warns() -> None:
    """Pods of kube-system would wait for istiod, which injects none of them."""
    judgement = cluster_wide_injection(b.snapshot(namespaces=(b.namespace("kube-system"), b.namespace())))
    assert found(judgement) == {("MR413-SYSTEM-NAMESPACE", "warning")}


def test_no_injector_is_not_applicable() -> None:
    """A permitted and empty list shows that nothing is injected anywhere."""
    judgement = cluster_wide_injection(b.snapshot(mutatingwebhookconfigurations=(), injector=None))
    assert judgement.status is Status.NOT_APPLICABLE


def test_refused_webhooks_are_not_verified() -> None:
    """An empty list that was refused shows nothing."""
    refused = (b.refusal("mutatingwebhookconfigurations", namespace=""),)
    judgement = cluster_wide_injection(b.snapshot(mutatingwebhookconfigurations=(), refusals=refused))
    assert judgement.status is Status.NOT_VERIFIED


def test_webhooks_decide_without_the_configmap() -> None:
    """What the webhooks match is the whole truth about injection now; the setting only explains."""
    refused = (b.refusal("configmaps", namespace=b.ISTIO),)
    assert cluster_wide_injection(b.snapshot(injector=None, refusals=refused)).status is Status.PASSED


def test_what_is_read_is_declared() -> None:
    """With only the declared kinds read, both rules reach a verdict."""
    assert injection_by_label(with_labels({"istio-injection": "enabled"}, read=LABEL_READS)).status is Status.PASSED
    assert cluster_wide_injection(b.snapshot(read=CLUSTER_READS)).status is Status.PASSED
