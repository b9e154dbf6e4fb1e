"""Time limits in seconds of the processor, so that a busy machine changes no verdict."""

from __future__ import annotations

import time

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
