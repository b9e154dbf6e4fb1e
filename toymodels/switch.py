"""A mask that flips after a token: a mask that is read once per window instead of once per position shows.

Id 0 is forbidden at first; each time the last id comes, the ban moves to 1 or back to 0.
"""

from __future__ import annotations

import torch
from torch import Tensor

from toymodels.automata import Recursion, skewed
from toymodels.hashing import branches, fold


def switch(seed: int, vocab: int, length: int) -> Recursion:
    """State: the forbidden id, 0 or 1. Otherwise dense weights by position."""

    def weights(position: Tensor, state: Tensor) -> Tensor:
        base = skewed(branches(fold(seed, position), vocab))
        return base * (torch.arange(vocab, device=state.device) != state)

    return Recursion(initial=(0,), update=lambda state, token: state ^ (token == vocab - 1)[:, None], weights=weights)
