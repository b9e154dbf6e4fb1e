"""The checks of sampled sequences of vectors: one list, for the standard battery, for judging, for the kill matrix.

    uniformity              all transforms are uniform
    coordinates             at each position and dimension
    positions, dimensions   pairs are independent at all distances along a sequence, and within a token
    places                  any two coordinates of a sequence, and of one sequence and the next
    rows                    across the batch, at `ROWS` distances
    noise that comes again  no transform, nor its mirror image, comes twice anywhere in the first sequences
    atoms                   no value is shared by many tokens
    noise atoms             nor a transform, nor one and its mirror image
    repeats                 no value stands twice in a sequence
    tokens                  no token of several dimensions came before

Transforms are Rosenblatt's (`evidence/rosenblatt.py`). The last four rest on equal values, and see shares of
tokens that are too small for the first six.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from scipy import special
from torch import Tensor

from specverify.evidence.places import RosenblattPlaces
from specverify.evidence.repeats import ROUNDING, Atoms, Repeats, copies, repeated, within_rows
from specverify.evidence.result import Evidence
from specverify.evidence.rosenblatt import RosenblattLags, RosenblattUniformity, Transforms

ROWS = (*range(1, 34), 48, 64, 96, 128)
"""Distances between rows: neighbours, parts of a batch of `BATCH`, and the same row of the next."""
BATCH = 128
"""Rows of the batches that a sample begins with; what uses noise twice shows within a few of them."""
AGAIN = "noise that comes again"
_TWICE = {torch.float64: (1e-8, 10_000), torch.float32: (2.0**-16, 2500)}
"""How far apart transforms are the same, and how many are compared: no more than make one in twenty equal by chance."""
Tokens = Float[Tensor, "n length dim"]


def names(length: int, dim: int) -> tuple[str, ...]:
    """The names of the checks of sequences of one size."""
    found = ["uniformity", "coordinates"]
    found += ["positions"] if length > 1 else []
    found += ["dimensions"] if dim > 1 else []
    found += ["places"] if length * dim > 1 else []
    found += ["rows", AGAIN, "atoms", "noise atoms"]
    found += ["repeats"] if length * dim > 1 else []
    found += ["tokens"] if dim > 1 else []
    return tuple(found)


def compared(length: int, dim: int, dtype: torch.dtype) -> int:
    """The first sequences in which nothing may come twice: as many as make a few thousand values."""
    return max(1, _TWICE[dtype][1] // (length * dim))


def carry_out(
    tokens: Tokens, uniforms: Transforms, alphas: Mapping[str, float], beta: float, only: Sequence[str] | None = None
) -> dict[str, Evidence]:
    """Each check of the list, by its name and in its order.

    Args:
        tokens: sampled sequences.
        uniforms: their transforms under the target's laws.
        alphas: the false-alarm rate of each check.
        beta: the miss rate that their deltas are stated for.
        only: carry out these alone.
    """
    _, length, dim = tokens.shape
    return {
        name: CHECKS[name](tokens, uniforms, alphas[name], beta)
        for name in names(length, dim)
        if only is None or name in only
    }


def folded(uniforms: Transforms, dtype: torch.dtype) -> tuple[Transforms, float]:
    """Cells of transforms, the same for a noise and its negative, and the largest chance of a cell."""
    width, _ = _TWICE[dtype]
    return np.floor(np.abs(2 * uniforms - 1) / width), width + ROUNDING


def _uniformity(tokens: Tokens, uniforms: Transforms, alpha: float, beta: float) -> Evidence:
    return RosenblattUniformity("all").check(uniforms, alpha=alpha, beta=beta)


def _coordinates(tokens: Tokens, uniforms: Transforms, alpha: float, beta: float) -> Evidence:
    return RosenblattUniformity("coordinate").check(uniforms, alpha=alpha, beta=beta)


def _positions(tokens: Tokens, uniforms: Transforms, alpha: float, beta: float) -> Evidence:
    return RosenblattLags("position").check(uniforms, alpha=alpha, beta=beta)


def _dimensions(tokens: Tokens, uniforms: Transforms, alpha: float, beta: float) -> Evidence:
    return RosenblattLags("dimension").check(uniforms, alpha=alpha, beta=beta)


def _places(tokens: Tokens, uniforms: Transforms, alpha: float, beta: float) -> Evidence:
    return RosenblattPlaces().check(uniforms, alpha=alpha, beta=beta)


def _rows(tokens: Tokens, uniforms: Transforms, alpha: float, beta: float) -> Evidence:
    return RosenblattLags("row", ROWS).check(uniforms, alpha=alpha, beta=beta)


def _again(tokens: Tokens, uniforms: Transforms, alpha: float, beta: float) -> Evidence:
    first = uniforms[: compared(uniforms.shape[1], uniforms.shape[2], tokens.dtype)]
    cells, chance = folded(first, tokens.dtype)
    found = Repeats(chance, "noise that came before").check(cells.reshape(-1, 1), alpha=alpha, beta=beta)
    if not found.rejected:
        return found
    flat = cells.ravel()
    place = int(np.flatnonzero(repeated(flat[:, None]))[0])
    earlier = int((flat == flat[place]).argmax())
    most = int(np.unique(flat, return_counts=True)[1].max())
    said = f"{_place(place, cells.shape)} has that of {_place(earlier, cells.shape)}, or its negative"
    return replace(found, detail=f"{found.detail}; first: {said}; the most frequent comes {most:,} times")


def _place(index: int, shape: tuple[int, ...]) -> str:
    row, position, dimension = np.unravel_index(index, shape)
    return f"row {row}, position {position}" + (f", dimension {dimension}" if shape[2] > 1 else "")


def _atoms(tokens: Tokens, uniforms: Transforms, alpha: float, beta: float) -> Evidence:
    return Atoms().check(tokens.flatten(), alpha=alpha, beta=beta)


def _noise_atoms(tokens: Tokens, uniforms: Transforms, alpha: float, beta: float) -> Evidence:
    cells, chance = folded(uniforms, tokens.dtype)
    found = Atoms(chance).check(cells.ravel(), alpha=alpha, beta=beta)
    different, counts = np.unique(cells, return_counts=True)
    share = _TWICE[tokens.dtype][0] * (float(different[counts.argmax()]) + 0.5)
    far = f"{special.ndtri(0.5 + 0.5 * share):.4g} standard deviations" if share < 1 else "beyond all that a law gives"
    said = f"the most frequent size of noise is {far}, {int(counts.max()):,} of {cells.size:,}"
    return replace(found, check="noise that many tokens share", detail=f"{said} times")


def _repeats(tokens: Tokens, uniforms: Transforms, alpha: float, beta: float) -> Evidence:
    rows = tokens.flatten(1)
    what = "values that came before in their sequence"
    return copies(within_rows(rows), rows.shape[1] * ROUNDING, what, alpha=alpha, beta=beta)


def _tokens(tokens: Tokens, uniforms: Transforms, alpha: float, beta: float) -> Evidence:
    return Repeats(ROUNDING ** tokens.shape[2]).check(tokens.flatten(0, 1), alpha=alpha, beta=beta)


CHECKS: dict[str, Callable[[Tokens, Transforms, float, float], Evidence]] = {
    "uniformity": _uniformity,
    "coordinates": _coordinates,
    "positions": _positions,
    "dimensions": _dimensions,
    "places": _places,
    "rows": _rows,
    AGAIN: _again,
    "atoms": _atoms,
    "noise atoms": _noise_atoms,
    "repeats": _repeats,
    "tokens": _tokens,
}
"""(tokens, transforms, alpha, beta) -> evidence."""
LAW = ("uniformity", "coordinates", "positions", "dimensions", "places", "rows")
VALUES = ("atoms", "noise atoms", "repeats", "tokens")
"""Those of the transforms' law, and those of equal values."""
