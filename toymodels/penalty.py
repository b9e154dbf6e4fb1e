"""A count penalty: every earlier occurrence of a token halves its odds, as repetition penalties do."""

from __future__ import annotations

import torch
from torch import Tensor

from toymodels.automata import Recursion, skewed
from toymodels.hashing import branches, fold


def penalty(seed: int, vocab: int, length: int) -> Recursion:
    """State: the count of each token. Weight: one fixed by position and token, times 2^(length - count)."""

    def update(state: Tensor, token: Tensor) -> Tensor:
        return state + (torch.arange(vocab, device=state.device) == token[:, None])

    def weights(position: Tensor, state: Tensor) -> Tensor:
        base = skewed(branches(fold(seed, position), vocab))
        return base << (length - state).clamp(min=0)

    return Recursion(initial=(0,) * vocab, update=update, weights=weights)
