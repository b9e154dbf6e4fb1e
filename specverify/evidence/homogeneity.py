"""Whether two samples of one size have one law: chi-square of homogeneity, in each of several parts.

A part is a column of outcomes, such as the token at one position. Of an outcome that came t times in all, each sample
has half in the mean; which outcomes share a cell is chosen by t alone, which says nothing about which sample they came
from, so that the null law is that of fixed cells. With as many rows in both, deviations are bounded by those of fair
coins, and the tail of chi-square is a close one even where little is expected.

Cells know nothing of outcomes that share one. Where these come again in the same sample more often than in the other,
laws differ, too (`rare.py`); but how far they may be apart unseen is bounded by how often such outcomes came, which
`delta` counts in full.

Laws that are one up to rounding count as one: with log-probabilities that differ by at most `drift`, the statistic's
law is noncentral, with noncentrality at most n drift^2 / 2. Laws at a total variation TV have one of at least 2 n TV^2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int
from scipy import stats

from specverify.errors import InputError
from specverify.evidence import design, rare
from specverify.evidence.discrete import SAFETY, pool
from specverify.evidence.result import (
    TOTAL_VARIATION,
    Evidence,
    check_delta,
    check_rates,
    check_size,
    nothing_below_one,
)

ENOUGH = 5.0
"""Times that each sample is to have of a cell."""
HIDDEN = 0.1
"""From which on a message speaks of outcomes that came too seldom."""
Parts = Int[np.ndarray, "rows parts"]


@dataclass(frozen=True)
class Homogeneity:
    """Test of one law; n counts the rows of each sample, and delta is a total variation in the law of any one part.

    Attributes:
        drift: by how much log-probabilities of outcomes may differ, in laws that count as one.
    """

    drift: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.drift < math.inf:
            raise InputError(f"drift is {self.drift}; it is a finite number of nats, at least 0")

    def check(
        self,
        first: Parts,
        second: Parts,
        *,
        alpha: float,
        beta: float,
        name: str = "homogeneity",
        sizes: Sequence[int] | None = None,
    ) -> Evidence:
        """Compare n independent rows with as many others.

        Args:
            first, second: outcomes, each part's by any integers.
            alpha: false-alarm rate.
            beta: miss rate that delta is stated for.
            name: of the check.
            sizes: rows of each group of them, of which both samples have as many each and outcomes tell; one, if None.
        """
        check_rates(alpha, beta)
        if first.shape != second.shape or first.ndim != 2 or first.shape[1] < 1:
            raise InputError(
                f"the samples have shapes {first.shape} and {second.shape}; compare as many rows and parts"
            )
        n, parts = first.shape
        check_size(n)
        found = [_part(one, two) for one, two in zip(first.T, second.T, strict=True)]
        cells = np.array([self._tail(part.score, part.cells, n) for part in found])
        again = rare.tails([part.shared for part in found], [n] if sizes is None else sizes, self.drift)
        p_values = np.minimum(1.0, 2 * parts * np.minimum(cells, again))
        worst = int(np.argmin(p_values))
        part, by_cells = found[worst], bool(cells[worst] <= again[worst])
        p_value = float(p_values[worst])
        most, hidden = max(each.cells for each in found), max(each.hidden for each in found)
        delta = self.smallest_detectable(n, alpha=alpha, beta=beta, cells=max(2, most), parts=parts)
        delta = min(1.0, delta + hidden)
        return Evidence(
            check=name,
            statistic=part.score,
            p_value=p_value,
            alpha=alpha,
            beta=beta,
            delta=delta,
            metric=TOTAL_VARIATION,
            n=n,
            rejected=p_value <= alpha,
            basis="asymptotic",
            power="asymptotic",
            vacuous="" if delta < 1 else _too_few(n, hidden),
            blind=f"differences between outcomes that share a cell, {hidden:.3g} of a part's rows, unless they come "
            "again in one sample alone",
            detail=f"part {worst} is farthest off, of {parts}: {part.words if by_cells else rare.said(part.shared)}",
            coverage={"rows": n, "parts": parts, "cells": most, "hidden": hidden, "part": worst,
                      "outcome": part.outcome, "together": part.together, "first": part.one, "second": part.two,
                      "by cells": by_cells},
        )  # fmt: skip

    def smallest_detectable(self, n: int, *, alpha: float, beta: float, cells: int = 2, parts: int = 1) -> float:
        """The total variation between cells that n rows of each sample miss with probability at most beta, at most 1.

        Args:
            n: rows of each sample.
            alpha, beta: rates.
            cells: of the part that has most, at least 2: an outcome that never came yet is one.
            parts: how many there are.
        """
        check_rates(alpha, beta)
        check_size(n)
        level, drift = alpha / (2 * parts) / SAFETY, n * self.drift**2 / 2
        critical = float(stats.ncx2.isf(level, cells - 1, drift) if drift else stats.chi2.isf(level, cells - 1))
        return min(1.0, math.sqrt(design.noncentrality_above(critical, cells - 1, beta) / (2 * n)))

    def sample_size(self, delta: float, *, alpha: float, beta: float, cells: int = 2, parts: int = 1) -> int:
        """The number of rows of each sample that misses a total variation of delta with probability at most beta."""
        check_delta(delta)
        return design.sample_size(
            lambda n: self.smallest_detectable(n, alpha=alpha, beta=beta, cells=cells, parts=parts), delta
        )

    def _tail(self, score: float, cells: int, n: int) -> float:
        if cells < 2:
            return 1.0
        drift = n * self.drift**2 / 2
        tail = stats.ncx2.sf(score, cells - 1, drift) if drift else stats.chi2.sf(score, cells - 1)
        return min(1.0, SAFETY * float(tail))


@dataclass(frozen=True)
class _Part:
    """One part: its statistic and cells, what is hidden in them, and the cell that is farthest off.

    Attributes:
        hidden: by how much, in total variation, laws may be apart within cells that came as often.
        shared: how often each outcome that shares a cell came, in either sample.
        outcome: the commonest of the cell that is farthest off.
        together: how many outcomes share it.
        one, two: how often these came.
    """

    score: float
    cells: int
    hidden: float
    shared: rare.Counts
    outcome: int
    together: int
    one: int
    two: int

    @property
    def words(self) -> str:
        """Which cell is farthest off."""
        others = f" and {self.together - 1:,} rarer ones" if self.together > 1 else ""
        return f"outcome {self.outcome}{others} came {self.one:,} times and {self.two:,} times"


def _part(first: Int[np.ndarray, " rows"], second: Int[np.ndarray, " rows"]) -> _Part:
    outcomes, codes = np.unique(np.concatenate([first, second]), return_inverse=True)
    codes = codes.ravel()
    one, two = (np.bincount(half, minlength=len(outcomes)) for half in (codes[: len(first)], codes[len(first) :]))
    cell = pool((one + two) / 2, ENOUGH)
    ones, twos = np.bincount(cell, one), np.bincount(cell, two)
    score = float(((ones - twos) ** 2 / (ones + twos)).sum())
    off = int(((ones - twos) ** 2 / (ones + twos)).argmax())
    inside = np.flatnonzero(cell == off)
    # Of a cell's outcomes no more than they came may lie apart, and no more than twice all but the commonest.
    commonest = np.zeros(len(ones))
    np.maximum.at(commonest, cell, one + two)
    whole = ones + twos
    hidden = float(np.minimum(whole, 2 * (whole - commonest)).sum() / (2 * len(first)))
    shared = np.bincount(cell)[cell] > 1
    rarely = np.stack([one[shared], two[shared]])
    outcome = int(outcomes[inside[(one + two)[inside].argmax()]])
    return _Part(score, len(ones), hidden, rarely, outcome, len(inside), int(ones[off]), int(twos[off]))


def _too_few(n: int, hidden: float) -> str:
    if hidden < HIDDEN:
        return nothing_below_one(1.0, n)
    return (
        f"n = {n:,} is too small: {100 * hidden:.3g} % of some part's outcomes came too seldom to be counted apart; "
        "draw more samples"
    )
