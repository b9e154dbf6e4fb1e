"""The command `list`: what can be named, and what a plan holds."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from specverify import cli_fetch, declared
from specverify.cli_opening import Batch, Conditions, Dtype, DtypeOption, Guidance, Processors, asked_real
from specverify.cli_study import Tier
from specverify.errors import InputError
from specverify.subjects import resolve


class Kind(StrEnum):
    """What can be listed."""

    decoders = "decoders"
    models = "models"
    checks = "checks"
    drafts = "drafts"
    defects = "defects"
    cells = "cells"


def list_names(
    what: Annotated[Kind | None, typer.Argument(help="What to list.", show_default="all but cells")] = None,
    tier: Annotated[Tier, typer.Option(help="Whose cells to list.")] = Tier.quick,
    real: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL", help="Whose cells to list, as verify --real would run them.", show_default="digits-s"
        ),
    ] = None,
    condition: Conditions = None,
    processors: Processors = "",
    dtype: DtypeOption = Dtype.float32,
    guidance: Guidance = None,
    batch: Batch = None,
) -> None:
    """List what can be named on the command line, and what a plan holds."""
    if what is Kind.cells:
        from specverify.plan import plan

        asked = asked_real(real, condition, dtype, processors, guidance=guidance, batch=batch)
        for cell in plan(tier.value, real=asked):
            typer.echo(cell.id)
        return
    if asked_real(real, condition, dtype, processors, guidance=guidance, batch=batch) is not None:
        raise InputError(
            "--real, --condition and what goes with them say whose cells to list; write specverify list cells --real "
            "MODEL"
        )
    from rich.console import Console

    from specverify.report.listing import listing

    console = Console(highlight=False)
    for kind in [what] if what else [k for k in Kind if k is not Kind.cells]:
        of_ids, of_vectors = _lines(kind)
        console.print(listing(of_ids, (kind.value, "")))
        if of_vectors:
            console.print()
            console.print(listing(of_vectors, (f"{kind.value}, continuous tokens", "")))
        if kind is Kind.models and (fetched := cli_fetch.lines()):
            console.print()
            console.print(listing(fetched, ("models, fetched", "")))
        if kind is Kind.models and (others := declared.installed_models()):
            console.print()
            console.print(listing(others, ("models, of other packages", "")))
        if kind is Kind.models:
            console.print()
            console.print(listing(declared.sizes(), ("models of random weights, to be timed", "sizes of")))
        if what is None:
            console.print()


def _lines(kind: Kind) -> tuple[declared.Lines, declared.Lines]:
    """What there is for tokens that are ids, and for those that are vectors."""
    if kind is Kind.decoders:
        installed = [(name, plugin.summary) for name, plugin in resolve.plugins().items()]
        return [*declared.decoders(), *installed], declared.continuous_decoders()
    if kind is Kind.models:
        return declared.models(), declared.continuous_models()
    if kind is Kind.drafts:
        return declared.drafts(), declared.continuous_drafts()
    if kind is Kind.defects:
        return declared.defects(), declared.continuous_defects()
    return declared.checks(), []
