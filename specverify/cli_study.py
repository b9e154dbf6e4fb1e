"""What the commands that carry out a list of cells have in common: options, folders, and what Ctrl-C leaves."""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from specverify.errors import INTERRUPTED, InputError, number_of

if TYPE_CHECKING:
    from specverify.pool import Executor


class Tier(StrEnum):
    """How much is checked."""

    quick = "quick"
    full = "full"


class Device(StrEnum):
    """Where real models run."""

    cpu = "cpu"
    cuda = "cuda"


Jobs = Annotated[int | None, typer.Option(help="Processes, at least 1.", show_default="one per core")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Begin anew where the folder holds results.")]
Shard = Annotated[
    str | None,
    typer.Option(metavar="I/N", help="Only every N-th cell from the I-th; shards share a folder.", show_default="all"),
]


class Engine(StrEnum):
    """Where cells are carried out."""

    processes = "processes"
    loky = "loky"
    dask = "dask"


EngineOption = Annotated[Engine, typer.Option("--engine", help="Who carries out the cells.")]
Scheduler = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS",
        help="Of --engine dask, such as tcp://10.0.0.5:8786.",
        show_default="a cluster of this machine",
    ),
]
Limit = Annotated[
    float,
    typer.Option(help="Seconds of the processor after which a cell is stopped; of waiting, ten times as many."),
]


@contextlib.contextmanager
def workers(engine: Engine, scheduler: str | None, jobs: int | None) -> Iterator[int | Executor | None]:
    """What the cells are shared out to."""
    if engine is Engine.dask:
        from specverify.engine import dask

        with dask(scheduler, jobs) as found:
            yield found
        return
    if scheduler is not None:
        raise InputError(f"--scheduler {scheduler} is Dask's; give --engine dask too")
    if engine is Engine.loky:
        from specverify.engine import loky

        with loky(jobs) as executor:
            yield executor
        return
    yield jobs


def default_out(name: str, seed: int, only: str | None = None, device: str = "cpu") -> Path:
    """Where results go unless told otherwise: those of some cells, or on a device, have a folder of their own."""
    name = f"{name}-seed{seed}" + ("" if device == "cpu" else f"-{device}")
    if only is not None:
        words = re.sub(r"[^A-Za-z0-9=.]+", "-", only).strip("-.")[:60]
        name += f"-only-{words or 'cells'}-{hashlib.sha256(only.encode()).hexdigest()[:6]}"
    return Path("out") / name


def interrupted(folder: Path, record: str, what: str = "the partial record is") -> NoReturn:
    """Say what an interrupted command leaves, and end."""
    kept, cells = folder / record, len(list((folder / "cells").glob("*.json")))
    done = f"{number_of(cells, 'cell')} finished" if cells else "nothing was finished"
    where = f"{what} {kept}" if kept.exists() else f"{done} in {folder}"
    typer.echo(f"interrupted: {where}; the same command continues", err=True)
    raise typer.Exit(INTERRUPTED)
