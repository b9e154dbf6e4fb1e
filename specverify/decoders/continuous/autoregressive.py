"""Plain autoregressive decoding of continuous tokens: the law that all others are held to."""

from __future__ import annotations

from dataclasses import dataclass

from specverify.claims import Claim, Lossless
from specverify.decoders.protocol import Branch, Info, State, begin, commit
from specverify.draws import Draws
from specverify.laws import ContinuousModel


@dataclass(frozen=True)
class Autoregressive:
    """Draw each token from p."""

    name: str = "ar"
    claim: Claim = Lossless()  # noqa: RUF009  (frozen)

    def init(self, model: ContinuousModel, batch: int, draws: Draws) -> State:
        """See Decoder."""
        return begin(model, batch)

    def step(self, state: State, model: ContinuousModel, draws: Draws) -> tuple[State, Info]:
        """See Decoder."""
        active = ~state.done
        token = model.laws(state.context, state.tokens[:, :0]).sample(draws, active[:, None])
        after, count = commit(state, model, token, active.long())
        none = count * 0
        return after, Info(count, none, none, count, count[:, None] * Branch.SAMPLED, none)
