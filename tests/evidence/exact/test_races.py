"""Decoders that draw by races of two tokens: proved for every law if they are right, and never where they are wrong."""

from __future__ import annotations

import pytest
import torch
from evidence.exact.racing import SMALL, Racing, drafted, larger, off

from specverify import defects
from specverify.decoders.registry import build
from specverify.evidence.enumerate import enumerate_decoder, target_law
from specverify.evidence.exact.box import Box
from specverify.evidence.exact.proof import BITS, at_point, prove
from specverify.evidence.exact.proof import LOSSLESS as LOSSLESS_GOAL
from specverify.rules.token import accept_probability, at, residual


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


def of_none_as_well(asked):
    asked.draws.winner(asked.races[:, :0], asked.p[:, :0], asked.where[:, :0])
    return asked.winner(asked.p)


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
    "and none at all": of_none_as_well,
    "a draft by a race, and the token rule": lambda a: judged(a, by_the_residual),
    "the residual by a race": lambda a: judged(a, by_a_race_under_the_residual),
}
IN_ORDERS = {
    "the residual by the draft's race": lambda a: judged(a, by_its_own_race),
    "kept by a share of the larger": kept_by_the_larger,
    "a law by the larger": of_the_larger,
}
"""Of two tokens the residual has one only, which wins any race: but a symbol does not know it."""


@pytest.mark.thinned(3)
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


@pytest.mark.thinned(2)
@pytest.mark.parametrize("name", WRONG)
def test_no_wrong_decoder_is_proved(name):
    assert any(far > 1e-3 for far in off(WRONG[name]))
    for seed in (1, 2):
        assert not prove(lambda settings: Racing(WRONG[name]), SMALL, seed=seed).proved


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
