"""Broken subjects, each with the reason that it must get; and what the guard lets pass."""

from dataclasses import replace

import pytest
import torch

from specverify.decoders import Jacobi, Speculative
from specverify.draws import Sampled
from specverify.errors import ContractError, InputError
from specverify.evidence.arrange import ARRANGEMENTS, enumerate_arranged
from specverify.evidence.enumerate import enumerate_decoder
from specverify.evidence.guard import Guarded
from specverify.evidence.relay import Relay
from specverify.evidence.sequences import target_law
from specverify.rules.token import total_variation
from specverify.subjects.decoder import judge_decoder
from specverify.verdict import Kind
from tests.subjects.broken import Jacobian, Subject
from toymodels import toy


class OneAcceptsForAll(Jacobian):
    """How many drafts are kept is read off row 0."""

    def step(self, state, model, draws):
        return super().step(state, FirstRow(model), draws)


class FirstRow:
    """A model that gives every row the law of row 0."""

    def __init__(self, model):
        self.inner = model
        for part in ("name", "vocab", "length", "eos", "dtype", "device", "start", "advance"):
            setattr(self, part, getattr(model, part))

    def laws(self, context, draft):
        laws = self.inner.laws(context, draft)
        return laws[:1].expand_as(laws).clone()


class AllAtOneLength(Subject):
    """Takes every row to be where row 0 is."""

    def step(self, state, model, draws):
        after, info = super().step(state, model, draws)
        place = state.length[0].clamp(max=model.length - 1)
        token = after.tokens.gather(1, (after.length - 1).clamp(min=0)[:, None])
        tokens = state.tokens.scatter(1, place.expand(len(token), 1), token)
        behind = after.done[:, None] & (torch.arange(model.length) >= after.length[:, None])
        tokens = torch.where(behind | state.done[:, None], after.tokens, tokens)
        return replace(after, tokens=tokens), info


class Lockstep(Jacobian):
    """Every row commits as few tokens as the row that commits fewest, by drawing anew: right for one row, no longer."""

    def step(self, state, model, draws):
        after, info = super().step(state, model, draws)
        least = info.emitted[~state.done].min() if bool((~state.done).any()) else 0
        if bool((info.emitted > least).any()):
            single = Speculative(Jacobi(), 1, bonus=False)
            fresh = replace(state, drafting=single.init(model, len(state.length), Sampled(0)).drafting)
            after, info = single.step(fresh, model, draws)
            after = replace(after, drafting=super().init(model, len(state.length), Sampled(0)).drafting)
            info = replace(info, passes=2 * info.passes)
        return after, info


def test_rows_that_take_the_length_of_another_are_seen_among_others():
    model = toy("dense-2x8")
    exact = enumerate_decoder(Guarded(AllAtOneLength()), model)
    assert exact.tv(target_law(model)) <= 1e-12, "the enumerator's rows are all at one length"
    judgement = judge_decoder(AllAtOneLength)
    assert judgement.verdict.kind is Kind.ERROR
    reason = "it cannot run rows beside rows of other lengths or rows that are done: step changed tokens"
    assert reason in judgement.verdict.reason


@pytest.mark.thinned(2)
@pytest.mark.parametrize("arrangement", ARRANGEMENTS)
@pytest.mark.parametrize("decoder", [Speculative(Jacobi(), 2), Speculative(Jacobi("gumbel"), 2)], ids=["sjd", "scd-gs"])
def test_a_right_decoder_gives_the_same_however_its_rows_are_arranged(decoder, arrangement):
    model = toy("dense-2x8")
    if arrangement == "alone":
        model = Short(model, 3)
    plain, exact = enumerate_decoder(decoder, model), enumerate_arranged(Guarded(decoder), model, arrangement)
    assert float(total_variation(plain.law, exact.law)) <= 1e-15
    assert exact.passes == pytest.approx(plain.passes, abs=1e-12)
    assert exact.branches == pytest.approx(plain.branches, abs=1e-12)


class Short:
    """The first positions of a model."""

    def __init__(self, model, length):
        self.length = length
        for part in ("name", "vocab", "eos", "dtype", "device", "start", "advance", "laws"):
            setattr(self, part, getattr(model, part))


def test_the_guard_keeps_refusals_apart_from_faults():
    class Refuses(Subject):
        def init(self, model, batch, draws):
            raise InputError("two tokens are too few")

    with pytest.raises(InputError, match="two tokens are too few"):
        enumerate_decoder(Guarded(Refuses()), toy("dense-2x8"))
    judgement = judge_decoder(Refuses)
    assert judgement.verdict.kind is Kind.ERROR
    assert judgement.verdict.reason == ("it takes none of the models that it was tried on: two tokens are too few")
    with pytest.raises(InputError, match="is no decoder; it needs the methods init"):
        Guarded(object())


def test_a_drawn_outcome_may_be_changed_in_place():
    class TurnsOver(Subject):
        """Draws from the law turned over, and turns the token over."""

        def step(self, state, model, draws):
            def relay(kind, weights, where):
                token = getattr(draws, kind)(weights.flip(-1), where)
                token.neg_().add_(model.vocab - 1)
                return token.where(where, 0)

            return super().step(state, model, Relay(relay))

    model = toy("ties-3x5")
    exact = enumerate_decoder(Guarded(TurnsOver()), model)
    assert exact.tv(target_law(model)) <= 1e-12


class Advances(Subject):
    def step(self, state, model, draws):
        model.advance(state.context, state.tokens[:, :1], state.length + 2)
        return super().step(state, model, draws)


def test_the_model_looks_at_how_far_it_is_advanced():
    with pytest.raises(ContractError, match=r"model\.advance was given 1 tokens per row and told to take 2"):
        enumerate_decoder(Guarded(Advances()), toy("dense-2x8"))


@pytest.mark.parametrize(
    ("where", "said"),
    [
        (lambda model, rows: True, "of 2 tokens by 3, window 2: Info.accepted says "),
        (lambda model, rows: model.length > 4, "of 2 tokens by 6, window 1: Info.accepted says "),
        (lambda model, rows: rows == 16, "of 2 tokens by 3, window 2, 16 rows at once: Info.accepted says "),
    ],
)
def test_a_breach_is_told_with_the_model_on_which_it_was_seen(where, said):
    class Overstates(Jacobian):
        def step(self, state, model, draws):
            after, info = super().step(state, model, draws)
            more = (info.accepted > 0) & where(model, len(info.accepted))
            return after, replace(info, accepted=info.accepted + more)

    def overstating(settings):
        made = Overstates()
        made.inner = Speculative(Jacobi(), settings.window)
        return made

    judgement = judge_decoder(overstating)
    assert judgement.verdict.kind is Kind.ERROR
    assert judgement.verdict.reason.startswith(said)
