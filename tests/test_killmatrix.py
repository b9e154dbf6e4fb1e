"""The kill matrix: what is known is caught by what it names, and a checker that sees nothing is found out."""

import json
import time

import pytest

from specverify import cli, defects, killmatrix, pool
from specverify.defects import continuous, rounds, samplers
from specverify.errors import InputError
from specverify.report import testers
from specverify.verdict import Kind

QUICK = killmatrix.Setting(delta=0.2, seconds=10.0, limit=60.0)


@pytest.fixture
def run(capsys, monkeypatch, tmp_path):
    """Call the command line in an empty folder: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")

    def call(*arguments):
        with pytest.raises(SystemExit) as caught:
            cli.main([str(argument) for argument in arguments])
        found = capsys.readouterr()
        assert max(map(len, found.out.splitlines()), default=0) <= 80
        return caught.value.code, found.out, found.err

    return call


@pytest.fixture(scope="module")
def trials(tmp_path_factory):
    """(level, subject) -> its rows by checker: worked out in processes, without type checks, so quickly."""
    subjects = [
        ("decoder", "recovered-from-target"),
        ("decoder", "sample-and-match"),
        ("round", "recovered-from-target"),
        ("round", "zero-coin-inclusive"),
        ("round", "token-rule"),
        ("sampler", "reseed-per-call"),
    ]
    cells = [cell for subject in subjects for cell in killmatrix.matrix(killmatrix.corpus(*subject))]
    found = {subject: {} for subject in subjects}
    for row in killmatrix.run(cells, QUICK, tmp_path_factory.mktemp("trials"), jobs=2):
        found[row["level"], row["defect"]][row["checker"]] = row
    return found


def here(one, units, *_, **__):
    """`pool.share_out` without processes, which monkeypatches do not reach."""
    return (one(unit) for unit in units)


def test_the_corpus_is_what_the_registries_hold():
    found = [(known.level, known.id) for known in killmatrix.corpus()]
    registries = (("decoder", defects), ("round", rounds), ("sampler", samplers), ("continuous", continuous))
    assert found == [(level, name) for level, registry in registries for name in registry.names()]
    for known in killmatrix.corpus():
        assert known.lossy == bool(known.named)
        assert set(known.named) <= set(killmatrix.CHECKERS[known.level])


@pytest.mark.slow
def test_a_defect_of_each_level_is_caught(trials):
    decoder = trials["decoder", "recovered-from-target"]
    assert {row["outcome"] for row in decoder.values()} == {"caught"}
    assert decoder["exact"]["tv"] == pytest.approx(0.266264701881)  # its smallest setting, as tests/defects has it
    assert decoder["judge_decoder"]["tv"] > 0.01
    kernel = trials["round", "recovered-from-target"]
    assert kernel["standard"]["outcome"] == kernel["forced-coins"]["outcome"] == "caught"
    assert kernel["standard"]["n"] > 0
    assert kernel["standard"]["by"]
    assert kernel["forced-coins"]["tv"] > 0.01
    (box,) = trials["sampler", "reseed-per-call"].values()
    assert (box["outcome"], box["verdict"], box["named"]) == ("caught", "REFUTED", True)
    assert box["n"] > 0
    every = [*decoder.values(), *kernel.values(), box]
    assert testers.passed(every)
    assert json.loads(json.dumps(every, allow_nan=False)) == every


@pytest.mark.slow
def test_what_sampling_misses_is_no_fault_where_forced_coins_are_named(trials):
    found = trials["round", "zero-coin-inclusive"]
    assert found["forced-coins"]["outcome"] == "caught"
    assert (found["standard"]["outcome"], found["standard"]["named"]) == ("missed", False)
    assert testers.passed(list(found.values()))


@pytest.mark.slow
def test_controls_are_not_flagged(trials):
    found = [*trials["round", "token-rule"].values(), *trials["decoder", "sample-and-match"].values()]
    tried = {row["checker"]: row["outcome"] for row in found}
    assert tried.pop("nan-rows") == "not applicable"
    assert tried == dict.fromkeys(("standard", "forced-coins", "exact", "judge_decoder"), "not flagged")
    assert testers.passed(found)


def test_not_applicable_says_why():
    cells = {cell.checker: cell for cell in killmatrix.matrix(killmatrix.corpus("round", "token-rule"))}
    assert cells["nan-rows"].absent == "few kernels claim to take draft laws of NaN"
    assert not cells["forced-coins"].absent
    drawn = [name for name in rounds.names() if rounds.get(name).kernel.with_coins is None]
    for name in drawn:
        (cell,) = (c for c in killmatrix.matrix(killmatrix.corpus("round", name)) if c.checker == "forced-coins")
        assert cell.absent == "the kernel draws its own coins"
    assert drawn


def test_time_is_limited(monkeypatch, tmp_path):
    def slow(name, setting):
        try:
            time.sleep(20)
        except Exception as error:  # a judgement that catches what its subject raises
            return {"verdict": Kind.REFUTED, "reason": str(error)}

    monkeypatch.setitem(killmatrix._CHECKS, ("decoder", "exact"), slow)
    (cell, _) = killmatrix.matrix(killmatrix.corpus("decoder", "inverted-ratio"))
    start = time.perf_counter()
    # It waits: by the clock, ten times that.
    (row,) = killmatrix.run((cell,), killmatrix.Setting(limit=0.2), tmp_path, jobs=1)
    assert 1.5 < time.perf_counter() - start < 10
    assert (row["outcome"], row["reason"]) == (
        "out of time",
        "stopped after 0.2 s; the same command with a larger --limit tries again",
    )
    assert not testers.sound(row)


def test_the_limit_is_in_seconds_of_the_processor(monkeypatch, tmp_path):
    def computes(name, setting):
        while True:
            pass

    monkeypatch.setitem(killmatrix._CHECKS, ("decoder", "exact"), computes)
    (cell, _) = killmatrix.matrix(killmatrix.corpus("decoder", "inverted-ratio"))
    start = time.process_time()
    (row,) = killmatrix.run((cell,), killmatrix.Setting(limit=0.5), tmp_path, jobs=1)
    assert row["outcome"] == "out of time"
    assert 0.4 < time.process_time() - start < 1.5


def test_a_checker_that_breaks_down_is_an_outcome(monkeypatch):
    monkeypatch.setitem(killmatrix._CHECKS, ("decoder", "exact"), lambda name, setting: 1 / 0)
    (cell, _) = killmatrix.matrix(killmatrix.corpus("decoder", "inverted-ratio"))
    row = killmatrix.carry_out(cell, QUICK)
    assert (row["outcome"], row["reason"]) == ("error", "ZeroDivisionError: division by zero")
    assert not testers.passed([row])


def test_the_command_lists(run, tmp_path):
    code, out, err = run("defects", "--level", "decoder", "--json", tmp_path / "new" / "list.json")
    assert (code, err) == (0, "")
    for name in defects.names():
        assert f"{name} (decoder, {defects.get(name).category})\n" in out
    lossy = sum(defects.get(name).lossy for name in defects.names())
    assert f"{lossy} defects and {len(defects.names()) - lossy} controls; --run tries the checkers on them" in out
    within = sum(defects.get(name).within_rounding for name in defects.names())
    assert within == 1, "few may be left to the enumeration"
    assert out.count("\n    caught by: exact") == lossy
    assert out.count("\n    caught by: exact, judge_decoder") == lossy - within
    listed = json.loads((tmp_path / "new" / "list.json").read_text())
    assert [one["id"] for one in listed] == list(defects.names())
    assert {"level", "category", "conditions", "source", "mechanism"} <= set(listed[0])


def test_the_command_runs_the_matrix_in_processes(run, tmp_path):
    file = tmp_path / "rows.json"
    code, out, err = run("defects", "--run", "--level", "round", "--only", "lenience", "--jobs", "1", "--json", file)
    assert (code, err) == (0, "")
    found = json.loads(file.read_text())
    assert [(row["checker"], row["outcome"]) for row in found] == [
        ("standard", "caught"),
        ("forced-coins", "caught"),
        ("nan-rows", "not applicable"),
    ]
    assert "1 of 1 caught by a checker that they name; 0 of 0 trials of controls" in out


def test_many_checkers_stand_below_each_other(run, monkeypatch):
    monkeypatch.setattr(pool, "share_out", here)
    for level, checker in list(killmatrix._CHECKS):
        if level == "continuous":
            told = {"verdict": Kind.REFUTED, "reason": "so", "n": 7}
            monkeypatch.setitem(killmatrix._CHECKS, (level, checker), lambda *_, told=told: dict(told))
    code, out, err = run("defects", "--run", "--level", "continuous", "--only", "*cap*")
    assert (code, err) == (0, "")
    lines = [line.split() for line in out.splitlines()]
    assert lines[1:4] == [
        ["defect", "checker", "outcome"],
        ["cspd-trial-cap-zero", "density", "caught:", "n", "7,", "0.0", "s"],
        ["rosenblatt", "caught:", "n", "7,", "0.0", "s"],
    ]
    assert "4 of 4 caught by a checker that they name" in out


def test_an_interrupted_matrix_goes_on(run, monkeypatch, tmp_path):
    def stop(*_):
        raise KeyboardInterrupt

    def told(*_):
        return {"verdict": Kind.REFUTED, "reason": "so"}

    def again(*_):
        raise AssertionError("this was finished")

    monkeypatch.setattr(pool, "share_out", here)
    monkeypatch.setitem(killmatrix._CHECKS, ("decoder", "exact"), told)
    monkeypatch.setitem(killmatrix._CHECKS, ("decoder", "judge_decoder"), stop)
    arguments = ("defects", "--run", "--level", "decoder", "--only", "inverted-*", "--json", tmp_path / "rows.json")
    code, out, err = run(*arguments)
    assert (code, out) == (130, "")
    kept = "out/defects-seed0/defects.json"
    assert err == f"interrupted: the rows so far are in {kept}; the same command continues\n"
    for rows in (json.loads((tmp_path / kept).read_text())["rows"], json.loads((tmp_path / "rows.json").read_text())):
        assert [(row["checker"], row["outcome"]) for row in rows] == [("exact", "caught")]
    monkeypatch.setitem(killmatrix._CHECKS, ("decoder", "exact"), again)
    monkeypatch.setitem(killmatrix._CHECKS, ("decoder", "judge_decoder"), told)
    assert run(*arguments)[0] == 0
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert [(row["checker"], row["outcome"]) for row in rows] == [("exact", "caught"), ("judge_decoder", "caught")]
    monkeypatch.setitem(killmatrix._CHECKS, ("decoder", "judge_decoder"), again)
    assert run(*arguments)[0] == 0  # all was there
    code, out, err = run(*arguments[:-2], "--delta", 0.1, "--shard", "2/2")
    assert (code, out) == (0, "")  # `here` announces nothing
    assert err.startswith("shard 2/2 is done: 1 of 2 cells are in out/defects-delta0.1-seed0, and no record yet; ")


def test_what_is_known_of_continuous_tokens_is_listed(run):
    code, out, err = run("defects", "--level", "continuous")
    assert (code, err) == (0, "")
    assert out.count("(continuous, continuous)") == 6
    words = " ".join(out.split())
    assert "tried on gauss-1x6, window 1, draft law near" in words
    assert "caught by: density, repeats, cap" in words
    assert "6 defects and 1 control;" in words


def test_a_blind_checker_is_found_out(run, monkeypatch):
    monkeypatch.setattr(pool, "share_out", here)
    monkeypatch.setitem(  # leaves the exact checker, which takes no time
        killmatrix._CHECKS, ("decoder", "judge_decoder"), lambda *_: {"verdict": Kind.REFUTED, "reason": "it is"}
    )
    arguments = ("defects", "--run", "--level", "decoder", "--only", "inverted-ratio")
    assert run(*arguments)[0] == 0
    monkeypatch.setitem(
        killmatrix._CHECKS, ("decoder", "exact"), lambda name, setting: {"verdict": Kind.PROVED, "reason": "blind"}
    )
    code, out, _ = run(*arguments, "--overwrite")
    assert code == 1
    assert "inverted-ratio: missed by exact: blind" in out
    assert "1 of 2 caught by a checker that they name" in out


def test_a_checker_that_refutes_everything_is_found_out(run, monkeypatch):
    monkeypatch.setattr(pool, "share_out", here)
    for key in (("round", "standard"), ("round", "forced-coins")):
        monkeypatch.setitem(
            killmatrix._CHECKS, key, lambda name, setting: {"verdict": Kind.REFUTED, "reason": "why not"}
        )
    code, out, _ = run("defects", "--run", "--level", "round", "--only", "token-rule")
    assert code == 1
    assert "token-rule: flagged by standard: why not" in out
    assert "2 of 2 trials of controls" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--only", "zzz*"), "no defect matches 'zzz*'; `specverify defects` lists them"),
        (("--only", "zzz*", "--level", "round"), "no defect at level round matches 'zzz*'"),
        (("--run", "--only", "lenience", "--jobs", "0"), "cannot work with 0 jobs; use at least 1"),
        (("--run", "--only", "lenience", "--seed", "-1"), "seed -1 is negative; use an integer of at least 0"),
        (("--run", "--only", "lenience", "--delta", "0"), "delta is 0.0; a discrepancy"),
        (("--run", "--only", "lenience", "--seconds", "0"), "seconds is 0.0; use a positive number"),
        (("--shard", "1/2"), "--out, --overwrite and --shard are about the rows of --run; give it too"),
        (("--run", "--only", "lenience", "--shard", "2"), "shard '2' is not I/N with I from 1 to N; write --shard 1/3"),
        (("--level", "trace"), "unknown --level 'trace'; known: decoder, round, sampler, continuous"),
        (("--json", "/dev/null/list.json"), "cannot write to /dev/null/list.json: "),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(run, arguments, message):
    code, out, err = run("defects", *arguments)
    assert (code, out) == (3, "")
    assert err.startswith(f"error: {message}")
    assert err.count("\n") == 1


def test_levels_have_names():
    with pytest.raises(InputError, match="unknown level 'kernel'; known: decoder, round, sampler, continuous"):
        killmatrix.corpus("kernel")
