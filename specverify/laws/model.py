"""The protocol of models over continuous tokens: `specverify.model`'s, with laws over R^dim in place of tables.

    start(batch)                     -> context
    laws(context, draft)             -> p at the next w + 1 positions, a Law of shape [batch, w + 1]
    advance(context, tokens, count)  -> context after each row's first `count` tokens

What is said there of contexts, and of what `advance` may rely on, holds here.
"""

from __future__ import annotations

from typing import Any, Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from specverify.errors import InputError
from specverify.laws.law import Law
from specverify.model import AnyModel, Context


@runtime_checkable
class ContinuousModel(AnyModel, Protocol):
    """A model over tokens in R^dim, whose laws are densities; sequences do not end early.

    Attributes:
        dim: coordinates of a token.
    """

    @property
    def dim(self) -> int: ...  # noqa: D102

    def laws(self, context: Context, draft: Float[Tensor, "batch w dim"]) -> Law:
        """See AnyModel."""


def size_of(model: AnyModel) -> Literal["vocab", "dim"]:
    """What the size of a model's tokens is called. Only this asks a model of which kind it is; else its law tells."""
    return "vocab" if getattr(model, "vocab", None) is not None else "dim"


def check_model(model: Any) -> None:
    """Raise InputError unless a model's sizes are positive and the law of its first token is a distribution.

    One forward pass of one row: what is wrong with a model is mostly wrong from the start. `CheckedContinuous` looks at
    every pass.
    """
    _check_sizes(model)
    nothing = torch.zeros(1, 0, model.dim, dtype=model.dtype, device=model.device)
    _check_laws(model, model.laws(model.start(1), nothing), (1, 1))


class CheckedContinuous:
    """A model that checks every call: shapes, laws, tokens; what `advance` relies on is looked at by `evidence.cached`.

    Slow, since it looks at values; for tests and for a first run of somebody's model or decoder.

    Raises:
        InputError: naming the call and the value.
    """

    def __init__(self, model: ContinuousModel) -> None:
        _check_sizes(model)
        self.inner = model
        self.name, self.dim, self.length = model.name, model.dim, model.length
        self.dtype, self.device = model.dtype, model.device

    def start(self, batch: int) -> Context:
        """As the inner model's."""
        if batch < 1:
            raise InputError(f"cannot start a batch of {batch} sequences; it must be at least 1")
        return self.inner.start(batch)

    def laws(self, context: Context, draft: Float[Tensor, "batch w _"]) -> Law:
        """As the inner model's, with the laws checked."""
        self._check_tokens(draft, "the draft tokens")
        laws = self.inner.laws(context, draft)
        _check_laws(self, laws, (draft.shape[0], draft.shape[1] + 1))
        return laws

    def advance(self, context: Context, tokens: Float[Tensor, "batch n _"], count: Int[Tensor, " batch"]) -> Context:
        """As the inner model's, with the tokens checked."""
        self._check_tokens(tokens, "the committed tokens")
        if bool((count < 0).any()) or bool((count > tokens.shape[1]).any()):
            raise InputError(f"cannot advance by {count.tolist()} of {tokens.shape[1]} tokens")
        return self.inner.advance(context, tokens, count)

    def _check_tokens(self, tokens: Tensor, what: str) -> None:
        if tokens.shape[-1] != self.dim:
            raise InputError(f"{what} have {tokens.shape[-1]} coordinates, but model {self.name!r} has {self.dim}")
        if tokens.dtype != self.dtype:
            raise InputError(f"{what} have dtype {tokens.dtype}, but those of model {self.name!r} have {self.dtype}")
        if not bool(tokens.isfinite().all()):
            raise InputError(f"{what} hold {float(tokens[~tokens.isfinite()][0])}; tokens are finite")


def _check_sizes(model: ContinuousModel) -> None:
    if model.dim < 1 or model.length < 1:
        raise InputError(
            f"model {model.name!r} has dimension {model.dim} and length {model.length}; both must be at least 1"
        )


def _check_laws(model: ContinuousModel, laws: Law, expected: tuple[int, int]) -> None:
    if (laws.shape, laws.dim) != (expected, model.dim):
        raise InputError(
            f"model {model.name!r} gave laws of shape {laws.shape} and dimension {laws.dim}, "
            f"expected {expected} and {model.dim}"
        )
    laws.check(f"a law of model {model.name!r}")
