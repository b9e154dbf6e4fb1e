"""Proofs for every law at once: of which sizes, up to which error, and known-wrong decoders that have none."""

from __future__ import annotations

import math
from collections.abc import Sequence

from specverify.evidence.exact.box import Asked, Box
from specverify.evidence.exact.statement import sizes, statement
from specverify.report.shape import Record
from specverify.report.shape_cells import Cell, Proof, proof_of
from specverify.report.tables import UNKNOWN, Row, Table, caught, cell_row, number

ONE_TOKEN = ", one token"
"""Behind the name of a rule of which it is proved what one judged token does."""


def proofs(record: Record) -> Table:
    """Every cell in which one was tried."""
    rows = [_row(cell, cell["proof"]) for cell in record["cells"] if "proof" in cell]
    intro = (
        "Each row holds for every law of target and draft model of its sizes, another after each prefix, with zeros "
        "wherever they like: the decoder's own code was run on numbers of a random finite field, and its output's law "
        "is the same function of the laws as the target's. The error is the chance, over the prime and the point, that "
        "two different functions were taken for one. Numbers are different functions, symbols stand for minima; "
        "divisors are numbers that must not be 0, and were shown to be 0 in worlds without a chance alone. Known-wrong "
        "decoders must differ, and are refuted by enumeration at one law. Below stands what else it rests on. "
        "`specverify replay proofs/NAME.json`, beside the record, carries all proofs of a decoder out again, from "
        "another prime as well."
    )
    columns = ("decoder", "vocabulary, length, window", "first drafts", "outcome", "verdict", "error at most#")
    return Table(
        "proofs",
        "Proofs for every law",
        intro,
        (*columns, "numbers#", "symbols#", "divisors#", "worlds#", "processor seconds#"),
        tuple(rows),
    )


def _row(cell: Cell, proof: Proof) -> Row:
    verdict = cell["verdict"]["kind"] if cell["expected"] is None or caught(cell) else "NOT CAUGHT"
    error = f"2^-{math.floor(proof['error_bits'])}" if proof["outcome"] == "proved" else UNKNOWN
    counts = [number(proof["numbers"]), number(proof["symbols"]), number(proof["assumptions"]), number(proof["worlds"])]
    first = proof["initial"] or UNKNOWN
    cells = [cell["decoder"], cell["model"], first, proof["outcome"], verdict, error, *counts]
    bad = (4,) if verdict == "NOT CAUGHT" else ()
    return cell_row(cell, [*cells, number(proof["seconds"], 3)], cell["verdict"]["reason"], bad)


def said(cells: Sequence[Cell]) -> str:
    """What those of the cells that are proofs say together; empty if none is one."""
    proved = [cell for cell in cells if cell["verdict"]["kind"] == "PROVED-FOR-ALL"]
    if not proved:
        return ""
    found = [proof_of(cell) for cell in proved]
    bits = [each["error_bits"] for each in found]
    orders = sum(each.get("orders", 0) for each in found)
    boxes, asked = [box_of(each) for each in found], [asked_of(each) for each in found]
    return statement(proved[0]["claim"], boxes, bits, found[0]["seed"], orders, asked)


def shown(cells: Sequence[Cell]) -> str:
    """The same in few words: the largest size, and of which decoder, where the cells are of several."""
    found = [cell for cell in cells if cell["verdict"]["kind"] == "PROVED-FOR-ALL"]
    if not found:
        return ""
    boxes = [box_of(proof_of(cell)) for cell in found]
    largest = max(boxes, key=lambda box: (box.vocab**box.length, box.window or 0, box.eos is None))
    more = f" and {len(boxes) - 1} more" if len(boxes) > 1 else ""
    proved, every = ({cell["decoder"] for cell in each} for each in (found, cells))
    whose = f" ({', '.join(sorted(proved))})" if proved != every else ""
    return f"every law of {sizes([largest])}{more}{whose}"


def asked_of(row: Proof) -> Asked | None:
    """What of a proof's sizes was asked; None in older records."""
    return Asked(**row["asked"]) if "asked" in row else None


def box_of(row: Proof) -> Box:
    """The box of a proof."""
    return Box(
        row["vocab"], row["length"], row["window"], row["eos"], row["drafts"], row["initial"], row["rule"], row["value"]
    )
