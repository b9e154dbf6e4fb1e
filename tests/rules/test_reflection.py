"""The reflection coupling: C1 and C2 as identities between densities, in any dimension, and by samples."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch.testing import assert_close

from specverify import tree
from specverify.draws import Sampled
from specverify.errors import InputError
from specverify.laws import FullGaussian, Gaussian, select
from specverify.rules.reflection import couple, distance, equal_covariance, overlap, reflect
from specverify.rules.rejection import accept_probability

ALPHA = 1e-6


def pair(kind, dim, seed, length, rows=1):
    """Two Gaussians of one covariance, their means `length` standard deviations apart, repeated."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*size):
        return torch.randn(*size, generator=generator, dtype=torch.float64)

    mean, direction = normal(1, dim), normal(1, dim)
    direction = length * direction / torch.linalg.vector_norm(direction)
    if kind == "diagonal":
        q = Gaussian(mean, (0.5 * normal(1, dim)).exp())
        p = Gaussian(q.colour(direction), q.scale)
    else:
        q = FullGaussian(mean, normal(1, dim, dim).tril(-1) + torch.diag_embed((0.3 * normal(1, dim)).exp()))
        p = FullGaussian(q.colour(direction), q.cholesky)
    return [tree.map_tensors(law, lambda part: part.expand(rows, *part.shape[1:])) for law in (p, q)]


def everywhere(times):
    return torch.ones(times, dtype=torch.bool)


@pytest.mark.parametrize("kind", ["diagonal", "full"])
@given(dim=st.integers(1, 8), seed=st.integers(0, 10_000), length=st.floats(0, 6))
def test_c2_the_coupled_token_has_density_p(kind, dim, seed, length):
    p, q = pair(kind, dim, seed, length, rows=16)
    y = q.colour(2 * torch.randn(16, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))
    # A token at y was a draft at y that was kept, or one at its mirror image that was not; a reflection keeps volumes.
    mirrored = reflect(q, p, y)
    kept = q.log_prob(y).exp() * accept_probability(p, q, y)
    reflected = q.log_prob(mirrored).exp() * (1 - accept_probability(p, q, mirrored))
    density = p.log_prob(y).exp()
    assert_close(kept + reflected, density, rtol=1e-8, atol=1e-12 * float(density.max()))
    assert_close(reflect(p, q, mirrored), y)


@pytest.mark.parametrize("kind", ["diagonal", "full"])
@given(dim=st.integers(1, 8), seed=st.integers(0, 10_000), length=st.floats(0, 6))
def test_c1_the_overlap_has_a_closed_form(kind, dim, seed, length):
    p, q = pair(kind, dim, seed, length)
    assert float(distance(p, q)) == pytest.approx(length, abs=1e-9)
    assert float(overlap(p, q)) == pytest.approx(2 * stats.norm.cdf(-length / 2), abs=1e-9)
    assert bool(equal_covariance(p, q).all())


@pytest.mark.parametrize("kind", ["diagonal", "full"])
@pytest.mark.parametrize(("dim", "length"), [(1, 0.3), (2, 1.0), (8, 2.5)])
def test_c2_by_samples(kind, dim, length, seed):
    n = 40_000
    p, q = pair(kind, dim, 4, length, rows=n)
    x = q.sample(Sampled(seed), everywhere(n))
    found = couple(p, q, x, Sampled(seed, 1), everywhere(n))
    assert torch.equal(found.accepted, (found.x == x).all(-1))
    assert bool(found.resolved.all())
    assert not bool(found.trials.any())
    assert stats.binomtest(int(found.accepted.sum()), n, 2 * stats.norm.cdf(-length / 2)).pvalue > ALPHA
    u = p.rosenblatt(found.x)
    for k in range(dim):
        assert stats.kstest(u[:, k], "uniform").pvalue > ALPHA / dim
    for k in range(dim - 1):
        counts = torch.histogramdd(u[:, k : k + 2], [4, 4], range=[0.0, 1.0] * 2).hist
        assert stats.chisquare(counts.flatten()).pvalue > ALPHA / dim


@pytest.mark.parametrize("limit", [None, 2])
def test_rows_of_unequal_covariance_are_thinned_and_the_others_reflected(limit, seed):
    n = 40_000
    p, q = pair("diagonal", 2, 4, 0.8, rows=n)
    wide = torch.arange(n) % 2 == 0
    q = Gaussian(q.mean, torch.where(wide[:, None], 1.4 * q.scale, q.scale))
    x = q.sample(Sampled(seed), everywhere(n))
    found = couple(p, q, x, Sampled(seed, 1), everywhere(n), limit)
    assert torch.equal(found.trials > 0, wide & ~found.accepted)
    assert bool(found.resolved.all()) == (limit is None)
    if limit is None:
        for rows in (wide, ~wide):
            u = select(p, rows).rosenblatt(found.x[rows])
            assert all(stats.kstest(u[:, k], "uniform").pvalue > ALPHA / 4 for k in range(2))
    expected = float(accept_probability(p, q, x)[wide].mean())
    assert float(found.accepted[wide].double().mean()) == pytest.approx(expected, abs=5 / math.sqrt(2 * n))


def test_only_rows_that_are_asked_for_are_coupled(seed):
    p, q = pair("diagonal", 2, 4, 3.0, rows=100)
    x = q.sample(Sampled(seed), everywhere(100))
    where = torch.arange(100) < 40
    found = couple(p, q, x, Sampled(seed, 1), where)
    assert not bool(found.accepted[40:].any())
    assert torch.equal(found.x[40:], x[40:])
    assert bool((found.x[:40] != x[:40]).any())


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("length", [0.0, 1e-3, 1.0, 100.0])
def test_a_thousand_dimensions_any_scale_and_any_distance(scale, dtype, length, seed):
    n, dim = 200, 1024
    q = Gaussian(torch.zeros(n, dim, dtype=dtype), torch.full((n, dim), scale, dtype=dtype))
    p = Gaussian(q.mean + scale * length / dim**0.5, q.scale)
    x = q.sample(Sampled(seed), everywhere(n))
    found = couple(p, q, x, Sampled(seed, 1), everywhere(n))
    assert bool(found.x.isfinite().all())
    assert found.x.dtype == dtype
    assert float(overlap(p, q)[0]) == pytest.approx(2 * stats.norm.cdf(-length / 2), rel=1e-4)
    assert stats.binomtest(int(found.accepted.sum()), n, 2 * stats.norm.cdf(-length / 2)).pvalue > ALPHA
    assert abs(float(((found.x - p.mean) / p.scale).double().mean())) < 6 / math.sqrt(n * dim)
    if length == 0:
        assert torch.equal(found.x, x)


def test_couplings_without_a_closed_form_or_of_two_kinds_are_refused():
    p, q = pair("diagonal", 2, 4, 1.0)
    with pytest.raises(InputError, match="the covariances of p and q differ, so that their overlap has no closed form"):
        overlap(p, Gaussian(q.mean, 2 * q.scale))
    x = q.mean
    with pytest.raises(
        InputError, match="a coupling of Gaussian and FullGaussian: both laws must be Gaussian, or both"
    ):
        couple(p, FullGaussian(q.mean, torch.diag_embed(q.scale)), x, Sampled(0), everywhere(1))
