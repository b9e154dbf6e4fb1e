"""Noise under enumeration: an identity that may be moved about, kept, asked again and shared, and never read."""

import itertools
import re

import pytest
import torch
from torch.testing import assert_close

from specverify import noise
from specverify.draws import Sampled
from specverify.enumerated import Enumerated
from specverify.errors import ContractError
from specverify.noise import Noise

EXACT = {"rtol": 0, "atol": 1e-15}


def heads(draws, *p):
    """A law over two tokens for each slot."""
    p = torch.tensor(p, dtype=torch.float64)
    return torch.stack([p, 1 - p], -1).expand(draws.batch, -1, -1)


def everywhere(draws, slots=1):
    return torch.ones(draws.batch, slots, dtype=torch.bool)


def law(worlds, function, size=4):
    """The law of a number that each world gives."""
    value, weight = worlds(function)
    return torch.zeros(size, dtype=torch.float64).index_add_(0, value, weight)


def test_a_race_that_was_asked_before_answers_as_it_did(worlds):
    def stale(draws):
        race = draws.race(draws.batch, 1, 2)
        first, _ = draws.winner(race, heads(draws, 0.3), everywhere(draws))
        again, _ = draws.winner(race, heads(draws, 0.3), everywhere(draws))
        return 2 * first[:, 0] + again[:, 0]

    assert_close(law(worlds, stale), torch.tensor([0.3, 0, 0, 0.7], dtype=torch.float64), **EXACT)


def test_an_old_copy_asked_under_another_law_is_the_same_race(worlds):
    def stale(draws):
        race = draws.race(draws.batch, 1, 2)
        first, _ = draws.winner(race.clone(), heads(draws, 0.3), everywhere(draws))
        again, _ = draws.winner(race, heads(draws, 0.5), everywhere(draws))
        return 2 * first[:, 0] + again[:, 0]

    assert_close(law(worlds, stale), torch.tensor([0.3, 0, 0.2, 0.5], dtype=torch.float64), **EXACT)


@pytest.mark.parametrize("share", [lambda race: race.expand(-1, 3, -1), lambda race: race[:, [0, 0, 0]]])
def test_slots_that_share_a_race_have_one_winner_under_one_law(worlds, share):
    def shared(draws):
        race = share(draws.race(draws.batch, 1, 2))
        token, _ = draws.winner(race, heads(draws, 0.3, 0.3, 0.5), everywhere(draws, 3))
        assert torch.equal(token[:, 0], token[:, 1])
        return 2 * token[:, 0] + token[:, 2]

    assert_close(law(worlds, shared), torch.tensor([0.3, 0, 0.2, 0.5], dtype=torch.float64), **EXACT)


def test_slots_of_their_own_are_independent_and_asked_in_one_draw(worlds):
    def own(draws):
        token, _ = draws.winner(draws.race(draws.batch, 2, 2), heads(draws, 0.3, 0.5), everywhere(draws, 2))
        return 2 * token[:, 0] + token[:, 1]

    assert_close(law(worlds, own), torch.tensor([0.15, 0.15, 0.35, 0.35], dtype=torch.float64), **EXACT)


def test_what_is_known_goes_with_the_race_into_the_next_call(worlds):
    def first(draws):
        race = draws.race(draws.batch, 2, 2)
        draws.winner(race[:, 1:], heads(draws, 0.4), everywhere(draws))  # what it hands back is dropped
        kept = torch.cat([torch.zeros_like(race[:, :1]), race[:, 1:], race[:, 1:]], 1)
        state, known = draws.finish(kept)
        assert isinstance(state, Noise)
        return known.flatten(1)

    known, weight = worlds(first)
    assert known.tolist() == [[0, 0, 0, 0.4, 0, 0], [0, 0, 0.4, 1, 0, 0]], "the copies are one race, known once"
    assert weight.tolist() == [0.4, 0.6]


def test_races_are_numbered_by_where_they_stand_whatever_became_of_others():
    def state(before):
        draws = Enumerated(1)
        draws.race(1, before, 2)
        race = draws.race(1, 3, 2)
        return draws.finish((race[:, [2, 1, 2]], race[:, :1]))

    (one, known), (other, _) = state(0), state(5)
    for a, b in zip(one, other, strict=True):
        assert repr(a) == repr(b)
    assert known.tolist() == [[[0, 1], [0, 1], [0, 0], [0, 1]]]


def asked(draws, race):
    return draws.winner(race, heads(draws, 0.5, 0.5), everywhere(draws, 2))


STALE = Enumerated(1).race(1, 1, 2)
MISUSED = {
    "zeros": (lambda d, r: d.winner(torch.zeros_like(r), heads(d, 0.5, 0.5), everywhere(d, 2)), "not there, but zeros"),
    "own tensor": (lambda d, r: d.winner(torch.rand(1, 2, 2), heads(d, 0.5, 0.5), everywhere(d, 2)), "is no noise"),
    "kept elsewhere": (lambda d, r: d.winner(STALE, heads(d, 0.5), everywhere(d)), "keep races in the state"),
    "shared by earliest": (
        lambda d, r: d.earliest(r[:, [0, 0]], heads(d, 0.5)[:, 0], everywhere(d, 2)),
        "two slots that are one race",
    ),
    "argmin": (lambda d, r: r.argmin(-1), "noise is opaque, and step computed with it (argmin): ask draws.winner"),
    "divided": (lambda d, r: torch.ones(2, dtype=torch.float64) / r, "noise is opaque, and step computed with it"),
    "compared": (lambda d, r: r < 0.5, "noise is opaque"),
    "logarithm": (lambda d, r: -torch.log(r), "noise is opaque"),
    "read": (lambda d, r: r.tolist(), "noise is opaque"),
    "one number": (lambda d, r: float(r[0, 0, 0]), "noise is opaque"),
    "as numpy": (lambda d, r: r.numpy(), "noise is opaque"),
    "unwrapped": (lambda d, r: r.as_subclass(torch.Tensor), "noise is opaque"),
    "filled": (lambda d, r: r.masked_fill(r.new_zeros(1, 2, 1).bool(), torch.inf), "noise"),
    "mixed": (lambda d, r: torch.where(torch.ones(1, 2, 1).bool(), r, 1.0), "noise was filled up with 1.0"),
    "joined": (lambda d, r: torch.cat([r, torch.ones(1, 2, 2).double()]), "noise was filled up with 1.0"),
    "written": (lambda d, r: torch.zeros(1, 2, 2).double().copy_(r), "written into a tensor that is none"),
    "set": (lambda d, r: torch.zeros(2, 2).double().__setitem__(0, r[0, 0]), "written into a tensor that is none"),
    "float32": (lambda d, r: r.float(), "noise is opaque"),
    "to float32": (lambda d, r: r.to(torch.float32), "another dtype"),
    "to a law's": (lambda d, r: r.to(torch.ones(1)), "another dtype"),
    "cut apart": (lambda d, r: d.finish(r[..., :1]), "noise was cut apart"),
    "one number twice": (lambda d, r: asked(d, r[..., :1].expand(1, 2, 2)), "noise was cut apart"),
    "another's number": (lambda d, r: asked(d, torch.stack([r[..., 0], r[:, [1, 0], 1]], -1)), "noise was cut apart"),
    "one number and none": (lambda d, r: asked(d, torch.cat([r[..., :1], r[..., :1] * 0], -1)), "noise"),
    "half a race": (
        lambda d, r: asked(d, r.masked_fill(torch.tensor([False, True]), 0.0)),
        "put together of several races' numbers",
    ),
    "the other way round": (lambda d, r: d.finish(r.flip(-1)), "put together of several races' numbers"),
    "where none was drawn": (
        lambda d, r: asked(d, d.race(1, 2, 2, torch.tensor([[True, False]]))),
        "asked for a race that is not there",
    ),
    "those of two races": (lambda d, r: asked(d, r.transpose(1, 2).contiguous()), "noise was cut apart"),
}


@pytest.mark.parametrize(("misuse", "message"), MISUSED.values(), ids=MISUSED)
def test_what_noise_is_not_for_says_what_to_do(misuse, message):
    draws = Enumerated(1)
    race = draws.race(1, 2, 2)
    with pytest.raises(ContractError, match=re.escape(message)):
        misuse(draws, race)


def test_a_race_that_earliest_looked_at_is_spent(worlds):
    def spent(draws):
        race = draws.race(draws.batch, 2, 2)
        token = draws.earliest(race, heads(draws, 0.5)[:, 0], everywhere(draws, 2))
        draws.winner(race[:, 1:], heads(draws, 0.5), everywhere(draws))
        return token

    with pytest.raises(ContractError, match=r"noise that `earliest` has spent; .* ask draws.race for a fresh one"):
        worlds(spent)


def test_noise_may_be_moved_about_in_every_way_that_both_kinds_of_draws_allow():
    for draws in (Sampled(0), Enumerated(3)):
        race = draws.race(3, 4, 2)
        place = torch.tensor([[3, 0], [1, 1], [2, 0]])[..., None].expand(-1, -1, race.shape[-1])
        gathered = race.gather(1, place)
        whole = torch.tensor([[[0], [1]]]).expand(3, 2, 1).expand_as(gathered)
        assert (type(whole), whole.dtype) == (torch.Tensor, torch.int64)
        assert type(torch.zeros_like(race, dtype=torch.bool)) is torch.Tensor
        room = torch.cat([race, torch.zeros_like(gathered)], 1).scatter(1, place, gathered)
        mask = torch.arange(6) < torch.tensor([[1], [2], [3]])
        room = room.masked_fill(mask[..., None], 0.0)
        room = torch.where(mask[..., None], race[:, :1], room)
        room = room.flatten(0, 1).unflatten(0, (3, 6)).roll(1, 1).flip(1)[:, 1:5]
        fresh = torch.zeros(3, 4, 2, dtype=torch.float64)
        assert type(torch.where(mask[:, :4, None], race, fresh)) is type(race)
        assert room.shape == race.shape
        assert room.dtype == race.dtype == torch.float64
        assert type(room) is type(race)


def test_an_error_that_was_swallowed_is_told_again():
    draws = Enumerated(1)
    for _ in range(2):
        with pytest.raises(ContractError, match=r"1\.3 is no probability"):
            draws.accept_run(torch.tensor([[1.3]]), torch.tensor([[True]]))
    with pytest.raises(ContractError, match=r"1\.3 is no probability"):
        draws.finish(None)


def test_a_state_may_have_room_for_races_and_none_there():
    draws = Enumerated(2)
    none = draws.race(2, 0, 2)
    token, _ = draws.winner(none, heads(draws), everywhere(draws, 0))
    kept, known = draws.finish(none)
    assert token.shape == (2, 0)
    assert kept.shape == known.shape == (2, 0, 2)


def test_a_race_of_another_calls_state_is_not_the_one_with_its_number():
    before = Enumerated(2)
    kept, known = before.finish(before.race(2, 1, 2))
    stale = Enumerated(2, known=known).shown(kept)
    draws = Enumerated(2, known=known)
    token, _ = draws.winner(draws.shown(kept), heads(draws, 0.3), everywhere(draws))
    assert token.tolist() == [[0], [0]]
    with pytest.raises(ContractError, match="neither in the state nor of this call"):
        draws.winner(stale, heads(draws, 0.3), everywhere(draws))


@pytest.mark.parametrize("call", [1 << 15, (1 << 15) - 1])
def test_a_race_is_one_in_whatever_call(monkeypatch, call):
    monkeypatch.setattr(noise, "_CALLS", itertools.count(call))
    draws = Enumerated(2)
    token, _ = draws.winner(draws.race(2, 2, 2), heads(draws, 0, 1), everywhere(draws, 2))
    assert token.tolist() == [[1, 0], [1, 0]]
