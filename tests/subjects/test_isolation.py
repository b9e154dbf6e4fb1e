"""Whatever a subject does ends in a verdict with its reason, and nothing of it is left."""

import os
import subprocess
import time
from pathlib import Path

import pytest

from specverify.errors import InputError
from specverify.subjects import resolve
from specverify.subjects.here import judge_here
from specverify.subjects.isolation import judge_isolated, judgement_from_json
from specverify.subjects.worker import to_plain
from specverify.verdict import Kind

FILE = Path(__file__).parent / "examples" / "misbehaving.py"


def judge(name, **arguments):
    return judge_isolated(f"{FILE}:{name}", "sampler", **{"seconds": 5, "limit": 30} | arguments)


@pytest.mark.thinned(2)
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("leaves", ["exited with code 7", "the last line that it printed: farewell"]),
        ("crashes", ["ended by SIGSEGV", "in string_at"]),
        ("asks_to_exit", ["raised SystemExit: no more of this", "(misbehaving.py:"]),
        ("raises", ["KeyError", "no such"]),
        ("is_noisy_and_aborts", ["ended by SIGABRT", "the last line that it printed: the last word", "in is_noisy"]),
        ("returns_other_tokens", ["token"]),
    ],
)
def test_misbehaviour_gets_a_verdict_with_the_reason(name, words):
    judgement = judge(name)
    assert judgement.verdict.kind in (Kind.ERROR, Kind.REFUTED)
    for word in words:
        assert word in judgement.verdict.reason
    assert (judgement.level, judgement.claim) == ("sampler", "lossless")
    assert judgement.subject == f"{FILE}:{name}"
    assert judgement.reproduce.startswith(f"specverify validate {FILE}:{name} --level sampler")
    assert sum(map(len, judgement.notes)) < 20_000


def test_one_that_hangs_is_ended_with_all_that_it_started(monkeypatch):
    mark = f"specverify-test-{os.getpid()}-{time.monotonic_ns()}"
    monkeypatch.setenv("SPECVERIFY_TEST_MARK", mark)
    judgement = judge("hangs", limit=8)
    assert judgement.verdict.kind is Kind.ERROR
    assert "gave no answer within 8 s (--limit sets another), in hangs (misbehaving.py:" in judgement.verdict.reason
    assert judgement.verdict.reason.endswith("the last line that it printed: about to wait")
    commands = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert mark not in commands


def test_memory_can_be_limited():
    judgement = judge("takes_memory", memory=500)
    assert judgement.verdict.kind is Kind.ERROR
    assert "memory" in judgement.verdict.reason
    assert judgement.verdict.reason.endswith("(memory limited to 500 MiB with --memory)")


@pytest.mark.slow
def test_it_is_judged_as_it_would_be_here():
    reference = f"{FILE.parent}/lookahead.py:BROKEN"
    isolated = judge_isolated(reference, seed=3, options={"name": "mine"})
    here = judge_here(resolve.resolve(reference), seed=3, options={"name": "mine"})
    assert isolated.verdict.kind is Kind.REFUTED
    assert isolated.verdict == here.verdict
    assert to_plain(isolated.exact) == to_plain(here.exact)
    assert isolated.location == to_plain(here.location)
    assert isolated.notes == list(here.notes)
    assert isolated.certificate["subject"] == reference
    assert "judge_isolated(" in isolated.reproduce


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"seconds": -1}, "seconds is -1"),
        ({"limit": float("nan")}, "limit is nan"),
        ({"memory": -5}, "memory is -5"),
        ({"seed": -1}, "seed -1"),
        ({"claim": "perfect"}, "claim 'perfect'"),
    ],
)
def test_what_cannot_be_used_is_said_before_anything_runs(arguments, words):
    with pytest.raises(InputError, match=words):
        judge("plain", **arguments)


def test_a_reference_that_names_nothing_is_no_verdict():
    with pytest.raises(InputError, match=r"has no 'hang'; did you mean hangs"):
        judge("hang")


@pytest.mark.thinned(2)
@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("import os\nos._exit(4)\n", "when imported, its process exited with code 4, without an answer"),
        ("import ctypes\nctypes.string_at(0)\n", "when imported, its process was ended by SIGSEGV"),
        (
            "import time\nprint('dozing', flush=True)\ntime.sleep(600)\n",
            "when imported, gave no answer within 3 s (--limit sets another), in <module> (rude.py:3); the last line "
            "that it printed: dozing",
        ),
        ("1 / 0\n", "rude.py raises ZeroDivisionError when imported: division by zero (rude.py:1)"),
    ],
)
def test_misbehaviour_on_import_is_a_verdict_too(tmp_path, source, words):
    (tmp_path / "rude.py").write_text(source)
    judgement = judge_isolated(f"{tmp_path}/rude.py:f", limit=3)
    assert judgement.verdict.kind is Kind.ERROR
    assert words in judgement.verdict.reason
    assert (judgement.level, judgement.claim) == ("unknown", "lossless")
    assert judgement_from_json(to_plain(judgement.to_json())).verdict == judgement.verdict


def test_what_was_said_of_a_subject_stands_where_it_cannot_be_imported(tmp_path):
    (tmp_path / "rude.py").write_text("raise SystemExit\n")
    judgement = judge_isolated(f"{tmp_path}/rude.py:f", "sampler", "relaxed:0.5")
    assert (judgement.verdict.kind, judgement.level, judgement.claim) == (Kind.ERROR, "sampler", "relaxed(tv<=0.5)")


def test_a_plugin_that_breaks_on_import_is_a_verdict_too(tmp_path, monkeypatch):
    info = tmp_path / "acme-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[specverify.decoders]\nacme-old = acme_old:DECODER\n")
    (tmp_path / "acme_old.py").write_text("import not_there_at_all\n")
    monkeypatch.syspath_prepend(tmp_path)
    judgement = judge_isolated("acme-old")
    assert judgement.verdict.kind is Kind.ERROR
    assert judgement.verdict.reason.startswith("plug-in 'acme-old' of acme is broken: acme_old cannot be imported: it")


def test_a_record_of_something_else_is_refused():
    with pytest.raises(InputError, match="this is no judgement"):
        judgement_from_json({"verdict": {}})


def test_numbers_that_json_lacks_become_none():
    assert to_plain({"a": (float("nan"), 1.5), 2: {3}, "b": Path("c")}) == {"a": [None, 1.5], "2": [3], "b": "c"}
