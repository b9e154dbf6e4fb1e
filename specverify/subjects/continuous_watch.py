"""What a decoder of vectors says of itself, held against what it did: model calls, drafts shown, tokens committed.

A figure that is false is a fault of its own, whatever the law of the tokens. Told are passes against the model's calls,
accepted tokens against the drafts that the model was shown, and each kind of token against the counts.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from specverify import tree
from specverify.decoders.protocol import Branch
from specverify.errors import ContractError
from specverify.laws import ContinuousModel, Law
from specverify.model import Context, row_mask

COUNTS = ("passes", "verified", "accepted", "emitted", "draft_passes")


class Watched:
    """A model, and the drafts that each forward pass since `forget` was shown."""

    def __init__(self, model: ContinuousModel) -> None:
        self._inner = model
        self.shown: list[Float[Tensor, "batch w dim"]] = []

    def __getattr__(self, attribute: str) -> Any:
        return getattr(self._inner, attribute)

    def forget(self) -> None:
        """Begin a step."""
        self.shown = []

    def laws(self, context: Context, draft: Float[Tensor, "batch w dim"]) -> Law:
        """See ContinuousModel."""
        self.shown.append(draft.clone())
        return self._inner.laws(context, draft)

    def advance(self, context: Context, tokens: Float[Tensor, "batch n dim"], count: Int[Tensor, " batch"]) -> Context:
        """See ContinuousModel."""
        return self._inner.advance(context, tokens, count)


def check_shapes(info: Any, emitted: Int[Tensor, " batch"]) -> None:
    """Raise ContractError unless a step's report has whole numbers for each row, and says how many it committed."""
    for name in COUNTS:
        value = getattr(info, name, None)
        if not isinstance(value, Tensor) or value.is_floating_point() or tuple(value.shape) != tuple(emitted.shape):
            found = f"of shape {tuple(value.shape)}, {value.dtype}" if isinstance(value, Tensor) else repr(value)
            raise ContractError(f"its info has `{name}` {found}; one whole number a row is due")
    if not torch.equal(info.emitted, emitted):
        raise ContractError("`emitted` does not say how many tokens a step committed")
    if bool((info.accepted > info.verified).any()) or bool((info.accepted < 0).any()):
        raise ContractError("it accepted more drafts than it verified")
    branch = getattr(info, "branch", None)
    if not isinstance(branch, Tensor) or branch.ndim != 2 or len(branch) != len(emitted):
        raise ContractError("its info has no `branch`, which names where each committed token came from")
    named = (branch > 0) & (branch < len(Branch))
    if branch.shape[1] < int(emitted.max()) or not torch.equal(named, row_mask(emitted, branch.shape[1])):
        raise ContractError("`branch` names the Branch of each committed token, in order, and is 0 behind them")


def misreport(before: Any, after: Any, info: Any, shown: list[Tensor]) -> str:
    """The first figure of a step's report that is not what happened; empty if all are.

    Args:
        before, after: states.
        info: what the step says of itself.
        shown: the drafts of each of its forward passes.
    """
    rows, active = len(before.length), ~before.done
    whole = all(len(draft) == rows for draft in shown)
    # A row that has ended may have been left out of what came after, and of calls on some rows it is not known which.
    most = active * len(shown)
    least = torch.where(after.done | (not whole), most.clamp(max=1), most)
    if bool(((info.passes < least) | (info.passes > most)).any()):
        return (
            f"`passes` says {int(info.passes.sum())} over {int(active.sum())} unfinished rows, where the target was "
            f"called {len(shown)} times"
        )
    accepted, recovered = ((info.branch == kind).sum(1) for kind in (Branch.ACCEPTED, Branch.RECOVERED))
    if not torch.equal(accepted, info.accepted.long()):
        return f"`accepted` says {int(info.accepted.sum())}, but `branch` names {int(accepted.sum())} accepted tokens"
    judged = accepted + recovered  # and one behind the last token may have been rejected, with nothing in its place
    if bool(((info.verified < judged) | (info.verified > judged + 1)).any()):
        return (
            f"`verified` says {int(info.verified.sum())}, where {int(accepted.sum())} drafts were accepted and "
            f"{int(recovered.sum())} replaced"
        )
    if whole:
        strange = (info.branch == Branch.ACCEPTED) & ~drafted(before, after, info, shown)
        if bool(strange.any()):  # rows may lie in another order
            strange &= ~drafted(before, after, info, shown, anywhere=True)
        if bool(strange.any()):
            return f"`accepted` counts {int(strange.sum())} tokens that the target was shown as no draft"
    return ""


def drafted(before: Any, after: Any, info: Any, shown: list[Tensor], anywhere: bool = False) -> Tensor:
    """Which of the tokens that a step committed are drafts that a pass of the step was shown, Bool[batch, block].

    At whatever place, since it may be behind others; of the same row of a pass, or of any.
    """
    block, length = info.branch.shape[1], after.tokens.shape[1]
    place = before.length[:, None] + torch.arange(block, device=before.length.device)
    inside = place < after.length[:, None]
    tokens = after.tokens[torch.arange(len(place), device=place.device)[:, None], place.clamp(max=length - 1)]
    found = torch.zeros_like(inside)
    for draft in shown:
        if anywhere:
            ours, theirs = (tree.hashed(tree.to_bits(every.flatten(0, 1))) for every in (tokens, draft))
            found |= torch.isin(ours, theirs).view_as(found)
        elif len(draft) == len(place) and draft.shape[1]:
            found |= (tokens[:, :, None] == draft[:, None]).all(-1).any(-1)
    drafts: Tensor = found & inside
    return drafts
