"""More ways to be proved although wrong: states, memory, rounding, quotients of negative numbers, ends that are met."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch
from evidence.exact.fooling import judging

from specverify.decoders.registry import Settings
from specverify.draws import Sampled
from specverify.errors import ContractError
from specverify.evidence.enumerate import enumerate_decoder, target_law
from specverify.evidence.exact.box import Box
from specverify.evidence.exact.proof import prove
from specverify.evidence.sequences import sequence_index
from specverify.rules.token import at, residual
from toymodels.tables import TableModel

N = 20_000


def kept(p, q, d):
    return (at(p, d) / at(q, d)).clamp(max=1.0)


def turned(p, q, d=None):
    left = (q - p).clamp(min=0)
    return left / left.sum(-1, keepdim=True)


def of_negative_numbers(p, q, d):
    """1 - p over 1 - q is p - 1 over q - 1, whose smaller is the larger of the two."""
    mass = (p - q).clamp(min=0).sum(-1, keepdim=True)
    (1 - p) / (1 - q)
    ((p - 1) / (q - 1)).clamp(max=1)
    left = (1 - p) * (at(q, d) / at(q, d))[..., None] - torch.minimum(1 - p, 1 - q)
    return left * left.sum(-1, keepdim=True) / mass / mass


def where_sums_agree(p, q, d):
    more, less = (p - q).clamp(min=0), (q - p).clamp(min=0)
    return torch.where((more.sum(-1) >= less.sum(-1))[..., None], more / more.sum(-1, keepdim=True), p)


def where_it_sums_to_1(p, q, d):
    return torch.where((p.sum(-1) == 1)[..., None], residual(p, q), torch.full_like(p, 1 / 3))


def where_nothing_is_left(p, q, d):
    return torch.where((1 - p.cumsum(-1)[..., -1] > 0)[..., None], p, residual(p, q))


def by_vmap(p, q, d):
    try:
        return torch.vmap(turned)(p, q)
    except Exception:
        return residual(p, q)


def by_sparse(p, q, d):
    try:
        return (q - p).clamp(min=0) + 0 * torch.ones_like(p).to_sparse().to_dense()
    except Exception:
        return residual(p, q)


ONE_TOKEN = {
    "quotients of negative numbers": (of_negative_numbers, (0.2, 0.3, 0.5), (0.5, 0.2, 0.3)),
    "sums that are equal but for rounding": (where_sums_agree, (0.7, 0.1, 0.2), (0.2, 0.5, 0.3)),
    "a sum that is 1 but for rounding": (where_it_sums_to_1, (0.3, 0.6, 0.1), (0.6, 0.0, 0.4)),
    "what is left of 1, but for rounding": (where_nothing_is_left, (1 / 3, 1 / 2, 1 / 6), (0.0, 5 / 7, 2 / 7)),
    "a fast path by vmap, and another": (by_vmap, (0.7, 0.2, 0.1), (0.1, 0.2, 0.7)),
    "a fast path by sparse tensors, and another": (by_sparse, (0.7, 0.2, 0.1), (0.1, 0.2, 0.7)),
}


@pytest.mark.parametrize("name", ONE_TOKEN)
def test_each_is_wrong_at_a_law_and_not_proved(name):
    law, p, q = ONE_TOKEN[name]
    target, draft = (TableModel("laws", torch.tensor([row], dtype=torch.float64), 1) for row in (p, q))
    build = judging(kept, law)
    assert enumerate_decoder(build(Settings(1, draft_model=draft)), target).tv(target_law(target)) > 1e-2
    for length in (1, 2):
        found = prove(build, Box(3, length, 1, drafts=True), seed=1)
        assert not found.proved
        assert found.why


def test_who_begins_sums_in_memory_that_nobody_has_filled_is_not_proved():
    def replacing(make):
        def law(p, q, d):
            left = make(p)
            left += (p - q).clamp(min=0)
            return left / left.sum(-1, keepdim=True)

        return law

    ways = (torch.empty_like, lambda p: p.new_empty(p.shape), lambda p: torch.empty(p.shape, dtype=p.dtype))
    for make in ways:
        assert not prove(judging(kept, replacing(make)), Box(2, 2, 1, drafts=True), seed=1).proved
    filled = replacing(lambda p: torch.empty_like(p).copy_(torch.zeros_like(p)))
    assert prove(judging(kept, filled), Box(2, 2, 1, drafts=True), seed=1).proved


def test_what_is_too_large_for_a_float_is_no_number():
    huge = judging(lambda p, q, d: kept(p, q, d) + (at(p, d) * 1e200 * 1e200 - at(p, d) * 1e200 * 1e200))
    assert not prove(huge, Box(2, 1, 1, drafts=True), seed=1).proved


@dataclass(frozen=True)
class Counting:
    inner: object
    passes: object


class Undeclared:
    pass


class Counter:
    """Right in its first two passes; then it keeps every draft."""

    name = "counter"

    def __init__(self, settings, start, more, late):
        self.exact = judging(kept)(settings)
        self.warm = judging(lambda p, q, d: torch.ones_like(at(p, d)))(settings)
        self.begin, self.more, self.late = start, more, late

    @property
    def claim(self):
        return self.exact.claim

    def init(self, model, batch, draws):
        state = self.exact.init(model, batch, draws)
        return replace(state, drafting=Counting(state.drafting, self.begin(batch)))

    def step(self, state, model, draws):
        count = state.drafting.passes
        decoder = self.warm if self.late(count) else self.exact
        after, info = decoder.step(replace(state, drafting=state.drafting.inner), model, draws)
        return replace(after, drafting=Counting(after.drafting, self.more(count))), info


def raised(cell):
    cell.count += 1
    return cell


def cell(batch):
    made = Undeclared()
    made.count = 0
    return made


COUNTERS = {
    "a Python number": (lambda batch: 0, lambda x: x + 1, lambda x: x >= 2),
    "an object": (cell, raised, lambda x: x.count >= 2),
    "an imaginary part": (
        lambda batch: torch.zeros(batch, dtype=torch.complex128),
        lambda x: x + 1j,
        lambda x: bool((x.imag >= 2).any()),
    ),
}


@pytest.mark.parametrize("name", COUNTERS)
def test_who_counts_in_what_is_no_row_of_a_state_is_not_proved(name):
    def build(settings):
        return Counter(settings, *COUNTERS[name])

    found = prove(build, Box(2, 3, 1, drafts=True), seed=1)
    assert not found.proved
    assert found.why
    # Of two tokens with .7 and .1: it is wrong from the third pass on.
    target, draft = (table(x) for x in (0.7, 0.1))
    assert sampled(build(Settings(1, draft_model=draft)), target) > 0.1


def test_worlds_that_differ_in_a_python_number_are_no_states_to_enumerate():
    target, draft = (table(x) for x in (0.7, 0.1))
    decoder = Counter(Settings(1, draft_model=draft), *COUNTERS["a Python number"])
    with pytest.raises(ContractError, match=r"a state holds \d in one world and \d in another"):
        enumerate_decoder(decoder, target)


def table(x):
    return TableModel("laws", torch.tensor([[x, 1 - x]] * 7, dtype=torch.float64), 3)


def sampled(decoder, model):
    draws = Sampled(0)
    state = decoder.init(model, N, draws)
    while not bool(state.done.all()):
        state, _ = decoder.step(state, model, draws)
    counts = torch.bincount(sequence_index(state.tokens, model.vocab), minlength=model.vocab**model.length)
    return float((counts / N - target_law(model)).abs().sum() / 2)


class Lent:
    """Its states lie in a buffer of its own, which it writes to."""

    name = "lent"

    def __init__(self, settings):
        self.inner = judging(kept)(settings)
        self.last = torch.zeros(64, 1, dtype=torch.int64)

    @property
    def claim(self):
        return self.inner.claim

    def init(self, model, batch, draws):
        state = self.inner.init(model, batch, draws)
        return replace(state, drafting=Counting(state.drafting, self.last[:batch]))

    def step(self, state, model, draws):
        after, info = self.inner.step(replace(state, drafting=state.drafting.inner), model, draws)
        state.drafting.passes.copy_(after.tokens[:, :1])
        return replace(after, drafting=Counting(after.drafting, state.drafting.passes)), info


def test_who_writes_to_the_state_that_it_is_given_is_not_proved():
    found = prove(Lent, Box(2, 2, 1, drafts=True), seed=1)
    assert not found.proved
    assert "writes to the state" in found.why


def test_behind_a_slot_that_fails_nothing_is_looked_at():
    """So a decoder that holds -1 ready there is right, in proofs as in all other draws."""

    def keep(p, q, d):
        own = kept(p, q, d)
        before = torch.cat([torch.ones_like(own[:, :1]), own[:, :-1]], 1)
        return torch.where(before > 0, own, -1.0)

    assert prove(judging(keep), Box(2, 2, 2, drafts=True), seed=1).proved
    never = TableModel("laws", torch.tensor([[0.0, 1.0], [0.5, 0.5], [0.2, 0.8]], dtype=torch.float64), 2)
    drafts = TableModel("laws", torch.tensor([[0.5, 0.5]] * 3, dtype=torch.float64), 2)
    decoder = judging(keep)(Settings(2, draft_model=drafts))
    assert enumerate_decoder(decoder, never).tv(target_law(never)) < 1e-12
    draws = Sampled(0)
    state = decoder.init(never, 1000, draws)
    while not bool(state.done.all()):
        state, _ = decoder.step(state, never, draws)
    draws.check()
    assert int(state.tokens[:, 0].min()) == 1
