"""Prices and gains are counted while a decoder runs, and change nothing."""

import time

import numpy as np
import pytest
import torch
from scipy import stats

import toymodels
from realmodels import digits
from specverify import environment
from specverify.decoders import sample
from specverify.decoders.jacobi import Jacobi
from specverify.decoders.judging import Draft, TokenRule
from specverify.decoders.protocol import State
from specverify.decoders.speculative import Speculative
from specverify.draws import Sampled
from specverify.rules import registry
from specverify.rules.mixture import Mixture
from specverify.rules.price import price
from specverify.rules.scaling import CoolSchedule
from specverify.tradeoff import setting, watch
from specverify.tradeoff.plan import DRAFTING
from specverify.tradeoff.watch import Carried, Watched


@pytest.mark.parametrize("kind", DRAFTING)
def test_watching_changes_nothing_and_counts_every_judged_draft(kind, seed):
    model = digits.load()
    watched = Watched(Jacobi(kind), Mixture(0.5))
    seen = sample(Speculative(watched, 8, Mixture(0.5)), model, 50, seed, 30)
    plain = sample(Speculative(Jacobi(kind), 8, Mixture(0.5)), model, 50, seed, 30)
    assert torch.equal(seen.tokens, plain.tokens)
    assert torch.equal(seen.passes, plain.passes)
    assert torch.equal(watched.judged.long(), plain.verified)
    # The mixture lies on the frontier; a rule that gains pays.
    torch.testing.assert_close(watched.gain, watched.bias, atol=1e-4, rtol=0)
    assert float(watched.bias.min()) > 0
    assert float(watched.bias.max()) < model.length


def test_the_exact_rule_costs_nothing(seed):
    watched = Watched(Jacobi("gumbel"), TokenRule())
    sample(Speculative(watched, 8), digits.load(), 20, seed)
    assert float(watched.judged.sum()) > 500
    assert float(watched.bias.abs().max()) < 1e-4
    assert float(watched.gain.abs().max()) < 1e-4


class _Still(Jacobi):
    def carry(self, before, after, draft, laws, count, draws):
        assert before.drafting is after.drafting == "inner"
        return "carried"


def test_prices_are_added_to_the_right_sequence_slot_by_slot():
    """A rule with a schedule shows whether slots stay where they are."""
    generator = torch.Generator().manual_seed(0)
    laws = torch.rand(4, 6, 5, generator=generator, dtype=torch.float64).softmax(-1)
    q = (3 * torch.rand(4, 5, 5, generator=generator, dtype=torch.float64)).softmax(-1)
    count = torch.tensor([6, 1, 4, 0])  # the first row's last token is a bonus, and not judged
    watched = Watched(_Still(), CoolSchedule(4.0))
    watched._totals.append(torch.zeros(7, 4, dtype=torch.float64))
    nothing = torch.zeros(4, dtype=torch.int64)
    state = State(None, nothing[:, None], nothing, nothing > 0, Carried("inner", torch.tensor([5, 0, 2, 1])))
    draft = Draft(torch.zeros(4, 5, dtype=torch.int64), q, torch.zeros(4, dtype=torch.int64))
    carried = watched.carry(state, state, draft, laws, count, Sampled(0))
    assert carried.inner == "carried"
    assert carried.row.tolist() == [5, 0, 2, 1]
    whole = price(laws[:, :-1], q, CoolSchedule(4.0))
    expected = torch.zeros(7, dtype=torch.float64)
    for row, judged, place in ((0, 5, 5), (1, 1, 0), (2, 4, 2)):
        expected[place] = whole.bias[row, :judged].sum()
    torch.testing.assert_close(watched.bias, expected)
    assert watched.judged.tolist() == [1, 0, 4, 0, 0, 5, 0]
    assert float(expected[5]) > float(whole.bias[0, :1]) > 0


def test_the_weighted_distance_is_that_of_the_weighted_sample():
    pit = np.random.default_rng(0).random((30, 7)) ** 1.2
    weight = np.random.default_rng(1).multinomial(30, np.full(30, 1 / 30), size=3)
    for row, found in zip(weight, setting.kolmogorov(pit, weight), strict=True):
        drawn = np.repeat(pit, row, axis=0).ravel()
        assert found == pytest.approx(stats.kstest(drawn, "uniform").statistic)


def test_of_a_large_vocabulary_steps_are_priced_by_chance_and_the_mean_stays(monkeypatch):
    """800 sequences; with half of the steps, the mean bias is off by less than five of its standard errors."""
    model = toymodels.toy("dense-4x6")

    def priced(seed):
        found = Watched(Jacobi("maximal"), Mixture(0.5), seed)
        sample(Speculative(found, 3, Mixture(0.5), Mixture(0.5).claim), model, 800, 0)
        return found

    whole = priced(0)
    assert watch.share(724) == 1 > watch.share(725) > 0.99
    monkeypatch.setattr(watch, "LOOKED", 8)
    monkeypatch.setattr(watch, "FIRST", 1e-9)
    assert watch.share(4) == watch.share(4, 7) == 0.5
    half, again, other = priced(1), priced(1), priced(2)
    assert torch.equal(half.bias, again.bias)
    assert not torch.equal(half.bias, other.bias)
    assert torch.equal(half.judged, whole.judged)
    assert torch.equal(whole.priced, whole.judged)
    for name in ("bias", "gain", "priced"):
        difference = getattr(half, name) - getattr(whole, name)
        assert float(difference.abs().max()) > 0
        assert abs(float(difference.mean())) < 5 * float(difference.std()) / 800**0.5


def test_of_a_vast_vocabulary_enough_steps_are_priced_or_nothing_is_said(monkeypatch, seed):
    """The first steps are priced more often: that of all of them the mean bias is off by less than five errors."""
    model = toymodels.toy("dense-4x6")
    monkeypatch.setattr(watch, "LOOKED", 1e-9)
    assert watch.share(4, 0) == 1 > watch.share(4, 1) > watch.share(4, 1000) > watch.share(4)

    def priced(n, first):
        monkeypatch.setattr(watch, "FIRST", first)
        found = Watched(Jacobi("maximal"), Mixture(0.5), seed)
        sample(Speculative(found, 3, Mixture(0.5), Mixture(0.5).claim), model, n, seed, 8)
        return found

    some, whole = priced(800, 50), priced(800, 1e12)
    assert 100 < some.looked < some.steps == whole.steps == whole.looked
    assert some.known
    for name in ("bias", "priced"):
        difference = getattr(some, name) - getattr(whole, name)
        assert abs(float(difference.mean())) < 5 * float(difference.std()) / 800**0.5
    few = priced(800, 1)
    assert few.looked < watch.LEAST
    assert not few.known
    assert priced(2, 1e12).known, "there are no more"


@pytest.mark.parametrize("vocab", [5, 9])
def test_a_rule_that_recovers_alike_has_the_price_that_asking_for_every_draft_gives(vocab, seed):
    generator = torch.Generator().manual_seed(seed)
    p, q = (torch.rand(7, 3, vocab, dtype=torch.float64, generator=generator).softmax(-1) for _ in range(2))
    known = registry.Context(torch.randn(vocab, 3, generator=generator), [list(range(2)), list(range(2, vocab))])
    asked = 0
    for name in registry.names():
        rule = registry.rule(name)
        for value in rule.sweep if rule.parameter is not None else (None,):
            judging = rule.build(value, known)
            asked += getattr(judging, "recovers_alike", False)
            found, slowly = price(p, q, judging), price(p, q, Plain(judging))
            for part in ("law", "gain", "bias", "acceptance"):
                torch.testing.assert_close(getattr(found, part), getattr(slowly, part), rtol=0, atol=1e-12)
    assert asked > 20


class Plain:
    """A rule that says nothing of what it recovers from."""

    def __init__(self, rule):
        self.accept, self.recover = rule.accept, rule.recover


def test_a_rule_made_of_one_that_recovers_alike_is_asked_for_every_draft(seed):
    class Mine(Mixture):
        def recover(self, p, q, draft):
            return torch.nn.functional.one_hot(draft, p.shape[-1]).double()

    p, q = torch.rand(2, 6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).softmax(-1)
    found = price(p, q, Mine(0.5))
    assert torch.allclose(found.law, q)


def test_a_gpu_is_waited_for_before_the_time_is_read(monkeypatch):
    """What a pass takes would count as the watching's otherwise: it is the watching that first waits for it."""
    said = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: said.append(device))
    monkeypatch.setattr(time, "perf_counter", lambda: 10.0 * len(said))
    clock = environment.clock(torch.device("cuda:1"))
    assert [clock(), clock()] == [10, 20]
    assert said == [torch.device("cuda:1")] * 2
    assert environment.clock(torch.device("cpu")) is time.process_time
