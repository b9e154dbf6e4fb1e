"""What work is done with, for the records of it: releases, processors, devices, and the time."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version

import torch

from specverify import __version__
from specverify.errors import InputError


def check_device(device: str) -> None:
    """Raise InputError unless tensors can be made there."""
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"device {device!r} cannot be used ({reason}); choose cpu or cuda") from None


def devices(device: str) -> int | None:
    """How many there are of a kind that cells have to share; None of the CPU, which they share anyway."""
    return torch.cuda.device_count() if torch.device(device).type == "cuda" else None


def accelerator(device: str) -> str | None:
    """The name of a device that is a GPU."""
    return torch.cuda.get_device_name() if torch.device(device).type == "cuda" else None


def clock(device: torch.device) -> Callable[[], float]:
    """Seconds: on a CPU of the processor, as a worker has one thread, whatever else runs; else of the wall.

    A GPU is waited for first: what was asked of it before counts before.
    """
    if device.type == "cpu":
        return time.process_time

    def behind() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter()

    return behind


def software(*others: str) -> dict[str, str]:
    """The releases of specverify, Python, torch, numpy, scipy, and of others that are installed."""
    own = {"python": platform.python_version(), "specverify": __version__}  # which need not be installed
    found = own | {name: version(name) for name in ("torch", "numpy", "scipy")}
    for name in others:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def now() -> str:
    """The time, to the second, in UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")
