"""The API server: the only module that imports the official Kubernetes client.

The official client logs in and transports (kubeconfig, tokens, plugins, TLS, proxies); what it answers stays bytes. Only
what has not changed from kubernetes 32 to 37 is used: the configuration loaders, ``Configuration.auth_settings()`` and the
connection pool of ``ApiClient.rest_client``; its models cost a hundred times what reading the same objects costs here.
Everything here reads, except `Cluster.request`, which sends what `pytest_meshready.cluster.writes` gives it.
"""

from __future__ import annotations

import functools
import ipaddress
import logging
import os
import re
import threading
import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pytest_meshready.cluster import answers, kubeconfig
from pytest_meshready.cluster.answers import Answer, ReadError
from pytest_meshready.cluster.kubeconfig import ClusterError, Kubeconfig
from pytest_meshready.waiting import Deadline, Deadlines, GaveUp, bounded, retry

if TYPE_CHECKING:
    import ssl

__all__ = ["Cluster", "ClusterError", "Upgrade", "connect", "version"]

#: Objects in one page of a list. With kubectl's 500 ten thousand pods took 1.96 times what ``kubectl get --raw`` takes, with 2000
#: 1.07 times and 87 MiB: a page costs the API server a look into its store, however small it is (tests/benchmarks).
PAGE = 2000

#: Requests at a time that the pool keeps connections for: a snapshot and the guests of a run use it at the same time.
CONNECTIONS = 16

_REDIRECTS = 300
_GONE = 410
_UNAUTHORIZED = 401
_PASSING = frozenset({429, 500, 502, 503, 504})

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Upgrade:
    """A websocket to be opened: its address, the headers that log in, TLS with the client certificate, and the proxy between.

    ``tls`` is None without TLS, ``server_name`` empty for the name in the address, ``proxy`` empty for none; ``bypass`` are the hosts
    that no proxy is used for. It has no ``repr``, because it holds credentials.
    """

    url: str
    headers: Mapping[str, str]
    tls: ssl.SSLContext | None
    server_name: str
    proxy: str
    bypass: tuple[str, ...]


def connect(file: Path | str | None, context: str | None, deadlines: Deadlines) -> Cluster:
    """The cluster of this kubeconfig and context, chosen as kubectl does; nothing is sent yet and no plugin is run.

    Args:
        file: ``--mesh-kubeconfig``; None for ``KUBECONFIG``, ``~/.kube/config``, then the service account of the pod.
        context: ``--mesh-context``; None for the current one.
        deadlines: the bounds of every request.

    Raises:
        ClusterError: with one sentence, where there is no such cluster or the credential plugin is not installed.
    """
    return Cluster(kubeconfig.choose(file, context), deadlines)


class Cluster:
    """The API server of one context. Safe to use from several threads.

    Example:
        >>> cluster.get("/livez").body
        b'ok'
    """

    def __init__(self, chosen: Kubeconfig, deadlines: Deadlines) -> None:
        self.context = chosen.context
        self.context_names = chosen.context_names
        self.server = chosen.server
        self.deadlines = deadlines
        self._chosen = chosen
        self._lock = threading.Lock()
        self._transport: _Transport | None = None
        self._trouble = ""

    def get(
        self,
        path: str,
        query: Mapping[str, str | int] | None = None,
        *,
        deadline: Deadline | None = None,
        accept: frozenset[int] = frozenset(),
    ) -> Answer:
        """One GET, repeated on 429, 5xx and connection errors until the deadline for one request.

        Args:
            path: what to read: ``/api/v1/nodes``.
            query: its parameters.
            deadline: a bound that may be shorter than that for one request.
            accept: statuses that are answers here and no failures.

        Raises:
            ReadError: with one sentence and the server's own message.
        """
        return self.request("GET", path, query, deadline=deadline, accept=accept)

    def request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str | int] | None = None,
        *,
        body: bytes = b"",
        content_type: str = "application/json",
        deadline: Deadline | None = None,
        accept: frozenset[int] = frozenset(),
    ) -> Answer:
        """One request of any method, repeated as `get` repeats: only for what may arrive twice without harm.

        Args:
            method: ``POST``, ``PUT``, ``PATCH``, ``DELETE`` or ``GET``.
            path: where to.
            query: its parameters.
            body: what to send; empty for nothing.
            content_type: what the body is.
            deadline: a bound that may be shorter than that for one request.
            accept: statuses that are answers here and no failures.

        Raises:
            ReadError: as `get` does.
        """
        bound = deadline.within(self.deadlines.request) if deadline else Deadline(self.deadlines.request)
        target = f"{path}?{urllib.parse.urlencode(query)}" if query else path
        content = (body, content_type) if body else None
        try:
            return retry(
                lambda: self._once(target, asked=f"{method} {path}", deadline=bound, method=method, content=content, accept=accept),
                retry_on=lambda error: error.pause if isinstance(error, ReadError) else None,
                deadline=bound,
            )
        except GaveUp as gave_up:
            raise answers.lasting(gave_up) from gave_up.last

    def pages(
        self,
        path: str,
        read: Callable[[bytes], tuple[_T, str]],
        *,
        page: int = PAGE,
        deadline: Deadline | None = None,
        field_selector: str = "",
    ) -> tuple[list[_T], Answer]:
        """A whole list, page by page; only one page is in memory as bytes.

        A list that expired while it was read (410) is begun once more.

        Args:
            path: the path of the list.
            read: makes of the bytes of a page what shall be kept of it, and its ``continue`` token (empty on the last).
            page: objects in one page.
            deadline: for the whole list; each page has the deadline for one request besides.
            field_selector: what the server leaves out of the list; empty for everything.

        Returns:
            What was kept of each page, and the answer of the last one.

        Raises:
            ReadError: as `get` does.
        """
        kept: list[_T] = []
        token, restarted = "", False
        while True:
            query: dict[str, str | int] = {"limit": page, **({"continue": token} if token else {})}
            if field_selector:
                query["fieldSelector"] = field_selector
            try:
                answer = self.get(path, query, deadline=deadline)
            except ReadError as error:
                if error.status != _GONE or not token or restarted:
                    raise
                kept, token, restarted = [], "", True
                continue
            content, token = read(answer.body)
            kept.append(content)
            if not token:
                return kept, answer

    def _once(
        self,
        target: str,
        *,
        asked: str,
        deadline: Deadline,
        method: str = "GET",
        content: tuple[bytes, str] | None = None,
        accept: frozenset[int] = frozenset(),
    ) -> Answer:
        import urllib3

        transport = self._connected(asked)
        headers = transport.headers(asked, deadline)
        if content is not None:
            headers["Content-Type"] = content[1]
        seconds = max(deadline.left, 0.001)
        try:
            response = transport.pool.request(
                method,
                self.server + target,
                body=content[0] if content else None,
                headers=headers,
                timeout=urllib3.Timeout(total=seconds),
                retries=False,
                redirect=False,
            )
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise self.no_answer(error, asked, deadline) from error
        if response.status < _REDIRECTS or response.status in accept:
            return Answer(body=response.data, status=response.status, date=answers.date(response.headers.get("Date")))
        raise self.refused(response.status, response.headers, response.data, asked)

    def upgrade(self, path: str, query: Sequence[tuple[str, str]], *, asked: str, deadline: Deadline) -> Upgrade:
        """What it takes to open a websocket there, as the same user; nothing is sent yet.

        Args:
            path: the path: that of ``pods/exec``.
            query: its parameters; a name may come several times.
            asked: the request in words, for errors.
            deadline: a bound for renewing the credentials.

        Raises:
            ReadError: where the credentials are not to be had.
        """
        transport = self._connected(asked)
        scheme, _, rest = self.server.partition("://")
        url = f"{'ws' if scheme == 'http' else 'wss'}://{rest}{path}?{urllib.parse.urlencode(query)}"
        return transport.upgrade(url, transport.headers(asked, deadline))

    def _connected(self, asked: str) -> _Transport:
        """The pool and the credentials, loaded on first use and once: a plugin may ask somebody to log in."""
        with self._lock:
            if self._transport is None and not self._trouble:
                patience = self.deadlines.snapshot / 2
                try:
                    self._transport = bounded(functools.partial(_load, self._chosen), Deadline(patience))
                except TimeoutError:
                    self._trouble = (
                        f"the credentials of context {self.context} were not there within {answers.seconds(patience)} s "
                        f"(command {self._chosen.plugin!r}); log in first: {self._chosen.kubectl} auth whoami"
                    )
                except ClusterError as error:
                    self._trouble = str(error)
            if self._transport is None:
                raise ReadError(self._trouble, asked=asked, everywhere=True)
            return self._transport

    def no_answer(self, error: Exception, asked: str, deadline: Deadline) -> ReadError:
        """The sentence for a request that no HTTP status came back for."""
        import urllib3

        if isinstance(error, urllib3.exceptions.ReadTimeoutError):
            text = f"the API server {self.server} did not answer within {answers.seconds(deadline.seconds)} s: {{asked}}"
            return ReadError(text, asked=asked, pause=0.0)
        why = answers.innermost(error)
        if "certificate verify failed" in str(error):
            return ReadError(
                f"the certificate of the API server {self.server} is not accepted ({why}): "
                "the kubeconfig's certificate-authority must have signed it for this address",
                asked=asked,
                everywhere=True,
                hint=f"try: {self._chosen.kubectl} cluster-info",
            )
        text = f"the API server {self.server} cannot be reached ({why})"
        return ReadError(text, asked=asked, pause=0.0, everywhere=True, hint=f"try: {self._chosen.kubectl} cluster-info")

    def refused(self, status: int, headers: Mapping[str, str], body: bytes, asked: str) -> ReadError:
        """The sentence for an answer that is none."""
        told = answers.told(body)
        message = answers.message(status, headers, body, told)
        about: dict[str, Any] = {"asked": asked, "status": status, "said": message, "cause": told.reason or ""}
        short = f"{status}: {message[: answers.LONGEST_MESSAGE]}"
        if status == _UNAUTHORIZED:
            text = (
                f"the API server {self.server} does not accept the credentials of context {self.context} ({short}): they are expired or "
                f"invalid, log in again, then try: {self._chosen.kubectl} auth whoami"
            )
            return ReadError(text, everywhere=True, **about)
        if status in _PASSING:
            return ReadError(f"the API server answered {{asked}} with {short}", pause=answers.retry_after(headers), **about)
        words = {403: "not permitted", 404: "not found", _GONE: "the list expired while it was read"}
        return ReadError(f"{words.get(status, 'the API server refused')}: {{asked}} ({short})", **about)


class _Transport:
    """The official client's connection pool, and its credentials afresh for each request, so that tokens are renewed."""

    def __init__(self, configuration: Any, chosen: Kubeconfig) -> None:  # noqa: ANN401 - untyped in some versions
        from kubernetes.client import ApiClient

        configuration.connection_pool_maxsize = CONNECTIONS
        self.pool = ApiClient(configuration).rest_client.pool_manager
        self._configuration = configuration
        self._chosen = chosen
        self._lock = threading.Lock()
        self._always = {"Accept": "application/json, */*", "User-Agent": f"pytest-meshready/{version()}"}
        if not _is_loopback(chosen.server):
            self._always["Accept-Encoding"] = "gzip"

    def headers(self, asked: str, deadline: Deadline) -> dict[str, str]:
        """The headers of one request."""
        with self._lock:
            try:
                # renewing may run a plugin or ask an identity provider, neither of which has a time-out of its own
                renews = self._configuration.refresh_api_key_hook is not None and self._chosen.files
                settings = bounded(self._configuration.auth_settings, deadline) if renews else self._configuration.auth_settings()
            except TimeoutError as error:
                raise ReadError(
                    f"the credentials of context {self._chosen.context} were not renewed within {answers.seconds(deadline.seconds)} s",
                    asked=asked,
                    everywhere=True,
                ) from error
        credentials = {item["key"]: item["value"] for item in settings.values() if item["in"] == "header" and item["value"]}
        return {**self._always, **credentials}

    def upgrade(self, url: str, headers: Mapping[str, str]) -> Upgrade:
        """A websocket with the same TLS and the same proxy as the pool."""
        settings = self._configuration
        return Upgrade(
            url=url,
            headers={name: value for name, value in headers.items() if not name.startswith("Accept")},
            tls=_context(settings) if url.startswith("wss:") else None,
            server_name=getattr(settings, "tls_server_name", None) or "",
            proxy=settings.proxy or "",
            bypass=tuple(filter(None, (settings.no_proxy or "").split(","))),
        )


def _context(settings: Any) -> ssl.SSLContext:  # noqa: ANN401 - untyped in some versions
    """TLS as the kubeconfig says: whom to trust, which name to expect, what to show."""
    import ssl

    # not create_default_context: from Python 3.13 on it refuses the authorities of many clusters (VERIFY_X509_STRICT)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if not settings.verify_ssl:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif settings.ssl_ca_cert or getattr(settings, "ca_cert_data", None):
        context.load_verify_locations(cafile=settings.ssl_ca_cert, cadata=getattr(settings, "ca_cert_data", None))
    else:
        context.load_default_certs()
    if settings.assert_hostname is False:
        context.check_hostname = False
    if settings.cert_file:
        context.load_cert_chain(settings.cert_file, settings.key_file)
    return context


def _load(chosen: Kubeconfig) -> _Transport:
    """Log in as the kubeconfig says."""
    from kubernetes import client, config

    loaders: Any = config  # untyped in every version

    configuration = client.Configuration()
    said = _Said()
    root = logging.getLogger()
    root.addHandler(said)
    try:
        if chosen.files:
            files = os.pathsep.join(map(str, chosen.files))
            loaders.load_kube_config(config_file=files, context=chosen.context, client_configuration=configuration)
        else:
            loaders.load_incluster_config(client_configuration=configuration)
        transport = _Transport(configuration, chosen)
    except (config.ConfigException, OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        why = str(error) if isinstance(error, config.ConfigException) else type(error).__name__
        raise ClusterError(f"{chosen.origin}: context {chosen.context!r} cannot be used: {why} (see: kubectl config view)") from error
    finally:
        root.removeHandler(said)
    if chosen.plugin and not configuration.api_key and not configuration.cert_file:
        raise ClusterError(
            f"{chosen.origin}: the command {chosen.plugin!r} of context {chosen.context!r} gave no credentials{said.exit_code}; "
            f"log in first, then try: {chosen.kubectl} auth whoami"
        )
    return transport


class _Said(logging.Handler):
    """Listens to what the official client logs instead of raising: that a credential plugin failed.

    Only the exit code is kept: what a plugin prints may hold anything.
    """

    exit_code = ""

    def emit(self, record: logging.LogRecord) -> None:
        """Look for the exit code."""
        found = re.search(r"process returned (-?\d+)", record.getMessage())
        if found:
            self.exit_code = f" (exit code {found.group(1)})"


@functools.cache
def version() -> str:
    """This package's version, for the User-Agent; `importlib.metadata` is slow and therefore late."""
    import importlib.metadata

    try:
        return importlib.metadata.version("pytest-meshready")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def _is_loopback(server: str) -> bool:
    """Whether compression would only cost: gzip halves the speed of a list on this machine and doubles it below about 2 Gbit/s."""
    host = urllib.parse.urlsplit(server).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
