"""Carry out parts one after the other within a time, and keep each as one file, to which the next call adds.

The file of a part is a zip: what its steps left, their logs, and `part.json`, which says of each step how it ended, how
long it took, and on which card. It is written anew behind every step, and once a minute while one runs.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from io import BytesIO
from pathlib import Path

from typing_extensions import TypedDict

from specverify import environment, files
from specverify.errors import INTERRUPTED, InputError
from specverify.gpu.parts import ROOT, Part, Step

STEPS = "part.json"
LARGEST = 16 << 20
"""Bytes of the file of a part, and so of a file in it, at most."""
EVERY = 60.0
"""Seconds between two writings while a step runs."""
PATIENCE = 90.0
"""Seconds that a step has to end in, once it was interrupted."""
LEAST = 20.0
"""Seconds under which no step is begun."""
_TAIL = 2000


class Done(TypedDict):
    """How a step ended.

    Attributes:
        command: it, with the checkout as ".".
        code: its exit code; None where it was stopped for want of time.
        seconds: of all its tries.
        created: when it ended.
        device, accelerator, software: what it ran on.
        tail: the end of what it said.
    """

    command: str
    code: int | None
    seconds: float
    created: str
    device: str
    accelerator: str | None
    software: dict[str, str]
    tail: str


Steps = dict[str, Done]


def path_of(part: str, out: Path) -> Path:
    """Where a part is kept."""
    return out / f"{part}.zip"


def read(path: Path) -> Steps:
    """What was done of a part; nothing if it was not begun.

    Raises:
        InputError: the file is damaged, or is none of these.
    """
    if not path.is_file():
        return {}
    try:
        with zipfile.ZipFile(path) as archive:
            found: Steps = json.loads(archive.read(STEPS))
        return found
    except (zipfile.BadZipFile, KeyError, ValueError) as error:
        raise InputError(f"{path} is no file of a part ({error}); remove it, or choose another --out") from None


def is_done(step: Step, steps: Steps) -> bool:
    """Whether a step need not be carried out again."""
    found = steps.get(step.name)
    return found is not None and found["code"] in step.codes and found["command"] == _shown(step)


def carry_out(parts: Sequence[Part], out: Path, device: str, seconds: float | None, say: Callable[[str], None]) -> bool:
    """Carry out what is not done yet, while there is time; whether all is done then that can be done here.

    Args:
        out: folder of the files.
        device: that the parts were made for.
        seconds: of all of it; None if it may take as long as it takes.
        say: what happens is told to.

    Raises:
        InputError: as `read`; if the folder cannot be written to, or another call works on it.
        KeyboardInterrupt: behind which all is kept.
    """
    files.check_writable(out)
    out.mkdir(parents=True, exist_ok=True)
    try:
        with files.locked(out, wait=False):
            return _all(parts, out, device, seconds, say)
    except BlockingIOError:
        raise InputError(f"another call works on {out}; wait for it, or choose another --out") from None


def _all(parts: Sequence[Part], out: Path, device: str, seconds: float | None, say: Callable[[str], None]) -> bool:
    whole, end = True, None if seconds is None else time.monotonic() + seconds
    for part in parts:
        steps = read(path_of(part.name, out))
        left = [step for step in part.steps if not is_done(step, steps)]
        if part.needs or not left:
            say(f"{part.name}: {f'needs {part.needs}' if part.needs else 'done'}")
            continue
        with _unpacked(path_of(part.name, out)) as folder:
            for step in left:
                if end is not None and end - time.monotonic() < LEAST:
                    say(f"{part.name}: the time is over; the same command continues")
                    return False
                done = _step(part, step, steps.get(step.name), folder, out, device, end)
                how = "ended for want of time" if done["code"] is None else f"exit code {done['code']}"
                say(f"{part.name}: {step.name}: {how}, {done['seconds']:.0f} s")
                whole = whole and done["code"] in step.codes
        if (size := path_of(part.name, out).stat().st_size) > LARGEST:
            say(f"{part.name}: its file has {size / 2**20:.1f} MB, more than the {LARGEST >> 20} that it should have")
    return whole


def _step(part: Part, step: Step, before: Done | None, folder: Path, out: Path, device: str, end: float | None) -> Done:
    begun, code = time.monotonic(), None
    log = folder / f"{step.name}.log"
    earlier = 0.0 if before is None or before["command"] != _shown(step) else before["seconds"]
    interrupted = False
    with log.open("wb") as file:
        child = subprocess.Popen(
            [sys.executable, *step.command],
            cwd=folder, env=_environment(), stdout=file, stderr=subprocess.STDOUT, preexec_fn=_hear,
        )  # fmt: skip
        try:
            code = _wait(child, end, lambda: _pack(folder, path_of(part.name, out)))
        except KeyboardInterrupt:
            interrupted = True
            _stop(child)
    text = log.read_text(encoding="utf-8", errors="replace").replace(str(folder), "FOLDER").replace(str(ROOT), ".")
    log.write_text(text, encoding="utf-8")
    done: Done = {
        "command": _shown(step),
        "code": None if code == INTERRUPTED else code,
        "seconds": round(earlier + time.monotonic() - begun, 1),
        "created": environment.now(),
        "device": device,
        "accelerator": environment.accelerator(device),
        "software": environment.software(),
        "tail": re.sub(r"\x1b\[[0-9;]*m", "", text)[-_TAIL:],
    }
    steps = json.loads((folder / STEPS).read_text()) if (folder / STEPS).exists() else {}
    (folder / STEPS).write_text(json.dumps(steps | {step.name: done}, indent=1) + "\n")
    _pack(folder, path_of(part.name, out))
    if interrupted:
        raise KeyboardInterrupt
    return done


def _wait(child: subprocess.Popen[bytes], end: float | None, keep: Callable[[], None]) -> int | None:
    """Its exit code; None if it was stopped, as the time was over."""
    while True:
        left = EVERY if end is None else min(EVERY, end - time.monotonic())
        try:
            return child.wait(max(left, 0.1))
        except subprocess.TimeoutExpired:
            if end is not None and time.monotonic() >= end:
                _stop(child)
                return None
            keep()


def _stop(child: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        child.send_signal(signal.SIGINT)
    try:
        child.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _hear() -> None:
    """A step hears SIGINT, although what a script runs in the background ignores it, and whatever that starts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _environment() -> dict[str, str]:
    """As it is, with the checkout in front of what is installed."""
    kept = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(kept), "PYTHONUNBUFFERED": "1"}


def _shown(step: Step) -> str:
    return " ".join(["python", *step.command]).replace(str(ROOT), ".")


@contextlib.contextmanager
def _unpacked(path: Path) -> Iterator[Path]:
    """A folder with what a part left so far, for as long as it is worked on."""
    with tempfile.TemporaryDirectory(prefix="specverify-gpu-", ignore_cleanup_errors=True) as name:
        if path.is_file():
            with zipfile.ZipFile(path) as archive:
                archive.extractall(name)
        yield Path(name)


def _pack(folder: Path, path: Path) -> None:
    """Write what is in a folder as a part's file.

    What is being written there, under a hidden name, is left out; and what is too large to be kept, such as the state
    of a training, which begins anew then.
    """
    content = BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        if not (folder / STEPS).exists():
            archive.writestr(STEPS, "{}")
        for file in sorted(folder.rglob("*")):
            with contextlib.suppress(FileNotFoundError):
                if file.is_file() and not file.name.startswith(".") and file.stat().st_size <= LARGEST:
                    archive.write(file, file.relative_to(folder))
    files.write_atomically(path, content.getvalue())
