"""The examples of docs/judge.md, word for word; tests/soundness/test_printed.py has all commands."""

import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from specverify.subjects.isolation import judge_isolated
from specverify.verdict import Kind

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "judge.md").read_text()
EXAMPLES = dict(re.findall(r"```python\n# (\S+)\n(.*?)```", TEXT, re.S))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for name, body in EXAMPLES.items():
        (tmp_path / name).write_text(body)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_first_example_is_the_file_that_it_names():
    blocks = re.findall(r"(?:^    .*\n|^\n)+", (ROOT / "docs" / "start.md").read_text(), re.M)
    (shown,) = (block for block in blocks if "class Lookahead" in block)
    example = (ROOT / "tests" / "subjects" / "examples" / "lookahead.py").read_text()
    assert textwrap.dedent(shown).strip() == example.split('"""', 2)[2].strip()


def test_the_example_of_races_is_of_the_file_that_it_names():
    blocks = re.findall(r"(?:^    .*\n|^\n)+", (ROOT / "docs" / "decoders.md").read_text(), re.M)
    (shown,) = (textwrap.dedent(block).splitlines() for block in blocks if "draws.race" in block)
    example = (ROOT / "tests" / "subjects" / "examples" / "matching.py").read_text().splitlines()
    lines = [line.strip() for line in shown if line.strip() and not line.strip().startswith("#")]
    assert len(lines) == 6
    assert set(lines) <= {line.strip() for line in example}


def test_each_is_at_most_20_lines():
    names = ["box.py", "engine.py", "kernel.py", "log.py", "loop.py", "target.py", "vectors.py"]
    assert sorted(EXAMPLES) == names
    assert max(body.count("\n") for body in EXAMPLES.values()) <= 20


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("reference", "level", "options", "kind"),
    [
        pytest.param("kernel.py:kernel", "round", {"delta": 0.1}, Kind.CONSISTENT, marks=pytest.mark.slow),
        ("vectors.py:wrong", None, {"delta": 0.03}, Kind.REFUTED),
        pytest.param(
            "box.py:mine",
            "sampler",
            {"delta": 0.1, "suite": "small", "exact": False},
            Kind.CONSISTENT,
            marks=pytest.mark.slow,
        ),
        pytest.param("engine.py:lookup", "sampler", {"exact": True}, Kind.PROVED, marks=pytest.mark.slow),
    ],
)
def test_each_gets_its_verdict(reference, level, options, kind):
    judgement = judge_isolated(reference, level, seconds=60, options=options)
    assert judgement.verdict.kind is kind, judgement.verdict.reason


@pytest.mark.usefixtures("folder")
def test_the_target_is_written_and_judged_on():
    subprocess.run([sys.executable, "target.py"], check=True)
    judgement = judge_isolated("box.py:mine", "sampler", options={"delta": 0.1, "target": "mine.npz", "exact": False})
    assert judgement.verdict.kind is Kind.CONSISTENT, judgement.verdict.reason


@pytest.mark.slow
@pytest.mark.usefixtures("folder")
def test_the_log_is_written_and_judged():
    subprocess.run([sys.executable, "log.py"], check=True)
    judgement = judge_isolated("trace.npz")
    assert judgement.level == "trace"
    assert judgement.verdict.kind is Kind.CONSISTENT, judgement.verdict.reason
