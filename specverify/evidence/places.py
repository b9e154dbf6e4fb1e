"""Whether two transforms depend on each other: any two places of a sequence, and of one sequence and the next.

A place is a coordinate of a token. Noise that is kept for a later token, for another coordinate of it or for the next
row makes two places depend, whatever is between them; pairs of a distance together would lose two of many. Transforms
(`rosenblatt.py`) are independent uniforms: the two of a pair, counted in equal cells, are multinomial. Pairs of one
sequence and the next are those of two different places, which share no transform.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from scipy import stats

from specverify.errors import InputError
from specverify.evidence import design
from specverify.evidence.discrete import SAFETY
from specverify.evidence.result import (
    TOTAL_VARIATION,
    Evidence,
    check_delta,
    check_rates,
    check_size,
    nothing_below_one,
)
from specverify.evidence.rosenblatt import BLIND, Transforms

MOST = 128
"""Places that are looked at together; of longer sequences, tokens that stand close to each other."""


@dataclass(frozen=True)
class RosenblattPlaces:
    """Chi-square tests that pairs of transforms are uniform on the unit square, one for every two places.

    n counts sequences, and `delta` is the total variation of any one pair's cell.

    Attributes:
        grid: cells along each side of the square.
        length: positions of a sequence, for planning alone; `check` uses the data's own.
        dim: coordinates of a token, for planning alone.
    """

    grid: int = 4
    length: int = 2
    dim: int = 1

    def __post_init__(self) -> None:
        if self.grid < 2:
            raise InputError(f"grid is {self.grid}; use at least 2 cells along each side")
        check_size(self.length, "length")
        check_size(self.dim, "dim")
        if self.length * self.dim < 2:
            raise InputError("one place has no other to depend on; give sequences of two coordinates or more")

    def check(self, uniforms: Transforms, *, alpha: float, beta: float) -> Evidence:
        """Test the transforms of n sequences."""
        check_rates(alpha, beta)
        n, length, dim = uniforms.shape
        sized = replace(self, length=length, dim=dim)
        worst, where, tests = 0.0, "", sized.tests
        for first, last in sized._windows():
            part = uniforms[:, first:last].reshape(n, -1)
            for score, one, two, next_row in self._scores(part):
                if score > worst:
                    named = (_place(one, first, dim), _place(two, first, dim))
                    worst, where = score, f"{named[0]}, and {named[1]}{' of the next row' if next_row else ''}"
        freedom = self.grid**2 - 1
        p_value = min(1.0, tests * SAFETY * float(stats.chi2.sf(worst, freedom)))
        delta = sized.smallest_detectable(n, alpha=alpha, beta=beta)
        return Evidence(
            check="Rosenblatt pairs of places",
            statistic=worst,
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
            blind=f"dependence within a cell of the {self.grid} x {self.grid} grid; {BLIND}",
            detail=f"of {tests:,} pairs of places, most deviant: {where or 'none'}",
            coverage={"sequences": n, "pairs": tests},
        )

    @property
    def tests(self) -> int:
        """Pairs, those that are met in two windows twice."""
        sizes = [(last - first) * self.dim for first, last in self._windows()]
        return sum(size * (size - 1) // 2 + size * (size - 1) for size in sizes)

    def smallest_detectable(self, n: int, *, alpha: float, beta: float) -> float:
        """The total variation of a pair's cell that n sequences miss with probability at most beta, at most 1."""
        check_rates(alpha, beta)
        check_size(n)
        freedom = self.grid**2 - 1
        critical = float(stats.chi2.isf(alpha / self.tests / SAFETY, freedom))
        return min(1.0, math.sqrt(design.noncentrality_above(critical, freedom, beta) / (4 * max(1, n - 1))))

    def sample_size(self, delta: float, *, alpha: float, beta: float) -> int:
        """The number of sequences that misses a total variation of delta with probability at most beta."""
        check_delta(delta)
        return design.sample_size(lambda n: self.smallest_detectable(n, alpha=alpha, beta=beta), delta)

    def _windows(self) -> list[tuple[int, int]]:
        """Positions whose places are looked at together: all, or so many that every token is with its neighbours."""
        if self.length * self.dim <= MOST:
            return [(0, self.length)]
        width = min(self.length, max(2, MOST // self.dim))
        starts = [*range(0, self.length - width, max(1, width // 2)), self.length - width]
        return [(start, start + width) for start in starts]

    def _scores(self, values: Float[np.ndarray, "n places"]) -> Iterator[tuple[float, int, int, bool]]:
        """Of pairs within a row and of those with the next one the most deviant: its chi-square, and its places."""
        n, places = values.shape
        cell = torch.from_numpy(np.minimum((values * self.grid).astype(np.int64), self.grid - 1))
        # Counts are exact in single precision up to 2^24 sequences.
        marks = torch.nn.functional.one_hot(cell, self.grid).reshape(n, -1).float()
        for rows, next_row in ((n, False), (n - 1, True)):
            if rows < 1:
                continue
            counts = (marks[:rows].T @ marks[n - rows :]).double().reshape(places, self.grid, places, self.grid)
            score = counts.square().sum((1, 3)) * (self.grid**2 / rows) - rows
            score = score.fill_diagonal_(0) if next_row else score.triu(1)
            one, two = divmod(int(score.argmax()), places)
            yield float(score[one, two]), one, two, next_row


def _place(index: int, first: int, dim: int) -> str:
    position, dimension = divmod(index, dim)
    return f"position {first + position}" + (f", dimension {dimension}" if dim > 1 else "")
