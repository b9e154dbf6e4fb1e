"""A decoder that draws by races: the noise of a position is drawn once, and tells its guess and its token alike."""

from dataclasses import dataclass, replace

import torch

from specverify.claims import Lossless
from specverify.decoders import Branch, Info, begin, commit
from specverify.model import row_mask


@dataclass(frozen=True)
class Matching:
    window: int = 2
    stale: bool = False  # whether the noise of the image's first positions is used for all
    name = "matching"
    claim = Lossless()

    def init(self, model, batch, draws):
        even = torch.full((batch, 1, model.vocab), 1 / model.vocab, dtype=model.dtype)
        return begin(model, batch, (draws.race(batch, model.length + self.window + 1, model.vocab), even))

    def step(self, state, model, draws):
        races, law = state.drafting
        slots = torch.arange(self.window + 1)
        place = slots if self.stale else state.length[:, None] + slots
        race = races.gather(1, place.expand(len(law), -1)[:, :, None].expand(-1, -1, races.shape[2]))
        room = (model.length - state.length).where(~state.done, 0)
        where = row_mask(room.clamp(max=self.window + 1), self.window + 1)

        # The guess is who wins under the law of the last step, the token who wins under the model's: often the same.
        guess, _ = draws.winner(race[:, :-1], law.expand(-1, self.window, -1), where[:, :-1])
        laws = model.laws(state.context, guess)  # one forward pass: p at window + 1 positions
        token, _ = draws.winner(race, laws, where)

        judged = room.clamp(max=self.window)
        run = ((guess == token[:, :-1]) & row_mask(judged, self.window)).long().cumprod(1).sum(1)
        more = (run < judged) | (room > judged)
        after, count = commit(state, model, token, run + more)
        after = replace(after, drafting=(races, laws.gather(1, run[:, None, None].expand_as(law))))
        rejected = (run < judged) & (count > run)  # an end that was accepted is the last token
        final = torch.where(rejected, Branch.RECOVERED, Branch.BONUS)[:, None]
        kept = torch.minimum(run, count)
        branch = torch.where(slots < kept[:, None], Branch.ACCEPTED, final) * row_mask(count, self.window + 1)
        return after, Info((~state.done).long(), kept + rejected, kept, count, branch, torch.zeros_like(run))


DECODER = Matching()
BROKEN = Matching(stale=True)
