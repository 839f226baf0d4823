"""A command in a container: exec over one websocket, with standard input and output apart, without a terminal.

The protocol is Kubernetes' ``v5.channel.k8s.io`` or ``v4.channel.k8s.io``: binary messages whose first byte is a channel. The
official client's own stream is not used: it has no bound for reading, and reads and writes one TLS connection from two threads.
Opening is repeated while it fails in a way that may pass; what comes after that is told, not repeated.
"""

from __future__ import annotations

import enum
import urllib.parse
from collections.abc import Sequence

import msgspec
import websocket

from pytest_meshready.cluster.answers import ReadError
from pytest_meshready.cluster.client import Cluster, ClusterError, Upgrade
from pytest_meshready.waiting import Deadline, GaveUp, retry

__all__ = ["Channel", "Exec", "Lost", "open_exec"]

_PROTOCOLS = ("v5.channel.k8s.io", "v4.channel.k8s.io")

#: Bytes of input in one message: what servers of every version take.
_PIECE = 16 * 1024

#: The HTTP status that a websocket begins with.
_SWITCHED = 101

#: Seconds for the peer to answer a farewell.
_FAREWELL = 0.5


class Channel(enum.IntEnum):
    """What the first byte of a message says."""

    STDIN = 0
    STDOUT = 1
    STDERR = 2
    ERROR = 3
    CLOSE = 255


class Lost(ClusterError):  # noqa: N818 - it reads as what happened
    """The session is over: the command ended, the pod went, or the way to it broke; the message is the end of a sentence."""


class _Status(msgspec.Struct):
    status: str = ""
    message: str = ""


#: Built at import, because several threads decode at once (see `pytest_meshready.cluster.decode`).
_STATUS = msgspec.json.Decoder(_Status)


def open_exec(cluster: Cluster, namespace: str, pod: str, *, container: str, command: Sequence[str], deadline: Deadline) -> Exec:
    """Start a command in a container of a running pod.

    Args:
        cluster: where.
        namespace: of the pod.
        pod: its name.
        container: its container.
        command: the command and its arguments; no shell looks at them.
        deadline: until when to try; one try has the deadline for one request besides.

    Raises:
        ReadError: with one sentence; its ``status`` is 403 where exec is not permitted.
    """
    asked = f"exec in pod {namespace}/{pod}"
    query = [("container", container), ("stdin", "true"), ("stdout", "true"), ("stderr", "true"), ("tty", "false")]
    query += [("command", word) for word in command]
    try:
        return retry(
            lambda: _open(cluster, f"/api/v1/namespaces/{namespace}/pods/{pod}/exec", query, asked=asked, deadline=deadline),
            retry_on=lambda error: error.pause if isinstance(error, ReadError) else None,
            deadline=deadline,
        )
    except GaveUp as gave_up:
        raise gave_up.last from gave_up


def _open(cluster: Cluster, path: str, query: Sequence[tuple[str, str]], *, asked: str, deadline: Deadline) -> Exec:
    bound = deadline.within(cluster.deadlines.request)
    upgrade = cluster.upgrade(path, query, asked=asked, deadline=bound)
    try:
        socket = _websocket(upgrade, max(bound.left, 0.001))
    except websocket.WebSocketBadStatusException as error:
        headers = {name.title(): value for name, value in (error.resp_headers or {}).items()}
        raise cluster.refused(error.status_code, headers, error.resp_body or b"", asked) from error
    except websocket.WebSocketTimeoutException as error:
        text = f"the API server {cluster.server} did not answer within {bound.seconds:.0f} s: {{asked}}"
        raise ReadError(text, asked=asked, pause=0.0) from error
    except (websocket.WebSocketException, OSError) as error:
        raise cluster.no_answer(error, asked, bound) from error
    status = socket.getstatus() or 0
    if status != _SWITCHED:  # older versions of the library take a redirect that is not followed for a success
        socket.close()
        raise cluster.refused(status, {}, b"", asked)
    return Exec(socket)


def _websocket(upgrade: Upgrade, seconds: float) -> websocket.WebSocket:
    tls: dict[str, object] = {"context": upgrade.tls} if upgrade.tls else {}
    if upgrade.server_name:
        tls["server_hostname"] = upgrade.server_name
    proxy: dict[str, object] = {}
    if upgrade.proxy:
        address = urllib.parse.urlsplit(upgrade.proxy)
        proxy = {"http_proxy_host": address.hostname, "http_proxy_port": address.port or 80, "http_no_proxy": list(upgrade.bypass)}
        if address.username:
            proxy["http_proxy_auth"] = (urllib.parse.unquote(address.username), urllib.parse.unquote(address.password or ""))
    # one thread at a time uses it, and what comes are bytes
    socket = websocket.WebSocket(sslopt=tls, enable_multithread=False, skip_utf8_validation=True)
    headers = [f"{name}: {value}" for name, value in upgrade.headers.items()]
    # no redirects: the credentials are for this server alone
    options = {"header": headers, "subprotocols": list(_PROTOCOLS), "redirect_limit": 0, **proxy}
    socket.connect(upgrade.url, timeout=seconds, **options)  # type: ignore[no-untyped-call]
    return socket


class Exec:
    """A running command. It may be used by one thread at a time only."""

    def __init__(self, socket: websocket.WebSocket) -> None:
        self._socket = socket

    def fileno(self) -> int:
        """For selectors; look at `waiting` before."""
        connection = self._socket.sock
        return connection.fileno() if connection else -1

    @property
    def waiting(self) -> bool:
        """Whether bytes have come that a selector does not see, because TLS holds them."""
        pending = getattr(self._socket.sock, "pending", None)
        return bool(pending and pending())

    def read(self, seconds: float) -> tuple[int, bytes] | None:
        """The next message: its channel and its content; None if none came in time. It may be read on after that.

        Raises:
            Lost: where no more will come.
        """
        try:
            self._socket.settimeout(max(seconds, 0.001))
            opcode, data = self._socket.recv_data()
        except websocket.WebSocketTimeoutException:
            return None
        except (websocket.WebSocketException, OSError) as error:
            raise Lost(f"the connection broke ({_reason(error)})") from error
        if opcode == websocket.ABNF.OPCODE_CLOSE:
            said = data[2:].decode(errors="replace").strip()
            raise Lost(f"the API server closed it{f' ({said})' if said else ''}")
        if len(data) < 2:  # every channel begins with an empty message
            return None
        if data[0] == Channel.ERROR:
            raise Lost(_ended(bytes(data[1:])))
        return data[0], bytes(data[1:])

    def write(self, data: bytes, seconds: float) -> None:
        """Send this to the command's standard input.

        Raises:
            Lost: where it could not be sent in time; nothing can be sent after that.
        """
        try:
            self._socket.settimeout(max(seconds, 0.001))
            for start in range(0, len(data), _PIECE):
                self._socket.send_binary(bytes([Channel.STDIN]) + data[start : start + _PIECE])
        except (websocket.WebSocketException, OSError) as error:
            raise Lost(f"the connection broke ({_reason(error)})") from error

    def close(self) -> None:
        """End the session; the container runtime then closes the command's standard input."""
        self._socket.close(timeout=_FAREWELL)
        self._socket.shutdown()  # type: ignore[no-untyped-call]  # after a farewell of the peer's, close() leaves it open


def _ended(data: bytes) -> str:
    """How the command ended, from the message on the error channel."""
    try:
        status = _STATUS.decode(data)
    except msgspec.MsgspecError:
        return "the command ended"
    said = " ".join(status.message.split()).replace("Internal error occurred: ", "")  # each server on the way adds it once more
    return f"the command ended: {said[:300]}" if status.status == "Failure" else "the command ended"


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
