"""The agent, as a process of its own against real servers: what it says of each way in which a target can behave."""

from __future__ import annotations

import ast
import json
import signal
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pytest_meshready.probes import agent as agent_module
from pytest_meshready.probes import certificates, messages
from pytest_meshready.probes.messages import Answer, Ask, ClientCertificate, Op, Outcome
from tests.unit import loopback
from tests.unit.loopback import serving

FILE = Path(agent_module.__file__)
COMMAND = [sys.executable, "-I", "-S", "-B", "-u", str(FILE)]
USER_AGENT = "pytest-meshready/9.9 (acceptance test; run 3f2a91c0)"
HERE = "127.0.0.1"

Performing = Callable[..., dict[str, Answer]]


def process(mode: str, **environment: str) -> subprocess.Popen[bytes]:
    """The agent in one of its modes, with nothing of this process's environment."""
    return subprocess.Popen(
        [*COMMAND, mode],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={"MESHREADY_USER_AGENT": USER_AGENT, **environment},
    )


@pytest.fixture
def talking() -> Iterator[subprocess.Popen[bytes]]:
    """An agent in conversation, after its hello."""
    with process("talk") as running:
        assert running.stdout is not None
        assert isinstance(messages.decode(running.stdout.readline()), messages.Hello)
        yield running
        running.kill()


@pytest.fixture
def perform(talking: subprocess.Popen[bytes]) -> Performing:
    """Have asks performed, and get the answers by id."""

    def performing(*asks: Ask) -> dict[str, Answer]:
        assert talking.stdin is not None
        assert talking.stdout is not None
        talking.stdin.write(b"".join(map(messages.encode, asks)))
        talking.stdin.flush()
        answers = [messages.decode(talking.stdout.readline()) for _ in asks]
        return {answer.id: answer for answer in answers if isinstance(answer, Answer)}

    return performing


def ask(op: Op, port: int, **more: object) -> Ask:
    """An ask of this machine with short patience."""
    return Ask(**{"id": "a", "op": op, "host": HERE, "port": port, "timeout": 2.0, "read": 0.3, "linger": 0.2, **more})  # type: ignore[arg-type]


# --- HTTP ---


def test_http_answer_is_given_as_it_came(perform: Performing) -> None:
    """Status, headers in their order and spelling, and the body."""
    head = b"HTTP/1.1 403 Forbidden\r\nServer: istio-envoy\r\nSet-Cookie: a=1\r\nset-cookie: b=2\r\nContent-Length: 19\r\n\r\n"
    reply = head + b"RBAC: access denied"
    with serving(loopback.replying(reply)) as port:
        answer = perform(ask(Op.HTTP, port))["a"]
    assert (answer.outcome, answer.status, answer.body) == (Outcome.ANSWERED, 403, "RBAC: access denied")
    assert answer.headers == (("Server", "istio-envoy"), ("Set-Cookie", "a=1"), ("set-cookie", "b=2"), ("Content-Length", "19"))
    assert list(answer.values("SET-COOKIE")) == ["a=1", "b=2"]
    assert answer.connected
    assert answer.peer == HERE
    assert answer.first_bytes.startswith(b"HTTP/1.1 403".hex())


def test_http_request_is_a_get_that_says_who_sends_it(perform: Performing) -> None:
    """Host may be given; the User-Agent may not be replaced."""
    seen: list[str] = []
    with serving(loopback.replying(b"HTTP/1.1 204 No Content\r\n\r\n", seen)) as port:
        headers = (("Host", "shop.example.com"), ("x-b3-sampled", "1"), ("User-Agent", "curl"))
        assert perform(ask(Op.HTTP, port, path="/healthz?full=1", headers=headers))["a"].status == 204
    lines = seen[0].split("\r\n")
    assert lines[0] == "GET /healthz?full=1 HTTP/1.1"
    assert "Host: shop.example.com" in lines
    assert "x-b3-sampled: 1" in lines
    assert [line for line in lines if line.lower().startswith("user-agent")] == [f"User-Agent: {USER_AGENT}"]


@pytest.mark.parametrize(
    ("framing", "body"),
    [
        (b"Transfer-Encoding: chunked\r\n\r\n4\r\nmesh\r\n6;x=y\r\n ready\r\n0\r\n\r\n", "mesh ready"),
        (b"Content-Length: 10\r\n\r\nmesh ready", "mesh ready"),
        (b"\r\nmesh ready", "mesh ready"),
        (b"Content-Length: 0\r\n\r\n", ""),
    ],
)
def test_http_bodies_of_every_framing(perform: Performing, framing: bytes, body: str) -> None:
    """By chunks, by length, and to the end of the connection."""
    with serving(loopback.replying(b"HTTP/1.1 200 OK\r\n" + framing)) as port:
        answer = perform(ask(Op.HTTP, port))["a"]
    assert (answer.status, answer.body, answer.truncated, answer.error) == (200, body, False, "")


@pytest.mark.parametrize(
    "framing", [b"Content-Length: 9000\r\n\r\n" + b"x" * 9000, b"Transfer-Encoding: chunked\r\n\r\n2328\r\n" + b"x" * 9000]
)
def test_http_bodies_are_kept_in_part(perform: Performing, framing: bytes) -> None:
    """The beginning of a long body is kept, and it is said that there was more."""
    with serving(loopback.replying(b"HTTP/1.1 200 OK\r\n" + framing)) as port:
        answer = perform(ask(Op.HTTP, port, keep=100))["a"]
    assert (answer.body, answer.truncated) == ("x" * 100, True)


def test_http_body_that_ends_early_is_still_an_answer(perform: Performing) -> None:
    """What was answered stays answered, and the error says what happened after it."""
    with serving(loopback.replying(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nmesh")) as port:
        answer = perform(ask(Op.HTTP, port))["a"]
    assert (answer.outcome, answer.status, answer.body, answer.error) == (Outcome.ANSWERED, 200, "mesh", "the body ended early")


def test_http_interim_responses_are_passed_over(perform: Performing) -> None:
    """103 Early Hints is not the answer."""
    with serving(loopback.replying(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")) as port:
        assert perform(ask(Op.HTTP, port))["a"].status == 200


def test_what_is_not_http_is_an_answer_without_a_status(perform: Performing) -> None:
    """A greeting in answer to a GET means that somebody is there who speaks something else."""
    with serving(loopback.replying(b"220 mail ready\r\n")) as port:
        answer = perform(ask(Op.HTTP, port))["a"]
    assert (answer.outcome, answer.status, answer.error) == (Outcome.ANSWERED, 0, "the answer is not HTTP/1")


def test_refusal_of_a_grpc_call_over_http1(perform: Performing) -> None:
    """A sidecar answers 200 with grpc-status 7 in the headers."""
    with serving(loopback.replying(b"HTTP/1.1 200 OK\r\ngrpc-status: 7\r\nContent-Length: 0\r\n\r\n")) as port:
        answer = perform(ask(Op.HTTP, port, headers=(("content-type", "application/grpc"),)))["a"]
    assert (answer.status, answer.grpc_status) == (200, 7)


def test_line_breaks_in_a_request_are_not_sent(perform: Performing) -> None:
    """One ask is one request."""
    with serving(loopback.silent) as port:
        answer = perform(ask(Op.HTTP, port, path="/ HTTP/1.1\r\nX: y"))["a"]
    assert (answer.outcome, answer.connected) == (Outcome.ERROR, False)


# --- how connections end ---


@pytest.mark.parametrize(
    ("handler", "op", "outcome"),
    [
        (loopback.closing, Op.HTTP, Outcome.EOF),
        (loopback.resetting, Op.HTTP, Outcome.RESET),
        (loopback.silent, Op.HTTP, Outcome.TIMEOUT),
        (loopback.closing, Op.GRPC, Outcome.EOF),
        (loopback.resetting, Op.GRPC, Outcome.RESET),
        (loopback.silent, Op.GRPC, Outcome.TIMEOUT),
        (loopback.closing, Op.TLS, Outcome.EOF),
        (loopback.resetting, Op.TLS, Outcome.RESET),
        (loopback.silent, Op.TLS, Outcome.OPEN),
        (loopback.closing, Op.TCP, Outcome.EOF),
        (loopback.silent, Op.TCP, Outcome.OPEN),
        (loopback.closing, Op.HOLD, Outcome.EOF),
        (loopback.silent, Op.HOLD, Outcome.OPEN),
    ],
)
def test_ends_are_told_apart(perform: Performing, handler: loopback.Handler, op: Op, outcome: Outcome) -> None:
    """Reset, end and silence are three different things, for every kind of probe."""
    with serving(handler) as port:
        answer = perform(ask(op, port, timeout=0.6))["a"]
    assert answer.outcome is outcome
    assert answer.connected
    assert not answer.first_bytes


@pytest.mark.parametrize("op", [Op.HTTP, Op.GRPC, Op.TCP, Op.HOLD, Op.TLS])
def test_nobody_listens(perform: Performing, op: Op) -> None:
    """A refused connection is not a reset."""
    with socket.create_server((HERE, 0)) as listener:
        port = listener.getsockname()[1]
    answer = perform(ask(op, port))["a"]
    assert (answer.outcome, answer.connected) == (Outcome.REFUSED, False)


def test_connection_that_is_not_made_in_time(perform: Performing) -> None:
    """Nobody accepts: the time-out is told from that of an answer by there being no connection."""
    with socket.socket() as listener:
        listener.bind((HERE, 0))
        listener.listen(0)
        address = listener.getsockname()
        waiting = [socket.socket() for _ in range(3)]
        for one in waiting:  # they fill the queue of connections that nobody accepts
            one.setblocking(False)
            one.connect_ex(address)
        answer = perform(ask(Op.TCP, address[1], timeout=0.4))["a"]
        for one in waiting:
            one.close()
    assert (answer.outcome, answer.connected) == (Outcome.TIMEOUT, False)


# --- TCP ---


def test_tcp_says_what_came_and_how_the_connection_stood_then(perform: Performing) -> None:
    """An echo answers and stays."""
    with serving(loopback.echoing) as port:
        answer = perform(ask(Op.TCP, port, send=b"hello\n"))["a"]
    assert (answer.outcome, answer.ending, answer.received, bytes.fromhex(answer.first_bytes)) == (Outcome.ANSWERED, "open", 6, b"hello\n")


def test_server_that_speaks_first(perform: Performing) -> None:
    """Its greeting comes without a byte of ours."""

    def greet(connection: socket.socket) -> None:
        connection.sendall(b"server-first-protocol\n")
        loopback.silent(connection)

    with serving(greet) as port:
        answer = perform(ask(Op.TCP, port))["a"]
    assert (answer.outcome, answer.ending, answer.received) == (Outcome.ANSWERED, "open", 22)


def test_server_that_greets_and_then_refuses(perform: Performing) -> None:
    """A sidecar lets the greeting through and ends a denied connection at the client's first byte."""

    def greet(connection: socket.socket) -> None:
        connection.sendall(b"server-first-protocol\n")
        connection.recv(1)
        loopback.closing(connection)

    with serving(greet) as port:
        answers = perform(
            ask(Op.TCP, port, send=b"x"), ask(Op.TCP, port, id="none"), ask(Op.TCP, port, id="after", send=b"x", greeting=True)
        )
    assert (answers["a"].outcome, answers["a"].ending) == (Outcome.ANSWERED, "eof")
    assert (answers["none"].outcome, answers["none"].ending) == (Outcome.ANSWERED, "open")
    assert (answers["after"].outcome, answers["after"].ending, answers["after"].received) == (Outcome.ANSWERED, "eof", 22)


@pytest.mark.parametrize(("handler", "outcome"), [(loopback.silent, Outcome.OPEN), (loopback.closing, Outcome.EOF)])
def test_nothing_is_sent_where_no_greeting_comes(perform: Performing, handler: loopback.Handler, outcome: Outcome) -> None:
    """A server that was taken for one that speaks first gets no byte."""
    came: list[bytes] = []

    def listen(connection: socket.socket) -> None:
        if handler is loopback.closing:
            connection.shutdown(socket.SHUT_WR)
        came.append(connection.recv(100))

    with serving(listen) as port:
        answer = perform(ask(Op.TCP, port, send=b"x", greeting=True))["a"]
    assert (answer.outcome, answer.received, came) == (outcome, 0, [b""])


def test_server_that_greets_and_answers(perform: Performing) -> None:
    """Greeting and answer are counted together, and the first bytes are the greeting's."""

    def greet(connection: socket.socket) -> None:
        connection.sendall(b"hi\n")
        loopback.echoing(connection)

    with serving(greet) as port:
        answer = perform(ask(Op.TCP, port, send=b"x", greeting=True))["a"]
    assert (answer.outcome, answer.ending, answer.received) == (Outcome.ANSWERED, "open", 4)
    assert bytes.fromhex(answer.first_bytes).startswith(b"hi\n")


def test_tcp_reset_after_our_bytes(perform: Performing) -> None:
    """Plaintext to a STRICT port."""
    with serving(loopback.resetting) as port:
        assert perform(ask(Op.TCP, port, send=b"GET /"))["a"].outcome is Outcome.RESET


def test_no_byte_is_sent_unless_asked_for(perform: Performing) -> None:
    """Neither ``hold`` nor ``tcp`` without bytes writes anything."""
    came: list[bytes] = []

    def listen(connection: socket.socket) -> None:
        came.append(connection.recv(100))

    with serving(listen) as port:
        perform(ask(Op.TCP, port), ask(Op.HOLD, port, id="b"))
    assert came == [b"", b""]


def test_hold_looks_on_to_the_end(perform: Performing) -> None:
    """It sees that a connection is closed after a first byte, beyond the time that ``tcp`` would look on."""

    def late(connection: socket.socket) -> None:
        connection.sendall(b"x")
        time.sleep(0.4)
        loopback.closing(connection)

    with serving(late) as port:
        answers = perform(ask(Op.HOLD, port, read=2.0), ask(Op.TCP, port, id="tcp", read=2.0, linger=0.1))
    assert (answers["a"].outcome, answers["a"].ending) == (Outcome.ANSWERED, "eof")
    assert answers["tcp"].ending == "open"


# --- TLS ---

LEDGER = "spiffe://cluster.local/ns/payments/sa/ledger"


def test_sidecar_shows_its_identity_and_refuses_us(perform: Performing, tmp_path: Path) -> None:
    """The chain is read before the alert ends everything."""
    authority = loopback.Authority()
    with serving(loopback.sidecar(tmp_path, authority, LEDGER)) as port:
        answer = perform(ask(Op.TLS, port, alpn=("h2",), read=2.0))["a"]
    assert (answer.outcome, answer.alert, answer.ending) == (Outcome.TLS_ALERT, "certificate_required", "tls_alert")
    assert (answer.alpn_selected, answer.tls_version) == ("h2", "TLSv1.3")
    chain = certificates.parse(answer.certificate_chain)
    assert chain[0].uris == (LEDGER,)
    assert chain[-1].der == loopback.der(authority.certificate)


def test_certificate_that_nobody_trusts_is_shown(perform: Performing, tmp_path: Path) -> None:
    """With a certificate of our own the refusal is another one."""
    with serving(loopback.sidecar(tmp_path, loopback.Authority(), LEDGER)) as port:
        answer = perform(ask(Op.TLS, port, client_cert=ClientCertificate.SELF_SIGNED, read=2.0))["a"]
    assert (answer.outcome, answer.alert) == (Outcome.TLS_ALERT, "unknown_ca")


def test_no_common_protocol(perform: Performing, tmp_path: Path) -> None:
    """OpenSSL goes on without ALPN where nothing is in common, and nothing is selected then."""
    with serving(loopback.sidecar(tmp_path, loopback.Authority(), LEDGER, alpn=("istio",))) as port:
        answer = perform(ask(Op.TLS, port, alpn=("h2",), read=2.0))["a"]
    assert answer.alpn_selected == ""


def test_handshake_is_completed_and_nothing_follows(perform: Performing, tmp_path: Path) -> None:
    """A server that asks for no certificate: the connection stays open, and the chain tells it from one without TLS."""
    loopback.sidecar(tmp_path, loopback.Authority(), LEDGER)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "chain.pem")

    def accept(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as channel:
            loopback.silent(channel)

    with serving(accept) as port:
        answer = perform(ask(Op.TLS, port, server_name="ledger.payments"))["a"]
    assert (answer.outcome, answer.ending, answer.received) == (Outcome.OPEN, "open", 0)
    assert answer.certificate_chain


@pytest.mark.parametrize(
    "handler", [loopback.replying(b""), loopback.echoing, lambda connection: connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")]
)
def test_hello_that_goes_through_to_an_application(perform: Performing, handler: loopback.Handler) -> None:
    """An application without TLS answers in its own words, echoes the ClientHello, or closes: none shows a certificate."""
    with serving(handler) as port:
        answer = perform(ask(Op.TLS, port, alpn=("h2",)))["a"]
    assert not answer.certificate_chain
    assert answer.outcome in (Outcome.NOT_TLS, Outcome.EOF, Outcome.RESET, Outcome.OPEN)
    assert (answer.outcome is Outcome.NOT_TLS) == bool(answer.first_bytes)


def test_https(perform: Performing, tmp_path: Path) -> None:
    """HTTP inside TLS, as through a gateway: the answer and the gateway's certificate."""
    loopback.sidecar(tmp_path, loopback.Authority(), LEDGER)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "chain.pem")
    names: list[str | None] = []
    context.sni_callback = lambda _, name, __: names.append(name)

    def accept(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as channel:
            loopback.replying(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")(channel)

    with serving(accept) as port:
        answer = perform(ask(Op.HTTP, port, tls=True, server_name="shop.example.com"))["a"]
    assert (answer.status, answer.body, names) == (200, "ok", ["shop.example.com"])
    assert answer.certificate_chain


# --- gRPC ---


def h2(*frames: tuple[int, int, bytes]) -> loopback.Handler:
    """A server of HTTP/2 that sends its settings, waits for a request, and answers with these frames on stream 1."""

    def handler(connection: socket.socket) -> None:
        connection.sendall(frame(4, 0, 0, struct.pack("!HI", 3, 100)))
        got = b""
        while b"grpc" not in got:
            got += connection.recv(65536)
        assert got.startswith(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        for kind, flags, payload in frames:
            connection.sendall(frame(kind, flags, 1, payload))
        loopback.silent(connection)

    return handler


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack("!I", len(payload))[1:] + bytes([kind, flags]) + struct.pack("!I", stream) + payload


#: ``:status 200`` (indexed), ``grpc-status: 7`` (name and value with Huffman codes, as Envoy writes them).
DENIED = b"\x88" + b"\x40\x88\x9a\xca\xc8\xb2\x12\x34\xda\x8f\x01" + b"7"


def test_grpc_refusal_in_headers(perform: Performing) -> None:
    """A proxy refuses with one block of headers that is trailers too."""
    with serving(h2((1, 5, DENIED))) as port:
        answer = perform(ask(Op.GRPC, port, path="/grpc.health.v1.Health/Check"))["a"]
    assert (answer.outcome, answer.status, answer.grpc_status) == (Outcome.ANSWERED, 200, 7)
    assert answer.headers == (("grpc-status", "7"),)


def test_grpc_answer_with_data_and_trailers(perform: Performing) -> None:
    """Headers in two pieces and padded, data, and the status in the trailers."""
    headers = (1, 8, b"\x02" + b"\x88" + b"\0\0"), (9, 4, b"\x5f\x10application/grpc")
    trailers = (1, 5, b"\x00\x0bgrpc-status\x010\x00\x0cgrpc-message\x02ok")
    with serving(h2(*headers, (0, 0, b"payload"), trailers)) as port:
        answer = perform(ask(Op.GRPC, port))["a"]
    assert (answer.status, answer.grpc_status, answer.body) == (200, 0, "payload")
    assert answer.headers == (("content-type", "application/grpc"), ("grpc-status", "0"), ("grpc-message", "ok"))


def test_settings_alone_prove_nothing(perform: Performing) -> None:
    """A sidecar sends its settings to whoever connects: without an answer to the request it is a time-out."""
    with serving(h2()) as port:
        answer = perform(ask(Op.GRPC, port, timeout=0.6))["a"]
    assert (answer.outcome, answer.status) == (Outcome.TIMEOUT, 0)
    assert answer.first_bytes


def test_grpc_port_that_speaks_http1(perform: Performing) -> None:
    """An answer, but not in HTTP/2."""
    with serving(loopback.replying(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as port:
        answer = perform(ask(Op.GRPC, port))["a"]
    assert (answer.outcome, answer.error) == (Outcome.ANSWERED, "the answer is not HTTP/2")


def test_stream_that_is_reset(perform: Performing) -> None:
    """RST_STREAM is not a reset of the connection."""
    with serving(h2((3, 0, struct.pack("!I", 7)))) as port:
        answer = perform(ask(Op.GRPC, port))["a"]
    assert (answer.outcome, answer.error) == (Outcome.ERROR, "the stream was reset, HTTP/2 error 7")


@pytest.mark.parametrize(
    ("packed", "text"),
    [
        ("f1e3c2e5f23a6ba0ab90f4ff", b"www.example.com"),
        ("a8eb10649cbf", b"no-cache"),
        ("25a849e95bb8e8b4bf", b"custom-value"),
        ("6402", b"302"),
        ("aec3771a4b", b"private"),
        ("d07abe941054d444a8200595040b8166e082a62d1bff", b"Mon, 21 Oct 2013 20:13:21 GMT"),
        ("9d29ad171863c78f0b97c8e9ae82ae43d3", b"https://www.example.com"),
    ],
)
def test_huffman_code_of_the_rfc(packed: str, text: bytes) -> None:
    """The examples of RFC 7541, appendix C.4 and C.6."""
    assert agent_module.unhuffman(bytes.fromhex(packed)) == text


def test_header_block_of_the_rfc() -> None:
    """Appendix C.6.1 without its dynamic table, and a change of the table's size before it."""
    block = "3f004882640258 85aec3771a4b 6196d07abe941054d444a8200595040b8166e082a62d1bff 6e919d29ad171863c78f0b97c8e9ae82ae43d3"
    assert agent_module.unpack(bytes.fromhex(block.replace(" ", ""))) == [
        (":status", "302"),
        ("cache-control", "private"),
        ("date", "Mon, 21 Oct 2013 20:13:21 GMT"),
        ("location", "https://www.example.com"),
    ]


def test_long_strings_have_long_lengths() -> None:
    """RFC 7541, C.1.2: 1337 with a prefix of five bits has two more bytes; here the prefix has seven."""
    assert agent_module.number_bytes(126) == b"\x7e"
    assert agent_module.number_bytes(127) == b"\x7f\x00"
    assert agent_module.number_bytes(1337) == b"\x7f\xba\x09"
    assert agent_module.unpack(b"\0\x01a" + agent_module.literal("v" * 1337)) == [("a", "v" * 1337)]


# --- names ---


def test_names_are_looked_up(perform: Performing) -> None:
    """The addresses come back in the resolver's order, each once."""
    answer = perform(Ask(id="a", op=Op.DNS, host="localhost"))["a"]
    assert answer.outcome is Outcome.ANSWERED
    assert set(answer.addresses) <= {"127.0.0.1", "::1"}
    assert answer.addresses


def test_name_that_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """No such name is a fact of its own, for a look-up and for a connection."""

    def unknown(*_: object, **__: object) -> object:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    for op in ("dns", "http"):
        assert agent_module.perform({"id": "a", "op": op, "host": "nothing.payments", "port": 80})["outcome"] == "unresolved"


def test_name_service_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """The C library would wait for half a minute; the probe does not."""
    over = threading.Event()

    def hanging(*_: object, flags: int = 0, **__: object) -> object:
        if flags & socket.AI_NUMERICHOST:
            raise socket.gaierror
        over.wait(10)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", hanging)
    answer = agent_module.perform({"id": "a", "op": "dns", "host": "slow.payments", "timeout": 0.2})
    over.set()
    assert (answer["outcome"], answer["error"]) == ("timeout", "the name service did not answer")


# --- the process ---


def test_answers_come_as_they_are_ready(perform: Performing) -> None:
    """A silent target holds up nobody else."""
    with serving(loopback.silent) as slow, serving(loopback.echoing) as fast:
        answers = perform(ask(Op.HOLD, slow, id="slow", read=0.8), ask(Op.TCP, fast, id="fast", send=b"x", linger=0.05))
    assert list(answers) == ["fast", "slow"]


def test_not_more_than_so_many_at_a_time(perform: Performing) -> None:
    """A guest does not open connections without bound."""
    most, now, lock = 0, 0, threading.Lock()

    def count(connection: socket.socket) -> None:
        nonlocal most, now
        with lock:
            now += 1
            most = max(most, now)
        loopback.silent(connection)
        with lock:
            now -= 1

    with serving(count) as port:
        answers = perform(*(ask(Op.HOLD, port, id=str(number), read=0.5, timeout=5.0) for number in range(agent_module.CONCURRENT + 8)))
    assert len(answers) == agent_module.CONCURRENT + 8
    assert {answer.outcome for answer in answers.values()} == {Outcome.OPEN}
    assert most < agent_module.CONCURRENT + 8  # the server may see the end of a connection after the beginning of the next


def test_ask_that_is_none_is_answered_with_an_error(talking: subprocess.Popen[bytes]) -> None:
    """Nonsense does not end the conversation."""
    assert talking.stdin is not None
    assert talking.stdout is not None
    talking.stdin.write(b'not json\n{"id":"a","op":"post","host":"x","port":1}\n{"id":"b","op":"tcp"}\n')
    talking.stdin.flush()
    assert messages.decode(talking.stdout.readline()) == messages.Trouble(trouble="a line of 9 bytes is no ask")
    answers = [messages.decode(talking.stdout.readline()) for _ in range(2)]
    assert {answer.id: answer.outcome for answer in answers if isinstance(answer, Answer)} == {"a": Outcome.ERROR, "b": Outcome.ERROR}


@pytest.mark.parametrize("farewell", [b'{"op":"bye"}\n', b""])
def test_conversation_ends(talking: subprocess.Popen[bytes], farewell: bytes) -> None:
    """On a farewell, and when the input ends, though an ask be under way."""
    assert talking.stdin is not None
    with serving(loopback.silent) as port:
        talking.stdin.write(messages.encode(ask(Op.HOLD, port, read=30.0)) + farewell)
        talking.stdin.flush()
        if not farewell:
            talking.stdin.close()
        assert talking.wait(5) == 0


def test_conversation_ends_by_itself() -> None:
    """An agent whose run was killed does not stay."""
    with process("talk", MESHREADY_LIFETIME="0.3") as running:
        assert running.wait(5) == 0


def test_sigterm_ends_it_at_once() -> None:
    """The first process of a container must see to that itself."""
    with process("host", MESHREADY_ECHO_PORT="0") as running:
        assert running.stdout is not None
        running.stdout.readline()
        running.send_signal(signal.SIGTERM)
        assert running.wait(5) == 0


def test_batch() -> None:
    """Asks come in pieces from the environment; hello, the answers and the end are printed."""
    with serving(loopback.echoing) as port:
        lines = b"".join(messages.encode(ask(Op.TCP, port, id=str(number), send=b"x", linger=0.05)) for number in range(3)).decode()
        with process("batch", MESHREADY_ASKS_0=lines[:50], MESHREADY_ASKS_1=lines[50:]) as running:
            out, _ = running.communicate(timeout=10)
    said = [messages.decode(line) for line in out.splitlines()]
    assert isinstance(said[0], messages.Hello)
    assert said[-1] == messages.Done(done=3)
    assert sorted(message.id for message in said if isinstance(message, Answer)) == ["0", "1", "2"]
    assert running.returncode == 0


def test_host_answers_with_the_request() -> None:
    """Every header that arrived is in the answer, and nothing but GET is answered."""
    with process("host", MESHREADY_ECHO_PORT="0") as running:
        assert running.stdout is not None
        port = json.loads(running.stdout.readline())["listening"]
        answer = agent_module.perform(
            {"id": "a", "op": "http", "host": HERE, "port": port, "path": "/x", "headers": [["X-Forwarded-Client-Cert", "By=a"]]}
        )
        with socket.create_connection((HERE, port), timeout=5) as other:
            other.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            assert other.recv(100).startswith(b"HTTP/1.1 501")
        running.kill()
    seen = json.loads(answer["body"])
    assert (seen["path"], seen["from"]) == ("/x", HERE)
    assert ["X-Forwarded-Client-Cert", "By=a"] in seen["headers"]


# --- what it is made of ---


def test_it_runs_in_old_pythons() -> None:
    """The file is Python 3.8 and imports the standard library alone."""
    tree = ast.parse(FILE.read_text(encoding="utf-8"), feature_version=(3, 8))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in imported} <= set(sys.stdlib_module_names) | {"__future__"}


def test_it_fits_into_a_config_map() -> None:
    """A ConfigMap takes 1 MiB; kubectl's own annotation a quarter of that."""
    assert FILE.stat().st_size < 256 * 1024
