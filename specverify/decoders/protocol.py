"""The decoder protocol: `init` and `step` over a small state of tensors.

One `step` is one forward pass of the target model on a window. The same `step` is enumerated on toys, sampled on a CPU
and run on a GPU. Three rules make that possible:

1. All randomness comes from `draws`; `step` is otherwise a function of its arguments.
2. Rows are independent: a row's outcome does not depend on the other rows. Rows may be at different lengths.
3. Nothing waits for the device: no Python branch on a tensor's value, no loop over rows.

A step leaves rows that are done as they are, and reports what it did in an `Info`.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Int, Num
from torch import Tensor

from specverify.claims import Claim
from specverify.draws import Draws
from specverify.laws import size_of
from specverify.model import Context, row_mask


class Branch(enum.IntEnum):
    """Where an emitted token came from."""

    NONE = 0
    """No token here."""
    SAMPLED = 1
    """Drawn from p with no draft to verify (autoregressive decoding)."""
    ACCEPTED = 2
    """A draft token that was kept."""
    RECOVERED = 3
    """Drawn from the residual after the first rejection."""
    BONUS = 4
    """Drawn from p after every draft token was accepted."""


@dataclass(frozen=True)
class State:
    """What every decoder carries from step to step.

    Attributes:
        context: the model's context of the committed tokens.
        tokens: committed tokens, ids or vectors; 0 beyond `length`, or the model's `eos` once a row has ended with it.
        length: number of committed tokens.
        done: rows that have reached the model's length or its `eos`.
        drafting: whatever the decoder's drafting carries; None if nothing.
    """

    context: Context
    tokens: Num[Tensor, "batch length *dim"]
    length: Int[Tensor, " batch"]
    done: Bool[Tensor, " batch"]
    drafting: Any = None


@dataclass(frozen=True)
class Info:
    """What one step did, per row; all 0 for rows that were done before.

    Where a decoder is judged, each figure is held against what happened (`evidence/accounts.py`).

    Attributes:
        passes: forward passes of the target model: calls of `laws` on the batch while the row was not done, whatever
            they were for; a call on several chains of a row is one pass.
        verified: draft tokens that were judged: those accepted and those rejected. Those behind the first rejection, or
            behind an end, were not.
        accepted: draft tokens that were kept; each is a token ACCEPTED in `branch`, and was shown to the model as the
            draft at its place.
        emitted: committed tokens.
        branch: `Branch` of each committed token, NONE beyond `emitted`. A RECOVERED token stands where a draft was.
        draft_passes: forward passes of the draft model, likewise; those for places behind the end of the row need not
            be counted.
    """

    passes: Int[Tensor, " batch"]
    verified: Int[Tensor, " batch"]
    accepted: Int[Tensor, " batch"]
    emitted: Int[Tensor, " batch"]
    branch: Int[Tensor, "batch block"]
    draft_passes: Int[Tensor, " batch"]


@runtime_checkable
class Decoder(Protocol):
    """A decoder: its name, what it claims, and `init`/`step` over a `Model` of ids or a `ContinuousModel` of vectors.

    Attributes:
        name: how reports and the command line call it.
        claim: what it says of its output law; verdicts uphold or refute this.
    """

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def claim(self) -> Claim: ...  # noqa: D102

    def init(self, model: Any, batch: int, draws: Draws) -> State:
        """The state of `batch` empty sequences."""

    def step(self, state: State, model: Any, draws: Draws) -> tuple[State, Info]:
        """One forward pass: judge the drafts, commit at least one token in every row that is not done."""


def begin(model: Any, batch: int, drafting: Any = None) -> State:
    """The state of empty sequences."""
    return State(
        context=model.start(batch),
        tokens=no_tokens(model, batch),
        length=torch.zeros(batch, dtype=torch.int64, device=model.device),
        done=torch.zeros(batch, dtype=torch.bool, device=model.device),
        drafting=drafting,
    )


def no_tokens(model: Any, batch: int) -> Num[Tensor, "batch length *dim"]:
    """Room for a batch of sequences, of ids or of vectors."""
    shape, dtype = ((), torch.int64) if size_of(model) == "vocab" else ((model.dim,), model.dtype)
    return torch.zeros(batch, model.length, *shape, dtype=dtype, device=model.device)


def until_end(
    model: Any, tokens: Num[Tensor, "batch n *dim"], count: Int[Tensor, " batch"]
) -> tuple[Int[Tensor, " batch"], Bool[Tensor, " batch"]]:
    """`count` less what lies behind an end-of-sequence token among the first `count`, and whether there is one."""
    if tokens.is_floating_point() or model.eos is None:  # vectors do not end a sequence
        return count, torch.zeros_like(count, dtype=torch.bool)
    is_end = (tokens == model.eos) & row_mask(count, tokens.shape[1])
    return torch.where(is_end.any(1), is_end.int().argmax(1) + 1, count), is_end.any(1)


def commit(
    state: State, model: Any, block: Num[Tensor, "batch block *dim"], count: Int[Tensor, " batch"]
) -> tuple[State, Int[Tensor, " batch"]]:
    """Commit the first `count` tokens of each row's block, less what lies behind an end-of-sequence token.

    Returns:
        the state with tokens, length, done and context advanced (drafting as it was), and how many were committed.
    """
    size, end = block.shape[1], model.length
    count, ended = until_end(model, block, torch.minimum(count, end - state.length).where(~state.done, 0))
    # Beyond the end there is room to write to, so that clamped indexes never collide.
    room = torch.cat([state.tokens, state.tokens.new_zeros(block.shape)], 1)
    place = _of_tokens(state.length[:, None] + torch.arange(size, device=block.device), block)
    kept = block.where(_of_tokens(row_mask(count, size), block), room.gather(1, place))
    tokens = room.scatter(1, place, kept)[:, :end]
    length = state.length + count
    if not tokens.is_floating_point() and model.eos is not None:
        tokens = tokens.masked_fill(ended[:, None] & ~row_mask(length, end), model.eos)
    context = model.advance(state.context, block, count)
    return State(context, tokens, length, state.done | ended | (length == end), state.drafting), count


def _of_tokens(values: Tensor, tokens: Tensor) -> Tensor:
    """Values of slots, one for each number that a token consists of."""
    return values[..., None].expand_as(tokens) if tokens.ndim > values.ndim else values
