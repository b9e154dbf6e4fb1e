"""What a process does with memory that it no longer uses."""

from __future__ import annotations

import ctypes
import gc

_TRIM, _PAD, _MAPPED, _ARENAS = -1, -2, -4, -8
"""glibc's numbers of M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX and M_ARENA_MAX, see mallopt(3)."""
OBJECTS = 5_000
"""Made and not yet gone, after which Python looks for those that hold each other in a circle; by itself after 700."""
KEPT, AHEAD = (1 << 31) - 1, 64 << 20
"""Bytes: of free memory that is kept; of what is taken at once."""


def keep_freed() -> None:
    """Keep up to two gigabytes that were freed, rather than give them back and have the system clear them again.

    Tensors come and go by the thousand, those of a batch of worlds as those of a window of laws. Clearing their pages
    took a fifth of the time of exact prices of relaxed rules, and nearly half of that of a hundred images of 4,375
    codes in windows of 64. glibc maps what is larger than 32 MiB by itself and unmaps it each time, if it may; and
    it gives each thread memory of its own, which it does not keep: cells run in threads, for their time limits.
    Where the C library is another nothing of this changes. And objects in circles are looked for less often, which is
    a sixth of the time that imports take.
    """
    gc.set_threshold(OBJECTS)
    try:
        tune = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    for what, value in ((_MAPPED, 0), (_TRIM, KEPT), (_PAD, AHEAD), (_ARENAS, 1)):
        tune(what, value)
