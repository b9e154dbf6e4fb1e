"""What all settings of a sweep share, and how each is timed and seeded."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from realmodels import bootstrap
from realmodels.bootstrap import Estimate
from specverify.decoders.protocol import ContinuousDecoder, Decoder
from specverify.decoders.run import Run, sample
from specverify.draws import derived_seed
from specverify.laws import ContinuousModel
from specverify.model import Model
from specverify.tradeoff.plan import Cell

Row = dict[str, Any]
IMAGES = 20
"""Images that a row keeps: two of each class."""


@dataclass(frozen=True)
class Setting:
    """What all cells of a sweep share.

    Attributes:
        model: of `realmodels.digits`, or of `realmodels.continuous`.
        n: images of each setting.
        window: drafts per forward pass; None where each cell has its own.
        seed: all randomness derives from it. Every setting decodes with the same seed, the second AR baseline apart.
        batch: images decoded together.
        device: where the model runs.
        resamples: how often images are drawn anew for intervals.
    """

    model: str = "digits-s"
    n: int = 1000
    window: int | None = 16
    seed: int = 0
    batch: int = 250
    device: str = "cpu"
    resamples: int = 300


def seed_of(cell: Cell, setting: Setting, purpose: int) -> int:
    """A seed of a cell's own."""
    return derived_seed(setting.seed, zlib.crc32(cell.id.encode()), purpose)


def decode(
    decoder: Decoder | ContinuousDecoder, model: Model | ContinuousModel, cell: Cell, setting: Setting
) -> tuple[Run, Int[Tensor, " n"], float]:
    """Sample a setting: the run, the class of each image on the CPU, and the seconds that it took."""
    clock = clock_of(model)
    start = clock()
    run = sample(decoder, model, setting.n, derived_seed(setting.seed, cell.repeat), setting.batch)
    seconds = clock() - start
    return run, torch.cat([model.start(len(part)).labels.cpu() for part in run.tokens.split(setting.batch)]), seconds


def alone(
    decoder: Decoder | ContinuousDecoder,
    model: Model | ContinuousModel,
    cell: Cell,
    setting: Setting,
    passes: float,
    images: int,
) -> float:
    """The seconds that one image takes alone, at the mean number of passes: alone, all are of the first class."""
    clock = clock_of(model)
    start = clock()
    run = sample(decoder, model, images, derived_seed(setting.seed, cell.repeat), 1)
    return (clock() - start) / float(run.passes.sum()) * passes


def clock_of(model: Model | ContinuousModel) -> Callable[[], float]:
    """Processor time on a CPU: a worker has one thread, and so this is what work takes, whatever else runs."""
    return time.process_time if model.device.type == "cpu" else time.perf_counter


def costs(run: Run, length: int, weight: Int[np.ndarray, "resamples n"]) -> dict[str, Estimate]:
    """Forward passes and the speed-up in them; with drafts, acceptance; with a draft model, its passes."""
    ones = np.ones(len(run.passes))
    passes, verified, accepted, drafts = (
        part.cpu().double().numpy() for part in (run.passes, run.verified, run.accepted, run.draft_passes)
    )
    found = {
        "passes": bootstrap.ratio(passes, ones, weight),
        "speedup": bootstrap.ratio(ones * length, passes, weight),
    }
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


def shown(images: Int[Tensor, "n pixels"], labels: Int[Tensor, " n"]) -> Mapping[str, Any]:
    """Images as a row keeps them."""
    return {"tokens": images.tolist(), "labels": labels.tolist()}
