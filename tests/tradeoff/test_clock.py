"""Seconds beside plain decoding's: their intervals hold where a machine drifts, and they say what they rest on."""

import math

import numpy as np
import pytest

from specverify.evidence.design import rate_excess
from specverify.tradeoff import clock, measure
from specverify.tradeoff import record as records
from specverify.tradeoff.plan import AR, LOSSLESS, Cell
from specverify.tradeoff.setting import SINGLE, Setting, places
from tests.tradeoff.by_hand import row

TRIALS, DRIFT, NOISE = 300, 0.15, 0.02


def drifting(generator):
    """A sweep whose runs each have a drift of their own, which all images of a run share; all take as long a pass."""
    rows = []
    for number in range(8):
        rule = AR if number < 2 else "timid"
        speedup = 1.0 if rule == AR else 1 + 0.5 * number
        each = np.exp(generator.normal() * DRIFT + NOISE * generator.normal(size=8)) / speedup
        seconds = {"seconds_per_image": float(each.mean()), "seconds_alone": float(each.mean())}
        times = {"seconds_per_image": each.tolist(), "seconds_alone": each.tolist()}
        value = None if rule == AR else float(number)
        rows.append(row(rule, number, speedup, None if rule == AR else 0.0, value=value, times=times, **seconds))
    return rows


def test_intervals_hold_where_runs_drift_and_images_of_a_run_agree(record, seed):
    missed = before = 0
    for trial in range(TRIALS):
        rows = drifting(np.random.default_rng([seed, trial]))
        own = rows[-1]
        low, high = clock.pace(record | {"rows": rows}, own, "seconds_alone").within
        missed += not low <= 4.5 <= high
        logs = [np.log(one["times"]["seconds_alone"]) for one in (rows[0], rows[1], own)]
        plain, reach = np.concatenate(logs[:2]), 0.0
        reach = 2 * math.sqrt(plain.var(ddof=1) / len(plain) + logs[2].var(ddof=1) / len(logs[2]))
        before += abs(plain.mean() - logs[2].mean() - math.log(4.5)) > reach
    assert rate_excess(int(missed), TRIALS, 0.05) > 1e-4, missed
    assert before > 0.3 * TRIALS  # images pooled over runs


def test_what_the_plain_runs_differ_by_is_in_every_interval(record):
    """Nothing else of the record moves."""
    narrow = clock.pace(record, record["rows"][3], "seconds_alone")
    for one, factor in zip(record["rows"][1:3], (0.75, 1.25), strict=True):
        one["seconds_alone"] *= factor
    wide = clock.pace(record, record["rows"][3], "seconds_alone")
    assert wide.value == pytest.approx(narrow.value)
    apart = math.log(1.25 / 0.75) / math.sqrt(2)
    assert wide.deviation > apart / math.sqrt(2)
    assert wide.deviation > narrow.deviation
    assert "two plain runs differ by up to 67% alone;" in clock.basis(record)


def test_what_images_leave_open_of_the_passes_is_in_every_interval(record):
    own = record["rows"][3]
    narrow = clock.pace(record, own, "seconds_alone").deviation
    own["metrics"]["speedup"]["interval"] = [2.0, 4.5]
    spread = math.log(4.5 / 2.0) / (2 * 1.96)
    assert clock.pace(record, own, "seconds_alone").deviation == pytest.approx(math.hypot(narrow, spread), rel=0.01)


def test_a_factor_below_one_is_said_to_be_slower_and_one_that_was_not_repeated_has_no_interval():
    words = [clock.Pace(value, deviation, 30).words() for value, deviation in ((0.5, 0.1), (0.9, 0.2), (1.1, 0.2))]
    assert [one.partition("]")[2] for one in words] == [" (slower)", " (perhaps slower)", ""]
    alone = clock.Pace(0.5, None, 0)
    assert (alone.words(" times as fast"), alone.within, alone.slowest(3)) == ("0.5 times as fast (slower)", None, None)
    rows = [row(AR, 0), row(LOSSLESS, 2, 3.0, 0.0)]
    record = {"rows": rows, "tokens": "codes"}
    assert clock.drift(record, "seconds_alone") is None
    assert clock.pace(record, rows[1], "seconds_alone") == clock.Pace(1.0, None, 0)
    assert clock.pace(record, rows[0], "seconds_alone") is None  # beside no other


def test_images_alone_are_of_all_classes_and_earlier_records_say_that_theirs_are_of_one(record, tmp_path):
    assert places(range(10)) == list(range(10))
    assert places(range(3)) == [0, 1, 2, 0, 1, 2, 0, 1, 2, 0]
    assert places(range(1000)) == list(range(0, 1000, 100))
    found = measure.carry_out(Cell(AR, 1.0), Setting(n=66, window=8, batch=40, resamples=20))
    assert found["times"]["labels_alone"] == list(range(10))
    assert len(found["times"]["seconds_alone"]) == SINGLE
    assert "on 3 images decoded alone, all of the first class, scaled to" in clock.basis(record)
    records.save(record, tmp_path / "tradeoff.json")
    assert records.load(tmp_path) == record  # as it was before classes were noted
    for one in record["rows"]:
        one["times"]["labels_alone"] = [0, 1, 2]
    records.save(record, tmp_path / "tradeoff.json")
    assert "on 3 images decoded alone, of different classes, scaled to" in clock.basis(records.load(tmp_path))
    assert "rest on 2 batches of 50," in clock.basis(record)
