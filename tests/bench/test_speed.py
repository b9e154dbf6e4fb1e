"""How fast decoders are sampled and enumerated, beside a fixed piece of work; `nox -s bench` prints the table."""

import resource
import time

import pytest
import torch

import toymodels
from specverify.decoders import registry, sample
from specverify.evidence.enumerate import enumerate_decoder
from specverify.evidence.sequences import target_law

SEQUENCES = 8 * 16_384


@pytest.mark.parametrize("name", ["sjd", "scd-mc", "scd-gs", "sd", "ar"])
def test_sampling_a_toy(benchmark, compare, yardstick, name):
    """Vocabulary 4, length 6, window 4; beside a plain loop over single sequences."""
    model = toymodels.toy("dense-4x6", dtype=torch.float32)
    draft_model = toymodels.draft("perturbed", model)
    decoder = registry.build(name, registry.Settings(window=4, draft_model=draft_model))
    sample(decoder, model, 16_384, seed=1)
    run = benchmark.pedantic(sample, (decoder, model, SEQUENCES, 0), rounds=3)
    assert run.tokens.shape == (SEQUENCES, 6)
    start = time.perf_counter()
    sample(decoder, model, 100, seed=0, block=1)
    one_by_one = 100 / (time.perf_counter() - start)
    took = benchmark.stats.stats.min
    times = SEQUENCES / took / one_by_one
    compare(f"sampling {name}", took / yardstick, seconds=took, faster_than_one_by_one=times)
    assert times > 50


class Timed:
    """A decoder, and the seconds that its own steps take."""

    def __init__(self, decoder):
        self.decoder, self.seconds = decoder, 0.0

    def __getattr__(self, name):
        return getattr(self.decoder, name)

    def step(self, *arguments):
        start = time.perf_counter()
        try:
            return self.decoder.step(*arguments)
        finally:
            self.seconds += time.perf_counter() - start


@pytest.mark.parametrize(
    ("name", "toy", "window", "initial", "goal"),
    [
        ("sjd", "dense-4x6", 4, "repeat-left", 5.0),
        ("sjd", "dense-3x6", 5, "random", 0.5),
        ("scd-mc", "dense-3x6", 5, "random", 2.0),
        ("sjd", "dense-3x6", 5, "repeat-left", None),
        ("scd-mc", "dense-3x6", 5, "repeat-left", None),
        ("sjd", "dense-2x8", 6, "repeat-left", None),
        ("scd-mc", "dense-2x8", 6, "repeat-left", None),
    ],
)
def test_enumerating_a_toy(benchmark, compare, yardstick, name, toy, window, initial, goal):
    """`goal` are seconds on an idle core, printed beside what it took; a busy machine takes more.

    On any machine the decoder's own steps, one row for each world, are a large part of it: the rest makes the worlds,
    merges and adds them up.
    """
    model = toymodels.toy(toy)
    decoder = registry.build(name, registry.Settings(window=window, initial=initial))
    exact = benchmark.pedantic(enumerate_decoder, (decoder, model), rounds=3)
    assert exact.tv(target_law(model)) < 1e-12
    took = benchmark.stats.stats.min
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    timed, start = Timed(decoder), time.perf_counter()
    enumerate_decoder(timed, model)
    beside_steps = (time.perf_counter() - start) / timed.seconds
    more = {"beside_steps": beside_steps} | ({} if goal is None else {"goal": goal})
    compare(f"enumerating {name} {toy} w{window} {initial}", took / yardstick, seconds=took, worlds=exact.worlds,
            states=exact.states, gigabytes=memory, **more)  # fmt: skip
    assert memory < 2
    if goal is not None:
        assert beside_steps < 2.5
