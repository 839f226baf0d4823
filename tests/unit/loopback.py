"""Small real servers on the loopback interface, for tests of what a probe sees."""

from __future__ import annotations

import contextlib
import datetime as dt
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

Handler = Callable[[socket.socket], None]

NOW = dt.datetime.now(dt.UTC).replace(microsecond=0)


@contextlib.contextmanager
def serving(handler: Handler) -> Iterator[int]:
    """A server that gives every connection to ``handler`` in a thread of its own; yields its port."""
    over = threading.Event()
    threads: list[threading.Thread] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.05)

        def one(connection: socket.socket) -> None:
            with connection, contextlib.suppress(OSError):
                connection.settimeout(20)
                handler(connection)

        def accept() -> None:
            while not over.is_set():
                with contextlib.suppress(TimeoutError):
                    connection, _ = listener.accept()
                    threads.append(threading.Thread(target=one, args=(connection,), daemon=True))
                    threads[-1].start()

        accepting = threading.Thread(target=accept, daemon=True)
        accepting.start()
        try:
            yield listener.getsockname()[1]
        finally:
            over.set()
            accepting.join()
            for thread in threads:
                thread.join(5)


def head(connection: socket.socket) -> str:
    """Read the head of an HTTP request."""
    data = b""
    while b"\r\n\r\n" not in data:
        part = connection.recv(65536)
        if not part:
            break
        data += part
    return data.decode("latin-1")


def replying(reply: bytes, seen: list[str] | None = None) -> Handler:
    """Read a request, answer with these bytes, and close."""

    def handler(connection: socket.socket) -> None:
        request = head(connection)
        if seen is not None:
            seen.append(request)
        connection.sendall(reply)

    return handler


def silent(connection: socket.socket) -> None:
    """Accept and never say anything, until the client goes."""
    while connection.recv(65536):
        pass


def echoing(connection: socket.socket) -> None:
    """Send back what comes."""
    while data := connection.recv(65536):
        connection.sendall(data)


def closing(connection: socket.socket) -> None:
    """Close at once, in an orderly way."""
    connection.shutdown(socket.SHUT_WR)
    silent(connection)


def resetting(connection: socket.socket) -> None:
    """Reset the connection once something has come."""
    connection.recv(65536)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


class Authority:
    """A certificate authority like Istio's, and the certificates of its workloads."""

    def __init__(self, name: str = "cluster.local") -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, name)])
        basic = x509.BasicConstraints(ca=True, path_length=None)
        self.certificate = self._sign(self.name, self.key, [(basic, True)], NOW - dt.timedelta(days=1), NOW + dt.timedelta(days=3650))

    def workload(
        self, *uris: str, begins: dt.datetime = NOW - dt.timedelta(minutes=2), ends: dt.datetime = NOW + dt.timedelta(hours=24)
    ) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
        """A certificate for these URIs, with an empty subject as Istio's have."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri) for uri in uris])
        return self._sign(x509.Name([]), key, [(names, True)] if uris else [], begins, ends), key

    def _sign(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        extensions: list[tuple[x509.ExtensionType, bool]],
        begins: dt.datetime,
        ends: dt.datetime,
    ) -> x509.Certificate:
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(self.name).public_key(key.public_key())
        builder = builder.serial_number(x509.random_serial_number()).not_valid_before(begins).not_valid_after(ends)
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        return builder.sign(self.key, hashes.SHA256())


def der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.DER)


def pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def sidecar(folder: Path, authority: Authority, uri: str, *, alpn: tuple[str, ...] = ("h2", "http/1.1")) -> Handler:
    """TLS as a sidecar speaks it under STRICT: its SPIFFE certificate and the authority's, and a client without one is refused."""
    certificate, key = authority.workload(uri)
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    chain, root = folder / "chain.pem", folder / "root.pem"
    chain.write_bytes((pem(certificate) + pem(authority.certificate)).encode() + private)
    root.write_text(pem(authority.certificate))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain)
    context.load_verify_locations(root)
    context.verify_mode = ssl.CERT_REQUIRED
    context.set_alpn_protocols(list(alpn))

    def handler(connection: socket.socket) -> None:
        try:
            with context.wrap_socket(connection, server_side=True) as channel:
                channel.sendall(b"welcome")
                silent(channel)
        except ssl.SSLError:  # the client was refused; let it read why before the connection goes
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_WR)
                silent(connection)

    return handler
