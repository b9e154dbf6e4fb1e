"""The climb to the largest distance: what it comes to, and that it is the same every time."""

from dataclasses import dataclass

import pytest

from specverify.claims import Lossless
from specverify.decoders import Jacobi, Speculative, TokenRule
from specverify.evidence.budget import Budget
from specverify.evidence.cases import FAR, Case, Space, Weights
from specverify.evidence.farthest import farthest
from specverify.evidence.search import evaluate
from specverify.rules.token import residual

SPACE = Space(length=(1, 4), far=FAR, windows=(1, 2, 3), arrangements=("together",))
FEW = {"examples": 20, "budget": Budget(5_000)}


@dataclass(frozen=True)
class Generous:
    """Keeps drafts as if p were larger by half."""

    def accept(self, p, q, draft):
        return (1.5 * TokenRule().accept(p, q, draft)).clamp(max=1)

    def recover(self, p, q, draft):
        return residual(p, q)


def generous(settings):
    return Speculative(Jacobi(), settings.window, Generous())


def right(settings):
    return Speculative(Jacobi(), settings.window)


def test_it_comes_farther_than_the_first_case_that_is_off():
    found = farthest(generous, SPACE, Lossless(), **FEW)
    small = evaluate(generous, Case(Weights(2, 1, ((1, 1),)), window=1), Lossless())
    assert small.tv == pytest.approx(0.25)
    assert found.outcome.tv > 0.5
    assert found.outcome.case.target().length > 4
    assert found.complete
    assert 0 < found.tried <= 20


def test_the_same_seed_comes_to_the_same():
    first, second = (farthest(generous, SPACE, Lossless(), seed=3, examples=12, budget=Budget(2_000)) for _ in range(2))
    assert first.outcome.case == second.outcome.case
    assert first.tried == second.tried


def test_a_right_decoder_stays_where_it_is():
    assert farthest(right, SPACE, Lossless(), examples=10, budget=Budget(5_000)).outcome.tv <= 1e-12


def test_cases_to_begin_with_may_be_toys():
    space = Space(vocab=(3, 3), length=(1, 2), windows=(1, 2), arrangements=("together",))
    found = farthest(generous, space, Lossless(), [Case("sparse-3x5", window=1)], examples=3)
    assert found.outcome.case.model == "sparse-3x5"


def test_without_time_it_says_so():
    from specverify.deadline import Deadline

    found = farthest(generous, SPACE, Lossless(), deadline=Deadline(0.0))
    assert (found.outcome, found.tried, found.complete) == (None, 0, False)
