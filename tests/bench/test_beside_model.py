"""What a decoder's step costs beside the forward pass of its model: 8 rows, windows of 16, 4,375 codes."""

import time

import pytest

from realmodels.models import open_model
from specverify.decoders import registry, sample

ALLOWED = {"sjd": 0.3, "scd-mc": 0.45}
"""Of the forward pass. The rest reads and writes the laws of the window over and over, which the model does once, where
it makes them; its three million weights are few beside those of a model that takes long."""


class Timed:
    """A model, and the seconds that its laws take."""

    def __init__(self, model):
        self.model, self.seconds = model, 0.0

    def __getattr__(self, name):
        return getattr(self.model, name)

    def laws(self, context, draft):
        start = time.perf_counter()
        found = self.model.laws(context, draft)
        self.seconds += time.perf_counter() - start
        return found


@pytest.mark.parametrize("name", sorted(ALLOWED))
def test_a_step_costs_less_than_its_forward_pass(name, compare, benchmark):
    model, decoder = open_model("cifar-fsq"), registry.build(name, registry.Settings(window=16))
    shares, work = [], lambda timed: sample(decoder, timed, 8, seed=0)
    benchmark.pedantic(work, (model,), rounds=1, warmup_rounds=1)
    for _ in range(5):
        timed, start = Timed(model), time.perf_counter()
        run = work(timed)
        took = time.perf_counter() - start
        shares.append((took / timed.seconds - 1, took, timed.seconds))
    share, took, forward = min(shares)
    compare(f"step beside its model {name}", share, seconds=took, forward=forward)
    assert run.tokens.shape == (8, 64)
    assert share < ALLOWED[name]
