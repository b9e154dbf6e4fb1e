"""A decoder of one token a step that draws it by races of two tokens, as a function of what it may look at."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from specverify.claims import Claim, Lossless
from specverify.decoders.protocol import Branch, Info, begin, commit
from specverify.evidence.enumerate import enumerate_decoder, target_law
from specverify.evidence.exact.box import Box
from toymodels.tables import TableModel, prefixes

LENGTH = 2
SMALL = Box(2, LENGTH)


@dataclass(frozen=True)
class Asked:
    """What a step may look at: a race for each position, the law, that of the step before, and where it is asked."""

    draws: Any
    races: Tensor
    place: Tensor
    p: Tensor
    q: Tensor
    where: Tensor

    def race(self, back: int = 0) -> Tensor:
        """The position's own race, or that of one before."""
        place = (self.place - back).clamp(min=0)[:, None, None]
        return self.races.gather(1, place.expand(-1, 1, self.races.shape[-1]))

    def winner(self, law: Tensor, race: Tensor | None = None, where: Tensor | None = None) -> Tensor:
        """Who wins it."""
        where = self.where if where is None else where
        return self.draws.winner(self.race() if race is None else race, law, where)[0]

    def fresh(self) -> Tensor:
        """Another race."""
        return self.draws.race(len(self.place), 1, 2)


@dataclass(frozen=True)
class Racing:
    """A token a step, which `pick` makes of what is asked."""

    pick: Callable[[Asked], Tensor]
    claim: Claim = Lossless()  # noqa: RUF009  (frozen)
    name: str = "racing"

    def init(self, model, batch, draws):
        """See Decoder."""
        return begin(model, batch, (draws.race(batch, model.length, model.vocab), torch.ones(batch, 1, 2).double() / 2))

    def step(self, state, model, draws):
        """See Decoder."""
        races, q = state.drafting
        p, active = model.laws(state.context, state.tokens[:, :0]), ~state.done[:, None]
        place = state.length.clamp(max=model.length - 1)
        token = self.pick(Asked(draws, races, place, p, q, active))
        after, count = commit(state, model, token, active[:, 0].long())
        none = count * 0
        info = Info(count, none, none, count, count[:, None] * Branch.SAMPLED, none)
        return replace(after, drafting=(races, p.where(~after.done[:, None, None], 0.0))), info


def earliest(asked, law, *races, where=None):
    """Which token comes first in any of some races, under one law."""
    where = asked.where if where is None else where
    return asked.draws.earliest(torch.cat(races, 1), law[:, 0], where.expand(-1, len(races)))[:, None]


def drafted(asked):
    return asked.winner(asked.q)


def larger(asked):
    return asked.p[..., :1] > asked.q[..., :1]


def laws():
    """Tables of laws with zeros and with equals, and one with neither."""
    yield torch.tensor([[0.2, 0.8], [0.37, 0.63], [0.9, 0.1]], dtype=torch.float64)
    some = itertools.product((0.0, 0.3, 0.5, 1.0), repeat=prefixes(2, LENGTH))
    for first in some:
        zero = torch.tensor(first, dtype=torch.float64)
        yield torch.stack([zero, 1 - zero], -1)


def off(pick):
    """How far from the target a decoder is at each of these."""
    for table in laws():
        target = TableModel("laws", table, LENGTH)
        yield enumerate_decoder(Racing(pick), target).tv(target_law(target))
