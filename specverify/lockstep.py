"""What a batch costs: forward passes where finished rows are replaced, and where all rows wait for the slowest.

A server that fills the place of a finished row at once takes, per image, the mean number of passes. A batch that is
decoded in lock-step takes as many as its slowest row: of b rows drawn from those that were measured, the expected
maximum, sum_v v (F(v)^b - F(v-)^b) with F their distribution. That is exact, nothing is simulated.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int, Shaped

BATCHES = (1, 8, 64)
"""Batch sizes that are reported; in a batch of 1 nobody waits."""
RESAMPLES = 400
LEVEL = 0.95


def slowest(
    values: Shaped[np.ndarray, " values"], counts: Shaped[np.ndarray, "*sets values"], batch: int
) -> Float[np.ndarray, "*sets"]:
    """Expected passes of the slowest of `batch` rows.

    Args:
        values: numbers of passes, rising.
        counts: how many rows took each, of one set of rows or of many.
        batch: rows, drawn with replacement.
    """
    share = counts.cumsum(-1) / counts.sum(-1, keepdims=True)
    mass = np.diff(share**batch, axis=-1, prepend=0.0)
    return np.asarray((mass * values).sum(-1))


def tabulated(
    passes: Shaped[np.ndarray, " rows"], weight: Int[np.ndarray, "resamples rows"]
) -> tuple[Shaped[np.ndarray, " values"], Float[np.ndarray, "resamples values"]]:
    """The numbers of passes that rows took, and how often each comes under every row of weights."""
    values, place = np.unique(passes, return_inverse=True)
    return values, weight @ np.eye(len(values))[place]


def summary(passes: Int[np.ndarray, " rows"], length: int, seed: int) -> list[dict[str, float | list[float]]]:
    """For each of `BATCHES` that there are rows for: passes in lock-step, their 95% interval, and the speed-up.

    Args:
        passes: of each row.
        length: passes of plain decoding.
        seed: of the bootstrap over rows.
    """
    values, counts = np.unique(passes, return_counts=True)
    drawn = np.random.default_rng(seed).multinomial(len(passes), counts / len(passes), size=RESAMPLES)
    found: list[dict[str, float | list[float]]] = []
    for batch in (size for size in BATCHES if size <= len(passes)):
        mean, spread = float(slowest(values, counts, batch)), slowest(values, drawn, batch)
        # Resampled maxima fall short of the plug-in one as that falls short of the truth: moved back once.
        low, high = np.quantile(spread + (mean - spread.mean()), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        interval = [min(mean, float(low)), max(mean, float(high))]
        found.append({"batch": batch, "passes": mean, "interval": interval, "speedup": length / mean})
    return found
