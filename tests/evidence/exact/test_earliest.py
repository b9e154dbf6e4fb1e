"""The earliest token of several races: by name it has the chance that it has in floats, and who misuses it differs."""

from __future__ import annotations

import random
from dataclasses import dataclass

import pytest
import torch
from evidence.exact.racing import SMALL, Racing, drafted, earliest, larger, off

from specverify.decoders.multi_draft import ListGumbel, MultiDraft
from specverify.decoders.registry import build
from specverify.enumerated_races import chance_of_zero
from specverify.evidence.enumerate import enumerate_decoder, target_law
from specverify.evidence.exact.algebra import Algebra
from specverify.evidence.exact.box import Box
from specverify.evidence.exact.goals import of_box
from specverify.evidence.exact.numbers import Numbers
from specverify.evidence.exact.proof import BITS, at_point, prove
from specverify.evidence.exact.races import Races


def looked(numbers, races, laws, coins):
    """A race that was asked under some laws, each time with an outcome that is possible: its number, and its ends."""
    known, low, high = 0, 0.0, 1.0
    for _ in range(coins.randint(0, 3)):
        law = coins.choice(laws)
        cut = min(max(numbers.value[law[0]], low), high)
        winner = int(coins.random() < (high - cut) / (high - low))
        known = races.after(known, winner, races.parts(known, tuple(law)))
        low, high = (low, cut) if winner == 0 else (cut, high)
    return known, (low, high)


def test_its_chance_is_the_one_in_floats_whatever_was_seen_of_the_races():
    coins = random.Random(0)
    for seed in range(300):
        numbers = Numbers(seed)
        races = Races(Algebra(numbers))
        laws = [numbers.law([x, 1 - x]) for x in (coins.random() for _ in range(4))]
        known, ends = zip(*(looked(numbers, races, laws, coins) for _ in range(coins.randint(1, 3))), strict=True)
        law = tuple(coins.choice(laws))
        p = numbers.value[law[0]]
        for number, (low, high) in zip(known, ends, strict=True):
            due = (min(high, p), min(low, p), min(1 - low, 1 - p), min(1 - high, 1 - p))
            assert [numbers.value[name] for name in races.ends(number, law)] == pytest.approx(due, abs=1e-9)
        chance = numbers.value[races.first(known, law)]
        every = torch.ones(1, len(known), dtype=torch.bool)
        given = (torch.tensor([each], dtype=torch.float64) for each in (ends, p))
        due = float(chance_of_zero(*given, every))
        for low, high in ends:
            due *= high - low
        assert chance == pytest.approx(due, abs=1e-9)


def both_drafted(asked, law=None):
    one, other = asked.race(), asked.fresh()
    drafts = [asked.winner(asked.q, race) for race in (one, other)]
    return drafts, earliest(asked, asked.p if law is None else law, one, other)


def listed(asked, rejected):
    """A draft if it is the earliest token, else what `rejected` makes of it."""
    drafts, token = both_drafted(asked)
    kept = (drafts[0] == token) | (drafts[1] == token)
    return token.where(kept, rejected(asked, token, asked.where & ~kept))


def in_turn(asked):
    asked.winner((asked.p + asked.q) / 2)
    asked.winner(asked.q)
    return earliest(asked, asked.p, asked.race(), asked.fresh(), asked.fresh())


def of_some(asked):
    fresh = asked.draws.race(len(asked.place), 2, 2)
    some = asked.where & torch.tensor([[True, False]])
    return asked.draws.earliest(fresh, asked.p[:, 0], some)[:, None]


RIGHT = {
    "of one race": lambda a: earliest(a, a.p, a.race()),
    "of two": lambda a: earliest(a, a.p, a.race(), a.fresh()),
    "weights of any sum": lambda a: earliest(a, 3 * a.p, a.race(), a.fresh()),
    "one of two that are there": of_some,
    "drafts from the same noise": lambda a: both_drafted(a)[1],
    "what was asked before, another law": in_turn,
    "a list of drafts": lambda a: listed(a, lambda a, token, where: token),
}
WRONG = {
    "the draft's law": lambda a: both_drafted(a, a.q)[1],
    "the draft alone": lambda a: both_drafted(a)[0][0],
    "a draft where there is one": lambda a: torch.minimum(*both_drafted(a)[0]),
    "another token where no draft is it": lambda a: listed(a, lambda a, token, where: 1 - token),
    "drawn anew where no draft is it": lambda a: listed(a, lambda a, token, where: a.draws.categorical(a.p, where)),
    "of races by who won them": lambda a: earliest(
        a, a.p, a.race(), a.fresh(), where=torch.cat([a.where, drafted(a) == 0], 1) & a.where
    ),
    "of races by the order of laws": lambda a: earliest(a, torch.where(larger(a), a.q, a.p), a.race(), a.fresh()),
    "the square of the law": lambda a: earliest(a, a.p * a.p, a.race(), a.fresh()),
    "another law where a token has none": lambda a: earliest(
        a, torch.where(a.p[..., :1] == 0, a.p.flip(-1), a.p), a.race(), a.fresh()
    ),
    "another law where two are equal": lambda a: earliest(
        a, torch.where((a.p == a.q).all(-1, keepdim=True), a.p.flip(-1), a.p), a.race(), a.fresh()
    ),
}


@pytest.mark.thinned(4)
@pytest.mark.parametrize("name", RIGHT)
def test_a_right_decoder_is_proved(name):
    found = prove(lambda settings: Racing(RIGHT[name]), SMALL, seed=1)
    assert found.proved, found.why
    assert found.error_bits >= BITS
    assert max(off(RIGHT[name])) < 1e-12


@pytest.mark.thinned(2)
@pytest.mark.parametrize("name", WRONG)
def test_no_wrong_decoder_is_proved(name):
    assert any(far > 1e-3 for far in off(WRONG[name]))
    for seed in (1, 2):
        assert not prove(lambda settings: Racing(WRONG[name]), SMALL, seed=seed).proved


def test_of_many_races_it_is_not_followed():
    found = prove(lambda settings: Racing(lambda a: earliest(a, a.p, *(a.fresh() for _ in range(6)))), SMALL, seed=1)
    assert (found.outcome, found.why) == ("out of reach", "it asks for the earliest token of 6 races; 5 are followed")


@pytest.mark.thinned(3)
@pytest.mark.parametrize("sizes", [(2, 3, 2, None), (2, 3, 2, 0), (2, 2, 2, 1)])
def test_lists_of_drafts_are_proved(sizes):
    found = prove(lambda settings: build("sd-list-gumbel", settings), Box(*sizes, drafts=True), seed=1)
    assert found.proved, found.why
    assert found.error_bits >= BITS
    assert found.symbols > 0


@dataclass(frozen=True)
class ByTheDraft(ListGumbel):
    """Of the target's laws it asks that of the slot; of the draft's, the first chain's."""

    def judge(self, p, drawn, where, draws):
        """See Rule."""
        return super().judge((p + drawn.law[:, 0]) / 2, drawn, where, draws)


@dataclass(frozen=True)
class OfTheFirst(ListGumbel):
    """The chains' races are judged one chain at a time, and the first that is kept goes on."""

    def judge(self, p, drawn, where, draws):
        """See Rule."""
        number, law = super().judge(p, drawn, where, draws)
        return number.clamp(max=0), law


@pytest.mark.thinned(2)
@pytest.mark.parametrize("rule", [ByTheDraft(), OfTheFirst()], ids=lambda rule: type(rule).__name__)
def test_lists_that_are_judged_otherwise_differ(rule):
    box = Box(2, 2, 2, drafts=True)
    assert prove(lambda settings: MultiDraft(settings.draft_model, 2, rule=rule), box, seed=1).outcome == "differs"
    target, _, settings = at_point(box, 0, of_box(box))
    decoder = MultiDraft(settings.draft_model, 2, rule=rule)
    assert enumerate_decoder(decoder, target).tv(target_law(target)) > 1e-3
