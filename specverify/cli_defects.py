"""The commands that question the checkers: plan (what would they see?) and defects (do they see what is known?)."""

from __future__ import annotations

import contextlib
import json
from contextlib import AbstractContextManager
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from specverify import cli_study
from specverify.cli_study import Engine, EngineOption, Jobs, Overwrite, Scheduler, Shard, Tier
from specverify.errors import number_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from specverify.killmatrix import Known
    from specverify.planner import Need, Planned
    from specverify.report.shape_testers import Trial as Row


_ABREAST = 4
"""Most checkers whose outcomes stand side by side on a terminal."""


class Where(StrEnum):
    """Where a defect lives."""

    decoder = "decoder"
    round = "round"
    sampler = "sampler"
    continuous = "continuous"


def plan(
    delta: Annotated[float, typer.Option(help="The discrepancy to be seen: total variation, above 0, at most 1.")],
    alpha: Annotated[float, typer.Option(help="Probability that any check raises a false alarm.")] = 1e-6,
    beta: Annotated[float, typer.Option(help="Probability that a check misses a discrepancy of delta.")] = 1e-6,
    tier: Annotated[Tier, typer.Option(help="Whose toys.")] = Tier.quick,
    toy: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Plan for this toy; may be repeated.", show_default="tier's"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the plan as JSON.")] = False,
) -> None:
    """How many samples a discrepancy takes to be seen, on which toys, how long here, and what remains unseen.

    Draws small samples to measure this machine; exits with 0.
    """
    from rich.console import Console

    from specverify import planner

    console = Console(highlight=False)
    with _waiting("measuring"):
        planned = planner.make_plan(delta, alpha, beta, tier=tier.value, toys=toy or None)
    if as_json:
        typer.echo(json.dumps(planned.to_json(), indent=1, allow_nan=False))
    else:
        _show_plan(planned, console)


def defects(
    level: Annotated[Where | None, typer.Option(help="Only those that live there.", show_default="all")] = None,
    only: Annotated[
        str | None, typer.Option(metavar="PATTERN", help="Only those whose id matches this shell pattern.")
    ] = None,
    run: Annotated[bool, typer.Option("--run", help="Run the checkers on them.")] = False,
    file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the list, or the rows.")] = None,
    seed: Annotated[int, typer.Option(help="Of every judgement; at least 0.")] = 0,
    delta: Annotated[float, typer.Option(help="What the statistics must be able to see.")] = 0.02,
    seconds: Annotated[float, typer.Option(help="What one judgement may take.")] = 60.0,
    jobs: Jobs = None,
    report: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Add the rows to the record and report there; with --run.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the rows.", show_default="out/defects-seedSEED; with other limits, one of its own beside it"
        ),
    ] = None,
    overwrite: Overwrite = False,
    shard: Shard = None,
    engine: EngineOption = Engine.processes,
    scheduler: Scheduler = None,
) -> None:
    """List the known-wrong subjects and the controls; with --run, every checker against each of them.

    With --run exits with 0 if every defect is caught by the checkers that it names and no control is flagged, else 1.
    Rows are kept as they come: an interrupted run continues when the same command is given again.
    """
    from rich.console import Console

    from specverify import killmatrix
    from specverify.errors import InputError
    from specverify.report import parts, testers
    from specverify.report import record as records

    console = Console(highlight=False)
    if report is not None:
        if not run:
            raise InputError("--report takes the rows of --run; give both")
        records.load(report / records.NAME)  # a record that cannot be added to is said before the work
    known = killmatrix.corpus(level and level.value, only)
    if not run:
        if out is not None or overwrite or shard is not None:
            raise InputError("--out, --overwrite and --shard are about the rows of --run; give it too")
        if file is not None:
            _write(file, [asdict(one) for one in known])
        _show_corpus(known, console)
        return
    setting = killmatrix.Setting(seed, delta, seconds, 2 * seconds + 10)
    if file is not None:
        _write(file, [])  # a place that cannot be written to is said before the work
    usual = killmatrix.Setting()
    other = [f"-delta{delta:g}"] * (delta != usual.delta) + [f"-seconds{seconds:g}"] * (seconds != usual.seconds)
    folder = out or cli_study.default_out("".join(["defects", *other]), seed)
    try:
        with cli_study.workers(engine, scheduler, jobs) as workers:
            rows = killmatrix.run(
                killmatrix.matrix(known),
                setting,
                folder,
                jobs=workers,
                overwrite=overwrite,
                shard=shard,
                console=console,
            )
    except KeyboardInterrupt:
        if file is not None and (folder / killmatrix.NAME).exists():
            _write(file, json.loads((folder / killmatrix.NAME).read_text())["rows"])
        cli_study.interrupted(folder, killmatrix.NAME, "the rows so far are in")
    if file is not None:
        _write(file, rows)
    _show_matrix(rows, console)
    if report is not None:
        part = {"seed": seed, "delta": delta, "level": level and level.value, "only": only, "rows": rows}
        written = parts.add(report, "kill_matrix", part)
        typer.echo(f"\n{written.html}\n{written.markdown}")
    raise typer.Exit(0 if testers.passed(rows) else 1)


def _waiting(what: str) -> AbstractContextManager[Any]:
    """A spinner, on a terminal only."""
    from rich.console import Console

    console = Console(stderr=True, highlight=False)
    return console.status(what) if console.is_terminal else contextlib.nullcontext()


def _write(path: Path, rows: Any) -> None:
    from specverify.errors import InputError

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(rows, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot write to {path}: {error.strerror}; choose another file with --json") from error


def _show_plan(planned: Planned, console: Console) -> None:
    from rich.padding import Padding
    from rich.text import Text

    from specverify.report.listing import listing

    def line(text: str) -> None:
        console.print(Padding(Text(text), (0, 0, 0, 4), expand=False))

    console.print(
        f"to see delta = {planned.delta:g} with alpha = {planned.alpha:g} in all and beta = {planned.beta:g} per check"
    )
    for speed in planned.speeds:
        needs = [need for need in planned.needs if need.toy == speed.toy]
        console.print()
        console.print(Text(speed.toy, style="bold"))
        line(
            f"{speed.rate:,.0f} sequences/s: {speed.sequences:,} in {speed.seconds:.2f} s by {speed.decoder}, "
            f"window {speed.window}"
        )
        rows: list[tuple[str | Text, ...]] = [_need(need) for need in needs]
        console.print(listing(rows, ("check", "delta is", "n", "sequences", "time"), drop=("sequences",)))
        draws = planned.draws(speed.toy)
        if draws is not None:
            line(f"{draws:,} sequences for those with *: {_duration(draws / speed.rate)}")
    if planned.kernels:
        console.print()
        console.print(Text("a verification kernel", style="bold"))
        rows = [
            (one.check, str(one.laws), one.metric, f"{one.delta:.2g}", f"{one.n:,} {one.unit}")
            for one in planned.kernels
        ]
        console.print(listing(rows, ("check", "apart", "delta is", "delta", "n"), drop=("apart",)))
    console.print()
    console.print(Text("time", style="bold"))
    line(
        "at least one check with * has no n"
        if planned.seconds is None
        else f"{_duration(planned.seconds)} for one decoder in one process, for the checks with *, which a pass rests "
        "on; the others only watch"
    )
    console.print()
    console.print(Text("not seen", style="bold"))
    blind: dict[str, list[str]] = {}
    for need in planned.needs:
        if need.blind:
            blind.setdefault(need.blind, []).append(f"{need.check} ({need.toy})")
        if need.why:
            line(f"{need.check} ({need.toy}): {need.why}")
    for text, checks in blind.items():
        line(f"by {', '.join(checks)}: {text}")
    for text in planned.unseen:
        line(text)


def _need(need: Need) -> tuple[str, ...]:
    stops = "" if need.expected is None else f" ({need.expected:,.0f} on average)"
    return (
        need.check + (" *" if need.asked else ""),
        need.metric,
        "none" if need.n is None else f"{need.n:,} {need.unit}{stops}",
        "" if need.sequences is None else f"{need.sequences:,}",
        "" if need.seconds is None else _duration(need.seconds),
    )


def _duration(seconds: float) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"


def _show_corpus(known: Sequence[Known], console: Console) -> None:
    from rich.padding import Padding
    from rich.text import Text

    for one in known:
        console.print(Text.assemble((one.id, "bold"), f" ({one.level}, {one.category})"))
        lines = [one.mechanism, f"shows with: {one.conditions}", f"from: {one.source}"]
        lines += [f"caught by: {one.check or ', '.join(one.named)}"] if one.lossy else []
        console.print(Padding(Text("\n".join(lines)), (0, 0, 1, 4), expand=False))
    lossy = sum(one.lossy for one in known)
    console.print(
        f"{number_of(lossy, 'defect')} and {number_of(len(known) - lossy, 'control')}; --run tries the checkers on them"
    )


def _show_matrix(rows: Sequence[Row], console: Console) -> None:
    from rich.text import Text

    from specverify.report.listing import listing
    from specverify.report.testers import passed, sound

    for level in dict.fromkeys(row["level"] for row in rows):
        here = [row for row in rows if row["level"] == level]
        checkers = tuple(dict.fromkeys(row["checker"] for row in here))
        by_defect: dict[str, dict[str, Row]] = {}
        for row in here:
            by_defect.setdefault(row["defect"], {})[row["checker"]] = row
        console.print(Text(level, style="bold"))
        lines: list[tuple[str | Text, ...]]
        if len(checkers) <= _ABREAST:
            headings: tuple[str, ...] = ("defect", *checkers)
            lines = [(name, *(_outcome(found[checker]) for checker in checkers)) for name, found in by_defect.items()]
        else:
            headings, lines = ("defect", "checker", "outcome"), []
            for name, found in by_defect.items():
                first = (name, *[""] * (len(checkers) - 1))
                lines += [(*pair, _outcome(found[pair[1]])) for pair in zip(first, checkers, strict=True)]
        console.print(listing(lines, headings))
        console.print()
    wrong = [row for row in rows if not sound(row)]
    for row in wrong:
        console.print(Text(f"{row['defect']}: {row['outcome']} by {row['checker']}: {row['reason']}", style="red"))
    named = [row for row in rows if row["lossy"] and row["named"]]
    caught = sum(row["outcome"] == "caught" for row in named)
    free = [row for row in rows if not row["lossy"] and row["outcome"] != "not applicable"]
    flagged = sum(row["outcome"] == "flagged" for row in free)
    console.print(
        f"{caught} of {len(named)} caught by a checker that they name; {flagged} of {len(free)} trials of controls "
        f"flagged; {'as it should be' if passed(rows) else 'not as it should be'}"
    )


def _outcome(row: Row) -> Any:
    from rich.text import Text

    from specverify.report.testers import sound

    figures = [] if row["tv"] is None else [f"TV {row['tv']:.2g}"]
    figures += [] if row["n"] is None else [f"n {row['n']:,}"]
    figures += [f"{row['seconds']:.1f} s"] if row["outcome"] != "not applicable" else []
    mark = "" if sound(row) else "! "
    text = mark + row["outcome"] + (f": {', '.join(figures)}" if figures else "")
    return Text(text, style="" if sound(row) else "bold red")
