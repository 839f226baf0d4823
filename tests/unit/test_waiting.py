"""Deadlines and retries, on a clock that skips every pause."""

from __future__ import annotations

import threading
import time

import pytest

from pytest_meshready.waiting import Deadline, Deadlines, GaveUp, Repeating, bounded, retry, skipping, until


class Flaky:
    """Fails so many times, then answers."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.calls = 0

    def __call__(self) -> str:
        self.calls += 1
        if self.calls <= self.failures:
            raise ConnectionError(f"failure {self.calls}")
        return "answer"


def passing(error: Exception) -> float | None:
    return 0.0 if isinstance(error, ConnectionError) else None


def test_answers_after_failures_that_pass() -> None:
    """A call is repeated until it answers, with pauses that double."""
    with skipping() as clock:
        assert retry(Flaky(3), retry_on=passing, deadline=Deadline(10)) == "answer"
    assert clock.slept == [0.2, 0.4, 0.8]


def test_gives_up_at_the_deadline_and_says_what_it_saw_last() -> None:
    """No pause is begun that would end after the deadline, and the last failure is in the error."""
    with skipping() as clock, pytest.raises(GaveUp, match=r"gave up after 7 tries in 10 s; last: failure 7") as caught:
        retry(Flaky(99), retry_on=passing, deadline=Deadline(10))
    assert sum(clock.slept) < 10
    assert str(caught.value.last) == "failure 7"
    assert caught.value.asked is None


def test_waits_as_long_as_it_is_asked_to() -> None:
    """A failure that says how long to wait is believed."""
    with skipping() as clock:
        retry(Flaky(2), retry_on=lambda _: 4.0, deadline=Deadline(10))
    assert clock.slept == [4.0, 4.0]


def test_does_not_wait_for_longer_than_the_deadline_leaves() -> None:
    """A pause that leads beyond the deadline is not begun, and the error tells how long it would have been."""
    flaky = Flaky(1)
    with skipping() as clock, pytest.raises(GaveUp) as caught:
        retry(flaky, retry_on=lambda _: 60.0, deadline=Deadline(10))
    assert (clock.slept, flaky.calls, caught.value.asked) == ([], 1, 60.0)


def test_a_real_answer_is_not_repeated() -> None:
    """What repeating cannot change is raised as it is, at once."""

    def refused() -> None:
        raise PermissionError("no")

    with skipping() as clock, pytest.raises(PermissionError, match="no"):
        retry(refused, retry_on=passing, deadline=Deadline(10))
    assert clock.slept == []


def test_an_inner_deadline_never_outlasts_the_outer_one() -> None:
    """A deadline within another one is bounded by it."""
    outer = Deadline(2)
    assert outer.within(10).seconds == pytest.approx(2, abs=0.1)
    assert outer.within(1).seconds == 1
    assert Deadline(0).passed


def test_code_without_a_timeout_is_left_behind() -> None:
    """A call that does not return in time is not waited for."""
    release = threading.Event()
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        bounded(release.wait, Deadline(0.05))
    release.set()
    assert time.monotonic() - began < 5


def test_a_bounded_call_returns_and_raises_as_it_is() -> None:
    """What the call returns or raises comes through."""
    assert bounded(lambda: 7, Deadline(5)) == 7
    with pytest.raises(ZeroDivisionError):
        bounded(lambda: 1 // 0, Deadline(5))


def test_pauses_take_time_outside_tests() -> None:
    """After `skipping` ended, the machine's clock is back."""
    with skipping():
        pass
    began = time.monotonic()
    retry(Flaky(1), retry_on=lambda _: 0.0, deadline=Deadline(5))
    assert time.monotonic() - began >= 0.2


def test_default_deadlines() -> None:
    """Ten seconds for a request, a minute for a snapshot."""
    assert (Deadlines().request, Deadlines().snapshot) == (10.0, 60.0)


def test_until_asks_until_there_is_an_answer() -> None:
    """The first answer that is not None ends the waiting, also one that counts as false."""
    answers = iter([None, None, 0])
    with skipping() as clock:
        assert until(lambda: next(answers), every=0.5, deadline=Deadline(10)) == 0
    assert clock.slept == [0.5, 0.5]


def test_until_looks_once_more_when_the_deadline_has_come() -> None:
    """What happened during the last pause is not missed, and a deadline of nothing still asks once."""
    looks: list[int] = []

    def look() -> str | None:
        looks.append(1)
        return None

    with skipping():
        assert until(look, every=4, deadline=Deadline(10)) is None
        assert len(looks) == 4
        assert until(lambda: "there", every=1, deadline=Deadline(0)) == "there"


def test_repeating_goes_on_until_it_is_stopped() -> None:
    """It works again and again in the background, and not any more after `stop`."""
    times: list[float] = []

    def note() -> bool:
        times.append(time.monotonic())
        return True

    repeating = Repeating(note, every=0.01)
    assert until(lambda: len(times) >= 3 or None, every=0.01, deadline=Deadline(5))
    repeating.stop(patience=1)
    before = len(times)
    time.sleep(0.05)
    assert len(times) == before


def test_repeating_ends_by_itself() -> None:
    """Work that says False is not begun again."""
    times: list[int] = []

    def once() -> bool:
        times.append(1)
        return False

    Repeating(once, every=0.01)
    time.sleep(0.1)
    assert times == [1]
