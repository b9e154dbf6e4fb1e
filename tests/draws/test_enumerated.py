"""Enumerated draws: every outcome with its probability, none twice, and the same law as sampled ones."""

import re
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from specverify.draws import Sampled
from specverify.enumerated import Enumerated
from specverify.errors import ContractError
from specverify.worlds import follow

N = 200_000
EXACT = {"rtol": 0, "atol": 1e-12}


def everywhere(*shape):
    return torch.ones(shape, dtype=torch.bool)


def some_of_everything(draws, batch, dtype=torch.float64):
    """Draws whose laws depend on earlier outcomes, as a decoder's do; the outcome as one integer below 192."""
    laws = torch.tensor([[0.1, 0.2, 0.7, 0], [0, 0.5, 0.5, 0], [0.25, 0.25, 0.25, 0.25]], dtype=dtype)
    chances = torch.tensor([0.0, 0.25, 0.5, 1.0], dtype=dtype)
    run = draws.accept_run(torch.tensor([0.75, 0.5], dtype=dtype).expand(batch, -1), everywhere(batch, 2))
    token = draws.categorical(3 * laws[run], everywhere(batch))
    coins = draws.bernoulli(torch.stack([chances[token], chances.flip(0)[token]], 1), run[:, None] > torch.arange(2))
    race = draws.race(batch, 1, 2)
    heads = torch.stack([chances[token], 1 - chances[token]], 1)[:, None]
    first, race = draws.winner(race, heads, everywhere(batch, 1))
    other = torch.tensor([0.4, 0.6], dtype=dtype).expand(batch, 1, -1)
    second, race = draws.winner(race, other, run[:, None] == 1)
    digits = torch.cat([run[:, None], token[:, None], coins.long(), first, second], 1)
    return (digits * torch.tensor([64, 16, 8, 4, 2, 1])).sum(1)


def law_of(worlds, function, size):
    code, weight = worlds(lambda draws: function(draws, draws.batch))
    return torch.zeros(size, dtype=torch.float64).index_add(0, code, weight), len(weight)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_the_enumerated_law_is_the_one_that_sampling_shows(dtype, worlds, seed, agrees):
    law, _ = law_of(worlds, lambda draws, batch: some_of_everything(draws, batch, dtype), 192)
    assert_close(law.sum(), torch.ones_like(law.sum()), **EXACT)
    assert (law > 0).sum() > 25
    code = some_of_everything(Sampled(seed), N, dtype)
    agrees(torch.bincount(code, minlength=192), law, sees=0.02)


def test_an_acceptance_run_costs_one_world_per_length_and_certain_outcomes_cost_none(worlds):
    half, all_six = torch.full((1, 6), 0.5, dtype=torch.float64), everywhere(1, 6)

    def run(draws, batch, where=all_six, probability=half):
        return draws.accept_run(probability.expand(batch, -1), where.expand(batch, -1))

    law, count = law_of(worlds, run, 7)
    assert count == 7
    assert_close(law, torch.tensor([2.0**-k for k in (1, 2, 3, 4, 5, 6, 6)], dtype=torch.float64), **EXACT)
    assert law_of(worlds, lambda draws, batch: run(draws, batch, ~all_six), 7)[1] == 1
    law, count = law_of(worlds, lambda draws, batch: run(draws, batch, torch.arange(6)[None] < 2), 7)
    assert count == 3
    assert law[2] == 0.25
    assert law_of(worlds, lambda draws, batch: run(draws, batch, probability=half.ceil()), 7)[1] == 1


def test_slots_are_independent_and_unused_ones_do_not_branch(worlds):
    laws = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.0, 0.9], [0.3, 0.3, 0.4]], dtype=torch.float64)
    used = torch.tensor([[True, True, False]])

    def tokens(draws, batch):
        token = draws.categorical(laws.expand(batch, -1, -1), used.expand(batch, -1))
        return 9 * token[:, 2] + 3 * token[:, 0] + token[:, 1]

    law, count = law_of(worlds, tokens, 27)
    assert count == 6
    assert_close(law[:9], torch.outer(laws[0], laws[1]).flatten(), **EXACT)


@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=5))  # so that intervals have a middle
def test_a_race_over_two_tokens_is_one_uniform_however_often_it_is_asked(worlds, heads):
    heads = torch.tensor(heads, dtype=torch.float64)

    def asked(draws):
        race, found = draws.race(draws.batch, 1, 2), []
        for head in heads:
            weights = torch.stack([head, 1 - head]).expand(draws.batch, 1, -1)
            token, race = draws.winner(race, weights, everywhere(draws.batch, 1))
            found.append(token)
        _, known = draws.finish(race)
        return torch.cat([*found, known[:, 0]], 1)

    result, weight = worlds(asked)
    low, high = result[:, -2:].unbind(1)
    # The intervals are disjoint and cover [0, 1], each is as probable as it is long and settles all answers inside it.
    order = low.argsort()
    assert_close(low[order][1:], high[order][:-1], rtol=0, atol=0)
    assert (low.min(), high.max()) == (0, 1)
    assert_close(weight, high - low, **EXACT)
    middle = (low + high) / 2
    assert torch.equal(result[:, :-2] == 0, middle[:, None] < heads)


def test_a_race_that_is_not_asked_stays_whole(worlds):
    def asked(draws):
        token, race = draws.winner(
            draws.race(draws.batch, 2, 2),
            torch.full((draws.batch, 2, 2), 0.5, dtype=torch.float64),
            torch.tensor([[True, False]]).expand(draws.batch, -1),
        )
        _, known = draws.finish(race)
        return torch.cat([token, known.flatten(1)], 1)

    result, weight = worlds(asked)
    assert result.tolist() == [[0, 0, 0, 0.5, 0, 1], [1, 0, 0.5, 1, 0, 1]]
    assert weight.tolist() == [0.5, 0.5]


where = everywhere(1)
REFUSED = {
    "race over three": (lambda d: d.race(1, 1, 3), "a race over 3 tokens cannot be enumerated; use a model with two"),
    "race over one": (lambda d: d.race(1, 1, 1), "a race over 1 tokens cannot be enumerated"),
    "uniform": (
        lambda d: d.uniform(torch.zeros(1), where),
        "a uniform draw has no finite outcomes; ask for the decision",
    ),
    "normal": (
        lambda d: d.normal(torch.zeros(1), where),
        "a normal draw has no finite outcomes; decoders of continuous",
    ),
    "NaN coin": (
        lambda d: d.bernoulli(torch.tensor([torch.nan]), where),
        "bernoulli was asked with probability nan; a draft with q = 0 gives NaN here",
    ),
    "coin above 1": (
        lambda d: d.bernoulli(torch.tensor([1.5]), where),
        "1.5 is no probability: bernoulli takes a number",
    ),
    "run above 1": (
        lambda d: d.accept_run(torch.tensor([[0.5, 1.3]]), everywhere(1, 2)),
        "1.3 is no probability: accept_run takes min(1, p / q)",
    ),
    "negative run": (
        lambda d: d.accept_run(torch.tensor([[0.5, -0.25]]), everywhere(1, 2)),
        "-0.25 is no probability: accept_run takes min(1, p / q)",
    ),
    "no weight": (
        lambda d: d.categorical(torch.zeros(1, 2), where),
        "categorical was asked with the weights [0.0, 0.0], which are no law",
    ),
    "negative weight": (
        lambda d: d.categorical(torch.tensor([[1.5, -0.5]]), where),
        "categorical was asked with the weights [1.5, -0.5], which are no law",
    ),
    "NaN race": (
        lambda d: d.winner(d.race(1, 1, 2), torch.tensor([[[torch.nan, 1.0]]]), everywhere(1, 1)),
        "winner was asked with the weights [nan, 1.0], which are no law",
    ),
}


@pytest.mark.parametrize(("ask", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_enumerated_is_refused_with_the_value(ask, message):
    with pytest.raises(ContractError, match=re.escape(message)):
        ask(Enumerated(1))


def test_impossible_laws_are_ignored_where_they_are_not_used(worlds):
    def unused(draws):
        nowhere = ~everywhere(draws.batch)
        nan = torch.full((draws.batch,), torch.nan)
        coin = draws.bernoulli(nan, nowhere)
        token = draws.categorical(nan[:, None].expand(-1, 3), nowhere)
        return coin.long() + token

    result, weight = worlds(unused)
    assert (result.tolist(), weight.tolist()) == ([0], [1.0])


def test_draws_that_change_on_replay_are_caught(worlds):
    calls = []

    def fickle(draws):
        calls.append(None)
        half = torch.full((draws.batch,), 0.5)
        if len(calls) == 1:
            draws.bernoulli(half, everywhere(draws.batch))
        return draws.accept_run(half[:, None], everywhere(draws.batch, 1))

    with pytest.raises(ContractError, match="asked for accept_run where it asked for bernoulli before"):
        worlds(fickle)


@dataclass(frozen=True)
class Older:
    """Older by one each time that it is made, which enumeration does more often than sampling."""

    age: Any

    def __post_init__(self):
        object.__setattr__(self, "age", self.age + 1)


def test_a_state_that_is_another_once_it_is_made_anew_is_refused():
    with pytest.raises(ContractError, match="made anew of its own tensors"):
        list(follow(lambda _, draws: Older(torch.zeros(draws.batch)), None, torch.ones(1)))
