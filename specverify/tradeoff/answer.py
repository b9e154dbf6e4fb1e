"""What a sweep says first, in a terminal and on its page: the setting to take, what was confirmed, and the frontier."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from specverify.errors import InputError, number_of
from specverify.report.listing import listing
from specverify.report.tables import UNKNOWN, interval, number
from specverify.report.tables import Row as Line
from specverify.report.tables import Table as Section
from specverify.tradeoff import choose, tables, tables_patches
from specverify.tradeoff.choose import CONFIDENCE, Choice, Contender
from specverify.tradeoff.plan import AR
from specverify.tradeoff.shape import Metric, Row, Sweep, Timed
from specverify.tradeoff.tables import faster, within

USUAL = {"bias": 0.02, "fd": 0.25}
"""Losses that a question is about if nobody asked one."""
FREE = "the fewest passes that claim to be lossless"
SHOWN = 5
"""Further settings that are listed, and rows of the frontier."""


def usual(record: Sweep, metric: str | None = None) -> list[Choice]:
    """The answers to the usual question, by the usual metric or another that has a usual loss.

    Raises:
        InputError: nothing can be answered yet.
    """
    known = metric if metric in USUAL else choose.metrics(record["setting"]["model"])[0]
    return choose.fastest(record, USUAL[known], known)


def section(record: Sweep) -> Section:
    """The answer to the usual question as a table: the fastest setting that loses little, and the lossless one."""
    rows: list[Line] = []
    choices: list[Choice] = []
    try:
        choices = usual(record)
    except InputError as error:
        intro = f"There is no answer yet: {error}."
    else:
        intro = (
            f"Limits hold with {CONFIDENCE:.0%} for all at once ({number_of(choices[0].compared, 'setting')}), on "
            f"{choices[0].images:,} images of each; what stands in square brackets, of a setting alone. Passes are the "
            "target's, in round brackets in a batch of 64 that waits for its slowest image; a draft model's are extra."
        )
        intro = f"{by_clock(record)} {intro} {choose.without_effect(record)}".strip()
    by_id = {row["id"]: row for row in record["rows"]}
    for choice in choices:
        one = choice.chosen or choice.nearest
        assert one is not None  # there are settings, or there would be no choice
        what = choice.question if choice.chosen else f"{choice.question}: none is confirmed; {_more(choice, one)}"
        rows.append(_line(record, by_id[one.id], one, what))
        if choice.free is not None and choice.free is not one:
            rows.append(_line(record, by_id[choice.free.id], choice.free, FREE))
    columns = ("what", "setting", "fewer passes#", "draft passes#", "faster in a batch#", "faster alone#", "loss#")
    return Section("answer", "The setting to take", intro, columns, tuple(rows))


def by_clock(record: Sweep) -> str:
    """What the best setting gains in seconds, which fewer passes need not; empty if none was timed."""
    said = []
    kinds: tuple[tuple[Timed, str], ...] = (("seconds_per_image", "in a batch"), ("seconds_alone", "alone"))
    for kind, where in kinds:
        gains = [faster(record, row, kind) for row in record["rows"] if row["rule"] != AR]
        if known := [gain for gain in gains if gain is not None]:
            best = max(known)
            said.append(f"{best:.2g} times as fast {where}{' (slower)' if best < 1 else ''}")
    return f"By the clock the best of all settings, beside plain decoding, is {' and '.join(said)}." if said else ""


def _line(record: Sweep, row: Row, one: Contender, what: str) -> Line:
    kinds: tuple[Timed, ...] = ("seconds_per_image", "seconds_alone")
    times = [number(faster(record, row, kind), 3) + interval(within(record, row, kind), 3) for kind in kinds]
    drafts = _value(row, "draft_passes") if "draft_passes" in row["metrics"] else "0"
    fewer = f"{one.speedup:.3g}, at least {one.slowest:.3g} ({_value(row, 'lockstep-64')})"
    return Line((what, one.id, fewer, drafts, *times, f"{_plain(one.loss)}, at most {_plain(one.most)}"))


def show(record: Sweep, choice: Choice, console: Console) -> None:
    """One answer: the setting with its speed and loss, the lossless one beside it, and what was confirmed of it."""
    rows = {row["id"]: row for row in record["rows"]}
    console.print()
    console.print(Text(f"{choice.question}, at guidance {choice.guidance:g}:"))
    one = choice.chosen or choice.nearest
    assert one is not None  # there are settings, or there would be no choice
    if choice.chosen is None:
        console.print(Text(f"no setting is confirmed on {choice.images:,} images; {_more(choice, one)}"))
    console.print(Text(one.id, style="bold" if choice.chosen else ""))
    console.print(_figures(record, rows[one.id], one, choice))
    if choice.free is not None and choice.free is not one:
        console.print(Text(f"{FREE}: {choice.free.id}"))
        console.print(_figures(record, rows[choice.free.id], choice.free, choice))
    elif choice.free is one:
        console.print(Text("it claims to be lossless: what loss it shows is noise if it is"))
    console.print(_others(choice, one))
    for said in filter(None, (by_clock(record), choose.without_effect(record))):
        console.print(Text(said))
    console.print(Text(_confirmed(choice), style="dim"))


def frontier(record: Sweep, console: Console) -> None:
    """The first rows of the report's frontier."""
    patches = record["tokens"] == "patches"
    rows = (tables_patches if patches else tables).best(record)
    if not rows:
        return
    loss = "fd" if patches else "bias"
    heading = f"FD above AR, n = {record['setting']['n']:,}" if patches else "bias per token"
    lines = []
    for row in rows[:SHOWN]:
        gains = (_short(faster(record, row, what)) for what in ("seconds_per_image", "seconds_alone"))
        lost = tables.distances(record, row)[1] if patches else tables.cells(row, (loss,))[0]
        drafts = _value(row, "draft_passes") if "draft_passes" in row["metrics"] else "0"
        fewer = (_value(row, "speedup"), _value(row, "lockstep-64"), drafts)
        lines.append((row["id"].partition("/")[2], *fewer, *gains, lost.partition(" [")[0]))
    headings = ("the frontier", "passes", "lock-step 64", "draft passes", "in time", "alone", heading)
    table = listing(lines, headings, drop=("lock-step 64", "alone"))
    console.print()
    console.print(table)
    more = f"; {len(rows) - SHOWN} more in the report" if len(rows) > SHOWN else ""
    words = "speed-ups in forward passes of the target (rows replaced; lock-step), in time in a batch, and alone"
    console.print(Text(f"{words}{more}. {tables.barred(record)}".rstrip(), style="dim"))


def _figures(record: Sweep, row: Row, one: Contender, choice: Choice) -> Table:
    metrics = row["metrics"]
    drafts, target = metrics.get("draft_passes"), metrics["passes"]["value"] if "passes" in metrics else None
    added = "no draft model" if drafts is None else f"and {_measured(drafts)} of the draft model"
    together = [
        f"{_measured(metrics[name])} at batch {size}" for size in (8, 64) if (name := f"lockstep-{size}") in metrics
    ]
    ways: tuple[tuple[Timed, str], ...] = (("seconds_per_image", "in a batch"), ("seconds_alone", "alone"))
    times = [
        f"{words} {number(gain, 3)} times as fast as AR{interval(within(record, row, what), 3)}"
        for what, words in ways
        if (gain := faster(record, row, what)) is not None
    ]
    table = Table.grid(padding=(0, 1, 0, 0))
    for words in (
        ("  passes", f"{one.speedup:.3g} times fewer (at least {one.slowest:.3g}), rows replaced as they finish"),
        ("", f"{number(target, 3)} of the target an image; {added}"),
        ("  lock-step", ", ".join(together) or UNKNOWN),
        ("  seconds", "; ".join(times) or UNKNOWN),
        ("  loss", f"{_plain(one.loss)} (at most {_plain(one.most)}) of {_metric(choice)}"),
    ):
        table.add_row(*map(Text, words))
    return table


def _metric(choice: Choice) -> str:
    return f"fd above AR's, both at n = {choice.images:,}" if choice.metric == "fd" else choice.metric


def _more(choice: Choice, one: Contender) -> str:
    if one.needed is None:
        return "the nearest does not seem to be within what was asked for, on any number of images:"
    return f"the nearest would be by some {one.needed:,} images of each (--n), if its figures are what they seem:"


def _confirmed(choice: Choice) -> str:
    return (
        f"at least, at most, low, high: limits that hold with {CONFIDENCE:.0%} for all at once "
        f"({number_of(choice.compared, 'setting')}), on {choice.images:,} images of each, so that choosing among them "
        "spoils none; within (what was asked for) and best (of those within): shares of bootstrap replicates; "
        "brackets: 95% intervals of a setting alone"
    )


def _others(choice: Choice, first: Contender) -> Table:
    table = Table(box=None, pad_edge=False, collapse_padding=True)
    for name in ("setting", "speed-up", "low", "loss", "high", "within", "best"):
        table.add_column(name, justify="left" if name == "setting" else "right", overflow="fold")
    for one in [first, *choice.others[:SHOWN]]:
        numbers = (_plain(value) for value in (one.speedup, one.slowest, one.loss, one.most))
        table.add_row(Text(one.id.partition("/")[2]), *numbers, f"{one.satisfies:.0%}", f"{one.best:.0%}")
    return table


def _plain(value: float) -> str:
    return f"{value:.3g}" if abs(value) >= 5e-7 else "0"


def _measured(metric: Metric) -> str:
    return number(metric["value"], 3) + interval(metric["interval"], 3)


def _value(row: Row, name: str) -> str:
    return _short(row["metrics"][name]["value"]) if name in row["metrics"] else UNKNOWN


def _short(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.3g}"
