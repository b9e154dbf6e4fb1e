"""The best setting by the clock among those that an answer by passes chooses from.

Fewer passes may take longer, so that each clock has an answer of its own. Of those that are confirmed to lose no more
than was asked for, the fastest is named; which are confirmed hangs on their images, not on their seconds, so that
limits of their pace hold for all of these at once, at all guidances and by both clocks. Where a speed-up was asked for,
a setting is confirmed if its pace is within it by a limit that holds for all settings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from specverify.tradeoff.choose import Choice, Contender, settings
from specverify.tradeoff.clock import CLOCKS, Pace, pace
from specverify.tradeoff.shape import Sweep, Timed


@dataclass(frozen=True)
class Timing:
    """The answer of one clock, to the question that a choice answers by passes.

    Attributes:
        what: the clock.
        one: the best setting, whether it is faster than plain decoding or not; None if none was timed, or none may be
            chosen.
        pace: its own.
        slowest: the lower limit of its pace, for all at once; None where nothing was run twice.
        confirmed: whether that limit is above what was asked for: that it is faster than plain decoding, or as fast as
            was asked.
        among: settings of this guidance that it is the best of.
    """

    what: Timed
    one: Contender | None
    pace: Pace | None
    slowest: float | None
    confirmed: bool
    among: int


def eligible(choice: Choice) -> tuple[Contender, ...]:
    """Settings that a clock may choose: those confirmed to lose no more than was asked for, or all."""
    if choice.by == "speed-up":
        return choice.contenders
    return tuple(one for one in choice.contenders if one.most <= choice.asked)


def together(choices: Sequence[Choice]) -> int:
    """Figures that a limit of pace holds for at once."""
    return len(CLOCKS) * sum(len(eligible(choice)) for choice in choices)


def by_clock(record: Sweep, choices: Sequence[Choice], choice: Choice, what: Timed) -> Timing:
    """The best of one choice by one clock.

    Args:
        record: the sweep.
        choices: the answers for all guidances, which limits hold for together.
        choice: one of them.
        what: the clock.
    """
    rows = {row["id"]: row for row in record["rows"]}
    family = together(choices)
    timed = [(one, found) for one in eligible(choice) if (found := pace(record, rows[one.id], what)) is not None]
    if not timed:
        return Timing(what, None, None, None, False, 0)
    asked = choice.asked if choice.by == "speed-up" else 1.0
    sure = [(one, found) for one, found in timed if (found.slowest(family) or 0.0) > asked]
    one, found = max(timed, key=lambda pair: pair[1].value)
    if choice.by == "speed-up" and sure:
        one, found = min(sure, key=lambda pair: pair[0].loss)
    slowest = found.slowest(family)
    return Timing(what, one, found, slowest, slowest is not None and slowest > asked, len(timed))


def fastest_of_all(record: Sweep, what: Timed) -> tuple[str, Pace] | None:
    """The fastest setting by one clock, whatever it loses; none that is known to be wrong, or does nothing."""
    found = ((row["id"], own) for row in settings(record) if (own := pace(record, row, what)) is not None)
    return max(found, key=lambda pair: pair[1].value, default=None)
