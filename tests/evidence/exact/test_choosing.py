"""Choices by a comparison that is not decided: right ones are proved for all laws at once, and wrong ones are not."""

from __future__ import annotations

import pytest
import torch
from evidence.exact.fooling import judging, off

from specverify.errors import ContractError
from specverify.evidence.exact.box import Box
from specverify.evidence.exact.proof import prove
from specverify.rules.token import at

LAWS = (((0.5, 0.4, 0.1), (0.3, 0.2, 0.5)), ((0.5, 0.3, 0.2), (0.2, 0.3, 0.5)), ((0.1, 0.2, 0.7), (0.6, 0.3, 0.1)))
ZERO, ONE = torch.zeros_like, torch.ones_like


def left(law):
    return judging(replace=lambda p, q, d: law(p, q))


def kept(chance):
    return judging(lambda p, q, d: chance(at(p, d), at(q, d)))


def softened(p, q):
    more = (p - q) * (p > q)
    return more / (more.sum(-1, keepdim=True) + 1e-10)


RIGHT = {
    "above": left(lambda p, q: torch.where(p > q, p - q, ZERO(p))),
    "at least": left(lambda p, q: torch.where(p >= q, p - q, ZERO(p))),
    "below": left(lambda p, q: torch.where(p < q, ZERO(p), p - q)),
    "turned round": left(lambda p, q: torch.where(q <= p, p - q, ZERO(p))),
    "filled": left(lambda p, q: (p - q).masked_fill(p <= q, 0.0)),
    "masked": left(lambda p, q: (p - q) * (p > q)),
    "masked, mask first": left(lambda p, q: (p >= q) * (p - q)),
    "masked, softened": left(softened),
    "larger": left(lambda p, q: torch.where(p > q, p, q) - q),
    "smaller": kept(lambda p, q: torch.where(p < q, p, q) / q),
    "1 or ratio": kept(lambda p, q: torch.where(p >= q, ONE(p), p / q)),
    "ratio or 1": kept(lambda p, q: torch.where(p < q, p / q, ONE(p))),
    "ratio below 1": kept(lambda p, q: torch.where(p / q > 1, ONE(p), p / q)),
    "moved": left(lambda p, q: torch.where((p > q)[..., None].squeeze(-1), p - q, ZERO(p))),
}
WRONG = {
    "the other side": left(lambda p, q: torch.where(p < q, p - q, ZERO(p)).abs()),
    "not masked": left(lambda p, q: torch.where(~(p > q), p - q, ZERO(p)).abs()),
    "another law": left(lambda p, q: torch.where(p > q, q, ZERO(p))),
    "the other's mask": left(lambda p, q: torch.where(p.roll(1, -1) > q.roll(1, -1), p - q, ZERO(p))),
    "flipped": left(lambda p, q: torch.where((p > q).flip(-1), p - q, ZERO(p)).clamp(min=0)),
    "masked by less": left(lambda p, q: (q - p) * (q > p)),
    "p where it is larger": left(lambda p, q: p * (p > q)),
    "smaller of both": left(lambda p, q: torch.where(p < q, p, q)),
    "turned ratio": kept(lambda p, q: torch.where(p <= q, ONE(p), q / p)),
    "ratio on the other side": kept(lambda p, q: torch.where(p >= q, q / p, ONE(p))),
    "another threshold": kept(lambda p, q: torch.where(2 * p >= q, ONE(p), p / q)),
    "less than 1": kept(lambda p, q: torch.where(p >= q, 0.9 * ONE(p), p / q)),
    "larger of both": kept(lambda p, q: torch.where(p > q, p, q) / q),
    "only where they are equal": kept(lambda p, q: torch.where(p > q, ONE(p), torch.where(p < q, p / q, 0.5 * ONE(p)))),
}


@pytest.mark.thinned(2)
@pytest.mark.parametrize("name", RIGHT)
@pytest.mark.parametrize("vocab", [2, 3])
def test_a_choice_that_comes_to_one_function_is_proved_in_one_run(name, vocab):
    found = prove(RIGHT[name], Box(vocab, 2, 2, drafts=True), seed=3, orders=False)
    assert found.proved, found.why
    assert not found.compares


def wrong_at(build, p, q):
    try:
        return off(build, p, q) > 1e-3
    except ContractError:  # no law to draw from, or no probability
        return True


@pytest.mark.parametrize("name", [*RIGHT, *WRONG])
def test_enumeration_tells_right_ones_from_wrong(name):
    build = RIGHT.get(name) or WRONG[name]
    assert any(wrong_at(build, p, q) for p, q in LAWS) == (name in WRONG)


@pytest.mark.parametrize("name", WRONG)
def test_a_choice_that_does_not_is_not_proved(name):
    assert not prove(WRONG[name], Box(3, 1, 1, drafts=True), seed=3).proved
    assert not prove(WRONG[name], Box(3, 2, 2, drafts=True), seed=3, orders=False).proved
