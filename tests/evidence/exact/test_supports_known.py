"""Decoders whose draws hang on whether a probability is 0: run for laws that have it, and for those that have not."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from evidence.exact.fooling import judging, off

from specverify.decoders.registry import build
from specverify.evidence.exact.box import Box
from specverify.evidence.exact.numbers import Numbers
from specverify.evidence.exact.proof import BITS, prove
from specverify.evidence.exact.regions import Sign, TooNarrow, impossible, inside, some, vanishing
from specverify.evidence.exact.supports import Supports
from specverify.rules.token import accept_probability, residual

SMALL = Box(2, 1, 1, drafts=True)
LAWS = [range(3), range(3, 6)]


@pytest.mark.thinned(2)
@pytest.mark.parametrize(
    ("name", "box", "orders"),
    [
        ("sjd-tree", Box(2, 2, 1), 3),
        ("sjd-tree", Box(3, 2, 1), 4),
        ("sjd-tree", Box(2, 2, 2), 3),
        ("sjd-reuse", Box(3, 2, 2), 2),
        pytest.param("sjd-tree", Box(2, 3, 2), 45, marks=pytest.mark.slow),
        pytest.param("sjd-reuse", Box(2, 3, 2), 83, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_siblings_and_reuse_are_proved_case_by_case(name, box, orders):
    found = prove(lambda settings: build(name, settings), box)
    assert found.proved, found.why
    assert found.compares
    assert found.orders == orders
    assert found.error_bits >= BITS


def test_without_orders_it_is_said_what_may_be_0():
    found = prove(lambda settings: build("sjd-tree", settings), Box(2, 2, 1), orders=False)
    assert (found.outcome, found.compares) == ("out of reach", True)
    assert "whether a law is drawn from depends on whether p(1 | " in found.why


def kept_if(test):
    """The token rule where a test holds of p, q and the draft; elsewhere half of the drafts, and what p has not."""

    def keep(p, q, draft):
        right = accept_probability(p, q, draft)
        return torch.where(test(p, q, draft), right, torch.full_like(right, 0.5))

    def replace(p, q, draft):
        return torch.where(test(p, q, draft)[..., None], residual(p, q), p.flip(-1))

    return judging(keep, replace)


def first(law):
    return law[..., 0]


CERTAIN, HALVES, MOST = [1.0, 0.0], [0.5, 0.5], [0.8, 0.2]
WRONG = {
    "draft is certain": (kept_if(lambda p, q, d: q[..., 1] > 0), MOST, CERTAIN),
    "draft has no first token": (kept_if(lambda p, q, d: first(q) > 0), MOST, [0.0, 1.0]),
    "target is certain": (kept_if(lambda p, q, d: p[..., 1] > 0), CERTAIN, HALVES),
    "target has no first token": (kept_if(lambda p, q, d: first(p) > 0), [0.0, 1.0], HALVES),
    "both are certain": (kept_if(lambda p, q, d: p[..., 1] + q[..., 1] > 0), CERTAIN, CERTAIN),
    "a product is 0": (kept_if(lambda p, q, d: p[..., 1] * q[..., 1] > 0), MOST, CERTAIN),
    "a product of what is left is 0": (kept_if(lambda p, q, d: (1 - first(p)) * (1 - first(q)) > 0), CERTAIN, HALVES),
    "a difference of products is 0": (kept_if(lambda p, q, d: first(q) - first(q) * first(p) > 0), CERTAIN, HALVES),
    "opposite and certain": (kept_if(lambda p, q, d: first(p) + q[..., 1] > 0), [0.0, 1.0], CERTAIN),
    "fused": (kept_if(lambda p, q, d: torch.addcmul(p[..., 1], first(p), q[..., 1]) > 0), CERTAIN, CERTAIN),
}


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2))])
@pytest.mark.thinned(2)
@pytest.mark.parametrize("name", WRONG)
def test_who_is_wrong_only_where_something_is_0_is_not_proved(name, seed):
    wrong, p, q = WRONG[name]
    assert off(wrong, p, q) > 1e-3
    assert off(wrong, MOST, HALVES) < 1e-12, "and right where nothing is"
    assert not prove(wrong, SMALL, seed=seed).proved


def two_coins(p, q, draft):
    """The token rule by two chances of which the second is asked where the draft may be another, and else is 1."""
    return accept_probability(p, q, draft) * torch.where(q[..., 1] > 0, torch.ones_like(first(q)), first(q))


def of_what_is_left(p, q, draft):
    """A residual that is the target itself where the draft is certain, which is then rejected to nothing else."""
    return torch.where((q[..., 1] > 0)[..., None], residual(p, q), torch.stack([0 * first(p), first(q)], -1))


RIGHT = {"two coins": judging(two_coins), "what is left": judging(replace=of_what_is_left)}


@pytest.mark.parametrize("name", RIGHT)
def test_who_does_another_thing_where_something_is_0_is_proved_if_both_are_right(name):
    found = prove(RIGHT[name], SMALL, seed=3)
    assert found.proved, found.why
    for p, q in [(MOST, CERTAIN), (CERTAIN, MOST), (CERTAIN, CERTAIN), ([0.0, 1.0], CERTAIN), (HALVES, HALVES)]:
        assert off(RIGHT[name], p, q) < 1e-12


def test_laws_of_a_region_have_no_entry_that_is_0_there_and_all_others():
    point = inside([some([1]).opposite, some([3, 4])], LAWS, np.random.default_rng(3))
    assert point[1] == 0
    assert sum(point[:3]) == pytest.approx(1)
    assert min(point[:1] + point[2:]) > 0


def test_a_law_whose_every_entry_is_0_is_none():
    none = [some([0, 1]).opposite, some([2]).opposite]
    assert impossible(none, LAWS)
    assert inside(none, LAWS, np.random.default_rng(3)) is None


def test_what_is_0_for_all_laws_that_are_left_is_above_0_for_none_of_them():
    certain = [some([1, 2]).opposite, some([4, 5]).opposite]
    equal = tuple({0: Fraction(1), 3: Fraction(-1)}.items())
    assert inside([*certain, Sign(equal, True, False)], LAWS, np.random.default_rng(3)) == [1, 0, 0, 1, 0, 0]
    assert inside([*certain, Sign(equal, False, True)], LAWS, np.random.default_rng(3)) is None


def test_an_entry_that_has_to_be_0_is_found():
    at_most_0 = Sign(((2, Fraction(-1)),), True, False)
    with pytest.raises(TooNarrow):
        inside([at_most_0], LAWS, np.random.default_rng(3))
    assert vanishing([at_most_0], LAWS) == 2
    assert vanishing([], LAWS) is None
    assert inside([at_most_0, some([2])], LAWS, np.random.default_rng(3)) is None


def test_sums_and_products_of_entries_are_known_by_their_value():
    numbers = Numbers(seed=5)
    (a, b, c), (d, e, f) = numbers.law([0.2, 0.3, 0.5]), numbers.law([0.6, 0.4, 0.0], absent=[2])
    residue, prime = numbers.residue, numbers.field.prime
    supports = Supports(numbers)
    assert f == 0
    assert supports.product((residue[a] + residue[c]) % prime) == [(a, c)]
    assert set(supports.product((1 - residue[a]) * residue[d] % prime)) == {(b, c), (d,)}
    assert supports.product((residue[a] + residue[d]) % prime) is None
    assert supports.product((residue[a] - residue[b]) % prime) is None
    assert supports.product(-residue[e] % prime) is None


def left_unless(nothing):
    """The token rule, with what is left of p not divided by its sum, and where some of it is 0 another law."""

    def replace(p, q, draft):
        left = (p - q).clamp(min=0)
        return left.where(nothing(left)[..., None] > 0, q.flip(-1))

    return judging(accept_probability, replace)


@pytest.mark.parametrize(
    "box", [Box(2, 2, 1, drafts=True), Box(3, 1, 1, drafts=True), Box(3, 2, 2, drafts=True)], ids=str
)
def test_what_is_left_needs_no_division_by_its_sum(box):
    """Where nothing is left of p, no draft is rejected, whatever would be drawn then."""
    found = prove(left_unless(lambda left: left.sum(-1)), box)
    assert found.proved, found.why
    assert not found.compares


@pytest.mark.parametrize(
    "nothing", [lambda left: left[..., 1:].sum(-1), lambda left: left[..., 0], lambda left: left.prod(-1)]
)
def test_where_a_part_of_it_is_left_another_law_is_wrong(nothing):
    wrong, laws = left_unless(nothing), ([0.5, 0.3, 0.2], [0.2, 0.5, 0.3])
    assert max(off(wrong, *laws), off(wrong, *laws[::-1])) > 1e-3
    assert not any(prove(wrong, Box(3, 1, 1, drafts=True), seed=seed).proved for seed in range(3))
