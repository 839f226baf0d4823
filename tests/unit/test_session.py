"""Conversations with the agent: over a pipe to a real agent process instead of an exec, which the cluster's tests use."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_meshready.cluster.answers import ReadError
from pytest_meshready.cluster.client import ClusterError
from pytest_meshready.cluster.exec import Lost
from pytest_meshready.probes import agent as agent_module
from pytest_meshready.probes import pod
from pytest_meshready.probes.messages import Ask, Op, Outcome
from pytest_meshready.probes.session import JobSession, ProbeError, Session
from pytest_meshready.waiting import Deadline
from tests.unit import loopback
from tests.unit.loopback import serving

FILE = Path(agent_module.__file__)
HERE = "127.0.0.1"


class ProcessPipe:
    """An agent in a process of its own, as an exec presents one."""

    def __init__(self, *command: str) -> None:
        arguments = command or (sys.executable, "-I", "-S", "-B", "-u", str(FILE), "talk")
        self.process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0)
        self.waiting = False

    def fileno(self) -> int:
        assert self.process.stdout is not None
        return self.process.stdout.fileno()

    def read(self, _: float) -> tuple[int, bytes] | None:
        assert self.process.stdout is not None
        data = self.process.stdout.read(65536)
        if not data:
            raise Lost("the command ended")
        return 1, data

    def write(self, data: bytes, _: float) -> None:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(data)
        except OSError as error:
            raise Lost("the connection broke") from error

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream:
                stream.close()


class Opener:
    """Opens pipes, and remembers them; ``failures`` are raised first."""

    def __init__(self, *failures: ClusterError, command: tuple[str, ...] = ()) -> None:
        self.pipes: list[ProcessPipe] = []
        self.failures = list(failures)
        self.command = command

    def __call__(self, _: Deadline) -> ProcessPipe:
        if self.failures:
            raise self.failures.pop(0)
        self.pipes.append(ProcessPipe(*self.command))
        return self.pipes[-1]


@contextlib.contextmanager
def session(opener: Opener, explain: Callable[[], str] | None = None) -> Iterator[Session]:
    made = Session(opener, "payments/meshready-3f2a91c0-inside", explain)
    try:
        yield made
    finally:
        made.close()
        for pipe in opener.pipes:
            pipe.process.wait(5)


def echo(port: int, name: str = "a", **more: Any) -> Ask:
    return Ask(id=name, op=Op.TCP, host=HERE, port=port, send=b"x", linger=0.05, **more)


def silence(port: int, name: str = "a", **more: Any) -> Ask:
    return Ask(id=name, op=Op.HOLD, host=HERE, port=port, **more)


def test_every_ask_is_answered_under_its_own_name() -> None:
    """A batch goes out at once, and the answers come back by id."""
    opener = Opener()
    with serving(loopback.echoing) as port, session(opener) as probe:
        answers = probe.ask([echo(port, "one"), echo(port, "two")], Deadline(10))
        assert {name: answer.outcome for name, answer in answers.items()} == {"one": Outcome.ANSWERED, "two": Outcome.ANSWERED}
        assert {answer.id for answer in answers.values()} == {"one", "two"}
        assert probe.ask([echo(port, "one")], Deadline(10))["one"].received == 1
        assert probe.ask([], Deadline(10)) == {}
    assert len(opener.pipes) == 1


def test_several_threads_use_the_same_ids() -> None:
    """Lines of a checklist run at the same time and know nothing of each other."""
    sizes: dict[int, int] = {}
    with serving(loopback.echoing) as port, session(Opener()) as probe:

        def use(size: int) -> None:
            ask = Ask(id="same", op=Op.TCP, host=HERE, port=port, send=b"x" * size, linger=0.2)
            sizes[size] = probe.ask([ask], Deadline(10))["same"].received

        threads = [threading.Thread(target=use, args=(size,)) for size in range(1, 9)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sizes == {size: size for size in range(1, 9)}


def test_two_asks_of_one_name_are_a_mistake() -> None:
    """One of the answers would be lost."""
    with session(Opener()) as probe, pytest.raises(ValueError, match="the same id"):
        probe.ask([echo(1), echo(1)], Deadline(10))


def test_conversation_that_breaks_is_begun_again() -> None:
    """What had not been answered is asked for once more, what had been is not."""
    opener = Opener()
    came: list[bytes] = []

    def count(connection: Any) -> None:
        came.append(b"")
        loopback.echoing(connection)

    with serving(count) as fast, serving(loopback.silent) as slow, session(opener) as probe:
        probe.ask([echo(fast)], Deadline(10))
        threading.Timer(0.5, opener.pipes[0].process.kill).start()
        answers = probe.ask([echo(fast, "fast"), silence(slow, "slow", read=1.0)], Deadline(10))
        assert (answers["fast"].outcome, answers["slow"].outcome) == (Outcome.ANSWERED, Outcome.OPEN)
        assert probe.trouble == ""
    assert len(opener.pipes) == 2
    assert len(came) == 2


def test_conversation_that_broke_while_nobody_looked() -> None:
    """A load balancer closes idle connections: the next ask opens a new one and notices nothing."""
    opener = Opener()
    with serving(loopback.echoing) as port, session(opener) as probe:
        probe.ask([echo(port)], Deadline(10))
        opener.pipes[0].process.kill()
        opener.pipes[0].process.wait(5)
        time.sleep(0.1)
        assert probe.ask([echo(port)], Deadline(10))["a"].outcome is Outcome.ANSWERED
    assert len(opener.pipes) == 2


def test_conversation_that_breaks_twice_is_given_up() -> None:
    """The answer says that it says nothing about the target, and what became of the pod if that is known."""
    opener = Opener()

    def kill() -> None:
        for number in range(2):
            while len(opener.pipes) <= number:
                time.sleep(0.02)
            time.sleep(0.4)
            opener.pipes[number].process.kill()

    sentence = "probe pod payments/meshready-3f2a91c0-inside was evicted in the middle of the run"
    with serving(loopback.silent) as port, session(opener, lambda: sentence) as probe:
        threading.Thread(target=kill).start()
        answer = probe.ask([silence(port, read=5.0)], Deadline(10))["a"]
    assert (answer.outcome, answer.error) == (Outcome.ERROR, sentence)
    assert probe.trouble == sentence
    assert len(opener.pipes) == 2


def test_probe_that_does_not_answer_in_time() -> None:
    """The deadline is the caller's, and the others' answers are there."""
    with serving(loopback.silent) as slow, serving(loopback.echoing) as fast, session(Opener()) as probe:
        probe.ask([echo(fast)], Deadline(10))
        begun = time.monotonic()
        answers = probe.ask([silence(slow, "slow", read=15.0), echo(fast, "fast")], Deadline(1.5))
        assert time.monotonic() - begun < 10
        assert answers["fast"].outcome is Outcome.ANSWERED
        assert answers["slow"].outcome is Outcome.ERROR
        assert answers["slow"].error == "the probe payments/meshready-3f2a91c0-inside did not answer within 1.5 s"


def test_exec_is_not_permitted() -> None:
    """It is told apart, because a Job can do it instead."""
    refused = ReadError("not permitted: {asked} (403: no)", asked="exec in pod payments/a", status=403)
    with session(Opener(refused)) as probe:
        with pytest.raises(ProbeError, match=r"no conversation with the probe .*: not permitted: exec in pod payments/a") as caught:
            probe._conversing(Deadline(5))
        assert caught.value.forbidden


def test_image_without_python() -> None:
    """The sentence names the option that helps."""

    class Broken(ProcessPipe):
        def read(self, _: float) -> tuple[int, bytes] | None:
            raise Lost('the command ended: exec failed: exec: "python3": executable file not found in $PATH')

    pipe = Broken("true")
    with pytest.raises(ProbeError, match=r"its image has no python3; --mesh-probe-image=IMAGE must name one") as caught:
        Session(lambda _: pipe, "payments/a")._conversing(Deadline(5))
    assert not caught.value.forbidden


def test_last_words_of_the_command() -> None:
    """What it printed as errors is in the sentence."""

    class Talking(ProcessPipe):
        said = False

        def read(self, _: float) -> tuple[int, bytes] | None:
            if self.said:
                raise Lost("the command ended: command terminated with exit code 2")
            self.said = True
            return 2, b"Traceback\npython3: can't open file '/meshready/agent.py'\n"

    pipe = Talking("sh", "-c", "echo; sleep 30")
    with pytest.raises(ProbeError, match=r"exit code 2 \(python3: can't open file '/meshready/agent.py'\)"):
        Session(lambda _: pipe, "payments/a")._conversing(Deadline(5))


def test_agent_that_says_nothing() -> None:
    """No hello, no conversation."""
    with session(Opener(command=("sleep", "30"))) as probe, pytest.raises(ProbeError, match=r"did not say hello within 0\.3 s"):
        probe._conversing(Deadline(0.3))


def test_other_output_is_passed_over() -> None:
    """An image may print a banner before the agent speaks."""
    banner = ("sh", "-c", f"echo welcome; echo '{{}}'; exec {sys.executable} -I -S -u {FILE} talk")
    with serving(loopback.echoing) as port, session(Opener(command=banner)) as probe:
        assert probe.ask([echo(port)], Deadline(10))["a"].outcome is Outcome.ANSWERED


def test_session_that_was_closed() -> None:
    """Nothing is begun again after the end, and to end twice does no harm."""
    opener = Opener()
    with serving(loopback.echoing) as port, session(opener) as probe:
        probe.ask([echo(port)], Deadline(10))
        probe.close()
        probe.close()
        answer = probe.ask([echo(port)], Deadline(10))["a"]
    assert answer.outcome is Outcome.ERROR
    assert answer.error == "the conversation with the probe payments/meshready-3f2a91c0-inside was ended"
    assert len(opener.pipes) == 1


def test_job_that_cannot_be_created() -> None:
    """Its sentence is the answer to everything that was asked."""
    run = pod.Run(id="3f2a91c0", namespace="payments")
    created: list[str] = []

    def refuse(manifest: Any) -> str:
        created.append(manifest["metadata"]["name"])
        return "the quota of payments leaves no room for Job payments/meshready-3f2a91c0-outside-1"

    cluster: Any = None
    probe = JobSession(cluster, run, "outside", injection=pod.Injection.NO, create=refuse)
    answer = probe.ask([echo(1)], Deadline(5))["a"]
    assert created == ["meshready-3f2a91c0-outside-1"]
    assert (answer.outcome, answer.error) == (Outcome.ERROR, probe.trouble)
    assert probe.trouble.startswith("the quota of payments")
