"""The tables of a sweep of decoders on a model of patches."""

from __future__ import annotations

from collections.abc import Sequence

from specverify.report import tables as report
from specverify.report.tables import Row as Line
from specverify.report.tables import Table
from specverify.tradeoff.clock import gain
from specverify.tradeoff.plan import AR, KNOWN_WRONG, REAL
from specverify.tradeoff.shape import Row, Sweep
from specverify.tradeoff.tables import (
    QUALITY,
    REPLACED,
    barred,
    called,
    cells,
    distance_names,
    distances,
    headed,
    judged_by,
    known,
    measured,
    milliseconds,
    value_of,
)

INTRODUCTION = (
    "What decoders of continuous tokens buy, and what they pay, on a small image model: {n} images of each setting. "
    "Two plain autoregressive runs (AR) show what is noise. Images are rounded to grey levels and measured against "
    "the same held-out images, by the same classifier, as those of the model of their grey levels."
)
LIMITS = (
    "Settings differ in speed by forward passes of the target's transformer. A pass over a window runs the head at "
    "every position of it, where AR runs it at one; the draft model's passes come on top. Where the head is most of "
    "the work, as a chain of denoising steps is, fewer passes take longer on a processor that is busy already: see "
    "head and ms.",
    "PIT: of a mixture, the distribution function of every coordinate given what came before; of a chain, whose "
    "density is not known, the rank of every coordinate among four fresh draws from the target's law after the same "
    "patches. Both are uniform under that law. All coordinates are pooled: errors that cancel are not seen.",
    "Surprisal needs the density of a patch: a mixture has it, a chain of denoising steps has not, and its column is "
    "empty.",
    "Bias is measured where it is not 0 by construction and the laws allow it: of the token rule with a limit of "
    "proposals it is the mean total variation of a patch's law from the target's; of CSpD the same given the noise "
    "that both trajectories share, which bounds it from above. CSpD as released has no bound below 1: its patches are "
    "means without a last noise, and its target does not see the drafts that it judges. Elsewhere the column is empty.",
    "Distances between features depend on the classifier and on the number of images; compare rows of one report, and "
    "reports of as many images. The classifier has seen the training images, which flatters their row.",
    "Intervals are over sampled images, for each setting by itself: neither the real images nor the models are drawn "
    "anew, and the best of many settings looks better than it is.",
    "How often drafts are kept depends on how near the draft model is to its target, which was trained on as few "
    "images.",
)
NAMES = ("decoder", "window#", "setting")


def limits(record: Sweep) -> list[str]:
    """What a report does not say."""
    return list(LIMITS)


def introduction(record: Sweep) -> str:
    """What a report of the record is of."""
    return INTRODUCTION.format(n=record["setting"]["n"])


def best(record: Sweep) -> list[Row]:
    """From the fastest setting on, those whose images are nearer to the real ones than any faster setting's.

    It ends with the first that neither FD nor PIT tells from AR: what is slower has nothing left to win. None is known
    to be wrong.
    """
    found = []
    rows = [row for row in measured(record, with_real=False) if row["rule"] not in (AR, *KNOWN_WRONG)]
    for scale in dict.fromkeys(row["guidance"] for row in rows):
        least = float("inf")
        own = (row for row in rows if row["guidance"] == scale)
        for row in sorted(own, key=lambda row: (-value_of(row, "speedup"), value_of(row, "fd"))):
            alike = like_ar(record, row)
            if value_of(row, "fd") < least or alike:
                least = value_of(row, "fd")
                found.append(row)
            if alike:
                break
    return found


def like_ar(record: Sweep, row: Row) -> bool:
    """Whether neither FD nor PIT tells a setting from AR."""
    plain = [one for one in measured(record, with_real=False) if one["guidance"] == row["guidance"]]
    return all(overlaps(row, plain, name) for name in ("fd", "pit"))


def frontier(record: Sweep) -> Table:
    """See `best`."""
    rows = best(record)
    several = len({row["guidance"] for row in rows}) > 1
    lines = [
        Line(
            (
                *named(row, several),
                str(row["claim"]),
                *cells(row, ("speedup", "lockstep-64", "draft_passes")),
                gain(record, row, "seconds_per_image"),
                gain(record, row, "seconds_alone"),
                *distances(record, row),
                *cells(row, ("pit", "accuracy")),
                "no" if like_ar(record, row) else "yes",
            )
        )
        for row in rows
    ]
    return Table(
        "frontier",
        "The frontier of speed and quality",
        "From the fastest setting on, those whose images are nearer to the real ones than any faster setting's, up to "
        "the first whose intervals of FD and PIT both meet those of an AR run: what is slower has nothing left to win. "
        "A setting that claims nothing and is not told from AR is not shown to be lossless: the images are too few. "
        "The best of many settings looks better than it is: --max-loss and --min-speedup choose with limits that "
        f"hold for all at once. {barred(record)}",
        (
            *NAMES, "claim", "speed-up#", "lock-step, 64#", "draft passes#", "speed-up in time#", "speed-up alone#",
            *distance_names(record), "PIT#", "accuracy#", "told from AR",
        ),
        tuple(lines),
    )  # fmt: skip


def overlaps(row: Row, plain: Sequence[Row], metric: str) -> bool:
    """Whether a setting's interval meets that of an AR run, among what it is compared with."""
    low, high = row["metrics"][metric]["interval"]
    plain = [one for one in plain if one["rule"] == AR]
    return any(
        one["metrics"][metric]["interval"][0] <= high and low <= one["metrics"][metric]["interval"][1] for one in plain
    )


def speed(record: Sweep) -> Table:
    """What every setting costs."""
    rows = measured(record, with_real=False)
    several = len({row["guidance"] for row in rows}) > 1
    lines = [
        Line(
            (
                *named(row, several),
                str(row["claim"]),
                *cells(row, ("passes", "draft_passes", "speedup", "lockstep-8", "lockstep-64", "acceptance")),
                f"{row['head_evaluations']:,.0f}",
                milliseconds(row["seconds_per_image"]),
                gain(record, row, "seconds_per_image"),
                milliseconds(row["seconds_alone"]),
                gain(record, row, "seconds_alone"),
            )
        )
        for row in rows
    ]
    return Table(
        "speed",
        "Speed",
        "Passes: forward passes of the target's transformer per image, and of the draft model's, with 95% intervals "
        f"over images. {REPLACED}Both count the target's passes alone. Head: laws, or denoising steps of chains, per "
        "image that the target's head was asked for, padding included. Times of one image, in a batch and alone, and "
        "AR's over them, with 95% intervals from what runs of one decoder differ by: processor time of a thread on a "
        "CPU, wall time on a GPU, of target and draft model together.",
        (
            *NAMES, "claim", "passes#", "draft passes#", "speed-up#", "lock-step, 8#", "lock-step, 64#", "acceptance#",
            "head#", "ms per image#", "speed-up in time#", "ms alone#", "speed-up alone#",
        ),
        tuple(lines),
    )  # fmt: skip


def quality(record: Sweep) -> Table:
    """What the images of every setting are worth."""
    rows = measured(record, with_real=True)
    several = len({row["guidance"] for row in rows} - {None}) > 1
    surprising = any("surprisal" in row["metrics"] for row in rows)
    own = ("z#", "surprisal#") if surprising else ()
    lines = []
    for row in rows:
        surprise: tuple[str, ...] = ()
        if surprising:
            surprise = (report.UNKNOWN if row["z"] is None else f"{row['z']:+.1f}", *cells(row, ("surprisal",)))
        figures = (*cells(row, ("pit", "bias")), *distances(record, row), *cells(row, known(record, QUALITY)))
        lines.append(Line((*named(row, several), *surprise, *figures)))
    surprisal = (
        "z and surprisal: the surprisal of patches less its mean under the target's law, in nats per patch; above 0, "
        "surprising patches are kept too often. "
    )
    return Table(
        "quality",
        "Quality",
        f"{surprisal * surprising}PIT: Kolmogorov's distance of transforms from uniform. Bias: total variation per "
        f"patch, or a bound of it; see below. {judged_by(record)}95% intervals are over the sampled images.",
        (
            *NAMES, *own, "PIT#", "bias#", *distance_names(record), *headed(record, known(record, QUALITY)),
        ),
        tuple(lines),
    )  # fmt: skip


def others(record: Sweep) -> list[Table]:
    """Which decoders were left out, and why."""
    return [
        Table(
            "omitted",
            "Decoders left out",
            f"They do not go with {record['setting']['model']}.",
            ("decoder", "why"),
            tuple(Line((name, reason)) for name, reason in record["omitted"].items()),
        )
    ]


def named(row: Row, several: bool = False) -> tuple[str, str, str]:
    """Decoder, window, and what else it is set to, with the guidance where there are several."""
    if row["rule"] == REAL:
        return "real images", report.UNKNOWN, report.UNKNOWN
    words = [f"guidance {row['guidance']:g}"] * several
    words += [row["id"].rpartition("/")[2]] * (row["rule"] == AR)
    words += [f"{row['parameter']} {row['value']:g}"] if row["parameter"] else []
    return (
        called(row["rule"]),
        report.UNKNOWN if row["window"] is None else str(row["window"]),
        ", ".join(words) or report.UNKNOWN,
    )
