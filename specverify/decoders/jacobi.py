"""Jacobi decoding: the drafts are what the previous iteration's forward pass suggests for the same positions.

The window slides over the sequence. Each forward pass gives, besides the laws that judge the drafts, a new law for
every position behind the first rejection; the next drafts come from these laws, one of three ways:

    independent  drawn afresh from them                (SJD, arXiv 2410.01699)
    maximal      maximally coupled with the old drafts (SCD, arXiv 2510.24211, pi_MC)
    gumbel       by a race whose noise is kept         (SCD, arXiv 2510.24211, pi_GS)

All three are lossless because each draft, given everything that is looked at before its slot is judged, has exactly
the law that is kept beside it as q: the law of the pass that it was drawn from, *never* the law it had before a
coupling kept it. Slots that no pass has looked at yet hold an initial draft, whose q is one-hot: any value there is
lossless.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

from specverify.decoders.judging import Draft
from specverify.decoders.protocol import State
from specverify.draws import Draws
from specverify.errors import InputError
from specverify.model import Model, row_mask
from specverify.rules.token import at, maximal_coupling

Redraw = Literal["independent", "maximal", "gumbel"]
Initial = Literal["repeat-left", "zero", "random", "sample-left"]


@dataclass(frozen=True)
class Carried:
    """Drafts for the next window; whatever lies beyond `count` is 0.

    Attributes:
        law: the laws that the drafts are drawn from.
        count: how many slots have one.
        token: the drafts; all 0 under `independent`, which draws them when they are needed.
        race: each slot's noise, under `gumbel`.
        left: the law of the position left of the first initial draft, under `sample-left`.
    """

    law: Float[Tensor, "batch window vocab"]
    count: Int[Tensor, " batch"]
    token: Int[Tensor, "batch window"]
    race: Float[Tensor, "batch window noise"] | None
    left: Float[Tensor, "batch vocab"] | None


@dataclass(frozen=True)
class Jacobi:
    """Drafts from the previous iteration.

    Args:
        redraw: how new drafts depend on the old ones.
        initial: the draft of a slot that no forward pass has looked at: the token on its left, token 0, any token at
            random, or one drawn from the law of the position on its left.
    """

    redraw: Redraw = "independent"
    initial: Initial = "repeat-left"

    def __post_init__(self) -> None:
        for value, allowed in ((self.redraw, get_args(Redraw)), (self.initial, get_args(Initial))):
            if value not in allowed:
                raise InputError(f"unknown drafting {value!r}; choose one of {', '.join(allowed)}")

    @property
    def name(self) -> str:
        """The decoder's name in the field."""
        return {"independent": "sjd", "maximal": "scd-mc", "gumbel": "scd-gs"}[self.redraw]

    @property
    def coupled(self) -> bool:
        """Whether drafts depend on earlier ones for their position, so that later drafts' laws tell of them."""
        return self.redraw != "independent"

    def start(self, model: Model, batch: int, window: int, draws: Draws) -> Carried:
        """See Drafting."""
        flat = torch.zeros(batch, window, model.vocab, dtype=model.dtype, device=model.device)
        return Carried(
            law=flat,
            count=torch.zeros(batch, dtype=torch.int64, device=model.device),
            token=torch.zeros(batch, window, dtype=torch.int64, device=model.device),
            race=draws.race(batch, window, model.vocab) if self.redraw == "gumbel" else None,
            left=flat[:, 0] + 1 / model.vocab if self.initial == "sample-left" else None,
        )

    def propose(self, state: State, model: Model, window: int, draws: Draws) -> Draft:
        """See Drafting."""
        carried: Carried = state.drafting
        has_law = row_mask(carried.count, window)
        token = draws.categorical(carried.law, has_law) if self.redraw == "independent" else carried.token
        in_reach = row_mask((model.length - state.length).where(~state.done, 0), window)
        token = token.where(has_law, self._initial(state, token, in_reach & ~has_law, model, draws))
        # Without a law, the law is 0 so far and becomes one-hot.
        law = carried.law.scatter_add(-1, token[..., None], (~has_law)[..., None].to(carried.law.dtype))
        return Draft(token, law, torch.zeros_like(state.length))

    def _initial(self, state: State, token: Tensor, where: Tensor, model: Model, draws: Draws) -> Tensor:
        if self.initial == "zero":
            return torch.zeros_like(token)
        if self.initial == "repeat-left":
            committed = at(state.tokens, (state.length - 1).clamp(min=0))
            last = at(token, (state.drafting.count - 1).clamp(min=0))
            return torch.where(state.drafting.count > 0, last, committed)[:, None].expand_as(token)
        if self.initial == "sample-left":
            return draws.categorical(state.drafting.left[:, None, :].expand(-1, token.shape[1], -1), where)
        return draws.categorical(torch.ones_like(state.drafting.law), where)

    def carry(
        self,
        before: State,
        after: State,
        draft: Draft,
        laws: Float[Tensor, "batch slots vocab"],
        count: Int[Tensor, " batch"],
        draws: Draws,
    ) -> Carried:
        """See Drafting. Old slot `count + k` becomes new slot k; the last law is new and has no old draft."""
        window = draft.token.shape[1]
        room = (after.tokens.shape[1] - after.length).where(~after.done, 0)
        kept = torch.minimum(window + 1 - count, room)
        valid = row_mask(kept, window)
        place = count[:, None] + torch.arange(window, device=count.device)
        slot, is_last = place.clamp(max=window - 1), (place >= window)[..., None]
        law = torch.where(is_last, laws[:, -1:], _slots(laws, slot)).where(valid[..., None], 0.0)
        token, race = torch.zeros_like(draft.token), None
        if self.redraw == "maximal":
            coupled = maximal_coupling(law, _slots(draft.law, slot), draft.token.gather(1, slot))
            token = draws.categorical(torch.where(is_last, law, coupled), valid)
        elif self.redraw == "gumbel":
            fresh = draws.race(len(count), window, law.shape[-1])
            race = torch.where(is_last, fresh, _slots(before.drafting.race, slot))
            token, race = draws.winner(race, law, valid)
        return Carried(law, kept, token, race, laws[:, -1] if self.initial == "sample-left" else None)


def _slots(values: Tensor, slot: Tensor) -> Tensor:
    return values.gather(1, slot[..., None].expand(-1, -1, values.shape[-1]))
