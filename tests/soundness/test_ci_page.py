"""What docs/ci.md has to be copied: its commands end as the page says, of a right decoder and of a wrong one."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "ci.md").read_text()
FILES = {name: body for _, name, body in re.findall(r"```(\w+)\n# (\S+)\n(.*?)```", PAGE, re.S)}
INSTALLED = str(Path(sys.executable).with_name("specverify"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A user's repository."""
    shutil.copy(ROOT / "tests" / "subjects" / "examples" / "lookahead.py", tmp_path)
    return tmp_path


def run(command: str, folder: Path) -> int:
    """The exit code of a line of a shell there."""
    line = command.replace("specverify ", f"{shlex.quote(INSTALLED)} ", 1)
    return subprocess.run(line, shell=True, cwd=folder, capture_output=True, check=False).returncode


def broken(command: str) -> str:
    """The same of the decoder that is wrong."""
    assert "lookahead.py:DECODER" in command
    return command.replace("DECODER", "BROKEN")


def test_the_workflow_passes_and_fails_as_its_decoder_does(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (job,) = yaml.safe_load(FILES[".github/workflows/decoders.yml"])["jobs"].values()
    _, judge, verify, summary = [step["run"] for step in job["steps"] if "run" in step]
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(folder / "summary.md"))
    assert [run(command, folder) for command in (judge, verify, summary)] == [0, 0, 0]
    assert "At a glance" in (folder / "summary.md").read_text()
    assert (folder / "out" / "scd-mc" / "junit.xml").is_file()
    (gate,) = re.findall(r"^    (specverify compare .*)$", PAGE, re.M)
    shutil.copy(folder / "out" / "scd-mc" / "record.json", folder / "baseline.json")
    assert run(gate, folder) == 0
    assert run(f"rm -r out; {broken(judge)}", folder) == 1
    assert run("specverify replay out/lookahead", folder) == 1


def test_the_nox_session_runs_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Any, ...]] = []

    class Session:
        def install(self, *what: str) -> None:
            asked.append(what)

        def run(self, *command: str, env: dict[str, str]) -> None:
            asked.append(command)
            assert run(" ".join([*(f"{name}={value}" for name, value in env.items()), *command]), folder) == 0

    monkeypatch.setitem(sys.modules, "nox", types.SimpleNamespace(session=lambda function: function))
    names: dict[str, Any] = {}
    exec(FILES["noxfile.py"], names)
    names["decoders"](Session())
    assert asked == [("specverify",), ("specverify", "validate", "lookahead.py:DECODER")]


def test_the_hook_passes_and_fails_as_its_decoder_does(folder: Path) -> None:
    (repository,) = yaml.safe_load(FILES[".pre-commit-config.yaml"])["repos"]
    (hook,) = repository["hooks"]
    assert re.search(hook["files"], "lookahead.py")
    assert run(hook["entry"], folder) == 0
    assert run(broken(hook["entry"]), folder) == 1
