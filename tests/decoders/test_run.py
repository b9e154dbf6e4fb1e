"""The run loop: rows keep their place and their bill, blocks can be run anywhere, and nothing is counted twice."""

from dataclasses import dataclass, fields

import pytest
import torch

from specverify.decoders import Block, Branch, DraftModel, Jacobi, Run, Speculative, registry, run, sample
from specverify.decoders.continuous import Reflection
from specverify.draws import Sampled
from specverify.errors import InputError
from toymodels import continuous, draft, toy

BATCH = 200


def build(name, model, window=3):
    return registry.build(name, registry.Settings(window, "zero", draft("perturbed", model)))


@dataclass(frozen=True)
class Row:
    """Which row this was when the batch started, and how far it is."""

    number: torch.Tensor
    position: torch.Tensor


class Numbered:
    """A model whose row r spells r in digits of base 3, then emits an end token: every row has one possible sequence.

    Row r has 1 + r % 5 digits, so that rows end at very different times.
    """

    name, vocab, length, eos = "numbered", 4, 8, 3
    dtype, device = torch.float64, torch.device("cpu")

    def start(self, batch):
        return Row(torch.arange(batch), torch.zeros(batch, dtype=torch.int64))

    def laws(self, context, draft):
        place = context.position[:, None] + torch.arange(draft.shape[1] + 1)
        digit = torch.div(context.number[:, None], 3**place, rounding_mode="floor") % 3
        token = torch.where(place > (context.number % 5)[:, None], self.eos, digit)
        return torch.nn.functional.one_hot(token, self.vocab).double()

    def advance(self, context, tokens, count):
        return Row(context.number, context.position + count)


class Alone(Numbered):
    """One row of `Numbered`, whatever its place in the batch."""

    def __init__(self, row):
        self.row = row

    def start(self, batch):
        return Row(torch.full((batch,), self.row), torch.zeros(batch, dtype=torch.int64))


@pytest.mark.parametrize("name", registry.names("ids"))
def test_rows_keep_their_place_and_their_bill_when_others_leave_the_batch(name):
    model, row = Numbered(), torch.arange(BATCH)
    result = run(registry.build(name, registry.Settings(2, draft_model=model)), model, BATCH, Sampled(0))
    for place in range(model.length):
        digit = torch.div(row, 3**place, rounding_mode="floor") % 3
        assert torch.equal(result.tokens[:, place], torch.where(place > row % 5, model.eos, digit))
    emitted = 2 + row % 5
    assert torch.equal(result.branches.sum(1), emitted)
    # A row pays the same whatever its batch; sequential rows pay one pass per token.
    for number in (57, 3, 199):
        model = Alone(number)
        alone = run(registry.build(name, registry.Settings(2, draft_model=model)), model, 1, Sampled(0))
        for field in fields(Run):
            assert torch.equal(getattr(alone, field.name)[0], getattr(result, field.name)[number])
    if name.startswith("ar"):
        assert torch.equal(result.passes, emitted)


class Noted:
    """A decoder, and what its steps said of each token of its only row."""

    def __init__(self, decoder):
        self.decoder, self.name, self.said = decoder, decoder.name, []

    def init(self, model, batch, draws):
        return self.decoder.init(model, batch, draws)

    def step(self, state, model, draws):
        after, info = self.decoder.step(state, model, draws)
        self.said += info.branch[0, : int(info.emitted[0])].tolist()
        return after, info


@pytest.mark.parametrize("toy_name", ["eos-3x6", "dense-3x6"])
@pytest.mark.parametrize("name", registry.names("ids"))
def test_how_each_token_came_is_kept_at_its_place(name, toy_name, seed):
    model = toy(toy_name)
    noted = Noted(build(name, model))
    result = run(noted, model, 1, Sampled(seed))
    rest = [int(Branch.NONE)] * (model.length - len(noted.said))
    assert result.branch[0].tolist() == noted.said + rest


@pytest.mark.parametrize("toy_name", ["eos-3x6", "dense-3x6"])
@pytest.mark.parametrize("name", registry.names("ids"))
def test_totals_and_progress_add_up(name, toy_name, seed):
    model, progress = toy(toy_name), []
    result = run(build(name, model), model, BATCH, Sampled(seed), on_tokens=progress.append)
    assert sum(progress) == int(result.branches.sum())
    assert all(progress), "a step without a token"
    assert progress[0] >= BATCH
    assert not result.branches[:, 0].any()
    assert torch.equal(result.branches[:, 2], result.accepted)
    assert torch.equal(result.branches[:, 3], result.verified - result.accepted)
    assert (result.passes <= result.branches.sum(1)).all()
    assert len(progress) == int(result.passes.max())
    rate = result.acceptance_rate
    assert rate == int(result.accepted.sum()) / int(result.verified.sum()) if result.verified.any() else rate != rate


@pytest.mark.thinned(4)
@pytest.mark.parametrize("name", registry.names("ids"))
def test_blocks_run_apart_in_any_order_are_the_blocks_run_together(name, seed):
    model = toy("eos-3x6")
    decoder, progress = build(name, model), []
    together = sample(decoder, model, 350, seed, block=100, on_tokens=progress.append)
    sizes = {3: 50, 0: 100, 2: 100, 1: 100}
    apart = {
        number: sample(decoder, model, size, seed, block=100, first_block=number) for number, size in sizes.items()
    }
    for field in fields(Run):
        joined = torch.cat([getattr(apart[number], field.name) for number in range(4)])
        assert torch.equal(getattr(together, field.name), joined)
    assert sum(progress) == int(together.branches.sum())
    assert not torch.equal(apart[0].tokens, apart[1].tokens)
    assert torch.equal(sample(decoder, model, 350, seed, block=100).tokens, together.tokens)
    assert not torch.equal(sample(decoder, model, 350, seed + 1, block=100).tokens, together.tokens)


def test_a_run_builds_no_gradients():
    class Watched(Numbered):
        def laws(self, context, draft):
            assert not torch.is_grad_enabled()
            return super().laws(context, draft)

    assert torch.is_grad_enabled()
    for name in registry.names("ids"):
        run(registry.build(name, registry.Settings(2, draft_model=Watched())), Watched(), 4, Sampled(0))


def test_a_judging_of_the_other_kind_of_token_is_refused():
    ids, vectors = toy("dense-3x6"), continuous.toy("gauss-2x6")
    with pytest.raises(InputError, match="Reflection judges no ids, which takes accept and recover, or verify"):
        run(Speculative(DraftModel(ids), 2, Reflection()), ids, 4, Sampled(0))
    with pytest.raises(InputError, match="Block judges no vectors, which takes a coupling of their densities"):
        run(Speculative(DraftModel(vectors), 2, Block()), vectors, 4, Sampled(0))


def test_drafts_of_the_other_kind_of_token_are_refused():
    with pytest.raises(InputError, match="Reflection redraws no ids; choose independent, maximal, gumbel"):
        run(Speculative(Jacobi(Reflection()), 2), toy("dense-3x6"), 4, Sampled(0))
    with pytest.raises(InputError, match="initial drafts 'random' are ids; vectors take repeat-left, zero or left-law"):
        run(Speculative(Jacobi("independent", "random"), 2), continuous.toy("gauss-2x6"), 4, Sampled(0))


def test_the_token_rule_judges_tokens_of_either_kind():
    for model in (toy("dense-3x6"), continuous.toy("gauss-2x6")):
        result = run(Speculative(DraftModel(model), 2), model, 4, Sampled(0))
        assert result.acceptance_rate == 1
        assert (result.passes == 2).all()
