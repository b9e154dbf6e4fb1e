"""Exact output densities of one step: losslessness to rounding, known biases, and agreement with the rules' samples."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from specverify.draws import Sampled
from specverify.errors import InputError
from specverify.evidence.finite import TotalVariation
from specverify.evidence.quadrature import Output, density, line, mapped, overlap, panels, step, thinning
from specverify.laws import Gaussian, Mixture
from specverify.rules import reflection, rejection
from tests.evidence.cells import binned


def normal(mean, scale, rows=1):
    return Gaussian(*(torch.full((rows, 1), float(value), dtype=torch.float64) for value in (mean, scale)))


def mixture(weights, means, scales, rows=1):
    parts = (torch.tensor([values], dtype=torch.float64).expand(rows, -1) for values in (weights, means, scales))
    log_weight, mean, scale = parts
    return Mixture(log_weight.log(), mean[..., None].contiguous(), scale[..., None].contiguous())


PAIRS = {
    "identical": (normal(3, 2), normal(3, 2)),
    "shifted": (normal(0, 1), normal(0.5, 1)),
    "wider": (normal(0, 1), normal(0.2, 2.5)),
    "narrower": (normal(0, 1), normal(0.2, 0.3)),
    "disjoint": (normal(0, 1), normal(100, 1)),
    "scales apart": (normal(0, 1e-6), normal(1, 1e6)),
    "mixtures": (mixture([0.3, 0.7], [-2, 1], [0.5, 1]), mixture([0.5, 0.5], [-1, 1.5], [1, 0.4])),
}


def nodes(p, q):
    centres = torch.cat([law.mean.reshape(-1) for law in (p, q)]).tolist()
    scales = torch.cat([law.scale.reshape(-1) for law in (p, q)]).tolist()
    return line(centres, scales, (density(p), density(q)))


@pytest.mark.parametrize("name", sorted(PAIRS))
def test_the_exact_rule_is_lossless_to_rounding(name):
    p, q = PAIRS[name]
    on, log_p, log_q = nodes(p, q), density(p), density(q)
    found = thinning(on, log_p, log_q)
    assert found.tv < 1e-12
    assert found.mass == pytest.approx(1, abs=1e-12)
    assert found.accepted == pytest.approx(overlap(on, log_p, log_q), abs=1e-12)
    assert found.out.shape == found.p.shape == found.x.shape


@settings(max_examples=40, deadline=None)
@given(shift=st.floats(-6, 6), scale=st.floats(0.05, 20))
def test_every_gaussian_pair_is_lossless_and_has_its_overlap(shift, scale):
    p, q = normal(0, 1), normal(shift, scale)
    found = thinning(nodes(p, q), density(p), density(q))
    assert found.tv < 1e-10
    if scale == 1:
        assert found.accepted == pytest.approx(2 * stats.norm.cdf(-abs(shift) / 2), abs=1e-12)
    # densities cross where a quadratic vanishes
    a, b, c = 1 / scale**2 - 1, -2 * shift / scale**2, shift**2 / scale**2 + 2 * math.log(scale)
    if abs(a) > 1e-3:
        low, high = sorted(np.roots([a, b, c]).real)
        inside = stats.norm.cdf(high) - stats.norm.cdf(low)
        other = stats.norm.cdf(high, shift, scale) - stats.norm.cdf(low, shift, scale)
        assert 1 - found.accepted == pytest.approx(abs(inside - other), abs=1e-10)


def test_equal_scales_have_the_closed_form_overlap():
    for shift in (0.0, 0.01, 1.0, 5.0, 12.0):
        p, q = normal(0, 1), normal(shift, 1)
        exact = 2 * stats.norm.cdf(-shift / 2)
        assert overlap(nodes(p, q), density(p), density(q)) == pytest.approx(exact, rel=1e-9)


@pytest.mark.parametrize("cap", [1, 3, 100])
def test_a_cap_biases_by_at_most_what_it_loses(cap):
    p, q = PAIRS["shifted"]
    on = nodes(p, q)
    beta = 2 * stats.norm.cdf(-0.25)
    lost = (1 - beta) * beta**cap
    zero = thinning(on, density(p), density(q), cap=cap, zero=True)
    assert zero.atom == pytest.approx(lost, rel=1e-9)
    assert zero.tv == pytest.approx(lost, rel=1e-9)  # the zero vector, which p never draws
    fresh = thinning(on, density(p), density(q), cap=cap)
    # lost times the distance between p and the residual
    assert 0 < fresh.tv < lost
    assert fresh.tv == pytest.approx(lost * beta, rel=0.5)
    assert zero.tv <= (cap / (cap + 1)) ** cap / (cap + 1)


def test_reflection_is_lossless_and_reflecting_always_is_not():
    p, q = normal(1, 2), normal(2.5, 2)
    on, log_p, log_q = nodes(p, q), density(p), density(q)

    def accept(x):
        return np.exp(np.minimum(log_p(x) - log_q(x), 0))

    exact = mapped(on, log_p, log_q, accept, lambda y: 3.5 - y, 1.0)
    assert exact.tv < 1e-12
    assert exact.accepted == pytest.approx(float(reflection.overlap(p, q)[0]), abs=1e-12)
    # moves a rejected draft instead; its kink lies elsewhere, so panels are narrower
    finer = line([1.0, 2.5], [2.0, 2.0], (log_p, log_q), width=0.05)
    moved = mapped(finer, log_p, log_q, accept, lambda y: y + 1.5, 1.0)
    assert moved.tv > 0.05


@pytest.mark.parametrize("draft", ["shifted", "wider", "mixtures"])
@pytest.mark.parametrize("rule", [rejection.decide, reflection.couple], ids=["thinning", "reflection"])
def test_the_rules_samples_have_the_output_density(rule, draft, seed):
    p, q = PAIRS[draft]
    if rule is reflection.couple and draft == "mixtures":
        rule = rejection.decide
    rows = 40_000
    many = [type(law)(*(part.expand(rows, *part.shape[1:]) for part in vars(law).values())) for law in (p, q)]
    where = torch.ones(rows, dtype=torch.bool)
    x = many[1].sample(Sampled(seed), where)
    sample = rule(*many, x, Sampled(seed + 1), where).x[:, 0]
    edges = np.linspace(-4, 4, 41)
    counts, law = binned(sample, edges, lambda values: p.rosenblatt(torch.from_numpy(values)[:, None]).numpy()[:, 0])
    found = TotalVariation(law).check(counts, alpha=1e-6, beta=1e-3, generator=np.random.default_rng(seed))
    assert not found.rejected
    assert found.delta < 0.1


def test_the_wrong_residual_has_its_known_distance():
    # recovering from p, not from (p - q)+: out = min(p, q) + Z p, at distance Z (1 - Z) or less
    p, q = PAIRS["shifted"]
    on, log_p, log_q = nodes(p, q), density(p), density(q)
    accept = np.exp(np.minimum(log_p(on.x) - log_q(on.x), 0))
    rest = 1 - on.integral(np.exp(log_q(on.x)) * accept)
    found = step(on, log_p, log_q, accept, rest * np.exp(log_p(on.x)))
    exact = on.integral(
        np.maximum(np.exp(log_p(on.x)) * (1 - rest) - np.minimum(np.exp(log_p(on.x)), np.exp(log_q(on.x))), 0)
    )
    assert found.tv == pytest.approx(exact, abs=1e-12)
    assert 0.05 < found.tv < rest


def test_means_are_integrals():
    p, q = normal(2, 1), normal(3, 1)
    on = nodes(p, q)
    assert thinning(on, density(p), density(q)).mean == pytest.approx(2, abs=1e-12)
    half = Output(on, np.exp(density(p)(on.x)), 0.5 * np.exp(density(p)(on.x)), 0.0, 0.5)
    assert (half.mean, half.tv, half.mass) == pytest.approx((1, 0.5, 1))


def test_panels_integrate_polynomials_exactly():
    on = panels([0.0, 0.3, 1.0], order=4)
    assert on.integral(on.x**7) == pytest.approx(1 / 8, rel=1e-14)
    assert len(on.x) == 8
    assert (np.diff(on.x) > 0).all()


def test_bad_input_is_named():
    p, q = PAIRS["shifted"]
    on, log_p, log_q = nodes(p, q), density(p), density(q)
    with pytest.raises(InputError, match=r"dimension 1 and shape \(2,\)"):
        density(normal(0, 1, rows=2))
    with pytest.raises(InputError, match="1 breaks and order 16"):
        panels([2.0, 2.0])
    with pytest.raises(InputError, match="give one positive scale for each centre"):
        line([0.0], [0.0])
    with pytest.raises(InputError, match="cap is 0"):
        thinning(on, log_p, log_q, cap=0)
    with pytest.raises(InputError, match="outside 0 to 1"):
        step(on, log_p, log_q, np.full(len(on.x), 1.5), np.zeros(len(on.x)))
    with pytest.raises(InputError, match=r"the step's output has mass 0\.5"):
        step(on, log_p, log_q, np.full(len(on.x), 0.5), np.zeros(len(on.x)))
    with pytest.raises(InputError, match="bumps lie at finite places"):
        line([math.nan], [1.0])
    for bad, message in ((normal(math.nan, 1), "the law has the mean nan"), (normal(0, 0), "standard deviation 0.0")):
        with pytest.raises(InputError, match=message):
            density(bad)
