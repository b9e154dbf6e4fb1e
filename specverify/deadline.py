"""Time limits in seconds of the processor, so that a busy machine changes no verdict."""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar, cast

Value = TypeVar("Value")

WAITING = 10.0
"""A subject that waits (for a device, a server) instead of computing may take so many times its limit by the clock."""
LIMIT = 3600.0
"""Seconds that a cell of a study may take unless told otherwise: many times what the longest take on a slow machine."""
_ASK = 0.01
"""Seconds by the clock between two questions for the processor's time: some systems take long to answer."""
_LOOK, _GRACE = 0.2, 2.0
"""Seconds between two looks at what a call has used, and until a late one is left behind."""


class Deadline:
    """A moment that this process reaches after `seconds` of computing, or after `WAITING` times as long by the clock.

    Args:
        seconds: of processor time, of all threads of this process together; from now on.
    """

    def __init__(self, seconds: float) -> None:
        self._processor = time.process_time() + seconds
        self._clock = time.monotonic() + WAITING * seconds
        self._asked, self._found = -1.0, seconds

    @property
    def left(self) -> float:
        """Seconds of processor time that are left; 0 once it is over."""
        now = time.monotonic()
        if now >= self._asked + _ASK:
            self._asked, self._found = now, self._processor - time.process_time()
        return max(0.0, min(self._found, (self._clock - now) / WAITING))

    @property
    def over(self) -> bool:
        """Whether it has passed."""
        return self.left <= 0


class Late(BaseException):
    """The time is up. No Exception: what a judgement catches of its subjects must not catch this."""


def within(seconds: float, call: Callable[..., Value], *arguments: Any) -> Value:
    """What a call returns or raises, if it does so before a Deadline of so many seconds.

    It runs in a thread of its own. A late one is stopped at its next step in Python; one that waits outside of Python,
    as a sleep or a device does, is left behind, and ends with the process.

    Raises:
        Late: it took longer.
    """
    outcome: list[tuple[Value | None, BaseException | None]] = []

    def carry_out() -> None:
        try:
            outcome.append((call(*arguments), None))
        except BaseException as error:
            outcome.append((None, error))

    thread, deadline = threading.Thread(target=carry_out, daemon=True), Deadline(seconds)
    thread.start()
    try:
        while thread.is_alive() and not deadline.over:
            thread.join(_LOOK)  # returns at once when it ends
    finally:
        stopped = thread.is_alive()
        if stopped:
            late = ctypes.py_object(Late)
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), late)
            thread.join(_GRACE)
    if stopped:
        raise Late
    value, error = outcome[0]
    if error is not None:
        raise error
    return cast("Value", value)
