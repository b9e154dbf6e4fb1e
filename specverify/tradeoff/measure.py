"""Measuring one setting: from a cell to a row of plain JSON."""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from realmodels import bootstrap, continuous, judges, quality
from realmodels.bootstrap import Estimate
from realmodels.images import LARGEST, ImageModel, levels, thumbnails
from specverify.decoders import Autoregressive, Decoder
from specverify.decoders.jacobi import Jacobi
from specverify.decoders.judging import Judging, TokenRule
from specverify.decoders.speculative import Speculative
from specverify.evidence.surprisal import Surprisal
from specverify.evidence.tokens import TokenStatistics, traced
from specverify.rules import registry
from specverify.rules.clusters import partition_from_embedding
from specverify.tradeoff import patches
from specverify.tradeoff.plan import AR, LOSSLESS, REAL, Cell
from specverify.tradeoff.setting import (
    IMAGES,
    Setting,
    alone,
    costs,
    decode,
    distance,
    opened,
    places,
    seed_of,
    shown,
    timed,
)
from specverify.tradeoff.shape import Images, Metric, Row
from specverify.tradeoff.watch import Watched

KEPT = ("speedup", "bias", "surprisal", "pit", *quality.METRICS)
"""Metrics whose replicates a row keeps: what a setting can be chosen by."""
_RATES = {"alpha": 1e-6, "beta": 1e-6}
"""The checks' statistics are wanted here, not their verdicts, so that these have no part in a row."""


def carry_out(cell: Cell, setting: Setting) -> Row:
    """Measure one setting. What goes wrong is written in the row, so that the others go on."""
    row = _asked(cell, setting)
    try:
        if cell.rule == REAL:
            found = _real(cell, setting, row)
        elif setting.model in continuous.names():
            found = patches.decoded(cell, setting, row)
        else:
            found = _decoded(cell, setting, row)
    except Exception as error:  # the reason is in the row, and the sweep goes on
        return row | {"error": f"{type(error).__name__}: {error}"}
    row["metrics"] = {name: _plain(one, keep=name in KEPT) for name, one in found.items()}
    return row


def stopped(cell: Cell, reason: str, setting: Setting) -> Row:
    """What a record says of a setting whose measurement did not come to an end."""
    return _asked(cell, setting) | {"error": reason}


def _asked(cell: Cell, setting: Setting) -> Row:
    return {
        "id": cell.id,
        "rule": cell.rule,
        "guidance": cell.guidance,
        "drafting": cell.drafting,
        "window": cell.window,
        "parameter": cell.parameter,
        "value": cell.value,
        "claim": None,
        "n": setting.n,
        "z": None,
        "seconds_per_image": None,
        "seconds_alone": None,
        "times": None,
        "head_evaluations": None,
        "metrics": {},
        "images": None,
        "error": None,
    }


def build(cell: Cell, model: ImageModel) -> Judging:
    """How a setting judges drafts. Rules that look at an embedding are given the model's own."""
    if cell.rule == LOSSLESS:
        return TokenRule()
    rule = registry.rule(cell.rule)
    embedding = model.embedding()
    if cell.parameter == "clusters":
        assert cell.value is not None
        partition = partition_from_embedding(embedding, int(cell.value))
        return rule.build(None, registry.Context(embedding, partition))
    return rule.build(cell.value, registry.Context(embedding))


def _real(cell: Cell, setting: Setting, row: Row) -> dict[str, Estimate]:
    judge = judges.judge(setting.model)
    assert judge is not None  # no such cell is planned without one
    real, classes = judge.train, int(judge.train.labels.max()) + 1
    each = -(-setting.n // classes)
    order = torch.from_numpy(np.random.default_rng(seed_of(cell, setting, 0)).permutation(len(real.labels)))
    dealt = torch.cat([order[real.labels[order] == label][:each] for label in range(classes)])
    labels = real.labels[dealt]
    row["n"] = len(dealt)
    weight = bootstrap.weights(len(dealt), setting.resamples, seed_of(cell, setting, 1))
    if real.features is not None and real.told is not None:
        return quality.measured(real.features[dealt.numpy()], int(real.told[dealt].sum()), weight, judge.reference)
    assert real.tokens is not None
    tokens = real.tokens[dealt]
    first = [int(i) for label in range(classes) for i in (labels == label).nonzero()[: IMAGES // classes]]
    row["images"] = shown(tokens[first], labels[first])
    return quality.measure(tokens, labels, weight, judge.reference)


def _decoded(cell: Cell, setting: Setting, row: Row) -> dict[str, Estimate]:
    model = opened(setting).like(guidance=cell.guidance)
    watched, decoder, plain = _decoders(cell, setting, model)
    if setting.compiled:  # each batch once before: passes are compiled by their shapes, which is not the decoder's
        passes = float(decode(plain, model, cell, setting).run.passes.double().mean())
        alone(_singles(plain, model), cell, setting, passes)
    decoded = decode(decoder, model, cell, setting, lambda: watched.seconds if watched else 0.0)
    run, labels = decoded.run, decoded.labels
    single = alone(_singles(plain, model), cell, setting, float(run.passes.double().mean()))
    timed(row, decoded, single, model.conditions)
    row["claim"] = str(decoder.claim)

    tokens, judge = run.tokens.cpu(), judges.judge(setting.model)
    row["images"] = _pictures(model, tokens[:IMAGES], labels)
    weight = bootstrap.weights(setting.n, setting.resamples, seed_of(cell, setting, 1))
    found = costs(run, model.length, weight)
    if watched is not None:
        row["looked"] = watched.looked
    if watched is not None and watched.known:
        gain, bias = watched.gain.cpu().numpy(), watched.bias.cpu().numpy()
        # Bonus tokens come from p itself: they count, with nothing gained and nothing lost.
        every = np.full(setting.n, float(model.length))
        share = bootstrap.ratio(watched.judged.cpu().numpy(), every, weight)
        for name, sums in (("gain", gain), ("bias", bias), ("excess", bias - gain)):
            each = bootstrap.ratio(sums, watched.priced.cpu().numpy(), weight)
            found[name] = bootstrap.product(each, share)
    statistics = traced(model, tokens, setting.batch, np.random.default_rng(seed_of(cell, setting, 2)))
    z = float(Surprisal().check(statistics, **_RATES).statistic)
    row["z"] = z if math.isfinite(z) else None
    found |= _laws(statistics, weight)
    if judge is None:
        return found
    return found | quality.measure(levels(model, tokens), labels, weight, judge.reference)


def _pictures(model: ImageModel, tokens: Int[Tensor, "n length"], labels: Int[Tensor, " n"]) -> Images | None:
    """Some images, in little; None of codes that nothing here makes pixels of."""
    side = min(LARGEST, max(model.size))
    if (images := thumbnails(model, tokens, (side, side))) is None:
        return None
    kept = IMAGES if images.shape[1] == side**2 else IMAGES // 2  # colours take more room
    return shown(images[:kept], labels[:kept])


def _singles(decoder: Decoder, model: ImageModel) -> list[tuple[Decoder, ImageModel]]:
    """The decoder with the model for each image alone; its drafts come from the model itself."""
    return [(decoder, model.like(conditions=[model.conditions[place]])) for place in places(model.conditions)]


def _decoders(cell: Cell, setting: Setting, model: ImageModel) -> tuple[Watched | None, Decoder, Decoder]:
    """The drafting to be watched, a decoder with it, and the same decoder without."""
    if cell.rule == AR:
        return None, Autoregressive(), Autoregressive()
    window = setting.window if cell.window is None else cell.window
    assert cell.drafting is not None
    assert window is not None
    judging, drafting = build(cell, model), Jacobi(cell.drafting)
    watched = Watched(drafting, judging, seed_of(cell, setting, 3))
    claim = getattr(judging, "claim", Speculative(drafting, 1).claim)
    return (
        watched,
        Speculative(watched, window, judging, claim),
        Speculative(drafting, window, judging, claim),
    )


def _laws(statistics: TokenStatistics, weight: np.ndarray) -> dict[str, Estimate]:
    """Surprisal less entropy, in nats per token that had a choice; Kolmogorov's distance of the transforms."""
    used = statistics.open.numpy()
    excess = np.where(used, statistics.surprisal.numpy() - statistics.entropy.numpy(), 0.0)
    return {
        "surprisal": bootstrap.ratio(excess.sum(1), used.sum(1).astype(float), weight),
        "pit": distance(statistics.pit.numpy(), weight),
    }


def _plain(one: Estimate, keep: bool) -> Metric:
    found: Metric = {"value": one.value, "interval": list(one.interval)}
    if keep:
        found["replicates"] = [float(f"{value:.4g}") for value in one.replicates]
    return found
