"""Is a sum of differences, each of mean 0 given what came before, too large to be chance? At every n.

For square-integrable differences X_t of conditional mean 0 and variance V_t, and stakes a_t chosen before X_t is seen,

    exp(sum_t [a_t X_t - a_t^2 (X_t^2 + 2 V_t) / 6])

is a supermartingale that starts at 1 (Delyon, Exponential inequalities for sums of weakly dependent variables, 2009,
from exp(x - x^2 / 6) <= 1 + x + x^2 / 3), so that it reaches 1 / alpha with probability at most alpha. X_t need no
bound and no normal limit. Where the limit holds, X_t^2 adds up to what V_t does and the test is nearly that of a normal
sum: it rejects from sqrt(2 log(2 / alpha)) standard deviations instead of the normal quantile, 5.9 instead of 5.3 at
1e-7.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float

BOLDEST = 2.0
"""The largest stake, where little variance was seen so far: beyond it, a single large difference proves less."""


def log_e(excess: Float[np.ndarray, " n"], variance: Float[np.ndarray, " n"], alpha: float) -> float:
    """Logarithm of an e-value against a sum of mean 0: it reaches log(1 / alpha) with probability at most alpha.

    The stakes are those that are best at the edge of rejection, for as much variance in all as the differences so far
    let expect. Half is bet on either side.

    Args:
        excess: the differences, in an order in which each has mean 0 given those before it.
        variance: their conditional variances.
        alpha: the rate that the stakes are made for; the e-value is one whatever it is.
    """
    stake = edge(alpha) / np.sqrt(_expected(variance))
    stake = np.minimum(stake, BOLDEST)
    gain = float(stake @ excess)
    cost = float(stake**2 @ (excess**2 + 2 * variance)) / 6
    return float(np.logaddexp(gain - cost, -gain - cost)) - math.log(2)


def edge(alpha: float) -> float:
    """How many standard deviations a sum with a normal limit must be off for `log_e` to reach log(1 / alpha)."""
    return math.sqrt(2 * math.log(2 / alpha))


def _expected(variance: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Of all differences together, from those before each; they start as if one of variance 1 had been seen."""
    n = len(variance)
    before = np.concatenate([[0.0], np.cumsum(variance)[:-1]])
    return np.asarray(n * (1 + before) / np.arange(1, n + 1))


def mixed_log_e(excess: Float[np.ndarray, " sums"], spread: Float[np.ndarray, " sums"]) -> Float[np.ndarray, " sums"]:
    """The same of many sums at once, of which no more is known than what they came to.

    All stakes are bet at once, as a standard normal law weighs them: E exp(a X - a^2 W) = exp(X^2 / (2 + 4 W)) /
    sqrt(1 + 2 W). It is an e-value whatever the order was.

    Args:
        excess: X, the sum of the differences.
        spread: W, the sum of (X_t^2 + 2 V_t) / 6.
    """
    return np.asarray(excess**2 / (2 + 4 * spread) - 0.5 * np.log1p(2 * spread))


def mixed_edge(spread: float, log_e: float) -> float:
    """The sum from which `mixed_log_e` reaches a value."""
    return math.sqrt((2 + 4 * spread) * (log_e + 0.5 * math.log1p(2 * spread)))
