"""Continuous tokens in the report: what is exact, what tests saw, and a picture of densities."""

import copy
import io
import math

import pytest
from rich.console import Console

from specverify.errors import InputError
from specverify.report import attention, drawing, render, tables, tables_continuous, terminal
from specverify.report import record as records
from specverify.report.figures_continuous import densities

NASTY = "<script>alert('x')</script>"
X = [-2.0, -1.0, 0.0, 1.0, 2.0]


def curve(mean):
    return [math.exp(-0.5 * (x - mean) ** 2) / math.sqrt(2 * math.pi) for x in X]


def density_cell(example, rule, draft, tv, kind, expected=None, model="chain-1x4", claim="lossless"):
    figure = {"tv": tv, "error": 1e-9, "accepted": 0.8, "overlap": 0.75, "atom": 0.0}
    figure |= {"x": X, "p": curve(0), "q": curve(1), "out": curve(tv)}
    made = example["cell"]("density", rule, model, kind, f"at {tv}", settings={"draft": draft})
    return made | {"claim": claim, "expected": expected, "figures": {"density": figure}}


def sampled_cell(example, decoder, kind, rejected=False, expected=None, **figures):
    evidence = example["evidence"](
        "Rosenblatt uniformity", 1e-30 if rejected else 0.5, rejected, delta=0.0097, metric="Kolmogorov distance"
    )
    run = next(c["run"] for c in example["record"]()["cells"] if c["run"] is not None)
    made = example["cell"]("continuous", decoder, "gauss-1x6", kind, "so", settings={"window": 3, "draft": "wider"})
    return made | {"expected": expected, "evidence": [evidence], "run": run, "figures": figures}


@pytest.fixture
def vectors(record, example):
    changed = copy.deepcopy(record)
    changed["cells"] += [
        density_cell(example, "last-step", "wider", 1e-16, "PROVED"),
        density_cell(example, "cspd", "wider", 0.0743, "REFUTED", "REFUTED"),
        density_cell(example, "cspd-released", "wider", 0.193, "PROVED", "REFUTED"),
        density_cell(example, "cspd", "shifted", 1e-16, "VACUOUS", claim="relaxed(tv<=1)"),
        density_cell(example, NASTY, NASTY, 0.1, "REFUTED", model=NASTY),
        sampled_cell(example, "sd", "CONSISTENT", overlap=0.617),
        sampled_cell(example, "cspd", "REFUTED", True, "REFUTED"),
    ]
    records.validate(changed)
    return changed


def rows(table):
    return [dict(zip(table.headings, row.cells, strict=True)) for row in table.rows]


def test_the_table_of_densities_tells_distance_rates_and_what_is_expected(vectors):
    table = tables_continuous.densities(vectors)
    exact, published, released, shared, _ = rows(table)
    assert (exact["rule"], exact["exact TV"], exact["verdict"]) == ("last-step", "1e-16", "PROVED")
    assert (published["accepted"], published["overlap"]) == ("0.8", "0.75")
    assert (published["expected"], published["verdict"]) == ("REFUTED", "REFUTED")
    assert (shared["held to"], shared["expected"]) == ("relaxed(tv<=1)", tables.UNKNOWN)
    assert [row.bad for row in table.rows] == [(), (), (10,), (), ()]
    assert released["verdict"] == "PROVED"
    meaning, here, cspd = table.intro.split("\n\n")
    assert meaning.count(". ") == 1, "what lossless means, in two sentences"
    assert "total variation is 0" in meaning
    assert "No finite sample" in meaning
    assert "overlap 1 - TV(p, q)" in here
    assert "not a claim of the method" in cspd


def test_the_table_of_decoders_tells_what_tests_saw(vectors):
    sd, cspd = rows(tables_continuous.decoders(vectors))
    assert (sd["decoder"], sd["draft"], sd["sequences"], sd["delta"]) == ("sd", "wider", "1,600", "0.0097")
    assert (sd["rejected"], sd["overlap"], sd["expected"]) == ("0 of 1", "0.617", tables.UNKNOWN)
    assert (cspd["rejected"], cspd["overlap"], cspd["verdict"]) == ("1 of 1", tables.UNKNOWN, "REFUTED")
    assert cspd["distance"] == "0.0011 [0, 0.012]"


def test_what_must_be_refuted_and_is_not_is_to_look_at(record, vectors):
    added = [row.cells for row in attention.attention(vectors).rows if row not in attention.attention(record).rows]
    assert [(cells[0].split("/")[1], cells[1]) for cells in added] == [
        ("cspd-released", "PROVED"),
        (NASTY.split("/")[0], "REFUTED"),
    ]
    assert added[0][2].startswith("known to be wrong, but not REFUTED")


def test_ids_and_vectors_are_kept_apart(record, vectors):
    assert tables.exact_summary(record).rows == tables.exact_summary(vectors).rows
    assert tables.defects(record).rows == tables.defects(vectors).rows
    assert drawing.styles(record) == drawing.styles(vectors)
    covered = {row.cells[0]: row.cells[2] for row in tables.coverage(vectors).rows}
    assert (covered["density"], covered["continuous"]) == ("5", "2")


def test_the_picture_shows_rules_side_by_side(record, vectors):
    with drawing.drawing():
        picture = densities(vectors["cells"])
        assert densities(record["cells"]) is None
    assert picture.name == "densities"
    assert picture.png.startswith(b"\x89PNG")
    assert "cspd on chain-1x4 wider 0.074" in picture.alt
    assert "shifted" not in picture.alt, "one rule alone says little"


def test_names_are_escaped_in_the_page(vectors):
    with drawing.drawing():
        page = render.text(vectors, [densities(vectors["cells"])], html=True)
    assert "Continuous tokens: one step, by quadrature" in page
    assert "What comes out, over continuous tokens" in page
    assert "<script>alert" not in page


def test_curves_of_other_lengths_are_refused(vectors):
    vectors["cells"][-7]["figures"]["density"]["out"].append(0.1)
    with pytest.raises(InputError, match="5 x for 6 out"):
        records.validate(vectors)


def test_the_terminal_counts_what_was_caught(record, vectors):
    known = sum(c["expected"] is not None for c in vectors["cells"])
    assert known == sum(c["kind"] == "defect" for c in record["cells"]) + 3
    console = Console(width=200, file=io.StringIO())
    console.print(terminal.summary(vectors))
    assert f"known-wrong decoders caught: {known - 2} of {known}" in console.file.getvalue()
