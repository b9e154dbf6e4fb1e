"""Densities, samples and distribution functions of Gaussians and mixtures, against scipy and against each other."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, special, stats
from torch.testing import assert_close

from specverify.draws import Sampled
from specverify.errors import InputError
from specverify.laws import FullGaussian, Gaussian, Law, Mixture, check_pair, check_tokens, from_covariance
from specverify.laws.moments import moments

ALPHA = 1e-6
KINDS = ["gaussian", "full", "mixture"]


def law(kind, shape, dim, seed=0, dtype=torch.float64):
    """A law of the kind, with parameters far from 0 and 1."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*size):
        return torch.randn(*size, generator=generator, dtype=torch.float64)

    if kind == "gaussian":
        made = Gaussian(normal(*shape, dim), (0.5 * normal(*shape, dim)).exp())
    elif kind == "full":
        made = FullGaussian(
            normal(*shape, dim), normal(*shape, dim, dim).tril(-1) + torch.diag_embed((0.3 * normal(*shape, dim)).exp())
        )
    else:
        weights = normal(*shape, 3).log_softmax(-1)
        made = Mixture(weights, 2 * normal(*shape, 3, dim), (0.5 * normal(*shape, 3, dim)).exp())
    return type(made)(*(getattr(made, field).to(dtype) for field in made.__dataclass_fields__))


def repeat(made, times):
    """One law, `times` over."""
    parts = (getattr(made, field) for field in made.__dataclass_fields__)
    return type(made)(*(part.expand(times, *part.shape[1:]) for part in parts))


def scipy_log_density(made, x):
    if isinstance(made, Gaussian):
        return stats.norm(made.mean[0], made.scale[0]).logpdf(x).sum(-1)
    if isinstance(made, FullGaussian):
        return stats.multivariate_normal(made.mean[0], made.cholesky[0] @ made.cholesky[0].T).logpdf(x)
    parts = [stats.norm(mean, scale).logpdf(x).sum(-1) for mean, scale in zip(made.mean[0], made.scale[0], strict=True)]
    return special.logsumexp([part + float(w) for part, w in zip(parts, made.log_weight[0], strict=True)], axis=0)


@pytest.mark.parametrize("kind", KINDS)
@given(dim=st.integers(1, 5), seed=st.integers(0, 10_000))
def test_densities_are_scipys(kind, dim, seed):
    made = law(kind, (1,), dim, seed)
    x = 3 * torch.randn(4, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    assert_close(repeat(made, 4).log_prob(x), torch.as_tensor(scipy_log_density(made, x.numpy())), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(), (3,), (2, 4)])
def test_laws_have_a_shape_a_dimension_and_masked_samples(kind, shape, seed):
    made = law(kind, shape, 3, dtype=torch.float32)
    assert isinstance(made, Law)
    assert (made.shape, made.dim) == (shape, 3)
    made.check("p")
    where = torch.rand(shape, generator=torch.Generator().manual_seed(1)) < 0.5
    x = made.sample(Sampled(seed), where)
    assert (x.shape, x.dtype) == ((*shape, 3), torch.float32)
    assert torch.equal((x != 0).all(-1), where)
    assert torch.equal((x == 0).all(-1), ~where)
    assert (made.log_prob(x).shape, made.log_prob(x).dtype) == (shape, torch.float64)
    assert made.rosenblatt(x).shape == (*shape, 3)


@pytest.mark.parametrize("kind", KINDS)
def test_samples_have_uniform_and_independent_conditional_distribution_functions(kind, seed):
    n, dim = 40_000, 3
    u = repeat(law(kind, (1,), dim, 5), n)
    u = u.rosenblatt(u.sample(Sampled(seed), torch.ones(n, dtype=torch.bool)))
    for k in range(dim):
        assert stats.kstest(u[:, k], "uniform").pvalue > ALPHA / dim
    for k in range(dim - 1):
        counts = torch.histogramdd(u[:, k : k + 2], [4, 4], range=[0.0, 1.0] * 2).hist
        assert stats.chisquare(counts.flatten()).pvalue > ALPHA / dim


def test_a_mixtures_conditional_distribution_function_is_the_integral_of_its_conditional_density():
    made, first, second = law("mixture", (1,), 2, 3), 0.4, -0.7

    def density(y):
        return float(made.log_prob(torch.tensor([[first, y]], dtype=torch.float64)).exp())

    below = integrate.quad(density, -20, second, epsabs=1e-12)[0]
    total = below + integrate.quad(density, second, 20, epsabs=1e-12)[0]
    u = made.rosenblatt(torch.tensor([[first, second]], dtype=torch.float64))
    assert float(u[0, 1]) == pytest.approx(below / total, abs=1e-9)
    marginal = sum(
        math.exp(w) * stats.norm.cdf(first, m, s)
        for w, m, s in zip(made.log_weight[0], made.mean[0, :, 0], made.scale[0, :, 0], strict=True)
    )
    assert float(u[0, 0]) == pytest.approx(float(marginal), abs=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_moments_are_those_of_samples(kind, seed):
    n = 100_000
    made = law(kind, (1,), 2, 8)
    mean, covariance = (part[0] for part in moments(made))
    x = repeat(made, n).sample(Sampled(seed), torch.ones(n, dtype=torch.bool))
    whitened = torch.linalg.solve_triangular(torch.linalg.cholesky(covariance), (x - mean).T, upper=False)
    # Five standard errors; a mixture's fourth moment is below that of a Gaussian here.
    assert_close(whitened.mean(1), torch.zeros(2, dtype=torch.float64), rtol=0, atol=5 / n**0.5)
    assert_close(whitened.cov(), torch.eye(2, dtype=torch.float64), rtol=0, atol=5 * (2 / n) ** 0.5)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("dim", [1, 1024])
def test_log_densities_do_not_overflow(scale, dtype, dim):
    mean = torch.full((1, dim), 3 * scale, dtype=dtype)
    spread = torch.full((1, dim), scale, dtype=dtype)
    x = mean + 100 / dim**0.5 * spread
    expected = -0.5 * 100**2 - dim * (math.log(scale) + 0.5 * math.log(2 * math.pi))
    made = [
        Gaussian(mean, spread),
        FullGaussian(mean, torch.diag_embed(spread)),
        Mixture(torch.tensor([[0.5, 0.5]], dtype=dtype).log(), mean.expand(1, 2, dim), spread.expand(1, 2, dim)),
    ]
    for one in made:
        one.check("p")
        assert_close(one.log_prob(x), torch.tensor([expected], dtype=torch.float64), rtol=1e-5, atol=0)
        assert bool(one.rosenblatt(x).isfinite().all())


def test_colour_undoes_whiten():
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for kind in ("gaussian", "full"):
        made = law(kind, (5,), 3)
        assert_close(made.colour(made.whiten(x)), x)


def test_a_law_from_its_covariance():
    made = law("full", (2,), 3)
    covariance = made.cholesky @ made.cholesky.mT
    assert_close(from_covariance(made.mean, covariance).cholesky, made.cholesky)


ones = torch.ones(2, 3, dtype=torch.float64)
eye = torch.eye(3, dtype=torch.float64).expand(2, 3, 3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: Gaussian(ones, ones[:1]),
            r"means of shape \(2, 3\) and scales of \(1, 3\); both are \[\*shape, dim\]",
        ),
        (lambda: Gaussian(ones, ones.float()), r"means of dtype torch.float64 and scales of torch.float32; use one"),
        (lambda: Gaussian(ones.long(), ones.long()), "use one floating point type"),
        (lambda: FullGaussian(ones, ones), r"Cholesky factors of \(2, 3\); they are \[\*shape, dim\] and"),
        (lambda: Mixture(ones, ones, ones), r"log weights of shape \(2, 3\), means of \(2, 3\)"),
        (lambda: Mixture(ones.float(), ones[..., None], ones[..., None]), "parameters of dtypes"),
        (lambda: from_covariance(ones, ones), r"a covariance has shape \(2, 3\); covariances are"),
        (lambda: from_covariance(ones, -eye), "not positive definite: its smallest eigenvalue is -1; add a multiple"),
        (lambda: from_covariance(ones, 0 * eye), "not positive definite: its smallest eigenvalue is 0"),
        (
            lambda: from_covariance(ones, eye + ones[:, :, None].tril(-1) * 0.1 * eye.new_ones(3, 3).tril(-1)),
            "symmetric",
        ),
        (lambda: from_covariance(ones, torch.nan * eye), "not symmetric"),
        (
            lambda: Gaussian(ones, 0 * ones).check("p"),
            "p has the standard deviation 0.0; it must be positive and finite",
        ),
        (lambda: Gaussian(ones, -ones).check("q"), "q has the standard deviation -1.0"),
        (lambda: Gaussian(ones, ones * torch.inf).check("q"), "q has the standard deviation inf"),
        (
            lambda: Gaussian(ones * torch.nan, ones).check("p"),
            "p has the mean nan; means are finite: check the network",
        ),
        (lambda: FullGaussian(ones, -eye).check("p"), "p has the standard deviation -1.0"),
        (lambda: FullGaussian(ones, eye + eye.new_ones(3, 3).triu(1)).check("p"), "not lower triangular and finite"),
        (
            lambda: Mixture(ones, ones[..., None], ones[..., None]).check("p"),
            r"p has weights that do not sum to 1: they are off by 7\.15; pass log weights through log_softmax",
        ),
        (lambda: Mixture(ones * torch.nan, ones[..., None], ones[..., None]).check("p"), "off by nan"),
        (
            lambda: check_pair(Gaussian(ones, ones), Gaussian(ones[:, :2], ones[:, :2]), ones),
            "p has shape .* dimension 3",
        ),
        (
            lambda: check_pair(Gaussian(ones, ones), Gaussian(ones, ones), ones[:1]),
            r"the draft tokens have shape \(1, 3\)",
        ),
        (lambda: check_pair(Gaussian(ones, ones), Gaussian(ones, -ones), ones), "q has the standard deviation -1.0"),
        (lambda: check_tokens(ones.long(), Gaussian(ones, ones), "tokens"), "tokens have dtype torch.int64"),
        (lambda: check_tokens(ones / 0, Gaussian(ones, ones), "tokens"), "tokens hold inf; tokens are finite"),
    ],
)
def test_bad_laws_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()
