"""Decoders of continuous tokens on a CUDA device; deselected, and counted as such, where there is none."""

import pytest
import torch
from uniforms import assert_uniform, transforms

from specverify.decoders import registry, sample
from toymodels.continuous import toy
from toymodels.continuous_drafts import draft

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("name", [name for name in registry.names("vectors") if not name.startswith("cspd")])
def test_exact_decoders_have_the_law_of_the_target(name, dtype, seed):
    """A Kolmogorov distance of 0.01 is seen."""
    model = toy("chain-1x4" if registry.entry(name).vectors == "heads" else "gauss-1x6", dtype, "cuda")
    decoder = registry.build(name, registry.Settings(3, draft_model=draft("shifted", model)))
    result = sample(decoder, model, 220_000 // model.length + 1, seed)
    assert result.tokens.is_cuda
    assert_uniform(transforms(model, result.tokens).cpu(), 0.01)
    assert torch.equal(sample(decoder, model, 220_000 // model.length + 1, seed).tokens, result.tokens)


@pytest.mark.parametrize("name", ["cspd", "cspd-released"])
def test_cspd_runs(name, seed):
    model = toy("chain-1x4", device="cuda")
    result = sample(registry.build(name, registry.Settings(3, draft_model=draft("wider", model))), model, 1000, seed)
    assert bool(result.tokens.isfinite().all())
    assert bool((result.branches.sum(1) == model.length).all())
