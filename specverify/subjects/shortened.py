"""Models cut to their first positions, so that few sequences are enough to know their law."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from specverify.errors import InputError
from specverify.model import Context, Model
from specverify.processors import Guided


class Shortened:
    """A model cut to its first `length` positions, so that fewer sequences are enough to know its law."""

    def __init__(self, inner: Model, length: int) -> None:
        if not 1 <= length <= inner.length:
            raise InputError(f"cannot cut {inner.name!r} to {length} positions; it has {inner.length}")
        self.inner, self.length = inner, length
        self.name, self.vocab, self.eos = f"{inner.name}[:{length}]", inner.vocab, inner.eos
        self.dtype, self.device = inner.dtype, inner.device

    def start(self, batch: int) -> Context:
        """The inner model's."""
        return self.inner.start(batch)

    def laws(self, context: Context, draft: Int[Tensor, "batch w"]) -> Float[Tensor, "batch w+1 vocab"]:
        """The inner model's."""
        return self.inner.laws(context, draft)

    def advance(self, context: Context, tokens: Int[Tensor, "batch n"], count: Int[Tensor, " batch"]) -> Context:
        """The inner model's."""
        return self.inner.advance(context, tokens, count)


def guided_still(model: Model) -> Model:
    """A guided model that was cut short, as one of two parts that were: for what is handed both of them."""
    if not isinstance(model, Shortened) or not isinstance(model.inner, Guided):
        return model
    whole, length = model.inner, model.length
    cut = Closed if isinstance(model, Closed) else Shortened
    conditional, unconditional = (cut(part, length) for part in (whole.conditional, whole.unconditional))
    return Guided(conditional, unconditional, whole.scale, name=model.name)


@dataclass(frozen=True)
class Ending:
    """The context of a model that knows whether a row has ended."""

    inner: Any
    ended: Bool[Tensor, " batch"]


class Ended(Shortened):
    """A model behind whose end of sequence all tokens are alike, so that what goes on there is seen."""

    def __init__(self, inner: Model) -> None:
        super().__init__(inner, inner.length)
        self.name = inner.name

    def start(self, batch: int) -> Ending:
        """The inner model's; nothing has ended."""
        return Ending(self.inner.start(batch), torch.zeros(batch, dtype=torch.bool, device=self.device))

    def laws(self, context: Ending, draft: Int[Tensor, "batch w"]) -> Float[Tensor, "batch w+1 vocab"]:
        """The inner model's, up to an end."""
        laws = self.inner.laws(context.inner, draft)
        ended = torch.cat([context.ended[:, None], self._ends(draft)], 1).cumsum(1) > 0
        return torch.where(ended[..., None], 1 / self.vocab, laws)

    def advance(self, context: Ending, tokens: Int[Tensor, "batch n"], count: Int[Tensor, " batch"]) -> Ending:
        """The inner model's."""
        some = torch.arange(tokens.shape[1], device=self.device) < count[:, None]
        ended = context.ended | (self._ends(tokens) & some).any(1)
        return Ending(self.inner.advance(context.inner, tokens, count), ended)

    def _ends(self, tokens: Tensor) -> Bool[Tensor, "batch n"]:
        return tokens == torch.tensor(-1 if self.eos is None else self.eos, device=self.device)


@dataclass(frozen=True)
class Counted:
    """The context of a model that knows how many tokens it has seen."""

    inner: Any
    count: Int[Tensor, " batch"]


class Closed(Shortened):
    """A model cut to its first positions, past which no law leaves a choice: drafts that go there take no worlds.

    Args:
        inner: the model.
        length: how many.
        past: the token that comes there. Where a target's is another than its draft model's, no draft is kept there.
    """

    def __init__(self, inner: Model, length: int, past: int = 0) -> None:
        super().__init__(inner, length)
        self.name = self.name if length < inner.length else inner.name
        self._past = (torch.arange(self.vocab, device=self.device) == past).to(self.dtype)

    def start(self, batch: int) -> Counted:
        """The inner model's, and no tokens."""
        return Counted(self.inner.start(batch), torch.zeros(batch, dtype=torch.int64, device=self.device))

    def laws(self, context: Counted, draft: Int[Tensor, "batch w"]) -> Float[Tensor, "batch w+1 vocab"]:
        """The inner model's, as far as it goes."""
        laws = self.inner.laws(context.inner, draft)
        position = context.count[:, None] + torch.arange(laws.shape[1], device=self.device)
        return torch.where((position < self.length)[..., None], laws, self._past)

    def advance(self, context: Counted, tokens: Int[Tensor, "batch n"], count: Int[Tensor, " batch"]) -> Counted:
        """The inner model's."""
        return Counted(self.inner.advance(context.inner, tokens, count), context.count + count)
