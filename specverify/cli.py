"""The command line: verify and show. The other commands are in `cli_NAME.py`.

Exit codes: 0 every claim holds, 1 one is refuted, 2 nothing can be said, 3 an error, 130 interrupted.
"""

from __future__ import annotations

import atexit
import gc
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NoReturn

import typer

import specverify
from specverify import (
    cli_calibrate,
    cli_compare,
    cli_defects,
    cli_errors,
    cli_fetch,
    cli_list,
    cli_logs,
    cli_models,
    cli_study,
    cli_tradeoff,
    cli_validate,
    deadline,
    files,
)
from specverify.cli_opening import (
    Batch,
    Compile,
    Conditions,
    Dtype,
    DtypeOption,
    Guidance,
    Processors,
    asked_real,
)
from specverify.cli_study import Device, Engine, EngineOption, Jobs, Limit, Overwrite, Scheduler, Shard, Tier
from specverify.errors import ERROR, INTERRUPTED, InputError, SpecverifyError, Unfinished, printable
from specverify.memory import keep_freed
from specverify.opening import Real

app = typer.Typer(
    help="Verify speculative decoders of autoregressive image models.",
    epilog="Exit codes: 0 every claim holds, 1 one is refuted, 2 nothing can be said, 3 an error, 130 interrupted.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> bool:
    if wanted:
        typer.echo(f"specverify {specverify.__version__}")
        raise typer.Exit
    return wanted


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version and stop.")
    ] = False,
) -> None:
    pass


@app.command()
def verify(
    tier: Annotated[Tier, typer.Option(help="quick for every change, full for a release.")] = Tier.quick,
    seed: Annotated[int, typer.Option(help="All randomness derives from it; at least 0.")] = 0,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for the record and the report.",
            show_default="out/verify-TIER-seedSEED; with --only, another --device or model, one of its own beside it",
        ),
    ] = None,
    only: Annotated[
        str | None, typer.Option(metavar="PATTERN", help="Only the cells whose id matches this shell pattern.")
    ] = None,
    jobs: Jobs = None,
    device: Annotated[Device, typer.Option(help="Where real models run.")] = Device.cpu,
    overwrite: Overwrite = False,
    shard: Shard = None,
    engine: EngineOption = Engine.processes,
    scheduler: Scheduler = None,
    limit: Limit = deadline.LIMIT,
    real: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="The real model: a trained or fetched one of specverify list models, or a checkpoint's folder.",
            show_default="digits-s",
        ),
    ] = None,
    condition: Conditions = None,
    processors: Processors = "",
    dtype: DtypeOption = Dtype.float32,
    guidance: Guidance = None,
    batch: Batch = None,
    compile: Compile = False,
) -> None:
    """Check every decoder, write record.json, the report and junit.xml, and exit with the verdict's code.

    Results are kept as they come: the same command given again continues an interrupted run, and shows a finished one.
    """
    from rich.console import Console

    from specverify.report import record as records

    asked = asked_real(real, condition, dtype, processors, compile, guidance, batch)
    folder = out or default_out(tier.value, seed, only, device.value, asked)
    files.check_writable(folder)  # before the seconds that it takes to load the rest

    from specverify.plan import plan

    plan(tier.value, only, asked)  # likewise: a pattern that no cell matches

    from specverify import campaign
    from specverify.report import page, terminal

    console = Console(highlight=False)
    try:
        with cli_study.workers(engine, scheduler, jobs) as workers:
            found = campaign.verify(
                tier=tier.value,
                seed=seed,
                out=folder,
                only=only,
                jobs=workers,
                device=device.value,
                overwrite=overwrite,
                console=console,
                shard=shard,
                limit=limit,
                real=asked,
            )
    except KeyboardInterrupt:
        cli_study.interrupted(folder, records.NAME)
    console.print(terminal.summary(found))
    _say_where(folder / records.NAME, folder / page.HTML, folder / page.MARKDOWN)
    raise typer.Exit(found["verdict"]["exit_code"])


def default_out(tier: str, seed: int, only: str | None = None, device: str = "cpu", real: Real | None = None) -> Path:
    """Where a campaign goes unless told otherwise."""
    return cli_study.default_out(f"verify-{tier}" + (f"-{real.folder}" if real else ""), seed, only, device)


@app.command()
def show(
    record: Annotated[
        Path, typer.Argument(metavar="RECORD", help="A record of verify or tradeoff, or the folder that holds one.")
    ],
    out: Annotated[Path | None, typer.Option(help="Folder for the report.", show_default="the record's")] = None,
) -> None:
    """Write the report of a record anew, and print its summary. Nothing is checked again; exits with 0."""
    from rich.console import Console

    from specverify.report import record as records
    from specverify.report import render, terminal

    folder = out or (record if record.is_dir() else record.parent)
    if cli_compare.kind(record) == "tradeoff":
        cli_tradeoff.show(record, folder)
        return
    found = records.load(record)
    files.check_writable(folder)
    written = render.write(found, folder)
    console = Console(highlight=False)
    console.print(terminal.summary(found))
    _say_where(written.html, written.markdown)


app.command()(cli_compare.compare)
app.command()(cli_logs.compare_logs)
app.command("list")(cli_list.list_names)
app.command()(cli_validate.validate)
app.command()(cli_validate.replay)
app.command()(cli_defects.plan)
app.command()(cli_defects.defects)
app.command()(cli_calibrate.calibrate)
app.command()(cli_tradeoff.tradeoff)
app.command()(cli_models.sample)
app.command()(cli_models.bench)
app.command()(cli_fetch.fetch)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line. Whatever goes wrong becomes one line; SPECVERIFY_DEBUG=1 shows the traceback."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _interrupt)  # `timeout`, or a container that is stopped: the same as Ctrl-C
    keep_freed()
    try:
        given = list(sys.argv[1:] if arguments is None else arguments)
        known = getattr(typer.main.get_command(app), "commands", {})
        if wrong := cli_errors.empty(given) or cli_errors.twice(known.get(given[0] if given else ""), given):
            raise InputError(wrong)
        code = app(given or ["--help"], prog_name="specverify", standalone_mode=False) or 0
    except SystemExit:
        code = ERROR  # typer's, with 1, where nobody reads the output any more: 1 is the code of a refutation
    except KeyboardInterrupt:
        typer.echo("interrupted", err=True)
        code = INTERRUPTED
    except Unfinished as part:
        typer.echo(str(part), err=True)
        code = 0
    except Exception as error:
        if os.environ.get("SPECVERIFY_DEBUG") == "1":
            raise
        code = ERROR
        if isinstance(error, SpecverifyError):
            _complain(str(error))
        elif hasattr(error, "format_message"):  # how typer says that the arguments make no sense
            _complain(cli_errors.said(error))
        elif isinstance(error, typer.Abort):
            typer.echo("interrupted", err=True)
            code = INTERRUPTED
        else:
            _complain(f"unexpected {type(error).__name__}: {error} (SPECVERIFY_DEBUG=1 shows the traceback)")
    sys.exit(code)


def command() -> NoReturn:
    """The command line of a process of its own, which is over at once where it was interrupted.

    Threads that torch has running would end it by a signal where Python cleans up. Nor does Python look for objects
    that hold each other among all modules as it ends, which takes a second.
    """
    atexit.register(gc.freeze)
    sys.stdout = cli_errors.Unread(sys.stdout)
    try:
        main()
    except SystemExit as end:
        sys.stdout.flush()
        if end.code == INTERRUPTED:
            sys.stderr.flush()
            os._exit(INTERRUPTED)
        raise


def _say_where(*paths: Path) -> None:
    for path in paths:
        typer.echo(str(path))


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def _complain(message: str) -> None:
    typer.echo(f"error: {printable(' '.join(message.split()))}", err=True)


if __name__ == "__main__":
    command()
