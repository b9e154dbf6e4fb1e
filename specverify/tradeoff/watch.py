"""Watching a drafting at work: what its judged drafts cost, from the laws p and q that they were judged by.

A watched drafting proposes and carries on exactly as the one inside, with the same draws. After each step it looks at
the slots that were judged and prices each of them (`specverify.rules.price`): no draw is needed, since the law of the
token that comes out is known from p and q.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from specverify import environment
from specverify.decoders.judging import Draft, Judging
from specverify.decoders.protocol import State
from specverify.decoders.speculative import Drafting
from specverify.draws import Draws
from specverify.model import Model, row_mask
from specverify.rules.price import price

LOOKED = 1 << 19
"""Pairs of tokens that pricing a row's step takes on average: of a larger vocabulary a share of the steps is priced."""
FIRST = 50
"""Of as many steps about half are priced however large the vocabulary is; of T steps FIRST ln(1 + T / FIRST)."""
LEAST = 30
"""Priced steps without which a setting has no price."""


def share(vocab: int, behind: int | None = None) -> float:
    """Of steps that are priced: a draft may be any token, and each can be replaced by any.

    Args:
        vocab: how many tokens there are.
        behind: the steps of the setting before this one, of which the first ones are priced more often; None for the
            least share.
    """
    return min(1.0, max(LOOKED / vocab**2, 0.0 if behind is None else FIRST / (FIRST + behind)))


@dataclass(frozen=True)
class Carried:
    """What the drafting inside carries, and which sequence each row is: the run loop drops rows that are done."""

    inner: Any
    row: Int[Tensor, " batch"]


class Watched:
    """A drafting that adds up, for each sequence, the price of its judged drafts.

    Of a large vocabulary, steps are looked at by chance (see `share`), and what is found is divided by that chance.

    Args:
        drafting: the one inside.
        judging: how its drafts are judged.
        seed: of which steps are looked at.

    Attributes:
        judged: drafts that were judged, one number per sequence.
        priced: of them, those whose price was looked at, divided by the chance of that: as many on average.
        gain, bias: sums of `Price.gain` and `Price.bias` over these, likewise divided.
        steps, looked: steps of sequences, and how many of them were looked at.
        seconds: what the watching itself took: see `environment.clock`.
    """

    def __init__(self, drafting: Drafting, judging: Judging, seed: int = 0) -> None:
        self.inner, self.judging = drafting, judging
        self.seconds, self._generator = 0.0, torch.Generator().manual_seed(seed)
        self.steps = self.looked = 0
        self._totals: list[Float[Tensor, "batch 4"]] = []

    @property
    def known(self) -> bool:
        """Whether so many steps were looked at that gain and bias are known."""
        return self.looked >= min(LEAST, self.steps)

    @property
    def judged(self) -> Float[Tensor, " sequences"]:
        """See the class."""
        return torch.cat(self._totals)[:, 3]

    @property
    def priced(self) -> Float[Tensor, " sequences"]:
        """See the class."""
        return torch.cat(self._totals)[:, 0]

    @property
    def gain(self) -> Float[Tensor, " sequences"]:
        """See the class."""
        return torch.cat(self._totals)[:, 1]

    @property
    def bias(self) -> Float[Tensor, " sequences"]:
        """See the class."""
        return torch.cat(self._totals)[:, 2]

    @property
    def name(self) -> str:
        """See Drafting."""
        return self.inner.name

    def start(self, model: Model, batch: int, window: int, draws: Draws) -> Carried:
        """See Drafting. Sequences are numbered from 0 in each batch."""
        self._totals.append(torch.zeros(batch, 4, dtype=torch.float64, device=model.device))
        row = torch.arange(batch, device=model.device)
        return Carried(self.inner.start(model, batch, window, draws), row)

    def propose(self, state: State, model: Model, window: int, draws: Draws) -> Draft:
        """See Drafting."""
        return self.inner.propose(_unwrapped(state), model, window, draws)

    def carry(
        self,
        before: State,
        after: State,
        draft: Draft,
        laws: Float[Tensor, "batch slots vocab"],
        count: Int[Tensor, " batch"],
        draws: Draws,
    ) -> Carried:
        """See Drafting. Every token of a step took a judged draft, but for the bonus token behind a full window."""
        row: Tensor = before.drafting.row
        inner = self.inner.carry(_unwrapped(before), _unwrapped(after), draft, laws, count, draws)
        clock = environment.clock(laws.device)
        start = clock()
        chance = share(laws.shape[-1], self.steps)
        chosen = torch.rand(len(count), generator=self._generator) < chance
        self.steps, self.looked = self.steps + len(chosen), self.looked + int(chosen.sum())
        looked = chosen.to(count.device)
        every = count.clamp(max=draft.token.shape[1])
        self._totals[-1][:, 3].index_add_(0, row, every.double())
        judged = every.where(looked, 0)
        # Few rows get far into a window: rows that get about as far are priced together, for that many slots.
        low, high = 0, 2
        while low < draft.token.shape[1]:
            some = ((judged > low) & (judged <= high)).nonzero().squeeze(1)
            if len(some):
                p, q = laws[some, :-1][:, :high], draft.law[some, :high]
                priced = price(p, q, self.judging)
                used = row_mask(judged[some], p.shape[1])
                sums = [torch.where(used, part, 0.0).sum(1) for part in (used.double(), priced.gain, priced.bias)]
                self._totals[-1][:, :3].index_add_(0, row[some], torch.stack(sums, 1) / chance)
            low, high = high, 2 * high
        self.seconds += clock() - start
        return Carried(inner, row)


def _unwrapped(state: State) -> State:
    return replace(state, drafting=state.drafting.inner)
