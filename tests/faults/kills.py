"""Campaigns that are killed at random moments and continued, until so many kills have landed. A program of its own.

    python kills.py FOLDER PATTERN SEED DRIVERS WORKERS

Loads specverify once and forks each campaign from there, so that a kill falls into its work and not into its imports:
DRIVERS of them in the driver, which works alone, WORKERS in one of its two workers. A campaign that comes to its end is
left in FOLDER/ended-*, and another begun; the last is continued to its end. Prints a line for each kill.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path

import specverify.campaign
import specverify.report.figures  # noqa: F401
from specverify import cli

PATIENCE = 120.0


def begin(out, pattern, jobs):
    """A campaign in a process of its own."""
    child = os.fork()
    if child:
        return child
    code = 70
    try:
        cli.main(["verify", "--only", pattern, "--out", str(out), "--jobs", str(jobs)])
    except SystemExit as end:
        code = int(end.code or 0)
    finally:
        sys.stdout.flush()
        os._exit(code)


def ended(child):
    """How a process ended: its exit code, or minus the signal."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def stamps(out):
    return {path.name: path.stat().st_mtime_ns for path in (out / "cells").glob("*.json")}


def workers(parent):
    """The processes that work for another."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            above = int(stat.read_text().rpartition(")")[2].split()[1])
            if above == parent and b"spawn_main" in (stat.parent / "cmdline").read_bytes():
                found.append(int(stat.parent.name))
        except (OSError, IndexError):
            continue
    return found


def kill_a_worker(child, out, before, rng):
    """Once the workers have begun; whether there was one."""
    until = time.monotonic() + PATIENCE
    while stamps(out).keys() <= before.keys() and time.monotonic() < until:
        if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            return False
        time.sleep(0.01)
    time.sleep(rng.uniform(0, 0.5))
    victims = workers(child)
    if victims:
        os.kill(rng.choice(victims), signal.SIGKILL)
    return bool(victims)


def main(folder, pattern, seed, drivers, among):
    rng = random.Random(seed)
    first = folder / "ended-0"
    start = time.monotonic()
    assert ended(begin(first, pattern, 1)) == 0
    span = (time.monotonic() - start) / 3
    out, finished = folder / "running", 1
    kills = ["driver"] * drivers + ["worker"] * among
    while kills:
        before, kind = stamps(out), kills[-1]
        child = begin(out, pattern, 2 if kind == "worker" else 1)
        if kind == "worker":
            landed = kill_a_worker(child, out, before, rng)
            code = ended(child)
            landed = landed and code == 3
            assert code in (0, 3), code
        else:
            time.sleep(rng.uniform(0, span))
            os.kill(child, signal.SIGKILL)
            code = ended(child)
            landed = code == -signal.SIGKILL
        after = stamps(out)
        assert before.items() <= after.items(), "what was finished was lost, or done again"
        if landed:
            kills.pop()
            print(f"{kind} killed at {len(before)} to {len(after)} cells", flush=True)
        elif code == 0:
            out.rename(folder / f"ended-{finished}")
            finished += 1
        rng.shuffle(kills)
    assert ended(begin(out, pattern, 1)) == 0
    out.rename(folder / f"ended-{finished}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], *map(int, sys.argv[3:]))
