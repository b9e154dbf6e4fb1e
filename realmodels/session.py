"""Any causal transformer as an image model: window passes over one cache in which every row has its own length.

An adapter gives a `Network`: how prompts and image tokens become inputs, a pass, a head. Here is all that adapters have
in common: prompts of different lengths are padded on the left, guidance runs two rows of the cache side by side in one
pass, and each pass gives a transformer explicit positions and a 4-D mask.

A row's slots are its prompt, right-aligned, then its image tokens, then one slot for what lies past the end, which
nothing reads. The last input of the prompt and the last committed token are fed at the head of the next window.

A context is a handle: which row of the cache, and how long. Rolling back is *not advancing*. So contexts are used one
after the other: a pass on an old one overwrites what a newer one counts on. Rows that were selected (`tree.rows`: rows
that are done dropped, chains of drafts made) are gathered at the first pass that sees them, once; contexts from before
are then refused.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from realmodels.grammar import Grammar
from realmodels.images import Description
from realmodels.ragged import Inputs, Ragged, additive_mask
from specverify.errors import ContractError, InputError
from specverify.model import Model, check_laws
from specverify.processors import Processor

_NUMBERS = itertools.count()


@dataclass(frozen=True)
class Prompt:
    """A condition as inputs of the transformer.

    Attributes:
        conditional: at least one, the last of which is answered by the law of the first image token.
        unconditional: likewise, for guidance; it may be shorter or longer. None if there is none.
    """

    conditional: Float[Tensor, "inputs width"]
    unconditional: Float[Tensor, "others width"] | None


@runtime_checkable
class Network(Protocol):
    """What an adapter gives.

    Attributes:
        name: of the model.
        vocab, length: of images.
        grammar: which tokens may stand where, or None.
        size: of an image, in pixels.
        dtype, device: of the weights.
        description: of the weights.
    """

    name: str
    vocab: int
    length: int
    grammar: Grammar | None
    size: tuple[int, int]
    dtype: torch.dtype
    device: torch.device
    description: Description

    def prompt(self, condition: Any) -> Prompt:
        """A condition as inputs; InputError if it cannot be one."""

    def embed(self, tokens: Int[Tensor, "rows n"]) -> Float[Tensor, "rows n width"]:
        """Image tokens as inputs."""

    def hidden(self, inputs: Inputs) -> Float[Tensor, "rows n width"]:
        """A pass: what the head reads, at every input."""

    def logits(self, hidden: Float[Tensor, "rows n width"]) -> Float[Tensor, "rows n vocab"]:
        """The head."""

    def guide(
        self, conditional: Float[Tensor, "batch n vocab"], unconditional: Float[Tensor, "batch n vocab"], scale: float
    ) -> Float[Tensor, "batch n vocab"]:
        """Guided logits, computed as the model's own code computes them."""

    def render(self, tokens: Int[Tensor, "n length"]) -> Float[Tensor, "n channels height width"]:
        """Pixels from 0 to 1."""


def guide_logits(conditional: Tensor, unconditional: Tensor, scale: float) -> Tensor:
    """u + s (c - u) of logits: scale 1 is conditional."""
    return unconditional + scale * (conditional - unconditional)


def guide_log_laws(conditional: Tensor, unconditional: Tensor, scale: float) -> Tensor:
    """The same of logarithms of probabilities. The law is the same one, up to rounding."""
    return guide_logits(conditional.log_softmax(-1), unconditional.log_softmax(-1), scale)


class Session:
    """The cache of a batch, and the prompts of its rows.

    Args:
        network: whose passes they are.
        front: the prompts, padded on the left.
        pad: how much of each is padding.
    """

    def __init__(
        self,
        network: Network,
        front: Float[Tensor, "batch passes inputs width"],
        pad: Int[Tensor, "batch passes"],
    ) -> None:
        batch, self.passes, self.inputs = front.shape[:3]
        self.network, self.last, self.pad = network, front[:, :, -1], pad
        self.bin = self.inputs - 1 + network.length
        self.cache = Ragged(batch * self.passes, self.bin + 1, self.inputs)
        self._name_rows(batch)
        self._origin: Tensor | None = None
        if self.inputs > 1:
            slots = torch.arange(self.inputs - 1, device=pad.device).expand(batch, -1)
            self.feed(front[:, :, :-1], slots)

    def feed(
        self, inputs: Float[Tensor, "batch passes n width"], slots: Int[Tensor, "batch n"]
    ) -> Float[Tensor, "rows n hidden"]:
        """One pass that writes at these slots; rows are the batch with its passes beside each other."""
        slots = slots.clamp(max=self.bin)[:, None].expand(-1, self.passes, -1).flatten(0, 1)
        mask = additive_mask(self.visible(slots), self.network.dtype)
        self.cache.aim(slots)
        return self.network.hidden(Inputs(inputs.flatten(0, 1), self.positions(slots), mask, self.cache))

    def positions(self, slots: Int[Tensor, "rows n"]) -> Int[Tensor, "rows n"]:
        """Position ids: padding does not count, and the slot past the end has none of its own."""
        return (slots.clamp(max=self.bin - 1) - self.pad.flatten()[:, None]).clamp(min=0)

    def visible(self, slots: Int[Tensor, "rows n"]) -> Bool[Tensor, "rows n slots"]:
        """Which slots of the cache the inputs at these see: what is before them and no padding, and themselves."""
        key, pad = torch.arange(self.bin + 1, device=slots.device), self.pad.flatten()[:, None, None]
        # Padding sees itself: a row of a mask that hides everything would be NaN.
        return (key <= slots[..., None]) & (key >= pad) | (key == slots[..., None])

    def gather(self, context: Context) -> None:
        """Make a context's rows those of the cache. Costs nothing, and waits for nothing, where they are already.

        Raises:
            ContractError: for a context from before other rows were selected.
        """
        if context.row is self.row or context.row is self._origin:
            return
        if not bool((context.layout == self._number).all()):
            raise ContractError(
                "this context is of rows as they lay before others were selected, or of two starts: its cache was "
                "overwritten. Use the contexts of one start one after the other, and start anew to go two ways"
            )
        index, batch = context.row, len(context.row)
        if not torch.equal(index, self.row[:batch]):
            each = index[:, None] * self.passes + torch.arange(self.passes, device=index.device)
            self.cache.select(each.flatten())
        self.last, self.pad = self.last.index_select(0, index), self.pad.index_select(0, index)
        self._name_rows(batch)
        self._origin = index

    def moved(self, context: Context) -> Context:
        """A context whose rows were gathered last, in the names that they have now."""
        return replace(context, row=self.row, layout=self.layout) if context.row is self._origin else context

    def _name_rows(self, batch: int) -> None:
        self._number = next(_NUMBERS)
        self.row = torch.arange(batch, device=self.pad.device)
        self.layout = torch.full_like(self.row, self._number)


@dataclass(frozen=True)
class Context:
    """Sequences begun.

    Attributes:
        session: the cache.
        row: each sequence's row of it.
        layout: the number of the order of rows that `row` belongs to.
        length: tokens committed.
        pending: the last of them, fed at the head of the next window (nothing where there is none).
    """

    session: Session
    row: Int[Tensor, " batch"]
    layout: Int[Tensor, " batch"]
    length: Int[Tensor, " batch"]
    pending: Int[Tensor, " batch"]


class ImageTransformer:
    """An `ImageModel` made of a network.

    Main arguments:
        network: an adapter's.
        conditions: at least one; row i of a batch has `conditions[i % len(conditions)]`.
        guidance: s >= 0, at 1 the conditional law in one row of the cache.
        processors: what shapes the law behind guidance, first to last, at all positions of a window at once.

    Other arguments:
        draft: a cheaper model over the same tokens.

    Raises:
        InputError: a guidance below 0 or not finite, or one other than 1 without a prompt for it; no conditions, or one
            that the network cannot take; a processor that cannot be used on the vocabulary.
    """

    def __init__(
        self,
        network: Network,
        conditions: Sequence[Any],
        guidance: float = 1.0,
        processors: Sequence[Processor] = (),
        *,
        draft: Model | None = None,
    ) -> None:
        if not math.isfinite(guidance) or guidance < 0:
            raise InputError(f"guidance {guidance} is not a finite number of at least 0; 1 is the conditional law")
        if not conditions or isinstance(conditions, str):
            raise InputError(f"conditions {conditions!r}: give a list of at least one")
        self.network, self.conditions, self.guidance = network, tuple(conditions), float(guidance)
        self.processors, self._draft = tuple(processors), draft
        self.passes = 1 if self.guidance in (0, 1) else 2
        own = [] if self.guidance == 1 else [f"guidance={self.guidance:g}"]
        self.name = "|".join([network.name, *own, *(processor.label for processor in self.processors)])
        self.vocab, self.length, self.eos, self.size = network.vocab, network.length, None, network.size
        self.precision, self.device = network.dtype, network.device
        self.dtype, self.description = torch.promote_types(network.dtype, torch.float32), network.description
        uniform = torch.full((1, self.vocab), 1 / self.vocab, dtype=self.dtype, device=self.device)
        check_laws(self._process(uniform), what=f"the uniform law after {self.name!r}", vocab=self.vocab)
        self._front, self._pad = self._prompts()

    def like(
        self,
        *,
        guidance: float | None = None,
        processors: Sequence[Processor] | None = None,
        conditions: Sequence[Any] | None = None,
    ) -> ImageTransformer:
        """See ImageModel."""
        return ImageTransformer(
            self.network,
            self.conditions if conditions is None else conditions,
            self.guidance if guidance is None else guidance,
            self.processors if processors is None else processors,
            draft=self._draft,
        )

    @torch.no_grad()
    def start(self, batch: int) -> Context:
        """Empty sequences, their conditions dealt in turn. Feeds the prompts, in one pass that no decoder counts."""
        numbers = torch.arange(batch, device=self.device) % len(self.conditions)
        session = Session(self.network, self._front[numbers], self._pad[numbers])
        nothing = torch.zeros_like(session.row)
        return Context(session, session.row, session.layout, nothing, nothing)

    @torch.no_grad()
    def laws(self, context: Context, draft: Int[Tensor, "batch w"]) -> Float[Tensor, "batch w+1 vocab"]:
        """See Model: one pass, without waiting for the device unless rows were selected since the last one."""
        session, begun = context.session, context.length
        session.gather(context)
        inputs = self.network.embed(torch.cat([context.pending[:, None], draft], 1))
        inputs = inputs[:, None].expand(-1, self.passes, -1, -1)
        head = torch.where((begun == 0)[:, None, None], session.last, inputs[:, :, 0])
        place = begun[:, None] + torch.arange(inputs.shape[2], device=begun.device)
        hidden = session.feed(torch.cat([head[:, :, None], inputs[:, :, 1:]], 2), place + session.inputs - 1)
        logits = self.network.logits(hidden).to(self.dtype).unflatten(0, (-1, self.passes))
        law = self.network.guide(logits[:, 0], logits[:, 1], self.guidance) if self.passes == 2 else logits[:, 0]
        if self.network.grammar is not None:
            law = self.network.grammar.mask(law, place)
        return self._process(law.softmax(-1))

    def advance(self, context: Context, tokens: Int[Tensor, "batch n"], count: Int[Tensor, " batch"]) -> Context:
        """See Model: the slots of all accepted tokens but the last count; that one becomes the pending one."""
        if tokens.shape[1] == 0:
            return context
        last = tokens.gather(1, (count - 1).clamp(min=0)[:, None]).squeeze(1)
        pending = torch.where(count > 0, last, context.pending)
        return replace(context.session.moved(context), length=context.length + count, pending=pending)

    @torch.no_grad()
    def render(self, tokens: Int[Tensor, "n length"]) -> Float[Tensor, "n channels height width"]:
        """See ImageModel."""
        return self.network.render(tokens)

    def row_bytes(self, window: int) -> int:
        """See ImageModel: of the buffers that a pass makes, and of laws in float64."""
        context = self.start(1)
        self.laws(context, torch.zeros(1, 1, dtype=torch.int64, device=self.device))
        buffers = (part for pair in context.session.cache.buffers.values() for part in pair)
        kept = sum(part.nelement() * part.element_size() for part in buffers)
        return 2 * (kept + 8 * 8 * (window + 1) * self.vocab)

    @torch.no_grad()
    def embedding(self) -> Float[Tensor, "vocab dim"]:
        """See ImageModel: the network's `codebook`, if it has one."""
        codebook: Tensor | None = getattr(self.network, "codebook", None)
        tokens = torch.arange(self.vocab, device=self.device)[None]
        return self.network.embed(tokens)[0] if codebook is None else codebook

    def draft(self) -> Model | None:
        """See ImageModel."""
        return self._draft

    def _process(self, law: Tensor) -> Tensor:
        for processor in self.processors:
            law = processor(law)
        return law

    @torch.no_grad()
    def _prompts(self) -> tuple[Tensor, Tensor]:
        """Every condition's inputs, padded on the left to one length, and how much of each is padding."""
        prompts = [self.network.prompt(condition) for condition in self.conditions]
        kinds = ("unconditional",) if self.guidance == 0 else ("conditional", "unconditional")[: self.passes]
        parts = [[getattr(prompt, kind) for kind in kinds] for prompt in prompts]
        if any(part is None for row in parts for part in row):
            raise InputError(
                f"guidance {self.guidance:g} needs a prompt without condition, and {self.network.name} has none, or a "
                "text and no tokenizer: give it one as token ids, as `unconditional` or `negative`, as the docstring "
                "of its adapter says, or leave guidance at 1"
            )
        longest = max(len(part) for row in parts for part in row)
        pad = torch.tensor([[longest - len(part) for part in row] for row in parts], device=self.device)
        # By inputs of the prompt itself: some classes look up which id an input is.
        padded = [[torch.cat([part[:1].expand(longest - len(part), -1), part]) for part in row] for row in parts]
        return torch.stack([torch.stack(row) for row in padded]), pad
