"""The walk of docs/schedulers.md, word for word."""

import importlib
import re
import sys
from pathlib import Path

import pytest

from specverify.claims import Lossless
from specverify.evidence.cases import Case, Weights
from specverify.evidence.found import Counterexample
from specverify.evidence.search import evaluate, explain
from specverify.subjects.factory import as_factory
from specverify.subjects.isolation import judge_isolated
from specverify.subjects.suite import scattered
from specverify.verdict import Kind

TEXT = (Path(__file__).parents[2] / "docs" / "schedulers.md").read_text()
FILES = dict(re.findall(r"```python\n# (\S+)\n(.*?)```", TEXT, re.S))
CASE = Case(Weights(2, 3, scattered(7, 2)), window=2)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for name, body in FILES.items():
        (tmp_path / name).write_text(body)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in ("scheduler", "judged", "loop"):
        sys.modules.pop(name, None)


def test_what_a_user_writes_is_at_most_20_lines():
    assert sorted(FILES) == ["judged.py", "loop.py", "scheduler.py"]
    assert all(FILES[name].count("\n") <= 20 for name in ("judged.py", "loop.py"))


@pytest.mark.usefixtures("folder")
def test_the_right_one_is_exact_and_the_wrong_one_located():
    judged = importlib.import_module("judged")
    assert evaluate(as_factory(judged.right).build, CASE, Lossless()).tv < 1e-12
    found = explain(as_factory(judged.wrong).build, CASE, Lossless())
    assert isinstance(found, Counterexample)
    assert found.location.branch == "accepted (redraft)"


@pytest.mark.slow
@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("reference", "level", "options", "kind"),
    [
        ("judged.py:right", None, {}, Kind.PROVED),
        ("judged.py:wrong", None, {}, Kind.REFUTED),
        ("loop.py:sampler", "sampler", {"exact": True}, Kind.PROVED),
    ],
)
def test_each_command_gets_its_verdict(reference, level, options, kind):
    judgement = judge_isolated(reference, level, seconds=60, options=options)
    assert judgement.verdict.kind is kind, judgement.verdict.reason
