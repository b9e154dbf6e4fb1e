"""Decoders of continuous tokens that break the protocol, or say what is false of themselves, are told how."""

import re
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from specverify.claims import ClusterLossless
from specverify.decoders.continuous import (
    Autoregressive,
    DraftModel,
    Speculative,
    TokenRule,
)
from specverify.decoders.protocol import Branch, begin
from specverify.draws import Sampled
from specverify.errors import InputError
from specverify.subjects.continuous import judge_continuous
from specverify.verdict import Kind

QUICK = {"delta": 0.025, "toys": ["gauss-2x6"]}


def spoil(change):
    """Plain decoding, broken in one way."""

    class Spoiled(Autoregressive):
        calls = 0

        def step(self, state, model, draws):
            Spoiled.calls += 1
            return change(self, state, *super().step(state, model, draws))

    return Spoiled()


def altered(**parts):
    def change(self, before, after, info):
        return SimpleNamespace(**vars(after) | {name: part(after) for name, part in parts.items()}), info

    return change


def told(**parts):
    def change(self, before, after, info):
        return after, SimpleNamespace(**vars(info) | {name: part(info) for name, part in parts.items()})

    return change


class Liar(Speculative):
    """Speculative decoding with a report that is changed."""

    def step(self, state, model, draws):
        after, info = super().step(state, model, draws)
        return after, self.change(model, state, info)


def hides_a_pass(self, model, state, info):
    model.laws(state.context, state.tokens[:, :0])
    return info


def says_half(self, model, state, info):
    return replace(info, accepted=info.accepted - info.accepted // 2)


def judges_more(self, model, state, info):
    return replace(info, verified=info.verified + 2)


def keeps_none(self, model, state, info):
    branch = torch.where(info.branch == Branch.ACCEPTED, Branch.RECOVERED, info.branch)
    return replace(info, accepted=torch.zeros_like(info.accepted), branch=branch)


def claims_more(self, model, state, info):
    branch = torch.where(info.branch == Branch.RECOVERED, Branch.ACCEPTED, info.branch)
    return replace(info, accepted=(branch == Branch.ACCEPTED).sum(1), branch=branch)


def free_of_charge(self, model, state, info):
    return replace(info, passes=torch.zeros_like(info.passes))


@pytest.mark.thinned(3)
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (hides_a_pass, "`passes` says 128 over 128 unfinished rows, where the target was called 2 times"),
        (free_of_charge, "`passes` says 0 over 128 unfinished rows, where the target was called 1 times"),
        (says_half, "accepted tokens"),
        (judges_more, "`verified` says"),
        (keeps_none, "that `branch` names recovered are drafts that the target was shown"),
        (claims_more, "tokens that the target was shown as no draft"),
    ],
)
def test_figures_that_are_false_are_told_beside_a_right_law(change, said):
    lies = type("Lies", (Liar,), {"change": change})

    def make(window, draft_model):
        return lies(DraftModel(draft_model), window, TokenRule())

    judgement = judge_continuous(make, delta=0.1, toys=["gauss-2x6"])
    assert judgement.verdict.kind is Kind.ERROR, judgement.verdict.reason
    assert judgement.verdict.reason.startswith("what it says of itself is false: ")
    assert said in judgement.verdict.reason


GENERATOR = torch.Generator().manual_seed(0)


def noisy(self, before, after, info):
    return replace(after, tokens=after.tokens + torch.rand(1, generator=GENERATOR)), info


def shifted(self, before, after, info):
    return replace(after, tokens=after.tokens + 1), info


def stuck(self, before, after, info):
    return before, info


def breaks(self, before, after, info):
    raise KeyError("nothing here")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (altered(tokens=lambda s: s.tokens * torch.nan), "it committed nan; tokens are finite"),
        (altered(tokens=lambda s: s.tokens.float()), "torch.float32[64, 6, 2] for `tokens`, where torch.float64"),
        (altered(tokens=lambda s: s.tokens[:, :3]), "torch.float64[64, 3, 2] for `tokens`"),
        (altered(length=lambda s: None), "a NoneType for `length`, where torch.int64[64] is due"),
        (altered(done=lambda s: ~s.done), "`done` must say which rows have reached the length, 6"),
        (shifted, "it changed tokens that an earlier step had committed"),
        (stuck, "a step must commit a token in every row that is not done"),
        (noisy, "it changed tokens that an earlier step had committed"),
        (breaks, "raised KeyError: 'nothing here' (test_continuous_contract.py:"),
        (told(accepted=lambda i: i.accepted + 1), "it accepted more drafts than it verified"),
        (told(emitted=lambda i: i.emitted + 1), "`emitted` does not say how many tokens"),
        (told(verified=lambda i: i.verified[:3]), "its info has `verified` of shape (3,)"),
    ],
)
def test_decoders_that_break_the_protocol_are_told_how(change, message):
    judgement = judge_continuous(spoil(change), **QUICK)
    assert judgement.verdict.kind is Kind.ERROR
    assert message in judgement.verdict.reason, judgement.verdict.reason


class Own(Autoregressive):
    """Draws from a generator of its own: from a fixed seed, or from one that runs on."""

    fixed = True
    generator = torch.Generator().manual_seed(0)

    def step(self, state, model, draws):
        own = Sampled(0) if self.fixed else Sampled(int(torch.randint(1 << 30, (1,), generator=self.generator)))
        return super().step(state, model, own)


def test_randomness_of_its_own_is_found():
    for fixed, message in ((True, "other seeds give the same sequences"), (False, "the same seed gives other")):
        judgement = judge_continuous(type("Mine", (Own,), {"fixed": fixed})(), **QUICK)
        assert judgement.verdict.kind is Kind.ERROR
        assert message in judgement.verdict.reason


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": 0.0}, "alpha is 0.0; a false-alarm rate lies strictly between 0 and 1"),
        ({"delta": 0.0}, "delta is 0.0"),
        ({"seconds": 0.0}, "seconds is 0.0; give the decoder some time"),
        ({"toys": ["gaus-9x9"]}, "unknown continuous toy 'gaus-9x9'"),
        ({"toys": ["score-1x4"]}, "toy 'score-1x4': each of its transforms costs a quadrature"),
        ({"claim": ClusterLossless(((0,), (1,)))}, "vectors have no clusters to judge the claim"),
    ],
)
def test_bad_input_is_named(options, message):
    with pytest.raises(InputError, match=re.escape(message)):
        judge_continuous(Autoregressive(), **options)


def test_a_decoder_of_ids_is_told_who_judges_it():
    ids = judge_continuous(Asking("vocab"), **QUICK)
    assert ids.verdict.kind is Kind.ERROR
    assert ids.verdict.reason.endswith("decoders of models over ids are judged by judge_decoder")


class Asking:
    """A decoder that asks a model for something."""

    def __init__(self, what):
        self.what = what

    def init(self, model, batch, draws):
        return begin(model, batch, torch.zeros(batch, getattr(model, self.what)))

    def step(self, state, model, draws):
        return state, None
