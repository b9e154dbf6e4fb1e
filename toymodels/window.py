"""A sliding window shorter than the sequence: tokens older than it have no influence, as with a rotating cache."""

from __future__ import annotations

from torch import Tensor

from toymodels.automata import Recursion, shifted, skewed
from toymodels.hashing import branches, fold

SPAN = 3


def window(seed: int, vocab: int, length: int) -> Recursion:
    """State: the last SPAN tokens, oldest first, `vocab` where there is none. Dense weights from their hash."""

    def weights(position: Tensor, state: Tensor) -> Tensor:
        hashes = fold(seed, state[:, 0])
        for token in state[:, 1:].unbind(1):
            hashes = fold(hashes, token)
        return skewed(branches(hashes, vocab))

    return Recursion(initial=(vocab,) * SPAN, update=shifted, weights=weights)
