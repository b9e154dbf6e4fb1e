"""E_q[ratio] = 1: rates with tails of every weight, exact ratios that pass, and surrogates that do not."""

import math

import numpy as np
import pytest
import torch

from specverify.draws import Sampled
from specverify.errors import InputError
from specverify.evidence.design import rate_excess
from specverify.evidence.ratio import RatioMean, RatioSymmetry
from specverify.laws import Chain, Denoised, Denoiser, Gaussian, Mixture
from specverify.rules import cspd, rejection, trajectory


def gaussians(generator, n, shift, scale):
    """Exact log ratios of N(0, 1) to N(shift, scale), at n drafts and, inverted, at n tokens of the target."""

    def log_ratio(x):
        return -0.5 * x**2 + 0.5 * ((x - shift) / scale) ** 2 + math.log(scale)

    drafts, tokens = shift + scale * generator.standard_normal(n), generator.standard_normal(n)
    return log_ratio(drafts), -log_ratio(tokens)


# a narrow draft's ratio has no variance, and one of a third of the width not even a mean that 10^6 samples would show
PAIRS = {"equal": (0.0, 1.0), "shifted": (1.0, 1.0), "wide": (0.5, 2.0), "narrow": (0.3, 0.6), "heavy": (0.0, 0.3)}


@pytest.mark.parametrize("check", [RatioMean(), RatioSymmetry()], ids=["mean", "symmetry"])
@pytest.mark.parametrize("name", sorted(PAIRS))
def test_false_alarm_rate_of_exact_ratios(check, name, seed):
    generator, alpha, trials = np.random.default_rng(seed), 0.05, 200
    alarms = sum(
        check.check(*gaussians(generator, 400, *PAIRS[name]), alpha=alpha, beta=0.1).rejected for _ in range(trials)
    )
    assert rate_excess(alarms, trials, alpha) > 1e-6


@pytest.mark.parametrize("factor", [0.7, 1.4])
@pytest.mark.parametrize("check", [RatioMean(), RatioSymmetry()], ids=["mean", "symmetry"])
def test_a_wrong_factor_is_seen_from_one_of_the_sides(check, factor, seed):
    log_ratio, log_inverse = gaussians(np.random.default_rng(seed), 5000, 0.5, 1.0)
    found = check.check(log_ratio + math.log(factor), log_inverse - math.log(factor), alpha=1e-6, beta=0.1)
    assert found.rejected


def test_a_mean_below_one_needs_the_other_side(seed):
    log_ratio, log_inverse = gaussians(np.random.default_rng(seed), 5000, 0.5, 1.0)
    one = RatioMean().check(log_ratio - 0.5, alpha=1e-6, beta=0.1)
    both = RatioMean().check(log_ratio - 0.5, log_inverse + 0.5, alpha=1e-6, beta=0.1)
    assert not one.rejected
    assert "means below 1" in one.blind
    assert both.rejected
    assert "means below 1" not in both.blind


def test_miss_rate_of_the_mean_at_the_stated_excess(seed):
    generator, rate, trials, excess = np.random.default_rng(seed), 0.05, 100, 0.2
    deviation = (1 + excess) * math.sqrt(math.exp(0.25) - 1)
    n = RatioMean(deviation).sample_size(excess, alpha=1e-6, beta=rate)
    misses = 0
    for _ in range(trials):
        log_ratio, log_inverse = gaussians(generator, n, 0.5, 1.0)
        found = RatioMean().check(log_ratio + math.log(1 + excess), log_inverse, alpha=1e-6, beta=rate)
        misses += not found.rejected
    assert found.delta == pytest.approx(excess, rel=0.25)
    assert rate_excess(misses, trials, rate) > 1e-6


def test_miss_rate_of_symmetry_at_the_stated_difference(seed):
    generator, rate, trials, n = np.random.default_rng(seed), 0.05, 100, 2000
    delta = RatioSymmetry().smallest_detectable(n, alpha=1e-6, beta=rate)
    assert RatioSymmetry().sample_size(delta, alpha=1e-6, beta=rate) == pytest.approx(n, rel=0.01)
    misses = 0
    for _ in range(trials):
        # ratios of 0 and 1 alone: coins of 0.4 and 0.4 + delta
        coins = [np.where(generator.random(n) < rate_of, 0.0, -math.inf) for rate_of in (0.4, 0.4 + delta)]
        misses += not RatioSymmetry().check(*coins, alpha=1e-6, beta=rate).rejected
    assert rate_excess(misses, trials, rate) > 1e-6


def test_exact_ratios_in_many_dimensions_pass(seed):
    mean = torch.zeros(4000, 16, dtype=torch.float64)
    p, q = Gaussian(mean, torch.ones_like(mean)), Gaussian(mean + 0.1, torch.full_like(mean, 1.05))
    where = torch.ones(4000, dtype=torch.bool)
    sides = (
        rejection.log_ratio(p, q, q.sample(Sampled(seed), where)),
        -rejection.log_ratio(p, q, p.sample(Sampled(seed + 1), where)),
    )
    for check in (RatioMean(), RatioSymmetry()):
        assert not check.check(*sides, alpha=1e-6, beta=0.1).rejected


def chains(stretch, rows):
    found = []
    for mean, wide in ((0.5, 1.0), (0.7, stretch)):
        data = [torch.full((rows, 1, 2), value, dtype=torch.float64) for value in (mean, 0.5)]
        weight = torch.zeros(rows, 1, dtype=torch.float64)
        condition = Denoised(Mixture(weight, *data), torch.full((rows,), wide, dtype=torch.float64))
        found.append(Chain(condition, Denoiser(2, 3)))
    return found


@pytest.mark.parametrize(
    ("criterion", "stretch", "biased"),
    [
        (cspd.PUBLISHED, 1.0, False),
        (cspd.PUBLISHED, 1.15, True),
        (cspd.PUBLISHED, 0.85, True),
        (cspd.RELEASED, 1.15, True),
        (None, 1.15, False),
    ],
    ids=["published, sigma 1", "published, wide", "published, narrow", "released", "paths"],
)
def test_it_unmasks_the_surrogate(criterion, stretch, biased, seed):
    rows = 6000
    p, q = chains(stretch, rows)
    where = torch.ones(rows, dtype=torch.bool)
    draft, token = q.path(Sampled(seed), where), p.path(Sampled(seed + 1), where)
    if criterion is None:  # exact on path space
        pair = trajectory.Paths(p), trajectory.Paths(q)
        sides = rejection.log_ratio(*pair, draft.flatten(-2)), -rejection.log_ratio(*pair, token.flatten(-2))
    else:
        # the other side: the target's trajectory, the draft's from its noise, judged at the target's token
        other = trajectory.align(q, p, token)
        other[:, 0] = token[:, 0]
        pairs = ((draft, trajectory.align(p, q, draft)), (other, token))
        ours, theirs = (criterion.log_ratio(cspd.last_step(p, q, *pair)) for pair in pairs)
        sides = ours, -theirs
    found = [check.check(*sides, alpha=1e-6, beta=0.1).rejected for check in (RatioMean(), RatioSymmetry())]
    assert any(found) == biased


def test_ratios_beyond_floating_point_are_judged():
    huge = np.array([800.0] * 30 + [-math.inf] * 3000)
    found = RatioMean().check(huge, alpha=1e-6, beta=0.1)
    assert found.rejected
    assert math.isinf(found.delta)
    assert found.vacuous


def test_bad_input_is_named():
    with pytest.raises(InputError, match="row 1 of log_ratio is nan"):
        RatioMean().check(np.array([0.0, math.nan]), alpha=0.01, beta=0.1)
    with pytest.raises(InputError, match="row 0 of log_inverse is inf"):
        RatioMean().check(np.zeros(2), np.array([math.inf]), alpha=0.01, beta=0.1)
    with pytest.raises(InputError, match="2 ratios under q and 3 under p"):
        RatioSymmetry().check(np.zeros(2), np.zeros(3), alpha=0.01, beta=0.1)
    with pytest.raises(InputError, match="the number of values of log_ratio is 0"):
        RatioSymmetry().check(np.zeros(0), np.zeros(3), alpha=0.01, beta=0.1)
    with pytest.raises(InputError, match="deviation is -1"):
        RatioMean(-1.0)
