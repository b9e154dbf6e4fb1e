"""Samplers that take more than they may, or leave something behind."""

import os
import subprocess
import sys
import time
from pathlib import Path

WAIT = [sys.executable, "-c", "import time; time.sleep(600)"]


def starts_others(target, draft, n, seed):
    """Children that are not easily found: in a session of its own, without a parent, deaf to SIGTERM."""
    deaf = [sys.executable, "-c", "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(600)"]
    found = [os.getpid(), subprocess.Popen(WAIT, start_new_session=True).pid, subprocess.Popen(deaf).pid]
    orphan = (
        "import subprocess as s; quiet = s.DEVNULL; "
        f"print(s.Popen({WAIT}, start_new_session=True, stdout=quiet, stderr=quiet).pid)"
    )
    found.append(int(subprocess.run([sys.executable, "-c", orphan], capture_output=True, check=True).stdout))
    note = Path(os.environ["SPECVERIFY_TEST_MARK"])
    note.with_suffix(".part").write_text(" ".join(map(str, found)))
    note.with_suffix(".part").replace(note)
    time.sleep(600)


def computes_for_ever(target, draft, n, seed):
    child = subprocess.Popen([sys.executable, "-c", "while True: pass"])  # the children's work counts too
    child.wait()


def fills_memory(target, draft, n, seed):
    held = []
    while True:
        held.append(bytearray(os.urandom(1 << 20)) * 8)


def colours(target, draft, n, seed):
    raise ValueError("\x1b[31mred\x1b[0m and \x07 a bell")
