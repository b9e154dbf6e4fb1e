"""A raster grid: rows of two pixels closed by a forced end-of-row token, as image models emit them.

The last id is the end of row, the others are colours. A pixel's law depends on its left and upper neighbours.
"""

from __future__ import annotations

import torch
from torch import Tensor

from toymodels.automata import Recursion, shifted, skewed
from toymodels.hashing import branches, fold

PIXELS = 2
STRIDE = PIXELS + 1


def raster(seed: int, vocab: int, length: int) -> Recursion:
    """State: the last STRIDE tokens, oldest first, `vocab` where there is none. Row ends are one-hot."""

    def weights(position: Tensor, state: Tensor) -> Tensor:
        column = position % STRIDE
        left = torch.where(column == 0, vocab, state[:, -1])
        neighbours = fold(fold(seed, left), state[:, 0])
        end = torch.arange(vocab, device=state.device) == vocab - 1
        return torch.where((column == PIXELS)[:, None], end, skewed(branches(neighbours, vocab)) * ~end)

    return Recursion(initial=(vocab,) * STRIDE, update=shifted, weights=weights)
