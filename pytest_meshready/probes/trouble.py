"""What can go wrong with guests, each with one clear sentence for the lines that then cannot be verified.

None of these is an exception for the user: a probe that could not be had makes its lines ``not_verified`` with the sentence.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Sequence

import msgspec

from pytest_meshready.cluster.permissions import Right
from pytest_meshready.cluster.writes import Cause, WriteError
from pytest_meshready.results import Unknown

#: Longest quotation of somebody else's words in a sentence.
_LONGEST = 240


class Reason(enum.StrEnum):
    """Why a probe could not be had, or was lost."""

    FORBIDDEN = "forbidden"
    """a right is missing"""
    EXEC_FORBIDDEN = "exec forbidden"
    """pods may be created, but nothing may be executed in them: the batch runs as a Job instead"""
    POD_SECURITY = "pod security"
    QUOTA = "quota"
    LIMIT_RANGE = "limit range"
    ADMISSION = "admission"
    WEBHOOK_DOWN = "webhook down"
    TERMINATING = "terminating"
    NO_NAMESPACE = "no namespace"
    NO_ACCOUNT = "no service account"
    INVALID = "invalid"
    UNREACHABLE = "unreachable"
    """the API server did not answer"""
    LEASE_HELD = "lease held"
    """another run is writing in this namespace"""
    LEASE_LOST = "lease lost"
    IMAGE = "image"
    UNSCHEDULABLE = "unschedulable"
    EVICTED = "evicted"
    GONE = "gone"
    """somebody else deleted the pod, or its own deadline ended it"""
    CRASHED = "crashed"
    CONTAINER = "container"
    """the node could not make the container"""
    INIT = "init"
    """the redirection of traffic could not be set up in the pod"""
    SIDECAR = "sidecar"
    """the proxy did not become ready"""
    NETWORK_POLICY = "network policy"
    """the proxy did not become ready, and a NetworkPolicy restricts what the pod may reach"""
    NOT_READY = "not ready"
    """not ready in time, for no reason that could be seen"""
    STOPPED = "stopped"
    """the run ended before"""


class Trouble(msgspec.Struct, frozen=True, kw_only=True, tag="trouble"):
    """What went wrong, in one sentence; ``verb``, ``resource`` and ``namespace`` name a right that is missing."""

    reason: Reason
    sentence: str
    verb: str = ""
    resource: str = ""
    namespace: str = ""

    def unknown(self) -> Unknown:
        """As the lines need it that could not be verified."""
        return Unknown(reason=self.sentence, verb=self.verb, resource=self.resource, namespace=self.namespace)


def clipped(text: str) -> str:
    """Somebody else's words on one line, cut where they get too long."""
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 3]}..."


def forbidden(missing: list[Right]) -> Trouble:
    """The rights that guests need and this user lacks."""
    first = missing[0]
    return Trouble(
        reason=Reason.FORBIDDEN,
        sentence=f"probes need rights that are missing: {_together(missing)}; --mesh-rbac=FILE writes the Role that gives them, "
        "--mesh-read-only does without probes",
        verb=first.verb,
        resource=_resource(first),
        namespace=first.namespace,
    )


def _resource(right: Right) -> str:
    return f"{right.resource}.{right.group}" if right.group else right.resource


def _together(missing: list[Right]) -> str:
    """``create and delete pods and configmaps in payments``: what is missing in as few words as possible."""
    verbs: dict[tuple[str, str], list[str]] = {}
    for right in missing:
        verbs.setdefault((right.namespace, _resource(right)), []).append(right.verb)
    resources: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for (namespace, resource), several in verbs.items():
        resources.setdefault((namespace, tuple(sorted(several))), []).append(resource)
    return ", ".join(f"{_and(several)} {_and(names)} in {namespace}" for (namespace, several), names in resources.items())


def _and(words: Sequence[str]) -> str:
    """``a, b and c``."""
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def exec_forbidden(missing: Right) -> Trouble:
    """Nothing may be executed in pods of this namespace."""
    return Trouble(
        reason=Reason.EXEC_FORBIDDEN,
        sentence=f"not permitted: {missing}; probes run as Jobs instead, which answer in their logs",
        verb=missing.verb,
        resource=missing.resource,
        namespace=missing.namespace,
    )


def lease_held(namespace: str, holder: str, seconds: float) -> Trouble:
    """Another run is at work in the namespace."""
    return Trouble(
        reason=Reason.LEASE_HELD,
        sentence=f"another run is writing in namespace {namespace}: {holder}; it did not end within {seconds:g} s, "
        f"run again when it is over (kubectl get lease meshready -n {namespace})",
    )


#: What a refusal means, for the causes that need no more than their words.
_SENTENCES = {
    Cause.QUOTA: (
        Reason.QUOTA,
        "the quota of {where} leaves no room for {what}: {said}; see: kubectl describe resourcequota -n {where}",
    ),
    Cause.LIMIT_RANGE: (
        Reason.LIMIT_RANGE,
        "a LimitRange of {where} does not admit {what}: {said}; see: kubectl describe limitrange -n {where}",
    ),
    Cause.ADMISSION: (Reason.ADMISSION, "an admission rule of the cluster does not admit {what}: {said}"),
    Cause.WEBHOOK_DOWN: (
        Reason.WEBHOOK_DOWN,
        "{what} could not be created, an admission webhook did not answer: {said}; see: kubectl get mutatingwebhookconfigurations",
    ),
    Cause.TERMINATING: (Reason.TERMINATING, "namespace {where} is being deleted: nothing can be created there any more"),
    Cause.NO_NAMESPACE: (Reason.NO_NAMESPACE, "there is no namespace {where}; see: kubectl get namespaces"),
    Cause.NO_ACCOUNT: (Reason.NO_ACCOUNT, "{what} could not be created: {said}; see: kubectl get serviceaccounts -n {where}"),
}


def refused(error: WriteError, *, what: str, namespace: str, verb: str, resource: str) -> Trouble:
    """The API server refused to create something.

    Args:
        error: what it answered.
        what: the object in words: ``probe pod payments/meshready-3f2a-inside``.
        namespace: of the object.
        verb: what was asked for.
        resource: of what, as RBAC says it.
    """
    said = _after_forbidden(error.said)
    if error.cause is Cause.POD_SECURITY:
        return Trouble(reason=Reason.POD_SECURITY, sentence=_pod_security(said, what, namespace))
    if error.cause is Cause.FORBIDDEN:
        sentence = f"not permitted: {verb} {resource} in {namespace}; --mesh-rbac=FILE writes the Role that gives the right"
        return Trouble(reason=Reason.FORBIDDEN, sentence=sentence, verb=verb, resource=resource, namespace=namespace)
    if error.cause is Cause.UNREACHABLE:
        return Trouble(reason=Reason.UNREACHABLE, sentence=f"{what} could not be created: {error}")
    reason, words = _SENTENCES.get(error.cause, (Reason.INVALID, "{what} could not be created: {said}"))
    return Trouble(reason=reason, sentence=words.format(what=what, where=namespace, said=said or error))


def _after_forbidden(said: str) -> str:
    """The server's message without its beginning, which names what the sentence names already."""
    return clipped(re.sub(r'^.*?" is (forbidden|invalid): ', "", said, count=1))


def _pod_security(said: str, what: str, namespace: str) -> str:
    level = re.search(r'PodSecurity "([^":]+)', said)
    enforced = f"Pod Security {level.group(1)!r} is enforced in {namespace} and" if level else f"the security rules of {namespace}"
    if '"istio-init"' in said:
        return (
            f"{enforced} refuses the injected istio-init of {what}, which needs NET_ADMIN and NET_RAW: "
            "under this level a mesh without Istio's CNI plugin can start no meshed pod at all; "
            f"install istio-cni, or see: kubectl get namespace {namespace} --show-labels"
        )
    return f"{enforced} refuses {what}: {said}; see: kubectl get namespace {namespace} --show-labels"
