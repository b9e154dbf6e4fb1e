"""Relaxed rules, enumerated: how far each is from the target, how fast it is, and whether it keeps its claim."""

from __future__ import annotations

import toymodels
from specverify import relaxed
from specverify.cell import Cell
from specverify.claims import Relaxed
from specverify.decoders import registry
from specverify.decoders.judging import TokenRule
from specverify.kinds.exact import enumerated
from specverify.kinds.kind import CellKind, Setting, build
from specverify.report.shape_cells import Cell as Result
from specverify.report.shape_cells import exact_of
from specverify.rules import registry as rules
from specverify.verdict import Kind, Verdict


def carry_out(cell: Cell, setting: Setting, result: Result) -> Verdict:
    """A rule that may be lossy: how far it is from the target and how fast, and whether it keeps what it claims."""
    model = toymodels.toy(cell.model)
    judging = None if cell.rule is None else rules.build(cell.rule, cell.value, relaxed.context(model))
    decoder = build(cell, model, judging)
    claim = decoder.claim if judging is None else relaxed.claim_on(judging, model)
    alone = registry.entry(cell.decoder).relaxed
    if alone:
        result["settings"]["rule"] = cell.decoder
    verdict = enumerated(decoder, claim, model, cell, result)
    if cell.draft is not None and not alone:
        drafts = toymodels.draft(cell.draft, model)
        result["figures"]["price"] = relaxed.exact_price(judging or TokenRule(), model, drafts)
    if isinstance(claim, Relaxed) and verdict.kind is Kind.VACUOUS:
        declared, tv = relaxed.declared(judging, model), exact_of(result)["tv"]
        says = (
            "the rule claims nothing"
            if declared is None
            else f"declares nothing that binds: a bound of {declared:.9g} leaves a slack of {declared - tv:.3g}"
        )
        return Verdict(Kind.VACUOUS, f"{says}; exact TV {tv:.2g}")
    return verdict


KIND = CellKind(carry_out)
