"""Drafting by a second, cheaper model (Leviathan et al., arXiv 2211.17192; Chen et al., arXiv 2302.01318)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from jaxtyping import Bool, Int, Num
from torch import Tensor

from specverify import tree
from specverify.decoders.judging import Draft, Seen, shown
from specverify.decoders.protocol import State
from specverify.draws import Draws
from specverify.errors import InputError
from specverify.laws import check_model, draw, size_of
from specverify.model import AnyModel, Context, row_mask

L = TypeVar("L")


@dataclass(frozen=True)
class DraftModel:
    """Drafts drawn one by one from a draft model, given the drafts before them.

    Args:
        model: over tokens and sequences of the target's size.
        prefill: the share of the first positions for which nothing is drafted, rounded up to whole positions: there
            the target decodes alone (CSpD, arXiv 2411.11925).
        name: what a decoder with this drafting is called.

    Raises:
        InputError: for a share outside [0, 1].
    """

    model: AnyModel
    prefill: float = 0.0
    name: str = "sd"

    def __post_init__(self) -> None:
        if not 0 <= self.prefill <= 1:
            raise InputError(f"prefill = {self.prefill}: it is the share of a sequence's positions, between 0 and 1")

    def start(self, model: Any, batch: int, window: int, draws: Draws) -> Context:
        """See Drafting. What is carried is the draft model's context of the committed tokens.

        Raises:
            InputError: if the two models do not cover the same sequences, or the draft model's first law is none.
        """
        size = size_of(model)
        for what in (size, "length", "dtype"):
            ours, theirs = getattr(self.model, what), getattr(model, what)
            if ours != theirs:
                raise InputError(
                    f"the draft model {self.model.name!r} has {what} {ours}, the target {model.name!r} {theirs}"
                )
        if size == "dim":
            check_model(self.model)
        return self.model.start(batch)

    def propose(self, state: State, model: Any, window: int, draws: Draws) -> Draft:
        """See Drafting. The draft model is seen as the target is."""
        mine = replace(model, inner=self.model) if isinstance(model, Seen) else self.model
        context, tokens, laws = state.drafting, [], []
        in_reach = self.in_reach(state, window)
        for slot in range(window):
            law = mine.laws(context, state.tokens[:, :0])
            token = draw(law, draws, in_reach[:, slot : slot + 1])
            if isinstance(law, Tensor):  # a slot out of reach holds id 0, with the q that belongs to it
                certain = torch.zeros_like(law)
                certain[..., 0] = 1
                law = law.where(in_reach[:, slot, None, None], certain)
            laws.append(law)
            tokens.append(token)
            context = mine.advance(context, shown(token, state.tokens), in_reach[:, slot].long())
        count = in_reach.sum(1)
        return Draft(torch.cat(tokens, 1), side_by_side(laws), count + 1, count)

    def in_reach(self, state: State, window: int) -> Bool[Tensor, "batch window"]:
        """Slots to draft for: none behind the sequence's end, none in rows that are done or still in the prefill."""
        drafting = ~state.done & (state.length >= math.ceil(self.prefill * self.model.length))
        return row_mask((self.model.length - state.length).where(drafting, 0), window)

    def carry(
        self, before: State, after: State, draft: Draft, laws: Any, count: Int[Tensor, " batch"], draws: Draws
    ) -> Context:
        """See Drafting. One pass over the window from the last committed context, then as far as was committed."""
        self.model.laws(before.drafting, shown(draft.token, after.tokens))
        return self.model.advance(before.drafting, committed(before, after, draft.token.shape[1] + 1), count)


def committed(before: State, after: State, size: int) -> Num[Tensor, "batch size *dim"]:
    """The tokens from each row's old length on; behind the sequence's end, something."""
    place = before.length[:, None] + torch.arange(size, device=before.length.device)
    place = place.clamp(max=after.tokens.shape[1] - 1)
    return after.tokens[torch.arange(len(place), device=place.device)[:, None], place]


def side_by_side(laws: list[L]) -> L:
    """Laws of shape [batch, 1] as one of shape [batch, how many]."""
    joined = tree.join(laws)
    return tree.map_tensors(joined, lambda tensor: tensor.unflatten(0, (len(laws), -1)).transpose(0, 1).flatten(1, 2))
