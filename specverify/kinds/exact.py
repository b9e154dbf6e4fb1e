"""Every outcome enumerated, on toys: a proof there."""

from __future__ import annotations

import toymodels.catalogue
from specverify import costs
from specverify.cell import Asked, Cell
from specverify.claims import Claim
from specverify.decoders import Decoder, registry
from specverify.evidence.enumerate import enumerate_decoder
from specverify.evidence.sequences import target_law
from specverify.kinds.kind import CellKind, Setting, build, settings
from specverify.model import Model
from specverify.report.shape_cells import Cell as Result
from specverify.verdict import Coverage, Verdict, judge_exact


def cells(asked: Asked) -> list[Cell]:
    """Every decoder of ids on every toy that can be enumerated."""
    found = []
    for model in toymodels.catalogue.names():
        if not toymodels.catalogue.enumerable(model):
            continue
        vocab, length = (int(part) for part in model.rsplit("-", 1)[1].split("x"))
        for name in registry.names("ids", relaxed=False):
            if registry.entry(name).races and vocab > 2:
                continue
            for window in _windows(name, vocab, length, asked.full):
                for initial, draft in settings(name, asked.full):
                    # Random initial drafts multiply the worlds by vocab^window; the largest of them add nothing new.
                    if initial in ("random", "sample-left") and window is not None and vocab**window > 300:
                        continue
                    found.append(Cell("exact", name, model, window, initial, draft))
    return found


def _windows(name: str, vocab: int, length: int, full: bool) -> list[int | None]:
    """Windows from 1 to beyond the length; of several chains at once, those that can be enumerated in seconds."""
    if not registry.entry(name).drafts:
        return [None]
    if (chains := registry.entry(name).chains) > 1:
        most = 1000 if full or name.startswith("sd-") else 100  # coupled drafts are a part of what is enumerated
        return [window for window in ((1, 2, 3) if full else (1, 2)) if vocab ** (chains * window) <= most]
    if full:
        return list(range(1, length + 2))
    # Beside the decoders that they come from, which are enumerated in wide windows too.
    return [w for w in (1, 3) if vocab**w <= 30] if name in ("sjd-reuse", "sd-match") else [1, 3, length + 1]


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


def _not_covered() -> list[str]:
    large = [name for name in toymodels.catalogue.names() if not toymodels.catalogue.enumerable(name)]
    races = ", ".join(name for name in registry.names() if registry.entry(name).races)
    return [
        f"toys too large to enumerate were not proved on: {', '.join(large)}",
        f"decoders that draw by races ({races}) are proved at two tokens only",
        "a proof is of the decoder on the named toys; other models are covered as far as the code is the same",
    ]


KIND = CellKind(50, cells, carry_out, speaks_of="{}", not_covered=_not_covered)
