"""G-test and chi-square test of counts against a known law over K outcomes: sequences, tokens, or any finite set.

The null hypothesis is that the n samples are independent draws of the law p. This is the sharpest of the fixed-n tests.
Its false-alarm rate is exact where that is affordable and asymptotic elsewhere, its miss rate asymptotic; `finite.py`
has tests whose rates are proved at every n, at a higher n.

An observation of an outcome that p forbids rejects at once: it has probability 0 under the null.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Literal

import numpy as np
from jaxtyping import Float, Int
from scipy import special, stats

from specverify.errors import InputError, number_of
from specverify.evidence import design
from specverify.evidence.result import (
    TOTAL_VARIATION,
    Basis,
    Counts,
    Evidence,
    Law,
    Tokens,
    Vector,
    check_delta,
    check_rates,
    check_size,
    nothing_below_one,
    to_counts,
    to_law,
    to_numpy,
)
from specverify.evidence.sparse import Family, Nodes, least_seen, size_from

ENUMERATE = 50_000  # count vectors that are enumerated rather than sampled
SIMULATE = 50_000_000  # cells of Monte Carlo count vectors that are worth their second
SAFETY = 2.0  # asymptotic p-values are multiplied by this; see ChiSquare
UNSTEADY = 0.1  # how much rare outcomes may add to the variance of Pearson's statistic, as a share of chi-square's


def sequence_counts(tokens: Tokens, vocab: int) -> Int[np.ndarray, " outcomes"]:
    """How often each of the vocab ** length sequences occurs; the last position varies fastest, as in `reshape`."""
    values = to_numpy(tokens).astype(np.int64)
    check_size(values.shape[0], "the number of sequences")
    if values.min() < 0 or values.max() >= vocab:
        raise InputError(f"tokens hold {values.min()}..{values.max()}, outside 0..{vocab - 1}")
    outcomes = vocab ** values.shape[1]
    if outcomes > 10**8:
        raise InputError(
            f"{vocab}^{values.shape[1]} sequences are too many to count; check shorter prefixes, or traces (pit.py)"
        )
    places = vocab ** np.arange(values.shape[1] - 1, -1, -1)
    return np.bincount(values @ places, minlength=outcomes)


@dataclass(frozen=True)
class Plan:
    """How `ChiSquare` will compute its p-value, chosen from n, alpha and the law alone.

    Attributes:
        basis: "exact", "monte-carlo" or "asymptotic".
        cell: the cell that each possible outcome is counted in.
        hidden: probability of the outcomes that share a cell: the most total variation that pooling can hide.
        draws: Monte Carlo count vectors.
    """

    basis: Basis
    cell: Int[np.ndarray, " outcomes"]
    hidden: float
    draws: int


@dataclass(frozen=True, eq=False)
class ChiSquare:
    """G-test or Pearson's chi-square test of counts against a law.

    p-value: by enumerating all count vectors if there are at most 50,000; else from the chi-square law if every cell is
    expected often enough; else by Monte Carlo if 20 / alpha count vectors are affordable (p = (1 + exceedances) /
    (1 + draws), valid for any number of draws); else from the chi-square law after pooling the rarest outcomes.

    "Often enough" for G, with Williams' correction (1976), is 20 expected in every cell, since its tail has the right
    exponent (Sanov). For Pearson's statistic, whose tail has not, it grows with log(1 / alpha) squared to 180 at 1e-6.
    The asymptotic p-value is doubled for what remains: over two-cell laws, where the tail of G is a binomial sum, the
    true false-alarm rate is then at most alpha down to 1e-6 and 2.1 alpha at 1e-9 (a test computes it).

    Pearson's statistic is unsteady where some outcomes are expected much less than once: a single draw of them is
    worth more than all the rest. In a Monte Carlo p-value the rarest outcomes share cells until they add no more than a
    tenth to its variance, and the critical value is taken as that much farther from the mean.

    Miss rate: under a q at total variation delta the statistic is taken as noncentral chi-square. Its noncentrality is
    n chi2(q, p) >= 4 n delta^2 (Cauchy-Schwarz) or 2 n KL(q, p) >= 4 n delta^2 (Pinsker), attained where |q - p| is
    proportional to p. Where outcomes are expected too rarely for that, delta is at least what the worst of a family of
    alternatives asks for (`sparse.Family`: mass moved between rarer and commoner outcomes, and among equal ones): the
    miss rate then holds for those, and delta may come to 1.

    Attributes:
        law: Float[outcomes], the target law.
        statistic: "g" (the log-likelihood ratio) or "pearson".
    """

    law: Law
    statistic: Literal["g", "pearson"] = "g"

    def __post_init__(self) -> None:
        if self.statistic not in ("g", "pearson"):
            raise InputError(f"statistic {self.statistic!r} is not known; choose 'g' or 'pearson'")
        self._p  # noqa: B018 - checks the law

    @cached_property
    def _p(self) -> Vector:
        return to_law(self.law)

    def plan(self, n: int, alpha: float) -> Plan:
        """The method for n samples at rate alpha, before any data."""
        check_size(n)
        check_rates(alpha)
        p = self._p[self._p > 0]
        apart = np.arange(len(p))
        if math.comb(n + len(p) - 1, len(p) - 1) <= ENUMERATE:
            return Plan("exact", apart, 0.0, 0)
        enough = 20.0 if self.statistic == "g" else 20.0 * max(1.0, (math.log10(1 / alpha) / 2) ** 2)
        if n * p.min() >= enough:
            return Plan("asymptotic", apart, 0.0, 0)
        draws = math.ceil(20 / alpha)
        if draws * len(p) <= SIMULATE:
            cell = apart if self.statistic == "g" else _steady(n * p)
            return Plan("monte-carlo", cell, _hidden(p, cell), draws)
        cell = pool(n * p, enough)
        return Plan("asymptotic", cell, _hidden(p, cell), 0)

    def check(
        self, counts: Counts, *, alpha: float, beta: float, generator: np.random.Generator | None = None
    ) -> Evidence:
        """Test the counts.

        Args:
            counts: Int[outcomes].
            alpha: false-alarm rate.
            beta: miss rate that delta is stated for.
            generator: for the Monte Carlo p-value; needed only where `plan` says "monte-carlo".
        """
        check_rates(alpha, beta)
        observed = to_counts(counts, len(self._p))
        n = int(observed.sum())
        plan = self.plan(n, alpha)
        possible = self._p > 0
        p = np.bincount(plan.cell, self._p[possible])
        cells = np.bincount(plan.cell, observed[possible]).astype(np.int64)
        forbidden = n - int(cells.sum())
        if forbidden:
            statistic, p_value = math.inf, 0.0
        else:
            statistic = float(self._statistic(cells, p))
            p_value = self._p_value(statistic, p, n, plan, generator)
        delta = self.smallest_detectable(n, alpha=alpha, beta=beta)
        return Evidence(
            check=f"joint law ({self.statistic})",
            statistic=statistic,
            p_value=p_value,
            alpha=alpha,
            beta=beta,
            delta=delta,
            metric=TOTAL_VARIATION,
            n=n,
            rejected=p_value <= alpha,
            basis=plan.basis,
            power="asymptotic",
            estimate=0.5 * float(np.abs(observed / n - self._p).sum()),
            vacuous=nothing_below_one(delta, n),
            blind=f"differences between outcomes of total probability {plan.hidden:.3g} that share cells"
            if plan.hidden
            else "",
            detail=f"{self.statistic} = {statistic:.6g} over {len(p)} cells{forbidden_note(forbidden)}",
            coverage={
                "outcomes": int(possible.sum()),
                "cells": len(p),
                "hidden": plan.hidden,
                "least expected": float(n * p.min()),
                "forbidden": forbidden,
            },
            data={"counts": cells.tolist(), "expected": (n * p).tolist()},
        )

    def smallest_detectable(self, n: int, *, alpha: float, beta: float) -> float:
        """The total variation that n samples miss with probability at most beta, at most 1."""
        return self._seen(n, alpha, beta, rare=True)

    def _seen(self, n: int, alpha: float, beta: float, *, rare: bool) -> float:
        """The same; or, which costs less, without a look at what rare outcomes change."""
        check_rates(alpha, beta)
        plan = self.plan(n, alpha)
        freedom = int(plan.cell.max())
        if freedom == 0:
            return 1.0 if plan.hidden else outside_support(n, beta)
        critical = float(stats.chi2.isf(alpha / SAFETY if plan.basis == "asymptotic" else alpha, freedom))
        p = np.bincount(plan.cell, self._p[self._p > 0])
        if plan.basis == "monte-carlo" and self.statistic == "pearson":
            critical = freedom + math.sqrt(1 + _unsteadiness(n * p)) * (critical - freedom)
        seen = min(1.0, math.sqrt(design.noncentrality_above(critical, freedom, beta) / (4 * n)))
        if rare and plan.basis == "monte-carlo":
            seen = self._sparse(p, n, None, alpha, beta, seen)
        elif rare and self.statistic == "pearson" and plan.basis == "asymptotic":
            seen = self._sparse(p, n, critical, alpha, beta, seen)
        return min(1.0, plan.hidden + seen)

    def _sparse(self, p: Vector, n: int, critical: float | None, alpha: float, beta: float, least: float) -> float:
        """What is seen of a family of alternatives; without a critical value, that of Monte Carlo."""
        if (n, alpha, beta) in self._remembered:
            return self._remembered[n, alpha, beta]
        family = Family(p)

        def terms(counts: Nodes, law: Float[np.ndarray, "many 1"]) -> Nodes:
            if self.statistic == "pearson":
                return np.asarray((counts - n * law) ** 2 / (n * law))
            return np.asarray(2 * special.xlogy(counts, counts / (n * law)))

        if family.dense(n, least):
            seen = least
        else:
            need = family.moments(terms, family.p[None], n).quantile(1 - alpha) if critical is None else critical
            seen = least_seen(family, lambda laws: family.moments(terms, laws, n).quantile(beta) - need, least)
        self._remembered[n, alpha, beta] = seen
        return seen

    @cached_property
    def _remembered(self) -> dict[tuple[int, float, float], float]:
        """What `_sparse` found: a calibration asks for one n again and again."""
        return {}

    def sample_size(self, delta: float, *, alpha: float, beta: float) -> int:
        """The n that misses total variation delta with probability at most beta."""
        check_delta(delta)
        start = design.sample_size(lambda n: self._seen(n, alpha, beta, rare=False), delta)
        return size_from(start, lambda n: self.smallest_detectable(n, alpha=alpha, beta=beta), delta)

    def _statistic(self, counts: Int[np.ndarray, "*many cells"], p: Vector) -> Float[np.ndarray, "*many"]:
        n = counts.sum(-1, keepdims=True)
        if self.statistic == "pearson":
            return np.asarray(((counts - n * p) ** 2 / (n * p)).sum(-1))
        return np.asarray(2 * special.rel_entr(counts.astype(np.float64), n * p).sum(-1))

    def _p_value(self, statistic: float, p: Vector, n: int, plan: Plan, generator: np.random.Generator | None) -> float:
        reached = statistic * (1 - 1e-12)  # count vectors that tie must not fall on the wrong side by rounding
        if len(p) == 1:
            return 1.0
        if plan.basis == "exact":
            vectors = _count_vectors(n, len(p))
            chance = stats.multinomial.pmf(vectors, n, p)
            return min(1.0, float(chance[self._statistic(vectors, p) >= reached].sum()))
        if plan.basis == "monte-carlo":
            if generator is None:
                raise InputError(
                    f"{n} samples of {len(p)} outcomes need a Monte Carlo p-value; pass a numpy `generator`"
                )
            block = max(1, 2_000_000 // len(p))
            exceeded = 0
            for first in range(0, plan.draws, block):
                vectors = generator.multinomial(n, p, size=min(block, plan.draws - first))
                exceeded += int((self._statistic(vectors, p) >= reached).sum())
            return (1 + exceeded) / (1 + plan.draws)
        scale = 1 + ((1 / p).sum() - 1) / (6 * n * (len(p) - 1)) if self.statistic == "g" else 1.0
        return min(1.0, SAFETY * float(stats.chi2.sf(statistic / scale, len(p) - 1)))


def outside_support(n: int, beta: float) -> float:
    """The mass outside the support of the law that n samples fail to hit with probability beta."""
    return -math.expm1(math.log(beta) / n)


def forbidden_note(forbidden: int) -> str:
    """What a detail adds when outcomes of probability 0 were observed."""
    return f"; {number_of(forbidden, 'sample')} hit outcomes that the law forbids" if forbidden else ""


def pool(expected: Vector, enough: float) -> Int[np.ndarray, " outcomes"]:
    """A cell for each outcome: the rarest share cells, in order, until every cell is expected `enough` times."""
    label = np.empty(len(expected), dtype=np.int64)
    filled, cell = 0.0, 0
    order = np.argsort(expected, kind="stable")
    for outcome in order:
        label[outcome] = cell
        filled += float(expected[outcome])
        if filled >= enough:
            filled, cell = 0.0, cell + 1
    if filled:  # the last cell was left short: it joins the one before it
        label[label == cell] = max(cell - 1, 0)
    return label


def _hidden(p: Vector, cell: Int[np.ndarray, " outcomes"]) -> float:
    """The probability of the outcomes that share a cell."""
    return float(p[np.bincount(cell)[cell] > 1].sum())


def _unsteadiness(expected: Vector) -> float:
    """By which share the variance of Pearson's statistic exceeds that of chi-square (Haldane, 1937)."""
    n, cells = float(expected.sum()), len(expected)
    return max(0.0, float((1 / expected).sum()) - (cells**2 + 2 * cells - 2) / n) / (2 * (cells - 1))


def _steady(expected: Vector) -> Int[np.ndarray, " outcomes"]:
    """A cell for each outcome: the rarest share cells, as few as make the statistic steady."""
    cell = np.arange(len(expected))
    for enough in (0.0, *np.geomspace(0.01, 20, 12).tolist()):
        cell = pool(expected, enough) if enough else cell
        pooled = np.bincount(cell, expected)
        if len(pooled) == 1 or _unsteadiness(pooled) <= UNSTEADY:
            break
    return cell


def _count_vectors(n: int, cells: int) -> Int[np.ndarray, "vectors cells"]:
    """Every way to put n samples into cells (stars and bars)."""
    bars = np.array(list(combinations(range(n + cells - 1), cells - 1)), dtype=np.int64).reshape(-1, cells - 1)
    walls = np.pad(bars, ((0, 0), (1, 1)), constant_values=((0, 0), (-1, n + cells - 1)))
    return np.diff(walls, axis=1) - 1
