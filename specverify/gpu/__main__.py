"""`python -m specverify.gpu`: measure what a GPU is needed for, part by part, from a checkout, installed or not.

A part that is done is skipped, so that any hour on any GPU adds to the record. Behind the last, and with --report
alone, a page is written from what there is.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
import sys
import tomllib
from pathlib import Path
from typing import Annotated

import typer

from specverify.gpu.parts import ROOT

app = typer.Typer(add_completion=False)


@app.command(context_settings={"help_option_names": ["-h", "--help"]})
def main(
    part: Annotated[list[str] | None, typer.Argument(metavar="[PART]...", help="All by default.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the files of all parts, and of the page.", show_default="out/gpu")
    ] = None,
    seconds: Annotated[float | None, typer.Option(help="Of all of it, about.", show_default="no limit")] = None,
    images: Annotated[Path | None, typer.Option(help="Colour images, for the part that trains.")] = None,
    small: Annotated[bool, typer.Option("--small", help="Try every part on the CPU, in tiny sizes.")] = False,
    report: Annotated[bool, typer.Option("--report", help="Only write the page, and reports with pictures.")] = False,
) -> None:
    """Measure what a GPU is needed for. The same command continues."""
    if lacking := missing():
        typer.echo(f"error: this needs packages that are not installed; pip install {' '.join(lacking)}", err=True)
        raise typer.Exit(2)
    import torch

    from specverify.errors import INTERRUPTED, InputError
    from specverify.gpu import page
    from specverify.gpu.carry import carry_out
    from specverify.gpu.parts import parts

    out = out or Path("out") / ("gpu-small" if small else "gpu")
    if not (small or report or torch.cuda.is_available()):
        typer.echo("no CUDA device: nothing was measured. --small tries every part on the CPU, in tiny sizes")
        return
    try:
        known = parts("cpu" if small else "cuda", small, images)
        if part and (unknown := [name for name in part if name not in {one.name for one in known}]):
            raise InputError(f"unknown part {unknown[0]!r}; there are {', '.join(one.name for one in known)}")
        chosen = [one for one in known if not part or one.name in part]
        whole = report or carry_out(chosen, out, "cpu" if small else "cuda", seconds, typer.echo)
        typer.echo(str(page.write(out, {one.name: one.title for one in known}, report)))
    except InputError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        typer.echo(f"interrupted: what was done is kept in {out}; the same command continues", err=True)
        raise typer.Exit(INTERRUPTED) from None
    raise typer.Exit(0 if whole else 1)


def missing() -> list[str]:
    """What the checkout needs and is not installed, as pip names it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    asked = [*project["dependencies"], *extras["transformers"], *extras["real"], "pytest"]
    return [
        need
        for need in asked
        if not need.startswith("specverify") and not _there(re.split(r"[^A-Za-z0-9_.-]", need)[0])
    ]


def _there(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


if __name__ == "__main__":
    sys.exit(app())
