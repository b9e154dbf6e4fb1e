"""Shared noise makes Jacobi decoding equal to sequential decoding token for token: an oracle without statistics."""

import pytest
import torch

from specverify.decoders import Autoregressive, SharedNoise, run
from specverify.draws import Sampled
from toymodels import names, toy

BATCH = 256


@pytest.mark.thinned(3)
@pytest.mark.parametrize("name", names())
def test_s7_jacobi_with_shared_noise_emits_the_tokens_of_sequential_decoding(name, seed):
    model = toy(name)
    sequential = run(Autoregressive(shared_noise=True), model, BATCH, Sampled(seed))
    assert len(sequential.tokens.unique(dim=0)) >= 5
    for window in (1, 2, 4, model.length + 2):
        jacobi = run(SharedNoise(window), model, BATCH, Sampled(seed))
        assert torch.equal(jacobi.tokens, sequential.tokens)
        assert (jacobi.passes <= sequential.passes).all()
        assert jacobi.passes.sum() < 0.97 * sequential.passes.sum(), "no draft was ever kept"
        assert jacobi.verified.sum() > jacobi.accepted.sum()


def test_wider_windows_take_fewer_passes_to_the_same_tokens(seed):
    """Not a theorem for a single row: an early guess may replace an initial draft that was right."""
    model = toy("markov-8x32")
    narrow, wide = (run(SharedNoise(window), model, BATCH, Sampled(seed)) for window in (1, 32))
    assert torch.equal(narrow.tokens, wide.tokens)
    assert wide.passes.sum() < narrow.passes.sum()


def test_other_noise_gives_other_tokens(seed):
    model = toy("dense-3x6")
    one, other = (run(SharedNoise(3), model, BATCH, Sampled(seed, block)) for block in (0, 1))
    assert not torch.equal(one.tokens, other.tokens)
