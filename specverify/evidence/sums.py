"""How often events came and how often they were due, summed over the tokens of a trace.

Of an event whose probability m is known before it comes or not (c = 1 or 0), c - m has mean 0 and variance m (1 - m),
whatever came before: over all tokens these are what `martingale` bets on. It needs four sums alone, so that events may
be as many as a vocabulary has ids.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from specverify.evidence.martingale import mixed_edge, mixed_log_e
from specverify.evidence.result import check_rates, check_size


@dataclass(frozen=True)
class Sums:
    """Of each event: how often it came, sum of m, and of c m and m^2, which the spread is made of."""

    came: Float[Tensor, " events"]
    due: Float[Tensor, " events"]
    cross: Float[Tensor, " events"]
    square: Float[Tensor, " events"]

    def __add__(self, other: Sums) -> Sums:
        """Of the tokens of both."""
        return Sums(self.came + other.came, self.due + other.due, self.cross + other.cross, self.square + other.square)

    def log_e(self) -> Float[np.ndarray, " events"]:
        """Logarithms of e-values against coming as often as due."""
        # (c - m)^2 + 2 m (1 - m) = c - 2 c m + 2 m - m^2, as c is 0 or 1
        spread = (self.came - 2 * self.cross + 2 * self.due - self.square) / 6
        return mixed_log_e((self.came - self.due).numpy(), spread.clamp(min=0).numpy())


def smallest_share(n: int, events: int, *, alpha: float, beta: float) -> float:
    """The share of n tokens that one of so many events is off by, and is missed with probability at most beta."""
    check_rates(alpha, beta)
    check_size(n)
    # a coin's variance is at most 1/4, so that its differences spread by 1/8
    edge = mixed_edge(n / 8, math.log(events / alpha))
    return min(1.0, (edge + math.sqrt(n * math.log(1 / beta) / 2)) / n)


def one_of(mass: Float[Tensor, "tokens events"], place: Int[Tensor, " tokens"], came: Bool[Tensor, " tokens"]) -> Sums:
    """Of events of which at most one comes.

    Args:
        mass: of each.
        place: which one came.
        came: whether any did.
    """
    own, nothing = mass.gather(1, place[:, None])[:, 0], mass.new_zeros(mass.shape[1])
    return Sums(
        nothing.index_add(0, place, came.to(mass.dtype)).cpu(),
        mass.sum(0).cpu(),
        nothing.index_add(0, place, own * came).cpu(),
        (mass * mass).sum(0).cpu(),
    )


def any_of(mass: Float[Tensor, "tokens events"], came: Bool[Tensor, "tokens events"]) -> Sums:
    """Of events of which several may come."""
    sums = (came.to(mass.dtype), mass, mass * came, mass * mass)
    return Sums(*(each.sum(0).cpu() for each in sums))


def few_of(
    where: Int[Tensor, "tokens listed"],
    mass: Float[Tensor, "tokens listed"],
    place: Int[Tensor, " tokens"],
    came: Bool[Tensor, " tokens"],
    events: int,
) -> Sums:
    """Of many events of which at most one comes, where each token has mass at some of them alone.

    An event that is named twice has the sum of both, but its spread as if they were two, which is more.

    Args:
        where: the events that have mass.
        mass: of each.
        place: which one came.
        came: whether any did.
        events: how many there are.
    """
    own = torch.where(where == place[:, None], mass, 0.0).amax(1)
    nothing = mass.new_zeros(events)
    return Sums(
        nothing.index_add(0, place, came.to(mass.dtype)),
        nothing.index_add(0, where.flatten(), mass.flatten()),
        nothing.index_add(0, place, own * came),
        nothing.index_add(0, where.flatten(), (mass * mass).flatten()),
    )
