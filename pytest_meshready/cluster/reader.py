"""Reads many things at once: some threads, one deadline, and for each thing either what it is or why there is nothing.

The threads are daemons of this module and not a pool of the standard library's, which would hold up the end of the process
for a server that hangs, and Ctrl-C with it.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pytest_meshready.cluster import decode, objects
from pytest_meshready.cluster.answers import Answer, ReadError
from pytest_meshready.cluster.client import Cluster
from pytest_meshready.cluster.resources import Resource, Scope
from pytest_meshready.cluster.snapshot import Refusal, Unreadable
from pytest_meshready.waiting import Deadline

#: Requests at a time: different kinds in parallel, the pages of one kind one after the other.
THREADS = 6

#: Seconds after the deadline in which a request that ends with it may still deliver its own sentence.
GRACE = 0.5

_NOT_FOUND = 404
_UNAUTHORIZED = 401

#: With this status ``/readyz`` says that it is not ready: an answer, and not worth asking again.
_UNHEALTHY = frozenset({500})

#: Versions to try where an older Istio does not serve v1 yet (checks.md 2.1); the fields that rules read are the same.
OLDER_VERSIONS = {
    "security.istio.io": ("v1beta1",),
    "networking.istio.io": ("v1beta1", "v1alpha3"),
    "gateway.networking.k8s.io": ("v1beta1", "v1alpha3", "v1alpha2"),
    "karpenter.sh": ("v1beta1",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One thing to read. Without ``row`` it is the path ``resource`` itself; with ``name`` one object, else a list."""

    row: Resource | None = None
    namespace: str = ""
    name: str = ""
    path: str = ""

    @property
    def key(self) -> str:
        """The row's key; the path where there is no row."""
        return self.row.key if self.row else self.path.strip("/")

    @property
    def verb(self) -> str:
        """As RBAC says it."""
        return "list" if self.row and not self.name and self.row.scope is not Scope.PATH else "get"

    @property
    def resource(self) -> str:
        """As RBAC says it."""
        return self.row.rbac_name if self.row else self.path

    def __str__(self) -> str:
        """``list pods in payments``."""
        name = f"/{self.name}" if self.name else ""
        return f"{self.verb} {self.resource}{name}{f' in {self.namespace}' if self.namespace else ''}"

    def path_of(self, version: str) -> str:
        """The path of the request, for a version of the kind."""
        if self.row is None:
            return self.path
        if self.row.scope is Scope.PATH:
            return self.row.plural
        prefix = self.row.prefix.removesuffix(self.row.version) + version
        where = f"/namespaces/{self.namespace}" if self.namespace else ""
        return f"{prefix}{where}/{self.row.plural}{f'/{self.name}' if self.name else ''}"

    def refused(self, reason: str, status: int = 0, *, absent: bool = False) -> Refusal:
        """That it could not be read, and why."""
        return Refusal(
            key=self.key, verb=self.verb, resource=self.resource, namespace=self.namespace, status=status, reason=reason, absent=absent
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What came of one `Ask`. ``missing`` tells that the one object asked for by name does not exist."""

    ask: Ask
    items: Sequence[objects.Slim] = ()
    unreadable: tuple[Unreadable, ...] = ()
    refusal: Refusal | None = None
    missing: bool = False
    body: bytes = b""
    date: str = ""


class Reader:
    """Reads one cluster until one deadline.

    What makes every request fail (nobody answers, the credentials are not accepted) is met once: what has not been asked
    by then is refused at once, with the same sentence.
    """

    def __init__(self, cluster: Cluster, deadline: Deadline, progress: Callable[[str], None] | None = None) -> None:
        self._cluster = cluster
        self._deadline = deadline
        self._progress = progress
        self._lock = threading.Lock()
        self._waiting: dict[Ask, None] = {}
        self._everywhere: ReadError | None = None
        self._answers = 0

    def read(self, asks: Sequence[Ask]) -> list[Result]:
        """The results in the order of the asks; never later than shortly after the deadline."""
        decode.prepare()
        todo: queue.SimpleQueue[tuple[int, Ask]] = queue.SimpleQueue()
        done: queue.SimpleQueue[tuple[int, Result | Exception]] = queue.SimpleQueue()
        over = threading.Event()
        for numbered in enumerate(asks):
            todo.put(numbered)
        for _ in range(min(THREADS, len(asks))):
            threading.Thread(target=self._work, args=(todo, done, over), name="meshready-reader", daemon=True).start()
        results: dict[int, Result] = {}
        try:
            while len(results) < len(asks):
                index, outcome = done.get(timeout=self._deadline.left + GRACE)
                if isinstance(outcome, Exception):
                    raise outcome
                results[index] = outcome
        except queue.Empty:
            pass
        finally:
            over.set()  # also after Ctrl-C: no thread begins another request
        return [results.get(index) or self._late(ask) for index, ask in enumerate(asks)]

    def _work(
        self, todo: queue.SimpleQueue[tuple[int, Ask]], done: queue.SimpleQueue[tuple[int, Result | Exception]], over: threading.Event
    ) -> None:
        while not over.is_set():
            try:
                index, ask = todo.get_nowait()
            except queue.Empty:
                return
            try:
                done.put((index, self._one(ask)))
            except Exception as error:  # noqa: BLE001 - raised again by the thread that waits
                done.put((index, error))

    def _one(self, ask: Ask) -> Result:
        if self._everywhere is not None:
            return Result(ask=ask, refusal=ask.refused(str(self._everywhere), self._everywhere.status))
        if self._deadline.passed:
            return self._late(ask)
        before = self._answers
        self._now(ask, waiting=True)
        try:
            result = self._fetch(ask)
        except ReadError as error:
            if error.lasted and not error.everywhere and self._deadline.left <= 0:
                return self._late(ask)  # it was left too little time to say anything about the server
            self._note(error, before)
            if error.status == _NOT_FOUND:
                return self._not_found(ask, error)
            return Result(ask=ask, refusal=ask.refused(error.about(str(ask)), error.status))
        except decode.DecodeError as error:
            return Result(ask=ask, refusal=ask.refused(f"not understood: {ask}: {error}", 200))
        finally:
            self._now(ask, waiting=False)
        self._answers += 1
        return result

    def _note(self, error: ReadError, answers_before: int) -> None:
        """Learn from a failure: whether every other request would meet it, too.

        Beside what is so by nature, a failure that lasted until its deadline counts, if nothing else was answered meanwhile.
        """
        if error.everywhere or (error.lasted and self._answers == answers_before):
            self._everywhere = self._everywhere or error
        elif error.status and not error.lasted:
            self._answers += 1

    def _fetch(self, ask: Ask) -> Result:
        versions = (ask.row.version, *OLDER_VERSIONS.get(ask.row.group, ())) if ask.row else ("",)
        for version in versions[:-1]:
            try:
                return self._fetch_version(ask, version)
            except ReadError as error:
                if error.status != _NOT_FOUND:
                    raise
        return self._fetch_version(ask, versions[-1])

    def _fetch_version(self, ask: Ask, version: str) -> Result:
        path, row = ask.path_of(version), ask.row
        if row is not None and row.scope is Scope.PATH:
            answer = self._cluster.get(path, deadline=self._deadline, accept=_UNHEALTHY)
            return Result(ask=ask, items=(decode.health(answer.body, answer.status, path),), date=answer.date)
        if row is None or ask.name:
            answer = self._cluster.get(path, deadline=self._deadline)
            return _named(ask, answer)
        shared = decode.Shared()

        def keep(body: bytes) -> tuple[decode.Page, str]:
            page = decode.page(body, row, shared)
            return page, page.resume

        pages, answer = self._cluster.pages(path, keep, deadline=self._deadline, field_selector=row.field_selector)
        return Result(
            ask=ask,
            items=[item for page in pages for item in page.items],
            unreadable=tuple(item for page in pages for item in page.unreadable),
            date=answer.date,
        )

    def _not_found(self, ask: Ask, error: ReadError) -> Result:
        if ask.name:
            return Result(ask=ask, missing=True)
        is_kind = ask.row is not None and ask.row.scope is not Scope.PATH
        more = ": nothing that defines this kind is installed" if is_kind else ""
        reason = f"the API server does not know {ask.resource} ({error.status}){more}"
        return Result(ask=ask, refusal=ask.refused(reason, error.status, absent=is_kind))

    def _late(self, ask: Ask) -> Result:
        return Result(
            ask=ask,
            refusal=ask.refused(
                f"not read in time: {ask}: reading the cluster took longer than {self._deadline.seconds:g} s (--mesh-deadline)"
            ),
        )

    def _now(self, ask: Ask, *, waiting: bool) -> None:
        """Tell what has been waited for longest."""
        with self._lock:
            if waiting:
                self._waiting[ask] = None
            else:
                self._waiting.pop(ask, None)
            if self._progress is not None:
                self._progress(str(next(iter(self._waiting), "")))


def _named(ask: Ask, answer: Answer) -> Result:
    """One object, or the bytes of a path; the bytes of ConfigMaps are for the caller, who keeps nothing of them."""
    if ask.row is None:
        return Result(ask=ask, body=answer.body, date=answer.date)
    body = answer.body if ask.row.type is objects.ConfigMap else b""
    item = decode.single(answer.body, ask.row)
    if isinstance(item, Unreadable):
        return Result(ask=ask, unreadable=(item,), date=answer.date)
    return Result(ask=ask, items=(item,), body=body, date=answer.date)
