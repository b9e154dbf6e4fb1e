"""Small batches of all settings together: right transforms are uniform whatever the law and the size of the batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float
from torch import Tensor

from specverify.batteries.vectors import folded
from specverify.evidence.repeats import copies, within_rows
from specverify.evidence.result import Evidence
from specverify.evidence.rosenblatt import RosenblattUniformity, transforms
from specverify.laws import ContinuousModel
from specverify.subjects.continuous_play import SMALL

_TWICE = "noise used twice in a small batch"
NAMES = (*(f"batches of {size}" for size in SMALL), "first rows", "last rows", _TWICE)
"""The checks of small batches."""


@dataclass(frozen=True)
class Pooled:
    """The transforms of the small batches of one setting.

    Attributes:
        uniforms: by size of the batch, Float[batches, size, values of a row].
        again: which values' noise came before in its batch.
        chance: the largest probability of that for a right decoder.
    """

    uniforms: Mapping[int, Float[np.ndarray, "batches size width"]]
    again: Bool[np.ndarray, " values"]
    chance: float


def pooled(model: ContinuousModel, small: Mapping[int, Tensor]) -> Pooled | None:
    """The transforms of small batches, None if there are none.

    Args:
        model: the target.
        small: tokens by size of the batch, Float[batches, size, length, dim].
    """
    if not small:
        return None
    found, again, chance = {}, [], 0.0
    for size, tokens in small.items():
        uniforms = transforms(model, tokens.flatten(0, 1)).reshape(len(tokens), size, -1)
        cells, each = folded(uniforms, model.dtype)
        found[size] = uniforms
        again.append(within_rows(cells.reshape(len(tokens), -1)))
        chance = max(chance, each * size * uniforms.shape[2])
    return Pooled(found, np.concatenate(again), chance)


def checks(parts: Sequence[Pooled], alphas: Mapping[str, float], beta: float) -> list[Evidence]:
    """The checks of all settings' small batches, in the order of `NAMES`; of sizes that were not played, none."""
    values: dict[str, list[np.ndarray]] = {name: [] for name in NAMES[:-1]}
    for part in parts:
        for size, uniforms in part.uniforms.items():
            values[f"batches of {size}"].append(uniforms.ravel())
            values["first rows"].append(uniforms[:, 0].ravel())
            values["last rows"].append(uniforms[:, -1].ravel())
    uniform = RosenblattUniformity("all")
    found = [
        replace(uniform.check(np.concatenate(one)[:, None, None], alpha=alphas[name], beta=beta), check=name)
        for name, one in values.items()
        if one
    ]
    if parts:
        again = np.concatenate([part.again for part in parts])
        by_chance = max(part.chance for part in parts)
        found.append(copies(again, by_chance, _TWICE, alpha=alphas[_TWICE], beta=beta))
    return found
