"""Plain autoregressive decoding: one token per forward pass. The law that all others are held to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from specverify.claims import Claim, Lossless
from specverify.decoders.protocol import Branch, Info, State, begin, commit
from specverify.draws import Draws
from specverify.laws import draw


@dataclass(frozen=True)
class Autoregressive:
    """Draw each token from p.

    Args:
        shared_noise: draw by a race whose noise is fixed per position (Gumbel-max) rather than afresh. For the same
            draws the tokens are then those of `SharedNoise`, one by one.
    """

    shared_noise: bool = False
    claim: Claim = Lossless()  # noqa: RUF009  (frozen)

    @property
    def name(self) -> str:
        """`ar`, or `ar-race` with shared noise."""
        return "ar-race" if self.shared_noise else "ar"

    def init(self, model: Any, batch: int, draws: Draws) -> State:
        """See Decoder. With shared noise, all positions' races are drawn here."""
        return begin(model, batch, draws.race(batch, model.length, model.vocab) if self.shared_noise else None)

    def step(self, state: State, model: Any, draws: Draws) -> tuple[State, Info]:
        """See Decoder."""
        active = ~state.done[:, None]
        laws = model.laws(state.context, state.tokens[:, :0])
        if self.shared_noise:
            place = state.length.clamp(max=model.length - 1)[:, None, None].expand(-1, 1, state.drafting.shape[-1])
            token, race = draws.winner(state.drafting.gather(1, place), laws, active)
            state = State(state.context, state.tokens, state.length, state.done, state.drafting.scatter(1, place, race))
        else:
            token = draw(laws, draws, active)
        after, count = commit(state, model, token, active[:, 0].long())
        none = count * 0
        return after, Info(count, none, none, count, count[:, None] * Branch.SAMPLED, none)
