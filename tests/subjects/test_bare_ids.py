"""Decoders that are wrong with some ids of many, where nothing can be enumerated: samples over a thousand tokens."""

from dataclasses import dataclass

import pytest
import torch

from specverify.claims import Lossless
from specverify.deadline import Deadline
from specverify.decoders import Autoregressive
from specverify.decoders.registry import Settings
from specverify.subjects.sampling import CROWD, Task, carry_out
from toymodels.wide import large


@dataclass(frozen=True)
class Tilted:
    """A model whose laws favour some ids."""

    inner: object
    weights: torch.Tensor

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def laws(self, context, block):
        laws = self.inner.laws(context, block) * self.weights
        return laws / laws.sum(-1, keepdim=True)


class Leaning:
    """Plain decoding that asks for other laws than the target's."""

    claim = Lossless()

    def __init__(self, weights):
        self.inner, self.weights = Autoregressive(), weights

    def init(self, model, batch, draws):
        return self.inner.init(model, batch, draws)

    def step(self, state, model, draws):
        return self.inner.step(state, Tilted(model, self.weights), draws)


@dataclass(frozen=True)
class Made:
    decoder: object

    def build(self, settings):
        return self.decoder


IDS = torch.arange(CROWD)
SLIPS = {
    "even": (torch.where(IDS % 2 == 0, 1.3, 0.7), "ids"),
    "lanes": (torch.where(IDS % 32 == 7, 0.0, 1.0), "ids"),
    "tile": (torch.where(IDS // 64 == 3, 0.0, 1.0), "ids"),
    "right": (torch.ones(CROWD), None),
}


@pytest.mark.thinned(2)
@pytest.mark.parametrize(("weights", "refutes"), SLIPS.values(), ids=SLIPS)
def test_ids_of_many_are_counted(weights, refutes, seed):
    task = Task("many", Settings(window=2), large("large", CROWD, 4), 512, 2_048, None)
    found = list(carry_out(Made(Leaning(weights)), [task], seed % 1000, Deadline(60)))
    rejected = {evidence.check for _, evidence in found if evidence.rejected}
    assert (f"many: {refutes}" in rejected) if refutes else not rejected
