"""Toys as causal models that are nothing but a call, for loops that ask of a model no more than `model(ids).logits`.

def step(draft, target, ids):  # ids Int[1, n], of which the first is a start -> Int[1, more]
    return theirs.speculative_step(draft, target, ids, gamma=2)

judge_sampler(step_sampler(step))

Loops that keep a cache get models of transformers (`cached=True`), and what is no loop but the verification of some
drafts gets one around it:

def verify(draft, q, p):  # Int[1, n], Float[1, n, vocab], Float[1, n + 1, vocab] -> how many are kept, what follows
    return theirs.rejection_sample(draft, q, p)

judge_sampler(verification_sampler(verify))
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from specverify.errors import InputError
from specverify.integrations.attention import Pass, kept
from specverify.integrations.pretrained import Last, pretrained
from specverify.integrations.prompts import Prompts, in_turn
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


@dataclass
class Causal:
    """A toy as a callable: ids Int[batch, n], the first a start, to `Output`.

    Of what else it is given, the mask, positions and `logits_to_keep` count: see `integrations.attention`.
    """

    model: Model
    remarks: list[str]
    passes: int = 0

    def __call__(
        self,
        ids: Int[Tensor, "batch n"],
        attention_mask: Any = None,
        position_ids: Any = None,
        logits_to_keep: Any = 0,
        **others: Any,
    ) -> Output:
        """One forward pass."""
        if others.get("past_key_values") is not None or others.get("cache") is not None:
            raise ValueError("this model keeps no cache; step_sampler(step, cached=True) hands over models that do")
        self.passes += 1
        if attention_mask is None and position_ids is None:
            return Output(kept(self._logits(ids), logits_to_keep))
        read = Pass.of(ids, None, position_ids, self.model.dtype, self.remarks, **others)
        return Output(kept(read.logits(self._logits, self.model.vocab, attention_mask), logits_to_keep))

    def _logits(
        self, ids: Int[Tensor, "batch n"], length: Int[Tensor, " batch"] | None = None
    ) -> Float[Tensor, "batch n vocab"]:
        return self.model.laws(self.model.start(len(ids)), ids[:, 1:]).log()


Step = Callable[[Any, Any, Tensor], Tensor]
Verify = Callable[[Tensor, Tensor, Tensor], tuple[Any, Any]]


def step_sampler(step: Step, *, cached: bool = False) -> Sampler:
    """A step of a decoder, one sequence at a time, as a sampler to be judged at level `sampler`.

    Args:
        step: (draft, target, ids Int[1, n]) -> ids Int[1, more], which begin with those given. It is called until a
            sequence is as long as the toy's, whose tokens are then the first of what it made.

    Other args:
        cached: whether the models are those of `integrations.pretrained`, which keep a cache; each sequence of a call
            begins with another of their prompts (`integrations.prompts`). The toy is their attribute `toys[0]`.

    Raises:
        InputError: when called, for a step that returns something else, or nothing new.
    """

    remarks: list[str] = []
    fewer: list[bool] = []
    opened = Last(pretrained)

    def sample(target: Model, draft: Model, n: int, seed: int) -> Tensor:
        models: tuple[Any, Any] = (Causal(draft, []), Causal(target, remarks))
        if cached:
            models = (opened(draft).anew(), opened(target).anew())
            models[1].remarks = remarks
        prompts = Prompts(target.vocab, target.eos)
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.default_generator.manual_seed(seed)
            asked = [in_turn(row, 1)[0] if cached else 0 for row in range(n)]
            begun = [prompts.of(number) if cached else [START] for number in asked]
            rows = [_sequence(step, *models, target, prompt) for prompt in begun]
            fewer.extend([True] * (not fewer and target.eos is None and models[1].passes < n * target.length))
            return torch.stack([prompts.back(row, number) for row, number in zip(rows, asked, strict=True)])

    sample.remarks, sample.fewer = remarks, fewer  # type: ignore[attr-defined]
    sample.__qualname__ = getattr(step, "__qualname__", type(step).__name__)
    return sample


def verification_sampler(verify: Verify, *, window: int = 2) -> Sampler:
    """A verification of drafts in a loop around it, one sequence at a time, to be judged at level `sampler`.

    Args:
        verify: (draft Int[1, window], q Float[1, window, vocab], p Float[1, window + 1, vocab]) -> (how many drafts are
            kept, the token that follows them), whole numbers. The drafts were drawn from `q`; `p` has one law more, of
            what follows when all are kept.

    Other args:
        window: drafts per call.
    """

    def step(draft: Causal, target: Causal, ids: Tensor) -> Tensor:
        drafted = ids
        for _ in range(window):
            drafted = torch.cat([drafted, torch.multinomial(draft(drafted).logits[:, -1].exp(), 1)], 1)
        q, p = draft(drafted).logits[:, -window - 1 : -1].exp(), target(drafted).logits[:, -window - 1 :].exp()
        kept, token = verify(drafted[:, -window:], q, p)
        return torch.cat([drafted[:, : ids.shape[1] + int(kept)], torch.tensor([[int(token)]])], 1)

    step.__qualname__ = getattr(verify, "__qualname__", type(verify).__name__)
    return step_sampler(step)


def _sequence(step: Step, draft: Any, target: Any, model: Model, prompt: list[int]) -> Int[Tensor, " length"]:
    ids, begin = torch.tensor([prompt]), len(prompt)
    while ids.shape[1] < begin + model.length and (model.eos is None or model.eos not in ids[0, begin:]):
        made = step(draft, target, ids)
        if not isinstance(made, Tensor) or made.shape[:1] != (1,) or made.shape[-1] <= ids.shape[1]:
            raise InputError(f"the step returned {made!r:.200}; it returns the ids that it was given, [1, n], and more")
        ids = made
    tokens = ids[0, begin : begin + model.length]
    if model.eos is None:
        return tokens
    ended = (tokens == model.eos).cumsum(0) > 0
    tokens = tokens.where(~ended, model.eos)
    return torch.nn.functional.pad(tokens, (0, model.length - len(tokens)), value=model.eos)
