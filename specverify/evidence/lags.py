"""Dependence between tokens at any distance: along a sequence, across the rows of a batch, and between calls.

Noise that lies in a ring of k positions, or that row r + 2 has from row r, leaves every token's law right and so every
single transform uniform. `pit.PitPairs` sees it at one distance; here every distance is looked at, by Fourier
transform.

Let u_1, u_2, ... be independent uniforms, and add up exp 2 pi i (m u_(j + b) - k u_j) over all j, with m not 0.
Whatever comes before it, each term is a unit vector in a uniform direction: so the real part of the sum, in any
direction, has the moment generating function I_0(x)^n exactly, though neighbouring terms share a token. Its mean over n
terms reaches c with probability at most exp(-n I(c)), I(c) = sup_x (x c - log I_0(x)) >= c^2 (Chernoff), at every n.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Complex, Float
from scipy import fft, special

from specverify.errors import InputError
from specverify.evidence import design
from specverify.evidence.distance import deviation
from specverify.evidence.result import Evidence, check_delta, check_rates, check_size, nothing_below_one

Transforms = Float[np.ndarray, "rows length"]
CIRCULAR = "circular correlation of transforms"
PAIRS = tuple(itertools.product((1, 2), (1, 2, -1, -2)))
"""The (k, m) that are looked at: noise that is the same, its opposite, its double, and these turned by any angle."""
DIRECTIONS = 4
BLOCK = 1 << 20
"""Numbers of a transform that are held at once."""
_TILTS = np.geomspace(1e-4, 1e4, 400)
_LOG_MEAN = np.log(special.i0e(_TILTS)) + _TILTS


@dataclass(frozen=True)
class PitLags:
    """Test that transforms are independent in pairs, at every distance along the sequence and some across rows.

    A distance is (r, b): position i of one row, and position i + b of the row r further on. All pairs of a distance are
    taken together, and Chernoff's bound (see above) at alpha over the number of distances, of (k, m), of directions and
    of kinds of transform (Bonferroni), so that all rates hold at every n.

    Single transforms that are not uniform are the business of other checks: a distance counts only where at least half
    of its correlation is beyond what the means of the transforms' own directions make (which can only lower the
    false-alarm rate).

    `delta` is the circular correlation at any one distance, the rarest included: the mean over its pairs of
    cos 2 pi (m v - k u - c), given everything before the later token, for one of `PAIRS` and c of 0, 1/4, 1/2, 3/4.
    Where a share s of the pairs have one number in common it is s for transforms that are those numbers, and less where
    tokens tell of their numbers only an interval. n counts the pairs of the rarest distance.

    Attributes:
        rows: distances between rows; 0 is the row itself, at all distances along it.
        length: positions of a sequence.
        kinds: of transforms, for the share of alpha and for planning.
    """

    rows: tuple[int, ...]
    length: int
    kinds: int = 1

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
        rows = [row for row in self.rows if row < len(transforms[0])]
        if not rows:
            raise InputError(f"{len(transforms[0])} rows hold no pair {self.rows} apart")
        n = min((len(transforms[0]) - row) for row in rows)  # at the far ends of a row there is one pair in each
        worst, log_p = (0, 0, 0.0, 0), 0.0
        for part in transforms:
            for row, shifts, sums, own in _sums(part, rows):
                pairs = (len(part) - row) * (self.length - np.abs(shifts))
                means = sums / pairs
                sized = np.maximum(np.abs(means.real), np.abs(means.imag))
                dependent = np.abs(means - own) >= np.abs(means) / 2
                found = np.where(dependent, -pairs * _rate(sized), 0.0)
                _, at = np.unravel_index(int(found.argmin()), found.shape)
                if found.min() < log_p:
                    log_p = float(found.min())
                    worst = (row, int(shifts[at]), float(sized[:, at].max()), int(pairs[at]))
        p_value = math.exp(min(0.0, log_p + math.log(self._looks)))
        delta = self.smallest_detectable(n, alpha=alpha, beta=beta)
        distances = self._looks // (len(PAIRS) * DIRECTIONS * self.kinds)
        return Evidence(
            check=name,
            statistic=worst[2],
            p_value=p_value,
            alpha=alpha,
            beta=beta,
            delta=delta,
            metric=CIRCULAR,
            n=n,
            rejected=p_value <= alpha,
            basis="finite-sample bound",
            power="finite-sample bound",
            estimate=worst[2],
            vacuous=nothing_below_one(delta, n),
            blind="dependence of three tokens or more, such as cancels over the pairs of a distance, and such as no "
            "cosine of twice the transforms, their sum or difference is moved by",
            detail=f"{distances} distances; most dependent: {_said(worst[0], worst[1])}, "
            f"correlated by {worst[2]:.3g} in {worst[3]:,} pairs",
            coverage={"distances": distances, "kinds": self.kinds},
            data={"row": worst[0], "position": worst[1]},
        )

    def smallest_detectable(self, n: int, *, alpha: float, beta: float) -> float:
        """The circular correlation that n pairs miss with probability at most beta, at most 1."""
        check_rates(alpha, beta)
        check_size(n)
        need = math.log(self._looks / alpha) / n
        # terms lie between -1 and 1, so that they stray twice as far as shares do
        return min(1.0, float(((need + _LOG_MEAN) / _TILTS).min()) + 2 * deviation(n, beta))

    def sample_size(self, delta: float, *, alpha: float, beta: float) -> int:
        """The number of pairs at the rarest distance that misses delta with probability at most beta."""
        check_delta(delta, CIRCULAR)
        return design.sample_size(lambda n: self.smallest_detectable(n, alpha=alpha, beta=beta), delta)

    @cached_property
    def _looks(self) -> int:
        """Distances, pairs of multiples, directions and kinds."""
        along = [self.length - 1 if row == 0 else 2 * self.length - 1 for row in self.rows]
        return len(PAIRS) * DIRECTIONS * self.kinds * sum(along)


def _rate(mean: Float[np.ndarray, "pairs shifts"]) -> Float[np.ndarray, "pairs shifts"]:
    """I(mean), from below: any tilt gives a bound, and the best of the list is near enough."""
    best = np.searchsorted(special.i1e(_TILTS) / special.i0e(_TILTS), mean).clip(0, len(_TILTS) - 1)
    return np.asarray(np.maximum(0.0, _TILTS[best] * mean - _LOG_MEAN[best]))


def _sums(
    part: Transforms, rows: Sequence[int]
) -> Iterator[tuple[int, np.ndarray, Complex[np.ndarray, "pairs shifts"], Complex[np.ndarray, "pairs one"]]]:
    """For each distance between rows: shifts, the sum of exp 2 pi i (m v - k u), and its mean were u, v independent."""
    length = part.shape[1]
    size = fft.next_fast_len(2 * length - 1)
    multiples = sorted({multiple for pair in PAIRS for multiple in pair})
    totals = {row: np.zeros((len(PAIRS), size), dtype=np.complex128) for row in rows}
    reach, step = max(rows), max(1, BLOCK // size)
    for start in range(0, len(part), step):
        block = part[start : start + step + reach]
        spectra = {k: fft.fft(np.exp(2j * np.pi * k * block), size, axis=1) for k in multiples}
        for row, total in totals.items():
            count = max(0, min(step, len(block) - row))
            for index, (k, m) in enumerate(PAIRS):
                total[index] += (spectra[k][:count].conj() * spectra[m][row : row + count]).sum(0)
    mean = {k: np.exp(2j * np.pi * k * part).mean() for k in multiples}
    own = np.array([[mean[k].conjugate() * mean[m]] for k, m in PAIRS])
    for row in rows:
        shifts = np.arange(1 if row == 0 else 1 - length, length)
        if len(shifts):
            yield row, shifts, fft.ifft(totals[row], axis=1)[:, shifts], own


def _said(row: int, shift: int) -> str:
    if row == 0:
        return f"positions i and i + {shift} of a row"
    where = "the same position" if shift == 0 else f"positions i and i {'+' if shift > 0 else '-'} {abs(shift)}"
    return f"{where} of rows r and r + {row}"
