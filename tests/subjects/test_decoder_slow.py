"""Decoders whose step takes long for each row: limits of time hold between calls, and what was reached stays."""

from __future__ import annotations

import time

import pytest

from specverify.deadline import Deadline
from specverify.decoders import DraftModel, Speculative
from specverify.decoders.registry import Settings
from specverify.defects import get
from specverify.errors import BudgetError
from specverify.evidence.bare import affordable
from specverify.evidence.budget import Budget
from specverify.evidence.company import company
from specverify.evidence.enumerate import enumerate_decoder
from specverify.subjects.decoder import judge_decoder
from specverify.verdict import Kind
from specverify.worlds import FIRST, GROWTH, Pace
from toymodels import draft, toy

TARGET = toy("dense-3x6")


class Slow:
    """A decoder that computes so long for each row of a step."""

    def __init__(self, inner, pause):
        self.inner, self.pause = inner, pause
        self.name, self.window, self.claim = inner.name, inner.window, inner.claim

    def init(self, model, batch, draws):
        return self.inner.init(model, batch, draws)

    def step(self, state, model, draws):
        end = time.process_time() + self.pause * len(state.length)
        while time.process_time() < end:
            pass
        return self.inner.step(state, model, draws)


def slow(pause, target=TARGET):
    return Slow(Speculative(DraftModel(draft("perturbed", target)), window=2), pause)


def test_rows_of_a_call_grow_while_it_is_quick_and_shrink_where_it_is_not():
    pace = Pace(1 << 16, timed=True)
    sizes = [pace.rows]
    for _ in range(4):
        pace.took(pace.rows, 0.01)
        sizes.append(pace.rows)
    assert sizes == [FIRST, FIRST * GROWTH, FIRST * GROWTH**2, 1 << 16, 1 << 16]
    pace.took(3, 0.005)
    assert pace.rows == 1 << 16, "a small call that is quick says nothing of large ones"
    pace.took(1 << 16, 64.0)
    assert pace.rows == 1 << 10
    pace.took(1, 0.25)
    assert pace.rows == 4
    pace.took(4, 7.0)
    assert pace.rows == 1
    still = Pace(100)
    still.took(100, 50.0)
    assert still.rows == 100


def test_an_enumeration_ends_within_a_second_or_two_of_its_time():
    start = time.process_time()
    with pytest.raises(BudgetError, match="when the time that it had was over"):
        enumerate_decoder(slow(0.004), TARGET, Budget(deadline=Deadline(1.5)))
    assert time.process_time() - start < 4.0


def test_fewer_rows_at_a_time_come_to_the_same_law():
    decoder = slow(0.0)
    whole, parts = (enumerate_decoder(decoder, TARGET, Budget(deadline=end)) for end in (None, Deadline(300.0)))
    assert parts.tv(whole.law) < 1e-12
    assert (parts.states, parts.worlds) == (whole.states, whole.worlds)
    assert parts.passes == pytest.approx(whole.passes)


def test_as_many_sequences_are_compared_as_there_is_time_for():
    assert affordable(slow(0.0), TARGET, seed=0, n=500, seconds=1e9) == 500
    start = time.process_time()
    assert 1 <= affordable(slow(0.01), TARGET, seed=0, n=4_096, seconds=1.0) < 100
    assert time.process_time() - start < 3.0


def test_rows_are_run_beside_others_as_long_as_there_is_time():
    start = time.process_time()
    assert company(slow(0.01), TARGET, 0, Deadline(0.2)).largest == 1
    assert time.process_time() - start < 1.0


@pytest.mark.slow
@pytest.mark.slow
def test_a_slow_decoder_is_refuted_in_time():
    def wrong(window, draft_model):
        return Slow(get("stale-scores-after-coupling").build(Settings(window, draft_model=draft_model)), 0.005)

    found = judge_decoder(wrong, seconds=10.0)
    assert found.verdict.kind is Kind.REFUTED


@pytest.mark.slow
def test_a_slow_decoder_is_proved_where_it_can_be():
    def right(window, draft_model):
        return Slow(Speculative(DraftModel(draft_model), window=window), 0.005)

    start = time.process_time()
    found = judge_decoder(right, seconds=10.0)
    assert found.verdict.kind in (Kind.PROVED, Kind.PROVED_FOR_ALL), found.verdict.reason
    assert "samples agree" in found.verdict.reason
    assert time.process_time() - start < 60.0


@pytest.mark.slow
def test_no_proof_is_given_of_a_decoder_that_nobody_had_time_to_see_run():
    def right(window, draft_model):
        return Slow(Speculative(DraftModel(draft_model), window=window), 0.1)

    found = judge_decoder(right, seconds=10.0)
    assert found.verdict.kind is Kind.INCONCLUSIVE
    assert "more seconds" in found.verdict.reason
