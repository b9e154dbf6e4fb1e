"""Classifier-free guidance: two laws with histories of their own, each of which depends on the whole prefix."""

from __future__ import annotations

import torch
from torch import Tensor

from specverify.processors import Guided
from toymodels.automata import Recursion, StateModel, over_prefixes
from toymodels.hashing import branches, high_bits, seed

SCALE = 2.5
"""Of guidance: above 1, and no integer."""


def guided(name: str, vocab: int, length: int, dtype: torch.dtype, device: torch.device) -> Guided:
    """The guided model. Its context holds that of either branch: what one of them was fed the other does not see."""
    conditional, unconditional = (
        StateModel(f"{name}/{branch}", vocab, length, _mild(seed(f"{name}/{branch}"), vocab), dtype, device)
        for branch in ("conditional", "unconditional")
    )
    return Guided(conditional, unconditional, SCALE, name=name)


def _mild(start: int, vocab: int) -> Recursion:
    """Weights of 2 to 9, by the hash of the whole prefix: guidance drives odds of up to 4.5 apart to some 400."""

    def weights(position: Tensor, prefix: Tensor) -> Tensor:
        return 2 + high_bits(branches(prefix, vocab), 3)

    return over_prefixes(start, weights)
