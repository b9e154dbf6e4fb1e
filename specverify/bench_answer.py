"""What a bench says at its end, in a terminal: which decoder is fastest, what bounds it, and all of them in a table."""

from __future__ import annotations

import math

from rich.console import Console
from rich.table import Table
from rich.text import Text

from specverify.bench_shape import Bench, Row
from specverify.errors import number_of
from specverify.report.tables import UNKNOWN, number

_CLOCKS = {
    "processor": "seconds of the processor, one thread",
    "wall": "seconds by the clock on the wall: other work on this machine counts",
    "device": "seconds of the device",
}


def show(record: Bench, console: Console) -> None:
    """The answer, the table, and what its numbers are."""
    plain, *others = record["rows"]
    console.print(Text(headline(record), style="bold"))
    console.print()
    console.print(_passes(record))
    console.print()
    console.print(_table([plain, *others]))
    console.print()
    words = (
        f"{number_of(record['rounds'], 'batch')} of {number_of(record['batch'], 'image')} of "
        f"{number_of(record['length'], 'token')}, vocabulary {record['vocab']:,}, "
        f"{record['dtype']} on {record['accelerator'] or record['device']}; "
        f"{_CLOCKS[record['clock']]}. limit: the speed-up if finished rows were replaced at once and nothing but "
        "forward passes took time: tokens per pass over what a window costs, measured apart. What a step takes beside "
        "its pass weighs more on plain decoding, and may carry a speed-up beyond. outside: share of the seconds that "
        "no model takes. Whether a decoder is lossless is not asked here: specverify verify and validate do"
    )
    if record["model"].startswith("random:"):
        words += ". The weights are random: milliseconds and outside are the model's, passes and acceptance are not"
    for row in others:
        if row["draft_passes"]:
            name = row["decoder"] + (f" with a window of {row['window']}" if row["window"] else "")
            console.print(
                f"{name}: {number(row['draft_passes'], 4)} passes of the draft model an image, which take "
                f"{row['drafting']:.0%} of its seconds"
            )
        if row["calls"] > row.get("slowest", math.inf):
            console.print(Text(miscounted(row["decoder"], row["calls"], row["slowest"]), style="red"))
    console.print(Text(words, style="dim"))


def miscounted(decoder: str, calls: float, slowest: float) -> str:
    """What is said where a decoder leaves passes out of its count."""
    return (
        f"{decoder} counts {number(slowest, 4)} passes until all images of a batch are done, and the model was called "
        f"{number(calls, 4)} times: passes are not what it says (see specverify validate)"
    )


def headline(record: Bench) -> str:
    """The answer in a sentence."""
    plain, *others = record["rows"]
    if not others:
        return f"plain decoding takes {seconds(plain)} an image"
    best = max(others, key=lambda row: row["speedup"])
    where = best["decoder"] + (f" with a window of {best['window']}" if best["window"] else "")
    said = f"{where} takes {seconds(best)} an image, plain decoding {seconds(plain)}"
    times = f"{number(best['speedup'], 3)} times as fast"
    bound = "" if best["limit"] is None else f", {number(best['limit'], 3)} if only passes took time"
    if best["speedup"] <= 1:
        return f"no decoder is faster than plain decoding; the nearest, {said}: {times}{bound}"
    return f"the fastest, {said}: {times}{bound}"


def seconds(row: Row) -> str:
    """Of an image."""
    value = row["seconds_per_image"]
    return f"{number(value, 3)} s" if value >= 0.1 else f"{number(1000 * value, 3)} ms"


def _passes(record: Bench) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("drafts in a pass")
    for one in record["passes"]:
        table.add_column(str(one["window"]), justify="right")
    table.add_row("ms", *(number(one["milliseconds"], 3) for one in record["passes"]))
    single = record["passes"][0]["milliseconds"]
    table.add_row("of a single one", *(f"{one['milliseconds'] / single:.2f}" for one in record["passes"]))
    return table


def _table(rows: list[Row]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    names = ("decoder", "window", "passes", "per pass", "accepted", "an image", "speed-up", "limit", "outside")
    for name in names:
        table.add_column(name, justify="left" if name == "decoder" else "right", overflow="fold")
    for row in rows:
        table.add_row(
            Text(row["decoder"]),
            "" if row["window"] is None else str(row["window"]),
            number(row["passes"], 4),
            f"{row['step_compression']:.2f}",
            UNKNOWN if row["acceptance"] is None else f"{row['acceptance']:.0%}",
            seconds(row),
            f"{row['speedup']:.2f}",
            UNKNOWN if row["limit"] is None else f"{row['limit']:.2f}",
            f"{row['outside']:.0%}",
        )
    return table
