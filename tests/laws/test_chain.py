"""Diffusion heads as laws: joint densities by hand, marginals in closed form, by quadrature and by samples."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch.testing import assert_close

from specverify import tree
from specverify.draws import Sampled
from specverify.errors import InputError
from specverify.laws import Chain, Denoised, Denoiser, Gaussian, Head, Law, Mixture, at, select
from specverify.laws.moments import moments

ALPHA = 1e-6


def tensor(*values):
    return torch.tensor(values, dtype=torch.float64)


def linear(mean, scale, stretch=1.0, steps=5, rows=1):
    """Chains of one kind towards a Gaussian; mean and scale are lists of the coordinates."""
    data = Mixture(tensor([0.0]), tensor([mean]), tensor([scale]))
    condition = tree.map_tensors(Denoised(data, tensor(stretch)), lambda part: part.expand(rows, *part.shape[1:]))
    return Chain(condition, Denoiser(len(mean), steps))


def score(steps=5, rows=1, points=1025, stretch=1.0):
    """Chains of one kind towards a mixture in one dimension."""
    data = Mixture(tensor([0.3, 0.7]).log(), tensor([[-1.5], [1.0]]), tensor([[0.3], [0.5]]))
    condition = tree.map_tensors(Denoised(data, tensor(stretch)), lambda part: part.expand(rows, *part.shape[1:]))
    return Chain(condition, Denoiser(1, steps, points))


def drawn(chain, seed):
    return chain.path(Sampled(seed), torch.ones(chain.shape, dtype=torch.bool))


def test_a_chain_is_a_law_of_its_shape():
    chain = linear([0.5, -1.0], [0.4, 0.8], rows=3)
    assert isinstance(chain, Law)
    assert isinstance(chain.head, Head)
    assert (chain.shape, chain.dim, chain.steps) == ((3,), 2, 5)
    chain.check("p")
    assert select(chain, torch.tensor([1])).shape == (1,)
    stacked = tree.map_tensors(chain, lambda part: torch.stack([part, part + 1], 1))
    assert at(stacked, torch.tensor([0, 1, 0])).condition.data.mean[1].tolist() == [[1.5, 0.0]]


def test_paths_hold_the_token_first_and_nothing_where_none_is_asked_for(seed):
    chain = linear([3.0], [0.1], rows=4)
    path = chain.path(Sampled(seed), torch.tensor([True, False, True, False]))
    assert path.shape == (4, 6, 1)
    assert bool((path[1::2] == 0).all())
    assert bool((path[::2] != 0).all())
    assert bool((path[::2, 0] > 1.5).all())
    assert torch.equal(chain.sample(Sampled(seed), torch.tensor([True, False, True, False])), path[:, 0])


def test_the_path_density_of_a_linear_chain_is_a_joint_gaussian():
    chain = linear([0.7], [0.5], stretch=1.3, steps=2)
    zero, one = tensor([0.0]), tensor([1.0])
    shift, slope, scale = [0.0] * 3, [0.0] * 3, [0.0] * 3
    for t in (1, 2):
        shift[t] = float(chain.transition(t, zero).mean)
        slope[t] = float(chain.transition(t, one).mean) - shift[t]
        scale[t] = float(chain.transition(t, zero).scale)
    # x_2 = e_2, x_1 = shift_2 + slope_2 x_2 + scale_2 e_1, x_0 = shift_1 + slope_1 x_1 + scale_1 e_0
    factor = np.array([[scale[1], slope[1] * scale[2], slope[1] * slope[2]], [0, scale[2], slope[2]], [0, 0, 1]])
    mean = [shift[1] + slope[1] * shift[2], shift[2], 0]
    joint = stats.multivariate_normal(mean, factor @ factor.T)
    path = torch.randn(1, 3, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert float(chain.path_log_prob(path)) == pytest.approx(joint.logpdf(path.flatten().numpy()), abs=1e-10)
    marginal = chain.marginal()
    assert float(marginal.mean) == pytest.approx(mean[0], abs=1e-12)
    assert float(marginal.scale) == pytest.approx(math.sqrt((factor @ factor.T)[0, 0]), abs=1e-12)


@pytest.mark.parametrize("stretch", [0.7, 1.0, 1.5])
@pytest.mark.parametrize("steps", [2, 5, 12])
def test_quadrature_agrees_with_the_closed_form(steps, stretch):
    chain = linear([0.7], [0.5], stretch=stretch, steps=steps)
    mean, variance = moments(chain)
    by_quadrature = chain.head._quadrature(chain.condition)
    assert_close(moments(by_quadrature), (mean, variance), rtol=0, atol=1e-9)
    x = torch.linspace(-3, 4, 50, dtype=torch.float64)[:, None]
    wide = tree.map_tensors(by_quadrature, lambda part: part.expand(50, *part.shape[1:]))
    exact = Gaussian(mean.expand(50, 1), variance[:, 0].sqrt().expand(50, 1))
    assert_close(wide.log_prob(x).exp(), exact.log_prob(x).exp(), rtol=0, atol=1e-9)


@pytest.mark.parametrize("steps", [2, 6, 12])
def test_quadrature_no_longer_moves_with_its_grid_and_integrates_to_one(steps):
    x = torch.linspace(-8, 8, 1601, dtype=torch.float64)[:, None]
    density = [
        tree.map_tensors(score(steps, points=points).marginal(), lambda part: part.expand(1601, *part.shape[1:]))
        .log_prob(x)
        .exp()
        for points in (1025, 1537)
    ]
    assert_close(density[0], density[1], rtol=0, atol=1e-12)
    assert float(density[0].sum() * 0.01) == pytest.approx(1, abs=1e-9)


@pytest.mark.thinned(2)
@pytest.mark.parametrize("make", [score, lambda rows, stretch: linear([0.7, -1.0], [0.5, 1.5], stretch, rows=rows)])
@pytest.mark.parametrize("stretch", [1.0, 1.4])
def test_tokens_have_the_marginal_law(make, stretch, seed):
    n = 20_000
    x = make(rows=n, stretch=stretch).sample(Sampled(seed), torch.ones(n, dtype=torch.bool))
    marginal = make(rows=1, stretch=stretch).marginal()
    for part in range(4):  # in parts, as the marginal holds 1,025 components
        piece = x[part * 5000 : (part + 1) * 5000]
        wide = tree.map_tensors(marginal, lambda one: one.expand(5000, *one.shape[1:]))
        for k in range(x.shape[1]):
            assert stats.kstest(wide.rosenblatt(piece)[:, k], "uniform").pvalue > ALPHA / 8


def test_chain_densities_are_those_of_the_marginal():
    chain, x = score(), tensor([0.4])
    assert_close(chain.log_prob(x), chain.marginal().log_prob(x))
    assert_close(chain.rosenblatt(x), chain.marginal().rosenblatt(x))


def test_the_prediction_is_the_posterior_mean():
    chain = score()
    head, data, x, t = chain.head, chain.condition.data, 0.3, 3
    grid = torch.linspace(-6, 6, 4001, dtype=torch.float64)
    wide = tree.map_tensors(data, lambda part: part.expand(4001, *part.shape[1:]))
    noisy = Gaussian(math.sqrt(head.kept[t]) * grid[:, None], torch.full_like(grid[:, None], (1 - head.kept[t]) ** 0.5))
    weight = (wide.log_prob(grid[:, None]) + noisy.log_prob(torch.full((4001, 1), x, dtype=torch.float64))).softmax(0)
    assert float(head.predict(data, t, tensor([x]))) == pytest.approx(float((weight * grid).sum()), abs=1e-9)


class Opaque:
    """A head as a network's: no marginal, no check."""

    dim, steps = 1, 2

    def first(self, condition):
        return Gaussian(torch.zeros_like(condition), torch.ones_like(condition))

    def transition(self, condition, t, x):
        return Gaussian(condition * x, condition.abs() - float(t == 1))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: Chain(tensor([2.0]), Opaque()).log_prob(tensor([0.0])),
            "the density of a token of Opaque is not known",
        ),
        (
            lambda: Chain(tensor([1.0]), Opaque()).check_path(torch.zeros(1, 3, 1), "p"),
            "p, at step 1, has the standard",
        ),
        (lambda: Chain(tensor([2.0]), Opaque()).check_path(torch.zeros(1, 2, 1), "p"), r"p has trajectories of shape"),
        (lambda: Denoiser(1, 1), "dim = 1, steps = 1, points = 1025: a chain has at least 1 coordinate and 2 steps"),
        (
            lambda: score(12, points=129).marginal(),
            r"129 points are too coarse for step \d+ of the chain; use \d+ or more",
        ),
        (lambda: linear([0.0], [-1.0]).check("q"), "q, in its data, has the standard deviation -1.0"),
        (lambda: linear([0.0], [1.0], 0.0).check("q"), "q has the standard deviation 0.0; it must be positive"),
        (
            lambda: Chain(
                Denoised(
                    Mixture(tensor([0.5, 0.5]).log(), tensor([[0.0, 0.0]] * 2), tensor([[1.0, 1.0]] * 2)), tensor(1.0)
                ),
                Denoiser(2, 4),
            ).marginal(),
            "a chain towards a mixture in 2 dimensions has no known marginal",
        ),
    ],
)
def test_bad_chains_are_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()


def test_a_network_of_known_steps_is_judged_by_its_paths():
    chain = Chain(torch.full((2, 1), 2.0, dtype=torch.float64), Opaque())
    chain.check("p")
    chain.check_path(drawn(chain, 3), "p")
