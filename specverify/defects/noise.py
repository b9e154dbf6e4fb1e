"""Gumbel noise that is asked twice: one race where there should be one for each position.

Each is `SharedNoise` with races that are views of one another. The tokens of a race under two laws are the same draw
looked at twice, so that neighbouring positions take after each other.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from specverify.claims import Claim, Lossless
from specverify.declared import Smallest
from specverify.decoders.protocol import Decoder, Info, State
from specverify.decoders.registry import Settings
from specverify.decoders.shared_noise import SharedNoise
from specverify.defects.defect import Assemble, Defect
from specverify.draws import Draws
from specverify.model import Model


@dataclass(frozen=True)
class OneRace:
    """Jacobi decoding by matching, with one race for every position.

    Args:
        decoder: with a race for each.
        kept: whether the race is that of the step before, or a fresh one in each step.
    """

    decoder: SharedNoise
    kept: bool
    claim: Claim = Lossless()  # noqa: RUF009  (frozen)

    @property
    def name(self) -> str:
        """The inner decoder's."""
        return self.decoder.name

    def init(self, model: Model, batch: int, draws: Draws) -> State:
        """See Decoder."""
        return self._with_one(self.decoder.init(model, batch, draws), model, draws)

    def step(self, state: State, model: Model, draws: Draws) -> tuple[State, Info]:
        """See Decoder."""
        after, info = self.decoder.step(state if self.kept else self._with_one(state, model, draws), model, draws)
        return replace(after, drafting=replace(after.drafting, race=state.drafting.race)), info

    def _with_one(self, state: State, model: Model, draws: Draws) -> State:
        race = draws.race(len(state.length), 1, model.vocab).expand(-1, model.length, -1)
        return replace(state, drafting=replace(state.drafting, race=race))


def _one_race(kept: bool) -> Assemble:
    def assemble(settings: Settings, strength: float, model: Model) -> tuple[Decoder, Model]:
        return OneRace(SharedNoise(settings.window), kept), model

    return assemble


DEFECTS = (
    Defect(
        id="one-race-for-all-positions",
        category="randomness reuse",
        source="mutation of shared-noise decoding: a seed that never advances",
        mechanism="Every position of a sequence is decided by the same Gumbel noise.",
        conditions="a law that is not one-hot",
        smallest=Smallest("dense-2x8", 1),
        assemble=_one_race(kept=True),
        needs=("two tokens",),
    ),
    Defect(
        id="one-race-for-a-step",
        category="randomness reuse",
        source="PaddlePaddle/FastDeploy issue #5568",
        mechanism="The seed advances once per step, so that all tokens of a step are decided by the same Gumbel noise.",
        conditions="a law that is not one-hot; a step that commits at least 2 tokens",
        smallest=Smallest("dense-2x8", 1),
        assemble=_one_race(kept=False),
        needs=("two tokens",),
    ),
)
