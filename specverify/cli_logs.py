"""The command that holds two engines' logs against each other: compare-logs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

FLOOR = 0.06
"""As `subjects.two_logs.FLOOR`, which takes a second to import."""


def compare_logs(
    first: Annotated[
        Path, typer.Argument(metavar="A", help="A log: tokens; logprob, lengths, prompt. npz or safetensors.")
    ],
    second: Annotated[Path, typer.Argument(metavar="B", help="Another engine's, sampled with other seeds.")],
    seed: Annotated[int, typer.Option(help="Of the order of the rows, which is no evidence; at least 0.")] = 0,
    delta: Annotated[
        float | None,
        typer.Option(
            help="The total variation of a position's token that must be seen.", show_default="what the logs show"
        ),
    ] = None,
    floor: Annotated[
        float, typer.Option(help="Nats that log-probabilities of the same tokens may be apart, as bf16 makes them.")
    ] = FLOOR,
    as_json: Annotated[bool, typer.Option("--json", help="Print the judgement as JSON.")] = False,
) -> None:
    """Judge whether two engines, or one with and without speculation, have the same law; exits with the verdict's code.

    The same law as far as n shows, the same up to bf16 numerics, or not the same, with what is not.
    """
    import json

    from rich.console import Console

    from specverify.errors import InputError
    from specverify.report.judgement import show
    from specverify.subjects import two_logs, worker

    if seed < 0:
        raise InputError(f"seed {seed}: use an integer of at least 0")
    judgement = two_logs.compare_logs(first, second, seed=seed, delta=delta, floor=floor)
    if as_json:
        plain = worker.to_plain({**judgement.to_json(), "evidence": []})
        typer.echo(json.dumps({**plain, "evidence": judgement.to_json()["evidence"]}, indent=1, allow_nan=False))
    else:
        show(judgement, Console(highlight=False))
    raise typer.Exit(judgement.verdict.kind.exit_code)
