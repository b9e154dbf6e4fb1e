"""CSpD's criterion: its algebra (C6, C7), and that neither the paper's form nor the code's keeps the law of p."""

import math
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats
from torch.testing import assert_close

from specverify import tree
from specverify.draws import Sampled
from specverify.errors import InputError
from specverify.laws import Chain, Denoised, Denoiser, Gaussian, Mixture
from specverify.rules import cspd
from specverify.rules.rejection import accept_probability, decide, log_ratio
from specverify.rules.trajectory import align

ALPHA = 1e-6
ROWS = 40_000


def chain(mean, scale, *, stretch=1.0, steps=4, rows=1, dim=1):
    """Linear-Gaussian chains of one kind."""
    data = Mixture(
        torch.zeros(1, 1, dtype=torch.float64),
        torch.full((1, 1, dim), mean, dtype=torch.float64),
        torch.full((1, 1, dim), scale, dtype=torch.float64),
    )
    condition = Denoised(data, torch.tensor([stretch], dtype=torch.float64))
    return Chain(tree.map_tensors(condition, lambda part: part.expand(rows, *part.shape[1:])), Denoiser(dim, steps))


def one(shape):
    return torch.ones(shape, dtype=torch.bool)


PAIRS = {
    "shifted": ({"mean": 0.0, "scale": 0.6}, {"mean": 0.8, "scale": 0.6}),
    "other data": ({"mean": 0.0, "scale": 0.6}, {"mean": 0.4, "scale": 1.0}),
    "wider steps": ({"mean": 0.0, "scale": 0.6}, {"mean": 0.2, "scale": 0.6, "stretch": 1.15}),
    "narrower steps": ({"mean": 0.0, "scale": 0.6}, {"mean": 0.2, "scale": 0.6, "stretch": 0.85}),
}
chains = st.builds(
    lambda mean, scale, stretch: {"mean": mean, "scale": scale, "stretch": stretch},
    st.floats(-1, 1), st.floats(0.3, 1.5), st.floats(0.7, 1.4),
)  # fmt: skip


def drafted(pair, seed, rows=ROWS, **arguments):
    """Both chains, the draft's trajectories, and the target's from the same noise."""
    p, q = (chain(**each, **arguments, rows=rows) for each in PAIRS[pair])
    path = q.path(Sampled(seed), one(rows))
    return p, q, path, align(p, q, path)


def noises(made, path):
    yield made.first().whiten(path[..., made.steps, :])
    for t in range(made.steps, 0, -1):
        yield made.transition(t, path[..., t, :]).whiten(path[..., t - 1, :])


@given(chains, chains, st.integers(2, 8), st.integers(1, 3))
@settings(max_examples=40)
def test_aligned_trajectories_share_their_noise(mine, theirs, steps, dim):
    p, q = (chain(**each, steps=steps, rows=8, dim=dim) for each in (mine, theirs))
    path = q.path(Sampled(0), one(8))
    aligned = align(p, q, path)
    for ours, other in zip(noises(p, aligned), noises(q, path), strict=True):
        assert_close(ours, other, rtol=0, atol=1e-9)
    assert_close(align(q, q, path), path, rtol=0, atol=1e-12)


@given(chains, chains, st.integers(2, 8), st.integers(1, 3))
@settings(max_examples=40)
def test_c7_the_surrogate_is_a_ratio_of_densities_of_two_trajectories(mine, theirs, steps, dim):
    p, q = (chain(**each, steps=steps, rows=8, dim=dim) for each in (mine, theirs))
    path = q.path(Sampled(0), one(8))
    aligned = align(p, q, path)
    judged = torch.cat([path[:, :1], aligned[:, 1:]], 1)  # the draft token at the end of the target's way
    ratio = p.path_log_prob(judged) - q.path_log_prob(path)
    surrogate = cspd.PUBLISHED.log_ratio(cspd.last_step(p, q, path, aligned))
    assert_close(surrogate, ratio, rtol=1e-8, atol=1e-8)
    # As released Sigma is upside down: but for the temperature, the two differ by twice its logarithm.
    sigma = cspd.log_sigma(p, q, path, aligned)
    assert_close(sigma, torch.full((8,), dim * (steps - 1) * math.log(theirs["stretch"] / mine["stretch"])).double(),
                 rtol=1e-5, atol=1e-6)  # fmt: skip
    x, last_p, last_q = path[:, 0], cspd.last(p, aligned), cspd.last(q, path)
    squares = (last_q.whiten(x).square() - last_p.whiten(x).square()).sum(-1)
    tempered = surrogate - squares / 2 * (1 - 1 / 42**2)
    released = cspd.RELEASED.log_ratio(cspd.last_step(p, q, path, aligned))
    assert_close(released - tempered, -2 * sigma, rtol=1e-8, atol=1e-8)


def test_c6_shared_noise_brings_tokens_together(seed):
    n = 100_000
    q = Gaussian(torch.zeros(n, 2, dtype=torch.float64), torch.tensor([[0.5, 1.5]], dtype=torch.float64).expand(n, 2))
    p = Gaussian(q.mean + 0.3, torch.tensor([[0.4, 2.0]], dtype=torch.float64).expand(n, 2))
    x, free = q.sample(Sampled(seed), one(n)), p.sample(Sampled(seed, 1), one(n))
    shared = p.colour(q.whiten(x))
    gain = (x - free).square().sum(-1) - (x - shared).square().sum(-1)
    expected = 2 * float((q.scale * p.scale)[0].sum())
    assert abs(float(gain.mean()) - expected) < 5 * float(gain.std()) / math.sqrt(n)


@given(st.integers(1, 4), st.integers(0, 10_000))
@settings(max_examples=40)
def test_c6_by_quadrature(dim, number):
    """Three nodes a coordinate are exact for squares; p's own noise is independent or that of q."""
    generator = np.random.default_rng(number)
    mean_p, mean_q, *logs = torch.from_numpy(generator.standard_normal((4, 1, dim)))
    points, weights = special.roots_hermitenorm(3)
    weights = weights / weights.sum()
    noise = torch.tensor(list(product(points, repeat=dim)), dtype=torch.float64)
    weight = torch.tensor([math.prod(each) for each in product(weights, repeat=dim)], dtype=torch.float64)
    p, q = (
        Gaussian(mean.expand(len(noise), -1), log.exp().expand(len(noise), -1))
        for mean, log in zip((mean_p, mean_q), logs, strict=True)
    )
    x, free = q.colour(noise), p.colour(noise)
    shared = p.colour(q.whiten(x))
    apart = weight @ (x[:, None] - free).square().sum(-1) @ weight
    together = weight @ (x - shared).square().sum(-1)
    assert float(apart - together) == pytest.approx(2 * float((p.scale * q.scale)[0].sum()), rel=1e-9)


GRID = torch.linspace(-25, 25, 10_001, dtype=torch.float64)
STEP = 0.005


def on_grid(made, path):
    """The densities of x_0 at every point of the grid, given one trajectory, and that trajectory with each for x_0."""
    judged = path.expand(len(GRID), -1, -1).clone()
    judged[:, 0, 0] = GRID
    return cspd.last(made, judged).log_prob(judged[:, 0]).exp(), judged


@given(chains, chains, st.integers(2, 6), st.integers(0, 100))
@settings(max_examples=40)
def test_c7_given_the_noise_the_mean_of_the_surrogate_is_sigma_and_only_one_keeps_the_law(mine, theirs, steps, seed):
    p, q = (chain(**each, steps=steps) for each in (mine, theirs))
    path = q.path(Sampled(seed), one(1))
    aligned = align(p, q, path)
    wide_p, wide_q = (chain(**each, steps=steps, rows=len(GRID)) for each in (mine, theirs))
    f, judged_p = on_grid(wide_p, aligned)
    g, judged_q = on_grid(wide_q, path)
    surrogate = cspd.PUBLISHED.log_ratio(cspd.last_step(wide_p, wide_q, judged_q, judged_p)).exp()
    sigma = float(cspd.log_sigma(p, q, path, aligned).exp())
    assert float((g * surrogate).where(g > 0, 0.0).sum()) * STEP == pytest.approx(sigma, rel=1e-6)
    # What the published rule emits, given the noise: what it accepts, and its residual by as much as it rejects.
    accepted = torch.minimum(g, sigma * f)
    residual = (f - g / sigma).clamp(min=0)
    rejected = 1 - float(accepted.sum()) * STEP
    if float(residual.sum()) * STEP > 1e-6:
        emitted = accepted + rejected * residual / (residual.sum() * STEP)
        bias = float((emitted - f).abs().sum()) * STEP / 2
        assert (bias < 1e-6) == (abs(sigma - 1) < 1e-6 or rejected < 1e-6 or rejected > 1 - 1e-6)


@pytest.mark.parametrize("pair", PAIRS)
def test_c7_by_samples_the_true_ratio_has_mean_one_and_the_surrogate_that_of_sigma(pair, seed):
    p, q, path, aligned = drafted(pair, seed)
    exact = log_ratio(p, q, path[:, 0]).exp()
    assert abs(float(exact.mean()) - 1) < 5 * float(exact.std()) / math.sqrt(ROWS)
    surrogate = cspd.PUBLISHED.log_ratio(cspd.last_step(p, q, path, aligned)).exp()
    sigma = float(cspd.log_sigma(p, q, path, aligned).exp().mean())
    error = float(surrogate.std()) / math.sqrt(ROWS)
    assert abs(float(surrogate.mean()) - sigma) < 5 * error
    assert (abs(sigma - 1) > 0.3) == ("steps" in pair)
    if "steps" in pair:
        assert abs(float(surrogate.mean()) - 1) > 6 * error


def emitted(pair, form, seed):
    """The tokens of one decision each, in the published or the released form, and whether each draft was accepted."""
    p, q, path, aligned = drafted(pair, seed)
    criterion = cspd.PUBLISHED if form == "published" else cspd.RELEASED
    found = criterion.decide(cspd.last_step(p, q, path, aligned), Sampled(seed, 1), one(ROWS))
    return found.x, found.accepted


@pytest.mark.thinned(2)
@pytest.mark.parametrize("form", ["published", "released"])
@pytest.mark.parametrize("pair", PAIRS)
def test_the_token_has_the_law_of_p_only_as_published_and_with_shared_covariances(pair, form, seed):
    p, q, path, _ = drafted(pair, seed)
    x, accepted = emitted(pair, form, seed)
    pvalue = stats.kstest(p.rosenblatt(x)[:, 0], "uniform").pvalue
    if form == "published" and "steps" not in pair:
        assert pvalue > ALPHA
    else:
        assert pvalue < ALPHA
    # The same chains and drafts under the exact rule pass.
    exact = decide(p, q, path[:, 0], Sampled(seed, 1), one(ROWS))
    assert stats.kstest(p.rosenblatt(exact.x)[:, 0], "uniform").pvalue > ALPHA
    if form == "released" and pair in ("shifted", "narrower steps"):
        # Above 1 - TV, which no exact rule exceeds: tempered squares hardly count, and 1 / Sigma > 1.
        assert float(accepted.double().mean()) > float(accept_probability(p, q, path[:, 0]).mean()) + 0.05


def test_a_small_sigma_leaves_trajectories_without_a_replacement(seed):
    p, q, path, aligned = drafted("narrower steps", seed, rows=4000, steps=12)
    assert bool((cspd.log_sigma(p, q, path, aligned) < -1.5).all())
    found = cspd.Criterion(limit=200).replacement(cspd.last_step(p, q, path, aligned), Sampled(seed, 1), one(4000))
    assert 0.005 < float((~found.resolved).double().mean()) < 0.05
    assert found.bias == 1
    assert bool((found.x[~found.resolved] != 0).all())
    assert bool((found.trials[~found.resolved] == 200).all())


def test_released_code_gives_up_after_100_proposals_and_emits_zeros(seed):
    p, q, path, aligned = drafted("wider steps", seed, rows=4000)
    found = cspd.RELEASED.replacement(cspd.last_step(p, q, path, aligned), Sampled(seed, 1), one(4000))
    assert 0.05 < float((~found.resolved).double().mean()) < 0.95
    assert bool((found.x[~found.resolved] == 0).all())
    assert bool((found.x[found.resolved] != 0).all())
    assert bool((found.trials[~found.resolved] == 100).all())


def test_a_distance_of_ten_is_accepted_as_released():
    # Both noiseless at the last step: the draft token is the mean of q, and only the distance of the means counts.
    distance = math.exp(-(10**2) / (2 * cspd.RELEASED.temperature**2))
    assert distance == pytest.approx(0.972, abs=5e-4)
    p, q, path, _ = drafted("shifted", 0, rows=50)
    path = torch.cat([cspd.released_token(q, path)[:, None], path[:, 1:]], 1)
    aligned = align(p, q, path)
    assert_close(aligned[:, 0], cspd.released_token(p, aligned))
    apart = (cspd.last(p, aligned).mean - cspd.last(q, path).mean) / cspd.last(p, aligned).scale
    expected = -(apart.square().sum(-1)) / (2 * 42**2)
    assert_close(cspd.RELEASED.log_ratio(cspd.last_step(p, q, path, aligned)), expected, rtol=0, atol=1e-9)


def test_numbers_that_are_no_criterion_are_refused():
    with pytest.raises(InputError, match=r"temperature 0: it is a positive number; 1 as published, 42 as released"):
        cspd.Criterion(temperature=0)
    with pytest.raises(InputError, match="limit = 0: a rejected draft takes at least one trial"):
        cspd.Criterion(limit=0)
