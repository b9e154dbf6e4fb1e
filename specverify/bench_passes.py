"""What forward passes cost by window, batch and guidance, and what memory they take, without decoding an image.

    python -m specverify.bench_passes random:janus-pro-1b --device cuda --dtype bfloat16 --guidance 1,5

Speed-up is step compression over what a window costs; this is the second of them. A decoder's own seconds, which
`specverify bench` measures, come on top.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import torch
import typer
from pydantic import Field
from typing_extensions import TypedDict

from specverify import environment
from specverify.bench import Clock, pass_costs
from specverify.bench_shape import Pass, keep
from specverify.errors import InputError
from specverify.report.shape_cells import Size, Text, closed

if TYPE_CHECKING:
    from realmodels.images import ImageModel

WINDOWS = (1, 2, 4, 8, 16, 32, 64, 128)
BATCHES = (1, 8, 32)


@closed
class Row(TypedDict):
    """One batch and guidance."""

    batch: Size
    guidance: float
    passes: Annotated[list[Pass], Field(description="that of plain decoding first")]
    memory: Annotated[float | None, Field(ge=0, description="most bytes allocated on the device; null on a CPU")]
    fits: Annotated[bool, Field(description="false where the device holds too little, so that nothing was measured")]


@closed
class Record(TypedDict):
    """What the passes of a model cost."""

    schema: Literal["specverify-passes"]
    version: Literal[1]
    created: Text
    model: Text
    vocab: Size
    length: Size
    dtype: Text
    compiled: Annotated[bool, Field(description="whether passes were compiled, or recorded, to the end")]
    device: Text
    accelerator: str | None
    threads: Size
    clock: Annotated[Literal["processor", "wall", "device"], Field(description="what milliseconds are")]
    software: dict[str, Text]
    rows: list[Row]


def measure(
    model: ImageModel, batches: Sequence[int], windows: Sequence[int], guidance: Sequence[float], compiled: bool
) -> Record:
    """Every batch with every guidance.

    Raises:
        InputError: for a batch below 1, or a window that is no part of an image.
    """
    if wrong := [size for size in batches if size < 1]:
        raise InputError(f"batch {wrong[0]}; it must be at least 1")
    if wrong := [size for size in windows if not 1 <= size <= model.length]:
        raise InputError(f"window {wrong[0]} of {model.name}: choose 1 to {model.length}, the tokens of an image")
    device, clock, rows = str(model.device), Clock(model.device), []
    for scale in guidance:
        guided = model.like(guidance=scale)
        for batch in batches:
            passes: list[Pass] = []
            _forget(device)
            try:
                passes = pass_costs(guided, windows, batch, clock)
            except torch.OutOfMemoryError:
                torch.cuda.empty_cache()
            memory = float(torch.cuda.max_memory_allocated()) if model.device.type == "cuda" else None
            rows.append(Row(batch=batch, guidance=scale, passes=passes, memory=memory, fits=bool(passes)))
    return {
        "schema": "specverify-passes",
        "version": 1,
        "created": environment.now(),
        "model": model.name,
        "vocab": model.vocab,
        "length": model.length,
        "dtype": str(getattr(model, "precision", model.dtype)).removeprefix("torch."),
        "compiled": compiled and not getattr(getattr(model, "network", None), "failed", ""),
        "device": device,
        "accelerator": environment.accelerator(device),
        "threads": torch.get_num_threads(),
        "clock": clock.kind,
        "software": environment.software(),
        "rows": rows,
    }


def _forget(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


app = typer.Typer(add_completion=False)


@app.command()
def main(
    model: Annotated[str, typer.Argument(help="What specverify bench takes, such as random:janus-pro-1b.")],
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    dtype: Annotated[str, typer.Option(help="Of the weights.")] = "float32",
    batch: Annotated[str, typer.Option(help="Several with commas.")] = ",".join(map(str, BATCHES)),
    window: Annotated[str, typer.Option(help="Drafts of a pass, several with commas.")] = ",".join(map(str, WINDOWS)),
    guidance: Annotated[str, typer.Option(help="Several with commas.")] = "1",
    compile: Annotated[bool, typer.Option("--compile", help="Compile passes with torch.")] = False,
    out: Annotated[Path, typer.Option(help="The record.")] = Path("out/passes.json"),
) -> None:
    """Measure what passes cost, and write it down."""
    from realmodels.models import open_model

    try:
        environment.check_device(device)
        batches, windows = (_numbers(what, text) for what, text in (("batch", batch), ("window", window)))
        scales = [_scale(text) for text in guidance.split(",")]
        if not isinstance(kind := getattr(torch, dtype, None), torch.dtype):
            raise InputError(f"dtype {dtype!r} is none of torch; use float32, bfloat16 or float16")
        opened = open_model(model, dtype=kind, device=device, compiled=compile)
        found = measure(opened, batches, windows, scales, compile)
        keep(found, Record, out)
    except InputError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None
    for row in found["rows"]:
        costs = ", ".join(f"{one['window']}: {one['milliseconds']:.3g}" for one in row["passes"]) or "does not fit"
        typer.echo(f"batch {row['batch']}, guidance {row['guidance']:g}, ms by drafts: {costs}")
    typer.echo(str(out))


def _numbers(what: str, text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"{what} {text!r} is not a list of numbers; write --{what} 1,8,32") from None


def _scale(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not 0 <= found < math.inf:
        raise InputError(f"guidance {text!r} is not a finite number of at least 0; 1 is the conditional law")
    return found


if __name__ == "__main__":
    app()
