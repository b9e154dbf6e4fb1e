"""Seeds of the parts of a work, so that each part draws the same whoever carries it out."""

from __future__ import annotations

import numpy as np

from specverify.errors import InputError

BLOCK = 16_384
"""Rows that share one derived seed. Work is cut into blocks of this size whoever runs them."""


def derived_seed(seed: int, *key: int) -> int:
    """A seed for one part of the work, independent of those of other parts (numpy's SeedSequence)."""
    if min(seed, *key, 0) < 0:
        raise InputError(f"seed {seed}, key {key}: a seed and the numbers of its parts are integers of at least 0")
    high, low = np.random.SeedSequence(seed, spawn_key=key).generate_state(2, np.uint32)
    return (int(high) << 32 | int(low)) & (2**63 - 1)
