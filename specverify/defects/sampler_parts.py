"""What samplers go wrong by: draws that repeat or are too coarse, and histories that are not the committed ones.

A `Build` gives a decoder and the model that it is shown; a `Sample` is a whole sampler. Both are right where the target
has nothing that they could get wrong (a state, an end of sequence, processors).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from specverify import tree
from specverify.decoders.autoregressive import Autoregressive
from specverify.decoders.draft_model import DraftModel
from specverify.decoders.jacobi import Jacobi
from specverify.decoders.judging import Draft
from specverify.decoders.protocol import Decoder, State
from specverify.decoders.registry import Settings
from specverify.decoders.run import Run, run, sample
from specverify.decoders.speculative import Drafting, Speculative
from specverify.defects import registry
from specverify.defects.views import View
from specverify.draws import Draws, Sampled
from specverify.model import Context, Model
from specverify.processors import Processed

WINDOW = 3
ROWS, REQUESTS = 8, 64
"""Rows with a stream of their own, and requests that a server takes at once."""
Sample = Callable[[Model, Model, int, int], Run]
Build = Callable[[Model, Model], tuple[Decoder, Model]]
"""(target, draft) -> a decoder, and the model that it is shown."""


def right(target: Model, draft: Model) -> tuple[Decoder, Model]:
    """Speculative decoding as it should be."""
    return Speculative(DraftModel(draft), WINDOW), target


def over(build: Build) -> Sample:
    """A sampler without a flaw of its own, over a decoder that may have one."""

    def wrong(target: Model, draft: Model, n: int, seed: int) -> Run:
        return sample(*build(target, draft), n, seed)

    return wrong


def drawing(draws: Callable[[int], Draws]) -> Sample:
    """A sampler over the right decoder, whose draws for a seed are flawed."""

    def wrong(target: Model, draft: Model, n: int, seed: int) -> Run:
        return run(*right(target, draft), n, draws(seed))

    return wrong


def decoder_defect(name: str) -> Build:
    """A known-wrong decoder where the target has what it needs, else the right one."""

    def build(target: Model, draft: Model) -> tuple[Decoder, Model]:
        defect = registry.get(name)
        context = target.start(1)
        lacks_state = not (hasattr(context, "state") and hasattr(context, "position"))
        if ("state" in defect.needs and lacks_state) or ("eos" in defect.needs and target.eos is None):
            return right(target, draft)
        return defect.build(Settings(WINDOW, draft_model=draft)), target

    return build


class Flawed(Sampled):
    """Draws whose uniform numbers pass through a function."""

    def __init__(self, seed: int, flaw: Callable[[Tensor], Tensor]) -> None:
        super().__init__(seed)
        self.flaw = flaw

    def uniform(self, like: Float[Tensor, "*shape"], where: Any) -> Float[Tensor, "*shape"]:
        """See Draws."""
        return self.flaw(super().uniform(like, where))


class SharedCoins(Sampled):
    """Draws with one acceptance coin for all rows; tokens are drawn apart."""

    def accept_run(self, probability: Float[Tensor, "batch w"], where: Any) -> Int[Tensor, " batch"]:
        """See Draws."""
        coin = super().uniform(probability[:1], where[:1])
        run: Tensor = ((coin < probability) & where).cumprod(-1).sum(-1)
        return run


class Twins(Sampled):
    """Draws with two generators of one seed: one for the tokens, the other for the coins."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.twin = Sampled(seed)

    def accept_run(self, probability: Float[Tensor, "batch w"], where: Any) -> Int[Tensor, " batch"]:
        """See Draws."""
        return self.twin.accept_run(probability, where)


def same_in_all_rows(numbers: Tensor) -> Tensor:
    """The first row's numbers in every row."""
    return numbers[:1].expand_as(numbers)


def coarse(bits: int) -> Callable[[Tensor], Tensor]:
    """Numbers of so many bits."""
    return lambda numbers: (numbers * 2**bits).floor() / 2**bits


def unfilled_rows(numbers: Tensor) -> Tensor:
    """Zeros in every other row."""
    filled = torch.arange(len(numbers), device=numbers.device) % 2 == 0
    return numbers.where(filled.view(-1, *[1] * (numbers.ndim - 1)), 0.0)


def row_streams(target: Model, draft: Model, n: int, seed: int) -> Run:
    """Row r draws from the stream of seed + r: the next call's seed gives the same rows, one place earlier."""
    decoder, shown = right(target, draft)
    parts = [run(decoder, shown, 1, Sampled(seed + row)) for row in range(min(n, ROWS))]
    first = tree.join(parts)
    if n <= ROWS:
        return first
    # Rows of one seed each are slow; those behind the first few are drawn together.
    return tree.join([first, run(decoder, shown, n - ROWS, Sampled(seed, 1))])


def twins(target: Model, draft: Model, n: int, seed: int) -> Run:
    """A window of 1, so that in the first step the coin is the number that drew its draft."""
    return run(Speculative(DraftModel(draft), 1), target, n, Twins(seed))


def same_seed(target: Model, draft: Model, n: int, seed: int) -> Run:
    """The seed is not looked at."""
    return sample(*right(target, draft), n, 42)


def same_blocks(target: Model, draft: Model, n: int, seed: int) -> Run:
    """Requests are served some at a time, and the generator is seeded anew for each such batch."""
    decoder, shown = right(target, draft)
    batches = [min(REQUESTS, n - first) for first in range(0, n, REQUESTS)]
    return tree.join([run(decoder, shown, size, Sampled(seed)) for size in batches])


class Burning(Sampled):
    """Draws that throw numbers away before each that is used."""

    def uniform(self, like: Float[Tensor, "*shape"], where: Any) -> Float[Tensor, "*shape"]:
        """See Draws."""
        torch.rand(3, generator=self.generator)
        return super().uniform(like, where)


def without_processors(target: Model, draft: Model) -> tuple[Decoder, Model]:
    """The law before temperature, top-k and the like."""
    return right(target.inner if isinstance(target, Processed) else target, draft)


def perturbed(size: float) -> Build:
    """A pass over several rows rounds otherwise than a pass over one: the higher its id, the more a token gains."""

    def build(target: Model, draft: Model) -> tuple[Decoder, Model]:
        raw = target.inner if isinstance(target, Processed) else target
        processors = target.processors if isinstance(target, Processed) else ()

        def laws(inner: Model, context: Context, tokens: Tensor) -> Tensor:
            law = inner.laws(context, tokens)
            gain = size * torch.arange(law.shape[-1], device=law.device)
            moved: Tensor = law * (1 + gain) if tokens.shape[1] > 0 else law
            moved = moved / moved.sum(-1, keepdim=True)
            for processor in processors:
                moved = processor(moved)
            return moved

        return right(View(raw, laws=laws), draft)

    return build


class Ranks:
    """A model whose two halves lie on two ranks, each with a cache of its own; the law is the mean of both ranks'.

    Each rank draws the last token of a step for itself. The first rank's tokens are those that are emitted.
    """

    def __init__(self, inner: Model, noise: Draws) -> None:
        self.inner, self.noise = inner, noise
        self.name, self.vocab, self.length, self.eos = inner.name, inner.vocab, inner.length, inner.eos
        self.dtype, self.device = inner.dtype, inner.device
        self._laws = torch.zeros(0, 0, inner.vocab)

    def start(self, batch: int) -> Context:
        """One context for each rank."""
        return self.inner.start(batch), self.inner.start(batch)

    def laws(self, context: Context, draft: Int[Tensor, "batch w"]) -> Float[Tensor, "batch w+1 vocab"]:
        """One forward pass on both ranks."""
        self._laws = (self.inner.laws(context[0], draft) + self.inner.laws(context[1], draft)) / 2
        return self._laws

    def advance(self, context: Context, tokens: Int[Tensor, "batch n"], count: Int[Tensor, " batch"]) -> Context:
        """The first rank by the tokens, the second with a last token of its own."""
        last = (count - 1).clamp(min=0)[:, None]
        law = self._laws.gather(1, last[..., None].expand(-1, 1, self.vocab))
        own = tokens.scatter(1, last, self.noise.categorical(law, (count > 0)[:, None]))
        return self.inner.advance(context[0], tokens, count), self.inner.advance(context[1], own, count)


def diverging(target: Model, draft: Model, n: int, seed: int) -> Run:
    """Two ranks with noise of their own."""
    return run(right(target, draft)[0], Ranks(target, Sampled(seed, 1)), n, Sampled(seed))


@dataclass(frozen=True)
class Kept:
    """What `StaleDrafts` carries: the inner drafting's, and the drafts of the last window."""

    inner: Any
    token: Int[Tensor, "batch window"]
    law: Float[Tensor, "batch window vocab"]


@dataclass(frozen=True)
class StaleDrafts:
    """A drafting that is skipped where less than a window is left: the drafts of the step before are verified again.

    Args:
        inner: the right drafting.
    """

    inner: Drafting
    name: str = "stale"

    def start(self, model: Model, batch: int, window: int, draws: Draws) -> Kept:
        """See Drafting."""
        token = torch.zeros(batch, window, dtype=torch.int64, device=model.device)
        law = torch.zeros(batch, window, model.vocab, dtype=model.dtype, device=model.device)
        law[..., 0] = 1
        return Kept(self.inner.start(model, batch, window, draws), token, law)

    def propose(self, state: State, model: Model, window: int, draws: Draws) -> Draft:
        """See Drafting."""
        kept: Kept = state.drafting
        draft = self.inner.propose(replace(state, drafting=kept.inner), model, window, draws)
        skipped = (model.length - state.length < window)[:, None]
        return replace(
            draft,
            token=torch.where(skipped, kept.token, draft.token),
            law=torch.where(skipped[..., None], kept.law, draft.law),
        )

    def carry(
        self,
        before: State,
        after: State,
        draft: Draft,
        laws: Float[Tensor, "batch slots vocab"],
        count: Int[Tensor, " batch"],
        draws: Draws,
    ) -> Kept:
        """See Drafting."""
        kept: Kept = before.drafting
        inner = self.inner.carry(replace(before, drafting=kept.inner), after, draft, laws, count, draws)
        return Kept(inner, draft.token, draft.law)


def stale(target: Model, draft: Model) -> tuple[Decoder, Model]:
    """`StaleDrafts` of a draft model."""
    return Speculative(StaleDrafts(DraftModel(draft)), WINDOW), target


def jacobi(target: Model, draft: Model) -> tuple[Decoder, Model]:
    """Maximally coupled Jacobi decoding."""
    return Speculative(Jacobi("maximal", "repeat-left"), WINDOW), target


def plain(target: Model, draft: Model) -> tuple[Decoder, Model]:
    """Autoregressive decoding."""
    return Autoregressive(), target
