"""Sampled draws against their exact laws, their reproducibility, and what they refuse."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from specverify.draws import Sampled
from specverify.draws_inverse import token_at
from specverify.errors import ContractError, InputError
from specverify.seeds import derived_seed

N = 200_000
DTYPES = [torch.float64, torch.float32, torch.bfloat16]


def everywhere(*shape):
    return torch.ones(shape, dtype=torch.bool)


def codes(tokens, base):
    """Rows of digits as one integer each."""
    return tokens @ base ** torch.arange(tokens.shape[1]).flip(0)


class Fixed(Sampled):
    """Coins that all show one value, for the edges that no seed finds."""

    def __init__(self, value):
        super().__init__(0)
        self.value = value

    def uniform(self, like, where):
        return torch.full_like(like, self.value)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_accept_run_has_the_law_of_the_first_failure(dtype, seed, agrees):
    keep = torch.tensor([0.75, 0.5, 0.0, 1.0], dtype=dtype)
    run = Sampled(seed).accept_run(keep.expand(N, -1), everywhere(N, 4))
    agrees(torch.bincount(run, minlength=5), [0.25, 0.375, 0.375, 0, 0], sees=0.01)


def test_accept_run_stops_where_it_is_told_to(seed, agrees):
    keep, where = torch.full((N, 4), 0.5, dtype=torch.float64), everywhere(N, 4)
    where[:, 2] = False
    run = Sampled(seed).accept_run(keep, where)
    agrees(torch.bincount(run, minlength=5), [0.5, 0.25, 0.25, 0, 0], sees=0.01)
    assert not Sampled(seed).accept_run(keep, ~where)[: N // 2].any()
    assert torch.equal(Sampled(seed).accept_run(keep[:, :0], where[:, :0]), torch.zeros(N, dtype=torch.int64))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_bernoulli_coins_are_independent_and_have_their_probability(dtype, seed, agrees):
    chance = torch.tensor([0.25, 0.5, 1.0, 0.0], dtype=dtype)
    coins = Sampled(seed).bernoulli(chance.expand(N, -1), everywhere(N, 4)).long()
    law = [
        math.prod(p if bit == "1" else 1 - p for p, bit in zip(chance.tolist(), f"{code:04b}", strict=True))
        for code in range(16)
    ]
    agrees(torch.bincount(codes(coins, 2), minlength=16), law, sees=0.01)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("scale", [1.0, 16.0], ids=["law", "weights"])
def test_categorical_draws_each_law_independently_and_never_a_weight_of_zero(dtype, scale, seed, agrees):
    weights = scale * torch.tensor([[0, 0.5, 0.25, 0, 0.25, 0], [0.125, 0, 0, 0.75, 0, 0.125]], dtype=dtype)
    token = Sampled(seed).categorical(weights.expand(N, 2, 6), everywhere(N, 2))
    law = torch.outer(*(weights.double() / scale)).flatten()
    agrees(torch.bincount(codes(token, 6), minlength=36), law, sees=0.02)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_categorical_gives_every_token_of_a_large_vocabulary_its_share(dtype, seed, agrees):
    weights = torch.full((N // 4, 512), 1 / 512, dtype=dtype)
    token = Sampled(seed).categorical(weights, everywhere(N // 4))
    agrees(torch.bincount(token, minlength=512), torch.full((512,), 1 / 512), sees=0.04)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_one_race_under_several_laws_has_the_joint_law_of_exponential_arrivals(dtype, seed, agrees):
    laws = torch.tensor([[0.5, 0.25, 0.25, 0], [0.25, 0.25, 0.5, 0], [0, 0.125, 0.125, 0.75]], dtype=dtype)
    draws = Sampled(seed)
    race = draws.race(N, 2, 4)
    found = []
    for law in (*laws, laws[0]):
        token, race = draws.winner(race, law.expand(N, 2, -1), everywhere(N, 2))
        found.append(token)
    assert torch.equal(found[3], found[0])
    # An oracle that shares no code: numpy's exponentials, by the definition, many more of them.
    arrivals = np.random.default_rng(seed).exponential(size=(20 * N, 4))
    with np.errstate(divide="ignore"):
        oracle = [np.argmin(arrivals / law.double().numpy(), axis=1) for law in laws]
    expected = np.bincount(16 * oracle[0] + 4 * oracle[1] + oracle[2], minlength=64)
    for slot in range(2):
        joint = np.bincount(codes(torch.stack(found[:3], 2)[:, slot], 4), minlength=64)
        assert not joint[expected == 0].any()
        assert stats.chi2_contingency(np.stack([joint, expected])[:, expected >= 200]).pvalue >= 1e-6
        for k, law in enumerate(laws):
            agrees(torch.bincount(found[k][:, slot], minlength=4), law.double(), sees=0.01)
    both_slots = torch.bincount(codes(found[0], 4), minlength=16)
    agrees(both_slots, torch.outer(laws[0], laws[0]).double().flatten(), sees=0.02)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_uniform_and_normal_have_their_laws_and_dtype(dtype, seed):
    like = torch.zeros(N // 4, 4, dtype=dtype)
    uniform = Sampled(seed).uniform(like, everywhere(N // 4, 4))
    normal = Sampled(seed).normal(like, everywhere(N // 4, 4))
    assert uniform.dtype == normal.dtype == dtype
    assert uniform.min() >= 0
    assert uniform.max() < 1
    # n = 200,000: the Kolmogorov distance that passes is below 0.006, and 0.01 is seen with chance 0.999.
    assert stats.kstest(uniform.flatten().double(), "uniform").pvalue >= 1e-6
    assert stats.kstest(normal.flatten().double(), "norm").pvalue >= 1e-6


def test_outcomes_outside_where_are_zero_and_their_laws_are_not_looked_at(seed):
    draws, where = Sampled(seed), torch.tensor([[True, False], [False, True]])
    chance = torch.where(where, 1.0, torch.nan).double()
    weights = torch.where(where[..., None], torch.tensor([0.0, 0.0, 1.0]), torch.nan).double()
    assert torch.equal(draws.bernoulli(chance, where), where)
    assert torch.equal(draws.categorical(weights, where), 2 * where)
    token, race = draws.winner(noise := draws.race(2, 2, 3), weights, where)
    assert torch.equal(token, 2 * where)
    assert torch.equal(race, noise)
    assert torch.equal(draws.accept_run(chance, where), torch.tensor([1, 0]))
    draws.check()


def everything(draws):
    """One of each draw."""
    law, where = torch.full((32, 3, 4), 0.25, dtype=torch.float64), everywhere(32, 3)
    race = draws.race(32, 3, 4)
    return [
        draws.accept_run(law[..., 0], where),
        draws.bernoulli(law[..., 0], where),
        draws.categorical(law, where),
        race,
        draws.winner(race, law, where)[0],
        draws.uniform(law, everywhere(32, 3, 4)),
        draws.normal(law, everywhere(32, 3, 4)),
    ]


def test_the_same_seed_and_block_give_the_same_bits_and_others_do_not(seed):
    reference = everything(Sampled(seed, 3))
    assert all(map(torch.equal, reference, everything(Sampled(seed, 3))))
    for other in (Sampled(seed, 4), Sampled(seed + 1, 3)):
        assert not any(torch.equal(a, b) for a, b in zip(reference, everything(other), strict=True))


def test_seeds_of_parts_are_fixed_for_ever_and_differ():
    assert derived_seed(0) == 3527577169254209511
    assert derived_seed(0, 1) == 2891495331969630074
    assert (
        len({derived_seed(seed, *key) for seed in range(50) for key in [(), *((b,) for b in range(50)), (0, 0)]})
        == 2600
    )


@pytest.mark.parametrize("arguments", [(-1,), (0, -2)])
def test_negative_seeds_are_refused(arguments):
    with pytest.raises(InputError, match=f"seed {arguments[0]}, key .*at least 0"):
        derived_seed(*arguments)


NAN = torch.nan
FAULTS = {
    "bernoulli NaN": lambda d: d.bernoulli(torch.tensor([NAN]), everywhere(1)),
    "bernoulli negative": lambda d: d.bernoulli(torch.tensor([-0.1]), everywhere(1)),
    "accept_run NaN": lambda d: d.accept_run(torch.tensor([[NAN, 0.5]]), everywhere(1, 2)),
    "categorical zero": lambda d: d.categorical(torch.zeros(1, 3), everywhere(1)),
    "categorical NaN": lambda d: d.categorical(torch.tensor([[0.5, NAN]]), everywhere(1)),
    "categorical negative": lambda d: d.categorical(torch.tensor([[-0.5, 1.5]]), everywhere(1)),
    "categorical infinite": lambda d: d.categorical(torch.tensor([[1.0, math.inf]]), everywhere(1)),
    "winner zero": lambda d: d.winner(d.race(1, 1, 3), torch.zeros(1, 1, 3), everywhere(1, 1)),
    "winner NaN": lambda d: d.winner(d.race(1, 1, 2), torch.tensor([[[0.5, NAN]]]), everywhere(1, 1)),
    "winner negative": lambda d: d.winner(d.race(1, 1, 2), torch.tensor([[[-0.5, 1.5]]]), everywhere(1, 1)),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_an_impossible_law_is_remembered_and_reported(fault):
    draws = Sampled(0)
    draws.check()
    fault(draws)
    draws.bernoulli(torch.tensor([0.5]), everywhere(1))  # a later good draw hides nothing
    with pytest.raises(ContractError, match="NaN, negative or all-zero probabilities; run it under the enumerator"):
        draws.check()


def test_a_ratio_above_one_is_named_with_its_value():
    draws = Sampled(0)
    draws.bernoulli(torch.tensor([1 + 1e-6, 7.0]), torch.tensor([True, False]))
    draws.accept_run(torch.zeros(2, 0), everywhere(2, 0))
    draws.check()
    draws.accept_run(torch.tensor([[1.3, 0.5, 1.2]]), everywhere(1, 3))
    draws.bernoulli(torch.tensor([0.5]), everywhere(1))
    with pytest.raises(ContractError, match=r"1\.3 is no probability: accept_run takes min\(1, p / q\)"):
        draws.check()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_coins_at_their_edges_decide_as_exact_ones_would(dtype, monkeypatch):
    ulp = torch.finfo(dtype).eps / 2
    low, high = Fixed(0.0), Fixed(1 - ulp)
    one, zero, tiny = torch.ones(1, dtype=dtype), torch.zeros(1, dtype=dtype), torch.full((1,), 1e-30, dtype=dtype)
    assert low.bernoulli(one, everywhere(1))
    assert low.bernoulli(tiny, everywhere(1))
    assert not low.bernoulli(zero, everywhere(1)), "a coin of 0 accepted the impossible"
    assert high.bernoulli(one, everywhere(1))
    assert not high.bernoulli(1 - 2 * ulp * one, everywhere(1))
    for scale in (1.0, 1 + 2 * ulp, 2 - 2 * ulp, 1e-30, 3.0, 1e30):
        weights = torch.tensor([[0, 0, 0.3, 0, 0.7, 0, 0]], dtype=dtype) * scale
        for before in (0, 700):  # more than are added up one by one
            padded = torch.nn.functional.pad(weights, (before, before))
            assert low.categorical(padded, everywhere(1)) == 2 + before, "a coin of 0 chose a weight of 0"
            assert high.categorical(padded, everywhere(1)) == 4 + before, "a coin next to 1 chose a weight of 0"
    monkeypatch.setattr(torch, "rand", lambda *shape, dtype, **others: torch.zeros(shape, dtype=dtype))
    token, _ = low.winner(low.race(1, 1, 3), torch.tensor([[[0, 0.5, 0.5]]], dtype=dtype), everywhere(1, 1))
    assert token == 1, "an arrival at 0 made a weight of 0 win"


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("vocab", [513, 640, 4375])
def test_a_long_vocabulary_is_added_up_in_blocks_and_each_token_keeps_its_place(vocab, dtype):
    """Each token of positive weight is met just behind its edge, and no other one anywhere."""
    weights = torch.rand(4, vocab, generator=torch.Generator().manual_seed(vocab), dtype=torch.float64)
    weights = weights.where(torch.arange(vocab) % 3 > 0, 0).to(dtype)
    weights[1, : vocab // 4], weights[2, -(vocab // 4) :] = 0, 0
    edges, most = torch.nn.functional.pad(weights.double().cumsum(-1), (1, 0)), 1 - torch.finfo(dtype).eps / 2
    every = torch.arange(0, vocab, 1 + vocab // 600)
    laws, mine = weights[:, None].expand(-1, len(every), -1), weights[:, every]
    for share in (0.001, 0.5, 0.999):
        quantile = ((edges[:, every] + share * mine) / edges[:, -1:]).to(dtype).clamp(max=most)
        found = token_at(laws, quantile, True)[0].squeeze(-1)
        assert (weights.gather(-1, found) > 0).all()
        clear = min(share, 1 - share) * mine > 8 * torch.finfo(dtype).eps * edges[:, -1:]  # of what rounding moves
        assert clear.float().mean() > 0.4 or share != 0.5
        assert torch.equal(found[clear], every.expand(4, -1)[clear])
    steps = torch.arange(1000).div(1000).to(dtype).expand(4, -1)
    found = token_at(weights[:, None].expand(-1, 1000, -1), steps, True)[0].squeeze(-1)
    assert (weights.gather(-1, found) > 0).all()


def added_in_parallel(weights, dim):
    """Sums as threads of a GPU make them that each add what lies 1, 2, 4, ... places before (cub::DeviceScan)."""
    sums, step = weights.clone(), 1
    while step < sums.shape[dim]:
        sums[..., step:] = sums[..., step:] + sums[..., :-step]
        step *= 2
    return sums


def test_a_weight_of_0_never_wins_whatever_order_sums_are_made_in(monkeypatch):
    monkeypatch.setattr(torch.Tensor, "cumsum", added_in_parallel)
    weights = torch.rand(1, 4096, generator=torch.Generator().manual_seed(0))
    weights = weights.where(torch.arange(4096) % 3 > 0, 0)
    edges = weights.cumsum(-1)
    rises = (edges.diff() > 0) & (weights[:, 1:] == 0)
    assert int(rises.sum()) > 50
    worst = edges[0, :-1][rises[0]] / edges[0, -1]  # coins that fall where such an edge rises
    for value in worst.tolist():
        draws = Fixed(value)
        draws.device = torch.device("meta")  # any that is not the CPU, whose sums are made one after the other
        assert float(weights[0, draws.categorical(weights, everywhere(1))]) > 0


def test_races_are_drawn_where_they_are_asked_for_and_are_none_elsewhere():
    draws, weights = Sampled(3), torch.full((64, 5, 700), 1 / 7)
    where = torch.rand(64, 5, generator=draws.generator) < 0.3
    race = draws.race(64, 5, 700, where)
    assert ((race > 0) == where[..., None]).all()
    token, _ = draws.winner(race, weights, where)
    draws.check()
    assert token[where].unique().numel() > where.sum() / 2
    assert (token[~where] == 0).all()
    assert stats.kstest(race[where].flatten(), "expon").pvalue >= 1e-6
    draws.winner(race, weights, where | ~where)
    with pytest.raises(ContractError, match="asked for a draw without noise"):
        draws.check()
