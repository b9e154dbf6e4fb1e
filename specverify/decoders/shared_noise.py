"""SJD with shared Gumbel noise: one race per position, drafts verified by whether they match.

Each position's noise is fixed once. A draft is what the race would pick under the law of an earlier pass; it is kept if
the race still picks it under p. What is emitted is always the race's winner under p given the emitted prefix, so the
tokens equal those of sequential Gumbel-max decoding with the same noise, one by one: an oracle without statistics. Also
known as drafter-invariant speculative decoding (Daliri et al., arXiv 2408.07978), here with Jacobi drafts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from specverify.claims import Claim, Lossless
from specverify.decoders.judging import check_window
from specverify.decoders.protocol import Branch, Info, State, begin, commit
from specverify.draws import Draws
from specverify.model import Model, row_mask


@dataclass(frozen=True)
class Noise:
    """What is carried: every position's race, and the last pass's winners for the window (0 where there is none)."""

    race: Float[Tensor, "batch length noise"]
    token: Int[Tensor, "batch window"]


@dataclass(frozen=True)
class SharedNoise:
    """Jacobi decoding of the Gumbel-max fixed point.

    Args:
        window: draft tokens verified in one forward pass, at least 1.
    """

    window: int
    name: str = "sjd-race"
    claim: Claim = Lossless()  # noqa: RUF009  (frozen)

    def __post_init__(self) -> None:
        check_window(self.window)

    def init(self, model: Model, batch: int, draws: Draws) -> State:
        """See Decoder. All positions' races are drawn here."""
        token = torch.zeros(batch, self.window, dtype=torch.int64, device=model.device)
        return begin(model, batch, Noise(draws.race(batch, model.length, model.vocab), token))

    def step(self, state: State, model: Model, draws: Draws) -> tuple[State, Info]:
        """See Decoder."""
        noise: Noise = state.drafting
        laws = model.laws(state.context, noise.token)
        size = self.window + 1
        room = (model.length - state.length).where(~state.done, 0)
        place = state.length[:, None] + torch.arange(size, device=laws.device)
        within = place.clamp(max=model.length - 1)[..., None].expand(-1, -1, noise.race.shape[-1])
        winner, race = draws.winner(noise.race.gather(1, within), laws, row_mask(room, size))

        drafted = room.clamp(max=self.window)
        matches = (winner[:, :-1] == noise.token) & row_mask(drafted, self.window)
        run = matches.cumprod(1).sum(1)
        after, count = commit(state, model, winner, run + 1)

        # Room past the end, so that positions there do not write over real ones; what is committed needs no noise.
        kept = torch.cat([noise.race, torch.zeros_like(race)], 1).scatter(1, place[..., None].expand_as(race), race)
        kept = kept[:, : model.length].masked_fill(row_mask(after.length, model.length)[..., None], 0.0)
        slot = count[:, None] + torch.arange(self.window, device=laws.device)
        left = torch.minimum(size - count, model.length - after.length).where(~after.done, 0)
        token = winner.gather(1, slot.clamp(max=self.window)).where(row_mask(left, self.window), 0)
        after = replace(after, drafting=Noise(kept, token))

        # Rejections and drafts accepted count up to what was committed: a draft behind an early end was not judged.
        accepted = torch.minimum(run, count)
        rejected = (run < drafted) & (count > run)
        last = torch.where(rejected, Branch.RECOVERED, Branch.BONUS)[:, None]
        branch = torch.where(row_mask(run, size), int(Branch.ACCEPTED), last) * row_mask(count, size)
        return after, Info((~state.done).long(), accepted + rejected, accepted, count, branch, count * 0)
