"""Checks on Rosenblatt transforms: exact rates, powers at Gaussian alternatives of known distance, and localisation."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from specverify.draws import Sampled
from specverify.errors import InputError
from specverify.evidence.design import rate_excess
from specverify.evidence.rosenblatt import RosenblattLags, RosenblattPairs, RosenblattUniformity, transform, transforms
from specverify.laws import FullGaussian, Gaussian, Mixture
from toymodels import continuous, continuous_drafts

CHECKS = {
    "all": RosenblattUniformity("all"),
    "position": RosenblattUniformity("position"),
    "dimension": RosenblattUniformity("dimension"),
    "coordinate": RosenblattUniformity("coordinate"),
    "pairs of positions": RosenblattPairs("position"),
    "pairs of dimensions": RosenblattPairs("dimension", grid=3),
    "pairs of rows": RosenblattPairs("row"),
}


class Model:
    """Each token is a mixture or a correlated Gaussian about half of the one before it."""

    name, dim, length, dtype, device = "half", 2, 4, torch.float64, torch.device("cpu")

    def __init__(self, kind):
        self.kind = kind

    def advance(self, context, tokens, count):
        raise NotImplementedError  # a teacher-forced pass needs none

    def start(self, batch):
        return torch.zeros(batch, 2, dtype=torch.float64)

    def laws(self, context, draft):
        mean = torch.cat([context[:, None], draft], 1) / 2
        if self.kind == "mixture":
            weight = torch.tensor([0.3, 0.7], dtype=torch.float64).log().expand(*mean.shape[:-1], 2)
            means = torch.stack([mean - 1, mean + 1], -2)
            return Mixture(weight, means, torch.full_like(means, 0.5))
        factor = torch.tensor([[1.0, 0.0], [0.8, 0.6]], dtype=torch.float64)
        return FullGaussian(mean, factor.expand(*mean.shape, 2))


class Opaque:
    """A law whose distribution functions are not known."""

    dim, shape = 2, (3, 4)

    def log_prob(self, x):
        raise NotImplementedError

    def sample(self, draws, where):
        raise NotImplementedError

    def check(self, what):
        pass


def sequences(model, n, generator, shift=0.0, scale=1.0):
    """n sequences of a model; `shift` and `scale` act on the noise of the first coordinate of every token."""
    tokens, before = [], np.zeros((n, 2))
    for _ in range(model.length):
        noise = generator.standard_normal((n, 2))
        noise[:, 0] = shift + scale * noise[:, 0]
        if model.kind == "mixture":
            step = 0.5 * noise + np.where(generator.random((n, 1)) < 0.3, -1, 1)
        else:
            step = noise @ np.array([[1.0, 0.8], [0.0, 0.6]])
        before = before / 2 + step
        tokens.append(before)
    return torch.from_numpy(np.stack(tokens, 1))


@pytest.mark.thinned(4)
@pytest.mark.parametrize("kind", ["mixture", "correlated"])
@pytest.mark.parametrize("name", sorted(CHECKS))
def test_false_alarm_rate_of_perfect_samplers(name, kind, seed):
    generator, alpha, trials, model = np.random.default_rng(seed), 0.05, 50, Model(kind)
    alarms = 0
    for _ in range(trials):
        uniforms = transforms(model, sequences(model, 60, generator))
        alarms += CHECKS[name].check(uniforms, alpha=alpha, beta=0.1).rejected
    assert rate_excess(alarms, trials, alpha) > 1e-6


def autoregressive(model, n, seed):
    """n sequences of a model, a token at a time."""
    draws, context, tokens = Sampled(seed), model.start(n), []
    for _ in range(model.length):
        law = model.laws(context, torch.zeros(n, 0, model.dim, dtype=model.dtype))
        token = law.sample(draws, torch.ones(n, 1, dtype=torch.bool))
        context = model.advance(context, token, torch.ones(n, dtype=torch.int64))
        tokens.append(token)
    return torch.cat(tokens, 1)


@pytest.mark.thinned(2)
# the density of a token of "score" takes a million numbers a row
@pytest.mark.parametrize("name", [name for name in continuous.names() if not name.startswith("score")])
def test_every_toy_with_known_laws_passes_and_its_draft_does_not(name, seed):
    model, n = continuous.toy(name), 400
    uniforms = transforms(model, autoregressive(model, n, seed))
    assert not RosenblattUniformity().check(uniforms, alpha=1e-6, beta=0.1).rejected
    assert not RosenblattPairs("row").check(uniforms, alpha=1e-6, beta=0.1).rejected
    wider = transforms(model, autoregressive(continuous_drafts.draft("wider", model), n, seed + 1))
    assert RosenblattUniformity("all").check(wider, alpha=1e-6, beta=0.1).rejected


def test_passes_over_some_rows_at_a_time_change_nothing(seed):
    model = continuous.toy("mix-2x4")
    tokens = autoregressive(model, 20, seed)
    assert np.array_equal(transforms(model, tokens, rows=7), transforms(model, tokens))


def test_gaussian_transforms_are_the_distribution_function(seed):
    tokens = torch.from_numpy(np.random.default_rng(seed).standard_normal((5, 3, 2)))
    law = Gaussian(torch.ones(5, 3, 2, dtype=torch.float64), torch.full((5, 3, 2), 2.0, dtype=torch.float64))
    assert np.allclose(transform(law, tokens), stats.norm.cdf(tokens.numpy(), 1, 2), atol=1e-12)


@pytest.mark.thinned(2)
@pytest.mark.parametrize(
    ("by", "shift", "scale"),
    [
        ("all", 0.3, 1.0),
        ("dimension", -0.2, 1.0),
        ("coordinate", 0.3, 1.0),
        ("all", 0.0, 1.5),
        ("coordinate", 0.0, 0.6),
    ],
)
def test_miss_rate_at_gaussian_alternatives_of_known_distance(by, shift, scale, seed):
    # Kolmogorov's distance between N(shift, scale) and N(0, 1), the law of the first coordinate of every token
    levels = np.linspace(-4, 4, 4001)
    distance = float(np.abs(stats.norm.cdf(levels, shift, scale) - stats.norm.cdf(levels)).max())
    model, generator, rate, trials = Model("correlated"), np.random.default_rng(seed), 0.05, 30
    check = RosenblattUniformity(by, length=4, dim=2)
    n = check.sample_size(distance / (2 if by == "all" else 1), alpha=1e-3, beta=rate)
    misses = 0
    for _ in range(trials):
        uniforms = transforms(model, sequences(model, n, generator, shift, scale))
        # the later coordinates are conditional on the one that is off, and right given it
        misses += not check.check(uniforms, alpha=1e-3, beta=rate).rejected
    assert rate_excess(misses, trials, rate) > 1e-6


def test_the_coordinate_that_is_off_is_named(seed):
    uniforms = np.random.default_rng(seed).random((3000, 4, 3))
    uniforms[:, 2, 1] **= 2  # distance 1/4, too many low values
    found = RosenblattUniformity().check(uniforms, alpha=1e-6, beta=1e-6)
    assert found.data["rejected"] == [index == 2 * 3 + 1 for index in range(12)]
    assert "1 of 12 groups rejected; most deviant: position 2, dimension 1, +0.2" in found.detail
    assert (found.basis, found.power) == ("exact", "finite-sample bound")
    by_dimension = RosenblattUniformity("dimension").check(uniforms, alpha=1e-6, beta=1e-6)
    assert by_dimension.data["rejected"] == [False, True, False]


def test_the_upper_bound_holds_the_distance(seed):
    generator, trials, alpha = np.random.default_rng(seed), 100, 0.1
    below = 0
    for _ in range(trials):
        uniforms = generator.random((200, 5, 1))
        uniforms = np.where(uniforms < 0.6, uniforms / 0.6 * 0.5, 0.5 + (uniforms - 0.6) / 0.8)
        below += RosenblattUniformity("all").check(uniforms, alpha=alpha, beta=0.1).interval[1] < 0.1
    assert rate_excess(below, trials, alpha) > 1e-6


@pytest.mark.parametrize("along", ["position", "dimension", "row"])
def test_dependence_is_seen_along_its_own_axis_alone(along, seed):
    generator = np.random.default_rng(seed)
    uniforms = generator.random((400, 12, 12))
    axis = {"row": 0, "position": 1, "dimension": 2}[along]
    moved = np.moveaxis(uniforms, axis, 0)
    copied = generator.random((len(moved) - 1, *moved.shape[1:])) < 0.2
    moved[1:] = np.where(copied, moved[:-1].copy(), moved[1:])
    for other in ("position", "dimension", "row"):
        found = RosenblattPairs(other).check(uniforms, alpha=1e-6, beta=1e-6)
        assert found.rejected == (other == along)
        assert found.check == f"Rosenblatt pairs, {other}s 1 apart"


def test_miss_rate_of_pairs_at_the_stated_distance(seed):
    generator, rate, trials = np.random.default_rng(seed), 0.05, 40
    check, delta = RosenblattPairs(), 0.2 * (1 - 1 / 4)
    n = check.sample_size(delta, alpha=1e-6, beta=rate)
    misses = 0
    for _ in range(trials):
        uniforms = generator.random((n, 2, 1))
        uniforms[:, 1] = np.where(generator.random((n, 1)) < 0.2, uniforms[:, 0], uniforms[:, 1])
        misses += not check.check(uniforms, alpha=1e-6, beta=rate).rejected
    assert rate_excess(misses, trials, rate) > 1e-6


def test_planning_divides_alpha_over_groups_and_pools_tokens():
    one = RosenblattUniformity("all").sample_size(0.02, alpha=1e-6, beta=1e-3)
    many = RosenblattUniformity("all", length=16, dim=4).sample_size(0.02, alpha=1e-6, beta=1e-3)
    each = RosenblattUniformity("coordinate", length=16, dim=4).sample_size(0.02, alpha=1e-6, beta=1e-3)
    assert math.ceil(one / 64) == pytest.approx(many, rel=0.01)
    assert one < each < 2 * one


def test_bad_input_is_named():
    tokens = torch.zeros(3, 4, 2, dtype=torch.float64)
    model = Model("mixture")
    with pytest.raises(InputError, match=r"shape \(3, 3, 2\), but model 'half' emits 4 tokens of 2 coordinates"):
        transforms(model, tokens[:, 1:])
    with pytest.raises(InputError, match=r"the laws are for \(3, 4, 2\)"):
        transform(model.laws(model.start(3), tokens[:, 1:]), tokens[:, 1:])
    with pytest.raises(InputError, match="the tokens hold nan"):
        transforms(model, tokens.index_fill(1, torch.tensor([1]), math.nan))
    with pytest.raises(InputError, match="Opaque has no rosenblatt transform"):
        transform(Opaque(), tokens)
    with pytest.raises(InputError, match="the transforms hold nan"):
        RosenblattUniformity().check(np.full((2, 2, 2), np.nan), alpha=0.01, beta=0.1)
    with pytest.raises(InputError, match=r"shape \(0, 2, 2\)"):
        RosenblattUniformity().check(np.zeros((0, 2, 2)), alpha=0.01, beta=0.1)
    with pytest.raises(InputError, match="no two tokens are 1 apart on an axis of 1"):
        RosenblattPairs().check(np.full((9, 1, 2), 0.5), alpha=0.01, beta=0.1)
    with pytest.raises(InputError, match="by is 'token'"):
        RosenblattUniformity("token")
    with pytest.raises(InputError, match="along is 'time'"):
        RosenblattPairs("time")


@pytest.mark.parametrize("lag", [1, 3, 8])
@pytest.mark.parametrize("sign", [1, -1])
def test_noise_that_comes_again_or_mirrored_is_found_at_any_distance(lag, sign, seed):
    uniforms = np.random.default_rng(seed).random((4000, 12, 2))
    check = RosenblattLags("position")
    right = check.check(uniforms, alpha=1e-6, beta=1e-3)
    assert not right.rejected
    for place in range(lag, 12):
        earlier = uniforms[:, place - lag]
        uniforms[:, place] = earlier if sign > 0 else 1 - earlier
    found = check.check(uniforms, alpha=1e-6, beta=1e-3)
    assert found.rejected
    assert f"{lag} apart" in found.detail or f"{2 * lag} apart" in found.detail or lag == 1
    assert found.delta == right.delta < 0.15
    assert found.alpha == 1e-6


def test_distances_for_which_there_are_no_pairs_are_left_out():
    uniforms = np.random.default_rng(0).random((100, 3, 1))
    found = RosenblattLags("row", (1, 64, 128)).check(uniforms, alpha=0.01, beta=0.1)
    assert found.data["lags"] == [1, 64]
    with pytest.raises(InputError, match="no two dimensions of 1 are"):
        RosenblattLags("dimension").check(uniforms, alpha=0.01, beta=0.1)
