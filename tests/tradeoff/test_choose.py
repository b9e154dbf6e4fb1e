"""Choosing a setting from a table made by hand."""

import math

import numpy as np
import pytest
from scipy import stats

from specverify.errors import InputError
from specverify.tradeoff import choose, remarks, tables
from specverify.tradeoff.plan import AR, LOSSLESS
from tests.tradeoff.by_hand import REPLICATES, row


def test_the_fastest_within_a_loss_is_judged_by_its_upper_limit(record):
    (choice,) = choose.fastest(record, 0.1)
    assert choice.chosen.id == "guidance-1/maximal/timid/k=1"  # k=2 has 0.09 + 2.34 * 0.01
    assert (choice.compared, choice.images) == (5, 100)
    reach = stats.t.isf(0.05 / 5, REPLICATES - 1)  # five settings at once
    assert choice.chosen.most == pytest.approx(0.05 + reach * 0.01, abs=1e-4)
    assert choice.chosen.slowest == pytest.approx(3.5 - reach * 0.05, abs=1e-3)
    assert choice.chosen.satisfies == 1
    assert [one.id.split("/", 2)[2] for one in choice.others] == ["bold", "timid/k=2", "lossless"]
    bold = choice.others[0]
    within = np.array(record["rows"][6]["metrics"]["bias"]["replicates"]) <= 0.1
    assert bold.satisfies == pytest.approx(within.mean())
    assert bold.best == pytest.approx(within.mean())  # where it is within the limit, nothing is faster
    total = choice.chosen.best + sum(one.best for one in choice.others)
    assert total == pytest.approx(1)


def test_a_price_that_is_known_by_few_steps_has_a_wider_limit_and_one_that_is_not_is_in_no_answer(record):
    (before,) = choose.fastest(record, 0.1)
    for one in record["rows"]:
        if "bias" in one["metrics"]:
            one["looked"] = 30
    (choice,) = choose.fastest(record, 0.1)
    assert choice.chosen.id == before.chosen.id
    assert choice.chosen.most == pytest.approx(0.05 + stats.t.isf(0.05 / 5, 29) * 0.01, abs=1e-4)
    assert choice.chosen.most > before.chosen.most
    assert choice.chosen.slowest == before.chosen.slowest
    next(one for one in record["rows"] if one["id"] == before.chosen.id)["metrics"].pop("bias")
    (choice,) = choose.fastest(record, 0.1)
    assert choice.chosen.id != before.chosen.id
    assert f"Too few steps of {before.chosen.id} were priced" in remarks.unmeasured(record)
    for one in record["rows"]:
        one["metrics"].pop("bias", None)
    with pytest.raises(InputError, match="no setting's bias is known: too few of its steps were priced"):
        choose.fastest(record, 0.1)


def test_the_least_lossy_at_a_speed_up_is_judged_by_its_lower_limit(record):
    (choice,) = choose.least_lossy(record, 3.95)
    assert choice.chosen.id == "guidance-1/maximal/bold"  # k=2 is at 4.0 - 2.34 * 0.05
    assert choice.others[0].id == "guidance-1/maximal/timid/k=2"
    assert 0.5 < choice.others[0].satisfies < 0.95
    (easy,) = choose.least_lossy(record, 2.0)
    assert easy.chosen.id == "guidance-1/maximal/lossless"


def test_a_question_without_an_answer_names_what_comes_nearest(record):
    (choice,) = choose.least_lossy(record, 50)
    assert choice.chosen is None
    assert choice.nearest.id == "guidance-1/maximal/wild"
    assert choice.others == ()
    assert choice.nearest.needed is None  # it is too slow on any number of images
    record["rows"] = [row for row in record["rows"] if row["rule"] != LOSSLESS]
    (choice,) = choose.fastest(record, 0.001)
    assert choice.chosen is None
    assert choice.nearest.id == "guidance-1/maximal/timid/k=1"
    (choice,) = choose.fastest(record, 0.06)
    assert choice.chosen is None
    reach = stats.t.isf(0.05 / 4, REPLICATES - 1) * 0.01  # the limit is 0.01 away, and shrinks as 1 / sqrt(n)
    assert choice.nearest.needed == pytest.approx(100 * (reach / 0.01) ** 2, rel=0.02)


def test_what_is_known_to_be_wrong_is_never_recommended(record):
    fast = row("gsd-released", 8, 9.0, 0.001)
    record["rows"].append(fast)
    for choice in (*choose.fastest(record, 0.1), *choose.least_lossy(record, 2)):
        named = [choice.chosen, choice.nearest, choice.free, *choice.others]
        assert fast["id"] not in [one.id for one in named if one is not None]
        assert choice.compared == 5
    assert "gsd-released" not in [line.cells[2] for line in tables.frontier(record).rows]
    assert "never recommended: gsd-released" in tables.frontier(record).intro
    assert "gsd-released (known wrong)" in [line.cells[2] for line in tables.speed(record).rows]


def test_losses_of_image_quality_are_against_both_ar_runs(record):
    found = choose.loss(record, record["rows"][6], "fd")
    assert found.value == pytest.approx(2.0)
    assert found.replicates.std() == pytest.approx(math.sqrt(0.1**2 + 0.1**2 / 2), rel=0.25)
    assert tables.distances(record, record["rows"][6])[1].startswith(r"2.00 [1.7")
    assert tables.distances(record, record["rows"][1])[1].startswith("-0.20 [")  # AR against its other run
    assert choose.loss(record, record["rows"][7], "accuracy").value == pytest.approx(0.48)
    (choice,) = choose.fastest(record, 0.5, "fd")
    assert choice.chosen.id == "guidance-1/maximal/timid/k=2"
    record["rows"] = [row for row in record["rows"] if row["rule"] != AR]
    with pytest.raises(InputError, match="AR at its guidance was not measured"):
        choose.loss(record, record["rows"][3], "fd")


def test_each_guidance_has_an_answer_of_its_own(record):
    record["rows"] += [
        row(AR, 0, guidance=2.0),
        row(AR, 1, guidance=2.0),
        row("wild", 7, 6.0, 0.02, guidance=2.0),
    ]
    answers = {choice.guidance: choice.chosen.id for choice in choose.fastest(record, 0.1)}
    assert answers == {1.0: "guidance-1/maximal/timid/k=1", 2.0: "guidance-2/maximal/wild"}


def test_questions_that_make_no_sense_are_refused(record):
    with pytest.raises(InputError, match="unknown metric 'beauty'; known: bias, surprisal"):
        choose.fastest(record, 0.1, "beauty")
    with pytest.raises(InputError, match="max loss -1"):
        choose.fastest(record, -1)
    with pytest.raises(InputError, match="min speed-up 0"):
        choose.least_lossy(record, 0)


# ---- record and report


def test_the_frontier_holds_what_nothing_beats(record):
    record["rows"].append(row("beaten", 8, 4.5, 0.3))
    assert {"FD at n = 100", "FD above AR", "lock-step, 64"} < set(tables.frontier(record).headings)
    rules = [(line.cells[2], line.cells[3]) for line in tables.frontier(record).rows]
    assert rules == [("wild", "–"), ("bold", "–"), ("timid", "k 2"), ("timid", "k 1"), ("lossless", "–")]


def test_a_rule_without_effect_is_told_and_no_choice(record):
    plain = next(one for one in record["rows"] if one["rule"] == LOSSLESS)
    priced = [one for one in record["rows"] if "bias" in one["metrics"]]
    for one in priced:
        one["metrics"]["gain"] = one["metrics"]["excess"]
    assert choose.idle(record) == []
    assert choose.without_effect(record) == ""
    alike = plain | {"id": "guidance-1/maximal/gsd/size=2", "rule": "gsd", "claim": "relaxed(tv<=1)"}
    moved = record | {"rows": [*record["rows"], alike, alike | {"id": "elsewhere", "drafting": "independent"}]}
    assert [one["id"] for one in choose.idle(moved)] == ["guidance-1/maximal/gsd/size=2"]
    assert len(choose.settings(moved)) == len(choose.settings(record)) + 1
    assert "maximal/gsd/size=2. No draft was kept that the token rule rejects" in choose.without_effect(moved)
    assert any(said.startswith("Without effect on this model") for said in remarks.remarks(moved, []))
    assert all(line.cells[1] != "gsd" for line in tables.frontier(moved).rows if "independent" not in line.cells)
