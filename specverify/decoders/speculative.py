"""The speculative step: draft, one forward pass, judge, commit, carry on.

Every decoder that verifies one chain of drafts is this step with a different `Drafting`, a draft model
(`draft_model.py`) or the previous Jacobi iteration (`jacobi.py`), and a way to judge: token by token from left to
right, or the whole window at once (`block.py`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from specverify.claims import Claim, Lossless, Relaxed
from specverify.decoders.judging import Draft, Judging, TokenRule, WindowJudging, check_window, left_to_right, row
from specverify.decoders.protocol import Branch, Info, State, begin, commit
from specverify.draws import Draws
from specverify.errors import InputError
from specverify.model import Model, row_mask


@runtime_checkable
class Drafting(Protocol):
    """Where drafts come from."""

    @property
    def name(self) -> str:
        """What a decoder with this drafting is called."""

    def start(self, model: Model, batch: int, window: int, draws: Draws) -> Any:
        """What drafting carries from step to step, before the first."""

    def propose(self, state: State, model: Model, window: int, draws: Draws) -> Draft:
        """The next window's drafts."""

    def carry(
        self,
        before: State,
        after: State,
        draft: Draft,
        laws: Float[Tensor, "batch slots vocab"],
        count: Int[Tensor, " batch"],
        draws: Draws,
    ) -> Any:
        """What to carry into the next step, after `count` tokens were committed; `laws` are the window's p."""


@dataclass(frozen=True)
class Speculative:
    """A decoder that drafts, verifies and recovers.

    Args:
        drafting: where drafts come from.
        window: draft tokens verified in one forward pass, at least 1.
        judging: how they are judged.
        claim: what this combination claims.
        bonus: whether a full acceptance emits one more token, drawn from p.

    Raises:
        InputError: for a window below 1, and for coupled drafts judged by the window and claimed to be lossless.
    """

    drafting: Drafting
    window: int
    judging: Judging | WindowJudging = TokenRule()  # noqa: RUF009  (frozen)
    claim: Claim = Lossless()  # noqa: RUF009  (frozen)
    bonus: bool = True

    def __post_init__(self) -> None:
        check_window(self.window)
        by_window = isinstance(self.judging, WindowJudging)
        if by_window and getattr(self.drafting, "coupled", False) and not isinstance(self.claim, Relaxed):
            raise InputError(
                f"{self.name} is not lossless: the laws of coupled drafts tell what the drafts before them were, and "
                "judging by the window looks ahead at them; redraw drafts independently, or say what to hold it to, "
                "such as claim=Relaxed(tv=0.01)"
            )

    @property
    def name(self) -> str:
        """The drafting's name, and that of its judging if this is by the window."""
        own = self.drafting.name
        return f"{own}-{self.judging.name}" if isinstance(self.judging, WindowJudging) else own

    def init(self, model: Model, batch: int, draws: Draws) -> State:
        """See Decoder."""
        return begin(model, batch, self.drafting.start(model, batch, self.window, draws))

    def step(self, state: State, model: Model, draws: Draws) -> tuple[State, Info]:
        """See Decoder."""
        draft = self.drafting.propose(state, model, self.window, draws)
        laws = model.laws(state.context, draft.token)

        # Slots beyond the end of the sequence, or behind a drafted end-of-sequence token, are not judged.
        room = (model.length - state.length).where(~state.done, 0)
        drafted = room.clamp(max=self.window)
        wanted = (room > self.window) & self.bonus
        if model.eos is not None:
            is_end = (draft.token == model.eos) & row_mask(drafted, self.window)
            ends = is_end.any(1)
            drafted = torch.where(ends, is_end.int().argmax(1) + 1, drafted)
            wanted = wanted & ~ends
        if isinstance(self.judging, WindowJudging):
            run, recovered = self.judging.verify(laws[:, :-1], draft, drafted, draws)
        else:
            run, recovered = left_to_right(self.judging, laws[:, :-1], draft, drafted, draws)

        rejected = run < drafted
        law = torch.where(rejected[:, None], recovered, row(laws, run))
        emits_next = rejected | wanted
        token = draws.categorical(law, emits_next)

        block = torch.cat([draft.token, token[:, None]], 1).scatter(1, run[:, None], token[:, None])
        after, count = commit(state, model, block, run + emits_next)
        after = replace(after, drafting=self.drafting.carry(state, after, draft, laws, count, draws))

        active = (~state.done).long()
        place = torch.arange(self.window + 1, device=block.device)
        last = torch.where(rejected, Branch.RECOVERED, Branch.BONUS)
        branch = torch.where(place < run[:, None], int(Branch.ACCEPTED), last[:, None]) * row_mask(
            count, self.window + 1
        )
        return after, Info(active, run + rejected, run, count, branch, draft.passes * active)
