"""The trained digit models over continuous patches, behind the continuous model protocol."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from realmodels import cache, store
from realmodels.data import LEVELS
from realmodels.heads import DiffusionHead, MixtureHead
from realmodels.transformer import Block, scatter, through
from specverify.errors import InputError
from specverify.laws import Chain, Gaussian, Law, Mixture

HEADS = {"mixture": MixtureHead, "diffusion": DiffusionHead}


@dataclass(frozen=True)
class Shape:
    """The sizes of a trunk: `length` patches of `dim` numbers, and a transformer `width` wide."""

    dim: int
    classes: int
    length: int
    width: int
    layers: int
    heads: int

    @property
    def null(self) -> int:
        """The label that stands for no class."""
        return self.classes


class PatchTransformer(nn.Module):
    """Features of the next patch at every input position, and the head that makes a law of them.

    The sequence is [class, patch 0, patch 1, ...]; the input at position k is answered by the features of patch k.
    """

    def __init__(self, shape: Shape, head: MixtureHead | DiffusionHead) -> None:
        super().__init__()
        self.shape = shape
        self.label = nn.Embedding(shape.classes + 1, shape.width)
        self.patch = nn.Linear(shape.dim, shape.width)
        self.position = nn.Embedding(shape.length, shape.width)
        self.blocks = nn.ModuleList(Block(shape.width, shape.heads, layer) for layer in range(shape.layers))
        self.norm = nn.LayerNorm(shape.width, bias=False)
        self.head = head

    def forward(
        self, x: Float[Tensor, "rows n width"], cache: cache.Cache | None = None
    ) -> Float[Tensor, "rows n width"]:
        """Features of the patch that follows each input, embedded by `label` (the first) or `patch` (the others).

        With a cache, inputs stand behind each row's prefix; see `realmodels.transformer.through`.
        """
        features: Tensor = self.norm(through(self.blocks, self.position, x, cache))
        return features

    def read(
        self, labels: Int[Tensor, " n"], patches: Float[Tensor, "n length dim"]
    ) -> Float[Tensor, "n length width"]:
        """The features of every patch of whole images, each from its class and the patches before it."""
        features: Tensor = self(torch.cat([self.label(labels)[:, None], self.patch(patches[:, :-1])], dim=1))
        return features


def build(kind: str, shape: Shape, head: dict[str, int]) -> PatchTransformer:
    """A network of a kind of head ("mixture" or "diffusion") and its sizes, its weights not yet set."""
    return PatchTransformer(shape, HEADS[kind](shape.width, shape.dim, **head))


def initialise(model: PatchTransformer, generator: torch.Generator) -> PatchTransformer:
    """The network with fresh weights."""
    scatter(model, model.shape.layers, generator)
    nn.init.zeros_(model.patch.bias)
    model.head.initialise(generator)
    return model


@dataclass(frozen=True)
class Context:
    """Sequences begun.

    Attributes:
        cache: what was fed to the trunk; its `length` is also the number of patches committed, since the class is fed
            before the first patch and the last patch not yet.
        pending: Float[batch, dim], the last committed patch, fed at the head of the next window (0 if there is none).
        labels: Int[batch], the class of each row.
    """

    cache: cache.Cache
    pending: Float[Tensor, "batch dim"]
    labels: Int[Tensor, " batch"]


@runtime_checkable
class StepHead(Protocol):
    """What a denoiser is, `heads.DiffusionHead` or one like it."""

    def __call__(self, features: Tensor, t: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """Predicted noise of x_t, and where its variance lies."""

    def step(self, t: Tensor, x: Tensor, noise: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and scale of x_(t-1)."""


class Guided:
    """The transitions of a chain: a diffusion head that is told the features of the class and, for guidance, of none.

    Conditions are Float[*shape, passes, width]; with one pass, class and none are the same. See `specverify.laws.Head`.
    """

    def __init__(self, head: DiffusionHead, dim: int, guidance: float) -> None:
        self.head, self.dim, self.steps, self.guidance = head, dim, head.steps, guidance

    def first(self, condition: Float[Tensor, "*shape passes width"]) -> Gaussian:
        """The law of x_T, standard normal."""
        mean = condition.new_zeros(*condition.shape[:-2], self.dim)
        return Gaussian(mean, torch.ones_like(mean))

    def transition(
        self, condition: Float[Tensor, "*#shape passes width"], t: int, x: Float[Tensor, "*#shape dim"]
    ) -> Gaussian:
        """The law of x_(t-1) given x_t."""
        return guided(self.head, condition, t, x, self.guidance)


@torch.no_grad()
def guided(
    head: StepHead,
    condition: Float[Tensor, "*#shape passes width"],
    t: int,
    x: Float[Tensor, "*#shape dim"],
    guidance: float | Float[Tensor, "*#shape 1"],
) -> Gaussian:
    """The law of x_(t-1) given x_t, which may be finer than the network: it is rounded to the network's precision.

    Many states may share one condition: the two shapes need only broadcast.
    """
    time, x = torch.tensor(t, device=x.device), x.to(condition.dtype)
    shape = torch.broadcast_shapes(condition.shape[:-1], (*x.shape[:-1], 1))
    noise, share = head(condition, time, x[..., None, :].expand(*shape, x.shape[-1]))
    of_class, of_none = noise[..., 0, :], noise[..., -1, :]
    return Gaussian(*head.step(time, x, of_none + guidance * (of_class - of_none), share[..., 0, :]))


class ContinuousDigits:
    """Next-patch laws of a class-conditional network: mixtures of Gaussians, or chains of denoising steps.

    Guidance is for chains alone: every step's predicted noise becomes null + s * (class - null) (Ho and Salimans 2022,
    eq. 6), its variance stays the class's, and the law is a chain again. A guided mixture would be no mixture.

    A forward pass writes its keys and values into the buffers of the context, in place: after `advance`, the context
    that it was given must not be used again.

    Main arguments:
        network: the trained weights; moved to `dtype` and `device`.
        guidance: s >= 0; 1 or None is the conditional law in one pass.
        classes: the class of row i of a batch is `classes[i % len(classes)]`; see `start_with` for others.

    Other arguments:
        name: how reports call it, before the guidance.
        dtype: type of the weights, laws and tokens, torch.float32 or torch.float64.
        device: where everything lives.

    Raises:
        InputError: a guidance below 0 or not finite, guidance of a mixture, another dtype, no classes, or a class that
            is not one of the model's.
    """

    def __init__(
        self,
        network: PatchTransformer,
        guidance: float | None = 1.0,
        classes: Sequence[int] = tuple(range(10)),
        *,
        name: str = "digits-patches",
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        guidance = 1.0 if guidance is None else float(guidance)
        if not math.isfinite(guidance) or guidance < 0:
            raise InputError(f"guidance {guidance} is not a finite number of at least 0; 1 is the conditional law")
        if guidance != 1 and isinstance(network.head, MixtureHead):
            raise InputError(
                f"guidance {guidance:g} of a mixture is no mixture; use 1, or a model with a diffusion head"
            )
        if dtype not in (torch.float32, torch.float64):
            raise InputError(f"dtype {dtype} is too coarse for densities; use torch.float32 or torch.float64")
        self.shape = network.shape
        self.network = network.to(device=device, dtype=dtype).requires_grad_(False).eval()
        self.guidance, self.passes = guidance, 1 if guidance == 1 else 2
        self.name = name if guidance == 1 else f"{name}-guidance-{guidance:g}"
        self.dim, self.length = self.shape.dim, self.shape.length
        self.dtype, self.device = dtype, torch.device(device)
        self.classes = self._labels(torch.tensor(list(classes), dtype=torch.int64))

    @property
    def conditions(self) -> tuple[int, ...]:
        """The classes."""
        return tuple(self.classes.tolist())

    def like(self, *, conditions: Sequence[int]) -> ContinuousDigits:
        """The same weights for other classes."""
        other = copy.copy(self)
        other.classes = self._labels(torch.tensor(list(conditions), dtype=torch.int64))
        return other

    def row_bytes(self, window: int) -> int:
        """See `realmodels.images.ImageModel`."""
        shape = self.shape
        return cache.row_bytes(shape.layers, shape.length, shape.width, shape.heads, window, LEVELS)

    def start(self, batch: int) -> Context:
        """Empty sequences, their classes dealt in turn from `classes`."""
        return self.start_with(self.classes[torch.arange(batch, device=self.device) % len(self.classes)])

    def start_with(self, labels: Int[Tensor, " batch"]) -> Context:
        """Empty sequences of the given classes (the number of classes, 10, is the null class: no condition)."""
        labels, shape = self._labels(labels), self.shape
        buffers = cache.empty(
            len(labels), self.passes, shape.layers, shape.length + 1, shape.heads, shape.width // shape.heads,
            dtype=self.dtype, device=self.device,
        )  # fmt: skip
        return Context(buffers, torch.zeros(len(labels), self.dim, dtype=self.dtype, device=self.device), labels)

    @torch.no_grad()
    def laws(self, context: Context, draft: Float[Tensor, "batch w dim"]) -> Law:
        """p of the next w + 1 patches in one forward pass of the trunk, without waiting for the device.

        A chain runs the head later, at every step that is asked for.
        """
        network = self.network
        labels = context.labels[:, None]
        if self.passes == 2:
            labels = torch.cat([labels, torch.full_like(labels, self.shape.null)], dim=1)
        begun = context.cache.length[:, None, None] > 0
        first = torch.where(begun, network.patch(context.pending)[:, None], network.label(labels))
        window = network.patch(draft)[:, None].expand(-1, self.passes, -1, -1)
        inputs = torch.cat([first[:, :, None], window], dim=2)
        features = network(inputs.flatten(0, 1), context.cache).unflatten(0, (-1, self.passes))
        if isinstance(network.head, MixtureHead):
            return Mixture(*network.head(features[:, 0]))
        return Chain(features.transpose(1, 2), Guided(network.head, self.dim, self.guidance))

    def advance(self, context: Context, tokens: Float[Tensor, "batch n dim"], count: Int[Tensor, " batch"]) -> Context:
        """Count the slots of the pending patch and of all accepted ones but the last, which becomes the pending one."""
        row = torch.arange(len(count), device=count.device)
        last = tokens[row, (count - 1).clamp(min=0)] if tokens.shape[1] else context.pending
        return Context(
            dataclasses.replace(context.cache, length=context.cache.length + count),
            torch.where(count[:, None] > 0, last, context.pending),
            context.labels,
        )

    def _labels(self, labels: Tensor) -> Tensor:
        if labels.ndim != 1 or len(labels) == 0:
            raise InputError(f"class labels have shape {tuple(labels.shape)}; give one label per row")
        if bool((labels < 0).any()) or bool((labels > self.shape.null).any()):
            raise InputError(f"class labels {labels.tolist()} are not all in 0..{self.shape.null}")
        return labels.to(self.device)


def load(
    name: str = "digits-gmm",
    guidance: float | None = 1.0,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    *,
    classes: Sequence[int] = tuple(range(10)),
    folder: Path = store.SHIPPED,
) -> ContinuousDigits:
    """A trained model by name, from the package or from a folder that `python -m realmodels.train` wrote.

    `digits-gmm` and `digits-diff` are targets; `digits-gmm-draft` and `digits-diff-draft` are smaller models of the
    same images, to draft for them.

    Raises:
        InputError: naming the file that is missing, damaged or not what its card says, and how to train it again; or
            what loads it, if it is a model of another kind.
    """
    return ContinuousDigits(load_network(name, folder), guidance, classes, name=name, dtype=dtype, device=device)


def load_network(name: str, folder: Path = store.SHIPPED) -> PatchTransformer:
    """The network of a checkpoint, in float32 on the CPU."""
    card = store.read_card(name, folder)
    store.check_loader(name, card, "realmodels.continuous.load")
    try:
        if card["kind"] not in HEADS:
            raise ValueError(f"kind {card['kind']!r}; known: {', '.join(HEADS)}")
        network = build(card["kind"], Shape(**_sizes(card["shape"])), _sizes(card["head"]))
        shape = network.shape
        if shape.width % shape.heads:
            raise ValueError(f"{shape.heads} heads do not divide {shape.width} dimensions")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{folder / name}.json does not describe a model of patches ({error!r}); {store.remedy(name, folder)}"
        ) from error
    store.fill(name, network, card, folder)
    return network


def names(folder: Path = store.SHIPPED) -> list[str]:
    """The digit models over patches that `load` knows."""
    return [name for name in store.names(folder) if store.read_card(name, folder).get("kind") in HEADS]


def _sizes(sizes: Any) -> dict[str, int]:
    if not all(type(size) is int and size > 0 for size in sizes.values()):
        raise ValueError(f"sizes {sizes}")
    return dict(sizes)
