"""Drafting by a second, cheaper model (Leviathan et al., arXiv 2211.17192; Chen et al., arXiv 2302.01318)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from specverify.decoders.judging import Draft
from specverify.decoders.protocol import State
from specverify.draws import Draws
from specverify.errors import InputError
from specverify.model import Context, Model, row_mask


@dataclass(frozen=True)
class DraftModel:
    """Drafts drawn one by one from a draft model, given the drafts before them.

    Args:
        model: over the target's vocabulary and length.
    """

    model: Model

    @property
    def name(self) -> str:
        """`sd`."""
        return "sd"

    def start(self, model: Model, batch: int, window: int, draws: Draws) -> Context:
        """See Drafting. What is carried is the draft model's context of the committed tokens.

        Raises:
            InputError: if the two models do not cover the same sequences.
        """
        for what in ("vocab", "length", "dtype"):
            ours, theirs = getattr(self.model, what), getattr(model, what)
            if ours != theirs:
                raise InputError(
                    f"the draft model {self.model.name!r} has {what} {ours}, the target {model.name!r} {theirs}"
                )
        return self.model.start(batch)

    def propose(self, state: State, model: Model, window: int, draws: Draws) -> Draft:
        """See Drafting."""
        context, tokens, laws = state.drafting, [], []
        in_reach = row_mask((model.length - state.length).where(~state.done, 0), window)
        for slot in range(window):
            law = self.model.laws(context, state.tokens[:, :0])
            token = draws.categorical(law, in_reach[:, slot : slot + 1])
            # A slot out of reach holds token 0, with the q that belongs to it.
            certain = torch.zeros_like(law)
            certain[..., 0] = 1
            laws.append(law.where(in_reach[:, slot, None, None], certain))
            tokens.append(token)
            context = self.model.advance(context, token, in_reach[:, slot].long())
        return Draft(torch.cat(tokens, 1), torch.cat(laws, 1), in_reach.sum(1) + 1)

    def carry(
        self,
        before: State,
        after: State,
        draft: Draft,
        laws: Float[Tensor, "batch slots vocab"],
        count: Int[Tensor, " batch"],
        draws: Draws,
    ) -> Context:
        """See Drafting. One pass over the window from the last committed context, then as far as was committed."""
        self.model.laws(before.drafting, draft.token)
        place = before.length[:, None] + torch.arange(draft.token.shape[1] + 1, device=count.device)
        committed = after.tokens.gather(1, place.clamp(max=after.tokens.shape[1] - 1))
        return self.model.advance(before.drafting, committed, count)
