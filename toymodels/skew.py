"""Asymmetric tables: no relabelling of the tokens and no reversal of the sequence leaves the law alone."""

from __future__ import annotations

import torch
from torch import Tensor

from toymodels.automata import Recursion, over_prefixes
from toymodels.hashing import branches, high_bits


def skew(seed: int, vocab: int, length: int) -> Recursion:
    """Weight (4 + d) (2 + n)^v for token v at position n, with d in 0..3: mass grows with v, and faster as n grows."""

    def weights(position: Tensor, prefix: Tensor) -> Tensor:
        ids = torch.arange(vocab, device=prefix.device)
        steepness = 2 + position.clamp(max=length - 1)[:, None]
        return (4 + high_bits(branches(prefix, vocab), 2)) * steepness**ids

    return over_prefixes(seed, weights)
