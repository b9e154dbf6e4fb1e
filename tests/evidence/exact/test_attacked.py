"""Ways to be proved although wrong that were found by attacking the proofs, by the part of them that let each through.

Each is wrong at a law that stands beside it, by enumeration there.
"""

from __future__ import annotations

import multiprocessing.dummy

import pytest
import torch
import torch.nn.functional as F
from evidence.exact.fooling import judging

from specverify.decoders.registry import Settings
from specverify.evidence.enumerate import enumerate_decoder, target_law
from specverify.evidence.exact.box import Box
from specverify.evidence.exact.proof import prove
from specverify.rules.token import at, residual
from toymodels.tables import TableModel

VALUE = 0.37


def kept(p, q, draft):
    return (at(p, draft) / at(q, draft)).clamp(max=1.0)


def half(p, draft):
    return torch.full_like(at(p, draft), 0.5)


def first(p):
    return torch.cat([torch.ones_like(p[..., :1]), torch.zeros_like(p[..., 1:])], -1)


def half_where(test):
    return judging(lambda p, q, d: torch.where(test(p, q, d), half(p, d), kept(p, q, d)))


def unless(holds):
    """Right where a comparison holds, which it does for certain but where its numbers are none."""
    return judging(
        lambda p, q, d: torch.where(holds(p, q), kept(p, q, d), half(p, d)),
        lambda p, q, d: torch.where(holds(p, q)[..., None], residual(p, q), first(p)),
    )


def spread(left, p):
    mass = left.sum(-1, keepdim=True)
    return torch.where(mass > 0, left / mass, p)


def chosen_difference(p, q, d):
    return spread(torch.where(p == VALUE, torch.full_like(p, 5.0), p - q).clamp(min=0), p)


def turned_difference(p, q, d):
    return spread((-torch.where(p == VALUE, torch.full_like(p, -5.0), q - p)).clamp(min=0), p)


def larger_of_chosen(p, q, d):
    torch.where(p == VALUE, torch.full_like(p, 5.0), p - q)
    return spread(torch.maximum(torch.where(p == VALUE, torch.full_like(p, 5.0), p), q) - q, p)


def two_factors(p, q, d):
    x = p[..., 0]
    one, other = (torch.where(test > 0, x, torch.full_like(x, 0.5)) for test in (x, x + x))
    return kept(p, q, d) + (one * other - x * x) * (d == 0).double()


def divided_by_what_may_be_0(p, q):
    left = (p - q).clamp(min=0)
    mass = left.sum(-1)
    return mass * (left[..., 0] / torch.where(mass > 0, mass, p[..., 0])) >= 0


def divided_by_1_or_0(p, q):
    mass = (p - q).clamp(min=0).sum(-1)
    return mass * (p[..., 1] / torch.where(mass > 0, torch.ones_like(mass), p[..., 0])) >= 0


def with_a_python_bool(p, q):
    left = (p - q).clamp(min=0)
    mass = left.sum(-1)
    return mass * torch.where((mass > 0) | True, left[..., 0] / mass, torch.zeros_like(mass)) >= 0


def turned_into_bool(p, q, d):
    at(q, d) != 0  # noqa: B015
    test = (p[..., 0] == VALUE).to(torch.bool)
    return torch.where(d == 0, torch.where(test, half(p, d), kept(p, q, d)), kept(p, q, d))


def equal(p):
    return (p[..., 0] == VALUE).reshape(-1)[0]


def by_slice(p, q, d):
    return torch.stack([kept(p, q, d), half(p, d)])[slice(equal(p), None)][0]


def by_nested_list(p, q, d):
    return torch.stack([kept(p, q, d), half(p, d)])[([~equal(p), equal(p)],)][0]


class Reader:
    """An index that reads a law as torch asks for it."""

    def __init__(self, law):
        self.law, self.read = law, False

    def __index__(self):
        self.read = VALUE in self.law.reshape(-1).tolist()
        return 0


def by_index(p, q, d):
    reader = Reader(p)
    torch.zeros(2)[reader]
    return half(p, d) if reader.read else kept(p, q, d)


def by_callback(p, q, d):
    seen = []
    torch.zeros(1).apply_(lambda x: (seen.extend(p.reshape(-1).tolist()), x)[1])
    return half(p, d) if VALUE in seen else kept(p, q, d)


def by_error(p, q, d):
    try:
        torch.sum(input=p)
    except Exception:
        return kept(p, q, d)
    return half(p, d)


def by_thread(p, q, d):
    seen = []
    other = multiprocessing.dummy.Process(target=lambda: seen.extend(p.reshape(-1).tolist()))
    other.start()
    other.join()
    return half(p, d) if VALUE in seen else kept(p, q, d)


def at_once(settings):
    flag = settings.draft_model.table[0, 0] == VALUE
    return judging(lambda p, q, d: half(p, d) if bool(flag) else kept(p, q, d))(settings)


ONE_TOKEN = {
    "the other argument of logic": (
        half_where(
            lambda p, q, d: torch.logical_or(torch.zeros_like(d, dtype=torch.bool), other=p[..., 0] == VALUE)
        ),
        (VALUE, 0.25),
    ),
    "a comparison by names": (
        judging(lambda p, q, d: torch.where(torch.ge(other=at(p, d), input=at(q, d)), 1.0, kept(p, q, d))),
        (0.0, 1.0),
    ),
    "padding with what is nearly 0": (
        half_where(lambda p, q, d: F.pad(p, (0, 1), value=1e-10)[..., -1] > 0),
        (0.0, 1.0),
    ),
    "a chosen difference": (judging(kept, chosen_difference), (VALUE, 1.0)),
    "a chosen difference, turned round": (judging(kept, turned_difference), (VALUE, 1.0)),
    "the larger of what was chosen": (judging(kept, larger_of_chosen), (VALUE, 1.0)),
    "two factors that excuse each other": (judging(two_factors), (0.0, 1.0)),
    "a divisor chosen for what may be 0": (unless(divided_by_what_may_be_0), (0.0, 0.0)),
    "a divisor of 1 or what may be 0": (unless(divided_by_1_or_0), (0.0, 0.0)),
    "a test beside a Python bool": (unless(with_a_python_bool), (0.0, 0.0)),
    "a test turned into a bool": (judging(turned_into_bool), (VALUE, 1.0)),
    "a test inside of a slice": (judging(by_slice), (VALUE, 0.25)),
    "a test inside of a list": (judging(by_nested_list), (VALUE, 0.25)),
    "an index with code of its own": (judging(by_index), (VALUE, 0.25)),
    "a function that torch calls": (judging(by_callback), (VALUE, 0.25)),
    "an error of the proof's own": (judging(by_error), (0.0, 1.0)),
    "another thread": (judging(by_thread), (VALUE, 0.25)),
    "a test in the constructor": (at_once, (VALUE, VALUE + 0.1)),
}  # fmt: skip


def model(*rows):
    return TableModel("laws", torch.tensor([[x, 1 - x] for x in rows], dtype=torch.float64), 1 if len(rows) == 1 else 2)


@pytest.mark.parametrize("name", ONE_TOKEN)
def test_each_is_wrong_at_a_law_and_not_proved(name):
    build, (p, q) = ONE_TOKEN[name]
    if name != "a test in the constructor":
        target, settings = model(p), Settings(1, draft_model=model(q))
        assert enumerate_decoder(build(settings), target).tv(target_law(target)) > 1e-3
    for length in (1, 2):
        found = prove(build, Box(2, length, 1, drafts=True), seed=1)
        assert not found.proved
        assert found.why
