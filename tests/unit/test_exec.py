"""Exec over a websocket: a small server speaks the protocol; the real one is in the cluster's tests."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import socket
import struct
import urllib.parse
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_meshready.cluster import client
from pytest_meshready.cluster.answers import ReadError
from pytest_meshready.cluster.client import Cluster
from pytest_meshready.cluster.exec import Channel, Exec, Lost, open_exec
from pytest_meshready.waiting import Deadline, Deadlines
from tests.unit import loopback
from tests.unit.loopback import serving

TOKEN = "not-a-real-token"


def cluster(folder: Path, port: int, seconds: float = 5.0) -> Cluster:
    """A cluster on this machine, without TLS, with a token."""
    config = {
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "here"}}],
        "clusters": [{"name": "here", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
        "users": [{"name": "here", "user": {"token": TOKEN}}],
    }
    path = folder / "kubeconfig"
    path.write_text(json.dumps(config), encoding="utf-8")
    return client.connect(path, None, Deadlines(request=seconds))


def opened(where: Cluster, *, seconds: float = 5.0) -> Exec:
    return open_exec(where, "payments", "probe", container="agent", command=("python3", "-u", "agent.py"), deadline=Deadline(seconds))


class Server:
    """The other end of an exec: shakes hands, then does what ``then`` says; it keeps the request's head."""

    def __init__(self, then: Callable[[Server], None]) -> None:
        self.then = then
        self.head = ""
        self.connection = socket.socket()

    def __call__(self, connection: socket.socket) -> None:
        self.connection.close()
        self.connection = connection
        self.head = loopback.head(connection)
        key = re.search(r"Sec-WebSocket-Key: (\S+)", self.head)
        assert key is not None
        accept = base64.b64encode(hashlib.sha1(f"{key[1]}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest()).decode()
        connection.sendall(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            + f"Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: v5.channel.k8s.io\r\n\r\n".encode()
        )
        self.then(self)
        loopback.silent(connection)

    def say(self, channel: int, data: bytes, opcode: int = 2) -> None:
        """One frame; those of a server are not masked."""
        payload = (bytes([channel]) if opcode == 2 else b"") + data
        self.connection.sendall(bytes([0x80 | opcode, len(payload)]) + payload)

    def hear(self) -> bytes:
        """One frame of the client, which masks."""
        head = self._take(2)
        size = head[1] & 127
        if size == 126:
            (size,) = struct.unpack("!H", self._take(2))
        mask = self._take(4)
        return bytes(byte ^ mask[index % 4] for index, byte in enumerate(self._take(size)))

    def _take(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            part = self.connection.recv(size - len(data))
            assert part
            data += part
        return data


def test_request(tmp_path: Path) -> None:
    """Who asks, for what, and in which protocol; standard input and output apart, without a terminal."""
    server = Server(lambda _: None)
    with serving(server) as port:
        running = opened(cluster(tmp_path, port))
        running.close()
    first, _, rest = server.head.partition("\r\n")
    address = urllib.parse.urlsplit(first.split(" ")[1])
    assert address.path == "/api/v1/namespaces/payments/pods/probe/exec"
    assert urllib.parse.parse_qsl(address.query) == [
        ("container", "agent"),
        ("stdin", "true"),
        ("stdout", "true"),
        ("stderr", "true"),
        ("tty", "false"),
        ("command", "python3"),
        ("command", "-u"),
        ("command", "agent.py"),
    ]
    assert f"authorization: Bearer {TOKEN}".lower() in rest.lower()
    assert "Sec-WebSocket-Protocol: v5.channel.k8s.io,v4.channel.k8s.io" in rest


def test_output_and_errors_are_apart(tmp_path: Path) -> None:
    """Empty messages open the channels and say nothing."""

    def talk(server: Server) -> None:
        for channel, data in ((1, b""), (2, b""), (1, b"out"), (2, b"err")):
            server.say(channel, data)

    with serving(Server(talk)) as port:
        running = opened(cluster(tmp_path, port))
        heard = [running.read(2.0) for _ in range(4)]
        assert running.read(0.05) is None
        running.close()
    assert heard == [None, None, (Channel.STDOUT, b"out"), (Channel.STDERR, b"err")]


def test_input_is_cut_into_pieces(tmp_path: Path) -> None:
    """A long line arrives whole."""
    heard: list[bytes] = []

    def listen(server: Server) -> None:
        heard.extend(server.hear() for _ in range(3))
        server.say(1, b"got it")

    data = bytes(range(256)) * 160
    with serving(Server(listen)) as port:
        running = opened(cluster(tmp_path, port))
        running.write(data, 2.0)
        assert running.read(5.0) == (Channel.STDOUT, b"got it")
        running.close()
    assert {piece[0] for piece in heard} == {Channel.STDIN}
    assert b"".join(piece[1:] for piece in heard) == data


@pytest.mark.parametrize(
    ("channel", "data", "opcode", "words"),
    [
        (3, b'{"status":"Failure","message":"Internal error occurred: no such container"}', 2, "the command ended: no such container"),
        (3, b'{"status":"Success"}', 2, "the command ended"),
        (3, b"not json", 2, "the command ended"),
        (0, b"\x03\xe8going away", 8, r"the API server closed it \(going away\)"),
        (0, b"\x03\xe8", 8, "the API server closed it"),
    ],
)
def test_end(tmp_path: Path, channel: int, data: bytes, opcode: int, words: str) -> None:
    """Each way in which a session ends has its words."""
    with serving(Server(lambda server: server.say(channel, data, opcode))) as port:
        running = opened(cluster(tmp_path, port))
        with pytest.raises(Lost, match=f"^{words}$"):
            running.read(2.0)
        running.close()


def test_connection_that_breaks(tmp_path: Path) -> None:
    """It is told, for reading and for writing."""
    with serving(Server(lambda server: server.connection.shutdown(socket.SHUT_RDWR))) as port:
        running = opened(cluster(tmp_path, port))
        with pytest.raises(Lost, match="the connection broke"):
            running.read(2.0)
        with pytest.raises(Lost, match="the connection broke"):
            running.write(b"x", 2.0)
        running.close()


def test_exec_that_is_refused(tmp_path: Path) -> None:
    """403 is not tried again, and the server's words are in the sentence; the token is not."""
    message = 'pods "probe" is forbidden: User "u" cannot get resource "pods/exec"'
    body = json.dumps({"kind": "Status", "message": message, "reason": "Forbidden"}).encode()
    seen: list[str] = []
    reply = b"HTTP/1.1 403 Forbidden\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    with serving(loopback.replying(reply, seen)) as port, pytest.raises(ReadError) as caught:
        opened(cluster(tmp_path, port))
    assert caught.value.status == 403
    assert str(caught.value).startswith('not permitted: exec in pod payments/probe (403: pods "probe" is forbidden')
    assert TOKEN not in str(caught.value)
    assert len(seen) == 1


def test_redirect_is_not_followed(tmp_path: Path) -> None:
    """The credentials are for this server alone."""
    followed: list[str] = []
    with serving(loopback.replying(b"", followed)) as other:
        reply = f"HTTP/1.1 302 Found\r\nLocation: ws://127.0.0.1:{other}/\r\nContent-Length: 0\r\n\r\n".encode()
        with serving(loopback.replying(reply)) as port, pytest.raises(ReadError):
            opened(cluster(tmp_path, port), seconds=0.3)
    assert followed == []


def test_container_that_is_not_there_yet(tmp_path: Path) -> None:
    """A 500 is tried again until the deadline: the container may come up."""
    seen: list[str] = []
    reply = b"HTTP/1.1 500 Internal Server Error\r\nContent-Type: text/plain\r\nContent-Length: 19\r\n\r\ncontainer not found"
    with serving(loopback.replying(reply, seen)) as port, pytest.raises(ReadError, match="500: container not found"):
        opened(cluster(tmp_path, port), seconds=1.0)
    assert len(seen) > 1


def test_server_that_does_not_answer(tmp_path: Path) -> None:
    """Opening is bounded."""
    with serving(loopback.silent) as port, pytest.raises(ReadError, match=r"did not answer within \d+ s: exec in pod payments/probe"):
        opened(cluster(tmp_path, port, seconds=0.4), seconds=0.5)


def test_server_that_is_not_there(tmp_path: Path) -> None:
    """The sentence is that of every other request."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(ReadError, match=r"cannot be reached \(Connection refused\)"):
        opened(cluster(tmp_path, port), seconds=0.3)
