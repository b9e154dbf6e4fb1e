"""The command that holds two records beside each other: compare."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from specverify.catalogue import near
from specverify.errors import InputError, number_of

if TYPE_CHECKING:
    from specverify.compare import Change

SWEEPS, CAMPAIGNS = ("tradeoff.json", "tradeoff.json.gz"), ("record.json", "record.json.gz")
RECORDS = (*SWEEPS, *CAMPAIGNS)
SHOWN = 40
"""Changes of each kind that a terminal shows."""
HEAD = 4096
"""Characters of a file that tell what it is a record of."""


def compare(
    old: Annotated[Path, typer.Argument(metavar="OLD", help="A record of verify or tradeoff, or its folder.")],
    new: Annotated[Path, typer.Argument(metavar="NEW", help="Another of the same kind.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the changes as JSON.")] = False,
) -> None:
    """Say what changed between two records, and exit with 1 where something got worse: a gate for adopting a decoder.

    Verdicts, exact laws, forward passes and quality, each beyond its noise; seconds are told where they differ by
    half, and fail nothing, since they are the machine's as well.
    """
    from specverify import compare as changed

    changes = _changes(old, new)
    worse = any(change.sign == "worse" for change in changes)
    if as_json:
        typer.echo(json.dumps({"regression": worse, "changes": changed.to_json(changes)}, indent=1))
    else:
        _print(changes, changed.told(changes))
    raise typer.Exit(int(worse))


def _changes(old: Path, new: Path) -> list[Change]:
    from specverify import compare as changed
    from specverify.report import record as records
    from specverify.tradeoff import record as sweeps

    kinds = [kind(path) for path in (old, new)]
    if kinds[0] != kinds[1]:
        raise InputError(f"{old} is a record of {kinds[0]} and {new} one of {kinds[1]}; compare two of one kind")
    if kinds[0] == "tradeoff":
        return changed.sweeps(sweeps.load(old), sweeps.load(new))
    return changed.campaigns(records.load(old), records.load(new))


def kind(path: Path) -> str:
    """Which command made the record that lies there.

    Raises:
        InputError: none lies there; with what was looked for, the nearest that there are, and what makes one.
    """
    if path.is_file():
        return _of_file(path)
    for name in RECORDS:
        if (path / name).is_file():
            return "tradeoff" if name in SWEEPS else "verify"
    from specverify.study import CELLS

    if cells := len([*path.glob(f"{CELLS}/*.json")]):
        raise InputError(
            f"there is no record at {path} yet: {number_of(cells, 'cell')} of it, of a command that is not done; the "
            "same command again goes on, and the last of its shards makes the record"
        )
    there = sorted({str(file.parent) for name in RECORDS for file in _beside(path, name)})
    close = near(str(path), there, "records near it are in") if there else "and there is none in out/ either"
    raise InputError(
        f"there is no record at {path}: neither a file, nor a folder with {CAMPAIGNS[0]} or {SWEEPS[0]}, or one of "
        f"them .gz; {close}; `specverify verify --out {path}` makes one, `specverify tradeoff --out {path}` one of a "
        "sweep"
    )


def _of_file(path: Path) -> str:
    """By what it says itself; what says nothing is left to the loader, which has an error for it."""
    opened = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rt", encoding="utf-8") as file:
            found = re.search(r'"schema":\s*"specverify-(\w+)"', file.read(HEAD))
    except (OSError, EOFError, UnicodeDecodeError):
        found = None
    if found is None:
        return "tradeoff" if path.name in SWEEPS else "verify"
    command = {"tradeoff": "tradeoff", "record": "verify"}.get(found[1])
    if command is None:
        raise InputError(f"{path} is a record of {found[1]}, which is of one run; give one of verify or of tradeoff")
    return command


def _beside(path: Path, name: str) -> list[Path]:
    """Records in the folder, beside it, and where they go unless told otherwise."""
    folders = (path, path.parent, Path("out"))
    return [file for folder in folders if folder.is_dir() for file in (*folder.glob(name), *folder.glob(f"*/{name}"))]


def _print(changes: list[Change], sentence: str) -> None:
    from rich.console import Console
    from rich.text import Text

    from specverify.report.listing import listing

    console = Console(highlight=False)
    for sign, title in (("worse", "worse"), ("better", "better"), ("other", "changed otherwise")):
        found = [change for change in changes if change.sign == sign]
        if found:
            rows = [(c.where, c.what, c.old, c.new) for c in found[:SHOWN]]
            console.print(listing(rows, (title, "what", "old", "new")), Text(""))
        if len(found) > SHOWN:
            console.print(f"... and {len(found) - SHOWN} more; --json has all\n")
    console.print(sentence)
