"""What every model here owes to decoders, whatever is behind it: laws by window equal laws one by one."""

import pytest
import torch

from specverify import tree
from specverify.model import Checked, Model
from specverify.processors import Guided, Processed, parse_processors
from toymodels import draft, names, tabulate, toy
from toymodels.catalogue import enumerable, fixed_sequences
from toymodels.drafts import kinds

DRAFTED = ("dense-3x6", "sparse-4x5", "raster-4x6", "eos-3x6", "recurrent-3x6", "markov-8x32", "hash-16x24")
MODELS = {
    **{name: lambda dtype, name=name: toy(name, dtype) for name in names()},
    **{f"{kind}:{name}": lambda dtype, k=kind, n=name: draft(k, toy(n, dtype)) for kind in kinds() for name in DRAFTED},
    "processed": lambda dtype: Processed(toy("penalty-3x6", dtype), parse_processors("temperature=0.7,top_k=2")),
    "guided": lambda dtype: Guided(toy("window-3x6", dtype), toy("recurrent-3x6", dtype), 1.5),
}
ROWS = 48


def one_by_one(model: Model, sequences: torch.Tensor) -> torch.Tensor:
    """The law at every position, asked for with empty windows."""
    context, laws = model.start(len(sequences)), []
    ones = torch.ones(len(sequences), dtype=torch.int64)
    for position in range(model.length):
        laws.append(model.laws(context, sequences[:, :0])[:, 0])
        context = model.advance(context, sequences[:, position : position + 1], ones)
    return torch.stack(laws, 1)


def windows(sequences: torch.Tensor, position: torch.Tensor, size: int, junk: torch.Tensor) -> torch.Tensor:
    """Each row's next `size` tokens from its own position on, and junk beyond the end."""
    padded = torch.cat([sequences, junk], 1)
    return padded.gather(1, position[:, None] + torch.arange(size))


@pytest.mark.thinned(4)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["fp64", "fp32"])
@pytest.mark.parametrize("name", MODELS)
def test_windowed_laws_equal_laws_one_by_one(name, dtype):
    model = Checked(MODELS[name](dtype))
    generator = torch.Generator().manual_seed(1)

    def junk(size: int) -> torch.Tensor:
        return torch.randint(model.vocab, (ROWS, size), generator=generator)

    sequences = fixed_sequences(ROWS, model.vocab, model.length)
    truth = one_by_one(model, sequences)
    assert truth.dtype == model.dtype == dtype

    whole = model.laws(model.start(ROWS), sequences)
    assert torch.equal(whole[:, :-1], truth)

    context, position = model.start(ROWS), torch.zeros(ROWS, dtype=torch.int64)
    stepwise, ragged = model.start(ROWS), False
    for size in (0, 1, 4, 2, 5):
        drafts = windows(sequences, position, size, junk(size))
        agreed = torch.randint(size + 1, (ROWS, 1), generator=generator)
        drafts = torch.where(torch.arange(size) < agreed, drafts, junk(size))  # junk tails
        laws = model.laws(context, drafts)
        for k in range(size + 1):
            due = ((position + k < model.length) & (k <= agreed[:, 0])).nonzero().squeeze(1)
            assert torch.equal(laws[due, k], truth[due, position[due] + k])
        count = torch.minimum(torch.minimum(agreed[:, 0] + 1, model.length - position), junk(1)[:, 0] + 1)
        tokens = torch.cat([drafts, junk(1)], 1)
        own = windows(sequences, position, size + 1, junk(size + 1))
        tokens = torch.where(torch.arange(size + 1) < count[:, None], own, tokens)
        context = model.advance(context, tokens, count)
        for k in range(size + 1):
            step = (count > k).long()
            stepwise = model.inner.advance(stepwise, tokens[:, k : k + 1], step)
        position = position + count
        ragged |= len(position.unique()) > 1
        assert torch.equal(tree.to_bits(context), tree.to_bits(stepwise))
    assert ragged, "rows were meant to have different lengths"


@pytest.mark.parametrize("name", MODELS)
def test_rows_do_not_depend_on_each_other_nor_on_forward_passes(name):
    model = MODELS[name](torch.float64)
    sequences = fixed_sequences(ROWS, model.vocab, model.length)
    count = torch.arange(ROWS) % 3
    context = model.advance(model.start(ROWS), sequences[:, :2], count)
    before = tree.to_bits(context).clone()
    laws = model.laws(context, sequences[:, 2:])
    assert torch.equal(tree.to_bits(context), before)
    some = torch.tensor([5, 40, 0, 5, 11])
    assert torch.equal(model.laws(tree.rows(context, some), sequences[some, 2:]), laws[some])
    halves = [tree.rows(context, torch.arange(10, ROWS)), tree.rows(context, torch.arange(10))]
    assert torch.equal(tree.to_bits(tree.join(halves)), torch.cat([before[10:], before[:10]]))


@pytest.mark.parametrize("name", [name for name in names() if enumerable(name)])
def test_the_table_of_a_toy_has_its_laws(name):
    model = toy(name)
    table = tabulate(model)
    sequences = fixed_sequences(200, model.vocab, model.length)
    expected = model.laws(model.start(200), sequences)
    assert torch.equal(table.laws(table.start(200), sequences), expected)
    assert (table.name, table.vocab, table.length, table.eos) == (name, model.vocab, model.length, model.eos)
