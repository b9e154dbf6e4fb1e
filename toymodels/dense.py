"""Dense random tables: every token has mass, and the law depends on the whole prefix."""

from __future__ import annotations

from toymodels.automata import Recursion, over_prefixes, skewed
from toymodels.hashing import branches


def dense(seed: int, vocab: int, length: int) -> Recursion:
    """Weight of token v after prefix s: 1 + d^3, with d the top three bits of the hash of s followed by v."""
    return over_prefixes(seed, lambda position, prefix: skewed(branches(prefix, vocab)))
