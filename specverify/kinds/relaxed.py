"""Relaxed rules, enumerated: how far each is from the target, how fast it is, and whether it keeps its claim."""

from __future__ import annotations

import toymodels
from specverify import relaxed
from specverify.cell import Asked, Cell
from specverify.claims import Relaxed
from specverify.decoders import registry
from specverify.decoders.judging import TokenRule
from specverify.kinds.exact import enumerated
from specverify.kinds.kind import CellKind, Setting, build
from specverify.report.shape_cells import Cell as Result
from specverify.report.shape_cells import exact_of
from specverify.rules import registry as rules
from specverify.verdict import Kind, Verdict

RELAXED_ON = ("redundant-4x6", "redundant-8x4", "synonyms-4x5")
"""Toys whose vocabularies are redundant, as those of image models are."""

RELAXED_BESIDE = ("raster-4x6", "dense-3x6")
"""Toys on which relaxed decoders are priced too: rows with and without influence of what lies right of them above."""


def cells(asked: Asked) -> list[Cell]:
    """Every relaxed rule over its sweep, and the token rule beside it, on toys with redundant vocabularies."""
    judged: list[tuple[str | None, float | None]] = [(None, None)]
    for name in rules.names():
        judged += [(name, value) for value in rules.rule(name).sweep or (None,)]
    found = []
    for model in RELAXED_ON:
        for decoder, initial, draft in (
            ("sjd", "repeat-left", None),
            ("scd-mc", "repeat-left", None),
            ("sd", None, "perturbed"),
        ):
            for window in (2, 4, 8) if asked.full else (4,):
                found += [
                    Cell("relaxed", decoder, model, window, initial, draft, rule=rule, value=value)
                    for rule, value in judged
                ]
    for model in (*RELAXED_ON, *RELAXED_BESIDE):
        vocab = int(model.rsplit("-", 1)[1].split("x")[0])
        for name in registry.names("ids", relaxed=True):
            draft = "perturbed" if registry.entry(name).needs_draft_model else None
            chains = registry.entry(name).chains
            windows = [w for w in (1, 2) if chains == 1 or vocab ** (chains * w) <= 100]
            found += [Cell("relaxed", name, model, window, draft=draft) for window in windows]
    return found


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


KIND = CellKind(70, cells, carry_out)
