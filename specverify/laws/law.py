"""What a law over continuous tokens is, and how batches of laws are gathered.

A law is a batch of distributions over R^dim: a frozen dataclass of tensors whose first axes, `shape`, are the batch's.
Everything else follows its values alone, so that rows of laws are gathered like rows of a decoder's state (`tree.py`).
Log densities are always double precision, whatever the law's own: a ratio of densities is a difference of large sums.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from specverify import tree
from specverify.draws import Draws
from specverify.errors import InputError

L = TypeVar("L")


@runtime_checkable
class Law(Protocol):
    """A batch of distributions over R^dim.

    Laws whose conditional distribution functions are known have `rosenblatt(x) -> Float[*shape dim]` beside this.
    """

    @property
    def dim(self) -> int: ...  # noqa: D102
    @property
    def shape(self) -> tuple[int, ...]: ...  # noqa: D102

    def log_prob(self, x: Float[Tensor, "*shape dim"]) -> Float[Tensor, "*shape"]:
        """The log density at x, in double precision."""

    def sample(self, draws: Draws, where: Bool[Tensor, "*shape"]) -> Float[Tensor, "*shape dim"]:
        """One token of each distribution, in the law's own precision; 0 where not `where`."""

    def check(self, what: str) -> None:
        """Raise InputError, calling the law `what`, unless its parameters are those of a distribution."""


def select(law: L, index: Int[Tensor, " some"] | Bool[Tensor, "*shape"]) -> L:
    """The laws that a mask over `shape` picks, as a batch of shape [some]; or, by integers, those of the first axis."""
    return tree.map_tensors(law, lambda tensor: tensor[index])


def at(law: L, slot: Int[Tensor, " batch"]) -> L:
    """Each row's law at its own slot: shape [batch, slots] becomes [batch]."""
    return tree.map_tensors(law, lambda tensor: _taken(tensor, slot[:, None]).squeeze(1))


def gather(law: L, slots: Int[Tensor, "batch n"]) -> L:
    """Each row's laws at `n` slots of its own: shape [batch, slots] becomes [batch, n]."""
    return tree.map_tensors(law, lambda tensor: _taken(tensor, slots))


def leading(law: L, size: int) -> L:
    """Each row's laws at its first slots: shape [batch, slots] becomes [batch, size]."""
    return tree.map_tensors(law, lambda tensor: tensor[:, :size])


def window(law: L, first: Int[Tensor, " batch"], size: int) -> L:
    """Each row's laws at the slots first .. first + size - 1; past the last slot the last one again."""

    steps = first[:, None] + torch.arange(size, device=first.device)
    return tree.map_tensors(law, lambda tensor: _taken(tensor, steps.clamp(max=tensor.shape[1] - 1)))


def _taken(tensor: Tensor, slots: Int[Tensor, "batch n"]) -> Tensor:
    """Some of each row's slots."""
    if len(slots) == 1:
        return tensor.index_select(1, slots[0])
    row = torch.arange(len(slots), device=slots.device)[:, None]
    if not tensor.is_contiguous():
        return tensor[row, slots]
    place = (slots + row * tensor.shape[1]).flatten()
    return tensor.flatten(0, 1).index_select(0, place).view(*slots.shape, *tensor.shape[2:])


def choose(mask: Bool[Tensor, "*shape"], law: L, other: L) -> L:
    """`law` where the mask holds, else `other`; both of one kind and shape."""
    others = tree.tensors(other)
    return tree.map_tensors(law, lambda tensor: torch.where(_wide(mask, tensor), tensor, next(others)))


def _wide(mask: Tensor, tensor: Tensor) -> Tensor:
    return mask.reshape(*mask.shape, *(1,) * (tensor.ndim - mask.ndim))


def draw(law: Any, draws: Draws, where: Bool[Tensor, "*shape"]) -> Tensor:
    """One token of each distribution; 0 where not `where`. A tensor is a law over ids: a table of probabilities."""
    return draws.categorical(law, where) if isinstance(law, Tensor) else law.sample(draws, where)


@dataclass(frozen=True)
class Settled:
    """A law of vectors, but where `mask` holds what is settled already."""

    mask: Bool[Tensor, " batch"]
    value: Float[Tensor, "batch dim"]
    law: Law

    def sample(self, draws: Draws, where: Bool[Tensor, " batch"]) -> Float[Tensor, "batch dim"]:
        """See Law."""
        return torch.where(self.mask[:, None], self.value, self.law.sample(draws, where & ~self.mask))


def repeated(law: L, times: int) -> L:
    """Every law of a batch `times` over: shape [batch] becomes [batch, times], without a copy."""
    return tree.map_tensors(law, lambda tensor: tensor[:, None].expand(-1, times, *tensor.shape[1:]))


def check_pair(p: Law, q: Law, x: Tensor) -> None:
    """Raise InputError unless p and q are laws of one shape and dimension, and x a token of each distribution."""
    check_fit(p, q, x)
    p.check("p")
    q.check("q")
    check_tokens(x, p, "the draft tokens")


def check_fit(p: Law, q: Law, x: Tensor | None = None, where: Tensor | None = None) -> None:
    """Raise InputError unless p, q, the drafts and a mask over them have shapes that fit. No value is looked at."""
    if p.dim != q.dim or p.shape != q.shape:
        raise InputError(
            f"p has shape {p.shape} and dimension {p.dim}, q {q.shape} and {q.dim}; "
            "a target law and a draft law are compared row by row over one space"
        )
    if x is not None:
        _check_shape(x, p, "the draft tokens")
    if where is not None and (tuple(where.shape) != p.shape or where.dtype != torch.bool):
        raise InputError(
            f"where has shape {tuple(where.shape)} and dtype {where.dtype}; it says of each of the laws, of shape "
            f"{p.shape}, whether it is wanted: pass bools of that shape"
        )


def check_tokens(x: Tensor, law: Law, what: str) -> None:
    """Raise InputError unless x holds one finite token for each distribution of a law."""
    _check_shape(x, law, what)
    if not x.is_floating_point():
        raise InputError(f"{what} have dtype {x.dtype}; continuous tokens are floating point")
    if not bool(x.isfinite().all()):
        raise InputError(f"{what} hold {float(x[~x.isfinite()][0])}; tokens are finite")


def check_mean(mean: Tensor, what: str) -> None:
    """Raise InputError unless every mean is finite."""
    if not bool(mean.isfinite().all()):
        raise InputError(
            f"{what} has the mean {float(mean[~mean.isfinite()][0])}; means are finite: check the network that gave it"
        )


def check_scale(scale: Tensor, what: str) -> None:
    """Raise InputError unless every scale is positive and finite."""
    bad = ~((scale > 0) & scale.isfinite())
    if bool(bad.any()):
        raise InputError(
            f"{what} has the standard deviation {float(scale[bad][0])}; it must be positive and finite: "
            "a distribution without noise has no density, so bound the variances from below"
        )


def _check_shape(x: Tensor, law: Law, what: str) -> None:
    if tuple(x.shape) != (*law.shape, law.dim):
        raise InputError(
            f"{what} have shape {tuple(x.shape)}, but the law has shape {law.shape} and dimension {law.dim}: "
            f"pass {(*law.shape, law.dim)}"
        )
