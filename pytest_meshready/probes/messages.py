"""What a probe is asked and what it answers: the contract between the run and the agent in the pod.

Both travel as JSON, one object a line; fields at their default are left out. The agent (``agent.py``) is one file of the
standard library and does not import this module: what is said here is what it does, and the tests of the agent go through here.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Iterator, Sequence

import msgspec

from pytest_meshready.probes.agent import CONCURRENT
from pytest_meshready.probes.certificates import self_signed_pem

__all__ = ["Answer", "Ask", "ClientCertificate", "Done", "Hello", "Message", "Op", "Outcome", "Trouble", "decode", "encode", "patience"]

Header = tuple[str, str]


class Op(enum.StrEnum):
    """What a probe does. Each one opens a new connection and closes it afterwards."""

    HTTP = "http"
    """one GET of HTTP/1.1, inside TLS where `Ask.tls` is set"""
    GRPC = "grpc"
    """one GET that says ``content-type: application/grpc``, over HTTP/2 without TLS: a proxy or a gRPC server answers it with
    a ``grpc-status``, and no method is run, because a call is a POST"""
    TCP = "tcp"
    """connect, send `Ask.send` (nothing if it is empty), and see what comes"""
    HOLD = "hold"
    """connect, send no byte, and look on for the whole of `Ask.read`, whatever comes"""
    TLS = "tls"
    """shake hands, note what the peer shows, write nothing, and see what comes"""
    DNS = "dns"
    """look a name up as every program in the pod does"""


class Outcome(enum.StrEnum):
    """How an ask ended, as seen from the probe. Nothing of it is a judgement.

    Inside the mesh the probe's own sidecar accepts every connection at once: there, that a connection was made says nothing
    of the target.
    """

    ANSWERED = "answered"
    """bytes came: an HTTP status, a greeting, an echo; for ``tls``: bytes of the application inside TLS"""
    OPEN = "open"
    """the connection stayed open and not a byte came (``tcp``, ``hold``); for ``tls`` also: the handshake was completed and
    nothing followed, if there is a `Answer.certificate_chain`"""
    EOF = "eof"
    """the peer closed the connection in an orderly way, before it answered"""
    RESET = "reset"
    """the peer, or somebody on the way, reset the connection (ECONNRESET, EPIPE)"""
    TLS_ALERT = "tls_alert"
    """the peer ended the handshake, or what followed it, with the alert `Answer.alert`"""
    NOT_TLS = "not_tls"
    """a ClientHello was answered with bytes that are no TLS of a server: it went through to an application without TLS"""
    TIMEOUT = "timeout"
    """no answer in time: no connection, if `Answer.connected` is false, else no answer to the request or the ClientHello"""
    REFUSED = "refused"
    """nobody listens there (ECONNREFUSED)"""
    UNREACHABLE = "unreachable"
    """there is no way there (no route, not permitted)"""
    UNRESOLVED = "unresolved"
    """the name service does not know the name, or failed"""
    ERROR = "error"
    """the probe itself could not do it, or was lost: this says nothing about the target"""


class ClientCertificate(enum.StrEnum):
    """What the probe shows in a TLS handshake, where the server asks for a certificate."""

    NONE = "none"
    SELF_SIGNED = "self-signed"


class Ask(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing to do for a probe. There is no method: requests are GET, always.

    Example:
        >>> Ask(id="ledger", op=Op.HTTP, host="ledger.payments", port=8080, path="/healthz").timeout
        5.0
    """

    id: str
    """names the answer; unique within one call of a prober"""
    op: Op
    host: str
    """a name or an address, of a Service or a pod"""
    port: int = 0
    path: str = "/"
    """HTTP and gRPC: the path, with its query"""
    headers: tuple[Header, ...] = ()
    """HTTP and gRPC: more headers, in this order. ``Host`` replaces the one made of `host` and `port`; ``User-Agent`` is ours"""
    tls: bool = False
    """HTTP: inside TLS; the peer's certificate is noted, not verified"""
    send: bytes = b""
    """TCP: what to send as soon as the connection is there; empty: not a byte"""
    greeting: bool = False
    """TCP: wait for the server to speak first, and send only then; nothing is sent to one that does not. Where Istio denies the
    connection at our first byte, one that is sent at once overtakes the greeting in 2 of 100 cases (measured)"""
    alpn: tuple[str, ...] = ()
    """TLS: the protocols to offer, in this order; empty: the extension is left out"""
    server_name: str = ""
    """TLS: the server's name (SNI); empty: none is sent"""
    client_cert: ClientCertificate = ClientCertificate.NONE
    """TLS: what to show where the server asks for a certificate"""
    timeout: float = 5.0
    """seconds for the name and the connection; for HTTP and gRPC for the whole ask"""
    read: float = 3.0
    """TCP, hold: seconds to wait for the first byte; TLS: for the handshake, and again for what follows it"""
    linger: float = 1.0
    """TCP, TLS: seconds to look on after the first byte, to see whether the connection stays"""
    keep: int = 4096
    """HTTP and gRPC: bytes of the body to keep, at most 1 MiB; what is longer is not read to its end"""

    @property
    def longest(self) -> float:
        """Seconds that this can take at most in the probe, with a second for the way."""
        reads = {Op.TCP: 2 * self.read + self.linger, Op.HOLD: self.read, Op.TLS: 2 * self.read + self.linger}
        return self.timeout + reads.get(self.op, 0.0) + 1.0


class Answer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What came back. Times are in seconds since the ask was begun, None where it did not come to that."""

    id: str
    outcome: Outcome
    alert: str = ""
    """TLS: the name of the alert as in RFC 8446: ``certificate_required``, ``unknown_ca``, ``no_application_protocol``"""
    status: int = 0
    """HTTP and gRPC: the HTTP status; 0 if none came"""
    grpc_status: int | None = None
    """the ``grpc-status`` of headers or trailers: 7 is PERMISSION_DENIED"""
    headers: tuple[Header, ...] = ()
    """HTTP and gRPC: headers as received, then the trailers of gRPC"""
    body: str = ""
    """HTTP and gRPC: the beginning of the body, at most `Ask.keep` bytes, as UTF-8"""
    truncated: bool = False
    """whether the body is longer than what was kept"""
    first_bytes: str = ""
    """the first 64 bytes as they came over the wire (for TLS: its records), in hexadecimal"""
    received: int = 0
    """TCP, hold, TLS: bytes that came in all (for TLS: decrypted)"""
    ending: str = ""
    """TCP, hold, TLS: how the connection stood when it was looked at last: ``open``, ``eof``, ``reset``, ``tls_alert``"""
    certificate_chain: tuple[bytes, ...] = ()
    """TLS: the certificates that the peer showed, its own first, as DER; only its own one where the probe's Python is older than 3.10"""
    alpn_selected: str = ""
    """TLS: the protocol that the peer chose; empty for none"""
    tls_version: str = ""
    """TLS: the version as OpenSSL calls it: ``TLSv1.3``"""
    addresses: tuple[str, ...] = ()
    """DNS: the addresses, in the resolver's order"""
    peer: str = ""
    """the address that was connected to"""
    connect_seconds: float | None = None
    first_byte_seconds: float | None = None
    seconds: float = 0.0
    """until the ask was done"""
    error: str = ""
    """what went wrong, in the probe's words"""

    @property
    def connected(self) -> bool:
        """Whether the connection was made."""
        return self.connect_seconds is not None

    def values(self, name: str) -> Iterator[str]:
        """All values of a header, whatever its case."""
        return (value for key, value in self.headers if key.lower() == name.lower())

    def header(self, name: str) -> str:
        """The first value of a header, whatever its case; empty if there is none."""
        return next(self.values(name), "")


class Hello(msgspec.Struct, frozen=True, kw_only=True):
    """The agent's first line: its version, that of its Python, and the name of its pod."""

    agent: int
    python: str
    pod: str


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """The last line of a batch: so many answers were printed."""

    done: int


class Trouble(msgspec.Struct, frozen=True, kw_only=True):
    """The agent did not understand a line."""

    trouble: str


Message = Hello | Answer | Done | Trouble


class _Line(msgspec.Struct):
    """Every kind of line, told apart by the field that it has."""

    hello: Hello | None = None
    done: int | None = None
    trouble: str | None = None


def patience(asks: Sequence[Ask]) -> float:
    """Seconds in which all of these are answered, however silent the targets are: for the deadline of a prober."""
    return math.ceil(len(asks) / CONCURRENT) * max((ask.longest for ask in asks), default=0.0)


#: Built at import, not by the first of several conversations at once (see `pytest_meshready.cluster.decode`).
_LINES, _ANSWERS = msgspec.json.Decoder(_Line), msgspec.json.Decoder(Answer)


def encode(ask: Ask) -> bytes:
    """An ask as one line for the agent, with its end; a client certificate goes with it, for the agent cannot make one."""
    if ask.client_cert is ClientCertificate.NONE:
        return msgspec.json.encode(ask) + b"\n"
    return msgspec.json.encode({**msgspec.to_builtins(ask), "client_pem": self_signed_pem()}) + b"\n"


def decode(line: bytes) -> Message | None:
    """A line of the agent; None for one that is not the agent's (an image may print what it likes before)."""
    try:
        kind = _LINES.decode(line)
        if kind.hello is not None:
            return kind.hello
        if kind.done is not None:
            return Done(done=kind.done)
        if kind.trouble is not None:
            return Trouble(trouble=kind.trouble)
        return _ANSWERS.decode(line)
    except msgspec.MsgspecError:
        return None
