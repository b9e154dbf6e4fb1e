"""Do rows use the noise of other rows again, as it is or its opposite, whichever rows those are, and wherever in them?

The order of a log's rows may depend on them: sorted rows are alike where they are near. So no distance between rows is
looked at here but every pair of them, which no order changes; and evidence adds up from row to row, taken at random.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy import fft, special
from torch import Tensor

from specverify.errors import InputError
from specverify.evidence.copies import least_share
from specverify.evidence.lags import Transforms
from specverify.evidence.result import Evidence, check_rates, check_size

NOISE = "share of rows with the noise of another"
TILTS = (1.0, 4.0, 12.0)
"""How much is bet on the cosine of each difference: little where tokens tell little of their numbers."""
NEAR = 0.9
"""The mean cosine of the differences at which delta is stated: that of numbers known to a sixth, or a little less."""
PIECE = 16
"""Longer rows are looked at in pieces of at most so many positions, too, and of 4 times and 16 times as many."""
BUDGET = 1 << 23
"""Pairs of rows, or of pieces, times places that are looked at."""
BLOCK = 1 << 21
"""Of these, at once."""
LARGEST = 60.0
"""The logarithm of what a pair may count for: single precision holds the sum of as many as there are."""


@dataclass(frozen=True)
class Borrowed:
    """Test that no row, and no piece of one, has the noise of another, as it is or moved along the row.

    With u the transforms of row r and v those of an earlier row, T = sum cos 2 pi (u_i - v_(i + b)) over the n_b
    positions that both have, exp(x T) / I_0(x)^n_b has mean 1 given all earlier rows, for every b: u is uniform
    whatever they are. So has that of u_i + v_(i + b), which antithetic numbers, u and 1 - u, keep whole; and so has the
    mean of both over earlier rows and all b, of which b = 0 has half the weight. On that is bet a
    share of what was won so far (of three shares and three x, each with its own part of the purse): what is won in all
    is a martingale, and reaches 1 / alpha with probability at most alpha (Ville's inequality), at every n and however
    the rows were sorted, since they are taken at random. Rows and pieces, and each kind of transform, have their own
    share of alpha. Rows that tell much are found one by one; of short ones, that too many are near each other.

    n counts the rows that are looked at, as many of all as `BUDGET` allows. `delta` is the share of all rows that have
    the noise of an earlier one at the same positions, so well that the mean cosine is `NEAR`.
    """

    def check(
        self,
        transforms: Sequence[Transforms],
        *,
        alpha: float,
        beta: float,
        order: Int[np.ndarray, " rows"] | None = None,
    ) -> Evidence:
        """Test rows in an order that does not depend on them, one array for each kind of transform.

        Args:
            transforms: of the same rows.
            alpha: false-alarm rate.
            beta: miss rate that delta is stated for.
            order: what each row is called, for the detail; by default its place.
        """
        check_rates(alpha, beta)
        rows, length = transforms[0].shape
        if rows < 2 or any(part.shape != (rows, length) for part in transforms):
            raise InputError(
                f"transforms have shapes {[part.shape for part in transforms]}; give two rows of each kind"
            )
        called = np.arange(rows) if order is None else order
        purses, most = [], (-math.inf, "")
        for part in transforms:
            for pieces, row, start in _cut(part):
                odds, (top, one, two, moved, opposite) = _odds(
                    torch.from_numpy(np.ascontiguousarray(pieces)), torch.from_numpy(row)
                )
                moved += int(start[one] - start[two])
                turned = ", one the opposite of the other" if opposite else ""
                most = max(most, (top, f"rows {called[row[one]]} and {called[row[two]]}{turned}{_moved(moved)}"))
                won = [np.cumsum(np.log1p(share * (odds - 1)), axis=1) for share in _shares(len(pieces))]
                purses.append(special.logsumexp(np.concatenate(won), axis=0) - math.log(len(won) * len(TILTS)))
        log_e = max(0.0, float(max(purse.max() for purse in purses)) - math.log(len(purses)))
        n = min(rows, looked_at(length, length))
        delta = self.smallest_detectable(n, length, len(purses), alpha=alpha, beta=beta)
        # of a row that is looked at, the one whose noise it has may be among those that are not
        delta = min(1.0, delta * (rows - 1) / (n - 1))
        rejected = log_e >= math.log(1 / alpha)
        return Evidence(
            check="rows with another's noise",
            statistic=log_e,
            p_value=math.exp(-log_e),
            alpha=alpha,
            beta=beta,
            delta=delta,
            metric=NOISE,
            n=n,
            rejected=rejected,
            basis="finite-sample bound",
            power="finite-sample bound",
            vacuous="" if delta < 1 else "rows are too short, or too few, for one to show the noise of another",
            blind=f"noise that comes again in less than {PIECE} positions in a row, in stretches of few rows that are "
            "much longer than they, or that its tokens tell little of",
            detail=f"log e-value {log_e:.4g} of {n:,} rows" + (f"; most alike: {most[1]}" if rejected else ""),
            coverage={"rows": n, "of": rows, "kinds": len(transforms)},
        )

    def smallest_detectable(self, n: int, length: int, purses: int = 1, *, alpha: float, beta: float) -> float:
        """The share of n rows of a length that is missed with probability at most beta, at most 1."""
        check_rates(alpha, beta)
        check_size(n)
        found = 1.0
        for share in _shares(n):
            for tilt in TILTS:
                # the row whose noise it has is one of at most n, either way, and every other row costs its stake
                told = length * (tilt * NEAR - _log_mean(tilt)) - math.log(4 * n)
                gain = math.log1p(share * math.expm1(max(0.0, min(LARGEST - math.log(4 * n), told))))
                loss = -math.log1p(-share)
                need = math.log(len(TILTS) * len(_shares(n)) * purses / alpha) + n * loss
                enough = math.ceil(need / (gain + loss))
                if enough <= n:
                    found = min(found, least_share(enough, n, beta))
        return found


def _cut(part: Transforms) -> Iterator[tuple[Transforms, Int[np.ndarray, " pieces"], Int[np.ndarray, " pieces"]]]:
    """Rows, and pieces of them in any order; the row that each is of, and where it starts."""
    rows, length = part.shape
    yield part[: looked_at(length, length)], np.arange(rows), np.zeros(rows, dtype=np.int64)
    for size in _pieces(length):
        many = -(-length // size)
        width = length // many
        chosen = np.random.default_rng(0).permutation(rows * many)[: looked_at(width, length)]
        row, start = chosen // many, chosen % many * width
        yield part[row[:, None], start[:, None] + np.arange(width)], row, start


def _pieces(length: int) -> list[int]:
    """How long the pieces of rows are, at most: each sort four times as long as the one before."""
    return [PIECE * 4**k for k in range(length.bit_length()) if PIECE * 4**k < length]


def looked_at(width: int, length: int) -> int:
    """How many rows, or pieces of a width, of rows of a length `BUDGET` allows."""
    budget = BUDGET // (1 + len(_pieces(length)))
    return max(2, math.isqrt(2 * budget // fft.next_fast_len(2 * width - 1, real=True)))


def _shares(n: int) -> tuple[float, ...]:
    return (1 / n, n**-0.5, 0.25) if n > 16 else (0.25,)


def _log_mean(tilt: float) -> float:
    return tilt + math.log(float(special.i0e(tilt)))


def _odds(
    part: Float[Tensor, "rows length"], own: Int[Tensor, " all"]
) -> tuple[Float[np.ndarray, "tilts rows"], tuple[float, int, int, int, int]]:
    """What each piece says for its noise to be an earlier one's, by tilt; and the pair most alike, with its shift and
    whether one is the other's opposite.

    Pieces of a row `own` are held against those of other rows alone.
    """
    rows, length = part.shape
    size = fft.next_fast_len(2 * length - 1, real=True)
    places = torch.arange(size)
    shifts = torch.where(places < length, places, places - size)  # as a transform has them; some are none's
    shared = (length - shifts.abs()).clamp(min=0).float()
    weight = torch.where(shared > 0, 0.5 / max(1, 2 * length - 2), 0.0)
    weight[0] = 0.5 if length > 1 else 1.0
    weight /= 2  # as it is, and its opposite
    # of the real parts: cos (a -+ b) = cos a cos b +- sin a sin b, each a real correlation
    waves = [torch.fft.rfft(wave(2 * math.pi * part).float(), size, dim=1) for wave in (torch.cos, torch.sin)]
    found, best = np.ones((len(TILTS), rows)), (-math.inf, 0, 0, 0, 0)
    for row in range(1, rows):
        others = torch.nonzero(own[:row] != own[row])[:, 0]
        if not len(others):
            continue
        sums = torch.zeros(len(TILTS), dtype=torch.float64)
        for some in others.split(max(1, BLOCK // size)):
            cosines, sines = (torch.fft.irfft(wave[row].conj() * wave[some], size, dim=1) for wave in waves)
            for opposite, alike in enumerate((cosines + sines, cosines - sines)):
                for index, tilt in enumerate(TILTS):
                    logs = torch.mul(alike, tilt).sub_(_log_mean(tilt) * shared).clamp_(max=LARGEST)
                    if index == 1 and (top := float(logs.max())) > best[0]:
                        earlier, at = divmod(int(logs.argmax()), size)
                        best = (top, int(some[earlier]), row, int(shifts[at]), opposite)
                    sums[index] += (logs.exp_() @ weight).sum().double()
        found[:, row] = (sums / len(others)).numpy()
    return found, best


def _moved(shift: int) -> str:
    return f", moved by {abs(shift)} positions" if shift else ""
