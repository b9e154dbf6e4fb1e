"""Choices that no order decides, orders that follow from others, and those of minima."""

from __future__ import annotations

import pytest
import torch
from evidence.exact.fooling import judging, off

from specverify.evidence.budget import Budget
from specverify.evidence.exact.algebra import Algebra
from specverify.evidence.exact.box import Box
from specverify.evidence.exact.numbers import Numbers
from specverify.evidence.exact.orders import Orders
from specverify.evidence.exact.proof import prove
from specverify.evidence.exact.regions import Sign
from specverify.rules.token import accept_probability, at, residual

SMALL, OF_THREE = Box(2, 2, 1, drafts=True), Box(3, 1, 1, drafts=True)
LARGER = Sign(((0, -1), (1, 1)), closed=False, open_too=True)
"""That the second entry is larger than the first."""


def kept_between_equals(p, q, draft):
    kept = accept_probability(p, q, draft)
    return torch.where(at(p, draft) > at(q, draft), kept, kept)


def replaced_between_equals(p, q, draft):
    left = residual(p, q)
    return torch.where(p > p.flip(-1), left, left)


def normalised_where_some_is_left(p, q, draft):
    left = (p - q).clamp(min=0)
    return torch.where(left.sum(-1, keepdim=True) > 0, torch.nn.functional.normalize(left, p=1, dim=-1), p)


def without_its_place(p, q, draft):
    return accept_probability(p, q, draft) + 0 * (p.amax(-1) - p.amin(-1))


def by_the_larger(p, q, draft):
    return at(p, draft) / torch.maximum(at(p, draft), at(q, draft))


@pytest.mark.parametrize(
    "build",
    [
        judging(kept_between_equals),
        judging(replace=replaced_between_equals),
        judging(replace=normalised_where_some_is_left),
        judging(without_its_place),
    ],
)
@pytest.mark.parametrize("box", [SMALL, OF_THREE], ids=str)
def test_what_is_one_function_in_every_order_is_run_once(build, box):
    found = prove(build, box, seed=1)
    assert found.proved, found.why
    assert found.orders == 0


def nearly_equal(p, q, draft):
    left = residual(p, q)
    return torch.where(p > q, left, left.flip(-1))


def normalised_wrongly(p, q, draft):
    left = (p - q).clamp(min=0)
    return torch.where(left.sum(-1, keepdim=True) > 0, torch.nn.functional.normalize(left + p, p=1, dim=-1), p)


def by_half_the_larger(p, q, draft):
    return at(p, draft) / torch.maximum(at(p, draft), at(q, draft) * 0.5).clamp(min=at(p, draft))


def by_the_larger_but_once(p, q, draft):
    return torch.where(p[..., 0] > 0.9, torch.ones_like(at(p, draft)), by_the_larger(p, q, draft))


@pytest.mark.parametrize(
    "build",
    [
        judging(replace=nearly_equal),
        judging(replace=normalised_wrongly),
        judging(by_half_the_larger),
        judging(by_the_larger_but_once),
    ],
)
def test_who_is_wrong_beside_them_is_not_proved(build):
    laws = [(0.95, 0.03, 0.02), (0.2, 0.3, 0.5), (0.4, 0.35, 0.25)]
    assert max(off(build, p, q) for p in laws for q in laws) > 1e-3, "it is wrong at some law"
    found = prove(build, OF_THREE, seed=1)
    assert not found.proved
    assert found.why


@pytest.mark.parametrize(("box", "orders"), [(SMALL, 4), (OF_THREE, 6)], ids=str)
def test_orders_of_minima_that_only_equal_laws_have_need_no_run(box, orders):
    found = prove(judging(by_the_larger), box, seed=1)
    assert found.proved, found.why
    assert found.orders == orders


@pytest.mark.slow
def test_where_free_symbols_differ_and_orders_take_too_long_both_are_said():
    found = prove(judging(by_the_larger), Box(3, 2, 1, drafts=True), seed=1, budget=Budget(worlds=200, rows=4096))
    assert found.outcome == "differs"
    assert "with free symbols for minima; in orders of these: " in found.why
    assert "orders were proved, and of the next" in found.why


def test_a_sign_that_is_given_is_known_before_it_is_asked_for():
    numbers = Numbers(3)
    law = numbers.law([0.3, 0.7])
    orders = Orders(numbers, given=[LARGER])
    orders.law(law)
    assert Algebra(numbers, orders).compare("gt", law[1], law[0]) == (True, frozenset())
    assert orders.signs == [LARGER]


def test_what_follows_from_signs_is_no_sign_and_assumes_that_it_is_not_0():
    numbers = Numbers(3)
    p, q = numbers.law([0.5, 0.3, 0.2]), numbers.law([0.4, 0.25, 0.35])
    orders = Orders(numbers)
    orders.law(p)
    orders.law(q)
    algebra = Algebra(numbers, orders)
    assert all(algebra.compare("ge", p[k], q[k])[0] for k in range(2))
    found, assumed = algebra.compare("lt", p[2], q[2])
    assert found
    assert assumed, "as all three may be equal"
    assert len(orders.signs) == 2


def p_where_none_is_larger(p, q, draft):
    return torch.where((p <= q).all(-1, keepdim=True), p, (p - q).clamp(min=0))


def filled_where_the_other_is_smaller(p, q, draft):
    return residual(p, q).masked_fill(p.flip(-1) < q.flip(-1), 1.0)


def ratio_where_smaller(p, q, draft):
    mine, other = at(p, draft), at(q, draft)
    return torch.where(mine < other, torch.minimum(mine, other) / other, torch.ones_like(mine))


def p_where_the_first_is_no_larger(p, q, draft):
    return torch.where((p[..., :1] <= q[..., :1]), p, (p - q).clamp(min=0))


def half_where_smaller(p, q, draft):
    mine, other = at(p, draft), at(q, draft)
    return torch.where(mine < other, torch.minimum(mine, other) / other / 2, torch.ones_like(mine))


@pytest.mark.parametrize(
    "build",
    [judging(replace=p_where_none_is_larger), judging(replace=filled_where_the_other_is_smaller)],
)
def test_a_sign_that_is_found_between_draws_is_known_from_the_start_of_another_run(build):
    found = prove(build, Box(2, 1, 1, drafts=True), seed=3)
    assert found.proved, found.why
    assert found.orders == 2


def test_a_sign_is_the_same_by_any_form_of_its_function():
    found = prove(judging(ratio_where_smaller), Box(2, 1, 1, drafts=True), seed=3)
    assert found.proved, found.why
    assert found.orders == 2


@pytest.mark.parametrize(
    "build", [judging(replace=p_where_the_first_is_no_larger), judging(half_where_smaller)], ids=["replaced", "kept"]
)
def test_what_is_wrong_in_one_of_these_orders_is_not_proved(build):
    box = Box(2, 1, 1, drafts=True)
    assert off(build, (0.3, 0.7), (0.6, 0.4)) > 0.05
    assert not prove(build, box, seed=3).proved
