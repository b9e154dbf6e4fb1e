"""The trained digit models behind the model protocol: 8x8 images, 17 grey levels, ten classes."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor

from realmodels import cache, store
from realmodels.data import LEVELS, SIDE
from realmodels.images import Description
from realmodels.transformer import Shape, Transformer
from specverify.errors import InputError
from specverify.model import Model
from specverify.processors import Processor


@dataclass(frozen=True)
class Context:
    """Sequences begun.

    Attributes:
        cache: what was fed to the transformer; its `length` is also the number of pixels committed, since the class is
            fed before the first pixel and the last pixel not yet.
        pending: Int[batch], the last committed pixel, fed at the head of the next window (nothing where there is none).
        labels: Int[batch], the class of each row.
    """

    cache: cache.Cache
    pending: Int[Tensor, " batch"]
    labels: Int[Tensor, " batch"]


class DigitsModel:
    """Next-pixel laws of a class-conditional transformer, with classifier-free guidance (an `images.ImageModel`).

    Guidance combines logits before the softmax, null + s * (class - null): Ho and Salimans 2022, eq. 6, written so that
    s = 1 is the conditional law. It costs a second pass, run in the same batch.

    A forward pass writes its keys and values into the buffers of the context, in place: after `advance`, the context
    that it was given must not be used again.

    Main arguments:
        transformer: the trained weights; moved to `dtype` and `device`.
        guidance: s >= 0; 1 or None is the conditional law in one pass.
        classes: the class of row i of a batch is `classes[i % len(classes)]`; see `start_with` for others.

    Other arguments:
        name: how reports call it, before the guidance.
        dtype: type of the weights and cache. Laws are at least float32.
        device: where everything lives.
        processors: what shapes the law behind guidance, first to last.

    Raises:
        InputError: a guidance below 0 or not finite, no classes, or a class that is not one of the model's.
    """

    def __init__(
        self,
        transformer: Transformer,
        guidance: float | None = 1.0,
        classes: Sequence[int] = tuple(range(10)),
        *,
        name: str = "digits",
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        processors: Sequence[Processor] = (),
    ) -> None:
        guidance = 1.0 if guidance is None else float(guidance)
        if not math.isfinite(guidance) or guidance < 0:
            raise InputError(f"guidance {guidance} is not a finite number of at least 0; 1 is the conditional law")
        if not dtype.is_floating_point:
            raise InputError(f"dtype {dtype} cannot hold logits; use torch.float32 or torch.float64")
        self.shape = transformer.shape
        self.transformer = transformer.to(device=device, dtype=dtype).requires_grad_(False).eval()
        self.guidance, self.passes = guidance, 1 if guidance == 1 else 2
        self._base, self.precision, self.processors = name, dtype, tuple(processors)
        own = name if guidance == 1 else f"{name}-guidance-{guidance:g}"
        self.name = "|".join([own, *(processor.label for processor in self.processors)])
        self.size = (SIDE, SIDE)
        self.description = Description(
            "trained by realmodels.train", "Apache-2.0; data CC BY 4.0", self.size, 1.5, levels=LEVELS
        )
        self.vocab, self.length, self.eos = self.shape.vocab, self.shape.length, None
        self.dtype, self.device = torch.promote_types(dtype, torch.float32), torch.device(device)
        if bad := [one for one in classes if not isinstance(one, int | Tensor)]:
            raise InputError(f"the condition {bad[0]!r} is no class; those of {name} are 0..{self.shape.null - 1}")
        self.classes = self._labels(torch.tensor(list(classes), dtype=torch.int64))

    def start(self, batch: int) -> Context:
        """Empty sequences, their classes dealt in turn from `classes`."""
        return self.start_with(self.classes[torch.arange(batch, device=self.device) % len(self.classes)])

    def start_with(self, labels: Int[Tensor, " batch"]) -> Context:
        """Empty sequences of the given classes (the number of classes, 10, is the null class: no condition)."""
        labels, shape = self._labels(labels), self.shape
        buffers = cache.empty(
            len(labels), self.passes, shape.layers, shape.length + 1, shape.heads, shape.dim // shape.heads,
            dtype=next(self.transformer.parameters()).dtype, device=self.device,
        )  # fmt: skip
        return Context(buffers, torch.zeros_like(labels), labels)

    @torch.no_grad()
    def laws(self, context: Context, draft: Int[Tensor, "batch w"]) -> Float[Tensor, "batch w+1 vocab"]:
        """p of the next w + 1 pixels in one forward pass, without waiting for the device."""
        labels = context.labels[:, None]
        if self.passes == 2:
            labels = torch.cat([labels, torch.full_like(labels, self.shape.null)], dim=1)
        first = torch.where(context.cache.length[:, None] == 0, self.vocab + labels, context.pending[:, None])
        window = draft[:, None].expand(-1, self.passes, -1)
        inputs = torch.cat([first[..., None], window], dim=2)
        logits: Tensor = self.transformer(inputs.flatten(0, 1), context.cache).to(self.dtype)
        if self.passes == 2:
            of_class, of_null = logits.unflatten(0, (-1, 2)).unbind(1)
            logits = of_null + self.guidance * (of_class - of_null)
        law = logits.softmax(-1)
        for processor in self.processors:
            law = processor(law)
        return law

    def advance(self, context: Context, tokens: Int[Tensor, "batch n"], count: Int[Tensor, " batch"]) -> Context:
        """Count the slots of the pending pixel and of all accepted ones but the last, which becomes the pending one."""
        last = tokens.gather(1, (count - 1).clamp(min=0)[:, None]).squeeze(1)
        return Context(
            dataclasses.replace(context.cache, length=context.cache.length + count),
            torch.where(count > 0, last, context.pending),
            context.labels,
        )

    @property
    def conditions(self) -> tuple[int, ...]:
        """The classes."""
        return tuple(self.classes.tolist())

    def render(self, tokens: Int[Tensor, "n length"]) -> Float[Tensor, "n channels height width"]:
        """Grey levels from 0 to 1."""
        return tokens.view(-1, 1, *self.size).to(self.dtype) / (LEVELS - 1)

    def row_bytes(self, window: int) -> int:
        """See ImageModel; for two passes, as guidance has them."""
        return cache.row_bytes(self.shape.layers, self.shape.length, self.shape.dim, self.shape.heads, window, LEVELS)

    def embedding(self) -> Float[Tensor, "vocab dim"]:
        """The input embedding of grey levels."""
        return self.transformer.token.weight[: self.vocab].detach()

    def draft(self) -> Model | None:
        """None came with it."""
        return None

    def like(
        self,
        *,
        guidance: float | None = None,
        processors: Sequence[Processor] | None = None,
        conditions: Sequence[int] | None = None,
    ) -> DigitsModel:
        """The same weights with other settings; what is None stays."""
        return DigitsModel(
            self.transformer,
            self.guidance if guidance is None else guidance,
            self.conditions if conditions is None else conditions,
            name=self._base,
            dtype=self.precision,
            device=self.device,
            processors=self.processors if processors is None else processors,
        )

    def _labels(self, labels: Tensor) -> Tensor:
        if labels.ndim != 1 or len(labels) == 0:
            raise InputError(f"class labels have shape {tuple(labels.shape)}; give one label per row")
        if bool((labels < 0).any()) or bool((labels > self.shape.null).any()):
            raise InputError(
                f"class labels {labels.tolist()} are not all in 0..{self.shape.null}, of which the last is no class"
            )
        return labels.to(self.device)


def load(
    name: str = "digits-s",
    guidance: float | None = 1.0,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    *,
    classes: Sequence[int] = tuple(range(10)),
    processors: Sequence[Processor] = (),
    folder: Path = store.SHIPPED,
) -> DigitsModel:
    """A trained model by name, from the package or from a folder that `python -m realmodels.train` wrote.

    Raises:
        InputError: naming the file that is missing, damaged or not what its card says, and how to train it again; or
            what loads it, if it is a model of another kind.
    """
    transformer = load_transformer(name, folder)
    return DigitsModel(transformer, guidance, classes, name=name, dtype=dtype, device=device, processors=processors)


def load_transformer(name: str, folder: Path = store.SHIPPED) -> Transformer:
    """The transformer of a checkpoint, in float32 on the CPU."""
    card = store.read_card(name, folder)
    store.check_loader(name, card, "realmodels.digits.load")
    try:
        if card["kind"] != "transformer" or not all(type(size) is int and size > 0 for size in card["shape"].values()):
            raise ValueError(f"kind {card['kind']!r}, sizes {card['shape']}")
        shape = Shape(**card["shape"])
        if shape.dim % shape.heads:
            raise ValueError(f"{shape.heads} heads do not divide {shape.dim} dimensions")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{folder / name}.json does not describe a transformer ({error!r}); {store.remedy(name, folder)}"
        ) from error
    transformer = Transformer(shape)
    store.fill(name, transformer, card, folder)
    return transformer


def names(folder: Path = store.SHIPPED) -> list[str]:
    """The digit models that `load` knows."""
    return [name for name in store.names(folder) if store.read_card(name, folder).get("kind") == "transformer"]
