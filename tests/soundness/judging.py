"""Running `specverify validate` on a subject of this folder, as a user does."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

SUBJECTS = Path(__file__).parent / "subjects"


def validate(subject: str, out: Path, *options: str) -> dict[str, Any]:
    """The judgement of `FILE:OBJECT`, a subject of this folder, beside how its process ended and what it printed.

    And `processor_seconds`, which unlike the judgement's own `seconds` do not depend on how busy the machine is.
    """
    command = [sys.executable, "-m", "specverify.cli", "validate", str(SUBJECTS / subject), *options, "--out", str(out)]
    before = _used()
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    used = _used() - before
    assert (out / "judgement.json").exists(), ended.stderr
    found: dict[str, Any] = json.loads((out / "judgement.json").read_text(encoding="utf-8"))
    return found | {"exit_code": ended.returncode, "terminal": ended.stdout, "processor_seconds": used}


def _used() -> float:
    """Processor seconds of all processes that this one started and that ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return children.ru_utime + children.ru_stime
