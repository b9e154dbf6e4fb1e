"""Counts of ids, of their blocks and classes, and of what came before, against what the laws make due."""

import re

import numpy as np
import pytest
import torch

from specverify.decoders import Autoregressive, sample
from specverify.evidence.before import LAGS, REPEATED
from specverify.evidence.design import rate_excess
from specverify.evidence.ids import Groups, Ids
from specverify.evidence.tokens import traced
from toymodels import toy

ALL = slice(None)


def peaked(rows, length, vocab, generator, sharp=4):
    laws = torch.rand(rows, length, vocab, generator=generator, dtype=torch.float64) ** sharp
    return laws / laws.sum(2, keepdim=True)


def drawn(laws, generator):
    flat = laws.flatten(0, 1)
    return torch.multinomial(flat, 1, generator=generator).reshape(laws.shape[:2])


def judged(laws, tokens, before=False, alpha=1e-6, beta=1e-6):
    groups = Groups(tokens, laws.shape[2])
    groups.add(laws, ALL, ALL)
    return Ids(before=before).check(groups, torch.ones_like(tokens, dtype=torch.bool), alpha=alpha, beta=beta)


def same(one, other, exactly=True):
    for name in ("blocks", "classes", "again"):
        for mine, due in zip(getattr(one, name), getattr(other, name), strict=True):
            for field in ("came", "due"):
                torch.testing.assert_close(getattr(mine, field), getattr(due, field), rtol=0, atol=1e-12)
            if exactly:
                torch.testing.assert_close(mine.log_e(), due.log_e(), rtol=0, atol=1e-10)
            else:
                assert bool((mine.cross <= due.cross + 1e-12).all())
                assert bool((mine.square <= due.square + 1e-12).all())


@pytest.mark.parametrize("vocab", [2, 3, 7, 16, 37])
def test_groups_are_what_counting_by_hand_gives(vocab, seed):
    generator = torch.Generator().manual_seed(seed)
    laws = peaked(5, 9, vocab, generator)
    tokens, lengths = drawn(laws, generator), [9, 8, 0, 5, 1]
    counted = torch.arange(9) < torch.tensor(lengths)[:, None]
    groups = Groups(tokens, vocab, counted)
    groups.add(laws, ALL, ALL)
    assert groups.size == sum(lengths)
    places = [(row, place) for row in range(5) for place in range(lengths[row])]
    kinds = [(lambda id, k=k: id // 2**k) for k in range(len(groups.blocks))]
    for sums, kind in zip(groups.blocks, kinds, strict=True):
        assert len(sums.due) == kind(vocab - 1) + 1 > 1
    moduli = [len(sums.due) for sums in groups.classes]
    assert moduli == [2**j for j in range(1, vocab.bit_length()) if 2**j < vocab][::-1]
    kinds += [(lambda id, m=m: id % m) for m in moduli]
    for sums, kind in zip(groups.blocks + groups.classes, kinds, strict=True):
        due, square = np.zeros(len(sums.due)), np.zeros(len(sums.due))
        came, cross = np.zeros(len(sums.due)), np.zeros(len(sums.due))
        for row, place in places:
            mass = np.bincount([kind(id) for id in range(vocab)], laws[row, place].numpy(), len(due))
            own = kind(int(tokens[row, place]))
            due, square = due + mass, square + mass**2
            came[own] += 1
            cross[own] += mass[own]
        for name, value in (("due", due), ("square", square), ("came", came), ("cross", cross)):
            assert getattr(sums, name).numpy() == pytest.approx(value)


def test_what_came_before_is_known_by_its_place(seed):
    generator = torch.Generator().manual_seed(seed)
    laws = peaked(40, 12, 4, generator)
    tokens = drawn(laws, generator)
    groups = Groups(tokens, 4)
    groups.add(laws, ALL, ALL)
    (again,) = groups.again
    came, due = np.zeros(len(REPEATED)), np.zeros(len(REPEATED))
    for row, law in zip(tokens.tolist(), laws, strict=True):
        for place, token in enumerate(row):
            before = row[:place]
            earlier = [at for at in range(place - 1) if row[at] == row[place - 1]]
            sets = [set(before), {row[earlier[-1] + 1]} if earlier else set()]
            sets += [{before[-lag]} if place >= lag else set() for lag in range(1, LAGS + 1)]
            for stream, ids in enumerate(sets):
                came[stream] += token in ids
                due[stream] += float(law[place, sorted(ids)].sum())
    assert again.came.numpy() == pytest.approx(came)
    assert again.due.numpy() == pytest.approx(due)
    assert came[1] > 0


@pytest.mark.parametrize("vocab", [16, 3000])
def test_parts_lists_and_rows_that_are_joined_give_the_same(vocab, seed, monkeypatch):
    generator = torch.Generator().manual_seed(seed)
    laws = peaked(6, 9, vocab, generator)
    tokens = drawn(laws, generator)
    whole = Groups(tokens, vocab)
    whole.add(laws, ALL, ALL)
    parts = Groups(tokens, vocab)
    for rows in (slice(0, 2), slice(2, 6)):
        for places in (slice(0, 4), slice(4, 9)):
            parts.add(laws[rows, places], rows, places)
    same(parts, whole)
    joined, other = (Groups(tokens[rows], vocab) for rows in (slice(0, 4), slice(4, 6)))
    joined.add(laws[:4], ALL, ALL)
    other.add(laws[4:], ALL, ALL)
    joined.join(other)
    assert joined.size == whole.size == 54
    same(joined, whole)
    monkeypatch.setattr("specverify.evidence.ids.ROOM", 2 * vocab)  # two rows at once
    top = laws.topk(5, 2)
    lists = Groups(tokens, vocab)
    lists.add_lists(top.values, top.indices, slice(0, 6), slice(0, 9))
    same(lists, _only(laws, top, tokens), exactly=False)


def _only(laws, top, tokens):
    """The same where what is not listed is not possible."""
    groups = Groups(tokens, laws.shape[2])
    groups.add(torch.zeros_like(laws).scatter(2, top.indices, top.values), ALL, ALL)
    return groups


@pytest.mark.thinned(2)
@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("vocab", [2, 24])
def test_false_alarms_of_perfect_logs(vocab, before, seed):
    generator, alpha, trials, alarms = torch.Generator().manual_seed(seed), 0.05, 200, 0
    table = peaked(vocab, 1, vocab, generator)[:, 0]
    for _ in range(trials):
        tokens = torch.zeros(20, 15, dtype=torch.int64)
        for place in range(1, 15):  # what came before decides what comes
            tokens[:, place] = torch.multinomial(table[tokens[:, place - 1]], 1, generator=generator)[:, 0]
        laws = torch.cat([torch.eye(vocab)[:1].expand(20, 1, vocab), table[tokens[:, :-1]]], 1)
        alarms += judged(laws, tokens, before, alpha=alpha).rejected
    assert rate_excess(alarms, trials, alpha) > 1e-6


@pytest.mark.parametrize("group", ["id", "class"])
def test_miss_rate_of_a_group_that_is_off_by_delta(group, seed):
    generator, rate, trials, misses, vocab = torch.Generator().manual_seed(seed), 0.05, 40, 0, 8
    n = Ids(vocab).sample_size(0.05, alpha=1e-4, beta=rate)
    assert Ids(vocab).smallest_detectable(n, alpha=1e-4, beta=rate) <= 0.05
    said = torch.full((vocab,), 0.125, dtype=torch.float64)
    off = torch.tensor([0.05, *([-0.05 / 7] * 7)] if group == "id" else [0.0125, -0.0125] * 4, dtype=torch.float64)
    for _ in range(trials):
        tokens = torch.multinomial(said + off, n, replacement=True, generator=generator)[:, None]
        misses += not judged(said.expand(n, 1, vocab), tokens, alpha=1e-4).rejected
    assert rate_excess(misses, trials, rate) > 1e-6


def tile(laws, tokens):
    return laws * (torch.arange(laws.shape[2]) // 128 != 3)


def lane(laws, tokens):
    return laws * torch.where(torch.arange(laws.shape[2]) % 2 == 0, 1.15, 0.85)


def favourite(laws, tokens):
    return laws * torch.where(torch.arange(laws.shape[2]) == 77, 5.0, 1.0)


def penalty(laws, tokens):
    seen = torch.zeros(laws.shape[0], laws.shape[2], dtype=torch.bool).scatter(1, tokens, True)
    return torch.where(seen, 0.3 * laws[:, 0], laws[:, 0])[:, None]


def copied(laws, tokens):
    """The law leans to what followed the last token before."""
    found = laws[:, 0].clone()
    for row, before in enumerate(tokens.tolist()):
        earlier = [at for at in range(len(before) - 1) if before[at] == before[-1]]
        if earlier:
            found[row, before[earlier[-1] + 1]] *= 4
    return found[:, None]


WRONG = {
    "tile": (tile, 1024, 400, r"^ids 384 to 511: \d\d came, 1,\d+\.\d are due$"),
    "lane": (lane, 1024, 600, r"^ids [01], [23], [45], \.\.\.: "),
    "favourite": (favourite, 256, 600, "^id 77: "),
    "penalty": (penalty, 64, 400, "^tokens that came before in their row: "),
    "copied": (copied, 12, 400, "^the token that followed the one before"),
}


@pytest.mark.thinned(2)
@pytest.mark.parametrize(("slip", "vocab", "rows", "said"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_with_ids_wherever_they_stand_is_seen_and_named(slip, vocab, rows, said):
    generator = torch.Generator().manual_seed(3)
    table = peaked(64, 1, vocab, generator, sharp=8)[:, 0]
    for wrong in (False, True):
        tokens, laws = torch.zeros(rows, 0, dtype=torch.int64), []
        for place in range(24):
            state = (tokens.sum(1) * 7 + place) % 64
            laws.append(table[state][:, None])
            change = wrong and place > 0
            due = slip(laws[-1], tokens)[:, 0] if change else laws[-1][:, 0]
            tokens = torch.cat([tokens, torch.multinomial(due, 1, generator=generator)], 1)
        found = judged(torch.cat(laws, 1), tokens, before=slip in (penalty, copied))
        assert found.rejected == wrong, found.detail
    assert re.search(said, found.detail), found.detail


def test_a_log_without_a_choice_says_nothing():
    tokens = torch.zeros(50, 2, dtype=torch.int64)
    groups = Groups(tokens, 4)
    groups.add(torch.eye(4)[:1].expand(50, 2, 4), ALL, ALL)
    found = Ids().check(groups, torch.zeros(50, 2, dtype=torch.bool), alpha=0.5, beta=0.5)
    assert found.vacuous
    assert not found.rejected


@pytest.mark.parametrize("room", [1 << 27, 60 * 5 * 16])  # laws of a batch at once, and of a few positions
def test_groups_are_taken_along_where_a_model_is_read(room, monkeypatch):
    monkeypatch.setattr("specverify.evidence.tokens.AT_ONCE", room)
    model = toy("hash-16x24")
    tokens = sample(Autoregressive(), model, 150, 0).tokens
    read, whole = Groups(tokens, model.vocab), Groups(tokens, model.vocab)
    traced(model, tokens, 60, np.random.default_rng(0), read)
    whole.add(model.laws(model.start(150), tokens[:, :-1]), ALL, ALL)
    same(read, whole)


def test_false_alarms_where_only_a_bound_is_known(seed):
    generator, alpha, trials, alarms = torch.Generator().manual_seed(seed), 0.05, 200, 0
    laws = torch.full((40, 6, 12), 1 / 12, dtype=torch.float64)  # what is not listed is as probable as it can be
    for _ in range(trials):
        tokens = drawn(laws, generator)
        groups = Groups(tokens, 12)
        ids = torch.rand(40, 6, 12, generator=generator).argsort(2)[..., :3]
        groups.add_lists(laws[..., :3], ids, slice(0, 40), slice(0, 6))
        alarms += Ids().check(groups, torch.ones_like(tokens, dtype=torch.bool), alpha=alpha, beta=0.1).rejected
    assert rate_excess(alarms, trials, alpha) > 1e-6
    (unlisted,) = groups.unlisted
    assert int(unlisted.came.sum()) == int((ids != tokens[..., None]).all(2).sum())
    assert float(unlisted.due.sum()) == pytest.approx(240 * 9 / 12)
