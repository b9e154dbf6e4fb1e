"""Are samples independent of each other? A sampler may draw every one from the right law and repeat itself.

A stream shared by the rows of a batch, or re-seeded at every call, leaves each sample exact. `Dispersion` sees it in
counts over several batches: they vary more than multinomial ones (copies within a batch) or less (copies between).
`copies.py` looks for the repeated sequences themselves, where there are too many outcomes to count.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Int
from scipy import stats
from torch import Tensor

from specverify.errors import InputError
from specverify.evidence import design
from specverify.evidence.discrete import forbidden_note, pool
from specverify.evidence.result import (
    COPIES,
    Evidence,
    Law,
    Vector,
    check_delta,
    check_rates,
    check_size,
    nothing_below_one,
    to_law,
    to_numpy,
)

EXPECTED = 10.0  # least expected count of a cell in a batch
Batches = Int[np.ndarray, "batches outcomes"] | Int[Tensor, "batches outcomes"]


@dataclass(frozen=True, eq=False)
class Dispersion:
    """Two-sided homogeneity test of the counts of batches of one size; n counts batches.

    D = sum over batches and cells of (count - mean)^2 / mean, mean the average over batches: chi-square with
    (batches - 1)(cells - 1) degrees of freedom if all samples are independent, whatever their law. The law serves only
    to choose cells that are expected at least 10 times in a batch. alpha / 2 goes to each side; asymptotic.

    `delta` is a share of each batch that is copied: either all from one draw, new in each batch (D too large), or from
    the same samples in all batches (D too small). Both are seen.

    Attributes:
        law: Float[outcomes], the target law.
        size: samples in each batch.
    """

    law: Law
    size: int

    def __post_init__(self) -> None:
        check_size(self.size, "the size of a batch")
        if self._cells.shape[0] < 2:
            raise InputError(f"batches of {self.size} leave a single cell of this law; make them larger")

    @cached_property
    def _p(self) -> Vector:
        return to_law(self.law)

    @cached_property
    def _label(self) -> Int[np.ndarray, " outcomes"]:
        label = np.zeros(len(self._p), dtype=np.int64)
        label[self._p > 0] = pool(self.size * self._p[self._p > 0], EXPECTED)
        return label

    @cached_property
    def _cells(self) -> Vector:
        return np.bincount(self._label, self._p)

    def check(self, batches: Batches, *, alpha: float, beta: float) -> Evidence:
        """Test the counts of each batch, one row for each."""
        check_rates(alpha, beta)
        counts = to_numpy(batches).astype(np.int64)
        n, outcomes = counts.shape
        if outcomes != len(self._p) or (counts < 0).any() or (counts.sum(1) != self.size).any():
            raise InputError(
                f"counts of shape {counts.shape} with sums {sorted(set(counts.sum(1).tolist()))[:5]} are not batches "
                f"of {self.size} samples over {len(self._p)} outcomes"
            )
        _check_batches(n)
        forbidden = int(counts[:, self._p == 0].sum())
        pooled = np.stack([np.bincount(self._label, row, len(self._cells)) for row in counts])
        mean = pooled.mean(0)
        seen = mean > 0
        statistic = float(((pooled[:, seen] - mean[seen]) ** 2 / mean[seen]).sum())
        freedom = (n - 1) * (int(seen.sum()) - 1)
        sides = (stats.chi2.sf(statistic, freedom), stats.chi2.cdf(statistic, freedom)) if freedom else (0.0, 0.0)
        p_value = 0.0 if forbidden else min(1.0, 2 * float(min(sides)))
        delta = self.smallest_detectable(n, alpha=alpha, beta=beta)
        index = statistic / freedom if freedom else math.nan
        side = "copies within a batch" if index > 1 else "copies between batches"
        return Evidence(
            check="dispersion",
            statistic=statistic,
            p_value=p_value,
            alpha=alpha,
            beta=beta,
            delta=delta,
            metric=COPIES,
            n=n,
            rejected=p_value <= alpha,
            basis="asymptotic",
            power="asymptotic",
            vacuous=nothing_below_one(delta, n),
            blind="dependence that leaves the counts of a batch multinomial",
            detail=f"dispersion index {index:.4g} of {freedom} degrees of freedom"
            + (f": {side}" if p_value <= alpha and not forbidden else "")
            + forbidden_note(forbidden),
            coverage={"batches": n, "cells": int(seen.sum()), "index": index, "forbidden": forbidden},
            data={"by batch": ((pooled[:, seen] - mean[seen]) ** 2 / mean[seen]).sum(1).tolist()},
        )

    def smallest_detectable(self, n: int, *, alpha: float, beta: float) -> float:
        """The share of copies, within or between batches, that n batches miss with probability at most beta."""
        check_rates(alpha, beta)
        _check_batches(n)
        shares = np.linspace(0, 1, 2001)[1:]
        freedom = (n - 1) * (len(self._cells) - 1)
        above = self._least_within(shares, n, beta) >= stats.chi2.isf(alpha / 2, freedom)
        below = self._most_between(shares, n, beta) <= stats.chi2.ppf(alpha / 2, freedom)
        # the least share from which on every share is seen, in the worse of the two directions
        seen = np.logical_and.accumulate((above & below)[::-1])
        return float(shares[len(shares) - int(seen.sum())]) if seen.any() else 1.0

    def sample_size(self, delta: float, *, alpha: float, beta: float) -> int:
        """The number of batches that misses a share delta of copies with probability at most beta."""
        check_delta(delta, COPIES)
        check = self.smallest_detectable
        return design.sample_size(lambda n: check(max(2, n), alpha=alpha, beta=beta), delta, start=64)

    def _least_within(self, share: Vector, n: int, beta: float) -> Vector:
        """What D falls below with probability beta if a share of each batch is one draw, new in each batch.

        The part of D from one batch is |a + g|^2 with a from the copies and g the Gaussian limit of the other samples:
        its mean is (cells - 1)(1 - s + s^2 size), its variance the sum below, and D is taken as normal.
        """
        p, cells = self._cells, len(self._cells)
        mean = (cells - 1) * (1 - share + share**2 * self.size)
        copied = share**4 * self.size**2 * float((1 / p).sum() - cells**2)
        crossed = 4 * share**2 * self.size * (1 - share) * (cells - 1)
        variance = copied + crossed + 2 * (1 - share) ** 2 * (cells - 1)
        return np.asarray((n - 1) * mean - stats.norm.isf(beta) * np.sqrt((n - 1) * variance))

    def _most_between(self, share: Vector, n: int, beta: float) -> Vector:
        """What D exceeds with probability beta if a share of each batch is the same in all batches.

        D is chi-square times (1 - s) p / (s f + (1 - s) p), averaged over cells, with f the frequencies among the
        copies: the factor's mean and variance are expanded to second order in f - p.
        """
        p, cells = self._cells, len(self._cells)
        freedom = (n - 1) * (cells - 1)
        rare = float((1 / (self.size * p)).mean())
        factor = (1 - share) * (1 + share * rare)
        uneven = share * float((1 / p).sum() - cells**2) / self.size + 2 * cells * (share * rare) ** 2
        chance = stats.chi2.isf(beta, freedom) / freedom - 1
        return np.asarray(
            freedom * factor * (1 + np.hypot(chance, stats.norm.isf(beta) * np.sqrt(uneven) / (cells - 1)))
        )


def _check_batches(n: int) -> None:
    if n < 2:
        raise InputError(f"n is {n}; counts vary between at least two batches")
