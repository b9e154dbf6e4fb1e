"""Near-deterministic tables: one token has more than 99% of every law."""

from __future__ import annotations

import torch
from torch import Tensor

from toymodels.automata import Recursion, favourite, over_prefixes
from toymodels.hashing import branches, high_bits


def sharp(seed: int, vocab: int, length: int) -> Recursion:
    """Weight 400 (vocab - 1) for the prefix's favourite, 1 to 4 for the others."""

    def weights(position: Tensor, prefix: Tensor) -> Tensor:
        ids = torch.arange(vocab, device=prefix.device)
        others = 1 + high_bits(branches(prefix, vocab), 2)
        return torch.where(ids == favourite(prefix, vocab)[:, None], 400 * (vocab - 1), others)

    return over_prefixes(seed, weights)
