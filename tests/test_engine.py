"""Engines: loky; what is said where Dask cannot be used. That records are those of one process: see tests/faults."""

import os
import sys
import threading
import time
from concurrent.futures import BrokenExecutor
from pathlib import Path

import pytest

from specverify import cli_study, engine
from specverify.cli_study import Engine
from specverify.errors import InputError
from specverify.pool import share_out


def process(_):
    return os.getpid()


def die(signal):
    os.kill(os.getpid(), signal)


def runs(pid):
    return Path(f"/proc/{pid}").exists()


def _begin(*arguments):
    with cli_study.workers(*arguments) as workers:
        return workers


def test_processes_are_counted_and_have_no_scheduler():
    assert _begin(Engine.processes, None, 3) == 3
    with pytest.raises(InputError, match="--scheduler tcp://a:1 is Dask's; give --engine dask too"):
        _begin(Engine.processes, "tcp://a:1", None)


def test_loky_has_processes_of_its_own_and_leaves_none():
    with cli_study.workers(Engine.loky, None, 2) as workers:
        found = set(share_out(process, range(6), workers))
    assert os.getpid() not in found
    assert 1 <= len(found) <= 2
    until = time.monotonic() + 30
    while any(runs(one) for one in found) and time.monotonic() < until:
        time.sleep(0.05)
    assert not any(runs(one) for one in found)


def threads(number):
    time.sleep(0.3)  # one that cannot wait for its parent has ended by then
    return [thread.name for thread in threading.enumerate() if "_end_with_parent" in thread.name]


def test_a_worker_of_loky_looks_out_for_the_end_of_its_parent():
    with cli_study.workers(Engine.loky, None, 1) as workers:
        assert [len(found) for found in share_out(threads, range(2), workers)] == [1, 1]


def test_a_worker_of_loky_that_is_killed_breaks_the_pool():
    with cli_study.workers(Engine.loky, None, 1) as workers, pytest.raises(BrokenExecutor):
        list(share_out(die, [9], workers))


def test_without_dask_what_to_install_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(InputError, match=r"Dask is not installed; python -m pip install 'specverify\[dask\]'"):
        _begin(Engine.dask, None, 2)


def test_a_scheduler_has_workers_of_its_own():
    pytest.importorskip("distributed")
    with pytest.raises(InputError, match="--jobs 2 is for processes of this machine; tcp://a:1 has workers of its own"):
        _begin(Engine.dask, "tcp://a:1", 2)


def test_a_scheduler_that_does_not_answer_is_named(monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr(engine, "PATIENCE", 0.5)
    with pytest.raises(InputError, match=r"no worker at tcp://127.0.0.1:1 .*; start `dask scheduler` and"):
        _begin(Engine.dask, "tcp://127.0.0.1:1", None)
