"""Every outcome enumerated, on toys: a proof there."""

from __future__ import annotations

import toymodels.catalogue
from specverify import costs
from specverify.cell import Cell
from specverify.claims import Claim
from specverify.decoders import Decoder, registry
from specverify.evidence.enumerate import enumerate_decoder
from specverify.evidence.sequences import target_law
from specverify.judge import Coverage, judge_exact
from specverify.kinds.kind import CellKind, Setting, build
from specverify.model import Model
from specverify.opening import Real
from specverify.report.shape_cells import Cell as Result
from specverify.verdict import Verdict


def carry_out(cell: Cell, setting: Setting, result: Result) -> Verdict:
    """Enumerate the decoder."""
    model = toymodels.toy(cell.model)
    decoder = build(cell, model)
    return enumerated(decoder, decoder.claim, model, cell, result)


def enumerated(decoder: Decoder, claim: Claim, model: Model, cell: Cell, result: Result) -> Verdict:
    """The verdict of a decoder's exact law, which is written down with its cost."""
    target = target_law(model)
    exact = enumerate_decoder(decoder, model)
    result["claim"] = str(claim)
    result["exact"] = {
        "tv": exact.tv(target),
        "passes": exact.passes,
        "acceptance_rate": costs.finite(exact.acceptance_rate),
        "verified": exact.verified,
        "accepted": exact.accepted,
        "branches": exact.branches,
        "states": exact.states,
        "worlds": exact.worlds,
        "sequences": len(exact.law),
    }
    coverage = Coverage(cell.window is not None, exact.verified, exact.accepted, exact.branches["recovered"])
    return judge_exact(claim, exact, target, model.vocab, coverage)


def _not_covered(real: Real) -> list[str]:
    large = [name for name in toymodels.catalogue.names() if not toymodels.catalogue.enumerable(name)]
    races = ", ".join(name for name in registry.names() if registry.entry(name).races)
    return [
        f"toys too large to enumerate were not proved on: {', '.join(large)}",
        f"decoders that draw by races ({races}) are proved at two tokens only",
        "a proof is of the decoder on the named toys; other models are covered as far as the code is the same",
    ]


KIND = CellKind(carry_out, speaks_of="{}", not_covered=_not_covered)
