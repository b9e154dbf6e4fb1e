"""Sparse tables: exact zeros in every law, so that supports differ from prefix to prefix."""

from __future__ import annotations

import torch
from torch import Tensor

from toymodels.automata import Recursion, favourite, over_prefixes
from toymodels.hashing import branches, high_bits


def sparse(seed: int, vocab: int, length: int) -> Recursion:
    """Weights 1 to 8, a quarter of them made 0; the favourite is always kept and the next id never."""

    def weights(position: Tensor, prefix: Tensor) -> Tensor:
        hashes = branches(prefix, vocab)
        ids, kept = torch.arange(vocab, device=prefix.device), favourite(prefix, vocab)[:, None]
        keep = ((hashes & 3 != 0) | (ids == kept)) & (ids != (kept + 1) % vocab)
        return (1 + high_bits(hashes, 3)) * keep

    return over_prefixes(seed, weights)
