"""CSpD's criterion by quadrature: exact where Sigma is 1, biased elsewhere, and as its rules sample it."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

from specverify.draws import Sampled
from specverify.errors import InputError
from specverify.evidence.finite import TotalVariation
from specverify.evidence.quadrature import density, line, overlap, panels
from specverify.evidence.surrogate import CRITERIA, distances, surrogate, trajectories
from specverify.laws import Chain, Denoised, Denoiser, Mixture
from specverify.rules import cspd, trajectory
from tests.evidence.cells import binned


def chain(mean, scale, stretch=1.0, rows=1, steps=2):
    """A head that denoises N(mean, scale) exactly, its noise stretched."""
    data = [torch.full((rows, 1, 1), value, dtype=torch.float64) for value in (mean, scale)]
    condition = Denoised(
        Mixture(torch.zeros(rows, 1, dtype=torch.float64), *data), torch.full((rows,), stretch, dtype=torch.float64)
    )
    return Chain(condition, Denoiser(1, steps))


def nodes(p, q):
    ends = [law.marginal() for law in (p, q)]
    return line(
        [float(law.mean) for law in ends], [float(law.scale) for law in ends], (density(ends[0]), density(ends[1]))
    )


def test_shared_noise_makes_the_targets_token():
    p, q = chain(0.5, 0.4), chain(-0.2, 0.8, 1.3)
    over = trajectories(p, q)
    on, end = nodes(p, q), p.marginal()
    z = (on.x - over.mean_p[:, None]) / over.scale_p[:, None]
    marginal = over.weight @ (np.exp(-0.5 * z**2) / (over.scale_p[:, None] * math.sqrt(2 * math.pi)))
    assert over.weight.sum() == pytest.approx(1)
    assert np.allclose(marginal, stats.norm.pdf(on.x, float(end.mean), float(end.scale)), atol=1e-9)


@pytest.mark.parametrize("steps", [2, 3])
def test_the_surrogate_is_lossless_where_sigma_is_one(steps):
    p, q = chain(0.5, 0.5, steps=steps), chain(0.9, 0.7, steps=steps)
    on, log_p = nodes(p, q), density(p.marginal())
    found = surrogate(on, log_p, trajectories(p, q, 48 if steps == 2 else 20), cspd.Criterion(limit=None))
    assert found.tv < 1e-9
    # though it keeps fewer drafts than tokens would allow
    assert found.accepted < overlap(on, log_p, density(q.marginal())) - 0.005


@pytest.mark.parametrize("stretch", [0.7, 1.3])
def test_sigma_is_all_that_biases_it(stretch):
    p, q = chain(0.5, 0.5), chain(0.8, 0.5, stretch)
    on, log_p, over = nodes(p, q), density(p.marginal()), trajectories(p, q)
    biased = surrogate(on, log_p, over)
    assert biased.tv > 0.05
    assert biased.mass == pytest.approx(1, abs=1e-9)
    assert np.exp(over.log_sigma) == pytest.approx(np.full(len(over.weight), stretch))
    without = surrogate(on, log_p, replace(over, log_sigma=np.zeros(len(over.weight))), cspd.Criterion(limit=None))
    assert without.tv < 1e-3  # kinks inside panels, where the two last transitions differ in scale


def test_distances_of_published_and_released():
    # frozen figures: data N(0.5, 0.5) and a draft from N(0.8, 0.5) whose noise is 1.3 times as wide
    p, q = chain(0.5, 0.5), chain(0.8, 0.5, 1.3)
    found = distances(nodes(p, q), p, q, density(p.marginal()), nodes=32)
    assert set(found) == set(CRITERIA)
    assert found["published"].tv == pytest.approx(0.0609, abs=2e-4)
    assert found["inverted factor"].tv == pytest.approx(0.1138, abs=2e-4)
    assert found["released"].tv == pytest.approx(0.1784, abs=2e-4)
    assert max(output.error for output in found.values()) < 2e-4
    # a verifier that keeps more drafts than the laws have in common cannot be lossless
    best = overlap(nodes(p, q), density(p.marginal()), density(q.marginal()))
    assert best == pytest.approx(0.8213, abs=1e-4)
    assert found["published"].accepted > best
    assert found["released"].accepted > 0.999


@pytest.mark.parametrize("stretch", [0.7, 1.0, 1.3])
def test_the_rules_samples_have_the_surrogates_density(stretch, seed):
    rows = 30_000
    p, q = chain(0.5, 0.5, rows=rows), chain(0.8, 0.5, stretch, rows=rows)
    where = torch.ones(rows, dtype=torch.bool)
    path = q.path(Sampled(seed), where)
    aligned = trajectory.align(p, q, path)
    kept = torch.rand(rows, generator=torch.Generator().manual_seed(seed % 2**31), dtype=torch.float64).log() < (
        cspd.PUBLISHED.log_ratio(cspd.last_step(p, q, path, aligned))
    )
    other = cspd.Criterion(limit=50).replacement(cspd.last_step(p, q, path, aligned), Sampled(seed + 1), ~kept)
    sample = torch.where(kept[:, None], path[:, 0], other.x)[:, 0]
    edges = np.linspace(-1.5, 2.5, 25)
    one = chain(0.5, 0.5), chain(0.8, 0.5, stretch)
    on = panels(np.union1d(np.linspace(-9, 10, 150), edges))  # cells end where panels do
    found = surrogate(on, density(one[0].marginal()), trajectories(*one), cspd.Criterion(limit=50))
    assert float(kept.double().mean()) == pytest.approx(found.accepted, abs=0.015)
    masses = np.bincount(np.searchsorted(edges, on.x), on.weight * found.out)
    counts, target = binned(sample, edges, lambda x: stats.norm.cdf(x, *_marginal(one[0])))
    check = {"alpha": 1e-6, "beta": 1e-3, "generator": np.random.default_rng(seed)}
    assert not TotalVariation(masses / masses.sum()).check(counts, **check).rejected
    against = TotalVariation(target).check(counts, **check)
    assert against.rejected == (stretch != 1.0)
    assert against.interval[0] <= found.tv + 0.005


def _marginal(p):
    return float(p.marginal().mean), float(p.marginal().scale)


def test_the_release_emits_means_and_is_counted_in_cells(seed):
    # its last step adds no noise: the token's law is narrower than any density here says
    rows = 30_000
    q = chain(0.8, 0.5, rows=rows)
    token = cspd.released_token(q, q.path(Sampled(seed), torch.ones(rows, dtype=torch.bool)))[:, 0]
    mean, scale = _marginal(chain(0.5, 0.5))
    edges = stats.norm.ppf(np.arange(1, 20) / 20, mean, scale)
    counts, law = binned(token, edges, lambda x: stats.norm.cdf(x, mean, scale))
    assert law == pytest.approx(np.full(20, 0.05))
    found = TotalVariation(law).check(counts, alpha=1e-6, beta=1e-3, generator=np.random.default_rng(seed))
    assert found.rejected
    assert found.interval[0] > 0.1


def test_bad_input_is_named():
    p, q = chain(0.5, 0.5), chain(0.8, 0.5)
    with pytest.raises(InputError, match="quadrature takes two single chains over R"):
        trajectories(chain(0.5, 0.5, rows=2), q)
    with pytest.raises(InputError, match="2 and 3 steps"):
        trajectories(p, chain(0.8, 0.5, steps=3))
    with pytest.raises(InputError, match="1000 nodes for each of 2 noises"):
        trajectories(p, q, 1000)
