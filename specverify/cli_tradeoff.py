"""The command `tradeoff`: what do decoders buy, what do they pay, and which setting is the one to take?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from specverify import cli_study, deadline, fetched, files
from specverify.cli_opening import Compile, Conditions, Dtype, DtypeOption, Processors, conditions, numbers, scales
from specverify.cli_study import Device, Engine, EngineOption, Jobs, Limit, Overwrite, Scheduler, Shard
from specverify.errors import ERROR

if TYPE_CHECKING:
    from rich.console import Console

    from specverify.tradeoff.shape import Sweep

NONE_SATISFIES = 1


def tradeoff(
    model: Annotated[
        str, typer.Option(help="A trained or fetched model of specverify list models, or a checkpoint's folder.")
    ] = "digits-s",
    rules: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,...",
            help="Of models of ids: relaxed rules; the exact one is always there.",
            show_default="all",
        ),
    ] = None,
    drafting: Annotated[
        str | None,
        typer.Option(metavar="NAME,...", help="Of models of ids: how drafts are redrawn.", show_default="all three"),
    ] = None,
    decoders: Annotated[
        str | None,
        typer.Option(metavar="NAME,...", help="Of models of patches: decoders.", show_default="all that go with it"),
    ] = None,
    n: Annotated[int, typer.Option("--n", help="Images of each setting.")] = 1000,
    window: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE,...",
            help="Drafts per forward pass; several are compared.",
            show_default="16; patches: 2, 4 and 8",
        ),
    ] = None,
    guidance: Annotated[
        str | None,
        typer.Option(metavar="SCALE,...", help="Classifier-free guidance.", show_default="1.5; patches: 1"),
    ] = None,
    condition: Conditions = None,
    processors: Processors = "",
    seed: Annotated[int, typer.Option(help="All randomness derives from it; at least 0.")] = 0,
    batch: Annotated[int, typer.Option(help="Images decoded together.")] = 250,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for the record and the report.", show_default="out/tradeoff-MODEL-seedSEED"),
    ] = None,
    jobs: Jobs = None,
    device: Annotated[Device, typer.Option(help="Where the model runs.")] = Device.cpu,
    dtype: DtypeOption = Dtype.float32,
    compile: Compile = False,
    overwrite: Overwrite = False,
    shard: Shard = None,
    engine: EngineOption = Engine.processes,
    scheduler: Scheduler = None,
    limit: Limit = deadline.LIMIT,
    only: Annotated[
        str | None, typer.Option(metavar="PATTERN", help="Only settings whose id matches this shell pattern.")
    ] = None,
    max_loss: Annotated[
        float | None,
        typer.Option(help="Name the fewest passes that lose at most this; bias 0.02 or fd 0.25 if unasked."),
    ] = None,
    min_speedup: Annotated[
        float | None, typer.Option(help="Name the setting that loses least at this speed-up or more.")
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(
            help="What counts as loss: bias (total variation per token, of models of ids), surprisal, pit, or what is "
            "lost against AR in fd, kd, accuracy, precision, recall, density, coverage.",
            show_default="bias; patches: fd",
        ),
    ] = None,
) -> None:
    """Measure speed and quality of decoders, with the price per token where it is known; name the setting to take.

    Rows are kept as they come: the same command continues, and answers from what is there. Exits with 0; with 1 if a
    setting was asked for and none satisfies; with 3 if a setting could not be measured.
    """
    from rich.console import Console

    from specverify.errors import InputError
    from specverify.tradeoff import choose, sweep
    from specverify.tradeoff import record as records
    from specverify.tradeoff.plan import Asked
    from specverify.tradeoff.setting import Setting

    if max_loss is not None and min_speedup is not None:
        raise InputError("--max-loss and --min-speedup ask different questions; give one of them")
    choose.check(metric, model, 0.0 if max_loss is None else max_loss, 1.0 if min_speedup is None else min_speedup)
    console = Console(highlight=False)
    folder = out or cli_study.default_out(f"tradeoff-{Path(model).name}", seed)
    given = conditions(condition)
    sizes = numbers("window", window, int, "16, or 2,4,8 for a model of patches")
    patches = sweep.is_of_patches(model)
    alone = sizes is not None and len(sizes) == 1 and not patches
    asked = Asked(
        _words(rules),
        _words(drafting),
        _words(decoders),
        None if alone else sizes,
        scales(guidance, "1.5, or 1,1.5,2"),
        only,
    )
    shared = None if patches or (sizes and not alone) else sizes[0] if sizes else Setting.window
    try:
        with cli_study.workers(engine, scheduler, jobs) as workers:
            opened = fetched.pinned(model)
            setting = Setting(
                opened,
                n,
                shared,
                seed,
                batch,
                device.value,
                dtype=dtype.value,
                conditions=given,
                processors=processors,
                compiled=compile,
            )
            found = sweep.measure(setting, folder, asked, workers, overwrite, console, shard, limit)
    except KeyboardInterrupt:
        cli_study.interrupted(folder, records.NAME)
    failed = [row for row in found["rows"] if row["error"] is not None]
    for row in failed:
        typer.echo(f"error: {row['id']}: {row['error']}", err=True)
    for name in (records.NAME, "report.html", "report.md"):
        typer.echo(str(folder / name))
    asked_for = max_loss is not None or min_speedup is not None
    unanswered = _answer(found, max_loss, min_speedup, metric, console) and asked_for
    raise typer.Exit(ERROR if failed else NONE_SATISFIES if unanswered else 0)


def show(path: Path, folder: Path) -> None:
    """Write the report of a sweep's record anew into a folder, and print its usual answer."""
    from rich.console import Console

    from specverify.tradeoff import record as records
    from specverify.tradeoff import report

    found = records.load(path)
    files.check_writable(folder)
    written = report.write(found, folder)
    _answer(found, None, None, None, Console(highlight=False))
    for made in (written.html, written.markdown):
        typer.echo(str(made))


def _answer(
    record: Sweep, max_loss: float | None, min_speedup: float | None, metric: str | None, console: Console
) -> bool:
    """Print the answers, to the usual question if none was asked, and the frontier; whether one has no setting."""
    from specverify.errors import InputError
    from specverify.tradeoff import answer, answer_frontier, choose

    if record["status"] == "partial":
        planned, there = record["planned"], len(record["rows"])
        typer.echo(f"partial: {there} of {planned} settings; those that are missing may be the ones to take")
    try:
        if min_speedup is not None:
            choices = choose.least_lossy(record, min_speedup, metric)
        elif max_loss is not None:
            choices = choose.fastest(record, max_loss, metric)
        else:
            choices = answer.usual(record, metric)
    except InputError as error:
        if max_loss is not None or min_speedup is not None:
            raise
        typer.echo(str(error))
        choices = []
    for choice in choices:
        answer.show(record, choices, choice, console)
    answer_frontier.show(record, choices, console)
    if max_loss is None and min_speedup is None:
        typer.echo("no limit was asked for: --max-loss and --min-speedup (with --metric) ask other questions")
    return any(choice.chosen is None for choice in choices)


def _words(text: str | None) -> list[str] | None:
    return None if text is None else [word for word in (part.strip() for part in text.split(",")) if word]
