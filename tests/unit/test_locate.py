"""Which control plane there is, and which one serves the namespace (checks.md 2.1)."""

from __future__ import annotations

import pytest

from pytest_meshready.cluster import locate
from pytest_meshready.cluster.objects import (
    ClientConfig,
    LabelExpression,
    LabelSelector,
    Metadata,
    MutatingWebhookConfiguration,
    Namespace,
    NamespaceMetadata,
    ServiceReference,
    Webhook,
)
from pytest_meshready.cluster.snapshot import ControlPlane, Refusal

NEVER = LabelSelector(match_labels={"istio.io/deactivated": "never-match"})


def configuration(
    name: str,
    *,
    revision: str = "default",
    tag: str = "",
    namespace: str = "istio-system",
    service: str = "istiod",
    url: str = "",
    selector: LabelSelector | None = None,
    webhook: str = "rev.namespace.sidecar-injector.istio.io",
) -> MutatingWebhookConfiguration:
    labels = {"istio.io/rev": revision, "istio.io/tag": tag}
    target = ClientConfig(url=url) if url else ClientConfig(service=ServiceReference(namespace=namespace, name=service))
    hooks = (
        Webhook(name=webhook, client_config=target, namespace_selector=selector),
        Webhook(name=webhook.replace("rev.namespace", "rev.object"), client_config=target, object_selector=selector),
    )
    return MutatingWebhookConfiguration(
        metadata=Metadata(name=name, labels={key: value for key, value in labels.items() if value}), webhooks=hooks
    )


def plane(revision: str, namespace: str = "istio-system", *tags: str) -> ControlPlane:
    return ControlPlane(namespace=namespace, revision=revision, tags=tags)


def chosen(planes: list[ControlPlane], labels: dict[str, str] | None = None, **options: str) -> locate.Choice:
    return locate.choose(planes, namespace="payments", labels=labels, looked_at=3, **options)  # type: ignore[arg-type]


def test_the_default_installation() -> None:
    """A fresh installation has the injector's webhook, deactivated, and the tag ``default`` that replaced it: one control plane."""
    found = locate.control_planes(
        [
            configuration("istio-sidecar-injector", selector=NEVER),
            configuration("istio-revision-tag-default", tag="default"),
            configuration("cert-manager-webhook", webhook="webhook.cert-manager.io", namespace="cert-manager"),
        ]
    )
    assert found == (
        ControlPlane(
            namespace="istio-system", revision="default", service="istiod", tags=("default",), webhooks=("istio-revision-tag-default",)
        ),
    )


def test_a_canary_beside_the_old_revision() -> None:
    """Every revision is a control plane; a tag belongs to its revision, also where it has a service of its own (Istio 1.28)."""
    found = locate.control_planes(
        [
            configuration("istio-revision-tag-prod", revision="1-30", tag="prod", service="istiod-revision-tag-prod"),
            configuration("istio-sidecar-injector-1-30", revision="1-30", service="istiod-1-30"),
            configuration("istio-sidecar-injector-1-31", revision="1-31", service="istiod-1-31"),
        ]
    )
    assert found == (
        ControlPlane(
            namespace="istio-system",
            revision="1-30",
            service="istiod-1-30",
            tags=("prod",),
            webhooks=("istio-revision-tag-prod", "istio-sidecar-injector-1-30"),
        ),
        ControlPlane(namespace="istio-system", revision="1-31", service="istiod-1-31", webhooks=("istio-sidecar-injector-1-31",)),
    )


def test_a_control_plane_outside_the_cluster() -> None:
    """A webhook with an address instead of a service is a control plane without a namespace."""
    url = "https://istiod.example:15017/inject"
    found = locate.control_planes([configuration("istio-sidecar-injector", revision="", url=url)])
    assert found == (ControlPlane(namespace="", revision="default", url=url, webhooks=("istio-sidecar-injector",)),)
    assert chosen(list(found), {}, istio_namespace="external").plane == ControlPlane(
        namespace="external", revision="default", url=url, webhooks=("istio-sidecar-injector",)
    )


def test_other_selectors_do_not_deactivate() -> None:
    """Only the label that nobody has takes a webhook out."""
    selector = LabelSelector(match_expressions=(LabelExpression(key="istio.io/deactivated", operator="DoesNotExist"),))
    assert len(locate.control_planes([configuration("a", selector=selector)])) == 1


@pytest.mark.parametrize("labels", [{}, None, {"istio-injection": "enabled"}, {"istio.io/rev": "gone"}])
def test_the_only_one_serves_everybody(labels: dict[str, str] | None) -> None:
    """With one control plane there is nothing to choose; a label that fits nobody is a finding of the injection's rules."""
    assert chosen([plane("1-31")], labels) == locate.Choice(plane=plane("1-31"))


@pytest.mark.parametrize(
    ("labels", "revision"),
    [
        ({"istio-injection": "enabled"}, "1-30"),
        ({"istio.io/rev": "1-31"}, "1-31"),
        ({"istio.io/rev": "default"}, "1-30"),
        ({"istio.io/rev": "canary"}, "1-31"),
        ({"istio.io/rev": "canary", "istio-injection": "enabled"}, "1-30"),
        ({"istio.io/rev": "1-31", "istio-injection": "disabled"}, "1-31"),
    ],
)
def test_labels_choose_as_istios_selectors_do(labels: dict[str, str], revision: str) -> None:
    """``istio-injection=enabled`` is the default tag and beats ``istio.io/rev``, which is a tag or a revision."""
    choice = chosen([plane("1-30", "istio-system", "default"), plane("1-31", "istio-system", "canary")], labels)
    assert choice.plane is not None
    assert choice.plane.revision == revision


def test_injection_enabled_without_a_tag_is_the_default_revision() -> None:
    """Where nobody has the tag ``default``, the revision of that name is meant."""
    assert chosen([plane("1-31"), plane("default")], {"istio-injection": "enabled"}).plane == plane("default")


def test_options_choose_first() -> None:
    """The options beat labels; a revision may be given by its tag."""
    both = [plane("1-30", "istio-system", "default"), plane("1-31", "mesh", "canary")]
    injected = {"istio-injection": "enabled"}
    assert chosen(both, injected, revision="canary").plane == both[1]
    assert chosen(both, injected, istio_namespace="mesh").plane == both[1]
    assert chosen(both, injected, istio_namespace="istio-system", revision="1-30").plane == both[0]


BOTH = "istio-system/1-30 (tags default) and mesh/1-31"
CHOOSE = f"Istio's control planes are {BOTH}; choose with --mesh-revision=1-30 or --mesh-revision=1-31"


@pytest.mark.parametrize(
    ("labels", "options", "problem"),
    [
        ({}, {}, f"namespace payments has neither label istio-injection=enabled nor istio.io/rev, and there is more than one: {CHOOSE}"),
        (None, {}, f"the labels of namespace payments could not be read, and there is more than one: {CHOOSE}"),
        (
            {"istio.io/rev": "gone"},
            {},
            f"namespace payments has label istio.io/rev=gone, and of the control planes none has this revision or tag: {CHOOSE}",
        ),
        ({}, {"revision": "gone"}, f"--mesh-revision=gone: no such revision or tag, there is {BOTH}"),
        ({}, {"istio_namespace": "gone"}, f"--mesh-istio-namespace=gone: no injector webhook leads there, only to {BOTH}"),
    ],
)
def test_who_cannot_choose_says_what_to_type(labels: dict[str, str] | None, options: dict[str, str], problem: str) -> None:
    """Both control planes are named, and the options that decide."""
    assert chosen([plane("1-30", "istio-system", "default"), plane("1-31", "mesh")], labels, **options) == locate.Choice(problem=problem)


def test_two_of_the_same_revision_are_told_apart_by_namespace() -> None:
    """The option to type is the one that decides."""
    choice = chosen([plane("default", "a"), plane("default", "b")], {"istio-injection": "enabled"})
    assert choice.problem == (
        "namespace payments has label istio-injection=enabled, which fits more than one: "
        "Istio's control planes are a/default and b/default; choose with --mesh-istio-namespace=a or --mesh-istio-namespace=b"
    )


def test_no_istio_at_all() -> None:
    """The sentence says what was looked at and how to look oneself."""
    assert chosen([], {}).problem == (
        "no Istio control plane found: none of the 3 mutating webhook configurations has a webhook of the sidecar injector; "
        "is Istio installed in this cluster? (see: istioctl version; kubectl get mutatingwebhookconfigurations)"
    )


def test_webhooks_that_could_not_be_read() -> None:
    """Without the right to list webhooks the option is believed; without it the missing right is named."""
    refusal = Refusal(
        key="mutatingwebhookconfigurations", verb="list", resource="m", status=403, reason="not permitted: list webhooks (403: no)"
    )
    given = locate.choose([], namespace="payments", labels={}, istio_namespace="mesh", revision="1-31", unread=refusal)
    assert given.plane == plane("1-31", "mesh")
    assert locate.choose([], namespace="payments", labels={}, istio_namespace="mesh", unread=refusal).plane == plane("default", "mesh")
    assert locate.choose([], namespace="payments", labels={}, unread=refusal).problem == (
        "the control plane could not be looked for: not permitted: list webhooks (403: no); "
        "permit that, or name it with --mesh-istio-namespace=NAMESPACE"
    )
    down = Refusal(key="mutatingwebhookconfigurations", verb="list", resource="m", reason="the API server cannot be reached")
    assert locate.choose([], namespace="payments", labels={}, unread=down).problem == (
        "the control plane could not be looked for: the API server cannot be reached"
    )


def test_labels_of_a_namespace() -> None:
    """An unknown namespace has no known labels, which is not the same as none."""
    assert locate.labels_of(None) is None
    assert locate.labels_of(Namespace(metadata=NamespaceMetadata(labels={"a": "b"}))) == {"a": "b"}
