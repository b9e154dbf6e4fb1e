"""Checks of traces by the probability integral transform: they need the laws at the emitted tokens, and any vocabulary.

If every token is drawn from the target's law given the tokens before it, the randomised transforms of all tokens are
independent uniforms (Rosenblatt, 1952; Brockwell, 2007), so each false-alarm rate here holds at every n. Nothing is
asked of the sampler but its trace: it need not be run from given prefixes, nor compared with samples of the target.

Miss rates hold for samplers whose tokens depend on each other. A discrepancy is one of the law of a transform given
everything before it, averaged over the tokens of the trace as it came out; by Azuma's inequality the share of
transforms that fall into a fixed set falls short of its averaged conditional probability by
sqrt(log(1 / beta) / (2 n)) with probability at most beta. Where chance decides whether a whole row is off, as one coin
for each row does, that average varies from trace to trace: of the discrepancy in the mean over traces no more is sure
to be seen than as many rows show (`PitUniformity.together`). The distance between laws of transforms is at most the
total variation between the laws of the tokens.

A token that the target forbids rejects at once in every check.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy import stats

from specverify.errors import InputError, number_of
from specverify.evidence import design
from specverify.evidence.distance import deviation
from specverify.evidence.finite import TotalVariation
from specverify.evidence.result import (
    KOLMOGOROV,
    TOTAL_VARIATION,
    Evidence,
    check_delta,
    check_rates,
    check_size,
    nothing_below_one,
)
from specverify.evidence.tokens import TokenStatistics

CANCEL = "differences that cancel over the tokens of a trace, and those that move no mass across a level of probability"


SHRINK, WHOLE = 1.25, 0.9
"""Of a fitted `PitUniformity`: by how much each size of sample is smaller, and the share of alpha of the largest."""


@dataclass(frozen=True)
class PitUniformity:
    """Kolmogorov-Smirnov test that the transforms of all tokens are uniform; exact at every n.

    n counts the tokens that had a choice (`TokenStatistics.choice`), and `delta` is the Kolmogorov distance from
    uniform of the conditional law of their transforms given everything before, averaged over those of the trace. All
    other tokens are in the sample as uniforms, since how many are left out may depend on the tokens: what is off among
    n of all is seen in proportion to their share.

    With `fitted`, fewer of the others: as many as fill up the sample to the next size that was fixed beforehand, all
    tokens, 1 / SHRINK of them, and so on. The share of alpha of size k is WHOLE for k = 0, else
    (1 - WHOLE) / (k (k + 1)), which all together keep it.

    Attributes:
        together: tokens that are right or wrong together, by a coin that is not in the trace. With 1, `delta` is that
            of the trace at hand; with the length of a row, of the mean over traces whose rows are independent.
        fitted: whether positions without a choice are left out, for logs in which there are many.
        by_id: whether the transforms that it is given go through laws by id, instead of by falling probability.
    """

    together: int = 1
    fitted: bool = False
    by_id: bool = False

    def __post_init__(self) -> None:
        check_size(self.together, "together")

    def check(self, statistics: TokenStatistics, *, alpha: float, beta: float) -> Evidence:
        """Test the transforms of every token of a trace."""
        check_rates(alpha, beta)
        pit, share = _filled(statistics) if self.fitted else (statistics.pit.numpy().ravel(), 1.0)
        n, size = int(statistics.choice.sum()), pit.size
        impossible = int(statistics.impossible.sum())
        distance, level, signed = _kolmogorov(pit)
        p_value = 0.0 if impossible else min(1.0, float(stats.kstwo.sf(distance, size)) / share)
        dilution = size / max(n, 1)
        seen, over_rows = (
            min(1.0, dilution * PitUniformity(together).smallest_detectable(size, alpha=share * alpha, beta=beta))
            for together in (self.together, statistics.pit.shape[1])
        )
        side = ("lower" if signed > 0 else "higher") if self.by_id else "likely" if signed > 0 else "unlikely"
        of = "ids" if self.by_id else "tokens"
        return Evidence(
            check="PIT by id" if self.by_id else "PIT uniformity",
            statistic=distance,
            p_value=p_value,
            alpha=alpha,
            beta=beta,
            delta=seen,
            metric=KOLMOGOROV,
            n=n,
            rejected=p_value <= alpha,
            basis="exact",
            power="finite-sample bound",
            estimate=distance,
            interval=(0.0, min(1.0, dilution * (distance + deviation(size, alpha)))),
            vacuous=_closed(statistics) or nothing_below_one(seen, n),
            blind=f"{CANCEL}; delta is of the conditional law given all before it, averaged over this trace: where a "
            f"coin decides for a whole row, the mean over traces is seen from {over_rows:.3g}",
            detail=f"largest deviation {signed:+.4g} at level {level:.3g}"
            + (f": {side} {of} come too often" if p_value <= alpha else "")
            + _impossible_note(impossible),
            coverage=_coverage(statistics) | {"choice": n, "delta over rows": over_rows},
            data={"histogram": np.histogram(pit, bins=50, range=(0, 1))[0].tolist()},
        )

    def smallest_detectable(self, n: int, *, alpha: float, beta: float) -> float:
        """The Kolmogorov distance that n tokens, all with a choice, miss with probability at most beta, at most 1."""
        check_rates(alpha, beta)
        check_size(n)
        threshold = design.kolmogorov_threshold(n, alpha * (WHOLE if self.fitted else 1.0))
        return min(1.0, threshold + deviation(max(1, n // self.together), beta))

    def sample_size(self, delta: float, *, alpha: float, beta: float) -> int:
        """The number of tokens that misses Kolmogorov distance delta with probability at most beta."""
        check_delta(delta, KOLMOGOROV)
        return design.sample_size(lambda n: self.smallest_detectable(n, alpha=alpha, beta=beta), delta)


@dataclass(frozen=True)
class PitPositions:
    """Kolmogorov-Smirnov test at each position of the sequence, at alpha / length; n counts sequences.

    Says where in a sequence the law is off. `delta` is the Kolmogorov distance at any one position, averaged over
    sequences. Holm's method names the positions.

    Attributes:
        length: number of positions, for planning alone; `check` uses the trace's own.
    """

    length: int = 1

    def __post_init__(self) -> None:
        check_size(self.length, "length")

    def check(self, statistics: TokenStatistics, *, alpha: float, beta: float) -> Evidence:
        """Test the transforms of each position over sequences."""
        check_rates(alpha, beta)
        pit = statistics.pit.numpy()
        n, length = pit.shape
        impossible = int(statistics.impossible.sum())
        distances = [_kolmogorov(pit[:, t])[0] for t in range(length)]
        p_values = [float(stats.kstwo.sf(distance, n)) for distance in distances]
        rejected = design.holm(p_values, alpha)
        p_value = 0.0 if impossible else min(1.0, length * min(p_values))
        worst = int(np.argmin(p_values))
        delta = PitPositions(length).smallest_detectable(n, alpha=alpha, beta=beta)
        return Evidence(
            check="PIT by position",
            statistic=max(distances),
            p_value=p_value,
            alpha=alpha,
            beta=beta,
            delta=delta,
            metric=KOLMOGOROV,
            n=n,
            rejected=p_value <= alpha,
            basis="exact",
            power="finite-sample bound",
            estimate=max(distances),
            vacuous=_closed(statistics) or nothing_below_one(delta, n),
            blind=CANCEL,
            detail=f"{int(rejected.sum())} of {length} positions rejected; most deviant: position {worst}, "
            f"p = {p_values[worst]:.3g}{_impossible_note(impossible)}",
            coverage=_coverage(statistics),
            data={"distance": distances, "p_value": p_values, "rejected": rejected.tolist()},
        )

    def smallest_detectable(self, n: int, *, alpha: float, beta: float) -> float:
        """The Kolmogorov distance at one position that n sequences miss with probability at most beta, at most 1."""
        return PitUniformity().smallest_detectable(n, alpha=alpha / self.length, beta=beta)

    def sample_size(self, delta: float, *, alpha: float, beta: float) -> int:
        """The number of sequences that misses distance delta at a position with probability at most beta."""
        return PitUniformity().sample_size(delta, alpha=alpha / self.length, beta=beta)


@dataclass(frozen=True)
class PitPairs:
    """Test that pairs of transforms are uniform on the unit square, cut into grid x grid cells.

    Sees dependence between tokens that are each drawn from the right law on average: coins or noise used twice. Pairs
    are `lag` apart along the sequence, or `lag` apart across the batch at one position (`across`: rows that share a
    stream). Each phase takes pairs that share no token, so its counts are multinomial and `TotalVariation` applies; two
    phases, at alpha / 2 each, cover all pairs.

    `delta` is the total variation from uniform of the pair's cell, its law averaged over the pairs of a phase. n counts
    the pairs of a phase.

    Attributes:
        lag: distance between the members of a pair.
        grid: cells along each side.
        across: pair rows of the batch rather than positions of a row.
    """

    lag: int = 1
    grid: int = 4
    across: bool = False

    def __post_init__(self) -> None:
        check_size(self.lag, "lag")
        if self.grid < 2:
            raise InputError(f"grid is {self.grid}; dependence needs at least two cells along each side")

    def check(self, statistics: TokenStatistics, *, alpha: float, beta: float) -> Evidence:
        """Test the pairs of a trace."""
        check_rates(alpha, beta)
        pit = statistics.pit.numpy()
        pit = pit.T if self.across else pit
        start = np.arange(pit.shape[1] - self.lag)
        phases = [start[(start // self.lag) % 2 == phase] for phase in (0, 1)]
        counts = [self._count(pit[:, first], pit[:, first + self.lag]) for first in phases if len(first)]
        if not counts:
            raise InputError(f"no two tokens are {self.lag} apart on an axis of {pit.shape[1]}; choose a smaller lag")
        test = self._test()
        n = min(int(table.sum()) for table in counts)
        impossible = int(statistics.impossible.sum())
        distances, p_values = [], []
        for table in counts:
            pairs = int(table.sum())
            distances.append(0.5 * float(np.abs(table / pairs - self.grid**-2).sum()))
            p_values.append(math.exp(-2 * pairs * max(0.0, distances[-1] - test.mean(pairs)) ** 2))
        p_value = 0.0 if impossible else min(1.0, 2 * min(p_values))
        delta = self.smallest_detectable(n, alpha=alpha, beta=beta)
        return Evidence(
            check=f"PIT pairs, {'rows' if self.across else 'positions'} {self.lag} apart",
            statistic=max(distances),
            p_value=p_value,
            alpha=alpha,
            beta=beta,
            delta=delta,
            metric=TOTAL_VARIATION,
            n=n,
            rejected=p_value <= alpha,
            basis="finite-sample bound",
            power="finite-sample bound",
            estimate=max(distances),
            vacuous=_closed(statistics) or nothing_below_one(delta, n),
            blind=f"dependence within a cell of the {self.grid} x {self.grid} grid; {CANCEL}",
            detail=f"plug-in distance {max(distances):.4g}, expected {test.mean(n):.4g} of independent uniforms"
            + _impossible_note(impossible),
            coverage=_coverage(statistics) | {"phases": len(counts)},
            data={"cells": [table.reshape(self.grid, self.grid).tolist() for table in counts]},
        )

    def smallest_detectable(self, n: int, *, alpha: float, beta: float) -> float:
        """The total variation of a pair's cell that n pairs miss with probability at most beta, at most 1."""
        check_rates(alpha, beta)
        return min(1.0, self._test().threshold(n, alpha / 2) + deviation(n, beta))

    def sample_size(self, delta: float, *, alpha: float, beta: float) -> int:
        """The number of pairs in a phase that misses total variation delta with probability at most beta."""
        check_delta(delta)
        return design.sample_size(lambda n: self.smallest_detectable(n, alpha=alpha, beta=beta), delta)

    def _test(self) -> TotalVariation:
        return TotalVariation(np.full(self.grid**2, self.grid**-2))

    def _count(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        cells = [np.minimum((u * self.grid).astype(np.int64), self.grid - 1) for u in (first, second)]
        return np.bincount((cells[0] * self.grid + cells[1]).ravel(), minlength=self.grid**2)


def _filled(statistics: TokenStatistics) -> tuple[Float[np.ndarray, " n"], float]:
    """The sample of a fitted `PitUniformity`, and the share of alpha that its size has."""
    pit, is_open = statistics.pit.numpy().ravel(), statistics.open.numpy().ravel()
    sizes = [len(pit)]
    while (smaller := math.ceil(len(pit) / SHRINK ** len(sizes))) >= max(1, int(is_open.sum())) and smaller < sizes[-1]:
        sizes.append(smaller)
    k = len(sizes) - 1
    # a position that is not open has a uniform of its own, which depends on nothing
    sample = np.concatenate([pit[is_open], pit[~is_open]])[: sizes[-1]]
    return sample, (1 - WHOLE) / (k * (k + 1)) if k else WHOLE


def _kolmogorov(pit: Float[np.ndarray, " n"]) -> tuple[float, float, float]:
    """Kolmogorov's statistic, the level where it is reached and its sign: positive where too many lie below."""
    ordered = np.sort(pit)
    n = len(ordered)
    above = np.arange(1, n + 1) / n - ordered
    below = ordered - np.arange(n) / n
    i, j = int(above.argmax()), int(below.argmax())
    if above[i] >= below[j]:
        return float(above[i]), float(ordered[i]), float(above[i])
    return float(below[j]), float(ordered[j]), -float(below[j])


def _closed(statistics: TokenStatistics) -> str:
    return "" if bool(statistics.open.any()) else "every law leaves a single token: only forbidden tokens could be seen"


def _coverage(statistics: TokenStatistics) -> dict[str, float]:
    return {
        "tokens": statistics.open.numel(),
        "open": int(statistics.open.sum()),
        "impossible": int(statistics.impossible.sum()),
    }


def _impossible_note(impossible: int) -> str:
    return f"; {number_of(impossible, 'token')} of probability 0" if impossible else ""
