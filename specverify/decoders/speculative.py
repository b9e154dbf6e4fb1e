"""The speculative step: draft, one forward pass, judge, commit, carry on.

Every decoder that verifies one chain of drafts is this step with a different `Drafting`, a draft model
(`draft_model.py`) or the previous Jacobi iteration (`jacobi.py`), and a different way to judge (`judging.py`). Tokens
are ids, or vectors, of which a law is a density and what is drafted may be longer than the token that is `shown`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Int
from torch import Tensor

from specverify.claims import Claim, Lossless, Relaxed
from specverify.decoders.judging import (
    Coupling,
    Draft,
    Judging,
    Match,
    TokenRule,
    WindowJudging,
    check_lossless,
    check_window,
    judge,
    seen,
    shown,
)
from specverify.decoders.protocol import Branch, Info, State, begin, commit, until_end
from specverify.draws import Draws
from specverify.laws import draw
from specverify.model import row_mask


@runtime_checkable
class Drafting(Protocol):
    """Where drafts come from."""

    @property
    def name(self) -> str:
        """What a decoder with this drafting is called."""

    def start(self, model: Any, batch: int, window: int, draws: Draws) -> Any:
        """What drafting carries from step to step, before the first."""

    def propose(self, state: State, model: Any, window: int, draws: Draws) -> Draft:
        """The next window's drafts."""

    def carry(
        self, before: State, after: State, draft: Draft, laws: Any, count: Int[Tensor, " batch"], draws: Draws
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
        InputError: for a window below 1, and for a judging that is claimed to be lossless and is not.
    """

    drafting: Drafting
    window: int
    judging: Judging | WindowJudging | Coupling = TokenRule()  # noqa: RUF009  (frozen)
    claim: Claim = Lossless()  # noqa: RUF009  (frozen)
    bonus: bool = True

    def __post_init__(self) -> None:
        check_window(self.window)
        if not isinstance(self.claim, Relaxed):
            check_lossless(self.judging, self.drafting, self.name)

    @property
    def name(self) -> str:
        """The drafting's name, and behind it the judging's, unless drafts are redrawn by it."""
        own = self.drafting.name
        judged = self.judging.name if isinstance(self.judging, WindowJudging | Coupling | Match) else ""
        return own if own.endswith(judged) else f"{own}-{judged}"

    def init(self, model: Any, batch: int, draws: Draws) -> State:
        """See Decoder."""
        return begin(model, batch, self.drafting.start(model, batch, self.window, draws))

    def step(self, state: State, model: Any, draws: Draws) -> tuple[State, Info]:
        """See Decoder."""
        # Among vectors, a trajectory may be drafted and judged; of it a model is shown the token that it ends in.
        model = seen(model, self.judging, state.tokens)
        draft = self.drafting.propose(state, model, self.window, draws)
        tokens = shown(draft.token, state.tokens)
        laws = model.laws(state.context, tokens)

        # Slots beyond the end of the sequence, or behind a drafted end-of-sequence token, are not judged.
        room = (model.length - state.length).where(~state.done, 0)
        drafted = room.clamp(max=self.window)
        if draft.count is not None:
            drafted = drafted.minimum(draft.count)
        wanted = (room > drafted) & (self.bonus | (drafted == 0))
        drafted, ends = until_end(model, tokens, drafted)

        run, law = judge(self.judging, laws, draft, drafted, draws)
        rejected = run < drafted
        emits_next = rejected | (wanted & ~ends)
        token = shown(draw(law, draws, emits_next), state.tokens).to(tokens.dtype)

        block = torch.cat([tokens, token[:, None]], 1)
        block = block.index_put((torch.arange(len(run), device=run.device), run), token)
        after, count = commit(state, model, block, run + emits_next)
        after = replace(after, drafting=self.drafting.carry(state, after, draft, laws, count, draws))

        active, size = (~state.done).long(), self.window + 1
        last = torch.where(rejected, int(Branch.RECOVERED), int(Branch.BONUS))
        last = torch.where(drafted > 0, last, int(Branch.SAMPLED))[:, None]
        branch = torch.where(row_mask(run, size), int(Branch.ACCEPTED), last) * row_mask(count, size)
        return after, Info(active, run + rejected, run, count, branch, draft.passes * active)
