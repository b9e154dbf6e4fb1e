"""A decoder is judged over the tokens that it takes, ids or vectors, whatever its level is called."""

from dataclasses import replace

import pytest
import torch

from specverify.decoders import Block, DraftModel, Jacobi, Speculative, registry
from specverify.decoders.continuous import Coupled, Reflection
from specverify.decoders.protocol import begin
from specverify.errors import InputError, OptionError
from specverify.subjects import resolve
from specverify.subjects.decoder import judge_decoder
from specverify.subjects.factory import as_factory
from specverify.subjects.here import judge_here
from specverify.subjects.proving import Proving
from specverify.subjects.tokens import takes
from specverify.verdict import Kind, Verdict
from toymodels.continuous import toy
from toymodels.continuous_drafts import draft

pytestmark = pytest.mark.usefixtures("seldom_together")

VECTORS = {"toys": ["gauss-1x6"], "delta": 0.3}


@pytest.fixture
def proved(monkeypatch):
    """Proofs that take no time, once it is known how the decoder can be run."""
    monkeypatch.setattr(Proving, "_prove", lambda self, modes: Verdict(Kind.PROVED, "on ids"))


def of_ids(window):
    return Speculative(Jacobi("independent"), window, Block())


def of_vectors(window, draft_model):
    return Speculative(DraftModel(draft_model), window, Reflection())


def of_both(window, draft_model):
    return Speculative(DraftModel(draft_model), window)


class Asking:
    """A decoder that asks a model for something, and then does nothing."""

    def __init__(self, what):
        self.what = what

    def init(self, model, batch, draws):
        return begin(model, batch, torch.zeros(batch, getattr(model, self.what)))

    def step(self, state, model, draws):
        return state, None


@pytest.mark.thinned(4)
@pytest.mark.parametrize("name", registry.names())
def test_what_a_decoder_takes_is_what_the_catalogue_says(name):
    factory, entry = as_factory(name), registry.entry(name)
    assert takes(factory, "ids") == entry.ids
    assert takes(factory, "vectors") == (entry.vectors is not None)
    runs = replace(factory, tokens=None)
    assert takes(runs, "ids") >= entry.ids
    assert takes(runs, "vectors") >= (entry.vectors is not None)


@pytest.mark.parametrize("level", [None, "continuous"])
def test_a_decoder_of_vectors_is_judged_as_one_at_every_name_of_the_level(level):
    judgement = judge_here(of_vectors, level, options=VECTORS)
    assert (judgement.verdict.kind, judgement.level) == (Kind.CONSISTENT, "decoder"), judgement.verdict.reason
    assert "--level decoder" in judgement.reproduce
    assert not judgement.exact


def test_without_a_delta_too():
    wrong = judge_decoder(lambda draft_model: Speculative(DraftModel(draft_model), 3, Kept()), seconds=5)
    assert wrong.verdict.kind is Kind.REFUTED, wrong.verdict.reason
    assert wrong.location["setting"].startswith("gauss-1x6")


@pytest.mark.parametrize(("make", "told"), [(of_both, True), (of_ids, False)])
def test_a_proof_over_ids_says_that_vectors_were_not_looked_at(proved, make, told):
    judgement = judge_decoder(make)
    assert judgement.verdict.kind is Kind.PROVED
    assert any(gap.startswith("vectors: it takes them, too") for gap in judgement.not_covered) == told


class Kept:
    """Keeps every draft."""

    name, bias = "kept", 0.0

    def view(self, law):
        return law

    def couple(self, p, q, draft, draws, where):
        return Coupled(draft, where)


@pytest.mark.usefixtures("proved")
def test_a_decoder_of_ids_is_proved_at_every_name_of_the_level_and_the_earlier_one_is_answered():
    plain = judge_here(of_ids, "decoder")
    earlier = judge_here(of_ids, "continuous")
    assert plain.verdict == earlier.verdict == Verdict(Kind.PROVED, "on ids")
    assert earlier.notes == ("judged over ids, the only tokens that it takes",)
    assert not plain.notes
    assert "continuous" not in earlier.reproduce


@pytest.mark.usefixtures("proved")
def test_one_that_takes_both_is_proved_over_ids_unless_vectors_are_asked_for():
    assert judge_here(of_both, None).verdict.kind.proved
    for level, options in ((None, VECTORS), ("continuous", {"toys": ["gauss-1x6"]})):
        judgement = judge_here(of_both, level, options=options, seconds=1)
        assert judgement.verdict.reason != "on ids"
        assert judgement.evidence[0].check.startswith("gauss-1x6")
        # so that the line leads here again
        assert ("--delta 0.3" if "delta" in options else "--level continuous") in judgement.reproduce


def test_a_delta_is_of_vectors():
    with pytest.raises(OptionError, match="a decoder of ids is judged without delta; leave it out"):
        judge_decoder(of_ids, delta=0.1)
    with pytest.raises(InputError, match="a decoder of ids is judged without alpha, beta; leave it out"):
        judge_decoder(of_ids, alpha=0.1, beta=0.1)


@pytest.mark.parametrize(("what", "said"), [("vocab", "committed nothing"), ("dim", "must commit a token")])
def test_one_that_breaks_the_contract_is_told_so_of_the_tokens_that_it_asks_for(what, said):
    for level in ("decoder", "continuous"):
        judgement = judge_here(Asking(what), level, seconds=5)
        assert judgement.verdict.kind is Kind.ERROR
        assert said in judgement.verdict.reason


def test_an_earlier_name_of_a_level_is_understood():
    assert resolve.by_todays_name("continuous", {"delta": 0.1}) == ("decoder", {"tokens": "vectors", "delta": 0.1})
    assert resolve.by_todays_name("round", None) == ("round", {})


class BackToFront(Speculative):
    """Right over vectors; over ids it asks for draws of fewer rows than there are."""

    def step(self, state, model, draws):
        if getattr(model, "vocab", None) is not None:
            draws.bernoulli(torch.ones(1), torch.ones(1, dtype=torch.bool))
        return super().step(state, model, draws)


def test_an_error_over_ids_says_how_vectors_are_judged():
    judgement = judge_decoder(lambda window, draft_model: BackToFront(DraftModel(draft_model), window))
    assert judgement.verdict.kind is Kind.ERROR
    assert any("`--level continuous` judges it" in note for note in judgement.notes)


def test_a_draft_of_vectors_of_one_size_asks_for_a_toy_of_that_size():
    own = Speculative(DraftModel(draft("narrower", toy("gauss-3x9"))), 3)
    judgement = judge_decoder(own)
    assert judgement.verdict.kind is Kind.ERROR
    assert any("`--toy gauss-3x9`" in note for note in judgement.notes)
    assert judge_decoder(own, toy="gauss-3x9", delta=0.1).verdict.kind is Kind.CONSISTENT


@pytest.mark.parametrize(
    ("toy", "meant"), [("gaus-2x6", "gauss-2x6"), ("calm-8x4x", "calm-8x4"), ("dense-3x7", "dense-3x6")]
)
def test_a_misspelt_toy_is_told_of_those_of_ids_and_of_vectors(toy, meant):
    with pytest.raises(InputError, match=f"unknown toy model '{toy}'; did you mean .*{meant}"):
        judge_decoder("sd", toy=toy)
