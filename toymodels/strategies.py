"""Hypothesis strategies for small models, so that a checker meets laws that nobody chose.

Every law is made of small integer weights. A model draws a handful of laws and says which of them follows each prefix, so
that examples shrink to few different laws with small denominators: the simplest model is uniform and memoryless.
"""

from __future__ import annotations

import torch
from hypothesis import strategies as st
from jaxtyping import Int
from torch import Tensor

from specverify.model import Model
from toymodels.automata import Recursion, StateModel, shifted
from toymodels.tables import TableModel, prefixes

WEIGHT = 4
"""Largest weight of a token."""
LAWS = 4
"""Most different laws of a model."""


@st.composite
def weights(draw: st.DrawFn, vocab: int) -> Int[Tensor, " vocab"]:
    """Integers 0 to `WEIGHT`, not all 0: with zeros, ties and one-hots among them. Shrinks to all ones."""
    drawn = draw(st.lists(st.integers(0, WEIGHT), min_size=vocab, max_size=vocab))
    return torch.tensor(drawn if any(drawn) else [1] * vocab)


def laws(vocab: int) -> st.SearchStrategy[Tensor]:
    """Laws Float[vocab], float64, in fractions with denominators of at most `WEIGHT` times the vocabulary."""
    return weights(vocab).map(_normalised)


@st.composite
def models(
    draw: st.DrawFn,
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
def draft_models(draw: st.DrawFn, target: Model) -> TableModel:
    """Tables over the target's vocabulary and length, of its dtype, drawn without regard to its laws."""
    table = _table(draw, prefixes(target.vocab, target.length), target.vocab).to(target.dtype)
    return TableModel("drawn-draft", table, target.length, eos=target.eos)


@st.composite
def windowed_models(
    draw: st.DrawFn, vocab: tuple[int, int] = (2, 3), length: tuple[int, int] = (2, 4), span: int = 2
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


def _table(draw: st.DrawFn, contexts: int, vocab: int) -> Tensor:
    return _normalised(_weights(draw, contexts, vocab))


def _weights(draw: st.DrawFn, contexts: int, vocab: int) -> Tensor:
    """A row of weights for every context, out of a few."""
    few = torch.stack(draw(st.lists(weights(vocab), min_size=1, max_size=LAWS)))
    which = draw(st.lists(st.integers(0, len(few) - 1), min_size=contexts, max_size=contexts))
    return few[torch.tensor(which)]


def _normalised(integers: Tensor) -> Tensor:
    return integers.double() / integers.sum(-1, keepdim=True)
