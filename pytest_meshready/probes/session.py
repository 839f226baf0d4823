"""Conversations with the agent in a probe pod: ask, and get an answer for everything that was asked.

`Session` keeps one exec open and speaks JSON lines over it; `JobSession` does the same where nothing may be executed in pods, with a
Job for every call, which answers in its log. Only the way to the probe is tried again, once; what a target answered, or did not,
is never asked for twice. All asks are such that it does no harm if the probe performed them before the way broke.
"""

from __future__ import annotations

import contextlib
import itertools
import selectors
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

import msgspec

from pytest_meshready.cluster import writes
from pytest_meshready.cluster.answers import ReadError
from pytest_meshready.cluster.client import Cluster, ClusterError
from pytest_meshready.probes import messages, pod
from pytest_meshready.probes.messages import Answer, Ask, Done, Hello, Outcome
from pytest_meshready.waiting import Deadline, until

__all__ = ["JobSession", "Pipe", "ProbeError", "Prober", "Session"]

#: Seconds that a message which has begun to come may take; nothing is sent meanwhile.
_PART = 1.0

#: Seconds in which what is said must be on its way.
_SAYING = 10.0

#: Seconds between two looks at a Job.
_LOOK = 0.5

#: How often one call has what it asks for sent: once more where the way broke.
_TRIES = 2

_FORBIDDEN = 403
_WAITING = 400


class ProbeError(ClusterError):
    """There is no conversation with a probe; the message is one sentence. ``forbidden``: exec is not permitted."""

    def __init__(self, text: str, *, forbidden: bool = False) -> None:
        super().__init__(text)
        self.forbidden = forbidden


class Prober(Protocol):
    """Somebody in the cluster who sends what is asked for. Safe to use from several threads."""

    @property
    def place(self) -> str:
        """Where it is: ``payments/meshready-3f2a91c0-inside``."""

    @property
    def trouble(self) -> str:
        """Why it cannot be used any more, in one sentence; empty while all is well."""

    def ask(self, asks: Sequence[Ask], deadline: Deadline) -> dict[str, Answer]:
        """Have these performed at the same time.

        Returns:
            An answer for every ask, by its id. Where the probe was lost or did not answer in time its outcome is
            `Outcome.ERROR`, and ``error`` says in one sentence why.
        """

    def close(self) -> None:
        """End it; it never raises and may be called several times."""


class Pipe(Protocol):
    """What a conversation goes over: `pytest_meshready.cluster.exec.Exec`, used by one thread at a time."""

    def fileno(self) -> int:
        """For selectors."""

    @property
    def waiting(self) -> bool:
        """Whether something has come that a selector does not see."""

    def read(self, seconds: float) -> tuple[int, bytes] | None:
        """The next message, channel (1 output, 2 errors) and content; a `ClusterError` at the end."""

    def write(self, data: bytes, seconds: float) -> None:
        """Send to the standard input; a `ClusterError` where it cannot be sent."""

    def close(self) -> None:
        """End it."""


class Session:
    """A conversation with one probe pod, opened again once where it breaks.

    Example:
        >>> session = Session.open(cluster, "payments", "meshready-3f2a91c0-inside", "agent", Deadline(10.0))
        >>> session.ask([Ask(id="ledger", op=Op.HTTP, host="ledger.payments", port=8080)], Deadline(10.0))["ledger"].status
        403

    Args:
        opener: opens a way to the agent.
        place: where the agent is, for sentences.
        explain: what happened to the pod, in one sentence, or nothing; it is asked once the conversation has broken for good.
    """

    def __init__(self, opener: Callable[[Deadline], Pipe], place: str, explain: Callable[[], str] | None = None) -> None:
        self.place = place
        self.trouble = ""
        self._opener = opener
        self._explain = explain
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._conversation: _Conversation | None = None
        self._closed = False

    @classmethod
    def open(
        cls,
        cluster: Cluster,
        namespace: str,
        pod_name: str,
        container: str,
        deadline: Deadline,
        *,
        explain: Callable[[], str] | None = None,
    ) -> Session:
        """Begin a conversation; it takes 0.3 to 0.7 s.

        Args:
            cluster: where.
            namespace: of the pod.
            pod_name: a pod that is ready.
            container: the container with the agent: `pytest_meshready.probes.pod.AGENT`.
            deadline: until when to try.
            explain: as for the class.

        Raises:
            ProbeError: with one sentence; ``forbidden`` where a Job has to do it instead.
        """
        from pytest_meshready.cluster.exec import open_exec

        def opener(bound: Deadline) -> Pipe:
            return open_exec(cluster, namespace, pod_name, container=container, command=pod.TALK, deadline=bound)

        session = cls(opener, f"{namespace}/{pod_name}", explain)
        session._conversing(deadline)
        return session

    def ask(self, asks: Sequence[Ask], deadline: Deadline) -> dict[str, Answer]:
        """Have these performed; see `Prober.ask`."""
        named = _numbered(asks, self._numbers)
        answers: dict[str, Answer] = {}
        why = ""
        for _ in range(_TRIES):
            try:
                conversation = self._conversing(deadline)
            except ProbeError as error:
                why = str(error)
                break
            missing = {number: _line(ask, number) for number, ask in named.items() if number not in answers}
            answers |= conversation.answers(missing, deadline)
            if len(answers) == len(named):
                break
            if not conversation.lost:
                why = f"the probe {self.place} did not answer within {deadline.seconds:g} s"
                break
            why = f"the conversation with the probe {self.place} broke twice: {conversation.lost}"
        else:
            why = self._given_up(why)
        return {ask.id: _renamed(answers.get(number), ask, why) for number, ask in named.items()}

    def close(self) -> None:
        """End the conversation."""
        with self._lock:
            self._closed = True
            if self._conversation is not None:
                self._conversation.close()

    def _conversing(self, deadline: Deadline) -> _Conversation:
        """The conversation, begun anew if the last one is over."""
        with self._lock:
            if self._closed:
                raise ProbeError(f"the conversation with the probe {self.place} was ended")
            if self._conversation is not None and not self._conversation.lost:
                return self._conversation
            try:
                conversation = _Conversation(self._opener(deadline))
            except ClusterError as error:
                forbidden = isinstance(error, ReadError) and error.status == _FORBIDDEN
                sentence = f"no conversation with the probe {self.place}: {error}"
                raise ProbeError(self._given_up(sentence), forbidden=forbidden) from error
            if not conversation.begun(deadline):
                why = conversation.lost or f"its agent did not say hello within {deadline.seconds:g} s"
                conversation.close()
                if "executable file not found" in why:
                    why = "its image has no python3; --mesh-probe-image=IMAGE must name one with Python 3.8 or later"
                raise ProbeError(self._given_up(f"no conversation with the probe {self.place}: {why}"))
            self._conversation = conversation
            self.trouble = ""
            return conversation

    def _given_up(self, sentence: str) -> str:
        """What to say of a loss: what happened to the pod, if that is known."""
        explained = self._explain() if self._explain else ""
        self.trouble = explained or sentence
        return self.trouble


class _Conversation:
    """One way to the agent, from hello to its end. A thread of its own reads and writes, for one TLS connection bears no two."""

    def __init__(self, pipe: Pipe) -> None:
        self.lost = ""
        self._pipe = pipe
        self._hello: Hello | None = None
        self._waking, self._wake = socket.socketpair()
        self._outgoing: deque[bytes] = deque()
        self._wanted: set[str] = set()
        self._answers: dict[str, Answer] = {}
        self._news = threading.Condition()
        self._closing = False
        self._text = b""
        self._errors = b""
        threading.Thread(target=self._run, name="meshready-conversation", daemon=True).start()

    def begun(self, deadline: Deadline) -> bool:
        """Wait until the agent has said hello; False if it did not, or the way broke."""
        with self._news:
            self._news.wait_for(lambda: self._hello or self.lost, timeout=deadline.left)
            return self._hello is not None and not self.lost

    def answers(self, lines: Mapping[str, bytes], deadline: Deadline) -> dict[str, Answer]:
        """Say these lines, and return the answers with their numbers that come before the deadline, or the end."""
        with self._news:
            self._wanted.update(lines)
            self._outgoing.extend(lines.values())
            self._stir()
            self._news.wait_for(lambda: self.lost or lines.keys() <= self._answers.keys(), timeout=deadline.left)
            self._wanted.difference_update(lines)
            return {number: self._answers.pop(number) for number in lines if number in self._answers}

    def close(self) -> None:
        """End it."""
        self._closing = True
        self._stir()

    def _stir(self) -> None:
        """Make the thread look up."""
        with contextlib.suppress(OSError):  # it has ended
            self._wake.send(b"!")

    def _run(self) -> None:
        why = "it was ended"
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(self._pipe.fileno(), selectors.EVENT_READ)
                selector.register(self._waking, selectors.EVENT_READ)
                while not self._closing:
                    self._turn(selector)
        except ClusterError as error:
            why = " ".join(filter(None, (str(error), self._last_words())))
        except Exception as error:  # noqa: BLE001 - nobody may wait for a thread that has died
            why = f"{type(error).__name__}: {error}"
        with self._news:
            self.lost = why
            self._news.notify_all()
        for end in (self._pipe, self._waking, self._wake):
            end.close()

    def _turn(self, selector: selectors.BaseSelector) -> None:
        """Wait for something to do, and do it."""
        ready = {key.fileobj for key, _ in selector.select(0 if self._pipe.waiting else None)}
        if self._waking in ready:
            self._waking.recv(4096)
        while self._outgoing:
            self._pipe.write(self._outgoing.popleft(), _SAYING)
        if self._pipe.waiting or ready - {self._waking}:
            message = self._pipe.read(_PART)
            if message is not None:
                self._heard(*message)

    def _heard(self, channel: int, data: bytes) -> None:
        if channel != 1:
            self._errors = (self._errors + data)[-2000:]
            return
        *lines, self._text = (self._text + data).split(b"\n")
        with self._news:
            for message in map(messages.decode, lines):
                if isinstance(message, Hello):
                    self._hello = message
                elif isinstance(message, Answer) and message.id in self._wanted:
                    self._answers[message.id] = message
            self._news.notify_all()

    def _last_words(self) -> str:
        """The last line of what the command printed as errors."""
        lines = self._errors.decode(errors="replace").strip().splitlines()
        return f"({lines[-1][:200]})" if lines else ""


class JobSession:
    """Probes as Jobs: the pod of a Job performs what is asked and prints the answers. It takes as long as a pod takes to start.

    Args:
        cluster: where.
        run: whose Jobs they are, and where.
        role: as for `pytest_meshready.probes.pod.job`, with ``injection``, ``account`` and ``revision``.
        create: creates an object of the run and returns why not, in one sentence, or nothing.
    """

    def __init__(
        self,
        cluster: Cluster,
        run: pod.Run,
        role: str,
        *,
        injection: pod.Injection,
        create: Callable[[writes.Manifest], str],
        account: str = "",
        revision: str = "",
    ) -> None:
        self.place = f"{run.namespace}/{run.name}-{role}"
        self.trouble = ""
        self._cluster = cluster
        self._run = run
        self._role = role
        self._injection = injection
        self._create = create
        self._account = account
        self._revision = revision
        self._numbers = itertools.count(1)

    def ask(self, asks: Sequence[Ask], deadline: Deadline) -> dict[str, Answer]:
        """Have these performed; see `Prober.ask`."""
        named = _numbered(asks, itertools.count(1))
        lines = [_line(ask, number) for number, ask in named.items()]
        number = next(self._numbers)
        job = pod.job(self._run, self._role, number, lines, injection=self._injection, account=self._account, revision=self._revision)
        answers: dict[str, Answer] = {}
        why = self._create(job)
        if not why:
            log = _Log(self._cluster, self._run.namespace, job["metadata"]["name"])
            until(log.look, every=_LOOK, deadline=deadline)
            answers, why = log.answers, log.why or f"the Job {self.place}-{number} did not answer within {deadline.seconds:g} s"
            with contextlib.suppress(writes.WriteError):  # it goes with the anchor at the latest
                writes.delete(self._cluster, job)
        self.trouble = "" if len(answers) == len(named) else why
        return {ask.id: _renamed(answers.get(number_), ask, why) for number_, ask in named.items()}

    def close(self) -> None:
        """Nothing is open between two calls."""


class _Log:
    """What the pod of a Job has printed so far."""

    def __init__(self, cluster: Cluster, namespace: str, job: str) -> None:
        self.answers: dict[str, Answer] = {}
        self.why = ""
        self._cluster = cluster
        self._namespace = namespace
        self._job = job

    def look(self) -> bool | None:
        """Look once more; True when there is nothing more to come."""
        try:
            found = writes.listed(self._cluster, writes.POD, self._namespace, f"job-name={self._job}")
            if not found:
                return None
            over = found[0].get("status", {}).get("phase") in ("Succeeded", "Failed")
            path = f"/api/v1/namespaces/{self._namespace}/pods/{found[0]['metadata']['name']}/log"
            said = self._cluster.get(path, {"container": pod.AGENT}).body
        except (writes.WriteError, ReadError) as error:
            return self._failed(error)
        done = over
        for message in map(messages.decode, said.splitlines()):
            if isinstance(message, Answer):
                self.answers[message.id] = message
            done = done or isinstance(message, Done)
        self.why = f"the pod of Job {self._namespace}/{self._job} ended before it had answered everything" if over else ""
        return True if done else None

    def _failed(self, error: writes.WriteError | ReadError) -> bool | None:
        """A look that showed nothing: the container may be about to start, or the log may not be read."""
        self.why = f"the answers of Job {self._namespace}/{self._job} cannot be read: {error}"
        return True if error.status == _FORBIDDEN else None


def _numbered(asks: Sequence[Ask], numbers: Iterator[int]) -> dict[str, Ask]:
    """The asks under numbers that no other call uses at the same time."""
    if len({ask.id for ask in asks}) < len(asks):
        raise ValueError("two asks of one call have the same id")
    return {str(next(numbers)): ask for ask in asks}


def _line(ask: Ask, number: str) -> bytes:
    """The ask as a line for the agent, under its number."""
    return messages.encode(msgspec.structs.replace(ask, id=number))


def _renamed(answer: Answer | None, ask: Ask, why: str) -> Answer:
    """The answer under the id of the ask, or one that says why there is none."""
    if answer is None:
        return Answer(id=ask.id, outcome=Outcome.ERROR, error=why)
    return msgspec.structs.replace(answer, id=ask.id)
