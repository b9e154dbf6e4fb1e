"""The pytest plug-in, in a pytest of its own."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "subjects" / "examples"
ROOT = Path(__file__).parents[2]
PLUGIN = "specverify.integrations.pytest_plugin"


@pytest.fixture
def run(tmp_path):
    """Run pytest on one file, with the plug-in alone; its exit code and output."""

    def call(text, *arguments):
        shutil.copytree(EXAMPLES, tmp_path / "mine", dirs_exist_ok=True)
        (tmp_path / "test_mine.py").write_text(text)
        (tmp_path / "pytest.ini").write_text("[pytest]\n")  # not the settings of a folder above
        environment = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(ROOT), "COLUMNS": "100"}
        environment.pop("PYTEST_ADDOPTS", None)
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-p",
            PLUGIN,
            "-p",
            "no:cacheprovider",
            "--strict-markers",
            *arguments,
        ]
        found = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        return found.returncode, found.stdout + found.stderr

    return call


@pytest.mark.slow
def test_verdicts_become_tests(run):
    code, out = run(
        """
import pytest
from mine.lookahead import BROKEN

pytestmark = pytest.mark.specverify(claim="lossless", seconds=30)

def test_right(specverify_judge):
    judgement = specverify_judge("mine/lookahead.py:DECODER", seconds=3)
    assert judgement.verdict.kind.value == "PROVED-FOR-ALL"
    assert judgement.exact

def test_wrong(specverify_judge):
    specverify_judge("mine/lookahead.py:BROKEN")

def test_wrong_in_this_process(specverify_judge):
    specverify_judge(BROKEN)

@pytest.mark.specverify(claim="relaxed:0.9", seconds=1)
def test_nearest_marker_counts(specverify_judge):
    assert specverify_judge(BROKEN).claim == "relaxed(tv<=0.9)"

def test_names_nothing(specverify_judge):
    specverify_judge("mine/lookahead.py:DECODERS")

def test_unknown_argument(specverify_judge):
    specverify_judge(BROKEN, speed=3)

@pytest.mark.specverify("lossless")
def test_marker_without_a_name(specverify_judge):
    pass
"""
    )
    assert code == 1
    for words in (
        "4 failed, 2 passed, 1 error",
        "REFUTED: mine/lookahead.py:BROKEN, decoder, lossless",
        "not lossless: total variation 1/4",
        "specverify validate mine/lookahead.py:BROKEN --claim lossless --seed 0 --seconds 30",
        "specverify: mine/lookahead.py has no 'DECODERS'; did you mean DECODER?",
        "specverify_judge has no argument 'speed'; use level, claim, seed, seconds, options, limit, memory",
        "the marker specverify takes named arguments only, not ('lossless',)",
    ):
        assert words in out
    assert "Traceback" not in out


def test_a_wrong_decoder_fails_its_test(run):
    code, out = run(
        """
import pytest
from mine.lookahead import BROKEN

@pytest.mark.specverify(claim="lossless", seconds=1)
def test_wrong_in_this_process(specverify_judge):
    specverify_judge(BROKEN)
"""
    )
    assert code == 1
    assert "1 failed" in out
    assert "REFUTED" in out


def test_it_costs_nothing_where_it_is_not_used(run):
    code, out = run(
        "import sys\ndef test_nothing():\n    assert not {'torch', 'numpy', 'rich'} & set(sys.modules)\n",
        "-o",
        "filterwarnings=error",
    )
    assert (code, "1 passed" in out) == (0, True)


def test_no_test_passes_that_was_to_judge_something_and_did_not(run):
    code, out = run(
        """
import pytest

@pytest.mark.specverify(seconds=3)
def test_marked():
    pass

def test_never_calls(specverify_judge):
    pass

def test_skips_first(specverify_judge):
    pytest.skip("not today")

class TestMarked:
    pytestmark = pytest.mark.specverify(seconds=3)

    def test_of_something_else(self):
        pass
"""
    )
    assert code == 1
    assert "2 failed, 1 passed, 1 skipped" in out
    assert "marked with specverify and judges nothing: ask for specverify_judge" in out
    assert "has the fixture specverify_judge and judges nothing: call it" in out


def test_the_marker_and_the_fixture_are_explained(run):
    assert "@pytest.mark.specverify(level=..., claim=..., seed=..., seconds=..." in run("", "--markers")[1]
    assert "specverify_judge" in run("", "--fixtures")[1]
