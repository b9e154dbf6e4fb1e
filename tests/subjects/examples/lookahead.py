"""A decoder of one's own: guess that the last token comes again, and keep a guess x with probability p(x)."""

from dataclasses import dataclass

import torch

from specverify.claims import Lossless
from specverify.decoders import Branch, Info, begin, commit
from specverify.model import row_mask


@dataclass(frozen=True)
class Lookahead:
    window: int = 2
    forgetful: bool = False  # whether it forgets, after a rejection, which token was rejected
    name = "lookahead"
    claim = Lossless()

    def init(self, model, batch, draws):
        return begin(model, batch)

    def step(self, state, model, draws):
        last = state.tokens.gather(1, (state.length - 1).clamp(min=0)[:, None])
        draft = last.repeat(1, self.window)
        laws = model.laws(state.context, draft)  # one forward pass: p at window + 1 positions

        room = (model.length - state.length).where(~state.done, 0)
        end = -1 if model.eos is None else model.eos
        judged = room.clamp(max=self.window).where(last[:, 0] != end, 0)  # an end does not come again
        keep = laws[:, :-1].gather(2, draft[:, :, None]).squeeze(2)
        run = draws.accept_run(keep, row_mask(judged, self.window))

        rejected = run < judged
        law = laws[torch.arange(len(run)), run]
        if not self.forgetful:
            law = law.where(~rejected[:, None], law.scatter(1, last, 0))  # the residual: p without the guess
        more = rejected | (room > judged)
        token = draws.categorical(law, more)

        block = torch.cat([draft, token[:, None]], 1).scatter(1, run[:, None], token[:, None])
        after, count = commit(state, model, block, run + more)
        slot = torch.arange(self.window + 1)
        final = torch.where(rejected, Branch.RECOVERED, Branch.BONUS)[:, None]
        branch = torch.where(slot < run[:, None], Branch.ACCEPTED, final) * row_mask(count, self.window + 1)
        none = torch.zeros_like(run)
        return after, Info((~state.done).long(), run + rejected, run, count, branch, none)


DECODER = Lookahead()
BROKEN = Lookahead(forgetful=True)
