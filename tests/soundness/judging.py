"""Running `specverify validate` on a subject of this folder, as a user does."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

SUBJECTS = Path(__file__).parent / "subjects"


def validate(subject: str, out: Path, *options: str) -> dict[str, Any]:
    """The judgement of `FILE:OBJECT`, a subject of this folder, and how its process ended, as `exit_code`."""
    command = [sys.executable, "-m", "specverify.cli", "validate", str(SUBJECTS / subject), *options, "--out", str(out)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (out / "judgement.json").exists(), ended.stderr
    found: dict[str, Any] = json.loads((out / "judgement.json").read_text(encoding="utf-8"))
    return found | {"exit_code": ended.returncode, "terminal": ended.stdout}
