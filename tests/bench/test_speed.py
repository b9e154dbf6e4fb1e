"""How fast decoders are sampled and enumerated. `nox -s bench` prints the table; targets are for 2 idle cores."""

import time

import pytest
import torch

import toymodels
from specverify.decoders import registry, sample
from specverify.evidence.enumerate import enumerate_decoder
from specverify.evidence.sequences import target_law

SEQUENCES = 8 * 16_384


@pytest.mark.parametrize("name", ["sjd", "scd-mc", "scd-gs", "sd", "ar"])
def test_sampling_a_toy(benchmark, name):
    """Vocabulary 4, length 6, window 4; beside a plain loop over single sequences, for the ratio."""
    model = toymodels.toy("dense-4x6", dtype=torch.float32)
    draft_model = toymodels.draft("perturbed", model)
    decoder = registry.build(name, registry.Settings(window=4, draft_model=draft_model))
    sample(decoder, model, 16_384, seed=1)
    run = benchmark.pedantic(sample, (decoder, model, SEQUENCES, 0), rounds=3)
    assert run.tokens.shape == (SEQUENCES, 6)
    start = time.perf_counter()
    sample(decoder, model, 100, seed=0, block=1)
    one_by_one = 100 / (time.perf_counter() - start)
    rate = SEQUENCES / benchmark.stats.stats.min
    benchmark.extra_info.update(
        sequences_per_second=round(rate), one_by_one_per_second=round(one_by_one), ratio=round(rate / one_by_one)
    )
    print(f"\n{name}: {rate:,.0f} sequences/s, one by one {one_by_one:,.0f}/s, ratio {rate / one_by_one:,.0f}")


@pytest.mark.parametrize("initial", ["repeat-left", "random"])
@pytest.mark.parametrize("name", ["sjd", "scd-mc"])
@pytest.mark.parametrize(("toy", "window"), [("dense-3x6", 5), ("dense-2x8", 6)])
def test_enumerating_a_toy(benchmark, name, toy, window, initial):
    """Target: under 2 s."""
    model = toymodels.toy(toy)
    decoder = registry.build(name, registry.Settings(window=window, initial=initial))
    exact = benchmark.pedantic(enumerate_decoder, (decoder, model), rounds=3, warmup_rounds=1)
    assert exact.tv(target_law(model)) < 1e-12
    benchmark.extra_info.update(worlds=exact.worlds, states=exact.states)
    print(f"\n{name} {toy} window {window} {initial}: {exact.worlds:,} worlds, {exact.states:,} states")
