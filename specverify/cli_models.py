"""The commands `sample` and `bench`: decoders on any image model that `open_model` opens."""

from __future__ import annotations

import json
import shlex
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from specverify import files
from specverify.cli_opening import Compile, Conditions, Dtype, DtypeOption, Processors, read_condition
from specverify.cli_study import Device
from specverify.errors import InputError, number_of

if TYPE_CHECKING:
    from realmodels.images import ImageModel
    from specverify.decoders.judging import Judging
    from specverify.model import Model as CoreModel


WINDOW = 16
SAMPLE = "specverify-sample"
"""What a record of `sample` says that it is."""


Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL", help="A model or a fetched id of specverify list models, or a checkpoint's folder."
    ),
]
Guidance = Annotated[float | None, typer.Option(help="Classifier-free guidance; 1 is none.", show_default="1")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace files that are not of this command.")]
DeviceOption = Annotated[Device, typer.Option(help="Where the model runs.")]
DraftOption = Annotated[str | None, typer.Option(metavar="MODEL", help="A second model, for decoders that need one.")]
Rule = Annotated[
    str | None, typer.Option(metavar="NAME[=VALUE]", help="A relaxed rule instead of the exact one: gsd-static=12.")
]
Seed = Annotated[int, typer.Option(min=0, help="All randomness derives from it.")]


def sample(
    model: Model,
    decoder: Annotated[str, typer.Option(help="One of specverify list decoders, or FILE.py:OBJECT.")] = "scd-mc",
    window: Annotated[int | None, typer.Option(help="Drafts per forward pass.", show_default="16")] = None,
    n: Annotated[int, typer.Option("--n", min=1, help="Images.")] = 20,
    out: Annotated[
        Path, typer.Option(help="The picture; the record, with the tokens, goes beside it as .json, or alone.")
    ] = Path("grid.png"),
    columns: Annotated[int, typer.Option(min=1, help="Images in a row of the picture.")] = 10,
    condition: Conditions = None,
    guidance: Annotated[
        float | None,
        typer.Option(help="Classifier-free guidance; 1 is none.", show_default="what the model's makers recommend"),
    ] = None,
    processors: Processors = "",
    rule: Rule = None,
    draft: DraftOption = None,
    batch: Annotated[int, typer.Option(min=1, help="Images decoded together.")] = 20,
    seed: Seed = 0,
    dtype: DtypeOption = Dtype.float32,
    device: DeviceOption = Device.cpu,
    compile: Compile = False,
    overwrite: Overwrite = False,
) -> None:
    """Decode images with a decoder, and write them as one picture, with a record of what they cost."""
    files.check_writable(out.parent)
    if out.suffix.lower() not in (".png", ".json"):
        raise InputError(f"--out {out} is neither a .png, for a picture and a record, nor a .json, for a record alone")
    picture, record_at = out.suffix.lower() == ".png", out.with_suffix(".json")
    written = [out, record_at] if picture else [record_at]
    if not overwrite:
        files.check_own(SAMPLE, record_at, *written)
    from specverify.decoders.registry import Settings
    from specverify.subjects.named import named, running

    drafting = named(decoder).needs_draft_model  # an unknown name, before the seconds that loading takes
    opened, second = _opened(model, draft, condition, guidance, processors, dtype, device, compile)
    if guidance is None:
        opened = opened.like(guidance=opened.description.guidance)
    if not named(decoder).ids:
        raise InputError(f"decoder {decoder!r} is one of vectors, and {model} has ids; choose another")
    if drafting and second is None:
        raise InputError(f"decoder {decoder!r} drafts with a second model; name one with --draft")
    window = min(WINDOW, opened.length) if window is None else window
    if not 1 <= window <= opened.length:
        raise InputError(f"window {window} of {model}: choose 1 to {opened.length}, the tokens of an image")
    import torch

    from realmodels import images, pictures
    from specverify import bench_answer, fetched
    from specverify.bench import Counted
    from specverify.decoders.run import Run
    from specverify.decoders.run import sample as decoded

    if picture:  # what lacks for a picture is said at once
        try:
            opened.render(torch.zeros(1, opened.length, dtype=torch.int64, device=opened.device))
        except InputError as error:
            raise InputError(f"{error}; or write tokens alone, with --out {record_at}") from None
    settings = Settings(window, draft_model=second, judging=_judging(rule, opened, decoder))
    begun, parts, calls, slowest = time.perf_counter(), [], 0, 0
    with running(decoder):
        for number, first in enumerate(range(0, n, batch)):
            beside = None if second is None else images.turned(second, first)
            made = named(decoder).build(replace(settings, draft_model=beside))
            asked = Counted(images.turned(opened, first))
            parts.append(decoded(made, asked, min(batch, n - first), seed, batch, number))
            calls, slowest = calls + asked.calls, slowest + int(parts[-1].passes.max())
    run = Run.joined(parts)
    seconds = time.perf_counter() - begun
    if picture:
        pixels = torch.cat([opened.render(part).float().cpu() for part in run.tokens.split(batch)])
        files.write_atomically(out, pictures.png(pictures.sheet(pixels, min(columns, n))))
    passes = float(run.passes.double().mean())
    record = {
        "schema": SAMPLE,
        "version": 1,
        "command": _command(),
        "model": opened.name,
        "checkpoint": fetched.digest(model) or None,
        "decoder": decoder,
        "rule": rule,
        "guidance": opened.guidance,
        "processors": processors,
        "dtype": dtype.value,
        "window": window if named(decoder).drafts else None,
        "claim": str(getattr(made, "claim", "none is stated")),
        "seed": seed,
        "conditions": [str(opened.conditions[i % len(opened.conditions)]) for i in range(n)],
        "passes": run.passes.tolist(),
        "draft_passes": run.draft_passes.tolist(),
        "verified": run.verified.tolist(),
        "accepted": run.accepted.tolist(),
        "seconds": seconds,
        "tokens": run.tokens.tolist(),
    }
    files.write_atomically(record_at, (json.dumps(record) + "\n").encode())
    besides = ", which compiling is part of" if compile else ""
    kept = f", {run.acceptance_rate:.0%} of drafts accepted" if bool(run.verified.any()) else ""
    if second is not None and bool(run.draft_passes.any()):
        kept += f", {float(run.draft_passes.double().mean()):.1f} passes of {second.name} beside"
    typer.echo(
        f"{number_of(n, 'image')} of {opened.name} by {decoder}{f' with {rule}' if rule else ''}: "
        f"{passes:.1f} forward passes an image for "
        f"{number_of(opened.length, 'token')}, {opened.length / passes:.2f} tokens a pass{kept}; {seconds:.1f} "
        f"s{besides}"
    )
    if calls > slowest:
        typer.echo(bench_answer.miscounted(decoder, calls, slowest))
    typer.echo("\n".join(map(str, written)))


def bench(
    model: Model,
    decoder: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,...", help="Or FILE.py:OBJECT; plain decoding is there.", show_default="sjd,scd-mc,scd-gs"
        ),
    ] = None,
    window: Annotated[
        str | None, typer.Option(metavar="SIZE,...", help="Drafts per forward pass.", show_default="4,8,16,32")
    ] = None,
    batch: Annotated[int, typer.Option(help="Images decoded together.")] = 8,
    rounds: Annotated[int, typer.Option(help="Batches of each decoder, behind one that is not counted.")] = 3,
    out: Annotated[Path | None, typer.Option(help="The record.", show_default="out/bench-MODEL.json")] = None,
    condition: Conditions = None,
    guidance: Guidance = None,
    processors: Processors = "",
    rule: Rule = None,
    draft: DraftOption = None,
    seed: Seed = 0,
    dtype: DtypeOption = Dtype.float32,
    device: DeviceOption = Device.cpu,
    compile: Compile = False,
    overwrite: Overwrite = False,
) -> None:
    """Measure passes and seconds of decoders beside plain decoding, and say what bounds them."""
    path = out or Path("out") / f"bench-{Path(model).name}.json"
    files.check_writable(path.parent)
    if not overwrite:
        files.check_own("specverify-bench", path, path)
    windows = None if window is None else _sizes(window)
    from specverify.subjects.named import named

    names = None if decoder is None else [name for name in (part.strip() for part in decoder.split(",")) if name]
    for name in names or ():
        named(name)
    opened, second = _opened(model, draft, condition, guidance, processors, dtype, device, compile)
    from rich.console import Console

    from specverify import bench as benches
    from specverify import bench_answer, fetched
    from specverify.bench_shape import Bench, keep

    usual = (*benches.USUAL, *(("sd",) if second is not None else ()))
    judging = _judging(rule, opened, *(usual if names is None else names))
    if windows is None:
        windows = [size for size in benches.WINDOWS if size <= opened.length] or [opened.length]
    asked = benches.Asked(usual if names is None else names, windows, batch, rounds, seed, judging, compile)
    record = benches.measure(opened, asked, second, _command())
    if weights := fetched.digest(model):
        record["checkpoint"] = weights
    keep(record, Bench, path)
    bench_answer.show(record, Console(highlight=False))
    typer.echo(str(path))


def _opened(
    model: str,
    draft: str | None,
    conditions: list[str] | None,
    guidance: float | None,
    processors: str,
    dtype: Dtype,
    device: Device,
    compiled: bool,
) -> tuple[ImageModel, Any]:
    """The model, and the one that drafts for it if there is any."""
    import torch

    from realmodels.models import open_model
    from specverify.environment import check_device

    check_device(device.value)
    given = None if conditions is None else [read_condition(text) for text in conditions]
    where: dict[str, Any] = {"dtype": getattr(torch, dtype.value), "device": device.value, "conditions": given}
    second: CoreModel | None = None if draft is None else open_model(draft, **where)
    opened = open_model(model, guidance=guidance, processors=processors, compiled=compiled, **where)
    second = opened.draft() if second is None else second
    if second is not None and (second.vocab, second.length) != (opened.vocab, opened.length):
        raise InputError(
            f"{second.name} cannot draft for {opened.name}: it has {second.length} tokens of {second.vocab}, and that "
            f"{opened.length} of {opened.vocab}"
        )
    return opened, second


def _judging(rule: str | None, model: ImageModel, *decoders: str) -> Judging | None:
    """A rule by name; rules that need clusters take 12 of them, or as many as the value says."""
    if rule is None:
        return None
    from specverify.rules import registry
    from specverify.rules.clusters import partition_from_embedding
    from specverify.subjects.named import named

    if not any(named(name).takes_judging for name in decoders):
        raise InputError(f"--rule {rule} does not go with {', '.join(decoders)}; rules go with sd, sjd and scd-*")
    name, _, text = rule.partition("=")
    try:
        value = float(text) if text else None
    except ValueError:
        raise InputError(f"--rule {rule}: {text!r} is not a number; write --rule {name}=VALUE") from None
    known = registry.rule(name)
    embedding = model.embedding()
    if "partition" not in known.needs:
        return known.build(value, registry.Context(embedding))
    clusters, value = (value, None) if known.parameter is None else (None, value)
    partition = partition_from_embedding(embedding, int(clusters or 12))
    return known.build(value, registry.Context(embedding, partition))


def _sizes(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"window {text!r} is not a list of numbers; write --window 4,8,16") from None


def _command() -> str:
    return shlex.join(["specverify", *sys.argv[1:]])
