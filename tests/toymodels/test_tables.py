import itertools

import pytest
import torch

from specverify.errors import BudgetError, InputError
from toymodels import TableModel, tabulate, toy
from toymodels.tables import enumerable, prefixes


def random_table(vocab: int, length: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(vocab * 100 + length)
    return torch.rand(prefixes(vocab, length), vocab, generator=generator, dtype=dtype).softmax(-1)


@pytest.mark.parametrize(("vocab", "length"), [(1, 4), (2, 5), (3, 4), (7, 2), (4, 1)])
def test_every_prefix_finds_its_row(vocab, length):
    table = random_table(vocab, length)
    model = TableModel("random", table, length)
    sequences = torch.tensor(list(itertools.product(range(vocab), repeat=length)))
    laws = model.laws(model.start(len(sequences)), sequences)
    assert laws.shape == (len(sequences), length + 1, vocab)
    offset = 0
    for position in range(length):
        powers = vocab ** torch.arange(position - 1, -1, -1)
        code = (sequences[:, :position] * powers).sum(1)
        assert torch.equal(laws[:, position], table[offset + code])
        offset += vocab**position
    assert torch.equal(laws[:, length], torch.full((len(sequences), vocab), 1 / vocab, dtype=torch.float64))


def test_past_the_end_the_law_is_uniform_however_far():
    model = TableModel("random", random_table(3, 2, torch.float32), 2)
    tokens = torch.full((4, 60), 2)
    context = model.advance(model.start(4), tokens, torch.tensor([0, 1, 2, 60]))
    laws = model.laws(context, tokens)
    assert torch.equal(laws[:, 2:], torch.full((4, 59, 3), 1 / 3))
    assert torch.equal(laws[0, 0], model.table[0])
    assert torch.equal(laws[1, 0], model.table[3])
    assert torch.equal(laws[2:, 0], torch.full((2, 3), 1 / 3))
    assert laws.dtype == torch.float32


def test_tabulating_a_table_gives_it_back():
    model = TableModel("random", random_table(3, 4), 4, eos=1, clusters=((0, 1), (2,)))
    again = tabulate(model)
    assert torch.equal(again.table, model.table)
    assert (again.name, again.vocab, again.length, again.eos, again.clusters) == ("random", 3, 4, 1, ((0, 1), (2,)))


def test_prefixes_counts_contexts():
    assert [prefixes(3, n) for n in range(1, 5)] == [1, 4, 13, 40]
    assert prefixes(1, 5) == 5


def test_enumerable_is_at_most_65536_sequences():
    assert enumerable(TableModel("at", random_table(2, 16), 16))
    assert not enumerable(TableModel("above", random_table(2, 17), 17))


def test_wrong_row_count_is_refused():
    with pytest.raises(InputError, match=r"the table of 'short' has 39 rows; 3 tokens and length 4 make 40 prefixes"):
        TableModel("short", random_table(3, 4)[:-1], 4)


def test_rows_that_are_no_laws_are_refused():
    table = random_table(3, 2)
    table[1] *= 2
    with pytest.raises(InputError, match=r"the table of 'twice' does not sum to 1: it is off by 1"):
        TableModel("twice", table, 2)


def test_a_table_too_large_is_refused_with_the_length_that_fits():
    with pytest.raises(
        BudgetError, match=r"'hash-16x24' would hold .* \(budget 4194304\); with 16 tokens a length of 5 fits"
    ):
        tabulate(toy("hash-16x24"))
    with pytest.raises(BudgetError, match="with 3 tokens a length of 3 fits"):
        tabulate(toy("penalty-3x6"), budget=39)
    assert tabulate(toy("penalty-3x6"), budget=364 * 3).table.shape == (364, 3)
