"""Markov chains: the law depends on the last token alone, so that merged states are few and long sequences cheap."""

from __future__ import annotations

from toymodels.automata import Recursion, skewed
from toymodels.hashing import branches, fold


def markov(seed: int, vocab: int, length: int) -> Recursion:
    """State: the last token, `vocab` before the first. Dense weights from the hash of the state."""
    return Recursion(
        initial=(vocab,),
        update=lambda state, token: token[:, None],
        weights=lambda position, state: skewed(branches(fold(seed, state[:, 0]), vocab)),
    )
