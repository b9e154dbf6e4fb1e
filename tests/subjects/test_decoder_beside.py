"""Who counts calls, or whose rows look at each other, is not PROVED; who remembers what it computed is."""

import functools

import pytest
import torch

from specverify.decoders import registry
from specverify.decoders.registry import Settings
from specverify.subjects.decoder import judge_decoder
from specverify.verdict import Kind

QUICK = {"examples": 4, "toys": ("guided-2x5",)}


@functools.lru_cache
def table(size):
    return torch.arange(size)


class Plain:
    """Drafts by repetition, judged as jacobi decoding does."""

    def __init__(self):
        self.inner, self.seen = registry.build("sjd", Settings(2, "repeat-left")), torch.zeros(1)

    def init(self, model, batch, draws):
        return self.inner.init(model, batch, draws)

    def step(self, state, model, draws):
        self.look(state)
        return self.inner.step(state, model, draws)

    def look(self, state):
        assert int(table(len(state.length)).sum()) >= 0


class Counting(Plain):
    def look(self, state):
        self.seen += 1


class Crowded(Plain):
    """In a batch of which some rows are 7 tokens ahead, those that are get a shorter window."""

    def step(self, state, model, draws):
        ahead = bool((state.length.max() - state.length.min() > 7).any())
        return (self.inner if not ahead else registry.build("ar", Settings())).step(state, model, draws)


@pytest.mark.slow
def test_who_only_remembers_what_it_computed_is_proved():
    assert judge_decoder(Plain(), **QUICK).verdict.kind in (Kind.PROVED, Kind.PROVED_FOR_ALL)


@pytest.mark.parametrize(
    ("decoder", "said"),
    [
        (Counting, "changes when the same calls come again"),
        pytest.param(Crowded, "do otherwise than alone with the same coins", marks=pytest.mark.slow),
    ],
)
@pytest.mark.slow
def test_who_counts_or_looks_at_other_rows_is_not_proved(decoder, said):
    verdict = judge_decoder(decoder(), **QUICK).verdict
    assert verdict.kind is Kind.CONSISTENT
    assert said in verdict.reason
