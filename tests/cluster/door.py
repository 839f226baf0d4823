"""A door before the API server that can be shut: from here it looks as if the server were restarting, and nobody else notices."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from pathlib import Path
from urllib.parse import urlsplit

import yaml


class Door:
    """Forwards TCP connections on loopback to the API server of the current kubeconfig, as long as it is open."""

    def __init__(self) -> None:
        self._config = yaml.safe_load(Path(os.environ["KUBECONFIG"]).read_text(encoding="utf-8"))
        url = urlsplit(self._config["clusters"][0]["cluster"]["server"])
        self._server = (url.hostname or "127.0.0.1", url.port or 443)
        self._listener: socket.socket | None = None
        self._connections: list[socket.socket] = []
        self._port = 0
        self.open()

    def kubeconfig(self, folder: Path) -> Path:
        """The current kubeconfig, but through this door."""
        config = self._config
        config["clusters"] = [{**entry, "cluster": {**entry["cluster"], **self._here()}} for entry in config["clusters"]]
        path = folder / "door.kubeconfig"
        path.write_text(yaml.safe_dump(config), encoding="utf-8")
        return path

    def _here(self) -> dict[str, str]:
        return {"server": f"https://127.0.0.1:{self._port}", "tls-server-name": self._server[0]}

    def open(self) -> None:
        """Let everybody in, on the same port as before."""
        listener = socket.create_server(("127.0.0.1", self._port))
        self._port = listener.getsockname()[1]
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def shut(self) -> None:
        """Break every connection and refuse new ones."""
        if self._listener is not None:
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None
        while self._connections:
            connection = self._connections.pop()
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                inner, _ = listener.accept()
                outer = socket.create_connection(self._server)
                self._connections += [inner, outer]
                for pair in ((inner, outer), (outer, inner)):
                    threading.Thread(target=_pump, args=pair, daemon=True).start()


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
