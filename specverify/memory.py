"""What a process does with memory that it no longer uses."""

from __future__ import annotations

import ctypes

_TRIM, _PAD, _MAP = -1, -2, -3
"""glibc's numbers of M_TRIM_THRESHOLD, M_TOP_PAD and M_MMAP_THRESHOLD, see mallopt(3)."""
LARGEST, KEPT, AHEAD = 32 << 20, 1 << 30, 64 << 20
"""Bytes: of what is taken from the system one by one, glibc's limit; of free memory that is kept; of what is taken at
once."""


def keep_freed() -> None:
    """Keep up to a gigabyte that was freed, rather than give it back and have the system clear it again.

    Tensors of a batch of worlds come and go by the thousand; clearing their pages took a fifth of the time of
    exact prices of relaxed rules.
    Where the C library is another than glibc nothing changes.
    """
    try:
        tune = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    for what, size in ((_MAP, LARGEST), (_TRIM, KEPT), (_PAD, AHEAD)):
        tune(what, size)
