"""Leaks of tokens that the target all but forbids: exact false alarms, and misses that hold however improbable."""

import numpy as np
import pytest
import torch

from specverify.errors import InputError
from specverify.evidence.design import rate_excess
from specverify.evidence.leaks import Leaks
from specverify.evidence.surprisal import Surprisal
from specverify.evidence.tokens import reduce

LAW = torch.tensor([0.7, 0.3 - 1e-10, 1e-10], dtype=torch.float64)


def trace(n, law, leaked, generator):
    tokens = torch.from_numpy((generator.random((n, 1)) > 0.7).astype(np.int64))
    tokens[torch.from_numpy(leaked)] = len(law) - 1
    return reduce(law.expand(n, 1, len(law)), tokens, generator)


def test_false_alarms_on_few_tokens_of_uneven_laws(seed):
    generator, alpha, trials, alarms = np.random.default_rng(seed), 0.05, 400, 0
    law = torch.tensor([0.999, 0.001], dtype=torch.float64).expand(20, 5, 2)
    for _ in range(trials):
        tokens = torch.from_numpy((generator.random((20, 5)) < 0.001).astype(np.int64))
        alarms += Leaks().check(reduce(law, tokens, generator), alpha=alpha, beta=0.1).rejected
    assert rate_excess(alarms, trials, alpha) > 1e-6


@pytest.mark.parametrize("tail", [1e-10, 1e-30])
def test_leaks_are_missed_at_most_at_beta_however_improbable_the_token(tail, seed):
    generator, rate, trials, misses = np.random.default_rng(seed), 0.05, 200, 0
    law = torch.tensor([0.7, 0.3 - tail, tail], dtype=torch.float64)
    n = Leaks().sample_size(0.005, alpha=1e-6, beta=rate)
    for _ in range(trials):
        found = Leaks().check(trace(n, law, generator.random(n) < 0.005, generator), alpha=1e-6, beta=rate)
        misses += not found.rejected
    assert rate_excess(misses, trials, rate) > 1e-6
    assert found.delta <= 0.005


def test_few_leaks_of_a_very_improbable_token_move_the_mean_surprisal_too_little():
    generator = np.random.default_rng(0)
    found = trace(2000, torch.tensor([0.7, 0.3, 1e-30], dtype=torch.float64), np.arange(2000) % 500 == 7, generator)
    assert Leaks().check(found, alpha=1e-6, beta=1e-6).rejected
    assert "not for a few very improbable tokens" in Surprisal().check(found, alpha=1e-6, beta=1e-6).blind


def test_the_position_that_leaks_most_is_named():
    generator = np.random.default_rng(0)
    tokens = torch.from_numpy((generator.random((500, 6)) > 0.7).astype(np.int64))
    tokens[::50, 4] = tokens[::200, 1] = 2
    found = Leaks().check(reduce(LAW.expand(500, 6, 3), tokens, generator), alpha=1e-6, beta=1e-6)
    assert found.rejected
    assert "; most at position 4: 10 of 500" in found.detail


def test_levels_finer_than_the_log_are_refused():
    assert Leaks(1e-3).check(trace(100, LAW, np.zeros(100, bool), np.random.default_rng(0)), alpha=0.1, beta=0.1).data[
        "level"
    ] == pytest.approx([0.1, 0.01, 0.001])
    with pytest.raises(InputError, match="finest is 0; a level of probability is above 0"):
        Leaks(0)
