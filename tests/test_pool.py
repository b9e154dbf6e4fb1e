"""Shared work: results of every unit, and no worker outlives its parent."""

import concurrent.futures
import io
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from rich.console import Console

from specverify import pool
from specverify.errors import InputError
from specverify.pool import share_out

SLEEPERS = """
import multiprocessing, threading, time
from specverify.pool import share_out

def tell():
    while len(children := multiprocessing.active_children()) < 2:
        time.sleep(0.1)
    print(*(child.pid for child in children), flush=True)

if __name__ == "__main__":
    threading.Thread(target=tell).start()
    list(share_out(time.sleep, [600, 600], 2))
"""

STARTS = """
import multiprocessing, threading, time
from specverify.pool import share_out

def tell():
    while len(multiprocessing.active_children()) < 2:
        time.sleep(0.01)
    print("starting", flush=True)

if __name__ == "__main__":
    threading.Thread(target=tell).start()
    try:
        list(share_out(time.sleep, [60] * 4, 2))
        print("not interrupted")
    except KeyboardInterrupt:
        print("interrupted")
"""


def runs(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.thinned(2)
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGKILL])
def test_workers_end_with_their_parent(by, tmp_path):
    script = tmp_path / "sleepers.py"
    script.write_text(SLEEPERS)
    parent = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    workers = parent.stdout.readline().split()
    assert len(workers) == 2
    assert all(map(runs, workers))
    parent.send_signal(by)
    parent.wait(30)
    parent.stdout.close()
    until = time.monotonic() + 60
    while any(map(runs, workers)) and time.monotonic() < until:
        time.sleep(0.1)
    assert not any(map(runs, workers))


def test_every_unit_has_a_result():
    assert sorted(share_out(abs, [-3, 2, -1], 2)) == [1, 2, 3]
    assert list(share_out(abs, [], 2)) == []


def test_work_for_one_process_is_done_in_this_one_on_one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        found = list(share_out(lambda unit: (unit, os.getpid(), torch.get_num_threads()), [3, 1], 1))
        assert found == [(3, os.getpid(), 1), (1, os.getpid(), 1)]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)


def test_no_jobs_do_nothing():
    with pytest.raises(InputError, match="cannot work with 0 jobs; use at least 1"):
        next(share_out(abs, [1], 0))


@pytest.mark.parametrize(
    ("terminal", "said"),
    [(False, "3 cells (2 finished before), 1 process; results go to out/record.json\n"), (True, "")],
)
def test_without_a_bar_the_work_is_announced_in_one_line(terminal, said):
    stream = io.StringIO()
    console = Console(file=stream, width=30, force_terminal=terminal)
    where = Path("out") / "record.json"
    assert list(share_out(str, [1, 2, 3], 1, console, done=2, what="cell", where=where)) == ["1", "2", "3"]
    assert ("finished before" in stream.getvalue()) is bool(said)
    assert terminal or stream.getvalue() == said


class Slow:
    """An executor that ends the oldest unit when it is waited for, and writes down what was submitted at once."""

    _max_workers = 4

    def __init__(self, monkeypatch):
        self.units, self.seen = {}, []
        monkeypatch.setattr(concurrent.futures, "wait", self.wait)

    def submit(self, fn, *arguments):
        _, unit, device = arguments
        future = concurrent.futures.Future()
        self.units[future] = (unit, device)
        self.seen.append(list(self.units.values()))
        return future

    def wait(self, running, *_):
        future = next(iter(self.units))
        assert future in running
        future.set_result(self.units.pop(future)[0])
        return SimpleNamespace(done={future})


@pytest.mark.parametrize("devices", [1, 2])
def test_each_device_takes_one_unit_at_a_time_and_others_go_on_beside(devices, monkeypatch):
    slow, units = Slow(monkeypatch), [f"gpu {n}" for n in range(6)] + [f"cpu {n}" for n in range(6)]
    found = list(share_out(str, units, slow, devices=devices, on_device=lambda unit: unit.startswith("gpu")))
    assert sorted(found) == sorted(units)
    for at_once in slow.seen:
        used = [device for unit, device in at_once if unit.startswith("gpu")]
        assert len(used) == len(set(used)) <= devices
        assert set(used) <= set(range(devices))
        assert {device for unit, device in at_once if unit.startswith("cpu")} <= {None}
        assert len(at_once) <= 4
    assert max(map(len, slow.seen)) == 4
    assert max(sum(unit.startswith("gpu") for unit, _ in at_once) for at_once in slow.seen) == devices


def test_without_devices_workers_have_more_to_do_than_they_do(monkeypatch):
    slow = Slow(monkeypatch)
    assert list(share_out(str, range(40), slow)) == list(range(40))
    assert max(map(len, slow.seen)) == 16


class Large:
    """A result of which one can tell whether it is still there."""


def test_results_are_not_held_on_to():
    seen = weakref.WeakSet()

    def make(unit):
        large = Large()
        seen.add(large)
        return large

    with concurrent.futures.ThreadPoolExecutor(1) as executor:
        results = share_out(make, range(50), executor, name=lambda large: "")
        alive = []
        for result in results:
            del result
            executor.submit(int).result()  # all 50 are made
            alive.append(len(seen))
    assert max(alive) <= 10  # what a worker has before it, however many there are
    assert alive[-1] <= 2


@pytest.mark.parametrize("delay", [0.15, 0.2])
def test_processes_never_hear_of_an_interruption_not_even_as_they_start(delay, tmp_path):
    """As Ctrl-C reaches all of a terminal's processes: while they import, they would say so, each with a traceback."""
    script = tmp_path / "script.py"
    script.write_text(STARTS)
    with subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as parent:
        assert parent.stdout.readline() == "starting\n"
        time.sleep(delay)  # they import
        os.killpg(parent.pid, signal.SIGINT)
        out, err = parent.communicate()
    assert out == "interrupted\n"
    assert err == ""
    assert parent.returncode == 0


def whose(unit):
    """The process that this runs in, once another one has a unit as well."""
    folder, seconds = unit
    (folder / str(os.getpid())).touch()
    while len(list(folder.iterdir())) < 2:
        time.sleep(0.01)
    time.sleep(seconds)
    return os.getpid()


@pytest.mark.thinned(1)
@pytest.mark.parametrize("which", [0, 1])
def test_the_end_is_reached_although_a_worker_is_killed_while_it_waits_for_work(which, tmp_path, monkeypatch):
    """The first to be idle holds the lock of the queue; stopped, it keeps it until the end is due, and then dies."""
    monkeypatch.setattr(pool, "PATIENCE", 3.0)
    killing = threading.Timer(1.0, lambda: os.kill(victim, signal.SIGKILL))
    found = share_out(whose, [(tmp_path, 0.0), (tmp_path, 1.0)], 2)
    both = [next(found), next(found)]
    victim = both[which]
    os.kill(victim, signal.SIGSTOP)
    killing.start()
    assert list(found) == []
    killing.join()
    assert len(set(both)) == 2
    until = time.monotonic() + 10
    while any(map(runs, both)) and time.monotonic() < until:
        time.sleep(0.01)
    assert not any(map(runs, both))
