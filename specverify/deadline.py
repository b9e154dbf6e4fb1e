"""Time limits in seconds of the processor, so that a busy machine changes no verdict."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterator
from types import FrameType

WAITING = 10.0
"""A subject that waits (for a device, a server) instead of computing may take so many times its limit by the clock."""


class Deadline:
    """A moment that this process reaches after `seconds` of computing, or after `WAITING` times as long by the clock.

    Args:
        seconds: of processor time, of all threads of this process together; from now on.
    """

    def __init__(self, seconds: float) -> None:
        self._processor = time.process_time() + seconds
        self._clock = time.monotonic() + WAITING * seconds

    @property
    def left(self) -> float:
        """Seconds of processor time that are left; 0 once it is over."""
        waited = (self._clock - time.monotonic()) / WAITING
        return max(0.0, min(self._processor - time.process_time(), waited))

    @property
    def over(self) -> bool:
        """Whether it has passed."""
        return self.left <= 0


class Late(BaseException):
    """The time is up. No Exception: what a judgement catches of its subjects must not catch this."""


@contextlib.contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raise Late in the main thread after so many seconds of the processor, or of waiting for `WAITING` times as long.

    Without a timer of the system, whoever works keeps the time.
    """
    if not hasattr(signal, "setitimer"):
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise Late

    timers = ((signal.ITIMER_PROF, signal.SIGPROF, seconds), (signal.ITIMER_REAL, signal.SIGALRM, WAITING * seconds))
    before = [signal.signal(number, stop) for _, number, _ in timers]
    for timer, _, after in timers:
        signal.setitimer(timer, after)
    try:
        yield
    finally:
        for (timer, number, _), handler in zip(timers, before, strict=True):
            signal.setitimer(timer, 0)
            signal.signal(number, handler)
