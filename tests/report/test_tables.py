"""Tables: strings of a record's figures, nothing rounded into something else."""

import pytest

from specverify.report import (
    attention,
    judgements,
    render,
    tables,
    tables_cost,
    tables_runs,
    tables_sensitivity,
    tables_testers,
)
from specverify.report import record as records


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "–"),
        (0.0, "0"),
        (0, "0"),
        (1_000_000, "1,000,000"),
        (8192.4, "8,192"),
        (3.14159, "3.142"),
        (1e-6, "1e-06"),
        (2.345e-16, "2.345e-16"),
        (0.99996, "1"),
        ({"number": "inf"}, "inf"),
    ],
)
def test_numbers(value, shown):
    assert tables.number(value) == shown


def test_a_text_becomes_one_printable_line():
    assert tables.plain("a\nb\t\x1b[31mred\x00  c") == "a b [31mred c"


def test_cells_are_named_by_what_sets_them_apart(example):
    cells = [
        example["cell"]("real", "ar", "m", "PROVED", "", settings={"guidance": 1.5, "batch": 4}),
        example["cell"]("real", "sjd", "m", "PROVED", "", settings={"guidance": 1.0, "batch": 4, "window": 8}),
        example["cell"]("real", "sjd", "m", "PROVED", "", settings={"guidance": 1.0, "batch": 4, "window": 16}),
    ]
    labels, common = tables.distinct(cells)
    assert labels == ["ar, guidance 1.5", "sjd, W = 8, guidance 1", "sjd, W = 16, guidance 1"]
    assert common == "m, batch 4"


def test_every_row_has_a_cell_for_each_column(record):
    made = [*tables_testers.tables(record), judgements.overview(record)]
    made += [table for section in judgements.sections(record) for table in section.tables]
    made += [
        make(record)
        for make in (
            *(
                tables.verdicts,
                attention.attention,
                tables.coverage,
                tables.blind_spots,
                tables.exact_summary,
                tables.exact,
            ),
            *(
                tables.checks,
                tables.defects,
                tables_runs.runs,
                tables_sensitivity.sensitivity,
                tables.alpha,
                tables.provenance,
                lambda record: tables.other_cells(record, ()),
            ),
        )
    ]
    for table in made:
        assert table.rows, table.name
        assert {len(row.cells) for row in table.rows} == {len(table.columns)}, table.name


def test_attention_is_for_what_did_not_pass(record):
    kinds = [(row.cells[0].split("/")[0], row.cells[1]) for row in attention.attention(record).rows]
    assert ("defect", "PROVED") in kinds  # a defect that was not caught
    assert ("defect", "REFUTED") not in kinds
    assert ("exact", "ERROR") in kinds
    assert not {("exact", "PROVED"), ("exact", "VACUOUS"), ("sampled", "CONSISTENT")} & set(kinds)


def test_the_worst_cell_stands_for_its_decoder(record):
    rows = {row.cells[0]: row.cells for row in tables.exact_summary(record).rows}
    exact = [c for c in record["cells"] if c["decoder"] == "sd" and c["kind"] == "exact"]
    worst = max(exact, key=lambda c: c["exact"]["tv"])
    assert rows["sd"][3:6] == (str(len(exact)), tables.number(worst["exact"]["tv"], 3), worst["id"])


def test_every_check_is_shown_with_its_rates(record):
    rows = tables.checks(record).rows
    assert len(rows) == sum(len(c["evidence"]) for c in record["cells"])
    rejected = [row for row in rows if "REJECTED" in row.cells]
    assert len(rejected) == 1
    assert rejected[0].cells[:9] == (
        *("sampled/sjd-race/recurrent-3x6/w3", "joint", "total variation", "1,000,000"),
        *("0.0123", "1e-07", "1e-06", "1e-12", "0.0011 [0, 0.0123]"),
    )


def test_the_kill_matrix_is_a_row_for_each_subject_and_a_column_for_each_checker(record):
    found = {table.name: table for table in tables_testers.tables(record)}
    assert list(found) == [
        "kill-matrix",
        *("kill-round-defects", "kill-round-controls", "kill-decoder-defects", "kill-decoder-controls", "calibration"),
    ]
    table = found["kill-round-defects"]
    assert table.headings == ("defect", "category", "standard", "forced-coins")
    rows = {row.cells[0]: row for row in table.rows}
    assert rows["defect 0"].cells[2:] == ("caught (n 2,048, 0.50 s)", "missed, as may be (n 2,048, 0.50 s)")
    assert rows["defect 0"].bad == ()
    assert rows["defect 0"].reproduce == (
        "specverify defects --run --level round --only 'defect 0' --seed 0 --delta 0.02"
    )
    (control,) = found["kill-round-controls"].rows
    assert control.cells == ("sound", "control", "FLAGGED (n 2,048, 0.50 s)", "not applicable")
    assert control.bad == (2,)
    assert found["kill-decoder-defects"].rows[-1].cells[2] == "MISSED (TV 0.25, 0.50 s)"
    sums = {row.cells[:2]: (row.cells[2:7], row.bad) for row in found["kill-matrix"].rows}
    assert sums["round", "standard"] == (("31", "30 of 30", "0 of 0", "1 of 1", "0"), (5,))
    assert sums["round", "forced-coins"] == (("31", "0 of 0", "15 of 30", "0 of 0", "1"), ())
    assert sums["decoder", "exact"] == (("5", "3 of 4", "0 of 0", "0 of 1", "0"), (3,))


def test_checkers_that_are_too_many_to_stand_side_by_side_get_a_row_each(record, example):
    checkers = [f"checker {i}" for i in range(tables_testers.ABREAST + 1)]
    rows = [
        example["trial"]("continuous", "d", checker, outcome, named=named, tv=tv, n=n)
        for checker, outcome, named, tv, n in zip(
            checkers,
            ("caught", "missed", "missed", "caught", "not applicable"),
            (True, False, True, False, False),
            (0.0036, None, None, None, None),
            (None, 70_812, 5, 6, None),
            strict=True,
        )
    ]
    rows += [example["trial"]("continuous", "sound", checker, "not flagged", named=False) for checker in checkers]
    record["kill_matrix"]["rows"] = rows
    records.validate(record)
    found = {table.name: table for table in tables_testers.tables(record)}
    table = found["kill-continuous-defects"]
    assert table.headings == ("defect", "checker", "outcome", "exact TV", "n", "seconds", "what it said")
    assert [row.cells[:6] for row in table.rows] == [
        ("d", "checker 0", "caught", "0.0036", tables.UNKNOWN, "0.5"),
        ("d", "checker 1", "missed, as may be", tables.UNKNOWN, "70,812", "0.5"),
        ("d", "checker 2", "MISSED", tables.UNKNOWN, "5", "0.5"),
        ("d", "checker 3", "caught", tables.UNKNOWN, "6", "0.5"),
        ("d", "checker 4", "not applicable", tables.UNKNOWN, tables.UNKNOWN, "0.5"),
    ]
    assert [row.bad for row in table.rows] == [(), (), (2,), (), ()]
    assert table.rows[0].cells[6] == "what checker 0 said"
    controls = found["kill-continuous-controls"]
    assert (controls.headings[0], len(controls.rows)) == ("control", 5)


def test_paragraphs_of_an_intro_stay_apart(record):
    assert "Each row is the first token" not in render.text(record, [], html=True)
    record["cells"][0]["figures"]["density"] = {
        "tv": 0.1,
        "error": 0.0,
        "accepted": 0.5,
        "overlap": 0.5,
        "atom": 0.0,
        **{name: [0.0, 1.0] for name in ("x", "p", "q", "out")},
    }
    assert "<p>Each row is the first token" in render.text(record, [], html=True)


def test_counted_rates_stand_beside_stated_ones(record):
    rows = tables_testers.rates(record["calibration"]).rows
    assert rows[1].cells == (
        *("joint", "misses", "sparse-3x5, perfect", "0.05", "0.05", "5,000", "0.01", "9 of 1,000"),
        *("0.009 [0.001, 0.017]", "0.5", "yes", "3"),
    )
    assert [row.bad for row in rows] == [()] * 5 + [(10,)]


def test_speed_is_told_with_rows_replaced_and_in_lock_step(record):
    run = next(c["run"] for c in record["cells"] if c["run"] is not None and "lock_step" in c["run"])
    assert tables_runs.lock_step(run, 64) == "2.56 [2.51, 2.61]"
    assert tables_runs.lock_step(run, 8) == tables.UNKNOWN  # an older record has none
    assert [row.cells[7] for row in tables_runs.runs(record).rows].count("2.56 [2.51, 2.61]") >= 1


def test_what_a_real_cell_would_have_missed_stands_beside_it(record):
    rows = {row.cells[0]: (row.cells[-2], row.cells[-1]) for row in tables_sensitivity.sensitivity(record).rows}
    assert rows == {"slight": ("7,000", "no"), "plain": ("120", "yes"), "silent": (tables.UNKNOWN, "no")}


def test_one_image_at_a_time_stands_beside_plain_decoding(example):
    def timed(name, passes, seconds, guidance, **more):
        run = example["run"](passes, None) | {"n": 20, "seconds": seconds} | more
        settings = {"batch": 1, "guidance": guidance}
        return example["cell"]("real", name, "digits-s", "VACUOUS", "timed alone", settings=settings, run=run)

    cells = [
        timed("sjd", 16, 4.0, 1.5, draft_passes_mean=3.0),
        timed("ar", 64, 6.0, 1.5),
        timed("scd-mc", 32, 1.0, 1.0),
    ]
    found = tables_cost.latency({"cells": cells})
    shown = [dict(zip(found.headings, row.cells, strict=True)) for row in found.rows]
    assert [(row["decoder"], row["speed-up in seconds"]) for row in shown] == [
        ("scd-mc", tables.UNKNOWN),
        ("sjd", "1.5"),
        ("ar", "1"),
    ]
    assert (shown[1]["NFE"], shown[1]["draft NFE"], shown[1]["seconds per image"]) == ("16", "3", "0.2")
    assert (shown[1]["speed-up in passes"], shown[1]["ms per pass"]) == ("4", "12.5")
    assert shown[2]["draft NFE"] == tables.UNKNOWN


def test_a_cell_that_a_table_shows_is_not_listed_once_more(record):
    shown = [tables.exact(record), tables.checks(record)]
    other = {row.cells[0] for row in tables.other_cells(record, shown).rows}
    seen = {cell["id"] for cell in record["cells"] if (cell["kind"] == "exact" and cell["exact"]) or cell["evidence"]}
    assert other
    assert seen
    assert other.isdisjoint(seen)
    assert other | seen == {cell["id"] for cell in record["cells"]}


def test_the_budget_is_told_by_cell(record):
    parts = record["errors"]["alpha"]["parts"]
    rows = tables.alpha(record).rows
    assert sum(int(row.cells[1]) for row in rows) == len(parts)
    assert {row.cells[0] for row in rows} == {part["check"].split(": ")[0] for part in parts}
