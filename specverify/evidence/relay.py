"""Draws and models that pass everything on to others, and look at it on the way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from specverify import tree
from specverify.model import Context, Model, Pass, Passes, check_count, check_tokens, same_tensors


class Relay:
    """Draws whose every request goes through one function: (kind, *arguments) -> outcome.

    Args:
        relay: the function.
        generator: of the draws behind it, where it is lent; else there is no such attribute.
    """

    def __init__(self, relay: Callable[..., Any], generator: torch.Generator | None = None) -> None:
        self.relay = relay
        if generator is not None:
            self.generator = generator

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

    def race(
        self, batch: int, slots: int, vocab: int, where: Bool[Tensor, "batch slots"] | None = None
    ) -> Float[Tensor, "batch slots noise"]:
        """See Draws."""
        return self.relay("race", batch, slots, vocab, where)  # type: ignore[no-any-return]

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
    """A model that looks at the tokens it is given, and remembers its passes since the last `begin`.

    Attributes:
        passes: those since the last `begin`.
        calls: forward passes in all.
        breach: how `advance` was first called against its contract; empty if it never was.
    """

    def __init__(self, model: Model) -> None:
        self.inner, self.breach = model, ""
        self.name, self.vocab, self.length, self.eos = model.name, model.vocab, model.length, model.eos
        self.dtype, self.device = model.dtype, model.device
        self.calls = 0
        self.begin()

    def begin(self, state: Any = None) -> None:
        """Forget all passes; what follows starts from the contexts of this state."""
        self.passes, self._ahead = Passes(state=state), list[tuple[Context, Tensor]]()

    def ahead(self, context: Context) -> Tensor | None:
        """How many tokens a context has more than the state's, per row; None if it is not known."""
        if self.passes.was_there(context):
            first = next(tree.tensors(context))
            return torch.zeros(len(first), dtype=torch.int64, device=first.device)
        return next((count for known, count in reversed(self._ahead) if same_tensors(known, context)), None)

    def __getattr__(self, name: str) -> Any:
        if name == "inner":  # asked for by copying, before there is one
            raise AttributeError(name)
        return getattr(self.inner, name)  # what a family has besides, such as its clusters

    def start(self, batch: int) -> Context:
        """The inner model's."""
        context = self.inner.start(batch)
        self.passes.lent.append(context)
        return context

    def laws(self, context: Context, draft: Int[Tensor, "batch w"]) -> Float[Tensor, "batch w+1 vocab"]:
        """The inner model's."""
        check_tokens(draft, torch.ones_like(draft, dtype=torch.bool), self.vocab, "model.laws was given the draft")
        self.calls += 1
        self.passes.made.append(Pass(context, draft.clone()))
        return self.inner.laws(context, draft)

    def advance(self, context: Context, tokens: Int[Tensor, "batch n"], count: Int[Tensor, " batch"]) -> Context:
        """The inner model's."""
        check_count(tokens, count, self.vocab)
        self.breach = self.breach or self.passes.breach(context, tokens, count)
        after = self.inner.advance(context, tokens, count)
        self.passes.lent.append(after)
        if (ahead := self.ahead(context)) is not None:
            self._ahead.append((after, ahead + count))
        return after


def few(values: Tensor) -> str:
    """Some of the different values, for a message."""
    some = values.unique().tolist()
    return ", ".join(map(str, some[:4])) + (", ..." if len(some) > 4 else "")


def runs_torch(decoder: object) -> bool:
    """Whether a decoder is one of the project's that run somebody's code, with torch's draws."""
    ours = type(decoder).__module__.partition(".")[0] == "specverify"
    return ours and bool(getattr(decoder, "draws_with_torch", False))
