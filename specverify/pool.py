"""Long work shared out over processes: results as they come, a bar on a terminal, and Ctrl-C is heard at once."""

from __future__ import annotations

import atexit
import concurrent.futures
import contextlib
import gc
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from specverify.errors import InputError, number_of
from specverify.memory import keep_freed

Unit = TypeVar("Unit")
Result = TypeVar("Result")
PATIENCE = 10.0
"""Seconds that workers without work have to end."""
_TURN = threading.Lock()
"""One unit at a time: workers of others may have several threads, and a unit counts the seconds of its process."""


class Executor(Protocol):
    """Where work can be submitted: any of `concurrent.futures`, or one that is like them (`Client.get_executor()`)."""

    def submit(self, fn: Callable[..., Any], /, *args: Any) -> concurrent.futures.Future[Any]: ...  # noqa: D102


def checked(jobs: int | Executor | None) -> int | Executor:
    """What was asked for, or a process per core; InputError unless there is at least one, and no swarm of them."""
    cores = os.cpu_count() or 1
    jobs = cores if jobs is None else jobs
    if isinstance(jobs, int) and jobs < 1:
        raise InputError(f"cannot work with {jobs} jobs; use at least 1")
    if isinstance(jobs, int) and jobs > (most := max(64, 4 * cores)):
        raise InputError(f"cannot work with {jobs} jobs: this machine has {cores} cores; use at most {most}")
    return jobs


def width(jobs: int | Executor) -> int:
    """How many cells are worked on at once: of an executor that does not say, as many as there are cores here."""
    return jobs if isinstance(jobs, int) else int(getattr(jobs, "_max_workers", None) or os.cpu_count() or 1)


def share_out(
    carry_out: Callable[[Unit], Result],
    units: Sequence[Unit],
    jobs: int | Executor,
    console: Console | None = None,
    *,
    name: Callable[[Result], str] = str,
    done: int = 0,
    what: str = "unit",
    where: Path | None = None,
    devices: int | None = None,
    on_device: Callable[[Unit], bool] = lambda unit: False,
) -> Generator[Result]:
    """Results in the order in which they are finished, from worker processes of one thread each; one job is done here.

    Whatever the workers draw must derive from the unit alone: then no result depends on how the work was shared out.

    Args:
        carry_out: a function that can be pickled, as units and results can.
        units: what there is to do; taken up in this order.
        jobs: processes, at least 1; or what the units are submitted to, wherever it has them worked out.
        console: where progress is shown: a bar on a terminal, one line at the start elsewhere, nothing if None.

    Other args:
        name: what the bar calls a result.
        done: units that were finished before, which the bar counts.
        what: what a unit is called, in the one line that says how many there are where there is no bar.
        where: the file that results go to, for that line.
        devices: how many there are; each takes one unit at a time, while others that need none go on beside.
        on_device: whether a unit needs one: in its process, that is the current CUDA device.

    Raises:
        InputError: for fewer than one job.
    """
    checked(jobs)
    if not units:
        return
    columns = (TextColumn("{task.description:<36.36}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    visible = console is not None and console.is_terminal
    workers = min(width(jobs), len(units))
    if console is not None and not visible:
        console.print(Text(_begins(len(units), what, workers, done, where)), soft_wrap=True)
    if not isinstance(jobs, int):
        found = _submitted(carry_out, units, jobs, getattr(jobs, "devices", devices), on_device)
    elif workers == 1:
        found = (_alone(carry_out, unit) for unit in units)
    else:
        found = _elsewhere(carry_out, units, workers, devices, on_device)
    with (
        contextlib.closing(found),
        Progress(*columns, console=console, disable=not visible, transient=True) as progress,
    ):
        bar = progress.add_task("starting", total=done + len(units), completed=done)
        for result in found:
            progress.update(bar, advance=1, description=name(result))
            yield result


def _begins(count: int, what: str, workers: int, done: int, where: Path | None) -> str:
    """What is begun, in one line: a log would say nothing before the end otherwise."""
    before = f" ({done:,} finished before)" if done else ""
    goes = f"; results go to {where}" if where is not None else ""
    return f"{number_of(count, what)}{before}, {number_of(workers, 'process')}{goes}"


def _alone(carry_out: Callable[[Unit], Result], unit: Unit) -> Result:
    """On one thread, wherever it is; a process of its own takes seconds to start."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return carry_out(unit)
    finally:
        torch.set_num_threads(threads)


def _in_turn(carry_out: Callable[[Unit], Result], unit: Unit, device: int | None = None) -> Result:
    """The same in a worker, which may be anybody's and see one device alone, or none."""
    with _TURN:
        if device is not None and (seen := torch.cuda.device_count()):
            torch.cuda.set_device(device % seen)
        return _alone(carry_out, unit)


def _submitted(
    carry_out: Callable[[Unit], Result],
    units: Sequence[Unit],
    executor: Executor,
    devices: int | None,
    on_device: Callable[[Unit], bool],
) -> Generator[Result]:
    """As they are finished; none is held on to, and none is begun after the first exception.

    Some wait with the executor, so that no worker does; but where there are devices no more is submitted than is worked
    on, so that one that is free is taken at once.
    """
    waiting, running = deque(units), dict[concurrent.futures.Future[Result], int | None]()
    free, most = list(range(devices or 0)), width(executor) * (4 if devices is None else 1)

    def begin() -> None:
        while waiting and len(running) < most:
            ready = (k for k, unit in enumerate(waiting) if free or devices is None or not on_device(unit))
            if (place := next(ready, None)) is None:
                return
            unit = waiting[place]
            del waiting[place]
            device = free.pop(0) if devices is not None and on_device(unit) else None
            running[executor.submit(_in_turn, carry_out, unit, device)] = device

    try:
        begin()
        while running:
            for future in concurrent.futures.wait(set(running), None, concurrent.futures.FIRST_COMPLETED).done:
                if (device := running.pop(future)) is not None:
                    free.append(device)
                begin()
                yield future.result()
    finally:
        for future in running:
            future.cancel()


def _elsewhere(
    carry_out: Callable[[Unit], Result],
    units: Sequence[Unit],
    workers: int,
    devices: int | None,
    on_device: Callable[[Unit], bool],
) -> Generator[Result]:
    """In worker processes, which end with the first exception."""
    pool = concurrent.futures.ProcessPoolExecutor(
        workers, multiprocessing.get_context("spawn"), initializer=prepare_worker
    )
    try:
        with _unheard():
            for _ in range(workers):
                pool.submit(int)  # which starts one process each
        yield from _submitted(carry_out, units, pool, devices, on_device)
    except BaseException:
        for process in list((pool._processes or {}).values()):
            process.terminate()
        raise
    finally:
        _end(pool)


def _end(pool: concurrent.futures.ProcessPoolExecutor) -> None:
    """End the workers, whatever became of one of them.

    One that is killed while it waits for work leaves the queue locked, and no other hears then that there is none; as
    long as there is work the pool sees that by itself.
    """
    processes = list((pool._processes or {}).values())
    pool.shutdown(wait=False, cancel_futures=True)
    for process in (slow := _running(processes)):
        process.terminate()
    _running(slow)


def _running(processes: Sequence[Any]) -> Sequence[Any]:
    """Those that did not end in time."""
    running, end = processes, time.monotonic() + PATIENCE
    while running and (left := end - time.monotonic()) > 0:
        over = multiprocessing.connection.wait([process.sentinel for process in running], left)
        running = [process for process in running if process.sentinel not in over]
    return running


@contextlib.contextmanager
def _unheard() -> Iterator[None]:
    """Processes that are started here never hear Ctrl-C, not even while they import; this one does afterwards."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def prepare_worker() -> None:
    """Workers leave Ctrl-C to the parent, end with it however it ends, take one core each, and keep freed memory."""
    keep_freed()
    atexit.register(gc.freeze)  # see `cli.command`
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)


def _end_with_parent() -> None:
    parent, above = multiprocessing.parent_process(), os.getppid()
    # loky does not say which process it is, or names one that cannot be waited for
    if parent is None or parent.sentinel is None:
        while os.getppid() == above:
            time.sleep(0.5)
    else:
        parent.join()
    os._exit(1)
