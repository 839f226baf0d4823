"""Which Istio control planes a cluster has, and which one serves a namespace (checks.md 2.1).

A control plane is known by its injector webhooks: they exist wherever sidecars are injected, name the service or the
address of istiod, and carry the revision and its tags as labels. Pure functions.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from msgspec.structs import replace

from pytest_meshready.cluster.objects import MutatingWebhookConfiguration, Namespace, Webhook
from pytest_meshready.cluster.snapshot import ControlPlane, Refusal

#: How the name of every injector webhook ends (Istio's injectionwebhook chart).
INJECTOR = "sidecar-injector.istio.io"

#: The name of the revision, and of the tag, that ``istio-injection=enabled`` chooses.
DEFAULT = "default"

_REVISION, _TAG, _INJECTION, _DEACTIVATED = "istio.io/rev", "istio.io/tag", "istio-injection", "istio.io/deactivated"
_FORBIDDEN = 403


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The control plane of a namespace, or the sentence that says why none could be chosen."""

    plane: ControlPlane | None = None
    problem: str = ""


@dataclass(slots=True)
class _Found:
    service: str = ""
    tags: set[str] = field(default_factory=set)
    webhooks: set[str] = field(default_factory=set)


def is_injector(webhook: Webhook) -> bool:
    """Whether a webhook injects sidecars; istioctl deactivates those that a tag has replaced by a label nobody has."""
    selectors = (webhook.namespace_selector, webhook.object_selector)
    deactivated = any(selector is not None and selector.match_labels.get(_DEACTIVATED) == "never-match" for selector in selectors)
    return webhook.name.endswith(INJECTOR) and not deactivated


def control_planes(configurations: Iterable[MutatingWebhookConfiguration]) -> tuple[ControlPlane, ...]:
    """The control planes behind the injector webhooks, sorted; one for each namespace (or address) and revision.

    ``webhooks`` are the names of the configurations. Where a tag's webhook uses a service of its own
    (``istiod-revision-tag-...``, from Istio 1.28), ``service`` is nevertheless the revision's.
    """
    found: dict[tuple[str, str, str], _Found] = {}
    for configuration in configurations:
        labels = configuration.metadata.labels
        tag = labels.get(_TAG, "")
        for webhook in filter(is_injector, configuration.webhooks):
            service, url = webhook.client_config.service, webhook.client_config.url or ""
            namespace = service.namespace if service else ""
            plane = found.setdefault((namespace, "" if service else url, labels.get(_REVISION) or DEFAULT), _Found())
            if service and (not tag or not plane.service):
                plane.service = service.name
            plane.tags.update({tag} if tag else ())
            plane.webhooks.add(configuration.metadata.name)
    return tuple(
        ControlPlane(
            namespace=namespace,
            revision=revision,
            service=plane.service,
            url=url,
            tags=tuple(sorted(plane.tags)),
            webhooks=tuple(sorted(plane.webhooks)),
        )
        for (namespace, url, revision), plane in sorted(found.items())
    )


def choose(
    planes: Sequence[ControlPlane],
    *,
    namespace: str,
    labels: dict[str, str] | None,
    istio_namespace: str = "",
    revision: str = "",
    looked_at: int = 0,
    unread: Refusal | None = None,
) -> Choice:
    """The control plane that serves a namespace.

    The options decide, then the namespace's labels by the precedence of Istio's own selectors (``istio-injection`` before
    ``istio.io/rev``), then being the only one.

    Args:
        planes: what `control_planes` found.
        namespace: the namespace of the run.
        labels: its labels; None where they could not be read.
        istio_namespace: ``--mesh-istio-namespace``, empty if not given.
        revision: ``--mesh-revision``, a revision or a tag, empty if not given.
        looked_at: how many webhook configurations were looked at.
        unread: why webhooks could not be read; then the options are believed.
    """
    if unread:
        return _unseen(istio_namespace, revision, unread)
    if not planes:
        return Choice(
            problem=f"no Istio control plane found: none of the {looked_at} mutating webhook configurations has a webhook of the sidecar "
            "injector; is Istio installed in this cluster? (see: istioctl version; kubectl get mutatingwebhookconfigurations)"
        )
    left = [
        replace(plane, namespace=istio_namespace) if istio_namespace and not plane.namespace else plane
        for plane in planes
        if not istio_namespace or plane.namespace in (istio_namespace, "")
    ]
    if not left:
        return Choice(problem=f"--mesh-istio-namespace={istio_namespace}: no injector webhook leads there, only to {_names(planes)}")
    if revision:
        named = _with_revision(left, revision)
        if not named:
            return Choice(problem=f"--mesh-revision={revision}: no such revision or tag, there is {_names(left)}")
        return _only(named, f"--mesh-revision={revision} fits more than one")
    return _by_labels(left, namespace, labels)


def _unseen(istio_namespace: str, revision: str, unread: Refusal) -> Choice:
    if istio_namespace:
        return Choice(plane=ControlPlane(namespace=istio_namespace, revision=revision or DEFAULT))
    remedy = "; permit that, or name it with --mesh-istio-namespace=NAMESPACE" if unread.status == _FORBIDDEN else ""
    return Choice(problem=f"the control plane could not be looked for: {unread.reason}{remedy}")


def _by_labels(planes: Sequence[ControlPlane], namespace: str, labels: dict[str, str] | None) -> Choice:
    if len(planes) == 1:
        return Choice(plane=planes[0])
    if labels is None:
        return _only(planes, f"the labels of namespace {namespace} could not be read, and there is more than one")
    injected = labels.get(_INJECTION) == "enabled"
    label = f"{_INJECTION}=enabled" if injected else f"{_REVISION}={labels.get(_REVISION)}"
    wanted = DEFAULT if injected else labels.get(_REVISION)
    if not wanted:
        return _only(
            planes, f"namespace {namespace} has neither label istio-injection=enabled nor istio.io/rev, and there is more than one"
        )
    fitting = _with_revision(planes, wanted)
    if not fitting:
        return _only(planes, f"namespace {namespace} has label {label}, and of the control planes none has this revision or tag")
    return _only(fitting, f"namespace {namespace} has label {label}, which fits more than one")


def _with_revision(planes: Sequence[ControlPlane], name: str) -> list[ControlPlane]:
    """The planes that have this tag; if none has, those of this revision."""
    return [plane for plane in planes if name in plane.tags] or [plane for plane in planes if plane.revision == name]


def _only(planes: Sequence[ControlPlane], otherwise: str) -> Choice:
    if len(planes) == 1:
        return Choice(plane=planes[0])
    options = " or ".join(_option(plane, planes) for plane in planes)
    return Choice(problem=f"{otherwise}: Istio's control planes are {_names(planes)}; choose with {options}")


def _option(plane: ControlPlane, planes: Sequence[ControlPlane]) -> str:
    """What to type for this one, as short as it is unmistakable."""
    by_namespace = f"--mesh-istio-namespace={plane.namespace}" if plane.namespace else ""
    by_revision = f"--mesh-revision={plane.revision}"
    if sum(other.revision == plane.revision for other in planes) == 1:
        return by_revision
    alone = sum(other.namespace == plane.namespace for other in planes) == 1
    return by_namespace if alone and by_namespace else f"{by_namespace} {by_revision}".strip()


def _names(planes: Sequence[ControlPlane]) -> str:
    tags = [f" (tags {', '.join(plane.tags)})" if plane.tags else "" for plane in planes]
    return " and ".join(f"{plane}{suffix}" for plane, suffix in zip(planes, tags, strict=True))


def labels_of(namespace: Namespace | None) -> dict[str, str] | None:
    """A namespace's labels, None where the namespace itself is not known."""
    return None if namespace is None else namespace.metadata.labels
