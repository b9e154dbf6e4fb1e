"""The gate: what got worse between two records is told and fails; noise does not."""

import copy
import io
import json

import numpy as np
import pytest
import rich.console
from scipy.stats import norm

from specverify import cli, cli_compare, compare
from specverify.errors import InputError
from specverify.report import record as records


def _change(record, kind, **parts):
    """The record with one cell of that kind changed, and the cell's id."""
    new = copy.deepcopy(record)
    cell = next(c for c in new["cells"] if c["kind"] == kind)
    for name, value in parts.items():
        cell[name] = cell[name] | value
    return new, cell["id"]


def test_a_record_is_as_it_is(record):
    assert compare.campaigns(record, copy.deepcopy(record)) == []
    assert compare.told([]) == "nothing changed beyond noise"


@pytest.mark.parametrize(
    ("old", "new", "sign"),
    [("PROVED", "REFUTED", "worse"), ("PROVED", "CONSISTENT", "worse"), ("INCONCLUSIVE", "CONSISTENT", "better")],
)
def test_verdicts_have_an_order(record, old, new, sign):
    one, where = _change(record, "exact", verdict={"kind": old})
    other, _ = _change(record, "exact", verdict={"kind": new})
    assert compare.campaigns(one, other) == [compare.Change(sign, where, "verdict", old, new)]


def test_a_known_wrong_decoder_that_is_no_longer_refuted_is_a_regression(record):
    caught, where = _change(record, "defect", verdict={"kind": "REFUTED"})
    missed, _ = _change(record, "defect", verdict={"kind": "PROVED"})
    assert [c.sign for c in compare.campaigns(caught, missed)] == ["worse"]
    assert [c.sign for c in compare.campaigns(missed, caught)] == ["better"]
    assert compare.campaigns(caught, missed)[0].where == where


def test_exact_figures_are_compared_beyond_rounding(record):
    cell = next(c for c in record["cells"] if c["kind"] == "exact" and c["exact"])
    passes = cell["exact"]["passes"]
    for factor, signs in ((1 + 1e-12, []), (1.001, ["worse"]), (0.999, ["better"])):
        new, _ = _change(record, "exact", exact={"passes": passes * factor})
        assert [c.sign for c in compare.campaigns(record, new)] == signs


def test_a_cell_that_is_gone_is_a_regression_and_a_new_one_is_told(record):
    fewer = record | {"cells": record["cells"][1:]}
    assert [(c.sign, c.what, c.new) for c in compare.campaigns(record, fewer)] == [("worse", "covered", "no")]
    assert [(c.sign, c.what, c.new) for c in compare.campaigns(fewer, record)] == [("other", "covered", "yes")]


def test_that_one_record_is_a_part_of_its_plan_alone_is_told(record):
    part = record | {"status": "partial", "cells": record["cells"][1:]}
    first, *_ = compare.campaigns(part, record)
    assert first == compare.Change("other", "the record", "status", "partial", "complete")
    assert compare.campaigns(part, copy.deepcopy(part)) == []


def test_seconds_are_told_and_fail_nothing(record):
    cell = next(c for c in record["cells"] if c["kind"] == "real" and c["run"])
    new = copy.deepcopy(record)
    slower = next(c for c in new["cells"] if c["id"] == cell["id"])
    slower["run"]["seconds"] *= 2
    changes = compare.campaigns(record, new)
    assert [(c.sign, c.what) for c in changes] == [("other", "seconds per image")]


def test_equal_measured_figures_differ_as_rarely_as_stated_and_real_differences_show():
    """alpha = 1% for all 40 figures together; a shift of 8 standard errors of one is missed with chance below 1e-4."""
    rng = np.random.default_rng(7)
    figures = [f"m{number}" for number in range(40)]

    def drawn(shift=0.0):
        found = {name: compare.Figure(float(rng.normal()), 1.0, more_is_better=False) for name in figures}
        first = found["m0"]
        return found | {"m0": compare.Figure(first.value + shift, first.error, more_is_better=False)}

    trials = 3_000
    alarms = sum(any(True for _ in compare._measured([("x", drawn(), drawn())])) for _ in range(trials))
    assert alarms <= norm.isf(1e-6) * (trials * 0.01 * 0.99) ** 0.5 + trials * 0.01
    seen = [list(compare._measured([("x", drawn(), drawn(12.0))])) for _ in range(50)]
    assert all(any(c.what == "m0" and c.sign == "worse" for c in found) for found in seen)


SETTING = {"model": "digits-s", "n": 400, "window": 8, "batch": 100}


def swept(value, *names, setting=SETTING, **said):
    metrics = {name: {"value": value, "interval": [value - 0.01, value + 0.01]} for name in names}
    rows = [{"id": "a", "error": None, "metrics": metrics}]
    return {"status": "complete", "length": 64, "setting": setting, "rows": rows, **said}


@pytest.mark.parametrize(
    ("name", "sign"),
    [
        ("speedup", "better"),
        ("lockstep-8", "better"),
        ("acceptance", "better"),
        ("gain", "better"),
        ("accuracy", "better"),
        ("coverage", "better"),
        ("fd", "worse"),
        ("bias", "worse"),
        ("excess", "worse"),
        ("passes", "worse"),
        ("surprisal", "worse"),
        ("recall", "other"),
    ],
)
def test_more_is_better_of_speed_and_worse_of_distances(name, sign):
    assert [c.sign for c in compare.sweeps(swept(1.0, name), swept(2.0, name))] == [sign]
    assert compare.sweeps(swept(1.0, name), swept(1.001, name)) == []
    exact = [swept(value, name) for value in (4e-10, 5e-9)]
    for one in exact:  # which rounding alone moves
        one["rows"][0]["metrics"][name]["interval"] = [0.0, 0.0]
    assert compare.sweeps(*exact) == []


def test_signs_of_figures_count():
    """An unbiased distance below 0 is no larger one, and a surprisal that is off the other way is another one."""
    assert [c.sign for c in compare.sweeps(swept(-0.2, "surprisal"), swept(0.2, "surprisal"))] == ["other"]
    assert [c.sign for c in compare.sweeps(swept(-0.2, "surprisal"), swept(0.4, "surprisal"))] == ["worse"]
    assert [c.sign for c in compare.sweeps(swept(-0.4, "surprisal"), swept(0.2, "surprisal"))] == ["better"]
    (nearer,) = compare.sweeps(swept(0.0, "kd"), swept(-0.065, "kd"))
    assert (nearer.sign, nearer.new) == ("better", "-0.065")
    assert [c.sign for c in compare.sweeps(swept(-0.045, "kd"), swept(0.045, "kd"))] == ["worse"]


def test_checks_that_see_less_are_told(record):
    cell = next(c for c in record["cells"] if any(isinstance(e["delta"], float) for e in c["evidence"]))
    weaker = copy.deepcopy(record)
    for one in next(c for c in weaker["cells"] if c["id"] == cell["id"])["evidence"]:
        one["delta"] = 2 * one["delta"] if isinstance(one["delta"], float) else one["delta"]
    found = compare.campaigns(record, weaker)
    assert {c.sign for c in found} == {"other"}
    assert all(c.what.startswith("delta of ") and c.where == cell["id"] for c in found)
    assert compare.campaigns(weaker, record) == []


def test_distances_in_other_features_are_not_compared():
    own, others = (
        {"features": {"network": network, "axes": axes}}
        for network, axes in (("cifar-classifier", None), ("EfficientNet-Lite0", 64))
    )
    for old, new, same in (({}, own, True), (others, others, True), ({}, others, False), (own, others, False)):
        found = compare.sweeps(swept(1.0, "fd", "bias", **old), swept(2.0, "fd", "bias", **new))
        assert {c.what for c in found if c.sign == "worse"} == ({"fd", "bias"} if same else {"bias"})
        moved = [(c.sign, c.new) for c in found if c.what == "features"]
        assert moved == ([] if same else [("other", "EfficientNet-Lite0 along 64 principal axes")])


def test_a_figure_that_is_gone_is_a_regression_unless_other_things_were_asked_for():
    both, one = swept(1.0, "bias", "accuracy"), swept(1.0, "bias")
    gone = compare.Change("worse", "a", "accuracy", "1", "not measured")
    assert compare.sweeps(both, one) == [gone]
    assert compare.sweeps(one, both) == []
    smaller = swept(1.0, "bias", setting=SETTING | {"batch": 8})
    assert [(c.sign, c.what) for c in compare.sweeps(both, smaller)] == [("other", "batch"), ("other", "accuracy")]
    failed = copy.deepcopy(one)
    failed["rows"][0] |= {"error": "out of memory", "metrics": {}}
    assert [(c.sign, c.what) for c in compare.sweeps(both, failed)] == [("worse", "error")]


def test_sweeps_of_other_images_are_told_so_and_of_other_models_are_refused():
    fewer = swept(2.0, "fd", "bias", setting=SETTING | {"n": 60, "window": 4})
    found = compare.sweeps(swept(1.0, "fd", "bias"), fewer)
    assert [(c.sign, c.what, c.old, c.new) for c in found[:2]] == [
        ("other", "n", "400", "60"), ("other", "window", "8", "4"),
    ]  # fmt: skip
    assert [(c.sign, c.what) for c in found[2:]] == [("worse", "bias")]
    with pytest.raises(InputError, match="one record is of digits-s, 64 tokens, the other of llama, 64 tokens"):
        compare.sweeps(swept(1.0, "fd"), swept(1.0, "fd", setting=SETTING | {"model": "llama"}))


def test_a_file_tells_what_it_is_a_record_of(tmp_path):
    for schema, kind in (("specverify-tradeoff", "tradeoff"), ("specverify-record", "verify")):
        (tmp_path / "renamed.json").write_text(json.dumps({"schema": schema, "version": 1}))
        assert cli_compare.kind(tmp_path / "renamed.json") == kind
    (tmp_path / "other.json").write_text(json.dumps({"schema": "specverify-bench"}))
    with pytest.raises(InputError, match="is a record of bench, which is of one run"):
        cli_compare.kind(tmp_path / "other.json")


def test_the_command_exits_with_1_on_a_regression_alone(record, tmp_path, capsys):
    worse, where = _change(record, "exact", exact={"passes": 99.0})
    for name, one in (("old", record), ("new", worse)):
        (tmp_path / name).mkdir()
        records.save(one, tmp_path / name / "record.json")

    def run(*names):
        with pytest.raises(SystemExit) as ended:
            cli.main(["compare", *(str(tmp_path / name) for name in names)])
        return ended.value.code, capsys.readouterr().out

    assert run("old", "old/record.json") == (0, "nothing changed beyond noise\n")
    code, out = run("old", "new")
    assert (code, out.splitlines()[-1]) == (1, "1 worse")
    assert where in out
    assert run("new", "old")[0] == 0
    with pytest.raises(SystemExit) as ended:
        cli.main(["compare", str(tmp_path / "old"), str(tmp_path / "new"), "--json"])
    told = json.loads(capsys.readouterr().out)
    assert (ended.value.code, told["regression"], told["changes"][0]["where"]) == (1, True, where)


def test_records_of_two_kinds_are_refused(record, tmp_path, capsys):
    records.save(record, tmp_path / "record.json")
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "tradeoff.json").write_text("{}")
    with pytest.raises(SystemExit) as ended:
        cli.main(["compare", str(tmp_path / "record.json"), str(tmp_path / "sweep")])
    assert ended.value.code == 3
    assert "one of tradeoff; compare two of one kind" in capsys.readouterr().err


def test_many_changes_are_cut_on_the_terminal(monkeypatch):
    out = io.StringIO()
    monkeypatch.setattr(rich.console, "Console", lambda **_: rich_console(out))
    changes = [compare.Change("worse", f"cell-{number}", "verdict", "PROVED", "REFUTED") for number in range(60)]
    cli_compare._print(changes, compare.told(changes))
    assert "... and 20 more; --json has all" in out.getvalue()
    assert out.getvalue().endswith("60 worse\n")


_CONSOLE = rich.console.Console


def rich_console(file):
    return _CONSOLE(file=file, width=100, highlight=False)


def test_parts_that_both_records_have_are_compared(record):
    judged = {"subject": "log.npz", "level": "trace", "claim": "lossless", "seed": 3}
    trial = {"defect": "inverted-ratio", "checker": "exact"}
    rate = {"check": "PIT", "what": "misses", "on": "skew", "stated": 0.1}

    def having(kind, outcome, holds):
        return record | {
            "judgements": [judged | {"verdict": {"kind": kind, "reason": ""}}],
            "kill_matrix": {"status": "complete", "rows": [trial | {"outcome": outcome}]},
            "calibration": {"status": "complete", "rows": [rate | {"holds": holds}]},
        }

    good, bad = having("CONSISTENT", "caught", True), having("REFUTED", "missed", False)
    assert compare.campaigns(good, copy.deepcopy(good)) == []
    assert compare.campaigns(good, bad) == [
        compare.Change("worse", "log.npz, trace, lossless, seed 3", "judgement", "CONSISTENT", "REFUTED"),
        compare.Change("worse", "inverted-ratio by exact", "kill matrix", "caught", "missed"),
        compare.Change("worse", "PIT, misses, skew, 0.1", "calibration", "holds", "exceeded"),
    ]
    assert [change.sign for change in compare.campaigns(bad, good)] == ["better"] * 3
    other = good | {"judgements": [good["judgements"][0] | {"subject": "another.npz"}]}
    assert [(c.sign, c.what) for c in compare.campaigns(good, other)] == [("worse", "covered"), ("other", "covered")]
    bare = {name: part for name, part in record.items() if name not in ("judgements", "kill_matrix", "calibration")}
    found = compare.campaigns(good, bare)
    assert {(c.sign, c.where, c.old, c.new) for c in found} == {
        ("other", part, "yes", "no") for part in ("judgement", "kill matrix", "calibration")
    }


def test_an_exact_law_that_is_gone_is_a_regression(record):
    cell = next(c for c in record["cells"] if c["kind"] == "exact" and c["exact"])
    gone = copy.deepcopy(record)
    next(c for c in gone["cells"] if c["id"] == cell["id"])["exact"] = None
    assert [(c.sign, c.where, c.new) for c in compare.campaigns(record, gone)] == [("worse", cell["id"], "not known")]


def test_what_an_earlier_record_leaves_unsaid_is_no_other_setting():
    said = swept(1.0, "bias", setting=SETTING | {"dtype": "float32", "processors": "", "conditions": None})
    assert compare.sweeps(swept(1.0, "bias"), said) == []
