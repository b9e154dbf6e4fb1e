"""The model protocol: what a decoder sees of an autoregressive model.

A model is a next-token law. It answers for a whole window of positions in one *forward pass*, taking the draft tokens
of the window as given. Whatever shapes the law (temperature, top-k, top-p, guidance, masks) belongs to the model, so
that there is one target law `p`.

    start(batch)                     -> context
    laws(context, draft)             -> p at the next w + 1 positions, Float[batch, w + 1, vocab]
    advance(context, tokens, count)  -> context after each row's first `count` tokens

A context is a structure of tensors whose first axis is the batch (see `tree.py`), so that rows can be gathered, dropped
and merged. `advance` may rely on one thing: each row's `tokens[:count - 1]` are the draft that the last `laws` call on
this context was given. This is what lets a key-value cache roll back by not advancing; `Checked` enforces it.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from specverify.errors import InputError

Context = Any


@runtime_checkable
class Model(Protocol):
    """An autoregressive model over `vocab` tokens and sequences of `length` positions.

    Attributes:
        name: how reports and the command line call it.
        vocab: number of token ids.
        length: number of positions of a sequence.
        eos: the id that ends a sequence early, or None. Positions after it hold `eos`.
        dtype: floating type of the laws.
        device: where the laws live.
    """

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def vocab(self) -> int: ...  # noqa: D102
    @property
    def length(self) -> int: ...  # noqa: D102
    @property
    def eos(self) -> int | None: ...  # noqa: D102
    @property
    def dtype(self) -> torch.dtype: ...  # noqa: D102
    @property
    def device(self) -> torch.device: ...  # noqa: D102

    def start(self, batch: int) -> Context:
        """The context of `batch` empty sequences."""

    def laws(self, context: Context, draft: Int[Tensor, "batch w"]) -> Float[Tensor, "batch w+1 vocab"]:
        """One forward pass: the laws of the next w + 1 positions, row k given the context and `draft[:, :k]`.

        Rows may have different lengths. Positions at or beyond `length` get some law; decoders do not look at it.
        """

    def advance(self, context: Context, tokens: Int[Tensor, "batch n"], count: Int[Tensor, " batch"]) -> Context:
        """The context after the first `count` tokens of each row (0 leaves a row as it was)."""


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


class Checked:
    """A model that checks every call: shapes, dtypes, laws, and the promise that `advance` relies on.

    Slow, since it looks at values; for tests and for a first run of somebody's model or decoder.

    Raises:
        InputError: naming the call and the value.
    """

    def __init__(self, model: Model) -> None:
        if model.vocab < 1 or model.length < 1:
            raise InputError(
                f"model {model.name!r} has vocabulary {model.vocab} and length {model.length}; both must be at least 1"
            )
        self.inner = model
        self.name, self.vocab, self.length, self.eos = model.name, model.vocab, model.length, model.eos
        self.dtype, self.device = model.dtype, model.device
        self._seen = torch.zeros(0, 0, dtype=torch.int64)  # the draft of the last forward pass

    def start(self, batch: int) -> Context:
        """As the inner model's."""
        if batch < 1:
            raise InputError(f"cannot start a batch of {batch} sequences; it must be at least 1")
        return self.inner.start(batch)

    def laws(self, context: Context, draft: Int[Tensor, "batch w"]) -> Float[Tensor, "batch w+1 vocab"]:
        """As the inner model's, with the laws checked."""
        self._check_tokens(draft, "the draft tokens")
        laws = self.inner.laws(context, draft)
        expected = (draft.shape[0], draft.shape[1] + 1, self.vocab)
        if tuple(laws.shape) != expected:
            raise InputError(f"model {self.name!r} gave laws of shape {tuple(laws.shape)}, expected {expected}")
        check_laws(laws, what=f"a law of model {self.name!r}", vocab=self.vocab)
        self._seen = draft
        return laws

    def advance(self, context: Context, tokens: Int[Tensor, "batch n"], count: Int[Tensor, " batch"]) -> Context:
        """As the inner model's, after checking that all but each row's last token were in the last draft."""
        self._check_tokens(tokens, "the committed tokens")
        if bool((count < 0).any()) or bool((count > tokens.shape[1]).any()):
            raise InputError(f"cannot advance by {count.tolist()} of {tokens.shape[1]} tokens")
        relied_on = row_mask(count - 1, tokens.shape[1])
        same = torch.zeros_like(relied_on)
        if self._seen.shape[0] == tokens.shape[0]:
            shared = min(self._seen.shape[1], tokens.shape[1])
            same[:, :shared] = tokens[:, :shared] == self._seen[:, :shared]
        if bool((relied_on & ~same).any()):
            raise InputError("advance was given tokens that the last forward pass did not see as its draft")
        return self.inner.advance(context, tokens, count)

    def _check_tokens(self, tokens: Tensor, what: str) -> None:
        if tokens.dtype != torch.int64:
            raise InputError(f"{what} have dtype {tokens.dtype}; tokens are int64")
        if tokens.numel() and (int(tokens.min()) < 0 or int(tokens.max()) >= self.vocab):
            raise InputError(f"{what} hold {int(tokens.min())}..{int(tokens.max())}, outside 0..{self.vocab - 1}")


def row_mask(index: Int[Tensor, " batch"], size: int) -> Bool[Tensor, "batch size"]:
    """For each row, True at the positions below `index`."""
    return torch.arange(size, device=index.device) < index[:, None]
