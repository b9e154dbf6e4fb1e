"""The token rule on densities: C1, C3 and C4, exactly by quadrature where that is possible, else by samples."""

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats
from torch.testing import assert_close

from specverify import tree
from specverify.draws import Sampled
from specverify.laws import FullGaussian, Gaussian, Mixture, select
from specverify.rules.rejection import (
    accept_probability,
    decide,
    failure_bound,
    log_ratio,
    thin,
    thin_probability,
)

ALPHA = 1e-6


def tensor(*values):
    return torch.tensor(values, dtype=torch.float64)


def gaussian(mean, scale):
    return Gaussian(tensor([mean]), tensor([scale]))


def mixture(weights, means, scales):
    return Mixture(tensor(weights).log(), tensor([[mean] for mean in means]), tensor([[scale] for scale in scales]))


def full(mean, *rows):
    return FullGaussian(tensor(mean), torch.tensor([rows], dtype=torch.float64))


def repeat(law, times):
    return tree.map_tensors(law, lambda part: part.expand(times, *part.shape[1:]))


def everywhere(times):
    return torch.ones(times, dtype=torch.bool)


PAIRS = {
    "shifted": (gaussian(0.0, 1.0), gaussian(1.0, 1.0)),
    "wider": (gaussian(0.0, 1.0), gaussian(0.3, 1.8)),
    "narrower": (gaussian(0.0, 1.0), gaussian(0.2, 0.5)),
    "mixtures": (mixture([0.3, 0.7], [-1.0, 2.0], [0.5, 0.8]), mixture([0.6, 0.4], [-0.5, 2.5], [0.7, 0.6])),
    "kinds": (gaussian(0.0, 1.0), mixture([0.5, 0.5], [-1.0, 1.0], [0.6, 0.6])),
}
STEP = 0.005
GRID = STEP * torch.arange(-5000, 5001, dtype=torch.float64)
"""Densities are smooth and vanish at both ends, so that sums over a grid are their integrals."""

laws = st.one_of(
    st.builds(gaussian, st.floats(-3, 3), st.floats(0.2, 2)),
    st.builds(
        lambda w, m, s: mixture([w, 1 - w], m, s),
        st.floats(0.1, 0.9),
        st.tuples(st.floats(-3, 3), st.floats(-3, 3)).map(list),
        st.tuples(st.floats(0.2, 2), st.floats(0.2, 2)).map(list),
    ),
)


def on_grid(p, q):
    """Both densities, the chances to accept and to keep a proposal, at every point of the grid."""
    x, p, q = GRID[:, None], repeat(p, len(GRID)), repeat(q, len(GRID))
    return p.log_prob(x).exp(), q.log_prob(x).exp(), accept_probability(p, q, x), thin_probability(p, q, x)


def integral(values):
    return float(values.sum() * STEP)


@given(laws, laws)
def test_c1_the_output_density_is_p_and_acceptance_is_one_minus_tv(p, q):
    f, g, accept, keep = on_grid(p, q)
    distance = integral((f - g).abs()) / 2
    assert integral(g * accept) == pytest.approx(1 - distance, abs=1e-9)
    assert integral(f * keep) == pytest.approx(distance, abs=1e-9)
    # What is accepted, and the residual f keep / Z weighed with the chance Z to reject.
    assert_close(g * accept + f * keep, f, rtol=0, atol=1e-12)
    # A proposal is kept with a chance, M = 1/Z is never exceeded: (p - q)+ / Z <= M p.
    assert bool((keep <= 1).all())
    assert_close((f - g).clamp(min=0), f * keep, rtol=0, atol=1e-12)


@pytest.mark.parametrize("pair", ["shifted", "wider", "mixtures", "kinds"])
def test_c1_the_mean_ratio_is_one(pair):
    p, q = PAIRS[pair]
    f, g, _, _ = on_grid(p, q)
    ratio = log_ratio(repeat(p, len(GRID)), repeat(q, len(GRID)), GRID[:, None]).exp()
    assert integral((g * ratio).where(g > 0, 0.0)) == pytest.approx(1, abs=1e-9)
    assert integral(f) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("pair", PAIRS)
def test_c3_decisions_have_law_p_and_cost_one_trial_on_average(pair, seed, agrees):
    n = 100_000
    p, q = (repeat(law, n) for law in PAIRS[pair])
    f, g, _, _ = on_grid(*PAIRS[pair])
    overlap = integral(torch.minimum(f, g))
    x = q.sample(Sampled(seed), everywhere(n))
    found = decide(p, q, x, Sampled(seed, 1), everywhere(n))
    assert bool(found.resolved.all())
    assert found.bias == 0
    assert torch.equal(found.x == x, found.accepted[:, None])
    assert torch.equal(found.trials == 0, found.accepted)
    assert stats.kstest(p.rosenblatt(found.x)[:, 0], "uniform").pvalue > ALPHA
    # Together: whether the draft was kept, and in which part of the space; given rejection, the residual's law.
    edges = [-25.0, *np.linspace(-2, 3, 9), 25.0]
    kept = np.histogram(found.x[found.accepted, 0], edges)[0]
    other = np.histogram(found.x[~found.accepted, 0], edges)[0]
    cells = np.digitize(GRID, edges) - 1
    law = [np.bincount(cells.clip(0, 9), w, 10) * STEP for w in (torch.minimum(f, g), (f - g).clamp(min=0))]
    agrees(np.concatenate([kept, other]), np.concatenate(law) / np.concatenate(law).sum(), sees=0.02)
    # Trials of rejected drafts are geometric with mean 1/Z.
    trials = found.trials[~found.accepted].numpy()
    last = 12
    geometric = stats.geom(1 - overlap)
    counts = np.bincount(trials.clip(1, last), minlength=last + 1)[1:]
    agrees(counts, np.append(geometric.pmf(np.arange(1, last)), geometric.sf(last - 1)), sees=0.05)
    error = math.sqrt(2 * overlap / (1 - overlap) / n)
    assert abs(float(found.trials.double().mean()) - 1) < 5 * error


@pytest.mark.parametrize("dim", [1, 3, 16])
def test_c3_in_more_dimensions_with_the_closed_form_of_the_overlap(dim, seed):
    n, length = 50_000, 1.3
    scale = torch.linspace(0.5, 2, dim, dtype=torch.float64)
    q = repeat(Gaussian(torch.zeros(1, dim, dtype=torch.float64), scale[None]), n)
    p = Gaussian(q.mean + length / dim**0.5 * scale, q.scale)
    found = decide(p, q, q.sample(Sampled(seed), everywhere(n)), Sampled(seed, 1), everywhere(n))
    overlap = 2 * stats.norm.cdf(-length / 2)
    assert stats.binomtest(int(found.accepted.sum()), n, overlap).pvalue > ALPHA
    for u in p.rosenblatt(found.x).T:
        assert stats.kstest(u, "uniform").pvalue > ALPHA / dim
    trials = found.trials.double()
    variance = 2 * overlap / (1 - overlap)
    assert abs(float(trials.mean()) - 1) < 5 * math.sqrt(variance / n)
    # The fourth moment of a geometric variable makes the variance's own error about 5 times that of a Gaussian.
    assert float(trials.var()) == pytest.approx(variance, rel=5 * 5 * math.sqrt(2 / n))


def test_correlated_coordinates(seed):
    n = 50_000
    p, q = (
        repeat(law, n) for law in (full([0.0, 0.5], [1.0, 0.0], [0.9, 0.4]), full([0.3, 0.0], [0.8, 0.0], [-0.3, 0.9]))
    )
    found = decide(p, q, q.sample(Sampled(seed), everywhere(n)), Sampled(seed, 1), everywhere(n))
    assert 0.1 < float(found.accepted.double().mean()) < 0.9
    for u in p.rosenblatt(found.x).T:
        assert stats.kstest(u, "uniform").pvalue > ALPHA / 2


def failure_mass(overlap, limit):
    """(1 - beta) beta^K: how often a decision of overlap beta rejects its draft and then K proposals too."""
    return (1 - overlap) * overlap**limit


@pytest.mark.parametrize("limit", [1, 3, 10])
def test_c4_a_limit_leaves_what_the_closed_form_says_and_draws_from_p(limit, seed):
    n, length = 200_000, 0.5
    q = repeat(gaussian(0.0, 1.0), n)
    p = Gaussian(q.mean + length, q.scale)
    found = decide(p, q, q.sample(Sampled(seed), everywhere(n)), Sampled(seed, 1), everywhere(n), limit)
    mass = failure_mass(2 * stats.norm.cdf(-length / 2), limit)
    left = ~found.resolved
    assert mass <= found.bias == failure_bound(limit)
    assert stats.binomtest(int(left.sum()), n, mass).pvalue > ALPHA
    assert int(found.trials.max()) == limit
    assert bool((found.trials[left] == limit).all())
    assert bool((found.x[left] != 0).all())
    assert stats.kstest(select(p, left).rosenblatt(found.x[left])[:, 0], "uniform").pvalue > ALPHA
    # The bias that it causes, exactly: Z beta^K TV(p, residual), is within what is reported.
    f, g, _, _ = on_grid(gaussian(length, 1.0), gaussian(0.0, 1.0))
    residual = (f - g).clamp(min=0)
    assert mass * integral((f - residual / integral(residual)).abs()) / 2 <= found.bias


@given(st.floats(0, 1), st.integers(1, 200))
def test_c4_the_bound_on_failures_is_their_largest_mass(overlap, limit):
    assert failure_mass(overlap, limit) <= failure_bound(limit) * (1 + 1e-12)
    assert failure_mass(limit / (limit + 1), limit) == pytest.approx(failure_bound(limit))


def test_c4_the_released_cap_of_100():
    assert failure_bound(100) == pytest.approx(0.0037, abs=5e-5)
    assert failure_mass(0.99, 100) == pytest.approx(0.0037, abs=5e-5)


def test_equal_laws_keep_every_draft_and_thin_to_a_draw_from_p(seed):
    n = 20_000
    p = repeat(mixture([0.3, 0.7], [-1.0, 2.0], [0.5, 0.8]), n)
    x = p.sample(Sampled(seed), everywhere(n))
    assert torch.equal(accept_probability(p, p, x), torch.ones(n, dtype=torch.float64))
    assert bool(decide(p, p, x, Sampled(seed, 1), everywhere(n)).accepted.all())
    found = thin(p, p, Sampled(seed, 2), everywhere(n))
    assert bool(found.resolved.all())
    assert bool((found.trials == 1).all())
    assert stats.kstest(p.rosenblatt(found.x)[:, 0], "uniform").pvalue > ALPHA


def test_laws_of_equal_parameters_and_different_meaning_are_not_taken_for_equal(seed):
    @dataclass(frozen=True)
    class Moved:
        inner: Gaussian
        by: float

        dim = 1

        @property
        def shape(self):
            return self.inner.shape

        def log_prob(self, x):
            return self.inner.log_prob(x - self.by)

        def sample(self, draws, where):
            return self.inner.sample(draws, where) + self.by

        def check(self, what):
            self.inner.check(what)

    p, q = (Moved(repeat(gaussian(0.0, 1.0), 1000), by) for by in (3.0, 0.0))
    found = thin(p, q, Sampled(seed), everywhere(1000))
    # The residual of N(3, 1) after N(0, 1) lies above the middle between them.
    assert bool((found.x > 1.5).all())


@pytest.mark.parametrize("shape", [(), (7,), (3, 4)])
def test_only_rows_that_are_asked_for_get_tokens(shape, seed):
    ones = torch.ones(*shape, 2, dtype=torch.float32)
    p, q = Gaussian(ones, ones), Gaussian(0 * ones, ones)
    where = torch.rand(shape, generator=torch.Generator().manual_seed(2)) < 0.5
    found = thin(p, q, Sampled(seed), where)
    assert (found.x.shape, found.x.dtype) == ((*shape, 2), torch.float32)
    assert torch.equal((found.x != 0).any(-1), where)
    assert torch.equal(found.trials > 0, where)
    assert bool(found.resolved.all())
    nothing = thin(p, q, Sampled(seed), torch.zeros(shape, dtype=torch.bool))
    assert not bool(nothing.x.any() | nothing.trials.any())


def test_a_row_alone_and_many_rows_take_the_same_number_of_trials(seed, agrees):
    # One row gets ever more proposals a round, many rows one each: the law of the trials must not notice.
    q, p = repeat(gaussian(0.0, 1.0), 3), repeat(gaussian(0.4, 1.0), 3)
    trials = torch.cat([thin(p, q, Sampled(seed, block), everywhere(3)).trials for block in range(200)]).numpy()
    kept = stats.geom(1 - 2 * stats.norm.cdf(-0.2))
    edges = [0, 1, 2, 4, 8, 16, 32, np.inf]
    agrees(np.histogram(trials, [e + 0.5 for e in edges])[0], np.diff(kept.cdf(edges)), sees=0.3)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("length", [1e-3, 1.0, 100.0])
def test_a_thousand_dimensions_any_scale_and_any_distance(scale, dtype, length, seed):
    n, dim = 200, 1024
    q = Gaussian(torch.zeros(n, dim, dtype=dtype), torch.full((n, dim), scale, dtype=dtype))
    p = Gaussian(q.mean + scale * length / dim**0.5, q.scale)
    x = q.sample(Sampled(seed), everywhere(n))
    found = decide(p, q, x, Sampled(seed, 1), everywhere(n))
    accept = accept_probability(p, q, x)
    assert bool((accept >= 0).all() & (accept <= 1).all())
    assert bool(found.x.isfinite().all())
    overlap = 2 * stats.norm.cdf(-length / 2)
    assert stats.binomtest(int(found.accepted.sum()), n, overlap).pvalue > ALPHA
    z = (found.x - p.mean) / p.scale
    assert abs(float(z.double().mean())) < 6 / math.sqrt(n * dim)


def test_scales_a_million_apart(seed):
    n, dim = 100, 1024
    p = Gaussian(torch.zeros(n, dim), torch.full((n, dim), 1e6))
    q = Gaussian(torch.ones(n, dim), torch.full((n, dim), 1e-6))
    for mine, other in ((p, q), (q, p)):
        found = decide(mine, other, other.sample(Sampled(seed), everywhere(n)), Sampled(seed, 1), everywhere(n))
        assert not bool(found.accepted.any())
        assert bool((found.trials == 1).all())
        assert bool(found.x.isfinite().all())


def test_the_mean_acceptance_by_scipys_quadrature():
    p, q = PAIRS["narrower"]

    def accepted(x):
        return float((q.log_prob(tensor([x])) + accept_probability(p, q, tensor([x])).log()).exp())

    overlap = integrate.quad(accepted, -10, 10, points=[-1, 0, 1], epsabs=1e-10, limit=200)[0]
    f, g, _, _ = on_grid(p, q)
    assert overlap == pytest.approx(integral(torch.minimum(f, g)), abs=1e-6)
