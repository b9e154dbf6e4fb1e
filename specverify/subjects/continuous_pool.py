"""Small batches and single rows of batches, of all settings together, and of each by itself.

Right transforms are uniform whatever the law, the size of the batch and the row's place in it. They are counted in
`CELLS` equal cells, by an e-process: of few values that are spread too widely or too narrowly it sees a smaller slip
than Kolmogorov's distance does. What shows in one setting alone is lost among the others, or cancels with them; what is
small shows in all together. So both are looked at, at a share of the false-alarm rate each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float
from torch import Tensor

from specverify.batteries.vectors import AGAIN, folded
from specverify.evidence.repeats import copies, within_rows
from specverify.evidence.result import Evidence
from specverify.evidence.rosenblatt import BLIND, RosenblattLags, RosenblattPairs, Transforms, transforms
from specverify.evidence.sequential import EProcess
from specverify.laws import ContinuousModel
from specverify.subjects.continuous_location import direction
from specverify.subjects.continuous_play import SMALL

CELLS = 16
FIRST, LAST = "first rows", "last rows"
INNER = {f"rows at place {place}": place for place in range(1, 8)}
"""Rows that are neither first nor last, by their place in a batch from 0."""
_AGAIN = f"{AGAIN} in a small batch"
PLACES = (*(f"batches of {size}" for size in SMALL), FIRST, LAST, *INNER)
"""The checks of the law of small batches' tokens, and of those of rows at one place of any."""
MIRRORED, HALVES, NEXT = "rows mirrored in a batch", "rows half a batch apart", "one batch and the next"
TOGETHER = (*(f"two rows in batches of {size}" for size in SMALL if size > 1), MIRRORED, HALVES, NEXT)
"""Those of the dependence of rows: of small batches, of large ones, and of small batches on each other."""
NAMES = (*PLACES, *TOGETHER, _AGAIN)
"""The checks of small batches, and of rows of any."""
Values = Float[np.ndarray, " values"]


@dataclass(frozen=True)
class Pooled:
    """The transforms of the small batches of one setting, and of the first rows and the last of all its batches.

    Attributes:
        setting: its name.
        groups: the transforms of each of `PLACES`, by its name.
        together: transforms that must not depend on each other, side by side, by the names `TOGETHER`.
        again: which values of small batches have a noise that came before in their batch.
        chance: the largest probability of that for a right decoder.
        sizes: of the small batches.
    """

    setting: str
    groups: Mapping[str, Values]
    together: Mapping[str, Float[np.ndarray, "values rows"]]
    again: Bool[np.ndarray, " values"]
    chance: float
    sizes: tuple[int, ...]


def pooled(
    setting: str, model: ContinuousModel, small: Mapping[int, Tensor], uniforms: Transforms, batches: Sequence[int]
) -> Pooled | None:
    """What one setting adds; None if no small batches were played.

    Args:
        setting: its name.
        model: the target.
        small: tokens by size of the batch, Float[batches, size, length, dim].
        uniforms: the transforms of the large batches, one after the other.
        batches: rows of each of these.
    """
    if not small:
        return None
    again, chance = [], 0.0
    groups: dict[str, list[np.ndarray]] = {name: [] for name in PLACES}
    together: dict[str, list[np.ndarray]] = {}
    for size, tokens in small.items():
        found = transforms(model, tokens.flatten(0, 1)).reshape(len(tokens), size, -1)
        cells, each = folded(found, model.dtype)
        again.append(within_rows(cells.reshape(len(tokens), -1)))
        chance = max(chance, each * size * found.shape[2])
        groups[f"batches of {size}"].append(found)
        if size > 1:
            together[f"two rows in batches of {size}"] = [found.swapaxes(1, 2).reshape(-1, size)]
        together.setdefault(NEXT, []).append(_paired(found[:-1], found[1:]))
        for name, row in _rows(size).items():
            groups[name].append(found[:, row])
    start = 0
    for size in batches:
        for name, row in _rows(size).items():
            groups[name].append(uniforms[start + row])
        batch, half = uniforms[start : start + size], size // 2
        together.setdefault(MIRRORED, []).append(_paired(batch[:half], batch[size - half :][::-1]))
        together.setdefault(HALVES, []).append(_paired(batch[:half], batch[half : 2 * half]))
        start += size
    joined = {name: np.concatenate([part.ravel() for part in parts]) for name, parts in groups.items() if parts}
    pairs = {name: np.concatenate(parts) for name, parts in together.items()}
    return Pooled(setting, joined, pairs, np.concatenate(again), chance, tuple(small))


def _paired(first: Transforms, second: Transforms) -> Float[np.ndarray, "values rows"]:
    """The transforms of the one beside those of the other."""
    return np.stack([first.ravel(), second.ravel()], 1)


def checks(parts: Sequence[Pooled], alphas: Mapping[str, float], beta: float) -> list[Evidence]:
    """The checks of all settings, in the order of `NAMES`; of what was not played, none."""
    found = []
    for name in PLACES:
        if values := {part.setting: part.groups[name] for part in parts if name in part.groups}:
            found.append(_worst(values, name, alphas[name], beta))
    for name in TOGETHER:
        rows = [part.together[name] for part in parts if name in part.together]
        if sum(map(len, rows)):
            pairs = RosenblattPairs("row") if rows[0].shape[1] == 2 else RosenblattLags("row")
            told = pairs.check(np.concatenate(rows).T[..., None], alpha=alphas[name], beta=beta)
            found.append(replace(told, check=name))
    if parts:
        again = np.concatenate([part.again for part in parts])
        by_chance = max(part.chance for part in parts)
        found.append(copies(again, by_chance, _AGAIN, alpha=alphas[_AGAIN], beta=beta))
    return found


def _rows(size: int) -> dict[str, int]:
    """The rows of a batch that are tested apart, by the name of their check."""
    inner = {name: place for name, place in INNER.items() if place < size - 1}
    return {FIRST: 0, LAST: size - 1, **inner} if size > 1 else {}


def _worst(values: Mapping[str, Values], name: str, alpha: float, beta: float) -> Evidence:
    """What all settings together say, or the one that says most."""
    share = alpha / (len(values) + 1)
    together = _uniform(np.concatenate([*values.values()]), name, share, beta)
    apart = {setting: _uniform(own, name, share, beta) for setting, own in values.items()}
    setting = min(apart, key=lambda each: apart[each].p_value or 0.0)
    one = apart[setting]
    if together.rejected or not one.rejected:
        worst = together
    else:
        worst = replace(one, detail=f"{setting}: {one.detail}", delta=together.delta)
    p_value = None if worst.p_value is None else min(1.0, worst.p_value * (len(values) + 1))
    return replace(worst, p_value=p_value, alpha=alpha)


def _uniform(values: Values, name: str, alpha: float, beta: float) -> Evidence:
    counts = np.bincount(np.minimum((values * CELLS).astype(np.int64), CELLS - 1), minlength=CELLS)
    found = EProcess(np.full(CELLS, 1 / CELLS)).check([counts], alpha=alpha, beta=beta)
    said = f"tokens are {direction(values)}; " if found.rejected else ""
    blind = f"differences within a cell of {CELLS}; {BLIND}"
    return replace(found, check=name, blind=blind, detail=said + found.detail)
