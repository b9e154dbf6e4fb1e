"""Every decoder by its name: what the registry says of it is so."""

import pytest
import torch

from specverify.claims import Lossless, Relaxed
from specverify.decoders import Decoder, TokenRule, registry, run, sample
from specverify.decoders.continuous import registry as of_vectors
from specverify.draws import Sampled
from specverify.errors import InputError
from specverify.recorded import Recorded
from specverify.rules.relaxation import NOTHING
from toymodels import continuous, draft, toy


def test_the_core_decoders_are_there_in_the_order_of_the_literature():
    core = ["ar", "ar-race", "sd", "sjd", "scd-mc", "scd-gs", "sjd-race"]
    assert [name for name in registry.names("ids") if name in core] == core


@pytest.mark.parametrize("name", registry.names("ids"))
def test_an_entry_tells_the_truth(name, seed):
    entry, model = registry.entry(name), toy("dense-3x6")
    settings = registry.Settings(window=2, draft_model=draft("perturbed", model) if entry.needs_draft_model else None)
    decoder = registry.build(name, settings)
    assert isinstance(decoder, Decoder)
    assert decoder.name == name
    assert entry.summary
    draws = Recorded(Sampled(seed))
    result = run(decoder, model, 64, draws)
    assert (result.verified.sum() > 0) == entry.drafts
    assert (result.draft_passes.sum() > 0) == entry.needs_draft_model
    assert any(kind in ("race", "winner", "earliest") for kind, _ in draws.outcomes) == entry.races


@pytest.mark.parametrize("name", registry.names("ids"))
def test_all_claim_to_be_lossless_but_those_that_are_called_relaxed(name):
    settings = registry.Settings(draft_model=draft("perturbed", toy("dense-3x6")))
    claim = NOTHING if registry.entry(name).relaxed else Lossless()
    assert registry.build(name, settings).claim == claim
    assert name in registry.names("ids", relaxed=registry.entry(name).relaxed)
    assert name not in registry.names("ids", relaxed=not registry.entry(name).relaxed)


@pytest.mark.thinned(2)
@pytest.mark.parametrize("name", [name for name in registry.names("ids") if registry.entry(name).drafts])
def test_settings_reach_the_decoder(name, seed):
    model = toy("markov-8x32")
    for window in (1, 4):
        decoder = registry.build(name, registry.Settings(window, "random", draft("perturbed", model)))
        assert decoder.window == window
        draws, judged = Sampled(seed), 0
        state = decoder.init(model, 512, draws)
        for _ in range(8):
            state, info = decoder.step(state, model, draws)
            judged = max(judged, int(info.verified.max()))
        assert judged == window


def test_every_decoder_has_one_entry_whatever_its_tokens():
    assert set(registry.names("ids")) | set(registry.names("vectors")) == set(registry.names())
    both = [name for name in registry.names("ids") if name in registry.names("vectors")]
    assert both == ["ar", "sd"]
    model = toy("dense-3x6")
    made = of_vectors.Settings(3, model, coupling=TokenRule())
    assert made == registry.Settings(3, "left-law", model, TokenRule())


@pytest.mark.parametrize("tokens", ["ids", "vectors"])
def test_initial_drafts_are_by_default_those_that_are_usual_for_the_tokens(tokens, seed):
    name, usual, model = ("sjd", "repeat-left", toy("dense-3x6"))
    if tokens == "vectors":
        name, usual, model = ("jacobi", "left-law", continuous.toy("gauss-1x6"))
    default, said = (registry.build(name, registry.Settings(3, initial)) for initial in (None, usual))
    assert torch.equal(sample(default, model, 50, seed).tokens, sample(said, model, 50, seed).tokens)


def test_a_rule_that_can_be_off_never_passes_for_lossless():
    for judging, claim in ((TokenRule(), Lossless()), (TokenRule(2), Relaxed(1.0)), (None, Lossless())):
        assert registry.build("sjd", registry.Settings(judging=judging)).claim == claim


def test_decoders_with_a_draft_model_ask_for_it_by_their_own_name():
    named = [name for name in registry.names() if registry.entry(name).needs_draft_model]
    assert named[:5] == ["sd", "sd-block", "sd-match", "sd-multi", "sd-list-gumbel"]
    assert len(named) == 13
    for name in named:
        with pytest.raises(InputError, match=f"decoder '{name}' drafts with a second model; give it one"):
            registry.build(name)


def test_the_number_of_chains_is_what_the_entry_says():
    settings = registry.Settings(draft_model=draft("perturbed", toy("dense-3x6")))
    for name in registry.names("ids"):
        assert getattr(registry.build(name, settings), "chains", 1) == registry.entry(name).chains


@pytest.mark.parametrize("initial", ["repeat-left", "zero", "random", "sample-left"])
def test_initial_drafts_are_what_they_are_called(initial, seed):
    model = toy("markov-8x32")
    decoder = registry.build("sjd", registry.Settings(3, initial))
    draws = Sampled(seed)
    state = decoder.init(model, 1000, draws)
    first = decoder.drafting.propose(state, model, 3, draws).token
    state, _ = decoder.step(state, model, draws)
    proposal = decoder.drafting.propose(state, model, 3, draws)
    carried = state.drafting.count
    fresh = (torch.arange(3) >= carried[:, None]) & (torch.arange(3) < (model.length - state.length)[:, None])
    assert fresh.sum() > 100
    left = torch.cat([state.tokens.gather(1, state.length[:, None] - 1), proposal.token], 1)[:, :-1]
    if initial == "zero":
        assert not first.any()
        assert not proposal.token[fresh].any()
    elif initial == "repeat-left":
        assert not first.any()
        assert torch.equal(proposal.token[fresh], left[fresh])
    else:
        assert len(first.unique()) == model.vocab
        assert len(proposal.token[fresh].unique()) > 4
    certain = proposal.law.gather(2, proposal.token[..., None])[fresh]
    assert torch.equal(certain, torch.ones_like(certain))
