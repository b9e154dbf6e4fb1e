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
from scipy import special

BOLDEST = 2.0
"""The largest stake, where little variance was seen so far: beyond it, a single large difference proves less."""


def log_e(excess: Float[np.ndarray, " n"], variance: Float[np.ndarray, " n"], alpha: float) -> float:
    """Logarithm of an e-value against a sum of mean 0: it reaches log(1 / alpha) with probability at most alpha.

    The stakes are those that are best at the edge of rejection, for as much variance in all as that of each difference
    and of those before it lets expect. Half is bet on either side.

    Args:
        excess: the differences, in an order in which each has mean 0 given those before it.
        variance: their conditional variances.
        alpha: the rate that the stakes are made for; the e-value is one whatever it is.
    """
    stake = _stakes(variance, alpha)
    gain = float(stake @ excess)
    cost = float(stake**2 @ (excess**2 + 2 * variance)) / 6
    return float(np.logaddexp(gain - cost, -gain - cost)) - math.log(2)


def edge(alpha: float) -> float:
    """How many standard deviations a sum with a normal limit must be off for `log_e` to reach log(1 / alpha)."""
    return math.sqrt(2 * math.log(2 / alpha))


def least_shift(variance: Float[np.ndarray, " n"], alpha: float, beta: float, spread: float) -> float:
    """The mean of each difference from which `log_e` reaches log(1 / alpha) but for a probability of beta.

    A normal limit is taken for the sum at these stakes.

    Args:
        variance: conditional variances, all above 0, in the order of the differences.
        alpha: the rate that the stakes are made for.
        beta: miss rate.
        spread: how far the differences spread at most, in standard deviations of those of mean 0.

    Returns:
        infinity where no mean is large enough.
    """
    stake = _stakes(variance, alpha)
    return _least(float(stake.sum()), float(stake @ stake), float(stake**2 @ variance), alpha, beta, spread)


def least_even_shift(n: int, deviation: float, alpha: float, beta: float, spread: float) -> float:
    """The same for n differences that all have one standard deviation."""
    stake = min(edge(alpha) / (math.sqrt(n) * deviation), BOLDEST) if deviation else BOLDEST
    return _least(n * stake, n * stake**2, n * (stake * deviation) ** 2, alpha, beta, spread)


def _least(stakes: float, squares: float, spent: float, alpha: float, beta: float, spread: float) -> float:
    """The root of d stakes - d^2 squares / 6 = what has to be won."""
    reach = float(special.ndtri(1 - beta))
    need = math.log(2 / alpha) + spent * (spread**2 + 2) / 6 + max(reach, spread * reach) * math.sqrt(spent)
    root = stakes**2 - squares * need * 2 / 3
    return 2 * need / (stakes + math.sqrt(root)) if root >= 0 else math.inf


def _stakes(variance: Float[np.ndarray, " n"], alpha: float) -> Float[np.ndarray, " n"]:
    mean = np.cumsum(variance) / np.arange(1, len(variance) + 1)
    with np.errstate(divide="ignore"):
        return np.asarray(np.minimum(edge(alpha) / np.sqrt(len(variance) * mean), BOLDEST))


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
