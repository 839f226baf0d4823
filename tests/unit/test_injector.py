"""Tests of the injection decision: the API server's choice of webhooks, then istiod's own."""

from __future__ import annotations

import msgspec
import pytest

from pytest_meshready.cluster import objects as o
from pytest_meshready.cluster.snapshot import ControlPlane, InjectorConfig, Snapshot
from pytest_meshready.istio.injector import (
    Cause,
    Decision,
    control_plane_of,
    injection,
    injector_of,
    installed_revisions,
    known_revisions,
    live_hooks,
)
from tests.unit import builders as b

ENABLED = {"istio-injection": "enabled"}
CANARY = ControlPlane(
    namespace=b.ISTIO, revision="canary", service="istiod-canary", tags=("prod",), webhooks=("istio-sidecar-injector-canary",)
)


def two_revisions(**fields: object) -> Snapshot:
    """The default revision, and canary with the tag prod."""
    webhooks = (*b.default_webhooks(), b.revision_webhook("canary"), b.revision_webhook("canary", tag="prod"))
    return b.snapshot(mutatingwebhookconfigurations=webhooks, control_planes=(b.DEFAULT_PLANE, CANARY), **fields)


def decide(
    snapshot: Snapshot,
    namespace: dict[str, str],
    labels: dict[str, str] | None = None,
    annotations: dict[str, str] | None = None,
    *,
    where: str = "",
    host_network: bool = False,
) -> Decision:
    return injection(snapshot, namespace, labels or {}, annotations or {}, namespace=where, host_network=host_network)


def selector(**labels: str) -> o.LabelSelector:
    return o.LabelSelector(match_labels=labels)


@pytest.mark.parametrize(
    ("namespace", "pod", "configuration", "revision"),
    [
        (ENABLED, {}, "istio-revision-tag-default", "default"),
        ({**ENABLED, "istio.io/rev": "canary"}, {}, "istio-revision-tag-default", "default"),
        ({"istio.io/rev": "default"}, {}, "istio-revision-tag-default", "default"),
        ({"istio.io/rev": "canary"}, {}, "istio-sidecar-injector-canary", "canary"),
        ({"istio.io/rev": "prod"}, {}, "istio-revision-tag-prod", "canary"),
        ({}, {"sidecar.istio.io/inject": "true"}, "istio-revision-tag-default", "default"),
        ({}, {"istio.io/rev": "canary"}, "istio-sidecar-injector-canary", "canary"),
        ({"istio.io/rev": "canary"}, {"istio.io/rev": "default"}, "istio-sidecar-injector-canary", "canary"),
    ],
)
def test_labels_choose_the_configuration(namespace: dict[str, str], pod: dict[str, str], configuration: str, revision: str) -> None:
    """The precedence that Istio bakes into its selectors: istio-injection, the namespace's revision, then the pod's labels."""
    decision = decide(two_revisions(), namespace, pod)
    assert decision.injected is True
    assert decision.configurations == (configuration,)
    assert decision.revision == revision


@pytest.mark.parametrize(
    ("namespace", "pod", "cause"),
    [
        ({}, {}, Cause.NAMESPACE_UNLABELLED),
        ({"istio-injection": "disabled"}, {}, Cause.NAMESPACE_DISABLED),
        ({"istio-injection": "disabled", "istio.io/rev": "canary"}, {}, Cause.NAMESPACE_DISABLED),
        ({"istio-injection": "true"}, {}, Cause.NAMESPACE_DISABLED),
        ({"istio.io/rev": "1-20"}, {}, Cause.NO_REVISION),
        ({}, {"istio.io/rev": "1-20"}, Cause.NO_REVISION),
        ({"istio-injection": "disabled"}, {"sidecar.istio.io/inject": "true"}, Cause.NAMESPACE_DISABLED),
        (ENABLED, {"sidecar.istio.io/inject": "false"}, Cause.POD_LABEL),
        ({}, {"sidecar.istio.io/inject": "false"}, Cause.POD_LABEL),
    ],
)
def test_why_nothing_is_injected(namespace: dict[str, str], pod: dict[str, str], cause: Cause) -> None:
    """Each way not to be injected has its own cause, and the pod's own comes first."""
    decision = decide(two_revisions(), namespace, pod)
    assert (decision.injected, decision.cause, decision.revision) == (False, cause, "")


def test_deactivated_webhooks_do_not_count() -> None:
    """After `istioctl install` only the tag's configuration is alive, so exactly one matches."""
    assert {hook.configuration for hook in live_hooks(b.snapshot())} == {"istio-revision-tag-default"}


def test_deactivated_webhooks_never_match_even_where_a_label_would() -> None:
    """Nobody can bring a deactivated webhook back with a label."""
    snapshot = b.snapshot(mutatingwebhookconfigurations=(b.injector_webhook("istio-sidecar-injector", deactivated=True),))
    never = {"istio.io/deactivated": "never-match"}
    assert decide(snapshot, {**ENABLED, **never}, never).cause is Cause.NO_INJECTOR


def test_two_configurations_are_a_conflict() -> None:
    """With both default configurations alive no revision can be named."""
    webhooks = (b.injector_webhook("istio-revision-tag-default", tag="default"), b.injector_webhook("istio-sidecar-injector"))
    decision = decide(b.snapshot(mutatingwebhookconfigurations=webhooks), ENABLED)
    assert (decision.cause, decision.revision) == (Cause.SEVERAL, "")
    assert decision.configurations == ("istio-revision-tag-default", "istio-sidecar-injector")


def test_other_webhooks_are_not_istios() -> None:
    """A webhook of somebody else that takes every pod is no injector."""
    other = o.MutatingWebhookConfiguration(metadata=b.metadata("vault", ""), webhooks=(o.Webhook(name="vault.hashicorp.com"),))
    snapshot = b.snapshot(mutatingwebhookconfigurations=(other, *b.default_webhooks()))
    assert decide(snapshot, ENABLED).configurations == ("istio-revision-tag-default",)
    assert decide(snapshot, {}).injected is False


def test_missing_selectors_of_a_webhook_select_everything() -> None:
    """The API server reads an absent selector of a webhook as an empty one."""
    bare = o.MutatingWebhookConfiguration(metadata=b.metadata("custom", ""), webhooks=(o.Webhook(name="sidecar-injector.istio.io"),))
    decision = decide(b.snapshot(mutatingwebhookconfigurations=(bare,)), {})
    assert (decision.injected, decision.configurations, decision.revision) == (True, ("custom",), "default")


def test_labels_outside_an_object_selector() -> None:
    """A pod whose labels a changed objectSelector leaves out is not the namespace's fault."""
    hook = o.Webhook(
        name="namespace.sidecar-injector.istio.io",
        namespace_selector=selector(**{"istio-injection": "enabled"}),
        object_selector=o.LabelSelector(match_expressions=(o.LabelExpression(key="batch", operator="DoesNotExist"),)),
    )
    custom = o.MutatingWebhookConfiguration(metadata=b.metadata("custom", ""), webhooks=(hook,))
    assert decide(b.snapshot(mutatingwebhookconfigurations=(custom,)), ENABLED, {"batch": "yes"}).cause is Cause.OBJECT_SELECTOR


def test_the_label_beats_the_annotation() -> None:
    """The label sidecar.istio.io/inject counts before the annotation of the same name."""
    key = "sidecar.istio.io/inject"
    assert decide(b.snapshot(), ENABLED, {key: "true"}, {key: "false"}).injected is True
    assert decide(b.snapshot(), ENABLED, {key: "false"}, {key: "true"}).cause is Cause.POD_LABEL
    assert decide(b.snapshot(), ENABLED, {}, {key: "false"}).cause is Cause.POD_ANNOTATION


def test_odd_values_fall_to_the_policy() -> None:
    """Neither true nor false is the same as nothing."""
    key = "sidecar.istio.io/inject"
    disabled = b.snapshot(injector=InjectorConfig(policy="disabled"))
    for value in ("", "yes", "False"):
        assert decide(b.snapshot(), ENABLED, {key: value}).injected is True
        assert decide(disabled, ENABLED, {key: value}).cause is Cause.POLICY


def test_policy_disabled_injects_only_what_asks() -> None:
    """With policy disabled the pod's word or alwaysInjectSelector is needed."""
    snapshot = b.snapshot(injector=InjectorConfig(policy="disabled", always_inject_selector=(selector(tier="web"),)))
    assert decide(snapshot, ENABLED).cause is Cause.POLICY
    assert decide(snapshot, ENABLED, {"sidecar.istio.io/inject": "true"}).injected is True
    assert decide(snapshot, ENABLED, {"tier": "web"}).injected is True


def test_never_beats_always_and_the_pods_word_beats_both() -> None:
    """Never is looked at before always, and neither where the pod says true; an empty selector selects nothing."""
    config = InjectorConfig(
        policy="enabled", never_inject_selector=(selector(app="x"), selector()), always_inject_selector=(selector(app="x"),)
    )
    snapshot = b.snapshot(injector=config)
    assert decide(snapshot, ENABLED, {"app": "x"}).cause is Cause.NEVER_SELECTOR
    assert decide(snapshot, ENABLED, {"app": "y"}).injected is True
    assert decide(snapshot, ENABLED, {"app": "x", "sidecar.istio.io/inject": "true"}).injected is True


@pytest.mark.parametrize("where", ["kube-system", "kube-public", "kube-node-lease", "local-path-storage"])
def test_system_namespaces_are_left_alone(where: str) -> None:
    """Labels do not help in the namespaces that istiod ignores."""
    assert decide(b.snapshot(), ENABLED, where=where).cause is Cause.SYSTEM_NAMESPACE


def test_the_nodes_network_is_left_alone() -> None:
    """The field hostNetwork wins over everything that asks for injection."""
    decision = decide(b.snapshot(), ENABLED, {"sidecar.istio.io/inject": "true"}, host_network=True)
    assert (decision.injected, decision.cause) == (False, Cause.HOST_NETWORK)


def test_refused_webhooks_leave_the_decision_open() -> None:
    """Without the right to list webhooks only the pod's own reasons are known."""
    snapshot = b.snapshot(mutatingwebhookconfigurations=(), refusals=(b.refusal("mutatingwebhookconfigurations", namespace=""),))
    assert decide(snapshot, ENABLED).injected is None
    assert decide(snapshot, ENABLED).cause is Cause.UNKNOWN
    assert decide(snapshot, ENABLED, host_network=True).cause is Cause.HOST_NETWORK


def test_no_istio_at_all() -> None:
    """A cluster without an injector is said to have none."""
    snapshot = b.snapshot(mutatingwebhookconfigurations=(), control_planes=(), control_plane=None, injector=None, mesh=None)
    assert decide(snapshot, ENABLED).cause is Cause.NO_INJECTOR


def test_unseen_configuration_is_told() -> None:
    """Where the injector's own configuration was not seen, Istio's default policy is assumed and the decision says so."""
    for snapshot in (b.snapshot(injector=None), b.snapshot(injector=InjectorConfig())):
        decision = decide(snapshot, ENABLED)
        assert (decision.injected, decision.policy_known) == (True, False)
    assert decide(b.snapshot(), ENABLED).policy_known


def test_configuration_of_another_revision_is_not_used() -> None:
    """The snapshot's injector belongs to its control plane; for canary's pods it says nothing."""
    snapshot = two_revisions(injector=InjectorConfig(policy="disabled"))
    assert injector_of(snapshot, "canary") is None
    assert decide(snapshot, {"istio.io/rev": "canary"}).policy_known is False
    assert decide(snapshot, ENABLED).cause is Cause.POLICY


def test_tags_resolve_to_control_planes() -> None:
    """A tag and its revision name the same control plane; an unknown name none."""
    snapshot = two_revisions()
    assert control_plane_of(snapshot, "prod") is CANARY
    assert control_plane_of(snapshot, "canary") is CANARY
    assert control_plane_of(snapshot, "default") is b.DEFAULT_PLANE
    assert control_plane_of(snapshot, "1-20") is None
    assert known_revisions(snapshot) == ("default", "canary", "prod")


def test_a_replaced_revision_is_still_installed() -> None:
    """When the default tag moves on, the old revision's webhooks are deactivated while its istiod still serves its proxies."""
    webhooks = (
        b.injector_webhook("istio-revision-tag-default", revision="canary", tag="default"),
        b.injector_webhook("old", deactivated=True),
    )
    snapshot = b.snapshot(mutatingwebhookconfigurations=webhooks, control_planes=())
    assert installed_revisions(snapshot) == ("canary", "default")


def test_unlabelled_configuration_takes_its_control_planes_revision() -> None:
    """A configuration without the label istio.io/rev belongs to the control plane that lists it."""
    plain = msgspec.structs.replace(b.revision_webhook("canary"), metadata=b.metadata("istio-sidecar-injector-canary", ""))
    snapshot = b.snapshot(mutatingwebhookconfigurations=(plain,), control_planes=(CANARY,))
    assert decide(snapshot, {"istio.io/rev": "canary"}).revision == "canary"
