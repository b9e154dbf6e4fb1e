"""Relaxed rules in the report: a table of what they claim and pay, and curves."""

import copy

import pytest

from specverify.report import drawing, render, tables, tables_relaxed
from specverify.report import record as records
from specverify.report.figures_relaxed import frontier

NASTY = "<script>alert('x')</script>"
PRICE = {"acceptance": 0.8, "alpha": 0.7, "gain": 0.1, "bias": 0.12, "excess": 0.02}


def relaxed_cell(example, rule, value, tv, passes, decoder="sd", **parts):
    settings = {"window": 4, "draft": "perturbed", "rule": rule, "value": value}
    claim, kind = ("relaxed(tv<=1)", "VACUOUS") if rule.startswith("gsd") else ("lossless", "PROVED")
    made = example["cell"](
        "relaxed", decoder, "redundant-4x6", kind, f"at {tv}", settings=settings, exact=example["exact"](tv, passes)
    )
    return made | {"claim": claim, "figures": {"price": PRICE}} | parts


@pytest.fixture
def relaxed(record, example):
    changed = copy.deepcopy(record)
    changed["cells"] += [
        relaxed_cell(example, "token", None, 1e-16, 3.0),
        *(relaxed_cell(example, "gsd", size, 0.1 * size, 3 - 0.2 * size) for size in (2.0, 4.0)),
        relaxed_cell(example, "mixture", 0.1, 0.05, 2.9, "sjd", figures={}),
        relaxed_cell(example, NASTY, 0.5, 0.2, 2.0),
    ]
    records.validate(changed)
    return changed


def test_the_table_tells_claim_distance_speed_and_price(relaxed):
    table = tables_relaxed.relaxed(relaxed)
    rows = {row.cells[0]: dict(zip(table.headings, row.cells, strict=True)) for row in table.rows}
    assert len(table.rows) == 5
    assert rows["gsd"]["claim"] == "relaxed(tv<=1)"
    assert rows["gsd"]["verdict"] == "VACUOUS"
    assert (rows["gsd"]["value"], rows["gsd"]["exact TV"], rows["gsd"]["passes"]) == ("4", "0.4", "2.2")
    assert [rows["gsd"][name] for name in ("gain", "bias", "excess")] == ["0.1", "0.12", "0.02"]
    assert rows["mixture"]["gain"] == tables.UNKNOWN
    assert rows["mixture"]["slack"] == tables.UNKNOWN  # what is lossless has none to give


def test_a_bound_that_excludes_nothing_is_said_not_to_bind(relaxed):
    claims = ("relaxed(tv<=0.99999998)", "relaxed(tv<=0.41)")
    for cell, claim in zip([c for c in relaxed["cells"] if c["kind"] == "relaxed"], claims, strict=False):
        cell["claim"] = claim
        cell["exact"]["tv"] = 0.25
    table = tables_relaxed.relaxed(relaxed)
    told = [dict(zip(table.headings, row.cells, strict=True)) for row in table.rows[:2]]
    assert [(one["claim"], one["slack"]) for one in told] == [
        ("nothing that binds: tv<=0.99999998", "0.75"),
        ("relaxed(tv<=0.41)", "0.16"),
    ]


def test_relaxed_cells_are_not_counted_among_exact_ones(record, relaxed):
    for table in (tables.exact, tables.exact_summary):
        assert table(record).rows == table(relaxed).rows
    covered = {row.cells[0]: row.cells[2] for row in tables.coverage(relaxed).rows}
    assert covered["relaxed"] == "5"


def test_the_curves_are_drawn_and_named(relaxed, record):
    with drawing.drawing():
        picture = frontier(relaxed["cells"])
        assert frontier(record["cells"]) is None
    assert picture.name == "relaxed"
    assert picture.png.startswith(b"\x89PNG")
    assert "2 relaxed rules on 1 toy." in picture.alt
    assert "The prices of sjd stand in the table." in picture.caption  # there is nothing to compare them with


def test_names_are_escaped_in_the_page(relaxed):
    with drawing.drawing():
        page = render.text(relaxed, [frontier(relaxed["cells"])], html=True)
    assert "Relaxed rules" in page
    assert "The exact price of speed" in page
    assert "<script>alert" not in page
