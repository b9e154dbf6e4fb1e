"""How fast drafts over continuous tokens are judged: 1,000,000 of them in 8 dimensions, beside fixed work."""

import pytest
import torch

from specverify.draws import Sampled
from specverify.laws import Gaussian
from specverify.rules.reflection import couple
from specverify.rules.rejection import decide

DECISIONS = 1_000_000
DIM = 8


@pytest.mark.parametrize("rule", [decide, couple], ids=["thinning", "reflection"])
@pytest.mark.parametrize("kind", ["shifted", "wider"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_judging_a_million_drafts(benchmark, compare, yardstick, rule, kind, dtype):
    """Accept or reject, and resample what was rejected; every row has a law of its own."""
    generator = torch.Generator().manual_seed(0)
    mean = torch.randn(DECISIONS, DIM, dtype=dtype, generator=generator)
    p = Gaussian(mean, 0.5 + torch.rand(DECISIONS, DIM, dtype=dtype, generator=generator))
    q = Gaussian(p.mean + p.scale / DIM**0.5, p.scale) if kind == "shifted" else Gaussian(p.mean, 1.15 * p.scale)
    where = torch.ones(DECISIONS, dtype=torch.bool)
    x = q.sample(Sampled(0), where)
    found = benchmark.pedantic(rule, (p, q, x, Sampled(1), where), rounds=3, warmup_rounds=1)
    assert bool(found.resolved.all())
    accepted = float(found.accepted.double().mean())
    if kind == "shifted":
        assert accepted == pytest.approx(0.617, abs=0.003)
    took = benchmark.stats.stats.min
    compare(f"{rule.__name__} {kind} {dtype}", took / yardstick, seconds=took, accepted=accepted)
    assert took < 20 * yardstick
