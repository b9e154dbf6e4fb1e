"""Watching a draft model at work: how far from p the tokens are that its judged drafts lead to.

As in `watch.py`, a watched drafting proposes and carries on exactly as the one inside, with the same draws; what is
looked up needs draws of its own, since distances of continuous laws are estimated at random points.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from specverify import environment
from specverify.decoders.judging import Draft
from specverify.decoders.protocol import State
from specverify.decoders.speculative import Drafting
from specverify.draws import Draws, Sampled
from specverify.laws import ContinuousModel, leading, select
from specverify.model import row_mask
from specverify.tradeoff.criterion import bias_of
from specverify.tradeoff.watch import Carried


class WatchedPatches:
    """A drafting that adds up, for each sequence, the distances from p of the tokens that its judged drafts lead to.

    Args:
        drafting: the one inside.
        rule: how its drafts are judged; see `criterion.bias_of`.
        seed: of the random points.

    Attributes:
        judged, bias: drafts that were judged, and the sum of their distances; one number per sequence.
        seconds: what the watching itself took: see `environment.clock`.
        looking: whether it is at it.
    """

    def __init__(self, drafting: Drafting, rule: Any, seed: int) -> None:
        self.inner, self.rule, self.seconds, self.looking = drafting, rule, 0.0, False
        self._draws, self._seed = Sampled(seed), seed
        self._totals: list[Float[Tensor, "batch 2"]] = []

    @property
    def judged(self) -> Float[Tensor, " sequences"]:
        """See the class."""
        return torch.cat(self._totals)[:, 0]

    @property
    def bias(self) -> Float[Tensor, " sequences"]:
        """See the class."""
        return torch.cat(self._totals)[:, 1]

    @property
    def name(self) -> str:
        """See Drafting."""
        return self.inner.name

    def start(self, model: ContinuousModel, batch: int, window: int, draws: Draws) -> Carried:
        """See Drafting. Sequences are numbered from 0 in each batch."""
        self._draws = Sampled(self._seed, len(self._totals), model.device)
        self._totals.append(torch.zeros(batch, 2, dtype=torch.float64, device=model.device))
        return Carried(self.inner.start(model, batch, window, draws), torch.arange(batch, device=model.device))

    def propose(self, state: State, model: ContinuousModel, window: int, draws: Draws) -> Draft:
        """See Drafting."""
        return self.inner.propose(_unwrapped(state), model, window, draws)

    def carry(
        self, before: State, after: State, draft: Draft, laws: Any, count: Int[Tensor, " batch"], draws: Draws
    ) -> Carried:
        """See Drafting."""
        row: Tensor = before.drafting.row
        inner = self.inner.carry(_unwrapped(before), _unwrapped(after), draft, laws, count, draws)
        clock = environment.clock(count.device)
        start, self.looking = clock(), True
        window = draft.token.shape[1]
        # Of the committed tokens, those that took a judged draft: not the bonus, nor what was drawn without drafts.
        assert draft.count is not None  # vectors have placeholders
        judged = row_mask(count.minimum(draft.count), window)
        if bool(judged.any()):
            p, q = select(leading(laws, window), judged), select(draft.law, judged)
            far = bias_of(self.rule, p, q, draft.token[judged], self._draws)
            sums = torch.stack([torch.ones_like(far), far], 1)
            self._totals[-1].index_add_(0, row[:, None].expand_as(judged)[judged], sums)
        self.seconds, self.looking = self.seconds + clock() - start, False
        return Carried(inner, row)


def _unwrapped(state: State) -> State:
    return replace(state, drafting=state.drafting.inner)
