"""What happens to long work: kills, interruptions, a full disk, a bit that flips. Nothing is lost or counted twice.

Not part of the daily suite; `nox -s faults` runs it, in some minutes.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from specverify.plan import plan
from specverify.report import record as records

ROOT = Path(__file__).parents[2]
SOME = "[de]*/[bis]*/dense-2x8/w1*"
"""Cells of tenths of a second each: enumerated ones, and some that draw 200,000 sequences."""
VARIES = ("seconds", "tokens_per_second", "created", "finished", "hardware", "software", "checksum")
FULL = """
import os, sys
from specverify import cli, files

replace, left = os.replace, [{after}]

def full(source, target):
    left[0] -= 1
    if left[0] < 0:
        raise OSError(28, "No space left on device")
    replace(source, target)

files.os.replace = full
cli.main(sys.argv[1:])
"""
HANGS = """
import time
from dataclasses import replace
from specverify.kinds import exact as kind

exact = kind.KIND.carry_out

def hanging(cell, setting, result):
    if cell.decoder == "sjd":
        {how}
    return exact(cell, setting, result)

kind.KIND = replace(kind.KIND, carry_out=hanging)
"""

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")


def same(value):
    """A record as bytes, without what differs from one run to the next."""
    return json.dumps(without(value), sort_keys=True).encode()


def without(value):
    if isinstance(value, dict):
        return {name: without(item) for name, item in value.items() if name not in VARIES}
    return [without(item) for item in value] if isinstance(value, list) else value


def arguments(out, jobs=1, *more):
    return ["verify", "--only", SOME, "--out", str(out), "--jobs", str(jobs), *more]


def verify(out, jobs=1, *more, env=None):
    """A campaign by the command line."""
    command = [sys.executable, "-m", "specverify.cli", *arguments(out, jobs, *more)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=env)


def interrupted(out, jobs, after, *more):
    """A campaign that hears Ctrl-C once so many cells are finished."""
    hear = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from specverify import cli; "
    process = subprocess.Popen(
        [sys.executable, "-c", f"{hear}import sys; cli.main(sys.argv[1:])", *arguments(out, jobs, *more)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    until = time.monotonic() + 120
    while len(list((out / "cells").glob("*.json"))) < after and time.monotonic() < until:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors.count("\n")) == (130, 1), errors
    assert f"the partial record is {out / 'record.json'}; the same command continues" in errors


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The record of a campaign by one process that nothing happened to."""
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    done = verify(out)
    assert done.returncode == 0, done.stderr
    found = records.load(out)
    cells = [cell["id"] for cell in found["cells"]]
    assert cells == [cell.id for cell in plan("quick", SOME)]
    assert len(cells) >= 12
    assert sum(cell["run"] is not None for cell in found["cells"]) >= 2
    return found


def test_campaigns_that_are_killed_twenty_times_end_as_if_they_had_not_been(undisturbed, tmp_path, request):
    seed = request.config.getoption("--seed")
    script = [sys.executable, str(Path(__file__).with_name("kills.py")), str(tmp_path), SOME, str(seed), "16", "4"]
    done = subprocess.run(script, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    kills = [line for line in done.stdout.splitlines() if " killed at " in line]
    assert len(kills) == 20
    assert sum(line.startswith("worker") for line in kills) == 4
    assert len({line.split(" at ")[1] for line in kills}) > 5  # at different moments
    assert done.stderr.count("a worker process was ended from outside") == 4
    assert "Traceback" not in done.stderr
    ended = sorted(tmp_path.glob("ended-*"))
    assert len(ended) >= 2
    for out in ended:
        assert same(records.load(out)) == same(undisturbed), out


@pytest.mark.parametrize(("jobs", "then"), [(1, 2), (2, 4), (4, 1)])
def test_records_do_not_depend_on_processes_or_interruptions(undisturbed, tmp_path, jobs, then):
    if jobs > 1:
        assert verify(tmp_path / "whole", jobs).returncode == 0
        assert same(records.load(tmp_path / "whole")) == same(undisturbed)
    interrupted(tmp_path / "out", jobs, after=4)
    partial = records.load(tmp_path / "out")
    assert partial["status"] == "partial"
    assert 4 <= len(partial["cells"]) < len(undisturbed["cells"])
    assert verify(tmp_path / "out", then).returncode == 0
    assert same(records.load(tmp_path / "out")) == same(undisturbed)


def test_records_by_dask_are_those_of_one_process_whole_and_interrupted(undisturbed, tmp_path):
    pytest.importorskip("distributed")
    done = verify(tmp_path / "whole", 2, "--engine", "dask")
    assert (done.returncode, done.stderr) == (0, "")
    assert same(records.load(tmp_path / "whole")) == same(undisturbed)
    interrupted(tmp_path / "out", 2, 4, "--engine", "dask")
    assert 4 <= len(records.load(tmp_path / "out")["cells"]) < len(undisturbed["cells"])
    done = verify(tmp_path / "out", 2, "--engine", "dask")
    assert (done.returncode, done.stderr) == (0, "")
    assert same(records.load(tmp_path / "out")) == same(undisturbed)


@pytest.mark.parametrize("engine", ["processes", "dask"])
@pytest.mark.parametrize("how", ["time.sleep(3600)", "while True: pass"])
def test_a_cell_that_hangs_is_in_error_and_tried_again(undisturbed, tmp_path, engine, how):
    if engine == "dask":
        pytest.importorskip("distributed")
    (tmp_path / "sitecustomize.py").write_text(HANGS.format(how=how))
    paths = [str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    out, victim = tmp_path / "out", "exact/sjd/dense-2x8/w1/repeat-left"
    done = verify(out, 2, "--engine", engine, "--limit", "8", env=env)
    assert (done.returncode, done.stderr) == (3, ""), done.stderr
    first = records.load(out)
    assert (first["status"], first["verdict"]["kind"]) == ("complete", "ERROR")
    assert len(first["cells"]) == len(undisturbed["cells"])
    wrong = {cell["id"]: cell["verdict"] for cell in first["cells"] if cell["verdict"]["kind"] == "ERROR"}
    assert wrong == {
        victim: {"kind": "ERROR", "reason": "stopped after 8 s; the same command with a larger --limit tries again"}
    }
    stamps = {path: path.stat().st_mtime_ns for path in (out / "cells").glob("*.json")}
    assert verify(out, 2).returncode == 0
    assert same(records.load(out)) == same(undisturbed)
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps


def test_a_full_disk_and_a_flipped_bit(undisturbed, tmp_path):
    out = tmp_path / "out"
    script = [sys.executable, "-c", FULL.format(after=7), *arguments(out)]
    done = subprocess.run(script, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 3
    assert "(No space left on device); make room: the same command continues" in done.stderr
    finished = sorted((out / "cells").glob("*.json"))
    assert len(finished) == 6
    victim = finished[2]
    flipped = bytearray(victim.read_bytes())
    flipped[random.Random(0).randrange(len(flipped))] ^= 4
    victim.write_bytes(flipped)
    stamps = {path: path.stat().st_mtime_ns for path in finished if path != victim}
    done = verify(out)
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith(f"1 result in {out / 'cells'} damaged, to be worked out anew: ")
    assert done.stderr.count("\n") == 1
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    assert same(records.load(out)) == same(undisturbed)


def test_two_commands_and_shards_at_the_same_time(undisturbed, tmp_path):
    out = tmp_path / "out"
    shard = [sys.executable, "-m", "specverify.cli", *arguments(out)]
    running = [
        subprocess.Popen([*shard, "--shard", f"{number}/2"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for number in (1, 2)
    ]
    until = time.monotonic() + 120
    while not list((out / "cells").glob("*.json")) and time.monotonic() < until:
        time.sleep(0.01)
    told = verify(out)
    ends = [(process.communicate(), process.returncode) for process in running]
    assert [code for _, code in ends] == [0, 0], ends
    summed = [b"verdict: PROVED" in out for (out, _), _ in ends]
    assert any(summed)
    # It came while a shard was at work, or after both.
    assert (told.returncode, "is in use by another command" in told.stderr) in ((3, True), (0, False))
    assert same(records.load(out)) == same(undisturbed)
