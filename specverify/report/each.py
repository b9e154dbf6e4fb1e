"""A section for each method of a report: what it claims, what was shown of it and how, and how to repeat that."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from specverify.errors import number_of
from specverify.report import tables_proofs
from specverify.report.methods import Found, anchor, found
from specverify.report.shape import Record
from specverify.report.shape_cells import Cell, EvidenceRow, NoNumber, exact_of
from specverify.report.tables import UNKNOWN, Table, cell_row, number, row, settings


@dataclass(frozen=True)
class Each:
    """What is said of a method.

    Attributes:
        name: its anchor.
        title: as people call it.
        kind: its verdict.
        facts: sentences, each under a heading of a few words.
        tables: its exact prices, checks, and where it goes wrong.
        commands: lines that repeat all of it.
    """

    name: str
    title: str
    kind: str
    facts: tuple[tuple[str, str], ...]
    tables: tuple[Table, ...]
    commands: tuple[str, ...]


def each(record: Record) -> list[Each]:
    """In the order of the first screen."""
    return [_each(record, one) for one in found(record)]


def _each(record: Record, one: Found) -> Each:
    name = anchor(one.method)
    refuted = [c for c in one.cells if c["expected"] is not None]
    tables = (_prices(name, one.cells), _checks(name, one.cells), _wrong(name, refuted))
    return Each(
        name,
        one.method.name,
        one.row.cells[2],
        tuple(_facts(record, one)),
        tuple(table for table in tables if table.rows),
        tuple(dict.fromkeys(_command(cell) for cell in one.cells)),
    )


def _facts(record: Record, one: Found) -> Iterator[tuple[str, str]]:
    if one.method.source:
        yield "Published", f"arXiv:{one.method.source}"
    names = dict.fromkeys([*one.method.rules] or [cell["decoder"] for cell in one.cells])
    yield "Called here", ", ".join(names)
    claims = dict.fromkeys(re.sub(r"[0-9.]+e?-?[0-9]*\)$", "...)", cell["claim"]) for cell in one.cells)
    yield "Claims", "; ".join(claims)
    for verdict in record["verdicts"]:
        if verdict["decoder"] in one.method.decoders:
            yield f"{verdict['decoder']}: {verdict['kind']}", verdict["reason"]
    if one.method.rules and (proved := tables_proofs.said(one.cells)):
        yield "For every law", proved
    if exact := [cell for cell in one.cells if cell["kind"] == "exact" and cell["exact"] is not None]:
        yield "Exact law", _exact(exact)
    if one.row.cells[4] != UNKNOWN:
        passes, drafts, alone, batch = one.row.cells[4:]
        yield (
            "Cost on a real model",
            f"{passes} times fewer forward passes than plain decoding (in brackets: in a batch of 64 that waits for "
            f"its slowest image), {drafts} passes of a draft model; by the clock {alone} times as fast for one image, "
            f"{batch} times in a batch",
        )


def _exact(cells: Sequence[Cell]) -> str:
    laws = [exact_of(cell) for cell in cells]
    said = f"total variation from the target at most {number(max(law['tv'] for law in laws), 2)}"
    said += f" on {number_of(len({cell['model'] for cell in cells}), 'toy')} in {number_of(len(cells), 'setting')}"
    if rates := [law["acceptance_rate"] for law in laws if law["acceptance_rate"] is not None]:
        said += f"; acceptance rate {_range(rates)}"
    return f"{said}; {number_of(sum(law['worlds'] for law in laws), 'world')}"


def _prices(name: str, cells: Sequence[Cell]) -> Table:
    """What each relaxed rule of a method costs on each toy, over all its settings there."""
    groups: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells:
        if cell["kind"] == "relaxed" and cell["settings"]["rule"] != "token" and cell["exact"] is not None:
            groups.setdefault((cell["settings"]["rule"], cell["model"]), []).append(cell)
    rows = []
    for (rule, toy), mine in groups.items():
        laws = [exact_of(cell) for cell in mine]
        values = [cell["settings"]["value"] for cell in mine if cell["settings"]["value"] is not None]
        costs = [_range([law[key] for law in laws]) for key in ("tv", "passes")]
        rows.append(row([rule, toy, _range(values), number(len(mine)), *costs]))
    columns = ("rule", "toy", "values#", "settings#", "exact TV#", "passes#")
    return Table(f"{name}-price", "What it costs, exactly", "", columns, tuple(rows))


def _checks(name: str, cells: Sequence[Cell]) -> Table:
    """The statistical checks of a method, those of one name together."""
    groups: dict[tuple[str, str, str], list[EvidenceRow]] = {}
    for cell in cells:
        for e in cell["evidence"]:
            groups.setdefault((cell["kind"], e["check"], e["metric"]), []).append(e)
    rows = []
    for (kind, check, metric), evidence in groups.items():
        rejected = sum(e["rejected"] for e in evidence)
        rates = [_range([e[key] for e in evidence]) for key in ("n", "delta", "alpha", "beta")]
        said = [kind, check, metric, number(len(evidence)), *rates, number(rejected)]
        rows.append(row(said, bad=(8,) if rejected else ()))
    columns = ("kind", "check", "metric", "cells#", "n#", "delta#", "alpha#", "beta#", "rejected#")
    return Table(f"{name}-checks", "Statistical checks", "", columns, tuple(rows))


def _wrong(name: str, cells: Sequence[Cell]) -> Table:
    """Where a method that was released wrong is refuted."""
    rows = []
    for c in cells:
        verdict = c["verdict"]
        rows.append(cell_row(c, [c["decoder"], c["model"], settings(c), verdict["kind"], verdict["reason"]]))
    columns = ("defect", "model", "settings", "obtained", "why")
    return Table(f"{name}-wrong", "Where it is wrong", "", columns, tuple(rows))


def _command(cell: Cell) -> str:
    """The line that carries out all cells of this one's decoder, or of its rule."""
    last, equals, _ = cell["id"].rpartition("/")[2].partition("=")
    wanted = f"*/{last}{equals and '=*'}" if last == cell["settings"].get("rule") else f"*/{cell['decoder']}/*"
    return cell["reproduce"].replace(cell["id"], wanted)


def _range(values: Iterable[float | NoNumber | None]) -> str:
    """The least and the largest of those that are known."""
    known = [value for value in values if isinstance(value, (int, float))]
    ends = [number(end, 3) for end in (min(known), max(known))] if known else [UNKNOWN]
    return " to ".join(dict.fromkeys(ends))
