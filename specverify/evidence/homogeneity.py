"""Whether two samples of one size have one law: chi-square of homogeneity, in each of several parts.

A part is a column of outcomes, such as the token at one position. Of an outcome that came t times in all, each sample
has half in the mean; which outcomes share a cell is chosen by t alone, which says nothing about which sample they came
from, so that the null law is that of fixed cells. With as many rows in both, deviations are bounded by those of fair
coins, and the tail of chi-square is a close one even where little is expected.

Laws that are one up to rounding count as one: with log-probabilities that differ by at most `drift`, the statistic's
law is noncentral, with noncentrality at most n drift^2 / 2. Laws at a total variation TV have one of at least 2 n TV^2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int
from scipy import stats

from specverify.errors import InputError
from specverify.evidence import design
from specverify.evidence.discrete import SAFETY, outside_support, pool
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
Parts = Int[np.ndarray, "rows parts"]


@dataclass(frozen=True)
class Homogeneity:
    """Test of one law; n counts the rows of each sample, and delta is a total variation within the cells of one part.

    Attributes:
        drift: by how much log-probabilities of outcomes may differ, in laws that count as one.
    """

    drift: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.drift < math.inf:
            raise InputError(f"drift is {self.drift}; it is a finite number of nats, at least 0")

    def check(self, first: Parts, second: Parts, *, alpha: float, beta: float, name: str = "homogeneity") -> Evidence:
        """Compare n independent rows with as many others.

        Args:
            first, second: outcomes, each part's by any integers.
            alpha: false-alarm rate.
            beta: miss rate that delta is stated for.
            name: of the check.
        """
        check_rates(alpha, beta)
        if first.shape != second.shape or first.ndim != 2 or first.shape[1] < 1:
            raise InputError(
                f"the samples have shapes {first.shape} and {second.shape}; compare as many rows and parts"
            )
        n, parts = first.shape
        check_size(n)
        found = [_part(one, two) for one, two in zip(first.T, second.T, strict=True)]
        tails = [self._tail(score, cells, n) for score, cells, *_ in found]
        worst = int(np.argmin(tails))
        score, _, outcome, one, two = found[worst]
        p_value = min(1.0, parts * tails[worst])
        most = max(each[1] for each in found)
        delta = self.smallest_detectable(n, alpha=alpha, beta=beta, cells=most, parts=parts)
        return Evidence(
            check=name,
            statistic=score,
            p_value=p_value,
            alpha=alpha,
            beta=beta,
            delta=delta,
            metric=TOTAL_VARIATION,
            n=n,
            rejected=p_value <= alpha,
            basis="asymptotic",
            power="asymptotic",
            vacuous=nothing_below_one(delta, n),
            blind="differences between outcomes that share a cell, for they are rare",
            detail=f"part {worst} is farthest off, of {parts}: outcome {outcome} came {one} times and {two} times",
            coverage={"rows": n, "parts": parts, "cells": most, "part": worst, "outcome": outcome, "first": one,
                      "second": two},
        )  # fmt: skip

    def smallest_detectable(self, n: int, *, alpha: float, beta: float, cells: int = 2, parts: int = 1) -> float:
        """The total variation that n rows of each sample miss with probability at most beta, at most 1.

        Args:
            n: rows of each sample.
            alpha, beta: rates.
            cells: of the part that has most.
            parts: how many there are.
        """
        check_rates(alpha, beta)
        check_size(n)
        if cells < 2:
            return outside_support(n, beta)
        level, drift = alpha / parts / SAFETY, n * self.drift**2 / 2
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


def _part(first: Int[np.ndarray, " rows"], second: Int[np.ndarray, " rows"]) -> tuple[float, int, int, int, int]:
    """The statistic of one part, its cells, and the outcome that is farthest off with its counts."""
    outcomes, codes = np.unique(np.concatenate([first, second]), return_inverse=True)
    codes = codes.ravel()
    one, two = (np.bincount(half, minlength=len(outcomes)) for half in (codes[: len(first)], codes[len(first) :]))
    cell = pool((one + two) / 2, ENOUGH)
    ones, twos = np.bincount(cell, one), np.bincount(cell, two)
    score = float(((ones - twos) ** 2 / (ones + twos)).sum())
    off = int(((one - two) ** 2 / (one + two)).argmax())
    return score, len(ones), int(outcomes[off]), int(one[off]), int(two[off])
