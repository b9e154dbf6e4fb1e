"""The protocol of decoders of vectors."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from specverify.claims import Claim
from specverify.decoders.protocol import Info, State
from specverify.draws import Draws
from specverify.laws import ContinuousModel


@runtime_checkable
class ContinuousDecoder(Protocol):
    """A decoder of models over continuous tokens; all that is said of `Decoder` holds."""

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def claim(self) -> Claim: ...  # noqa: D102

    def init(self, model: ContinuousModel, batch: int, draws: Draws) -> State:
        """As `Decoder`."""

    def step(self, state: State, model: ContinuousModel, draws: Draws) -> tuple[State, Info]:
        """As `Decoder`."""
