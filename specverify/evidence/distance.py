"""Distances between laws, and what a total variation estimated from counts is expected to be.

Let p be a known law, q the unknown law of n independent samples with counts N, and T = TV(N / n, p). Three facts carry
the finite-sample checks on T:

* changing one sample changes T by at most 1 / n, so by McDiarmid's inequality T is above (below) its mean by
  sqrt(log(1 / rate) / (2 n)) with probability at most `rate` (`deviation`);
* under q = p its mean is known exactly (`expected_tv`, from De Moivre's formula for a binomial's mean deviation);
* under any q its mean is at least 2 w TV(q, p) - C(w) for every weight 0 < w <= 1/2 (`excess`), where C(w) depends on
  p and n alone. With w = 1/2 this is Jensen's inequality, E T >= TV(q, p); smaller weights do better once the number of
  outcomes is large, because noise adds to a mean deviation that is not zero less than it adds to one that is.

For the third: T = (1/2) sum_i |N_i / n - p_i| and N_i is binomial, so E T = (1/2) sum_i f_i(q_i) with
f_i(x) = E |Bin(n, x) / n - p_i|, and TV(q, p) = (1/2) sum_i |q_i - p_i|. Hence
E T - 2 w TV(q, p) >= sum_i min_x [f_i(x) / 2 - w |x - p_i|] =: -C(w). Bernstein's operator keeps convexity, so f_i is
convex and each side of p_i has one minimum, where f_i'(x) = +-2 w.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float
from scipy import special, stats

from specverify.evidence.result import Law, Vector, check_size, to_law

WEIGHTS = np.geomspace(0.01, 0.5, 14)


def tv(p: Law, q: Law) -> float:
    """Total variation, half the sum of |p - q|."""
    return 0.5 * float(np.abs(to_law(p, "p") - to_law(q, "q")).sum())


def deviation(n: int, rate: float) -> float:
    """How far above its mean T is with probability at most `rate` (McDiarmid); by symmetry, how far below.

    The same holds for the mean of n variables in [0, 1] (Hoeffding), and for dependent ones about the mean of their
    conditional means (Azuma).
    """
    return math.sqrt(math.log(1 / rate) / (2 * n))


def expected_tv(law: Law, n: int) -> float:
    """Mean of TV(counts / n, law) for n independent samples of the law itself, exactly.

    E|N - np| = 2 (k + 1) (1 - p) P(N = k + 1) with k = floor(np), for N ~ Bin(n, p) (De Moivre, 1730).
    """
    check_size(n)
    p = to_law(law)
    p = p[(p > 0) & (p < 1)]
    k = np.floor(n * p)
    often = k > 0  # where k = 0 the formula is 2 n p (1 - p)^n, which no small p overflows
    mean_deviations = 2 * n * p * np.exp(n * np.log1p(-p))
    mean_deviations[often] = (2 * (k + 1) * (1 - p))[often] * stats.binom.pmf(k[often] + 1, n, p[often])
    return 0.5 * float(mean_deviations.sum()) / n


def excess(law: Law, n: int, weights: Float[np.ndarray, " weights"] = WEIGHTS) -> Float[np.ndarray, " weights"]:
    """C(w) for each of the weights, of which the last is 1/2: never less than the truth, by convexity."""
    check_size(n)
    cells, repeats = np.unique(to_law(law), return_counts=True)
    # every weight with every distinct probability; w = 1/2 needs no search, its maximum is 0 and lies at x = 0 or 1
    p, weight = np.tile(cells, len(weights) - 1), np.repeat(weights[:-1], len(cells))
    highest = -0.5 * _mean_deviation(p, p, n)
    for sign in (1.0, -1.0):
        close, far = _optimum(p, weight, n, sign)
        value = weight * np.abs(close - p) - 0.5 * _mean_deviation(close, p, n)
        gain = np.maximum(weight - 0.5 * sign * _slope(close, p, n), 0) * np.abs(far - close)
        highest = np.maximum(highest, value + gain)
    return np.append(highest.reshape(-1, len(cells)) @ repeats, 0.0)


def _optimum(p: Vector, weight: Vector, n: int, sign: float) -> tuple[Vector, Vector]:
    """Ends of a short interval, nearer to and farther from p, that holds the maximum on one side of each p."""
    scale = np.sqrt(p / n) + 1 / n
    far = np.clip(p + sign * (8 * scale + 32 / n), 0, 1)
    far = np.where(sign * _slope(far, p, n) < 2 * weight, max(sign, 0.0), far)
    close = p.copy()
    # first probes: where the normal limit has the maximum, then a little to that side of it where the maximum is
    probe = p + sign * np.sqrt(p * (1 - p) / n) * special.ndtri(0.5 + weight)
    for step in range(60):
        wide = np.flatnonzero(np.abs(far - close) > 0.02 * scale)
        if not len(wide):
            break
        middle = 0.5 * (close[wide] + far[wide])
        if step < 2:
            inside = (probe[wide] - close[wide]) * (far[wide] - probe[wide]) > 0
            middle = np.where(inside, probe[wide], middle)
        short = sign * _slope(middle, p[wide], n) < 2 * weight[wide]
        close[wide], far[wide] = np.where(short, middle, close[wide]), np.where(short, far[wide], middle)
        probe[wide] = middle + np.where(short, sign, -sign) * 0.1 * scale[wide]
    return close, far


def tv_reach(
    height: float, excess: Float[np.ndarray, " weights"], weights: Float[np.ndarray, " weights"] = WEIGHTS
) -> float:
    """The largest TV(q, p) of any q under which the mean of T may be as small as `height`, at most 1.

    The least (height + C(w)) / (2 w) over the weights; each of them is a valid bound.
    """
    return min(1.0, float(((height + excess) / (2 * weights)).min()))


def _below(k: Vector, trials: int, x: Vector) -> Vector:
    """P(Bin(trials, x) <= k), for k from -1 on."""
    inside = (k >= 0) & (k < trials)
    safe = np.where(inside, k, 0)
    tail = special.betaincc(safe + 1, np.maximum(trials - safe, 1), x)
    return np.asarray(np.where(inside, tail, np.where(k < 0, 0.0, 1.0)))


def _mean_deviation(x: Vector, p: Vector, n: int) -> Vector:
    """f(x) = E|Bin(n, x) / n - p|."""
    k = np.floor(n * p)
    shortfall = p * _below(k, n, x) - x * _below(k - 1, n - 1, x)
    return np.asarray(np.maximum(2 * shortfall + x - p, np.abs(x - p)))


def _slope(x: Vector, p: Vector, n: int) -> Vector:
    """f'(x): f is piecewise linear in the count, so this is 1 - 2 P(count below np), split at a fractional np."""
    k = np.floor(n * p)
    part = n * p - k
    return np.asarray(1 - 2 * part * _below(k, n - 1, x) - 2 * (1 - part) * _below(k - 1, n - 1, x))
