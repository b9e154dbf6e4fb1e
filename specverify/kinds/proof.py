"""Decoders tried to be proved for every law of some sizes at once, and known-wrong ones that must not be proved."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import cast

from specverify import checksum, defects, files
from specverify.cell import Cell
from specverify.claims import Lossless
from specverify.declared import Initial
from specverify.decoders import registry
from specverify.evidence.budget import Budget
from specverify.evidence.enumerate import enumerate_decoder, target_law
from specverify.evidence.exact.box import Box
from specverify.evidence.exact.goals import of_box
from specverify.evidence.exact.proof import Proof, at_point, prove
from specverify.evidence.exact.statement import statement
from specverify.judge import Coverage, judge_exact
from specverify.kinds.kind import CellKind, Setting
from specverify.opening import Real
from specverify.report.shape_cells import Asked as AskedRow
from specverify.report.shape_cells import Cell as Result
from specverify.report.shape_cells import Proof as Row
from specverify.report.shape_cells import proof_of
from specverify.report.tables_proofs import asked_of, box_of
from specverify.verdict import Kind, Verdict

WORLDS = 200_000
"""Outcomes that are followed in one proof, and enumerated where one fails."""
FOLDER = "proofs"
"""Where certificates lie, beside the record."""


def box(name: str, sizes: str, initial: Initial | None = None) -> Box:
    """The box of a decoder, or of a known-wrong one, with sizes as `Box.sizes` has them."""
    numbers, _, end = sizes.partition("-")
    vocab, length, *window = map(int, numbers.split("x"))
    if name in defects.names():
        drafts = defects.get(name).smallest.draft is not None
    else:
        drafts = registry.entry(name).needs_draft_model
    return Box(vocab, length, window[0] if window else None, vocab - 1 if end else None, drafts, initial)


def known_wrong(cell: Cell) -> bool:
    """Whether a cell's decoder must be refuted."""
    return cell.decoder in defects.names()


def carry_out(cell: Cell, setting: Setting, result: Result) -> Verdict:
    """Try to prove a decoder for every law of a box; one that differs is enumerated at a law of its own.

    Args:
        cell: which decoder and sizes.
        setting: whose seed all proofs have, so that one certificate holds all of a decoder's.
        result: gets what came of it.
    """
    build = defects.get(cell.decoder).build if known_wrong(cell) else registry.entry(cell.decoder).build
    here = box(cell.decoder, cell.model, cast("Initial | None", cell.initial))
    here = replace(here, rule=cell.rule, value=cell.value)
    goal = of_box(here)
    result["claim"] = goal.claim
    # One that is known to be wrong has to differ, which orders could only say again.
    found = prove(build, here, setting.seed, Budget(WORLDS, 4096), orders=not known_wrong(cell))
    result["proof"] = _row(found)
    if found.proved:
        said = statement(goal.claim, [here], [found.error_bits], setting.seed, found.orders, [found.asked])
        return Verdict(Kind.PROVED_FOR_ALL, said)
    if found.outcome == "differs" and here.rule is None:
        # That alone refutes nothing: its symbols for minima may be too weak. The law at one point does.
        target, _, of_it = at_point(here, setting.seed, goal)
        exact = enumerate_decoder(build(of_it), target, Budget(WORLDS))
        drafts = Coverage(here.window is not None, exact.verified, exact.accepted, exact.branches["recovered"])
        refuted = judge_exact(Lossless(), exact, target_law(target), here.vocab, drafts)
        if refuted.kind is Kind.REFUTED:
            return Verdict(Kind.REFUTED, f"{found.why}; at one law, enumerated: {refuted.reason}")
    return Verdict(Kind.VACUOUS, f"not proved for every law, which says nothing against it: {found.why}")


def write(cells: Sequence[Result], out: Path) -> None:
    """Write the certificate of each decoder that was proved, which `specverify replay` carries out again.

    Those in the folder of decoders that were not proved this time are removed.

    Raises:
        InputError: the folder cannot be written.
    """
    from specverify.subjects import proofs  # slow to import, and of no use to who only asks for a plan
    from specverify.subjects.for_all import ForAll

    rows: dict[str, list[tuple[str, Row]]] = {}
    for cell in cells:
        if cell["verdict"]["kind"] == Kind.PROVED_FOR_ALL.value:
            rule = cell["settings"].get("rule")
            rows.setdefault("-".join([cell["decoder"], *([rule] if rule else [])]), []).append(
                (cell["decoder"], proof_of(cell))
            )
    for stale in {*(out / FOLDER).glob("*.json")} - {out / FOLDER / f"{name}.json" for name in rows}:
        stale.unlink()
    for name, mine in rows.items():
        found = ForAll([_of_row(row) for _, row in mine])
        made = proofs.check(proofs.certificate(found, name=name, subject=mine[0][0]))
        text = json.dumps(checksum.sealed(made), indent=1) + "\n"
        files.write_atomically(out / FOLDER / f"{name}.json", text.encode())


def _row(found: Proof) -> Row:
    row: Row = {
        "outcome": found.outcome,
        "vocab": found.box.vocab,
        "length": found.box.length,
        "window": found.box.window,
        "eos": found.box.eos,
        "drafts": found.box.drafts,
        "initial": found.box.initial,
        "rule": found.box.rule,
        "value": found.box.value,
        "seed": found.seed,
        "prime": str(found.prime),
        "error_bits": found.error_bits,
        "worlds": found.worlds,
        "numbers": found.numbers,
        "symbols": found.symbols,
        "assumptions": found.assumptions,
        "orders": found.orders,
        "seconds": found.seconds,
    }
    if found.asked is not None:
        row["asked"] = cast("AskedRow", asdict(found.asked))
    return row


def _of_row(row: Row) -> Proof:
    return Proof(
        box=box_of(row),
        outcome=row["outcome"],
        seed=row["seed"],
        prime=int(row["prime"]),
        error_bits=row["error_bits"],
        worlds=row["worlds"],
        numbers=row["numbers"],
        symbols=row["symbols"],
        assumptions=row["assumptions"],
        orders=row.get("orders", 0),
        seconds=row["seconds"],
        asked=asked_of(row),
    )


def _not_covered(real: Real) -> list[str]:
    races = ", ".join(name for name in registry.names("ids") if registry.entry(name).races)
    return [
        "proofs for every law say nothing of other sizes than theirs, nor of rounding; those that draw by races "
        f"({races}) have none of more than two tokens"
    ]


KIND = CellKind(carry_out, known_wrong=known_wrong, speaks_of="{}", not_covered=_not_covered)
