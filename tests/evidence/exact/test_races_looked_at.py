"""What a decoder may do with noise of races, and what is refused to it."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from evidence.exact.racing import SMALL, Racing, drafted, earliest, larger
from torch import Tensor

from specverify.decoders.registry import build
from specverify.errors import ContractError
from specverify.evidence.enumerate import enumerate_decoder
from specverify.evidence.exact.box import Box
from specverify.evidence.exact.proof import prove
from specverify.noise import Noise
from toymodels.tables import TableModel


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


def weighed(asked):
    drawn = asked.draws.categorical(asked.race(), asked.where)
    return asked.winner(asked.p).where(drawn == 0, asked.winner(asked.p, asked.fresh()))


def weighed_in_a_race(asked):
    drawn = asked.draws.winner(asked.fresh(), asked.race(), asked.where)[0]
    return asked.winner(asked.p).where(drawn == 0, asked.winner(asked.p, asked.fresh()))


def kept_with(asked):
    kept = asked.draws.accept_run(asked.race()[..., 0], asked.where) == 1
    return asked.winner(asked.p).where(kept[:, None], asked.winner(asked.p, asked.fresh()))


def asked_where(asked):
    drawn = asked.draws.categorical(asked.p, asked.race()[..., 0])
    return asked.winner(asked.p).where(drawn == 0, asked.winner(asked.p, asked.fresh()))


LOOKING = {
    "as weights": (weighed, "takes noise for numbers"),
    "as weights of another race": (weighed_in_a_race, "takes noise for numbers"),
    "as a chance": (kept_with, "takes noise for numbers"),
    "as a mask": (asked_where, "takes noise for numbers"),
    "as text": (shown, "looks at noise"),
    "as bytes": (pickled, "looks at noise"),
    "as numbers": (renamed, "takes noise for numbers"),
    "numbers as noise": (renamed_law, "takes noise for numbers, or numbers for noise"),
    "and catches that it may not": (caught, "noise is opaque"),
    "by a test of laws": (
        lambda a: a.winner(a.p, torch.where(larger(a), a.race(), a.race(back=1))),
        "chooses noise by a test of laws",
    ),
    "by a fresh one or none": (lambda a: a.winner(a.p, a.fresh() * (a.p[..., :1] > 0)), "noise and laws together"),
    "one token's twice": (lambda a: a.winner(a.p, a.race()[..., :1].expand(-1, -1, 2)), "noise was cut apart"),
    "that is spent": (lambda a: 0 * earliest(a, a.p, a.race()) + a.winner(a.p), "has spent"),
    "that is spent by another step": (lambda a: earliest(a, a.p, a.race(back=1)), "has spent"),
}


def of_two_and_one(asked, law, race):
    return asked.draws.winner(race, law, asked.where)[0][:, -1:]


def of_other_rows(move):
    """The larger of the tokens of the row's own race and of another row's; sampled it is, in batches, off by 0.2."""
    return lambda asked: torch.maximum(asked.winner(asked.p), asked.winner(asked.p, move(asked.race())))


LOOKING |= {
    "of the row at the other end": (of_other_rows(lambda race: race.flip(0)), "in another row than its own"),
    "of the next row": (of_other_rows(lambda race: race.roll(1, 0)), "in another row than its own"),
    "of the first row": (of_other_rows(lambda race: race[:1].expand_as(race)), "in another row than its own"),
    "by the row": (
        of_other_rows(lambda race: race.index_select(0, torch.arange(len(race)).flip(0))),
        "in another row than its own",
    ),
    "one for all rows": (
        lambda a: a.winner(a.p, a.draws.race(1, 1, 2).expand(len(a.place), -1, -1)),
        "each row needs its own",
    ),
}


def two_laws(asked):
    return torch.cat([asked.p, asked.q], 1)


LOOKING["by two races and one mask"] = (
    lambda a: of_two_and_one(a, two_laws(a), a.draws.race(len(a.place), 2, 2)),
    "all need the same rows and slots",
)
LOOKING["by two laws alone"] = (lambda a: of_two_and_one(a, two_laws(a), a.fresh()), "all need the same rows and slots")
LOOKING["by two races alone"] = (
    lambda a: of_two_and_one(a, a.p, a.draws.race(len(a.place), 2, 2)),
    "all need the same rows and slots",
)


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


LOOKING["by a copy that fails"] = (copied, "computed with it (deepcopy)")
LOOKING["as its class alone"] = (made_up, "numbers for noise")
LOOKING["past its class"] = (past_its_class, "noise is opaque")
KEPT: list[Any] = []


def keeping(asked):
    KEPT.append(asked.fresh())
    return asked.winner(asked.p, KEPT[0])


@pytest.mark.parametrize("name", ["of the row at the other end", "of the next row", "one for all rows"])
def test_nor_is_noise_of_another_row_enumerated(name):
    target = TableModel("laws", torch.tensor([[0.2, 0.8], [0.4, 0.6], [0.9, 0.1]], dtype=torch.float64), 2)
    with pytest.raises(ContractError, match=LOOKING[name][1]):
        enumerate_decoder(Racing(LOOKING[name][0]), target)


def test_noise_is_kept_in_the_state_alone():
    found = prove(lambda settings: Racing(keeping), SMALL, seed=1)
    assert found.outcome == "out of reach"
    assert "noise" in found.why or "keeps" in found.why


def test_more_tokens_are_refused():
    found = prove(lambda settings: build("scd-gs", settings), Box(3, 2, 2), seed=1)
    assert found.outcome == "out of reach"
    assert found.why == "it draws by races over 3 tokens, which are followed for two tokens only"


def test_a_refused_weight_is_said_to_be_of_a_race():
    found = prove(lambda settings: Racing(lambda asked: asked.winner(0 - asked.p * -7)), SMALL, seed=1)
    assert found.outcome == "out of reach"
    assert found.why.startswith("winner is asked with the weight")
