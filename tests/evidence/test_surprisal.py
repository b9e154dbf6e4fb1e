"""The surprisal martingale: rates, powers, signs, and the e-process on it by enumeration."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from specverify.errors import InputError
from specverify.evidence.design import rate_excess
from specverify.evidence.surprisal import Surprisal, SurprisalGroups, Tempering
from specverify.evidence.tokens import reduce

CHECKS = {"surprisal": Surprisal, "tempering": Tempering}


def draw(laws, generator):
    return torch.from_numpy((laws.double().cumsum(-1).numpy() < generator.random((*laws.shape[:2], 1))).sum(-1))


def tempered(laws, power):
    raised = laws**power
    return raised / raised.sum(-1, keepdim=True)


def shift(laws, wrong):
    """Mean surprisal under the wrong laws less the right ones, per token."""
    return float(((wrong - laws) * -laws.log()).sum(-1).mean())


@pytest.mark.thinned(2)
@pytest.mark.parametrize("name", sorted(CHECKS))
def test_false_alarm_rate(name, seed):
    generator, alpha, trials = np.random.default_rng(seed), 0.05, 200
    alarms = 0
    for _ in range(trials):
        laws = torch.from_numpy(generator.dirichlet(np.ones(10), size=(20, 15)))
        alarms += CHECKS[name]().check(reduce(laws, draw(laws, generator), generator), alpha=alpha, beta=0.1).rejected
    assert rate_excess(alarms, trials, alpha) > 1e-6


def test_the_z_score_is_standard_normal(seed):
    # 200 traces: mean within 5 standard errors, and variance likewise
    generator, trials = np.random.default_rng(seed), 200
    z = []
    for _ in range(trials):
        laws = torch.from_numpy(generator.dirichlet(np.full(12, 0.4), size=(20, 10)))
        z.append(Surprisal().check(reduce(laws, draw(laws, generator), generator), alpha=0.05, beta=0.1).statistic)
    assert abs(np.mean(z)) < 5 / math.sqrt(trials)
    assert abs(np.var(z) - 1) < 5 * math.sqrt(2 / trials)


def test_the_mean_of_the_tempering_e_value_is_one_over_all_sequences():
    # laws of the second token depend on the first; stop after a first sequence or go on to a second
    first = torch.tensor([0.7, 0.2, 0.1], dtype=torch.float64)
    second = torch.tensor([[0.5, 0.5, 0.0], [0.9, 0.05, 0.05], [0.0, 0.0, 1.0]], dtype=torch.float64)
    mean = {1: 0.0, 2: 0.0}
    pairs = [(a, b) for a in range(3) for b in range(3) if second[a, b] > 0]
    for rows in itertools.product(pairs, repeat=2):
        laws = torch.stack([torch.stack([first, second[a]]) for a, _ in rows])
        path = Tempering().log_e(reduce(laws, torch.tensor(rows), np.random.default_rng(0)))
        chance = math.prod(float(first[a] * second[a, b]) for a, b in rows)
        for n in mean:
            mean[n] += chance * math.exp(path[n - 1])
    assert mean[1] == pytest.approx(1, abs=1e-12)
    assert mean[2] == pytest.approx(1, abs=1e-12)


@pytest.mark.thinned(3)
@pytest.mark.parametrize("name", sorted(CHECKS))
@pytest.mark.parametrize("power", [0.85, 1.15])
def test_miss_rate_at_the_stated_shift(name, power, seed):
    generator, alpha, rate, trials = np.random.default_rng(seed), 1e-4, 0.05, 100
    base = torch.from_numpy(generator.dirichlet(np.ones(20), size=(1, 10)))
    variance = (base * (-base.log() - (base * -base.log()).sum(-1, keepdim=True)) ** 2).sum(-1).mean()
    check = CHECKS[name](math.sqrt(float(variance)))
    delta = abs(shift(base, tempered(base, power)))
    rows = math.ceil(check.sample_size(delta, alpha=alpha, beta=rate) / 10)
    laws, found = base.expand(rows, 10, 20), []
    for _ in range(trials):
        tokens = draw(tempered(laws, power), generator)
        found.append(check.check(reduce(laws, tokens, generator), alpha=alpha, beta=rate))
    assert rate_excess(sum(not e.rejected for e in found), trials, rate) > 1e-6
    assert found[0].delta <= delta * 1.001
    assert all(np.sign(e.estimate) == np.sign(1 - power) for e in found if e.rejected)


@pytest.mark.parametrize("name", sorted(CHECKS))
def test_the_sign_is_interpreted(name):
    generator = np.random.default_rng(0)
    laws = torch.from_numpy(generator.dirichlet(np.ones(30), size=(100, 20)))
    for power, words in ((0.6, "surprising tokens are kept too often"), (1.6, "likely tokens are preferred")):
        found = CHECKS[name]().check(
            reduce(laws, draw(tempered(laws, power), generator), generator), alpha=1e-6, beta=0.1
        )
        assert found.rejected
        assert words in found.detail
        assert found.estimate == pytest.approx(shift(laws, tempered(laws, power)), rel=0.2)


@pytest.mark.parametrize("name", sorted(CHECKS))
def test_closed_and_uncounted_positions_change_nothing(name):
    generator = np.random.default_rng(0)
    laws = torch.from_numpy(generator.dirichlet(np.ones(5), size=(30, 4)))
    tokens = draw(laws, generator)
    alone = CHECKS[name]().check(reduce(laws, tokens, np.random.default_rng(1)), alpha=0.01, beta=0.1)
    certain = torch.eye(5, dtype=torch.float64)[0].expand(30, 1, 5)
    padded = reduce(
        torch.cat([laws, certain, laws[:, :1]], 1),
        torch.cat([tokens, torch.zeros(30, 1, dtype=torch.int64), tokens[:, :1]], 1),
        np.random.default_rng(1),
        counted=torch.tensor([True] * 5 + [False]).expand(30, 6),
    )
    found = CHECKS[name]().check(padded, alpha=0.01, beta=0.1)
    assert found.n == alone.n == 120
    assert found.statistic == pytest.approx(alone.statistic, abs=1e-12)


@pytest.mark.parametrize("name", sorted(CHECKS))
def test_impossible_tokens_reject_and_certain_laws_are_vacuous(name):
    laws = torch.tensor([0.5, 0.5, 0.0]).expand(5, 2, 3)
    found = CHECKS[name]().check(reduce(laws, torch.full((5, 2), 2), np.random.default_rng(0)), alpha=1e-9, beta=0.1)
    assert found.rejected
    assert found.p_value == 0
    certain = torch.tensor([0.0, 1.0]).expand(5, 2, 2)
    found = CHECKS[name]().check(
        reduce(certain, torch.ones(5, 2, dtype=torch.int64), np.random.default_rng(0)), alpha=0.1, beta=0.1
    )
    assert not found.rejected
    assert found.vacuous.startswith("every law is uniform over the tokens that it allows")
    assert found.delta == math.inf


@pytest.mark.parametrize("name", sorted(CHECKS))
def test_laws_that_are_uniform_over_their_tokens_cannot_surprise(name):
    for vocab in (3, 4, 1000):
        laws = torch.full((2000, 5, vocab), 1 / vocab, dtype=torch.float64)
        trace = reduce(laws, torch.zeros(2000, 5, dtype=torch.int64), np.random.default_rng(0))
        found = CHECKS[name]().check(trace, alpha=0.1, beta=0.1)
        assert not found.rejected
        assert found.vacuous


@pytest.mark.parametrize("name", sorted(CHECKS))
@settings(max_examples=30)
@given(delta=st.floats(0.05, 2), rate=st.floats(1e-9, 0.3), deviation=st.floats(0.1, 3))
def test_sample_size_sees_delta_and_grows_as_it_shrinks(name, delta, rate, deviation):
    check = CHECKS[name](deviation)
    n = check.sample_size(delta, alpha=rate, beta=rate)
    assert check.smallest_detectable(n, alpha=rate, beta=rate) <= delta
    assert n == 1 or check.sample_size(delta / 2, alpha=rate, beta=rate) > n


@pytest.mark.parametrize("name", sorted(CHECKS))
def test_bad_input_is_named(name):
    with pytest.raises(InputError, match=r"deviation is -1.0; a standard deviation is finite"):
        CHECKS[name](-1.0)
    with pytest.raises(InputError, match="a discrepancy in nats per token is above 0"):
        CHECKS[name]().sample_size(0.0, alpha=0.1, beta=0.1)


@pytest.mark.parametrize("name", sorted(CHECKS))
def test_false_alarms_where_no_normal_limit_is_near(name, seed):
    generator, alpha, trials, alarms = np.random.default_rng(seed), 1e-3, 500, 0
    law = torch.tensor([0.999, 0.001], dtype=torch.float64).expand(200, 1, 2)
    for _ in range(trials):
        tokens = (generator.random((200, 1)) < 0.001).astype(np.int64)
        alarms += CHECKS[name]().check(reduce(law, tokens, generator), alpha=alpha, beta=0.1).rejected
    assert rate_excess(alarms, trials, alpha) > 1e-6


def test_groups_see_what_cancels_over_the_trace_and_keep_their_rate(seed):
    generator, alpha, trials, alarms = np.random.default_rng(seed), 0.05, 60, 0
    for _ in range(trials):
        laws = torch.from_numpy(generator.dirichlet(np.ones(6), size=(40, 6)))
        alarms += (
            SurprisalGroups().check(reduce(laws, draw(laws, generator), generator), alpha=alpha, beta=0.1).rejected
        )
    assert rate_excess(alarms, trials, alpha) > 1e-6
    laws = torch.from_numpy(generator.dirichlet(np.ones(10), size=(3000, 4)))
    wrong = torch.cat([tempered(laws[:, :2], 0.85), tempered(laws[:, 2:], 1.15)], 1)
    found = reduce(laws, draw(wrong, generator), generator)
    assert not Surprisal().check(found, alpha=1e-6, beta=0.1).rejected
    groups = SurprisalGroups().check(found, alpha=1e-6, beta=0.1)
    assert groups.rejected
    assert "most off: position" in groups.detail


@pytest.mark.parametrize("sign", [1, -1])
def test_a_shift_at_the_position_that_varies_most_is_missed_as_seldom_as_stated(sign, seed):
    """Eleven coins behind it vary little: their average is not what is seen at the first position."""
    generator, rows, beta, trials = np.random.default_rng(seed), 1500, 0.05, 60
    heavy = torch.full((100,), 0.1 / 99, dtype=torch.float64)
    heavy[0] = 0.9
    coin = torch.zeros(100, dtype=torch.float64)
    coin[0], coin[1] = 0.55, 0.45
    laws = torch.cat([heavy[None], coin.expand(11, -1)])[None].expand(rows, -1, -1)

    def found(moved):
        wrong = laws.clone()
        wrong[:, 0, 0] -= moved
        wrong[:, 0, 1:] += moved / 99
        return SurprisalGroups().check(reduce(laws, draw(wrong, generator), generator), alpha=1e-6, beta=beta)

    delta = found(0.0).delta
    moved = sign * delta / float((heavy[0] / heavy[1]).log())
    assert abs(moved) < 0.1
    missed = sum(not found(moved).rejected for _ in range(trials))
    assert rate_excess(missed, trials, beta) > 1e-6, f"missed {missed} of {trials}"
