"""A small API server on loopback that can be written to: it keeps objects in memory and refuses as Kubernetes does.

It does what guests rely on: uids and resource versions, label selectors, preconditions, owner references (what an owner
owned goes with it, at once), access reviews, and pods that become what `Api.pod` says of them.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from pytest_meshready.cluster import client
from pytest_meshready.cluster.client import Cluster
from pytest_meshready.cluster.kubeconfig import Kubeconfig
from pytest_meshready.waiting import Deadlines
from tests.unit.apiserver import Reply, status

Object = dict[str, Any]

REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"


@dataclass
class Request:
    """One request that arrived."""

    method: str
    path: str
    query: dict[str, str]
    content: Any

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


def ready(pod: Object) -> Object:
    """The status of a pod that is ready."""
    names = [container["name"] for container in pod["spec"]["containers"]]
    return {
        "phase": "Running",
        "podIP": "10.0.0.1",
        "conditions": [{"type": "PodScheduled", "status": "True"}, {"type": "Ready", "status": "True"}],
        "containerStatuses": [{"name": name, "ready": True, "state": {"running": {}}} for name in names],
    }


@dataclass
class Api:
    """``trouble`` is asked before every request and may answer instead; ``denied`` are rights as ``create pods``."""

    server: str = ""
    objects: dict[str, Object] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    denied: set[str] = field(default_factory=set)
    trouble: Callable[[Request], Reply | None] = lambda _: None
    pod: Callable[[Object], Object] = ready
    undeletable: set[str] = field(default_factory=set)
    ahead: float = 0.0
    """seconds by which this server's clock is ahead of the machine's"""
    _version: int = 0
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def cluster(self, deadlines: Deadlines | None = None) -> Cluster:
        """A client for it, made without a kubeconfig file."""
        return _Direct(self.server, deadlines or Deadlines(request=2.0))

    def names(self) -> list[str]:
        """What is there: ``pods/probe``."""
        return sorted("/".join(path.split("/")[-2:]) for path in self.objects)

    def asked(self) -> set[str]:
        """The verbs and resources that were used: ``create pods``."""
        return {_right(request) for request in self.requests if request.path not in (REVIEWS, "/version")}

    def put(self, path: str, content: Object) -> Object:
        """Keep an object, as if somebody else had made it."""
        with self._lock:
            self._version += 1
            metadata = {"uid": f"uid-{self._version}", **content["metadata"], "resourceVersion": str(self._version)}
            self.objects[path] = {**content, "metadata": metadata}
            return self.objects[path]

    def reply(self, request: Request) -> Reply:
        """What to answer."""
        with self._lock:
            self.requests.append(request)
        troubled = self.trouble(request)
        if troubled is not None:
            return troubled
        if request.path == "/version":
            return _json({"gitVersion": "v1.34.4"})
        if request.path == REVIEWS:
            return self._review(request)
        with self._lock:
            verbs = {"GET": self._get, "POST": self._post, "PUT": self._replace, "PATCH": self._patch, "DELETE": self._delete}
            return verbs[request.method](request)

    def _review(self, request: Request) -> Reply:
        about = request.content["spec"]["resourceAttributes"]
        subresource = f"/{about['subresource']}" if about.get("subresource") else ""
        allowed = f"{about['verb']} {about['resource']}{subresource}" not in self.denied
        return _json({**request.content, "status": {"allowed": allowed}}, 201)

    def _get(self, request: Request) -> Reply:
        found = self.objects.get(request.path)
        if found is not None:
            return _json(found)
        members = [item for path, item in self.objects.items() if path.rpartition("/")[0] == request.path]
        selected = [item for item in members if _matches(item, request.query.get("labelSelector", ""))]
        if not members and _is_named(request.path):
            return status(404, f'{request.path.split("/")[-2]} "{request.path.split("/")[-1]}" not found')
        if request.path.endswith("/pods"):
            selected = [{**item, "status": self.pod(item)} for item in selected]
        return _json({"kind": "List", "metadata": {}, "items": selected})

    def _post(self, request: Request) -> Reply:
        name = request.content["metadata"]["name"]
        path = f"{request.path}/{name}"
        if path in self.objects:
            return conflict(f'{request.path.split("/")[-1]} "{name}" already exists', "AlreadyExists")
        owners = {owner["uid"] for owner in request.content["metadata"].get("ownerReferences", ())}
        made = self.put(path, request.content)
        if owners and not owners & {item["metadata"]["uid"] for item in self.objects.values()}:
            del self.objects[path]  # Kubernetes collects what has an owner that is gone
        return _json(made, 201)

    def _replace(self, request: Request) -> Reply:
        before = self.objects.get(request.path)
        if before is None:
            return status(404, "not found")
        if request.content["metadata"].get("resourceVersion") != before["metadata"]["resourceVersion"]:
            return conflict("Operation cannot be fulfilled: the object has been modified")
        return _json(self.put(request.path, {**request.content, "metadata": {**before["metadata"], **request.content["metadata"]}}))

    def _patch(self, request: Request) -> Reply:
        return _json(self.put(request.path, _merged(self.objects[request.path], request.content)))

    def _delete(self, request: Request) -> Reply:
        found = self.objects.get(request.path)
        if found is None:
            return status(404, "not found")
        wanted = (request.content or {}).get("preconditions", {})
        if any(found["metadata"].get(key) != value for key, value in wanted.items()):
            return conflict("Operation cannot be fulfilled: the ResourceVersion in the precondition does not match")
        if request.path in self.undeletable:
            return _json(found)
        del self.objects[request.path]
        for path, item in list(self.objects.items()):
            owners = {owner["uid"] for owner in item["metadata"].get("ownerReferences", ())}
            if found["metadata"]["uid"] in owners and path not in self.undeletable:
                del self.objects[path]
        return _json(found)


class _Direct(Cluster):
    """A client whose kubeconfig was never a file."""

    def __init__(self, server: str, deadlines: Deadlines) -> None:
        chosen = Kubeconfig(files=(), origin="test", context="test", context_names=("test",), server=server)
        super().__init__(chosen, deadlines)
        from kubernetes.client import Configuration

        configuration = Configuration()
        self._transport = client._Transport(configuration, chosen)


def conflict(message: str, reason: str = "Conflict") -> Reply:
    """A 409 as Kubernetes sends it."""
    return refusal(409, message, reason)


def refusal(code: int, message: str, reason: str) -> Reply:
    """A refusal with the server's word for it."""
    body = {"kind": "Status", "status": "Failure", "message": message, "reason": reason, "code": code}
    return code, {"Content-Type": "application/json"}, json.dumps(body).encode()


def _json(content: Any, code: int = 200) -> Reply:
    return code, {"Content-Type": "application/json"}, json.dumps(content).encode()


def _words(path: str) -> list[str]:
    """``payments``, ``pods``, ``probe``: what follows ``/namespaces/``."""
    return path.partition("/namespaces/")[2].split("/")


def _is_named(path: str) -> bool:
    """Whether a path ends in the name of an object: after ``namespaces/NS/PLURAL``."""
    return len(_words(path)) == 3


def _right(request: Request) -> str:
    words = _words(request.path)
    named = len(words) > 2
    verb = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete", "GET": "get" if named else "list"}[request.method]
    return f"{verb} {words[1] if len(words) > 1 else request.path}"


def _matches(item: Object, selector: str) -> bool:
    labels = item["metadata"].get("labels") or {}
    for part in filter(None, selector.split(",")):
        key, equal, value = part.partition("=")
        there = labels.get(key) == value if equal else key in labels
        holds = labels.get(key[:-1]) != value if key.endswith("!") else there
        if not holds:
            return False
    return True


def _merged(before: Any, changes: Mapping[str, Any]) -> Any:
    merged = dict(before)
    for key, value in changes.items():
        merged[key] = _merged(merged.get(key) or {}, value) if isinstance(value, Mapping) else value
    return merged


@contextmanager
def serving() -> Iterator[Api]:
    """The server, running."""
    api = Api()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # head and body are written one after the other

        def _any(self) -> None:
            url = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(url.query).items()}
            length = int(self.headers.get("Content-Length") or 0)
            content = json.loads(self.rfile.read(length)) if length else None
            code, headers, body = api.reply(Request(self.command, url.path, query, content))
            if code == 0:  # the server dies in the middle of the answer
                self.close_connection = True
                return
            self.send_response_only(code)
            date = formatdate(time.time() + api.ahead, usegmt=True)
            for name, value in {"Date": date, "Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _any  # noqa: N815 - the names are the standard library's

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    api.server = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield api
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
