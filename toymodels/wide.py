"""Models with as many tokens and positions as one likes, whose laws are few: too large for any law of sequences."""

from __future__ import annotations

import torch
from torch import Tensor

from specverify.model import Model
from toymodels.automata import Recursion, StateModel, skewed
from toymodels.hashing import branches, seed

CONTEXTS = 16
"""How many laws such a model has."""
RARE = 8
"""How much rarer than other tokens an end is."""


def large(name: str, vocab: int, length: int, eos: int | None = None) -> Model:
    """A model with one of `CONTEXTS` laws by the last two tokens, whatever its size; each seventh token never comes.

    An end, if there is one, has one part in `RARE` of what its law would have.
    """
    hashes = branches(branches(torch.tensor(seed(name)), CONTEXTS), vocab)
    table = skewed(hashes) * (torch.arange(vocab) % 7 != 0)
    if eos is not None:
        table = (table * RARE).index_put((torch.arange(CONTEXTS)[:, None], torch.tensor(eos)), table[:, eos, None])

    def law(position: Tensor, state: Tensor) -> Tensor:
        return table[(3 * state[:, 0] + state[:, 1]) % CONTEXTS]

    def update(state: Tensor, token: Tensor) -> Tensor:
        return torch.stack([state[:, 1], token], 1)

    recursion = Recursion(initial=(0, 0), update=update, weights=law, eos=eos)
    return StateModel(name, vocab, length, recursion, torch.float64, torch.device("cpu"))
