"""Decoders that draw by races of two tokens: proved for every law if they are right, and never where they are wrong."""

from __future__ import annotations

import copy
import itertools
import pickle
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from specverify import defects
from specverify.claims import Claim, Lossless
from specverify.decoders.protocol import Branch, Info, begin, commit
from specverify.decoders.registry import build
from specverify.evidence.enumerate import enumerate_decoder, target_law
from specverify.evidence.exact.box import Box
from specverify.evidence.exact.proof import BITS, at_point, prove
from specverify.evidence.exact.proof import LOSSLESS as LOSSLESS_GOAL
from specverify.noise import Noise
from specverify.rules.token import accept_probability, at, residual
from toymodels.tables import TableModel, prefixes

LENGTH = 2
SMALL = Box(2, LENGTH)


@dataclass(frozen=True)
class Asked:
    """What a step may look at: a race for each position, the law, that of the step before, and where it is asked."""

    draws: Any
    races: Tensor
    place: Tensor
    p: Tensor
    q: Tensor
    where: Tensor

    def race(self, back: int = 0) -> Tensor:
        """The position's own race, or that of one before."""
        place = (self.place - back).clamp(min=0)[:, None, None]
        return self.races.gather(1, place.expand(-1, 1, self.races.shape[-1]))

    def winner(self, law: Tensor, race: Tensor | None = None, where: Tensor | None = None) -> Tensor:
        """Who wins it."""
        where = self.where if where is None else where
        return self.draws.winner(self.race() if race is None else race, law, where)[0]

    def fresh(self) -> Tensor:
        """Another race."""
        return self.draws.race(len(self.place), 1, 2)


@dataclass(frozen=True)
class Racing:
    """A token a step, which `pick` makes of what is asked."""

    pick: Callable[[Asked], Tensor]
    claim: Claim = Lossless()  # noqa: RUF009  (frozen)
    name: str = "racing"

    def init(self, model, batch, draws):
        """See Decoder."""
        return begin(model, batch, (draws.race(batch, model.length, model.vocab), torch.ones(batch, 1, 2).double() / 2))

    def step(self, state, model, draws):
        """See Decoder."""
        races, q = state.drafting
        p, active = model.laws(state.context, state.tokens[:, :0]), ~state.done[:, None]
        place = state.length.clamp(max=model.length - 1)
        token = self.pick(Asked(draws, races, place, p, q, active))
        after, count = commit(state, model, token, active[:, 0].long())
        none = count * 0
        info = Info(count, none, none, count, count[:, None] * Branch.SAMPLED, none)
        return replace(after, drafting=(races, p.where(~after.done[:, None, None], 0.0))), info


def drafted(asked):
    return asked.winner(asked.q)


def drafted_then_drawn(asked):
    drafted(asked)
    return asked.winner(asked.p)


def looked_at_three_times(asked):
    asked.winner((asked.p + asked.q) / 2)
    return drafted_then_drawn(asked)


def asked_twice(asked):
    token, again = asked.winner(asked.p), asked.winner(asked.p)
    return token.where(token == again, 1 - token)


def of_two_at_once(asked):
    pair, where = asked.race().expand(-1, 2, -1), asked.where.expand(-1, 2)
    return asked.draws.winner(pair, torch.cat([asked.q, asked.p], 1), where)[0][:, 1:]


def judged(asked, rejected):
    draft = drafted(asked)
    kept = asked.draws.accept_run(accept_probability(asked.p, asked.q, draft), asked.where) == 1
    return draft.where(kept[:, None], rejected(asked, asked.where & ~kept[:, None]))


def by_the_residual(asked, where):
    return asked.draws.categorical(residual(asked.p, asked.q), where)


def by_a_race_under_the_residual(asked, where):
    return asked.winner(residual(asked.p, asked.q), asked.fresh(), where)


def by_its_own_race(asked, where):
    return asked.winner(residual(asked.p, asked.q), where=where)


def where_equal(asked, one, other):
    return torch.where((asked.p == asked.q).all(-1, keepdim=True), one, other)


def larger(asked):
    return asked.p[..., :1] > asked.q[..., :1]


def half(asked):
    return torch.full_like(asked.p, 0.5)


def kept_by_the_larger(asked):
    draft = drafted(asked)
    both = at(asked.p, draft), at(asked.q, draft)
    kept = asked.draws.accept_run(both[0] / torch.maximum(*both), asked.where) == 1
    return draft.where(kept[:, None], by_its_own_race(asked, asked.where & ~kept[:, None]))


def of_the_larger(asked):
    asked.winner(torch.where(larger(asked), asked.q, asked.p))
    return drafted_then_drawn(asked)


RIGHT = {
    "one race": lambda a: a.winner(a.p),
    "weights of any sum": lambda a: a.winner(3 * a.p),
    "a fresh race": lambda a: a.winner(a.p, a.fresh()),
    "a draft from the same noise": drafted_then_drawn,
    "three laws": looked_at_three_times,
    "the same law twice": asked_twice,
    "two slots that are one race": of_two_at_once,
    "a draft by a race, and the token rule": lambda a: judged(a, by_the_residual),
    "the residual by a race": lambda a: judged(a, by_a_race_under_the_residual),
}
IN_ORDERS = {
    "the residual by the draft's race": lambda a: judged(a, by_its_own_race),
    "kept by a share of the larger": kept_by_the_larger,
    "a law by the larger": of_the_larger,
}
"""Of two tokens the residual has one only, which wins any race: but a symbol does not know it."""


@pytest.mark.parametrize("name", [*RIGHT, *IN_ORDERS])
def test_a_right_decoder_is_proved(name):
    pick = (RIGHT | IN_ORDERS)[name]
    found = prove(lambda settings: Racing(pick), SMALL, seed=1)
    assert found.proved, found.why
    assert (found.orders > 1) == (name in IN_ORDERS)
    assert found.error_bits >= BITS
    assert max(off(pick)) < 1e-12


WRONG = {
    "the noise of the position before": lambda a: a.winner(a.p, a.race(back=1)),
    "a threshold from the stale law": drafted,
    "the target's law by noise that was rejected": lambda a: judged(a, lambda a, where: a.winner(a.p, where=where)),
    "the target's law by a fresh race where it was rejected": lambda a: judged(
        a, lambda a, where: a.winner(a.p, a.fresh(), where)
    ),
    "either of two races": lambda a: torch.maximum(a.winner(a.p), a.winner(a.p, a.fresh())),
    "the draft where both agree": lambda a: judged(a, lambda a, where: drafted(a)),
    "another law where two are equal": lambda a: a.winner(where_equal(a, a.p.flip(-1), a.p)),
    "another law where a token has none": lambda a: a.winner(torch.where(a.p[..., :1] == 0, half(a), a.p)),
    "another law in one order": lambda a: a.winner(torch.where(larger(a), half(a), a.p)),
    "the law of the larger alone": lambda a: a.winner(torch.where(larger(a), a.q, a.p)),
    "another law above a threshold": lambda a: a.winner(torch.where(a.p[..., :1] > 0.75, half(a), a.p)),
    "a race chosen by the laws": lambda a: a.winner(a.p, torch.where(larger(a), a.race(), a.race(back=1))),
    "a race asked by the laws": lambda a: torch.maximum(a.winner(a.p), a.winner(a.q, a.fresh(), larger(a)[..., 0])),
    "the square of the law": lambda a: a.winner(a.p * a.p),
    "the smaller of both laws": lambda a: a.winner(torch.minimum(a.p, a.q) + 0.5),
}


@pytest.mark.parametrize("name", WRONG)
def test_no_wrong_decoder_is_proved(name):
    assert any(far > 1e-3 for far in off(WRONG[name]))
    for seed in (1, 2):
        assert not prove(lambda settings: Racing(WRONG[name]), SMALL, seed=seed).proved


def laws():
    """Tables of laws with zeros and with equals, and one with neither."""
    yield torch.tensor([[0.2, 0.8], [0.37, 0.63], [0.9, 0.1]], dtype=torch.float64)
    some = itertools.product((0.0, 0.3, 0.5, 1.0), repeat=prefixes(2, LENGTH))
    for first in some:
        zero = torch.tensor(first, dtype=torch.float64)
        yield torch.stack([zero, 1 - zero], -1)


def off(pick):
    """How far from the target a decoder is at each of these."""
    for table in laws():
        target = TableModel("laws", table, LENGTH)
        yield enumerate_decoder(Racing(pick), target).tv(target_law(target))


BOXES = [(2, 2, 1, None), (2, 2, 2, None), (2, 4, 3, None), (2, 3, 2, 0), (2, 3, 2, 1)]


@pytest.mark.thinned(4)
@pytest.mark.parametrize("name", ["ar-race", "scd-gs", "sjd-race"])
@pytest.mark.parametrize("sizes", BOXES)
def test_the_catalogues_are_proved(name, sizes):
    found = prove(lambda settings: build(name, settings), Box(*sizes), seed=1)
    assert found.proved, found.why
    assert found.error_bits >= BITS
    assert (found.symbols > 0) == (name != "ar-race" and sizes[3] != 1)


@pytest.mark.thinned(2)
@pytest.mark.parametrize("initial", ["zero", "random", "sample-left"])
def test_whatever_the_initial_drafts_are(initial):
    assert prove(lambda settings: build("scd-gs", settings), Box(2, 3, 2, initial=initial), seed=1).proved


KNOWN = ("race-not-shifted", "one-race-for-all-positions", "one-race-for-a-step")


@pytest.mark.parametrize("name", KNOWN)
def test_known_wrong_ones_differ(name):
    assert prove(defects.get(name).build, Box(2, 3, 2), seed=1).outcome == "differs"


@pytest.mark.parametrize("sizes", [(2, 2, 2, None), (2, 3, 2, 1)])
def test_one_that_is_proved_where_noise_is_never_met_again_is_exact_there(sizes):
    assert prove(defects.get(KNOWN[0]).build, Box(*sizes), seed=1).proved
    for seed in range(3):
        target, _, settings = at_point(Box(*sizes), seed, LOSSLESS_GOAL)
        assert enumerate_decoder(defects.get(KNOWN[0]).build(settings), target).tv(target_law(target)) < 1e-12


def shown(asked):
    text = repr(asked.race())
    return asked.winner(asked.p if text else asked.q)


def renamed(asked):
    race = asked.race().clone()
    race.__class__ = Tensor
    return asked.winner(torch.where(race[..., :1] > 0, asked.q, asked.p))


def renamed_law(asked):
    law = asked.p.clone()
    law.__class__ = type(asked.races)
    return asked.winner(law.flip(-1))


def pickled(asked):
    return asked.winner(asked.p if pickle.dumps(asked.race()) else asked.q)


def caught(asked):
    try:
        asked.race().sum()
    except Exception:
        return asked.winner(asked.p)
    return drafted(asked)


LOOKING = {
    "as text": (shown, "looks at noise"),
    "as bytes": (pickled, "looks at noise"),
    "as numbers": (renamed, "takes noise for numbers"),
    "numbers as noise": (renamed_law, "takes noise for numbers, or numbers for noise"),
    "and catches that it may not": (caught, "noise is opaque"),
    "by a test of laws": (WRONG["a race chosen by the laws"], "chooses noise by a test of laws"),
    "by a fresh one or none": (lambda a: a.winner(a.p, a.fresh() * (a.p[..., :1] > 0)), "noise and laws together"),
    "one token's twice": (lambda a: a.winner(a.p, a.race()[..., :1].expand(-1, -1, 2)), "noise was cut apart"),
    "which ends first": (lambda a: a.draws.earliest(a.race(), a.p[:, 0], a.where)[:, None], "earliest token of"),
}


@pytest.mark.parametrize("name", LOOKING)
def test_who_looks_at_noise_is_refused(name):
    pick, why = LOOKING[name]
    found = prove(lambda settings: Racing(pick), SMALL, seed=1)
    assert found.outcome == "out of reach"
    assert why in found.why


def past_its_class(asked):
    race = asked.race()
    numbers = Tensor.__torch_function__(Tensor.tolist, (), (race,))
    return asked.winner(asked.p if numbers else asked.q)


def copied(asked):
    try:
        copy.deepcopy(asked.race())
    except Exception:
        return asked.winner(asked.p)
    return drafted(asked)


def made_up(asked):
    race = torch.tensor([1.0, 1.5]).double().expand(len(asked.place), 1, 2).clone()
    return asked.winner(asked.p, race.as_subclass(Noise))


LOOKING["by a copy that fails"] = (copied, "uses deepcopy on noise")
LOOKING["as its class alone"] = (made_up, "numbers for noise")
LOOKING["past its class"] = (past_its_class, "noise is opaque")
KEPT: list[Any] = []


def keeping(asked):
    KEPT.append(asked.fresh())
    return asked.winner(asked.p, KEPT[0])


def test_noise_is_kept_in_the_state_alone():
    found = prove(lambda settings: Racing(keeping), SMALL, seed=1)
    assert found.outcome == "out of reach"
    assert "noise" in found.why or "keeps" in found.why


def test_more_tokens_are_refused():
    found = prove(lambda settings: build("scd-gs", settings), Box(3, 2, 2), seed=1)
    assert found.outcome == "out of reach"
    assert found.why == "it draws by races over 3 tokens, which are followed for two tokens only"
