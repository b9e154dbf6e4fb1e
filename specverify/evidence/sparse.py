"""What sums over outcomes see where many outcomes are expected only a few times, or less than once.

Statistics such as G and Pearson's are sums of one term for each outcome. Where outcomes are rare the mean of a term
changes with its probability even to first order, and not alike for all: a law that has moved from rare to common
outcomes may *lower* the sum, so that no distance of it is ever seen. The noncentral chi-square law knows nothing of
this. Here a statistic's law under an alternative is taken from the moments of its terms, of Poisson counts, less what
depends on their known total; and the alternatives are a family in which the worst is found: mass moved from the rarer
to the commoner outcomes and back, in proportion, across several borders (half of the mass and others), the rarest
outcomes that are never drawn, and outcomes of one size that part in halves.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy import optimize, special

from specverify.evidence import design
from specverify.evidence.result import Vector

BINS = 16
"""Outcomes are told apart by so many sizes."""
BORDERS = (1 / 8, 1 / 4, 1 / 2, 3 / 4, 7 / 8)
"""The mass of the rarer side."""
DENSE = 20.0
"""The expected count from which on a count is taken as nearly normal."""
SHIFT = 0.1
"""How many standard deviations Pearson's mean may move to first order before it matters."""
STEPS, PRECISION = 6, 1e-3
"""Distances that are looked at, and how well what lies between two of them is found."""

_WHOLE = np.arange(60.0)
_LOG_FACTORIAL = special.gammaln(_WHOLE + 1)
_NORMAL, _WEIGHT = np.polynomial.hermite_e.hermegauss(7)

Grid = Float[np.ndarray, "laws cells"]
Nodes = Float[np.ndarray, "many nodes"]
Terms = Callable[[Nodes, Float[np.ndarray, "many 1"]], Nodes]
"""(counts, probability of the outcome under the null hypothesis) -> terms of a sum."""


@dataclass(frozen=True)
class Moments:
    """Of the sum under each law."""

    mean: Vector
    spread: Vector
    skew: Vector

    def quantile(self, rate: float) -> Vector:
        """What the sum falls below with probability about `rate`: Pearson's type III, after Wilson and Hilferty."""
        z, skew = float(special.ndtri(rate)), np.where(np.abs(self.skew) < 1e-6, 1e-6, self.skew)
        root = 1 + skew * z / 6 - skew**2 / 36
        return np.asarray(self.mean + self.spread * 2 / skew * (np.maximum(root, 0.0) ** 3 - 1))


class Family:
    """Alternatives to a law at a distance, over outcomes gathered by size.

    Args:
        law: Float[outcomes], all above 0.

    Attributes:
        p: the probability of one outcome of each cell, the rarest first.
        copies: how many outcomes a cell stands for.
        tilts: by how much each probability grows, relatively and for each unit of distance, where mass moves from one
            side to the other, in proportion: from commoner to rarer outcomes, and between every other one.
    """

    def __init__(self, law: Vector) -> None:
        ordered = np.sort(law)
        sizes = np.unique(np.round(np.log(ordered), 9))
        if len(sizes) > BINS:
            edges = np.linspace(sizes[0], sizes[-1], BINS + 1)[1:-1]
            label = np.searchsorted(edges, np.log(ordered))
        else:
            label = np.searchsorted(sizes, np.round(np.log(ordered), 9))
        count = np.bincount(label).astype(np.float64)
        mass = np.bincount(label, ordered)[count > 0]
        count = count[count > 0]
        halves = np.where(count > 1, 2, 1)  # a single outcome does not part
        self.p, self.copies = np.repeat(mass / count, halves), np.repeat(count / halves, halves)
        below = np.cumsum(self.p * self.copies)[:-1]
        number = np.arange(len(self.p))
        borders = sorted({int(np.abs(below - wanted).argmin()) for wanted in BORDERS if len(below)})
        sides = [number <= border for border in borders] + [number % 2 == 0]
        masses = [float((self.p * self.copies)[side].sum()) for side in sides]
        tilts = [
            np.where(side, 1 / mass, -1 / (1 - mass))
            for side, mass in zip(sides, masses, strict=True)
            if not side.all()
        ]
        self.tilts = np.array(tilts).reshape(len(tilts), len(self.p))

    def dense(self, n: int, delta: float) -> bool:
        """Whether chi-square laws tell all: every outcome is expected often, and Pearson's mean hardly moves."""
        if n * self.p[0] < DENSE:
            return False
        freedom = float(self.copies.sum()) - 1
        moved = delta * np.abs(self.tilts @ self.copies).max(initial=0.0)
        return bool(moved <= SHIFT * math.sqrt(2 * freedom + 16 * n * delta**2))

    def at(self, delta: float) -> Grid:
        """Each alternative at total variation delta, as the probability of an outcome of each cell."""
        factors = 1 + delta * np.concatenate([self.tilts, -self.tilts, self._dropped(delta)])
        return np.asarray(self.p * np.maximum(factors[factors.min(1) >= -1e-12], 0.0))

    def _dropped(self, delta: float) -> Grid:
        """The rarest outcomes go, the others gain in proportion."""
        mass = self.p * self.copies
        lost = np.diff(np.minimum(np.cumsum(mass), delta), prepend=0.0)
        kept = lost == 0
        if not kept.any():
            return np.zeros((0, len(mass)))
        return np.where(kept, 1 / mass[kept].sum(), -lost / mass / delta)[None]

    def moments(self, terms: Terms, laws: Grid, n: int) -> Moments:
        """Of the sum of the terms of n samples of each law."""
        expected, p = n * laws, np.broadcast_to(self.p, laws.shape)
        rare = expected <= DENSE
        parts = []
        if rare.any():
            weight = np.exp(special.xlogy(_WHOLE, expected[rare][:, None]) - expected[rare][:, None] - _LOG_FACTORIAL)
            value = terms(np.broadcast_to(_WHOLE, (len(self.p), len(_WHOLE))), self.p[:, None])
            parts.append((rare, weight, _WHOLE - expected[rare][:, None], value[np.nonzero(rare)[1]]))
        if not rare.all():
            middle = expected[~rare][:, None]
            away = np.sqrt(middle) * _NORMAL + (_NORMAL**2 - 1) / 6  # with a Poisson count's skewness
            weight = np.broadcast_to(_WEIGHT / _WEIGHT.sum(), away.shape)
            parts.append((~rare, weight, away, terms(middle + away, p[~rare][:, None])))
        mean, variance, third, common = (np.zeros(laws.shape) for _ in range(4))
        for where, weight, away, value in parts:
            mean[where] = (weight * value).sum(1)
            common[where] = (weight * value * away).sum(1)
        slope = common @ self.copies / n  # the counts add up to n: what the terms have in common with them is known
        for where, weight, away, value in parts:
            rest = value - mean[where][:, None] - slope[np.nonzero(where)[0], None] * away
            square = weight * rest**2
            variance[where], third[where] = square.sum(1), (square * rest).sum(1)
        spread = np.sqrt(np.maximum(variance @ self.copies, 1e-300))
        return Moments(mean @ self.copies, spread, third @ self.copies / spread**3)


def least_seen(family: Family, margin: Callable[[Grid], Vector], least: float) -> float:
    """The distance from which on every alternative of the family is seen, at most 1.

    Args:
        family: the alternatives.
        margin: by how much the test sees each of these laws: below 0 where it does not.
        least: where to begin: nothing below is looked at.
    """
    if least >= 1:
        return 1.0
    deltas = np.geomspace(least, 1.0, STEPS)
    laws = [family.at(float(delta)) for delta in deltas]
    # a distance that no alternative reaches has been seen of none
    reached = max((i for i, some in enumerate(laws) if len(some)), default=0)
    parts = np.split(margin(np.concatenate(laws)), np.cumsum([len(some) for some in laws])[:-1])
    failing = [i for i, part in enumerate(parts) if (part < 0).any()]
    if not failing:
        return least
    if failing[-1] >= reached:
        return 1.0

    def lowest(log_delta: float) -> float:
        some = margin(family.at(math.exp(log_delta)))
        return float(some.min()) if len(some) else 1.0

    low, high = np.log(deltas[failing[-1]]), np.log(deltas[failing[-1] + 1])
    return min(1.0, math.exp(optimize.brentq(lowest, low, high, xtol=PRECISION) + PRECISION))


def size_from(start: int, visible: Callable[[int], float], delta: float) -> int:
    """An n whose smallest visible discrepancy is at most delta, from one where that holds if outcomes are not rare."""
    n = start
    for _ in range(4):  # what rare outcomes add is little, or has to be searched for
        seen = visible(n)
        if seen <= delta:
            return n
        n = math.ceil(n * 1.001 * min(seen / delta, 2) ** 2)
    return design.sample_size(visible, delta, start=start)
