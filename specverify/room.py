"""Whether what is asked for fits into the memory that there is, said before it is taken."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from specverify.errors import InputError


def check(what: str, size: int, bytes_: int, remedy: str, jobs: int) -> None:
    """Raise InputError unless something fits, in each of some processes.

    Args:
        what: the option.
        size: what was asked for with it.
        bytes_: that this takes in a process, about.
        remedy: what to choose instead.
        jobs: processes side by side.
    """
    free = available()
    if bytes_ > free:
        raise InputError(
            f"{what} = {size:,} takes about {_gigabytes(bytes_)} of memory, and {_gigabytes(free)} are free; "
            f"choose {remedy}"
        )
    if bytes_ * jobs > free:
        raise InputError(
            f"{what} = {size:,} takes about {_gigabytes(bytes_)} of memory in each of {jobs} processes, and "
            f"{_gigabytes(free)} are free; choose {remedy} or fewer processes (--jobs {max(1, free // bytes_)})"
        )


def available() -> int:
    """Bytes of memory that are free: what the system says, or all there is, or a control group's limit if less."""
    free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 1 << 40
    with contextlib.suppress(OSError, StopIteration, ValueError):
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = 1024 * next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    with contextlib.suppress(OSError, ValueError):  # "max" is no number
        free = min(free, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return free


def _gigabytes(count: int) -> str:
    return f"{count / 2**30:,.1f} GiB"
