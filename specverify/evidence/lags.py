"""Dependence between tokens at any distance: along a sequence, across the rows of a batch, and between calls.

Noise that lies in a ring of k positions, or that row r + 2 has from row r, leaves every token's law right and so every
single transform uniform. `pit.PitPairs` sees it at one distance; here every distance is looked at.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float

from specverify.errors import InputError
from specverify.evidence import design
from specverify.evidence.distance import deviation
from specverify.evidence.finite import TotalVariation
from specverify.evidence.result import (
    TOTAL_VARIATION,
    Evidence,
    check_delta,
    check_rates,
    check_size,
    nothing_below_one,
)

Transforms = Float[np.ndarray, "rows length"]


@dataclass(frozen=True)
class PitLags:
    """Test that transforms are independent in pairs, at every distance along the sequence and some across rows.

    A distance is (r, b): position i of one row, and position i + b of the row r further on. At each, the pairs fall
    into grid x grid cells, which are uniform under the null. Two phases hold all pairs, each without using a token
    twice, so that their counts are multinomial and the bound of `TotalVariation` applies, at alpha over the number of
    phases of all distances and of all kinds of transform (Bonferroni; all rates hold at every n).

    Single transforms that are not uniform are the business of other checks: a table counts only where at least half of
    its distance is one from the product of its own margins (which can only lower the false-alarm rate).

    `delta` is the total variation from uniform of the cell of a pair, its law averaged over the pairs of a phase at any
    one distance, the rarest distance included, where each transform alone is uniform. n counts the pairs of that one.

    Attributes:
        rows: distances between rows; 0 is the row itself, at all distances along it.
        length: positions of a sequence.
        kinds: of transforms, for the share of alpha and for planning.
        grid: cells along each side.
    """

    rows: tuple[int, ...]
    length: int
    kinds: int = 1
    grid: int = 4

    def __post_init__(self) -> None:
        check_size(self.length, "length")
        if not self.rows or min(self.rows) < 0 or self._looks == 0:
            raise InputError(f"rows are {self.rows} at length {self.length}; no two tokens are so far apart")

    def check(self, transforms: Sequence[Transforms], *, alpha: float, beta: float, name: str) -> Evidence:
        """Test transforms of the same tokens, one array for each kind of them."""
        check_rates(alpha, beta)
        if len(transforms) != self.kinds or any(part.shape[1] != self.length for part in transforms):
            raise InputError(
                f"transforms have shapes {[part.shape for part in transforms]}; {self.kinds} kinds of {self.length} "
                "positions were announced"
            )
        worst, p_value, n = (0.0, 0, 0, 0), 1.0, 0
        for part in transforms:
            for row, shift, table in self._tables(part):
                pairs = int(table.sum())
                if not pairs:
                    continue
                n = min(n, pairs) if n else pairs
                distance = 0.5 * float(np.abs(table / pairs - self.grid**-2).sum())
                p = math.exp(-2 * pairs * max(0.0, distance - self._test.mean(pairs)) ** 2)
                if p < p_value and _beyond_margins(table) >= distance / 2:
                    p_value, worst = p, (distance, row, shift, pairs)
        if not n:
            raise InputError(f"{transforms[0].shape[0]} rows hold no pair {self.rows} apart")
        p_value = min(1.0, self._looks * p_value)
        delta = self.smallest_detectable(n, alpha=alpha, beta=beta)
        return Evidence(
            check=name,
            statistic=worst[0],
            p_value=p_value,
            alpha=alpha,
            beta=beta,
            delta=delta,
            metric=TOTAL_VARIATION,
            n=n,
            rejected=p_value <= alpha,
            basis="finite-sample bound",
            power="finite-sample bound",
            estimate=worst[0],
            vacuous=nothing_below_one(delta, n),
            blind=f"dependence within a cell of the {self.grid} x {self.grid} grid, of three tokens or more, and such "
            "as cancels over the pairs of a distance",
            detail=f"{self._looks // (2 * self.kinds)} distances; most dependent: {_said(worst[1], worst[2])}, "
            f"{worst[0]:.3g} from uniform in {worst[3]:,} pairs",
            coverage={"distances": self._looks // (2 * self.kinds), "kinds": self.kinds},
            data={"row": worst[1], "position": worst[2]},
        )

    def smallest_detectable(self, n: int, *, alpha: float, beta: float) -> float:
        """The total variation of a pair's cell that n pairs miss with probability at most beta, at most 1."""
        check_rates(alpha, beta)
        check_size(n)
        return min(1.0, self._test.threshold(n, alpha / self._looks) + deviation(n, beta))

    def sample_size(self, delta: float, *, alpha: float, beta: float) -> int:
        """The number of pairs at the rarest distance that misses delta with probability at most beta."""
        check_delta(delta)
        return design.sample_size(lambda n: self.smallest_detectable(n, alpha=alpha, beta=beta), delta)

    @cached_property
    def _looks(self) -> int:
        """Phases of all distances and kinds."""
        along = [self.length - 1 if row == 0 else 2 * self.length - 1 for row in self.rows]
        return 2 * self.kinds * sum(along)

    @cached_property
    def _test(self) -> TotalVariation:
        return TotalVariation(np.full(self.grid**2, self.grid**-2))

    def _tables(self, pit: Transforms) -> Iterator[tuple[int, int, np.ndarray]]:
        """Rows apart, positions apart, and the counts of the cells, for each distance and phase."""
        count, length, grid = len(pit), self.length, self.grid
        cell = np.minimum((pit * grid).astype(np.int64), grid - 1)
        marks = np.zeros((count, length, grid), dtype=np.float32)
        np.put_along_axis(marks, cell[..., None], 1.0, axis=2)
        flat = marks.reshape(count, length * grid)
        for row in self.rows:
            first = np.arange(max(0, count - row))
            phases = [first] if row == 0 else [first[(first // row) % 2 == phase] for phase in (0, 1)]
            for chosen in phases:
                pairs = _products(flat, chosen, row).reshape(length, grid, length, grid)
                for shift in range(1 if row == 0 else 1 - length, length):
                    at = np.arange(max(0, -shift), min(length, length - shift))
                    parts = [at] if row else [at[(at // shift) % 2 == phase] for phase in (0, 1)]
                    for part in parts:
                        yield row, shift, pairs[part, :, part + shift].sum(0)


def _products(marks: np.ndarray, chosen: np.ndarray, row: int) -> np.ndarray:
    """How often two marks meet in rows `row` apart; whole numbers, in blocks that single precision counts exactly."""
    total = np.zeros((marks.shape[1], marks.shape[1]))
    for start in range(0, len(chosen), 1 << 20):
        block = chosen[start : start + (1 << 20)]
        total += marks[block].T @ marks[block + row]
    return total


def _beyond_margins(table: np.ndarray) -> float:
    """The total variation of a table from the product of its own margins."""
    shares = table / table.sum()
    return 0.5 * float(np.abs(shares - shares.sum(1, keepdims=True) * shares.sum(0, keepdims=True)).sum())


def _said(row: int, shift: int) -> str:
    if row == 0:
        return f"positions i and i + {shift} of a row"
    where = "the same position" if shift == 0 else f"positions i and i {'+' if shift > 0 else '-'} {abs(shift)}"
    return f"{where} of rows r and r + {row}"
