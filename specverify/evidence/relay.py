"""Draws and models that pass everything on to others, and look at it on the way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from specverify.errors import ContractError
from specverify.model import Context, Model, row_mask


class Relay:
    """Draws whose every request goes through one function: (kind, *arguments) -> outcome."""

    def __init__(self, relay: Callable[..., Any]) -> None:
        self.relay = relay

    def accept_run(
        self, probability: Float[Tensor, "batch w"], where: Bool[Tensor, "batch w"]
    ) -> Int[Tensor, " batch"]:
        """See Draws."""
        return self.relay("accept_run", probability, where)  # type: ignore[no-any-return]

    def bernoulli(self, probability: Float[Tensor, "*shape"], where: Bool[Tensor, "*shape"]) -> Bool[Tensor, "*shape"]:
        """See Draws."""
        return self.relay("bernoulli", probability, where)  # type: ignore[no-any-return]

    def categorical(
        self, weights: Float[Tensor, "*shape vocab"], where: Bool[Tensor, "*shape"]
    ) -> Int[Tensor, "*shape"]:
        """See Draws."""
        return self.relay("categorical", weights, where)  # type: ignore[no-any-return]

    def race(self, batch: int, slots: int, vocab: int) -> Float[Tensor, "batch slots noise"]:
        """See Draws."""
        return self.relay("race", batch, slots, vocab)  # type: ignore[no-any-return]

    def winner(
        self,
        race: Float[Tensor, "batch slots noise"],
        weights: Float[Tensor, "batch slots vocab"],
        where: Bool[Tensor, "batch slots"],
    ) -> tuple[Int[Tensor, "batch slots"], Float[Tensor, "batch slots noise"]]:
        """See Draws."""
        return self.relay("winner", race, weights, where)  # type: ignore[no-any-return]

    def earliest(
        self,
        race: Float[Tensor, "batch slots noise"],
        weights: Float[Tensor, "batch vocab"],
        where: Bool[Tensor, "batch slots"],
    ) -> Int[Tensor, " batch"]:
        """See Draws."""
        return self.relay("earliest", race, weights, where)  # type: ignore[no-any-return]

    def uniform(self, like: Float[Tensor, "*shape"], where: Bool[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """See Draws."""
        return self.relay("uniform", like, where)  # type: ignore[no-any-return]

    def normal(self, like: Float[Tensor, "*shape"], where: Bool[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """See Draws."""
        return self.relay("normal", like, where)  # type: ignore[no-any-return]


class Watched:
    """A model that looks at the tokens it is given, and keeps those of the first pass over a window in `draft`."""

    def __init__(self, model: Model) -> None:
        self.inner = model
        self.name, self.vocab, self.length, self.eos = model.name, model.vocab, model.length, model.eos
        self.dtype, self.device = model.dtype, model.device
        self.draft: Tensor | None = None
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        if name == "inner":  # asked for by copying, before there is one
            raise AttributeError(name)
        return getattr(self.inner, name)  # what a family has besides, such as its clusters

    def start(self, batch: int) -> Context:
        """The inner model's."""
        return self.inner.start(batch)

    def laws(self, context: Context, draft: Int[Tensor, "batch w"]) -> Float[Tensor, "batch w+1 vocab"]:
        """The inner model's."""
        self._look(draft, torch.ones_like(draft, dtype=torch.bool), "model.laws was given the draft")
        self.calls += 1
        if self.draft is None and draft.shape[1] > 0:
            self.draft = draft.clone()
        return self.inner.laws(context, draft)

    def advance(self, context: Context, tokens: Int[Tensor, "batch n"], count: Int[Tensor, " batch"]) -> Context:
        """The inner model's."""
        if bool(((count < 0) | (count > tokens.shape[1])).any()):
            raise ContractError(
                f"model.advance was given {tokens.shape[1]} tokens per row and told to take {few(count)}"
            )
        self._look(tokens, row_mask(count, tokens.shape[1]), "model.advance was given the tokens")
        return self.inner.advance(context, tokens, count)

    def _look(self, tokens: Tensor, used: Tensor, what: str) -> None:
        if tokens.dtype != torch.int64:
            raise ContractError(f"{what} in {tokens.dtype}; tokens are int64")
        outside = used & ((tokens < 0) | (tokens >= self.vocab))
        if bool(outside.any()):
            raise ContractError(f"{what} {int(tokens[outside][0])}; tokens are 0..{self.vocab - 1}")


def few(values: Tensor) -> str:
    """Some of the different values, for a message."""
    some = values.unique().tolist()
    return ", ".join(map(str, some[:4])) + (", ..." if len(some) > 4 else "")
