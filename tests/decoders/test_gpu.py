"""The same decoders and the same laws on a CUDA device; deselected, and counted as such, where there is none."""

import pytest
import torch

from specverify.decoders import Autoregressive, SharedNoise, registry, run, sample
from specverify.draws import Sampled
from specverify.evidence.enumerate import enumerate_decoder
from specverify.evidence.sequences import sequence_index, target_law
from specverify.model import Checked
from toymodels import draft, names, toy
from toymodels.catalogue import enumerable

pytestmark = pytest.mark.gpu
DEVICE = "cuda"
N = 60_000


def build(name, model, window=3, initial="random"):
    return registry.build(name, registry.Settings(window, initial, draft("perturbed", model)))


def counts(tokens, model):
    return torch.bincount(sequence_index(tokens, model.vocab), minlength=model.vocab**model.length).cpu()


@pytest.mark.parametrize("toy_name", ["dense-2x8", "sparse-3x5", "eos-3x6", "penalty-3x6"])
@pytest.mark.parametrize("name", registry.names("ids"))
def test_the_enumerated_law_is_the_target_law(name, toy_name):
    model = toy(toy_name, device=DEVICE)
    if registry.entry(name).races and model.vocab > 2:
        model = toy("dense-2x8", device=DEVICE)
    exact = enumerate_decoder(build(name, model), model)
    assert exact.law.device.type == torch.device(DEVICE).type
    assert exact.tv(target_law(toy(model.name)).to(DEVICE)) <= 1e-12


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("toy_name", ["sparse-3x5", "eos-3x6", "penalty-3x6"])
@pytest.mark.parametrize("name", registry.names("ids"))
def test_sampled_sequences_agree_with_the_exact_law(name, toy_name, dtype, seed, agrees):
    model = toy(toy_name, dtype, DEVICE)
    result = sample(build(name, model), model, N, seed)
    agrees(counts(result.tokens, model), target_law(toy(toy_name)), sees=0.05)
    again = sample(build(name, model), model, N, seed)
    assert torch.equal(result.tokens, again.tokens), "same seed, same device, other tokens"


@pytest.mark.parametrize("toy_name", ["sparse-4x5", "synonyms-4x5"])
def test_gumbel_coupled_decoding_is_lossless_over_four_tokens(toy_name, seed, agrees):
    model = toy(toy_name, device=DEVICE)
    result = sample(build("scd-gs", model), model, N, seed)
    agrees(counts(result.tokens, model), target_law(toy(toy_name)), sees=0.06)


@pytest.mark.parametrize("name", names())
def test_jacobi_with_shared_noise_emits_the_tokens_of_sequential_decoding(name, seed):
    model = toy(name, device=DEVICE)
    sequential = run(Autoregressive(shared_noise=True), model, 256, Sampled(seed, device=DEVICE))
    for window in (1, 4, model.length + 2):
        jacobi = run(SharedNoise(window), model, 256, Sampled(seed, device=DEVICE))
        assert torch.equal(jacobi.tokens, sequential.tokens)
        assert jacobi.passes.sum() < sequential.passes.sum()


@pytest.mark.parametrize("name", registry.names("ids"))
def test_the_model_is_used_as_promised(name, seed):
    model = Checked(toy("eos-3x6", device=DEVICE))
    result = run(build(name, model), model, 256, Sampled(seed, device=DEVICE))
    assert result.tokens.device.type == torch.device(DEVICE).type


def test_laws_are_the_same_bits_on_every_device():
    for name in filter(enumerable, names()):
        assert torch.equal(target_law(toy(name, device=DEVICE)).cpu(), target_law(toy(name)))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_a_large_vocabulary_keeps_its_law_and_its_zeros(dtype, seed, agrees):
    """A parallel sum over many tokens must not let a weight of 0 win, nor lose the tokens behind it."""
    rows, vocab = 100_000, 16_384
    weights = torch.zeros(vocab, dtype=dtype, device=DEVICE)
    weights[torch.arange(0, vocab, 64)] = 1 / 256
    draws = Sampled(seed, device=DEVICE)
    everywhere = torch.ones(rows // 10, dtype=torch.bool, device=DEVICE)
    tokens = torch.cat([draws.categorical(weights.expand(rows // 10, -1), everywhere) for _ in range(10)])
    agrees(torch.bincount(tokens, minlength=vocab).cpu(), weights.double().cpu(), sees=0.03)
    race = draws.race(1000, 1, vocab)
    token, _ = draws.winner(race, weights.expand(1000, 1, -1), everywhere[:1000, None])
    assert (weights[token] > 0).all()
    draws.check()


def test_a_step_never_waits_for_the_device(seed):
    model = toy("markov-8x32", device=DEVICE)
    for name in registry.names("ids"):
        decoder, draws = build(name, model), Sampled(seed, device=DEVICE)
        state = decoder.init(model, 64, draws)
        state, _ = decoder.step(state, model, draws)
        before = torch.cuda.get_sync_debug_mode()
        torch.cuda.set_sync_debug_mode("error")
        try:
            decoder.step(state, model, draws)
        finally:
            torch.cuda.set_sync_debug_mode(before)


def test_a_weight_of_0_does_not_win_where_sums_of_one_row_rise(monkeypatch):
    """Sums of one row are made in another order than those of several; coins are put where they rise by rounding."""
    weights = torch.rand(1, 16_384, generator=torch.Generator().manual_seed(0))
    weights = weights.where(torch.arange(16_384) % 3 > 0, 0).to(DEVICE)
    edges, draws = weights.cumsum(-1), Sampled(0, device=DEVICE)
    rises = (edges.diff() > 0) & (weights[:, 1:] == 0)
    for coin in [0.5, *(edges[:, :-1] / edges[:, -1:])[rises].tolist()[:500]]:
        monkeypatch.setattr(draws, "uniform", lambda like, where, coin=coin: torch.full_like(like, coin))
        token = draws.categorical(weights, torch.ones(1, dtype=torch.bool, device=DEVICE))
        assert float(weights[0, token]) > 0
