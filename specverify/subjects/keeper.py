"""The process between specverify and a subject's: it ends whatever the subject started. See `isolation.py`.

    specverify  ->  keeper  ->  worker, which is the subject  ->  whatever that starts, also in sessions of their own

The keeper ends all that is below it, and removes the folder of the request, once its standard input is closed. That
happens however specverify ends: with its work done, by an exception, by SIGTERM or by SIGKILL. It also ends a subject
that takes more than it may.

On Linux the orphans of a subject become the keeper's own children, so that none is lost, and the worker ends with the
keeper. Elsewhere `ps` tells who is below whom: a process that left its session and has lost its parent is not found.

The standard library alone: this file is run as a program, before anything else could be imported.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WAITING = 10.0
"""How many times its limit in processor seconds a subject may take by the clock (as `deadline.WAITING`)."""
STARTUP = 180.0
"""Seconds by the clock that a fresh interpreter may take to import torch."""
POLL = 0.02
MORE = " (--limit sets another)"
_NOTHING = 0.05
"""Seconds of processor time below which a subject counts as having computed nothing."""
_CHILD = (  # the path is set first: the child must find specverify, and the subject, where specverify would
    "import json, sys; sys.path[:] = json.load(open(sys.argv[1] + '/request.json'))['path']; "
    "import gc; from specverify.memory import OBJECTS; gc.set_threshold(OBJECTS); "
    "from specverify.subjects import keeper; keeper.end_with_parent(int(sys.argv[2])); "
    "from specverify.subjects.worker import answer; answer(sys.argv[1])"
)
_SET_PDEATHSIG, _SET_CHILD_SUBREAPER = 1, 36
_KILL = getattr(signal, "SIGKILL", signal.SIGTERM)
_PROC = os.path.isdir("/proc/self/fd")


@dataclass(frozen=True)
class Process:
    """One process: its parent, its processor time (with that of its children that ended), its memory in bytes."""

    parent: int
    seconds: float
    memory: int


def keep(name: str) -> None:
    """Start the worker of a request, watch it, end it, and remove the folder once specverify has read the reply."""
    folder, above = Path(name), os.getppid()
    request = json.loads((folder / "request.json").read_text())
    _prctl(_SET_CHILD_SUBREAPER, 1)
    gone = threading.Event()
    for signal_name in ("SIGTERM", "SIGHUP", "SIGINT"):
        if hasattr(signal, signal_name):
            signal.signal(getattr(signal, signal_name), lambda *_: gone.set())
    command = [sys.executable, "-P", "-c", _CHILD, name, str(os.getpid())]
    worker = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    threading.Thread(target=_until_input_ends, args=(gone,), daemon=True).start()
    stopped = ""
    try:
        stopped = _watch(worker, folder, request, lambda: gone.is_set() or os.getppid() != above)
    finally:
        _end(worker)
        with contextlib.suppress(OSError):  # the subject may have removed the folder
            part = folder / "end.part"
            part.write_text(json.dumps({"code": worker.returncode, "stopped": stopped}))
            part.replace(folder / "end.json")
        while not gone.wait(0.5) and os.getppid() == above:
            pass
        shutil.rmtree(folder, ignore_errors=True)


def end_with_parent(parent: int) -> None:
    """Have this process end when its parent does, where the system can see to that."""
    _prctl(_SET_PDEATHSIG, _KILL)
    if os.getppid() != parent:
        os._exit(1)


def processes() -> dict[int, Process] | None:
    """Every process, by id; None where the system does not tell."""
    if _PROC:
        return _from_proc()
    try:
        asked = subprocess.Popen(["ps", "-A", "-o", "pid=,ppid=,rss=,time="], stdout=subprocess.PIPE, text=True)
    except OSError:
        return None
    told, _ = asked.communicate()
    return {pid: process for pid, process in parse_ps(told).items() if pid != asked.pid}


def parse_ps(told: str) -> dict[int, Process]:
    """What `ps -A -o pid=,ppid=,rss=,time=` prints; times are [days-][hours:]minutes:seconds, memory is in KiB."""
    found = {}
    for line in told.splitlines():
        pid, parent, memory, spent = line.split()
        days, _, clock = spent.rpartition("-")
        seconds = 0.0
        for part in clock.split(":"):
            seconds = 60 * seconds + float(part)
        found[int(pid)] = Process(int(parent), 86400 * int(days or 0) + seconds, 1024 * int(memory))
    return found


def _from_proc() -> dict[int, Process]:
    tick, page = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
    found = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                fields = file.read().rpartition(b")")[2].split()  # from the state on: a name may hold brackets
        except OSError:
            continue  # it has ended meanwhile
        spent = sum(map(int, fields[11:15])) / tick
        found[int(name)] = Process(int(fields[1]), spent, int(fields[21]) * page)
    return found


def below(known: Mapping[int, Process], top: int) -> list[int]:
    """The processes that `top` started, that those started, and so on."""
    children: dict[int, list[int]] = {}
    for pid, process in known.items():
        children.setdefault(process.parent, []).append(pid)
    found: list[int] = []
    todo = [top]
    while todo:
        found += (new := children.get(todo.pop(), []))
        todo += new
    return found


def _watch(worker: subprocess.Popen[bytes], folder: Path, request: Mapping[str, Any], gone: Callable[[], bool]) -> str:
    """Wait for the end of the worker; if it has to be ended, why."""
    started = time.monotonic()
    limits: _Limits | None = None
    looked, pause = 0.0, POLL
    while not _ended(worker):
        now = time.monotonic()
        if gone():
            return "interrupted"
        if limits is None and (folder / "stage.json").exists():
            limits = _Limits(request["limit"], request["memory"], request["share"])
        elif limits is None and now - started > STARTUP:
            return f"a fresh interpreter did not start within {STARTUP:g} s"
        if limits is not None and now - looked >= pause:
            looked = now
            if found := limits.exceeded():
                _ask_where(worker, folder)
                return found
            pause = max(POLL, 10 * (time.monotonic() - now))  # looking takes at most a tenth of a core
        time.sleep(POLL)
    return ""


class _Limits:
    """What a subject may take, counted from the moment at which this is made.

    Args:
        seconds: processor seconds of all its processes together.
        memory: MiB of all its processes together.
        share: how a message calls that limit.
    """

    def __init__(self, seconds: float, memory: int, share: str) -> None:
        self.seconds, self.memory, self.share = seconds, memory, share
        self.begun = self.moved = time.monotonic()
        self.before = self.last = 0.0
        self.base = 0
        self.before, self.base = self._taken()
        self.last = self.before

    def exceeded(self) -> str:
        """What it took too much of, as the end of a sentence; empty if nothing."""
        now = time.monotonic()
        spent, memory = self._taken()
        if memory - self.base > self.memory * 2**20:
            return f"took more than {self.memory:,} MiB of memory, {self.share}; --memory sets another limit"
        if spent - self.before > self.seconds:
            return f"gave no answer within {self.seconds:g} s of processor time{MORE}"
        if spent - self.last > _NOTHING:
            self.last, self.moved = spent, now
        if now - self.moved > self.seconds:
            return f"gave no answer within {self.seconds:g} s{MORE}"  # it waits, and does not compute
        if now - self.begun > WAITING * self.seconds:
            return f"gave no answer within {WAITING * self.seconds:g} s by the clock{MORE}"
        return ""

    def _taken(self) -> tuple[float, int]:
        """Processor seconds, those of processes that have ended too, and bytes of memory."""
        known = processes()
        if known is None:
            return 0.0, 0
        here = below(known, os.getpid())
        times = os.times()
        spent = times.children_user + times.children_system + sum(known[pid].seconds for pid in here)
        memory = sum(known[pid].memory for pid in here)
        # What processes share counts once: dearer to ask, so only where it matters.
        return spent, memory if memory - self.base <= self.memory * 2**20 else min(memory, _shared_once(here, memory))


def _shared_once(pids: Iterable[int], otherwise: int) -> int:
    if not _PROC:
        return otherwise
    total = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/smaps_rollup") as file:
                total += sum(1024 * int(line.split()[1]) for line in file if line.startswith("Pss:"))
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended meanwhile
        except OSError:
            return otherwise
    return total


def _ask_where(worker: subprocess.Popen[bytes], folder: Path) -> None:
    """Have the worker write down where it is; it has half a second."""
    if not hasattr(signal, "SIGXCPU"):
        return
    with contextlib.suppress(OSError):
        os.kill(worker.pid, signal.SIGXCPU)
        stack = folder / "stack.txt"
        for _ in range(25):
            size = stack.stat().st_size
            time.sleep(POLL)
            if size and stack.stat().st_size == size:
                return


def _ended(worker: subprocess.Popen[bytes]) -> bool:
    """Whether the worker has ended; orphans that ended are taken note of."""
    if os.name != "posix":
        return worker.poll() is not None
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            if pid == worker.pid:
                worker.returncode = os.waitstatus_to_exitcode(status)
    return worker.returncode is not None


def _end(worker: subprocess.Popen[bytes]) -> None:
    """End the worker and all that is below this process; what starts more meanwhile is ended with that."""
    for _ in range(500):
        ended = _ended(worker)
        left = set(below(processes() or {}, os.getpid())) | (set() if ended else {worker.pid})
        if hasattr(os, "killpg"):
            with contextlib.suppress(OSError):  # its process group: where the system tells nothing else, the only way
                os.killpg(worker.pid, _KILL)
        elif not ended:
            worker.kill()
        for pid in left:
            with contextlib.suppress(OSError):
                os.kill(pid, _KILL)
        if not left:
            return
        time.sleep(0.01)


def _until_input_ends(gone: threading.Event) -> None:
    while os.read(0, 4096):
        pass
    gone.set()


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


if __name__ == "__main__":
    keep(sys.argv[1])
