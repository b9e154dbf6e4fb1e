"""How much of what was planned there is time for, from how fast the kernel is: decided up front, and corrected once."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import torch

from specverify.draws import Sampled
from specverify.subjects.rounds.batches import Batch, Batches
from specverify.subjects.rounds.sampling import SHARE, Trial

RESERVE = 0.9
"""The part of the time that is planned with."""
TRIED = ((1, 12), (64, 2))
"""Batches that tell what a call costs, and what a row does: their size, and how many."""
MORE, BRIEF = 16, 0.1
"""So many times as many, if a kernel takes them in so few seconds: else playing a group costs more than its calls."""


def fit(
    trials: Sequence[Trial],
    batches: Batches | None,
    seconds: float,
    draws: Sampled,
    generator: torch.Generator,
    slack: float = 1.0,
) -> str | None:
    """Set the numbers of rows: all that are wanted, or the part of them that fits into so many seconds.

    Called again, when rows have been played and it is known better what they cost, it may raise them. Where coarser
    answers will do (`slack`: see `judge.coarsest`), what these take goes first.

    Returns:
        a note, if anything was cut.
    """
    parts: list[Trial | Batches] = [*trials, *([batches] if batches is not None else [])]
    for part in parts:
        part.need = part.wanted
    per_call = per_row = 0.0
    if batches is not None:
        per_call, per_row = _costs(batches, draws, generator)
        most, played = SHARE * seconds, batches.played
        sizes = tuple(size for size in batches.sizes if played[size] or size * per_row <= most)
        batches.sizes = sizes or batches.sizes[:1]

    def cost() -> float:
        """Seconds that what is needed takes."""
        left = sum(trial.cost * max(0, trial.need - trial.played) for trial in trials)
        return left + (0.0 if batches is None else batches.cost(per_call, per_row))

    if (whole := cost()) <= seconds:
        return None
    for part in parts:
        part.need = max(part.reached, math.ceil(part.wanted / part.leeway(slack) ** 2))  # n grows as 1 / delta^2
    least = cost()
    first = [part.need for part in parts] if least <= seconds else [part.reached for part in parts]
    share = (seconds - least) / (whole - least) if least <= seconds else seconds / whole
    for part, begun in zip(parts, first, strict=True):
        part.need = max(1, begun + math.floor(max(0, part.wanted - begun) * share))
    done = min(part.need / part.wanted for part in parts)
    return (
        f"it is too slow for all rows that were planned: there is time for {done:.0%} of them; for all of them allow "
        f"some {math.ceil((whole - seconds) / RESERVE / 10) * 10} seconds more"
    )


def _costs(batches: Batches, draws: Sampled, generator: torch.Generator) -> tuple[float, float]:
    """Seconds of the processor for each call, and for each row beside that."""
    kind = 1  # full: what every convention has
    for times_over in (1, MORE):
        times = []
        for size, count in TRIED:
            begun = time.process_time()
            batches.play([Batch(size, kind, certain=False)] * count * times_over, draws, generator)
            times.append((time.process_time() - begun) / count / times_over)
        if sum(each * count for each, (_, count) in zip(times, TRIED, strict=True)) > BRIEF:
            break
    (small, _), (large, _) = TRIED
    per_row = max(0.0, times[1] - times[0]) / (large - small)
    return max(0.0, times[0] - per_row), per_row
