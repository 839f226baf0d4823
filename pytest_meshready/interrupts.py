"""SIGTERM and SIGHUP as Ctrl-C: what ends a run from outside must not end it without its clean-up.

CI systems send SIGTERM, a closed terminal sends SIGHUP; by default both end Python on the spot (style.md 3.2). Nothing
survives SIGKILL: for that there are deadlines in the cluster and ``--mesh-sweep``.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import NoReturn


class Interrupts:
    """While installed, these signals raise KeyboardInterrupt in the main thread.

    Handlers of others are respected: a signal that is ignored (``nohup``) or handled already is left alone.
    """

    SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))

    def __init__(self) -> None:
        self._installed: list[signal.Signals] = []

    def install(self) -> None:
        """Begin; in the main thread, elsewhere it does nothing."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in self.SIGNALS:
            if signal.getsignal(number) is signal.SIG_DFL:
                signal.signal(number, _interrupt)
                self._installed.append(number)

    def restore(self) -> None:
        """Leave the signals as they were."""
        while self._installed:
            number = self._installed.pop()
            if signal.getsignal(number) is _interrupt:
                signal.signal(number, signal.SIG_DFL)


def _interrupt(number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt(signal.Signals(number).name)
