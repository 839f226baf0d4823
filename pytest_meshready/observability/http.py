"""How a backend is reached: through the API server's service proxy, or at an address that the team gives (checks.md 1.4).

The way through the API server needs no address and no route, only the right ``get services/proxy``. It carries no
credentials to the backend (the API server strips them, kubernetes#38775); a backend that demands some needs an address.
"""

from __future__ import annotations

import urllib.parse
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import msgspec

from pytest_meshready.cluster.answers import Answer, ReadError
from pytest_meshready.cluster.objects import Service
from pytest_meshready.results import Unknown
from pytest_meshready.waiting import Deadline

#: Seconds for one request, unless the caller has less.
PATIENCE = 10.0

_UNAUTHORIZED = 401
_FORBIDDEN = 403
_SERVER_ERRORS = 500

#: As RBAC writes the right that the way through the API server needs.
SERVICES_PROXY = "services/proxy"

_T = TypeVar("_T")


class UnavailableError(Exception):
    """A backend that gave no data; the message is one sentence. ``verb`` and the rest name a right that is missing."""

    def __init__(self, reason: str, *, verb: str = "", resource: str = "", namespace: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.verb = verb
        self.resource = resource
        self.namespace = namespace

    @property
    def unknown(self) -> Unknown:
        """The same as a part of a judgement."""
        return Unknown(reason=self.reason, verb=self.verb, resource=self.resource, namespace=self.namespace)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What a backend answered. An HTTP status of 500 and more, 401 and 403 never become a reply."""

    status: int
    body: bytes
    source: str

    def decode(self, type_: type[_T]) -> _T:
        """The body as JSON of this shape.

        Raises:
            UnavailableError: where it is none; backends answer unknown paths with the page of their web interface.
        """
        try:
            return msgspec.json.decode(self.body, type=type_, strict=False)
        except msgspec.MsgspecError as error:
            raise UnavailableError(f"{self.source} answered {self.status} with something else than expected ({_short(error)})") from error


class Source(Protocol):
    """A backend."""

    @property
    def name(self) -> str:
        """As evidence names it: ``Service istio-system/prometheus:9090``, or an address."""

    def get(self, path: str, query: Mapping[str, str | int] | None = None, *, deadline: Deadline | None = None) -> Reply:
        """One GET.

        Args:
            path: begins with a slash.
            query: its parameters.
            deadline: a bound that may be shorter than `PATIENCE`.

        Raises:
            UnavailableError: with one sentence, where there is no answer, or none for us.
        """


class Getter(Protocol):
    """What is needed of a cluster; see `pytest_meshready.cluster.client.Cluster`."""

    def get(self, path: str, query: Mapping[str, str | int] | None = None, *, deadline: Deadline | None = None) -> Answer:
        """One GET of the API server."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceProxy:
    """A Service, reached through the API server. ``scheme`` is ``https`` where the port speaks TLS."""

    cluster: Getter
    namespace: str
    service: str
    port: int
    scheme: str = ""

    @property
    def name(self) -> str:
        """``Service istio-system/prometheus:9090``."""
        return f"Service {self.namespace}/{self.service}:{self.port}"

    def get(self, path: str, query: Mapping[str, str | int] | None = None, *, deadline: Deadline | None = None) -> Reply:
        """One GET; see `Source`."""
        prefix = f"{self.scheme}:" if self.scheme else ""
        target = f"/api/v1/namespaces/{self.namespace}/services/{prefix}{self.service}:{self.port}/proxy{path}"
        bound = deadline.within(PATIENCE) if deadline else Deadline(PATIENCE)
        try:
            answer = self.cluster.get(target, query, deadline=bound)
        except ReadError as error:
            return self._refused(error, path)
        return Reply(status=answer.status, body=answer.body, source=self.name)

    def _refused(self, error: ReadError, path: str) -> Reply:
        """A refusal of the API server itself is no answer; one of the backend may be (404: no such trace)."""
        said = error.about(f"GET {path} of {self.name}")
        if error.status == _FORBIDDEN and SERVICES_PROXY in said:
            raise UnavailableError(said, verb="get", resource=SERVICES_PROXY, namespace=self.namespace) from error
        if error.status in (_UNAUTHORIZED, _FORBIDDEN):
            reason = f"{self.name} demands credentials ({error.status}), which the API server's proxy does not pass on; give its address"
            raise UnavailableError(f"{reason} in meshready.toml") from error
        if not error.status or error.status >= _SERVER_ERRORS:
            raise UnavailableError(said) from error
        return Reply(status=error.status, body=b"", source=self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """A backend at an address that the team gave, asked from where the tests run.

    ``headers`` go with every request (a token, a tenant); they are never shown. ``ca`` is a file of authorities.
    """

    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    ca: str = ""

    @property
    def name(self) -> str:
        """The address without user and password."""
        parts = urllib.parse.urlsplit(self.url)
        return urllib.parse.urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path.rstrip("/"), "", ""))

    def get(self, path: str, query: Mapping[str, str | int] | None = None, *, deadline: Deadline | None = None) -> Reply:
        """One GET; see `Source`."""
        import ssl

        import httpx

        bound = deadline.within(PATIENCE) if deadline else Deadline(PATIENCE)
        verify = ssl.create_default_context(cafile=self.ca) if self.ca else True
        try:
            with httpx.Client(verify=verify, timeout=max(bound.left, 0.001), headers=dict(self.headers)) as client:
                answer = client.get(self.url.rstrip("/") + path, params=dict(query or {}))
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            raise UnavailableError(f"{self.name} gave no answer to GET {path} ({_short(error)})") from error
        if answer.status_code in (_UNAUTHORIZED, _FORBIDDEN):
            raise UnavailableError(f"{self.name} does not accept the credentials ({answer.status_code})")
        if answer.status_code >= _SERVER_ERRORS:
            raise UnavailableError(f"{self.name} answered GET {path} with {answer.status_code}")
        return Reply(status=answer.status_code, body=answer.content, source=self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """How the Services of a kind of backend are recognised.

    Attributes:
        what: the kind in words, for messages.
        names: names of Services, and values of the labels ``app.kubernetes.io/name`` and ``app``; the likeliest first.
        ports: numbers of their ports; the likeliest first.
    """

    what: str
    names: tuple[str, ...]
    ports: tuple[int, ...]


def candidates(cluster: Getter, services: Iterable[Service], wanted: Wanted, namespaces: Iterable[str]) -> tuple[ServiceProxy, ...]:
    """The Services that look like such a backend, the likeliest first.

    Args:
        cluster: to reach them.
        services: those that were read.
        wanted: what to look for.
        namespaces: where to look, the likeliest first: the control plane's namespace.
    """
    places = list(dict.fromkeys(namespaces))
    ranked: list[tuple[int, int, int, str, ServiceProxy]] = []
    for service in services:
        metadata = service.metadata
        ports = {port.port: port for port in service.spec.ports}
        number = next((number for number in wanted.ports if number in ports), 0)
        rank = _rank(service, wanted)
        if metadata.namespace not in places or not number or rank is None or service.spec.type == "ExternalName":
            continue
        says = (ports[number].app_protocol or ports[number].name).lower()
        found = ServiceProxy(
            cluster=cluster,
            namespace=metadata.namespace,
            service=metadata.name,
            port=number,
            scheme="https" if says.partition("-")[0] == "https" else "",
        )
        ranked.append((places.index(metadata.namespace), rank, wanted.ports.index(number), metadata.name, found))
    return tuple(item[-1] for item in sorted(ranked, key=lambda item: item[:-1]))


def first_that_answers(sources: Iterable[Source], wanted: Wanted, open_: Callable[[Source], _T]) -> _T:
    """The first backend that answers as one of its kind.

    Args:
        sources: where it may be.
        wanted: the kind.
        open_: makes a reader and asks something harmless.

    Raises:
        UnavailableError: where none does, or none was found.
    """
    problems: list[UnavailableError] = []
    for source in sources:
        try:
            return open_(source)
        except UnavailableError as error:
            problems.append(error)
    if not problems:
        names = ", ".join(wanted.names[:3])
        raise UnavailableError(f"no {wanted.what} was found: no Service named {names} ... in the control plane's namespace or this one")
    raise next((problem for problem in problems if problem.verb), problems[0])


def _rank(service: Service, wanted: Wanted) -> int | None:
    """How early the Service's name or label stands in the list; None where it does not."""
    labels = service.metadata.labels
    words = (service.metadata.name, labels.get("app.kubernetes.io/name", ""), labels.get("app", ""))
    return min((wanted.names.index(word) for word in words if word in wanted.names), default=None)


def _short(error: Any) -> str:  # noqa: ANN401 - exceptions of several libraries
    """An exception in a few words, on one line."""
    return " ".join((str(error) or type(error).__name__).split())[:160]
