"""Models whose passes disagree: no decoder is refuted for it, and none is said to hold."""

import numpy as np
import pytest
import torch

from realmodels import session
from realmodels.models import open_model
from specverify.cell import Cell
from specverify.cells import carry_out
from specverify.conformance import conformance
from specverify.decoders import sample
from specverify.decoders.registry import Settings, build
from specverify.errors import ContractError
from specverify.evidence.tokens import traced
from specverify.kinds import disagreement
from specverify.kinds import real as kind
from specverify.kinds.kind import Setting
from specverify.opening import Real

PROMPTS = ((1, 7, 2), (1, 2))


@pytest.fixture
def wrong(monkeypatch):
    """Makes laws flatter, by so much, in the passes that `where` says, given rows, drafts and places."""

    def change(much, where):
        right = session.ImageTransformer.laws

        def laws(self, context, draft):
            found = right(self, context, draft)
            place = context.length[:, None] + torch.arange(found.shape[1])
            flat = (1 - much) * found + much / found.shape[-1]
            return torch.where(where(len(draft), draft.shape[1], place)[..., None], flat, found)

        monkeypatch.setattr(session.ImageTransformer, "laws", laws)
        monkeypatch.setattr(disagreement, "_SEAMS", {})

    return change


def carried_out(folder, decoder, *, n, dtype="float32", window=None):
    own = Real(str(folder), PROMPTS, dtype, guidance=(1.0,), batch=100)
    initial = None if window is None else "repeat-left"
    cell = Cell("real", decoder, folder.name, window, initial, guidance=1.0, n=n, batch=100)
    alphas = dict.fromkeys((f"{cell.id}: {check}" for check in kind.checks(cell)), 1e-4)
    return carry_out(cell, Setting("quick", 0, "cpu", alphas, own))


def in_large_batches(rows, drafts, place):
    return torch.full_like(place, rows > 8, dtype=torch.bool)


def in_windows_of_four(rows, drafts, place):
    return torch.full_like(place, drafts == 4, dtype=torch.bool)


def behind_a_draft(rows, drafts, place):
    return (place > place[:, :1]) & torch.tensor(rows > 8)


@pytest.mark.thinned(2)
@pytest.mark.parametrize(("decoder", "window"), [("ar", None), ("scd-mc", 4)])
def test_a_decoder_that_is_refuted_where_passes_disagree_is_not_judged(made, wrong, decoder, window):
    """Plain decoding, too: its tokens are drawn one by one, and tested in one pass over all of them."""
    wrong(0.5, behind_a_draft)
    verdict = carried_out(made["janus"], decoder, n=400, window=window)["verdict"]
    assert verdict["kind"] == "ERROR", verdict
    assert "the model's passes disagree: image " in verdict["reason"]
    assert "of 100 images each, and of " in verdict["reason"]
    assert "no decoder can be judged on it: hold it against specverify.conformance" in verdict["reason"]


def behind_any_draft(rows, drafts, place):
    return place > place[:, :1]


def token_for_token(folder, decoder="sjd-race"):
    own = Real(str(folder), PROMPTS, guidance=(1.0,), batch=4)
    cell = Cell("paired", decoder, folder.name, 4, "repeat-left", guidance=1.0, n=12, batch=4)
    return carry_out(cell, Setting("quick", 0, "cpu", {}, own))["verdict"]


@pytest.mark.thinned(2)
@pytest.mark.parametrize("where", [behind_any_draft, in_windows_of_four])
def test_a_decoder_whose_tokens_are_others_where_passes_disagree_is_not_judged(made, wrong, where):
    right = token_for_token(made["janus"])
    assert right["kind"] == "CONSISTENT", right
    wrong(0.5, where)
    verdict = token_for_token(made["janus"])
    assert verdict["kind"] == "ERROR", verdict
    assert "of that sequence alone, one token per pass, by 0." in verdict["reason"]


def test_what_disagrees_elsewhere_than_at_a_few_positions_is_found_in_its_tokens(made, wrong, monkeypatch):
    found = conformance(open_model(str(made["janus"]), guidance=1.0, conditions=PROMPTS), batch=2, positions=8)
    monkeypatch.setattr(disagreement, "conformance", lambda *_, **__: found)
    wrong(0.5, behind_any_draft)
    verdict = token_for_token(made["janus"])
    assert (verdict["kind"], "the model's passes disagree: image " in verdict["reason"]) == ("ERROR", True), verdict


def test_a_decoder_that_is_wrong_on_a_right_model_is_refuted(made, wrong):
    verdict = token_for_token(made["janus"], "sjd")
    assert verdict["kind"] == "REFUTED", verdict
    assert "sequences differ from plain decoding with the same noise" in verdict["reason"]


def test_only_passes_that_disagree_are_named(made, wrong):
    model = open_model(str(made["janus"]), guidance=1.0, conditions=PROMPTS)
    run = sample(build("ar", Settings(1)), model, 40, 0, 20)
    statistics = traced(model, run.tokens, 20, np.random.default_rng(0))
    assert disagreement.look(model, run.tokens, statistics, 20) is None
    wrong(0.5, in_large_batches)
    wide = traced(model, run.tokens, 20, np.random.default_rng(0))
    with pytest.raises(ContractError, match=r"image 0 has, at position \d+, a token of probability \S+ in the passes"):
        disagreement.look(model, run.tokens, wide, 20)


def test_what_is_found_of_a_model_is_found_once(made, monkeypatch):
    asked = []

    def once(model, **said):
        asked.append((model.guidance, said["widest"]))
        return conformance(model, **said)

    monkeypatch.setattr(disagreement, "_SEAMS", {})
    monkeypatch.setattr(disagreement, "conformance", once)
    for decoder, window in (("ar", None), ("scd-mc", 4), ("sjd", 4), ("sjd", 20)):
        verdict = carried_out(made["janus"], decoder, n=40, window=window)["verdict"]
        assert "laws of windows and of single tokens differ by at most" in verdict["reason"]
    assert asked == [(1.0, 16), (1.0, 20)]


def test_a_known_wrong_decoder_is_still_refuted(made):
    own = Real(str(made["janus"]), PROMPTS, batch=100)
    cell = Cell("defect", "residual-rewarped", "janus", 4, "repeat-left", guidance=1.0, n=400, batch=100)
    alphas = dict.fromkeys((f"{cell.id}: {check}" for check in kind.checks(cell)), 1e-4)
    verdict = carry_out(cell, Setting("quick", 0, "cpu", alphas, own))["verdict"]
    assert verdict["kind"] == "REFUTED"
    assert "laws of windows and of single tokens differ by at most" in verdict["reason"], "what was looked at is said"


def test_in_half_precision_nothing_is_said_that_is_finer_than_the_laws_are_apart(made, wrong, monkeypatch):
    monkeypatch.setitem(kind.DELTA_REAL, "quick", dict.fromkeys(kind.DELTA_REAL["quick"], 0.2))
    wrong(0.25, behind_a_draft)
    result = carried_out(made["janus"], "scd-mc", n=800, dtype="bfloat16", window=4)
    assert not [row["check"] for row in result["evidence"] if row["rejected"]], result["verdict"]
    assert result["verdict"]["kind"] == "INCONCLUSIVE"
    assert "that is more than the 0.0" in result["verdict"]["reason"]
    apart = result["figures"]["apart"]
    assert 0.04 < apart["mean"] < apart["largest"] < 0.5
    assert (apart["laws"], apart["sequences"]) == (1600, 100)


MANY = ((1, 8, 9, 10, 2), (1, 11, 12, 13, 2), (1, 14, 15, 16, 2), (1, 17, 18, 19, 2), (2,), (20, 2))


@pytest.mark.thinned(2)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_padding_that_is_seen_is_found_whichever_prompt_is_the_short_one(made, monkeypatch, dtype):
    def visible(self, slots):
        return torch.arange(self.bin + 1, device=slots.device) <= slots[..., None]

    monkeypatch.setattr(disagreement, "_SEAMS", {})
    own = Real(str(made["janus"]), MANY, dtype, guidance=(1.0,), batch=60)
    cell = Cell("real", "ar", "janus", guidance=1.0, n=60, batch=60)
    setting = Setting(
        "quick", 0, "cpu", dict.fromkeys((f"{cell.id}: {check}" for check in kind.checks(cell)), 1e-4), own
    )
    right = carry_out(cell, setting)["verdict"]
    assert right["kind"] != "ERROR", right
    monkeypatch.setattr(session.Session, "visible", visible)
    monkeypatch.setattr(disagreement, "_SEAMS", {})
    verdict = carry_out(cell, setting)["verdict"]
    assert verdict["kind"] == "ERROR", verdict
    assert "one token per pass" in verdict["reason"] or "from those of single tokens by" in verdict["reason"], verdict


def test_prompts_of_which_no_image_was_drawn_are_counted(made):
    own = Real(str(made["janus"]), MANY, guidance=(1.0,), batch=4)
    for n, batch, said in (
        (12, 4, "; 12 images in batches of 4 are of the first 4 of 6 conditions alone"),
        (5, 6, "; 5 images are of the first 5 of 6 conditions alone"),
        (6, 6, "each equals plain decoding's, in float64"),
    ):
        cell = Cell("paired", "sjd-race", "janus", 4, "repeat-left", guidance=1.0, n=n, batch=batch)
        verdict = carry_out(cell, Setting("quick", 0, "cpu", {}, own))["verdict"]
        assert verdict["kind"] == "CONSISTENT", verdict
        assert verdict["reason"].endswith(said), verdict
