"""Outcomes that came too seldom to be counted apart: do they come again in one sample more often than across?

Of an outcome that came t times in two samples of one size and law, each time is a fair coin's toss, given how many
there are in all. So d^2 - t, of the difference d of its two counts, has mean 0: what came again in one sample alone
raises the sum over outcomes, what came in both samples lowers it. The tail of the sum is bounded by exponential moments
(Chernoff), each of a finite sum over the tosses; that the tosses of both samples have half of the whole is no more
than one event of probability P(n heads of 2 n), by which the bound is divided. It holds at every n; and where rows are
of several groups, such as prompts, of which both samples have as many each, with one such event for each.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int
from scipy import special

Counts = Int[np.ndarray, "2 outcomes"]
"""How often each outcome came, in the one sample and in the other."""
TILTS = np.geomspace(1 / 512, 2.0, 25)
"""Exponents: any of them bounds the tail."""
MOST = 64
"""Outcomes that came more often are left out: they are counted in cells."""


def tails(parts: Sequence[Counts], sizes: Sequence[int], drift: float = 0.0) -> Float[np.ndarray, " parts"]:
    """Of each part, a bound for the probability that so much comes again in one sample alone.

    Args:
        parts: their outcomes.
        sizes: rows of each sample, of each group.
        drift: by how much log-probabilities may differ, in laws that count as one.
    """
    return _bounds(parts, sizes, 1, 1 / (1 + math.exp(-drift)))


def alike(counts: Counts, sizes: Sequence[int]) -> float:
    """A bound for the probability that so much comes in both samples."""
    return float(_bounds([counts], sizes, -1, 0.5)[0])


def fewest(n: int, alpha: float) -> int:
    """Of how many outcomes that came once in each sample `alike` is at most alpha."""
    gain = float((2 * TILTS - _moments(-1, 0.5)[2]).max())
    return math.ceil((math.log(1 / alpha) + _halves([n])) / gain)


def said(counts: Counts) -> str:
    """What came again, in words."""
    one, two = counts
    within = int((one * (one - 1) + two * (two - 1)).sum()) // 2
    return (
        f"of outcomes that came seldom, {within:,} pairs of equals lie in one sample and {int(one @ two):,} across, "
        "which are about as many under one law"
    )


def _bounds(parts: Sequence[Counts], sizes: Sequence[int], sign: int, coin: float) -> Float[np.ndarray, " parts"]:
    moments, tilts, halves, found = _moments(sign, coin), sign * TILTS, _halves(sizes), []
    for one, two in parts:
        times = one + two
        few = (times > 1) & (times <= MOST)
        times, apart = times[few], (one - two)[few]
        excess = float((apart.astype(np.float64) ** 2 - times).sum())
        logs = np.bincount(times, minlength=MOST + 1) @ moments - tilts * excess
        found.append(min(0.0, float(logs.min()) + halves))
    return np.asarray(np.exp(np.array(found)))


@functools.cache
def _moments(sign: int, coin: float) -> Float[np.ndarray, "times tilts"]:
    """log E exp(tilt (d^2 - t)) of t tosses, for t up to `MOST`."""
    tilts = sign * TILTS
    rows = [np.zeros(len(tilts))]
    for times in range(1, MOST + 1):
        heads = np.arange(times + 1)
        weight = (
            special.gammaln(times + 1) - special.gammaln(heads + 1) - special.gammaln(times - heads + 1)
            + heads * math.log(coin) + (times - heads) * math.log(1 - coin)
        )  # fmt: skip
        rows.append(special.logsumexp(weight + tilts[:, None] * ((2.0 * heads - times) ** 2 - times), axis=1))
    return np.stack(rows)


def _halves(sizes: Sequence[int]) -> float:
    """-log P(n heads of 2 n in each group)."""
    n = np.asarray(sizes, dtype=np.float64)
    return float((2 * special.gammaln(n + 1) + 2 * n * math.log(2) - special.gammaln(2 * n + 1)).sum())
