"""A small class-conditional decoder-only transformer over the pixels of an image.

The sequence is [class, pixel 0, pixel 1, ...]; the input at position k is answered by the logits of pixel k. One
forward serves training (whole sequences, no cache) and decoding (a window behind each row's cached prefix): both mask
by position, key slot <= query position, so they cannot drift apart.

References: Vaswani et al. 2017 (attention); Radford et al. 2019 (pre-norm decoder); Chen et al. 2020, "Generative
pretraining from pixels" (raster pixels as tokens); Ho and Salimans 2022 (the null class of classifier-free guidance).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from realmodels.cache import Cache


@dataclass(frozen=True)
class Shape:
    """The sizes of a transformer. Token ids: pixels 0..vocab-1, then the classes, then the null class."""

    vocab: int
    classes: int
    length: int
    dim: int
    layers: int
    heads: int

    @property
    def null(self) -> int:
        """The label that stands for no class."""
        return self.classes


class Block(nn.Module):
    """Pre-norm attention and a two-layer perceptron (squared ReLU, So et al. 2021)."""

    def __init__(self, dim: int, heads: int, layer: int) -> None:
        super().__init__()
        self.heads, self.layer = heads, layer
        self.attention_norm = nn.LayerNorm(dim, bias=False)
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.out = nn.Linear(dim, dim, bias=False)
        self.mlp_norm = nn.LayerNorm(dim, bias=False)
        self.up = nn.Linear(dim, 4 * dim, bias=False)
        self.down = nn.Linear(4 * dim, dim, bias=False)

    def forward(
        self,
        x: Float[Tensor, "rows n dim"],
        slot: Int[Tensor, "#rows n"],
        bias: Float[Tensor, "#rows 1 n slots"],
        cache: Cache | None,
    ) -> Float[Tensor, "rows n dim"]:
        """One block; with a cache, the new keys and values are written to it and queries see each row's prefix too."""
        query, key, value = self.qkv(self.attention_norm(x)).chunk(3, dim=-1)
        if cache is None:
            keys, values = (part.unflatten(-1, (self.heads, -1)) for part in (key, value))
        else:
            keys, values = cache.write(self.layer, slot, key, value)
        mixed = F.scaled_dot_product_attention(
            query.unflatten(-1, (self.heads, -1)).transpose(1, 2), keys.transpose(1, 2), values.transpose(1, 2), bias
        )
        x = x + self.out(mixed.transpose(1, 2).flatten(2))
        grown: Tensor = self.down(F.relu(self.up(self.mlp_norm(x))).square())
        return x + grown


class Transformer(nn.Module):
    """Logits of the next pixel at every input position."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.token = nn.Embedding(shape.vocab + shape.classes + 1, shape.dim)
        self.position = nn.Embedding(shape.length, shape.dim)
        self.blocks = nn.ModuleList(Block(shape.dim, shape.heads, layer) for layer in range(shape.layers))
        self.norm = nn.LayerNorm(shape.dim, bias=False)
        self.head = nn.Linear(shape.dim, shape.vocab, bias=False)

    def forward(self, tokens: Int[Tensor, "rows n"], cache: Cache | None = None) -> Float[Tensor, "rows n vocab"]:
        """Logits of the pixel that follows each input token.

        Args:
            tokens: the inputs, from the class on (no cache) or from each row's cached length on.
            cache: the prefixes, written to in place; rows = batch * passes.

        Inputs past the end of the sequence get the logits of some last position, and change nothing that is read later.
        """
        x = through(self.blocks, self.position, self.token(tokens), cache)
        logits: Tensor = self.head(self.norm(x))
        return logits


def through(
    blocks: nn.ModuleList, positions: nn.Embedding, x: Float[Tensor, "rows n dim"], cache: Cache | None
) -> Float[Tensor, "rows n dim"]:
    """Embedded inputs through blocks, behind each row's cached prefix (without a cache, from the first position on)."""
    last, n = positions.num_embeddings - 1, x.shape[1]
    start = torch.zeros(1, dtype=torch.int64, device=x.device)
    slots = n
    if cache is not None:
        start = cache.length.repeat_interleave(cache.keys.shape[1])
        slots = cache.keys.shape[3]
    slot = (start[:, None] + torch.arange(n, device=x.device)).clamp(max=last + 1)
    position = slot.clamp(max=last)
    x = x + positions(position)
    visible = torch.arange(slots, device=x.device) <= position[..., None]
    bias = torch.zeros(1, dtype=x.dtype, device=x.device).where(visible, -torch.inf)[:, None]
    for block in blocks:
        x = block(x, slot, bias, cache)
    return x


def initialise(shape: Shape, generator: torch.Generator) -> Transformer:
    """A fresh transformer."""
    model = Transformer(shape)
    scatter(model, shape.layers, generator)
    return model


def scatter(
    model: nn.Module,
    layers: int,
    generator: torch.Generator,
    residual: tuple[str, ...] = ("out.weight", "down.weight"),
) -> None:
    """Normal weights of deviation 0.05, less by the depth where they feed the residual stream."""
    for name, parameter in model.named_parameters():
        if parameter.ndim == 2:
            scale = 0.05 / (2 * layers) ** 0.5 if name.endswith(residual) else 0.05
            nn.init.normal_(parameter, std=scale, generator=generator)
