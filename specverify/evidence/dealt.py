"""Rows that begin with conditions of their own, which take turns, as classes and prompts of image models do."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from specverify.model import Context, Model


class Dealt:
    """A model of which every other row has its laws with the tokens in reverse.

    Args:
        inner: the model.
        first: the condition of the first row: 0 for laws as they are, 1 for reversed ones.
    """

    def __init__(self, inner: Model, first: int = 0) -> None:
        self.inner, self.first = inner, first

    def __getattr__(self, name: str) -> Any:
        if name == "inner":  # asked for by copying, before there is one
            raise AttributeError(name)
        return getattr(self.inner, name)

    def start(self, batch: int) -> Context:
        """See Model."""
        return self.inner.start(batch), (self.first + torch.arange(batch)) % 2

    def laws(self, context: Context, draft: Int[Tensor, "batch w"]) -> Float[Tensor, "batch w+1 vocab"]:
        """See Model."""
        inner, condition = context
        laws = self.inner.laws(inner, draft)
        return torch.where(condition[:, None, None] == 1, laws.flip(-1), laws)

    def advance(self, context: Context, tokens: Int[Tensor, "batch n"], count: Int[Tensor, " batch"]) -> Context:
        """See Model."""
        inner, condition = context
        return self.inner.advance(inner, tokens, count), condition
