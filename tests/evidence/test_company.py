"""Rows in a batch do what they do alone with the same coins; who makes them depend on each other is seen."""

from dataclasses import dataclass, replace

import pytest
import torch

from specverify import tree
from specverify.deadline import Deadline
from specverify.decoders import registry
from specverify.decoders.registry import Settings
from specverify.evidence.company import SIZES, Coins, company
from toymodels.wide import large

TARGET, DRAFT = large("rows", 4, 12), large("rows-draft", 4, 12)


@dataclass
class Disturbed:
    """A decoder whose draws are meddled with: change(weights, tokens, state, draw) -> tokens."""

    change: object
    name = "disturbed"

    def __post_init__(self):
        self.inner = registry.build("ar", Settings())

    def init(self, model, batch, draws):
        return self.inner.init(model, batch, draws)

    def step(self, state, model, draws):
        return self.inner.step(state, model, Meddled(draws, state, self.change))


class Meddled:
    def __init__(self, draws, state, change):
        self.draws, self.state, self.change = draws, state, change

    def categorical(self, weights, where):
        flat = self.change(weights.shape[:-1].numel(), self.state)
        changed = torch.where(flat.reshape(-1, *[1] * (weights.ndim - 1)), weights.flip(-1) * (weights > 0), weights)
        return self.draws.categorical(changed, where)


def few_left(rows, state):
    return torch.full((rows,), rows > 4 and int((~state.done).sum()) == 1)


def far_ahead(rows, state):
    return state.length > state.length.min() + 6


def seventeenth(rows, state):
    return torch.arange(rows) == 16


def crowd(rows, state):
    return torch.full((rows,), rows > 700)


@dataclass
class Shared(Disturbed):
    """Rows take the outcome of the row so far before them where both are in one state, of so many tokens at least."""

    far: int = 300
    least: int = 0

    def step(self, state, model, draws):
        after, info = self.inner.step(state, model, draws)
        before = torch.arange(len(state.length)) - self.far
        other = before.clamp(min=0)
        same = (before >= 0) & (state.tokens == state.tokens[other]).all(1) & (state.length == state.length[other])
        same &= state.length >= self.least
        after.tokens[same] = after.tokens[other[same]]
        return after, info


@pytest.mark.thinned(2)
@pytest.mark.parametrize(
    "decoder", [*map(Disturbed, (few_left, far_ahead, seventeenth, crowd)), Shared(None)],
    ids=["few left", "far ahead", "seventeenth", "crowd", "shared"],
)  # fmt: skip
def test_rows_that_depend_on_others_are_seen(decoder):
    seen = company(decoder, TARGET, 0, Deadline(60))
    assert "do otherwise than alone with the same coins" in seen.apart
    assert f"such as row {seen.row}, " in seen.apart
    assert f"in a batch of {seen.largest:,} rows" in seen.apart


class OneWay(Disturbed):
    """All rows share one outcome where the whole batch is in one state, of more than three tokens."""

    def step(self, state, model, draws):
        after, info = self.inner.step(state, model, draws)
        if int(state.length.min()) > 3 and bool((state.tokens == state.tokens[0]).all()):
            after.tokens[:] = after.tokens[0].clone()
        return after, info


@pytest.mark.thinned(2)
@pytest.mark.parametrize(
    "decoder", [*(Shared(None, far, least) for far in (1, 500) for least in (4, 8, 11)), OneWay(None)],
    ids=[*(f"{far} apart from {least}" for far in (1, 500) for least in (4, 8, 11)), "all"],
)  # fmt: skip
def test_rows_that_share_outcomes_late_in_a_sequence_are_seen(decoder):
    seen = company(decoder, TARGET, 0, Deadline(60))
    assert "do otherwise than alone with the same coins" in seen.apart


@pytest.mark.thinned(3)
@pytest.mark.parametrize("name", ["ar", "sd", "sjd", "scd-mc"])
def test_rows_that_do_not_are_not(name):
    decoder = registry.build(name, Settings(3, "random" if name == "sjd" else "repeat-left", DRAFT))
    seen = company(decoder, TARGET, 0, Deadline(60))
    assert (seen.apart, seen.largest) == ("", SIZES[-1])


class Prefilled(Disturbed):
    """The first row's context is every row's."""

    def init(self, model, batch, draws):
        state = self.inner.init(model, batch, draws)
        return replace(state, context=tree.rows(model.start(1), torch.zeros(batch, dtype=torch.int64)))


class Anew(Disturbed):
    """Every step begins with the whole sequence, as without a cache: rows keep their places."""

    def step(self, state, model, draws):
        if int(state.length.min()) == int(state.length.max()):
            context = model.start(len(state.length))
            for place in range(int(state.length[0])):
                one = torch.ones_like(state.length)
                context = model.advance(context, state.tokens[:, place : place + 1], one)
            state = replace(state, context=context)
        return self.inner.step(state, model, draws)


def test_rows_keep_conditions_that_they_began_with():
    def none(rows, state):
        return torch.zeros(rows, dtype=torch.bool)

    seen = company(Prefilled(none), TARGET, 0, Deadline(60))
    assert seen.apart.startswith("of 3 rows that begin with conditions of their own, ")
    assert company(Anew(none), TARGET, 0, Deadline(2)).apart == ""


def test_coins_of_a_row_are_its_own_and_uniform():
    rows = torch.arange(2_000)
    like, where = torch.zeros(2_000, 3), torch.ones(2_000, 3, dtype=torch.bool)
    together = Coins(5, rows, rows * 0).uniform(like.double(), where)
    apart = Coins(5, rows[7:8], rows[:1]).uniform(like[:1].double(), where[:1])
    assert torch.equal(together[7], apart[0])
    assert len(together.unique()) == together.numel()
    counts = torch.histc(together, 10, 0, 1)
    assert float(((counts - 600) ** 2 / 600).sum()) < 60  # 9 degrees of freedom: one seed, fixed


def test_a_draw_that_a_row_has_no_use_for_moves_none_of_its_others():
    draws = Coins(1, torch.arange(2), torch.zeros(2, dtype=torch.int64))
    draws.uniform(torch.zeros(2, 1), torch.tensor([[True], [False]]))
    second = draws.uniform(torch.zeros(2, 1), torch.ones(2, 1, dtype=torch.bool))
    first = Coins(1, torch.arange(2), torch.zeros(2, dtype=torch.int64)).uniform(
        torch.zeros(2, 1), torch.ones(2, 1) > 0
    )
    assert float(second[1]) == float(first[1])
    assert float(second[0]) != float(first[0])
