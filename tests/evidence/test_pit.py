"""Checks on transforms: exact rates, known powers, and what each of them is there to see."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from specverify.errors import InputError
from specverify.evidence.design import rate_excess
from specverify.evidence.pit import PitPairs, PitPositions, PitUniformity
from specverify.evidence.tokens import TILTS, TokenStatistics, reduce

CHECKS = {
    "uniformity": PitUniformity(),
    "positions": PitPositions(8),
    "pairs": PitPairs(),
    "pairs two apart": PitPairs(lag=2, grid=3),
    "pairs across rows": PitPairs(across=True),
}


def trace(pit):
    """A trace with these transforms; of the rest, checks on transforms read only which positions are open."""
    pit = torch.as_tensor(pit)
    zeros = torch.zeros_like(pit)
    return TokenStatistics(
        pit=pit,
        surprisal=zeros,
        entropy=torch.ones_like(pit),
        variance=zeros,
        tilted=torch.zeros(*pit.shape, len(TILTS), dtype=torch.float64),
        open=torch.ones_like(pit, dtype=torch.bool),
        impossible=torch.zeros_like(pit, dtype=torch.bool),
    )


def draw(laws, generator):
    """One token from each law."""
    return torch.from_numpy((laws.double().cumsum(-1).numpy() < generator.random((*laws.shape[:2], 1))).sum(-1))


@pytest.mark.thinned(2)
@pytest.mark.parametrize("name", sorted(CHECKS))
def test_false_alarm_rate_of_perfect_traces(name, seed):
    # real laws that depend on the tokens before, among them certain ones and ones with forbidden tokens
    generator, alpha, trials = np.random.default_rng(seed), 0.05, 120
    table = torch.from_numpy(generator.dirichlet(np.full(6, 0.5), size=(6, 6)))
    table[0, 0] = torch.eye(6, dtype=torch.float64)[2]
    table[1, :, 3] = 0
    table = table / table.sum(-1, keepdim=True)
    alarms = 0
    for _ in range(trials):
        tokens, laws = torch.zeros(40, 2, dtype=torch.int64), []
        for _ in range(8):
            laws.append(table[tokens[:, -2], tokens[:, -1]])
            tokens = torch.cat([tokens, draw(laws[-1][:, None], generator)], 1)
        found = reduce(torch.stack(laws, 1), tokens[:, 2:], generator)
        alarms += CHECKS[name].check(found, alpha=alpha, beta=0.1).rejected
    assert rate_excess(alarms, trials, alpha) > 1e-6


def test_the_kolmogorov_statistic_is_scipys(seed):
    from scipy import stats

    pit = np.random.default_rng(seed).random((30, 7)) ** 1.2
    found = PitUniformity().check(trace(pit), alpha=0.01, beta=0.1)
    reference = stats.kstest(pit.ravel(), "uniform", method="exact")
    assert found.statistic == pytest.approx(reference.statistic, abs=1e-15)
    assert found.p_value == pytest.approx(reference.pvalue, rel=1e-9)


@pytest.mark.thinned(2)
@pytest.mark.parametrize("level", [0.1, 0.5, 0.8])
@pytest.mark.parametrize("sign", [1, -1])
def test_miss_rate_of_uniformity_at_the_stated_distance(level, sign, seed):
    generator, rate, delta, trials = np.random.default_rng(seed), 0.05, 0.08, 100
    n = PitUniformity().sample_size(delta, alpha=1e-6, beta=rate)
    misses = 0
    for _ in range(trials):
        # the least visible law at this distance: mass delta moved across one level, next to it
        below = generator.random(n) < level + sign * delta
        pit = np.where(below, generator.random(n) * level, level + generator.random(n) * (1 - level))
        misses += not PitUniformity().check(trace(pit[None]), alpha=1e-6, beta=rate).rejected
    assert rate_excess(misses, trials, rate) > 1e-6


def test_miss_rate_holds_for_tokens_that_depend_on_each_other(seed):
    # each row starts right and, once a transform exceeds 0.9, puts all its mass below the level 1/2 for a while
    generator, rate, trials, rows, length = np.random.default_rng(seed), 0.1, 60, 60, 30
    check = PitUniformity()
    misses = judged = 0
    delta = check.smallest_detectable(rows * length, alpha=0.01, beta=rate)
    for _ in range(trials):
        pit, shift = np.zeros((rows, length)), 0.0
        lured = np.zeros(rows, dtype=bool)
        for t in range(length):
            u = generator.random(rows)
            pit[:, t] = np.where(lured, u / 2, u)
            shift += lured.sum() * 0.5
            lured = np.where(lured, generator.random(rows) < 0.9, pit[:, t] > 0.9)
        if shift / pit.size >= delta:
            judged += 1
            misses += not check.check(trace(pit), alpha=0.01, beta=rate).rejected
    assert judged == trials
    assert rate_excess(misses, trials, rate) > 1e-6


def test_the_upper_bound_holds_the_distance(seed):
    generator, alpha, trials = np.random.default_rng(seed), 0.1, 100
    below = 0
    for _ in range(trials):
        u = generator.random((1, 2000))
        found = PitUniformity().check(
            trace(np.where(u < 0.6, u / 0.6 * 0.5, 0.5 + (u - 0.6) / 0.8)), alpha=alpha, beta=0.1
        )
        below += found.interval[1] < 0.1
        assert found.interval[1] < 0.2
    assert rate_excess(below, trials, alpha) > 1e-6


def test_a_position_that_is_off_is_named(seed):
    generator = np.random.default_rng(seed)
    pit = generator.random((2000, 8))
    pit[:, 5] **= 1.5
    found = PitPositions(8).check(trace(pit), alpha=1e-6, beta=1e-6)
    assert found.rejected
    assert found.data["rejected"] == [t == 5 for t in range(8)]
    assert "1 of 8 positions rejected; most deviant: position 5" in found.detail


def test_miss_rate_of_one_position(seed):
    generator, rate, delta, trials = np.random.default_rng(seed), 0.05, 0.2, 60
    check = PitPositions(8)
    n = check.sample_size(delta, alpha=1e-6, beta=rate)
    misses = 0
    for _ in range(trials):
        pit = generator.random((n, 8))
        pit[:, 2] = np.where(generator.random(n) < 0.7, pit[:, 2] / 2, 0.5 + pit[:, 2] / 2)
        misses += not check.check(trace(pit), alpha=1e-6, beta=rate).rejected
    assert rate_excess(misses, trials, rate) > 1e-6


@pytest.mark.parametrize("across", [False, True], ids=["positions", "rows"])
def test_dependence_is_seen_where_every_marginal_is_uniform(across, seed):
    generator = np.random.default_rng(seed)
    pit = generator.random((400, 16))
    copied = generator.random((400, 15)) < 0.4
    pit[:, 1:] = np.where(copied, pit[:, :-1], pit[:, 1:])
    statistics = trace(pit.T.copy() if across else pit)
    assert PitPairs(across=across).check(statistics, alpha=1e-6, beta=1e-6).rejected
    assert not PitPairs(across=not across).check(statistics, alpha=1e-6, beta=1e-6).rejected
    assert not PitUniformity().check(trace(pit[:, ::4].copy()), alpha=1e-6, beta=1e-6).rejected


def test_every_pair_is_in_one_phase_and_no_token_twice_in_it(seed):
    for lag, length in ((1, 7), (2, 9), (3, 8), (4, 5)):
        pit = np.random.default_rng(seed).random((3, length))
        found = PitPairs(lag=lag).check(trace(pit), alpha=0.01, beta=0.1)
        pairs = [sum(map(sum, table)) for table in found.data["cells"]]
        assert sum(pairs) == 3 * (length - lag)
        assert max(pairs) <= 3 * (length // 2)


def test_miss_rate_of_pairs_at_the_stated_distance(seed):
    generator, rate, trials, grid = np.random.default_rng(seed), 0.05, 60, 4
    # copies with probability 0.2: the cell of the pair is at total variation 0.2 (1 - 1 / grid)
    delta = 0.2 * (1 - 1 / grid)
    check = PitPairs(grid=grid)
    n = check.sample_size(delta, alpha=1e-6, beta=rate)
    misses = 0
    for _ in range(trials):
        pit = generator.random((n, 2))
        pit[:, 1] = np.where(generator.random(n) < 0.2, pit[:, 0], pit[:, 1])
        misses += not check.check(trace(pit), alpha=1e-6, beta=rate).rejected
    assert rate_excess(misses, trials, rate) > 1e-6


@pytest.mark.parametrize("name", sorted(CHECKS))
def test_an_impossible_token_rejects_at_once(name):
    laws = torch.tensor([0.5, 0.5, 0.0]).expand(50, 8, 3)
    tokens = torch.zeros(50, 8, dtype=torch.int64)
    tokens[:, ::2], tokens[3, 4] = 1, 2
    found = CHECKS[name].check(reduce(laws, tokens, np.random.default_rng(0)), alpha=1e-9, beta=0.1)
    assert found.rejected
    assert found.p_value == 0
    assert "1 token of probability 0" in found.detail


@pytest.mark.parametrize("name", sorted(CHECKS))
def test_certain_laws_are_vacuous(name):
    laws = torch.tensor([0.0, 1.0]).expand(500, 8, 2)
    found = CHECKS[name].check(
        reduce(laws, torch.ones(500, 8, dtype=torch.int64), np.random.default_rng(0)), alpha=0.01, beta=0.01
    )
    assert found.vacuous == "every law leaves a single token: only forbidden tokens could be seen"
    assert found.coverage["open"] == 0
    assert not found.rejected


@pytest.mark.thinned(2)
@pytest.mark.parametrize("name", sorted(CHECKS))
@settings(max_examples=12)
@given(delta=st.floats(0.01, 0.5), rate=st.floats(1e-9, 0.3))
def test_sample_size_sees_delta_and_grows_as_it_shrinks(name, delta, rate):
    check = CHECKS[name]
    n = check.sample_size(delta, alpha=rate, beta=rate)
    assert check.smallest_detectable(n, alpha=rate, beta=rate) <= delta
    assert check.sample_size(delta / 2, alpha=rate, beta=rate) > n


def test_the_sign_says_which_tokens_come_too_often():
    generator = np.random.default_rng(0)
    law = torch.from_numpy(generator.dirichlet(np.ones(30)))
    cold = (law**1.5 / (law**1.5).sum()).expand(200, 20, 30)
    hot = (law**0.5 / (law**0.5).sum()).expand(200, 20, 30)
    for wrong, side in ((cold, ": likely tokens"), (hot, ": unlikely tokens")):
        found = reduce(law.expand(200, 20, 30), draw(wrong, generator), generator)
        assert side in PitUniformity().check(found, alpha=1e-6, beta=0.1).detail


def test_bad_input_is_named():
    with pytest.raises(InputError, match="no two tokens are 8 apart on an axis of 8"):
        PitPairs(lag=8).check(trace(np.full((3, 8), 0.5)), alpha=0.01, beta=0.1)
    with pytest.raises(InputError, match="lag is 0"):
        PitPairs(lag=0)
    with pytest.raises(InputError, match="grid is 1"):
        PitPairs(grid=1)
    with pytest.raises(InputError, match="length is 0"):
        PitPositions(0)
    with pytest.raises(InputError, match="alpha is 0"):
        PitUniformity().check(trace(np.full((3, 8), 0.5)), alpha=0.0, beta=0.1)


def test_tokens_without_a_choice_are_not_counted_and_cost_sight():
    generator = np.random.default_rng(0)
    pit = torch.from_numpy(generator.random((100, 50)))
    few = replace(trace(pit), open=torch.arange(50).expand(100, 50) < 10)
    full = PitUniformity().check(trace(pit[:, :10]), alpha=0.01, beta=0.05)
    plain, fitted = (PitUniformity(fitted=fitted).check(few, alpha=0.01, beta=0.05) for fitted in (False, True))
    assert full.n == plain.n == fitted.n == 1000
    assert full.delta < fitted.delta < plain.delta
    sure = replace(trace(pit), entropy=torch.full((100, 50), 0.005))
    assert PitUniformity().check(sure, alpha=0.01, beta=0.05).n == 0
    assert PitUniformity().check(sure, alpha=0.01, beta=0.05).vacuous


def test_a_fitted_sample_keeps_its_rate_though_the_tokens_decide_how_many_there_are(seed):
    # a row ends as soon as its share below 1/2 is large
    generator, alpha, trials, alarms = np.random.default_rng(seed), 0.1, 300, 0
    for _ in range(trials):
        pit = generator.random((4, 40))
        ahead = np.cumsum((pit < 0.5) - 0.5, axis=1) / np.sqrt(np.arange(1, 41)) > 0.8
        is_open = np.cumsum(np.pad(ahead[:, :-1], ((0, 0), (1, 0))), axis=1) == 0
        found = replace(trace(np.where(is_open, pit, generator.random((4, 40)))), open=torch.from_numpy(is_open))
        alarms += PitUniformity(fitted=True).check(found, alpha=alpha, beta=0.1).rejected
    assert rate_excess(alarms, trials, alpha) > 1e-6


def test_one_coin_for_each_row_is_missed_at_most_at_beta_at_what_is_stated_over_rows(seed):
    generator, rate, delta, length, trials = np.random.default_rng(seed), 0.05, 0.06, 64, 60
    rows = -(-PitUniformity(together=length).sample_size(delta, alpha=0.01, beta=rate) // length)
    misses = over_traces = 0
    for _ in range(trials):
        pit = generator.random((rows, length))
        wrong = generator.random((rows, 1)) < 2 * delta
        found = PitUniformity().check(trace(np.where(wrong, pit / 2, pit)), alpha=0.01, beta=rate)
        misses += not found.rejected
        over_traces += wrong.mean() / 2 >= found.delta and not found.rejected
    assert rate_excess(misses, trials, rate) > 1e-6
    assert rate_excess(over_traces, trials, rate) > 1e-6, "of this trace"
    assert found.delta < 0.75 * found.coverage["delta over rows"]
    assert found.coverage["delta over rows"] == pytest.approx(delta, rel=0.01)
    assert f"the mean over traces is seen from {found.coverage['delta over rows']:.3g}" in found.blind
