"""A small API server on loopback that answers as Kubernetes does: lists in pages, single objects, refusals as Status."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

#: What a server in trouble sends: status, headers, body. None: it never answers.
Reply = tuple[int, Mapping[str, str], bytes]

DATE = "Wed, 25 Nov 2026 08:12:31 GMT"
TAKEN = "2026-11-25T08:12:31Z"


def status(code: int, message: str, **headers: str) -> Reply:
    """A refusal in Kubernetes' shape; ``retry_after="1"`` becomes the header Retry-After."""
    body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "code": code}
    names = {name.replace("_", "-").title(): value for name, value in headers.items()}
    return code, {"Content-Type": "application/json", **names}, json.dumps(body).encode()


@dataclass
class Request:
    """One request that arrived."""

    path: str
    query: dict[str, str]
    headers: Mapping[str, str]


@dataclass
class Api:
    """``lists`` and ``objects`` are what it serves by path; ``trouble`` is asked first and may answer instead."""

    server: str = ""
    lists: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    objects: dict[str, Any] = field(default_factory=dict)
    trouble: Callable[[Request], Reply | None] = lambda _: None
    requests: list[Request] = field(default_factory=list)
    hangs: set[str] = field(default_factory=set)
    released: threading.Event = field(default_factory=threading.Event)

    @property
    def paths(self) -> list[str]:
        """The paths that were asked for, in order."""
        return [request.path for request in self.requests]

    def reply(self, request: Request) -> Reply:
        """What to answer."""
        self.requests.append(request)
        if request.path in self.hangs or "*" in self.hangs:
            self.released.wait(10)
        troubled = self.trouble(request)
        if troubled is not None:
            return troubled
        if request.path in self.objects:
            return self._json(self.objects[request.path])
        if request.path in self.lists:
            return self._json(self._page(self.lists[request.path], request.query))
        return status(404, "the server could not find the requested resource")

    def _page(self, items: list[dict[str, Any]], query: Mapping[str, str]) -> dict[str, Any]:
        start, limit = int(query.get("continue", "0")), int(query.get("limit", "0")) or len(items)
        end = start + limit
        return {"kind": "List", "metadata": {"continue": str(end) if end < len(items) else ""}, "items": items[start:end]}

    def _json(self, content: Any) -> Reply:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        return 200, {"Content-Type": "application/json"}, body

    def kubeconfig(self, folder: Path, user: Mapping[str, Any] | None = None) -> Path:
        """A kubeconfig for it with one context, ``test``."""
        return write_kubeconfig(folder / "config", {"test": self.server}, user=user)


def write_kubeconfig(path: Path, servers: Mapping[str, str], *, current: str | None = "", user: Mapping[str, Any] | None = None) -> Path:
    """A kubeconfig with one context, cluster and user for each name; the first is current, unless said otherwise (None: none)."""
    content: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Config",
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}} for name in servers],
        "clusters": [{"name": name, "cluster": {"server": server}} for name, server in servers.items()],
        "users": [{"name": name, "user": dict(user or {"token": "t0ken"})} for name in servers],
    }
    if current is not None:
        content["current-context"] = current or next(iter(servers))
    path.write_text(json.dumps(content))
    return path


@contextmanager
def serving() -> Iterator[Api]:
    """The server, running."""
    api = Api()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            url = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(url.query).items()}
            code, headers, body = api.reply(Request(url.path, query, dict(self.headers)))
            try:
                self.send_response_only(code)
                for name, value in {"Date": DATE, "Content-Length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)
            except OSError:
                self.close_connection = True  # the client did not wait

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """Say nothing: clients that do not wait are part of the tests."""

    server = Server(("127.0.0.1", 0), Handler)
    api.server = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield api
    finally:
        api.released.set()
        server.shutdown()
        thread.join()
        server.server_close()
