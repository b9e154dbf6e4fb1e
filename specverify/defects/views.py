"""Views of a model: what a decoder is shown instead of the model that it is held to."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from specverify.model import Context, Model, row_mask


class View:
    """A model with other laws, or another way to advance.

    Args:
        inner: the model.
        laws: as the model's, with the model before its arguments.
        advance: likewise, and with the draft of the last forward pass before the committed tokens.
    """

    def __init__(
        self,
        inner: Model,
        *,
        laws: Callable[[Model, Context, Tensor], Tensor] | None = None,
        advance: Callable[[Model, Context, Tensor, Tensor, Tensor], Context] | None = None,
    ) -> None:
        self.inner, self._laws, self._advance = inner, laws, advance
        self.name, self.vocab, self.length, self.eos = inner.name, inner.vocab, inner.length, inner.eos
        self.dtype, self.device = inner.dtype, inner.device
        self._draft = torch.zeros(0, 0, dtype=torch.int64)

    def start(self, batch: int) -> Context:
        """The inner model's."""
        return self.inner.start(batch)

    def laws(self, context: Context, draft: Int[Tensor, "batch w"]) -> Float[Tensor, "batch w+1 vocab"]:
        """The laws shown."""
        self._draft = draft
        return self.inner.laws(context, draft) if self._laws is None else self._laws(self.inner, context, draft)

    def advance(self, context: Context, tokens: Int[Tensor, "batch n"], count: Int[Tensor, " batch"]) -> Context:
        """The context shown."""
        if self._advance is None:
            return self.inner.advance(context, tokens, count)
        return self._advance(self.inner, context, self._draft, tokens, count)


class BonusFrom:
    """A model whose last row of laws, the one behind the window, is another model's. Its context is a pair."""

    def __init__(self, inner: Model, other: Model) -> None:
        self.inner, self.other = inner, other
        self.name, self.vocab, self.length, self.eos = inner.name, inner.vocab, inner.length, inner.eos
        self.dtype, self.device = inner.dtype, inner.device

    def start(self, batch: int) -> Context:
        """Both models'."""
        return self.inner.start(batch), self.other.start(batch)

    def laws(self, context: Context, draft: Int[Tensor, "batch w"]) -> Float[Tensor, "batch w+1 vocab"]:
        """One forward pass of each."""
        ours, theirs = (model.laws(part, draft) for model, part in zip((self.inner, self.other), context, strict=True))
        return torch.cat([ours[:, :-1], theirs[:, -1:]], 1)

    def advance(self, context: Context, tokens: Int[Tensor, "batch n"], count: Int[Tensor, " batch"]) -> Context:
        """Both models'."""
        ours, theirs = context
        return self.inner.advance(ours, tokens, count), self.other.advance(theirs, tokens, count)


class Unending:
    """A model without an end of sequence: behind the inner model's `eos`, any token may follow.

    What a model says behind its end of sequence is no part of its law over sequences; here it is uniform. The context
    is the inner model's and whether `eos` has come.
    """

    eos = None

    def __init__(self, inner: Model) -> None:
        assert inner.eos is not None  # nobody asks otherwise
        self.inner, self._end = inner, inner.eos
        self.name, self.vocab, self.length = inner.name, inner.vocab, inner.length
        self.dtype, self.device = inner.dtype, inner.device

    def start(self, batch: int) -> Context:
        """The inner model's, with nothing ended."""
        return self.inner.start(batch), torch.zeros(batch, dtype=torch.bool, device=self.device)

    def laws(self, context: Context, draft: Int[Tensor, "batch w"]) -> Float[Tensor, "batch w+1 vocab"]:
        """One forward pass."""
        inner, ended = context
        behind = torch.cat([ended[:, None], ended[:, None] | torch.eq(draft, self._end).cumsum(1).bool()], 1)
        return torch.where(behind[..., None], 1 / self.vocab, self.inner.laws(inner, draft))

    def advance(self, context: Context, tokens: Int[Tensor, "batch n"], count: Int[Tensor, " batch"]) -> Context:
        """The inner model's, and whether `eos` is among the tokens."""
        inner, ended = context
        came = (torch.eq(tokens, self._end) & row_mask(count, tokens.shape[1])).any(1)
        return self.inner.advance(inner, tokens, count), ended | came
