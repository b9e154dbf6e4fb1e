"""Hypothesis strategies for small models, so that a checker meets laws that nobody chose.

Every law is made of small integer weights. A model draws a handful of laws and says which of them follows each prefix,
so that examples shrink to few different laws with small denominators: the simplest model is uniform and memoryless.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor

from specverify.model import Model
from toymodels.automata import Recursion, StateModel, shifted
from toymodels.tables import TableModel, prefixes

Draw = Callable[[st.SearchStrategy[Any]], Any]
"""Hypothesis' `DrawFn`, which cannot be checked at run time."""
WEIGHTS = (1, 2, 3, 4, 0, 500)
"""Weights of a token, the simplest first: ties, zeros, one-hots and near-certainties (over 0.99) come of these."""
LAWS = 4
"""Most different laws of a model."""


@functools.lru_cache(maxsize=64)
def rows(vocab: int) -> st.SearchStrategy[tuple[int, ...]]:
    """A law up to a factor: `WEIGHTS`, not all 0. Shrinks to all ones."""
    drawn = st.lists(st.sampled_from(WEIGHTS), min_size=vocab, max_size=vocab)
    return drawn.map(lambda row: tuple(row) if any(row) else (1,) * vocab)


def weights(vocab: int) -> st.SearchStrategy[Tensor]:
    """The same as a tensor, Int[vocab]."""
    return rows(vocab).map(torch.tensor)


def laws(vocab: int) -> st.SearchStrategy[Tensor]:
    """Laws, Float[vocab], float64: ratios of the `weights`."""
    return weights(vocab).map(_normalised)


@st.composite
def models(
    draw: Draw,
    vocab: tuple[int, int] = (2, 3),
    length: tuple[int, int] = (2, 4),
    *,
    eos: bool = False,
    dtype: torch.dtype = torch.float64,
) -> TableModel:
    """Tables over every prefix.

    Args:
        vocab: smallest and largest vocabulary.
        length: smallest and largest length.
        eos: whether the last id ends the sequence.
        dtype: of the laws.
    """
    size, positions = draw(st.integers(*vocab)), draw(st.integers(*length))
    table = _table(draw, prefixes(size, positions), size).to(dtype)
    return TableModel("drawn", table, positions, eos=size - 1 if eos else None)


@st.composite
def draft_models(draw: Draw, target: Model) -> TableModel:
    """Tables over the target's vocabulary and length, of its dtype, drawn without regard to its laws."""
    table = _table(draw, prefixes(target.vocab, target.length), target.vocab).to(target.dtype)
    return TableModel("drawn-draft", table, target.length, eos=target.eos)


@st.composite
def windowed_models(
    draw: Draw, vocab: tuple[int, int] = (2, 3), length: tuple[int, int] = (2, 4), span: int = 2
) -> StateModel:
    """Models whose context keeps, as its `state`, the last `span` tokens (`vocab` where there is none)."""
    size, positions = draw(st.integers(*vocab)), draw(st.integers(*length))
    table = _weights(draw, (size + 1) ** span, size)

    def follow(position: Tensor, state: Tensor) -> Tensor:
        code = torch.zeros_like(position)
        for token in state.unbind(1):
            code = code * (size + 1) + token
        return table[code]

    recursion = Recursion(initial=(size,) * span, update=shifted, weights=follow)
    return StateModel("drawn-windowed", size, positions, recursion, torch.float64, torch.device("cpu"))


def _table(draw: Draw, contexts: int, vocab: int) -> Tensor:
    return _normalised(_weights(draw, contexts, vocab))


def _weights(draw: Draw, contexts: int, vocab: int) -> Tensor:
    """A row of weights for every context, out of a few."""
    few = torch.stack(draw(st.lists(weights(vocab), min_size=1, max_size=LAWS)))
    # One byte string is drawn, and shrunk, faster than a list of integers; it shrinks to zeros.
    which = draw(st.binary(min_size=contexts, max_size=contexts))
    return few[torch.tensor(list(which)) % len(few)]


def _normalised(integers: Tensor) -> Tensor:
    return integers.double() / integers.sum(-1, keepdim=True)
