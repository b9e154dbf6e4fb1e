"""The command that measures whether the checkers keep the rates that they state."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from specverify import cli_study, deadline
from specverify.cli_study import Engine, EngineOption, Jobs, Limit, Overwrite, Scheduler, Shard

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from specverify.report.shape_testers import Rates as Row


def calibrate(
    seed: Annotated[int, typer.Option(help="All randomness derives from it; at least 0.")] = 0,
    out: Annotated[
        Path | None, typer.Option(help="Folder of calibration.json.", show_default="out/calibrate-seedSEED")
    ] = None,
    jobs: Jobs = None,
    only: Annotated[
        str | None, typer.Option(metavar="PATTERN", help="Only the trials CHECK/WHAT/ON/RATE that match.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A tenth of the repetitions, and short trials alone.")] = False,
    report: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Add the rows to the record and the report in this folder.")
    ] = None,
    overwrite: Overwrite = False,
    shard: Shard = None,
    engine: EngineOption = Engine.processes,
    scheduler: Scheduler = None,
    limit: Limit = deadline.LIMIT,
) -> None:
    """Measure false alarms, misses and p-values of every checker against what it states.

    Rows are kept as they come: an interrupted run continues when the same command is given again. Exits with 0 if all
    stated rates hold, else 1.
    """
    from rich.console import Console

    from specverify import calibration
    from specverify.errors import InputError
    from specverify.report import parts

    setting = calibration.Setting(seed, quick)
    if report is not None and only is not None:
        raise InputError("a report takes a whole calibration; leave out --only, or --report")
    if report is not None and not (report / "record.json").is_file():
        raise InputError(f"there is no record in {report}; `specverify verify --out {report}` makes one")
    folder = out or cli_study.default_out("calibrate-quick" if quick else "calibrate", seed)
    console = Console(highlight=False)
    try:
        with cli_study.workers(engine, scheduler, jobs) as workers:
            rows = calibration.run(
                setting,
                folder,
                only=only,
                jobs=workers,
                overwrite=overwrite,
                shard=shard,
                console=console,
                limit=limit,
            )
    except KeyboardInterrupt:
        cli_study.interrupted(folder, calibration.NAME, "the rows so far are in")
    _show(rows, setting.level, console)
    typer.echo(str(folder / calibration.NAME))
    if report is not None:
        written = parts.add(report, "calibration", {"seed": seed, "rows": rows})
        typer.echo(str(written.html))
    raise typer.Exit(0 if all(row["holds"] for row in rows) else 1)


def _show(rows: list[Row], level: float, console: Console) -> None:
    """What was measured, check by check; what does not hold, last and in red."""
    from rich.text import Text

    from specverify.report.listing import listing

    for check in dict.fromkeys(row["check"] for row in rows):
        here = [row for row in rows if row["check"] == check]
        console.print(Text(check, style="bold"))
        console.print(
            listing(
                [(row["what"], _rate(row), f"{row['stated']:g}", _on(row)) for row in here],
                ("what", "measured", "stated", "on"),
            )
        )
        console.print()
    wrong = [row for row in rows if not row["holds"]]
    for row in wrong:
        text = f"{row['check']}, {row['what']}, {row['on']}: {_counted(row)}, where {row['stated']:g} is stated"
        console.print(Text(f"does not hold: {text} (p = {row['p_value']:.2g})", style="bold red"))
    trials = sum(row["trials"] for row in rows)
    console.print(
        f"{len(rows) - len(wrong)} of {len(rows)} stated rates hold, over {trials:,} trials; "
        f"one does not where so many events have probability below {level:.2g}"
    )


def _counted(row: Row) -> str:
    low, high = row["interval"]
    return f"{row['events']:,} of {row['trials']:,}, 99% interval {low:.2g} to {high:.2g}"


def _rate(row: Row) -> Text:
    from rich.text import Text

    low, high = row["interval"]
    rate = f"{row['events'] / row['trials']:.3g} ({low:.2g} to {high:.2g})"
    return Text(rate if row["holds"] else f"! {rate}", style="" if row["holds"] else "bold red")


def _on(row: Row) -> str:
    figures = [f"n {row['n']:,}", f"{row['trials']:,} trials"]
    figures += [] if row["delta"] is None else [f"delta {row['delta']:.3g}"]
    return f"{row['on']}; {', '.join(figures)}"
