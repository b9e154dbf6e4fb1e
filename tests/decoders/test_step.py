"""What one step owes: its accounts, its contract with the model, and rows that know nothing of each other."""

from dataclasses import fields

import pytest
import torch

from specverify import tree
from specverify.decoders import Branch, Speculative, registry, run
from specverify.draws import Sampled
from specverify.model import Checked
from specverify.recorded import Recorded
from toymodels import draft, toy

TOYS = ("dense-3x6", "sparse-3x5", "eos-3x6", "penalty-3x6", "dense-2x8")
BATCH = 128


def build(name, model, window, initial="random"):
    return registry.build(name, registry.Settings(window, initial, draft("perturbed", model)))


def steps(decoder, model, draws, batch=BATCH):
    """(state before, state after, info) of each step until every row is done."""
    state = decoder.init(model, batch, draws)
    while not state.done.all():
        after, info = decoder.step(state, model, draws)
        yield state, after, info
        state = after


UNVERIFIED = ("vvs", "zipar")
"""Relaxed decoders that emit several tokens which no pass verifies."""
CASES = pytest.mark.parametrize("name", registry.names("ids"))
ON_TOYS = pytest.mark.parametrize("toy_name", TOYS)
WINDOWS = pytest.mark.parametrize("window", [1, 3, 9])


@pytest.mark.thinned(52)
@CASES
@ON_TOYS
@WINDOWS
def test_the_accounts_of_every_step_add_up_and_the_model_is_used_as_promised(name, toy_name, window, seed):
    model = Checked(toy(toy_name))
    decoder, drafted_by_a_model = build(name, model, window), registry.entry(name).needs_draft_model
    seen = torch.zeros(len(Branch), dtype=torch.int64)
    emitted = torch.zeros(BATCH, dtype=torch.int64)
    for before, after, info in steps(decoder, model, Sampled(seed)):
        active = ~before.done
        count = after.length - before.length
        place = torch.arange(info.branch.shape[1])
        assert torch.equal(info.emitted, count)
        assert torch.equal(info.passes, active.long())
        assert torch.equal(info.branch != Branch.NONE, place < count[:, None])
        assert torch.equal((info.branch == Branch.ACCEPTED).sum(1), info.accepted)
        assert torch.equal((info.branch == Branch.RECOVERED).sum(1), info.verified - info.accepted)
        assert ((info.branch == Branch.BONUS).sum(1) <= active).all()
        plain = (info.branch == Branch.SAMPLED).sum(1)
        if name in UNVERIFIED:
            assert torch.equal(plain, count - info.accepted - (info.branch >= Branch.RECOVERED).sum(1))
        else:
            assert torch.equal(plain, active * (not registry.entry(name).drafts))
        assert (info.accepted <= info.verified).all()
        assert (info.verified <= window).all()
        assert (count[active] >= 1).all()
        assert (info.draft_passes[active] > 0).all() if drafted_by_a_model else not info.draft_passes.any()
        # Rows that were done stay as they are, and did nothing.
        for field in ("tokens", "length", "done"):
            assert torch.equal(getattr(after, field)[~active], getattr(before, field)[~active])
        for field in fields(info):
            assert not getattr(info, field.name)[~active].any(), field.name
        # What was committed before is not touched; done says that a row has reached its end.
        old = torch.arange(model.length) < before.length[:, None]
        assert torch.equal(after.tokens[old], before.tokens[old])
        ended = (after.tokens == model.eos).any(1) if model.eos is not None else torch.zeros_like(active)
        assert torch.equal(after.done, (after.length == model.length) | ended)
        emitted += count
        seen += (info.branch.reshape(-1, 1) == torch.arange(len(Branch))).sum(0)
    assert torch.equal(emitted, after.length)
    expected = {Branch.SAMPLED} if not registry.entry(name).drafts else {Branch.ACCEPTED, Branch.RECOVERED}
    assert all(seen[branch] > 0 for branch in expected), "the accounts of a branch that was not taken say nothing"
    assert seen[Branch.BONUS] > 0 or window > 1 or not registry.entry(name).drafts


@pytest.mark.thinned(15)
@CASES
@ON_TOYS
def test_a_step_on_finished_rows_changes_nothing(name, toy_name, seed):
    model, draws = Checked(toy(toy_name)), Sampled(seed)
    decoder = build(name, model, 3)
    *_, (_, state, _) = steps(decoder, model, draws, 16)
    after, info = decoder.step(state, model, draws)
    draws.check()
    for field in ("tokens", "length", "done"):
        assert torch.equal(getattr(after, field), getattr(state, field))
    assert not any(getattr(info, field.name).any() for field in fields(info))


@pytest.mark.thinned(12)
@CASES
@pytest.mark.parametrize("window", [1, 3, 8])
def test_after_an_end_of_sequence_token_there_is_nothing_else(name, window, seed):
    model = toy("eos-3x6")
    result = run(build(name, model, window), model, 512, Sampled(seed))
    is_end = result.tokens == model.eos
    assert torch.equal(is_end, is_end.cummax(1).values), "a token follows the end"
    length = torch.where(is_end.any(1), is_end.int().argmax(1) + 1, model.length)
    assert torch.equal(result.branches.sum(1), length), "the end counts as one emitted token, what follows as none"
    assert len(length.unique()) >= 4


@pytest.mark.thinned(28)
@CASES
@pytest.mark.parametrize("toy_name", ["dense-3x6", "eos-3x6", "penalty-3x6"])
@pytest.mark.parametrize("initial", ["repeat-left", "sample-left"])
def test_a_row_depends_on_its_own_draws_alone(name, toy_name, initial, seed):
    """Any selection of rows, in any order, with the same outcomes, steps to the same states."""
    model = toy(toy_name)
    decoder = build(name, model, 3, initial)
    generator = torch.Generator().manual_seed(seed)
    state, ragged = decoder.init(model, BATCH, Sampled(seed, 1)), False
    for number in range(2, 5):
        record = Recorded(Sampled(seed, number))
        after, info = decoder.step(state, model, record)
        for size in (1, BATCH, 3 * BATCH):
            chosen = torch.randint(BATCH, (size,), generator=generator)
            outcomes = [(kind, tree.rows(outcome, chosen)) for kind, outcome in record.outcomes]
            alone = decoder.step(tree.rows(state, chosen), model, Recorded(outcomes=outcomes))
            assert torch.equal(tree.to_bits(alone), tree.to_bits(tree.rows((after, info), chosen)))
        state, ragged = after, ragged or len(after.length.unique()) > 1
    assert ragged or not registry.entry(name).drafts, "ragged rows are the point"


class Spy:
    """A model that remembers the laws of its last forward passes."""

    def __init__(self, inner):
        self.inner, self.given = inner, []
        self.name, self.vocab, self.length, self.eos = inner.name, inner.vocab, inner.length, inner.eos
        self.dtype, self.device, self.start, self.advance = inner.dtype, inner.device, inner.start, inner.advance

    def laws(self, context, draft):
        self.given.append(self.inner.laws(context, draft))
        return self.given[-1]


@pytest.mark.thinned(6)
@pytest.mark.parametrize("window", [1, 2, 4, 9])
@pytest.mark.parametrize("toy_name", ["dense-3x6", "eos-3x6", "recurrent-3x6"])
@pytest.mark.parametrize("name", ["sjd", "scd-mc", "scd-gs"])
def test_each_draft_is_labelled_with_the_law_of_the_pass_that_it_was_drawn_from(name, toy_name, window, seed):
    spy = Spy(toy(toy_name))
    decoder, labelled = build(name, spy, window), 0
    for _, after, info in steps(decoder, spy, Sampled(seed)):
        carried, laws = after.drafting, spy.given[-1]
        slot = torch.arange(window)
        has_law = slot < carried.count[:, None]
        place = (info.emitted[:, None] + slot).clamp(max=window)
        produced = laws.gather(1, place[..., None].expand(-1, -1, spy.vocab))
        assert torch.equal(carried.law[has_law], produced[has_law])
        assert not carried.law[~has_law].any()
        assert (carried.count <= (spy.length - after.length)).all()
        if name != "sjd":
            assert (carried.law.gather(2, carried.token[..., None])[has_law] > 0).all()
        labelled += int(has_law.sum())
    assert labelled > BATCH / 2


def test_the_drafts_of_a_draft_model_are_labelled_with_its_laws(seed):
    model = toy("dense-3x6")
    spy = Spy(draft("perturbed", model))
    decoder = Speculative(registry.DraftModel(spy), 3)
    draws = Sampled(seed)
    state = decoder.init(model, BATCH, draws)
    for _ in range(3):
        proposal = decoder.drafting.propose(state, model, 3, draws)
        reach = torch.arange(3) < (model.length - state.length).where(~state.done, 0)[:, None]
        assert torch.equal(proposal.law[reach], torch.cat(spy.given[-3:], 1)[reach])
        certain = proposal.law.gather(2, proposal.token[..., None])[~reach]
        assert torch.equal(certain, torch.ones_like(certain))
        state, _ = decoder.step(state, model, draws)


def noise_by_position(name, after, length):
    """The noise that a state holds for each absolute position, 0 where it holds none: Float[batch, length, vocab]."""
    race = after.drafting.race
    if name == "sjd-race":
        return race
    place = after.length[:, None] + torch.arange(race.shape[1])
    table = race.new_zeros(len(race), length + race.shape[1] + 1, race.shape[2])
    return table.scatter(1, place[..., None].expand_as(race), race)[:, :length]


@pytest.mark.thinned(6)
@pytest.mark.parametrize("window", [2, 3, 5])
@pytest.mark.parametrize("toy_name", ["dense-3x6", "penalty-3x6", "hash-16x24"])
@pytest.mark.parametrize("name", ["scd-gs", "sjd-race"])
def test_the_noise_of_a_position_is_kept_until_it_is_committed_and_never_used_again(name, toy_name, window, seed):
    model = toy(toy_name)
    draws, decoder = Sampled(seed), build(name, model, window)
    state = decoder.init(model, BATCH, draws)
    held = noise_by_position(name, state, model.length)
    seen, compared = held.clone(), 0
    while not state.done.all():
        state, _ = decoder.step(state, model, draws)
        now = noise_by_position(name, state, model.length)
        waiting = torch.arange(model.length) >= state.length[:, None]
        both = waiting & held.any(2) & now.any(2) & ~state.done[:, None]
        assert torch.equal(now[both], held[both]), "a position's noise changed while it waited"
        compared += int(both.sum())
        seen, held = torch.where(now.any(2, keepdim=True), now, seen), now
    assert compared > BATCH
    used = seen[seen.any(2)]
    assert len(used.unique(dim=0)) == len(used), "two positions shared their noise"
