"""Wavefront decoding: a row of the image begins before the row above is done (ZipAR, arXiv 2412.04062).

Row r + 1 may decode its next token as soon as row r is `lead` tokens ahead of it; all rows under way decode one token
in each forward pass. What is missing of the rows above is filled with the last token that is known there. Nothing is
verified: a token's law is p given what was known, which is p itself only where p looks at nothing that was missing.

Every pass reads the whole image, since what was read with something missing before it is read again: there is no cache.
PJD (arXiv 2606.05703) verifies Jacobi drafts along each row, to the same changed laws: acceptance cannot repair them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from specverify.claims import Claim
from specverify.decoders.branched import check_number
from specverify.decoders.protocol import Branch, Info, State, begin, commit
from specverify.draws import Draws
from specverify.model import Context, Model, row_mask
from specverify.rules.relaxation import NOTHING


@dataclass(frozen=True)
class Front:
    """What is carried: the tokens that are known, committed or not, and which they are."""

    token: Int[Tensor, "batch length"]
    known: Bool[Tensor, "batch length"]


@dataclass(frozen=True)
class Wavefront:
    """The decoder.

    Args:
        lead: how many tokens a row must be ahead of the one below, at least 1; from the width on, decoding is plain.
        width: tokens of a row, its end among them; None for the nearest to a square.

    Raises:
        InputError: for a lead or a width below 1.
    """

    lead: int
    width: int | None = None
    name: str = "zipar"
    claim: Claim = NOTHING

    def __post_init__(self) -> None:
        check_number("lead", self.lead, "how many tokens a row is ahead of the one below")
        if self.width is not None:
            check_number("width", self.width, "the number of tokens of a row")

    def init(self, model: Model, batch: int, draws: Draws) -> State:
        """See Decoder."""
        token = torch.zeros(batch, model.length, dtype=torch.int64, device=model.device)
        return begin(model, batch, Front(token, torch.zeros_like(token, dtype=torch.bool)))

    def step(self, state: State, model: Model, draws: Draws) -> tuple[State, Info]:
        """See Decoder."""
        front: Front = state.drafting
        length, device = model.length, model.device
        place = torch.arange(length, device=device)
        last = torch.where(front.known, place, -1).cummax(1).values.clamp(min=0)
        filled = front.token.gather(1, last)

        laws = model.laws(state.context, filled[:, :-1])
        next_ones = self._next(front.known, length) & ~state.done[:, None]
        token = front.token + draws.categorical(laws, next_ones)
        known = front.known | next_ones

        within = (state.length[:, None] + place).clamp(max=length - 1)
        ready = (known.long().cumprod(1).sum(1) - state.length).where(~state.done, 0)
        after, count = commit(state, _Uncached(model), token.gather(1, within), ready)
        active = (~state.done).long()
        branch = row_mask(count, length) * int(Branch.SAMPLED)
        after = replace(after, drafting=Front(token, known))
        return after, Info(active, active * 0, active * 0, count, branch, active * 0)

    def _next(self, known: Bool[Tensor, "batch length"], length: int) -> Bool[Tensor, "batch length"]:
        """The positions that this pass decodes: the next one of every row that may go on."""
        width = math.ceil(math.sqrt(length)) if self.width is None else min(self.width, length)
        rows = -(-length // width)
        beyond = rows * width - length  # the last row may be shorter
        there = torch.cat([known, torch.ones_like(known[:, :1]).expand(-1, beyond)], 1).unflatten(1, (rows, width))
        count = there.long().cumprod(2).sum(2)
        above = torch.cat([torch.full_like(count[:, :1], width), count[:, :-1]], 1)
        goes = (count < width) & (above >= (count + self.lead).clamp(max=width))
        chosen: Tensor = goes[:, :, None] & (torch.arange(width, device=known.device) == count[:, :, None])
        return chosen.flatten(1)[:, :length]


class _Uncached:
    """A model whose context stays the empty one."""

    def __init__(self, inner: Model) -> None:
        self.inner = inner

    def __getattr__(self, attribute: str) -> Any:
        return getattr(self.inner, attribute)

    def advance(self, context: Context, tokens: Int[Tensor, "batch n"], count: Int[Tensor, " batch"]) -> Context:
        """The same."""
        return context
