"""Running a decoder: steps until every row is done, with totals per row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import torch
from jaxtyping import Int, Num
from torch import Tensor

from specverify import tree
from specverify.decoders.protocol import Branch, Decoder, no_tokens
from specverify.draws import Draws, Sampled
from specverify.errors import ContractError, InputError
from specverify.laws import check_model
from specverify.model import AnyModel
from specverify.recorded import Recorded
from specverify.seeds import BLOCK


@dataclass(frozen=True)
class Run:
    """Sequences and what they cost.

    Attributes:
        tokens: the sequences, of ids or of vectors.
        passes: forward passes of the target (NFE) that each took.
        verified, accepted: draft tokens judged and kept.
        draft_passes: forward passes of the draft model.
        branch: `Branch` by which each token came; NONE behind the end of a sequence.
    """

    tokens: Num[Tensor, "batch length *dim"]
    passes: Int[Tensor, " batch"]
    verified: Int[Tensor, " batch"]
    accepted: Int[Tensor, " batch"]
    draft_passes: Int[Tensor, " batch"]
    branch: Int[Tensor, "batch length"]

    @classmethod
    def joined(cls, parts: Sequence[Run]) -> Run:
        """Those of several runs, one behind the other."""
        return cls(*(torch.cat([getattr(part, field.name) for part in parts]) for field in fields(cls)))

    @property
    def branches(self) -> Int[Tensor, "batch branches"]:
        """Tokens that came by each `Branch`; of NONE 0."""
        counts = torch.stack([(self.branch == branch).sum(1) for branch in Branch], 1)
        counts[:, Branch.NONE] = 0
        return counts

    @property
    def acceptance_rate(self) -> float:
        """Accepted drafts over verified drafts; NaN if none was verified."""
        verified = int(self.verified.sum())
        return int(self.accepted.sum()) / verified if verified else float("nan")


@torch.no_grad()
def run(
    decoder: Decoder,
    model: AnyModel,
    batch: int,
    draws: Draws,
    on_tokens: Callable[[int], None] | None = None,
) -> Run:
    """Decode `batch` sequences.

    Rows that are done are dropped from the batch once they are half of it, so that long rows do not pay for short ones.

    Args:
        decoder, model, batch, draws: what to run; decoder and model are of one kind of token.
        on_tokens: called after each step with the number of tokens that it committed.

    Raises:
        ContractError: if a step commits nothing or a vector that is not finite, or the draws were asked for an
            impossible law.
        InputError: for a model over vectors whose first law is none.
    """
    if batch < 1:
        raise InputError(f"cannot run a batch of {batch} sequences; it must be at least 1")
    device, length = model.device, model.length
    tokens = no_tokens(model, batch)
    if tokens.is_floating_point():
        check_model(model)
    totals = torch.zeros(batch, 4, dtype=torch.int64, device=device)
    # A last column takes what a step says of slots behind the end of a sequence: nothing.
    branch = torch.zeros(batch, length + 1, dtype=torch.int8, device=device)
    index = torch.arange(batch, device=device)
    state = decoder.init(model, batch, draws)
    came = branch.clone()
    for _ in range(length):
        before = state.length.clone()
        state, info = decoder.step(state, model, draws)
        totals[index] += torch.stack([info.passes, info.verified, info.accepted, info.draft_passes], 1)
        place = before[:, None] + torch.arange(info.branch.shape[1], device=device)
        came.scatter_(1, place.clamp(max=length), info.branch.to(torch.int8))
        left = int((~state.done).sum())
        if on_tokens is not None:
            on_tokens(int(info.emitted.sum()))
        if left == 0:
            break
        if left <= len(index) // 2:
            tokens[index], branch[index] = state.tokens, came
            keep = (~state.done).nonzero().squeeze(1)
            state, index, came = tree.rows(state, keep), index[keep], came[keep]
    else:
        raise ContractError(
            f"decoder {decoder.name!r} left rows unfinished after {length} steps; each step must commit a token"
        )
    tokens[index], branch[index] = state.tokens, came
    if isinstance(draws, Sampled | Recorded):
        draws.check()
    if tokens.is_floating_point() and not bool(tokens.isfinite().all()):
        raise ContractError(
            f"decoder {decoder.name!r} committed a token that holds {float(tokens[~tokens.isfinite()][0])}; a run of "
            "CheckedContinuous(model) says whether the model gave it"
        )
    passes, verified, accepted, draft_passes = totals.unbind(1)
    return Run(tokens, passes, verified, accepted, draft_passes, branch[:, :length])


def sample(
    decoder: Decoder,
    model: AnyModel,
    n: int,
    seed: int,
    block: int = BLOCK,
    first_block: int = 0,
    on_tokens: Callable[[int], None] | None = None,
) -> Run:
    """Decode `n` sequences in blocks of fixed size, block i with the seed derived from (seed, i).

    The result does not depend on how blocks are shared out: blocks `first_block`, `first_block + 1`, ... run elsewhere
    and joined give the same sequences.
    """
    if n < 1 or block < 1:
        raise InputError(f"cannot draw {n} sequences in blocks of {block}; both must be at least 1")
    parts = []
    for number, offset in enumerate(range(0, n, block), start=first_block):
        draws = Sampled(seed, number, model.device)
        parts.append(run(decoder, model, min(block, n - offset), draws, on_tokens))
    return Run.joined(parts)
