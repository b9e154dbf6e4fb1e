"""Drafting by a second, cheaper model."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from specverify import tree
from specverify.decoders.continuous.coupling import Coupling
from specverify.decoders.continuous.speculative import Draft
from specverify.decoders.protocol import State
from specverify.draws import Draws
from specverify.errors import InputError
from specverify.laws import ContinuousModel, Law, check_model
from specverify.model import Context, row_mask

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

    model: ContinuousModel
    prefill: float = 0.0
    name: str = "sd"

    def __post_init__(self) -> None:
        if not 0 <= self.prefill <= 1:
            raise InputError(f"prefill = {self.prefill}: it is the share of a sequence's positions, between 0 and 1")

    def start(self, model: ContinuousModel, batch: int, window: int) -> Context:
        """See Drafting. What is carried is the draft model's context of the committed tokens.

        Raises:
            InputError: if the two models do not cover the same sequences, or the draft model's first law is none.
        """
        for what in ("dim", "length", "dtype"):
            ours, theirs = getattr(self.model, what), getattr(model, what)
            if ours != theirs:
                raise InputError(
                    f"the draft model {self.model.name!r} has {what} {ours}, the target {model.name!r} {theirs}"
                )
        check_model(self.model)
        return self.model.start(batch)

    def propose(self, state: State, model: ContinuousModel, window: int, coupling: Coupling, draws: Draws) -> Draft:
        """See Drafting."""
        in_reach = self.in_reach(state, window)
        context, values, laws = state.drafting, [], []
        for slot in range(window):
            law = coupling.view(self.model.laws(context, state.tokens[:, :0]))
            values.append(law.sample(draws, in_reach[:, slot : slot + 1]))
            laws.append(law)
            context = self.model.advance(context, values[-1][..., : model.dim], in_reach[:, slot].long())
        count = in_reach.sum(1)
        return Draft(torch.cat(values, 1), side_by_side(laws), count, count + 1)

    def in_reach(self, state: State, window: int) -> Bool[Tensor, "batch window"]:
        """Slots to draft for: none behind the sequence's end, none in rows that are done or still in the prefill."""
        drafting = ~state.done & (state.length >= math.ceil(self.prefill * self.model.length))
        return row_mask((self.model.length - state.length).where(drafting, 0), window)

    def carry(
        self, before: State, after: State, draft: Draft, laws: Law, count: Int[Tensor, " batch"], draws: Draws
    ) -> Context:
        """See Drafting. One pass over the window from the last committed context, then as far as was committed."""
        self.model.laws(before.drafting, draft.value[..., : self.model.dim])
        return self.model.advance(before.drafting, committed(before, after, draft.value.shape[1] + 1), count)


def committed(before: State, after: State, size: int) -> Float[Tensor, "batch size dim"]:
    """The tokens from each row's old length on; behind the sequence's end, something."""
    place = before.length[:, None] + torch.arange(size, device=before.length.device)
    place = place.clamp(max=after.tokens.shape[1] - 1)
    return after.tokens[torch.arange(len(place), device=place.device)[:, None], place]


def side_by_side(laws: list[L]) -> L:
    """Laws of shape [batch, 1] as one of shape [batch, how many]."""
    joined = tree.join(laws)
    return tree.map_tensors(joined, lambda tensor: tensor.unflatten(0, (len(laws), -1)).transpose(0, 1).flatten(1, 2))
