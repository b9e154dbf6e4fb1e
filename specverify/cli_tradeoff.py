"""The command `tradeoff`: what do decoders buy, what do they pay, and which setting is the one to take?"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from specverify.tradeoff.choose import Choice

Number = TypeVar("Number", int, float)
NONE_SATISFIES, ERROR, INTERRUPTED = 1, 3, 130
_SHOWN = 5


class Device(StrEnum):
    """Where the model runs."""

    cpu = "cpu"
    cuda = "cuda"


def tradeoff(
    model: Annotated[
        str, typer.Option(help="The trained model: digits-s, or one of patches, digits-gmm or digits-diff.")
    ] = "digits-s",
    rules: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,...", help="Of digits-s: relaxed rules; the exact one is always there.", show_default="all"
        ),
    ] = None,
    drafting: Annotated[
        str | None,
        typer.Option(metavar="NAME,...", help="Of digits-s: how drafts are redrawn.", show_default="all three"),
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
            help="Drafts per forward pass; of models of patches, several.",
            show_default="16; patches: 2, 4 and 8",
        ),
    ] = None,
    guidance: Annotated[
        str | None,
        typer.Option(metavar="SCALE,...", help="Classifier-free guidance.", show_default="1.5; patches: 1"),
    ] = None,
    seed: Annotated[int, typer.Option(help="All randomness derives from it; at least 0.")] = 0,
    batch: Annotated[int, typer.Option(help="Images decoded together.")] = 250,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for the record and the report.", show_default="out/tradeoff-MODEL-seedSEED"),
    ] = None,
    jobs: Annotated[int | None, typer.Option(help="Processes, at least 1.", show_default="one per core")] = None,
    device: Annotated[Device, typer.Option(help="Where the model runs.")] = Device.cpu,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Forget what the folder holds.")] = False,
    only: Annotated[
        str | None, typer.Option(metavar="PATTERN", help="Only settings whose id matches this shell pattern.")
    ] = None,
    max_loss: Annotated[float | None, typer.Option(help="Name the fastest setting that loses at most this.")] = None,
    min_speedup: Annotated[
        float | None, typer.Option(help="Name the setting that loses least at this speed-up or more.")
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(
            help="What counts as loss: bias (total variation per token, of digits-s), surprisal, pit, or what is lost "
            "against AR in fd, accuracy, precision, recall, density, coverage.",
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
    folder = out or sweep.default_out(model, seed)
    sizes = _numbers("window", window, int, "16, or 2,4,8 for a model of patches")
    patches = sweep.is_of_patches(model)
    alone = sizes is not None and len(sizes) == 1 and not patches
    asked = Asked(
        _words(rules),
        _words(drafting),
        _words(decoders),
        None if alone else sizes,
        _numbers("guidance", guidance, float, "1.5, or 1,1.5,2"),
        only,
    )
    shared = None if patches else sizes[0] if sizes else Setting.window
    try:
        found = sweep.measure(
            Setting(model, n, shared, seed, batch, device.value), folder, asked, jobs, overwrite, console
        )
    except KeyboardInterrupt:
        kept = folder / records.NAME
        where = f"the partial record is {kept}" if kept.exists() else f"nothing was finished in {folder}"
        typer.echo(f"interrupted: {where}; the same command continues", err=True)
        raise typer.Exit(INTERRUPTED) from None
    failed = [row for row in found["rows"] if row["error"] is not None]
    for row in failed:
        typer.echo(f"error: {row['id']}: {row['error']}", err=True)
    for name in (records.NAME, "report.html", "report.md"):
        typer.echo(str(folder / name))
    choices: list[Choice] = []
    if max_loss is not None:
        choices = choose.fastest(found, max_loss, metric)
    if min_speedup is not None:
        choices = choose.least_lossy(found, min_speedup, metric)
    for choice in choices:
        _show(choice, console)
    unanswered = any(choice.chosen is None for choice in choices)
    raise typer.Exit(ERROR if failed else NONE_SATISFIES if unanswered else 0)


def _show(choice: Choice, console: Console) -> None:
    from rich.table import Table
    from rich.text import Text

    console.print()
    console.print(Text(f"{choice.question}, at guidance {choice.guidance:g}:"))
    if choice.chosen is None:
        nearest = choice.nearest
        assert nearest is not None  # there are settings, or there would be no choice
        console.print(
            Text(
                f"none of the settings satisfies. The nearest is {nearest.id}: speed-up {nearest.speedup:.3g} "
                f"(at least {nearest.slowest:.3g}), loss {nearest.loss:.3g} (at most {nearest.most:.3g}), limits at 95%"
            )
        )
    else:
        console.print(Text(choice.chosen.id, style="bold"))
    table = Table(box=None, pad_edge=False, collapse_padding=True)
    for name in ("setting", "speed-up", "low", "loss", "high", "within", "best"):
        table.add_column(name, justify="left" if name == "setting" else "right", overflow="fold")
    first: list[Any] = [one for one in (choice.chosen, choice.nearest) if one is not None]
    for one in [*first, *choice.others[:_SHOWN]]:
        numbers = (one.speedup, one.slowest, one.loss, one.most)
        shown = (f"{value:.3g}" if abs(value) >= 5e-7 else "0" for value in numbers)
        table.add_row(Text(one.id.partition("/")[2]), *shown, f"{one.satisfies:.0%}", f"{one.best:.0%}")
    console.print(table)
    if choice.free is not None and choice.free is not choice.chosen:
        console.print(
            Text(f"the fastest that claims to be lossless: {choice.free.id}, {choice.free.speedup:.3g} times")
        )
    console.print(
        Text(
            "low and high: one-sided 95% limits; within (the limit asked for) and best (of those within): shares of "
            "bootstrap replicates",
            style="dim",
        )
    )


def _words(text: str | None) -> list[str] | None:
    return None if text is None else [word for word in (part.strip() for part in text.split(",")) if word]


def _numbers(what: str, text: str | None, kind: Callable[[str], Number], example: str) -> list[Number] | None:
    from specverify.errors import InputError

    try:
        return None if text is None else [kind(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"{what} {text!r} is not a list of numbers; write --{what} {example}") from None
