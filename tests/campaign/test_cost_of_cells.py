"""What cells say of their cost, made by the cells themselves: against the exact cost, and as the report prints it."""

import math

import numpy as np
import pytest

from specverify.cell import Cell
from specverify.cells import carry_out, checks
from specverify.kinds.kind import Setting
from specverify.report import tables_runs
from specverify.report.tables import interval, number

N = 16_384
TOY, LENGTH = "dense-3x6", 6
RUNS = {
    "ar": Cell("sampled", "ar", TOY, n=N),
    "sd": Cell("sampled", "sd", TOY, 3, draft="perturbed", n=N),
    "sjd": Cell("sampled", "sjd", TOY, 3, "repeat-left", n=N),
    "scd-mc": Cell("sampled", "scd-mc", TOY, 3, "repeat-left", n=N),
}


@pytest.fixture(scope="module")
def carried():
    """Every run with the enumeration of the same decoder."""
    found = {}
    for name, cell in RUNS.items():
        alphas = {f"{cell.id}: {check}": 1e-9 for check in checks(cell)}
        exact = Cell("exact", name, TOY, cell.window, cell.initial, cell.draft)
        found[name] = [carry_out(one, Setting("quick", 0, "cpu", alphas)) for one in (cell, exact)]
    return found


def deviation(result):
    """The standard deviation of a sequence's passes, from those that were counted."""
    passes = result["figures"]["passes"]
    return float(np.std(np.repeat(passes["values"], passes["counts"]), ddof=1))


@pytest.mark.parametrize("name", RUNS)
def test_passes_are_those_that_were_counted_and_those_of_the_enumeration(carried, name):
    result, exact = carried[name]
    run, counted = result["run"], result["figures"]["passes"]
    assert run["passes_mean"] == pytest.approx(np.average(counted["values"], weights=counted["counts"]))
    assert sum(counted["counts"]) == run["n"] == N
    error = deviation(result) / math.sqrt(N)
    assert abs(run["passes_mean"] - exact["exact"]["passes"]) <= 5 * error + 1e-9  # 6e-7 of normal errors
    ends = [run["passes_mean"] - 1.96 * error, run["passes_mean"] + 1.96 * error]
    assert run["passes_interval"] == pytest.approx(ends)


@pytest.mark.parametrize("name", RUNS)
def test_step_compression_is_how_many_passes_of_plain_decoding_one_pass_replaces(carried, name):
    plain, run = carried["ar"][0]["run"], carried[name][0]["run"]
    assert plain["passes_mean"] == LENGTH
    assert run["step_compression"] == pytest.approx(plain["passes_mean"] / run["passes_mean"])
    assert run["step_compression"] > 1.1 or name == "ar"
    alone, *waiting = (one["speedup"] for one in run["lock_step"])
    assert alone == pytest.approx(run["step_compression"], rel=1e-6)
    assert all(speed <= alone * (1 + 1e-9) for speed in waiting)


@pytest.mark.parametrize("name", RUNS)
def test_acceptance_is_that_of_the_enumeration_and_of_the_branches(carried, name):
    run, exact = (result[part] for result, part in zip(carried[name], ("run", "exact"), strict=True))
    if name == "ar":
        assert run["acceptance_rate"] is run["acceptance_interval"] is exact["acceptance_rate"] is None
        return
    (low, high), rate = run["acceptance_interval"], exact["acceptance_rate"]
    assert (low + high) / 2 == pytest.approx(run["acceptance_rate"])
    assert abs(run["acceptance_rate"] - rate) <= 5 * (high - low) / 3.92
    assert 0.5 < (high - low) / 3.92 / math.sqrt(rate * (1 - rate) / exact["verified"] / N) < 2
    for branch, expected in exact["branches"].items():
        assert run["branches"][branch] / N == pytest.approx(expected, abs=5 * LENGTH / 2 / math.sqrt(N))


def test_the_report_prints_what_the_cells_say(carried):
    results = [result for pair in carried.values() for result in pair]
    table = tables_runs.runs({"cells": results})
    assert [row.cells[0] for row in table.rows] == [cell.id for cell in RUNS.values()]
    columns = [heading.rstrip("#") for heading in table.columns]
    for row, (result, _) in zip(table.rows, carried.values(), strict=True):
        said, run = dict(zip(columns, row.cells, strict=True)), result["run"]
        assert said["NFE"] == number(run["passes_mean"]) + interval(run["passes_interval"])
        assert said["step compression"] == number(LENGTH / run["passes_mean"], 3)
        assert said["sequences"] == number(N)
        assert float(said["seconds"].replace(",", "")) > 0
