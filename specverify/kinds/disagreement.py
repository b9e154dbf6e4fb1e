"""Whether it is the model whose passes disagree: before a decoder is judged on it, and where it is refuted."""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor

from realmodels.images import ImageModel, unlike
from specverify.conformance import Conformance, conformance, tolerance_of
from specverify.errors import ContractError
from specverify.evidence.tokens import TokenStatistics
from specverify.opening import Real

ROWS = 8
"""Images that are read again, one by one."""
WIDEST = 16
"""Drafts of the widest windows in which a model is held against its single tokens, unless a cell's are wider."""
POSITIONS = 8
"""Positions of each stretch in which that is done."""
CONDITIONS = 4
"""Conditions of which a model is held against each alone."""
_SEAMS: dict[tuple[Real, float | None, str, torch.dtype, int], Conformance] = {}
"""What this process has found of models: it takes many passes, and is one for all decoders."""


def seam(real: Real, guidance: float | None, model: ImageModel, window: int | None) -> str:
    """How far the laws of windows are from those of single tokens, on weights that no test has seen.

    Args:
        real: how the model was opened.
        guidance: its scale.
        model: opened so.
        window: of the decoder, if it has one.

    Raises:
        ContractError: if that is more than rounding, so that nothing can be said of decoders on this model.
    """
    asked = real, guidance, str(model.device), model.precision, max(window or 0, WIDEST)
    if asked not in _SEAMS:
        # The first two are the shortest and the longest: rows beside each other of which one is padded most.
        some = model.like(conditions=unlike(model.conditions, CONDITIONS))
        _SEAMS[asked] = conformance(some, batch=CONDITIONS // 2, positions=POSITIONS, widest=asked[-1])
    found = _SEAMS[asked]
    if found.passes:
        raise ContractError("; ".join(found.passes))
    places = min(3 * POSITIONS, model.length)
    return (
        f"laws of windows and of single tokens differ by at most {found.largest:.2g}, at {places} positions of 2 images"
    )


def left_out(model: ImageModel, n: int, batch: int) -> str:
    """Which conditions no image was drawn of, if any: every batch begins with the first."""
    drawn = min(n, batch, len(model.conditions))
    if drawn == len(model.conditions):
        return ""
    how = "" if n <= batch else f" in batches of {batch}"
    return f"{n} images{how} are of the first {drawn} of {len(model.conditions)} conditions alone"


@torch.no_grad()
def look(model: ImageModel, tokens: Int[Tensor, "images length"], statistics: TokenStatistics, batch: int) -> None:
    """Read some images again, each alone, one token per pass, and hold that against what tested them.

    Args:
        model: on which they were drawn.
        tokens: all that were drawn.
        statistics: of them, under the laws that tested them.
        batch: rows that ran together, dealt the model's conditions in turn.

    Raises:
        ContractError: a token has another probability there, by more than rounding, so that its laws are not one.
    """
    tolerance = tolerance_of(model)
    for row in torch.linspace(0, len(tokens) - 1, min(ROWS, len(tokens))).round().long().tolist():
        condition = model.conditions[row % batch % len(model.conditions)]
        alone, mine = model.like(conditions=[condition]), tokens[row : row + 1].to(model.device)
        context = alone.start(1)
        for place in range(model.length):
            token = mine[:, place : place + 1]
            single = float(alone.laws(context, token[:, :0])[0, 0, token[0, 0]])
            context = alone.advance(context, token, torch.ones_like(token[:, 0]))
            together = 0.0
            if not bool(statistics.impossible[row, place]):
                together = float((-statistics.surprisal[row, place]).exp())
            if abs(single - together) > tolerance:
                raise ContractError(
                    f"the model's passes disagree: image {row} has, at position {place}, a token of probability "
                    f"{together:.4g} in the passes that test it, of {min(batch, len(tokens))} images each, and of "
                    f"{single:.4g} in that image alone, one token per pass; no decoder can be judged on it: hold it "
                    "against specverify.conformance, with as many rows, conditions and positions"
                )
