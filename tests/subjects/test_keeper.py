"""Nothing that a subject started outlives specverify, and no subject takes more than it may."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from specverify.report.judgement import text
from specverify.subjects import isolation, keeper
from specverify.subjects.isolation import judge_isolated
from specverify.verdict import Kind

FILE = Path(__file__).parent / "examples" / "unruly.py"


def judge(name, **arguments):
    return judge_isolated(f"{FILE}:{name}", "sampler", **{"seconds": 5, "limit": 60} | arguments)


def alive(pid):
    if not Path("/proc/self").exists():
        return pid in (keeper.processes() or {})
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):  # it ended before the file was opened, or while it was read
        return False


def until(happened, seconds=120):
    """Wait for something; long waits are for busy machines, and cost nothing on others."""
    deadline = time.monotonic() + seconds
    while not (found := happened()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return found


@pytest.mark.thinned(2)
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_whatever_ends_validate_ends_all_that_the_subject_started(tmp_path, how):
    note, place = tmp_path / "pids", tmp_path / "temporary"
    place.mkdir()
    command = [sys.executable, "-m", "specverify.cli", "validate", f"{FILE}:starts_others", "--level", "sampler"]
    environment = os.environ | {"SPECVERIFY_TEST_MARK": str(note), "TMPDIR": str(place), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [*command, "--out", str(tmp_path / "out")],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert until(note.exists), "the subject was not started"
        pids = list(map(int, note.read_text().split()))
        assert len(pids) == 4
        assert all(map(alive, pids))
        assert list(place.iterdir())
    finally:
        process.send_signal(how)
    process.wait(60)
    assert process.returncode == (130 if how == signal.SIGTERM else -how)
    assert until(lambda: not any(map(alive, pids))), [pid for pid in pids if alive(pid)]
    assert until(lambda: not list(place.iterdir())), list(place.iterdir())


def test_the_time_limit_is_of_the_processor_and_of_all_its_processes():
    judgement = judge("computes_for_ever", limit=3)
    assert judgement.verdict.kind is Kind.ERROR
    assert judgement.verdict.reason.startswith(
        "gave no answer within 3 s of processor time (--limit sets another), in "
    )
    assert judgement.reproduce.endswith("--level sampler --seed 0 --seconds 5 --limit 3")


def test_memory_is_limited_by_default(monkeypatch):
    monkeypatch.setattr(isolation, "machine_memory", lambda: 600)
    judgement = judge("fills_memory")
    assert judgement.verdict.kind is Kind.ERROR
    assert judgement.verdict.reason.startswith(
        "took more than 300 MiB of memory, half of what this machine has; --memory sets another limit, in fills_memory"
    )


def test_what_it_says_reaches_a_terminal_as_text_alone():
    judgement = judge("colours", memory=4000)
    shown = text(judgement)
    assert "[31mred [0m and a bell" in " ".join(shown.split())
    assert all(character.isprintable() or character == "\n" for character in shown)
    assert judgement.reproduce.endswith("--limit 60 --memory 4000")


def test_where_there_is_no_proc_ps_tells_who_is_below_whom():
    told = "  1 0 1000 1-02:03:04\n 20 1 300 00:01:30\n 30 20 40 0:05.50\n 31 7 5 00:00:00\n"
    known = keeper.parse_ps(told)
    assert known[1] == keeper.Process(0, 86400 + 7384, 1000 * 1024)
    assert known[30] == keeper.Process(20, 5.5, 40 * 1024)
    assert sorted(keeper.below(known, 1)) == [20, 30]
    assert keeper.below(known, 31) == []


def test_this_process_is_found_by_ps_as_by_proc(monkeypatch):
    by_proc = keeper.processes()
    monkeypatch.setattr(keeper, "_PROC", False)
    by_ps = keeper.processes()
    assert by_ps[os.getpid()].parent == by_proc[os.getpid()].parent == os.getppid()
    assert by_ps[os.getpid()].memory > 10 * 2**20
