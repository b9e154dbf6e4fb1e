"""Relaxed rules on toys: what they claim there is proved, what they pay is exact."""

import re

import pytest
import torch

import toymodels
from specverify import campaign, relaxed
from specverify.cells import carry_out
from specverify.claims import EMPTY, ClusterLossless, Relaxed
from specverify.decoders import DraftModel, Speculative
from specverify.decoders import registry as decoders
from specverify.evidence.enumerate import enumerate_decoder
from specverify.evidence.sequences import target_law
from specverify.kinds.kind import Setting
from specverify.plan import RELAXED_ON, plan
from specverify.rules import registry
from specverify.rules.relaxation import NOTHING
from toymodels.tables import TableModel

SETTING = Setting("quick", 0, "cpu", {})


@pytest.mark.parametrize("name", ["redundant-4x4", "redundant-6x3", "synonyms-4x5"])
def test_clusters_of_redundant_toys_lump(name):
    model = toymodels.toy(name)
    assert relaxed.lumps(model, model.clusters)
    judging = registry.build("gsd-clusters", context=relaxed.context(model))
    assert relaxed.claim_on(judging, model) == ClusterLossless(model.clusters)


@pytest.mark.parametrize("name", ["dense-5x4", "sparse-4x5"])
def test_other_clusters_do_not_and_nothing_is_claimed(name):
    model = toymodels.toy(name)
    clusters = ((0, 1), tuple(range(2, model.vocab)))
    assert not relaxed.lumps(model, clusters)
    judging = registry.build("gsd-clusters", context=registry.Context(partition=clusters))
    assert relaxed.claim_on(judging, model) == NOTHING


def test_a_bound_is_claimed_at_the_models_length():
    model = toymodels.toy("dense-3x6")
    assert relaxed.claim_on(registry.build("mixture", 0.1), model) == Relaxed(1 - 0.9**6)


@pytest.mark.parametrize(("rule", "value"), [("mixture", 0.2), ("scaling", 1.5), ("gsd", 2.0), ("typical", 0.3)])
def test_the_price_of_one_token_is_its_exact_distance(rule, value):
    model = TableModel("one", torch.tensor([[0.5, 0.25, 0.125, 0.125]], dtype=torch.float64), 1)
    draft = TableModel("draft", torch.tensor([[0.125, 0.125, 0.25, 0.5]], dtype=torch.float64), 1)
    judging = registry.build(rule, value)
    paid = relaxed.exact_price(judging, model, draft)
    exact = enumerate_decoder(Speculative(DraftModel(draft), 1, judging, NOTHING), model)
    assert paid["bias"] == pytest.approx(exact.tv(target_law(model)), abs=1e-12)
    assert paid["acceptance"] == pytest.approx(exact.accepted, abs=1e-12)
    assert paid["excess"] == pytest.approx(paid["bias"] - paid["gain"], abs=1e-12)
    assert paid["excess"] >= -1e-12


def test_the_plan_sweeps_every_rule_on_three_toys_drafted_three_ways():
    cells = [cell for cell in plan("quick") if cell.kind == "relaxed"]
    alone = decoders.names("ids", relaxed=True)
    assert {cell.decoder for cell in cells} == {"sjd", "scd-mc", "sd", *alone}
    cells = [cell for cell in cells if cell.decoder not in alone]
    assert {cell.model for cell in cells} == set(RELAXED_ON)
    assert len(RELAXED_ON) >= 3
    assert {cell.rule for cell in cells} == {None, *registry.names()}
    assert {cell.decoder for cell in cells} == {"sjd", "scd-mc", "sd"}
    assert {cell.value for cell in cells if cell.rule == "mixture"} == set(registry.rule("mixture").sweep)


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    return campaign.verify("quick", 0, tmp_path_factory.mktemp("relaxed"), only="relaxed/sd/synonyms-4x5/*", jobs=1)


def test_relaxed_cells_carry_distance_speed_and_price(record):
    for cell in record["cells"]:
        rule, price = cell["settings"]["rule"], cell["figures"]["price"]
        relaxed_to = re.fullmatch(r"relaxed\(tv<=(.*)\)", cell["claim"])
        empty = relaxed_to is not None and float(relaxed_to[1]) >= EMPTY
        assert cell["verdict"]["kind"] == ("VACUOUS" if empty else "PROVED"), cell
        assert price["excess"] >= -1e-9
        assert (cell["exact"]["tv"] < 1e-12) == (price["bias"] < 1e-12), rule
        assert price["bias"] <= cell["exact"]["tv"] * 5 + 1e-12, "a sequence of 5 tokens is no nearer than its tokens"
    by_rule = {cell["settings"]["rule"]: cell["exact"] for cell in record["cells"]}
    assert by_rule["token"]["tv"] < 1e-12
    assert by_rule["mixture"]["passes"] < by_rule["token"]["passes"]


def test_rules_that_claim_nothing_get_no_verdict_and_are_named(record):
    subjects = {verdict["decoder"]: verdict for verdict in record["verdicts"]}
    assert subjects["mixture rule"]["kind"] == "PROVED"
    assert "5 claims" in subjects["mixture rule"]["claim"]
    assert "typical rule" not in subjects
    silent = [note for note in record["not_covered"] if note.startswith("relaxed rules whose claim says nothing")]
    assert len(silent) == 1
    assert "typical" in silent[0]
    assert "mixture" not in silent[0]


def test_a_broken_bound_is_refuted(monkeypatch):
    mixture = type(registry.build("mixture", 0.4))
    monkeypatch.setattr(mixture, "bound", lambda self, length: Relaxed(0.01))
    (cell,) = (c for c in plan("quick", "relaxed/sd/synonyms-4x5/*") if (c.rule, c.value) == ("mixture", 0.4))
    found = carry_out(cell, SETTING)
    assert found["verdict"]["kind"] == "REFUTED"
    assert "allows 0.01" in found["verdict"]["reason"]


def test_a_bound_that_does_not_bind_is_told_with_its_slack(monkeypatch):
    """Whatever the verdict is on a claim that allows nearly every law, it comes with what the rule declares."""
    monkeypatch.setattr(relaxed, "claim_on", lambda judging, model: NOTHING)
    (cell,) = (c for c in plan("quick", "relaxed/sd/synonyms-4x5/*") if (c.rule, c.value) == ("scaling", 4.0))
    found = carry_out(cell, SETTING)
    bound, tv = 1 - 4.0**-5, found["exact"]["tv"]
    assert found["verdict"]["kind"] == "VACUOUS"
    assert f"a bound of {bound:.9g} leaves a slack of {bound - tv:.3g}" in found["verdict"]["reason"]
    (silent,) = (c for c in plan("quick", "relaxed/sd/synonyms-4x5/*") if (c.rule, c.value) == ("typical", 0.3))
    assert carry_out(silent, SETTING)["verdict"]["reason"].startswith("the rule claims nothing; ")
