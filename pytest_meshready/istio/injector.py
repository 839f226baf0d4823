"""Whether Istio would inject a pod if it were created now: the API server's choice of webhooks, then istiod's own decision.

Reproduced from the webhooks' selectors as the API server evaluates them and from ``injectRequired`` in istiod's
pkg/kube/inject/inject.go (checks.md 2.3). Facts about running pods are in `pytest_meshready.istio.dataplane`.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass

from pytest_meshready.cluster.objects import LabelSelector, MutatingWebhookConfiguration, Webhook
from pytest_meshready.cluster.snapshot import ControlPlane, InjectorConfig, Snapshot, selects
from pytest_meshready.istio.dataplane import REVISION, SYSTEM_NAMESPACES

INJECTION = "istio-injection"
INJECT = "sidecar.istio.io/inject"
TAG = "istio.io/tag"
MODE = "istio.io/dataplane-mode"

_SUFFIX = "sidecar-injector.istio.io"
_DEACTIVATED = ("istio.io/deactivated", "never-match")


class Cause(enum.StrEnum):
    """Why a pod is injected or not."""

    INJECTED = "injected"
    SEVERAL = "several injectors"
    UNKNOWN = "webhooks not known"
    HOST_NETWORK = "host network"
    SYSTEM_NAMESPACE = "system namespace"
    POD_LABEL = "label of the pod"
    POD_ANNOTATION = "annotation of the pod"
    NO_INJECTOR = "no injector"
    NAMESPACE_UNLABELLED = "namespace unlabelled"
    NAMESPACE_DISABLED = "namespace disabled"
    NO_REVISION = "no such revision"
    OBJECT_SELECTOR = "object selector"
    NEVER_SELECTOR = "never selector"
    POLICY = "policy"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hook:
    """One webhook of an Istio injector that can match; ``revision`` is istiod's, ``tag`` the name that points to it."""

    configuration: str
    revision: str
    tag: str
    webhook: Webhook

    def matches(self, namespace_labels: Mapping[str, str], pod_labels: Mapping[str, str]) -> bool:
        """Whether the API server would ask this webhook about a pod with these labels."""
        return _webhook_selects(self.webhook.namespace_selector, namespace_labels) and _webhook_selects(
            self.webhook.object_selector, pod_labels
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What would happen to a pod that is created now.

    ``injected`` is None where it is not known. ``configurations`` are the MutatingWebhookConfigurations that match;
    ``revision`` is empty unless exactly one matches. ``policy_known`` is false where the injector's own configuration was
    not seen and Istio's default, ``enabled``, was assumed. ``reason`` is a clause that names what decided.
    """

    injected: bool | None
    cause: Cause
    reason: str
    hooks: tuple[Hook, ...] = ()
    revision: str = ""
    policy_known: bool = True

    @property
    def configurations(self) -> tuple[str, ...]:
        """The names of the configurations that match, in the cluster's order."""
        return tuple(dict.fromkeys(hook.configuration for hook in self.hooks))


def live_hooks(snapshot: Snapshot) -> tuple[Hook, ...]:
    """Every webhook of an Istio injector, less those that ``istioctl tag`` has deactivated."""
    return tuple(
        Hook(
            configuration=configuration.metadata.name,
            revision=_revision(snapshot, configuration),
            tag=configuration.metadata.labels.get(TAG, ""),
            webhook=webhook,
        )
        for configuration in snapshot.mutatingwebhookconfigurations
        for webhook in configuration.webhooks
        if webhook.name.endswith(_SUFFIX) and not _deactivated(webhook)
    )


def matching(snapshot: Snapshot, namespace_labels: Mapping[str, str], pod_labels: Mapping[str, str]) -> tuple[Hook, ...]:
    """The live webhooks that the API server would ask about such a pod."""
    return tuple(hook for hook in live_hooks(snapshot) if hook.matches(namespace_labels, pod_labels))


def control_plane_of(snapshot: Snapshot, revision: str) -> ControlPlane | None:
    """The control plane of a revision or of a tag; None where no webhook shows one."""
    planes = snapshot.control_planes
    by_revision = next((plane for plane in planes if (plane.revision or "default") == revision), None)
    return by_revision or next((plane for plane in planes if revision in plane.tags), None)


def known_revisions(snapshot: Snapshot) -> tuple[str, ...]:
    """Every value of ``istio.io/rev`` that some live webhook answers to: revisions and tags."""
    names = [name for hook in live_hooks(snapshot) for name in (hook.revision, hook.tag) if name]
    return tuple(dict.fromkeys(names))


def installed_revisions(snapshot: Snapshot) -> tuple[str, ...]:
    """Every revision that has an injector in the cluster, also one that ``istioctl tag`` has replaced and deactivated."""
    own = [
        _revision(snapshot, configuration)
        for configuration in snapshot.mutatingwebhookconfigurations
        if any(webhook.name.endswith(_SUFFIX) for webhook in configuration.webhooks)
    ]
    return tuple(dict.fromkeys([*own, *(plane.revision or "default" for plane in snapshot.control_planes)]))


def injector_of(snapshot: Snapshot, revision: str) -> InjectorConfig | None:
    """The injector's configuration, if the one in the snapshot is that of this revision."""
    plane = snapshot.control_plane
    if plane is not None and (plane.revision or "default") != revision:
        return None
    return snapshot.injector


def injection(
    snapshot: Snapshot,
    namespace_labels: Mapping[str, str],
    pod_labels: Mapping[str, str],
    pod_annotations: Mapping[str, str],
    *,
    namespace: str = "",
    host_network: bool = False,
) -> Decision:
    """What would happen to a pod that is created now in a namespace with these labels.

    The cause is the pod's own where it has one, because labelling the namespace would not help such a pod.

    Args:
        snapshot: for the webhooks, the control planes and the injector's configuration.
        namespace_labels: the labels of the pod's namespace.
        pod_labels: the labels of the pod, or of its template.
        pod_annotations: the annotations of the same.
        namespace: the pod's namespace; the run's by default.
        host_network: whether the pod uses its node's network.
    """
    where = namespace or snapshot.namespace
    if refused := _refused_by_itself(where, pod_labels, pod_annotations, host_network=host_network):
        return refused
    if snapshot.unread("mutatingwebhookconfigurations"):
        return Decision(injected=None, cause=Cause.UNKNOWN, reason="the injector's webhooks could not be read")
    hooks = matching(snapshot, namespace_labels, pod_labels)
    if not hooks:
        cause, reason = _unmatched(snapshot, where, namespace_labels, pod_labels)
        return Decision(injected=False, cause=cause, reason=reason)
    configurations = tuple(dict.fromkeys(hook.configuration for hook in hooks))
    if len(configurations) > 1:
        reason = f"the webhooks of {len(configurations)} configurations match: {', '.join(configurations)}"
        return Decision(injected=True, cause=Cause.SEVERAL, reason=reason, hooks=hooks)
    return _istiod(injector_of(snapshot, hooks[0].revision), hooks, pod_labels, pod_annotations)


def _refused_by_itself(namespace: str, labels: Mapping[str, str], annotations: Mapping[str, str], *, host_network: bool) -> Decision | None:
    """The reasons that lie in the pod and that no webhook changes; the label beats the annotation of the same name."""
    if namespace in SYSTEM_NAMESPACES:
        cause, reason = Cause.SYSTEM_NAMESPACE, f"istiod injects nothing in {namespace}"
    elif host_network:
        cause, reason = Cause.HOST_NETWORK, "the pod template uses the node's network (hostNetwork: true), where istiod injects nothing"
    elif labels.get(INJECT) == "false":
        cause, reason = Cause.POD_LABEL, f'the pod template has the label {INJECT}: "false"'
    elif INJECT not in labels and annotations.get(INJECT) == "false":
        cause, reason = Cause.POD_ANNOTATION, f'the pod template has the annotation {INJECT}: "false"'
    else:
        return None
    return Decision(injected=False, cause=cause, reason=reason)


def _istiod(config: InjectorConfig | None, hooks: tuple[Hook, ...], labels: Mapping[str, str], annotations: Mapping[str, str]) -> Decision:
    """What the injector decides once it is asked: the pod's word, the never and the always selectors, then the policy."""
    revision, known = hooks[0].revision, bool(config and config.policy)
    config = config or InjectorConfig(policy="enabled")

    def decision(cause: Cause, reason: str) -> Decision:
        return Decision(injected=cause is Cause.INJECTED, cause=cause, reason=reason, hooks=hooks, revision=revision, policy_known=known)

    asks = decision(Cause.INJECTED, f"{hooks[0].configuration} injects it with revision {revision}")
    if (labels[INJECT] if INJECT in labels else annotations.get(INJECT, "")) == "true":
        return asks
    if any(_injector_selects(selector, labels) for selector in config.never_inject_selector):
        return decision(Cause.NEVER_SELECTOR, "the labels of its pods match neverInjectSelector of the injector's configuration")
    if any(_injector_selects(selector, labels) for selector in config.always_inject_selector):
        return asks
    if known and config.policy != "enabled":
        return decision(Cause.POLICY, f"the injector's policy is {config.policy!r}, so it injects only what asks for it")
    return asks


def _unmatched(snapshot: Snapshot, namespace: str, namespace_labels: Mapping[str, str], pod_labels: Mapping[str, str]) -> tuple[Cause, str]:
    """Why no webhook is asked about a pod that does not refuse by itself."""
    if not live_hooks(snapshot):
        return Cause.NO_INJECTOR, "the cluster has no Istio injector that is active"
    if matching(snapshot, namespace_labels, {}):
        return Cause.OBJECT_SELECTOR, "the labels of its pods are not selected by the objectSelector of any injector"
    value, known = namespace_labels.get(INJECTION), ", ".join(known_revisions(snapshot))
    if value == "enabled":
        return Cause.NO_REVISION, f"no injector answers to {INJECTION}=enabled: there is no default revision (known: {known})"
    if value is not None:
        return Cause.NAMESPACE_DISABLED, f"namespace {namespace} carries {INJECTION}={value}"
    if revision := namespace_labels.get(REVISION):
        return Cause.NO_REVISION, f"namespace {namespace} carries {REVISION}={revision}, to which no injector answers (known: {known})"
    if revision := pod_labels.get(REVISION):
        return Cause.NO_REVISION, f"the pod template carries {REVISION}={revision}, to which no injector answers (known: {known})"
    return Cause.NAMESPACE_UNLABELLED, f"namespace {namespace} carries no injection label"


def _revision(snapshot: Snapshot, configuration: MutatingWebhookConfiguration) -> str:
    """The revision of a configuration, by its label or by the control plane that it was found to belong to."""
    name, said = configuration.metadata.name, configuration.metadata.labels.get(REVISION)
    plane = next((plane for plane in snapshot.control_planes if name in plane.webhooks), None)
    return said or (plane and plane.revision) or "default"


def _deactivated(webhook: Webhook) -> bool:
    key, value = _DEACTIVATED
    selectors = (webhook.namespace_selector, webhook.object_selector)
    return any(selector is not None and selector.match_labels.get(key) == value for selector in selectors)


def _webhook_selects(selector: LabelSelector | None, labels: Mapping[str, str]) -> bool:
    """A webhook's missing selector selects everything, unlike that of most kinds."""
    return selector is None or selects(selector, labels)


def _injector_selects(selector: LabelSelector, labels: Mapping[str, str]) -> bool:
    """Match a selector of the never or always list, of which istiod skips the empty ones."""
    return bool(selector.match_labels or selector.match_expressions) and selects(selector, labels)
