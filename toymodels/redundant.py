"""Redundant codes: copies of a few symbols, which later laws cannot tell apart.

The law depends on the earlier tokens through their clusters alone: mass of clusters and shares inside them both. So
exchanging a token for another copy changes nothing that follows, as image codes that decode almost alike are hoped to.
"""

from __future__ import annotations

import torch
from torch import Tensor

from toymodels.automata import Recursion, near_clusters, skewed
from toymodels.hashing import branches, fold, high_bits


def redundant(seed: int, vocab: int, length: int) -> Recursion:
    """Clusters of two copies, 2c and 2c + 1. State: the hash of the clusters so far.

    A token's weight is its cluster's, 1 + d^3, times its share of 16: from 1 to 15 for the
    first copy, the rest for the second.
    """
    clusters = tuple((first, first + 1) for first in range(0, vocab, 2))

    def update(state: Tensor, token: Tensor) -> Tensor:
        return fold(state, token[:, None] // 2)

    def weights(position: Tensor, state: Tensor) -> Tensor:
        totals = skewed(branches(state[:, 0], len(clusters)))
        first = 1 + high_bits(branches(fold(state[:, 0], torch.full_like(position, vocab)), len(clusters)), 31) % 15
        return (totals[..., None] * torch.stack([first, 16 - first], -1)).flatten(1)

    return Recursion(
        initial=(seed,), update=update, weights=weights, clusters=clusters, embedding=near_clusters(clusters)
    )
