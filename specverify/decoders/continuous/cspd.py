"""CSpD (arXiv 2411.11925), as published and as released: decoders of diffusion heads that claim nothing.

What their criteria are, and why they are not lossless, is in `rules/cspd.py`; here is what is built around these.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from specverify.claims import Claim, Relaxed
from specverify.decoders.continuous.coupling import split, trajectories
from specverify.decoders.draft_model import DraftModel, side_by_side
from specverify.decoders.judging import Coupled, Draft, check_window
from specverify.decoders.protocol import Branch, Info, State, begin, commit
from specverify.draws import Draws
from specverify.laws import Chain, ContinuousModel, Law, leading
from specverify.model import row_mask
from specverify.rules.cspd import PUBLISHED, RELEASED, Criterion, LastStep, last_step, released_token
from specverify.rules.trajectory import Paths, align


@dataclass(frozen=True)
class Surrogate:
    """The surrogate ratio of aligned trajectories; a rejected draft's last step is drawn again (section 3).

    With a draft model that pre-fills, left-to-right truncation and no bonus this is the decoder of the paper.

    Args:
        criterion: how it is applied; as published by default.
    """

    criterion: Criterion = PUBLISHED
    name: str = ""
    bias: float = 1.0

    def view(self, law: Any) -> Law:
        """The law of trajectories."""
        return trajectories(law, self)

    def last_step(self, p: Any, q: Any, draft: Float[Tensor, "*shape width"]) -> LastStep:
        """What is judged of drafts."""
        path = split(q, draft)
        return last_step(p.chain, q.chain, path, align(p.chain, q.chain, path))

    def couple(
        self, p: Any, q: Any, draft: Float[Tensor, "*shape width"], draws: Draws, where: Bool[Tensor, "*shape"]
    ) -> Coupled:
        """See Coupling; of the trajectory only the token is replaced."""
        on = self.last_step(p, q, draft)
        found = self.criterion.decide(on, draws, where)
        token = found.x.where(where[..., None], on.x)
        return Coupled(torch.cat([token, draft[..., p.chain.dim :]], -1), found.accepted)


@dataclass(frozen=True)
class Released:
    """The code (github.com/MarkXCloud/CSpD, spec_decode_runner.py): what it departs from the paper in, all at once.

    Tokens are the means of last transitions. Drafts of a block are judged apart, and those that are rejected patched in
    place: nothing behind them is dropped, so that every pass commits a whole block. The target does not see the drafts
    that it judges: a masked token is the zero vector here. The target decodes floor(prefill * length) + 1 tokens alone.

    Args:
        draft: the draft model, and the prefill.
        window: the size of a block, at least 1.

    Raises:
        InputError: for a window below 1.
    """

    draft: DraftModel
    window: int
    name: str = "cspd-released"
    claim: Claim = Relaxed(1.0)  # noqa: RUF009  (frozen)

    def __post_init__(self) -> None:
        check_window(self.window)

    def init(self, model: ContinuousModel, batch: int, draws: Draws) -> State:
        """See Decoder."""
        return begin(model, batch, self.draft.start(model, batch, self.window, draws))

    def step(self, state: State, model: ContinuousModel, draws: Draws) -> tuple[State, Info]:
        """See Decoder. The pass that shows the target its patched tokens is one with the next block's."""
        alone = state.length < int(self.draft.prefill * model.length) + 1
        room = (model.length - state.length).where(~state.done & ~alone, 0)
        judged = row_mask(room, self.window)
        path, q = self._propose(state, judged, draws)
        masked = torch.zeros_like(path[..., 0, :])
        p = _chain(model.laws(state.context, masked), self)

        mine = leading(p, self.window)
        found = RELEASED.decide(last_step(mine, q, path, align(mine, q, path)), draws, judged)
        token, kept = found.x, found.accepted

        first = leading(p, 1)
        prefilled = ~state.done & alone
        own = released_token(first, first.path(draws, prefilled[:, None])).to(path.dtype)
        block = torch.where(prefilled[:, None, None], torch.cat([own, token[:, 1:]], 1), token)
        model.laws(state.context, block)
        after, count = commit(state, model, block, judged.sum(1) + prefilled)
        shown = Draft(block, None, count, count)
        context = self.draft.carry(state, after, shown, Paths(p), count, draws)
        after = State(after.context, after.tokens, after.length, after.done, context)

        branch = torch.where(kept, int(Branch.ACCEPTED), int(Branch.RECOVERED))
        branch = torch.where(prefilled[:, None], int(Branch.SAMPLED), branch) * row_mask(count, self.window)
        active = (~state.done).long()
        return after, Info(active, judged.sum(1), kept.sum(1), count, branch, (judged.sum(1) + 1) * active)

    def _propose(
        self, state: State, where: Bool[Tensor, "batch window"], draws: Draws
    ) -> tuple[Float[Tensor, "batch window steps dim"], Chain]:
        """Trajectories that end in the mean of their last transition, and the chains that they come from."""
        model, context, paths, laws = self.draft.model, state.drafting, [], []
        for slot in range(self.window):
            law = _chain(model.laws(context, state.tokens[:, :0]), self)
            path = law.path(draws, where[:, slot : slot + 1])
            token = released_token(law, path).where(where[:, slot, None, None], 0.0)
            paths.append(torch.cat([token[..., None, :], path[..., 1:, :]], -2))
            laws.append(law)
            context = model.advance(context, token, where[:, slot].long())
        return torch.cat(paths, 1), side_by_side(laws)


def _chain(law: Any, decoder: Any) -> Chain:
    return trajectories(law, decoder).chain
