"""Choosing a setting from a sweep: the fastest that loses little, or the least lossy that is fast enough.

Speed is the speed-up in forward passes, AR's over the decoder's. The *loss* of a setting is, by `metric`:

    bias        mean total variation per token between the law that the token came from and the target's p, given what
                came before. Known from the laws of each step, so that nothing but the average over images is random.
                The law of a whole image of L tokens is within L times it of the target's
    surprisal   |mean of -log p(x) - H(p)|, in nats per token
    pit         Kolmogorov's distance of the tokens' probability integral transforms from uniform
    fd          Frechet distance less that of AR (the mean of its two runs), against the same real images
    kd          kernel distance less that of AR, likewise
    accuracy, precision, recall, density, coverage
                what is lost of them: AR's less the setting's

A setting is *confirmed* if its confidence limit is within what was asked for: the upper one of a loss, the lower one of
a speed-up. Which setting is taken depends on the same images as its figures, and the best of many looks better than it
is; so limits are for all settings at once (Bonferroni, with Student's quantile of the bootstrap's deviation): with
`CONFIDENCE` no setting at all loses more than its limit says, whichever is chosen and however; and likewise no speed-up
is less. All but `bias` compare with a finite number of images, so that even a lossless setting shows some loss either
way. A Frechet distance of n images is biased upwards; AR's of as many is as well, and their difference hardly. Of
models of patches there is no bias of every setting, and of those with a diffusion head no surprisal (`metrics`).

Decoders that are known to be wrong (`plan.KNOWN_WRONG`) are measured, and never chosen.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Float
from scipy import stats

from realmodels import continuous, judges, store
from specverify.catalogue import near
from specverify.claims import Lossless
from specverify.errors import InputError
from specverify.tradeoff.plan import AR, KNOWN_WRONG, LOSSLESS, REAL
from specverify.tradeoff.shape import Row, Sweep, scale_of

CONFIDENCE = 0.95
SHOWN = 4
"""Settings without effect that are named."""
NOTHING = 5e-7
"""Losses below it are rounding."""
RELATIVE = {"fd": 1, "kd": 1, "accuracy": -1, "precision": -1, "recall": -1, "density": -1, "coverage": -1}
"""Metrics that are compared with AR's: 1 where more of it is worse, -1 where less is."""
METRICS = ("bias", "surprisal", "pit", *RELATIVE)
By = Literal["loss", "speed-up"]


@dataclass(frozen=True)
class Contender:
    """A setting, its speed and its loss.

    Attributes:
        id: the setting.
        speedup, slowest: the speed-up, and its lower confidence limit; all limits hold for all settings at once.
        loss, most: the loss, and its upper confidence limit.
        satisfies: share of bootstrap replicates in which it is within what was asked for.
        best: share of them in which it is the best of those that are.
        needed: images of each setting that would confirm it if its figures are what they seem; None if none would.
    """

    id: str
    speedup: float
    slowest: float
    loss: float
    most: float
    satisfies: float
    best: float
    needed: int | None


@dataclass(frozen=True)
class Choice:
    """An answer.

    Attributes:
        question: what was asked for.
        asked: the most loss, or the least speed-up: `by` says which.
        by: what is limited, "loss" or "speed-up".
        guidance: of the settings that were compared.
        metric: what counts as loss.
        compared: settings, of all guidances, that the limits hold for at once.
        images: of each of them.
        chosen: the answer; None if no setting is confirmed.
        nearest: without an answer, the setting that comes nearest.
        others: further settings, in the order of merit: with an answer, first those that would be better but are not
            confirmed.
        free: the fastest setting whose decoder claims to be lossless: whatever loss it shows is noise if it is. None if
            there is none.
        contenders: all settings of the guidance, in the order of merit.
    """

    question: str
    asked: float
    by: By
    guidance: float
    metric: str
    compared: int
    images: int
    chosen: Contender | None
    nearest: Contender | None
    others: tuple[Contender, ...]
    free: Contender | None
    contenders: tuple[Contender, ...]


def metrics(model: str) -> tuple[str, ...]:
    """What can count as loss of a model's settings; the first is usual."""
    if model not in continuous.names():
        return METRICS if judges.known(model) else METRICS[: -len(RELATIVE)]
    known = ("pit",) if store.read_card(model)["kind"] == "diffusion" else ("pit", "surprisal")
    return (*RELATIVE, *known)


def fastest(record: Sweep, max_loss: float, metric: str | None = None) -> list[Choice]:
    """The fastest setting that loses at most `max_loss`, for each guidance of a sweep.

    Raises:
        InputError: an unknown metric, a limit that no loss can meet, or a sweep without its AR runs.
    """
    metric = check(metric, record["setting"]["model"], max_loss=max_loss)
    return _choose(
        record,
        metric,
        f"the fewest passes with a loss of {metric} of at most {max_loss:g}",
        max_loss,
        "loss",
        within=lambda speed, loss: loss <= max_loss,
        merit=lambda speed, loss: speed,
        satisfies=lambda one: one.most <= max_loss,
        room=lambda one: (max_loss - one.loss, one.most - one.loss),
        order=lambda one: -one.speedup,
        near=lambda one: one.most,
    )


def least_lossy(record: Sweep, min_speedup: float, metric: str | None = None) -> list[Choice]:
    """The setting with the least loss among those at least `min_speedup` times as fast as AR, for each guidance.

    Raises:
        InputError: as `fastest`.
    """
    metric = check(metric, record["setting"]["model"], min_speedup=min_speedup)
    return _choose(
        record,
        metric,
        f"the least loss of {metric} at a speed-up of at least {min_speedup:g}",
        min_speedup,
        "speed-up",
        within=lambda speed, loss: speed >= min_speedup,
        merit=lambda speed, loss: -loss,
        satisfies=lambda one: one.slowest >= min_speedup,
        room=lambda one: (one.speedup - min_speedup, one.speedup - one.slowest),
        order=lambda one: one.loss,
        near=lambda one: -one.slowest,
    )


def check(metric: str | None, model: str, max_loss: float = 0.0, min_speedup: float = 1.0) -> str:
    """The metric that a question is about, the usual one if None; InputError unless it can be asked."""
    known = metrics(model)
    metric = known[0] if metric is None else metric
    if metric not in known:
        if metric not in METRICS:
            raise InputError(f"unknown metric {metric!r}; {near(metric, known)}")
        raise InputError(f"the {metric} of every setting of {model} is not known; choose one of {', '.join(known)}")
    if not 0 <= max_loss < float("inf"):
        raise InputError(f"max loss {max_loss}: it is a number of at least 0")
    if not 0 < min_speedup < float("inf"):
        raise InputError(f"min speed-up {min_speedup}: it is a positive number; 1 is as fast as AR")
    return metric


Paired = Callable[[Float[np.ndarray, "rows resamples"], Float[np.ndarray, "rows resamples"]], np.ndarray]


def _choose(
    record: Sweep,
    metric: str,
    question: str,
    asked: float,
    by: By,
    *,
    within: Paired,
    merit: Paired,
    satisfies: Callable[[Contender], bool],
    room: Callable[[Contender], tuple[float, float]],
    order: Callable[[Contender], float],
    near: Callable[[Contender], float],
) -> list[Choice]:
    choices = []
    compared = settings(record)
    images = min((row["n"] for row in compared), default=0)
    for scale in dict.fromkeys(scale_of(row) for row in record["rows"] if row["rule"] == AR):
        rows = [row for row in compared if row["guidance"] == scale]
        if not rows:
            continue
        rows = [row for row in rows if metric in row["metrics"]]  # of a large vocabulary some may have no price
        if not rows:
            continue
        losses = [loss(record, row, metric) for row in rows]
        speed = np.stack([row["metrics"]["speedup"]["replicates"] for row in rows])
        lost = np.stack([one.replicates for one in losses])
        allowed = within(speed, lost)
        worth = np.where(allowed, merit(speed, lost), -np.inf)
        best = np.zeros(len(rows))
        np.add.at(best, worth.argmax(0)[allowed.any(0)], 1 / speed.shape[1])
        reach = quantile(len(compared), speed.shape[1])
        contenders = []
        for i, row in enumerate(rows):
            value, lost_value = row["metrics"]["speedup"]["value"], losses[i].value
            slowest = value - reach * float(speed[i].std(ddof=1))
            # What is known of few steps has a spread that is known by few.
            seen = row.get("looked", speed.shape[1]) if metric == "bias" else speed.shape[1]
            most = lost_value + quantile(len(compared), max(2, min(seen, speed.shape[1]))) * losses[i].spread
            shares = float(allowed[i].mean()), float(best[i])
            one = Contender(row["id"], value, slowest, lost_value, most, *shares, None)
            contenders.append(replace(one, needed=_needed(images, *room(one))))
        contenders.sort(key=lambda one: (order(one), one.id))
        chosen = next((one for one in contenders if satisfies(one)), None)
        nearest = None if chosen else min(contenders, key=lambda one: (near(one), one.id))
        # Those that might be better, and the next that satisfy.
        others = [one for one in contenders if one is not chosen and one is not nearest and one.satisfies > 0]
        lossless = {row["id"] for row in rows if row["claim"] == str(Lossless())}
        free = max((one for one in contenders if one.id in lossless), key=lambda one: one.speedup, default=None)
        counts, rest = (metric, len(compared), images), (tuple(others), free, tuple(contenders))
        choices.append(Choice(question, asked, by, scale, *counts, chosen, nearest, *rest))
    if not choices and compared and not any(metric in row["metrics"] for row in compared):
        raise InputError(f"no setting's {metric} is known: too few of its steps were priced; draw more images (--n)")
    if not choices:
        raise InputError("the sweep holds no finished setting beside a finished AR run; let it come to its end")
    return choices


def quantile(compared: int, resamples: int) -> float:
    """How many bootstrap deviations a one-sided limit lies off, for as many settings at once."""
    return float(stats.t.isf((1 - CONFIDENCE) / compared, resamples - 1))


def _needed(images: int, room: float, reach: float) -> int | None:
    """Images with which a limit `reach` away from an estimate, now of `images`, leaves it within its `room`."""
    return math.ceil(images * max(1.0, reach / room) ** 2) if room > 0 else None


def settings(record: Sweep) -> list[Row]:
    """The rows that can be chosen: decoders with drafts that were measured, not known to be wrong, and not idle."""
    barred, nothing = (AR, REAL, *KNOWN_WRONG), {row["id"] for row in idle(record)}
    rows = (row for row in record["rows"] if row["rule"] not in barred and row["error"] is None)
    return [row for row in rows if row["id"] not in nothing]


def idle(record: Sweep) -> list[Row]:
    """Settings of rules that did nothing: with the same seeds, their figures are the token rule's, bit by bit."""

    def figures(row: Row) -> tuple[object, ...]:
        values = [row["metrics"][name]["value"] for name in ("passes", "bias", "gain")]
        return row["guidance"], row["drafting"], row["window"], *values

    priced = [row for row in record["rows"] if {"passes", "bias", "gain"} <= row["metrics"].keys()]
    plain = {figures(row) for row in priced if row["rule"] == LOSSLESS}
    return [row for row in priced if row["rule"] not in (LOSSLESS, *KNOWN_WRONG) and figures(row) in plain]


def without_effect(record: Sweep) -> str:
    """The same in words; empty if there is none."""
    rows = idle(record)
    if not rows:
        return ""
    names = [row["id"].partition("/")[2] for row in rows]
    said = ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
    return (
        f"Without effect on this model, and so no choice: {said}. No draft was kept that the token rule rejects, so "
        "that their figures differ from those of lossless decoding by chance alone. A rule with a distance leaves out "
        "tokens that are farther away, and GSD's 0.5 was chosen for another model's embedding."
    )


def by_rule(row: Row, metric: str, value: float) -> bool:
    """Whether a loss is 0 by construction: the bias that a lossless rule's own laws give."""
    return metric == "bias" and row["claim"] == str(Lossless()) and abs(value) < NOTHING


@dataclass(frozen=True)
class Loss:
    """A loss.

    Attributes:
        value: of the images that were drawn.
        replicates: of resampled ones.
        spread: its standard deviation: of its replicates, before a sign is dropped.
    """

    value: float
    replicates: Float[np.ndarray, " resamples"]
    spread: float

    @property
    def interval(self) -> tuple[float, float]:
        """Two-sided, 95%, for this setting alone."""
        reach = float(stats.t.isf((1 - CONFIDENCE) / 2, len(self.replicates) - 1)) * self.spread
        return self.value - reach, self.value + reach


def loss(record: Sweep, row: Row, metric: str) -> Loss:
    """A setting's loss; see the module. Of an AR run itself: against the other run."""
    found = row["metrics"][metric]
    value, replicates = float(found["value"]), np.asarray(found["replicates"])
    if metric not in RELATIVE:
        return Loss(abs(value), np.abs(replicates), float(replicates.std(ddof=1)))
    plain = [
        one["metrics"][metric]
        for one in record["rows"]
        if one["rule"] == AR and one["guidance"] == row["guidance"] and one["error"] is None and one["id"] != row["id"]
    ]
    if not plain:
        raise InputError(f"{row['id']!r} cannot be compared: AR at its guidance was not measured; finish the sweep")
    sign = RELATIVE[metric]
    base = float(np.mean([one["value"] for one in plain]))
    around = np.mean([one["replicates"] for one in plain], axis=0)
    moved = sign * (replicates - around)
    return Loss(sign * (value - base), moved, float(moved.std(ddof=1)))
