"""A recurrent state that every token changes, so that a draft token that was rejected but not rolled back shows."""

from __future__ import annotations

from toymodels.automata import Recursion
from toymodels.hashing import branches, fold, high_bits

STATES = 16


def recurrent(seed: int, vocab: int, length: int) -> Recursion:
    """State: s -> 5 s + token + 1 modulo 16, from 0. Weights 1 to 256 from the hash of the state.

    For ids below 3 no state is a fixed point, and changing any one earlier token changes every later state. The
    weights are fine enough that no two states share a law.
    """
    return Recursion(
        initial=(0,),
        update=lambda state, token: (5 * state + token[:, None] + 1) % STATES,
        weights=lambda position, state: 1 + high_bits(branches(fold(seed, state[:, 0]), vocab), 8),
    )
