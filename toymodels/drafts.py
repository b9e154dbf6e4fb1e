"""Draft models for a target: laws q over the same vocabulary and length, from useless to perfect.

    independent   a dense random law by the hash of the prefix; knows nothing of the target
    perturbed     half the target law, half such a random law
    disjoint      random mass on the tokens that the target law likes least: those it forbids, where it forbids any
    one-hot       deterministic: one token per prefix, by hash
    identical     the target itself

Like a toy's, the law of a draft is fixed by its name, `kind:target`. For a target with few sequences it is a table.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from specverify.catalogue import near
from specverify.errors import InputError
from specverify.model import Context, Model
from toymodels.automata import Memory, StateModel, favourite, over_prefixes, skewed
from toymodels.hashing import branches, seed
from toymodels.tables import enumerable, tabulate


def kinds() -> tuple[str, ...]:
    """The kinds of draft model."""
    return (*_ALONE, *_FROM_TARGET, "identical")


def draft(kind: str, target: Model) -> Model:
    """The draft model of that kind for `target`; for `identical`, the target itself.

    Raises:
        InputError: there is no such kind.
    """
    if kind not in kinds():
        raise InputError(f"unknown draft model {kind!r}; {near(kind, kinds())}")
    if kind == "identical":
        return target
    name = f"{kind}:{target.name}"
    weights = _ALONE.get(kind, _random)
    recursion = over_prefixes(seed(name), lambda position, prefix: weights(prefix, target.vocab), eos=target.eos)
    noise = StateModel(name, target.vocab, target.length, recursion, target.dtype, target.device)
    model = Blend(target, noise, _FROM_TARGET[kind]) if kind in _FROM_TARGET else noise
    return tabulate(model) if enumerable(target) else model


@dataclass(frozen=True)
class BlendContext:
    """The target's context beside the noise's."""

    target: Any
    noise: Memory


class Blend:
    """A model whose law is made from a target's law and random noise; one forward pass costs one of the target."""

    def __init__(self, target: Model, noise: StateModel, blend: Callable[[Tensor, Tensor], Tensor]) -> None:
        self.target, self.noise, self.blend = target, noise, blend
        self.name, self.vocab, self.length, self.eos = noise.name, noise.vocab, noise.length, noise.eos
        self.dtype, self.device = noise.dtype, noise.device

    def start(self, batch: int) -> Context:
        """The context of `batch` empty sequences."""
        return BlendContext(self.target.start(batch), self.noise.start(batch))

    def laws(self, context: BlendContext, draft: Int[Tensor, "batch w"]) -> Float[Tensor, "batch w+1 vocab"]:
        """One forward pass."""
        return self.blend(self.target.laws(context.target, draft), self.noise.laws(context.noise, draft))

    def advance(self, context: BlendContext, tokens: Int[Tensor, "batch n"], count: Int[Tensor, " batch"]) -> Context:
        """The context after the first `count` tokens of each row."""
        target = self.target.advance(context.target, tokens, count)
        return BlendContext(target, self.noise.advance(context.noise, tokens, count))


def _random(prefix: Tensor, vocab: int) -> Tensor:
    return skewed(branches(prefix, vocab))


def _one_hot(prefix: Tensor, vocab: int) -> Tensor:
    return (torch.arange(vocab, device=prefix.device) == favourite(prefix, vocab)[:, None]).long()


def _perturbed(p: Tensor, noise: Tensor) -> Tensor:
    return (p + noise) / 2


def _disjoint(p: Tensor, noise: Tensor) -> Tensor:
    least = torch.where(p == p.amin(-1, keepdim=True), noise, 0)
    return least / least.sum(-1, keepdim=True)


_ALONE: dict[str, Callable[[Tensor, int], Tensor]] = {"independent": _random, "one-hot": _one_hot}
_FROM_TARGET: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"perturbed": _perturbed, "disjoint": _disjoint}
