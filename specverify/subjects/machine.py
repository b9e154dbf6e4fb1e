"""What this machine has."""

from __future__ import annotations

import os
from pathlib import Path


def memory() -> int:
    """MiB of memory that this process and its children may use at most: the machine's, or their control group's."""
    found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")] if hasattr(os, "sysconf") else [2**34]
    groups = [line.strip().split(":", 2)[2] for line in _text(Path("/proc/self/cgroup")).splitlines()]
    for group in groups:
        for parent in (Path(group), *Path(group).parents):
            for top, name in (("/sys/fs/cgroup", "memory.max"), ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")):
                text = _text(Path(f"{top}{parent}") / name).strip()
                found += [int(text)] if text.isdigit() else []
    return max(2, min(found) // 2**20)


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
