"""Toys as causal models that are nothing but a call, for loops that ask of a model no more than `model(ids).logits`.

def step(draft, target, ids):  # ids Int[1, n], of which the first is a start -> Int[1, more]
    return theirs.speculative_step(draft, target, ids, gamma=2)

judge_sampler(step_sampler(step))
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from specverify.errors import InputError
from specverify.model import Model
from specverify.subjects.sampler_series import Sampler

START = 0
"""The id that a sequence begins with; its law is that of the first token."""


@dataclass(frozen=True)
class Output:
    """What a call returns; a loop that unpacks it gets the logits and nothing, as of a model without a cache.

    Attributes:
        logits: log p of the token behind each id; any law behind the toy's last.
    """

    logits: Float[Tensor, "batch n vocab"]

    def __iter__(self) -> Iterator[Tensor | None]:
        return iter((self.logits, None))


@dataclass(frozen=True)
class Causal:
    """A toy as a callable: ids Int[batch, n], the first a start, to `Output`; other arguments are ignored."""

    model: Model

    def __call__(self, ids: Int[Tensor, "batch n"], *_: object, **__: object) -> Output:
        """One forward pass."""
        return Output(self.model.laws(self.model.start(len(ids)), ids[:, 1:]).log())


Step = Callable[[Causal, Causal, Tensor], Tensor]


def step_sampler(step: Step) -> Sampler:
    """A step of a decoder, one sequence at a time, as a sampler to be judged at level `sampler`.

    Args:
        step: (draft, target, ids Int[1, n]) -> ids Int[1, more], which begin with those given. It is called until a
            sequence is as long as the toy's, whose tokens are then the first of what it made.

    Raises:
        InputError: when called, for a step that returns something else, or nothing new.
    """

    def sample(target: Model, draft: Model, n: int, seed: int) -> Tensor:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.default_generator.manual_seed(seed)
            return torch.stack([_sequence(step, Causal(draft), Causal(target)) for _ in range(n)])

    sample.__qualname__ = getattr(step, "__qualname__", type(step).__name__)
    return sample


def _sequence(step: Step, draft: Causal, target: Causal) -> Int[Tensor, " length"]:
    ids, model = torch.tensor([[START]]), target.model
    while ids.shape[1] <= model.length and (model.eos is None or model.eos not in ids[0, 1:]):
        made = step(draft, target, ids)
        if not isinstance(made, Tensor) or made.shape[:1] != (1,) or made.shape[-1] <= ids.shape[1]:
            raise InputError(f"the step returned {made!r:.200}; it returns the ids that it was given, [1, n], and more")
        ids = made
    tokens = ids[0, 1 : model.length + 1]
    if model.eos is None:
        return tokens
    ended = (tokens == model.eos).cumsum(0) > 0
    tokens = tokens.where(~ended, model.eos)
    return torch.nn.functional.pad(tokens, (0, model.length - len(tokens)), value=model.eos)
