"""Measuring one setting: from a cell to a row of plain JSON."""

from __future__ import annotations

import math
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from realmodels import bootstrap, data, digits, quality
from realmodels.bootstrap import Estimate
from realmodels.digits import DigitsModel
from specverify import tree
from specverify.decoders import Autoregressive, Decoder, sample
from specverify.decoders.jacobi import Jacobi
from specverify.decoders.speculative import Judging, Speculative, TokenRule
from specverify.draws import derived_seed
from specverify.evidence.pit import PitUniformity
from specverify.evidence.surprisal import Surprisal
from specverify.evidence.tokens import TokenStatistics, reduce
from specverify.rules import registry
from specverify.rules.clusters import partition_from_embedding
from specverify.tradeoff.plan import AR, LOSSLESS, REAL, Cell
from specverify.tradeoff.watch import Watched

Row = dict[str, Any]
IMAGES = 20
"""Images that a row keeps: two of each class."""
SINGLE = 8
"""Images decoded one at a time, for the time that one takes alone."""
KEPT = ("speedup", "bias", "surprisal", "pit", *quality.METRICS)
"""Metrics whose replicates a row keeps: what a setting can be chosen by."""
_RATES = {"alpha": 1e-6, "beta": 1e-6}
"""The checks' statistics are wanted here, not their verdicts, so that these have no part in a row."""


@dataclass(frozen=True)
class Setting:
    """What all cells of a sweep share.

    Attributes:
        model: of `realmodels.digits`.
        n: images of each setting.
        window: drafts per forward pass.
        seed: all randomness derives from it. Every setting decodes with the same seed, the second AR baseline apart.
        batch: images decoded together.
        device: where the model runs.
        resamples: how often images are drawn anew for intervals.
    """

    model: str = "digits-s"
    n: int = 1000
    window: int = 16
    seed: int = 0
    batch: int = 250
    device: str = "cpu"
    resamples: int = 300


def carry_out(cell: Cell, setting: Setting) -> Row:
    """Measure one setting. What goes wrong is written in the row, so that the others go on."""
    row: Row = {
        "id": cell.id,
        "rule": cell.rule,
        "guidance": cell.guidance,
        "drafting": cell.drafting,
        "parameter": cell.parameter,
        "value": cell.value,
        "claim": None,
        "n": setting.n,
        "z": None,
        "seconds_per_image": None,
        "seconds_alone": None,
        "metrics": {},
        "images": None,
        "error": None,
    }
    try:
        found = _real(cell, setting, row) if cell.rule == REAL else _decoded(cell, setting, row)
    except Exception as error:  # the reason is in the row, and the sweep goes on
        return row | {"error": f"{type(error).__name__}: {error}"}
    row["metrics"] = {name: _plain(one, keep=name in KEPT) for name, one in found.items()}
    return row


def build(cell: Cell, model: DigitsModel) -> Judging:
    """How a setting judges drafts. Rules that look at an embedding are given the model's own input embedding."""
    if cell.rule == LOSSLESS:
        return TokenRule()
    rule = registry.rule(cell.rule)
    embedding = model.transformer.token.weight[: model.vocab].detach()
    if cell.parameter == "clusters":
        assert cell.value is not None
        partition = partition_from_embedding(embedding, int(cell.value))
        return rule.build(None, registry.Context(embedding, partition))
    return rule.build(cell.value, registry.Context(embedding))


def _real(cell: Cell, setting: Setting, row: Row) -> dict[str, Estimate]:
    images, _ = data.digits()
    each = -(-setting.n // data.CLASSES)
    order = torch.from_numpy(np.random.default_rng(_seed(cell, setting, 0)).permutation(len(images.tokens)))
    dealt = torch.cat([order[images.labels[order] == label][:each] for label in range(data.CLASSES)])
    tokens, labels = images.tokens[dealt], images.labels[dealt]
    row["n"] = len(tokens)
    shown = [int(i) for label in range(data.CLASSES) for i in (labels == label).nonzero()[: IMAGES // data.CLASSES]]
    row["images"] = {"tokens": tokens[shown].tolist(), "labels": labels[shown].tolist()}
    return quality.measure(tokens, labels, bootstrap.weights(len(tokens), setting.resamples, _seed(cell, setting, 1)))


def _decoded(cell: Cell, setting: Setting, row: Row) -> dict[str, Estimate]:
    model = _model(setting.model, cell.guidance, setting.device)
    watched, decoder, plain = _decoders(cell, setting, model)
    # A worker has one thread: its processor time is what the work takes, whatever else the machine does.
    clock = time.process_time if model.device.type == "cpu" else time.perf_counter
    seed = derived_seed(setting.seed, cell.repeat)
    start = clock()
    run = sample(decoder, model, setting.n, seed, setting.batch)
    spent = clock() - start - (watched.seconds if watched else 0.0)
    start = clock()
    alone = sample(plain, model, SINGLE, seed, 1)
    per_pass = (clock() - start) / float(alone.passes.sum())
    row["seconds_alone"] = per_pass * float(run.passes.double().mean())  # alone, every image is of the first class
    row["seconds_per_image"] = spent / setting.n
    row["claim"] = str(decoder.claim)

    tokens = run.tokens.cpu()
    labels = torch.cat([model.start(len(part)).labels.cpu() for part in tokens.split(setting.batch)])
    row["images"] = {"tokens": tokens[:IMAGES].tolist(), "labels": labels[:IMAGES].tolist()}
    weight = bootstrap.weights(setting.n, setting.resamples, _seed(cell, setting, 1))
    ones, size = np.ones(setting.n), float(model.length)
    passes = run.passes.cpu().double().numpy()
    found = {
        "passes": bootstrap.ratio(passes, ones, weight),
        "speedup": bootstrap.ratio(ones * size, passes, weight),
    }
    if watched is not None:
        verified, accepted = (part.cpu().double().numpy() for part in (run.verified, run.accepted))
        gain, bias = watched.gain.cpu().numpy(), watched.bias.cpu().numpy()
        found |= {"acceptance": bootstrap.ratio(accepted, verified, weight)}
        # Bonus tokens come from p itself: they count, with nothing gained and nothing lost.
        for name, sums in (("gain", gain), ("bias", bias), ("excess", bias - gain)):
            found[name] = bootstrap.ratio(sums, ones * size, weight)
    statistics = _trace(tokens, model, setting, np.random.default_rng(_seed(cell, setting, 2)))
    z = float(Surprisal().check(statistics, **_RATES).statistic)
    row["z"] = z if math.isfinite(z) else None
    return found | _laws(statistics, weight) | quality.measure(tokens, labels, weight)


def _decoders(cell: Cell, setting: Setting, model: DigitsModel) -> tuple[Watched | None, Decoder, Decoder]:
    """The drafting to be watched, a decoder with it, and the same decoder without."""
    if cell.rule == AR:
        return None, Autoregressive(), Autoregressive()
    assert cell.drafting is not None
    judging, drafting = build(cell, model), Jacobi(cell.drafting)
    watched = Watched(drafting, judging)
    claim = getattr(judging, "claim", Speculative(drafting, 1).claim)
    return (
        watched,
        Speculative(watched, setting.window, judging, claim),
        Speculative(drafting, setting.window, judging, claim),
    )


def _trace(tokens: Tensor, model: DigitsModel, setting: Setting, generator: np.random.Generator) -> TokenStatistics:
    """The target's laws at every token, given the tokens before it: one forward pass for each batch."""
    parts = []
    for some in tokens.to(model.device).split(setting.batch):
        with torch.no_grad():
            laws = model.laws(model.start(len(some)), some[:, :-1])
        parts.append(reduce(laws, some, generator))
    return tree.join(parts)


def _laws(statistics: TokenStatistics, weight: np.ndarray) -> dict[str, Estimate]:
    """Surprisal less entropy, in nats per token that had a choice; Kolmogorov's distance of the transforms."""
    used = statistics.open.numpy()
    excess = np.where(used, statistics.surprisal.numpy() - statistics.entropy.numpy(), 0.0)
    distance = float(PitUniformity().check(statistics, **_RATES).statistic)
    moved = bootstrap.estimate(distance, kolmogorov(statistics.pit.numpy(), weight))
    return {
        "surprisal": bootstrap.ratio(excess.sum(1), used.sum(1).astype(float), weight),
        "pit": Estimate(moved.value, moved.replicates.clip(0, 1)),
    }


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


@cache
def _model(name: str, guidance: float, device: str) -> DigitsModel:
    return digits.load(name, guidance, device=device)


def _seed(cell: Cell, setting: Setting, purpose: int) -> int:
    return derived_seed(setting.seed, zlib.crc32(cell.id.encode()), purpose)


def _plain(one: Estimate, keep: bool) -> Mapping[str, Any]:
    replicates = {"replicates": [float(f"{value:.5g}") for value in one.replicates]} if keep else {}
    return {"value": one.value, "interval": list(one.interval), **replicates}
