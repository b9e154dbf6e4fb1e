"""How much of what was planned there is time for: decided once, up front, from how fast the kernel is."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import torch

from specverify.deadline import Deadline
from specverify.draws import Sampled
from specverify.subjects.rounds.batches import Batch, Batches
from specverify.subjects.rounds.sampling import SHARE, Trial

RESERVE = 0.9
"""The part of the time that is planned with."""
TRIED = ((1, 12), (64, 2))
"""Batches that tell what a call costs, and what a row does: their size, and how many."""


def fit(
    trials: Sequence[Trial], batches: Batches | None, deadline: Deadline, draws: Sampled, generator: torch.Generator
) -> list[str]:
    """Cut the numbers of rows, all by one factor, to what fits into the time that is left.

    Returns:
        a note, if anything was cut.
    """
    left, cost = deadline.left * RESERVE, sum(trial.cost * max(0, trial.need - trial.played) for trial in trials)
    if batches is not None:
        per_call, per_row = _costs(batches, draws, generator)
        batches.sizes = tuple(size for size in batches.sizes if size * per_row <= SHARE * left) or batches.sizes[:1]
        cost += batches.cost(per_call, per_row)
    if cost <= left:
        return []
    factor = left / cost
    parts: list[Trial | Batches] = [*trials, *([batches] if batches is not None else [])]
    for part in parts:
        part.need = max(1, math.floor(part.need * factor))
    return [
        f"it is too slow for all rows that were planned: there is time for {factor:.0%} of them; for all of them allow "
        f"some {math.ceil(cost / RESERVE / 10) * 10} seconds"
    ]


def _costs(batches: Batches, draws: Sampled, generator: torch.Generator) -> tuple[float, float]:
    """Seconds of the processor for each call, and for each row beside that."""
    times = []
    for size, count in TRIED:
        kind = 1  # full: what every convention has
        begun = time.process_time()
        batches.play([Batch(size, kind, certain=False)] * count, draws, generator)
        times.append((time.process_time() - begun) / count)
    (small, _), (large, _) = TRIED
    per_row = max(0.0, times[1] - times[0]) / (large - small)
    return max(0.0, times[0] - per_row), per_row
