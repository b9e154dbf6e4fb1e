"""The command line: verify, show, list. Others are in `cli_validate.py` and `cli_defects.py`.

Exit codes: 0 every claim holds, 1 one is refuted, 2 nothing can be said, 3 an error, 130 interrupted.
"""

from __future__ import annotations

import importlib
import inspect
import os
import pkgutil
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, NoReturn

import typer

import specverify
from specverify import cli_calibrate, cli_defects, cli_errors, cli_study, cli_tradeoff, cli_validate, files
from specverify.cli_study import Device, Jobs, Overwrite, Shard, Tier
from specverify.errors import ERROR, INTERRUPTED, SpecverifyError, Unfinished, printable

app = typer.Typer(
    help="Verify speculative decoders of autoregressive image models.",
    epilog="Exit codes: 0 every claim holds, 1 one is refuted, 2 nothing can be said, 3 an error, 130 interrupted.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class Kind(StrEnum):
    """What can be listed."""

    decoders = "decoders"
    models = "models"
    checks = "checks"
    drafts = "drafts"
    defects = "defects"
    cells = "cells"


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
            show_default="out/verify-TIER-seedSEED; with --only or another --device, one of its own beside it",
        ),
    ] = None,
    only: Annotated[
        str | None, typer.Option(metavar="PATTERN", help="Only the cells whose id matches this shell pattern.")
    ] = None,
    jobs: Jobs = None,
    device: Annotated[Device, typer.Option(help="Where real models run.")] = Device.cpu,
    overwrite: Overwrite = False,
    shard: Shard = None,
) -> None:
    """Check every decoder, write record.json, report.md and report.html, and exit with the verdict's code.

    Results are kept as they come: the same command given again continues an interrupted run, and shows a finished one.
    """
    from rich.console import Console

    from specverify.report import record as records

    folder = out or default_out(tier.value, seed, only, device.value)
    files.check_writable(folder)  # before the seconds that it takes to load the rest

    from specverify import campaign
    from specverify.report import render, terminal

    console = Console(highlight=False)
    try:
        found = campaign.verify(
            tier=tier.value,
            seed=seed,
            out=folder,
            only=only,
            jobs=jobs,
            device=device.value,
            overwrite=overwrite,
            console=console,
            shard=shard,
        )
    except KeyboardInterrupt:
        cli_study.interrupted(folder, records.NAME)
    console.print(terminal.summary(found))
    _say_where(folder / records.NAME, folder / render.HTML, folder / render.MARKDOWN)
    raise typer.Exit(found["verdict"]["exit_code"])


def default_out(tier: str, seed: int, only: str | None = None, device: str = "cpu") -> Path:
    """Where a campaign goes unless told otherwise."""
    return cli_study.default_out(f"verify-{tier}", seed, only, device)


@app.command()
def show(
    record: Annotated[Path, typer.Argument(metavar="RECORD", help="A record.json, or the folder that holds one.")],
    out: Annotated[Path | None, typer.Option(help="Folder for the report.", show_default="the record's")] = None,
) -> None:
    """Write the report of a record anew, and print its summary. Nothing is checked again; exits with 0."""
    from rich.console import Console

    from specverify.report import record as records
    from specverify.report import render, terminal

    found = records.load(record)
    folder = out or (record if record.is_dir() else record.parent)
    files.check_writable(folder)
    written = render.write(found, folder)
    console = Console(highlight=False)
    console.print(terminal.summary(found))
    _say_where(written.html, written.markdown)


@app.command("list")
def list_names(
    what: Annotated[Kind | None, typer.Argument(help="What to list.", show_default="all but cells")] = None,
    tier: Annotated[Tier, typer.Option(help="Whose cells to list.")] = Tier.quick,
) -> None:
    """List what can be named on the command line, and what a plan holds."""
    from rich.console import Console

    from specverify.report.listing import listing

    console = Console(highlight=False)
    if what is Kind.cells:
        plan = importlib.import_module("specverify.plan")
        for cell in plan.plan(tier.value):
            typer.echo(cell.id)
        return
    for kind in [what] if what else [k for k in Kind if k is not Kind.cells]:
        console.print(listing(list(_names(kind)), (kind.value, "")))
        if of_vectors := list(_continuous_names(kind)):
            console.print()
            console.print(listing(of_vectors, (f"{kind.value}, continuous tokens", "")))
        if what is None:
            console.print()


app.command()(cli_validate.validate)
app.command()(cli_validate.replay)
app.command()(cli_defects.plan)
app.command()(cli_defects.defects)
app.command()(cli_calibrate.calibrate)
app.command()(cli_tradeoff.tradeoff)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line. Whatever goes wrong becomes one line; SPECVERIFY_DEBUG=1 shows the traceback."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _interrupt)  # `timeout`, or a container that is stopped: the same as Ctrl-C
    try:
        given = list(sys.argv[1:] if arguments is None else arguments)
        code = app(given or ["--help"], prog_name="specverify", standalone_mode=False) or 0
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


def _names(kind: Kind) -> Iterator[tuple[str, str]]:
    """Names, and a line on each."""
    if kind is Kind.decoders:
        from specverify.decoders import registry
        from specverify.subjects import resolve

        yield from ((name, registry.entry(name).summary) for name in registry.names())
        yield from ((name, plugin.summary) for name, plugin in resolve.plugins().items())
    elif kind is Kind.models:
        from realmodels import digits
        from toymodels import catalogue

        yield from ((name, catalogue.describe(name)) for name in catalogue.names())
        yield from (
            (name, "handwritten digits, 8 by 8 pixels, by class; a trained transformer") for name in digits.names()
        )
    elif kind is Kind.drafts:
        from toymodels import drafts

        lines = (line.split(maxsplit=1) for line in (drafts.__doc__ or "").splitlines() if line.startswith("    "))
        summaries = dict(lines)
        yield from ((name, summaries.get(name, "")) for name in drafts.kinds())
    elif kind is Kind.defects:
        from specverify import defects

        for name in defects.names():
            defect = defects.get(name)
            yield name, f"{'' if defect.lossy else 'not a defect: '}{defect.mechanism}"
    else:
        yield from _checks()


def _continuous_names(kind: Kind) -> Iterator[tuple[str, str]]:
    """The same of what goes with continuous tokens."""
    if kind is Kind.decoders:
        from specverify.decoders.continuous import registry

        yield from ((name, registry.entry(name).summary) for name in registry.names())
    elif kind is Kind.models:
        from realmodels import continuous as trained
        from toymodels import continuous

        yield from ((name, continuous.describe(name)) for name in continuous.names())
        yield from (
            (name, "handwritten digits in patches, by class; a trained transformer") for name in trained.names()
        )
    elif kind is Kind.drafts:
        from toymodels import continuous_drafts

        lines = (line.split(maxsplit=1) for line in (continuous_drafts.__doc__ or "").splitlines())
        summaries = {first[0]: first[1] for first in lines if len(first) == 2}
        yield from ((name, summaries.get(name, "")) for name in continuous_drafts.kinds())
    elif kind is Kind.defects:
        from specverify.defects import continuous as defects

        for name in defects.names():
            defect = defects.get(name)
            yield name, f"{'not a defect: ' if defect.category == 'control' else ''}{defect.mechanism}"


def _checks() -> Iterator[tuple[str, str]]:
    """Every class of `specverify.evidence` that keeps to the protocol of a check."""
    evidence = importlib.import_module("specverify.evidence")
    for module in sorted(info.name for info in pkgutil.iter_modules(evidence.__path__)):
        found = importlib.import_module(f"specverify.evidence.{module}")
        for name, value in vars(found).items():
            own = inspect.isclass(value) and value.__module__ == found.__name__
            if own and all(hasattr(value, part) for part in ("check", "smallest_detectable", "sample_size")):
                yield f"{module}.{name}", (value.__doc__ or "").splitlines()[0]


def _say_where(*paths: Path) -> None:
    for path in paths:
        typer.echo(str(path))


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def _complain(message: str) -> None:
    typer.echo(f"error: {printable(' '.join(message.split()))}", err=True)


if __name__ == "__main__":
    main()
