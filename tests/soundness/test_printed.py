"""The commands that the documentation prints, exactly as printed: each ends as its text says, on a busy machine too."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OWN = ROOT / "docs" / "schedulers.md"  # whose commands tests/integrations/test_schedulers_page.py runs
PAGES = (ROOT / "README.md", *sorted(set((ROOT / "docs").glob("*.md")) - {OWN}))
PRINTED = re.compile(r"^    (?:\$ )?specverify ((?:validate|replay) .*?)(?:\s+#.*)?$", re.M)
FILES = re.compile(r"```python\n# (\S+)\n(.*?)```", re.S)
ENDS = {
    "validate lookahead.py:DECODER": "PROVED-FOR-ALL",
    "validate lookahead.py:BROKEN": "REFUTED",
    "validate tests/subjects/examples/lookahead.py:BROKEN": "REFUTED",
    "validate tests/subjects/examples/matching.py:DECODER": "CONSISTENT",
    "validate tests/subjects/examples/matching.py:BROKEN": "REFUTED",
    "replay out/validate-lookahead.py-BROKEN": "REFUTED",
    "replay out/verify-quick-seed0/proofs/scd-mc.json": "PROVED-FOR-ALL",
    "validate stale-scores-after-coupling": "REFUTED",
    "validate cspd --claim lossless": "REFUTED",
    "validate vectors.py:right": "CONSISTENT",
    "validate vectors.py:wrong": "REFUTED",
    "validate kernel.py:kernel --level round": "CONSISTENT",
    "validate box.py:mine --level sampler": "PROVED or CONSISTENT",
    "validate loop.py:judged --level sampler": "PROVED",
    "validate engine.py:assisted --level sampler --exact": "PROVED",
    "validate engine.py:lookup --level sampler --exact": "PROVED",
    "validate trace.npz": "CONSISTENT",
    "validate lookahead.py:DECODER --target mine.npz": "PROVED-FOR-ALL",
    "validate box.py:mine --level sampler --target mine.npz": "PROVED or CONSISTENT",
}
CODES = {"PROVED-FOR-ALL": 0, "PROVED": 0, "CONSISTENT": 0, "REFUTED": 1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files of the documentation."""
    made = tmp_path_factory.mktemp("user")
    for name, body in FILES.findall((ROOT / "docs" / "judge.md").read_text()):
        (made / name).write_text(body)
    examples = Path("tests", "subjects", "examples")
    (made / examples).mkdir(parents=True)
    for name in ("lookahead.py", "matching.py"):
        shutil.copy(ROOT / examples / name, made / examples)
    shutil.copy(ROOT / examples / "lookahead.py", made)
    for script in ("log.py", "target.py"):
        subprocess.run([sys.executable, script], cwd=made, check=True)
    return made


def run(folder: Path, command: str) -> subprocess.CompletedProcess[str]:
    """A command line, in that folder."""
    line = [sys.executable, "-m", "specverify.cli", *shlex.split(command)]
    return subprocess.run(line, cwd=folder, capture_output=True, text=True, check=False)


def test_every_printed_command_is_run_here() -> None:
    printed = {command for path in PAGES for command in PRINTED.findall(path.read_text())}
    assert len(printed) >= 10
    assert printed <= set(ENDS)


@pytest.mark.parametrize("command", [command for command in ENDS if command.startswith("validate")])
def test_it_ends_as_the_text_says_and_so_does_the_line_that_reproduces_it(folder: Path, command: str) -> None:
    ended = run(folder, f"{command} --json")
    told = json.loads(ended.stdout)
    kind = told["verdict"]["kind"]
    assert kind in ENDS[command].split(" or "), told["verdict"]  # what is followed in time depends on the machine
    assert ended.returncode == CODES[kind]
    assert told["reproduce"].startswith(f"specverify {command.split(' --')[0]} ")
    if told["seconds"] < 20:
        again = run(folder, told["reproduce"].removeprefix("specverify ") + " --json")
        assert json.loads(again.stdout)["verdict"] == told["verdict"]


def test_a_counterexample_is_replayed_from_anywhere(folder: Path, tmp_path: Path) -> None:
    assert run(folder, "validate lookahead.py:BROKEN").returncode == 1
    assert run(folder, "replay out/validate-lookahead.py-BROKEN").returncode == 1
    assert run(tmp_path, f"replay {folder / 'out' / 'validate-lookahead.py-BROKEN'}").returncode == 1


def test_a_certificate_is_replayed(folder: Path) -> None:
    assert run(folder, "verify --only 'proof/scd-mc/*' --out out/verify-quick-seed0").returncode == 0
    again = run(folder, "replay out/verify-quick-seed0/proofs/scd-mc.json")
    assert again.returncode == 0, again.stderr
    assert "PROVED-FOR-ALL" in again.stdout


@pytest.mark.parametrize("only", ["exact/scd-mc/*", "density/*"])
def test_some_cells_are_checked_as_the_readme_says_and_shown_again(folder: Path, only: str) -> None:
    assert any(f"specverify verify --only '{only}'" in path.read_text() for path in PAGES)
    first = run(folder, f"verify --only {shlex.quote(only)}")
    assert first.returncode == 0, first.stdout
    again = run(folder, f"verify --only {shlex.quote(only)}")
    begins, _, rest = first.stdout.partition("\n")
    assert "; results go to out/verify-quick-seed0-only-" in begins
    assert (again.returncode, again.stdout) == (0, rest)
