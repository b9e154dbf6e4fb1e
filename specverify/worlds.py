"""Every world of a function of draws: it is called once for each, many of them side by side."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from specverify import tree
from specverify.enumerated import Enumerated
from specverify.outcomes import Waiting, followed, waiting

T = TypeVar("T")

CALL = 1.0
"""Seconds of the processor that a call may take, where somebody looks at the clock between calls."""
FIRST, SOME, GROWTH = 128, 32, 8
"""Rows of the first calls there, rows that may take a whole `CALL`, and how many times more come after a quick one."""


class Pace:
    """How many rows a call may have.

    Args:
        most: of them.
        timed: whether there may be fewer, so that no call takes much more than a second. A function that is quick sees
            the same rows every time.
    """

    def __init__(self, most: int, timed: bool = False) -> None:
        self.most, self.timed = most, timed
        self.rows = min(most, FIRST) if timed else most
        self._slow, self._clock = False, 0.0
        self._processor: float | None = None

    def begins(self) -> None:
        """A call begins."""
        # To ask for the processor's time takes some systems as long as a small call: that of slow ones counts.
        self._processor = time.process_time() if self._slow else None
        self._clock = time.perf_counter()

    def ended(self) -> float:
        """Seconds that it took."""
        if self._processor is None:
            return time.perf_counter() - self._clock
        return time.process_time() - self._processor

    def took(self, rows: int, seconds: float) -> None:
        """Learn from a call."""
        if not self.timed:
            return
        self._slow = seconds > CALL / GROWTH / 4
        fit = max(1, int(rows * CALL / max(seconds, 1e-9)))
        if fit < SOME or seconds > CALL / GROWTH:
            self.rows = min(self.rows, fit)
        elif rows >= self.rows:
            self.rows = min(self.most, GROWTH * self.rows)


def follow(
    function: Callable[[Any, Enumerated], T],
    given: Any,
    weight: Float[Tensor, " batch"],
    known: Float[Tensor, "batch races 2"] | None = None,
    pace: Pace | None = None,
    ahead: Callable[[str, int], None] = lambda kind, worlds: None,
) -> Iterator[tuple[T, Float[Tensor, "worlds races 2"], Any, Float[Tensor, " worlds"]]]:
    """Call a function in every world.

    Args:
        function: of rows of `given`, and draws.
        given: what it is called with; a structure of rows, or None.
        weight: of each row.
        known: of the races in `given`; see Enumerated.

    Other args:
        pace: how many rows a call may have; by default 65,536.
        ahead: told of every draw, by its kind, how many worlds wait at it, before they are made.

    Yields:
        what came of each call, what is known of the races in it, the rows that it was called with, and their weights.
    """
    pace = pace or Pace(1 << 16)
    ready: list[Any] = [(given, known, weight, ())]
    parts: dict[Any, list[Waiting]] = {}
    waits: Counter[Any] = Counter()
    while ready or parts:
        here = ready.pop() if ready else followed(_next(parts, waits, pace.rows))
        if len(here[2]) > pace.rows:
            every = torch.arange(len(here[2]), device=here[2].device)
            ready.append(tree.rows(here, every[pace.rows :]))
            here = tree.rows(here, every[: pace.rows])
        given, known, weight, chosen = here
        draws = Enumerated(len(weight), chosen, weight.device, known, pace.most)
        pace.begins()
        seen = given if known is None or known.shape[1] == 0 else tree.map_tensors(given, draws.shown)
        result, after = draws.finish(function(seen, draws))
        tree.check_made_anew(result)
        pace.took(len(weight), pace.ended())
        for number, draw in draws.open.items():
            if total := int(draw.others.sum()):
                ahead(draw.chosen.kind, total)
                alike = (number, *(earlier.shape for earlier in draws.chosen[: number + 1]))
                before = (given, known, weight, tuple(draws.chosen[:number]))
                parts.setdefault(alike, []).extend(waiting(before, draw, total, pace.rows))
                waits[alike] += total
            weight = weight * draw.chance
        yield result, after, given, weight


def _next(parts: dict[Any, list[Waiting]], waits: Counter[Any], rows: int) -> list[Waiting]:
    """What waits at one draw, as much of it as a call takes.

    The first draw of all comes first, so that what waits at later ones becomes more, and calls become fewer; but the
    last at which a whole batch waits comes before, so that no draw keeps more than that.
    """
    whole = [alike for alike, count in waits.items() if count >= rows]
    alike = max(whole, key=_number) if whole else min(parts, key=_number)
    here, size = parts[alike], 0
    taken: list[Waiting] = []
    while here and (not taken or size + here[-1].count <= rows):
        taken.append(here.pop())
        size += taken[-1].count
    waits[alike] -= size
    if not here:
        del parts[alike], waits[alike]
    return taken


def _number(alike: Any) -> int:
    return int(alike[0])
