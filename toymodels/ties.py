"""Ties: equal probabilities in every law, at the top or below it."""

from __future__ import annotations

from toymodels.automata import Recursion, over_prefixes
from toymodels.hashing import branches, high_bits


def ties(seed: int, vocab: int, length: int) -> Recursion:
    """Weights 1 or 4: with three tokens or more, two of them always tie."""
    return over_prefixes(seed, lambda position, prefix: 1 + 3 * high_bits(branches(prefix, vocab), 1))
