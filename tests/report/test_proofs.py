"""Proofs for every law in a report: which sizes, which error, and what a record must not say of them."""

from __future__ import annotations

import pytest

from specverify.errors import InputError
from specverify.report import attention, drawing, methods, tables, tables_proofs
from specverify.report import record as records

ROW = {
    "outcome": "proved", "vocab": 3, "length": 4, "window": 3, "eos": None, "drafts": False, "initial": None,
    "rule": None, "value": None, "seed": 0, "prime": "101", "error_bits": 88.3, "worlds": 7846, "numbers": 8536,
    "symbols": 360, "assumptions": 222, "seconds": 1.43,
}  # fmt: skip


def _cell(example, decoder="scd-mc", kind="PROVED-FOR-ALL", model="3x4x3", expected=None, **row):
    cell = example["cell"]("proof", decoder, model, kind, f"why {kind}")
    return cell | {"proof": ROW | row, "expected": expected}


@pytest.fixture
def cells(example):
    return [
        _cell(example),
        _cell(example, model="3x3x2-end", length=3, window=2, eos=2, error_bits=98.2),
        _cell(example, "sd-multi", "VACUOUS", "2x9x9", vocab=2, length=9, window=9, outcome="too large", error_bits=0),
        _cell(example, "stale-scores-after-coupling", "REFUTED", expected="REFUTED", outcome="differs"),
    ]


@pytest.fixture
def proved(record, cells):
    said = tables_proofs.said(cells[:2])
    row = {"decoder": "scd-mc", "claim": "lossless", "kind": "PROVED-FOR-ALL", "reason": said}
    others = [verdict for verdict in record["verdicts"] if verdict["decoder"] != "scd-mc"]
    mine = [cell for cell in record["cells"] if cell["decoder"] == "scd-mc" and cell["verdict"]["kind"] != "REFUTED"]
    row["cells"] = [cell["id"] for cell in [*mine, *cells[:2]]]
    return record | {"cells": [*record["cells"], *cells], "verdicts": [*others, row]}


def test_a_record_holds_proofs(proved):
    records.validate(proved)


def test_the_table_has_every_box_with_its_error_and_what_it_took(proved):
    table = tables_proofs.proofs(proved)
    found = [dict(zip(table.headings, row.cells, strict=True)) for row in table.rows]
    assert [row["error at most"] for row in found] == ["2^-88", "2^-98", "–", "–"]
    assert [row["outcome"] for row in found] == ["proved", "proved", "too large", "differs"]
    assert [row["vocabulary, length, window"] for row in found] == ["3x4x3", "3x3x2-end", "2x9x9", "3x4x3"]
    assert (found[0]["numbers"], found[0]["symbols"], found[0]["divisors"]) == ("8,536", "360", "222")
    assert found[0]["processor seconds"] == "1.43"
    assert not any(row.bad for row in table.rows)
    assert "replay proofs/NAME.json" in table.intro


def test_a_known_wrong_decoder_that_is_proved_stands_out_everywhere(example, record):
    wrong = _cell(example, "stale-scores-after-coupling", expected="REFUTED")
    record["cells"].append(wrong)
    assert tables_proofs.proofs(record).rows[0].bad == (4,)
    assert tables.defects(record).rows[-1].bad == (5,)
    assert wrong["id"] in {row.cells[0] for row in attention.attention(record).rows}


def test_the_first_screen_names_the_largest_size(proved):
    row = next(row for row in methods.methods(proved).rows if row.cells[0] == "SCD (maximal coupling)")
    assert row.cells[2] == "PROVED-FOR-ALL"
    assert row.cells[3].startswith("every law of 3 tokens by 4, window 3 and 1 more; exact on")
    assert "SCD (maximal coupling)" not in methods.sentence(proved)
    assert "lossless as far as could be shown" in methods.sentence(proved)


def test_of_several_decoders_it_says_which_was_proved(example, cells):
    other = example["cell"]("exact", "sd-list-gumbel", "dense-2x8", "PROVED", "")
    assert tables_proofs.shown([cells[0], other]) == "every law of 3 tokens by 4, window 3 (scd-mc)"
    assert tables_proofs.shown([other, cells[2]]) == ""


def test_all_proofs_of_a_decoder_have_one_error(cells):
    assert "error at most 2^-87 (2 runs, random primes of 127 bits, seed 0)" in tables_proofs.said(cells)
    assert tables_proofs.said(cells[2:]) == ""


def test_known_wrong_decoders_have_no_colour(record, proved):
    assert drawing.styles(record) == drawing.styles(proved)


def test_a_rule_proved_to_keep_the_clusters_law_has_the_verdict_and_one_token_alone_has_not(example):
    def of(rule, claim):
        plain = example["cell"]("relaxed", "sjd", f"toy-{rule}", "PROVED", "", exact=example["exact"](0.1, 4.0))
        made = [plain | {"claim": claim}, _cell(example, "sjd", model=f"3x3x2-{rule}", rule=rule) | {"claim": claim}]
        return [cell | {"settings": cell["settings"] | {"rule": rule, "value": None}} for cell in made]

    cells = [*of("gsd-clusters", "cluster-lossless(2 clusters)"), *of("scaling", "relaxed(tv<=0.5)")]
    record = example["record"]() | {"cells": cells, "verdicts": []}
    found = {row.cells[0]: row.cells[2:4] for row in methods.methods(record).rows}
    kind, shown = found["GSD (cluster residual)"]
    assert kind == "PROVED-FOR-ALL"
    assert shown.startswith("lossless by cluster, exactly")
    assert "the same for every law of 3 tokens" in shown
    kind, shown = found["scaled acceptance"]
    assert kind == "BOUND HOLDS"
    assert "one token's law, and that no rule pays less, for every law of 3 tokens" in shown


BROKEN = {
    "a verdict without a proof": (lambda cell: cell["proof"].update(outcome="differs"), "where it is not proved"),
    "a proof without its verdict": (lambda cell: cell["verdict"].update(kind="VACUOUS"), "where it is proved"),
    "a proof in a cell of another kind": (lambda cell: cell.update(kind="exact"), "kind exact has one"),
    "none in one of its kind": (
        lambda cell: (cell.pop("proof"), cell["verdict"].update(kind="VACUOUS")),
        "kind proof lacks one",
    ),
    "an error that is too large": (lambda cell: cell["proof"].update(error_bits=39.9), "is more than 2\\^-40"),
    "no prime": (lambda cell: cell["proof"].update(prime="a few"), "prime"),
    "one token": (lambda cell: cell["proof"].update(vocab=1), "vocab"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_what_a_record_must_not_say_of_a_proof(proved, what):
    change, message = BROKEN[what]
    change(next(cell for cell in proved["cells"] if cell["kind"] == "proof"))
    with pytest.raises(InputError, match=message):
        records.validate(proved)


def test_no_decoder_is_proved_for_all_without_a_cell_that_is(proved):
    proved["verdicts"][-1]["cells"] = proved["verdicts"][-1]["cells"][:1]
    with pytest.raises(InputError, match="PROVED-FOR-ALL, of no cell that is"):
        records.validate(proved)
