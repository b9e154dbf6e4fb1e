"""What samplers go wrong by beside their decoder: noise that comes again far away, batches of few rows, guidance, cuts.

As `sampler_parts`: each is right on targets that have nothing to get wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from specverify import tree
from specverify.decoders.autoregressive import Autoregressive
from specverify.decoders.draft_model import DraftModel
from specverify.decoders.protocol import Decoder
from specverify.decoders.run import Run, run, sample
from specverify.decoders.speculative import Speculative
from specverify.defects.sampler_parts import WINDOW, Build, right
from specverify.defects.views import View
from specverify.draws import Draws, Sampled
from specverify.model import Context, Model
from specverify.processors import Guided, Processed
from specverify.rules.token import at

FEW = 32
"""Rows below which a server takes its other path."""


class Ring(Sampled):
    """Draws whose uniform numbers lie in a buffer that is filled once and then read again from its start."""

    def __init__(self, seed: int, size: int) -> None:
        super().__init__(seed)
        self.size, self.kept, self.calls = size, [torch.zeros(0)] * size, 0

    def uniform(self, like: Float[Tensor, "*shape"], where: Bool[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """See Draws."""
        slot, self.calls = self.calls % self.size, self.calls + 1
        if self.kept[slot].shape != like.shape:  # the first time, and where finished rows have left the batch
            self.kept[slot] = super().uniform(like, where)
        return self.kept[slot]


class FromRowsBefore(Sampled):
    """Draws in which a row gets the number that the row `apart` before it had one draw earlier."""

    def __init__(self, seed: int, apart: int) -> None:
        super().__init__(seed)
        self.apart, self.last = apart, torch.zeros(0)

    def uniform(self, like: Float[Tensor, "*shape"], where: Bool[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """See Draws."""
        numbers = super().uniform(like, where)
        if self.last.shape == numbers.shape and len(numbers) > self.apart:
            numbers[self.apart :] = self.last[: -self.apart]
        self.last = numbers.clone()
        return numbers


def plainly(draws: Callable[[int], Draws]) -> Callable[[Model, Model, int, int], Run]:
    """Plain decoding with flawed draws: one number for each position."""

    def wrong(target: Model, draft: Model, n: int, seed: int) -> Run:
        return run(Autoregressive(), target, n, draws(seed))

    return wrong


def wrong_when_few(target: Model, draft: Model, n: int, seed: int) -> Run:
    """Batches of few rows go another way, where the draft model's tokens are never verified."""
    if n < FEW:
        return sample(Autoregressive(), draft, n, seed)
    return sample(*right(target, draft), n, seed)


def wrong_last_row(target: Model, draft: Model, n: int, seed: int) -> Run:
    """The last row of a batch of several is what an unmasked tail left: the draft model's."""
    rows = sample(*right(target, draft), n, seed)
    if n == 1:
        return rows
    return tree.join([tree.rows(rows, torch.arange(n - 1)), run(Autoregressive(), draft, 1, Sampled(seed, 1))])


def guided(change: Callable[[Guided], Model]) -> Build:
    """Speculative decoding that is shown something else instead of a guided model."""

    def build(target: Model, draft: Model) -> tuple[Decoder, Model]:
        return right(change(target) if isinstance(target, Guided) else target, draft)

    return build


def fed_the_last_token(model: Guided) -> Model:
    """The unconditional branch gets the last token of each step alone, and lacks those that were accepted before it."""

    def advance(inner: Model, context: Context, draft: Tensor, tokens: Tensor, count: Tensor) -> Context:
        assert isinstance(inner, Guided)
        last = tokens.gather(1, (count - 1).clamp(min=0)[:, None])
        some = count.clamp(max=1)
        return inner.conditional.advance(context[0], tokens, count), inner.unconditional.advance(context[1], last, some)

    return View(model, advance=advance)


def fed_by_the_next_row(model: Guided) -> Model:
    """The unconditional branch gets the tokens of the row behind."""

    def advance(inner: Model, context: Context, draft: Tensor, tokens: Tensor, count: Tensor) -> Context:
        assert isinstance(inner, Guided)
        other = inner.unconditional.advance(context[1], tokens.roll(1, 0), count.roll(1, 0))
        return inner.conditional.advance(context[0], tokens, count), other

    return View(model, advance=advance)


def one_scale_more(model: Guided) -> Model:
    """The scale is counted from the conditional law, as other papers do: c + s (c - u) instead of u + s (c - u)."""
    return Guided(model.conditional, model.unconditional, model.scale + 1, name=model.name)


@dataclass(frozen=True)
class KeptMass:
    """The token rule with a cut law that was not renormalised: it adds up to `mass`, in ratios and in residuals."""

    mass: float = 0.8

    def accept(
        self, p: Float[Tensor, "*rows vocab"], q: Float[Tensor, "*rows vocab"], x: Int[Tensor, "*rows"]
    ) -> Float[Tensor, "*rows"]:
        """The ratio, too small."""
        return (self.mass * at(p, x) / at(q, x)).clamp(max=1)

    def recover(
        self, p: Float[Tensor, "*rows vocab"], q: Float[Tensor, "*rows vocab"], x: Int[Tensor, "*rows"]
    ) -> Float[Tensor, "*rows vocab"]:
        """What the too small law leaves, or the law where it leaves nothing."""
        left = (self.mass * p - q).clamp(min=0)
        return torch.where(left.sum(-1, keepdim=True) > 0, left, p)


def not_renormalised(target: Model, draft: Model) -> tuple[Decoder, Model]:
    """`KeptMass` where the target has processors."""
    rule: Any = KeptMass()
    if not isinstance(target, Processed):
        return right(target, draft)
    return Speculative(DraftModel(draft), WINDOW, rule), target
