"""Token id 0 is the most probable one everywhere: what treats 0 as padding or as "nothing" shows at once."""

from __future__ import annotations

import torch
from torch import Tensor

from toymodels.automata import Recursion, over_prefixes, skewed
from toymodels.hashing import branches


def zero(seed: int, vocab: int, length: int) -> Recursion:
    """Dense weights (at most 344), and 512 for id 0."""

    def weights(position: Tensor, prefix: Tensor) -> Tensor:
        dense = skewed(branches(prefix, vocab))
        return torch.where(torch.arange(vocab, device=prefix.device) == 0, 512, dense)

    return over_prefixes(seed, weights)
