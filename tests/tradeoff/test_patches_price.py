"""What a relaxed coupling of patches costs a token, beside the distance on a grid."""

import numpy as np
import pytest
import torch

from specverify.decoders.continuous import Surrogate, TokenRule
from specverify.draws import Sampled
from specverify.laws import Chain, Denoised, Denoiser, Gaussian, Mixture
from specverify.rules.cspd import Criterion
from specverify.rules.trajectory import Paths
from specverify.tradeoff.criterion import bias_of

# ---- the criterion, and what it costs


def chains(rows, shift=0.5, stretch=1.3):
    """The same data seen by a target and by a draft model that is off in place and in scale."""
    mean = torch.linspace(-1, 1, rows, dtype=torch.float64)[:, None, None]
    data = [Mixture(torch.zeros_like(mean[..., 0]), mean + off, torch.full_like(mean, 0.5)) for off in (0, shift)]
    head = Denoiser(1, 3)
    scales = (torch.full((rows,), value, dtype=torch.float64) for value in (1.0, stretch))
    p, q = (Paths(Chain(Denoised(one, scale), head)) for one, scale in zip(data, scales, strict=True))
    return p, q


def test_a_temperature_keeps_more_drafts(seed):
    p, q = chains(400)
    where = torch.ones(400, dtype=torch.bool)
    draft = q.sample(Sampled(seed), where)
    published = Surrogate().couple(p, q, draft, Sampled(seed, 1), where)
    assert 0.2 < float(published.kept.double().mean()) < 0.9
    hot = Surrogate(Criterion(temperature=42.0)).couple(p, q, draft, Sampled(seed, 1), where)
    assert bool((hot.kept | ~published.kept).float().mean() > 0.9)
    assert float(hot.kept.double().mean()) > float(published.kept.double().mean())


def on_grid(rule, p, q, factor):
    """The distance of one pair of Gaussians over R, by a grid."""
    x = np.linspace(-30, 30, 200_001)
    step = x[1] - x[0]
    grid = torch.from_numpy(x)[:, None]
    at = [Gaussian(law.mean.expand(len(x), 1), law.scale.expand(len(x), 1)) for law in (p, q)]
    log_p, log_q = (law.log_prob(grid).numpy() for law in at)
    accept = log_p - log_q
    if isinstance(rule, Criterion):
        volumes = float(q.log_volume() - p.log_volume())
        accept = (accept - volumes) / rule.temperature**2 + volumes + factor
    kept = np.exp(log_q + np.minimum(accept, 0))
    residual = np.exp(log_p) * -np.expm1(-np.maximum(log_p - log_q + factor, 0))
    found = residual.sum() * step
    failed = (1 - found) ** rule.limit
    out = kept + (1 - kept.sum() * step) * ((1 - failed) * residual / found + failed * np.exp(log_p))
    return np.abs(out - np.exp(log_p)).sum() * step / 2


@pytest.mark.parametrize("limit", [1, 3])
def test_the_price_of_a_limit_is_the_distance_on_a_grid(limit, seed):
    p = Gaussian(torch.zeros(1, 1, dtype=torch.float64), torch.ones(1, 1, dtype=torch.float64))
    q = Gaussian(p.mean + 0.8, p.scale * 1.5)
    draft = torch.zeros(1, 1, dtype=torch.float64)
    due = on_grid(TokenRule(limit), p, q, 0.0)
    assert due > 0.02
    assert float(bias_of(TokenRule(limit), p, q, draft, Sampled(seed), 200_000)) == pytest.approx(due, abs=0.004)
    assert float(bias_of(TokenRule(), p, q, draft, Sampled(seed), 64)) < 1e-12


@pytest.mark.parametrize("rule", [Criterion(), Criterion(temperature=3.0), Criterion(power=-1.0)])
def test_the_price_of_the_criterion_is_the_distance_on_a_grid(rule, seed):
    p, q = chains(1)
    draft = q.sample(Sampled(seed), torch.ones(1, dtype=torch.bool))
    on = Surrogate(rule).last_step(p, q, draft)
    due = on_grid(rule, on.p, on.q, rule.power * float(on.log_sigma))
    assert due > 0.02
    assert float(bias_of(Surrogate(rule), p, q, draft, Sampled(seed), 200_000)) == pytest.approx(due, abs=0.006)


def test_the_criterion_without_sigma_costs_nothing(seed):
    p, q = chains(50)
    draft = q.sample(Sampled(seed), torch.ones(50, dtype=torch.bool))
    assert float(bias_of(Surrogate(Criterion(power=0.0)), p, q, draft, Sampled(seed)).max()) < 1e-12
    assert float(bias_of(Surrogate(), p, q, draft, Sampled(seed)).mean()) > 0.1
