"""Statistical assertions on decoders of continuous tokens: Rosenblatt's transforms are independent uniforms.

If each token has the law of the target given those before it, so is every coordinate's conditional distribution
function at the value drawn. Tests are Kolmogorov-Smirnov's, exact at every n.
"""

import math

import torch
from scipy import stats

ALPHA = 1e-6
"""False-alarm rate of each test."""
BETA = 1e-3
"""Chance that a test misses the Kolmogorov distance that it states, for independent transforms."""


def transforms(model, tokens):
    """Float[n, length, dim]."""
    return model.laws(model.start(len(tokens)), tokens[:, :-1]).rosenblatt(tokens).double()


def seen(n):
    """The Kolmogorov distance that a test of n independent values sees: by the inequality of Dvoretzky and others."""
    return stats.kstwo.isf(ALPHA, n) + math.sqrt(math.log(2 / BETA) / (2 * n))


def distance(u):
    """The Kolmogorov distance from uniform, and its p-value."""
    found = stats.kstest(u.flatten().numpy(), "uniform")
    return float(found.statistic), float(found.pvalue)


def views(u):
    """Transforms that must be uniform: all, those of each position, and sums modulo 1 of neighbours."""
    yield "all tokens", u
    if u.shape[1] > 1:
        for position in range(u.shape[1]):
            yield f"position {position}", u[:, position]
        yield "neighbouring positions", (u[:, 1:] + u[:, :-1]) % 1
    if u.shape[2] > 1:
        yield "neighbouring dimensions", (u[..., 1:] + u[..., :-1]) % 1


def assert_uniform(u, sees):
    """Every view is uniform, and the test of all tokens would see a distance of `sees`."""
    assert seen(u.numel()) <= sees, f"{u.numel()} values see {seen(u.numel()):.4f}, not {sees}"
    assert torch.isfinite(u).all()
    for what, view in views(u):
        statistic, p = distance(view)
        assert p >= ALPHA, f"{what}: Kolmogorov distance {statistic:.4f}, p = {p:.1e}, n = {view.numel()}"


def assert_flagged(u, least):
    """The transforms are not uniform, by a Kolmogorov distance of `least` or more."""
    statistic, p = distance(u)
    assert p < ALPHA, f"not flagged: Kolmogorov distance {statistic:.4f}, p = {p:.1e}, n = {u.numel()}"
    assert statistic >= least, f"the distance is {statistic:.4f}, less than {least}"
