"""Decoders sampled at length: every decoder on toys of all kinds and on the digits, and known-wrong ones beside them.

Each statistical assertion runs at alpha = 1e-6, so that with any one seed the whole suite raises a false alarm with
probability below 1e-3, and states the distance that it sees with probability 1 - 1e-6.
"""

import numpy as np
import pytest
import torch

import toymodels
from realmodels import digits
from specverify import defects, tree
from specverify.decoders import registry, sample
from specverify.evidence.discrete import ChiSquare, sequence_counts
from specverify.evidence.enumerate import enumerate_decoder
from specverify.evidence.pit import PitPairs, PitUniformity
from specverify.evidence.sequences import target_law
from specverify.evidence.surprisal import Surprisal
from specverify.evidence.tokens import reduce

RATES = {"alpha": 1e-6, "beta": 1e-6}
N = 1_000_000


def joint(decoder, model, n, seed):
    run = sample(decoder, model, n, seed)
    counts = sequence_counts(run.tokens, model.vocab)
    generator = np.random.default_rng(seed)
    return ChiSquare(target_law(model).numpy()).check(counts, generator=generator, **RATES), run


@pytest.mark.parametrize("toy", ["sparse-4x5", "synonyms-4x5", "recurrent-3x6", "penalty-3x6", "switch-3x6", "eos-3x6"])
@pytest.mark.parametrize("name", registry.names("ids", relaxed=False))
def test_decoders_keep_the_joint_law(name, toy, seed):
    model = toymodels.toy(toy)
    settings = registry.Settings(3, "random", toymodels.draft("perturbed", model))
    evidence, run = joint(registry.build(name, settings), model, N, seed)
    assert not evidence.rejected, evidence.detail
    assert evidence.delta < 0.03
    if registry.entry(name).drafts:
        assert 0.1 < run.acceptance_rate < 0.95


@pytest.mark.parametrize("name", [n for n in defects.names() if defects.get(n).lossy])
def test_known_wrong_decoders_are_rejected_where_their_distance_is_seen(name, seed):
    """At n chosen for each one's exact distance; those nearer than 0.004 would take too many samples to see here."""
    defect = defects.get(name)
    model = toymodels.toy(defect.smallest.model)
    draft = toymodels.draft(defect.smallest.draft, model) if defect.smallest.draft else None
    settings = registry.Settings(defect.smallest.window, defect.smallest.initial or "repeat-left", draft)
    decoder = defect.build(settings)
    distance = enumerate_decoder(decoder, model).tv(target_law(model))
    if distance < 0.004:
        assert name in (
            "zero-coin-inclusive",
            "residual-smoothing-leak",
            "q-clamped-0.99-in-residual",
            "bf16-draw-fp32-ratio",
            "block-verify-tokenwise-residual",
        )
        return
    check = ChiSquare(target_law(model).numpy())
    n = min(check.sample_size(max(distance, 0.01), **RATES), 6 * N)
    evidence, _ = joint(decoder, model, n, seed)
    assert evidence.rejected, f"n = {n}, exact distance {distance:.4f}: {evidence.detail}"


@pytest.mark.parametrize("guidance", [1.0, 1.5])
@pytest.mark.parametrize("name", ["ar", "sjd", "scd-mc", "scd-gs"])
def test_decoders_keep_the_law_of_digits(name, guidance, seed):
    model = digits.load("digits-s", guidance=guidance)
    run = sample(registry.build(name, registry.Settings(16)), model, 6000, seed, block=500)
    generator, parts = np.random.default_rng(seed), []
    for tokens in run.tokens.split(500):
        with torch.no_grad():
            parts.append(reduce(model.laws(model.start(len(tokens)), tokens[:, :-1]), tokens, generator))
    trace = tree.join(parts)
    for check, visible in ((PitUniformity(), 0.01), (Surprisal(), 0.015), (PitPairs(), 0.02), (PitPairs(lag=8), 0.02)):
        evidence = check.check(trace, **RATES)
        assert not evidence.rejected, f"{evidence.check}: {evidence.detail}"
        assert evidence.delta < visible, f"{evidence.check} sees {evidence.delta}"
