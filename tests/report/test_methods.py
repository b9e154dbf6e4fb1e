"""The first screen: what is known of each method, in one row, and what it costs beside plain decoding."""

import pytest

from specverify.report import methods, published
from specverify.report import record as records
from tests.report.test_testers import REFERENCE


@pytest.fixture(scope="module")
def reference():
    return records.load(REFERENCE)


def _row(record, name):
    found = [row for row in methods.methods(record).rows if row.cells[0] == name]
    assert len(found) == 1
    return dict(zip(methods.methods(record).headings, found[0].cells, strict=True)) | {"bad": found[0].bad}


def _relaxed(example, rule, tv, kind="VACUOUS", claim="relaxed(tv<=1)"):
    cell = example["cell"]("relaxed", "sjd", f"toy-{tv}", kind, "", exact=example["exact"](tv, 4.0))
    return cell | {"claim": claim, "settings": cell["settings"] | {"rule": rule, "value": None}}


def _record(example, cells, verdicts=()):
    return example["record"]() | {"cells": cells, "verdicts": list(verdicts)}


def test_every_decoder_of_the_record_is_in_a_row(record):
    rows = methods.methods(record).rows
    listed = {name for method in published.METHODS for name in method.decoders}
    assert len({row.cells[0] for row in rows}) == len(rows)
    for verdict in record["verdicts"]:
        assert verdict["decoder"] in listed or verdict["decoder"] in {row.cells[0] for row in rows}


def test_no_decoder_or_rule_belongs_to_two_methods():
    for part in ("decoders", "rules", "wrong"):
        names = [name for method in published.METHODS for name in getattr(method, part)]
        assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("rule", "due"), [("PROVED", "PROVED-FOR-ALL"), ("REFUTED", "REFUTED"), ("INCONCLUSIVE", "INCONCLUSIVE")]
)
def test_a_rule_takes_nothing_from_its_decoders_proof_but_by_failing(example, rule, due):
    verdicts = [
        {"decoder": name, "claim": "lossless", "kind": kind, "reason": f"of {name}", "cells": []}
        for name, kind in (("sd", "PROVED-FOR-ALL"), ("token rule", rule))
    ]
    assert _row(_record(example, [], verdicts), "SD")["verdict"] == due


def test_a_proof_that_was_not_found_is_said_on_the_first_screen(reference):
    cells = [dict(cell) for cell in reference["cells"]]
    lost = next(cell for cell in cells if cell["id"] == "proof/sd-multi/2x3x2")
    assert lost["id"] not in methods.sentence(reference)
    lost["verdict"] = {"kind": "VACUOUS", "reason": "not proved for every law, which says nothing against it"}
    said = methods.sentence({**reference, "cells": cells})
    assert said.endswith("tried and not proved for every law: proof/sd-multi/2x3x2")


def test_a_method_is_as_good_as_the_worst_of_its_decoders(example):
    verdicts = [
        {"decoder": name, "claim": "lossless", "kind": kind, "reason": f"of {name}", "cells": []}
        for name, kind in (("sd-multi", "PROVED"), ("sd-list-gumbel", "REFUTED"))
    ]
    row = _row(_record(example, [], verdicts), "SD (several drafts)")
    assert (row["verdict"], row["what was shown"], row["bad"]) == ("REFUTED", "of sd-list-gumbel", (0,))


@pytest.mark.parametrize(
    ("kind", "shown"),
    [("paired", "200 sequences equal plain decoding's, token for token"), ("density", "why it holds")],
)
def test_what_was_shown_is_said_whatever_it_rests_on(example, kind, shown):
    cell = example["cell"](kind, "sjd-race", "digits-s", "CONSISTENT", "", run=example["run"](20, 0.5))
    cell["run"]["n"] = 200
    verdict = {
        "decoder": "sjd-race",
        "claim": "lossless",
        "kind": "CONSISTENT",
        "reason": "why it holds",
        "cells": [cell["id"]],
    }
    row = _row(_record(example, [cell], [verdict]), "SJD (shared noise)")
    assert (row["verdict"], row["what was shown"]) == ("CONSISTENT", shown)


def test_a_relaxed_rule_is_not_called_proved_and_shows_how_far_it_goes(example):
    cells = [_relaxed(example, "gsd", 0.02), _relaxed(example, "gsd-max", 0.3)]
    row = _row(_record(example, cells), "GSD")
    assert (row["verdict"], row["what was shown"]) == ("RELAXED", "exact TV 0.02 to 0.3 on 2 toys")
    assert {row[name] for name in ("fewer passes", "draft passes", "faster, one", "batch")} == {"–"}


def test_a_declared_bound_has_a_badge_of_its_own_and_says_where_it_says_nothing(example):
    cells = [
        _relaxed(example, "cool", 0.1, "PROVED", "relaxed(tv<=0.2)"),
        _relaxed(example, "cool", 0.9, "VACUOUS", "relaxed(tv<=0.999)"),
    ]
    row = _row(_record(example, cells), "Cool-SD")
    assert row["verdict"] == "BOUND HOLDS"
    assert row["what was shown"] == "exact TV 0.1 to 0.9 on 2 toys; its bound says nothing in 1 of 2 settings"
    broken = [*cells, _relaxed(example, "cool", 0.5, "REFUTED", "relaxed(tv<=0.2)")]
    assert _row(_record(example, broken), "Cool-SD")["verdict"] == "REFUTED"


@pytest.mark.parametrize(("kind", "shown"), [("REFUTED", "REFUTED"), ("CONSISTENT", "ERROR")])
def test_a_published_decoder_that_is_wrong_is_named_in_red(example, kind, shown):
    cell = example["cell"](
        "defect", "stale-scores-after-coupling", "dense-2x8", kind, "why", exact=example["exact"](0.08, 4.0)
    )
    record = _record(example, [cell | {"expected": "REFUTED"}])
    row = _row(record, "SCD (as released)")
    assert (row["verdict"], row["bad"]) == (shown, (0,))
    if kind == "REFUTED":
        assert row["what was shown"] == "exact TV 0.08 from the target on dense-2x8"
        assert methods.sentence(record) == "not lossless as published or released: SCD (as released)"


LOSSLESS = ("SJD", "SCD (maximal coupling)", "SCD (Gumbel coupling)")


def test_the_first_screen_says_what_decoders_cost_and_of_which_settings(reference):
    said = methods.cost(reference)
    assert said.startswith("on the real model these take 3.48 to 3.76 times fewer forward passes than plain decoding; ")
    shown = [[_row(reference, name)[column] for name in LOSSLESS] for column in ("faster, one", "batch")]
    one, batch = ([f"{end(map(float, column)):.2g}" for end in (min, max)] for column in shown)
    assert said.endswith(
        f" {one[0]} to {one[1]} times as fast one image at a time and {batch[0]} to {batch[1]} times as fast in a "
        "batch, which is slower"
    )
    intro = methods.methods(reference).intro
    assert "digits-s, guidance 1.5, 1,600 images in batches of 400 and 20 one at a time" in intro
    one = [v for v in reference["verdicts"] if v["decoder"] == "sjd"]
    assert methods.cost({**reference, "verdicts": one}).startswith("on the real model these take 3.48 times fewer")
    assert methods.cost({**reference, "cells": [c for c in reference["cells"] if c["kind"] != "real"]}) == ""


def test_decoders_of_a_method_that_were_enumerated_on_other_toys_are_told_apart(reference):
    assert "exact on 26 toys (ar), 2 toys (ar-race)" in _row(reference, "plain decoding")["what was shown"]
    assert "exact on 26 toys;" in _row(reference, "SD")["what was shown"]


def test_passes_never_stand_without_draft_passes_and_seconds(record):
    table = methods.methods(record)
    run = [row.cells for row in table.rows if row.cells[4] != "–"]
    assert run
    for cells in run:
        assert "–" not in (cells[5], cells[7])


def test_speed_is_beside_plain_decoding_of_the_same_setting(record):
    plain = _row(record, "plain decoding")
    assert (plain["fewer passes"].split()[0], plain["batch"]) == ("1", "1")
    batches = [c for c in record["cells"] if c["kind"] == "real" and c["run"] and (c["settings"]["batch"] or 0) > 1]
    first = next(c for c in batches if c["decoder"] == "scd-mc")
    same = next(
        c
        for c in batches
        if c["decoder"] == "ar" and all(c["settings"][k] == first["settings"][k] for k in ("guidance", "batch"))
    )
    times = (same["run"]["seconds"] / same["run"]["n"]) / (first["run"]["seconds"] / first["run"]["n"])
    assert float(_row(record, "SCD (maximal coupling)")["batch"]) == pytest.approx(times, rel=0.05)


def test_the_reference_has_every_proof_that_it_was_to_have(reference):
    proofs = [cell for cell in reference["cells"] if cell["kind"] == "proof"]
    right = [cell for cell in proofs if cell["expected"] is None]
    assert {cell["verdict"]["kind"] for cell in right} == {"PROVED-FOR-ALL"}
    assert len(right) >= 40
    assert {"sd-multi", "scd-gs", "sjd-race", "sjd-tree", "sjd-reuse"} < {cell["decoder"] for cell in right}
