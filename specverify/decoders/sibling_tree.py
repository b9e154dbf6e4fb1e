"""Jacobi decoding with a tree of siblings at the cut: what SJD-PAC (arXiv 2603.18599) means to be, and lossless.

Behind a rejection the drafts are redrawn coupled with the old ones, as in SCD. In the first `depth` slots of the new
window, where the next rejection is likeliest, each draft gets younger siblings, drawn from its law without those before
them; the tree has a chain for every choice of one sibling a slot, and one forward pass looks at all chains. At each
slot the siblings are tested from the eldest on, each against what the rejected ones leave of p, and *the first that is
accepted is kept*, whatever lies behind it.

Each sibling has, given all that is looked at before its slot is judged and its elders, exactly the law that is kept
beside it: the eldest by the argument of `jacobi.py`, and the younger ones are drawn afresh in every step. Behind a cut
the laws of the eldest's chain are the new ones, and coupled is the eldest, which was looked at alone there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from specverify.claims import Claim, Lossless
from specverify.declared import Initial
from specverify.decoders.branched import Branched, Candidates, check_number
from specverify.decoders.jacobi import Carried, Jacobi
from specverify.decoders.judging import Draft
from specverify.decoders.protocol import State
from specverify.draws import Draws
from specverify.model import Model, row_mask
from specverify.rules.multi_draft import without


@dataclass(frozen=True)
class Siblings:
    """The chains of a tree of siblings.

    Args:
        jacobi: makes the eldest of every slot.
        siblings: of each of the first `depth` slots, at least 1; fewer where a law has fewer tokens.
        depth: slots that have siblings; there are siblings^depth chains. SJD-PAC publishes 4 and 3.
        replacement: whether siblings are drawn independently, and may repeat; if not, they are all different.
    """

    jacobi: Jacobi
    siblings: int
    depth: int
    replacement: bool = False

    @property
    def chains(self) -> int:
        """Choices of one sibling a slot."""
        return int(self.siblings**self.depth)

    def start(self, model: Model, batch: int, window: int, draws: Draws) -> Carried:
        """See Branching. What is carried is that of the eldest; the others are drawn anew in every step."""
        return self.jacobi.start(model, batch, window, draws)

    def propose(
        self, state: State, wide: State, model: Model, window: int, draws: Draws
    ) -> tuple[list[Candidates], Int[Tensor, " batch"], Any]:
        """See Branching."""
        eldest = self.jacobi.propose(state, model, window, draws)
        depth = min(self.depth, window)
        room = (model.length - state.length).where(~state.done, 0)
        token, law, there = [eldest.token], [eldest.law], [row_mask(room, window)]
        for _ in range(1, self.siblings):
            law.append(law[-1] if self.replacement else without(law[-1], token[-1]))
            has = there[0] & (torch.arange(window, device=room.device) < depth)
            there.append(has if self.replacement else has & (law[-1].sum(-1) > 0))
            token.append(draws.categorical(self.drawn_from(state, law, token), there[-1]))
        every = torch.stack(token, 2), torch.stack(law, 2), torch.stack(there, 2)
        chain = torch.arange(self.chains, device=room.device)
        slots = []
        for slot in range(window):
            siblings, below = self.column(slot)
            number = chain // below % siblings
            mine, q, are = (x[:, slot, number] for x in every)
            slots.append(Candidates(mine, q, are, node=chain // below))
        return slots, eldest.passes, wide.drafting

    def column(self, slot: int) -> tuple[int, int]:
        """How many siblings a slot has, and how many chains go through each of them in a row."""
        return (self.siblings, int(self.siblings ** (self.depth - 1 - slot))) if slot < self.depth else (1, 1)

    def drawn_from(
        self, state: State, law: list[Float[Tensor, "batch window vocab"]], token: list[Int[Tensor, "batch window"]]
    ) -> Float[Tensor, "batch window vocab"]:
        """What each slot's next sibling is drawn from: the last of the laws, given the siblings before it."""
        return law[-1]

    def carry(
        self,
        before: State,
        after: State,
        draft: Draft,
        laws: Float[Tensor, "batch slots vocab"],
        count: Int[Tensor, " batch"],
        draws: Draws,
    ) -> Carried:
        """See Branching."""
        return self.jacobi.carry(before, after, draft, laws, count, draws)


def sibling_tree(
    window: int,
    siblings: int = 2,
    depth: int = 2,
    initial: Initial | None = None,
    replacement: bool = False,
    claim: Claim = Lossless(),  # noqa: B008  (frozen)
) -> Branched:
    """The decoder; see `Siblings`.

    Raises:
        InputError: for a window or a number of siblings below 1, or no depth.
    """
    check_number("siblings", siblings, "the number of drafts for a position of the tree")
    check_number("depth", depth, "the number of positions that have siblings")
    branching = Siblings(Jacobi("maximal", initial), siblings, depth, replacement)
    return Branched(branching, window, name="sjd-tree", claim=claim)
