"""Deadlines and retries: the only module that imports tenacity, and the only one that sleeps.

Nothing in the project waits without a bound. A `Deadline` is the bound, started once and handed down; `retry` repeats a
call while its failures are worth repeating and the deadline has not passed; what was seen last is always in the error.
"""

from __future__ import annotations

import functools
import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NoReturn, TypeVar

_T = TypeVar("_T")

#: Seconds before the first repetition where the failure itself does not say how long to wait; doubled every time.
FIRST_PAUSE = 0.2

#: The longest pause between two tries, in seconds, where the failure itself does not ask for a longer one.
LONGEST_PAUSE = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadlines:
    """The bounds of a run, in seconds."""

    request: float = 10.0
    """one request to the API server (one page of a list) with all its repetitions and pauses"""
    snapshot: float = 60.0
    """everything that is read for one snapshot; what has not been read by then is not verified. Half of it is for logging in"""


class Clock:
    """Time as this module sees it: the machine's."""

    def now(self) -> float:
        """Seconds that never run backwards."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Let this time pass."""
        time.sleep(seconds)


class SkippingClock(Clock):
    """A clock for tests: time passes by itself, but a pause takes none; `slept` remembers the pauses."""

    def __init__(self) -> None:
        self.slept: list[float] = []
        self._skipped = 0.0
        self._lock = threading.Lock()

    def now(self) -> float:
        """The machine's clock and all the pauses that were skipped."""
        return super().now() + self._skipped

    def sleep(self, seconds: float) -> None:
        """Move the clock on instead of waiting."""
        with self._lock:
            self.slept.append(seconds)
            self._skipped += seconds


_clock = Clock()


@contextmanager
def skipping() -> Iterator[SkippingClock]:
    """For tests: within this block no pause of this module takes time."""
    global _clock  # noqa: PLW0603 - one switch for the whole process is the purpose
    before, clock = _clock, SkippingClock()
    _clock = clock
    try:
        yield clock
    finally:
        _clock = before


class Deadline:
    """A moment after which nothing is waited for any more.

    Example:
        >>> deadline = Deadline(10.0)
        >>> deadline.passed
        False
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = _clock.now() + seconds

    @property
    def left(self) -> float:
        """Seconds until then, never negative."""
        return max(0.0, self._end - _clock.now())

    @property
    def passed(self) -> bool:
        """Whether there is no time left."""
        return self.left <= 0

    def within(self, seconds: float) -> Deadline:
        """A deadline in so many seconds, but not after this one; it remembers the shorter bound as its `seconds`."""
        return Deadline(min(seconds, self.left))


class GaveUp(Exception):  # noqa: N818 - it reads as what happened
    """The deadline left no room for another try; ``last`` is what the last try met.

    ``asked`` is the pause that the failure itself asked for, where that pause was the reason to stop.
    """

    def __init__(self, *, seconds: float, tries: int, last: Exception, asked: float | None = None) -> None:
        super().__init__(f"gave up after {tries} {'try' if tries == 1 else 'tries'} in {seconds:g} s; last: {last}")
        self.seconds = seconds
        self.tries = tries
        self.last = last
        self.asked = asked


def retry(call: Callable[[], _T], *, retry_on: Callable[[Exception], float | None], deadline: Deadline) -> _T:
    """What ``call`` returns, repeated while it fails in a way that may pass.

    Args:
        call: the thing to do; it looks at the same deadline for its own time-outs.
        retry_on: for a failure, how many seconds to wait at least before the next try (0: the usual pause), or None where
            repeating is pointless.
        deadline: no try begins after it, and no pause is begun that would end after it.

    Raises:
        GaveUp: where the deadline left no room for another try; it carries the last failure.
        Exception: whatever ``call`` raised, where ``retry_on`` says None.
    """
    import tenacity

    clock = _clock

    def failure(state: tenacity.RetryCallState) -> Exception:
        found = state.outcome.exception() if state.outcome else None
        assert isinstance(found, Exception)
        return found

    def pause(state: tenacity.RetryCallState) -> float:
        usual: float = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** (state.attempt_number - 1))
        return max(retry_on(failure(state)) or 0.0, usual)

    def give_up(state: tenacity.RetryCallState) -> _T:
        last = failure(state)
        raise GaveUp(seconds=deadline.seconds, tries=state.attempt_number, last=last, asked=retry_on(last) or None) from last

    return tenacity.Retrying(
        sleep=clock.sleep,
        wait=pause,
        stop=lambda state: state.upcoming_sleep >= deadline.left,
        retry=tenacity.retry_if_exception(lambda error: isinstance(error, Exception) and retry_on(error) is not None),
        retry_error_callback=give_up,
    )(call)


def until(look: Callable[[], _T | None], *, every: float, deadline: Deadline) -> _T | None:
    """What ``look`` returns as soon as that is not None, asked again and again; None where the deadline passed first.

    Args:
        look: the question; it is asked at least once, and for the last time when the deadline has come.
        every: seconds between two questions.
        deadline: the bound.

    Raises:
        Exception: whatever ``look`` raised.
    """
    while True:
        last = deadline.passed
        found = look()
        if found is not None or last:
            return found
        _clock.sleep(min(every, max(deadline.left, 0.001)))


class Repeating:
    """Does something every so many seconds in a daemon thread, until it is stopped or says that it is over.

    Args:
        work: what to do; False ends it. It must not raise.
        every: seconds between two times; the first is after one of these pauses.
    """

    def __init__(self, work: Callable[[], bool], *, every: float) -> None:
        self._work = work
        self._every = every
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="meshready-repeating", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stopped.wait(self._every):
            if not self._work():
                return

    def stop(self, *, patience: float) -> None:
        """Begin no further time, and wait for one that is under way, but not longer than ``patience`` seconds."""
        self._stopped.set()
        self._thread.join(patience)


def bounded(call: Callable[[], _T], deadline: Deadline) -> _T:
    """What ``call`` returns, if it returns before the deadline; for code of others that has no time-out of its own.

    It runs in a daemon thread, which is left alone where it does not end in time: it cannot hold up the end of the process.

    Raises:
        TimeoutError: where the deadline passed first.
        Exception: whatever ``call`` raised.
    """
    outcome: queue.SimpleQueue[Callable[[], _T]] = queue.SimpleQueue()

    def run() -> None:
        try:
            value = call()
        except Exception as error:  # noqa: BLE001 - it is raised again where it is waited for
            outcome.put(functools.partial(_raise, error))
        else:
            outcome.put(lambda: value)

    threading.Thread(target=run, name="meshready-bounded", daemon=True).start()
    try:
        end = outcome.get(timeout=deadline.left)
    except queue.Empty:
        raise TimeoutError(f"not done after {deadline.seconds:g} s") from None
    return end()


def _raise(error: Exception) -> NoReturn:
    raise error
