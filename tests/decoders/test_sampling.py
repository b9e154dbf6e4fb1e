"""Sampled runs against exact laws: the same `step`, drawn instead of enumerated.

Each law is tested at alpha = 1e-6 on n = 60,000 sequences (see `agrees` for what that sees, which each call states);
each mean lies within 5 standard errors of its exact value, which a sound sampler misses with probability 6e-7.
"""

import pytest
import torch

from specverify.decoders import Autoregressive, Speculative, TokenRule, registry, sample
from specverify.evidence.enumerate import enumerate_decoder
from specverify.evidence.sequences import sequence_index, target_law
from toymodels import draft, toy

N = 60_000


def build(name, model, window=3, initial="random"):
    return registry.build(name, registry.Settings(window, initial, draft("perturbed", model)))


def cases(*toys):
    """Every decoder on each; what takes a minute to enumerate is slow."""
    return [
        pytest.param(name, of, marks=[pytest.mark.slow] if name == "vvs" and of.endswith("3x6") else [])
        for name in registry.names("ids")
        for of in toys
    ]


def counts(result, model):
    return torch.bincount(sequence_index(result.tokens, model.vocab), minlength=model.vocab**model.length)


def law_of(name, decoder, model):
    """The target's, or what is enumerated of a decoder that is not lossless."""
    return enumerate_decoder(decoder, model).law if registry.entry(name).relaxed else target_law(model)


def assert_mean(values, expected):
    error = float(values.double().std()) / len(values) ** 0.5
    assert abs(float(values.double().mean()) - expected) <= 5 * error + 1e-12, f"{values.double().mean()} vs {expected}"


def assert_costs(result, exact):
    for field in ("passes", "verified", "accepted", "draft_passes"):
        assert_mean(getattr(result, field), getattr(exact, field))
    for number, name in enumerate(("none", *exact.branches)):
        assert_mean(result.branches[:, number], exact.branches.get(name, 0))


# Toys of two tokens allow races to be enumerated; the others show what only three tokens or more have.
@pytest.mark.thinned(15)
@pytest.mark.parametrize(("name", "toy_name"), cases("dense-2x8", "sparse-3x5", "eos-3x6", "penalty-3x6"))
def test_sampled_sequences_and_costs_agree_with_the_enumerated_ones(name, toy_name, seed, agrees):
    model = toy(toy_name)
    decoder = build(name, model, initial="zero")
    result = sample(decoder, model, N, seed)
    agrees(counts(result, model), law_of(name, decoder, model), sees=0.05)
    if model.vocab == 2 or not registry.entry(name).races:
        assert_costs(result, enumerate_decoder(decoder, model))
    if registry.entry(name).drafts:
        assert 0.2 < result.acceptance_rate < 0.95, "both branches are needed"


@pytest.mark.thinned(6)
@pytest.mark.parametrize("toy_name", ["sparse-4x5", "synonyms-4x5"])
@pytest.mark.parametrize("initial", ["repeat-left", "zero", "random", "sample-left"])
def test_gumbel_coupled_decoding_is_lossless_over_four_tokens(initial, toy_name, seed, agrees):
    model = toy(toy_name)
    result = sample(build("scd-gs", model, initial=initial), model, N, seed)
    agrees(counts(result, model), target_law(model), sees=0.06)


@pytest.mark.thinned(6)
@pytest.mark.parametrize(("name", "toy_name"), cases("switch-3x6"))
def test_small_blocks_have_the_same_law_as_large_ones(name, toy_name, seed, agrees):
    model = toy(toy_name)
    decoder = build(name, model)
    result = sample(decoder, model, 3000, seed, block=50)
    agrees(counts(result, model), law_of(name, decoder, model), sees=0.16)


@pytest.mark.thinned(6)
@pytest.mark.parametrize("name", registry.names("ids"))
def test_the_place_of_a_row_in_its_batch_says_nothing(name, seed, agrees):
    """First and second halves of the blocks, and rows next to each other, are independent samples of one law."""
    model = toy("sparse-3x5")
    decoder = build(name, model)
    tokens = sample(decoder, model, N, seed, block=N // 4).tokens
    law = law_of(name, decoder, model)
    for part in (tokens.view(4, 2, -1, model.length)[:, half].flatten(0, 1) for half in (0, 1)):
        agrees(torch.bincount(sequence_index(part, model.vocab), minlength=len(law)), law, sees=0.05)
    # Two neighbours' first tokens: the product of their laws, not merely the right marginals.
    first = tokens[:, 0].view(-1, 2)
    alone = law.view(model.vocab, -1).sum(1)
    pairs = torch.bincount(model.vocab * first[:, 0] + first[:, 1], minlength=model.vocab**2)
    agrees(pairs, torch.outer(alone, alone).flatten(), sees=0.03)


class PlainResample(TokenRule):
    """Replaces a rejected draft from p instead of the residual."""

    def recover(self, p, q, draft):
        return p


def test_a_wrong_residual_is_seen(seed, agrees):
    model = toy("sparse-3x5")
    decoder = Speculative(registry.Jacobi(), 3, PlainResample())
    assert enumerate_decoder(decoder, model).tv(target_law(model)) > 0.05
    with pytest.raises(AssertionError, match="p = "):
        agrees(counts(sample(decoder, model, N, seed), model), target_law(model), sees=0.05)


def test_single_precision_sampling_agrees_with_the_double_precision_law(seed, agrees):
    model = toy("sparse-3x5", torch.float32)
    for decoder in (Autoregressive(), build("scd-mc", model), build("scd-gs", model)):
        agrees(counts(sample(decoder, model, N, seed), model), target_law(toy("sparse-3x5")), sees=0.05)
