"""Trees of siblings in Jacobi drafts gone wrong: the three slips of SJD-PAC's released code, each alone.

Each is `sibling_tree` with its walk, its younger siblings or its redraw replaced.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from specverify.declared import Smallest
from specverify.decoders.branched import Branched, Candidates, Walked
from specverify.decoders.jacobi import Carried, Jacobi
from specverify.decoders.judging import Draft
from specverify.decoders.protocol import Decoder, State
from specverify.decoders.registry import Settings
from specverify.decoders.sibling_tree import Siblings
from specverify.defects.defect import Assemble, Defect
from specverify.draws import Draws
from specverify.laws import window as from_slot
from specverify.model import Model, row_mask
from specverify.rules.multi_draft import recursive_rejection
from specverify.rules.token import accept_probability, residual

SOURCE = "KangJialiang/SJD-PAC scheduler/sjd_pac_iteration_lumina_mgpt.py at 4fbc099 (the paper's code, CVPR 2026)"


@dataclass(frozen=True)
class LongestPath(Branched):
    """Every node is tested, and the chain with the longest accepted run is taken, the first of those alike."""

    name: str = "sjd-tree"

    def walk(
        self,
        state: State,
        model: Model,
        slots: list[Candidates],
        laws: Float[Tensor, "batch chains slots vocab"],
        draws: Draws,
    ) -> Walked:
        """See Branched."""
        batch, chains = laws.shape[:2]
        every, room = torch.arange(batch, device=laws.device), (model.length - state.length).where(~state.done, 0)
        alive, run, law = (room > 0)[:, None].expand(batch, chains), torch.zeros_like(room)[:, None], laws[:, :, 0]
        for slot, drawn in enumerate(slots):
            assert isinstance(self.branching, Siblings)  # as assembled below
            family, below = self.branching.column(slot)
            shape = (batch, chains // (below * family), family, below)
            p = laws[:, :, slot].unflatten(1, shape[1:])[:, :, 0, 0]
            token, there = (x.reshape(shape)[..., 0] for x in (drawn.token, drawn.there))
            keep, left = recursive_rejection(p, drawn.law.unflatten(1, shape[1:])[:, :, :, 0], token, there)
            judged = alive.reshape(shape)[..., 0] & there & (room > slot)[:, None, None]
            passed = draws.bernoulli(keep, judged)[..., None].expand(shape).reshape(batch, chains)
            ends = alive & ~passed & (room > slot)[:, None]
            law = torch.where(ends[..., None], left[:, :, None].expand(-1, -1, family * below, -1).flatten(1, 2), law)
            alive = passed & (room > slot)[:, None]
            run = run + alive
        chain = run.argmax(1)
        kept = run[every, chain]
        rejected = kept < room.clamp(max=self.window)
        bonus = ~rejected & (room > self.window)
        law = torch.where(bonus[:, None], laws[every, chain, self.window], law[every, chain])
        tokens = torch.stack([drawn.token for drawn in slots], 2)[every, chain]
        return Walked(tokens, chain, kept, rejected, rejected | bonus, law)


@dataclass(frozen=True)
class Joined:
    """What is carried: the eldest's, and (p - q)+ of each slot's last redraw, 0 where there was none."""

    eldest: Carried
    left: Float[Tensor, "batch window vocab"]


@dataclass(frozen=True)
class FromResidual(Siblings):
    """Younger siblings are drawn from what the last redraw's coupling left, and judged as if from the new law."""

    def start(self, model: Model, batch: int, window: int, draws: Draws) -> Joined:  # type: ignore[override]
        """See Branching."""
        carried = super().start(model, batch, window, draws)
        return Joined(carried, torch.zeros_like(carried.law))

    def propose(
        self, state: State, wide: State, model: Model, window: int, draws: Draws
    ) -> tuple[list[Candidates], Int[Tensor, " batch"], Any]:
        """See Branching."""
        inner = _Inner(self.jacobi, self.siblings, self.depth, left=state.drafting.left)
        return inner.propose(replace(state, drafting=state.drafting.eldest), wide, model, window, draws)

    def carry(  # type: ignore[override]
        self,
        before: State,
        after: State,
        draft: Draft,
        laws: Float[Tensor, "batch slots vocab"],
        count: Int[Tensor, " batch"],
        draws: Draws,
    ) -> Joined:
        """See Branching."""
        window = draft.token.shape[1]
        before = replace(before, drafting=before.drafting.eldest)
        carried = super().carry(before, after, draft, laws, count, draws)
        again = row_mask(torch.minimum(window - count, carried.count), window)[..., None]
        left = residual(carried.law, from_slot(draft.law, count, window))
        return Joined(carried, left.where(again, 0.0))


@dataclass(frozen=True)
class _Inner(Siblings):
    left: Tensor = field(default_factory=lambda: torch.zeros(0), compare=False)

    def drawn_from(self, state: State, law: list[Tensor], token: list[Tensor]) -> Tensor:
        """What is left, without the elders, where that is something."""
        left = self.left
        for elder in token:
            left = left.scatter(-1, elder[..., None], 0.0)
        return torch.where(left.sum(-1, keepdim=True) > 0, left, law[-1])


@dataclass(frozen=True)
class RedrawnFromAll(Siblings):
    """Behind the cut the eldest alone is asked, and what replaces it is what all siblings would leave of the law."""

    slots: list[Candidates] = field(default_factory=list, compare=False)

    def propose(
        self, state: State, wide: State, model: Model, window: int, draws: Draws
    ) -> tuple[list[Candidates], Int[Tensor, " batch"], Any]:
        """See Branching."""
        slots, passes, carried = super().propose(state, wide, model, window, draws)
        self.slots[:] = slots
        return slots, passes, carried

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
        window, independent = draft.token.shape[1], replace(self.jacobi, redraw="independent")
        carried: Carried = independent.carry(before, after, draft, laws, count, draws)
        families = [self.column(slot) for slot in range(window)]
        chains = torch.tensor([[k * below * (k < most) for k in range(self.siblings)] for most, below in families])
        are = torch.tensor([[k < most for k in range(self.siblings)] for most, _ in families])
        law, token, there = (
            from_slot(
                torch.stack([getattr(drawn, name)[:, row] for drawn, row in zip(self.slots, chains, strict=True)], 1),
                count,
                window,
            )
            for name in ("law", "token", "there")
        )
        there = there & from_slot(are.expand(len(count), -1, -1), count, window)
        _, left = recursive_rejection(carried.law, law, token, there)
        keep = accept_probability(carried.law, law[:, :, 0], token[:, :, 0])[..., None]
        mixed = ((1 - keep) * left).scatter_add(-1, token[:, :, :1], keep)
        again, valid = row_mask(window - count, window), row_mask(carried.count, window)
        drawn = draws.categorical(torch.where(again[..., None], mixed, carried.law), valid)
        return replace(carried, token=drawn.where(valid, 0))


def _tree(made: type[Siblings], siblings: int, depth: int, decoder: type[Branched] = Branched) -> Assemble:
    def assemble(settings: Settings, strength: float, model: Model) -> tuple[Decoder, Model]:
        branching = made(Jacobi("maximal", settings.initial), siblings, depth)
        return decoder(branching, settings.window, name="sjd-tree"), model

    return assemble


DEFECTS = (
    Defect(
        id="tree-longest-path-wins",
        category="acceptance rule",
        source=SOURCE,
        mechanism="All siblings are tested, each against what its elders leave of p, and the path with the longest "
        "accepted run is taken: a younger sibling may win although an elder was accepted.",
        conditions="two siblings; a window of at least 2",
        smallest=Smallest("dense-3x6", 2, initial="repeat-left"),
        assemble=_tree(Siblings, 2, 1, LongestPath),
    ),
    Defect(
        id="tree-younger-from-residual",
        category="draft-distribution mismatch",
        source=SOURCE,
        mechanism="The younger siblings of a redrawn draft come from (p - q)+ of the redraw, and are verified as drawn "
        "from p without replacement.",
        conditions="two siblings; a window of at least 2; at least 3 tokens",
        smallest=Smallest("dense-3x6", 2, initial="repeat-left"),
        assemble=_tree(FromResidual, 2, 1),
    ),
    Defect(
        id="tree-redrawn-from-all",
        category="draft-distribution mismatch",
        source=SOURCE,
        mechanism="Behind the cut a column's eldest sibling alone is asked, but a rejected one is redrawn from what "
        "all its siblings would leave of p.",
        conditions="siblings in two columns; a window of at least 2; at least 3 tokens",
        smallest=Smallest("dense-3x6", 3, initial="repeat-left"),
        assemble=_tree(RedrawnFromAll, 2, 2),
    ),
)
