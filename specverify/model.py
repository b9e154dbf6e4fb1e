"""The model protocol: what a decoder sees of an autoregressive model.

A model is a next-token law. It answers for a whole window of positions in one *forward pass*, taking the draft tokens
of the window as given. Whatever shapes the law (temperature, top-k, top-p, guidance, masks) belongs to the model, so
that there is one target law `p`.

    start(batch)                     -> context
    laws(context, draft)             -> p at the next w + 1 positions, Float[batch, w + 1, vocab]
    advance(context, tokens, count)  -> context after each row's first `count` tokens

A context is a structure of tensors whose first axis is the batch (see `tree.py`), so that rows can be gathered, dropped
and merged. `advance` may rely on one thing: each row's `tokens[:count - 1]` are the draft that the last `laws` call on
this context was given. This is what lets a key-value cache roll back by not advancing; `Passes` looks whether it holds,
and `evidence.cached` whether a cache would hold what is committed. Going back is the same: a context may be read again
after others were made of it, which then are of no use any more.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int, Num
from torch import Tensor

from specverify import tree
from specverify.errors import ContractError, InputError

Context = Any


@runtime_checkable
class AnyModel(Protocol):
    """An autoregressive model over sequences of `length` tokens, ids (`Model`) or vectors (`laws.ContinuousModel`).

    Attributes:
        name: how reports and the command line call it.
        length: number of positions of a sequence.
        dtype: floating type of the laws, and of tokens that are vectors.
        device: where the laws live.
    """

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def length(self) -> int: ...  # noqa: D102
    @property
    def dtype(self) -> torch.dtype: ...  # noqa: D102
    @property
    def device(self) -> torch.device: ...  # noqa: D102

    def start(self, batch: int) -> Context:
        """The context of `batch` empty sequences."""

    def laws(self, context: Context, draft: Num[Tensor, "batch w *dim"]) -> Any:
        """One forward pass: the laws of the next w + 1 positions, row k given the context and `draft[:, :k]`.

        They are the caller's own, to write to as well: a model that remembers laws hands out copies.
        Rows may have different lengths. Positions at or beyond `length` get some law; decoders do not look at it.
        """

    def advance(self, context: Context, tokens: Num[Tensor, "batch n *dim"], count: Int[Tensor, " batch"]) -> Context:
        """The context after the first `count` tokens of each row (0 leaves a row as it was)."""


@runtime_checkable
class Model(AnyModel, Protocol):
    """A model of ids: its laws are tables of probabilities.

    Attributes:
        vocab: number of token ids.
        eos: the id that ends a sequence early, or None. Positions after it hold `eos`.
    """

    @property
    def vocab(self) -> int: ...  # noqa: D102
    @property
    def eos(self) -> int | None: ...  # noqa: D102

    def laws(self, context: Context, draft: Int[Tensor, "batch w"]) -> Float[Tensor, "batch w+1 vocab"]:
        """See AnyModel."""


def check_laws(law: Tensor, *, what: str, vocab: int | None = None) -> None:
    """Raise InputError unless `law` is a probability table along its last axis.

    Args:
        law: Float[..., vocab].
        what: how the error names it.
        vocab: the size the last axis must have.
    """
    if not law.is_floating_point():
        raise InputError(f"{what} has dtype {law.dtype}; laws must be floating point")
    if law.ndim < 1 or law.shape[-1] == 0:
        raise InputError(
            f"{what} has shape {tuple(law.shape)}: the vocabulary is empty; a law needs at least one token"
        )
    if vocab is not None and law.shape[-1] != vocab:
        raise InputError(f"{what} covers {law.shape[-1]} tokens, but the vocabulary has {vocab}")
    if law.numel() == 0:
        return
    if bool(law.isnan().any()):
        raise InputError(f"{what} holds NaN; check the logits that it was made from")
    if bool((law < 0).any()):
        raise InputError(f"{what} holds the negative probability {float(law.min()):.6g}; probabilities are at least 0")
    error = float((law.double().sum(-1) - 1).abs().max())
    tolerance = 1e-9 if law.dtype == torch.float64 else 1e-2 if law.dtype in (torch.float16, torch.bfloat16) else 1e-4
    if error > tolerance:
        raise InputError(f"{what} does not sum to 1: it is off by {error:.3g}; normalise it along its last axis")


@dataclass(frozen=True)
class Pass:
    """One call of `laws`.

    Attributes:
        context: as it was given.
        draft: likewise.
    """

    context: Context
    draft: Int[Tensor, "batch w"]

    def read(self, context: Context) -> bool:
        """Whether this very context was read, not one with the same content."""
        return same_tensors(self.context, context)


class Passes:
    """The forward passes that a model has made, and what `advance` may rely on after them.

    A cache lies in the tensors of a context, and rows that are selected from it take it along. So a context counts as
    read if it is the one that a pass was given, or was selected from one, row by row; a context that was there before,
    and that no pass was given, has read nothing.

    Args:
        kept: how many passes are remembered; None for all.

    Attributes:
        made: the passes, the last one last.
        lent: contexts that were handed out.
        state: tensors that were there before; a context may be any of them.
    """

    def __init__(self, kept: int | None = None, state: Any = None) -> None:
        self.made: deque[Pass] = deque(maxlen=kept)
        self.lent: list[Context] = []
        self.state = list(tree.tensors(state))

    def was_there(self, context: Context) -> bool:
        """Whether a context was part of the state."""
        parts = list(tree.tensors(context))
        return bool(parts) and all(any(part is known for known in self.state) for part in parts)

    def breach(self, context: Context, tokens: Int[Tensor, "batch n"], count: Int[Tensor, " batch"]) -> str:
        """How an `advance` breaks the contract: a row commits tokens that the last pass on its context did not read.

        Empty if it does not; a row's last token need not have been read.
        """
        unread = (count > 1) & ~self._read(context, tokens, count)
        if not bool(unread.any()):
            return ""
        row = int(unread.int().argmax())
        relied_on = tokens[row, : int(count[row]) - 1].tolist()
        last = next((made for made in reversed(self.made) if made.read(context)), None)
        read = "no pass has read this context"
        if last is not None and len(last.draft) == len(tokens):
            read = f"the last pass on this context read {last.draft[row].tolist()}"
        return (
            f"advance was given {int(count[row])} tokens, of which all but the last, {relied_on}, must be the draft "
            f"that the last pass on this context read, but {read}: a cache holds nothing of them; make the last pass "
            "before advance one over the tokens that are kept, or make one before each token"
        )

    def _read(self, context: Context, tokens: Tensor, count: Tensor) -> Bool[Tensor, " batch"]:
        """For each row, whether a pass on its context read all but the last of its tokens."""
        for made in reversed(self.made):
            if made.read(context) and len(made.draft) == len(tokens):
                size = min(made.draft.shape[1], tokens.shape[1])
                agreed = (made.draft[:, :size] == tokens[:, :size]).long().cumprod(1).sum(1)
                return agreed >= count - 1
        found = torch.zeros_like(count, dtype=torch.bool)
        if self.was_there(context) or any(same_tensors(lent, context) for lent in self.lent):
            return found
        bits = tree.to_bits((tokens[:, :0], context))
        for read in (count[count > 1] - 1).unique().tolist():
            mine = tree.hashed(torch.cat([bits, tokens[:, :read]], 1))
            for made in self.made:
                if made.draft.shape[1] >= read:
                    theirs = torch.cat([tree.to_bits((made.draft[:, :0], made.context)), made.draft[:, :read]], 1)
                    found |= (count - 1 == read) & torch.isin(mine, tree.hashed(theirs))
        return found


def same_tensors(one: Any, other: Any) -> bool:
    """Whether two structures hold the very same tensors."""
    ours, theirs = list(tree.tensors(one)), list(tree.tensors(other))
    return len(ours) == len(theirs) and all(a is b for a, b in zip(ours, theirs, strict=True))


class Checked:
    """A model whose answers are checked, and that its users keep the promise that `advance` relies on.

    Slow, since it looks at values; for tests and for a first run of somebody's model or decoder.

    Raises:
        InputError: for what the model gives, naming the call and the value.
        ContractError: for what it is given.
    """

    def __init__(self, model: Model) -> None:
        if model.vocab < 1 or model.length < 1:
            raise InputError(
                f"model {model.name!r} has vocabulary {model.vocab} and length {model.length}; both must be at least 1"
            )
        self.inner = model
        self.name, self.vocab, self.length, self.eos = model.name, model.vocab, model.length, model.eos
        self.dtype, self.device = model.dtype, model.device
        self._passes = Passes(kept=4)

    def start(self, batch: int) -> Context:
        """As the inner model's."""
        if batch < 1:
            raise InputError(f"cannot start a batch of {batch} sequences; it must be at least 1")
        return self.inner.start(batch)

    def laws(self, context: Context, draft: Int[Tensor, "batch w"]) -> Float[Tensor, "batch w+1 vocab"]:
        """As the inner model's, with the laws checked."""
        check_tokens(draft, torch.ones_like(draft, dtype=torch.bool), self.vocab, "model.laws was given the draft")
        laws = self.inner.laws(context, draft)
        expected = (draft.shape[0], draft.shape[1] + 1, self.vocab)
        if tuple(laws.shape) != expected:
            raise InputError(f"model {self.name!r} gave laws of shape {tuple(laws.shape)}, expected {expected}")
        check_laws(laws, what=f"a law of model {self.name!r}", vocab=self.vocab)
        self._passes.made.append(Pass(context, draft))
        return laws

    def advance(self, context: Context, tokens: Int[Tensor, "batch n"], count: Int[Tensor, " batch"]) -> Context:
        """As the inner model's, after checking that all but each row's last token were in the last draft."""
        check_count(tokens, count, self.vocab)
        if breach := self._passes.breach(context, tokens, count):
            raise ContractError(breach)
        return self.inner.advance(context, tokens, count)


def check_tokens(tokens: Tensor, used: Bool[Tensor, "batch n"], vocab: int, what: str) -> None:
    """Raise ContractError unless the tokens that are used are ids of the vocabulary."""
    if tokens.dtype != torch.int64:
        raise ContractError(f"{what} in {tokens.dtype}; tokens are int64")
    outside = used & ((tokens < 0) | (tokens >= vocab))
    if bool(outside.any()):
        raise ContractError(f"{what} {int(tokens[outside][0])}; tokens are 0..{vocab - 1}")


def check_count(tokens: Int[Tensor, "batch n"], count: Int[Tensor, " batch"], vocab: int) -> None:
    """Raise ContractError unless so many of the tokens can be taken."""
    wrong = (count < 0) | (count > tokens.shape[1])
    if bool(wrong.any()):
        raise ContractError(
            f"model.advance was given {tokens.shape[1]} tokens per row and told to take {int(count[wrong][0])}"
        )
    check_tokens(tokens, row_mask(count, tokens.shape[1]), vocab, "model.advance was given the tokens")


def row_mask(index: Int[Tensor, " batch"], size: int) -> Bool[Tensor, "batch size"]:
    """For each row, True at the positions below `index`."""
    return torch.arange(size, device=index.device) < index[:, None]
