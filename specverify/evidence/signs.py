"""Rows in pairs: if both logs have one law, the difference of two rows has either sign with the same probability.

So the sum of the differences is one of random signs, whatever rows are like, and its tail is bounded at every n.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from scipy import stats

LEAST = 1e-3
"""A standard error below which differences do not vary."""


def by_signs(apart: Float[np.ndarray, " pairs"]) -> float:
    """A bound for the probability that differences with random signs add up to so much.

    It exceeds s with probability at most exp(-t s) prod cosh(t d), whatever t (Hoeffding).
    """
    scale = float(np.abs(apart).max(initial=0.0))
    if scale == 0 or apart.sum() <= 0:
        return 1.0
    tilts = np.geomspace(0.01, 100.0, 60)[:, None] / scale
    logs = np.logaddexp(tilts * apart, -tilts * apart) - math.log(2)
    return float(np.exp(min(0.0, (logs.sum(1) - tilts[:, 0] * apart.sum()).min())))


def hoeffding(apart: Float[np.ndarray, "pairs ..."]) -> Float[np.ndarray, ...]:
    """A simpler bound of the same, exp(-s^2 / (2 sum d^2)), of each column."""
    total, squares = np.maximum(0.0, apart.sum(0)), np.maximum(1e-300, 2 * (apart**2).sum(0))
    return np.asarray(np.exp(-(total**2) / squares))


def least_shift(
    pairs: Float[np.ndarray, " pairs"], tail: Callable[[np.ndarray], float], alpha: float, beta: float
) -> float:
    """By how much such differences have to be off to be seen but with probability beta; infinite if by none."""
    error = max(LEAST, float(pairs.std(ddof=1)) / math.sqrt(len(pairs))) if len(pairs) > 1 else LEAST
    below, shifts = pairs - pairs.mean() - float(stats.norm.isf(beta)) * error, error * np.geomspace(1, 1e3, 200)
    least = bisect.bisect_left(shifts, True, key=lambda shift: tail(below + shift) <= alpha)
    return float(shifts[least]) if least < len(shifts) else math.inf
