"""LlamaGen's transformer, with the names that its checkpoints have, over a cache whose rows have lengths of their own.

Pre-norm attention and SwiGLU, rotary positions of two dimensions: half of each head's pairs turn with the row of a
token, half with its column. At the slots of the condition the rotation is by 0 in its cosine, too: queries and keys are
0 there, and attention to the condition does not depend on it. That is what the weights were trained with.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from realmodels.ragged import Ragged


@dataclass(frozen=True)
class Shape:
    """The sizes of a checkpoint; it has `classes`, or else `captions` features of a text, of `caption` numbers each."""

    vocab: int
    dim: int
    layers: int
    heads: int
    hidden: int
    side: int
    classes: int = 0
    caption: int = 0
    captions: int = 0


class Norm(nn.Module):
    """Root mean square, in float32."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Float[Tensor, "*rows dim"]) -> Float[Tensor, "*rows dim"]:
        """x / rms(x), scaled."""
        wide = x.float()
        normed: Tensor = (wide * (wide.square().mean(-1, keepdim=True) + 1e-5).rsqrt()).to(x.dtype)
        return normed * self.weight


class Attention(nn.Module):
    """All heads have keys and values of their own."""

    def __init__(self, shape: Shape, layer: int) -> None:
        super().__init__()
        self.heads, self.layer = shape.heads, layer
        self.wqkv = nn.Linear(shape.dim, 3 * shape.dim, bias=False)
        self.wo = nn.Linear(shape.dim, shape.dim, bias=False)

    def forward(self, x: Tensor, turn: Tensor, mask: Tensor, cache: Ragged | None) -> Tensor:
        """As `Transformer.forward`; `turn` holds cosines and sines, Float[rows, n, dim / heads / 2, 2]."""
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.wqkv(x).chunk(3, -1))
        k = turned(k, turn)
        keys, values = (k, v) if cache is None else cache.update(k, v, self.layer)
        y = F.scaled_dot_product_attention(turned(q, turn), keys, values, attn_mask=mask)
        out: Tensor = self.wo(y.transpose(1, 2).flatten(2))
        return out


class FeedForward(nn.Module):
    """SwiGLU."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.w1 = nn.Linear(shape.dim, shape.hidden, bias=False)
        self.w3 = nn.Linear(shape.dim, shape.hidden, bias=False)
        self.w2 = nn.Linear(shape.hidden, shape.dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """w2(silu(w1 x) w3 x)."""
        out: Tensor = self.w2(F.silu(self.w1(x)) * self.w3(x))
        return out


class Block(nn.Module):
    """Attention and feed-forward, each behind a norm."""

    def __init__(self, shape: Shape, layer: int) -> None:
        super().__init__()
        self.attention, self.feed_forward = Attention(shape, layer), FeedForward(shape)
        self.attention_norm, self.ffn_norm = Norm(shape.dim), Norm(shape.dim)

    def forward(self, x: Tensor, turn: Tensor, mask: Tensor, cache: Ragged | None) -> Tensor:
        """As `Transformer.forward`."""
        x = x + self.attention(self.attention_norm(x), turn, mask, cache)
        out: Tensor = x + self.feed_forward(self.ffn_norm(x))
        return out


class Classes(nn.Module):
    """An embedding of classes, the last of which is none."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.embedding_table = nn.Embedding(shape.classes + 1, shape.dim)


class Captions(nn.Module):
    """Features of a text encoder, and those that stand for no text."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.cap_proj = nn.ModuleDict(
            {
                "fc1": nn.Linear(shape.caption, shape.dim, bias=False),
                "fc2": nn.Linear(shape.dim, shape.dim, bias=False),
            }
        )
        self.uncond_embedding = nn.Parameter(torch.zeros(shape.captions, shape.caption))

    def forward(self, features: Float[Tensor, "n caption"]) -> Float[Tensor, "n dim"]:
        """As inputs."""
        out: Tensor = self.cap_proj["fc2"](F.gelu(self.cap_proj["fc1"](features), approximate="tanh"))
        return out


class Transformer(nn.Module):
    """Features of the token behind each input; `output` makes logits of them."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.cls_embedding = Classes(shape) if shape.classes else Captions(shape)
        self.tok_embeddings = nn.Embedding(shape.vocab, shape.dim)
        self.layers = nn.ModuleList(Block(shape, layer) for layer in range(shape.layers))
        self.norm = Norm(shape.dim)
        self.output = nn.Linear(shape.dim, shape.vocab, bias=False)

    def forward(
        self,
        x: Float[Tensor, "rows n dim"],
        cell: Int[Tensor, "rows n"],
        mask: Float[Tensor, "rows 1 n slots"],
        cache: Ragged | None,
    ) -> Float[Tensor, "rows n dim"]:
        """One pass; `cell` is the place of a token in the raster, below 0 for the condition. Training has no cache."""
        turn = rotations(cell, self.shape.side, self.shape.dim // self.shape.heads)
        for layer in self.layers:
            x = layer(x, turn, mask, cache)
        out: Tensor = self.norm(x)
        return out


def rotations(cell: Int[Tensor, "rows n"], side: int, dim: int) -> Float[Tensor, "rows n pairs 2"]:
    """Cosines and sines of every pair of a head's numbers; 0 both where there is no cell."""
    rates = 10000 ** -(torch.arange(0, dim // 2, 2, device=cell.device)[: dim // 4].float() / (dim // 2))
    place = torch.stack([cell.div(side, rounding_mode="floor"), cell % side], -1).float()
    angle = (place[..., None] * rates).flatten(-2)
    return torch.stack([angle.cos(), angle.sin()], -1) * (cell >= 0)[..., None, None]


def turned(x: Float[Tensor, "rows heads n dim"], turn: Float[Tensor, "rows n pairs 2"]) -> Tensor:
    """Neighbouring numbers rotated as pairs, in float32."""
    first, second = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    cos, sin = turn[:, None].unbind(-1)
    return torch.stack([first * cos - second * sin, second * cos + first * sin], -1).flatten(-2).to(x.dtype)
