"""The tables of a sweep of relaxed rules on a model of grey levels, and how a row is put in words and figures."""

from __future__ import annotations

from typing import Any

from specverify.report import tables
from specverify.report.tables import Row as Line
from specverify.report.tables import Table, number
from specverify.tradeoff.plan import AR, REAL

Record = dict[str, Any]
Row = dict[str, Any]

LIMITS = (
    "Settings differ in speed by forward passes. On a processor that is busy already, such as a CPU with a large "
    "batch, fewer passes of more tokens each may take longer.",
    "Rules that measure distances between tokens are given the model's own input embedding of the grey levels. In "
    "digits-s all squared distances are below 0.5, the threshold of GSD's released code: it leaves nothing out.",
    "Distances between features depend on the classifier and on the number of images; compare rows of one report. The "
    "classifier has seen the training images, which flatters their row.",
    "Intervals are over sampled images, for each setting by itself: neither the real images nor the model are drawn "
    "anew, and the best of many settings looks better than it is.",
    "What a rule loses depends on how far its drafts are off, and so on the model. Digits of 64 tokens and 17 grey "
    "levels say how rules compare, not what they lose elsewhere.",
)
INTRODUCTION = (
    "What relaxed decoders buy, and what they pay, on a small image model: {n} images of each setting, window "
    "{window}. Two plain autoregressive runs (AR) show what is noise."
)
SPEED = ("passes", "speedup", "acceptance")
PRICE = ("gain", "bias", "excess")
QUALITY = ("surprisal", "pit", "fd", "accuracy", "precision", "recall", "density", "coverage")


def frontier(record: Record) -> Table:
    """The settings that no other one beats in both speed-up and bias, for each guidance."""
    lines = []
    rows = [row for row in record["rows"] if "bias" in row["metrics"]]
    for scale in dict.fromkeys(row["guidance"] for row in rows):
        best = float("inf")
        ordered = sorted(
            (row for row in rows if row["guidance"] == scale),
            key=lambda row: (-value_of(row, "speedup"), value_of(row, "bias")),
        )
        kept = []
        for row in ordered:
            if value_of(row, "bias") < best:
                best = value_of(row, "bias")
                kept.append(row)
        lines += [Line((*named(row), *cells(row, ("speedup", "bias", "excess", "fd", "accuracy")))) for row in kept]
    return Table(
        "frontier",
        "The frontier of speed and bias",
        "No other setting is at once faster and less biased than one of these. Order: fastest first.",
        (*_NAMES, "speed-up#", "bias#", "excess#", "FD#", "accuracy#"),
        tuple(lines),
    )


def speed(record: Record) -> Table:
    """What every setting costs, and what its rule pays for what it gains."""
    lines = []
    for row in measured(record, with_real=False):
        alone = faster(record, row, "seconds_alone")
        lines.append(
            Line(
                (
                    *named(row),
                    *cells(row, SPEED),
                    milliseconds(row["seconds_per_image"]),
                    milliseconds(row["seconds_alone"]),
                    number(alone, 3),
                    *cells(row, PRICE),
                )
            )
        )
    return Table(
        "speed",
        "Speed, and the price of a token",
        "Passes: forward passes of the target per image, with 95% intervals over images; speed-up: AR's over the "
        "decoder's. Times of one image, in a batch and alone: processor time of a thread on a CPU, wall time on a GPU. "
        "Gain: acceptance above the token rule's; bias: total variation of the token's law from the target's; excess: "
        "bias less gain, at least 0 for any rule. All three per token, from the laws of each step; the law of a whole "
        f"image of {record['length']} tokens is within {record['length']} times the bias of the target's.",
        (
            *_NAMES, "passes#", "speed-up#", "acceptance#", "ms per image#", "ms alone#", "speed-up alone#",
            "gain#", "bias#", "excess#",
        ),
        tuple(lines),
    )  # fmt: skip


def quality(record: Record) -> Table:
    """What the images of every setting are worth."""
    lines = [
        Line((*named(row), tables.UNKNOWN if row["z"] is None else f"{row['z']:+.1f}", *cells(row, QUALITY)))
        for row in measured(record, with_real=True)
    ]
    return Table(
        "quality",
        "Quality",
        "z and surprisal: the tokens' surprisal less the entropy of the target's law; above 0, surprising tokens are "
        "kept too often, below 0 likely ones are preferred. PIT: Kolmogorov's distance from uniform. FD: Frechet "
        "distance between features of the digit classifier. Precision, recall, density and coverage: five nearest "
        "neighbours. All against the 360 held-out real digits, with 95% intervals over the sampled images.",
        (*_NAMES, "z#", "surprisal#", "PIT#", "FD#", "accuracy#", "precision#", "recall#", "density#", "coverage#"),
        tuple(lines),
    )


def others(record: Record) -> list[Table]:
    """No other tables."""
    return []


_NAMES = ("guidance", "drafting", "rule", "parameter")


def named(row: Row) -> tuple[str, ...]:
    """Guidance, drafting, rule and parameter."""
    if row["rule"] == REAL:
        return tables.UNKNOWN, tables.UNKNOWN, "real images", tables.UNKNOWN
    last = f"{row['parameter']} {row['value']:g}" if row["parameter"] else tables.UNKNOWN
    if row["rule"] == AR:
        last = row["id"].rpartition("/")[2]
    return f"{row['guidance']:g}", row["drafting"] or tables.UNKNOWN, row["rule"], last


def cells(row: Row, names: tuple[str, ...]) -> tuple[str, ...]:
    """Metrics with their intervals."""
    return tuple(_figure(row["metrics"].get(name), name) for name in names)


def _figure(metric: dict[str, Any] | None, name: str) -> str:
    if metric is None:
        return tables.UNKNOWN
    places = (
        2 if name in ("passes", "draft_passes", "speedup", "fd") else 4 if name in (*PRICE, "surprisal", "pit") else 3
    )
    shown = [f"{value:.{places}f}" for value in (metric["value"], *metric["interval"])]
    shown = [text.removeprefix("-") if float(text) == 0 else text for text in shown]
    return shown[0] if shown[1] == shown[2] == shown[0] else f"{shown[0]} [{shown[1]}, {shown[2]}]"


def measured(record: Record, with_real: bool) -> list[Row]:
    """The rows that have figures."""
    return [row for row in record["rows"] if row["error"] is None and (with_real or row["rule"] != REAL)]


def faster(record: Record, row: Row, what: str) -> float | None:
    """AR's time, the mean of its two runs, over this setting's: `what` is "seconds_alone" or "seconds_per_image"."""
    plain = [one[what] for one in record["rows"] if one["rule"] == AR and one["guidance"] == row["guidance"]]
    known = [value for value in plain if value is not None]
    return sum(known) / len(known) / row[what] if known and row[what] else None


def value_of(row: Row, metric: str) -> float:
    """A metric's estimate."""
    return float(row["metrics"][metric]["value"])


def milliseconds(seconds: float | None) -> str:
    """Seconds as milliseconds."""
    return tables.UNKNOWN if seconds is None else f"{1000 * seconds:.1f}"
