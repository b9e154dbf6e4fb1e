"""Decoders whose chances depend on whether probabilities are 0, and those that use fused functions of torch."""

from __future__ import annotations

import torch
from evidence.exact.fooling import judging, off

from specverify.evidence.exact.box import Box
from specverify.evidence.exact.numbers import Numbers
from specverify.evidence.exact.proof import prove
from specverify.evidence.exact.supports import Supports
from specverify.rules.token import at

ONE_STEP = Box(2, 1, 1, drafts=True)


def of_an_einsum(p, q, draft):
    """p(x) / q(x), of which p(x) is found as a product of p and of a law that is certain."""
    certain = torch.zeros_like(p).scatter(-1, draft[..., None], 1.0)
    return (torch.einsum("bwv,bwv->bw", p, certain) / at(q, draft)).clamp(max=1)


def test_what_einsum_gives_is_a_view_that_nobody_keeps():
    found = prove(judging(of_an_einsum), ONE_STEP, seed=1)
    assert found.proved, found.why


def where_the_first_is(value, instead):
    """Another law instead of what is left of p where p(0) is a constant; nothing is kept."""

    def replace(p, q, draft):
        return torch.where(p[..., :1] == value, instead(p), p)

    return judging(lambda p, q, draft: at(p, draft) * 0, replace)


def token(number):
    return lambda p: torch.zeros_like(p).index_fill(-1, torch.tensor([number]), 1.0)


def test_a_probability_is_1_where_no_other_is_there():
    box = Box(3, 1, 1, drafts=True)
    found = prove(where_the_first_is(1, token(0)), box, seed=1)
    assert found.proved, found.why
    assert found.orders == 2
    assert prove(where_the_first_is(1, token(1)), box, seed=1).outcome == "differs"
    assert not prove(where_the_first_is(0.5, token(0)), box, seed=1).proved


def test_two_constants_that_differ_are_not_equal():
    """Where one token is left, an entry is 1, and is compared with 1/2 as constants are."""

    def replace(p, q, draft):
        half, rest = torch.full_like(p[..., :1], 0.5), p[..., 1:] == 0
        return torch.where(rest, torch.where(half == p[..., :1], q, p * p), p)

    found = prove(judging(lambda p, q, draft: at(p, draft) * 0, replace), ONE_STEP, seed=1)
    assert found.proved, found.why


def test_what_differs_is_counted_among_all_that_came_or_are_due():
    """Where p(0) is 0, one sequence alone is due, and two have another chance."""
    found = prove(judging(lambda p, q, draft: at(p, draft) * 0, q_where_the_first_is_not_there), ONE_STEP, seed=1)
    assert found.outcome == "differs"
    assert found.why.startswith("2 of 2 sequences"), found.why


def q_where_the_first_is_not_there(p, q, draft):
    return torch.where(p[..., :1] == 0, q, p)


def test_a_function_that_is_no_product_is_looked_for_once_until_there_are_more_laws():
    numbers = Numbers(1)
    one, other = (numbers.law([0.3, 0.7]) for _ in range(2))
    supports = Supports(numbers)
    product = numbers.residue[one[0]] * numbers.residue[other[1]]
    assert sorted(supports.product(product)) == [(one[0],), (other[1],)]
    third = numbers.field.uniform()
    assert supports.product(third * product) is None
    asked = numbers.field.asked
    assert supports.product(third * product) is None
    assert numbers.field.asked == asked
    half = numbers.field.inverse(2)
    assert supports.product(numbers.residue[one[0]] * half) is None
    numbers.constant(2.0)
    assert supports.product(numbers.residue[one[0]] * half) == [(one[0],)]
    numbers.law([0.4, 0.6])
    assert supports.product(third * product) is None
    assert numbers.field.asked > asked


def of_a_view(p, q, draft):
    """The token rule of laws that were overwritten by way of what einsum gave of them, which is the same memory."""
    torch.einsum("bwv->bwv", p).copy_(q)
    return (at(p, draft) / at(q, draft)).clamp(max=1)


def test_what_is_written_to_a_view_of_laws_by_einsum_is_seen():
    wrong = judging(of_a_view)
    assert off(wrong, [0.8, 0.2], [0.5, 0.5]) > 0.1
    assert not prove(wrong, ONE_STEP, seed=1).proved
