"""The API server, for writing: what a run creates, changes and deletes, and whether it may.

Objects are plain JSON, and what was refused is told apart by the server's words: quota, LimitRange, Pod Security and RBAC all
answer 403 (checks.md 1.9; the messages are those of Kubernetes 1.34). Every request may arrive twice without harm, because
every object of a run has a name that no other run uses: what was created by a request whose answer got lost is found again
(409) and is as good as new.
"""

from __future__ import annotations

import enum
import functools
import queue
import re
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from pytest_meshready.cluster.answers import Answer, ReadError
from pytest_meshready.cluster.client import Cluster, ClusterError
from pytest_meshready.cluster.permissions import Right
from pytest_meshready.waiting import Deadline, GaveUp, retry

#: One object as the API server speaks it.
Manifest = Mapping[str, Any]

#: Requests at a time.
AT_ONCE = 8

#: Seconds before a creation is repeated that met a quota which was being counted at the same moment.
_COUNTING = 0.2

_REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"

_T = TypeVar("_T")


class Cause(enum.StrEnum):
    """Why a request was not done, as the server's message tells it."""

    FORBIDDEN = "forbidden"
    """no right (RBAC or another authorizer)"""
    POD_SECURITY = "pod security"
    """Pod Security admission, or OpenShift's security context constraints"""
    QUOTA = "quota"
    LIMIT_RANGE = "limit range"
    ADMISSION = "admission"
    """a webhook or an admission policy denied it"""
    WEBHOOK_DOWN = "webhook down"
    """an admission webhook that must be asked did not answer"""
    TERMINATING = "terminating"
    """the namespace is being deleted"""
    NO_NAMESPACE = "no namespace"
    NO_ACCOUNT = "no service account"
    MISSING = "missing"
    """the object or its kind is not there"""
    EXISTS = "exists"
    CONFLICT = "conflict"
    """somebody else changed it meanwhile"""
    INVALID = "invalid"
    UNREACHABLE = "unreachable"
    """no answer, or none that means anything: time-out, 429, 5xx, credentials"""


#: What 403, 422, 400 and 500 mean, by the first pattern that the message contains.
_WORDS = tuple(
    (cause, re.compile(pattern))
    for cause, pattern in (
        (Cause.POD_SECURITY, r"violates PodSecurity|security context constraint"),
        (Cause.QUOTA, r"exceeded quota|failed quota"),
        (Cause.TERMINATING, r"because it is being terminated"),
        (Cause.NO_ACCOUNT, r"error looking up service account"),
        (Cause.LIMIT_RANGE, r"(maximum|minimum) \S+ usage per |max limit to request ratio per |must be less than or equal to \S+ limit"),
        (Cause.ADMISSION, r"denied the request|denied request"),
        (Cause.WEBHOOK_DOWN, r"failed calling webhook"),
        (Cause.FORBIDDEN, r"cannot \S+ (resource|path) "),
    )
)

_BY_STATUS = {400: Cause.INVALID, 403: Cause.ADMISSION, 404: Cause.MISSING, 409: Cause.CONFLICT, 410: Cause.MISSING, 422: Cause.INVALID}


class WriteError(ClusterError):
    """A request that was not done. ``said`` is the server's own message, ``str()`` the whole sentence."""

    def __init__(self, text: str, *, cause: Cause, status: int = 0, said: str = "") -> None:
        super().__init__(text)
        self.cause = cause
        self.status = status
        self.said = said


def cause_of(status: int, said: str, word: str = "") -> Cause:
    """Why a request was refused.

    Args:
        status: the HTTP status; 0 without an answer.
        said: the message of the answer.
        word: its ``reason``: ``AlreadyExists``.
    """
    if status == 409 and word == "AlreadyExists":
        return Cause.CONFLICT if said.startswith("object is being deleted") else Cause.EXISTS
    if status == 404 and re.match(r'namespaces "[^"]*" not found', said):
        return Cause.NO_NAMESPACE
    if status not in (404, 409):
        for cause, pattern in _WORDS:
            if pattern.search(said):
                return cause
    return _BY_STATUS.get(status, Cause.UNREACHABLE)


def send(
    cluster: Cluster,
    method: str,
    path: str,
    content: Manifest | None = None,
    *,
    query: Mapping[str, str | int] | None = None,
    content_type: str = "application/json",
    deadline: Deadline | None = None,
) -> Answer:
    """One request, repeated while it fails in a way that may pass.

    Raises:
        WriteError: with the server's message and what it means.
    """
    body = b"" if content is None else msgspec.json.encode(content)
    try:
        return cluster.request(method, path, query, body=body, content_type=content_type, deadline=deadline)
    except ReadError as error:
        raise WriteError(str(error), cause=cause_of(error.status, error.said, error.cause), status=error.status, said=error.said) from error


def create(cluster: Cluster, manifest: Manifest, *, deadline: Deadline | None = None) -> Manifest | None:
    """Create an object with a name that is this run's alone.

    Returns:
        The object as it was made; None where it was there already, which is as good.

    Raises:
        WriteError: where it was not made.
    """
    bound = deadline or Deadline(cluster.deadlines.request)
    try:
        answer = retry(
            lambda: send(cluster, "POST", path_of(manifest, named=False), manifest, deadline=bound),
            # several pods at once under one quota: all but one may hear that the quota "has been modified"
            retry_on=lambda error: _COUNTING if isinstance(error, WriteError) and error.cause is Cause.CONFLICT else None,
            deadline=bound,
        )
    except WriteError as error:
        if error.cause is Cause.EXISTS:
            return None
        raise
    except GaveUp as gave_up:
        raise gave_up.last from gave_up
    return _object(answer)


def update(cluster: Cluster, manifest: Manifest, *, deadline: Deadline | None = None) -> Manifest:
    """Replace an object, only if its ``resourceVersion`` is still the one given.

    Raises:
        WriteError: ``CONFLICT`` where somebody changed it meanwhile.
    """
    return _object(send(cluster, "PUT", path_of(manifest), manifest, deadline=deadline))


def patch(cluster: Cluster, manifest: Manifest, changes: Manifest, *, deadline: Deadline | None = None) -> Manifest:
    """Change an object with a JSON merge patch; of ``manifest`` only kind and name are looked at.

    Raises:
        WriteError: where it was not changed.
    """
    merge = "application/merge-patch+json"
    return _object(send(cluster, "PATCH", path_of(manifest), changes, content_type=merge, deadline=deadline))


def delete(
    cluster: Cluster, manifest: Manifest, *, grace: int | None = None, unchanged: bool = False, deadline: Deadline | None = None
) -> bool:
    """Delete an object; what it owns follows in the background.

    Args:
        cluster: where.
        manifest: what; only kind and name are looked at, unless ``unchanged``.
        grace: seconds that a pod gets to end; None for what it says itself.
        unchanged: only if it is still what ``manifest`` says: the same object in the same version.
        deadline: a bound shorter than that for one request.

    Returns:
        Whether it was there.

    Raises:
        WriteError: ``CONFLICT`` where it is no longer what ``manifest`` says.
    """
    options: dict[str, Any] = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
    if grace is not None:
        options["gracePeriodSeconds"] = grace
    if unchanged:
        metadata = manifest["metadata"]
        options["preconditions"] = {"uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"]}
    try:
        send(cluster, "DELETE", path_of(manifest), options, deadline=deadline)
    except WriteError as error:
        if error.cause in (Cause.MISSING, Cause.NO_NAMESPACE):
            return False
        raise
    return True


# --- kinds ---


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of object that a run may create."""

    name: str
    group: str
    version: str
    plural: str

    @property
    def resource(self) -> str:
        """As kubectl takes it: ``pods``, ``authorizationpolicies.security.istio.io``."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def api_version(self) -> str:
        """As a manifest says it: ``v1``, ``batch/v1``."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str) -> str:
        """The path of the list in a namespace."""
        prefix = f"/apis/{self.group}" if self.group else "/api"
        return f"{prefix}/{self.version}/namespaces/{namespace}/{self.plural}"

    def manifest(self, namespace: str, name: str) -> Manifest:
        """The bare object, to name it in a request."""
        return {"apiVersion": self.api_version, "kind": self.name, "metadata": {"namespace": namespace, "name": name}}


#: A kind, and a namespace in which a run creates objects of it.
Place = tuple[Kind, str]

POD = Kind(name="Pod", group="", version="v1", plural="pods")
CONFIG_MAP = Kind(name="ConfigMap", group="", version="v1", plural="configmaps")
SERVICE_ACCOUNT = Kind(name="ServiceAccount", group="", version="v1", plural="serviceaccounts")
SERVICE = Kind(name="Service", group="", version="v1", plural="services")
JOB = Kind(name="Job", group="batch", version="v1", plural="jobs")
LEASE = Kind(name="Lease", group="coordination.k8s.io", version="v1", plural="leases")
AUTHORIZATION_POLICY = Kind(name="AuthorizationPolicy", group="security.istio.io", version="v1", plural="authorizationpolicies")

#: Every kind that a run may create, by its name.
KINDS = {kind.name: kind for kind in (POD, JOB, CONFIG_MAP, SERVICE_ACCOUNT, SERVICE, AUTHORIZATION_POLICY, LEASE)}


def kind_of(manifest: Manifest) -> Kind:
    """The kind of an object.

    Raises:
        ValueError: where it is none that a run may create.
    """
    try:
        return KINDS[manifest["kind"]]
    except KeyError as error:
        raise ValueError(f"a run does not create objects of kind {manifest.get('kind')!r}, only {', '.join(KINDS)}") from error


def path_of(manifest: Manifest, *, named: bool = True) -> str:
    """The path of an object, or of the list that it belongs to."""
    metadata = manifest["metadata"]
    path = kind_of(manifest).path(metadata["namespace"])
    return f"{path}/{metadata['name']}" if named else path


def listed(cluster: Cluster, kind: Kind, namespace: str, selector: str, *, deadline: Deadline | None = None) -> list[Manifest]:
    """The objects of a kind in a namespace that have these labels; none where the kind or the namespace is not there.

    Raises:
        WriteError: where they may not be listed.
    """
    try:
        answer = send(cluster, "GET", kind.path(namespace), query={"labelSelector": selector}, deadline=deadline)
    except WriteError as error:
        if error.cause is Cause.MISSING:
            return []
        raise
    items = _object(answer).get("items") or []
    return [{"apiVersion": kind.api_version, "kind": kind.name, **item} for item in items]


def get(cluster: Cluster, kind: Kind, namespace: str, name: str, *, deadline: Deadline | None = None) -> Manifest | None:
    """One object; None where it is not there.

    Raises:
        WriteError: where it may not be read.
    """
    try:
        answer = send(cluster, "GET", path_of(kind.manifest(namespace, name)), deadline=deadline)
    except WriteError as error:
        if error.cause is Cause.MISSING:
            return None
        raise
    return _object(answer)


def _object(answer: Answer) -> dict[str, Any]:
    """The JSON object of an answer.

    Raises:
        WriteError: where it is none, which no API server does.
    """
    try:
        found = answer.json()
    except msgspec.DecodeError:
        found = None
    if not isinstance(found, dict):
        text = f"the answer ({answer.status}) is no JSON object: something between here and the API server answered instead of it"
        raise WriteError(text, cause=Cause.UNREACHABLE, status=answer.status)
    return found


# --- rights ---


def reviews(cluster: Cluster, rights: Iterable[Right], *, deadline: Deadline | None = None) -> dict[Right, bool | None]:
    """Whether this user has these rights, asked all at once (SelfSubjectAccessReview); None where nobody could tell.

    It asks, and does not try: nothing is created, and no refusal appears in the server's log.
    """
    wanted = list(dict.fromkeys(rights))
    answers = at_once([functools.partial(_allowed, cluster, right, deadline) for right in wanted])
    return {right: None if isinstance(answer, Exception) else answer for right, answer in zip(wanted, answers, strict=True)}


def _allowed(cluster: Cluster, right: Right, deadline: Deadline | None) -> bool:
    return all(_review(cluster, right, name, deadline) for name in right.names or ("",))


def _review(cluster: Cluster, right: Right, name: str, deadline: Deadline | None) -> bool:
    if right.resource.startswith("/"):
        about: Manifest = {"nonResourceAttributes": {"path": right.resource, "verb": right.verb}}
    else:
        resource, _, subresource = right.resource.partition("/")
        attributes = {"namespace": right.namespace, "verb": right.verb, "group": right.group, "resource": resource}
        about = {"resourceAttributes": {**attributes, "subresource": subresource, "name": name}}
    review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": about}
    status = _object(send(cluster, "POST", _REVIEWS, review, deadline=deadline)).get("status") or {}
    return bool(status.get("allowed"))


# --- several at once ---


def at_once(calls: Sequence[Callable[[], _T]]) -> list[_T | Exception]:
    """What these calls return or raise, made at the same time, in their order.

    The threads are daemons: a server that hangs holds up neither the end of the process nor Ctrl-C. Each call bounds itself.
    """
    todo: queue.SimpleQueue[int] = queue.SimpleQueue()
    done: queue.SimpleQueue[tuple[int, _T | Exception]] = queue.SimpleQueue()
    for index in range(len(calls)):
        todo.put(index)

    def work() -> None:
        while True:
            try:
                index = todo.get_nowait()
            except queue.Empty:
                return
            try:
                done.put((index, calls[index]()))
            except Exception as error:  # noqa: BLE001 - it is the answer
                done.put((index, error))

    for _ in range(min(AT_ONCE, len(calls))):
        threading.Thread(target=work, name="meshready-writer", daemon=True).start()
    results = dict(done.get() for _ in calls)
    return [results[index] for index in range(len(calls))]
