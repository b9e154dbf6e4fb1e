"""Choosing a setting from a sweep: the fastest that loses little, or the least lossy that is fast enough.

Speed is the speed-up in forward passes, AR's over the decoder's. The *loss* of a setting is, by `metric`:

    bias        mean total variation per token between the law that the token came from and the target's p, given what
                came before. Known from the laws of each step, so that nothing but the average over images is random.
                The law of a whole image of L tokens is within L times it of the target's
    surprisal   |mean of -log p(x) - H(p)|, in nats per token
    pit         Kolmogorov's distance of the tokens' probability integral transforms from uniform
    fd          Frechet distance less that of AR (the mean of its two runs), against the same real images
    accuracy, precision, recall, density, coverage
                what is lost of them: AR's less the setting's

A setting *satisfies* a limit if its 95% confidence limit does: the upper one of a loss, the lower one of a speed-up,
each one-sided and for that setting by itself. All but `bias` compare with a finite number of images, so that even a
lossless setting shows some loss either way. Of models of patches there is no bias of every setting, and of those with a
diffusion head no surprisal (`metrics`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from realmodels import continuous, store
from specverify.claims import Lossless
from specverify.errors import InputError
from specverify.tradeoff.plan import AR, REAL

Record = dict[str, Any]
Row = dict[str, Any]

CONFIDENCE = 0.95
RELATIVE = {"fd": 1, "accuracy": -1, "precision": -1, "recall": -1, "density": -1, "coverage": -1}
"""Metrics that are compared with AR's: 1 where more of it is worse, -1 where less is."""
METRICS = ("bias", "surprisal", "pit", *RELATIVE)


@dataclass(frozen=True)
class Contender:
    """A setting, its speed and its loss.

    Attributes:
        id: the setting.
        speedup, slowest: the speed-up, and its lower confidence limit.
        loss, most: the loss, and its upper confidence limit.
        satisfies: bootstrap probability that it is within the limit that was asked for.
        best: bootstrap probability that it is the best of those that are.
    """

    id: str
    speedup: float
    slowest: float
    loss: float
    most: float
    satisfies: float
    best: float


@dataclass(frozen=True)
class Choice:
    """An answer.

    Attributes:
        question: what was asked for.
        guidance: of the settings that were compared.
        chosen: the answer; None if no setting satisfies.
        nearest: without an answer, the setting that comes nearest.
        others: further settings, in the order of merit: with an answer, first those that would be better but do not
            surely satisfy.
        free: the fastest setting whose decoder claims to be lossless: whatever loss it shows is noise if it is. None if
            there is none.
    """

    question: str
    guidance: float
    chosen: Contender | None
    nearest: Contender | None
    others: tuple[Contender, ...]
    free: Contender | None


def metrics(model: str) -> tuple[str, ...]:
    """What can count as loss of a model's settings; the first is usual."""
    if model not in continuous.names():
        return METRICS
    known = ("pit",) if store.read_card(model)["kind"] == "diffusion" else ("pit", "surprisal")
    return (*RELATIVE, *known)


def fastest(record: Record, max_loss: float, metric: str | None = None) -> list[Choice]:
    """The fastest setting that loses at most `max_loss`, for each guidance of a sweep.

    Raises:
        InputError: an unknown metric, a limit that no loss can meet, or a sweep without its AR runs.
    """
    metric = check(metric, record["setting"]["model"], max_loss=max_loss)
    return _choose(
        record,
        metric,
        f"the fastest setting with a loss of {metric} of at most {max_loss:g}",
        within=lambda speed, loss: loss <= max_loss,
        merit=lambda speed, loss: speed,
        satisfies=lambda one: one.most <= max_loss,
        order=lambda one: -one.speedup,
        near=lambda one: one.most,
    )


def least_lossy(record: Record, min_speedup: float, metric: str | None = None) -> list[Choice]:
    """The setting with the least loss among those at least `min_speedup` times as fast as AR, for each guidance.

    Raises:
        InputError: as `fastest`.
    """
    metric = check(metric, record["setting"]["model"], min_speedup=min_speedup)
    return _choose(
        record,
        metric,
        f"the least loss of {metric} at a speed-up of at least {min_speedup:g}",
        within=lambda speed, loss: speed >= min_speedup,
        merit=lambda speed, loss: -loss,
        satisfies=lambda one: one.slowest >= min_speedup,
        order=lambda one: one.loss,
        near=lambda one: -one.slowest,
    )


def check(metric: str | None, model: str, max_loss: float = 0.0, min_speedup: float = 1.0) -> str:
    """The metric that a question is about, the usual one if None; InputError unless it can be asked."""
    known = metrics(model)
    metric = known[0] if metric is None else metric
    if metric not in known:
        unknown = f"the {metric} of every setting of {model} is not known"
        raise InputError(
            f"{unknown if metric in METRICS else f'unknown metric {metric!r}'}; choose one of {', '.join(known)}"
        )
    if not 0 <= max_loss < float("inf"):
        raise InputError(f"max loss {max_loss}: it is a number of at least 0")
    if not 0 < min_speedup < float("inf"):
        raise InputError(f"min speed-up {min_speedup}: it is a positive number; 1 is as fast as AR")
    return metric


Paired = Callable[[Float[np.ndarray, "rows resamples"], Float[np.ndarray, "rows resamples"]], np.ndarray]


def _choose(
    record: Record,
    metric: str,
    question: str,
    *,
    within: Paired,
    merit: Paired,
    satisfies: Callable[[Contender], bool],
    order: Callable[[Contender], float],
    near: Callable[[Contender], float],
) -> list[Choice]:
    choices = []
    for scale in dict.fromkeys(row["guidance"] for row in record["rows"] if row["rule"] == AR):
        rows = [row for row in settings(record) if row["guidance"] == scale]
        if not rows:
            continue
        losses = [loss(record, row, metric) for row in rows]
        speed = np.stack([row["metrics"]["speedup"]["replicates"] for row in rows])
        lost = np.stack([replicates for _, replicates in losses])
        allowed = within(speed, lost)
        worth = np.where(allowed, merit(speed, lost), -np.inf)
        best = np.zeros(len(rows))
        np.add.at(best, worth.argmax(0)[allowed.any(0)], 1 / speed.shape[1])
        contenders = [
            Contender(
                row["id"],
                row["metrics"]["speedup"]["value"],
                float(np.quantile(speed[i], 1 - CONFIDENCE)),
                losses[i][0],
                float(np.quantile(lost[i], CONFIDENCE)),
                float(allowed[i].mean()),
                float(best[i]),
            )
            for i, row in enumerate(rows)
        ]
        contenders.sort(key=lambda one: (order(one), one.id))
        chosen = next((one for one in contenders if satisfies(one)), None)
        nearest = None if chosen else min(contenders, key=lambda one: (near(one), one.id))
        # Those that might be better, and the next that satisfy.
        others = [one for one in contenders if one is not chosen and one is not nearest and one.satisfies > 0]
        lossless = {row["id"] for row in rows if row["claim"] == str(Lossless())}
        free = max((one for one in contenders if one.id in lossless), key=lambda one: one.speedup, default=None)
        choices.append(Choice(question, scale, chosen, nearest, tuple(others), free))
    if not choices:
        raise InputError("the sweep holds no finished setting beside a finished AR run; let it come to its end")
    return choices


def settings(record: Record) -> list[Row]:
    """The rows that can be chosen: decoders with drafts that were measured."""
    return [row for row in record["rows"] if row["rule"] not in (AR, REAL) and row["error"] is None]


def loss(record: Record, row: Row, metric: str) -> tuple[float, Float[np.ndarray, " resamples"]]:
    """A setting's loss, and its replicates; see the module."""
    found = row["metrics"][metric]
    value, replicates = float(found["value"]), np.asarray(found["replicates"])
    if metric not in RELATIVE:
        return abs(value), np.abs(replicates)
    plain = [
        one["metrics"][metric]
        for one in record["rows"]
        if one["rule"] == AR and one["guidance"] == row["guidance"] and one["error"] is None
    ]
    if not plain:
        raise InputError(f"{row['id']!r} cannot be compared: AR at its guidance was not measured; finish the sweep")
    sign = RELATIVE[metric]
    base = float(np.mean([one["value"] for one in plain]))
    around = np.mean([one["replicates"] for one in plain], axis=0)
    return sign * (value - base), sign * (replicates - around)
