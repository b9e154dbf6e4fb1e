"""The command `fetch`: a published checkpoint, checked, so that commands open it by its id."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from specverify import fetched
from specverify.errors import InputError, printable

if TYPE_CHECKING:
    from realmodels.fetch import Plan


def fetch(
    id: Annotated[str, typer.Argument(metavar="ID", help="Of a repository on the Hugging Face Hub, as ORG/NAME.")],
    revision: Annotated[
        str | None, typer.Option(help="A branch, a tag or a commit.", show_default="the newest commit")
    ] = None,
    to: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Where it goes.", show_default="a cache, from which its id opens it"),
    ] = None,
    settings: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="An image-model.json, which LlamaGen and causal need, and others may have."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Fetch a published checkpoint: what an adapter reads of it, no code. After a break the same command goes on."""
    from realmodels import fetch as work

    plan = work.plan(id, revision, to, settings)
    typer.echo(printable(_summary(plan)))
    if plan.done:
        typer.echo("all of it is there, and was checked again")
        return
    plan.check_room()
    if not yes:
        if not (sys.stdin.isatty() and sys.stdout.isatty()):
            raise InputError("nothing was downloaded, since this is no terminal to ask on; say --yes")
        if not typer.confirm("Download it?"):
            typer.echo("nothing was downloaded")
            return
    try:
        checkpoint = work.carry_out(plan)
    except KeyboardInterrupt:
        typer.echo("what is there is kept, and the same command goes on", err=True)
        raise
    name = checkpoint.id if to is None else str(plan.folder)
    typer.echo(f"{plan.folder}\nit opens as {name}: specverify sample {name} --condition ...")


def _summary(plan: Plan) -> str:
    """What would be downloaded, a line for each thing to know."""
    repository, choice = plan.repository, plan.choice
    revision = "" if repository.revision in (None, repository.commit) else f" ({repository.revision})"
    there = f", of which {size(plan.there)} are there" if plan.there else ""
    lines = {
        "checkpoint": repository.id + (" (gated)" if repository.gated else ""),
        "commit": repository.commit + revision,
        "licence": repository.licence,
        "adapter": choice.adapter + (f", of the folder {choice.inside}" if choice.inside else ""),
        "files": f"{len(choice.files)}, {size(plan.size)}{there}",
        "goes to": str(plan.folder),
        "free": size(plan.free),
    }
    if choice.pickled:
        lines["note"] = f"{', '.join(choice.pickled)}: no safetensors; read as tensors alone, never unpickled"
    return "\n".join(f"{key:<12}{value}" for key, value in lines.items())


def lines() -> list[tuple[str, str]]:
    """Names of the checkpoints that were fetched, and a line on each."""
    return [
        (one.name, f"{one.adapter}, {size(one.size)}, licence {one.licence}" if whole else f"unfinished; {one.remedy}")
        for one, whole in fetched.everyone()
    ]


def size(bytes_: int) -> str:
    """A number of bytes, in words."""
    for unit, name in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if bytes_ >= unit:
            return f"{bytes_ / unit:.1f} {name}"
    return f"{bytes_} bytes"
