"""The probe: this one file runs inside a pod, sends what it is asked to send, and says what came back.

It needs nothing but a Python of version 3.8 or later, and imports nothing of the package that delivers it by ConfigMap. What it
is asked and what it answers is described field by field in ``messages.py``: JSON, one object a line.

    agent.py talk    reads asks from standard input, runs up to 32 at a time, prints each answer when it is there;
                     ends when the input ends, on {"op": "bye"}, or after MESHREADY_LIFETIME seconds
    agent.py batch   reads asks, one a line, from MESHREADY_ASKS_0, MESHREADY_ASKS_1, ..., prints the answers, then {"done": n}
    agent.py host    answers GET with the request as JSON, so that one sees what a sidecar added to it, until it is ended

Manners: GET only, a new connection for every ask, a User-Agent that says who this is (MESHREADY_USER_AGENT), and not one byte
more than was asked for. Nothing here judges; the other side does.
"""

from __future__ import annotations

import base64
import errno
import json
import os
import re
import signal
import socket
import ssl
import struct
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any, Callable

VERSION = 1
CONCURRENT = 32
ECHO_PORT = 8080

# the defaults of an ask, in seconds and bytes, and the most that is kept of a body
TIMEOUT, READ, LINGER, KEEP = 5.0, 3.0, 1.0, 4096
MOST_KEPT = 1 << 20
FIRST_BYTES = 64
CLOSED = "the connection was closed"

# TLS: the first byte of a record, and of the message in a record of the handshake
ALERT_RECORD, HANDSHAKE_RECORD, SERVER_HELLO = 21, 22, 2

# HTTP/2 (RFC 9113): types of frames, their flags, the largest frame that may come
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, CONTINUATION = 0, 1, 3, 4, 6, 7, 9
ACK = END_STREAM = 1
END_HEADERS, PADDED, PRIORITY = 4, 8, 32
LARGEST_FRAME = 16384
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

# HPACK's static table (RFC 7541, appendix A), without the values that no answer has
STATIC = (  # noqa: SIM905 - sixty lines otherwise
    ":authority :method :method :path :path :scheme :scheme :status=200 :status=204 :status=206 :status=304 :status=400 :status=404 "
    ":status=500 accept-charset accept-encoding accept-language accept-ranges accept access-control-allow-origin age allow "
    "authorization cache-control content-disposition content-encoding content-language content-length content-location content-range "
    "content-type cookie date etag expect expires from host if-match if-modified-since if-none-match if-range if-unmodified-since "
    "last-modified link location max-forwards proxy-authenticate proxy-authorization range referer refresh retry-after server "
    "set-cookie strict-transport-security transfer-encoding user-agent vary via www-authenticate"
).split()

# The lengths in bits of HPACK's Huffman codes for the bytes 0 to 255 and the end (appendix B), as letters: A is 5, Z is 30.
# That is the whole code, for it is canonical: codes of one length follow each other in the order of their symbols.
LENGTHS = (
    "ISXXXXXXXTZXXZXXXXXXXXZXXXXXXXXXBFFHIBDGFFDGDBBBAAABBBBBBBCDKBHFIBCCCCCCCCCCCCCCCCCCCCCCDCDIOIJBKABABABBBACCBBBABCBAABCCCCCKGJIX"
    "PRPPRRRSRSSSSSTSTTRSTSSSSQRSRSSTRQPRRSSQSRRTQRSSQQRQSRSSPRRRSRRSVVPORSRUVVVWWVTUOQVWWVWTQQVVXWWWPTPQRQQSRRUUTTVSVWVVWWWWWXWWWWWVZ"
)


class NotTls(Exception):  # noqa: N818 - it reads as what happened
    """What came back is no TLS of a server."""


class Alert(Exception):  # noqa: N818
    """The peer ended the connection with a TLS alert; the text is its name."""


# What an exception says about the connection. An SSLError is an OSError, and so is every other one but the first three.
MEANINGS: tuple[tuple[type[BaseException], str], ...] = (
    (Alert, "tls_alert"),
    (NotTls, "not_tls"),
    (EOFError, "eof"),
    (ssl.SSLError, "error"),
    (socket.timeout, "timeout"),
    (TimeoutError, "timeout"),
    (socket.gaierror, "unresolved"),
    (ConnectionRefusedError, "refused"),
    (ConnectionResetError, "reset"),
    (BrokenPipeError, "reset"),
    (ConnectionAbortedError, "reset"),
)
UNREACHABLE = {errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN, errno.EHOSTDOWN, errno.EADDRNOTAVAIL, errno.EACCES, errno.EPERM}


def meaning(error: BaseException) -> str:
    """The outcome that an exception stands for."""
    for kind, outcome in MEANINGS:
        if isinstance(error, kind):
            return outcome
    return "unreachable" if isinstance(error, OSError) and error.errno in UNREACHABLE else "error"


def lookup(host: str, port: int, seconds: float) -> list[Any]:
    """The addresses of a name; the C library's search has no bound, therefore it runs beside."""
    try:
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except socket.gaierror:
        pass
    found: list[Any] = []

    def search() -> None:
        try:
            found.append(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as error:
            found.append(error)

    thread = threading.Thread(target=search, daemon=True)
    thread.start()
    thread.join(max(seconds, 0.001))
    if not found:
        raise socket.timeout("the name service did not answer")
    if isinstance(found[0], Exception):
        raise found[0]
    return list(found[0])


class Stream:
    """One new connection; it notes in the answer when it was there, and when and with what the first bytes came."""

    def __init__(self, ask: dict[str, Any], answer: dict[str, Any]) -> None:
        self.answer = answer
        self.began = time.monotonic()
        self.limit = self.began + ask.get("timeout", TIMEOUT)
        self.first = b""
        address = lookup(ask["host"], ask["port"], self.limit - self.began)[0][4]
        answer["peer"] = address[0]
        self.sock = socket.create_connection(address[:2], timeout=max(self.limit - time.monotonic(), 0.001))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        answer["connect_seconds"] = self.since()

    def since(self) -> float:
        """Seconds since the ask began."""
        return round(time.monotonic() - self.began, 4)

    def close(self) -> None:
        """Let go of it."""
        self.sock.close()

    def send(self, data: bytes) -> None:
        """Send all of it."""
        self.sock.settimeout(max(self.limit - time.monotonic(), 0.001))
        self.sock.sendall(data)

    def receive(self, until: float) -> bytes:
        """What comes next, nothing at the end."""
        self.sock.settimeout(max(until - time.monotonic(), 0.001))
        data = self.sock.recv(65536)
        if data and not self.first:
            self.answer["first_byte_seconds"] = self.since()
        if len(self.first) < FIRST_BYTES:
            self.first += data[: FIRST_BYTES - len(self.first)]
            self.answer["first_bytes"] = self.first.hex()
        return data


class Tls:
    """TLS over a stream, with nothing verified: what the peer shows is what we are here for."""

    def __init__(self, stream: Stream, ask: dict[str, Any]) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        if ask.get("alpn"):
            context.set_alpn_protocols(ask["alpn"])
        if ask.get("client_pem"):
            show(context, ask["client_pem"])
        self.stream = stream
        self.ended = False
        self.came, self.goes = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.came, self.goes, server_hostname=ask.get("server_name") or None)

    def handshake(self, until: float) -> None:
        """Shake hands, and note what the peer showed."""
        self.run(self.tls.do_handshake, until)
        raw: Any = self.tls
        # public from Python 3.13 on, and from 3.10 on the object within has it; before, only the peer's own certificate is to be had
        chain = getattr(raw, "get_unverified_chain", None) or getattr(getattr(raw, "_sslobj", None), "get_unverified_chain", None)
        ders = [der if isinstance(der, bytes) else ssl.PEM_cert_to_DER_cert(der.public_bytes()) for der in (chain() or ())] if chain else []
        own = self.tls.getpeercert(binary_form=True)
        answer = self.stream.answer
        answer["certificate_chain"] = [base64.b64encode(der).decode() for der in ders or ([own] if own else [])]
        answer["alpn_selected"] = self.tls.selected_alpn_protocol() or ""
        answer["tls_version"] = self.tls.version() or ""

    def send(self, data: bytes) -> None:
        """Send all of it, encrypted."""
        self.run(lambda: self.tls.write(data), self.stream.limit)

    def receive(self, until: float) -> bytes:
        """What comes next, decrypted, nothing at the end."""
        try:
            return bytes(self.run(lambda: self.tls.read(65536), until))
        except EOFError:
            return b""

    def run(self, step: Callable[[], Any], until: float) -> Any:  # noqa: ANN401 - what the step returns
        """Do one step of TLS, however many bytes have to come and go for it."""
        while True:
            try:
                result = step()
            except ssl.SSLWantReadError:  # noqa: PERF203 - this is how a step says that bytes have to come first
                self.flush()
                data = self.stream.receive(until)
                if data:
                    self.came.write(data)
                elif self.ended:
                    raise EOFError(CLOSED) from None
                else:
                    self.ended = True
                    self.came.write_eof()
            except ssl.SSLError as error:
                raise self.reason(error) from error
            else:
                self.flush()
                return result

    def flush(self) -> None:
        """Send what TLS wants to be sent."""
        data = self.goes.read()
        if data:
            self.stream.send(data)

    def reason(self, error: ssl.SSLError) -> BaseException:
        """What a failure of TLS means."""
        alert = re.match(r"(?:TLSV1|TLSV13|SSLV3)_(?:ALERT_)?(\w+)$", error.reason or "")
        if alert:
            return Alert(alert.group(1).lower())
        first = self.stream.first
        echoed = first[:1] == bytes([HANDSHAKE_RECORD]) and first[5:6] != bytes([SERVER_HELLO])
        if first and (echoed or first[0] not in (ALERT_RECORD, HANDSHAKE_RECORD)):
            return NotTls("what came back is no TLS of a server")
        return EOFError(CLOSED) if self.ended or isinstance(error, ssl.SSLZeroReturnError) else error


def show(context: ssl.SSLContext, pem: str) -> None:
    """Use a client certificate and its key without a file: the pod has none to write to."""
    file = os.memfd_create("certificate")
    try:
        os.write(file, pem.encode())
        context.load_cert_chain(f"/proc/self/fd/{file}")
    finally:
        os.close(file)


def watch(channel: Stream | Tls, ask: dict[str, Any], answer: dict[str, Any], *, whole: bool) -> None:
    """Write nothing and see what comes: bytes, the end, a reset, an alert, or nothing at all.

    After the first byte it is watched a little longer, to see whether the connection stays; ``whole``: for the whole time.
    """
    until = time.monotonic() + ask.get("read", READ)
    received, ending = 0, ""
    while not ending:
        try:
            data = channel.receive(until)
        except Alert as alert:  # noqa: PERF203 - every round waits for the network
            ending, answer["alert"] = "tls_alert", str(alert)
        except (socket.timeout, TimeoutError):
            ending = "open"
        except ConnectionError:
            ending = "reset"
        else:
            if data and not received and not whole:
                until = time.monotonic() + ask.get("linger", LINGER)
            received += len(data)
            ending = "" if data else "eof"
    answer.update(outcome="answered" if received else ending, ending=ending, received=received)


def ask_tcp(ask: dict[str, Any], answer: dict[str, Any]) -> None:
    """Connect, send the bytes that are given, or none, and see what comes; ``hold`` looks on to the end."""
    with closing(Stream(ask, answer)) as stream:
        heard = 0
        if ask.get("greeting"):
            watch(stream, {**ask, "linger": 0}, answer, whole=False)
            heard = answer["received"]
            if not heard or answer["ending"] != "open":
                return
        if ask.get("send"):
            stream.send(base64.b64decode(ask["send"]))
        watch(stream, ask, answer, whole=ask["op"] == "hold")
        if heard:
            answer.update(outcome="answered", received=answer["received"] + heard)


def ask_tls(ask: dict[str, Any], answer: dict[str, Any]) -> None:
    """Shake hands, then write nothing: with bytes of ours on the way the peer's alert is often lost."""
    with closing(Stream(ask, answer)) as stream:
        channel = Tls(stream, ask)
        try:
            channel.handshake(time.monotonic() + ask.get("read", READ))
        except (socket.timeout, TimeoutError):
            if stream.first:
                raise
            answer.update(outcome="open", ending="open")
            return
        watch(channel, ask, answer, whole=False)


def ask_dns(ask: dict[str, Any], answer: dict[str, Any]) -> None:
    """Look a name up as every program in the pod does."""
    found = lookup(ask["host"], ask.get("port", 0), ask.get("timeout", TIMEOUT))
    answer.update(outcome="answered", addresses=list(dict.fromkeys(entry[4][0] for entry in found)))


# ------------------------------------------------------------------------------------------------------- HTTP


class Reader:
    """Bytes of a connection, by lines or by number."""

    def __init__(self, receive: Callable[[], bytes]) -> None:
        self.receive = receive
        self.buffer = b""

    def more(self) -> bool:
        """Wait for more; False at the end."""
        data = self.receive()
        self.buffer += data
        return bool(data)

    def line(self) -> str:
        """The next line."""
        while b"\n" not in self.buffer:
            if len(self.buffer) > MOST_KEPT:
                raise ValueError("the answer has a line without an end")
            if not self.more():
                raise EOFError(CLOSED)
        line, _, self.buffer = self.buffer.partition(b"\n")
        return line.rstrip(b"\r").decode("latin-1")

    def take(self, size: int) -> bytes:
        """So many bytes; fewer at the end."""
        while len(self.buffer) < size and self.more():
            pass
        taken, self.buffer = self.buffer[:size], self.buffer[size:]
        return taken


def own_headers(ask: dict[str, Any]) -> list[tuple[str, str]]:
    """The headers of a request, after Host; nobody may give one a second line."""
    given = [(str(name), str(value)) for name, value in ask.get("headers", ()) if name.lower() not in ("host", "user-agent")]
    for text in (ask["host"], ask.get("path", "/"), *(part for header in given for part in header)):
        if re.search(r"[\r\n\0]", text):
            raise ValueError("a line break in the request")
    return [("User-Agent", os.environ.get("MESHREADY_USER_AGENT", "pytest-meshready (acceptance test)")), *given]


def authority(ask: dict[str, Any]) -> str:
    """The host that the request names: the one that is given, or the one that is connected to."""
    named = [str(value) for name, value in ask.get("headers", ()) if name.lower() == "host"]
    host = f"[{ask['host']}]" if ":" in ask["host"] else ask["host"]
    return re.sub(r"\s", "", named[0]) if named else f"{host}:{ask['port']}"


def ask_http(ask: dict[str, Any], answer: dict[str, Any]) -> None:
    """One GET of HTTP/1.1, inside TLS if asked for."""
    lines = [f"GET {ask.get('path', '/')} HTTP/1.1", f"Host: {authority(ask)}", "Accept: */*", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in own_headers(ask)]
    request = "\r\n".join([*lines, "", ""]).encode("latin-1")
    with closing(Stream(ask, answer)) as stream:
        channel: Stream | Tls = stream
        if ask.get("tls"):
            channel = Tls(stream, ask)
            channel.handshake(stream.limit)
        channel.send(request)
        reader = Reader(lambda: channel.receive(stream.limit))
        chunked, length = read_head(reader, answer)
        keep = min(ask.get("keep", KEEP), MOST_KEPT)
        body = b""
        try:
            for part in chunks(reader, keep) if chunked else [reader.take(min(keep + 1, length))]:
                body += part
        except OSError:
            body += reader.buffer
            raise
        finally:
            note_body(answer, body, keep)
        if not chunked and len(body) < length <= keep:
            raise EOFError("the body ended early")


def read_head(reader: Reader, answer: dict[str, Any]) -> tuple[bool, int]:
    """Read status and headers; whether the body comes in chunks, and its length."""
    status = 100
    while 100 <= status < 200:
        first = reader.line()
        found = re.match(r"HTTP/1\.[01] (\d{3})", first)
        if not found:
            answer["outcome"] = "answered"
            raise ValueError("the answer is not HTTP/1")
        status = int(found.group(1))
        headers = []
        for line in iter(reader.line, ""):
            name, _, value = line.partition(":")
            headers.append([name.strip(), value.strip()])
    answer.update(outcome="answered", status=status, headers=headers)
    known = {name.lower(): value for name, value in headers}
    note_grpc_status(answer, known)
    if status in (204, 304):
        return False, 0
    return "chunked" in known.get("transfer-encoding", "").lower(), int(known.get("content-length", MOST_KEPT + 1))


def chunks(reader: Reader, keep: int) -> Any:  # noqa: ANN401 - an iterator of bytes
    """The parts of a body that comes in chunks, until more than enough has come."""
    seen = 0
    while seen <= keep:
        size = int(reader.line().partition(";")[0], 16)
        if size == 0:
            return
        data = reader.take(size)
        seen += len(data)
        yield data
        if len(data) < size:
            raise EOFError("the body ended early")
        reader.line()


def note_body(answer: dict[str, Any], body: bytes, keep: int) -> None:
    """Keep the beginning of a body, as text."""
    answer.update(body=body[:keep].decode("utf-8", "replace"), truncated=len(body) > keep)


def note_grpc_status(answer: dict[str, Any], headers: dict[str, str]) -> None:
    """Keep the status of a gRPC call; a proxy that refuses a call puts it into the headers."""
    if re.match(r"\d+$", headers.get("grpc-status", "")):
        answer["grpc_status"] = int(headers["grpc-status"])


# ----------------------------------------------------------------------------------------------------- HTTP/2


def ask_grpc(ask: dict[str, Any], answer: dict[str, Any]) -> None:
    """One GET that says it is gRPC, over HTTP/2 without TLS.

    A call of gRPC is a POST; a GET is answered by a proxy or a gRPC server all the same (grpc-status), and runs no method.
    """
    fields = [(":method", "GET"), (":scheme", "http"), (":authority", authority(ask)), (":path", ask.get("path", "/"))]
    fields += [("content-type", "application/grpc"), ("te", "trailers"), *own_headers(ask)]
    block = b"".join(b"\0" + literal(name.lower()) + literal(value) for name, value in fields)
    with closing(Stream(ask, answer)) as stream:
        # a header table of no size: so the answer's headers refer to the static table only
        settings = frame(SETTINGS, 0, 0, struct.pack("!HIHI", 1, 0, 2, 0))
        stream.send(PREFACE + settings + frame(HEADERS, END_STREAM | END_HEADERS, 1, block))
        reader = Reader(lambda: stream.receive(stream.limit))
        keep = min(ask.get("keep", KEEP), MOST_KEPT)
        headers, body, ends, over = b"", b"", 0, False
        while not over and len(body) <= keep:
            kind, flags, number, payload = next_frame(reader, stream, answer)
            if number != 1:
                continue
            if kind in (HEADERS, CONTINUATION):
                headers += bare(payload, flags) if kind == HEADERS else payload
                if flags & END_HEADERS:
                    note_fields(answer, unpack(headers))
                    headers = b""
                ends = flags & END_STREAM if kind == HEADERS else ends
                over = bool(ends and flags & END_HEADERS)
            elif kind == DATA:
                body += bare(payload, flags)
                over = bool(flags & END_STREAM)
            elif kind == RST_STREAM:
                raise ValueError(f"the stream was reset, HTTP/2 error {int.from_bytes(payload, 'big')}")
        note_body(answer, body, keep)


def frame(kind: int, flags: int, number: int, payload: bytes) -> bytes:
    """One frame of HTTP/2."""
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + number.to_bytes(4, "big") + payload


def next_frame(reader: Reader, stream: Stream, answer: dict[str, Any]) -> tuple[int, int, int, bytes]:
    """The next frame; what belongs to the connection is answered here."""
    head = reader.take(9)
    if not head:
        raise EOFError(CLOSED)
    size = int.from_bytes(head[:3], "big")
    if len(head) < 9 or size > LARGEST_FRAME or head[3] > CONTINUATION:
        answer["outcome"] = "answered"
        raise ValueError("the answer is not HTTP/2")
    payload = reader.take(size)
    if len(payload) < size:
        raise EOFError(CLOSED)
    kind, flags, number = head[3], head[4], int.from_bytes(head[5:9], "big") & 0x7FFFFFFF
    if kind in (SETTINGS, PING) and not flags & ACK:
        stream.send(frame(kind, ACK, 0, payload if kind == PING else b""))
    elif kind == GOAWAY:
        raise ValueError(f"the server said goaway, HTTP/2 error {int.from_bytes(payload[4:8], 'big')}")
    return kind, flags, number, payload


def bare(payload: bytes, flags: int) -> bytes:
    """A payload without its padding and priority."""
    if flags & PADDED:
        payload = payload[1 : len(payload) - payload[0]]
    return payload[5:] if flags & PRIORITY else payload


def note_fields(answer: dict[str, Any], fields: list[tuple[str, str]]) -> None:
    """Keep headers, or trailers."""
    known = dict(fields)
    if known.get(":status", "").isdigit():
        answer.update(outcome="answered", status=int(known[":status"]))
    answer.setdefault("headers", []).extend([name, value] for name, value in fields if not name.startswith(":"))
    note_grpc_status(answer, known)


def number_bytes(value: int) -> bytes:
    """The length of a string of HPACK (RFC 7541, 5.1 with a prefix of 7 bits)."""
    if value < 127:
        return bytes([value])
    rest, out = value - 127, bytearray([127])
    while rest >= 128:
        out.append(rest % 128 + 128)
        rest //= 128
    return bytes(out) + bytes([rest])


def literal(text: str) -> bytes:
    """A string of HPACK, not compressed."""
    data = text.encode("latin-1")
    return number_bytes(len(data)) + data


def unpack(block: bytes) -> list[tuple[str, str]]:
    """The fields of a header block of an encoder that was given no table of its own."""
    at = 0

    def number(bits: int) -> int:
        nonlocal at
        top = (1 << bits) - 1
        value, at = block[at] & top, at + 1
        shift = 0
        while value >= top and (shift == 0 or block[at - 1] & 128):
            value += (block[at] & 127) << shift
            shift, at = shift + 7, at + 1
        return value

    def text() -> str:
        nonlocal at
        packed = block[at] & 128
        size = number(7)
        data, at = block[at : at + size], at + size
        return (unhuffman(data) if packed else data).decode("latin-1")

    fields = []
    while at < len(block):
        first = block[at]
        if first & 0xE0 == 0x20:  # the size of a table that stays empty
            number(5)
            continue
        index = number(7 if first & 128 else 6 if first & 64 else 4)
        name, _, value = STATIC[index - 1].partition("=") if 0 < index <= len(STATIC) else ("", "", "")
        if not first & 128:
            name = name if index else text()
            value = text()
        fields.append((name, value))
    return fields


def unhuffman(data: bytes) -> bytes:
    """Text that was compressed with HPACK's Huffman code."""
    codes, code, before = {}, 0, 5
    for length, symbol in sorted((ord(letter) - 60, symbol) for symbol, letter in enumerate(LENGTHS)):
        code <<= length - before
        before = length
        codes[length, code] = symbol
        code += 1
    out, value, length = bytearray(), 0, 0
    for byte in data:
        for bit in range(7, -1, -1):
            value, length = value << 1 | byte >> bit & 1, length + 1
            if (length, value) in codes:
                out.append(codes[length, value])
                value = length = 0
    return bytes(out)


# ------------------------------------------------------------------------------------------------ the process


OPERATIONS: dict[str, Callable[[dict[str, Any], dict[str, Any]], None]] = {
    "http": ask_http,
    "grpc": ask_grpc,
    "tcp": ask_tcp,
    "hold": ask_tcp,
    "tls": ask_tls,
    "dns": ask_dns,
}


def perform(ask: dict[str, Any]) -> dict[str, Any]:
    """One ask and its answer; whatever happens, there is one."""
    answer: dict[str, Any] = {"id": str(ask.get("id", "")), "outcome": ""}
    began = time.monotonic()
    try:
        OPERATIONS[ask["op"]](ask, answer)
    except Exception as error:  # noqa: BLE001 - an answer that says so is better than none
        text = " ".join(str(error).split()) or type(error).__name__
        answer["error"] = text[:300] if isinstance(error, (OSError, ValueError, EOFError, Alert, NotTls)) else repr(error)[:300]
        answer["outcome"] = answer["outcome"] or meaning(error)  # what was answered stays answered, whatever happened after it
        if isinstance(error, Alert):
            answer["alert"] = str(error)
    answer["seconds"] = round(time.monotonic() - began, 4)
    return answer


PRINTING = threading.Lock()


def say(message: dict[str, Any]) -> None:
    """Print one message; without a listener there is no reason to go on."""
    line = json.dumps(message, separators=(",", ":")).encode() + b"\n"
    with PRINTING:
        try:
            sys.stdout.buffer.write(line)
            sys.stdout.buffer.flush()
        except OSError:
            os._exit(0)


def answer_to(ask: dict[str, Any]) -> None:
    """Perform an ask and print its answer."""
    say(perform(ask))


def greet() -> None:
    """Say who is here."""
    say({"hello": {"agent": VERSION, "python": sys.version.split()[0], "pod": socket.gethostname()}})


def talk() -> None:
    """Answer what comes in, until nothing comes any more."""
    greet()
    with ThreadPoolExecutor(CONCURRENT) as pool:
        for line in sys.stdin.buffer:
            try:
                ask = json.loads(line)
                op = ask["op"]
            except (ValueError, KeyError, TypeError):
                say({"trouble": f"a line of {len(line)} bytes is no ask"})
                continue
            if op == "bye":
                break
            pool.submit(answer_to, ask)
        os._exit(0)  # what is still under way has nobody to answer to


def batch() -> None:
    """Answer what the environment asks, all of it."""
    greet()
    lines, number = "", 0
    while f"MESHREADY_ASKS_{number}" in os.environ:
        lines, number = lines + os.environ[f"MESHREADY_ASKS_{number}"], number + 1
    proxy_ready()
    asks = [json.loads(line) for line in lines.splitlines()]
    with ThreadPoolExecutor(CONCURRENT) as pool:
        list(pool.map(answer_to, asks))
    say({"done": len(asks)})


def proxy_ready() -> None:
    """Wait for the sidecar, at most as long as MESHREADY_WAIT_FOR_PROXY says: without native sidecars it may start after us."""
    until = time.monotonic() + float(os.environ.get("MESHREADY_WAIT_FOR_PROXY", "0"))
    ready = {"id": "", "op": "http", "host": "127.0.0.1", "port": 15021, "path": "/healthz/ready", "timeout": 1.0}
    while time.monotonic() < until and perform(ready).get("status") != 200:
        time.sleep(0.2)


def host() -> None:
    """Answer every GET with what it looked like here."""
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
    from socketserver import TCPServer

    class Echo(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 10

        def do_GET(self) -> None:
            """Answer with the request."""
            seen = {"path": self.path, "headers": list(self.headers.items()), "from": self.client_address[0].replace("::ffff:", "")}
            body = json.dumps({**seen, "pod": socket.gethostname()}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        address_family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET

        def server_bind(self) -> None:
            """Listen for IPv4 too, and ask no name service for our own name, as the class above would."""
            if self.address_family == socket.AF_INET6:
                self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            TCPServer.server_bind(self)

    port = int(os.environ.get("MESHREADY_ECHO_PORT", str(ECHO_PORT)))
    server = Server(("", port), Echo)
    say({"listening": server.server_address[1]})
    server.serve_forever()


def main() -> None:
    """Do what the first argument says."""
    # the first process of a container does not end on SIGTERM by itself
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    lifetime = float(os.environ.get("MESHREADY_LIFETIME", "0"))
    if lifetime > 0:
        end = threading.Timer(lifetime, os._exit, [0])
        end.daemon = True
        end.start()
    {"talk": talk, "batch": batch, "host": host}[sys.argv[1]]()


if __name__ == "__main__":
    main()
