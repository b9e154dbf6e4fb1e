"""Rows of a kernel's calls that depend on each other are seen, wherever in the call they stand; others are not."""

import numpy as np
import pytest
import torch

from specverify.defects import rounds
from specverify.seeds import derived_seed
from specverify.subjects.rounds import independence
from specverify.subjects.rounds.conventions import tossing
from specverify.subjects.rounds.kernel import Kernel
from specverify.subjects.rounds.reference import Parts, verify

ALPHAS = dict.fromkeys(independence.NAMES, 1e-7)


def _tossed(name, change):
    """The token rule, with coins that are meddled with: change(coins), one row of coins for each row of a call."""

    def with_coins(given, coins, pick):
        changed = change(torch.cat([coins, pick[:, None]], 1))
        return verify(Parts(), given, changed[:, :-1], changed[:, -1])

    return Kernel(name, tossing(with_coins))


def _half(coins):
    half = len(coins) // 2
    return torch.cat([coins[:half], 1 - coins[:half] - 2**-24, coins[2 * half :]])


def _tail(coins):
    return torch.cat([coins[:64], coins[63:64].expand(max(0, len(coins) - 64), -1)]) if len(coins) > 64 else coins


def _few(coins):
    return coins[:1].expand_as(coins) if len(coins) < 32 else coins


def _two_apart(coins):
    return coins[(torch.arange(len(coins)) - 2).clamp(min=0)] if len(coins) % 2 else coins


WRONG = {"half a call": _half, "behind row 64": _tail, "calls of few rows": _few, "odd calls": _two_apart}


def _rejected(kernel, seed):
    generator = torch.Generator().manual_seed(seed)
    found = independence.check(kernel, 3, seed, generator, ALPHAS, 0.01)
    assert [item.check for item in found if item.check.startswith("pairs")] == ["pairs of rows", "pairs in small calls"]
    return {item.check for item in found if item.rejected}


@pytest.mark.thinned(2)
@pytest.mark.parametrize("name", WRONG)
def test_rows_with_each_others_coins_are_seen(name, seed):
    assert _rejected(_tossed(name, WRONG[name]), derived_seed(seed, 1)) & {"pairs of rows", "pairs in small calls"}


@pytest.mark.thinned(2)
@pytest.mark.parametrize("name", ["opposite-coins-in-pairs", "one-stream-in-the-last-block"])
def test_the_catalogue_s_own_are_seen_by_no_other_check(name, seed):
    found = _rejected(rounds.get(name).kernel, derived_seed(seed, 2))
    assert found
    assert found <= {"pairs of rows", "pairs in small calls"}


def test_rows_with_coins_of_their_own_are_not(seed):
    assert _rejected(_tossed("right", lambda coins: coins), derived_seed(seed, 3)) == set()


def test_independent_outcomes_are_rejected_no_more_often_than_stated(seed):
    """At alpha = 5% of 300 samples, 30 rejections have probability 3e-4: the rate is that of a bound, far below."""
    rng, rejected = np.random.default_rng(seed), 0
    for _ in range(300):
        blocks = rng.choice(5, (800, 1), p=[0.6, 0.2, 0.1, 0.07, 0.03])
        blocks = np.concatenate([blocks, blocks % 2], 1)
        played = [(blocks, (1, 2, 3)), (blocks[:400], (1, 5))]
        rejected += independence._pairs("pairs of rows", played, rng, 0.05, 0.01).rejected
    assert rejected < 30


def test_what_is_planned_is_what_is_played(seed):
    kernel = _tossed("right", lambda coins: coins)
    generator = torch.Generator().manual_seed(derived_seed(seed, 4))
    found = {item.check: item for item in independence.check(kernel, 3, 0, generator, ALPHAS, 0.01)}
    planned = independence.planned()
    for name in ("pairs of rows", "pairs in small calls"):
        assert found[name].n == planned[name]
