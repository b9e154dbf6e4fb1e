"""Sequences that may end early: the last id is EOS, and after it nothing else has mass."""

from __future__ import annotations

import torch
from torch import Tensor

from toymodels.automata import Recursion, skewed
from toymodels.hashing import branches, fold


def eos(seed: int, vocab: int, length: int) -> Recursion:
    """State: the hash of the prefix, and 1 once it holds EOS. Dense weights until then."""
    end = vocab - 1

    def update(state: Tensor, token: Tensor) -> Tensor:
        return torch.stack([fold(state[:, 0], token), state[:, 1] | (token == end)], dim=1)

    def weights(position: Tensor, state: Tensor) -> Tensor:
        only = (torch.arange(vocab, device=state.device) == end).long()
        return torch.where(state[:, 1:] == 1, only, skewed(branches(state[:, 0], vocab)))

    return Recursion(initial=(seed, 0), update=update, weights=weights, eos=end)
