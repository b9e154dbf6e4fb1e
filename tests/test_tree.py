"""Batched structures: gathering, joining and comparing rows, whatever holds them."""

from collections import namedtuple
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from specverify import tree
from specverify.errors import ContractError

Pair = namedtuple("Pair", "first second")


@dataclass(frozen=True)
class Node:
    inner: Any
    label: str = "kept"
    nothing: None = None


def leaves(batch):
    """Tensors of every kind that a state holds, with few distinct values so that rows repeat."""
    shapes = st.sampled_from([(), (2,), (2, 3), (0,)])
    dtypes = st.sampled_from([torch.int64, torch.bool, torch.float64, torch.float32])

    def leaf(shape, dtype, key):
        return torch.randint(2, (batch, *shape), generator=torch.Generator().manual_seed(key)).to(dtype)

    return st.builds(leaf, shapes, dtypes, st.integers(0, 99))


def trees(batch):
    def containers(inner):
        several = st.lists(inner, min_size=1, max_size=3)
        return st.one_of(
            several,
            several.map(tuple),
            st.tuples(inner, inner).map(lambda pair: Pair(*pair)),
            st.dictionaries(st.sampled_from("abc"), inner, min_size=1),
            inner.map(Node),
        )

    return st.recursive(leaves(batch), containers, max_leaves=5)


batches = st.integers(1, 5).flatmap(lambda batch: st.tuples(st.just(batch), trees(batch)))


def same(a, b):
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    left, right = list(tree.tensors(a)), list(tree.tensors(b))
    return type(a) is type(b) and len(left) == len(right) and all(map(same, left, right))


@given(batches, st.data())
def test_gathering_rows_twice_is_gathering_the_gathered(case, data):
    batch, value = case
    index = torch.tensor(data.draw(st.lists(st.integers(0, batch - 1), min_size=1, max_size=8)))
    again = torch.tensor(data.draw(st.lists(st.integers(0, len(index) - 1), min_size=1, max_size=8)))
    gathered = tree.rows(value, index)
    assert tree.batch_size(gathered) == len(index)
    assert same(tree.rows(gathered, again), tree.rows(value, index[again]))
    assert same(tree.rows(value, torch.arange(batch)), value)


@given(batches, st.data())
def test_parts_joined_are_the_whole_and_masks_are_indexes(case, data):
    batch, value = case
    mask = torch.tensor(data.draw(st.lists(st.booleans(), min_size=batch, max_size=batch)))
    order = torch.cat([mask.nonzero(), (~mask).nonzero()]).squeeze(1)
    parts = [tree.rows(value, mask), tree.rows(value, ~mask)]
    assert same(tree.join(parts), tree.rows(value, order))
    assert same(tree.join([value]), value)


@given(batches)
def test_rows_have_equal_bits_if_and_only_if_they_are_equal(case):
    batch, value = case
    bits = tree.to_bits(value)
    assert bits.dtype == torch.int64
    for i in range(batch):
        for j in range(batch):
            equal = all(torch.equal(tensor[i], tensor[j]) for tensor in tree.tensors(value))
            assert torch.equal(bits[i], bits[j]) == equal


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16])
def test_bits_part_floats_that_differ_in_their_last_place_and_no_others(dtype):
    one = torch.ones(1, dtype=dtype)
    values = torch.cat([one, one + torch.finfo(dtype).eps, 0 * one, -0.0 * one, -one, torch.inf * one])
    bits = tree.to_bits({"law": values})
    equal = (bits == bits.T).nonzero().tolist()
    assert [pair for pair in equal if pair[0] < pair[1]] == [[2, 3]]


@given(batches)
def test_mapping_reaches_every_tensor_and_nothing_else(case):
    _, value = case
    wrapped = Node(inner=[value], label="a")
    mapped = tree.map_tensors(wrapped, lambda tensor: tensor.double() + 1)
    assert (mapped.label, mapped.nothing) == ("a", None)
    for before, after in zip(tree.tensors(wrapped), tree.tensors(mapped), strict=True):
        assert torch.equal(after, before.double() + 1)


def test_a_structure_without_tensors_has_no_batch():
    with pytest.raises(ValueError, match="holds no tensor, so it has no batch axis"):
        tree.batch_size(Node(inner=[], label="empty"))


@dataclass
class Derived:
    given: Any
    derived: Any = field(init=False)

    def __post_init__(self):
        self.derived = 2 * self.given


@dataclass
class Older:
    age: Any

    def __post_init__(self):
        self.age = self.age + 1


class Turned(Pair):
    def __new__(cls, first, second):
        return super().__new__(cls, second, first)


@dataclass
class Clamped:
    share: Any

    def __post_init__(self):
        self.share = self.share.clamp(0, 1)


def test_a_field_that_is_not_given_is_named():
    with pytest.raises(ContractError, match="Derived has init=False for derived"):
        tree.rows(Derived(torch.zeros(2)), torch.tensor([0]))


@pytest.mark.parametrize("state", [Older(torch.zeros(2)), Turned(torch.zeros(2), torch.ones(2))])
def test_who_is_another_once_made_anew_is_refused(state):
    with pytest.raises(ContractError, match="made anew"):
        tree.check_made_anew((state, None))


def test_who_is_the_same_is_not():
    tree.check_made_anew(
        [Clamped(torch.tensor([2.0, 0.5])), {"nothing": torch.zeros(2, 0), "lost": torch.tensor(torch.nan)[None]}]
    )
    assert tree.rows(Clamped(torch.tensor([2.0, 0.5])), torch.tensor([0])).share.tolist() == [1]


def test_what_differs_between_worlds_is_said():
    one, two = torch.zeros(1, 2), torch.zeros(1, 3)
    with pytest.raises(ContractError, match="1 parts of a list in one world and 0 in another"):
        tree.join([[one], []])
    with pytest.raises(ContractError, match=r"rows of \(2,\) in one world and \(3,\) in another"):
        tree.join([(one,), (two,)])
