"""Samples in R^dim, as the checks of continuous tokens take them."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from torch import Tensor

from specverify.errors import InputError
from specverify.evidence.result import to_numpy

Samples = Float[np.ndarray, "n dim"] | Float[Tensor, "n dim"]
OtherSamples = Float[np.ndarray, "others width"] | Float[Tensor, "others width"]
Matrix = Float[np.ndarray, "n dim"]
Values = Float[np.ndarray, " n"] | Float[Tensor, " n"]
OtherValues = Float[np.ndarray, " others"] | Float[Tensor, " others"]


def to_finite(values: np.ndarray | Tensor, what: str, *, least: int = 1) -> np.ndarray:
    """The same numbers in float64, along whose first axis run at least `least` independent samples.

    Raises:
        InputError: for too few samples, or one that is NaN or infinite.
    """
    found = to_numpy(values).astype(np.float64)
    if len(found) < least or not found.size:
        raise InputError(f"{what} has shape {found.shape}; this check needs at least {least} samples, one per row")
    bad = ~np.isfinite(found)
    if bad.any():
        row = int(bad.reshape(len(found), -1).any(1).argmax())
        raise InputError(f"row {row} of {what} holds {found[bad][0]}; samples are finite, so mend what drew them first")
    return found


def to_pair(first: np.ndarray | Tensor, second: np.ndarray | Tensor, *, least: int = 1) -> tuple[Matrix, Matrix]:
    """Two sets of as many samples of one dimension, in float64.

    Raises:
        InputError: as `to_finite`, or where shapes differ.
    """
    if first.shape != second.shape:
        raise InputError(
            f"the samples have shapes {tuple(first.shape)} and {tuple(second.shape)}; compare as many of one dimension"
        )
    return to_finite(first, "the first sample", least=least), to_finite(second, "the second sample", least=least)
