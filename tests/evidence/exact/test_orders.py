"""Decoders that compare probabilities: proved in every order that laws can have, or not at all."""

from __future__ import annotations

import itertools
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from evidence.exact.fooling import judging, off
from hypothesis import given
from hypothesis import strategies as st

from specverify.evidence.enumerate import enumerate_decoder, target_law
from specverify.evidence.exact.box import Box
from specverify.evidence.exact.numbers import OutOfReach
from specverify.evidence.exact.proof import BITS, at_point, of_box, prove
from specverify.evidence.exact.regions import CONSTANT, Sign, impossible, inside
from specverify.rules.token import at, residual

SMALL = Box(2, 2, 1, drafts=True)
LAWS = [range(3), range(3, 6)]


def sign(form, closed=True, open_too=False):
    return Sign(tuple(sorted((k, Fraction(v)) for k, v in form.items())), closed, open_too)


def value(form, point):
    return sum(factor * (1 if entry == CONSTANT else point[entry]) for entry, factor in form)


def ratio(p, q, draft):
    return at(p, draft) / at(q, draft)


def kept(p, q, draft):
    return ratio(p, q, draft).clamp(max=1.0)


def at_least(p, q, draft):
    return torch.where(at(p, draft) >= at(q, draft), torch.ones_like(at(p, draft)), ratio(p, q, draft))


def above(p, q, draft):
    return torch.where(at(p, draft) > at(q, draft), torch.ones_like(at(p, draft)), ratio(p, q, draft))


def ratio_at_least(p, q, draft):
    return torch.where(ratio(p, q, draft) >= 1, torch.ones_like(at(p, draft)), ratio(p, q, draft))


def in_descending_order(p, q, draft):
    order = p.sort(dim=-1, descending=True).indices
    left = residual(p, q).gather(-1, order)
    return torch.zeros_like(left).scatter(-1, order, left)


def around_the_best(p, q, draft):
    best = p.argmax(-1, keepdim=True)
    left = residual(p, q)
    return left.scatter(-1, best, left.gather(-1, best))


RIGHT = {
    "at least": (judging(at_least), 0),
    "above": (judging(above), 0),
    "ratio at least": (judging(ratio_at_least), 0),
    "sort": (judging(replace=in_descending_order), 8),
    "argmax": (judging(replace=around_the_best), 8),
    "largest": (judging(lambda p, q, d: kept(p, q, d) + 0 * p.max(-1).values), 8),
    "largest of all": (judging(lambda p, q, d: kept(p, q, d) + 0 * p.flatten(1).argmax(-1, keepdim=True)), 8),
    "larger of two": (judging(lambda p, q, d: kept(p, q, d) + 0 * torch.max(at(p, d), other=at(q, d))), 0),
}


@pytest.mark.thinned(4)
@pytest.mark.parametrize("name", RIGHT)
def test_who_compares_laws_is_proved_in_every_order_that_they_can_have(name):
    build, orders = RIGHT[name]
    found = prove(build, SMALL, seed=1)
    assert found.proved, found.why
    assert found.orders == orders
    assert found.error_bits >= BITS


def test_at_three_tokens_there_are_as_many_orders_as_of_three_numbers():
    found = prove(judging(replace=in_descending_order), Box(3, 1, 1, drafts=True), seed=1)
    assert found.proved, found.why
    assert found.orders == 6


def test_without_orders_it_is_out_of_reach_and_said_to_compare():
    found = prove(RIGHT["argmax"][0], SMALL, seed=1, orders=False)
    assert (found.outcome, found.compares, found.orders) == ("out of reach", True, 0)
    assert "argmax" in found.why


def half_where(test):
    def keep(p, q, draft):
        return torch.where(test(p, q, draft), torch.full_like(at(p, draft), 0.5), kept(p, q, draft))

    return judging(keep)


def flipped(p):
    return p.flip(-1)


def pair(one, other):
    return torch.stack([one, other], -1)


def instead(test, number, law):
    return torch.where(test, torch.full_like(law, number), law)


def zero_padded(p):
    return torch.cat([torch.zeros(*p.shape[:-1], 20, dtype=p.dtype), p], -1)


def before_the_end(p):
    return p[:, -1, :1] > p[:, -1, 1:]


SEEN: list[int] = []


def after_a_refusal(p, q, draft):
    """Right once it was refused an order, and wrong before."""
    if not SEEN:
        SEEN.append(1)
        p.argmax(-1)
        return torch.ones_like(at(p, draft))
    p.argmax(-1)
    return kept(p, q, draft)


WRONG = {
    "the best token is always kept": judging(lambda p, q, d: kept(p, q, d).masked_fill(p.argmax(-1) == d, 1.0)),
    "kept twice as often": judging(
        lambda p, q, d: torch.where(2 * at(p, d) >= at(q, d), torch.ones_like(at(p, d)), ratio(p, q, d))
    ),
    "in one order": half_where(lambda p, q, d: p[..., 0] > p[..., 1]),
    "in one order of p and q": half_where(lambda p, q, d: (p[..., 0] > q[..., 0]) & (p[..., 0] > p[..., 1])),
    "above a threshold": half_where(lambda p, q, d: p[..., 0] > 0.9),
    "at a value": half_where(lambda p, q, d: p[..., 0] == 0.5),
    "where two are equal, by sorting both ways": half_where(
        lambda p, q, d: (p.sort(descending=True).indices != flipped(p.sort().indices)).any(-1)
    ),
    "where two are equal, by both of the two largest": half_where(
        lambda p, q, d: (p.topk(2).indices != 1 - flipped(p).topk(2).indices).any(-1)
    ),
    "where two are equal, by the first of both": half_where(
        lambda p, q, d: p.argmax(-1) == flipped(p).argmax(-1)
    ),
    "where two are equal, by the largest and a comparison": half_where(
        lambda p, q, d: (p.argmax(-1) == 0) & (p[..., 1] >= p[..., 0])
    ),
    "at a value, by the place of one of equals": half_where(
        lambda p, q, d: pair(p[..., 0], instead(p[..., 0] == 0.37, 5.0, p[..., 0])).argmax(-1) == 1
    ),
    "at a value, by two numbers chosen there": half_where(
        lambda p, q, d: pair(*(instead(p[..., 0] == 0.37, x, p[..., 0]) for x in (7.0, 5.0))).argsort(-1)[..., 0] != 0
    ),
    "at 0, by the place of one of equals": half_where(
        lambda p, q, d: pair(q[..., 1], q.masked_fill(q == 0, -1.0)[..., 1]).argmin(-1) == 1
    ),
    "at 0, by what is divided by itself": half_where(
        lambda p, q, d: pair(torch.ones_like(p[..., 0]), p[..., 0] / p[..., 0]).argmax(-1) == 1
    ),
    "at 0, by a conversion": judging(
        lambda p, q, d: torch.where(
            d == 1, kept(p, q, d), torch.where(p[..., 0].to(torch.bool), kept(p, q, d), torch.full_like(at(p, d), 0.5))
        )
    ),
    "where many equals are sorted": half_where(lambda p, q, d: zero_padded(p).sort(-1).indices[..., 0] != 0),
    "where the largest has a shape": judging(
        lambda p, q, d: kept(p, q, d) * (1.0 if p.contiguous().argmax(keepdim=True).ndim == 0 else 0.5)
    ),
    "where an order has a layout": judging(
        lambda p, q, d: kept(p, q, d) * (0.5 if torch.stack([p, q], -1).argsort(-2).is_contiguous() else 1.0)
    ),
    "before it is refused an order": judging(after_a_refusal),
    "by the order past the end": judging(
        lambda p, q, d: torch.where(before_the_end(p).expand(d.shape), torch.ones_like(at(p, d)), kept(p, q, d))
    ),
}  # fmt: skip


OF_THREE = {
    "where two are equal, by both comparisons": half_where(
        lambda p, q, d: (at(p, d) >= at(q, d)) & (at(q, d) >= at(p, d))
    ),
    "where two are equal, by a difference": half_where(lambda p, q, d: (at(p, d) - at(q, d)).abs() <= 0),
}  # fmt: skip
"""Right for two tokens, which are equal if one is."""


def pairs(*values):
    return [(p, q) for p in values for q in values]


@pytest.mark.thinned(4)
@pytest.mark.parametrize("name", WRONG)
def test_who_is_wrong_in_one_order_or_only_where_two_are_equal_is_not_proved(name):
    found = []
    for p, q in pairs(0.0, 0.37, 0.5, 0.95, 1.0, 0.25):
        SEEN.clear()
        found.append(off(WRONG[name], (p, 1 - p), (q, 1 - q)))
    assert max(found) > 1e-3, "it is wrong at some law"
    SEEN.clear()
    proof = prove(WRONG[name], SMALL, seed=1)
    assert not proof.proved
    assert proof.why


@pytest.mark.parametrize("name", OF_THREE)
def test_who_is_wrong_where_two_of_three_are_equal_is_not_proved(name):
    assert off(OF_THREE[name], (0.4, 0.4, 0.2), (0.4, 0.2, 0.4)) > 1e-3
    for box in (Box(3, 1, 1, drafts=True), SMALL):
        proof = prove(OF_THREE[name], box, seed=1)
        assert not proof.proved
        assert proof.why


def test_who_differs_in_an_order_is_refuted_by_enumeration_there():
    found = prove(WRONG["in one order"], SMALL, seed=1)
    wrong = []
    for seed in range(4):
        target, _, settings = at_point(SMALL, seed, of_box(SMALL))
        wrong.append(enumerate_decoder(WRONG["in one order"](settings), target).tv(target_law(target)) > 1e-3)
    assert any(wrong)
    assert not found.proved


def test_laws_inside_of_an_order_have_its_signs():
    signs = [
        sign({0: 1, 1: -1}),
        sign({1: 1, 2: -1}, closed=False),
        sign({3: 2, 0: -1}),
        sign({4: 1, CONSTANT: "-1/4"}),
    ]
    point = inside(signs, LAWS, np.random.default_rng(0))
    assert point is not None
    assert all(value(each.form, point) > 1e-3 for each in signs)
    assert sum(point[:3]) == pytest.approx(1)
    assert min(point) > 0


def test_no_laws_go_round_in_a_circle_unless_all_are_equal():
    circle = [{0: 1, 1: -1}, {1: 1, 2: -1}, {2: 1, 0: -1}]
    assert inside([sign(form, closed=k != 1) for k, form in enumerate(circle)], LAWS, np.random.default_rng(0)) is None
    with pytest.raises(OutOfReach, match="of which some numbers are equal"):
        inside([sign(form) for form in circle], LAWS, np.random.default_rng(0))


def test_one_law_is_not_above_another_everywhere():
    above = [{k: 1, k + 3: -1} for k in range(3)]
    assert inside([sign(form, closed=k != 1) for k, form in enumerate(above)], LAWS, np.random.default_rng(0)) is None


GRID = [
    tuple(Fraction(x, 4) for x in (*one, *other))
    for one, other in itertools.product([w for w in itertools.product(range(5), repeat=3) if sum(w) == 4], repeat=2)
]


@given(
    st.lists(
        st.tuples(
            st.dictionaries(st.integers(-1, 5), st.sampled_from([-2, -1, 1, 2]), min_size=1, max_size=3), st.booleans()
        ),
        min_size=1,
        max_size=5,
    )
)
def test_what_is_impossible_has_no_laws(forms):
    signs = [sign(form, closed) for form, closed in forms]
    having = [
        point
        for point in GRID
        if all(x > 0 or (each.closed and x == 0) for each in signs for x in [value(each.form, point)])
    ]
    assert not (impossible(signs, LAWS) and having)


@given(st.integers(0, 10**6))
def test_all_signs_of_differences_are_possible_or_certain_not_to_be(seed):
    generator = np.random.default_rng(seed)
    forms = [dict(zip(generator.choice(6, 2, replace=False).tolist(), (1, -1), strict=True)) for _ in range(3)]
    signs = [sign(form, bool(generator.integers(2)), True) for form in forms]
    try:
        point = inside(signs, LAWS, generator)
    except OutOfReach:  # what only equal numbers are like
        assert impossible([replace(each, closed=False) for each in signs], LAWS)
        assert sum(each.closed for each in signs) > 1
        return
    assert (point is None) == impossible(signs, LAWS)
    assert point is None or all(value(each.form, point) > 0 for each in signs)
