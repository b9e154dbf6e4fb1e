"""Redundant vocabularies: clusters of near-synonyms, as in image codebooks where many codes decode almost alike.

The context sets the total mass of a cluster, and it does so through the clusters of the earlier tokens alone, so that
the sequence of clusters has a law of its own. Which synonym is emitted changes only the shares inside later clusters.
"""

from __future__ import annotations

import torch
from torch import Tensor

from toymodels.automata import Recursion, near_clusters, skewed
from toymodels.hashing import branches, fold, high_bits


def synonyms(seed: int, vocab: int, length: int) -> Recursion:
    """Two clusters of consecutive ids. State: the hashes of the clusters so far and of the tokens so far.

    A token's weight is its cluster's, 1 + d^3, times its share 8 + e - e', with e in 0..3 of this token and e' of the
    next one in the cluster, cyclically: shares differ by a factor of at most 11/5 and always sum to 8 per token.
    """
    size = vocab // 2
    clusters = tuple(tuple(range(first, first + size)) for first in range(0, vocab, size))
    following = [cluster[(k + 1) % size] for cluster in clusters for k in range(size)]

    def update(state: Tensor, token: Tensor) -> Tensor:
        return torch.stack([fold(state[:, 0], token // size), fold(state[:, 1], token)], dim=1)

    def weights(position: Tensor, state: Tensor) -> Tensor:
        totals = skewed(branches(state[:, 0], len(clusters))).repeat_interleave(size, dim=1)
        excess = high_bits(branches(state[:, 1], vocab), 2)
        return totals * (8 + excess - excess[:, following])

    return Recursion(
        initial=(seed, seed), update=update, weights=weights, clusters=clusters, embedding=near_clusters(clusters)
    )
