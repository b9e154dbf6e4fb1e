"""Block verification of a window of drafts (Sun et al., arXiv 2403.10444): lossless, and it keeps more of them.

The token rule stops at the first draft that fails. Here the coins are tossed from the last slot to the first, and the
drafts up to the first coin that passes are kept. For drafts of a draft model the expected number kept is never below
the token rule's. It is as lossless for Jacobi drafts that are redrawn independently, whose laws are fixed before any of
them is drawn; it is *not* for coupled ones: the laws of later drafts tell what the earlier ones were.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from specverify.decoders.judging import Draft
from specverify.draws import Draws
from specverify.laws import at
from specverify.model import row_mask
from specverify.rules.block import block_residual, keep_probability, prefix_weights


@dataclass(frozen=True)
class Block:
    """Keep the longest prefix whose coin passes, then draw from what the target still asks for.

    All drafts are looked at; as elsewhere, `Info` counts as verified those that are kept and the one behind them.
    """

    name: str = "block"

    def verify(
        self,
        p: Float[Tensor, "batch window vocab"],
        draft: Draft,
        drafted: Int[Tensor, " batch"],
        draws: Draws,
    ) -> tuple[Int[Tensor, " batch"], Float[Tensor, "batch vocab"]]:
        """See WindowJudging."""
        weights = prefix_weights(p, draft.law, draft.token)
        keep = keep_probability(p, draft.law, weights, drafted)
        run = last_kept(keep, drafted, draws)
        slot = run.clamp(max=p.shape[1] - 1)
        return run, block_residual(at(p, slot), at(draft.law, slot), weights.gather(1, run[:, None]).squeeze(1))


def last_kept(
    keep: Float[Tensor, "batch window"], drafted: Int[Tensor, " batch"], draws: Draws
) -> Int[Tensor, " batch"]:
    """The last of each row's first `drafted` slots whose coin passes, counted from 1; 0 if none does."""
    window = keep.shape[1]
    from_behind = (drafted[:, None] - 1 - torch.arange(window, device=keep.device)).clamp(min=0)
    return drafted - draws.accept_run(1 - keep.gather(1, from_behind), row_mask(drafted, window))
