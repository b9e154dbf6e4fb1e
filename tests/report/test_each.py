"""A section for each method: it says what the first screen says, in full, and how to see it again."""

from fnmatch import fnmatchcase

import pytest

from specverify.report import each, methods
from specverify.report import record as records
from tests.report.test_testers import REFERENCE


@pytest.fixture(scope="module")
def reference():
    return records.load(REFERENCE)


@pytest.fixture(scope="module")
def sections(reference):
    return {one.title: one for one in each.each(reference)}


def test_every_row_of_the_first_screen_leads_to_a_section_with_its_verdict(reference, sections):
    rows = methods.methods(reference).rows
    assert [(row.cells[0], row.cells[2], row.link) for row in rows] == [
        (one.title, one.kind, one.name) for one in sections.values()
    ]
    assert len({row.link for row in rows}) == len(rows) > 30


def test_a_section_lists_each_check_with_its_rates_and_how_often_it_rejected(reference, sections):
    (table,) = sections["SJD"].tables
    cells = [cell for cell in reference["cells"] if cell["decoder"] == "sjd" and cell["expected"] is None]
    found = [e for cell in cells if cell["kind"] in ("real", "sampled") for e in cell["evidence"]]
    assert {(row.cells[1], row.cells[2]) for row in table.rows} == {(e["check"], e["metric"]) for e in found}
    assert sum(int(row.cells[3]) for row in table.rows) == len(found)
    joint = dict(zip(table.headings, next(row for row in table.rows if "joint" in row.cells[1]).cells, strict=True))
    assert (joint["n"], joint["delta"], joint["beta"], joint["rejected"]) == ("600,000", "0.0149", "1e-06", "0")


def test_a_lossless_method_says_how_far_its_exact_laws_are_and_on_what(sections):
    facts = dict(sections["SCD (maximal coupling)"].facts)
    assert facts["Published"] == "arXiv:2510.24211"
    assert "on 26 toys in 78 settings" in facts["Exact law"]
    assert facts["scd-mc: PROVED-FOR-ALL"].startswith("for every law of the target, zeros included")
    assert "2.74) times fewer forward passes" in facts["Cost on a real model"]


def test_a_relaxed_rule_has_its_price_on_each_toy_over_all_its_settings(reference, sections):
    (table,) = sections["GSD"].tables
    assert table.title == "What it costs, exactly"
    one = dict(zip(table.headings, table.rows[0].cells, strict=True))
    tv = [
        cell["exact"]["tv"]
        for cell in reference["cells"]
        if cell["kind"] == "relaxed" and (cell["settings"]["rule"], cell["model"]) == (one["rule"], one["toy"])
    ]
    assert int(one["settings"]) == len(tv) > 1
    assert one["exact TV"] == f"{min(tv):.3g} to {max(tv):.3g}"
    assert len(table.rows) == len({(row.cells[0], row.cells[1]) for row in table.rows}) == 4 * 3


def test_a_method_that_was_released_wrong_shows_where(sections):
    *_, table = sections["SCD (as released)"].tables
    assert table.title == "Where it is wrong"
    assert {row.cells[0] for row in table.rows} == {"stale-scores-after-coupling"}
    assert {row.kind for row in table.rows} == {"REFUTED"}
    assert all("--only" in row.reproduce for row in table.rows)


def test_the_lines_of_a_section_carry_out_all_its_cells_again(reference):
    for found in methods.found(reference):
        lines = {each._command(cell) for cell in found.cells}
        patterns = [line.partition("--only ")[2].strip("'") for line in lines]
        assert all(patterns)
        for cell in found.cells:
            assert any(fnmatchcase(cell["id"], pattern) for pattern in patterns), cell["id"]


def test_a_check_that_rejected_stands_out(example):
    record = example["record"]()
    rejected = [c for c in record["cells"] if any(e["rejected"] for e in c["evidence"]) and c["expected"] is None]
    assert rejected
    marked = [row for one in each.each(record) for t in one.tables if t.title == "Statistical checks" for row in t.rows]
    assert sum(int(row.cells[8]) for row in marked if row.bad) >= 1
    assert all((row.cells[8] != "0") == (row.bad == (8,)) for row in marked)
