"""What a sweep says first, on its page and in a terminal: the setting to take, for each kind of cost."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from specverify.errors import InputError, number_of
from specverify.report.tables import UNKNOWN, interval, number
from specverify.report.tables import Row as Line
from specverify.report.tables import Table as Section
from specverify.tradeoff import choose, tables
from specverify.tradeoff.choose import Choice, Contender, by_rule
from specverify.tradeoff.choose_clock import Timing, by_clock
from specverify.tradeoff.clock import CLOCKS, pace, processor, where
from specverify.tradeoff.remarks import lost, plain
from specverify.tradeoff.shape import Metric, Row, Sweep, Timed

USUAL = {"bias": 0.02, "fd": 0.25}
"""Losses that a question is about if nobody asked one."""
FREE = "the fewest passes that claim to be lossless"
SHOWN = 5
"""Further settings that are listed."""
PLAIN = "plain decoding"


def usual(record: Sweep, metric: str | None = None) -> list[Choice]:
    """The answers to the usual question, by the usual metric or another that has a usual loss.

    Raises:
        InputError: nothing can be answered yet.
    """
    known = metric if metric in USUAL else choose.metrics(record["setting"]["model"])[0]
    return choose.fastest(record, USUAL[known], known)


def section(record: Sweep) -> Section:
    """The answer to the usual question as a table: a setting for each kind of cost, at each guidance."""
    rows: list[Line] = []
    heading = "loss"
    try:
        choices = usual(record)
    except InputError as error:
        intro = f"There is no answer yet: {error}."
    else:
        first = choices[0]
        heading = f"loss of {first.metric}"
        intro = (
            f"Of {number_of(first.compared, 'setting')} measured and compared, on {first.images:,} images of each, the "
            f"best that is confirmed to lose at most {first.asked:g} of {first.metric}, for each kind of cost. Passes "
            "of the target are what counts where one over many tokens takes no longer than one over a single token, as "
            f"on a GPU with time to spare; seconds were measured on {processor(record)}, where fewer passes may take "
            "longer."
        )
        rows = [line for choice in choices for line in _lines(record, choices, choice)]
    columns = ("guidance#", "what costs", "the setting", f"beside {PLAIN}", heading, "surprisal z#", "FD above AR#")
    return Section("answer", "The setting to take", intro, columns, tuple(rows))


def _lines(record: Sweep, choices: Sequence[Choice], choice: Choice) -> list[Line]:
    by_id = {row["id"]: row for row in record["rows"]}
    one = choice.chosen or choice.nearest
    assert one is not None  # there are settings, or there would be no choice
    none = "" if choice.chosen else f"none is confirmed; {_more(one)} "
    found = [_line(record, choice, "passes", one.id, f"{none}{_fewer(record, by_id[one.id], one)}", one)]
    if choice.free is not None and choice.free is not one:
        words = _fewer(record, by_id[choice.free.id], choice.free)
        found.append(_line(record, choice, "passes, claims to be lossless", choice.free.id, words, choice.free))
    for what in CLOCKS:
        timing = by_clock(record, choices, choice, what)
        if not any(row[what] for row in record["rows"]):
            continue
        taken = _taken(choice, timing)
        told = timing.one if timing.one is not None and taken == timing.one.id else None
        cost = _cost(record, by_id[one.id if timing.one is None else timing.one.id], what)
        found.append(_line(record, choice, cost, taken, _clocked(choice, timing), told))
    return found


def _line(record: Sweep, choice: Choice, cost: str, taken: str, words: str, one: Contender | None) -> Line:
    """A line of the answer; plain decoding, which is no contender, loses nothing."""
    start = (f"{choice.guidance:g}", cost, taken.removeprefix(f"guidance-{choice.guidance:g}/"), words)
    if one is None:
        return Line((*start, UNKNOWN, UNKNOWN, UNKNOWN))
    row = next(row for row in record["rows"] if row["id"] == one.id)
    z = UNKNOWN if row["z"] is None else f"{row['z']:+.1f}"
    return Line((*start, lost(row, choice.metric, one), z, tables.distances(record, row)[1]))


def _cost(record: Sweep, row: Row, what: Timed) -> str:
    """A clock, and how many images or batches of a setting it was read over."""
    times = row.get("times")
    count = "" if times is None else f" ({len(times[what])} of them)"
    if what == "seconds_alone":
        return f"seconds, images alone{count}"
    return f"seconds, batches of {min(record['setting']['batch'], record['setting']['n'])}{count}"


def _fewer(record: Sweep, row: Row, one: Contender) -> str:
    """A setting's passes, and what they are worth by the clock."""
    drafts = f", and {_value(row, 'draft_passes')} of the draft model" if "draft_passes" in row["metrics"] else ""
    paces = [(found, what) for what in CLOCKS if (found := pace(record, row, what)) is not None]
    times = "; ".join(f"{where(what)} {found.words(' times as fast')}" for found, what in paces)
    return (
        f"{one.speedup:.3g} times fewer, at least {one.slowest:.3g} ({_value(row, 'lockstep-64')} in lock-step of 64)"
        f"{drafts}{f'; by the clock {times}' if times else ''}"
    )


def _taken(choice: Choice, timing: Timing) -> str:
    """What a clock says to take: its best setting, or plain decoding where that is faster."""
    if timing.one is None or timing.pace is None:
        return PLAIN
    if choice.by == "speed-up":
        return timing.one.id if timing.confirmed else "none is confirmed"
    return timing.one.id if timing.pace.value > 1 else PLAIN


def _clocked(choice: Choice, timing: Timing) -> str:
    """How fast the best by a clock is, and what of that is confirmed."""
    if timing.one is None or timing.pace is None:
        return "none that was timed is confirmed to lose so little"
    limit = UNKNOWN if timing.slowest is None else f"{timing.slowest:.3g}"
    words, name = timing.pace.words(" times as fast"), timing.one.id.partition("/")[2]
    if choice.by == "speed-up":
        return f"{words}, at least {limit}" if timing.confirmed else f"the fastest is {name}, {words}, at least {limit}"
    if timing.pace.value <= 1:
        return f"none of {timing.among} within the loss is faster: the fastest is {name}, {words}"
    doubt = "" if timing.confirmed else ": not confirmed to be faster"
    return f"{words}, at least {limit}{doubt} (the fastest of {timing.among} within the loss)"


def show(record: Sweep, choices: Sequence[Choice], choice: Choice, console: Console) -> None:
    """One answer: the setting with its speed and loss, the lossless one beside it, and what each clock says."""
    rows = {row["id"]: row for row in record["rows"]}
    console.print()
    console.print(Text(f"{choice.question}, at guidance {choice.guidance:g}:"))
    one = choice.chosen or choice.nearest
    assert one is not None  # there are settings, or there would be no choice
    if choice.chosen is None:
        console.print(Text(f"no setting is confirmed on {choice.images:,} images; {_more(one)}"))
    console.print(Text(one.id, style="bold" if choice.chosen else ""))
    console.print(_figures(record, rows[one.id], one, choice))
    if choice.free is not None and choice.free is not one:
        console.print(Text(f"{FREE}: {choice.free.id}"))
        console.print(_figures(record, rows[choice.free.id], choice.free, choice))
    elif choice.free is one and not by_rule(rows[one.id], choice.metric, one.loss):
        console.print(Text("it claims to be lossless: what loss it shows is noise if it is"))
    for what in CLOCKS:
        timing = by_clock(record, choices, choice, what)
        if any(row[what] for row in record["rows"]):
            cost = _cost(record, rows[one.id if timing.one is None else timing.one.id], what)
            console.print(Text(f"by {cost}: "), end="")
            console.print(Text(_taken(choice, timing), style="bold"))
            console.print(Text(f"  {_clocked(choice, timing)}"))
    console.print(_others(record, choice, one))
    said = "within (what was asked for) and best (of those within): shares of bootstrap replicates"
    console.print(Text(said, style="dim"))


def _figures(record: Sweep, row: Row, one: Contender, choice: Choice) -> Table:
    metrics = row["metrics"]
    drafts, target = metrics.get("draft_passes"), metrics["passes"]["value"] if "passes" in metrics else None
    added = "no draft model" if drafts is None else f"and {_measured(drafts)} of the draft model"
    together = [
        f"{_measured(metrics[name])} at batch {size}" for size in (8, 64) if (name := f"lockstep-{size}") in metrics
    ]
    paces = [(found, what) for what in CLOCKS if (found := pace(record, row, what)) is not None]
    times = [f"{where(what)} {found.words(' times as fast as AR')}" for found, what in paces]
    z = UNKNOWN if row["z"] is None else f"{row['z']:+.1f}"
    table = Table.grid(padding=(0, 1, 0, 0))
    for words in (
        ("  passes", f"{one.speedup:.3g} times fewer (at least {one.slowest:.3g}), rows replaced as they finish"),
        ("", f"{number(target, 3)} of the target an image; {added}"),
        ("  lock-step", ", ".join(together) or UNKNOWN),
        ("  seconds", "; ".join(times) or UNKNOWN),
        ("  loss", f"of {_metric(choice)}: {lost(row, choice.metric, one)}"),
        ("", f"z of surprisal {z}; FD above AR {tables.distances(record, row)[1]}"),
    ):
        table.add_row(*map(Text, words))
    return table


def _metric(choice: Choice) -> str:
    return f"fd above AR's, both at n = {choice.images:,}" if choice.metric == "fd" else choice.metric


def _more(one: Contender) -> str:
    if one.needed is None:
        return "the nearest does not seem to be within what was asked for, on any number of images:"
    return f"the nearest would be by some {one.needed:,} images of each (--n), if its figures are what they seem:"


def _others(record: Sweep, choice: Choice, first: Contender) -> Table:
    rows = {row["id"]: row for row in record["rows"]}
    table = Table(box=None, pad_edge=False, collapse_padding=True)
    for name in ("setting", "speed-up", "low", "loss", "high", "within", "best"):
        table.add_column(name, justify="left" if name == "setting" else "right", overflow="fold")
    for one in [first, *choice.others[:SHOWN]]:
        of_rule = by_rule(rows[one.id], choice.metric, one.loss)
        losses = ("by rule", UNKNOWN) if of_rule else (plain(one.loss), plain(one.most))
        numbers = (plain(one.speedup), plain(one.slowest), *losses, f"{one.satisfies:.0%}", f"{one.best:.0%}")
        table.add_row(Text(one.id.partition("/")[2]), *numbers)
    return table


def _measured(metric: Metric) -> str:
    return number(metric["value"], 3) + interval(metric["interval"], 3)


def _value(row: Row, name: str) -> str:
    return f"{row['metrics'][name]['value']:.3g}" if name in row["metrics"] else UNKNOWN
