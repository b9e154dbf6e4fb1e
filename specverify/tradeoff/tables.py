"""The tables of a sweep of relaxed rules on a model of ids, and how a row is put in words and figures."""

from __future__ import annotations

from specverify.errors import InputError
from specverify.report import tables
from specverify.report.tables import Row as Line
from specverify.report.tables import Table
from specverify.tradeoff import spaces
from specverify.tradeoff.choose import by_rule, idle, loss
from specverify.tradeoff.clock import gain
from specverify.tradeoff.plan import AR, KNOWN_WRONG, REAL
from specverify.tradeoff.shape import Metric, Row, Sweep

LIMITS = (
    "Settings differ in speed by forward passes. On a processor that is busy already, such as a CPU with a large "
    "batch, fewer passes of more tokens each may take longer.",
    "Rules that measure distances between tokens are given the model's own embedding of them. Where all squared "
    "distances are below 0.5, the threshold of GSD's released code, that leaves nothing out.",
    "Distances between features depend on {network} and on the number of images; compare rows of one report. "
    "Where real images are such as {network} was trained on, that flatters their row.",
    "Intervals are over sampled images, for each setting by itself: neither the real images nor the model are drawn "
    "anew, and the best of many settings looks better than it is.",
    "What a rule loses depends on how far its drafts are off, and so on the model. A small one says how rules compare, "
    "not what they lose elsewhere.",
)
INTRODUCTION = (
    "What relaxed decoders buy, and what they pay, on a small image model: {n} images of each setting, "
    "{windows}. Two plain autoregressive runs (AR) show what is noise."
)
SPEED = ("passes", "speedup", "lockstep-8", "lockstep-64", "acceptance")
REPLACED = (
    "Speed-up: forward passes of AR over the decoder's, where rows are replaced as they finish; in lock-step a batch "
    "of 8 or 64 waits for its slowest row. "
)
DISTANCE = (
    "FD: Frechet distance between features of {space}; of n images it is larger than that of the law that they "
    "come from, and its interval is not one for that. FD above AR is the difference from the mean of the two AR runs "
    "of as many images (of an AR run, from the other one), in which that cancels. "
)
KERNEL = (
    "KD: squared kernel distance between the same features, unbiased, so that it is about 0 for images that have the "
    "law of the real ones, however many there are. "
)
PRICE = ("gain", "bias", "excess")
QUALITY = ("kd", "accuracy", "precision", "recall", "density", "coverage")


def best(record: Sweep) -> list[Row]:
    """The settings that no other one beats in both speed-up and bias, for each guidance; none known to be wrong."""
    found = []
    nothing = {row["id"] for row in idle(record)}
    rows = [row for row in record["rows"] if "bias" in row["metrics"] and row["rule"] not in KNOWN_WRONG]
    rows = [row for row in rows if row["id"] not in nothing]
    for scale in dict.fromkeys(row["guidance"] for row in rows):
        least = float("inf")
        ordered = sorted(
            (row for row in rows if row["guidance"] == scale),
            key=lambda row: (-value_of(row, "speedup"), value_of(row, "bias")),
        )
        for row in ordered:
            if value_of(row, "bias") < least:
                least = value_of(row, "bias")
                found.append(row)
    return found


def frontier(record: Sweep) -> Table:
    """See `best`."""
    lines = [
        Line(
            (
                *named(record, row),
                *cells(row, ("speedup", "lockstep-64")),
                gain(record, row, "seconds_per_image"),
                gain(record, row, "seconds_alone"),
                *cells(row, ("bias", "excess")),
                *distances(record, row),
                *cells(row, ("accuracy",)),
            )
        )
        for row in best(record)
    ]
    return Table(
        "frontier",
        "The frontier of speed and bias",
        "No other setting takes fewer passes than one of these and is less biased. Order: fewest passes first. The "
        "best of many settings looks better than it is: --max-loss and --min-speedup choose with limits that hold for "
        f"all at once. {barred(record)}",
        (
            *names(record), "speed-up#", "lock-step, 64#", "speed-up in time#", "speed-up alone#", "bias#", "excess#",
            *distance_names(record), "accuracy#",
        ),
        tuple(lines),
    )  # fmt: skip


def steps(record: Sweep) -> str:
    """By which steps gain and bias are known."""
    share = record.get("priced", 1.0)
    return "each step" if share == 1 else f"{share:.2g} of the steps or more, drawn by chance"


def barred(record: Sweep) -> str:
    """Which rows stand for comparison alone."""
    wrong = sorted({row["rule"] for row in record["rows"] if row["rule"] in KNOWN_WRONG})
    return f"Known to be wrong, measured for comparison and never recommended: {', '.join(wrong)}." if wrong else ""


def speed(record: Sweep) -> Table:
    """What every setting costs, and what its rule pays for what it gains."""
    lines = []
    for row in measured(record, with_real=False):
        lines.append(
            Line(
                (
                    *named(record, row),
                    *cells(row, SPEED),
                    milliseconds(row["seconds_per_image"]),
                    gain(record, row, "seconds_per_image"),
                    milliseconds(row["seconds_alone"]),
                    gain(record, row, "seconds_alone"),
                    *cells(row, PRICE),
                )
            )
        )
    return Table(
        "speed",
        "Speed, and the price of a token",
        "Passes: forward passes of the target per image, with 95% intervals over images; there is no draft model. "
        f"{REPLACED}Times of one image, in a batch and alone, and AR's over them, with 95% intervals from what runs of "
        "equal windows differ by: processor time of a thread on a CPU, wall time on a GPU. "
        "Gain: acceptance above the token rule's; bias: total variation of the token's law from the target's; excess: "
        f"bias less gain, at least 0 for any rule. All three per token, from the laws of {steps(record)}; the law of a "
        f"whole image of {record['length']} tokens is within {record['length']} times the bias of the target's.",
        (
            *names(record), "passes#", "speed-up#", "lock-step, 8#", "lock-step, 64#", "acceptance#", "ms per image#",
            "speed-up in time#", "ms alone#", "speed-up alone#", "gain#", "bias#", "excess#",
        ),
        tuple(lines),
    )  # fmt: skip


def quality(record: Sweep) -> Table:
    """What the images of every setting are worth."""
    lines = [
        Line(
            (
                *named(record, row),
                tables.UNKNOWN if row["z"] is None else f"{row['z']:+.1f}",
                *cells(row, ("surprisal", "pit")),
                *distances(record, row),
                *cells(row, known(record, QUALITY)),
            )
        )
        for row in measured(record, with_real=True)
    ]
    return Table(
        "quality",
        "Quality",
        "z and surprisal: the tokens' surprisal less the entropy of the target's law; above 0, surprising tokens are "
        "kept too often, below 0 likely ones are preferred. PIT: Kolmogorov's distance from uniform. "
        f"{judged_by(record)}95% intervals are over the sampled images.",
        (
            *names(record), "z#", "surprisal#", "PIT#", *distance_names(record),
            *headed(record, known(record, QUALITY)),
        ),
        tuple(lines),
    )  # fmt: skip


def known(record: Sweep, names: tuple[str, ...]) -> tuple[str, ...]:
    """Those of some metrics that a record holds: earlier ones may hold fewer."""
    return tuple(name for name in names if any(name in row["metrics"] for row in record["rows"]))


def headed(record: Sweep, names: tuple[str, ...]) -> tuple[str, ...]:
    """The heads of columns of metrics."""
    return tuple(f"{name.upper()}{spaces.on(record)}#" if len(name) == 2 else f"{name}#" for name in names)


def distance(record: Sweep) -> str:
    """What the columns of Frechet distances say."""
    return DISTANCE.format(space=spaces.space(record))


def judged_by(record: Sweep) -> str:
    """What the columns of images' quality say, where there are some."""
    if not known(record, QUALITY):
        return ""
    return (
        f"{distance(record)}{kernel(record)}Precision, recall, density and coverage: five nearest neighbours. All "
        "against real images that were held out. Recall may hang on one image that lies far from all others, of which "
        "its interval knows nothing. "
    )


def limits(record: Sweep) -> list[str]:
    """What a report does not say."""
    return [line.format(network=spaces.network(record)) for line in LIMITS]


def kernel(record: Sweep) -> str:
    """What a column of kernel distances says, where there is one."""
    return KERNEL if known(record, ("kd",)) else ""


def distance_names(record: Sweep) -> tuple[str, str]:
    """How the two columns of `distances` are called: a Frechet distance is one of so many images."""
    return f"FD{spaces.on(record)} at n = {record['setting']['n']:,}#", "FD above AR#"


def distances(record: Sweep, row: Row) -> tuple[str, str]:
    """The Frechet distance of the images, and how far it lies above AR's of as many."""
    own = cells(row, ("fd",))[0]
    try:
        above = loss(record, row, "fd")
    except (InputError, KeyError):  # real images, or no AR run to compare with
        return own, tables.UNKNOWN
    return own, _figure({"value": above.value, "interval": list(above.interval)}, "fd")


def others(record: Sweep) -> list[Table]:
    """No other tables."""
    return []


def windows(record: Sweep) -> list[int]:
    """Drafts per forward pass, where settings differ in them."""
    return sorted({row["window"] for row in record["rows"] if row["window"] is not None})


def introduction(record: Sweep) -> str:
    """What a report of the record is of."""
    several = ", ".join(map(str, windows(record)))
    shared = f"windows {several}" if several else f"window {record['setting']['window']}"
    return INTRODUCTION.format(n=record["setting"]["n"], windows=shared)


def names(record: Sweep) -> tuple[str, ...]:
    """The heads of `named`."""
    return ("guidance", "drafting", "rule", *["window#"] * bool(windows(record)), "parameter")


def named(record: Sweep, row: Row) -> tuple[str, ...]:
    """Guidance, drafting, rule, window if settings differ in it, and parameter."""
    window = [tables.UNKNOWN if row["window"] is None else str(row["window"])] * bool(windows(record))
    if row["rule"] == REAL:
        return tables.UNKNOWN, tables.UNKNOWN, "real images", *window, tables.UNKNOWN
    last = f"{row['parameter']} {row['value']:g}" if row["parameter"] else tables.UNKNOWN
    if row["rule"] == AR:
        last = row["id"].rpartition("/")[2]
    return f"{row['guidance']:g}", row["drafting"] or tables.UNKNOWN, called(row["rule"]), *window, last


def called(rule: str) -> str:
    """A rule's or decoder's name, and whether it is there for comparison alone."""
    return f"{rule} (known wrong)" if rule in KNOWN_WRONG else rule


def cells(row: Row, names: tuple[str, ...]) -> tuple[str, ...]:
    """Metrics with their intervals; a bias that is 0 whatever is drawn says so."""
    found = [(name, row["metrics"].get(name)) for name in names]
    return tuple(
        "0 by its rule" if metric is not None and by_rule(row, name, metric["value"]) else _figure(metric, name)
        for name, metric in found
    )


def _figure(metric: Metric | None, name: str) -> str:
    if metric is None:
        return tables.UNKNOWN
    places = (
        2
        if name in ("passes", "draft_passes", "speedup", "lockstep-8", "lockstep-64", "fd")
        else 4
        if name in (*PRICE, "surprisal", "pit")
        else 3
    )
    shown = [f"{value:.{places}f}" for value in (metric["value"], *metric["interval"])]
    shown = [text.removeprefix("-") if float(text) == 0 else text for text in shown]
    return shown[0] if shown[1] == shown[2] == shown[0] else f"{shown[0]} [{shown[1]}, {shown[2]}]"


def measured(record: Sweep, with_real: bool) -> list[Row]:
    """The rows that have figures."""
    return [row for row in record["rows"] if row["error"] is None and (with_real or row["rule"] != REAL)]


def value_of(row: Row, metric: str) -> float:
    """A metric's estimate."""
    return float(row["metrics"][metric]["value"])


def milliseconds(seconds: float | None) -> str:
    """Seconds as milliseconds."""
    return tables.UNKNOWN if seconds is None else f"{1000 * seconds:.1f}"
