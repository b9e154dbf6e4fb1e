"""What all settings of a sweep share, and how each is timed and seeded."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from realmodels import bootstrap, images
from realmodels.bootstrap import Estimate
from realmodels.continuous import ContinuousDigits
from realmodels.images import ImageModel
from realmodels.models import kept
from specverify import environment, lockstep
from specverify.decoders.protocol import Decoder
from specverify.decoders.run import Run, sample
from specverify.model import AnyModel
from specverify.opening import Condition, Opening
from specverify.seeds import derived_seed
from specverify.tradeoff.plan import Cell
from specverify.tradeoff.shape import Images, Row

SINGLE = 10
"""Images decoded one at a time, of classes that lie far apart, for the time that one takes alone."""
IMAGES = 20
"""Images that a row keeps: two of each class, or one where they have colours."""


@dataclass(frozen=True)
class Setting:
    """What all cells of a sweep share.

    Attributes:
        model: a name or a folder that `realmodels.models.open_model` takes, or a name of `realmodels.continuous`.
        n: images of each setting.
        window: drafts per forward pass; None where each cell has its own.
        seed: all randomness derives from it. Every setting decodes with the same seed, the second AR baseline apart.
        batch: images decoded together.
        device: where the model runs.
        dtype: of its weights.
        conditions: classes or prompts that take turns; all classes if None, which a folder has not.
        processors: what shapes the law behind guidance, as "temperature=0.9,top_k=100".
        resamples: how often images are drawn anew for intervals.
        compiled: whether torch compiles its passes.
    """

    model: str = "digits-s"
    n: int = 1000
    window: int | None = 16
    seed: int = 0
    batch: int = 250
    device: str = "cpu"
    resamples: int = 300
    dtype: str = "float32"
    conditions: tuple[Condition, ...] | None = None
    processors: str = ""
    compiled: bool = False


def opened(setting: Setting) -> ImageModel:
    """The model of ids, without guidance; `like` guides it, with the same weights."""
    return kept(opening(setting), setting.device)


def opening(setting: Setting) -> Opening:
    """How the model is opened."""
    return Opening(setting.model, setting.conditions, setting.dtype, setting.processors, setting.compiled)


def seed_of(cell: Cell, setting: Setting, purpose: int) -> int:
    """A seed of a cell's own."""
    return derived_seed(setting.seed, zlib.crc32(cell.id.encode()), purpose)


@dataclass(frozen=True)
class Decoded:
    """A setting's images.

    Attributes:
        run: the images, and what they cost.
        labels: the class of each, on the CPU.
        seconds: of decoding all of them.
        each: seconds per image of each full batch (of the only one, if it is not full).
    """

    run: Run
    labels: Int[Tensor, " n"]
    seconds: float
    each: list[float]


def decode(
    decoder: Decoder,
    model: ImageModel | ContinuousDigits,
    cell: Cell,
    setting: Setting,
    apart: Callable[[], float] = lambda: 0.0,
) -> Decoded:
    """Sample a setting, batch by batch; `apart` tells the seconds so far that do not count."""
    clock, seed = environment.clock(model.device), derived_seed(setting.seed, cell.repeat)
    runs, times = [], []
    for number, offset in enumerate(range(0, setting.n, setting.batch)):
        start, before = clock(), apart()
        runs.append(sample(decoder, model, min(setting.batch, setting.n - offset), seed, setting.batch, number))
        times.append(clock() - start - (apart() - before))
    labels = images.labels(model.conditions, setting.n, setting.batch)
    each = [seconds / len(part.tokens) for seconds, part in zip(times, runs, strict=True)]
    full = [one for one, part in zip(each, runs, strict=True) if len(part.tokens) == setting.batch]
    return Decoded(Run.joined(runs), labels, sum(times), full or each)


def places(conditions: Sequence[Any]) -> list[int]:
    """Where the conditions stand that images alone are decoded for: all in turn, or as many as there are images."""
    many = len(conditions)
    return [number * many // SINGLE if many > SINGLE else number % many for number in range(SINGLE)]


def alone(pairs: Iterable[tuple[Decoder, AnyModel]], cell: Cell, setting: Setting, passes: float) -> list[float]:
    """The seconds that an image takes alone, at the mean number of passes of all images.

    Args:
        pairs: for each image a decoder and a model whose first condition is the image's.
        cell, setting: what is measured.
        passes: forward passes of the setting's images, on average.
    """
    seed, found = derived_seed(setting.seed, cell.repeat), []
    for number, (decoder, model) in enumerate(pairs):
        clock = environment.clock(model.device)
        start = clock()
        run = sample(decoder, model, 1, seed, 1, number)
        found.append((clock() - start) / float(run.passes.sum()) * passes)
    return found


def timed(row: Row, decoded: Decoded, alone: list[float], conditions: Sequence[Any]) -> None:
    """Write into a row what its images took, and what each batch and each image alone did."""
    row["seconds_per_image"] = decoded.seconds / len(decoded.labels)
    row["seconds_alone"] = sum(alone) / len(alone)
    labels = images.labels(conditions, len(conditions), len(conditions)).tolist()
    row["times"] = {
        "seconds_per_image": decoded.each,
        "seconds_alone": alone,
        "labels_alone": [labels[place] for place in places(conditions)],
    }


def costs(run: Run, length: int, weight: Int[np.ndarray, "resamples n"]) -> dict[str, Estimate]:
    """Forward passes and the speed-up in them; with drafts, acceptance; with a draft model, its passes.

    The speed-up is that of rows which are replaced as they finish; `lockstep-8` and `lockstep-64` are those of batches
    that wait for their slowest row.
    """
    ones = np.ones(len(run.passes))
    passes, verified, accepted, drafts = (
        part.cpu().double().numpy() for part in (run.passes, run.verified, run.accepted, run.draft_passes)
    )
    found = {
        "passes": bootstrap.ratio(passes, ones, weight),
        "speedup": bootstrap.ratio(ones * length, passes, weight),
    }
    values, one = lockstep.tabulated(passes, np.ones((1, len(passes)), dtype=np.int64))
    _, many = lockstep.tabulated(passes, weight)
    for batch in (size for size in lockstep.BATCHES if 1 < size <= len(passes)):
        alike = length / float(lockstep.slowest(values, one, batch)[0])
        found[f"lockstep-{batch}"] = bootstrap.estimate(alike, length / lockstep.slowest(values, many, batch))
    if drafts.any():
        found["draft_passes"] = bootstrap.ratio(drafts, ones, weight)
    if verified.any():
        found["acceptance"] = bootstrap.ratio(accepted, verified, weight)
    return found


def kolmogorov(
    pit: Float[np.ndarray, "images length"], weight: Int[np.ndarray, "resamples images"]
) -> Float[np.ndarray, " resamples"]:
    """Kolmogorov's distance from uniform of the transforms of all tokens, for each row of image weights."""
    order = pit.ravel().argsort()
    level, image = pit.ravel()[order], order // pit.shape[1]
    total = pit.size
    found = []
    for row in weight:
        above = row[image].cumsum() / total
        below = np.concatenate([[0.0], above[:-1]])
        found.append(max((above - level).max(), (level - below).max()))
    return np.array(found)


def distance(pit: Float[np.ndarray, "images length"], weight: Int[np.ndarray, "resamples images"]) -> Estimate:
    """Kolmogorov's distance of transforms from uniform, with its replicates."""
    value = float(kolmogorov(pit, np.ones((1, len(pit)), dtype=np.int64))[0])
    moved = bootstrap.estimate(value, kolmogorov(pit, weight))
    return Estimate(moved.value, moved.replicates.clip(0, 1))


def shown(images: Int[Tensor, "n levels"], labels: Int[Tensor, " n"]) -> Images:
    """Images as a row keeps them."""
    return {"tokens": images.tolist(), "labels": labels.tolist()}
